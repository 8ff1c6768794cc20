"""`prewatt bench wire`: messages of meters, or of concentrators, through the broker to the committed balance.

Everything is as in production: a durable PostgreSQL, Mosquitto with its persistence, `prewatt hes` in a
process of its own, and a client process in the place of the meters. A message counts once the watermark of
its commit has come back to that client, and at the end the rows in the database are counted too.

The ceiling is Mosquitto alone, in the same run: the same client and the same packets, and a subscriber that
does nothing but acknowledge.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import psycopg

from prewatt.benchmarks.city import (
    ACCOUNTS_OF_PROPERTY,
    FIRST_METER,
    OPENED,
    QUARTER_US,
    City,
    empty_database,
    fill,
    login,
)
from prewatt.benchmarks.wire_client import Gathering, Load, Published, publish, take
from prewatt.runtime.broker import Broker, BrokerCommand
from prewatt.runtime.children import die_with_parent
from prewatt.runtime.readiness import READY_VARIABLE
from prewatt.wiring import OFFSET_VARIABLE

#: No more than this is published in a second, in single messages and in bundles.
_SINGLES_PER_S_MAX: Final = 60_000
_GATHERED_PER_S_MAX: Final = 300_000
_ANSWER_S: Final = 300.0
_CEILING_S_MAX: Final = 10.0
#: Of the log's files, more than are filled in a second.
_LOG_FILES_A_SECOND: Final = 6


@dataclass(frozen=True, slots=True)
class WireFigures:
    """Rates a second; ``p50`` and ``p99`` in ms from publishing to the watermark, with ``window`` messages on the way.

    ``shape`` says what a message brings. ``ceiling_per_second`` is in readings. ``cpu`` is how many cores each
    process used while it was measured, ``cpu_us`` the microseconds of them for a reading: what a
    machine that is shared can still be compared by.
    """

    accounts: int
    shape: str
    window: int
    shards: int
    seconds: float
    messages: int
    messages_per_second: int
    readings_per_second: int
    ceiling_per_second: int
    ratio: float
    p50: float
    p99: float
    cpu: dict[str, float]
    cpu_us: dict[str, float]
    load_average: tuple[float, float, float]


def measure(
    *,
    accounts: int,
    seconds: float,
    window: int,
    shards: int,
    rate: int | None,
    tell: Callable[[str], None],
    gathering: Gathering | None = None,
) -> WireFigures:
    """Fill a city, measure Mosquitto alone, then the whole way.

    With a ``gathering`` its concentrators publish, and the city is theirs. ``window`` and ``rate`` are in
    readings. Raises `BrokerError` where Mosquitto is not installed, AssertionError if a message was
    lost, and ValueError if the meters of a concentrator would be of two properties.
    """
    each = 1 if gathering is None else gathering.readings_each
    if gathering is not None:
        accounts = gathering.concentrators * gathering.meters_each
        if ACCOUNTS_OF_PROPERTY % gathering.meters_each:
            raise ValueError(f"{gathering.meters_each} is no divisor of {ACCOUNTS_OF_PROPERTY}")
    # Of a single meter nothing more is sent before the last is heard of; bundles follow one another.
    window = min(window, accounts) if gathering is None else max(1, window // each)
    rate = None if rate is None else max(1, rate // each)
    with contextlib.ExitStack() as stack:
        owner = stack.enter_context(empty_database())
        city = City(accounts)
        fill(owner, city, tell=tell)
        if gathering is not None:
            _register(owner, gathering)
        _write_log_anew(owner, seconds)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="prewatt-wire-"))
        Path(folder).chmod(0o755)
        broker = Broker(Path(folder), kind="mosquitto")
        command = stack.enter_context(broker)
        offset = _clock(accounts, seconds, gathering) - datetime.now(OPENED.tzinfo)
        load = Load(
            city, command.port, window, rate, offset // timedelta(microseconds=1), gathering
        )
        most = each * _ceiling(load, min(seconds, _CEILING_S_MAX))
        tell(f"Mosquitto alone: {most / each:,.0f} messages/s, {most:,.0f} readings/s")
        head_end = stack.enter_context(_head_end(owner, command, load, shards))
        done, cpu = _measured(load, seconds, _Processes(owner, broker, head_end))
        if (lost := each * done.sent - _stored(owner)) != 0 or done.heard != done.sent:
            raise AssertionError(
                f"{done.sent} messages sent, {done.heard} heard of, {lost} readings not stored"
            )
    per_second = each * done.counted / done.seconds
    return WireFigures(
        accounts=accounts,
        shape=_shape(gathering),
        window=window,
        shards=shards,
        seconds=round(done.seconds, 1),
        messages=done.counted,
        messages_per_second=int(per_second / each),
        readings_per_second=int(per_second),
        ceiling_per_second=int(most),
        ratio=round(per_second / most, 3),
        p50=done.p50,
        p99=done.p99,
        cpu={name: round(cores, 2) for name, cores in cpu.items()},
        cpu_us={name: round(cores / per_second * 1e6, 1) for name, cores in cpu.items()},
        load_average=os.getloadavg(),
    )


def _shape(gathering: Gathering | None) -> str:
    if gathering is None:
        return "single readings"
    return (
        f"{gathering.concentrators:,} concentrators, "
        f"{gathering.meters_each} meters x {gathering.instants_each} intervals to a message"
    )


def _clock(accounts: int, seconds: float, gathering: Gathering | None) -> datetime:
    """Where the head-end's clock begins: after everything that will be published, and not long after."""
    most = _SINGLES_PER_S_MAX if gathering is None else _GATHERED_PER_S_MAX
    at_once = 1 if gathering is None else gathering.instants_each
    rounds = 1 + at_once + int(seconds * most) // accounts
    return OPENED + timedelta(microseconds=QUARTER_US * rounds)


def _register(dsn: str, gathering: Gathering) -> None:
    """Put the city's meters behind concentrators, in their order."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            """INSERT INTO concentrator (id, property_id, serial, name, edition)
               SELECT n, ((n - 1) * %(each)s) / %(of_property)s + 1, 'DTU-' || n - 1, '', 1
               FROM generate_series(1, %(concentrators)s::bigint) AS n""",
            facts := {
                "each": gathering.meters_each,
                "of_property": ACCOUNTS_OF_PROPERTY,
                "concentrators": gathering.concentrators,
                "first": FIRST_METER,
                "opened": OPENED,
            },
        )
        connection.execute(
            """INSERT INTO concentrator_meter (property_id, concentrator_id, meter_id, period)
               SELECT property_id, (id - %(first)s) / %(each)s + 1, id, tstzrange(%(opened)s, NULL)
               FROM meter""",
            facts,
        )
        connection.execute("VACUUM ANALYZE concentrator, concentrator_meter")


def _write_log_anew(dsn: str, seconds: float) -> None:
    """Leave files of the log behind that can be written again, as after any checkpoint of a server that works.

    A new server's log has none: each 16 MB of it are first made of zeros and brought to the disk, while all
    writers wait.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(int(seconds * _LOG_FILES_A_SECOND)):
            connection.execute("SELECT pg_logical_emit_message(false, 'bench', 'next file')")
            connection.execute("SELECT pg_switch_wal()")
        connection.execute("CHECKPOINT")


def _ceiling(load: Load, seconds: float) -> float:
    """Messages a second that Mosquitto carries to a subscriber which only acknowledges."""
    context = multiprocessing.get_context("spawn")
    taken = context.Value("q", 0)
    with _child(take, load.port, arguments=(taken,), pipe_at=1) as (taker, _):
        _answer(taker)
        with _child(publish, load, seconds, taken) as (pipe, _):
            _answer(pipe)
            pipe.send("go")
            done: Published = _answer(pipe)
    return done.counted / done.seconds


def _measured(
    load: Load, seconds: float, processes: _Processes
) -> tuple[Published, dict[str, float]]:
    with _child(publish, load, seconds) as (pipe, child):
        _answer(pipe)
        before, began = processes.seconds(child), time.monotonic()
        pipe.send("go")
        done: Published = _answer(pipe)
        took, after = time.monotonic() - began, processes.seconds(child)
    return done, {name: (after[name] - before[name]) / took for name in after}


@contextlib.contextmanager
def _head_end(
    owner: str, command: BrokerCommand, load: Load, shards: int
) -> Iterator[subprocess.Popen[bytes]]:
    """`prewatt hes` as it is, signed in as in production, its clock in the city's time."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "prewatt", "hes"),
            *("--mqtt", f"{command.host}:{command.port}", "--shards", str(shards)),
        ],
        env=os.environ
        | {
            "PREWATT_DSN": login(owner, "head_end"),
            OFFSET_VARIABLE: str(load.clock_offset_us),
            READY_VARIABLE: str(writer),
        },
        pass_fds=(writer,),
        preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - there is no other thread
    )
    try:
        os.close(writer)
        if os.read(reader, 1) != b"\n":
            raise RuntimeError("the head-end did not start")
        # The subscription is acknowledged a moment after the connection.
        time.sleep(0.5)
        yield process
    finally:
        os.close(reader)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


class _Processes:
    """Who uses the processor, as Linux counts it; nothing elsewhere."""

    def __init__(self, owner: str, broker: Broker, head_end: subprocess.Popen[bytes]) -> None:
        with psycopg.connect(owner) as connection:
            backend = connection.info.backend_pid
            self._postmaster = _stat(backend)[0]
        self._broker = broker.pid
        self._head_end = head_end.pid

    def seconds(self, publisher: BaseProcess) -> dict[str, float]:
        """Processor seconds of each part so far."""
        if not Path("/proc/self/stat").exists():
            return {}
        assert publisher.pid is not None
        return {
            "broker": _stat(self._broker)[1],
            "head-end": _stat(self._head_end)[1],
            "PostgreSQL": self._of_postgres(),
            "publisher": _stat(publisher.pid)[1],
        }

    def _of_postgres(self) -> float:
        total = 0.0
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                parent, seconds = _stat(int(path.name))
                if self._postmaster in (parent, int(path.name)):
                    total += seconds
        return total


def _stat(pid: int) -> tuple[int, float]:
    """A process's parent and its processor seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _stored(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            """SELECT count(*), (SELECT sum(interval_no) FROM account_state)
               FROM register_reading"""
        ).fetchone()
    assert row is not None
    if row[1] < row[0]:
        raise AssertionError(f"{row[0]} readings stored, {row[1]} intervals charged")
    return int(row[0])


@contextlib.contextmanager
def _child(
    target: Callable[..., None], *before: Any, arguments: tuple[Any, ...] = (), pipe_at: int = 0
) -> Iterator[tuple[Connection, BaseProcess]]:
    """A process of ``target`` with a pipe among its arguments."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    given = (*before, *arguments)
    process = context.Process(target=target, args=(*given[:pipe_at], there, *given[pipe_at:]))
    process.start()
    there.close()
    try:
        yield here, process
    finally:
        here.close()
        process.terminate()
        process.join(10)
        process.kill()


def _answer(pipe: Connection) -> Any:
    if not pipe.poll(_ANSWER_S):
        raise TimeoutError("a process of the benchmark does not answer")
    answer = pipe.recv()
    if isinstance(answer, Exception):
        raise answer
    return answer


def as_text(figures: WireFigures) -> str:
    """The figures in a few lines."""
    cpu = ", ".join(
        f"{name} {cores:.2f} ({figures.cpu_us[name]:.1f} µs a reading)"
        for name, cores in figures.cpu.items()
    )
    return (
        f"{figures.readings_per_second:,} readings/s in {figures.messages_per_second:,} messages/s of "
        f"{figures.accounts:,} accounts ({figures.shape}) from publishing to the committed balance and back, over "
        f"{figures.seconds:.0f} s; p50 {figures.p50:.0f} ms, p99 {figures.p99:.0f} ms with "
        f"{figures.window:,} messages on the way\n"
        f"Mosquitto alone to a subscriber that only acknowledges: {figures.ceiling_per_second:,} "
        f"readings/s in the same packets; "
        f"ratio {figures.ratio:.2f}\n"
        f"cores used: {cpu}; {figures.shards} ingest loops; load average "
        f"{figures.load_average[0]:.1f}"
    )
