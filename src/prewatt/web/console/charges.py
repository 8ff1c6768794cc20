"""A charge opened into its lines: as a part of the account's page, or as a page of its own."""

from __future__ import annotations

from datetime import date

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from prewatt.reports.account import EntryKind
from prewatt.reports.charge_query import KINDS, charge_page
from prewatt.reports.place import NoSuchThing
from prewatt.web import clock
from prewatt.web.console.views import is_partial
from prewatt.web.session import actor_of


def charge_view(
    request: HttpRequest, account_id: int, event_id: int, kind: str, day: str
) -> HttpResponse:
    """What one event charged on one day, with the readings behind it."""
    if kind not in list(KINDS):
        raise NoSuchThing(f"{kind!r} does not open into lines")
    try:
        service_day = date.fromisoformat(day)
    except ValueError as error:
        raise NoSuchThing(f"{day!r} is not a day") from error
    page = charge_page(
        actor=actor_of(request),
        account_id=account_id,
        event_id=event_id,
        kind=EntryKind(kind),
        day=service_day,
        now=clock.now(),
    )
    part = "prewatt/parts/charge.html" if is_partial(request) else "prewatt/pages/charge.html"
    return render(
        request,
        part,
        {
            "page": page,
            "place": page.place,
            "now": page.now,
            "tab": "accounts",
            "key": f"t{event_id}-{int(KINDS[EntryKind(kind)])}-{service_day:%y%m%d}",
        },
    )
