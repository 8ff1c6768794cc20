"""Running counts along rows of usage, and where they go beyond limits.

Rows are parts of intervals, sorted by account and time, of energy that is not negative. They fall
into *runs*, the rows of one account under one row of `Countings`. Everything that depends on an
account or a window is worked out per run, of which there are few; only running sums of the energy
go through every row.

A *position* is a point in the energy of a block of rows: the Wh of all rows before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import Int64, checked_multiply, checked_total
from prewatt.core.steps import PURCHASE_KEY, CountKind, scaled_limits
from prewatt.core.timelines import TimelineSet
from prewatt.core.usage import AccountTerms, Bool, UsageState

Int16 = npt.NDArray[np.int16]

# By `CountKind`: whether all bands count together, whether a step reprices the whole window.
_TOGETHER = np.isin(list(CountKind), [CountKind.GRADUATED_ALL, CountKind.WHOLE_ALL])
_WHOLE_USAGE = np.isin(list(CountKind), [CountKind.WHOLE_ALL, CountKind.WHOLE_EACH])


@dataclass(frozen=True, slots=True)
class Runs:
    """[start, stop) of each run in the rows, its account, and its row of `Countings`."""

    start: Int64
    stop: Int64
    account: Int64
    counting: Int64

    def __len__(self) -> int:
        return int(self.start.size)

    def at(self, chosen: Int64) -> Runs:
        """Some of the runs."""
        return Runs(
            self.start[chosen], self.stop[chosen], self.account[chosen], self.counting[chosen]
        )


@dataclass(frozen=True, slots=True)
class Block:
    """At least one row of usage; `heads` are the first rows of accounts, `upto_wh[i]` the energy
    of all rows before row i, with the total as one more.
    """

    segment: Int64
    energy_wh: Int64
    upto_wh: Int64
    heads: Int64
    runs: Runs
    timelines: TimelineSet

    @classmethod
    def of(
        cls, account_index: Int64, segment: Int64, energy_wh: Int64, timelines: TimelineSet
    ) -> Block:
        """The block of rows sorted by account and time."""
        heads = heads_of(account_index)
        runs = _runs(account_index, heads, segment, timelines)
        return cls(segment, energy_wh, _upto(energy_wh), heads, runs, timelines)


@dataclass(frozen=True, slots=True)
class Crossings:
    """Where counts go beyond limits: inside `row`, after `offset_wh` of it (0: the whole row lies
    beyond), at `position_wh` of the block. In the order of `run` (a position in the lane's runs),
    then of `limit`.
    """

    run: Int64
    limit: Int64
    row: Int64
    offset_wh: Int64
    position_wh: Int64


@dataclass(frozen=True, slots=True)
class Lane:
    """One count that has limits: that of `column`, or (None) that of all columns together.

    `runs` are those that count by it, `first_step` the step at the start of each. `true_up_nano`
    is what each crossing adds to the charge in a whole-usage tariff, in Wh × nano-units per kWh.
    """

    column: int | None
    runs: Runs
    first_step: Int64
    crossings: Crossings
    true_up_nano: Int64


@dataclass(frozen=True, slots=True)
class FreeEnergy:
    """The counts of free energy: which `runs` have an allowance, whether each begins `within` it,
    and where it ends.
    """

    runs: Runs
    within: Bool
    crossings: Crossings


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where rows are divided, in order: cut j lies in `row` after `offset_wh` of its energy."""

    row: Int64
    offset_wh: Int64
    position_wh: Int64

    @classmethod
    def of(cls, crossings: Sequence[Crossings]) -> Cuts:
        """The cuts of all crossings that lie inside a row."""
        if not crossings:
            none = np.zeros(0, dtype=np.int64)
            return cls(none, none, none)
        inside = [(each, np.flatnonzero(each.offset_wh)) for each in crossings]
        position, first = np.unique(
            np.concatenate([each.position_wh[chosen] for each, chosen in inside]),
            return_index=True,
        )
        row = np.concatenate([each.row[chosen] for each, chosen in inside])[first]
        offset = np.concatenate([each.offset_wh[chosen] for each, chosen in inside])[first]
        return cls(row, offset, position)

    def part_of_row(self, row: Int64) -> Int64:
        """The first part of each row."""
        return row + np.searchsorted(self.row, row, side="left")

    def part_of(self, crossings: Crossings) -> Int64:
        """The first part beyond each crossing."""
        return crossings.row + np.searchsorted(
            self.position_wh, crossings.position_wh, side="right"
        )

    def source(self, rows: int) -> Int64:
        """The row of each part."""
        added = np.zeros(rows + self.row.size, dtype=np.int64)
        added[self.row + np.arange(1, self.row.size + 1)] = 1
        return np.arange(added.size, dtype=np.int64) - np.cumsum(added)


def late_rows(block: Block, start_at_us: Int64, state: UsageState) -> Bool:
    """Which rows lie in a window that had ended when the account's present window began."""
    late = np.zeros(start_at_us.size, dtype=np.bool_)
    countings, runs = block.timelines.countings, block.runs
    for window, current in (
        (countings.step_window, state.step_window),
        (countings.allowance_window, state.allowance_window),
    ):
        key, present = window[runs.counting], current[runs.account]
        if ((key > 0) & (key < present)).any():
            bound = np.where((key > 0) & (key < present), present, 0)
            late |= start_at_us < np.repeat(bound, runs.stop - runs.start)
    return late


def count_steps(block: Block, terms: AccountTerms, state: UsageState) -> list[Lane]:
    """Count a block's usage towards steps: the lanes, and in place the accounts' new counts."""
    timelines = block.timelines
    countings = timelines.countings
    kind = countings.kind[block.runs.counting]
    chosen = np.flatnonzero(kind != CountKind.NONE)
    if chosen.size == 0:
        return []
    runs, kind = block.runs.at(chosen), kind[chosen]
    columns = _columns(block, kind)
    energy = np.zeros((len(runs), state.step_wh.shape[1]), dtype=np.int64)
    for column, upto in enumerate(columns):
        energy[:, column] = upto[runs.stop] - upto[runs.start]
    key, before = _count(
        runs,
        energy,
        countings.step_window[runs.counting],
        terms.purchase_no,
        state.step_window,
        state.step_wh,
    )
    limits = scaled_limits(countings, runs.counting, *terms.at(runs.account, key))
    counted = _Counted(runs, kind, before, before + energy, limits, columns)
    lanes = [_lane(block, counted, None)]
    if not _TOGETHER[kind].all():
        # Counts beyond those that have limits belong to plans that count all bands together.
        own = min(len(columns), limits.shape[1])
        lanes += [_lane(block, counted, column) for column in range(own)]
    return [lane for lane in lanes if len(lane.runs)]


def count_allowance(block: Block, terms: AccountTerms, state: UsageState) -> FreeEnergy | None:
    """Count a block's usage towards free energy, and in place the accounts' new counts; None
    without any allowance.
    """
    countings = block.timelines.countings
    chosen = np.flatnonzero(countings.free_wh[block.runs.counting])
    if chosen.size == 0:
        return None
    runs = block.runs.at(chosen)
    energy = block.upto_wh[runs.stop] - block.upto_wh[runs.start]
    _, before = _count(
        runs,
        energy[:, None],
        countings.allowance_window[runs.counting],
        terms.purchase_no,
        state.allowance_window,
        state.allowance_wh[:, None],
    )
    free = countings.free_wh[runs.counting][:, None]
    crossings = _crossings(block, runs, block.upto_wh, before[:, 0], before[:, 0] + energy, free)
    return FreeEnergy(runs, before[:, 0] <= free[:, 0], crossings)


def steps_of_parts(block: Block, lanes: Sequence[Lane], cuts: Cuts, segment: Int64) -> Int64 | None:
    """The step of each part, whose segments are given; None where all lie in the first."""
    if not any(lane.crossings.row.size or lane.first_step.any() for lane in lanes):
        return None
    step = np.zeros(segment.size, dtype=np.int64)
    for lane in lanes:
        reached = spread(
            segment.size,
            [
                cuts.part_of_row(block.runs.start),
                cuts.part_of_row(lane.runs.start),
                cuts.part_of(lane.crossings),
            ],
            [np.full(len(block.runs), -1), lane.first_step, lane.crossings.limit + 1],
        )
        if len(lanes) == 1 and lane.column is None:
            return np.maximum(reached, 0, out=reached)
        own = reached >= 0
        if lane.column is not None:
            rules = block.timelines.rules
            own &= rules.count_column[block.timelines.rule[segment]] == lane.column
        np.copyto(step, reached, where=own)
    return step


def free_parts(block: Block, free: FreeEnergy, cuts: Cuts, parts: int) -> Bool:
    """Which parts are free energy."""
    within = spread(
        parts,
        [
            cuts.part_of_row(block.runs.start),
            cuts.part_of_row(free.runs.start),
            cuts.part_of(free.crossings),
        ],
        [
            np.zeros(len(block.runs), dtype=np.int64),
            free.within.astype(np.int64),
            np.zeros(free.crossings.row.size, dtype=np.int64),
        ],
    )
    return within.astype(np.bool_)


def true_ups(lanes: Sequence[Lane], cuts: Cuts) -> tuple[Int64, Int64]:
    """(parts, what they pay for what was used before them), in Wh × nano-units per kWh."""
    none = np.zeros(0, dtype=np.int64)
    parts = [cuts.part_of(lane.crossings) for lane in lanes]
    nano = [lane.true_up_nano for lane in lanes]
    return np.concatenate([none, *parts]), np.concatenate([none, *nano])


def heads_of(account_index: Int64) -> Int64:
    """The first row of each account, of at least one row sorted by account."""
    return np.append(0, np.flatnonzero(account_index[1:] != account_index[:-1]) + 1)


def spread(
    length: int, begins: Sequence[Int64], values: Sequence[npt.NDArray[np.integer]]
) -> Int64:
    """A column of `length` that has each value from its begin up to the next; of values that
    begin at the same place the last given holds. 0 before the first.
    """
    begin = np.concatenate([np.zeros(1, dtype=np.int64), *begins])
    value = np.concatenate([np.zeros(1, dtype=np.int64), *values])
    order = np.argsort(begin, kind="stable")
    begin, value = begin[order], value[order]
    return np.repeat(value, np.diff(begin, append=length))


@dataclass(frozen=True, slots=True)
class _Counted:
    """Runs with their counts before and after, one column per count, and their limits."""

    runs: Runs
    kind: npt.NDArray[np.int8]
    before: Int64
    after: Int64
    limits: Int64
    columns: list[Int64]


def _runs(account_index: Int64, heads: Int64, segment: Int64, timelines: TimelineSet) -> Runs:
    tails = np.append(heads[1:], account_index.size) - 1
    counting, starts = timelines.counting[segment[heads]], heads
    # Within a timeline the rules of counting never come back, so the same at both ends means the
    # same throughout: most batches lie inside one window.
    if bool((counting != timelines.counting[segment[tails]]).any()):
        of_row = timelines.counting[segment]
        breaks = of_row[1:] != of_row[:-1]
        breaks[heads[1:] - 1] = True
        starts = np.append(0, np.flatnonzero(breaks) + 1)
        counting = of_row[starts]
    return Runs(starts, np.append(starts[1:], account_index.size), account_index[starts], counting)


def _upto(energy_wh: Int64) -> Int64:
    upto = np.empty(energy_wh.size + 1, dtype=np.int64)
    upto[0] = 0
    np.cumsum(energy_wh, out=upto[1:])
    return upto


def _columns(block: Block, kind: npt.NDArray[np.int8]) -> list[Int64]:
    """The running sums of each count's own energy."""
    if (kind == CountKind.GRADUATED_ALL).all():
        return [block.upto_wh]
    column = block.timelines.rules.count_column[block.timelines.rule[block.segment]]
    return [
        _upto(np.where(column == each, block.energy_wh, 0))
        for each in range(block.timelines.columns)
    ]


def _count(
    runs: Runs,
    energy_wh: Int64,
    window: Int64,
    purchase_no: Int64,
    state_window: Int64,
    state_wh: Int64,
) -> tuple[Int64, Int64]:
    """(key of each run's window, counts before each run), and in place those of the accounts
    after it. A run begins a new count when its window began after the count's, and with each
    purchase.
    """
    account = runs.account
    key = np.where(
        window == PURCHASE_KEY, purchase_no[account], np.maximum(window, state_window[account])
    )
    head = np.ones(account.size, dtype=np.bool_)
    head[1:] = account[1:] != account[:-1]
    fresh = np.ones(account.size, dtype=np.bool_)
    fresh[1:] = key[1:] != key[:-1]
    fresh[head] = key[head] != state_window[account[head]]
    brought = np.where((head & ~fresh)[:, None], state_wh[account], 0)
    earlier = np.cumsum(energy_wh, axis=0) - energy_wh
    group = np.maximum.accumulate(np.where(head | fresh, np.arange(account.size), 0))
    before = earlier + (brought - earlier)[group]
    tail = np.append(head[1:], True)
    state_window[account[tail]] = key[tail]
    state_wh[account[tail]] = (before + energy_wh)[tail]
    return key, before


def _lane(block: Block, counted: _Counted, column: int | None) -> Lane:
    together = _TOGETHER[counted.kind]
    chosen = np.flatnonzero(together if column is None else ~together)
    runs, kind = counted.runs.at(chosen), counted.kind[chosen]
    before, after = counted.before[chosen], counted.after[chosen]
    if column is None:
        upto, of_lane = block.upto_wh, 0
        count_before, count_after = before.sum(axis=1), after.sum(axis=1)
    else:
        upto, of_lane = counted.columns[column], column
        count_before, count_after = before[:, column], after[:, column]
    limits = counted.limits[chosen, of_lane]
    crossings = _crossings(block, runs, upto, count_before, count_after, limits)
    true_up = np.zeros(crossings.row.size, dtype=np.int64)
    whole = np.flatnonzero(_WHOLE_USAGE[kind][crossings.run])
    if whole.size:
        counts = _counts_at(counted.columns, runs, before, crossings, whole)
        if column is not None:
            counts = np.where(np.arange(counts.shape[1]) == column, counts, 0)
        true_up[whole] = _true_up(block, crossings, whole, counts)
    first_step = (limits < count_before[:, None]).sum(axis=1)
    return Lane(column, runs, first_step, crossings, true_up)


def _crossings(
    block: Block, runs: Runs, upto_wh: Int64, before: Int64, after: Int64, limits: Int64
) -> Crossings:
    """Where the counts of runs, whose energy runs up in `upto_wh`, go beyond their limits."""
    run, limit = np.nonzero((before[:, None] <= limits) & (after[:, None] > limits))
    target = upto_wh[runs.start[run]] + limits[run, limit] - before[run]
    row = np.searchsorted(upto_wh, target, side="right") - 1
    offset = target - upto_wh[row]
    return Crossings(run, limit, row, offset, block.upto_wh[row] + offset)


def _counts_at(
    columns: list[Int64], runs: Runs, before: Int64, crossings: Crossings, chosen: Int64
) -> Int64:
    """What each count has reached at crossings."""
    run, row = crossings.run[chosen], crossings.row[chosen]
    counts = np.zeros((chosen.size, len(columns)), dtype=np.int64)
    for column, upto in enumerate(columns):
        own = upto[row + 1] != upto[row]
        counts[:, column] = before[run, column] + upto[row] - upto[runs.start[run]]
        counts[:, column] += np.where(own, crossings.offset_wh[chosen], 0)
    return counts


def _true_up(block: Block, crossings: Crossings, chosen: Int64, counts: Int64) -> Int64:
    """What was counted so far, times what the next step's price is above the last one's."""
    rules = block.timelines.rules
    book = rules.book[block.timelines.rule[block.segment[crossings.row[chosen]]]]
    step = crossings.limit[chosen]
    columns = np.arange(counts.shape[1])
    rise = (
        rules.book_price[book[:, None], columns, step[:, None] + 1]
        - rules.book_price[book[:, None], columns, step[:, None]]
    )
    place = "the charge for reaching a step"
    products = checked_multiply(counts, rise, place=place)
    checked_total(np.abs(products), place=place)
    return np.asarray(products.sum(axis=1), dtype=np.int64)
