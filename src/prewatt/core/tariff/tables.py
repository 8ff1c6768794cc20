"""A tariff's schedule as arrays, the form in which rating looks prices up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from prewatt.core.civil_time import MINUTES_PER_DAY
from prewatt.core.tariff.model import DAY_KINDS, Tariff
from prewatt.core.tariff.words import DAYS_OF_GRID


@dataclass(frozen=True, slots=True)
class BandTable:
    """A tariff's schedule as arrays: `season_of_day[366]`, `class_of_kind[8]` (-1 at 7 when a
    holiday counts as its weekday), `band[season, class, 1440]`, `price_nano_per_kwh[band]`, and
    the `breakpoints`, the minutes of the day at which some schedule changes its band (0 always
    among them).
    """

    season_of_day: npt.NDArray[np.int64]
    class_of_kind: npt.NDArray[np.int64]
    band: npt.NDArray[np.int16]
    price_nano_per_kwh: npt.NDArray[np.int64]
    breakpoints: tuple[int, ...]


@lru_cache(maxsize=256)
def band_table(tariff: Tariff) -> BandTable:
    """The arrays that rating looks prices up in; cached, and not to be written to."""
    season_of_day = np.zeros(DAYS_OF_GRID, dtype=np.int64)
    for position, season in enumerate(tariff.seasons):
        for begin, end in season.ranges:
            season_of_day[begin:end] = position
    class_of_kind = np.full(len(DAY_KINDS), -1, dtype=np.int64)
    for position, day_class in enumerate(tariff.day_classes):
        class_of_kind[list(day_class.kinds)] = position
    band = np.zeros((len(tariff.seasons), len(tariff.day_classes), MINUTES_PER_DAY), dtype=np.int16)
    for schedule in tariff.schedules:
        for period in schedule.periods:
            band[schedule.season, schedule.day_class, period.from_minute : period.until_minute] = (
                period.band
            )
    changes = (band[:, :, 1:] != band[:, :, :-1]).any(axis=(0, 1))
    prices = np.array([each.price_nano_per_kwh for each in tariff.bands], dtype=np.int64)
    for column in (season_of_day, class_of_kind, band, prices):
        column.setflags(write=False)
    breakpoints = (0, *(int(minute) + 1 for minute in np.flatnonzero(changes)))
    return BandTable(season_of_day, class_of_kind, band, prices, breakpoints)
