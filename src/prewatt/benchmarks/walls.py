"""What scoping and row-level security cost the hot reads: each asked in turn with the walls and without.

With: as in production, under an administrator's database role. Without: the very same statements as the
tables' owner, whom no policy holds. Both ask for the same accounts, one after the other, so that what the
machine does besides falls on both. Ingest is not here: `head_end` bypasses row-level security.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Final

from prewatt.benchmarks.city import City, fill
from prewatt.benchmarks.past import lay_down
from prewatt.benchmarks.query import _Bench, _standing
from prewatt.core.civil_time import utc_datetime

#: What is asked for, as the share that the walls may add.
MOST: Final = 0.15
ROUNDS: Final = 60


@dataclass(frozen=True, slots=True)
class WallFigures:
    """One read: medians in ms with the walls and without, and what the walls add as a share."""

    page: str
    with_ms: float
    without_ms: float
    added: float


def measure(
    *, accounts: int, intervals: int, rounds: int, dsn: str | None, folder: Path | None,
    tell: Callable[[str], None],
) -> tuple[WallFigures, ...]:  # fmt: skip
    """Fill a city as `prewatt bench query` does, and ask. Raises `NotDurableError`."""
    city = City(accounts)
    quarters = -(-intervals // accounts)

    def fill_up(owner: str) -> None:
        fill(owner, city, tell=tell)
        lay_down(owner, city, quarters=quarters, tell=tell)

    with _standing(dsn, folder, fill_up):
        # Only there Django is set up.
        from prewatt.reports import estate_query
        from prewatt.reports.account_query import account_page
        from prewatt.reports.recharge_query import recharge_form
        from prewatt.reports.today_query import today

        now = utc_datetime(city.at_us(quarters)) + timedelta(minutes=1)
        bench = _Bench(city, now, tell)
        bench.settle()
        actor, known = bench._somebody()
        pages: tuple[tuple[str, Callable[[int], object]], ...] = (
            ("account", lambda account: account_page(actor=actor, account_id=account, now=now)),
            ("today", lambda _account: today(actor=actor, now=now)),
            ("units", lambda _account: estate_query.unit_list(actor=actor, now=now)),
            ("recharge", lambda account: recharge_form(actor=actor, account_id=account, now=now)),
        )
        return tuple(
            _page(name, ask, [known[each * 7 % len(known)] for each in range(rounds)])
            for name, ask in pages
        )


def _page(name: str, ask: Callable[[int], object], accounts: list[int]) -> WallFigures:
    ask(accounts[0])
    held: list[float] = []
    free: list[float] = []
    for number, account in enumerate(accounts):
        # Whoever comes second finds the rows warm, so they take turns at that too.
        for is_held in (True, False) if number % 2 else (False, True):
            if is_held:
                held.append(_timed(ask, account))
            else:
                with without_walls():
                    free.append(_timed(ask, account))
    with_ms, without_ms = median(held), median(free)
    return WallFigures(
        name, round(with_ms, 2), round(without_ms, 2), round(with_ms / without_ms - 1, 3)
    )


def _timed(ask: Callable[[int], object], account: int) -> float:
    began = time.perf_counter()
    ask(account)
    return (time.perf_counter() - began) * 1000


@contextmanager
def without_walls() -> Iterator[None]:
    """Let scopes keep the login's own role, which here is the tables' owner's."""
    from prewatt.access.scope import DATABASE_ROLE

    kept = dict(DATABASE_ROLE)
    DATABASE_ROLE.clear()
    try:
        yield
    finally:
        DATABASE_ROLE.update(kept)


def as_text(figures: tuple[WallFigures, ...]) -> str:
    """The figures as a table."""
    lines = [
        f"{each.page:<12}{each.with_ms:>12.2f}{each.without_ms:>12.2f}{each.added:>+10.1%}"
        for each in figures
    ]
    head = f"{'median, ms':<12}{'walls':>12}{'no walls':>12}{'added':>10}"
    return "\n".join([f"load average {os.getloadavg()[0]:.1f}", head, *lines])
