"""`prewatt scale plan`: prints the statements that lay this database over several machines (Citus).

It prints and does nothing. What does not fit is named on standard error, with status 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys

import psycopg

from prewatt.runtime.embedded_postgres import DSN_VARIABLE, throwaway_postgres
from prewatt.runtime.state import CannotRunError
from prewatt.scale_plan import Plan, scale_plan, shown

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


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; returns 1 when something does not fit."""
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
