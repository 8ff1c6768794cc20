"""Lets: paid before they begin, closed by themselves, and every cent back that was not used."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from django.db import connection
from tests.conftest import role_dsn
from tests.estate.tables import NOW, tables
from tests.invariants.places import signed_in, told
from tests.moves.world import World, available, hours, imported, rows, snapshot, tenant

from agreements import agreed, taking_back_agreed
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, system_actor
from prewatt.adapters.channels.outbox import OutboxChannel
from prewatt.billing.operations import create_tariff_version
from prewatt.core.accounts import CounterAccount
from prewatt.core.temporary import LetRefused
from prewatt.core.vocabulary import DeliveryState
from prewatt.debts.models import DebtPolicy
from prewatt.debts.operations import set_policy
from prewatt.debts.words import AgreementRefused, Policy
from prewatt.estate.operations import NewCustomer
from prewatt.ledger.operations import KeyReused
from prewatt.moves import lets
from prewatt.moves import operations as moves
from prewatt.moves.lets import (
    LetBegun,
    NotTemporary,
    PaidTooLittle,
    PlaceTaken,
    begin_announced_lets,
    close_ended_lets,
    close_let,
    let_unit,
)
from prewatt.moves.words import FirstRecharge, NewTenant
from prewatt.notify.operations import deliver_due
from prewatt.reports.books import check_books
from prewatt.reports.former import former_customers
from prewatt.reports.lets import coming_back, let_page
from prewatt.reports.paging import Page
from prewatt.reports.recharge_query import recharge_result
from prewatt.vending.debt_payments import DebtPaid, DebtPaymentRefused, pay_debt
from prewatt.vending.refunds import RefundRefused, pay_refund, refund_balance
from prewatt.vending.sums import sums_of
from prewatt.vending.taking_back import reverse_recharge

pytestmark = pytest.mark.usefixtures("database")

EURO = 1_000_000
#: 10 euro a day and 50 deposit; the energy costs 25 cents a kilowatt-hour.
BOOTH: dict[str, Any] = {
    "format": "prewatt-tariff/1",
    "name": "Booth by the day",
    "currency": "EUR",
    "energy": {"unit": "kWh", "bands": {"all": {"price": "0.25"}}},
    "temporary": {"unit": "day", "fee": "10.00", "deposit": "50.00"},
    "taxes": [{"code": "vat", "label": "VAT", "rate": "19", "on": ["fee"], "inclusive": True}],
}


def market(suffix: str = "") -> World:
    """A property whose flat 102 is vacant and let by the day; its meter stands at 2,000 Wh.

    ``suffix`` lets several stand in one database.
    """
    made = tables()
    made["tariffs"].append(
        {"code": "booth", "name": "Booth", "document": json.dumps(BOOTH), "approved_by": "user:2"}
    )
    return imported(made, suffix)


def begin(
    here: World, *, until: datetime | None = None, paid: int = 100, code: str = "booth", key: str = "k"
) -> LetBegun:  # fmt: skip
    """Let flat 102 from 9 in the morning of 2 November for three days."""
    return let_unit(
        actor=here.administrator,
        unit_id=here.units["102"],
        tenant=NewTenant(NewCustomer("Mara Ruiz"), code),
        opening=here.register("M-102", 2_000),
        at=hours(33),
        until=until or hours(33 + 50),
        payment=FirstRecharge(paid * EURO),
        key=key,
        now=NOW,
    )


def counters(account_id: int) -> dict[int, int]:
    """What stands against each counter-account."""
    return dict(
        rows(
            "SELECT counter_account, sum(amount)::bigint FROM transfer WHERE account_id = %s "
            "GROUP BY 1",
            account_id,
        )
    )


def test_a_let_takes_fee_and_deposit_and_leaves_the_rest_for_energy() -> None:
    here = market()
    let = begin(here)
    assert (let.units, let.fee_micro, let.deposit_micro) == (3, 30 * EURO, 50 * EURO)
    assert let.available_micro == 20 * EURO == available(let.account_id)
    assert counters(let.account_id) == {
        CounterAccount.CASH: 100 * EURO,
        CounterAccount.DEPOSITS: -50 * EURO,
        # 30 euro contain 19 % of tax.
        CounterAccount.FEE_REVENUE: -25_210_084,
        CounterAccount.TAX_PAYABLE: -4_789_916,
    }
    assert begin(here).repeated
    assert rows("SELECT count(*) FROM temporary_let") == [(1,)]


def test_a_let_closes_and_refunds_itself_at_its_end() -> None:
    here = market()
    let = begin(here)
    here.read("M-102", hours(60), 10_000)
    assert close_ended_lets(now=hours(33 + 50) + timedelta(minutes=1)) == 0, "no reading yet"
    here.read("M-102", hours(83), 14_000)
    assert close_ended_lets(now=NOW) == 1
    assert close_ended_lets(now=NOW) == 0
    # 12 kWh at 25 cents are 3 euro: 20 − 3 + 50 come back.
    ((state, amount),) = rows("SELECT state, amount_micro FROM refund")
    assert (state, amount) == ("due", 67 * EURO)
    assert available(let.account_id) == 0
    standing = counters(let.account_id)
    assert standing[CounterAccount.DEPOSITS] == 0
    assert standing[CounterAccount.REFUNDS_PAYABLE] == -67 * EURO
    assert rows("SELECT close_reason FROM temporary_let") == [("ended",)]
    vacancy = rows("SELECT account_id FROM meter_assignment WHERE upper_inf(period) AND meter_id = %s", here.meters["M-102"])  # fmt: skip
    assert vacancy != [(let.account_id,)]


@pytest.mark.parametrize(
    ("used_wh", "owed", "residual"),
    [
        (12_000, 67_000_000, 0),
        (12_001, 67_000_000, -250),
        (12_033, 66_990_000, 1_750),
        # Half a cent goes to the even one, whoever gains by it.
        (12_020, 67_000_000, -5_000),
        (12_060, 66_980_000, 5_000),
    ],
)
def test_a_refund_is_what_can_be_paid_and_its_rounding_is_booked(
    used_wh: int, owed: int, residual: int
) -> None:
    here = market()
    let = begin(here)
    here.read("M-102", hours(60), 10_000)
    here.read("M-102", hours(83), 2_000 + used_wh)
    assert close_ended_lets(now=NOW) == 1
    assert rows("SELECT amount_micro FROM refund") == [(owed,)]
    assert available(let.account_id) == 0, "nothing is left that nobody sees"
    standing = counters(let.account_id)
    assert standing[CounterAccount.REFUNDS_PAYABLE] == -owed
    assert standing.get(CounterAccount.ROUNDING, 0) == -residual
    # One event: what is owed and what rounding made of it can never be had apart.
    assert rows(
        """SELECT count(DISTINCT t.event_id) FROM transfer t JOIN refund r USING (event_id)
           WHERE t.kind = 4"""
    ) == [(1,)]
    detail = rows(
        "SELECT (detail->>'residual')::int FROM audit_event WHERE code = 'vending.refund.booked'"
    )
    assert detail == [(residual,)]
    assert check_books(connection.cursor()) == []
    assert all(each.holds for each in sums_of(connection.cursor(), [here.property_id]))


def test_who_leaves_early_gets_back_the_days_that_had_not_started() -> None:
    here = market()
    let = begin(here)
    done = close_let(
        actor=here.administrator, let_id=let.let_id, closing=here.register("M-102", 6_000),
        at=hours(40), now=NOW,
    )  # fmt: skip
    assert (done.fee_back_micro, done.refund_micro) == (20 * EURO, (20 - 1 + 20 + 50) * EURO)
    corrections = rows("SELECT amount, corrects_seq IS NOT NULL FROM transfer WHERE kind = 9")
    assert sum(amount for amount, _ in corrections) == 20 * EURO
    assert all(names for _, names in corrections)
    again = close_let(
        actor=here.administrator, let_id=let.let_id, closing=[], at=hours(41), now=NOW
    )
    assert again.repeated and again.refund_micro == done.refund_micro


def test_a_silent_meter_does_not_keep_a_let_open() -> None:
    here = market()
    let = begin(here)
    here.read("M-102", hours(60), 10_000)
    end = hours(33 + 50)
    assert close_ended_lets(now=end + lets.SILENCE - timedelta(seconds=1)) == 0
    assert close_ended_lets(now=end + lets.SILENCE) == 1
    assert rows("SELECT close_reason, closed_at FROM temporary_let") == [("silent", end)]
    # What the meter counted after its last word is not the customer's.
    here.read("M-102", hours(100), 90_000)
    assert available(let.account_id) == 0


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"paid": 79}, PaidTooLittle),
        ({"code": "flat"}, NotTemporary),
        ({"until": hours(33)}, LetRefused),
    ],
)
def test_a_refused_let_leaves_nothing_behind(
    change: dict[str, Any], refusal: type[Exception]
) -> None:
    here = market()
    before = snapshot()
    with pytest.raises(refusal):
        begin(here, **change)
    assert snapshot() == before
    with pytest.raises(PermissionRefused):
        let_unit(
            actor=here.operator, unit_id=here.units["102"], tenant=tenant(), opening=[],
            at=hours(33), until=hours(40), payment=FirstRecharge(EURO), key="x", now=NOW,
        )  # fmt: skip


def test_a_season_ends_a_let_that_names_no_end() -> None:
    here = market()
    create_tariff_version(
        actor=system_actor("import"), property_id=here.property_id, code="season", name="Season",
        document=BOOTH | {"temporary": {"unit": "day", "fee": "0", "deposit": "5",
                                        "season": {"from": "11-01", "until": "11-05"}}},
        valid_from=hours(0), approved_by="user:2", now=NOW,
    )  # fmt: skip
    let = let_unit(
        actor=here.administrator, unit_id=here.units["102"],
        tenant=NewTenant(NewCustomer("Iva"), "season"), at=hours(33),
        opening=here.register("M-102", 2_000), until=None, payment=FirstRecharge(6 * EURO),
        key="s", now=NOW,
    )  # fmt: skip
    assert let.ends_at == hours(96).isoformat()
    assert let.units == 3


def test_a_refund_is_paid_once_and_only_off_a_closed_account() -> None:
    here = market()
    with pytest.raises(RefundRefused) as still:
        refund_balance(
            actor=here.administrator, account_id=here.accounts["1001"], reason="x", now=NOW
        )
    assert still.value.reason == "open"
    let = begin(here)
    rows("UPDATE customer SET email = 'gone@example.org', language = 'zh-hans'")
    here.read("M-102", hours(83), 14_000)
    close_ended_lets(now=NOW)
    ((refund_id,),) = rows("SELECT id FROM refund")
    elsewhere = Actor("user:9", Duty.OPERATOR, (here.property_id + 1,))
    for actor, why in ((elsewhere, PermissionRefused), (here.operator, None)):
        if why is not None:
            with pytest.raises((why, RefundRefused)):
                pay_refund(actor=actor, refund_id=refund_id, way="cash", reference="", now=NOW)
        else:
            paid = {"amount": 67 * EURO, "way": "cash", "reference": ""}
            subject = f"refund:{refund_id}"
            with agreed("vending.refund", here.property_id, subject, paid, actor.code):
                pay_refund(actor=actor, refund_id=refund_id, way="cash", reference="", now=NOW)
    with pytest.raises(RefundRefused) as twice:
        pay_refund(actor=here.operator, refund_id=refund_id, way="cash", reference="", now=NOW)
    assert twice.value.reason == "paid"
    assert rows("SELECT state, paid_by FROM refund") == [("paid", "user:6")]
    assert told(let.account_id) == [
        (
            "vending.refund_due",
            {"amount_micro": 67 * EURO, "document": "F-1", "reason": "let.ended"},
        ),
        ("vending.refund_paid", {"amount_micro": 67 * EURO, "document": "F-1", "reason": "cash"}),
    ]
    deliver_due(actor=system_actor("notify"), channels=[OutboxChannel()], now=NOW)
    assert rows(
        """SELECT t.subject, t.body LIKE '%%单元 102，%%' FROM message m
           JOIN message_attempt t ON t.message_id = m.id
           WHERE m.code LIKE 'vending.refund_%%' AND m.state = %s ORDER BY m.id""",
        DeliveryState.DELIVERED,
    ) == [("您有 €67.00 待退", True), ("退款 €67.00 已付", True)], (
        "whoever has left hears of it too"
    )


# --- a let that used more than was paid and deposited ---


def short_let(here: World, key: str = "k") -> tuple[LetBegun, lets.LetClosed]:
    """20 euro of credit and 50 of deposit, and 100 euro of energy: 30 are missing."""
    let = begin(here, key=key)
    here.read("M-102", hours(83), 402_000)
    done = close_let(
        actor=here.administrator, let_id=let.let_id, closing=here.register("M-102", 402_000),
        at=hours(83), now=NOW,
    )  # fmt: skip
    return let, done


def customer_of(account_id: int) -> int:
    ((customer,),) = rows("SELECT customer_id FROM account WHERE id = %s", account_id)
    return int(customer)


def let_again(here: World, customer: int | NewCustomer, paid: int, key: str = "again") -> LetBegun:
    """The flat once more, for an evening of the 4th, where the meter stands at 402,000 Wh."""
    return let_unit(
        actor=here.administrator, unit_id=here.units["102"],
        tenant=NewTenant(customer, "booth"), opening=here.register("M-102", 402_000),
        at=hours(90), until=hours(95), payment=FirstRecharge(paid * EURO), key=key, now=NOW,
    )  # fmt: skip


def debts_of(account_id: int) -> list[tuple[Any, ...]]:
    """(code, reason, principal, left by the ledger, ending) of each debt."""
    return rows(
        """SELECT d.code, d.reason, d.principal_micro, sum(t.amount)::bigint, d.ending
           FROM debt d JOIN transfer t ON t.account_id = d.account_id AND t.code = d.code
               AND t.counter_account = %s
           WHERE d.account_id = %s GROUP BY d.id""",
        int(CounterAccount.DEBTS), account_id,
    )  # fmt: skip


def test_what_a_let_lacks_at_its_end_is_a_named_debt_and_no_negative_balance() -> None:
    here = market()
    let, done = short_let(here)
    assert done.debt_code == "D-1" and done.balance_micro == 0 and done.refund_micro == 0
    assert available(let.account_id) == 0
    assert debts_of(let.account_id) == [("D-1", "let_shortfall", 30 * EURO, 30 * EURO, "")]
    assert rows("SELECT kind, number, amount_micro FROM document WHERE series = 'D'") == [
        ("debt", 1, 30 * EURO)
    ]
    again = close_let(
        actor=here.administrator, let_id=let.let_id, closing=[], at=hours(90), now=NOW
    )
    assert again.repeated and again.debt_code == "D-1"
    assert len(debts_of(let.account_id)) == 1


def test_a_let_that_closes_by_itself_names_its_debt_too() -> None:
    here = market()
    let = begin(here)
    here.read("M-102", hours(83), 402_000)
    assert close_ended_lets(now=NOW) == 1
    assert close_ended_lets(now=NOW) == 0
    assert [each[0] for each in debts_of(let.account_id)] == ["D-1"]
    assert rows("SELECT count(*) FROM refund") == [(0,)]
    ((code, figures),) = told(let.account_id)
    assert (code, figures["reason"], figures["amount_micro"], figures["available_micro"]) == (
        "debts.opened", "let_shortfall", 30 * EURO, 0,
    )  # fmt: skip


def test_another_let_of_the_customer_begins_with_what_the_first_lacked() -> None:
    here = market()
    let, _ = short_let(here)
    customer = customer_of(let.account_id)
    before = snapshot()
    with pytest.raises(PaidTooLittle) as refused:
        let_again(here, customer, 89)
    assert (refused.value.needed_micro, refused.value.owed_micro) == (90 * EURO, 30 * EURO)
    assert snapshot() == before
    second = let_again(here, customer, 100)
    assert (second.debt_micro, second.available_micro) == (30 * EURO, 10 * EURO)
    assert debts_of(let.account_id) == [("D-1", "let_shortfall", 30 * EURO, 0, "paid")]
    assert available(let.account_id) == 0
    assert counters(second.account_id)[CounterAccount.MOVE_CLEARING] == -30 * EURO
    assert counters(let.account_id)[CounterAccount.MOVE_CLEARING] == 30 * EURO
    assert let_again(here, customer, 100).repeated


@pytest.mark.parametrize("who", ["somebody else", "a policy that asks for nothing"])
def test_nobody_else_pays_and_a_policy_may_ask_for_nothing(who: str) -> None:
    here = market()
    let, _ = short_let(here)
    customer: int | NewCustomer = customer_of(let.account_id)
    if who == "somebody else":
        customer = NewCustomer("Olu Ade")
    else:
        set_policy(
            actor=system_actor("policy"), property_id=here.property_id,
            policy=Policy(later_let_pays=False), now=NOW,
        )  # fmt: skip
    second = let_again(here, customer, 60)
    assert (second.debt_micro, second.available_micro) == (0, 0)
    assert debts_of(let.account_id)[0][3] == 30 * EURO


def test_a_property_may_bear_what_a_let_lacks() -> None:
    here = market()
    set_policy(
        actor=system_actor("policy"), property_id=here.property_id,
        policy=Policy(let_shortfall=DebtPolicy.Missing.LOSS), now=NOW,
    )  # fmt: skip
    let, done = short_let(here)
    assert done.debt_code == "" and available(let.account_id) == 0
    assert debts_of(let.account_id) == []
    assert counters(let.account_id)[CounterAccount.ADJUSTMENTS] == 30 * EURO
    with pytest.raises(AgreementRefused):
        set_policy(
            actor=system_actor("policy"), property_id=here.property_id,
            policy=Policy(let_shortfall=DebtPolicy.Missing.REFUSE), now=NOW,
        )  # fmt: skip


# --- the debt of a closed account is paid at the window ---


def pay(here: World, debt_id: int, euro: int, key: str = "p", **changes: Any) -> DebtPaid:
    return pay_debt(
        **{
            "actor": here.operator, "debt_id": debt_id, "offered_micro": euro * EURO,
            "way": "cash", "reference": "", "key": key, "now": NOW, **changes,
        }
    )  # fmt: skip


def test_a_debt_of_a_closed_account_is_paid_at_the_window_up_to_what_is_owed() -> None:
    here = market()
    let, _ = short_let(here)
    ((debt_id,),) = rows("SELECT id FROM debt")
    first = pay(here, debt_id, 12)
    assert (first.amount_micro, first.left_micro, first.receipt_number > 0) == (
        12 * EURO, 18 * EURO, True,
    )  # fmt: skip
    assert pay(here, debt_id, 12) == replace(first, repeated=True)
    last = pay(here, debt_id, 50, "q")
    assert (last.offered_micro, last.amount_micro, last.left_micro) == (50 * EURO, 18 * EURO, 0)
    assert last.receipt_number == first.receipt_number + 1
    assert debts_of(let.account_id) == [("D-1", "let_shortfall", 30 * EURO, 0, "paid")]
    assert available(let.account_id) == 0
    assert [
        (code, figures["amount_micro"], figures["left_micro"], figures["receipt"])
        for code, figures in told(let.account_id)[1:]
    ] == [
        ("debts.reduced", 12 * EURO, 18 * EURO, f"R-{first.receipt_number}"),
        ("debts.paid", 18 * EURO, 0, f"R-{last.receipt_number}"),
    ]
    assert counters(let.account_id)[CounterAccount.CASH] == (100 + 30) * EURO
    assert rows(
        "SELECT amount_micro FROM payment WHERE account_id = %s ORDER BY id", let.account_id
    ) == [(100 * EURO,), (12 * EURO,), (18 * EURO,)]
    audit = "SELECT count(*) FROM audit_event WHERE code = 'vending.debt.paid'"
    assert rows(audit) == [(2,)]
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []


def test_a_payment_of_a_debt_that_bounces_opens_the_debt_again() -> None:
    here = market()
    let, _ = short_let(here)
    ((debt_id,),) = rows("SELECT id FROM debt")
    paid = pay(here, debt_id, 30)
    with taking_back_agreed(paid.event_id):
        back = reverse_recharge(
            actor=here.administrator,
            event_id=paid.event_id,
            why="cheque returned",
            key="r",
            now=NOW,
        )
    assert (back.used_micro, back.debt_code, back.returned_to_debts_micro) == (0, "", 30 * EURO)
    assert debts_of(let.account_id) == [("D-1", "let_shortfall", 30 * EURO, 30 * EURO, "")]
    assert available(let.account_id) == 0


def test_a_refused_payment_of_a_debt_takes_nothing() -> None:
    here = market()
    short_let(here)
    ((debt_id,),) = rows("SELECT id FROM debt")
    before = snapshot()
    for reason, changes in (
        ("amount", {"euro": 0}), ("amount", {"euro": 200_000}), ("unknown", {"debt_id": debt_id + 1}),
        ("way", {"euro": 1, "way": "shells"}), ("reference", {"euro": 1, "reference": "\0"}),
    ):  # fmt: skip
        with pytest.raises(DebtPaymentRefused) as refused:
            pay(here, **{"debt_id": debt_id, "euro": 1, **changes})
        assert refused.value.reason == reason
    elsewhere = Actor("user:9", Duty.OPERATOR, (here.property_id + 1,))
    with pytest.raises((DebtPaymentRefused, PermissionRefused)):
        pay(here, debt_id, 1, actor=elsewhere)
    assert snapshot() == before
    pay(here, debt_id, 1, "same")
    with pytest.raises(KeyReused):
        pay(here, debt_id, 2, "same")
    pay(here, debt_id, 29, "rest")
    with pytest.raises(DebtPaymentRefused) as closed:
        pay(here, debt_id, 1, "more")
    assert closed.value.reason == "closed"


def test_two_windows_at_once_take_a_debt_once(database: str) -> None:
    here = market()
    let, _ = short_let(here)
    ((debt_id,),) = rows("SELECT id FROM debt")
    outcomes: list[object] = []

    def window(key: str) -> None:
        try:
            outcomes.append(pay(here, debt_id, 30, key).amount_micro)
        except DebtPaymentRefused as refused:
            outcomes.append(refused.reason)
        finally:
            connection.close()

    threads = [threading.Thread(target=window, args=(f"w{at}",)) for at in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == [str(30 * EURO), "closed", "closed"]
    assert debts_of(let.account_id)[0][3] == 0


def test_the_webs_login_may_take_money_for_a_debt(database: str) -> None:
    here = market()
    let, _ = short_let(here)
    ((debt_id,),) = rows("SELECT id FROM debt")
    with signed_in(role_dsn(database, "web"), database):
        assert pay(here, debt_id, 40).left_micro == 0
    assert debts_of(let.account_id)[0][3:] == (0, "paid")


# --- announced, and written down late ---


def announce(here: World, *, days: int = 2, key: str = "a", paid: int = 100) -> LetBegun:
    """Flat 102 for three days, from some days after now on."""
    at = NOW + timedelta(days=days)
    return let_unit(
        actor=here.administrator, unit_id=here.units["102"],
        tenant=NewTenant(NewCustomer("Mara Ruiz"), "booth"), opening=None, at=at,
        until=at + timedelta(hours=50), payment=FirstRecharge(paid * EURO), key=key, now=NOW,
    )  # fmt: skip


def test_an_announced_let_is_paid_at_once_and_begins_by_itself_at_its_instant() -> None:
    here = market()
    let = announce(here)
    begins = NOW + timedelta(days=2)
    assert (let.announced, let.available_micro) == (True, 20 * EURO)
    assert available(let.account_id) == 100 * EURO, "fee and deposit are taken when it begins"
    assert announce(here).repeated
    assert rows("SELECT count(*) FROM tenancy WHERE account_id = %s", let.account_id) == [(0,)]
    here.read("M-102", begins - timedelta(minutes=5), 3_000, now=begins)
    assert begin_announced_lets(now=begins - timedelta(seconds=1)) == 0
    assert begin_announced_lets(now=begins + timedelta(minutes=1)) == 0, "the meter may report yet"
    # Three minutes after the last report it begins; ten minutes after that the meter has counted 1.5 kWh.
    here.read("M-102", begins + timedelta(minutes=10), 4_500, now=begins + timedelta(minutes=10))
    assert begin_announced_lets(now=begins + timedelta(minutes=11)) == 1
    assert begin_announced_lets(now=begins + timedelta(minutes=11)) == 0
    assert rows(
        "SELECT lower(t.period), l.begun_at, a.start_value_wh FROM tenancy t "
        "JOIN temporary_let l USING (account_id) JOIN meter_assignment a USING (account_id)"
    ) == [(begins, begins, 3_500)]
    # A third of what the meter counted since its last report is the owner's.
    assert available(let.account_id) == 20 * EURO - 1_000 * 250
    standing = counters(let.account_id)
    assert standing[CounterAccount.DEPOSITS] == -50 * EURO
    assert standing[CounterAccount.FEE_REVENUE] + standing[CounterAccount.TAX_PAYABLE] == -30 * EURO
    after = begins + timedelta(hours=51)
    here.read("M-102", after, 6_500, now=after)
    assert close_ended_lets(now=after) == 1
    assert rows("SELECT amount_micro FROM refund") == [(69_250_000,)]
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []


def test_a_silent_meter_does_not_keep_an_announced_let_waiting() -> None:
    here = market()
    let = announce(here)
    begins = NOW + timedelta(days=2)
    assert begin_announced_lets(now=begins + timedelta(minutes=29)) == 0
    assert begin_announced_lets(now=begins + timedelta(minutes=30)) == 1
    assert available(let.account_id) == 20 * EURO
    assert rows(
        "SELECT start_value_wh FROM meter_assignment WHERE account_id = %s", let.account_id
    ) == [(2_000,)]


def test_an_announced_let_is_cancelled_and_all_of_it_comes_back() -> None:
    here = market()
    let = announce(here)
    closed = close_let(actor=here.administrator, let_id=let.let_id, closing=None, at=None, now=NOW)
    assert (closed.reason, closed.refund_micro, closed.balance_micro) == (
        "cancelled",
        100 * EURO,
        0,
    )
    again = close_let(actor=here.administrator, let_id=let.let_id, closing=None, at=None, now=NOW)
    assert again.repeated and again.refund_micro == 100 * EURO
    assert begin_announced_lets(now=NOW + timedelta(days=3)) == 0
    assert close_ended_lets(now=NOW + timedelta(days=9)) == 0
    assert announce(here, key="b").account_id != let.account_id
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []


def test_no_two_lets_of_a_place_overlap_and_one_follows_another() -> None:
    here = market()
    announce(here)
    before = snapshot()
    for days in (0, 1, 3):
        with pytest.raises(PlaceTaken):
            announce(here, days=days, key=f"k{days}") if days else let_unit(
                actor=here.administrator, unit_id=here.units["102"], opening=None, at=None,
                tenant=NewTenant(NewCustomer("Ada"), "booth"), until=NOW + timedelta(days=3),
                payment=FirstRecharge(900 * EURO), key="now", now=NOW,
            )  # fmt: skip
    with pytest.raises(PaidTooLittle):
        announce(here, days=9, key="z", paid=79)
    assert snapshot() == before
    second = announce(here, days=5, key="s")
    # The worker was away: the first begins and ends late, and the second begins when it has.
    late = NOW + timedelta(days=5, hours=4)
    here.read("M-102", late, 2_400, now=late)
    assert begin_announced_lets(now=late) == 1
    assert close_ended_lets(now=late) == 1
    here.read("M-102", late + timedelta(hours=1), 2_500, now=late + timedelta(hours=1))
    assert begin_announced_lets(now=late + timedelta(hours=1)) == 1
    assert available(second.account_id) == 20 * EURO - 99 * 250 or available(second.account_id) == (
        20 * EURO - 100 * 250
    )
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []


def test_a_place_where_somebody_lives_begins_no_let_and_loses_no_money() -> None:
    here = market()
    let = announce(here)
    moves.move_in(
        actor=here.administrator, unit_id=here.units["102"], at=NOW, key="m", now=NOW,
        tenant=tenant(), opening=here.register("M-102", 2_000),
    )  # fmt: skip
    assert begin_announced_lets(now=NOW + timedelta(days=2, hours=1)) == 0
    assert available(let.account_id) == 100 * EURO
    assert rows("SELECT begun_at, closed_at FROM temporary_let") == [(None, None)]


def test_a_let_that_began_earlier_is_written_down_with_what_was_used_since() -> None:
    here = market()
    for hour in range(1, 11):
        here.read("M-102", hours(32 + hour), 2_000 + 100 * hour)
    let = let_unit(
        actor=here.administrator, unit_id=here.units["102"],
        tenant=NewTenant(NewCustomer("Mara Ruiz"), "booth"), opening=None, at=hours(36.5),
        until=hours(36.5 + 400), payment=FirstRecharge(900 * EURO), key="k", now=NOW,
    )  # fmt: skip
    assert not let.announced and let.units == 18
    # 550 Wh since then, at 25 cents, that the owner had been charged.
    assert let.available_micro == 900 * EURO - 180 * EURO - 50 * EURO - 550 * 250
    assert rows("SELECT begun_at FROM temporary_let") == [(hours(36.5),)]


@pytest.mark.parametrize("login", ["clerk"])
def test_the_worker_may_begin_what_was_announced(database: str, login: str) -> None:
    here = market()
    announce(here)
    begins = NOW + timedelta(days=2)
    here.read("M-102", begins - timedelta(minutes=5), 3_000, now=begins)
    here.read("M-102", begins + timedelta(minutes=10), 4_500, now=begins + timedelta(minutes=10))
    with signed_in(role_dsn(database, login), database):
        assert begin_announced_lets(now=begins + timedelta(minutes=11)) == 1


@pytest.mark.parametrize("how", [begin, announce])
def test_who_lets_is_told_what_is_left_and_the_receipt_stays_that_of_the_payment(how: Any) -> None:
    here = market()
    let = how(here, paid=95)
    ((code, said, event, urgent),) = rows(
        """SELECT code, detail->>'available_micro', (detail->>'event')::bigint, urgent
           FROM message ORDER BY id"""
    )
    assert (code, int(said), urgent) == ("vending.recharged", 15 * EURO, False), "and no warning"
    assert let.available_micro == 15 * EURO
    receipt = recharge_result(actor=here.administrator, event_id=event, now=NOW)
    assert (receipt.balance_before_micro, receipt.effect.balance_after_micro) == (0, 95 * EURO)
    assert not receipt.is_posted
    assert how(here, paid=95).repeated
    assert rows("SELECT count(*) FROM message") == [(1,)]


def _at_least(here: World, rent: dict[str, Any]) -> None:
    """A plan of the market with charges by the day, a minimum bill and awkward prices."""
    create_tariff_version(
        actor=system_actor("test"), property_id=here.property_id, code="dear", name="Dear",
        document=BOOTH | rent, valid_from=hours(-24 * 400), approved_by="somebody", now=NOW,
    )  # fmt: skip


DEAR: dict[str, Any] = {
    "energy": {"unit": "kWh", "bands": {"all": {"price": "0.2876543"}}},
    "standing": [{"code": "meter", "label": "Meter", "per_day": "0.3333333"}],
    "fees": [{"code": "care", "label": "Care", "per_month": "9.99"}],
    "minimum": {"per_month": "60"},
}


def test_whatever_becomes_of_a_let_its_parts_are_what_was_paid() -> None:
    here, random, register = market(), Random(27), 2_000
    _at_least(here, DEAR)
    for number in range(9):
        day = 33 + 24 * number
        late, now = random.random() < 0.3, hours(day)
        let = let_unit(
            actor=here.administrator, unit_id=here.units["102"], opening=None, key=f"r{number}",
            tenant=NewTenant(NewCustomer(f"Trader {number}"), random.choice(["booth", "dear"])),
            at=hours(day + 4) if late else None, until=hours(day + random.randrange(5, 20)),
            payment=FirstRecharge(70 * EURO + random.randrange(60) * EURO // 4), now=now,
        )  # fmt: skip
        used = random.choice([0, 1_777, 9_001, 250_003])
        if not late:
            register += used
            here.read("M-102", hours(day + 2), register, now=hours(day + 2))
        look = lets.rehearse_closing(
            actor=here.administrator, let_id=let.let_id, closing=None, now=hours(day + 3)
        )
        close_let(
            actor=here.administrator, let_id=let.let_id, closing=None, at=None, now=hours(day + 3)
        )
        page = let_page(actor=here.administrator, let_id=let.let_id, now=hours(day + 3))
        assert page.let.refund_micro == look.refund_micro
        for back in (page.back, coming_back(page.let, look.fee_back_micro, look.refund_micro)):
            assert back.rent_micro + back.deposit_micro + back.energy_micro == back.refund_micro
        money = asdict(page.money)
        paid = money.pop("paid_micro")
        assert paid == sum(money.values()) > 0, (number, page.money)
        assert money["other_micro"] == money["left_micro"] == money["deposit_micro"] == 0
        assert (page.let.close_reason == "cancelled") == late
        assert not late or money["rent_micro"] == money["charges_micro"] == 0
        if late:
            assert page.back.energy_micro == paid - page.let.fee_micro - page.let.deposit_micro
    # Those who have left are found page by page, and at their own property alone.
    seen: list[str] = []
    mark = ""
    while mark or not seen:
        found = former_customers(
            actor=here.administrator, now=NOW + timedelta(days=30), query="trader",
            page=Page.of(mark, "", limit=4),
        )  # fmt: skip
        assert found.total == 9
        seen += [row.customer for row in found.rows]
        mark = found.beside.next
    assert sorted(seen) == [f"Trader {number}" for number in range(9)]
    other = market("-b").administrator
    assert former_customers(actor=other, now=NOW + timedelta(days=30), query="trader").total == 0


def test_a_look_says_all_that_a_let_takes_by_days_and_at_least() -> None:
    here = market()
    _at_least(here, DEAR)
    let = begin(here, until=hours(33 + 72), code="dear")
    # Three days begin within it: 4 of them are touched, and the first had begun.
    minimum = 3 * (Fraction(60 * EURO, 30) - Fraction(1, 3) * EURO)
    fee_tax = 3 * Fraction(9_990_000, 30)
    net = fee_tax - fee_tax * 19 / 119
    assert abs(let.by_days_micro - (3 * 333_333 + net + net * Fraction(19, 100))) <= 3
    assert abs(let.least_micro - minimum) <= 2
    here.read("M-102", hours(33 + 73), 2_000)
    assert close_ended_lets(now=hours(33 + 74)) == 1
    page = let_page(actor=here.administrator, let_id=let.let_id, now=NOW)
    assert abs(page.money.charges_micro - let.by_days_micro - let.least_micro) <= 6
