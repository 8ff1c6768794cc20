"""A handful of what `prewatt drill` does in hundreds, as a command, with real processes that really die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from prewatt import cli


def drill(*arguments: str) -> dict[str, Any]:
    """Run a small drill and return its report; it must say by its status whether all holds."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "prewatt", "drill", *arguments, "--format", "json",
         "--seed", "ci", "--meters", "4", "--live", "1", "--tellers", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={key: value for key, value in os.environ.items() if not key.startswith("PREWATT_")},
    )  # fmt: skip
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if report["holds"] else 1), done.stderr
    return report


@pytest.mark.slow
@pytest.mark.parametrize("name", os.environ.get("PREWATT_DRILLS", "crash").split(","))
def test_what_was_acknowledged_survives(name: str) -> None:
    """`PREWATT_DRILLS=crash,duplicate,reorder,partition,clock` and `PREWATT_DRILL_ROUNDS=20` do more."""
    rounds = os.environ.get("PREWATT_DRILL_ROUNDS", "2")
    report = drill(name, "--rounds", rounds)
    assert report["broken"] == []
    assert report["rounds"] == int(rounds)
    assert report["done"]
    assert report["readings_survived"] == report["readings_acknowledged"] > 0
    assert report["recharges_survived"] == report["recharges_acknowledged"] > 0
    assert report["charged_wh"] > 0


def test_who_may_not_mount_a_disk_is_told_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert cli.main(["drill", "disk-full", "--seed", "1"]) == 2
    assert "needs root" in capsys.readouterr().err


def test_an_unknown_victim_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["drill", "crash", "--kill", "writer,cat"]) == 1
    assert "no victim cat" in capsys.readouterr().err
