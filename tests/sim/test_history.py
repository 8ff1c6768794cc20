"""How the demo's people pay: those who shall end with little do so, and nobody owes what nobody may."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prewatt.core.civil_time import instant_us
from prewatt.core.money import MICRO
from prewatt.hes.drivers.lorawan.events import eui_of
from prewatt.hes.drivers.lorawan.models import model_of
from prewatt.sim import onboarding
from prewatt.sim.history import CENT, QUARTER_US, Ahead, HistoryUnit, _wanted, spent_micro
from prewatt.sim.onboarding import _ENDINGS, EMERGENCY_MICRO, opening_balances
from prewatt.sim.property import (
    HOLDS_CREDIT,
    LORAWAN,
    LWM2M,
    MQTT,
    demo_units,
    property_sheets,
    tariffs,
)

ESTATE = demo_units(240)
OPENED = datetime(2026, 8, 29, 22, tzinfo=UTC)
UNTIL = datetime(2026, 11, 27, 9, tzinfo=UTC)


@pytest.mark.parametrize("key", _ENDINGS)
@settings(deadline=None)
@given(start=st.integers(10, 80))
def test_nobody_owes_without_having_been_cut_and_all_end_where_they_shall(
    key: str, start: int
) -> None:
    """The whole life of an account by what it uses: looks in the evening, pays, and never owes more
    than its emergency credit before the very end.
    """
    home = next(each for each in ESTATE if each.key == key)
    target = _ENDINGS[key]
    unit = HistoryUnit(home, 1, 1, 0, target_micro=target)
    opened = instant_us(OPENED)
    at_us = np.arange(opened + QUARTER_US, instant_us(UNTIL) + 1, QUARTER_US, dtype=np.int64)
    spent = spent_micro(home, opened, at_us)
    evenings = [*range(18 * 4 - 1, at_us.size, 96), at_us.size - 1]
    per_day = int(spent[-1]) // 90
    paid = start * MICRO
    lowest = paid
    for look, following in zip(evenings, [*evenings[1:], evenings[-1]], strict=True):
        lowest = min(lowest, paid - int(spent[look]))
        ahead = Ahead(
            (at_us.size - 1 - look) // 96,
            int(spent[following] - spent[look]),
            int(spent[-1] - spent[look]),
        )
        amount = _wanted(unit, 0, paid - int(spent[look]), per_day, ahead)
        assert amount % CENT == 0 and amount >= 0
        paid += amount
    end = paid - int(spent[-1])
    assert target <= end < target + CENT
    assert lowest >= min(end, 0, max(target, -EMERGENCY_MICRO))
    assert lowest >= -EMERGENCY_MICRO or lowest == end


def test_each_house_has_a_radio_of_its_own_and_every_meter_a_name_that_its_driver_takes() -> None:
    """Over units, not meters: who plays in the story is known by the unit, whatever meter it has."""
    drivers = {house: {e.driver for e in ESTATE if e.building == house} for house in "NSA"}
    assert drivers == {"N": {MQTT}, "S": {LWM2M}, "A": {LORAWAN, MQTT}}
    assert {e.key for e in ESTATE if e.building == "A" and e.driver == MQTT} == set(HOLDS_CREDIT)
    assert len({each.serial for each in ESTATE}) == len(ESTATE) == 240
    for each in ESTATE:
        if each.driver == LORAWAN:
            assert eui_of(each.serial) == each.serial and model_of(each.model) is not None
            assert int(each.serial[:2], 16) & 2, "no maker's device has a name that is ours to give"
        assert not (each.signs and each.driver == LORAWAN), "the air is too narrow for signatures"
        assert not (each.has_session and each.driver != LORAWAN)
        assert not (each.holds_credit and each.protection)
    told = {each.key for each in ESTATE if each.signs or each.has_session}
    assert {"PWN101", "PWS305", "PWAA2"} < told, "the story is signed, by each radio"
    assert {e.driver for e in ESTATE if e.key in told} == {
        e.driver for e in ESTATE if e.key not in told
    }


def test_a_short_history_opens_with_what_it_will_use_beside_what_it_shall_end_with() -> None:
    assert opening_balances(ESTATE, opened=OPENED, until=UNTIL) == {}
    begin = UNTIL - timedelta(hours=34)
    opening = opening_balances(ESTATE, opened=begin, until=UNTIL)
    assert set(opening) == set(onboarding._ENDINGS)
    assert opening_balances(ESTATE[:24], opened=begin, until=UNTIL).keys() <= opening.keys()
    at_us = np.arange(instant_us(begin) + QUARTER_US, instant_us(UNTIL) + 1, QUARTER_US, np.int64)
    for key, written in opening.items():
        home = next(each for each in ESTATE if each.key == key)
        used = int(spent_micro(home, instant_us(begin), at_us)[-1])
        left = round(float(written) * 100) * CENT - used
        assert _ENDINGS[key] <= left < _ENDINGS[key] + CENT, key
    sheets = property_sheets(
        ESTATE,
        opened_at=datetime(2026, 11, 24, tzinfo=UTC),
        today=date(2026, 11, 27),
        opening_wh=dict.fromkeys((each.serial for each in ESTATE), 1),
        opening_balances=opening,
    )
    balances = [row.cells["opening_balance"] for row in sheets.rows("accounts")]
    assert set(opening.values()) < set(balances)


@pytest.mark.parametrize("month", range(1, 13))
def test_the_demo_is_in_season_whenever_it_is_looked_at(month: int) -> None:
    from prewatt.core.tariff import parse_tariff
    from prewatt.core.temporary import season_end_us
    from prewatt.estate.calendars import local_calendar

    today = date(2026, month, 28)
    plans = {code: parse_tariff(each) for code, each in tariffs(today).items()}
    season = plans["SEASON"].temporary
    booth = plans["BOOTH-DAY"].temporary
    assert season is not None and booth is not None
    calendar = local_calendar("Europe/Berlin", "DE-HE", 2026, 2027)
    noon = instant_us(datetime(2026, month, 28, 12, tzinfo=UTC))
    ends = season_end_us(season, calendar, noon)
    assert ends is not None and ends > noon + 25 * 86_400_000_000
