"""What an account's prices depend on besides its plan: its terms from a day on, looked at before they are set."""

from __future__ import annotations

from datetime import date, datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods

from prewatt.billing.change_looks import ChangeLook, look_at_terms
from prewatt.billing.terms import (
    MOST_MEMBERS,
    TermsRefused,
    WithdrawalRefused,
    set_terms,
    withdraw_terms,
)
from prewatt.ledger.operations import KeyReused
from prewatt.reports.price_pages import TermsPage, terms_page
from prewatt.web import clock
from prewatt.web.console import deeds
from prewatt.web.console.asked import Asked, day_begins, key_of, wants, written_day
from prewatt.web.session import actor_of
from prewatt.web.ui import money_words

DEEDS = ("terms", "withdraw_terms")


@require_http_methods(["GET", "POST"])
def terms_view(request: HttpRequest, account_id: int) -> HttpResponse:
    """The terms and tariffs of an account over time; a POST looks at a change, does it, or withdraws one."""
    page = terms_page(actor=actor_of(request), account_id=account_id, now=clock.now())
    if request.method != "POST":
        return _show(request, page, None)
    asked = Asked(request.POST)
    deed = asked.choice("deed", DEEDS)
    try:
        if deed == "terms":
            done, looked = _set_terms(request, page, asked)
        else:
            done, looked = _withdraw(request, page, asked), None
    except _REFUSED as refused:
        asked.faults[_field_of(deed, refused)] = money_words.refused(refused)
        done, looked = False, None
    if done:
        return redirect(f"/accounts/{account_id}/terms?done={deed}")
    status = 422 if asked.faults else 200
    return _show(request, page, asked, deed=deed, looked=looked, status=status)


_REFUSED = (KeyReused, TermsRefused, WithdrawalRefused)
#: Where a refusal stands that is about one field; all others are about the day.
_TERMS_FIELD = {"members": "members", "contracted_w": "contracted", "words": "exempt"}


def _field_of(deed: str, refused: Exception) -> str:
    reason = str(getattr(refused, "reason", ""))
    if deed.startswith("withdraw_"):
        # The change may be no more on the page: said above all of it.
        return "withdrawal"
    return _TERMS_FIELD.get(reason, "from")


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


def _is_confirmed(request: HttpRequest, asked: Asked) -> bool:
    """Whether the look was confirmed, and says why; without a reason it is only shown again."""
    if not wants(request):
        return False
    asked.line("why", most=200, needed=True)
    return "why" not in asked.faults


def _withdraw(request: HttpRequest, page: TermsPage, asked: Asked) -> bool:
    """Take away terms that have not begun, for a reason."""
    valid_from = asked.day("withdraw_from", page.place.time_zone)
    why = asked.line("withdraw_why", most=200, needed=True)
    if asked.faults or valid_from is None:
        return False
    withdraw_terms(
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
        "plan": "",
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
        from_at=_from_of(asked, deed, zone),
        withdrawn_from=asked.text("withdraw_from") if asked else "",
        plans=_other_plans(page),
        done=request.GET.get("done", ""), key=key_of(request),
        **deeds.form_context(asked, **defaults),
    )  # fmt: skip


def _other_plans(page: TermsPage) -> list[tuple[str, str]]:
    """The plans to go to: not the one that holds, unless another is announced from which to go back."""
    comes = any(each.valid_from > page.now for each in page.assigned)
    held = page.plan.code if page.plan and not comes else None
    offered = [
        (each.code, each.name) for each in page.plans if not each.for_a_time and each.code != held
    ]
    return [("", gettext("Choose a plan")), *offered]


def _from_of(asked: Asked | None, deed: str, zone: str) -> datetime | None:
    """The day from which looked-at terms hold."""
    if asked is None or deed != "terms":
        return None
    try:
        return day_begins(date.fromisoformat(asked.text("from")), zone)
    except ValueError:
        return None
