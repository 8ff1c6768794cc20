"""What a program may do: sell a recharge, and see how far it has come."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from django.http import HttpRequest
from ninja import Header, Router, Status

from prewatt.access.scope import require
from prewatt.reports.recharge_query import recharge_result
from prewatt.vending.words import Recharge, Recharged, RechargeRefused
from prewatt.web import clock, till
from prewatt.web.api import shapes
from prewatt.web.api.bearer import actor_of
from prewatt.web.api.problems import REFUSED

router = Router(tags=["selling"])

Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=128, pattern=r"^[!-~]+$",
        description="Chosen by the caller, one for each recharge: sent again, it changes nothing more.",
    ),
]  # fmt: skip
#: What is not the caller's fault, or not in what they sent; all others are 422.
_STATUS: Final = {
    "vending.recharge.unknown_account": 404,
    "vending.recharge.key_reused": 409,
    "vending.recharge.period_closed": 409,
    "vending.recharge.busy": 503,
}
_ANSWERS: Final = {
    200: shapes.Recharge,
    201: shapes.Recharge,
    **REFUSED,
    404: shapes.Problem,
    409: shapes.Problem,
    503: shapes.Problem,
}


@router.post("/accounts/{account_id}/recharges", response=_ANSWERS, operation_id="recharge_account")
def recharge_account(
    request: HttpRequest, account_id: shapes.Id, body: shapes.NewRecharge, idempotency_key: Key
) -> Status[shapes.Recharge | shapes.Problem]:
    """Credit money that was paid. It is committed when this answers: 201, or 200 if it was before.

    The money is dated now. Nothing was taken with any other answer; 503 says to send the same again.
    """
    now = clock.now()
    wish = Recharge(
        key=idempotency_key, account_id=account_id, amount=body.amount_micro, way=body.way,
        reference=body.reference, paid_at=now,
    )  # fmt: skip
    answer = till.recharge(actor=actor_of(request), wish=wish, now=now)
    if isinstance(answer, RechargeRefused):
        problem = shapes.Problem(code=answer.code, message=answer.message)
        return Status(_STATUS.get(answer.code, 422), problem)
    return Status(200 if answer.repeated else 201, _stands(answer))


def _stands(answer: Recharged) -> shapes.Recharge:
    return shapes.Recharge(
        recharge_id=answer.event_id, account_id=answer.account_id, amount_micro=answer.amount,
        debt_micro=answer.debt, collected_micro=answer.collected,
        balance_micro=answer.available_after, receipt_number=answer.receipt_number,
        accepted_at=datetime.fromisoformat(answer.accepted_at), repeated=answer.repeated,
    )  # fmt: skip


@router.get(
    "/recharges/{recharge_id}",
    response={200: shapes.Reconnection, **REFUSED, 404: shapes.Problem},
    operation_id="read_recharge",
)
def read_recharge(request: HttpRequest, recharge_id: shapes.Id) -> shapes.Reconnection:
    """How far a recharge has come; supply is back when the relay was read back."""
    actor = actor_of(request)
    require(actor, "accounts.read")
    return shapes.Reconnection.of(
        recharge_result(actor=actor, event_id=recharge_id, now=clock.now())
    )
