"""Validation of register readings against each meter's watermark (the VEE of meter data
management).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import Int64

Bool = npt.NDArray[np.bool_]
Int8 = npt.NDArray[np.int8]

OPEN_ENDED_US: Final = 2**63 - 1
"""`closed_at_us` of an assignment that has no end yet."""


class Verdict(IntEnum):
    """Stored as smallint, never renumbered; `VERDICT_NAMES` has the stable names
    (`mdm.vee.backwards`).
    """

    ACCEPTED = 0
    DUPLICATE = 1
    BACKFILL = 2
    CONFLICT = 3
    BACKWARDS = 4
    IMPLAUSIBLE = 5
    FUTURE = 6
    BEFORE_OPENING = 7
    AFTER_CLOSING = 8
    NEGATIVE = 9


VERDICT_NAMES: Final = {verdict: f"mdm.vee.{verdict.name.lower()}" for verdict in Verdict}

HELD_VERDICTS: Final = frozenset(
    {
        Verdict.CONFLICT,
        Verdict.BACKWARDS,
        Verdict.IMPLAUSIBLE,
        Verdict.FUTURE,
        Verdict.BEFORE_OPENING,
        Verdict.AFTER_CLOSING,
        Verdict.NEGATIVE,
    }
)
"""Verdicts that open a VEE case. DUPLICATE changes nothing; BACKFILL never changes the energy
total.
"""


@dataclass(frozen=True, slots=True)
class MeterWatermarks:
    """What is known of each meter of the batch before it; columns of one length, one entry per
    meter.

    `last_*` is the last accepted reading (the opening one at first), `opened_*` the assignment's
    opening reading, `closed_at_us` its end (`OPEN_ENDED_US` while open). `register_modulus` is 0
    for a register that never rolls over. `wh_per_count` turns register counts into Wh.
    `max_power_w` bounds plausible usage. `period_us` is the expected distance of two readings.
    """

    last_at_us: Int64
    last_value: Int64
    opened_at_us: Int64
    opened_value: Int64
    closed_at_us: Int64
    register_modulus: Int64
    wh_per_count: Int64
    max_power_w: Int64
    period_us: Int64


@dataclass(frozen=True, slots=True)
class VeeLimits:
    """`clock_tolerance_us`: how far ahead of now a reading may be. `gap_periods`: an interval
    longer than so many expected periods is a jump over a gap and its allocation is an estimate.
    """

    clock_tolerance_us: int = 120_000_000
    gap_periods: int = 2


@dataclass(frozen=True, slots=True)
class Validated:
    """One row per reading: `verdict`; and for ACCEPTED rows (0 elsewhere) the interval it closes:
    `start_at_us`, `start_value`, `energy_wh`, `rolled`, `jumps_gap`. One row per meter: the new
    watermark.
    """

    verdict: Int8
    start_at_us: Int64
    start_value: Int64
    energy_wh: Int64
    rolled: Bool
    jumps_gap: Bool
    last_at_us: Int64
    last_value: Int64


def validate_readings(
    *,
    meter_index: npt.NDArray[np.integer],
    read_at_us: Int64,
    value: Int64,
    watermarks: MeterWatermarks,
    now_us: int,
    limits: VeeLimits,
) -> Validated:
    """Judge a batch sorted by (meter_index, read_at_us, arrival). The verdicts and the watermarks
    do not depend on where batches are cut, as long as each meter's readings arrive in time order.
    """
    raise NotImplementedError
