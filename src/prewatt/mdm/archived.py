"""What may still be corrected although months of intervals have left the database (``archive``)."""

from __future__ import annotations

from django.db import connection


def correctable_from_us() -> int:
    """The earliest instant that can be rated anew, in µs since the Unix epoch.

    Before it intervals are archived, or some that it is counted with are. As long as nothing is, it
    lies before every instant. It holds until the caller's transaction ends.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT CASE WHEN isfinite(c) THEN (extract(epoch FROM c) * 1000000)::bigint
                           WHEN c > 'epoch' THEN 9223372036854775807
                           ELSE -9223372036854775808 END
               FROM correctable_from() AS c"""
        )
        return int(cursor.fetchone()[0])
