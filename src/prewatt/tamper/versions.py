"""Versions of firmware and configuration, as devices tell them: each with since when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from django.db import connection

from prewatt.audit.operations import record_many

#: (property, meter, firmware or configuration, version, when it was told)
Told = tuple[int, int, str, str, datetime]
#: So often a part's version may change within a day; a device that swaps them all the time fills no table.
CHANGES_MAX: Final = 20


def keep_versions(told: Sequence[Told]) -> int:
    """Keep each version that is not the last one of its meter's part; in the caller's transaction.

    Returns how many were kept. A change, not the first version, is an event of the audit.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _KEEP,
            [*(list(each) for each in zip(*told, strict=True)), CHANGES_MAX],
        )
        kept = cursor.fetchall()
    changed = [row for row in kept if row[3] is not None]
    if changed:
        record_many(
            actor="system:head_end", code="mdm.version.changed", now=max(row[4] for row in told),
            rows=[
                (place, f"meter:{meter}", {"part": part, "before": before, "after": version})
                for place, meter, part, before, version in changed
            ],
        )  # fmt: skip
    return len(kept)


_KEEP: Final = """
WITH told AS (
    SELECT DISTINCT ON (t.meter_id, t.part) t.*,
           (SELECT v.version FROM meter_version v WHERE v.meter_id = t.meter_id AND v.part = t.part
            ORDER BY v.since DESC, v.id DESC LIMIT 1) AS before
    FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::timestamptz[])
         AS t(property_id, meter_id, part, version, since)
    ORDER BY t.meter_id, t.part, t.since DESC),
kept AS (
    INSERT INTO meter_version (property_id, meter_id, part, version, since)
    SELECT property_id, meter_id, part, version, since FROM told
    WHERE version IS DISTINCT FROM before
      AND (SELECT count(*) FROM meter_version v WHERE v.meter_id = told.meter_id
           AND v.part = told.part AND v.since > told.since - interval '1 day') < %s
    RETURNING meter_id, part)
SELECT told.property_id, told.meter_id, told.part, told.before, told.version
FROM told JOIN kept USING (meter_id, part)
"""
