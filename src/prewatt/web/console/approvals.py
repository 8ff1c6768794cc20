"""Prices brought into force by two people: proposed from a draft, looked at, approved or not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import may, require
from prewatt.access.second_factor import FactorRefused
from prewatt.approvals.operations import ProposalRefused, approval_digest, refuse, withdraw
from prewatt.billing.proposals import (
    VersionRefused,
    approve_version,
    propose_version,
    wanted_version,
)
from prewatt.reports.lists_query import PAGE_MAX
from prewatt.reports.proposals import SHOWS, SORTS, ProposalPage, proposal_page, proposals
from prewatt.reports.tariff_changes import changes_between
from prewatt.reports.tariff_pages import DraftPage
from prewatt.reports.tariff_query import draft_page
from prewatt.web import clock
from prewatt.web.console import deeds, export
from prewatt.web.console.asked import Asked, wants, written_day
from prewatt.web.console.second_factor import code_context, stepped_up
from prewatt.web.console.tariffs import path_of
from prewatt.web.session import actor_of
from prewatt.web.ui import approval_words

REASON_MAX: Final = 400


def approvals_view(request: HttpRequest) -> HttpResponse:
    """What waits for a second person, and what came of what did."""
    wanted, address = deeds.chosen(request, shows=SHOWS, sorts=SORTS)
    found = proposals(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.show_list(
        request, "proposals", found, address, path="/approvals", tab="approvals",
        shows=approval_words.PROPOSAL_SHOW.items(), sorts=approval_words.PROPOSAL_SORT.items(),
    )  # fmt: skip


def approvals_csv(request: HttpRequest) -> HttpResponse:
    """The same selection as a file."""
    wanted, _address = deeds.chosen(request, shows=SHOWS, sorts=SORTS)
    wanted["limit"] = PAGE_MAX
    found = proposals(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.as_csv("approvals", lambda writer: export.proposals(writer, found))


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
        proposal_id = propose_version(
            actor=actor, wanted=wanted, reason=reason, now=page.now,
            step_up_id=stepped_up(request, wanted.digest),
        )  # fmt: skip
    except (FactorRefused, ProposalRefused) as refusal:
        asked.faults["code"] = approval_words.refused(refusal)
        return _show_draft(
            request, page, asked, begins_at=valid_from, digest=wanted.digest, status=422
        )
    return redirect(f"/approvals/{proposal_id}?done=proposed")


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def proposal_view(request: HttpRequest, proposal_id: int) -> HttpResponse:
    """One proposal: approved with a second factor, refused or withdrawn with a reason."""
    actor = actor_of(request)
    page = proposal_page(actor=actor, proposal_id=proposal_id, now=clock.now())
    if request.method != "POST":
        return _show(request, page, None)
    asked = Asked(request.POST)
    deed = asked.choice("do", ("approve", "refuse", "withdraw"))
    try:
        if deed == "approve":
            digest = approval_digest(actor=actor, proposal_id=proposal_id)
            if page.proposal.made_by_code == actor.code:
                # Said before a code is used up; the database says it again.
                raise ProposalRefused("own")
            approve_version(
                actor=actor, proposal_id=proposal_id, step_up_id=stepped_up(request, digest),
                now=page.now,
            )  # fmt: skip
        elif deed:
            reason = asked.line("why", most=REASON_MAX, needed=True)
            if asked.faults:
                return _show(request, page, asked, status=422)
            end = refuse if deed == "refuse" else withdraw
            end(actor=actor, proposal_id=proposal_id, reason=reason, now=page.now)
    except FactorRefused as refusal:
        asked.faults["code"] = approval_words.refused(refusal)
        return _show(request, page, asked, status=422)
    except ProposalRefused as refusal:
        page = proposal_page(actor=actor, proposal_id=proposal_id, now=page.now)
        return _show(request, page, asked, problem=approval_words.refused(refusal), status=409)
    return redirect(f"/approvals/{proposal_id}?done={deed}")


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
    actor = actor_of(request)
    own = page.proposal.made_by_code == actor.code
    digest = (
        approval_digest(actor=actor, proposal_id=page.proposal.proposal_id)
        if page.proposal.is_open and may(actor, "approvals.approve") and not own
        else None
    )
    return deeds.show(
        request, "proposal", place=page.place, now=page.now, tab="approvals", status=status,
        page=page, row=page.proposal, tariff=page.tariff, changes=page.changes, own=own,
        code_path=path_of(page.proposal.code), problem=problem,
        void=approval_words.VOID.get(page.proposal.answer, ""), done=request.GET.get("done", ""),
        **context, **code_context(request, digest),
    )  # fmt: skip
