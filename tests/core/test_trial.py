"""A trial's balances, against a walk through the days one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prewatt.core.bounds import OverflowRefused
from prewatt.core.trial import NEVER, Days, compare, histogram, totals

AMOUNTS = st.integers(-1_000_000, 1_000_000)


@st.composite
def trials(draw: st.DrawFn) -> Days:
    """A few accounts over a few days."""
    accounts, days = draw(st.integers(1, 4)), draw(st.integers(1, 6))

    def matrix(values: st.SearchStrategy[int]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        cells = draw(st.lists(values, min_size=accounts * days, max_size=accounts * days))
        return np.array(cells, dtype=np.int64).reshape(accounts, days)

    charge = st.integers(0, 1_000_000)
    column = st.lists(AMOUNTS, min_size=accounts, max_size=accounts)
    return Days(
        charged=matrix(charge),
        drafted=matrix(charge),
        credited=matrix(AMOUNTS),
        available=np.array(draw(column), dtype=np.int64),
        emergency=np.abs(np.array(draw(column), dtype=np.int64)),
        first_day=np.array(
            draw(st.lists(st.integers(-2, days), min_size=accounts, max_size=accounts)),
            dtype=np.int64,
        ),
    )


@given(trials())
def test_a_trial_equals_a_walk_from_the_first_day(days: Days) -> None:
    trial = compare(days)
    for row in range(days.available.size):
        opening = int(days.available[row] - (days.credited[row] - days.charged[row]).sum())
        actual = drafted = opening
        first, was_cut = NEVER, False
        for day in range(days.charged.shape[1]):
            actual += int(days.credited[row, day] - days.charged[row, day])
            drafted += int(days.credited[row, day] - days.drafted[row, day])
            begun = day >= days.first_day[row]
            was_cut = was_cut or (begun and actual <= -days.emergency[row])
            if begun and drafted <= -days.emergency[row] and first == NEVER:
                first = day
        assert trial.first_cut_day[row] == first
        assert trial.was_cut[row] == was_cut
        assert trial.would_be_cut[row] == (first != NEVER and not was_cut)
    assert sum(each.accounts for each in histogram(trial)) == int((trial.charged > 0).sum())
    figures = totals(trial)
    assert figures.pay_more + figures.pay_less + figures.unchanged == figures.accounts
    assert figures.drafted_micro - figures.charged_micro == int(trial.difference.sum())


def test_the_same_prices_change_nothing_and_cut_nobody() -> None:
    charged = np.full((3, 5), 700, dtype=np.int64)
    trial = compare(
        Days(
            charged=charged,
            drafted=charged,
            credited=np.zeros_like(charged),
            available=np.array([1, 0, -5], dtype=np.int64),
            emergency=np.zeros(3, dtype=np.int64),
            first_day=np.zeros(3, dtype=np.int64),
        )
    )
    assert not trial.would_be_cut.any()
    assert trial.was_cut.tolist() == [False, True, True]
    assert totals(trial).unchanged == 3
    middle = [each.accounts for each in histogram(trial)]
    assert middle == [0, 0, 0, 0, 3, 0, 0, 0, 0]


def test_a_bar_holds_its_lower_edge() -> None:
    charged = np.array([[1_000], [1_000], [1_000]], dtype=np.int64)
    drafted = np.array([[1_010], [1_009], [1_500]], dtype=np.int64)
    trial = compare(
        Days(
            charged,
            drafted,
            np.zeros_like(charged),
            charged[:, 0] * 9,
            charged[:, 0] * 0,
            charged[:, 0] * 0,
        )
    )
    counts = {each.from_ppm: each.accounts for each in histogram(trial)}
    assert counts[10_000] == 1
    assert counts[-10_000] == 1
    assert counts[200_000] == 1


def test_shapes_and_sizes_that_cannot_be_are_refused() -> None:
    one, zero = np.ones((1, 1), dtype=np.int64), np.zeros(1, dtype=np.int64)
    with pytest.raises(ValueError, match="one shape"):
        compare(Days(one, np.ones((1, 2), dtype=np.int64), one, zero, zero, zero))
    with pytest.raises(OverflowRefused):
        compare(Days(one * 2**62, one, one, zero, zero, zero))
