"""Whether a register that a person puts right fits between the readings around it.

The readings are judged as validation judges any: the corrected one against the reading before it, and
the reading after it against the corrected one. So an edit puts nothing in that would have been held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prewatt.core.readings import Quality
from prewatt.core.vee import OPEN_ENDED_US, MeterWatermarks, VeeLimits, Verdict, validate_readings


@dataclass(frozen=True, slots=True)
class Point:
    """A register's value at an instant, in µs UTC and register counts."""

    at_us: int
    value: int


@dataclass(frozen=True, slots=True)
class Register:
    """What bounds a register: see `vee.MeterWatermarks`."""

    modulus: int
    wh_per_count: int
    max_power_w: int
    period_us: int


@dataclass(frozen=True, slots=True)
class Way:
    """From one point to the next: `verdict` on the later one, energy in Wh where it is ACCEPTED."""

    verdict: Verdict
    energy_wh: int
    quality: Quality


def judge_points(points: Sequence[Point], register: Register, *, now_us: int) -> list[Way]:
    """The ways between points in the order of time, of which the first is taken as it is."""
    first, *others = points
    validated = validate_readings(
        meter_index=np.zeros(len(others), dtype=np.intp),
        read_at_us=_column([each.at_us for each in others]),
        value=_column([each.value for each in others]),
        watermarks=MeterWatermarks(
            last_at_us=_column([first.at_us]),
            last_value=_column([first.value]),
            opened_at_us=_column([first.at_us]),
            opened_value=_column([first.value]),
            closed_at_us=_column([OPEN_ENDED_US]),
            register_modulus=_column([register.modulus]),
            wh_per_count=_column([register.wh_per_count]),
            max_power_w=_column([register.max_power_w]),
            period_us=_column([register.period_us]),
            ahead_uj=_column([0]),
        ),
        now_us=now_us,
        # However near the readings are, the person has them before their eyes.
        limits=VeeLimits(least_gap_us=1),
    )
    return [
        Way(Verdict(verdict), energy_wh, Quality.ESTIMATED if jumps else Quality.EDITED)
        for verdict, energy_wh, jumps in zip(
            validated.verdict.tolist(),
            validated.energy_wh.tolist(),
            validated.jumps_gap.tolist(),
            strict=True,
        )
    ]


def _column(values: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)
