"""What open debts get of recharges, in the recharge's own transaction, as transfers of their own.

The same plan is what a page shows before the money is taken: ``plan_recovery`` writes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.debts import PPM, Agreement, RecoveryLimit, recovered_micro
from prewatt.core.rating import Component
from prewatt.debts.models import Debt
from prewatt.debts.telling import tell_reduced
from prewatt.ledger.operations import Leg

#: The agreed caps count this far back.
WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Credit:
    """A recharge as its account's debts meet it, in micro-units.

    ``spendable_micro`` is what is left of it after other deductions; ``share_ppm`` and
    ``weekly_cap_micro`` (0: no cap) are the most that the tariff allows over all debts together.
    """

    account_id: int
    amount_micro: int
    spendable_micro: int
    share_ppm: int = PPM
    weekly_cap_micro: int = 0


@dataclass(frozen=True, slots=True)
class Recovery:
    """What one debt gets of one recharge; ``left_micro`` is what remains of it then."""

    debt_id: int
    code: str
    amount_micro: int
    left_micro: int


@dataclass(slots=True)
class _Open:
    """An open debt while a set of recharges is worked through."""

    debt_id: int
    code: str
    share_ppm: int
    cap_micro: int
    left_micro: int
    week_micro: int

    @property
    def agreement(self) -> Agreement:
        room = None if self.cap_micro == 0 else self.cap_micro - self.week_micro
        return Agreement(self.left_micro, self.share_ppm, room)


def plan_recovery(*, incoming: Sequence[Credit], now: datetime) -> list[tuple[Recovery, ...]]:
    """What the debts of each credit's account get, in the order given; oldest debt first.

    Inside the caller's transaction; who then books it holds the accounts' locks.
    """
    debts = _open_debts(sorted({each.account_id for each in incoming}), now)
    return [_recover(credit, debts[credit.account_id]) for credit in incoming]


def _recover(credit: Credit, debts: list[_Open]) -> tuple[Recovery, ...]:
    """Take one recharge's part and remember it for the next one of the same account."""
    if not debts:
        return ()
    room = None
    if credit.weekly_cap_micro:
        room = credit.weekly_cap_micro - sum(debt.week_micro for debt in debts)
    taken = recovered_micro(
        recharge_micro=credit.amount_micro,
        spendable_micro=credit.spendable_micro,
        debts=[debt.agreement for debt in debts],
        limit=RecoveryLimit(credit.share_ppm, room),
    )
    recovered = []
    for debt, part in zip(debts, taken, strict=True):
        if part:
            debt.left_micro -= part
            debt.week_micro += part
            recovered.append(Recovery(debt.debt_id, debt.code, part, debt.left_micro))
    return tuple(recovered)


def _open_debts(account_ids: Sequence[int], now: datetime) -> defaultdict[int, list[_Open]]:
    found: defaultdict[int, list[_Open]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(
            _OPEN,
            [
                int(TransferKind.DEBT_RECOVERY),
                int(TransferKind.REVERSAL),
                now - WEEK,
                int(CounterAccount.DEBTS),
                list(account_ids),
            ],
        )
        for account_id, *debt in cursor.fetchall():
            found[account_id].append(_Open(*debt))
    return found


#: What a reversed recharge gave back to a debt makes room under the cap again.
_OPEN = """
SELECT d.account_id, d.id, d.code, d.share_ppm, d.weekly_cap_micro,
       coalesce(t.left_over, 0), greatest(0, coalesce(t.week, 0))
FROM debt d CROSS JOIN LATERAL (
    SELECT sum(amount)::bigint AS left_over,
           -sum(amount) FILTER (WHERE kind IN (%s, %s) AND booked_at > %s)::bigint AS week
    FROM transfer t
    WHERE t.account_id = d.account_id AND t.counter_account = %s AND t.code = d.code
) t
WHERE d.account_id = ANY(%s) AND d.closed_at IS NULL
ORDER BY d.account_id, d.opened_at, d.id
"""


def recovery_legs(account_id: int, recovered: Sequence[Recovery], now: datetime) -> list[Leg]:
    """The transfers of a plan, from the wallet to each debt."""
    return [debt_leg(account_id, -each.amount_micro, each.code, now) for each in recovered]


def debt_leg(
    account_id: int,
    amount_micro: int,
    code: str,
    now: datetime,
    *,
    kind: TransferKind = TransferKind.DEBT_RECOVERY,
    counter_account: CounterAccount = CounterAccount.DEBTS,
    reason: str = "debt.recovery",
) -> Leg:
    """A transfer of the debt ``code``: above zero lends to the wallet, below takes from it."""
    return Leg(
        account_id=account_id,
        kind=kind,
        component=int(Component.DEBT),
        counter_account=counter_account,
        amount=amount_micro,
        service_from=now,
        service_to=now,
        reason=reason,
        code=code,
    )


def close_paid(
    *, recovered: Sequence[Recovery], now: datetime, receipt: str = "", announce: bool = True
) -> None:
    """Close the debts that a booked plan has paid in full, and tell; under their accounts' locks.

    ``announce=False`` is for a past that is replayed: what would have been said is kept.
    """
    paid = {each.debt_id: each for each in recovered if each.left_micro == 0}
    if not paid:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE debt SET closed_at = %s, ending = 'paid'
               WHERE id = ANY(%s) AND closed_at IS NULL RETURNING id""",
            [now, list(paid)],
        )
        closed = [int(row[0]) for row in cursor.fetchall()]
    for debt in Debt.objects.filter(pk__in=closed).order_by("pk"):
        tell_reduced(
            debt=debt, amount_micro=paid[debt.pk].amount_micro, left_micro=0, now=now,
            receipt=receipt, would_have=not announce,
        )  # fmt: skip
