"""Cutting off and carrying on, against unbounded integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import cases
from prewatt.core.bounds import INT64_MAX, OverflowRefused
from prewatt.core.rating import CARRY_DENOMINATOR, floor_with_carry
from prewatt.core.remainders import floor_products

DENOMINATORS = sorted(set(CARRY_DENOMINATOR.values()))
SIZES = st.sampled_from((1, 10**3, 10**6, 10**9, 10**12, 10**15, 2**62))


def column(*values: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


@st.composite
def factors(draw: st.DrawFn, length: int) -> list[int]:
    most = draw(SIZES)
    return draw(st.lists(st.integers(-most, most), min_size=length, max_size=length))


@settings(max_examples=cases(400), deadline=None)
@given(st.data())
def test_charges_are_the_floor_of_what_ran_up_or_refused(data: st.DataObject) -> None:
    denominator = data.draw(st.sampled_from(DENOMINATORS))
    accounts = sorted(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=12)))
    carry = [data.draw(st.integers(0, denominator - 1)) for _ in range(4)]
    products = [
        # Shares are of 10⁹ at most; what is due by days comes as numerators.
        (
            data.draw(factors(len(accounts))),
            data.draw(factors(len(accounts))) if denominator <= 10**9 else [1] * len(accounts),
        )
        for _ in range(data.draw(st.integers(1, 2)))
    ]
    exact, running = [], list(carry)
    for row, account in enumerate(accounts):
        before = running[account] // denominator
        running[account] += sum(left[row] * right[row] for left, right in products)
        exact.append(running[account] // denominator - before)
    try:
        charge, left = floor_products(
            [(column(*one), column(*other)) for one, other in products],
            column(*accounts),
            column(*carry),
            denominator,
        )
    except OverflowRefused:
        # Refused only where the charges of so many rows come near to what 64 bits hold.
        most = sum(max(map(abs, one)) * max(map(abs, other)) for one, other in products)
        assert most // denominator * len(accounts) > INT64_MAX // 8
        return
    assert charge.tolist() == exact
    assert left.tolist() == [each % denominator for each in running]


@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_large_batches_fit_under_every_denominator(denominator: int) -> None:
    rows = 200_000
    numerator = np.arange(rows, dtype=np.int64) * (INT64_MAX // rows)
    account = np.repeat(np.arange(rows // 100), 100)
    carry = np.full(rows // 100, denominator - 1, dtype=np.int64)
    charge, left = floor_with_carry(
        account_index=account, numerator=numerator, carry=carry, denominator=denominator
    )
    for each in (0, 1, rows // 100 - 1):
        total = denominator - 1 + sum(numerator[each * 100 : each * 100 + 100].tolist())
        assert sum(charge[each * 100 : each * 100 + 100].tolist()) == total // denominator
        assert left[each] == total % denominator
    halves = [
        floor_with_carry(
            account_index=account[:150],
            numerator=numerator[:150],
            carry=carry,
            denominator=denominator,
        )
    ]
    halves.append(
        floor_with_carry(
            account_index=account[150:300],
            numerator=numerator[150:300],
            carry=halves[0][1],
            denominator=denominator,
        )
    )
    assert np.concatenate([part for part, _ in halves]).tolist() == charge[:300].tolist()
