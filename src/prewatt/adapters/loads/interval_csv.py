"""A load as a table: `interval_start,wh`, one row for each interval, all of one length.

UTF-8, read row by row. `interval_start` is the begin of an interval as a clock shows it, such as
`2018-01-01T00:00`, with an offset (`+01:00`, `Z`) or without; `wh` is whole watt-hours. Other
columns are not read. Rows are in order, without gaps or repetitions; the first two say how long
intervals are. What is not so is refused with its line.

Which instants the rows are:

* Without a time zone, the file's own clock is taken as it is: it knows no daylight saving, and one
  that changes its offset is refused.
* With one, times without an offset are what clocks there show, and times with one are instants. An
  hour that clocks repeat is written twice in a row; an hour that they skip is not there.
"""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Final
from zoneinfo import ZoneInfo

import numpy as np

from prewatt.core.bounds import Int64
from prewatt.core.civil_time import DAY_US, MINUTE_US, LocalCalendar
from prewatt.core.loads import LoadAxis

TIME_COLUMN: Final = "interval_start"
ENERGY_COLUMN: Final = "wh"
FILE_CLOCK: Final = "UTC"
"""The zone in which a file's own clock has every day 24 hours."""

_STAMP: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?"
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ENERGY: Final = re.compile(r"-?[0-9]{1,12}")
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - what a clock shows, before it is an instant
_MICROSECOND: Final = timedelta(microseconds=1)
_YEARS: Final = range(1971, 2199)
_SHOWN: Final = 40


class LoadFileRefused(ValueError):
    """A table is not a load. `line` is where, counted from 1, `reason` one sentence without a full
    stop.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class LoadFile:
    """The intervals of a table, the energy of each in Wh, and the zone that they are billed in."""

    axis: LoadAxis
    energy_wh: Int64
    time_zone: str


def read_load(stream: BinaryIO, time_zone: str | None = None) -> LoadFile:
    """Read a table, by its own clock or by that of a time zone.

    Raises `LoadFileRefused`, and `CivilTimeRefused` for a zone that the tz database does not know.
    """
    clock = _Clock(time_zone)
    starts, energy = array("q"), array("q")
    for line, stamp, written in _rows(stream):
        starts.append(clock.instant(line, stamp))
        energy.append(_energy(line, written))
        _refuse_disorder(line, starts)
    if len(starts) < 2:
        raise LoadFileRefused(
            len(starts) + 1, "needs at least two intervals, which say how long they are"
        )
    start = np.array(starts, dtype=np.int64)
    return LoadFile(
        LoadAxis(start, start + (start[1] - start[0])),
        np.array(energy, dtype=np.int64),
        time_zone or FILE_CLOCK,
    )


def _rows(stream: BinaryIO) -> Iterator[tuple[int, str, str]]:
    """(line, time, energy) of each row below the heading."""
    # What is not UTF-8 becomes surrogates here, so that it can be refused with its line.
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, strict=True)
    try:
        columns: tuple[int, int] | None = None
        width = 0
        for row in reader:
            if not row:
                continue
            if any(_SURROGATE.search(cell) for cell in row if not cell.isascii()):
                raise LoadFileRefused(reader.line_num, "is not UTF-8")
            if columns is None:
                columns, width = _columns(reader.line_num, row), len(row)
                continue
            if len(row) != width:
                raise LoadFileRefused(
                    reader.line_num, f"has {len(row)} fields, and the heading {width}"
                )
            yield reader.line_num, row[columns[0]].strip(), row[columns[1]].strip()
    except csv.Error as error:
        raise LoadFileRefused(reader.line_num, f"is not CSV: {error}") from error
    finally:
        text.detach()


def _columns(line: int, heading: list[str]) -> tuple[int, int]:
    names = [name.strip() for name in heading]
    for needed in (TIME_COLUMN, ENERGY_COLUMN):
        if names.count(needed) != 1:
            fault = "has no column" if needed not in names else "has more than one column"
            raise LoadFileRefused(line, f"{fault} {needed!r}")
    return names.index(TIME_COLUMN), names.index(ENERGY_COLUMN)


def _energy(line: int, written: str) -> int:
    if not _ENERGY.fullmatch(written):
        raise LoadFileRefused(line, f"{_shown(written)} is not a whole number of Wh")
    energy = int(written)
    if energy < 0:
        raise LoadFileRefused(line, f"{written} Wh is negative, and export is not billed")
    return energy


def _refuse_disorder(line: int, starts: array[int]) -> None:
    """Refuse the last row unless it begins where the one before ends."""
    if len(starts) < 2:
        return
    since, length = starts[-1] - starts[-2], starts[1] - starts[0]
    if since == 0:
        raise LoadFileRefused(line, "repeats the interval before it")
    if since < 0:
        raise LoadFileRefused(line, "begins before the interval before it")
    if length % MINUTE_US or length > DAY_US:
        raise LoadFileRefused(line, "begins after the first by more than a day or by part-minutes")
    minutes = f"{since // MINUTE_US} minutes after the one before it, which has"
    if since > length:
        raise LoadFileRefused(
            line, f"leaves a gap: it begins {minutes} {length // MINUTE_US} minutes"
        )
    if since < length:
        raise LoadFileRefused(line, f"overlaps: it begins {minutes} {length // MINUTE_US} minutes")


@dataclass(slots=True)
class _Clock:
    """Turns the times of a file into instants, in the order of its rows."""

    time_zone: str | None
    zone: ZoneInfo | None = field(init=False)
    offset: str | None = field(default=None, init=False)
    reached: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        # The calendar knows what to say of a zone that there is not.
        self.zone = ZoneInfo(LocalCalendar(self.time_zone).time_zone) if self.time_zone else None

    def instant(self, line: int, written: str) -> int:
        """The instant of a row's time, in microseconds since 1970 UTC."""
        found = _STAMP.fullmatch(written)
        try:
            moment = datetime.fromisoformat(written) if found else None
        except ValueError:
            moment = None
        if found is None or moment is None or moment.year not in _YEARS:
            raise LoadFileRefused(line, f"{_shown(written)} is not a time like 2018-01-01T00:00")
        self._refuse_other_offset(line, found[1] or "")
        at = self._at(line, written, moment)
        self.reached = at
        return at

    def _refuse_other_offset(self, line: int, offset: str) -> None:
        if self.offset is None:
            self.offset = offset
        if bool(self.offset) != bool(offset):
            raise LoadFileRefused(line, "mixes times with an offset and times without one")
        if self.zone is None and self.offset != offset:
            raise LoadFileRefused(
                line, f"changes the offset from {self.offset} to {offset}: name the time zone"
            )

    def _at(self, line: int, written: str, moment: datetime) -> int:
        if self.zone is None:
            return (moment.replace(tzinfo=None) - _EPOCH) // _MICROSECOND
        if moment.tzinfo is not None:
            return (moment.astimezone(UTC).replace(tzinfo=None) - _EPOCH) // _MICROSECOND
        first, second = (_instant(moment.replace(tzinfo=self.zone, fold=fold)) for fold in (0, 1))
        if first > second:
            raise LoadFileRefused(line, f"{written} is skipped by the clocks of {self.time_zone}")
        # A time that clocks show twice is the first of both that has not been yet.
        return second if self.reached is not None and first <= self.reached < second else first


def _instant(moment: datetime) -> int:
    return (moment.astimezone(UTC).replace(tzinfo=None) - _EPOCH) // _MICROSECOND


def _shown(written: str) -> str:
    return repr(written if len(written) <= _SHOWN else f"{written[:_SHOWN]}…")
