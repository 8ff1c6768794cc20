"""`prewatt check` fails when anything fails, and every test file runs in one of its lanes."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from multiprocessing.connection import Pipe
from pathlib import Path

import pytest

import template
from prewatt import check
from prewatt.check_messages import problems_of


@pytest.mark.parametrize(
    ("code", "status", "closing"), [(0, 0, "all checks passed"), (3, 1, "failed: one")]
)
def test_one_failing_stage_fails_the_check(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    code: int,
    status: int,
    closing: str,
) -> None:
    command = (sys.executable, "-c", f"import sys; print('seen'); sys.exit({code})")
    passing = check.Stage("two", "passes", (sys.executable, "-c", ""))
    monkeypatch.setattr(check, "STAGES", (check.Stage("one", "an example", command), passing))
    assert check.run(argparse.Namespace(only=None, paths=[], note_seconds=False)) == status
    said = capfd.readouterr().out
    assert closing in said
    assert ("seen" in said) == (code != 0)


def test_every_test_file_is_collected_once_and_the_longest_comes_first() -> None:
    folder = Path(__file__).parent
    files = check.test_files([])
    assert sorted(files) == sorted(
        f"tests/{path.relative_to(folder)}" for path in folder.rglob("test_*.py")
    )
    seconds = json.loads(check.SECONDS_FILE.read_text())
    assert seconds[files[0]] == max(seconds.values())


def test_files_and_folders_named_by_the_user_are_tested_alone() -> None:
    named = ["tests/test_cli.py", "tests/test_check.py::test_one"]
    assert sorted(check.test_files(named)) == sorted(named)
    assert set(check.test_files(["tests/drills"])) == {
        f"tests/drills/{path.name}" for path in Path(__file__).parent.glob("drills/test_*.py")
    }


#: A conftest of tests that need no database: they are told where they run, and by whom.
CONFTEST = "import lanes\nfrom lanes import pytest_configure\nlanes._make_templates = print\n"


def in_lanes(folder: Path, files: dict[str, str]) -> tuple[int, str, list[str]]:
    """Run test files of a folder in two lanes; the exit status, what was said, and each process that ran one."""
    for name, text in (files | {"conftest.py": CONFTEST, "pytest.ini": "[pytest]\n"}).items():
        (folder / name).write_text(text)
    ours, theirs = Pipe()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *check.RUN, *files],
            cwd=folder,
            env=os.environ
            | {
                check.LANES_VARIABLE: str(theirs.fileno()),
                "PYTHONPATH": str(Path(__file__).parent),
            },
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        ours.send("dsn of the server")
        assert ours.recv() == template.NAME
        for lane in "12":
            ours.send({"LANE": lane, "SEEN": str(folder / f"seen-{lane}")})
    said = process.communicate()[0]
    seen = [path.read_text() for path in sorted(folder.glob("seen-*"))]
    return process.returncode, said, seen


#: Each waits for the other, so that both lanes have to be there at once.
MEET = """
import os, pathlib, time
def test_both_are_there(capfd):
    seen = pathlib.Path(os.environ["SEEN"])
    seen.write_text(f"{os.getpid()} {os.getppid()}")
    until = time.monotonic() + 20
    while len(list(seen.parent.glob("seen-*"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
"""


def test_lanes_are_forks_of_one_process_that_says_what_they_found(tmp_path: Path) -> None:
    fails = "def test_fails():\n    known = 41\n    assert known == 42\n"
    status, said, seen = in_lanes(
        tmp_path, {"test_a.py": MEET, "test_b.py": MEET + fails, "test_c.py": "def test_c(): pass"}
    )
    assert status == 1 and "1 failed, 3 passed" in said and "known      = 41" in said
    (one, parent), (other, same) = (each.split() for each in seen)
    assert one != other and parent == same and parent not in {one, other}


def test_a_lane_that_is_killed_fails_the_tests_though_all_others_pass(tmp_path: Path) -> None:
    killed = "import os\ndef test_ends_its_lane():\n    os.kill(os.getpid(), 9)\n"
    status, said, _ = in_lanes(tmp_path, {"test_a.py": killed, "test_b.py": "def test_b(): pass"})
    assert status == 1 and "1 of 2 tests ended; the lanes ended with" in said and "-9" in said


def test_the_seconds_of_a_file_are_those_of_all_its_tests(tmp_path: Path) -> None:
    report = tmp_path / "tests.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="tests.a.test_b.TestC" name="d" time="1.5"/>'
        '<testcase classname="tests.a.test_b" name="e" time="0.25"/></testsuite></testsuites>'
    )
    assert check.file_seconds(report) == {"tests/a/test_b.py": 1.75}


def test_a_skipped_test_is_named_with_its_reason(tmp_path: Path) -> None:
    report = tmp_path / "tests.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="a.b" name="c"><skipped message="no browser"/>'
        '</testcase><testcase classname="a.b" name="d"/></testsuite></testsuites>'
    )
    assert check.skipped_tests(report) == ["  a.b.c: no browser"]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ('msgid "Paid %(n)s"\nmsgstr "已付 %(n)s"\n', None),
        ('msgid "Paid"\nmsgstr ""\n', "is not translated"),
        ('#, fuzzy\nmsgid "Paid"\nmsgstr "已付"\n', "is not translated"),
        ('msgid "Paid %(n)s"\nmsgstr "已付 %(m)s"\n', "placeholder"),
    ],
)
def test_a_translation_is_there_and_keeps_its_placeholders(
    tmp_path: Path, entry: str, problem: str | None
) -> None:
    catalogue = tmp_path / "django.po"
    header = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
    catalogue.write_text(header + entry, "utf-8")
    problems = problems_of(catalogue)
    assert [problem in line for line in problems] == [True] if problem else problems == []
