"""Superseded segments taken back, at exactly what they came to.

A charge is what was exact, cut off to micro-units, and the row keeps what that left (``rest_``). Both
together are taken back, through the account's carry like any charge, whatever prices, steps and
exemptions have become since: over any number of corrections all rows and the carry remain one exact
sum. So a reversal may give back a micro-unit less or more than was charged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from prewatt.core.bounds import Int64
from prewatt.core.rating import CARRY_DENOMINATOR, Component, UsageState

CHARGES: Final = ("charge_energy", "charge_fee", "charge_tax", "charge_subsidy")
RESTS: Final = ("rest_energy", "rest_fee", "rest_tax", "rest_subsidy")
#: The denominators of the rests, in their order.
UNITS: Final = tuple(
    CARRY_DENOMINATOR[each]
    for each in (Component.ENERGY, Component.FEE, Component.TAX, Component.SUBSIDY)
)


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


def take_back(rows: Reversals, state: UsageState) -> dict[str, Int64]:
    """Charges and rests of the reversals, by column; the carries of ``state`` move in place."""
    carries = (state.carry_energy, state.carry_fee, state.carry_tax, state.carry_subsidy)
    taken = {name: -rows.old[name] for name in (*CHARGES, *RESTS)}
    for charge, rest, carry, unit in zip(CHARGES, RESTS, carries, UNITS, strict=True):
        for row, account in enumerate(rows.account.tolist()):
            over, left = divmod(int(carry[account] + taken[rest][row]), unit)
            taken[charge][row] += over
            taken[rest][row] -= over * unit
            carry[account] = left
    return taken
