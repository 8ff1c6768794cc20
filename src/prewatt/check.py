"""`prewatt check`: every check of the project, each timed, with one closing summary.

The tests run in lanes side by side, since they wait for processes, brokers and browsers as long as they
compute. One process imports and collects them all, and each lane is a fork of it (`tests/lanes.py`): the test
files are a deck, the longest first, from which a lane takes the next when it is free. The last lane begins
after everything that only reads the source. Each has a throw-away PostgreSQL of its own, a copy of one that was
migrated once, because roles belong to a whole server; and a temporary folder, in memory where there is plenty:
tests make tens of thousands of files that nobody keeps. With `CI` set in the environment a skipped test is a
failure: a green run there must mean that everything ran.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import TYPE_CHECKING

from prewatt.runtime.embedded_postgres import throwaway_postgres
from prewatt.runtime.state import CHECKOUT, STATE_DIR_VARIABLE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

PYTHON = (sys.executable, "-P", "-m")
TESTS = "tests"
REPORT = "tests.xml"
LANES = 4
#: What a lane's environment says beside its server, and what the first process of the tests is told.
DSN_VARIABLE = "PREWATT_TEST_DSN"
TEMPLATE_VARIABLE = "PREWATT_TEST_TEMPLATE"
LANES_VARIABLE = "PREWATT_TEST_LANES"

#: Memory as a file system, on Linux, and how much of it has to be free: all lanes fill a quarter of that.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - each lane makes a folder of its own in it
SCRATCH_BYTES = 8 << 30

#: Seconds of each test file when last written down.
SECONDS_FILE = CHECKOUT / TESTS / "seconds.json"
#: A test file that nobody has timed yet counts this much.
UNTIMED_SECONDS = 3.0
#: What a failed run says again in full.
EXPLAINED_FAILURES = 20


@dataclass(frozen=True, slots=True)
class Stage:
    """One check: its name, what it looks at, and the command that fails if something is wrong."""

    name: str
    about: str
    command: Sequence[str]
    needs_database: bool = False


#: Plain assertions in the tests, since to rewrite them all takes longer than the slowest test does; those that
#: failed run once more and are explained.
RUN = ("-q", "--assert=plain", "--showlocals", "--durations=10")
_EXPLAIN = (
    "-q",
    "--last-failed",
    "--last-failed-no-failures=none",
    f"--maxfail={EXPLAINED_FAILURES}",
)

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
    parser.add_argument(
        "--note-seconds",
        action="store_true",
        help=f"write down what each test file took, in tests/{SECONDS_FILE.name}, to begin with the longest",
    )
    parser.add_argument("paths", nargs="*", help="test only these files (with --only tests)")


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen stages; the exit status is 0 only if all of them passed."""
    stages = [stage for stage in STAGES if not arguments.only or stage.name in arguments.only]
    tests = next((stage for stage in stages if stage.name == TESTS), None)
    others = [stage for stage in stages if stage is not tests]
    console = _Console()
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as beside, contextlib.ExitStack() as stack:
        database: Future[dict[str, str]] = Future()
        stack.callback(database.cancel)
        plain = _environment(_folder(stack))
        read = beside.submit(_run_others, others, plain, database, console)
        if tests is not None:
            files = test_files(arguments.paths)
            first, theirs = Pipe()
            tested = beside.submit(_run_tests, tests, files, theirs, plain, console)
            with first, contextlib.suppress(EOFError, BrokenPipeError):
                _open_lanes(stack, first, database, read, min(LANES, len(files)))
        if not database.done() and any(stage.needs_database for stage in others):
            database.set_result(_with_server(stack, _folder(stack)))
        outcomes = read.result()
        if tests is not None:
            outcomes.append(tested.result())
            if arguments.note_seconds:
                _note_seconds(_report(plain))
    return _summarize(outcomes, time.monotonic() - begun, console)


def _open_lanes(
    stack: contextlib.ExitStack,
    first: Connection,
    database: Future[dict[str, str]],
    read: Future[list[Outcome]],
    lanes: int,
) -> None:
    """Tell the first process of the tests of each lane, and of the last one when the other stages are done.

    Those have the last lane's database until then. Here, in the thread of `run`, since a server ends with the
    thread that started it. Raises EOFError or BrokenPipeError if the first process breaks off; it says why.
    """
    seed = _folder(stack)
    with throwaway_postgres(seed, fsync=False, keep=True) as dsn:
        first.send(dsn)
        template = {TEMPLATE_VARIABLE: first.recv()}
    for _ in range(lanes - 1):
        first.send(_with_server(stack, _copy(stack, seed)) | template)
    last = _with_server(stack, _copy(stack, seed)) | template
    database.set_result(last)
    read.result()
    first.send(last)


def _copy(stack: contextlib.ExitStack, seed: Path) -> Path:
    """Return a folder with the same data as `seed`, whose server stands still."""
    state_dir = _folder(stack)
    # As they are, with their owners: PostgreSQL refuses data of somebody else.
    subprocess.run(("cp", "-a", f"{seed}/.", state_dir), check=True)  # noqa: S607 - the system's own
    return state_dir


def _with_server(stack: contextlib.ExitStack, state_dir: Path) -> dict[str, str]:
    """Return an environment with a server of its own, which ends with `stack`."""
    dsn = stack.enter_context(throwaway_postgres(state_dir, fsync=False))
    return _environment(state_dir) | {DSN_VARIABLE: dsn}


def _folder(stack: contextlib.ExitStack) -> Path:
    folder = tempfile.TemporaryDirectory(prefix="prewatt-", dir=_scratch())
    path = Path(stack.enter_context(folder))
    # PostgreSQL runs as another user when the checks run as root, and must get in.
    path.chmod(0o755 if os.geteuid() == 0 else 0o700)
    return path


def _scratch() -> Path | None:
    """The folder for what the lanes write: shared memory where it has room and runs programs.

    None is the system's usual one, as is what `TMPDIR` names.
    """
    if "TMPDIR" in os.environ or not os.access(SHARED_MEMORY, os.W_OK):
        return None
    found = os.statvfs(SHARED_MEMORY)
    if found.f_flag & os.ST_NOEXEC or found.f_bavail * found.f_frsize < SCRATCH_BYTES:
        return None
    return SHARED_MEMORY


def _environment(state_dir: Path) -> dict[str, str]:
    environ = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "prewatt.settings",
        "PREWATT_SECRET_KEY": "only-for-the-checks",
        STATE_DIR_VARIABLE: str(state_dir),
        "TMPDIR": str(state_dir),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    # An operator's own database has no business in a check.
    environ.pop("PREWATT_DSN", None)
    return environ


def _run_others(
    others: Sequence[Stage],
    plain: dict[str, str],
    database: Future[dict[str, str]],
    console: _Console,
) -> list[Outcome]:
    return [
        _run_stage(stage, database.result() if stage.needs_database else plain, console)
        for stage in others
    ]


def test_files(paths: Sequence[str]) -> list[str]:
    """Return what pytest is to collect, the longest first: what is named, or every test file there is."""
    files: list[str] = []
    for path in paths or (TESTS,):
        folder = CHECKOUT / path
        found = sorted(folder.rglob("test_*.py")) if folder.is_dir() else []
        files += [each.relative_to(CHECKOUT).as_posix() for each in found] or [path]
    seconds: dict[str, float] = (
        json.loads(SECONDS_FILE.read_text()) if SECONDS_FILE.exists() else {}
    )
    return sorted(files, key=lambda file: -seconds.get(file, UNTIMED_SECONDS))


def _note_seconds(report: Path) -> None:
    """Write down what each test file took."""
    seconds = file_seconds(report)
    rounded = {name: round(value, 1) for name, value in sorted(seconds.items())}
    SECONDS_FILE.write_text(json.dumps(rounded, indent=1) + "\n")


def file_seconds(report: Path) -> dict[str, float]:
    """Return the seconds that each test file of a JUnit report took, its fixtures included."""
    seconds: dict[str, float] = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it a moment ago
        file = _file_of(case.get("classname", ""))
        seconds[file] = seconds.get(file, 0.0) + float(case.get("time", 0))
    return seconds


def _file_of(classname: str) -> str:
    """Return the test file of a JUnit class name such as `tests.web.test_board.TestBoard`."""
    parts = classname.split(".")
    last = max(
        (n for n, part in enumerate(parts) if part.startswith("test_")), default=len(parts) - 1
    )
    return "/".join(parts[: last + 1]) + ".py"


def _run_stage(stage: Stage, environ: dict[str, str], console: _Console) -> Outcome:
    begun = time.monotonic()
    if stage.needs_database:
        environ = environ | {"PREWATT_DSN": environ[DSN_VARIABLE]}
    done = subprocess.run(
        stage.command,
        cwd=CHECKOUT,
        env=environ,
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
    stage: Stage,
    files: Sequence[str],
    lanes: Connection,
    environ: dict[str, str],
    console: _Console,
) -> Outcome:
    """Run pytest on `files`, which hears of its lanes from `lanes`; what it prints is shown as it comes."""
    begun = time.monotonic()
    report = _report(environ)
    with lanes:
        process = subprocess.Popen(
            [*stage.command, *RUN, f"--junitxml={report}", *files],
            cwd=CHECKOUT,
            env=environ | {LANES_VARIABLE: str(lanes.fileno())},
            stdin=subprocess.DEVNULL,
            pass_fds=[lanes.fileno()],
        )
    status = process.wait()
    skipped = skipped_tests(report) if report.exists() else []
    if skipped and environ.get("CI"):
        console.say("Skipped, which counts as a failure here:\n" + "\n".join(skipped))
        status = status or 1
    seconds = time.monotonic() - begun
    if status != 0:
        console.say("What failed, once more and explained; that changes no verdict:")
        subprocess.run(
            [*stage.command, *_EXPLAIN],
            cwd=CHECKOUT,
            env=environ,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    return Outcome(stage, status, seconds, "")


def _report(environ: dict[str, str]) -> Path:
    return Path(environ[STATE_DIR_VARIABLE]) / REPORT


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
