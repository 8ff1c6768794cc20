"""What a statement charges by days: standing charges and fees, demand, minimum and maximum.

A load owes for the local days that begin while it lasts. Amounts are exact fractions of
micro-units; see `dated` and `demand` for how an account accrues the same by the day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

import numpy as np

from prewatt.core.bounds import Int64
from prewatt.core.civil_time import DAY_US, LocalCalendar
from prewatt.core.dated import owed_days, periods_of
from prewatt.core.demand import UNKNOWN_PPM, billed_power_w, peak_power_w
from prewatt.core.loads import LaidAxis, LoadAxis
from prewatt.core.tariff import Tariff
from prewatt.core.tariff.model import Demand, Per
from prewatt.core.taxes import tax_change_days


@dataclass(frozen=True, slots=True)
class Stretch:
    """Owed local days [first, end) of one month, with the same taxes throughout."""

    month: int
    first: int
    end: int

    @property
    def days(self) -> int:
        """How many days it has."""
        return self.end - self.first

    def share_of(self, per: Per) -> Fraction:
        """How much of an amount per day, month or year its days owe."""
        day = np.array([self.first], dtype=np.int64)
        return Fraction(self.days, int(periods_of(per, day).days[0]))

    def period(self, per: Per) -> int:
        """The first day of its month or year."""
        return int(periods_of(per, np.array([self.first], dtype=np.int64)).first_day[0])


def owed_stretches(tariff: Tariff, calendar: LocalCalendar, axis: LoadAxis) -> list[Stretch]:
    """The days that a load owes, cut at months and at changes of taxes."""
    starts = calendar.day_starts(axis.from_us, axis.until_us)
    first, end = owed_days(
        starts_us=starts,
        from_us=np.array([axis.from_us], dtype=np.int64),
        until_us=np.array([axis.until_us], dtype=np.int64),
    )
    days = calendar.local_day(starts[int(first[0]) : int(end[0])])
    if days.size == 0:
        return []
    month = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    changes = np.array(tax_change_days(tariff.taxes), dtype=np.int64)
    taxes = np.searchsorted(changes, days, side="right")
    cuts = np.flatnonzero((np.diff(month) != 0) | (np.diff(taxes) != 0)) + 1
    return [
        Stretch(int(month[begin]), int(days[begin]), int(days[until - 1]) + 1)
        for begin, until in zip([0, *cuts.tolist()], [*cuts.tolist(), days.size], strict=True)
    ]


def peaks_w(
    demand: Demand, laid: LaidAxis, parts_wh: Int64, calendar: LocalCalendar
) -> dict[int, Int64]:
    """The highest power in W of each month that the axis touches, a row per load."""
    bands = laid.cells.band[laid.part_cell]
    counted = (
        np.flatnonzero(np.isin(bands, demand.bands)) if demand.bands else np.arange(bands.size)
    )
    days, of_part = np.unique(laid.part_day[counted], return_inverse=True)
    starts = calendar.first_instant_at_wall(days * DAY_US)
    month = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    months = np.unique(laid.cells.month)
    found = np.zeros((parts_wh.shape[0], months.size), dtype=np.int64)
    for load, energy in enumerate(parts_wh):
        by_day = peak_power_w(
            from_us=laid.part_from_us[counted],
            to_us=laid.part_until_us[counted],
            energy_wh=energy[counted],
            group_index=of_part,
            group_start_us=starts,
            interval_minutes=demand.interval_minutes,
        )
        np.maximum.at(found[load], np.searchsorted(months, month), by_day)
    return {each: found[:, at] for at, each in enumerate(months.tolist())}


def billed_w(demand: Demand, peaks: Mapping[int, Int64], month: int, loads: int) -> Int64:
    """The power that a month bills, a row per load.

    A load has no reactive energy, so no power factor is known, and none is held against it.
    """
    none = np.zeros(loads, dtype=np.int64)
    before = [peaks.get(month - back, none) for back in range(1, demand.ratchet_months + 1)]
    return billed_power_w(
        peak_w=peaks.get(month, none),
        ratchet_peak_w=reduce(np.maximum, before, none),
        ratchet_ppm=none + demand.ratchet_ppm,
        power_factor_ppm=none + UNKNOWN_PPM,
        least_power_factor_ppm=none + demand.power_factor_ppm,
    )
