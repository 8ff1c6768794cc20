"""One database for a whole module: every check stands on a property of its own in it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from django_sessions import use_database


@pytest.fixture(scope="module")
def books(postgres_dsn: str, template_database: str) -> Iterator[str]:
    """The owner's DSN of a migrated database; Django's connections use it."""
    from django.db import connections

    name = f"books_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_dsn, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
        dsn = make_conninfo(postgres_dsn, dbname=name)
        use_database(dsn)
        yield dsn
        connections.close_all()
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")
