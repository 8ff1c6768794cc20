"""Signed-in browsers without a browser: the test client, as the web's own login."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from fernmoor import NOW, Fernmoor, use_database, web_login


@pytest.fixture(scope="session")
def laid_out(postgres_dsn: str, template_database: str) -> tuple[str, Fernmoor]:
    """A database with the property in it, to be copied for each test, and its ids."""
    from django.db import connections, transaction

    name = f"fernmoor_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    use_database(make_conninfo(postgres_dsn, dbname=name))
    with transaction.atomic():
        place = Fernmoor()
    with connections["default"].cursor() as cursor:
        cursor.execute("ANALYZE")
    connections.close_all()
    return name, place


@pytest.fixture
def fernmoor(postgres_dsn: str, laid_out: tuple[str, Fernmoor]) -> Iterator[Fernmoor]:
    """The property in a database of this test's own, with the web's clock at half past two."""
    from django.db import connections

    from prewatt.web import clock
    from prewatt.web.ui import messages

    messages.compile_all()
    clock.use(lambda: NOW)
    name = f"test_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {laid_out[0]}")
        place = copy.copy(laid_out[1])
        place.dsn = make_conninfo(postgres_dsn, dbname=name)
        # As in production: outside a scope the web's login sees no business row at all.
        use_database(web_login(place.dsn))
        yield place
        connections.close_all()
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def as_owner() -> Callable[[Fernmoor], AbstractContextManager[None]]:
    """Write past the walls for a moment, as another process would have."""

    @contextmanager
    def past_the_walls(place: Fernmoor) -> Iterator[None]:
        use_database(place.dsn)
        yield
        use_database(web_login(place.dsn))

    return past_the_walls


@pytest.fixture
def sign_in() -> Callable[..., object]:
    """Return a client that is signed in with a duty, in a language."""
    from django.test import Client

    from prewatt.access.models import User

    def signed_in(place: Fernmoor, duty: str = "administrator", language: str = "en") -> Client:
        client = Client(headers={"host": "localhost"})
        client.force_login(User.objects.get(pk=place.users[duty]))
        client.cookies["prewatt_language"] = language
        return client

    return signed_in
