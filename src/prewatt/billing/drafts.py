"""Drafts of tariffs: saved, changed, and put to the trial before anybody may approve them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.billing.models import TariffDraft, TariffTrial
from prewatt.core.tariff import digest, parse_tariff, to_document

#: A trial looks back over this many days at least and at most.
TRIAL_DAYS = (30, 90)


class DraftRefused(Exception):
    """A draft or a trial cannot be had as asked; ``reason`` is a stable word."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Draft:
    """What a saved draft is known by."""

    draft_id: int
    edition: int


def save_draft(
    *,
    actor: Actor,
    property_id: int,
    code: str,
    name: str,
    document: Mapping[str, object],
    reason: str,
    now: datetime,
    edition: int | None = None,
) -> Draft:
    """Store a checked document as the draft of a tariff, new or changed.

    ``edition`` is the one the change was made on: when somebody else saved in between, the save is
    refused as ``changed_meanwhile`` rather than theirs being lost. Raises
    ``core.tariff.TariffRefused`` for a bad document, DraftRefused, PermissionRefused.
    """
    require(actor, "billing.draft", property_id=property_id)
    tariff = parse_tariff(document)
    if not code.strip() or len(code) > 24:
        raise DraftRefused("code", "a tariff's code has 1 to 24 characters")
    with scope(actor):
        draft = (
            TariffDraft.objects.select_for_update()
            .filter(property_id=property_id, code=code)
            .first()
        )
        former = None if draft is None else {name: getattr(draft, name) for name in _WRITTEN}
        if draft is None:
            draft = TariffDraft(property_id=property_id, code=code, edition=0)
        elif edition is not None and edition != draft.edition:
            raise DraftRefused(
                "changed_meanwhile", f"{draft.made_by} saved another edition in the meantime"
            )
        draft.name, draft.reason = name.strip() or tariff.name, reason.strip()
        draft.content = to_document(tariff)
        draft.made_by, draft.changed_at = actor.code, now
        draft.edition += 1
        draft.became = None
        draft.save(update_fields=_CHANGES if draft.edition > 1 else None)
        record(
            actor=actor.code,
            code="billing.draft.saved",
            property_id=property_id,
            subject=f"tariff_draft:{draft.pk}",
            now=now,
            edition=draft.edition,
            digest=digest(tariff).hex(),
            before=former,
            after={name: getattr(draft, name) for name in _WRITTEN},
        )
    return Draft(int(draft.pk), draft.edition)


#: What a person writes of a draft.
_WRITTEN = ("name", "content", "reason")
#: What a further edition changes of a draft; whose it is never does.
_CHANGES = ("name", "content", "reason", "made_by", "changed_at", "edition", "became")


def ask_trial(*, actor: Actor, draft_id: int, days: int, now: datetime) -> int:
    """Queue a trial of the draft's present edition over the last ``days`` days; returns its id.

    Asking again while one waits or runs for the same edition and days gives that one. Raises
    DraftRefused ``days`` outside 30 to 90, ``unknown`` for a draft out of sight.
    """
    least, most = TRIAL_DAYS
    if not least <= days <= most:
        raise DraftRefused("days", f"a trial looks back over {least} to {most} days")
    # Before the row is locked: who may not draft may not even lock it.
    require(actor, "billing.draft")
    with scope(actor):
        draft = TariffDraft.objects.select_for_update().filter(pk=draft_id).first()
        if draft is None:
            raise DraftRefused("unknown", "there is no such draft")
        require(actor, "billing.draft", property_id=draft.property_id)
        waiting = TariffTrial.objects.filter(
            draft=draft,
            edition=draft.edition,
            days=days,
            state__in=(TariffTrial.State.QUEUED, TariffTrial.State.RUNNING),
        ).first()
        if waiting is not None:
            return int(waiting.pk)
        trial = TariffTrial.objects.create(
            property_id=draft.property_id,
            draft=draft,
            edition=draft.edition,
            content=draft.content,
            days=days,
            asked_by=actor.code,
            asked_at=now,
        )
        record(
            actor=actor.code,
            code="billing.trial.asked",
            property_id=draft.property_id,
            subject=f"tariff_draft:{draft.pk}",
            now=now,
            edition=draft.edition,
            days=days,
        )
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify('trial', %s)", [str(draft.property_id)])
    return int(trial.pk)
