"""The head-end as it runs: its own database login, the real order book, a real broker, a real meter."""

import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import psycopg
import pytest
from paho.mqtt import publish
from psycopg.conninfo import make_conninfo

from prewatt import walls
from prewatt.core.civil_time import instant_us
from prewatt.core.instructions import NOTHING, Command, Operation, sealed_command
from prewatt.core.vocabulary import OrderKind, OrderState
from prewatt.head_end import instruction_desk, raise_device_alert
from prewatt.hes.frames import ReadingsFrame
from prewatt.hes.main import HeadEnd, mqtt_config, mqtt_opener, run
from prewatt.hes.sessions import Sessions
from prewatt.runtime.broker import Broker
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.signing.keyring import open_keyring
from prewatt.signing.keys import KeyRole
from prewatt.sim.command import switch_fault
from prewatt.sim.meter import MeterSeal
from prewatt.sim.process import SimConfig, SimMeter, SimProcess
from prewatt.wiring import signing_keys


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


def add_signing_meter(
    property_id: int, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> tuple[int, str, dict[str, str]]:
    """A meter with a key of its own, enrolled, and a head-end with one: id, secret, and whom the meter trusts."""
    from prewatt.access.scope import system_actor
    from prewatt.estate.models import Meter
    from prewatt.instructions.operations import enrol_key

    meter_id = Meter.objects.create(property_id=property_id, serial="PW-2").pk
    key = ES256PrivateKey.from_scalar(bytes([7] * 32))
    enrol_key(
        actor=system_actor("test", (property_id,)), property_id=property_id, meter_id=meter_id,
        public_key=key.spki, now=now() - timedelta(days=1),
    )  # fmt: skip
    for name, value in signing_keys(folder).items():
        monkeypatch.setenv(name, value)
    made = open_keyring().signer(KeyRole.INSTRUCTION, now=now()).public
    return meter_id, key.scalar.hex(), {made.key_id: made.value.hex()}


def forge(broker: str) -> None:
    """Tell PW-2 to cut, by a key that it does not trust."""
    command = Command(
        "PW-2", Operation.RELAY, 2, 99, instant_us(now()), instant_us(now()) + 60_000_000, bytes(8), NOTHING
    )  # fmt: skip
    payload, _ = sealed_command(command, by=MeterSeal(ES256PrivateKey.generate()))
    host, _, port = broker.partition(":")
    publish.single("pw/PW-2/down/instruction", payload, qos=1, hostname=host, port=int(port))


def until(owner: psycopg.Connection, statement: str) -> tuple[object, ...] | None:
    """The first row of a statement, once there is one."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if (row := owner.execute(statement).fetchone()) is not None:
            return row
        time.sleep(0.05)
    return None


def test_an_order_in_the_database_becomes_a_relay_read_back(
    mosquitto: Broker, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections

    from prewatt.access.scope import system_actor
    from prewatt.fleet.requests import RequestBook
    from prewatt.settings import _database
    from prewatt.supply.orders import OrderBook

    meter_id, property_id = add_meter(database)
    signing_id, secret, trusts = add_signing_meter(property_id, monkeypatch, tmp_path)
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
        make_instructions=instruction_desk,
        requests=RequestBook(system_actor("head_end")),
    )
    process = SimProcess(
        SimConfig(
            name="test",
            host=command.host,
            port=command.port,
            state_file=str(tmp_path / "state.json"),
            report_period_s=60,
            meters=(
                SimMeter("PW-1", "H0-A", 1_000_000, 0, instant_us(now())),
                SimMeter("PW-2", "H0-A", 1_000_000, 0, instant_us(now()), secret=secret),
            ),
            trusts=trusts,
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
            for number in range(16):
                meter = signing_id if number >= 10 else meter_id
                kind = OrderKind.DISCONNECT if number % 2 == 0 else OrderKind.CONNECT
                began = time.monotonic()
                order_id = add_order(owner, meter, property_id, kind)
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
            assert sorted(waits)[14] < 0.5
            # Of the meter that verifies each order was one instruction, and its signed answer verified it.
            assert owner.execute(
                """SELECT array_agg(sequence ORDER BY sequence), min(state), max(state), min(tries),
                          count(DISTINCT order_id) FROM instruction WHERE meter_id = %s""",
                [signing_id],
            ).fetchone() == ([1, 2, 3, 4, 5, 6], 3, 3, 1, 6)
            # What meters are asked besides, each by its number; a clock that is right is let be.
            owner.execute(
                """INSERT INTO meter_request (property_id, meter_id, kind, gateway, from_at, to_at, move_s, made_at,
                                              made_by, reason, expires_at, next_try_at)
                   SELECT %s, m, k, '', now() - interval '1 hour', now(), (m = %s)::integer, now(), 'x', 'x',
                          now() + interval '1 hour', now()
                   FROM unnest(%s::bigint[]) m, generate_series(1, 4) k WHERE k < 4 OR m = %s""",
                [property_id, meter_id, [meter_id, signing_id], meter_id],
            )
            asked = until(
                owner,
                """SELECT array_agg(result ORDER BY meter_id, kind) FROM meter_request
                   HAVING count(*) FILTER (WHERE ended_at IS NULL) = 0""",
            )
            assert asked == (["ok", "ok", "ok", "ok", "ok", "ok", "in_time"],)
            forge(f"{command.host}:{command.port}")
            forged = until(
                owner, "SELECT subject, detail ->> 'what' FROM alert WHERE code = 'meter.forged'"
            )
            assert forged == (f"meter:{signing_id}", "command")
            switch_fault("PW-1", "cover_open", 1, f"{command.host}:{command.port}")
            alert = until(owner, "SELECT code, subject FROM alert WHERE code = 'meter.tamper'")
            assert alert == ("meter.tamper", f"meter:{meter_id}")
    thread.join(10)
    assert head_end.failure is None
    assert process.meter("PW-2").instructed.refused == 1
    assert process.meter("PW-2").instructed.sequence == 6


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
