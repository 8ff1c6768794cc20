"""A property's calendar changes: who may, from when, what follows it, and the trace it leaves."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest
from django.db import IntegrityError, ProgrammingError
from tests.conftest import role_dsn
from tests.invariants.places import at, place, rows, signed_in

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, scope, system_actor
from prewatt.billing.operations import create_tariff_version
from prewatt.billing.tariffs import TariffBook
from prewatt.core.civil_time import HOUR_US, instant_us
from prewatt.core.cut_window import is_open
from prewatt.estate.calendar_changes import CalendarRefused, OwnDay, property_calendar
from prewatt.estate.calendars import DayKind, UnknownCalendar
from prewatt.moves.calendar import follow_holiday_list, set_calendar_days
from prewatt.supply import queries

pytestmark = pytest.mark.usefixtures("database")

#: A Tuesday, 11:00 in Berlin.
NOW = datetime(2026, 11, 17, 10, 0, tzinfo=UTC)
TODAY, TOMORROW = date(2026, 11, 17), date(2026, 11, 18)
NOON = datetime(2026, 11, 18, 11, 0, tzinfo=UTC)
CLERK = system_actor("worker")
BY_DAY = {
    "format": "prewatt-tariff/1",
    "name": "Cheap on holidays",
    "currency": "EUR",
    "energy": {
        "unit": "kWh",
        "bands": {"cheap": {"price": "0.1"}, "dear": {"price": "0.4"}},
        "day_classes": {
            "workday": ["mon", "tue", "wed", "thu", "fri"],
            "restday": ["sat", "sun", "holiday"],
        },
        "schedule": [
            {"days": "workday", "periods": [{"from": "00:00", "until": "24:00", "band": "dear"}]},
            {"days": "restday", "periods": [{"from": "00:00", "until": "24:00", "band": "cheap"}]},
        ],
    },
}


def administrator(property_id: int) -> Actor:
    return Actor("user:5", Duty.ADMINISTRATOR, (property_id,), "Anna")


def price_at(book: TariffBook, account: int, at_us: int) -> int:
    """What a kWh costs an account at an instant, in nano-units, by a book that goes on living."""
    prices = book.prices_for(np.array([account]), from_us=at_us, until_us=at_us + HOUR_US)
    segment = prices.timelines.segment_at(
        np.array([at_us], dtype=np.int64), prices.timeline_of_account
    )
    return int(prices.timelines.price_nano_per_kwh[segment[0]])


def test_an_administrator_s_word_changes_prices_and_cuts_from_then_on(database: str) -> None:
    here, book = place(), TariffBook()
    account = here.accounts["1001"]
    create_tariff_version(
        actor=CLERK, property_id=here.property_id, code="flat", name="Flat", document=BY_DAY,
        valid_from=at(1), approved_by="user:2", now=NOW,
    )  # fmt: skip
    noon_us = instant_us(NOON)
    assert price_at(book, account, noon_us) == 400_000_000
    with scope(CLERK):
        assert is_open(
            queries.rules([here.property_id], NOW)[here.property_id].supply.window, noon_us
        )
    with signed_in(role_dsn(database, "web"), database):
        set_calendar_days(
            actor=administrator(here.property_id),
            property_id=here.property_id,
            days=[OwnDay(TOMORROW, DayKind.HOLIDAY, note="Founders' day")],
            now=NOW,
        )
    assert price_at(book, account, noon_us) == 100_000_000
    with signed_in(role_dsn(database, "head_end"), database), scope(CLERK):
        window = queries.rules([here.property_id], NOW)[here.property_id].supply.window
        assert not is_open(window, noon_us)
    (trace,) = rows("SELECT actor, subject, detail FROM audit_event WHERE code LIKE 'estate.cal%'")
    assert trace[:2] == ("user:5", f"property:{here.property_id}")
    assert "2026-11-18" in str(trace[2]) and "Founders" in str(trace[2])


def test_a_word_can_be_taken_back_and_another_property_hears_nothing() -> None:
    here, there = place(), place()
    actor = administrator(here.property_id)
    saturday = date(2026, 11, 21)
    word = OwnDay(saturday, DayKind.WORKDAY, counts_as=2)
    set_calendar_days(actor=actor, property_id=here.property_id, days=[word], now=NOW)
    with scope(CLERK):
        assert property_calendar(here.property_id, 2026, 2026).workdays == {(saturday, 2)}
        assert property_calendar(there.property_id, 2026, 2026).workdays == frozenset()
    back = OwnDay(saturday, DayKind.LISTED)
    set_calendar_days(actor=actor, property_id=here.property_id, days=[back], now=NOW)
    with scope(CLERK):
        assert property_calendar(here.property_id, 2026, 2026).workdays == frozenset()
    assert len(rows("SELECT 1 FROM audit_event WHERE code = 'estate.calendar.days'")) == 2


def test_a_property_follows_another_list_from_a_day_to_come_on() -> None:
    here = place()
    actor = administrator(here.property_id)

    def follow(code: str, valid_from: date) -> None:
        follow_holiday_list(
            actor=actor, property_id=here.property_id, code=code, observed=False,
            valid_from=valid_from, now=NOW,
        )  # fmt: skip

    follow("US", TOMORROW)
    with scope(CLERK):
        calendar = property_calendar(here.property_id, 2026, 2027)
    assert date(2026, 11, 26) in calendar.holidays, "Thanksgiving"
    assert date(2026, 10, 3) in calendar.holidays, "German Unity Day, before the change"
    assert date(2027, 7, 5) not in calendar.holidays, "no observed shift"
    with pytest.raises(UnknownCalendar):
        follow("XX", TOMORROW)
    with pytest.raises(CalendarRefused, match="past"):
        follow("DE", TODAY)


@pytest.mark.parametrize(
    ("days", "reason"),
    [
        ([OwnDay(TODAY, DayKind.HOLIDAY)], "past"),
        ([OwnDay(TOMORROW, DayKind.HOLIDAY), OwnDay(TOMORROW, DayKind.ORDINARY)], "doubled"),
        ([OwnDay(TOMORROW, DayKind.WORKDAY, counts_as=7)], "no_weekday"),
    ],
)
def test_what_cannot_be_is_refused_whole(days: list[OwnDay], reason: str) -> None:
    here = place()
    with pytest.raises(CalendarRefused) as refusal:
        set_calendar_days(
            actor=administrator(here.property_id), property_id=here.property_id, days=days, now=NOW
        )
    assert refusal.value.reason == reason
    assert rows("SELECT 1 FROM calendar_day") == []


def test_the_day_that_has_begun_is_the_property_s_own() -> None:
    """Late on the 17th in UTC it is the 18th in Berlin, which has begun."""
    here = place()
    late = datetime(2026, 11, 17, 23, 30, tzinfo=UTC)
    with pytest.raises(CalendarRefused, match="past"):
        set_calendar_days(
            actor=administrator(here.property_id),
            property_id=here.property_id,
            days=[OwnDay(TOMORROW, DayKind.HOLIDAY)],
            now=late,
        )


def test_nobody_else_writes_the_calendar(database: str) -> None:
    here, there = place(), place()
    word = [OwnDay(TOMORROW, DayKind.HOLIDAY)]
    for actor in (
        Actor("user:6", Duty.OPERATOR, (here.property_id,), "Otto"),
        administrator(there.property_id),
    ):
        with pytest.raises(PermissionRefused):
            set_calendar_days(actor=actor, property_id=here.property_id, days=word, now=NOW)
    with signed_in(role_dsn(database, "head_end"), database):
        for table in ("calendar_day", "holiday_list"):
            with pytest.raises(ProgrammingError, match="permission denied"):
                rows(f"DELETE FROM {table}")
    with pytest.raises(IntegrityError, match="workday_counts_as_a_weekday"):
        rows(
            "INSERT INTO calendar_day (property_id, day, kind, note) "
            "VALUES (%s, '2026-11-18', 'workday', '')",
            here.property_id,
        )
