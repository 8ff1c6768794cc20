"""Demand: the highest mean power of a month, what of it is billed, and how it falls due by days.

A day is cut into windows of the tariff's interval from its first instant on, so a day of 25 hours
has four quarter-hours more. Usage falls to windows pro rata by time in whole Wh, as everywhere in
Prewatt: up to an edge e into a part of length d, floor(Wh × e ÷ d). The mean power of a window is
its Wh ÷ the full interval, cut off to whole W. A window that the day's end cuts short, or that
readings cover in part, is divided by the full interval too: what is not known is never demand.
Energy outside of the bands that a demand counts in is left out the same way.

Billed is the highest power of the month so far, at least the ratchet's share of the highest month
before, and more where the power factor is lower than agreed. A month's charge is

    billed W × Σ price of each owed day ÷ (days of the month × 10⁶)      in micro-units, cut off

through the day that is accrued, so that each day adds the difference to what was accrued before:
the day's own share, and the true-up whenever the highest power of the month has changed.

A power factor is only known where the meter counts reactive energy beside active energy. Without
it no penalty is charged: what was not measured cannot be held against anybody.
"""

from __future__ import annotations

from math import isqrt
from typing import Final

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import (
    INT64_MAX,
    Int64,
    OverflowRefused,
    checked_multiply,
    magnitude,
    mul_div_floor,
)
from prewatt.core.civil_time import MINUTE_US

Index = npt.NDArray[np.integer]

PPM: Final = 1_000_000
UNKNOWN_PPM: Final = 0
"""The power factor of a month without reactive readings, or without any energy."""

_MINUTES_PER_HOUR: Final = 60
_MICRO_DIVISOR: Final = 1_000_000
"""W × nano-units per kW: 1,000 W in a kW, 1,000 nano-units in a micro-unit."""


def peak_power_w(
    *,
    from_us: Int64,
    to_us: Int64,
    energy_wh: Int64,
    group_index: Index,
    group_start_us: Int64,
    interval_minutes: int,
) -> Int64:
    """The highest mean power in W of each group, a group being an account's local day.

    One row is a part of an interval [from, to) inside the day of its group, which begins at
    `group_start_us[group_index]`; parts of several meters add up. A part taken back has the same
    instants and negative energy and takes exactly the same out of the same windows. Groups without
    rows, and those whose windows all end below zero, have 0. Raises `OverflowRefused`.
    """
    width = interval_minutes * MINUTE_US
    peaks = np.zeros(group_start_us.size, dtype=np.int64)
    if from_us.size == 0:
        return peaks
    origin = group_start_us[group_index]
    first = (from_us - origin) // width
    count = (to_us - 1 - origin) // width - first + 1
    row = np.repeat(np.arange(from_us.size), count)
    window = first[row] + np.arange(row.size) - np.repeat(np.cumsum(count) - count, count)
    energy = _energy_of_windows(from_us, to_us, energy_wh, origin[row] + window * width, row, width)
    most = int(window.max()) + 1
    keys, place = np.unique(group_index[row] * most + window, return_inverse=True)
    if magnitude(energy) * _MINUTES_PER_HOUR * energy.size > INT64_MAX:
        raise OverflowRefused("the energy of a demand window")
    total = np.zeros(keys.size, dtype=np.int64)
    np.add.at(total, place, energy)
    np.maximum.at(peaks, keys // most, total * _MINUTES_PER_HOUR // interval_minutes)
    return peaks


def _energy_of_windows(
    from_us: Int64, to_us: Int64, energy_wh: Int64, window_us: Int64, row: Index, width: int
) -> Int64:
    """What each (row, window) pair has of its row's energy; exact negatives for negative rows."""
    begin, end, energy = from_us[row], to_us[row], energy_wh[row]
    place = "the energy of a demand window"
    amount = np.abs(energy)
    upto_end = mul_div_floor(
        amount, np.minimum(window_us + width, end) - begin, end - begin, place=place
    )
    upto_start = mul_div_floor(
        amount, np.maximum(window_us, begin) - begin, end - begin, place=place
    )
    return np.asarray(np.sign(energy) * (upto_end - upto_start), dtype=np.int64)


def billed_power_w(
    *,
    peak_w: Int64,
    ratchet_peak_w: Int64,
    ratchet_ppm: Int64,
    power_factor_ppm: Int64,
    least_power_factor_ppm: Int64,
) -> Int64:
    """The power that is charged for, in whole W; columns of one length.

    `ratchet_peak_w` is the highest power of the ratchet's months before this one, of which the
    share `ratchet_ppm` is the least that is billed. `power_factor_ppm` is the measured one or
    `UNKNOWN_PPM`; where it is known and below the agreed least, billed power is multiplied by
    least ÷ measured. Everything is cut off to whole W. Raises `OverflowRefused`.
    """
    place = "a billed demand"
    whole = np.array([PPM], dtype=np.int64)
    billed = np.maximum(peak_w, mul_div_floor(ratchet_peak_w, ratchet_ppm, whole, place=place))
    low = (power_factor_ppm != UNKNOWN_PPM) & (power_factor_ppm < least_power_factor_ppm)
    times = np.where(low, least_power_factor_ppm, 1)
    over = np.where(low, power_factor_ppm, 1)
    return np.asarray(checked_multiply(billed, times, place=place) // over, dtype=np.int64)


def power_factor_ppm(active_wh: int, reactive_varh: int) -> int:
    """Active ÷ apparent energy of the same stretch of time, in millionths, cut off upwards.

    `UNKNOWN_PPM` where no energy was counted at all. Rounding up is in the customer's favour.
    """
    apparent_squared = active_wh**2 + reactive_varh**2
    if apparent_squared == 0 or active_wh < 0 or reactive_varh < 0:
        return UNKNOWN_PPM
    squared = active_wh**2 * PPM**2
    factor = isqrt(squared // apparent_squared)
    if factor**2 * apparent_squared < squared:
        factor += 1
    # All of it reactive is a power factor of zero, which is known: the lowest there is.
    return max(factor, 1)


def accrued_demand_micro(*, billed_w: Int64, price_sum_nano: Int64, days: Int64) -> Int64:
    """A month's demand charge through some day: floor(W × Σ nano per kW ÷ (days × 10⁶)).

    `price_sum_nano` is the sum of the prices of the owed days so far, `days` how many the month
    has. All ≥ 0. Raises `OverflowRefused` where the charge itself does not fit.
    """
    divisor = days * _MICRO_DIVISOR
    if magnitude(billed_w) * magnitude(price_sum_nano) <= INT64_MAX:
        return np.asarray(billed_w * price_sum_nano // divisor, dtype=np.int64)
    # Prices of high-denomination currencies: Python's integers are exact, and this path is rare.
    exact = [
        watt * price // per
        for watt, price, per in zip(
            billed_w.tolist(), price_sum_nano.tolist(), divisor.tolist(), strict=True
        )
    ]
    if any(each > INT64_MAX for each in exact):
        raise OverflowRefused("a demand charge")
    return np.array(exact, dtype=np.int64)
