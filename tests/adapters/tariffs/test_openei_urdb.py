"""What items become, what is refused, and that nothing else ever happens."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from datetime import date
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.tariffs.urdb_items import PATHS, household, household_bill, item
from cases import cases
from prewatt.adapters.tariffs.openei_urdb import UrdbRefused, load_item, read_item
from prewatt.core.statement_lines import Part
from prewatt.core.tariff.model import Per, Scale


def test_prices_are_rate_and_adjustment_to_nine_decimals() -> None:
    tariff = read_item(
        item(
            energyratestructure=[
                [{"rate": 0.1000000004, "adj": -0.02, "unit": "kWh"}],
                [{"rate": 0.3, "adj": 1.00000000049}],
            ]
        )
    ).tariff
    assert [band.prices_nano_per_kwh for band in tariff.bands] == [(80_000_000,), (1_300_000_000,)]
    assert [band.name for band in tariff.bands] == ["p01", "p02"]


def test_tiers_per_day_are_scaled_by_days() -> None:
    tiers = [{"rate": 0.1, "max": 13.5, "unit": "kWh daily"}, {"rate": 0.2, "unit": "kWh daily"}]
    steps = read_item(item(energyratestructure=[tiers, tiers])).tariff.steps
    assert steps is not None
    assert (steps.limits_wh, steps.scale) == (((13_500,),), Scale.DAYS)


@pytest.mark.parametrize(
    ("unit", "amount", "nano"),
    [
        ("$/month", 12.5, 12_500_000_000),
        ("$/day", 0.6, 18_250_000_000),
        ("$/year", 100, 8_333_333_333),
    ],
)
def test_fixed_charges_become_monthly(unit: str, amount: float, nano: int) -> None:
    tariff = read_item(item(fixedchargefirstmeter=amount, fixedchargeunits=unit)).tariff
    (charge,) = tariff.dated
    assert (charge.per, charge.amount_nano) == (Per.MONTH, nano)


def test_a_minimum_is_a_floor_on_all_of_the_month_or_the_year() -> None:
    for unit, filled in (("$/month", 12), ("$/year", 1)):
        statement = household_bill(read_item(item(mincharge=5_000, minchargeunits=unit)).tariff)
        assert sum(month.minimum > 0 for month in statement.months) == filled
        assert statement.months[-1].minimum > 0


def test_flat_demand_is_the_highest_of_each_month_at_its_own_price() -> None:
    months = [0] * 5 + [1] * 4 + [2] * 3
    structure = [[{"rate": 5}], [{"rate": 8, "adj": 0.5}], [{"rate": 0}]]
    tariff = read_item(
        item(flatdemandstructure=structure, flatdemandmonths=months, demandwindow=60)
    ).tariff
    peaks = _peaks(lambda at: True)
    assert [month.amounts()[Part.DEMAND] for month in household_bill(tariff).months] == [
        Fraction(peaks[month] * price * 1000)
        for month, price in enumerate([5] * 5 + [Fraction(17, 2)] * 4 + [0] * 3)
    ]


def test_demand_by_time_of_use_is_the_highest_of_each_period() -> None:
    weekday = [[0] * 16 + [1] * 4 + [2] * 4 for _ in range(12)]
    item_ = item(
        demandratestructure=[[{"rate": 0}], [{"rate": 7}], [{"rate": 2}]],
        demandweekdayschedule=weekday,
        demandweekendschedule=[[0] * 24 for _ in range(12)],
    )
    is_weekday = (np.arange(365) + date(2018, 1, 1).weekday()) % 7 < 5

    def at(hours: range) -> list[int]:
        return _peaks(lambda hour: bool(is_weekday[hour // 24]) and hour % 24 in hours)

    by_hour, unsaid = read_item(item_ | {"demandwindow": 60}), read_item(item_)
    found = [
        [month.amounts()[Part.DEMAND] for month in household_bill(each.tariff).months]
        for each in (by_hour, unsaid)
    ]
    assert found[0] == [
        Fraction(early * 7_000 + late * 2_000)
        for early, late in zip(at(range(16, 20)), at(range(20, 24)), strict=True)
    ]
    # An hour's energy falls to its quarters in whole Wh, so a quarter can have a few W more.
    assert "demand is measured over 15 minutes" in unsaid.notes
    assert all(0 <= quarters - hours <= 3 * 9_000 for hours, quarters in zip(*found, strict=True))


def _peaks(counts: Any) -> list[int]:
    """The household's highest hour in W of each month, among those that count."""
    _, energy = household()
    peaks = [0] * 12
    for hour, wh in enumerate(energy.tolist()):
        if counts(hour):
            month = date.fromordinal(date(2018, 1, 1).toordinal() + hour // 24).month
            peaks[month - 1] = max(peaks[month - 1], wh)
    return peaks


TIER = {"rate": 0.1, "unit": "kWh"}
LOWER = {"rate": 0.1, "unit": "kWh", "max": 100}
NIGHTS = [[0] * 24 for _ in range(12)]


def _structure(*tiers: Any) -> dict[str, Any]:
    return {"energyratestructure": [list(tiers), [TIER]], "energyweekdayschedule": NIGHTS}


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    (_structure({"rate": 0.1, "unit": "kWh/kW"}), "energyratestructure[0][0].unit", "kWh/kW"),
    (_structure({"rate": 0.1, "unit": "therm"}), "energyratestructure[0][0].unit", "therm"),
    (_structure({"rate": 0.1, "unit": 7}), "energyratestructure[0][0].unit", "7"),
    (_structure({"rate": 0.1, "max": 5}, {"rate": 1}), "energyratestructure[0]", "without a unit"),
    (_structure(LOWER), "energyratestructure[0][0].max", "no price"),
    (_structure(TIER, TIER), "energyratestructure[0][0]", "lacks max"),
    (_structure(LOWER, LOWER, TIER), "energyratestructure[0][1].max", "more than the limit"),
    (_structure(LOWER | {"max": 0}, TIER), "energyratestructure[0][0].max", "more than"),
    (_structure(LOWER | {"max": 0.0001}, TIER), "energyratestructure[0][0].max", "whole number"),
    (_structure(LOWER | {"max": True}, TIER), "energyratestructure[0][0].max", "must be a number"),
    (_structure(LOWER | {"max": 1e14}, TIER), "energyratestructure[0][0].max", "sensible"),
    (
        _structure(LOWER, {"rate": 0.2, "unit": "kWh daily"}),
        "energyratestructure[0]",
        "kWh and in kWh daily",
    ),
    (_structure({"unit": "kWh"}), "energyratestructure[0][0]", "lacks rate"),
    (_structure({"rate": -0.1}), "energyratestructure[0][0].rate", "less than 0"),
    (_structure({"rate": 0.1, "adj": -0.2}), "energyratestructure[0][0].rate", "less than 0"),
    (_structure({"rate": "0.1"}), "energyratestructure[0][0].rate", "must be a number"),
    (_structure({"rate": 1e300}), "energyratestructure[0][0].rate", "sensible range"),
    (_structure({"rate": 10**4000}), "energyratestructure[0][0].rate", "sensible range"),
    (_structure({"rate": float("inf")}), "energyratestructure[0][0].rate", "finite"),
    (_structure({"rate": 10_000_000}), "energyratestructure[0][0].rate", "beyond any price"),
    (_structure(TIER | {"sell": 0.03}), "energyratestructure[0][0].sell", "export"),
    (_structure(TIER | {"colour": "red"}), "energyratestructure[0][0]", "'colour'"),
    (
        _structure(*([LOWER | {"max": each + 1} for each in range(16)] + [TIER])),
        "energyratestructure[0]",
        "17 tiers",
    ),
    (_structure(), "energyratestructure[0]", "at least one"),
    ({"energyratestructure": None}, "energyratestructure", "at least one"),
    ({"energyratestructure": [[LOWER, TIER], [TIER]]}, "energyratestructure[1]", "other limits"),
    ({"energyratestructure": [[TIER], [[]]]}, "energyratestructure[1][0]", "object"),
    ({"energyweekdayschedule": None}, "energyweekdayschedule", "at least one"),
    ({"energyweekdayschedule": [[0] * 24] * 11}, "energyweekdayschedule", "12 entries, not 11"),
    ({"energyweekdayschedule": [[0] * 23] * 12}, "energyweekdayschedule[0]", "24 entries, not 23"),
    ({"energyweekendschedule": [[2] * 24] * 12}, "energyweekendschedule[0][0]", "2 periods"),
    ({"energyweekendschedule": [[-1] * 24] * 12}, "energyweekendschedule[0][0]", "-1"),
    ({"energyweekendschedule": [[True] * 24] * 12}, "energyweekendschedule[0][0]", "True"),
    ({"fixedchargefirstmeter": 3}, "fixedchargeunits", "None"),
    ({"fixedchargefirstmeter": 3, "fixedchargeunits": "$/kW"}, "fixedchargeunits", "$/kW"),
    (
        {"fixedchargefirstmeter": -3, "fixedchargeunits": "$/month"},
        "fixedchargefirstmeter",
        "less than 0",
    ),
    ({"mincharge": 3, "minchargeunits": "$/hour"}, "minchargeunits", "$/hour"),
    ({"fixedchargeeaaddl": 1}, "fixedchargeeaaddl", "one meter's"),
    ({"fixedmonthlycharge": 4}, "fixedmonthlycharge", "older form"),
    ({"flatdemandunit": "kVA"}, "flatdemandunit", "kVA"),
    ({"demandrateunit": "kW daily"}, "demandrateunit", "kW daily"),
    ({"flatdemandmonths": [0] * 12}, "flatdemandmonths", "flatdemandstructure"),
    ({"flatdemandstructure": [[{"rate": 1}]]}, "flatdemandmonths", "at least one"),
    (
        {"flatdemandstructure": [[{"rate": 1, "max": 5}, {"rate": 2}]]},
        "flatdemandstructure[0]",
        "tiers by kW",
    ),
    (
        {"flatdemandstructure": [[{"rate": 1, "unit": "hp"}]], "flatdemandmonths": [0] * 12},
        "flatdemandstructure[0][0].unit",
        "hp",
    ),
    (
        {"flatdemandstructure": [[{"rate": 1, "max": 9}]], "flatdemandmonths": [0] * 12},
        "flatdemandstructure[0][0].max",
        "no price",
    ),
    (
        {
            "flatdemandstructure": [[{"rate": 1}]],
            "flatdemandmonths": [0] * 12,
            "demandwindow": 45,
        },
        "demandwindow",
        "minutes",
    ),
    ({"demandweekdayschedule": NIGHTS}, "demandweekdayschedule", "demandratestructure"),
    ({"demandratchetpercentage": [0] * 11 + [80]}, "demandratchetpercentage", "ratchet"),
    ({"lookbackPercent": 0.5}, "lookbackPercent", "looks back"),
    ({"demandreactivepowercharge": 0.3}, "demandreactivepowercharge", "reactive"),
    ({"coincidentratestructure": [[{"rate": 3}]]}, "coincidentratestructure", "system's peak"),
    ({"usenetmetering": True}, "usenetmetering", "net metering"),
    ({"dgrules": "Net Metering"}, "dgrules", "own generation"),
    ({"energyattrs": [{"Fuel": "see rider"}]}, "energyattrs", "in words"),
    ({"fueladjustmentsmonthly": [0.0] * 11 + [0.01]}, "fueladjustmentsmonthly", "by month"),
    ({"country": "CAN"}, "country", "CAN"),
    ({"surprise": 1}, "surprise", "not a field"),
]


@pytest.mark.parametrize(("fields", "place", "reason"), REFUSED)
def test_what_cannot_be_honoured_is_refused(
    fields: dict[str, Any], place: str, reason: str
) -> None:
    with pytest.raises(UrdbRefused) as refused:
        read_item(item(**fields))
    assert refused.value.place == place
    assert reason in refused.value.reason


def test_fields_that_say_nothing_refuse_nothing() -> None:
    silent: dict[str, Any] = {
        "usenetmetering": False,
        "demandratchetpercentage": [0, 0.0],
        "fixedchargeeaaddl": 0,
        "dgrules": "",
        "energyattrs": [],
        "surprise": None,
        "country": "USA",
        "mincharge": 0,
    }
    assert read_item(item(**silent)) == read_item(item())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "item"),
        ("[1]", "item"),
        ("null", "item"),
        ("[" * 100_000, "item"),
        ('{"items": []}', "items"),
        ('{"items": [{}, {}]}', "items"),
        ('{"items": [3]}', "item"),
        ('{"name": "a", "name": "b"}', "name"),
        ('{"energyratestructure": [[{"rate": 1e99999999999999999999}]]}', "energyratestructure"),
        ('{"energyratestructure": [[{"rate": NaN}]]}', "energyratestructure[0][0].rate"),
        ('{"energyratestructure": [[{"rate": 1e999999}]]}', "energyratestructure[0][0].rate"),
        ("\udcff", "item"),
    ],
)
def test_what_is_no_item_is_refused(text: str, place: str) -> None:
    with pytest.raises(UrdbRefused) as refused:
        load_item(text)
    assert refused.value.place.startswith(place) or refused.value.place == "item"


NOISE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 30),
        st.integers(),
        st.floats(),
        st.sampled_from((0.1, 1e-12, 1e15, 1e308, 10**30, "kWh", "kWh daily", "$/day", "kW", "")),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(st.sampled_from(("rate", "adj", "max", "unit", "sell")), st.text(max_size=4)),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=6,
)
FIELDS = sorted(
    {
        *(key for fields, _, _ in REFUSED for key in fields),
        "fixedchargeunits",
        "minchargeunits",
        "demandweekendschedule",
        "demandratestructure",
        "holidays",
        "name",
        "source",
    }
)
ITEMS = [json.loads(path.read_text()) for path in PATHS] + [
    item(
        flatdemandstructure=[[{"rate": 5}], [{"rate": 2}]],
        flatdemandmonths=[0, 1] * 6,
        demandratestructure=[[{"rate": 0}], [{"rate": 7}]],
        demandweekdayschedule=NIGHTS,
        demandweekendschedule=[[1] * 24 for _ in range(12)],
        mincharge=3,
        minchargeunits="$/day",
    )
]


@st.composite
def _mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A real item with one to three places changed, removed or doubled."""
    changed = deepcopy(draw(st.sampled_from(ITEMS)))
    for _ in range(draw(st.integers(1, 3))):
        _change(draw, changed)
    return changed


def _change(draw: st.DrawFn, changed: dict[str, Any]) -> None:
    chance = random.Random(draw(st.integers(0, 2**32)))
    if draw(st.integers(0, 3)) == 0:
        changed[draw(st.sampled_from(FIELDS))] = draw(NOISE)
        return
    holder: Any = changed
    key: Any = chance.choice(sorted(changed))
    while isinstance(holder[key], list | dict) and holder[key] and chance.random() < 0.9:
        holder = holder[key]
        key = chance.choice(sorted(holder) if isinstance(holder, dict) else range(len(holder)))
    how = draw(st.sampled_from(("replace", "number", "remove", "double")))
    if how == "remove":
        del holder[key]
    elif how == "double" and isinstance(holder, list):
        holder.insert(key, deepcopy(holder[key]))
    elif how == "number":
        holder[key] = draw(st.one_of(st.integers(0, 5), st.floats(0, 1_000)))
    else:
        holder[key] = draw(NOISE)
    if not changed:
        changed["name"] = "nothing left"


@settings(max_examples=cases(150), deadline=None)
@given(_mutated())
def test_a_damaged_item_is_refused_or_billed_and_nothing_else(changed: dict[str, Any]) -> None:
    tariff, refusal = None, ""
    try:
        tariff = load_item(json.dumps(changed)).tariff
    except UrdbRefused as refused:
        refusal = str(refused)
    if tariff is None:
        assert ": " in refusal
        assert refusal.isprintable()
        return
    months = household_bill(tariff).months
    assert len(months) == 12
    assert all(month.total >= 0 for month in months)
