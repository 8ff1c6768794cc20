"""Reads what a closed account ended with: its closing statement, refunds and receipts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prewatt.core.accounts import TransferKind
from prewatt.core.civil_time import instant_us
from prewatt.reports.place import rows

#: So many receipts stand on the page of a closed account; all of them are in its changes.
RECEIPTS: Final = 12


@dataclass(frozen=True, slots=True)
class RefundLine:
    """A refund of a closed account, as its document names it."""

    refund_id: int
    code: str
    amount_micro: int
    made_at: datetime
    paid_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReceiptLine:
    """A recharge with its receipt."""

    event_id: int
    code: str
    amount_micro: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Ending:
    """What an account ended with. ``hand_over_us`` names the page of the boundary, None where nobody
    ever lived by the account; the closing registers stand there.
    """

    unit_id: int
    hand_over_us: int | None
    since: datetime | None
    until: datetime
    left_micro: int
    refunds: tuple[RefundLine, ...]
    receipts: tuple[ReceiptLine, ...]


def ending_of(account_id: int, closed_at: datetime, left_micro: int) -> Ending:
    """What a closed account ended with, inside the caller's scope."""
    lived = rows(
        """SELECT unit_id, lower(period), upper(period) FROM tenancy WHERE account_id = %s
           ORDER BY lower(period) DESC LIMIT 1""",
        [account_id],
    )
    unit_id, since, until = lived[0] if lived else (0, None, None)
    refunds = rows(
        """SELECT id, 'F-' || number, amount_micro, made_at, paid_at FROM refund
           WHERE account_id = %s ORDER BY id DESC""",
        [account_id],
    )
    receipts = rows(
        """SELECT t.event_id, d.series || '-' || d.number, t.amount, t.booked_at
           FROM transfer t JOIN document d ON d.event_id = t.event_id AND d.kind = 'receipt'
           WHERE t.account_id = %s AND t.kind = %s ORDER BY t.seq DESC LIMIT %s""",
        [account_id, int(TransferKind.RECHARGE), RECEIPTS],
    )
    return Ending(
        int(unit_id), None if until is None else instant_us(until), since, closed_at, left_micro,
        tuple(RefundLine(*row) for row in refunds), tuple(ReceiptLine(*row) for row in receipts),
    )  # fmt: skip
