"""The property's calendar: a year as a picture, and days to come changed by the property's own word."""

from __future__ import annotations

from datetime import date
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.estate.calendar_changes import CalendarRefused, OwnDay, UnknownCalendar
from prewatt.estate.calendars import DayKind
from prewatt.moves.calendar import follow_holiday_list, set_calendar_days
from prewatt.reports.calendar import FIRST_YEAR, LAST_YEAR, CalendarPage, calendar_page
from prewatt.web import clock
from prewatt.web.console import export
from prewatt.web.console.asked import Asked
from prewatt.web.console.sheet_writer import SheetWriter
from prewatt.web.session import actor_of
from prewatt.web.ui import format as fmt
from prewatt.web.ui.tags import lang

NOTE_MAX: Final = 120
CODE_MAX: Final = 12
KINDS: Final = tuple(each.value for each in DayKind)
WEEKDAYS: Final = tuple(str(each) for each in range(7))


@require_http_methods(["GET", "POST"])
def calendar_view(request: HttpRequest) -> HttpResponse:
    """The year; a POST says what a day to come is, or which list holds from a day on."""
    page = _page(request, request.POST.get("year", "") or request.GET.get("year", ""))
    if request.method == "GET":
        return _show(request, page, None, _day(request.GET.get("day", "")))
    actor = actor_of(request)
    require(actor, "estate.write")
    asked = Asked(request.POST)
    if request.POST.get("do") == "list":
        day = _set_list(request, asked)
    else:
        day = _set_day(request, asked)
    if asked.faults or day is None:
        return _show(request, page, asked, _day(asked.text("day")), status=422)
    return redirect(f"/property/calendar?year={day.year}&day={day.isoformat()}")


def calendar_csv(request: HttpRequest) -> HttpResponse:
    """The special days of a year as a file for a spreadsheet."""
    page = _page(request, request.GET.get("year", ""))
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="calendar-{page.year}.csv"'
    response.write("\ufeff")
    export.calendar(SheetWriter(response), page)
    return response


def _page(request: HttpRequest, year: str) -> CalendarPage:
    known = year.isascii() and year.isdigit() and len(year) == 4
    return calendar_page(
        actor=actor_of(request),
        now=clock.now(),
        year=int(year) if known else None,
        language="zh" if fmt.is_chinese(lang()) else "en",
    )


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _set_day(request: HttpRequest, asked: Asked) -> date | None:
    day = _day(asked.text("day"))
    if day is None or not FIRST_YEAR <= day.year <= LAST_YEAR:
        asked.faults["day"] = _("Write a date such as 2027-01-01.")
        return None
    kind = asked.choice("kind", KINDS)
    counts_as = asked.choice("counts_as", WEEKDAYS) if kind == DayKind.WORKDAY else "0"
    note = asked.line("note", most=NOTE_MAX)
    if asked.faults:
        return None
    try:
        set_calendar_days(
            actor=actor_of(request),
            property_id=actor_of(request).property_ids[0],
            days=[OwnDay(day, DayKind(kind), int(counts_as), note)],
            now=clock.now(),
        )
    except CalendarRefused:
        asked.faults["day"] = _("This day has begun: it was priced by what it was.")
        return None
    return day


def _set_list(request: HttpRequest, asked: Asked) -> date | None:
    valid_from = _day(asked.text("valid_from"))
    if valid_from is None or not FIRST_YEAR <= valid_from.year <= LAST_YEAR:
        asked.faults["valid_from"] = _("Write a date such as 2027-01-01.")
    code = asked.line("code", most=CODE_MAX)
    if asked.faults or valid_from is None:
        return None
    try:
        follow_holiday_list(
            actor=actor_of(request),
            property_id=actor_of(request).property_ids[0],
            code=code,
            observed=bool(asked.text("observed")),
            valid_from=valid_from,
            now=clock.now(),
        )
    except CalendarRefused:
        asked.faults["valid_from"] = _("This day has begun: it was priced by what it was.")
        return None
    except UnknownCalendar:
        asked.faults["code"] = _("No list is known for this. Write DE, DE-HE, CN or the like.")
        return None
    return valid_from


def _show(
    request: HttpRequest,
    page: CalendarPage,
    asked: Asked | None,
    day: date | None,
    *,
    status: int = 200,
) -> HttpResponse:
    chosen = page.day(day) if day else None
    own = chosen.own if chosen else None
    defaults = {
        "day": day.isoformat() if day else "",
        "kind": own.value
        if own
        else DayKind.LISTED.value
        if chosen is None
        else _usual(chosen.mark),
        "counts_as": str((chosen.counts_as if chosen else 0) or 0),
        "note": chosen.name if chosen and own else "",
        "observed": "1" if asked is None and page.lists[-1].observed else "",
        "code": page.lists[-1].code,
    }
    return render(
        request,
        "prewatt/pages/calendar.html",
        {
            "page": page,
            "place": page.place,
            "now": page.now,
            "tab": "calendar",
            "chosen": chosen,
            "form": defaults | (asked.values if asked else {}),
            "faults": asked.faults if asked else {},
            "weekdays": [(str(each), fmt.weekday_name(each, lang())) for each in range(7)],
            "before": page.year - 1 if page.year > FIRST_YEAR else None,
            "after": page.year + 1 if page.year < LAST_YEAR else None,
        },
        status=status,
    )


def _usual(mark: str) -> str:
    """What somebody who picks a day most likely wants of it: the other thing."""
    return DayKind.HOLIDAY.value if mark == "plain" else DayKind.ORDINARY.value
