"""The migrated, walled database without rows that every test database is copied from.

``./run check`` has it made once and gives each lane a copy of the whole server.
"""

from __future__ import annotations

from datetime import date, timedelta

import psycopg
from psycopg.conninfo import make_conninfo

#: Every login role has this password in the throw-away server and nowhere else.
ROLE_PASSWORD = "throwaway"
#: The template's name in the server of `./run check`'s lanes.
NAME = "template_of_tests"


def make_template(dsn: str, name: str = NAME) -> None:
    """Make the template ``name`` in the owner's server. Django's connection is left pointing at it, closed."""
    from django.db import connections

    from django_sessions import use_database
    from prewatt import walls
    from prewatt.migrate import migrate

    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    use_database(make_conninfo(dsn, dbname=name))
    passwords = dict.fromkeys(walls.LOGINS, ROLE_PASSWORD)
    migrate(passwords=passwords, today=date(2026, 11, 17))
    # Tests live at times of their own, some of them years ahead. Who tests this bound sets it back.
    with connections["default"].cursor() as cursor:
        walls.let_clock_run_ahead(cursor, timedelta(days=36_500))
    connections["default"].close()
