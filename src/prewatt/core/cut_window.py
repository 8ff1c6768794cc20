"""When supply may be cut at a place: hours, weekdays, holidays, and a lead before days of rest.

A window is told in the place's own wall-clock time; instants are int64 µs UTC. Reconnection never
asks this module: it is allowed at any time.

The lead is the answer to the oldest complaint of all, "cut on Friday at five and dark until
Monday": within ``rest_lead_min`` minutes before a day of rest begins, the window is closed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import Int64
from prewatt.core.civil_time import DAY_US, MINUTE_US, MINUTES_PER_DAY, SECOND_US, LocalCalendar

# An opening is looked for month by month, for a little more than a year. A window that stays
# closed for longer is reported as never opening, which a person has to resolve.
_STEP_US: Final = 31 * DAY_US
_STEPS: Final = 13
#: Nobody is told of a cut that is farther away than this.
_AHEAD_MAX_DAYS: Final = 366
#: The midnight of a Monday: 1 January 2024.
_MONDAY_US: Final = 19_723 * DAY_US


class WindowInvalid(ValueError):
    """A cut window or a quiet-hours rule makes no sense; the message says which part."""


@dataclass(frozen=True, slots=True)
class CutWindow:
    """The permitted window of one place, half-open ``[opens_min, closes_min)`` on each weekday.

    Minutes count from local midnight. Weekdays are 0 = Monday to 6 = Sunday; a day that is not in
    ``weekdays``, or is a holiday of the calendar, is a day of rest. Raises `WindowInvalid`.
    """

    calendar: LocalCalendar
    opens_min: int = 9 * 60
    closes_min: int = 15 * 60
    weekdays: frozenset[int] = frozenset({0, 1, 2, 3, 4})
    rest_lead_min: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.opens_min < self.closes_min <= MINUTES_PER_DAY:
            raise WindowInvalid("the window must open before it closes, within one day")
        if not self.weekdays <= frozenset(range(7)):
            raise WindowInvalid("weekdays are numbered 0 (Monday) to 6 (Sunday)")
        if not 0 <= self.rest_lead_min <= 7 * MINUTES_PER_DAY:
            raise WindowInvalid("the lead before a day of rest is at most a week")


def is_open(window: CutWindow, now_us: int) -> bool:
    """Say whether the window is open at this instant."""
    # Windows open and close, and clocks change, on whole minutes: all instants of a minute agree,
    # and thousands of accounts that are decided together cost one look.
    return _is_open_minute(window, now_us - now_us % MINUTE_US)


def open_at(window: CutWindow, at_us: Int64) -> npt.NDArray[np.bool_]:
    """Say for each instant whether the window is open then; same shape as ``at_us``."""
    wall_us = window.calendar.wall_us(at_us)
    day = wall_us // DAY_US
    minute = wall_us % DAY_US // MINUTE_US
    permitted = (minute >= window.opens_min) & (minute < window.closes_min)
    permitted &= ~_is_rest_day(window, day)
    for ahead in range(1, window.rest_lead_min // MINUTES_PER_DAY + 2):
        near = ahead * MINUTES_PER_DAY - minute <= window.rest_lead_min
        permitted &= ~(near & _is_rest_day(window, day + ahead))
    return permitted


def usual_week(window: CutWindow) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Return the permitted minutes of Monday to Sunday, half-open runs of each day from its midnight.

    Of a week without holidays, days that are worked for others and clock changes: what a rule says,
    not what a certain week comes to.
    """
    plain = replace(window, calendar=LocalCalendar("UTC"))
    minutes = np.arange(_MONDAY_US, _MONDAY_US + 7 * DAY_US, MINUTE_US, dtype=np.int64)
    week = open_at(plain, minutes).reshape(7, MINUTES_PER_DAY)
    return tuple(_runs(day) for day in week)


def _runs(permitted: npt.NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    edges = np.flatnonzero(np.diff(permitted.astype(np.int8), prepend=0, append=0)).tolist()
    return tuple(zip(edges[::2], edges[1::2], strict=True))


def next_open_at_us(window: CutWindow, now_us: int) -> int | None:
    """Return the earliest instant, now or later, at which the window is open; None if never.

    "Never" means no opening in the next thirteen months: no permitted weekday is left, or the lead
    swallows every one.
    """
    if is_open(window, now_us):
        return now_us
    return _search(window, now_us - now_us % MINUTE_US + MINUTE_US)


def closes_at_us(window: CutWindow, now_us: int) -> int | None:
    """Return the first instant after now at which the window is not open; None if a day passes before."""
    return _closing(window, now_us - now_us % MINUTE_US)


def earliest_cut_us(
    window: CutWindow, now_us: int, left_micro: int, per_day_micro: int, noticed_us: int = 0
) -> int | None:
    """Return the first instant at which credit is used up, at the usual pace, and the window is open.

    ``left_micro`` is all that may still be used, emergency credit included; ``noticed_us`` is when the
    notice of a warning is over at the soonest. None if the window never opens, or while there is credit
    and no pace is known or it lasts longer than a year.
    """
    if left_micro <= 0:
        return next_open_at_us(window, max(now_us, noticed_us))
    if per_day_micro <= 0:
        return None
    lasts_s = left_micro * 86_400 // per_day_micro
    if lasts_s // 86_400 > _AHEAD_MAX_DAYS:
        return None
    return next_open_at_us(window, max(now_us + lasts_s * SECOND_US, noticed_us))


@lru_cache(maxsize=16_384)
def _is_open_minute(window: CutWindow, minute_us: int) -> bool:
    return bool(open_at(window, np.array([minute_us], dtype=np.int64))[0])


@lru_cache(maxsize=4096)
def _closing(window: CutWindow, minute_us: int) -> int | None:
    minutes = np.arange(minute_us, minute_us + DAY_US, MINUTE_US, dtype=np.int64)
    closed = minutes[~open_at(window, minutes)]
    return int(closed[0]) if closed.size else None


@lru_cache(maxsize=4096)
def _search(window: CutWindow, from_us: int) -> int | None:
    minutes = (window.opens_min,)
    for step in range(_STEPS):
        start_us = from_us + step * _STEP_US
        edges = window.calendar.wall_edges(start_us, start_us + _STEP_US, minutes)
        opening = edges[open_at(window, edges)]
        if opening.size:
            return int(opening[0])
    return None


def _is_rest_day(window: CutWindow, day: Int64) -> npt.NDArray[np.bool_]:
    """Say for each day number whether nothing is ever cut on it."""
    permitted = np.array(sorted(window.weekdays), dtype=np.int64)
    return ~np.isin(window.calendar.day_kind_of(day), permitted)
