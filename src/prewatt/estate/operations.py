"""Writes the estate: a whole property at once from a checked plan, or the few rows of one move.

Every function runs inside its caller's transaction and scope; the caller asks for permission and
records the audit event, because only it knows what the rows are for (``moves``). The database
refuses what must not be: overlapping periods, empty ones, doubled codes and serials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from psycopg.types.range import TimestamptzRange

from prewatt.core.drivers import Driver
from prewatt.estate.imports import EARLIEST, EstatePlan, PointPlan, UnitKey, plan_property
from prewatt.estate.models import (
    Account,
    Building,
    Concentrator,
    Customer,
    FeedIn,
    Installation,
    LegalEntity,
    Meter,
    MeterAssignment,
    MeteringPoint,
    Organisation,
    Property,
    Tenancy,
    Unit,
)
from prewatt.estate.sheets import PropertySheets


@dataclass(frozen=True, slots=True)
class CreatedEstate:
    """The ids of what was written, by the names of the plan."""

    property_id: int
    legal_entity_id: int
    unit_ids: Mapping[UnitKey, int]
    meter_ids: Mapping[str, int]
    account_ids: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class NewMeter:
    """A device that is put into service; its registers count Wh modulo ``modulus_wh``."""

    serial: str
    model: str = ""
    driver: str = Driver.MQTT_SENML
    multiplier: int = 1
    modulus_wh: int = 1_000_000_000
    max_power_w: int = 25_000
    has_relay: bool = True
    expected_period_s: int = 900


@dataclass(frozen=True, slots=True)
class NewCustomer:
    """A person or firm who is not known at the property yet."""

    name: str
    email: str = ""
    phone: str = ""
    language: str = "en"


@dataclass(frozen=True, slots=True)
class RegisterValue:
    """What a meter's active import register showed, in register Wh."""

    meter_id: int
    value_wh: int


def check_plan(sheets: PropertySheets, *, importer: str, now: datetime) -> EstatePlan:
    """Check the tables of a new property against themselves and the database; ImportRefused."""
    codes = [row.cells.get("code", "") for row in sheets.rows("property")]
    meters = sheets.rows("meters")
    serials = [row.cells.get(name, "") for row in meters for name in ("serial", "concentrator")]
    return plan_property(
        sheets,
        known_property_codes=set(
            Property.objects.filter(code__in=codes).values_list("code", flat=True)
        ),
        known_serials={
            serial
            for devices in (Meter.objects, Concentrator.objects)
            for serial in devices.filter(serial__in=serials).values_list("serial", flat=True)
        },
        importer=importer,
        now=now,
    )


def create_estate(plan: EstatePlan, *, by: str) -> CreatedEstate:
    """Write every row of a checked plan, one statement per table (and per depth of the tree); ``by`` imports it."""
    place = _create_property(plan)
    units = _create_units(plan, place)
    points = _create_points(plan, place, units)
    meters = _create_meters(plan, place, points)
    _create_feed_ins(plan, place, points, by)
    accounts = _create_accounts(plan, place, units)
    _assign_meters(plan, place, meters, accounts)
    return CreatedEstate(place.pk, place.legal_entity_id, units, meters, accounts)


def _create_property(plan: EstatePlan) -> Property:
    described = plan.property
    organisation, _ = Organisation.objects.get_or_create(name=described.organisation)
    entity, _ = LegalEntity.objects.get_or_create(
        organisation=organisation,
        name=described.legal_entity,
        defaults={"tax_number": described.tax_number},
    )
    return Property.objects.create(
        organisation=organisation,
        legal_entity=entity,
        code=described.code,
        name=described.name,
        currency=described.currency,
        minor_digits=described.minor_digits,
        time_zone=described.time_zone,
        holiday_calendar=described.holiday_calendar,
        language=described.language,
    )


def _create_units(plan: EstatePlan, place: Property) -> dict[UnitKey, int]:
    buildings = {
        each.code: each
        for each in Building.objects.bulk_create(
            Building(property=place, code=each.code, name=each.name, position=each.position)
            for each in plan.buildings
        )
    }
    units = Unit.objects.bulk_create(
        Unit(
            property=place,
            building=buildings[each.key[0]],
            code=each.key[1],
            floor=each.floor,
            position=each.position,
            kind=each.kind,
        )
        for each in plan.units
    )
    return {each.key: unit.pk for each, unit in zip(plan.units, units, strict=True)}


def _create_points(
    plan: EstatePlan, place: Property, units: Mapping[UnitKey, int]
) -> dict[str, int]:
    """Depth by depth, so that a parent has its id before its children name it."""
    made: dict[str, int] = {}
    waiting = list(plan.points)
    while waiting:
        ready = [each for each in waiting if not each.parent or each.parent in made]
        if not ready:
            raise AssertionError("the plan's metering points are not a tree")
        rows = MeteringPoint.objects.bulk_create(_point(each, place, units, made) for each in ready)
        made.update({each.code: row.pk for each, row in zip(ready, rows, strict=True)})
        waiting = [each for each in waiting if each.code not in made]
    return made


def _point(
    plan: PointPlan, place: Property, units: Mapping[UnitKey, int], made: Mapping[str, int]
) -> MeteringPoint:
    return MeteringPoint(
        property=place,
        unit_id=units[plan.unit] if plan.unit else None,
        parent_id=made[plan.parent] if plan.parent else None,
        code=plan.code,
        role=plan.role,
        source=plan.source,
    )


def _create_meters(plan: EstatePlan, place: Property, points: Mapping[str, int]) -> dict[str, int]:
    meters = Meter.objects.bulk_create(
        Meter(
            property=place,
            serial=each.serial,
            model=each.model,
            driver=each.driver,
            multiplier=each.multiplier,
            modulus_wh=each.modulus_wh,
            max_power_w=each.max_power_w,
            has_relay=each.has_relay,
            expected_period_s=each.expected_period_s,
        )
        for each in plan.meters
    )
    Installation.objects.bulk_create(
        Installation(
            property=place,
            meter=meter,
            metering_point_id=points[each.point],
            period=TimestamptzRange(each.installed_at, None),
            start_value_wh=each.opening_wh,
        )
        for each, meter in zip(plan.meters, meters, strict=True)
    )
    return {each.serial: each.pk for each in meters}


def _create_feed_ins(plan: EstatePlan, place: Property, points: Mapping[str, int], by: str) -> None:
    """From the first meter of each point on; an import tells of what is so already."""
    began: dict[str, datetime] = {}
    for each in plan.meters:
        began[each.point] = min(each.installed_at, began.get(each.point, each.installed_at))
    FeedIn.objects.bulk_create(
        FeedIn(
            property=place,
            metering_point_id=points[each.code],
            period=TimestamptzRange(began.get(each.code, EARLIEST), None),
            reason="import",
            said_by=by,
        )
        for each in plan.points
        if each.feeds_in
    )


def _create_accounts(
    plan: EstatePlan, place: Property, units: Mapping[UnitKey, int]
) -> dict[str, int]:
    rows = Customer.objects.bulk_create(
        Customer(
            property=place,
            name=each.name,
            email=each.email,
            phone=each.phone,
            language=each.language,
        )
        for each in plan.customers
    )
    customers = {each.code: row for each, row in zip(plan.customers, rows, strict=True)}
    accounts = Account.objects.bulk_create(
        Account(
            property=place,
            number=each.number,
            kind=each.kind,
            customer=customers[each.customer] if each.customer else None,
            unit_id=units[each.unit] if each.unit else None,
            opened_at=each.opened_at,
        )
        for each in plan.accounts
    )
    numbered = {each.number: each for each in accounts}
    Tenancy.objects.bulk_create(
        Tenancy(
            property=place,
            unit_id=units[each.unit],
            customer=customers[each.customer],
            account=numbered[each.account],
            period=TimestamptzRange(each.begins_at, None),
        )
        for each in plan.tenancies
    )
    return {number: account.pk for number, account in numbered.items()}


def _assign_meters(
    plan: EstatePlan, place: Property, meters: Mapping[str, int], accounts: Mapping[str, int]
) -> None:
    MeterAssignment.objects.bulk_create(
        MeterAssignment(
            property=place,
            meter_id=meters[each.serial],
            account_id=accounts[each.account],
            period=TimestamptzRange(each.installed_at, None),
            start_value_wh=each.opening_wh,
        )
        for each in plan.meters
        if each.account
    )


def create_customer(*, property_id: int, customer: NewCustomer) -> int:
    """Write one customer and return the id."""
    row = Customer.objects.create(
        property_id=property_id,
        name=customer.name,
        email=customer.email,
        phone=customer.phone,
        language=customer.language,
    )
    return row.pk


def create_account(
    *,
    property_id: int,
    number: str,
    kind: str,
    opened_at: datetime,
    customer_id: int | None = None,
    unit_id: int | None = None,
) -> int:
    """Write one account and return the id; the hot rows are the caller's to open."""
    row = Account.objects.create(
        property_id=property_id,
        number=number,
        kind=kind,
        customer_id=customer_id,
        unit_id=unit_id,
        opened_at=opened_at,
    )
    return row.pk


def close_account(*, account_id: int, at: datetime) -> None:
    """Take no more recharges; what is left on the account stays there and stays visible."""
    Account.objects.filter(pk=account_id, closed_at=None).update(closed_at=at)


def begin_tenancy(
    *, property_id: int, unit_id: int, customer_id: int, account_id: int, at: datetime
) -> int:
    """Write an open tenancy and return the id; the database refuses an overlap."""
    row = Tenancy.objects.create(
        property_id=property_id,
        unit_id=unit_id,
        customer_id=customer_id,
        account_id=account_id,
        period=TimestamptzRange(at, None),
    )
    return row.pk


def end_tenancy(*, tenancy_id: int, at: datetime) -> None:
    """End an open tenancy at an instant that no longer belongs to it."""
    _one_row(
        """UPDATE tenancy SET period = tstzrange(lower(period), %s)
           WHERE id = %s AND upper_inf(period)""",
        [at, tenancy_id],
    )


def install_meter(
    *, property_id: int, metering_point_id: int, meter: NewMeter, value_wh: int, at: datetime
) -> int:
    """Write a new device with its opening register at a metering point and return its id."""
    row = Meter.objects.create(
        property_id=property_id,
        serial=meter.serial,
        model=meter.model,
        driver=meter.driver,
        multiplier=meter.multiplier,
        modulus_wh=meter.modulus_wh,
        max_power_w=meter.max_power_w,
        has_relay=meter.has_relay,
        expected_period_s=meter.expected_period_s,
    )
    Installation.objects.create(
        property_id=property_id,
        meter=row,
        metering_point_id=metering_point_id,
        period=TimestamptzRange(at, None),
        start_value_wh=value_wh,
    )
    return row.pk


def remove_meter(*, meter_id: int, value_wh: int, at: datetime) -> None:
    """End a device's installation with its closing register."""
    _one_row(
        """UPDATE installation SET period = tstzrange(lower(period), %s), end_value_wh = %s
           WHERE meter_id = %s AND upper_inf(period)""",
        [at, value_wh, meter_id],
    )


def end_assignments(*, values: Sequence[RegisterValue], at: datetime) -> None:
    """End the open assignments of meters with their closing registers."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE meter_assignment a
               SET period = tstzrange(lower(a.period), %s), end_value_wh = v.value_wh
               FROM unnest(%s::bigint[], %s::bigint[]) AS v(meter_id, value_wh)
               WHERE a.meter_id = v.meter_id AND upper_inf(a.period)""",
            [at, [each.meter_id for each in values], [each.value_wh for each in values]],
        )
        if cursor.rowcount != len(values):
            raise AssertionError(f"{len(values)} assignments meant, {cursor.rowcount} ended")


def begin_assignments(
    *, property_id: int, account_id: int, values: Sequence[RegisterValue], at: datetime
) -> None:
    """Let an account pay for meters from an instant and a register on."""
    MeterAssignment.objects.bulk_create(
        MeterAssignment(
            property_id=property_id,
            meter_id=each.meter_id,
            account_id=account_id,
            period=TimestamptzRange(at, None),
            start_value_wh=each.value_wh,
        )
        for each in values
    )


def _one_row(statement: str, values: Sequence[datetime | int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, list(values))
        if cursor.rowcount != 1:
            raise AssertionError(
                f"one row meant, {cursor.rowcount} changed: {statement.split()[1]}"
            )
