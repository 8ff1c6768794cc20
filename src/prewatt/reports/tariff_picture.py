"""The two pictures of a tariff as figures: its week by season, and its steps as stairs.

Pure: from a checked tariff to rows of hours and to treads. `web` draws and names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Final

from prewatt.core.tariff import Tariff
from prewatt.core.tariff.model import DaySchedule

HOLIDAY_KIND: Final = 7
TONES: Final = 3


@dataclass(frozen=True, slots=True)
class Cell:
    """[from_minute, until_minute) of a wall-clock day at the band with this position."""

    from_minute: int
    until_minute: int
    band: int


@dataclass(frozen=True, slots=True)
class WeekRow:
    """One kind of day, 0 Monday … 6 Sunday, 7 a holiday that has hours of its own."""

    kind: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class BandTone:
    """How strongly a band is drawn: ``tone`` 1 (cheapest) to 3, and a ``mark`` (0: none) that tells
    it from other bands of the same tone.
    """

    band: int
    tone: int
    mark: int


@dataclass(frozen=True, slots=True)
class SeasonWeek:
    """A season's week: rows from Monday on, and its bands from the dearest to the cheapest."""

    season: int
    rows: tuple[WeekRow, ...]
    bands: tuple[BandTone, ...]

    @property
    def has_holidays(self) -> bool:
        """Whether a holiday has hours of its own; else it is priced as its weekday."""
        return self.rows[-1].kind == HOLIDAY_KIND

    def tone_of(self, band: int) -> BandTone:
        """The tone of a band that this season uses."""
        return next(each for each in self.bands if each.band == band)


@dataclass(frozen=True, slots=True)
class Tread:
    """A step of one band: (from_wh, until_wh] at a price; the last one has no end."""

    from_wh: int
    until_wh: int | None
    price_nano_per_kwh: int


@dataclass(frozen=True, slots=True)
class Stair:
    """A band's treads in order, and the tone that its week is drawn in."""

    tone: BandTone
    treads: tuple[Tread, ...]


@dataclass(frozen=True, slots=True)
class SeasonStairs:
    """The stairs that hold in these seasons; limits are before any scaling."""

    seasons: tuple[int, ...]
    stairs: tuple[Stair, ...]

    @property
    def limits_wh(self) -> tuple[int, ...]:
        """Where any of the stairs rises or falls."""
        ends = {tread.until_wh for stair in self.stairs for tread in stair.treads}
        return tuple(sorted(each for each in ends if each is not None))


@dataclass(frozen=True, slots=True)
class Hours:
    """The days, by kind, on which a band holds at the same times."""

    kinds: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


def weeks_of(tariff: Tariff) -> tuple[SeasonWeek, ...]:
    """The week of every season, in the tariff's order."""
    return tuple(_week(tariff, season) for season in range(len(tariff.seasons)))


def stairs_of(tariff: Tariff) -> tuple[SeasonStairs, ...]:
    """The steps as stairs; seasons with the same ones share them. Empty without steps."""
    if tariff.steps is None:
        return ()
    found: dict[tuple[Stair, ...], list[int]] = {}
    for season in range(len(tariff.seasons)):
        found.setdefault(_season_stairs(tariff, season), []).append(season)
    return tuple(SeasonStairs(tuple(seasons), stairs) for stairs, seasons in found.items())


def hours_of(tariff: Tariff, season: int, band: int) -> tuple[Hours, ...]:
    """When a band holds in a season, days with the same times together, from Monday on."""
    spans = {
        row.kind: tuple((c.from_minute, c.until_minute) for c in row.cells if c.band == band)
        for row in _week(tariff, season).rows
    }
    found: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for kind, own in spans.items():
        if own:
            found.setdefault(own, []).append(kind)
    return tuple(Hours(tuple(kinds), own) for own, kinds in found.items())


def bands_used(tariff: Tariff, season: int) -> frozenset[int]:
    """The positions of the bands that hold at some time of a season."""
    return frozenset(period.band for each in _schedules(tariff, season) for period in each.periods)


def limits_of(tariff: Tariff, season: int, band: int) -> tuple[int, ...]:
    """The limits in Wh that a band's use is counted against in a season."""
    if tariff.steps is None:
        return ()
    return tariff.bands[band].limits_wh or tariff.steps.limits_wh[season]


def price_at(tariff: Tariff, band: int, step: int) -> int:
    """A band's price at a step; one that names fewer prices has its last one from there on."""
    prices = tariff.bands[band].prices_nano_per_kwh
    return prices[min(step, len(prices) - 1)]


def _schedules(tariff: Tariff, season: int) -> list[DaySchedule]:
    return [each for each in tariff.schedules if each.season == season]


def _week(tariff: Tariff, season: int) -> SeasonWeek:
    rows = []
    for schedule in _schedules(tariff, season):
        cells = tuple(Cell(p.from_minute, p.until_minute, p.band) for p in schedule.periods)
        kinds = tariff.day_classes[schedule.day_class].kinds
        rows += [WeekRow(kind, cells) for kind in kinds]
    rows.sort(key=lambda row: row.kind)
    # Where all days are alike, a row for holidays would only repeat the others.
    if len({row.cells for row in rows}) == 1:
        rows = [row for row in rows if row.kind != HOLIDAY_KIND]
    return SeasonWeek(season, tuple(rows), _tones(tariff, season))


def _tones(tariff: Tariff, season: int) -> tuple[BandTone, ...]:
    """Tones by the first step's price, the dearest band strongest; equal prices share a tone."""
    used = bands_used(tariff, season)
    prices = sorted({tariff.bands[band].price_nano_per_kwh for band in used}, reverse=True)
    many = len(prices)
    tone_of = {
        price: TONES - rank * TONES // many if many > 2 else (2 if many == 1 else TONES - rank)
        for rank, price in enumerate(prices)
    }
    ordered = sorted(used, key=lambda band: (-tariff.bands[band].price_nano_per_kwh, band))
    tones: list[BandTone] = []
    for tone, group in groupby(ordered, key=lambda b: tone_of[tariff.bands[b].price_nano_per_kwh]):
        # The cheapest of a tone is plain, so that a mark means dearer still.
        same = list(group)
        tones += [BandTone(band, tone, len(same) - 1 - at) for at, band in enumerate(same)]
    return tuple(tones)


def _season_stairs(tariff: Tariff, season: int) -> tuple[Stair, ...]:
    stairs = []
    for tone in _tones(tariff, season):
        limits = limits_of(tariff, season, tone.band)
        edges = (0, *limits)
        ends = (*limits, None)
        treads = tuple(
            Tread(begin, end, price_at(tariff, tone.band, step))
            for step, (begin, end) in enumerate(zip(edges, ends, strict=True))
        )
        stairs.append(Stair(tone, treads))
    return tuple(stairs)
