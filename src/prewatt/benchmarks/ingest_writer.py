"""One writing process of `prewatt bench ingest`: our own path, and PostgreSQL alone with the same rows."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from prewatt.benchmarks.city import ACCOUNTS_OF_PROPERTY, ENERGY_PRICE_MICRO, OPENED, City
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import utc_datetime

if TYPE_CHECKING:
    from prewatt.hes.frames import BundleMark, ReadingsBlock, Token, Watermark

OURS: Final = "ours"
CEILING: Final = "ceiling"
#: A meter's message is this long on its way.
_ON_THE_WAY: Final = timedelta(seconds=20)
#: What is read of the broker at once.
_BLOCK: Final = 500


@dataclass(frozen=True, slots=True)
class Done:
    """One writer's answer to one phase; waits in seconds."""

    readings: int
    waits: tuple[float, ...]
    cpu_s: float
    rss_kib: int


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """Some accounts at the end of one quarter-hour, with their registers before it and at it."""

    account_id: Int64
    quarter: int
    before_wh: Int64
    value_wh: Int64


@dataclass(frozen=True, slots=True)
class Feed:
    """What a writer feeds: at most ``batch`` readings at once, ``is_paced``: as many as the loop asks
    for; ``irregular`` is the share of readings that come late (one half) or twice. ``after`` says how
    many quarter-hours the city has seen.
    """

    batch: int
    is_paced: bool = False
    irregular: float = 0.0
    after: int = 0

    def is_late(self, account_id: Int64, quarter: int) -> npt.NDArray[np.bool_]:
        """Whose reading of a quarter-hour comes two quarter-hours later."""
        return self._chosen(account_id, quarter, 7_919)

    def is_twice(self, account_id: Int64, quarter: int) -> npt.NDArray[np.bool_]:
        """Who sends the reading before once more."""
        return self._chosen(account_id, quarter, 104_729) & ~self.is_late(account_id, quarter - 1)

    def _chosen(self, account_id: Int64, quarter: int, factor: int) -> npt.NDArray[np.bool_]:
        drawn = (account_id * factor + quarter * 15_485_863) % 1_000_003 * 611_953 % 1_000_003
        chosen: npt.NDArray[np.bool_] = drawn < self.irregular / 2 * 1_000_003
        return chosen


def write(pipe: Connection, dsn: str, city: City, number: int, writers: int, feed: Feed) -> None:
    """Serve phases until the pipe closes: make the batches, say so, wait for the word, write."""
    os.environ["PREWATT_DSN"] = dsn
    os.environ.setdefault("PREWATT_SECRET_KEY", "a benchmark signs nothing")
    from prewatt import wiring

    wiring.start_django()
    accounts = city.shard(number, writers)
    # Each phase has accounts of its own, or every phase would find its memory outdated by the other.
    ours, ceiling = np.array_split(accounts, 2)
    try:
        writer = _Writer(city, ceiling, feed)
        slices = {
            name: _slices(city, share, writer.batch_readings, feed.after)
            for name, share in ((OURS, ours), (CEILING, ceiling))
        }
        while True:
            name, batches = pipe.recv()
            jobs = writer.jobs(name, slices[name], batches)
            pipe.send("made")
            pipe.recv()
            pipe.send(writer.done(jobs))
            del jobs
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


def _slices(city: City, accounts: Int64, batch: Callable[[], int], after: int) -> Iterator[Slice]:
    """Every quarter-hour after so many, all accounts of the share in each, cut into batches."""
    quarter = after
    while True:
        quarter += 1
        at = 0
        while at < accounts.size:
            some = accounts[at : at + batch()]
            at += some.size
            yield Slice(
                some, quarter, city.registers(some, quarter - 1), city.registers(some, quarter)
            )


@dataclass(frozen=True, slots=True)
class _Job:
    """A batch that is ready: how many readings, and what writes them."""

    readings: int
    write: Callable[[], object]


class _Writer:
    """Makes and runs the jobs of both phases on Django's connection.

    ``accounts`` are those of the ceiling, whose intervals it numbers by itself.
    """

    def __init__(self, city: City, accounts: Int64, feed: Feed) -> None:
        from prewatt.hes.ingest import IngestLoop

        self._city = city
        self._feed = feed
        self._accounts = accounts
        self._interval_no = np.zeros_like(accounts)
        self._now = OPENED
        self._meters = _Meters()
        self._loop = IngestLoop(self._meters, clock=lambda: self._now)

    def batch_readings(self) -> int:
        """How many readings the next batch is made of, in both phases."""
        batch = self._feed.batch
        return min(batch, self._loop.batch_readings) if self._feed.is_paced else batch

    def jobs(self, name: str, slices: Iterator[Slice], batches: int) -> list[_Job]:
        """The batches of a phase, made ready."""
        if name == CEILING:
            self._interval_no = self._last_numbers()
        return [self._job(name, next(slices)) for _ in range(batches)]

    def _job(self, name: str, part: Slice) -> _Job:
        if name == OURS:
            blocks, stored = self._messages(part)
            now = utc_datetime(self._city.at_us(part.quarter)) + _ON_THE_WAY
            return _Job(stored, lambda: self._apply(blocks, now))
        place = part.account_id - self._accounts[0]
        self._interval_no[place] += 1
        rows = _CeilingRows.of(self._city, part, self._interval_no[place])
        return _Job(part.account_id.size, rows.write)

    def _messages(self, part: Slice) -> tuple[list[ReadingsBlock], int]:
        """The messages of a slice and how many of them are new: most of this quarter-hour, and what
        comes late or twice.
        """
        feed, city, ids, quarter = self._feed, self._city, part.account_id, part.quarter
        if not feed.irregular:
            return _blocks(city, ids, quarter, part.value_wh), ids.size
        in_time = ~feed.is_late(ids, quarter)
        late = ids[feed.is_late(ids, quarter - 2)] if quarter > 2 else ids[:0]
        again = feed.is_twice(ids, quarter)
        blocks = [
            *_blocks(city, ids[in_time], quarter, part.value_wh[in_time]),
            *_blocks(city, ids[again], quarter - 1, part.before_wh[again]),
            *_blocks(city, late, quarter - 2, city.registers(late, quarter - 2)),
        ]
        return blocks, int(in_time.sum()) + late.size

    def done(self, jobs: list[_Job]) -> Done:
        """Run the jobs one after the other."""
        waits, before = [], cpu_s()
        for job in jobs:
            began = time.perf_counter()
            job.write()
            waits.append(time.perf_counter() - began)
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return Done(sum(job.readings for job in jobs), tuple(waits), cpu_s() - before, used)

    def _last_numbers(self) -> Int64:
        """The number of each account's last interval, of all accounts of this writer."""
        from django.db import connection

        from prewatt.runtime.copying import read_columns

        connection.ensure_connection()
        return read_columns(
            connection.connection,
            """SELECT interval_no FROM account_state WHERE account_id BETWEEN %s AND %s
               ORDER BY account_id""",
            [int(self._accounts[0]), int(self._accounts[-1])],
            {"interval_no": "int8"},
        )["interval_no"]

    def _apply(self, blocks: list[ReadingsBlock], now: datetime) -> None:
        self._now, before = now, self._meters.acked
        self._loop.take(blocks)
        messages, acked = sum(map(len, blocks)), self._meters.acked - before
        if acked != messages:
            raise AssertionError(f"{messages} messages, {acked} acknowledged")


def cpu_s() -> float:
    """Processor time of this process and of its server process, where that is one of this machine."""
    from django.db import connection

    connection.ensure_connection()
    server = Path(f"/proc/{connection.connection.info.backend_pid}/schedstat")
    used_ns = int(server.read_text().split()[0]) if server.exists() else 0
    return time.process_time() + used_ns / 1e9


class _Meters:
    """In the place of the session: counts what would be acknowledged to the broker and to meters."""

    def __init__(self) -> None:
        self.acked = self.told = 0

    def ack(self, tokens: Sequence[Token]) -> None:
        """Count them."""
        from prewatt.hes.frames import BlockToken

        self.acked += sum(
            each.message_ids.size if isinstance(each, BlockToken) else 1 for each in tokens
        )

    def publish_watermarks(self, marks: Sequence[Watermark]) -> None:
        """Count them."""
        self.told += len(marks)

    def publish_bundle_marks(self, marks: Sequence[BundleMark]) -> None:
        """Nobody gathers here."""


def _blocks(city: City, account_id: Int64, quarter: int, value_wh: Int64) -> list[ReadingsBlock]:
    """One message of each meter with one reading, as the driver decodes what was read at once."""
    from prewatt.hes.frames import BlockToken, ReadingsBlock

    at_us = city.at_us(quarter)
    received_us = at_us + _ON_THE_WAY // timedelta(microseconds=1)
    return [
        ReadingsBlock(
            serials=city.serials(some),
            received_at_us=received_us,
            token=BlockToken(1, np.arange(1, some.size + 1, dtype=np.uint16)),
            read_at_us=np.full(some.size, at_us, dtype=np.int64),
            register_code=np.full(some.size, 1, dtype=np.int16),
            value=value_wh[at : at + _BLOCK],
            meter_clock_us=[received_us] * some.size,
            relay=["closed"] * some.size,
        )
        for at in range(0, account_id.size, _BLOCK)
        for some in [account_id[at : at + _BLOCK]]
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _CeilingRows:
    """Finished rows of a batch: the images that COPY takes, and the columns of the two UPDATEs."""

    readings: bytes
    intervals: bytes
    account_id: Int64
    meter_id: Int64
    charge: Int64
    value_wh: Int64
    read_at_us: int

    @classmethod
    def of(cls, city: City, part: Slice, interval_no: Int64) -> _CeilingRows:
        """One interval for each reading, as long and as wide as our own."""
        from prewatt.runtime.copying import binary_rows

        columns = _columns(city, part, interval_no)
        return cls(
            readings=binary_rows({name: columns[name] for name in _READING}),
            intervals=binary_rows({name: columns[name] for name in _INTERVAL}),
            account_id=part.account_id,
            meter_id=city.meters(part.account_id),
            charge=columns["charge_energy"][1],
            value_wh=part.value_wh,
            read_at_us=city.at_us(part.quarter),
        )

    def write(self) -> None:
        """COPY, COPY, UPDATE … RETURNING, UPDATE … RETURNING, commit."""
        from django.db import connection, transaction

        from prewatt.runtime.copying import ArrayOf, column_cursor

        at, accounts = utc_datetime(self.read_at_us), ArrayOf("int8", self.account_id)
        with transaction.atomic(), column_cursor(connection.connection) as cursor:
            for table, names, image in (
                ("register_reading", _READING, self.readings),
                ("interval", _INTERVAL, self.intervals),
            ):
                with cursor.copy(
                    f"COPY {table} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)"
                ) as copy:
                    copy.write(image)
            cursor.execute(_MOVE_ACCOUNTS, [at, at, accounts, ArrayOf("int8", self.charge)])
            moved = cursor.rowcount
            cursor.execute(
                _MOVE_METERS,
                [
                    *(at, at + _ON_THE_WAY, accounts),
                    ArrayOf("int8", self.meter_id),
                    ArrayOf("int8", self.value_wh),
                ],
            )
            if not moved == cursor.rowcount == self.account_id.size:
                raise AssertionError(f"{self.account_id.size} rows meant, {moved} moved")


_MOVE_ACCOUNTS: Final = """
UPDATE account_state s
SET accrued_energy = s.accrued_energy + v.charge, interval_no = s.interval_no + 1,
    last_interval_at = %s, updated_at = %s
FROM unnest(%s::bigint[], %s::bigint[]) AS v(account_id, charge)
WHERE s.account_id = v.account_id RETURNING s.account_id, s.available < s.watch_below
"""
_MOVE_METERS: Final = """
UPDATE meter_state m SET last_at = %s, last_value_wh = v.value, received_at = %s
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS v(account_id, meter_id, value)
WHERE m.account_id = v.account_id AND m.meter_id = v.meter_id AND m.register_code = 1
RETURNING m.account_id
"""
_READING: Final = (
    "meter_id", "register_code", "read_at", "revision", "property_id", "account_id", "value_wh",
    "quality", "source", "received_at",
)  # fmt: skip
_INTERVAL: Final = (
    "account_id", "meter_id", "register_code", "start_at", "revision", "segment", "property_id",
    "interval_no", "from_at", "to_at", "start_value_wh", "end_value_wh", "multiplier", "energy_wh",
    "quality", "source", "received_at", "tariff_version_id", "band", "price_nano", "step",
    "charge_energy", "charge_standing", "charge_tax", "charge_fee", "charge_demand",
    "charge_subsidy",
)  # fmt: skip


def _columns(city: City, part: Slice, interval_no: Int64) -> dict[str, tuple[str, Int64]]:
    """Every column of both tables."""
    size = part.account_id.size

    def all_of(value: int) -> Int64:
        return np.full(size, value, dtype=np.int64)

    begin_us, end_us = city.at_us(part.quarter - 1), city.at_us(part.quarter)
    energy_wh = part.value_wh - part.before_wh
    charge = energy_wh * ENERGY_PRICE_MICRO // 1_000
    property_id = (part.account_id - 1) // ACCOUNTS_OF_PROPERTY + 1
    received_us = end_us + _ON_THE_WAY // timedelta(microseconds=1)
    return {
        "account_id": ("int8", part.account_id),
        "meter_id": ("int8", city.meters(part.account_id)),
        "property_id": ("int8", property_id),
        "tariff_version_id": ("int8", property_id),
        "interval_no": ("int8", interval_no),
        "read_at": ("timestamptz", all_of(end_us)),
        "start_at": ("timestamptz", all_of(begin_us)),
        "from_at": ("timestamptz", all_of(begin_us)),
        "to_at": ("timestamptz", all_of(end_us)),
        "received_at": ("timestamptz", all_of(received_us)),
        "value_wh": ("int8", part.value_wh),
        "start_value_wh": ("int8", part.before_wh),
        "end_value_wh": ("int8", part.value_wh),
        "energy_wh": ("int8", energy_wh),
        "price_nano": ("int8", all_of(ENERGY_PRICE_MICRO * 1_000)),
        "charge_energy": ("int8", charge),
        "charge_tax": ("int8", all_of(0)),
        "multiplier": ("int4", all_of(1)),
        **{name: ("int2", all_of(1)) for name in ("register_code", "quality", "source")},
        **{name: ("int2", all_of(0)) for name in ("revision", "segment", "band", "step")},
        **{
            f"charge_{name}": ("int8", all_of(0))
            for name in ("standing", "fee", "demand", "subsidy")
        },
    }
