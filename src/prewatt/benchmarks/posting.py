"""How long it takes to post a day of a city, and what of it PostgreSQL spends alone.

The day's quarter-hours are written set-based in the shape that ingest leaves (`city.live`), then
posted as the worker posts them, chunk by chunk, and measured. Beside it stands the one thing that no
posting can do without: gathering every interval of the day once by its account.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context

import psycopg

from prewatt.benchmarks.city import OPENED, City, empty_database, fill, live, login

#: Local midnight of the city's second day, and the grace after it.
_UNTIL = OPENED + timedelta(hours=23)
_NOW = OPENED + timedelta(hours=25)


@dataclass(frozen=True, slots=True)
class PostingFigures:
    """Seconds, and accounts a second. ``per_million_s``: what a million accounts would take."""

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
    load_average: tuple[float, float, float]


def measure(
    *, accounts: int, workers: int, dsn: str | None, tell: Callable[[str], None]
) -> PostingFigures:
    """Fill a city, let a day pass, post it. Raises `NotDurableError`."""
    with empty_database(dsn) as owner:
        city = City(accounts)
        began = time.monotonic()
        fill(owner, city, tell=tell)
        live(owner, city, quarters=96, tell=tell)
        filled_s = time.monotonic() - began
        read_s = _read_alone(owner)
        began = time.monotonic()
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            shares = [(login(owner, "clerk"), city, each, workers) for each in range(workers)]
            posted = sum(pool.map(_post, shares))
        posting_s = time.monotonic() - began
        intervals, transfers = _check(owner, accounts)
    if posted != accounts:
        raise AssertionError(f"{accounts} accounts meant, {posted} posted")
    return PostingFigures(
        accounts=accounts,
        workers=workers,
        intervals=intervals,
        transfers=transfers,
        filled_s=round(filled_s, 1),
        posting_s=round(posting_s, 1),
        accounts_per_second=int(accounts / posting_s),
        ceiling_per_second=int(accounts / read_s),
        ratio=round(read_s / posting_s, 3),
        per_million_s=round(posting_s / accounts * 1_000_000, 1),
        load_average=os.getloadavg(),
    )


def _post(share: tuple[str, City, int, int]) -> int:
    """Post a share of the accounts, in a process of its own."""
    dsn, city, number, of = share
    os.environ["PREWATT_DSN"] = dsn
    os.environ.setdefault("PREWATT_SECRET_KEY", "a benchmark signs nothing")
    from prewatt import wiring

    wiring.start_django()
    from prewatt.access.scope import system_actor
    from prewatt.billing.operations import post_usage

    done = post_usage(
        actor=system_actor("posting"),
        now=_NOW,
        until=_UNTIL,
        cause="posting.daily",
        account_ids=city.shard(number, of).tolist() if of > 1 else None,
        supply_looks=True,
    )
    return done.accounts


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
                   (SELECT count(*) FROM interval), (SELECT count(*) - %s FROM transfer)""",
            [accounts],
        ).fetchone()
    assert row is not None
    postings, wrong, intervals, transfers = row
    if postings != accounts or wrong:
        raise AssertionError(f"{postings} postings of {accounts} accounts, {wrong} do not add up")
    return intervals, transfers


def as_text(figures: PostingFigures) -> str:
    """The figures in a few lines."""
    return (
        f"posted a day of {figures.accounts:,} accounts ({figures.intervals:,} intervals, "
        f"{figures.transfers:,} transfers) in {figures.posting_s:.0f} s with {figures.workers} "
        f"workers: {figures.accounts_per_second:,} accounts/s, a million in "
        f"{figures.per_million_s:.0f} s\n"
        f"PostgreSQL reading the same intervals once: {figures.ceiling_per_second:,} accounts/s; "
        f"ratio {figures.ratio:.2f}; load average {figures.load_average[0]:.1f}"
    )
