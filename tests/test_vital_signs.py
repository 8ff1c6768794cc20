"""The processes themselves, probed as whoever watches over them at night would."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from tests.conftest import role_dsn
from tests.supply.world import NOW, World, run_sql

from prewatt.access.scope import Actor, Duty, PermissionRefused, system_actor
from prewatt.reports.vitals import Vitals, vitals
from prewatt.vital_signs import VitalsCollector


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()
    except OSError as error:
        return 0, str(error)


def test_a_worker_tells_its_vital_signs_and_lives_without_its_database(
    database: str, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "worker.log"
    environ = os.environ | {
        "PREWATT_DSN": role_dsn(database, "clerk"),
        "PREWATT_OPS": f"127.0.0.1:{port}",
        "PREWATT_LOG": "json",
        "PREWATT_OUTBOX": "1",
    }
    command = [sys.executable, "-P", "-m", "prewatt", "worker"]
    with log.open("w") as file, subprocess.Popen(command, env=environ, stderr=file) as process:
        try:
            until(lambda: ask(port, "/readyz")[0] == 200, process)
            until(lambda: 'prewatt_task_seconds_count{task="supply"}' in ask(port, "/metrics")[1])
            metrics = ask(port, "/metrics")[1]
            assert "\nprewatt_accounts 0.0" in metrics
            assert "\nprewatt_held_readings 0.0" in metrics
            assert "prewatt_partitions_ahead_seconds" in metrics
            _let_nobody_in(database)
            until(lambda: ask(port, "/readyz")[0] == 503, process)
            assert "database" in json.loads(ask(port, "/readyz")[1])["troubles"]
            assert ask(port, "/livez")[0] == 200, "to kill it would help nobody"
            _let_everybody_in(database)
            until(lambda: ask(port, "/readyz")[0] == 200, process)
        finally:
            _let_everybody_in(database)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    written = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["process"] for line in written} == {"worker"}


def until(true: Callable[[], object], process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert process is None or process.poll() is None, "the worker has ended"
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def _let_nobody_in(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("ALTER ROLE clerk NOLOGIN")
        owner.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND usename = 'clerk'"""
        )


def _let_everybody_in(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("ALTER ROLE clerk LOGIN")


def test_a_process_does_not_start_with_probes_for_everybody(database: str) -> None:
    """What else is no address of probes, `tests/telemetry/test_probes.py` has."""
    environ = os.environ | {"PREWATT_DSN": role_dsn(database, "clerk"), "PREWATT_OPS": "0.0.0.0:9"}
    command = [sys.executable, "-P", "-m", "prewatt", "worker"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "on loopback" in done.stderr
    assert "Traceback" not in done.stderr


def test_vital_signs_count_what_waits(database: str) -> None:
    world = World()
    world.read(0)
    run_sql("UPDATE supply_order SET decided_at = %s", NOW - timedelta(minutes=5))
    run_sql("UPDATE meter_link SET last_seen_at = %s", NOW - timedelta(hours=3))
    signs = vitals(actor=system_actor("vitals"), now=NOW)
    assert signs.accounts == 1
    assert signs.waiting_messages == 1, "the warning has not arrived"
    assert sum(signs.open_alerts.values()) == len(world.alerts())
    assert sum(signs.live_orders.values()) == len(world.orders())
    assert signs.partitions_until_s > timedelta(days=28).total_seconds()
    world.deliver()
    assert vitals(actor=system_actor("vitals"), now=NOW).waiting_messages == 0


def test_a_meter_that_reports_is_not_silent_though_its_link_has_nothing_new(database: str) -> None:
    world = World(2)
    run_sql("UPDATE meter_link SET last_seen_at = %s", NOW - timedelta(hours=3))
    assert vitals(actor=system_actor("vitals"), now=NOW).silent_meters == 2
    world.count(1_000, at=NOW - timedelta(minutes=15))
    assert vitals(actor=system_actor("vitals"), now=NOW).silent_meters == 1
    run_sql("UPDATE meter_link SET read_by_hand_at = %s", NOW - timedelta(minutes=15))
    assert vitals(actor=system_actor("vitals"), now=NOW).silent_meters == 2, "a person read it"


def test_nobody_of_the_console_asks_for_all_properties(database: str) -> None:
    with pytest.raises(PermissionRefused):
        vitals(actor=Actor("user:1", Duty.ADMINISTRATOR, (1,)), now=NOW)


def test_the_database_is_asked_once_for_many_looks() -> None:
    asked = 0

    def ask_once() -> Vitals:
        nonlocal asked
        asked += 1
        return Vitals(1, 2, {"meter.tamper": 3}, {"sent": 4}, 5.0, 6, 7.0, 8, 9, 10.0)

    collector = VitalsCollector(ask_once)
    for _ in range(3):
        shown = {each.name: each.samples for each in collector.collect()}
    assert asked == 1
    assert shown["prewatt_held_readings"][0].value == 1
    assert shown["prewatt_open_alerts"][0].labels == {"code": "meter.tamper"}
    assert shown["prewatt_live_orders"][0].value == 4
