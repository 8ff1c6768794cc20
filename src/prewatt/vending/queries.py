"""What others ask about recharges: what one would do before it is paid, and where one went."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.core.accounts import TransferKind
from prewatt.core.rating import Component
from prewatt.core.usual import ALL_LATEST, LEAST, OWN_LATEST, Usual, usual_of
from prewatt.vending.deductions import plan_deductions


@dataclass(frozen=True, slots=True)
class Deducted:
    """One line of where a recharge goes besides the balance; ``micro`` is above zero.

    ``code`` is the tariff's code of a charge or tax, or the number of a debt.
    """

    component: Component
    code: str
    micro: int


@dataclass(frozen=True, slots=True)
class RechargePreview:
    """What an amount would do now: the lines that are taken of it, and the credit that is left."""

    amount_micro: int
    lines: tuple[Deducted, ...]

    @property
    def collected_micro(self) -> int:
        """Charges that are collected with this recharge, taxes included."""
        return sum(each.micro for each in self.lines) - self.debt_micro

    @property
    def debt_micro(self) -> int:
        """What goes to debts."""
        return sum(each.micro for each in self.lines if each.component is Component.DEBT)

    @property
    def credit_micro(self) -> int:
        """What becomes balance."""
        return self.amount_micro - sum(each.micro for each in self.lines)


def preview_recharge(
    *, actor: Actor, account_id: int, amount_micro: int, now: datetime
) -> RechargePreview:
    """What a recharge would do, by the very plan that the recharge itself books.

    Writes nothing and locks nothing: somebody else's deed in between may change it.
    """
    require(actor, "vending.recharge")
    with scope(actor):
        (plan,) = plan_deductions(recharges=[(account_id, amount_micro)], now=now).each
    return RechargePreview(
        amount_micro,
        _summed((leg.component, leg.code, -leg.amount) for leg in plan.legs),
    )


def usual_recharge(*, actor: Actor, account_id: int) -> Usual:
    """What is usual for an account, of its own latest payments or, with too few, its property's."""
    require(actor, "vending.recharge")
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            "SELECT amount_micro FROM payment WHERE account_id = %s ORDER BY paid_at DESC LIMIT %s",
            [account_id, OWN_LATEST],
        )
        own = [amount for (amount,) in cursor.fetchall()]
        if len(own) >= LEAST:
            return usual_of(own, ())
        cursor.execute(
            """SELECT amount_micro FROM payment
               WHERE property_id = (SELECT property_id FROM account WHERE id = %s)
               ORDER BY paid_at DESC LIMIT %s""",
            [account_id, ALL_LATEST],
        )
        return usual_of(own, [amount for (amount,) in cursor.fetchall()])


def deducted_of(*, actor: Actor, account_id: int, event_id: int) -> tuple[Deducted, ...]:
    """Where a booked recharge went besides the balance, for its receipt."""
    require(actor, "accounts.read")
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """SELECT component, code, -amount FROM transfer
               WHERE account_id = %s AND event_id = %s AND kind <> %s ORDER BY seq""",
            [account_id, event_id, int(TransferKind.RECHARGE)],
        )
        return _summed(cursor.fetchall())


def _summed(lines: Iterable[Sequence[object]]) -> tuple[Deducted, ...]:
    """One line for each component and code, in order of appearance."""
    summed: dict[tuple[int, str], int] = {}
    for component, code, micro in lines:
        key = int(str(component)), str(code)
        summed[key] = summed.get(key, 0) + int(str(micro))
    return tuple(Deducted(Component(part), code, micro) for (part, code), micro in summed.items())
