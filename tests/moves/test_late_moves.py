"""Moves that are written down late: usage after the boundary changes its payer, and nothing is lost.

What each account should have been charged is worked out twice without the code under test: by the
exact model, Wh by Wh in fractions, and, for charges by the day, by a twin in which the move was
written down on time. ``PREWATT_TEST_LIVES`` sets how many random lives are tried.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from math import floor
from random import Random
from typing import Any, Final

import pytest
from django.db import connection
from tests.billing import days_world
from tests.billing.test_rerating import EXTRAS, stepped
from tests.core.exact_model import ExactCustomer, ExactPrices, ExactUsage
from tests.estate.tables import NOW
from tests.invariants.places import one, pay, place, post, send, wish
from tests.moves.world import (
    PRICE_MICRO_PER_WH,
    World,
    available,
    charged_wh,
    hours,
    rows,
    snapshot,
    tenant,
    world,
)

from prewatt.access.scope import system_actor
from prewatt.billing.tasks import rate_anew
from prewatt.core.accounts import TransferKind
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.vee import HELD_VERDICTS, Verdict
from prewatt.ledger.operations import PeriodClosed, close_period
from prewatt.moves import edits
from prewatt.moves import operations as moves
from prewatt.moves.foresight import foresee
from prewatt.moves.words import (
    MeterSilent,
    MovedIn,
    MovedOut,
    RegisterRefused,
    TenantChanged,
    TooEarly,
)
from prewatt.reports.books import check_books
from prewatt.vending.operations import Recharged, recharge

pytestmark = pytest.mark.usefixtures("database")

LIVES: Final = int(os.environ.get("PREWATT_TEST_LIVES", "3"))


def out(here: World, at: datetime, value_wh: int | None, key: str = "out") -> MovedOut:
    return moves.move_out(
        actor=here.administrator, unit_id=here.units["101"], at=at, key=key, now=NOW,
        closing=None if value_wh is None else here.register("M-101", value_wh),
    )  # fmt: skip


def come(here: World, at: datetime, value_wh: int | None, key: str = "in") -> MovedIn:
    return moves.move_in(
        actor=here.administrator, unit_id=here.units["101"], at=at, key=key, now=NOW,
        tenant=tenant(), opening=None if value_wh is None else here.register("M-101", value_wh),
    )  # fmt: skip


def change(here: World, at: datetime, value_wh: int | None, key: str = "change") -> TenantChanged:
    return moves.tenant_change(
        actor=here.administrator, unit_id=here.units["101"], at=at, key=key, now=NOW,
        tenant=tenant(), registers=None if value_wh is None else here.register("M-101", value_wh),
    )  # fmt: skip


def books_hold(here: World) -> None:
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []


def test_usage_after_a_tenant_left_goes_to_the_owner(database: str) -> None:
    here = world()
    for hour in range(1, 21):
        here.read("M-101", hours(hour), 1_000 + 500 * hour)
    post_usage_of(here)
    former = here.accounts["1001"]
    moved = out(here, hours(10), 6_000)
    vacancy = moved.vacancy_account_id
    assert (charged_wh(former), charged_wh(vacancy)) == (5_000, 5_000)
    assert moved.balance_left_micro == available(former)
    assert available(former) == 25_500_000 - 5_000 * PRICE_MICRO_PER_WH
    assert available(vacancy) == -5_000 * PRICE_MICRO_PER_WH
    assert (moved.passed_wh, moved.passed_back_micro, moved.passed_on_micro) == (
        5_000, 1_250_000, 1_250_000,
    )  # fmt: skip
    # The meter goes on where it was, for the owner; and repeats of its backlog change nothing.
    assert here.read("M-101", hours(21), 11_600) is Verdict.ACCEPTED
    assert here.read("M-101", hours(15), 8_500) is Verdict.DUPLICATE
    assert charged_wh(vacancy) == 5_600
    books_hold(here)


def post_usage_of(here: World) -> None:
    post(here)


def test_every_row_that_is_taken_back_names_what_it_takes_back(database: str) -> None:
    here = world()
    for hour in range(1, 21):
        here.read("M-101", hours(hour), 1_000 + 500 * hour)
    post(here)
    former = here.accounts["1001"]
    was = rows("SELECT t::text FROM transfer t WHERE account_id = %s ORDER BY seq", former)
    intervals = rows("SELECT i::text FROM interval i WHERE account_id = %s", former)
    out(here, hours(10), 6_000)
    now = rows("SELECT t::text FROM transfer t WHERE account_id = %s ORDER BY seq", former)
    assert now[: len(was)] == was, "history never changes"
    assert set(intervals) <= set(
        rows("SELECT i::text FROM interval i WHERE account_id = %s", former)
    )
    back = rows(
        """SELECT t.amount, t.reason, c.kind FROM transfer t
           JOIN transfer c ON c.account_id = t.account_id AND c.event_id = t.corrects_event_id
               AND c.seq = t.corrects_seq
           WHERE t.account_id = %s AND t.seq > %s""",
        former, len(was),
    )  # fmt: skip
    assert sum(amount for amount, *_ in back) == 5_000 * PRICE_MICRO_PER_WH
    assert len(back) == len(now) - len(was)
    assert {reason for _, reason, _ in back} == {"late_move"}
    assert rows(
        """SELECT count(*), sum(energy_wh) FROM interval
           WHERE account_id = %s AND segment >= 10000""",
        former,
    ) == [(10, -5_000)]
    # The customer is told.
    assert rows(
        "SELECT account_id, detail ->> 'returned_micro' FROM message WHERE code = 'billing.corrected'"
    ) == [(former, "1250000")]


def test_a_register_that_nobody_read_is_interpolated_pro_rata(database: str) -> None:
    here = world()
    here.read("M-101", hours(6), 4_000)
    here.read("M-101", hours(9), 7_001)
    changed = change(here, hours(7), None)
    former = here.accounts["1001"]
    # A third of 3,001 counts, cut off; both halves say that they are estimates.
    assert (charged_wh(former), charged_wh(changed.account_id)) == (4_000, 2_001)
    assert rows("SELECT value_wh, quality FROM register_reading WHERE read_at = %s", hours(7)) == [
        (5_000, 2)
    ]
    assert rows(
        """SELECT account_id, energy_wh, quality FROM interval
           WHERE segment < 10000 AND to_at > %s AND (account_id, revision) IN ((%s, 1), (%s, 0))
           ORDER BY from_at""",
        hours(6), former, changed.account_id,
    ) == [(former, 1_000, 2), (changed.account_id, 2_001, 2)]  # fmt: skip
    assert rows(
        "SELECT start_value_wh FROM meter_assignment WHERE account_id = %s", changed.account_id
    ) == [(5_000,)]
    assert available(changed.account_id) == changed.available_micro == -2_001 * PRICE_MICRO_PER_WH
    books_hold(here)


def test_a_move_at_a_reading_takes_its_register_and_no_other(database: str) -> None:
    here = world()
    for hour in (1, 2, 3):
        here.read("M-101", hours(hour), 1_000 + 500 * hour)
    before = snapshot()
    with pytest.raises(RegisterRefused) as refused:
        change(here, hours(2), 2_001)
    assert refused.value.verdict == "mdm.vee.conflict"
    assert snapshot() == before
    changed = change(here, hours(2), None)
    assert charged_wh(changed.account_id) == 500
    # Nothing of the former tenant's own hours was touched.
    assert rows(
        "SELECT count(*) FROM interval WHERE account_id = %s AND segment >= 10000 AND from_at < %s",
        here.accounts["1001"], hours(2),
    ) == [(0,)]  # fmt: skip


@pytest.mark.parametrize("value_wh", [2_499, 3_001, -1, 10**9])
def test_a_boundary_that_the_readings_around_it_contradict_is_refused(
    database: str, value_wh: int
) -> None:
    here = world()
    here.read("M-101", hours(5), 2_500)
    here.read("M-101", hours(6), 3_000)
    before = snapshot()
    with pytest.raises(RegisterRefused):
        out(here, hours(5.5), value_wh)
    assert snapshot() == before


def test_no_boundary_lies_before_its_payer_a_device_or_open_books(database: str) -> None:
    here = world()
    here.read("M-101", hours(50), 3_000)
    change(here, hours(20), None, "a")
    before = snapshot()
    for at in (hours(20), hours(19)):
        with pytest.raises(TooEarly) as early:
            change(here, at, None, "b")
        assert early.value.earliest == hours(20) + timedelta(microseconds=1)
    close_period(
        actor=system_actor("close", (here.property_id,)), property_id=here.property_id,
        open_from=date(2026, 11, 3), now=NOW,
    )  # fmt: skip
    with pytest.raises(PeriodClosed):
        change(here, hours(30), None, "b")
    with pytest.raises(MeterSilent):
        change(here, hours(51), None, "b")
    changed = snapshot()
    assert {name: changed[name] for name in before if name != "audit_event"} == {
        name: before[name] for name in before if name != "audit_event"
    }
    assert change(here, hours(49), None, "b").passed_wh == 40


def test_late_and_repeated_it_moves_once(database: str) -> None:
    here = world()
    here.read("M-101", hours(5), 3_500)
    first = change(here, hours(2), None)
    before = snapshot()
    again = change(here, hours(2), None)
    assert again.repeated and again.passed_wh == first.passed_wh == 1_500
    assert snapshot() == before


def test_recharges_and_decisions_stay_with_who_made_them(database: str) -> None:
    here = world()
    here.read("M-101", hours(10), 3_000)
    former = here.accounts["1001"]
    assert isinstance(pay(here, "k", 7_000_000), Recharged)
    here.read("M-101", hours(20), 120_000)
    decided = rows("SELECT d::text FROM supply_decision d WHERE account_id = %s", former)
    changed = change(here, hours(10), None)
    kept = rows("SELECT d::text FROM supply_decision d WHERE account_id = %s", former)
    assert kept[: len(decided)] == decided
    assert available(former) == 25_500_000 + 7_000_000 - 2_000 * PRICE_MICRO_PER_WH
    assert available(changed.account_id) == -117_000 * PRICE_MICRO_PER_WH
    assert rows(
        "SELECT account_id, amount FROM transfer WHERE kind = 2 AND reason NOT LIKE 'import%%'"
    ) == [(former, 7_000_000)]


def test_what_will_be_moved_is_foreseen_and_nothing_is_left_of_looking(database: str) -> None:
    here = world()
    for hour in range(1, 21):
        here.read("M-101", hours(hour), 1_000 + 500 * hour)
    post(here)
    before = snapshot()
    seen = foresee(
        actor=here.administrator, unit_id=here.units["101"],
        deed=lambda key: out(here, hours(10.5), None, key), at_of=lambda each: each.effective_at,
    )  # fmt: skip
    assert snapshot() == before
    former = seen.accounts[here.accounts["1001"]]
    assert seen.answer.passed_wh == 4_750
    assert seen.answer.passed_back_micro == 4_750 * PRICE_MICRO_PER_WH
    assert former.after_micro - former.before_micro == seen.answer.passed_back_micro
    assert former.taken_back == () and former.charged_micro == seen.answer.passed_back_micro
    assert [each.boundary_wh for each in seen.registers] == [6_250]


def test_a_reading_that_changed_its_payer_is_edited_on_the_new_ones_account(database: str) -> None:
    here = world()
    for hour in range(1, 9):
        here.read("M-101", hours(hour), 1_000 + 500 * hour)
    changed = change(here, hours(3), None)
    edited = edits.edit_reading(
        actor=system_actor("owner", (here.property_id,)), meter_id=here.meters["M-101"], register_code=1,
        read_at=hours(6), value_wh=4_100, reason="A photo shows it", proof="IMG 7", key="e",
        now=NOW,
    )  # fmt: skip
    assert edited.account_id == changed.account_id
    assert charged_wh(changed.account_id) == 2_500
    books_hold(here)


# --- random lives against the exact model ---

AUTUMN: Final = datetime(2026, 10, 22, 22, 0, tzinfo=UTC)
CHARGES: Final = ("energy", "fee", "tax", "subsidy")


@dataclass
class Life:
    """A unit's readings as its meter counted them, with the boundaries, and who paid when."""

    here: World
    random: Random
    document: dict[str, Any]
    known: dict[int, int] = field(default_factory=lambda: {instant_us(AUTUMN): 1_000})
    payers: list[tuple[int, int]] = field(default_factory=list)
    recharges: dict[int, list[int]] = field(default_factory=dict)
    let: bool = True
    moved: int = 0

    @property
    def holder(self) -> int:
        return self.payers[-1][1]

    def exact(self) -> dict[int, ExactUsage]:
        """What everybody owes, in the order of time; a count that carries goes on with the unit."""
        steps = self.document["energy"]["steps"]
        carries = steps.get("on_tenant_change") == "carry" and steps["window"] != "purchase"
        prices = ExactPrices("Europe/Berlin", [(0, self.document)])
        models: dict[int, ExactUsage] = {}
        points, former = sorted(self.known.items()), None
        ends = [at for at, _ in self.payers[1:]] + [points[-1][0]]
        for (begin, account), end in zip(self.payers, ends, strict=True):
            customer = ExactCustomer(
                terms=[(0, 1, 0)], recharges=sorted(self.recharges.get(account, []))
            )
            model = models.setdefault(account, ExactUsage(prices, customer))
            if carries and former is not None and former.window >= max(model.window, 1):
                model.window, model.counts = former.window, dict(former.counts)
            own = [each for each in points if begin <= each[0] <= end]
            for (start, low), (until, high) in pairwise(own):
                model.use(start, until, high - low)
            former = model
        return models


def begin_life(seed: int) -> Life:
    random = Random(seed)
    document = stepped(random, extras=False)
    document["energy"]["steps"]["on_tenant_change"] = random.choice(["carry", "reset"])
    document |= {name: EXTRAS[name] for name in EXTRAS if random.random() < 0.6}
    here = place("2026-10-23T00:00", document)
    life = Life(here, random, document)
    life.payers.append((instant_us(AUTUMN), here.accounts["1001"]))
    return life


def report(life: Life, count: int) -> None:
    """The meter goes on; batches, postings and recharges come in between."""
    at_us, value = max(life.known.items())
    fresh = []
    for _ in range(count):
        at_us += life.random.choice([900, 3_600, 3_600, 17_777, 50_000]) * 1_000_000
        value += life.random.choice(
            [0, 1, life.random.randrange(400), life.random.randrange(4_000)]
        )
        fresh.append((at_us, value))
    while fresh:
        size = life.random.randrange(1, 9)
        batch, fresh = fresh[:size], fresh[size:]
        life.known |= dict(batch)
        sent = [("M-101", utc_datetime(at), value) for at, value in batch]
        assert not HELD_VERDICTS & set(send(life.here, sent))
        what = life.random.randrange(5)
        if what == 0:
            post(life.here, until=life.random.choice([NOW, utc_datetime(batch[0][0])]))
        elif what == 1 and life.let:
            buy(life, batch[-1][0] + life.random.randrange(600_000_000))


def buy(life: Life, at_us: int) -> None:
    when = utc_datetime(at_us)
    key = f"{life.here.property_id}:{life.moved}:{when.isoformat()}"
    wanted = wish(life.here, key, account=life.holder)
    (answer,) = recharge(
        actor=life.here.operator, now=when,
        recharges=[type(wanted)(**{**as_dict(wanted), "paid_at": when})],
    )  # fmt: skip
    assert isinstance(answer, Recharged)
    life.recharges.setdefault(life.holder, []).append(at_us)


def as_dict(wanted: Any) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in wanted.__dataclass_fields__}


def move_late(life: Life) -> None:
    """Somebody went or came a while ago, at a reading or between two, read or not."""
    begin, last = life.payers[-1][0], max(life.known)
    inside = [at for at in life.known if begin < at < last]
    at_us = life.random.randrange(begin + 1, last)
    if inside and life.random.random() < 0.4:
        at_us = life.random.choice(inside)
    value, is_given = register(life, at_us)
    if is_given and not is_credible(life, at_us, value):
        value, is_given = interpolated(life, at_us), False
    life.moved += 1
    key = f"{life.here.property_id}:{life.moved}"
    given = value if is_given else None
    if not life.let:
        answer: Any = come(life.here, utc_datetime(at_us), given, key)
        holder, life.let = answer.account_id, True
    elif life.random.random() < 0.5:
        answer = out(life.here, utc_datetime(at_us), given, key)
        holder, life.let = answer.vacancy_account_id, False
    else:
        answer = change(life.here, utc_datetime(at_us), given, key)
        holder = answer.account_id
    life.payers.append((at_us, holder))
    after = max(life.known.values()) - value
    life.known[at_us] = value
    assert answer.passed_wh == after


def register(life: Life, at_us: int) -> tuple[int, bool]:
    """(register at an instant, whether somebody read it)."""
    if at_us in life.known:
        return life.known[at_us], life.random.random() < 0.5
    if life.random.random() < 0.5:
        return interpolated(life, at_us), False
    return life.random.randint(*(value for _, value in around(life, at_us))), True


def around(life: Life, at_us: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The readings before and after an instant."""
    before = max(each for each in life.known.items() if each[0] < at_us)
    return before, min(each for each in life.known.items() if each[0] > at_us)


def interpolated(life: Life, at_us: int) -> int:
    if at_us in life.known:
        return life.known[at_us]
    (before, low), (after, high) = around(life, at_us)
    return low + (high - low) * (at_us - before) // (after - before)


def is_credible(life: Life, at_us: int, value: int) -> bool:
    """Whether the meter can have counted so much in so short a time."""
    if at_us in life.known:
        return True
    (before, low), (after, high) = around(life, at_us)
    return (value - low) * 3_600e6 <= 20_000 * (at_us - before) and (
        high - value
    ) * 3_600e6 <= 20_000 * (after - at_us)


def compare(life: Life) -> None:
    models = life.exact()
    for account, model in models.items():
        sums = {
            name: int(one(
                f"SELECT coalesce(sum(charge_{name}), 0) FROM interval WHERE account_id = %s",
                account,
            ))
            for name in CHARGES
        }  # fmt: skip
        assert charged_wh(account) == sum(each.energy_wh for each in model.parts)
        assert sums == {name: floor(getattr(model, name)) for name in CHARGES}
    assert sum(map(charged_wh, models)) == max(life.known.values()) - 1_000
    books_hold(life.here)


@pytest.mark.parametrize("seed", range(LIVES))
def test_late_moves_leave_everybody_with_the_exact_models_cents(database: str, seed: int) -> None:
    life = begin_life(seed)
    for _ in range(life.random.randrange(2, 5)):
        report(life, life.random.randrange(3, 25))
        move_late(life)
        compare(life)
    report(life, life.random.randrange(1, 10))
    rate_anew(now=NOW)
    compare(life)
    for each in {account for _, account in life.payers}:
        life.here.accounts[f"posted-{each}"] = each  # type: ignore[index]
    post(life.here)
    compare(life)


# --- charges by the day, against a twin that was told on time ---

BY_DAYS: Final = {
    "standing": {"per_day": "0.3333333"},
    "fees": [
        {
            "code": "service",
            "label": "Service",
            "per_month": "4.9000001",
            "collect": "first_recharge",
        },
        {"code": "upkeep", "label": "Upkeep", "per_kwh": "0.0111111"},
    ],
    "demand": [{"code": "peak", "per_kw": "3.3333333", "interval_minutes": 60}],
    "minimum": {"per_month": "40"},
    "taxes": [{"code": "vat", "rate": "19"}],
}


def told(here: World, *, moved: int, late: bool, seed: int) -> int:
    """Three weeks of readings, postings and a recharge, with a change of tenants at one of the
    readings; returns the new account.
    """
    random, value, account = Random(seed), 1_000, 0
    opened = days_world.local("2026-10-26T00:00")
    for number in range(1, 43):
        at = opened + timedelta(hours=12 * number)
        value += random.randrange(18_000)
        if number == moved and not late:
            account = change(here, at, value, f"t{here.property_id}").account_id
        else:
            assert here.read("M-101", at, value) is Verdict.ACCEPTED
        if number == moved:
            boundary = at, value
        # One who is not known to have left may still pay in, and pays what a recharge collects.
        if number == 5 or (late and number == moved + 3):
            wanted = wish(here, f"{here.property_id}:{number}")
            (sold,) = recharge(
                actor=here.operator, now=at,
                recharges=[type(wanted)(**{**as_dict(wanted), "paid_at": at})],
            )  # fmt: skip
            assert isinstance(sold, Recharged)
        if number % 6 == 0:
            days_world.night(f"{at + timedelta(hours=2):%Y-%m-%d}")
    if late:
        account = change(here, *boundary, f"t{here.property_id}").account_id
    rate_anew(now=NOW)
    days_world.night("2026-11-17")
    return account


#: At the beginning of a month, and within one, before and after the recharge.
MOVED: Final = (12, 15) if LIVES < 10 else (6, 12, 15, 31, 38)


@pytest.mark.parametrize("moved", MOVED)
def test_what_falls_due_by_days_is_as_if_the_move_had_been_told_on_time(
    database: str, moved: int
) -> None:
    """A standing charge, a fee that recharges collect, demand, a minimum bill and tax."""
    booked = []
    for late in (False, True):
        here = days_world.place(days_world.plan(**BY_DAYS), "2026-10-26T00:00")
        new = told(here, moved=moved, late=late, seed=moved)
        former = here.accounts["1001"]
        books_hold(here)
        booked.append(
            [
                {
                    (component, code): int(amount)
                    for component, code, amount in rows(
                        """SELECT component, code, sum(amount) FROM transfer
                           WHERE account_id = %s AND kind <> %s GROUP BY 1, 2""",
                        account,
                        int(TransferKind.RECHARGE),
                    )
                }
                for account in (former, new)
            ]
        )
    for on_time, late_told in zip(*booked, strict=True):
        kinds = on_time.keys() | late_told.keys()
        differences = {
            each: late_told.get(each, 0) - on_time.get(each, 0)
            for each in kinds
            if abs(late_told.get(each, 0) - on_time.get(each, 0)) > 40
        }
        assert differences == {}
