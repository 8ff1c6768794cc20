"""Superseded segments taken back, at exactly what they were charged.

A charge is what was exact up to then, cut off, less what was cut off before; the account carries the
rest. Taking only the charge back would leave its share of the rest behind, and over many corrections
the cents would drift. So a charge is taken back through the carry wherever the row itself still says
what it was exactly. It does not where a step of a whole-usage tariff repriced the window in it, or
where exemptions changed since; then the charge itself is taken back, a micro-unit off at the most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
    """The charges of the reversals, by column; the carries of ``state`` move in place."""
    taken = {name: -rows.old[name] for name in CHARGES}
    if len(rows) == 0:
        return taken
    carries = {
        "charge_energy": (state.carry_energy, CARRY_DENOMINATOR[Component.ENERGY]),
        "charge_fee": (state.carry_fee, CARRY_DENOMINATOR[Component.FEE]),
        "charge_tax": (state.carry_tax, CARRY_DENOMINATOR[Component.TAX]),
        "charge_subsidy": (state.carry_subsidy, CARRY_DENOMINATOR[Component.SUBSIDY]),
    }
    for at, row in enumerate(_rows(rows, timelines)):
        account = int(rows.account[at])
        for name, (carry, denominator) in carries.items():
            charged = int(rows.old[name][at])
            for exact in row[name]:
                if abs(charged * denominator - exact) < denominator:
                    whole, rest = divmod(int(carry[account]) - exact, denominator)
                    taken[name][at], carry[account] = whole, rest
                    break
    return taken


def _rows(rows: Reversals, timelines: TimelineSet) -> Iterator[dict[str, tuple[int, ...]]]:
    """For each row and charge, what it can have been exactly, in the charge's denominator.

    Python's integers, because a product of a high price overflows 64 bits; there are few rows.
    """
    rules = timelines.rules
    rule = timelines.rule[rows.segment]
    columns = zip(
        rows.old["energy_wh"].tolist(),
        rows.old["price_nano"].tolist(),
        rows.old["charge_energy"].tolist(),
        rows.old["charge_fee"].tolist(),
        (rules.fee_nano_per_kwh * _PPB_PER_PPM)[rule].tolist(),
        rules.fee_share_ppb[rule].tolist(),
        rules.energy_tax_ppb[rule].tolist(),
        rules.fee_tax_ppb[rule].tolist(),
        (rules.rebate_nano_per_kwh * _PPB_PER_PPM)[rule].tolist(),
        strict=True,
    )
    for wh, price, energy, fee, fee_per_kwh, fee_share, energy_tax, fee_tax, rebate in columns:
        yield {
            "charge_energy": (wh * price,),
            "charge_fee": (wh * fee_per_kwh + energy * fee_share,),
            "charge_tax": (energy * energy_tax + fee * fee_tax,),
            "charge_subsidy": (
                -wh * rebate,
                -wh * rebate - energy * (energy_tax + _PPB),
            ),
        }
