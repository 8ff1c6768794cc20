"""Load shapes: held to plain fractions, to the calendar, and to the clock."""

import time
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prewatt.core.bounds import OverflowRefused
from prewatt.sim.loads import (
    Profile,
    cumulative_wh,
    load_profile,
    profile_names,
    scale_ppm_for,
)

HOUSE = load_profile("H0-A")
EPOCH_US = int(datetime(2021, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
instants = st.integers(EPOCH_US - 10**14, EPOCH_US + 10**15)


def exact_wh(profile: Profile, scale_ppm: int, instant_us: int) -> int:
    """The same by counting quarter-hours in fractions."""
    seconds = (instant_us - EPOCH_US) // 1_000_000 + profile.utc_offset_s
    quarter, second = divmod(seconds, 900)
    cycle, index = divmod(quarter, 364 * 96)
    wh = cycle * sum(map(int, profile.quarter_wh)) + sum(map(int, profile.quarter_wh[:index]))
    total = (wh + Fraction(int(profile.quarter_wh[index]) * second, 900)) * scale_ppm / 10**6
    return total.numerator // total.denominator


@given(instants, st.integers(1, 5_000_000), st.sampled_from([0, 28_800, -18_000]))
def test_registers_equal_the_fraction(instant_us: int, scale_ppm: int, offset_s: int) -> None:
    profile = load_profile("G1-B", utc_offset_s=offset_s)
    found = cumulative_wh(profile, scale_ppm, np.array([instant_us]))
    assert int(found[0]) == exact_wh(profile, scale_ppm, instant_us)


@given(st.lists(instants, min_size=2, max_size=50), st.integers(0, 3_000_000))
def test_registers_never_fall(moments: list[int], scale_ppm: int) -> None:
    found = cumulative_wh(HOUSE, scale_ppm, np.array(sorted(moments)))
    assert bool((np.diff(found) >= 0).all())


def test_weekdays_stay_on_their_weekdays() -> None:
    """A Tuesday of 2026 draws exactly what a Tuesday of 2016 drew, quarter-hour by quarter-hour."""
    start = datetime(2026, 3, 10, tzinfo=UTC)
    edges = int(start.timestamp()) * 1_000_000 + np.arange(97) * 900_000_000
    drawn = np.diff(cumulative_wh(HOUSE, 1_000_000, edges))
    days = HOUSE.quarter_wh.reshape(364, 96)
    (match,) = (day for day in range(364) if np.array_equal(days[day], drawn))
    assert (date(2016, 1, 1) + timedelta(days=match)).weekday() == start.weekday()


def test_a_year_draws_what_was_asked() -> None:
    year = np.array([EPOCH_US, EPOCH_US + 365 * 86_400 * 1_000_000])
    for name in profile_names():
        profile = load_profile(name)
        drawn = np.diff(cumulative_wh(profile, scale_ppm_for(profile, 3_000), year))[0]
        assert abs(int(drawn) - 3_000_000) < 30_000, name


def test_ninety_days_of_240_meters_take_a_second_or_two() -> None:
    edges = EPOCH_US + np.arange(8_640) * 900_000_000
    began = time.process_time()
    for _ in range(240):
        cumulative_wh(HOUSE, 812_345, edges)
    assert time.process_time() - began < 3


def test_what_would_wrap_around_is_refused() -> None:
    with pytest.raises(OverflowRefused):
        cumulative_wh(HOUSE, 10**13, np.array([EPOCH_US * 2]))
    with pytest.raises(KeyError):
        load_profile("Z9")
