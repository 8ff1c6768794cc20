"""Events that no operation writes: what was refused, and whose personal data somebody looked at.

Both are bounded. A refusal that comes a hundred times in a minute is written twenty times; of the
same person looking at the same thing, the first look of a quarter of an hour is.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db import connection

from prewatt.access.scope import Actor, scope
from prewatt.audit.operations import record
from prewatt.audit.refusals import Heeded

REFUSED: Final = "access.refused"
#: So many refusals of one person are written within `_MINUTE`.
REFUSED_MAX: Final = 20
_MINUTE: Final = timedelta(minutes=1)
#: One look at the same thing by the same person is written within so long.
READ_AGAIN: Final = timedelta(minutes=15)
#: What this process remembers of looks that are written already.
_REMEMBERED_MAX: Final = 20_000


def note_refusals(
    *, actor: Actor, refused: Sequence[Heeded], path: str, method: str, now: datetime
) -> None:
    """Write what was refused to a person, after the transaction of their try is gone."""
    place = actor.property_ids[0]
    with scope(actor):
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT count(*) FROM (
                       SELECT FROM audit_event WHERE property_id = %s AND actor = %s AND code = %s
                         AND happened_at > %s LIMIT %s) AS e""",
                [place, actor.code, REFUSED, now - _MINUTE, REFUSED_MAX],
            )
            (written,) = cursor.fetchone()
        for each in refused[: REFUSED_MAX - written]:
            record(
                actor=actor.code, code=REFUSED, property_id=place, subject=actor.code, now=now,
                what=each.what, why=each.why, path=path[:200], method=method,
            )  # fmt: skip


class Looks:
    """The looks of a process's people, so that a page that is asked for again costs nothing."""

    def __init__(self) -> None:
        self._written: dict[tuple[str, int, str, str], datetime] = {}
        self._lock = threading.Lock()

    def note(self, *, actor: Actor, code: str, subject: str, asked: str, now: datetime) -> bool:
        """Write that a person looked at something, unless that is written; whether it was.

        ``asked`` are the words of a search. Raises what the database raises: who cannot be written
        down is shown nothing.
        """
        place = actor.property_ids[0]
        look = (actor.code, place, code, subject)
        with self._lock:
            last = self._written.get(look)
        if last is not None and last <= now < last + READ_AGAIN:
            return False
        with scope(actor), connection.cursor() as cursor:
            cursor.execute(_LOOK, {
                "place": place, "now": now, "actor": actor.code, "code": code, "subject": subject,
                "detail": json.dumps({"asked": asked} if asked else {}), "since": now - READ_AGAIN,
            })  # fmt: skip
            is_new = bool(cursor.rowcount)
        with self._lock:
            if len(self._written) >= _REMEMBERED_MAX:
                self._written.clear()
            self._written[look] = now
        return is_new


#: Another process of ours may have written it.
_LOOK: Final = """
INSERT INTO audit_event (property_id, happened_at, actor, code, subject, detail)
SELECT %(place)s, %(now)s, %(actor)s, %(code)s, %(subject)s, %(detail)s::jsonb
WHERE NOT EXISTS (
    SELECT FROM audit_event WHERE property_id = %(place)s AND actor = %(actor)s
      AND happened_at > %(since)s AND happened_at <= %(now)s
      AND code = %(code)s AND subject = %(subject)s)
"""
