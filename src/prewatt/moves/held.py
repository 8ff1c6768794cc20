"""Held readings are decided by a person: released into the books, or discarded, with a reason.

A release judges the reading once more, with the person's word that the meter can have counted so
much; every other rule stays. What still cannot be charged (a register that runs backwards, an instant
of nobody's) is refused with its verdict, so a release never puts in what validation keeps out.

Readings that were held because of an earlier one of their meter are decided together, in the order in
which they were read: the first one needs a person's word, and the others follow from it. They are judged
in one pass (``billing.judging``). A look at what a release would do takes no lock and writes nothing, so
the account goes on being charged and recharged while somebody looks; a release judges again under its lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record_many
from prewatt.billing.ingestion import apply_readings
from prewatt.billing.judging import foresee
from prewatt.billing.states import lock_states
from prewatt.core.civil_time import instant_us
from prewatt.core.readings import ACTIVE_IMPORT, ReadingBatch, ReadingSource
from prewatt.core.vee import VERDICT_NAMES, Verdict
from prewatt.mdm.operations import judge_kept, keep_readings
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


@dataclass(frozen=True, slots=True)
class _Judged:
    """A case with what a release of it comes to after those before it, and its turn (``Foreseen``)."""

    case: _Case
    verdict: Verdict
    charged_micro: int = 0
    turn: int = 0

    def outcome(self) -> Released | HeldRefused:
        """What became or would become of it."""
        name = VERDICT_NAMES[self.verdict]
        if self.verdict not in _CHARGEABLE:
            return HeldRefused(name, f"still {name}", self.case.case_id)
        return Released(self.case.case_id, name, self.charged_micro)


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
        cases = _cases(actor, case_ids, reason)
        lock_states(
            np.array([case.meter_id for case in cases if _is_charged(case)], dtype=np.int64)
        )
        judged = _judged(cases, now)
        released = []
        for each in judged:
            outcome = each.outcome()
            if isinstance(outcome, HeldRefused):
                raise outcome
            released.append(outcome)
        _apply(judged, now)
        verdicts = [each.verdict for each in released]
        _close(actor, cases, "released", reason, now, verdicts)
    return tuple(released)


def look_at_releases(
    *, actor: Actor, case_ids: Sequence[int], now: datetime
) -> tuple[Released | HeldRefused, ...]:
    """What a release of each would do after those before it, or why it cannot be released, as things
    stand; in the order in which they were read. Locks and writes nothing. Raises as a release does
    where it is not about the readings.
    """
    require(actor, "mdm.release")
    with scope(actor):
        cases = _cases(actor, case_ids, "a look")
        return tuple(each.outcome() for each in _judged(cases, now))


def discard_reading(*, actor: Actor, case_id: int, reason: str, now: datetime) -> None:
    """Close a case without charging its reading, which stays stored with it.

    Raises HeldRefused, PermissionRefused.
    """
    discard_readings(actor=actor, case_ids=[case_id], reason=reason, now=now)


def discard_readings(*, actor: Actor, case_ids: Sequence[int], reason: str, now: datetime) -> None:
    """Close cases together, all or none, as ``discard_reading`` closes one."""
    require(actor, "mdm.release")
    with scope(actor):
        _close(actor, _cases(actor, case_ids, reason), "discarded", reason, now)


def _cases(actor: Actor, case_ids: Sequence[int], reason: str) -> list[_Case]:
    """The cases, each once, in the order in which their readings were read."""
    wanted = sorted(set(case_ids))
    if not 1 <= len(wanted) <= TOGETHER_MAX:
        raise HeldRefused("many", f"decide about 1 to {TOGETHER_MAX} readings at a time")
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT case_id, property_id, meter_id, register_code, read_at, value_wh, source,
                      received_at, state
               FROM vee_case WHERE case_id = ANY(%s)
               ORDER BY meter_id, register_code, read_at, case_id""",
            [wanted],
        )
        cases = [_Case(*row) for row in cursor.fetchall()]
    for case_id in sorted(set(wanted) - {case.case_id for case in cases}):
        raise HeldRefused("unknown", f"there is no held reading {case_id} at your properties")
    for case in cases:
        require(actor, "mdm.release", property_id=case.property_id)
        if case.state != "held":
            raise HeldRefused("closed", f"the reading was {case.state} already", case.case_id)
    if not reason.strip() or len(reason) > REASON_MAX or not reason.isprintable():
        raise HeldRefused("no_reason", f"say why, in at most {REASON_MAX} printable characters")
    return cases


def _is_charged(case: _Case) -> bool:
    return case.register_code == ACTIVE_IMPORT


def _batch(cases: Sequence[_Case]) -> ReadingBatch:
    """The readings as they came."""

    def column(values: Iterable[int]) -> npt.NDArray[np.int64]:
        return np.array(list(values), dtype=np.int64)

    return ReadingBatch(
        meter_id=column(case.meter_id for case in cases),
        register_code=column(case.register_code for case in cases),
        read_at_us=column(instant_us(case.read_at) for case in cases),
        value_wh=column(case.value_wh for case in cases),
        source=column(case.source for case in cases),
        received_at_us=column(instant_us(case.received_at) for case in cases),
    )


def _judged(cases: Sequence[_Case], now: datetime) -> list[_Judged]:
    """The cases in their order, each judged after those before it; nothing is written."""
    judged: dict[int, _Judged] = {}
    charged = [case for case in cases if _is_charged(case)]
    if charged:
        foreseen = foresee(batch=_batch(charged), now=now)
        for at, case in enumerate(charged):
            judged[case.case_id] = _Judged(
                case,
                Verdict(int(foreseen.verdict[at])),
                int(foreseen.charged_micro[at]),
                int(foreseen.turn[at]),
            )
    kept = [case for case in cases if not _is_charged(case)]
    if kept:
        said: dict[tuple[int, int, datetime], int] = {}
        verdicts = judge_kept(batch=_batch(kept), now=now).tolist()
        for case, verdict in zip(kept, verdicts, strict=True):
            key = (case.meter_id, case.register_code, case.read_at)
            # Of two values of one instant the first stays.
            contradicts = verdict == Verdict.ACCEPTED and said.setdefault(key, case.value_wh) != case.value_wh  # fmt: skip
            judged[case.case_id] = _Judged(
                case, Verdict.CONFLICT if contradicts else Verdict(verdict)
            )
    return [judged[case.case_id] for case in cases]


def _apply(judged: Sequence[_Judged], now: datetime) -> None:
    """Apply what was judged, turn by turn; a register that nobody is charged by is only kept."""
    turns = sorted({each.turn for each in judged if _is_charged(each.case)})
    for turn in turns:
        together = [each for each in judged if each.turn == turn and _is_charged(each.case)]
        by_hand = [
            each.case
            for each in together
            if each.case.source == ReadingSource.MANUAL and each.verdict is Verdict.ACCEPTED
        ]
        heard = heard_by([case.meter_id for case in by_hand])
        applied = apply_readings(
            batch=_batch([each.case for each in together]), now=now, believed=True
        )
        if applied.verdict.tolist() != [each.verdict for each in together]:
            raise AssertionError("readings were applied otherwise than they were judged")
        for case in by_hand:
            note_read_by_hand([case.meter_id], case.read_at, heard=heard)
    kept = [each.case for each in judged if not _is_charged(each.case)]
    keep_readings(batch=_batch(kept), now=now)


def _close(
    actor: Actor,
    cases: Sequence[_Case],
    state: str,
    reason: str,
    now: datetime,
    verdicts: Sequence[str] = (),
) -> None:
    """Close the cases unless somebody else has closed one: then nothing of ours stays either."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE vee_case SET state = %s, closed_at = %s, closed_by = %s, close_reason = %s
               WHERE case_id = ANY(%s) AND state = 'held'""",
            [state, now, actor.code, reason, [case.case_id for case in cases]],
        )
        if cursor.rowcount != len(cases):
            raise HeldRefused("closed", "somebody else has decided meanwhile")
        cursor.execute(
            "SELECT pg_notify('changed', p::text) FROM unnest(%s::bigint[]) AS p",
            [sorted({case.property_id for case in cases})],
        )
    details: list[dict[str, object]] = [{"verdict": each} for each in verdicts]
    record_many(
        actor=actor.code,
        code=f"mdm.reading.{state}",
        now=now,
        rows=[
            (
                case.property_id,
                f"meter:{case.meter_id}",
                {
                    "case": case.case_id,
                    "value_wh": case.value_wh,
                    "read_at": case.read_at,
                    "reason": reason,
                }
                | detail,
            )
            for case, detail in zip(cases, details or [{}] * len(cases), strict=True)
        ],
    )
