"""A debt as a row: what the list, the account's page and the debt's own page share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prewatt.debts.models import Debt
from prewatt.reports.holders import Who


@dataclass(frozen=True, slots=True)
class DebtRow:
    """One debt with what is left of it, from the ledger."""

    debt_id: int
    who: Who
    code: str
    reason: Debt.Reason
    note: str
    principal_micro: int
    left_micro: int
    share_ppm: int
    weekly_cap_micro: int
    opened_at: datetime
    closed_at: datetime | None
    ending: str

    @property
    def recovered_micro(self) -> int:
        """What has come back so far."""
        return self.principal_micro - self.left_micro
