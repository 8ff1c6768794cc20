"""The energy part of a tariff: its bands with their prices, and the steps at which prices change.

Bands are read first, then the calendar (`parse_calendar`), then the steps, which are checked
against both: a price for every step in every season, and no charge beyond 64 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prewatt.core.bounds import INT64_MAX
from prewatt.core.tariff.model import (
    MAX_BANDS,
    MAX_STEPS,
    Band,
    DayClass,
    DaySchedule,
    OnTenantChange,
    Scale,
    Season,
    StepKind,
    Steps,
    StepScope,
    Window,
)
from prewatt.core.tariff.parse_calendar import day_classes_of, schedules_of, seasons_of
from prewatt.core.tariff.reading import (
    choice,
    entry_of,
    label,
    mapping,
    sequence,
    whole,
    word,
)
from prewatt.core.tariff.words import (
    DAYS_OF_GRID,
    MONTH_STARTS,
    TariffRefused,
    kwh_text,
    nano,
    positive_wh,
    watt_hours,
)

MAX_MEMBERS: Final = 10_000
MAX_CONTRACTED_W: Final = 10**12
"""The most that an account's terms can say."""
_COSTED_TIMES: Final = {
    Scale.NONE: 1,
    Scale.DAYS: 366,
    Scale.MEMBERS: 100,
    Scale.CONTRACTED_KW: 1_000_000,
}
"""At which scale what lies below the limits must have a price: a leap year, a hundred persons, a GW."""
_WH_NANO_PER_MICRO: Final = 1_000_000
_QUARTER_STARTS: Final = frozenset(MONTH_STARTS[::3])


@dataclass(frozen=True, slots=True)
class EnergyPart:
    """What `energy` says: the fields of `Tariff` with the same names."""

    bands: tuple[Band, ...]
    seasons: tuple[Season, ...]
    day_classes: tuple[DayClass, ...]
    schedules: tuple[DaySchedule, ...]
    steps: Steps | None


def energy_part(value: object, *, billing_day: int, year_from: int) -> EnergyPart:
    """Read and check `energy`; where windows begin matters for limits that differ by season."""
    energy = entry_of(
        value,
        "energy",
        needed={"unit", "bands"},
        optional={"seasons", "day_classes", "schedule", "steps"},
    )
    if energy["unit"] != "kWh":
        raise TariffRefused("energy.unit", "must be 'kWh', the only energy unit of this format")
    bands = _bands(energy["bands"])
    seasons, day_classes = seasons_of(energy), day_classes_of(energy)
    schedules = schedules_of(energy, bands, seasons, day_classes)
    part = EnergyPart(bands, seasons, day_classes, schedules, None)
    if "steps" not in energy:
        _refuse_step_prices(bands)
        return part
    steps = _steps(energy["steps"], bands, seasons)
    _check_prices(part, steps)
    _check_windows(steps, seasons, billing_day, year_from)
    _check_products(bands, steps)
    return EnergyPart(bands, seasons, day_classes, schedules, steps)


def _bands(value: object) -> tuple[Band, ...]:
    entries = mapping(value, "energy.bands")
    if not 1 <= len(entries) <= MAX_BANDS:
        raise TariffRefused("energy.bands", f"must name between 1 and {MAX_BANDS} bands")
    # Sorted by name, so that a band's position does not depend on the order a person wrote them
    # in.
    return tuple(_band(name, entries[name]) for name in sorted(entries))


def _band(name: str, value: object) -> Band:
    place = f"energy.bands.{word(name, 'energy.bands')}"
    entry = mapping(value, place)
    if {"price", "prices"} <= entry.keys():
        raise TariffRefused(place, "must have either 'price' or 'prices', not both")
    price_key = "prices" if "prices" in entry else "price"
    entry = entry_of(entry, place, needed={price_key}, optional={"label", "limits"})
    if price_key == "price":
        prices: tuple[int, ...] = (nano(entry["price"], f"{place}.price"),)
    else:
        items = sequence(entry["prices"], f"{place}.prices", most=MAX_STEPS)
        prices = tuple(nano(item, f"{place}.prices[{i}]") for i, item in enumerate(items))
    limits = _limits(entry["limits"], f"{place}.limits") if "limits" in entry else ()
    if "limits" in entry and not limits:
        raise TariffRefused(f"{place}.limits", "must be a list with at least one entry")
    return Band(name, label(entry, place, name), prices, limits)


def _refuse_step_prices(bands: Sequence[Band]) -> None:
    for band in bands:
        if len(band.prices_nano_per_kwh) > 1:
            raise TariffRefused(
                f"energy.bands.{band.name}.prices",
                "has several prices, but energy.steps is missing",
            )
        if band.limits_wh:
            raise TariffRefused(
                f"energy.bands.{band.name}.limits", "has limits, but energy.steps is missing"
            )


def _steps(value: object, bands: Sequence[Band], seasons: Sequence[Season]) -> Steps:
    place = "energy.steps"
    entry = entry_of(
        value,
        place,
        needed={"window"},
        optional={"kind", "scope", "scale", "limits", "members", "on_tenant_change"},
    )
    scope = choice(entry.get("scope", StepScope.ALL), f"{place}.scope", StepScope)
    scale = choice(entry.get("scale", Scale.NONE), f"{place}.scale", Scale)
    window = choice(entry["window"], f"{place}.window", Window)
    limits = _season_limits(entry, scope, bands, seasons)
    every_list = [each for each in limits if each] + [b.limits_wh for b in bands if b.limits_wh]
    included, add = _members(entry, scale, every_list)
    if scale is Scale.DAYS and window is Window.PURCHASE:
        raise TariffRefused(f"{place}.scale", "'days' needs a window of days, not 'purchase'")
    if window is Window.SEASON and len(seasons) == 1:
        raise TariffRefused(f"{place}.window", "'season' needs at least two seasons")
    return Steps(
        kind=choice(entry.get("kind", StepKind.GRADUATED), f"{place}.kind", StepKind),
        window=window,
        scope=scope,
        limits_wh=limits,
        scale=scale,
        members_included=included,
        add_wh=add,
        on_tenant_change=choice(
            entry.get("on_tenant_change", OnTenantChange.RESET),
            f"{place}.on_tenant_change",
            OnTenantChange,
        ),
    )


def _season_limits(
    entry: Mapping[str, object],
    scope: StepScope,
    bands: Sequence[Band],
    seasons: Sequence[Season],
) -> tuple[tuple[int, ...], ...]:
    """The limits of each season, or none where every band has its own."""
    place = "energy.steps.limits"
    own = [band for band in bands if band.limits_wh]
    if own and scope is StepScope.ALL:
        raise TariffRefused(
            f"energy.bands.{own[0].name}.limits", "need energy.steps.scope to be 'each'"
        )
    if own and len(own) < len(bands):
        without = next(band.name for band in bands if not band.limits_wh)
        raise TariffRefused(
            f"energy.bands.{without}", "lacks 'limits', which another band has for itself"
        )
    if own and "limits" in entry:
        raise TariffRefused(place, "must be left out, since every band has limits of its own")
    if own:
        return ()
    if "limits" not in entry:
        raise TariffRefused("energy.steps", "lacks 'limits'")
    if isinstance(entry["limits"], Mapping):
        by_name = entry_of(entry["limits"], place, needed={each.name for each in seasons})
        limits = tuple(_limits(by_name[each.name], f"{place}.{each.name}") for each in seasons)
    else:
        limits = (_limits(entry["limits"], place),) * len(seasons)
    if not any(limits):
        raise TariffRefused(place, "must name at least one limit")
    return limits


def _limits(value: object, place: str) -> tuple[int, ...]:
    """Increasing upper limits in Wh; an empty list means one step without a limit."""
    if not isinstance(value, list | tuple):
        raise TariffRefused(place, 'must be a list of kWh in quotes, such as ["230", "400"]')
    if len(value) >= MAX_STEPS:
        raise TariffRefused(place, f"must have at most {MAX_STEPS - 1} entries")
    limits: list[int] = []
    for index, item in enumerate(value):
        here = f"{place}[{index}]"
        limit = positive_wh(item, here)
        if limits and limit <= limits[-1]:
            raise TariffRefused(here, f"must be more than the limit before it, {value[index - 1]}")
        limits.append(limit)
    return tuple(limits)


def _members(
    entry: Mapping[str, object], scale: Scale, every_list: Sequence[tuple[int, ...]]
) -> tuple[int, tuple[int, ...]]:
    """(members included, Wh that each further member adds to every limit)."""
    if "members" not in entry:
        return 0, ()
    place = "energy.steps.members"
    if scale is not Scale.MEMBERS:
        raise TariffRefused(place, "needs energy.steps.scale to be 'members'")
    members = entry_of(entry["members"], place, needed={"included", "add"})
    items = sequence(members["add"], f"{place}.add", most=MAX_STEPS - 1)
    for limits in every_list:
        if len(limits) != len(items):
            raise TariffRefused(
                f"{place}.add", f"has {len(items)} entries for {len(limits)} limits"
            )
    added: list[int] = []
    for index, item in enumerate(items):
        here = f"{place}.add[{index}]"
        wh = watt_hours(item, here)
        # Limits that grow at different paces would overtake one another in a large household.
        if added and wh < added[-1]:
            raise TariffRefused(here, f"must be at least the entry before it, {items[index - 1]}")
        added.append(wh)
    return whole(members["included"], f"{place}.included", 0, MAX_MEMBERS), tuple(added)


def _check_prices(part: EnergyPart, steps: Steps) -> None:
    """Every band has one price, or one for each step of every season in which it is used."""
    if all(len(band.prices_nano_per_kwh) == 1 for band in part.bands):
        raise TariffRefused("energy.steps", "change no price: no band has a list of 'prices'")
    used = {(s.season, period.band) for s in part.schedules for period in s.periods}
    for season, position in sorted(used):
        band = part.bands[position]
        limits = steps.limits_wh[season] if steps.limits_wh else band.limits_wh
        if len(band.prices_nano_per_kwh) not in {1, len(limits) + 1}:
            where = f" in season {part.seasons[season].name!r}" if len(part.seasons) > 1 else ""
            raise TariffRefused(
                f"energy.bands.{band.name}.prices",
                f"has {len(band.prices_nano_per_kwh)} prices for {len(limits) + 1} steps{where}",
            )


def _check_windows(
    steps: Steps, seasons: Sequence[Season], billing_day: int, year_from: int
) -> None:
    """Whole usage reprices a window from its first Wh, so its limits may not change within one."""
    if steps.kind is StepKind.GRADUATED or len(set(steps.limits_wh)) <= 1:
        return
    begins: Mapping[Window, frozenset[int]] = {
        Window.MONTH: frozenset(MONTH_STARTS),
        Window.BILLING_MONTH: frozenset(start + billing_day - 1 for start in MONTH_STARTS),
        Window.QUARTER: _QUARTER_STARTS,
        Window.YEAR: frozenset({year_from}),
        Window.PURCHASE: frozenset(),
    }
    if steps.window not in begins:
        return
    touching = {begin for season in seasons for begin, _ in season.ranges}
    # A season that goes on over the new year begins nothing on the first of January.
    around = {s for s in seasons if s.ranges[0][0] == 0 and s.ranges[-1][1] == DAYS_OF_GRID}
    if around:
        touching.discard(0)
    if not touching <= begins[steps.window]:
        raise TariffRefused(
            "energy.steps.limits",
            f"differ by season, but a season begins inside a window ({steps.window})",
        )


def _check_products(bands: Sequence[Band], steps: Steps) -> None:
    """Limits at their largest scale, and what the energy below them costs, must fit into 64 bits."""
    place = "energy.steps.limits"
    limit_wh = max(each[-1] for each in (*steps.limits_wh, *(b.limits_wh for b in bands)) if each)
    # Contracted power is counted in W, so a limit is a thousand times larger before it is divided.
    if steps.scale is Scale.CONTRACTED_KW and limit_wh * MAX_CONTRACTED_W > INT64_MAX:
        most = kwh_text(INT64_MAX // MAX_CONTRACTED_W)
        raise TariffRefused(place, f"must be at most {most} for each contracted kW")
    times = _COSTED_TIMES[steps.scale]
    costed_wh = limit_wh + steps.add_wh[-1] * times if steps.add_wh else limit_wh * times
    price = max(max(band.prices_nano_per_kwh) for band in bands)
    if costed_wh * price // _WH_NANO_PER_MICRO > INT64_MAX:
        raise TariffRefused(
            place, f"at {kwh_text(costed_wh)} kWh would cost more than 64 bits hold"
        )
