"""Bounded arithmetic: equal to Python's unbounded integers, or refused, never wrapped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prewatt.core.bounds import (
    INT64_MAX,
    INT64_MIN,
    Int64,
    OverflowRefused,
    checked_add,
    checked_multiply,
    checked_total,
    magnitude,
    mul_div_floor,
)

WIDE = st.integers(INT64_MIN, INT64_MAX)
NARROW = st.integers(-(2**33), 2**33)
PAIRS = st.lists(st.tuples(WIDE | NARROW, WIDE | NARROW), min_size=1, max_size=5)


def columns(rows: list[tuple[int, int]]) -> tuple[Int64, Int64]:
    left, right = np.array(rows, dtype=np.int64).T
    return left, right


def fits(values: list[int]) -> bool:
    return all(INT64_MIN <= each <= INT64_MAX for each in values)


@given(PAIRS)
@example([(INT64_MIN, -1)])
@example([(INT64_MIN, 1)])
@example([(INT64_MAX, 1), (2, 3)])
def test_a_product_is_exact_or_refused(rows: list[tuple[int, int]]) -> None:
    exact = [a * b for a, b in rows]
    if fits(exact):
        assert checked_multiply(*columns(rows), place="test").tolist() == exact
    else:
        with pytest.raises(OverflowRefused) as refusal:
            checked_multiply(*columns(rows), place="test")
        assert refusal.value.place == "test"


@given(PAIRS)
def test_a_sum_is_exact_or_refused(rows: list[tuple[int, int]]) -> None:
    exact = [a + b for a, b in rows]
    if fits(exact):
        assert checked_add(*columns(rows), place="test").tolist() == exact
    else:
        with pytest.raises(OverflowRefused):
            checked_add(*columns(rows), place="test")


@given(st.lists(WIDE | NARROW, max_size=6))
def test_a_total_is_exact_or_refused(values: list[int]) -> None:
    column = np.array(values, dtype=np.int64)
    assert magnitude(column) == max((abs(each) for each in values), default=0)
    if fits([sum(values)]):
        assert checked_total(column, place="test") == sum(values)
    else:
        with pytest.raises(OverflowRefused):
            checked_total(column, place="test")


@given(
    st.lists(
        st.integers(1, 2**47 - 1).flatmap(
            lambda divisor: st.tuples(WIDE | NARROW, st.integers(0, divisor), st.just(divisor))
        ),
        min_size=1,
        max_size=5,
    )
)
@example([(INT64_MIN, 2**47 - 1, 2**47 - 1), (INT64_MAX, 2**47 - 2, 2**47 - 1)])
def test_a_share_is_floored_exactly_even_where_the_product_would_not_fit(
    rows: list[tuple[int, int, int]],
) -> None:
    value, multiplier, divisor = np.array(rows, dtype=np.int64).T
    exact = [a * b // c for a, b, c in rows]
    assert mul_div_floor(value, multiplier, divisor, place="test").tolist() == exact


@pytest.mark.parametrize(
    ("multiplier", "divisor"), [(-1, 5), (6, 5), (0, 0), (0, -5), (1, 2**47), (3, 2)]
)
def test_a_share_outside_its_bounds_is_refused(multiplier: int, divisor: int) -> None:
    with pytest.raises(OverflowRefused):
        mul_div_floor(
            np.array([7], dtype=np.int64),
            np.array([multiplier], dtype=np.int64),
            np.array([divisor], dtype=np.int64),
            place="test",
        )
