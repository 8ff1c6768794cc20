"""A draft becomes a price: proposed by one administrator, approved by another, in force from a midnight.

What is proposed is the whole version, word for word, so the second person agrees to that and to nothing
that is saved afterwards. A plan that people are on must have been tried on their real days first.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, Kind, saying_what_changed
from prewatt.approvals.operations import Wanted, wanted_change
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
        return wanted_change(
            kind=KIND, property_id=draft.property_id, subject=f"tariff:{draft.code}", effect=effect
        )


def _make(_actor: Actor, agreed: Agreed, now: datetime) -> None:
    """The version, by the function of the database that alone makes one. Raises Changed: `draft`,
    `version`, `begun`.
    """
    with saying_what_changed(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT make_version(%s, %s, %s)", [agreed.proposal_id, agreed.effect["code"], now]
        )


VERSIONS: Final = Kind(KIND, _make)


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
