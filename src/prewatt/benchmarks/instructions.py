"""`prewatt bench instructions`: from a recharge that was accepted to the signed answer that was verified.

Everything is as in production: a durable PostgreSQL, Mosquitto, `prewatt hes` in a process of its own, a desk that sells.
Each account's meter holds its credit, verifies by its own key and signs. A recharge counts once the meter's
signed answer to its lifetime credit is committed, which is looked for every other millisecond at a part of the
meters. What each part used of the processors is counted apart: the platform's own is the head-end and those of PostgreSQL's
processes that work for it and for everybody; the desk's, the broker's and the meters' stand beside it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg

from prewatt.benchmarks.city import (
    ACCOUNTS_OF_PROPERTY,
    FIRST_METER,
    City,
    empty_database,
    fill,
    login,
)
from prewatt.benchmarks.figures import Latencies
from prewatt.benchmarks.instruction_parts import AMOUNT_MICRO, Field, answer, secret_of, sell
from prewatt.benchmarks.wire import _answer, _child, _head_end, _stat
from prewatt.runtime.broker import Broker

_WATCHED_EVERY: Final = 20
_POLL_S: Final = 0.002
_DRAIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class InstructionFigures:
    """Waits in ms from acceptance to the verified answer; µs of processor for each verified instruction.

    ``per_core_second`` is how many instructions the platform verifies with one second of one core.
    """

    meters: int
    recharges: int
    instructions: int
    seconds: float
    per_second: int
    per_core_second: int
    p50: float
    p99: float
    max: float
    sampled: int
    cpu_us: dict[str, float]
    load_average: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class _Clock:
    now_us: int

    @property
    def clock_offset_us(self) -> int:
        return 0


def measure(
    *, meters: int, rate: int, seconds: float, tell: Callable[[str], None]
) -> InstructionFigures:
    """Fill a city whose meters hold credit, sell at a rate, and follow each recharge to its meter and back.

    Raises BrokerError where Mosquitto is not installed, and AssertionError if credit is lost on the way.
    """
    with contextlib.ExitStack() as stack:
        owner = stack.enter_context(empty_database())
        city = City(meters)
        fill(owner, city, tell=tell)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prewatt-sign-")))
        folder.chmod(0o755)
        trusts = _make_keys(folder)
        _enrol(owner, meters)
        broker = Broker(folder, kind="mosquitto")
        command = stack.enter_context(broker)
        now_us = time.time_ns() // 1_000
        field = Field(meters, trusts, command.port, now_us)
        pipe, child = stack.enter_context(_child(answer, field))
        _answer(pipe)
        head_end = stack.enter_context(_head_end(owner, command, _Clock(now_us), 1))  # type: ignore[arg-type]  # its clock is all that is asked
        till, tellers = stack.enter_context(
            _child(sell, login(owner, "web"), meters, ACCOUNTS_OF_PROPERTY)
        )
        _answer(till)
        watcher = _Watcher(owner, meters)
        stack.callback(watcher.close)
        tell("warming up: the first credit of each meter")
        watcher.wait_settled()
        till.send((rate, 3.0))
        _answer(till)
        watcher.wait_settled()
        watcher.begin()
        processes = {
            "head-end": head_end.pid,
            "broker": broker.pid,
            "meters": child.pid or 0,
            "desk": tellers.pid or 0,
        }
        spent = _Spent(owner, processes)
        before, count_before, began = spent.now(), watcher.answered(), time.monotonic()
        till.send((rate, seconds))
        accepted: list[tuple[int, float]] = _answer(till)
        took = time.monotonic() - began
        watcher.wait_settled()
        after, count = spent.now(), watcher.answered() - count_before
        waits = watcher.waits(accepted)
        pipe.send("stop")
    used = {name: after[name] - before[name] for name in after}
    own_s = used["head-end"] + used["PostgreSQL for the head-end"] + used["PostgreSQL for all"]
    return InstructionFigures(
        meters=meters,
        recharges=len(accepted),
        instructions=count,
        seconds=round(took, 1),
        per_second=int(count / took),
        per_core_second=int(count / own_s) if own_s else 0,
        p50=waits.p50,
        p99=waits.p99,
        max=waits.max,
        sampled=waits.count,
        cpu_us={name: round(each / count * 1e6, 1) for name, each in used.items()},
        load_average=os.getloadavg(),
    )


def as_text(figures: InstructionFigures) -> str:
    """The figures for people."""
    used = ", ".join(f"{name} {each:.0f}" for name, each in figures.cpu_us.items())
    return (
        f"{figures.recharges:,} recharges of {figures.meters:,} meters in {figures.seconds:.1f} s: "
        f"{figures.instructions:,} signed instructions verified, {figures.per_second:,}/s; "
        f"{figures.per_core_second:,} for each second of one core of the platform's own\n"
        f"accepted to verified: p50 {figures.p50} ms, p99 {figures.p99} ms, longest {figures.max} ms "
        f"({figures.sampled:,} looked at, to 2 ms)\n"
        f"µs of processor each: {used}; load average {', '.join(f'{e:.2f}' for e in figures.load_average)}"
    )


def _make_keys(folder: Path) -> dict[bytes, bytes]:
    """A key store for the head-end, in the environment of the processes that follow; returns whom meters trust."""
    from prewatt.signing.keyring import open_keyring
    from prewatt.signing.keys import KeyRole
    from prewatt.wiring import signing_keys

    os.environ.update(signing_keys(folder))
    key = open_keyring().signer(KeyRole.INSTRUCTION, now=datetime.now(UTC)).public
    return {bytes.fromhex(key.key_id): key.value}


def _enrol(dsn: str, meters: int) -> None:
    """Give each meter its key, and let it hold its account's credit from zero on."""
    from prewatt.signing.es256 import ES256PrivateKey, device_key_id

    keys = [ES256PrivateKey.from_scalar(secret_of(n)).spki for n in range(1, meters + 1)]
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            """INSERT INTO meter_key (property_id, meter_id, public_key, key_id, valid_from, made_by)
               SELECT (n - 1) / %s + 1, %s + n, k, i, now() - interval '1 day', 'bench'
               FROM unnest(%b::bytea[], %b::bytea[]) WITH ORDINALITY AS t(k, i, n)""",
            [ACCOUNTS_OF_PROPERTY, FIRST_METER - 1, keys, [device_key_id(each) for each in keys]],
        )
        connection.execute(
            """INSERT INTO meter_wallet (meter_id, property_id, account_id, since, seen_seq, total_micro,
                   credit_micro, base_micro)
               SELECT %s + account_id, property_id, account_id, now(), transfer_seq, 1, 1, -1
               FROM account_state""",
            [FIRST_METER - 1],
        )
        connection.execute("VACUUM ANALYZE")


class _Watcher:
    """Looks at a part of the meters again and again, for what they have signed for."""

    def __init__(self, dsn: str, meters: int) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._owner = psycopg.connect(dsn, autocommit=True)
        self._ids = list(range(FIRST_METER, FIRST_METER + meters, _WATCHED_EVERY))
        self._steps: dict[int, list[tuple[float, int]]] = defaultdict(list)
        self._base: dict[int, int] = {}
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def begin(self) -> None:
        """From now on; what was signed for until now is known."""
        self._base = self._told()
        self._thread.start()

    def close(self) -> None:
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join()
        self._connection.close()
        self._owner.close()

    def answered(self) -> int:
        """How many instructions have their verified answer."""
        row = self._owner.execute("SELECT count(*) FROM instruction WHERE state = 3").fetchone()
        assert row is not None
        return int(row[0])

    def wait_settled(self) -> None:
        """Until every meter has signed for all that its account was paid."""
        until = time.monotonic() + _DRAIN_S
        while time.monotonic() < until:
            row = self._owner.execute(
                """SELECT count(*) FROM meter_wallet w JOIN account_state s USING (account_id)
                   WHERE w.told_micro < w.credit_micro OR w.seen_seq < s.transfer_seq"""
            ).fetchone()
            if row == (0,):
                return
            time.sleep(0.2)
        raise AssertionError("credit did not reach its meter")

    def waits(self, accepted: list[tuple[int, float]]) -> Latencies:
        """From each acceptance to when its meter was seen to have signed for it."""
        self._ends.set()
        self._thread.join()
        paid: dict[int, int] = dict(self._base)
        found = []
        for account, at in sorted(accepted, key=lambda each: each[1]):
            meter = FIRST_METER - 1 + account
            if meter not in paid:
                continue
            paid[meter] += AMOUNT_MICRO
            seen = next(when for when, told in self._steps[meter] if told >= paid[meter])
            found.append(timedelta(seconds=max(0.0, seen - at)))
        return Latencies.of(found)

    def _watch(self) -> None:
        last = dict(self._base)
        while not self._ends.is_set():
            told, now = self._told(), time.time()
            for meter, micro in told.items():
                if micro != last[meter]:
                    last[meter] = micro
                    self._steps[meter].append((now, micro))
            time.sleep(_POLL_S)

    def _told(self) -> dict[int, int]:
        return dict(
            self._connection.execute(
                "SELECT meter_id, told_micro FROM meter_wallet WHERE meter_id = ANY(%s)",
                [self._ids],
            ).fetchall()
        )


class _Spent:
    """Seconds of processor by part, as Linux counts them."""

    def __init__(self, owner: str, processes: dict[str, int]) -> None:
        self._connection = psycopg.connect(owner, autocommit=True)
        self._postmaster = _stat(self._connection.info.backend_pid)[0]
        self._processes = processes

    def now(self) -> dict[str, float]:
        used: dict[str, float] = {name: _stat(pid)[1] for name, pid in self._processes.items()}
        parts = {
            "head_end": "PostgreSQL for the head-end",
            "web": "PostgreSQL for the desk",
            None: "PostgreSQL for all",
        }
        used |= dict.fromkeys(parts.values(), 0.0)
        rows: list[tuple[int, Any, str]] = self._connection.execute(
            "SELECT pid, usename, backend_type FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        ).fetchall()
        for pid, user, kind in rows:
            name = parts.get(user if kind == "client backend" else None)
            if name is not None:
                with contextlib.suppress(OSError):
                    used[name] += _stat(pid)[1]
        return used
