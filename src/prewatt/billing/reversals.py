"""Superseded segments taken back, at exactly what they were charged.

A charge is what was exact up to then, cut off, less what was cut off before; the account carries the
rest. Taking only the charge back would leave its share of the rest behind, and over many corrections
the cents would drift. So a charge is taken back through the carry wherever the row itself still says
what it was exactly. It does not where a step of a whole-usage tariff repriced the window in it, or
where exemptions changed since; then the charge itself is taken back, a micro-unit off at the most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prewatt.core.bounds import Int64
from prewatt.core.rating import CARRY_DENOMINATOR, Component, TimelineSet, UsageState

_PPB = 1_000_000_000
_PPB_PER_PPM = 1_000

CHARGES = ("charge_energy", "charge_fee", "charge_tax", "charge_subsidy")


@dataclass(frozen=True, slots=True, eq=False)
class Reversals:
    """Superseded rows: ``old`` has columns named as in ``interval``, ``account`` a position in the
    state, ``segment`` the segment of the timelines that each lies in.
    """

    old: dict[str, Int64]
    account: Int64
    segment: Int64

    def __len__(self) -> int:
        return int(self.account.size)

    def none(self) -> Reversals:
        """No rows of the same columns."""
        return Reversals(
            {name: values[:0] for name, values in self.old.items()},
            self.account[:0],
            self.segment[:0],
        )


def take_back(rows: Reversals, timelines: TimelineSet, state: UsageState) -> dict[str, Int64]:
    """The charges of the reversals, by column; the carries of ``state`` move in place.

    Python's integers, because a product of a high price overflows 64 bits; there are few rows.
    """
    taken: dict[str, list[int]] = {name: [] for name in CHARGES}
    carries = (
        (state.carry_energy, CARRY_DENOMINATOR[Component.ENERGY]),
        (state.carry_fee, CARRY_DENOMINATOR[Component.FEE]),
        (state.carry_tax, CARRY_DENOMINATOR[Component.TAX]),
        (state.carry_subsidy, CARRY_DENOMINATOR[Component.SUBSIDY]),
    )
    rates = _rates(rows, timelines)
    charged = zip(*(rows.old[name].tolist() for name in CHARGES), strict=True)
    usage = zip(rows.old["energy_wh"].tolist(), rows.old["price_nano"].tolist(), strict=True)
    for account, (wh, price), was, rate in zip(
        rows.account.tolist(), usage, charged, rates, strict=True
    ):
        back: tuple[int, ...] = ()
        for name, (carry, denominator) in zip(CHARGES, carries, strict=True):
            amount = -was[len(back)]
            # Shares are of what is charged, so what is given back of them is of what is taken back.
            for exact, given in zip(
                rate.exact(name, wh, price, was), rate.exact(name, -wh, price, back), strict=True
            ):
                if abs(was[len(back)] * denominator - exact) < denominator:
                    amount, carry[account] = divmod(int(carry[account]) + given, denominator)
                    break
            back = (*back, amount)
            taken[name].append(amount)
    return {name: np.array(values, dtype=np.int64) for name, values in taken.items()}


@dataclass(frozen=True, slots=True)
class _Rates:
    """The rates of a row's timeline segment, in parts per billion or of a nano-unit."""

    fee_per_kwh: int
    fee_share: int
    energy_tax: int
    fee_tax: int
    rebate_per_kwh: int

    def exact(self, name: str, wh: int, price: int, charged: Sequence[int]) -> tuple[int, ...]:
        """What a charge can have been exactly, in its denominator; ``charged`` are the micro-units
        of energy and fee that it is a share of, as far as they are known. A subsidy depends on
        whether the energy was free.
        """
        match name:
            case "charge_energy":
                return (wh * price,)
            case "charge_fee":
                return (wh * self.fee_per_kwh + charged[0] * self.fee_share,)
            case "charge_tax":
                return (charged[0] * self.energy_tax + charged[1] * self.fee_tax,)
            case _:
                rebate = -wh * self.rebate_per_kwh
                return rebate, rebate - charged[0] * (self.energy_tax + _PPB)


def _rates(rows: Reversals, timelines: TimelineSet) -> list[_Rates]:
    rules, rule = timelines.rules, timelines.rule[rows.segment]
    columns = (
        rules.fee_nano_per_kwh * _PPB_PER_PPM,
        rules.fee_share_ppb,
        rules.energy_tax_ppb,
        rules.fee_tax_ppb,
        rules.rebate_nano_per_kwh * _PPB_PER_PPM,
    )
    return [
        _Rates(*each) for each in zip(*(column[rule].tolist() for column in columns), strict=True)
    ]
