"""Demand by days: what was measured, what is billed of it, and what late readings change."""

from __future__ import annotations

from calendar import monthrange
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from math import floor
from random import Random
from typing import Any

import numpy as np
import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.billing.days_world import (
    BERLIN,
    charged,
    legs,
    local,
    night,
    place,
    plan,
    total,
    version,
)
from tests.invariants.places import rows, send
from tests.moves.world import World

import prewatt.moves.operations as moves
from cases import cases
from prewatt.core.civil_time import instant_us
from prewatt.core.rating import Component
from prewatt.core.readings import ReadingBatch
from prewatt.mdm.operations import keep_readings
from prewatt.reports.books import check_books

pytestmark = pytest.mark.usefixtures("database")

PRICE = Fraction("7.777777")
DEMAND: dict[str, Any] = {"code": "peak", "per_kw": "7.777777", "interval_minutes": 15}


def quarter(here: World, at: datetime, wh: int, serial: str = "M-101") -> None:
    """A quarter-hour that ends at ``at``, in which the meter counted so many Wh."""
    known = rows(
        "SELECT last_at, last_value_wh FROM meter_state WHERE meter_id = %s ORDER BY last_at DESC",
        here.meters[serial],
    )[0]
    before = at - timedelta(minutes=15)
    readings = [] if known[0] >= before else [(serial, before, known[1])]
    send(here, [*readings, (serial, at, known[1] + wh)], now=at)


def month(watt: int, days: int, of: int = 30) -> int:
    """A month's charge through so many days, in micro-units."""
    return floor(Fraction(watt, 1000) * PRICE * 1_000_000 * days / of)


def peaks(account: int) -> dict[int, int]:
    """Day of the month → highest power."""
    return {
        (datetime.fromisoformat("1970-01-01") + timedelta(days=day)).day: peak
        for day, peak in rows(
            "SELECT local_day, peak_w FROM demand_day WHERE account_id = %s ORDER BY 1", account
        )
        if peak
    }


def books_hold(here: World) -> None:
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []
        cursor.execute(
            """SELECT account_id, code FROM demand_day GROUP BY 1, 2 HAVING sum(posted) <> (
               SELECT coalesce(-sum(amount), 0) FROM transfer t WHERE t.component = 5
               AND t.account_id = demand_day.account_id AND t.code = demand_day.code)"""
        )
        assert cursor.fetchall() == []


def test_a_month_falls_due_by_days_and_rises_with_its_highest_power() -> None:
    here = place(plan(demand=[DEMAND]))
    account = here.accounts["1001"]
    quarter(here, local("2026-11-02T10:00"), 500)
    night("2026-11-03")
    assert peaks(account) == {2: 2_000}
    assert total(account, Component.DEMAND) == month(2_000, 2)
    quarter(here, local("2026-11-10T18:15"), 1_250)
    for day in range(4, 31):
        night(f"2026-11-{day:02d}")
        highest = 5_000 if day > 10 else 2_000
        assert total(account, Component.DEMAND) == month(highest, day - 1), day
    night("2026-12-01")
    assert total(account, Component.DEMAND) == floor(5 * PRICE * 1_000_000)
    assert {each[4].day for each in legs(account)} == set(range(2, 31)), "day 1 had no demand"
    night("2026-12-02")
    assert total(account, Component.DEMAND) == floor(5 * PRICE * 1_000_000), "a month of its own"
    books_hold(here)


def test_one_run_for_a_month_is_thirty_runs() -> None:
    daily, at_once = place(plan(demand=[DEMAND])), place(plan(demand=[DEMAND]))
    for here in (daily, at_once):
        for day, wh in ((2, 400), (3, 300), (20, 1_000), (28, 999)):
            quarter(here, local(f"2026-11-{day:02d}T07:30"), wh)
    for here in (daily, at_once):
        rows("UPDATE account_state SET daily_through = daily_through WHERE property_id = %s",
             here.property_id)  # fmt: skip
    # The worker posts every place at once, so one of them is kept out of its sight.
    rows("UPDATE account SET opened_at = opened_at + interval '1 year' WHERE property_id = %s",
         at_once.property_id)  # fmt: skip
    for day in range(2, 31):
        night(f"2026-11-{day:02d}")
    rows("UPDATE account SET opened_at = opened_at - interval '1 year' WHERE property_id = %s",
         at_once.property_id)  # fmt: skip
    night("2026-12-01")
    days = [
        [(each[2], each[3], each[4]) for each in legs(here.accounts["1001"])]
        for here in (daily, at_once)
    ]
    assert days[0] == days[1]


def test_several_meters_of_an_account_count_together_and_bands_and_ratchets_count() -> None:
    document = plan(demand=[
        {**DEMAND, "code": "day", "bands": ["day"], "ratchet": {"share": "50", "months": 2}},
        {**DEMAND, "code": "any", "per_kw": "1"},
    ])  # fmt: skip
    document["energy"] = {
        "unit": "kWh",
        "bands": {"day": {"price": "0.3"}, "night": {"price": "0.1"}},
        "schedule": [{"periods": [
            {"from": "00:00", "until": "06:00", "band": "night"},
            {"from": "06:00", "until": "24:00", "band": "day"},
        ]}],
    }  # fmt: skip
    here = place(document)
    account = here.accounts["1001"]
    quarter(here, local("2026-11-05T03:00"), 2_000)
    quarter(here, local("2026-11-06T12:00"), 1_000)
    night("2026-12-01")
    assert charged(account, Component.DEMAND) == {
        ("DEMAND", "day"): month(4_000, 30), ("DEMAND", "any"): 8_000_000,
    }  # fmt: skip
    # December stays low and is billed for half of November; the other charge has no ratchet.
    quarter(here, local("2026-12-03T12:00"), 100)
    night("2027-01-01")
    assert charged(account, Component.DEMAND) == {
        ("DEMAND", "day"): month(4_000, 30) + month(2_000, 31, 31),
        ("DEMAND", "any"): 8_400_000,
    }  # fmt: skip
    # Two months later nobody remembers November, and the half of December's is less.
    night("2027-03-01")
    both = month(2_000, 31, 31), month(200, 28, 28)
    assert charged(account, Component.DEMAND)["DEMAND", "day"] == (
        month(4_000, 30) + both[0] * 2 + both[1]
    )
    books_hold(here)


def test_a_late_reading_moves_the_peak_and_the_difference_is_posted() -> None:
    here = place(plan(demand=[DEMAND]))
    account, serial = here.accounts["1001"], "M-101"
    end = local("2026-11-03T00:00")
    send(here, [(serial, end, 1_000 + 48_000)], now=end)
    night("2026-11-04")
    assert peaks(account) == {1: 1_000, 2: 1_000}, "an estimate across the gap"
    assert total(account, Component.DEMAND) == month(1_000, 3)
    # What was inside the gap arrives: nearly all of it was used in one hour of the second day.
    send(here, [
        (serial, local("2026-11-02T12:00"), 1_000), (serial, local("2026-11-02T13:00"), 41_000),
    ], now=local("2026-11-04T09:00"))  # fmt: skip
    night("2026-11-05")
    assert peaks(account) == {2: 40_000}
    assert total(account, Component.DEMAND) == month(40_000, 4)
    # November is over when a reading shows that even that was spread too evenly.
    night("2026-12-03")
    send(here, [(serial, local("2026-11-02T12:15"), 41_000)], now=local("2026-12-03T09:00"))
    night("2026-12-04")
    assert peaks(account) == {2: 160_000}
    assert total(account, Component.DEMAND) == month(160_000, 30)
    assert legs(account)[-1][4].isoformat() == "2026-11-30"
    books_hold(here)


def test_who_comes_and_goes_in_the_middle_pays_the_days_they_were_there() -> None:
    here = place(plan(demand=[DEMAND]), "2026-11-10T12:00")
    account = here.accounts["1001"]
    quarter(here, local("2026-11-12T12:00"), 1_000)
    night("2026-11-15")
    assert total(account, Component.DEMAND) == month(4_000, 4), "11, 12, 13 and 14"
    moves.move_out(
        actor=here.administrator, unit_id=here.units["101"], at=local("2026-11-20T10:00"),
        closing=here.register("M-101", 2_000), key="out", now=local("2026-11-20T11:00"),
    )  # fmt: skip
    assert total(account, Component.DEMAND) == month(4_000, 10), "the day they left was theirs"
    before = legs(account)
    night("2026-12-02")
    assert legs(account) == before
    books_hold(here)


def test_a_new_price_holds_for_the_days_of_its_version() -> None:
    here = place(plan(demand=[{**DEMAND, "per_kw": "30"}]))
    account = here.accounts["1001"]
    version(here, plan(demand=[{**DEMAND, "per_kw": "60"}]), local("2026-11-16T00:00"))
    quarter(here, local("2026-11-03T12:00"), 1_000)
    night("2026-12-01")
    assert total(account, Component.DEMAND) == 4 * (15 * 1_000_000 + 15 * 2_000_000)
    version(here, plan(), local("2026-12-11T00:00"))
    quarter(here, local("2026-12-20T12:00"), 5_000)
    night("2027-01-05")
    assert total(account, Component.DEMAND) == 180_000_000, "nothing was used while it held"


def reactive(here: World, at: datetime, varh: int) -> None:
    """A reading of the reactive register."""
    keep_readings(
        batch=ReadingBatch(
            meter_id=np.array([here.meters["M-101"]], dtype=np.int64),
            register_code=np.array([3], dtype=np.int64),
            read_at_us=np.array([instant_us(at)], dtype=np.int64),
            value_wh=np.array([varh], dtype=np.int64),
            source=np.array([1], dtype=np.int64),
            received_at_us=np.array([instant_us(at)], dtype=np.int64),
        ),
        now=at,
    )


@pytest.mark.parametrize("known", ["all", "one of two", "none"])
def test_a_power_factor_is_held_against_nobody_who_was_not_measured(known: str) -> None:
    here = place(plan(demand=[{**DEMAND, "power_factor": "0.9"}]))
    account = here.accounts["1001"]
    quarter(here, local("2026-11-02T00:00"), 3_000)
    quarter(here, local("2026-11-03T00:00"), 3_000)
    if known != "none":
        reactive(here, local("2026-11-02T00:00"), 70_000)
        reactive(here, local("2026-11-03T00:00"), 74_000)
    if known == "one of two":
        # The account has another meter, which does not count reactive energy.
        rows(
            """INSERT INTO meter_state SELECT (jsonb_populate_record(s,
                   jsonb_build_object('account_id', %s))).* FROM meter_state s WHERE meter_id = %s""",
            account, here.meters["M-102"],
        )  # fmt: skip
        rows(
            "UPDATE meter_assignment SET account_id = %s WHERE meter_id = %s",
            account, here.meters["M-102"],
        )  # fmt: skip
    night("2026-11-04")
    # 3 kWh beside 4 kvarh is a power factor of 0.6, so 12 kW are billed as 12 × 0.9 ÷ 0.6.
    assert total(account, Component.DEMAND) == month(18_000 if known == "all" else 12_000, 3)


def test_tax_follows_demand_and_its_corrections() -> None:
    here = place(plan(demand=[DEMAND], taxes=[{"code": "vat", "rate": "19", "on": ["demand"]}]))
    account = here.accounts["1001"]
    quarter(here, local("2026-11-02T10:00"), 777)
    for day in range(3, 12):
        night(f"2026-11-{day:02d}")
    found = charged(account)
    assert found["TAX", "vat"] == floor(Fraction(19 * found["DEMAND", "peak"], 100))


# --- against the model ---


def exact_peaks(readings: list[tuple[datetime, int]]) -> dict[date, int]:
    """Local day → highest power of a quarter-hour, from the readings alone."""
    windows: defaultdict[datetime, int] = defaultdict(int)
    for (start, low), (end, high) in pairwise(sorted(set(readings))):
        edges = [start, *_midnights(start, end), end]
        used = 0
        for a, b in pairwise(edges):
            upto = part(high - low, b - start, end - start)
            for window, wh in _quarters(a, b, upto - used):
                windows[window] += wh
            used = upto
    found: defaultdict[date, int] = defaultdict(int)
    for window, wh in windows.items():
        day = window.astimezone(BERLIN).date()
        found[day] = max(found[day], wh * 4)
    return found


def part(wh: int, upto: timedelta, of: timedelta) -> int:
    """Whole Wh up to a point in time, cut off."""
    micro = timedelta(microseconds=1)
    return floor(Fraction(wh * (upto // micro), of // micro))


def _midnights(start: datetime, end: datetime) -> list[datetime]:
    first = start.astimezone(BERLIN).date()
    days = (first + timedelta(days=n) for n in range(1, (end - start).days + 3))
    return [at for day in days if start < (at := local(f"{day}T00:00")) < end]


def _quarters(a: datetime, b: datetime, wh: int) -> list[tuple[datetime, int]]:
    """Quarter-hours of [a, b) with their part of the energy; Berlin's hours begin like UTC's."""
    window = a - (a - datetime(1970, 1, 1, tzinfo=UTC)) % timedelta(minutes=15)
    parts, used = [], 0
    while window < b:
        upto = part(wh, min(window + timedelta(minutes=15), b) - a, b - a)
        parts.append((window, upto - used))
        used, window = upto, window + timedelta(minutes=15)
    return parts


@settings(
    max_examples=cases(6),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32), opened=st.sampled_from(["2026-10-20T00:00", "2026-10-28T17:45"]))
def test_any_order_of_readings_and_runs_ends_in_the_same_bill(
    database: str, seed: int, opened: str
) -> None:
    random = Random(seed)
    bound = random.choice(["minimum", "maximum"])
    here = place(plan(
        demand=[{**DEMAND, "ratchet": {"share": "60", "months": 1}}],
        standing={"per_month": "4.44"},
        **{bound: {"per_month": str(random.choice([3, 30, 300, 3000]))}},
    ), opened)  # fmt: skip
    account, at = here.accounts["1001"], local(opened)
    truth = [(at, 1_000)]
    while at < local("2026-12-12T00:00"):
        at += timedelta(seconds=random.choice([900, 900, 1_800, 7_777, 86_400, 400_000]))
        truth.append((at, truth[-1][1] + random.randrange(1, 4_000)))
    left = sorted(truth[1:], key=lambda each: each[0] + timedelta(days=random.choice([0, 0, 0, 9])))
    day, delivered = date(2026, 11, 1), [truth[0]]
    while left:
        size = random.randrange(1, 40)
        batch, left = left[:size], left[size:]
        delivered += batch
        send(here, [("M-101", *each) for each in batch], now=local("2027-01-01T09:00"))
        day += timedelta(days=random.randrange(6))
        night(str(min(day, date(2026, 12, 31))))
    night("2027-01-01")
    peaks_of = exact_peaks(truth)
    expected: defaultdict[str, int] = defaultdict(int)
    before = 0
    for month_number in (10, 11, 12):
        highest = max([w for each, w in peaks_of.items() if each.month == month_number] or [0])
        length = monthrange(2026, month_number)[1]
        first = local(opened).astimezone(BERLIN)
        owed = length if month_number > 10 else 32 - first.day - (first.hour > 0)
        demand = month(max(highest, before * 60 // 100), owed, length)
        expected["DEMAND"] += demand
        energy = rows(
            """SELECT coalesce(sum(charge_energy), 0)::bigint FROM interval WHERE account_id = %s
               AND from_at >= %s AND from_at < %s""",
            account, local(f"2026-{month_number}-01T00:00"),
            local("2027-01-01T00:00" if month_number == 12 else f"2026-{month_number + 1}-01T00:00"),
        )[0][0]  # fmt: skip
        standing = floor(Fraction(4_440_000 * owed, length))
        limit = floor(Fraction(bounds_of(here, bound) * owed, length))
        pick = max if bound == "minimum" else min
        expected[bound.upper()] += pick(0, limit - energy - standing - demand)
        before = highest
    found = charged(account, Component.DEMAND, Component.MINIMUM, Component.MAXIMUM)
    assert {name: micro for (name, _), micro in found.items()} == {
        name: micro for name, micro in expected.items() if micro
    }
    books_hold(here)


def bounds_of(here: World, bound: str) -> int:
    """The bound of a month in micro-units."""
    (text,) = rows(
        "SELECT content -> %s ->> 'per_month' FROM tariff_version WHERE property_id = %s",
        bound, here.property_id,
    )[0]  # fmt: skip
    return int(Fraction(text) * 1_000_000)
