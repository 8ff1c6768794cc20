"""The comparison with PySAM, held to a stand-in that bills as PySAM would."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adapters.tariffs.urdb_items import FILE_CLOCK, FOLDER, household
from prewatt.adapters.tariffs.openei_urdb import read_item
from prewatt.benchmarks import pysam
from prewatt.core.allocation import Allocation
from prewatt.core.statement import bill


class StandIn:
    """Takes loads in kW and gives monthly bills, some of them wrong by `fault`."""

    def __init__(self, item: dict[str, Any], fault: float) -> None:
        self._tariff, self._fault = read_item(item).tariff, fault
        self.Load = SimpleNamespace(load=[])
        self.Outputs = SimpleNamespace()

    def execute(self, _verbosity: int) -> None:
        energy = np.array([round(each * 1000) for each in self.Load.load])
        statement = bill(
            self._tariff, FILE_CLOCK, household()[0], energy, allocation=Allocation.PRO_RATA
        )
        bills = [float(month.total) / 10**6 for month in statement.months]
        self.Outputs.year1_monthly_utility_bill_wo_sys = [*bills[:-1], bills[-1] + self._fault]


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """A folder with two items and the load."""
    for name in ("pge-e-tou-c.json", "srp-e-23-basic.json", "load-household.csv", "index.json"):
        shutil.copy(FOLDER / name, tmp_path)
    return tmp_path


def test_both_bill_the_same_loads_and_are_timed(
    items: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pysam, "_pysam_model", lambda item, _hours: StandIn(item, 0.001))
    figures = pysam.measure(items, loads=4, rounds=1, at_once=2)
    assert (figures.tariffs, figures.loads) == (2, 4)
    assert figures.prewatt_us > 0
    assert figures.ratio >= figures.least_ratio > 0
    assert figures.worst_difference == pytest.approx(0.001, abs=1e-6)


def test_a_difference_of_half_a_cent_is_no_comparison(
    items: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pysam, "_pysam_model", lambda item, _hours: StandIn(item, 0.01))
    with pytest.raises(AssertionError, match="differs by"):
        pysam.measure(items, loads=2, rounds=1, at_once=2)
