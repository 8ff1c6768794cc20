"""Rating: from intervals and a tariff version to charges, exact and vectorised.

Three steps, each on columns and none with a Python loop over rows:

1. `compile_timeline` lays a tariff over a calendar and a UTC range: at which instants the band or
   the local day changes. `splice` joins the versions that one account has in the range,
   `TimelineSet.of` joins all timelines of one batch.
2. `split_intervals` cuts each interval at those instants and allocates its energy.
3. `charge_segments` multiplies and carries the remainder, so that it never matters where batches
   are cut.

The unit of the remainder: energy is whole Wh, that is 10⁻³ kWh; a price is whole nano-units per
kWh, that is 10⁻⁹ currency; their product counts 10⁻¹² currency, and a micro-unit is 10⁻⁶
currency. So Wh × nano is the charge in micro-units with denominator 10⁶, and the carry of energy
is an integer in [0, 10⁶).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from itertools import pairwise
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import (
    INT64_MAX,
    Int64,
    OverflowRefused,
    checked_multiply,
    magnitude,
    mul_div_floor,
)
from prewatt.core.civil_time import DAY_US, MINUTE_US, LocalCalendar
from prewatt.core.tariff import MONTH_STARTS, BandTable, Tariff, band_table

Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]
Index = npt.NDArray[np.integer]


class Component(IntEnum):
    """What a charge is for; stored as smallint, never renumbered."""

    ENERGY = 1
    STANDING = 2
    TAX = 3
    FEE = 4
    DEMAND = 5
    SUBSIDY = 6
    DEBT = 7
    MINIMUM = 8
    MAXIMUM = 9
    REBATE = 10
    DEPOSIT = 11


CARRY_DENOMINATOR: Final[Mapping[Component, int]] = MappingProxyType(
    {
        # Wh × nano-units per kWh.
        Component.ENERGY: 1_000_000,
        # Nano-units per local day.
        Component.STANDING: 1_000,
        # Micro-units × parts per million.
        Component.TAX: 1_000_000,
        # Nano-units per occasion.
        Component.FEE: 1_000,
        # W × nano-units per kW and 1000 = W × nano ÷ (1000 W/kW × 1000 nano/micro).
        Component.DEMAND: 1_000_000,
        # As energy, whose price a subsidy lowers.
        Component.SUBSIDY: 1_000_000,
        # Micro-units × parts per million: a share of a recharge.
        Component.DEBT: 1_000_000,
    }
)
"""The remainder that an account carries for a component counts this fraction of a micro-unit."""

# Looking up a price is one division and two gathers: a table says which segment holds at the
# start of each quarter-hour, and only tariffs with edges inside a quarter-hour need another step.
_BUCKET_US: Final = 15 * MINUTE_US


class IntervalRefused(ValueError):
    """An interval cannot be rated. `reason` is `empty` (start is not before end) or
    `outside_timeline`; `row` is its index in the batch.
    """

    def __init__(self, reason: str, row: int) -> None:
        super().__init__(f"interval {row} refused: {reason}")
        self.reason = reason
        self.row = row


@dataclass(frozen=True, slots=True)
class PriceTimeline:
    """One tariff version laid over one calendar.

    Segment i is [edge_at_us[i], edge_at_us[i + 1]), the last one ends at `until_at_us`. Columns
    of one length ≥ 1: `band` is the position in `Tariff.bands`, `local_day` the day number (days
    since 1970-01-01), `version_id` the caller's id of the tariff version.
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
    """The timeline of a tariff in [from_us, to_us), with an edge at every band change and local
    midnight.

    Costs about a millisecond per year and a few more the first time a zone is used: compile once
    per tariff epoch, not once per batch. Raises `CivilTimeRefused` outside 1971–2199.
    """
    if from_us >= to_us:
        raise ValueError("a timeline needs from_us < to_us")
    table = band_table(tariff)
    edges = calendar.wall_edges(from_us, to_us, table.breakpoints)
    local_day = calendar.local_day(edges).astype(np.int32)
    band = _band_at(table, calendar, edges)
    changes = np.ones(edges.size, dtype=np.bool_)
    changes[1:] = (band[1:] != band[:-1]) | (local_day[1:] != local_day[:-1])
    band = band[changes]
    return PriceTimeline(
        edge_at_us=edges[changes],
        until_at_us=to_us,
        band=band,
        price_nano_per_kwh=table.price_nano_per_kwh[band],
        local_day=local_day[changes],
        version_id=np.full(band.size, version_id, dtype=np.int64),
    )


def splice(parts: Sequence[tuple[int, PriceTimeline]]) -> PriceTimeline:
    """One timeline out of several, for an account whose tariff version changes inside the range.

    Each part `(from_us, timeline)` holds from its instant until the next part's, the last until
    its own end. Instants strictly increase, and each timeline must cover the stretch it holds
    for: `ValueError` otherwise.
    """
    last = parts[-1][1]
    bounds = [begin for begin, _ in parts] + [last.until_at_us]
    pieces = []
    for (begin, end), (_, timeline) in zip(pairwise(bounds), parts, strict=True):
        if not timeline.edge_at_us[0] <= begin < end <= timeline.until_at_us:
            raise ValueError(f"a timeline does not cover its stretch {begin}–{end}")
        first = int(np.searchsorted(timeline.edge_at_us, begin, side="right")) - 1
        stop = int(np.searchsorted(timeline.edge_at_us, end, side="left"))
        edges = timeline.edge_at_us[first:stop].copy()
        edges[0] = begin
        pieces.append((edges, timeline, slice(first, stop)))
    return PriceTimeline(
        edge_at_us=np.concatenate([edges for edges, _, _ in pieces]),
        until_at_us=last.until_at_us,
        band=np.concatenate([each.band[part] for _, each, part in pieces]),
        price_nano_per_kwh=np.concatenate(
            [each.price_nano_per_kwh[part] for _, each, part in pieces]
        ),
        local_day=np.concatenate([each.local_day[part] for _, each, part in pieces]),
        version_id=np.concatenate([each.version_id[part] for _, each, part in pieces]),
    )


@dataclass(frozen=True, slots=True)
class TimelineSet:
    """The timelines of one batch, joined; a row's `timeline_index` is a position in the sequence
    given to `of`. Build it once per tariff epoch and reuse it: it is immutable.

    `segment_*` are the joined columns, with the end of each segment; `bucket_*` the look-up
    tables.
    """

    segment_start_us: Int64
    segment_end_us: Int64
    band: Int16
    price_nano_per_kwh: Int64
    local_day: Int32
    version_id: Int64
    from_us: Int64
    until_us: Int64
    bucket_base: Int64
    bucket_segment: Int64
    extra_steps: int

    @classmethod
    def of(cls, timelines: Sequence[PriceTimeline]) -> TimelineSet:
        """Join at least one timeline."""
        sizes = [each.edge_at_us.size for each in timelines]
        first_segment = np.cumsum([0, *sizes[:-1]])
        buckets, steps = [], []
        for timeline, offset in zip(timelines, first_segment.tolist(), strict=True):
            edges = timeline.edge_at_us
            starts = np.arange(int(edges[0]), timeline.until_at_us, _BUCKET_US, dtype=np.int64)
            at_start = np.searchsorted(edges, starts, side="right") - 1
            at_end = np.searchsorted(edges, starts + _BUCKET_US, side="left") - 1
            buckets.append(at_start + offset)
            steps.append(int((at_end - at_start).max()))
        return cls(
            segment_start_us=np.concatenate([each.edge_at_us for each in timelines]),
            segment_end_us=np.concatenate(
                [np.append(each.edge_at_us[1:], each.until_at_us) for each in timelines]
            ),
            band=np.concatenate([each.band for each in timelines]),
            price_nano_per_kwh=np.concatenate([each.price_nano_per_kwh for each in timelines]),
            local_day=np.concatenate([each.local_day for each in timelines]),
            version_id=np.concatenate([each.version_id for each in timelines]),
            from_us=np.array([each.edge_at_us[0] for each in timelines], dtype=np.int64),
            until_us=np.array([each.until_at_us for each in timelines], dtype=np.int64),
            bucket_base=np.cumsum([0, *(part.size for part in buckets[:-1])]).astype(np.int64),
            bucket_segment=np.concatenate(buckets).astype(np.int64),
            extra_steps=max(steps),
        )

    def segment_at(self, at_us: Int64, timeline_index: Index) -> Int64:
        """The joined segment that contains each instant; instants must lie inside their
        timelines.
        """
        if self.from_us.size == 1:
            bucket = (at_us - self.from_us[0]) // _BUCKET_US
        else:
            bucket = (at_us - self.from_us[timeline_index]) // _BUCKET_US + self.bucket_base[
                timeline_index
            ]
        segment: Int64 = self.bucket_segment[bucket]
        for _ in range(self.extra_steps):
            segment += at_us >= self.segment_end_us[segment]
        return segment


@dataclass(frozen=True, slots=True)
class Segments:
    """Parts of intervals, ordered by (source_row, segment_no); columns of one length.

    `source_row` is the index of the interval, `segment_no` counts its parts from 0. The energy of
    an interval's parts sums to the interval's energy exactly.
    """

    source_row: Int64
    segment_no: Int32
    start_at_us: Int64
    end_at_us: Int64
    energy_wh: Int64
    band: Int16
    price_nano_per_kwh: Int64
    local_day: Int32
    version_id: Int64

    def __len__(self) -> int:
        return int(self.source_row.size)

    def columns(self) -> tuple[str, ...]:
        """The names of the columns, for callers that store or compare them all."""
        return tuple(each.name for each in fields(self))


def split_intervals(
    *,
    start_at_us: Int64,
    end_at_us: Int64,
    energy_wh: Int64,
    timeline_index: Index,
    timelines: TimelineSet,
) -> Segments:
    """Cut each interval [start, end) at the edges of its timeline.

    All columns have one length. Energy goes to the parts pro rata by time with a cumulative
    floor: up to an edge that lies e into an interval of length d, floor(energy × e ÷ d) is used.
    That is defined for negative energy too, and adding an edge never moves energy between the
    parts on either side of another. Refuses with `IntervalRefused` an interval that is empty or
    leaves its timeline.
    """
    _refuse_bad_intervals(start_at_us, end_at_us, timeline_index, timelines)
    first = timelines.segment_at(start_at_us, timeline_index)
    crossing = np.flatnonzero(end_at_us > timelines.segment_end_us[first])
    if crossing.size == 0:
        rows = np.arange(start_at_us.size, dtype=np.int64)
        numbers = np.zeros(rows.size, dtype=np.int32)
        return _segments(timelines, first, rows, numbers, start_at_us, end_at_us, energy_wh)
    parts = np.ones(start_at_us.size, dtype=np.int64)
    last = timelines.segment_at(end_at_us[crossing] - 1, timeline_index[crossing])
    parts[crossing] += last - first[crossing]
    rows = np.repeat(np.arange(start_at_us.size, dtype=np.int64), parts)
    before = np.cumsum(parts) - parts
    numbers = np.arange(rows.size, dtype=np.int64) - before[rows]
    segment = first[rows] + numbers
    start = np.maximum(start_at_us[rows], timelines.segment_start_us[segment])
    end = np.minimum(end_at_us[rows], timelines.segment_end_us[segment])
    energy = energy_wh[rows]
    cut = np.flatnonzero(parts[rows] > 1)
    energy[cut] = _allocate(rows[cut], start[cut], end[cut], start_at_us, end_at_us, energy_wh)
    return _segments(timelines, segment, rows, numbers.astype(np.int32), start, end, energy)


def charge_segments(
    *,
    account_index: Index,
    energy_wh: Int64,
    price_nano_per_kwh: Int64,
    carry: Int64,
) -> tuple[Int64, Int64]:
    """(charge in micro-units per row, new carry per account).

    Rows are sorted by (account_index, time); `account_index` points into `carry`, which has one
    energy remainder in [0, 10⁶) per account. Within an account the charges up to and with row n
    sum to floor((carry + Σ Wh × nano) ÷ 10⁶), so that any sequence of batches charges the floor
    of the exact total. Negative energy (a correction, an export) follows the same floor. Accounts
    without rows keep their carry. Raises `OverflowRefused` instead of wrapping, and `ValueError`
    for rows out of order or a carry out of range.
    """
    denominator = CARRY_DENOMINATOR[Component.ENERGY]
    most = magnitude(energy_wh) * max(energy_wh.size, 1)
    if most * magnitude(price_nano_per_kwh) + denominator <= INT64_MAX:
        return floor_with_carry(
            account_index=account_index,
            numerator=energy_wh * price_nano_per_kwh,
            carry=carry,
            denominator=denominator,
        )
    # Prices of high-denomination currencies reach the bound: charge whole micro-units per Wh
    # apart from the rest, whose product with the energy is smaller by as much.
    if most * denominator + denominator > INT64_MAX:
        raise OverflowRefused("the energy of a batch")
    whole, rest = np.divmod(price_nano_per_kwh, denominator)
    charge, new_carry = floor_with_carry(
        account_index=account_index,
        numerator=energy_wh * rest,
        carry=carry,
        denominator=denominator,
    )
    whole_charge = checked_multiply(energy_wh, whole, place="an energy charge")
    if magnitude(whole_charge) * whole_charge.size + most + 1 > INT64_MAX:
        raise OverflowRefused("the energy charges of a batch")
    return charge + whole_charge, new_carry


def floor_with_carry(
    *, account_index: Index, numerator: Int64, carry: Int64, denominator: int
) -> tuple[Int64, Int64]:
    """(micro-units per row, new carry per account) for numerators over any component's
    denominator.

    The one place where a fraction of a micro-unit is cut off, used by every component. Same order
    and errors as `charge_segments`; Σ|numerator| + denominator must fit into 64 bits.
    """
    if carry.size and not 0 <= int(carry.min()) <= int(carry.max()) < denominator:
        raise ValueError("a carry lies outside [0, denominator)")
    if numerator.size == 0:
        return np.zeros(0, dtype=np.int64), carry.copy()
    if magnitude(numerator) * numerator.size + denominator > INT64_MAX:
        raise OverflowRefused("the charges of a batch")
    follows = account_index[1:] != account_index[:-1]
    if bool((account_index[1:] < account_index[:-1]).any()):
        raise ValueError("rows are not sorted by account_index")
    starts = np.append(0, np.flatnonzero(follows) + 1)
    accounts = account_index[starts]
    running = np.cumsum(numerator)
    # What ran up before each account's first row, less what that account brought along.
    before = running[starts] - numerator[starts] - carry[accounts]
    lengths = np.diff(np.append(starts, numerator.size))
    running -= np.repeat(before, lengths)
    floor = running // denominator
    charge = floor.copy()
    charge[1:] -= floor[:-1]
    charge[starts] = floor[starts]
    ends = starts + lengths - 1
    new_carry = carry.copy()
    new_carry[accounts] = running[ends] - floor[ends] * denominator
    return charge, new_carry


def standing_days(calendar: LocalCalendar, after_us: Int64, through_us: Int64) -> Int64:
    """How many local days begin in (after, through]: each owes its standing charge at its first
    instant.

    Same shapes. Cutting the range anywhere gives counts that add up, so batches never matter here
    either.
    """
    return calendar.local_day(through_us) - calendar.local_day(after_us)


def charge_standing(*, days: Int64, price_nano_per_day: Int64, carry: Int64) -> tuple[Int64, Int64]:
    """(charge in micro-units, new carry) per account, one row each; `carry` in [0, 10³)."""
    return floor_with_carry(
        account_index=np.arange(days.size, dtype=np.int64),
        numerator=checked_multiply(days, price_nano_per_day, place="a standing charge"),
        carry=carry,
        denominator=CARRY_DENOMINATOR[Component.STANDING],
    )


def _band_at(table: BandTable, calendar: LocalCalendar, at_us: Int64) -> Int16:
    """The band that holds at each instant, by season, day kind and minute of the wall clock."""
    wall = calendar.wall_us(at_us)
    day = wall // DAY_US
    dates = day.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    day_of_month = (dates - months).astype(np.int64)
    month = months.astype(np.int64) % 12
    season = table.season_of_day[np.array(MONTH_STARTS, dtype=np.int64)[month] + day_of_month]
    day_class = table.class_of_kind[calendar.day_kind_of(day)]
    # -1: this tariff has no class for holidays, so they count as their weekday (1970-01-01:
    # Thursday).
    day_class = np.where(day_class < 0, table.class_of_kind[(day + 3) % 7], day_class)
    band: Int16 = table.band[season, day_class, wall % DAY_US // MINUTE_US]
    return band


def _refuse_bad_intervals(
    start_at_us: Int64, end_at_us: Int64, timeline_index: Index, timelines: TimelineSet
) -> None:
    empty = start_at_us >= end_at_us
    if empty.any():
        raise IntervalRefused("empty", int(np.argmax(empty)))
    if timelines.from_us.size == 1:
        outside = (start_at_us < timelines.from_us[0]) | (end_at_us > timelines.until_us[0])
    else:
        outside = start_at_us < timelines.from_us[timeline_index]
        outside |= end_at_us > timelines.until_us[timeline_index]
    if outside.any():
        raise IntervalRefused("outside_timeline", int(np.argmax(outside)))


def _allocate(
    rows: Int64,
    start: Int64,
    end: Int64,
    start_at_us: Int64,
    end_at_us: Int64,
    energy_wh: Int64,
) -> Int64:
    """The energy of parts [start, end) of the intervals `rows`, by the cumulative floor."""
    origin, energy = start_at_us[rows], energy_wh[rows]
    duration = end_at_us[rows] - origin
    place = "the energy of a divided interval"
    upto_end = mul_div_floor(energy, end - origin, duration, place=place)
    return upto_end - mul_div_floor(energy, start - origin, duration, place=place)


def _segments(
    timelines: TimelineSet,
    segment: Int64,
    rows: Int64,
    numbers: Int32,
    start_at_us: Int64,
    end_at_us: Int64,
    energy_wh: Int64,
) -> Segments:
    return Segments(
        source_row=rows,
        segment_no=numbers,
        start_at_us=start_at_us,
        end_at_us=end_at_us,
        energy_wh=energy_wh,
        band=timelines.band[segment],
        price_nano_per_kwh=timelines.price_nano_per_kwh[segment],
        local_day=timelines.local_day[segment],
        version_id=timelines.version_id[segment],
    )
