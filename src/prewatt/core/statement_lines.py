"""The lines of a statement, of one load (fractions) or of many at once (columns of fractions).

Amounts are micro-units (10⁻⁶ of the currency), energy is Wh. Nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from fractions import Fraction
from functools import reduce
from operator import add
from typing import Generic, TypeVar

from prewatt.core.exact import Exact

A = TypeVar("A", Exact, Fraction)


class Part(StrEnum):
    """The parts of a month that make up its total.

    Energy has the property's fees per kWh and what somebody else pays in it, fixed the standing
    charges and fees by time, minimum what a maximum takes off as well.
    """

    ENERGY = "energy"
    FIXED = "fixed"
    DEMAND = "demand"
    MINIMUM = "minimum"
    TAX = "tax"


@dataclass(frozen=True, slots=True)
class EnergyLine(Generic[A]):
    """Energy of one band at one step, counted from 0, and what it costs before tax.

    The price is net of taxes that the price as written contains.
    """

    band: str
    label: str
    step: int
    price_nano_per_kwh: int
    energy_wh: A
    amount: A


@dataclass(frozen=True, slots=True)
class Line(Generic[A]):
    """An amount under the tariff's own code."""

    code: str
    label: str
    amount: A


@dataclass(frozen=True, slots=True)
class Month(Generic[A]):
    """A local calendar month, named by its first day.

    `subsidies` and `maximum` are negative or 0. `fixed` has standing charges and dated fees.
    """

    first_day: date
    energy_wh: A
    energy: tuple[EnergyLine[A], ...]
    usage_fees: tuple[Line[A], ...]
    subsidies: tuple[Line[A], ...]
    fixed: tuple[Line[A], ...]
    demand: tuple[Line[A], ...]
    minimum: A
    maximum: A
    taxes: tuple[Line[A], ...]

    def amounts(self) -> dict[Part, A]:
        """Each part's sum."""
        return {
            Part.ENERGY: self._sum([each.amount for each in self.energy])
            + self._sum([each.amount for each in self.usage_fees])
            + self._sum([each.amount for each in self.subsidies]),
            Part.FIXED: self._sum([each.amount for each in self.fixed]),
            Part.DEMAND: self._sum([each.amount for each in self.demand]),
            Part.MINIMUM: self.minimum + self.maximum,
            Part.TAX: self._sum([each.amount for each in self.taxes]),
        }

    @property
    def total(self) -> A:
        """What the month costs."""
        return reduce(add, self.amounts().values())

    def _sum(self, amounts: Sequence[A]) -> A:
        return reduce(add, amounts) if amounts else self.energy_wh * 0


def month_of_load(month: Month[Exact], load: int) -> Month[Fraction]:
    """One load's month out of many; energy lines without energy are left out."""

    def of(lines: tuple[Line[Exact], ...]) -> tuple[Line[Fraction], ...]:
        return tuple(Line(each.code, each.label, each.amount[load]) for each in lines)

    energy = (
        EnergyLine(
            each.band,
            each.label,
            each.step,
            each.price_nano_per_kwh,
            each.energy_wh[load],
            each.amount[load],
        )
        for each in month.energy
    )
    return Month(
        first_day=month.first_day,
        energy_wh=month.energy_wh[load],
        energy=tuple(each for each in energy if each.energy_wh or each.amount),
        usage_fees=of(month.usage_fees),
        subsidies=of(month.subsidies),
        fixed=of(month.fixed),
        demand=of(month.demand),
        minimum=month.minimum[load],
        maximum=month.maximum[load],
        taxes=of(month.taxes),
    )
