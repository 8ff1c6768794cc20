"""Loads that share their intervals, laid under a tariff: which stretch of prices each part is in.

Many loads have the same time axis: a year of hours, a year of quarter-hours. What depends on time
alone (seasons, bands, days, windows, taxes) is looked up once for the axis, and what is left of a
load is its energy in each *cell*: the intervals of one local month that have the same band, prices
and counting rules.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prewatt.core.bounds import INT64_MAX, Int64, OverflowRefused, magnitude, mul_div_floor
from prewatt.core.civil_time import LocalCalendar
from prewatt.core.rating import split_intervals
from prewatt.core.steps import Countings
from prewatt.core.tariff import Tariff
from prewatt.core.timelines import PriceRules, TimelineSet, compile_timeline


class LoadRefused(ValueError):
    """A load cannot be rated. `reason` is `empty`, `order` (an interval ends before it begins, or
    begins before the one before it ends), `shape` (not one energy per interval) or `negative`;
    `row` is the interval's index, 0 where it is about the whole load.
    """

    def __init__(self, reason: str, row: int = 0) -> None:
        super().__init__(f"load refused at interval {row}: {reason}")
        self.reason = reason
        self.row = row


@dataclass(frozen=True, slots=True)
class LoadAxis:
    """The intervals [start, end) of loads in microseconds since 1970 UTC, in order, not
    overlapping. Gaps are stretches without a reading, and cost nothing but what falls due by days.
    """

    start_at_us: Int64
    end_at_us: Int64

    def __post_init__(self) -> None:
        if self.start_at_us.size == 0:
            raise LoadRefused("empty")
        if self.start_at_us.shape != self.end_at_us.shape:
            raise LoadRefused("shape")
        wrong = self.end_at_us <= self.start_at_us
        wrong[1:] |= self.start_at_us[1:] < self.end_at_us[:-1]
        if wrong.any():
            raise LoadRefused("order", int(np.argmax(wrong)))

    @property
    def from_us(self) -> int:
        """Where the first interval begins."""
        return int(self.start_at_us[0])

    @property
    def until_us(self) -> int:
        """Where the last interval ends."""
        return int(self.end_at_us[-1])


@dataclass(frozen=True, slots=True)
class Cells:
    """What the intervals of a cell have in common; columns of one length.

    `month` counts months since January 1970, `day` is one of the cell's local days (all have the
    same taxes), `band` a position in `Tariff.bands`, `rule` and `counting` are rows of the tables
    of rules.
    """

    month: Int64
    day: Int64
    band: Int64
    rule: Int64
    counting: Int64

    def __len__(self) -> int:
        return int(self.month.size)


@dataclass(frozen=True, slots=True)
class LaidAxis:
    """A time axis under one tariff in one place.

    Parts are intervals divided at the edges of bands and local days: `part_row` is the interval,
    [`part_from_us`, `part_until_us`) the stretch, `part_cell` and `part_day` where it belongs.
    """

    axis: LoadAxis
    timelines: TimelineSet
    cells: Cells
    part_row: Int64
    part_from_us: Int64
    part_until_us: Int64
    part_cell: Int64
    part_day: Int64

    @property
    def rules(self) -> PriceRules:
        """What usage costs, by `Cells.rule`."""
        return self.timelines.rules

    @property
    def countings(self) -> Countings:
        """How usage counts, by `Cells.counting`."""
        return self.timelines.countings

    def parts_of(self, energy_wh: Int64) -> Int64:
        """The energy of each part, [loads, parts], of loads [loads, intervals].

        A divided interval's energy falls to its parts as everywhere: up to an edge that lies e into
        an interval of length d, floor(Wh × e ÷ d).
        """
        if self.part_row.size == energy_wh.shape[1]:
            return energy_wh
        parts = energy_wh[:, self.part_row]
        counts = np.bincount(self.part_row)
        cut = np.flatnonzero(counts[self.part_row] > 1)
        row = self.part_row[cut]
        origin = self.axis.start_at_us[row]
        length = self.axis.end_at_us[row] - origin
        place = "the energy of a divided interval"
        upto_end = mul_div_floor(
            parts[:, cut], self.part_until_us[cut] - origin, length, place=place
        )
        upto_start = mul_div_floor(
            parts[:, cut], self.part_from_us[cut] - origin, length, place=place
        )
        parts[:, cut] = upto_end - upto_start
        return parts

    def by_cell(self, parts_wh: Int64) -> Int64:
        """The energy of each cell, [loads, cells], of parts [loads, parts].

        Raises `OverflowRefused` where a load could come to more than 64 bits hold.
        """
        if magnitude(parts_wh) * max(self.part_cell.size, 1) > INT64_MAX:
            raise OverflowRefused("the energy of a load")
        # First runs of parts that lie together in one cell, which reads the matrix once in order.
        starts = np.append(0, np.flatnonzero(np.diff(self.part_cell)) + 1)
        runs = np.add.reduceat(parts_wh, starts, axis=1)
        cell = self.part_cell[starts]
        order = np.argsort(cell, kind="stable")
        heads = np.append(0, np.flatnonzero(np.diff(cell[order])) + 1)
        return np.asarray(np.add.reduceat(runs[:, order], heads, axis=1), dtype=np.int64)


def lay_axis(
    tariff: Tariff, calendar: LocalCalendar, axis: LoadAxis, exempt: frozenset[str] = frozenset()
) -> LaidAxis:
    """Look an axis up in a tariff's calendar. `exempt` are codes of taxes that are not charged."""
    timeline = compile_timeline(tariff, calendar, axis.from_us, axis.until_us, exempt=exempt)
    timelines = TimelineSet.of([timeline])
    nobody = np.zeros(axis.start_at_us.size, dtype=np.int64)
    parts = split_intervals(
        start_at_us=axis.start_at_us,
        end_at_us=axis.end_at_us,
        energy_wh=nobody,
        timeline_index=nobody,
        timelines=timelines,
    )
    day = parts.local_day.astype(np.int64)
    marks = np.column_stack(
        [
            day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64),
            parts.band.astype(np.int64),
            timelines.rule[parts.segment],
            timelines.counting[parts.segment],
        ]
    )
    found, first, of_part = np.unique(marks, axis=0, return_index=True, return_inverse=True)
    return LaidAxis(
        axis=axis,
        timelines=timelines,
        cells=Cells(found[:, 0], day[first], found[:, 1], found[:, 2], found[:, 3]),
        part_row=parts.source_row,
        part_from_us=parts.start_at_us,
        part_until_us=parts.end_at_us,
        part_cell=of_part.reshape(-1).astype(np.int64),
        part_day=day,
    )
