"""The head-end as it runs: its own database login, the real order book, a real broker, a real meter."""

import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from prewatt import walls
from prewatt.core.civil_time import instant_us
from prewatt.core.vocabulary import OrderKind, OrderState
from prewatt.head_end import raise_device_alert
from prewatt.hes.frames import ReadingsFrame
from prewatt.hes.main import HeadEnd, mqtt_config, mqtt_opener, run
from prewatt.hes.sessions import Sessions
from prewatt.runtime.broker import Broker
from prewatt.sim.command import switch_fault
from prewatt.sim.process import SimConfig, SimMeter, SimProcess


class NoIngest:
    """Readings are another test's matter."""

    def __init__(self, session: Sessions) -> None:
        self.failure: Exception | None = None
        self._session = session

    def start(self) -> None:
        pass

    def watch(self, serial: str, at_us: int) -> None:
        """Nothing to look at."""

    def submit(self, frame: ReadingsFrame) -> None:
        self._session.ack([frame.token])

    def stop(self) -> None:
        pass


def now() -> datetime:
    return datetime.now(UTC)


def add_meter(database: str) -> tuple[int, int]:
    from prewatt.estate.models import (
        Account,
        Customer,
        LegalEntity,
        Meter,
        Organisation,
        Property,
    )
    from prewatt.supply.models import SupplyPolicy

    organisation = Organisation.objects.create(name="Org")
    entity = LegalEntity.objects.create(organisation=organisation, name="Entity")
    estate = Property.objects.create(
        organisation=organisation,
        legal_entity=entity,
        code="P",
        name="P",
        currency="EUR",
        time_zone="Europe/Berlin",
    )
    SupplyPolicy.objects.create(property_id=estate.pk, body={}, changed_at=now())
    customer = Customer.objects.create(property=estate, name="C")
    Account.objects.create(
        pk=1, property=estate, number="1", kind="customer", customer=customer, opened_at=now()
    )
    return Meter.objects.create(property=estate, serial="PW-1").pk, estate.pk


def add_order(
    database: psycopg.Connection,
    meter_id: int,
    property_id: int,
    kind: OrderKind,
    account_id: int = 1,
) -> int:
    """What a decision leaves behind: an order that is due, and the bell."""
    row = database.execute(
        """WITH decision AS (
               INSERT INTO supply_decision (property_id, account_id, decided_at, outcome, reason,
                                            gates, available_micro, would_have, trigger)
               VALUES (%(p)s, %(a)s, now(), 3, 'manual', '[]', 0, false, 'test') RETURNING id)
           INSERT INTO supply_order (property_id, account_id, meter_id, kind, state, decision_id,
                                     reason, decided_at, attempts, next_try_at, expires_at, failure)
           SELECT %(p)s, %(a)s, %(m)s, %(k)s, 1, id, 'manual', now(), 0, now(), %(x)s, '' FROM decision
           RETURNING id""",
        {
            "p": property_id,
            "a": account_id,
            "m": meter_id,
            "k": int(kind),
            "x": now() + timedelta(hours=1) if kind is OrderKind.DISCONNECT else None,
        },
    ).fetchone()
    database.execute("SELECT pg_notify('supply_order', %s)", [str(property_id)])
    assert row is not None
    return int(row[0])


def test_an_order_in_the_database_becomes_a_relay_read_back(
    mosquitto: Broker, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections

    from prewatt.access.scope import system_actor
    from prewatt.settings import _database
    from prewatt.supply.orders import OrderBook

    meter_id, property_id = add_meter(database)
    head_end_dsn = make_conninfo(database, user="head_end", password="throwaway")
    assert "head_end" in walls.LOGINS
    # Django's other threads make their connections from here: the head-end works under its own login.
    monkeypatch.setitem(
        connections.settings,
        "default",
        {**connections.settings["default"], **_database(head_end_dsn)},
    )
    command = mosquitto.command
    head_end = HeadEnd(
        openers=[mqtt_opener(mqtt_config(f"{command.host}:{command.port}"), clock=now)],
        dsn=head_end_dsn,
        clock=now,
        orders=OrderBook(system_actor("head_end")),
        raise_alert=raise_device_alert,
        make_ingest=NoIngest,
    )
    process = SimProcess(
        SimConfig(
            name="test",
            host=command.host,
            port=command.port,
            state_file=str(tmp_path / "state.json"),
            report_period_s=60,
            meters=(SimMeter("PW-1", "H0-A", 1_000_000, 0, instant_us(now())),),
        ),
        now_us=lambda: instant_us(now()),
    )
    thread = threading.Thread(target=process.run, daemon=True)
    head_end.start()
    with ExitStack() as stack:
        stack.callback(head_end.stop)
        stack.callback(process.stop)
        assert head_end.sessions.wait_connected(10)
        time.sleep(0.3)
        thread.start()
        with psycopg.connect(database, autocommit=True) as owner:
            owner.execute(
                """INSERT INTO account_state (account_id, property_id, legal_entity_id, updated_at)
                   VALUES (1, %s, 1, now())""",
                [property_id],
            )
            time.sleep(1.0)
            waits: list[float] = []
            for number in range(10):
                kind = OrderKind.DISCONNECT if number % 2 == 0 else OrderKind.CONNECT
                began = time.monotonic()
                order_id = add_order(owner, meter_id, property_id, kind)
                state = None
                while state != OrderState.VERIFIED:
                    assert head_end.failure is None
                    assert time.monotonic() < began + 10, state
                    time.sleep(0.002)
                    (state,) = owner.execute(
                        "SELECT state FROM supply_order WHERE id = %s", [order_id]
                    ).fetchone() or (None,)
                waits.append(time.monotonic() - began)
            print("order to verified:", [f"{wait * 1000:.0f} ms" for wait in sorted(waits)])
            assert sorted(waits)[8] < 0.5
            switch_fault("PW-1", "cover_open", 1, f"{command.host}:{command.port}")
            deadline = time.monotonic() + 10
            alert = None
            while alert is None and time.monotonic() < deadline:
                time.sleep(0.05)
                alert = owner.execute("SELECT code, subject FROM alert").fetchone()
            assert alert == ("meter.tamper", f"meter:{meter_id}")
    thread.join(10)
    assert head_end.failure is None


class Part:
    """A head-end whose session connects late, and that fails in the end."""

    def __init__(self) -> None:
        self.sessions = self
        self.looks = 0
        self.said: list[int] = []

    @property
    def failure(self) -> Exception | None:
        return OSError("gone") if self.looks > 5 else None

    @property
    def is_connected(self) -> bool:
        self.looks += 1
        return self.looks > 3

    def wait_connected(self, timeout_s: float) -> bool:
        return False

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


def test_the_process_is_ready_only_once_it_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Part()
    monkeypatch.setattr("prewatt.hes.main._WATCH_S", 0.01)
    monkeypatch.setattr("prewatt.hes.main.signal.signal", lambda *_: None)
    monkeypatch.setattr("prewatt.hes.main.say_ready", lambda: part.said.append(part.looks))
    assert run(cast(HeadEnd, part), rehearse=lambda: part.said.append(0)) == 1
    assert part.said == [0, 4, 5, 6]
