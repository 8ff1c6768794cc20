"""The hours in which supply may be cut, as a picture of the week: a row for each day, one for holidays.

Made as the other charts are (``charts``): what is permitted is filled, what is not is empty, and hours
that a change gives or takes are outlined, so that nothing rests on colour alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from prewatt.core.cut_window import CutWindow, usual_week
from prewatt.web.ui import format as fmt
from prewatt.web.ui.charts import figure, line, rect, text

_LEFT, _WIDTH, _ROW = 78.0, 242.0, 24.0
_DAY: Final = 1440
_HOURS_SHOWN: Final = (0, 6, 12, 18, 24)

Runs = Sequence[tuple[int, int]]


def hours_chart(window: CutWindow, lang: str, before: CutWindow | None = None) -> SafeString:
    """The permitted hours of a usual week; with ``before`` what differs from it is outlined."""
    week = usual_week(window)
    was = week if before is None else usual_week(before)
    height = 8 * _ROW
    marks = [line("grid", _x(hour * 60), 0, _x(hour * 60), height - 2) for hour in _HOURS_SHOWN]
    for day, runs in enumerate(week):
        marks += _row(day * _ROW, fmt.weekday_name(day, lang), runs)
        marks += _outlined(day * _ROW, runs, was[day])
    marks += _row(7 * _ROW, _("Holiday"), ())
    marks += [text("mid", _x(hour * 60), height + 16, f"{hour:02d}") for hour in _HOURS_SHOWN]
    return figure(
        marks,
        name="hours",
        width=int(_LEFT + _WIDTH) + 12,
        height=int(height) + 22,
        title=_("When supply may be cut, in a usual week"),
        desc="; ".join(
            f"{fmt.weekday_name(day, lang)}: {said_runs(runs, lang)}"
            for day, runs in enumerate(week)
        ),
    )


def said_runs(runs: Runs, lang: str) -> str:
    """`09:00–15:00`, or that there are none."""
    if not runs:
        return _("never")
    return fmt.listed([fmt.minutes_of_day(begin, end) for begin, end in runs], lang)


def _x(minute: int) -> float:
    return _LEFT + _WIDTH * minute / _DAY


def _row(y: float, name: str, runs: Runs) -> Iterator[str]:
    yield text("", 0, y + 16, name)
    yield rect("rest", _LEFT, y, _WIDTH, _ROW - 3, "3")
    for begin, end in runs:
        yield rect("b2", _x(begin), y, _x(end) - _x(begin), _ROW - 3, "3")


def _outlined(y: float, runs: Runs, was: Runs) -> Iterator[str]:
    """An outline around each run of minutes that are permitted now and were not, or were and are not."""
    edges = sorted({edge for run in (*runs, *was) for edge in run})
    spans: list[list[int]] = []
    for begin, end in pairwise(edges):
        if _within(runs, begin) == _within(was, begin):
            continue
        if spans and spans[-1][1] == begin:
            spans[-1][1] = end
        else:
            spans.append([begin, end])
    for begin, end in spans:
        yield rect("changed", _x(begin), y - 0.5, _x(end) - _x(begin), _ROW - 2, "3")


def _within(runs: Runs, minute: int) -> bool:
    return any(begin <= minute < end for begin, end in runs)
