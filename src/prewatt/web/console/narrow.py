"""The pages of a tenant, an owner and an installer: what their duty shows, and nothing beside it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from prewatt.moves import operations as moves
from prewatt.moves.words import MoveRefused, ReadingBeyond
from prewatt.reports.narrow import Round, meter_on_round, meters_on_round, mine, property_figures
from prewatt.web import clock
from prewatt.web.console.asked import Asked
from prewatt.web.console.moves import register_of
from prewatt.web.session import actor_of
from prewatt.web.ui import charts

_WHY_MAX = 200


def mine_view(request: HttpRequest) -> HttpResponse:
    """A tenant's wallets."""
    page = mine(actor=actor_of(request), now=clock.now())
    return render(
        request,
        "prewatt/pages/mine.html",
        {"page": page, "place": page.place, "now": page.now, "tab": "mine"},
    )


def figures_view(request: HttpRequest) -> HttpResponse:
    """The sums of a property."""
    page = property_figures(actor=actor_of(request), now=clock.now())
    return render(
        request,
        "prewatt/pages/figures.html",
        {
            "page": page,
            "place": page.place,
            "now": page.now,
            "tab": "figures",
            "chart": charts.months_chart(page, get_language() or "en"),
        },
    )


def work_view(request: HttpRequest) -> HttpResponse:
    """The meters of a property, to be found and read."""
    text = request.GET.get("q", "").replace("\0", "").strip()[:80]
    found = meters_on_round(actor=actor_of(request), now=clock.now(), query=text)
    return render(
        request,
        "prewatt/pages/work.html",
        {"list": found, "place": found.place, "now": found.now, "tab": "work", "text": text},
    )


@require_http_methods(["GET", "POST"])
def work_meter_view(request: HttpRequest, meter_id: int) -> HttpResponse:
    """One meter, and the register that somebody read from it."""
    page = meter_on_round(actor=actor_of(request), meter_id=meter_id, now=clock.now())
    if request.method == "GET":
        return _show(request, page, None)
    asked = Asked(request.POST)
    at = asked.instant("at", page.place.time_zone)
    if at is None:
        asked.faults.setdefault("at", _("Still to be filled in."))
    value = register_of(asked, "register")
    reason = asked.line("reason", most=_WHY_MAX, needed=True)
    if asked.faults or at is None:
        return _show(request, page, asked, status=422)
    try:
        entered = moves.manual_reading(
            actor=actor_of(request), meter_id=meter_id, value_wh=value, read_at=at, now=page.now,
            reason=reason,
        )  # fmt: skip
    except ReadingBeyond:
        asked.faults["register"] = _(
            "That is far more than this meter usually counts. Look at the display again. An administrator may enter it."
        )
        return _show(request, page, asked, status=422)
    except MoveRefused:
        asked.faults["register"] = _("Nobody pays by this meter, so nothing can be entered.")
        return _show(request, page, asked, status=422)
    after = meter_on_round(actor=actor_of(request), meter_id=meter_id, now=page.now)
    return _show(request, after, None, done="held" if entered.held else "entered")


def _show(
    request: HttpRequest, page: Round, asked: Asked | None, *, done: str = "", status: int = 200
) -> HttpResponse:
    return render(
        request,
        "prewatt/pages/work_meter.html",
        {
            "meter": page.meters[0], "place": page.place, "now": page.now, "tab": "work", "done": done,
            "form": asked.values if asked else {}, "faults": asked.faults if asked else {},
        },
        status=status,
    )  # fmt: skip
