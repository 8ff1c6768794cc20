"""A draft becomes a price: proposed by one administrator, approved by another, in force from a midnight.

What is proposed is the whole version, word for word, so the second person agrees to that and to nothing
that is saved afterwards. A plan that people are on must have been tried on their real days first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.operations import (
    PROPOSE,
    ProposalRefused,
    digest_of,
    note_ended,
    propose,
)
from prewatt.billing.models import TariffAssignment, TariffDraft, TariffTrial, TariffVersion
from prewatt.billing.operations import version_digest

KIND: Final = "billing.tariff"
#: A price is known to begin at most so long ahead.
AHEAD_MAX: Final = timedelta(days=400)


class VersionRefused(Exception):
    """The draft cannot be proposed so. ``reason`` is `unknown`, `became` (it is a version already),
    `untried`, `begun` (its first day has come), `far`, `same` (as the
    version before it), or `later` (a version begins on that day or after).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Wanted:
    """The version that a draft would become, and the digest that the maker's step-up has to name."""

    property_id: int
    subject: str
    effect: dict[str, Any]
    digest: bytes


def wanted_version(*, actor: Actor, draft_id: int, valid_from: datetime, now: datetime) -> Wanted:
    """What proposing the draft from an instant on would ask for. Raises VersionRefused."""
    require(actor, "approvals.propose")
    with scope(actor):
        draft = TariffDraft.objects.filter(pk=draft_id).first()
        if draft is None:
            raise VersionRefused("unknown")
        require(actor, "billing.draft", property_id=draft.property_id)
        versions = TariffVersion.objects.filter(
            property_id=draft.property_id, tariff__code=draft.code
        )
        known = list(versions.order_by("valid_from").values_list("number", "valid_from", "content"))
        _refuse(draft, [begins for _, begins, _ in known], valid_from, now)
        if known and known[-1][2] == draft.content:
            raise VersionRefused("same")
        effect = {
            "draft": draft.pk, "edition": draft.edition, "code": draft.code, "name": draft.name,
            "number": max((number for number, _, _ in known), default=0) + 1, "valid_from": valid_from.isoformat(),
            "document": draft.content, "digest": version_digest(draft.content).hex(),
        }  # fmt: skip
        subject = f"tariff:{draft.code}"
        digest = digest_of(
            deed=PROPOSE, kind=KIND, property_id=draft.property_id, subject=subject, effect=effect
        )
    return Wanted(draft.property_id, subject, effect, digest)


def propose_version(
    *, actor: Actor, wanted: Wanted, reason: str, step_up_id: int, now: datetime
) -> int:
    """Ask a second administrator for the version; returns the proposal's id. Raises ProposalRefused."""
    return propose(
        actor=actor, kind=KIND, property_id=wanted.property_id, subject=wanted.subject,
        effect=wanted.effect, reason=reason, step_up_id=step_up_id, now=now,
    )  # fmt: skip


def approve_version(*, actor: Actor, proposal_id: int, step_up_id: int, now: datetime) -> int:
    """Make the proposed version; returns its id.

    Raises ProposalRefused. Where the world has changed since (`void:draft`, `void:version`,
    `void:begun`) the proposal has ended by that.
    """
    require(actor, "approvals.approve")
    with scope(actor):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT version_id, refusal FROM approve_tariff(%s, %s, %s, %s)",
                [proposal_id, actor.user_id, step_up_id, now],
            )
            version_id, refusal = cursor.fetchone()
        if refusal is None or refusal.startswith("void:"):
            note_ended(actor=actor, proposal_id=proposal_id, now=now)
    if refusal is not None:
        raise ProposalRefused(refusal)
    return int(version_id)


def _refuse(
    draft: TariffDraft, begins: list[datetime], valid_from: datetime, now: datetime
) -> None:
    if draft.became is not None:
        raise VersionRefused("became")
    if valid_from <= now:
        raise VersionRefused("begun")
    if valid_from > now + AHEAD_MAX:
        raise VersionRefused("far")
    if any(each >= valid_from for each in begins):
        raise VersionRefused("later")
    has_payers = TariffAssignment.objects.filter(
        property_id=draft.property_id, tariff__code=draft.code
    ).exists()
    tried = TariffTrial.objects.filter(
        draft=draft, edition=draft.edition, state=TariffTrial.State.DONE
    )
    if has_payers and not tried.exists():
        raise VersionRefused("untried")
