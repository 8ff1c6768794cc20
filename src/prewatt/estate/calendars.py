"""The civil calendar of a property: public holidays by ISO 3166 code, and what the property says
otherwise (`calendar_changes`).

Public holidays, with the days to which they shift when they fall on a weekend and the days that are
worked to make up for bridges, come from the ``holidays`` package. No database: a process that only
asks for holidays needs no Django.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import lru_cache
from typing import Final

import holidays

from prewatt.core.civil_time import LocalCalendar

MAKE_UP_WEEKDAY: Final = 0
"""Monday: what a day that is worked to make up for another counts as."""


class DayKind(StrEnum):
    """What a property says of a day: a holiday, no holiday, worked as a weekday, or as listed."""

    HOLIDAY = "holiday"
    ORDINARY = "ordinary"
    WORKDAY = "workday"
    LISTED = "listed"


class UnknownCalendar(ValueError):
    """No holiday list is known for that code."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """What a list says of some years."""

    holidays: frozenset[date]
    make_up_days: frozenset[date]


@lru_cache(maxsize=64)
def holiday_dates(
    code: str, first_year: int, last_year: int, *, observed: bool = True
) -> frozenset[date]:
    """Public holidays of ``DE``, ``DE-HE``, ``CN`` … in whole years; an empty code has none.

    ``observed`` counts the days to which they shift from a weekend, too. Raises `UnknownCalendar`.
    """
    return _listed(code, first_year, last_year, observed).holidays


@lru_cache(maxsize=64)
def holiday_names(code: str, year: int, *, observed: bool, language: str) -> dict[date, str]:
    """What the public holidays of a year are called, in a language (`en`, `zh`) where the list has it
    and else in its own. Raises `UnknownCalendar`.
    """
    if not code:
        return {}
    country, _, subdivision = code.partition("-")
    try:
        known = holidays.country_holidays(country, subdiv=subdivision or None)
        spoken = [each for each in known.supported_languages if each.startswith(language)]
        found = holidays.country_holidays(
            country,
            subdiv=subdivision or None,
            years=year,
            observed=observed,
            language=spoken[0] if spoken else None,
        )
    except NotImplementedError as error:
        raise UnknownCalendar(f"no holidays are known for {code!r}") from error
    return {day: name for day, name in found.items() if day.year == year}


@lru_cache(maxsize=64)
def local_calendar(
    time_zone: str, code: str, first_year: int, last_year: int, own: str = ""
) -> LocalCalendar:
    """The civil calendar of a property in whole years: its time zone, the public holidays of
    ``code``, and its ``own`` changes as the database's `own_calendar` function writes them.
    """
    changes = json.loads(own) if own else {"lists": [], "days": []}
    free, worked = _by_lists(code, first_year, last_year, changes["lists"])
    workdays = dict.fromkeys(worked, MAKE_UP_WEEKDAY)
    for written, kind, counts_as in changes["days"]:
        day = date.fromisoformat(written)
        if kind == DayKind.LISTED:
            continue
        free.discard(day)
        workdays.pop(day, None)
        if kind == DayKind.HOLIDAY:
            free.add(day)
        elif kind == DayKind.WORKDAY:
            workdays[day] = counts_as
    return LocalCalendar(time_zone, frozenset(free), frozenset(workdays.items()))


@lru_cache(maxsize=64)
def _listed(code: str, first_year: int, last_year: int, observed: bool) -> _Listed:
    if not code:
        return _Listed(frozenset(), frozenset())
    country, _, subdivision = code.partition("-")
    years = range(first_year, last_year + 1)
    try:
        found = holidays.country_holidays(
            country, subdiv=subdivision or None, years=years, observed=observed
        )
    except NotImplementedError as error:
        raise UnknownCalendar(f"no holidays are known for {code!r}") from error
    make_up_days = {day for day in found.weekend_workdays if day.year in years}
    return _Listed(frozenset(found.keys()), frozenset(make_up_days))


def _by_lists(
    code: str, first_year: int, last_year: int, lists: list[tuple[str, str, bool]]
) -> tuple[set[date], set[date]]:
    """(holidays, make-up days) by the list that holds on each day."""
    free: set[date] = set()
    worked: set[date] = set()
    begins = [date.min, *(date.fromisoformat(valid_from) for valid_from, _, _ in lists)]
    sources = [(code, True), *((each_code, observed) for _, each_code, observed in lists)]
    ends = [*begins[1:], date.max]
    for begin, end, (each_code, observed) in zip(begins, ends, sources, strict=True):
        public = holiday_dates(each_code, first_year, last_year, observed=observed)
        make_up = _listed(each_code, first_year, last_year, observed).make_up_days
        free |= {day for day in public if begin <= day < end}
        worked |= {day for day in make_up if begin <= day < end}
    return free, worked
