"""Statements: pro rata and chronological, against independent models and by their properties."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cases import cases
from core.exact_model import ExactCustomer, ExactPrices, ExactUsage, wall
from core.pro_rata_model import ExactStatement
from core.tariff_strategies import HOLIDAYS, MOMENTS, ZONES, full_tariff_documents
from prewatt.core.allocation import Allocation, Terms
from prewatt.core.civil_time import LocalCalendar
from prewatt.core.loads import LoadAxis, LoadRefused
from prewatt.core.statement import Statement, StatementRefused, bill, bill_batch
from prewatt.core.statement_lines import Part
from prewatt.core.tariff import parse_tariff

MINUTE = 60_000_000
HOUR = 60 * MINUTE
CASES = settings(max_examples=cases(50), deadline=None)


@dataclass(frozen=True)
class Case:
    """A plan at a place, and a load: (start, end, Wh) in order, gaps allowed."""

    document: dict[str, Any]
    time_zone: str
    intervals: tuple[tuple[int, int, int], ...]
    terms: Terms
    exempt: frozenset[str]

    @property
    def calendar(self) -> LocalCalendar:
        return LocalCalendar(self.time_zone, HOLIDAYS)

    def bill(self, allocation: Allocation) -> Statement:
        return bill_intervals(
            self.document,
            self.calendar,
            self.intervals,
            allocation=allocation,
            terms=self.terms,
            exempt=self.exempt,
        )


def bill_intervals(
    document: dict[str, Any], calendar: LocalCalendar, intervals: Any, **how: Any
) -> Statement:
    start, end, energy = (np.array(each, dtype=np.int64) for each in zip(*intervals, strict=True))
    return bill(parse_tariff(document), calendar, LoadAxis(start, end), energy, **how)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Plans that a load says enough for."""
    document = draw(full_tariff_documents())
    document.pop("overlays", None)
    document.pop("temporary", None)
    assume(document["energy"].get("steps", {}).get("window") != "purchase")
    return document


@st.composite
def loads(draw: st.DrawFn) -> tuple[tuple[int, int, int], ...]:
    """Up to thirty intervals of a few minutes to some hours, over days to some months."""
    at = draw(st.sampled_from(MOMENTS)) + draw(st.integers(-30, 3)) * 24 * HOUR
    longest_gap = draw(st.sampled_from((0, 60, 8 * 1440)))
    intervals = []
    for _ in range(draw(st.integers(1, 30))):
        at += draw(st.integers(0, longest_gap)) * MINUTE
        end = at + draw(st.sampled_from((5, 15, 30, 60, 95, 180))) * MINUTE
        intervals.append((at, end, draw(st.one_of(st.just(0), st.integers(0, 9_000)))))
        at = end
    return tuple(intervals)


cases = st.builds(
    Case,
    documents(),
    st.sampled_from(ZONES),
    loads(),
    st.builds(Terms, st.integers(1, 8), st.integers(0, 9_000)),
    st.sampled_from((frozenset(), frozenset({"vat"}))),
)


@CASES
@given(cases)
def test_pro_rata_is_the_exact_model(case: Case) -> None:
    model = ExactStatement(
        case.document,
        case.time_zone,
        HOLIDAYS,
        case.exempt,
        case.terms.members or 1,
        case.terms.contracted_w or 0,
    )
    model.add_load(case.intervals)
    found = {
        f"{month.first_day:%Y-%m}": {str(part): amount for part, amount in month.amounts().items()}
        for month in case.bill(Allocation.PRO_RATA).months
    }
    assert found == model.months


@CASES
@given(cases)
def test_chronological_is_the_exact_model(case: Case) -> None:
    """An account's amounts are cut off to whole micro-units as they run up, so a period's are the
    exact ones to within one, and the first period's their floor.
    """
    usage = ExactUsage(
        ExactPrices(case.time_zone, [(0, case.document)], HOLIDAYS),
        ExactCustomer(
            terms=((0, case.terms.members or 1, case.terms.contracted_w or 0),), exempt=case.exempt
        ),
    )
    for interval in case.intervals:
        usage.use(*interval)
    months = case.bill(Allocation.CHRONOLOGICAL).months
    lines = [line for month in months for line in month.energy]
    energy: dict[tuple[str, str, int], int] = {}
    charges: dict[str, Fraction] = {}
    for part in usage.parts:
        month = f"{wall(case.time_zone, part.start_us):%Y-%m}"
        key = month, part.band, part.step
        energy[key] = energy.get(key, 0) + part.energy_wh
        charges[month] = charges.get(month, Fraction(0)) + part.charge
    found: dict[tuple[str, str, int], Fraction] = {}
    for each in months:
        for line in each.energy:
            key = f"{each.first_day:%Y-%m}", line.band, line.step
            found[key] = found.get(key, Fraction(0)) + line.energy_wh
    assert {key: wh for key, wh in found.items() if wh} == {
        key: wh for key, wh in energy.items() if wh
    }
    assert sum(line.amount for line in lines) == floor(usage.energy)
    for each in months:
        charge = sum((line.amount for line in each.energy), Fraction(0))
        assert abs(charge - charges.get(f"{each.first_day:%Y-%m}", 0)) < 1
    fees = sum(line.amount for month in months for line in month.usage_fees)
    assert fees == floor(usage.fee)
    assert sum(line.amount for month in months for line in month.subsidies) == floor(usage.subsidy)


@CASES
@given(cases, st.sampled_from(list(Allocation)))
def test_a_batch_is_its_loads_one_by_one(case: Case, allocation: Allocation) -> None:
    start, end, energy = (np.array(each) for each in zip(*case.intervals, strict=True))
    factors = np.array([[1], [0], [3]])
    batch = bill_batch(
        parse_tariff(case.document),
        case.calendar,
        LoadAxis(start, end),
        energy * factors,
        allocation=allocation,
        terms=case.terms,
        exempt=case.exempt,
    )
    for load, factor in enumerate(factors[:, 0].tolist()):
        alone = Case(
            case.document,
            case.time_zone,
            tuple((begin, until, wh * factor) for begin, until, wh in case.intervals),
            case.terms,
            case.exempt,
        ).bill(allocation)
        assert _amounts(batch.of_load(load)) == _amounts(alone)
        rounded = [round(month.total) for month in alone.months]
        assert batch.totals_micro()[load].tolist() == rounded


@CASES
@given(cases, st.sampled_from(list(Allocation)))
def test_lines_make_up_the_load_and_the_total(case: Case, allocation: Allocation) -> None:
    statement = case.bill(allocation)
    assert sum(month.energy_wh for month in statement.months) == sum(
        wh for _, _, wh in case.intervals
    )
    for month in statement.months:
        assert sum(line.energy_wh for line in month.energy) == month.energy_wh
        every = [
            *month.energy,
            *month.usage_fees,
            *month.subsidies,
            *month.fixed,
            *month.demand,
            *month.taxes,
        ]
        assert month.total == sum(each.amount for each in every) + month.minimum + month.maximum


@CASES
@given(cases, st.sampled_from(list(Allocation)), st.integers(1, 40))
def test_finer_intervals_change_nothing(case: Case, allocation: Allocation, minutes: int) -> None:
    even = [(start, end, wh % 50 * ((end - start) // MINUTE)) for start, end, wh in case.intervals]
    fine = []
    for start, end, energy in even:
        per_minute = energy * MINUTE // (end - start)
        cuts = [*range(start, end, minutes * MINUTE), end]
        fine += [
            (begin, until, per_minute * ((until - begin) // MINUTE))
            for begin, until in pairwise(cuts)
        ]
    one, other = (
        Case(case.document, case.time_zone, tuple(each), case.terms, case.exempt).bill(allocation)
        for each in (even, fine)
    )
    assert _amounts(one) == _amounts(other)


@CASES
@given(cases, st.sampled_from(list(Allocation)))
def test_a_load_of_nothing_costs_only_what_falls_due_by_days(
    case: Case, allocation: Allocation
) -> None:
    nothing = tuple((start, end, 0) for start, end, _ in case.intervals)
    statement = Case(case.document, case.time_zone, nothing, case.terms, case.exempt).bill(
        allocation
    )
    bare = {
        key: value for key, value in case.document.items() if key not in {"allowances", "demand"}
    }
    bare["energy"] = {"unit": "kWh", "bands": {"any": {"price": "0"}}}
    fixed = Case(bare, case.time_zone, nothing, case.terms, case.exempt).bill(allocation)
    assert _amounts(statement) == _amounts(fixed)


@CASES
@given(cases, st.sampled_from(list(Allocation)), st.integers(0, 29), st.integers(1, 20_000))
def test_more_load_never_lowers_a_bill(
    case: Case, allocation: Allocation, position: int, more_wh: int
) -> None:
    """Graduated, prices that do not fall with use, no rebate."""
    document = _without_incentives(case.document)
    position %= len(case.intervals)
    heavier = list(case.intervals)
    start, end, energy = heavier[position]
    heavier[position] = start, end, energy + more_wh
    light, heavy = (
        Case(document, case.time_zone, tuple(each), case.terms, case.exempt).bill(allocation)
        for each in (case.intervals, heavier)
    )
    # What an account is charged is cut off to whole micro-units, each component by itself.
    slack = 4 if allocation is Allocation.CHRONOLOGICAL else 0
    assert _total(heavy) >= _total(light) - slack


def _without_incentives(document: dict[str, Any]) -> dict[str, Any]:
    kept = dict(document)
    kept["allowances"] = [a for a in document.get("allowances", ()) if "free_kwh" in a]
    if kept["allowances"]:
        # A bound is held against what energy costs before somebody else pays for it.
        kept.pop("minimum", None)
        kept.pop("maximum", None)
    else:
        del kept["allowances"]
    # What a minimum leaves off can be taxed otherwise than what it is held against.
    kept.pop("taxes", None)
    energy = dict(document["energy"])
    energy["bands"] = {
        name: {key: sorted(value, key=float) if key == "prices" else value
               for key, value in band.items()}
        for name, band in energy["bands"].items()
    }  # fmt: skip
    if "steps" in energy:
        energy["steps"] = energy["steps"] | {"kind": "graduated"}
    return kept | {"energy": energy}


def _total(statement: Statement) -> Fraction:
    return sum((month.total for month in statement.months), Fraction(0))


def _amounts(statement: Statement) -> dict[date, dict[Part, Fraction]]:
    return {month.first_day: month.amounts() for month in statement.months}


FLAT = {"unit": "kWh", "bands": {"any": {"price": "0.25"}}}
STEPPED = {
    "unit": "kWh",
    "bands": {"day": {"prices": ["0.10", "0.30"]}, "night": {"prices": ["0.05", "0.20"]}},
    "schedule": [
        {
            "periods": [
                {"from": "00:00", "until": "06:00", "band": "night"},
                {"from": "06:00", "until": "24:00", "band": "day"},
            ]
        }
    ],
    "steps": {"window": "month", "limits": ["10"]},
}


def _plan(energy: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {
        "format": "prewatt-tariff/1",
        "name": "Plan",
        "currency": "EUR",
        "energy": energy,
        **parts,
    }


def _hours(zone: str, first: date, energy_wh: list[int]) -> list[tuple[int, int, int]]:
    start = LocalCalendar(zone).start_of_day(first)
    return [(start + i * HOUR, start + (i + 1) * HOUR, wh) for i, wh in enumerate(energy_wh)]


def test_steps_are_shared_out_over_the_bands_or_taken_in_the_order_of_time() -> None:
    # 8 kWh at night, then 12 kWh by day: 20 kWh, of which the first 10 lie in the lower step.
    load = _hours("UTC", date(2025, 6, 2), [2_000] * 4 + [0] * 4 + [2_000] * 6)
    calendar = LocalCalendar("UTC")
    shared, in_order = (
        bill_intervals(_plan(STEPPED), calendar, load, allocation=each)
        for each in (Allocation.PRO_RATA, Allocation.CHRONOLOGICAL)
    )
    lines = {(line.band, line.step): line for line in shared.months[0].energy}
    assert {key: line.energy_wh for key, line in lines.items()} == {
        ("day", 0): 6_000,
        ("day", 1): 6_000,
        ("night", 0): 4_000,
        ("night", 1): 4_000,
    }
    assert _total(shared) == 600_000 + 1_800_000 + 200_000 + 800_000
    assert {(line.band, line.step): line.energy_wh for line in in_order.months[0].energy} == {
        ("night", 0): 8_000,
        ("day", 0): 2_000,
        ("day", 1): 10_000,
    }
    assert _total(in_order) == 400_000 + 200_000 + 3_000_000


@pytest.mark.parametrize(
    ("used_wh", "step", "total"), [(10_000, 0, 1_000_000), (10_001, 1, 3_000_300)]
)
@pytest.mark.parametrize("allocation", list(Allocation))
def test_whole_usage_is_at_the_step_that_it_reaches(
    allocation: Allocation, used_wh: int, step: int, total: int
) -> None:
    energy = {
        "unit": "kWh",
        "bands": {"any": {"prices": ["0.10", "0.30"]}},
        "steps": {"window": "month", "limits": ["10"], "kind": "whole_usage"},
    }
    load = _hours("UTC", date(2025, 6, 2), [4_000, used_wh - 4_000])
    (month,) = bill_intervals(
        _plan(energy), LocalCalendar("UTC"), load, allocation=allocation
    ).months
    assert month.total == total
    assert month.energy[-1].step == step


@pytest.mark.parametrize(("day", "hours"), [(date(2025, 10, 26), 25), (date(2025, 3, 30), 23)])
def test_a_day_of_25_hours_bills_25_hours_and_one_standing_charge(day: date, hours: int) -> None:
    plan = _plan(FLAT, standing={"per_day": "0.50"})
    load = _hours("Europe/Berlin", day, [1_000] * hours)
    (month,) = bill_intervals(
        plan, LocalCalendar("Europe/Berlin"), load, allocation=Allocation.PRO_RATA
    ).months
    assert month.energy_wh == hours * 1_000
    assert month.amounts()[Part.ENERGY] == hours * 250_000
    assert month.amounts()[Part.FIXED] == 500_000


def test_a_part_of_a_month_owes_its_days_and_its_part_of_the_minimum() -> None:
    plan = _plan(FLAT, standing={"per_month": "31"}, minimum={"per_month": "62"})
    # From the evening of the 29th: the 30th and the 31st begin while the load lasts.
    start = LocalCalendar("UTC").start_of_day(date(2025, 3, 29)) + 20 * HOUR
    load = [(start, start + 52 * HOUR, 1_000)]
    (month,) = bill_intervals(
        plan, LocalCalendar("UTC"), load, allocation=Allocation.CHRONOLOGICAL
    ).months
    assert month.amounts()[Part.FIXED] == 2_000_000
    assert month.minimum == 4_000_000 - 2_000_000 - 250_000


def test_a_minimum_is_held_against_energy_and_standing_charges_and_no_fee() -> None:
    plan = _plan(
        FLAT,
        standing={"per_month": "6"},
        fees=[{"code": "lift", "per_month": "3"}, {"code": "use", "per_kwh": "0.10"}],
        minimum={"per_month": "30"},
    )
    load = _hours("UTC", date(2025, 6, 1), [10_000, *([0] * (30 * 24 - 1))])
    (month,) = bill_intervals(
        plan, LocalCalendar("UTC"), load, allocation=Allocation.PRO_RATA
    ).months
    assert month.amounts()[Part.FIXED] == 9_000_000
    assert month.minimum == 30_000_000 - 6_000_000 - 2_500_000


def test_a_tax_that_changes_within_a_month_is_on_the_days_that_it_holds() -> None:
    plan = _plan(
        FLAT,
        standing={"per_day": "1"},
        taxes=[
            {"code": "vat", "rate": "10", "until": "2025-06-11"},
            {"code": "vat", "rate": "20", "from": "2025-06-11"},
        ],
    )
    load = _hours("UTC", date(2025, 6, 1), [1_000] * (30 * 24))
    for allocation in Allocation:
        (month,) = bill_intervals(plan, LocalCalendar("UTC"), load, allocation=allocation).months
        energy, standing = 24 * 250_000, 1_000_000
        assert month.amounts()[Part.TAX] == (energy + standing) * (10 * 10 + 20 * 20) // 100


def test_taxes_and_fees_are_told_apart_by_code() -> None:
    plan = _plan(
        FLAT,
        fees=[{"code": "lift", "per_kwh": "0.02"}, {"code": "service", "share": "10"}],
        taxes=[
            {"code": "vat", "rate": "20"},
            {"code": "levy", "rate": "5", "on": ["energy"], "compound": True},
        ],
    )
    load = _hours("UTC", date(2025, 6, 2), [1_000] * 4)
    for allocation in Allocation:
        (month,) = bill_intervals(plan, LocalCalendar("UTC"), load, allocation=allocation).months
        assert {line.code: line.amount for line in month.usage_fees} == {
            "lift": 80_000,
            "service": 100_000,
        }
        assert {line.code: line.amount for line in month.taxes} == {
            "vat": 236_000,
            "levy": 60_000,
        }


def test_demand_is_the_highest_window_of_its_bands_with_a_ratchet() -> None:
    plan = _plan(
        {**STEPPED, "steps": {"window": "month", "limits": ["10"]}},
        demand=[
            {"code": "any", "per_kw": "3", "interval_minutes": 60},
            {
                "code": "day",
                "per_kw": "5",
                "interval_minutes": 30,
                "bands": ["day"],
                "ratchet": {"share": "80", "months": 1},
            },
        ],
    )
    start = LocalCalendar("UTC").start_of_day(date(2025, 6, 1))
    june = [(start + i * HOUR, start + (i + 1) * HOUR, 100) for i in range(30 * 24)]
    june[2] = (*june[2][:2], 4_000)
    june[12] = (*june[12][:2], 2_000)
    july = [(end := june[-1][1] + i * HOUR, end + HOUR, 500) for i in range(31 * 24)]
    months = bill_intervals(
        plan, LocalCalendar("UTC"), june + july, allocation=Allocation.PRO_RATA
    ).months
    found = [{line.code: line.amount for line in month.demand} for month in months]
    assert found == [
        {"any": 12_000_000, "day": 10_000_000},
        {"any": 1_500_000, "day": 8_000_000},
    ]


@pytest.mark.parametrize(
    ("parts", "place"),
    [
        ({"energy": STEPPED | {"steps": {"window": "purchase", "limits": ["1"]}}}, "steps.window"),
        (
            {"energy": STEPPED | {"steps": {"window": "day", "limits": ["1"], "scale": "members"}}},
            "steps.scale",
        ),
        (
            {"overlays": [{"kind": "critical_peak", "group": "events", "price": "1"}]},
            "overlays[0]",
        ),
        ({"temporary": {"unit": "hour", "fee": "1", "deposit": "5"}}, "temporary"),
    ],
)
def test_what_a_load_does_not_say_is_refused(parts: dict[str, Any], place: str) -> None:
    plan = _plan(FLAT) | parts
    load = _hours("UTC", date(2025, 6, 2), [1_000])
    with pytest.raises(StatementRefused) as refused:
        bill_intervals(plan, LocalCalendar("UTC"), load, allocation=Allocation.PRO_RATA)
    assert refused.value.place.endswith(place)


def test_a_load_that_is_none_is_refused() -> None:
    tariff, calendar = parse_tariff(_plan(FLAT)), LocalCalendar("UTC")
    two = np.array([0, HOUR])
    axis = LoadAxis(two + 10**15, two + 10**15 + HOUR)
    for energy, reason, row in (([5, -1], "negative", 1), ([5], "shape", 0)):
        with pytest.raises(LoadRefused) as refused:
            bill(tariff, calendar, axis, np.array(energy), allocation=Allocation.PRO_RATA)
        assert (refused.value.reason, refused.value.row) == (reason, row)
    for start, end, reason in (
        (two, two + HOUR + 1, "order"),
        (two, two, "order"),
        (two[:0], two[:0], "empty"),
        (two, two[:1] + HOUR, "shape"),
    ):
        with pytest.raises(LoadRefused) as refused:
            LoadAxis(start, end)
        assert refused.value.reason == reason
