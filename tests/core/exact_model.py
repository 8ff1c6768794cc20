"""An independent model of what usage costs: plain fractions, datetimes and zoneinfo.

It shares no code with `prewatt` and is written to be obviously right rather than fast: it walks
every minute, asks `zoneinfo` for the wall clock, looks the price up in the tariff document as it
was written, and adds fractions. Rating must agree with it exactly.

Instants are integers of microseconds since 1970 UTC, energy whole Wh, amounts fractions of a
micro-unit (10⁻⁶ of the currency).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import floor
from typing import Any
from zoneinfo import ZoneInfo

MINUTE = 60_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@lru_cache(maxsize=1_000_000)
def wall(time_zone: str, at_us: int) -> datetime:
    """The wall clock of a place at an instant."""
    return (EPOCH + timedelta(microseconds=at_us)).astimezone(ZoneInfo(time_zone))


def _clock(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _season_holds(ranges: Sequence[Mapping[str, str]], day: date) -> bool:
    now = f"{day.month:02d}-{day.day:02d}"
    for each in ranges:
        begin, end = each["from"], each["until"]
        if begin < end and begin <= now < end:
            return True
        if begin >= end and (now >= begin or now < end):
            return True
    return False


def _chosen(entry: Mapping[str, Any], key: str, name: str) -> bool:
    value = entry.get(key, name)
    return value == name if isinstance(value, str) else name in value


def band_at(document: Mapping[str, Any], wall_clock: datetime, holidays: frozenset[date]) -> str:
    """The name of the band that a document gives a wall-clock time."""
    energy = document["energy"]
    if "schedule" not in energy:
        (only,) = energy["bands"]
        return str(only)
    day = wall_clock.date()
    kind = WEEKDAYS[day.weekday()]
    classes = energy.get("day_classes", {"every_day": [*WEEKDAYS, "holiday"]})
    if day in holidays and any("holiday" in kinds for kinds in classes.values()):
        kind = "holiday"
    (day_class,) = [name for name, kinds in classes.items() if kind in kinds]
    seasons = energy.get("seasons", {"all_year": [{"from": "01-01", "until": "01-01"}]})
    (season,) = [name for name, ranges in seasons.items() if _season_holds(ranges, day)]
    minute = wall_clock.hour * 60 + wall_clock.minute
    (band,) = [
        period["band"]
        for entry in energy["schedule"]
        if _chosen(entry, "season", season) and _chosen(entry, "days", day_class)
        for period in entry["periods"]
        if _clock(period["from"]) <= minute < _clock(period["until"])
    ]
    return str(band)


@dataclass
class ExactPrices:
    """Prices of one place over time: dated tariff documents, oldest first.

    The first version also holds before its own date, as an account is priced from its opening.
    """

    time_zone: str
    versions: Sequence[tuple[int, Mapping[str, Any]]]
    holidays: frozenset[date] = frozenset()
    _known: dict[int, tuple[int, str, Fraction]] = field(default_factory=dict)

    def at(self, at_us: int) -> tuple[int, str, Fraction]:
        """(position of the version, band, price per kWh in the currency) at an instant."""
        version = max([i for i, (begin, _) in enumerate(self.versions) if begin <= at_us] or [0])
        document = self.versions[version][1]
        # No version begins inside a minute of the cache unless it was asked for by itself.
        key = at_us // MINUTE * 1000 + version
        if key not in self._known:
            band = band_at(document, wall(self.time_zone, at_us // MINUTE * MINUTE), self.holidays)
            price = Fraction(document["energy"]["bands"][band]["price"])
            self._known[key] = version, band, price
        return self._known[key]

    def parts(self, start_us: int, end_us: int) -> list[tuple[int, int, tuple[int, str, Fraction]]]:
        """Longest stretches of one version and band that make up [start, end)."""
        cuts = {start_us, *range((start_us // MINUTE + 1) * MINUTE, end_us, MINUTE)}
        cuts |= {begin for begin, _ in self.versions if start_us < begin < end_us}
        stretches: list[tuple[int, int, tuple[int, str, Fraction]]] = []
        for begin, end in zip(sorted(cuts), [*sorted(cuts)[1:], end_us], strict=True):
            price = self.at(begin)
            if stretches and stretches[-1][2] == price:
                stretches[-1] = (stretches[-1][0], end, price)
            else:
                stretches.append((begin, end, price))
        return stretches

    def charge_micro(self, start_us: int, end_us: int, energy_wh: int) -> Fraction:
        """What an interval costs. Its energy falls to its parts by the stated rule: whole Wh, pro
        rata by time, cut off cumulatively.
        """
        total = Fraction(0)
        duration, used = end_us - start_us, 0
        for _, end, (_, _, price) in self.parts(start_us, end_us):
            upto = floor(Fraction(energy_wh * (end - start_us), duration))
            total += Fraction(upto - used, 1000) * price * 1_000_000
            used = upto
        assert used == energy_wh
        return total

    def days_begun(self, after_us: int, through_us: int) -> int:
        """How many local days begin in (after, through], minute by minute."""
        days, latest = 0, wall(self.time_zone, after_us).date()
        for at_us in [*range((after_us // MINUTE + 1) * MINUTE, through_us, MINUTE), through_us]:
            today = wall(self.time_zone, at_us).date()
            if today > latest:
                days, latest = days + (today - latest).days, today
        return days


def exact_charges(readings: Iterable[tuple[int, int]], prices: ExactPrices) -> Fraction:
    """What a meter's history costs: `readings` are (instant, register in Wh) in any order,
    repeats allowed, all of them good; the earliest opens the account and costs nothing.
    """
    history = sorted(set(readings))
    return sum(
        (
            prices.charge_micro(start, end, high - low)
            for (start, low), (end, high) in pairwise(history)
        ),
        Fraction(0),
    )


def exact_balance(
    readings: Iterable[tuple[int, int]], prices: ExactPrices, recharges_micro: Iterable[int]
) -> Fraction:
    """Recharges less charges. An account that cuts each charge off to whole micro-units and
    carries the remainder shows `ceil` of this.
    """
    return sum(recharges_micro) - exact_charges(readings, prices)
