"""The property of a drill: so many flats in one house, each with a tenant, an account and a meter.

Most meters are behind: they live through past weeks at great speed, so that bands, days and postings pass by
within minutes; every other one of them stands behind a concentrator. Some are of now, on accounts that hold
little: they are warned, cut and connected.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from prewatt.drills.plan import CURRENCY, TIME_ZONE, tariff_document

OPENING_BALANCE: Final = "20"
#: Of an account of now: a few seconds of its load.
LOW_BALANCE: Final = "0.05"
CONCENTRATOR: Final = "DRILL-DTU"

POLICY: Final[dict[str, Any]] = {
    "freshness_s": 600,
    "notice_s": 0,
    "window": {"opens_min": 0, "closes_min": 1440, "weekdays": [0, 1, 2, 3, 4, 5, 6]},
    "brake": {"window_s": 60, "cuts_max": 1_000, "share_bp": 10_000},
}


@dataclass(frozen=True, slots=True)
class Place:
    """One flat: its meter, its account once that exists, and whether its meter is of now.

    ``is_gathered``: its meter stands behind the concentrator.
    """

    serial: str
    opening_wh: int
    is_live: bool
    is_gathered: bool = False
    meter_id: int = 0
    account_id: int = 0


@dataclass(frozen=True, slots=True)
class Estate:
    """The property and its places."""

    property_id: int
    places: tuple[Place, ...]


def places_of(*, behind: int, live: int) -> list[Place]:
    """So many places with meters that are behind, then those of now."""
    return [
        Place(
            f"DRILL{number:04}",
            1_000_000 + number * 7_919,
            is_live=number >= behind,
            is_gathered=number < behind and number % 2 == 1,
        )
        for number in range(behind + live)
    ]


def make_estate(places: list[Place], *, opened_at: datetime, now: datetime) -> Estate:
    """Import the property through the operation that every property comes by; as the owner."""
    from django.db import connection

    from prewatt.access.scope import system_actor
    from prewatt.estate.sheets import PropertySheets
    from prewatt.moves.concentrators import put_behind, register_concentrator
    from prewatt.moves.onboarding import import_property
    from prewatt.supply.operations import set_policy

    property_id = import_property(
        actor=system_actor("drill"),
        sheets=PropertySheets.of(_tables(places, opened_at)),
        now=now,
    ).property_id
    actor = system_actor("drill", (property_id,))
    set_policy(actor=actor, property_id=property_id, body=POLICY, now=now)
    register_concentrator(actor=actor, property_id=property_id, serial=CONCENTRATOR, now=now)
    put_behind(
        actor=actor,
        property_id=property_id,
        serial=CONCENTRATOR,
        meters=[place.serial for place in places if place.is_gathered],
        at=opened_at,
        now=now,
    )
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT m.serial, m.id, a.account_id FROM meter m
               JOIN meter_assignment a ON a.meter_id = m.id WHERE m.property_id = %s""",
            [property_id],
        )
        ids: Mapping[str, tuple[int, int]] = {
            str(serial): (int(meter_id), int(account_id))
            for serial, meter_id, account_id in cursor.fetchall()
        }
    made = tuple(
        Place(
            **asdict(place) | {"meter_id": ids[place.serial][0], "account_id": ids[place.serial][1]}
        )
        for place in places
    )
    return Estate(property_id, made)


def _tables(places: list[Place], opened_at: datetime) -> dict[str, list[dict[str, Any]]]:
    opened = opened_at.isoformat()
    return {
        "property": [
            {
                "organisation": "Drill", "legal_entity": "Drill", "tax_number": "", "code": "drill",
                "name": "Drill", "currency": CURRENCY, "minor_digits": 2, "time_zone": TIME_ZONE,
                "holiday_calendar": "", "language": "en", "default_tariff": "bands",
            }
        ],
        "tariffs": [
            {
                "code": "bands", "name": "Three bands", "document": json.dumps(tariff_document()),
                "valid_from": opened, "approved_by": "drill:somebody-else",
            }
        ],
        "buildings": [{"code": "A", "name": "House", "position": 0}],
        "units": [
            {"building": "A", "code": p.serial, "floor": 0, "position": at, "kind": "flat"}
            for at, p in enumerate(places)
        ],
        "metering_points": [
            {"code": p.serial, "building": "A", "unit": p.serial, "role": "supply", "source": "grid"}
            for p in places
        ],
        "meters": [
            {
                "serial": p.serial, "metering_point": p.serial, "model": "Prewatt simulator",
                "driver": "mqtt_senml", "multiplier": 1, "modulus_wh": 1_000_000_000,
                "max_power_w": 100_000, "has_relay": "yes", "expected_period_s": 900,
                "installed_at": opened, "opening_wh": p.opening_wh,
            }
            for p in places
        ],
        "customers": [
            {"code": p.serial, "name": f"Tenant of {p.serial}", "email": "tenant@drill.example",
             "phone": "", "language": "en"}
            for p in places
        ],
        "accounts": [
            {
                "number": p.serial, "kind": "customer", "customer": p.serial, "tariff": "bands",
                "opening_balance": LOW_BALANCE if p.is_live else OPENING_BALANCE,
                "emergency_credit": "0", "protection": "",
            }
            for p in places
        ],
        "tenancies": [
            {"building": "A", "unit": p.serial, "customer": p.serial, "account": p.serial,
             "begins_at": opened}
            for p in places
        ],
    }  # fmt: skip
