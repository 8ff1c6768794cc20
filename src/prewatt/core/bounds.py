"""Integer arithmetic on arrays that refuses to wrap around.

numpy's int64 wraps silently, which in a billing system would turn a large debt into a large
credit. Every product and sum of money, energy and price therefore passes through this module,
which proves the bound first and refuses with a typed error otherwise.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]

INT64_MAX: Final = 2**63 - 1
INT64_MIN: Final = -(2**63)

# `mul_div_floor` works through its multiplier in digits of this many bits: a divisor below 2^47
# times one digit stays below 2^63.
_DIGIT_BITS: Final = 15
_DIVISOR_LIMIT: Final = 1 << 47
_DIGITS: Final = 4


class OverflowRefused(ArithmeticError):
    """A product, sum or quotient would not fit into 64 bits; nothing was computed.

    `place` names the quantity in words a log reader understands.
    """

    def __init__(self, place: str) -> None:
        super().__init__(f"{place}: the result does not fit into 64 bits")
        self.place = place


def magnitude(values: Int64) -> int:
    """The largest absolute value as an unbounded Python integer; 0 for an empty array."""
    if values.size == 0:
        return 0
    return max(int(values.max()), -int(values.min()))


def checked_multiply(left: Int64, right: Int64, *, place: str) -> Int64:
    """Multiply elementwise (shapes broadcast), or raise `OverflowRefused`."""
    if magnitude(left) * magnitude(right) <= INT64_MAX:
        return np.asarray(left * right, dtype=np.int64)
    # The cheap bound failed: look at each pair. Python integers are exact and this path is rare.
    pairs = np.broadcast(left, right)
    if any(not INT64_MIN <= int(a) * int(b) <= INT64_MAX for a, b in pairs):
        raise OverflowRefused(place)
    return np.asarray(left * right, dtype=np.int64)


def checked_add(left: Int64, right: Int64, *, place: str) -> Int64:
    """Add elementwise (shapes broadcast), or raise `OverflowRefused`."""
    total = np.asarray(left + right, dtype=np.int64)
    # Two's complement: a sum overflowed exactly where both operands differ in sign from the
    # result.
    if bool((((left ^ total) & (right ^ total)) < 0).any()):
        raise OverflowRefused(place)
    return total


def checked_total(values: Int64, *, place: str) -> int:
    """The exact sum of an array, or `OverflowRefused` when it does not fit."""
    if magnitude(values) * values.size <= INT64_MAX:
        return int(values.sum())
    total = sum(int(value) for value in values)
    if not INT64_MIN <= total <= INT64_MAX:
        raise OverflowRefused(place)
    return total


def mul_div_floor(value: Int64, multiplier: Int64, divisor: Int64, *, place: str) -> Int64:
    """floor(value × multiplier ÷ divisor) without an overflowing intermediate.

    Shapes broadcast. Needs 0 ≤ multiplier ≤ divisor and 0 < divisor < 2^47 (four years in
    microseconds), so that the result never exceeds `value` in magnitude; anything else raises
    `OverflowRefused`. `value` may be negative: the quotient is floored, not truncated.
    """
    if multiplier.size and int(multiplier.min()) < 0:
        raise OverflowRefused(place)
    if divisor.size and not 0 < int(divisor.min()) <= int(divisor.max()) < _DIVISOR_LIMIT:
        raise OverflowRefused(place)
    if bool((multiplier > divisor).any()):
        raise OverflowRefused(place)
    if magnitude(value) * magnitude(multiplier) <= INT64_MAX:
        return np.asarray((value * multiplier) // divisor, dtype=np.int64)
    # value = whole × divisor + part, hence the result is whole × multiplier + floor(part ×
    # multiplier ÷ divisor). The second term is a long division, one digit of the multiplier at a
    # time.
    whole, part = np.divmod(value, divisor)
    quotient = np.zeros(np.broadcast(value, multiplier, divisor).shape, dtype=np.int64)
    remainder = np.zeros_like(quotient)
    for position in reversed(range(_DIGITS)):
        digit = (multiplier >> (position * _DIGIT_BITS)) & ((1 << _DIGIT_BITS) - 1)
        remainder = (remainder << _DIGIT_BITS) + part * digit
        quotient = (quotient << _DIGIT_BITS) + remainder // divisor
        remainder %= divisor
    return np.asarray(whole * multiplier + quotient, dtype=np.int64)
