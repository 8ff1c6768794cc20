"""What customers are told of their debts, in the transaction of what it tells.

The words are ``notify.texts_of_money``; here is which figures go with them.
"""

from __future__ import annotations

from datetime import datetime

from prewatt.core.civil_time import instant_us
from prewatt.debts.models import Debt
from prewatt.debts.words import NamedDebt, NewDebt
from prewatt.notify.operations import NewMessage, enqueue


def tell_opened(
    *, new: NewDebt, debt: NamedDebt, event_id: int, available_micro: int, now: datetime
) -> None:
    """A debt stands; ``available_micro`` is the balance with it."""
    enqueue(
        messages=[
            NewMessage(
                new.property_id, new.account_id, "debts.opened",
                {
                    "debt": debt.code,
                    "amount_micro": new.amount_micro,
                    "reason": new.reason.value,
                    "share_ppm": new.share_ppm,
                    "weekly_cap_micro": new.weekly_cap_micro,
                    "available_micro": available_micro,
                },
                f"debts.opened:{event_id}:{debt.code}",
            )
        ],
        now=now,
    )  # fmt: skip


def tell_reduced(
    *,
    debt: Debt,
    amount_micro: int,
    left_micro: int,
    now: datetime,
    event_id: int | None = None,
    available_micro: int | None = None,
    receipt: str = "",
    would_have: bool = False,
) -> None:
    """Part of a debt is paid, or the last of it; ``available_micro`` where that moved the balance."""
    code = "debts.reduced" if left_micro else "debts.paid"
    detail: dict[str, object] = {
        "debt": debt.code,
        "amount_micro": amount_micro,
        "left_micro": left_micro,
        "available_micro": available_micro,
        "receipt": receipt,
    }
    if left_micro:
        detail |= _agreement(debt)
    _tell(debt, code, detail, now, event_id=event_id, would_have=would_have)


def tell_written_off(*, debt: Debt, amount_micro: int, event_id: int, now: datetime) -> None:
    """Nothing more is asked for; the balance did not move."""
    detail: dict[str, object] = {"debt": debt.code, "amount_micro": amount_micro}
    _tell(debt, "debts.written_off", detail, now, event_id=event_id)


def tell_agreement(*, debt: Debt, left_micro: int, now: datetime) -> None:
    """An open debt takes another part of recharges from now on: the debt as it is agreed anew."""
    detail: dict[str, object] = {"debt": debt.code, "left_micro": left_micro, **_agreement(debt)}
    _tell(debt, "debts.agreement", detail, now)


def _agreement(debt: Debt) -> dict[str, object]:
    return {"share_ppm": debt.share_ppm, "weekly_cap_micro": debt.weekly_cap_micro}


def _tell(
    debt: Debt,
    code: str,
    detail: dict[str, object],
    now: datetime,
    *,
    event_id: int | None = None,
    would_have: bool = False,
) -> None:
    """Whoever has no event has just changed the debt under its account's lock: the instant names it."""
    mark = instant_us(now) if event_id is None else event_id
    enqueue(
        messages=[
            NewMessage(
                debt.property_id, debt.account_id, code, detail, f"{code}:{debt.pk}:{mark}"
            )
        ],
        now=now,
        would_have=would_have,
    )  # fmt: skip
