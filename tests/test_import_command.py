"""`prewatt import`: a property whole or nothing, and every bad row named in one go."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from openpyxl import Workbook
from tests.conftest import role_dsn
from tests.estate.tables import NOW, csv_text, tables, write_folder
from tests.estate.test_property_import import EVERYTHING
from tests.invariants.places import signed_in
from tests.moves.world import rows

from prewatt import cli, wiring

SAMPLE = Path(__file__).resolve().parents[1] / "docs" / "sample"

Import = Callable[..., int]


@pytest.fixture
def prewatt_import(database: str, monkeypatch: pytest.MonkeyPatch) -> Import:
    """The command as `prewatt import` runs it, in this process and on the test's database."""
    monkeypatch.setenv("PREWATT_DSN", database)
    monkeypatch.setattr(wiring, "now", lambda: NOW)
    return lambda *arguments: cli.main(["import", *map(str, arguments)])


def filled() -> list[str]:
    """The tables in which an import has left anything."""
    return [table for table in EVERYTHING if rows(f"SELECT count(*) FROM {table}") != [(0,)]]


def test_the_sample_becomes_a_running_property_once(database: str) -> None:
    command = [sys.executable, "-P", "-m", "prewatt", "import"]
    environ = os.environ | {"PREWATT_DSN": database, "PREWATT_SECRET_KEY": "of no value"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], env=environ, capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip

    checked = run("--check", str(SAMPLE))
    assert (checked.returncode, checked.stderr, filled()) == (0, "", [])
    assert checked.stdout.startswith("Nothing is wrong")
    done = run(*(str(each) for each in sorted(SAMPLE.glob("*.csv"))))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == checked.stdout.splitlines()[1:]
    assert "       4  units" in done.stdout and "ELM0000" in done.stdout
    assert rows(
        """SELECT a.number, s.available, u.emergency_micro, u.protection
           FROM account a JOIN account_state s ON s.account_id = a.id
           LEFT JOIN supply_state u ON u.account_id = a.id ORDER BY 1"""
    ) == [
        ("1001", 120_000_000, 20_000_000, ""),
        ("1002", 35_500_000, 5_000_000, "medical"),
        ("LIFT", 200_000_000, 0, "lift"),
        ("V-E-102", 0, None, None),
    ]
    before = {table: rows(f"SELECT count(*) FROM {table}") for table in EVERYTHING}
    again = run(str(SAMPLE))
    assert (again.returncode, again.stdout) == (2, "")
    told = again.stderr.splitlines()
    assert told[0].startswith("property, row 2, column code: ")
    assert [each.split(":")[0] for each in told[1:-1]] == [
        f"meters, row {number}, column serial" for number in range(2, 7)
    ]
    assert told[-1] == "prewatt: nothing was imported, 6 errors"
    assert {table: rows(f"SELECT count(*) FROM {table}") for table in EVERYTHING} == before


@pytest.mark.parametrize("check", [(), ("--check",)])
def test_every_bad_row_is_named_with_its_place_and_nothing_is_imported(
    prewatt_import: Import, tmp_path: Path, capsys: pytest.CaptureFixture[str], check: tuple[str]
) -> None:
    made = tables()
    made["units"][0]["kind"] = "castle"
    made["meters"][2]["opening_wh"] = ""
    made["accounts"][0] |= {"opening_balance": "2,550", "emergency_credit": "-5"}
    made["tariffs"][0]["approved_by"] = "system:import"
    assert prewatt_import(*check, write_folder(tmp_path, made)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "tariffs, row 2, column approved_by: The importer cannot approve the tariff. Name the person who approved it.",
        "units, row 2, column kind: 'castle' is not known here. Use one of: booth, flat, office, plant, shop.",
        "meters, row 4, column opening_wh: The cell is empty. Fill it in.",
        "accounts, row 2, column opening_balance: '2,550' is not an amount here. Write it without a mark at the thousands.",
        "accounts, row 2, column emergency_credit: '-5' is not an amount here. It must not be less than zero.",
        "prewatt: nothing was imported, 5 errors",
    ]
    assert filled() == []


def test_a_workbook_is_taken_as_well(prewatt_import: Import, tmp_path: Path) -> None:
    workbook = Workbook()
    workbook.remove(workbook.active)
    for name, table in tables().items():
        sheet = workbook.create_sheet(name)
        columns = list(dict.fromkeys(column for row in table for column in row))
        sheet.append(columns)
        for row in table:
            sheet.append([row.get(column) for column in columns])
    workbook.save(tmp_path / "linden.xlsx")
    assert prewatt_import("--check", tmp_path / "linden.xlsx") == 0
    assert filled() == []
    assert prewatt_import(tmp_path / "linden.xlsx") == 0
    assert rows("SELECT code FROM property") == [("linden",)]


def test_files_that_cannot_be_meant_are_refused(
    prewatt_import: Import, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path, tables())
    other = tmp_path / "other"
    other.mkdir()
    (other / "Units.CSV").write_text("building,code,kind\nA,103,flat\n")
    (other / "notes.txt").write_text("call the electrician")
    (other / "colours.csv").write_text("colour\nred\n")
    files = sorted(folder.glob("*.csv"))
    for given, first in (
        ([*files, other / "Units.CSV"], "Units.CSV: There is another table of that name."),
        ([*files, other / "colours.csv"], "colours.csv: There is no table of that name."),
        ([*files, other / "notes.txt"], "file: 'notes.txt' is not a CSV file."),
        ([folder, *files], f"file: {folder.name!r} is not a CSV file."),
        ([other / "notes.txt"], "file: 'notes.txt' is neither a zip of CSV files nor XLSX."),
        ([tmp_path / "gone.xlsx"], f"prewatt: cannot read {tmp_path}/gone.xlsx: No such file"),
        ([*files, tmp_path / "gone.csv"], f"prewatt: cannot read {tmp_path}/gone.csv: No such"),
        ([other], "colours.csv: There is no table of that name."),
    ):
        assert prewatt_import(*given) == 2, first
        said = capsys.readouterr()
        assert first in said.err and said.out == "", said
    assert filled() == []


def test_what_a_file_says_does_not_steer_the_terminal(
    prewatt_import: Import, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\n\u202e"
    made = tables()
    made["units"][0]["kind"] = evil
    made["buildings"] = [{"code": "A", "name": "A", evil: "x"}]
    (tmp_path / "units.csv").write_text(csv_text(made["units"]))
    (tmp_path / "buildings.csv").write_text(csv_text(made["buildings"]))
    assert prewatt_import(tmp_path) == 2
    said = capsys.readouterr().err
    assert "no such column" in said and "castle" not in said
    assert all(each.isprintable() for each in said.splitlines())


def test_a_thousand_errors_are_listed_and_the_rest_is_counted(
    prewatt_import: Import, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tables()
    made["buildings"] += [{"code": f"X{n}", "name": ""} for n in range(1_200)]
    assert prewatt_import(write_folder(tmp_path, made)) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1_001
    assert told[-1] == "prewatt: nothing was imported, 1200 errors, 200 of them not listed"


@pytest.mark.parametrize("check", [(), ("--check",)])
def test_what_only_the_commit_would_refuse_is_refused_by_the_check_too(
    prewatt_import: Import,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    check: tuple[str],
) -> None:
    """Foreign keys are checked at the commit, which a check never reaches."""

    def orphan(**_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO building (property_id, code, name, position) VALUES (999, 'Z', 'Z', 0)"
            )

    monkeypatch.setattr("prewatt.moves.onboarding.link_meters", orphan)
    assert prewatt_import(*check, SAMPLE) == 1
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert said.err.startswith("prewatt: the database refused, nothing was imported: ")
    assert filled() == []


def test_no_other_login_than_the_owners_may_add_a_property(
    prewatt_import: Import, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for login in ("clerk", "head_end", "web", "keeper"):
        with signed_in(role_dsn(database, login), database):
            assert prewatt_import(SAMPLE) == 1
        said = capsys.readouterr().err
        assert "permission denied" in said and len(said.splitlines()) == 1
    assert filled() == []
