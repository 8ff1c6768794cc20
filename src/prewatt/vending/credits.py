"""Credit that nobody paid for, and its opposite: an adjustment by hand, which the property bears.

A goodwill gift, what a mistake of the past has cost, or taking such a gift back. It is one transfer against
adjustments, it is always another person's yes (`by_agreement`), and the customer is told. What a reading, a
price or a recharge made wrong is put right where it arose, not here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed
from prewatt.audit.operations import record
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.rating import Component
from prewatt.ledger.operations import Event, Leg, append_events, lock_accounts, new_event_ids
from prewatt.supply.operations import decide_after_credit, decide_for_crossings
from prewatt.vending.operations import LIMIT_MICRO
from prewatt.vending.telling import tell_adjusted

REASON: Final = "credit.by_hand"


class CreditRefused(Exception):
    """Nothing was given or taken; ``reason`` is ``unknown`` (no open account of a customer in scope),
    ``amount`` (none, or above the limit of a recharge) or ``less`` (the wallet has not as much to take).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def look_at_credit(actor: Actor, account_id: int, credit_micro: int) -> int:
    """The property of an account that may be given so much, or have it taken; inside a scope.

    Raises CreditRefused.
    """
    if not 0 < abs(credit_micro) <= LIMIT_MICRO:
        raise CreditRefused("amount")
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT s.property_id, s.available
               FROM account_state s JOIN account a ON a.id = s.account_id
               WHERE s.account_id = %s AND a.closed_at IS NULL AND a.customer_id IS NOT NULL""",
            [account_id],
        )
        found = cursor.fetchone()
    if found is None:
        raise CreditRefused("unknown")
    property_id, available = found
    require(actor, "vending.credit", property_id=property_id)
    if credit_micro < 0 and available + credit_micro < 0:
        raise CreditRefused("less")
    return int(property_id)


def give_credit(
    *, actor: Actor, account_id: int, credit_micro: int, agreed: Agreed, now: datetime
) -> int:
    """Give so much, or take it (below zero), as was agreed to in this transaction; returns the event.

    Never takes a wallet below zero: an adjustment makes no debt and cuts nobody. Raises CreditRefused,
    LedgerRefused, PermissionRefused.
    """
    require(actor, "vending.credit")
    with scope(actor):
        lock_accounts([account_id])
        property_id = look_at_credit(actor, account_id, credit_micro)
        (event_id,) = new_event_ids(1)
        leg = Leg(
            account_id=account_id, kind=TransferKind.ADJUSTMENT, component=int(Component.ENERGY),
            counter_account=CounterAccount.ADJUSTMENTS, amount=credit_micro, service_from=now,
            service_to=now, reason=REASON,
        )  # fmt: skip
        append_events(actor_code=actor.code, events=[Event(event_id, (leg,))], now=now)
        if credit_micro > 0:
            decide_after_credit(account_ids=[account_id], now=now)
        else:
            decide_for_crossings(account_ids=[account_id], now=now, fresh=True)
        tell_adjusted(
            property_id=property_id, account_id=account_id, event_id=event_id,
            credit_micro=credit_micro, now=now,
        )  # fmt: skip
        record(
            actor=actor.code, code="vending.credit.given", property_id=property_id,
            subject=f"account:{account_id}", now=now, amount=credit_micro,
            why=agreed.reason, event=event_id, **agreed.audited,
        )  # fmt: skip
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify('changed', %s)", [str(property_id)])
    return event_id
