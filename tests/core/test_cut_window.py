"""Cut windows against hand-made calendars and against a minute-by-minute search."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import cases
from prewatt.core.civil_time import MINUTE_US, LocalCalendar, instant_us
from prewatt.core.cut_window import CutWindow, WindowInvalid, is_open, next_open_at_us

BERLIN = LocalCalendar("Europe/Berlin", frozenset({date(2026, 5, 1), date(2026, 12, 25)}))


def us(zone: str, *parts: int) -> int:
    year, month, day, hour, minute = parts
    return instant_us(datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(zone)))


def berlin(*parts: int) -> int:
    return us("Europe/Berlin", *parts)


def test_friday_evening_waits_for_monday_morning() -> None:
    window = CutWindow(BERLIN)
    assert next_open_at_us(window, berlin(2026, 11, 20, 15, 0)) == berlin(2026, 11, 23, 9, 0)


def test_open_now_is_now_to_the_microsecond() -> None:
    window = CutWindow(BERLIN)
    now_us = berlin(2026, 11, 23, 14, 59) + 59_999_999
    assert next_open_at_us(window, now_us) == now_us
    assert not is_open(window, now_us + 1)


def test_holiday_is_a_day_of_rest() -> None:
    window = CutWindow(BERLIN)
    # Friday 1 May 2026 is a holiday: Thursday evening waits until Monday.
    assert next_open_at_us(window, berlin(2026, 4, 30, 16, 0)) == berlin(2026, 5, 4, 9, 0)


def test_lead_closes_the_day_before_rest() -> None:
    window = CutWindow(BERLIN, rest_lead_min=24 * 60)
    assert not is_open(window, berlin(2026, 11, 20, 10, 0))  # Friday
    assert is_open(window, berlin(2026, 11, 19, 10, 0))  # Thursday
    assert not is_open(window, berlin(2026, 4, 30, 10, 0))  # Thursday before a Friday holiday
    assert next_open_at_us(window, berlin(2026, 11, 19, 15, 0)) == berlin(2026, 11, 23, 9, 0)


def test_half_day_lead_closes_friday_afternoon_only() -> None:
    window = CutWindow(BERLIN, rest_lead_min=12 * 60)
    assert is_open(window, berlin(2026, 11, 20, 11, 59))
    assert not is_open(window, berlin(2026, 11, 20, 12, 0))


def test_a_window_that_never_opens_says_so() -> None:
    assert (
        next_open_at_us(CutWindow(BERLIN, weekdays=frozenset()), berlin(2026, 1, 1, 0, 0)) is None
    )
    only_monday = CutWindow(BERLIN, weekdays=frozenset({0}), rest_lead_min=24 * 60)
    assert next_open_at_us(only_monday, berlin(2026, 11, 20, 15, 0)) is None


def test_opening_inside_the_spring_gap_is_the_jump_itself() -> None:
    every_day = frozenset(range(7))
    window = CutWindow(BERLIN, opens_min=2 * 60 + 30, closes_min=6 * 60, weekdays=every_day)
    jump_us = instant_us(datetime(2026, 3, 29, 1, 0, tzinfo=UTC))
    assert next_open_at_us(window, jump_us - 20 * MINUTE_US) == jump_us


@pytest.mark.parametrize(
    "wrong",
    [
        {"opens_min": 600, "closes_min": 600},
        {"closes_min": 1441},
        {"weekdays": frozenset({7})},
        {"rest_lead_min": -1},
    ],
)
def test_nonsense_windows_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(WindowInvalid):
        CutWindow(BERLIN, **wrong)  # type: ignore[arg-type]  # wrong on purpose


@st.composite
def windows(draw: st.DrawFn) -> CutWindow:
    zone = draw(st.sampled_from(["Europe/Berlin", "Asia/Shanghai", "Australia/Lord_Howe"]))
    first = date(2026, 3, 20)
    holidays = draw(st.frozensets(st.integers(0, 30), max_size=4))
    opens = draw(st.integers(0, 1439))
    return CutWindow(
        LocalCalendar(zone, frozenset(first + timedelta(days=n) for n in holidays)),
        opens_min=opens,
        closes_min=draw(st.integers(opens + 1, 1440)),
        weekdays=draw(st.frozensets(st.integers(0, 6), min_size=4)),
        rest_lead_min=draw(st.sampled_from([0, 0, 360, 720, 1440, 2880])),
    )


def slow_is_open(window: CutWindow, at_us: int) -> bool:
    """Say the same with datetimes, one instant at a time."""
    utc = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
    wall = utc.astimezone(ZoneInfo(window.calendar.time_zone)).replace(tzinfo=None)

    def rest(day: date) -> bool:
        return day.weekday() not in window.weekdays or day in window.calendar.holidays

    minute = wall.hour * 60 + wall.minute
    if rest(wall.date()) or not window.opens_min <= minute < window.closes_min:
        return False
    for ahead in range(1, 9):
        day = wall.date() + timedelta(days=ahead)
        lead = datetime.combine(day, datetime.min.time()) - wall.replace(second=0, microsecond=0)
        if rest(day) and lead <= timedelta(minutes=window.rest_lead_min):
            return False
    return True


@settings(max_examples=cases(60), deadline=None)
@given(window=windows(), offset_min=st.integers(0, 20 * 1440))
def test_next_opening_equals_a_minute_by_minute_search(window: CutWindow, offset_min: int) -> None:
    # The range holds spring and autumn changes of the sampled zones.
    now_us = berlin(2026, 3, 22, 0, 0) + offset_min * MINUTE_US
    found = next_open_at_us(window, now_us)
    for ahead in range(2 * 1440):
        at_us = now_us + ahead * MINUTE_US
        if slow_is_open(window, at_us):
            assert found == at_us
            return
    assert found is None or found >= now_us + 2 * 1440 * MINUTE_US
