"""Cash = ledger = meter credit: proved once a night from the rows themselves, and kept with its time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope, system_actor
from prewatt.core.civil_time import LocalCalendar, instant_us, utc_datetime
from prewatt.vending.models import BooksProof
from prewatt.vending.sums import Proof, sums_of

log = logging.getLogger(__name__)

_AFTER: Final = timedelta(hours=2)
"""So long after local midnight a night's proof is due: the day before is posted by then."""


def prove_books(*, actor: Actor, property_ids: Sequence[int], now: datetime) -> list[Proof]:
    """Add the three sums of these properties up, keep them with their time, and return them.

    A difference is kept like any other, and logged as an error. Raises PermissionRefused.
    """
    require(actor, "ledger.prove")
    with scope(actor), connection.cursor() as cursor:
        proofs = sums_of(cursor, property_ids)
        BooksProof.objects.bulk_create(
            BooksProof(
                property_id=each.property_id,
                proved_at=now,
                cash_micro=each.cash_micro,
                ledger_micro=each.ledger_micro,
                meters_micro=each.meters_micro,
                made_by=actor.code,
            )
            for each in proofs
        )
    for each in proofs:
        if not each.holds:
            log.error(
                "property %s: cash %s, ledger %s, meter credit %s are not the same",
                each.property_id, each.cash_micro, each.ledger_micro, each.meters_micro,
            )  # fmt: skip
    return proofs


def prove_due(*, now: datetime) -> list[Proof]:
    """Prove the books of each property whose night has come and that has no proof of it yet."""
    with connection.cursor() as cursor:
        cursor.execute(
            # A proof of a time that has not come would keep every night until then unproved.
            """SELECT p.id, p.time_zone, (SELECT max(b.proved_at) FROM books_proof b
                   WHERE b.property_id = p.id AND b.proved_at <= %s) FROM property p ORDER BY p.id""",
            [now],
        )
        found = cursor.fetchall()
    due = [
        int(place) for place, zone, last in found if last is None or last < _night_before(zone, now)
    ]
    # One after the other: a property's sums hold no row of another back.
    return [
        proof
        for each in due
        for proof in prove_books(actor=system_actor("proof", (each,)), property_ids=[each], now=now)
    ]


def _night_before(zone: str, now: datetime) -> datetime:
    """The last instant that a night's proof was due."""
    calendar = LocalCalendar(zone)
    today = calendar.local_date(instant_us(now))
    starts = (utc_datetime(calendar.start_of_day(today - timedelta(days=n))) for n in (0, 1))
    return next(start + _AFTER for start in starts if start + _AFTER <= now)
