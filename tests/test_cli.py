"""`prewatt` finds its commands, and an expected refusal is one line and not a traceback."""

from __future__ import annotations

import argparse
import importlib
import sys
from types import ModuleType

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from prewatt import cli
from prewatt.runtime.state import CannotRunError


def test_every_command_can_be_asked_for_help() -> None:
    for command in cli.COMMANDS:
        module = importlib.import_module(command.module)
        module.add_arguments(argparse.ArgumentParser())
        assert callable(module.run)


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dmeo"]) == 2
    assert "no command 'dmeo'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        (CannotRunError("the port is taken"), 1, "prewatt: the port is taken\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_expected_endings_are_short(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ending: BaseException,
    status: int,
    said: str,
) -> None:
    module = ModuleType("command_for_this_test")

    def run(_arguments: argparse.Namespace) -> int:
        raise ending

    module.add_arguments = lambda _parser: None  # type: ignore[attr-defined]  # a module made here
    module.run = run  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "command_for_this_test", module)
    monkeypatch.setattr(cli, "COMMANDS", (cli.Command("tried", "command_for_this_test", "fails"),))
    monkeypatch.setattr(cli, "available_commands", lambda: list(cli.COMMANDS))
    assert cli.main(["tried"]) == status
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("change", [{"port": "1"}, {"password": "guess"}, {"dbname": "nowhere"}])
def test_a_database_that_lets_nobody_in_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    postgres_dsn: str,
    change: dict[str, str],
) -> None:
    monkeypatch.setenv("PREWATT_DSN", make_conninfo(postgres_dsn, **change))
    assert cli.main(["scale", "sizes"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("prewatt: the database cannot be reached: ")
    assert said.count("\n") == 1


def test_an_error_of_our_own_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, postgres_dsn: str
) -> None:
    monkeypatch.setenv("PREWATT_DSN", postgres_dsn)

    def wrong(cursor: psycopg.Cursor) -> None:
        cursor.execute("SELECT 1 / 0")

    monkeypatch.setattr("prewatt.scale_command.sizes_of", wrong)
    with pytest.raises(psycopg.errors.DivisionByZero):
        cli.main(["scale", "sizes"])
