"""Where a fraction of a micro-unit is cut off, and what is left of it carried on.

A charge is a sum of products over a common denominator. Within an account the charges up to and
with row n sum to the floor of the exact sum so far, with the carry that the account brought along;
so any sequence of batches charges the floor of the exact total.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import (
    INT64_MAX,
    Int64,
    OverflowRefused,
    checked_add,
    checked_multiply,
    magnitude,
)

Index = npt.NDArray[np.integer]
Product = tuple[Int64, Int64]
"""A quantity per row, and its factor: a column of the same length, or of one."""

_PLACE = "the charges of a batch"


@dataclass(frozen=True, slots=True)
class AccountRows:
    """Rows sorted by account: the first row of each account, and its position in a carry."""

    heads: Int64
    accounts: Int64

    @classmethod
    def of(cls, account_index: Index) -> AccountRows:
        """Of at least one row. Raises `ValueError` for rows out of order."""
        if bool((account_index[1:] < account_index[:-1]).any()):
            raise ValueError("rows are not sorted by account_index")
        heads = np.append(0, np.flatnonzero(account_index[1:] != account_index[:-1]) + 1)
        return cls(heads, account_index[heads].astype(np.int64))

    def floored(
        self,
        products: Sequence[Product],
        carry: Int64,
        denominator: int,
        *,
        extra: tuple[Int64, Int64] | None = None,
    ) -> Int64:
        """The micro-units of each row's sum of products over a denominator; `carry`, which has one
        remainder in [0, denominator) per account, is moved on in place.

        `extra` is (rows, numerators) to be added. Raises `OverflowRefused` instead of wrapping.
        """
        whole, numerator = _sum_of(products, denominator)
        if extra is not None and extra[0].size:
            over, rest = np.divmod(extra[1], denominator)
            whole = np.zeros_like(numerator) if whole is None else whole
            np.add.at(whole, extra[0], over)
            np.add.at(numerator, extra[0], rest)
        room = INT64_MAX - (self.heads.size + 1) * denominator
        if magnitude(numerator) * numerator.size > room:
            over, numerator = np.divmod(numerator, denominator)
            whole = over if whole is None else checked_add(whole, over, place=_PLACE)
            if denominator * numerator.size > room:
                raise OverflowRefused(_PLACE)
        charge = self._cut_off(numerator, carry, denominator)
        if whole is None:
            return charge
        charge = checked_add(charge, whole, place=_PLACE)
        if magnitude(charge) * charge.size > INT64_MAX:
            raise OverflowRefused(_PLACE)
        return charge

    def _cut_off(self, numerator: Int64, carry: Int64, denominator: int) -> Int64:
        """Whole micro-units of numerators that are small enough to be added up; takes both over."""
        brought = carry[self.accounts]
        if self.heads.size == numerator.size:
            numerator += brought
            charge = numerator // denominator
            carry[self.accounts] = numerator - charge * denominator
            return charge
        left = (brought + np.add.reduceat(numerator, self.heads)) % denominator
        # One running sum goes through all accounts: taking out at each first row what the account
        # before left over makes it begin on a whole micro-unit.
        numerator[self.heads] += brought
        numerator[self.heads[1:]] -= left[:-1]
        floor = np.cumsum(numerator, out=numerator)
        floor //= denominator
        charge = np.empty_like(floor)
        charge[0] = floor[0]
        np.subtract(floor[1:], floor[:-1], out=charge[1:])
        carry[self.accounts] = left
        return charge


def rests(
    products: Sequence[Product],
    charge: Int64,
    denominator: int,
    *,
    extra: tuple[Int64, Int64] | None = None,
) -> Int64:
    """What each row's charge leaves of its exact amount: the numerators less charge × denominator.

    That is how far the row moved the carry. It is far smaller than the numbers that it is the
    difference of: where those wrap around 2⁶⁴, it does not.
    """
    rest = -charge * denominator
    for quantity, factor in products:
        rest += quantity * factor
    if extra is not None and extra[0].size:
        np.add.at(rest, extra[0], extra[1])
    return rest


def floor_products(
    products: Sequence[Product], account_index: Index, carry: Int64, denominator: int
) -> tuple[Int64, Int64]:
    """(micro-units per row, new carry per account) of sums of products over a denominator.

    Rows are sorted by account; accounts without rows keep their carry. Raises `OverflowRefused`
    instead of wrapping, and `ValueError` for rows out of order or a carry out of range.
    """
    refuse_bad_carry(carry, denominator)
    new_carry = carry.copy()
    if account_index.size == 0:
        return np.zeros(0, dtype=np.int64), new_carry
    charge = AccountRows.of(account_index).floored(products, new_carry, denominator)
    return charge, new_carry


def floor_with_carry(
    *, account_index: Index, numerator: Int64, carry: Int64, denominator: int
) -> tuple[Int64, Int64]:
    """`floor_products` of numerators over any component's denominator."""
    one = np.ones(1, dtype=np.int64)
    return floor_products([(numerator, one)], account_index, carry, denominator)


def refuse_bad_carry(carry: Int64, denominator: int) -> None:
    """`ValueError` for a remainder outside [0, denominator)."""
    if carry.size and not 0 <= int(carry.min()) <= int(carry.max()) < denominator:
        raise ValueError("a carry lies outside [0, denominator)")


def _sum_of(products: Sequence[Product], denominator: int) -> tuple[Int64 | None, Int64]:
    """(whole micro-units or None, numerators): the exact sum of products over a denominator."""
    most = sum(magnitude(quantity) * magnitude(factor) for quantity, factor in products)
    # Half of the range leaves room for `extra`, whose numerators are below a denominator each.
    if most <= INT64_MAX // 2:
        (quantity, factor), *others = products
        numerator = quantity * factor
        for quantity, factor in others:
            numerator += quantity * factor
        return None, numerator
    whole = rest = np.zeros(products[0][0].size, dtype=np.int64)
    for quantity, factor in products:
        over, part = _divided(quantity, factor, denominator)
        whole = checked_add(whole, over, place=_PLACE)
        rest = rest + part
    return whole, rest


def _divided(quantity: Int64, factor: Int64, denominator: int) -> tuple[Int64, Int64]:
    """divmod(quantity × factor, denominator), neither factor being multiplied as a whole."""
    # Rests with the sign of what they are of: those of small negative numbers stay small.
    quantity_rest, factor_rest = np.fmod(quantity, denominator), np.fmod(factor, denominator)
    quantity_over = (quantity - quantity_rest) // denominator
    factor_over = (factor - factor_rest) // denominator
    small = checked_multiply(quantity_rest, factor_rest, place=_PLACE)
    over, rest = np.divmod(small, denominator)
    for left, right in ((quantity, factor_over), (quantity_over, factor_rest)):
        over = checked_add(over, checked_multiply(left, right, place=_PLACE), place=_PLACE)
    return over, rest
