"""Misses a guard that was taken off: a trigger of our tables that is gone or switched off.

Who owns the tables can do that, and nothing inside the database can keep them from it. So the worker
compares each minute what stands with what ought to, day by day anew as long as it is so. Where the
owner is a superuser the command itself is noted besides (``sql/0002_letters.sql``), with who gave it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import Final

from django.db import connection

from prewatt.access.scope import scope, system_actor
from prewatt.audit.operations import record_many
from prewatt.notify.alerts import PAST_PROGRAM
from prewatt.notify.operations import raise_alert

_WORKER: Final = system_actor("oversight")
MISSING: Final = "oversight.guard.missing"


def tell_of_missing_guards(*, expected: Collection[tuple[str, str]], now: datetime) -> int:
    """Say of each property's guards that are missing, once a day; returns how much was said that is new.

    ``expected`` are the triggers that ought to stand, as (table, trigger). Of others that stand it is only
    asked whether they are switched off.
    """
    with scope(_WORKER):
        off = _missing(expected)
        if not off:
            return 0
        said = _found(off, now)
        record_many(
            actor=_WORKER.code, code=MISSING, now=now,
            rows=[(place, f"table:{table}", {"guard": guard}) for place, table, guard in said],
        )  # fmt: skip
        for place in sorted({place for place, _, _ in said}):
            raise_alert(
                property_id=place, code=PAST_PROGRAM, subject=f"property:{place}",
                detail={"changes": sum(each[0] == place for each in said)}, now=now,
            )  # fmt: skip
    return len(said)


def _missing(expected: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(_MISSING, [[each[0] for each in expected], [each[1] for each in expected]])
        return [(table, guard) for table, guard in cursor.fetchall()]


#: Triggers that keep keys of other tables carry numbers for names, and one word says them all. Those of the
#: whole database stand only where its owner may make them.
_MISSING: Final = """
WITH standing AS (
    SELECT c.relname::text AS at, CASE WHEN t.tgisinternal THEN 'keys' ELSE t.tgname::text END AS guard,
           t.tgenabled IN ('O', 'A') AS is_on
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'public'::regnamespace)
SELECT DISTINCT at, guard FROM standing WHERE NOT is_on
UNION
SELECT e.at, e.guard FROM unnest(%s::text[], %s::text[]) AS e(at, guard)
WHERE NOT EXISTS (SELECT FROM standing s WHERE s.at = e.at AND s.guard = e.guard)
UNION
SELECT 'database', n.name FROM (VALUES ('noted_commands'), ('noted_drops')) AS n(name)
WHERE (SELECT r.rolsuper FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
       WHERE c.oid = 'public.audit_event'::regclass)
  AND NOT EXISTS (SELECT FROM pg_event_trigger v WHERE v.evtname = n.name AND v.evtenabled IN ('O', 'A'))
ORDER BY 1, 2
"""


def _found(off: list[tuple[str, str]], now: datetime) -> list[tuple[int, str, str]]:
    """(property, table, guard) of what is a finding of today only now, at each property that is watched."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO watch_finding (property_id, watch_id, key, actor, subject, happened_at, found_at,
                                          detail)
               SELECT w.property_id, w.id, left(concat_ws(':', 'guard', o.at, o.guard, %(day)s), 120),
                      %(actor)s, left('table:' || o.at, 80), %(now)s, %(now)s, %(detail)s::jsonb
                      || jsonb_build_object('guard', o.guard)
               FROM unnest(%(tables)s::text[], %(guards)s::text[]) AS o(at, guard)
               CROSS JOIN (SELECT DISTINCT ON (property_id) property_id, id FROM audit_watch
                           WHERE kind = 'past_program' ORDER BY property_id, is_on DESC, id) AS w
               ON CONFLICT DO NOTHING
               RETURNING property_id, substr(subject, 7), detail ->> 'guard'""",
            {
                "day": str(now.date()), "actor": _WORKER.code, "now": now,
                "detail": json.dumps({"operation": "guard"}),
                "tables": [each[0] for each in off], "guards": [each[1] for each in off],
            },
        )  # fmt: skip
        return [(place, table, guard) for place, table, guard in cursor.fetchall()]
