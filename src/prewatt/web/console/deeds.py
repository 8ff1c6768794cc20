"""What pages of deeds share: the context of a page, a list's choices, a file of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from prewatt.reports.lists import Listing
from prewatt.reports.lists_query import PAGE, PAGE_MAX
from prewatt.reports.today import Place
from prewatt.vending.operations import LIMIT_MICRO
from prewatt.web.console.asked import Asked
from prewatt.web.console.export import Writer
from prewatt.web.console.sheet_writer import SheetWriter


def show(
    request: HttpRequest,
    template: str,
    *,
    place: Place,
    now: datetime,
    tab: str,
    status: int = 200,
    **more: Any,
) -> HttpResponse:
    """A whole page; every page has its place, its instant and its tab."""
    context = {"place": place, "now": now, "tab": tab, **more}
    return render(request, f"prewatt/pages/{template}.html", context, status=status)


def form_context(asked: Asked | None, **defaults: str) -> dict[str, Any]:
    """The values and faults of a form, or its defaults before anybody wrote anything."""
    values = defaults if asked is None else {**defaults, **asked.values}
    return {"form": values, "faults": asked.faults if asked else {}}


def cap_of(asked: Asked, currency: str) -> int:
    """A weekly cap in micro-units; empty, there is none."""
    if not asked.text("cap"):
        return 0
    return asked.amount("cap", limit_micro=LIMIT_MICRO, currency=currency, allow_zero=True)


def chosen(
    request: HttpRequest, *, shows: Sequence[str], sorts: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """(arguments of a list's query, the same as they stand in an address), from an address."""
    wanted, order = request.GET.get("show", ""), request.GET.get("sort", "")
    limit = request.GET.get("limit", "")
    size = (
        min(max(int(limit), 1), PAGE_MAX)
        if limit.isascii() and limit.isdigit() and len(limit) < 10
        else PAGE
    )
    words = {
        "show": wanted if wanted in shows else shows[0],
        "query": request.GET.get("q", "").replace("\x00", "").strip()[:80],
        "sort": order if order in sorts else sorts[0],
    }
    address = {"q": words["query"], "show": words["show"], "sort": words["sort"]}
    return {**words, "limit": size}, address


def show_list(
    request: HttpRequest,
    template: str,
    found: Listing[Any],
    address: dict[str, str],
    *,
    path: str,
    tab: str,
    **more: Any,
) -> HttpResponse:
    """A list with its filters, its export and the way to its further rows."""
    more_url = ""
    if found.total > len(found.rows):
        further = {"limit": str(min(len(found.rows) * 4, PAGE_MAX))}
        more_url = f"{path}?{urlencode(address | further)}"
    return show(
        request, template, place=found.place, now=found.now, tab=tab, list=found,
        filters=urlencode(address), text=address["q"], chosen=address, more_url=more_url,
        path=path, **more,
    )  # fmt: skip


def as_csv(name: str, write: Callable[[Writer], None]) -> HttpResponse:
    """A file for a spreadsheet."""
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    # Spreadsheet programs take UTF-8 for granted only after this mark.
    response.write("\ufeff")
    write(SheetWriter(response))
    return response
