"""An edit of a charged reading, proposed by one and agreed to by another where it moves more than a little.

What is proposed holds the reading before and after, the energy of the two intervals that touch it and what they
were and would be charged. The ladder `mdm.edit` goes by the money that it moves to or from the account, and a
day's edits of one person at a property count together. It is void where the reading, or one of the two beside
it, is another by the time of the last yes. What the system puts right by itself, late readings and charges rated
anew, writes no edited reading and goes on without people.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, Changed, Kind
from prewatt.approvals.operations import Wanted, wanted_change
from prewatt.core.vee import VERDICT_NAMES, Verdict
from prewatt.moves.edits import (
    EDIT_KIND,
    EditRefused,
    ReadingCorrected,
    edit_reading,
    rehearse_edit,
    withdraw_reading,
)

#: What has to be at the last yes as it was proposed: the readings, and what they were and would be charged.
_SAME: Final = (
    "revision", "was_wh", "before_was_wh", "before_wh", "after_was_wh", "after_wh",
    "charged_before_micro", "charged_after_micro",
)  # fmt: skip


def wanted_edit(
    *, actor: Actor, property_id: int, meter_id: int, register_code: int, read_at: datetime,
    value_wh: int | None, proof: str, now: datetime,
) -> tuple[Wanted, ReadingCorrected]:  # fmt: skip
    """Another value for a charged reading, or None to withdraw it, and what that comes to. Raises EditRefused."""
    require(actor, "mdm.edit", property_id=property_id)
    looked = rehearse_edit(
        actor=actor, meter_id=meter_id, register_code=register_code, read_at=read_at,
        value_wh=value_wh, now=now,
    )  # fmt: skip
    with scope(actor):
        effect = _figures(looked) | {
            "meter": meter_id, "serial": _serial(meter_id), "register": register_code,
            "account": looked.account_id, "read_at": looked.read_at, "was": looked.was_wh,
            "value": value_wh, "proof": proof, "amount": abs(looked.difference_micro),
        }  # fmt: skip
        wanted = wanted_change(
            kind=EDIT_KIND, property_id=property_id, subject=f"meter:{meter_id}", effect=effect
        )
    return wanted, looked


def _figures(done: ReadingCorrected) -> dict[str, Any]:
    return {name: getattr(done, name) for name in _SAME}


def _serial(meter_id: int) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT serial FROM meter WHERE id = %s", [meter_id])
        return str(cursor.fetchone()[0])


def _edit(actor: Actor, agreed: Agreed, now: datetime) -> None:
    """The edit that was agreed to, word for word and to the micro-unit. Raises Changed."""
    effect = agreed.effect
    given: dict[str, Any] = {
        "actor": actor, "meter_id": effect["meter"], "register_code": effect["register"],
        "read_at": datetime.fromisoformat(effect["read_at"]), "reason": agreed.reason,
        "proof": effect["proof"], "key": f"proposal:{agreed.proposal_id}", "now": now,
        "agreed": agreed,
    }  # fmt: skip
    try:
        if effect["value"] is None:
            done = withdraw_reading(**given)
        else:
            done = edit_reading(value_wh=effect["value"], **given)
    except EditRefused as refused:
        raise Changed("archived" if refused.reason == _ARCHIVED else "readings") from refused
    if any(effect[name] != figure for name, figure in _figures(done).items()):
        # A reading came between, or prices changed: it would move other money than they agreed to.
        raise Changed("readings")


_ARCHIVED: Final = VERDICT_NAMES[Verdict.ARCHIVED]

EDIT: Final = Kind(EDIT_KIND, _edit)
