"""Register differences against the definition, one row at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prewatt.core.registers import register_delta

ROWS = st.tuples(
    st.integers(0, 2_500), st.integers(0, 999), st.sampled_from((0, 1_000)), st.integers(0, 1_100)
)


@given(st.lists(ROWS, min_size=1, max_size=20))
def test_every_difference_follows_the_definition(rows: list[tuple[int, int, int, int]]) -> None:
    result = register_delta(*np.array(rows, dtype=np.int64).T)
    for i, (start, end, modulus, most) in enumerate(rows):
        around = end - start + modulus
        rolled = end < start and modulus > 0 and 0 <= around <= most
        assert result.rolled[i] == rolled
        assert result.delta[i] == (around if rolled else end - start)
        assert result.backwards[i] == (end < start and not rolled)
        assert result.plausible[i] == (0 <= (around if rolled else end - start) <= most)


def test_a_rollover_counts_through_zero() -> None:
    start, end, modulus = (np.array([each], dtype=np.int64) for each in (999_998, 3, 1_000_000))
    result = register_delta(start, end, modulus, np.array([10], dtype=np.int64))
    assert (result.delta.tolist(), result.rolled.tolist()) == ([5], [True])


def test_a_lower_value_without_a_plausible_rollover_goes_backwards() -> None:
    start, end = np.array([500, 500], dtype=np.int64), np.array([499, 499], dtype=np.int64)
    modulus, most = np.array([1_000, 0], dtype=np.int64), np.array([998, 10**9], dtype=np.int64)
    result = register_delta(start, end, modulus, most)
    assert result.backwards.tolist() == [True, True]
    assert result.plausible.tolist() == [False, False]
