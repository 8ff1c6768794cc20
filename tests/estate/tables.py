"""A small property as tables: two houses, a tenant, a vacant flat, a lift, a feeder above them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NOW = datetime(2026, 11, 17, 12, 0, tzinfo=UTC)
OPENED = "2026-11-01T00:00"
"""Local civil time of Berlin, so 23:00 UTC of the day before."""

Tables = dict[str, list[dict[str, Any]]]


def tariff(price: str = "0.2500") -> str:
    """A flat tariff document."""
    return json.dumps(
        {
            "format": "prewatt-tariff/1",
            "name": "Flat",
            "currency": "EUR",
            "energy": {"unit": "kWh", "bands": {"all": {"price": price}}},
        }
    )


def tables(**changes: list[dict[str, Any]]) -> Tables:
    """The property; a keyword replaces a whole table."""
    made: Tables = {
        "property": [
            {
                "organisation": "Linden Management",
                "legal_entity": "Linden Energie GmbH",
                "tax_number": "DE 811",
                "code": "linden",
                "name": "Lindenhof",
                "currency": "EUR",
                "time_zone": "Europe/Berlin",
                "holiday_calendar": "DE-HE",
                "default_tariff": "flat",
            }
        ],
        "tariffs": [
            {
                "code": "flat",
                "name": "Flat price",
                "document": tariff(),
                "approved_by": "user:approver",
            }
        ],
        "buildings": [
            {"code": "A", "name": "House A", "position": 1},
            {"code": "B", "name": "House B", "position": 2},
        ],
        "units": [
            {"building": "A", "code": "101", "floor": 1, "position": 1, "kind": "flat"},
            {"building": "A", "code": "102", "floor": 1, "position": 2, "kind": "flat"},
            {"building": "B", "code": "LIFT", "floor": -1, "kind": "plant"},
        ],
        "metering_points": [
            {
                "code": "P-101",
                "building": "A",
                "unit": "101",
                "parent": "F",
                "role": "supply",
                "feeds_in": "yes",
            },
            {"code": "P-102", "building": "A", "unit": "102", "parent": "F", "role": "supply"},
            {"code": "P-LIFT", "building": "B", "unit": "LIFT", "parent": "F", "role": "common"},
            {"code": "F", "role": "feeder"},
        ],
        "meters": [
            _meter("M-101", "P-101", 1_000),
            _meter("M-102", "P-102", 2_000),
            _meter("M-LIFT", "P-LIFT", 3_000),
            _meter("M-F", "F", 9_000),
        ],
        "customers": [
            {"code": "c1", "name": "Ada Weiß", "email": "ada@example.org", "language": "en"}
        ],
        "accounts": [
            {
                "number": "1001",
                "customer": "c1",
                "tariff": "flat",
                "opening_balance": "25.50",
                "protection": "medical",
            },
            {
                "number": "OWN-LIFT",
                "kind": "vacancy",
                "building": "B",
                "unit": "LIFT",
                "opening_balance": "100",
                "protection": "lift",
            },
        ],
        "tenancies": [
            {
                "building": "A",
                "unit": "101",
                "customer": "c1",
                "account": "1001",
                "begins_at": "2026-10-01",
            }
        ],
    }
    made.update(deepcopy(changes))
    return made


def _meter(serial: str, point: str, opening_wh: int) -> dict[str, Any]:
    return {
        "serial": serial,
        "metering_point": point,
        "installed_at": OPENED,
        "opening_wh": opening_wh,
    }


def csv_text(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    """Rows as a CSV text with one header over all their columns."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def write_folder(folder: Path, made: Mapping[str, list[dict[str, Any]]]) -> Path:
    """The tables as CSV files, as a spreadsheet in Germany writes them: semicolons and a BOM."""
    for name, rows in made.items():
        (folder / f"{name}.csv").write_text(csv_text(rows, ";"), encoding="utf-8-sig")
    return folder
