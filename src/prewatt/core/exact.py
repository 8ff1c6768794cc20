"""Columns of exact fractions, for statements of many loads at once.

Amounts in a statement are neither cut off nor rounded before they are printed. numpy has no
fractions, but it does arithmetic on columns of Python's unbounded integers; a numerator and a
denominator column make an exact fraction of every row.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import INT64_MAX, Int64, OverflowRefused

Integers = npt.NDArray[np.object_]
"""Python integers, of any size."""


class Exact:
    """One fraction per row: `numerator` ÷ `denominator`, columns of Python integers, the
    denominator above 0. Not reduced: sums of fractions that share their denominator stay cheap.
    """

    __slots__ = ("denominator", "numerator")

    def __init__(self, numerator: Integers, denominator: Integers) -> None:
        self.numerator = numerator
        self.denominator = denominator

    @classmethod
    def of(cls, values: Int64 | Integers | int, rows: int) -> Exact:
        """Whole numbers: a column, or the same one in each of `rows` rows."""
        column = np.broadcast_to(np.asarray(values, dtype=object), (rows,))
        return cls(column, _ones(rows))

    def __len__(self) -> int:
        return int(self.numerator.size)

    def __getitem__(self, row: int) -> Fraction:
        return Fraction(int(self.numerator[row]), int(self.denominator[row]))

    def __add__(self, other: Exact) -> Exact:
        mine, theirs = self.denominator, other.denominator
        if mine is theirs:
            return Exact(self.numerator + other.numerator, mine)
        whole = _ones(len(self))
        if mine is whole or theirs is whole:
            left, right = (other, self) if mine is whole else (self, other)
            return Exact(left.numerator + right.numerator * left.denominator, left.denominator)
        common = np.lcm(mine, theirs)
        left, right = self.numerator * (common // mine), other.numerator * (common // theirs)
        return Exact(left + right, common)

    def __neg__(self) -> Exact:
        return Exact(-self.numerator, self.denominator)

    def __sub__(self, other: Exact) -> Exact:
        return self + -other

    def __mul__(self, factor: int | Fraction | Int64) -> Exact:
        """Times one number, or times a column of whole numbers."""
        if isinstance(factor, Fraction) and factor.denominator != 1:
            return Exact(self.numerator * factor.numerator, self.denominator * factor.denominator)
        if isinstance(factor, np.ndarray):
            return Exact(self.numerator * factor.astype(object), self.denominator)
        return Exact(self.numerator * int(factor), self.denominator)

    def over(self, divisor: Int64) -> Exact:
        """Divided by a column of positive whole numbers."""
        return Exact(self.numerator, self.denominator * divisor.astype(object))

    def at_least_zero(self) -> Exact:
        """Itself, or 0 where it is negative."""
        return Exact(np.maximum(self.numerator, 0), self.denominator)

    def rounded(self) -> Int64:
        """Whole numbers, half to even. Raises `OverflowRefused` beyond 64 bits."""
        whole = self.numerator // self.denominator
        twice = 2 * (self.numerator - whole * self.denominator)
        up = (twice > self.denominator) | ((twice == self.denominator) & (whole % 2 == 1))
        whole = whole + up.astype(bool)
        if whole.size and max(abs(int(whole.max())), abs(int(whole.min()))) > INT64_MAX:
            raise OverflowRefused("an amount of a statement")
        return np.asarray(whole, dtype=np.int64)


@lru_cache(maxsize=16)
def _ones(rows: int) -> Integers:
    """A column of ones; the same object for the same size, so that whole numbers share it."""
    ones = np.ones(rows, dtype=object)
    ones.setflags(write=False)
    return ones
