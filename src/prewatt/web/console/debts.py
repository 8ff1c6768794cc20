"""Debts: the list, one debt with what came back when, its agreement, paying it, giving it up."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.approvals.operations import Wanted
from prewatt.debts.by_agreement import wanted_write_off
from prewatt.debts.models import Debt
from prewatt.debts.operations import change_agreement, open_debt, settle_debt
from prewatt.debts.words import AmountRefused, DebtRefused
from prewatt.ledger.operations import KeyReused, PeriodClosed
from prewatt.reports.debts import (
    DEBT_SHOWS,
    DEBT_SORTS,
    DebtPage,
    NewDebtForm,
    debt_page,
    debts,
    new_debt_form,
)
from prewatt.reports.lists_query import PAGE_MAX
from prewatt.vending.debt_payments import DebtPaymentRefused, pay_debt
from prewatt.vending.operations import LIMIT_MICRO
from prewatt.web import clock
from prewatt.web.console import deeds, export
from prewatt.web.console.agreeing import agreed_or_proposed, agreement_context, waiting_context
from prewatt.web.console.asked import Asked, key_of, wants
from prewatt.web.session import actor_of
from prewatt.web.ui import money_words
from prewatt.web.ui.format import money, percent

#: Reasons that a person writes down; the others arise by themselves.
REASONS = (Debt.Reason.AGREED, Debt.Reason.ARREARS)
_REFUSED = (DebtRefused, DebtPaymentRefused, KeyReused, PeriodClosed)
WAYS = ("cash", "online", "transfer")


@dataclass(frozen=True, slots=True)
class _Wish:
    """A debt that somebody wants to write down, in micro-units and parts per million."""

    reason: Debt.Reason
    amount_micro: int
    share_ppm: int
    cap_micro: int
    note: str


def _said(reason: str, share_ppm: int, cap_micro: int, currency: str) -> dict[str, str]:
    """An agreement in the words that the tenant reads."""
    return {
        "reason_said": str(money_words.DEBT_REASON.get(reason, reason)),
        "share_said": percent(share_ppm),
        "cap_said": money(cap_micro, currency) if cap_micro else "",
    }


def debts_view(request: HttpRequest) -> HttpResponse:
    """Open and closed debts."""
    wanted, address = deeds.chosen(request, shows=DEBT_SHOWS, sorts=DEBT_SORTS)
    found = debts(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.show_list(
        request, "debts", found, address, path="/debts", tab="debts",
        shows=money_words.DEBT_SHOW.items(), sorts=money_words.DEBT_SORT.items(),
    )  # fmt: skip


def debts_csv(request: HttpRequest) -> HttpResponse:
    """The same selection as a file."""
    wanted, _ = deeds.chosen(request, shows=DEBT_SHOWS, sorts=DEBT_SORTS)
    wanted["limit"] = PAGE_MAX
    found = debts(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.as_csv("debts", lambda writer: export.debts(writer, found))


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def debt_view(request: HttpRequest, debt_id: int) -> HttpResponse:
    """One debt; a POST agrees anew, settles or writes off."""
    page = debt_page(actor=actor_of(request), debt_id=debt_id, now=clock.now())
    if request.method != "POST":
        return _show(request, page, None)
    asked = Asked(request.POST)
    require(actor_of(request), _PERMISSION.get(asked.text("deed"), "debts.manage"))
    deed = asked.choice("deed", tuple(_DEEDS))
    try:
        done = _DEEDS[deed](request, page, asked) if deed else None
    except _REFUSED as refused:
        asked.faults[_FIELD[deed]] = money_words.refused(refused)
        done = None
    if done is not None:
        return done
    return _show(request, page, asked, deed=deed, status=422)


def _agree(request: HttpRequest, page: DebtPage, asked: Asked) -> HttpResponse | None:
    share = asked.percent("share")
    cap = deeds.cap_of(asked, page.place.currency)
    if asked.faults:
        return None
    change_agreement(
        actor=actor_of(request), debt_id=page.debt.debt_id, share_ppm=share, weekly_cap_micro=cap,
        now=page.now,
    )  # fmt: skip
    return redirect(f"/debts/{page.debt.debt_id}?done=agree")


def _settle(request: HttpRequest, page: DebtPage, asked: Asked) -> HttpResponse | None:
    amount = asked.amount("amount", limit_micro=LIMIT_MICRO, currency=page.place.currency)
    if amount > page.settle_most_micro and not asked.faults and not wants(request):
        asked.faults["amount"] = money_words.refused(AmountRefused("more"))
    if asked.faults:
        return None
    key = key_of(request)
    if not wants(request):
        return _show(request, page, asked, deed="settle", sure=True, amount_micro=amount, key=key)
    settle_debt(
        actor=actor_of(request), debt_id=page.debt.debt_id, amount_micro=amount, key=key,
        now=page.now,
    )  # fmt: skip
    return redirect(f"/debts/{page.debt.debt_id}?done=settle")


def _pay(request: HttpRequest, page: DebtPage, asked: Asked) -> HttpResponse | None:
    """Money at the window for the debt alone: what is more than is left of it is change."""
    offered = asked.amount("offered", limit_micro=LIMIT_MICRO, currency=page.place.currency)
    way = asked.choice("way", WAYS)
    if asked.faults:
        return None
    key = key_of(request)
    if not wants(request):
        taken = min(offered, page.debt.left_micro)
        return _show(
            request, page, asked, deed="pay", sure=True, amount_micro=taken,
            change_micro=offered - taken, key=key,
        )  # fmt: skip
    pay_debt(
        actor=actor_of(request), debt_id=page.debt.debt_id, offered_micro=offered, way=way,
        reference="", key=key, now=page.now,
    )  # fmt: skip
    return redirect(f"/debts/{page.debt.debt_id}?done=pay")


def _write_off(request: HttpRequest, page: DebtPage, asked: Asked) -> HttpResponse | None:
    why = asked.line("why", most=200, needed=True)
    if asked.faults:
        return None
    wanted = wanted_write_off(actor=actor_of(request), debt_id=page.debt.debt_id)
    if wants(request):
        address = agreed_or_proposed(request, asked, wanted, why, page.now)
        if address is not None:
            alone = address.endswith("?done=alone")
            return redirect(f"/debts/{page.debt.debt_id}?done=write_off" if alone else address)
    return _show(
        request, page, asked, deed="write_off", sure=True, wanted=wanted,
        status=422 if asked.faults else 200,
    )  # fmt: skip


_DEEDS = {"agree": _agree, "settle": _settle, "write_off": _write_off, "pay": _pay}
_FIELD = {"agree": "share", "settle": "amount", "write_off": "why", "pay": "offered"}
#: Taking money is for who recharges; all else about a debt is an administrator's.
_PERMISSION = {"pay": "vending.recharge"}


def _show(
    request: HttpRequest,
    page: DebtPage,
    asked: Asked | None,
    *,
    deed: str = "",
    sure: bool = False,
    wanted: Wanted | None = None,
    amount_micro: int = 0,
    change_micro: int = 0,
    key: str = "",
    status: int = 200,
) -> HttpResponse:
    debt = page.debt
    cap = "" if not debt.weekly_cap_micro else export.decimal(debt.weekly_cap_micro)
    defaults = {"share": percent(debt.share_ppm).removesuffix("%").strip(), "cap": cap}
    defaults |= {"offered": "", "way": WAYS[0]}
    defaults["amount"] = export.decimal(page.settle_most_micro // 10_000 * 10_000)
    return deeds.show(
        request, "debt", place=page.place, now=page.now, tab="debts", status=status, page=page,
        debt=debt, who=debt.who, holding=page.holding, deed=deed, sure=sure,
        amount_micro=amount_micro, change_micro=change_micro, ways=WAYS, key=key, done=request.GET.get("done", ""),
        **_said(debt.reason.value, debt.share_ppm, debt.weekly_cap_micro, page.place.currency),
        **deeds.form_context(asked, **defaults), **agreement_context(request, wanted),
        **waiting_context(request, f"debt:{debt.debt_id}", page.now),
    )  # fmt: skip


@require_http_methods(["GET", "POST"])
def new_debt_view(request: HttpRequest, account_id: int) -> HttpResponse:
    """A debt to be written down with its agreement, after a look at what the tenant will read."""
    page = new_debt_form(actor=actor_of(request), account_id=account_id, now=clock.now())
    if request.method != "POST":
        return _show_new(request, page, None, share="25", reason=REASONS[0].value)
    asked = Asked(request.POST)
    reason = asked.choice("reason", [each.value for each in REASONS])
    amount = asked.amount("amount", limit_micro=LIMIT_MICRO, currency=page.place.currency)
    note = asked.line("note", most=200)
    share = asked.percent("share")
    cap = deeds.cap_of(asked, page.place.currency)
    if asked.faults:
        return _show_new(request, page, asked, status=422)
    key = key_of(request)
    if not wants(request):
        wish = _Wish(Debt.Reason(reason), amount, share, cap, note)
        return _show_new(request, page, asked, looked=wish, key=key)
    try:
        done = open_debt(
            actor=actor_of(request), account_id=account_id, amount_micro=amount,
            reason=Debt.Reason(reason), note=note, share_ppm=share, weekly_cap_micro=cap, key=key,
            now=page.now,
        )  # fmt: skip
    except _REFUSED as refused:
        asked.faults["amount"] = money_words.refused(refused)
        return _show_new(request, page, asked, status=422)
    return redirect(f"/debts/{done.debt_id}?done=opened")


def _show_new(
    request: HttpRequest,
    page: NewDebtForm,
    asked: Asked | None,
    *,
    looked: _Wish | None = None,
    key: str = "",
    status: int = 200,
    **defaults: str,
) -> HttpResponse:
    reasons = [(each.value, money_words.DEBT_REASON[each.value]) for each in REASONS]
    said = {}
    if looked is not None:
        currency = page.place.currency
        said = _said(looked.reason.value, looked.share_ppm, looked.cap_micro, currency)
        said["amount_said"] = money(looked.amount_micro, currency)
    return deeds.show(
        request, "debt_new", place=page.place, now=page.now, tab="accounts", status=status,
        page=page, holding=page.holding, who=page.holding.who, looked=looked, key=key,
        reasons=reasons, **said, **deeds.form_context(asked, **defaults),
    )  # fmt: skip
