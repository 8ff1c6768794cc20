"""The `prewatt` command: finds the command that was asked for and runs it, importing nothing else.

Each command is a module with `add_arguments(parser)` and `run(arguments) -> int` (the exit
status). A module is imported only when its command is called, so that `prewatt --help` needs no
dependency at all: the bootstrap `run` shows it before the environment exists.
"""

from __future__ import annotations

import argparse
import gc
import getpass
import importlib
import importlib.util
import os
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prewatt.audit.context import name_process
from prewatt.runtime.state import CannotRunError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its name, the module that carries it out, and one line of help."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("demo", "prewatt.demo", "show a whole property at work: meters, money, relays"),
    Command("check", "prewatt.check", "run every check of the project: format, types, tests"),
    Command("web", "prewatt.serve", "serve the web pages"),
    Command("hes", "prewatt.head_end", "run the head-end: talk to the meters"),
    Command("worker", "prewatt.worker", "carry out what is due: postings, messages, decisions"),
    Command(
        "sim",
        "prewatt.scenarios.command",
        "simulate meters and whole fields over the real protocols",
    ),
    Command("broker", "prewatt.runtime.broker_command", "run the demo's MQTT broker"),
    Command("bench", "prewatt.benchmarks.command", "measure a running demo"),
    Command("drill", "prewatt.drills.command", "break a running Prewatt and see what survives"),
    Command("fuzz", "prewatt.fuzz.command", "try readers of foreign bytes with hostile ones"),
    Command("migrate", "prewatt.migrate_command", "bring the database's schema up to date"),
    Command("backup", "prewatt.backup_command", "copy the database, or restore it to any instant"),
    Command(
        "books",
        "prewatt.books_command",
        "recompute the books from their rows and say what is wrong",
    ),
    Command(
        "archive",
        "prewatt.archive_command",
        "take finished months out into Parquet, and read them back",
    ),
    Command("audit", "prewatt.audit_command", "check a signed copy of the audit"),
    Command("scale", "prewatt.scale_command", "say how the database is laid over several machines"),
    Command("import", "prewatt.import_command", "make a property from its tables (CSV or XLSX)"),
    Command("password", "prewatt.password_command", "set or reset the password of a login"),
    Command(
        "packages", "prewatt.packages_command", "say what the program is made of (SBOM, audit)"
    ),
    Command("access", "prewatt.access_command", "say who may do what, as the code has it"),
    Command("keys", "prewatt.keys_command", "list, make and rotate the keys that sign"),
    Command("devices", "prewatt.devices_command", "certificates of meters: enrol, revoke, broker"),
    Command(
        "concentrator",
        "prewatt.concentrator_command",
        "register concentrators, and say which meters they speak for",
    ),
    Command("meter", "prewatt.meter_command", "read a meter where it stands, or make its key"),
    Command(
        "instruct",
        "prewatt.instruct_command",
        "keys of meters that verify, credit in meters, what was told",
    ),
    Command("bill", "prewatt.bill_command", "say what a load would cost under a price plan"),
    Command("tariff", "prewatt.tariff_command", "check a price plan, or print its JSON Schema"),
)


#: After so many new objects, and so many such looks: what a start loads stays, and to look through it for
#: garbage every seven hundred objects, as usual, takes a sixth of a start's processor.
LOOKS_FOR_GARBAGE = (50_000, 20, 50)


def available_commands() -> list[Command]:
    """Return the commands of this installation: an operator's may lack the demo's parts."""
    return [command for command in COMMANDS if importlib.util.find_spec(command.module)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` name (by default the command line's); return its status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = {command.name: command for command in available_commands()}
    if not given or given[0] in {"-h", "--help", "help"}:
        print(_overview(list(commands.values())))
        return 0
    command = commands.get(given[0])
    if command is None:
        print(f"prewatt: no command {given[0]!r}; see prewatt --help", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(prog=f"prewatt {command.name}", description=command.help)
    gc.set_threshold(*LOOKS_FOR_GARBAGE)
    module = importlib.import_module(command.module)
    module.add_arguments(parser)
    name_process(_SERVERS.get(command.name, f"cli:{command.name}"), address=_who_runs())
    try:
        return int(module.run(parser.parse_args(given[1:])))
    except CannotRunError as error:
        print(f"prewatt: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if (reason := _why_no_database(error)) is None:
            raise
        print(f"prewatt: the database cannot be reached: {reason}", file=sys.stderr)
        return 1


#: What a process that serves is called in the audit; a command goes by its own name.
_SERVERS = {name: name for name in ("web", "hes", "worker")}


def _who_runs() -> str:
    """The person of the operating system and the machine, as the audit has them of a command."""
    try:
        person = getpass.getuser()
    except (KeyError, OSError):
        person = str(os.getuid())
    return f"{person}@{socket.gethostname()}"


#: What a server says that is there and takes nobody in: wrong login, no such database, full, starting.
_NOT_LET_IN = frozenset({"28000", "28P01", "3D000", "53300", "57P03"})


def _why_no_database(error: Exception) -> str | None:
    """Return the server's or the system's words if no session could be had, else None: then it is ours."""
    import psycopg

    # Django wraps the driver's error and keeps it as the cause.
    for each in (error, error.__cause__):
        if isinstance(each, psycopg.OperationalError) and (
            each.sqlstate in _NOT_LET_IN or (each.sqlstate is None and "connection" in str(each))
        ):
            return " ".join(str(each).split())
    return None


def _overview(commands: Sequence[Command]) -> str:
    """Return the help text; the two commands that a visitor needs come first."""
    width = max(len(command.name) for command in commands)
    lines = ["Prewatt: prepaid electricity for property managers.", "", "Start here:"]
    for command in commands:
        if command.name == "web":
            lines += ["", "The parts of a running system:"]
        lines.append(f"  ./run {command.name:<{width}}  {command.help}")
    return "\n".join([*lines, "", "./run COMMAND --help tells more about one."])
