"""Windows of local days, against calendars walked day by day."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import cases
from core.exact_model import ExactCalendar
from core.tariff_strategies import tariff_documents
from prewatt.core.civil_time import day_date, day_number
from prewatt.core.tariff import parse_tariff
from prewatt.core.tariff.model import Season, Tariff, Window
from prewatt.core.windows import grid_position, windows_of

FLAT: dict[str, Any] = {
    "format": "prewatt-tariff/1",
    "name": "Flat",
    "currency": "EUR",
    "energy": {"unit": "kWh", "bands": {"all": {"price": "0.1"}}},
}
DAYS = ("01-01", "02-28", "02-29", "03-01", "07-15", "12-31")
DATED = [each for each in Window if each is not Window.PURCHASE]


def numbers(*days: date) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([day_number(day) for day in days], dtype=np.int64)


@settings(max_examples=cases(120), deadline=None)
@given(
    tariff_documents(),
    st.integers(1, 28),
    st.sampled_from(DAYS),
    st.lists(st.dates(date(2023, 1, 1), date(2029, 1, 1)), min_size=1, max_size=6),
)
def test_windows_are_those_found_by_walking_from_day_to_day(
    document: dict[str, Any], billing_day: int, year_from: str, days: list[date]
) -> None:
    document = document | {"billing_day": billing_day, "year_from": year_from}
    tariff, calendar = parse_tariff(document), ExactCalendar(document)
    for window in DATED:
        if window is Window.SEASON and len(tariff.seasons) == 1:
            continue
        found = windows_of(window, numbers(*days), tariff)
        assert [
            (day_date(first), count)
            for first, count in zip(found.first_day.tolist(), found.days.tolist(), strict=True)
        ] == [calendar.window(window, day) for day in days]


@pytest.mark.parametrize("window", DATED)
def test_windows_follow_one_another_without_gap_or_overlap(window: Window) -> None:
    tariff = replace(parse_tariff(FLAT), billing_day=28, year_from=59)
    first, last = date(1999, 1, 1), date(2032, 1, 1)
    days = np.arange(day_number(first), day_number(last), dtype=np.int64)
    windows = windows_of(window, days, tariff)
    assert ((windows.first_day <= days) & (days < windows.first_day + windows.days)).all()
    begins, counts = (np.unique(each).tolist() for each in (windows.first_day, windows.days))
    length = dict(zip(windows.first_day.tolist(), windows.days.tolist(), strict=True))
    assert all(begin + length[begin] == after for begin, after in pairwise(begins))
    expected = {
        Window.DAY: [1],
        Window.MONTH: [28, 29, 30, 31],
        # From the 28th of one month to that of the next.
        Window.BILLING_MONTH: [28, 29, 30, 31],
        Window.QUARTER: [90, 91, 92],
        # From 29 February, or 1 March in a year that has none.
        Window.YEAR: [365, 366],
        Window.SEASON: [365, 366],
    }
    assert counts == expected[window]


def test_a_season_that_lasts_until_the_next_29_february_is_found() -> None:
    seasons = (Season("all", ((0, 59), (60, 366))), Season("leap", ((59, 60),)))
    tariff: Tariff = replace(parse_tariff(FLAT), seasons=seasons)
    days = (date(2096, 2, 29), date(2096, 3, 1), date(2100, 3, 1), date(2104, 2, 28))
    windows = windows_of(Window.SEASON, numbers(*days), tariff)
    begins = [date(2096, 2, 29), *[date(2096, 3, 1)] * 3]
    assert windows.first_day.tolist() == numbers(*begins).tolist()
    long = (date(2104, 2, 29) - date(2096, 3, 1)).days
    assert windows.days.tolist() == [1, long, long, long]


def test_a_purchase_is_no_stretch_of_days() -> None:
    with pytest.raises(ValueError, match="purchase"):
        windows_of(Window.PURCHASE, numbers(date(2025, 1, 1)), parse_tariff(FLAT))


def test_grid_positions_are_those_of_a_leap_year() -> None:
    leap = [date(2024, 1, 1) + timedelta(days=each) for each in range(366)]
    assert grid_position(numbers(*leap)).tolist() == list(range(366))
    common = [date(2025, 1, 1) + timedelta(days=each) for each in range(365)]
    assert grid_position(numbers(*common)).tolist() == [each for each in range(366) if each != 59]
