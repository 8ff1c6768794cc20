"""The windows in which usage is counted: which stretch of local days a day belongs to.

Day numbers (days since 1970-01-01 of the local date) in, first day and number of days out, whole
columns at a time. A window is a fact of the calendar: a window of an account that begins in its
middle still has all of its days.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from prewatt.core.bounds import Int64
from prewatt.core.tariff.model import Tariff, Window
from prewatt.core.tariff.tables import band_table
from prewatt.core.tariff.words import DAYS_OF_GRID, MONTH_STARTS

_LEAP_DAY: Final = MONTH_STARTS[2] - 1
_MONTHS_PER_QUARTER: Final = 3
# A season is less than a year, unless the only other one is a 29 February: the longest wait for
# one is eight years, over a century that has no leap year.
_LONGEST_SEASON_DAYS: Final = 8 * DAYS_OF_GRID


@dataclass(frozen=True, slots=True)
class LocalWindows:
    """For each asked day the `first_day` of its window (a day number) and the window's `days`."""

    first_day: Int64
    days: Int64


def windows_of(window: Window, day: Int64, tariff: Tariff) -> LocalWindows:
    """The windows of a tariff that contain local days.

    Quarters begin in January, April, July and October; a billing month on `tariff.billing_day`; a
    year on `tariff.year_from` (29 February: on 1 March where a year has none). A season's window
    begins where a season begins, so one that is split over the year has a window for each part,
    and a tariff with one season for the whole year has calendar years. Raises `ValueError` for
    `Window.PURCHASE`, which is no stretch of days.
    """
    match window:
        case Window.DAY:
            return LocalWindows(day, np.ones_like(day))
        case Window.MONTH:
            return _months(day, 1)
        case Window.BILLING_MONTH:
            return _shifted_months(day, tariff.billing_day)
        case Window.QUARTER:
            return _months(day, _MONTHS_PER_QUARTER)
        case Window.SEASON:
            return _seasons(day, tariff)
        case Window.YEAR:
            return _years(day, tariff.year_from)
        case Window.PURCHASE:
            raise ValueError("a window that begins with a purchase has no days")


def grid_position(day: Int64) -> Int64:
    """Where local days lie in a year that has a 29 February: 0 is 1 January, 365 is 31 December."""
    dates = day.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    day_of_month = (dates - months).astype(np.int64)
    month_start = np.array(MONTH_STARTS, dtype=np.int64)[months.astype(np.int64) % 12]
    return np.asarray(month_start + day_of_month, dtype=np.int64)


def _months(day: Int64, length: int) -> LocalWindows:
    month = day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    first = month - month % length
    begin, end = _day_of_month_start(first), _day_of_month_start(first + length)
    return LocalWindows(begin, end - begin)


def _shifted_months(day: Int64, billing_day: int) -> LocalWindows:
    shift = billing_day - 1
    # Every month has a 28th, so days that are moved back together stay in the same order.
    moved = (day - shift).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    begin, end = _day_of_month_start(moved) + shift, _day_of_month_start(moved + 1) + shift
    return LocalWindows(begin, end - begin)


def _years(day: Int64, year_from: int) -> LocalWindows:
    year = day.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64)
    year -= day < _year_start(year, year_from)
    begin, end = _year_start(year, year_from), _year_start(year + 1, year_from)
    return LocalWindows(begin, end - begin)


def _seasons(day: Int64, tariff: Tariff) -> LocalWindows:
    if day.size == 0:
        return LocalWindows(day, day)
    season_of_day = band_table(tariff).season_of_day
    around = np.arange(
        int(day.min()) - _LONGEST_SEASON_DAYS, int(day.max()) + _LONGEST_SEASON_DAYS, dtype=np.int64
    )
    season = season_of_day[grid_position(around)]
    begins = around[1:][season[1:] != season[:-1]]
    if begins.size == 0:
        return _years(day, 0)
    at = np.searchsorted(begins, day, side="right")
    return LocalWindows(begins[at - 1], begins[at] - begins[at - 1])


def _day_of_month_start(month: Int64) -> Int64:
    """The first day of months, counted since January 1970."""
    return month.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def _year_start(year: Int64, year_from: int) -> Int64:
    """The first day of years that begin on a grid position, counted since 1970."""
    january = year.astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
    following = (year + 1).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
    common = following - january < DAYS_OF_GRID
    return january + year_from - (common & (year_from > _LEAP_DAY))
