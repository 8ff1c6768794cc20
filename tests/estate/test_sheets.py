"""Reading tables: every form gives the same text, and nothing hostile is unpacked or evaluated."""

from __future__ import annotations

import io
import zipfile
from datetime import datetime
from pathlib import Path

import pytest
from openpyxl import Workbook
from tests.estate.tables import csv_text, tables, write_folder

from prewatt.estate import sheets as module
from prewatt.estate.sheets import (
    ImportRefused,
    PropertySheets,
    read_files,
    read_sheets,
    read_upload,
)


def _plain(sheets: PropertySheets) -> dict[str, list[dict[str, str]]]:
    return {
        name: [{c: v for c, v in row.cells.items() if v} for row in rows]
        for name, rows in sheets.sheets.items()
    }


def _zip(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def _xlsx(made: dict[str, list[dict[str, object]]]) -> bytes:
    workbook = Workbook()
    workbook.remove(workbook.active)
    for name, rows in made.items():
        sheet = workbook.create_sheet(name)
        columns = list(dict.fromkeys(column for row in rows for column in row))
        sheet.append(columns)
        for row in rows:
            sheet.append([row.get(column) for column in columns])
    out = io.BytesIO()
    workbook.save(out)
    return out.getvalue()


def test_folder_zip_and_workbook_say_the_same(tmp_path: Path) -> None:
    made = tables()
    folder = read_sheets(write_folder(tmp_path, made))
    zipped = read_upload(
        "p.zip", _zip({f"{name}.csv": csv_text(rows).encode() for name, rows in made.items()})
    )
    workbook = read_upload("p.xlsx", _xlsx(made))
    assert _plain(folder) == _plain(zipped) == _plain(workbook) == _plain(PropertySheets.of(made))


def test_a_workbook_cell_keeps_whole_numbers_dates_and_decimals() -> None:
    rows: dict[str, list[dict[str, object]]] = {
        "accounts": [{"number": 1001.0, "opening_balance": 25.5, "customer": True}],
        "tenancies": [{"begins_at": datetime.fromisoformat("2026-08-19T14:30")}],
    }
    read = _plain(read_upload("p.xlsx", _xlsx(rows)))
    assert read["accounts"] == [{"number": "1001", "opening_balance": "25.5", "customer": "yes"}]
    assert read["tenancies"] == [{"begins_at": "2026-08-19T14:30:00"}]


@pytest.mark.parametrize("value", ["=1+1", "=cmd|' /C calc'!A0", "@SUM(A1)"])
def test_a_formula_is_refused_with_its_place(value: str) -> None:
    made = tables()
    made["units"][1]["code"] = value
    for name, content in (
        ("p.xlsx", _xlsx(made)),
        ("p.zip", _zip({"units.csv": csv_text(made["units"]).encode()})),
    ):
        with pytest.raises(ImportRefused) as refused:
            read_upload(name, content)
        (error,) = refused.value.errors
        assert (error.sheet, error.row, error.column) == ("units", 3, "code")
        assert error.code == "cell.formula"


def test_an_archive_that_grows_is_refused_before_it_is_unpacked() -> None:
    bomb = _zip({"units.csv": b"0" * (module.MAX_BYTES + 1)})
    assert len(bomb) < 100_000
    for name in ("p.zip", "p.xlsx"):
        with pytest.raises(ImportRefused, match="unpacks to more"):
            read_upload(name, bomb)


def test_an_archive_that_lies_about_its_sizes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = _zip({"units.csv": b"0" * 5_000})
    lying = content.replace((5_000).to_bytes(4, "little"), (5).to_bytes(4, "little"))
    assert lying != content
    monkeypatch.setattr(module, "MAX_BYTES", 4_000)
    with pytest.raises(ImportRefused):
        read_upload("p.zip", lying)


def test_entities_in_a_workbook_are_refused() -> None:
    evil = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "a">]><x>&a;</x>'
    with pytest.raises(ImportRefused, match="XML entities"):
        read_upload("p.xlsx", _zip({"xl/workbook.xml": evil}))


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("p.pdf", b"%PDF", "file.unknown_kind"),
        ("p.zip", b"not a zip", "file.unreadable"),
        ("p.xlsx", b"PK\x03\x04broken", "file.unreadable"),
        ("p.zip", _zip({"people.csv": b"a\n1\n"}), "sheet.unknown"),
        ("p.zip", _zip({"units.csv": b"caf\xe9\n1\n"}), "file.not_utf8"),
        ("p.zip", _zip({"units.csv": b"code,code\n1,2\n"}), "sheet.header"),
        ("p.zip", _zip({"units.csv": b"code,kind\n1,flat,surplus\n"}), "row.too_long"),
        ("p.zip", _zip({"units.csv": b'code,kind\n"1,flat\n'}), "file.unreadable"),
    ],
)
def test_unreadable_files_say_why(name: str, content: bytes, code: str) -> None:
    with pytest.raises(ImportRefused) as refused:
        read_upload(name, content)
    assert [each.code for each in refused.value.errors] == [code]


def test_a_workbook_damaged_anywhere_is_refused_with_a_line_or_read() -> None:
    """Bytes turned over all through the file: in the directory, the compressed data, the XML."""
    whole = _xlsx({"units": [{"code": f"U-{each}", "kind": "flat"} for each in range(40)]})
    refused: list[ImportRefused] = []
    for at in range(0, len(whole), max(1, len(whole) // 150)):
        torn = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        for content in (torn, whole[:at]):
            try:
                read_upload("p.xlsx", content)
            except ImportRefused as error:
                refused.append(error)
    assert len(refused) > 200
    assert all(each.problem for error in refused for each in error.errors)


def test_data_that_does_not_unpack_is_refused() -> None:
    """What a valid directory points to and zlib itself gives up on."""
    good = _zip({"units.csv": b"code,kind\n" + b"A-1,flat\n" * 200})
    start = good.index(b"units.csv") + len("units.csv")
    torn = good[:start] + b"\xff" * 8 + good[start + 8 :]
    with pytest.raises(ImportRefused, match="cannot be read"):
        read_upload("p.zip", torn)


def test_too_many_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 3)
    with pytest.raises(ImportRefused, match="More than 3 rows"):
        read_upload("p.zip", _zip({"units.csv": b"code\n1\n2\n3\n4\n"}))


def test_blank_rows_are_skipped_and_the_rest_keeps_its_numbers() -> None:
    read = read_upload("p.zip", _zip({"units.csv": b"code,kind\n1,flat\n,\n\n2,shop\n"}))
    assert [(row.number, row.cells["code"]) for row in read.rows("units")] == [(2, "1"), (5, "2")]


def test_one_table_in_two_files_or_sheets_is_refused_and_neither_is_forgotten(
    tmp_path: Path,
) -> None:
    twice = _zip({"a/units.csv": b"code\n1\n", "b/Units.CSV": b"code\n2\n"})
    workbook = _xlsx({"units": [{"code": 1}], " Units ": [{"code": 2}]})
    for name, content in (("p.zip", twice), ("p.xlsx", workbook)):
        with pytest.raises(ImportRefused) as refused:
            read_upload(name, content)
        assert [each.code for each in refused.value.errors] == ["sheet.repeated"]


def test_a_folder_is_read_whatever_the_case_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "UNITS.CSV").write_text("code\n1\n")
    (tmp_path / "readme.txt").write_text("not a table")
    assert _plain(read_sheets(tmp_path)) == {"units": [{"code": "1"}]}


def test_files_named_one_by_one_are_the_folder_they_lie_in(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, tables())
    files = sorted(folder.iterdir(), reverse=True)
    assert _plain(read_files(files)) == _plain(read_files([folder])) == _plain(read_sheets(folder))
    assert read_files([]).sheets == {}


def test_files_are_read_no_further_than_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their sizes claim: a device has none and no end."""
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    (tmp_path / "units.csv").write_bytes(b"code\n1\n")
    (tmp_path / "meters.csv").write_bytes(b"code\n1\n")
    (tmp_path / "p.zip").symlink_to("/dev/zero")
    (tmp_path / "tariffs.csv").symlink_to("/dev/zero")
    for files in (["units.csv", "meters.csv"], ["p.zip"], ["tariffs.csv"]):
        with pytest.raises(ImportRefused) as refused:
            read_files([tmp_path / each for each in files])
        assert [each.code for each in refused.value.errors] == ["file.too_large"]
