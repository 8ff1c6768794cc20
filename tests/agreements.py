"""What others agreed to, for tests of what comes after: written by the database's owner, in one transaction.

That people really have to agree is tried in `tests/approvals`, where nothing of this is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction


@contextmanager
def agreed(kind: str, property_id: int, subject: str, effect: Mapping[str, Any]) -> Iterator[None]:
    """Inside it is agreed to; it has to be done inside, too."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                """INSERT INTO proposal (property_id, kind, subject, effect, digest, reason, made_by,
                       made_at, expires_at, state, amount, needed, ended_by, ended_at, answer, agreed_in)
                   VALUES (%s, %s, %s, %s, 'd', 'r', 'user:901', now(), now() + interval '1 day',
                           'approved', 0, 1, 'user:902', now(), '', pg_current_xact_id()::text::bigint)""",
                [property_id, kind, subject, json.dumps(dict(effect))],
            )
        yield
