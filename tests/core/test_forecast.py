"""Forecasts against hand-made weeks and against a slow walk in fractions."""

from datetime import datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import cases
from prewatt.core.civil_time import DAY_US, HOUR_US, LocalCalendar, instant_us
from prewatt.core.cut_window import CutWindow, is_open
from prewatt.core.forecast import (
    SLOTS,
    Profile,
    ProfileInvalid,
    flat_profile,
    forecast,
    hour_of_week,
    profile_from_hours,
    spread_micro,
)

EUR = 1_000_000
BERLIN = LocalCalendar("Europe/Berlin")
WINDOW = CutWindow(BERLIN)


def at(*parts: int) -> int:
    year, month, day, hour, minute = parts
    zone = ZoneInfo("Europe/Berlin")
    return instant_us(datetime(year, month, day, hour, minute, tzinfo=zone))


TUESDAY = at(2026, 11, 24, 10, 0)


def test_an_even_pace_runs_out_after_available_over_pace() -> None:
    result = forecast(5 * EUR, 10 * EUR, flat_profile(24 * EUR // 10), WINDOW, TUESDAY)
    assert result.about_us == TUESDAY + 50 * HOUR_US
    assert result.early_us == result.late_us == result.about_us
    assert result.emergency_about_us == TUESDAY + 150 * HOUR_US
    # Emergency credit ends Monday 16:00, after the window: never cut before Tuesday 09:00.
    assert result.earliest_cut_us == at(2026, 12, 1, 9, 0)


def test_a_shop_that_is_closed_on_sunday_runs_out_on_monday() -> None:
    hours = [0] * SLOTS
    for day in range(6):
        hours[day * 24 + 9 : day * 24 + 18] = [EUR] * 9
    saturday_noon = at(2026, 11, 28, 12, 0)
    result = forecast(8 * EUR, 0, Profile(tuple(hours)), WINDOW, saturday_noon)
    assert result.about_us == at(2026, 11, 30, 11, 0)


def test_differing_days_widen_the_range_and_pull_the_promise_forward() -> None:
    steady = forecast(20 * EUR, 0, flat_profile(2 * EUR), WINDOW, TUESDAY)
    uneven = forecast(20 * EUR, 0, flat_profile(2 * EUR, EUR), WINDOW, TUESDAY)
    assert uneven.about_us == steady.about_us
    assert uneven.early_us and uneven.about_us and uneven.late_us
    assert uneven.early_us < uneven.about_us < uneven.late_us
    assert uneven.earliest_cut_us is not None and steady.earliest_cut_us is not None
    assert uneven.earliest_cut_us < steady.earliest_cut_us


def test_nothing_left_is_now_and_nothing_spent_is_never() -> None:
    assert forecast(0, 0, flat_profile(EUR), WINDOW, TUESDAY).about_us == TUESDAY
    idle = forecast(EUR, 0, flat_profile(0, EUR), WINDOW, TUESDAY)
    assert idle.about_us is None and idle.late_us is None
    assert forecast(10**12, 0, flat_profile(EUR), WINDOW, TUESDAY).early_us is None


def test_the_hour_that_has_begun_counts_for_what_is_left_of_it() -> None:
    result = forecast(EUR // 2, 0, flat_profile(24 * EUR), WINDOW, TUESDAY + HOUR_US // 2)
    assert result.about_us == TUESDAY + HOUR_US


def test_a_profile_is_the_mean_of_past_hours_by_the_local_clock() -> None:
    starts = at(2026, 11, 2, 0, 0) + np.arange(14 * 24, dtype=np.int64) * HOUR_US
    spend = np.where(hour_of_week(BERLIN, starts) % 24 == 18, 3 * EUR, EUR)
    spend[: 7 * 24] += EUR
    profile = profile_from_hours(BERLIN, starts, spend)
    assert profile.hour_micro[18] == 3_500_000 and profile.hour_micro[0] == 1_500_000
    days = [50 * EUR] * 7 + [26 * EUR] * 7
    assert profile.sigma_per_day_micro == spread_micro(days)
    assert spread_micro([1, 3]) == 1 and spread_micro([5]) == 0


def test_a_profile_without_history_spends_nothing() -> None:
    empty = np.array([], dtype=np.int64)
    assert profile_from_hours(BERLIN, empty, empty).per_day_micro == 0


@pytest.mark.parametrize("hours", [(1,) * 167, (-1,) * 168, (10**12 + 1,) * 168])
def test_nonsense_is_refused(hours: tuple[int, ...]) -> None:
    with pytest.raises(ProfileInvalid):
        Profile(hours)


@settings(max_examples=cases(60), deadline=None)
@given(
    hours=st.lists(st.integers(0, 500_000), min_size=SLOTS, max_size=SLOTS),
    available=st.integers(-5 * EUR, 60 * EUR),
    emergency=st.sampled_from([0, 5 * EUR]),
    sigma=st.integers(0, 3 * EUR),
    minute=st.integers(0, 300 * 1440),
    zone=st.sampled_from(["Europe/Berlin", "Asia/Kolkata"]),
)
def test_equals_a_slow_walk(
    hours: list[int], available: int, emergency: int, sigma: int, minute: int, zone: str
) -> None:
    window = CutWindow(LocalCalendar(zone))
    now = TUESDAY + minute * 60_000_000
    result = forecast(available, emergency, Profile(tuple(hours), sigma), window, now)
    expected = slow_walk(available, hours, now, zone)
    assert (result.about_us is None) == (expected is None)
    if result.about_us is not None and expected is not None:
        # A partial first hour is floored to a micro-unit, which at most moves the answer an hour
        # when that micro-unit falls into an idle stretch; otherwise it is seconds.
        assert abs(result.about_us - expected) < 60 * 10**6 or min(hours) < 100
        assert (result.early_us or 0) <= result.about_us <= (result.late_us or 2**62)
    if result.earliest_cut_us is not None:
        assert is_open(window, result.earliest_cut_us) and result.earliest_cut_us >= now
        if result.emergency_about_us is not None:
            assert result.earliest_cut_us <= result.emergency_about_us + 4 * DAY_US


def slow_walk(available: int, hours: list[int], now: int, zone: str) -> int | None:
    """Walk minute by minute with exact fractions."""
    if available <= 0:
        return now
    left, at_us = Fraction(available), now
    for _ in range(91 * 24 * 4):
        wall = datetime.fromtimestamp(at_us // 10**6, ZoneInfo(zone))
        pace = Fraction(hours[wall.weekday() * 24 + wall.hour], HOUR_US)
        step = 15 * 60 * 10**6 - at_us % (15 * 60 * 10**6)
        if pace * step >= left:
            return at_us + int(left / pace)
        left -= pace * step
        at_us += step
    return None
