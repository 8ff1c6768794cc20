"""The property of a scenario: a flat, a tenant and an account for each meter, by the import that every property comes by."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from prewatt.core.civil_time import instant_us
from prewatt.core.money import MICRO
from prewatt.scenarios.population import POOR_LOAD_W, VirtualMeter

TIME_ZONE: Final = "Europe/Berlin"
_PRICE: Final = "0.30"
#: What a poor meter uses in a second, in micro-units: 60 kW at that price.
POOR_MICRO_PER_S: Final = POOR_LOAD_W * 30 * MICRO // (100 * 1_000 * 3_600)
_OPENING: Final = "50"
_DRIVERS: Final = {
    "mqtt": "mqtt_senml",
    "concentrator": "mqtt_senml",
    "lwm2m": "lwm2m",
    "lorawan": "lorawan",
}
_POLICY: Final[dict[str, Any]] = {
    "freshness_s": 600,
    "notice_s": 0,
    "window": {"opens_min": 0, "closes_min": 1440, "weekdays": [0, 1, 2, 3, 4, 5, 6]},
    "brake": {"window_s": 60, "cuts_max": 1_000, "share_bp": 10_000},
}


@dataclass(frozen=True, slots=True)
class Estate:
    """The property, and each meter's id and account by its serial number."""

    property_id: int
    opened_us: int
    meters: dict[str, tuple[int, int]]


def make_estate(
    meters: Sequence[VirtualMeter], *, poor_micro: int, opened_at: datetime, now: datetime
) -> Estate:
    """Import the property and register its concentrators; as the owner of the database.

    ``poor_micro`` is what the accounts of the poor begin with.
    """
    from django.db import connection

    from prewatt.access.scope import system_actor
    from prewatt.estate.sheets import PropertySheets
    from prewatt.moves.concentrators import put_behind, register_concentrator
    from prewatt.moves.onboarding import import_property
    from prewatt.supply.operations import set_policy

    property_id = import_property(
        actor=system_actor("scenario"),
        sheets=PropertySheets.of(_tables(meters, poor_micro, opened_at)),
        now=now,
    ).property_id
    actor = system_actor("scenario", (property_id,))
    set_policy(actor=actor, property_id=property_id, body=_POLICY, now=now)
    for concentrator, behind in _behind(meters).items():
        register_concentrator(actor=actor, property_id=property_id, serial=concentrator, now=now)
        put_behind(
            actor=actor,
            property_id=property_id,
            serial=concentrator,
            meters=behind,
            at=opened_at,
            now=now,
        )
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT m.serial, m.id, a.account_id FROM meter m
               JOIN meter_assignment a ON a.meter_id = m.id WHERE m.property_id = %s""",
            [property_id],
        )
        ids = {str(serial): (int(meter), int(account)) for serial, meter, account in cursor}
    return Estate(property_id, instant_us(opened_at), ids)


def rights(meters: Sequence[VirtualMeter]) -> dict[str, list[str]]:
    """Which meters each concentrator speaks for."""
    return _behind(meters)


def _behind(meters: Sequence[VirtualMeter]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for meter in meters:
        if meter.concentrator:
            found[meter.concentrator].append(meter.serial)
    return dict(found)


def _tariff() -> str:
    return json.dumps(
        {
            "format": "prewatt-tariff/1",
            "name": "One price",
            "currency": "EUR",
            "energy": {
                "unit": "kWh",
                "bands": {"all": {"price": _PRICE}},
                "day_classes": {"every": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]},
                "schedule": [
                    {
                        "days": "every",
                        "periods": [{"from": "00:00", "until": "24:00", "band": "all"}],
                    }
                ],
            },
        }
    )


def _tables(
    meters: Sequence[VirtualMeter], poor_micro: int, opened_at: datetime
) -> dict[str, list[dict[str, Any]]]:
    opened = opened_at.isoformat()
    cents = max(1, poor_micro // (MICRO // 100))
    poor = f"{cents // 100}.{cents % 100:02}"
    return {
        "property": [
            {
                "organisation": "Scenario", "legal_entity": "Scenario", "tax_number": "",
                "code": "scenario", "name": "Scenario", "currency": "EUR", "minor_digits": 2,
                "time_zone": TIME_ZONE, "holiday_calendar": "", "language": "en",
                "default_tariff": "one",
            }
        ],
        "tariffs": [
            {
                "code": "one", "name": "One price", "document": _tariff(), "valid_from": opened,
                "approved_by": "scenario:somebody-else",
            }
        ],
        "buildings": [{"code": "A", "name": "Field", "position": 0}],
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
                "serial": m.serial, "metering_point": m.serial,
                "model": "ws52x" if m.radio == "lorawan" else "Prewatt simulator",
                "driver": _DRIVERS[m.radio], "multiplier": 1, "modulus_wh": 1_000_000_000,
                "max_power_w": 200_000, "has_relay": "yes",
                "expected_period_s": max(60, m.period_s), "installed_at": opened,
                "opening_wh": m.opening_wh,
            }
            for m in meters
        ],
        "customers": [
            {"code": m.serial, "name": f"Tenant of {m.serial}", "email": "tenant@scenario.example",
             "phone": "", "language": "en"}
            for m in meters
        ],
        "accounts": [
            {
                "number": m.serial, "kind": "customer", "customer": m.serial, "tariff": "one",
                "opening_balance": poor if m.is_poor else _OPENING,
                "emergency_credit": "0", "protection": "",
            }
            for m in meters
        ],
        "tenancies": [
            {"building": "A", "unit": m.serial, "customer": m.serial, "account": m.serial,
             "begins_at": opened}
            for m in meters
        ],
    }  # fmt: skip
