"""What is usual: the account's own recharges before its property's, and a bound where there are none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prewatt.core.money import MICRO
from prewatt.core.usual import LEAST, TIMES, UNKNOWN_LIMIT_MICRO, usual_of

EUROS = st.integers(1, 100_000 * MICRO)


def test_own_recharges_are_looked_at_before_those_of_the_property() -> None:
    own, others = [20 * MICRO] * LEAST, [500 * MICRO] * 50
    assert usual_of(own, others).own and usual_of(own, others).micro == 20 * MICRO
    assert usual_of(own[1:], others) == usual_of([], others)
    assert not usual_of([], others).own and usual_of([], others).micro == 500 * MICRO


def test_fifty_thousand_does_not_pass_like_twenty_and_two_hundred_does() -> None:
    usual = usual_of([20 * MICRO, 10 * MICRO, 30 * MICRO, 20 * MICRO], [])
    assert usual.is_passed_by(50_000 * MICRO) and usual.times(50_000 * MICRO) == 2_500
    assert not usual.is_passed_by(200 * MICRO) and usual.is_passed_by(200 * MICRO + 1)


def test_where_nothing_is_usual_a_bound_holds() -> None:
    usual = usual_of([20 * MICRO], [20 * MICRO] * (LEAST - 1))
    assert usual.micro == 0 and usual.times(10**15) == 0
    assert not usual.is_passed_by(UNKNOWN_LIMIT_MICRO)
    assert usual.is_passed_by(UNKNOWN_LIMIT_MICRO + 1)


@given(st.lists(EUROS, min_size=LEAST, max_size=30), EUROS)
def test_one_slip_among_others_does_not_make_slips_usual(amounts: list[int], slip: int) -> None:
    usual = usual_of(amounts, [])
    assert min(amounts) <= usual.micro <= max(amounts)
    assert (
        usual_of([*amounts, slip], []).micro <= sorted([*amounts, max(amounts)])[len(amounts) // 2]
    )
    assert usual.is_passed_by(TIMES * usual.micro + 1)
