"""How large batches become: as large as a ninth of a second takes, whatever the machine."""

from __future__ import annotations

import pytest

from prewatt.hes.pace import COMMIT_TARGET_S, READINGS_MAX, READINGS_MIN, Pace


def fed(pace: Pace, batches: int, fixed_s: float, reading_s: float) -> None:
    """Full batches on a machine where a batch costs something and each reading a little."""
    for _ in range(batches):
        pace.took(pace.readings, fixed_s + pace.readings * reading_s)


@pytest.mark.parametrize("reading_s", [12e-6, 20e-6, 30e-6])
def test_batches_grow_until_they_take_what_they_shall(reading_s: float) -> None:
    pace = Pace()
    fed(pace, 40, 0.01, reading_s)
    assert 0.01 + pace.readings * reading_s == pytest.approx(COMMIT_TARGET_S, rel=0.02)


def test_a_machine_that_becomes_slow_gets_smaller_batches_and_larger_ones_again() -> None:
    pace = Pace()
    fed(pace, 20, 0.01, 12e-6)
    quick = pace.readings
    fed(pace, 20, 0.01, 30e-6)
    assert READINGS_MIN < pace.readings < quick / 2
    fed(pace, 20, 0.01, 12e-6)
    assert pace.readings == pytest.approx(quick, rel=0.05)


def test_neither_a_slow_disk_nor_a_quick_machine_leads_out_of_bounds() -> None:
    slow, quick = Pace(), Pace()
    fed(slow, 20, 1.0, 30e-6)
    fed(quick, 20, 0.0, 1e-9)
    assert (slow.readings, quick.readings) == (READINGS_MIN, READINGS_MAX)
    quick.took(READINGS_MIN, 0.0)
    assert quick.readings == READINGS_MAX


def test_one_slow_batch_and_small_ones_change_nothing() -> None:
    pace = Pace()
    fed(pace, 20, 0.01, 20e-6)
    before = pace.readings
    pace.took(before, 3.0)
    for _ in range(20):
        pace.took(READINGS_MIN - 1, 2.0)
    assert pace.readings == pytest.approx(before, rel=0.01)
