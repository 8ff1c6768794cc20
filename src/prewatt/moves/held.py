"""Held readings are decided by a person: released into the books, or discarded, with a reason.

A release judges the reading once more, with the person's word that the meter can have counted so
much; every other rule stays. What still cannot be charged (a register that runs backwards, an instant
of nobody's) is refused with its verdict, so a release never puts in what validation keeps out.

Readings that were held because of an earlier one of their meter are decided together, in the order in
which they were read: the first one needs a person's word, and the others follow from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from django.db import connection, transaction

from prewatt.access.scope import Actor, rehearsal, require, scope
from prewatt.audit.operations import record
from prewatt.billing.ingestion import apply_readings
from prewatt.core.civil_time import instant_us
from prewatt.core.readings import ACTIVE_IMPORT, ReadingBatch, ReadingSource
from prewatt.core.vee import VERDICT_NAMES, Verdict
from prewatt.mdm.operations import keep_readings
from prewatt.moves.hand_readings import heard_by, note_read_by_hand

REASON_MAX: Final = 200
#: So many are decided together at most.
TOGETHER_MAX: Final = 200
_CHARGEABLE: Final = (Verdict.ACCEPTED, Verdict.BACKFILL, Verdict.DUPLICATE)


class HeldRefused(Exception):
    """The case stays as it is. ``reason`` is `unknown`, `closed`, `no_reason`, `many` or a verdict's
    name; ``case_id`` is the case that it is about.
    """

    def __init__(self, reason: str, text: str, case_id: int = 0) -> None:
        super().__init__(text)
        self.reason = reason
        self.case_id = case_id


@dataclass(frozen=True, slots=True)
class Released:
    """What became of a released reading: its verdict's name, and the money it moved (micro-units)."""

    case_id: int
    verdict: str
    charged_micro: int


@dataclass(frozen=True, slots=True)
class _Case:
    case_id: int
    property_id: int
    meter_id: int
    register_code: int
    read_at: datetime
    value_wh: int
    source: int
    received_at: datetime
    state: str
    verdict: int

    def batch(self) -> ReadingBatch:
        """The reading as it came."""
        return ReadingBatch(
            meter_id=np.array([self.meter_id], dtype=np.int64),
            register_code=np.array([self.register_code], dtype=np.int64),
            read_at_us=np.array([instant_us(self.read_at)], dtype=np.int64),
            value_wh=np.array([self.value_wh], dtype=np.int64),
            source=np.array([self.source], dtype=np.int64),
            received_at_us=np.array([instant_us(self.received_at)], dtype=np.int64),
        )


def release_reading(*, actor: Actor, case_id: int, reason: str, now: datetime) -> Released:
    """Put a held reading into the books on a person's word. Raises HeldRefused, PermissionRefused."""
    (released,) = release_readings(actor=actor, case_ids=[case_id], reason=reason, now=now)
    return released


def release_readings(
    *, actor: Actor, case_ids: Sequence[int], reason: str, now: datetime
) -> tuple[Released, ...]:
    """Put held readings into the books together, in the order in which they were read: all or none.

    Raises HeldRefused for the first that cannot be charged even after those before it,
    PermissionRefused.
    """
    require(actor, "mdm.release")
    with scope(actor):
        return tuple(_release(actor, case, reason, now) for case in _cases(actor, case_ids, reason))


def rehearse_releases(
    *, actor: Actor, case_ids: Sequence[int], now: datetime
) -> tuple[Released | HeldRefused, ...]:
    """What a release of each would do after those before it, or why it cannot be released; taken
    back. In the order in which they were read.
    """
    require(actor, "mdm.release")
    found: list[Released | HeldRefused] = []
    with rehearsal(), scope(actor):
        for case in _cases(actor, case_ids, "rehearsal"):
            try:
                with transaction.atomic():
                    found.append(_release(actor, case, "rehearsal", now))
            except HeldRefused as refused:
                found.append(refused)
    return tuple(found)


def _release(actor: Actor, case: _Case, reason: str, now: datetime) -> Released:
    before = _available(case.meter_id)
    verdict = _apply(case, now)
    if verdict not in _CHARGEABLE:
        name = VERDICT_NAMES[verdict]
        raise HeldRefused(name, f"still {name}", case.case_id)
    _close(actor, case, "released", reason, now, verdict=VERDICT_NAMES[verdict])
    return Released(case.case_id, VERDICT_NAMES[verdict], before - _available(case.meter_id))


def rehearse_release(*, actor: Actor, case_id: int, now: datetime) -> Released:
    """What a release would do, found by doing it and taking it back. Raises as ``release_reading``."""
    with rehearsal():
        return release_reading(actor=actor, case_id=case_id, reason="rehearsal", now=now)


def discard_reading(*, actor: Actor, case_id: int, reason: str, now: datetime) -> None:
    """Close a case without charging its reading, which stays stored with it.

    Raises HeldRefused, PermissionRefused.
    """
    discard_readings(actor=actor, case_ids=[case_id], reason=reason, now=now)


def discard_readings(*, actor: Actor, case_ids: Sequence[int], reason: str, now: datetime) -> None:
    """Close cases together, all or none, as ``discard_reading`` closes one."""
    require(actor, "mdm.release")
    with scope(actor):
        for case in _cases(actor, case_ids, reason):
            _close(actor, case, "discarded", reason, now)


def _cases(actor: Actor, case_ids: Sequence[int], reason: str) -> list[_Case]:
    """The cases, each once, in the order in which their readings were read."""
    if not 1 <= len(set(case_ids)) <= TOGETHER_MAX:
        raise HeldRefused("many", f"decide about 1 to {TOGETHER_MAX} readings at a time")
    cases = [_case(actor, each, reason) for each in sorted(set(case_ids))]
    return sorted(cases, key=lambda case: (case.meter_id, case.register_code, case.read_at))


def _case(actor: Actor, case_id: int, reason: str) -> _Case:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT case_id, property_id, meter_id, register_code, read_at, value_wh, source,
                      received_at, state, verdict
               FROM vee_case WHERE case_id = %s""",
            [case_id],
        )
        row = cursor.fetchone()
    if row is None:
        raise HeldRefused("unknown", f"there is no held reading {case_id} at your properties")
    case = _Case(*row)
    require(actor, "mdm.release", property_id=case.property_id)
    if case.state != "held":
        raise HeldRefused("closed", f"the reading was {case.state} already", case_id)
    if not reason.strip() or len(reason) > REASON_MAX or not reason.isprintable():
        raise HeldRefused("no_reason", f"say why, in at most {REASON_MAX} printable characters")
    return case


def _apply(case: _Case, now: datetime) -> Verdict:
    """Judge the reading once more; a register that nobody is charged by is only kept."""
    if case.register_code == ACTIVE_IMPORT:
        heard = heard_by([case.meter_id])
        applied = apply_readings(batch=case.batch(), now=now, believed=True)
        verdict = Verdict(int(applied.verdict[0]))
        if verdict is Verdict.ACCEPTED and case.source == ReadingSource.MANUAL:
            note_read_by_hand([case.meter_id], case.read_at, heard=heard)
        return verdict
    keep_readings(batch=case.batch(), now=now)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT EXISTS (SELECT FROM register_reading WHERE meter_id = %s
                   AND register_code = %s AND read_at = %s AND value_wh = %s)""",
            [case.meter_id, case.register_code, case.read_at, case.value_wh],
        )
        kept = bool(cursor.fetchone()[0])
    return Verdict.ACCEPTED if kept else Verdict(case.verdict)


def _available(meter_id: int) -> int:
    """What all who ever paid by a meter have, so that the difference is what a reading charged."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT coalesce(sum(available), 0)::bigint FROM account_state WHERE account_id IN
                   (SELECT account_id FROM meter_assignment WHERE meter_id = %s)""",
            [meter_id],
        )
        return int(cursor.fetchone()[0])


def _close(
    actor: Actor, case: _Case, state: str, reason: str, now: datetime, **detail: object
) -> None:
    """Close the case unless somebody else has: then nothing of ours stays either."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE vee_case SET state = %s, closed_at = %s, closed_by = %s, close_reason = %s
               WHERE case_id = %s AND state = 'held'""",
            [state, now, actor.code, reason, case.case_id],
        )
        if cursor.rowcount != 1:
            raise HeldRefused("closed", "somebody else has decided meanwhile")
        cursor.execute("SELECT pg_notify('changed', %s)", [str(case.property_id)])
    record(
        actor=actor.code,
        code=f"mdm.reading.{state}",
        property_id=case.property_id,
        subject=f"meter:{case.meter_id}",
        now=now,
        case=case.case_id,
        value_wh=case.value_wh,
        read_at=case.read_at,
        reason=reason,
        **detail,
    )
