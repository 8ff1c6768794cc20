"""Every kind of bad row has its own error, with its place, what is wrong and what to do."""

from __future__ import annotations

import pytest
from tests.estate.tables import NOW, Tables, tables

from prewatt.estate.imports import EMERGENCY_LIMIT_MICRO, EstatePlan, plan_property
from prewatt.estate.sheets import ImportRefused, PropertySheets
from prewatt.vending.operations import LIMIT_MICRO


def _plan(made: Tables) -> EstatePlan:
    return plan_property(
        PropertySheets.of(made),
        known_property_codes=(),
        known_serials=(),
        importer="user:importer",
        now=NOW,
    )


def test_the_tables_themselves_are_in_order() -> None:
    plan = _plan(tables())
    assert [each.account for each in plan.meters] == ["1001", "V-A-102", "OWN-LIFT", ""]
    assert plan.points[0].code == "F"


@pytest.mark.parametrize(
    ("sheet", "row", "column", "value", "code"),
    [
        ("property", 0, "time_zone", "Mars/Olympus", "property.unknown_zone"),
        ("property", 0, "currency", "euro", "cell.too_long"),
        ("property", 0, "currency", "eur", "property.currency"),
        ("property", 0, "holiday_calendar", "XX", "property.unknown_calendar"),
        ("property", 0, "name", "", "cell.missing"),
        ("property", 0, "default_tariff", "gone", "reference.unknown"),
        ("tariffs", 0, "document", "{", "tariff.not_json"),
        ("tariffs", 0, "document", "[1]", "tariff.not_json"),
        ("tariffs", 0, "document", '{"format": "prewatt-tariff/1"}', "tariff.refused"),
        ("tariffs", 0, "approved_by", "", "cell.missing"),
        ("tariffs", 0, "approved_by", "user:importer", "tariff.self_approved"),
        ("buildings", 1, "code", "", "cell.missing"),
        ("units", 1, "kind", "castle", "cell.unknown_word"),
        ("units", 1, "floor", "first", "cell.not_a_number"),
        ("units", 1, "floor", "9999", "cell.out_of_range"),
        ("units", 1, "code", "101", "row.repeated"),
        ("metering_points", 0, "role", "socket", "cell.unknown_word"),
        ("metering_points", 0, "source", "wind", "cell.unknown_word"),
        ("metering_points", 0, "parent", "nowhere", "reference.unknown"),
        ("metering_points", 0, "unit", "", "cell.missing"),
        ("metering_points", 0, "unit", "999", "reference.unknown"),
        ("metering_points", 1, "parent", "P-101", "point.charged_twice"),
        ("metering_points", 3, "parent", "F", "point.ring"),
        ("meters", 0, "serial", "", "cell.missing"),
        ("meters", 1, "serial", "M-101", "row.repeated"),
        ("meters", 0, "metering_point", "P-999", "reference.unknown"),
        ("meters", 1, "metering_point", "P-101", "meter.point_taken"),
        ("meters", 0, "multiplier", "0", "cell.out_of_range"),
        ("meters", 0, "multiplier", "1.5", "cell.not_a_number"),
        ("meters", 0, "opening_wh", "-1", "cell.out_of_range"),
        ("meters", 0, "opening_wh", "1000000000", "cell.out_of_range"),
        ("meters", 0, "installed_at", "yesterday", "cell.not_a_date"),
        ("meters", 0, "installed_at", "2026-11-18", "cell.in_the_future"),
        ("meters", 0, "installed_at", "1970-01-01", "cell.too_early"),
        ("meters", 0, "installed_at", "2026-09-01", "meter.before_tenancy"),
        ("meters", 0, "has_relay", "maybe", "cell.unknown_word"),
        ("meters", 0, "driver", "pigeon", "cell.unknown_word"),
        ("customers", 0, "email", "ada at example", "customer.email"),
        ("customers", 0, "name", "x" * 121, "cell.too_long"),
        ("accounts", 0, "opening_balance", "2,550", "cell.amount_ambiguous"),
        ("accounts", 0, "opening_balance", "25.5051", "cell.amount_too_many_decimals"),
        ("accounts", 0, "opening_balance", "1e9", "cell.amount_malformed"),
        ("accounts", 0, "opening_balance", "9999999", "cell.amount_over_limit"),
        ("accounts", 0, "emergency_credit", "five", "cell.amount_malformed"),
        ("accounts", 0, "emergency_credit", "5,000", "cell.amount_ambiguous"),
        ("accounts", 0, "emergency_credit", "5.0011", "cell.amount_too_many_decimals"),
        ("accounts", 0, "emergency_credit", "-1", "cell.amount_negative"),
        ("accounts", 0, "emergency_credit", "−0.01", "cell.amount_negative"),
        ("accounts", 0, "emergency_credit", "100000.01", "cell.amount_over_limit"),
        ("accounts", 1, "emergency_credit", "5", "account.vacancy_emergency"),
        ("accounts", 0, "protection", "friend", "cell.unknown_word"),
        ("accounts", 0, "tariff", "gone", "reference.unknown"),
        ("accounts", 0, "kind", "gift", "cell.unknown_word"),
        ("accounts", 1, "customer", "c1", "account.vacancy_customer"),
        ("accounts", 1, "number", "1001", "row.repeated"),
        ("tenancies", 0, "unit", "999", "reference.unknown"),
        ("tenancies", 0, "account", "OWN-LIFT", "tenancy.foreign_account"),
        ("tenancies", 0, "account", "7", "reference.unknown"),
        ("tenancies", 0, "begins_at", "2027-01-01", "cell.in_the_future"),
    ],
)
def test_each_bad_cell_is_named(sheet: str, row: int, column: str, value: str, code: str) -> None:
    made = tables()
    made[sheet][row][column] = value
    with pytest.raises(ImportRefused) as refused:
        _plan(made)
    told = {(each.sheet, each.row, each.column, each.code) for each in refused.value.errors}
    assert (sheet, row + 2, column, code) in told
    for each in refused.value.errors:
        assert each.problem.endswith(".") and each.remedy.endswith(".")


@pytest.mark.parametrize(
    ("value", "micro"),
    [("", 0), ("0", 0), ("5", 5_000_000), ("12.5", 12_500_000), ("100000", 10**11)],
)
def test_emergency_credit_is_optional_and_in_units_of_the_currency(value: str, micro: int) -> None:
    made = tables()
    made["accounts"][0]["emergency_credit"] = value
    assert {each.number: each.emergency_micro for each in _plan(made).accounts} == {
        "1001": micro,
        "OWN-LIFT": 0,
        "V-A-102": 0,
    }


def test_emergency_credit_has_the_decimals_of_its_currency() -> None:
    made = tables()
    made["property"][0] |= {"currency": "JPY", "minor_digits": "0"}
    made["accounts"][0] |= {"opening_balance": "2550", "emergency_credit": "500.5"}
    with pytest.raises(ImportRefused) as refused:
        _plan(made)
    assert "cell.amount_too_many_decimals" in {each.code for each in refused.value.errors}


def test_what_is_too_much_or_below_zero_is_told_the_bound() -> None:
    made = tables()
    made["accounts"][0] |= {"opening_balance": "1000001", "emergency_credit": "100001"}
    with pytest.raises(ImportRefused) as refused:
        _plan(made)
    assert {each.column: each.remedy for each in refused.value.errors} == {
        "opening_balance": "It must be at most 1000000.",
        "emergency_credit": "It must be at most 100000.",
    }


def test_one_recharge_can_pay_back_all_emergency_credit() -> None:
    assert EMERGENCY_LIMIT_MICRO <= LIMIT_MICRO
