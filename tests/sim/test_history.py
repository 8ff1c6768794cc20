"""How the demo's people pay: those who shall end with little do so, however short the history."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from prewatt.core.money import MICRO
from prewatt.sim import onboarding
from prewatt.sim.history import CENT, HistoryUnit, _wanted
from prewatt.sim.property import demo_units, property_sheets

UNIT = demo_units(24)[0]


def unit(target_micro: int) -> HistoryUnit:
    return HistoryUnit(UNIT, 1, 1, 0, target_micro=target_micro)


@given(
    target=st.integers(-10 * MICRO, 10 * MICRO),
    short=st.integers(0, 40 * MICRO),
    per_day=st.integers(0, 20 * MICRO),
    days_left=st.integers(1, 14),
)
def test_nobody_pays_past_what_they_shall_end_with(
    target: int, short: int, per_day: int, days_left: int
) -> None:
    paid = _wanted(unit(target), 0, target - short, per_day, days_left=days_left, is_last=False)
    assert 0 <= paid <= short
    last = _wanted(unit(target), 0, target - short + paid, per_day, days_left=0, is_last=True)
    assert 0 <= target - short + paid + last - target < CENT


def test_a_short_history_opens_where_it_shall_end() -> None:
    assert onboarding._opening_balances(90) == {}
    opening = onboarding._opening_balances(1)
    assert set(opening) == set(onboarding._ENDINGS)
    assert opening["PWN305"] == "3.90"
    assert opening["PWN704"] == "-2.80"
    sheets = property_sheets(
        demo_units(240),
        opened_at=datetime(2026, 11, 24, tzinfo=UTC),
        opening_wh=dict.fromkeys((each.serial for each in demo_units(240)), 1),
        opening_balances=opening,
    )
    balances = [row.cells["opening_balance"] for row in sheets.rows("accounts")]
    assert set(opening.values()) < set(balances)
