"""The embedded PostgreSQL: started for the demo, for development and for tests, by our own launcher.

It is a real, durable server of this checkout alone: data outlive it, a crash loses nothing that
was committed, every role has a password, and it listens on a Unix socket only. `PREWATT_DSN` in the
environment replaces it by a server of the operator's own.

`python -m prewatt.runtime.embedded_postgres --help` runs one for development.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
from psycopg import sql

from prewatt.runtime.children import die_with_parent
from prewatt.runtime.postgres_binaries import ServerUser, program_directory, server_user
from prewatt.runtime.state import CannotRunError, own_directory, role_password, state_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DSN_VARIABLE = "PREWATT_DSN"
OWNER = "owner"
DATABASE = "prewatt"

_SOCKET_PORT = 5432
_SOCKET_PATH_BYTES_MAX = 100
_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")
_START_TIMEOUT_S = 300.0
_POLL_S = 0.02
_ORPHANS = b"pre-existing shared memory block"
"""What PostgreSQL says of them (`CreateLockFile`); its messages are English here (`--no-locale`)."""
_ORPHANS_POLL_S = 0.2
_NO_SUCH_PROCESS = 2**31 - 1
_BUFFERS_MB_MIN = 256
_BUFFERS_MB_MAX = 2_048

_SETTINGS: Mapping[str, str] = {
    "port": str(_SOCKET_PORT),
    "unix_socket_permissions": "0777",
    "password_encryption": "scram-sha-256",
    "max_connections": "100",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    # Each page is written whole to the log once after a checkpoint: rarer ones make for less of it. Only
    # as much is kept as is written between two of them; a crash replays it at the speed of the disk.
    "max_wal_size": "8GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    # Batches of two writers fit, so that neither writes out the other's log while it adds its own.
    "wal_buffers": "32MB",
    "random_page_cost": "1.1",
    # Partitioned tables take a lock for each partition that a statement touches.
    "max_locks_per_transaction": "256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    # A busy writer reaches max_wal_size on purpose; that is no news.
    "checkpoint_warning": "0",
    "log_checkpoints": "off",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
}

_ACCESS_RULES = """\
# Written at every start. Nobody gets in without a password.
local all all scram-sha-256
local replication all scram-sha-256
"""


class PostgresError(CannotRunError):
    """The embedded PostgreSQL cannot do what was asked; the message says why and what helps."""


class NotDurableError(PostgresError):
    """The server could lose committed transactions, so Prewatt does not work on it."""


class AlreadyRunningError(PostgresError):
    """Another process runs this checkout's server, and what was asked would pull it away."""


class EmbeddedPostgres:
    """One PostgreSQL server for one state directory.

    `start()` returns the owner's DSN; if another process of the same checkout runs the server
    already, it joins that one, and `stop()` then leaves it alone. The server ends with the process
    that started it, even if that is killed. Not thread-safe; start it from the main thread.
    """

    def __init__(self, state_dir: Path) -> None:
        """Prepare for the server below `state_dir`; nothing is started before `start()`."""
        self.state_dir = own_directory(state_dir.absolute())
        self.log_path = self.state_dir / "logs" / "postgres.log"
        self._settings = dict(
            _SETTINGS, recovery_init_sync_method=_sync_method(), shared_buffers=_shared_buffers()
        )
        self._home = self.state_dir / "postgres"
        self._data = self._home / "data"
        self._process: subprocess.Popen[bytes] | None = None
        #: Where in its log the server that was launched last began.
        self._log_begins = 0

    def start(self, *, detached: bool = False) -> str:
        """Start the server, or join the running one, and return the owner's DSN.

        A first start makes the cluster (about a second). After a crash PostgreSQL replays its log
        here, which may take longer. `detached` leaves the server running after this process.

        Raises `NotDurableError` if somebody switched off what keeps committed data safe, and
        `PostgresError` if the server does not come up, with the end of its log.
        """
        with self._start_lock():
            joined = self._running_pid() is not None
            try:
                self._start_or_join(detached=detached)
            except (psycopg.OperationalError, PostgresError):
                if not joined or self._running_pid() is not None:
                    raise
                # What we joined was about to die.
                self._start_or_join(detached=detached)
        try:
            self._once_let_in(self._check_settings)
        except NotDurableError:
            self.stop()
            raise
        return self.dsn()

    def _start_or_join(self, *, detached: bool) -> None:
        if self._running_pid() is None:
            self._make_cluster()
            self._launch(detached=detached)
        self._await_ready(detached=detached)
        self._once_let_in(self._make_database)

    def stop(self, *, timeout_s: float = 20.0) -> None:
        """Stop the server that this object started, waiting until it is gone.

        Asks for a fast shutdown; after `timeout_s` it insists, which costs a log replay at the
        next start and nothing else.
        """
        if self._process is None:
            return
        pid = self._process.pid
        for request in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            _signal(pid, request)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
                break
        self._process = None

    def stop_detached(self, *, timeout_s: float = 20.0) -> bool:
        """Stop the server whoever started it; return whether there was one.

        Raises `PostgresError` if it does not end in time.
        """
        pid = self._running_pid()
        if pid is None:
            return False
        _signal(pid, signal.SIGINT)
        deadline = time.monotonic() + timeout_s
        while self._running_pid() is not None:
            if time.monotonic() > deadline:
                raise PostgresError(f"PostgreSQL (process {pid}) did not stop within {timeout_s} s")
            time.sleep(_POLL_S)
        return True

    def reset(self) -> None:
        """Delete the data and the roles' passwords, so that the next start begins afresh.

        Raises `AlreadyRunningError` if another process uses the server.
        """
        self.stop()
        with self._start_lock():
            pid = self._running_pid()
            if pid is not None:
                raise AlreadyRunningError(
                    f"another Prewatt uses this database (PostgreSQL is process {pid}); stop it first"
                )
            shutil.rmtree(self._home, ignore_errors=True)
            shutil.rmtree(self.state_dir / "secrets" / "roles", ignore_errors=True)

    def dsn(self, role: str = OWNER, database: str = DATABASE) -> str:
        """Return the DSN (a URI) by which `role` reaches `database` over the Unix socket."""
        password = role_password(role, self.state_dir)
        host = quote(str(self._socket_directory()), safe="")
        return f"postgresql://{role}:{password}@/{database}?host={host}&port={_SOCKET_PORT}"

    @property
    def pid(self) -> int | None:
        """The process id of the server on these data, whoever started it, or None if none runs."""
        return self._running_pid()

    @property
    def is_own(self) -> bool:
        """Whether this object started the server, and so will stop it."""
        return self._process is not None

    @contextlib.contextmanager
    def _start_lock(self) -> Iterator[None]:
        """Let one process at a time look whether the server runs and start it."""
        with (self.state_dir / "postgres.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _socket_directory(self) -> Path:
        """Return a folder whose socket path is short enough for the operating system."""
        folder = self.state_dir / "run"
        if _socket_path_bytes(folder) >= _SOCKET_PATH_BYTES_MAX:
            digest = hashlib.sha256(str(self.state_dir).encode()).hexdigest()[:12]
            folder = Path(tempfile.gettempdir()) / f"prewatt-{os.geteuid()}-{digest}"
        assert _socket_path_bytes(folder) < _SOCKET_PATH_BYTES_MAX, folder
        return folder

    def _make_cluster(self) -> None:
        """Make the cluster on the first start; an interrupted attempt leaves nothing behind."""
        user = server_user()
        self._home.mkdir(mode=0o755, exist_ok=True)
        user.own(self._home)
        if (self._data / "PG_VERSION").exists():
            self._check_version()
            return
        draft = self._home / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(self._data, ignore_errors=True)
        password_file = self._home / "password"
        password_file.write_text(role_password(OWNER, self.state_dir) + "\n", "ascii")
        password_file.chmod(0o600)
        user.own(password_file)
        try:
            self._run_program(
                "initdb",
                f"--pgdata={draft}",
                f"--username={OWNER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                *([] if self._settings["fsync"] == "on" else ["--no-sync"]),
            )
        finally:
            password_file.unlink()
        draft.rename(self._data)

    def _check_version(self) -> None:
        """Refuse data of another PostgreSQL release, which the server could not read."""
        found = (self._data / "PG_VERSION").read_text("ascii").strip()
        answer = self._run_program("postgres", "--version").split()
        if answer[-1].split(".")[0] != found:
            raise PostgresError(
                f"the data in {self._data} were written by PostgreSQL {found}, and this is "
                f"PostgreSQL {answer[-1]}; dump them with the old release, or start afresh with --reset"
            )

    def _launch(self, *, detached: bool) -> None:
        assert detached or threading.current_thread() is threading.main_thread(), (
            "the server would end with this thread"
        )
        self._write_configuration()
        self._disown_stale_lock_files()
        user = server_user()
        self.log_path.parent.mkdir(exist_ok=True)
        with self.log_path.open("ab") as log:
            self._log_begins = log.tell()
            process = subprocess.Popen(
                [program_directory() / "postgres", "-D", self._data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                env=_program_environment(),
                start_new_session=True,
                user=user.uid if user.switch else None,
                group=user.gid if user.switch else None,
                extra_groups=[] if user.switch else None,
                preexec_fn=None if detached else die_with_parent(signal.SIGINT),
            )
        self._process = process

    def _write_configuration(self) -> None:
        """Write the server's configuration anew, so that an edit of yesterday cannot linger."""
        user = server_user()
        sockets = self._socket_directory()
        sockets.mkdir(mode=0o755, exist_ok=True)
        user.own(sockets)
        settings = dict(self._settings, unix_socket_directories=str(sockets), listen_addresses="")
        lines = [f"{name} = '{_conf_quoted(value)}'\n" for name, value in settings.items()]
        for name, text in (
            ("postgresql.conf", "".join(lines)),
            ("pg_hba.conf", _ACCESS_RULES),
        ):
            _replace(self._data / name, text, user)

    def _running_pid(self) -> int | None:
        """Return the process id of the server on our data, or None if none runs.

        The file `postmaster.pid` outlives a crash, and its number may be another program's by
        now; only a process that runs `postgres -D` on this very folder counts.
        """
        if self._process is not None and self._process.poll() is not None:
            self._process = None
        pid = _first_number(self._data / "postmaster.pid")
        if self._process is not None and self._process.pid == pid:
            # A dying process has no command line any more, and yet is not gone.
            return pid
        if pid is None or str(self._data) not in _command_line(pid):
            return None
        return pid

    def _disown_stale_lock_files(self) -> None:
        """Make the lock files of a dead server harmless; call only when no server runs.

        PostgreSQL takes over a lock file whose process is gone, but refuses if that number is some
        living program's now. The file must stay, since PostgreSQL also checks by it that the dead
        server's last children are gone: only the number is replaced, by one that is nobody's.
        """
        user = server_user()
        socket_lock = self._socket_directory() / f".s.PGSQL.{_SOCKET_PORT}.lock"
        for path in (self._data / "postmaster.pid", socket_lock):
            if path.exists():
                _, newline, rest = path.read_text("utf-8").partition("\n")
                _replace(path, f"{_NO_SUCH_PROCESS}{newline}{rest}", user)

    def _await_ready(self, *, detached: bool = False) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                if not self._has_orphans():
                    break
                time.sleep(_ORPHANS_POLL_S)
                self._launch(detached=detached)
            if self._is_ready():
                return
            time.sleep(_POLL_S)
        self.stop()
        raise PostgresError(f"PostgreSQL did not start; its log ends:\n{self._log_end()}")

    def _has_orphans(self) -> bool:
        """Whether the launched server ended because children of a killed one are still there.

        They end by themselves when they next look up from what they are at, and nothing may be
        started on these data before.
        """
        with self.log_path.open("rb") as log:
            log.seek(self._log_begins)
            return _ORPHANS in log.read()

    def _is_ready(self) -> bool:
        """Whether the pid file says so; a killed server's file says it too, under its own number."""
        try:
            lines = (self._data / "postmaster.pid").read_text("utf-8").split()
        except OSError:
            return False
        ours = self._process is None or lines[:1] == [str(self._process.pid)]
        return ours and lines[-1:] == ["ready"]

    def _make_database(self) -> None:
        with psycopg.connect(self.dsn(database="postgres"), autocommit=True) as connection:
            create_database(connection, DATABASE)

    def _once_let_in(self, work: Callable[[], None]) -> None:
        """Do something, again if need be: a server that has just lost a process recovers first.

        Its pid file says "ready" all the while, and it may let us in only to throw us out a moment
        later, with everybody else.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                return work()
            except psycopg.OperationalError as error:
                is_hopeless = "authentication failed" in str(error) or self._running_pid() is None
                if is_hopeless or time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_S)

    def _check_settings(self) -> None:
        check_durable(self.dsn())

    def _run_program(self, name: str, *arguments: str, given: str = "") -> str:
        """Run one of PostgreSQL's programs as the server's user and return what it printed.

        `given` is its standard input.

        Raises `PostgresError` with its complaint if it fails.
        """
        user = server_user()
        try:
            result = subprocess.run(
                [program_directory() / name, *arguments],
                input=given,
                capture_output=True,
                text=True,
                check=False,
                cwd=self._home,
                env=_program_environment(),
                user=user.uid if user.switch else None,
                group=user.gid if user.switch else None,
                extra_groups=[] if user.switch else None,
            )
        except PermissionError as error:
            raise PostgresError(
                f"PostgreSQL runs as the user nobody, who cannot reach {self._home}; "
                "set PREWATT_STATE_DIR to a directory that every user may pass through"
            ) from error
        if result.returncode != 0:
            raise PostgresError(f"{name} failed: {(result.stderr or result.stdout).strip()}")
        return result.stdout.strip()

    def _log_end(self, lines: int = 15) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log_path.read_text("utf-8", "replace").splitlines()[-lines:])
        return "(no log)"


class _ThrowawayPostgres(EmbeddedPostgres):
    """A server for one test run. Only here may `fsync` be off, since nothing of it is kept."""

    def __init__(self, state_dir: Path, *, fsync: bool) -> None:
        super().__init__(state_dir)
        self._settings["max_connections"] = "60"
        if not fsync:
            self._settings.update(fsync="off", full_page_writes="off", synchronous_commit="off")
            # Several run at once where tests do, and nothing of their logs is ever read.
            self._settings.update(max_wal_size="1GB", wal_buffers="8MB", shared_buffers="256MB")
            # Nobody copies it while it runs, and what tests delete they vacuum themselves.
            self._settings.update(
                wal_level="minimal", max_wal_senders="0", autovacuum="off", jit="off"
            )
            # Nobody attacks the passwords of such a server, and tests sign in thousands of times.
            self._settings["scram_iterations"] = "1"

    def digest_owner_password_anew(self) -> None:
        """The cluster was made before the server's own rule for digests held."""
        statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(
            sql.Identifier(OWNER), sql.Literal(role_password(OWNER, self.state_dir))
        )
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(statement)

    def _check_settings(self) -> None:
        if self._settings["fsync"] == "on":
            super()._check_settings()


@contextlib.contextmanager
def throwaway_postgres(
    state_dir: Path | None = None, *, fsync: bool = True, keep: bool = False
) -> Iterator[str]:
    """Run a server for the length of a `with` block and yield the owner's DSN; nothing is kept.

    Starts in about two seconds. `state_dir` is where its roles' passwords are to be found (see
    `role_password`); by default a temporary folder. `fsync=False` is faster and for tests
    alone: such a server loses its data in a crash. `keep` leaves data and passwords in `state_dir`
    for whoever copies them to another one.
    """
    with contextlib.ExitStack() as stack:
        if state_dir is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="prewatt-"))
            state_dir = Path(folder)
            state_dir.chmod(0o755 if os.geteuid() == 0 else 0o700)
        server = _ThrowawayPostgres(state_dir, fsync=fsync)
        stack.callback(server.stop if keep else server.reset)
        dsn = server.start()
        server.digest_owner_password_anew()
        yield dsn


@contextlib.contextmanager
def filling_postgres(state_dir: Path) -> Iterator[str]:
    """Run the server of a measurement below `state_dir` while it is filled; yield the owner's DSN.

    Nothing is synced before the end of the block, and new tables are not logged: several times as
    fast, and all is lost if the machine fails meanwhile. What was written is on the disk when the
    block ends, and an `EmbeddedPostgres` of the same folder then keeps what it commits.
    """
    server = _FillingPostgres(state_dir)
    try:
        yield server.start()
    finally:
        server.stop(timeout_s=300)
        os.sync()


class _FillingPostgres(EmbeddedPostgres):
    """Only between the first row and the last one of a measurement's data."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self._settings.update(
            fsync="off", full_page_writes="off", synchronous_commit="off", autovacuum="off",
            wal_level="minimal", max_wal_senders="0", max_wal_size="16GB", checkpoint_timeout="1h",
        )  # fmt: skip

    def _check_settings(self) -> None:
        """It is not durable, on purpose."""


@contextlib.contextmanager
def running_postgres(state_dir: Path, environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield the owner's DSN of the server to work on: `PREWATT_DSN`'s, else the embedded one's.

    The embedded server is stopped at the end of the block if it was started here.
    Raises `NotDurableError` if the server may lose what it has acknowledged.
    """
    outside = environ.get(DSN_VARIABLE)
    if outside:
        check_durable(outside)
        yield outside
        return
    server = EmbeddedPostgres(state_dir)
    try:
        yield server.start()
    finally:
        server.stop()


def check_durable(dsn: str) -> None:
    """Make sure that the server of `dsn` keeps what it acknowledged.

    Raises `NotDurableError` if `fsync`, `full_page_writes` or `synchronous_commit` is off for the
    server, or switched off for a single role or database.
    """
    with psycopg.connect(dsn) as connection:
        settings = connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", [list(_DURABLE)]
        ).fetchall()
        overrides = connection.execute(
            "SELECT unnest(setconfig) FROM pg_db_role_setting"
        ).fetchall()
    off = [name for name, value in settings if value in {"off", "local"}]
    for (override,) in overrides:
        name, _, value = override.partition("=")
        if name in _DURABLE and value.lower() not in {"on", "remote_apply", "remote_write"}:
            off.append(f"{name} (of a role or database)")
    if off:
        raise NotDurableError(
            f"PostgreSQL may lose committed data: {', '.join(sorted(off))} must be on; "
            "Prewatt never acknowledges what could vanish, and does not start"
        )


def create_database(connection: psycopg.Connection, name: str) -> bool:
    """Create the database `name` unless it exists; return whether it was created.

    `connection` must be in autocommit mode.
    """
    found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
    if found is None:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return found is None


def _socket_path_bytes(folder: Path) -> int:
    return len(os.fsencode(folder / f".s.PGSQL.{_SOCKET_PORT}.lock"))


def _sync_method() -> str:
    """How a start after a crash makes sure that all that was written is on the disk before it replays.

    File by file takes seconds, since a schema with partitions has some 1,700 of them. Linux syncs a whole
    file system in one call, and has reported the errors of that since 5.8 (syncfs(2)).
    """
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    if sys.platform != "linux" or version is None:
        return "fsync"
    return "syncfs" if (int(version[1]), int(version[2])) >= (5, 8) else "fsync"


def _shared_buffers() -> str:
    """An eighth of the machine's memory, between what a demo needs and the state of a million accounts.

    Where fewer pages fit than are written in turn, writers put other pages on the disk before they can
    read their own. Memory that is never used is never taken.
    """
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return f"{min(max(_BUFFERS_MB_MIN, memory_mb // 8), _BUFFERS_MB_MAX)}MB"


def _replace(path: Path, text: str, user: ServerUser) -> None:
    """Write one of the server's files anew, whole or not at all.

    On a full disk the old one stays: PostgreSQL never starts again over an empty lock file.
    Raises `PostgresError` if it cannot be written.
    """
    draft = path.with_name(f"{path.name}.new")
    try:
        draft.write_text(text, "utf-8")
        user.own(draft)
        draft.chmod(0o600)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise PostgresError(f"cannot write {path}: {error.strerror}") from error


def _conf_quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _program_environment() -> dict[str, str]:
    """Return an environment in which no PG* or locale variable of the caller's has a say."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _first_number(path: Path) -> int | None:
    try:
        return int(path.read_text("utf-8").partition("\n")[0])
    except (OSError, ValueError):
        return None


def _command_line(pid: int) -> str:
    """Return the command line of the process `pid`, empty if there is none."""
    proc = Path("/proc")
    if (proc / "self").exists():
        with contextlib.suppress(OSError):
            return (
                (proc / str(pid) / "cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode(errors="replace")
            )
        return ""
    listed = subprocess.run(
        ["/bin/ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
    )
    return listed.stdout


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _serve_development(arguments: list[str]) -> int:
    """Run, show or stop a development server that outlives this command."""
    parser = argparse.ArgumentParser(
        prog="python -m prewatt.runtime.embedded_postgres",
        description="A PostgreSQL of this checkout for development, apart from the demo's.",
    )
    parser.add_argument("command", choices=("dev", "stop", "reset"))
    parser.add_argument("database", nargs="?", default=DATABASE)
    chosen = parser.parse_args(arguments)
    server = EmbeddedPostgres(own_directory(state_directory() / "dev"))
    if chosen.command == "dev":
        server.start(detached=True)
        with psycopg.connect(server.dsn(database="postgres"), autocommit=True) as connection:
            create_database(connection, chosen.database)
        print(server.dsn(database=chosen.database))
    else:
        server.stop_detached()
        if chosen.command == "reset":
            server.reset()
    return 0


if __name__ == "__main__":
    sys.exit(_serve_development(sys.argv[1:]))
