"""`prewatt check`: every check of the project, each timed, with one closing summary.

Three lanes run side by side, since tests wait for processes, brokers and browsers as long as they
compute. The last of them begins with everything that only reads the source. The test files are dealt out by
the seconds they took when somebody last wrote them down (`--note-seconds`), so that the lanes end together;
what the first lane tests is shown as it comes, the others' at their end. Each lane has a throw-away PostgreSQL of its
own, a copy of one that was migrated once, because roles belong to a whole server; and a temporary folder, in memory
where there is plenty: tests make tens of thousands of files that nobody keeps. With `CI` set in the environment a skipped test is a failure:
a green run there must mean that everything ran.
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
REPORT = "tests.xml"
LANES = 3
#: A test file that imports most of the program.
SAMPLE = "tests/web/test_pages.py"
#: What makes the database that all tests' are copied from, and its name.
TEMPLATE = CHECKOUT / TESTS / "template.py"
TEMPLATE_NAME = "template_of_tests"

#: Memory as a file system, on Linux, and how much of it has to be free: all lanes fill a quarter of that.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - each lane makes a folder of its own in it
SCRATCH_BYTES = 8 << 30

#: Seconds of each test file, and of the stages before the last lane's tests, when last written down.
SECONDS_FILE = CHECKOUT / TESTS / "seconds.json"
OTHER_STAGES = "other stages"
#: A test file that nobody has timed yet counts this much.
UNTIMED_SECONDS = 3.0


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
    parser.add_argument(
        "--note-seconds",
        action="store_true",
        help=f"write down what each test file took, in tests/{SECONDS_FILE.name}, to deal them out by",
    )
    parser.add_argument("paths", nargs="*", help="test only these files (with --only tests)")


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen stages; the exit status is 0 only if all of them passed."""
    stages = [stage for stage in STAGES if not arguments.only or stage.name in arguments.only]
    console = _Console()
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        lanes = _prepare_lanes(stack, stages)
        outcomes = _run_lanes(stages, arguments.paths, lanes, console)
        if arguments.note_seconds:
            _note_seconds(outcomes, lanes)
    return _summarize(outcomes, time.monotonic() - begun, console)


def _prepare_lanes(stack: contextlib.ExitStack, stages: Sequence[Stage]) -> list[dict[str, str]]:
    """Return the lanes' environments. Beside that, what all of them import is compiled once: lanes that
    found nothing compiled would each compile it for themselves.
    """
    with ThreadPoolExecutor(1) as beside:
        compiled = beside.submit(_compile_imports, stages)
        # From this thread, since a server ends with the one that started it.
        seed = _seed(stack, stages)
        lanes = [_lane_environment(stack, stages, seed) for _ in range(LANES)]
        compiled.result()
    return lanes


def _compile_imports(stages: Sequence[Stage]) -> None:
    """Import what most tests import, for its bytecode alone; whatever is wrong with it the tests will say."""
    if all(stage.name != TESTS for stage in stages):
        return
    with tempfile.TemporaryDirectory(prefix="prewatt-") as folder:
        _run_quietly((*PYTHON, "pytest", "-q", "--collect-only", SAMPLE), Path(folder))


def _seed(stack: contextlib.ExitStack, stages: Sequence[Stage]) -> Path | None:
    """Return the folder of a server that stands still and holds the migrated template: what lanes begin with.

    None if no lane asks for one. Where migrations fail it has no template, and the tests say why.
    """
    if all(stage.name != TESTS for stage in stages):
        return None
    folder = _folder(stack)
    with throwaway_postgres(folder, fsync=False, keep=True) as dsn:
        done = _run_quietly((sys.executable, str(TEMPLATE)), folder, dsn)
    return folder if done == 0 else None


def _lane_environment(
    stack: contextlib.ExitStack, stages: Sequence[Stage], seed: Path | None
) -> dict[str, str]:
    """Return a lane's environment, with a server of its own that ends with `stack`."""
    state_dir = _folder(stack)
    if not any(stage.needs_database for stage in stages):
        return _environment(None, state_dir)
    if seed is not None:
        # As it is, with the owners of its files: PostgreSQL refuses data of somebody else.
        subprocess.run(("cp", "-a", f"{seed}/.", state_dir), check=True)  # noqa: S607 - the system's own
    environ = _environment(
        stack.enter_context(throwaway_postgres(state_dir, fsync=False)), state_dir
    )
    return environ | ({} if seed is None else {"PREWATT_TEST_TEMPLATE": TEMPLATE_NAME})


def _folder(stack: contextlib.ExitStack) -> Path:
    folder = tempfile.TemporaryDirectory(prefix="prewatt-", dir=_scratch())
    path = Path(stack.enter_context(folder))
    # PostgreSQL runs as another user when the checks run as root, and must get in.
    path.chmod(0o755 if os.geteuid() == 0 else 0o700)
    return path


def _run_quietly(command: Sequence[str], state_dir: Path, dsn: str | None = None) -> int:
    """Run a command of which only the exit status counts."""
    return subprocess.run(
        command,
        cwd=CHECKOUT,
        env=_environment(dsn, state_dir),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    ).returncode


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


def _environment(dsn: str | None, state_dir: Path) -> dict[str, str]:
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
    if dsn is not None:
        environ["PREWATT_TEST_DSN"] = dsn
    return environ


def _run_lanes(
    stages: Sequence[Stage],
    paths: Sequence[str],
    lanes: Sequence[Mapping[str, str]],
    console: _Console,
) -> list[Outcome]:
    """Run the first part of the tests and, beside it, the other stages and the other parts."""
    tests = next((stage for stage in stages if stage.name == TESTS), None)
    parts = deal_out(paths, len(lanes))

    def run_part(number: int, *, show: bool = False) -> list[Outcome]:
        if tests is None or not parts[number]:
            return []
        return [_run_tests(tests, parts[number], lanes[number], console, show=show)]

    def run_others() -> list[Outcome]:
        others = [stage for stage in stages if stage.name != TESTS]
        return [_run_stage(stage, lanes[-1], console) for stage in others] + run_part(LANES - 1)

    with ThreadPoolExecutor(LANES - 1) as beside:
        other_lanes = [beside.submit(run_others)]
        other_lanes += [beside.submit(run_part, number) for number in range(1, LANES - 1)]
        first = run_part(0, show=True)
        return [outcome for lane in other_lanes for outcome in lane.result()] + first


def deal_out(paths: Sequence[str], lanes: int) -> list[list[str]]:
    """Return each lane's test files: those named all in the first, or all there are by their seconds."""
    if paths:
        return [list(paths), *([] for _ in range(lanes - 1))]
    seconds: dict[str, float] = (
        json.loads(SECONDS_FILE.read_text()) if SECONDS_FILE.exists() else {}
    )
    files = [
        path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / TESTS).rglob("test_*.py")
    ]
    begins_at = [0.0] * (lanes - 1) + [seconds.get(OTHER_STAGES, 0.0)]
    return split_tests({file: seconds.get(file, UNTIMED_SECONDS) for file in files}, begins_at)


def split_tests(seconds: Mapping[str, float], begins_at: Sequence[float]) -> list[list[str]]:
    """Deal test files out to lanes that are free from `begins_at` on: the longest first, each to the lane free soonest.

    (The rule of Graham, "Bounds on multiprocessing timing anomalies", 1969.)
    Within a lane they run in the order of their names, so that files which share a fixture stay together.
    """
    lanes: list[list[str]] = [[] for _ in begins_at]
    free_at = list(begins_at)
    for file in sorted(seconds, key=lambda file: (-seconds[file], file)):
        lane = free_at.index(min(free_at))
        lanes[lane].append(file)
        free_at[lane] += seconds[file]
    return [sorted(lane) for lane in lanes]


def _note_seconds(outcomes: Sequence[Outcome], lanes: Sequence[Mapping[str, str]]) -> None:
    """Write down what each test file took, and the stages that the last lane runs before its tests."""
    seconds: dict[str, float] = {}
    for environ in lanes:
        if (report := Path(environ[STATE_DIR_VARIABLE]) / REPORT).exists():
            seconds |= file_seconds(report)
    seconds[OTHER_STAGES] = sum(o.seconds for o in outcomes if o.stage.name != TESTS)
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
    stage: Stage,
    paths: Sequence[str],
    environ: Mapping[str, str],
    console: _Console,
    *,
    show: bool,
) -> Outcome:
    """Run pytest on `paths`; `show` lets its output through as it comes, else it is shown at the end."""
    begun = time.monotonic()
    report = Path(environ[STATE_DIR_VARIABLE]) / REPORT
    done = subprocess.run(
        [*stage.command, "-q", "--durations=10", f"--junitxml={report}", *paths],
        cwd=CHECKOUT,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=None if show else subprocess.PIPE,
        stderr=None if show else subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.stdout:
        console.say(done.stdout.rstrip())
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
