"""The worker as its own process: nobody's mail server holds up a cut, and it stops when told to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.conftest import role_dsn
from tests.supply.world import NOW, World, run_sql

from prewatt import wiring
from prewatt.core.vocabulary import DeliveryState, OrderKind, Outcome
from prewatt.worker import Worker
from waiting import eventually

#: A mail server that never answers is given this long by the channel before it counts as down.
SMTP_PATIENCE_S = 10.0


@contextmanager
def hanging_mail_server() -> Iterator[tuple[int, threading.Event]]:
    """Takes connections and says nothing, ever; yields its port and whether somebody came."""
    somebody_came, held = threading.Event(), list[socket.socket]()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return
                somebody_came.set()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1], somebody_came
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in held:
                each.close()


@contextmanager
def worker(owner_dsn: str, log: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """`prewatt worker` under its own login, its clock at the instant of the test's world."""
    offset_us = round((NOW - datetime.now(UTC)).total_seconds() * 1e6)
    variables = {
        "PREWATT_DSN": role_dsn(owner_dsn, "clerk"),
        wiring.OFFSET_VARIABLE: str(offset_us),
        **environ,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "prewatt", "worker"],
            env=os.environ | variables,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_mail_server_that_hangs_delays_no_cut_and_no_end(database: str, tmp_path: Path) -> None:
    world = World()
    world.read(0)
    assert world.decisions()[-1]["outcome"] == Outcome.HOLD
    log = tmp_path / "worker.log"
    with hanging_mail_server() as (port, somebody_came):
        mail = {"PREWATT_SMTP": f"127.0.0.1:{port}", "PREWATT_MAIL_FROM": "desk@example.org"}
        with worker(database, log, **mail) as process:
            assert somebody_came.wait(20), log.read_text()
            hangs_since = time.monotonic()
            # The warning arrives another way: the last gate of the cut opens.
            world.deliver()
            with psycopg.connect(database, autocommit=True) as bell:
                # Any login may ring, with any text: the worker falls over none of them.
                for text in (
                    "",
                    "x",
                    "-1",
                    "\N{SUPERSCRIPT TWO}",
                    "9" * 5_000,
                    str(world.property_id),
                ):
                    bell.execute("SELECT pg_notify('supply_due', %s)", [text])
            eventually(world.orders)
            assert time.monotonic() - hangs_since < SMTP_PATIENCE_S - 1, "the server hangs still"
            assert world.orders()[0]["kind"] == OrderKind.DISCONNECT
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, log.read_text()
            assert time.monotonic() - hangs_since < SMTP_PATIENCE_S - 1, "it did not wait for it"
    assert "Traceback" not in log.read_text()


def test_a_message_goes_out_and_an_idle_worker_ends_when_told(
    database: str, tmp_path: Path
) -> None:
    world = World()
    log = tmp_path / "worker.log"

    def state() -> Any:
        return [each["state"] for each in world.messages()]

    with worker(database, log, PREWATT_OUTBOX="1") as process:
        # Its first posting round shows that it is up.
        eventually(lambda: process.poll() is not None or listens(database))
        world.read(0)
        eventually(lambda: state() == [DeliveryState.DELIVERED])
        eventually(world.orders)  # since the delivery rang for the cut
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert "Traceback" not in log.read_text()


def listens(dsn: str) -> bool:
    with psycopg.connect(dsn) as session:
        found = session.execute(
            """SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND query LIKE 'LISTEN %'"""
        ).fetchone()
    return found == (3,)


def test_a_loop_that_fails_ends_the_process_to_be_started_afresh(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(
        self: Worker, _name: str, bells: tuple[str, ...], _turn: object, stopping: threading.Event
    ) -> None:
        if "message" in bells:
            raise RuntimeError("the deliveries are broken")
        assert stopping.wait(10), "the other loop is told"

    monkeypatch.setattr(Worker, "_listen", broken)
    assert Worker(dsn=database, clock=lambda: NOW).run(threading.Event()) == 1


def test_all_loops_live_through_a_database_that_goes_away(database: str) -> None:
    world, stopping, status = World(), threading.Event(), list[int]()
    run_sql("UPDATE customer SET email = ''")
    working = threading.Thread(
        target=lambda: status.append(Worker(dsn=database, clock=lambda: NOW).run(stopping))
    )
    working.start()
    try:
        eventually(lambda: listens(database))
        with psycopg.connect(database, autocommit=True) as session:
            session.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND query LIKE 'LISTEN %'"""
            )
        eventually(lambda: listens(database))
        world.read(0)
        eventually(lambda: world.alerts() == ["notify.unreachable"])
    finally:
        stopping.set()
        working.join(10)
    assert status == [0]
