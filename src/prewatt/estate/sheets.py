"""Reads the tables of a property from CSV files or a workbook, and trusts none of them.

The outcome is text by sheet, row and column; meaning is decided in ``imports``. Nothing here is
evaluated: a formula is refused, because what it shows depends on who opens it. Sizes are limited
before anything is unpacked, and again while it is.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path, PurePosixPath
from typing import Final

from openpyxl import load_workbook
from openpyxl.worksheet.formula import ArrayFormula, DataTableFormula

from prewatt.estate.worded import Worded, worded

SHEETS: Final = (
    "property",
    "tariffs",
    "buildings",
    "units",
    "metering_points",
    "meters",
    "customers",
    "accounts",
    "tenancies",
)
"""The tables, in the order in which a person reads them; a CSV file is named after its table."""

MAX_BYTES: Final = 32 * 1024 * 1024
"""All tables together, unpacked."""
MAX_MEMBERS: Final = 200
MAX_ROWS: Final = 50_000
MAX_COLUMNS: Final = 40
MAX_CELL: Final = 20_000
MAX_ERRORS: Final = 1_000
"""More are counted, not listed: a file in the wrong shape would otherwise fill the page."""

_FORMULA_START = ("=", "@")


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong in one place and what to do. ``row`` counts like a spreadsheet: the header is 1.

    ``row`` is 0 and ``column`` empty where a whole sheet or file is meant. ``code`` is stable.
    """

    sheet: str
    row: int
    column: str
    code: str
    problem: Worded
    remedy: Worded

    def __str__(self) -> str:
        where = self.sheet
        where += f", row {self.row}" if self.row else ""
        where += f", column {self.column}" if self.column else ""
        return f"{where}: {self.problem} {self.remedy}"


class ImportRefused(Exception):
    """Nothing was imported. ``errors`` lists every bad row, ``total`` counts those beyond the list."""

    def __init__(self, errors: Sequence[RowError]) -> None:
        self.errors = tuple(errors[:MAX_ERRORS])
        self.total = len(errors)
        first = f"; the first: {self.errors[0]}" if self.errors else ""
        super().__init__(f"nothing was imported, {self.total} errors{first}")


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One row: its number in the file and its cells by column name, spaces trimmed."""

    number: int
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PropertySheets:
    """A property's tables as text; a sheet that is missing is an empty one."""

    sheets: Mapping[str, tuple[SheetRow, ...]]

    def rows(self, sheet: str) -> tuple[SheetRow, ...]:
        """The rows of a sheet, header excluded."""
        return self.sheets.get(sheet, ())

    @classmethod
    def of(cls, tables: Mapping[str, Iterable[Mapping[str, object]]]) -> PropertySheets:
        """Sheets made by a program instead of a person; rows are numbered from 2."""
        return cls(
            {
                name: tuple(
                    SheetRow(number, {column: _text(value) for column, value in row.items()})
                    for number, row in enumerate(rows, start=2)
                )
                for name, rows in tables.items()
            }
        )


def read_sheets(path: Path) -> PropertySheets:
    """Read a folder of CSV files, a zip of them, or an XLSX workbook.

    Raises ImportRefused, and OSError for what cannot be read at all.
    """
    if path.is_dir():
        return read_files(sorted(each for each in path.iterdir() if _is_csv(each.name)))
    (content,) = _contents([path])
    return read_upload(path.name, content)


def read_files(paths: Sequence[Path]) -> PropertySheets:
    """Read one folder, zip or workbook, or CSV files each named after its table.

    Raises ImportRefused, and OSError for what cannot be read at all.
    """
    if len(paths) == 1 and not _is_csv(paths[0].name):
        return read_sheets(paths[0])
    for path in paths:
        if not _is_csv(path.name):
            raise _refused(
                "",
                "file.not_csv",
                worded("%(name)s is not a CSV file.", name=repr(path.name)),
                worded("Name CSV files together, or one folder, zip or XLSX workbook alone."),
            )
    names = [path.name for path in paths]
    return _from_csv(list(zip(names, _contents(paths), strict=True)))


def read_uploads(files: Sequence[tuple[str, bytes]]) -> PropertySheets:
    """Read uploaded files, each a name and its bytes: one zip or workbook alone, or CSV files named
    after their tables. Raises ImportRefused.
    """
    if len(files) == 1 and not _is_csv(files[0][0]):
        return read_upload(*files[0])
    for name, _content in files:
        if not _is_csv(name):
            raise _refused(
                "",
                "file.not_csv",
                worded("%(name)s is not a CSV file.", name=repr(name)),
                worded("Upload CSV files together, or one zip or XLSX workbook alone."),
            )
    return _from_csv(files)


def read_upload(name: str, content: bytes) -> PropertySheets:
    """Read an uploaded ``.zip`` or ``.xlsx``; raises ImportRefused."""
    kind = PurePosixPath(name.lower()).suffix
    if kind not in (".zip", ".xlsx"):
        raise _refused(
            "",
            "file.unknown_kind",
            worded("%(name)s is neither a zip of CSV files nor XLSX.", name=repr(name)),
            worded("Export the tables as CSV files in one zip, or as one XLSX workbook."),
        )
    members = _unpack(content)
    if kind == ".zip":
        return _from_csv(
            [
                (PurePosixPath(each).name, data)
                for each, data in members.items()
                if _is_csv(each) and not each.startswith("__MACOSX")
            ]
        )
    return _from_workbook(content, members)


def _is_csv(name: str) -> bool:
    return name.lower().endswith(".csv")


def _contents(paths: Sequence[Path]) -> list[bytes]:
    """The bytes of files, refused as soon as they are too many, whatever their sizes claim."""
    contents: list[bytes] = []
    left = MAX_BYTES
    for path in paths:
        with path.open("rb") as file:
            contents.append(file.read(left + 1))
        left -= len(contents[-1])
        if left < 0:
            raise _refused(
                "",
                "file.too_large",
                worded("There are more than %(n)s bytes.", n=MAX_BYTES),
                worded("Split the property."),
            )
    return contents


def _refused(sheet: str, code: str, problem: Worded, remedy: Worded, row: int = 0) -> ImportRefused:
    return ImportRefused([RowError(sheet or "file", row, "", code, problem, remedy)])


def _unpack(content: bytes) -> dict[str, bytes]:
    """Every member of a zip, refusing more bytes than allowed whatever its directory claims."""
    members: dict[str, bytes] = {}
    left = MAX_BYTES
    bomb = _refused(
        "",
        "file.too_large",
        worded("The archive unpacks to more than %(n)s bytes.", n=MAX_BYTES),
        worded("Split the property."),
    )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = [each for each in archive.infolist() if not each.is_dir()]
            if len(infos) > MAX_MEMBERS or sum(each.file_size for each in infos) > MAX_BYTES:
                raise bomb
            for info in infos:
                with archive.open(info) as member:
                    data = member.read(left + 1)
                left -= len(data)
                if left < 0:
                    raise bomb
                members[info.filename] = data
    except ImportRefused:
        raise
    # What unpacking a broken file raises has no common name: zlib.error, LZMAError, struct.error …
    except Exception as error:
        raise _refused(
            "",
            "file.unreadable",
            worded("The archive cannot be read: %(why)s.", why=error),
            worded("Save it again without a password."),
        ) from error
    return members


def _from_csv(files: Sequence[tuple[str, bytes]]) -> PropertySheets:
    """The tables of files, each a name and its bytes."""
    errors: list[RowError] = []
    sheets: dict[str, tuple[SheetRow, ...]] = {}
    for name, content in files:
        sheet = PurePosixPath(name.lower()).stem
        if sheet not in SHEETS or sheet in sheets:
            errors.append(_repeated_sheet(name) if sheet in sheets else _unknown_sheet(name))
            continue
        sheets[sheet] = ()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            errors.append(
                RowError(
                    sheet,
                    0,
                    "",
                    "file.not_utf8",
                    worded("The file is not UTF-8."),
                    worded("Save it as CSV UTF-8."),
                )
            )
            continue
        try:
            table = list(
                csv.reader(
                    io.StringIO(text, newline=""),
                    delimiter=_delimiter(text),
                    strict=True,
                )
            )
        except csv.Error as error:
            errors.append(
                RowError(
                    sheet,
                    0,
                    "",
                    "file.unreadable",
                    worded("The file is broken: %(why)s.", why=error),
                    worded("Save it as CSV again."),
                )
            )
            continue
        sheets[sheet] = _rows(sheet, table, errors)
    return _finish(sheets, errors)


def _delimiter(text: str) -> str:
    """Comma, semicolon or tab: whichever the header uses, as spreadsheets differ by country."""
    header = text.partition("\n")[0]
    return max((",", ";", "\t"), key=header.count)


def _from_workbook(content: bytes, members: Mapping[str, bytes]) -> PropertySheets:
    for data in members.values():
        plain = data.replace(b"\0", b"")
        if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
            raise _refused(
                "",
                "file.unsafe",
                worded("The workbook declares XML entities."),
                worded("Save it again with a spreadsheet program."),
            )
    errors: list[RowError] = []
    sheets: dict[str, tuple[SheetRow, ...]] = {}
    try:
        workbook = load_workbook(io.BytesIO(content), read_only=True, data_only=False)
        try:
            for worksheet in workbook.worksheets:
                sheet = worksheet.title.strip().lower()
                if sheet not in SHEETS or sheet in sheets:
                    title = worksheet.title
                    errors.append(
                        _repeated_sheet(title) if sheet in sheets else _unknown_sheet(title)
                    )
                    continue
                # A claimed size of a million columns must not become a million cells.
                worksheet.reset_dimensions()
                table: list[list[str]] = []
                for cells in worksheet.iter_rows(max_col=MAX_COLUMNS + 1, values_only=True):
                    table.append([_text(value) for value in cells])
                    if len(table) > MAX_ROWS + 1:
                        break
                sheets[sheet] = _rows(sheet, table, errors)
        finally:
            workbook.close()
    except ImportRefused:
        raise
    # Nor has what openpyxl stumbles over in a workbook that no spreadsheet program has written.
    except Exception as error:
        raise _refused(
            "",
            "file.unreadable",
            worded("The workbook cannot be read: %(why)s.", why=error),
            worded("Save it again as XLSX."),
        ) from error
    return _finish(sheets, errors)


def _unknown_sheet(name: str) -> RowError:
    return RowError(
        name,
        0,
        "",
        "sheet.unknown",
        worded("There is no table of that name."),
        worded("Use %(what)s, or remove it.", what=", ".join(SHEETS)),
    )


def _repeated_sheet(name: str) -> RowError:
    return RowError(
        name,
        0,
        "",
        "sheet.repeated",
        worded("There is another table of that name."),
        worded("Put all its rows into one."),
    )


def _finish(sheets: dict[str, tuple[SheetRow, ...]], errors: list[RowError]) -> PropertySheets:
    if errors:
        raise ImportRefused(errors)
    return PropertySheets(sheets)


def _rows(
    sheet: str, table: Sequence[Sequence[str]], errors: list[RowError]
) -> tuple[SheetRow, ...]:
    """The filled rows below the header, checked for shape; problems go to ``errors``."""
    if not table:
        return ()
    if len(table) > MAX_ROWS + 1:
        errors.append(
            RowError(
                sheet,
                0,
                "",
                "sheet.too_long",
                worded("More than %(n)s rows.", n=MAX_ROWS),
                worded("Split the property."),
            )
        )
        return ()
    header = [name.strip().lower() for name in table[0]]
    while header and not header[-1]:
        header.pop()
    if len(header) > MAX_COLUMNS or len(set(header)) != len(header) or "" in header:
        errors.append(
            RowError(
                sheet,
                1,
                "",
                "sheet.header",
                worded("A column name is missing or doubled."),
                worded("Give each column one name."),
            )
        )
        return ()
    rows: list[SheetRow] = []
    for number, cells in enumerate(table[1:], start=2):
        texts = [cell.strip() for cell in cells]
        if not any(texts):
            continue
        if any(texts[len(header) :]):
            errors.append(
                RowError(
                    sheet,
                    number,
                    "",
                    "row.too_long",
                    worded("There are more cells than columns."),
                    worded("Check the separators and quotes of this row."),
                )
            )
            continue
        named = dict(zip(header, texts, strict=False))
        errors.extend(_cell_errors(sheet, number, named))
        rows.append(SheetRow(number, named))
    return tuple(rows)


def _cell_errors(sheet: str, number: int, cells: Mapping[str, str]) -> Iterable[RowError]:
    for column, text in cells.items():
        if text.startswith(_FORMULA_START):
            yield RowError(
                sheet,
                number,
                column,
                "cell.formula",
                worded("The cell holds a formula."),
                worded("Paste its value."),
            )
        elif len(text) > MAX_CELL:
            yield RowError(
                sheet,
                number,
                column,
                "cell.too_long",
                worded("The cell has more than %(n)s characters.", n=MAX_CELL),
                worded("Shorten it."),
            )
        elif "\0" in text:
            yield RowError(
                sheet,
                number,
                column,
                "cell.unreadable",
                worded("The cell holds a character that is not text."),
                worded("Type it again."),
            )


def _text(value: object) -> str:
    """A cell as a person would read it: whole numbers without a point, dates in ISO form."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, ArrayFormula | DataTableFormula):
        return "="
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value if isinstance(value, str) else str(value)
