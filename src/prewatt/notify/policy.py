"""A property's rules for messages: its quiet hours, on the clock on its own walls."""

from __future__ import annotations

from functools import lru_cache

from prewatt.core.civil_time import LocalCalendar
from prewatt.core.cut_window import WindowInvalid
from prewatt.core.quiet_hours import QuietHours


class QuietHoursRefused(ValueError):
    """Quiet hours that cannot be kept; the message says why, and nothing was changed."""


@lru_cache(maxsize=256)
def quiet_hours(time_zone: str, starts_min: int | None, ends_min: int | None) -> QuietHours:
    """The quiet hours of a property; ``None`` for both ends stands for the usual ones.

    Both are minutes after midnight by local civil time, from ``starts_min`` until ``ends_min``,
    across midnight if that is earlier; equal ends mean none. Raises `QuietHoursRefused`.
    """
    calendar = LocalCalendar(time_zone)
    if starts_min is None or ends_min is None:
        return QuietHours(calendar)
    try:
        return QuietHours(calendar, starts_min=starts_min, ends_min=ends_min)
    except WindowInvalid as invalid:
        raise QuietHoursRefused(str(invalid)) from invalid
