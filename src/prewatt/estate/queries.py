"""What others ask about the estate. Every query opens its own scope and returns plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.estate.models import Property


@dataclass(frozen=True, slots=True)
class MeterPlace:
    """Where a meter belongs. ``account_id`` is None for a meter that nobody pays by, as a feeder's."""

    meter_id: int
    property_id: int
    account_id: int | None


@dataclass(frozen=True, slots=True)
class UnitPlace:
    """A unit in the order of the façade board, with who pays there at the instant asked about."""

    unit_id: int
    building_id: int
    building: str
    code: str
    floor: int
    kind: str
    account_id: int | None
    vacant: bool


@dataclass(frozen=True, slots=True)
class TenancyAt:
    """The tenancy of a unit at an instant; ``ends_at`` is None while it is open."""

    tenancy_id: int
    customer_id: int
    customer: str
    account_id: int
    begins_at: datetime
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class ConcentratorNow:
    """A concentrator, when it was last heard, and the serial numbers that it may speak for now."""

    serial: str
    name: str
    last_seen_at: datetime | None
    meters: tuple[str, ...]


def concentrators(*, actor: Actor, property_id: int) -> list[ConcentratorNow]:
    """The concentrators of a property, by serial number, with the rights that have no end."""
    require(actor, "meters.read", property_id=property_id)
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """SELECT c.serial, c.name, c.last_seen_at,
                      coalesce(array_agg(m.serial ORDER BY m.serial)
                               FILTER (WHERE m.id IS NOT NULL), '{}')
               FROM concentrator c
               LEFT JOIN concentrator_meter k ON k.concentrator_id = c.id AND upper_inf(k.period)
               LEFT JOIN meter m ON m.id = k.meter_id
               WHERE c.property_id = %s GROUP BY c.id ORDER BY c.serial""",
            [property_id],
        )
        return [
            ConcentratorNow(serial, name, seen_at, tuple(meters))
            for serial, name, seen_at, meters in cursor.fetchall()
        ]


def meters_by_serial(
    *, actor: Actor, serials: Sequence[str], at: datetime
) -> dict[str, MeterPlace]:
    """The meters among ``serials`` that exist in scope, with the account that pays at ``at``."""
    require(actor, "meters.read")
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """SELECT m.serial, m.id, m.property_id, a.account_id
               FROM meter m
               LEFT JOIN meter_assignment a ON a.meter_id = m.id AND a.period @> %s::timestamptz
               WHERE m.serial = ANY(%s)""",
            [at, list(serials)],
        )
        return {row[0]: MeterPlace(*row[1:]) for row in cursor.fetchall()}


def properties(*, actor: Actor) -> list[Property]:
    """The properties in scope, by code, with organisation and legal entity loaded."""
    require(actor, "estate.read")
    with scope(actor):
        related = Property.objects.select_related("organisation", "legal_entity")
        return list(related.order_by("code"))


def units_in_order(*, actor: Actor, property_id: int, at: datetime) -> list[UnitPlace]:
    """All units of a property: building by building, floor by floor, along the corridor."""
    require(actor, "meters.read", property_id=property_id)
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(_UNITS, [at, property_id])
        return [UnitPlace(*row) for row in cursor.fetchall()]


_UNITS = """
SELECT u.id, b.id, b.code, u.code, u.floor, u.kind,
       coalesce(t.account_id, v.id), t.account_id IS NULL
FROM unit u
JOIN building b ON b.id = u.building_id
LEFT JOIN tenancy t ON t.unit_id = u.id AND t.period @> %s::timestamptz
LEFT JOIN account v ON v.unit_id = u.id AND v.kind = 'vacancy'
WHERE u.property_id = %s
ORDER BY b.position, b.code, u.floor, u.position, u.code
"""


def tenancy_of_unit(*, actor: Actor, unit_id: int, at: datetime) -> TenancyAt | None:
    """Who lives there at an instant, or None while the unit is vacant."""
    require(actor, "accounts.read")
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """SELECT t.id, t.customer_id, c.name, t.account_id, lower(t.period), upper(t.period)
               FROM tenancy t JOIN customer c ON c.id = t.customer_id
               WHERE t.unit_id = %s AND t.period @> %s::timestamptz""",
            [unit_id, at],
        )
        row = cursor.fetchone()
    return None if row is None else TenancyAt(*row)
