"""A key that signs changed at the machine, as the owner of the database: by a mandate, or alone and loudly.

The store is a file that no transaction reaches, so it is changed last: what is used up and written is
committed only once the file has changed, and a file that cannot be changed leaves all of it undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import connection, transaction

from prewatt.audit.operations import record_many
from prewatt.mandates.models import Mandate
from prewatt.mandates.operations import KEY, KeyDeed, MandateRefused


def has_administrators() -> bool:
    """Whether this installation has anybody who could agree to something."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT EXISTS (
                   SELECT FROM duty_grant g JOIN app_user u ON u.id = g.user_id AND u.is_active
                   WHERE g.duty = 'administrator' AND g.ended_at IS NULL)"""
        )
        return bool(cursor.fetchone()[0])


def owns_tables() -> bool:
    """Whether this login is the database's owner: it needs nobody's agreement, and sees every property."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('mandate')"
        )
        found = cursor.fetchone()
    return bool(found and found[0])


def use_key_mandate(*, proposal_id: int, wanted: KeyDeed, now: datetime) -> Mandate:
    """Use up what was agreed on for a key, in the caller's transaction. Raises MandateRefused."""
    with transaction.atomic():
        found = (
            Mandate.objects.select_for_update()
            .filter(proposal_id=proposal_id, kind=KEY, uses_left__gt=0, expires_at__gt=now)
            .first()
        )
        if found is None:
            raise MandateRefused("gone")
        if found.subject != wanted.subject or found.effect["do"] != wanted.deed:
            raise MandateRefused("other")
        found.uses_left, found.used_at = 0, now
        found.save(update_fields=["uses_left", "used_at"])
    return found


def note_key(*, by: str, code: str, subject: str, now: datetime, **detail: object) -> Sequence[int]:
    """Write what was done to a key into the audit of every property, for it signs for all; returns them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM property ORDER BY id")
        places = [int(row[0]) for row in cursor.fetchall()]
    record_many(actor=by, code=code, now=now, rows=[(each, subject, detail) for each in places])
    return places
