"""What a let lacks at its end, as a debt with a name, and how a later let of the customer pays it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from django.db import connection

from prewatt.access.scope import Actor
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.debts.models import Debt, DebtPolicy
from prewatt.debts.operations import left_of, name_debts, opening_leg
from prewatt.debts.policy import policy_of
from prewatt.debts.recovery import Recovery, close_paid, debt_leg
from prewatt.debts.telling import tell_opened
from prewatt.debts.words import NewDebt
from prewatt.estate.operations import NewCustomer
from prewatt.ledger.operations import Event, append_events, lock_accounts, new_event_ids
from prewatt.moves.models import TemporaryLet
from prewatt.moves.places import seen_unit

REASON: Final = "let.shortfall"
RECOVERED: Final = "let.debt"


@dataclass(frozen=True, slots=True)
class OldDebt:
    """What an ended let of the customer lacked and still owes."""

    debt_id: int
    account_id: int
    code: str
    left_micro: int


def total_owed(debts: Sequence[OldDebt]) -> int:
    """The sum of debts in micro-units."""
    return sum(each.left_micro for each in debts)


def name_shortfall(actor: Actor, let: TemporaryLet, short_micro: int, now: datetime) -> str:
    """Bring the balance of a closed let back to zero; returns the code of the debt that it became.

    By the property's policy it is the property's loss instead. The caller holds the account's lock.
    """
    if not short_micro:
        return ""
    policy = policy_of(let.property_id)
    (event,) = new_event_ids(1)
    if policy.let_shortfall is DebtPolicy.Missing.LOSS:
        leg = debt_leg(
            let.account_id, short_micro, "", now, kind=TransferKind.ADJUSTMENT,
            counter_account=CounterAccount.ADJUSTMENTS, reason=f"{REASON}.loss",
        )  # fmt: skip
        append_events(actor_code=actor.code, events=[Event(event, (leg,))], now=now)
        return ""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT legal_entity_id FROM account_state WHERE account_id = %s", [let.account_id]
        )
        (entity_id,) = cursor.fetchone()
    new = NewDebt(
        let.account_id, let.property_id, int(entity_id), short_micro,
        Debt.Reason.LET_SHORTFALL, policy.share_ppm, policy.weekly_cap_micro, f"let {let.pk}",
    )  # fmt: skip
    (debt,) = name_debts(actor_code=actor.code, debts=[new], event_ids=[event], now=now)
    leg = opening_leg(debt, short_micro, Debt.Reason.LET_SHORTFALL, now)
    append_events(actor_code=actor.code, events=[Event(event, (leg,))], now=now)
    tell_opened(new=new, debt=debt, event_id=event, available_micro=0, now=now)
    return debt.code


def shortfall_of(let: TemporaryLet) -> str:
    """The code of the debt that a let ended with; empty when there was none."""
    debt = Debt.objects.filter(account_id=let.account_id, reason=Debt.Reason.LET_SHORTFALL).first()
    return "" if debt is None else str(debt.code)


def lock_old_debts(unit_id: int, customer: int | NewCustomer) -> list[OldDebt]:
    """What earlier lets of a known customer at the unit's property still owe, oldest first.

    Empty where the property's policy asks for nothing. The accounts of the debts and of the unit are
    locked together, in order.
    """
    unit = seen_unit(unit_id)
    if isinstance(customer, NewCustomer) or unit is None:
        return []
    if not policy_of(unit.property_id).later_let_pays:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM account WHERE customer_id = %s AND property_id = %s",
            [customer, unit.property_id],
        )
        accounts = [int(row[0]) for row in cursor.fetchall()]
    asked = Debt.objects.filter(
        account_id__in=accounts, reason=Debt.Reason.LET_SHORTFALL, closed_at__isnull=True
    ).order_by("opened_at", "pk")
    owing = {each.account_id for each in asked}
    if not owing:
        return []
    lock_accounts(sorted(owing | unit.account_ids))
    return [
        OldDebt(int(each.pk), each.account_id, each.code, left_of(each.account_id, each.code))
        for each in asked.all()
    ]


def pay_old_debts(actor: Actor, account_id: int, debts: Sequence[OldDebt], now: datetime) -> None:
    """Move what is owed from the new let's wallet to the debts: out of it into clearing, out of that
    into the former account, and there to the debt, all in one event.
    """
    if not debts:
        return
    legs = []
    for each in debts:
        through = debt_leg(
            account_id, -each.left_micro, each.code, now, kind=TransferKind.MOVE,
            counter_account=CounterAccount.MOVE_CLEARING, reason=RECOVERED,
        )  # fmt: skip
        legs += [
            through,
            replace(through, account_id=each.account_id, amount=each.left_micro),
            debt_leg(each.account_id, -each.left_micro, each.code, now, reason=RECOVERED),
        ]
    (event,) = new_event_ids(1)
    append_events(actor_code=actor.code, events=[Event(event, tuple(legs))], now=now)
    close_paid(
        recovered=[Recovery(each.debt_id, each.code, each.left_micro, 0) for each in debts], now=now
    )
