"""How long pages and lists take in a city with history, and which node of a plan takes the time.

A city (`city`) is filled, and PostgreSQL makes quarter-hours of its real load shapes (`past`), as
many intervals as asked for. Then each page's own query is asked again and again,
for accounts and properties at random, by an administrator under row-level security, where nothing
is left of the one before but PostgreSQL's own memory. Where a page is slow, its slowest statement is
explained, and the node with the longest time of its own named.
"""

from __future__ import annotations

import csv
import io
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from prewatt.benchmarks.city import City, cashier, empty_database, fill, kept_database
from prewatt.benchmarks.figures import Latencies
from prewatt.benchmarks.ingest import Crew
from prewatt.benchmarks.ingest_writer import OURS, Feed, cpu_s
from prewatt.benchmarks.past import lay_down
from prewatt.core.civil_time import utc_datetime
from prewatt.reports.paging import Page

if TYPE_CHECKING:
    from prewatt.access.scope import Actor

#: An account page is to stay below this while readings come in; a slower page is explained.
SLOW_MS: Final = 100.0
_BATCH: Final = 10_000
#: Pages about a whole property of ten thousand are asked less often than those about one account.
_OF_ACCOUNT, _OF_PROPERTY = 60, 20
#: Today of so many properties: the usage of each is added up once, which takes its time.
_PLACES_OF_TODAY: Final = 5
_POSTED: Final = 100


@dataclass(frozen=True, slots=True)
class PageFigures:
    """One page, in ms; ``cpu`` is processor time of ours and of PostgreSQL together, for one look.

    ``worst`` names the plan's worst node and its own ms, where it is slow.
    """

    page: str
    count: int
    p50: float
    p95: float
    max: float
    cpu: float
    worst: str = ""


@dataclass(frozen=True, slots=True)
class QueryFigures:
    """All pages, in a quiet city and, for the account page, while readings come in."""

    accounts: int
    intervals: int
    bytes: int
    pages: tuple[PageFigures, ...]
    beside_ingest: PageFigures | None
    load_average: tuple[float, float, float]


def measure(
    *,
    accounts: int,
    intervals: int,
    beside_ingest: bool,
    dsn: str | None,
    folder: Path | None,
    tell: Callable[[str], None],
) -> QueryFigures:
    """Fill the empty database of ``dsn``, or a server of our own, and ask.

    In ``folder`` the city stays: the next time it is asked as it stands. Raises `NotDurableError` if
    ``dsn`` names a server that is not durable.
    """
    city = City(accounts)
    quarters = -(-intervals // accounts)

    def fill_up(owner: str) -> None:
        fill(owner, city, tell=tell)
        lay_down(owner, city, quarters=quarters, tell=tell)

    with _standing(dsn, folder, fill_up) as owner:
        bench = _Bench(city, utc_datetime(city.at_us(quarters)) + timedelta(minutes=1), tell)
        bench.settle()
        found = [bench.page(*each) for each in bench.pages()]
        beside = None
        if beside_ingest:
            crew = Crew(owner, city, batch=Feed(_BATCH, after=quarters), writers=2)
            with crew, _ingesting(crew):
                beside = bench.page("account, while readings come in", *bench.account())
        stored, size = _size()
    return QueryFigures(
        accounts=accounts,
        intervals=stored,
        bytes=size,
        pages=tuple(found),
        beside_ingest=beside,
        load_average=os.getloadavg(),
    )


@contextmanager
def _standing(
    dsn: str | None, folder: Path | None, fill_up: Callable[[str], None]
) -> Iterator[str]:
    """The owner's DSN of the filled city; what no folder keeps is thrown away in the end."""
    if dsn is not None:
        with empty_database(dsn) as owner:
            fill_up(owner)
            yield owner
        return
    with ExitStack() as stack:
        if folder is None:
            above = Path(stack.enter_context(TemporaryDirectory(prefix="prewatt-")))
            # Root's server runs as somebody else, who has to come through.
            above.chmod(0o755 if os.geteuid() == 0 else 0o700)
            folder = above / "city"
        yield stack.enter_context(kept_database(folder, fill_up))


@contextmanager
def _ingesting(crew: Crew) -> Iterator[None]:
    """Let the writers take readings in, batch after batch, by the path that production uses."""
    stopping = threading.Event()

    def ingest() -> None:
        while not stopping.is_set():
            crew.phase(OURS, 1)

    writer = threading.Thread(target=ingest)
    writer.start()
    try:
        yield
    finally:
        stopping.set()
        writer.join()


Ask = Callable[[], object]


class _Bench:
    """Asks pages as an administrator of each property in turn."""

    def __init__(self, city: City, now: datetime, tell: Callable[[str], None]) -> None:
        self._city = city
        self._now = now
        self._tell = tell
        self._chance = random.Random(4)  # noqa: S311 - accounts at random, no secrets
        self._charges: list[tuple[int, int, Any]] = []
        #: The accounts with history, by property.
        self._accounts: dict[int, list[int]] = {}

    def settle(self) -> None:
        """Post what some accounts have used, so that there are charges to explain; analyse."""
        from django.db import connection

        from prewatt.access.scope import system_actor
        from prewatt.billing.operations import post_usage

        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT property_id, array_agg(account_id ORDER BY account_id) FROM account_state
                   WHERE interval_no > 0 GROUP BY property_id ORDER BY property_id"""
            )
            self._accounts = dict(cursor.fetchall())
        settled = [each for accounts in self._accounts.values() for each in accounts]
        some = self._chance.sample(settled, min(_POSTED, len(settled)))
        post_usage(
            actor=system_actor("bench"),
            now=self._now,
            until=self._now,
            cause="posting.daily",
            account_ids=sorted(some),
        )
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
            cursor.execute(
                """SELECT account_id, event_id, (service_from AT TIME ZONE 'Europe/Berlin')::date
                   FROM transfer WHERE kind = 3 ORDER BY account_id, event_id"""
            )
            self._charges = cursor.fetchall()

    def pages(self) -> list[tuple[str, int, Ask]]:
        """What is asked, how often, by which query."""
        from prewatt.reports import estate_query, lists_query
        from prewatt.reports.today_query import today

        now = self._now
        listed: list[tuple[str, Callable[[Actor], object]]] = [
            ("accounts", lambda actor: lists_query.accounts(actor=actor, now=now)),
            (
                "accounts, the next page by time left",
                lambda actor: lists_query.accounts(
                    actor=actor, now=now, sort="time", page=Page.of("86400_1", "")
                ),
            ),
            (
                "accounts, searched and sorted",
                lambda actor: lists_query.accounts(
                    actor=actor, now=now, query="House 7", sort="time"
                ),
            ),
            ("accounts, exported", self._export),
            ("units", lambda actor: estate_query.unit_list(actor=actor, now=now)),
            ("property", lambda actor: estate_query.property_page(actor=actor, now=now)),
            ("meters", lambda actor: lists_query.meters(actor=actor, now=now)),
            (
                "meters, silent",
                lambda actor: lists_query.meters(actor=actor, now=now, show="silent"),
            ),
            ("money", lambda actor: lists_query.money(actor=actor, now=now, days=31)),
            ("orders", lambda actor: lists_query.orders(actor=actor, now=now)),
            ("messages", lambda actor: lists_query.messages(actor=actor, now=now)),
        ]
        some = [self._actor(each) for each in list(self._accounts)[:_PLACES_OF_TODAY]]
        first, again = cycle(some), cycle(some)
        return [
            ("account", *self.account()),
            ("charge", _OF_ACCOUNT, self._charge),
            (
                "today, its usage added up at first",
                len(some) - 1,
                lambda: today(actor=next(first), now=now, add_up=True),
            ),
            ("today", _OF_PROPERTY, lambda: today(actor=next(again), now=now)),
            *(
                (name, _OF_PROPERTY, lambda ask=ask: ask(self._somebody()[0]))
                for name, ask in listed
            ),
        ]

    def account(self) -> tuple[int, Ask]:
        """The account page, of any account."""
        from prewatt.reports.account_query import account_page

        def ask() -> object:
            actor, accounts = self._somebody()
            return account_page(
                actor=actor, account_id=self._chance.choice(accounts), now=self._now
            )

        return _OF_ACCOUNT, ask

    def _charge(self) -> object:
        from prewatt.reports.account import EntryKind
        from prewatt.reports.charge_query import charge_page

        account_id, event_id, day = self._chance.choice(self._charges)
        return charge_page(
            actor=self._actor((account_id - 1) // len(cashier(self._city, 0)[1]) + 1),
            account_id=account_id,
            event_id=event_id,
            kind=EntryKind.USAGE,
            day=day,
            now=self._now,
        )

    def _export(self, actor: Actor) -> object:
        from prewatt.reports import lists_query
        from prewatt.reports.place import place_for
        from prewatt.web.console import export

        file = io.StringIO()
        found = lists_query.every_account(actor=actor, now=self._now)
        csv.writer(file).writerows(export.accounts(found, place_for(actor)))
        return file

    def _somebody(self) -> tuple[Actor, Sequence[int]]:
        property_id = self._chance.choice(list(self._accounts))
        return self._actor(property_id), self._accounts[property_id]

    @staticmethod
    def _actor(property_id: int) -> Actor:
        from prewatt.access.models import Duty
        from prewatt.access.scope import Actor

        return Actor("user:1", Duty.ADMINISTRATOR, (property_id,))

    def page(self, name: str, count: int, ask: Ask) -> PageFigures:
        """Ask so often, after once to warm up; and explain it if it is slow."""
        ask()
        waits, before = [], cpu_s()
        for _ in range(count):
            began = time.perf_counter()
            ask()
            waits.append(timedelta(seconds=time.perf_counter() - began))
        cpu_ms = round((cpu_s() - before) * 1000 / count, 1)
        found = Latencies.of(waits)
        worst = _worst_node(ask) if found.p95 > SLOW_MS else ""
        self._tell(f"{name}: p50 {found.p50} ms, p95 {found.p95} ms, cpu {cpu_ms} ms {worst}")
        return PageFigures(name, count, found.p50, found.p95, found.max, cpu_ms, worst)


def _worst_node(ask: Ask) -> str:
    """The node with the longest time of its own in the slowest statement of a page."""
    from django.db import connection

    slowest: list[Any] = [0.0, "", None]

    def timed(execute: Any, query: str, given: Any, many: bool, context: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(query, given, many, context)
        finally:
            took = time.perf_counter() - began
            if took > slowest[0] and query.lstrip().upper().startswith(("SELECT", "WITH")):
                slowest[:] = [took, query, given]
                explained.clear()
                with connection.cursor() as cursor:
                    # The wrapper sees this one, too, and it begins with EXPLAIN.
                    cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", given)
                    explained.extend(cursor.fetchone()[0])

    explained: list[Mapping[str, Any]] = []
    began = time.perf_counter()
    with connection.execute_wrapper(timed):
        ask()
    if not explained:
        return "no statement"
    own, node = max(_own_times(explained[0]["Plan"]), key=lambda each: each[0])
    share = f"{slowest[0] * 1000:.0f} of {(time.perf_counter() - began) * 1000:.0f} ms in SQL"
    return f"{share}; {node}, {own:.0f} ms"


def _own_times(plan: Mapping[str, Any]) -> Iterator[tuple[float, str]]:
    """(ms of its own over all loops, name) of a plan's nodes."""
    below = plan.get("Plans", ())
    total = plan["Actual Total Time"] * plan["Actual Loops"]
    inside = sum(each["Actual Total Time"] * each["Actual Loops"] for each in below)
    on = plan.get("Index Name") or plan.get("Relation Name") or ""
    yield max(0.0, total - inside), f"{plan['Node Type']} {on}".strip()
    for each in below:
        yield from _own_times(each)


def _size() -> tuple[int, int]:
    """Intervals stored, as their accounts have numbered them, and the bytes of the whole database."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT sum(interval_no), pg_database_size(current_database()) FROM account_state"""
        )
        count, size = cursor.fetchone()
    return int(count), int(size)


def as_text(figures: QueryFigures) -> str:
    """The figures as a table, in milliseconds."""
    head = f"{'milliseconds':<38}{'count':>7}{'p50':>9}{'p95':>9}{'max':>9}{'cpu':>9}"
    pages = [*figures.pages, *([figures.beside_ingest] if figures.beside_ingest else [])]
    lines = [
        f"{each.page:<38}{each.count:>7}{each.p50:>9.1f}{each.p95:>9.1f}{each.max:>9.1f}{each.cpu:>9.1f}  {each.worst}"
        for each in pages
    ]
    return "\n".join(
        [
            (
                f"{figures.accounts:,} accounts, {figures.intervals:,} intervals, "
                f"{figures.bytes / 2**30:.1f} GiB; load average {figures.load_average[0]:.1f}"
            ),
            head,
            *lines,
        ]
    )
