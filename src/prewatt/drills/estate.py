"""The property of a drill: so many flats in one house, each with a tenant, an account and a meter.

Most meters are behind: they live through past weeks at great speed, so that bands, days and postings pass by
within minutes; every other one of them stands behind a concentrator. Some are of now, on accounts that hold
little: they are warned, cut and connected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from prewatt.drills.plan import tariff_document

OPENING_BALANCE: Final = "20"
#: Of an account of now: a few seconds of its load.
LOW_BALANCE: Final = "0.05"
CONCENTRATOR: Final = "DRILL-DTU"


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
    from prewatt.sim.plain_estate import PlainMeter, make_plain_estate

    made = make_plain_estate(
        [
            PlainMeter(
                each.serial,
                each.opening_wh,
                LOW_BALANCE if each.is_live else OPENING_BALANCE,
                concentrator=CONCENTRATOR if each.is_gathered else "",
            )
            for each in places
        ],
        name="Drill",
        tariff=tariff_document(),
        opened_at=opened_at,
        now=now,
    )
    return Estate(
        made.property_id,
        tuple(
            replace(each, meter_id=meter_id, account_id=account_id)
            for each in places
            for meter_id, account_id in (made.meters[each.serial],)
        ),
    )
