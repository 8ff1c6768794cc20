"""A backup is worth what can be restored from it: every instant, and nothing of what came later."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from folders import server_folder
from prewatt.runtime.backup import BackupError, bases, follow_log, restore, take_base
from prewatt.runtime.embedded_postgres import EmbeddedPostgres


@pytest.fixture
def state_dir() -> Iterator[Path]:
    with server_folder() as path:
        yield path


@pytest.fixture
def server(state_dir: Path) -> Iterator[EmbeddedPostgres]:
    (state_dir / "first").mkdir()
    server = EmbeddedPostgres(state_dir / "first")
    server.start()
    yield server
    server.stop()


def add(dsn: str, number: int) -> datetime:
    """Commit one row and return an instant after it and before any other."""
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("CREATE TABLE IF NOT EXISTS kept (number int)")
        session.execute("INSERT INTO kept VALUES (%s)", [number])
        time.sleep(0.05)
        (instant,) = session.execute("SELECT clock_timestamp()").fetchone() or (None,)
        time.sleep(0.05)
    assert isinstance(instant, datetime)
    return instant


def kept(state_dir: Path) -> list[int]:
    server = EmbeddedPostgres(state_dir)
    dsn = server.start()
    try:
        with psycopg.connect(dsn) as session:
            return [row[0] for row in session.execute("SELECT number FROM kept ORDER BY 1")]
    finally:
        server.stop()


def received(folder: Path, dsn: str) -> None:
    """Wait until the log has arrived as far as it is written now."""
    with psycopg.connect(dsn, autocommit=True) as session:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            row = session.execute(
                """SELECT coalesce(bool_and(flush_lsn >= pg_current_wal_flush_lsn()), false)
                   FROM pg_stat_replication"""
            ).fetchone()
            if row == (True,):
                return
            time.sleep(0.05)
    raise AssertionError("the log does not arrive")


def test_any_instant_comes_back_even_after_the_server_is_lost(
    server: EmbeddedPostgres, state_dir: Path, tmp_path: Path
) -> None:
    dsn, folder = server.dsn(), tmp_path / "backup"
    add(dsn, 1)
    log = follow_log(dsn, folder)
    try:
        # A base is named by the second, and has to be older than what is restored.
        take_base(dsn, folder, now=datetime.now(UTC) - timedelta(seconds=1))
        after_two = add(dsn, 2)
        add(dsn, 3)
        received(folder, dsn)
    finally:
        log.terminate()
        log.wait(20)
    server.stop()
    said: list[str] = []
    restore(folder, state_dir / "then", until=after_two, tell=said.append)
    assert kept(state_dir / "then") == [1, 2]
    restore(folder, state_dir / "last", tell=said.append)
    assert kept(state_dir / "last") == [1, 2, 3]
    assert not list((state_dir / "last").rglob("log-to-replay"))


def test_what_cannot_be_restored_is_refused_and_leaves_nothing(
    server: EmbeddedPostgres, state_dir: Path, tmp_path: Path
) -> None:
    dsn, folder = server.dsn(), tmp_path / "backup"
    with pytest.raises(BackupError, match="has no base"):
        restore(folder, state_dir / "new")
    begun = datetime.now(UTC)
    add(dsn, 1)
    base = take_base(dsn, folder, now=begun)
    with pytest.raises(BackupError, match="already"):
        take_base(dsn, folder, now=begun)
    with pytest.raises(BackupError, match="has no base from before"):
        restore(folder, state_dir / "new", until=begun - timedelta(days=1))
    with pytest.raises(BackupError, match="has a database already"):
        restore(folder, state_dir / "first")
    with pytest.raises(BackupError, match="could not be replayed"):
        restore(folder, state_dir / "new", until=begun + timedelta(days=1))
    damaged = next((base / "base").rglob("PG_VERSION"))
    damaged.write_text("17\n")
    with pytest.raises(BackupError, match="pg_verifybackup"):
        restore(folder, state_dir / "new")
    assert not (state_dir / "new" / "postgres").exists()
    assert [path for _, path in bases(folder)] == [base]


def test_no_password_is_an_argument(
    server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    real = subprocess.run

    def watched(command: list[str], **given: object) -> object:
        seen.append([str(each) for each in command])
        return real(command, **given)  # type: ignore[call-overload]

    monkeypatch.setattr("prewatt.runtime.backup.subprocess.run", watched)
    password = psycopg.conninfo.conninfo_to_dict(server.dsn())["password"]
    take_base(server.dsn(), tmp_path, now=datetime.now(UTC))
    assert seen and not any(str(password) in argument for each in seen for argument in each)
