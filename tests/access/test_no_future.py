"""An adversary with an operator's credential who books for a time that has not come, or for none at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from tests.access.test_duty_walls import as_way, breaks
from tests.access.test_money_walls import EVENT, WAYS, Session, sale, seller, write_legs
from tests.access.test_usage_walls import Call, ask, call, on
from tests.access.test_walls import all_of, owner, two
from tests.invariants.conftest import books
from tests.invariants.places import NOW, World

from prewatt import walls

__all__ = ["books", "call", "owner", "seller", "two"]

#: Refused as a time to come, as one without a date, or as one that no reader has a date for.
NO_TIMES = ("9000-01-01", "infinity", "-infinity", "4000-01-01 BC", "1899-12-31 23:59+00")
_REFUSED = (psycopg.errors.InsufficientPrivilege, psycopg.errors.CheckViolation)


@pytest.fixture(autouse=True)
def real_time(owner: Session) -> Iterator[datetime]:
    """The database's clock is real, or that of these tests where that is later; yields its latest instant."""
    with owner.cursor() as cursor:
        walls.let_clock_run_ahead(cursor, NOW - datetime.now(UTC))
        ((latest,),) = cursor.execute("SELECT latest_instant()").fetchall()
        yield latest
        walls.let_clock_run_ahead(cursor, timedelta(days=36_500))


def _soon(latest: datetime) -> tuple[str, ...]:
    return (*NO_TIMES, (latest + timedelta(minutes=5)).isoformat())


def test_nothing_is_sold_for_a_time_that_has_not_come(
    seller: Session, two: tuple[World, World], real_time: datetime
) -> None:
    account = two[0].accounts["1001"]
    for moment in _soon(real_time):
        with pytest.raises(_REFUSED):
            sale(seller, account, at=moment)
        with pytest.raises(_REFUSED):
            sale(seller, account, paid=[moment])
    within = real_time - timedelta(minutes=5)
    assert sale(seller, account, at=within, paid=[within])[0] == 1
    assert sale(seller, account, at="2019-12-31")[0] == 1, "a past that was brought in"


def test_nothing_is_sold_by_a_way_that_there_is_not(
    seller: Session, two: tuple[World, World]
) -> None:
    for way in ("zz", "", "CASH"):
        with pytest.raises(psycopg.errors.CheckViolation, match="payment_came_by_a_way"):
            sale(seller, two[0].accounts["1001"], ways=[way])


_PAID = """INSERT INTO payment (property_id, account_id, event_id, amount_micro, way, reference, paid_at,
               accepted_at, taken_by)
           SELECT property_id, account_id, %s, 1000000, %s, '', %s, %s, 'user:1'
           FROM account_state WHERE account_id = %s"""


def test_no_leg_and_no_payment_is_of_a_time_that_has_not_come(
    seller: Session, two: tuple[World, World], real_time: datetime
) -> None:
    account, good = two[0].accounts["1001"], [EVENT, "cash", NOW, NOW]
    for moment in _soon(real_time):
        for wrong in ([moment, NOW], [NOW, moment]):
            assert breaks(seller, _PAID, EVENT, "cash", *wrong, account), wrong
        with seller.transaction(force_rollback=True):
            seller.execute(_PAID, [*good, account])
            with pytest.raises(_REFUSED), seller.transaction():
                write_legs(seller, account, (2, 1, 1_000_000, ""), at=moment)
            assert write_legs(seller, account, (2, 1, 1_000_000, "")) == (None, 1)
    assert breaks(seller, _PAID, EVENT, "zz", NOW, NOW, account)


def test_a_clock_of_an_account_that_was_set_ahead_lengthens_no_hold(
    books: str, owner: Session, two: tuple[World, World], real_time: datetime
) -> None:
    account = two[0].accounts["1001"]
    hold = "UPDATE supply_state SET payment_hold_until = %s WHERE account_id = %s"
    (before,) = all_of(owner, "SELECT updated_at FROM account_state WHERE account_id = %s", account)
    owner.execute(
        "UPDATE account_state SET updated_at = '9000-01-01' WHERE account_id = %s", [account]
    )
    try:
        with as_way(books, ("web", "app_operator"), two[0].property_id) as session:
            assert breaks(session, hold, "2136-01-01", account)
            assert breaks(session, hold, real_time + timedelta(days=8, minutes=5), account)
            assert not breaks(session, hold, real_time + timedelta(days=6), account)
    finally:
        owner.execute(
            "UPDATE account_state SET updated_at = %s WHERE account_id = %s", [before, account]
        )


@pytest.mark.parametrize("name", ["to_at", "received_at", "start_at", "from_at"])
def test_no_segment_reaches_into_a_time_that_has_not_come(
    books: str, call: tuple[World, Call], name: str
) -> None:
    here, given = call
    for moment in ("9999-01-01T00:00:00Z", "infinity", "-infinity"):
        changed = on(lambda line: line["segment"] < 10_000, **{name: moment})(given)
        assert ask(books, here.property_id, changed) == "a segment lies in time that has not come"
    assert ask(books, here.property_id, given) == "done"


def test_no_reading_sets_an_accounts_clock_ahead(books: str, call: tuple[World, Call]) -> None:
    here, given = call
    asked = "SELECT charge_by_hand(%s::jsonb, %s::jsonb, %s)"
    with as_way(books, ("web", "app_operator"), here.property_id) as session:
        for moment in (*NO_TIMES, None):
            with pytest.raises(psycopg.errors.CheckViolation, match="has not come"):
                session.execute(asked, [*map(json.dumps, given), moment])


def test_books_close_before_tomorrow_at_most(
    books: str, two: tuple[World, World], real_time: datetime
) -> None:
    place = two[0].property_id
    far: list[Any] = [real_time.date() + timedelta(days=2), "9000-01-01", "infinity"]
    for way in (("web", "app_admin"), ("clerk", "")):
        with as_way(books, way, place) as session:
            for day in far:
                with pytest.raises(psycopg.errors.CheckViolation, match="before tomorrow at most"):
                    session.execute("SELECT close_books(%s, %s)", [place, day])
            with session.transaction(force_rollback=True):
                today = real_time.date() - timedelta(days=1)
                assert all_of(session, "SELECT close_books(%s, %s)", place, today) == [True]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[1] or way[0])
def test_no_login_moves_the_latest_instant(
    books: str, two: tuple[World, World], way: tuple[str, str]
) -> None:
    with as_way(books, way, two[0].property_id) as session:
        for change in (
            "CREATE OR REPLACE FUNCTION latest_instant() RETURNS timestamptz LANGUAGE sql AS $$SELECT 'infinity'$$",
            "CREATE OR REPLACE FUNCTION public.latest_instant() RETURNS timestamptz LANGUAGE sql AS $$SELECT now()$$",
            "DROP FUNCTION latest_instant()",
            "ALTER FUNCTION latest_instant() RENAME TO other",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(change)


def test_the_latest_instant_is_a_day_after_the_clock_that_the_owner_says(owner: Session) -> None:
    """A demo's clock is days ahead after many starts; one that is behind books nothing ahead for it."""
    for ahead in (-5, 0, 3):
        with owner.cursor() as cursor:
            walls.let_clock_run_ahead(cursor, timedelta(days=ahead))
        (left,) = all_of(owner, "SELECT latest_instant() - clock_timestamp()")
        assert abs(left - timedelta(days=1 + max(0, ahead))) < timedelta(seconds=1)
