"""The real items of tests/data/urdb, their load, and plain items to vary."""

from __future__ import annotations

import csv
import json
from copy import deepcopy
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from prewatt.core.allocation import Allocation
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import HOUR_US, LocalCalendar, instant_us
from prewatt.core.loads import LoadAxis
from prewatt.core.statement import Statement, bill
from prewatt.core.tariff import Tariff

FOLDER = Path(__file__).parents[2] / "data" / "urdb"
NOT_ITEMS = {"index.json", "expected-household.json"}
PATHS = sorted(each for each in FOLDER.glob("*.json") if each.name not in NOT_ITEMS)
FILE_CLOCK = LocalCalendar("UTC")

PLAIN: dict[str, Any] = {
    "name": "Plain",
    "energyratestructure": [[{"rate": 0.10, "unit": "kWh"}], [{"rate": 0.25, "unit": "kWh"}]],
    "energyweekdayschedule": [[0] * 8 + [1] * 16 for _ in range(12)],
    "energyweekendschedule": [[0] * 24 for _ in range(12)],
}


def item(**fields: Any) -> dict[str, Any]:
    """A plain item with other fields."""
    return deepcopy(PLAIN) | fields


@lru_cache(maxsize=1)
def household() -> tuple[LoadAxis, Int64]:
    """The hours of a year and what the household used in each."""
    with (FOLDER / "load-household.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    start = np.array(
        [
            instant_us(datetime.fromisoformat(row["interval_start"]).replace(tzinfo=UTC))
            for row in rows
        ]
    )
    return LoadAxis(start, start + HOUR_US), np.array([int(row["wh"]) for row in rows])


@lru_cache(maxsize=1)
def expected() -> dict[str, dict[str, Any]]:
    """What PySAM charges the household, by the file's name."""
    found: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected-household.json").read_text())
    return found


def household_bill(tariff: Tariff) -> Statement:
    """The household's statement as PySAM shares steps out."""
    axis, energy = household()
    return bill(tariff, FILE_CLOCK, axis, energy, allocation=Allocation.PRO_RATA)
