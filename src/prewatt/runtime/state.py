"""The state directory: where one checkout keeps its data, passwords, logs and sockets.

Standard library only: the bootstrap `run` uses this module before any dependency is installed.

Layout (every part is made by whoever needs it)::

    STATE/
      progress.json      what the progress page shows while the demo prepares
      logs/NAME.log      one log for each child process
      secrets/roles/     password of each database role, 0600, readable by the program's user only
      postgres/data      the embedded PostgreSQL's data, owned by the server's user
      run/               the embedded PostgreSQL's socket
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CHECKOUT = Path(__file__).resolve().parents[3]
"""The checkout this code runs from."""

STATE_DIR_VARIABLE = "PREWATT_STATE_DIR"

_ROLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class CannotRunError(RuntimeError):
    """The program cannot run here as things are; its message is for whoever started it."""


class StateDirectoryError(CannotRunError):
    """No usable state directory: it cannot be made, or it belongs to somebody else."""


def state_directory(environ: Mapping[str, str] = os.environ, checkout: Path = CHECKOUT) -> Path:
    """Return this checkout's state directory, made if missing (mode 0700, or 0755 for root).

    `PREWATT_STATE_DIR` names it outright. Else an ordinary user's is `<checkout>/.prewatt`, and
    root's is a directory of its own outside the checkout, because root's PostgreSQL runs as
    `nobody`, who cannot look into `/root`.

    Raises `StateDirectoryError` if it cannot be made or is owned by another user.
    """
    named = environ.get(STATE_DIR_VARIABLE)
    if named:
        path = Path(named).absolute()
    elif os.geteuid() == 0:
        digest = hashlib.sha256(str(checkout).encode()).hexdigest()[:12]
        path = machine_directory() / digest
    else:
        path = checkout / ".prewatt"
    return own_directory(path)


def machine_directory() -> Path:
    """Return root's directory for everything of Prewatt on this machine: not secret, root's own."""
    try:
        return own_directory(Path("/var/lib/prewatt"))
    except StateDirectoryError:
        return own_directory(Path("/var/tmp/prewatt"))  # noqa: S108 - ownership is checked


def own_directory(path: Path) -> Path:
    """Make `path` if it is missing and return it, once it is sure that nobody else can write there.

    Root's directories are passable (0755), since PostgreSQL runs as another user below them;
    what is secret in them has its own mode.
    """
    try:
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o755 if os.geteuid() == 0 else 0o700)
        owners = {path.stat().st_uid, path.lstat().st_uid}
        world_writable = path.stat().st_mode & stat.S_IWOTH
    except OSError as error:
        raise StateDirectoryError(
            f"cannot make the state directory {path}: {error.strerror}; "
            f"name another one with {STATE_DIR_VARIABLE}"
        ) from error
    if owners - {os.geteuid(), 0} or world_writable:
        raise StateDirectoryError(
            f"the state directory {path} belongs to, or can be written by, another user; "
            f"name another one with {STATE_DIR_VARIABLE}"
        )
    return path


def role_password(name: str, state_dir: Path | None = None) -> str:
    """Return the password of the database role `name`, made at random on first use.

    It is kept in `secrets/roles/NAME`, mode 0600, so that every process of this checkout finds
    the same one. Two processes asking at once get the same answer: the file appears complete, by
    link(2), and only once.
    """
    if not _ROLE_NAME.fullmatch(name):
        raise ValueError(f"not the name of a database role: {name!r}")
    folder = (state_dir or state_directory()) / "secrets" / "roles"
    return secret_text(folder / name, lambda: secrets.token_hex(24))


def secret_text(path: Path, make: Callable[[], str]) -> str:
    """Return the secret kept in the file `path`, calling `make` for it on first use."""
    try:
        return path.read_text("ascii")
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(make())
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text("ascii")
