"""Django's connection at the test databases: where it points, and what of it waits for the next test.

A new session costs a test twice: signing in, and reading the catalogue of every table that it touches anew.
So the session that a test leaves in order waits for another test at the same database with the same
login. Nothing of the test stays on it but plans of what it prepared.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

import psycopg
from django.db import connections
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

#: What it counted is told at once, as at its end: by that it is known which tables have other rows.
_AS_NEW: Final = """
SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all();
DISCARD TEMP; DISCARD SEQUENCES; SELECT pg_stat_force_next_flush()
"""

_waiting: Final[dict[str, psycopg.Connection[Any]]] = {}


def use_database(dsn: str) -> None:
    """Point Django's connection of this thread at a database, under the login that the DSN names."""
    # Its module reads the environment that conftest sets first.
    from prewatt.settings import _database

    leave_database()
    connection = connections["default"]
    connection.settings_dict.update(_database(dsn))

    def session(parameters: dict[str, Any]) -> psycopg.Connection[Any]:
        kept = _take(dsn)
        if kept is None:
            return type(connection).get_new_connection(connection, parameters)
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return kept

    connection.get_new_connection = session
    connection.kept_for = dsn


def leave_database() -> None:
    """Take Django's connections of this thread from their databases, and let the session there wait."""
    connection = connections["default"]
    session, dsn = connection.connection, getattr(connection, "kept_for", None)
    is_broken = connection.in_atomic_block or connection.errors_occurred
    if dsn is not None and session is not None and not is_broken and _put(dsn, session):
        connection.connection = None
    connections.close_all()


def waiting_pids(database: str) -> list[int]:
    """The server's processes of the sessions that wait at a database."""
    return [_waiting[dsn].info.backend_pid for dsn in _of(database)]


def forget(database: str) -> None:
    """Close the sessions that wait at a database, since it goes."""
    for dsn in _of(database):
        _waiting.pop(dsn).close()


def forget_all() -> None:
    """Close every session that waits."""
    while _waiting:
        _waiting.popitem()[1].close()


def _of(database: str) -> list[str]:
    return [dsn for dsn in _waiting if conninfo_to_dict(dsn)["dbname"] == database]


def _put(dsn: str, session: psycopg.Connection[Any]) -> bool:
    """Keep the session, as if it had just begun, unless there is one or it is not in order."""
    is_idle = session.info.transaction_status is TransactionStatus.IDLE
    if dsn in _waiting or not is_idle or not session.autocommit:
        return False
    try:
        session.execute(_AS_NEW, prepare=False)
    except psycopg.Error:
        return False
    _waiting[dsn] = session
    return True


def _take(dsn: str) -> psycopg.Connection[Any] | None:
    """The session that waits, if the server has not ended it meanwhile."""
    # A module of the program, which only runs once conftest has set the environment.
    from prewatt.billing import dues

    session = _waiting.pop(dsn, None)
    if session is None:
        return None
    # What was known of the properties of another test must not be taken for this one's.
    dues._silent.pop(session, None)
    with contextlib.suppress(psycopg.Error):
        session.execute("SELECT", prepare=False)
        return session
    session.close()
    return None
