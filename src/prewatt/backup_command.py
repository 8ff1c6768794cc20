"""`prewatt backup` and `prewatt restore`: a copy to come back to, and back to any instant."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from prewatt.runtime.backup import BackupError, follow_log, restore, take_base
from prewatt.runtime.embedded_postgres import DSN_VARIABLE
from prewatt.runtime.state import CannotRunError, own_directory

_PATIENCE_S = 15.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to do, and with which folder."""
    commands = parser.add_subparsers(dest="backup_command", required=True)
    base = commands.add_parser("base", help="copy the whole cluster while it works, and check it")
    base.add_argument("folder", type=Path)
    follow = commands.add_parser("follow", help="receive the log as it is written, until stopped")
    follow.add_argument("folder", type=Path)
    back = commands.add_parser("restore", help="make a new database of a base and its log")
    back.add_argument("folder", type=Path)
    back.add_argument(
        "--to", type=Path, required=True, metavar="STATE_DIR", help="where there is none yet"
    )
    back.add_argument(
        "--until",
        type=_instant,
        metavar="INSTANT",
        help="2026-11-27T10:15:00Z: leave out what was committed later (default: nothing)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it; returns the exit status."""
    if arguments.backup_command == "restore":
        return _restore(arguments)
    dsn = os.environ.get(DSN_VARIABLE)
    if not dsn:
        raise CannotRunError(
            f"{DSN_VARIABLE} is not set: say which PostgreSQL, as a login that may replicate"
        )
    if arguments.backup_command == "follow":
        return _follow(dsn, arguments.folder)
    print(take_base(dsn, arguments.folder, now=datetime.now(UTC)))
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    state_dir = own_directory(arguments.to.absolute())
    restore(
        arguments.folder,
        state_dir,
        until=arguments.until,
        tell=lambda line: print(line, file=sys.stderr),
    )
    print(
        f"Restored into {state_dir}. Look at its books before you let anybody in:\n"
        f"  ./run books --state-dir {state_dir}"
    )
    return 0


def _follow(dsn: str, folder: Path) -> int:
    """Receive until SIGTERM or SIGINT; whoever supervises starts it again when it fails."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    process = follow_log(dsn, folder)
    while process.poll() is None:
        if stopping.wait(0.25):
            process.send_signal(signal.SIGINT)
            process.wait(_PATIENCE_S)
            return 0
    raise BackupError(f"pg_receivewal ended by itself with status {process.returncode}")


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not an instant: {text!r}") from None
    if instant.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no zone; add Z for UTC")
    return instant
