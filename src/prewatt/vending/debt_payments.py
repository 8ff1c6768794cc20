"""A debt paid at the window, of whichever account, closed ones too: money in, debt down, receipt.

The money never becomes credit: what comes in is a recharge that goes to the debt whole, in the same
event, so the wallet stays as it is and no relay hears of it. So whoever takes recharges back takes this
back too, and the debt is open again (``taking_back``). Nothing is taken beyond what is owed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.debts.models import Debt
from prewatt.debts.operations import left_of
from prewatt.debts.recovery import Recovery, close_paid, debt_leg
from prewatt.debts.telling import tell_reduced
from prewatt.ledger.idempotency import store_answer, stored_answer
from prewatt.ledger.operations import (
    Event,
    append_events,
    lock_accounts,
    new_event_ids,
    next_document_number,
)
from prewatt.vending.models import Payment
from prewatt.vending.operations import LIMIT_MICRO, REFERENCE_MAX

REASON: Final = "debt.paid"
#: Receipts of recharges have the same series: one row of numbers for all money that comes in.
RECEIPT_SERIES: Final = "R"
_COUNTER: Final = {
    "cash": CounterAccount.CASH,
    "online": CounterAccount.BANK,
    "transfer": CounterAccount.BANK,
}


class DebtPaymentRefused(Exception):
    """Nothing was taken. ``reason`` is ``unknown``, ``closed``, ``amount``, ``way`` or ``reference``."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class DebtPaid:
    """What was taken of ``offered_micro``, and what is left of the debt, in micro-units."""

    debt_id: int
    code: str
    account_id: int
    offered_micro: int
    amount_micro: int
    left_micro: int
    event_id: int
    receipt_number: int
    repeated: bool = False


def pay_debt(
    *,
    actor: Actor,
    debt_id: int,
    offered_micro: int,
    way: str,
    reference: str,
    key: str,
    now: datetime,
) -> DebtPaid:
    """Take money for an open debt, at most what is left of it; the rest of the offer is change.

    Idempotent by ``key``. Raises DebtPaymentRefused, PermissionRefused, PeriodClosed, KeyReused.
    """
    require(actor, "vending.recharge")
    _refuse_offer(offered_micro, way, reference)
    body = {
        "op": "debt.pay", "debt": debt_id, "amount": offered_micro, "way": way,
        "reference": reference,
    }  # fmt: skip
    with scope(actor):
        before = stored_answer(actor=actor, key=key, body=body)
        if before is not None:
            known: dict[str, Any] = {**before, "repeated": True}
            return DebtPaid(**known)
        debt = _locked(actor, debt_id)
        left = left_of(debt.account_id, debt.code)
        amount = min(offered_micro, left)
        (event,) = new_event_ids(1)
        _write_payment(actor, debt, event, amount, way, reference, now)
        answer = _book(actor, debt, event, offered_micro, amount, left, way, now)
        _write_receipt(debt, answer, now)
        _close_or_tell(debt, answer, now)
        _conclude(actor, key, body, debt, answer, way, now)
    return answer


def _refuse_offer(offered_micro: int, way: str, reference: str) -> None:
    if not 0 < offered_micro <= LIMIT_MICRO:
        raise DebtPaymentRefused("amount", f"an amount lies above 0 and up to {LIMIT_MICRO}")
    if way not in _COUNTER:
        raise DebtPaymentRefused("way", f"money comes by {', '.join(_COUNTER)}, not by {way!r}")
    if len(reference) > REFERENCE_MAX or not reference.isprintable():
        raise DebtPaymentRefused(
            "reference", f"a reference has up to {REFERENCE_MAX} printable characters"
        )


def _locked(actor: Actor, debt_id: int) -> Debt:
    """The open debt, read once its account is locked."""
    seen = Debt.objects.filter(pk=debt_id).first()
    if seen is None or not lock_accounts([seen.account_id]):
        raise DebtPaymentRefused("unknown", f"there is no debt {debt_id} at your properties")
    require(actor, "vending.recharge", property_id=seen.property_id)
    debt = Debt.objects.get(pk=debt_id)
    if debt.closed_at is not None:
        raise DebtPaymentRefused("closed", f"{debt.code} is closed ({debt.ending})")
    return debt


def _book(
    actor: Actor,
    debt: Debt,
    event: int,
    offered: int,
    amount: int,
    left: int,
    way: str,
    now: datetime,
) -> DebtPaid:
    """The money in and the debt down, as one event."""
    legs = [
        debt_leg(
            debt.account_id, signed, debt.code, now,
            kind=kind, counter_account=counter, reason=REASON,
        )
        for signed, kind, counter in (
            (amount, TransferKind.RECHARGE, _COUNTER[way]),
            (-amount, TransferKind.DEBT_RECOVERY, CounterAccount.DEBTS),
        )
    ]  # fmt: skip
    append_events(actor_code=actor.code, events=[Event(event, tuple(legs))], now=now)
    number = next_document_number(legal_entity_id=debt.legal_entity_id, series=RECEIPT_SERIES)
    return DebtPaid(
        int(debt.pk), debt.code, debt.account_id, offered, amount, left - amount, event, number
    )  # fmt: skip


def _close_or_tell(debt: Debt, paid: DebtPaid, now: datetime) -> None:
    """A debt with nothing left is closed; either way its customer is told."""
    receipt = f"{RECEIPT_SERIES}-{paid.receipt_number}"
    if paid.left_micro:
        tell_reduced(
            debt=debt, amount_micro=paid.amount_micro, left_micro=paid.left_micro, now=now,
            event_id=paid.event_id, receipt=receipt,
        )  # fmt: skip
        return
    done = Recovery(paid.debt_id, paid.code, paid.amount_micro, 0)
    close_paid(recovered=[done], now=now, receipt=receipt)


def _write_payment(
    actor: Actor, debt: Debt, event: int, amount: int, way: str, reference: str, now: datetime
) -> None:
    """The payment, before its transfer: the ledger's pen asks for it."""
    Payment.objects.create(
        property_id=debt.property_id,
        account_id=debt.account_id,
        event_id=event,
        amount_micro=amount,
        way=way,
        reference=reference,
        paid_at=now,
        accepted_at=now,
        taken_by=actor.code,
    )


def _write_receipt(debt: Debt, paid: DebtPaid, now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO document (property_id, legal_entity_id, series, number, kind, account_id,
                   event_id, issued_at, amount_micro) VALUES (%s, %s, %s, %s, 'receipt', %s, %s, %s, %s)""",
            [
                debt.property_id,
                debt.legal_entity_id,
                RECEIPT_SERIES,
                paid.receipt_number,
                debt.account_id,
                paid.event_id,
                now,
                paid.amount_micro,
            ],
        )


def _conclude(
    actor: Actor,
    key: str,
    body: Mapping[str, object],
    debt: Debt,
    paid: DebtPaid,
    way: str,
    now: datetime,
) -> None:
    record(
        actor=actor.code,
        code="vending.debt.paid",
        property_id=debt.property_id,
        subject=f"account:{debt.account_id}",
        now=now,
        debt=debt.code,
        amount=paid.amount_micro,
        left=paid.left_micro,
        way=way,
        receipt=paid.receipt_number,
        event=paid.event_id,
    )
    store_answer(
        actor=actor,
        key=key,
        body=body,
        account_id=debt.account_id,
        property_id=debt.property_id,
        answer=asdict(paid),
        now=now,
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify('changed', %s)", [str(debt.property_id)])
