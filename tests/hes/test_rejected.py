"""Floods of messages that nobody can read: bounded rows, bounded memory, and every message counted."""

from __future__ import annotations

import psycopg
import pytest
from django.db import DatabaseError
from tests.access.test_money_walls import thief
from tests.access.test_walls import refused, two
from tests.invariants.conftest import books
from tests.invariants.places import NOW, World, one, place, rows

from prewatt.core.civil_time import instant_us
from prewatt.hes import rejected
from prewatt.hes.frames import MalformedSample
from prewatt.hes.rejected import KINDS_MAX, OTHERS, RejectedBook, reject

__all__ = ["books", "thief", "two"]

NOW_US = instant_us(NOW)
#: As many as ``mdm/sql/0008_rejected.sql`` keeps.
STRANGERS_MOST, REASONS_MOST = 1_000, 20
HOUR_US = 3_600 * 1_000_000


def sample(serial: str, reason: str = "unknown_meter", at_us: int = NOW_US) -> MalformedSample:
    return MalformedSample(f"pw/{serial}/up/x", at_us, reason, reason, serial.encode())


def flood(first: int, size: int, at_us: int = NOW_US) -> list[MalformedSample]:
    return [sample(f"INVENTED-{number}", at_us=at_us) for number in range(first, first + size)]


def counted() -> int:
    return int(one("SELECT coalesce(sum(count), 0) FROM rejected_frame"))


def strangers() -> int:
    return int(one("SELECT count(*) FROM rejected_frame WHERE property_id IS NULL"))


def test_invented_serials_fill_a_bounded_table_and_each_is_counted(database: str) -> None:
    for start in range(0, 5_000, 500):
        reject(flood(start, 500))
    assert strangers() == STRANGERS_MOST + 1, "and the row of all the others"
    assert counted() == 5_000
    reject(flood(0, 500))
    assert one("SELECT count FROM rejected_frame WHERE serial = 'INVENTED-7'") == 2, (
        "known ones go on"
    )
    assert counted() == 5_500 and strangers() == STRANGERS_MOST + 1
    count, kept = rows("SELECT count, sample FROM rejected_frame WHERE serial = %s", OTHERS)[0]
    assert count == 4_000 and bytes(kept).startswith(b"INVENTED-")


def test_a_flood_does_not_shut_out_for_ever_who_comes_after_it(database: str) -> None:
    reject(flood(0, 3_000))
    reject([sample("NEW", at_us=NOW_US + HOUR_US // 2)])
    assert rows("SELECT 1 FROM rejected_frame WHERE serial = 'NEW'") == []
    reject([sample("NEW", at_us=NOW_US + 2 * HOUR_US)])
    assert one("SELECT count FROM rejected_frame WHERE serial = 'NEW'") == 1
    assert counted() == 3_002 and strangers() == STRANGERS_MOST + 1


def test_one_meter_has_a_bounded_number_of_reasons_in_spite_of_a_flood(database: str) -> None:
    here = place()
    (serial,) = rows("SELECT serial FROM meter WHERE id = %s", here.meters["M-101"])[0]
    reject(flood(0, 2_000))
    reject([sample(serial, f"LookupError: no order {number}") for number in range(100)])
    reject([sample(serial, f"LookupError: no order {number}") for number in range(50, 200)])
    own = rows("SELECT property_id, count FROM rejected_frame WHERE serial = %s", serial)
    assert len(own) == REASONS_MOST and {each[0] for each in own} == {here.property_id}
    assert counted() == 2_250


def test_the_same_again_and_again_is_one_row(database: str) -> None:
    reject([sample("PW-404") for _ in range(700)] + [sample("PW-404", "json")])
    assert sorted(rows("SELECT reason, count FROM rejected_frame WHERE serial = 'PW-404'")) == [
        ("json", 1), ("unknown_meter", 700),
    ]  # fmt: skip


def test_what_waits_is_bounded_counted_and_not_lost_with_the_database(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = RejectedBook()
    book.add(flood(0, 3 * KINDS_MAX))
    assert len(book._kinds) == KINDS_MAX + 1
    keep = rejected._keep

    def fails(_kinds: object) -> None:
        raise DatabaseError

    monkeypatch.setattr(rejected, "_keep", fails)
    with pytest.raises(DatabaseError):
        book.store()
    book.add(flood(0, 10))
    monkeypatch.setattr(rejected, "_keep", keep)
    book.store()
    book.store()
    assert counted() == 3 * KINDS_MAX + 10


def test_no_login_writes_these_rows_but_through_the_function(
    thief: psycopg.Connection[object], two: tuple[World, World]
) -> None:
    insert = """INSERT INTO rejected_frame (serial, reason, sample, first_at, last_at)
                VALUES ('X', 'x', '', now(), now())"""
    for statement in (insert, "UPDATE rejected_frame SET count = 0", "DELETE FROM rejected_frame"):
        assert refused(thief, statement), statement
    call = "SELECT keep_rejected('{X}', '{x}', ARRAY[''::bytea], '{%s}', '{now}', '{now}')"
    (login,) = thief.execute("SELECT current_user").fetchone() or ("",)
    if login != "head_end":
        assert refused(thief, call % 1)
        return
    with thief.transaction(force_rollback=True):
        thief.execute(call % 1)
    for less in (0, -(10**6)):
        with pytest.raises(psycopg.errors.CheckViolation):
            thief.execute(call % less)


def test_two_floods_at_once_stay_within_the_bound(books: str) -> None:
    """The row of all the others is the lock: who comes second sees what the first has taken."""
    from tests.conftest import role_dsn

    call = """SELECT keep_rejected(%s::text[], array_fill('x'::text, ARRAY[800]),
                  array_fill(''::bytea, ARRAY[800]), array_fill(1::bigint, ARRAY[800]),
                  array_fill(now(), ARRAY[800]), array_fill(now(), ARRAY[800]))"""
    names = [[f"{side}-{number}" for number in range(800)] for side in "AB"]
    first, second = (psycopg.connect(role_dsn(books, "head_end")) for _ in names)
    with first, second:
        first.execute(call, [names[0]])
        second.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            second.execute(call, [names[1]])
        second.rollback()
        first.commit()
        second.execute(call, [names[1]])
        second.commit()
    assert strangers() == STRANGERS_MOST + 1
