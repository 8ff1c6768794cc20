"""The parts of the format beyond bands and schedules: what each means, and a place for every refusal."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from prewatt.core.tariff import TariffRefused, digest, parse_tariff, to_document
from prewatt.core.tariff.model import (
    Allowance,
    BoothUnit,
    Bound,
    Collect,
    DatedCharge,
    DatedKind,
    DebtRecovery,
    Demand,
    OnTenantChange,
    Overlay,
    OverlayKind,
    Per,
    Scale,
    StepKind,
    Steps,
    StepScope,
    Tax,
    Taxable,
    Temporary,
    UsageFee,
    Window,
)

Document = dict[str, Any]


def document() -> Document:
    """A plan that has every part."""
    whole_day = {"from": "00:00", "until": "24:00"}
    return {
        "format": "prewatt-tariff/1",
        "name": "Everything",
        "currency": "EUR",
        "billing_day": 15,
        "year_from": "07-01",
        "note": "Invented",
        "source": "Nowhere",
        "energy": {
            "unit": "kWh",
            "bands": {
                "cold": {"prices": ["0.1", "0.2"]},
                "warm": {"prices": ["0.3", "0.4", "0.5"]},
            },
            "seasons": {
                "summer": [{"from": "06-01", "until": "09-01"}],
                "winter": [{"from": "09-01", "until": "06-01"}],
            },
            "schedule": [
                {"season": "summer", "periods": [{**whole_day, "band": "warm"}]},
                {"season": "winter", "periods": [{**whole_day, "band": "cold"}]},
            ],
            "steps": {
                "kind": "graduated",
                "window": "month",
                "scope": "all",
                "limits": {"summer": ["100", "230.5"], "winter": ["8.5"]},
                "on_tenant_change": "carry",
            },
        },
        "standing": [
            {"code": "net", "label": "Network", "per_month": "12.50", "collect": "first_recharge"},
            {"code": "base", "per_day": "0.35"},
        ],
        "fees": [
            {"code": "service", "per_year": "24"},
            {"code": "upkeep", "per_kwh": "0.01"},
            {"code": "share", "share": "2.5"},
        ],
        "minimum": {"per_month": "10"},
        "maximum": {"per_year": "900"},
        "demand": [
            {
                "code": "peak-demand",
                "label": "Peak demand",
                "per_kw": "8.20",
                "interval_minutes": 15,
                "bands": ["warm"],
                "ratchet": {"share": "80", "months": 11},
                "power_factor": "0.90",
            }
        ],
        "taxes": [
            {"code": "vat", "rate": "19", "inclusive": True, "until": "2026-01-01"},
            {"code": "vat", "rate": "20", "inclusive": True, "from": "2026-01-01"},
            {"code": "levy", "rate": "1.5", "on": ["energy", "fee"], "compound": True},
        ],
        "allowances": [
            {"code": "free", "free_kwh": "50", "window": "month"},
            {"code": "green", "per_kwh": "0.02"},
        ],
        "overlays": [
            {"kind": "real_time", "group": "spot", "share": "95", "adder": "0.012"},
            {"kind": "critical_peak", "group": "hot", "rebate": "0.5", "baseline_days": 10},
        ],
        "debt_recovery": {"share": "30", "weekly_cap": "25"},
        "temporary": {
            "unit": "day",
            "fee": "15",
            "deposit": "100",
            "season": {"from": "11-24", "until": "01-01"},
        },
    }


def test_every_part_becomes_what_it_says() -> None:
    tariff = parse_tariff(document())
    assert tariff.billing_day == 15
    assert tariff.year_from == 182
    assert (tariff.note, tariff.source) == ("Invented", "Nowhere")
    assert [band.prices_nano_per_kwh for band in tariff.bands] == [
        (100_000_000, 200_000_000),
        (300_000_000, 400_000_000, 500_000_000),
    ]
    assert tariff.steps == Steps(
        StepKind.GRADUATED,
        Window.MONTH,
        StepScope.ALL,
        ((100_000, 230_500), (8_500,)),
        on_tenant_change=OnTenantChange.CARRY,
    )
    standing, fee = DatedKind.STANDING, DatedKind.FEE
    assert tariff.dated == (
        DatedCharge(standing, "base", "base", Per.DAY, 350_000_000),
        DatedCharge(standing, "net", "Network", Per.MONTH, 12_500_000_000, Collect.FIRST_RECHARGE),
        DatedCharge(fee, "service", "service", Per.YEAR, 24_000_000_000),
    )
    assert tariff.usage_fees == (
        UsageFee("share", "share", 0, 25_000),
        UsageFee("upkeep", "upkeep", 10_000_000, 0),
    )
    assert tariff.minimum == Bound(Per.MONTH, 10_000_000_000)
    assert tariff.maximum == Bound(Per.YEAR, 900_000_000_000)
    assert tariff.demand == (
        Demand("peak-demand", "Peak demand", 8_200_000_000, 15, (1,), 800_000, 11, 900_000),
    )
    everything = tuple(Taxable)
    new_year = date(2026, 1, 1)
    assert tariff.taxes == (
        Tax("vat", "vat", 190_000, everything, inclusive=True, valid_until=new_year),
        Tax("vat", "vat", 200_000, everything, inclusive=True, valid_from=new_year),
        Tax("levy", "levy", 15_000, (Taxable.ENERGY, Taxable.FEE), compound=True),
    )
    assert tariff.allowances == (
        Allowance("free", "free", 50_000, Window.MONTH, 0),
        Allowance("green", "green", 0, Window.MONTH, 20_000_000),
    )
    assert tariff.overlays == (
        Overlay(
            OverlayKind.CRITICAL_PEAK, "hot", rebate_nano_per_kwh=500_000_000, baseline_days=10
        ),
        Overlay(OverlayKind.REAL_TIME, "spot", adder_nano_per_kwh=12_000_000, share_ppm=950_000),
    )
    assert tariff.debt == DebtRecovery(300_000, 25_000_000_000)
    assert tariff.temporary == Temporary(BoothUnit.DAY, 15_000_000_000, 100_000_000_000, (328, 366))
    assert not tariff.is_flat


def test_limits_are_members_scaled_or_each_bands_own() -> None:
    plan = document()
    plan["energy"]["steps"] = {
        "window": "year",
        "scope": "each",
        "scale": "members",
        "members": {"included": 4, "add": ["0", "480"]},
    }
    plan["energy"]["bands"] = {
        "cold": {"price": "0.1", "limits": ["300", "400"]},
        "warm": {"prices": ["0.3", "0.4", "0.5"], "limits": ["200", "500"]},
    }
    tariff = parse_tariff(plan)
    assert tariff.steps is not None
    assert (tariff.steps.limits_wh, tariff.steps.scale) == ((), Scale.MEMBERS)
    assert (tariff.steps.members_included, tariff.steps.add_wh) == (4, (0, 480_000))
    assert [band.limits_wh for band in tariff.bands] == [(300_000, 400_000), (200_000, 500_000)]
    assert parse_tariff(to_document(tariff)) == tariff


def test_a_season_may_have_no_steps() -> None:
    plan = document()
    plan["energy"]["steps"]["limits"]["winter"] = []
    plan["energy"]["bands"]["cold"] = {"price": "0.1"}
    tariff = parse_tariff(plan)
    assert tariff.steps is not None
    assert tariff.steps.limits_wh == ((100_000, 230_500), ())
    assert parse_tariff(to_document(tariff)) == tariff


def test_whole_usage_limits_may_differ_by_season_where_no_window_spans_two() -> None:
    plan = document()
    plan["energy"]["steps"]["kind"] = "whole_usage"
    for window in ("day", "month", "season"):
        plan["energy"]["steps"]["window"] = window
        assert parse_tariff(plan).steps is not None
    plan["energy"]["steps"]["window"] = "billing_month"
    with pytest.raises(TariffRefused, match="begins inside a window"):
        parse_tariff(plan)
    plan["billing_day"] = 1
    assert parse_tariff(plan).steps is not None
    # On the fifteenth with the billing months; winter only goes on over the new year.
    plan["billing_day"] = 15
    plan["energy"]["seasons"] = {
        "summer": [{"from": "06-15", "until": "09-15"}],
        "winter": [{"from": "09-15", "until": "06-15"}],
    }
    assert parse_tariff(plan).steps is not None


def test_the_order_of_a_list_says_nothing_except_for_taxes() -> None:
    first = digest(parse_tariff(document()))
    other = document()
    for key in ("standing", "fees", "allowances", "overlays"):
        other[key].reverse()
    assert digest(parse_tariff(other)) == first
    other["taxes"] = [*other["taxes"][1::-1], other["taxes"][2]]
    assert digest(parse_tariff(other)) != first


def test_a_demand_in_all_bands_counts_always() -> None:
    plan = document()
    plan["demand"][0]["bands"] = ["warm", "cold"]
    assert parse_tariff(plan).demand[0].bands == ()


Change = Callable[[Document], object]


def _steps(**entries: object) -> Change:
    return lambda d: d["energy"]["steps"].update(entries)


def _own_limits(d: Document) -> None:
    d["energy"]["steps"] = {"window": "month", "scope": "each"}
    for band in d["energy"]["bands"].values():
        band.update(prices=["0.1", "0.2"], limits=["10"])


def _own_limits_and(change: Change) -> Change:
    def apply(d: Document) -> None:
        _own_limits(d)
        change(d)

    return apply


def _members(**entries: object) -> Change:
    members = {"included": 4, "add": ["10", "20"]} | entries
    limits = {"summer": ["100", "230"], "winter": ["100", "230"]}

    def apply(d: Document) -> None:
        d["energy"]["steps"].update(scale="members", members=members, limits=limits)
        d["energy"]["bands"]["cold"]["prices"] = ["0.1", "0.2", "0.3"]

    return apply


def _first(key: str, **entries: object) -> Change:
    return lambda d: d[key][0].update(entries)


def _set(**entries: object) -> Change:
    return lambda d: d.update(entries)


def _drop_all_steps(d: Document) -> None:
    del d["energy"]["steps"]


def _whole_usage_across_seasons(d: Document) -> None:
    d["energy"]["steps"].update(kind="whole_usage", window="year")


STEPS: tuple[tuple[Change, str, str], ...] = (
    (_drop_all_steps, "energy.bands.cold.prices", "energy.steps is missing"),
    (
        lambda d: d["energy"]["bands"].update(cold={"price": "1", "limits": ["5"]}),
        "energy.bands.cold.limits",
        "'each'",
    ),
    (_steps(kind="tiered"), "energy.steps.kind", "not one of graduated, whole_usage"),
    (_steps(window="week"), "energy.steps.window", "not one of day, month"),
    (_steps(window=7), "energy.steps.window", "not one of"),
    (_steps(scope="some"), "energy.steps.scope", "not one of all, each"),
    (_steps(scale="rooms"), "energy.steps.scale", "not one of"),
    (_steps(on_tenant_change="keep"), "energy.steps.on_tenant_change", "not one of"),
    (_steps(scale="days", window="purchase"), "energy.steps.scale", "'purchase'"),
    (_steps(limits="230"), "energy.steps.limits", "list of kWh"),
    (_steps(limits=[]), "energy.steps.limits", "at least one limit"),
    (_steps(limits=["0"]), "energy.steps.limits[0]", "more than 0"),
    (_steps(limits=[230]), "energy.steps.limits[0]", "in quotes"),
    (_steps(limits=["-5"]), "energy.steps.limits[0]", "negative"),
    (_steps(limits=["1.2345"]), "energy.steps.limits[0]", "at most 3 decimals"),
    (_steps(limits=["1000000001"]), "energy.steps.limits[0]", "at most 1000000000"),
    (_steps(limits=["400", "230"]), "energy.steps.limits[1]", "more than the limit before it, 400"),
    (_steps(limits=["230", "230.0"]), "energy.steps.limits[1]", "more than the limit before it"),
    (_steps(limits=[str(n) for n in range(1, 17)]), "energy.steps.limits", "at most 15"),
    (_steps(limits={"summer": ["5"]}), "energy.steps.limits", "lacks 'winter'"),
    (
        _steps(limits={"summer": ["5"], "winter": ["5"], "autumn": ["5"]}),
        "energy.steps.limits",
        "unknown entry 'autumn'",
    ),
    (
        _steps(limits=["230"]),
        "energy.bands.warm.prices",
        "3 prices for 2 steps in season 'summer'",
    ),
    (
        lambda d: d["energy"]["bands"]["warm"].update(prices=["0.3", "0.4"]),
        "energy.bands.warm.prices",
        "2 prices for 3 steps",
    ),
    (
        lambda d: d["energy"]["bands"]["warm"].update(prices=[]),
        "energy.bands.warm.prices",
        "at least one",
    ),
    (
        lambda d: d["energy"]["bands"]["warm"].update(price="0.3"),
        "energy.bands.warm",
        "either 'price' or 'prices'",
    ),
    (
        lambda d: d["energy"]["bands"]["warm"]["prices"].__setitem__(1, "-0.4"),
        "energy.bands.warm.prices[1]",
        "negative",
    ),
    (
        lambda d: d["energy"].update(bands={"cold": {"price": "1"}, "warm": {"price": "2"}}),
        "energy.steps",
        "change no price",
    ),
    (lambda d: d["energy"]["steps"].pop("limits"), "energy.steps", "lacks 'limits'"),
    (lambda d: d["energy"]["steps"].pop("window"), "energy.steps", "lacks 'window'"),
    (_own_limits_and(_steps(limits=["5"])), "energy.steps.limits", "left out"),
    (_own_limits_and(_steps(scope="all")), "energy.bands.cold.limits", "'each'"),
    (
        _own_limits_and(lambda d: d["energy"]["bands"]["cold"].pop("limits")),
        "energy.bands.cold",
        "another band",
    ),
    (
        _own_limits_and(lambda d: d["energy"]["bands"]["cold"].update(limits=["1", "2"])),
        "energy.bands.cold.prices",
        "2 prices for 3 steps",
    ),
    (_members(included=-1), "energy.steps.members.included", "from 0 to 10000"),
    (_members(included=True), "energy.steps.members.included", "whole number"),
    (_members(add=["10"]), "energy.steps.members.add", "1 entries for 2 limits"),
    (_members(add=["20", "10"]), "energy.steps.members.add[1]", "at least the entry before it, 20"),
    (
        _steps(members={"included": 4, "add": ["10"]}),
        "energy.steps.members",
        "scale to be 'members'",
    ),
    (_whole_usage_across_seasons, "energy.steps.limits", "begins inside a window (year)"),
    (
        lambda d: (
            _steps(scale="contracted_kw", limits=["10000000"])(d),
            d["energy"]["bands"].update(cold={"prices": ["0", "0"]}, warm={"prices": ["0", "0"]}),
        ),
        "energy.steps.limits",
        "at most 9223.372 for each contracted kW",
    ),
    (
        lambda d: (
            d["energy"]["bands"]["warm"]["prices"].__setitem__(2, "1000000")
            or _steps(limits={"summer": ["1", "9000000"], "winter": ["5"]}, scale="members")(d)
        ),
        "energy.steps.limits",
        "at 900000000 kWh would cost more than 64 bits hold",
    ),
)

CHARGES: tuple[tuple[Change, str, str], ...] = (
    (_first("standing", per_day="1"), "standing[0]", "exactly one of"),
    (_first("standing", collect="monthly"), "standing[0].collect", "not one of"),
    (_first("standing", code="Net"), "standing[0].code", "short word"),
    (_first("standing", label="\n"), "standing[0].label", "printable"),
    (_first("standing", per_month="10000000.1"), "standing[0].per_month", "at most 10000000"),
    (_set(standing=[]), "standing", "at least one entry"),
    (_set(standing=[{"per_day": "1"}] * 17), "standing", "at most 16"),
    (_set(standing=[{"per_day": "1"}] * 2), "standing[1].code", "code of standing[0] already"),
    (_first("fees", code="net"), "fees[0].code", "'net' is the code of standing[0] already"),
    (_first("fees", per_kwh="1"), "fees[0]", "exactly one of"),
    (_set(fees=[{"code": "x", "per_year": "0"}]), "fees[0].per_year", "more than 0"),
    (_set(fees=[{"code": "x", "per_kwh": "0"}]), "fees[0].per_kwh", "more than 0"),
    (_set(fees=[{"code": "x", "share": "100.1"}]), "fees[0].share", "at most 100"),
    (_set(fees=[{"code": "x", "share": "5.00001"}]), "fees[0].share", "at most 4 decimals"),
    (
        _set(fees=[{"code": "x", "share": "5", "collect": "daily"}]),
        "fees[0].collect",
        "per day, month or year",
    ),
    (_set(fees=[{"share": "5"}]), "fees[0]", "lacks 'code'"),
    (_set(minimum={"per_day": "5"}), "minimum", "unknown entry 'per_day'"),
    (_set(minimum={"per_month": "75.01"}), "maximum", "less than the minimum"),
    (_set(maximum={"per_month": "0"}), "maximum.per_month", "more than 0"),
    (_first("demand", interval_minutes=20), "demand[0].interval_minutes", "5, 10, 15, 30, 60"),
    (_first("demand", interval_minutes="15"), "demand[0].interval_minutes", "one of"),
    (_first("demand", bands=["hot"]), "demand[0].bands", "not a band"),
    (_first("demand", per_kw="0"), "demand[0].per_kw", "more than 0"),
    (_first("demand", ratchet={"share": "80"}), "demand[0].ratchet", "lacks 'months'"),
    (
        _first("demand", ratchet={"share": "101", "months": 11}),
        "demand[0].ratchet.share",
        "at most 100",
    ),
    (
        _first("demand", ratchet={"share": "80", "months": 25}),
        "demand[0].ratchet.months",
        "from 1 to 24",
    ),
    (_first("demand", power_factor="1.01"), "demand[0].power_factor", "at most 1"),
    (_first("demand", power_factor="0"), "demand[0].power_factor", "more than 0"),
    (_first("demand", per_kva="5"), "demand[0]", "unknown entry 'per_kva'"),
    (_first("taxes", rate="101"), "taxes[0].rate", "at most 100"),
    (_first("taxes", on=["water"]), "taxes[0].on", "'water' is not one of energy"),
    (_first("taxes", on=[]), "taxes[0].on", "at least one"),
    (_first("taxes", inclusive="yes"), "taxes[0].inclusive", "true or false"),
    (_first("taxes", compound=True), "taxes[0].compound", "needs a tax before it"),
    (_first("taxes", until="2026-01-02"), "taxes[1]", "'vat' already holds"),
    (_first("taxes", until="01.01.2026"), "taxes[0].until", "a date such as"),
    (_first("taxes", until="2026-02-30"), "taxes[0].until", "a date such as"),
    (
        _first("taxes", **{"from": "2026-01-01"}),
        "taxes[0].until",
        "later than 'from'",
    ),
    (
        lambda d: d["taxes"].append(
            {"code": "x", "rate": "1", "compound": True, "inclusive": True, "on": ["fee"]}
        ),
        "taxes[3].inclusive",
        "conflicts with 'levy'",
    ),
    (
        lambda d: d["taxes"].append({"code": "x", "rate": "79", "on": ["energy"]}),
        "taxes",
        "on energy come to 100.8 %",
    ),
    (_first("allowances", per_kwh="1"), "allowances[0]", "exactly one of"),
    (_first("allowances", window="purchase"), "allowances[0].window", "every recharge"),
    (_first("allowances", free_kwh="0"), "allowances[0].free_kwh", "more than 0"),
    (
        lambda d: d["allowances"][1].update(window="day"),
        "allowances[1].window",
        "a rebate has none",
    ),
    (
        lambda d: d["allowances"].append({"code": "more", "free_kwh": "5"}),
        "allowances",
        "at most one with free_kwh",
    ),
)

PLAN: tuple[tuple[Change, str, str], ...] = (
    (_first("overlays", kind="peak"), "overlays[0].kind", "not one of critical_peak, real_time"),
    (lambda d: d["overlays"][0].pop("kind"), "overlays[0].kind", "not one of"),
    (_first("overlays", share="101"), "overlays[0].share", "at most 100"),
    (_first("overlays", price="1"), "overlays[0]", "unknown entry 'price'"),
    (lambda d: d["overlays"][1].pop("baseline_days"), "overlays[1]", "together or neither"),
    (
        lambda d: d["overlays"][1].update(baseline_days=0),
        "overlays[1].baseline_days",
        "from 1 to 60",
    ),
    (lambda d: d["overlays"][1].update(price="1", adder="1"), "overlays[1]", "not both"),
    (
        _set(overlays=[{"kind": "critical_peak", "group": "hot"}]),
        "overlays[0]",
        "a 'price', an 'adder' or a 'rebate'",
    ),
    (
        lambda d: d["overlays"].append({"kind": "real_time", "group": "spot"}),
        "overlays[2].group",
        "'spot' has a real_time price already",
    ),
    (_set(debt_recovery={"share": "0"}), "debt_recovery.share", "more than 0"),
    (_set(debt_recovery={"share": "100.01"}), "debt_recovery.share", "at most 100"),
    (_set(debt_recovery={"weekly_cap": "5"}), "debt_recovery", "lacks 'share'"),
    (lambda d: d["temporary"].pop("unit"), "temporary", "lacks 'unit'"),
    (lambda d: d["temporary"].update(unit="week"), "temporary.unit", "not one of hour, day"),
    (lambda d: d["temporary"].update(fee="-1"), "temporary.fee", "negative"),
    (
        lambda d: d["temporary"]["season"].update(until="11-24"),
        "temporary.season",
        "would never end",
    ),
    (
        lambda d: d["temporary"].update(season={"from": "01-01", "until": "01-01"}),
        "temporary.season",
        "would never end",
    ),
    (_set(billing_day=29), "billing_day", "from 1 to 28"),
    (_set(billing_day="1"), "billing_day", "whole number"),
    (_set(year_from="13-01"), "year_from", "not a day of the year"),
    (_set(note="two\nlines"), "note", "printable"),
    (_set(source="x" * 1001), "source", "1 to 1000"),
)


@pytest.mark.parametrize(("change", "place", "reason"), STEPS + CHARGES + PLAN)
def test_a_fault_is_refused_with_its_place_and_reason(
    change: Change, place: str, reason: str
) -> None:
    faulty = copy.deepcopy(document())
    change(faulty)
    with pytest.raises(TariffRefused) as refusal:
        parse_tariff(faulty)
    assert refusal.value.place == place
    assert reason in refusal.value.reason
    assert len(str(refusal.value)) < 200


def test_a_season_window_needs_seasons() -> None:
    flat = {
        "format": "prewatt-tariff/1",
        "name": "Flat",
        "currency": "EUR",
        "energy": {
            "unit": "kWh",
            "bands": {"all": {"prices": ["0.1", "0.2"]}},
            "steps": {"window": "season", "limits": ["100"]},
        },
    }
    with pytest.raises(TariffRefused, match=r"energy\.steps\.window: 'season' needs at least two"):
        parse_tariff(flat)
    flat["energy"] = {"unit": "kWh", "bands": {"all": {"price": "0.1"}}}
    flat["allowances"] = [{"code": "free", "free_kwh": "5", "window": "season"}]
    with pytest.raises(TariffRefused, match="allowances: with the window 'season' need"):
        parse_tariff(flat)


def test_a_reason_stays_short_whatever_was_sent() -> None:
    plan = document()
    plan["taxes"][0]["on"] = ["x" * 100_000]
    with pytest.raises(TariffRefused) as refusal:
        parse_tariff(plan)
    assert len(str(refusal.value)) < 200
