"""Lets: started units over odd days, what comes back, and the ends of seasons."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prewatt.core.civil_time import HOUR_US, LocalCalendar, instant_us
from prewatt.core.tariff.model import BoothUnit, Temporary
from prewatt.core.temporary import (
    LetRefused,
    deposit_micro,
    fee_micro,
    fee_refund_micro,
    refuse_let,
    season_end_us,
    started_units,
)

BERLIN = LocalCalendar("Europe/Berlin")
BY_DAY = Temporary(BoothUnit.DAY, fee_nano=12_500_000_001, deposit_nano=30_000_000_000)
BY_HOUR = Temporary(BoothUnit.HOUR, fee_nano=1_000_000_000, deposit_nano=0)
#: 20 November until 7 January, over the new year: positions on the 366-day grid.
WINTER = Temporary(BoothUnit.DAY, 1, 0, season=(324, 6))


def local(text: str) -> int:
    """An instant of Berlin's wall clock in µs."""
    return instant_us(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin")))


@given(start=st.integers(0, 400 * 24 * 60), minutes=st.integers(1, 60 * 24 * 60))
def test_days_and_hours_are_those_a_person_would_count(start: int, minutes: int) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=start)
    end = begin + timedelta(minutes=minutes)
    zone = ZoneInfo("Europe/Berlin")
    last = (end - timedelta(microseconds=1)).astimezone(zone).date()
    days = (last - begin.astimezone(zone).date()).days + 1
    span = {"from_us": instant_us(begin), "until_us": instant_us(end)}
    assert started_units(BY_DAY, BERLIN, **span) == days
    assert started_units(BY_HOUR, BERLIN, **span) == -(-minutes // 60)


def test_a_day_of_25_hours_is_one_day_and_25_hours() -> None:
    span = {"from_us": local("2026-10-25T00:00"), "until_us": local("2026-10-26T00:00")}
    assert started_units(BY_DAY, BERLIN, **span) == 1
    assert started_units(BY_HOUR, BERLIN, **span) == 25


@given(left=st.integers(0, 10 * 24 * 60))
def test_what_comes_back_is_what_had_not_started(left: int) -> None:
    begin, until = local("2026-05-01T09:00"), local("2026-05-05T18:00")
    left_us = begin + left * HOUR_US // 60
    back = fee_refund_micro(BY_DAY, BERLIN, from_us=begin, until_us=until, left_us=left_us)
    used = started_units(BY_DAY, BERLIN, from_us=begin, until_us=min(left_us, until))
    assert back == fee_micro(BY_DAY, 5) - fee_micro(BY_DAY, used)
    assert 0 <= back <= fee_micro(BY_DAY, 5) == 62_500_000
    assert deposit_micro(BY_DAY) == 30_000_000


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ("2026-11-20T00:00", date(2027, 1, 7)),
        ("2026-12-31T23:59", date(2027, 1, 7)),
        ("2027-01-06T23:59", date(2027, 1, 7)),
    ],
)
def test_a_season_may_pass_the_new_year(at: str, end: date) -> None:
    found = season_end_us(WINTER, BERLIN, local(at))
    assert found is not None and BERLIN.local_date(found) == end


@pytest.mark.parametrize("at", ["2026-11-19T23:59", "2027-01-07T00:00", "2026-06-01T12:00"])
def test_outside_the_season_there_is_no_let(at: str) -> None:
    with pytest.raises(LetRefused) as refused:
        season_end_us(WINTER, BERLIN, local(at))
    assert refused.value.reason == "out_of_season"


def test_a_let_is_not_empty_and_ends_with_its_season() -> None:
    begin = local("2026-12-01T00:00")
    refuse_let(WINTER, BERLIN, from_us=begin, until_us=local("2027-01-07T00:00"))
    with pytest.raises(LetRefused, match="ends on 2027-01-07") as refused:
        refuse_let(WINTER, BERLIN, from_us=begin, until_us=local("2027-01-07T00:01"))
    assert refused.value.reason == "beyond_season"
    with pytest.raises(LetRefused) as empty:
        refuse_let(BY_DAY, BERLIN, from_us=begin, until_us=begin)
    assert empty.value.reason == "empty"


def test_a_season_until_29_february_ends_on_1_march_where_there_is_none() -> None:
    plan = Temporary(BoothUnit.DAY, 1, 0, season=(0, 59))
    for year, end in ((2027, date(2027, 3, 1)), (2028, date(2028, 2, 29))):
        found = season_end_us(plan, BERLIN, local(f"{year}-02-01T00:00"))
        assert found is not None and BERLIN.local_date(found) == end
