"""What customers are told of recharges taken back and of refunds, in the transaction of what it tells.

The words are ``notify.texts_of_money``; here is which figures go with them.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import connection

from prewatt.debts.words import Policy
from prewatt.notify.operations import NewMessage, enqueue
from prewatt.vending.models import Refund

if TYPE_CHECKING:
    from prewatt.vending.taking_back import TakenBack


def tell_taken_back(
    *, property_id: int, recharge_event_id: int, done: TakenBack, document: str, policy: Policy,
    now: datetime,
) -> None:  # fmt: skip
    """Both holders, where credit moved; ``document`` is the number of the deed's own paper."""
    receipt = _receipt(recharge_event_id)
    known = {"amount_micro": done.amount_micro, "receipt": receipt, "document": document}
    left: dict[str, object] = {
        **known,
        "available_micro": done.available_after_micro,
        "emergency_used_micro": min(done.emergency_micro, max(0, -done.available_after_micro)),
        "reopened_micro": done.returned_to_debts_micro,
    }
    if done.debt_code:
        left |= {
            "debt": done.debt_code,
            "debt_micro": done.used_micro,
            "share_ppm": policy.share_ppm,
            "weekly_cap_micro": policy.weekly_cap_micro,
        }
    moved = done.to_account_id is not None
    code = "vending.moved_off" if moved else "vending.reversed"
    told = [(done.account_id, code, left)]
    if done.to_account_id is not None:
        has = {**known, "available_micro": _available(done.to_account_id)}
        told.append((done.to_account_id, "vending.moved_on", has))
    enqueue(
        messages=[
            NewMessage(property_id, account_id, code, detail, f"{code}:{done.event_id}")
            for account_id, code, detail in told
        ],
        now=now,
    )


def tell_adjusted(
    *, property_id: int, account_id: int, event_id: int, credit_micro: int, now: datetime
) -> None:
    """Credit that nobody paid was given, or (below zero) taken."""
    code = "vending.credited" if credit_micro > 0 else "vending.uncredited"
    detail = {"amount_micro": abs(credit_micro), "available_micro": _available(account_id)}
    enqueue(
        messages=[NewMessage(property_id, account_id, code, detail, f"{code}:{event_id}")], now=now
    )


def tell_refund_due(refund: Refund, *, now: datetime) -> None:
    """What is left of a closed account comes back to whoever had it."""
    _tell_refund(refund, "vending.refund_due", refund.reason, now)


def tell_refund_paid(refund: Refund, *, now: datetime) -> None:
    """It was paid out, and in which way."""
    _tell_refund(refund, "vending.refund_paid", refund.paid_way, now)


def _tell_refund(refund: Refund, code: str, reason: str, now: datetime) -> None:
    detail = {
        "amount_micro": refund.amount_micro,
        "document": f"F-{refund.number}",
        "reason": reason,
    }
    enqueue(
        messages=[
            NewMessage(
                refund.property_id, refund.account_id, code, detail, f"{code}:{refund.event_id}"
            )
        ],
        now=now,
    )


def _receipt(event_id: int) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT series || '-' || number FROM document WHERE event_id = %s AND kind = 'receipt'",
            [event_id],
        )
        row = cursor.fetchone()
    return "" if row is None else str(row[0])


def _available(account_id: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT available FROM account_state WHERE account_id = %s", [account_id])
        return int(cursor.fetchone()[0])
