"""Whole usage histories under random price plans, against the exact model.

`PREWATT_CASES_PERCENT` sets how many random plans are tried; a few thousand take some minutes.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cases import cases
from core.exact_model import Announced, ExactCustomer, ExactPrices, ExactUsage
from core.tariff_strategies import HOLIDAYS, MOMENTS, PRICES, ZONES, full_tariff_documents
from prewatt.core.civil_time import DAY_US, HOUR_US, MINUTE_US, LocalCalendar
from prewatt.core.rating import (
    CARRY_DENOMINATOR,
    AccountTerms,
    Component,
    DatedTerms,
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
from prewatt.core.tariff.model import OverlayKind

CASES = cases(50)
QUARTER = 15 * MINUTE_US
SOME = settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

Interval = tuple[int, int, int]


@dataclass(frozen=True)
class Account:
    """Consecutive intervals (start, end, Wh) of one account, and what its contract says."""

    intervals: list[Interval]
    customer: ExactCustomer


@st.composite
def loads(draw: st.DrawFn, most_intervals: int = 20) -> list[Interval]:
    """Mostly quarter-hours around an unusual moment, of loads that reach small and large limits."""
    at_us = draw(st.sampled_from(MOMENTS)) - draw(st.integers(0, 40)) * QUARTER
    intervals = []
    most = draw(st.sampled_from((0, 60, 2_000, 400_000)))
    for _ in range(draw(st.integers(1, most_intervals))):
        length = draw(
            st.one_of(
                st.just(QUARTER),
                st.just(QUARTER),
                st.integers(1, 5 * HOUR_US),
                st.integers(1, 30).map(lambda hours: hours * HOUR_US),
            )
        )
        intervals.append((at_us, at_us + length, draw(st.integers(0, most))))
        at_us += length + draw(st.sampled_from((0, 0, 0, 40 * MINUTE_US, 20 * DAY_US)))
    return intervals


@st.composite
def accounts(draw: st.DrawFn, announced: tuple[Announced, ...]) -> Account:
    """A load with terms that change, recharges, and an exemption."""
    intervals = draw(loads())
    begin, end = intervals[0][0], intervals[-1][1]
    instants = st.integers(begin - DAY_US, end)
    changes = sorted(draw(st.sets(instants, max_size=2)))
    terms = [
        (at, draw(st.integers(0, 8)), draw(st.integers(0, 20_000))) for at in (begin, *changes)
    ]
    recharges = sorted(draw(st.sets(instants, max_size=3)))
    exempt = draw(st.sets(st.sampled_from(("vat", "levy-0", "nothing")), max_size=2))
    return Account(
        intervals,
        ExactCustomer(
            terms=[terms[0], *sorted(terms[1:])],
            recharges=recharges,
            exempt=frozenset(exempt),
            announced=announced,
        ),
    )


@st.composite
def announcements(draw: st.DrawFn) -> tuple[Announced, ...]:
    """Critical peaks and a stretch of a price series around one of the moments."""
    begin = draw(st.sampled_from(MOMENTS)) - draw(st.integers(0, 600)) * MINUTE_US
    events = []
    for kind, group in (("critical_peak", "events"), ("real_time", "day-ahead")):
        at = begin
        for _ in range(draw(st.integers(0, 3))):
            length = draw(st.sampled_from((7 * MINUTE_US, QUARTER, HOUR_US, 30 * HOUR_US)))
            price = draw(st.integers(-(10**8), 10**9)) if kind == "real_time" else 0
            events.append(Announced(kind, group, at, at + length, price))
            at += length + draw(st.sampled_from((0, MINUTE_US, 5 * HOUR_US)))
    return tuple(events)


def timelines_of(
    zone: str, document: dict[str, Any], customers: list[Account]
) -> tuple[TimelineSet, list[int]]:
    """(timelines, that of each account): one for all that are exempt from the same taxes."""
    tariff, calendar = parse_tariff(document), LocalCalendar(zone, HOLIDAYS)
    from_us = min(each.intervals[0][0] for each in customers)
    until_us = max(each.intervals[-1][1] for each in customers)
    exemptions = list({each.customer.exempt: each for each in customers})
    announced = customers[0].customer.announced
    timelines = [
        compile_timeline(
            tariff,
            calendar,
            from_us,
            until_us,
            exempt=exempt,
            events=[
                PriceEvent(OverlayKind(a.kind), a.group, a.from_us, a.until_us, a.price_nano)
                for a in announced
            ],
        )
        for exempt in exemptions
    ]
    return TimelineSet.of(timelines), [exemptions.index(each.customer.exempt) for each in customers]


def terms_of(customers: list[Account], purchase_no: list[int]) -> AccountTerms:
    dated = [
        (position, *each)
        for position, account in enumerate(customers)
        for each in account.customer.terms[1:]
    ]
    first = [account.customer.terms[0] for account in customers]
    index, from_us, members, contracted_w = np.array(dated, dtype=np.int64).reshape(-1, 4).T
    return AccountTerms(
        members=np.array([each[1] for each in first], dtype=np.int64),
        contracted_w=np.array([each[2] for each in first], dtype=np.int64),
        purchase_no=np.array(purchase_no, dtype=np.int64),
        dated=DatedTerms(index, from_us, members, contracted_w),
    )


@dataclass
class Totals:
    """What an account was charged, and how much of its energy at each band and step."""

    charged: list[int]
    energy_wh: Counter[tuple[int, int]]


def rate_in_batches(
    customers: list[Account],
    timelines: TimelineSet,
    timeline_of: list[int],
    cuts: list[set[int]],
) -> tuple[list[Totals], UsageState]:
    """Each account's intervals in batches that end after the positions in its `cuts`, and before
    the first interval after a recharge.
    """
    batch_of = []
    for account, own in zip(customers, cuts, strict=True):
        numbers = [account.customer.purchase_no(start) for start, _, _ in account.intervals]
        ends = [
            i in own or numbers[i - 1 : i] != numbers[i : i + 1] for i in range(1, len(numbers))
        ]
        batch_of.append([sum(ends[:i]) for i in range(len(numbers))])
    state = UsageState.empty(len(customers))
    totals = [Totals([0, 0, 0, 0], Counter()) for _ in customers]
    for batch in range(1 + max(own[-1] for own in batch_of)):
        rows, purchase_no = [], []
        for position, account in enumerate(customers):
            own_rows = [
                each
                for each, number in zip(account.intervals, batch_of[position], strict=True)
                if number == batch
            ]
            rows += [(position, *each) for each in own_rows]
            at_us = own_rows[0][0] if own_rows else 0
            purchase_no.append(account.customer.purchase_no(at_us))
        index, start, end, energy = np.array(rows, dtype=np.int64).reshape(-1, 4).T
        segments = split_intervals(
            start_at_us=start,
            end_at_us=end,
            energy_wh=energy,
            timeline_index=np.array(timeline_of, dtype=np.int64)[index],
            timelines=timelines,
        )
        account_index = index[segments.source_row]
        rated = rate_usage(
            segments=segments,
            account_index=account_index,
            timelines=timelines,
            terms=terms_of(customers, purchase_no),
            state=state,
            with_rests=True,
        )
        check_rests(rated, account_index, state)
        state = rated.state
        check_rows(rated, segments.energy_wh, segments.start_at_us, segments.end_at_us)
        add_up(totals, rated, account_index)
    return totals, state


def check_rows(rated: RatedUsage, energy: Any, start: Any, end: Any) -> None:
    """Every Wh of a segment is in exactly one of its parts, which follow one another."""
    assert not rated.late.any()
    back = np.zeros_like(energy)
    np.add.at(back, rated.source_row, rated.energy_wh)
    assert back.tolist() == energy.tolist()
    first = np.append(True, rated.source_row[1:] != rated.source_row[:-1])
    last = np.append(first[1:], True)
    assert rated.start_at_us[first].tolist() == start.tolist()
    assert rated.end_at_us[last].tolist() == end.tolist()
    assert (rated.start_at_us[1:] == rated.end_at_us[:-1])[~first[1:]].all()
    assert (rated.energy_wh[~(first & last)] > 0).all()


def check_rests(rated: RatedUsage, account_index: Any, before: UsageState) -> None:
    """What the rows leave of their exact amounts is what the carries moved by."""
    assert rated.rests is not None
    for name, rest in rated.rests.items():
        moved = getattr(before, f"carry_{name}").copy()
        np.add.at(moved, account_index[rated.source_row], rest)
        assert moved.tolist() == getattr(rated.state, f"carry_{name}").tolist()


def add_up(totals: list[Totals], rated: RatedUsage, account_index: Any) -> None:
    for row, source in enumerate(rated.source_row.tolist()):
        own = totals[account_index[source]]
        place = int(rated.band[row]), int(rated.step[row])
        own.energy_wh[place] += int(rated.energy_wh[row])
        columns = (
            rated.charge_energy,
            rated.charge_fee,
            rated.charge_tax,
            rated.charge_subsidy,
        )
        for position, column in enumerate(columns):
            own.charged[position] += int(column[row])


@SOME
@given(data=st.data())
def test_usage_costs_what_the_exact_model_says_whatever_the_batches(data: st.DataObject) -> None:
    zone = data.draw(st.sampled_from(ZONES))
    document = data.draw(full_tariff_documents())
    announced = data.draw(announcements()) if "overlays" in document else ()
    customers = data.draw(st.lists(accounts(announced), min_size=1, max_size=3))
    timelines, timeline_of = timelines_of(zone, document, customers)
    cuts = [
        data.draw(st.sets(st.integers(1, len(each.intervals)), max_size=4)) for each in customers
    ]
    totals, state = rate_in_batches(customers, timelines, timeline_of, cuts)
    names = [band.name for band in parse_tariff(document).bands]
    prices = ExactPrices(zone, [(0, document)], HOLIDAYS)
    for position, account in enumerate(customers):
        exact = ExactUsage(prices, account.customer)
        for interval in account.intervals:
            exact.use(*interval)
        sums = (exact.energy, exact.fee, exact.tax, exact.subsidy)
        assert totals[position].charged == [floor(each) for each in sums]
        carries = (state.carry_energy, state.carry_fee, state.carry_tax, state.carry_subsidy)
        components = (Component.ENERGY, Component.FEE, Component.TAX, Component.SUBSIDY)
        for carry, component, total in zip(carries, components, sums, strict=True):
            rest = total - floor(total)
            assert carry[position] == rest * CARRY_DENOMINATOR[component]
        used: Counter[tuple[int, int]] = Counter()
        for part in exact.parts:
            used[names.index(part.band), part.step] += part.energy_wh
        assert +totals[position].energy_wh == used
        assert int(state.step_wh[position].sum()) == sum(exact.counts.values())
        assert int(state.allowance_wh[position]) == exact.allowance_wh


@SOME
@given(data=st.data())
def test_a_count_goes_on_over_a_new_version_that_counts_alike_and_begins_anew_otherwise(
    data: st.DataObject,
) -> None:
    zone, account = data.draw(st.sampled_from(ZONES)), data.draw(accounts(()))
    first = data.draw(full_tariff_documents())
    second = data.draw(
        st.one_of(full_tariff_documents(), dearer(first), st.just(first | {"year_from": "06-18"}))
    )
    begin, end = account.intervals[0][0], account.intervals[-1][1]
    assume(end - begin > 1)
    change = data.draw(st.integers(begin + 1, end - 1))
    tariffs = [parse_tariff(each) for each in (first, second)]
    parts = [
        (
            at,
            compile_timeline(
                tariff,
                LocalCalendar(zone, HOLIDAYS),
                begin,
                end,
                version_id=version,
                exempt=account.customer.exempt,
                counts_from_us=0 if version == 0 or counts_go_on(*tariffs) else change,
            ),
        )
        for version, (at, tariff) in enumerate(zip((begin, change), tariffs, strict=True))
    ]
    timelines = TimelineSet.of([splice(parts)])
    cuts = data.draw(st.sets(st.integers(1, len(account.intervals)), max_size=4))
    (totals,), _ = rate_in_batches([account], timelines, [0], [cuts])
    exact = ExactUsage(
        ExactPrices(zone, [(0, first), (change, second)], HOLIDAYS), account.customer
    )
    for interval in account.intervals:
        exact.use(*interval)
    sums = (exact.energy, exact.fee, exact.tax, exact.subsidy)
    assert totals.charged == [floor(each) for each in sums]


@st.composite
def dearer(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    """The same plan with other prices."""
    again = copy.deepcopy(document)
    for band in again["energy"]["bands"].values():
        if "price" in band:
            band["price"] = draw(PRICES)
        else:
            band["prices"] = [draw(PRICES) for _ in band["prices"]]
    return again
