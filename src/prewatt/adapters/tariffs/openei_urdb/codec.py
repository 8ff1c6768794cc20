"""From a URDB item to a checked tariff, or a refusal of what it holds and Prewatt cannot honour.

Everything an item says is either read into the tariff, known to change no price, settled by the
conventions and noted, or refused with its place. Nothing is left out in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from fractions import Fraction
from typing import Final

from prewatt.adapters.tariffs.openei_urdb import fields
from prewatt.adapters.tariffs.openei_urdb.calendar import (
    MONTHS,
    BandKey,
    MonthKeys,
    month_limits,
    months_text,
    read_grid,
    schedules_of,
    seasons_of,
)
from prewatt.adapters.tariffs.openei_urdb.conventions import PYSAM_CONVENTIONS, Conventions
from prewatt.adapters.tariffs.openei_urdb.demand import demands_of, read_demand
from prewatt.adapters.tariffs.openei_urdb.reading import (
    UrdbRefused,
    holds_nothing,
    number,
    one_line,
    shown,
)
from prewatt.adapters.tariffs.openei_urdb.tiers import Tiers, price_nano, read_tiers
from prewatt.core.tariff import TariffRefused, parse_tariff, to_document
from prewatt.core.tariff.model import (
    MAX_BANDS,
    Band,
    Bound,
    DatedCharge,
    DatedKind,
    Per,
    Scale,
    Steps,
    Tariff,
)
from prewatt.core.tariff.words import MAX_NAME, MAX_NOTE

_STRUCTURE: Final = "energyratestructure"
_COUNTRY: Final = "USA"


@dataclass(frozen=True, slots=True)
class UrdbTariff:
    """A tariff read from an item, and in words what the conventions settled for it."""

    tariff: Tariff
    notes: tuple[str, ...]


def is_item(document: object) -> bool:
    """Whether a JSON document is meant as a URDB item, or as the API's answer around items."""
    return isinstance(document, dict) and (_STRUCTURE in document or "items" in document)


def load_item(text: str | bytes, conventions: Conventions = PYSAM_CONVENTIONS) -> UrdbTariff:
    """Read JSON text: an item, or the API's answer `{"items": [...]}` with one item."""
    try:
        document = json.loads(text, parse_float=Decimal, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError, DecimalException) as error:
        if isinstance(error, UrdbRefused):
            raise
        raise UrdbRefused("item", "is not JSON") from error
    if isinstance(document, dict) and _STRUCTURE not in document and "items" in document:
        items = document["items"]
        if not isinstance(items, list) or len(items) != 1:
            raise UrdbRefused("items", "must be a list with exactly one item")
        document = items[0]
    return read_item(document, conventions)


def read_item(item: object, conventions: Conventions = PYSAM_CONVENTIONS) -> UrdbTariff:
    """The tariff of an item under the conventions, or `UrdbRefused` with the first fault."""
    if not isinstance(item, dict):
        raise UrdbRefused("item", "must be an object")
    notes = _refuse_unknown(item)
    if not holds_nothing(item.get("country")) and item["country"] != _COUNTRY:
        raise UrdbRefused("country", f"is {shown(item['country'])}: the currency is not known")
    periods = read_tiers(item.get(_STRUCTURE), _STRUCTURE)
    weekday = read_grid(item, "energyweekdayschedule", len(periods))
    weekend = read_grid(item, "energyweekendschedule", len(periods))
    demand = read_demand(item, conventions)
    if holds_nothing(item.get("demandwindow")) and not demand.is_empty:
        notes.append(f"demand is measured over {conventions.demand_minutes} minutes")
    limits = month_limits(weekday, weekend, periods)
    months = [
        MonthKeys(
            limits[month].limits_wh,
            _band_keys(weekday[month], limits[month], demand.flat[month], demand.weekday[month]),
            _band_keys(weekend[month], limits[month], demand.flat[month], demand.weekend[month]),
        )
        for month in range(MONTHS)
    ]
    seasons, holding = seasons_of(months)
    named = _named_bands(months)
    bands = {key: index for index, (key, _, _) in enumerate(named)}
    day_classes, schedules = schedules_of(holding, bands)
    minimum = _amount(item, "mincharge", "minchargeunits", conventions.minimum)
    notes.append(f"read by the {conventions.name} conventions")
    tariff = Tariff(
        name=one_line(item.get("name"), MAX_NAME) or "URDB item",
        currency=conventions.currency,
        bands=tuple(
            Band(name, label, periods[key.period].prices_nano_per_kwh) for key, name, label in named
        ),
        seasons=seasons,
        day_classes=day_classes,
        schedules=schedules,
        steps=_steps(limits, tuple(each.limits_wh for each in holding), conventions),
        dated=_fixed(item, conventions),
        minimum=Bound(*minimum) if minimum else None,
        demand=demands_of(demand, bands),
        note=one_line("; ".join(notes), MAX_NOTE),
        source=one_line(item.get("source"), MAX_NOTE),
    )
    return UrdbTariff(_checked(tariff), tuple(notes))


def _checked(tariff: Tariff) -> Tariff:
    """The tariff as the format itself accepts it, bounds of 64 bits included."""
    try:
        return parse_tariff(to_document(tariff))
    except TariffRefused as refused:
        raise UrdbRefused("item", f"makes no tariff: {refused}") from refused


def _refuse_unknown(item: Mapping[object, object]) -> list[str]:
    """What is to be said of the fields that are there; refuses those that cannot be honoured."""
    notes = []
    for key, value in item.items():
        if not isinstance(key, str):
            raise UrdbRefused("item", f"has the name {shown(key)}, which is no text")
        if holds_nothing(value) or key in fields.READ or key in fields.ABOUT:
            continue
        if key in fields.SAID:
            notes.append(f"{key}: {fields.SAID[key]}")
        elif key.lower() in fields.REFUSED:
            if not _is_zero(value):
                raise UrdbRefused(key, fields.REFUSED[key.lower()])
        else:
            raise UrdbRefused(one_line(key, 40) or "item", "is not a field that Prewatt knows")
    return notes


def _is_zero(value: object) -> bool:
    """Whether a refused field says nothing: false, 0, or a list of such."""
    if isinstance(value, list):
        return all(_is_zero(each) for each in value)
    return holds_nothing(value) or (isinstance(value, bool | int | float | Decimal) and not value)


def _named_bands(months: list[MonthKeys]) -> list[tuple[BandKey, str, str]]:
    """(band, its name, its label) in the order of the names.

    Periods are numbered from 1, as on the database's own pages; one that becomes several bands
    has a letter for each.
    """
    used: dict[BandKey, list[int]] = {}
    for month, keys in enumerate(months):
        for key in sorted({*keys.weekday, *keys.weekend}):
            used.setdefault(key, []).append(month)
    if len(used) > MAX_BANDS:
        raise UrdbRefused(_STRUCTURE, f"makes {len(used)} bands, more than {MAX_BANDS}")
    named = []
    for key in sorted(used):
        number_ = key.period + 1
        alike = [each for each in sorted(used) if each.period == key.period]
        name, label = f"p{number_:02d}", f"Period {number_}"
        if len(alike) > 1:
            name = f"{name}-{alike.index(key):02d}"
            label = f"{label}, {months_text(used[key])}"
        named.append((key, name, label))
    return sorted(named, key=lambda each: each[1])


def _steps(
    by_limits: list[Tiers], of_seasons: tuple[tuple[int, ...], ...], conventions: Conventions
) -> Steps | None:
    with_limits = [each for each in by_limits if each.limits_wh]
    if not with_limits:
        return None
    if len({each.per_day for each in with_limits}) > 1:
        raise UrdbRefused(_STRUCTURE, "has tiers in kWh in some months and in kWh daily in others")
    return Steps(
        kind=conventions.tier_kind,
        window=conventions.tier_window,
        scope=conventions.tier_scope,
        limits_wh=of_seasons,
        scale=Scale.DAYS if with_limits[0].per_day else Scale.NONE,
    )


def _fixed(item: Mapping[str, object], conventions: Conventions) -> tuple[DatedCharge, ...]:
    found = _amount(item, "fixedchargefirstmeter", "fixedchargeunits", conventions.fixed)
    if found is None:
        return ()
    return (DatedCharge(DatedKind.STANDING, "standing", "Fixed charge", *found),)


def _amount(
    item: Mapping[str, object],
    key: str,
    units_key: str,
    units: Mapping[str, tuple[Per, Fraction]],
) -> tuple[Per, int] | None:
    """A dated amount that is not 0, as the conventions turn its unit."""
    amount = Fraction(0) if holds_nothing(item.get(key)) else number(item[key], key)
    if amount == 0:
        return None
    unit = item.get(units_key)
    if not isinstance(unit, str) or unit not in units:
        raise UrdbRefused(units_key, f"is {shown(unit)}, not one of {', '.join(units)}")
    per, factor = units[unit]
    nano = price_nano(amount * factor, key)
    return (per, nano) if nano else None


def _band_keys(
    periods: tuple[int, ...], limits: Tiers, flat: int, demand: tuple[int, ...]
) -> tuple[BandKey, ...]:
    """The band of each hour of a day."""
    return tuple(
        BandKey(period, limits.limits_wh, flat, time_of_use)
        for period, time_of_use in zip(periods, demand, strict=True)
    )


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries: dict[str, object] = {}
    for key, value in pairs:
        if key in entries:
            raise UrdbRefused(one_line(key, 40) or "item", "is there twice in the same object")
        entries[key] = value
    return entries
