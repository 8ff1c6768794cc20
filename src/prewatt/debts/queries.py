"""What others ask about debts."""

from __future__ import annotations

from prewatt.access.scope import Actor, require, scope
from prewatt.debts.models import Debt
from prewatt.debts.operations import left_of
from prewatt.debts.words import DebtView


def debts_of(*, actor: Actor, account_id: int, closed: bool = False) -> list[DebtView]:
    """The open debts of an account in scope, oldest first; ``closed`` adds those that ended."""
    require(actor, "accounts.read")
    with scope(actor):
        found = Debt.objects.filter(account_id=account_id).order_by("opened_at", "pk")
        if not closed:
            found = found.filter(closed_at=None)
        return [
            DebtView(
                debt_id=debt.pk,
                account_id=debt.account_id,
                code=debt.code,
                reason=Debt.Reason(debt.reason),
                note=debt.note,
                principal_micro=debt.principal_micro,
                left_micro=left_of(debt.account_id, debt.code),
                share_ppm=debt.share_ppm,
                weekly_cap_micro=debt.weekly_cap_micro,
                opened_at=debt.opened_at,
                opened_by=debt.opened_by,
                closed_at=debt.closed_at,
                ending=debt.ending,
            )
            for debt in found
        ]
