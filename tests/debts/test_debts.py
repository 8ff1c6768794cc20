"""Debts: a name, an agreement, and books that alone say what is left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.billing.days_world import local, place, plan
from tests.conftest import role_dsn
from tests.invariants.places import NOW, one, rows, signed_in, told
from tests.moves.world import World, snapshot

from agreements import agreed, agreed_if_done
from cases import cases
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, system_actor
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.rating import Component
from prewatt.debts.models import Debt, DebtPolicy
from prewatt.debts.operations import (
    change_agreement,
    left_of,
    open_debt,
    set_policy,
    settle_debt,
    write_off_debt,
)
from prewatt.debts.policy import policy_of
from prewatt.debts.queries import debts_of
from prewatt.debts.words import AgreementRefused, AmountRefused, DebtOpened, Policy, UnknownDebt
from prewatt.ledger.idempotency import KEY_MAX
from prewatt.ledger.operations import KeyReused
from prewatt.reports.books import check_books
from prewatt.vending.operations import Recharge, Recharged, recharge
from prewatt.vending.queries import deducted_of, preview_recharge
from prewatt.vending.sums import sums_of

pytestmark = pytest.mark.usefixtures("database")

EURO = 1_000_000


def owed(here: World, amount: int = 30 * EURO, **given: Any) -> DebtOpened:
    """A debt beside the wallet."""
    wanted: dict[str, Any] = {
        "account_id": here.accounts["1001"], "reason": Debt.Reason.AGREED, "note": "a broken door",
        "share_ppm": 250_000, "weekly_cap_micro": 0, "key": f"debt{amount}", "now": NOW,
    }  # fmt: skip
    return open_debt(actor=here.administrator, amount_micro=amount, **(wanted | given))


def buy(here: World, amount: int, key: str, at: Any = NOW) -> Recharged:
    wish = Recharge(f"{here.property_id}:{key}", here.accounts["1001"], amount, "cash", "", at)
    (answer,) = recharge(actor=here.operator, recharges=[wish], now=at)
    assert isinstance(answer, Recharged)
    return answer


def available(here: World) -> int:
    return int(
        one("SELECT available FROM account_state WHERE account_id = %s", here.accounts["1001"])
    )


def books_hold(here: World) -> None:
    """The usual books, and every open debt has something left, every closed one nothing."""
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []
        assert all(each.holds for each in sums_of(cursor, [here.property_id]))
    for account, code, closed in rows(
        "SELECT account_id, code, closed_at IS NOT NULL FROM debt WHERE property_id = %s",
        here.property_id,
    ):
        assert (left_of(account, code) == 0) == closed, code


def test_a_debt_has_a_number_an_agreement_and_never_hides_in_the_balance() -> None:
    here = place(plan())
    before = available(here)
    first, second = owed(here), owed(here, 5 * EURO)
    assert (first.code, second.code) == ("D-1", "D-2")
    assert available(here) == before == first.available_after_micro
    found = debts_of(actor=here.operator, account_id=here.accounts["1001"])
    assert [(each.code, each.left_micro, each.reason) for each in found] == [
        ("D-1", 30 * EURO, Debt.Reason.AGREED), ("D-2", 5 * EURO, Debt.Reason.AGREED),
    ]  # fmt: skip
    assert rows("SELECT kind, number, amount_micro FROM document ORDER BY id") == [
        ("debt", 1, 30 * EURO), ("debt", 2, 5 * EURO),
    ]  # fmt: skip
    assert one("SELECT count(*) FROM audit_event WHERE code = 'debts.debt.opened'") == 2
    assert [code for code, _ in told(first.account_id)] == ["debts.opened"] * 2
    assert told(first.account_id)[1][1] == {
        "debt": "D-2", "amount_micro": 5 * EURO, "reason": "agreed", "share_ppm": 250_000,
        "weekly_cap_micro": 0, "available_micro": before,
    }  # fmt: skip
    books_hold(here)


def test_a_recharge_pays_its_agreed_share_and_says_so() -> None:
    here = place(plan())
    account, debt = here.accounts["1001"], owed(here)
    before = available(here)
    shown = preview_recharge(
        actor=here.operator, account_id=account, amount_micro=20 * EURO, now=NOW
    )
    done = buy(here, 20 * EURO, "a")
    assert (done.debt, done.collected, done.available_after) == (5 * EURO, 0, before + 15 * EURO)
    assert shown.lines == deducted_of(
        actor=here.operator, account_id=account, event_id=done.event_id
    )
    assert [(each.component, each.code, each.micro) for each in shown.lines] == [
        (Component.DEBT, debt.code, 5 * EURO)
    ]
    assert rows(
        """SELECT kind, counter_account, code, amount FROM transfer WHERE account_id = %s
           AND event_id = %s ORDER BY seq""",
        account, done.event_id,
    ) == [
        (int(TransferKind.RECHARGE), int(CounterAccount.CASH), "", 20 * EURO),
        (int(TransferKind.DEBT_RECOVERY), int(CounterAccount.DEBTS), debt.code, -5 * EURO),
    ]  # fmt: skip
    books_hold(here)


def test_the_last_of_a_debt_closes_it_and_the_next_recharge_is_whole() -> None:
    here = place(plan())
    owed(here, 6 * EURO, share_ppm=500_000)
    assert buy(here, 10 * EURO, "a").debt == 5 * EURO
    assert buy(here, 10 * EURO, "b").debt == 1 * EURO
    assert buy(here, 10 * EURO, "c").debt == 0
    assert debts_of(actor=here.operator, account_id=here.accounts["1001"]) == []
    (closed,) = debts_of(actor=here.operator, account_id=here.accounts["1001"], closed=True)
    assert (closed.ending, closed.left_micro, closed.closed_at) == ("paid", 0, NOW)
    books_hold(here)


def test_a_cap_holds_for_any_seven_days() -> None:
    here = place(plan())
    owed(here, share_ppm=1_000_000, weekly_cap_micro=4 * EURO)
    week = timedelta(days=7)
    assert buy(here, 3 * EURO, "a").debt == 3 * EURO
    assert buy(here, 3 * EURO, "b", NOW + timedelta(days=1)).debt == 1 * EURO
    assert buy(here, 3 * EURO, "c", NOW + timedelta(days=6)).debt == 0
    assert buy(here, 9 * EURO, "d", NOW + week).debt == 3 * EURO, "the first three are a week ago"
    assert buy(here, 9 * EURO, "e", NOW + week + timedelta(days=1)).debt == 1 * EURO
    books_hold(here)


def test_recharges_of_one_set_follow_one_another_under_the_cap() -> None:
    here = place(plan())
    owed(here, share_ppm=1_000_000, weekly_cap_micro=4 * EURO)
    wishes = [
        Recharge(f"{here.property_id}:{n}", here.accounts["1001"], 3 * EURO, "cash", "", NOW)
        for n in range(3)
    ]
    answers = recharge(actor=here.operator, recharges=wishes, now=NOW)
    assert [each.debt for each in answers if isinstance(each, Recharged)] == [3 * EURO, EURO, 0]
    books_hold(here)


def test_a_tariff_limits_all_debts_together() -> None:
    here = place(plan(debt_recovery={"share": "30", "weekly_cap": "7"}))
    owed(here, 30 * EURO)
    owed(here, 40 * EURO)
    done = buy(here, 20 * EURO, "a")
    assert done.debt == 6 * EURO, "a quarter each would be half of it"
    by_code = dict(
        rows("SELECT code, -sum(amount)::bigint FROM transfer WHERE kind = 11 GROUP BY 1")
    )
    assert by_code == {"D-1": 5 * EURO, "D-2": 1 * EURO}, "the older one first"
    assert buy(here, 20 * EURO, "b").debt == 1 * EURO, "and seven in a week"
    books_hold(here)


def test_charges_are_collected_before_debts_and_both_never_take_more_than_there_is() -> None:
    here = place(plan(standing={"per_month": "9", "collect": "first_recharge"}))
    owed(here, share_ppm=1_000_000)
    done = buy(here, 10 * EURO, "a", local("2026-11-05T12:00"))
    assert (done.collected, done.debt, done.available_after) == (9 * EURO, EURO, 25_500_000)
    books_hold(here)


def test_arrears_are_lent_to_the_wallet_and_no_more() -> None:
    here = place(plan())
    account = here.accounts["1001"]
    rows("UPDATE account_state SET accrued_energy = 30000000 WHERE account_id = %s", account)
    with pytest.raises(AmountRefused):
        owed(here, 4_500_001, reason=Debt.Reason.ARREARS)
    done = owed(here, 4_500_000, reason=Debt.Reason.ARREARS)
    assert done.available_after_micro == available(here) == 0
    with pytest.raises(AmountRefused):
        owed(here, 1, reason=Debt.Reason.ARREARS)


def test_settling_takes_from_the_wallet_what_is_there() -> None:
    here = place(plan())
    debt = owed(here)
    with pytest.raises(AmountRefused):
        settle(here, debt, 25_500_001)
    part = settle(here, debt, 20 * EURO)
    assert (part.amount_micro, part.left_micro, available(here)) == (
        20 * EURO,
        10 * EURO,
        5_500_000,
    )
    with pytest.raises(AmountRefused):
        settle(here, debt, None, key="rest")
    buy(here, 100 * EURO, "a")
    with pytest.raises(UnknownDebt):
        settle(here, debt, 1, key="gone")
    reduced, paid = told(debt.account_id)[1:]
    assert reduced[0] == "debts.reduced"
    assert (reduced[1]["left_micro"], reduced[1]["available_micro"]) == (10 * EURO, 5_500_000)
    assert paid[0] == "debts.paid" and paid[1]["amount_micro"] == 10 * EURO, "by the recharge"
    books_hold(here)


def settle(here: World, debt: DebtOpened, amount: int | None, key: str = "settle") -> Any:
    return settle_debt(
        actor=here.administrator, debt_id=debt.debt_id, amount_micro=amount, key=key, now=NOW
    )


def test_settling_that_empties_the_wallet_is_seen_by_supply() -> None:
    here = place(plan())
    debt = owed(here)
    settle(here, debt, 25_500_000)
    assert available(here) == 0
    assert one("SELECT count(*) FROM supply_decision WHERE account_id = %s",
               here.accounts["1001"]) == 1  # fmt: skip


def test_written_off_is_the_propertys_loss_and_not_the_wallets_gain() -> None:
    here = place(plan())
    debt, before = owed(here), available(here)
    buy(here, 8 * EURO, "a")
    with agreed("debts.write_off", here.property_id, f"debt:{debt.debt_id}", {"amount": 28 * EURO}):
        done = write_off_debt(
            actor=here.administrator, debt_id=debt.debt_id, why="cannot pay", key="w", now=NOW
        )
    assert (done.amount_micro, done.left_micro) == (28 * EURO, 0)
    assert available(here) == before + 6 * EURO
    assert rows("SELECT counter_account, sum(amount)::bigint FROM transfer WHERE kind = %s "
                "GROUP BY 1 ORDER BY 1", int(TransferKind.WRITE_OFF)) == [
        (int(CounterAccount.ADJUSTMENTS), 28 * EURO), (int(CounterAccount.DEBTS), -28 * EURO),
    ]  # fmt: skip
    assert buy(here, 8 * EURO, "b").debt == 0
    assert told(debt.account_id)[1:] == [
        ("debts.written_off", {"debt": "D-1", "amount_micro": 28 * EURO})
    ]
    books_hold(here)


def test_an_agreement_can_be_changed_and_is_remembered() -> None:
    here = place(plan())
    debt = owed(here)
    change_agreement(
        actor=here.administrator, debt_id=debt.debt_id, share_ppm=0, weekly_cap_micro=0, now=NOW
    )
    assert buy(here, 8 * EURO, "a").debt == 0
    before = one(
        "SELECT detail -> 'before' FROM audit_event WHERE code = 'debts.agreement.changed'"
    )
    assert told(debt.account_id)[1:] == [
        ("debts.agreement",
         {"debt": "D-1", "left_micro": 30 * EURO, "share_ppm": 0, "weekly_cap_micro": 0})
    ]  # fmt: skip
    assert before in ({"share_ppm": 250_000, "weekly_cap": 0},
                      '{"share_ppm": 250000, "weekly_cap": 0}')  # fmt: skip


def test_a_key_stands_for_one_deed() -> None:
    here = place(plan())
    debt = owed(here, key="k")
    again = owed(here, key="k", now=NOW + timedelta(days=1))
    assert again.repeated and again.code == debt.code
    with pytest.raises(KeyReused):
        owed(here, 1 * EURO, key="k")
    with pytest.raises(KeyReused):
        settle(here, debt, 1, key="k")
    assert settle(here, debt, 1).repeated is False and settle(here, debt, 1).repeated
    assert one("SELECT count(*) FROM debt") == 1
    with pytest.raises(KeyReused):
        owed(here, key="k" * (KEY_MAX + 1))


@pytest.mark.parametrize(
    ("deed", "refusal"),
    [
        (lambda here: owed(here, 0), AmountRefused),
        (lambda here: owed(here, -1), AmountRefused),
        (lambda here: owed(here, share_ppm=1_000_001), AgreementRefused),
        (lambda here: owed(here, share_ppm=-1), AgreementRefused),
        (lambda here: owed(here, weekly_cap_micro=-1), AgreementRefused),
        (lambda here: owed(here, account_id=2**62), UnknownDebt),
        (lambda here: settle(here, owed(here), 0), AmountRefused),
        (lambda here: settle(here, owed(here), -5), AmountRefused),
        (
            lambda here: settle_debt(
                actor=here.administrator, debt_id=2**62, amount_micro=1, key="x", now=NOW
            ),
            UnknownDebt,
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    deed: Callable[[World], object], refusal: type[Exception]
) -> None:
    here = place(plan())
    with pytest.raises(refusal):
        deed(here)
    assert (
        one("SELECT count(*) FROM transfer WHERE kind IN (11, 13) AND reason <> 'debt.agreed'") == 0
    )


def test_who_may_not_does_nothing(database: str) -> None:
    here, there = place(plan()), place(plan())
    debt = owed(here)
    before = snapshot()
    for actor in (
        here.operator,
        Actor("user:9", Duty.AUDITOR, (here.property_id,), "Aud"),
        there.administrator,
    ):
        with signed_in(role_dsn(database, "web"), database):
            with pytest.raises((PermissionRefused, UnknownDebt)):
                open_debt(
                    actor=actor, account_id=here.accounts["1001"], amount_micro=1,
                    reason=Debt.Reason.AGREED, note="", share_ppm=0, weekly_cap_micro=0,
                    key="no", now=NOW,
                )  # fmt: skip
            with pytest.raises((PermissionRefused, UnknownDebt)):
                write_off_debt(actor=actor, debt_id=debt.debt_id, why="", key="no", now=NOW)
            with pytest.raises(PermissionRefused):
                set_policy(actor=actor, property_id=here.property_id, policy=Policy(), now=NOW)
    assert snapshot() == before
    with signed_in(role_dsn(database, "web"), database):
        assert debts_of(actor=there.operator, account_id=here.accounts["1001"]) == []
        assert buy(here, 20 * EURO, "web").debt == 5 * EURO


def test_a_propertys_policy_is_its_own() -> None:
    here, there = place(plan()), place(plan())
    mine = Policy(DebtPolicy.Missing.REFUSE, DebtPolicy.Missing.LOSS, 100_000, EURO)
    set_policy(actor=system_actor("setup"), property_id=here.property_id, policy=mine, now=NOW)
    assert (policy_of(here.property_id), policy_of(there.property_id)) == (mine, Policy())
    with pytest.raises(AgreementRefused):
        set_policy(
            actor=system_actor("setup"), property_id=here.property_id,
            policy=Policy(share_ppm=1_000_001), now=NOW,
        )  # fmt: skip


def test_the_database_itself_refuses_impossible_debts() -> None:
    here = place(plan())
    owed(here)
    for statement in (
        "UPDATE debt SET principal_micro = 0",
        "UPDATE debt SET share_ppm = 1000001",
        "UPDATE debt SET closed_at = now()",
        "UPDATE debt SET ending = 'paid'",
        "INSERT INTO debt_policy VALUES (1, 'perhaps', 'debt', 0, 0, now())",
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            rows(statement)


def test_recharges_and_settlements_at_once_never_pay_a_debt_twice() -> None:
    here = place(plan())
    debt = owed(here, 10 * EURO, share_ppm=1_000_000)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            buy(here, 4 * EURO, f"r{number}")
            with suppress(AmountRefused, UnknownDebt):
                settle(here, debt, 3 * EURO, key=f"s{number}")
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    assert left_of(here.accounts["1001"], debt.code) == 0
    assert available(here) == 25_500_000 + 24 * EURO - 10 * EURO
    books_hold(here)


@settings(
    max_examples=cases(10),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_life_of_debts_leaves_the_books_whole(database: str, data: st.DataObject) -> None:
    limit = {"share": str(data.draw(st.integers(1, 100)))} if data.draw(st.booleans()) else None
    here = place(plan(**({"debt_recovery": limit} if limit else {})))
    at, wallet, open_ids = NOW, 25_500_000, []
    for number in range(data.draw(st.integers(1, 12))):
        at += timedelta(days=data.draw(st.integers(0, 5)))
        amount = data.draw(st.integers(1, 40 * EURO))
        what = data.draw(st.sampled_from(["open", "buy", "buy", "settle", "write_off"]))
        if what == "open":
            open_ids.append(
                owed(
                    here, amount, share_ppm=data.draw(st.integers(0, 1_000_000)), now=at,
                    weekly_cap_micro=data.draw(st.sampled_from([0, 1, EURO])), key=f"{here.property_id}:o{number}",
                ).debt_id
            )  # fmt: skip
        elif what == "buy":
            done = buy(here, amount, f"b{number}", at)
            assert 0 <= done.debt <= amount
            assert limit is None or done.debt * 100 <= amount * int(limit["share"])
            wallet += amount - done.debt
        elif open_ids:
            debt_id = data.draw(st.sampled_from(open_ids))
            try:
                if what == "settle":
                    wallet -= settle_debt(
                        actor=here.administrator, debt_id=debt_id, amount_micro=amount,
                        key=f"{here.property_id}:s{number}", now=at,
                    ).amount_micro  # fmt: skip
                else:
                    # Others agreed to what is left (owed by the ledger, below zero beside the wallet).
                    left = one("SELECT sum(amount)::bigint FROM transfer t JOIN debt d USING (account_id, code) "
                               "WHERE d.id = %s AND counter_account = 12", debt_id)  # fmt: skip
                    with agreed_if_done(
                        "debts.write_off", here.property_id, f"debt:{debt_id}", {"amount": left}
                    ):
                        write_off_debt(
                            actor=here.administrator, debt_id=debt_id, why="-",
                            key=f"{here.property_id}:w{number}", now=at,
                        )  # fmt: skip
            except (AmountRefused, UnknownDebt):
                pass
        assert available(here) == wallet >= 0
    books_hold(here)
