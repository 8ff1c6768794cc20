"""Recharges taken back: reversed by the bank, or sold to the wrong account."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import pytest
from django.db import ProgrammingError, connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.billing.days_world import local, place, plan
from tests.conftest import role_dsn
from tests.debts.test_debts import EURO, available, books_hold, buy, owed
from tests.invariants.places import NOW, one, rows, signed_in, told
from tests.moves.world import World, snapshot

from agreements import taking_back_agreed
from cases import cases
from prewatt.access.scope import PermissionRefused, system_actor
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.vee import Verdict
from prewatt.debts.models import DebtPolicy
from prewatt.debts.operations import left_of, set_policy
from prewatt.debts.queries import debts_of
from prewatt.debts.words import Policy
from prewatt.ledger.operations import KeyReused, PeriodClosed, close_period
from prewatt.vending.debt_payments import pay_debt
from prewatt.vending.operations import Recharge, Recharged, recharge
from prewatt.vending.taking_back import (
    AlreadyTakenBack,
    CreditUsed,
    TakenBack,
    UnknownRecharge,
    WrongAccount,
    move_credit,
    reverse_recharge,
)

pytestmark = pytest.mark.usefixtures("database")


def reverse(here: World, event: int, key: str = "rev", **given: Any) -> TakenBack:
    wanted: dict[str, Any] = {"actor": here.administrator, "why": "cheque bounced", "now": NOW}
    with taking_back_agreed(event):
        return reverse_recharge(event_id=event, key=f"{here.property_id}:{key}", **(wanted | given))


def move(here: World, event: int, to: int, key: str = "mov", **given: Any) -> TakenBack:
    wanted: dict[str, Any] = {"actor": here.administrator, "why": "next door", "now": NOW}
    with taking_back_agreed(event, to):
        return move_credit(
            event_id=event, to_account_id=to, key=f"{here.property_id}:{key}", **(wanted | given)
        )


def use(here: World, micro: int) -> None:
    """Somebody uses so much of what the tenant has; straight into the books, as an adjustment."""
    from tests.invariants.checks import append, leg

    append(leg(here.accounts["1001"], -micro))


def allow(here: World, emergency_micro: int) -> None:
    """The tenant may go so far below zero."""
    rows("UPDATE supply_state SET emergency_micro = %s WHERE account_id = %s", emergency_micro,
         here.accounts["1001"])  # fmt: skip


def balance(account: int) -> int:
    return int(one("SELECT available FROM account_state WHERE account_id = %s", account))


def policy(here: World, **given: Any) -> None:
    set_policy(
        actor=system_actor("setup"), property_id=here.property_id, policy=Policy(**given), now=NOW
    )


def test_a_reversed_payment_takes_its_credit_back_and_names_the_recharge() -> None:
    here = place(plan())
    before, done = available(here), buy(here, 20 * EURO, "a")
    back = reverse(here, done.event_id)
    assert (back.used_micro, back.debt_code, back.available_after_micro) == (0, "", before)
    assert available(here) == before
    (row,) = rows(
        """SELECT kind, counter_account, amount, corrects_event_id FROM transfer
           WHERE event_id = %s""",
        back.event_id,
    )
    assert row == (int(TransferKind.REVERSAL), int(CounterAccount.CASH), -20 * EURO, done.event_id)
    assert one("SELECT kind FROM document WHERE event_id = %s", back.event_id) == "reversal"
    books_hold(here)


def test_what_was_used_already_becomes_a_named_debt_and_no_silent_negative() -> None:
    here = place(plan())
    policy(here, share_ppm=400_000, weekly_cap_micro=9 * EURO)
    done = buy(here, 20 * EURO, "a")
    use(here, 33 * EURO)
    back = reverse(here, done.event_id)
    assert (back.used_micro, back.debt_code, available(here)) == (7_500_000, "D-1", 0)
    (debt,) = debts_of(actor=here.operator, account_id=here.accounts["1001"])
    assert (debt.left_micro, debt.share_ppm, debt.weekly_cap_micro, debt.reason.value) == (
        7_500_000, 400_000, 9 * EURO, "reversed_payment",
    )  # fmt: skip
    assert buy(here, 10 * EURO, "b").debt == 4 * EURO
    assert told(back.account_id) == [("vending.reversed", {
        "amount_micro": 20 * EURO, "receipt": f"R-{done.receipt_number}", "document": f"V-{back.number}",
        "available_micro": 0, "emergency_used_micro": 0, "reopened_micro": 0, "debt": "D-1",
        "debt_micro": 7_500_000, "share_ppm": 400_000, "weekly_cap_micro": 9 * EURO,
    })]  # fmt: skip
    books_hold(here)


@pytest.mark.parametrize(
    ("emergency", "before", "since", "after", "debt"),
    [
        (10, -5, 0, -5, 0),  # What the recharge repaid is in use again, and no debt.
        (10, -5, 3, -8, 0),
        (10, -5, 18, -10, 13),  # The account may not go further, and the rest has a name.
        (10, 2, 4, -2, 0),
        (0, 2, 4, 0, 2),
        (3, 2, 30, -8, 20),  # A reading took it below its emergency credit: no wallet is lifted.
    ],
)
def test_taking_back_leaves_a_wallet_as_if_the_recharge_had_not_been(
    emergency: int, before: int, since: int, after: int, debt: int
) -> None:
    here = place(plan())
    allow(here, emergency * EURO)
    use(here, available(here) - before * EURO)
    done = buy(here, 20 * EURO, "a")
    if since:
        use(here, since * EURO)
    stood = available(here)
    back = reverse(here, done.event_id)
    assert (available(here), back.used_micro) == (after * EURO, debt * EURO)
    assert (back.available_before_micro, back.emergency_micro) == (stood, emergency * EURO)
    assert available(here) - back.used_micro == (before - since) * EURO, "nothing made or lost"
    books_hold(here)


def test_a_debt_paid_at_the_window_and_taken_back_lifts_no_wallet() -> None:
    here = place(plan())
    owing = owed(here, 5 * EURO)
    paid = pay_debt(actor=here.operator, debt_id=owing.debt_id, offered_micro=5 * EURO, way="cash",
                    reference="", key="window", now=NOW)  # fmt: skip
    allow(here, 10 * EURO)
    use(here, available(here) + 4 * EURO)
    back = reverse(here, paid.event_id)
    assert (available(here), back.used_micro, back.debt_code) == (-4 * EURO, 0, "")
    assert left_of(paid.account_id, owing.code) == 5 * EURO
    books_hold(here)


def test_a_property_may_refuse_or_bear_it() -> None:
    here = place(plan())
    done = buy(here, 20 * EURO, "a")
    use(here, 33 * EURO)
    policy(here, reversed_payment=DebtPolicy.Missing.REFUSE)
    before = snapshot()
    with pytest.raises(CreditUsed) as refused:
        reverse(here, done.event_id)
    assert refused.value.missing_micro == 7_500_000 and snapshot() == before
    policy(here, reversed_payment=DebtPolicy.Missing.LOSS)
    back = reverse(here, done.event_id)
    assert (back.used_micro, back.debt_code, available(here)) == (7_500_000, "", 0)
    assert one(
        "SELECT amount FROM transfer WHERE event_id = %s AND counter_account = %s",
        back.event_id, int(CounterAccount.ADJUSTMENTS),
    ) == 7_500_000  # fmt: skip
    books_hold(here)


def test_debts_get_back_what_the_recharge_had_paid_of_them_and_are_open_again() -> None:
    here = place(plan())
    owed(here, 5 * EURO, share_ppm=1_000_000)
    done = buy(here, 20 * EURO, "a")
    assert done.debt == 5 * EURO and not debts_of(actor=here.operator, account_id=done.account_id)
    ((said,),) = rows("SELECT detail FROM message WHERE code = 'vending.recharged'")
    assert ('"debt_micro": 5000000' in said, '"collected_micro"' in said) == (True, False)
    back = reverse(here, done.event_id)
    assert back.returned_to_debts_micro == 5 * EURO
    (again,) = debts_of(actor=here.operator, account_id=done.account_id)
    assert (again.code, again.left_micro, available(here)) == ("D-1", 5 * EURO, 25_500_000)
    assert buy(here, 9 * EURO, "b").debt == 5 * EURO
    books_hold(here)


def test_what_debts_give_back_is_not_missing() -> None:
    here = place(plan())
    owed(here, 5 * EURO, share_ppm=1_000_000)
    done = buy(here, 20 * EURO, "a")
    use(here, 33 * EURO)
    back = reverse(here, done.event_id)
    assert (back.used_micro, available(here)) == (7_500_000, 0)
    assert left_of(done.account_id, "D-1") == 5 * EURO
    assert left_of(done.account_id, back.debt_code) == 7_500_000
    books_hold(here)


def test_charges_that_were_collected_stay_collected() -> None:
    here = place(plan(standing={"per_month": "9", "collect": "first_recharge"}))
    done = buy(here, 20 * EURO, "a")
    ((said,),) = rows("SELECT detail FROM message WHERE code = 'vending.recharged'")
    assert ('"debt_micro"' in said, '"collected_micro": 9000000' in said) == (False, True)
    back = reverse(here, done.event_id)
    assert available(here) == 25_500_000 - 9 * EURO == back.available_after_micro
    assert buy(here, 20 * EURO, "b").collected == 0
    books_hold(here)


def test_credit_on_the_wrong_account_goes_to_the_right_one_at_once() -> None:
    """The worked example of docs/corrections.md."""
    here = place(plan())
    wrong, right = here.accounts["1001"], here.accounts["OWN-LIFT"]
    done = buy(here, 50 * EURO, "a")
    use(here, 60 * EURO)
    back = move(here, done.event_id, right)
    assert balance(right) == 150 * EURO, "all of it, whatever the wrong one has used"
    assert balance(wrong) == 0 == back.available_after_micro
    assert (back.used_micro, left_of(wrong, back.debt_code)) == (34_500_000, 34_500_000)
    assert rows(
        """SELECT account_id, kind, counter_account, amount FROM transfer WHERE event_id = %s
           ORDER BY account_id, seq""",
        back.event_id,
    ) == sorted([
        (wrong, int(TransferKind.MOVE), int(CounterAccount.MOVE_CLEARING), -50 * EURO),
        (wrong, int(TransferKind.DEBT), int(CounterAccount.DEBTS), 34_500_000),
        (right, int(TransferKind.MOVE), int(CounterAccount.MOVE_CLEARING), 50 * EURO),
    ], key=lambda each: each[0])  # fmt: skip
    assert one("SELECT sum(amount) FROM transfer WHERE counter_account = %s",
               int(CounterAccount.MOVE_CLEARING)) == 0  # fmt: skip
    ((off, lost),), ((on, has),) = told(wrong), told(right)
    assert (off, lost["debt_micro"], on, has["available_micro"]) == (
        "vending.moved_off", 34_500_000, "vending.moved_on", 150 * EURO,
    )  # fmt: skip
    books_hold(here)


def test_moving_asks_the_propertys_own_policy() -> None:
    here = place(plan())
    policy(here, moved_credit=DebtPolicy.Missing.LOSS, reversed_payment=DebtPolicy.Missing.REFUSE)
    done = buy(here, 50 * EURO, "a")
    use(here, 60 * EURO)
    back = move(here, done.event_id, here.accounts["OWN-LIFT"])
    assert (back.used_micro, back.debt_code, available(here)) == (34_500_000, "", 0)


def test_supply_looks_at_both() -> None:
    here = place(plan())
    done = buy(here, 50 * EURO, "a")
    use(here, 60 * EURO)
    rows("UPDATE account_state SET posted = posted - 200000000 WHERE account_id = %s",
         here.accounts["OWN-LIFT"])  # fmt: skip
    move(here, done.event_id, here.accounts["OWN-LIFT"])
    triggers = dict(rows("SELECT account_id, trigger FROM supply_decision ORDER BY id"))
    assert triggers[here.accounts["1001"]] == "taken_back"
    assert here.accounts["OWN-LIFT"] in triggers


def test_a_recharge_is_taken_back_once() -> None:
    here = place(plan())
    done = buy(here, 20 * EURO, "a")
    first = reverse(here, done.event_id)
    again = reverse(here, done.event_id)
    assert again.repeated and again.event_id == first.event_id
    for deed in (
        lambda: reverse(here, done.event_id, key="other"),
        lambda: move(here, done.event_id, here.accounts["OWN-LIFT"]),
    ):
        with pytest.raises(AlreadyTakenBack):
            deed()
    with pytest.raises(KeyReused):
        reverse(here, done.event_id, why="another reason")
    assert available(here) == 25_500_000 and len(told(done.account_id)) == 1


def test_what_cannot_be_taken_back_is_refused_and_changes_nothing(database: str) -> None:
    here, there = place(plan()), place(plan())
    done, foreign = buy(here, 20 * EURO, "a"), buy(there, 20 * EURO, "a")
    rows("UPDATE account SET closed_at = now() WHERE id = %s", here.accounts["V-A-102"])
    before = snapshot()
    opening = one("SELECT event_id FROM transfer WHERE account_id = %s AND seq = 1",
                  here.accounts["1001"])  # fmt: skip
    with signed_in(role_dsn(database, "web"), database):
        for event in (2**60, opening, foreign.event_id):
            with pytest.raises(UnknownRecharge):
                reverse(here, event)
        for to in ("1001", "V-A-102"):
            with pytest.raises(WrongAccount):
                move(here, done.event_id, here.accounts[to])
        for to_account in (there.accounts["1001"], 2**60):
            with pytest.raises(WrongAccount):
                move(here, done.event_id, to_account)
        with pytest.raises(PermissionRefused):
            reverse(here, done.event_id, actor=here.operator)
        with pytest.raises(PermissionRefused):
            move(here, done.event_id, here.accounts["OWN-LIFT"], actor=here.operator)
        # And of all that could be, nothing to which nobody else has agreed.
        with pytest.raises(ProgrammingError, match="takes the agreement of others"):
            reverse(here, done.event_id)
    assert snapshot() == before
    assert reverse(here, done.event_id).available_after_micro == 25_500_000


def test_closed_books_take_no_reversal() -> None:
    here = place(plan())
    done = buy(here, 20 * EURO, "a")
    close_period(
        actor=system_actor("close"), property_id=here.property_id, open_from=date(2026, 11, 18),
        now=NOW,
    )  # fmt: skip
    with pytest.raises(PeriodClosed):
        reverse(here, done.event_id)
    assert available(here) == 45_500_000
    assert reverse(here, done.event_id, now=local("2026-11-18T00:00")).used_micro == 0


def test_two_people_at_once_take_it_back_once() -> None:
    here = place(plan())
    done, answers = buy(here, 20 * EURO, "a"), []

    def run(number: int) -> None:
        try:
            with suppress(AlreadyTakenBack):
                if number % 2:
                    answers.append(reverse(here, done.event_id, key=f"k{number}"))
                else:
                    answers.append(
                        move(here, done.event_id, here.accounts["OWN-LIFT"], key=f"k{number}")
                    )
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(answers) == 1
    assert available(here) == 25_500_000
    books_hold(here)


@settings(
    max_examples=cases(8),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_taking_back_never_creates_or_destroys_money(database: str, data: st.DataObject) -> None:
    """Whatever was read, bought and taken back: wallet less debts is what a model of its own says.

    The model knows the price, the registers and the recharges that stand, and nothing of wallets.
    """
    here = place(plan())
    both = here.accounts["1001"], here.accounts["OWN-LIFT"]
    missing = DebtPolicy.Missing(data.draw(st.sampled_from(["debt", "debt", "loss", "refuse"])))
    policy(here, reversed_payment=missing, moved_credit=missing)
    emergency = data.draw(st.sampled_from([0, 5 * EURO, 40 * EURO]))
    allow(here, emergency)
    total, lost = Fraction(25_500_000), 0
    if data.draw(st.booleans()):
        debt = data.draw(st.integers(1, 30 * EURO))
        owed(here, debt, share_ppm=data.draw(st.integers(0, 10**6)), key=f"{here.property_id}:o")
        total -= debt
    bought: list[Recharged] = []
    at, register = NOW, 1_000

    def read() -> None:
        """Up to a hundred kilowatt-hours and as many days' worth of time, at the plan's only price."""
        nonlocal at, register, total
        wh = data.draw(st.integers(0, 100_000))
        at, register = at + timedelta(hours=24), register + wh
        assert here.read("M-101", at, register, now=at) is Verdict.ACCEPTED
        total -= wh * Fraction("287.6543")

    def take(number: int, each: Recharged) -> None:
        nonlocal total, lost
        before = balance(both[0])
        with suppress(CreditUsed):
            if data.draw(st.booleans()):
                back = reverse(here, each.event_id, key=f"t{number}", now=at)
            else:
                back = move(here, each.event_id, both[1], key=f"t{number}", now=at)
            after, floor = balance(both[0]), min(before, -emergency)
            assert floor <= after <= before, "no emergency credit anew, and no more than there is"
            assert not back.used_micro or after == floor, "a debt only for what is beyond it"
            total -= each.amount
            lost += back.used_micro if missing is DebtPolicy.Missing.LOSS else 0

    for number in range(data.draw(st.integers(1, 5))):
        at += timedelta(hours=1)
        wish = Recharge(f"{here.property_id}:{number}", both[0], data.draw(st.integers(1, 40 * EURO)),
                        "online", "", at)  # fmt: skip
        (answer,) = recharge(actor=here.operator, recharges=[wish], now=at)
        assert isinstance(answer, Recharged)
        bought.append(answer)
        total += answer.amount
        if data.draw(st.booleans()):
            read()
        if data.draw(st.booleans()):
            take(number, bought.pop(data.draw(st.integers(0, len(bought) - 1))))
    read()
    for number, each in enumerate(bought):
        take(100 + number, each)
    owes = one("SELECT coalesce(sum(amount), 0)::bigint FROM transfer WHERE account_id = %s"
               " AND counter_account = %s", both[0], int(CounterAccount.DEBTS))  # fmt: skip
    assert abs(balance(both[0]) - int(owes) - total - lost) <= 1
    by_counter = dict(
        rows("SELECT counter_account, sum(amount)::bigint FROM transfer WHERE property_id = %s "
             "GROUP BY 1", here.property_id)
    )  # fmt: skip
    assert by_counter.get(int(CounterAccount.MOVE_CLEARING), 0) == 0
    assert by_counter.get(int(CounterAccount.BANK), 0) >= 0
    books_hold(here)
