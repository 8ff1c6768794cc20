"""The tiers of a period: limits in Wh and prices in nano-units, both exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from prewatt.adapters.tariffs.openei_urdb.reading import (
    UrdbRefused,
    entry,
    holds_nothing,
    number,
    sequence,
    shown,
)
from prewatt.core.tariff.model import MAX_STEPS
from prewatt.core.tariff.words import MAX_ENERGY_WH, MAX_PRICE_NANO, NANO

_TIER: Final = frozenset({"rate", "adj", "max", "unit", "sell"})
_DEMAND_TIER: Final = frozenset({"rate", "adj", "max", "unit"})
_PER_DAY: Final = {"kwh": False, "kwh daily": True}
_WH_PER_KWH: Final = 1000


@dataclass(frozen=True, slots=True)
class Tiers:
    """One period: a price for each tier, and the upper limits in Wh of all tiers but the last.

    `per_day`: the limits are for each day of the month.
    """

    limits_wh: tuple[int, ...]
    prices_nano_per_kwh: tuple[int, ...]
    per_day: bool


def read_tiers(value: object, place: str) -> tuple[Tiers, ...]:
    """The periods of `energyratestructure`."""
    return tuple(
        _period(period, f"{place}[{index}]") for index, period in enumerate(sequence(value, place))
    )


def read_demand_prices(value: object, place: str) -> tuple[int, ...]:
    """The price in nano-units per kW of each period of a demand structure, which has one tier."""
    prices = []
    for index, period in enumerate(sequence(value, place)):
        here = f"{place}[{index}]"
        tiers = sequence(period, here)
        if len(tiers) > 1:
            raise UrdbRefused(here, "has tiers by kW, and Prewatt has one price per kW")
        tier = entry(tiers[0], f"{here}[0]", _DEMAND_TIER)
        if not holds_nothing(tier.get("max")):
            raise UrdbRefused(f"{here}[0].max", "ends the only tier: what lies above has no price")
        refuse_other_unit(tier.get("unit"), f"{here}[0].unit")
        prices.append(_price(tier, f"{here}[0]"))
    return tuple(prices)


def refuse_other_unit(value: object, place: str) -> None:
    """Refuse a demand unit other than kW."""
    if not holds_nothing(value) and value != "kW":
        raise UrdbRefused(place, f"is {shown(value)}, and Prewatt bills demand by kW")


def price_nano(amount: Fraction, place: str) -> int:
    """An amount of the currency as nano-units, half to even."""
    nano = round(amount * NANO)
    if nano < 0:
        raise UrdbRefused(place, "comes to less than 0, and Prewatt has no negative price")
    if nano > MAX_PRICE_NANO:
        raise UrdbRefused(place, "is beyond any price")
    return nano


def _period(value: object, place: str) -> Tiers:
    items = sequence(value, place)
    if len(items) > MAX_STEPS:
        raise UrdbRefused(place, f"has {len(items)} tiers, more than {MAX_STEPS}")
    tiers = [entry(item, f"{place}[{index}]", _TIER) for index, item in enumerate(items)]
    for index, tier in enumerate(tiers):
        if not holds_nothing(tier.get("sell")) and number(tier["sell"], f"{place}[{index}].sell"):
            raise UrdbRefused(
                f"{place}[{index}].sell", "is a price for export, which is not billed"
            )
    limits = _limits(tiers, place)
    units = {_per_day(tier, f"{place}[{index}]") for index, tier in enumerate(tiers)} - {None}
    if len(units) > 1:
        raise UrdbRefused(place, "has tiers in kWh and in kWh daily")
    if limits and not units:
        raise UrdbRefused(place, "has limits without a unit")
    prices = tuple(_price(tier, f"{place}[{index}]") for index, tier in enumerate(tiers))
    return Tiers(limits, prices, True in units)


def _limits(tiers: list[Mapping[str, object]], place: str) -> tuple[int, ...]:
    limits: list[int] = []
    for index, tier in enumerate(tiers):
        here = f"{place}[{index}].max"
        ends = not holds_nothing(tier.get("max"))
        if index == len(tiers) - 1:
            if ends:
                raise UrdbRefused(here, "ends the last tier: what lies above has no price")
            break
        if not ends:
            raise UrdbRefused(f"{place}[{index}]", "lacks max, and a tier follows")
        wh = number(tier["max"], here) * _WH_PER_KWH
        if wh.denominator != 1:
            raise UrdbRefused(here, f"{shown(tier['max'])} kWh is not a whole number of Wh")
        if not (limits[-1] if limits else 0) < wh <= MAX_ENERGY_WH:
            raise UrdbRefused(here, "must be more than the limit before it, and a sensible one")
        limits.append(int(wh))
    return tuple(limits)


def _per_day(tier: Mapping[str, object], place: str) -> bool | None:
    """Whether a tier's limit is per day, or None where it has no unit."""
    unit = tier.get("unit")
    if holds_nothing(unit):
        return None
    if not isinstance(unit, str) or unit.lower() not in _PER_DAY:
        raise UrdbRefused(f"{place}.unit", f"is {shown(unit)}, and Prewatt knows kWh and kWh daily")
    return _PER_DAY[unit.lower()]


def _price(tier: Mapping[str, object], place: str) -> int:
    if holds_nothing(tier.get("rate")):
        raise UrdbRefused(place, "lacks rate")
    price = number(tier["rate"], f"{place}.rate")
    if not holds_nothing(tier.get("adj")):
        price += number(tier["adj"], f"{place}.adj")
    return price_nano(price, f"{place}.rate")
