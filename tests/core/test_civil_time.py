"""Local civil time against `zoneinfo`, minute by minute, where clocks change in odd ways."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import cases
from prewatt.core.civil_time import (
    DAY_US,
    HOLIDAY,
    HOUR_US,
    MINUTE_US,
    CivilTimeRefused,
    LocalCalendar,
    day_date,
    day_number,
    instant_us,
    utc_datetime,
    utc_year,
)

#: A zone and a UTC day around which its clock does something: forward, back, by half an hour, at
#: midnight, across midnight, a whole day at once, and twice in one week.
ODD_PLACES = (
    ("Europe/Berlin", "2025-03-30"),
    ("Europe/Berlin", "2025-10-26"),
    ("Asia/Shanghai", "2025-06-01"),
    ("America/New_York", "2025-03-09"),
    ("America/New_York", "2025-11-02"),
    ("Australia/Lord_Howe", "2025-04-05"),
    ("Australia/Lord_Howe", "2025-10-04"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("America/Havana", "2024-11-03"),
    ("Africa/Cairo", "2024-04-26"),
    ("America/St_Johns", "2006-10-29"),
    ("Pacific/Apia", "2011-12-30"),
    ("Asia/Kathmandu", "1985-12-31"),
)


def column(*values: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


def minutes_around(day: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    start = instant_us(datetime.fromisoformat(day).replace(tzinfo=UTC)) - DAY_US
    return np.arange(start, start + 3 * DAY_US, MINUTE_US, dtype=np.int64)


def walls(zone: str, instants: list[int]) -> list[datetime]:
    return [utc_datetime(each).astimezone(ZoneInfo(zone)) for each in instants]


@pytest.mark.parametrize(("zone", "day"), ODD_PLACES)
def test_every_minute_has_the_wall_clock_and_day_that_zoneinfo_gives(zone: str, day: str) -> None:
    calendar, at = LocalCalendar(zone), minutes_around(day)
    shown = walls(zone, at.tolist())
    minutes = [each.hour * 60 + each.minute for each in shown]
    assert calendar.minute_of_day(at).tolist() == minutes
    # The local day never goes back, even where the wall clock does.
    days = np.maximum.accumulate([day_number(each.date()) for each in shown])
    assert calendar.local_day(at).tolist() == days.tolist()
    assert calendar.local_date(int(at[0])) == shown[0].date()
    assert calendar.day_kind(at).tolist() == [each.weekday() for each in shown]


@pytest.mark.parametrize(("zone", "day"), ODD_PLACES)
def test_days_begin_at_the_first_instant_of_their_date(zone: str, day: str) -> None:
    calendar, at = LocalCalendar(zone), minutes_around(day)
    days = calendar.local_day(at)
    firsts = at[1:][days[1:] > days[:-1]].tolist()
    starts = calendar.day_starts(int(at[0]), int(at[-1]) + 1).tolist()
    assert starts[0] <= at[0] and starts[-1] > at[-1]
    assert [each for each in starts if at[0] < each <= at[-1]] == firsts
    for first in firsts:
        assert calendar.start_of_day(calendar.local_date(first)) == first


@pytest.mark.parametrize(("zone", "day"), ODD_PLACES)
def test_a_wall_time_is_reached_at_its_first_instant_or_at_the_jump_over_it(
    zone: str, day: str
) -> None:
    calendar, at = LocalCalendar(zone), minutes_around(day)
    shown = calendar.wall_us(at)
    middle = shown[at.size // 3 : -at.size // 3 : 7]
    expected = [int(at[np.argmax(shown >= each)]) for each in middle.tolist()]
    assert calendar.first_instant_at_wall(middle).tolist() == expected


@pytest.mark.parametrize(("zone", "day"), ODD_PLACES)
def test_wall_edges_are_where_the_clock_reaches_a_minute_or_jumps(zone: str, day: str) -> None:
    calendar, at = LocalCalendar(zone), minutes_around(day)
    begin, end = int(at[100]), int(at[-100])
    chosen = (0, 61, 120, 150)
    minute, offset, days = (
        calendar.minute_of_day(at),
        calendar.offset_us(at),
        calendar.local_day(at),
    )
    expected = {begin}
    for i in range(101, at.size - 100):
        changed = offset[i] != offset[i - 1] or days[i] != days[i - 1]
        if changed or minute[i] in chosen:
            expected.add(int(at[i]))
    assert calendar.wall_edges(begin, end, chosen).tolist() == sorted(expected)


@settings(max_examples=cases(100), deadline=None)
@given(st.sampled_from(ODD_PLACES), st.integers(0, 2 * DAY_US), st.integers(0, 1439))
def test_next_local_is_the_next_day_part_to_begin(
    place: tuple[str, str], lead: int, minute: int
) -> None:
    calendar = LocalCalendar(place[0])
    after = int(minutes_around(place[1])[0]) + lead
    found = calendar.next_local(after, minute)
    assert after < found <= after + 2 * DAY_US + HOUR_US
    # Each local day has one such instant: when its wall clock first reaches the minute.
    walls_of_days = [
        (day_number(utc_datetime(after).date()) + shift) * DAY_US + minute * MINUTE_US
        for shift in (-2, -1, 0, 1, 2, 3)
    ]
    instants = calendar.first_instant_at_wall(column(*walls_of_days)).tolist()
    assert found == min(each for each in instants if each > after)


def test_next_local_reaches_a_skipped_minute_at_the_jump_and_a_repeated_one_once() -> None:
    berlin = LocalCalendar("Europe/Berlin")
    spring = instant_us(datetime(2025, 3, 30, 1, 0, tzinfo=UTC))
    assert berlin.next_local(spring - HOUR_US, 2 * 60 + 30) == spring
    first = instant_us(datetime(2025, 10, 26, 0, 30, tzinfo=UTC))
    assert berlin.next_local(first - 1, 2 * 60 + 30) == first
    following = instant_us(datetime(2025, 10, 27, 1, 30, tzinfo=UTC))
    assert berlin.next_local(first, 2 * 60 + 30) == following


def test_a_holiday_is_a_day_kind_of_its_own() -> None:
    calendar = LocalCalendar("Europe/Berlin", frozenset({date(2025, 12, 25)}))
    start = calendar.start_of_day(date(2025, 12, 25))
    instants = column(start - 1, start, start + DAY_US - 1, start + DAY_US)
    assert calendar.day_kind(instants).tolist() == [2, HOLIDAY, HOLIDAY, 4]


def test_a_date_may_count_as_another_weekday_even_on_a_holiday() -> None:
    saturday, sunday, friday = date(2026, 2, 14), date(2026, 2, 15), date(2026, 2, 20)
    calendar = LocalCalendar(
        "Asia/Shanghai",
        frozenset({sunday, friday}),
        frozenset({(saturday, 0), (sunday, 4)}),
    )
    days = column(*(day_number(date(2026, 2, day)) for day in (13, 14, 15, 16, 20, 21)))
    assert calendar.day_kind_of(days).tolist() == [4, 0, 4, 0, HOLIDAY, 5]
    # Before the first and after the last of them the own weekday holds, whatever the order asked in.
    assert calendar.day_kind_of(days[::-1] - 7).tolist() == [0, 4, 0, 6, 5, 4]


@pytest.mark.parametrize(
    ("workdays", "reason"),
    [
        ({(date(2026, 2, 14), 0), (date(2026, 2, 14), 1)}, "two weekdays"),
        ({(date(2026, 2, 14), HOLIDAY)}, "numbered 0"),
        ({(date(2026, 2, 14), -1)}, "numbered 0"),
    ],
)
def test_a_workday_counts_as_one_weekday(workdays: set[tuple[date, int]], reason: str) -> None:
    with pytest.raises(CivilTimeRefused, match=reason):
        LocalCalendar("UTC", frozenset(), frozenset(workdays))


@given(st.integers(0, 7 * 10**15))
def test_instants_and_datetimes_convert_exactly(at_us: int) -> None:
    assert instant_us(utc_datetime(at_us)) == at_us
    there = utc_datetime(at_us).astimezone(ZoneInfo("America/New_York"))
    assert instant_us(there) == at_us


def test_empty_columns_stay_empty() -> None:
    calendar = LocalCalendar("Europe/Berlin")
    assert calendar.local_day(column()).size == 0
    assert calendar.first_instant_at_wall(column()).size == 0


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "Europe/"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(CivilTimeRefused):
        LocalCalendar(zone)


def test_what_is_not_an_instant_in_range_is_refused() -> None:
    with pytest.raises(CivilTimeRefused):
        instant_us(datetime(2025, 1, 1))  # noqa: DTZ001 - a naive datetime is the point
    with pytest.raises(CivilTimeRefused):
        LocalCalendar("UTC").offset_us(column(2**62))
    with pytest.raises(CivilTimeRefused):
        utc_year(-1)
    assert utc_year(instant_us(datetime(2199, 12, 31, tzinfo=UTC))) == 2199
    assert day_date(day_number(date(2024, 2, 29)) + 1) == date(2024, 2, 29) + timedelta(days=1)
