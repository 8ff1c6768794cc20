"""Money that leaves or appears without a payment: by whom it takes, one flow for each kind."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from tests.approvals.test_two_people import Office, said, state
from tests.conftest import role_dsn
from tests.invariants.places import NOW, one, rows

from prewatt.access.models import Duty
from prewatt.access.scope import PermissionRefused
from prewatt.approvals.operations import Wanted, break_glass, emergency_digest, propose
from prewatt.debts.by_agreement import wanted_write_off
from prewatt.debts.models import Debt
from prewatt.debts.operations import open_debt, settle_debt
from prewatt.vending.by_agreement import wanted_credit, wanted_refund, wanted_taking_back
from prewatt.vending.credits import CreditRefused
from prewatt.vending.operations import Recharge, recharge
from prewatt.vending.refunds import RefundRefused, refund_balance
from prewatt.vending.taking_back import AlreadyTakenBack, WrongAccount

pytestmark = pytest.mark.usefixtures("database")
EURO = 1_000_000


@pytest.fixture
def office(database: str) -> Office:
    return Office()


def account(office: Office, number: str = "1001") -> int:
    return int(
        one(
            "SELECT id FROM account WHERE number = %s AND property_id = %s",
            number, office.property_id,
        )
    )  # fmt: skip


def available(account_id: int) -> int:
    return int(one("SELECT available FROM account_state WHERE account_id = %s", account_id))


def sell(office: Office, euro: int, key: str) -> int:
    """A recharge of the first account; its event."""
    wish = Recharge(key, account(office), euro * EURO, "cash", "", NOW)
    recharge(actor=office.actor("tomas", Duty.OPERATOR), recharges=[wish], now=NOW)
    return int(one("SELECT max(event_id) FROM payment"))


def audited(code: str) -> tuple[str, str]:
    """The proposal behind the last such event, and who asked for it."""
    (found,) = rows(
        "SELECT detail ->> 'proposal', detail ->> 'made_by' FROM audit_event WHERE code = %s "
        "ORDER BY id DESC LIMIT 1",
        code,
    )
    return str(found[0]), str(found[1])


def never_at_once(office: Office, wanted: Wanted) -> None:
    """No emergency allows it, whatever the amount."""
    with said("kind"):
        break_glass(
            actor=office.actor("ines"), wanted=wanted, reason="now", now=office.now,
            step_up_id=office.prove("ines", emergency_digest(wanted=wanted)),
        )  # fmt: skip


def test_a_refund_is_paid_alone_below_the_limit_and_above_it_by_two(
    office: Office, database: str
) -> None:
    ines, tomas = office.actor("ines"), office.actor("tomas", Duty.OPERATOR)
    due = []
    for number, euro in (("1001", 150), ("OWN-LIFT", 90)):
        gone = account(office, number)
        rows("UPDATE account SET closed_at = %s WHERE id = %s", NOW, gone)
        rows("UPDATE account_state SET posted = %s, accrued_energy = 0 WHERE account_id = %s",
             euro * EURO, gone)  # fmt: skip
        made = refund_balance(actor=ines, account_id=gone, reason="moved_out", now=NOW)
        assert made is not None
        due.append(made.refund_id)

    def pay(refund_id: int) -> Any:
        wanted = wanted_refund(actor=tomas, refund_id=refund_id, way="cash", reference="ID")
        step = office.prove("tomas", wanted.digest)
        return propose(
            actor=tomas, wanted=wanted, reason="To be paid out", step_up_id=step, now=office.now
        )

    paid = "SELECT paid_by FROM refund ORDER BY id"
    wanted = wanted_refund(actor=tomas, refund_id=due[0], way="cash", reference="ID")
    step = office.prove("tomas", wanted.digest)
    with psycopg.connect(role_dsn(database, "web")) as web:
        # Straight at the database, with the name of a colleague: who asked for it has paid it.
        web.execute("SET ROLE app_operator")
        web.execute(
            "SELECT set_config('prewatt.properties', %s, false)", [f"{{{office.property_id}}}"]
        )
        alone = web.execute(
            "SELECT refusal, needs FROM make_proposal(%s, %s, %s, %s, 'So', %s, %s, %s, %s)",
            [wanted.kind, office.property_id, wanted.subject, Jsonb(dict(wanted.effect)),
             office.users["tomas"].pk, step, office.now, office.now + timedelta(days=14)],
        ).fetchone()  # fmt: skip
        assert alone == (None, 0)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="somebody else asked"):
            web.execute("SELECT pay_refund_out(%s, 'cash', 'ID', %s, now())", [due[0], ines.code])
    assert pay(due[0]).is_done
    assert rows(paid) == [(tomas.code,), ("",)]
    # 90 more on the same day are 240 by the same person.
    second = pay(due[1])
    assert second.needed == 1 and rows(paid) == [(tomas.code,), ("",)]
    assert office.approve(second.proposal_id) == 0
    assert rows(paid) == [(tomas.code,), (tomas.code,)], "who asked for it hands it over"
    assert audited("vending.refund.paid") == (str(second.proposal_id), tomas.code)
    with pytest.raises(RefundRefused, match="paid out already"):
        wanted_refund(actor=tomas, refund_id=due[0], way="cash", reference="")


def test_a_recharge_is_taken_back_by_two_and_is_void_where_it_went_another_way(
    office: Office,
) -> None:
    ines = office.actor("ines")
    before, event = available(account(office)), sell(office, 250, "a")
    wanted = wanted_taking_back(actor=ines, event_id=event, to_account_id=None)
    never_at_once(office, wanted)
    back = office.ask("ines", wanted)
    other = account(office, "OWN-LIFT")
    moved = office.ask("ines", wanted_taking_back(actor=ines, event_id=event, to_account_id=other))
    assert available(account(office)) == before + 250 * EURO, "nothing before another agrees"
    assert office.approve(back) == 0 and available(account(office)) == before
    with said("void:recharge"):
        office.approve(moved)
    assert (state(back), state(moved)) == ("approved", "void")
    assert audited("vending.recharge.taken_back") == (str(back), ines.code)
    with pytest.raises(AlreadyTakenBack):
        wanted_taking_back(actor=ines, event_id=event, to_account_id=None)
    # The policy that was agreed to has to hold still.
    again = office.ask(
        "ines", wanted_taking_back(actor=ines, event_id=sell(office, 10, "b"), to_account_id=None)
    )
    rows(
        """INSERT INTO debt_policy (property_id, reversed_payment, moved_credit, let_shortfall,
               later_let_pays, share_ppm, weekly_cap_micro, changed_at)
           VALUES (%s, 'loss', 'loss', 'debt', true, 0, 0, now())""",
        office.property_id,
    )
    with said("void:policy"):
        office.approve(again)


def test_credit_moves_alone_below_the_limit_to_the_account_that_was_agreed_to(
    office: Office,
) -> None:
    ines, right = office.actor("ines"), account(office, "OWN-LIFT")
    event, before = sell(office, 20, "a"), available(right)
    wanted = wanted_taking_back(actor=ines, event_id=event, to_account_id=right)
    never_at_once(office, wanted)
    assert state(office.ask("ines", wanted)) == "alone"
    assert available(right) == before + 20 * EURO
    with pytest.raises(WrongAccount):
        wanted_taking_back(
            actor=ines, event_id=sell(office, 20, "b"), to_account_id=account(office)
        )


def test_a_debt_is_written_off_by_two_and_as_it_was_proposed(office: Office) -> None:
    ines = office.actor("ines")
    debt = open_debt(
        actor=ines, account_id=account(office), amount_micro=80 * EURO, reason=Debt.Reason.AGREED,
        note="", share_ppm=0, weekly_cap_micro=0, key="d", now=NOW,
    )  # fmt: skip
    wanted = wanted_write_off(actor=ines, debt_id=debt.debt_id)
    never_at_once(office, wanted)
    first = office.ask("ines", wanted)
    assert one("SELECT closed_at FROM debt") is None
    settle_debt(actor=ines, debt_id=debt.debt_id, amount_micro=EURO, key="s", now=NOW)
    with said("void:debt"):
        office.approve(first)
    wallet = available(account(office))
    assert (
        office.approve(office.ask("ines", wanted_write_off(actor=ines, debt_id=debt.debt_id))) == 0
    )
    assert one("SELECT ending FROM debt") == "written_off"
    assert available(account(office)) == wallet


def test_credit_that_nobody_paid_always_takes_another_and_an_adjustment_makes_no_debt(
    office: Office,
) -> None:
    ines, tenant = office.actor("ines"), account(office)
    before = available(tenant)
    wanted = wanted_credit(actor=ines, account_id=tenant, credit_micro=EURO)
    never_at_once(office, wanted)
    given = office.ask("ines", wanted)
    assert state(given) == "open" and available(tenant) == before
    with said("own"):
        office.approve(given, "ines")
    assert office.approve(given) == 0 and available(tenant) == before + EURO
    assert one("SELECT count(*) FROM message WHERE code = 'vending.credited'") == 1
    assert audited("vending.credit.given") == (str(given), ines.code)
    # Taken again, unless it is used by then.
    take = wanted_credit(actor=ines, account_id=tenant, credit_micro=-before - EURO)
    late = office.ask("ines", take)
    rows(
        "UPDATE account_state SET accrued_energy = accrued_energy + 1 WHERE account_id = %s", tenant
    )
    with said("void:wallet"):
        office.approve(late)
    assert state(late) == "void" and available(tenant) == before + EURO - 1
    for micro, reason in ((0, "amount"), (-before - 2 * EURO, "less"), (2**62, "amount")):
        with pytest.raises(CreditRefused, match=reason):
            wanted_credit(actor=ines, account_id=tenant, credit_micro=micro)
    with pytest.raises(PermissionRefused):
        wanted_credit(
            actor=office.actor("tomas", Duty.OPERATOR), account_id=tenant, credit_micro=EURO
        )
