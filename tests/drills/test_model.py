"""The independent model against sums done by hand: it must be right before it may judge."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from math import floor

from prewatt.drills.model import QUARTER_US, band_at, charges_of


def us(*civil: int) -> int:
    """An instant of UTC."""
    return int(datetime(*civil, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[arg-type, misc]


def test_bands_follow_the_civil_time_of_the_place() -> None:
    """In October 2026 Berlin is two hours ahead until the night of the 25th, then one."""
    friday = us(2026, 10, 23, 4, 0)
    assert band_at(friday // QUARTER_US) == "day"
    assert band_at(friday // QUARTER_US - 1) == "night"
    monday = us(2026, 10, 26, 4, 45)
    assert band_at(monday // QUARTER_US) == "night"
    assert band_at(monday // QUARTER_US + 1) == "day"
    assert band_at(us(2026, 10, 24, 5, 45) // QUARTER_US) == "night"
    assert band_at(us(2026, 10, 24, 6, 0) // QUARTER_US) == "day"


def test_each_watt_hour_has_the_price_of_its_own_quarter_hour() -> None:
    """From 16:30 to 17:45 local, 1,001 Wh: two quarters of day, three of peak, whole Wh at each."""
    readings = [(us(2026, 11, 20, 16, 45), 6_001), (us(2026, 11, 20, 15, 30), 5_000)]
    day_wh = 1_001 * 2 // 5
    energy = Fraction("0.2512345") * 1_000 * day_wh + Fraction("0.3124567") * 1_000 * (
        1_001 - day_wh
    )
    charged = charges_of(readings)
    assert charged.energy_wh == 1_001
    assert charged.energy == energy
    assert charged.tax == Fraction(19, 100) * floor(energy)


def test_more_readings_in_between_change_the_division_and_never_the_energy() -> None:
    ends = [(us(2026, 11, 20, 15, 30), 0), (us(2026, 11, 20, 16, 45), 1_000)]
    between = [*ends, (us(2026, 11, 20, 16, 0), 1_000)]
    assert charges_of(ends).energy_wh == charges_of(between).energy_wh == 1_000
    assert charges_of(between).energy == Fraction("0.2512345") * 1_000 * 1_000
    assert charges_of(ends).energy > charges_of(between).energy
