"""Tenants move, meters are exchanged, registers are read by hand: each in one transaction.

A move is an instant and the registers at it (``boundary``). A new tenant gets a new account at
zero, so nothing of the former one can reach them (invariant 6). It may be written down late: usage
after its instant then goes from the former payer to the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from django.db import IntegrityError, connection, transaction

from prewatt.access.scope import Actor, may, require, scope
from prewatt.audit.operations import record
from prewatt.billing.models import Tariff
from prewatt.billing.operations import assign_tariff
from prewatt.billing.queries import tariff_code_at
from prewatt.core.readings import ReadingSource
from prewatt.core.vee import HELD_VERDICTS, VERDICT_NAMES, Verdict
from prewatt.estate import operations as estate
from prewatt.estate.imports import EMERGENCY_LIMIT_MICRO, vacancy_number
from prewatt.estate.models import Account, Customer, Meter, Tenancy
from prewatt.estate.operations import NewCustomer, NewMeter, RegisterValue
from prewatt.instructions.operations import enrol_key
from prewatt.instructions.releases import exchange_credit
from prewatt.ledger.idempotency import store_answer, stored_answer
from prewatt.ledger.operations import open_accounts
from prewatt.moves import boundary, commissioning
from prewatt.moves.boundary import Closing, Passed
from prewatt.moves.hand_readings import Ground, ground_of
from prewatt.moves.models import TemporaryLet
from prewatt.moves.places import MeterAt, UnitAt, locked_meter, locked_unit
from prewatt.moves.registers import (
    Opening,
    close_registers,
    link_meters,
    open_registers,
    store_opening_readings,
)
from prewatt.moves.words import (
    EmergencyRefused,
    FirstRecharge,
    LetRunning,
    MeterExchanged,
    MovedIn,
    MovedOut,
    NameTaken,
    NewTenant,
    Prepared,
    ReadingBeyond,
    ReadingEntered,
    RechargeFailed,
    RegisterMissing,
    TenantChanged,
    TooEarly,
    UnitOccupied,
    UnitVacant,
    UnknownPlace,
)
from prewatt.supply import handover
from prewatt.supply import operations as supply
from prewatt.vending.operations import Recharge, RechargeRefused, recharge
from prewatt.vending.refunds import refund_balance


def move_out(
    *,
    actor: Actor,
    unit_id: int,
    closing: Sequence[RegisterValue] | None,
    at: datetime | None,
    key: str,
    now: datetime,
    book_refund: bool = False,
    let_id: int | None = None,
) -> MovedOut:
    """End the tenancy of a unit; from ``at`` on the owner's vacancy account pays.

    ``closing`` has one register for each meter of the unit; with ``at`` and ``closing`` None the
    boundary is where the meters stand now (`boundary.as_reported`). ``at`` may lie behind what is
    charged already: with ``closing`` None the registers are interpolated, and usage after it goes to
    the vacancy account. Usage up to ``at`` is posted, the account takes no more recharges, and what is left on it stays there for the former tenant,
    or becomes a refund due with ``book_refund``. ``let_id`` is the let that ends with it; nobody else's
    move ends one (LetRunning).
    Idempotent by ``key``. Raises MoveRefused, PermissionRefused, PeriodClosed, KeyReused.
    """
    require(actor, "moves.tenant")
    body = {"op": "out", "unit": unit_id, "at": at, "closing": _plain(closing)}
    body |= {"refund": True} if book_refund else {}
    with scope(actor):
        before = stored_answer(actor=actor, key=key, body=body)
        if before is not None:
            return MovedOut(**_again(before))
        unit, ending = _unit_at(actor, unit_id, closing, at, now)
        former = unit.tenant_account_id
        if unit.tenancy_id is None or former is None:
            raise UnitVacant(f"nobody lives in {unit.building} {unit.code}")
        _refuse_let(former, let_id)
        vacancy_id = unit.vacancy_account_id or _open_vacancy(actor, unit, ending.at, now)
        passed = _leave(actor, unit, ending, now)
        boundary.hand_over(unit.property_id, former, vacancy_id, ending, passed, now)
        boundary.post(actor, unit.property_id, vacancy_id, ending.at, now)
        _take_over_supply(former, vacancy_id, ending.values, now)
        charged = boundary.pass_on(
            actor, unit.property_id, former, vacancy_id, passed, ending.at, now
        )
        balance = boundary.available(former)
        refund, taken = _refund(actor, former, now) if book_refund else (0, 0)
        answer = MovedOut(
            unit_id, former, vacancy_id, balance - taken, ending.at.isoformat(), refund,
            passed_wh=passed.energy_wh, passed_back_micro=passed.back_micro,
            passed_on_micro=charged,
        )  # fmt: skip
        _conclude(
            actor,
            key,
            body,
            "moves.tenant.out",
            unit.property_id,
            former,
            asdict(answer),
            now,
        )
    return answer


def move_in(
    *,
    actor: Actor,
    unit_id: int,
    tenant: NewTenant | Prepared,
    opening: Sequence[RegisterValue] | None,
    at: datetime | None,
    key: str,
    now: datetime,
    first_recharge: FirstRecharge | None = None,
) -> MovedIn:
    """Begin a tenancy in a vacant unit on a new account that starts at zero.

    A ``Prepared`` tenant has the account already. ``opening`` has one register for each meter of the unit, or is None with ``at`` as in
    ``move_out``; what the meters counted before it is the vacancy account's. Idempotent by ``key``. Raises as ``move_out``, and UnitOccupied,
    NameTaken, EmergencyRefused, RechargeFailed.
    """
    require(actor, "moves.tenant")
    body = {
        "op": "in",
        "unit": unit_id,
        "at": at,
        "opening": _plain(opening),
        "tenant": asdict(tenant),
        "recharge": first_recharge and asdict(first_recharge),
    }
    with scope(actor):
        before = stored_answer(actor=actor, key=key, body=body)
        if before is not None:
            return MovedIn(**_again(before))
        unit, begin = _unit_at(actor, unit_id, opening, at, now)
        if unit.tenancy_id is not None:
            raise UnitOccupied(f"somebody lives in {unit.building} {unit.code}")
        boundary.refuse_overlap(unit, begin.at)
        owner, passed = unit.vacancy_account_id, boundary.Passed()
        if owner is not None and begin.values:
            passed = boundary.charge_unit(unit, owner, begin, now)
        answer = _enter(actor, unit, owner, tenant, begin, passed, now)
        if owner is not None:
            boundary.post(actor, unit.property_id, owner, begin.at, now)
            answer = _passed_on(actor, unit, owner, answer, passed, begin.at, now)
        answer = _with_recharge(actor, answer, first_recharge, key, now)
        _conclude(
            actor,
            key,
            body,
            "moves.tenant.in",
            unit.property_id,
            answer.account_id,
            asdict(answer),
            now,
        )
    return answer


def tenant_change(
    *,
    actor: Actor,
    unit_id: int,
    tenant: NewTenant,
    registers: Sequence[RegisterValue] | None,
    at: datetime | None,
    key: str,
    now: datetime,
    first_recharge: FirstRecharge | None = None,
    book_refund: bool = False,
) -> TenantChanged:
    """One tenant out and the next in at one instant, with one register for both.

    ``registers`` and ``at`` are None together, as in ``move_out``. A let is ended by itself, and another
    begun (LetRunning). Idempotent by ``key``. Raises as ``move_out`` and ``move_in``.
    """
    require(actor, "moves.tenant")
    body = {
        "op": "change",
        "unit": unit_id,
        "at": at,
        "registers": _plain(registers),
        "tenant": asdict(tenant),
        "recharge": first_recharge and asdict(first_recharge),
    }
    body |= {"refund": True} if book_refund else {}
    with scope(actor):
        before = stored_answer(actor=actor, key=key, body=body)
        if before is not None:
            return TenantChanged(**_again(before))
        unit, ending = _unit_at(actor, unit_id, registers, at, now)
        former = unit.tenant_account_id
        if unit.tenancy_id is None or former is None:
            raise UnitVacant(f"nobody lives in {unit.building} {unit.code}")
        _refuse_let(former, None)
        passed = _leave(actor, unit, ending, now)
        entered = _enter(actor, unit, former, tenant, ending, passed, now)
        entered = _passed_on(actor, unit, former, entered, passed, ending.at, now)
        balance = boundary.available(former)
        entered = _with_recharge(actor, entered, first_recharge, key, now)
        refund, taken = _refund(actor, former, now) if book_refund else (0, 0)
        answer = TenantChanged(
            unit_id,
            former,
            balance - taken,
            entered.customer_id,
            entered.account_id,
            entered.account_number,
            entered.available_micro,
            ending.at.isoformat(),
            refund,
            passed_wh=entered.passed_wh,
            passed_back_micro=entered.passed_back_micro,
            passed_on_micro=entered.passed_on_micro,
        )
        _conclude(
            actor,
            key,
            body,
            "moves.tenant.changed",
            unit.property_id,
            entered.account_id,
            asdict(answer),
            now,
        )
    return answer


def exchange_meter(
    *,
    actor: Actor,
    meter_id: int,
    closing_wh: int | None,
    new_meter: NewMeter,
    opening_wh: int,
    at: datetime | None,
    key: str,
    now: datetime,
    public_key: bytes | None = None,
) -> MeterExchanged:
    """Take one device away and put another in its place; the account goes on.

    With ``at`` and ``closing_wh`` None the old device ends where it stands, as in ``move_out``. By ``public_key``
    (SubjectPublicKeyInfo) the new one's answers are believed; where the old one held its account's credit, the
    new one does from then on, now or once it has a key.
    Idempotent by ``key``. Raises MoveRefused, PermissionRefused, PeriodClosed, KeyReused, BadKey.
    """
    require(actor, "estate.meters")
    body = {
        "op": "exchange",
        "meter": meter_id,
        "closing": closing_wh,
        "new": asdict(new_meter),
        "opening": opening_wh,
        "at": at,
    }
    body |= {} if public_key is None else {"public_key": public_key.hex()}
    with scope(actor, deed="estate.meters"):
        before = stored_answer(actor=actor, key=key, body=body)
        if before is not None:
            return MeterExchanged(**_again(before))
        old = locked_meter(meter_id)
        if old is None:
            raise UnknownPlace(f"no meter {meter_id} is installed at your properties")
        require(actor, "estate.meters", property_id=old.property_id)
        if closing_wh is None or at is None:
            values, at = boundary.as_reported([old], now)
            closing_wh = values[0].value_wh
        boundary.refuse_instant(old.property_id, [old], at, now)
        boundary.refuse_register(new_meter.serial, opening_wh, new_meter.modulus_wh)
        new_id = _exchange(actor, old, new_meter, closing_wh, opening_wh, at, now)
        if public_key is not None:
            enrol_key(
                actor=actor, property_id=old.property_id, meter_id=new_id, public_key=public_key,
                now=now,
            )  # fmt: skip
        if old.account_id is not None:
            exchange_credit(
                actor=actor, system=boundary.system(actor, old.property_id),
                property_id=old.property_id, old_id=meter_id, new_id=new_id,
                account_id=old.account_id, now=now,
            )  # fmt: skip
        answer = MeterExchanged(meter_id, new_id, old.account_id, at.isoformat())
        _conclude(
            actor,
            key,
            body,
            "moves.meter.exchanged",
            old.property_id,
            old.account_id or 0,
            asdict(answer),
            now,
        )
    return answer


def manual_reading(
    *,
    actor: Actor,
    meter_id: int,
    value_wh: int,
    read_at: datetime,
    now: datetime,
    reason: str = "",
    reference: str = "",
) -> ReadingEntered:
    """Enter a register read by a person; it goes through validation like any other.

    ``reason`` and ``reference`` (the number of a photo, say) go into the audit event. A repeat
    changes nothing, so it needs no key. What would charge more than ``core.hand_readings`` finds
    plausible is an administrator's to enter. Raises ReadingBeyond, UnknownPlace, PermissionRefused.
    """
    require(actor, "mdm.read_manually")
    with scope(actor, deed="mdm.read_manually"):
        meter = Meter.objects.filter(pk=meter_id).first()
        if meter is None or not meter.assignments.exists():
            raise UnknownPlace(f"no account pays by a meter {meter_id} at your properties")
        require(actor, "mdm.read_manually", property_id=meter.property_id)
        before = ground_of(meter_id, read_at)
        verdict = boundary.enter_readings([RegisterValue(meter_id, value_wh)], read_at, now)[0]
        answer = ReadingEntered(meter_id, VERDICT_NAMES[verdict], verdict in HELD_VERDICTS)
        after = ground_of(meter_id, read_at)
        if before is not None and after is not None:
            answer = _with_figures(answer, verdict, before, after)
        if answer.is_beyond and not may(actor, "mdm.release"):
            raise ReadingBeyond(answer.energy_wh, answer.plausible_wh)
        record(
            actor=actor.code,
            code="mdm.reading.entered",
            property_id=meter.property_id,
            subject=f"meter:{meter_id}",
            now=now,
            value_wh=value_wh,
            read_at=read_at,
            verdict=answer.verdict,
            reason=reason,
            reference=reference,
            energy_wh=answer.energy_wh,
            plausible_wh=answer.plausible_wh,
            charged_micro=answer.charged_micro,
            before=before and before.figures(),
            after=after and after.figures(),
        )
        _tell(meter.property_id)
    return answer


def _with_figures(
    answer: ReadingEntered, verdict: Verdict, before: Ground, after: Ground
) -> ReadingEntered:
    """The answer with what was charged, and what was plausible as seen before."""
    return replace(
        answer,
        charged_micro=before.available_micro - after.available_micro,
        # Only a reading that moves the watermark charges energy; any other only splits it anew.
        energy_wh=before.energy_wh() if verdict is Verdict.ACCEPTED else 0,
        plausible_wh=before.plausible_wh,
    )


def _unit_at(
    actor: Actor,
    unit_id: int,
    registers: Sequence[RegisterValue] | None,
    at: datetime | None,
    now: datetime,
) -> tuple[UnitAt, Closing]:
    """The unit with its accounts locked, and the boundary, once all that can be refused has been."""
    unit = locked_unit(unit_id)
    if unit is None:
        raise UnknownPlace(f"there is no unit {unit_id} at your properties")
    require(actor, "moves.tenant", property_id=unit.property_id)
    if at is None:
        values, at = boundary.as_reported(unit.meters, now)
        closing = Closing(values, at)
    elif registers is None:
        boundary.refuse_instant(unit.property_id, unit.meters, at, now, may_lie_behind=True)
        closing = Closing(boundary.between_readings(unit.meters, at), at, is_read=False)
    else:
        closing = Closing(registers, at)
    given = [each.meter_id for each in closing.values]
    if sorted(given) != [each.meter_id for each in unit.meters]:
        raise RegisterMissing([each.serial for each in unit.meters])
    boundary.refuse_instant(unit.property_id, unit.meters, at, now, may_lie_behind=True)
    return unit, closing


def _refuse_let(account_id: int, ending: int | None) -> None:
    """A let holds a deposit and a fee for units to come: only what gives them back may end it."""
    let = TemporaryLet.objects.filter(account_id=account_id, closed_at__isnull=True).first()
    if let is not None and let.pk != ending:
        raise LetRunning(int(let.pk), let.ends_at)


def _refund(actor: Actor, account_id: int, now: datetime) -> tuple[int, int]:
    """Book what is left as a refund due; nothing while the account pays for another unit still.

    (what is owed, what left the account for it): the two differ by what rounding keeps.
    """
    if not Account.objects.filter(pk=account_id, closed_at__isnull=False).exists():
        return 0, 0
    due = refund_balance(actor=actor, account_id=account_id, reason="moved_out", now=now)
    return (0, 0) if due is None else (due.amount, due.taken)


def _leave(actor: Actor, unit: UnitAt, closing: Closing, now: datetime) -> Passed:
    """End the tenancy with its last charges; returns what was charged beyond its end."""
    assert unit.tenancy_id is not None and unit.tenant_account_id is not None
    at, passed = closing.at, boundary.Passed()
    if unit.tenancy_begins_at is not None and at <= unit.tenancy_begins_at:
        raise TooEarly(unit.tenancy_begins_at + timedelta(microseconds=1))
    account_id = unit.tenant_account_id
    if closing.values:
        passed = boundary.charge_unit(unit, account_id, closing, now)
    estate.end_tenancy(tenancy_id=unit.tenancy_id, at=at)
    if not Tenancy.objects.filter(account_id=account_id, period__upper_inf=True).exists():
        estate.close_account(account_id=account_id, at=at)
    # Closed first: what the account owes by days ends here, and what it paid ahead comes back.
    boundary.post(actor, unit.property_id, account_id, at, now)
    return passed


def _passed_on(
    actor: Actor,
    unit: UnitAt,
    former_account_id: int,
    entered: MovedIn,
    passed: Passed,
    at: datetime,
    now: datetime,
) -> MovedIn:
    """Charge who came for what the former payer had been charged since."""
    charged = boundary.pass_on(
        actor, unit.property_id, former_account_id, entered.account_id, passed, at, now
    )
    return replace(
        entered,
        available_micro=boundary.available(entered.account_id),
        passed_wh=passed.energy_wh,
        passed_back_micro=passed.back_micro,
        passed_on_micro=charged,
    )


def prepare_tenant(
    *, actor: Actor, unit: UnitAt, tenant: NewTenant, at: datetime, now: datetime
) -> Prepared:
    """Open the account of somebody who comes at an instant, at zero. Raises as ``move_in``."""
    if not 0 <= tenant.emergency_micro <= EMERGENCY_LIMIT_MICRO:
        raise EmergencyRefused
    customer_id = _customer(unit.property_id, tenant.customer)
    number = tenant.account_number or _free_number(unit)
    account_id = _open_account(
        actor, unit, number, tenant.tariff_code, at, now, customer_id=customer_id
    )
    supply.open_accounts(
        rows=[
            supply.OpenSupply(
                account_id, unit.property_id, tenant.emergency_micro, tenant.protection
            )
        ],
        now=now,
    )
    return Prepared(customer_id, account_id, number)


def _enter(
    actor: Actor,
    unit: UnitAt,
    former_account_id: int | None,
    tenant: NewTenant | Prepared,
    opening: Closing,
    passed: Passed,
    now: datetime,
) -> MovedIn:
    """Let the new tenant's account pay from the opening registers on."""
    at = opening.at
    if isinstance(tenant, NewTenant):
        tenant = prepare_tenant(actor=actor, unit=unit, tenant=tenant, at=at, now=now)
    estate.begin_tenancy(
        property_id=unit.property_id,
        unit_id=unit.unit_id,
        customer_id=tenant.customer_id,
        account_id=tenant.account_id,
        at=at,
    )
    if former_account_id is not None:
        boundary.hand_over(
            unit.property_id, former_account_id, tenant.account_id, opening, passed, now
        )
        _take_over_supply(former_account_id, tenant.account_id, opening.values, now)
    return MovedIn(
        unit.unit_id,
        tenant.customer_id,
        tenant.account_id,
        tenant.account_number,
        former_account_id,
        boundary.available(tenant.account_id),
        at.isoformat(),
    )


def _take_over_supply(
    from_account_id: int, to_account_id: int, registers: Sequence[RegisterValue], now: datetime
) -> None:
    handover.take_over(
        from_account_id=from_account_id,
        to_account_id=to_account_id,
        meter_ids=[each.meter_id for each in registers],
        now=now,
    )


def _customer(property_id: int, customer: int | NewCustomer) -> int:
    if isinstance(customer, NewCustomer):
        return estate.create_customer(property_id=property_id, customer=customer)
    if not Customer.objects.filter(pk=customer, property_id=property_id).exists():
        raise UnknownPlace(f"there is no customer {customer} at this property")
    return customer


def _free_number(unit: UnitAt) -> str:
    """The next account number of a unit; those of announced lets have no tenancy yet."""
    stem = f"{unit.building}-{unit.code}-"
    taken = set(
        Account.objects.filter(property_id=unit.property_id, number__startswith=stem).values_list(
            "number", flat=True
        )
    )
    following = count(unit.tenancies + 1)
    return next(each for each in (f"{stem}{n}" for n in following) if each not in taken)


def _open_vacancy(actor: Actor, unit: UnitAt, at: datetime, now: datetime) -> int:
    """The owner's account of a unit that has never been vacant; it keeps the unit's tariff."""
    assert unit.tenant_account_id is not None
    code = tariff_code_at(unit.tenant_account_id, at)
    if code is None:
        raise UnknownPlace("the account has no tariff that its vacancy account could go on with")
    return _open_account(
        actor,
        unit,
        vacancy_number(unit.building, unit.code),
        code,
        at,
        now,
        customer_id=None,
    )


def _open_account(
    actor: Actor,
    unit: UnitAt,
    number: str,
    tariff_code: str,
    at: datetime,
    now: datetime,
    *,
    customer_id: int | None,
) -> int:
    """An account with all its rows, at zero: no debt, no steps, no level (invariant 6)."""
    try:
        with transaction.atomic():
            account_id = estate.create_account(
                property_id=unit.property_id,
                number=number,
                kind="vacancy" if customer_id is None else "customer",
                opened_at=at,
                customer_id=customer_id,
                unit_id=unit.unit_id if customer_id is None else None,
            )
    except IntegrityError as error:
        raise NameTaken(f"there is an account {number!r} already; choose another number") from error
    open_accounts(rows=[(account_id, unit.property_id, unit.legal_entity_id)], now=now)
    _assign_tariff(actor, unit.property_id, account_id, tariff_code, at, now)
    return account_id


def _assign_tariff(
    actor: Actor, property_id: int, account_id: int, code: str, at: datetime, now: datetime
) -> None:
    try:
        assign_tariff(
            actor=actor,
            property_id=property_id,
            account_ids=[account_id],
            tariff_code=code,
            valid_from=at,
            now=now,
        )
    except Tariff.DoesNotExist as error:
        raise UnknownPlace(f"there is no tariff {code!r} at this property") from error


def _exchange(
    actor: Actor,
    old: MeterAt,
    new_meter: NewMeter,
    closing_wh: int,
    opening_wh: int,
    at: datetime,
    now: datetime,
) -> int:
    closing = [RegisterValue(old.meter_id, closing_wh)]
    if old.account_id is not None:
        boundary.charge({old.meter_id: old}, closing, at, now)
        close_registers(account_id=old.account_id, meter_ids=[old.meter_id], at=at)
        estate.end_assignments(values=closing, at=at)
    estate.remove_meter(meter_id=old.meter_id, value_wh=closing_wh, at=at)
    handover.withdraw_orders(meter_ids=[old.meter_id], now=now)
    try:
        with transaction.atomic():
            new_id = estate.install_meter(
                property_id=old.property_id,
                metering_point_id=old.metering_point_id,
                meter=new_meter,
                value_wh=opening_wh,
                at=at,
            )
    except IntegrityError as error:
        raise NameTaken(f"there is a meter {new_meter.serial!r} already") from error
    link_meters(meter_ids=[new_id], seen_at=[at])
    commissioning.give_up(meter_id=old.meter_id, by=actor.code, now=now)
    commissioning.begin(actor=actor, property_id=old.property_id, fitted=[(new_id, at)], now=now)
    if old.account_id is not None:
        estate.begin_assignments(
            property_id=old.property_id,
            account_id=old.account_id,
            values=[RegisterValue(new_id, opening_wh)],
            at=at,
        )
        openings = [Opening(old.account_id, new_id, at, opening_wh)]
        open_registers(openings=openings, now=now)
        store_opening_readings(openings=openings, source=ReadingSource.MANUAL, now=now)
        supply.look_again(
            actor=boundary.system(actor, old.property_id), account_ids=[old.account_id], now=now
        )
    return new_id


def _with_recharge(
    actor: Actor, entered: MovedIn, first: FirstRecharge | None, key: str, now: datetime
) -> MovedIn:
    """Take the first money in the same transaction; a refusal undoes the moving in."""
    if first is None:
        return entered
    wish = Recharge(
        key=f"{key}:first",
        account_id=entered.account_id,
        amount=first.amount,
        way=first.way,
        reference=first.reference,
        paid_at=now,
    )
    answer = recharge(actor=actor, recharges=[wish], now=now)[0]
    if isinstance(answer, RechargeRefused):
        raise RechargeFailed(answer)
    return replace(entered, available_micro=answer.available_after)


def _conclude(
    actor: Actor,
    key: str,
    body: Mapping[str, object],
    code: str,
    property_id: int,
    account_id: int,
    answer: Mapping[str, object],
    now: datetime,
) -> None:
    """Audit the deed, keep its answer under its key, and ring the bell of live pages."""
    subject = f"account:{account_id}" if account_id else f"property:{property_id}"
    record(actor=actor.code, code=code, property_id=property_id, subject=subject, now=now, **answer)
    store_answer(
        actor=actor,
        key=key,
        body=body,
        account_id=account_id,
        property_id=property_id,
        answer=answer,
        now=now,
    )
    _tell(property_id)


def _tell(property_id: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify('changed', %s)", [str(property_id)])


def _plain(values: Sequence[RegisterValue] | None) -> list[tuple[int, int]] | None:
    return None if values is None else sorted((each.meter_id, each.value_wh) for each in values)


def _again(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The stored answer, which our own JSON has turned into plain values."""
    return {**answer, "repeated": True}
