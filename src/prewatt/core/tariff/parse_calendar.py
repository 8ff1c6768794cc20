"""The calendar of a tariff: seasons, day classes, and the periods of the day in each pair of them.

Everything is laid on grids and must cover them exactly: a gap or an overlap is refused with the
first day or minute that it concerns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from prewatt.core.civil_time import MINUTES_PER_DAY
from prewatt.core.tariff.model import DAY_KINDS, Band, DayClass, DaySchedule, Period, Season
from prewatt.core.tariff.reading import entry_of, mapping, sequence, shown, word
from prewatt.core.tariff.words import (
    DAYS_OF_GRID,
    TariffRefused,
    minute_of,
    minute_text,
    month_day,
    month_day_text,
)

WHOLE_YEAR: Final = "all_year"
EVERY_DAY: Final = "every_day"


def seasons_of(energy: Mapping[str, object]) -> tuple[Season, ...]:
    """The seasons, ordered by name; one for the whole year where the document has none."""
    if "seasons" not in energy:
        return (Season(WHOLE_YEAR, ((0, DAYS_OF_GRID),)),)
    entries = mapping(energy["seasons"], "energy.seasons")
    owner: list[str | None] = [None] * DAYS_OF_GRID
    seasons = []
    for name in sorted(entries):
        place = f"energy.seasons.{word(name, 'energy.seasons')}"
        ranges: list[tuple[int, int]] = []
        for index, item in enumerate(sequence(entries[name], place)):
            ranges.extend(_season_range(item, f"{place}[{index}]"))
        for begin, end in ranges:
            for day in range(begin, end):
                if owner[day] is not None:
                    raise TariffRefused(
                        place, f"overlaps season {owner[day]!r} on {month_day_text(day)}"
                    )
                owner[day] = name
        seasons.append(Season(name, _joined(ranges)))
    if None in owner:
        raise TariffRefused("energy.seasons", f"leave a gap at {month_day_text(owner.index(None))}")
    return tuple(seasons)


def day_classes_of(energy: Mapping[str, object]) -> tuple[DayClass, ...]:
    """The day classes, ordered by name; one for all days where the document has none."""
    if "day_classes" not in energy:
        return (DayClass(EVERY_DAY, tuple(range(len(DAY_KINDS)))),)
    entries = mapping(energy["day_classes"], "energy.day_classes")
    owner: dict[int, str] = {}
    classes = []
    for name in sorted(entries):
        place = f"energy.day_classes.{word(name, 'energy.day_classes')}"
        kinds = []
        for item in sequence(entries[name], place):
            if item not in DAY_KINDS:
                raise TariffRefused(place, f"{shown(item)} is not one of {', '.join(DAY_KINDS)}")
            kind = DAY_KINDS.index(str(item))
            if kind in owner:
                raise TariffRefused(place, f"{item} already belongs to {owner[kind]!r}")
            owner[kind] = name
            kinds.append(kind)
        classes.append(DayClass(name, tuple(sorted(kinds))))
    missing = [DAY_KINDS[kind] for kind in range(7) if kind not in owner]
    if missing:
        raise TariffRefused("energy.day_classes", f"leave out {', '.join(missing)}")
    return tuple(classes)


def schedules_of(
    energy: Mapping[str, object],
    bands: Sequence[Band],
    seasons: Sequence[Season],
    day_classes: Sequence[DayClass],
) -> tuple[DaySchedule, ...]:
    """One schedule per season and day class, ordered by both."""
    pairs = [(s, d) for s in range(len(seasons)) for d in range(len(day_classes))]
    if "schedule" not in energy:
        if len(bands) > 1:
            raise TariffRefused("energy.schedule", "is missing although there are several bands")
        whole_day = (Period(0, MINUTES_PER_DAY, 0),)
        return tuple(DaySchedule(season, day_class, whole_day) for season, day_class in pairs)
    found: dict[tuple[int, int], DaySchedule] = {}
    for index, value in enumerate(sequence(energy["schedule"], "energy.schedule")):
        place = f"energy.schedule[{index}]"
        entry = entry_of(value, place, needed={"periods"}, optional={"season", "days"})
        periods = _periods(entry["periods"], f"{place}.periods", bands)
        for season in _chosen(entry, "season", place, [each.name for each in seasons]):
            for day_class in _chosen(entry, "days", place, [each.name for each in day_classes]):
                if (season, day_class) in found:
                    pair = _pair(seasons[season], day_classes[day_class])
                    raise TariffRefused(place, f"{pair} already have a schedule")
                found[season, day_class] = DaySchedule(season, day_class, periods)
    for season, day_class in pairs:
        if (season, day_class) not in found:
            pair = _pair(seasons[season], day_classes[day_class])
            raise TariffRefused("energy.schedule", f"{pair} have no schedule")
    used = {period.band for schedule in found.values() for period in schedule.periods}
    for position, band in enumerate(bands):
        if position not in used:
            raise TariffRefused(f"energy.bands.{band.name}", "is used by no period")
    return tuple(found[pair] for pair in pairs)


def _pair(season: Season, day_class: DayClass) -> str:
    return f"season {season.name!r} and days {day_class.name!r}"


def _season_range(value: object, place: str) -> list[tuple[int, int]]:
    """One range as grid positions; one that passes the end of the year becomes two."""
    item = entry_of(value, place, needed={"from", "until"})
    begin = month_day(item["from"], f"{place}.from")
    end = month_day(item["until"], f"{place}.until")
    if begin < end:
        return [(begin, end)]
    # The same day twice means the whole year, as in the canonical form's 01-01 to 01-01.
    return [part for part in ((begin, DAYS_OF_GRID), (0, end)) if part[0] < part[1]]


def _joined(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sorted, with touching ranges made one."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if joined and joined[-1][1] == begin:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return tuple(joined)


def _chosen(entry: Mapping[str, object], key: str, place: str, names: list[str]) -> list[int]:
    """The positions that an entry's `season` or `days` chooses: a name, a list of names, or all."""
    if key not in entry:
        return list(range(len(names)))
    value = entry[key]
    chosen = [value] if isinstance(value, str) else sequence(value, f"{place}.{key}")
    positions = []
    for name in chosen:
        if name not in names:
            raise TariffRefused(f"{place}.{key}", f"{shown(name)} is not defined")
        positions.append(names.index(str(name)))
    return positions


def _periods(value: object, place: str, bands: Sequence[Band]) -> tuple[Period, ...]:
    """Periods in order that cover the day; neighbours with the same band become one."""
    names = [band.name for band in bands]
    periods: list[Period] = []
    reached = 0
    for index, item in enumerate(sequence(value, place)):
        here = f"{place}[{index}]"
        entry = entry_of(item, here, needed={"from", "until", "band"})
        begin = minute_of(entry["from"], f"{here}.from")
        end = minute_of(entry["until"], f"{here}.until")
        if end <= begin:
            raise TariffRefused(
                f"{here}.until", "must be later than 'from'; split a period at midnight"
            )
        if begin != reached:
            fault = "leaves a gap after" if begin > reached else "overlaps the period until"
            raise TariffRefused(f"{here}.from", f"{fault} {minute_text(reached)}")
        if entry["band"] not in names:
            raise TariffRefused(
                f"{here}.band", f"{shown(entry['band'])} is not a band of this tariff"
            )
        band = names.index(str(entry["band"]))
        if periods and periods[-1].band == band:
            begin = periods.pop().from_minute
        periods.append(Period(begin, end, band))
        reached = end
    if reached != MINUTES_PER_DAY:
        raise TariffRefused(place, f"leave a gap from {minute_text(reached)} until 24:00")
    return tuple(periods)
