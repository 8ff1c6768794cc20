"""What falls due by days whether or not energy is used: standing charges, fixed fees, bounds.

A day owes its part of a dated amount at its first instant, disconnected or not: the amount itself,
or the amount of a month or a year divided by the days of that very month or year. The parts are
exact. A part is whole micro-units and a rest in `DATED_DENOMINATOR`ths of one, which every length
of a month and a year divides; whatever a part leaves below a micro-unit is carried to the next. A
whole month therefore costs its amount exactly, however its days were posted.

An account owes for the days whose first instant lies in its life. Two accounts that follow one
another never both owe a day, and none is nobody's.

Days are day numbers of local dates. The length of a day in hours changes nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import (
    INT64_MAX,
    Int64,
    OverflowRefused,
    checked_multiply,
    magnitude,
)
from prewatt.core.rating import floor_with_carry
from prewatt.core.tariff.model import Per
from prewatt.core.taxes import PPB

_LCM: Final = 1_681_363_740
"""Least common multiple of the lengths of months and years: 28, 29, 30, 31, 365 and 366 days."""
_NANO_PER_MICRO: Final = 1_000

DATED_DENOMINATOR: Final = _NANO_PER_MICRO * _LCM
"""What the carry of a standing charge or fixed fee counts: this fraction of a micro-unit."""


@dataclass(frozen=True, slots=True)
class DayParts:
    """What days owe of one amount, as columns: `micro` whole micro-units and `rest` in
    [0, `DATED_DENOMINATOR`).
    """

    micro: Int64
    rest: Int64

    def take(self, rows: npt.NDArray[np.integer]) -> DayParts:
        """Some of the rows, in the order given."""
        return DayParts(self.micro[rows], self.rest[rows])


@dataclass(frozen=True, slots=True)
class Periods:
    """The month or year of each day: its `first_day` and how many `days` it has."""

    first_day: Int64
    days: Int64


def periods_of(per: Per, day: Int64) -> Periods:
    """The calendar period that a dated amount is per, for each local day; for `Per.DAY` itself."""
    if per is Per.DAY:
        return Periods(day, np.ones_like(day))
    unit = "M" if per is Per.MONTH else "Y"
    count = day.astype("datetime64[D]").astype(f"datetime64[{unit}]").astype(np.int64)
    first = count.astype(f"datetime64[{unit}]").astype("datetime64[D]").astype(np.int64)
    following = (count + 1).astype(f"datetime64[{unit}]").astype("datetime64[D]").astype(np.int64)
    return Periods(first, following - first)


def parts_of_days(*, per: Per, amount_nano: int, day: Int64) -> DayParts:
    """What each day owes of an amount in nano-units, exactly. Raises `OverflowRefused`."""
    if not 0 <= amount_nano <= INT64_MAX:
        raise OverflowRefused("a dated amount")
    days = periods_of(per, day).days
    micro, nano = np.divmod(np.int64(amount_nano), _NANO_PER_MICRO * days)
    # nano < 1000 × days, so the product is below 1000 × LCM.
    return DayParts(micro, nano * (_LCM // days))


def accrue_parts(
    *, account_index: npt.NDArray[np.integer], parts: DayParts, carry: Int64
) -> tuple[Int64, Int64]:
    """(micro-units per row, new carry per account) of parts sorted by (account_index, day).

    `carry` has one remainder in [0, `DATED_DENOMINATOR`) per account. Up to and with any row the
    amounts of an account sum to the floor of the exact total. Negative parts (`-micro`, `-rest`:
    days given back) follow the same floor. Raises `OverflowRefused`, and `ValueError` for rows out
    of order.
    """
    whole = magnitude(parts.micro) * max(parts.micro.size, 1)
    if whole + parts.micro.size + 1 > INT64_MAX:
        raise OverflowRefused("the dated charges of a batch")
    charge, new_carry = floor_with_carry(
        account_index=account_index,
        numerator=parts.rest,
        carry=carry,
        denominator=DATED_DENOMINATOR,
    )
    return charge + parts.micro, new_carry


def accrue_tax(
    *,
    account_index: npt.NDArray[np.integer],
    charge_micro: Int64,
    share_ppb: Int64,
    carry: Int64,
) -> tuple[Int64, Int64]:
    """(tax in micro-units per row, new carry per account) on net charges, rows as in `accrue_parts`.

    `share_ppb` is `taxes.EffectiveTax.share_ppb` of each row, `carry` in [0, 10⁹). A charge that is
    given back gives its tax back by the same floor. Raises `OverflowRefused`.
    """
    place = "the tax of daily charges"
    if magnitude(share_ppb) > INT64_MAX // PPB:
        raise OverflowRefused(place)
    whole, rest = np.divmod(charge_micro, PPB)
    more, numerator = np.divmod(rest * share_ppb, PPB)
    tax, new_carry = floor_with_carry(
        account_index=account_index, numerator=numerator, carry=carry, denominator=PPB
    )
    return tax + more + checked_multiply(whole, share_ppb, place=place), new_carry


def sum_parts(*, group_index: npt.NDArray[np.integer], parts: DayParts, groups: int) -> Int64:
    """The floor of each group's exact sum, in micro-units: the bound of a part of a period.

    Rows in any order. Raises `OverflowRefused`.
    """
    size = max(parts.micro.size, 1)
    if magnitude(parts.micro) * size + size > INT64_MAX or DATED_DENOMINATOR * size > INT64_MAX:
        raise OverflowRefused("the sum of dated amounts")
    micro = np.zeros(groups, dtype=np.int64)
    rest = np.zeros(groups, dtype=np.int64)
    np.add.at(micro, group_index, parts.micro)
    np.add.at(rest, group_index, parts.rest)
    return micro + rest // DATED_DENOMINATOR


def owed_days(*, starts_us: Int64, from_us: Int64, until_us: Int64) -> tuple[Int64, Int64]:
    """(first, end) positions in `starts_us` of the days that lives [from, until) owe.

    `starts_us` are the first instants of consecutive local days, increasing; a day is owed by the
    life that contains its first instant. `end` is exclusive and never before `first`.
    """
    first = np.searchsorted(starts_us, from_us, side="left")
    end = np.searchsorted(starts_us, until_us, side="left")
    return first, np.maximum(first, end)


def minimum_due(*, bound_micro: Int64, charged_micro: Int64) -> Int64:
    """What is still to be charged to reach a minimum: never negative."""
    return np.asarray(np.maximum(bound_micro - charged_micro, 0), dtype=np.int64)


def maximum_due(*, bound_micro: Int64, charged_micro: Int64) -> Int64:
    """What goes back to the customer above a maximum, as a negative charge: never positive."""
    return np.asarray(np.minimum(bound_micro - charged_micro, 0), dtype=np.int64)
