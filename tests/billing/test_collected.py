"""Charges that a recharge collects by the month: shown before, taken in the same commit, given back."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from math import floor
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.billing.days_world import BERLIN, charged, local, night, place, plan, total, version
from tests.conftest import role_dsn
from tests.invariants.places import one, rows, signed_in
from tests.moves.world import World, snapshot

import prewatt.moves.operations as moves
from cases import cases
from prewatt.core.accounts import TransferKind
from prewatt.core.rating import Component
from prewatt.reports.books import check_books
from prewatt.vending.operations import Recharge, Recharged, recharge
from prewatt.vending.queries import deducted_of, preview_recharge

pytestmark = pytest.mark.usefixtures("database")

FIRST: dict[str, Any] = {"per_month": "9", "collect": "first_recharge"}
VAT = [{"code": "vat", "rate": "19", "on": ["standing"]}]


def buy(here: World, at: datetime, amount: int = 20_000_000, key: str = "") -> Recharged:
    """Sell credit at an instant."""
    wish = Recharge(
        f"{here.property_id}:{key or at.isoformat()}", here.accounts["1001"], amount, "cash", "", at
    )
    (answer,) = recharge(actor=here.operator, recharges=[wish], now=at)
    assert isinstance(answer, Recharged)
    return answer


def books_hold(here: World) -> None:
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []


def available(here: World) -> int:
    return int(
        one("SELECT available FROM account_state WHERE account_id = %s", here.accounts["1001"])
    )


def test_the_first_recharge_of_a_month_collects_it_and_what_was_left_before() -> None:
    here = place(plan(standing=FIRST, taxes=VAT), "2026-10-22T00:00")
    account, before = here.accounts["1001"], available(here)
    night("2026-11-03")
    assert total(account) == 0, "nothing falls due by the day"
    done = buy(here, local("2026-11-03T12:00"))
    october, november = floor(Fraction(9_000_000 * 10, 31)), 9_000_000
    # Of October the last fraction is carried into November.
    standing = floor(Fraction(9_000_000 * 10, 31) + 9_000_000)
    tax = floor(Fraction(standing * 19, 100))
    assert standing == october + november
    assert charged(account) == {("STANDING", "standing"): standing, ("TAX", "vat"): tax}
    assert done.collected == standing + tax and done.debt == 0
    assert done.available_after == available(here) == before + 20_000_000 - standing - tax
    months = rows(
        """SELECT (service_from AT TIME ZONE 'Europe/Berlin')::text,
                  (service_to AT TIME ZONE 'Europe/Berlin')::text
           FROM transfer WHERE account_id = %s AND component = %s ORDER BY seq""",
        account, int(Component.STANDING),
    )  # fmt: skip
    assert months == [
        ("2026-10-22 00:00:00", "2026-11-01 00:00:00"),
        ("2026-11-01 00:00:00", "2026-12-01 00:00:00"),
    ]
    second = buy(here, local("2026-11-28T12:00"))
    assert second.collected == 0
    assert (
        buy(here, local("2026-12-01T00:00")).collected
        == 9_000_000 + floor(Fraction((standing + 9_000_000) * 19, 100)) - tax
    )
    books_hold(here)


def test_a_recharge_that_is_too_small_pays_whole_days_and_is_never_a_loss() -> None:
    here = place(plan(standing=FIRST))
    before = available(here)
    done = buy(here, local("2026-11-05T12:00"), 1_000_000)
    assert done.collected == 900_000, "three days of thirty cents"
    assert available(here) == before + 100_000
    assert buy(here, local("2026-11-06T12:00"), 200_000).collected == 0, "not even one"
    assert buy(here, local("2026-11-07T12:00")).collected == 8_100_000
    assert buy(here, local("2026-11-08T12:00")).collected == 0
    books_hold(here)


def test_what_is_shown_before_is_what_is_booked_and_showing_changes_nothing(database: str) -> None:
    here = place(plan(standing=FIRST, fees=[
        {"code": "care", "per_day": "0.1", "collect": "first_recharge"}], taxes=VAT))  # fmt: skip
    at = local("2026-11-05T12:00")
    before = snapshot()
    with signed_in(role_dsn(database, "web"), database):
        shown = preview_recharge(
            actor=here.operator, account_id=here.accounts["1001"], amount_micro=20_000_000, now=at
        )
    assert snapshot() == before
    with signed_in(role_dsn(database, "web"), database):
        done = buy(here, at)
        receipt = deducted_of(
            actor=here.operator, account_id=done.account_id, event_id=done.event_id
        )
    assert shown.lines == receipt
    assert {(each.component, each.code, each.micro) for each in receipt} == {
        (Component.STANDING, "standing", 9_000_000), (Component.FEE, "care", 3_000_000),
        (Component.TAX, "vat", 1_710_000),
    }  # fmt: skip
    assert (shown.collected_micro, shown.debt_micro) == (done.collected, 0)
    assert shown.credit_micro == 20_000_000 - 13_710_000


def test_two_recharges_in_one_set_collect_once() -> None:
    here = place(plan(standing=FIRST))
    at = local("2026-11-05T12:00")
    wishes = [
        Recharge(f"{here.property_id}:{n}", here.accounts["1001"], amount, "cash", "", at)
        for n, amount in enumerate([5_000_000, 5_000_000, 5_000_000])
    ]
    answers = recharge(actor=here.operator, recharges=wishes, now=at)
    assert [each.collected for each in answers if isinstance(each, Recharged)] == [
        4_800_000, 4_200_000, 0,
    ]  # fmt: skip
    assert [each.available_after for each in answers if isinstance(each, Recharged)] == [
        25_500_000 + 200_000, 25_500_000 + 1_000_000, 25_500_000 + 6_000_000,
    ]  # fmt: skip
    books_hold(here)


def test_whoever_leaves_gets_the_days_back_that_they_paid_and_did_not_live() -> None:
    here = place(plan(standing=FIRST, taxes=VAT))
    account = here.accounts["1001"]
    buy(here, local("2026-11-05T12:00"))
    left = moves.move_out(
        actor=here.administrator, unit_id=here.units["101"], at=local("2026-11-12T18:00"),
        closing=here.register("M-101", 1_000), key="out", now=local("2026-11-12T19:00"),
    )  # fmt: skip
    assert charged(account, Component.STANDING) == {("STANDING", "standing"): 12 * 300_000}
    assert left.balance_left_micro == 25_500_000 + 20_000_000 - floor(12 * 300_000 * 1.19)
    back = rows(
        """SELECT kind, corrects_seq IS NOT NULL, amount FROM transfer
           WHERE account_id = %s AND amount > 0 AND reason LIKE 'daily.%%'""",
        account,
    )
    assert [each[:2] for each in back] == [(int(TransferKind.CORRECTION), True)] * 2
    before = snapshot()["transfer"]
    night("2026-12-02")
    assert [
        row for row in snapshot()["transfer"] if row not in before and f"({account}," in row
    ] == []
    books_hold(here)


def test_whoever_leaves_without_a_recharge_owes_the_days_they_lived() -> None:
    here = place(plan(standing=FIRST))
    night("2026-11-12")
    moves.move_out(
        actor=here.administrator, unit_id=here.units["101"], at=local("2026-11-12T18:00"),
        closing=here.register("M-101", 1_000), key="out", now=local("2026-11-12T19:00"),
    )  # fmt: skip
    assert total(here.accounts["1001"]) == 12 * 300_000


def test_debt_limits_of_a_tariff_do_not_collect_anything() -> None:
    here = place(plan(debt_recovery={"share": "20", "weekly_cap": "4"}))
    assert buy(here, local("2026-11-05T12:00")).collected == 0


def test_a_recharge_without_such_a_tariff_or_debt_asks_nothing_more_once_the_epoch_is_known() -> (
    None
):
    here = place(plan())
    buy(here, local("2026-11-05T11:00"))
    queries: list[str] = []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        queries.append(sql)
        return execute(sql, params, many, context)

    at = local("2026-11-05T12:00")
    with connection.execute_wrapper(count):
        buy(here, at)
    asked = [sql for sql in queries if "tariff_" in sql or "FROM debt" in sql]
    assert asked == []


@settings(
    max_examples=cases(10),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_recharges_collect_each_day_once_and_exactly(
    database: str, data: st.DataObject
) -> None:
    per = data.draw(st.sampled_from(["per_day", "per_month", "per_year"]))
    amounts = [f"{data.draw(st.integers(0, 30))}.{data.draw(st.integers(1, 999_999)):06d}"
               for _ in range(2)]  # fmt: skip
    here = place(plan(standing={per: amounts[0], "collect": "first_recharge"}), "2026-09-14T09:00")
    change = local(
        f"2026-{data.draw(st.integers(10, 12))}-{data.draw(st.integers(1, 28)):02d}T00:00"
    )
    version(here, plan(standing={per: amounts[1], "collect": "first_recharge"}), change)
    account, paid = here.accounts["1001"], 0
    at = local("2026-09-14T10:00")
    for _ in range(data.draw(st.integers(1, 6))):
        at += data.draw(st.timedeltas(local("2026-01-01T01:00") - local("2026-01-01T00:00"),
                                      local("2026-02-10T00:00") - local("2026-01-01T00:00")))  # fmt: skip
        amount = data.draw(st.integers(1, 60_000_000))
        before = available(here)
        done = buy(here, at, amount)
        assert 0 <= done.collected <= amount
        assert available(here) == before + amount - done.collected
        paid += done.collected
    days = [
        datetime.fromordinal(day).replace(tzinfo=BERLIN)
        for day in range(local("2026-09-15T00:00").toordinal() + 1, at.toordinal() + 70)
    ]
    length = {"per_day": lambda _: 1, "per_month": _month, "per_year": lambda _: 365}[per]
    through = one("SELECT collected_through FROM account_state WHERE account_id = %s", account)
    exact = sum(
        (
            Fraction(amounts[day >= change]) * 1_000_000 / length(day)
            for day in days
            if (day.date() - datetime.fromisoformat("1970-01-01").date()).days <= through
        ),
        Fraction(0),
    )
    assert paid == total(account) == floor(exact)
    books_hold(here)


def _month(day: datetime) -> int:
    from calendar import monthrange

    return monthrange(day.year, day.month)[1]
