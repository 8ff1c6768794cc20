"""`prewatt check` fails when anything fails, and every test file is in one of its lanes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

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


def test_the_lanes_hold_every_test_file_once() -> None:
    folder = Path(__file__).parent
    parts = check.deal_out([], check.LANES)
    assert len(parts) == check.LANES
    dealt = sorted(path for part in parts for path in part)
    assert dealt == sorted(
        f"tests/{path.relative_to(folder)}" for path in folder.rglob("test_*.py")
    )


def test_files_named_by_the_user_are_tested_alone() -> None:
    assert check.deal_out(["tests/test_cli.py"], 3) == [["tests/test_cli.py"], [], []]


def test_lanes_end_together_though_one_begins_later() -> None:
    seconds = {"a": 50.0, "b": 40.0, "c": 30.0, "d": 20.0, "e": 10.0, "f": 10.0}
    parts = check.split_tests(seconds, [0.0, 0.0, 20.0])
    assert [sum(seconds[file] for file in part) for part in parts] == [60.0, 60.0, 40.0]


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
