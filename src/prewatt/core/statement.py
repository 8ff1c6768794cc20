"""What loads cost by month under a tariff, line by line and exact: `bill` and `bill_batch`.

A statement answers what a plan would come to; it belongs to no account and moves no money. It is
made of the same compiled prices, taxes, parts of days and demand windows as an account's charges.
Inside there are whole numbers and fractions of micro-units only (10⁻⁶ of the currency); rounding is
the business of whoever prints it.

A load stands for an account that lives from the begin of its first interval to the end of its last:
it owes what falls due by days for the local days that begin in that time, and a minimum or maximum
is prorated by the same days. Months are local calendar months.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from functools import reduce
from operator import add
from typing import Final

import numpy as np

from prewatt.core.allocation import (
    WH_NANO_PER_MICRO,
    Allocation,
    CellUsage,
    Terms,
    usage_of,
)
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import LocalCalendar, day_date
from prewatt.core.exact import Exact
from prewatt.core.loads import LaidAxis, LoadAxis, LoadRefused, lay_axis
from prewatt.core.statement_days import Stretch, billed_w, owed_stretches, peaks_w
from prewatt.core.statement_lines import EnergyLine, Line, Month, month_of_load
from prewatt.core.tariff import Tariff
from prewatt.core.tariff.model import Bound, DatedKind, Per, Scale, Taxable, Window
from prewatt.core.taxes import PPB, EffectiveTax, effective_tax

_NANO_PER_MICRO: Final = 1_000
_W_NANO_PER_MICRO: Final = 1_000_000
"""W × nano-units per kW that make a micro-unit."""
_PPB_PER_PPM: Final = 1_000


_Coded = tuple[tuple[str, str], Exact]
"""An amount under a code and its label."""


class StatementRefused(ValueError):
    """The tariff asks what a load does not say. `place` is where it does, as in a document, and
    `reason` one sentence without a full stop.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Statement:
    """One load's months, in order, and the currency that their amounts are in."""

    currency: str
    months: tuple[Month[Fraction], ...]


@dataclass(frozen=True, slots=True)
class StatementBatch:
    """The months of many loads; every amount is a column with a row per load."""

    currency: str
    months: tuple[Month[Exact], ...]

    def of_load(self, load: int) -> Statement:
        """One load's statement."""
        return Statement(self.currency, tuple(month_of_load(each, load) for each in self.months))

    def totals_micro(self) -> Int64:
        """What each load [row] pays for each month [column], to whole micro-units, half to even."""
        return np.column_stack([month.total.rounded() for month in self.months])


def bill(
    tariff: Tariff,
    calendar: LocalCalendar,
    axis: LoadAxis,
    energy_wh: Int64,
    *,
    allocation: Allocation,
    terms: Terms | None = None,
    exempt: frozenset[str] = frozenset(),
) -> Statement:
    """The statement of one load; as `bill_batch`, `energy_wh` with one entry per interval."""
    batch = bill_batch(
        tariff,
        calendar,
        axis,
        energy_wh.reshape(1, -1),
        allocation=allocation,
        terms=terms,
        exempt=exempt,
    )
    return batch.of_load(0)


def bill_batch(
    tariff: Tariff,
    calendar: LocalCalendar,
    axis: LoadAxis,
    energy_wh: Int64,
    *,
    allocation: Allocation,
    terms: Terms | None = None,
    exempt: frozenset[str] = frozenset(),
) -> StatementBatch:
    """The statements of loads [row] over the intervals of one axis [column], in Wh.

    What depends on time alone is looked up once for all of them. `terms` are what limits scale
    with, `exempt` codes of taxes that are not charged. Raises `LoadRefused`, `StatementRefused`
    for what a load does not say, and `OverflowRefused`.
    """
    _refuse_unsaid(tariff, terms)
    if energy_wh.ndim != 2 or energy_wh.shape[1] != axis.start_at_us.size:
        raise LoadRefused("shape")
    if energy_wh.size and int(energy_wh.min()) < 0:
        raise LoadRefused("negative", int(np.argmax((energy_wh < 0).any(axis=0))))
    laid = lay_axis(tariff, calendar, axis, exempt)
    parts = laid.parts_of(energy_wh)
    sheets = _Sheets(tariff, exempt, parts.shape[0])
    cells = usage_of(tariff, laid, parts, allocation, terms or Terms())
    for position, cell in enumerate(cells):
        sheets.add_usage(laid, position, cell)
    stretches = owed_stretches(tariff, calendar, axis)
    sheets.add_dated(stretches)
    sheets.add_demand(stretches, laid, parts, calendar)
    sheets.add_bounds(stretches)
    return StatementBatch(tariff.currency, sheets.months())


def _refuse_unsaid(tariff: Tariff, terms: Terms | None) -> None:
    steps = tariff.steps
    if steps and steps.window is Window.PURCHASE:
        raise StatementRefused("energy.steps.window", "needs purchases, and a load has none")
    if steps and terms is None and steps.scale in (Scale.MEMBERS, Scale.CONTRACTED_KW):
        raise StatementRefused(
            "energy.steps.scale", f"needs what the contract says of {steps.scale}"
        )
    if tariff.overlays:
        raise StatementRefused("overlays[0]", "needs announced prices, and a load has none")
    if tariff.temporary:
        raise StatementRefused("temporary", "needs the time that the place is let for")


class _Sheet:
    """One month as it is filled: lines by what they are told apart by, in order of appearance."""

    def __init__(self, loads: int) -> None:
        nothing = Exact.of(0, loads)
        self.energy_wh = nothing
        self.energy: dict[tuple[int, int, int], tuple[Exact, Exact]] = {}
        self.usage_fees: dict[tuple[str, str], Exact] = {}
        self.subsidies: dict[tuple[str, str], Exact] = {}
        self.fixed: dict[tuple[str, str], Exact] = {}
        self.demand: dict[tuple[str, str], Exact] = {}
        self.taxes: dict[tuple[str, str], Exact] = {}
        self.minimum = nothing
        self.maximum = nothing
        # What a minimum or maximum is held against.
        self.bounded = nothing


class _Sheets:
    """The months of a batch as they are filled."""

    def __init__(self, tariff: Tariff, exempt: frozenset[str], loads: int) -> None:
        self._tariff, self._exempt, self._loads = tariff, exempt, loads
        self._months: defaultdict[int, _Sheet] = defaultdict(lambda: _Sheet(loads))

    def add_usage(self, laid: LaidAxis, cell: int, usage: CellUsage) -> None:
        """A cell's energy, and its fees, taxes and subsidies under their codes."""
        sheet, band = self._months[int(laid.cells.month[cell])], int(laid.cells.band[cell])
        for step in usage.steps:
            key = band, step.step, step.price_nano_per_kwh
            if key in sheet.energy:
                energy, charge = sheet.energy[key]
                sheet.energy[key] = energy + step.energy_wh, charge + step.charge
            else:
                sheet.energy[key] = step.energy_wh, step.charge
        sheet.energy_wh += usage.energy_wh
        sheet.bounded += usage.charge
        day = int(laid.cells.day[cell])
        if usage.fee is not None:
            _add(sheet.usage_fees, self._usage_fees(usage, usage.fee, day))
        if usage.tax is not None:
            _add(sheet.taxes, self._usage_taxes(usage, usage.tax, day))
        if usage.subsidy is not None:
            _add(sheet.subsidies, self._subsidies(usage, usage.subsidy))

    def add_dated(self, stretches: Sequence[Stretch]) -> None:
        """Standing charges and fees by time, and the taxes on them."""
        for stretch in stretches:
            for charge in self._tariff.dated:
                is_standing = charge.kind is DatedKind.STANDING
                tax = self._tax(Taxable.STANDING if is_standing else Taxable.FEE, stretch.first)
                micro = Fraction(tax.net_nano(charge.amount_nano), _NANO_PER_MICRO)
                amount = Exact.of(1, self._loads) * (micro * stretch.share_of(charge.per))
                sheet = self._months[stretch.month]
                _add(sheet.fixed, [((charge.code, charge.label), amount)])
                _add(sheet.taxes, _taxes_on(amount, tax))
                if is_standing:
                    sheet.bounded += amount

    def add_demand(
        self, stretches: Sequence[Stretch], laid: LaidAxis, parts_wh: Int64, calendar: LocalCalendar
    ) -> None:
        """Demand charges, by the owed days of each month, and the taxes on them."""
        for demand in self._tariff.demand:
            peaks = peaks_w(demand, laid, parts_wh, calendar)
            for stretch in stretches:
                tax = self._tax(Taxable.DEMAND, stretch.first)
                price = Fraction(tax.net_nano(demand.price_nano_per_kw), _W_NANO_PER_MICRO)
                billed = Exact.of(billed_w(demand, peaks, stretch.month, self._loads), self._loads)
                amount = billed * (price * stretch.share_of(Per.MONTH))
                sheet = self._months[stretch.month]
                _add(sheet.demand, [((demand.code, demand.label), amount)])
                _add(sheet.taxes, _taxes_on(amount, tax))
                sheet.bounded += amount

    def add_bounds(self, stretches: Sequence[Stretch]) -> None:
        """The differences to a minimum and a maximum, in the last owed month of their period."""
        for bound, is_maximum in ((self._tariff.minimum, False), (self._tariff.maximum, True)):
            if bound is None:
                continue
            periods: defaultdict[int, list[Stretch]] = defaultdict(list)
            for stretch in stretches:
                periods[stretch.period(bound.per)].append(stretch)
            for period in periods.values():
                self._add_bound(bound, is_maximum, period)

    def months(self) -> tuple[Month[Exact], ...]:
        """The months in order."""
        bands = self._tariff.bands
        return tuple(
            Month(
                first_day=_first_day(month),
                energy_wh=sheet.energy_wh,
                energy=tuple(
                    EnergyLine(bands[band].name, bands[band].label, step, price, *columns)
                    for (band, step, price), columns in sorted(
                        sheet.energy.items(), key=lambda each: each[0]
                    )
                ),
                usage_fees=_lines(sheet.usage_fees),
                subsidies=_lines(sheet.subsidies),
                fixed=_lines(sheet.fixed),
                demand=_lines(sheet.demand),
                minimum=sheet.minimum,
                maximum=sheet.maximum,
                taxes=_lines(sheet.taxes),
            )
            for month, sheet in sorted(self._months.items(), key=lambda each: each[0])
        )

    def _add_bound(self, bound: Bound, is_maximum: bool, period: Sequence[Stretch]) -> None:
        months = sorted({stretch.month for stretch in period})
        share = sum((stretch.share_of(bound.per) for stretch in period), Fraction(0))
        target = Exact.of(1, self._loads) * (Fraction(bound.amount_nano, _NANO_PER_MICRO) * share)
        charged = reduce(add, [self._months[month].bounded for month in months])
        sheet = self._months[months[-1]]
        if is_maximum:
            amount = -((charged - target).at_least_zero())
            sheet.maximum += amount
        else:
            amount = (target - charged).at_least_zero()
            sheet.minimum += amount
        _add(sheet.taxes, _taxes_on(amount, self._tax(Taxable.MINIMUM, period[-1].first)))

    def _usage_fees(self, usage: CellUsage, total: Exact, day: int) -> list[_Coded]:
        tax = self._tax(Taxable.FEE, day)
        return _divided(
            total,
            [
                (
                    (fee.code, fee.label),
                    usage.energy_wh * Fraction(tax.net_nano(fee.nano_per_kwh), WH_NANO_PER_MICRO)
                    + usage.charge * Fraction(tax.net_nano(fee.share_ppm * _PPB_PER_PPM), PPB),
                )
                for fee in self._tariff.usage_fees
            ],
        )

    def _usage_taxes(self, usage: CellUsage, total: Exact, day: int) -> list[_Coded]:
        on_energy = _taxes_on(usage.charge, self._tax(Taxable.ENERGY, day))
        on_fee = _taxes_on(usage.fee, self._tax(Taxable.FEE, day)) if usage.fee else []
        return _divided(total, on_energy + on_fee)

    def _subsidies(self, usage: CellUsage, total: Exact) -> list[_Coded]:
        """A rebate is known per Wh; what else is paid is for free energy."""
        allowances = sorted(self._tariff.allowances, key=lambda each: -each.rebate_nano_per_kwh)
        return _divided(
            total,
            [
                (
                    (each.code, each.label),
                    usage.energy_wh * Fraction(-each.rebate_nano_per_kwh, WH_NANO_PER_MICRO),
                )
                for each in allowances
            ],
        )

    def _tax(self, on: Taxable, day: int) -> EffectiveTax:
        return effective_tax(self._tariff.taxes, on, day_date(day), self._exempt)


def _taxes_on(amount: Exact, tax: EffectiveTax) -> list[_Coded]:
    """The tax on a net amount, for each code by its share of the effective one."""
    whole = sum((part.share for part in tax.parts), Fraction(0))
    if not whole:
        return []
    taxed = amount * Fraction(tax.share_ppb, PPB)
    return [((part.code, part.label), taxed * (part.share / whole)) for part in tax.parts]


def _divided(total: Exact, parts: Sequence[_Coded]) -> list[_Coded]:
    """A total under the codes of its parts: the last has what the others leave, so that whatever
    was cut off below a micro-unit stays in the sum.
    """
    others = list(parts[:-1])
    rest = reduce(lambda left, each: left - each[1], others, total)
    return [*others, (parts[-1][0], rest)]


def _add(lines: dict[tuple[str, str], Exact], amounts: Sequence[_Coded]) -> None:
    for named, amount in amounts:
        lines[named] = lines[named] + amount if named in lines else amount


def _lines(amounts: Mapping[tuple[str, str], Exact]) -> tuple[Line[Exact], ...]:
    return tuple(Line(code, label, amount) for (code, label), amount in amounts.items())


def _first_day(month: int) -> date:
    return date(1970 + month // 12, month % 12 + 1, 1)
