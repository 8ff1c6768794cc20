"""Amounts by days against plain fractions: random amounts, lives, versions and batch boundaries."""

from __future__ import annotations

from calendar import isleap, monthrange
from datetime import date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import cases
from prewatt.core.bounds import INT64_MAX, OverflowRefused
from prewatt.core.civil_time import LocalCalendar, day_number, instant_us
from prewatt.core.dated import (
    DATED_DENOMINATOR,
    DayParts,
    accrue_parts,
    accrue_tax,
    maximum_due,
    minimum_due,
    owed_days,
    parts_of_days,
    periods_of,
    sum_parts,
)
from prewatt.core.tariff import MAX_PRICE_NANO
from prewatt.core.tariff.model import Per

DAYS = st.dates(date(1999, 1, 1), date(2101, 1, 1))


def column(*values: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


def days_of(first: date, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.arange(day_number(first), day_number(first) + count, dtype=np.int64)


def exact_micro(per: Per, amount_nano: int, day: date) -> Fraction:
    """What a day owes, from the calendar module and fractions alone."""
    length = {
        Per.DAY: 1,
        Per.MONTH: monthrange(day.year, day.month)[1],
        Per.YEAR: 366 if isleap(day.year) else 365,
    }[per]
    return Fraction(amount_nano, 1000 * length)


@settings(max_examples=cases(300), deadline=None)
@given(
    first=DAYS,
    count=st.integers(1, 800),
    versions=st.lists(
        st.tuples(st.sampled_from(Per), st.integers(0, MAX_PRICE_NANO)), min_size=1, max_size=3
    ),
    cuts=st.lists(st.integers(0, 800), max_size=6),
    data=st.data(),
)
def test_days_sum_to_the_exact_total_whatever_the_batches(
    first: date,
    count: int,
    versions: list[tuple[Per, int]],
    cuts: list[int],
    data: st.DataObject,
) -> None:
    """Versions change in the middle of a month; the account opens and closes anywhere."""
    changes = sorted(data.draw(st.lists(st.integers(0, count), max_size=len(versions) - 1)))
    spans = list(zip([0, *changes], [*changes, count], versions, strict=False))
    day = days_of(first, count)
    pieces = [parts_of_days(per=per, amount_nano=amount, day=day[begin:end])
              for begin, end, (per, amount) in spans]  # fmt: skip
    parts = DayParts(
        np.concatenate([each.micro for each in pieces]),
        np.concatenate([each.rest for each in pieces]),
    )
    exact = [
        exact_micro(per, amount, first + timedelta(days=offset))
        for begin, end, (per, amount) in spans
        for offset in range(begin, end)
    ]
    exact += [Fraction(0)] * (count - len(exact))
    carry, charged = column(0), []
    bounds = sorted({0, *(min(each, count) for each in cuts), count})
    for begin, end in pairwise(bounds):
        rows = np.arange(begin, min(end, parts.micro.size))
        charge, carry = accrue_parts(
            account_index=np.zeros(rows.size, dtype=np.int64), parts=parts.take(rows), carry=carry
        )
        charged += charge.tolist()
    running = Fraction(0)
    for number, charge in enumerate(charged):
        running += exact[number]
        assert sum(charged[: number + 1]) == floor(running), charge
    assert Fraction(int(carry[0]), DATED_DENOMINATOR) == sum(exact) - floor(sum(exact))
    assert sum_parts(
        group_index=np.zeros(parts.micro.size, dtype=np.int64), parts=parts, groups=1
    ).tolist() == [floor(sum(exact))]


@given(DAYS, st.sampled_from(Per), st.integers(0, MAX_PRICE_NANO))
def test_a_whole_period_costs_its_amount(day: date, per: Per, amount_nano: int) -> None:
    period = periods_of(per, column(day_number(day)))
    days = np.arange(int(period.days[0]), dtype=np.int64) + period.first_day[0]
    assert day_number(day) in days.tolist()
    charge, carry = accrue_parts(
        account_index=np.zeros(days.size, dtype=np.int64),
        parts=parts_of_days(per=per, amount_nano=amount_nano, day=days),
        carry=column(0),
    )
    assert int(charge.sum()) == amount_nano // 1000
    assert Fraction(int(carry[0]), DATED_DENOMINATOR) == Fraction(amount_nano % 1000, 1000)


@given(
    st.lists(st.tuples(st.integers(0, 3), DAYS, st.booleans()), min_size=1, max_size=40),
    st.sampled_from(Per),
    st.integers(0, 10**13),
    st.lists(st.integers(0, DATED_DENOMINATOR - 1), min_size=4, max_size=4),
)
def test_accounts_do_not_mix_and_days_given_back_leave_the_exact_rest(
    owed: list[tuple[int, date, bool]], per: Per, amount_nano: int, carries: list[int]
) -> None:
    owed.sort(key=lambda each: each[0])
    sign = column(*(-1 if back else 1 for _, _, back in owed))
    parts = parts_of_days(
        per=per, amount_nano=amount_nano, day=column(*(day_number(day) for _, day, _ in owed))
    )
    account = column(*(each for each, _, _ in owed))
    charge, carry = accrue_parts(
        account_index=account,
        parts=DayParts(parts.micro * sign, parts.rest * sign),
        carry=column(*carries),
    )
    for number, before in enumerate(carries):
        exact = Fraction(before, DATED_DENOMINATOR) + sum(
            (-1 if back else 1) * exact_micro(per, amount_nano, day)
            for each, day, back in owed
            if each == number
        )
        assert int(charge[account == number].sum()) == floor(exact)
        assert Fraction(int(carry[number]), DATED_DENOMINATOR) == exact - floor(exact)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(-(10**12), 10**15), st.integers(0, 3 * 10**9)),
        min_size=1,
        max_size=30,
    ),
    st.lists(st.integers(0, 10**9 - 1), min_size=3, max_size=3),
    st.integers(0, 30),
)
def test_tax_is_the_floor_of_the_exact_tax_whatever_the_batches(
    rows: list[tuple[int, int, int]], carries: list[int], cut: int
) -> None:
    rows.sort(key=lambda each: each[0])
    account, charge, share = (column(*each) for each in zip(*rows, strict=True))
    carry, found = column(*carries), []
    for batch in (np.s_[:cut], np.s_[cut:]):
        tax, carry = accrue_tax(
            account_index=account[batch],
            charge_micro=charge[batch],
            share_ppb=share[batch],
            carry=carry,
        )
        found += tax.tolist()
    for number, before in enumerate(carries):
        exact = Fraction(before, 10**9) + sum(
            Fraction(c * s, 10**9) for a, c, s in rows if a == number
        )
        got = sum(t for t, (a, _, _) in zip(found, rows, strict=True) if a == number)
        assert got == floor(exact)
        assert Fraction(int(carry[number]), 10**9) == exact - floor(exact)


@given(st.data())
def test_neighbouring_lives_owe_each_day_once(data: st.DataObject) -> None:
    zone = data.draw(st.sampled_from(["Europe/Berlin", "Asia/Shanghai", "America/St_Johns"]))
    calendar = LocalCalendar(zone)
    opened = instant_us(datetime.fromisoformat("2026-03-01T00:00+00:00"))
    starts = calendar.first_instant_at_wall(
        np.arange(20_500, 20_620, dtype=np.int64) * 86_400_000_000
    )
    cuts = data.draw(
        st.lists(
            st.one_of(
                st.integers(opened, opened + 60 * 86_400_000_000),
                st.sampled_from(starts.tolist()),
            ),
            min_size=2,
            max_size=8,
        )
    )
    lives = list(pairwise(sorted(cuts)))
    first, end = owed_days(
        starts_us=starts,
        from_us=column(*(a for a, _ in lives)),
        until_us=column(*(b for _, b in lives)),
    )
    days = [day for a, b in zip(first.tolist(), end.tolist(), strict=True) for day in range(a, b)]
    whole = [n for n, at in enumerate(starts.tolist()) if min(cuts) <= at < max(cuts)]
    assert days == whole


def test_a_day_is_owed_by_whom_it_finds_at_its_first_instant() -> None:
    starts = column(0, 100, 200, 300)
    first, end = owed_days(
        starts_us=starts, from_us=column(0, 1, 100, 250), until_us=column(200, 99, 101, 10**18)
    )
    assert list(zip(first.tolist(), end.tolist(), strict=True)) == [(0, 2), (1, 1), (1, 2), (3, 4)]


@given(st.integers(0, 10**15), st.integers(-(10**15), 10**15))
def test_bounds_never_act_against_their_purpose(bound: int, charged: int) -> None:
    low = int(minimum_due(bound_micro=column(bound), charged_micro=column(charged))[0])
    high = int(maximum_due(bound_micro=column(bound), charged_micro=column(charged))[0])
    assert low >= 0 >= high
    assert charged + low == max(bound, charged) and charged + high == min(bound, charged)


def test_what_does_not_fit_is_refused() -> None:
    for amount in (-1, INT64_MAX + 1):
        with pytest.raises(OverflowRefused):
            parts_of_days(per=Per.DAY, amount_nano=amount, day=column(0))
    most = parts_of_days(per=Per.DAY, amount_nano=INT64_MAX, day=column(0, 1))
    huge = DayParts(most.micro * 600, most.rest)
    with pytest.raises(OverflowRefused):
        accrue_parts(account_index=column(0, 0), parts=huge, carry=column(0))
    with pytest.raises(OverflowRefused):
        sum_parts(group_index=column(0, 0), parts=huge, groups=1)
