"""Cases of tampering: evidence opens one or joins the one that is open, a person looks at it and closes it.

Evidence comes as a set and costs three statements however much there is. The same evidence, delivered again,
is known by its digest and changes nothing, not even after its case was closed; of a flood, what is kept
(`EVIDENCE_KEPT`) is known so. Of the rest only what lies before or after all that is known of the case is counted:
within that time it cannot be told from what came again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from django.db import connection, transaction

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record, record_many
from prewatt.core.civil_time import utc_datetime
from prewatt.core.tampering import EVENTS, POWER_QUALITY, evidence_digest, happened_us
from prewatt.core.vocabulary import CaseState, TamperKind
from prewatt.ledger.operations import lock_accounts
from prewatt.notify.alerts import TAMPER
from prewatt.notify.operations import close_by_hand, raise_alert
from prewatt.runtime.bells import ring
from prewatt.tamper.feeding import Flow, rightful
from prewatt.tamper.models import REASONS
from prewatt.tamper.responses import release_of

#: So much evidence of a case is kept whole; what comes beyond is counted.
EVIDENCE_KEPT: Final = 200
NOTE_MAX: Final = 200
#: And what was found at the meter, each time somebody was there.
FOUND_MAX: Final = 400
_DETAIL_CHARS: Final = 120


class CaseRefused(Exception):
    """The case stays as it is. ``reason`` is `unknown`, `closed`, `no_reason` or `no_note`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for an incident at a meter. ``told`` names it among all evidence of its meter and code.

    ``begins`` is False for what tells that an incident has ended: it opens no case. ``told_us`` is the instant as
    the device said it, None for what was found here; ``received_us`` when it came or was found (µs UTC).
    """

    property_id: int
    meter_id: int
    kind: TamperKind
    source: str
    code: str
    received_us: int
    told_us: int | None = None
    told: str = ""
    begins: bool = True
    #: Over which time before that it was found, where it is no instant.
    over_us: int = 0
    detail: Mapping[str, object] = field(default_factory=dict)

    @property
    def happened_us(self) -> int:
        """When it was, as far as the device can be believed."""
        return happened_us(self.told_us or self.received_us, self.received_us)

    @property
    def digest(self) -> bytes:
        """By which it is known again."""
        told = self.told or str(self.told_us or self.received_us)
        return evidence_digest(meter_id=self.meter_id, kind=self.kind, code=self.code, told=told)


@dataclass(frozen=True, slots=True)
class OpenedCase:
    """A case that evidence has just opened."""

    case_id: int
    property_id: int
    meter_id: int
    account_id: int | None
    kind: TamperKind


def note_evidence(*, found: Sequence[Evidence], by: str, now: datetime) -> list[OpenedCase]:
    """Put evidence to the open cases of its meters and kinds, opening those that are missing.

    Runs in a transaction of its own or the caller's, whose database role sees the properties; returns what was
    opened, each with its alert and its event in the audit. ``by`` is the actor who noted it.
    """
    if not found:
        return []
    # Of a flood, what is the same is one; and cases are locked in one order, whoever writes.
    fresh = {(each.meter_id, each.digest): each for each in found}
    rows = sorted(fresh.values(), key=lambda each: (each.meter_id, each.kind, each.happened_us))
    with transaction.atomic(), connection.cursor() as cursor:
        # As whoever hears devices: what is known of them first, then their cases.
        cursor.execute(
            "SELECT FROM meter_link WHERE meter_id = ANY(%s) ORDER BY meter_id FOR NO KEY UPDATE",
            [sorted({each.meter_id for each in rows})],
        )
        cursor.execute(
            "SELECT meter_id, digest FROM tamper_evidence"
            " WHERE (meter_id, digest) IN (SELECT * FROM unnest(%s::bigint[], %s::bytea[]))",
            [[each.meter_id for each in rows], [each.digest for each in rows]],
        )
        known = {(meter_id, bytes(digest)) for meter_id, digest in cursor.fetchall()}
        rows = [each for each in rows if (each.meter_id, each.digest) not in known]
        rows = _without_feed_in(rows)
        if not rows:
            return []
        cases = _join_cases(rows, now)
        _keep_evidence(rows, cases)
        opened = [each.opened for each in cases.values() if each.is_new]
        if opened:
            _tell(opened, rows, by, now)
        ring("changed", {each.property_id for each in rows})
    return opened


def _without_feed_in(rows: Sequence[Evidence]) -> list[Evidence]:
    """All but energy that flowed backwards where it rightly does."""
    back = [each for each in rows if each.kind is TamperKind.REVERSE_FLOW]
    right = rightful(
        [
            Flow(each.meter_id, utc_datetime(each.happened_us - each.over_us), utc_datetime(each.happened_us))
            for each in back
        ]
    )  # fmt: skip
    explained = {id(back[place]) for place in right}
    return [each for each in rows if id(each) not in explained]


@dataclass(frozen=True, slots=True)
class _Joined:
    opened: OpenedCase
    is_new: bool
    #: How many pieces of evidence the case had before.
    before: int


def _join_cases(rows: Sequence[Evidence], now: datetime) -> dict[tuple[int, TamperKind], _Joined]:
    """The open case of each meter and kind, opened where something that begins an incident is among the rows."""
    with connection.cursor() as cursor:
        cursor.execute(
            _JOIN,
            {
                "now": now,
                "kept": EVIDENCE_KEPT,
                "property": [each.property_id for each in rows],
                "meter": [each.meter_id for each in rows],
                "kind": [int(each.kind) for each in rows],
                "at": [utc_datetime(each.happened_us) for each in rows],
                "begins": [each.begins for each in rows],
            },
        )
        return {
            (meter_id, TamperKind(kind)): _Joined(
                OpenedCase(case_id, place, meter_id, account_id, TamperKind(kind)), is_new, before
            )
            for case_id, place, meter_id, account_id, kind, is_new, before in cursor.fetchall()
        }


#: One row for each meter and kind, in their order. What ends an incident joins a case that is open, or none.
_JOIN: Final = """
WITH given AS (
    SELECT g.property_id, g.meter_id, g.kind, min(g.at) AS first_at, max(g.at) AS last_at,
           count(*) FILTER (WHERE c.id IS NULL OR c.evidence_count < %(kept)s
                            OR g.at NOT BETWEEN c.first_at AND c.last_at) AS n
    FROM unnest(%(property)s::bigint[], %(meter)s::bigint[], %(kind)s::smallint[],
                %(at)s::timestamptz[], %(begins)s::boolean[]) AS g(property_id, meter_id, kind, at, begins)
    LEFT JOIN tamper_case c ON c.meter_id = g.meter_id AND c.kind = g.kind AND c.state <> 3
    GROUP BY g.property_id, g.meter_id, g.kind
    HAVING bool_or(g.begins) OR bool_or(c.id IS NOT NULL))
INSERT INTO tamper_case AS c (property_id, meter_id, account_id, kind, opened_at, first_at, last_at,
                              evidence_count)
SELECT g.property_id, g.meter_id, a.account_id, g.kind, %(now)s, g.first_at, g.last_at, greatest(g.n, 1)
FROM given g
LEFT JOIN LATERAL (
    SELECT w.account_id FROM meter_assignment w
    WHERE w.meter_id = g.meter_id AND w.period @> g.first_at LIMIT 1) a ON true
ORDER BY g.meter_id, g.kind
ON CONFLICT (meter_id, kind) WHERE state <> 3 DO UPDATE
SET first_at = least(c.first_at, excluded.first_at),
    last_at = greatest(c.last_at, excluded.last_at),
    evidence_count = c.evidence_count + (
        SELECT n FROM given g WHERE g.meter_id = c.meter_id AND g.kind = c.kind)
RETURNING c.id, c.property_id, c.meter_id, c.account_id, c.kind, c.xmax = 0,
          c.evidence_count - (SELECT n FROM given g WHERE g.meter_id = c.meter_id AND g.kind = c.kind)
"""


def _keep_evidence(
    rows: Sequence[Evidence], cases: Mapping[tuple[int, TamperKind], _Joined]
) -> None:
    kept: list[tuple[Evidence, int]] = []
    have = {key: each.before for key, each in cases.items()}
    for each in rows:
        key = (each.meter_id, each.kind)
        if key in cases and have[key] < EVIDENCE_KEPT:
            have[key] += 1
            kept.append((each, cases[key].opened.case_id))
    if not kept:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO tamper_evidence (property_id, meter_id, case_id, source, code, happened_at,
                                            told_us, received_at, detail, digest)
               SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[],
                   %s::timestamptz[], %s::bigint[], %s::timestamptz[], %s::jsonb[], %s::bytea[])
               ON CONFLICT (meter_id, digest) DO NOTHING""",
            [
                [each.property_id for each, _ in kept],
                [each.meter_id for each, _ in kept],
                [case_id for _, case_id in kept],
                [each.source for each, _ in kept],
                [each.code for each, _ in kept],
                [utc_datetime(each.happened_us) for each, _ in kept],
                [each.told_us for each, _ in kept],
                [utc_datetime(each.received_us) for each, _ in kept],
                [json.dumps(_short(each.detail), default=str) for each, _ in kept],
                [each.digest for each, _ in kept],
            ],
        )


def _short(detail: Mapping[str, object]) -> dict[str, object]:
    """The detail with texts of a device at a length that a page can show."""
    return {
        name: value[:_DETAIL_CHARS] if isinstance(value, str) else value
        for name, value in detail.items()
    }


def _tell(opened: Sequence[OpenedCase], rows: Sequence[Evidence], by: str, now: datetime) -> None:
    """The alert of each new case, its event in the audit, and its window on the façade."""
    first: dict[tuple[int, TamperKind], Evidence] = {}
    for each in rows:
        if each.begins:
            first.setdefault((each.meter_id, each.kind), each)
    for case in opened:
        evidence = first[case.meter_id, case.kind]
        raise_alert(
            property_id=case.property_id,
            code=TAMPER,
            subject=f"meter:{case.meter_id}",
            detail={
                "event": evidence.code,
                "kind": case.kind.word,
                "case": case.case_id,
                "at_us": evidence.happened_us,
                "received_at_us": evidence.received_us,
            },
            now=now,
        )
    record_many(
        actor=by,
        code="tamper.case.opened",
        now=now,
        rows=[
            (
                each.property_id,
                f"meter:{each.meter_id}",
                {
                    "case": each.case_id,
                    "kind": each.kind.word,
                    "digest": first[each.meter_id, each.kind].digest.hex(),
                },
            )
            for each in opened
        ],
    )
    _mark_tampered([each for each in opened if each.kind not in POWER_QUALITY], now)


def _mark_tampered(opened: Sequence[OpenedCase], now: datetime) -> None:
    if not opened:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE meter_link SET tamper_since = coalesce(tamper_since, %s)
               WHERE meter_id = ANY(%s)""",
            [now, sorted({each.meter_id for each in opened})],
        )


def look_at_case(*, actor: Actor, case_id: int, now: datetime) -> None:
    """Say that somebody is at it. Raises CaseRefused `unknown`, `closed`, PermissionRefused."""
    require(actor, "tamper.close")
    with scope(actor):
        property_id, meter_id, state, kind = _locked(actor, case_id)
        if state is CaseState.LOOKED_AT:
            return
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE tamper_case SET state = %s, looked_by = %s, looked_at = %s WHERE id = %s",
                [int(CaseState.LOOKED_AT), actor.code, now, case_id],
            )
        record(
            actor=actor.code, code="tamper.case.looked_at", property_id=property_id,
            subject=f"meter:{meter_id}", now=now, case=case_id, kind=kind.word,
        )  # fmt: skip
        ring("changed", [property_id])


def note_finding(*, actor: Actor, case_id: int, text: str, now: datetime) -> None:
    """Write down what was found at the meter of an open case; it stays as it is written.

    Raises CaseRefused `unknown`, `closed`, `no_note`, PermissionRefused.
    """
    require(actor, "tamper.note")
    text = text.strip()
    with scope(actor, deed="tamper.note"):
        property_id, meter_id, _state, kind = _locked(actor, case_id, "tamper.note")
        if not text or len(text) > FOUND_MAX or not text.isprintable():
            raise CaseRefused("no_note")
        with connection.cursor() as cursor:
            cursor.execute(
                """INSERT INTO tamper_note (property_id, case_id, noted_at, noted_by, text)
                   VALUES (%s, %s, %s, %s, %s)""",
                [property_id, case_id, now, actor.code, text],
            )
        record(
            actor=actor.code, code="tamper.case.noted", property_id=property_id,
            subject=f"meter:{meter_id}", now=now, case=case_id, kind=kind.word, note=text,
        )  # fmt: skip
        ring("changed", [property_id])


def close_case(*, actor: Actor, case_id: int, reason: str, note: str, now: datetime) -> None:
    """Close a case with why, for ever; its alert ends with the last open case of its meter.

    Raises CaseRefused, PermissionRefused.
    """
    require(actor, "tamper.close")
    note = note.strip()
    with scope(actor):
        account_id = _lock_account_of(case_id)
        property_id, meter_id, _state, kind = _locked(actor, case_id)
        if reason not in REASONS:
            raise CaseRefused("no_reason")
        if not note or len(note) > NOTE_MAX or not note.isprintable():
            raise CaseRefused("no_note")
        with connection.cursor() as cursor:
            cursor.execute(
                """UPDATE tamper_case SET state = %s, closed_by = %s, closed_at = greatest(%s, opened_at),
                       close_reason = %s, close_note = %s WHERE id = %s""",
                [int(CaseState.CLOSED), actor.code, now, reason, note, case_id],
            )
        record(
            actor=actor.code, code="tamper.case.closed", property_id=property_id,
            subject=f"meter:{meter_id}", now=now, case=case_id, kind=kind.word, reason=reason,
            note=note,
        )  # fmt: skip
        _end_alert(actor, property_id, meter_id, note, now)
        if account_id is not None and release_of(account_id, now):
            ring("supply_due", [property_id])
        ring("changed", [property_id])


def _lock_account_of(case_id: int) -> int | None:
    """The account of a case, locked before the case is: closing it may give its supply back."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT account_id FROM tamper_case WHERE id = %s", [case_id])
        row = cursor.fetchone()
    if row is None or row[0] is None:
        return None
    lock_accounts([row[0]])
    return int(row[0])


def _locked(
    actor: Actor, case_id: int, permission: str = "tamper.close"
) -> tuple[int, int, CaseState, TamperKind]:
    """Property, meter, state and kind of an open case of the actor's, locked."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT property_id, meter_id, state, kind FROM tamper_case WHERE id = %s FOR UPDATE",
            [case_id],
        )
        row = cursor.fetchone()
    if row is None:
        raise CaseRefused("unknown")
    require(actor, permission, property_id=row[0])
    if row[2] == CaseState.CLOSED:
        raise CaseRefused("closed")
    return row[0], row[1], CaseState(row[2]), TamperKind(row[3])


def _end_alert(actor: Actor, property_id: int, meter_id: int, note: str, now: datetime) -> None:
    """Close the meter's alert in the person's name, if no case of it is open any more."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT id FROM alert
               WHERE property_id = %s AND code = %s AND subject = %s AND closed_at IS NULL
                 AND NOT EXISTS (SELECT FROM tamper_case WHERE meter_id = %s AND state <> 3)
               FOR UPDATE""",
            [property_id, TAMPER, f"meter:{meter_id}", meter_id],
        )
        row = cursor.fetchone()
    if row is not None:
        close_by_hand(actor=actor, alert_id=row[0], note=note, now=now)


def of_event(
    *, property_id: int, meter_id: int, code: str, told_us: int, received_us: int, detail: str = ""
) -> Evidence | None:
    """The evidence that a meter's event is; None for one that is not about tampering or power."""
    meaning = EVENTS.get(code)
    if meaning is None:
        return None
    return Evidence(
        property_id, meter_id, meaning.kind, "event", code, received_us, told_us,
        begins=meaning.begins, detail={"said": detail} if detail else {},
    )  # fmt: skip
