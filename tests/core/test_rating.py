"""Rating against the exact model, under random tariffs, places, histories and batch boundaries."""

from __future__ import annotations

from datetime import date
from math import floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import cases
from core.exact_model import ExactPrices, exact_charges
from core.tariff_strategies import HOLIDAYS, MOMENTS, ZONES, tariff_documents
from prewatt.core.bounds import OverflowRefused
from prewatt.core.civil_time import DAY_US, HOUR_US, MINUTE_US, SECOND_US, LocalCalendar
from prewatt.core.rating import (
    CARRY_DENOMINATOR,
    Component,
    IntervalRefused,
    PriceTimeline,
    TimelineSet,
    charge_segments,
    compile_timeline,
    splice,
    split_intervals,
)
from prewatt.core.tariff import parse_tariff

SPAN = 12 * DAY_US


def column(*values: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


def flat_timeline(price: str, from_us: int = 0, to_us: int = DAY_US) -> PriceTimeline:
    document = {
        "format": "prewatt-tariff/1",
        "name": "Flat",
        "currency": "EUR",
        "energy": {"unit": "kWh", "bands": {"all": {"price": price}}},
    }
    start = 10 * 366 * DAY_US
    return compile_timeline(
        parse_tariff(document), LocalCalendar("UTC"), start + from_us, start + to_us
    )


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Readings of one meter near an unusual moment, as (instant, register); steps of many sizes."""
    at_us = draw(st.sampled_from(MOMENTS)) + draw(st.integers(-120, 120)) * MINUTE_US
    value = draw(st.integers(0, 10**6))
    readings = [(at_us, value)]
    for _ in range(draw(st.integers(1, 12))):
        step = draw(
            st.one_of(
                st.just(15 * MINUTE_US),
                st.integers(1, 7200).map(lambda seconds: seconds * SECOND_US),
                st.integers(1, 26 * HOUR_US),
            )
        )
        at_us += step
        value += draw(st.one_of(st.integers(0, 500), st.integers(0, 10**7)))
        readings.append((at_us, value))
    return readings


def rate_in_batches(
    histories: list[list[tuple[int, int]]],
    timeline_of: list[int],
    timelines: TimelineSet,
    cuts: list[int],
) -> tuple[list[list[int]], list[int]]:
    """Charges per account in time order, rated in batches that end after `cuts` intervals each."""
    carry = np.zeros(len(histories), dtype=np.int64)
    charges: list[list[int]] = [[] for _ in histories]
    done = [0] * len(histories)
    for cut in [*cuts, 10**6]:
        rows = [
            (account, *history[i], *history[i + 1])
            for account, history in enumerate(histories)
            for i in range(done[account], min(done[account] + cut, len(history) - 1))
        ]
        done = [
            min(each + cut, len(history) - 1) for each, history in zip(done, histories, strict=True)
        ]
        account, start, low, end, high = np.array(rows, dtype=np.int64).reshape(-1, 5).T
        parts = split_intervals(
            start_at_us=start,
            end_at_us=end,
            energy_wh=high - low,
            timeline_index=np.array(timeline_of, dtype=np.int64)[account],
            timelines=timelines,
        )
        charge, carry = charge_segments(
            account_index=account[parts.source_row],
            energy_wh=parts.energy_wh,
            price_nano_per_kwh=parts.price_nano_per_kwh,
            carry=carry,
        )
        for who, amount in zip(account[parts.source_row].tolist(), charge.tolist(), strict=True):
            charges[who].append(amount)
    return charges, carry.tolist()


@settings(max_examples=cases(80), deadline=None)
@given(data=st.data())
def test_charges_equal_the_exact_model_whatever_the_batches(data: st.DataObject) -> None:
    zones = data.draw(st.lists(st.sampled_from(ZONES), min_size=1, max_size=3))
    documents = [data.draw(tariff_documents()) for _ in zones]
    accounts = data.draw(st.lists(histories(), min_size=1, max_size=4))
    timeline_of = [data.draw(st.integers(0, len(zones) - 1)) for _ in accounts]
    timelines = TimelineSet.of(
        [
            compile_timeline(
                parse_tariff(document),
                LocalCalendar(zone, HOLIDAYS),
                min(MOMENTS) - DAY_US,
                max(MOMENTS) + 2 * SPAN,
            )
            for zone, document in zip(zones, documents, strict=True)
        ]
    )
    cuts = data.draw(st.lists(st.integers(1, 4), max_size=5))
    charges, carries = rate_in_batches(accounts, timeline_of, timelines, cuts)
    whole, whole_carries = rate_in_batches(accounts, timeline_of, timelines, [])
    assert (charges, carries) == (whole, whole_carries)
    for history, which, lines, carry in zip(accounts, timeline_of, charges, carries, strict=True):
        prices = ExactPrices(zones[which], [(0, documents[which])], HOLIDAYS)
        exact = exact_charges(history, prices)
        assert sum(lines) == floor(exact)
        assert (exact - floor(exact)) * CARRY_DENOMINATOR[Component.ENERGY] == carry


@settings(max_examples=cases(80), deadline=None)
@given(tariff_documents(), tariff_documents(), st.sampled_from(ZONES), histories(), st.data())
def test_a_split_keeps_energy_and_prices_each_part_by_its_own_wall_clock(
    first: dict[str, Any],
    second: dict[str, Any],
    zone: str,
    history: list[tuple[int, int]],
    data: st.DataObject,
) -> None:
    calendar = LocalCalendar(zone, HOLIDAYS)
    begin, end = history[0][0], history[-1][0]
    change = data.draw(st.integers(begin, end))
    tariffs = [parse_tariff(document) for document in (first, second)]
    compiled = [
        compile_timeline(tariff, calendar, begin - DAY_US, end + 1, version_id=version)
        for version, tariff in enumerate(tariffs)
    ]
    timeline = splice([(begin - DAY_US, compiled[0]), (change, compiled[1])])
    prices = ExactPrices(zone, [(0, first), (change, second)], HOLIDAYS)
    start, low = np.array(history[:-1], dtype=np.int64).T
    until, high = np.array(history[1:], dtype=np.int64).T
    energy = (high - low) * data.draw(st.sampled_from((1, -1)))
    parts = split_intervals(
        start_at_us=start,
        end_at_us=until,
        energy_wh=energy,
        timeline_index=np.zeros(start.size, dtype=np.int64),
        timelines=TimelineSet.of([timeline]),
    )
    back = np.zeros(start.size, dtype=np.int64)
    np.add.at(back, parts.source_row, parts.energy_wh)
    assert back.tolist() == energy.tolist()
    for i in range(len(parts)):
        row, at_us, to_us = parts.source_row[i], int(parts.start_at_us[i]), int(parts.end_at_us[i])
        assert at_us == (start[row] if parts.segment_no[i] == 0 else parts.end_at_us[i - 1])
        assert at_us < to_us
        for instant in (at_us, to_us - 1):
            version, band, price = prices.at(instant)
            assert parts.version_id[i] == version
            assert tariffs[version].bands[parts.band[i]].name == band
            assert parts.price_nano_per_kwh[i] == price * 10**9
            assert parts.local_day[i] == calendar.local_day(column(instant))[0]
    assert parts.end_at_us[
        np.append(parts.source_row[1:] != parts.source_row[:-1], True)
    ].tolist() == (until.tolist())


def test_a_gap_of_years_at_a_huge_load_divides_without_overflow() -> None:
    timeline = flat_timeline("0.1", to_us=1200 * DAY_US)
    start, end = int(timeline.edge_at_us[0]) + 1, timeline.until_at_us - 1
    parts = split_intervals(
        start_at_us=column(start),
        end_at_us=column(end),
        energy_wh=column(10**15 + 7),
        timeline_index=column(0),
        timelines=TimelineSet.of([timeline]),
    )
    assert len(parts) == 1200
    assert int(parts.energy_wh.sum()) == 10**15 + 7
    third = int(parts.end_at_us[2])
    assert int(parts.energy_wh[:3].sum()) == (10**15 + 7) * (third - start) // (end - start)


def test_an_interval_that_ends_on_an_edge_has_no_empty_part() -> None:
    timeline = flat_timeline("0.1", to_us=3 * DAY_US)
    origin = int(timeline.edge_at_us[0])
    parts = split_intervals(
        start_at_us=column(origin, origin),
        end_at_us=column(origin + 2 * DAY_US, origin + 3 * DAY_US),
        energy_wh=column(5, 7),
        timeline_index=column(0, 0),
        timelines=TimelineSet.of([timeline]),
    )
    assert parts.source_row.tolist() == [0, 0, 1, 1, 1]
    assert parts.segment_no.tolist() == [0, 1, 0, 1, 2]
    assert parts.energy_wh.tolist() == [2, 3, 2, 2, 3]


def test_a_day_of_25_hours_bills_25_hours_and_one_of_23_bills_23() -> None:
    berlin = LocalCalendar("Europe/Berlin")
    for day, hours in ((date(2025, 10, 26), 25), (date(2025, 3, 30), 23), (date(2025, 7, 1), 24)):
        start = berlin.start_of_day(day)
        starts, end = berlin.day_starts(start, start + 1).tolist()
        assert (starts, end - starts) == (start, hours * HOUR_US)
        tariff = parse_tariff(
            {
                "format": "prewatt-tariff/1",
                "name": "Night",
                "currency": "EUR",
                "energy": {
                    "unit": "kWh",
                    "bands": {"night": {"price": "0.10"}, "day": {"price": "0.30"}},
                    "schedule": [
                        {
                            "periods": [
                                {"from": "00:00", "until": "06:00", "band": "night"},
                                {"from": "06:00", "until": "24:00", "band": "day"},
                            ]
                        }
                    ],
                },
            }
        )
        timelines = TimelineSet.of([compile_timeline(tariff, berlin, start, end)])
        at = np.arange(start, end, 15 * MINUTE_US, dtype=np.int64)
        parts = split_intervals(
            start_at_us=at,
            end_at_us=at + 15 * MINUTE_US,
            energy_wh=np.full(at.size, 250, dtype=np.int64),
            timeline_index=np.zeros(at.size, dtype=np.int64),
            timelines=timelines,
        )
        night = hours - 18
        by_price = {
            price: int(parts.energy_wh[parts.price_nano_per_kwh == price].sum())
            for price in (100_000_000, 300_000_000)
        }
        assert by_price == {100_000_000: night * 1000, 300_000_000: 18_000}


def test_a_correction_takes_back_exactly_what_was_charged() -> None:
    energy = column(333, 1, 777, -777, -1, -333)
    price = np.full(6, 248_123_457, dtype=np.int64)
    charge, carry = charge_segments(
        account_index=np.zeros(6, dtype=np.int64),
        energy_wh=energy,
        price_nano_per_kwh=price,
        carry=column(999_999),
    )
    assert int(charge.sum()) == 0
    assert carry.tolist() == [999_999]


def test_accounts_without_rows_keep_their_carry_and_an_empty_batch_changes_nothing() -> None:
    charge, carry = charge_segments(
        account_index=column(1, 1, 3),
        energy_wh=column(1, 1, 0),
        price_nano_per_kwh=column(600_000, 600_000, 5),
        carry=column(7, 0, 8, 9, 10),
    )
    assert charge.tolist() == [0, 1, 0]
    assert carry.tolist() == [7, 200_000, 8, 9, 10]
    none = column()
    charge, carry = charge_segments(
        account_index=none, energy_wh=none, price_nano_per_kwh=none, carry=column(5)
    )
    assert (charge.size, carry.tolist()) == (0, [5])


@given(
    st.lists(
        st.tuples(st.integers(-(10**10), 10**10), st.integers(0, 10**15)), min_size=1, max_size=6
    ),
    st.integers(0, 999_999),
)
def test_prices_near_the_bound_are_exact_or_refused(
    rows: list[tuple[int, int]], carry: int
) -> None:
    energy, price = (column(*each) for each in zip(*rows, strict=True))
    exact = [sum(wh * nano for wh, nano in rows[: i + 1]) + carry for i in range(len(rows))]
    try:
        charge, after = charge_segments(
            account_index=np.zeros(len(rows), dtype=np.int64),
            energy_wh=energy,
            price_nano_per_kwh=price,
            carry=column(carry),
        )
    except OverflowRefused:
        assert max(abs(wh) for wh, _ in rows) * len(rows) * 10**9 > 2**62
        return
    assert np.cumsum(charge).tolist() == [each // 10**6 for each in exact]
    assert after.tolist() == [exact[-1] % 10**6]


def test_a_charge_that_does_not_fit_is_refused() -> None:
    with pytest.raises(OverflowRefused):
        charge_segments(
            account_index=column(0),
            energy_wh=column(10**12),
            price_nano_per_kwh=column(10**15),
            carry=column(0),
        )


@pytest.mark.parametrize(
    ("account_index", "carry"), [((1, 0), (0, 0)), ((0, 1), (0, 1_000_000)), ((0, 1), (-1, 0))]
)
def test_rows_out_of_order_and_carries_out_of_range_are_refused(
    account_index: tuple[int, int], carry: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match=r"sorted|carry"):
        charge_segments(
            account_index=column(*account_index),
            energy_wh=column(1, 1),
            price_nano_per_kwh=column(1, 1),
            carry=column(*carry),
        )


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [(5, 5, "empty"), (6, 5, "empty"), (-1, 5, "outside_timeline"), (0, 101, "outside_timeline")],
)
@pytest.mark.parametrize("timelines", [1, 2])
def test_an_interval_that_cannot_be_rated_is_named(
    start: int, end: int, reason: str, timelines: int
) -> None:
    timeline = flat_timeline("0.1", to_us=100)
    origin = int(timeline.edge_at_us[0])
    with pytest.raises(IntervalRefused) as refusal:
        split_intervals(
            start_at_us=column(origin, origin + start),
            end_at_us=column(origin + 1, origin + end),
            energy_wh=column(1, 1),
            timeline_index=column(0, timelines - 1),
            timelines=TimelineSet.of([timeline] * timelines),
        )
    assert (refusal.value.reason, refusal.value.row) == (reason, 1)


def test_a_splice_refuses_a_stretch_that_its_timeline_does_not_cover() -> None:
    timeline = flat_timeline("0.1", to_us=100)
    origin = int(timeline.edge_at_us[0])
    with pytest.raises(ValueError, match="does not cover"):
        splice([(origin, flat_timeline("0.2", to_us=50)), (origin + 60, timeline)])
