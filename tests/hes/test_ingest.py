"""What the head-end does with a frame: rated or kept as it came, once, and acknowledged after both."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from django.db import DatabaseError, OperationalError, connection
from tests.conftest import role_dsn
from tests.invariants.places import NOW, World, at, one, place, post, rows, send, signed_in
from tests.moves.world import tenant

import prewatt.hes.ingest as ingest
import prewatt.moves.operations as moves
from prewatt.access.scope import system_actor
from prewatt.core.civil_time import SECOND_US, instant_us, utc_datetime
from prewatt.core.vee import VERDICT_NAMES, Verdict
from prewatt.core.vocabulary import RelayState
from prewatt.estate.operations import NewMeter, RegisterValue
from prewatt.hes.drivers.mqtt_senml import codec
from prewatt.hes.drivers.mqtt_senml.topics import Uplink
from prewatt.hes.frames import (
    ACTIVE_EXPORT,
    ACTIVE_IMPORT,
    MAXIMUM_DEMAND,
    REACTIVE_IMPORT,
    AckToken,
    BundleMark,
    ReadingsFrame,
    Watermark,
)
from prewatt.hes.links import Sighting, record_sightings
from prewatt.mdm.operations import NoPayer, keep_readings
from prewatt.reports.books import check_books
from prewatt.sim.loads import load_profile
from prewatt.sim.meter import MeterConfig, Outgoing, SimulatedMeter
from prewatt.supply.operations import watch_open_relays

pytestmark = pytest.mark.usefixtures("database")

Reading = tuple[int, datetime, int]
"""(register code, instant, value)."""


class Meters:
    """In place of the session: remembers what was acknowledged."""

    def __init__(self) -> None:
        self.acked: list[AckToken] = []
        self.marks: list[Watermark] = []
        self.bundles: list[BundleMark] = []

    def ack(self, tokens: Sequence[AckToken]) -> None:
        self.acked += tokens

    def publish_watermarks(self, marks: Sequence[Watermark]) -> None:
        self.marks += marks

    def publish_bundle_marks(self, marks: Sequence[BundleMark]) -> None:
        self.bundles += marks


def frame(here: World, serial: str, *readings: Reading, token: int = 1) -> ReadingsFrame:
    name = one("SELECT serial FROM meter WHERE id = %s", here.meters[serial])
    return ReadingsFrame(
        serial=name,
        received_at_us=instant_us(NOW),
        token=AckToken(1, token),
        read_at_us=np.array([instant_us(each[1]) for each in readings], dtype=np.int64),
        register_code=np.array([each[0] for each in readings], dtype=np.int16),
        value=np.array([each[2] for each in readings], dtype=np.int64),
        meter_clock_us=None,
        relay=None,
    )


def take(*frames: ReadingsFrame) -> Meters:
    """Apply the frames as one batch, as the loop's thread does."""
    heard = Meters()
    ingest.IngestLoop(heard, clock=lambda: NOW)._apply_until_done(list(frames))
    return heard


def kept(here: World, serial: str = "M-101") -> list[tuple[Any, ...]]:
    """The raw rows of a meter's other registers."""
    return rows(
        """SELECT register_code, read_at, value_wh, account_id, revision FROM register_reading
           WHERE meter_id = %s AND register_code <> 1 ORDER BY register_code, read_at""",
        here.meters[serial],
    )


def cases() -> list[tuple[Any, ...]]:
    return rows(
        "SELECT register_code, read_at, value_wh, verdict, account_id FROM vee_case ORDER BY case_id"
    )


def test_every_register_is_kept_and_only_active_import_is_charged() -> None:
    here = place()
    account = here.accounts["1001"]
    heard = take(
        frame(
            here,
            "M-101",
            (ACTIVE_IMPORT, at(1), 2_000),
            (ACTIVE_EXPORT, at(1), 40),
            (REACTIVE_IMPORT, at(1), 700),
            (MAXIMUM_DEMAND, at(1), 2_300),
            (ACTIVE_EXPORT, at(2), 45),
        )
    )
    assert kept(here) == [
        (ACTIVE_EXPORT, at(1), 40, account, 0),
        (ACTIVE_EXPORT, at(2), 45, account, 0),
        (REACTIVE_IMPORT, at(1), 700, account, 0),
        (MAXIMUM_DEMAND, at(1), 2_300, account, 0),
    ]
    assert rows(
        """SELECT DISTINCT property_id, quality, source, received_at FROM register_reading
           WHERE register_code <> 1"""
    ) == [(here.property_id, 1, 1, NOW)]
    assert rows("SELECT register_code, sum(energy_wh) FROM interval GROUP BY 1") == [(1, 1_000)]
    assert rows("SELECT register_code, last_value_wh FROM meter_state WHERE account_id = %s", account) == [
        (1, 2_000)
    ]  # fmt: skip
    assert [each.message_id for each in heard.acked] == [1]
    assert {(each.register_code, each.read_at_us) for each in heard.marks} == {
        (ACTIVE_IMPORT, instant_us(at(1))),
        (ACTIVE_EXPORT, instant_us(at(2))),
        (REACTIVE_IMPORT, instant_us(at(1))),
        (MAXIMUM_DEMAND, instant_us(at(1))),
    }
    post(here)
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []


def test_a_frame_without_active_import_is_kept_too() -> None:
    here = place()
    heard = take(frame(here, "M-101", (ACTIVE_EXPORT, at(1), 40)))
    assert kept(here) == [(ACTIVE_EXPORT, at(1), 40, here.accounts["1001"], 0)]
    assert len(heard.acked) == len(heard.marks) == 1
    assert one("SELECT count(*) FROM interval") == 0


def test_a_repeat_changes_nothing_whether_it_comes_alone_or_among_new_ones() -> None:
    here = place()
    first = frame(here, "M-101", (ACTIVE_IMPORT, at(1), 2_000), (ACTIVE_EXPORT, at(1), 40))
    take(first)
    before = rows("SELECT * FROM register_reading ORDER BY 1, 2, 3")
    balance = one(
        "SELECT available FROM account_state WHERE account_id = %s", here.accounts["1001"]
    )
    heard = take(first)
    assert rows("SELECT * FROM register_reading ORDER BY 1, 2, 3") == before
    assert len(heard.acked) == 1 and len(heard.marks) == 2
    take(
        frame(
            here,
            "M-101",
            (ACTIVE_EXPORT, at(2), 50),
            (ACTIVE_EXPORT, at(1), 40),
            (ACTIVE_EXPORT, at(2), 50),
        ),
        first,
    )
    assert [each[1:3] for each in kept(here)] == [(at(1), 40), (at(2), 50)]
    assert cases() == []
    assert (
        one("SELECT available FROM account_state WHERE account_id = %s", here.accounts["1001"])
        == balance
    )


def test_another_value_for_a_known_instant_is_held_once_and_the_first_stays() -> None:
    here = place()
    account = here.accounts["1001"]
    take(frame(here, "M-101", (ACTIVE_EXPORT, at(1), 40), (REACTIVE_IMPORT, at(1), 7)))
    for value in (41, 41, 39):
        heard = take(
            frame(here, "M-101", (ACTIVE_EXPORT, at(1), value), (ACTIVE_EXPORT, at(2), 44))
        )
        assert len(heard.acked) == 1
    # Two values in one and the same frame: the one that came first is the reading.
    take(frame(here, "M-101", (MAXIMUM_DEMAND, at(1), 900), (MAXIMUM_DEMAND, at(1), 800)))
    conflict = int(Verdict.CONFLICT)
    assert cases() == [
        (ACTIVE_EXPORT, at(1), 41, conflict, account),
        (ACTIVE_EXPORT, at(1), 39, conflict, account),
        (MAXIMUM_DEMAND, at(1), 800, conflict, account),
    ]
    assert rows("SELECT DISTINCT state, reason FROM vee_case") == [
        ("held", VERDICT_NAMES[Verdict.CONFLICT])
    ]
    assert rows("SELECT watermark_at, watermark_wh FROM vee_case ORDER BY case_id") == [
        (at(1), 40), (at(1), 40), (at(1), 900),
    ]  # fmt: skip
    assert [each[:3] for each in kept(here)] == [
        (ACTIVE_EXPORT, at(1), 40),
        (ACTIVE_EXPORT, at(2), 44),
        (REACTIVE_IMPORT, at(1), 7),
        (MAXIMUM_DEMAND, at(1), 900),
    ]


def test_what_no_account_can_have_is_held_with_its_reason_and_the_rest_is_kept() -> None:
    here = place()
    readings = (
        (ACTIVE_EXPORT, at(-1), 5),
        (ACTIVE_EXPORT, at(0), 6),
        (ACTIVE_EXPORT, at(1), -7),
        (ACTIVE_EXPORT, NOW + timedelta(minutes=3), 8),
        (ACTIVE_EXPORT, NOW + timedelta(minutes=1), 9),
    )
    for _ in range(2):
        assert len(take(frame(here, "M-101", *readings)).acked) == 1
    assert [(value, verdict) for _, _, value, verdict, _ in cases()] == [
        (5, Verdict.BEFORE_OPENING),
        (-7, Verdict.NEGATIVE),
        (8, Verdict.FUTURE),
    ]
    assert [each[2] for each in kept(here)] == [6, 9]


def test_a_reading_belongs_to_who_paid_at_its_own_instant() -> None:
    """Late ones go to the former tenant, whoever lives there now, and the boundary is the former's."""
    here = place()
    former, vacancy = here.accounts["1001"], None
    closing = [RegisterValue(here.meters["M-101"], 2_000)]
    out = moves.move_out(
        actor=here.administrator, unit_id=here.units["101"], closing=closing,
        at=at(10), key="out", now=NOW,
    )  # fmt: skip
    vacancy = out.vacancy_account_id
    entered = moves.move_in(
        actor=here.administrator, unit_id=here.units["101"], tenant=tenant(), now=NOW,
        opening=[RegisterValue(here.meters["M-101"], 2_100)], at=at(20), key="in",
    )  # fmt: skip
    moment = timedelta(microseconds=1)
    instants = [at(0), at(5), at(10), at(10) + moment, at(20), at(20) + moment, at(30)]
    take(frame(here, "M-101", *((ACTIVE_EXPORT, when, 1) for when in reversed(instants))))
    assert [(each[1], each[3]) for each in kept(here)] == list(
        zip(
            instants,
            [former, former, former, vacancy, vacancy, entered.account_id, entered.account_id],
            strict=True,
        )
    )
    assert cases() == []


def test_a_unit_that_got_its_meter_back_keeps_the_late_readings_of_its_earlier_time() -> None:
    here = place()
    unit, meter = here.units["102"], here.meters["M-102"]
    vacancy = here.accounts["V-A-102"]
    moves.move_in(
        actor=here.administrator, unit_id=unit, tenant=tenant(), now=NOW,
        opening=[RegisterValue(meter, 2_100)], at=at(10), key="in",
    )  # fmt: skip
    moves.move_out(
        actor=here.administrator, unit_id=unit, closing=[RegisterValue(meter, 2_200)],
        at=at(20), key="out", now=NOW,
    )  # fmt: skip
    take(frame(here, "M-102", (ACTIVE_EXPORT, at(5), 1), (ACTIVE_EXPORT, at(25), 3)))
    assert [each[2:4] for each in kept(here, "M-102")] == [(1, vacancy), (3, vacancy)]


def test_a_meter_that_was_taken_away_says_nothing_more_for_anybody() -> None:
    here = place()
    moves.exchange_meter(
        actor=here.administrator, meter_id=here.meters["M-101"], closing_wh=2_000,
        new_meter=NewMeter("M-NEW"), opening_wh=0, at=at(10), key="x", now=NOW,
    )  # fmt: skip
    take(frame(here, "M-101", (ACTIVE_EXPORT, at(10), 1), (ACTIVE_EXPORT, at(11), 2)))
    assert [each[1] for each in kept(here)] == [at(10)]
    assert [each[1:4] for each in cases()] == [(at(11), 2, Verdict.AFTER_CLOSING)]


def test_meters_of_two_properties_do_not_mix() -> None:
    here, there = place(), place()
    take(
        frame(there, "M-101", (ACTIVE_EXPORT, at(1), 1), token=1),
        frame(here, "M-102", (ACTIVE_EXPORT, at(1), 2), token=2),
        frame(here, "M-101", (ACTIVE_EXPORT, at(1), 3), (ACTIVE_IMPORT, at(1), 1_100), token=3),
    )
    assert rows(
        """SELECT property_id, account_id, value_wh FROM register_reading
           WHERE register_code = 2 ORDER BY value_wh"""
    ) == [
        (there.property_id, there.accounts["1001"], 1),
        (here.property_id, here.accounts["V-A-102"], 2),
        (here.property_id, here.accounts["1001"], 3),
    ]


def test_the_meter_of_a_feeder_is_kept_whole_and_charged_to_nobody() -> None:
    here = place()
    heard = take(frame(here, "M-F", (ACTIVE_IMPORT, at(1), 9_400), (ACTIVE_EXPORT, at(1), 1)))
    assert len(heard.acked) == 1 and len(heard.marks) == 2
    assert rows(
        "SELECT register_code, account_id, value_wh FROM register_reading WHERE meter_id = %s ORDER BY 1",
        here.meters["M-F"],
    ) == [(ACTIVE_IMPORT, 0, 9_400), (ACTIVE_EXPORT, 0, 1)]  # fmt: skip
    assert rows("SELECT 1 FROM interval WHERE meter_id = %s", here.meters["M-F"]) == []
    assert rows("SELECT 1 FROM rejected_frame") == []


def test_a_meter_nobody_pays_by_is_refused_as_before_and_named_to_a_direct_caller() -> None:
    here = place()
    rows("DELETE FROM installation WHERE meter_id = %s", here.meters["M-F"])
    heard = take(frame(here, "M-F", (ACTIVE_EXPORT, at(1), 1)))
    assert len(heard.acked) == 1 and heard.marks == []
    assert rows("SELECT reason, count FROM rejected_frame") == [(ingest.UNPLACED, 1)]
    batch = ingest._batch(
        [frame(here, "M-F", (ACTIVE_EXPORT, at(1), 1))],
        [ingest.Device(here.meters["M-F"], here.property_id)],
    )
    with pytest.raises(NoPayer):
        keep_readings(batch=batch, now=NOW)
    assert kept(here, "M-F") == []


@pytest.mark.parametrize("part", ["apply_readings", "keep_readings"])
def test_both_parts_of_a_batch_stand_or_fall_together_and_wait_for_the_database(
    monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The database goes away after each part in turn: nothing is acknowledged until both are in."""
    here = place()
    heard = Meters()
    real, calls = getattr(ingest, part), []

    def fails_once(**given: Any) -> Any:
        done = real(**given)
        calls.append(1)
        if len(calls) == 1:
            raise OperationalError("the server closed the connection")
        return done

    monkeypatch.setattr(ingest, part, fails_once)
    monkeypatch.setattr(ingest, "_RETRY_S", 0)
    monkeypatch.setattr(ingest.time, "sleep", lambda _: look(here, heard))
    loop = ingest.IngestLoop(heard, clock=lambda: NOW)
    loop._apply_until_done(
        [frame(here, "M-101", (ACTIVE_IMPORT, at(1), 2_000), (ACTIVE_EXPORT, at(1), 40))]
    )
    assert len(calls) == 2
    assert [each[2] for each in kept(here)] == [40]
    assert one("SELECT count(*) FROM interval") > 0
    assert len(heard.acked) == 1


def test_nothing_is_acknowledged_twice_when_the_database_goes_while_samples_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The broker may have given the number of an acknowledged message to another by then."""
    here = place()
    heard = Meters()
    real, calls = ingest.reject, []

    def fails_once(samples: Any) -> None:
        calls.append(len(heard.acked))
        if len(calls) == 1:
            raise OperationalError("the server closed the connection")
        real(samples)

    monkeypatch.setattr(ingest, "reject", fails_once)
    monkeypatch.setattr(ingest, "_RETRY_S", 0)
    stranger = dataclasses.replace(
        frame(here, "M-101", (ACTIVE_IMPORT, at(1), 1), token=2), serial="NOBODY"
    )
    known = frame(here, "M-101", (ACTIVE_IMPORT, at(1), 2_000), token=1)
    ingest.IngestLoop(heard, clock=lambda: NOW)._apply_until_done([known, stranger])
    assert calls == [0, 0]
    assert sorted(each.message_id for each in heard.acked) == [1, 2]
    assert {mark.serial for mark in heard.marks} == {known.serial}


def look(here: World, heard: Meters) -> None:
    assert heard.acked == [] and heard.marks == []
    assert kept(here) == [] and one("SELECT count(*) FROM interval") == 0


@pytest.mark.parametrize(
    "error", [DatabaseError, psycopg.errors.UniqueViolation, psycopg.DataError]
)
def test_a_frame_the_database_refuses_takes_nobody_elses_registers_with_it(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    here = place()
    poison = here.meters["M-101"]
    real = ingest.apply_readings

    def picky(*, batch: Any, **rest: Any) -> Any:
        if (batch.meter_id == poison).any():
            raise error("refused")
        return real(batch=batch, **rest)

    monkeypatch.setattr(ingest, "apply_readings", picky)
    heard = take(
        frame(here, "M-101", (ACTIVE_IMPORT, at(1), 2_000), (ACTIVE_EXPORT, at(1), 1), token=1),
        frame(here, "M-102", (ACTIVE_IMPORT, at(1), 2_100), (ACTIVE_EXPORT, at(1), 2), token=2),
    )
    assert kept(here) == [] and [each[2] for each in kept(here, "M-102")] == [2]
    assert sorted(each.message_id for each in heard.acked) == [1, 2]
    assert one("SELECT reason FROM rejected_frame").startswith(error.__name__)


def test_two_head_ends_that_get_the_same_frames_do_not_fall_over_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a reconnection the broker may hand to one what the other still works on."""
    here = place()
    rounds, size = 4, 400
    heard, waits = [Meters(), Meters()], []
    monkeypatch.setattr(ingest.time, "sleep", waits.append)
    frames = [
        [
            frame(here, serial, *((ACTIVE_EXPORT, at(number + n / size), n) for n in range(size)))
            for serial in ("M-101", "M-102", "M-LIFT")
        ]
        for number in range(1, rounds + 1)
    ]
    go = threading.Barrier(2)

    def work(number: int) -> None:
        loop = ingest.IngestLoop(heard[number], clock=lambda: NOW)
        for each in frames:
            go.wait(timeout=10)
            # Each in its own order: rows are inserted by key all the same.
            loop._apply_until_done(each if number else list(reversed(each)))
        connection.close()

    threads = [threading.Thread(target=work, args=[number]) for number in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(timeout=60)
    assert [len(each.acked) for each in heard] == [3 * rounds] * 2
    assert one("SELECT count(*) FROM register_reading WHERE register_code = 2") == 3 * rounds * size
    assert cases() == [] and rows("SELECT * FROM rejected_frame") == []
    assert waits == [], "one waited for the other in a ring and had to try again"


def test_the_head_ends_own_login_may_do_all_of_it(database: str) -> None:
    here = place()
    batch = (
        frame(here, "M-101", (ACTIVE_IMPORT, at(1), 2_000), (ACTIVE_EXPORT, at(1), 40)),
        frame(here, "M-101", (ACTIVE_EXPORT, at(1), 41), (ACTIVE_EXPORT, at(-1), 41), token=2),
    )
    with signed_in(role_dsn(database, "head_end"), database):
        heard = take(*batch)
    assert len(heard.acked) == 2
    assert [each[2] for each in kept(here)] == [40]
    assert sorted(each[3] for each in cases()) == [Verdict.CONFLICT, Verdict.BEFORE_OPENING]


def test_other_registers_leave_the_watermark_of_the_rated_one_alone() -> None:
    here = place()
    take(frame(here, "M-101", (ACTIVE_EXPORT, at(9), 900_000_000)))
    assert send(here, [("M-101", at(1), 1_100)]) == [Verdict.ACCEPTED]
    assert one("SELECT sum(energy_wh) FROM interval") == 100


# --- what a meter may forget ---


def spans(*frames: ReadingsFrame) -> list[tuple[str, int, datetime, datetime]]:
    return [
        (each.serial, each.register_code, utc_datetime(each.from_us or 0), utc_datetime(each.read_at_us))
        for each in ingest._watermarks(frames)
    ]  # fmt: skip


def test_a_frame_vouches_for_its_own_span_and_for_nothing_before_it() -> None:
    here = place()
    name = one("SELECT serial FROM meter WHERE id = %s", here.meters["M-101"])
    day = timedelta(days=1)
    quarter_hours = [(ACTIVE_IMPORT, at(hours / 4), 1_000 + hours) for hours in (7, 5, 6, 8)]
    daily = [(ACTIVE_EXPORT, at(1) + number * day, 5) for number in range(3)]
    assert spans(frame(here, "M-101", *quarter_hours, *daily)) == [
        (name, ACTIVE_IMPORT, at(1.25), at(2)),
        (name, ACTIVE_EXPORT, at(1), at(1) + 2 * day),
    ]
    # One frame for itself each: what may lie between them was perhaps lost.
    apart = [frame(here, "M-101", (ACTIVE_IMPORT, at(hour), 1_000)) for hour in (1, 3)]
    assert spans(*apart) == [(name, ACTIVE_IMPORT, at(hour), at(hour)) for hour in (1, 3)]


def test_an_instant_of_a_clock_that_leaps_stands_for_itself_alone() -> None:
    here = place()
    name = one("SELECT serial FROM meter WHERE id = %s", here.meters["M-101"])
    year, minute = timedelta(days=365), timedelta(minutes=1)
    readings = [
        (ACTIVE_IMPORT, when, 1_000)
        for when in (NOW - minute, NOW + minute, NOW + year, NOW, NOW + year + minute, NOW - year)
    ]
    assert spans(frame(here, "M-101", *readings)) == [
        (name, ACTIVE_IMPORT, NOW - year, NOW - year),
        (name, ACTIVE_IMPORT, NOW - minute, NOW + minute),
        (name, ACTIVE_IMPORT, NOW + year, NOW + year),
        (name, ACTIVE_IMPORT, NOW + year + minute, NOW + year + minute),
    ]


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(days=400), timedelta(hours=-40)])
def test_a_meter_whose_clock_leapt_forgets_nothing_that_the_broker_lost(ahead: timedelta) -> None:
    """A held reading is committed and let go; those of the right clock before it stay until they came."""
    here = place()
    name = one("SELECT serial FROM meter WHERE id = %s", here.meters["M-101"])
    begins_us, period_us = instant_us(NOW) - 900 * SECOND_US, 4 * SECOND_US
    meter = SimulatedMeter(MeterConfig(name, load_profile("G2-A"), 1, 2_000, begins_us, period_us))

    def commit(messages: Sequence[Outgoing], now_us: int) -> None:
        for channel, payload in messages:
            if channel is not Uplink.READINGS:
                continue
            heard = Meters()
            given = codec.decode_readings(
                name, payload, received_at_us=now_us, token=AckToken(1, 1)
            )
            loop = ingest.IngestLoop(heard, clock=lambda: utc_datetime(now_us))
            loop._apply_until_done([given])
            for mark in codec.watermark_payloads(heard.marks):
                meter.receive_watermarks(mark, now_us)

    commit(meter.connected(begins_us), begins_us)
    assert meter.backlog == 0
    now_us = begins_us
    for step in range(1, 8):
        now_us = begins_us + step * period_us
        meter.set_fault("clock_drift", int(ahead.total_seconds()) if step == 4 else 0, now_us)
        leaving = meter.tick(now_us)
        # Of seven readings only the one with the wrong clock, and the last, come through.
        if step in (4, 7):
            commit(leaving, now_us)
    assert meter.backlog == 5, "the lost ones wait for their own watermark"
    now_us += 40 * SECOND_US
    commit(meter.tick(now_us), now_us)
    assert meter.backlog == 0
    read_at = rows(
        "SELECT read_at FROM register_reading WHERE meter_id = %s ORDER BY 1", here.meters["M-101"]
    )
    right = [utc_datetime(begins_us + step * period_us) for step in (0, 1, 2, 3, 5, 6, 7)]
    assert {(each,) for each in right} <= set(read_at)
    if ahead > timedelta(0):
        assert [(each[1], each[3]) for each in cases()] == [(right[3] + timedelta(seconds=4) + ahead, Verdict.FUTURE)]  # fmt: skip


# --- what is written of a device, and several loops ---


def heard(here: World, hour: float, relay: str = "closed", **changes: Any) -> ReadingsFrame:
    """A frame of one reading at its hour, received then."""
    plain = frame(here, "M-101", (ACTIVE_IMPORT, at(hour), 1_000 + round(hour * 100)))
    told = {
        "relay": relay,
        "meter_clock_us": instant_us(at(hour)),
        "received_at_us": instant_us(at(hour)),
    }
    return replace(plain, **(told | changes))


def link(here: World) -> tuple[Any, ...]:
    return rows(
        "SELECT last_seen_at, relay, clock_drift_s FROM meter_link WHERE meter_id = %s",
        here.meters["M-101"],
    )[0]


def test_a_link_is_written_for_what_is_news_and_left_alone_otherwise() -> None:
    here = place()
    loop = ingest.IngestLoop(Meters(), clock=lambda: NOW)

    def sees(one_frame: ReadingsFrame) -> tuple[Any, ...]:
        loop.take([one_frame])
        return link(here)

    assert sees(heard(here, 1)) == (at(1), 1, 0)
    assert sees(heard(here, 2)) == (at(1), 1, 0), "an accepted reading says by itself that it lives"
    assert sees(heard(here, 3, relay="open")) == (at(3), 2, 0)
    drifted = instant_us(at(4)) + 9_000_000
    assert sees(heard(here, 4, relay="open", meter_clock_us=drifted)) == (at(4), 2, 9)
    assert sees(heard(here, 5, relay="open", meter_clock_us=drifted + 3_600_000_000)) == (
        at(4),
        2,
        9,
    )
    # A reading that is not accepted is the only sign of life there is.
    again = heard(here, 5, relay="open", received_at_us=instant_us(at(5.5)), meter_clock_us=None)
    assert sees(again)[0] == at(5.5)
    assert sees(heard(here, 12, relay="open", meter_clock_us=None))[0] == at(12)


def test_a_relay_has_read_so_since_the_first_report_that_agrees_and_usage_after_it_is_told() -> (
    None
):
    """The whole way: readings of a meter that says its relay is open, and counts on."""
    here = place()
    loop = ingest.IngestLoop(Meters(), clock=lambda: NOW)

    def since() -> Any:
        return one("SELECT relay_since FROM meter_link WHERE meter_id = %s", here.meters["M-101"])

    def told() -> list[tuple[Any, ...]]:
        watch_open_relays(actor=system_actor("supply"), now=NOW, everything=True)
        return rows(
            """SELECT subject, (detail ->> 'used_wh')::bigint, closed_at FROM alert
               WHERE code = 'supply.usage_while_open'"""
        )

    loop.take([heard(here, 1)])
    assert since() == at(1)
    loop.take([heard(here, 2), heard(here, 3, relay="open")])
    assert since() == at(3)
    loop.take([heard(here, 4, relay="open")])
    assert since() == at(3) and told() == [], "100 Wh is what is tolerated"
    loop.take([heard(here, 5, relay="open"), heard(here, 12, relay="open")])
    assert since() == at(3)
    assert told() == [(f"meter:{here.meters['M-101']}", 900, None)]
    loop.take([heard(here, 13)])
    assert since() == at(13) and told()[0][2] == NOW


def test_a_relay_that_others_wrote_is_looked_at_again() -> None:
    """A command was answered in between: what the meter says next is news, though it said it before."""
    here = place()
    loop = ingest.IngestLoop(Meters(), clock=lambda: NOW)
    loop.take([heard(here, 1)])
    device = ingest.Device(here.meters["M-101"], here.property_id)
    record_sightings([Sighting(device, at(1.5), RelayState.OPEN)])
    loop.watch(heard(here, 1).serial, instant_us(at(1.5)))
    loop.take([heard(here, 2)])
    assert link(here)[:2] == (at(2), 1)
    loop.take([heard(here, 3)])
    assert link(here)[0] == at(2)


def test_a_meter_always_goes_to_the_same_of_several_loops_and_all_is_acknowledged() -> None:
    here, meters = place(), Meters()
    loops = ingest.ShardedIngest(meters, clock=lambda: NOW, shards=3)
    loops.start()
    for hour in range(1, 30):
        for serial in ("M-101", "M-102", "M-LIFT"):
            reading = (ACTIVE_IMPORT, at(hour), 3_000 + hour)
            loops.submit(frame(here, serial, reading, token=hour))
    loops.stop()
    assert loops.failure is None
    assert len(meters.acked) == 3 * 29
    assert rows("SELECT verdict FROM vee_case") == []
    assert one("SELECT count(*) FROM register_reading WHERE read_at > %s", at(0)) == 3 * 29
    with pytest.raises(ValueError, match="shards"):
        ingest.ShardedIngest(meters, clock=lambda: NOW, shards=0)
