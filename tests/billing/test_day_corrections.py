"""Days that were charged and turn out otherwise: each difference names what it corrects."""

from __future__ import annotations

from datetime import date
from fractions import Fraction
from math import floor
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.billing.days_world import CLERK, charged, legs, local, night, place, plan, states, total
from tests.billing.test_daily import documents
from tests.core.day_model import DayModel
from tests.invariants.places import one, send
from tests.moves.world import World

from prewatt.access.scope import system_actor
from prewatt.billing.operations import create_tariff_version
from prewatt.billing.rerating import correct_tariff
from prewatt.billing.tasks import rate_anew
from prewatt.billing.terms import set_terms
from prewatt.core.accounts import TransferKind
from prewatt.core.rating import Component
from prewatt.ledger.operations import close_period
from prewatt.reports.books import check_books

pytestmark = pytest.mark.usefixtures("database")

VAT = [{"code": "vat", "rate": "19"}]


def right_tariff(here: World, document: dict[str, Any], since: str) -> None:
    """It should have been another one since a midnight; somebody approves the correction."""
    create_tariff_version(
        actor=CLERK, property_id=here.property_id, code="right", name="Right", document=document,
        valid_from=local("2026-01-01T00:00"), approved_by="user:2", now=local("2026-11-17T12:00"),
    )  # fmt: skip
    correct_tariff(
        actor=system_actor("billing"), property_id=here.property_id,
        account_ids=[here.accounts["1001"]], tariff_code="right", from_at=local(f"{since}T00:00"),
        reason="wrong plan", approved_by="user:2", now=local("2027-02-01T12:00"),
    )  # fmt: skip


def books_hold(here: World) -> None:
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []


def all_named(account: int) -> bool:
    return not one(
        "SELECT count(*) FROM transfer WHERE account_id = %s AND kind = %s AND corrects_seq IS NULL",
        account, int(TransferKind.CORRECTION),
    )  # fmt: skip


def test_a_wrong_tariff_is_put_right_day_by_day() -> None:
    here = place(plan(standing={"per_day": "1"}, taxes=VAT))
    account = here.accounts["1001"]
    night("2026-11-20")
    right_tariff(here, plan(standing={"per_day": "0.4"}, fees=[{"code": "care", "per_day": "0.2"}]),
                 "2026-11-11")  # fmt: skip
    assert charged(account) == {
        ("STANDING", "standing"): 10 * 1_000_000 + 10 * 400_000,
        ("FEE", "care"): 10 * 200_000,
        ("TAX", "vat"): 1_900_000,
    }
    taken = [each for each in legs(account) if each[0] is TransferKind.CORRECTION]
    assert len(taken) == 20 and {each[4].day for each in taken} == set(range(11, 21))
    assert all_named(account)
    before = states([account])
    rate_anew(now=local("2027-02-01T13:00"))
    assert states([account]) == before
    assert night("2026-11-21") > 0
    assert total(account, Component.STANDING) == 14_400_000
    books_hold(here)


def test_an_exemption_that_was_forgotten_gives_the_tax_back_without_any_usage() -> None:
    here = place(plan(standing={"per_month": "9.99"}, taxes=VAT))
    account = here.accounts["1001"]
    night("2026-11-20")
    set_terms(
        actor=CLERK, property_id=here.property_id, account_id=account,
        valid_from=local("2026-11-06T00:00"), members=1, contracted_w=0, exempt=["vat"],
        now=local("2026-11-20T12:00"),
    )  # fmt: skip
    rate_anew(now=local("2026-11-20T13:00"))
    # The first terms also hold before their start; what lies before it is not asked for.
    assert charged(account, Component.TAX) == {
        ("TAX", "vat"): floor(Fraction(5 * 333_000 * 19, 100))
    }
    assert total(account, Component.STANDING) == 20 * 333_000
    assert all_named(account)
    books_hold(here)


def test_nothing_changes_where_nothing_differs() -> None:
    """The same prices again: no day costs otherwise, whatever the cut-off fractions."""
    same = plan(standing={"per_month": "9.9999"}, fees=[{"code": "care", "per_year": "7.77"}],
                taxes=[{"code": "vat", "rate": "7.3"}, {"code": "city", "rate": "0.7777"}])  # fmt: skip
    here = place(same)
    account = here.accounts["1001"]
    night("2026-11-20")
    before = legs(account)
    right_tariff(here, same, "2026-11-05")
    assert legs(account) == before


def test_demand_and_bounds_of_a_wrong_tariff_are_settled_again() -> None:
    wrong = plan(demand=[{"code": "peak", "per_kw": "3", "interval_minutes": 15}],
                 minimum={"per_month": "100"})  # fmt: skip
    right = plan(demand=[{"code": "top", "per_kw": "2", "interval_minutes": 60}],
                 maximum={"per_month": "5"})  # fmt: skip
    here = place(wrong)
    account = here.accounts["1001"]
    at = local("2026-11-10T12:00")
    send(here, [("M-101", local("2026-11-10T11:45"), 1_000), ("M-101", at, 3_000)], now=at)
    night("2026-12-05")
    energy = floor(2_000 * Fraction("287.6543"))
    assert charged(account) == {
        ("DEMAND", "peak"): 24_000_000, ("MINIMUM", "minimum"): 76_000_000 - energy,
    }  # fmt: skip
    right_tariff(here, right, "2026-11-01")
    assert charged(account) == {
        ("DEMAND", "peak"): 0, ("MINIMUM", "minimum"): 0, ("DEMAND", "top"): 4_000_000,
    } | ({("MAXIMUM", "maximum"): 5_000_000 - 4_000_000 - energy} if energy > 1_000_000 else {})  # fmt: skip
    assert all_named(account)
    before = charged(account)
    night("2026-12-06")
    assert charged(account) == before
    books_hold(here)


def test_days_of_closed_books_stay_as_they_were() -> None:
    here = place(plan(standing={"per_day": "1"}))
    account = here.accounts["1001"]
    night("2026-11-10")
    close_period(
        actor=system_actor("close"), property_id=here.property_id, open_from=date(2026, 11, 6),
        now=local("2026-11-10T12:00"),
    )  # fmt: skip
    right_tariff(here, plan(standing={"per_day": "2"}), "2026-11-01")
    assert total(account) == 5 * 1_000_000 + 5 * 2_000_000
    books_hold(here)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_corrected_account_stands_as_if_it_had_been_right_all_along(
    database: str, data: st.DataObject
) -> None:
    wrong, right = data.draw(documents()), data.draw(documents())
    here = place(wrong, "2026-10-11T15:30")
    account = here.accounts["1001"]
    last = local("2026-10-12T00:00").date().replace(month=data.draw(st.integers(11, 12)))
    night(str(last))
    since = f"2026-10-{data.draw(st.integers(12, 31)):02d}"
    right_tariff(here, right, since)
    # An account that had nothing by the day so far begins with the worker's next run.
    night(str(last))
    model = DayModel([(local("2026-10-11T15:30"), wrong), (local(f"{since}T00:00"), right)], None)
    expected = model.charged(local("2026-10-11T15:30"), None, at_most=last)
    found = charged(account)
    days = (last - date(2026, 10, 11)).days
    for key in found.keys() | expected.keys():
        # What was taken back had its own fractions: each day may differ by one, a tax by two.
        assert abs(found.get(key, 0) - expected.get(key, 0)) <= 2 * days, key
    before = states([account])
    rate_anew(now=local("2027-02-01T13:00"))
    assert states([account]) == before
    assert all_named(account)
    books_hold(here)
