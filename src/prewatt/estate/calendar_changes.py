"""What a property says of its own calendar, beside the public holidays of its place.

It adds holidays, takes some away, lets a day count as a weekday, or follows another list from a day
on. It does so for days to come only: what a past day was is what it was priced by, so a bill can be
made again whenever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from django.db import connection

from prewatt.core.civil_time import HOLIDAY, LocalCalendar, instant_us
from prewatt.estate.calendars import (
    MAKE_UP_WEEKDAY,
    DayKind,
    UnknownCalendar,
    holiday_dates,
    local_calendar,
)
from prewatt.estate.models import CalendarDay, HolidayList

__all__ = [
    "CalendarRefused",
    "OwnDay",
    "UnknownCalendar",
    "follow_list",
    "property_calendar",
    "set_days",
]


class CalendarRefused(Exception):
    """A change of a property's calendar is refused; nothing was changed. ``reason`` is `past`,
    `doubled` or `no_weekday`, ``day`` the day that it concerns.
    """

    def __init__(self, reason: str, day: date) -> None:
        super().__init__(f"{day}: {reason}")
        self.reason = reason
        self.day = day


@dataclass(frozen=True, slots=True)
class OwnDay:
    """What a property says of one day. ``counts_as`` is the weekday (Monday 0) of a workday."""

    day: date
    kind: DayKind
    counts_as: int = MAKE_UP_WEEKDAY
    note: str = ""


def property_calendar(property_id: int, first_year: int, last_year: int) -> LocalCalendar:
    """The civil calendar of a stored property in whole years, inside the caller's scope."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT time_zone, holiday_calendar, own_calendar(id) FROM property WHERE id = %s",
            [property_id],
        )
        zone, code, own = cursor.fetchone()
    return local_calendar(zone, code, first_year, last_year, own)


def own_days(property_id: int, days: Sequence[date]) -> dict[str, list[object]]:
    """What a property says of these days by now: kind, the weekday it counts as, note."""
    said = CalendarDay.objects.filter(property_id=property_id, day__in=days).order_by("day")
    return {str(each.day): [each.kind, each.counts_as, each.note] for each in said}


def list_on(property_id: int, day: date) -> dict[str, object] | None:
    """The list of public holidays that a property follows on a day by its own word."""
    found = (
        HolidayList.objects.filter(property_id=property_id, valid_from__lte=day)
        .order_by("-valid_from")
        .first()
    )
    return None if found is None else {"list": found.code, "observed": found.observed}


def set_days(*, property_id: int, days: Sequence[OwnDay], now: datetime) -> None:
    """Write what a property says of days to come, instead of what it said; inside the caller's
    transaction. Raises `CalendarRefused`.
    """
    seen: set[date] = set()
    for each in days:
        _refuse_past(property_id, each.day, now)
        if each.day in seen:
            raise CalendarRefused("doubled", each.day)
        if not 0 <= each.counts_as < HOLIDAY:
            raise CalendarRefused("no_weekday", each.day)
        seen.add(each.day)
    CalendarDay.objects.bulk_create(
        [
            CalendarDay(
                property_id=property_id,
                day=each.day,
                kind=each.kind,
                counts_as=each.counts_as if each.kind == DayKind.WORKDAY else None,
                note=each.note,
            )
            for each in days
        ],
        update_conflicts=True,
        unique_fields=["property_id", "day"],
        update_fields=["kind", "counts_as", "note"],
    )


def follow_list(
    *, property_id: int, code: str, observed: bool, valid_from: date, now: datetime
) -> None:
    """Let a property follow a list from a day to come on; inside the caller's transaction.

    Raises `CalendarRefused` and `UnknownCalendar`.
    """
    _refuse_past(property_id, valid_from, now)
    holiday_dates(code, valid_from.year, valid_from.year, observed=observed)
    HolidayList.objects.bulk_create(
        [HolidayList(property_id=property_id, valid_from=valid_from, code=code, observed=observed)],
        update_conflicts=True,
        unique_fields=["property_id", "valid_from"],
        update_fields=["code", "observed"],
    )


def _refuse_past(property_id: int, day: date, now: datetime) -> None:
    """A day that has begun is priced already."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT time_zone FROM property WHERE id = %s", [property_id])
        (zone,) = cursor.fetchone()
    if day <= LocalCalendar(zone).local_date(instant_us(now)):
        raise CalendarRefused("past", day)
