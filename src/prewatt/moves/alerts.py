"""Alerts are closed by a person, with a note: what was found, what was done.

What the system ends by itself it would open again at its next look, so such an alert is not closed by
hand while its cause lasts: what ends it is putting right what it tells of. Once the cause is gone, a
person may close what the system had no occasion to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.models import Proposal
from prewatt.billing.queries import version_chains
from prewatt.devices.queries import isolated
from prewatt.fleet.queries import has_stopped_itself
from prewatt.instructions.releases import unanswered
from prewatt.moves.clocks import is_off
from prewatt.moves.field_watch import never_heard, silent_concentrators
from prewatt.moves.models import TemporaryLet
from prewatt.notify.alerts import (
    BULK_BRAKED,
    CLOCK_UNMENDED,
    CONCENTRATOR_ISOLATED,
    CONCENTRATOR_SILENT,
    EMERGENCY,
    ISOLATED,
    LET_NOT_BEGUN,
    LET_NOT_CLOSED,
    NEVER_HEARD,
    NO_TARIFF,
    NOT_RELEASED,
    TAMPER,
    UNREACHABLE,
)
from prewatt.notify.operations import close_by_hand
from prewatt.notify.queries import has_undelivered
from prewatt.supply.queries import CAUSES, has_lasting_cause
from prewatt.tamper.queries import open_cases_of

NOTE_MAX: Final = 200
_OF_DEVICES: Final = frozenset({ISOLATED, CONCENTRATOR_ISOLATED, NEVER_HEARD, CONCENTRATOR_SILENT})

#: Alerts whose cause one question about their subject tells.
_OF_ONE: Final[Mapping[str, Callable[[int], bool]]] = {
    TAMPER: lambda meter_id: bool(open_cases_of([meter_id])),
    BULK_BRAKED: has_stopped_itself,
    CLOCK_UNMENDED: is_off,
}


class AlertRefused(Exception):
    """The alert stays as it is. ``reason`` is `unknown`, `closed`, `cause_lasts` or `no_note`."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def close_alert(*, actor: Actor, alert_id: int, note: str, now: datetime) -> None:
    """Close an open alert, with who, when and why. Raises AlertRefused, PermissionRefused."""
    require(actor, "notify.close_alert")
    note = note.strip()
    with scope(actor):
        with connection.cursor() as cursor:
            # Locked, so that two people, or a person and the system, do not both close it.
            cursor.execute(
                """SELECT property_id, code, subject, closed_at FROM alert WHERE id = %s
                   FOR UPDATE""",
                [alert_id],
            )
            row = cursor.fetchone()
        if row is None:
            raise AlertRefused("unknown", f"there is no alert {alert_id} at your properties")
        property_id, code, subject, closed_at = row
        require(actor, "notify.close_alert", property_id=property_id)
        if closed_at is not None:
            raise AlertRefused("closed", "the alert is closed already")
        if not note or len(note) > NOTE_MAX or not note.isprintable():
            raise AlertRefused("no_note", f"say why, in at most {NOTE_MAX} printable characters")
        if cause_lasts(code=code, property_id=property_id, subject=subject, now=now):
            raise AlertRefused("cause_lasts", "it ends by itself, once its cause is put right")
        close_by_hand(actor=actor, alert_id=alert_id, note=note, now=now)


def cause_lasts(*, code: str, property_id: int, subject: str, now: datetime) -> bool:
    """Whether the system keeps an alert open because what it tells of is still so; in scope."""
    if code in CAUSES:
        return has_lasting_cause(code=code, property_id=property_id, subject=subject)
    if code == UNREACHABLE:
        return has_undelivered(_account_of(subject))
    if code in (EMERGENCY, NOT_RELEASED, *_OF_ONE, *_OF_DEVICES):
        return _waits(code=code, property_id=property_id, subject=subject, now=now)
    if code == NO_TARIFF:
        return not version_chains([_account_of(subject)])
    if code in (LET_NOT_BEGUN, LET_NOT_CLOSED):
        return TemporaryLet.objects.filter(
            account_id=_account_of(subject), closed_at__isnull=True,
            begun_at__isnull=code == LET_NOT_BEGUN,
        ).exists()  # fmt: skip
    return False


def _waits(*, code: str, property_id: int, subject: str, now: datetime) -> bool:
    """Whether an emergency waits for its review, a device for its enrolment or its word (also that it holds no credit),
    a case for its reason, a bulk for whoever moves it on, a clock for the right time.
    """
    if code in _OF_ONE:
        return _OF_ONE[code](int(subject.partition(":")[2]))
    if code == NOT_RELEASED:
        return any(f"meter:{each.meter_id}" == subject for each in unanswered(now=now))
    if code in (NEVER_HEARD, CONCENTRATOR_SILENT):
        silent = never_heard(now=now) if code == NEVER_HEARD else silent_concentrators(now=now)
        return any(each.subject == subject for each in silent)
    if code in _OF_DEVICES:
        return any(
            subject in (f"meter:{each.meter_id}", f"concentrator:{each.concentrator_id}")
            for each in isolated(now=now)
        )
    return Proposal.objects.filter(
        property_id=property_id, state=Proposal.State.EMERGENCY, reviewed_at=None
    ).exists()


def _account_of(subject: str) -> int:
    return int(subject.removeprefix("account:"))
