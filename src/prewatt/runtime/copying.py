"""Numpy columns into tables by binary COPY, and out of queries as arrays: no Python object per row.

Format: PostgreSQL documentation, COPY, "Binary Format". Every column is fixed-width and NOT NULL,
so a row is a fixed-size record and a whole batch is one structured array in network byte order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format

from prewatt.core.civil_time import utc_datetime

#: Microseconds between the Unix epoch and PostgreSQL's (2000-01-01 UTC).
POSTGRES_EPOCH_US = 946_684_800_000_000
#: How ``infinity`` comes out of a query as an instant.
INFINITY_US = 2**63 - 1

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
    connection: psycopg.Connection[Any],
    table: str,
    columns: Mapping[str, Column],
    *,
    is_free: bool = False,
) -> int:
    """COPY the columns into ``table`` and return how many rows were written.

    PostgreSQL refuses COPY to a role that row-level security holds for, such as a person who enters
    a reading by hand; their few rows are inserted. Who ``is_free`` of it, and knows, is not asked.
    """
    size = next(iter(columns.values()))[1].size
    if size == 0:
        return 0
    with connection.cursor() as cursor:
        if not is_free:
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


class ArrayOf:
    """A column of integers as one array parameter of a statement, sent in binary.

    ``kind`` is the elements' type; a ``timestamptz`` column is given in µs since the Unix epoch.
    Only cursors of :func:`column_cursor` know it.
    """

    def __init__(self, kind: str, values: npt.NDArray[np.integer[Any]]) -> None:
        self.kind = kind
        self.values = values

    def image(self) -> bytes:
        """What ``array_recv`` takes."""
        header = np.zeros(1, dtype=_ARRAY_HEADER)
        header["ndim"], header["oid"] = 1, _ELEMENT_OIDS[self.kind]
        header["n"], header["low"] = self.values.size, 1
        elements = np.empty(self.values.size, dtype=_element(self.kind))
        elements["len"] = _WIDTH[self.kind]
        shift = POSTGRES_EPOCH_US if self.kind == "timestamptz" else 0
        values = self.values
        if self.kind == "timestamptz":
            values = np.where(values == INFINITY_US, INFINITY_US, values - shift)
        elements["value"] = values
        return header.tobytes() + elements.tobytes()


def column_cursor(connection: psycopg.Connection[Any]) -> psycopg.Cursor[Any]:
    """A cursor that binds on the server and takes :class:`ArrayOf`; Django's bind on the client."""
    cursor = psycopg.Cursor(connection)
    cursor.adapters.register_dumper(ArrayOf, _ArrayDumper)
    return cursor


class _ArrayDumper(Dumper):
    """Hands an array over as it is; PostgreSQL knows its type by the statement's cast."""

    format = Format.BINARY

    def dump(self, obj: ArrayOf) -> bytes:
        """The array's image."""
        return obj.image()


def read_columns(
    connection: psycopg.Connection[Any],
    query: str,
    parameters: Sequence[object],
    kinds: Mapping[str, str],
) -> dict[str, npt.NDArray[np.int64]]:
    """The rows of a query as int64 columns; `kinds` names them, with the types the query gives.

    PostgreSQL gathers each column into one array and sends it in binary, so that no row becomes a
    Python object; rows come in the query's order. A ``timestamptz`` comes back in µs since the
    Unix epoch, ``infinity`` as :data:`INFINITY_US`; a parameter may be an :class:`ArrayOf`. Raises ValueError for a NULL or a type other than said.
    """
    gathered = ", ".join(f"array_agg({name})" for name in kinds)
    with column_cursor(connection) as cursor:
        for oid in _ARRAY_OIDS.values():
            cursor.adapters.register_loader(oid, _RawArray)
        # Names of our own columns, never of a caller's.
        cursor.execute(f"SELECT {gathered} FROM ({query}) AS rows", parameters, binary=True)  # noqa: S608
        row = cursor.fetchone()
    assert row is not None
    return {
        name: _elements(image, name, kind)
        for (name, kind), image in zip(kinds.items(), row, strict=True)
    }


def read_groups(
    connection: psycopg.Connection[Any],
    query: str,
    parameters: Sequence[object],
    keys: Sequence[str],
    kinds: Mapping[str, str],
) -> dict[str, npt.NDArray[np.int64]]:
    """As `read_columns`, of a query whose rows are groups: the `keys`, then an array for each of
    `kinds`. Columns are joined in order of the keys, which are repeated along them.

    Many small arrays cost PostgreSQL half of what a few large ones do: their memory is used again
    from group to group, where a large one has to be grown, copied and faulted in.
    """
    with psycopg.Cursor(connection) as cursor:
        for oid in _ARRAY_OIDS.values():
            cursor.adapters.register_loader(oid, _RawArray)
        cursor.execute(query, parameters, binary=True)
        rows = sorted(cursor.fetchall(), key=lambda row: row[: len(keys)])
    none = [np.zeros(0, dtype=np.int64)]
    columns = {
        name: np.concatenate([_elements(row[len(keys) + at], name, kind) for row in rows] or none)
        for at, (name, kind) in enumerate(kinds.items())
    }
    sizes = [
        int(np.frombuffer(row[len(keys)], dtype=_ARRAY_HEADER, count=1)[0]["n"]) for row in rows
    ]
    for at, name in enumerate(keys):
        columns[name] = np.repeat(np.array([row[at] for row in rows], dtype=np.int64), sizes)
    return columns


_ARRAY_OIDS = {"int8": 1016, "int4": 1007, "int2": 1005, "timestamptz": 1185}
#: ndim, flags (1: has NULLs), element type, length, lower bound: ``array_send``'s header.
_ARRAY_HEADER = np.dtype([("ndim", ">i4"), ("nulls", ">i4"), ("oid", ">u4"), ("n", ">i4"), ("low", ">i4")])  # fmt: skip
_ELEMENT_OIDS = {"int8": 20, "int4": 23, "int2": 21, "timestamptz": 1184}


class _RawArray(Loader):
    """Leaves a binary array as it came."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        """The bytes themselves."""
        return bytes(data)


def _elements(image: bytes | None, name: str, kind: str) -> npt.NDArray[np.int64]:
    """The elements of a binary array as sent by PostgreSQL; None is an array of no rows."""
    if image is None:
        return np.zeros(0, dtype=np.int64)
    if not isinstance(image, bytes):
        raise ValueError(f"column {name} of the query is not {kind}")
    header = np.frombuffer(image, dtype=_ARRAY_HEADER, count=1)[0]
    if header["nulls"] or int(header["oid"]) != _ELEMENT_OIDS[kind]:
        raise ValueError(f"column {name} of the query has NULLs or is not {kind}")
    values = np.frombuffer(image, dtype=_element(kind), offset=_ARRAY_HEADER.itemsize)["value"]
    found: npt.NDArray[np.int64] = values.astype(np.int64)
    if kind == "timestamptz":
        endless = found == INFINITY_US
        found += POSTGRES_EPOCH_US
        found[endless] = INFINITY_US
    return found


def record_type(columns: Mapping[str, str]) -> np.dtype[Any]:
    """A row of ``columns`` (name to type, none of them NULL) as PostgreSQL's ``record_send`` images it:
    how many columns, then the type, length and value of each, in network byte order.

    A field is called as its column; instants are in µs since 2000-01-01 (:data:`POSTGRES_EPOCH_US`).
    """
    fields: list[tuple[str, str]] = [("n", ">i4")]
    for name, kind in columns.items():
        fields += [(f"{name}.oid", ">u4"), (f"{name}.len", ">i4"), (name, f">i{_WIDTH[kind]}")]
    return np.dtype(fields)


def record_images(columns: Mapping[str, Column]) -> npt.NDArray[Any]:
    """What ``record_send`` makes of each row of columns of one length.

    A ``timestamptz`` column is given in µs since the Unix epoch.
    """
    kinds = {name: kind for name, (kind, _) in columns.items()}
    size = next(iter(columns.values()))[1].size
    images = np.empty(size, dtype=record_type(kinds))
    images["n"] = len(columns)
    for name, (kind, values) in columns.items():
        images[f"{name}.oid"], images[f"{name}.len"] = _ELEMENT_OIDS[kind], _WIDTH[kind]
        images[name] = values - POSTGRES_EPOCH_US if kind == "timestamptz" else values
    return images


def read_records(image: bytes, columns: Mapping[str, str]) -> npt.NDArray[Any]:
    """The rows whose ``record_send`` images follow one another. Raises ValueError for others."""
    row = record_type(columns)
    if len(image) % row.itemsize:
        raise ValueError("the records are not of these columns")
    records = np.frombuffer(image, dtype=row)
    kinds = [
        (records[f"{name}.oid"] != _ELEMENT_OIDS[kind]).any() for name, kind in columns.items()
    ]
    nulls = [(records[f"{name}.len"] != _WIDTH[kind]).any() for name, kind in columns.items()]
    if any(kinds) or any(nulls):
        raise ValueError("a column of the records is NULL or of another type")
    return records


def _element(kind: str) -> np.dtype[Any]:
    return np.dtype([("len", ">i4"), ("value", f">i{_WIDTH[kind]}")])
