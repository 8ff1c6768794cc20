"""Proposals made, approved, withdrawn and refused; the effect of one belongs to the package of its kind.

Each step is one function of the database (``sql/0002_ladders.sql``), which asks for the people and their
second factors itself; this module asks for the permission, says refusals and writes the audit. The last
approval that is needed and the effect are one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import IntegrityError, connection, transaction

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, Changed, kind_of
from prewatt.approvals.models import Proposal
from prewatt.audit.operations import record
from prewatt.audit.refusals import Noticed

#: What nobody has answered for so long is proposed again.
LASTS: Final = timedelta(days=14)
PROPOSE: Final = "propose"
APPROVE: Final = "approve"
EMERGENCY: Final = "emergency"


class ProposalRefused(Noticed):
    """Nothing was proposed, approved or ended. ``reason`` is a word of the functions in
    ``sql/0002_ladders.sql``: `unknown`, `ended`, `expired`, `own`, `already`, `not_own`,
    `not_administrator`, `reason`, `amount`, `open`, `step_up`; or `void:…` of a kind, where the world has
    changed since.
    """

    what = "proposal"
    noticed = frozenset({"own", "not_own", "not_administrator", "step_up"})

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Wanted:
    """A change that somebody wants: what a proposal of it would hold, and what the maker's step-up names."""

    kind: str
    property_id: int
    subject: str
    effect: Mapping[str, Any]
    digest: bytes

    @property
    def amount(self) -> int:
        """What the ladder goes by."""
        return int(self.effect.get("amount", 0))


@dataclass(frozen=True, slots=True)
class Proposed:
    """A proposal that was made; ``needed`` others have to agree. None: it is done."""

    proposal_id: int
    needed: int

    @property
    def is_done(self) -> bool:
        """Whether it took nobody else, and is in effect."""
        return self.needed == 0


def wanted_change(
    *, kind: str, property_id: int, subject: str, effect: Mapping[str, Any]
) -> Wanted:
    """A change with the digest for proposing it."""
    digest = digest_of(
        deed=PROPOSE, kind=kind, property_id=property_id, subject=subject, effect=effect
    )
    return Wanted(kind, property_id, subject, effect, digest)


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


def needed_for(*, actor: Actor, wanted: Wanted) -> int:
    """How many others would have to agree now; none: the actor does it alone, with a second factor."""
    require(actor, "approvals.withdraw", property_id=wanted.property_id)
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            "SELECT approvers_needed(%s, %s, %s, %s, NULL)",
            [wanted.kind, wanted.property_id, wanted.amount, actor.code],
        )
        return int(cursor.fetchone()[0])


def rehearse(wanted: Wanted) -> None:
    """Let the change be made in the caller's transaction, which the database does not let be committed.

    For a look that does the very deed and takes it back (`access.scope.rehearsal`).
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT rehearse(%s, %s, %s, %s)",
            [wanted.kind, wanted.property_id, wanted.subject, json.dumps(wanted.effect)],
        )


def approval_digest(*, actor: Actor, proposal_id: int) -> bytes:
    """What a second factor is proved for to approve what was proposed. Raises ProposalRefused `unknown`."""
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
    *, actor: Actor, wanted: Wanted, reason: str, step_up_id: int, now: datetime
) -> Proposed:
    """Ask others for a change; where its ladder asks for nobody, it is done in the same transaction.

    Raises ProposalRefused; `void:…` where it would have been done and cannot be.
    """
    # Whoever may ask for anything may take it back; what they may ask for goes by its kind.
    require(actor, "approvals.withdraw")
    permission = PERMISSION.get(wanted.kind, "approvals.propose")
    require(actor, permission, property_id=wanted.property_id)
    try:
        with scope(actor):
            done = _made(actor, wanted, reason, step_up_id, now)
    except Changed as changed:
        raise ProposalRefused(f"void:{changed.what}") from changed
    return done


#: Who asks for a kind, where it is not the administrators alone.
PERMISSION: Final = {"vending.refund": "vending.pay_refund"}


def _made(actor: Actor, wanted: Wanted, reason: str, step_up_id: int, now: datetime) -> Proposed:
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT proposal_id, refusal, needs
                   FROM make_proposal(%s, %s, %s, %s::jsonb, %s, %s, %s, %s, %s)""",
                [
                    wanted.kind, wanted.property_id, wanted.subject, json.dumps(wanted.effect),
                    reason, actor.user_id, step_up_id, now, now + LASTS,
                ],
            )  # fmt: skip
            proposal_id, refusal, needs = cursor.fetchone()
    except IntegrityError as clash:
        # A colleague proposed for the same subject at the same moment, and was committed first.
        if "one_open_proposal" not in str(clash):
            raise
        raise ProposalRefused("open") from clash
    if refusal is not None:
        raise ProposalRefused(refusal)
    record(
        actor=actor.code, code="approvals.proposed" if needs else "approvals.alone",
        property_id=wanted.property_id, subject=f"proposal:{proposal_id}", now=now,
        kind=wanted.kind, about=wanted.subject, reason=reason, amount=wanted.amount, needed=needs,
    )  # fmt: skip
    if not needs:
        _carry_out(actor, int(proposal_id), now)
    return Proposed(int(proposal_id), int(needs))


def approve(*, actor: Actor, proposal_id: int, step_up_id: int, now: datetime) -> int:
    """Agree to a proposal; returns how many others have still to. None: it is in effect.

    Raises ProposalRefused; after `void:…` the proposal has ended by that.
    """
    require(actor, "approvals.approve")
    with scope(actor):
        kind = Proposal.objects.filter(pk=proposal_id).values_list("kind", flat=True).first()
        if kind is None:
            raise ProposalRefused("unknown")
        try:
            with transaction.atomic():
                missing, refusal = _approved(actor, proposal_id, kind, step_up_id, now)
                if missing == 0 and refusal is None:
                    _carry_out(actor, proposal_id, now)
        except Changed as changed:
            # Nothing of it is done, and the second factor is not used up; that it is void stays.
            refusal = f"void:{changed.what}"
            _end_in_database(actor, proposal_id, Proposal.State.VOID, changed.what, now)
        if refusal is None and missing:
            _note_yes(actor, proposal_id, missing, now)
        elif refusal is None or refusal.startswith("void:"):
            note_ended(actor=actor, proposal_id=proposal_id, now=now)
    if refusal is not None:
        raise ProposalRefused(refusal)
    return int(missing)


def _approved(
    actor: Actor, proposal_id: int, kind: str, step_up_id: int, now: datetime
) -> tuple[int, str | None]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT missing, refusal FROM approve_proposal(%s, %s, %s, %s, %s)",
            [proposal_id, kind, actor.user_id, step_up_id, now],
        )
        missing, refusal = cursor.fetchone()
    return (-1 if missing is None else int(missing)), refusal


def _carry_out(actor: Actor, proposal_id: int, now: datetime) -> None:
    found = Proposal.objects.get(pk=proposal_id)
    agreed = Agreed(
        proposal_id, found.property_id, found.subject, found.effect, found.reason, found.made_by
    )
    kind_of(found.kind).carry_out(actor, agreed, now)


def _note_yes(actor: Actor, proposal_id: int, missing: int, now: datetime) -> None:
    found = Proposal.objects.get(pk=proposal_id)
    record(
        actor=actor.code, code="approvals.agreed", property_id=found.property_id,
        subject=f"proposal:{proposal_id}", now=now, kind=found.kind, about=found.subject,
        made_by=found.made_by, missing=missing,
    )  # fmt: skip


def withdraw(*, actor: Actor, proposal_id: int, reason: str, now: datetime) -> None:
    """Take back what one has proposed oneself. Raises ProposalRefused."""
    require(actor, "approvals.withdraw")
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
        _end_in_database(actor, proposal_id, verdict, reason, now)
        note_ended(actor=actor, proposal_id=proposal_id, now=now)


def _end_in_database(
    actor: Actor, proposal_id: int, verdict: str, reason: str, now: datetime
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT end_proposal(%s, %s, %s, %s, %s)",
            [proposal_id, str(verdict), actor.user_id, reason, now],
        )
        (refusal,) = cursor.fetchone()
    if refusal is not None:
        raise ProposalRefused(refusal)


# --- an emergency ---


def emergency_digest(*, wanted: Wanted) -> bytes:
    """What a second factor is proved for to do a change at once, alone."""
    return digest_of(
        deed=EMERGENCY, kind=wanted.kind, property_id=wanted.property_id, subject=wanted.subject,
        effect=wanted.effect,
    )  # fmt: skip


def break_glass(
    *, actor: Actor, wanted: Wanted, reason: str, step_up_id: int, now: datetime
) -> int:
    """Do at once, alone, what restores supply or stops harm; returns the proposal's id.

    Somebody else looks at it afterwards. The caller raises the alarm in the same transaction. Raises
    ProposalRefused, also `kind` for what is no emergency's.
    """
    require(actor, "approvals.propose")
    require(actor, "approvals.propose", property_id=wanted.property_id)
    try:
        with scope(actor):
            with connection.cursor() as cursor:
                cursor.execute(
                    """SELECT proposal_id, refusal
                       FROM break_glass(%s, %s, %s, %s::jsonb, %s, %s, %s, %s)""",
                    [
                        wanted.kind, wanted.property_id, wanted.subject, json.dumps(wanted.effect),
                        reason, actor.user_id, step_up_id, now,
                    ],
                )  # fmt: skip
                proposal_id, refusal = cursor.fetchone()
            if refusal is not None:
                raise ProposalRefused(refusal)
            record(
                actor=actor.code, code="approvals.emergency", property_id=wanted.property_id,
                subject=f"proposal:{proposal_id}", now=now, kind=wanted.kind, about=wanted.subject,
                reason=reason,
            )  # fmt: skip
            _carry_out(actor, int(proposal_id), now)
    except Changed as changed:
        raise ProposalRefused(f"void:{changed.what}") from changed
    return int(proposal_id)


def review(*, actor: Actor, proposal_id: int, verdict: str, reason: str, now: datetime) -> None:
    """Say of what somebody else did in an emergency `agreed` or `objected`. Raises ProposalRefused."""
    require(actor, "approvals.review")
    with scope(actor):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT review_emergency(%s, %s, %s, %s, %s)",
                [proposal_id, verdict, actor.user_id, reason, now],
            )
            (refusal,) = cursor.fetchone()
        if refusal is not None:
            raise ProposalRefused(refusal)
        found = Proposal.objects.get(pk=proposal_id)
        record(
            actor=actor.code, code=f"approvals.{verdict}_afterwards", property_id=found.property_id,
            subject=f"proposal:{proposal_id}", now=now, kind=found.kind, about=found.subject,
            made_by=found.made_by, why=reason,
        )  # fmt: skip
