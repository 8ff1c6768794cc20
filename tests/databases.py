"""Test databases: copied from a template once, brought back to it after each test, used by the next.

To copy a template costs ten times what most tests do, since PostgreSQL writes some four hundred files
for it. So a database in which a test has only written rows gets its rows back and is kept. One whose
schema, grants, policies or settings differ afterwards is dropped, whoever changed them and why: what
`_FACTS` does not see a test must not change.
"""

from __future__ import annotations

import secrets

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import django_sessions

#: What migrations wrote; a test that writes there gets a database of its own, too.
_SEEDED = ("auth_permission", "django_content_type", "django_migrations")

_VACUUM_EVERY = 25

#: Everything but rows that a test can change in its database.
_FACTS = """
SELECT md5(string_agg(fact, chr(10) ORDER BY fact)) FROM (
    SELECT concat_ws('|', 'class', oid, relname, relkind, relrowsecurity, relforcerowsecurity,
                     relowner, relacl, reloptions, relfilenode)
    FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws('|', 'column', attrelid, attname, atttypid, attnotnull, attacl)
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
    WHERE relnamespace = 'public'::regnamespace AND attnum > 0
    UNION ALL
    SELECT concat_ws('|', 'function', oid, proname, proowner, prosecdef, proacl, proconfig, prosrc)
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws('|', 'constraint', oid, conname, convalidated, conbin)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws('|', 'policy', oid, polname, polroles, polqual, polwithcheck) FROM pg_policy
    UNION ALL
    SELECT concat_ws('|', 'trigger', oid, tgname, tgenabled) FROM pg_trigger
    UNION ALL
    SELECT concat_ws('|', 'schema', nspname, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL
    SELECT concat_ws('|', 'setting', setdatabase, setrole, setconfig) FROM pg_db_role_setting
    UNION ALL
    SELECT concat_ws('|', 'seed', seed) FROM (
        SELECT auth_permission::text FROM auth_permission
        UNION ALL SELECT django_content_type::text FROM django_content_type
        UNION ALL SELECT django_migrations::text FROM django_migrations) AS rows(seed)
) AS facts(fact)
"""

#: How often anything was written where `_FACTS` looks, and since when that is counted: a crash forgets it.
_CHANGES = """
SELECT concat_ws('|', (SELECT stats_reset FROM pg_stat_bgwriter), string_agg(concat_ws('|',
           pg_stat_get_tuples_inserted(oid), pg_stat_get_tuples_updated(oid),
           pg_stat_get_tuples_deleted(oid)), ' ' ORDER BY oid))
FROM unnest('{pg_class,pg_attribute,pg_proc,pg_constraint,pg_policy,pg_trigger,pg_namespace,
              pg_db_role_setting,auth_permission,django_content_type,django_migrations
             }'::regclass[]) AS watched(oid)
"""

#: The tables in the order of their numbers, which are the template's own.
_TABLES = """
SELECT array_agg(relname::text ORDER BY oid), array_agg(oid ORDER BY oid) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
"""

#: Rows written to each table since the database was made, rolled back or not. The statistics are asked
#: table by table: the view over them all looks at indexes and names as well and takes four times as long.
_COUNTS = """
SELECT array_agg(pg_stat_get_tuples_inserted(oid) + pg_stat_get_tuples_updated(oid)
                 + pg_stat_get_tuples_deleted(oid) ORDER BY place)
FROM unnest(%s::oid[]) WITH ORDINALITY AS watched(oid, place)
"""

_COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum
"""

#: Each sequence, the value it begins with or had last, and whether it was ever asked.
_SEQUENCES = """
SELECT array_agg(seqrelid ORDER BY seqrelid),
       array_agg(coalesce(pg_sequence_last_value(seqrelid), seqstart) ORDER BY seqrelid),
       array_agg(pg_sequence_last_value(seqrelid) IS NOT NULL ORDER BY seqrelid)
FROM pg_sequence JOIN pg_class c ON c.oid = seqrelid WHERE relnamespace = 'public'::regnamespace
"""

#: Those that were asked since are set back; a sequence that nobody asked keeps still.
_SET_BACK = """
SELECT count(setval(seqrelid::regclass, value, was_asked))
FROM unnest({}::oid[], {}::bigint[], {}::boolean[]) AS kept(seqrelid, value, was_asked)
WHERE pg_sequence_last_value(seqrelid) IS DISTINCT FROM CASE WHEN was_asked THEN value END
"""


def keep_rows(dsn: str) -> None:
    """Copy every table of a template that has rows, so that its databases can be brought back to it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA kept")
        for name in _tables_with_rows(connection):
            connection.execute(
                sql.SQL("CREATE TABLE kept.{0} AS TABLE public.{0}").format(sql.Identifier(name))
            )


def _tables_with_rows(connection: psycopg.Connection) -> list[str]:
    rows = connection.execute(
        """SELECT relname FROM pg_class
           WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
             AND relname <> ALL (%s) AND pg_relation_size(oid) > 0 ORDER BY relname""",
        [list(_SEEDED)],
    )
    return [row[0] for row in rows]


class TestDatabases:
    """The databases of one test session on one server; one test has one at a time."""

    __test__ = False

    def __init__(self, server_dsn: str, template: str) -> None:
        self._server_dsn = server_dsn
        self._template = template
        self._spare: str | None = None
        self._facts = ""
        self._changes = ""
        self._sizes: list[tuple[str, int]] = []
        self._tables: tuple[list[str], list[int]] = ([], [])
        self._set_back = sql.SQL("SELECT")
        self._counts: dict[str, int] = {}
        self._kept: dict[str, sql.Composed] = {}
        self._given_back = 0
        #: The owner's session at each database. It stays open between the tests: a new one would read
        #: the catalogue of every table anew, which costs more than all that is then done.
        self._sessions: dict[str, psycopg.Connection] = {}

    def take(self) -> str:
        """The owner's DSN of a database as the template is."""
        if self._spare is not None:
            name, self._spare = self._spare, None
            return self._dsn(name)
        name = f"test_{secrets.token_hex(4)}"
        self._command(sql.SQL("CREATE DATABASE {} TEMPLATE {}"), name, self._template)
        connection = self._session(name)
        if not self._facts:
            self._facts = _facts(connection)
            self._tables = _tables(connection)
            self._set_back = _set_back(connection)
            self._kept = _kept(connection)
            self._sizes = _sizes(connection)
        self._counts = _counts(connection, self._tables)
        self._changes = ""
        return self._dsn(name)

    def give_back(self, dsn: str) -> None:
        """Make the database what it was for the next test; drop it if more than rows was changed."""
        name = str(conninfo_to_dict(dsn)["dbname"])
        connection = self._session(name)
        _end_other_sessions(connection, name)
        is_as_before = self._has_only_other_rows(connection)
        if is_as_before:
            self._bring_back_rows(connection)
            # What a session wrote whose statistics came late, or that came back, is found here.
            is_as_before = _sizes(connection) == self._sizes
        if is_as_before:
            self._spare = name
        else:
            self._drop(name)

    def _has_only_other_rows(self, connection: psycopg.Connection) -> bool:
        """Whether the facts are the template's; they are gathered only if something was written there.

        To gather them costs more than all else that is done between two tests.
        """
        changes = _changes(connection)
        if changes == self._changes:
            return True
        self._changes = changes
        return _facts(connection) == self._facts

    def drop(self, dsn: str) -> None:
        """Drop a database that was kept for longer than a test, while other tests had theirs."""
        self._drop(str(conninfo_to_dict(dsn)["dbname"]))

    def _session(self, name: str) -> psycopg.Connection:
        """The owner's session at a database, opened anew if a test has ended it with all others."""
        session = self._sessions.get(name)
        if session is not None:
            try:
                session.execute("SELECT")
                return session
            except psycopg.OperationalError:
                session.close()
        session = psycopg.connect(self._dsn(name), autocommit=True, prepare_threshold=None)
        self._sessions[name] = session
        return session

    def close(self) -> None:
        """End the sessions that are still open."""
        while self._sessions:
            self._sessions.popitem()[1].close()

    def _drop(self, name: str) -> None:
        if session := self._sessions.pop(name, None):
            session.close()
        django_sessions.forget(name)
        self._command(sql.SQL("DROP DATABASE {} WITH (FORCE)"), name)

    def _bring_back_rows(self, connection: psycopg.Connection) -> None:
        """Put back the rows of every table that was written to, and every sequence.

        DELETE and not TRUNCATE, which makes a new file for each table and index. All goes in one
        message, since the way to the server and back is most of what each statement costs; now and
        then the tables are vacuumed, to be as short as before.
        """
        counts = _counts(connection, self._tables)
        written = [name for name, count in counts.items() if count != self._counts.get(name, 0)]
        statements = [
            sql.SQL("BEGIN; SET LOCAL session_replication_role = replica"),
            self._set_back,
        ]
        statements += [sql.SQL("DELETE FROM {}").format(sql.Identifier(name)) for name in written]
        statements += [self._kept[name] for name in written if name in self._kept]
        statements += [sql.SQL("COMMIT")]
        connection.execute(sql.SQL("; ").join(statements))
        self._given_back += 1
        if written and self._given_back % _VACUUM_EVERY == 0:
            connection.execute("VACUUM")
        self._counts = _counts(connection, self._tables)

    def _dsn(self, name: str) -> str:
        return make_conninfo(self._server_dsn, dbname=name)

    def _command(self, command: sql.SQL, *names: str) -> None:
        with psycopg.connect(self._server_dsn, autocommit=True) as connection:
            connection.execute(command.format(*(sql.Identifier(name) for name in names)))


def _facts(connection: psycopg.Connection) -> str:
    row = connection.execute(_FACTS).fetchone()
    assert row is not None
    return str(row[0])


def _changes(connection: psycopg.Connection) -> str:
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(_CHANGES).fetchone()
    assert row is not None
    return str(row[0])


def _tables(connection: psycopg.Connection) -> tuple[list[str], list[int]]:
    """The names of the tables, and their numbers."""
    row = connection.execute(_TABLES).fetchone()
    assert row is not None
    return row[0], row[1]


def _counts(connection: psycopg.Connection, tables: tuple[list[str], list[int]]) -> dict[str, int]:
    names, oids = tables
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(_COUNTS, [oids]).fetchone()
    assert row is not None
    return dict(zip(names, row[0], strict=True))


def _sizes(connection: psycopg.Connection) -> list[tuple[str, int]]:
    """How many rows each table has that is not empty."""
    names = _tables_with_rows(connection)
    if not names:
        return []
    each = sql.SQL("SELECT {}, count(*) FROM {}")
    counts = sql.SQL(" UNION ALL ").join(
        each.format(sql.Literal(name), sql.Identifier(name)) for name in names
    )
    return sorted(row for row in connection.execute(counts).fetchall() if row[1])


def _set_back(connection: psycopg.Connection) -> sql.SQL:
    """The statement that brings every sequence to where it is now."""
    row = connection.execute(_SEQUENCES).fetchone()
    assert row is not None
    return sql.SQL(sql.SQL(_SET_BACK).format(*(list(column) for column in row)).as_string())


def _end_other_sessions(connection: psycopg.Connection, name: str) -> None:
    """End what a test's threads and processes left behind, and wait until it is gone."""
    connection.execute(
        """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
           WHERE datname = current_database() AND pid <> pg_backend_pid() AND pid <> ALL (%s)""",
        [django_sessions.waiting_pids(name)],
    )


def _kept(connection: psycopg.Connection) -> dict[str, sql.Composed]:
    """How the kept rows of each table are put back."""
    rows = connection.execute(
        """SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = to_regnamespace('kept')"""
    ).fetchall()
    return {name: _put_back(connection, name) for (name,) in rows}


def _put_back(connection: psycopg.Connection, name: str) -> sql.Composed:
    columns = [row[0] for row in connection.execute(_COLUMNS, [f"public.{name}"])]
    return sql.SQL("INSERT INTO {0} ({1}) OVERRIDING SYSTEM VALUE SELECT {1} FROM kept.{0}").format(
        sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
