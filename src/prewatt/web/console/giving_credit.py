"""Credit that nobody paid for, given or taken by hand: the form, the look, and the press that proposes it."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.reports.holders import holding_by_id
from prewatt.reports.place import place_for
from prewatt.vending.by_agreement import wanted_credit
from prewatt.vending.credits import CreditRefused
from prewatt.vending.operations import LIMIT_MICRO
from prewatt.web import clock
from prewatt.web.console import deeds
from prewatt.web.console.agreeing import (
    REASON_MAX,
    agreed_or_proposed,
    look_context,
    presses,
)
from prewatt.web.console.asked import Asked
from prewatt.web.session import actor_of

WAYS: Final = ("give", "take")
_REFUSED: Final[dict[str, str | Promise]] = {
    "unknown": gettext_lazy("Only an open account of a customer is given credit."),
    "amount": gettext_lazy("The amount is none, or above the limit of one recharge."),
    "less": gettext_lazy("The wallet has less than that; nothing is taken below zero."),
}


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def credit_view(request: HttpRequest, account_id: int) -> HttpResponse:
    """Give an account credit that nobody paid for, or take it; others agree to either."""
    actor = actor_of(request)
    require(actor, "vending.credit")
    place, holding = place_for(actor), holding_by_id(actor=actor, account_id=account_id)
    now, wanted = clock.now(), None
    asked = Asked(request.POST) if request.method == "POST" else None
    if asked is not None:
        way = asked.choice("way", WAYS)
        amount = asked.amount("amount", limit_micro=LIMIT_MICRO, currency=place.currency)
        reason = asked.line("reason", most=REASON_MAX, needed=True)
        if not asked.faults:
            try:
                wanted = wanted_credit(
                    actor=actor, account_id=account_id,
                    credit_micro=-amount if way == "take" else amount,
                )  # fmt: skip
            except CreditRefused as refused:
                asked.faults["amount"] = str(_REFUSED[refused.reason])
        if wanted is not None and presses(request):
            address = agreed_or_proposed(request, asked, wanted, reason, now)
            if address is not None:
                return redirect(address)
    return deeds.show(
        request, "supply_deed", place=place, now=now, tab="accounts", kind="credit",
        path=f"/accounts/{account_id}/credit", names=("way", "amount", "reason"), who=holding.who,
        heading=_("Give credit that nobody paid"),
        about=_("The property bears it. What a reading, a price or a recharge made wrong is put right there, not here."),
        ways=[("give", _("Give it")), ("take", _("Take it off the account"))],
        **look_context(request, asked, wanted, now, way="give"),
    )  # fmt: skip
