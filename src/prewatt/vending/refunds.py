"""What is left when somebody leaves: taken off the account at once, and owed until it is paid out.

A refund is due from the moment it is booked; nobody has to ask for it. Paying it out is a second
deed with its own name, way and time, and never touches the account again.

An account counts in millionths and nobody can be paid those. What is owed is rounded to the currency's
minor unit, half to even, and the residual, at most half a cent for either side, is booked against the
property's rounding account in the same event: the account ends at zero and the receipt names both.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, saying_what_changed
from prewatt.audit.operations import record
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.money import round_to_minor
from prewatt.core.rating import Component
from prewatt.ledger.operations import (
    Event,
    Leg,
    append_events,
    lock_accounts,
    new_event_ids,
    next_document_number,
)
from prewatt.vending.models import Refund
from prewatt.vending.telling import tell_refund_due, tell_refund_paid

SERIES: Final = "F"
WAYS: Final = ("cash", "transfer")


class RefundRefused(Exception):
    """There is nothing to refund, or not now, or not to be paid so; ``reason`` is a stable word."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RefundDue:
    """A booked refund in micro-units, with its number in the series of the legal entity.

    ``residual`` is what rounding kept back of what was left; below zero: what it added.
    """

    refund_id: int
    event_id: int
    number: int
    amount: int
    residual: int = 0

    @property
    def taken(self) -> int:
        """What left the account."""
        return self.amount + self.residual


def refund_balance(
    *, actor: Actor, account_id: int, reason: str, now: datetime
) -> RefundDue | None:
    """Book all that is left on a closed account as a refund due; None when nothing is left that can
    be paid: less than half a cent stays where it is.

    Everything used must be posted before. Raises RefundRefused ``unknown``, ``open`` (the account
    still has a tenant) or ``unposted``; LedgerRefused; PermissionRefused.
    """
    require(actor, "vending.refund")
    with scope(actor):
        property_id, entity_id, left = _closed_account(actor, account_id)
        residual = round_to_minor(left, _minor_digits(property_id))[1]
        amount = left - residual
        if amount <= 0:
            return None
        (event_id,) = new_event_ids(1)
        legs = tuple(
            Leg(
                account_id=account_id,
                kind=TransferKind.REFUND,
                component=int(Component.ENERGY),
                counter_account=against,
                amount=-micro,
                service_from=now,
                service_to=now,
                reason=reason,
            )
            for against, micro in (
                (CounterAccount.REFUNDS_PAYABLE, amount),
                (CounterAccount.ROUNDING, residual),
            )
            if micro
        )
        append_events(actor_code=actor.code, events=[Event(event_id, legs)], now=now)
        number = next_document_number(legal_entity_id=entity_id, series=SERIES)
        refund = Refund.objects.create(
            property_id=property_id,
            account_id=account_id,
            event_id=event_id,
            number=number,
            amount_micro=amount,
            reason=reason,
            made_by=actor.code,
            made_at=now,
        )
        tell_refund_due(refund, now=now)
        record(
            actor=actor.code,
            code="vending.refund.booked",
            property_id=property_id,
            subject=f"account:{account_id}",
            now=now,
            refund=number,
            amount=amount,
            residual=residual,
            reason=reason,
        )
    return RefundDue(int(refund.pk), event_id, number, amount, residual)


def pay_refund(
    *, actor: Actor, refund_id: int, way: str, reference: str, now: datetime,
    agreed: Agreed | None = None,
) -> Refund:  # fmt: skip
    """Note that a refund was paid out, once, by whom (who proposed it, or the actor) and how.

    People do it by a proposal (`by_agreement`), alone up to the property's limit: the database asks for
    it. Raises RefundRefused, Changed.
    """
    require(actor, "vending.pay_refund")
    if way not in WAYS:
        raise RefundRefused("way_unknown", f"a refund is paid by {' or '.join(WAYS)}, not {way!r}")
    with scope(actor):
        refund = Refund.objects.filter(pk=refund_id).first()
        if refund is None:
            raise RefundRefused("unknown", f"there is no refund {refund_id} at your properties")
        require(actor, "vending.pay_refund", property_id=refund.property_id)
        if refund.state == Refund.State.PAID:
            raise RefundRefused("paid", f"refund {refund.number} was paid out already")
        with saying_what_changed(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pay_refund_out(%s, %s, %s, %s, %s)",
                [refund_id, way, reference, agreed.made_by if agreed else actor.code, now],
            )
        refund.refresh_from_db()
        tell_refund_paid(refund, now=now)
        record(
            actor=actor.code,
            code="vending.refund.paid",
            property_id=refund.property_id,
            subject=f"account:{refund.account_id}",
            now=now,
            refund=refund.number,
            amount=refund.amount_micro,
            way=way,
            **(agreed.audited if agreed else {}),
        )
    return refund


def _minor_digits(property_id: int) -> int:
    """How many decimals the property's currency is paid in."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT minor_digits FROM property WHERE id = %s", [property_id])
        return int(cursor.fetchone()[0])


def _closed_account(actor: Actor, account_id: int) -> tuple[int, int, int]:
    """(property, legal entity, what is left) of a closed account, locked."""
    lock_accounts([account_id])
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT s.property_id, s.legal_entity_id, s.posted, s.available, a.closed_at
               FROM account_state s JOIN account a ON a.id = s.account_id
               WHERE s.account_id = %s""",
            [account_id],
        )
        row = cursor.fetchone()
    if row is None:
        raise RefundRefused("unknown", f"there is no account {account_id} at your properties")
    property_id, entity_id, posted, available, closed_at = row
    require(actor, "vending.refund", property_id=int(property_id))
    if closed_at is None:
        raise RefundRefused(
            "open", "the account still has a tenant; it is refunded when they leave"
        )
    if posted != available:
        raise RefundRefused("unposted", "what was used is not posted yet; post it first")
    return int(property_id), int(entity_id), int(posted)
