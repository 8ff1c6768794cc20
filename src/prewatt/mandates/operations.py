"""Mandates proposed, given by the last yes, and used: for changing a key that signs, and for taking a file.

A key lies in a file of the machine, which no transaction of the database reaches, and a person's file is not made
while somebody presses a button. So what is agreed to is that it may be done, by whom, how often and until when.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, Kind, saying_what_changed
from prewatt.approvals.operations import Wanted, wanted_change
from prewatt.audit.operations import record
from prewatt.audit.refusals import Noticed
from prewatt.mandates.models import Mandate

KEY: Final = "signing.key"
FILE: Final = "privacy.file"
#: What is done to a key that signs and takes a mandate; the first key of a role takes none.
KEY_DEEDS: Final = ("rotate", "revoke")


class MandateRefused(Noticed):
    """There is no such mandate for this person, it is used up, or its time is over: ``gone``. Of a key:
    ``known`` (there is no such key to change), ``other`` (it is for another deed or key).
    """

    what = "mandate"
    noticed = frozenset({"gone", "other"})

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class KeyDeed:
    """What shall be done to which key: `rotate` the role's, or `revoke` the one of that id."""

    deed: str
    role: str
    key_id: str = ""

    @property
    def subject(self) -> str:
        """What it is about."""
        return f"key:{self.key_id or self.role}"


def wanted_key_deed(*, actor: Actor, property_id: int, wanted: KeyDeed) -> Wanted:
    """What proposing a change of a key that signs would ask for; it is the whole installation's."""
    require(actor, "approvals.propose", property_id=property_id)
    if wanted.deed not in KEY_DEEDS or not wanted.role:
        raise MandateRefused("known")
    with scope(actor):
        return wanted_change(
            kind=KEY, property_id=property_id, subject=wanted.subject,
            effect={"do": wanted.deed, "role": wanted.role, "key": wanted.key_id},
        )  # fmt: skip


def wanted_file(
    *,
    actor: Actor,
    property_id: int,
    customer_id: int,
    name: str,
    accounts: Sequence[int],
    asked_by: str,
) -> Wanted:
    """What proposing to take all that is known of a customer would ask for; ``asked_by`` wants it."""
    require(actor, "approvals.propose", property_id=property_id)
    with scope(actor):
        return wanted_change(
            kind=FILE, property_id=property_id, subject=f"customer:{customer_id}",
            effect={
                "customer": customer_id, "name": name, "accounts": sorted(accounts), "for": asked_by,
            },
        )  # fmt: skip


def mandate_of(*, actor: Actor, proposal_id: int) -> Mandate | None:
    """What a proposal gave, None before it is agreed to, and for other kinds."""
    require(actor, "accounts.read")
    with scope(actor):
        return Mandate.objects.filter(proposal_id=proposal_id).first()


def use_file(*, actor: Actor, mandate_id: int, now: datetime) -> Mapping[str, Any]:
    """Use a mandate for a file once, in the caller's transaction; returns what was agreed to.

    Raises MandateRefused.
    """
    require(actor, "approvals.propose")
    with scope(actor), connection.cursor() as cursor:
        cursor.execute("SELECT use_mandate(%s, %s, %s)", [mandate_id, actor.user_id, now])
        (effect,) = cursor.fetchone()
    if effect is None:
        raise MandateRefused("gone")
    found: dict[str, Any] = json.loads(effect)
    return found


def _give(actor: Actor, agreed: Agreed, now: datetime) -> None:
    with saying_what_changed(), connection.cursor() as cursor:
        cursor.execute("SELECT give_mandate(%s, %s)", [agreed.proposal_id, now])
        (mandate_id,) = cursor.fetchone()
    kind = Mandate.objects.values_list("kind", flat=True).get(pk=mandate_id)
    record(
        actor=agreed.made_by, code="mandates.given", property_id=agreed.property_id,
        subject=agreed.subject, now=now, kind=kind, mandate=mandate_id, reason=agreed.reason,
        approved_by=actor.code, proposal=agreed.proposal_id,
    )  # fmt: skip


KINDS: Final = (Kind(KEY, _give), Kind(FILE, _give))
