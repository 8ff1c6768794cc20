"""Tamper cases for who is sent to the meter: what speaks for each, and a note of what was found there."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from prewatt.reports.field_cases import field_case, field_cases
from prewatt.tamper.operations import FOUND_MAX, CaseRefused, note_finding
from prewatt.web import clock
from prewatt.web.console.asked import Asked
from prewatt.web.console.deeds import form_context, show
from prewatt.web.session import actor_of
from prewatt.web.ui import tamper_words


def cases_view(request: HttpRequest) -> HttpResponse:
    """All that are open."""
    found = field_cases(actor=actor_of(request), now=clock.now())
    return show(request, "work_cases", place=found.place, now=found.now, tab="work", list=found)


@require_http_methods(["GET", "POST"])
def case_view(request: HttpRequest, tamper_id: int) -> HttpResponse:
    """One case; what was found is added to it. Who may close it has another page."""
    actor, now = actor_of(request), clock.now()
    page = field_case(actor=actor, case_id=tamper_id, now=now)
    asked, problem = None, ""
    if request.method == "POST":
        asked = Asked(request.POST)
        text = asked.line("found", most=FOUND_MAX, needed=True)
        if not asked.faults:
            try:
                note_finding(actor=actor, case_id=tamper_id, text=text, now=now)
                return redirect(f"/work/cases/{tamper_id}")
            except CaseRefused as refused:
                problem = tamper_words.refused(refused)
    return show(
        request, "work_case", place=page.place, now=now, tab="work", page=page, case=page.case,
        problem=problem, status=422 if asked else 200, **form_context(asked),
    )  # fmt: skip
