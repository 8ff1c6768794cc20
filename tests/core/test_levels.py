"""Levels fire once, clear above their margin, and are watched at the right amount."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prewatt.core.levels import (
    NEVER,
    Level,
    LevelsInvalid,
    LevelsPolicy,
    evaluate_levels,
    next_watch_below_micro,
    rearm_after_credit,
    still_levels,
)
from prewatt.core.vocabulary import LevelKind

EUR = 1_000_000
DAYS = Level(0, LevelKind.DAYS, threshold_h=72)
MONEY = Level(1, LevelKind.MONEY, threshold_micro=5 * EUR)
EMERGENCY = Level(2, LevelKind.EMERGENCY)
EXHAUSTED = Level(3, LevelKind.EXHAUSTED)
POLICY = LevelsPolicy((DAYS, MONEY, EMERGENCY, EXHAUSTED), margin_bp=1_000, margin_micro=EUR // 2)
SPEND, CREDIT = 2 * EUR, 10 * EUR  # three days at this pace are 6.00


def test_a_level_fires_once_at_equality_and_clears_only_above_its_margin() -> None:
    first = evaluate_levels(5 * EUR, SPEND, CREDIT, POLICY, 0)
    assert first.fired == (DAYS, MONEY) and first.due is MONEY
    again = evaluate_levels(4 * EUR, SPEND, CREDIT, POLICY, first.fired_mask)
    assert again.fired == ()
    trembling = evaluate_levels(5_400_000, SPEND, CREDIT, POLICY, first.fired_mask)
    assert trembling.cleared == ()
    risen = evaluate_levels(5_600_000, SPEND, CREDIT, POLICY, first.fired_mask)
    assert risen.cleared == (MONEY,)


def test_a_large_charge_jumps_over_levels_and_warns_of_the_most_serious() -> None:
    result = evaluate_levels(-CREDIT, SPEND, CREDIT, POLICY, 0)
    assert result.fired == (DAYS, MONEY, EMERGENCY, EXHAUSTED)
    assert result.due is EXHAUSTED and result.watch_below_micro == NEVER


def test_days_are_turned_into_money_at_the_accounts_own_pace_rounded_early() -> None:
    assert next_watch_below_micro(100 * EUR, SPEND, CREDIT, POLICY, 0) == 6 * EUR + 1
    odd = evaluate_levels(4, 1, 0, LevelsPolicy((DAYS,)), 0)
    assert odd.fired == () and odd.watch_below_micro == 4


def test_without_emergency_credit_zero_is_exhaustion() -> None:
    result = evaluate_levels(0, 0, 0, POLICY, 0)
    assert EMERGENCY not in result.fired and result.due is EXHAUSTED


def test_exhaustion_is_watched_even_without_a_level_for_it() -> None:
    assert next_watch_below_micro(EUR, 0, CREDIT, LevelsPolicy(()), 0) == -CREDIT + 1
    assert next_watch_below_micro(-CREDIT, 0, CREDIT, LevelsPolicy(()), 0) == NEVER


def test_after_a_small_payment_the_levels_below_warn_again() -> None:
    everything = evaluate_levels(-CREDIT, SPEND, CREDIT, POLICY, 0).fired_mask
    mask = rearm_after_credit(100_000, SPEND, CREDIT, POLICY, everything)
    assert mask == 0b0011
    again = evaluate_levels(-CREDIT, SPEND, CREDIT, POLICY, mask)
    assert again.due is EXHAUSTED


def test_a_removed_level_leaves_no_bit() -> None:
    assert evaluate_levels(EUR, 0, 0, LevelsPolicy((MONEY,)), 0b1010).fired_mask == 0b0010


@pytest.mark.parametrize(
    "levels",
    [
        (MONEY, Level(1, LevelKind.DAYS, threshold_h=1)),
        (Level(14, LevelKind.MONEY),),
        (Level(0, LevelKind.MONEY, threshold_micro=-1),),
    ],
)
def test_nonsense_is_refused(levels: tuple[Level, ...]) -> None:
    with pytest.raises(LevelsInvalid):
        LevelsPolicy(levels)


@given(
    balances=st.lists(st.integers(-15 * EUR, 20 * EUR), min_size=1, max_size=60),
    spend=st.integers(0, 4 * EUR),
    credit=st.integers(0, 12 * EUR),
)
def test_watching_misses_nothing(balances: list[int], spend: int, credit: int) -> None:
    """An account looked at only below its watch fires what one looked at every time fires."""
    falling = sorted(balances, reverse=True)
    every_mask, watch_mask, watch = 0, 0, 2**62
    every: list[Level] = []
    watched: list[Level] = []
    for balance in falling:
        result = evaluate_levels(balance, spend, credit, POLICY, every_mask)
        every_mask = result.fired_mask
        every += result.fired
        if balance < watch:
            result = evaluate_levels(balance, spend, credit, POLICY, watch_mask)
            watch_mask, watch = result.fired_mask, result.watch_below_micro
            watched += result.fired
    assert watched == every
    assert len(set(every)) == len(every), "no warning arrives twice while the balance falls"


_LEVEL = st.builds(
    lambda kind, micro, hours: (kind, micro, hours),
    st.sampled_from(LevelKind),
    st.one_of(st.integers(0, 20 * EUR), st.just(2**62)),
    st.one_of(st.integers(0, 240), st.just(2**40)),
)
_AMOUNT = st.one_of(st.integers(-15 * EUR, 20 * EUR), st.integers(-(2**63) + 1, 2**63 - 1))


@given(
    levels=st.lists(_LEVEL, max_size=4),
    margins=st.tuples(st.integers(0, 2_000), st.integers(0, EUR)),
    accounts=st.lists(st.tuples(_AMOUNT, _AMOUNT, _AMOUNT, st.integers(0, 31)), min_size=1),
)
def test_whoever_stands_still_in_a_set_is_whoever_moves_nothing_alone(
    levels: list[tuple[LevelKind, int, int]],
    margins: tuple[int, int],
    accounts: list[tuple[int, int, int, int]],
) -> None:
    policy = LevelsPolicy(tuple(Level(at, *each) for at, each in enumerate(levels)), *margins)
    columns = [np.array(each, dtype=np.int64) for each in zip(*accounts, strict=True)]
    still, watch = still_levels(*columns[:3], policy, columns[3])
    for at, (*amounts, mask) in enumerate(accounts):
        alone = evaluate_levels(*amounts, policy, mask)
        moves = alone.fired_mask != mask or bool(alone.fired or alone.cleared)
        if still[at]:
            assert not moves
            assert watch[at] == alone.watch_below_micro
        else:
            too_large = max(map(abs, [*amounts, *(each[1] for each in levels)])) > 2**40
            assert moves or too_large or any(each[2] > 240 for each in levels)
