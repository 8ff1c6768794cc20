"""The Prewatt tariff format: a price plan that a person can read, checked before any number is
computed.

A document of the first version looks like this; only `format`, `name`, `currency` and `energy`
are needed::

    {
      "format": "prewatt-tariff/1",
      "name": "Shops, summer peak",
      "currency": "EUR",
      "energy": {
        "unit": "kWh",
        "bands": {"peak": {"price": "0.3120"}, "night": {"price": "0.1680", "label": "Night"}},
        "seasons": {"summer": [{"from": "06-01", "until": "09-01"}],
                    "rest": [{"from": "09-01", "until": "06-01"}]},
        "day_classes": {"workday": ["mon", "tue", "wed", "thu", "fri"],
                        "restday": ["sat", "sun", "holiday"]},
        "schedule": [
          {"season": "summer", "days": "workday", "periods": [
            {"from": "00:00", "until": "07:00", "band": "night"},
            {"from": "07:00", "until": "24:00", "band": "peak"}]},
          ...
        ]
      },
      "standing": {"per_day": "0.3500"}
    }

Every period is half-open: `until` is the first minute or day that no longer belongs. Season and
day class together say which schedule entry holds, and each pair has exactly one; an entry that
leaves out `season` or `days` holds for all of them. Without `seasons` the year is one season,
without `day_classes` all days are alike. A holiday without a class of its own is priced as its
weekday. A flat tariff has one band and no schedule. Anything unknown, missing, doubled or
overlapping is refused with its place.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from prewatt.core.civil_time import MINUTES_PER_DAY

FORMAT: Final = "prewatt-tariff/1"
NANO_DIGITS: Final = 9
NANO: Final = 10**NANO_DIGITS
MAX_PRICE_NANO: Final = 10**15
"""A million major units per kWh: beyond any currency, and far from where 64 bits end."""
MAX_BANDS: Final = 64
MAX_NAME: Final = 80
MAX_LABEL: Final = 80

DAY_KINDS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday")
"""In the order of `LocalCalendar.day_kind`."""

WHOLE_YEAR: Final = "all_year"
EVERY_DAY: Final = "every_day"

_MONTH_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
MONTH_STARTS: Final = tuple(sum(_MONTH_DAYS[:month]) for month in range(12))
"""Where each month begins in a year that has a 29 February, the grid on which seasons are laid."""
DAYS_OF_GRID: Final = 366

_WORD: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_DECIMAL: Final = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?")
_TIME: Final = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])")
_MONTH_DAY: Final = re.compile(r"([0-9]{2})-([0-9]{2})")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")


class TariffRefused(ValueError):
    """A document is not a tariff. `place` is a path such as
    `energy.schedule[0].periods[2].until`, `reason` one sentence without a full stop.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Band:
    """A price band; `price_nano_per_kwh` in nano-units of the currency, `label` for people."""

    name: str
    label: str
    price_nano_per_kwh: int


@dataclass(frozen=True, slots=True)
class Season:
    """`ranges` are half-open (from, until) positions on the 366-day grid, `until` ≤ 366, sorted."""

    name: str
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class DayClass:
    """`kinds` are positions in `DAY_KINDS`."""

    name: str
    kinds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Period:
    """[from_minute, until_minute) of a wall-clock day at the band with this position in
    `Tariff.bands`.
    """

    from_minute: int
    until_minute: int
    band: int


@dataclass(frozen=True, slots=True)
class DaySchedule:
    """The periods of one day for one (season, day class), by position; they cover 0 to 1440."""

    season: int
    day_class: int
    periods: tuple[Period, ...]


@dataclass(frozen=True)
class Tariff:
    """The checked content of one tariff version: immutable, hashable, with one canonical form.

    `schedules` has one entry per (season, day class) in that order. `standing_nano_per_day` is 0
    without a standing charge.
    """

    name: str
    currency: str
    bands: tuple[Band, ...]
    seasons: tuple[Season, ...]
    day_classes: tuple[DayClass, ...]
    schedules: tuple[DaySchedule, ...]
    standing_nano_per_day: int

    @cached_property
    def canonical_json(self) -> bytes:
        """The same bytes for the same plan, whatever order, spacing or zeros the document had."""
        return json.dumps(
            to_document(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of `canonical_json`, what an approval commits to."""
        return hashlib.sha256(self.canonical_json).digest()

    @property
    def is_flat(self) -> bool:
        """Whether one price holds at all times."""
        return (
            len({self.bands[p.band].price_nano_per_kwh for s in self.schedules for p in s.periods})
            == 1
        )


@dataclass(frozen=True, slots=True)
class BandTable:
    """A tariff's schedule as arrays: `season_of_day[366]`, `class_of_kind[8]` (-1 at 7 when a
    holiday counts as its weekday), `band[season, class, 1440]`, `price_nano_per_kwh[band]`, and
    the `breakpoints`, the minutes of the day at which some schedule changes its band (0 always
    among them).
    """

    season_of_day: npt.NDArray[np.int64]
    class_of_kind: npt.NDArray[np.int64]
    band: npt.NDArray[np.int16]
    price_nano_per_kwh: npt.NDArray[np.int64]
    breakpoints: tuple[int, ...]


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
        standing_nano_per_day=_standing(document.get("standing")),
    )


def to_document(tariff: Tariff) -> dict[str, object]:
    """A document that parses to an equal tariff: what is stored, shown, edited and digested."""
    document: dict[str, object] = {
        "format": FORMAT,
        "name": tariff.name,
        "currency": tariff.currency,
        "energy": {
            "unit": "kWh",
            "bands": {
                band.name: {"label": band.label, "price": decimal_text(band.price_nano_per_kwh)}
                for band in tariff.bands
            },
            "seasons": {
                season.name: [
                    {"from": _month_day_text(begin), "until": _month_day_text(end)}
                    for begin, end in season.ranges
                ]
                for season in tariff.seasons
            },
            "day_classes": {
                day_class.name: [DAY_KINDS[kind] for kind in day_class.kinds]
                for day_class in tariff.day_classes
            },
            "schedule": [_schedule_document(tariff, schedule) for schedule in tariff.schedules],
        },
    }
    if tariff.standing_nano_per_day:
        document["standing"] = {"per_day": decimal_text(tariff.standing_nano_per_day)}
    return document


def decimal_text(nano: int) -> str:
    """Nano-units as a plain decimal without needless zeros: 248000000 → `0.248`."""
    whole, part = divmod(nano, NANO)
    return f"{whole}.{part:09d}".rstrip("0").rstrip(".") if part else str(whole)


@lru_cache(maxsize=256)
def band_table(tariff: Tariff) -> BandTable:
    """The arrays that rating looks prices up in; cached, and not to be written to."""
    season_of_day = np.zeros(DAYS_OF_GRID, dtype=np.int64)
    for position, season in enumerate(tariff.seasons):
        for begin, end in season.ranges:
            season_of_day[begin:end] = position
    class_of_kind = np.full(len(DAY_KINDS), -1, dtype=np.int64)
    for position, day_class in enumerate(tariff.day_classes):
        class_of_kind[list(day_class.kinds)] = position
    band = np.zeros((len(tariff.seasons), len(tariff.day_classes), MINUTES_PER_DAY), dtype=np.int16)
    for schedule in tariff.schedules:
        for period in schedule.periods:
            band[schedule.season, schedule.day_class, period.from_minute : period.until_minute] = (
                period.band
            )
    changes = (band[:, :, 1:] != band[:, :, :-1]).any(axis=(0, 1))
    prices = np.array([each.price_nano_per_kwh for each in tariff.bands], dtype=np.int64)
    for column in (season_of_day, class_of_kind, band, prices):
        column.setflags(write=False)
    breakpoints = (0, *(int(minute) + 1 for minute in np.flatnonzero(changes)))
    return BandTable(season_of_day, class_of_kind, band, prices, breakpoints)


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
        bands.append(Band(name, label, _nano(entry["price"], f"{place}.price")))
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
                        place, f"overlaps season {owner[day]!r} on {_month_day_text(day)}"
                    )
                owner[day] = name
        seasons.append(Season(name, _joined(ranges)))
    if None in owner:
        raise TariffRefused(
            "energy.seasons", f"leave a gap at {_month_day_text(owner.index(None))}"
        )
    return tuple(seasons)


def _season_range(value: object, place: str) -> list[tuple[int, int]]:
    """One range as grid positions; one that passes the end of the year becomes two."""
    item = _mapping(value, place)
    _keys(item, place, needed={"from", "until"}, optional=set())
    begin = _month_day(item["from"], f"{place}.from")
    end = _month_day(item["until"], f"{place}.until")
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
        begin = _minute(entry["from"], f"{here}.from")
        end = _minute(entry["until"], f"{here}.until")
        if end <= begin:
            raise TariffRefused(
                f"{here}.until", "must be later than 'from'; split a period at midnight"
            )
        if begin != reached:
            fault = "leaves a gap after" if begin > reached else "overlaps the period until"
            raise TariffRefused(f"{here}.from", f"{fault} {_minute_text(reached)}")
        if entry["band"] not in names:
            raise TariffRefused(f"{here}.band", f"{entry['band']!r} is not a band of this tariff")
        band = names.index(str(entry["band"]))
        if periods and periods[-1].band == band:
            begin = periods.pop().from_minute
        periods.append(Period(begin, end, band))
        reached = end
    if reached != MINUTES_PER_DAY:
        raise TariffRefused(place, f"leave a gap from {_minute_text(reached)} until 24:00")
    return tuple(periods)


def _standing(value: object) -> int:
    if value is None:
        return 0
    entry = _mapping(value, "standing")
    _keys(entry, "standing", needed={"per_day"}, optional=set())
    return _nano(entry["per_day"], "standing.per_day")


def _schedule_document(tariff: Tariff, schedule: DaySchedule) -> dict[str, object]:
    return {
        "season": tariff.seasons[schedule.season].name,
        "days": tariff.day_classes[schedule.day_class].name,
        "periods": [
            {
                "from": _minute_text(period.from_minute),
                "until": _minute_text(period.until_minute),
                "band": tariff.bands[period.band].name,
            }
            for period in schedule.periods
        ],
    }


def _nano(value: object, place: str) -> int:
    """A price as written, in nano-units. A JSON number is refused: 0.1 has no exact binary form."""
    if not isinstance(value, str):
        raise TariffRefused(place, 'must be a decimal in quotes, such as "0.2480"')
    match = _DECIMAL.fullmatch(value)
    if match is None:
        negative = value.startswith(("-", "\N{MINUS SIGN}"))
        reason = (
            "must not be negative" if negative else "must be a plain decimal of at most 9 decimals"
        )
        raise TariffRefused(place, reason)
    nano = int(match[1]) * NANO + int((match[2] or "").ljust(NANO_DIGITS, "0"))
    if nano > MAX_PRICE_NANO:
        raise TariffRefused(place, f"must be at most {decimal_text(MAX_PRICE_NANO)}")
    return nano


def _minute(value: object, place: str) -> int:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    minute = int(match[1]) * 60 + int(match[2]) if match else MINUTES_PER_DAY + 1
    if minute > MINUTES_PER_DAY:
        raise TariffRefused(place, 'must be a time of day between "00:00" and "24:00"')
    return minute


def _minute_text(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _month_day(value: object, place: str) -> int:
    match = _MONTH_DAY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise TariffRefused(place, 'must be a month and day such as "06-01"')
    month, day = int(match[1]), int(match[2])
    if not 1 <= month <= 12 or not 1 <= day <= _MONTH_DAYS[month - 1]:
        raise TariffRefused(place, f"{value!r} is not a day of the year")
    return MONTH_STARTS[month - 1] + day - 1


def _month_day_text(position: int) -> str:
    """The day at a grid position; the end of the grid is the first of January."""
    position %= DAYS_OF_GRID
    month = max(each for each in range(12) if MONTH_STARTS[each] <= position)
    return f"{month + 1:02d}-{position - MONTH_STARTS[month] + 1:02d}"


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
