"""Meters and concentrators that say wrong things on purpose: it costs them, and nobody beside them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from django.db import DatabaseError
from tests.conftest import role_dsn
from tests.hes.test_bundles import DTU, SYSTEM, apply, books, bundle, names, reasons, register
from tests.hes.test_ingest import Meters, frame
from tests.invariants.places import NOW, World, at, one, place, rows, send, signed_in

import prewatt.billing.backfill as backfill
import prewatt.hes.ingest as ingest
import prewatt.hes.links as links
from prewatt.core.civil_time import SECOND_US, instant_us
from prewatt.core.vee import Verdict
from prewatt.hes import session
from prewatt.hes.frames import AckToken, ReadingsBundle
from prewatt.hes.links import Device, Sighting, drift_s, record_sightings
from prewatt.moves.held import release_reading

US = timedelta(microseconds=1)
A_CENTURY_ON = instant_us(datetime(2100, 1, 1, tzinfo=UTC))


@pytest.fixture
def here(database: str) -> World:
    made = place()
    register(made, DTU, "M-101", "M-102", "M-F")
    return made


def available(here: World, account: str = "1001") -> int:
    return int(
        one("SELECT available FROM account_state WHERE account_id = %s", here.accounts[account])
    )


def held() -> list[tuple[Any, ...]]:
    return rows("SELECT verdict, state, count(*) FROM vee_case GROUP BY 1, 2 ORDER BY 1, 2")


def drift(here: World, meter: str) -> int:
    return int(one("SELECT clock_drift_s FROM meter_link WHERE meter_id = %s", here.meters[meter]))


@pytest.mark.parametrize("clock_us", [A_CENTURY_ON, 2**63 - 1, -(2**63)])
def test_a_clock_in_another_century_takes_no_batch_apart(
    here: World, monkeypatch: pytest.MonkeyPatch, clock_us: int
) -> None:
    good = [frame(here, "M-102", (1, at(1 + n), 2_100 + n), token=n + 1) for n in range(5)]
    bad = replace(frame(here, "M-101", (1, at(1), 1_500), token=9), meter_clock_us=clock_us)
    heard = Meters()
    loop = ingest.IngestLoop(heard, clock=lambda: NOW)
    stores: list[int] = []
    store = loop._store
    monkeypatch.setattr(loop, "_store", lambda *given: (stores.append(1), store(*given))[1])
    loop._apply_until_done([*good, bad])
    assert stores == [1] and reasons() == []
    assert len(heard.acked) == 6 and {mark.serial for mark in heard.marks} == {
        names(here)["M-101"],
        names(here)["M-102"],
    }
    assert abs(drift(here, "M-101")) >= 2**31 - 1


def test_a_concentrators_clock_in_another_century_refuses_neither_its_bundle_nor_anothers(
    here: World,
) -> None:
    register(here, "DTU-9", "M-LIFT")
    bad = replace(bundle(here, ("M-101", 1, at(1), 1_500)), sent_at_us=A_CENTURY_ON)
    good = bundle(here, ("M-LIFT", 1, at(1), 3_100), sequence=2, sender="DTU-9")
    heard = apply(bad, good)
    assert [each.sequence for each in heard.bundles] == [1, 2] and reasons() == []
    assert one("SELECT clock_drift_s FROM concentrator WHERE serial = %s", DTU) == 2**31 - 1


def test_drift_is_what_an_integer_can_say() -> None:
    assert [drift_s(each, 0) for each in (0, 1_400_000, -SECOND_US, 2**63 - 1, -(2**63))] == [
        0, 1, -1, 2**31 - 1, -(2**31),
    ]  # fmt: skip


def test_what_a_device_says_of_itself_refuses_no_readings_and_nobody_elses_word(
    here: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poison, real = here.meters["M-101"], record_sightings

    def picky(sightings: Sequence[Sighting]) -> None:
        real(sightings)
        if any(each.device.meter_id == poison for each in sightings):
            raise DatabaseError("integer out of range")

    monkeypatch.setattr(links, "record_sightings", picky)
    with caplog.at_level(logging.ERROR, logger=links.__name__):
        heard = apply(
            replace(frame(here, "M-101", (1, at(1), 1_500), token=1), relay="closed"),
            replace(frame(here, "M-102", (1, NOW, 2_100), token=2), relay="closed"),
            bundle(here, ("M-101", 1, at(2), 1_600), ("M-F", 1, at(2), 9_900)),
        )
    assert reasons() == [] and len(heard.acked) == 3 and len(heard.marks) == 2
    assert [each.refused for each in heard.bundles] == [()]
    assert one("SELECT relay FROM meter_link WHERE meter_id = %s", here.meters["M-102"]) == 1
    assert len([each for each in caplog.records if each.name == links.__name__]) == 2


def test_slices_of_a_microsecond_charge_nothing_and_are_held_within_bounds(
    here: World, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """3 999 readings of 7 Wh each would be 28 kWh in 4 ms: the first is believed, and no other."""
    monkeypatch.setattr(ingest, "OPEN_CASES_MAX", 50)
    before, base = available(here), at(1)
    said = [("M-101", 1, base + n * US, 1_000 + 7 * n) for n in range(1, 4_000)]
    with signed_in(role_dsn(database, "head_end"), database):
        for sequence in (1, 2):
            begin = (sequence - 1) * 2_000
            heard = apply(bundle(here, *said[begin : begin + 2_000], sequence=sequence))
            assert [each.refused for each in heard.bundles] == [()]
    assert rows(
        "SELECT last_value_wh FROM meter_state WHERE meter_id = %s", here.meters["M-101"]
    ) == [(1_007,)]
    assert held() == [(Verdict.TOO_CLOSE, "held", 50)]
    serial = names(here)["M-101"]
    assert reasons() == [(serial, "too_many_held", 3_998 - 50)]
    assert before - available(here) <= 2_100 and books(here) == []


def test_a_full_meter_is_the_same_again_and_others_have_room(here: World) -> None:
    said = [("M-101", 1, at(1) + n * US, 900 - n) for n in range(20)]
    for sequence in (1, 2):
        batch = bundle(here, *said, ("M-102", 1, at(1), 1_999), sequence=sequence)
        loop = ingest.IngestLoop(Meters(), clock=lambda: NOW)
        original, ingest.OPEN_CASES_MAX = ingest.OPEN_CASES_MAX, 5
        try:
            loop._apply_until_done([batch])
        finally:
            ingest.OPEN_CASES_MAX = original
    kept = rows("SELECT meter_id, count(*) FROM vee_case GROUP BY 1 ORDER BY 2")
    assert kept == [(here.meters["M-102"], 1), (here.meters["M-101"], 5)]
    assert reasons() == [(names(here)["M-101"], "too_many_held", 15 + 15)]


def test_registers_that_nobody_is_charged_by_have_the_same_bound(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "OPEN_CASES_MAX", 5)
    apply(frame(here, "M-101", *((2, at(n), -n) for n in range(1, 21))))
    assert held() == [(Verdict.NEGATIVE, "held", 5)]
    assert reasons() == [(names(here)["M-101"], "too_many_held", 15)]


def test_late_readings_a_microsecond_apart_do_not_divide_what_is_charged(here: World) -> None:
    send(here, [("M-101", at(10), 3_000)])
    late = [("M-101", at(5) + n * US, 2_000 + n) for n in range(90)]
    near_an_end = [("M-101", at(10) - US, 2_999), ("M-101", at(0) + US, 1_000)]
    verdicts = send(here, [*late, *near_an_end])
    assert verdicts == [Verdict.BACKFILL] + [Verdict.TOO_CLOSE] * 91
    starts = rows(
        "SELECT DISTINCT start_at FROM interval WHERE meter_id = %s ORDER BY 1",
        here.meters["M-101"],
    )
    assert starts == [(at(0),), (at(5),)]
    assert books(here) == []


def test_late_readings_cannot_use_up_the_revisions_of_an_interval(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each divides the first part once more, which takes a revision; a smallint has 32 767 of them."""
    monkeypatch.setattr(backfill, "REVISION_MAX", 2)
    send(here, [("M-101", at(10), 3_000)])
    earlier = [("M-101", at(9 - n), 2_900 - 100 * n) for n in range(4)]
    verdicts = [send(here, [each])[0] for each in earlier]
    assert verdicts == [Verdict.BACKFILL, Verdict.BACKFILL, Verdict.WORN, Verdict.WORN]
    # Its parts have revisions of their own, and usage goes on.
    assert send(here, [("M-101", at(9.5), 2_950), ("M-101", at(11), 3_100)]) == [
        Verdict.BACKFILL,
        Verdict.ACCEPTED,
    ]
    assert held() == [(Verdict.WORN, "held", 2)] and reasons() == [] and books(here) == []


def test_a_person_may_release_what_came_too_soon(here: World) -> None:
    assert send(here, [("M-101", at(1), 1_500), ("M-101", at(1) + US, 1_501)]) == [
        Verdict.ACCEPTED,
        Verdict.TOO_CLOSE,
    ]
    send(here, [("M-101", at(2), 1_600)])
    release_reading(
        actor=SYSTEM, case_id=one("SELECT case_id FROM vee_case"), reason="looked at it", now=NOW
    )
    assert held() == [(Verdict.TOO_CLOSE, "released", 1)] and books(here) == []


@pytest.mark.parametrize("refusal", [DatabaseError, psycopg.errors.NumericValueOutOfRange])
def test_a_meter_that_the_database_refuses_costs_its_bundle_no_other(
    here: World, monkeypatch: pytest.MonkeyPatch, refusal: type[Exception]
) -> None:
    """Whether Django says it or the driver itself, as it does of a COPY."""
    real, poison = ingest.apply_readings, here.meters["M-101"]

    def picky(*, batch: Any, **rest: Any) -> Any:
        if (batch.meter_id == poison).any():
            raise refusal("refused")
        return real(batch=batch, **rest)

    monkeypatch.setattr(ingest, "apply_readings", picky)
    heard = apply(bundle(here, ("M-101", 1, at(1), 1_500), ("M-102", 1, at(1), 2_100)))
    assert [each.refused for each in heard.bundles] == [(0,)] and reasons() == [(DTU, "failed", 1)]
    assert rows("SELECT meter_id FROM register_reading WHERE read_at = %s", at(1)) == [
        (here.meters["M-102"],)
    ]


def test_a_bundle_weighs_the_meters_that_it_names(here: World) -> None:
    """A thousand names around one reading cost as much as a thousand readings."""
    plain = bundle(here, ("M-101", 1, at(1), 1_500))
    wide = replace(
        plain,
        serials=plain.serials * 1_000,
        heard_at_us=np.repeat(plain.heard_at_us, 1_000),
        relay=np.repeat(plain.relay, 1_000),
    )
    assert (plain.weight, wide.weight) == (1, 1_000)
    assert session._weight(wide) == 1_000
    loop = ingest.IngestLoop(Meters(), clock=lambda: NOW)
    for number in range(10):
        loop.submit(replace(wide, token=AckToken(1, number)))
    assert len(loop._inbox) == 10_000
    taken = loop._gather()
    assert len(taken) == loop.batch_readings // 1_000
    assert all(isinstance(each, ReadingsBundle) for each in taken)


def test_who_heard_a_meter_last_is_who_it_stands_behind(here: World) -> None:
    """What an exchanged concentrator still brings does not lead orders back to it."""
    device = Device(here.meters["M-101"], here.property_id)
    old, new = (
        one("SELECT id FROM concentrator WHERE serial = %s", serial)
        for serial in (DTU, _another(here))
    )

    def behind() -> Any:
        return one("SELECT concentrator_id FROM meter_link WHERE meter_id = %s", device.meter_id)

    record_sightings([Sighting(device, at(1), concentrator_id=old)])
    record_sightings([Sighting(device, at(3), concentrator_id=new)])
    record_sightings([Sighting(device, at(2), concentrator_id=old)])
    assert behind() == new
    record_sightings(
        [Sighting(device, at(5), concentrator_id=old), Sighting(device, at(4), concentrator_id=new)]
    )
    assert behind() == old
    record_sightings([Sighting(device, at(6))])
    assert behind() == old


def test_a_device_that_is_new_was_heard_when_it_was_itself(here: World) -> None:
    known = [Device(here.meters[each], here.property_id) for each in ("M-101", "M-102")]
    record_sightings([Sighting(known[0], at(9)), Sighting(known[1], at(2))])
    assert rows("SELECT last_seen_at FROM meter_link WHERE meter_id = %s", known[1].meter_id) == [
        (at(2),)
    ]


def _another(here: World) -> str:
    register(here, "DTU-2", "M-LIFT")
    return "DTU-2"
