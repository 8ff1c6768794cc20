"""What takes others: proposals of every kind, looked at, approved or not; prices; the limits of amounts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import may, require
from prewatt.access.second_factor import FactorRefused
from prewatt.approvals.ladders import (
    RUNGS_MAX,
    LadderRefused,
    Rung,
    ladders,
    wanted_ladder,
)
from prewatt.approvals.operations import (
    ProposalRefused,
    approval_digest,
    approve,
    propose,
    refuse,
    review,
    withdraw,
)
from prewatt.billing.proposals import VersionRefused, wanted_version
from prewatt.reports.lists_query import PAGE_MAX
from prewatt.reports.place import place_for
from prewatt.reports.proposals import (
    SHOWS,
    SORTS,
    ProposalPage,
    preview,
    proposal_page,
    proposals,
)
from prewatt.reports.tariff_changes import changes_between
from prewatt.reports.tariff_pages import DraftPage
from prewatt.reports.tariff_query import draft_page
from prewatt.vending.operations import LIMIT_MICRO
from prewatt.web import clock
from prewatt.web.console import deeds, export
from prewatt.web.console.agreeing import (
    REASON_MAX,
    agreed_or_proposed,
    agreement_context,
)
from prewatt.web.console.asked import Asked, wants, written_day
from prewatt.web.console.second_factor import code_context, stepped_up
from prewatt.web.console.tariffs import path_of
from prewatt.web.session import actor_of
from prewatt.web.ui import approval_words, proposal_words
from prewatt.web.ui.tags import lang


def approvals_view(request: HttpRequest) -> HttpResponse:
    """What waits for others, and what came of what did."""
    wanted, address = _chosen(request)
    found = proposals(actor=actor_of(request), now=clock.now(), **wanted)
    rows = [(row, proposal_words.title(row, found.place, lang())) for row in found.rows]
    return deeds.show_list(
        request, "proposals", found, address, path="/approvals", tab="approvals", titled=rows,
        kinds=proposal_words.PROPOSAL_KIND.items(),
        shows=approval_words.PROPOSAL_SHOW.items(), sorts=approval_words.PROPOSAL_SORT.items(),
    )  # fmt: skip


def approvals_csv(request: HttpRequest) -> HttpResponse:
    """The same selection as a file."""
    wanted, _address = _chosen(request)
    wanted["limit"] = PAGE_MAX
    found = proposals(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.as_csv("approvals", lambda writer: export.proposals(writer, found))


def _chosen(request: HttpRequest) -> tuple[dict[str, Any], dict[str, str]]:
    wanted, address = deeds.chosen(request, shows=SHOWS, sorts=SORTS)
    kind = request.GET.get("kind", "")
    kind = kind if kind in proposal_words.PROPOSAL_KIND else ""
    names = {code: str(name) for code, name in proposal_words.PROPOSAL_KIND.items()}
    return wanted | {"kind": kind, "names": names}, address | {"kind": kind}


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def propose_view(request: HttpRequest, code: str) -> HttpResponse:
    """From which midnight the draft shall hold and why; then a look at it, and the code."""
    actor = actor_of(request)
    require(actor, "approvals.propose")
    page = draft_page(actor=actor, code=code, now=clock.now())
    zone = page.place.time_zone
    if request.method != "POST":
        first = {"from": written_day(page.now, zone, ahead=1), "reason": page.draft.reason}
        return _show_draft(request, page, None, first=first)
    asked = Asked(request.POST)
    valid_from = asked.day("from", zone)
    reason = asked.line("reason", most=REASON_MAX, needed=True)
    if asked.faults or valid_from is None:
        return _show_draft(request, page, asked, status=422)
    try:
        wanted = wanted_version(
            actor=actor, draft_id=page.draft.draft_id, valid_from=valid_from, now=page.now
        )
    except VersionRefused as refusal:
        asked.faults["from"] = approval_words.refused(refusal)
        return _show_draft(request, page, asked, status=422)
    if not wants(request):
        return _show_draft(request, page, asked, begins_at=valid_from, digest=wanted.digest)
    try:
        made = propose(
            actor=actor, wanted=wanted, reason=reason, now=page.now,
            step_up_id=stepped_up(request, wanted.digest),
        )  # fmt: skip
    except (FactorRefused, ProposalRefused) as refusal:
        asked.faults["code"] = approval_words.refused(refusal)
        return _show_draft(
            request, page, asked, begins_at=valid_from, digest=wanted.digest, status=422
        )
    return redirect(f"/approvals/{made.proposal_id}?done=proposed")


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def proposal_view(request: HttpRequest, proposal_id: int) -> HttpResponse:
    """One proposal: approved with a second factor, refused or withdrawn with a reason."""
    actor = actor_of(request)
    page = proposal_page(actor=actor, proposal_id=proposal_id, now=clock.now())
    if request.method != "POST":
        return _show(request, page, None)
    require(actor, "approvals.answer")
    asked = Asked(request.POST)
    deed = asked.choice("do", ("approve", "refuse", "withdraw", "agreed", "objected"))
    try:
        if deed == "approve":
            digest = approval_digest(actor=actor, proposal_id=proposal_id)
            if page.proposal.made_by_code == actor.code:
                # Said before a code is used up; the database says it again.
                raise ProposalRefused("own")
            missing = approve(
                actor=actor, proposal_id=proposal_id, step_up_id=stepped_up(request, digest),
                now=page.now,
            )  # fmt: skip
            deed = "agree" if missing else "approve"
        elif deed:
            reason = asked.line("why", most=REASON_MAX, needed=True)
            if asked.faults:
                return _show(request, page, asked, status=422)
            _end(request, page, deed, reason)
    except FactorRefused as refusal:
        asked.faults["code"] = approval_words.refused(refusal)
        return _show(request, page, asked, status=422)
    except ProposalRefused as refusal:
        page = proposal_page(actor=actor, proposal_id=proposal_id, now=page.now)
        return _show(request, page, asked, problem=approval_words.refused(refusal), status=409)
    return redirect(f"/approvals/{proposal_id}?done={deed}")


def _end(request: HttpRequest, page: ProposalPage, deed: str, reason: str) -> None:
    actor, proposal_id = actor_of(request), page.proposal.proposal_id
    if deed in ("agreed", "objected"):
        review(actor=actor, proposal_id=proposal_id, verdict=deed, reason=reason, now=page.now)
        return
    end = refuse if deed == "refuse" else withdraw
    end(actor=actor, proposal_id=proposal_id, reason=reason, now=page.now)


def limits_view(request: HttpRequest) -> HttpResponse:
    """Above which amounts how many others agree, kind by kind."""
    place = place_for(actor_of(request))
    known = ladders(actor=actor_of(request), property_id=place.property_id)
    said = [
        (kind, name, [
            (proposal_words.rung(kind, each.above, place.currency), proposal_words.people(each.approvers))
            for each in known[kind]
        ])
        for kind, name in proposal_words.LADDER_KIND.items() if kind in known
    ]  # fmt: skip
    return deeds.show(request, "limits", place=place, now=clock.now(), tab="limits", ladders=said)


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def limit_view(request: HttpRequest, kind: str) -> HttpResponse:
    """Other limits of a kind: written, looked at, proposed."""
    actor = actor_of(request)
    require(actor, "approvals.propose")
    place, now = place_for(actor), clock.now()
    known = ladders(actor=actor, property_id=place.property_id)
    if kind not in known or kind not in proposal_words.LADDER_KIND:
        raise Http404
    asked = Asked(request.POST) if request.method == "POST" else None
    wanted, reason = None, ""
    if asked is not None:
        rungs = _rungs(asked, kind, place.currency)
        reason = asked.line("reason", most=REASON_MAX, needed=True)
        if not asked.faults:
            try:
                wanted = wanted_ladder(
                    actor=actor, property_id=place.property_id, kind=kind, rungs=rungs
                )
            except LadderRefused as refusal:
                asked.faults["above-1"] = str(approval_words.LADDER[refusal.reason])
        if wanted is not None and wants(request):
            address = agreed_or_proposed(request, asked, wanted, reason, now)
            if address is not None:
                return redirect(address)
    first = {}
    for at, each in enumerate(known[kind]):
        counted = kind in proposal_words.COUNTED
        first[f"above-{at + 1}"] = str(each.above) if counted else export.decimal(each.above)
        first[f"people-{at + 1}"] = str(each.approvers)
    context = deeds.form_context(asked, **first)
    for name in ("code", "passkey"):
        context["form"].pop(name, None)
    looked = preview(actor=actor, wanted=wanted, now=now) if wanted is not None else None
    return deeds.show(
        request, "limit", place=place, now=now, tab="limits", kind=kind,
        status=422 if asked is not None and asked.faults else 200,
        name=proposal_words.LADDER_KIND[kind], looked=looked, counted=kind in proposal_words.COUNTED,
        lines=proposal_words.lines(looked, lang()) if looked else (),
        rung_rows=[(f"above-{at + 1}", f"people-{at + 1}") for at in range(RUNGS_MAX)],
        **context, **agreement_context(request, wanted),
    )  # fmt: skip


def _rungs(asked: Asked, kind: str, currency: str) -> list[Rung]:
    """The rungs that are filled in."""
    found = []
    for at in range(RUNGS_MAX):
        above, people = f"above-{at + 1}", f"people-{at + 1}"
        if not asked.text(above) and not asked.text(people):
            continue
        amount = (
            asked.whole(above, least=0, most=10**6)
            if kind in proposal_words.COUNTED
            else asked.amount(above, limit_micro=LIMIT_MICRO, currency=currency, allow_zero=True)
        )
        found.append(Rung(amount, asked.whole(people, least=0, most=5)))
    if not found:
        asked.faults["above-1"] = _("Still to be filled in.")
    return found


def _show_draft(
    request: HttpRequest,
    page: DraftPage,
    asked: Asked | None,
    *,
    first: Mapping[str, str] = MappingProxyType({}),
    begins_at: datetime | None = None,
    digest: bytes | None = None,
    status: int = 200,
) -> HttpResponse:
    context = deeds.form_context(asked, **first)
    # A proof counts once; it is never sent back.
    for name in ("code", "passkey"):
        context["form"].pop(name, None)
    return deeds.show(
        request, "propose", place=page.place, now=page.now, tab="tariffs", status=status, page=page,
        code_path=path_of(page.draft.code), begins_at=begins_at, tariff=page.tariff,
        changes=changes_between(page.in_force, page.tariff) if page.in_force else (),
        **context, **code_context(request, digest),
    )  # fmt: skip


def _show(
    request: HttpRequest,
    page: ProposalPage,
    asked: Asked | None,
    *,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    context = deeds.form_context(asked, why="")
    for name in ("code", "passkey"):
        context["form"].pop(name, None)
    row, actor = page.proposal, actor_of(request)
    own = row.made_by_code == actor.code
    digest = (
        approval_digest(actor=actor, proposal_id=row.proposal_id)
        if row.is_open and may(actor, "approvals.approve") and not own
        else None
    )
    return deeds.show(
        request, "proposal", place=page.place, now=page.now, tab="approvals", status=status,
        page=page, row=row, tariff=page.tariff, changes=page.changes, own=own, problem=problem,
        title=proposal_words.title(row, page.place, lang()),
        lines=proposal_words.lines(page, lang()), is_tariff=page.tariff is not None,
        code_path=path_of(row.code) if row.code else "",
        void=approval_words.VOID.get(row.answer, ""), done=request.GET.get("done", ""),
        **context, **code_context(request, digest),
    )  # fmt: skip
