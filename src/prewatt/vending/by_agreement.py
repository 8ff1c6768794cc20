"""Money that leaves, or appears, without a payment: as others agreed to, or alone up to the property's limits.

Each is a kind of proposal. Its effect is the deed itself, in the transaction of the last approval, and the
ledger's pen looks for what was agreed to behind the very transfers (``ledger/sql/0014_agreed_money.sql``).
None of them is ever an emergency: money can wait for a second person.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, Changed, Kind
from prewatt.approvals.operations import Wanted, wanted_change
from prewatt.debts.policy import policy_of
from prewatt.ledger.operations import LedgerRefused
from prewatt.vending.credits import CreditRefused, give_credit, look_at_credit
from prewatt.vending.models import Refund
from prewatt.vending.refunds import WAYS, RefundRefused, pay_refund
from prewatt.vending.taking_back import (
    CreditUsed,
    TakeBackRefused,
    WrongAccount,
    move_credit,
    recharge_that_stands,
    reverse_recharge,
)

REFUND: Final = "vending.refund"
REVERSAL: Final = "vending.reversal"
MOVE: Final = "vending.move"
CREDIT: Final = "ledger.credit"


def wanted_refund(*, actor: Actor, refund_id: int, way: str, reference: str) -> Wanted:
    """Pay a refund out, whole. Raises RefundRefused ``unknown``, ``paid``, ``way_unknown``."""
    require(actor, "vending.pay_refund")
    if way not in WAYS:
        raise RefundRefused("way_unknown", f"a refund is paid by {' or '.join(WAYS)}, not {way!r}")
    with scope(actor):
        refund = Refund.objects.filter(pk=refund_id).first()
        if refund is None:
            raise RefundRefused("unknown", f"there is no refund {refund_id} at your properties")
        if refund.state == Refund.State.PAID:
            raise RefundRefused("paid", f"refund {refund.number} was paid out already")
        return wanted_change(
            kind=REFUND, property_id=refund.property_id, subject=f"refund:{refund_id}",
            effect={
                "refund": refund_id, "number": refund.number, "account": refund.account_id,
                "amount": refund.amount_micro, "way": way, "reference": reference,
            },
        )  # fmt: skip


def wanted_taking_back(*, actor: Actor, event_id: int, to_account_id: int | None) -> Wanted:
    """Take a recharge back whole: to where it came from, or to the right account.

    It names what the property does about credit that was used (``missing``), which the approvers agree to
    as well. Raises TakeBackRefused.
    """
    require(actor, "vending.take_back")
    with scope(actor):
        done = recharge_that_stands(actor, event_id, to_account_id)
        policy = policy_of(done.property_id)
        moved = to_account_id is not None
        return wanted_change(
            kind=MOVE if moved else REVERSAL, property_id=done.property_id,
            subject=f"recharge:{event_id}",
            effect={
                "recharge": event_id, "account": done.account_id, "amount": done.amount_micro,
                "to": to_account_id, "to_debts": done.recovered_micro,
                "missing": (policy.moved_credit if moved else policy.reversed_payment).value,
            },
        )  # fmt: skip


def wanted_credit(*, actor: Actor, account_id: int, credit_micro: int) -> Wanted:
    """Give an open account credit that nobody paid for, or (below zero) take it. Raises CreditRefused."""
    require(actor, "vending.credit")
    with scope(actor):
        property_id = look_at_credit(actor, account_id, credit_micro)
        return wanted_change(
            kind=CREDIT, property_id=property_id, subject=f"account:{account_id}",
            effect={"account": account_id, "amount": abs(credit_micro), "credit": credit_micro},
        )  # fmt: skip


def _pay(actor: Actor, agreed: Agreed, now: datetime) -> None:
    """Pay what was agreed to; who asked for it hands it over."""
    effect = agreed.effect
    try:
        pay_refund(
            actor=actor, refund_id=effect["refund"], way=effect["way"], reference=effect["reference"],
            agreed=agreed, now=now,
        )  # fmt: skip
    except RefundRefused as refused:
        raise Changed("refund") from refused


def _take_back(actor: Actor, agreed: Agreed, now: datetime) -> None:
    """Take the recharge back as it was agreed to, under the policy that was agreed to."""
    effect = agreed.effect
    policy = policy_of(agreed.property_id)
    moved = effect["to"] is not None
    missing = policy.moved_credit if moved else policy.reversed_payment
    if missing.value != effect["missing"]:
        raise Changed("policy")
    given: dict[str, Any] = {
        "actor": actor, "event_id": effect["recharge"], "why": agreed.reason, "now": now,
        "key": f"proposal:{agreed.proposal_id}", "agreed": agreed,
    }  # fmt: skip
    try:
        if moved:
            move_credit(to_account_id=effect["to"], **given)
        else:
            reverse_recharge(**given)
    except CreditUsed as refused:
        raise Changed("used") from refused
    except WrongAccount as refused:
        raise Changed("receiver") from refused
    except TakeBackRefused as refused:
        raise Changed("recharge") from refused
    except LedgerRefused as refused:
        raise Changed("books") from refused


def _give_credit(actor: Actor, agreed: Agreed, now: datetime) -> None:
    try:
        give_credit(
            actor=actor, account_id=agreed.effect["account"], credit_micro=agreed.effect["credit"],
            agreed=agreed, now=now,
        )  # fmt: skip
    except CreditRefused as refused:
        raise Changed("wallet") from refused
    except LedgerRefused as refused:
        raise Changed("books") from refused


KINDS: Final = (
    Kind(REFUND, _pay),
    Kind(REVERSAL, _take_back),
    Kind(MOVE, _take_back),
    Kind(CREDIT, _give_credit),
)
