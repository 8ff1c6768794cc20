"""Statements of a year beside NREL's PySAM, where that is installed: `pip install NREL-PySAM`.

Both bill the same loads under the same URDB items, by turns. Prewatt bills all loads of a tariff as
one batch, from the instants of their intervals to each month's total in micro-units; PySAM's
`utilityrate5`, set up for the tariff beforehand, is given one load after the other, executed, and
asked for the monthly bills. Seconds are those that a core worked, which other programs on the
machine do not change. The months of every load that both have billed are compared.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from prewatt.adapters.loads.interval_csv import read_load
from prewatt.adapters.tariffs.openei_urdb import load_item
from prewatt.core.allocation import Allocation
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import LocalCalendar
from prewatt.core.loads import LoadAxis
from prewatt.core.statement import bill_batch
from prewatt.core.tariff import Tariff

LOAD_FILE: Final = "load-household.csv"
_NOT_ITEMS: Final = ("index.json", "expected-household.json")
_MICRO: Final = 1_000_000
_SEED: Final = 20180101


@dataclass(frozen=True, slots=True)
class PysamFigures:
    """Medians over the tariffs of microseconds for one meter's year, and of the ratio; the worst
    ratio of any tariff, and the largest difference of any month in the currency.
    """

    tariffs: int
    loads: int
    prewatt_us: float
    pysam_us: float
    ratio: float
    least_ratio: float
    worst_difference: float


def is_installed() -> bool:
    """Whether PySAM can be imported."""
    return importlib.util.find_spec("PySAM") is not None


def measure(
    folder: Path, *, loads: int = 1_000, rounds: int = 3, at_once: int = 10
) -> PysamFigures:
    """Bill `loads` variants of the folder's load under all its items; PySAM bills `at_once` of them
    in each round. Raises `AssertionError` where the two differ by half a cent.
    """
    paths = sorted(each for each in folder.glob("*.json") if each.name not in _NOT_ITEMS)
    axis, energy = _loads(folder / LOAD_FILE, loads)
    found = [_compare(path, axis, energy, rounds, at_once) for path in paths]
    assert found, f"{folder} has no items"
    worst = max(each.difference for each in found)
    assert worst < 0.005, f"a month differs by {worst}"
    ratios = [each.pysam_us / each.prewatt_us for each in found]
    return PysamFigures(
        tariffs=len(paths),
        loads=loads,
        prewatt_us=round(median(each.prewatt_us for each in found), 1),
        pysam_us=round(median(each.pysam_us for each in found), 1),
        ratio=round(median(ratios), 1),
        least_ratio=round(min(ratios), 1),
        worst_difference=worst,
    )


@dataclass(frozen=True, slots=True)
class _Compared:
    """One tariff's medians, and the largest difference of a month."""

    prewatt_us: float
    pysam_us: float
    difference: float


def _compare(path: Path, axis: LoadAxis, energy_wh: Int64, rounds: int, at_once: int) -> _Compared:
    tariff = load_item(path.read_bytes()).tariff
    item = json.loads(path.read_bytes())
    model = _pysam_model(item, energy_wh.shape[1])
    as_kw = [[wh / 1000 for wh in row] for row in energy_wh[:at_once].tolist()]
    ours, theirs, worst = [], [], 0.0
    for _ in range(rounds):
        worked_s, totals = _prewatt(tariff, axis, energy_wh)
        ours.append(worked_s / energy_wh.shape[0])
        worked_s, bills = _pysam(model, as_kw)
        theirs.append(worked_s / at_once)
        worst = max(worst, float(np.abs(totals[:at_once] / _MICRO - np.array(bills)).max()))
    return _Compared(median(ours) * 10**6, median(theirs) * 10**6, worst)


def _prewatt(tariff: Tariff, axis: LoadAxis, energy_wh: Int64) -> tuple[float, Int64]:
    begin = time.thread_time()
    totals = bill_batch(
        tariff, LocalCalendar("UTC"), axis, energy_wh, allocation=Allocation.PRO_RATA
    ).totals_micro()
    return time.thread_time() - begin, totals


def _pysam(model: Any, loads_kw: Sequence[Sequence[float]]) -> tuple[float, list[Any]]:
    begin = time.thread_time()
    bills = []
    for load in loads_kw:
        model.Load.load = load
        model.execute(0)
        bills.append(model.Outputs.year1_monthly_utility_bill_wo_sys)
    return time.thread_time() - begin, bills


def _pysam_model(item: dict[str, Any], hours: int) -> Any:
    """`utilityrate5` for one item, without generation, inflation or export."""
    rates = importlib.import_module("PySAM.UtilityRateTools").URDBv8_to_ElectricityRates(
        deepcopy({key: value for key, value in item.items() if value is not None})
    )
    model = importlib.import_module("PySAM.Utilityrate5").new()
    model.Lifetime.assign(
        {"analysis_period": 1, "inflation_rate": 0, "system_use_lifetime_output": 0}
    )
    model.SystemOutput.assign({"gen": [0.0] * hours, "degradation": [0.0]})
    model.ElectricityRates.assign(
        rates | {"rate_escalation": [0.0], "ur_nm_yearend_sell_rate": 0, "ur_metering_option": 0}
    )
    return model


def _loads(path: Path, loads: int) -> tuple[LoadAxis, Int64]:
    """The table's intervals, and its load at 50 to 150 per cent for each of many meters."""
    with path.open("rb") as stream:
        load = read_load(stream)
    percent = np.random.default_rng(_SEED).integers(50, 151, (loads, 1))
    return load.axis, load.energy_wh * percent // 100
