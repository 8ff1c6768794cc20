"""Quiet hours hold messages back until the morning, and let urgent ones through."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prewatt.core.civil_time import HOUR_US, MINUTE_US, LocalCalendar, instant_us
from prewatt.core.cut_window import WindowInvalid
from prewatt.core.quiet_hours import QuietHours, is_quiet, send_at_us
from prewatt.core.vocabulary import Severity

SHANGHAI = LocalCalendar("Asia/Shanghai")
BERLIN = LocalCalendar("Europe/Berlin")


def us(zone: str, *parts: int) -> int:
    year, month, day, hour, minute = parts
    return instant_us(datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(zone)))


def test_late_evening_waits_for_the_morning_of_the_contacts_own_zone() -> None:
    quiet = QuietHours(SHANGHAI)
    late = us("Asia/Shanghai", 2026, 11, 24, 23, 15)
    assert send_at_us(quiet, Severity.WARNING, late) == us("Asia/Shanghai", 2026, 11, 25, 8, 0)
    # The same instant is afternoon in Berlin.
    assert send_at_us(QuietHours(BERLIN), Severity.WARNING, late) == late


def test_after_midnight_waits_for_the_same_morning() -> None:
    now_us = us("Europe/Berlin", 2026, 11, 24, 0, 30)
    ready = us("Europe/Berlin", 2026, 11, 24, 8, 0)
    assert send_at_us(QuietHours(BERLIN), Severity.NOTICE, now_us) == ready


def test_urgent_is_exempt_unless_the_policy_says_otherwise() -> None:
    now_us = us("Europe/Berlin", 2026, 11, 24, 3, 0)
    assert send_at_us(QuietHours(BERLIN), Severity.URGENT, now_us) == now_us
    strict = QuietHours(BERLIN, exempt_from=None)
    assert send_at_us(strict, Severity.URGENT, now_us) == now_us + 5 * HOUR_US


def test_equal_ends_mean_no_quiet_hours() -> None:
    quiet = QuietHours(BERLIN, starts_min=480, ends_min=480)
    first = us("Europe/Berlin", 2026, 1, 1, 0, 0)
    assert not any(is_quiet(quiet, first + hour * HOUR_US) for hour in range(48))


def test_the_night_of_the_spring_change_is_an_hour_shorter() -> None:
    evening = us("Europe/Berlin", 2026, 3, 28, 21, 0)
    assert send_at_us(QuietHours(BERLIN), Severity.NOTICE, evening) == evening + 10 * HOUR_US


def test_nonsense_is_refused() -> None:
    with pytest.raises(WindowInvalid):
        QuietHours(BERLIN, ends_min=1440)


@given(
    starts=st.integers(0, 1439),
    ends=st.integers(0, 1439),
    offset_min=st.integers(0, 400 * 1440),
)
def test_the_answer_is_never_quiet_and_less_than_26_hours_away(
    starts: int, ends: int, offset_min: int
) -> None:
    quiet = QuietHours(BERLIN, starts_min=starts, ends_min=ends)
    now_us = us("Europe/Berlin", 2026, 1, 1, 0, 0) + offset_min * MINUTE_US
    at_us = send_at_us(quiet, Severity.NOTICE, now_us)
    assert not is_quiet(quiet, at_us)
    assert now_us <= at_us < now_us + 26 * HOUR_US
    assert at_us == now_us or is_quiet(quiet, at_us - 1)
