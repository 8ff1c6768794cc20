"""`prewatt drill partition`: bad weather on every line between field, broker, head-end, tellers and database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from prewatt.drills.comparison import check_under_load
from prewatt.drills.proxy import Proxy, Weather
from prewatt.drills.report import Report
from prewatt.drills.world import Routes, World
from prewatt.runtime.broker import LOOPBACK, free_port

_CHECK_EVERY: Final = 20
_DATABASE_WEATHER: Final = (Weather.SLOW, Weather.SILENT, Weather.CUT, Weather.TRUNCATED)
_BROKER_WEATHER: Final = (*_DATABASE_WEATHER, Weather.REPEATED)


class Lines:
    """A proxy on each line, by what it lies between."""

    def __init__(self, folder: Path, seed: str) -> None:
        self._folder = folder
        self._seed = seed
        self.proxies: dict[str, Proxy] = {}

    def between(self, direct: Routes) -> Routes:
        """Put a proxy on every line; returns the routes that lead through them."""
        return Routes(
            field_to_broker=self._to_broker("field", direct.field_to_broker),
            head_end_to_broker=self._to_broker("head-end", direct.head_end_to_broker),
            head_end_to_database=self._to_database("head-end", direct.head_end_to_database),
            worker_to_database=self._to_database("worker", direct.worker_to_database),
            tellers_to_database=self._to_database("tellers", direct.tellers_to_database),
        )

    def stop(self) -> None:
        """End all of them."""
        for proxy in self.proxies.values():
            proxy.stop()

    def _to_broker(self, who: str, far: tuple[str, int]) -> tuple[str, int]:
        near = (LOOPBACK, free_port())
        self._start(f"{who} to broker", Proxy(near, far, seed=f"{self._seed} {who}", packets=True))
        return near

    def _to_database(self, who: str, far: Path) -> Path:
        """PostgreSQL's clients look for a socket of that name in the folder they are given."""
        near = self._folder / f"p-{who}"
        near.mkdir()
        name = ".s.PGSQL.5432"
        proxy = Proxy(near / name, far / name, seed=f"{self._seed} {who} database")
        self._start(f"{who} to database", proxy)
        return near

    def _start(self, name: str, proxy: Proxy) -> None:
        self.proxies[name] = proxy
        proxy.start()


def bad_weather(
    made: World,
    lines: Lines,
    report: Report,
    *,
    rounds: int,
    random: Random,
    tell: Callable[[str], None],
) -> None:
    """So many storms, each on one or two lines for a moment; then it is calm again."""
    for number in range(1, rounds + 1):
        struck = random.sample(sorted(lines.proxies), random.choice((1, 1, 2)))
        for name in struck:
            kinds = _BROKER_WEATHER if name.endswith("broker") else _DATABASE_WEATHER
            lines.proxies[name].turn(random.choice(kinds))
        made.run_for(random.uniform(0.1, 1.2))
        for name in struck:
            lines.proxies[name].turn(Weather.CALM)
        made.run_for(random.uniform(0.0, 0.8))
        report.rounds += 1
        if number % _CHECK_EVERY == 0:
            check_under_load(made, report)
            tell(f"round {number} of {rounds}: {len(report.broken)} broken")
    for proxy in lines.proxies.values():
        for what, count in proxy.counts.items():
            report.done[what] = report.done.get(what, 0) + count
