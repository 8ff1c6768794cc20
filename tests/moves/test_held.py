"""Held readings: released into the books on a person's word, or discarded, and never in by the back door."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import psycopg
import pytest
from django.db import transaction
from tests.estate.tables import NOW
from tests.moves.world import (
    PRICE_MICRO_PER_WH,
    World,
    available,
    charged_wh,
    hours,
    rows,
    snapshot,
    world,
)

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused
from prewatt.core.readings import ReadingSource
from prewatt.core.vee import Verdict
from prewatt.moves.held import (
    TOGETHER_MAX,
    HeldRefused,
    Released,
    discard_reading,
    discard_readings,
    look_at_releases,
    release_reading,
    release_readings,
)
from prewatt.reports.held import HeldRow
from prewatt.reports.held_query import SORTS, held_list
from prewatt.reports.lists import Listing
from prewatt.reports.paging import Page


@pytest.fixture
def here(database: str) -> World:
    return world()


def _case() -> int:
    return int(rows("SELECT max(case_id) FROM vee_case WHERE state = 'held'")[0][0])


def test_what_a_meter_can_hardly_have_counted_is_charged_on_a_persons_word_only(
    here: World,
) -> None:
    assert here.read("M-101", hours(1), 900_000) is Verdict.IMPLAUSIBLE
    case, account = _case(), here.accounts["1001"]
    before = snapshot()
    (seen,) = look_at_releases(actor=here.administrator, case_ids=[case], now=NOW)
    assert snapshot() == before and charged_wh(account) == 0
    done = release_reading(actor=here.administrator, case_id=case, reason="Load test", now=NOW)
    assert done == seen and done.charged_micro == 899_000 * PRICE_MICRO_PER_WH
    assert charged_wh(account) == 899_000
    assert rows("SELECT state, closed_by, close_reason FROM vee_case") == [
        ("released", here.administrator.code, "Load test")
    ]
    # The watermark has moved: the next reading goes on from there.
    assert here.read("M-101", hours(2), 900_500) is Verdict.ACCEPTED
    with pytest.raises(HeldRefused) as twice:
        release_reading(actor=here.administrator, case_id=case, reason="Again", now=NOW)
    assert twice.value.reason == "closed"
    assert charged_wh(account) == 899_500


def test_a_register_that_runs_backwards_is_never_released(here: World) -> None:
    here.read("M-101", hours(1), 2_000)
    assert here.read("M-101", hours(2), 1_500) is Verdict.BACKWARDS
    case, before = _case(), snapshot()
    with pytest.raises(HeldRefused) as refused:
        release_reading(actor=here.administrator, case_id=case, reason="I say so", now=NOW)
    assert refused.value.reason == "mdm.vee.backwards" and snapshot() == before
    discard_reading(actor=here.administrator, case_id=case, reason="Misread", now=NOW)
    assert rows("SELECT state, close_reason FROM vee_case") == [("discarded", "Misread")]
    assert charged_wh(here.accounts["1001"]) == 1_000


def test_a_reason_is_needed_and_printable(here: World) -> None:
    here.read("M-101", hours(1), 900_000)
    for reason in ("", "   ", "x" * 201, "a\nb"):
        for decide in (release_reading, discard_reading):
            with pytest.raises(HeldRefused) as refused:
                decide(actor=here.administrator, case_id=_case(), reason=reason, now=NOW)
            assert refused.value.reason == "no_reason"


@pytest.mark.parametrize("duty", [Duty.OPERATOR, Duty.AUDITOR])
def test_only_an_administrator_decides_and_at_their_own_property(here: World, duty: Duty) -> None:
    here.read("M-101", hours(1), 900_000)
    case, before = _case(), snapshot()
    outsider = Actor("user:9", Duty.ADMINISTRATOR, (here.property_id + 1,))
    for decide in (release_reading, discard_reading):
        with pytest.raises(PermissionRefused):
            decide(
                actor=Actor("user:8", duty, (here.property_id,)), case_id=case, reason="r", now=NOW
            )
        with pytest.raises(HeldRefused) as refused:
            decide(actor=outsider, case_id=case, reason="r", now=NOW)
        assert refused.value.reason == "unknown"
    assert snapshot() == before


def _held(here: World, *values: int) -> list[int]:
    """Readings of M-101, an hour apart, each held because of the first."""
    for hour, value in enumerate(values, 1):
        here.read("M-101", hours(hour), value)
    return [int(row[0]) for row in rows("SELECT case_id FROM vee_case ORDER BY read_at")]


def test_readings_held_because_of_an_earlier_one_are_released_with_it(here: World) -> None:
    cases = _held(here, 900_000, 900_300, 900_700)
    assert len(cases) == 3
    before, account = snapshot(), here.accounts["1001"]
    # Whatever order they are asked for in, they go by when they were read.
    looked = look_at_releases(actor=here.administrator, case_ids=cases[::-1], now=NOW)
    assert snapshot() == before
    assert [each.charged_micro for each in looked if isinstance(each, Released)] == [
        wh * PRICE_MICRO_PER_WH for wh in (899_000, 300, 400)
    ]
    done = release_readings(
        actor=here.administrator, case_ids=cases[::-1], reason="Load test", now=NOW
    )
    assert done == looked and charged_wh(account) == 899_700
    assert rows("SELECT DISTINCT state, close_reason FROM vee_case") == [("released", "Load test")]
    assert rows("SELECT count(*) FROM audit_event WHERE code = 'mdm.reading.released'") == [(3,)]
    with pytest.raises(HeldRefused) as twice:
        release_readings(actor=here.administrator, case_ids=cases, reason="Again", now=NOW)
    assert twice.value.reason == "closed" and charged_wh(account) == 899_700


def test_of_several_none_is_released_where_one_cannot_be(here: World) -> None:
    cases = _held(here, 900_000, 500, 900_700)
    before = snapshot()
    looked = look_at_releases(actor=here.administrator, case_ids=cases, now=NOW)
    assert [isinstance(each, Released) for each in looked] == [True, False, True]
    with pytest.raises(HeldRefused) as refused:
        release_readings(actor=here.administrator, case_ids=cases, reason="All of it", now=NOW)
    assert refused.value.reason == "mdm.vee.backwards" and refused.value.case_id == cases[1]
    assert snapshot() == before
    ones = [cases[0], cases[2]]
    release_readings(actor=here.administrator, case_ids=ones, reason="Without it", now=NOW)
    assert charged_wh(here.accounts["1001"]) == 899_700
    assert rows("SELECT state FROM vee_case WHERE case_id = %s", cases[1]) == [("held",)]


def test_several_are_discarded_all_or_none_and_by_whom_it_behoves(here: World) -> None:
    cases, before = _held(here, 900_000, 900_300), snapshot()
    for wrong in ([], [*cases, max(cases) + 1], list(range(1, TOGETHER_MAX + 2))):
        with pytest.raises(HeldRefused):
            discard_readings(actor=here.administrator, case_ids=wrong, reason="Away", now=NOW)
    for decide in (release_readings, discard_readings):
        with pytest.raises(PermissionRefused):
            decide(actor=here.operator, case_ids=cases, reason="Away", now=NOW)
    assert snapshot() == before
    discard_readings(actor=here.administrator, case_ids=cases, reason="Away", now=NOW)
    assert rows("SELECT DISTINCT state FROM vee_case") == [("discarded",)]
    assert charged_wh(here.accounts["1001"]) == 0


def test_a_look_waits_for_nobody_and_keeps_nobody_waiting(here: World, database: str) -> None:
    cases, account = _held(here, 900_000, 900_300, 900_700), here.accounts["1001"]
    rows("SET lock_timeout = '1s'")
    with psycopg.connect(database) as busy:
        busy.execute("SELECT FROM account_state WHERE account_id = %s FOR UPDATE", [account])
        busy.execute("SELECT FROM meter_state WHERE account_id = %s FOR UPDATE", [account])
        looked = look_at_releases(actor=here.administrator, case_ids=cases, now=NOW)
        assert [isinstance(each, Released) for each in looked] == [True] * 3
        with pytest.raises(psycopg.errors.LockNotAvailable):
            release_readings(actor=here.administrator, case_ids=cases, reason="Now", now=NOW)
    with transaction.atomic():
        look_at_releases(actor=here.administrator, case_ids=cases, now=NOW)
        with psycopg.connect(database) as other:
            other.execute("SET lock_timeout = '1s'")
            other.execute("UPDATE account_state SET updated_at = updated_at")


@pytest.mark.parametrize("seed", range(4))
def test_a_look_says_of_each_reading_what_a_release_of_one_after_another_does(
    here: World, seed: int
) -> None:
    """Registers that rise, fall, repeat, come late and were read by a person, of two meters."""
    random = Random(seed)
    here.read("M-101", hours(40), 40_000)
    here.read("M-101", hours(2), 20_000)
    for number in range(14):
        rows(
            """INSERT INTO vee_case (property_id, meter_id, account_id, register_code, read_at, value_wh,
                   source, received_at, verdict, reason, watermark_at, watermark_wh)
               SELECT property_id, meter_id, account_id, %s, %s, %s, %s, %s, 5, 'mdm.vee.implausible',
                      last_at, last_value_wh
               FROM meter_state WHERE meter_id = %s AND register_code = 1
               ON CONFLICT DO NOTHING""",
            random.choice([1, 1, 1, 1, 2]),
            hours(random.choice([random.uniform(1, 60), 40, 2, 50])),
            random.choice([random.randrange(15_000, 45_000), 900_000 + 50 * number, 40_000]),
            random.choice([int(ReadingSource.METER), int(ReadingSource.MANUAL)]),
            NOW,
            here.meters[random.choice(["M-101", "M-101", "M-102"])],
        )
    cases = [int(row[0]) for row in rows("SELECT case_id FROM vee_case WHERE state = 'held'")]
    for sort in SORTS:
        _pages_are_the_list(here, sort)
    before = snapshot()
    looked = look_at_releases(actor=here.administrator, case_ids=cases, now=NOW)
    assert snapshot() == before
    one_by_one = _released_one_by_one(here, cases)
    assert [_name(each) for each in looked] == [_name(each) for each in one_by_one]
    # Late readings that divide one interval share what it comes to, so sums are compared.
    assert _charges(looked) == _charges(one_by_one)
    ready = [each.case_id for each in looked if isinstance(each, Released)]
    held = available(here.accounts["1001"]) + available(_vacancy(here))
    done = release_readings(actor=here.administrator, case_ids=ready, reason="All", now=NOW)
    left = available(here.accounts["1001"]) + available(_vacancy(here))
    assert done == tuple(each for each in looked if isinstance(each, Released))
    assert held - left == _charges(done)


def _pages_are_the_list(here: World, sort: str) -> None:
    """Walked to its end and back, in pages of three."""

    def page(after: str = "", before: str = "", limit: int = 3) -> Listing[HeldRow]:
        return held_list(
            actor=here.administrator, now=NOW, sort=sort, page=Page.of(after, before, limit)
        )

    whole = page(limit=100).rows
    found = [page()]
    while found[-1].beside.next:
        found.append(page(after=found[-1].beside.next))
    assert [row for each in found for row in each.rows] == list(whole) and len(found) > 3
    assert {each.total for each in found} == {len(whole)}
    back = [found[-1]]
    while back[-1].beside.previous:
        back.append(page(before=back[-1].beside.previous))
    assert [each.rows for each in back[::-1]] == [each.rows for each in found]


def _released_one_by_one(here: World, cases: Sequence[int]) -> list[Released | HeldRefused]:
    """Each by itself in the order in which they were read, and all of it taken back."""
    order = rows(
        "SELECT case_id FROM vee_case WHERE case_id = ANY(%s) ORDER BY meter_id, register_code, read_at, case_id",
        cases,
    )
    found: list[Released | HeldRefused] = []
    with transaction.atomic():
        for (case,) in order:
            try:
                found.append(
                    release_reading(
                        actor=here.administrator, case_id=int(case), reason="one", now=NOW
                    )
                )
            except HeldRefused as refused:
                found.append(refused)
        transaction.set_rollback(True)
    return found


def _name(outcome: Released | HeldRefused) -> str:
    return outcome.verdict if isinstance(outcome, Released) else outcome.reason


def _charges(outcomes: Sequence[Released | HeldRefused]) -> int:
    return sum(each.charged_micro for each in outcomes if isinstance(each, Released))


def _vacancy(here: World) -> int:
    return int(
        rows("SELECT account_id FROM meter_state WHERE meter_id = %s", here.meters["M-102"])[0][0]
    )
