"""The table by which many devices are fitted at once, read with the same care as those of an import.

Pure of the database: what exists already is handed in. Every bad row is told at once, by row and column.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from prewatt.estate.imports import Cells, UnitKey, device_in
from prewatt.estate.operations import NewMeter
from prewatt.estate.sheets import ImportRefused, PropertySheets, RowError
from prewatt.estate.worded import worded

#: The table's name, and its columns; those of `REQUIRED` must be filled in.
TABLE: Final = "meters"
REQUIRED: Final = ("building", "unit", "serial", "opening_wh")
COLUMNS: Final = (
    *REQUIRED, "installed_at", "model", "driver", "multiplier", "modulus_wh", "max_power_w", "has_relay",
    "expected_period_s", "concentrator", "beside",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FittingRow:
    """One row: which device comes into which unit, and the number of the row in the file."""

    row: int
    unit_id: int
    unit: str
    meter: NewMeter
    opening_wh: int
    at: datetime
    beside: bool
    concentrator: str


def plan_fittings(
    sheets: PropertySheets,
    *,
    units: Mapping[UnitKey, int],
    concentrators: Collection[str],
    time_zone: str,
    now: datetime,
    most: int,
) -> list[FittingRow]:
    """The rows of the table, in their order. Raises ImportRefused with an error for every bad one."""
    rows = sheets.rows(TABLE)
    errors = [
        RowError(
            TABLE, 1, column, "sheet.unknown_column", worded("There is no such column."),
            worded("Use %(what)s, or remove it.", what=", ".join(COLUMNS)),
        )
        for column in (rows[0].cells if rows else ())
        if column not in COLUMNS
    ]  # fmt: skip
    if not 0 < len(rows) <= most:
        errors.append(
            RowError(
                TABLE, 0, "", "sheet.too_long", worded("There are %(n)s rows.", n=len(rows)),
                worded("Fit 1 to %(most)s meters by one table.", most=most),
            )
        )  # fmt: skip
        raise ImportRefused(errors)
    zone, first = ZoneInfo(time_zone), dict[str, int]()
    planned = []
    for row in rows:
        cells = Cells(TABLE, row, zone, now, errors)
        found = _row(cells, units, concentrators, now)
        before = first.setdefault(found.meter.serial, row.number)
        if before != row.number and found.meter.serial:
            cells.fault(
                "serial", "row.repeated", worded("Row %(row)s has the same.", row=before),
                worded("Keep one of them."),
            )  # fmt: skip
        planned.append(found)
    if errors:
        raise ImportRefused(errors)
    return planned


def _row(
    cells: Cells, units: Mapping[UnitKey, int], concentrators: Collection[str], now: datetime
) -> FittingRow:
    device = device_in(cells)
    unit = cells.unit(required=True)
    _known(cells, "unit", "/".join(unit) if unit else "", unit is None or unit in units)
    concentrator = cells.text("concentrator", 32, default="")
    _known(cells, "concentrator", concentrator, not concentrator or concentrator in concentrators)
    return FittingRow(
        row=cells.row.number,
        unit_id=units.get(unit, 0) if unit else 0,
        unit="-".join(unit) if unit else "",
        meter=NewMeter(**device),
        opening_wh=cells.integer("opening_wh", 0, device["modulus_wh"] - 1),
        at=cells.instant("installed_at", required=False) or now,
        beside=cells.flag("beside", default=False),
        concentrator=concentrator,
    )


def _known(cells: Cells, column: str, shown: str, is_known: bool) -> None:
    if not is_known:
        cells.fault(
            column, "reference.unknown", worded("There is no %(shown)s.", shown=repr(shown)),
            worded("Add it, or correct the %(column)s.", column=column),
        )  # fmt: skip
