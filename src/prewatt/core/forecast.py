"""When the money runs out: an instant, its range, and the earliest cut if nothing is paid.

Spending follows the week, so an account has a profile: what it spends in each of the 168 hours of a
local week. The forecast walks that profile hour by hour from now. Its range comes from how much the
days of the last two weeks differed: independent days differ by σ × √days in sum. A forecast is an
estimate and says so; the *earliest cut* is a promise, so it is reckoned from the early end of the
range and from the property's window.

Money is int64 micro-units, instants int64 µs UTC, all arithmetic in integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from typing import Final

import numpy as np

from prewatt.core.bounds import Int64
from prewatt.core.civil_time import HOUR_US, LocalCalendar
from prewatt.core.cut_window import CutWindow, next_open_at_us

SLOTS: Final = 168
#: Beyond this many days a forecast says nothing that could be acted on.
HORIZON_DAYS: Final = 92
_HORIZON_H: Final = HORIZON_DAYS * 24
#: Largest spend of one hour, a million of the currency: keeps every product inside 64 bits.
_SLOT_MAX_MICRO: Final = 10**12
_ROOT_SCALE: Final = 1_000
# 1970-01-01 was a Thursday, day 3 of a week that begins on Monday.
_EPOCH_WEEKDAY: Final = 3


class ProfileInvalid(ValueError):
    """A spend profile has a wrong shape or an impossible amount."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What an account spends in each hour of a local week, Monday 00:00 first, in micro-units.

    ``sigma_per_day_micro`` is how much its days differ (standard deviation). Raises
    `ProfileInvalid` unless there are 168 amounts of zero or more.
    """

    hour_micro: tuple[int, ...]
    sigma_per_day_micro: int = 0

    def __post_init__(self) -> None:
        if len(self.hour_micro) != SLOTS:
            raise ProfileInvalid("a week has 168 hours")
        if not all(0 <= each <= _SLOT_MAX_MICRO for each in self.hour_micro):
            raise ProfileInvalid("the spend of an hour is between zero and a million")
        if not 0 <= self.sigma_per_day_micro <= _SLOT_MAX_MICRO * 24:
            raise ProfileInvalid("the spread of a day is between zero and 24 million")

    @property
    def per_day_micro(self) -> int:
        """Return the average spend of a day."""
        return sum(self.hour_micro) // 7


@dataclass(frozen=True, slots=True)
class Forecast:
    """When available money ends (about, and its range), emergency credit ends, and a cut may come.

    None means "not within the horizon of 92 days". ``earliest_cut_us`` is the earliest instant at
    which supply could be cut if nothing is paid: never before it, whatever happens after.
    """

    about_us: int | None
    early_us: int | None
    late_us: int | None
    emergency_about_us: int | None
    earliest_cut_us: int | None


def flat_profile(per_day_micro: int, sigma_per_day_micro: int = 0) -> Profile:
    """Return the profile of an account of which only the daily spend is known."""
    # Rounded up, so that a forecast from little knowledge errs towards the early side.
    return Profile((-(-max(per_day_micro, 0) // 24),) * SLOTS, sigma_per_day_micro)


def profile_from_hours(
    calendar: LocalCalendar, hour_start_us: Int64, spend_micro: Int64
) -> Profile:
    """Return the mean profile of past whole hours: their starts and what each cost, same shape.

    An hour of the week that was never seen takes the mean of all. The spread is that of the local
    days that are complete in the data.
    """
    if hour_start_us.size == 0:
        return flat_profile(0)
    slot = hour_of_week(calendar, hour_start_us)
    totals = np.zeros(SLOTS, dtype=np.int64)
    counts = np.zeros(SLOTS, dtype=np.int64)
    np.add.at(totals, slot, np.maximum(spend_micro, 0))
    np.add.at(counts, slot, 1)
    mean = int(totals.sum()) // int(counts.sum())
    hours = np.where(counts > 0, totals // np.maximum(counts, 1), mean)
    days, index, seen = np.unique(
        calendar.local_day(hour_start_us), return_inverse=True, return_counts=True
    )
    per_day = np.zeros(days.size, dtype=np.int64)
    np.add.at(per_day, index, np.maximum(spend_micro, 0))
    return Profile(tuple(hours.tolist()), spread_micro(per_day[seen >= 23].tolist()))


def spread_micro(days_micro: Sequence[int]) -> int:
    """Return the standard deviation of daily amounts, rounded down; 0 for fewer than two days."""
    count = len(days_micro)
    if count < 2:
        return 0
    total = sum(days_micro)
    squares = sum((count * each - total) ** 2 for each in days_micro)
    return isqrt(squares // (count * count * (count - 1)))


def hour_of_week(calendar: LocalCalendar, at_us: Int64) -> Int64:
    """Return the local hour of the week (0 = Monday 00:00) of each instant, same shape."""
    wall_h = calendar.wall_us(at_us) // HOUR_US
    return np.asarray((wall_h + _EPOCH_WEEKDAY * 24) % SLOTS)


def forecast(
    available_micro: int,
    emergency_credit_micro: int,
    profile: Profile,
    window: CutWindow,
    now_us: int,
) -> Forecast:
    """Return when the money runs out at this profile's pace, from now on, in local time."""
    starts, slots = _hours_from(window.calendar, now_us - now_us % (15 * 60 * 1_000_000))
    spend = np.array(profile.hour_micro, dtype=np.int64)[slots]
    # What is left of the hour that has begun; later hours are whole.
    ends = np.append(starts[1:], starts[-1] + HOUR_US)
    starts = np.maximum(starts, now_us)
    spend = np.asarray(spend * (ends - starts) // HOUR_US, dtype=np.int64)
    total = np.cumsum(spend)
    margin = profile.sigma_per_day_micro * _root_of_days() // _ROOT_SCALE
    walk = _Walk(starts, ends, total)
    fast = _Walk(starts, ends, total + margin)
    slow = _Walk(starts, ends, np.maximum.accumulate(np.maximum(total - margin, 0)))
    spendable = available_micro + emergency_credit_micro
    earliest = fast.reaches(spendable)
    return Forecast(
        walk.reaches(available_micro),
        fast.reaches(available_micro),
        slow.reaches(available_micro),
        walk.reaches(spendable),
        None if earliest is None else next_open_at_us(window, earliest),
    )


@dataclass(frozen=True, slots=True)
class _Walk:
    """Cumulative spend at the end of each stretch of time; never decreasing."""

    starts_us: Int64
    ends_us: Int64
    total_micro: Int64

    def reaches(self, amount_micro: int) -> int | None:
        """Return the instant at which the amount is spent; within an hour, in proportion."""
        if amount_micro <= 0:
            return int(self.starts_us[0])
        index = int(np.searchsorted(self.total_micro, amount_micro))
        if index == self.total_micro.size:
            return None
        before = int(self.total_micro[index - 1]) if index else 0
        step = int(self.total_micro[index]) - before
        start, end = int(self.starts_us[index]), int(self.ends_us[index])
        return start + (amount_micro - before) * (end - start) // step


@lru_cache(maxsize=512)
def _hours_from(calendar: LocalCalendar, from_us: int) -> tuple[Int64, Int64]:
    """The starts of local hours from the one that contains an instant on, and their slots."""
    into_hour = int(calendar.wall_us(np.array([from_us], dtype=np.int64))[0]) % HOUR_US
    starts = from_us - into_hour + np.arange(_HORIZON_H, dtype=np.int64) * HOUR_US
    slots = hour_of_week(calendar, starts)
    for column in (starts, slots):
        column.setflags(write=False)
    return starts, slots


@lru_cache(maxsize=1)
def _root_of_days() -> Int64:
    """√(days) after each hour of the horizon, in thousandths."""
    return np.array(
        [isqrt(hour * _ROOT_SCALE**2 // 24) for hour in range(1, _HORIZON_H + 1)], dtype=np.int64
    )
