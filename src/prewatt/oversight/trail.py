"""Events that no operation writes: what was refused, and whose personal data somebody looked at.

Both are bounded. A refusal that comes a hundred times in a minute is written twenty times; of the
same person looking at the same thing, the first look of a quarter of an hour is.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db import connection, transaction

from prewatt.access import throttle
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, scope
from prewatt.audit.context import origin
from prewatt.audit.operations import record
from prewatt.audit.refusals import Heeded

REFUSED: Final = "access.refused"
#: Whose database roles read of a property what they need, and not its audit.
NARROW: Final = frozenset({Duty.OWNER, Duty.TENANT, Duty.INSTALLER})
#: From so many refused tries of a network within an hour on, the sign-in is an event.
SIGN_INS_MAX: Final = 10
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
    if actor.duty in NARROW:
        for each in refused:
            said = {"what": each.what, "why": each.why, "path": path[:200], "method": method}
            _note_narrow(actor, REFUSED, actor.code, said, now, now - _MINUTE, REFUSED_MAX)
        return
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
        if actor.duty in NARROW:
            said = {"asked": asked} if asked else {}
            is_new = _note_narrow(actor, code, subject, said, now, now - READ_AGAIN, 1)
            return self._remember(look, now, is_new=is_new)
        with scope(actor), connection.cursor() as cursor:
            cursor.execute(_LOOK, {
                "place": place, "now": now, "actor": actor.code, "code": code, "subject": subject,
                "detail": json.dumps({"asked": asked} if asked else {}), "since": now - READ_AGAIN,
            })  # fmt: skip
            is_new = bool(cursor.rowcount)
        return self._remember(look, now, is_new=is_new)

    def _remember(self, look: tuple[str, int, str, str], now: datetime, *, is_new: bool) -> bool:
        with self._lock:
            if len(self._written) >= _REMEMBERED_MAX:
                self._written.clear()
            self._written[look] = now
        return is_new


def note_refused_sign_in(*, network: str, now: datetime) -> None:
    """Count one more try to sign in that was refused, and say so where a network had many within an hour.

    Nobody is known yet, so it is an event of every property: the first in an hour of each network.
    """
    tries = throttle.count_refused(network=network, now=now)
    if tries != SIGN_INS_MAX:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('prewatt.request', %s, true)", [origin().words("")])
        cursor.execute("SELECT note_sign_ins(%s, %s, %s)", [network, tries, now])


def _note_narrow(
    actor: Actor, code: str, subject: str, said: Mapping[str, str], now: datetime,
    since: datetime, most: int,
) -> bool:  # fmt: skip
    """One event of somebody whose database role may not read what bounds them, by a function that does."""
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            "SELECT note_of_narrow(%s, %s, %s, %s, %s::jsonb, %s, %s, %s)",
            [actor.property_ids[0], actor.code, code, subject, json.dumps(dict(said)), now, since,
             most],
        )  # fmt: skip
        return bool(cursor.fetchone()[0])


#: Another process of ours may have written it.
_LOOK: Final = """
INSERT INTO audit_event (property_id, happened_at, actor, code, subject, detail)
SELECT %(place)s, %(now)s, %(actor)s, %(code)s, %(subject)s, %(detail)s::jsonb
WHERE NOT EXISTS (
    SELECT FROM audit_event WHERE property_id = %(place)s AND actor = %(actor)s
      AND happened_at > %(since)s AND happened_at <= %(now)s
      AND code = %(code)s AND subject = %(subject)s)
"""
