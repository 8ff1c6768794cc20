"""What the energy of loads costs in each cell, by one of two rules of sharing steps out.

*Chronological*: usage counts in the order of time, as an account is charged when it prepays. The
amounts are those of `rating.rate_usage`, to the last micro-unit.

*Pro rata*: a window's usage is counted as a whole, and each of its steps is spread over all that
was used in the window in proportion to energy, as statements for a month are made. A cell with a
tenth of a window's usage has a tenth of each step; where limits change within a window, a tenth of
the steps that the window would have under its own. Nothing is cut off or rounded.

An allowance of free energy has the first Wh of its window. Pro rata, these are the lowest steps'
where steps have the same window and one graduated count, and a share of every step elsewhere; they
too are spread over all that was used in the window.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Final, NamedTuple

import numpy as np

from prewatt.core.bounds import Int64
from prewatt.core.exact import Exact, Integers
from prewatt.core.loads import LaidAxis
from prewatt.core.rating import rate_usage, split_intervals
from prewatt.core.steps import CountKind, free_allowance, scaled_limits
from prewatt.core.tariff import Tariff
from prewatt.core.taxes import PPB
from prewatt.core.usage import AccountTerms, UsageState

WH_NANO_PER_MICRO: Final = 1_000_000
"""Wh × nano-units per kWh that make a micro-unit."""
_ROWS_AT_ONCE: Final = 500_000
_ONE_COUNT: Final = (CountKind.NONE, CountKind.GRADUATED_ALL, CountKind.WHOLE_ALL)
_WHOLE_USAGE: Final = (CountKind.WHOLE_ALL, CountKind.WHOLE_EACH)
_AMOUNTS: Final = ("energy_wh", "charge_energy", "charge_fee", "charge_tax", "charge_subsidy")
"""The columns of rated usage that are added up."""


class Allocation(StrEnum):
    """How steps are shared out."""

    CHRONOLOGICAL = "chronological"
    PRO_RATA = "pro-rata"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a contract says that limits of steps depend on."""

    members: int = 1
    contracted_w: int = 0


@dataclass(frozen=True, slots=True)
class StepUsage:
    """Energy of one step in a cell, in Wh, and what it costs in micro-units before tax.

    `step` counts from 0. Where whole usage is repriced in the order of time, the charge of a step
    holds what reaching it added to the charge of the energy before.
    """

    step: int
    price_nano_per_kwh: int
    energy_wh: Exact
    charge: Exact


@dataclass(frozen=True, slots=True)
class CellUsage:
    """What the loads' energy in a cell costs in micro-units: its steps and their sum, fees per kWh,
    the taxes on both, and what somebody else pays, as a negative amount. None: the tariff has none.
    """

    energy_wh: Exact
    steps: tuple[StepUsage, ...]
    charge: Exact
    fee: Exact | None
    tax: Exact | None
    subsidy: Exact | None


def usage_of(
    tariff: Tariff, laid: LaidAxis, parts_wh: Int64, allocation: Allocation, terms: Terms
) -> list[CellUsage]:
    """What loads' parts [loads, parts] cost in each cell of the laid axis.

    A load has no purchases, so a window that begins with one is the whole load. Raises
    `OverflowRefused`.
    """
    if allocation is Allocation.CHRONOLOGICAL:
        return _chronological(laid, parts_wh, terms)
    shared = _ProRata(tariff, laid, laid.by_cell(parts_wh), terms)
    return [shared.cell(cell) for cell in range(len(laid.cells))]


@dataclass(frozen=True, slots=True)
class _Count:
    """The usage of a window (and of one band, where each counts by itself), and the divisors of
    shares of it, in Wh and in micro-units.
    """

    used_wh: Int64
    divisor: Integers
    micro_divisor: Integers

    @classmethod
    def of(cls, used_wh: Int64) -> _Count:
        """A count; of nothing used every share is 0, whatever it is divided by."""
        divisor = np.maximum(used_wh, 1).astype(object)
        return cls(used_wh, divisor, divisor * WH_NANO_PER_MICRO)


class _ProRata:
    """Energy [loads, cells] of a laid axis, with the counts that the cells have shares of."""

    def __init__(self, tariff: Tariff, laid: LaidAxis, energy_wh: Int64, terms: Terms) -> None:
        self._laid, self._energy_wh = laid, energy_wh
        counting, countings = laid.cells.counting, laid.countings
        self._kind = countings.kind[counting]
        one = np.isin(self._kind, _ONE_COUNT)
        lane = np.where(one, 0, laid.rules.count_column[laid.cells.rule])
        self._counts = self._counted(countings.step_window[counting], lane)
        each = np.ones(lane.size, dtype=np.int64)
        limits = scaled_limits(countings, counting, each * terms.members, each * terms.contracted_w)
        self._limits_wh = limits[np.arange(lane.size), lane]
        self._free = free_allowance(tariff)
        self._free_counts = self._counted(countings.allowance_window[counting], 0 * lane)
        self._free_is_lowest = (
            self._free is not None
            and tariff.steps is not None
            and tariff.steps.window is self._free.window
            and bool((self._kind == CountKind.GRADUATED_ALL).all())
        )

    def cell(self, cell: int) -> CellUsage:
        """What the loads' energy in one cell costs."""
        rules, rule = self._laid.rules, int(self._laid.cells.rule[cell])
        energy = self._energy_wh[:, cell].astype(object)
        prices = rules.price_nano_per_kwh[rule].tolist()
        steps = self._steps(cell, energy, prices)
        charge = _total([each.charge for each in steps]) or Exact.of(0, energy.size)
        ppb = int(rules.energy_tax_ppb[rule])
        per_wh = Exact(energy, Exact.of(WH_NANO_PER_MICRO, energy.size).numerator)
        fee = _total(
            [
                _times(per_wh, int(rules.fee_nano_per_kwh[rule])),
                _times(charge, int(rules.fee_share_ppb[rule]), PPB),
            ]
        )
        tax = _total([_times(charge, ppb, PPB), _times(fee, int(rules.fee_tax_ppb[rule]), PPB)])
        free = self._free_charge(cell, energy, charge, prices)
        subsidy = _total(
            [
                _times(free, -PPB - ppb, PPB),
                _times(per_wh, -int(rules.rebate_nano_per_kwh[rule])),
            ]
        )
        return CellUsage(Exact.of(energy, energy.size), steps, charge, fee, tax, subsidy)

    def _counted(self, window: Int64, lane: Int64) -> list[_Count]:
        """The count of each cell."""
        keys, of_cell = np.unique(np.column_stack([window, lane]), axis=0, return_inverse=True)
        of_cell = of_cell.reshape(-1)
        counts = [
            _Count.of(self._energy_wh[:, of_cell == key].sum(axis=1)) for key in range(len(keys))
        ]
        return [counts[key] for key in of_cell.tolist()]

    def _steps(self, cell: int, energy: Integers, prices: Sequence[int]) -> tuple[StepUsage, ...]:
        if self._kind[cell] == CountKind.NONE:
            micro = Exact.of(WH_NANO_PER_MICRO, energy.size).numerator
            whole = Exact.of(energy, energy.size)
            return (StepUsage(0, prices[0], whole, Exact(energy * prices[0], micro)),)
        count = self._counts[cell]
        return tuple(
            StepUsage(
                step,
                price,
                Exact(energy * taken, count.divisor),
                Exact(energy * (taken * price), count.micro_divisor),
            )
            for step, (taken, price) in enumerate(zip(self._taken(cell), prices, strict=False))
            if taken.any()
        )

    def _taken(self, cell: int) -> list[Integers]:
        """How much of the cell's count lies in each step."""
        used, limits = self._counts[cell].used_wh, self._limits_wh[cell].tolist()
        if self._kind[cell] in _WHOLE_USAGE:
            reached = sum((used > limit).astype(np.int64) for limit in limits)
            return [
                np.where(reached == step, used, 0).astype(object) for step in range(len(limits) + 1)
            ]
        bounds = [np.minimum(used, limit) for limit in [0, *limits]] + [used]
        return [(upper - lower).astype(object) for lower, upper in pairwise(bounds)]

    def _free_charge(
        self, cell: int, energy: Integers, charge: Exact, prices: Sequence[int]
    ) -> Exact | None:
        """What the free part of a cell's energy would cost before tax."""
        if self._free is None:
            return None
        count = self._free_counts[cell]
        free = np.minimum(count.used_wh, self._free.free_wh).astype(object)
        if not self._free_is_lowest:
            return Exact(charge.numerator * free, charge.denominator * count.divisor)
        cost, left = 0 * energy, free
        for taken, price in zip(self._taken(cell), prices, strict=False):
            part = np.minimum(taken, left)
            cost, left = cost + part * price, left - part
        return Exact(energy * cost, self._counts[cell].micro_divisor)


def _chronological(laid: LaidAxis, parts_wh: Int64, terms: Terms) -> list[CellUsage]:
    """Rated in the order of time, some loads at once, and added up by cell, step and price."""
    loads, parts = parts_wh.shape
    at_once = max(1, _ROWS_AT_ONCE // parts)
    amounts: defaultdict[_Step, Int64] = defaultdict(
        lambda: np.zeros((len(_AMOUNTS), loads), dtype=np.int64)
    )
    for first in range(0, loads, at_once):
        _add_rated(laid, parts_wh[first : first + at_once], first, terms, amounts)
    cells: list[list[tuple[_Step, Int64]]] = [[] for _ in range(len(laid.cells))]
    for key, columns in sorted(amounts.items(), key=lambda each: each[0]):
        cells[key.cell].append((key, columns))
    return [_rated_cell(found, loads) for found in cells]


class _Step(NamedTuple):
    """What rated parts are added up by."""

    cell: int
    step: int
    price_nano_per_kwh: int


def _add_rated(
    laid: LaidAxis, parts_wh: Int64, first: int, terms: Terms, amounts: Mapping[_Step, Int64]
) -> None:
    """Rate the loads from position `first` on, and add what they are charged to `amounts`."""
    loads, parts = parts_wh.shape
    load = np.repeat(np.arange(loads, dtype=np.int64), parts)
    every = np.ones(loads, dtype=np.int64)
    rated = rate_usage(
        segments=split_intervals(
            start_at_us=np.tile(laid.part_from_us, loads),
            end_at_us=np.tile(laid.part_until_us, loads),
            energy_wh=parts_wh.reshape(-1),
            timeline_index=np.zeros_like(load),
            timelines=laid.timelines,
        ),
        account_index=load,
        timelines=laid.timelines,
        terms=AccountTerms(every * terms.members, every * terms.contracted_w, 0 * every),
        state=UsageState.empty(loads, laid.timelines.columns),
    )
    marks = np.column_stack(
        [laid.part_cell[rated.source_row % parts], rated.step, rated.price_nano_per_kwh]
    )
    keys, of_row = np.unique(marks, axis=0, return_inverse=True)
    added = np.zeros((len(_AMOUNTS), len(keys), loads), dtype=np.int64)
    at = of_row.reshape(-1), load[rated.source_row]
    for amount, name in enumerate(_AMOUNTS):
        np.add.at(added[amount], at, getattr(rated, name))
    for key, mark in enumerate(keys.tolist()):
        amounts[_Step(*mark)][:, first : first + loads] += added[:, key]


def _rated_cell(found: Sequence[tuple[_Step, Int64]], loads: int) -> CellUsage:
    """A cell out of its steps, each with the rows of `_AMOUNTS`."""
    steps = tuple(
        StepUsage(
            key.step,
            key.price_nano_per_kwh,
            Exact.of(columns[0], loads),
            Exact.of(columns[1], loads),
        )
        for key, columns in found
        if columns[:2].any()
    )
    sums = sum((columns for _, columns in found), np.zeros((len(_AMOUNTS), loads), dtype=np.int64))
    energy, charge, *others = (Exact.of(each, loads) for each in sums)
    fee, tax, subsidy = (
        amount if column.any() else None for amount, column in zip(others, sums[2:], strict=True)
    )
    return CellUsage(energy, steps, charge, fee, tax, subsidy)


def _times(amount: Exact | None, factor: int, divisor: int = 1) -> Exact | None:
    """A share of an amount, None where there is none of either."""
    return amount * Fraction(factor, divisor) if factor and amount is not None else None


def _total(amounts: Iterable[Exact | None]) -> Exact | None:
    found = [each for each in amounts if each is not None]
    return reduce(add, found) if found else None
