"""Bells: NOTIFY that there is something to look at, rung once what was written is committed.

PostgreSQL lets only one transaction at a time commit that notifies anybody, until its commit is on disk, so
writers of disjoint accounts would wait for one another's disk. A bell therefore rings in a transaction of its
own after the one that it tells of, and waits for no disk: nothing of it need survive. The tables are the truth, and
whoever listens looks at them now and then even if nothing rings.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connection, transaction


def ring(channel: str, property_ids: Iterable[int]) -> None:
    """Ring for each of these properties once the caller's transaction has committed, and never if it does not.

    A bell that cannot ring is logged and fails nobody: what it tells of stands.
    """
    places = sorted(set(property_ids))

    def once_committed() -> None:
        _ring(channel, places)

    if places:
        transaction.on_commit(once_committed, robust=True)


def place_rung(text: str) -> int | None:
    """The property that a heard bell names; None for what is no bell of ours.

    Any login of the database may notify, and with any text; nobody who listens may fall over it.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _ring(channel: str, property_ids: list[int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s::text, p::text)
               FROM unnest(%s::bigint[]) AS p""",
            [channel, property_ids],
        )
