"""What others ask of cases, inside the caller's scope."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection


def open_cases_of(meter_ids: Sequence[int]) -> dict[int, list[int]]:
    """The open cases of each of the meters that has any, the oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT meter_id, id FROM tamper_case WHERE meter_id = ANY(%s) AND state <> 3
               ORDER BY meter_id, opened_at, id""",
            [list(meter_ids)],
        )
        found: dict[int, list[int]] = {}
        for meter_id, case_id in cursor.fetchall():
            found.setdefault(meter_id, []).append(case_id)
    return found
