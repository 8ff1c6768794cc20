"""How long it takes to post a day of a city, which part costs what, and how long a recharge waits for it.

The day's quarter-hours are written set-based in the shape that ingest leaves (`city.live`), then
posted as the worker posts them, chunk by chunk, and measured. Beside it stands the one thing that no
posting can do without: gathering every interval of the day once by its account. If asked for, callers
at a desk recharge accounts at random all the while.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from typing import Any, Final, Self
from unittest import mock

import psycopg

from prewatt.benchmarks.city import OPENED, City, empty_database, fill, live, login
from prewatt.benchmarks.ingest_writer import cpu_s
from prewatt.benchmarks.recharge import Selling, _process
from prewatt.benchmarks.recharge_desk import BARE, OURS, Sold, serve
from prewatt.core.accounts import TransferKind

#: Local midnight of the city's second day, and the grace after it.
_UNTIL = OPENED + timedelta(hours=23)
_NOW = OPENED + timedelta(hours=25)
#: What is posted before the clock starts: statements are planned.
_WARM_UP: Final = 50
_RECHARGE_S: Final = 2.0
_LANES: Final = 2


@dataclass(frozen=True, slots=True)
class PostingFigures:
    """Seconds, and accounts a second. ``per_million_s``: what a million accounts would take.

    ``posting_s`` lasts from the first worker's first account to the last one's last: a worker is there
    all day, so its start and its first few accounts count for nothing.
    ``cpu_ms``: processor time of an account in the worker and its server process, by part; ``total``
    is all of it. ``locked_ms``: how long a chunk's accounts are locked, at the 99th percentile.
    """

    accounts: int
    workers: int
    intervals: int
    transfers: int
    filled_s: float
    posting_s: float
    accounts_per_second: int
    ceiling_per_second: int
    ratio: float
    per_million_s: float
    cpu_ms: dict[str, float]
    locked_ms: float
    recharges: Selling | None
    load_average: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class _Done:
    """What one worker did, ``counted`` of it after a warm-up; ``locked_s`` for each chunk. The instants
    are of the machine's one clock, which all its processes read.
    """

    accounts: int
    counted: int
    began_s: float
    ended_s: float
    cpu_s: dict[str, float]
    locked_s: list[float]


def measure(
    *,
    accounts: int,
    workers: int,
    callers: int,
    dsn: str | None,
    tell: Callable[[str], None],
    recharges_per_second: int = 0,
) -> PostingFigures:
    """Fill a city, let a day pass, post it while so many callers recharge, together so often at most
    (0: as they are answered). Raises `NotDurableError`.
    """
    with empty_database(dsn) as owner:
        city = City(accounts)
        began = time.monotonic()
        fill(owner, city, tell=tell)
        live(owner, city, quarters=96, tell=tell)
        filled_s = time.monotonic() - began
        read_s = _read_alone(owner)
        pause_s = callers / recharges_per_second if recharges_per_second else 0.0
        shares = [(login(owner, "clerk"), city, each, workers) for each in range(workers)]
        with (
            _recharging(owner, city, callers, pause_s) as sold,
            ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        ):
            done = list(pool.map(_post, shares))
        intervals, transfers = _check(owner, accounts)
    if sum(each.accounts for each in done) != accounts:
        raise AssertionError(f"{accounts} accounts meant, {done} posted")
    counted = sum(each.counted for each in done)
    posting_s = max(each.ended_s for each in done) - min(each.began_s for each in done)
    locked = sorted(each for some in done for each in some.locked_s)
    return PostingFigures(
        accounts=accounts,
        workers=workers,
        intervals=intervals,
        transfers=transfers,
        filled_s=round(filled_s, 1),
        posting_s=round(posting_s, 1),
        accounts_per_second=int(counted / posting_s),
        ceiling_per_second=int(accounts / read_s),
        ratio=round(read_s / accounts * counted / posting_s, 3),
        per_million_s=round(posting_s / counted * 1_000_000, 1),
        cpu_ms={
            part: round(sum(each.cpu_s[part] for each in done) * 1_000 / counted, 4)
            for part in done[0].cpu_s
        },
        locked_ms=round(locked[-(-len(locked) * 99 // 100) - 1] * 1_000, 1),
        recharges=Selling.of(sold) if sold else None,
        load_average=os.getloadavg(),
    )


@contextlib.contextmanager
def _recharging(owner: str, city: City, callers: int, pause_s: float) -> Iterator[list[Sold]]:
    """Let callers at the desk of a process of its own recharge for the length of the block."""
    sold: list[Sold] = []
    if not callers:
        yield sold
        return
    with psycopg.connect(owner) as connection:
        connection.execute(BARE)
    failed: list[Exception] = []
    stopping = threading.Event()
    with _process(serve, login(owner, "web"), owner, city, callers, _LANES, pause_s) as ask:

        def sell() -> None:
            try:
                while not stopping.is_set():
                    sold.append(ask((OURS, _RECHARGE_S)))
            except Exception as error:
                failed.append(error)

        seller = threading.Thread(target=sell)
        seller.start()
        try:
            yield sold
        finally:
            stopping.set()
            seller.join()
    if failed:
        raise failed[0]


def _post(share: tuple[str, City, int, int]) -> _Done:
    """Post a share of the accounts, in a process of its own."""
    dsn, city, number, of = share
    os.environ["PREWATT_DSN"] = dsn
    os.environ.setdefault("PREWATT_SECRET_KEY", "a benchmark signs nothing")
    from prewatt import wiring

    wiring.start_django()
    from prewatt.access.scope import system_actor
    from prewatt.billing.operations import post_usage
    from prewatt.supply.rehearsal import rehearse

    # As the worker does: importing a calendar takes seconds, and accounts would be locked meanwhile.
    rehearse(actor=system_actor("supply"), now=_NOW)

    def post(account_ids: list[int]) -> int:
        return post_usage(
            actor=system_actor("posting"),
            now=_NOW,
            until=_UNTIL,
            cause="posting.daily",
            account_ids=account_ids,
            supply_looks=True,
        ).accounts

    own = city.shard(number, of).tolist()
    warm_up = min(_WARM_UP, len(own) // 10)
    posted = post(own[:warm_up])
    began_s = time.monotonic()
    with _Parts() as parts:
        posted += post(own[warm_up:])
    return _Done(
        posted, len(own) - warm_up, began_s, time.monotonic(), parts.seconds, parts.locked_s
    )


class _Parts:
    """Takes the processor time of the parts of a posting while the block lasts, in ``seconds``; what
    lies between them, commits above all, is ``rest``. ``locked_s``: from locks to commit, by chunk.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.locked_s: list[float] = []
        self._began_s = self._locked_at = 0.0
        self._patches = contextlib.ExitStack()

    def __enter__(self) -> Self:
        from prewatt.access.scope import scope
        from prewatt.billing import operations, posting

        for module, name, part in (
            (posting, "read_unposted", "intervals"),
            (posting, "lock_numbers", "locks"),
            (posting, "daily_legs", "days"),
            (posting, "_legs", "legs"),
            (posting, "append_events", "ledger"),
            (posting, "_close", "closing"),
            (operations, "look_again", "supply"),
        ):
            self._patch(module, name, self._timed(getattr(module, name), part))
        self._patch(operations, "scope", self._transaction(scope))
        self._began_s = cpu_s()
        return self

    def __exit__(self, *_: object) -> None:
        total = cpu_s() - self._began_s
        self._patches.close()
        self.seconds |= {"rest": total - sum(self.seconds.values()), "total": total}

    def _patch(self, module: object, name: str, replacement: object) -> None:
        self._patches.enter_context(mock.patch.object(module, name, replacement))

    def _timed(self, real: Callable[..., Any], part: str) -> Callable[..., Any]:
        self.seconds[part] = 0.0

        def timed(*given: Any, **named: Any) -> Any:
            before = cpu_s()
            try:
                return real(*given, **named)
            finally:
                self.seconds[part] += cpu_s() - before
                if part == "locks":
                    self._locked_at = time.perf_counter()

        return timed

    def _transaction(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @contextlib.contextmanager
        def transaction(actor: Any) -> Iterator[None]:
            self._locked_at = 0.0
            with real(actor):
                yield
            if self._locked_at:
                self.locked_s.append(time.perf_counter() - self._locked_at)

        return transaction


def _read_alone(dsn: str) -> float:
    """PostgreSQL's own time to read every interval once by its account."""
    with psycopg.connect(dsn) as connection:
        began = time.monotonic()
        connection.execute(
            """SELECT count(*) FROM (SELECT account_id, sum(energy_wh), sum(charge_energy)
                                     FROM interval GROUP BY account_id) AS each"""
        ).fetchone()
        return time.monotonic() - began


def _check(dsn: str, accounts: int) -> tuple[int, int]:
    """(intervals, transfers of the postings); every account is posted up to its last interval of
    the day, and what was posted is what the ledger has.
    """
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            """SELECT (SELECT count(*) FROM posting),
                   (SELECT count(*) FROM account_state s
                    WHERE posted_interval_no <> 92 OR posted <> (
                        SELECT sum(amount) FROM transfer t WHERE t.account_id = s.account_id)),
                   (SELECT count(*) FROM interval), (SELECT count(*) FROM transfer WHERE kind <> %s)""",
            [int(TransferKind.RECHARGE)],
        ).fetchone()
    assert row is not None
    postings, wrong, intervals, transfers = row
    if postings != accounts or wrong:
        raise AssertionError(f"{postings} postings of {accounts} accounts, {wrong} do not add up")
    return intervals, transfers


def as_text(figures: PostingFigures) -> str:
    """The figures in a few lines."""
    parts = ", ".join(f"{part} {ms:.3f}" for part, ms in figures.cpu_ms.items() if part != "total")
    lines = [
        (
            f"posted a day of {figures.accounts:,} accounts ({figures.intervals:,} intervals, "
            f"{figures.transfers:,} transfers) in {figures.posting_s:.0f} s with {figures.workers} "
            f"workers: {figures.accounts_per_second:,} accounts/s, a million in "
            f"{figures.per_million_s:.0f} s"
        ),
        (
            f"processor time of 1,000 accounts: {figures.cpu_ms['total']:.3f} s ({parts}); locked for "
            f"{figures.locked_ms:.0f} ms (99 of 100 chunks)"
        ),
        (
            f"PostgreSQL reading the same intervals once: {figures.ceiling_per_second:,} accounts/s; "
            f"ratio {figures.ratio:.2f}; load average {figures.load_average[0]:.1f}"
        ),
    ]
    if beside := figures.recharges:
        lines.append(
            f"recharges beside it: {beside.recharges_per_second:,}/s, p50 {beside.p50} ms, p99 "
            f"{beside.p99} ms, longest {beside.max} ms; {beside.busy} were told to ask again"
        )
    return "\n".join(lines)
