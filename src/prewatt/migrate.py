"""Brings a database to the present schema: migrations, then the walls, then partitions ahead."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

from django.core.management import call_command
from django.db import connection

from prewatt import walls


def migrate(*, passwords: Mapping[str, str], today: date) -> None:
    """Migrate the default database as its owner; ``passwords`` has one per login role."""
    call_command("migrate", verbosity=0, interactive=False)
    with connection.cursor() as cursor:
        walls.apply(cursor, passwords=passwords)
        cursor.execute(
            "SELECT make_month_partitions(%s, %s)",
            [today - timedelta(days=120), today + timedelta(days=62)],
        )
