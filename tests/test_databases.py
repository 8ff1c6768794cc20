"""What a test changes besides rows ends its database; rows alone are brought back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from databases import TestDatabases, _changes

#: Each changes what rows cannot bring back.
CHANGES = (
    "ALTER TABLE meter ADD COLUMN test_column integer",
    "ALTER TABLE meter DISABLE TRIGGER ALL",
    "TRUNCATE meter CASCADE",
    "GRANT DELETE ON meter TO web",
    "CREATE FUNCTION test_function() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA test_schema",
    "ALTER TABLE meter FORCE ROW LEVEL SECURITY",
    "ALTER TABLE meter ADD CONSTRAINT test_constraint CHECK (true)",
    "CREATE POLICY test_policy ON meter USING (true)",
    "ALTER ROLE web IN DATABASE {} SET work_mem = '1MB'",
    "DELETE FROM auth_permission",
    "DELETE FROM django_migrations",
)


@pytest.fixture(scope="module")
def databases(postgres_dsn: str, template_database: str) -> Iterator[TestDatabases]:
    """Databases of this file alone."""
    with closing(TestDatabases(postgres_dsn, template_database)) as databases:
        yield databases


def test_a_test_may_end_every_session(databases: TestDatabases) -> None:
    dsn = databases.take()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO organisation (name) VALUES ('Left behind')")
        connection.execute(
            """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()"""
        )
    databases.give_back(dsn)
    assert databases.take() == dsn
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM organisation").fetchone() == (0,)
    databases.give_back(dsn)


def test_rows_alone_are_brought_back_and_the_database_is_kept(databases: TestDatabases) -> None:
    dsn = databases.take()
    for _ in range(2):
        with psycopg.connect(dsn) as connection:
            connection.execute("INSERT INTO organisation (name) VALUES ('Left behind')")
        databases.give_back(dsn)
        assert databases.take() == dsn
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT count(*) FROM organisation").fetchone() == (0,)
    databases.give_back(dsn)


def test_whatever_else_a_test_may_change_has_its_facts_gathered(databases: TestDatabases) -> None:
    dsn = databases.take()
    with psycopg.connect(dsn, autocommit=True) as connection:
        for change in CHANGES:
            before = _changes(connection)
            # What is rolled back counts as well, and leaves the database to the next.
            with connection.transaction(force_rollback=True):
                connection.execute(change.format(connection.info.dbname))
            assert _changes(connection) != before, change
    databases.give_back(dsn)
    assert databases.take() == dsn
    with psycopg.connect(dsn) as connection:
        connection.execute("ALTER TABLE meter FORCE ROW LEVEL SECURITY")
    databases.give_back(dsn)
    assert databases.take() != dsn
