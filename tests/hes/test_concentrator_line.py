"""A building behind a concentrator, over real brokers: readings to the balance, orders to the relay and back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
from django.db import connection
from tests.hes.test_bundles import names, register
from tests.hes.test_head_end import add_order
from tests.invariants.places import NOW, World, one, place, rows

from prewatt.access.scope import system_actor
from prewatt.core.civil_time import instant_us
from prewatt.core.vocabulary import OrderKind, OrderState
from prewatt.head_end import raise_device_alert
from prewatt.hes.ingest import ShardedIngest
from prewatt.hes.main import HeadEnd, mqtt_config, mqtt_opener
from prewatt.hes.session import MqttSession
from prewatt.moves.concentrators import put_behind
from prewatt.reports.books import check_books
from prewatt.runtime.broker import Broker
from prewatt.sim.process import SimConfig, SimMeter, SimProcess
from prewatt.supply.orders import OrderBook
from waiting import eventually

BEHIND = ("M-101", "M-102", "M-LIFT")
BEGAN = time.monotonic()


def now() -> datetime:
    """The real clock's pace, in the property's month."""
    return NOW + timedelta(seconds=time.monotonic() - BEGAN)


@contextmanager
def head_end(broker: Broker, dsn: str) -> Iterator[HeadEnd]:
    command = broker.command
    made = HeadEnd(
        openers=[mqtt_opener(mqtt_config(f"{command.host}:{command.port}"), clock=now)],
        dsn=dsn,
        clock=now,
        orders=OrderBook(system_actor("head_end")),
        raise_alert=raise_device_alert,
        make_ingest=lambda session: ShardedIngest(session, clock=now, shards=2),
    )
    made.start()
    try:
        assert made.sessions.wait_connected(10)
        yield made
    finally:
        made.stop()
    assert made.failure is None


@contextmanager
def building(
    broker: Broker, here: World, folder: Path, made: dict[str, set[int]]
) -> Iterator[SimProcess]:
    """Three meters behind DTU-1, which report each second; ``made`` gets the instants of all readings.

    At one of the brokers it gathers them in bundles, at the other in packs of SenML.
    """
    serials = names(here)
    process = SimProcess(
        SimConfig(
            name="building",
            host=broker.command.host,
            port=broker.command.port,
            state_file=str(folder / "building.json"),
            report_period_s=1,
            meters=tuple(
                SimMeter(serials[each], "H0-A", 20_000_000, 10_000, instant_us(NOW))
                for each in BEHIND
            ),
            concentrator="DTU-1",
            gather_s=1,
            speaks_senml=broker.command.kind == "amqtt",
        ),
        now_us=lambda: instant_us(now()),
    )
    for each in BEHIND:
        own = made.setdefault(each, set())
        process.meter(serials[each])._on_reading = lambda at_us, _, own=own: own.add(at_us)
    thread = threading.Thread(target=process.run, daemon=True)
    thread.start()
    try:
        yield process
    finally:
        process.stop()
        thread.join(10)
        assert not thread.is_alive()


def stored() -> dict[str, int]:
    """How many readings each meter has since the meters came up."""
    return dict(
        rows(
            """SELECT m.serial, count(*) FROM register_reading r JOIN meter m ON m.id = r.meter_id
               WHERE r.read_at >= %s GROUP BY 1""",
            NOW,
        )
    )


def test_a_building_behind_a_concentrator_is_charged_and_obeys(
    broker: Broker, database: str, head_end_login: str, tmp_path: Path
) -> None:
    here = place()
    register(here, "DTU-1", "M-101", "M-102")
    serials = names(here)
    paid, lift = serials["M-101"], serials["M-LIFT"]
    made: dict[str, set[int]] = {}
    with building(broker, here, tmp_path, made) as process:
        # Nobody listens: the meters keep what they have, whatever the broker says.
        eventually(lambda: process.meter(paid).backlog >= 2, "readings pile up")
        with head_end(broker, head_end_login) as running:
            eventually(lambda: stored().get(paid, 0) >= 4, "readings come")
            eventually(lambda: process.meter(paid).backlog <= 3, "what is committed is forgotten")
            assert lift not in stored(), "nobody let it speak for the lift"
            before = set(made["M-LIFT"])
            keeps = {at_us for at_us, _ in process.meter(lift).unacknowledged()}
            assert before and before <= keeps, "so the lift's meter keeps its readings"
            with psycopg.connect(database, autocommit=True) as owner:
                order = add_order(
                    owner,
                    here.meters["M-101"],
                    here.property_id,
                    OrderKind.DISCONNECT,
                    here.accounts["1001"],
                )
                # Decided by the clock that everybody here goes by.
                owner.execute(
                    """UPDATE supply_order SET decided_at = %s, next_try_at = %s, expires_at = %s
                       WHERE id = %s""",
                    [now(), now(), now() + timedelta(hours=1), order],
                )
                owner.execute("SELECT pg_notify('supply_order', %s)", [str(here.property_id)])
                state = "SELECT state FROM supply_order WHERE id = %s"
                eventually(lambda: one(state, order) == OrderState.VERIFIED, "the order is done")
            assert process.meter(paid).relay == "open"
            put_behind(
                actor=system_actor("test"), property_id=here.property_id, serial="DTU-1",
                meters=[lift], at=NOW - timedelta(days=1), now=NOW,
            )  # fmt: skip
            eventually(lambda: stored().get(lift, 0) >= 5, "the lift's readings come after all")
            (mqtt,) = running.sessions.all
            assert isinstance(mqtt, MqttSession) and mqtt.stats().malformed == {}
        left = {each: process.meter(serials[each]).unacknowledged() for each in BEHIND}
    link = "SELECT relay, concentrator_id FROM meter_link WHERE meter_id = %s"
    assert rows(link, here.meters["M-101"]) == [(2, one("SELECT id FROM concentrator"))]
    assert rows("SELECT reason FROM rejected_frame") == [("not_its_meter",)]
    for name in BEHIND:
        # Whatever a meter let go is stored.
        read = rows(
            "SELECT read_at FROM register_reading WHERE meter_id = %s AND read_at >= %s",
            here.meters[name],
            NOW,
        )
        kept = {at_us for at_us, _ in left[name]}
        assert made[name] - kept <= {instant_us(row[0]) for row in read}
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []
