"""`prewatt drill`: break a running Prewatt on purpose, and say what was acknowledged and what survived."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from prewatt import wiring

if TYPE_CHECKING:
    from prewatt.drills.lines import Line
    from prewatt.drills.report import Report
    from prewatt.drills.world import World

BROKEN: Final = 1
"""Exit status when an invariant is broken."""
NOT_POSSIBLE: Final = 2
"""Exit status when this user or machine does not allow the drill."""

_VICTIMS: Final = "writer,head-end,postgres,broker,teller,worker"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a sub-command for each way of breaking things."""
    drills = parser.add_subparsers(dest="drill", required=True)
    crash = _drill(drills, "crash", "SIGKILL to a random process at a random instant", rounds=500)
    crash.add_argument("--kill", default=_VICTIMS, help=f"whom (default: {_VICTIMS})")
    for name, what in (
        ("duplicate", "every message again: at once, later, after restarts"),
        ("reorder", "messages in any order, across batches and restarts"),
    ):
        lines = _drill(drills, name, what, rounds=20)
        lines.add_argument("--kill", default="head-end,broker", help="(default: head-end,broker)")

    _drill(drills, "partition", "lines that delay, cut, truncate and repeat", rounds=60)
    _drill(drills, "clock", "clocks of meters and head-end that creep and leap", rounds=20)
    forged = drills.add_parser(
        "instructions", help="hostile variations of signed instructions and answers"
    )
    forged.add_argument("--variations", type=int, default=10_000, help="(default: 10000)")
    forged.add_argument("--seed", help="repeats a drill (default: a new one, printed)")
    forged.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    forged.add_argument("--format", choices=("text", "json"), default="text")
    _drill(drills, "disk-full", "PostgreSQL's disk filled to the last byte (root)", rounds=5)


def _drill(
    drills: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    what: str,
    *,
    rounds: int,
) -> argparse.ArgumentParser:
    drill = drills.add_parser(name, help=what)
    drill.add_argument("--rounds", type=int, default=rounds, help=f"(default: {rounds})")
    drill.add_argument("--seed", help="repeats a drill (default: a new one, printed)")
    drill.add_argument("--meters", type=int, default=16, help="that live through past weeks (16)")
    drill.add_argument("--live", type=int, default=4, help="meters of now, cut and connected (4)")
    drill.add_argument("--shards", type=int, default=2, help="the head-end's loops of ingest (2)")
    drill.add_argument("--tellers", type=int, default=2, help="(default: 2)")
    drill.add_argument(
        "--broker", choices=("mosquitto", "amqtt"), help="default: Mosquitto if there"
    )
    drill.add_argument("--keep", action="store_true", help="keep the folder even if all holds")
    drill.add_argument("--format", choices=("text", "json"), default="text")
    return drill


def run(arguments: argparse.Namespace) -> int:
    """Run a drill and print its report; returns 1 when something is broken."""
    from prewatt.drills.disk import CannotMount
    from prewatt.drills.report import Report
    from prewatt.drills.world import DrillStuck

    report = Report(arguments.drill, arguments.seed or secrets.token_hex(4))
    _tell(f"drill {arguments.drill}, seed {report.seed}")
    folder = Path(tempfile.mkdtemp(prefix="prewatt-drill-"))
    folder.chmod(0o755 if os.geteuid() == 0 else 0o700)
    began = time.monotonic()
    try:
        _DRILLS[arguments.drill](arguments, report, folder)
    except DrillStuck as stuck:
        report.broken.append(str(stuck))
    except CannotMount as refused:
        shutil.rmtree(folder, ignore_errors=True)
        _tell(f"prewatt: {refused}")
        return NOT_POSSIBLE
    except BaseException:
        if any(folder.iterdir()):
            _tell(f"logs, journals and data are kept in {folder}")
        else:
            folder.rmdir()
        raise
    report.seconds = round(time.monotonic() - began, 1)
    report.load_average = tuple(round(each, 2) for each in os.getloadavg())
    if report.holds and not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        report.notes.append(f"logs, journals and data are kept in {folder}")
    print(report.as_json() if arguments.format == "json" else report.as_text())
    return 0 if report.holds else BROKEN


def _crash(arguments: argparse.Namespace, report: Report, folder: Path) -> None:
    """The drill of crashes; with another line between field and broker, that of duplicates or order."""
    from prewatt.drills.crash import VICTIMS, crash_rounds
    from prewatt.runtime.state import CannotRunError

    victims = [each.strip() for each in arguments.kill.split(",")]
    if unknown := sorted(set(victims) - set(VICTIMS)):
        raise CannotRunError(f"no victim {', '.join(unknown)}; there are {', '.join(VICTIMS)}")
    random = Random(report.seed)  # noqa: S311 - a drill is repeatable
    line = _line(report)
    with _world(arguments, report, folder, line=line) as made:
        crash_rounds(
            made, report, rounds=arguments.rounds, victims=victims, random=random, tell=_tell
        )
        _finish(made, report)
        report.done.update(line.counts())


def _partition(arguments: argparse.Namespace, report: Report, folder: Path) -> None:
    from prewatt.drills.partition import Lines, bad_weather

    random = Random(report.seed)  # noqa: S311 - a drill is repeatable
    lines = Lines(folder, report.seed)
    try:
        with _world(arguments, report, folder, reroute=lines.between) as made:
            bad_weather(made, lines, report, rounds=arguments.rounds, random=random, tell=_tell)
            _finish(made, report)
    finally:
        lines.stop()


def _clock(arguments: argparse.Namespace, report: Report, folder: Path) -> None:
    from prewatt.drills.clocks import Clocks, wrong_clocks

    random = Random(report.seed)  # noqa: S311 - a drill is repeatable
    clocks = Clocks(Random(f"{report.seed} clocks"))  # noqa: S311
    with _world(arguments, report, folder) as made:
        wrong_clocks(made, clocks, report, rounds=arguments.rounds, random=random, tell=_tell)
        _finish(made, report, held_is_right=True)


def _instructions(arguments: argparse.Namespace, report: Report, _folder: Path) -> None:
    """No world: two meters, the book and a database of its own."""
    from prewatt.benchmarks.city import empty_database

    random = Random(report.seed)  # noqa: S311 - a drill is repeatable
    with empty_database():
        from prewatt.drills.forgeries import Field

        field = Field(wiring.now())
        field.exchange()
        swept = field.sweep(field.attempts(random, arguments.variations))
    report.done.update(swept.tried)
    report.broken += [f"accepted: {each.kind} {each.payload.hex()}" for each in swept.accepted]
    report.broken += [f"unseen: {each.kind} {each.payload.hex()}" for each in swept.unseen]


def _disk_full(arguments: argparse.Namespace, report: Report, folder: Path) -> None:
    from prewatt.drills.disk import full_disks, small_disk

    random = Random(report.seed)  # noqa: S311 - a drill is repeatable
    with small_disk(folder) as disk, _world(arguments, report, folder) as made:
        full_disks(made, disk, report, rounds=arguments.rounds, random=random, tell=_tell)
        _finish(made, report)


def _world(
    arguments: argparse.Namespace, report: Report, folder: Path, **options: Any
) -> AbstractContextManager[World]:
    from prewatt.drills.world import Size, world

    size = Size(
        behind=arguments.meters,
        live=arguments.live,
        tellers=arguments.tellers,
        shards=arguments.shards,
    )
    return world(folder, report=report, size=size, tell=_tell, broker=arguments.broker, **options)


def _finish(made: World, report: Report, *, held_is_right: bool = False) -> None:
    """Let the load end and drain, then compare everything."""
    from prewatt.drills.comparison import check_at_the_end, check_repeats

    _tell("the load ends; waiting until everything is acknowledged")
    made.close_tills()
    made.drain()
    check_at_the_end(made, report, held_is_right=held_is_right)
    check_repeats(made, report)


def _line(report: Report) -> Line:
    from prewatt.drills.lines import DuplicatingLine, PlainLine, ShufflingLine

    random = Random(f"{report.seed} line")  # noqa: S311 - a drill is repeatable
    if report.drill == "duplicate":
        return DuplicatingLine(random)
    return ShufflingLine(random) if report.drill == "reorder" else PlainLine()


def _tell(line: str) -> None:
    """Say what is going on, apart from the report."""
    print(line, file=sys.stderr, flush=True)


_DRILLS: Final[dict[str, Callable[[argparse.Namespace, Report, Path], None]]] = {
    "crash": _crash,
    "duplicate": _crash,
    "reorder": _crash,
    "partition": _partition,
    "clock": _clock,
    "disk-full": _disk_full,
    "instructions": _instructions,
}
