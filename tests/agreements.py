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
def agreed(
    kind: str, property_id: int, subject: str, effect: Mapping[str, Any], made_by: str = "user:901"
) -> Iterator[None]:
    """Inside it is agreed to; it has to be done inside, too."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                """INSERT INTO proposal (property_id, kind, subject, effect, digest, reason, made_by,
                       made_at, expires_at, state, amount, needed, ended_by, ended_at, answer, agreed_in)
                   VALUES (%s, %s, %s, %s, 'd', 'r', %s, now(), now() + interval '1 day',
                           'approved', 0, 1, 'user:902', now(), '', pg_current_xact_id()::text::bigint)""",
                [property_id, kind, subject, json.dumps(dict(effect)), made_by],
            )
        yield


@contextmanager
def agreed_if_done(
    kind: str, property_id: int, subject: str, effect: Mapping[str, Any]
) -> Iterator[None]:
    """The same, for what may do nothing: a second press of the same deed."""
    with agreed(kind, property_id, subject, effect):
        yield
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('role', 'none', true)")
            cursor.execute(
                """UPDATE proposal SET done_at = now()
                   WHERE done_at IS NULL AND agreed_in = pg_current_xact_id()::text::bigint"""
            )


@contextmanager
def taking_back_agreed(event_id: int, to_account_id: int | None = None) -> Iterator[None]:
    """Inside others have agreed that this recharge is taken back, by what the property does at this moment.

    Whoever is no owner of the tables can say nothing of the kind, and goes without.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT has_table_privilege('proposal', 'INSERT')")
        if cursor.fetchone() == (False,):
            yield
            return
        cursor.execute(
            """SELECT p.property_id, p.account_id, p.amount_micro,
                      coalesce(CASE WHEN %s THEN d.moved_credit ELSE d.reversed_payment END, 'debt')
               FROM payment p LEFT JOIN debt_policy d ON d.property_id = p.property_id
               WHERE p.event_id = %s""",
            [to_account_id is not None, event_id],
        )
        found = cursor.fetchone()
    if found is None:
        yield
        return
    place, account, amount, missing = found
    kind = "vending.reversal" if to_account_id is None else "vending.move"
    effect = {"account": account, "amount": amount, "to": to_account_id, "missing": missing}
    with agreed_if_done(kind, place, f"recharge:{event_id}", effect):
        yield
