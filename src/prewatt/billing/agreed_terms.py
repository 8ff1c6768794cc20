"""The terms of an account, proposed by one and agreed to by another: persons, exemptions, prices it follows.

Terms decide what somebody pays, also for days that are charged already, so nobody sets them alone. What is
proposed says the terms before and after and what the last days would have cost under both; terms of a past day
count the money that they move on the ladder `billing.terms`. The rating anew itself follows within a minute, by
the worker, and moves what the readings of that moment come to.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, Changed, Kind
from prewatt.approvals.operations import Wanted, wanted_change
from prewatt.billing.change_looks import ChangeLook, look_at_terms
from prewatt.billing.terms import (
    TERMS_KIND,
    TermsRefused,
    WithdrawalRefused,
    content_of,
    held_terms,
    set_terms,
    terms_effect,
    wanted_terms_of,
    withdraw_terms,
    withdrawable_terms,
)
from prewatt.ledger.operations import UnknownAccount, lock_accounts


def wanted_terms(
    *, actor: Actor, property_id: int, account_id: int, valid_from: datetime, members: int,
    contracted_w: int, exempt: Sequence[str], overlay_groups: Sequence[str], now: datetime,
) -> tuple[Wanted, ChangeLook]:  # fmt: skip
    """Other terms from a local midnight on, and what they come to. Raises as `terms.set_terms` does."""
    require(actor, "billing.terms", property_id=property_id)
    looked = look_at_terms(
        actor=actor, property_id=property_id, account_id=account_id, valid_from=valid_from,
        members=members, contracted_w=contracted_w, exempt=exempt, overlay_groups=overlay_groups,
        now=now,
    )  # fmt: skip
    terms = wanted_terms_of(valid_from, members, contracted_w, exempt, overlay_groups)
    with scope(actor):
        effect = terms_effect(account_id, valid_from, terms) | {
            "before": held_terms(account_id, valid_from), "is_past": valid_from <= now,
            "amount": abs(looked.available_after - looked.available_before),
            "moves": looked.available_after - looked.available_before,
            "days": looked.days, "pays_before": looked.before, "pays_after": looked.after,
        }  # fmt: skip
        wanted = wanted_change(
            kind=TERMS_KIND, property_id=property_id, subject=f"account:{account_id}",
            effect=effect,
        )  # fmt: skip
    return wanted, looked


def wanted_terms_withdrawal(
    *, actor: Actor, property_id: int, account_id: int, valid_from: datetime, now: datetime
) -> Wanted:
    """Terms taken back before they begin. Raises WithdrawalRefused, UnknownAccount."""
    require(actor, "billing.terms", property_id=property_id)
    with scope(actor):
        gone, stays, _ = withdrawable_terms(property_id, account_id, valid_from, now)
        effect = terms_effect(account_id, valid_from, stays) | {
            "before": content_of(gone), "withdraws": True, "is_past": False, "amount": 0,
            "moves": 0, "days": 0, "pays_before": 0, "pays_after": 0,
        }  # fmt: skip
        return wanted_change(
            kind=TERMS_KIND, property_id=property_id, subject=f"account:{account_id}",
            effect=effect,
        )  # fmt: skip


def _set(actor: Actor, agreed: Agreed, now: datetime) -> None:
    """The terms that were agreed to, or the end of some. Raises Changed."""
    effect = agreed.effect
    valid_from = datetime.fromisoformat(effect["valid_from"])
    if valid_from <= now and not effect["is_past"]:
        # What was agreed to would move nothing that is charged; by now it would.
        raise Changed("begun")
    own: dict[str, Any] = {
        "actor": actor, "property_id": agreed.property_id, "account_id": effect["account"],
        "valid_from": valid_from, "now": now, "reason": agreed.reason, "made_by": agreed.made_by,
    }  # fmt: skip
    lock_accounts([effect["account"]])
    try:
        if effect["withdraws"]:
            withdraw_terms(**own)
        else:
            set_terms(**effect["terms"], **own)
    except (TermsRefused, WithdrawalRefused, UnknownAccount) as refused:
        reason = getattr(refused, "reason", "")
        raise Changed(_CHANGED.get(reason, "terms")) from refused


_CHANGED: Final = {"begun": "begun", "closed": "closed", "archived": "archived"}

SET_TERMS: Final = Kind(TERMS_KIND, _set)
