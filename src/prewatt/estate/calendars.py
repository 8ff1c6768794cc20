"""Public holidays of a place, by ISO 3166 code, from the ``holidays`` package."""

from __future__ import annotations

from datetime import date
from functools import lru_cache

import holidays

from prewatt.core.civil_time import LocalCalendar


class UnknownCalendar(ValueError):
    """No holiday list is known for that code."""


@lru_cache(maxsize=64)
def holiday_dates(code: str, first_year: int, last_year: int) -> frozenset[date]:
    """Public holidays of ``DE``, ``DE-HE``, ``CN`` … in whole years; an empty code has none."""
    if not code:
        return frozenset()
    country, _, subdivision = code.partition("-")
    try:
        found = holidays.country_holidays(
            country, subdiv=subdivision or None, years=range(first_year, last_year + 1)
        )
    except NotImplementedError as error:
        raise UnknownCalendar(f"no holidays are known for {code!r}") from error
    return frozenset(found.keys())


@lru_cache(maxsize=64)
def local_calendar(time_zone: str, code: str, first_year: int, last_year: int) -> LocalCalendar:
    """The civil calendar of a property: its time zone with its public holidays."""
    return LocalCalendar(time_zone, holiday_dates(code, first_year, last_year))
