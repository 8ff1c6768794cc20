"""The database's own walls, looked at from inside: roles, grants and row-level security."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.conftest import role_dsn
from tests.invariants.conftest import books
from tests.invariants.places import World, pay, place, post, send
from tests.moves.world import hours

from prewatt import walls

__all__ = ["books"]

Session = psycopg.Connection[Any]
BUSINESS = (*walls.APPEND_ONLY, *walls.MUTABLE)
ROLES = (*walls.LOGINS, *walls.DUTIES)


@pytest.fixture(scope="module")
def two(books: str) -> tuple[World, World]:
    """Two properties in which something has happened."""
    here, there = place(), place()
    for each in (here, there):
        send(each, [("M-101", hours(1), 2_000), ("M-101", hours(0.5), 1_500)])
        post(each)
        pay(each, "first")
    return here, there


@pytest.fixture
def owner(books: str) -> Iterator[Session]:
    with psycopg.connect(books, autocommit=True) as session:
        yield session


@pytest.fixture
def web(books: str) -> Iterator[Session]:
    with psycopg.connect(role_dsn(books, "web"), autocommit=True) as session:
        yield session


def all_of(session: Session, statement: str, *values: Any) -> list[Any]:
    return [row[0] for row in session.execute(statement, values)]


def duty(session: Session, role: str, *properties: int) -> None:
    """Become a duty as ``access.scope`` does, for a whole session."""
    session.execute(f"SET ROLE {role}")
    listed = "{" + ",".join(str(each) for each in properties) + "}"
    session.execute("SELECT set_config('prewatt.properties', %s, false)", [listed])


def count(session: Session, table: str) -> int:
    """How many rows a session sees of a table; none where it may not look at all."""
    try:
        row = session.execute(f"SELECT count(*) FROM {table}").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return 0
    assert row is not None
    return int(row[0])


def refused(session: Session, statement: str) -> bool:
    try:
        session.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


def test_every_table_with_a_property_has_row_level_security_and_a_policy(owner: Session) -> None:
    with_property = all_of(
        owner,
        """SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
           WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
             AND NOT c.relispartition AND a.attname = 'property_id' AND NOT a.attisdropped""",
    )
    guarded = all_of(
        owner,
        """SELECT c.relname FROM pg_class c WHERE c.relrowsecurity AND EXISTS (
               SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'by_property')""",
    )
    assert len(with_property) > 30
    # A grant of duty is read at sign-in, before anybody has a property.
    assert set(with_property) - {"duty_grant"} <= set(guarded)
    assert {"property", "organisation", "legal_entity", "document_series"} <= set(guarded)


def test_without_a_scope_nobody_sees_a_row(
    web: Session, owner: Session, two: tuple[World, World]
) -> None:
    filled = [table for table in BUSINESS if count(owner, table)]
    assert {"transfer", "interval", "account_state", "payment", "tariff_version"} <= set(filled)
    assert all(refused(web, f"SELECT FROM {table}") for table in BUSINESS), "a login has no duty"
    for role in walls.DUTIES:
        web.execute(f"SET ROLE {role}")
        assert {table: count(web, table) for table in filled if count(web, table)} == {}
        duty(web, role)
        assert {table: count(web, table) for table in filled if count(web, table)} == {}
        web.execute("RESET ROLE")
        web.execute("RESET prewatt.properties")


@pytest.mark.parametrize("role", walls.DUTIES)
def test_a_foreign_property_is_invisible_and_takes_no_row(
    web: Session, owner: Session, two: tuple[World, World], role: str
) -> None:
    here, there = (each.property_id for each in two)
    duty(web, role, here)
    seen = 0
    for table in BUSINESS:
        column = "id" if table == "property" else "property_id"
        if table == "archived_partition":
            # A file holds a month of every property and says nothing of one.
            continue
        if role in walls.NARROW and table not in walls.READS[role]:
            assert refused(web, f"SELECT FROM {table}"), table
            continue
        if table in {"organisation", "legal_entity", "document_series", "property_group"}:
            assert count(web, table) < count(owner, table) or count(owner, table) < 2, table
            continue
        assert set(all_of(web, f"SELECT DISTINCT {column} FROM {table}")) <= {here}, table
        seen += count(web, table)
    # Of a tenant no account was named, so they see none.
    assert seen > {"app_tenant": -1, "app_installer": 10}.get(role, 40)
    if role == "app_tenant":
        assert seen == 1, "the property itself"
    event = f"""INSERT INTO audit_event (property_id, happened_at, actor, code, subject, detail)
                VALUES ({there}, now(), 'user:1', 'x', 'x', '{{}}')"""
    assert refused(web, event), "a row for somebody else's property was taken"


def test_no_role_has_a_right_on_a_partition(owner: Session) -> None:
    partitions = all_of(owner, "SELECT oid::regclass::text FROM pg_class WHERE relispartition")
    assert len([each for each in partitions if each.startswith("interval_")]) > 2
    rights = owner.execute(
        """SELECT c.relname, r.rolname, p.privilege
           FROM pg_class c, pg_roles r,
                unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p(privilege)
           WHERE c.relispartition AND c.relkind = 'r' AND r.rolname = ANY(%s)
             AND has_table_privilege(r.rolname, c.oid, p.privilege)""",
        [list(ROLES)],
    ).fetchall()
    assert rights == []


def test_a_partition_made_later_has_no_rights_either(books: str, owner: Session) -> None:
    with psycopg.connect(role_dsn(books, "keeper"), autocommit=True) as keeper:
        keeper.execute("SELECT make_month_partitions('2031-01-01', '2031-01-31')")
        assert refused(keeper, "SELECT FROM interval_203101")
        assert refused(keeper, "CREATE TABLE mine (n int)")
    test_no_role_has_a_right_on_a_partition(owner)


def test_every_view_runs_with_the_rights_of_who_asks(owner: Session) -> None:
    views = owner.execute(
        """SELECT relname, coalesce(reloptions, '{}') FROM pg_class
           WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm')"""
    ).fetchall()
    assert [name for name, options in views if "security_invoker=true" not in options] == []


def test_an_auditor_writes_nothing_but_the_record_of_their_own_reading(
    owner: Session,
) -> None:
    writes = owner.execute(
        """SELECT c.relname, p.privilege FROM pg_class c,
                unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p(privilege)
           WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
             AND (has_table_privilege('app_auditor', c.oid, p.privilege)
                  OR p.privilege IN ('INSERT', 'UPDATE')
                     AND has_any_column_privilege('app_auditor', c.oid, p.privilege))"""
    ).fetchall()
    assert writes == [("audit_event", "INSERT")]
    for reader in ("keeper", "witness"):
        own = owner.execute(
            """SELECT c.relname FROM pg_class c
               WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
                 AND has_table_privilege(%s, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')""",
            [reader],
        ).fetchall()
        assert own == [], reader


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO tariff (property_id, code, name) VALUES ({}, 'x', 'x')",
        "UPDATE tariff SET name = 'x'",
        "UPDATE tariff_version SET content = '{{}}'",
        "INSERT INTO tariff_assignment SELECT * FROM tariff_assignment",
        "UPDATE tariff_epoch SET epoch = 0",
        "UPDATE ledger_period SET open_from = '1970-01-01'",
        "UPDATE account SET closed_at = NULL",
        "UPDATE meter SET multiplier = 2",
        "INSERT INTO duty_grant (user_id, property_id, duty, granted_at) SELECT user_id, property_id, duty, granted_at FROM duty_grant",
        "UPDATE app_user SET is_active = true",
        "DELETE FROM transfer",
    ],
)
def test_an_operator_does_not_touch_tariffs_books_or_the_estate(
    web: Session, two: tuple[World, World], statement: str
) -> None:
    here = two[0].property_id
    duty(web, "app_operator", here)
    assert refused(web, statement.format(here))


def columns_of(owner: Session, table: str) -> set[str]:
    return set(
        all_of(
            owner,
            "SELECT column_name::text FROM information_schema.columns WHERE table_name = %s",
            table,
        )
    )


@pytest.fixture
def head_end(books: str) -> Iterator[Session]:
    with psycopg.connect(role_dsn(books, "head_end"), autocommit=True) as session:
        yield session


def test_the_head_end_moves_what_accrues_and_nothing_else_of_an_account(
    owner: Session, head_end: Session, two: tuple[World, World]
) -> None:
    """Column by column, as PostgreSQL itself decides it: the meters' side may not make money."""
    table = columns_of(owner, "account_state") - {"available"}
    may = {
        each
        for each in sorted(table)
        if not refused(head_end, f"UPDATE account_state SET {each} = {each} WHERE false")
    }
    assert may == set(walls.COLUMNS["head_end", "account_state"])
    assert {
        "account_id", "property_id", "legal_entity_id", "posted", "transfer_seq", "purchase_no",
        "posted_interval_no", "posting_no", "spend_per_day", "daily_through", "daily_carry_fee",
        "daily_carry_tax", "collected_through",
    } == table - may  # fmt: skip
    account = two[0].accounts["1001"]
    for change in ("posted = posted + 1", "accrued_energy = 0, transfer_seq = 0"):
        assert refused(head_end, f"UPDATE account_state SET {change} WHERE account_id = {account}")
    assert refused(
        head_end,
        """INSERT INTO account_state (account_id, property_id, legal_entity_id, updated_at)
           VALUES (1000000, 1, 1, now())""",
    )
    assert refused(head_end, "DELETE FROM account_state")
    assert refused(head_end, "TRUNCATE account_state")
    # Its lock, the first of every writer, needs no more than that.
    with head_end.transaction():
        head_end.execute("SELECT FROM account_state ORDER BY account_id FOR NO KEY UPDATE")


def test_a_charge_that_is_added_to_the_account_is_added_to_what_the_head_end_moves(
    owner: Session,
) -> None:
    accruals = {
        each
        for each in columns_of(owner, "account_state")
        if each.startswith(("accrued_", "carry_"))
    }
    assert accruals <= set(walls.COLUMNS["head_end", "account_state"])


def test_raising_the_walls_again_takes_back_what_was_given_before(owner: Session) -> None:
    """A database that was migrated when the head-end still had the whole row, or a column more."""
    may = "SELECT has_column_privilege('head_end', 'account_state', %s, 'UPDATE')"
    passwords = dict.fromkeys(walls.LOGINS, "throwaway")
    with owner.transaction(force_rollback=True), owner.cursor() as cursor:
        cursor.execute("GRANT UPDATE, INSERT ON account_state TO head_end")
        cursor.execute("GRANT UPDATE (posted) ON account_state TO head_end")
        # Whether anything explains these commands is asked now, or their table could not be altered below.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        walls.apply(cursor, passwords=passwords)
        assert all_of(owner, may, "posted") == [False]
        assert all_of(owner, may, "accrued_energy") == [True]
        assert all_of(owner, "SELECT has_table_privilege('head_end', 'account_state', 'INSERT')") == [
            False
        ]  # fmt: skip


def test_no_role_is_more_than_it_must_be(owner: Session) -> None:
    roles = owner.execute(
        """SELECT rolname, rolbypassrls, rolsuper OR rolcreaterole OR rolcreatedb OR rolinherit
           FROM pg_roles WHERE rolname = ANY(%s)""",
        [list(ROLES)],
    ).fetchall()
    assert {name for name, bypasses, _ in roles if bypasses} == {"head_end"}
    assert not any(more for _, _, more in roles)
    for login in walls.LOGINS:
        assert (
            login == "web"
            or not owner.execute(
                "SELECT FROM pg_auth_members WHERE member = %s::regrole", [login]
            ).fetchall()
        )


def test_a_table_without_a_wall_stops_the_migration(owner: Session) -> None:
    with owner.transaction(force_rollback=True):
        owner.execute("CREATE TABLE forgotten (property_id bigint)")
        with owner.cursor() as cursor, pytest.raises(walls.WallMissing, match="forgotten"):
            walls.apply(cursor, passwords={})
