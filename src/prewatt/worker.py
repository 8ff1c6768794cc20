"""`prewatt worker`: what is due by the clock or by a bell: decisions, messages, postings, partitions.

One loop, one thread. NOTIFY is the bell that shortens the wait; the tables say what is due, so a
missed bell costs a second and no more. Each task has its own transaction, and one that fails is
logged and tried again while the others go on.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from prewatt import wiring

log = logging.getLogger(__name__)

_TICK_S = 0.5
_SLOW_EVERY = timedelta(minutes=1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The worker has no options: its environment says it all."""
    parser.set_defaults()


def run(_arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    wiring.start_django()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    Worker(dsn=os.environ["PREWATT_DSN"], clock=wiring.now).run(stopping)
    return 0


class Worker:
    """The loop and its tasks."""

    def __init__(self, *, dsn: str, clock: Callable[[], datetime]) -> None:
        from prewatt.access.scope import system_actor
        from prewatt.adapters.channels import channels_from
        from prewatt.supply.tasks import SupplyTask

        self._dsn = dsn
        self._clock = clock
        self._supply = SupplyTask(system_actor("supply"))
        self._channels = channels_from(os.environ)
        self._slow_at: datetime | None = None

    def run(self, stopping: threading.Event) -> None:
        """Wait for bells and do what is due."""
        import psycopg

        while not stopping.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as bell:
                    bell.execute("LISTEN supply_due")
                    bell.execute("LISTEN message")
                    self._listen(bell, stopping)
            except psycopg.OperationalError:
                log.warning("the database is away; trying again", exc_info=True)
                stopping.wait(1.0)

    def _listen(self, bell: object, stopping: threading.Event) -> None:
        while not stopping.is_set():
            rung = list(bell.notifies(timeout=_TICK_S, stop_after=1))  # type: ignore[attr-defined]  # psycopg
            woken = sorted(
                {int(n.payload) for n in rung if n.channel == "supply_due" and n.payload}
            )
            self._tick(woken)

    def _tick(self, woken: list[int]) -> None:
        from prewatt.notify.tasks import deliver_pass

        now = self._clock()
        self._try("supply", lambda: self._supply.tick(now=now, woken=woken))
        self._try("messages", lambda: deliver_pass(channels=self._channels, now=now))
        if self._slow_at is None or now - self._slow_at >= _SLOW_EVERY:
            self._slow_at = now
            self._try("posting", lambda: self._post(now))
            self._try("partitions", lambda: self._make_partitions(now))

    def _try(self, name: str, task: Callable[[], object]) -> None:
        """Run a task; an unexpected error is logged with its context and raises an alarm in the log."""
        from django.db import connection

        try:
            task()
        except Exception:
            log.exception("task %s failed; it is tried again", name)
            connection.close()

    def _post(self, now: datetime) -> None:
        from prewatt.billing.tasks import post_finished_days

        post_finished_days(now=now)

    def _make_partitions(self, now: datetime) -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT make_month_partitions(%s, %s)",
                [now.date(), (now + timedelta(days=62)).date()],
            )
