"""The property of a scenario: a flat, a tenant and an account for each meter, by the import that every property comes by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from prewatt.core.civil_time import instant_us
from prewatt.core.money import MICRO
from prewatt.scenarios.population import POOR_LOAD_W, VirtualMeter
from prewatt.signing.es256 import ES256PrivateKey

_PRICE: Final = "0.30"
PRICE_NANO: Final = 300_000_000
"""The same for each kWh, as a meter that holds its credit counts."""
#: What a poor meter uses in a second, in micro-units: 60 kW at that price.
POOR_MICRO_PER_S: Final = POOR_LOAD_W * 30 * MICRO // (100 * 1_000 * 3_600)
_OPENING: Final = "50"
_DRIVERS: Final = {
    "mqtt": "mqtt_senml",
    "concentrator": "mqtt_senml",
    "lwm2m": "lwm2m",
    "lorawan": "lorawan",
}
_TARIFF: Final[dict[str, Any]] = {
    "format": "prewatt-tariff/1",
    "name": "One price",
    "currency": "EUR",
    "energy": {"unit": "kWh", "bands": {"all": {"price": _PRICE}}},
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
    from prewatt.sim.plain_estate import PlainMeter, make_plain_estate

    cents = max(1, poor_micro // (MICRO // 100))
    poor = f"{cents // 100}.{cents % 100:02}"
    made = make_plain_estate(
        [
            PlainMeter(
                each.serial,
                each.opening_wh,
                poor if each.is_poor else _OPENING,
                concentrator=each.concentrator,
                model="ws52x" if each.radio == "lorawan" else "Prewatt simulator",
                driver=_DRIVERS[each.radio],
                max_power_w=200_000,
                expected_period_s=max(60, each.period_s),
                instruction_key=public_key(each.secret) if each.secret else b"",
                holds_credit=each.holds_credit,
            )
            for each in meters
        ],
        name="Scenario",
        tariff=_TARIFF,
        opened_at=opened_at,
        now=now,
    )
    return Estate(made.property_id, instant_us(opened_at), dict(made.meters))


def make_elsewhere(serial: str, secret: str, *, opened_at: datetime, now: datetime) -> None:
    """Another property of the installation with one meter, which signs: whoever has stolen it is a device of ours."""
    from prewatt.sim.plain_estate import PlainMeter, make_plain_estate

    make_plain_estate(
        [PlainMeter(serial, 0, _OPENING, instruction_key=public_key(secret))],
        name="Elsewhere",
        tariff=_TARIFF,
        opened_at=opened_at,
        now=now,
    )


def public_key(secret: str) -> bytes:
    """The public half of a meter's instruction key (SubjectPublicKeyInfo)."""
    return ES256PrivateKey.from_scalar(bytes.fromhex(secret)).spki


def rights(meters: Sequence[VirtualMeter]) -> dict[str, list[str]]:
    """Which meters each concentrator speaks for."""
    found: dict[str, list[str]] = defaultdict(list)
    for meter in meters:
        if meter.concentrator:
            found[meter.concentrator].append(meter.serial)
    return dict(found)
