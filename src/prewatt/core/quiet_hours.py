"""When a message may be sent, in the contact's own local time.

A person is not woken for something that can wait; a person is told at once of something that
cannot. Quiet hours hold messages back, never lose them: the answer is always an instant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import Int64
from prewatt.core.civil_time import DAY_US, MINUTES_PER_DAY, LocalCalendar
from prewatt.core.cut_window import WindowInvalid
from prewatt.core.vocabulary import Severity


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Quiet from ``starts_min`` until ``ends_min`` (half-open, may pass midnight) every night.

    Equal ends mean no quiet hours. Messages of ``exempt_from`` severity or higher are sent at any
    time; None exempts nothing. Raises `WindowInvalid`.
    """

    calendar: LocalCalendar
    starts_min: int = 21 * 60
    ends_min: int = 8 * 60
    exempt_from: Severity | None = Severity.URGENT

    def __post_init__(self) -> None:
        if not (0 <= self.starts_min < MINUTES_PER_DAY and 0 <= self.ends_min < MINUTES_PER_DAY):
            raise WindowInvalid("quiet hours start and end within a day")


def is_quiet(quiet: QuietHours, now_us: int) -> bool:
    """Say whether the contact's local time lies in the quiet hours."""
    return bool(_quiet_at(quiet, np.array([now_us], dtype=np.int64))[0])


def send_at_us(quiet: QuietHours, severity: Severity, now_us: int) -> int:
    """Return the earliest instant, now or later, at which a message of this severity may go."""
    exempt = quiet.exempt_from is not None and severity >= quiet.exempt_from
    if exempt or not is_quiet(quiet, now_us):
        return now_us
    # Quiet hours last less than a day, so the next two days hold an end even when clocks jump.
    edges = quiet.calendar.wall_edges(now_us, now_us + 2 * DAY_US, (quiet.ends_min,))
    return int(edges[~_quiet_at(quiet, edges)][0])


def _quiet_at(quiet: QuietHours, at_us: Int64) -> npt.NDArray[np.bool_]:
    minute = quiet.calendar.minute_of_day(at_us)
    after_start, before_end = minute >= quiet.starts_min, minute < quiet.ends_min
    if quiet.starts_min <= quiet.ends_min:
        return np.asarray(after_start & before_end)
    return np.asarray(after_start | before_end)
