"""The estate: the property, the tree of its buildings and units, one unit with its past."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render

from prewatt.reports.estate_query import (
    KINDS,
    every_unit_row,
    property_page,
    unit_list,
    unit_page,
)
from prewatt.web import clock
from prewatt.web.console import export, streaming
from prewatt.web.console.views import beside, page_of
from prewatt.web.session import actor_of


def units_view(request: HttpRequest) -> HttpResponse:
    """All units by building, found and filtered."""
    chosen = _chosen(request)
    found = unit_list(
        actor=actor_of(request),
        now=clock.now(),
        query=chosen["q"],
        kind=chosen["kind"],
        vacant=bool(chosen["vacant"]),
        page=page_of(request),
    )
    return render(
        request,
        "prewatt/pages/units.html",
        {
            "list": found,
            "place": found.place,
            "now": found.now,
            "tab": "units",
            "kinds_known": KINDS,
            "filters": urlencode(chosen),
            "text": chosen["q"],
            **beside("/units", chosen, found.beside),
            **chosen,
        },
    )


def units_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The same selection as a file for a spreadsheet."""
    chosen = _chosen(request)
    found = every_unit_row(
        actor=actor_of(request),
        now=clock.now(),
        query=chosen["q"],
        kind=chosen["kind"],
        vacant=bool(chosen["vacant"]),
    )
    return streaming.csv_file(request, "units.csv", export.units(found))


def _chosen(request: HttpRequest) -> dict[str, str]:
    """What is looked for, as far as it can be."""
    kind = request.GET.get("kind", "")
    return {
        "q": request.GET.get("q", "").replace("\0", "").strip()[:80],
        "kind": kind if kind in KINDS else "",
        "vacant": "1" if request.GET.get("vacant") == "1" else "",
    }


def unit_view(request: HttpRequest, unit_id: int) -> HttpResponse:
    """One unit: its metering points and meters, its tenants, and what can be done there."""
    page = unit_page(actor=actor_of(request), unit_id=unit_id, now=clock.now())
    fresh = request.GET.get("exchanged", "")
    return render(
        request,
        "prewatt/pages/unit.html",
        {
            "page": page,
            "place": page.place,
            "now": page.now,
            "tab": "units",
            "exchanged": next((each for each in page.meters if str(each.meter_id) == fresh), None),
        },
    )


def property_view(request: HttpRequest) -> HttpResponse:
    """The property: whose it is, by which money, time and days it lives, and what it holds."""
    page = property_page(actor=actor_of(request), now=clock.now())
    return render(
        request,
        "prewatt/pages/property.html",
        {"page": page, "place": page.place, "now": page.now, "tab": "property"},
    )
