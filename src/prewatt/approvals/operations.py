"""Proposals made, withdrawn and refused. What an approval does belongs to the package whose change it is.

Each is one function of the database (``sql/0001_two_people.sql``), which asks for the second person and
the second factor itself; this module asks for the permission, says refusals and writes the audit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import IntegrityError, connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.models import Proposal
from prewatt.audit.operations import record
from prewatt.audit.refusals import Noticed

#: What nobody has answered for so long is proposed again.
LASTS: Final = timedelta(days=14)
PROPOSE: Final = "propose"
APPROVE: Final = "approve"


class ProposalRefused(Noticed):
    """Nothing was proposed, approved or ended. ``reason`` is a word of the functions in
    ``sql/0001_two_people.sql``: `unknown`, `ended`, `expired`, `own`, `not_own`, `not_administrator`,
    `reason`, `open`, `step_up`; or `void:…` of a kind, where the world has changed since.
    """

    what = "proposal"
    noticed = frozenset({"own", "not_own", "not_administrator", "step_up"})

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def digest_of(
    *, deed: str, kind: str, property_id: int, subject: str, effect: Mapping[str, Any]
) -> bytes:
    """What a second factor is proved for: this deed (PROPOSE, APPROVE) on this very effect; 32 bytes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT deed_digest(%s, proposal_digest(%s, %s, %s, %s::jsonb))",
            [deed, kind, property_id, subject, json.dumps(effect)],
        )
        return bytes(cursor.fetchone()[0])


def approval_digest(*, actor: Actor, proposal_id: int) -> bytes:
    """The same for approving what was proposed. Raises ProposalRefused `unknown`."""
    require(actor, "approvals.approve")
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            "SELECT deed_digest(%s, digest) FROM proposal WHERE id = %s", [APPROVE, proposal_id]
        )
        found = cursor.fetchone()
    if found is None:
        raise ProposalRefused("unknown")
    return bytes(found[0])


def propose(
    *,
    actor: Actor,
    kind: str,
    property_id: int,
    subject: str,
    effect: Mapping[str, Any],
    reason: str,
    step_up_id: int,
    now: datetime,
) -> int:
    """Ask a second administrator for a change; returns the proposal's id. Raises ProposalRefused."""
    require(actor, "approvals.propose", property_id=property_id)
    with scope(actor):
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    """SELECT proposal_id, refusal
                       FROM make_proposal(%s, %s, %s, %s::jsonb, %s, %s, %s, %s, %s)""",
                    [
                        kind, property_id, subject, json.dumps(effect), reason, actor.user_id,
                        step_up_id, now, now + LASTS,
                    ],
                )  # fmt: skip
                proposal_id, refusal = cursor.fetchone()
        except IntegrityError as clash:
            # A colleague proposed for the same subject at the same moment, and was committed first.
            if "one_open_proposal" not in str(clash):
                raise
            raise ProposalRefused("open") from clash
        if refusal is not None:
            raise ProposalRefused(refusal)
        record(
            actor=actor.code, code="approvals.proposed", property_id=property_id,
            subject=f"proposal:{proposal_id}", now=now, kind=kind, about=subject, reason=reason,
        )  # fmt: skip
    return int(proposal_id)


def withdraw(*, actor: Actor, proposal_id: int, reason: str, now: datetime) -> None:
    """Take back what one has proposed oneself. Raises ProposalRefused."""
    require(actor, "approvals.propose")
    _end(actor, proposal_id, Proposal.State.WITHDRAWN, reason, now)


def refuse(*, actor: Actor, proposal_id: int, reason: str, now: datetime) -> None:
    """Say no to what a colleague has proposed. Raises ProposalRefused."""
    require(actor, "approvals.approve")
    _end(actor, proposal_id, Proposal.State.REFUSED, reason, now)


def note_ended(*, actor: Actor, proposal_id: int, now: datetime) -> None:
    """Write the end of a proposal, however it came, into the audit; inside its transaction."""
    ended = Proposal.objects.get(pk=proposal_id)
    record(
        actor=actor.code, code=f"approvals.{ended.state}", property_id=ended.property_id,
        subject=f"proposal:{proposal_id}", now=now, kind=ended.kind, about=ended.subject,
        made_by=ended.made_by, answer=ended.answer,
    )  # fmt: skip


def _end(actor: Actor, proposal_id: int, verdict: str, reason: str, now: datetime) -> None:
    with scope(actor):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT end_proposal(%s, %s, %s, %s, %s)",
                [proposal_id, str(verdict), actor.user_id, reason, now],
            )
            (refusal,) = cursor.fetchone()
        if refusal is not None:
            raise ProposalRefused(refusal)
        note_ended(actor=actor, proposal_id=proposal_id, now=now)
