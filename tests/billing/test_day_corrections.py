"""Days that were charged and turn out otherwise: each difference names what it corrects."""

from __future__ import annotations

from datetime import date
from fractions import Fraction
from math import floor
from random import Random
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.billing.days_world import (
    BERLIN,
    CLERK,
    charged,
    legs,
    local,
    night,
    place,
    plan,
    states,
    total,
)
from tests.billing.test_daily import documents
from tests.core.day_model import DayModel
from tests.invariants.places import one, send
from tests.moves.world import World, rows

from cases import cases
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
        reason="wrong plan", made_by="user:2", now=local("2027-02-01T12:00"),
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
    # What held until the first terms goes on until then.
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


def close(here: World, day: date) -> None:
    close_period(
        actor=system_actor("close"), property_id=here.property_id, open_from=day,
        now=local("2026-11-10T12:00"),
    )  # fmt: skip


def told_by_auditor(account: int) -> dict[date, dict[tuple[str, str], int]]:
    """What each day was charged, from the ledger alone: by the day that a transfer's reason says, or
    by its service days.
    """
    found: dict[date, dict[tuple[str, str], int]] = {}
    for component, code, micro, reason, service in rows(
        """SELECT component, code, -amount, reason, service_from FROM transfer
           WHERE account_id = %s AND reason LIKE 'daily.%%' ORDER BY seq""",
        account,
    ):
        _, _, said = reason.partition("@")
        day = date.fromisoformat(said) if said else service.astimezone(BERLIN).date()
        own = found.setdefault(day, {})
        key = Component(component).name, code
        own[key] = own.get(key, 0) + micro
    return found


def in_closed_books(account: int, opened: str, after_seq: int) -> int:
    """Transfers booked since that serve an instant before the books open."""
    return int(
        one(
            "SELECT count(*) FROM transfer WHERE account_id = %s AND seq > %s AND service_from < %s",
            account, after_seq, local(f"{opened}T00:00"),
        )
    )  # fmt: skip


def last_seq(account: int) -> int:
    return int(one("SELECT transfer_seq FROM account_state WHERE account_id = %s", account))


def test_days_of_closed_books_are_corrected_in_the_open_ones_by_name() -> None:
    here = place(plan(standing={"per_day": "1"}, taxes=VAT))
    account = here.accounts["1001"]
    night("2026-11-10")
    close(here, date(2026, 11, 6))
    before = last_seq(account)
    right_tariff(here, plan(standing={"per_day": "2"}, fees=[{"code": "care", "per_day": "0.2"}],
                            taxes=VAT), "2026-11-01")  # fmt: skip
    for day in range(1, 11):
        assert told_by_auditor(account)[date(2026, 11, day)] == {
            ("STANDING", "standing"): 2_000_000,
            ("FEE", "care"): 200_000,
            ("TAX", "vat"): 418_000,
        }
    assert in_closed_books(account, "2026-11-06", before) == 0
    named = rows(
        """SELECT t.reason, t.amount, t.service_from, c.service_from FROM transfer t
           JOIN transfer c ON c.account_id = t.account_id AND c.seq = t.corrects_seq
               AND c.event_id = t.corrects_event_id
           WHERE t.account_id = %s AND t.seq > %s AND t.reason LIKE '%%@%%' ORDER BY t.seq""",
        account, before,
    )  # fmt: skip
    # Standing charge, fee and tax of five days, each a difference that names a transfer of its day.
    assert len(named) == 15
    assert {amount for _, amount, _, _ in named} == {-1_000_000, -200_000, -228_000}
    for reason, _, served, corrected in named:
        assert served == local("2026-11-06T00:00")
        assert reason.partition("@")[2] == corrected.astimezone(BERLIN).date().isoformat()
    books_hold(here)


def test_a_closed_day_is_corrected_again_from_where_it_was_left() -> None:
    """Another mistake of the same days, and a closing between the two: nothing is counted twice."""
    here = place(plan(standing={"per_day": "1"}))
    account = here.accounts["1001"]
    night("2026-11-10")
    close(here, date(2026, 11, 4))
    right_tariff(here, plan(standing={"per_day": "2"}), "2026-11-01")
    close(here, date(2026, 11, 8))
    before = last_seq(account)
    for number, per_day in enumerate(("3", "0.25", "0.25", "1")):
        create_tariff_version(
            actor=CLERK, property_id=here.property_id, code=f"p{number}", name="Again",
            document=plan(standing={"per_day": per_day}), valid_from=local("2026-01-01T00:00"),
            approved_by="user:2", now=local("2026-11-17T12:00"),
        )  # fmt: skip
        correct_tariff(
            actor=system_actor("billing"), property_id=here.property_id, account_ids=[account],
            tariff_code=f"p{number}", from_at=local("2026-11-01T00:00"),
            reason="again", made_by="user:2", now=local("2027-02-01T12:00"),
        )  # fmt: skip
        micro = int(Fraction(per_day) * 1_000_000)
        told = told_by_auditor(account)
        assert {day: sum(own.values()) for day, own in told.items()} == dict.fromkeys(
            (date(2026, 11, day) for day in range(1, 11)), micro
        )
        assert total(account) == 10 * micro
    assert in_closed_books(account, "2026-11-08", before) == 0
    after = states([account])
    rate_anew(now=local("2027-02-01T13:00"))
    assert states([account]) == after
    books_hold(here)


def test_a_day_that_is_charged_late_into_open_books_says_which_it_is() -> None:
    here = place(plan(standing={"per_day": "1"}))
    account = here.accounts["1001"]
    night("2026-11-03")
    close(here, date(2026, 11, 6))
    # The worker stood still; the 4th and 5th come after their books were closed.
    night("2026-11-08")
    right_tariff(here, plan(standing={"per_day": "2"}), "2026-11-05")
    told = told_by_auditor(account)
    assert {day.day: sum(own.values()) // 1_000_000 for day, own in told.items()} == {
        1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 6: 2, 7: 2, 8: 2,
    }  # fmt: skip
    books_hold(here)


@settings(
    max_examples=cases(8),
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


DAYS = 20
AWKWARD = ("0.3333333", "1.0000007", "0.0190001", "2.7182818")


def a_plan(random: Random, rate: str) -> dict[str, Any]:
    """Standing charges and a fee by the day, month or year at awkward amounts, and a tax on them."""
    written = [
        {
            "code": f"s{n}",
            random.choice(["per_day", "per_month", "per_year"]): random.choice(AWKWARD),
        }
        for n in range(random.randrange(1, 3))
    ]
    fee = {"code": "care", random.choice(["per_day", "per_month"]): random.choice(AWKWARD)}
    return plan(standing=written, fees=[fee], taxes=[{"code": "vat", "rate": rate}])


def exactly(versions: dict[int, dict[str, Any]]) -> dict[Component, Fraction]:
    """What DAYS days of November cost under the plan that holds on each."""
    total = dict.fromkeys((Component.STANDING, Component.FEE), Fraction(0))
    for day in range(1, DAYS + 1):
        document = versions[max(each for each in versions if each <= day)]
        for component, charges in (
            (Component.STANDING, document["standing"]), (Component.FEE, document["fees"])
        ):  # fmt: skip
            for charge in charges:
                for per, days in (("per_day", 1), ("per_month", 30), ("per_year", 365)):
                    total[component] += Fraction(charge.get(per, "0")) * 1_000_000 / days
    return total


@pytest.mark.parametrize("seed", range(cases(3)))
def test_days_that_were_put_right_again_and_again_are_exact(seed: int) -> None:
    """Plans that were wrong from any day on, in any order: the sum is cut off once."""
    random = Random(seed)
    rate = random.choice(["19", "8.1", "2.0501"])
    versions = {1: a_plan(random, rate)}
    here = place(versions[1])
    account = here.accounts["1001"]
    night(f"2026-11-{random.randrange(2, 12):02d}")
    for number in range(5):
        day, document = random.randrange(1, DAYS + 1), a_plan(random, rate)
        versions[day] = document
        code = f"p{number}"
        create_tariff_version(
            actor=CLERK, property_id=here.property_id, code=code, name=code, document=document,
            valid_from=local("2026-01-01T00:00"), approved_by="user:2",
            now=local("2026-11-17T12:00"),
        )  # fmt: skip
        correct_tariff(
            actor=system_actor("billing"), property_id=here.property_id, account_ids=[account],
            tariff_code=code, from_at=local(f"2026-11-{day:02d}T00:00"), reason="wrong plan",
            made_by="user:2", now=local("2027-02-01T12:00"),
        )  # fmt: skip
        if number == 2:
            night("2026-11-15")
    night(f"2026-11-{DAYS}")
    exact = exactly(versions)
    for component, amount in exact.items():
        assert total(account, component) == floor(amount), component
    rates = {day: Fraction(each["taxes"][0]["rate"]) / 100 for day, each in versions.items()}
    if len(set(rates.values())) == 1:
        on = total(account, Component.STANDING) + total(account, Component.FEE)
        assert total(account, Component.TAX) == floor(on * next(iter(rates.values())))
    assert all_named(account)
    before = states([account])
    rate_anew(now=local("2027-02-01T13:00"))
    assert states([account]) == before
    books_hold(here)
