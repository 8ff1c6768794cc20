"""A customer's baseline: what they usually use in the hours of an announced peak, and the rebate on
what they used less.

Day matching, as peak-time-rebate programmes do it: of the last `days` eligible days before the event
the `highest` are averaged, over the event's own hours. Ten of ten is Portland General Electric's rule
("How are Peak Time Rebates calculated?": the ten most recent days of the same type, without holidays
and event days, the same hours), the highest five of ten the New York ISO's customer baseline load
(Emergency Demand Response Program Manual, section on the average day CBL). Nothing is adjusted for
the weather.

A day is eligible if it is of the same type (worked, or a rest day: Saturday, Sunday, holiday), no
peak was announced on it to a group that the customer follows, the event's hours last as long on it,
and readings cover all of them, of which no two are more than an hour apart.

The rebate is floor(max(0, Σ of the counted days − n × used) × rebate ÷ (n × 10⁶)) micro-units: exact,
and cut off once for each event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import INT64_MAX, Int64, OverflowRefused, magnitude, mul_div_floor
from prewatt.core.civil_time import DAY_US, HOUR_US, LocalCalendar
from prewatt.core.tariff.model import Overlay

LONGEST_INTERVAL_US: Final = HOUR_US
"""A longer interval does not say in which of its hours energy was used."""

_SATURDAY: Final = 5
_WH_NANO_PER_MICRO: Final = 10**6


class Outcome(StrEnum):
    """What became of an event for a customer; stored, never renamed. Only PAID has an amount.

    NO_REBATE is of a plan or group that turned out not to have one after it was paid.
    """

    PAID = "paid"
    NOT_LESS = "not_less"
    NOT_MEASURED = "not_measured"
    TOO_FEW_DAYS = "too_few_days"
    NO_REBATE = "no_rebate"


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The event's hours on its own day, and then on earlier days, the latest first; columns."""

    day: Int64
    from_us: Int64
    until_us: Int64


@dataclass(frozen=True, slots=True)
class Rebate:
    """One customer's event. `days` are those compared with as (day number, Wh, whether it counts),
    the latest first; `usual_wh` is the sum of the `counted` ones. Wh are 0 where not measured.
    """

    outcome: Outcome
    used_wh: int
    usual_wh: int
    counted: int
    days: tuple[tuple[int, int, bool], ...]
    micro: int


def look_back_days(baseline_days: int) -> int:
    """How far back eligible days are looked for."""
    return max(45, 2 * baseline_days + 14)


def event_windows(
    calendar: LocalCalendar,
    *,
    from_us: int,
    until_us: int,
    baseline_days: int,
    other_events: Sequence[tuple[int, int]],
) -> Windows:
    """The event [from, until) and the same hours of earlier days that may be compared with.

    `other_events` are all peaks that were announced to the customer, this one among them or not.
    """
    event = np.array([from_us, until_us], dtype=np.int64)
    own = int(calendar.local_day(event[:1])[0])
    day = own - np.arange(1, look_back_days(baseline_days) + 1, dtype=np.int64)
    wall = calendar.wall_us(event)
    shift = (own - day) * DAY_US
    begin = calendar.first_instant_at_wall(wall[0] - shift)
    end = calendar.first_instant_at_wall(wall[1] - shift)
    alike = _is_rest(calendar, day) == _is_rest(calendar, np.array([own], dtype=np.int64))
    alike &= end - begin == until_us - from_us
    alike &= end <= from_us
    touched = [
        calendar.local_day(np.array([start, finish - 1], dtype=np.int64))
        for start, finish in other_events
    ]
    for first, last in touched:
        alike &= (day < first) | (day > last)
    kept = np.flatnonzero(alike)
    return Windows(
        day=np.append(own, day[kept]),
        from_us=np.append(from_us, begin[kept]),
        until_us=np.append(until_us, end[kept]),
    )


def _is_rest(calendar: LocalCalendar, day: Int64) -> npt.NDArray[np.bool_]:
    return np.asarray(calendar.day_kind_of(day) >= _SATURDAY)


def energy_in_windows(
    *,
    start_us: Int64,
    end_us: Int64,
    energy_wh: Int64,
    cell: Int64,
    cell_from_us: Int64,
    cell_until_us: Int64,
) -> tuple[Int64, Int64]:
    """(Wh, µs covered) of each cell, a window of an account; rows are whole intervals in cells.

    Up to an edge e into an interval of length d, floor(Wh × e ÷ d) has been used, as everywhere.
    Intervals longer than `LONGEST_INTERVAL_US` cover nothing.
    """
    counts = end_us - start_us <= LONGEST_INTERVAL_US
    start, end, wh, at = start_us[counts], end_us[counts], energy_wh[counts], cell[counts]
    low = np.clip(cell_from_us[at], start, end) - start
    high = np.clip(cell_until_us[at], start, end) - start
    length, place = end - start, "the energy of a baseline"
    used = mul_div_floor(wh, high, length, place=place) - mul_div_floor(
        wh, low, length, place=place
    )
    if magnitude(used) * max(used.size, 1) > INT64_MAX:
        raise OverflowRefused(place)
    energy, covered = (np.zeros(cell_from_us.size, dtype=np.int64) for _ in range(2))
    np.add.at(energy, at, used)
    np.add.at(covered, at, high - low)
    return energy, covered


def rebate_of(
    overlay: Overlay, days: Sequence[int], energy_wh: Sequence[int], is_covered: Sequence[bool]
) -> Rebate:
    """A customer's rebate from the windows of an event: its own first, then the latest days first."""
    compared = [
        (day, wh)
        for day, wh, covered in zip(days[1:], energy_wh[1:], is_covered[1:], strict=True)
        if covered
    ][: overlay.baseline_days]
    highest = overlay.baseline_highest or overlay.baseline_days
    if not is_covered[0]:
        return Rebate(Outcome.NOT_MEASURED, 0, 0, 0, (), 0)
    if len(compared) < overlay.baseline_days:
        told = tuple((day, wh, False) for day, wh in compared)
        return Rebate(Outcome.TOO_FEW_DAYS, energy_wh[0], 0, 0, told, 0)
    # Of days with the same energy the later one counts, which changes no sum.
    ranked = sorted(range(len(compared)), key=lambda at: (-compared[at][1], at))[:highest]
    counted = frozenset(ranked)
    usual = sum(compared[at][1] for at in counted)
    saved = usual - highest * energy_wh[0]
    micro = max(0, saved) * overlay.rebate_nano_per_kwh // (highest * _WH_NANO_PER_MICRO)
    if micro > INT64_MAX:
        raise OverflowRefused("a rebate")
    return Rebate(
        outcome=Outcome.PAID if micro else Outcome.NOT_LESS,
        used_wh=energy_wh[0],
        usual_wh=usual,
        counted=highest,
        days=tuple((day, wh, at in counted) for at, (day, wh) in enumerate(compared)),
        micro=micro,
    )
