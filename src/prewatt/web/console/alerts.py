"""Alerts: what needs or needed a person, one of them with its figures, and closing it by hand."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.moves.alerts import NOTE_MAX, AlertRefused, close_alert
from prewatt.reports.alerts import ALERT_SHOWS, ALERT_SORTS, AlertPage, alert_list, alert_page
from prewatt.reports.lists_query import PAGE_MAX
from prewatt.web import clock
from prewatt.web.console import deeds, export
from prewatt.web.console.asked import Asked
from prewatt.web.session import actor_of
from prewatt.web.ui import alert_words


def alerts_view(request: HttpRequest) -> HttpResponse:
    """Alerts that are open, or were closed."""
    wanted, address = _chosen(request)
    found = alert_list(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.show_list(
        request, "alerts", found, address, path="/alerts", tab="alerts",
        shows=alert_words.ALERT_SHOW.items(), sorts=alert_words.ALERT_SORT.items(),
        kinds=alert_words.ALERT.items(),
    )  # fmt: skip


def alerts_csv(request: HttpRequest) -> HttpResponse:
    """The same selection as a file."""
    wanted, _ = _chosen(request)
    wanted["limit"] = PAGE_MAX
    found = alert_list(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.as_csv("alerts", lambda writer: export.alerts(writer, found))


def _chosen(request: HttpRequest) -> tuple[dict[str, Any], dict[str, str]]:
    wanted, address = deeds.chosen(request, shows=ALERT_SHOWS, sorts=ALERT_SORTS)
    kind = request.GET.get("kind", "")
    kind = kind if kind in alert_words.ALERT else ""
    return {**wanted, "kind": kind}, {**address, "kind": kind}


@require_http_methods(["GET", "POST"])
def alert_view(request: HttpRequest, alert_id: int) -> HttpResponse:
    """One alert: what happened, what it asks of a person, and closing it with a note."""
    actor, now = actor_of(request), clock.now()
    page = alert_page(actor=actor, alert_id=alert_id, now=now)
    if request.method != "POST":
        return _show(request, page, None)
    require(actor, "notify.close_alert")
    asked = Asked(request.POST)
    note = asked.line("note", most=NOTE_MAX, needed=True)
    if asked.faults:
        return _show(request, page, asked, status=422)
    try:
        close_alert(actor=actor, alert_id=alert_id, note=note, now=now)
    except AlertRefused as refused:
        # Somebody else, or the system, may have closed it since the page was read.
        page = alert_page(actor=actor, alert_id=alert_id, now=now)
        return _show(request, page, asked, problem=alert_words.refused(refused), status=409)
    return redirect(f"/alerts/{alert_id}")


def _show(
    request: HttpRequest,
    page: AlertPage,
    asked: Asked | None,
    *,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    return deeds.show(
        request, "alert", place=page.place, now=page.now, tab="alerts", status=status, page=page,
        alert=page.alert, problem=problem, **deeds.form_context(asked),
    )  # fmt: skip
