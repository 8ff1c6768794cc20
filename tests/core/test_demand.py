"""Demand against a model that walks every window with fractions."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from fractions import Fraction
from itertools import pairwise
from math import floor, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import cases
from prewatt.core.bounds import INT64_MAX, OverflowRefused
from prewatt.core.civil_time import MINUTE_US, LocalCalendar, day_number
from prewatt.core.demand import (
    UNKNOWN_PPM,
    accrued_demand_micro,
    billed_power_w,
    peak_power_w,
    power_factor_ppm,
)
from prewatt.core.tariff import MAX_PRICE_NANO

DAYS = [
    ("Europe/Berlin", "2026-03-29", 23),
    ("Europe/Berlin", "2026-10-25", 25),
    ("Australia/Lord_Howe", "2026-10-04", 23.5),
    ("Asia/Shanghai", "2026-07-01", 24),
]


def column(*values: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


def bounds_of(zone: str, text: str) -> tuple[int, int]:
    day = date.fromisoformat(text)
    calendar = LocalCalendar(zone)
    assert day_number(day) > 0
    return calendar.start_of_day(day), calendar.start_of_day(day + timedelta(days=1))


@st.composite
def parts(draw: st.DrawFn, begin: int, end: int) -> list[tuple[int, int, int]]:
    """Parts of one meter that tile a piece of the day, with odd seconds and sometimes none."""
    edges = sorted(
        draw(
            st.sets(
                st.one_of(
                    st.integers(0, (end - begin) // (15 * MINUTE_US)).map(
                        lambda n: begin + n * 15 * MINUTE_US
                    ),
                    st.integers(begin, end),
                ).filter(lambda at: begin <= at <= end),
                min_size=2,
                max_size=12,
            )
        )
    )
    return [(a, b, draw(st.integers(0, 10**6))) for a, b in pairwise(edges)]


def exact_peak(rows: list[tuple[int, int, int]], begin: int, end: int, minutes: int) -> int:
    """Window by window, row by row."""
    width = minutes * MINUTE_US
    total: defaultdict[int, int] = defaultdict(int)
    for a, b, wh in rows:
        at, used = begin, 0
        while at < end:
            edge = min(at + width, b)
            if edge > a:
                upto = floor(Fraction(wh * (edge - a), b - a))
                total[at] += upto - used
                used = upto
            at += width
    return max([floor(Fraction(wh * 60, minutes)) for wh in total.values()] or [0])


@settings(max_examples=cases(150), deadline=None)
@given(st.data(), st.sampled_from([15, 30, 60, 7]))
def test_peaks_equal_the_model_with_several_meters_and_days(
    data: st.DataObject, minutes: int
) -> None:
    groups = [data.draw(st.sampled_from(DAYS)) for _ in range(data.draw(st.integers(1, 3)))]
    bounds = [bounds_of(zone, day) for zone, day, _ in groups]
    rows = [
        (group, part)
        for group, (begin, end) in enumerate(bounds)
        for _ in range(data.draw(st.integers(0, 2)))
        for part in data.draw(parts(begin, end))
    ]
    order = data.draw(st.permutations(rows))
    found = peak_power_w(
        from_us=column(*(part[0] for _, part in order)),
        to_us=column(*(part[1] for _, part in order)),
        energy_wh=column(*(part[2] for _, part in order)),
        group_index=column(*(group for group, _ in order)),
        group_start_us=column(*(begin for begin, _ in bounds)),
        interval_minutes=minutes,
    )
    assert found.tolist() == [
        exact_peak([part for each, part in rows if each == group], *bounds[group], minutes)
        for group in range(len(groups))
    ]


@given(st.data())
def test_what_is_taken_back_leaves_no_trace(data: st.DataObject) -> None:
    begin, end = bounds_of(*data.draw(st.sampled_from(DAYS))[:2])
    kept, wrong = data.draw(parts(begin, end)), data.draw(parts(begin, end))
    rows = [*kept, *wrong, *((a, b, -wh) for a, b, wh in wrong)]
    found = peak_power_w(
        from_us=column(*(a for a, _, _ in rows)),
        to_us=column(*(b for _, b, _ in rows)),
        energy_wh=column(*(wh for _, _, wh in rows)),
        group_index=np.zeros(len(rows), dtype=np.int64),
        group_start_us=column(begin),
        interval_minutes=15,
    )
    assert found.tolist() == [exact_peak(kept, begin, end, 15)]


@pytest.mark.parametrize(("zone", "day", "hours"), DAYS)
def test_a_day_has_as_many_windows_as_it_has_hours(zone: str, day: str, hours: float) -> None:
    begin, end = bounds_of(zone, day)
    windows = int(hours * 4)
    width = (end - begin) // windows
    assert width == 15 * MINUTE_US
    peak = peak_power_w(
        from_us=column(*(begin + n * width for n in range(windows))),
        to_us=column(*(begin + (n + 1) * width for n in range(windows))),
        energy_wh=column(*([100] * (windows - 1)), 101),
        group_index=np.zeros(windows, dtype=np.int64),
        group_start_us=column(begin),
        interval_minutes=15,
    )
    assert peak.tolist() == [404], "the last window counts by itself"


def test_a_window_that_is_known_in_part_is_divided_by_all_of_it() -> None:
    peak = peak_power_w(
        from_us=column(0),
        to_us=column(MINUTE_US),
        energy_wh=column(100),
        group_index=column(0),
        group_start_us=column(0, 0),
        interval_minutes=60,
    )
    assert peak.tolist() == [100, 0]
    with pytest.raises(OverflowRefused):
        peak_power_w(
            from_us=column(0),
            to_us=column(1),
            energy_wh=column(INT64_MAX // 59),
            group_index=column(0),
            group_start_us=column(0),
            interval_minutes=60,
        )


@given(
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 10**6),
    st.one_of(st.just(UNKNOWN_PPM), st.integers(1, 10**6)),
    st.integers(0, 10**6),
)
def test_billed_power(peak: int, before: int, ratchet: int, factor: int, least: int) -> None:
    (billed,) = billed_power_w(
        peak_w=column(peak),
        ratchet_peak_w=column(before),
        ratchet_ppm=column(ratchet),
        power_factor_ppm=column(factor),
        least_power_factor_ppm=column(least),
    ).tolist()
    expected = max(peak, floor(Fraction(before * ratchet, 10**6)))
    if factor != UNKNOWN_PPM and factor < least:
        expected = floor(Fraction(expected * least, factor))
    assert billed == expected
    assert billed >= peak, "nothing lowers what was measured"


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_power_factor_is_cut_off_in_the_customers_favour(active: int, reactive: int) -> None:
    factor = power_factor_ppm(active, reactive)
    if active == reactive == 0:
        assert factor == UNKNOWN_PPM
        return
    exact = active / sqrt(active**2 + reactive**2)
    assert factor >= 1 and abs(factor - exact * 10**6) < 1.01
    assert Fraction(factor, 10**6) ** 2 >= Fraction(active**2, active**2 + reactive**2)


def test_power_factors_known_by_heart() -> None:
    assert power_factor_ppm(3, 4) == 600_000
    assert power_factor_ppm(5, 0) == 1_000_000
    assert power_factor_ppm(0, 5) == 1
    assert power_factor_ppm(-1, 5) == UNKNOWN_PPM


@settings(max_examples=cases(200))
@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**9), st.integers(0, MAX_PRICE_NANO), st.integers(28, 31)
        ).filter(lambda each: each[0] * each[1] // (each[2] * 10**6) <= INT64_MAX),
        min_size=1,
        max_size=5,
    )
)
def test_accrual_is_the_floor_of_the_exact_charge(cells: list[tuple[int, int, int]]) -> None:
    watt, price, days = (column(*each) for each in zip(*cells, strict=True))
    accrued = accrued_demand_micro(billed_w=watt, price_sum_nano=price, days=days)
    for got, (w, p, n) in zip(accrued.tolist(), cells, strict=True):
        assert got == floor(Fraction(w, 1000) * Fraction(p, 1000) / n)


def test_a_month_is_the_same_however_it_is_accrued() -> None:
    """30 days at a peak that rises on the 12th: the true-up brings the whole month to its price."""
    price, days, posted = 7_777_777_777, 30, 0
    for day in range(1, days + 1):
        billed = 3_333 if day < 12 else 4_444
        (through,) = accrued_demand_micro(
            billed_w=column(billed), price_sum_nano=column(price * day), days=column(days)
        ).tolist()
        assert through >= posted
        posted = through
    assert posted == floor(Fraction(4_444 * 7_777_777_777, 10**6))
    with pytest.raises(OverflowRefused):
        accrued_demand_micro(
            billed_w=column(10**13), price_sum_nano=column(10**15), days=column(28)
        )
