"""`prewatt sim`: single meters and faults (`sim/command.py`), and whole fields by a scenario (`run`)."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prewatt.runtime.state import CannotRunError
from prewatt.sim import command as meters

if TYPE_CHECKING:
    from prewatt.scenarios.course import Report
    from prewatt.scenarios.scenario import Scenario

DIFFERS: Final = 1
"""Exit status when something is not accounted for."""
REFUSED: Final = 2
"""Exit status when the scenario cannot be read."""

_SHOWN_MAX: Final = 50
_SUFFIX: Final = ".toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `run` and `check` to the commands for single meters."""
    commands = meters.add_arguments(parser)
    shipped = ", ".join(shipped_scenarios())
    run = commands.add_parser("run", help="run a scenario, and account for everything at its end")
    check = commands.add_parser("check", help="say what is wrong with a scenario file")
    for each in (run, check):
        each.add_argument("scenario", help=f"a TOML file, or one that comes along: {shipped}")
    run.add_argument("--seed", help="the same seed makes the same field (default: the scenario's)")
    run.add_argument(
        "--duration",
        type=int,
        metavar="S",
        help="in place of the scenario's: events after it are left out",
    )
    run.add_argument("--report", type=Path, metavar="FILE", help="write the report there as JSON")
    run.add_argument("--folder", type=Path, metavar="DIR", help="keep logs, records and data there")
    run.add_argument("--format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; returns the exit status."""
    if arguments.sim_command not in ("run", "check"):
        return meters.run(arguments)
    from prewatt.scenarios.scenario import ScenarioRefused

    try:
        scenario = find_scenario(arguments.scenario)
        if arguments.sim_command == "check":
            print(f"{scenario.title}: {scenario.count:,} meters for {scenario.duration_s:,} s")
            return 0
        if arguments.duration is not None:
            scenario = shortened(scenario, arguments.duration)
    except ScenarioRefused as refused:
        for line in refused.lines:
            print(f"{arguments.scenario}: {line}", file=sys.stderr)
        return REFUSED
    return _run(arguments, scenario)


def shipped_scenarios() -> list[str]:
    """The names of the scenarios that come along."""
    folder = files("prewatt") / "data" / "scenarios"
    return sorted(
        each.name.removesuffix(_SUFFIX) for each in folder.iterdir() if each.name.endswith(_SUFFIX)
    )


def find_scenario(name: str) -> Scenario:
    """A file's scenario, or one that comes along. Raises ScenarioRefused."""
    from prewatt.scenarios.scenario import ScenarioRefused, read_scenario

    if name in shipped_scenarios():
        text = (files("prewatt") / "data" / "scenarios" / f"{name}{_SUFFIX}").read_text()
    else:
        try:
            text = Path(name).read_text()
        except (OSError, UnicodeDecodeError) as error:
            known = ", ".join(shipped_scenarios())
            raise ScenarioRefused(
                [f"cannot be read ({error}); name a file, or one of {known}"]
            ) from None
    return read_scenario(text)


def shortened(scenario: Scenario, duration_s: int) -> Scenario:
    """The same field for another time, without what would happen after it. Raises ScenarioRefused."""
    import msgspec

    from prewatt.scenarios.scenario import ScenarioRefused

    if duration_s < 1:
        raise ScenarioRefused(["--duration: a run takes a second at least; write how many"])
    events = tuple(each for each in scenario.events if each.at_s <= duration_s)
    return msgspec.structs.replace(scenario, duration_s=duration_s, events=events)


def _run(arguments: argparse.Namespace, scenario: Scenario) -> int:
    from prewatt.scenarios.course import run_course
    from prewatt.scenarios.world import world

    seed = arguments.seed or scenario.seed
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="prewatt-sim-"))
    if arguments.folder is not None and folder.exists() and any(folder.iterdir()):
        raise CannotRunError(f"{folder} holds something already; name an empty folder")
    terminal = _Terminal()
    terminal.tell(
        f"{scenario.title}: {scenario.count:,} meters, {scenario.duration_s:,} s, seed {seed}"
    )
    try:
        with world(scenario, seed, folder, tell=terminal.tell) as made:
            report = run_course(made, tell=terminal.tell, status=terminal.status)
    except BaseException:
        terminal.tell(f"logs and data are kept in {folder}")
        raise
    if report.holds and arguments.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        terminal.tell(f"logs, records and data are kept in {folder}")
    if arguments.report is not None:
        arguments.report.write_text(report.as_json() + "\n")
    print(report.as_json() if arguments.format == "json" else as_text(report))
    return 0 if report.holds else DIFFERS


def as_text(report: Report) -> str:
    """The account in lines, then everything that does not add up."""
    account = report.account
    tls = " with certificates" if report.tls else ""
    cpu = ", ".join(f"{name} {seconds:g}" for name, seconds in report.cpu_s.items())
    held = f"{sum(account.readings_held.values()):,} held{_in_brackets(account.readings_held)}"
    lines = [
        (
            f"{report.title}: {report.meters:,} meters, seed {report.seed}, {report.broker}{tls}; "
            f"{report.readings_per_second:,} readings and {report.orders_per_second:,} orders a second"
        ),
        *(f"  {each}" for each in report.done),
        (
            f"readings  {account.readings_taken:,} taken, {account.readings_acknowledged:,} acknowledged, "
            f"{account.readings_stored:,} in the books, {held}, "
            f"{account.readings_waiting:,} still with their meters, "
            f"{account.readings_lost_on_air:,} lost on the air, {account.readings_asked_for:,} asked for"
        ),
        (
            f"orders    {sum(account.orders.values()):,}{_in_brackets(account.orders)}; open"
            f"{_in_brackets(account.orders_open) or ' none'}; {account.commands_obeyed:,} commands carried out"
        ),
        *(
            [
                f"signed    {sum(account.instructions.values()):,} instructions{_in_brackets(account.instructions)}"
            ]
            if account.instructions
            else []
        ),
        f"recharges {account.recharges:,}, each once",
        *([f"attacks   {_listed(account.attacks)}"] if account.attacks else []),
        f"refused   {_listed(account.refused_frames) or 'nothing'}; alerts {_listed(account.alerts) or 'none'}",
        (
            f"time      connected after {report.connected_s} s, {_back(report)}drained in {report.drained_s} s; "
            f"processor seconds {cpu}; load {', '.join(map(str, report.load_average))}"
        ),
    ]
    if report.holds:
        return "\n".join([*lines, "Everything is accounted for."])
    more = len(account.broken) - _SHOWN_MAX
    lines += [f"DIFFERS: {each}" for each in account.broken[:_SHOWN_MAX]]
    more_text = f" {more} not shown." if more > 0 else ""
    return "\n".join([*lines, f"{len(account.broken)} differ.{more_text}"])


def _back(report: Report) -> str:
    if not report.reconnected_s:
        return ""
    return (
        f"again after {report.reconnected_s} s of the broker's return "
        f"({report.reconnected_broker_s} s of its processor, {report.reconnected_field_s} s of the meters'), "
    )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


def _in_brackets(counts: dict[str, int]) -> str:
    return f" ({_listed(counts)})" if counts else ""


class _Terminal:
    """Says what is going on, apart from the report: how it stands is one line that is written over, on a terminal."""

    def __init__(self) -> None:
        self._width = 0

    def tell(self, line: str) -> None:
        """Something has happened."""
        if self._width:
            print(file=sys.stderr)
        self._width = 0
        print(line, file=sys.stderr, flush=True)

    def status(self, line: str) -> None:
        """How it stands."""
        if not sys.stderr.isatty():
            print(line, file=sys.stderr, flush=True)
            return
        print(f"\r{line:<{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = len(line)
