"""`prewatt scale plan` and `prewatt scale sizes`: what more meters need, and how several machines share them.

`plan` prints the statements that lay this database over several machines (Citus); what does not fit is named on
standard error, with status 1. `sizes` prints what a database's rows take and what follows for more of them. Both
print and do nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys

import psycopg

from prewatt import scale_sizes
from prewatt.runtime.embedded_postgres import DSN_VARIABLE, throwaway_postgres
from prewatt.runtime.state import CannotRunError
from prewatt.scale_plan import Plan, scale_plan, shown
from prewatt.scale_sizes import Assumptions, sizes_of

MISFITS = 1
"""Exit status when a table does not fit."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`plan`, with how many shards."""
    commands = parser.add_subparsers(dest="scale_command", required=True)
    plan = commands.add_parser(
        "plan", help="print the statements for PREWATT_DSN's database, or for a new one"
    )
    plan.add_argument("--shards", type=int, default=64, help="(default: 64)")
    plan.add_argument("--format", choices=("sql", "json"), default="sql")
    _add_sizes(
        commands.add_parser(
            "sizes",
            help="bytes of PREWATT_DSN's database for a meter, a reading, a day; what follows",
        )
    )


def _add_sizes(sizes: argparse.ArgumentParser) -> None:
    usual = Assumptions()
    sizes.add_argument(
        "--meters",
        type=int,
        nargs="+",
        default=[1_000_000, 10_000_000, 100_000_000],
        help="how many to reckon with (default: 1, 10 and 100 million)",
    )
    for name, help_ in (
        ("readings_a_day", "of a meter"),
        ("keep_months", "of readings in the database"),
        ("sales_a_month", "to an account"),
        ("cpu_us_a_reading", "as `prewatt bench ingest` prints it"),
        ("cpu_ms_a_posting", "as `prewatt bench posting` prints it"),
        ("wal_bytes_a_reading", "as `prewatt bench ingest` prints it"),
    ):
        default = getattr(usual, name)
        option = f"--{name.replace('_', '-')}"
        sizes.add_argument(
            option, type=type(default), default=default, help=f"{help_} (default: {default:g})"
        )
    sizes.add_argument("--format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    """Print what was asked for; returns 1 when something does not fit the plan."""
    return _sizes(arguments) if arguments.scale_command == "sizes" else _plan(arguments)


def _sizes(arguments: argparse.Namespace) -> int:
    dsn = os.environ.get(DSN_VARIABLE)
    if not dsn:
        raise CannotRunError(f"set {DSN_VARIABLE} to the database to measure")
    names = [each.name for each in dataclasses.fields(Assumptions)]
    try:
        given = Assumptions(**{name: getattr(arguments, name) for name in names})
    except ValueError as error:
        raise CannotRunError(str(error)) from None
    with psycopg.connect(dsn) as session:
        measured = sizes_of(session.cursor())
    needs = [measured.need(meters, given) for meters in arguments.meters]
    if arguments.format == "json":
        said = {
            "sizes": dataclasses.asdict(measured),
            "given": dataclasses.asdict(given),
            "needs": [dataclasses.asdict(need) for need in needs],
        }
        print(json.dumps(said))
    else:
        print(scale_sizes.shown(measured, needs, given), end="")
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    dsn = os.environ.get(DSN_VARIABLE)
    try:
        plan = _plan_of(dsn, arguments.shards) if dsn else _plan_of_new(arguments.shards)
    except ValueError as error:
        raise CannotRunError(str(error)) from None
    if arguments.format == "json":
        print(json.dumps(dataclasses.asdict(plan)))
    else:
        print(shown(plan.statements), end="")
        print(f"-- On the coordinator alone: {', '.join(plan.local)}.")
    for misfit in plan.misfits:
        print(f"prewatt: does not fit: {misfit}", file=sys.stderr)
    return MISFITS if plan.misfits else 0


def _plan_of(dsn: str, shards: int) -> Plan:
    with psycopg.connect(dsn) as session:
        return scale_plan(session.cursor(), shards=shards)


def _plan_of_new(shards: int) -> Plan:
    """The plan for a database as the present release makes it."""
    with throwaway_postgres(fsync=False) as dsn:
        os.environ[DSN_VARIABLE] = dsn
        os.environ.setdefault("PREWATT_SECRET_KEY", "of a database that nobody signs in to")
        from prewatt import walls, wiring

        wiring.start_django()
        from django.db import connection

        from prewatt.migrate import migrate

        migrate(passwords=dict.fromkeys(walls.LOGINS, "thrown away"), today=wiring.now().date())
        connection.close()
        return _plan_of(dsn, shards)
