"""Places let for a time: paid with a deposit before they begin, closed and refunded by themselves.

A let is a tenancy whose end was agreed: a booth by the hour or day, a merchant's season. Its tariff
names fee and deposit (``core.temporary``). At its end, the next reading is the closing register; the unstarted units of a let that ends early, the deposit, and what is left of the
prepaid energy come back as one refund. A let may be announced: it is paid at once, and begins by itself at
its instant. What was used beyond all of them is a named debt, which by the
property's policy another let of the same customer begins with. Nothing waits for anybody to remember it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Final

from django.db import connection
from django.db.models import F, Q

from prewatt.access.scope import Actor, rehearsal, require, scope, system_actor
from prewatt.audit.operations import record
from prewatt.billing.models import TariffVersion
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.civil_time import LocalCalendar, instant_us, utc_datetime
from prewatt.core.money import MICRO
from prewatt.core.rating import Component
from prewatt.core.tariff import Tariff, parse_tariff
from prewatt.core.tariff.model import Taxable, Temporary
from prewatt.core.taxes import apportion, effective_tax
from prewatt.core.temporary import (
    LetRefused,
    deposit_micro,
    fee_micro,
    refuse_let,
    season_end_us,
    started_units,
)
from prewatt.estate import operations as estate
from prewatt.estate.models import Account, Tenancy
from prewatt.estate.operations import RegisterValue
from prewatt.ledger.idempotency import store_answer, stored_answer
from prewatt.ledger.operations import (
    Event,
    Leg,
    append_events,
    lock_accounts,
    new_event_ids,
)
from prewatt.moves.boundary import SILENT_AFTER_PERIODS, system
from prewatt.moves.let_charges import LetCharges, charges_of
from prewatt.moves.let_debts import (
    lock_old_debts,
    name_shortfall,
    pay_old_debts,
    shortfall_of,
    total_owed,
)
from prewatt.moves.models import TemporaryLet
from prewatt.moves.operations import move_in, move_out, prepare_tenant
from prewatt.moves.places import MeterAt, UnitAt, locked_unit, seen_unit
from prewatt.moves.words import (
    FirstRecharge,
    MoveRefused,
    NewTenant,
    Prepared,
    RechargeFailed,
    RegisterMissing,
    UnitOccupied,
    UnknownPlace,
)
from prewatt.notify.alerts import LET_NOT_BEGUN, LET_NOT_CLOSED
from prewatt.notify.operations import close_alert, restate
from prewatt.notify.queries import waiting
from prewatt.notify.tries import Tries
from prewatt.supply.operations import look_again
from prewatt.vending.operations import Recharge, RechargeRefused, recharge
from prewatt.vending.refunds import RefundDue, refund_balance

#: A meter that has been silent this long after the end does not keep the let open.
SILENCE: Final = timedelta(hours=6)

FEE_CODE: Final = "let"


class NotTemporary(MoveRefused):
    """The tariff has no temporary plan: it lets nothing by the hour, day or season."""


class PaidTooLittle(MoveRefused):
    """Fee and deposit come before the first kilowatt-hour, and so does what earlier lets lacked.

    ``needed_micro`` is their sum, ``owed_micro`` of it is old debt.
    """

    def __init__(self, needed_micro: int, owed_micro: int = 0) -> None:
        owed = f" with {_in_units(owed_micro)} owed from before" if owed_micro else ""
        super().__init__(
            f"fee and deposit together{owed} are {_in_units(needed_micro)}; take them first"
        )
        self.needed_micro = needed_micro
        self.owed_micro = owed_micro


class PlaceTaken(MoveRefused):
    """The place is let at that time already, or a let of it is announced. ``begins_at``, ``ends_at``."""

    def __init__(self, begins_at: datetime, ends_at: datetime) -> None:
        super().__init__(f"the place is let from {begins_at.isoformat()} to {ends_at.isoformat()}")
        self.begins_at = begins_at
        self.ends_at = ends_at


def _in_units(micro: int) -> str:
    whole, part = divmod(micro, MICRO)
    return f"{whole}.{part * 100 // MICRO:02d}"


@dataclass(frozen=True, slots=True)
class LetBegun:
    """A let that began: what was taken, and what is left for energy, in micro-units.

    ``debt_micro`` went to what earlier lets of the customer had lacked. One that is ``announced`` has
    fee and deposit in its wallet still, and ``available_micro`` is what they will leave. ``by_days_micro``
    and ``least_micro`` will be taken of it until the end, whatever is used (``let_charges``).
    """

    let_id: int
    account_id: int
    account_number: str
    ends_at: str
    units: int
    fee_micro: int
    deposit_micro: int
    available_micro: int
    repeated: bool = False
    debt_micro: int = 0
    begins_at: str = ""
    announced: bool = False
    by_days_micro: int = 0
    least_micro: int = 0


@dataclass(frozen=True, slots=True)
class LetClosed:
    """A let that ended; ``refund_micro`` is due to the customer, 0 when nothing is left.

    ``debt_code`` names the debt of a let that used more than was paid and deposited.
    """

    let_id: int
    account_id: int
    reason: str
    fee_back_micro: int
    deposit_micro: int
    refund_micro: int
    balance_micro: int
    repeated: bool = False
    debt_code: str = ""


def let_unit(
    *,
    actor: Actor,
    unit_id: int,
    tenant: NewTenant,
    opening: Sequence[RegisterValue] | None,
    at: datetime | None,
    until: datetime | None,
    payment: FirstRecharge,
    key: str,
    now: datetime,
) -> LetBegun:
    """Let a vacant unit from ``at`` (None: now) until ``until`` (None: the end of the plan's season).

    ``tenant.tariff_code`` names a temporary plan; ``payment`` is at least fee and deposit, with what
    earlier lets of the customer lacked where the property's policy says so, and what it has above
    them is prepaid energy. ``opening`` None takes the registers as the meters last reported them, or as
    they were at an ``at`` that has passed. An ``at`` that has not come announces the let: it is paid now
    and begins by itself (``begin_announced_lets``), with the registers of then. Idempotent by ``key``.
    Raises as ``moves.move_in``, and NotTemporary, PaidTooLittle, PlaceTaken,
    ``core.temporary.LetRefused``.
    """
    require(actor, "moves.tenant")
    body = {
        "op": "let", "unit": unit_id, "tenant": asdict(tenant), "at": at, "until": until,
        "opening": opening and sorted((each.meter_id, each.value_wh) for each in opening),
        "payment": asdict(payment),
    }  # fmt: skip
    with scope(actor):
        before = stored_answer(actor=actor, key=key, body=body)
        if before is not None:
            return LetBegun(**{**before, "repeated": True})  # type: ignore[arg-type]  # our own JSON
        at = now if at is None else at
        owed = lock_old_debts(unit_id, tenant.customer)
        terms = _terms_of(actor, unit_id, tenant.tariff_code, at, until)
        needed = terms.fee + terms.deposit + total_owed(owed)
        if payment.amount < needed:
            raise PaidTooLittle(needed, total_owed(owed))
        _refuse_taken(terms, at)
        if at > now:
            answer = _announce(actor, terms, tenant, payment, at, key, now)
        else:
            answer = _let_now(actor, terms, tenant, opening, payment, at, key, now)
        pay_old_debts(actor, answer.account_id, owed, now)
        look_again(
            actor=system(actor, terms.unit.property_id), account_ids=[answer.account_id], now=now
        )
        kept = terms.fee + terms.deposit if answer.announced else 0
        answer = replace(
            answer,
            available_micro=_available(answer.account_id) - kept,
            debt_micro=total_owed(owed),
            by_days_micro=terms.charges.by_days_micro,
            least_micro=terms.charges.least_micro,
        )
        _tell_what_is_left(answer)
        code = "moves.let.announced" if answer.announced else "moves.let.begun"
        _audit(actor, code, terms.unit.property_id, asdict(answer), now)
        store_answer(
            actor=actor, key=key, body=body, account_id=answer.account_id,
            property_id=terms.unit.property_id, answer=asdict(answer), now=now,
        )  # fmt: skip
    return answer


def _let_now(
    actor: Actor, terms: _Terms, tenant: NewTenant, opening: Sequence[RegisterValue] | None,
    payment: FirstRecharge, at: datetime, key: str, now: datetime,
) -> LetBegun:  # fmt: skip
    meters = terms.unit.meters
    if opening is None and not any(each.last_at and at < each.last_at for each in meters):
        opening = _as_reported(terms.unit)
    entered = move_in(
        actor=actor, unit_id=terms.unit.unit_id, tenant=tenant, opening=opening, at=at,
        key=f"{key}:in", now=now, first_recharge=payment,
    )  # fmt: skip
    let = _written_down(actor, terms, entered.account_id, at, now)
    _begin(actor, let, terms.tariff, terms.calendar, at, now)
    return _begun(let, entered.account_number)


def _announce(
    actor: Actor, terms: _Terms, tenant: NewTenant, payment: FirstRecharge, at: datetime, key: str,
    now: datetime,
) -> LetBegun:  # fmt: skip
    """Open the account for its instant, and take the money into it."""
    prepared = prepare_tenant(actor=actor, unit=terms.unit, tenant=tenant, at=at, now=now)
    wish = Recharge(
        f"{key}:paid", prepared.account_id, payment.amount, payment.way, payment.reference, now
    )
    answer = recharge(actor=actor, recharges=[wish], now=now)[0]
    if isinstance(answer, RechargeRefused):
        raise RechargeFailed(answer)
    let = _written_down(actor, terms, prepared.account_id, at, now)
    return _begun(let, prepared.account_number)


def _begun(let: TemporaryLet, account_number: str) -> LetBegun:
    return LetBegun(
        int(let.pk), let.account_id, account_number, let.ends_at.isoformat(), let.units,
        let.fee_micro, let.deposit_micro, _available(let.account_id),
        begins_at=let.begins_at.isoformat(), announced=let.begun_at is None,
    )  # fmt: skip


def _refuse_taken(terms: _Terms, at: datetime) -> None:
    """No two lets of a place at one time, running or announced."""
    taken = TemporaryLet.objects.filter(
        unit_id=terms.unit.unit_id,
        closed_at__isnull=True,
        begins_at__lt=terms.until,
        ends_at__gt=at,
    ).first()
    if taken is not None:
        raise PlaceTaken(taken.begins_at, taken.ends_at)


def rehearse_let(
    *, actor: Actor, unit_id: int, tenant: NewTenant, opening: Sequence[RegisterValue] | None,
    until: datetime | None, payment: FirstRecharge, key: str, now: datetime,
    at: datetime | None = None,
) -> LetBegun:  # fmt: skip
    """What ``let_unit`` would do, found by doing it and taking all of it back. Raises as it does."""
    with rehearsal():
        return let_unit(
            actor=actor, unit_id=unit_id, tenant=tenant, opening=opening, at=at, until=until,
            payment=payment, key=key, now=now,
        )  # fmt: skip


def close_let(
    *, actor: Actor, let_id: int, closing: Sequence[RegisterValue] | None, at: datetime | None,
    now: datetime, reason: str = "left",
) -> LetClosed:  # fmt: skip
    """End a let at an instant (None: now) with its registers, and refund what comes back.

    ``closing`` None takes the registers as the meters last reported them. A let that has not begun is
    cancelled: all of it comes back. Where another move ended its tenancy, whoever lives there now is left
    alone: deposit and unstarted units come back as of then. A let that is closed already answers as it did (``repeated``). Raises as ``moves.move_out``.
    """
    require(actor, "moves.tenant")
    with scope(actor):
        let, unit = _locked_let(let_id)
        if let is None:
            raise UnknownPlace(f"there is no let {let_id} at your properties")
        require(actor, "moves.tenant", property_id=let.property_id)
        if let.closed_at is not None:
            return _closed_before(let)
        if let.begun_at is None:
            return _cancel(actor, let, now)
        if unit is not None and unit.tenant_account_id == let.account_id:
            at = now if at is None else at
            move_out(
                actor=actor, unit_id=let.unit_id, at=at, key=f"let:{let_id}:out", now=now,
                closing=_as_reported(unit) if closing is None else closing, let_id=let_id,
            )  # fmt: skip
        else:
            at = _left_before(let, now)
            reason = "left" if at < let.ends_at else "ended"
        fee_back = _give_back(actor, let, at, now)
        debt_code = name_shortfall(actor, let, max(0, -_available(let.account_id)), now)
        # The refund follows from the let and its end; it needs no duty of the one who closes.
        refund = refund_balance(
            actor=system(actor, let.property_id), account_id=let.account_id,
            reason=f"let.{reason}", now=now,
        )  # fmt: skip
        _close(actor, let, at, reason, refund, now)
        answer = LetClosed(
            let_id, let.account_id, reason, fee_back, let.deposit_micro,
            refund.amount if refund else 0, _available(let.account_id), debt_code=debt_code,
        )  # fmt: skip
        _audit(actor, "moves.let.closed", let.property_id, asdict(answer), now)
    return answer


def _locked_let(let_id: int) -> tuple[TemporaryLet | None, UnitAt | None]:
    """A let and its unit: first its account is locked with those of the unit, in order, then itself."""
    let = TemporaryLet.objects.filter(pk=let_id).first()
    if let is None:
        return None, None
    seen = seen_unit(let.unit_id)
    lock_accounts(sorted({let.account_id} | (set() if seen is None else seen.account_ids)))
    unit = locked_unit(let.unit_id)
    return TemporaryLet.objects.select_for_update().filter(pk=let_id).first(), unit


def _left_before(let: TemporaryLet, now: datetime) -> datetime:
    """When the customer of a let left whose tenancy another move has ended: nobody is moved now."""
    left = Account.objects.get(pk=let.account_id).closed_at
    return now if left is None else left


def _close(
    actor: Actor, let: TemporaryLet, at: datetime, reason: str, refund: RefundDue | None,
    now: datetime,
) -> None:  # fmt: skip
    """Write down that a let is over, and end what called a person to it."""
    let.closed_at, let.closed_by, let.close_reason = at, actor.code, reason
    let.refund_id = refund.refund_id if refund else None
    let.save(update_fields=["closed_at", "closed_by", "close_reason", "refund_id"])
    _end_alerts(let, now)


def _end_alerts(let: TemporaryLet, now: datetime) -> None:
    for code in (LET_NOT_BEGUN, LET_NOT_CLOSED):
        close_alert(
            property_id=let.property_id, code=code, subject=f"account:{let.account_id}", now=now
        )


def _cancel(actor: Actor, let: TemporaryLet, now: datetime) -> LetClosed:
    """Close the account at the instant for which it was opened; nothing was used by it."""
    lock_accounts([let.account_id])
    estate.close_account(account_id=let.account_id, at=let.begins_at)
    refund = refund_balance(
        actor=system(actor, let.property_id), account_id=let.account_id, reason="let.cancelled",
        now=now,
    )  # fmt: skip
    _close(actor, let, now, "cancelled", refund, now)
    answer = LetClosed(
        int(let.pk), let.account_id, "cancelled", 0, 0, refund.amount if refund else 0,
        _available(let.account_id),
    )  # fmt: skip
    _audit(actor, "moves.let.cancelled", let.property_id, asdict(answer), now)
    return answer


def rehearse_closing(
    *, actor: Actor, let_id: int, closing: Sequence[RegisterValue] | None, now: datetime
) -> LetClosed:
    """What ``close_let`` would do now, found by doing it and taking all of it back. Raises as it does."""
    with rehearsal():
        return close_let(actor=actor, let_id=let_id, closing=closing, at=None, now=now)


def close_ended_lets(*, now: datetime) -> int:
    """Close every let whose end has passed and whose closing register is known; returns how many.

    The closing register is the last one known when the worker looks, a minute after the end at most,
    once every meter has reported at or after the end. Where the meter stays silent for
    ``SILENCE``, its last register closes the let at its end: what was used unseen falls to the
    owner, not to somebody who has left. One whose customer another move has moved out waits for nothing.
    One that fails is told by an alert and tried again, after those that were not tried since.
    """
    actor = system_actor("lets")
    gone = Account.objects.filter(closed_at__isnull=False).values("pk")
    due = Q(ends_at__lte=now) | Q(account_id__in=gone)
    closed, tries = 0, Tries(actor, LET_NOT_CLOSED, now)
    for let in _next_lets(actor, due & Q(begun_at__isnull=False), now):
        with tries.at(let.property_id, subject=f"account:{let.account_id}", detail=_detail(let)):
            with scope(actor):
                done = _close_ended(actor, let, now)
            closed += done
    return closed


def _close_ended(actor: Actor, seen: TemporaryLet, now: datetime) -> bool:
    """Whether it is closed now; not while its closing register is to come."""
    let, unit = _locked_let(int(seen.pk))
    if let is None or unit is None or let.closed_at is not None:
        return False
    boundary: _End | None = (let.ends_at, [], "ended")
    if unit.tenant_account_id == let.account_id:
        boundary = _boundary(unit.meters, let.ends_at, now)
    if boundary is None and now >= let.ends_at + SILENCE:
        raise RegisterMissing([each.serial for each in unit.meters])
    if boundary is None:
        return False
    at, registers, reason = boundary
    close_let(actor=actor, let_id=int(let.pk), closing=registers, at=at, now=now, reason=reason)
    return True


def _next_lets(actor: Actor, due: Q, now: datetime) -> list[TemporaryLet]:
    """The open lets of a pass: those that were not looked at for longest, each noted as looked at."""
    with scope(actor):
        found = list(
            TemporaryLet.objects.filter(due, closed_at__isnull=True).order_by(
                F("tried_at").asc(nulls_first=True), "ends_at", "pk"
            )[:_LETS_MAX]
        )
        TemporaryLet.objects.filter(pk__in=[each.pk for each in found]).update(tried_at=now)
    return found


def _detail(let: TemporaryLet) -> dict[str, object]:
    return {
        "let": int(let.pk), "begins_us": instant_us(let.begins_at),
        "ends_us": instant_us(let.ends_at),
    }  # fmt: skip


def begin_announced_lets(*, now: datetime) -> int:
    """Begin every announced let whose instant has come; returns how many.

    Each begins at its instant, with the registers that the meters had then, as soon as they have
    reported it or gone on beyond it; a meter that stays silent for two of its periods begins with its
    last register. Where somebody else paid a while longer, it begins when they ceased, and its fee
    counts from then. One that cannot begin, because somebody lives there or its payment was taken back,
    is told by an alert and tried again; at its agreed end it is cancelled, and all of it comes back.
    """
    actor = system_actor("lets")
    begun, tries = 0, Tries(actor, LET_NOT_BEGUN, now)
    for let in _next_lets(actor, Q(begun_at__isnull=True, begins_at__lte=now), now):
        with tries.at(let.property_id, subject=f"account:{let.account_id}", detail=_detail(let)):
            with scope(actor):
                done = _begin_announced(actor, int(let.pk), now)
            begun += done
    return begun


def _begin_announced(actor: Actor, let_id: int, now: datetime) -> bool:
    """Whether it has begun now; not while a meter may still report the instant."""
    let, unit = _locked_let(let_id)
    if let is None or unit is None or let.closed_at is not None or let.begun_at is not None:
        return False
    waits = _waits_for_another(let)
    if waits or unit.tenant_account_id is not None:
        return _wait_for_the_place(actor, let, now, waits=waits)
    begins = _beginning(let, unit, now)
    if begins is None:
        return False
    at, opening = begins
    terms = _terms_from(let, at) if at < let.ends_at else None
    is_paid = terms is not None and _available(let.account_id) >= terms.fee + let.deposit_micro
    if terms is None or (not is_paid and now >= let.ends_at):
        _cancel(actor, let, now)
        return False
    if not is_paid:
        raise PaidTooLittle(terms.fee + let.deposit_micro)
    account = Account.objects.get(pk=let.account_id)
    assert account.customer_id is not None, "a let has a customer"
    entered = move_in(
        actor=actor, unit_id=let.unit_id,
        tenant=Prepared(account.customer_id, let.account_id, account.number),
        opening=opening, at=at, key=f"let:{let_id}:in", now=now,
    )  # fmt: skip
    let.units, let.fee_micro = terms.units, terms.fee
    _begin(actor, let, terms.tariff, terms.calendar, at, now)
    _end_alerts(let, now)
    look_again(actor=actor, account_ids=[let.account_id], now=now)
    _audit(
        actor, "moves.let.begun", let.property_id,
        asdict(_begun(let, entered.account_number)), now,
    )  # fmt: skip
    return True


def _wait_for_the_place(actor: Actor, let: TemporaryLet, now: datetime, *, waits: bool) -> bool:
    """Somebody pays there. Another let whose register is to come is waited for, for as long as that may
    take; anybody else is told, until the agreed end has come and the let is cancelled.
    """
    if waits and now < let.begins_at + SILENCE:
        return False
    if waits or now < let.ends_at:
        raise UnitOccupied("somebody else pays there; they have to be moved out first")
    _cancel(actor, let, now)
    return False


def _beginning(
    let: TemporaryLet, unit: UnitAt, now: datetime
) -> tuple[datetime, list[RegisterValue] | None] | None:
    """(instant, registers, None: those between readings) of its beginning; None: wait for a reading."""
    former = Tenancy.objects.filter(unit_id=unit.unit_id).order_by("-period").first()
    free_at = [former.period.upper] if former is not None and former.period.upper else []
    opened = [each.opened_at + _INSTANT for each in unit.meters if each.opened_at]
    at = max([let.begins_at, *free_at, *opened])
    beyond = all(each.last_at is not None and each.last_at >= at for each in unit.meters)
    longest = max([each.expected_period_s for each in unit.meters], default=0)
    if not beyond and now < at + SILENT_AFTER_PERIODS * timedelta(seconds=longest):
        return None
    if not beyond:
        # The register of a silent one stands until then; nothing is known of the others at one instant.
        at = max([at, *(each.last_at for each in unit.meters if each.last_at)])
    return at, None if beyond and unit.meters else _as_reported(unit)


@dataclass(frozen=True, slots=True)
class _TermsFrom:
    """What an announced let costs from the instant at which it begins."""

    tariff: Tariff
    calendar: LocalCalendar
    units: int
    fee: int


def _terms_from(let: TemporaryLet, at: datetime) -> _TermsFrom:
    """The fee of the units that are left of a let, never more than was agreed; taxes as agreed."""
    tariff = parse_tariff(TariffVersion.objects.get(pk=let.tariff_version_id).content)
    calendar = _calendar(let.property_id)
    left = started_units(
        _plan(tariff), calendar, from_us=instant_us(at), until_us=instant_us(let.ends_at)
    )
    units = min(left, let.units)
    fee = sum(_fee_parts(tariff, calendar, instant_us(let.begins_at), units).values())
    return _TermsFrom(tariff, calendar, units, fee)


def _waits_for_another(let: TemporaryLet) -> bool:
    """Whether an earlier let of the place is open still: it is over, and waits for its last reading, or,
    where nothing was heard for long, for its first.
    """
    return TemporaryLet.objects.filter(
        unit_id=let.unit_id, closed_at__isnull=True, begins_at__lt=let.begins_at
    ).exists()


#: A period has at least one instant.
_INSTANT: Final = timedelta(microseconds=1)
#: Lets closed or begun in one pass; the rest follows in the next.
_LETS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a let would cost: the plan laid over its stretch of time."""

    unit: UnitAt
    version_id: int
    tariff: Tariff
    calendar: LocalCalendar
    until: datetime
    units: int
    fee: int
    deposit: int
    charges: LetCharges


def _terms_of(
    actor: Actor, unit_id: int, tariff_code: str, at: datetime, until: datetime | None
) -> _Terms:
    unit = locked_unit(unit_id)
    if unit is None:
        raise UnknownPlace(f"there is no unit {unit_id} at your properties")
    require(actor, "moves.tenant", property_id=unit.property_id)
    version = (
        TariffVersion.objects.filter(
            property_id=unit.property_id, tariff__code=tariff_code, valid_from__lte=at
        )
        .order_by("-valid_from")
        .first()
    )
    if version is None:
        raise UnknownPlace(f"there is no tariff {tariff_code!r} in force at this property")
    tariff = parse_tariff(version.content)
    plan = _plan(tariff)
    calendar = _calendar(unit.property_id)
    from_us = instant_us(at)
    season_end = season_end_us(plan, calendar, from_us)
    if until is None and season_end is None:
        raise LetRefused("empty", "say until when: this plan has no season that would end it")
    until_us = instant_us(until) if until is not None else int(season_end or 0)
    refuse_let(plan, calendar, from_us=from_us, until_us=until_us)
    units = started_units(plan, calendar, from_us=from_us, until_us=until_us)
    fee = sum(_fee_parts(tariff, calendar, from_us, units).values())
    return _Terms(
        unit, int(version.pk), tariff, calendar, utc_datetime(until_us), units, fee,
        deposit_micro(plan),
        charges_of(tariff, _zone(unit.property_id), from_us=from_us, until_us=until_us),
    )  # fmt: skip


def _plan(tariff: Tariff) -> Temporary:
    if tariff.temporary is None:
        raise NotTemporary(f"tariff {tariff.name!r} is not a temporary plan")
    return tariff.temporary


def _calendar(property_id: int) -> LocalCalendar:
    return LocalCalendar(_zone(property_id))


def _zone(property_id: int) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT time_zone FROM property WHERE id = %s", [property_id])
        return str(cursor.fetchone()[0])


#: (component, tax code, rate in ppm) of a part of the fee → micro-units.
_Part = tuple[Component, str, int]


def _fee_parts(
    tariff: Tariff, calendar: LocalCalendar, from_us: int, units: int
) -> Mapping[_Part, int]:
    """The fee of so many units and the taxes on it, of the day on which the let begins."""
    written = fee_micro(_plan(tariff), units)
    tax = effective_tax(tariff.taxes, Taxable.FEE, calendar.local_date(from_us))
    net = written * tax.net
    # Taxes are cut off together with the fee, so that an inclusive price stays what it says.
    total = int(net * (1 + sum((part.share for part in tax.parts), Fraction(0))))
    parts: dict[_Part, int] = {(Component.FEE, FEE_CODE, 0): int(net)}
    shares = apportion(total - int(net), [part.share for part in tax.parts])
    for part, amount in zip(tax.parts, shares, strict=bool(tax.parts)):
        parts[Component.TAX, part.code, part.rate_ppm] = amount
    return parts


def _written_down(
    actor: Actor, terms: _Terms, account_id: int, at: datetime, now: datetime
) -> TemporaryLet:
    """The let as it was agreed, not begun yet."""
    return TemporaryLet.objects.create(
        property_id=terms.unit.property_id,
        unit_id=terms.unit.unit_id,
        account_id=account_id,
        tariff_version_id=terms.version_id,
        begins_at=at,
        ends_at=terms.until,
        units=terms.units,
        fee_micro=terms.fee,
        deposit_micro=terms.deposit,
        made_by=actor.code,
        made_at=now,
    )


def _begin(
    actor: Actor,
    let: TemporaryLet,
    tariff: Tariff,
    calendar: LocalCalendar,
    at: datetime,
    now: datetime,
) -> None:
    """Take fee and deposit off the wallet, and let the let begin at ``at``."""
    parts = _fee_parts(tariff, calendar, instant_us(let.begins_at), let.units)
    legs = [
        _fee_leg(let.account_id, part, -amount, at, let.ends_at, "let.fee")
        for part, amount in parts.items()
        if amount
    ]
    if let.deposit_micro:
        legs.append(_deposit_leg(let.account_id, -let.deposit_micro, at, "let.deposit.taken"))
    if legs:
        (event_id,) = new_event_ids(1)
        append_events(actor_code=actor.code, events=[Event(event_id, tuple(legs))], now=now)
        if let.fee_micro:
            let.fee_event_id, let.fee_seq = event_id, _first_seq(let.account_id, event_id)
    let.begun_at = at
    let.save(update_fields=["begun_at", "units", "fee_micro", "fee_event_id", "fee_seq"])


def _give_back(actor: Actor, let: TemporaryLet, at: datetime, now: datetime) -> int:
    """The deposit and the fee of unstarted units back into the wallet; returns the fee's part."""
    tariff = parse_tariff(TariffVersion.objects.get(pk=let.tariff_version_id).content)
    calendar, begin_us = _calendar(let.property_id), instant_us(let.begins_at)
    used = started_units(
        _plan(tariff), calendar, from_us=instant_us(let.begun_at or let.begins_at),
        until_us=min(instant_us(at), instant_us(let.ends_at)),
    )  # fmt: skip
    agreed_parts = _fee_parts(tariff, calendar, begin_us, let.units)
    used_parts = _fee_parts(tariff, calendar, begin_us, used)
    back = {part: amount - used_parts[part] for part, amount in agreed_parts.items()}
    legs = [
        _fee_leg(
            let.account_id, part, amount, now, now, "let.fee.unstarted",
            corrects=(let.fee_event_id, let.fee_seq),
        )
        for part, amount in back.items()
        if amount
    ]  # fmt: skip
    if let.deposit_micro:
        legs.append(_deposit_leg(let.account_id, let.deposit_micro, now, "let.deposit.returned"))
    if legs:
        (event_id,) = new_event_ids(1)
        append_events(actor_code=actor.code, events=[Event(event_id, tuple(legs))], now=now)
    return sum(back.values())


def _fee_leg(
    account_id: int, part: _Part, amount: int, begin: datetime, end: datetime, reason: str,
    *, corrects: tuple[int | None, int | None] = (None, None),
) -> Leg:  # fmt: skip
    component, code, rate_ppm = part
    is_tax = component is Component.TAX
    return Leg(
        account_id=account_id,
        kind=TransferKind.DAILY if amount < 0 else TransferKind.CORRECTION,
        component=int(component),
        counter_account=CounterAccount.TAX_PAYABLE if is_tax else CounterAccount.FEE_REVENUE,
        amount=amount,
        service_from=begin,
        service_to=end,
        reason=reason,
        tax_rate_ppm=rate_ppm,
        corrects_event_id=corrects[0],
        corrects_seq=corrects[1],
        code=code,
    )


def _deposit_leg(account_id: int, amount: int, at: datetime, reason: str) -> Leg:
    return Leg(
        account_id=account_id,
        kind=TransferKind.DEPOSIT,
        component=int(Component.DEPOSIT),
        counter_account=CounterAccount.DEPOSITS,
        amount=amount,
        service_from=at,
        service_to=at,
        reason=reason,
        code=FEE_CODE,
    )


def _as_reported(unit: UnitAt) -> list[RegisterValue]:
    """The registers that the unit's meters reported last; one that never did is missing."""
    return [
        RegisterValue(each.meter_id, each.last_value_wh)
        for each in unit.meters
        if each.last_value_wh is not None
    ]


#: (instant, registers, reason) of a let's end.
_End = tuple[datetime, list[RegisterValue], str]


def _boundary(meters: Sequence[MeterAt], ends_at: datetime, now: datetime) -> _End | None:
    """(instant, registers, reason) at which a let can be closed now; None: wait for a reading."""
    known = [each for each in meters if each.last_at is not None and each.last_value_wh is not None]
    if len(known) != len(meters):
        return None
    registers = [RegisterValue(each.meter_id, int(each.last_value_wh or 0)) for each in known]
    last_at = [each.last_at for each in known if each.last_at is not None]
    if all(each >= ends_at for each in last_at):
        # Several meters share the instant of the last of them; the register of an earlier one
        # stands until then.
        return max([ends_at, *last_at]), registers, "ended"
    return (max([ends_at, *last_at]), registers, "silent") if now >= ends_at + SILENCE else None


def _closed_before(let: TemporaryLet) -> LetClosed:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT coalesce((SELECT sum(amount) FROM transfer
                                WHERE account_id = %s AND reason = 'let.fee.unstarted'), 0)::bigint,
                      coalesce((SELECT amount_micro FROM refund WHERE id = %s), 0)""",
            [let.account_id, let.refund_id],
        )
        fee_back, refunded = cursor.fetchone()
    return LetClosed(
        int(let.pk), let.account_id, let.close_reason, int(fee_back), let.deposit_micro,
        int(refunded), _available(let.account_id), repeated=True,
        debt_code=shortfall_of(let),
    )  # fmt: skip


def _first_seq(account_id: int, event_id: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT min(seq) FROM transfer WHERE account_id = %s AND event_id = %s",
            [account_id, event_id],
        )
        return int(cursor.fetchone()[0])


def _tell_what_is_left(let: LetBegun) -> None:
    """Let the answer to the payment, which nobody has seen yet, say what is left when all is taken.

    The balance right after the payment stays beside it, for the receipt.
    """
    restate(
        messages=[
            replace(
                each,
                detail={
                    **each.detail,
                    "paid_up_micro": each.detail["available_micro"],
                    "available_micro": let.available_micro,
                    "days_left_h": None,
                },
            )
            for each in waiting([let.account_id], ["vending.recharged"])
        ]
    )


def _available(account_id: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT available FROM account_state WHERE account_id = %s", [account_id])
        return int(cursor.fetchone()[0])


def _audit(
    actor: Actor, code: str, property_id: int, answer: Mapping[str, object], now: datetime
) -> None:
    record(
        actor=actor.code,
        code=code,
        property_id=property_id,
        subject=f"account:{answer['account_id']}",
        now=now,
        **answer,
    )
