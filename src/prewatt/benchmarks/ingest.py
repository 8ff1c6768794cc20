"""Readings a second from decoded columns to commit, beside what PostgreSQL alone does with the rows.

Writers are processes on disjoint accounts of one city (`city`). They take the same number of batches
in turn through the path that production uses (A) and as PostgreSQL's own ceiling (B): binary COPY of
finished rows, one UPDATE of each state table, commit, nothing else. What a phase feeds is made before
its clock starts. A and B alternate, so that whatever else the machine does hits both. Each has one half of
every writer's accounts to itself.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Final, Self

import psycopg

from prewatt.benchmarks.city import City, empty_database, fill, login
from prewatt.benchmarks.figures import Latencies
from prewatt.benchmarks.ingest_writer import CEILING, OURS, Done, Feed, write
from prewatt.benchmarks.page_viewer import view

#: A phase is this many batches for each writer: long enough to see checkpoints, short enough to alternate.
PHASE_BATCHES: Final = 12
_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class IngestFigures:
    """Medians over phases; times in ms, sizes in bytes, memory in MiB.

    ``ratio`` is the median of what each phase comes to beside the phase of PostgreSQL alone that follows it: a disk that
    becomes slower within a run slows both. ``p50`` and ``p99`` are of a batch from its columns to its commit. Bytes are those of both phases
    together: they store the same rows. ``batch_readings`` were to a batch, at most ``batch``. ``cpu_us``: processor time of a reading, in the writer and its
    server process, which says more than the clock where other work takes the machine. ``page_``: account pages that somebody opens all the while, ten
    a second at most, of the phases of our own path alone. ``looks``: decisions and messages that crossings led to.
    """

    accounts: int
    batch: int
    writers: int
    batch_readings: int
    irregular: float
    phases: int
    readings: int
    readings_per_second: int
    ceiling_per_second: int
    ratio: float
    p50: float
    p99: float
    ceiling_p50: float
    ceiling_p99: float
    page_p50: float
    page_p95: float
    cpu_us: float
    ceiling_cpu_us: float
    cpu_ratio: float
    intervals_per_reading: float
    disk_bytes_per_reading: float
    wal_bytes_per_reading: float
    ceiling_wal_bytes_per_reading: float
    rss_mib: int
    looks: int
    load_average: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of all writers together; memory is the largest writer's so far."""

    readings: int
    per_second: float
    waits: tuple[timedelta, ...]
    pages: tuple[timedelta, ...]
    wal_bytes: int
    cpu_s: float
    rss_kib: int


@dataclass(frozen=True, slots=True)
class _Stored:
    readings: int
    intervals: int
    bytes: int
    looks: int


def measure(
    *,
    accounts: int,
    batch: int,
    writers: int,
    seconds: float,
    irregular: float,
    dsn: str | None,
    tell: Callable[[str], None],
) -> IngestFigures:
    """Fill a city, let the writers alternate for about ``seconds``, and say what they did.

    A batch is as large as the ingest loop asks for, at most ``batch``; ``irregular`` is the share of
    readings that come late or twice.

    Raises `NotDurableError` if ``dsn`` names a server that could lose committed transactions.
    """
    phases: dict[str, list[Phase]] = {OURS: [], CEILING: []}
    with empty_database(dsn) as owner:
        city = City(accounts)
        fill(owner, city, tell=tell)
        feed = Feed(batch, is_paced=True, irregular=irregular)
        with Crew(owner, city, batch=feed, writers=writers) as crew:
            # Every account is read once, as after a start, before anything is measured.
            warmed = 0
            while 2 * warmed < accounts:
                for name in phases:
                    warm = crew.phase(name)
                    tell(f"warming up: {name} {warm.per_second:,.0f} readings/s")
                warmed += warm.readings
            before, until = _stored(owner), time.monotonic() + seconds
            while time.monotonic() < until or not phases[CEILING]:
                for name, done in phases.items():
                    done.append(crew.phase(name))
                tell(
                    f"{phases[OURS][-1].per_second:,.0f} readings/s, "
                    f"PostgreSQL alone {phases[CEILING][-1].per_second:,.0f}"
                )
            after = _stored(owner)
    readings = sum(each.readings for done in phases.values() for each in done)
    if after.readings - before.readings != readings:
        raise AssertionError(f"{readings} readings fed, {after.readings - before.readings} stored")
    per_second, most = (
        statistics.median(each.per_second for each in done) for done in phases.values()
    )
    busy, least = (
        sum(each.cpu_s for each in done) * 1e6 / sum(each.readings for each in done)
        for done in phases.values()
    )
    pages = Latencies.of([wait for each in phases[OURS] for wait in each.pages])
    ours, bare = (
        Latencies.of([wait for each in done for wait in each.waits]) for done in phases.values()
    )
    return IngestFigures(
        accounts=accounts,
        batch=batch,
        writers=writers,
        batch_readings=int(
            statistics.median(each.readings / len(each.waits) for each in phases[OURS])
        ),
        irregular=irregular,
        phases=len(phases[OURS]),
        readings=readings,
        readings_per_second=int(per_second),
        ceiling_per_second=int(most),
        ratio=round(_paired_ratio(phases), 3),
        p50=ours.p50,
        p99=ours.p99,
        ceiling_p50=bare.p50,
        ceiling_p99=bare.p99,
        page_p50=pages.p50,
        page_p95=pages.p95,
        cpu_us=round(busy, 2),
        ceiling_cpu_us=round(least, 2),
        cpu_ratio=round(least / busy, 3),
        intervals_per_reading=round((after.intervals - before.intervals) / readings, 3),
        disk_bytes_per_reading=round((after.bytes - before.bytes) / readings, 1),
        wal_bytes_per_reading=_wal_per_reading(phases[OURS]),
        ceiling_wal_bytes_per_reading=_wal_per_reading(phases[CEILING]),
        rss_mib=max(each.rss_kib for each in phases[OURS]) // 1024,
        looks=after.looks - before.looks,
        load_average=os.getloadavg(),
    )


def _paired_ratio(phases: Mapping[str, Sequence[Phase]]) -> float:
    pairs = zip(phases[OURS], phases[CEILING], strict=True)
    return statistics.median(ours.per_second / bare.per_second for ours, bare in pairs)


def _wal_per_reading(phases: Sequence[Phase]) -> float:
    return round(sum(each.wal_bytes for each in phases) / sum(each.readings for each in phases), 1)


class Crew:
    """Writers in processes of their own, signed in as the head-end, each on its share of the city."""

    def __init__(self, dsn: str, city: City, *, batch: int | Feed, writers: int) -> None:
        self._dsn = dsn
        feed = Feed(batch) if isinstance(batch, int) else batch
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        context = multiprocessing.get_context("spawn")
        for number in range(writers):
            here, there = context.Pipe()
            process = context.Process(
                target=write, args=(there, login(dsn, "head_end"), city, number, writers, feed)
            )
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)
        self._viewer, there = context.Pipe()
        viewer = context.Process(target=view, args=(there, login(dsn, "clerk"), city))
        viewer.start()
        there.close()
        self._processes.append(viewer)
        self._watch = psycopg.connect(dsn, autocommit=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watch.close()
        for pipe in (*self._pipes, self._viewer):
            pipe.close()
        for process in self._processes:
            process.join(10)
            process.kill()

    def phase(self, name: str, batches: int = PHASE_BATCHES) -> Phase:
        """Let every writer make its batches, then all of them write at once."""
        for pipe in self._pipes:
            pipe.send((name, batches))
        for each in self._answers():
            assert each == "made"
        self._viewer.send("begin")
        before, began = self._wal_position(), time.monotonic()
        for pipe in self._pipes:
            pipe.send("write")
        done: list[Done] = self._answers()
        seconds, readings = time.monotonic() - began, sum(each.readings for each in done)
        self._viewer.send("end")
        pages = self._viewer.recv()
        return Phase(
            readings=readings,
            per_second=readings / seconds,
            waits=tuple(timedelta(seconds=wait) for each in done for wait in each.waits),
            pages=tuple(timedelta(seconds=wait) for wait in pages),
            wal_bytes=self._wal_position() - before,
            cpu_s=sum(each.cpu_s for each in done),
            rss_kib=max(each.rss_kib for each in done),
        )

    def _answers(self) -> list[Any]:
        answers = []
        for pipe in self._pipes:
            if not pipe.poll(_TIMEOUT_S):
                raise TimeoutError("a writer does not answer")
            answers.append(pipe.recv())
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _wal_position(self) -> int:
        row = self._watch.execute(
            "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
        ).fetchone()
        assert row is not None
        return int(row[0])


def _stored(dsn: str) -> _Stored:
    """Rows and bytes of readings and intervals, indexes and all."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            """SELECT (SELECT count(*) FROM register_reading), (SELECT count(*) FROM interval),
                   (SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits
                    WHERE inhparent IN ('register_reading'::regclass, 'interval'::regclass)),
                   (SELECT count(*) FROM supply_decision) + (SELECT count(*) FROM message)"""
        ).fetchone()
    assert row is not None
    return _Stored(*row)


def as_text(figures: IngestFigures) -> str:
    """The figures in a few lines."""
    return (
        f"{figures.readings_per_second:,} readings/s of {figures.accounts:,} accounts to the commit "
        f"(median of {figures.phases} phases, {figures.writers} writers, {figures.batch_readings:,} to a "
        f"batch); a batch takes p50 {figures.p50:.0f} ms, p99 {figures.p99:.0f} ms\n"
        f"PostgreSQL alone with the same rows: {figures.ceiling_per_second:,}/s, p50 "
        f"{figures.ceiling_p50:.0f} ms, p99 {figures.ceiling_p99:.0f} ms; ratio {figures.ratio:.2f}\n"
        f"processor time of a reading: {figures.cpu_us:.1f} µs, PostgreSQL alone "
        f"{figures.ceiling_cpu_us:.1f} µs; ratio {figures.cpu_ratio:.2f}\n"
        f"an account's page all the while: p50 {figures.page_p50:.0f} ms, p95 "
        f"{figures.page_p95:.0f} ms\n"
        f"for a reading: {figures.intervals_per_reading:.3f} intervals, "
        f"{figures.disk_bytes_per_reading:.0f} bytes on disk, {figures.wal_bytes_per_reading:.0f} "
        f"bytes of WAL (alone {figures.ceiling_wal_bytes_per_reading:.0f})\n"
        f"{figures.looks:,} decisions and messages of supply; a writer's memory {figures.rss_mib} MiB; "
        f"load average {figures.load_average[0]:.1f}"
    )
