"""The console's pages. Each view makes one call below and renders; nothing is decided here."""

from __future__ import annotations

import csv
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import get_language

from prewatt.core.vocabulary import BoardState
from prewatt.reports import lists_query
from prewatt.reports.account_query import ENTRIES, account_page
from prewatt.reports.today import KEY_ORDER
from prewatt.reports.today_query import today
from prewatt.web import clock
from prewatt.web.console import export
from prewatt.web.session import actor_of
from prewatt.web.ui import sentences

_STATES = {state.word: state for state in BoardState}


def is_partial(request: HttpRequest) -> bool:
    """Whether htmx asks for a part of the page only."""
    return request.headers.get("HX-Request") == "true"


def number(text: str, default: int, most: int) -> int:
    """A whole number of an address, within bounds, or the default."""
    # So long a text is no number of ours; Python itself refuses those beyond some thousand digits.
    is_number = text.isascii() and text.isdigit() and len(text) <= 9
    return min(max(int(text), 1), most) if is_number else default


def today_view(request: HttpRequest) -> HttpResponse:
    """Today, whole or as the part that lives."""
    report = today(actor=actor_of(request), now=clock.now())
    page = "prewatt/parts/today_live.html" if is_partial(request) else "prewatt/pages/today.html"
    return render(
        request,
        page,
        {"today": report, "place": report.place, "now": report.now, "tab": "today"},
    )


def account_view(request: HttpRequest, account_id: int) -> HttpResponse:
    """One account; a live part keeps its lines as they are and says how many are new."""
    entries = number(request.GET.get("entries", ""), ENTRIES, 400)
    page = account_page(
        actor=actor_of(request), account_id=account_id, now=clock.now(), entries=entries
    )
    seen = request.GET.get("seen", "")
    context = account_context(page, seen=seen if is_partial(request) else "")
    context |= {
        "next_entries": min(400, entries * 4),
        "may_recharge": page.holder.closed_at is None
        and actor_of(request).duty in ("operator", "administrator"),
    }
    part = (
        "prewatt/parts/account_live.html" if is_partial(request) else "prewatt/pages/account.html"
    )
    return render(request, part, context)


def account_context(page: Any, *, seen: str) -> dict[str, Any]:
    """What the account's templates need beside the page itself."""
    keys = [entry.key for entry in page.entries]
    new = keys.index(seen) if seen in keys else 0
    return {
        "page": page,
        "place": page.place,
        "now": page.now,
        "tab": "accounts",
        "seen": keys[0] if keys else "",
        "new_entries": new,
        "entries": page.entries[new:],
        "band_labels": band_labels(page.bands),
    }


def band_labels(bands: Any) -> dict[str, str]:
    """Band code → its name: ours in the page's language when its label is the code's common word."""
    return {band.code: sentences.band_name(band.code, band.label) for band in bands}


def accounts_view(request: HttpRequest) -> HttpResponse:
    """All accounts, found, filtered, sorted."""
    found, chosen = _accounts(request)
    return render(
        request,
        "prewatt/pages/accounts.html",
        {
            "list": found,
            "place": found.place,
            "now": found.now,
            "tab": "accounts",
            "states": KEY_ORDER,
            "filters": urlencode(chosen),
            "query": chosen["q"],
            **chosen,
        },
    )


def accounts_csv(request: HttpRequest) -> HttpResponse:
    """The same selection as a file for a spreadsheet."""
    found, _chosen = _accounts(request)
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="accounts.csv"'
    # Spreadsheet programs take UTF-8 for granted only after this mark.
    response.write("\ufeff")
    export.accounts(csv.writer(response), found, get_language() or "en")
    return response


def _accounts(request: HttpRequest) -> tuple[Any, dict[str, str]]:
    state = request.GET.get("state", "")
    sort = request.GET.get("sort", "unit")
    chosen = {
        "q": request.GET.get("q", "").strip()[:80],
        "state": state if state in _STATES else "",
        "sort": sort if sort in ("unit", "time", "balance") else "unit",
    }
    found = lists_query.accounts(
        actor=actor_of(request),
        now=clock.now(),
        query=chosen["q"],
        state=_STATES.get(chosen["state"]),
        sort=chosen["sort"],
    )
    return found, chosen


def supply_view(request: HttpRequest) -> HttpResponse:
    """Supply orders."""
    show, limit = request.GET.get("show", ""), _limit(request)
    found = lists_query.orders(actor=actor_of(request), now=clock.now(), show=show, limit=limit)
    return _listing(request, "supply", found, show, limit)


def meters_view(request: HttpRequest) -> HttpResponse:
    """Meters."""
    show = request.GET.get("show", "")
    found = lists_query.meters(actor=actor_of(request), now=clock.now(), show=show)
    return _listing(request, "meters", found, show, lists_query.PAGE_MAX)


def money_view(request: HttpRequest) -> HttpResponse:
    """Recharges of one, seven or thirty days."""
    days, limit = number(request.GET.get("days", ""), 1, 366), _limit(request)
    found = lists_query.money(actor=actor_of(request), now=clock.now(), days=days, limit=limit)
    return _listing(request, "money", found, "", limit, days=days)


def messages_view(request: HttpRequest) -> HttpResponse:
    """What customers were told."""
    limit = _limit(request)
    found = lists_query.messages(actor=actor_of(request), now=clock.now(), limit=limit)
    return _listing(request, "messages", found, "", limit)


def _limit(request: HttpRequest) -> int:
    return number(request.GET.get("limit", ""), lists_query.PAGE, lists_query.PAGE_MAX)


def _listing(
    request: HttpRequest, name: str, found: Any, show: str, limit: int, **more: Any
) -> HttpResponse:
    chosen = {"show": show, "days": str(more.get("days", "")), "limit": str(limit)}
    filters = {key: value for key, value in chosen.items() if value and value != "0"}
    more_url = ""
    if found.total > len(found.rows) and limit < lists_query.PAGE_MAX:
        more_url = f"/{name}?" + urlencode(
            filters | {"limit": min(limit * 4, lists_query.PAGE_MAX)}
        )
    return render(
        request,
        f"prewatt/pages/{name}.html",
        {
            "list": found,
            "place": found.place,
            "now": found.now,
            "tab": name,
            "show": show,
            "filters": urlencode(filters),
            "more_url": more_url,
            **more,
        },
    )


def healthy(request: HttpRequest) -> HttpResponse:
    """That this process answers; it says nothing about the database on purpose."""
    return HttpResponse("ok\n", content_type="text/plain; charset=utf-8")
