"""Steps, free energy, fees and taxes by hand-worked examples, and what must hold of any plan."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cases import cases
from core.tariff_strategies import HOLIDAYS, MOMENTS, ZONES, full_tariff_documents, tariff_documents
from prewatt.core.bounds import Int64, OverflowRefused
from prewatt.core.civil_time import DAY_US, HOUR_US, MINUTE_US, LocalCalendar
from prewatt.core.rating import (
    AccountTerms,
    IntervalRefused,
    PriceEvent,
    RatedUsage,
    TimelineSet,
    UsageState,
    compile_timeline,
    rate_usage,
    splice,
    split_intervals,
)
from prewatt.core.steps import counts_go_on
from prewatt.core.tariff import parse_tariff
from prewatt.core.tariff.model import Allowance, OverlayKind, Tariff, Window

BERLIN = LocalCalendar("Europe/Berlin")
SOME = settings(
    max_examples=cases(16),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def plan(energy: dict[str, Any] | None = None, **more: Any) -> Tariff:
    """One band of three steps at 0.10, 0.20 and 0.40, counted by month, unless said otherwise."""
    written: dict[str, Any] = {
        "unit": "kWh",
        "bands": {"all": {"prices": ["0.10", "0.20", "0.40"]}},
        "steps": {"window": "month", "limits": ["1", "3"]},
    }
    document = {"format": "prewatt-tariff/1", "name": "Steps", "currency": "EUR"}
    return parse_tariff(document | {"energy": written | (energy or {})} | more)


def noon(year: int, month: int, day: int) -> int:
    return BERLIN.start_of_day(date(year, month, day)) + 12 * HOUR_US


def rate(
    tariff: Tariff,
    *usage: tuple[int, int],
    terms: AccountTerms | None = None,
    state: UsageState | None = None,
    **compiled: Any,
) -> RatedUsage:
    """Hours of usage of one account, as (start, Wh)."""
    start, energy = (np.array(each, dtype=np.int64) for each in zip(*usage, strict=True))
    timelines = TimelineSet.of(
        [compile_timeline(tariff, BERLIN, int(start[0]), int(start[-1]) + HOUR_US, **compiled)]
    )
    return rate_on(timelines, start, energy, terms=terms, state=state)


def rate_on(
    timelines: TimelineSet,
    start: Int64,
    energy: Int64,
    *,
    account_index: Int64 | None = None,
    terms: AccountTerms | None = None,
    state: UsageState | None = None,
) -> RatedUsage:
    segments = split_intervals(
        start_at_us=start,
        end_at_us=start + HOUR_US,
        energy_wh=energy,
        timeline_index=np.zeros(start.size, dtype=np.int64),
        timelines=timelines,
    )
    if account_index is None:
        account_index = np.zeros(start.size, dtype=np.int64)
    accounts = int(account_index.max(initial=0)) + 1
    return rate_usage(
        segments=segments,
        account_index=account_index[segments.source_row],
        timelines=timelines,
        terms=terms or AccountTerms.plain(accounts),
        state=state or UsageState.empty(accounts),
    )


def lines(rated: RatedUsage) -> list[tuple[int, int, int, int]]:
    """(Wh, step, nano-units per kWh, micro-units) of each part."""
    columns = (rated.energy_wh, rated.step, rated.price_nano_per_kwh, rated.charge_energy)
    return list(zip(*(each.tolist() for each in columns), strict=True))


def test_energy_is_divided_exactly_at_limits_and_its_time_is_interpolated() -> None:
    at = noon(2025, 5, 1)
    rated = rate(plan(), (at, 500), (at + HOUR_US, 4000))
    assert lines(rated) == [
        (500, 0, 100_000_000, 50_000),
        (500, 0, 100_000_000, 50_000),
        (2000, 1, 200_000_000, 400_000),
        (1500, 2, 400_000_000, 600_000),
    ]
    assert rated.source_row.tolist() == [0, 1, 1, 1]
    assert (rated.start_at_us - at).tolist() == [
        0,
        HOUR_US,
        HOUR_US + HOUR_US // 8,
        HOUR_US + HOUR_US * 5 // 8,
    ]
    assert (rated.end_at_us - at).tolist() == [
        HOUR_US,
        HOUR_US + HOUR_US // 8,
        HOUR_US + HOUR_US * 5 // 8,
        2 * HOUR_US,
    ]
    assert (rated.state.step_wh.tolist(), rated.late.any()) == ([[4500]], False)


def test_usage_equal_to_a_limit_lies_in_the_lower_step() -> None:
    at = noon(2025, 5, 1)
    rated = rate(plan(), (at, 1000), (at + HOUR_US, 0), (at + 2 * HOUR_US, 1))
    assert [step for _, step, _, _ in lines(rated)] == [0, 0, 1]
    full = rate(plan(), (at, 1000)).state
    assert [step for _, step, _, _ in lines(rate(plan(), (at + HOUR_US, 0), state=full))] == [0]


def test_a_count_begins_anew_with_its_window() -> None:
    rated = rate(plan(), (noon(2025, 5, 31), 2000), (noon(2025, 6, 1), 500))
    assert [line[:2] for line in lines(rated)] == [(1000, 0), (1000, 1), (500, 0)]
    assert rated.state.step_window.tolist() == [BERLIN.start_of_day(date(2025, 6, 1))]
    assert rated.state.step_wh.tolist() == [[500]]


def test_accounts_that_meet_in_one_window_are_counted_apart() -> None:
    may, june = noon(2025, 5, 31), noon(2025, 6, 1)
    timelines = TimelineSet.of([compile_timeline(plan(), BERLIN, may, june + 2 * HOUR_US)])
    rated = rate_on(
        timelines,
        np.array([may, june, june, june + HOUR_US], dtype=np.int64),
        np.array([400, 900, 800, 100], dtype=np.int64),
        account_index=np.array([0, 0, 1, 1], dtype=np.int64),
    )
    assert [line[:2] for line in lines(rated)] == [(400, 0), (900, 0), (800, 0), (100, 0)]
    assert rated.state.step_wh.tolist() == [[900], [900]]


WHOLE = {
    "bands": {
        "day": {"prices": ["0.30", "0.50"]},
        "night": {"prices": ["0.10", "0.20"]},
    },
    "schedule": [
        {
            "periods": [
                {"from": "00:00", "until": "13:00", "band": "night"},
                {"from": "13:00", "until": "24:00", "band": "day"},
            ]
        }
    ],
    "steps": {"window": "month", "kind": "whole_usage", "limits": ["3"]},
}


def test_whole_usage_reprices_what_every_band_used_in_the_window_when_a_step_is_reached() -> None:
    at = noon(2025, 5, 1)
    rated = rate(plan(WHOLE), (at, 1000), (at + HOUR_US, 4000))
    assert lines(rated) == [
        (1000, 0, 100_000_000, 100_000),
        (2000, 0, 300_000_000, 600_000),
        # 2 kWh by day at 0.50, with 2 more that were 0.20 too cheap and one by night, 0.10.
        (2000, 1, 500_000_000, 1_000_000 + 400_000 + 100_000),
    ]
    assert int(rated.charge_energy.sum()) == 4 * 500_000 + 200_000
    assert rated.state.step_wh.tolist() == [[4000, 1000]]


def test_limits_of_the_season_in_force_hold_for_a_count_that_goes_on() -> None:
    seasons = {
        "cold": [{"from": "06-01", "until": "05-01"}],
        "warm": [{"from": "05-01", "until": "06-01"}],
    }
    limits = {"cold": ["2", "9"], "warm": ["1", "3"]}
    tariff = plan({"seasons": seasons, "steps": {"window": "year", "limits": limits}})
    rated = rate(tariff, (noon(2025, 4, 30), 1500), (noon(2025, 5, 1), 1000), (noon(2025, 6, 1), 9))
    assert [line[:2] for line in lines(rated)] == [(1500, 0), (1000, 1), (9, 1)]
    assert rated.state.step_wh.tolist() == [[2509]]


def test_no_step_reprices_energy_at_an_announced_price_of_its_own() -> None:
    at = noon(2025, 5, 1)
    peak = PriceEvent(OverlayKind.CRITICAL_PEAK, "all", at, at + HOUR_US)
    tariff = plan(WHOLE, overlays=[{"kind": "critical_peak", "group": "all", "price": "1"}])
    rated = rate(tariff, (at, 2000), (at + HOUR_US, 2000), events=[peak])
    assert lines(rated) == [
        (2000, 0, 1_000_000_000, 2_000_000),
        (1000, 0, 300_000_000, 300_000),
        # Only the 1 kWh by day was too cheap, by 0.20.
        (1000, 1, 500_000_000, 500_000 + 200_000),
    ]
    assert rated.state.step_wh.tolist() == [[2000, 0, 2000]]
    each = WHOLE | {"steps": WHOLE["steps"] | {"scope": "each"}}
    alone = rate(replace(tariff, steps=plan(each).steps), (at, 5000), events=[peak])
    assert lines(alone) == [(5000, 0, 1_000_000_000, 5_000_000)]


def test_two_limits_that_scaling_makes_equal_are_both_reached_at_once() -> None:
    steps = {"window": "month", "kind": "whole_usage", "limits": ["0.004", "0.005"]}
    tariff = plan({"steps": steps | {"scale": "contracted_kw"}})
    # 1.2 and 1.5 Wh, cut off.
    terms = AccountTerms(*(np.array([each]) for each in (1, 300, 0)))
    rated = rate(tariff, (noon(2025, 5, 1), 2), terms=terms)
    assert lines(rated) == [(1, 0, 100_000_000, 100), (1, 2, 400_000_000, 400 + 300)]


def test_where_each_band_counts_by_itself_only_its_own_usage_reaches_its_step() -> None:
    steps = WHOLE["steps"] | {"scope": "each"}
    at = noon(2025, 5, 1)
    rated = rate(plan(WHOLE | {"steps": steps}), (at, 2900), (at + HOUR_US, 4000))
    assert lines(rated) == [
        (2900, 0, 100_000_000, 290_000),
        (3000, 0, 300_000_000, 900_000),
        (1000, 1, 500_000_000, 500_000 + 600_000),
    ]


@pytest.mark.parametrize(
    ("scale", "members", "contracted_w", "first_limit_wh"),
    [
        ({"scale": "days"}, 1, 0, 31_000),
        ({"scale": "members"}, 3, 0, 3_000),
        ({"scale": "members", "members": {"included": 4, "add": ["0.5", "9"]}}, 6, 0, 2_000),
        ({"scale": "members", "members": {"included": 4, "add": ["0.5", "9"]}}, 2, 0, 1_000),
        ({"scale": "contracted_kw"}, 1, 6_999, 6_999),
        ({"scale": "contracted_kw"}, 1, 0, 0),
    ],
)
def test_limits_are_scaled_by_days_members_or_contracted_power(
    scale: dict[str, Any], members: int, contracted_w: int, first_limit_wh: int
) -> None:
    tariff = plan({"steps": {"window": "month", "limits": ["1", "3"], **scale}})
    terms = AccountTerms(*(np.array([each]) for each in (members, contracted_w, 0)))
    rated = rate(tariff, (noon(2025, 5, 7), 40_000), terms=terms)
    assert int(rated.energy_wh[rated.step == 0].sum()) == first_limit_wh


def test_a_purchase_begins_a_new_count() -> None:
    tariff = plan({"steps": {"window": "purchase", "limits": ["1", "3"]}})
    at, none = noon(2025, 5, 1), np.zeros(1, dtype=np.int64)
    terms = [AccountTerms(none + 1, none, none + number) for number in (4, 4, 5)]
    first = rate(tariff, (at, 800), terms=terms[0])
    second = rate(tariff, (at + HOUR_US, 400), terms=terms[1], state=first.state)
    third = rate(tariff, (at + 2 * HOUR_US, 900), terms=terms[2], state=second.state)
    assert [lines(each)[0][:2] for each in (first, second, third)] == [(800, 0), (200, 0), (900, 0)]
    assert lines(second)[1][:2] == (200, 1)
    assert (third.state.step_window.tolist(), third.state.step_wh.tolist()) == ([5], [[900]])


def test_free_energy_costs_the_customer_neither_energy_nor_the_tax_on_it() -> None:
    tariff = plan(
        fees=[{"code": "care", "per_kwh": "0.01"}, {"code": "share", "share": "10"}],
        taxes=[
            {"code": "vat", "rate": "20", "on": ["energy", "fee"]},
        ],
        allowances=[{"code": "basic", "free_kwh": "0.4"}, {"code": "aid", "per_kwh": "0.02"}],
    )
    rated = rate(tariff, (noon(2025, 5, 1), 1000))
    assert lines(rated) == [
        (400, 0, 100_000_000, 40_000),
        (600, 0, 100_000_000, 60_000),
    ]
    # A cent per kWh and a tenth of the energy.
    assert rated.charge_fee.tolist() == [4_000 + 4_000, 6_000 + 6_000]
    assert rated.charge_tax.tolist() == [9_600, 14_400]
    assert rated.charge_subsidy.tolist() == [-(40_000 + 8_000) - 8_000, -12_000]
    assert rated.state.allowance_wh.tolist() == [1000]
    after = rate(tariff, (noon(2025, 5, 2), 1000), state=rated.state)
    assert after.charge_subsidy.tolist() == [-20_000]
    june = rate(tariff, (noon(2025, 6, 2), 100), state=after.state)
    assert june.charge_subsidy.tolist() == [-(10_000 + 2_000) - 2_000]


def test_a_tax_that_fees_contain_is_taken_out_of_them() -> None:
    tariff = plan(
        fees=[{"code": "care", "per_kwh": "0.012"}, {"code": "share", "share": "60"}],
        taxes=[{"code": "vat", "rate": "20", "inclusive": True, "on": ["fee"]}],
    )
    rated = rate(tariff, (noon(2025, 5, 1), 1000))
    assert rated.charge_energy.tolist() == [100_000]
    # A cent and a half of the energy, net; with the tax 0.012 and 60 %.
    assert rated.charge_fee.tolist() == [10_000 + 50_000]
    assert rated.charge_tax.tolist() == [12_000]


def test_an_announced_price_replaces_or_raises_the_bands_own() -> None:
    at = noon(2025, 5, 1)
    peak = PriceEvent(OverlayKind.CRITICAL_PEAK, "all", at + 30 * MINUTE_US, at + HOUR_US)
    own = plan(overlays=[{"kind": "critical_peak", "group": "all", "price": "1.50"}])
    rated = rate(own, (at, 3000), events=[peak])
    assert lines(rated) == [
        (1000, 0, 100_000_000, 100_000),
        (500, 1, 200_000_000, 100_000),
        (1500, 1, 1_500_000_000, 2_250_000),
    ]
    above = plan(overlays=[{"kind": "critical_peak", "group": "all", "adder": "1"}])
    assert [line[2] for line in lines(rate(above, (at, 3000), events=[peak]))] == [
        100_000_000,
        200_000_000,
        1_200_000_000,
    ]
    other = replace(peak, group="others")
    assert len(rate(own, (at, 3000), events=[other])) == 2


def test_real_time_prices_hold_where_the_series_has_one_and_may_be_negative() -> None:
    at = noon(2025, 5, 1)
    prices = [
        PriceEvent(OverlayKind.REAL_TIME, "market", at, at + 15 * MINUTE_US, -50_000_001),
        PriceEvent(
            OverlayKind.REAL_TIME, "market", at + 15 * MINUTE_US, at + 30 * MINUTE_US, 80_000_000
        ),
    ]
    overlay = {"kind": "real_time", "group": "market", "share": "50", "adder": "0.01"}
    rated = rate(plan(overlays=[overlay]), (at, 1000), events=prices)
    assert lines(rated) == [
        # Half of −50,000,001 is rounded to the even −25,000,000.
        (250, 0, -15_000_000, -3_750),
        (250, 0, 50_000_000, 12_500),
        (500, 0, 100_000_000, 50_000),
    ]


def test_of_prices_announced_for_the_same_time_the_last_holds() -> None:
    at = noon(2025, 5, 1)
    whole, later = (
        PriceEvent(OverlayKind.REAL_TIME, "market", at + begin, at + HOUR_US, price)
        for begin, price in ((-DAY_US, 10_000_000), (HOUR_US // 2, 20_000_000))
    )
    tariff = plan(overlays=[{"kind": "real_time", "group": "market"}])
    for events, prices in (
        ([whole, later], [10_000_000, 20_000_000]),
        ([later, whole], [10_000_000]),
    ):
        rated = rate(tariff, (at, 900), events=events)
        assert rated.price_nano_per_kwh.tolist() == prices
    peak = PriceEvent(OverlayKind.CRITICAL_PEAK, "all", at, at + HOUR_US)
    above = {"kind": "critical_peak", "group": "all", "adder": "1"}
    both = plan(overlays=[above, {"kind": "real_time", "group": "market"}])
    rated = rate(both, (at, 900), events=[peak, whole])
    assert rated.price_nano_per_kwh.tolist() == [1_010_000_000]


def test_a_tax_changes_at_the_local_midnight_of_its_date() -> None:
    taxes = [
        {"code": "vat", "rate": "19", "until": "2025-05-02"},
        {"code": "vat", "rate": "7", "from": "2025-05-02"},
    ]
    midnight = BERLIN.start_of_day(date(2025, 5, 2))
    rated = rate(plan(taxes=taxes), (midnight - HOUR_US // 2, 1000))
    assert rated.charge_tax.tolist() == [9_500, 3_500]
    assert rate(
        plan(taxes=taxes), (midnight - HOUR_US // 2, 1000), exempt=frozenset({"vat"})
    ).charge_tax.tolist() == [0, 0]


def test_usage_of_a_window_before_the_accounts_own_is_flagged_and_left_out() -> None:
    tariff = plan()
    may, june = noon(2025, 5, 30), noon(2025, 6, 3)
    state = rate(tariff, (june, 900)).state
    start = np.array([may, june + HOUR_US, may, june], dtype=np.int64)
    timelines = TimelineSet.of([compile_timeline(tariff, BERLIN, may, june + 2 * HOUR_US)])
    both = replace(
        UsageState.empty(2, 1),
        step_window=np.append(state.step_window, 0),
        step_wh=np.append(state.step_wh, [[0]], axis=0),
    )
    rated = rate_on(
        timelines,
        start,
        np.array([5000, 200, 5000, 100], dtype=np.int64),
        account_index=np.array([0, 0, 1, 1], dtype=np.int64),
        state=both,
    )
    assert rated.late.tolist() == [True, False, False, False]
    assert rated.source_row.tolist() == [1, 1, 2, 2, 2, 3]
    assert [line[:2] for line in lines(rated)[:2]] == [(100, 0), (100, 1)]
    assert rated.state.step_wh.tolist() == [[1100], [100]]
    only_late = rate(tariff, (may, 5000), state=state)
    assert (len(only_late), only_late.late.tolist()) == (0, [True])
    assert only_late.state.step_wh.tolist() == state.step_wh.tolist()


def test_usage_before_the_month_of_free_energy_is_late_under_yearly_steps_too() -> None:
    tariff = plan(
        {"steps": {"window": "year", "limits": ["1", "3"]}},
        allowances=[{"code": "basic", "free_kwh": "0.4"}],
    )
    state = rate(tariff, (noon(2025, 6, 3), 100)).state
    assert rate(tariff, (noon(2025, 5, 3), 100), state=state).late.tolist() == [True]


def test_a_longer_window_of_a_later_version_goes_on_with_the_count_and_is_not_late() -> None:
    by_month, by_year = plan(), plan({"steps": {"window": "year", "limits": ["1", "3"]}})
    at = noon(2025, 5, 3)
    state = rate(by_month, (at, 900)).state
    rated = rate(by_year, (at + HOUR_US, 200), state=state)
    assert [line[:2] for line in lines(rated)] == [(100, 0), (100, 1)]
    assert not counts_go_on(by_month, by_year)
    at_the_very_start = rate(by_year, (BERLIN.start_of_day(date(2025, 5, 1)), 200), state=state)
    assert not at_the_very_start.late.any()
    anew = rate(by_year, (at + HOUR_US, 200), state=state, counts_from_us=at + HOUR_US)
    assert [line[:2] for line in lines(anew)] == [(200, 0)]


def test_counts_go_on_between_versions_that_count_the_same() -> None:
    first = plan()
    assert counts_go_on(first, plan({"steps": {"window": "month", "limits": ["2", "9"]}}))
    assert not counts_go_on(first, plan({"steps": {"window": "quarter", "limits": ["1", "3"]}}))
    assert not counts_go_on(plan(WHOLE), first)
    assert counts_go_on(plan(WHOLE), plan(WHOLE, billing_day=7))
    for window, moved in (("billing_month", {"billing_day": 7}), ("year", {"year_from": "07-01"})):
        counted = {"steps": {"window": window, "limits": ["1", "3"]}}
        assert counts_go_on(plan(counted), plan(counted))
        assert not counts_go_on(plan(counted), plan(counted, **moved))
    peak = {"kind": "critical_peak", "group": "all"}
    assert counts_go_on(plan(WHOLE), plan(WHOLE, overlays=[peak | {"adder": "1"}]))
    assert not counts_go_on(plan(WHOLE), plan(WHOLE, overlays=[peak | {"price": "1"}]))
    assert not counts_go_on(first, replace(first, steps=None))


def test_a_spliced_timeline_carries_a_count_from_one_version_to_the_next() -> None:
    at = noon(2025, 5, 3)
    dearer = plan({"bands": {"all": {"prices": ["0.11", "0.21", "0.41"]}}})
    parts = [
        (begin, compile_timeline(tariff, BERLIN, at, at + 2 * HOUR_US))
        for begin, tariff in ((at, plan()), (at + HOUR_US, dearer))
    ]
    start = np.array([at, at + HOUR_US], dtype=np.int64)
    rated = rate_on(TimelineSet.of([splice(parts)]), start, np.array([900, 200], dtype=np.int64))
    assert [line[:3] for line in lines(rated)] == [
        (900, 0, 100_000_000),
        (100, 0, 110_000_000),
        (100, 1, 210_000_000),
    ]


def test_a_day_of_25_hours_counts_25_hours_and_one_of_23_counts_23() -> None:
    tariff = plan({"steps": {"window": "day", "limits": ["10", "20"]}})
    for day, hours in ((date(2025, 10, 26), 25), (date(2025, 3, 30), 23), (date(2025, 7, 1), 24)):
        midnight = BERLIN.start_of_day(day)
        rated = rate(tariff, *((midnight + each * HOUR_US, 1000) for each in range(hours)))
        used = [int(rated.energy_wh[rated.step == step].sum()) for step in range(3)]
        assert used == [10_000, 10_000, (hours - 20) * 1000]
        assert BERLIN.start_of_day(date.fromordinal(day.toordinal() + 1)) == (
            midnight + hours * HOUR_US
        )


def test_energy_that_is_given_back_is_refused_where_it_would_be_counted() -> None:
    at = noon(2025, 5, 1)
    with pytest.raises(IntervalRefused) as refusal:
        rate(plan(), (at, 5), (at + HOUR_US, -1))
    assert (refusal.value.reason, refusal.value.row) == ("negative", 1)
    uncounted = replace(plan(), steps=None)
    assert rate(uncounted, (at, 5), (at + HOUR_US, -5)).charge_energy.tolist() == [500, -500]


def test_rows_out_of_time_and_states_out_of_range_are_refused() -> None:
    at, tariff = noon(2025, 5, 1), plan()
    timelines = TimelineSet.of([compile_timeline(tariff, BERLIN, at, at + DAY_US)])
    energy = np.array([1, 1], dtype=np.int64)
    with pytest.raises(ValueError, match="sorted by time"):
        rate_on(timelines, np.array([at + HOUR_US, at], dtype=np.int64), energy)
    with pytest.raises(ValueError, match="account_index"):
        rate_on(
            timelines,
            np.array([at, at], dtype=np.int64),
            energy,
            account_index=np.array([1, 0], dtype=np.int64),
        )
    other = TimelineSet.of([compile_timeline(tariff, BERLIN, at, at + DAY_US)])
    with pytest.raises(ValueError, match="other timelines"):
        rate_usage(
            segments=split_intervals(
                start_at_us=np.array([at]),
                end_at_us=np.array([at + 1]),
                energy_wh=energy[:1],
                timeline_index=np.zeros(1, dtype=np.int64),
                timelines=other,
            ),
            account_index=np.zeros(1, dtype=np.int64),
            timelines=timelines,
            terms=AccountTerms.plain(1),
            state=UsageState.empty(1),
        )
    with pytest.raises(ValueError, match="carry"):
        rate(tariff, (at, 1), state=replace(UsageState.empty(1), carry_tax=np.array([10**9])))
    with pytest.raises(OverflowRefused):
        rate(tariff, (at, 1), state=replace(UsageState.empty(1, 1), step_wh=np.array([[2**62]])))
    with pytest.raises(OverflowRefused):
        rate(tariff, (at, 2**62))


def test_a_tariff_with_two_kinds_of_free_energy_cannot_be_counted() -> None:
    free = Allowance("one", "one", 1, Window.MONTH, 0)
    twice = replace(plan(), allowances=(free, replace(free, code="two")))
    with pytest.raises(ValueError, match="one allowance"):
        compile_timeline(twice, BERLIN, noon(2025, 5, 1), noon(2025, 5, 2))


def test_an_empty_batch_changes_nothing() -> None:
    at, tariff = noon(2025, 5, 1), plan()
    timelines = TimelineSet.of([compile_timeline(tariff, BERLIN, at, at + DAY_US)])
    none = np.zeros(0, dtype=np.int64)
    state = rate(tariff, (at, 777)).state
    rated = rate_on(timelines, none, none, state=state)
    assert (len(rated), rated.late.size) == (0, 0)
    assert rated.state.step_wh.tolist() == [[777]]


def totals(tariff: Tariff, zone: str, start: Int64, energy: Int64) -> list[int]:
    calendar = LocalCalendar(zone, HOLIDAYS)
    timelines = TimelineSet.of(
        [compile_timeline(tariff, calendar, int(start[0]), int(start[-1]) + HOUR_US)]
    )
    rated = rate_on(timelines, start, energy)
    columns = (rated.charge_energy, rated.charge_fee, rated.charge_tax, rated.charge_subsidy)
    return [int(each.sum()) for each in columns]


@st.composite
def hours_of_usage(draw: st.DrawFn) -> tuple[Int64, Int64]:
    """(starts, Wh) of up to forty hours."""
    energy = draw(st.lists(st.integers(0, 3_000), min_size=1, max_size=40))
    first = draw(st.sampled_from(MOMENTS)) - draw(st.integers(0, 30)) * HOUR_US
    hours = np.arange(len(energy), dtype=np.int64)
    return first + hours * HOUR_US, np.array(energy, dtype=np.int64)


@st.composite
def rising(draw: st.DrawFn) -> Tariff:
    """Graduated steps whose prices rise, with fees, a tax and free energy, and no rebate."""
    document = draw(tariff_documents())
    energy = document["energy"]
    limits = sorted(draw(st.sets(st.integers(1, 40), min_size=1, max_size=3)))
    window = draw(st.sampled_from(("day", "month", "billing_month", "quarter", "year")))
    scope = draw(st.sampled_from(("all", "each")))
    energy["steps"] = {"window": window, "scope": scope, "limits": [str(each) for each in limits]}
    for band in energy["bands"].values():
        first = int(float(band.pop("price")) * 1000)
        rises = draw(st.lists(st.integers(0, 500), min_size=len(limits), max_size=len(limits)))
        steps = np.cumsum([first, *rises]).tolist()
        band["prices"] = [f"{each / 1000:.3f}" for each in steps]
    document["fees"] = [{"code": "care", "per_kwh": "0.013"}, {"code": "share", "share": "3.3"}]
    document["taxes"] = [{"code": "vat", "rate": "19", "inclusive": draw(st.booleans())}]
    if draw(st.booleans()):
        document["allowances"] = [{"code": "basic", "free_kwh": str(draw(st.integers(1, 9)))}]
    return parse_tariff(document)


@SOME
@given(rising(), st.sampled_from(ZONES), hours_of_usage(), st.data())
def test_more_usage_never_lowers_a_bill_whose_steps_rise(
    tariff: Tariff, zone: str, usage: tuple[Int64, Int64], data: st.DataObject
) -> None:
    start, energy = usage
    more = energy.copy()
    more[data.draw(st.integers(0, energy.size - 1))] += data.draw(st.integers(1, 50_000))
    less, bill = (sum(totals(tariff, zone, start, each)) for each in (energy, more))
    assert bill >= less


@SOME
@given(full_tariff_documents(), st.sampled_from(ZONES), hours_of_usage())
def test_no_usage_costs_nothing(
    document: dict[str, Any], zone: str, usage: tuple[Int64, Int64]
) -> None:
    start, energy = usage
    assert totals(parse_tariff(document), zone, start, energy * 0) == [0, 0, 0, 0]


@SOME
@given(full_tariff_documents(), st.sampled_from(ZONES), hours_of_usage())
def test_lines_that_are_not_repriced_are_energy_times_price(
    document: dict[str, Any], zone: str, usage: tuple[Int64, Int64]
) -> None:
    document["energy"].get("steps", {}).pop("kind", None)
    start, energy = usage
    tariff = parse_tariff(document)
    timelines = TimelineSet.of(
        [
            compile_timeline(
                tariff, LocalCalendar(zone, HOLIDAYS), int(start[0]), int(start[-1]) + HOUR_US
            )
        ]
    )
    rated = rate_on(timelines, start, energy)
    exact = rated.energy_wh * rated.price_nano_per_kwh
    assert (np.abs(rated.charge_energy * 10**6 - exact) < 10**6).all()
    assert np.cumsum(rated.charge_energy).tolist() == (np.cumsum(exact) // 10**6).tolist()
