"""Holds the file of signing keys against the audit's last word of it.

`prewatt keys` writes the file's digest into the event of each change. Whoever keeps the machine can change the file
past the command; the worker, where it is told which file that is, then says so at every property: an event with
the digest that it found, and an alert that only a person ends. The same content is told of once.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Final

from django.db import connection

from prewatt.access.scope import scope, system_actor
from prewatt.audit.operations import record_many
from prewatt.notify.alerts import PAST_PROGRAM
from prewatt.notify.operations import raise_alert

CHANGED: Final = "signing.file_changed"
_WORKER: Final = system_actor("oversight")


def digest_of_file(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal; empty where there is no file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def tell_of_changed_keys(*, path: Path, now: datetime) -> int:
    """Say at each property whose audit knows another file of keys; returns at how many. Raises OSError."""
    found = digest_of_file(path)
    with scope(_WORKER), connection.cursor() as cursor:
        cursor.execute(_LAST_WORDS)
        places = [place for place, last in cursor.fetchall() if last != found]
        record_many(
            actor=_WORKER.code, code=CHANGED, now=now,
            rows=[(place, "keys:all", {"file": found}) for place in places],
        )  # fmt: skip
        for place in places:
            raise_alert(
                property_id=place, code=PAST_PROGRAM, subject=f"property:{place}",
                detail={"changes": 1}, now=now,
            )  # fmt: skip
    return len(places)


#: (property, digest) of the last event about keys that says one, at each property that has any.
_LAST_WORDS: Final = """
SELECT p.id, last.file FROM property p CROSS JOIN LATERAL (
    SELECT e.detail ->> 'file' AS file FROM audit_event e
    WHERE e.property_id = p.id AND e.code IN (
        'signing.key_made', 'signing.key_rotated', 'signing.key_revoked', 'signing.keys_resealed',
        'signing.file_changed') AND e.detail ? 'file'
    ORDER BY e.id DESC LIMIT 1) AS last
ORDER BY p.id
"""
