"""Tenants in, out and over: a form, a look at what will be booked, one confirmation, the hand-over.

What is shown before is found by doing it and taking it back (`moves.foresight`), so it is what will
be booked. The form carries an idempotency key: pressing twice moves nobody twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.vocabulary import Protection
from prewatt.core.written import WrittenRefused, read_decimal
from prewatt.estate.imports import EMERGENCY_LIMIT_MICRO
from prewatt.estate.operations import NewCustomer, RegisterValue
from prewatt.ledger.operations import KeyReused, PeriodClosed
from prewatt.moves import operations as moves
from prewatt.moves.foresight import AccountForeseen, Foreseen, foresee
from prewatt.moves.words import (
    EmergencyRefused,
    FirstRecharge,
    InFuture,
    LetRunning,
    MeterSilent,
    MovedIn,
    MovedOut,
    MoveRefused,
    NameTaken,
    NewTenant,
    RechargeFailed,
    RegisterMissing,
    RegisterRefused,
    TenantChanged,
    TooEarly,
    UnitOccupied,
    UnitVacant,
    UnknownPlace,
)
from prewatt.reports.moves import MoveForm
from prewatt.reports.moves_query import hand_over, move_form
from prewatt.reports.place import NoSuchThing
from prewatt.vending.operations import LIMIT_MICRO
from prewatt.vending.refunds import RefundRefused
from prewatt.web import clock
from prewatt.web.console.asked import Asked, key_of, written_local
from prewatt.web.console.picking import find_in, is_search
from prewatt.web.console.recharge import WAYS
from prewatt.web.session import actor_of
from prewatt.web.ui import format as fmt
from prewatt.web.ui import sentences
from prewatt.web.ui.tags import lang

Answer = MovedOut | MovedIn | TenantChanged

OUT, IN, CHANGE = "out", "in", "change"
DEEDS: Final = (OUT, IN, CHANGE)
#: Where a boundary's registers come from: the last report, a person, or the readings around it.
HOW: Final = ("meter", "typed", "between")
LANGUAGES: Final = ("en", "zh-hans")
#: No display has more than twelve digits of kWh.
REGISTER_MAX_WH: Final = 10**15
#: A boundary that lies farther back than this is said to be back-dated.
BACK_DATED_S: Final = 3_600


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a form asks for, as the operations take it. ``at`` None: where the meters stand;
    ``registers`` None beside it: what the readings around it say.
    """

    at: datetime | None
    registers: list[RegisterValue] | None
    tenant: NewTenant | None
    first: FirstRecharge | None
    refund: bool


@require_http_methods(["GET", "POST"])
def move_view(request: HttpRequest, unit_id: int, deed: str) -> HttpResponse:
    """One move of a unit; a POST looks at it first, and does it when it is confirmed."""
    if deed not in DEEDS:
        raise NoSuchThing(f"no move is called {deed!r}")
    find = find_in(request.POST, "customer")
    form = move_form(actor=actor_of(request), unit_id=unit_id, now=clock.now(), find=find)
    searches = is_search(request.POST, "customer")
    if request.method == "GET" or request.POST.get("do") == "edit" or searches:
        asked = Asked(request.POST) if request.method == "POST" else None
        return _show(request, form, deed, asked)
    asked = Asked(request.POST)
    wish = _wish(asked, form, deed)
    if asked.faults:
        return _show(request, form, deed, asked, status=422)
    try:
        if request.POST.get("do") == "confirm":
            answer = _do(request, unit_id, deed, wish, key_of(request))
            where = urlencode({"at": str(instant_us(datetime.fromisoformat(answer.effective_at)))})
            return redirect(f"/units/{unit_id}/hand-over?{where}")
        seen = foresee(
            actor=actor_of(request),
            unit_id=unit_id,
            deed=lambda key: _do(request, unit_id, deed, wish, key),
            at_of=lambda answer: answer.effective_at,
        )
    except (MoveRefused, PeriodClosed, KeyReused, RefundRefused) as refused:
        return _show(request, form, deed, asked, problem=_said(asked, form, refused), status=422)
    return _show(request, form, deed, asked, seen=seen, wish=wish)


def hand_over_view(request: HttpRequest, unit_id: int) -> HttpResponse:
    """A boundary between two payers: registers, who left with what, who came."""
    at = request.GET.get("at", "")
    if not (at.isascii() and at.isdigit() and len(at) < 18):
        raise NoSuchThing("a hand-over has an instant")
    page = hand_over(
        actor=actor_of(request), unit_id=unit_id, at=utc_datetime(int(at)), now=clock.now()
    )
    return render(
        request,
        "prewatt/pages/hand_over.html",
        {"page": page, "place": page.place, "now": page.now, "tab": "units"},
    )


def _do(request: HttpRequest, unit_id: int, deed: str, wish: _Wish, key: str) -> Answer:
    actor, now = actor_of(request), clock.now()
    if deed == OUT:
        return moves.move_out(
            actor=actor, unit_id=unit_id, closing=wish.registers, at=wish.at, key=key, now=now,
            book_refund=wish.refund,
        )  # fmt: skip
    assert wish.tenant is not None, "who comes has a name"
    if deed == IN:
        return moves.move_in(
            actor=actor, unit_id=unit_id, tenant=wish.tenant, opening=wish.registers, at=wish.at,
            key=key, now=now, first_recharge=wish.first,
        )  # fmt: skip
    return moves.tenant_change(
        actor=actor, unit_id=unit_id, tenant=wish.tenant, registers=wish.registers, at=wish.at,
        key=key, now=now, first_recharge=wish.first, book_refund=wish.refund,
    )  # fmt: skip


def _wish(asked: Asked, form: MoveForm, deed: str) -> _Wish:
    at, registers = None, None
    how = asked.choice("how", HOW) if form.charged_meters else "typed"
    if how != "meter":
        at = asked.instant("at", form.unit.place.time_zone)
        if at is None and "at" not in asked.faults:
            asked.faults["at"] = _("Still to be filled in.")
    if how not in ("meter", "between"):
        registers = [
            RegisterValue(each.meter_id, value)
            for each in form.charged_meters
            for value in [register_of(asked, each.field)]
        ]
    tenant = first = None
    if deed != OUT:
        tenant, first = _tenant(asked, form), _first(asked, form)
    return _Wish(at, registers, tenant, first, deed != IN and bool(asked.text("refund")))


def register_of(asked: Asked, name: str) -> int:
    """A register as the display shows it, in Wh; grouping spaces are the display's own."""
    written = "".join(asked.text(name).split())
    try:
        # No display has marks at its thousands but spaces.
        found = read_decimal(written, decimals=3, point=".,")
        if not found.negative and found.scaled(3) < REGISTER_MAX_WH:
            return found.scaled(3)
    except WrittenRefused:
        pass
    asked.faults[name] = (
        _("Write the register in kWh as the display shows it, such as 12345.678.")
        if written
        else _("Still to be filled in.")
    )
    return 0


def _tenant(asked: Asked, form: MoveForm) -> NewTenant:
    customer: int | NewCustomer
    if asked.text("who") == "known":
        known = form.picker.chosen
        offered = [] if known is None else [str(known.customer_id)]
        customer = int(asked.choice("customer", offered) or 0)
    else:
        customer = NewCustomer(
            name=asked.line("name", most=120, needed=True),
            email=_email(asked),
            phone=asked.line("phone", most=32),
            language=asked.choice("language", LANGUAGES),
        )
    return NewTenant(
        customer=customer,
        tariff_code=asked.choice("tariff", [each.code for each in form.tariffs]),
        account_number=asked.line("number", most=24),
        protection=Protection[asked.choice("protection", _protections()).upper() or "NONE"],
        emergency_micro=asked.amount(
            "emergency",
            limit_micro=EMERGENCY_LIMIT_MICRO,
            currency=form.unit.place.currency,
            allow_zero=True,
        ),
    )


def _email(asked: Asked) -> str:
    written = asked.line("email", most=254)
    try:
        if written:
            validate_email(written)
    except ValidationError:
        asked.faults["email"] = _("Write an address such as name@example.com, or nothing.")
    return written


def _first(asked: Asked, form: MoveForm) -> FirstRecharge | None:
    if not asked.text("amount"):
        return None
    amount = asked.amount("amount", limit_micro=LIMIT_MICRO, currency=form.unit.place.currency)
    return FirstRecharge(amount, asked.choice("way", WAYS))


def _protections() -> list[str]:
    return [each.name.lower() for each in Protection]


def _said(asked: Asked, form: MoveForm, refused: Exception) -> str:
    """Put a refusal beside its field, or return what the form as a whole is told."""
    zone, now = form.unit.place.time_zone, clock.now()
    # Where the meter's own report is the boundary, the fields of time and registers are not shown.
    by_meter = bool(form.charged_meters) and asked.text("how") == "meter"
    at = "how" if by_meter else "at"
    beside: dict[type[Exception], tuple[str, str]] = {
        InFuture: (at, _("That has not come yet. Write a move down when it has happened.")),
        PeriodClosed: (at, _("The books of that day are closed.")),
        NameTaken: ("number", _("There is such an account already. Choose another number.")),
        EmergencyRefused: ("emergency", _("Emergency credit must lie between 0 and 100,000.")),
        RefundRefused: ("refund", _("This cannot be refunded now. It can stay on the account.")),
        UnknownPlace: ("tariff", _("This is not there any more. Choose another.")),
    }
    if isinstance(refused, TooEarly):
        earliest = fmt.local(refused.earliest + timedelta(microseconds=999_999), zone)
        asked.faults[at] = _(
            "Until %(at)s somebody else paid, or another meter counted. It can be later only."
        ) % {"at": f"{earliest:%Y-%m-%d %H:%M:%S}"}
        return ""
    if isinstance(refused, RegisterRefused):
        meters = [each for each in form.charged_meters if each.serial == refused.serial]
        name = meters[0].field if meters and not by_meter else at
        asked.faults[name] = str(sentences.said(sentences.VERDICT, refused.verdict))
        return ""
    if isinstance(refused, MeterSilent):
        heard = (
            _("never") if refused.last_at is None else fmt.stamp(refused.last_at, now, zone, lang())
        )
        asked.faults["how"] = _(
            "Meter %(serial)s was last heard %(heard)s. Read its register and write it down."
        ) % {"serial": refused.serial, "heard": heard}
        return ""
    if isinstance(refused, RechargeFailed):
        asked.faults["amount"] = str(sentences.said(sentences.REFUSED, refused.code))
        return ""
    if type(refused) in beside:
        field, text = beside[type(refused)]
        asked.faults[field] = text
        return ""
    whole: dict[type[Exception], str] = {
        UnitOccupied: _("Somebody has moved in meanwhile."),
        LetRunning: _(
            "The place is let. End the let on its own page, so that the deposit and the units that had "
            "not started come back."
        ),
        UnitVacant: _("Nobody lives here, so nobody can move out."),
        RegisterMissing: _("The meters of this unit have changed meanwhile. Start again."),
        KeyReused: _("This form was already used. Look at the unit before you do it again."),
    }
    return whole.get(type(refused), str(refused))


def said_earliest(refused: TooEarly, zone: str) -> str:
    """The first instant at which a boundary can lie."""
    earliest = fmt.local(refused.earliest + timedelta(microseconds=999_999), zone)
    return _("Energy is charged up to %(at)s already; that is the earliest.") % {
        "at": f"{earliest:%Y-%m-%d %H:%M:%S}"
    }


def _show(
    request: HttpRequest,
    form: MoveForm,
    deed: str,
    asked: Asked | None,
    *,
    seen: Foreseen[Answer] | None = None,
    wish: _Wish | None = None,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    unit, zone = form.unit, form.unit.place.time_zone
    defaults = {
        "how": "typed" if form.silent or not form.charged_meters else "meter",
        "at": written_local(unit.now, zone),
        "who": "new",
        "language": "en",
        "tariff": form.tariff,
        "protection": "none",
        "emergency": "0",
        "way": WAYS[0],
        "refund": "1" if asked is None else "",
    }
    former = None if seen is None or deed == IN else seen.accounts.get(unit.account_id or 0)
    owner = (
        None if seen is None or deed == CHANGE else seen.accounts.get(unit.vacancy_account_id or 0)
    )
    values = defaults | (asked.values if asked else {})
    back_dated = seen is not None and (unit.now - seen.at).total_seconds() > BACK_DATED_S
    context: dict[str, Any] = {
        "move": form,
        "unit": unit,
        "place": unit.place,
        "now": unit.now,
        "tab": "units",
        "deed": deed,
        "form": values,
        "sent": sorted((name, text) for name, text in values.items() if name not in _NOT_KEPT),
        "faults": asked.faults if asked else {},
        "problem": problem,
        "key": key_of(request),
        "seen": seen,
        "wish": wish,
        "former": former,
        "owner": owner,
        "still": _without_passed(former, seen, is_former=True),
        "owners": _without_passed(owner, seen, is_former=deed == IN),
        "passes": _passes(form, deed, wish, seen),
        "back_dated": back_dated,
        "newcomer": _newcomer(form, wish),
        "languages": (("en", "English"), ("zh-hans", "中文")),
        "tariffs": [(each.code, each.name) for each in form.tariffs],
        "picker": form.picker,
        "pick": "customer",
        "ways": [(each, sentences.said(sentences.WAY, each)) for each in WAYS],
    }
    return render(request, "prewatt/pages/move.html", context, status=status)


@dataclass(frozen=True, slots=True)
class _Charged:
    """What a move charges to an account beside what changes its payer."""

    energy_wh: int
    micro: int


def _without_passed(
    account: AccountForeseen | None, seen: Foreseen[Answer] | None, *, is_former: bool
) -> _Charged | None:
    if account is None or seen is None:
        return None
    if not is_former:
        return _Charged(account.energy_wh, account.charged_micro)
    return _Charged(
        account.energy_wh + seen.answer.passed_wh,
        account.charged_micro - seen.answer.passed_back_micro,
    )


@dataclass(frozen=True, slots=True)
class _Passes:
    """Between whom usage after the boundary passes; ``since_micro`` is all that a newcomer is
    charged since.
    """

    former: str
    next: str
    since_micro: int


def _passes(
    form: MoveForm, deed: str, wish: _Wish | None, seen: Foreseen[Answer] | None
) -> _Passes | None:
    if seen is None or not seen.answer.passed_wh:
        return None
    owner, since = _("the owner"), 0
    if not isinstance(seen.answer, MovedOut):
        first = wish.first.amount if wish and wish.first else 0
        since = seen.answer.available_micro - first
    return _Passes(
        owner if deed == IN else form.unit.customer,
        owner if deed == OUT else _newcomer(form, wish),
        since,
    )


#: What a form sends beside its fields.
_NOT_KEPT: Final = frozenset({"csrfmiddlewaretoken", "do", "key"})


def _newcomer(form: MoveForm, wish: _Wish | None) -> str:
    if wish is None or wish.tenant is None:
        return ""
    customer = wish.tenant.customer
    if isinstance(customer, NewCustomer):
        return customer.name
    return form.picker.name_of(customer)
