"""Public holidays by place, observed shifts, make-up days, and what a property says otherwise."""

from __future__ import annotations

import json
from datetime import date, timedelta

import numpy as np
import pytest

from prewatt.core.civil_time import HOLIDAY, LocalCalendar, day_number
from prewatt.estate.calendars import UnknownCalendar, holiday_dates, local_calendar


def kinds(calendar: LocalCalendar, first: date, days: int) -> list[int]:
    numbers = day_number(first) + np.arange(days, dtype=np.int64)
    return [int(kind) for kind in calendar.day_kind_of(numbers)]


def own(*, lists: list[list[object]] | None = None, days: list[list[object]] | None = None) -> str:
    return json.dumps({"lists": lists or [], "days": days or []})


def test_a_holiday_on_a_weekend_shifts_where_shifts_are_observed() -> None:
    # The fourth of July 2026 is a Saturday.
    friday, saturday = date(2026, 7, 3), date(2026, 7, 4)
    assert {friday, saturday} <= holiday_dates("US", 2026, 2026)
    plain = holiday_dates("US", 2026, 2026, observed=False)
    assert saturday in plain and friday not in plain


def test_days_worked_to_make_up_for_a_bridge_count_as_weekdays() -> None:
    """China's lists of 2026: off until Monday 23 February, worked on Saturdays 14 and 28."""
    calendar = local_calendar("Asia/Shanghai", "CN", 2026, 2026)
    assert kinds(calendar, date(2026, 2, 13), 4) == [4, 0, 6, HOLIDAY]
    assert kinds(calendar, date(2026, 2, 23), 6) == [HOLIDAY, 1, 2, 3, 4, 0]
    assert all(day.year == 2026 for day, _ in calendar.workdays)


def test_a_property_adds_takes_away_and_moves_days() -> None:
    changes = own(
        days=[
            ["2026-05-01", "ordinary", None],  # a Friday, Labour Day in Germany
            ["2026-05-02", "workday", 4],
            ["2026-05-04", "holiday", None],
            ["2026-12-25", "listed", None],
        ]
    )
    calendar = local_calendar("Europe/Berlin", "DE", 2026, 2026, changes)
    assert kinds(calendar, date(2026, 5, 1), 4) == [4, 4, 6, HOLIDAY]
    assert kinds(calendar, date(2026, 12, 25), 1) == [HOLIDAY]


def test_the_word_of_a_property_goes_before_the_list_s() -> None:
    changes = own(days=[["2026-02-14", "holiday", None], ["2026-02-28", "ordinary", None]])
    calendar = local_calendar("Asia/Shanghai", "CN", 2026, 2026, changes)
    assert kinds(calendar, date(2026, 2, 14), 1) == [HOLIDAY]
    assert kinds(calendar, date(2026, 2, 28), 1) == [5]


def test_a_list_holds_from_its_day_on() -> None:
    """From 4 July 2026 without observed shifts, from 1 December by Germany's list."""
    changes = own(lists=[["2026-07-04", "US", False], ["2026-12-01", "DE", True]])
    calendar = local_calendar("America/New_York", "US", 2026, 2027, changes)
    assert date(2026, 7, 3) in calendar.holidays, "the shift lies before the change"
    assert date(2026, 11, 26) in calendar.holidays, "Thanksgiving"
    assert date(2026, 12, 26) in calendar.holidays
    assert date(2027, 7, 5) not in calendar.holidays


def test_without_changes_nothing_changes() -> None:
    plain = local_calendar("Europe/Berlin", "DE-HE", 2025, 2027)
    assert plain == local_calendar("Europe/Berlin", "DE-HE", 2025, 2027, own())
    assert plain.holidays == holiday_dates("DE-HE", 2025, 2027)
    assert plain.workdays == frozenset()
    assert local_calendar("Europe/Berlin", "", 2025, 2027).holidays == frozenset()
    first = date(2025, 1, 1)
    assert all(first <= day < first + timedelta(days=3 * 366) for day in plain.holidays)


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(UnknownCalendar):
        local_calendar("Europe/Berlin", "XX", 2026, 2026)
