"""From a document to a checked tariff, or a refusal with its place, before any number is computed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from prewatt.core.civil_time import MINUTES_PER_DAY
from prewatt.core.tariff.model import (
    DAY_KINDS,
    MAX_BANDS,
    Band,
    DatedCharge,
    DatedKind,
    DayClass,
    DaySchedule,
    Per,
    Period,
    Season,
    Tariff,
)
from prewatt.core.tariff.words import (
    DAYS_OF_GRID,
    FORMAT,
    MAX_LABEL,
    MAX_NAME,
    TariffRefused,
    minute_of,
    minute_text,
    month_day,
    month_day_text,
    nano,
)

WHOLE_YEAR: Final = "all_year"
EVERY_DAY: Final = "every_day"
_WORD: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")


def load_tariff(text: str | bytes) -> Tariff:
    """Parse JSON text, in which a repeated key is refused rather than silently the last one."""
    try:
        document = json.loads(text, object_pairs_hook=_unique_keys, parse_float=_no_float)
    except (ValueError, RecursionError) as error:
        if isinstance(error, TariffRefused):
            raise
        raise TariffRefused("document", "is not JSON") from error
    return parse_tariff(_mapping(document, "document"))


def parse_tariff(document: Mapping[str, object]) -> Tariff:
    """The tariff of a document, or `TariffRefused` with the first fault's place and reason."""
    document = _mapping(document, "document")
    _keys(
        document, "document", needed={"format", "name", "currency", "energy"}, optional={"standing"}
    )
    if document["format"] != FORMAT:
        raise TariffRefused("format", f"must be {FORMAT!r}")
    currency = document["currency"]
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        raise TariffRefused("currency", "must be an ISO 4217 code of three capital letters")
    energy = _mapping(document["energy"], "energy")
    _keys(
        energy, "energy", needed={"unit", "bands"}, optional={"seasons", "day_classes", "schedule"}
    )
    if energy["unit"] != "kWh":
        raise TariffRefused("energy.unit", "must be 'kWh', the only energy unit of this format")
    bands = _bands(energy["bands"])
    seasons = _seasons(energy["seasons"]) if "seasons" in energy else (_YEAR,)
    day_classes = _day_classes(energy["day_classes"]) if "day_classes" in energy else (_ALL_DAYS,)
    return Tariff(
        name=_text(document["name"], "name", MAX_NAME),
        currency=currency,
        bands=bands,
        seasons=seasons,
        day_classes=day_classes,
        schedules=_schedules(energy, bands, seasons, day_classes),
        dated=_standing(document.get("standing")),
    )


_YEAR: Final = Season(WHOLE_YEAR, ((0, DAYS_OF_GRID),))
_ALL_DAYS: Final = DayClass(EVERY_DAY, tuple(range(len(DAY_KINDS))))


def _bands(value: object) -> tuple[Band, ...]:
    entries = _mapping(value, "energy.bands")
    if not 1 <= len(entries) <= MAX_BANDS:
        raise TariffRefused("energy.bands", f"must name between 1 and {MAX_BANDS} bands")
    bands = []
    # Sorted by name, so that a band's position does not depend on the order a person wrote them
    # in.
    for name in sorted(entries):
        place = f"energy.bands.{_word(name, 'energy.bands')}"
        entry = _mapping(entries[name], place)
        _keys(entry, place, needed={"price"}, optional={"label"})
        label = _text(entry["label"], f"{place}.label", MAX_LABEL) if "label" in entry else name
        bands.append(Band(name, label, (nano(entry["price"], f"{place}.price"),)))
    return tuple(bands)


def _seasons(value: object) -> tuple[Season, ...]:
    entries = _mapping(value, "energy.seasons")
    owner: list[str | None] = [None] * DAYS_OF_GRID
    seasons = []
    for name in sorted(entries):
        place = f"energy.seasons.{_word(name, 'energy.seasons')}"
        ranges: list[tuple[int, int]] = []
        for index, item in enumerate(_sequence(entries[name], place)):
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


def _season_range(value: object, place: str) -> list[tuple[int, int]]:
    """One range as grid positions; one that passes the end of the year becomes two."""
    item = _mapping(value, place)
    _keys(item, place, needed={"from", "until"}, optional=set())
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


def _day_classes(value: object) -> tuple[DayClass, ...]:
    entries = _mapping(value, "energy.day_classes")
    owner: dict[int, str] = {}
    classes = []
    for name in sorted(entries):
        place = f"energy.day_classes.{_word(name, 'energy.day_classes')}"
        kinds = []
        for item in _sequence(entries[name], place):
            if item not in DAY_KINDS:
                raise TariffRefused(place, f"{item!r} is not one of {', '.join(DAY_KINDS)}")
            kind = DAY_KINDS.index(str(item))
            if kind in owner:
                raise TariffRefused(place, f"{item} already belongs to {owner[kind]!r}")
            owner[kind] = name
            kinds.append(kind)
        if not kinds:
            raise TariffRefused(place, "names no day")
        classes.append(DayClass(name, tuple(sorted(kinds))))
    missing = [DAY_KINDS[kind] for kind in range(7) if kind not in owner]
    if missing:
        raise TariffRefused("energy.day_classes", f"leave out {', '.join(missing)}")
    return tuple(classes)


def _schedules(
    energy: Mapping[str, object],
    bands: tuple[Band, ...],
    seasons: tuple[Season, ...],
    day_classes: tuple[DayClass, ...],
) -> tuple[DaySchedule, ...]:
    """One schedule per season and day class, ordered by both."""
    if "schedule" not in energy:
        if len(bands) > 1:
            raise TariffRefused("energy.schedule", "is missing although there are several bands")
        whole_day = (Period(0, MINUTES_PER_DAY, 0),)
        pairs = ((s, d) for s in range(len(seasons)) for d in range(len(day_classes)))
        return tuple(DaySchedule(season, day_class, whole_day) for season, day_class in pairs)
    found: dict[tuple[int, int], DaySchedule] = {}
    for index, value in enumerate(_sequence(energy["schedule"], "energy.schedule")):
        place = f"energy.schedule[{index}]"
        entry = _mapping(value, place)
        _keys(entry, place, needed={"periods"}, optional={"season", "days"})
        periods = _periods(entry["periods"], f"{place}.periods", bands)
        for season in _chosen(entry, "season", place, [each.name for each in seasons]):
            for day_class in _chosen(entry, "days", place, [each.name for each in day_classes]):
                if (season, day_class) in found:
                    pair = (
                        f"season {seasons[season].name!r} and days {day_classes[day_class].name!r}"
                    )
                    raise TariffRefused(place, f"{pair} already have a schedule")
                found[season, day_class] = DaySchedule(season, day_class, periods)
    for season, each_season in enumerate(seasons):
        for day_class, each_class in enumerate(day_classes):
            if (season, day_class) not in found:
                pair = f"season {each_season.name!r} and days {each_class.name!r}"
                raise TariffRefused("energy.schedule", f"{pair} have no schedule")
    used = {period.band for schedule in found.values() for period in schedule.periods}
    for position, band in enumerate(bands):
        if position not in used:
            raise TariffRefused(f"energy.bands.{band.name}", "is used by no period")
    return tuple(found[pair] for pair in sorted(found))


def _chosen(entry: Mapping[str, object], key: str, place: str, names: list[str]) -> list[int]:
    """The positions that an entry's `season` or `days` chooses: a name, a list of names, or all."""
    if key not in entry:
        return list(range(len(names)))
    value = entry[key]
    chosen = [value] if isinstance(value, str) else _sequence(value, f"{place}.{key}")
    positions = []
    for name in chosen:
        if name not in names:
            raise TariffRefused(f"{place}.{key}", f"{name!r} is not defined")
        positions.append(names.index(str(name)))
    return positions


def _periods(value: object, place: str, bands: tuple[Band, ...]) -> tuple[Period, ...]:
    """Periods in order that cover the day; neighbours with the same band become one."""
    names = [band.name for band in bands]
    periods: list[Period] = []
    reached = 0
    for index, item in enumerate(_sequence(value, place)):
        here = f"{place}[{index}]"
        entry = _mapping(item, here)
        _keys(entry, here, needed={"from", "until", "band"}, optional=set())
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
            raise TariffRefused(f"{here}.band", f"{entry['band']!r} is not a band of this tariff")
        band = names.index(str(entry["band"]))
        if periods and periods[-1].band == band:
            begin = periods.pop().from_minute
        periods.append(Period(begin, end, band))
        reached = end
    if reached != MINUTES_PER_DAY:
        raise TariffRefused(place, f"leave a gap from {minute_text(reached)} until 24:00")
    return tuple(periods)


def _standing(value: object) -> tuple[DatedCharge, ...]:
    if value is None:
        return ()
    entry = _mapping(value, "standing")
    _keys(entry, "standing", needed={"per_day"}, optional=set())
    amount = nano(entry["per_day"], "standing.per_day")
    return (
        (DatedCharge(DatedKind.STANDING, "standing", "standing", Per.DAY, amount),)
        if amount
        else ()
    )


def _word(name: str, place: str) -> str:
    if not _WORD.fullmatch(name):
        raise TariffRefused(place, f"{name!r} must be a short word of a-z, 0-9, '_' and '-'")
    return name


def _text(value: object, place: str, limit: int) -> str:
    if (
        not isinstance(value, str)
        or not value.strip()
        or len(value) > limit
        or not value.isprintable()
    ):
        raise TariffRefused(place, f"must be a text of 1 to {limit} printable characters")
    return value


def _mapping(value: object, place: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TariffRefused(place, "must be an object")
    return value


def _sequence(value: object, place: str) -> Sequence[object]:
    if not isinstance(value, list | tuple) or not value:
        raise TariffRefused(place, "must be a list with at least one entry")
    return value


def _keys(entry: Mapping[str, object], place: str, *, needed: set[str], optional: set[str]) -> None:
    for key in sorted(needed - entry.keys()):
        raise TariffRefused(place, f"lacks {key!r}")
    for key in sorted(entry.keys() - needed - optional):
        raise TariffRefused(place, f"has the unknown entry {key!r}")


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries: dict[str, object] = {}
    for key, value in pairs:
        if key in entries:
            raise TariffRefused(key, "appears twice in the same object")
        entries[key] = value
    return entries


def _no_float(text: str) -> object:
    raise TariffRefused("document", f'the number {text} must be written in quotes, as "{text}"')
