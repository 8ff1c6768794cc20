"""The selling process of `prewatt bench recharge`: callers at a desk, and PostgreSQL alone with the same rows."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg

from prewatt.benchmarks.city import City, cashier
from prewatt.runtime.prepared import integers, texts

if TYPE_CHECKING:
    from prewatt.vending.desk import Desk

OURS: Final = "ours"
CEILING: Final = "ceiling"
AMOUNT_MICRO: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of processor: of those who ask, of the rest of their process, of the whole server.

    Zero where the system does not count them (`/proc`).
    """

    callers_s: float
    desk_s: float
    server_s: float


@dataclass(frozen=True, slots=True)
class Sold:
    """What a phase did; ``waits`` in seconds, one for each recharge of our own phase."""

    recharges: int
    seconds: float
    waits: tuple[float, ...]
    sets: tuple[int, ...] = ()
    spent: Spent = Spent(0.0, 0.0, 0.0)
    #: Those that were told to ask again, because somebody else kept their account for too long.
    busy: int = 0
    #: Those about which there was something to decide.
    decided: int = 0


def serve(
    pipe: Connection,
    web_dsn: str,
    owner_dsn: str,
    city: City,
    callers: int,
    lanes: int,
    pause_s: float = 0.0,
) -> None:
    """Sell for so many seconds whenever the pipe names a phase; until it closes. Each caller pauses
    ``pause_s`` after each answer.
    """
    os.environ["PREWATT_DSN"] = web_dsn
    os.environ.setdefault("PREWATT_SECRET_KEY", "a benchmark signs nothing")
    from prewatt import wiring

    wiring.start_django()
    try:
        with _Seller(city, callers, lanes, owner_dsn, pause_s) as seller:
            seller.warm_up()
            pipe.send("ready")
            while True:
                name, seconds = pipe.recv()
                pipe.send(seller.ours(seconds) if name == OURS else seller.ceiling(seconds))
    except EOFError:
        return
    except Exception as error:
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


class _Counted:
    """A way to sell sets, and how many recharges each of them had."""

    def __init__(self, sell: Callable[..., Any]) -> None:
        self._sell = sell
        self.sizes: list[int] = []

    def __call__(self, **given: Any) -> Any:
        answers = self._sell(**given)
        if sold := len(answers) - answers.count(None):
            self.sizes.append(sold)
        return answers

    def take(self) -> list[int]:
        """The sizes since the last time."""
        sizes, self.sizes = self.sizes, []
        return sizes


class _Seller:
    """A process with a desk, which stays open as that of the web does."""

    def __init__(
        self, city: City, callers: int, lanes: int, owner_dsn: str, pause_s: float = 0.0
    ) -> None:
        self._city = city
        self._callers = callers
        self._lanes = lanes
        self._owner_dsn = owner_dsn
        self._pause_s = pause_s
        self._numbers = itertools.count(1)
        self._sets: list[int] = [1]
        from prewatt.vending.desk import Desk
        from prewatt.vending.operations import recharge_at_once, recharge_together

        self._at_once, self._together = _Counted(recharge_at_once), _Counted(recharge_together)
        self._desk = Desk(lanes=lanes, at_once=self._at_once, together=self._together)

    def __enter__(self) -> _Seller:
        self._desk.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._desk.stop()

    def warm_up(self) -> None:
        """Let every connection plan its statements."""
        self.ours(1.0)
        self.ceiling(1.0)

    def ours(self, seconds: float) -> Sold:
        """Callers in threads, each a cashier at one property, ask again as soon as they are answered."""
        clock = _Clock(self._owner_dsn)
        waits, took, busy, callers_s = self._call(self._desk, seconds)
        spent = clock.spent(callers_s)
        decided = self._together.take()
        self._sets = [*self._at_once.take(), *decided]
        return Sold(
            len(waits) - busy,
            took,
            tuple(waits),
            tuple(self._sets),
            spent,
            busy=busy,
            decided=sum(decided),
        )

    def _call(self, desk: Desk, seconds: float) -> tuple[list[float], float, int, float]:
        waits: list[list[float]] = [[] for _ in range(self._callers)]
        busy_s: list[float] = []
        refusals: list[str] = []
        began = time.monotonic()
        threads = [
            threading.Thread(
                target=self._caller,
                args=(desk, each, began + seconds, waits[each], refusals, busy_s),
            )
            for each in range(self._callers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        if refused := set(refusals) - {"vending.recharge.busy"}:
            raise AssertionError(f"recharges were refused: {refused}")
        return [each for own in waits for each in own], took, len(refusals), sum(busy_s)

    def _caller(
        self,
        desk: Desk,
        number: int,
        until: float,
        waits: list[float],
        refusals: list[str],
        busy_s: list[float],
    ) -> None:
        from prewatt.access.models import Duty
        from prewatt.access.scope import Actor
        from prewatt.vending.words import Recharge, RechargeRefused

        chance = random.Random(next(self._numbers))  # noqa: S311 - accounts at random, no secrets
        property_id, accounts = cashier(self._city, number)
        actor = Actor(f"user:{number + 1}", Duty.OPERATOR, (property_id,))
        while (began := time.monotonic()) < until:
            now = datetime.now(UTC)
            account_id = chance.choice(accounts)
            wish = Recharge(
                f"{chance.getrandbits(96):x}", account_id, AMOUNT_MICRO, "cash", "", now
            )
            answer = desk.recharge(actor=actor, wish=wish, now=now)
            waits.append(time.monotonic() - began)
            if isinstance(answer, RechargeRefused):
                refusals.append(answer.code)
            if self._pause_s:
                time.sleep(self._pause_s)
        busy_s.append(time.thread_time())

    def ceiling(self, seconds: float) -> Sold:
        """The rows of the same sets again, on as many connections, and nothing else."""
        sizes = itertools.cycle(list(self._sets))
        done: list[int] = []
        clock = _Clock(self._owner_dsn)
        spent: list[Spent] = []
        began = time.monotonic()
        together = threading.Barrier(self._lanes, lambda: spent.append(clock.spent(0.0)))
        threads = [
            threading.Thread(target=self._bare, args=(sizes, began + seconds, done, together))
            for _ in range(self._lanes)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return Sold(sum(done), time.monotonic() - began, (), tuple(done), spent[0])

    def _bare(self, sizes: Any, until: float, done: list[int], together: threading.Barrier) -> None:
        chance = random.Random(next(self._numbers))  # noqa: S311 - accounts at random, no secrets
        with psycopg.connect(self._owner_dsn, autocommit=True) as connection:
            while time.monotonic() < until:
                size = next(sizes)
                ids = chance.sample(range(1, self._city.accounts + 1), size)
                connection.execute(
                    "SELECT bench_bare(%s::bigint[], %s::text[], %s::bigint, %s)",
                    [
                        integers(sorted(ids)),
                        texts([f"{chance.getrandbits(96):x}" for _ in ids]),
                        AMOUNT_MICRO,
                        datetime.now(UTC),
                    ],
                    prepare=True,
                )
                done.append(size)
            # The server's processes are looked at while all of them are still there.
            together.wait()


class _Clock:
    """What this process and the server have used of the processors since it was made."""

    def __init__(self, owner_dsn: str) -> None:
        self._owner = psycopg.connect(owner_dsn, autocommit=True)
        self._server_ns = self._of_server()
        self._own_s = time.process_time()

    def spent(self, callers_s: float) -> Spent:
        """What was used, of which ``callers_s`` by threads that ask; ends the clock."""
        own_s, now_ns = time.process_time() - self._own_s, self._of_server()
        self._owner.close()
        server_ns = sum(ns - self._server_ns.get(pid, 0) for pid, ns in now_ns.items())
        return Spent(callers_s, own_s - callers_s, server_ns / 1e9)

    def _of_server(self) -> dict[int, int]:
        """Nanoseconds of each of its processes but the one that is asked."""
        used = {}
        for (pid,) in self._owner.execute(
            "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        ):
            with contextlib.suppress(OSError):
                used[pid] = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
        return used


#: The rows of a set and nothing else: no key looked up, no scope, no decision, no message to a bell.
BARE: Final = """
CREATE SEQUENCE bench_seq;
CREATE FUNCTION bench_bare(ids bigint[], keys text[], amount bigint, at timestamptz) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    first bigint;
    numbers bigint;
BEGIN
    -- Sequence numbers of a set that follow one another, apart from those of our own phase.
    first := nextval('bench_seq') * 1000 + (1::bigint << 60);
    WITH state AS (
        UPDATE account_state s
        SET transfer_seq = transfer_seq + 1, posted = posted + amount, purchase_no = purchase_no + 1,
            updated_at = greatest(updated_at, at)
        FROM unnest(ids) AS t(a) WHERE s.account_id = t.a
        RETURNING account_id, property_id, legal_entity_id, transfer_seq, posted)
    INSERT INTO transfer (account_id, seq, property_id, legal_entity_id, event_id, kind, component,
        counter_account, amount, posted_after, currency, service_from, service_to, booked_at, actor,
        reason)
    SELECT account_id, transfer_seq, property_id, legal_entity_id, first + place, 2, 1, 1, amount,
           posted, 'EUR', at, at, at, 'user:1', 'recharge.cash'
    FROM state JOIN unnest(ids) WITH ORDINALITY AS t(account_id, place) USING (account_id);
    INSERT INTO payment (property_id, account_id, event_id, amount_micro, way, reference, paid_at,
        accepted_at, taken_by)
    SELECT (a - 1) / 10000 + 1, a, first + place, amount, 'cash', '', at, at, 'user:1'
    FROM unnest(ids) WITH ORDINALITY AS t(a, place);
    INSERT INTO document_series AS s (legal_entity_id, series, last_number)
    VALUES (1, 'B', cardinality(ids)) ON CONFLICT (legal_entity_id, series)
    DO UPDATE SET last_number = s.last_number + excluded.last_number
    RETURNING last_number - cardinality(ids) INTO numbers;
    INSERT INTO document (property_id, legal_entity_id, series, number, kind, account_id, event_id,
        issued_at, amount_micro)
    SELECT (a - 1) / 10000 + 1, 1, 'B', numbers + place, 'receipt', a, first + place, at, amount
    FROM unnest(ids) WITH ORDINALITY AS t(a, place);
    INSERT INTO idempotency (caller, key, body_hash, account_id, property_id, answer, created_at)
    SELECT 'bare', k, sha256(k::bytea), a, (a - 1) / 10000 + 1,
           jsonb_build_object('key', k, 'account_id', a, 'event_id', first + place, 'amount', amount,
               'receipt_number', numbers + place, 'available_after', amount, 'accepted_at', at,
               'repeated', false, 'collected', 0, 'debt', 0), at
    FROM unnest(ids, keys) WITH ORDINALITY AS t(a, k, place);
    INSERT INTO audit_event (property_id, happened_at, actor, code, subject, detail)
    SELECT (a - 1) / 10000 + 1, at, 'user:1', 'vending.recharge.posted', 'account:' || a,
           jsonb_build_object('amount', amount, 'event', first + place, 'receipt', numbers + place)
    FROM unnest(ids) WITH ORDINALITY AS t(a, place);
    INSERT INTO message (property_id, account_id, customer_id, code, detail, language, urgent,
        would_have, dedupe_key, created_at, due_at, claim_no, state)
    SELECT (a - 1) / 10000 + 1, a, a, 'vending.recharged',
           jsonb_build_object('amount_micro', amount, 'available_micro', amount, 'days_left_h', 24,
               'receipt', numbers + place, 'event', first + place),
           'en', false, false, 'recharge:' || first + place, at, at, 0, 1
    FROM unnest(ids) WITH ORDINALITY AS t(a, place);
END $$;
"""
