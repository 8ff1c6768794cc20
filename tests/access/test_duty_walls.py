"""An adversary with the credential of a duty or a process: what it does beside money stays in its duty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.access.test_money_walls import WAYS, Session, thief
from tests.access.test_walls import all_of, duty, owner, refused, two
from tests.conftest import role_dsn
from tests.invariants.conftest import books
from tests.invariants.places import World

from prewatt import walls
from prewatt.core.orders import ALLOWED
from prewatt.core.vocabulary import OrderState

__all__ = ["books", "owner", "thief", "two"]

DECIDERS = ("head_end", "clerk", "app_operator", "app_admin")


def as_way(books: str, way: tuple[str, str], property_id: int) -> Session:
    """A session of a login, in a duty at one property where it has any."""
    login, role = way
    session = psycopg.connect(role_dsn(books, login), autocommit=True)
    if role:
        duty(session, role, property_id)
    return session


def breaks(session: Session, statement: str, *values: Any) -> bool:
    """Whether the database refuses it, for who asks or for what it says; it is undone anyhow."""
    try:
        with session.transaction(force_rollback=True):
            done = session.execute(statement, values)
            session.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.CheckViolation):
        return True
    return done.rowcount == 0


# --- the brake ---


@pytest.fixture
def braked(owner: Session, two: tuple[World, World]) -> Iterator[int]:
    """A property whose brake is on."""
    place = two[0].property_id
    owner.execute("UPDATE supply_policy SET brake_since = now() WHERE property_id = %s", [place])
    yield place
    owner.execute(
        """UPDATE supply_policy SET brake_since = NULL, brake_release_asked_by = '',
               brake_release_asked_at = NULL WHERE property_id = %s""",
        [place],
    )


def test_no_login_writes_the_brake(thief: Session, braked: int) -> None:
    for change in (
        "brake_since = NULL",
        "brake_since = 'infinity'",
        "brake_released_at = now()",
        "brake_release_asked_by = 'user:2'",
        "brake_release_asked_at = now()",
    ):
        assert refused(thief, f"UPDATE supply_policy SET {change}"), change
    assert refused(thief, "DELETE FROM supply_policy")


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[1] or way[0])
def test_nobody_releases_the_brake_without_the_agreement_of_others(
    books: str, owner: Session, braked: int, two: tuple[World, World], way: tuple[str, str]
) -> None:
    is_on = "SELECT brake_since IS NOT NULL FROM supply_policy WHERE property_id = %s"
    with as_way(books, way, braked) as session:
        # Nobody has agreed to it: whoever may call the function is told so, and all others nothing.
        for release in ("release_brake", "pull_brake"):
            assert refused(session, f"SELECT {release}({braked}, now())")
    assert all_of(owner, is_on, braked) == [True]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[1] or way[0])
def test_rules_of_supply_and_relays_by_hand_take_what_others_agreed_to(
    books: str, two: tuple[World, World], way: tuple[str, str]
) -> None:
    here, account = two[0].property_id, two[0].accounts["1001"]
    with as_way(books, way, here) as session:
        for call in (
            f"SELECT change_supply_rules({here}, 1, '{{}}', now())",
            f"SELECT protect_supply({here}, {account}, 'fire', now())",
            f"SELECT order_by_hand({here}, {account}, now())",
            "UPDATE supply_state SET protection = 'fire'",
            "UPDATE supply_state SET by_hand = 2",
        ):
            assert refused(session, call), call
        if way[1] == "app_admin":
            for row in ("body = '{}'", "version = 9"):
                assert refused(session, f"UPDATE supply_policy SET {row}"), row


def test_who_decides_may_put_the_brake_on_and_asking_begins_again(
    books: str, owner: Session, two: tuple[World, World]
) -> None:
    place = two[0].property_id
    for way in WAYS:
        role = way[1] or way[0]
        with as_way(books, way, place) as session:
            put = f"SELECT put_brake_on({place}, now())"
            if role not in DECIDERS:
                assert refused(session, put), role
                continue
            with session.transaction(force_rollback=True):
                assert all_of(session, put) == [True]
                assert all_of(session, put) == [False], "it is on already"


# --- credit in meters ---

_WALLET = """INSERT INTO meter_wallet (meter_id, property_id, account_id, since, seen_seq, total_micro, credit_micro,
                 told_micro)
             SELECT %(meter)s, property_id, account_id, now(), transfer_seq + %(later)s, greatest(available, 0) + %(more)s,
                 greatest(available, 0) + %(more)s, %(told)s
             FROM account_state WHERE account_id = %(account)s"""


def test_a_meter_begins_with_what_its_account_has_whoever_writes_it(
    books: str, two: tuple[World, World]
) -> None:
    here = two[0]
    own = {
        "meter": here.meters["M-101"],
        "account": here.accounts["1001"],
        "later": 0,
        "more": 0,
        "told": 0,
    }
    # Credit that nobody paid; transfers that are not in the sum, or twice; another's account.
    lies = (
        {"more": 10**9},
        {"told": 10**9},
        {"later": 9},
        {"later": -1},
        {"account": here.accounts["OWN-LIFT"]},
    )
    for way in WAYS:
        with as_way(books, way, here.property_id) as session:
            for lie in lies:
                try:
                    with session.transaction(force_rollback=True):
                        assert session.execute(_WALLET, own | lie).rowcount == 0, (way, lie)
                except (psycopg.errors.InsufficientPrivilege, psycopg.errors.CheckViolation):
                    pass
            if way[1] == "app_admin":
                with session.transaction(force_rollback=True):
                    assert session.execute(_WALLET, own).rowcount == 1


# --- orders ---


@pytest.fixture
def order(owner: Session, two: tuple[World, World]) -> Iterator[int]:
    """A decided order of the first property."""
    here = two[0]
    decision = """INSERT INTO supply_decision (property_id, account_id, decided_at, outcome, reason, gates,
                      available_micro, would_have, trigger)
                  VALUES (%s, %s, now(), 2, 'exhausted', '[]', 0, false, 'reading') RETURNING id"""
    (decided,) = all_of(owner, decision, here.property_id, here.accounts["1001"])
    (made,) = all_of(
        owner, _ORDER, here.property_id, here.accounts["1001"], here.meters["M-101"], decided
    )
    yield made
    owner.execute("DELETE FROM supply_order WHERE id = %s", [made])


_ORDER = """INSERT INTO supply_order (property_id, account_id, meter_id, kind, state, decision_id, reason,
                decided_at, attempts, failure)
            VALUES (%s, %s, %s, 2, 1, %s, 'exhausted', now(), 0, '') RETURNING id"""
_STATES = [each.value for each in OrderState]
#: Who takes an order where; a step that an order takes at all is in core/orders.py.
_OWN = {"head_end": {2, 3, 4, 5, 6, 7}, "clerk": {6, 7}, "app_operator": {7}, "app_admin": {7}}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[1] or way[0])
def test_an_order_takes_only_its_steps_and_each_by_whose_duty_it_is(
    books: str, owner: Session, order: int, two: tuple[World, World], way: tuple[str, str]
) -> None:
    role = way[1] or way[0]
    with as_way(books, way, two[0].property_id) as session:
        for before in _STATES:
            owner.execute("UPDATE supply_order SET state = %s WHERE id = %s", [before, order])
            for after in _STATES:
                may = after in _OWN.get(role, ()) and after in ALLOWED[OrderState(before)]
                stays = before == after and before <= 3 and role == "head_end"
                step = f"UPDATE supply_order SET state = {after} WHERE id = {order}"
                assert breaks(session, step) != (may or stays), (role, before, after)
            if before > 3:
                changed = f"UPDATE supply_order SET failure = 'x' WHERE id = {order}"
                assert breaks(session, changed), "what has ended never changes"


def test_nobody_enters_an_order_that_is_under_way_or_done(
    thief: Session, order: int, two: tuple[World, World]
) -> None:
    for state in _STATES:
        if state != OrderState.DECIDED:
            done = "now()" if state > 3 and state != 8 else "NULL"
            assert breaks(
                thief,
                f"""INSERT INTO supply_order (property_id, account_id, meter_id, kind, state,
                        decision_id, reason, decided_at, finished_at, attempts, failure)
                    SELECT property_id, account_id, meter_id, kind, {state}, decision_id, reason,
                           decided_at, {done}, 0, '' FROM supply_order WHERE id = {order}""",
            ), state


# --- holds ---


def test_a_payment_hold_is_a_week_at_most(
    thief: Session, owner: Session, two: tuple[World, World]
) -> None:
    account = two[0].accounts["1001"]
    for until in ("'infinity'", "now() + interval '10 years'", "{latest} + interval '9 days'"):
        latest = (
            f"(SELECT greatest(now(), updated_at) FROM account_state WHERE account_id = {account})"
        )
        hold = f"""UPDATE supply_state SET payment_hold_until = {until.format(latest=latest)}
                   WHERE account_id = {account}"""
        assert breaks(thief, hold), until


def test_an_operator_holds_a_cut_for_a_payment_on_its_way(
    books: str, two: tuple[World, World]
) -> None:
    with as_way(books, ("web", "app_operator"), two[0].property_id) as session:
        hold = f"""UPDATE supply_state SET payment_hold_until = now() + interval '7 days'
                   WHERE account_id = {two[0].accounts["1001"]}"""
        assert not breaks(session, hold)


# --- numbers ---


def test_a_series_counts_papers_and_nothing_else(
    thief: Session, owner: Session, two: tuple[World, World]
) -> None:
    entity = all_of(
        owner, "SELECT legal_entity_id FROM property WHERE id = %s", two[0].property_id
    )[0]
    (last,) = all_of(
        owner,
        "SELECT last_number FROM document_series WHERE legal_entity_id = %s AND series = 'R'",
        entity,
    )
    for number in (0, last - 1, last, last + 1, last + 1_000_000, 2**62):
        move = f"""UPDATE document_series SET last_number = {number}
                   WHERE legal_entity_id = {entity} AND series = 'R'"""
        assert breaks(thief, move), number
    assert breaks(
        thief,
        f"""INSERT INTO document_series (legal_entity_id, series, last_number)
            VALUES ({entity}, 'X', 500)""",
    )
    for series, number in (("R", last + 1), ("R", 10**9), ("Y", 1)):
        assert breaks(
            thief,
            f"""INSERT INTO document (property_id, legal_entity_id, series, number, kind, account_id,
                    event_id, issued_at, amount_micro)
                VALUES ({two[0].property_id}, {entity}, '{series}', {number}, 'receipt',
                        {two[0].accounts["1001"]}, 1, now(), 1)""",
        ), (series, number)


def test_a_number_that_was_taken_and_not_used_stops_the_commit(
    books: str, owner: Session, two: tuple[World, World]
) -> None:
    """The check waits for the end of the transaction, as papers are written after their numbers."""
    entity = f"(SELECT legal_entity_id FROM property WHERE id = {two[0].property_id})"
    take = f"""UPDATE document_series SET last_number = last_number + 2
               WHERE legal_entity_id = {entity} AND series = 'R'"""
    write = f"""INSERT INTO document (property_id, legal_entity_id, series, number, kind, account_id,
                    event_id, issued_at, amount_micro)
                SELECT {two[0].property_id}, legal_entity_id, series, last_number - %s, 'receipt',
                       {two[0].accounts["1001"]}, 1, now(), 1
                FROM document_series WHERE legal_entity_id = {entity} AND series = 'R'"""
    with as_way(books, ("web", "app_operator"), two[0].property_id) as session:
        session.autocommit = False
        session.execute(take)
        session.execute(write, [0])
        with pytest.raises(psycopg.errors.CheckViolation, match="with 1 papers"):
            session.commit()
        session.autocommit = True
        with session.transaction(force_rollback=True):
            session.execute(take)
            session.execute(write, [0])
            session.execute(write, [1])
            session.execute("SET CONSTRAINTS ALL IMMEDIATE")


# --- locks ---


def test_no_login_holds_the_books_of_a_property_shut(
    books: str, owner: Session, two: tuple[World, World]
) -> None:
    place, account = two[0].property_id, two[0].accounts["1001"]
    sale = """SELECT refusal FROM append_transfers('{1}', %s, '{5}', '{1}', '{0}', '{10}', '{1}', '{0}',
        '{0}', %s, %s, '{null}', '{null}', '{test}', '{0}', '{""}', %s, '{user:1}')"""
    at = all_of(owner, "SELECT updated_at FROM account_state WHERE account_id = %s", account)[0]
    for way in WAYS:
        with as_way(books, way, place) as session, psycopg.connect(books) as other:
            # Whatever it can take and hold, somebody else still sells and the books still close.
            session.autocommit = False
            for lock in ("pg_advisory_lock", "pg_try_advisory_lock", "pg_advisory_xact_lock",
                         "pg_try_advisory_xact_lock", "pg_advisory_lock_shared",
                         "pg_try_advisory_lock_shared"):  # fmt: skip
                for keys in (f"20567, {place}::integer", "20568, 0"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege), session.transaction():
                        session.execute(f"SELECT {lock}({keys})")
            for lock in ("pg_advisory_lock(20567)", "pg_advisory_lock_shared(20568)"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege), session.transaction():
                    session.execute(f"SELECT {lock}")
            session.execute("SELECT pg_advisory_xact_lock(20568)")
            other.execute("SET lock_timeout = '2s'")
            assert other.execute(sale, [[account], [at], [at], at]).fetchone() == (None,)
            other.execute("SELECT correctable_from()")
            other.rollback()
            session.rollback()


def test_only_who_may_close_books_closes_them_and_never_backwards(
    thief: Session, owner: Session, two: tuple[World, World]
) -> None:
    place, theirs = (each.property_id for each in two)
    for statement in ("UPDATE ledger_period SET open_from = '2000-01-01'", "DELETE FROM ledger_period",
                      f"INSERT INTO ledger_period (property_id, open_from) VALUES ({place}, '2000-01-01')"):  # fmt: skip
        assert refused(thief, statement), statement
    row = thief.execute("SELECT current_user").fetchone()
    if row not in {("app_admin",), ("clerk",)}:
        assert refused(thief, f"SELECT close_books({place}, '2020-01-01')")
        return
    with thief.transaction(force_rollback=True):
        assert all_of(thief, f"SELECT close_books({place}, '2020-01-02')") == [True]
        assert all_of(thief, f"SELECT close_books({place}, '2020-01-01')") == [False]
    if row == ("app_admin",):
        assert refused(thief, f"SELECT close_books({theirs}, '2020-01-01')"), "out of its scope"


# --- reading ---


@pytest.mark.parametrize("login", ["keeper", "witness"])
def test_who_reads_for_one_purpose_sees_nobodys_name(books: str, login: str) -> None:
    with psycopg.connect(role_dsn(books, login), autocommit=True) as session:
        for table in (*walls.APPEND_ONLY, *walls.MUTABLE, *walls.SIGN_IN):
            if table not in walls.READS[login]:
                assert refused(session, f"SELECT FROM {table}"), table
        for table in ("customer", "account", "tenancy", "message", "message_attempt", "app_user",
                      "audit_event", "idempotency", "meter", "unit", "alert", "duty_grant"):  # fmt: skip
            assert table not in walls.READS[login], table
        for column in ("reference", "taken_by", "way"):
            assert refused(session, f"SELECT {column} FROM payment"), column
        assert refused(session, "SELECT nextval('event_id_seq')")
