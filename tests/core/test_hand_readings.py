"""What one person may enter alone: bounded by the rating, by usage, and growing with time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prewatt.core.hand_readings import ENOUGH_S, HISTORY_S, LEAST_WH, MULTIPLE, plausible_wh

DAY_S = 86_400


def test_the_stated_multiple_of_what_is_usual() -> None:
    assert plausible_wh(
        elapsed_s=2 * DAY_S, history_wh=300_000, history_s=30 * DAY_S, max_power_w=15_000
    ) == (MULTIPLE * 20_000)


def test_without_a_day_of_history_a_part_of_the_rating_is_usual() -> None:
    assert plausible_wh(
        elapsed_s=DAY_S, history_wh=900_000, history_s=ENOUGH_S - 1, max_power_w=10_000
    ) == (24_000)


@given(
    elapsed=st.integers(0, 400 * DAY_S),
    more=st.integers(0, DAY_S),
    history=st.integers(-(10**6), 10**10),
    seconds=st.integers(0, HISTORY_S),
    power=st.integers(1, 10**7),
)
def test_never_above_the_rating_and_never_less_for_more_time(
    elapsed: int, more: int, history: int, seconds: int, power: int
) -> None:
    def most(elapsed_s: int) -> int:
        return plausible_wh(
            elapsed_s=elapsed_s, history_wh=history, history_s=seconds, max_power_w=power
        )

    assert LEAST_WH <= most(elapsed) <= max(LEAST_WH, power * elapsed // 3600)
    assert most(elapsed) <= most(elapsed + more)
