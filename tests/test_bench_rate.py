"""`prewatt bench rate`: it measures the engine's own path and says what it found."""

from __future__ import annotations

import json

import pytest

from prewatt.cli import main


def test_the_figures_are_those_that_scripts_read(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--accounts", "6", "--days", "15", "--rounds", "2", "--format", "json"]
    assert main(["bench", "rate", *arguments]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["accounts"], figures["batch_intervals"], figures["rounds"]) == (6, 576, 2)
    rates = ("intervals_per_second", "ceiling_per_second", "with_extras_per_second")
    assert all(figures[each] > 0 for each in rates)
    assert figures["ratio"] == pytest.approx(
        figures["intervals_per_second"] / figures["ceiling_per_second"], abs=0.001
    )
    assert 0 < figures["p50"] <= figures["p99"]
