"""Temporary plans: a booth by the hour or day, a merchant's season; what is due, and what comes back.

A let is [from, until). Its fee counts started units: hours from its first instant on, or the local
days it touches. It is paid before it begins; who leaves early gets back the units that had not
started. Outside the season of a plan there is no let, and none goes on beyond the season's end.
"""

from __future__ import annotations

from datetime import date

import numpy as np

from prewatt.core.civil_time import HOUR_US, LocalCalendar, day_number
from prewatt.core.tariff.model import BoothUnit, Temporary
from prewatt.core.windows import grid_position

_NANO_PER_MICRO = 1_000


class LetRefused(ValueError):
    """A let cannot be as asked. ``reason``: ``empty``, ``out_of_season`` or ``beyond_season``."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def started_units(plan: Temporary, calendar: LocalCalendar, *, from_us: int, until_us: int) -> int:
    """How many hours or local days of [from, until) have started; 0 for an empty stretch."""
    if until_us <= from_us:
        return 0
    if plan.unit is BoothUnit.HOUR:
        return -((from_us - until_us) // HOUR_US)
    first, last = calendar.local_day(np.array([from_us, until_us - 1], dtype=np.int64)).tolist()
    return int(last - first) + 1


def fee_micro(plan: Temporary, units: int) -> int:
    """The fee of so many units in micro-units; a fraction of a micro-unit falls to the customer."""
    return plan.fee_nano * units // _NANO_PER_MICRO


def deposit_micro(plan: Temporary) -> int:
    """The deposit in micro-units."""
    return plan.deposit_nano // _NANO_PER_MICRO


def fee_refund_micro(
    plan: Temporary, calendar: LocalCalendar, *, from_us: int, until_us: int, left_us: int
) -> int:
    """What comes back of the fee of [from, until) when it ends at ``left_us``."""
    agreed = started_units(plan, calendar, from_us=from_us, until_us=until_us)
    used = started_units(plan, calendar, from_us=from_us, until_us=min(left_us, until_us))
    return fee_micro(plan, agreed) - fee_micro(plan, used)


def season_end_us(plan: Temporary, calendar: LocalCalendar, at_us: int) -> int | None:
    """When the season that holds at an instant ends; None for a plan without a season.

    Raises LetRefused ``out_of_season`` at an instant outside it.
    """
    if plan.season is None:
        return None
    today = calendar.local_date(at_us)
    begin, end = plan.season
    position = int(grid_position(np.array([day_number(today)], dtype=np.int64))[0])
    holds = begin <= position < end if begin < end else position >= begin or position < end
    if not holds:
        raise LetRefused("out_of_season", f"the plan does not hold on {today.isoformat()}")
    year = today.year if position < end else today.year + 1
    return calendar.start_of_day(_first_day_from(year, end))


def refuse_let(plan: Temporary, calendar: LocalCalendar, *, from_us: int, until_us: int) -> None:
    """Raise LetRefused for an empty let, one outside the season, or one that outlasts it."""
    if until_us <= from_us:
        raise LetRefused("empty", "a let must end after it begins")
    end = season_end_us(plan, calendar, from_us)
    if end is not None and until_us > end:
        raise LetRefused(
            "beyond_season", f"the season ends on {calendar.local_date(end).isoformat()}"
        )


def _first_day_from(year: int, position: int) -> date:
    """The first date of a year at or after a grid position (which may be a missing 29 February)."""
    days = np.arange(day_number(date(year, 1, 1)), day_number(date(year + 1, 1, 1)))
    later = days[grid_position(days) >= position]
    return (
        date.fromordinal(int(later[0]) + date(1970, 1, 1).toordinal())
        if later.size
        else date(year + 1, 1, 1)
    )
