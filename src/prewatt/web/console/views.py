"""The console's pages. Each view makes one call below and renders; nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render

from prewatt.access.scope import may
from prewatt.core.vocabulary import BoardState
from prewatt.reports import lists_query
from prewatt.reports.account_query import ENTRIES, account_page
from prewatt.reports.former import former_customers
from prewatt.reports.paging import Neighbours, Page
from prewatt.reports.place import place_for
from prewatt.reports.today import KEY_ORDER
from prewatt.reports.today_query import today
from prewatt.runtime.letters import Letter, kept
from prewatt.web import clock
from prewatt.web.console import export, streaming
from prewatt.web.session import actor_of
from prewatt.web.ui import sentences

#: How many of the letters of a demonstration are shown.
_LETTERS: Final = 20
_STATES = {state.word: state for state in BoardState}


def is_partial(request: HttpRequest) -> bool:
    """Whether htmx asks for a part of the page only."""
    return request.headers.get("HX-Request") == "true"


def number(text: str, default: int, most: int) -> int:
    """A whole number of an address, within bounds, or the default."""
    # So long a text is no number of ours; Python itself refuses those beyond some thousand digits.
    is_number = text.isascii() and text.isdigit() and len(text) <= 9
    return min(max(int(text), 1), most) if is_number else default


def page_of(request: HttpRequest) -> Page:
    """The page of a list that an address asks for."""
    return Page.of(request.GET.get("after", ""), request.GET.get("before", ""))


def beside(path: str, chosen: Mapping[str, str], neighbours: Neighbours) -> dict[str, str]:
    """The addresses of the pages before and after this one, for the foot of a list."""
    kept = {key: value for key, value in chosen.items() if value}
    before, after = {"before": neighbours.previous}, {"after": neighbours.next}
    return {
        "previous_url": f"{path}?{urlencode(kept | before)}" if neighbours.previous else "",
        "next_url": f"{path}?{urlencode(kept | after)}" if neighbours.next else "",
    }


def today_view(request: HttpRequest) -> HttpResponse:
    """Today, whole or as the part that lives."""
    report = today(
        actor=actor_of(request),
        now=clock.now(),
        building=_id(request.GET.get("building", "")),
        after=_id(request.GET.get("after", "")),
        add_up=request.GET.get("add") == "1",
    )
    page = "prewatt/parts/today_live.html" if is_partial(request) else "prewatt/pages/today.html"
    return render(
        request,
        page,
        {
            "today": report,
            "place": report.place,
            "now": report.now,
            "tab": "today",
            "after": _id(request.GET.get("after", "")),
        },
    )


def _id(text: str) -> int | None:
    """An id of an address, None for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


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
        and may(actor_of(request), "vending.recharge"),
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
    chosen = _chosen(request)
    found = lists_query.accounts(
        actor=actor_of(request),
        now=clock.now(),
        query=chosen["q"],
        state=_STATES.get(chosen["state"]),
        sort=chosen["sort"],
        page=page_of(request),
    )
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
            "former": former_customers(actor=actor_of(request), now=clock.now(), query=chosen["q"])
            if chosen["q"]
            else None,
            **beside("/accounts", chosen, found.beside),
            **chosen,
        },
    )


def former_view(request: HttpRequest) -> HttpResponse:
    """Those who have left, found by name, number or place, the latest first."""
    text = request.GET.get("q", "").replace("\0", "").strip()[:80]
    found = former_customers(
        actor=actor_of(request), now=clock.now(), query=text, page=page_of(request)
    )
    return render(
        request,
        "prewatt/pages/former.html",
        {
            "list": found, "place": found.place, "now": found.now, "tab": "accounts", "text": text,
            **beside("/accounts/former", {"q": text}, found.beside),
        },
    )  # fmt: skip


def accounts_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The same selection as a file for a spreadsheet."""
    actor, chosen = actor_of(request), _chosen(request)
    found = lists_query.every_account(
        actor=actor,
        now=clock.now(),
        query=chosen["q"],
        state=_STATES.get(chosen["state"]),
        sort=chosen["sort"],
    )
    return streaming.csv_file(request, "accounts.csv", export.accounts(found, place_for(actor)))


def _chosen(request: HttpRequest) -> dict[str, str]:
    """What is looked for, as far as it can be."""
    state = request.GET.get("state", "")
    sort = request.GET.get("sort", "unit")
    return {
        "q": request.GET.get("q", "").replace("\0", "").strip()[:80],
        "state": state if state in _STATES else "",
        "sort": sort if sort in ("unit", "time", "balance") else "unit",
    }


def supply_view(request: HttpRequest) -> HttpResponse:
    """Supply orders."""
    show = request.GET.get("show", "")
    found = lists_query.orders(
        actor=actor_of(request), now=clock.now(), show=show, page=page_of(request)
    )
    return _listing(request, "supply", found, show=show)


def meters_view(request: HttpRequest) -> HttpResponse:
    """Meters."""
    show, text = (
        request.GET.get("show", ""),
        request.GET.get("q", "").replace("\0", "").strip()[:80],
    )
    found = lists_query.meters(
        actor=actor_of(request), now=clock.now(), show=show, query=text, page=page_of(request)
    )
    return _listing(request, "meters", found, show=show, q=text)


def money_view(request: HttpRequest) -> HttpResponse:
    """Recharges of one, seven or thirty days."""
    days = number(request.GET.get("days", ""), 1, 366)
    found = lists_query.money(
        actor=actor_of(request), now=clock.now(), days=days, page=page_of(request)
    )
    return _listing(request, "money", found, days=str(days))


def messages_view(request: HttpRequest) -> HttpResponse:
    """What customers were told; in a demonstration also what people who sign in would have got."""
    found = lists_query.messages(actor=actor_of(request), now=clock.now(), page=page_of(request))
    folder = settings.PREWATT_OUTBOX_FOLDER
    return _listing(
        request, "messages", found, letters=kept(Path(folder), _LETTERS) if folder else ()
    )


def _listing(
    request: HttpRequest, name: str, found: Any, *, letters: Sequence[Letter] = (), **chosen: str
) -> HttpResponse:
    marks = {each: request.GET.get(each, "")[:40] for each in ("after", "before")}
    asked = {key: value for key, value in (chosen | marks).items() if value}
    return render(
        request,
        f"prewatt/pages/{name}.html",
        {
            "list": found,
            "letters": letters,
            "place": found.place,
            "now": found.now,
            "tab": name,
            "filters": urlencode(asked),
            **beside(f"/{name}", chosen, found.beside),
            **chosen,
        },
    )


def healthy(request: HttpRequest) -> HttpResponse:
    """That this process answers; it says nothing about the database on purpose."""
    return HttpResponse("ok\n", content_type="text/plain; charset=utf-8")
