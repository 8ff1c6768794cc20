"""Trying a draft on real days: asked for here, run by the worker, shown as far as it has come."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from prewatt.billing.drafts import TRIAL_DAYS, ask_trial
from prewatt.reports.tariff_query import draft_page
from prewatt.reports.tariff_trial import Group, Show, Sort, TrialPage
from prewatt.reports.tariff_trial_query import PAGE, PAGE_MAX, trial_page
from prewatt.web import clock
from prewatt.web.console import export
from prewatt.web.console.asked import Asked
from prewatt.web.console.sheet_writer import SheetWriter
from prewatt.web.console.tariffs import may_draft, path_of
from prewatt.web.console.views import is_partial, number
from prewatt.web.session import actor_of
from prewatt.web.ui import sentences

#: How far back a trial is offered to look, in days.
DAYS = (TRIAL_DAYS[0], 60, TRIAL_DAYS[1])


@require_http_methods(["GET", "POST"])
def trial_view(request: HttpRequest, code: str) -> HttpResponse:
    """A draft's trial; a POST asks for one."""
    if request.method == "POST":
        return _ask(request, code)
    page, chosen = _page(request, code, limit=number(request.GET.get("limit", ""), PAGE, PAGE_MAX))
    return _show(request, page, chosen)


def trial_csv(request: HttpRequest, code: str) -> HttpResponse:
    """The selection of accounts, whole, as a file for a spreadsheet."""
    page, _chosen = _page(request, code, limit=PAGE_MAX)
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="trial.csv"'
    response.write("\ufeff")
    export.trial(SheetWriter(response), page)
    return response


def _ask(request: HttpRequest, code: str) -> HttpResponse:
    draft = draft_page(actor=actor_of(request), code=code, now=clock.now())
    asked = Asked(request.POST)
    least, most = TRIAL_DAYS
    days = asked.whole("days", least=least, most=most)
    if asked.faults:
        page, chosen = _page(request, code, limit=PAGE)
        problem = _("A trial looks back over %(least)s to %(most)s days.") % {
            "least": least,
            "most": most,
        }
        return _show(request, page, chosen, problem=problem, status=422)
    trial_id = ask_trial(
        actor=actor_of(request), draft_id=draft.draft.draft_id, days=days, now=clock.now()
    )
    return redirect(f"/tariffs/drafts/{path_of(code)}/trial?trial={trial_id}")


def _page(request: HttpRequest, code: str, *, limit: int) -> tuple[TrialPage, dict[str, str]]:
    given = request.GET
    show, sort, trial = given.get("show", ""), given.get("sort", ""), given.get("trial", "")
    group = given.get("group", "")
    chosen = {
        "q": given.get("q", "").strip()[:80],
        "show": show if show in list(Show) else Show.MORE.value,
        "sort": sort if sort in list(Sort) else Sort.CHANGE.value,
        "group": group if group in list(Group) else "",
        "trial": trial if trial.isascii() and trial.isdigit() and len(trial) < 19 else "",
    }
    page = trial_page(
        actor=actor_of(request),
        code=code,
        now=clock.now(),
        trial_id=int(chosen["trial"]) if chosen["trial"] else None,
        group=Group(chosen["group"]) if chosen["group"] else None,
        show=Show(chosen["show"]),
        sort=Sort(chosen["sort"]),
        query=chosen["q"],
        limit=limit,
    )
    return page, chosen


def _show(
    request: HttpRequest,
    page: TrialPage,
    chosen: dict[str, str],
    *,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    part = "prewatt/parts/trial_live.html" if is_partial(request) else "prewatt/pages/trial.html"
    address = f"/tariffs/drafts/{path_of(page.draft.code)}/trial"
    more_url = ""
    if page.result and page.result.found > len(page.result.rows):
        limit = {"limit": min(len(page.result.rows) * 4, PAGE_MAX)}
        more_url = f"{address}?{urlencode(chosen | limit)}#accounts"
    return render(
        request,
        part,
        {
            "page": page,
            "place": page.place,
            "now": page.now,
            "tab": "tariffs",
            "tariff": page.tariff,
            "before": page.in_force or "",
            "changes": page.changes,
            "address": address,
            "code_path": path_of(page.draft.code),
            "filters": urlencode(chosen),
            "more_url": more_url,
            "text": chosen["q"],
            "days_offered": DAYS,
            "trial_shows": sentences.TRIAL_SHOW.items(),
            "trial_sorts": sentences.TRIAL_SORT.items(),
            "may_draft": may_draft(actor_of(request)),
            "problem": problem,
            **chosen,
        },
        status=status,
    )
