"""Recharges a second from callers at a desk to the commit, beside what PostgreSQL alone does with the rows.

A process of its own, signed in as the web is, lets callers in threads ask its desk (`vending.desk`)
again and again (A); then it writes the very same rows in sets of the same sizes, on as many
connections, with nothing looked up and nothing decided (B). A and B alternate, so that whatever
else the machine does hits both. If asked for, the same callers then ask while a writer takes readings
in, and as many browsers press the button of a page that `prewatt web` serves.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import psycopg

from prewatt.benchmarks.city import City, empty_database, fill, login
from prewatt.benchmarks.figures import Latencies
from prewatt.benchmarks.ingest import Crew
from prewatt.benchmarks.ingest_writer import OURS as INGESTED
from prewatt.benchmarks.recharge_browsers import browse, hire, web_process
from prewatt.benchmarks.recharge_desk import BARE, CEILING, OURS, Sold, serve

#: A phase is this long, a multiple of what a checkpoint disturbs.
PHASE_S: Final = 5.0
_TIMEOUT_S: Final = 600.0
#: A batch of readings holds this share of all accounts, as ten thousand of a million are.
_SHARE: Final = 100
#: One batch at a time, so that readings end soon after recharges do.
_BATCHES: Final = 1


@dataclass(frozen=True, slots=True)
class Selling:
    """What callers got in one setting: recharges a second, and their waits in ms."""

    recharges_per_second: int
    p50: float
    p99: float
    max: float
    #: Readings a second that were taken in beside it.
    readings_per_second: int = 0
    #: Callers that were told to ask again.
    busy: int = 0

    @classmethod
    def of(cls, phases: Sequence[Sold], readings_per_second: float = 0.0) -> Selling:
        """The median of phases, and the waits of all."""
        waits = Latencies.of([timedelta(seconds=wait) for each in phases for wait in each.waits])
        rate = statistics.median(each.recharges / each.seconds for each in phases)
        return cls(
            int(rate),
            waits.p50,
            waits.p99,
            waits.max,
            int(readings_per_second),
            sum(each.busy for each in phases),
        )


@dataclass(frozen=True, slots=True)
class RechargeFigures:
    """Medians over phases; waits of callers in ms, from asking to the answer after the commit."""

    accounts: int
    callers: int
    lanes: int
    phases: int
    recharges: int
    recharges_per_second: int
    ceiling_per_second: int
    ratio: float
    p50: float
    p99: float
    max: float
    recharges_per_commit: float
    #: Of all recharges, in ten-thousandths, those about which there was something to decide.
    decided_bp: int
    #: Microseconds of processor a recharge; of PostgreSQL alone, its client and itself.
    callers_us: float
    desk_us: float
    server_us: float
    ceiling_client_us: float
    ceiling_server_us: float
    beside_ingest: Selling | None
    http: Selling | None
    load_average: tuple[float, float, float]


def measure(
    *,
    accounts: int,
    callers: int,
    lanes: int,
    seconds: float,
    beside_ingest: bool,
    http: bool,
    dsn: str | None,
    tell: Callable[[str], None],
) -> RechargeFigures:
    """Fill a city, let callers and PostgreSQL alone alternate, and say what they did.

    Raises `NotDurableError` if ``dsn`` names a server that could lose committed transactions, and
    AssertionError if a recharge was refused or what was told is not what is stored.
    """
    alone: list[Sold] = []
    bare: list[Sold] = []
    with empty_database(dsn) as owner:
        city = City(accounts)
        fill(owner, city, tell=tell)
        with psycopg.connect(owner) as connection:
            connection.execute(BARE)
        with _process(serve, login(owner, "web"), owner, city, callers, lanes) as ask:
            before = _stored(owner)
            for _ in range(max(1, round(seconds / 2 / PHASE_S))):
                alone.append(ask((OURS, PHASE_S)))
                bare.append(ask((CEILING, PHASE_S)))
                tell(
                    f"{alone[-1].recharges / alone[-1].seconds:,.0f} recharges/s, PostgreSQL alone "
                    f"{bare[-1].recharges / bare[-1].seconds:,.0f}"
                )
            _agree(before, _stored(owner), alone)
            beside = _beside_ingest(owner, city, ask, tell) if beside_ingest else None
        over_http = _over_http(owner, city, callers, tell) if http else None
    ours, most = (
        Selling.of(alone),
        statistics.median(each.recharges / each.seconds for each in bare),
    )
    ours_count = [each.recharges for each in alone]
    bare_count = [each.recharges for each in bare]
    return RechargeFigures(
        accounts=accounts,
        callers=callers,
        lanes=lanes,
        phases=len(alone),
        recharges=sum(ours_count),
        recharges_per_second=ours.recharges_per_second,
        ceiling_per_second=int(most),
        ratio=round(ours.recharges_per_second / most, 3),
        p50=ours.p50,
        p99=ours.p99,
        max=ours.max,
        recharges_per_commit=round(statistics.mean([n for each in alone for n in each.sets]), 1),
        decided_bp=10_000 * sum(each.decided for each in alone) // sum(ours_count),
        callers_us=_us([each.spent.callers_s for each in alone], ours_count),
        desk_us=_us([each.spent.desk_s for each in alone], ours_count),
        server_us=_us([each.spent.server_s for each in alone], ours_count),
        ceiling_client_us=_us([each.spent.desk_s for each in bare], bare_count),
        ceiling_server_us=_us([each.spent.server_s for each in bare], bare_count),
        beside_ingest=beside,
        http=over_http,
        load_average=os.getloadavg(),
    )


def _us(seconds: Sequence[float], recharges: Sequence[int]) -> float:
    return round(sum(seconds) / sum(recharges) * 1e6, 1)


def _beside_ingest(
    owner: str, city: City, ask: Callable[[object], Sold], tell: Callable[[str], None]
) -> Selling:
    """The same callers while one writer takes readings of all accounts in, batch after batch."""
    readings: list[float] = []
    stopping, failed = threading.Event(), []
    with Crew(owner, city, batch=max(100, city.accounts // _SHARE), writers=1) as crew:
        crew.phase(INGESTED, 1)

        def ingest() -> None:
            try:
                while not stopping.is_set():
                    readings.append(crew.phase(INGESTED, _BATCHES).per_second)
            except Exception as error:
                failed.append(error)

        writer = threading.Thread(target=ingest)
        writer.start()
        try:
            sold = [ask((OURS, PHASE_S)) for _ in range(2)]
        finally:
            stopping.set()
            writer.join()
    if failed:
        raise failed[0]
    beside = Selling.of(sold, statistics.median(readings))
    tell(f"{beside.recharges_per_second:,} beside {beside.readings_per_second:,} readings/s")
    return beside


def _over_http(owner: str, city: City, callers: int, tell: Callable[[str], None]) -> Selling:
    """Browsers at the pages of one web process."""
    hire(city, callers)
    with web_process(owner) as port, _process(browse, port, city, callers) as ask:
        ask(1.0)
        found = Selling.of([ask(PHASE_S) for _ in range(2)])
    tell(f"{found.recharges_per_second:,} over HTTP")
    return found


@contextlib.contextmanager
def _process(target: Callable[..., None], *given: Any) -> Iterator[Callable[[object], Sold]]:
    """A process of ours that answers phases over a pipe; yields how to ask for one."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, *given))
    process.start()
    there.close()

    def answer() -> Any:
        if not here.poll(_TIMEOUT_S):
            raise TimeoutError("a process of the benchmark does not answer")
        received = here.recv()
        if isinstance(received, Exception):
            raise received
        return received

    def ask(what: object) -> Sold:
        here.send(what)
        sold: Sold = answer()
        return sold

    try:
        assert answer() == "ready"
        yield ask
    finally:
        here.close()
        process.join(10)
        process.kill()


def _stored(owner: str) -> tuple[int, int, int]:
    """Payments by our callers, their receipts, and the last receipt's number."""
    with psycopg.connect(owner) as connection:
        row = connection.execute(
            """SELECT (SELECT count(*) FROM idempotency WHERE caller <> 'bare'),
                      (SELECT count(*) FROM document WHERE series = 'R'),
                      (SELECT coalesce(max(number), 0) FROM document WHERE series = 'R')"""
        ).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


def _agree(before: tuple[int, ...], after: tuple[int, ...], alone: Sequence[Sold]) -> None:
    """Every recharge that was told is stored once, and receipts have no gap."""
    told = sum(each.recharges for each in alone)
    stored = {later - earlier for earlier, later in zip(before, after, strict=True)}
    if stored != {told}:
        raise AssertionError(f"{told} recharges told, stored are {sorted(stored)}")


def as_text(figures: RechargeFigures) -> str:
    """The figures in a few lines."""
    lines = [
        (
            f"{figures.recharges_per_second:,} recharges/s of {figures.callers} callers, each after its "
            f"commit (median of {figures.phases} phases, {figures.accounts:,} accounts, "
            f"{figures.recharges_per_commit} to a commit on {figures.lanes} lanes): p50 {figures.p50} ms, "
            f"p99 {figures.p99} ms, longest {figures.max} ms"
        ),
        (
            f"PostgreSQL alone with the same rows and commits: {figures.ceiling_per_second:,}/s; ratio "
            f"{figures.ratio:.2f}"
        ),
        (
            f"µs of processor a recharge: callers {figures.callers_us:.0f}, the desk "
            f"{figures.desk_us:.0f}, PostgreSQL {figures.server_us:.0f}; alone: client "
            f"{figures.ceiling_client_us:.0f}, PostgreSQL {figures.ceiling_server_us:.0f}; "
            f"{figures.decided_bp / 100:.1f} % had something to decide"
        ),
    ]
    if beside := figures.beside_ingest:
        lines.append(
            f"beside {beside.readings_per_second:,} readings/s: {beside.recharges_per_second:,} "
            f"recharges/s, p50 {beside.p50} ms, p99 {beside.p99} ms, longest {beside.max} ms; "
            f"{beside.busy} were told to ask again"
        )
    if over := figures.http:
        lines.append(
            f"over HTTP, pressed in {figures.callers} browsers: {over.recharges_per_second:,}/s, p50 "
            f"{over.p50} ms, p99 {over.p99} ms, longest {over.max} ms"
        )
    return "\n".join([*lines, f"load average {figures.load_average[0]:.1f}"])
