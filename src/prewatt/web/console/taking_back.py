"""Taking a recharge back: its payment was reversed, or it was sold to the wrong account.

One page: what the recharge was, what would happen, and, once others have agreed and it has happened, what did.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.approvals.operations import Wanted
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.ledger.operations import PeriodClosed
from prewatt.reports.holders import holding_by_id
from prewatt.reports.taking_back import (
    RechargeFacts,
    TakingBack,
    accounts_named,
    foresee_taking_back,
    recharge_facts,
)
from prewatt.vending.by_agreement import wanted_taking_back
from prewatt.vending.taking_back import CreditUsed, TakeBackRefused
from prewatt.web import clock
from prewatt.web.console import deeds
from prewatt.web.console.agreeing import agreed_or_proposed, agreement_context, waiting_context
from prewatt.web.console.asked import Asked, wants
from prewatt.web.session import actor_of
from prewatt.web.ui import money_words
from prewatt.web.ui.format import money

HOW = ("reversed", "moved")


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def take_back_view(request: HttpRequest, event_id: int) -> HttpResponse:
    """Ask how, show what it does to the last transfer, and on confirmation do or propose it."""
    actor = actor_of(request)
    page = recharge_facts(actor=actor, event_id=event_id, now=clock.now())
    if request.method == "POST" or page.taken_back is None:
        require(actor, "vending.take_back")
    if request.method != "POST":
        return _show(request, page, None, how=HOW[0])
    asked = Asked(request.POST)
    how = asked.choice("how", HOW)
    why = asked.line("why", most=200, needed=True)
    to = _to(request, page, asked) if how == "moved" else None
    if asked.faults:
        return _show(request, page, asked, status=422)
    try:
        wanted = wanted_taking_back(actor=actor, event_id=event_id, to_account_id=to)
        looked = foresee_taking_back(actor=actor, wanted=wanted, why=why, now=page.now)
    except CreditUsed as refused:
        used = money(refused.missing_micro, page.place.currency)
        asked.faults["how"] = money_words.credit_used(used)
    except (TakeBackRefused, PeriodClosed) as refused:
        asked.faults["to" if to is not None else "how"] = money_words.refused(refused)
    if asked.faults:
        return _show(request, page, asked, status=422)
    if wants(request):
        address = agreed_or_proposed(request, asked, wanted, why, page.now)
        if address is not None:
            alone = address.endswith("?done=alone")
            return redirect(f"/recharges/{event_id}/take-back?done=1" if alone else address)
    return _show(
        request, page, asked, looked=looked, to_id=to, wanted=wanted,
        status=422 if asked.faults else 200,
    )  # fmt: skip


def _to(request: HttpRequest, page: RechargeFacts, asked: Asked) -> int | None:
    """The right account by the unit, number or meter that was written."""
    written = asked.line("to", most=60, needed=True)
    if not written:
        return None
    found = accounts_named(actor=actor_of(request), text=written, now=page.now)
    if len(found) != 1:
        asked.faults["to"] = money_words.not_one(len(found))
        return None
    if found[0] == page.holding.who.account_id:
        asked.faults["to"] = money_words.same_account()
        return None
    return found[0]


def _line(transfer: tuple[int, TransferKind, CounterAccount, int, int, str]) -> str:
    """The key of a transfer's sentence in ``money_words.TAKING``."""
    _account, kind, counter, amount, _after, _code = transfer
    if kind is TransferKind.REVERSAL and counter is CounterAccount.DEBTS:
        return "REVERSAL_DEBTS"
    if kind is TransferKind.MOVE:
        return "MOVE_ON" if amount > 0 else "MOVE_OFF"
    return kind.name


def _show(
    request: HttpRequest,
    page: RechargeFacts,
    asked: Asked | None,
    *,
    looked: TakingBack | None = None,
    to_id: int | None = None,
    wanted: Wanted | None = None,
    status: int = 200,
    **defaults: str,
) -> HttpResponse:
    to = None
    if to_id is not None:
        to = holding_by_id(actor=actor_of(request), account_id=to_id)
    lines = [
        {
            "who": to.who if to and each[0] == to_id else page.holding.who,
            "said": money_words.TAKING.get(_line(each), each[1].name),
            "amount": each[3],
            "after": each[4],
            "code": each[5],
        }
        for each in (looked.transfers if looked else ())
    ]
    return deeds.show(
        request, "take_back", place=page.place, now=page.now, tab="money", status=status,
        page=page, who=page.holding.who, holding=page.holding, looked=looked, lines=lines, to=to,
        just_done=request.GET.get("done") == "1", **deeds.form_context(asked, **defaults),
        **agreement_context(request, wanted),
        **waiting_context(request, f"recharge:{page.event_id}", page.now),
    )  # fmt: skip
