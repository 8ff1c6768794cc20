"""The tariffs of the property: the list, one plan in words and pictures, its history."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from prewatt.access.scope import Actor, may
from prewatt.reports.tariff_pages import TariffList
from prewatt.reports.tariff_query import SORTS, tariff_list, tariff_page
from prewatt.web import clock
from prewatt.web.console import export
from prewatt.web.console.sheet_writer import SheetWriter
from prewatt.web.session import actor_of

VERSION_MAX = 100_000


def may_draft(actor: Actor) -> bool:
    """Whether buttons that change drafts are shown; the operation below decides."""
    return may(actor, "billing.draft")


def path_of(code: str) -> str:
    """A tariff's code as a part of an address."""
    return quote(code, safe="")


def tariffs_view(request: HttpRequest) -> HttpResponse:
    """All tariffs, found, filtered, sorted."""
    found, chosen = _list(request)
    return render(
        request,
        "prewatt/pages/tariffs.html",
        {
            "list": found,
            "place": found.place,
            "now": found.now,
            "tab": "tariffs",
            "filters": urlencode(chosen),
            "text": chosen["q"],
            "may_draft": may_draft(actor_of(request)),
            **chosen,
        },
    )


def tariffs_csv(request: HttpRequest) -> HttpResponse:
    """The same selection as a file for a spreadsheet."""
    found, _chosen = _list(request)
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="tariffs.csv"'
    response.write("\ufeff")
    export.tariffs(SheetWriter(response), found)
    return response


def _list(request: HttpRequest) -> tuple[TariffList, dict[str, str]]:
    sort, show = request.GET.get("sort", ""), request.GET.get("show", "")
    chosen = {
        "q": request.GET.get("q", "").strip()[:80],
        "sort": sort if sort in SORTS else SORTS[0],
        "show": show if show in ("drafts", "next") else "",
    }
    found = tariff_list(
        actor=actor_of(request),
        now=clock.now(),
        query=chosen["q"],
        sort=chosen["sort"],
        show=chosen["show"],
    )
    return found, chosen


def tariff_view(request: HttpRequest, code: str) -> HttpResponse:
    """One tariff: the version in force, or the one that the address names."""
    wanted = request.GET.get("version", "")
    page = tariff_page(
        actor=actor_of(request),
        code=code,
        now=clock.now(),
        number=min(int(wanted[:19]), VERSION_MAX)
        if wanted.isascii() and wanted.isdigit()
        else None,
    )
    return render(
        request,
        "prewatt/pages/tariff.html",
        {
            "page": page,
            "place": page.place,
            "now": page.now,
            "tab": "tariffs",
            "tariff": page.tariff,
            "code_path": path_of(code),
            "may_draft": may_draft(actor_of(request)),
        },
    )
