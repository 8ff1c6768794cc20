"""The demand charges of an item: flat by month, and by time of use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prewatt.adapters.tariffs.openei_urdb.calendar import (
    HOURS,
    MONTHS,
    BandKey,
    Grid,
    read_grid,
)
from prewatt.adapters.tariffs.openei_urdb.conventions import Conventions
from prewatt.adapters.tariffs.openei_urdb.reading import (
    UrdbRefused,
    holds_nothing,
    number,
    position,
    sequence,
)
from prewatt.adapters.tariffs.openei_urdb.tiers import read_demand_prices, refuse_other_unit
from prewatt.core.tariff.model import Demand

NO_PERIOD: Final = -1
_INTERVALS: Final = (5, 10, 15, 30, 60)
_MOST: Final = 16
_FLAT: Final = "flatdemandstructure"
_BY_TIME: Final = "demandratestructure"
_NOWHERE: Final = ((NO_PERIOD,) * HOURS,) * MONTHS


@dataclass(frozen=True, slots=True)
class DemandPart:
    """Prices in nano-units per kW of the flat and the time-of-use periods, and where each holds:
    positions, or `NO_PERIOD` where demand costs nothing.
    """

    flat_prices: tuple[int, ...]
    prices: tuple[int, ...]
    interval_minutes: int
    flat: tuple[int, ...]
    weekday: Grid
    weekend: Grid

    @property
    def is_empty(self) -> bool:
        """Whether demand costs nothing at any time."""
        return not any(self.flat_prices) and not any(self.prices)


def read_demand(item: Mapping[str, object], conventions: Conventions) -> DemandPart:
    """What an item charges for demand."""
    for key in ("flatdemandunit", "demandrateunit"):
        refuse_other_unit(item.get(key), key)
    flat_prices = _prices(item, _FLAT, "flatdemandmonths")
    prices = _prices(item, _BY_TIME, "demandweekdayschedule", "demandweekendschedule")
    flat = _flat_months(item, len(flat_prices)) if flat_prices else (NO_PERIOD,) * MONTHS
    weekday, weekend = (
        read_grid(item, key, len(prices)) if prices else _NOWHERE
        for key in ("demandweekdayschedule", "demandweekendschedule")
    )
    return DemandPart(
        flat_prices,
        prices,
        _interval_minutes(item, conventions),
        _priced(flat, flat_prices),
        tuple(_priced(row, prices) for row in weekday),
        tuple(_priced(row, prices) for row in weekend),
    )


def demands_of(part: DemandPart, bands: Mapping[BandKey, int]) -> tuple[Demand, ...]:
    """One demand charge for each period with a price, counted in the bands beside which it holds.

    Flat periods of one price are one charge: a month lies in one of them as a whole.
    """
    charges: dict[str, tuple[str, int, set[int]]] = {}
    for key, band in bands.items():
        if key.flat != NO_PERIOD:
            price = part.flat_prices[key.flat]
            first = part.flat_prices.index(price)
            named = (f"flat-{first + 1:02d}", f"Demand {first + 1}", price)
            charges.setdefault(named[0], (*named[1:], set()))[2].add(band)
        if key.time_of_use != NO_PERIOD:
            price = part.prices[key.time_of_use]
            number_ = key.time_of_use + 1
            named = (f"peak-{number_:02d}", f"Demand in period {number_}", price)
            charges.setdefault(named[0], (*named[1:], set()))[2].add(band)
    if len(charges) > _MOST:
        raise UrdbRefused(_BY_TIME, f"makes {len(charges)} demand charges, more than {_MOST}")
    return tuple(
        Demand(
            code=code,
            label=label,
            price_nano_per_kw=price,
            interval_minutes=part.interval_minutes,
            bands=tuple(sorted(in_bands)) if len(in_bands) < len(bands) else (),
        )
        for code, (label, price, in_bands) in sorted(charges.items())
    )


def _prices(item: Mapping[str, object], structure: str, *schedules: str) -> tuple[int, ...]:
    if not holds_nothing(item.get(structure)):
        return read_demand_prices(item[structure], structure)
    for key in schedules:
        if not holds_nothing(item.get(key)):
            raise UrdbRefused(key, f"needs {structure}, which is missing")
    return ()


def _flat_months(item: Mapping[str, object], size: int) -> tuple[int, ...]:
    key = "flatdemandmonths"
    months = sequence(item.get(key), key, MONTHS)
    return tuple(position(each, f"{key}[{month}]", size) for month, each in enumerate(months))


def _priced(periods: tuple[int, ...], prices: tuple[int, ...]) -> tuple[int, ...]:
    """The periods, where a price of 0 is as good as none."""
    return tuple(NO_PERIOD if each == NO_PERIOD or not prices[each] else each for each in periods)


def _interval_minutes(item: Mapping[str, object], conventions: Conventions) -> int:
    key = "demandwindow"
    if holds_nothing(item.get(key)):
        return conventions.demand_minutes
    minutes = number(item[key], key)
    if minutes not in _INTERVALS:
        known = ", ".join(map(str, _INTERVALS))
        raise UrdbRefused(key, f"must be one of {known} minutes")
    return int(minutes)
