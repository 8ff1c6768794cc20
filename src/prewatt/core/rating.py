"""Rating: from intervals and a tariff to charges, exact, chronological and vectorised.

Three steps, each on columns and none with a Python loop over rows:

1. `compile_timeline` lays a tariff over a calendar and a UTC range: at which instants the band, the
   local day or an announced price changes. `splice` joins the versions that one account has in the
   range, `TimelineSet.of` joins all timelines of one batch (module `timelines`).
2. `split_intervals` cuts each interval at those instants and allocates its energy.
3. `rate_usage` counts each account's energy towards its steps and its free energy in the order of
   time, divides what crosses a limit, multiplies, and carries the remainders, so that it never
   matters where batches are cut.

Units of the remainders: energy is whole Wh, that is 10⁻³ kWh; a price is whole nano-units per kWh,
that is 10⁻⁹ currency; their product counts 10⁻¹² currency, and a micro-unit is 10⁻⁶ currency. So
Wh × nano is the charge in micro-units with denominator 10⁶, and the carry of energy is an integer
in [0, 10⁶). Fees, taxes and subsidies count 10⁻⁹ of a micro-unit: a fee per kWh is Wh × nano × 10³,
and shares, in parts per billion, are of the exact amount of the row, not of what its charge was cut
off to, each rounded to a whole 10⁻⁹ of a micro-unit, halves up. So every amount follows from its own
row alone, and sums do not depend on where other rows were cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import INT64_MAX, Int64, OverflowRefused, magnitude, mul_div_floor
from prewatt.core.counting import (
    Block,
    Cuts,
    count_allowance,
    count_steps,
    free_parts,
    heads_of,
    late_rows,
    steps_of_parts,
    true_ups,
)
from prewatt.core.remainders import (
    AccountRows,
    Product,
    floor_products,
    floor_with_carry,
    refuse_bad_carry,
    rests,
)
from prewatt.core.steps import CountKind
from prewatt.core.timelines import (
    Index,
    Int16,
    Int32,
    PriceEvent,
    PriceTimeline,
    TimelineSet,
    compile_timeline,
    splice,
)
from prewatt.core.usage import AccountTerms, Bool, DatedTerms, RatedUsage, UsageState

__all__ = [
    "CARRY_DENOMINATOR",
    "AccountTerms",
    "Component",
    "DatedTerms",
    "IntervalRefused",
    "PriceEvent",
    "PriceTimeline",
    "RatedUsage",
    "Segments",
    "TimelineSet",
    "UsageState",
    "charge_segments",
    "compile_timeline",
    "floor_with_carry",
    "rate_usage",
    "splice",
    "split_intervals",
]


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
        # Nano-units, and every length of a month or year: lcm(28, 29, 30, 31, 365, 366).
        Component.STANDING: 1_000 * 1_681_363_740,
        # Micro-units × parts per billion.
        Component.TAX: 1_000_000_000,
        # The same: a fee can be a share of the energy charge.
        Component.FEE: 1_000_000_000,
        # W × nano-units per kW and 1000 = W × nano ÷ (1000 W/kW × 1000 nano/micro).
        Component.DEMAND: 1_000_000,
        # A charge and the tax on it are paid by somebody else.
        Component.SUBSIDY: 1_000_000_000,
        # Micro-units × parts per million: a share of a recharge.
        Component.DEBT: 1_000_000,
    }
)
"""The remainder that an account carries for a component counts this fraction of a micro-unit."""

_PPB: Final = 1_000_000_000
_PPB_PER_PPM: Final = 1_000
_ONE: Final = np.ones(1, dtype=np.int64)
_ALL: Final = np.full(1, _PPB, dtype=np.int64)
# Rows that are rated at once: what is worked out on the way stays in the processor's cache.
_BLOCK_ROWS: Final = 32_768
# One row in so many is expected to be divided.
_CUTS_EXPECTED: Final = 64


class IntervalRefused(ValueError):
    """An interval cannot be rated. `reason` is `empty` (start is not before end),
    `outside_timeline`, or `negative` (energy given back, which no count can take in order of
    time); `row` is its index in the batch.
    """

    def __init__(self, reason: str, row: int) -> None:
        super().__init__(f"interval {row} refused: {reason}")
        self.reason = reason
        self.row = row


@dataclass(frozen=True, slots=True)
class Segments:
    """Parts of intervals, ordered by (source_row, segment_no); columns of one length.

    `source_row` is the index of the interval, `segment_no` counts its parts from 0, `segment` is
    the segment of `timelines` that holds. The energy of an interval's parts sums to the interval's
    energy exactly.
    """

    source_row: Int64
    segment_no: Int32
    start_at_us: Int64
    end_at_us: Int64
    energy_wh: Int64
    segment: Int64
    timelines: TimelineSet

    def __len__(self) -> int:
        return int(self.source_row.size)

    def take(self, rows: Index) -> Segments:
        """Some of the parts."""
        return Segments(
            self.source_row[rows],
            self.segment_no[rows],
            self.start_at_us[rows],
            self.end_at_us[rows],
            self.energy_wh[rows],
            self.segment[rows],
            self.timelines,
        )

    @property
    def band(self) -> Int16:
        """The position in `Tariff.bands`."""
        return self.timelines.band[self.segment]

    @property
    def price_nano_per_kwh(self) -> Int64:
        """The net price of the first step."""
        return self.timelines.price_nano_per_kwh[self.segment]

    @property
    def local_day(self) -> Int32:
        """The day number of the local day."""
        return self.timelines.local_day[self.segment]

    @property
    def version_id(self) -> Int64:
        """The caller's id of the tariff version."""
        return self.timelines.version_id[self.segment]


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
        return Segments(rows, numbers, start_at_us, end_at_us, energy_wh, first, timelines)
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
    return Segments(rows, numbers.astype(np.int32), start, end, energy, segment, timelines)


def rate_usage(
    *,
    segments: Segments,
    account_index: Index,
    timelines: TimelineSet,
    terms: AccountTerms,
    state: UsageState,
    with_rests: bool = False,
) -> RatedUsage:
    """Charge usage in the order of time, dividing what crosses a step or the end of free energy.

    `account_index[segment]` points into the columns of `terms` and `state`; segments are sorted by
    it, then by time. Cutting a sequence of segments into batches anywhere, each with the state that
    the one before left, changes nothing.

    Graduated steps charge each part at its own step's price. Whole-usage steps charge what the
    window's usage costs now less what it cost before, so the part that reaches a step also pays
    the difference for all that was used before it. A fee is on the energy and its charge, a tax on
    both; for a free part a subsidy takes back the energy's charge and its tax.

    Over any period an account's energy charges sum to the floor of the exact total with the carry
    it began with; so do its fees, taxes and subsidies.

    Segments of a window before the account's current one are flagged `late` and left out: the
    caller rates that window again. Energy that is negative is refused (`IntervalRefused`, reason
    `negative`) where it would be counted. Raises `OverflowRefused` instead of wrapping, and
    `ValueError` for rows out of order, a carry out of range, or timelines that the segments were
    not cut by.
    """
    if segments.timelines is not timelines:
        raise ValueError("the segments were cut by other timelines")
    rows = _Rows.of(segments, account_index)
    prices = _Prices.of(timelines)
    after = state.copied(timelines.columns)
    _refuse_bad_rows(rows, prices)
    _refuse_bad_state(rows, after)
    late = np.zeros(len(rows), dtype=np.bool_)
    output = _Output(len(rows))
    for begin in range(0, len(rows), _BLOCK_ROWS):
        these = rows.at(slice(begin, begin + _BLOCK_ROWS))
        block = _block(these, prices)
        if block is not None:
            out = late_rows(block, these.start_at_us, after)
            if out.any():
                late[begin : begin + _BLOCK_ROWS] = out
                these = these.at(np.flatnonzero(~out))
                block = _block(these, prices)
        if len(these):
            output.add(_rate_rows(these, block, prices, terms, after, with_rests=with_rests))
    return output.rated(late, after, with_rests=with_rests)


def charge_segments(
    *,
    account_index: Index,
    energy_wh: Int64,
    price_nano_per_kwh: Int64,
    carry: Int64,
) -> tuple[Int64, Int64]:
    """(charge in micro-units per row, new carry per account) at prices that are already known.

    Rows are sorted by (account_index, time); `account_index` points into `carry`, which has one
    energy remainder in [0, 10⁶) per account. Within an account the charges up to and with row n
    sum to floor((carry + Σ Wh × nano) ÷ 10⁶), so that any sequence of batches charges the floor
    of the exact total. Negative energy (a correction, an export) follows the same floor. Accounts
    without rows keep their carry. Raises `OverflowRefused` instead of wrapping, and `ValueError`
    for rows out of order or a carry out of range.
    """
    return floor_products(
        [(energy_wh, price_nano_per_kwh)],
        account_index,
        carry,
        CARRY_DENOMINATOR[Component.ENERGY],
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """Parts of segments on their way to be charged; `row` is the segment that each is of."""

    row: Int64
    account: Int64
    segment: Int64
    start_at_us: Int64
    end_at_us: Int64
    energy_wh: Int64

    @classmethod
    def of(cls, segments: Segments, account_index: Index) -> _Rows:
        return cls(
            np.arange(len(segments), dtype=np.int64),
            account_index.astype(np.int64, copy=False),
            segments.segment,
            segments.start_at_us,
            segments.end_at_us,
            segments.energy_wh,
        )

    def __len__(self) -> int:
        return int(self.row.size)

    def at(self, chosen: Int64 | slice) -> _Rows:
        return _Rows(
            self.row[chosen],
            self.account[chosen],
            self.segment[chosen],
            self.start_at_us[chosen],
            self.end_at_us[chosen],
            self.energy_wh[chosen],
        )

    def divided(self, cuts: Cuts) -> _Rows:
        """The rows cut in energy; a part's time is interpolated."""
        source = cuts.source(len(self))
        parts = self.at(source)
        # The part before each cut, what its row had used before it, and when the cut is reached.
        before = cuts.row + np.arange(cuts.row.size)
        used = np.where(
            np.append(False, cuts.row[1:] == cuts.row[:-1]), np.roll(cuts.offset_wh, 1), 0
        )
        begin, energy = self.start_at_us[cuts.row], self.energy_wh[cuts.row]
        duration = self.end_at_us[cuts.row] - begin
        at_us = begin + mul_div_floor(
            duration, cuts.offset_wh, energy, place="the time at which a step is reached"
        )
        parts.end_at_us[before] = at_us
        parts.start_at_us[before + 1] = at_us
        parts.energy_wh[before] = cuts.offset_wh - used
        last = np.append(cuts.row[1:] != cuts.row[:-1], True)
        parts.energy_wh[before[last] + 1] = (energy - cuts.offset_wh)[last]
        return parts


@dataclass(frozen=True, slots=True)
class _Prices:
    """What a timeline set charges, per segment; a column of one entry holds for all segments.

    `flat_price[price_at[segment] + step]` is a price; `counts` says whether anything is counted
    anywhere.
    """

    timelines: TimelineSet
    counts: bool
    flat_price: Int64
    price_at: Int64
    first_price: Int64
    energy_tax_ppb: Int64
    fee_per_kwh: Int64
    fee_share_ppb: Int64
    fee_tax_ppb: Int64
    rebate_per_kwh: Int64

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, timelines: TimelineSet) -> _Prices:
        rules, countings = timelines.rules, timelines.countings

        def per_segment(values: Int64) -> Int64:
            return values[:1] if (values == values[0]).all() else values[timelines.rule]

        return cls(
            timelines=timelines,
            counts=bool((countings.kind != CountKind.NONE).any() or countings.free_wh.any()),
            flat_price=rules.price_nano_per_kwh.ravel(),
            price_at=timelines.rule * rules.price_nano_per_kwh.shape[1],
            first_price=timelines.price_nano_per_kwh,
            energy_tax_ppb=per_segment(rules.energy_tax_ppb),
            fee_per_kwh=per_segment(rules.fee_nano_per_kwh * _PPB_PER_PPM),
            fee_share_ppb=per_segment(rules.fee_share_ppb),
            fee_tax_ppb=per_segment(rules.fee_tax_ppb),
            rebate_per_kwh=per_segment(rules.rebate_nano_per_kwh * _PPB_PER_PPM),
        )


@dataclass(frozen=True, slots=True)
class _Part:
    """The columns of `RatedUsage` for one block; None is a column of zeros."""

    rows: _Rows
    band: Int16
    step: Int64 | None
    price: Int64
    energy: Int64
    fee: Int64 | None
    tax: Int64 | None
    subsidy: Int64 | None
    rests: Mapping[str, Int64]


def _block(rows: _Rows, prices: _Prices) -> Block | None:
    """The rows as they are counted, if anything is."""
    if not prices.counts or not len(rows):
        return None
    energy = rows.energy_wh
    if int(energy.min()) < 0:
        # What is given back is nowhere counted (`_refuse_bad_rows`), and counts run upwards.
        energy = np.maximum(energy, 0)
    return Block.of(rows.account, rows.segment, energy, prices.timelines)


def _rate_rows(
    rows: _Rows,
    block: Block | None,
    prices: _Prices,
    terms: AccountTerms,
    state: UsageState,
    *,
    with_rests: bool,
) -> _Part:
    """Charge at least one row, none of them late; the accounts' state is moved on in place."""
    if block is None:
        heads = heads_of(rows.account)
        return _charge(rows, heads, None, None, None, prices, state, with_rests=with_rests)
    lanes = count_steps(block, terms, state)
    allowance = count_allowance(block, terms, state)
    crossings = [lane.crossings for lane in lanes]
    if allowance is not None:
        crossings.append(allowance.crossings)
    cuts = Cuts.of(crossings)
    if cuts.row.size:
        rows = rows.divided(cuts)
    step = steps_of_parts(block, lanes, cuts, rows.segment)
    free = free_parts(block, allowance, cuts, len(rows)) if allowance is not None else None
    heads = cuts.part_of_row(block.heads)
    extra = true_ups(lanes, cuts)
    return _charge(rows, heads, step, free, extra, prices, state, with_rests=with_rests)


def _charge(
    rows: _Rows,
    heads: Int64,
    step: Int64 | None,
    free: Bool | None,
    extra: tuple[Int64, Int64] | None,
    prices: _Prices,
    state: UsageState,
    *,
    with_rests: bool,
) -> _Part:
    """Multiply and carry; `heads` are the first rows of accounts."""
    accounts = AccountRows(heads, rows.account[heads])
    segment, energy = rows.segment, rows.energy_wh
    if step is None:
        price = prices.first_price[segment]
    else:
        price = prices.flat_price[prices.price_at[segment] + step]
    left: dict[str, Int64] = {}
    per_kwh, share, on_energy, on_fee, rebate = (
        _of(each, segment)
        for each in (
            prices.fee_per_kwh,
            prices.fee_share_ppb,
            prices.energy_tax_ppb,
            prices.fee_tax_ppb,
            prices.rebate_per_kwh,
        )
    )
    has_fee, has_share, has_tax = bool(per_kwh.any()), bool(share.any()), bool(on_energy.any())
    has_fee_tax = (has_fee or has_share) and bool(on_fee.any())
    has_free = free is not None and bool(free.any())

    def floored(
        component: Component,
        products: list[Product],
        extra: tuple[Int64, Int64] | None = None,
        *,
        has_shares: bool = False,
    ) -> Int64:
        name, unit = component.name.lower(), CARRY_DENOMINATOR[component]
        charge = accounts.floored(products, getattr(state, f"carry_{name}"), unit, extra=extra)
        if with_rests or has_shares:
            left[name] = rests(products, charge, unit, extra=extra)
        return charge

    has_shares = has_share or has_tax or has_free
    charged = floored(Component.ENERGY, [(energy, price)], extra, has_shares=has_shares)
    fee = tax = subsidy = None
    if has_fee or has_share:
        products = [(energy, per_kwh)] if has_fee else []
        if has_share:
            products += _share(charged, left["energy"], share, Component.ENERGY)
        fee = floored(Component.FEE, products, has_shares=has_fee_tax)
    products = _share(charged, left["energy"], on_energy, Component.ENERGY) if has_tax else []
    free_tax = products
    if fee is not None and has_fee_tax:
        products = products + _share(fee, left["fee"], on_fee, Component.FEE)
    if products:
        tax = floored(Component.TAX, products)
    products = [(-energy, rebate)] if rebate.any() else []
    if free is not None and has_free:
        whole = _share(charged, left["energy"], _ALL, Component.ENERGY)
        products += [(np.where(free, -quantity, 0), by) for quantity, by in (*whole, *free_tax)]
    if products:
        subsidy = floored(Component.SUBSIDY, products)
    band = prices.timelines.band[segment]
    return _Part(rows, band, step, price, charged, fee, tax, subsidy, left if with_rests else {})


def _share(charge: Int64, rest: Int64, share_ppb: Int64, of: Component) -> list[Product]:
    """The products that a share of a component's exact amounts is the sum of."""
    unit = CARRY_DENOMINATOR[of]
    if magnitude(rest) * magnitude(share_ppb) > INT64_MAX // 2:
        raise OverflowRefused("a share of a charge")
    return [(charge, share_ppb), ((rest * share_ppb + unit // 2) // unit, _ONE)]


def _of(column: Int64, segment: Int64) -> Int64:
    return column if column.size == 1 else column[segment]


_OUTPUT: Final[Mapping[str, type[np.integer]]] = MappingProxyType(
    {
        "source_row": np.int64,
        "start_at_us": np.int64,
        "end_at_us": np.int64,
        "energy_wh": np.int64,
        "band": np.int16,
        "step": np.int16,
        "price_nano_per_kwh": np.int64,
        "charge_energy": np.int64,
        "charge_fee": np.int64,
        "charge_tax": np.int64,
        "charge_subsidy": np.int64,
    }
)
_RESTS: Final = ("energy", "fee", "tax", "subsidy")
_COLUMNS: Final = {**_OUTPUT, **{f"rest_{each}": np.int64 for each in _RESTS}}


class _Output:
    """Collects the columns of blocks in arrays that are written once. A column of nothing but
    zeros takes no room.
    """

    def __init__(self, rows: int) -> None:
        self._size = 0
        self._capacity = rows + rows // _CUTS_EXPECTED + 64
        self._columns: dict[str, npt.NDArray[Any]] = {}

    def add(self, part: _Part) -> None:
        begin, self._size = self._size, self._size + len(part.rows)
        if self._size > self._capacity:
            self._grow()
        rows = part.rows
        values = (
            *(rows.row, rows.start_at_us, rows.end_at_us, rows.energy_wh),
            *(part.band, part.step, part.price),
            *(part.energy, part.fee, part.tax, part.subsidy),
            *(part.rests.get(each) for each in _RESTS),
        )
        for (name, dtype), value in zip(_COLUMNS.items(), values, strict=True):
            if value is not None:
                if name not in self._columns:
                    self._columns[name] = np.empty(self._capacity, dtype=dtype)
                    self._columns[name][:begin] = 0
                self._columns[name][begin : self._size] = value
            elif name in self._columns:
                self._columns[name][begin : self._size] = 0

    def rated(self, late: Bool, state: UsageState, *, with_rests: bool) -> RatedUsage:
        columns = {name: self._column(name, dtype) for name, dtype in _OUTPUT.items()}
        rests_of = None
        if with_rests:
            rests_of = {each: self._column(f"rest_{each}", np.int64) for each in _RESTS}
        return RatedUsage(**columns, late=late, state=state, rests=rests_of)

    def _column(self, name: str, dtype: type[np.integer]) -> npt.NDArray[Any]:
        if name in self._columns:
            return self._columns[name][: self._size]
        return np.broadcast_to(np.zeros((), dtype=dtype), self._size)

    def _grow(self) -> None:
        self._capacity = self._size + self._size // 2
        for name, column in self._columns.items():
            self._columns[name] = np.empty(self._capacity, dtype=column.dtype)
            self._columns[name][: column.size] = column


def _refuse_bad_rows(rows: _Rows, prices: _Prices) -> None:
    """Order is refused for its effect: counts would be taken out of time."""
    if len(rows) == 0:
        return
    follows = rows.account[1:] == rows.account[:-1]
    if bool((rows.account[1:] < rows.account[:-1]).any()):
        raise ValueError("rows are not sorted by account_index")
    if not prices.counts:
        return
    if bool((follows & (rows.start_at_us[1:] < rows.start_at_us[:-1])).any()):
        raise ValueError("the rows of an account are not sorted by time")
    if int(rows.energy_wh.min()) < 0:
        countings = prices.timelines.countings
        counted = (countings.kind != CountKind.NONE) | (countings.free_wh > 0)
        bad = counted[prices.timelines.counting[rows.segment]] & (rows.energy_wh < 0)
        if bad.any():
            raise IntervalRefused("negative", int(np.argmax(bad)))


def _refuse_bad_state(rows: _Rows, state: UsageState) -> None:
    for component, carry in (
        (Component.ENERGY, state.carry_energy),
        (Component.FEE, state.carry_fee),
        (Component.TAX, state.carry_tax),
        (Component.SUBSIDY, state.carry_subsidy),
    ):
        refuse_bad_carry(carry, CARRY_DENOMINATOR[component])
    counted = magnitude(state.step_wh.ravel()) + magnitude(state.allowance_wh)
    if counted + magnitude(rows.energy_wh) * len(rows) > INT64_MAX // 2:
        raise OverflowRefused("the usage of a window")


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
