"""A made-up property for drills and scenarios: a flat, a tenant and an account for each meter of a field.

It comes by the import that every property comes by, and its rules cut at once and at any hour.
"""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection

from prewatt.access.scope import Actor, system_actor
from prewatt.estate.sheets import PropertySheets
from prewatt.instructions.wallets import hold_credit
from prewatt.moves.concentrators import put_behind, register_concentrator
from prewatt.moves.onboarding import import_property
from prewatt.supply.operations import set_policy

TIME_ZONE: Final = "Europe/Berlin"
CURRENCY: Final = "EUR"

_POLICY: Final[dict[str, Any]] = {
    "freshness_s": 600,
    "notice_s": 0,
    "window": {"opens_min": 0, "closes_min": 1440, "weekdays": [0, 1, 2, 3, 4, 5, 6]},
    "brake": {"window_s": 60, "cuts_max": 1_000, "share_bp": 10_000},
}


@dataclass(frozen=True, slots=True)
class PlainMeter:
    """A meter and what its account begins with, in units of the currency; ``concentrator`` is empty without one."""

    serial: str
    opening_wh: int
    opening_balance: str
    concentrator: str = ""
    model: str = "Prewatt simulator"
    driver: str = "mqtt_senml"
    max_power_w: int = 100_000
    expected_period_s: int = 900
    #: By which its answers are believed (SubjectPublicKeyInfo), of one that signs; and whether it holds its credit.
    instruction_key: bytes = b""
    holds_credit: bool = False


@dataclass(frozen=True, slots=True)
class PlainEstate:
    """The property, and by serial number each meter's id and that of the account that pays for it."""

    property_id: int
    meters: Mapping[str, tuple[int, int]]


def make_plain_estate(
    meters: Sequence[PlainMeter],
    *,
    name: str,
    tariff: Mapping[str, Any],
    opened_at: datetime,
    now: datetime,
) -> PlainEstate:
    """Import the property ``name``, whose accounts are all on ``tariff``, and register its concentrators; as the owner."""
    code = name.lower()
    property_id = import_property(
        actor=system_actor(code),
        sheets=PropertySheets.of(_tables(meters, name, tariff, opened_at.isoformat())),
        now=now,
    ).property_id
    actor = system_actor(code, (property_id,))
    set_policy(actor=actor, property_id=property_id, body=_POLICY, now=now)
    _gather(actor, property_id, meters, opened_at, now)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT m.serial, m.id, a.account_id FROM meter m
               JOIN meter_assignment a ON a.meter_id = m.id WHERE m.property_id = %s""",
            [property_id],
        )
        ids = {str(serial): (int(meter), int(account)) for serial, meter, account in cursor}
    for each in meters:
        if each.holds_credit:
            meter_id, account_id = ids[each.serial]
            hold_credit(
                actor=actor, property_id=property_id, meter_id=meter_id, account_id=account_id, now=now
            )  # fmt: skip
    return PlainEstate(property_id, ids)


def _gather(
    actor: Actor, property_id: int, meters: Sequence[PlainMeter], at: datetime, now: datetime
) -> None:
    behind: dict[str, list[str]] = defaultdict(list)
    for meter in meters:
        if meter.concentrator:
            behind[meter.concentrator].append(meter.serial)
    for serial, own in behind.items():
        register_concentrator(actor=actor, property_id=property_id, serial=serial, now=now)
        put_behind(actor=actor, property_id=property_id, serial=serial, meters=own, at=at, now=now)


def _tables(
    meters: Sequence[PlainMeter], name: str, tariff: Mapping[str, Any], opened: str
) -> dict[str, list[dict[str, Any]]]:
    return {
        "property": [
            {
                "organisation": name, "legal_entity": name, "tax_number": "", "code": name.lower(),
                "name": name, "currency": CURRENCY, "minor_digits": 2, "time_zone": TIME_ZONE,
                "holiday_calendar": "", "language": "en", "default_tariff": "one",
            }
        ],
        "tariffs": [
            {
                "code": "one", "name": str(tariff["name"]), "document": json.dumps(tariff),
                "valid_from": opened, "approved_by": f"{name.lower()}:somebody-else",
            }
        ],
        "buildings": [{"code": "A", "name": "House", "position": 0}],
        "units": [
            {"building": "A", "code": m.serial, "floor": 0, "position": at, "kind": "flat"}
            for at, m in enumerate(meters)
        ],
        "metering_points": [
            {"code": m.serial, "building": "A", "unit": m.serial, "role": "supply", "source": "grid"}
            for m in meters
        ],
        "meters": [
            {
                "serial": m.serial, "metering_point": m.serial, "model": m.model, "driver": m.driver,
                "multiplier": 1, "modulus_wh": 1_000_000_000, "max_power_w": m.max_power_w,
                "has_relay": "yes", "expected_period_s": m.expected_period_s,
                "installed_at": opened, "opening_wh": m.opening_wh,
                "instruction_key": base64.b64encode(m.instruction_key).decode(),
            }
            for m in meters
        ],
        "customers": [
            {"code": m.serial, "name": f"Tenant of {m.serial}", "phone": "", "language": "en",
             "email": f"tenant@{name.lower()}.example"}
            for m in meters
        ],
        "accounts": [
            {
                "number": m.serial, "kind": "customer", "customer": m.serial, "tariff": "one",
                "opening_balance": m.opening_balance, "emergency_credit": "0", "protection": "",
            }
            for m in meters
        ],
        "tenancies": [
            {"building": "A", "unit": m.serial, "customer": m.serial, "account": m.serial,
             "begins_at": opened}
            for m in meters
        ],
    }  # fmt: skip
