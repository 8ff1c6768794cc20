"""Places let for a time: the list, a let begun after a look at what it costs, and its early end."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import get_language
from django.views.decorators.http import require_http_methods

from prewatt.core.temporary import LetRefused
from prewatt.estate.operations import NewCustomer, RegisterValue
from prewatt.ledger.operations import KeyReused, PeriodClosed
from prewatt.moves.lets import (
    LetBegun,
    LetClosed,
    PaidTooLittle,
    PlaceTaken,
    close_let,
    let_unit,
    rehearse_closing,
    rehearse_let,
)
from prewatt.moves.words import (
    FirstRecharge,
    MoveRefused,
    NewTenant,
    RegisterMissing,
    TooEarly,
)
from prewatt.reports.lets import (
    LET_SHOWS,
    LET_SORTS,
    LetForm,
    LetPage,
    Register,
    VacantUnit,
    coming_back,
    let_form,
    let_page,
    lets,
)
from prewatt.reports.lists_query import PAGE_MAX
from prewatt.vending.operations import LIMIT_MICRO
from prewatt.vending.refunds import RefundRefused
from prewatt.web import clock
from prewatt.web.console import deeds, export
from prewatt.web.console.asked import Asked, key_of, wants
from prewatt.web.console.picking import find_in, is_search
from prewatt.web.session import actor_of
from prewatt.web.ui import money_words
from prewatt.web.ui.format import money

WAYS = ("cash", "online", "transfer")
_REFUSED = (MoveRefused, LetRefused, KeyReused, PeriodClosed, RefundRefused)
#: Refusals that stand beside the begin.
_AT_BEGIN = (PlaceTaken, TooEarly, PeriodClosed)


def lets_view(request: HttpRequest) -> HttpResponse:
    """Running and ended lets."""
    wanted, address = deeds.chosen(request, shows=LET_SHOWS, sorts=LET_SORTS)
    found = lets(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.show_list(
        request, "lets", found, address, path="/lets", tab="lets",
        shows=money_words.LET_SHOW.items(), sorts=money_words.LET_SORT.items(),
    )  # fmt: skip


def lets_csv(request: HttpRequest) -> HttpResponse:
    """The same selection as a file."""
    wanted, _ = deeds.chosen(request, shows=LET_SHOWS, sorts=LET_SORTS)
    wanted["limit"] = PAGE_MAX
    found = lets(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.as_csv("lets", lambda writer: export.lets(writer, found))


@require_http_methods(["GET", "POST"])
def new_let_view(request: HttpRequest) -> HttpResponse:
    """A let to begin now, earlier or later: first looked at, then done."""
    find = find_in(request.POST, "who")
    page = let_form(actor=actor_of(request), now=clock.now(), find=find)
    searches = is_search(request.POST, "who")
    if request.method != "POST" or searches:
        first = page.plans[0].code if page.plans else ""
        asked = Asked(request.POST) if searches else None
        return _show_form(request, page, asked, plan=first, way=WAYS[0], who="0")
    asked = Asked(request.POST)
    wish = _wish(page, asked, repeated=wants(request))
    if wish is None or asked.faults:
        return _show_form(request, page, asked, status=422)
    unit, tenant, opening, payment = wish
    until = asked.instant("until", page.place.time_zone)
    at = asked.instant("begin", page.place.time_zone)
    key, now = key_of(request), page.now
    try:
        if wants(request):
            done = let_unit(
                actor=actor_of(request), unit_id=unit.unit_id, tenant=tenant, opening=opening,
                at=at, until=until, payment=payment, key=key, now=now,
            )  # fmt: skip
            return redirect(f"/lets/{done.let_id}?begun=1")
        looked = rehearse_let(
            actor=actor_of(request), unit_id=unit.unit_id, tenant=tenant, opening=opening,
            at=at, until=until, payment=payment, key=key, now=now,
        )  # fmt: skip
    except PaidTooLittle as refused:
        needed = money(refused.needed_micro, page.place.currency)
        asked.faults["paid"] = money_words.paid_too_little(needed)
        return _show_form(request, page, asked, needed_micro=refused.needed_micro, status=422)
    except _REFUSED as refused:
        field = "until" if isinstance(refused, LetRefused) else "unit"
        field = "begin" if isinstance(refused, _AT_BEGIN) else field
        asked.faults[field] = money_words.refused(refused)
        return _show_form(request, page, asked, status=422)
    return _show_form(
        request, page, asked, looked=looked, unit=unit, tenant_name=_name(page, tenant),
        payment=payment, key=key,
    )  # fmt: skip


def _unit(page: LetForm, asked: Asked, *, repeated: bool) -> VacantUnit | None:
    """The unit that is asked for. A form that is sent again names one that is let by now."""
    written = asked.text("unit")
    found = next((each for each in page.units if str(each.unit_id) == written), None)
    if found is None and repeated and written.isascii() and written.isdigit() and len(written) < 19:
        meters = (name.removeprefix("register-") for name in asked.data)
        registers = tuple(
            Register(int(each), "", None, None)
            for each in meters
            if each.isascii() and each.isdigit() and len(each) < 19
        )
        return VacantUnit(int(written), "", "", registers)
    if found is None:
        asked.choice("unit", ())
    return found


def _wish(
    page: LetForm, asked: Asked, *, repeated: bool
) -> tuple[VacantUnit, NewTenant, list[RegisterValue] | None, FirstRecharge] | None:
    """What is asked for, None where a unit or plan is missing; faults are kept in ``asked``."""
    unit = _unit(page, asked, repeated=repeated)
    plan = asked.choice("plan", {each.code for each in page.plans})
    chosen = page.picker.chosen
    who = asked.choice("who", {"0", *([] if chosen is None else [str(chosen.customer_id)])})
    asked.instant("until", page.place.time_zone)
    asked.instant("begin", page.place.time_zone)
    paid = asked.amount("paid", limit_micro=LIMIT_MICRO, currency=page.place.currency)
    way = asked.choice("way", WAYS)
    customer: int | NewCustomer
    if who == "0":
        customer = NewCustomer(
            asked.line("name", most=120, needed=True),
            asked.line("email", most=254),
            asked.line("phone", most=40),
            "zh-hans" if (get_language() or "").startswith("zh") else "en",
        )
    else:
        customer = int(who or 0)
    if unit is None or not plan:
        return None
    opening = _registers(asked, unit.registers)
    return unit, NewTenant(customer, plan), opening, FirstRecharge(paid, way)


def _registers(asked: Asked, registers: tuple[Register, ...]) -> list[RegisterValue] | None:
    """Registers that somebody read; None where all are taken as reported."""
    written = {
        each: asked.thousandths(f"register-{each.meter_id}")
        for each in registers
        if asked.text(f"register-{each.meter_id}")
    }
    if not written:
        return None
    return [
        RegisterValue(
            each.meter_id, value if (value := written.get(each)) is not None else each.value_wh or 0
        )
        for each in registers
    ]


def _name(page: LetForm, tenant: NewTenant) -> str:
    if isinstance(tenant.customer, NewCustomer):
        return tenant.customer.name
    return page.picker.name_of(tenant.customer)


def _show_form(
    request: HttpRequest,
    page: LetForm,
    asked: Asked | None,
    *,
    looked: LetBegun | None = None,
    status: int = 200,
    unit: VacantUnit | None = None,
    tenant_name: str = "",
    payment: FirstRecharge | None = None,
    key: str = "",
    needed_micro: int = 0,
    **defaults: str,
) -> HttpResponse:
    chosen = asked.text("unit") if asked else ""
    is_new = asked is None or asked.text("who") == "0"
    meters = next((each.registers for each in page.units if str(each.unit_id) == chosen), ())
    code = asked.text("plan") if asked else ""
    plan = next((each for each in page.plans if each.code == code), None)
    return deeds.show(
        request, "let_new", meters=meters, place=page.place, now=page.now, tab="lets", status=status, page=page,
        looked=looked, unit=unit, plan=plan, tenant_name=tenant_name, payment=payment, key=key,
        needed_micro=needed_micro, ways=WAYS, picker=page.picker, pick="who", with_new=True, is_new=is_new, costs=_costs(looked, payment),
        ends_at=None if looked is None else money_words.instant(looked.ends_at),
        begins_at=None if looked is None else money_words.instant(looked.begins_at),
        **deeds.form_context(asked, **defaults),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Costs:
    """What is left of a payment for energy when all that the plan takes until the end is taken."""

    dues_micro: int
    energy_micro: int

    @property
    def missing_micro(self) -> int:
        """What the plan takes beyond the payment."""
        return -self.energy_micro


def _costs(looked: LetBegun | None, payment: FirstRecharge | None) -> _Costs | None:
    if looked is None or payment is None:
        return None
    kept = looked.fee_micro + looked.deposit_micro + looked.debt_micro
    # What else has gone by then was collected with the payment, as the plan says.
    dues = payment.amount - kept - looked.available_micro
    to_come = looked.by_days_micro + looked.least_micro
    return _Costs(dues, looked.available_micro - to_come)


@require_http_methods(["GET", "POST"])
def let_view(request: HttpRequest, let_id: int) -> HttpResponse:
    """One let; a POST looks at its early end, or what cancelling it gives back, then does it."""
    page = let_page(actor=actor_of(request), let_id=let_id, now=clock.now())
    if request.method != "POST":
        return _show_let(request, page, None)
    asked = Asked(request.POST)
    closing = _registers(asked, page.registers)
    if asked.faults:
        return _show_let(request, page, asked, status=422)
    try:
        if wants(request):
            close_let(
                actor=actor_of(request), let_id=let_id, closing=closing, at=None, now=page.now
            )
            return redirect(f"/lets/{let_id}")
        looked = rehearse_closing(
            actor=actor_of(request), let_id=let_id, closing=closing, now=page.now
        )
    except _REFUSED as refused:
        meters = page.registers
        field = f"register-{meters[0].meter_id}" if meters else "end"
        if isinstance(refused, RegisterMissing):
            missing = next((each for each in meters if each.value_wh is None), None)
            field = f"register-{missing.meter_id}" if missing else field
        asked.faults[field] = money_words.refused(refused)
        return _show_let(request, page, asked, status=422)
    return _show_let(request, page, asked, looked=looked)


def _show_let(
    request: HttpRequest,
    page: LetPage,
    asked: Asked | None,
    *,
    looked: LetClosed | None = None,
    status: int = 200,
) -> HttpResponse:
    return deeds.show(
        request, "let", place=page.place, now=page.now, tab="lets", status=status, page=page,
        let=page.let, looked=looked,
        back=None if looked is None else coming_back(
            page.let, looked.fee_back_micro, looked.refund_micro
        ), begun=request.GET.get("begun") == "1",
        **deeds.form_context(asked),
    )  # fmt: skip
