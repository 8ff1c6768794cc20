"""What taxes make of a price: the net price, and one effective share on what is charged.

All taxes on a part of a bill are brought together when a tariff is laid over a calendar, so that
rating multiplies once. With the taxes in the order of the document, each on the net amount, and a
compound one also on the taxes before it:

* The price as written contains the inclusive taxes, so the net price is price ÷ (1 + Σ inclusive
  shares), rounded half to even to a whole nano-unit. What is charged for energy or as a fee is net.
* The tax is Σ of all shares, in parts per billion of what is charged, rounded half to even once.

A customer who is exempt from an inclusive tax pays the price without it. A tax holds on the local
days from `valid_from` until the day before `valid_until`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Final

from prewatt.core.civil_time import day_number
from prewatt.core.tariff.model import Tax, Taxable

PPB: Final = 10**9
_PPM: Final = 10**6


@dataclass(frozen=True, slots=True)
class TaxPart:
    """One tax's share of a charged net amount, exactly; `rate_ppm` as the document names it."""

    code: str
    label: str
    rate_ppm: int
    share: Fraction


@dataclass(frozen=True, slots=True)
class EffectiveTax:
    """All taxes on one part of a bill: `net` is the net part of a price as written, `share_ppb`
    what is charged on a net amount, `parts` who gets it.
    """

    net: Fraction
    share_ppb: int
    parts: tuple[TaxPart, ...]

    def net_nano(self, nano: int) -> int:
        """The net price of a price as written, half to even."""
        return round(nano * self.net)


def effective_tax(
    taxes: Sequence[Tax], on: Taxable, day: date, exempt: frozenset[str] = frozenset()
) -> EffectiveTax:
    """The taxes on a part of a bill on a local day, for a customer with exemptions by code."""
    holding = [tax for tax in taxes if on in tax.on and _holds(tax, day)]
    contained = sum(
        (part.share for tax, part in zip(holding, _parts(holding), strict=True) if tax.inclusive),
        Fraction(0),
    )
    parts = _parts([tax for tax in holding if tax.code not in exempt])
    total = sum((part.share for part in parts), Fraction(0))
    return EffectiveTax(1 / (1 + contained), round(total * PPB), parts)


def tax_change_days(taxes: Sequence[Tax]) -> tuple[int, ...]:
    """The local days (day numbers, sorted) on which some tax begins or no longer holds."""
    bounds = (day for tax in taxes for day in (tax.valid_from, tax.valid_until) if day is not None)
    return tuple(sorted({day_number(day) for day in bounds}))


def apportion(total: int, shares: Sequence[Fraction]) -> tuple[int, ...]:
    """A total divided into whole parts in proportion to shares that are not negative, by a
    cumulative floor: the parts sum to the total. Where all shares are 0 the last part has it all.

    So a posting divides the tax of a range over the codes that it belongs to.
    """
    whole = sum(shares, Fraction(0))
    reached = [0, *(total * each // whole if whole else 0 for each in accumulate(shares))]
    reached[-1] = total
    return tuple(after - before for before, after in pairwise(reached))


def _holds(tax: Tax, day: date) -> bool:
    begun = tax.valid_from is None or tax.valid_from <= day
    return begun and (tax.valid_until is None or day < tax.valid_until)


def _parts(taxes: Sequence[Tax]) -> tuple[TaxPart, ...]:
    parts: list[TaxPart] = []
    before = Fraction(0)
    for tax in taxes:
        share = Fraction(tax.rate_ppm, _PPM) * (1 + before if tax.compound else 1)
        parts.append(TaxPart(tax.code, tax.label, tax.rate_ppm, share))
        before += share
    return tuple(parts)
