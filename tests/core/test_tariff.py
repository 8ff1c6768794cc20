"""The tariff format: what it accepts, the one canonical form, and a place for every refusal."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import date, datetime, time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import cases
from core.exact_model import band_at
from core.tariff_strategies import full_tariff_documents, tariff_documents
from prewatt.core.tariff import (
    MAX_PRICE_NANO,
    TariffRefused,
    band_table,
    canonical_json,
    decimal_text,
    digest,
    load_tariff,
    parse_tariff,
    to_document,
)

NIGHT = {"from": "00:00", "until": "07:00", "band": "night"}
DAY = {"from": "07:00", "until": "24:00", "band": "day"}


def document() -> dict[str, Any]:
    """A plan with two seasons, two day classes and a standing charge."""
    return {
        "format": "prewatt-tariff/1",
        "name": "Shops, 商铺",
        "currency": "EUR",
        "energy": {
            "unit": "kWh",
            "bands": {
                "day": {"price": "0.3120", "label": "Day"},
                "night": {"price": "0.168"},
            },
            "seasons": {
                "summer": [{"from": "06-01", "until": "09-01"}],
                "rest": [{"from": "09-01", "until": "06-01"}],
            },
            "day_classes": {
                "workday": ["mon", "tue", "wed", "thu", "fri"],
                "restday": ["sat", "sun", "holiday"],
            },
            "schedule": [
                {"season": "summer", "days": "workday", "periods": [dict(NIGHT), dict(DAY)]},
                {"season": "rest", "days": ["workday"], "periods": [dict(NIGHT), dict(DAY)]},
                {
                    "days": "restday",
                    "periods": [{"from": "00:00", "until": "24:00", "band": "night"}],
                },
            ],
        },
        "standing": {"per_day": "0.3500"},
    }


def test_a_document_becomes_bands_seasons_and_schedules() -> None:
    tariff = parse_tariff(document())
    assert [(each.name, each.label, each.price_nano_per_kwh) for each in tariff.bands] == [
        ("day", "Day", 312_000_000),
        ("night", "night", 168_000_000),
    ]
    assert [each.amount_nano for each in tariff.dated] == [350_000_000]
    assert [each.name for each in tariff.seasons] == ["rest", "summer"]
    assert tariff.seasons[0].ranges == ((0, 152), (244, 366))
    assert len(tariff.schedules) == 4
    assert not tariff.is_flat
    table = band_table(tariff)
    assert table.breakpoints == (0, 420)
    assert table.band.shape == (2, 2, 1440)
    assert table.season_of_day[[0, 151, 152, 243, 244, 365]].tolist() == [0, 0, 1, 1, 0, 0]


def test_a_flat_tariff_needs_no_schedule() -> None:
    flat = document()
    energy = flat["energy"]
    energy["bands"] = {"all": {"price": "0.248"}}
    for key in ("schedule", "seasons", "day_classes"):
        del energy[key]
    tariff = parse_tariff(flat)
    assert tariff.is_flat
    assert band_table(tariff).breakpoints == (0,)
    assert np.unique(band_table(tariff).band).tolist() == [0]


@settings(max_examples=cases(80), deadline=None)
@given(tariff_documents(), st.dates(date(2024, 1, 1), date(2028, 12, 31)), st.integers(0, 1439))
def test_the_canonical_form_is_a_fixed_point_and_prices_the_same(
    given_document: dict[str, Any], day: date, minute: int
) -> None:
    tariff = parse_tariff(given_document)
    again = load_tariff(canonical_json(tariff))
    assert again == tariff
    assert digest(again) == digest(tariff)
    moment = datetime.combine(day, time(minute // 60, minute % 60))
    for holidays in (frozenset[date](), frozenset({day})):
        expected = band_at(given_document, moment, holidays)
        assert band_at(to_document(tariff), moment, holidays) == expected


@settings(max_examples=cases(150), deadline=None)
@given(full_tariff_documents())
def test_every_part_survives_being_written(given_document: dict[str, Any]) -> None:
    tariff = parse_tariff(given_document)
    written = to_document(tariff)
    assert parse_tariff(written) == tariff
    assert to_document(load_tariff(canonical_json(tariff))) == written


def test_a_plan_keeps_its_digest_while_the_format_grows() -> None:
    """Approvals commit to it: what an old document says has the bytes that it had at first."""
    assert digest(parse_tariff(document())).hex() == (
        "191708723dfa73632213f38075b2299e2b9838fd3463228f67bb49d6e1feeaaf"
    )


def _move_summer(document: dict[str, Any]) -> None:
    document["energy"]["seasons"]["summer"][0]["until"] = "08-31"
    document["energy"]["seasons"]["rest"][0]["from"] = "08-31"


Change = Callable[[dict[str, Any]], object]

CHANGES: tuple[Change, ...] = (
    lambda d: d.update(name="Shops"),
    lambda d: d.update(currency="CNY"),
    lambda d: d["standing"].update(per_day="0.36"),
    lambda d: d["energy"]["bands"]["day"].update(price="0.312000001"),
    lambda d: d["energy"]["bands"]["day"].update(label="Daytime"),
    _move_summer,
)


def test_the_digest_ignores_how_a_plan_is_written_but_nothing_that_it_says() -> None:
    first = parse_tariff(document())
    other = document()
    other["energy"]["bands"] = dict(reversed(list(other["energy"]["bands"].items())))
    other["energy"]["bands"]["day"]["price"] = "0.312"
    other["energy"]["schedule"].reverse()
    split = [{"from": "00:00", "until": "03:00", "band": "night"}, dict(NIGHT, **{"from": "03:00"})]
    other["energy"]["schedule"][1]["periods"] = [*split, dict(DAY)]
    assert digest(parse_tariff(other)) == digest(first)
    for change in CHANGES:
        changed = document()
        change(changed)
        assert digest(parse_tariff(changed)) != digest(first)


def _periods(document: dict[str, Any]) -> Any:
    return document["energy"]["schedule"][0]["periods"]


REFUSALS: tuple[tuple[Change, str, str], ...] = (
    (lambda d: d.update(format="prewatt-tariff/2"), "format", "must be"),
    (lambda d: d.update(currency="eur"), "currency", "ISO 4217"),
    (lambda d: d.update(name=" "), "name", "printable"),
    (lambda d: d.update(vat="0.2"), "document", "unknown entry 'vat'"),
    (lambda d: d.pop("energy"), "document", "lacks 'energy'"),
    (lambda d: d.update(energy=[]), "energy", "object"),
    (lambda d: d["energy"].update(unit="MWh"), "energy.unit", "kWh"),
    (lambda d: d["energy"].update(bands={}), "energy.bands", "between 1 and"),
    (lambda d: d["energy"]["bands"].update(Peak={"price": "1"}), "energy.bands", "short word"),
    (lambda d: d["energy"]["bands"].update(x={"price": "1"}), "energy.bands.x", "used by no"),
    (
        lambda d: d["energy"]["bands"]["day"].update(price="-0.1"),
        "energy.bands.day.price",
        "negative",
    ),
    (lambda d: d["energy"]["bands"]["day"].update(price=0.3), "energy.bands.day.price", "quotes"),
    (lambda d: d["energy"]["bands"]["day"].update(price="1e3"), "energy.bands.day.price", "plain"),
    (lambda d: d["energy"]["bands"]["day"].update(price="NaN"), "energy.bands.day.price", "plain"),
    (
        lambda d: d["energy"]["bands"]["day"].update(price="0.0000000001"),
        "energy.bands.day.price",
        "9",
    ),
    (
        lambda d: d["energy"]["bands"]["day"].update(price="1000000.1"),
        "energy.bands.day.price",
        "most",
    ),
    (lambda d: d["energy"]["bands"]["day"].pop("price"), "energy.bands.day", "lacks 'price'"),
    (lambda d: d["energy"]["seasons"].pop("rest"), "energy.seasons", "gap at 01-01"),
    (
        lambda d: d["energy"]["seasons"]["summer"][0].update(until="09-02"),
        "energy.seasons.summer",
        "overlaps season 'rest' on 09-01",
    ),
    (
        lambda d: d["energy"]["seasons"]["summer"][0].update({"from": "02-30"}),
        "energy.seasons.summer[0].from",
        "not a day",
    ),
    (lambda d: d["energy"]["day_classes"]["workday"].pop(), "energy.day_classes", "leave out fri"),
    (
        lambda d: d["energy"]["day_classes"]["workday"].append("sat"),
        "energy.day_classes.workday",
        "already belongs",
    ),
    (
        lambda d: d["energy"]["day_classes"]["workday"].append("monday"),
        "energy.day_classes.workday",
        "not one of",
    ),
    (lambda d: d["energy"].pop("schedule"), "energy.schedule", "missing"),
    (lambda d: d["energy"]["schedule"].pop(0), "energy.schedule", "have no schedule"),
    (lambda d: d["energy"]["schedule"][0].pop("season"), "energy.schedule[1]", "already have"),
    (
        lambda d: d["energy"]["schedule"][0].update(days="x"),
        "energy.schedule[0].days",
        "not defined",
    ),
    (
        lambda d: _periods(d)[1].update({"from": "08:00"}),
        "energy.schedule[0].periods[1].from",
        "gap after 07:00",
    ),
    (
        lambda d: _periods(d)[1].update({"from": "06:59"}),
        "energy.schedule[0].periods[1].from",
        "overlaps the period until 07:00",
    ),
    (lambda d: _periods(d).pop(), "energy.schedule[0].periods", "gap from 07:00 until 24:00"),
    (lambda d: _periods(d)[1].update(until="24:01"), "energy.schedule[0].periods[1].until", "time"),
    (
        lambda d: _periods(d)[1].update(until="06:00"),
        "energy.schedule[0].periods[1].until",
        "later",
    ),
    (lambda d: _periods(d)[1].update(band="x"), "energy.schedule[0].periods[1].band", "not a band"),
    (lambda d: d.update(standing={"per_week": "1"}), "standing", "unknown entry 'per_week'"),
    (lambda d: d.update(standing={}), "standing", "exactly one of per_day, per_month"),
)


@pytest.mark.parametrize(("change", "place", "reason"), REFUSALS)
def test_a_fault_is_refused_with_its_place_and_reason(
    change: Change, place: str, reason: str
) -> None:
    faulty = copy.deepcopy(document())
    change(faulty)
    with pytest.raises(TariffRefused) as refusal:
        parse_tariff(faulty)
    assert refusal.value.place == place
    assert reason in refusal.value.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("[1]", "an object"),
        ('{"name": "a", "name": "b"}', "twice"),
        ('{"price": 0.1}', "in quotes"),
        ("[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
    ],
)
def test_text_that_is_not_one_clear_document_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(TariffRefused, match=reason):
        load_tariff(text)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(JSON_VALUES)
def test_anything_else_is_refused_and_never_crashes(value: object) -> None:
    with pytest.raises(TariffRefused):
        load_tariff(json.dumps(value))
    for key in ("bands", "seasons", "day_classes", "schedule"):
        faulty = document()
        faulty["energy"][key] = value
        with pytest.raises(TariffRefused):
            parse_tariff(faulty)


@given(st.integers(0, MAX_PRICE_NANO))
def test_a_price_survives_being_written(nano: int) -> None:
    flat = document()
    flat["standing"]["per_day"] = decimal_text(nano)
    assert sum(each.amount_nano for each in parse_tariff(flat).dated) == nano
