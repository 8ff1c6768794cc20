"""What may still be corrected although months of intervals have left the database (``archive``)."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection


def correctable_from_us(account_id: int | None = None) -> int:
    """The earliest instant that can be rated anew, in µs since the Unix epoch.

    Before it intervals are archived, or some that it is counted with are. As long as nothing is, it
    lies before every instant; for one of `archived_purchasers` after every one. It holds until the
    caller's transaction ends.
    """
    if account_id is not None and archived_purchasers([account_id]):
        return 2**63 - 1
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT CASE WHEN isfinite(c) THEN (extract(epoch FROM c) * 1000000)::bigint
                           WHEN c > 'epoch' THEN 9223372036854775807
                           ELSE -9223372036854775808 END
               FROM correctable_from() AS c"""
        )
        return int(cursor.fetchone()[0])


def archived_purchasers(account_ids: Sequence[int]) -> set[int]:
    """Those of the accounts that cannot be rated anew at all: they count from purchase to purchase,
    and some of what they count is archived.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT archived_purchasers(%s)", [list(account_ids)])
        return {int(row[0]) for row in cursor.fetchall()}
