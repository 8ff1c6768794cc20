"""What an account's prices depend on: its terms, its plan from a day on, a wrong plan put right."""

from __future__ import annotations

from datetime import date, datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.billing.change_looks import ChangeLook, look_at_tariff, look_at_terms
from prewatt.billing.rerating import (
    CorrectionPreview,
    CorrectionRefused,
    correct_tariff,
    rehearse_correction,
)
from prewatt.billing.terms import (
    MOST_MEMBERS,
    ChangeRefused,
    TermsRefused,
    WithdrawalRefused,
    change_tariff,
    set_terms,
    withdraw_tariff,
    withdraw_terms,
)
from prewatt.ledger.operations import KeyReused
from prewatt.reports.price_pages import TermsPage, terms_page
from prewatt.web import clock
from prewatt.web.console import deeds
from prewatt.web.console.asked import Asked, day_begins, key_of, wants, written_day
from prewatt.web.session import actor_of, countersigned
from prewatt.web.ui import money_words

DEEDS = ("terms", "plan", "withdraw_terms", "withdraw_plan")


@require_http_methods(["GET", "POST"])
def terms_view(request: HttpRequest, account_id: int) -> HttpResponse:
    """The terms and tariffs of an account over time; a POST looks at a change, does it, or withdraws one."""
    page = terms_page(actor=actor_of(request), account_id=account_id, now=clock.now())
    if request.method != "POST":
        return _show(request, page, None)
    asked = Asked(request.POST)
    deed = asked.choice("deed", DEEDS)
    try:
        if deed.startswith("withdraw_"):
            done, looked = _withdraw(request, page, asked, deed), None
        else:
            done, looked = (_set_terms if deed == "terms" else _change_plan)(request, page, asked)
    except _REFUSED as refused:
        asked.faults[_field_of(deed, refused)] = money_words.refused(refused)
        done, looked = False, None
    if done:
        return redirect(f"/accounts/{account_id}/terms?done={deed}")
    status = 422 if asked.faults else 200
    return _show(request, page, asked, deed=deed, looked=looked, status=status)


_REFUSED = (KeyReused, TermsRefused, ChangeRefused, WithdrawalRefused)
#: Where a refusal stands that is about one field; all others are about the day.
_TERMS_FIELD = {"members": "members", "contracted_w": "contracted", "words": "exempt"}
_PLAN_FIELD = {"unknown": "plan", "temporary": "plan", "same": "plan", "closed": "plan"}


def _field_of(deed: str, refused: Exception) -> str:
    reason = str(getattr(refused, "reason", ""))
    if deed.startswith("withdraw_"):
        # The change may be no more on the page: said above all of it.
        return "withdrawal"
    if deed == "terms":
        return _TERMS_FIELD.get(reason, "from")
    return "plan" if isinstance(refused, KeyReused) else _PLAN_FIELD.get(reason, "plan_from")


def _set_terms(
    request: HttpRequest, page: TermsPage, asked: Asked
) -> tuple[bool, ChangeLook | None]:
    """(whether they are set, what they would come to): looked at until confirmed with a reason."""
    valid_from = asked.day("from", page.place.time_zone)
    members = asked.whole("members", least=1, most=MOST_MEMBERS)
    contracted_w = asked.thousandths("contracted") or 0
    exempt = [each for each in asked.several("exempt") if each in dict(_taxes(page))]
    groups = [each for each in asked.several("groups") if each in _groups(page)]
    if asked.faults or valid_from is None:
        return False, None
    confirmed = _is_confirmed(request, asked)
    if confirmed:
        set_terms(
            actor=actor_of(request), property_id=page.place.property_id,
            account_id=page.holding.who.account_id, valid_from=valid_from, members=members,
            contracted_w=contracted_w, exempt=exempt, overlay_groups=groups,
            reason=asked.text("why"), key=key_of(request), now=page.now,
        )  # fmt: skip
        return True, None
    return False, look_at_terms(
        actor=actor_of(request), property_id=page.place.property_id,
        account_id=page.holding.who.account_id, valid_from=valid_from, members=members,
        contracted_w=contracted_w, exempt=exempt, overlay_groups=groups, now=page.now,
    )  # fmt: skip


def _change_plan(
    request: HttpRequest, page: TermsPage, asked: Asked
) -> tuple[bool, ChangeLook | None]:
    """(whether it is changed, what it would come to): looked at until confirmed with a reason."""
    code = asked.choice("plan", [each.code for each in page.plans])
    valid_from = asked.day("plan_from", page.place.time_zone)
    if asked.faults or valid_from is None:
        return False, None
    if _is_confirmed(request, asked):
        change_tariff(
            actor=actor_of(request), property_id=page.place.property_id,
            account_id=page.holding.who.account_id, tariff_code=code, valid_from=valid_from,
            reason=asked.text("why"), key=key_of(request), now=page.now,
        )  # fmt: skip
        return True, None
    return False, look_at_tariff(
        actor=actor_of(request), property_id=page.place.property_id,
        account_id=page.holding.who.account_id, tariff_code=code, valid_from=valid_from,
        now=page.now,
    )  # fmt: skip


def _is_confirmed(request: HttpRequest, asked: Asked) -> bool:
    """Whether the look was confirmed, and says why; without a reason it is only shown again."""
    if not wants(request):
        return False
    asked.line("why", most=200, needed=True)
    return "why" not in asked.faults


def _withdraw(request: HttpRequest, page: TermsPage, asked: Asked, deed: str) -> bool:
    """Take away a change that has not begun, for a reason."""
    valid_from = asked.day("withdraw_from", page.place.time_zone)
    why = asked.line("withdraw_why", most=200, needed=True)
    if asked.faults or valid_from is None:
        return False
    withdraw = withdraw_terms if deed == "withdraw_terms" else withdraw_tariff
    withdraw(
        actor=actor_of(request), property_id=page.place.property_id,
        account_id=page.holding.who.account_id, valid_from=valid_from, reason=why,
        key=key_of(request), now=page.now,
    )  # fmt: skip
    return True


def _taxes(page: TermsPage) -> list[tuple[str, str]]:
    """The taxes that exemption is offered of; one that is exempt already stays on offer."""
    known = dict(page.taxes)
    own = page.current.exempt if page.current else ()
    return sorted({**{code: code for code in own}, **known}.items())


def _groups(page: TermsPage) -> list[str]:
    own = page.current.groups if page.current else ()
    return sorted({*own, *page.groups})


def _show(
    request: HttpRequest,
    page: TermsPage,
    asked: Asked | None,
    *,
    deed: str = "",
    looked: ChangeLook | None = None,
    status: int = 200,
) -> HttpResponse:
    current, zone = page.current, page.place.time_zone
    watts = current.contracted_w if current else 0
    defaults = {
        "from": written_day(page.now, zone),
        "members": str(current.members if current else 1),
        "contracted": f"{watts / 1000:g}" if watts else "",
        "plan": page.plan.code if page.plan else "",
        "plan_from": written_day(page.now, zone, ahead=1),
    }
    if asked is None or deed != "terms":
        exempt, groups = (current.exempt, current.groups) if current else ((), ())
    else:
        exempt, groups = tuple(asked.several("exempt")), tuple(asked.several("groups"))
    return deeds.show(
        request, "terms", place=page.place, now=page.now, tab="accounts", status=status, page=page,
        who=page.holding.who, holding=page.holding, taxes=_taxes(page), groups=_groups(page),
        exempt=exempt, followed=groups, tax_names=dict(_taxes(page)), looked=looked, deed=deed,
        plan_name=next((each.name for each in page.plans if asked and each.code == asked.text("plan")), ""),
        from_at=_from_of(asked, deed, zone),
        withdrawn_from=asked.text("withdraw_from") if asked else "",
        plans=[(each.code, each.name) for each in page.plans if not each.for_a_time],
        done=request.GET.get("done", ""), key=key_of(request),
        **deeds.form_context(asked, **defaults),
    )  # fmt: skip


def _from_of(asked: Asked | None, deed: str, zone: str) -> datetime | None:
    """The day from which a looked-at change holds."""
    if asked is None or deed not in ("terms", "plan"):
        return None
    written = asked.text("from" if deed == "terms" else "plan_from")
    try:
        return day_begins(date.fromisoformat(written), zone)
    except ValueError:
        return None


@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def correct_view(request: HttpRequest, account_id: int) -> HttpResponse:
    """A wrong plan put right from a past day: what it comes to, then done with a second person."""
    actor = actor_of(request)
    require(actor, "billing.correct")
    page = terms_page(actor=actor, account_id=account_id, now=clock.now())
    if request.method != "POST":
        begun = next((each.valid_from for each in page.assigned if each.now), page.now)
        return _show_correction(request, page, None, since=written_day(begun, page.place.time_zone))
    asked = Asked(request.POST)
    code = asked.choice("plan", [each.code for each in page.plans if not each.for_a_time])
    from_at = asked.day("from", page.place.time_zone)
    why = asked.line("why", most=200, needed=True)
    if from_at is not None:
        # The very instant of a wrong assignment, where it began within that day.
        from_at = _instant_of_day(page, from_at)
    if asked.faults or from_at is None:
        return _show_correction(request, page, asked, status=422)
    try:
        looked = rehearse_correction(
            actor=actor, property_id=page.place.property_id, account_id=account_id,
            tariff_code=code, from_at=from_at, now=page.now,
        )  # fmt: skip
        if not wants(request):
            return _show_correction(request, page, asked, looked=looked, from_at=from_at)
        second = countersigned(
            request, email=asked.text("email", 254), password=request.POST.get("password", "")
        )
        if second is None:
            asked.faults["password"] = _(
                "That is not another administrator of this property, or the password is wrong."
            )
            return _show_correction(
                request, page, asked, looked=looked, from_at=from_at, status=403
            )
        correct_tariff(
            actor=actor, property_id=page.place.property_id, account_ids=[account_id],
            tariff_code=code, from_at=from_at, reason=why, approved_by=second.code, now=page.now,
        )  # fmt: skip
    except CorrectionRefused as refused:
        asked.faults["from"] = money_words.refused(refused)
        return _show_correction(request, page, asked, status=422)
    return redirect(f"/accounts/{account_id}/terms?done=corrected")


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


def _show_correction(
    request: HttpRequest,
    page: TermsPage,
    asked: Asked | None,
    *,
    looked: CorrectionPreview | None = None,
    from_at: datetime | None = None,
    status: int = 200,
    since: str = "",
) -> HttpResponse:
    plans = [(each.code, each.name) for each in page.plans if not each.for_a_time]
    context = deeds.form_context(asked, **{"plan": "", "from": since})
    # A password is never sent back.
    context["form"].pop("password", None)
    return deeds.show(
        request, "correct_tariff", place=page.place, now=page.now, tab="accounts", status=status,
        page=page, who=page.holding.who, holding=page.holding, looked=looked, from_at=from_at,
        plan_name=dict(plans).get(context["form"].get("plan", ""), ""),
        plans=[("", _("Choose the plan that was right")), *plans], **context,
    )  # fmt: skip
