"""Brings a database to the present schema: migrations, then the walls, then partitions ahead.

A database that was brought there can carry a stamp of all that decided it, so that the demo's next
start sees at a glance that nothing changed and need not set Django up for it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from prewatt.runtime.state import CannotRunError

_PACKAGE = Path(__file__).resolve().parent
_STAMP = "prewatt schema "
_WEB_CONNECTIONS = "PREWATT_WEB_CONNECTIONS"


def migrate(*, passwords: Mapping[str, str], today: date) -> None:
    """Migrate the default database as its owner; ``passwords`` has one per login role.

    Where ``today`` has not come yet, the database's clock runs ahead by as much.
    """
    from django.core.management import call_command
    from django.db import connection

    from prewatt import walls

    with connection.cursor() as cursor:
        # What a migration changes is not noted row by row: this says below that it was made.
        cursor.execute("SELECT set_config('prewatt.migrating', 'yes', false)")
        before = _applied(cursor)
    call_command("migrate", verbosity=0, interactive=False)
    with connection.cursor() as cursor:
        _record_migrations(cursor, sorted(_applied(cursor) - before))
        walls.apply(cursor, passwords=passwords, web_connections=_web_connections())
        walls.let_clock_run_ahead(cursor, today - datetime.now(UTC).date())
        cursor.execute(
            "SELECT make_month_partitions(%s, %s)",
            [today - timedelta(days=120), today + timedelta(days=62)],
        )
        cursor.execute("SELECT set_config('prewatt.migrating', '', false)")


def _applied(cursor: Any) -> set[str]:
    """The migrations that were made by now; none in a new database."""
    cursor.execute("SELECT to_regclass('django_migrations') IS NOT NULL")
    if cursor.fetchone() != (True,):
        return set()
    cursor.execute("SELECT app || '.' || name FROM django_migrations")
    return {str(row[0]) for row in cursor.fetchall()}


def _record_migrations(cursor: Any, made: Sequence[str]) -> None:
    """Tell every property's audit which migrations its tables went through."""
    if made:
        cursor.execute(
            """INSERT INTO audit_event (property_id, happened_at, actor, code, subject, detail)
               SELECT id, clock_timestamp(), 'system:migrate', 'system.schema.migrated',
                      'property:' || id, jsonb_build_object('migrations', %s::text[])
               FROM property""",
            [list(made)],
        )


def _web_connections() -> int:
    """How many connections the web's login gets. Raises CannotRunError for what is no number above zero."""
    from prewatt.walls import WEB_CONNECTIONS

    given = os.environ.get(_WEB_CONNECTIONS, str(WEB_CONNECTIONS))
    if not given.isdecimal() or not 0 < int(given) < 2**31:
        raise CannotRunError(f"{_WEB_CONNECTIONS}={given!r} is no number of connections")
    return int(given)


def stamp_of(*, passwords: Mapping[str, str], today: date) -> str:
    """What :func:`migrate` would do, as one line: its code, its SQL, the passwords, the month.

    The passwords are random and long, so their digest tells nobody anything.
    """
    digest = hashlib.sha256(importlib.metadata.version("django").encode())
    parts = [_PACKAGE / "migrate.py", *sorted(_PACKAGE.glob("walls/*.py"))]
    parts += sorted([*_PACKAGE.glob("*/migrations/*.py"), *_PACKAGE.glob("*/sql/*.sql")])
    for path in parts:
        digest.update(str(path.relative_to(_PACKAGE)).encode() + b"\0" + path.read_bytes() + b"\0")
    for role, password in sorted(passwords.items()):
        digest.update(f"{role}\0{password}\0".encode())
    digest.update(f"{today:%Y-%m}\0{_web_connections()}".encode())
    return _STAMP + digest.hexdigest()


def is_stamped(connection: psycopg.Connection, stamp: str) -> bool:
    """Whether the database was left with this stamp."""
    row = connection.execute("SELECT obj_description('public'::regnamespace)").fetchone()
    return row is not None and row[0] == stamp


def leave_stamp(connection: psycopg.Connection, stamp: str) -> None:
    """Stamp the database; as its owner, after :func:`migrate`."""
    from prewatt import walls

    with connection.cursor() as cursor, walls.own_commands(cursor):
        cursor.execute(sql.SQL("COMMENT ON SCHEMA public IS {}").format(sql.Literal(stamp)))
