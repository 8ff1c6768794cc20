"""Backups of a PostgreSQL, and restoring one to any instant, by PostgreSQL's own programs.

A *base* is a copy of the whole cluster while it works (`pg_basebackup`), checked file by file
(`pg_verifybackup`). The *log* is its write-ahead log, received as it is written (`pg_receivewal`), through
a replication slot so that the server keeps what has not arrived yet. A base and the log after it give
back every instant since the base, to the transaction.

Layout of a backup folder::

    BACKUP/
      base-20261127T101500Z/   one base each, with PostgreSQL's manifest
      wal/                     the log, one file for each 16 MB; the last ends in .partial

Sources: PostgreSQL 18 documentation, "Continuous Archiving and Point-in-Time Recovery (PITR)".
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from prewatt.runtime.children import die_with_parent
from prewatt.runtime.embedded_postgres import OWNER, EmbeddedPostgres, PostgresError
from prewatt.runtime.postgres_binaries import program_directory, server_user
from prewatt.runtime.state import role_password

SLOT: Final = "prewatt_backup"
"""The replication slot through which the log is received."""

_BASE: Final = "base-"
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_PARTIAL: Final = ".partial"


class BackupError(PostgresError):
    """The backup cannot be made or used; the message says why and what helps."""


def take_base(dsn: str, folder: Path, *, now: datetime) -> Path:
    """Copy the cluster of `dsn` into a new folder of `folder` and check the copy; returns its path.

    The login must be one that may replicate. A copy that fails leaves nothing behind.
    """
    target = folder / f"{_BASE}{now.astimezone(UTC):{_STAMP}}"
    draft = folder / f".{target.name}"
    if target.exists():
        raise BackupError(f"there is a base {target.name} already; wait a second")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _run(
            dsn,
            "pg_basebackup",
            f"--pgdata={draft}",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--manifest-checksums=SHA256",
        )
        _run(None, "pg_verifybackup", "--quiet", str(draft))
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def follow_log(dsn: str, folder: Path) -> subprocess.Popen[bytes]:
    """Begin to receive the log into `folder`/wal; the process runs until it is ended.

    Each commit's log is written through to the disk before the server is told that it arrived.
    """
    target = folder / "wal"
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    slot = f"--slot={SLOT}"
    _run(dsn, "pg_receivewal", slot, "--create-slot", "--if-not-exists")
    command, environ = _command(dsn, "pg_receivewal")
    return subprocess.Popen(
        [*command, f"--directory={target}", slot, "--synchronous", "--status-interval=1"],
        env=environ,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_parent(signal.SIGTERM),
    )


def bases(folder: Path) -> list[tuple[datetime, Path]]:
    """The bases of a backup folder, oldest first, with the instant that each was begun."""
    found = []
    for path in folder.glob(f"{_BASE}*"):
        try:
            begun = datetime.strptime(path.name.removeprefix(_BASE), _STAMP)  # noqa: DTZ007
        except ValueError:
            continue
        found.append((begun.replace(tzinfo=UTC), path))
    return sorted(found)


def restore(
    folder: Path,
    state_dir: Path,
    *,
    until: datetime | None = None,
    tell: Callable[[str], object] = print,
) -> str:
    """Make the database of `state_dir` what it was at `until`, or at the log's end.

    Chooses the last base before `until`, replays the log, and gives the owner the password that
    `state_dir` keeps; the other logins get theirs from the next `prewatt migrate`. Returns the DSN
    of the owner; the server is stopped. Raises BackupError, having changed nothing, where `state_dir`
    has a database already, where no base is old enough, or where the log ends before `until`.
    """
    server = _Restored(state_dir, until)
    if server.has_data():
        raise BackupError(f"{state_dir} has a database already; restore into a folder without one")
    usable = [path for begun, path in bases(folder) if until is None or begun < until]
    if not usable:
        raise BackupError(
            f"{folder} has no base" + (f" from before {until:%Y-%m-%d %H:%M:%S%z}" if until else "")
        )
    base = usable[-1]
    tell(f"Checking {base.name} ...")
    _run(None, "pg_verifybackup", "--quiet", str(base))
    try:
        tell("Copying it and the log ...")
        server.lay_down(base, folder / "wal")
        tell("Replaying the log ...")
        server.replay()
    except BaseException:
        server.forget()
        raise
    return server.dsn()


class _Restored(EmbeddedPostgres):
    """The embedded server while it replays a log that was laid beside its data."""

    def __init__(self, state_dir: Path, until: datetime | None) -> None:
        super().__init__(state_dir)
        self._log = self._home / "log-to-replay"
        replayed = {
            "restore_command": f'cp "{self._log}/%f" "%p"',
            "recovery_target_action": "promote",
            "recovery_target_timeline": "latest",
            # Nobody looks before the end: a standby that answers would look like the result.
            "hot_standby": "off",
        }
        if until is not None:
            replayed["recovery_target_time"] = f"{until.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f+00}"
        # A cluster that was promoted must never find the settings of its recovery again.
        self._ordinary = dict(self._settings)
        self._settings |= replayed

    def has_data(self) -> bool:
        """Whether this state directory has a cluster."""
        return self._data.exists()

    def lay_down(self, base: Path, log: Path) -> None:
        """Copy a base and the log to where the server's user reads them."""
        self._home.mkdir(mode=0o755, exist_ok=True)
        shutil.copytree(base, self._data)
        self._data.chmod(0o700)
        (self._data / "recovery.signal").touch()
        self._log.mkdir()
        for file in sorted(log.glob("*")) if log.exists() else []:
            shutil.copy2(file, self._log / file.name.removesuffix(_PARTIAL))
        user = server_user()
        for path in (self._home, *self._home.rglob("*")):
            user.own(path)

    def replay(self) -> None:
        """Replay up to the target, stop, and give the owner this state directory's password."""
        try:
            with self._start_lock():
                self._launch(detached=False)
                self._await_ready()
        except PostgresError as error:
            raise BackupError(f"the log could not be replayed to there: {error}") from error
        finally:
            self.stop()
        self._settings = self._ordinary
        self._write_configuration()
        self._set_owner_password()
        shutil.rmtree(self._log)

    def forget(self) -> None:
        """Leave nothing of a restore that failed."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _set_owner_password(self) -> None:
        """By the server's single-user mode: nobody is let in without a password meanwhile."""
        statement = sql.SQL("ALTER ROLE {} PASSWORD {};").format(
            sql.Identifier(OWNER), sql.Literal(role_password(OWNER, self.state_dir))
        )
        self._run_program(
            "postgres", "--single", "-D", str(self._data), "postgres", given=statement.as_string()
        )


def _command(dsn: str | None, program: str) -> tuple[list[str], dict[str, str]]:
    """A program's command line and environment; the password is no argument, which all may read."""
    environ = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
    command = [str(program_directory() / program)]
    if dsn is not None:
        parts = conninfo_to_dict(dsn)
        password = parts.pop("password", None)
        if password is not None:
            environ["PGPASSWORD"] = str(password)
        parts.pop("dbname", None)
        command += [f"--dbname={make_conninfo('', **parts)}", "--no-password"]
    return command, environ


def _run(dsn: str | None, program: str, *arguments: str) -> None:
    command, environ = _command(dsn, program)
    done = subprocess.run(
        [*command, *arguments],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BackupError(f"{program} failed: {(done.stderr or done.stdout).strip()}")
