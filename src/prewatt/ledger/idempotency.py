"""One key, one deed, for ever (invariant 4): a repeat gets the stored answer, another body is refused.

For deeds that are asked for one at a time; a set of recharges keeps its keys in one statement of
its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime

from django.db import IntegrityError, connection, transaction

from prewatt.access.scope import Actor
from prewatt.ledger.operations import KeyReused

KEY_MAX = 120


def stored_answer(
    *, actor: Actor, key: str | None, body: Mapping[str, object]
) -> dict[str, object] | None:
    """The answer given to this key before, or None; other users of the key wait for our commit.

    A deed without a key is new each time: no form asks for it, so nobody presses twice. Raises
    KeyReused when the key stands for something else, or is empty or too long.
    """
    if key is None:
        return None
    if not 1 <= len(key) <= KEY_MAX:
        raise KeyReused(f"an idempotency key has 1 to {KEY_MAX} characters")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s || chr(10) || %s, 0))",
            [actor.code, key],
        )
        cursor.execute(
            "SELECT body_hash, answer FROM idempotency WHERE caller = %s AND key = %s",
            [actor.code, key],
        )
        row = cursor.fetchone()
    if row is None:
        return None
    if bytes(row[0]) != body_hash(body):
        raise KeyReused("this key already stands for something else; use a new one")
    answer = json.loads(row[1]) if isinstance(row[1], str) else row[1]
    return dict(answer)


def store_answer(
    *,
    actor: Actor,
    key: str | None,
    body: Mapping[str, object],
    account_id: int,
    property_id: int,
    answer: Mapping[str, object],
    now: datetime,
) -> None:
    """Keep the answer in the transaction of the deed; ``account_id`` 0: it is the property's.

    Raises KeyReused for a key that the caller used at another property, whose rows are not in scope
    here: the database knows it although we cannot see it.
    """
    if key is None:
        return
    stored = json.dumps(dict(answer))
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                """INSERT INTO idempotency (caller, key, body_hash, account_id, property_id, answer,
                       created_at) VALUES (%s, %s, %s, %s, %s, %s, %s)""",
                [actor.code, key, body_hash(body), account_id, property_id, stored, now],
            )
    except IntegrityError as error:
        raise KeyReused("this key already stands for something else; use a new one") from error


def body_hash(body: Mapping[str, object]) -> bytes:
    """SHA-256 of what was asked for, in a canonical form."""
    return hashlib.sha256(json.dumps(dict(body), sort_keys=True, default=str).encode()).digest()
