"""`prewatt archive`: takes finished months out of the database into Parquet, and reads them back."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg

from prewatt.mdm.archive import ArchiveRefused, archive_month, months_due
from prewatt.mdm.archive_files import INTERVAL, ArchiveUnreadable
from prewatt.reports.archive import archived_lines, verify_archive
from prewatt.runtime.embedded_postgres import running_postgres
from prewatt.runtime.state import CannotRunError, own_directory, state_directory
from prewatt.wiring import now

BROKEN = 1
"""Exit status when files and database differ."""
REFUSED = 2
"""Exit status when a month stays in the database."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to do, and with which folder."""
    commands = parser.add_subparsers(dest="archive_command", required=True)
    month = commands.add_parser("month", help="archive one month: files, check, then out")
    month.add_argument("month", type=_month, metavar="YYYY-MM")
    due = commands.add_parser("due", help="archive every month that is older than what is kept")
    due.add_argument(
        "--keep-months", type=int, required=True, help="whole months that stay before this one"
    )
    for each in (month, due):
        each.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    show = commands.add_parser("show", help="print the archived lines of an account")
    show.add_argument("folder", type=Path)
    show.add_argument("--account", type=int, required=True, help="the account's id")
    show.add_argument("--from", dest="from_at", type=_instant, metavar="INSTANT")
    show.add_argument("--to", dest="until_at", type=_instant, metavar="INSTANT")
    show.add_argument("--format", choices=("json", "csv"), default="csv")
    verify = commands.add_parser("verify", help="hold the files against catalogue and postings")
    verify.add_argument("folder", type=Path)
    verify.add_argument("--format", choices=("text", "json"), default="text")
    for each in (month, due, verify):
        each.add_argument(
            "--state-dir",
            type=Path,
            help="whose embedded database (default: the checkout's); PREWATT_DSN goes before it",
        )


def run(arguments: argparse.Namespace) -> int:
    """Do it; returns the exit status."""
    doing: dict[str, Callable[[argparse.Namespace], int]] = {
        "month": _archive, "due": _archive, "show": _show, "verify": _verify,
    }  # fmt: skip
    try:
        return doing[arguments.archive_command](arguments)
    except ArchiveUnreadable as error:
        raise CannotRunError(str(error)) from None


def _archive(arguments: argparse.Namespace) -> int:
    """Archive, the oldest first; a refusal ends it."""
    at = now()
    with running_postgres(_state_dir(arguments)) as dsn, psycopg.connect(dsn) as session:
        try:
            if arguments.archive_command == "month":
                months = [arguments.month]
            else:
                months = months_due(session, keep_months=arguments.keep_months, now=at)
            for month in months:
                try:
                    done = archive_month(session, month=month, folder=arguments.to, now=at)
                except ArchiveRefused as error:
                    raise ArchiveRefused(f"{month:%Y-%m} stays: {error}") from None
                print(
                    f"{month:%Y-%m}: {done.intervals} intervals and {done.readings} readings "
                    + ("archived." if done.is_new else "were archived already.")
                )
        except ArchiveRefused as error:
            print(f"prewatt: {error}", file=sys.stderr)
            return REFUSED
    return 0


def _show(arguments: argparse.Namespace) -> int:
    lines = archived_lines(
        arguments.folder,
        account_id=arguments.account,
        from_at=arguments.from_at,
        until_at=arguments.until_at,
    )
    if arguments.format == "json":
        print(json.dumps(list(lines)))
        return 0
    writer = csv.DictWriter(sys.stdout, list(INTERVAL.columns))
    writer.writeheader()
    writer.writerows(lines)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    with running_postgres(_state_dir(arguments)) as dsn, psycopg.connect(dsn) as session:
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.read_only = True
        breaches = verify_archive(session, arguments.folder)
    if arguments.format == "json":
        print(json.dumps({"ok": not breaches, "breaches": breaches}))
    else:
        for breach in breaches:
            print(breach, file=sys.stderr)
        print(f"{len(breaches)} places do not hold." if breaches else "The archive is whole.")
    return BROKEN if breaches else 0


def _state_dir(arguments: argparse.Namespace) -> Path:
    given = arguments.state_dir
    return state_directory() if given is None else own_directory(given.absolute())


def _month(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a month: {text!r}; say 2026-08") from None


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not an instant: {text!r}") from None
    if instant.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no zone; add Z for UTC")
    return instant
