"""Which period holds in which hour of which month, and the seasons that come of it.

A band of the tariff is one period of energy, under one list of limits, with the demand prices
that hold beside it: whatever differs in any of these becomes a band of its own, so that demand
can be billed by bands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from prewatt.adapters.tariffs.openei_urdb.reading import (
    UrdbRefused,
    position,
    sequence,
)
from prewatt.adapters.tariffs.openei_urdb.tiers import Tiers
from prewatt.core.tariff.model import DAY_KINDS, DayClass, DaySchedule, Period, Season
from prewatt.core.tariff.words import DAYS_OF_GRID, MONTH_STARTS

MONTHS: Final = 12
HOURS: Final = 24
_NAMES: Final = (
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
)  # fmt: skip
_MINUTES_PER_HOUR: Final = 60
_ENDS: Final = (*MONTH_STARTS[1:], DAYS_OF_GRID)

Grid = tuple[tuple[int, ...], ...]
"""A period for each month and hour."""


@dataclass(frozen=True, slots=True, order=True)
class BandKey:
    """What makes a band: its energy period, the limits of its months, and the positions of the
    flat and of the time-of-use demand period beside it (-1: none with a price).
    """

    period: int
    limits_wh: tuple[int, ...]
    flat: int
    time_of_use: int


@dataclass(frozen=True, slots=True)
class MonthKeys:
    """The bands of a month's hours, on weekdays and at weekends, and its limits."""

    limits_wh: tuple[int, ...]
    weekday: tuple[BandKey, ...]
    weekend: tuple[BandKey, ...]


def read_grid(item: Mapping[str, object], key: str, size: int) -> Grid:
    """A 12 × 24 schedule of positions in a list of `size` periods."""
    rows = sequence(item.get(key), key, MONTHS)
    return tuple(
        tuple(
            position(each, f"{key}[{month}][{hour}]", size)
            for hour, each in enumerate(sequence(row, f"{key}[{month}]", HOURS))
        )
        for month, row in enumerate(rows)
    )


def month_limits(weekday: Grid, weekend: Grid, periods: tuple[Tiers, ...]) -> list[Tiers]:
    """For each month a period that stands for the limits of all its periods.

    All periods of a month count together, so they must have the same limits: what several lists
    would mean is nowhere said.
    """
    chosen = []
    for month in range(MONTHS):
        used = sorted({*weekday[month], *weekend[month]})
        for period in used:
            one, other = periods[used[0]], periods[period]
            if one.limits_wh != other.limits_wh or (one.limits_wh and one.per_day != other.per_day):
                raise UrdbRefused(
                    f"energyratestructure[{period}]",
                    f"has other limits than period {used[0]} in the same month ({_NAMES[month]})",
                )
        chosen.append(periods[used[0]])
    return chosen


def seasons_of(months: list[MonthKeys]) -> tuple[tuple[Season, ...], tuple[MonthKeys, ...]]:
    """Months that are alike as seasons, in the order of their names, each with what holds."""
    alike: dict[MonthKeys, list[int]] = {}
    for month, keys in enumerate(months):
        alike.setdefault(keys, []).append(month)
    named = sorted((months_text(each), each) for each in alike.values())
    seasons = tuple(
        Season(name if len(each) < MONTHS else "all_year", _ranges(each)) for name, each in named
    )
    return seasons, tuple(months[each[0]] for _, each in named)


def months_text(months: list[int]) -> str:
    """Months as a short word: `jan-may_oct-dec`."""
    return "_".join(
        _NAMES[begin] if begin == end else f"{_NAMES[begin]}-{_NAMES[end]}"
        for begin, end in _stretches(months)
    )


def schedules_of(
    seasons: tuple[MonthKeys, ...], bands: Mapping[BandKey, int]
) -> tuple[tuple[DayClass, ...], tuple[DaySchedule, ...]]:
    """The day classes, one if weekdays and weekends are alike, and what holds on them."""
    if all(each.weekday == each.weekend for each in seasons):
        every = (DayClass("every_day", tuple(range(len(DAY_KINDS)))),)
        return every, tuple(
            DaySchedule(season, 0, _day(keys.weekday, bands)) for season, keys in enumerate(seasons)
        )
    # Neither class has holidays, so they count as their weekday.
    classes = (DayClass("weekday", (0, 1, 2, 3, 4)), DayClass("weekend", (5, 6)))
    return classes, tuple(
        DaySchedule(season, day_class, _day(hours, bands))
        for season, keys in enumerate(seasons)
        for day_class, hours in enumerate((keys.weekday, keys.weekend))
    )


def _day(hours: tuple[BandKey, ...], bands: Mapping[BandKey, int]) -> tuple[Period, ...]:
    periods, begin = [], 0
    for key, group in groupby(hours):
        end = begin + len(list(group)) * _MINUTES_PER_HOUR
        periods.append(Period(begin, end, bands[key]))
        begin = end
    return tuple(periods)


def _ranges(months: list[int]) -> tuple[tuple[int, int], ...]:
    return tuple((MONTH_STARTS[begin], _ENDS[end]) for begin, end in _stretches(months))


def _stretches(months: list[int]) -> list[tuple[int, int]]:
    """(first, last) of each run of months that follow one another."""
    runs: list[tuple[int, int]] = []
    for month in months:
        if runs and runs[-1][1] == month - 1:
            runs[-1] = (runs[-1][0], month)
        else:
            runs.append((month, month))
    return runs
