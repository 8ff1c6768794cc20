"""Rating: from intervals and a tariff version to charges, exact and vectorised.

Three steps, each on columns and none with a Python loop over rows:

1. `compile_timeline` lays a tariff over a calendar and a UTC range: at which instants the price, the band or
   the local day changes. `TimelineSet.of` joins the timelines of one batch.
2. `split_intervals` cuts each interval at those instants and allocates its energy.
3. `charge_segments` multiplies and carries the remainder, so that batches never matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import Int64
from prewatt.core.civil_time import LocalCalendar
from prewatt.core.tariff import Tariff

Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]


class Component(IntEnum):
    """What a charge is for; stored as smallint, never renumbered."""

    ENERGY = 1
    STANDING = 2
    TAX = 3
    FEE = 4
    DEMAND = 5
    SUBSIDY = 6
    DEBT = 7


class IntervalRefused(ValueError):
    """An interval cannot be rated. `reason` is `empty` or `outside_timeline`; `row` is its index."""


@dataclass(frozen=True, slots=True)
class PriceTimeline:
    """One tariff version laid over one calendar: segment i is [edge_at_us[i], edge_at_us[i + 1]), the last
    ends at `until_at_us`. Columns of one length: `band` indexes `Tariff.bands`, `local_day` is the day
    number (days since 1970-01-01), `version_id` the caller's id of the tariff version.
    """

    edge_at_us: Int64
    until_at_us: int
    band: Int16
    price_nano_per_kwh: Int64
    local_day: Int32
    version_id: Int64


def compile_timeline(
    tariff: Tariff, calendar: LocalCalendar, from_us: int, to_us: int, *, version_id: int = 0
) -> PriceTimeline:
    """Edges at every band change and local midnight in [from_us, to_us)."""
    raise NotImplementedError


def splice(parts: Sequence[tuple[int, PriceTimeline]]) -> PriceTimeline:
    """One timeline of several: each part holds from its instant until the next part's; for an account
    whose tariff version changes inside the range."""
    raise NotImplementedError


class TimelineSet:
    """Timelines joined for one batch; `timeline_index` of a row is the position in `of`'s sequence."""

    @classmethod
    def of(cls, timelines: Sequence[PriceTimeline]) -> TimelineSet:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Segments:
    """Parts of intervals, ordered by (source row, segment_no); columns of one length."""

    source_row: Int64
    segment_no: Int32
    start_at_us: Int64
    end_at_us: Int64
    energy_wh: Int64
    band: Int16
    price_nano_per_kwh: Int64
    local_day: Int32
    version_id: Int64


def split_intervals(
    *,
    start_at_us: Int64,
    end_at_us: Int64,
    energy_wh: Int64,
    timeline_index: npt.NDArray[np.integer],
    timelines: TimelineSet,
) -> Segments:
    """Cut [start, end) rows at the edges of their timelines; energy pro rata by time, cumulative floor."""
    raise NotImplementedError


def charge_segments(
    *,
    account_index: npt.NDArray[np.integer],
    energy_wh: Int64,
    price_nano_per_kwh: Int64,
    carry: Int64,
) -> tuple[Int64, Int64]:
    """(charge_micro per segment, new carry per account). Rows sorted by (account_index, time); `carry` has
    one entry per account in [0, 10^6)."""
    raise NotImplementedError
