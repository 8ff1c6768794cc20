"""Cases of tampering: which are open, one with its evidence, looking at it and closing it with a reason."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import get_language
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.core.vocabulary import TamperKind
from prewatt.reports.lists_query import PAGE_MAX
from prewatt.reports.tamper import CASE_SHOWS, CASE_SORTS, CasePage, case_list, case_page
from prewatt.tamper.operations import NOTE_MAX, CaseRefused, close_case, look_at_case
from prewatt.web import clock
from prewatt.web.console import deeds, export
from prewatt.web.console.asked import Asked
from prewatt.web.session import actor_of
from prewatt.web.ui import tamper_words
from prewatt.web.ui.tamper_chart import usage_chart

_KINDS = {kind.word: kind for kind in TamperKind}


def cases_view(request: HttpRequest) -> HttpResponse:
    """Cases that are open, or were closed."""
    wanted, address = _chosen(request)
    found = case_list(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.show_list(
        request, "cases", found, address, path="/meters/cases", tab="cases",
        shows=tamper_words.CASE_SHOW.items(), sorts=tamper_words.CASE_SORT.items(),
        kinds=[(kind.word, name) for kind, name in tamper_words.KIND.items()],
    )  # fmt: skip


def cases_csv(request: HttpRequest) -> HttpResponse:
    """The same selection as a file."""
    wanted, _ = _chosen(request)
    wanted["limit"] = PAGE_MAX
    found = case_list(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.as_csv("cases", lambda writer: export.tamper_cases(writer, found))


def _chosen(request: HttpRequest) -> tuple[dict[str, Any], dict[str, str]]:
    wanted, address = deeds.chosen(request, shows=CASE_SHOWS, sorts=CASE_SORTS)
    kind = request.GET.get("kind", "")
    kind = kind if kind in _KINDS else ""
    return {**wanted, "kind": _KINDS.get(kind)}, {**address, "kind": kind}


@require_http_methods(["GET", "POST"])
def case_view(request: HttpRequest, tamper_id: int) -> HttpResponse:
    """One case: what it rests on, the usage around it, and what a person does about it."""
    actor, now = actor_of(request), clock.now()
    page = case_page(actor=actor, case_id=tamper_id, now=now)
    if request.method != "POST":
        return _show(request, page, None)
    require(actor, "tamper.close")
    asked = Asked(request.POST)
    do = asked.choice("do", ("look", "close"))
    reason = asked.choice("reason", tuple(tamper_words.REASON)) if do == "close" else ""
    note = asked.line("note", most=NOTE_MAX, needed=True) if do == "close" else ""
    if asked.faults:
        return _show(request, page, asked, status=422)
    try:
        if do == "close":
            close_case(actor=actor, case_id=tamper_id, reason=reason, note=note, now=now)
        else:
            look_at_case(actor=actor, case_id=tamper_id, now=now)
    except CaseRefused as refused:
        # Somebody else may have closed it since the page was read.
        page = case_page(actor=actor, case_id=tamper_id, now=now)
        return _show(request, page, asked, problem=tamper_words.refused(refused), status=409)
    return redirect(f"/meters/cases/{tamper_id}")


def _show(
    request: HttpRequest,
    page: CasePage,
    asked: Asked | None,
    *,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    return deeds.show(
        request, "case", place=page.place, now=page.now, tab="cases", status=status, page=page,
        case=page.case, problem=problem, chart=usage_chart(page, get_language() or "en"),
        reasons=tamper_words.REASON.items(), **deeds.form_context(asked),
    )  # fmt: skip
