"""Binary COPY from and to numpy columns: no Python object per row.

Format: PostgreSQL documentation, COPY, "Binary Format". Every column is fixed-width and NOT NULL,
so a row is a fixed-size record and a whole batch is one structured array in network byte order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from prewatt.core.civil_time import utc_datetime

#: Microseconds between the Unix epoch and PostgreSQL's (2000-01-01 UTC).
POSTGRES_EPOCH_US = 946_684_800_000_000

_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"
_WIDTH = {"int8": 8, "int4": 4, "int2": 2, "timestamptz": 8}

Column = tuple[str, npt.NDArray[np.integer[Any]]]


def binary_rows(columns: Mapping[str, Column]) -> bytes:
    """The binary COPY image of columns of one length; each is (type name, integers).

    A ``timestamptz`` column is given in µs since the Unix epoch.
    """
    fields: list[tuple[str, str]] = [("n", ">i2")]
    for name, (kind, _) in columns.items():
        fields += [(f"{name}.len", ">i4"), (name, f">i{_WIDTH[kind]}")]
    size = next(iter(columns.values()))[1].size
    rows = np.empty(size, dtype=fields)
    rows["n"] = len(columns)
    for name, (kind, values) in columns.items():
        rows[f"{name}.len"] = _WIDTH[kind]
        rows[name] = values - POSTGRES_EPOCH_US if kind == "timestamptz" else values
    return _SIGNATURE + rows.tobytes() + _TRAILER


def copy_rows(
    connection: psycopg.Connection[Any], table: str, columns: Mapping[str, Column]
) -> int:
    """COPY the columns into ``table`` and return how many rows were written.

    PostgreSQL refuses COPY to a role that row-level security holds for, such as a person who enters
    a reading by hand; their few rows are inserted.
    """
    size = next(iter(columns.values()))[1].size
    if size == 0:
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_security_active(%s)", [table])
        if cursor.fetchone() == (True,):
            return _insert_rows(cursor, table, columns)
        with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(binary_rows(columns))
        written = cursor.rowcount
    if written != size:
        raise AssertionError(f"{size} rows meant for {table}, {written} written")
    return size


def _insert_rows(cursor: psycopg.Cursor[Any], table: str, columns: Mapping[str, Column]) -> int:
    arrays = ", ".join(f"%s::{kind}[]" for kind, _ in columns.values())
    cursor.execute(
        # Names of our own tables and columns, never of a caller's.
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM unnest({arrays})",  # noqa: S608
        [
            [utc_datetime(each) for each in values.tolist()]
            if kind == "timestamptz"
            else values.tolist()
            for kind, values in columns.values()
        ],
    )
    return cursor.rowcount


def read_columns(
    connection: psycopg.Connection[Any],
    query: str,
    parameters: Sequence[object],
    kinds: Mapping[str, str],
) -> dict[str, npt.NDArray[np.int64]]:
    """The rows of a query as int64 columns, by COPY; `kinds` names them in the query's order.

    Every column must be NOT NULL and of one of the fixed widths; a ``timestamptz`` comes back in
    µs since the Unix epoch. A row of another width is refused rather than read askew.
    """
    fields: list[tuple[str, str]] = [("n", ">i2")]
    for name, kind in kinds.items():
        fields += [(f"{name}.len", ">i4"), (name, f">i{_WIDTH[kind]}")]
    layout = np.dtype(fields)
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)", parameters) as copy,
    ):
        image = b"".join(bytes(part) for part in copy)
    body = image[len(_SIGNATURE) : -len(_TRAILER)]
    if len(body) % layout.itemsize:
        raise ValueError("a row of the query has NULLs or columns of other widths")
    rows = np.frombuffer(body, dtype=layout)
    for name, kind in kinds.items():
        if rows.size and not (rows[f"{name}.len"] == _WIDTH[kind]).all():
            raise ValueError(f"column {name} of the query is NULL or not {kind}")
    columns = {name: rows[name].astype(np.int64) for name in kinds}
    for name, kind in kinds.items():
        if kind == "timestamptz":
            columns[name] += POSTGRES_EPOCH_US
    return columns
