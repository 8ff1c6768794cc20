"""The recharge: amount, a look at what it will do, one confirmation, then the meter's answer.

The form carries an idempotency key, made when the amount is shown for confirmation: pressing twice,
going back or losing the line never takes money twice. An amount far beyond what is usual is asked
about once more, under the same key, before any money is taken.
"""

from __future__ import annotations

import secrets

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from prewatt.core.money import MICRO, AmountRefused, parse_amount
from prewatt.core.usual import Usual
from prewatt.core.written import LENGTH_MAX
from prewatt.reports.recharge import RechargeEffect, RechargeForm
from prewatt.reports.recharge_query import effect_of, recharge_form, recharge_result
from prewatt.vending.operations import LIMIT_MICRO
from prewatt.vending.queries import RechargePreview, preview_recharge, usual_recharge
from prewatt.vending.words import Recharge, RechargeRefused
from prewatt.web import clock, till
from prewatt.web.console.export import decimal
from prewatt.web.console.views import is_partial
from prewatt.web.session import actor_of
from prewatt.web.ui import sentences
from prewatt.web.ui.format import money_parts

WAYS = ("cash", "online", "transfer")
#: Quick sums, in major units of the currency.
SUMS = (10, 20, 50, 100)
#: One more than an amount may have: what is cut off here is refused, and never another amount.
TEXT_MAX = LENGTH_MAX + 1


@require_http_methods(["GET", "POST"])
def recharge_view(request: HttpRequest, account_id: int) -> HttpResponse:
    """Ask for an amount, show what it will do, and on confirmation do it."""
    if request.method == "POST":
        return _recharge(request, account_id)
    actor = actor_of(request)
    form = recharge_form(actor=actor, account_id=account_id, now=clock.now())
    text = request.GET.get("amount", "").strip()[:TEXT_MAX]
    way = _way(request.GET.get("way", ""))
    if not text:
        return _show(request, form, way=way)
    try:
        amount = parse_amount(text, limit_micro=form.limit_micro, currency=form.place.currency)
    except AmountRefused as refused:
        why = sentences.refused_amount(refused)
        return _show(request, form, way=way, text=text, amount_problem=why, status=422)
    shown = preview_recharge(actor=actor, account_id=account_id, amount_micro=amount, now=form.now)
    usual = usual_recharge(actor=actor, account_id=account_id)
    return _show(request, form, way=way, text=text, shown=shown, usual=usual)


def _recharge(request: HttpRequest, account_id: int) -> HttpResponse:
    now, actor = clock.now(), actor_of(request)
    text = request.POST.get("amount", "").strip()[:TEXT_MAX]
    # Not `_way`: what nobody chose is refused, and never booked as cash.
    way = request.POST.get("way", "")
    try:
        amount = parse_amount(text, limit_micro=LIMIT_MICRO)
    except AmountRefused as refused:
        form = recharge_form(actor=actor, account_id=account_id, now=now)
        why = sentences.refused_amount(refused)
        return _show(request, form, way=way, text=text, amount_problem=why, status=422)
    key = request.POST.get("key", "")[:128]
    if way in WAYS and request.POST.get("sure", "") != str(amount):
        usual = usual_recharge(actor=actor, account_id=account_id)
        if usual.is_passed_by(amount):
            return _ask_once_more(request, account_id, amount, usual, way=way, key=key)
    wish = Recharge(
        key=key,
        account_id=account_id,
        amount=amount,
        way=way,
        reference="",
        paid_at=now,
    )
    answer = till.recharge(actor=actor, wish=wish, now=now)
    if isinstance(answer, RechargeRefused):
        form = recharge_form(actor=actor, account_id=account_id, now=now)
        why = sentences.said(sentences.REFUSED, answer.code)
        status = 503 if answer.code == "vending.recharge.busy" else 422
        return _show(request, form, way=way, text=text, problem=why, status=status)
    return redirect(f"/recharges/{answer.event_id}")


def _ask_once_more(
    request: HttpRequest, account_id: int, amount: int, usual: Usual, *, way: str, key: str
) -> HttpResponse:
    """The look at an unusual amount: nothing is sold, and its answer brings the same key again."""
    actor = actor_of(request)
    form = recharge_form(actor=actor, account_id=account_id, now=clock.now())
    shown = preview_recharge(actor=actor, account_id=account_id, amount_micro=amount, now=form.now)
    effect = effect_of(form, shown)
    days = effect.balance_after_micro // form.micro_per_day if form.micro_per_day else 0
    context = _context(form, way=way, text="", effect=effect, usual=usual, key=key)
    return render(request, "prewatt/pages/recharge_sure.html", context | {"days": max(0, days)})


def result_view(request: HttpRequest, event_id: int) -> HttpResponse:
    """How far a recharge has come; done only when the relay was read back."""
    result = recharge_result(actor=actor_of(request), event_id=event_id, now=clock.now())
    page = (
        "prewatt/parts/result_live.html"
        if is_partial(request)
        else "prewatt/pages/recharge_result.html"
    )
    return render(
        request,
        page,
        {"result": result, "place": result.place, "now": result.now, "tab": "accounts"},
    )


def _way(text: str) -> str:
    return text if text in WAYS else WAYS[0]


def _show(
    request: HttpRequest,
    form: RechargeForm,
    *,
    way: str,
    text: str = "",
    shown: RechargePreview | None = None,
    usual: Usual | None = None,
    amount_problem: str = "",
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    effect = effect_of(form, shown) if shown else None
    key = secrets.token_urlsafe(24)
    said = {"amount_problem": amount_problem, "problem": problem}
    return render(
        request,
        "prewatt/pages/recharge.html",
        _context(form, way=way, text=text, effect=effect, usual=usual, key=key) | said,
        status=status,
    )


def _context(
    form: RechargeForm,
    *,
    way: str,
    text: str,
    effect: RechargeEffect | None,
    usual: Usual | None,
    key: str,
) -> dict[str, object]:
    """What the form and the second look at an amount share."""
    sign = money_parts(0, form.place.currency).currency
    return {
        "form": form,
        "place": form.place,
        "now": form.now,
        "tab": "accounts",
        "way": _way(way),
        "ways": WAYS,
        # What was looked at is what is sent on: no text of a person's is read a second time.
        "amount_text": decimal(effect.amount_micro) if effect else text,
        "effect": effect,
        "times": usual.times(effect.amount_micro) if usual and effect else 0,
        "unusual": bool(usual and effect and usual.is_passed_by(effect.amount_micro)),
        "usual": usual,
        "key": key,
        "sums": [
            {"text": f"{each}", "label": f"{sign}{each}"}
            for each in SUMS
            if each * MICRO <= form.limit_micro
        ],
    }
