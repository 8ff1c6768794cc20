"""What an account's prices depend on besides its plan: its terms from a day on, looked at and proposed."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.approvals.operations import Wanted
from prewatt.billing.agreed_terms import wanted_terms, wanted_terms_withdrawal
from prewatt.billing.change_looks import ChangeLook
from prewatt.billing.terms import MOST_MEMBERS, TermsRefused, WithdrawalRefused
from prewatt.reports.price_pages import TermsPage, terms_page
from prewatt.web import clock
from prewatt.web.console import deeds
from prewatt.web.console.agreeing import REASON_MAX, agreed_or_proposed, look_context, presses
from prewatt.web.console.asked import Asked, written_day
from prewatt.web.session import actor_of
from prewatt.web.ui import money_words

DEEDS = ("terms", "withdraw_terms")
#: What the form carries on to the press, besides what is ticked.
FIELDS = ("deed", "from", "members", "contracted", "withdraw_from", "terms_reason")


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def terms_view(request: HttpRequest, account_id: int) -> HttpResponse:
    """The terms and tariffs of an account over time; a POST looks at a change and proposes it."""
    page = terms_page(actor=actor_of(request), account_id=account_id, now=clock.now())
    if request.method != "POST":
        return _show(request, page, None)
    require(actor_of(request), "billing.terms")
    asked = Asked(request.POST)
    deed = asked.choice("deed", DEEDS)
    reason = asked.line("terms_reason", most=REASON_MAX, needed=True)
    wanted: Wanted | None = None
    change: ChangeLook | None = None
    try:
        if deed == "terms":
            wanted, change = _changed(request, page, asked)
        elif deed:
            wanted = _withdrawn(request, page, asked)
    except (TermsRefused, WithdrawalRefused) as refused:
        asked.faults[_field_of(deed, refused)] = money_words.refused(refused)
    if wanted is None or asked.faults:
        return _show(request, page, asked, deed=deed, status=422)
    if presses(request):
        address = agreed_or_proposed(request, asked, wanted, reason, page.now)
        if address is not None:
            return redirect(address)
    return deeds.show(
        request, "terms_change", place=page.place, now=page.now, tab="accounts",
        who=page.holding.who, deed=deed, change=change, names=FIELDS,
        from_at=asked.day("from", page.place.time_zone) if change else None,
        exempt=asked.several("exempt"), followed=asked.several("groups"),
        **look_context(request, asked, wanted, page.now),
    )  # fmt: skip


#: Where a refusal stands that is about one field; all others are about the day.
_TERMS_FIELD = {"members": "members", "contracted_w": "contracted", "words": "exempt"}


def _field_of(deed: str, refused: Exception) -> str:
    reason = str(getattr(refused, "reason", ""))
    if deed.startswith("withdraw_"):
        # The change may be no more on the page: said above all of it.
        return "withdrawal"
    return _TERMS_FIELD.get(reason, "from")


def _changed(
    request: HttpRequest, page: TermsPage, asked: Asked
) -> tuple[Wanted | None, ChangeLook | None]:
    """What would be proposed, and what it comes to."""
    valid_from = asked.day("from", page.place.time_zone)
    members = asked.whole("members", least=1, most=MOST_MEMBERS)
    contracted_w = asked.thousandths("contracted") or 0
    exempt = [each for each in asked.several("exempt") if each in dict(_taxes(page))]
    groups = [each for each in asked.several("groups") if each in _groups(page)]
    if asked.faults or valid_from is None:
        return None, None
    return wanted_terms(
        actor=actor_of(request), property_id=page.place.property_id,
        account_id=page.holding.who.account_id, valid_from=valid_from, members=members,
        contracted_w=contracted_w, exempt=exempt, overlay_groups=groups, now=page.now,
    )  # fmt: skip


def _withdrawn(request: HttpRequest, page: TermsPage, asked: Asked) -> Wanted | None:
    """Terms that have not begun, to be taken away."""
    valid_from = asked.day("withdraw_from", page.place.time_zone)
    if asked.faults or valid_from is None:
        return None
    return wanted_terms_withdrawal(
        actor=actor_of(request), property_id=page.place.property_id,
        account_id=page.holding.who.account_id, valid_from=valid_from, now=page.now,
    )  # fmt: skip


def _taxes(page: TermsPage) -> list[tuple[str, str]]:
    """The taxes that exemption is offered of; one that is exempt already stays on offer."""
    known = dict(page.taxes)
    own = page.current.exempt if page.current else ()
    return sorted({**{code: code for code in own}, **known}.items())


def _groups(page: TermsPage) -> list[str]:
    own = page.current.groups if page.current else ()
    return sorted({*own, *page.groups})


def _show(
    request: HttpRequest, page: TermsPage, asked: Asked | None, *, deed: str = "", status: int = 200
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
        exempt=exempt, followed=groups, deed=deed,
        withdrawn_from=asked.text("withdraw_from") if asked else "",
        plans=_other_plans(page),
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
