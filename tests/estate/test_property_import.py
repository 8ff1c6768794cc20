"""A property comes in whole or not at all, and every bad row is told in one go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from tests.estate.tables import NOW, Tables, tables, write_folder

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, system_actor
from prewatt.estate import queries
from prewatt.estate.sheets import ImportRefused, PropertySheets, read_sheets
from prewatt.moves.onboarding import import_property

IMPORTER = system_actor("import")

pytestmark = pytest.mark.usefixtures("database")


def _rows(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall())


def _import(made: Tables) -> int:
    return import_property(actor=IMPORTER, sheets=PropertySheets.of(made), now=NOW).property_id


def _errors(made: Tables) -> list[tuple[str, int, str, str]]:
    with pytest.raises(ImportRefused) as refused:
        _import(made)
    for each in refused.value.errors:
        assert each.problem.endswith(".") and each.remedy.endswith(".")
    return [(each.sheet, each.row, each.column, each.code) for each in refused.value.errors]


EVERYTHING = [
    "organisation",
    "legal_entity",
    "property",
    "building",
    "unit",
    "metering_point",
    "meter",
    "installation",
    "customer",
    "account",
    "tenancy",
    "meter_assignment",
    "account_state",
    "meter_state",
    "meter_link",
    "supply_state",
    "transfer",
    "register_reading",
    "tariff",
    "tariff_version",
    "tariff_assignment",
    "tariff_epoch",
    "audit_event",
]


def _counts() -> dict[str, int]:
    return {table: _rows(f"SELECT count(*) FROM {table}")[0][0] for table in EVERYTHING}


def test_a_folder_becomes_a_running_property(tmp_path: Path) -> None:
    sheets = read_sheets(write_folder(tmp_path, tables()))
    report = import_property(actor=IMPORTER, sheets=sheets, now=NOW)
    assert report.counts == {
        "tariffs": 1, "buildings": 2, "units": 3, "metering_points": 4, "meters": 4,
        "customers": 1, "accounts": 3, "tenancies": 1,
    }  # fmt: skip
    assert report.vacancy_accounts == 2
    assert report.opening_balance_micro == 125_500_000
    assert report.unpaid_serials == ("M-F",)
    watermarks = _rows(
        """SELECT a.number, m.serial, s.opened_value_wh, s.last_value_wh, s.opened_at = s.last_at,
                  to_char(s.opened_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
           FROM meter_state s JOIN account a ON a.id = s.account_id JOIN meter m ON m.id = s.meter_id
           ORDER BY m.serial"""
    )
    assert watermarks == [
        ("1001", "M-101", 1_000, 1_000, True, "2026-10-31 23:00"),
        ("V-A-102", "M-102", 2_000, 2_000, True, "2026-10-31 23:00"),
        ("OWN-LIFT", "M-LIFT", 3_000, 3_000, True, "2026-10-31 23:00"),
    ]
    balances = _rows(
        """SELECT a.number, s.posted, s.transfer_seq, u.protection
           FROM account_state s JOIN account a ON a.id = s.account_id
           LEFT JOIN supply_state u ON u.account_id = s.account_id ORDER BY a.number"""
    )
    # The owner of a vacant flat is not cut off for money; nobody decides about it at all.
    assert balances == [
        ("1001", 25_500_000, 1, "medical"),
        ("OWN-LIFT", 100_000_000, 1, "lift"),
        ("V-A-102", 0, 0, None),
    ]
    tree = dict(
        _rows(
            "SELECT c.code, p.code FROM metering_point c LEFT JOIN metering_point p ON p.id = c.parent_id"
        )
    )
    fed = _rows("""SELECT p.code, lower(f.period) = lower(i.period), upper_inf(f.period) FROM feed_in f
                   JOIN metering_point p ON p.id = f.metering_point_id JOIN installation i ON i.metering_point_id = p.id""")
    assert fed == [("P-101", True, True)]
    assert tree == {"P-101": "F", "P-102": "F", "P-LIFT": "F", "F": None}
    assert _rows("SELECT serial FROM meter JOIN meter_link ON meter_id = meter.id ORDER BY 1") == [
        ("M-101",), ("M-102",), ("M-F",), ("M-LIFT",),
    ]  # fmt: skip


def test_opening_balances_are_transfers_that_sum_to_the_posted_balance() -> None:
    made = tables()
    made["accounts"][0]["opening_balance"] = "-3.10"
    _import(made)
    assert _rows(
        """SELECT a.number, t.kind, t.counter_account, t.amount, t.posted_after, s.posted
           FROM transfer t JOIN account a ON a.id = t.account_id
           JOIN account_state s ON s.account_id = a.id ORDER BY 1"""
    ) == [
        ("1001", 1, 8, -3_100_000, -3_100_000, -3_100_000),
        ("OWN-LIFT", 1, 8, 100_000_000, 100_000_000, 100_000_000),
    ]


def test_emergency_credit_is_granted_with_the_account() -> None:
    made = tables()
    made["accounts"][0] |= {"emergency_credit": "12.50", "protection": ""}
    _import(made)
    assert _rows(
        """SELECT a.number, u.emergency_micro FROM supply_state u
           JOIN account a ON a.id = u.account_id ORDER BY 1"""
    ) == [("1001", 12_500_000), ("OWN-LIFT", 0)]


def test_bad_rows_leave_nothing_behind() -> None:
    for sheet, row, column, value, code in (
        ("units", 1, "kind", "castle", "cell.unknown_word"),
        ("tenancies", 0, "account", "OWN-LIFT", "tenancy.foreign_account"),
        ("tariffs", 0, "approved_by", "system:import", "tariff.self_approved"),
        ("accounts", 0, "emergency_credit", "-5", "cell.amount_negative"),
    ):
        made = tables()
        made[sheet][row][column] = value
        assert (sheet, row + 2, column, code) in _errors(made)
        assert set(_counts().values()) == {0}


def test_all_bad_rows_are_told_together_and_in_order() -> None:
    made = tables()
    made["units"][0]["kind"] = "castle"
    made["units"][1]["floor"] = "x"
    made["meters"][2]["opening_wh"] = ""
    made["accounts"][0]["opening_balance"] = "much"
    assert _errors(made) == [
        ("units", 2, "kind", "cell.unknown_word"),
        ("units", 3, "floor", "cell.not_a_number"),
        ("meters", 4, "opening_wh", "cell.missing"),
        ("accounts", 2, "opening_balance", "cell.amount_malformed"),
    ]


def test_two_tenancies_of_one_unit_and_a_let_common_point_are_refused() -> None:
    made = tables()
    made["tenancies"].append(dict(made["tenancies"][0], begins_at="2026-11-05"))
    made["tenancies"].append(dict(made["tenancies"][0], building="B", unit="LIFT"))
    codes = {(sheet, row, code) for sheet, row, _, code in _errors(made)}
    assert ("tenancies", 3, "row.repeated") in codes
    assert ("metering_points", 4, "point.common_is_let") in codes


def test_a_vacant_unit_needs_a_tariff_for_its_account() -> None:
    made = tables()
    del made["property"][0]["default_tariff"]
    assert ("units", 3, "code", "account.no_tariff") in _errors(made)


def test_unknown_columns_and_a_missing_or_second_property_are_refused() -> None:
    assert ("units", 1, "colour", "sheet.unknown_column") in _errors(
        tables(units=[{"building": "A", "code": "1", "kind": "flat", "colour": "red"}])
    )
    assert ("property", 0, "", "property.not_one") in _errors(tables(property=[]))
    assert ("property", 0, "", "property.not_one") in _errors(
        tables(property=tables()["property"] * 2)
    )


def test_the_same_property_or_meter_cannot_come_twice() -> None:
    _import(tables())
    before = _counts()
    codes = {(sheet, row, code) for sheet, row, _, code in _errors(tables())}
    assert codes == {("property", 2, "property.exists")} | {
        ("meters", row, "meter.exists") for row in range(2, 6)
    }
    assert _counts() == before


def test_a_failure_after_the_check_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("prewatt.moves.onboarding.link_meters", fail)
    with pytest.raises(RuntimeError):
        _import(tables())
    assert set(_counts().values()) == {0}


@pytest.mark.parametrize("duty", [Duty.OPERATOR, Duty.ADMINISTRATOR, Duty.AUDITOR])
def test_only_the_system_imports(duty: Duty) -> None:
    with pytest.raises(PermissionRefused):
        import_property(
            actor=Actor("user:1", duty, (1,)), sheets=PropertySheets.of(tables()), now=NOW
        )


def test_queries_find_meters_units_and_tenants() -> None:
    property_id = _import(tables())
    found = queries.meters_by_serial(actor=IMPORTER, serials=["M-101", "M-F", "no"], at=NOW)
    assert set(found) == {"M-101", "M-F"}
    assert found["M-F"].account_id is None
    assert found["M-101"].property_id == property_id
    units = queries.units_in_order(actor=IMPORTER, property_id=property_id, at=NOW)
    assert [(u.building, u.code, u.vacant) for u in units] == [
        ("A", "101", False), ("A", "102", True), ("B", "LIFT", True),
    ]  # fmt: skip
    assert units[0].account_id == found["M-101"].account_id
    tenancy = queries.tenancy_of_unit(actor=IMPORTER, unit_id=units[0].unit_id, at=NOW)
    assert tenancy is not None and tenancy.customer == "Ada Weiß" and tenancy.ends_at is None
    assert queries.tenancy_of_unit(actor=IMPORTER, unit_id=units[1].unit_id, at=NOW) is None


def test_a_foreign_property_is_invisible() -> None:
    property_id = _import(tables())
    stranger = Actor("user:9", Duty.ADMINISTRATOR, (property_id + 1,))
    assert queries.meters_by_serial(actor=stranger, serials=["M-101"], at=NOW) == {}
    with pytest.raises(PermissionRefused):
        queries.units_in_order(actor=stranger, property_id=property_id, at=NOW)
    assert queries.properties(actor=stranger) == []
    friend = Actor("user:8", Duty.AUDITOR, (property_id,))
    assert [each.code for each in queries.properties(actor=friend)] == ["linden"]


def test_two_hundred_and_forty_units_come_in_within_three_seconds() -> None:
    count = 240
    made = tables(
        units=[
            {"building": "AB"[n % 2], "code": f"{n}", "floor": n // 20, "kind": "flat"}
            for n in range(count)
        ],
        metering_points=[
            {"code": f"P{n}", "building": "AB"[n % 2], "unit": f"{n}", "role": "supply"}
            for n in range(count)
        ],
        meters=[
            {
                "serial": f"S{n}",
                "metering_point": f"P{n}",
                "installed_at": "2026-08-19",
                "opening_wh": n,
            }
            for n in range(count)
        ],
        customers=[{"code": f"c{n}", "name": f"Tenant {n}"} for n in range(220)],
        accounts=[
            {"number": f"{n}", "customer": f"c{n}", "opening_balance": "20"} for n in range(220)
        ],
        tenancies=[
            {
                "building": "AB"[n % 2],
                "unit": f"{n}",
                "customer": f"c{n}",
                "account": f"{n}",
                "begins_at": "2026-01-01",
            }
            for n in range(220)
        ],
    )
    report = import_property(actor=IMPORTER, sheets=PropertySheets.of(made), now=NOW)
    assert report.vacancy_accounts == 20
    assert _rows("SELECT count(*) FROM meter_state") == [(count,)]
