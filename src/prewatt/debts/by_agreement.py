"""A debt that is given up, whole: as others agreed to, or alone up to the property's limits.

Never an emergency. The ledger's pen looks for what was agreed to behind the very transfers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, Changed, Kind
from prewatt.approvals.operations import Wanted, wanted_change
from prewatt.debts.models import Debt
from prewatt.debts.operations import left_of, write_off_debt
from prewatt.debts.words import DebtRefused, UnknownDebt
from prewatt.ledger.operations import LedgerRefused

KIND: Final = "debts.write_off"


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
