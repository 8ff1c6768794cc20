"""Cases of tampering: which are open, one with its evidence, looking at it and closing it with a reason."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import get_language
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.approvals.operations import Wanted
from prewatt.core.vocabulary import TamperKind, TamperResponse
from prewatt.reports.lists_query import PAGE_MAX
from prewatt.reports.place import place_for
from prewatt.reports.tamper import CASE_SHOWS, CASE_SORTS, CasePage, case_list, case_page
from prewatt.tamper.by_agreement import policy_of, wanted_policy
from prewatt.tamper.operations import NOTE_MAX, CaseRefused, close_case, look_at_case
from prewatt.tamper.policy import LETTERS, Policy, PolicyRefused
from prewatt.web import clock
from prewatt.web.console import deeds, export
from prewatt.web.console.agreeing import (
    REASON_MAX,
    agreed_or_proposed,
    look_context,
    presses,
)
from prewatt.web.console.asked import Asked
from prewatt.web.session import actor_of
from prewatt.web.ui import sentences, tamper_words
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


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def policy_view(request: HttpRequest) -> HttpResponse:
    """What is done by itself about each kind of case; another policy is proposed after a look."""
    actor, now = actor_of(request), clock.now()
    place = place_for(actor)
    policy = policy_of(actor=actor, property_id=place.property_id)
    asked, wanted, problem = None, None, ""
    if request.method == "POST":
        require(actor, "tamper.policy")
        asked = Asked(request.POST)
        reason = asked.line("reason", most=REASON_MAX, needed=True)
        wanted, problem = _wanted(request, asked, place.property_id)
        if wanted is not None and not asked.faults and presses(request):
            address = agreed_or_proposed(request, asked, wanted, reason, now)
            if address is not None:
                return redirect(address)
    shown = wanted if asked is not None and not asked.faults else None
    return deeds.show(
        request, "tamper_policy", place=place, now=now, tab="tamper-policy", policy=policy,
        problem=problem, rows=_rows(policy), options=_options(), letters=_letters(policy),
        told=[duty for _, duty, is_on in _letters(policy) if is_on],
        named=[name for name, *_ in _rows(policy)],
        ticked=[] if asked is None else asked.several("letters"),
        **look_context(request, asked, shown, now, **_defaults(policy)),
    )  # fmt: skip


def _wanted(request: HttpRequest, asked: Asked, place: int) -> tuple[Wanted | None, str]:
    """What the form asks for, or why that cannot be."""
    words = [each.word for each in TamperResponse]
    chosen = {kind: asked.choice(f"kind-{kind.word}", words) for kind in TamperKind}
    version = asked.whole("version", least=0, most=2**31 - 1)
    if asked.faults:
        return None, ""
    try:
        return wanted_policy(
            actor=actor_of(request), property_id=place, version=version,
            responses={kind: TamperResponse[word.upper()] for kind, word in chosen.items()},
            letters=asked.several("letters"),
        ), ""  # fmt: skip
    except PolicyRefused as refused:
        return None, tamper_words.policy_refused(refused)


def _rows(policy: Policy) -> list[tuple[str, str, str]]:
    """(name of the field, what the kind is called, what is done) of each kind."""
    return [
        (f"kind-{kind.word}", str(name), str(tamper_words.RESPONSE[policy.response_to(kind)]))
        for kind, name in tamper_words.KIND.items()
    ]


def _options() -> list[tuple[str, str]]:
    return [(each.word, str(name)) for each, name in tamper_words.RESPONSE.items()]


def _letters(policy: Policy) -> list[tuple[str, str, bool]]:
    return [
        (each, sentences.said(sentences.DUTY, each), each in policy.letters) for each in LETTERS
    ]


def _defaults(policy: Policy) -> dict[str, str]:
    found = {f"kind-{kind.word}": policy.response_to(kind).word for kind in TamperKind}
    return {**found, "version": str(policy.version)}
