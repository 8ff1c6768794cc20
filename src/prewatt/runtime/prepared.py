"""Statements of the hot path: columns as parameters, and some of them prepared once on their connection.

Django's cursors bind on the client, each value by itself. The few statements that run thousands of times
a second go through :func:`execute` instead, on the very same connection and in the very same
transaction. A column of a set is one parameter, an array in PostgreSQL's text form: building it is one
join, where psycopg would adapt every element by itself.

A statement that is prepared keeps its plan, whatever becomes of the tables' sizes; so only those are that
call a function, whose body says by itself how it is planned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, cast

import psycopg
from django.db import connection


def execute(
    statement: str, parameters: Sequence[object], *, prepare: bool = False
) -> psycopg.Cursor[Any]:
    """Run a statement on Django's connection; say each parameter's type by a cast.

    Inside :func:`pipelined` the rows are waited for when they are fetched. ``prepare`` is for a statement
    that calls one function and reads no table.
    """
    with connection.wrap_database_errors:
        return psycopg.Cursor(_driver()).execute(statement, parameters, prepare=prepare)


def fetch(
    statement: str, parameters: Sequence[object], *, prepare: bool = False
) -> list[tuple[Any, ...]]:
    """The rows of a statement."""
    cursor = execute(statement, parameters, prepare=prepare)
    with connection.wrap_database_errors:
        return cursor.fetchall()


def fetch_binary(statement: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
    """The same rows in binary, in which long ``bytea`` values are half as long on their way."""
    with connection.wrap_database_errors:
        return psycopg.Cursor(_driver()).execute(statement, parameters, binary=True).fetchall()


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


def booleans(values: Iterable[bool]) -> str:
    """A column of truths."""
    return "{" + ",".join(["t" if each else "f" for each in values]) + "}"


def moments(values: Iterable[datetime | None]) -> str:
    """A column of instants; None is NULL."""
    said = ["NULL" if each is None else f'"{each.isoformat()}"' for each in values]
    return "{" + ",".join(said) + "}"


def texts(values: Iterable[str | None]) -> str:
    """A column of texts; None is NULL."""
    return "{" + ",".join(["NULL" if each is None else _quoted(each) for each in values]) + "}"


def _quoted(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
