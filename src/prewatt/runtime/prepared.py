"""Statements of the hot path: prepared once on their connection, with columns as parameters.

Django's cursors bind on the client, so PostgreSQL plans each of their statements anew. The few that
run thousands of times a second go through :func:`execute` instead, on the very same connection and
in the very same transaction. A column of a set is one parameter, an array in PostgreSQL's text form:
building it is one join, where psycopg would adapt every element by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, cast

import psycopg
from django.db import connection


def execute(statement: str, parameters: Sequence[object]) -> psycopg.Cursor[Any]:
    """Run a prepared statement on Django's connection; say each parameter's type by a cast.

    Inside :func:`pipelined` the rows are waited for when they are fetched.
    """
    with connection.wrap_database_errors:
        return psycopg.Cursor(_driver()).execute(statement, parameters, prepare=True)


def fetch(statement: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
    """The rows of a prepared statement."""
    cursor = execute(statement, parameters)
    with connection.wrap_database_errors:
        return cursor.fetchall()


def fetch_binary(statement: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
    """The same rows in binary, in which long ``bytea`` values are half as long on their way."""
    with connection.wrap_database_errors:
        cursor = psycopg.Cursor(_driver())
        return cursor.execute(statement, parameters, prepare=True, binary=True).fetchall()


def pipelined() -> AbstractContextManager[object]:
    """Send statements without waiting for the one before; what is fetched is waited for.

    After a failure nothing that follows is done, a COMMIT among it, and leaving raises the failure.
    """
    return _driver().pipeline()


def _driver() -> psycopg.Connection[Any]:
    connection.ensure_connection()
    return cast("psycopg.Connection[Any]", connection.connection)


def integers(values: Iterable[int | None]) -> str:
    """A column of integers; None is NULL."""
    return "{" + ",".join(["NULL" if each is None else str(each) for each in values]) + "}"


def moments(values: Iterable[datetime | None]) -> str:
    """A column of instants; None is NULL."""
    return texts([None if each is None else each.isoformat() for each in values])


def texts(values: Iterable[str | None]) -> str:
    """A column of texts; None is NULL."""
    return "{" + ",".join(["NULL" if each is None else _quoted(each) for each in values]) + "}"


def _quoted(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
