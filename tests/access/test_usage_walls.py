"""An adversary who wants charges to move that no interval explains, or the books to miss that they did."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from tests.access.test_money_walls import WAYS, Session, thief
from tests.access.test_walls import all_of, duty, owner, refused, two
from tests.conftest import role_dsn
from tests.invariants.conftest import books
from tests.invariants.places import World, at, place, rows, send, signed_in

from prewatt import walls
from prewatt.access.models import Duty
from prewatt.access.scope import Actor
from prewatt.billing import by_hand
from prewatt.core.vee import Verdict
from prewatt.moves.operations import manual_reading
from prewatt.reports.books import check_books

__all__ = ["books", "owner", "thief", "two"]

Call = tuple[list[dict[str, Any]], list[dict[str, Any]]]
MOVED = "SELECT s::text FROM account_state s WHERE account_id = %s"


def test_charges_and_watches_are_out_of_an_operators_reach(
    books: str, owner: Session, two: tuple[World, World]
) -> None:
    here = two[0]
    before = owner.execute("SELECT s::text FROM account_state s ORDER BY account_id").fetchall()
    with psycopg.connect(role_dsn(books, "web"), autocommit=True) as session:
        duty(session, "app_operator", here.property_id)
        for column in (*walls.ACCRUING, "available"):
            if column not in {"carry_standing", "available"}:
                assert refused(session, f"UPDATE account_state SET {column} = {column}"), column
        assert refused(session, "UPDATE meter_state SET last_value_wh = 0")
        assert refused(session, "INSERT INTO interval SELECT * FROM interval")
        assert refused(session, "INSERT INTO meter_state SELECT * FROM meter_state")
    assert (
        owner.execute("SELECT s::text FROM account_state s ORDER BY account_id").fetchall()
        == before
    )


def test_a_watch_is_only_raised_and_only_at_ones_own_property(
    books: str, owner: Session, two: tuple[World, World]
) -> None:
    mine, theirs = (each.accounts["1001"] for each in two)
    watch = "SELECT watch_below FROM account_state WHERE account_id = %s"
    ask = "SELECT raise_watch(%s::bigint[], %s::bigint[])"
    (before,), (foreign,) = all_of(owner, watch, mine), all_of(owner, watch, theirs)
    for way in WAYS:
        with psycopg.connect(role_dsn(books, way[0]), autocommit=True) as session:
            if way[1]:
                duty(session, way[1], two[0].property_id)
            if way[1] != "app_operator":
                assert refused(session, "SELECT raise_watch('{1}', '{1}')"), way
                continue
            session.execute(ask, [[mine, theirs], [-(2**63), -(2**63)]])
            assert all_of(owner, watch, mine) == [before], "it was lowered"
            session.execute(ask, [[mine, theirs], [before + 5, 2**61]])
            assert all_of(owner, watch, mine) == [before + 5]
            assert all_of(owner, watch, theirs) == [foreign]
    owner.execute("UPDATE account_state SET watch_below = %s WHERE account_id = %s", [before, mine])


# --- a reading by hand ---


def read_by_hand(here: World, value: int, hours: float) -> str:
    """An operator enters a register, at the web's login."""
    actor = Actor("user:1", Duty.OPERATOR, (here.property_id,))
    return manual_reading(
        actor=actor, meter_id=here.meters["M-101"], value_wh=value, read_at=at(hours),
        now=at(hours) + timedelta(minutes=1),
    ).verdict  # fmt: skip


def broken(dsn: str, here: World) -> list[str]:
    with psycopg.connect(dsn) as session:
        return check_books(session.cursor(), [here.property_id])


def test_a_reading_by_hand_charges_as_the_head_end_does(books: str) -> None:
    by_person, by_meter = place(), place()
    steps = [(2_000, 1.0), (3_100, 2.5), (2_600, 2.0), (2_600, 2.0), (4_000, 3.0)]
    with signed_in(role_dsn(books, "web"), books):
        said = [read_by_hand(by_person, value, hours) for value, hours in steps]
    for value, hours in steps:
        send(by_meter, [("M-101", at(hours), value)], now=at(hours) + timedelta(minutes=1))
    words = ["accepted", "accepted", "backfill", "duplicate", "accepted"]
    assert said == [f"mdm.vee.{each}" for each in words]
    state = """SELECT posted, accrued_energy, accrued_tax, accrued_fee, accrued_subsidy, carry_energy,
                   carry_tax, carry_fee, carry_subsidy, interval_no, last_interval_at, step_wh
               FROM account_state WHERE account_id = %s"""
    lines = """SELECT interval_no, start_at, revision, segment, from_at, to_at, energy_wh, charge_energy,
                   rest_energy, price_nano, band, end_value_wh
               FROM interval WHERE account_id = %s ORDER BY interval_no"""
    marks = "SELECT last_at, last_value_wh, received_at FROM meter_state WHERE account_id = %s"
    for query in (state, lines, marks):
        assert rows(query, by_person.accounts["1001"]) == rows(query, by_meter.accounts["1001"])
    assert broken(books, by_person) == []


@pytest.fixture
def call(books: str, monkeypatch: pytest.MonkeyPatch) -> tuple[World, Call]:
    """A property, and what an operator's late reading and one after it would ask of the function."""
    here = place()
    send(here, [("M-101", at(2), 2_000)], now=at(2))
    caught: list[Call] = []

    class Caught(Exception):
        pass

    def catch(segments: Any, before: Any, after: Any, now: Any) -> Any:
        caught.append((by_hand._rows(segments), by_hand._counts(before, after)))
        raise Caught

    monkeypatch.setattr("prewatt.billing.charging.charge_by_hand", catch)
    with pytest.raises(Caught):
        read_by_hand(here, 1_200, 1)
    with pytest.raises(Caught):
        read_by_hand(here, 2_900, 3)
    (late, _), (fresh, counts) = caught
    return here, (fresh + late, counts)


def ask(books: str, property_id: int, given: Call) -> str:
    """What the function says to an operator; it is undone again."""
    with psycopg.connect(role_dsn(books, "web")) as session:
        duty(session, "app_operator", property_id)
        try:
            session.execute(
                "SELECT charge_by_hand(%s::jsonb, %s::jsonb, %s)",
                [*map(json.dumps, given), at(3)],
            )
        except (psycopg.errors.IntegrityError, psycopg.errors.InsufficientPrivilege) as error:
            return error.diag.message_primary or "refused"
        finally:
            session.rollback()
    return "done"


def on(which: Callable[[dict[str, Any]], bool], **changes: Any) -> Callable[[Call], Call]:
    """Change segments of a call; a function is told what stood there."""

    def change(given: Call) -> Call:
        lines, counts = deepcopy(given)
        for line in filter(which, lines):
            for name, to in changes.items():
                line[name] = to(line[name]) if callable(to) else to
        return lines, counts

    return change


def _fresh(line: dict[str, Any]) -> bool:
    return line["segment"] < 10_000


def _taken_back(line: dict[str, Any]) -> bool:
    return line["segment"] >= 10_000


def without(which: Callable[[dict[str, Any]], bool]) -> Callable[[Call], Call]:
    return lambda given: ([each for each in given[0] if not which(each)], given[1])


FORGED: dict[str, Callable[[Call], Call]] = {
    "no charge": on(_fresh, charge_energy=0),
    "a micro-unit less": on(_fresh, charge_energy=lambda was: was - 1),
    "a micro-unit more": on(_fresh, charge_energy=lambda was: was + 1),
    "credit": on(_fresh, charge_energy=-(10**9)),
    "a price that gives": on(
        _fresh, price_nano=-(10**6), rest_energy=0, charge_energy=lambda _was: -1
    ),
    "a fee that gives": on(_fresh, charge_fee=-(10**9)),
    "a tax that gives": on(_fresh, charge_tax=-(10**9)),
    "a subsidy of more than all": on(_fresh, charge_subsidy=-(10**9)),
    "a subsidy that takes": on(_fresh, charge_subsidy=1),
    "standing": on(_fresh, charge_standing=-(10**9)),
    "demand": on(_fresh, charge_demand=-(10**9)),
    "a rest of its own": on(_fresh, rest_energy=lambda was: was + 1),
    "less energy": on(_fresh, energy_wh=0, charge_energy=0, rest_energy=0),
    "a register ahead": on(_fresh, end_value_wh=lambda was: was + 10_000),
    "a register behind": on(_fresh, end_value_wh=lambda was: was - 1),
    "a multiplier": on(_fresh, multiplier=2),
    "another register": on(_fresh, register_code=2),
    "another meter": on(_fresh, meter_id=lambda was: was + 1),
    "another property": on(_fresh, property_id=lambda was: was + 1),
    "a tariff of others": on(_fresh, tariff_version_id=lambda was: was + 1),
    "no tariff": on(_fresh, tariff_version_id=0),
    "only given back": without(_fresh),
    "not given back": without(_taken_back),
    "too much given back": on(_taken_back, charge_energy=lambda was: was - 1_000),
    "energy given back": on(_taken_back, energy_wh=lambda was: was - 1_000),
    "something else given back": on(_taken_back, segment=lambda was: was + 7),
    "given back of another": on(_taken_back, revision=lambda was: was + 1),
    "twice": lambda given: (given[0] * 2, given[1]),
    "no counts": lambda given: (given[0], []),
    "nothing": lambda _given: ([], []),
}


def test_the_function_takes_a_reading_as_it_is(books: str, call: tuple[World, Call]) -> None:
    here, given = call
    assert {_fresh(each) for each in given[0]} == {True, False}, "both kinds are in it"
    assert ask(books, here.property_id, given) == "done"
    assert ask(books, here.property_id + 10_000, given) != "done", "out of scope"


def test_no_forged_segment_is_charged(books: str, call: tuple[World, Call]) -> None:
    here, given = call
    before = rows(MOVED, here.accounts["1001"])
    let_through = [
        name
        for name, forge in FORGED.items()
        if ask(books, here.property_id, forge(given)) == "done"
    ]
    assert let_through == []
    assert rows(MOVED, here.accounts["1001"]) == before and broken(books, here) == []


def test_nobody_else_charges_by_hand(thief: Session) -> None:
    row = thief.execute("SELECT current_user").fetchone()
    if row != ("app_operator",):
        assert refused(thief, "SELECT charge_by_hand('[]', '[]', now())")


# --- the head-end, which keeps its columns for the sake of ten thousand readings at once ---


@pytest.mark.parametrize(
    "theft",
    [
        "accrued_energy = accrued_energy - 5000000",
        "accrued_subsidy = -5000000",
        "accrued_standing = -1",
        "carry_energy = 5",
        "interval_no = interval_no + 1",
    ],
)
def test_what_the_head_end_moves_without_an_interval_is_found(books: str, theft: str) -> None:
    here = place()
    assert send(here, [("M-101", at(1), 2_000)]) == [Verdict.ACCEPTED]
    assert broken(books, here) == []
    with psycopg.connect(role_dsn(books, "head_end")) as session:
        session.execute(
            f"UPDATE account_state SET {theft} WHERE account_id = %s", [here.accounts["1001"]]
        )
    assert broken(books, here) != []
    connection.close()
