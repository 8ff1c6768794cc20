"""Readings in columns from the wire to the rows: the same rows, verdicts and acknowledgements as frame by frame."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from django.db import DatabaseError, OperationalError, connection
from tests.hes.test_ingest import Meters
from tests.hes.test_session import config, meter, send_reading
from tests.invariants.places import NOW, World, at, one, place, rows

import prewatt.hes.ingest as ingest
from prewatt.core.civil_time import instant_us
from prewatt.hes.drivers.mqtt_senml import codec
from prewatt.hes.frames import BlockToken, EventFrame, Frame, ReadingsBlock, ReadingsFrame
from prewatt.hes.inbox import Inbox
from prewatt.hes.session import MqttSession
from prewatt.reports.books import check_books
from prewatt.runtime.broker import Broker

Said = tuple[str, int, Any, int]
"""Meter, register code, instant, value."""

SAID: list[Said] = [
    ("M-101", 1, at(1), 2_000),
    ("M-102", 1, at(1), 2_100),
    ("M-101", 2, at(1), 40),
    ("M-101", 1, at(2), 2_500),
    ("M-101", 1, at(2), 2_500),
    ("M-102", 1, at(2), 1),
    ("M-LIFT", 4, at(1), 2_300),
]


def block(here: World, said: list[Said], first: int = 1) -> ReadingsBlock:
    count = len(said)
    return ReadingsBlock(
        serials=[one("SELECT serial FROM meter WHERE id = %s", here.meters[s[0]]) for s in said],
        received_at_us=instant_us(NOW),
        token=BlockToken(1, np.arange(first, first + count, dtype=np.uint16)),
        read_at_us=np.array([instant_us(each[2]) for each in said], dtype=np.int64),
        register_code=np.array([each[1] for each in said], dtype=np.int16),
        value=np.array([each[3] for each in said], dtype=np.int64),
        meter_clock_us=[None, instant_us(NOW), *[None] * (count - 2)][:count],
        relay=["closed", *[None] * (count - 1)],
    )


def apply(*gathered: ReadingsFrame | ReadingsBlock) -> Meters:
    heard = Meters()
    ingest.IngestLoop(heard, clock=lambda: NOW)._apply_until_done(gathered)
    return heard


def acked(heard: Meters) -> list[int]:
    return [
        number
        for token in heard.acked
        for number in (
            token.message_ids.tolist() if isinstance(token, BlockToken) else [token.message_id]
        )
    ]


def stored(here: World) -> list[Any]:
    """What the database has of the place's meters, by their names in this test."""
    names = {meter_id: name for name, meter_id in here.meters.items()}
    return [
        sorted((names[each[0]], *each[1:]) for each in rows(query))
        for query in (
            "SELECT meter_id, register_code, read_at, value_wh FROM register_reading",
            "SELECT meter_id, register_code, start_at, segment, energy_wh FROM interval",
            "SELECT meter_id, register_code, read_at, value_wh, verdict FROM vee_case",
            "SELECT meter_id, relay, clock_drift_s, last_seen_at FROM meter_link",
        )
    ]


@pytest.fixture(scope="module")
def by_frames() -> dict[str, Any]:
    """What frame by frame leaves, for the other test of the pair."""
    return {}


@pytest.mark.parametrize("in_blocks", [False, True])
def test_a_block_leaves_what_its_frames_leave(
    database: str, by_frames: dict[str, Any], in_blocks: bool
) -> None:
    here = place()
    whole = block(here, SAID)
    heard = apply(whole) if in_blocks else apply(*whole.frames())
    left = [
        stored(here),
        acked(heard),
        [(each.register_code, each.read_at_us, each.from_us) for each in heard.marks],
    ]
    assert acked(heard) == list(range(1, 8))
    assert len(heard.marks) == 7
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []
    assert by_frames.setdefault("left", left) == left


def test_a_block_with_a_stranger_and_a_poisonous_reading_costs_nobody_else_anything(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place()
    poison, real = here.meters["M-101"], ingest.apply_readings

    def picky(*, batch: Any, **rest: Any) -> Any:
        if (batch.meter_id == poison).any():
            raise DatabaseError("refused")
        return real(batch=batch, **rest)

    monkeypatch.setattr(ingest, "apply_readings", picky)
    whole = block(
        here, [("M-101", 1, at(1), 2_000), ("M-102", 1, at(1), 2_100), ("M-102", 1, at(2), 2_200)]
    )
    whole.serials[2] = "NOBODYS"
    heard = apply(whole)
    assert sorted(acked(heard)) == [1, 2, 3]
    assert rows("SELECT meter_id, value_wh FROM register_reading WHERE read_at >= %s", at(1)) == [
        (here.meters["M-102"], 2_100)
    ]
    assert {each[0].split(":")[0] for each in rows("SELECT reason FROM rejected_frame")} == {
        "DatabaseError",
        "unknown_meter",
    }


def test_invariant_9_a_block_that_does_not_commit_is_not_acknowledged(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place()
    real, heard, tries = ingest.apply_readings, Meters(), []

    def fails_once(**given: Any) -> Any:
        done = real(**given)
        tries.append(1)
        if len(tries) == 1:
            raise OperationalError("gone")
        return done

    def nothing_yet(_: float) -> None:
        assert heard.acked == [] and heard.marks == []

    monkeypatch.setattr(ingest, "apply_readings", fails_once)
    monkeypatch.setattr(ingest.time, "sleep", nothing_yet)
    ingest.IngestLoop(heard, clock=lambda: NOW)._apply_until_done([block(here, SAID[:2])])
    assert len(tries) == 2 and acked(heard) == [1, 2]


def test_loops_share_a_block_by_meter_and_keep_its_order() -> None:
    taken: list[list[ReadingsFrame | ReadingsBlock]] = [[], []]
    shards = ingest.ShardedIngest(Meters(), clock=lambda: NOW, shards=2)
    for loop, own in zip(shards._loops, taken, strict=True):
        loop.submit = own.append  # type: ignore[method-assign]
    serials = [f"C{number % 7}" for number in range(40)]
    shards.submit(
        ReadingsBlock(
            serials=serials,
            received_at_us=1,
            token=BlockToken(3, np.arange(1, 41, dtype=np.uint16)),
            read_at_us=np.arange(40),
            register_code=np.ones(40, dtype=np.int16),
            value=np.arange(40),
            meter_clock_us=[None] * 40,
            relay=[None] * 40,
        )
    )
    parts = [part for own in taken for part in own]
    assert len(parts) == 2
    frames = [frame for part in parts if isinstance(part, ReadingsBlock) for frame in part.frames()]
    assert sorted((f.serial, f.token.message_id, int(f.value[0])) for f in frames) == sorted(
        (serial, at + 1, at) for at, serial in enumerate(serials)
    )
    for part in parts:
        assert isinstance(part, ReadingsBlock)
        assert part.value.tolist() == sorted(part.value.tolist())
        assert not set(part.serials) & {s for p in parts if p is not part for s in p.serials}  # type: ignore[union-attr]


def test_a_session_delivers_runs_of_readings_in_blocks_and_keeps_the_order(broker: Broker) -> None:
    heard: queue.Queue[Frame | ReadingsBlock] = queue.Queue()
    hold = threading.Event()

    def later(put: Callable[[Any], None]) -> Callable[[Any], None]:
        return lambda each: hold.wait(10) and put(each)

    session = MqttSession(config(broker), clock_us=lambda: 7)
    session.start(later(heard.put), later(heard.put))
    assert session.wait_connected(10)
    ingest.time.sleep(0.3)
    with meter(broker, "PW-1") as (client, _):
        for value in range(20):
            send_reading(client, "PW-1", value)
            if value == 9:
                event = codec.encode_event(code="power_up", at_us=instant_us(NOW))
                client.publish("pw/PW-1/up/event", event, qos=1).wait_for_publish(10)
        hold.set()
        seen: list[int] = []
        tokens: list[Any] = []
        while len(seen) < 21:
            each = heard.get(timeout=10)
            tokens.append(each.token)
            if isinstance(each, ReadingsBlock):
                seen += each.value.tolist()
            else:
                assert isinstance(each, EventFrame)
                seen.append(-1)
        assert seen == [*range(10), -1, *range(10, 20)]
        assert session.stats().unacknowledged == 21
        session.ack(reversed(tokens))
        assert session.stats().unacknowledged == 0
    session.stop()


def test_what_is_committed_while_the_broker_is_away_is_not_acknowledged_to_its_successor(
    broker: Broker,
) -> None:
    """A packet identifier names a message of one connection; on the next it may name another."""
    heard: queue.Queue[Frame] = queue.Queue()
    session = MqttSession(config(broker), clock_us=lambda: 7)
    session.start(heard.put)
    assert session.wait_connected(10)
    ingest.time.sleep(0.3)
    with meter(broker, "PW-1") as (client, _):
        send_reading(client, "PW-1", 1)
        frame = heard.get(timeout=10)
    broker.stop(kill=True)
    deadline = ingest.time.monotonic() + 10
    while session.is_connected and ingest.time.monotonic() < deadline:
        ingest.time.sleep(0.02)
    session.ack([frame.token])
    assert session._outgoing() == b""
    session.stop()


def test_an_inbox_is_bounded_by_weight() -> None:
    inbox: Inbox[str] = Inbox(5)
    assert inbox.get(timeout_s=0) is None
    assert inbox.put("a", 4, timeout_s=0)
    assert inbox.put("b", 9, timeout_s=0)
    assert not inbox.put("c", 1, timeout_s=0.01)
    assert len(inbox) == 13
    assert inbox.get(timeout_s=0) == "a"
    assert not inbox.put("c", 1, timeout_s=0.01)
    assert inbox.get(timeout_s=0) == "b"
    assert inbox.put("c", 1, timeout_s=0)
