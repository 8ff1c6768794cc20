"""The vital signs of the database as metrics, and the checks that make a process ready.

Composition only: what is asked stands in `reports.vitals`, what is shown in `telemetry`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

from prewatt.runtime.state import CannotRunError
from prewatt.telemetry.probes import ADDRESS_VARIABLE, BadAddress, Check, Probes, serve

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from prewatt.reports.vitals import Vitals

#: The database is asked at most so often, however many look.
_KEPT_S: Final = 10.0
_CONNECT_TIMEOUT_S: Final = 3


def start_probes(checks: Mapping[str, Check] | None = None) -> None:
    """Answer probes where `PREWATT_OPS` says; without it nobody watches and nothing listens."""
    address = os.environ.get(ADDRESS_VARIABLE)
    if not address:
        return
    try:
        serve(address, Probes({"database": database_check} | dict(checks or {})))
    except (BadAddress, OSError) as error:
        raise CannotRunError(f"no probes on {address}: {error}") from error


def database_check() -> str:
    """Whether this process's login gets an answer, on a connection of its own."""
    import psycopg

    try:
        with psycopg.connect(
            os.environ["PREWATT_DSN"], connect_timeout=_CONNECT_TIMEOUT_S, autocommit=True
        ) as session:
            session.execute("SELECT 1")
    except psycopg.Error as error:
        return f"does not answer ({type(error).__name__})"
    return ""


def watch_vitals(clock: Callable[[], datetime]) -> None:
    """Show the vital signs among this process's metrics."""
    from prometheus_client import REGISTRY

    REGISTRY.register(VitalsCollector(_asking(clock)))


def _asking(clock: Callable[[], datetime]) -> Callable[[], Vitals]:
    from django.db import connection

    from prewatt.access.scope import system_actor
    from prewatt.reports.vitals import vitals

    def ask() -> Vitals:
        try:
            return vitals(actor=system_actor("vitals"), now=clock())
        finally:
            # Each look comes in a thread of its own, which ends with it.
            connection.close()

    return ask


class VitalsCollector:
    """Asks for the vital signs when somebody looks, at most once in some seconds."""

    def __init__(self, ask: Callable[[], Vitals]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._known: Vitals | None = None
        self._asked_at = 0.0

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry must not ask the database at its registration."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The present signs. When the database is away there are none, and readiness says so."""
        with self._lock:
            if self._known is None or time.monotonic() - self._asked_at > _KEPT_S:
                self._known = self._ask()
                self._asked_at = time.monotonic()
            return list(_as_metrics(self._known))


def _as_metrics(signs: Vitals) -> Iterable[Metric]:
    from prometheus_client.metrics_core import GaugeMetricFamily

    plain = {
        "held_readings": ("Readings that wait for a person.", signs.held_readings),
        "rejected_frames_kept": ("Messages kept as rejected, ever.", signs.rejected_frames),
        "oldest_order_seconds": ("Age of the oldest live order.", signs.oldest_order_s),
        "waiting_messages": ("Messages that have not arrived yet.", signs.waiting_messages),
        "oldest_message_seconds": ("How long a message has been due.", signs.oldest_message_s),
        "silent_meters": ("Meters not heard for two hours.", signs.silent_meters),
        "accounts": ("Open accounts.", signs.accounts),
        "partitions_ahead_seconds": (
            "Until the last month that has a partition ends.",
            signs.partitions_until_s,
        ),
    }
    for name, (meaning, value) in plain.items():
        yield GaugeMetricFamily(f"prewatt_{name}", meaning, value=value)
    alerts = GaugeMetricFamily("prewatt_open_alerts", "Open alerts, by code.", labels=["code"])
    for code, count in sorted(signs.open_alerts.items()):
        alerts.add_metric([code], count)
    orders = GaugeMetricFamily("prewatt_live_orders", "Live orders, by state.", labels=["state"])
    for state, count in sorted(signs.live_orders.items()):
        orders.add_metric([state], count)
    yield from (alerts, orders)
