"""`prewatt check`: every check of the project, each timed, with one closing summary.

Two lanes run side by side, as most machines have two cores to spare: the tests, whose output is
shown as it comes, and everything that only reads the source, shown when it failed. The tests get
a throw-away PostgreSQL of their own. With `CI` set in the environment a skipped test is a failure:
a green run there must mean that everything ran.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prewatt.runtime.embedded_postgres import throwaway_postgres
from prewatt.runtime.state import CHECKOUT, STATE_DIR_VARIABLE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

PYTHON = (sys.executable, "-P", "-m")
TESTS = "tests"


@dataclass(frozen=True, slots=True)
class Stage:
    """One check: its name, what it looks at, and the command that fails if something is wrong."""

    name: str
    about: str
    command: Sequence[str]
    needs_database: bool = False


STAGES = (
    Stage("format", "layout of the source", (*PYTHON, "ruff", "format", "--check", "--quiet")),
    Stage("lint", "common mistakes", (*PYTHON, "ruff", "check", "--quiet")),
    Stage("imports", "packages import only what stands below them", ("lint-imports",)),
    Stage("types", "types, strictly", (*PYTHON, "mypy")),
    Stage(
        "migrations",
        "models and migrations agree",
        (*PYTHON, "django", "makemigrations", "--check", "--dry-run"),
        needs_database=True,
    ),
    Stage("messages", "translations are complete", (*PYTHON, "prewatt.check_messages")),
    Stage(TESTS, "the tests", (*PYTHON, "pytest"), needs_database=True),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a stage ended: exit status, seconds, and what it printed (empty for the tests)."""

    stage: Stage
    status: int
    seconds: float
    output: str


@dataclass(slots=True)
class _Console:
    """Prints whole blocks, so that two lanes do not write into each other's lines."""

    lock: threading.Lock = field(default_factory=threading.Lock)

    def say(self, text: str) -> None:
        with self.lock:
            print(text, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `prewatt check`."""
    parser.add_argument(
        "--only",
        action="append",
        choices=[stage.name for stage in STAGES],
        metavar="STAGE",
        help=f"run this stage alone; may be repeated ({', '.join(s.name for s in STAGES)})",
    )
    parser.add_argument("paths", nargs="*", help="test only these files (with --only tests)")


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen stages; the exit status is 0 only if all of them passed."""
    stages = [stage for stage in STAGES if not arguments.only or stage.name in arguments.only]
    console = _Console()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="prewatt-") as folder:
        state_dir = Path(folder)
        # PostgreSQL runs as another user when the checks run as root, and must get in.
        state_dir.chmod(0o755 if os.geteuid() == 0 else 0o700)
        if any(stage.needs_database for stage in stages):
            with throwaway_postgres(state_dir, fsync=False) as dsn:
                environ = _environment(dsn, state_dir)
                outcomes = _run_lanes(stages, arguments.paths, environ, state_dir, console)
        else:
            environ = _environment(None, state_dir)
            outcomes = _run_lanes(stages, arguments.paths, environ, state_dir, console)
    return _summarize(outcomes, time.monotonic() - begun, console)


def _environment(dsn: str | None, state_dir: Path) -> dict[str, str]:
    environ = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "prewatt.settings",
        "PREWATT_SECRET_KEY": "only-for-the-checks",
        STATE_DIR_VARIABLE: str(state_dir),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    # An operator's own database has no business in a check.
    environ.pop("PREWATT_DSN", None)
    if dsn is not None:
        environ["PREWATT_TEST_DSN"] = dsn
    return environ


def _run_lanes(
    stages: Sequence[Stage],
    paths: Sequence[str],
    environ: Mapping[str, str],
    folder: Path,
    console: _Console,
) -> list[Outcome]:
    """Run the tests and, beside them, the other stages one after another."""

    def run_others() -> list[Outcome]:
        return [_run_stage(stage, environ, console) for stage in stages if stage.name != TESTS]

    with ThreadPoolExecutor(1) as lane:
        others = lane.submit(run_others)
        tests = [
            _run_tests(stage, paths, environ, folder, console)
            for stage in stages
            if stage.name == TESTS
        ]
        return others.result() + tests


def _run_stage(stage: Stage, environ: Mapping[str, str], console: _Console) -> Outcome:
    begun = time.monotonic()
    if stage.needs_database:
        environ = {**environ, "PREWATT_DSN": environ["PREWATT_TEST_DSN"]}
    done = subprocess.run(
        stage.command,
        cwd=CHECKOUT,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - begun
    console.say(f"{_verdict(done.returncode)}  {stage.name}: {stage.about} ({seconds:.1f} s)")
    if done.returncode != 0:
        console.say(done.stdout.rstrip())
    return Outcome(stage, done.returncode, seconds, done.stdout)


def _run_tests(
    stage: Stage, paths: Sequence[str], environ: Mapping[str, str], folder: Path, console: _Console
) -> Outcome:
    begun = time.monotonic()
    report = folder / "tests.xml"
    done = subprocess.run(
        [*stage.command, "-q", "--durations=10", f"--junitxml={report}", *paths],
        cwd=CHECKOUT,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        check=False,
    )
    status = done.returncode
    skipped = skipped_tests(report) if report.exists() else []
    if skipped and environ.get("CI"):
        console.say("Skipped, which counts as a failure here:\n" + "\n".join(skipped))
        status = status or 1
    return Outcome(stage, status, time.monotonic() - begun, "")


def skipped_tests(report: Path) -> list[str]:
    """Return a line for each skipped test of a JUnit report: its name and the reason given."""
    return [
        f"  {case.get('classname')}.{case.get('name')}: {skip.get('message')}"
        for case in ET.parse(report).iter("testcase")  # noqa: S314 - pytest wrote it a moment ago
        for skip in case.iter("skipped")
    ]


def _verdict(status: int) -> str:
    return "ok  " if status == 0 else "FAIL"


def _summarize(outcomes: Sequence[Outcome], seconds: float, console: _Console) -> int:
    rows = [
        f"  {_verdict(outcome.status)}  {outcome.stage.name:<11} {outcome.seconds:7.1f} s"
        for outcome in outcomes
    ]
    failed = [outcome.stage.name for outcome in outcomes if outcome.status != 0]
    closing = f"failed: {', '.join(failed)}" if failed else "all checks passed"
    console.say("\n".join(["", *rows, f"{closing}, in {seconds:.0f} s"]))
    return 1 if failed else 0
