"""Which accounts have to be rated anew from when on; whoever finds out asks here, in its transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db import connection

#: Why an account is rated anew; stored, never renamed.
LATE_READING = "late_reading"
EDITED_READING = "edited_reading"
LATE_MOVE = "late_move"
TERMS = "terms"
PRICES = "prices"


def request_rerating(*, from_at: Mapping[int, datetime], reason: str, now: datetime) -> None:
    """Ask for accounts to be rated anew, each from its own instant on.

    An account that waits already keeps its reason and goes back to the earlier instant. One that
    has no interval that ends after its instant, nor a day that was charged since, has nothing to
    rate anew and is left out.
    """
    if not from_at:
        return
    accounts = sorted(from_at)
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO rerate_request (property_id, account_id, from_at, reason, requested_at)
               SELECT s.property_id, s.account_id, v.from_at, %s, %s
               FROM unnest(%s::bigint[], %s::timestamptz[]) AS v(account_id, from_at)
               JOIN account_state s USING (account_id)
               WHERE (s.last_interval_at > v.from_at
                      OR s.daily_through >= floor(extract(epoch FROM v.from_at) / 86400))
               ON CONFLICT (account_id) WHERE done_at IS NULL
               DO UPDATE SET from_at = least(rerate_request.from_at, excluded.from_at)""",
            [reason, now, accounts, [from_at[each] for each in accounts]],
        )
