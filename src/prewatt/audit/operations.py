"""Writes audit events. Called by every operation, inside its own transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from django.db import connection

#: (property_id, subject, detail) of one event of a set.
AuditRow = tuple[int, str, Mapping[str, object]]


def record(
    *, actor: str, code: str, property_id: int, subject: str, now: datetime, **detail: object
) -> None:
    """Append one event; ``subject`` names the object as ``account:17`` or ``meter:4410``.

    A change says ``before`` and ``after``, a decision its ``reason``, and what a proposal brought
    about its ``proposal``: the auditor's pages show them by these names.
    """
    record_many(actor=actor, code=code, now=now, rows=[(property_id, subject, detail)])


def record_many(*, actor: str, code: str, now: datetime, rows: Sequence[AuditRow]) -> None:
    """Append one event per row in a single statement."""
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO audit_event (property_id, happened_at, actor, code, subject, detail,
                                        proposal_id)
               SELECT p, %s, %s, %s, s, d, o
               FROM unnest(%s::bigint[], %s::text[], %s::jsonb[], %s::bigint[]) AS t(p, s, d, o)""",
            [
                now,
                actor,
                code,
                [row[0] for row in rows],
                [row[1] for row in rows],
                [json.dumps(dict(row[2]), default=str) for row in rows],
                [_proposal_of(row) for row in rows],
            ],
        )


def _proposal_of(row: AuditRow) -> int | None:
    """The proposal that an event is about, or that brought it about."""
    _, subject, detail = row
    kind, _, number = subject.partition(":")
    if kind == "proposal" and number.isdigit():
        return int(number)
    named = detail.get("proposal")
    return named if isinstance(named, int) else None
