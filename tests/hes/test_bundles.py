"""Bundles from columns to rows: what one message brings is taken reading by reading, and acknowledged after."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from django.db import DatabaseError, OperationalError, connection
from tests.conftest import role_dsn
from tests.hes.drivers.mqtt_bundle.test_codec import message
from tests.hes.test_ingest import Meters, cases, frame
from tests.invariants.places import NOW, World, at, one, place, rows, signed_in

import prewatt.hes.bundles as bundles
import prewatt.hes.ingest as ingest
from prewatt.access.scope import system_actor
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.vee import Verdict
from prewatt.hes.drivers.mqtt_bundle import codec
from prewatt.hes.frames import AckToken, BundleMark, ReadingsBundle
from prewatt.moves.concentrators import put_behind, register_concentrator, take_away
from prewatt.reports.books import check_books

Said = tuple[str, int, datetime, int]
"""Meter, register code, instant, value."""

SYSTEM = system_actor("test")
DTU = "DTU-1"
BEGINNING = at(0) - timedelta(days=1)


@pytest.fixture
def here(database: str) -> World:
    """A property with a concentrator in front of its flats and its feeder, not of its lift."""
    made = place()
    register(made, DTU, "M-101", "M-102", "M-F")
    return made


def names(here: World) -> dict[str, str]:
    found = dict(rows("SELECT id, serial FROM meter WHERE property_id = %s", here.property_id))
    return {name: found[meter_id] for name, meter_id in here.meters.items()}


def register(here: World, serial: str, *meters: str, at: datetime = BEGINNING) -> None:
    given = {"actor": SYSTEM, "property_id": here.property_id, "serial": serial, "now": NOW}
    register_concentrator(**given)
    put_behind(**given, meters=[names(here)[each] for each in meters], at=at)


def bundle(
    here: World,
    *said: Said,
    sequence: int = 1,
    sender: str = DTU,
    relay: int = 0,
    heard: datetime | None = None,
) -> ReadingsBundle:
    """As the codec makes it of bytes; a meter that the place does not have keeps its name."""
    serials = names(here)
    listed = list(dict.fromkeys(each[0] for each in said))
    heard_us = 0 if heard is None else instant_us(heard)
    payload = message(
        [(serials.get(each, each), heard_us, relay) for each in listed],
        [(listed.index(m), code, instant_us(when), value) for m, code, when, value in said],
        sequence,
    )
    topic = codec.bundle_topic(sender)
    return codec.decode(topic, payload, received_at_us=instant_us(NOW), token=AckToken(1, sequence))


def apply(*given: Any, loop: ingest.IngestLoop | None = None) -> Meters:
    heard = Meters()
    loop = loop or ingest.IngestLoop(heard, clock=lambda: NOW)
    loop._apply_until_done(given)
    return heard


def refused(heard: Meters) -> list[tuple[int, tuple[int, ...]]]:
    return [(each.sequence, each.refused) for each in heard.bundles]


def reasons() -> list[tuple[Any, ...]]:
    return rows("SELECT serial, reason, count FROM rejected_frame ORDER BY 1, 2")


def books(here: World) -> list[Any]:
    with connection.cursor() as cursor:
        return check_books(cursor, [here.property_id])


def test_a_bundle_leaves_the_rows_of_its_readings_one_by_one(here: World) -> None:
    said: list[Said] = [
        ("M-101", 1, at(1), 1_500),
        ("M-102", 1, at(1), 2_100),
        ("M-101", 1, at(2), 2_000),
        ("M-101", 2, at(2), 40),
        ("M-F", 1, at(2), 9_900),
        ("M-102", 1, at(2), 2_200),
    ]
    other = place()
    by_bundle = apply(bundle(here, *said))
    apply(*(frame(other, m, (code, when, value)) for m, code, when, value in said))
    for query in (
        "SELECT meter_id, register_code, read_at, value_wh, quality, source FROM register_reading",
        "SELECT meter_id, start_at, segment, energy_wh, charge_energy, charge_tax FROM interval",
        "SELECT meter_id, last_at, last_value_wh FROM meter_state",
    ):
        found = [
            sorted(
                (name, *row[1:])
                for row in rows(f"{query} WHERE property_id = %s", each.property_id)
                for name, meter_id in each.meters.items()
                if meter_id == row[0]
            )
            for each in (here, other)
        ]
        assert found[0] == found[1] and found[0]
    assert [each.message_id for each in by_bundle.acked] == [1]
    assert refused(by_bundle) == [(1, ())]
    assert books(here) == [] and reasons() == []


def test_of_a_meter_that_it_may_not_speak_for_nothing_is_taken_and_the_others_are(
    here: World,
) -> None:
    there = place()
    foreign = names(there)["M-101"]
    heard = apply(
        bundle(
            here,
            ("M-LIFT", 1, at(1), 3_500),
            ("M-101", 1, at(1), 1_500),
            (foreign, 1, at(1), 1_700),
            ("NOBODYS", 1, at(1), 5),
            ("M-LIFT", 1, at(2), 3_600),
        )
    )
    assert rows("SELECT meter_id FROM register_reading WHERE read_at = %s", at(1)) == [
        (here.meters["M-101"],)
    ]
    assert refused(heard) == [(1, (0, 2, 3))], "its sender keeps what may be mended"
    assert [each.message_id for each in heard.acked] == [1]
    assert reasons() == [(DTU, "not_its_meter", 1)]
    text = bytes(one("SELECT sample FROM rejected_frame")).decode()
    assert text.startswith("4 readings of 3 meters, first of M-LIFT")
    assert one("SELECT property_id FROM rejected_frame") == here.property_id
    untouched = [here.meters["M-LIFT"], there.meters["M-101"]]
    assert rows("SELECT concentrator_id FROM meter_link WHERE meter_id = ANY(%s)", untouched) == [
        (None,),
        (None,),
    ]


def test_a_right_is_of_the_readings_own_instant_and_ends_at_once(here: World) -> None:
    """The exchanged concentrator may still bring what it had; the new one nothing of before."""
    loop = ingest.IngestLoop(Meters(), clock=lambda: NOW)
    apply(bundle(here, ("M-101", 1, at(1), 1_100)), loop=loop)
    register(here, "DTU-2", "M-101", at=at(3))
    late = [("M-101", 1, at(hour), 1_000 + 100 * hour) for hour in (2, 3)]
    early = [("M-101", 1, at(hour), 1_000 + 100 * hour) for hour in (2.5, 4)]
    old = bundle(here, *late, sequence=2)
    new = bundle(here, *((m, c, t, int(v)) for m, c, t, v in early), sequence=3, sender="DTU-2")
    heard = Meters()
    loop._transport = loop._bundles._transport = heard
    loop._apply_until_done([old, new])
    taken = rows(
        "SELECT read_at FROM register_reading WHERE meter_id = %s AND read_at > %s ORDER BY 1",
        here.meters["M-101"],
        at(0),
    )
    assert taken == [(at(1),), (at(2),), (at(4),)]
    assert refused(heard) == [(2, (0,)), (3, (0,))]
    take_away(
        actor=SYSTEM, property_id=here.property_id, serial="DTU-2",
        meters=[names(here)["M-101"]], at=at(5), now=NOW,
    )  # fmt: skip
    loop._apply_until_done([bundle(here, ("M-101", 1, at(6), 1_600), sequence=4, sender="DTU-2")])
    assert refused(heard)[-1] == (4, (0,)) and books(here) == []


def test_a_concentrator_that_nobody_registered_gets_no_acknowledgement_of_its_own(
    here: World,
) -> None:
    heard = apply(bundle(here, ("M-101", 1, at(1), 1_500), sender="STRANGER"))
    assert [each.message_id for each in heard.acked] == [1], "or the broker would send it for ever"
    assert heard.bundles == []
    assert reasons() == [("STRANGER", "unknown_concentrator", 1)]
    assert rows("SELECT 1 FROM register_reading WHERE read_at = %s", at(1)) == []


def test_bad_readings_of_a_bundle_are_held_or_recorded_and_the_others_charged(here: World) -> None:
    heard = apply(
        bundle(
            here,
            ("M-101", 1, at(1), 1_500),
            ("M-102", 1, at(1), -7),
            ("M-102", 1, at(2), 10**15),
            ("M-102", 7, at(2), 1),
            ("M-101", 1, at(2), 1_400),
            ("M-101", 1, at(3), 1_600),
            ("M-102", 1, NOW + timedelta(hours=1), 2_500),
            ("M-102", 1, at(3), 2_300),
        )
    )
    assert [(each[2], Verdict(each[3])) for each in cases()] == [
        (1_400, Verdict.BACKWARDS),
        (-7, Verdict.NEGATIVE),
        (2_500, Verdict.FUTURE),
    ]
    assert reasons() == [(DTU, "range", 1), (DTU, "register", 1)]
    assert rows("SELECT meter_id, sum(energy_wh) FROM interval GROUP BY 1 ORDER BY 1") == sorted(
        [(here.meters["M-101"], 600), (here.meters["M-102"], 300)]
    )
    assert refused(heard) == [(1, ())], "what can never be mended is let go"
    assert books(here) == []


def test_duplicates_and_any_order_of_bundles_change_nothing(here: World) -> None:
    hours = [1, 2, 3, 4, 5, 6]
    parts = [
        bundle(
            here,
            *[("M-101", 1, at(hour), 1_000 + 100 * hour) for hour in hours[first : first + 2]],
            *[("M-102", 1, at(hour), 2_000 + 10 * hour) for hour in hours[first : first + 2]],
            sequence=first + 1,
        )
        for first in (0, 2, 4)
    ]
    loop = ingest.IngestLoop(Meters(), clock=lambda: NOW)
    for batch in ([parts[2]], [parts[0], parts[0]], parts[::-1], [parts[1]]):
        loop._apply_until_done(batch)
    assert rows("SELECT meter_id, sum(energy_wh) FROM interval GROUP BY 1 ORDER BY 1") == sorted(
        [(here.meters["M-101"], 600), (here.meters["M-102"], 60)]
    )
    assert cases() == [] and books(here) == []
    assert [each.refused for each in loop._transport.bundles] == [()] * 7  # type: ignore[attr-defined]


def test_one_poisonous_meter_costs_nobody_else_anything(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison, real = here.meters["M-101"], ingest.apply_readings

    def picky(*, batch: Any, **rest: Any) -> Any:
        if (batch.meter_id == poison).any():
            raise DatabaseError("refused")
        return real(batch=batch, **rest)

    monkeypatch.setattr(ingest, "apply_readings", picky)
    heard = apply(
        bundle(here, ("M-102", 1, at(1), 2_100), ("M-101", 1, at(1), 1_500), ("M-F", 1, at(1), 1)),
        bundle(here, ("M-101", 1, at(2), 1_600), ("M-102", 1, at(2), 2_200), sequence=2),
    )
    assert rows("SELECT DISTINCT meter_id FROM interval") == [(here.meters["M-102"],)]
    assert one("SELECT count(*) FROM register_reading WHERE read_at > %s", at(0)) == 3
    assert refused(heard) == [(1, (1,)), (2, (0,))]
    assert reasons() == [(DTU, "failed", 2)]
    assert b"DatabaseError: refused" in bytes(one("SELECT sample FROM rejected_frame"))


def test_invariant_9_a_bundle_that_does_not_commit_is_not_acknowledged(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, heard, tries = ingest.apply_readings, Meters(), []

    def fails_once(**given: Any) -> Any:
        done = real(**given)
        tries.append(1)
        if len(tries) == 1:
            raise OperationalError("gone")
        return done

    def nothing_yet(_: float) -> None:
        assert heard.acked == [] and heard.bundles == []

    monkeypatch.setattr(ingest, "apply_readings", fails_once)
    monkeypatch.setattr(ingest.time, "sleep", nothing_yet)
    given = bundle(here, ("M-101", 1, at(1), 1_500))
    ingest.IngestLoop(heard, clock=lambda: NOW)._apply_until_done([given])
    assert len(tries) == 2
    assert heard.bundles == [BundleMark(DTU, 1, given.checksum)]


def test_what_cannot_be_applied_at_all_is_refused_once_and_stays_with_its_sender(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(bundles, "_marks", broken)
    heard = apply(*(bundle(here, ("M-101", 1, at(1), 1_500), sequence=each) for each in (1, 2)))
    assert sorted(each.message_id for each in heard.acked) == [1, 2] and heard.bundles == []
    assert reasons() == [(DTU, "ValueError: a fault of ours", 2)]


def test_a_meter_is_seen_when_its_concentrator_heard_it_and_its_relay_is_dated_by_that(
    here: World,
) -> None:
    loop = ingest.IngestLoop(Meters(), clock=lambda: NOW)
    concentrator_id = one("SELECT id FROM concentrator")
    link = """SELECT last_seen_at, relay, nullif(relay_read_at, '-infinity'), concentrator_id
              FROM meter_link WHERE meter_id = %s"""
    heard_at = NOW - timedelta(seconds=60)
    apply(bundle(here, ("M-101", 1, at(1), 1_100), relay=2, heard=heard_at), loop=loop)
    assert rows(link, here.meters["M-101"]) == [(heard_at, 2, heard_at, concentrator_id)]
    long_ago = NOW - timedelta(hours=3)
    apply(bundle(here, ("M-102", 1, at(1), 2_100), relay=2, heard=long_ago), loop=loop)
    assert rows(link, here.meters["M-102"])[0][1] == 0, "an old state is not believed"
    assert rows(link, here.meters["M-102"])[0][3] == concentrator_id
    ahead = NOW + timedelta(days=40)
    apply(bundle(here, ("M-102", 1, at(2), 2_200), relay=1, heard=ahead), loop=loop)
    assert rows(link, here.meters["M-102"])[0][0] <= NOW, "nobody is heard in the future"
    assert one("SELECT last_seen_at FROM concentrator") == NOW
    sent_us = bundle(here, ("M-101", 1, at(1), 1)).sent_at_us
    assert one("SELECT clock_drift_s FROM concentrator") == round(
        (utc_datetime(sent_us) - NOW).total_seconds()
    )


def test_a_meter_without_a_payer_is_refused_and_one_behind_whom_somebody_moves_is_taken(
    here: World,
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM meter_state WHERE meter_id = %s", [here.meters["M-102"]])
    heard = apply(bundle(here, ("M-102", 1, at(1), 2_100), ("M-101", 1, at(1), 1_100)))
    assert refused(heard) == [(1, (0,))]
    assert reasons() == [(DTU, "no_account", 1)]


def test_all_of_it_works_under_the_head_ends_own_login(database: str, here: World) -> None:
    with signed_in(role_dsn(database, "head_end"), database):
        heard = apply(
            bundle(
                here, ("M-101", 1, at(1), 1_500), ("M-LIFT", 1, at(1), 3_100), relay=1, heard=NOW
            )
        )
        with pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute("UPDATE concentrator SET edition = 7")
        with pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute("UPDATE concentrator_meter SET period = '(,)'")
    assert refused(heard) == [(1, (1,))]
    assert one("SELECT last_seen_at FROM concentrator") == NOW


def test_bundles_beside_messages_of_single_meters_share_a_batch(here: World) -> None:
    heard = apply(
        frame(here, "M-LIFT", (1, at(1), 3_100), token=9),
        bundle(here, ("M-101", 1, at(1), 1_500)),
        frame(here, "M-LIFT", (1, at(2), 3_200), token=10),
    )
    assert sorted(each.message_id for each in heard.acked) == [1, 9, 10]
    assert len(heard.marks) == 2 and refused(heard) == [(1, ())]
    assert one("SELECT count(*) FROM interval") == 3


def test_a_bundle_goes_whole_to_the_loop_of_its_sender() -> None:
    taken: list[list[Any]] = [[], []]
    shards = ingest.ShardedIngest(Meters(), clock=lambda: NOW, shards=2)
    for loop, own in zip(shards._loops, taken, strict=True):
        loop.submit = own.append  # type: ignore[method-assign]
    for number in range(20):
        payload = message([("M-1", 0, 0), ("M-2", 0, 0)], [(0, 1, 10**15, 1), (1, 1, 10**15, 1)])
        topic = codec.bundle_topic(f"DTU-{number % 10}")
        shards.submit(codec.decode(topic, payload, received_at_us=1, token=AckToken(1, number)))
    assert all(taken) and sum(map(len, taken)) == 20
    assert not {each.concentrator for each in taken[0]} & {each.concentrator for each in taken[1]}
    assert isinstance(taken[0][0].place, np.ndarray)
