"""A month of readings or intervals as a Parquet file: written from COPY, read back, digested.

Every column is a whole number or an instant and none is NULL, so a row is a fixed-size record in COPY's
binary format, and a block of rows becomes numpy and Arrow columns without a Python object per value.
Memory is bounded by one row group. Formats: Apache Parquet; PostgreSQL documentation, COPY, "Binary
Format"; ``record_send`` (count of columns, then type, length and value of each).
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg.abc import Buffer

from prewatt.runtime.copying import POSTGRES_EPOCH_US, record_images

#: Rows of a row group: some 30 MB of them in memory, and what a look at one account has to read.
GROUP_ROWS: Final = 131_072
_BEGIN_BYTES: Final = 19
"""COPY's signature, flags and the length of an empty extension."""
_TRAILER: Final = b"\xff\xff"
_WIDTH: Final = {"int8": 8, "int4": 4, "int2": 2, "timestamptz": 8}
_ARROW: Final = {
    "int8": pa.int64(), "int4": pa.int32(), "int2": pa.int16(),
    "timestamptz": pa.timestamp("us", tz="UTC"),
}  # fmt: skip


DIGEST_VERSION: Final = 2
"""How the digests of new files are made; ``archived_partition.digest_version`` says how each one was."""


class ArchiveUnreadable(Exception):
    """A file is not what a month's file is; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a table's file in order, with their types in PostgreSQL.

    The first ``key_columns`` are the order of the rows; those of one ``group`` are digested together.
    """

    base: str
    columns: Mapping[str, str]
    key_columns: int
    group: Sequence[str]
    time: str
    sums: Sequence[str]

    @property
    def key(self) -> list[str]:
        """The names of the columns that the rows are sorted by."""
        return list(self.columns)[: self.key_columns]

    def file_name(self, month: str) -> str:
        """``interval-202608.parquet`` for ``202608``."""
        return f"{self.base}-{month}.parquet"

    def schema(self) -> pa.Schema:
        """The file's schema; nothing is nullable."""
        return pa.schema(
            [pa.field(name, _ARROW[kind], nullable=False) for name, kind in self.columns.items()]
        )


INTERVAL: Final = Layout(
    base="interval",
    columns={
        "account_id": "int8", "meter_id": "int8", "register_code": "int2",
        "start_at": "timestamptz", "revision": "int2", "segment": "int2", "property_id": "int8",
        "interval_no": "int8", "from_at": "timestamptz", "to_at": "timestamptz",
        "start_value_wh": "int8", "end_value_wh": "int8", "multiplier": "int4",
        "energy_wh": "int8", "quality": "int2", "source": "int2", "received_at": "timestamptz",
        "tariff_version_id": "int8", "band": "int2", "step": "int2", "price_nano": "int8",
        "charge_energy": "int8", "charge_standing": "int8", "charge_tax": "int8",
        "charge_fee": "int8", "charge_demand": "int8", "charge_subsidy": "int8",
        "rest_energy": "int4", "rest_fee": "int4", "rest_tax": "int4", "rest_subsidy": "int4",
    },
    key_columns=6,
    group=("account_id", "meter_id"),
    time="start_at",
    sums=(
        "energy_wh", "charge_energy", "charge_standing", "charge_tax", "charge_fee",
        "charge_demand", "charge_subsidy",
    ),
)  # fmt: skip
READING: Final = Layout(
    base="register_reading",
    columns={
        "meter_id": "int8", "register_code": "int2", "read_at": "timestamptz", "revision": "int2",
        "property_id": "int8", "account_id": "int8", "value_wh": "int8", "quality": "int2",
        "source": "int2", "received_at": "timestamptz",
    },
    key_columns=4,
    group=("meter_id",),
    time="read_at",
    sums=("value_wh",),
)  # fmt: skip
LAYOUTS: Final = {each.base: each for each in (INTERVAL, READING)}


@dataclass(frozen=True, slots=True)
class Content:
    """What rows come to: the same of a file and of the table it was written from."""

    rows: int
    sums: Mapping[str, int]
    digest: bytes


def write_file(path: Path, layout: Layout, blocks: Iterable[Buffer]) -> None:
    """Write what a binary COPY sends, in its order, and force it to the disk.

    The file gets its name when it is whole: a crash leaves one that ends in ``.part``.
    """
    part = path.with_name(path.name + ".part")
    with (
        part.open("wb") as file,
        pq.ParquetWriter(
            file, layout.schema(), compression="zstd", write_statistics=True
        ) as writer,
    ):
        for columns in _copied(layout, blocks):
            writer.write_batch(_batch(layout, columns), row_group_size=GROUP_ROWS)
    flush(part)
    part.rename(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_content(path: Path, layout: Layout, *, version: int = DIGEST_VERSION) -> Content:
    """Add a file up and digest it, row by row in its order. Raises ArchiveUnreadable."""
    sums = dict.fromkeys(layout.sums, 0)
    rows, digest = 0, _DIGESTS[version](path, layout)
    for columns in read_batches(path, layout):
        rows += columns[layout.group[0]].size
        for name in layout.sums:
            # Python's integers: a sum over a city's month may pass 64 bits.
            sums[name] += sum(_safe_parts(columns[name]))
        images = record_images(
            {name: (kind, columns[name]) for name, kind in layout.columns.items()}
        )
        digest.add(columns, images)
    return Content(rows, sums, digest.made())


class _Chain:
    """Version 2: the SHA-256 of the link before and a row's image, from that of nothing on.

    It gathers nothing, so a month may have any number of rows of any number of meters.
    """

    def __init__(self, _path: Path, _layout: Layout) -> None:
        self._link = hashlib.sha256().digest()

    def add(self, _columns: Mapping[str, npt.NDArray[np.int64]], images: npt.NDArray[Any]) -> None:
        """Go on with rows, given as their images."""
        link, sha256 = self._link, hashlib.sha256
        size, content = images.dtype.itemsize, images.tobytes()
        for at in range(0, len(content), size):
            link = sha256(link + content[at : at + size]).digest()
        self._link = link

    def made(self) -> bytes:
        """The digest of all rows so far."""
        return self._link


class _Gathered:
    """Version 1: the SHA-256 of the digests of each account and meter, of all their rows' images."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self._path, self._layout = path, layout
        self._whole, self._part = hashlib.sha256(), hashlib.sha256()
        self._group: tuple[int, ...] | None = None

    def add(self, columns: Mapping[str, npt.NDArray[np.int64]], images: npt.NDArray[Any]) -> None:
        """Go on with rows, given with their images. Raises ArchiveUnreadable."""
        for group, begin, end in _groups(self._layout, columns):
            if self._group is not None and group < self._group:
                raise ArchiveUnreadable(f"{self._path.name}: its rows are not in order")
            if group != self._group:
                self._end_group()
                self._group = group
            self._part.update(images[begin:end].tobytes())

    def made(self) -> bytes:
        """The digest; nothing can be added after it."""
        self._end_group()
        return self._whole.digest()

    def _end_group(self) -> None:
        if self._group is not None:
            self._whole.update(self._part.digest())
        self._part = hashlib.sha256()


_DIGESTS: Final[dict[int, type[_Chain] | type[_Gathered]]] = {1: _Gathered, 2: _Chain}


def read_batches(
    path: Path, layout: Layout, accounts: tuple[int, int] | None = None
) -> Iterator[dict[str, npt.NDArray[np.int64]]]:
    """The columns of a file as int64, some rows at a time; instants in µs since the Unix epoch.

    With ``accounts`` (first, last) only the row groups that can hold them. Raises ArchiveUnreadable.
    """
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(layout.schema()):
                raise ArchiveUnreadable(f"{path.name}: its columns are not those of {layout.base}")
            groups = _groups_with(file, layout, accounts)
            for batch in file.iter_batches(batch_size=GROUP_ROWS, row_groups=groups):
                yield {
                    name: batch.column(number).cast(pa.int64()).to_numpy()
                    for number, name in enumerate(layout.columns)
                }
    except (OSError, pa.ArrowException) as error:
        raise ArchiveUnreadable(f"{path.name}: {str(error).splitlines()[0]}") from None


def _groups_with(
    file: pq.ParquetFile, layout: Layout, accounts: tuple[int, int] | None
) -> list[int]:
    every = range(file.metadata.num_row_groups)
    if accounts is None:
        return list(every)
    place = list(layout.columns).index("account_id")
    first, last = accounts
    chosen = []
    for number in every:
        found = file.metadata.row_group(number).column(place).statistics
        if found is None or not found.has_min_max or (found.min <= last and found.max >= first):
            chosen.append(number)
    return chosen


def _copied(layout: Layout, blocks: Iterable[Buffer]) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Columns of at most ``GROUP_ROWS`` rows each, out of COPY's binary stream."""
    record = _record(layout)
    pending, size, begun = [], 0, False
    for block in blocks:
        pending.append(bytes(block))
        size += len(pending[-1])
        if size >= GROUP_ROWS * record.itemsize + _BEGIN_BYTES:
            image = b"".join(pending)
            image = image if begun else image[_BEGIN_BYTES:]
            begun = True
            full = GROUP_ROWS * record.itemsize
            yield _checked(layout, np.frombuffer(image[:full], dtype=record))
            pending, size = [image[full:]], len(image) - full
    image = b"".join(pending)
    image = image if begun else image[_BEGIN_BYTES:]
    if not image.endswith(_TRAILER) or (len(image) - len(_TRAILER)) % record.itemsize:
        raise AssertionError("COPY did not end where a row ends")
    rest = np.frombuffer(image[: -len(_TRAILER)], dtype=record)
    # Row groups are as large as they may be, and the last holds what is left.
    for at in range(0, rest.size, GROUP_ROWS):
        yield _checked(layout, rest[at : at + GROUP_ROWS])


def _checked(layout: Layout, rows: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    assert (rows["n"] == len(layout.columns)).all()
    for name, kind in layout.columns.items():
        assert (rows[f"{name}.len"] == _WIDTH[kind]).all(), f"a NULL in {name}"
    return {name: rows[name] for name in layout.columns}


def _batch(layout: Layout, columns: Mapping[str, npt.NDArray[Any]]) -> pa.RecordBatch:
    arrays = []
    for name, kind in layout.columns.items():
        values = columns[name].astype(f"i{_WIDTH[kind]}")
        if kind == "timestamptz":
            values = values + POSTGRES_EPOCH_US
        arrays.append(pa.array(values).cast(_ARROW[kind]))
    return pa.RecordBatch.from_arrays(arrays, schema=layout.schema())


def _record(layout: Layout) -> np.dtype[Any]:
    """A row as COPY sends it."""
    fields: list[tuple[str, str]] = [("n", ">i2")]
    for name, kind in layout.columns.items():
        fields += [(f"{name}.len", ">i4"), (name, f">i{_WIDTH[kind]}")]
    return np.dtype(fields)


def _groups(
    layout: Layout, columns: Mapping[str, npt.NDArray[np.int64]]
) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """(key, begin, end) of each run of rows of one group."""
    keys = np.column_stack([columns[name] for name in layout.group])
    if keys.shape[0] == 0:
        return
    changes = np.flatnonzero((keys[1:] != keys[:-1]).any(axis=1)) + 1
    bounds = [0, *changes.tolist(), keys.shape[0]]
    for begin, end in itertools.pairwise(bounds):
        yield tuple(keys[begin].tolist()), begin, end


def _safe_parts(values: npt.NDArray[np.int64]) -> list[int]:
    """Numbers whose sum is that of the values: high and low halves, which cannot pass 64 bits."""
    high, low = values >> 32, values & 0xFFFFFFFF
    return [int(high.sum()) << 32, int(low.sum())]
