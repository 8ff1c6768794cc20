"""The demo: its clock, and what a later start may skip (`test_readme_commands.py` starts it)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from argparse import Namespace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import cast

import psycopg
import pytest
from tests.hes.test_head_end import add_meter

from prewatt import walls, wiring
from prewatt.access.scope import system_actor
from prewatt.demo import _Demo, day_end, demo_start, write_commands_file
from prewatt.demo_certificates import DemoCertificates, refuse_without_mosquitto
from prewatt.devices.operations import revoke
from prewatt.migrate import is_stamped, leave_stamp, stamp_of
from prewatt.runtime.progress_page import Progress, ProgressPage
from prewatt.runtime.state import CannotRunError
from prewatt.serve import await_port

#: A usual start, as far as these look.
ASKED = Namespace(port=8600, next_day=False)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("last", "real", "begins"),
    [
        # The first start: the latest working day that has come, at 10:12 in Berlin.
        (None, "2026-11-24T15:00", "2026-11-24T09:12"),
        (None, "2026-11-22T15:00", "2026-11-20T09:12"),
        (None, "2026-11-24T05:00", "2026-11-23T09:12"),
        # A later one goes on where it stopped, as long as cuts are permitted for a while.
        ("2026-11-24T12:59", "2026-12-30T03:00", "2026-11-24T12:59"),
        ("2026-11-24T13:00", "2026-11-24T13:05", "2026-11-25T09:12"),
        ("2026-11-27T16:00", "2026-11-27T16:00", "2026-11-30T09:12"),
        # Summer time, and no work at Christmas.
        ("2026-07-01T12:30", "2026-07-01T12:30", "2026-07-02T08:12"),
        ("2026-12-24T13:00", "2026-12-24T13:00", "2026-12-28T09:12"),
    ],
)
def test_the_clock_begins_inside_the_permitted_window(
    last: str | None, real: str, begins: str
) -> None:
    assert demo_start(None if last is None else at(last), at(real)) == at(begins)


def test_the_kept_end_of_a_day_says_the_same_as_the_calendar() -> None:
    """The next start trusts it, so as not to load a calendar."""
    for begins in (at("2026-11-24T09:12"), at("2026-07-02T08:12")):
        ends, real = day_end(begins), at("2026-12-30T03:00")
        assert begins < ends
        last_moment = ends.replace(minute=59, hour=ends.hour - 1)
        assert demo_start(last_moment, real) == last_moment
        assert demo_start(ends, real) > ends


def test_a_start_of_the_next_day_leaves_the_day_that_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(wiring.OFFSET_VARIABLE, "0")
    monkeypatch.setattr(wiring, "_OFFSET", wiring.clock_offset())
    friday = at("2026-11-27T10:40")
    us, ends = (round(each.timestamp() * 1_000_000) for each in (friday, day_end(friday)))
    for next_day, begins in ((False, friday), (True, at("2026-11-30T09:12"))):
        asked = Namespace(port=8600, next_day=next_day)
        demo = _Demo(tmp_path, asked, Progress(tmp_path), cast(ProgressPage, None))
        demo._set_clock({"last_us": us, "day_ends_us": ends})
        assert abs(wiring.now() - begins) < timedelta(seconds=30)


def test_the_clock_goes_on_after_all_that_happened_even_when_the_demo_is_killed(
    tmp_path: Path,
) -> None:
    demo = _Demo(tmp_path, ASKED, Progress(tmp_path), cast(ProgressPage, None))

    def kept() -> datetime:
        last_us = json.loads((tmp_path / "demo.json").read_text())["last_us"]
        return datetime.fromtimestamp(last_us / 1e6, UTC)

    demo._remember()
    # It is noted again in two seconds, so until then it may be killed.
    assert kept() > wiring.now() + timedelta(seconds=2)
    demo._remember(stopped=True)
    assert kept() <= wiring.now()


def test_a_demo_that_is_days_ahead_says_so_to_its_database(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Otherwise it would book nothing after a weekend or two: the database refuses what lies ahead."""
    names = ("DSN", "DEMO", "OUTBOX", "OUTBOX_FOLDER", "ADDRESS", "SECRET_KEY", "FACTOR_KEYS")
    for name in (f"PREWATT_{each}" for each in names):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv(wiring.OFFSET_VARIABLE, "0")
    monkeypatch.setattr(wiring, "_OFFSET", wiring.clock_offset())
    monkeypatch.setattr("prewatt.demo.is_stamped", lambda *_given: True)
    monkeypatch.setattr(_Demo, "_set_brake", lambda _self: None)
    demo = _Demo(tmp_path, ASKED, Progress(tmp_path), cast(ProgressPage, None))
    ahead = datetime.now(UTC) + timedelta(days=9)
    us = round(ahead.timestamp() * 1_000_000)
    demo._write({"last_us": us, "day_ends_us": us + 1, "property_id": 1})
    demo._set_up(database)
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT latest_instant() - clock_timestamp()").fetchone()
    assert row is not None and abs(row[0] - timedelta(days=10)) < timedelta(seconds=30)


def test_a_stamp_tells_whether_anything_that_makes_the_schema_has_changed(database: str) -> None:
    passwords, today = dict.fromkeys(walls.LOGINS, "secret"), date(2026, 11, 17)
    stamp = stamp_of(passwords=passwords, today=today)
    with psycopg.connect(database, autocommit=True) as connection:
        assert not is_stamped(connection, stamp)
        leave_stamp(connection, stamp)
        assert is_stamped(connection, stamp)
        unexplained = connection.execute("SELECT count(*) FROM unexplained_change").fetchone()
        assert unexplained == (0,), "no auditor is told of it"
        for other in (
            stamp_of(passwords=passwords | {"web": "another"}, today=today),
            stamp_of(passwords=passwords, today=date(2026, 12, 1)),
        ):
            assert not is_stamped(connection, other)
    assert "secret" not in stamp


def test_a_changed_migration_changes_the_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "migrate.py",
        "walls/rights.py",
        "mdm/sql/0001_mdm.sql",
        "mdm/migrations/0001_initial.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("as it was")
    monkeypatch.setattr("prewatt.migrate._PACKAGE", tmp_path)
    seen = {stamp_of(passwords={}, today=date(2026, 11, 17))}
    for name in (
        "migrate.py",
        "walls/rights.py",
        "mdm/sql/0001_mdm.sql",
        "mdm/migrations/0001_initial.py",
    ):
        (tmp_path / name).write_text("changed")
        seen.add(stamp_of(passwords={}, today=date(2026, 11, 17)))
    assert len(seen) == 5


def test_a_shell_reads_what_commands_beside_a_demo_need_and_nobody_else_does(
    tmp_path: Path,
) -> None:
    file, awkward = tmp_path / "commands.env", "it's $HOME; `id`"
    for _ in range(2):
        write_commands_file(file, {"PREWATT_DSN": awkward, "PREWATT_MQTT": "127.0.0.1:1883"})
    assert file.stat().st_mode & 0o777 == 0o600
    told = 'set -a; . "$0"; set +a; exec printenv PREWATT_DSN PREWATT_MQTT'
    said = subprocess.run(["sh", "-c", told, str(file)], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [awkward, "127.0.0.1:1883"]


def test_the_web_waits_for_its_port_but_not_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = int(other.getsockname()[1])
        with pytest.raises(CannotRunError, match=f"port {port}"):
            await_port("127.0.0.1", port, timeout_s=0.1)
        threading.Timer(0.3, other.close).start()
        await_port("127.0.0.1", port, timeout_s=10)
        assert other.fileno() == -1


def test_certificates_are_refused_where_no_broker_looks_at_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rather than a demo that says TLS and lets everybody in."""
    monkeypatch.setattr("prewatt.demo_certificates.find_mosquitto", lambda: None)
    with pytest.raises(CannotRunError, match="apt-get install mosquitto"):
        refuse_without_mosquitto(None)
    monkeypatch.setattr("prewatt.demo_certificates.find_mosquitto", lambda: "/usr/sbin/mosquitto")
    refuse_without_mosquitto(None)
    with pytest.raises(CannotRunError, match="needs Mosquitto"):
        refuse_without_mosquitto("amqtt")


def test_a_demo_enrols_its_meters_as_a_real_property_does_and_once(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("prewatt.runtime.broker.find_mosquitto", lambda: "/usr/sbin/mosquitto")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    _, property_id = add_meter(database)
    now = at("2026-11-28T09:12")
    made = DemoCertificates(tmp_path, property_code="P", now=now)
    made.enrol(property_id, ["PW-1"])
    shown = (made.clients / "PW-1.pem").read_bytes()
    # A later start enrols nobody anew, and revokes what a page has revoked.
    again = DemoCertificates(tmp_path, property_code="P", now=now + timedelta(hours=1))
    again.enrol(property_id, ["PW-1"])
    assert (made.clients / "PW-1.pem").read_bytes() == shown
    revoke(
        actor=system_actor("devices"), property_id=property_id, serial="PW-1", reason="lost",
        now=now + timedelta(hours=1),
    )  # fmt: skip
    broker = again.broker()
    assert broker.protocol == "5" and broker.arguments[-1].endswith("mosquitto.conf")
    configuration = Path(broker.arguments[-1]).read_text()
    assert "require_certificate true" in configuration and "allow_anonymous false" in configuration
    assert "user PW-1\ntopic deny #" in (tmp_path / "broker-tls" / "rights").read_text()
    assert {"PREWATT_MQTT_TLS", "PREWATT_DEVICE_SAFE"} < set(again.environ())
    for secret in (made.clients / "PW-1.key", made.clients / "head-end.key"):
        assert secret.stat().st_mode & 0o077 == 0, secret
