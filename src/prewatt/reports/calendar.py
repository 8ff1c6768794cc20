"""The calendar of a property as a year: what each day is, why, and since when which list holds."""

from __future__ import annotations

import json
from calendar import monthrange
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from prewatt.access.scope import Actor, scope
from prewatt.core.civil_time import LocalCalendar, instant_us
from prewatt.estate.calendars import DayKind, holiday_names, local_calendar
from prewatt.reports.place import place_of, rows
from prewatt.reports.today import Place

FIRST_YEAR, LAST_YEAR = 2000, 2100


class Mark(StrEnum):
    """What a day is beside its weekday: by a list, or by the property's own word."""

    PLAIN = "plain"
    HOLIDAY = "holiday"
    OWN = "own"
    WORKED = "worked"
    TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class CalendarDayView:
    """One day. ``counts_as`` is the weekday (Monday 0) of a worked day; ``own`` the property's word."""

    day: date
    mark: Mark
    name: str
    coming: bool
    counts_as: int | None = None
    own: DayKind | None = None

    @property
    def weekend(self) -> bool:
        """Whether it is a Saturday or Sunday."""
        return self.day.weekday() >= 5


@dataclass(frozen=True, slots=True)
class Month:
    """A month as weeks of seven; None before its first and after its last day."""

    first: date
    weeks: tuple[tuple[CalendarDayView | None, ...], ...]


@dataclass(frozen=True, slots=True)
class ListChange:
    """From a day on, the public holidays of ``code`` hold. ``valid_from`` None: from the beginning."""

    valid_from: date | None
    code: str
    observed: bool


@dataclass(frozen=True, slots=True)
class CalendarPage:
    """A year of the property."""

    place: Place
    now: datetime
    today: date
    year: int
    months: tuple[Month, ...]
    lists: tuple[ListChange, ...]

    @property
    def special(self) -> tuple[CalendarDayView, ...]:
        """Every day that is not plain, in order."""
        return tuple(
            each
            for month in self.months
            for week in month.weeks
            for each in week
            if each is not None and each.mark is not Mark.PLAIN
        )

    def day(self, wanted: date) -> CalendarDayView | None:
        """One day of the year."""
        for month in self.months:
            for week in month.weeks:
                for each in week:
                    if each is not None and each.day == wanted:
                        return each
        return None


def calendar_page(
    *, actor: Actor, now: datetime, year: int | None = None, language: str = "en"
) -> CalendarPage:
    """The year of a property, this one where none is asked for."""
    with scope(actor):
        place = place_of(actor)
        zone, code, own = rows(
            "SELECT time_zone, holiday_calendar, own_calendar(id) FROM property WHERE id = %s",
            [place.property_id],
        )[0]
        notes = dict(
            rows(
                "SELECT day, note FROM calendar_day WHERE property_id = %s AND kind <> 'listed'",
                [place.property_id],
            )
        )
    today = LocalCalendar(zone).local_date(instant_us(now))
    year = min(max(year or today.year, FIRST_YEAR), LAST_YEAR)
    calendar = local_calendar(zone, code, year, year, own)
    changes = json.loads(own)
    lists = (
        ListChange(None, code, observed=True),
        *(
            ListChange(date.fromisoformat(each[0]), each[1], observed=each[2])
            for each in changes["lists"]
        ),
    )
    said = {date.fromisoformat(each[0]): DayKind(each[1]) for each in changes["days"]}
    names = _names(lists, year, language)
    worked = dict(calendar.workdays)

    def view(day: date) -> CalendarDayView:
        word = said.get(day)
        word = None if word is DayKind.LISTED else word
        if day in calendar.holidays:
            mark = Mark.OWN if word is DayKind.HOLIDAY else Mark.HOLIDAY
        elif day in worked:
            mark = Mark.WORKED
        else:
            mark = Mark.TAKEN if word is DayKind.ORDINARY else Mark.PLAIN
        name = (notes.get(day) or "") if word else ""
        return CalendarDayView(
            day, mark, name or names.get(day, ""), day > today, worked.get(day), word
        )

    months = tuple(_month(year, number, view) for number in range(1, 13))
    return CalendarPage(place, now, today, year, months, lists)


def _names(lists: tuple[ListChange, ...], year: int, language: str) -> dict[date, str]:
    """The names of public holidays by the list that holds on each day."""
    found: dict[date, str] = {}
    for number, each in enumerate(lists):
        begin = each.valid_from or date.min
        following = lists[number + 1].valid_from if number + 1 < len(lists) else None
        end = following or date.max
        named = holiday_names(each.code, year, observed=each.observed, language=language)
        found |= {day: name for day, name in named.items() if begin <= day < end}
    return found


def _month(year: int, number: int, view: object) -> Month:
    assert callable(view)
    first = date(year, number, 1)
    days = [view(date(year, number, each + 1)) for each in range(monthrange(year, number)[1])]
    cells = [None] * first.weekday() + days
    cells += [None] * (-len(cells) % 7)
    weeks = tuple(tuple(cells[at : at + 7]) for at in range(0, len(cells), 7))
    return Month(first, weeks)
