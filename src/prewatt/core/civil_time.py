"""Local civil time for a property: days, weekdays, wall-clock minutes, from UTC instants and
back.

Instants are int64 microseconds since 1970-01-01T00:00Z. A *wall* value is what a clock on the
wall of that place shows, written as if it were UTC microseconds; the difference is the zone's
offset, which is constant between two transitions. One table of transitions therefore answers
everything with vectorised look-ups. Two rules settle what daylight saving makes ambiguous:

* From instant to wall there is no ambiguity; a price follows the wall clock at each instant, so a
  repeated hour is priced twice by its wall times and a skipped hour not at all.
* From wall to instant, the answer is the first instant whose wall clock shows that time or later:
  a skipped time means the jump itself, a repeated time its first occurrence. A local day begins
  at the first instant whose wall clock has reached its midnight.

The zone rules come from the tz database through `zoneinfo`, constants in the sense of this
package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from prewatt.core.bounds import Int64

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US
MINUTES_PER_DAY: Final = 24 * 60
HOLIDAY: Final = 7
"""The day kind after Monday = 0 … Sunday = 6."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_FIRST_YEAR: Final = 1971
_LAST_YEAR: Final = 2199
_YEARS_PER_TABLE: Final = 10
# No zone since 1970 has had two transitions within six hours, so probing that often finds every
# one.
_PROBE_STEP: Final = timedelta(hours=6)


class CivilTimeRefused(ValueError):
    """A zone is unknown or an instant lies outside 1971–2199. `reason` says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def instant_us(moment: datetime) -> int:
    """The instant of an aware datetime in microseconds, exactly."""
    if moment.tzinfo is None:
        raise CivilTimeRefused("a datetime without a time zone is not an instant")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def utc_datetime(at_us: int) -> datetime:
    """The aware UTC datetime of an instant in microseconds, exactly."""
    return _EPOCH + timedelta(microseconds=at_us)


def day_number(day: date) -> int:
    """Days since 1970-01-01, the form in which a local day travels through arrays."""
    return day.toordinal() - _EPOCH_DAY


def day_date(number: int) -> date:
    """The date of a day number."""
    return date.fromordinal(number + _EPOCH_DAY)


@dataclass(frozen=True, slots=True)
class LocalCalendar:
    """The civil time of one place: an IANA zone name and the dates that count as holidays there.

    `workdays` are dates that count as another weekday than their own, Monday = 0 … Sunday = 6, such
    as a Saturday that is worked to make up for a bridge day; such a date is never a holiday.
    Hashable, so that compiled timelines can be cached by it. Raises `CivilTimeRefused` for a zone
    that the tz database does not know, and for workdays that name a date twice or no weekday.
    """

    time_zone: str
    holidays: frozenset[date] = field(default=frozenset())
    workdays: frozenset[tuple[date, int]] = field(default=frozenset())

    def __post_init__(self) -> None:
        _zone(self.time_zone)
        if len({day for day, _ in self.workdays}) < len(self.workdays):
            raise CivilTimeRefused("a date cannot count as two weekdays")
        if any(not 0 <= weekday < HOLIDAY for _, weekday in self.workdays):
            raise CivilTimeRefused("weekdays are numbered 0 (Monday) to 6 (Sunday)")

    def offset_us(self, at_us: Int64) -> Int64:
        """Wall minus UTC at each instant, same shape."""
        if at_us.size == 0:
            return np.zeros_like(at_us)
        edges, offsets = self._table(int(at_us.min()), int(at_us.max()))
        return offsets[np.searchsorted(edges, at_us, side="right") - 1]

    def wall_us(self, at_us: Int64) -> Int64:
        """What the wall clock shows at each instant, same shape."""
        return at_us + self.offset_us(at_us)

    def minute_of_day(self, at_us: Int64) -> Int64:
        """Wall-clock minute 0–1439 at each instant."""
        return self.wall_us(at_us) % DAY_US // MINUTE_US

    def first_instant_at_wall(self, wall_us: Int64) -> Int64:
        """The first instant whose wall clock shows `wall_us` or later (see the rule above)."""
        if wall_us.size == 0:
            return np.zeros_like(wall_us)
        edges, offsets = self._table(int(wall_us.min()) - DAY_US, int(wall_us.max()) + DAY_US)
        wall_ends = np.append(edges[1:] + offsets[:-1], np.iinfo(np.int64).max)
        stretch = np.searchsorted(wall_ends, wall_us, side="right")
        return np.asarray(np.maximum(edges[stretch], wall_us - offsets[stretch]), dtype=np.int64)

    def day_starts(self, from_us: int, to_us: int) -> Int64:
        """The starts of the local days that cover [from_us, to_us), plus the end of the last.

        Strictly increasing; the first is ≤ `from_us`, the last is ≥ `to_us`. Days last 23, 24 or
        25 hours, or whatever the zone did.
        """
        first = int(self.local_day(np.array([from_us], dtype=np.int64))[0])
        last = int(self.local_day(np.array([max(from_us, to_us - 1)], dtype=np.int64))[0])
        starts = self.first_instant_at_wall(np.arange(first, last + 2, dtype=np.int64) * DAY_US)
        # A place that skipped a whole day (Samoa in 2011) would list the same instant twice.
        return np.unique(starts)

    def local_day(self, at_us: Int64) -> Int64:
        """The day number (days since 1970-01-01) of the local day that contains each instant.

        Never decreases with time: where a clock is set back across midnight, the new day goes on.
        """
        day = self.wall_us(at_us) // DAY_US
        next_start = self.first_instant_at_wall((day + 1) * DAY_US)
        return np.where(at_us >= next_start, day + 1, day)

    def local_date(self, at_us: int) -> date:
        """The local date that contains one instant."""
        return day_date(int(self.local_day(np.array([at_us], dtype=np.int64))[0]))

    def start_of_day(self, day: date) -> int:
        """The instant at which a local date begins."""
        wall_us = np.array([day_number(day) * DAY_US], dtype=np.int64)
        return int(self.first_instant_at_wall(wall_us)[0])

    def day_kind(self, at_us: Int64) -> Int64:
        """Weekday by the wall clock, Monday = 0 … Sunday = 6, or `HOLIDAY` = 7 on a holiday; a
        date among `workdays` is the weekday that it counts as.
        """
        return self.day_kind_of(self.wall_us(at_us) // DAY_US)

    def day_kind_of(self, day: Int64) -> Int64:
        """The same for day numbers."""
        # 1970-01-01 was a Thursday.
        kind = (day + 3) % 7
        if self.holidays:
            kind = np.where(np.isin(day, _holiday_numbers(self.holidays)), HOLIDAY, kind)
        if self.workdays:
            days, weekdays = _workday_columns(self.workdays)
            at = np.minimum(np.searchsorted(days, day), days.size - 1)
            kind = np.where(days[at] == day, weekdays[at], kind)
        return kind

    def next_local(self, after_us: int, minute_of_day: int) -> int:
        """The first instant after `after_us` (strictly) at which a local day reaches a wall-clock
        minute.

        A minute that a day skips counts as reached at the jump; one that it repeats is reached
        once.
        """
        day = int(self.local_day(np.array([after_us], dtype=np.int64))[0])
        walls = np.arange(day - 1, day + 4, dtype=np.int64) * DAY_US + minute_of_day * MINUTE_US
        instants = self.first_instant_at_wall(walls)
        return int(instants[instants > after_us][0])

    def wall_edges(self, from_us: int, to_us: int, minutes: tuple[int, ...]) -> Int64:
        """Every instant in [from_us, to_us) at which something priced by the wall clock may
        change.

        Sorted and unique: `from_us`, each instant at which the wall clock shows one of `minutes`
        of the day, each change of offset, and the start of each local day.
        """
        table_edges, table_offsets = self._table(from_us, to_us)
        pieces = [np.array([from_us], dtype=np.int64), self.day_starts(from_us, to_us)]
        bounds = [*table_edges.tolist(), to_us]
        for (first, last), offset in zip(pairwise(bounds), table_offsets.tolist(), strict=True):
            begin, end = max(first, from_us), min(last, to_us)
            if begin >= end:
                continue
            days = np.arange(
                (begin + offset) // DAY_US, (end + offset) // DAY_US + 1, dtype=np.int64
            )
            walls = days[:, None] * DAY_US + np.array(minutes, dtype=np.int64) * MINUTE_US
            instants = (walls - offset).ravel()
            pieces.append(np.array([begin], dtype=np.int64))
            # This offset holds in this stretch only.
            pieces.append(instants[(instants >= begin) & (instants < end)])
        edges = np.unique(np.concatenate(pieces))
        return edges[(edges >= from_us) & (edges < to_us)]

    def _table(self, from_us: int, to_us: int) -> tuple[Int64, Int64]:
        """The transition table of whole decades around a range."""
        first = utc_year(from_us - 2 * DAY_US)
        last = utc_year(to_us + 2 * DAY_US)
        return _offset_table(
            self.time_zone,
            first - first % _YEARS_PER_TABLE,
            last - last % _YEARS_PER_TABLE + _YEARS_PER_TABLE,
        )


def utc_year(at_us: int) -> int:
    """The UTC year of an instant, or `CivilTimeRefused` outside the supported range."""
    day = at_us // DAY_US
    if not _YEAR_DAYS[0] <= day < _YEAR_DAYS[1]:
        raise CivilTimeRefused(f"the instant {at_us} lies outside {_FIRST_YEAR}–{_LAST_YEAR}")
    return day_date(day).year


_YEAR_DAYS: Final = (day_number(date(_FIRST_YEAR, 1, 1)), day_number(date(_LAST_YEAR + 1, 1, 1)))


@lru_cache(maxsize=256)
def _zone(time_zone: str) -> ZoneInfo:
    try:
        return ZoneInfo(time_zone)
    except (OSError, ValueError, KeyError) as error:
        raise CivilTimeRefused(f"the time zone {time_zone!r} is not in the tz database") from error


@lru_cache(maxsize=256)
def _holiday_numbers(holidays: frozenset[date]) -> Int64:
    return np.array(sorted(day_number(day) for day in holidays), dtype=np.int64)


@lru_cache(maxsize=256)
def _workday_columns(workdays: frozenset[tuple[date, int]]) -> tuple[Int64, Int64]:
    """(sorted day numbers, the weekdays that they count as)."""
    ordered = sorted((day_number(day), weekday) for day, weekday in workdays)
    return (
        np.array([number for number, _ in ordered], dtype=np.int64),
        np.array([weekday for _, weekday in ordered], dtype=np.int64),
    )


@lru_cache(maxsize=512)
def _offset_table(time_zone: str, first_year: int, end_year: int) -> tuple[Int64, Int64]:
    """(instants, offsets): offset i holds from instant i until instant i + 1. Covers whole UTC
    years.
    """
    zone = _zone(time_zone)
    probe = datetime(first_year, 1, 1, tzinfo=UTC)
    end = datetime(end_year, 1, 1, tzinfo=UTC)
    offset = _offset_at(zone, probe)
    edges, offsets = [instant_us(probe)], [offset]
    while probe < end:
        following = probe + _PROBE_STEP
        if (after := _offset_at(zone, following)) != offset:
            edges.append(instant_us(_transition(zone, probe, following)))
            offsets.append(after)
            offset = after
        probe = following
    table = np.array(edges, dtype=np.int64), np.array(offsets, dtype=np.int64)
    # Every look-up by wall clock leans on it: no stretch is shorter than the clock is set back.
    assert bool((np.diff(table[0][1:] + table[1][:-1]) > 0).all()), f"{time_zone} is not orderly"
    for column in table:
        column.setflags(write=False)
    return table


def _transition(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The second at which the offset changes, between two probes that differ, by bisection."""
    old = _offset_at(zone, before)
    low, high = 0, int((after - before).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_at(zone, before + timedelta(seconds=middle)) == old:
            low = middle
        else:
            high = middle
    return before + timedelta(seconds=high)


def _offset_at(zone: ZoneInfo, moment: datetime) -> int:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None, "an aware datetime has an offset"
    return offset // timedelta(microseconds=1)
