"""What an account must have been charged, computed from registers and the plan alone, and exactly.

Written to be obviously right: no numpy, no floats, and nothing of the program's own rating. One
quarter-hour after the other, each at the price of its own local hour.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cache
from itertools import pairwise
from math import floor
from typing import Final
from zoneinfo import ZoneInfo

from prewatt.drills.plan import PRICES, SCHEDULE, TAX_PERCENT, TIME_ZONE

QUARTER_US: Final = 900_000_000
_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO: Final = 1_000_000

Row = tuple[int, int]
"""When a register was read (µs since 1970 UTC) and what it showed (Wh)."""


@dataclass(frozen=True, slots=True)
class Charged:
    """Exact charges in micro-units, and the energy they are for in Wh.

    The tax is that on the whole micro-units that are charged for energy.
    """

    energy: Fraction
    tax: Fraction
    energy_wh: int


def charges_of(readings: Iterable[Row]) -> Charged:
    """What is owed from the first reading to the last; readings may come in any order.

    Within an interval energy is spread evenly over time, whole Wh at each quarter-hour: the stated
    estimate of the program, which has an effect only where a band begins inside.
    """
    used = dict.fromkeys(PRICES, 0)
    rows = sorted(readings)
    for (begin_us, begin_wh), (end_us, end_wh) in pairwise(rows):
        given_wh, at_us = 0, begin_us
        while at_us < end_us:
            next_us = min((at_us // QUARTER_US + 1) * QUARTER_US, end_us)
            until_wh = (end_wh - begin_wh) * (next_us - begin_us) // (end_us - begin_us)
            used[band_at(at_us // QUARTER_US)] += until_wh - given_wh
            given_wh, at_us = until_wh, next_us
    energy = sum(
        (Fraction(PRICES[band]) * _MICRO * wh / 1_000 for band, wh in used.items()), Fraction(0)
    )
    return Charged(energy, floor(energy) * Fraction(TAX_PERCENT) / 100, sum(used.values()))


@cache
def band_at(quarter: int) -> str:
    """The band of a quarter-hour (counted since 1970 UTC), by the civil time of the place."""
    at = (_EPOCH + quarter * timedelta(minutes=15)).astimezone(ZoneInfo(TIME_ZONE))
    day = _WEEKDAYS[at.weekday()]
    hours = next(hours for days, hours in SCHEDULE if day in days)
    return [band for begin, band in hours if begin <= at.hour][-1]
