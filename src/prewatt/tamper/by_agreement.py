"""The policy of responses, changed by people: one proposes, others agree, and cases from then on go by it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, Changed, Kind, saying_what_changed
from prewatt.approvals.operations import Wanted, wanted_change
from prewatt.audit.operations import record
from prewatt.core.vocabulary import TamperKind, TamperResponse
from prewatt.runtime.bells import ring
from prewatt.tamper.policy import Policy, PolicyRefused, parse, policies_of

KIND: Final = "tamper.policy"


def policy_of(*, actor: Actor, property_id: int) -> Policy:
    """A property's policy."""
    require(actor, "accounts.read", property_id=property_id)
    with scope(actor):
        return policies_of([property_id])[property_id]


def wanted_policy(
    *,
    actor: Actor,
    property_id: int,
    version: int,
    responses: Mapping[TamperKind, TamperResponse],
    letters: Collection[str],
) -> Wanted:
    """What proposing another policy asks for, word for word.

    ``version`` is that of the policy it was made of. Raises PolicyRefused, PermissionRefused.
    """
    require(actor, "tamper.policy", property_id=property_id)
    then = parse(Policy(version, responses, tuple(letters)).body())
    with scope(actor):
        before = policies_of([property_id])[property_id]
        if before.version != version:
            raise PolicyRefused("stale")
        if before.body() == then.body():
            raise PolicyRefused("same")
        return wanted_change(
            kind=KIND, property_id=property_id, subject="policy",
            effect={"version": version, "before": before.body(), "policy": then.body()},
        )  # fmt: skip


def _put_in_force(actor: Actor, agreed: Agreed, now: datetime) -> None:
    try:
        parse(agreed.effect["policy"])
    except PolicyRefused as refused:
        raise Changed("tamper_policy") from refused
    with scope(actor), connection.cursor() as cursor:
        with saying_what_changed():
            cursor.execute(
                "SELECT change_tamper_policy(%s, %s, %s, %s)",
                [
                    agreed.property_id, agreed.effect["version"],
                    json.dumps(agreed.effect["policy"]), now,
                ],
            )  # fmt: skip
        record(
            actor=agreed.made_by, code="tamper.policy.changed", property_id=agreed.property_id,
            subject=f"property:{agreed.property_id}", now=now, before=agreed.effect["before"],
            after=agreed.effect["policy"], reason=agreed.reason, approved_by=actor.code,
            proposal=agreed.proposal_id,
        )  # fmt: skip
        ring("changed", [agreed.property_id])


POLICY: Final = Kind(KIND, _put_in_force)
