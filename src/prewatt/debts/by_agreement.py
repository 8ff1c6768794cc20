"""What takes others about debts: one that is given up, whole, and the policy by which they arise.

Giving up goes alone up to the property's limits, and the ledger's pen looks for what was agreed to behind the
very transfers. The policy takes another administrator each time. Neither is ever an emergency.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Final

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, Changed, Kind
from prewatt.approvals.operations import Wanted, wanted_change
from prewatt.debts.models import Debt, DebtPolicy
from prewatt.debts.operations import (
    left_of,
    refuse_policy,
    set_policy,
    stored_policy,
    write_off_debt,
)
from prewatt.debts.policy import policy_of
from prewatt.debts.words import AgreementRefused, DebtRefused, Policy, UnknownDebt
from prewatt.ledger.operations import LedgerRefused

KIND: Final = "debts.write_off"
POLICY_KIND: Final = "debts.policy"


def wanted_write_off(*, actor: Actor, debt_id: int) -> Wanted:
    """Give up what is left of an open debt. Raises UnknownDebt."""
    require(actor, "debts.manage")
    with scope(actor):
        debt = Debt.objects.filter(pk=debt_id, closed_at__isnull=True).first()
        if debt is None:
            raise UnknownDebt(f"there is no open debt {debt_id} at your properties")
        return wanted_change(
            kind=KIND, property_id=debt.property_id, subject=f"debt:{debt_id}",
            effect={
                "debt": debt_id, "code": debt.code, "account": debt.account_id,
                "amount": left_of(debt.account_id, debt.code),
            },
        )  # fmt: skip


def _write_off(actor: Actor, agreed: Agreed, now: datetime) -> None:
    """Give up what was agreed to; where something of it was paid since, it is another amount."""
    effect = agreed.effect
    try:
        done = write_off_debt(
            actor=actor, debt_id=effect["debt"], why=agreed.reason, amount_micro=effect["amount"],
            key=f"proposal:{agreed.proposal_id}", now=now, agreed=agreed,
        )  # fmt: skip
    except DebtRefused as refused:
        raise Changed("debt") from refused
    except LedgerRefused as refused:
        raise Changed("books") from refused
    if done.left_micro:
        raise Changed("debt")


WRITE_OFF: Final = Kind(KIND, _write_off)


def wanted_policy(*, actor: Actor, property_id: int, policy: Policy) -> Wanted:
    """Another policy for the property. Raises AgreementRefused, also where it says what holds already."""
    require(actor, "debts.policy", property_id=property_id)
    refuse_policy(policy)
    with scope(actor):
        before = policy_of(property_id)
        if before == policy:
            raise AgreementRefused("this policy holds already")
        return wanted_change(
            kind=POLICY_KIND, property_id=property_id, subject="debts",
            effect={
                "stored": stored_policy(property_id), "before": asdict(before),
                "policy": asdict(policy),
            },
        )  # fmt: skip


def _set_policy(actor: Actor, agreed: Agreed, now: datetime) -> None:
    said = dict(agreed.effect["policy"])
    for name in ("reversed_payment", "moved_credit", "let_shortfall"):
        said[name] = DebtPolicy.Missing(said[name])
    set_policy(
        actor=actor, property_id=agreed.property_id, policy=Policy(**said), now=now,
        made_by=agreed.made_by, reason=agreed.reason,
    )  # fmt: skip


POLICY: Final = Kind(POLICY_KIND, _set_policy)
