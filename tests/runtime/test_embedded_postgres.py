"""The embedded PostgreSQL keeps what it acknowledged, and lets nobody in without a password."""

from __future__ import annotations

import errno
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from folders import server_folder
from prewatt.drills.world import children_of
from prewatt.runtime import embedded_postgres
from prewatt.runtime.embedded_postgres import (
    EmbeddedPostgres,
    NotDurableError,
    PostgresError,
    check_durable,
    create_database,
    running_postgres,
    throwaway_postgres,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


#: As it is outside these tests.
BUFFERS_MB_MAX = embedded_postgres._BUFFERS_MB_MAX


@pytest.fixture(autouse=True)
def _few_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers keep few pages here: to set gigabytes of them up is a third of a start."""
    monkeypatch.setattr(embedded_postgres, "_BUFFERS_MB_MAX", 256)


@pytest.fixture
def empty_dir() -> Iterator[Path]:
    """A state directory in which nothing was started yet."""
    with server_folder() as path:
        yield path


@pytest.fixture(scope="module")
def stopped_cluster() -> Iterator[Path]:
    """A state directory whose server was made, started and stopped."""
    with server_folder() as path:
        server = EmbeddedPostgres(path)
        server.start()
        server.stop()
        yield path


@pytest.fixture
def state_dir(stopped_cluster: Path) -> Iterator[Path]:
    """A copy of it: making a cluster takes longer than most of what is tested with one."""
    with server_folder() as path:
        subprocess.run(["cp", "-a", f"{stopped_cluster}/.", path], check=True)
        yield path


@pytest.fixture
def server(state_dir: Path) -> Iterator[EmbeddedPostgres]:
    """A durable server, stopped at the end of the test."""
    server = EmbeddedPostgres(state_dir)
    server.start()
    yield server
    server.stop()


def _setting(dsn: str, name: str) -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    assert row is not None
    return str(row[0])


def _server_pid(state_dir: Path) -> int:
    return int((state_dir / "postgres/data/postmaster.pid").read_text().split("\n")[0])


def test_data_survive_a_restart_and_reset_deletes_them(empty_dir: Path) -> None:
    server = EmbeddedPostgres(empty_dir)
    with psycopg.connect(server.start()) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    server.stop()
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    server.reset()
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SELECT to_regclass('kept')").fetchone() == (None,)
    server.stop()


def test_committed_rows_survive_a_killed_server(server: EmbeddedPostgres, state_dir: Path) -> None:
    with psycopg.connect(server.dsn()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    os.kill(_server_pid(state_dir), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while server._running_pid() is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1000,)


def test_a_stale_pid_file_that_names_a_living_program_is_no_obstacle(state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir)
    server.start()
    pid_file = state_dir / "postgres/data/postmaster.pid"
    lines = pid_file.read_text().split("\n")
    os.kill(int(lines[0]), signal.SIGKILL)
    server.stop()
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]))
        dsn = server.start()
        assert _setting(dsn, "fsync") == "on"
        server.stop()
        assert stranger.poll() is None
        assert stranger.stdin is not None
        stranger.stdin.close()


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit"])
def test_it_refuses_to_start_when_commits_could_vanish(state_dir: Path, name: str) -> None:
    server = EmbeddedPostgres(state_dir)
    with psycopg.connect(server.start(), autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET {name} = off")
    server.stop()
    with pytest.raises(NotDurableError, match=name):
        server.start()
    assert not server.is_own


def test_a_role_that_gave_up_durable_commits_is_found(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE ROLE hasty")
        connection.execute("ALTER ROLE hasty SET synchronous_commit = off")
    with pytest.raises(NotDurableError, match="of a role or database"):
        check_durable(server.dsn())


def test_nobody_enters_without_the_password(server: EmbeddedPostgres, state_dir: Path) -> None:
    wrong = re.sub(r":[0-9a-f]+@", ":guess@", server.dsn())
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    rules = (state_dir / "postgres/data/pg_hba.conf").read_text()
    assert "trust" not in rules
    password = state_dir / "secrets/roles/owner"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert _setting(server.dsn(), "listen_addresses") == ""


def test_it_speaks_utf8_in_every_language_without_the_systems_locales(
    server: EmbeddedPostgres,
) -> None:
    with psycopg.connect(server.dsn()) as connection:
        row = connection.execute(
            "SELECT datlocprovider, datlocale, upper('Łódź ö'), length('电表')"
            " FROM pg_database WHERE datname = current_database()"
        ).fetchone()
    assert row == ("b", "C.UTF-8", "ŁÓDŹ Ö", 2)


def test_a_second_starter_joins_the_running_server_and_leaves_it_alone(
    server: EmbeddedPostgres, state_dir: Path
) -> None:
    second = EmbeddedPostgres(state_dir)
    assert second.start() == server.dsn()
    assert not second.is_own
    second.stop()
    with pytest.raises(embedded_postgres.AlreadyRunningError):
        second.reset()
    assert _setting(server.dsn(), "fsync") == "on"


def test_the_server_ends_with_a_starter_that_is_killed(state_dir: Path) -> None:
    program = (
        "import sys, pathlib; from prewatt.runtime.embedded_postgres import EmbeddedPostgres as E;"
        "s = E(pathlib.Path(sys.argv[1])); s.start(); print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, state_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "up\n"
        watcher = EmbeddedPostgres(state_dir)
        assert watcher._running_pid() is not None
        starter.kill()
        starter.wait()
    deadline = time.monotonic() + 10
    while watcher._running_pid() is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert watcher._running_pid() is None


def test_a_state_directory_too_deep_for_a_socket_gets_a_short_socket(empty_dir: Path) -> None:
    deep = empty_dir / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    server = EmbeddedPostgres(deep)
    dsn = server.start()
    sockets = Path(_setting(dsn, "unix_socket_directories"))
    server.stop()
    assert len(str(sockets / ".s.PGSQL.5432.lock")) < 100
    sockets.rmdir()


def test_data_of_another_release_are_refused_with_advice(state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir)
    server.start()
    server.stop()
    (state_dir / "postgres/data/PG_VERSION").write_text("15\n")
    with pytest.raises(PostgresError, match="written by PostgreSQL 15"):
        server.start()


def test_a_broken_configuration_is_reported_with_the_end_of_the_log(state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir)
    server.start()
    server.stop()
    with (state_dir / "postgres/data/postgresql.auto.conf").open("a") as file:
        file.write("shared_buffers = 'plenty'\n")
    with pytest.raises(PostgresError, match="shared_buffers"):
        server.start()


def test_an_operators_dsn_replaces_the_embedded_server(
    server: EmbeddedPostgres, state_dir: Path
) -> None:
    elsewhere = state_dir / "unused"
    elsewhere.mkdir()
    with running_postgres(elsewhere, {"PREWATT_DSN": server.dsn()}) as dsn:
        assert dsn == server.dsn()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(("memory_gb", "buffers"), [(1, "256MB"), (6, "768MB"), (64, "2048MB")])
def test_a_machine_with_more_memory_keeps_more_pages(
    monkeypatch: pytest.MonkeyPatch, memory_gb: int, buffers: str
) -> None:
    monkeypatch.setattr(embedded_postgres, "_BUFFERS_MB_MAX", BUFFERS_MB_MAX)
    sizes = {"SC_PAGE_SIZE": 4_096, "SC_PHYS_PAGES": memory_gb * 2**18}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    assert embedded_postgres._shared_buffers() == buffers


def test_operators_are_told_the_settings_that_our_own_server_has() -> None:
    """The table in docs/operations.md, name by name."""
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
    table = text.partition("### A PostgreSQL of your own\n")[2].partition("\nBeyond that")[0]
    told = {
        name: value
        for row in re.findall(r"^\| (`[a-z_`, ]+`) \| `(\w[\w.]*)` \|", table, re.MULTILINE)
        for names, value in [row]
        for name in re.findall(r"[a-z_]+", names)
    }
    assert len(told) == 8
    assert told == {name: embedded_postgres._SETTINGS[name] for name in told}


def test_an_operators_server_must_be_durable_too(empty_dir: Path) -> None:
    with throwaway_postgres(fsync=False) as hasty, pytest.raises(NotDurableError):
        running_postgres(empty_dir, {"PREWATT_DSN": hasty}).__enter__()


def test_a_throwaway_server_leaves_nothing(empty_dir: Path) -> None:
    with throwaway_postgres(empty_dir, fsync=False) as dsn:
        assert _setting(dsn, "fsync") == "off"
    assert not (empty_dir / "postgres").exists()
    assert not (empty_dir / "secrets/roles/owner").exists()


def test_create_database_tells_whether_it_was_new(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        assert create_database(connection, "another")
        assert not create_database(connection, "another")


def test_a_start_that_joins_a_recovering_server_waits_for_it(
    server: EmbeddedPostgres, state_dir: Path
) -> None:
    """One of its processes is killed: it throws everybody out, and its pid file says "ready" still."""
    for _ in range(3):
        with psycopg.connect(server.dsn()) as victim:
            os.kill(victim.info.backend_pid, signal.SIGKILL)
            dsn = EmbeddedPostgres(state_dir).start()
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert server.pid == _server_pid(state_dir)


def test_a_full_disk_leaves_a_dead_server_to_be_started_later(
    server: EmbeddedPostgres, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file that a start writes may be the one that does not fit any more: nothing is left empty."""
    os.kill(_server_pid(state_dir), signal.SIGKILL)
    _wait_until_dead(server)
    write_text = Path.write_text
    for name in ("postgresql.conf", "pg_hba.conf", "postmaster.pid", ".s.PGSQL.5432.lock"):

        def full(self: Path, text: str, *rest: str, name: str = name) -> int:
            if self.name.removesuffix(".new") != name:
                return write_text(self, text, *rest)
            write_text(self, "")
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_text", full)
            with pytest.raises(PostgresError, match="No space left"):
                server.start()
        data = state_dir / "postgres/data"
        for path in (data / "postgresql.conf", data / "pg_hba.conf", data / "postmaster.pid"):
            assert path.read_text()
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def _wait_until_dead(server: EmbeddedPostgres) -> None:
    deadline = time.monotonic() + 10
    while server.pid is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("release", "method"),
    [("6.1.0-18-amd64", "syncfs"), ("5.8.0", "syncfs"), ("5.4.0-150", "fsync"), ("odd", "fsync")],
)
def test_a_whole_file_system_is_synced_where_its_errors_are_reported(
    monkeypatch: pytest.MonkeyPatch, release: str, method: str
) -> None:
    monkeypatch.setattr("platform.release", lambda: release)
    monkeypatch.setattr("sys.platform", "linux")
    assert embedded_postgres._sync_method() == method
    monkeypatch.setattr("sys.platform", "darwin")
    assert embedded_postgres._sync_method() == "fsync"


def test_a_start_waits_for_the_children_of_a_server_that_was_killed(
    server: EmbeddedPostgres, state_dir: Path
) -> None:
    """One that is deep in its work does not see at once that the postmaster is gone."""
    killed = _server_pid(state_dir)
    busy = children_of(killed)[0]
    os.kill(busy, signal.SIGSTOP)
    os.kill(killed, signal.SIGKILL)
    _wait_until_dead(server)
    refused = threading.Event()

    def look_up() -> None:
        """Once a start was refused, or nothing would be shown."""
        until = time.monotonic() + 20
        while not refused.is_set() and time.monotonic() < until:
            if "still in use" in server.log_path.read_text():
                refused.set()
            time.sleep(0.02)
        os.kill(busy, signal.SIGCONT)

    thread = threading.Thread(target=look_up)
    thread.start()
    try:
        with psycopg.connect(server.start()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        thread.join()
    assert refused.is_set()


def test_a_start_that_joins_a_dying_server_starts_another(
    server: EmbeddedPostgres, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process is seen for a moment longer, and a supervisor may start it again within that."""
    killed = _server_pid(state_dir)
    running_pid = server._running_pid

    def dying() -> int:
        """Seen once more, and gone at the next look."""
        monkeypatch.setattr(server, "_running_pid", running_pid)
        os.kill(killed, signal.SIGKILL)
        _wait_until_dead(server)
        monkeypatch.setattr(server, "_running_pid", joined)
        return killed

    def joined() -> int:
        monkeypatch.setattr(server, "_running_pid", running_pid)
        return killed

    monkeypatch.setattr(server, "_running_pid", dying)
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert _server_pid(state_dir) != killed
