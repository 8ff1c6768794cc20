"""On which plan accounts are: another one ahead, for one or many, and a wrong one put right; each proposed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.approvals.operations import Wanted
from prewatt.billing.change_looks import ChangeLook, look_at_tariff
from prewatt.billing.plans import (
    ACCOUNTS_MAX,
    CorrectionPreview,
    wanted_correction,
    wanted_plans,
    wanted_withdrawal,
)
from prewatt.billing.rerating import CorrectionRefused
from prewatt.billing.terms import ChangeRefused, WithdrawalRefused
from prewatt.reports.plan_choice import Chosen, PlanChoice, accounts_chosen, plan_choice
from prewatt.reports.price_pages import TermsPage, terms_page
from prewatt.web import clock
from prewatt.web.console import deeds
from prewatt.web.console.agreeing import (
    REASON_MAX,
    agreed_or_proposed,
    look_context,
    presses,
)
from prewatt.web.console.asked import Asked, written_day
from prewatt.web.session import actor_of
from prewatt.web.ui import money_words, sentences

#: Refusals that are about the plan; all others are about the day.
_OF_PLAN = frozenset({"unknown", "temporary", "same", "closed"})
#: What chooses accounts together, as the form carries it on.
CHOICE = ("building", "kind", "group", "present", "only", "plan", "plan_from", "reason")


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def plan_view(request: HttpRequest, account_id: int) -> HttpResponse:
    """Another plan for one account from a day to come, or the end of such a change."""
    actor = actor_of(request)
    require(actor, "approvals.propose")
    page = terms_page(actor=actor, account_id=account_id, now=clock.now())
    asked = Asked(request.POST) if request.method == "POST" else None
    deed, wanted, change = "plan", None, None
    if asked is not None:
        deed = asked.choice("deed", ("plan", "withdraw_plan"))
        reason = asked.line("reason", most=REASON_MAX, needed=True)
        try:
            if deed == "withdraw_plan":
                wanted = _withdrawn(request, page, asked)
            elif deed:
                wanted, change = _changed(request, page, asked)
        except (ChangeRefused, WithdrawalRefused) as refused:
            asked.faults[_field_of(deed, refused)] = money_words.refused(refused)
        if asked.faults:
            wanted = None
        if wanted is not None and presses(request):
            address = agreed_or_proposed(request, asked, wanted, reason, page.now)
            if address is not None:
                return redirect(address)
    plans = _names(page)
    first = {"deed": "plan", "plan": page.plan.code if page.plan else "", "withdraw_from": ""}
    return deeds.show(
        request, "plan_change", place=page.place, now=page.now, tab="accounts",
        who=page.holding.who, deed=deed, change=change, plans=plans,
        from_at=datetime.fromisoformat(wanted.effect["valid_from"]) if wanted else None,
        plan_name=dict(plans).get(asked.text("plan") if asked else "", ""),
        **look_context(
            request, asked, wanted, page.now, **first,
            plan_from=written_day(page.now, page.place.time_zone, ahead=1),
        ),
    )  # fmt: skip


def _changed(
    request: HttpRequest, page: TermsPage, asked: Asked
) -> tuple[Wanted | None, ChangeLook | None]:
    code = asked.choice("plan", [each.code for each in page.plans])
    valid_from = asked.day("plan_from", page.place.time_zone)
    if asked.faults or valid_from is None:
        return None, None
    account_id = page.holding.who.account_id
    own: dict[str, Any] = {
        "actor": actor_of(request), "property_id": page.place.property_id, "tariff_code": code,
        "valid_from": valid_from, "now": page.now,
    }  # fmt: skip
    wanted = wanted_plans(account_ids=[account_id], **own)
    return wanted, look_at_tariff(account_id=account_id, **own)


def _withdrawn(request: HttpRequest, page: TermsPage, asked: Asked) -> Wanted | None:
    valid_from = asked.day("withdraw_from", page.place.time_zone)
    if asked.faults or valid_from is None:
        return None
    return wanted_withdrawal(
        actor=actor_of(request), property_id=page.place.property_id,
        account_id=page.holding.who.account_id, valid_from=valid_from, now=page.now,
    )  # fmt: skip


def _field_of(deed: str, refused: ChangeRefused | WithdrawalRefused) -> str:
    if deed == "withdraw_plan":
        return "withdraw_from"
    return "plan" if refused.reason in _OF_PLAN else "plan_from"


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def plans_view(request: HttpRequest) -> HttpResponse:
    """Another plan for accounts together: which ones, what it comes to, and the press that proposes it."""
    actor, now = actor_of(request), clock.now()
    require(actor, "approvals.propose")
    found = plan_choice(actor=actor, now=now)
    asked = Asked(request.POST) if request.method == "POST" else None
    wanted = None
    if asked is not None:
        reason = asked.line("reason", most=REASON_MAX, needed=True)
        wanted = _chosen(request, found, asked)
        if wanted is not None and presses(request):
            address = agreed_or_proposed(request, asked, wanted, reason, now)
            if address is not None:
                return redirect(address)
    context = look_context(
        request, asked, wanted, now, plan_from=written_day(now, found.place.time_zone, ahead=1),
        **dict.fromkeys(("building", "kind", "group", "present", "only", "plan"), ""),
    )  # fmt: skip
    looked = context["looked"]
    return deeds.show(
        request, "plans", place=found.place, now=now, tab="accounts", names=CHOICE,
        accounts=looked.accounts if looked else (),
        buildings=_any(found.buildings), groups=_any(found.groups),
        kinds=[("", _("Any")), *((each, sentences.UNIT_KIND[each]) for each in found.kinds)],
        now_plans=[("", _("Any")), *((each.code, each.name) for each in found.plans)],
        plans=[("", _("Choose a plan")), *_lasting(found)], **context,
    )  # fmt: skip


def _chosen(request: HttpRequest, found: PlanChoice, asked: Asked) -> Wanted | None:
    zone = found.place.time_zone
    wanted = Chosen(
        building=asked.choice("building", ("", *found.buildings)),
        kind=asked.choice("kind", ("", *found.kinds)),
        group=asked.choice("group", ("", *found.groups)),
        plan=asked.choice("present", ("", *(each.code for each in found.plans))),
        only=asked.text("only", 40_000),
    )
    code = asked.choice("plan", [code for code, _name in _lasting(found)])
    valid_from = asked.day("plan_from", zone)
    accounts, strangers = accounts_chosen(
        actor=actor_of(request), chosen=wanted, most=ACCOUNTS_MAX + 1, now=found.now
    )
    if strangers:
        asked.faults["only"] = _("No account here: %(words)s") % {
            "words": ", ".join(strangers[:10])
        }
    if asked.faults or valid_from is None:
        return None
    try:
        return wanted_plans(
            actor=actor_of(request), property_id=found.place.property_id, account_ids=accounts,
            tariff_code=code, valid_from=valid_from, now=found.now,
        )  # fmt: skip
    except ChangeRefused as refused:
        field = "only" if refused.reason in ("nobody", "many") else _field_of("plan", refused)
        asked.faults[field] = money_words.refused(refused)
        return None


def _any(values: Sequence[str]) -> list[tuple[str, str]]:
    return [("", _("Any")), *((each, each) for each in values)]


def _lasting(found: PlanChoice) -> list[tuple[str, str]]:
    return [(each.code, each.name) for each in found.plans if not each.for_a_time]


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def correct_view(request: HttpRequest, account_id: int) -> HttpResponse:
    """A wrong plan put right from a past day: what it comes to, and the press that proposes it."""
    actor = actor_of(request)
    require(actor, "billing.correct")
    require(actor, "approvals.propose")
    page = terms_page(actor=actor, account_id=account_id, now=clock.now())
    begun = next((each.valid_from for each in page.assigned if each.now), page.now)
    asked = Asked(request.POST) if request.method == "POST" else None
    wanted, seen, from_at = None, None, None
    if asked is not None:
        reason = asked.line("reason", most=REASON_MAX, needed=True)
        wanted, seen, from_at = _correction(request, page, asked)
        if wanted is not None and presses(request):
            address = agreed_or_proposed(request, asked, wanted, reason, page.now)
            if address is not None:
                return redirect(address)
    plans = _names(page)
    context = look_context(
        request, asked, wanted, page.now, plan="",
        **{"from": written_day(begun, page.place.time_zone)},
    )  # fmt: skip
    return deeds.show(
        request, "correct_tariff", place=page.place, now=page.now, tab="accounts", page=page,
        who=page.holding.who, holding=page.holding, seen=seen, from_at=from_at,
        plan_name=dict(plans).get(context["form"].get("plan", ""), ""),
        plans=[("", _("Choose the plan that was right")), *plans], **context,
    )  # fmt: skip


def _correction(
    request: HttpRequest, page: TermsPage, asked: Asked
) -> tuple[Wanted | None, CorrectionPreview | None, datetime | None]:
    code = asked.choice("plan", [each.code for each in page.plans if not each.for_a_time])
    from_at = asked.day("from", page.place.time_zone)
    if asked.faults or from_at is None:
        return None, None, None
    # The very instant of a wrong assignment, where it began within that day.
    from_at = _instant_of_day(page, from_at)
    try:
        wanted, seen = wanted_correction(
            actor=actor_of(request), property_id=page.place.property_id,
            account_id=page.holding.who.account_id, tariff_code=code, from_at=from_at, now=page.now,
        )  # fmt: skip
    except CorrectionRefused as refused:
        asked.faults["from"] = money_words.refused(refused)
        return None, None, None
    return wanted, seen, from_at


def _instant_of_day(page: TermsPage, day: datetime) -> datetime:
    """The assignment that began within a local day, else the day's first instant."""
    zone = page.place.time_zone
    wanted = written_day(day, zone)
    begun = [
        each.valid_from
        for each in page.assigned
        if written_day(each.valid_from, zone) == wanted and each.valid_from < page.now
    ]
    return min(begun, default=day)


def _names(page: TermsPage) -> list[tuple[str, str]]:
    return [(each.code, each.name) for each in page.plans if not each.for_a_time]
