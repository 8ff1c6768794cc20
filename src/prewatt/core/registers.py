"""Differences of cumulative registers, rollover included.

A register counts up to its modulus and starts again at zero. A lower value is therefore either a
rollover or a fault, and only the size of the implied difference tells which: a rollover is
believed when the meter could physically have counted that far since, and only then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import Int64

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RegisterDelta:
    """Columns of one difference per row: `delta` in register counts (≥ 0 where `plausible`,
    otherwise the plain difference), `rolled` where a rollover was accepted, `backwards` where the
    value is lower and no rollover explains it, `plausible` where the difference can be charged.
    """

    delta: Int64
    rolled: Bool
    backwards: Bool
    plausible: Bool


def register_delta(
    start_value: Int64, end_value: Int64, register_modulus: Int64, max_delta: Int64
) -> RegisterDelta:
    """Counts from `start_value` to `end_value`, all columns int64 of one shape.

    `register_modulus` is the count at which the register returns to zero (10^digits), 0 when it
    never does. `max_delta` is the most the meter could have counted in between. Values must be ≥
    0.
    """
    plain = end_value - start_value
    lower = plain < 0
    around = plain + register_modulus
    rolled = lower & (register_modulus > 0) & (around >= 0) & (around <= max_delta)
    delta = np.where(rolled, around, plain)
    backwards = lower & ~rolled
    return RegisterDelta(delta, rolled, backwards, ~backwards & (delta <= max_delta))
