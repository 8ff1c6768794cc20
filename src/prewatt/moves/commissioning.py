"""Devices come into service: fitted where there was none, then heard, then looked at by a person.

What is fitted is charged from its opening register on to whoever pays in its unit. A device that takes
another's place comes in by `operations.exchange_meter`; both are waited for here until they are heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import IntegrityError, transaction

from prewatt.access.scope import Actor, rehearsal, require, scope
from prewatt.audit.operations import record, record_many
from prewatt.core.readings import ReadingSource
from prewatt.core.serials import is_serial
from prewatt.estate import operations as estate
from prewatt.estate.models import Account, Commissioning, MeteringPoint, Unit
from prewatt.estate.operations import NewMeter, RegisterValue
from prewatt.ledger.idempotency import store_answer, stored_answer
from prewatt.ledger.operations import PeriodClosed, lock_accounts
from prewatt.moves import boundary
from prewatt.moves.concentrators import ConcentratorRefused, put_behind
from prewatt.moves.field_rules import field_rules
from prewatt.moves.first_contact import contacts
from prewatt.moves.places import UnitAt, locked_unit, seen_unit
from prewatt.moves.registers import Opening, link_meters, open_registers, store_opening_readings
from prewatt.moves.words import MoveRefused, NameTaken, TooEarly, UnknownPlace
from prewatt.runtime.bells import ring
from prewatt.supply import operations as supply

#: So many devices are fitted by one deed at most.
FITTED_MAX: Final = 500
_CODE_MAX: Final = 24


class UnitMetered(MoveRefused):
    """A device counts for the unit already: exchange it, or say that another one comes beside it."""


class UnitUnpaid(MoveRefused):
    """The unit has no account that could pay: neither a tenant's nor the owner's."""


class NotASerial(MoveRefused):
    """No device can have this serial number: it stands in topics and certificates."""


class NotChecked(MoveRefused):
    """Something is missing or wrong still, so whoever ends the look says why. ``meter_id``."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """A device in a unit from ``at`` on, with the register that its display showed then.

    ``beside``: the unit has one already, and keeps it. ``concentrator`` speaks for it; empty: nobody does.
    """

    unit_id: int
    meter: NewMeter
    opening_wh: int
    at: datetime
    beside: bool = False
    concentrator: str = ""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The devices that were fitted, in the order in which they were asked for."""

    meter_ids: list[int]
    repeated: bool = False


class FittingRefused(Exception):
    """One of several fittings is refused, and with it all. ``at`` is its place among them, ``why`` the reason."""

    def __init__(self, at: int, why: Exception) -> None:
        super().__init__(str(why))
        self.at = at
        self.why = why


def fit_meters(
    *, actor: Actor, property_id: int, fittings: Sequence[Fitting], key: str, now: datetime
) -> Fitted:
    """Fit devices where none was exchanged for them; all or none.

    Idempotent by ``key``. Raises FittingRefused (with MoveRefused, PeriodClosed or ConcentratorRefused in
    it), PermissionRefused, KeyReused.
    """
    require(actor, "estate.meters", property_id=property_id)
    if not 0 < len(fittings) <= FITTED_MAX:
        raise ValueError(f"1 to {FITTED_MAX} devices are fitted at once")
    body = {"op": "fit", "place": property_id, "fittings": [asdict(each) for each in fittings]}
    with scope(actor, deed="estate.meters"):
        before = stored_answer(actor=actor, key=key, body=body)
        if before is not None:
            return Fitted([int(each) for each in before["meter_ids"]], repeated=True)  # type: ignore[attr-defined]
        _lock_payers(fittings)
        made = []
        for number, fitting in enumerate(fittings):
            try:
                made.append(_fit(actor, property_id, fitting, now))
            except (MoveRefused, ConcentratorRefused, PeriodClosed) as refused:
                raise FittingRefused(number, refused) from refused
        begin(actor=actor, property_id=property_id, now=now,
              fitted=[(meter_id, each.at) for meter_id, each in zip(made, fittings, strict=True)])  # fmt: skip
        record_many(
            actor=actor.code, code="moves.meter.fitted", now=now,
            rows=[
                (property_id, f"meter:{meter_id}", {
                    "serial": each.meter.serial, "unit": each.unit_id, "opening_wh": each.opening_wh,
                    "at": each.at, "driver": each.meter.driver, "concentrator": each.concentrator,
                })
                for meter_id, each in zip(made, fittings, strict=True)
            ],
        )  # fmt: skip
        store_answer(
            actor=actor, key=key, body=body, account_id=0, property_id=property_id,
            answer={"meter_ids": made}, now=now,
        )  # fmt: skip
        ring("changed", [property_id])
    return Fitted(made)


def refused_fittings(
    *, actor: Actor, property_id: int, fittings: Sequence[Fitting], now: datetime
) -> dict[int, Exception]:
    """Which of several fittings would be refused, each by its place among them, found by doing them and taking all back.

    Raises PermissionRefused.
    """
    require(actor, "estate.meters", property_id=property_id)
    refused: dict[int, Exception] = {}
    with rehearsal(), scope(actor, deed="estate.meters"):
        _lock_payers(fittings)
        for number, fitting in enumerate(fittings[:FITTED_MAX]):
            try:
                with transaction.atomic():
                    _fit(actor, property_id, fitting, now)
            except (MoveRefused, ConcentratorRefused, PeriodClosed) as why:
                refused[number] = why
    return refused


def end_check(*, actor: Actor, property_id: int, meter_id: int, note: str, now: datetime) -> None:
    """Say that a device was looked at and is in service; ``note`` says why, where something is missing or wrong.

    Raises NotChecked, UnknownPlace (nobody waits for it), PermissionRefused.
    """
    require(actor, "estate.meters", property_id=property_id)
    with scope(actor, deed="estate.meters"):
        row = (
            Commissioning.objects.select_for_update()
            .filter(meter_id=meter_id, property_id=property_id, checked_at=None)
            .first()
        )
        if row is None:
            raise UnknownPlace(f"nobody waits for meter {meter_id}")
        (found,) = contacts(property_id=property_id, meter_ids=[meter_id], now=now)
        if not found.is_good and not note:
            raise NotChecked("say why it is in service although something is missing")
        row.heard_at, row.checked_at, row.checked_by = found.heard_at, now, actor.code
        row.note = note
        row.save(update_fields=["heard_at", "checked_at", "checked_by", "note"])
        record(
            actor=actor.code, code="moves.meter.checked", property_id=property_id,
            subject=f"meter:{meter_id}", now=now, reason=note, serial=found.serial,
            heard=found.heard.value, counts=found.counts.value, clock=found.clock.value,
            relay=found.switch.value, key=found.key.value,
        )  # fmt: skip
        ring("changed", [property_id])


def begin(
    *, actor: Actor, property_id: int, fitted: Sequence[tuple[int, datetime]], now: datetime
) -> None:
    """Wait for devices that were fitted at these instants, inside the deed that fits them.

    Their time to be heard begins when it was written down: a deed that is entered late calls nobody at once.
    """
    require(actor, "estate.meters", property_id=property_id)
    within = timedelta(seconds=field_rules(property_id).hear_within_s)
    Commissioning.objects.bulk_create(
        Commissioning(
            property_id=property_id, meter_id=meter_id, fitted_at=at, fitted_by=actor.code,
            hear_by=max(at, now) + within,
        )
        for meter_id, at in fitted
    )  # fmt: skip


def give_up(*, meter_id: int, by: str, now: datetime) -> None:
    """Wait no longer for a device that was taken away, inside the deed that takes it."""
    Commissioning.objects.filter(meter_id=meter_id, checked_at=None).update(
        checked_at=now, checked_by=by, note="exchanged"
    )


# --- inside ---


def _lock_payers(fittings: Sequence[Fitting]) -> None:
    """All accounts at once, in their order: fitted one after another they would be locked out of it."""
    units = [seen_unit(each) for each in sorted({each.unit_id for each in fittings})]
    lock_accounts(sorted({key for unit in units if unit for key in unit.account_ids}))


def _fit(actor: Actor, property_id: int, fitting: Fitting, now: datetime) -> int:
    unit = locked_unit(fitting.unit_id)
    if unit is None or unit.property_id != property_id:
        raise UnknownPlace(f"there is no unit {fitting.unit_id} at this property")
    if not is_serial(fitting.meter.serial):
        raise NotASerial(f"{fitting.meter.serial!r} cannot be a serial number")
    if unit.meters and not fitting.beside:
        raise UnitMetered(f"meter {unit.meters[0].serial} counts for {unit.building} {unit.code}")
    account_id = unit.tenant_account_id or unit.vacancy_account_id
    if account_id is None:
        raise UnitUnpaid(f"nobody pays in {unit.building} {unit.code}")
    _refuse_instant(unit, account_id, fitting.at, now)
    boundary.refuse_register(fitting.meter.serial, fitting.opening_wh, fitting.meter.modulus_wh)
    try:
        with transaction.atomic():
            meter_id = estate.install_meter(
                property_id=property_id, metering_point_id=_point(unit), meter=fitting.meter,
                value_wh=fitting.opening_wh, at=fitting.at,
            )  # fmt: skip
    except IntegrityError as error:
        raise NameTaken(f"there is a device {fitting.meter.serial!r} already") from error
    _charge_from_now_on(actor, property_id, account_id, meter_id, fitting, now)
    if fitting.concentrator:
        put_behind(
            actor=boundary.system(actor, property_id), property_id=property_id,
            serial=fitting.concentrator, meters=[fitting.meter.serial], at=fitting.at, now=now,
        )  # fmt: skip
    return meter_id


def _charge_from_now_on(
    actor: Actor, property_id: int, account_id: int, meter_id: int, fitting: Fitting, now: datetime
) -> None:
    link_meters(meter_ids=[meter_id], seen_at=[fitting.at])
    estate.begin_assignments(
        property_id=property_id, account_id=account_id, at=fitting.at,
        values=[RegisterValue(meter_id, fitting.opening_wh)],
    )  # fmt: skip
    openings = [Opening(account_id, meter_id, fitting.at, fitting.opening_wh)]
    open_registers(openings=openings, now=now)
    store_opening_readings(openings=openings, source=ReadingSource.MANUAL, now=now)
    supply.look_again(actor=boundary.system(actor, property_id), account_ids=[account_id], now=now)


def _refuse_instant(unit: UnitAt, account_id: int, at: datetime, now: datetime) -> None:
    """Within the payer's own time, and not in the future or in closed books."""
    boundary.refuse_instant(unit.property_id, [], at, now)
    opened = Account.objects.values_list("opened_at", flat=True).get(pk=account_id)
    earliest = max(opened, unit.tenancy_begins_at or opened)
    if at < earliest:
        raise TooEarly(earliest)
    if unit.tenancy_id is None:
        boundary.refuse_overlap(unit, at)


def _point(unit: UnitAt) -> int:
    """A point of the unit at which nothing counts, or a new one; it hangs on the only feeder there is."""
    role = MeteringPoint.Role.SUPPLY
    if Unit.objects.filter(pk=unit.unit_id, kind=Unit.Kind.PLANT).exists():
        role = MeteringPoint.Role.COMMON
    free = (
        MeteringPoint.objects.filter(unit_id=unit.unit_id, role=role)
        .exclude(installations__period__upper_inf=True)
        .order_by("id")
        .first()
    )
    if free is not None:
        return free.pk
    of_place = MeteringPoint.objects.filter(property_id=unit.property_id)
    feeders = list(of_place.filter(role=MeteringPoint.Role.FEEDER).values_list("id", flat=True)[:2])
    taken = set(of_place.values_list("code", flat=True))
    stem = f"{unit.building}-{unit.code}"[: _CODE_MAX - 4]
    number = next(each for each in range(1, 1_000) if f"{stem}-{each}" not in taken)
    made = MeteringPoint.objects.create(
        property_id=unit.property_id, unit_id=unit.unit_id, role=role, code=f"{stem}-{number}",
        parent_id=feeders[0] if len(feeders) == 1 else None,
    )  # fmt: skip
    return made.pk
