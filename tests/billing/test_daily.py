"""Charges by the day: every day once, to whom it belongs, exactly, however the worker ran."""

from __future__ import annotations

import threading
from datetime import date, datetime, timedelta
from fractions import Fraction
from math import floor
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
    version,
)
from tests.conftest import role_dsn
from tests.core.day_model import DayModel
from tests.invariants.places import one, pay, rows, send, signed_in
from tests.moves.world import World, tenant

import prewatt.billing.operations as billing
import prewatt.billing.tasks as tasks
import prewatt.moves.operations as moves
from cases import cases
from prewatt.access.scope import system_actor
from prewatt.billing.daily import due_accounts
from prewatt.billing.operations import post_usage
from prewatt.billing.terms import set_terms
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.rating import Component
from prewatt.estate.operations import RegisterValue
from prewatt.ledger.operations import close_period
from prewatt.reports.books import check_books

pytestmark = pytest.mark.usefixtures("database")

STANDING = {"per_month": "9.99"}
FEES = [{"code": "care", "per_year": "36.5"}]
TAXES = [
    {"code": "vat", "rate": "19", "on": ["energy", "standing", "fee", "demand", "minimum"]},
    {"code": "city", "rate": "1.7", "on": ["standing"], "compound": True},
]


def books_hold(*places: World) -> None:
    with connection.cursor() as cursor:
        assert check_books(cursor, [each.property_id for each in places]) == []


def test_a_day_is_charged_at_its_first_instant_and_only_once() -> None:
    here = place(plan(standing=STANDING), "2026-11-01T12:00")
    account = here.accounts["1001"]
    assert night("2026-11-01") == 0, "it was opened at noon: that day began without it"
    assert night("2026-11-02") > 0
    assert legs(account) == [
        (TransferKind.DAILY, Component.STANDING, "standing", 333_000, date(2026, 11, 2), 24.0,
         one("SELECT max(event_id) FROM transfer WHERE account_id = %s", account)),
    ]  # fmt: skip
    before = states(list(here.accounts.values()))
    assert night("2026-11-02") == 0
    assert states(list(here.accounts.values())) == before
    books_hold(here)


def test_days_of_23_and_25_hours_cost_what_a_day_costs() -> None:
    here = place(plan(standing={"per_month": "31"}), "2026-10-01T00:00")
    account = here.accounts["1001"]
    night("2026-11-01")
    october = [each for each in legs(account) if each[4].month == 10]
    assert len(october) == 31 and {each[3] for each in october} == {1_000_000}
    assert [each[5] for each in october if each[5] != 24] == [25.0]
    assert [each[4] for each in october if each[5] != 24] == [date(2026, 10, 25)]
    assert night("2027-03-29") > 0
    assert [each[5] for each in legs(account) if each[4] == date(2027, 3, 28)] == [23.0]


def test_usage_and_days_of_one_night_are_one_event() -> None:
    here = place(plan(standing=STANDING, fees=FEES, taxes=TAXES))
    account = here.accounts["1001"]
    send(here, [("M-101", local("2026-11-02T00:00"), 5_000)])
    night("2026-11-02")
    (event,) = {row[6] for row in legs(account)}
    assert event == one("SELECT event_id FROM posting WHERE account_id = %s", account)
    assert one(
        "SELECT count(*) FROM transfer WHERE event_id = %s AND kind = %s",
        event, int(TransferKind.USAGE),
    ) >= 1  # fmt: skip
    assert set(charged(account)) == {
        ("STANDING", "standing"), ("FEE", "care"), ("TAX", "vat"), ("TAX", "city"),
    }  # fmt: skip
    counter = dict(rows("SELECT DISTINCT component, counter_account FROM transfer "
                        "WHERE account_id = %s AND kind = %s", account, int(TransferKind.DAILY)))  # fmt: skip
    assert counter == {
        Component.STANDING: CounterAccount.STANDING_REVENUE,
        Component.FEE: CounterAccount.FEE_REVENUE,
        Component.TAX: CounterAccount.TAX_PAYABLE,
    }
    books_hold(here)


def test_whoever_is_cut_off_or_has_no_reading_owes_all_the_same() -> None:
    here = place(plan(standing=STANDING))
    account = here.accounts["1001"]
    rows("UPDATE supply_state SET desired = 2 WHERE account_id = %s", account)
    night("2026-12-01")
    assert total(account) == 9_990_000 + 9_990_000 // 31, "all of November and a day of December"


def test_a_unit_has_one_payer_for_each_day() -> None:
    """Whoever lives there, or the owner while nobody does: no day twice, none lost."""
    here = place(plan(standing={"per_day": "1"}))
    night("2026-11-03")
    out = moves.move_out(
        actor=here.administrator, unit_id=here.units["101"], at=local("2026-11-05T14:00"),
        closing=here.register("M-101", 1_000), key="out", now=local("2026-11-05T15:00"),
    )  # fmt: skip
    vacancy = out.vacancy_account_id
    former = here.accounts["1001"]
    assert due_accounts(actor=CLERK, until=local("2026-11-06T00:00"), account_ids=[former]) == []
    night("2026-11-08")
    moved = moves.move_in(
        actor=here.administrator, unit_id=here.units["101"], tenant=tenant(),
        opening=here.register("M-101", 1_000), at=local("2026-11-09T00:00"), key="in",
        now=local("2026-11-09T08:00"),
    )  # fmt: skip
    night("2026-11-12")
    days = {
        name: sorted(each[4].day for each in legs(account))
        for name, account in (
            ("former", here.accounts["1001"]), ("owner", vacancy), ("new", moved.account_id),
        )
    }  # fmt: skip
    assert days == {"former": [1, 2, 3, 4, 5], "owner": [6, 7, 8], "new": [9, 10, 11, 12]}
    books_hold(here)
    assert night("2026-11-12") == 0


@pytest.mark.parametrize("minute", ["00:00", "14:00"])
def test_a_move_written_down_days_later_gives_its_days_to_whom_they_belong(minute: str) -> None:
    here = place(plan(standing={"per_day": "1"}, fees=FEES, taxes=TAXES))
    former = here.accounts["1001"]
    night("2026-11-10")
    out = moves.move_out(
        actor=here.administrator, unit_id=here.units["101"], at=local(f"2026-11-06T{minute}"),
        closing=here.register("M-101", 1_000), key="out", now=local("2026-11-10T15:00"),
    )  # fmt: skip
    moved = moves.move_in(
        actor=here.administrator, unit_id=here.units["101"], tenant=tenant(),
        opening=here.register("M-101", 1_000), at=local("2026-11-08T09:00"), key="in",
        now=local("2026-11-10T16:00"),
    )  # fmt: skip
    night("2026-11-12")
    last = 5 if minute == "00:00" else 6
    net = {
        account: {
            day for day in range(1, 13)
            if sum(each[3] for each in legs(account)
                   if each[4].day == day and each[1] is Component.STANDING)
        }
        for account in (former, out.vacancy_account_id, moved.account_id)
    }  # fmt: skip
    assert list(net.values()) == [
        set(range(1, last + 1)), set(range(last + 1, 9)), set(range(9, 13)),
    ]  # fmt: skip
    taken_back = [each for each in legs(former) if each[0] is TransferKind.CORRECTION]
    assert {each[1] for each in taken_back} == {Component.STANDING, Component.FEE, Component.TAX}
    assert one(
        "SELECT count(*) FROM transfer WHERE account_id = %s AND kind = %s AND corrects_seq IS NULL",
        former, int(TransferKind.CORRECTION),
    ) == 0  # fmt: skip
    again = states([former, out.vacancy_account_id])
    post_usage(
        actor=system_actor("posting"), now=local("2026-11-12T09:00"),
        until=local(f"2026-11-06T{minute}"), cause="move",
        account_ids=[former, out.vacancy_account_id],
    )  # fmt: skip
    assert states([former, out.vacancy_account_id]) == again, "put right once"
    books_hold(here)


def test_closed_books_take_a_day_on_their_first_open_instant() -> None:
    here = place(plan(standing=STANDING))
    account = here.accounts["1001"]
    close_period(
        actor=system_actor("close"), property_id=here.property_id, open_from=date(2026, 11, 5),
        now=local("2026-11-05T00:01"),
    )  # fmt: skip
    night("2026-11-06")
    assert [each[4].day for each in legs(account)] == [5, 5, 5, 5, 5, 6]
    assert total(account) == 333_000 * 6


def test_a_run_that_was_cut_off_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    here = place(plan(standing=STANDING, taxes=TAXES))
    monkeypatch.setattr(billing, "POSTING_CHUNK", 1)
    monkeypatch.setattr(tasks, "POSTING_LANES", 1)
    done, post = [], billing.post_chunk

    def cut_off(actor: Any, account_ids: list[int], **given: Any) -> Any:
        if len(done) == 1:
            raise RuntimeError("the power failed")
        done.append(account_ids)
        return post(actor, account_ids, **given)

    monkeypatch.setattr(billing, "post_chunk", cut_off)
    assert night("2026-11-02") == 0
    alert = "SELECT code FROM alert WHERE closed_at IS NULL"
    assert rows(alert) == [("billing.posting_failed",)]
    monkeypatch.setattr(billing, "post_chunk", post)
    posted = rows("SELECT DISTINCT account_id FROM transfer WHERE kind = 10")
    assert [each[0] for each in posted] == done[0]
    assert night("2026-11-02") == len(owing(here)) - 1
    assert rows(alert) == []
    assert len({total(each) for each in owing(here)}) == 1
    books_hold(here)


def owing(here: World) -> list[int]:
    """Accounts that owe days of this place: the tenant, and the owner of what is empty."""
    return [
        row[0]
        for row in rows(
            """SELECT id FROM account WHERE property_id = %s AND NOT EXISTS (SELECT FROM tenancy
               WHERE tenancy.unit_id = account.unit_id AND upper_inf(period)) ORDER BY id""",
            here.property_id,
        )
    ]


def test_many_runs_at_once_with_readings_in_between_charge_each_day_once() -> None:
    here = place(plan(standing=STANDING, taxes=TAXES, demand=[
        {"code": "peak", "per_kw": "3", "interval_minutes": 15}]))  # fmt: skip
    account = here.accounts["1001"]
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            for day in range(2, 6):
                if number:
                    night(f"2026-11-0{day}")
                else:
                    send(here, [("M-101", local(f"2026-11-0{day}T00:00"), 1_000 + day * 1_000)])
        except BaseException as error:  # a thread's failure is the test's
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert errors == []
    night("2026-11-06")
    assert total(account, Component.STANDING) == 333_000 * 6
    assert one("SELECT count(*) FROM transfer WHERE account_id = %s AND component = %s",
               account, int(Component.STANDING)) == 6  # fmt: skip
    books_hold(here)


def test_supply_looks_at_whom_a_day_has_made_poor() -> None:
    here = place(plan(standing={"per_day": "25"}))
    account = here.accounts["1001"]
    night("2026-11-02")
    assert one("SELECT available FROM account_state WHERE account_id = %s", account) == -24_500_000
    assert one("SELECT level > 0 FROM supply_state WHERE account_id = %s", account)
    assert one("SELECT count(*) FROM supply_decision WHERE account_id = %s", account) > 0


def test_each_login_does_its_part(database: str) -> None:
    here = place(plan(standing={"per_month": "30"}, fees=[
        {"code": "care", "per_month": "3", "collect": "first_recharge"}],
        demand=[{"code": "peak", "per_kw": "3", "interval_minutes": 15}],
        minimum={"per_month": "500"}, taxes=TAXES))  # fmt: skip
    with signed_in(role_dsn(database, "clerk"), database):
        night("2026-11-04")
    with signed_in(role_dsn(database, "web"), database):
        pay(here, "a", 10_000_000)
        moves.move_out(
            actor=here.administrator, unit_id=here.units["101"], at=local("2026-11-06T10:00"),
            closing=here.register("M-101", 3_000), key="out", now=local("2026-11-06T11:00"),
        )  # fmt: skip
    kinds = {each[1] for each in legs(here.accounts["1001"])}
    assert kinds == {
        Component.STANDING, Component.FEE, Component.DEMAND, Component.TAX, Component.MINIMUM,
    }  # fmt: skip
    books_hold(here)


# --- against the model ---


@settings(
    max_examples=cases(8),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_months_versions_and_runs_end_in_the_models_micro_units(
    database: str, data: st.DataObject
) -> None:
    opened = datetime.fromisoformat("2026-09-20T00:00") + timedelta(
        days=data.draw(st.integers(0, 40)), minutes=15 * data.draw(st.integers(0, 95))
    )
    if data.draw(st.booleans()):
        opened = opened.replace(hour=0, minute=0)
    first = data.draw(documents())
    here = place(first, opened.isoformat(timespec="minutes"))
    account = here.accounts["1001"]
    start = opened.replace(tzinfo=BERLIN)
    versions = [(start, first)]
    for _ in range(data.draw(st.integers(0, 2))):
        begins = versions[-1][0] + timedelta(minutes=data.draw(st.integers(1, 40 * 96)) * 15)
        document = data.draw(documents())
        version(here, document, begins)
        versions.append((begins, document))
    exempt_from = None
    if data.draw(st.booleans()):
        exempt_from = opened.date() + timedelta(days=data.draw(st.integers(0, 20)))
        set_terms(
            actor=CLERK, property_id=here.property_id, account_id=account,
            valid_from=local(f"{exempt_from}T00:00"), members=1, contracted_w=0, exempt=["vat"],
            now=start,
        )  # fmt: skip
    model = DayModel(versions, exempt_from=exempt_from)
    last = opened.date()
    for step in data.draw(st.lists(st.integers(0, 45), min_size=1, max_size=4)):
        last += timedelta(days=step)
        night(str(last))
    if data.draw(st.booleans()):
        leaves = datetime.combine(last, datetime.min.time()).replace(tzinfo=BERLIN) + timedelta(
            minutes=data.draw(st.integers(0, 95)) * 15
        )
        if leaves > start:
            moves.move_out(
                actor=here.administrator, unit_id=here.units["101"], at=leaves,
                closing=[RegisterValue(here.meters["M-101"], 1_000)], key=f"k{here.property_id}",
                now=max(leaves, local("2026-11-17T12:00")),
            )  # fmt: skip
            expected = model.charged(start, leaves - timedelta(microseconds=1), at_most=last)
            assert charged(account) == expected
            books_hold(here)
            return
    assert charged(account) == model.charged(start, None, at_most=last)
    books_hold(here)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Plans with dated charges of every kind, and taxes of every kind on them."""

    def amount() -> str:
        return str(Fraction(draw(st.integers(1, 10**9)), 10**6).limit_denominator(1)) + (
            f".{draw(st.integers(1, 10**9 - 1)):09d}"
        )

    parts: dict[str, Any] = {}
    if draw(st.booleans()):
        parts["standing"] = {draw(st.sampled_from(PERS)): amount()}
    fees = draw(st.lists(st.sampled_from(PERS), max_size=2))
    if fees:
        parts["fees"] = [{"code": f"fee{n}", per: amount()} for n, per in enumerate(fees)]
    if draw(st.booleans()):
        parts["taxes"] = [
            {"code": "vat", "rate": "7.3", "inclusive": draw(st.booleans())},
            {"code": "levy", "rate": "2.25", "on": ["standing"], "from": "2026-10-15",
             "until": "2026-11-02"},
        ]  # fmt: skip
    return plan(**parts)


PERS = ["per_day", "per_month", "per_year"]


def test_the_model_itself_by_hand() -> None:
    model = DayModel([(local("2026-11-01T00:00"), plan(standing={"per_month": "10"}))], None)
    assert model.charged(local("2026-11-01T00:00"), None, at_most=date(2026, 11, 3)) == {
        ("STANDING", "standing"): floor(Fraction(10_000_000 * 3, 30))
    }
