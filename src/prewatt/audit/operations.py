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
    """Append one event; ``subject`` names the object as ``account:17`` or ``meter:4410``."""
    record_many(actor=actor, code=code, now=now, rows=[(property_id, subject, detail)])


def record_many(*, actor: str, code: str, now: datetime, rows: Sequence[AuditRow]) -> None:
    """Append one event per row in a single statement."""
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO audit_event (property_id, happened_at, actor, code, subject, detail)
               SELECT p, %s, %s, %s, s, d
               FROM unnest(%s::bigint[], %s::text[], %s::jsonb[]) AS t(p, s, d)""",
            [
                now,
                actor,
                code,
                [row[0] for row in rows],
                [row[1] for row in rows],
                [json.dumps(dict(row[2]), default=str) for row in rows],
            ],
        )
