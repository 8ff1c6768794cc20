"""What a customer is told of a recharge: the amount, the new balance, how long it lasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from prewatt.core.forecast import HORIZON_DAYS
from prewatt.notify.operations import NewMessage

if TYPE_CHECKING:
    from prewatt.vending.operations import Recharged


def receipts(
    done: Sequence[Recharged],
    property_of: Mapping[int, int],
    left_h: Mapping[int, int | None],
) -> list[NewMessage]:
    """One message for each recharge of a set; ``property_of`` and ``left_h`` are by account.

    How long the money lasts is said with the last recharge of an account alone: the hours are
    those of its balance after the whole set.
    """
    last = {each.account_id: each.event_id for each in done}
    return [
        NewMessage(
            property_id=property_of[each.account_id],
            account_id=each.account_id,
            code="vending.recharged",
            detail={
                "amount_micro": each.amount,
                "available_micro": each.available_after,
                "days_left_h": (
                    _sayable(left_h.get(each.account_id))
                    if last[each.account_id] == each.event_id
                    else None
                ),
                "receipt": each.receipt_number,
                "event": each.event_id,
            },
            dedupe_key=f"recharge:{each.event_id}",
        )
        for each in done
    ]


def _sayable(left_h: int | None) -> int | None:
    """Hours left, unless nothing is left or they reach beyond any forecast."""
    return left_h if left_h and left_h <= HORIZON_DAYS * 24 else None
