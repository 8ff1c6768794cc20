"""What the worker does for billing: posting finished days, and rating anew what has to be."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.db import connection

from prewatt.access.scope import Actor, scope, system_actor
from prewatt.billing.daily import due_accounts
from prewatt.billing.ingestion import apply_held
from prewatt.billing.operations import post_usage
from prewatt.billing.rebates import settle_events
from prewatt.billing.rerating import rerate_requested
from prewatt.billing.unpriced import properties_with_held
from prewatt.notify.alerts import HELD_FAILED, POSTING_FAILED
from prewatt.notify.tries import Tries

#: Readings of a day may arrive this long after its end and still be in its posting.
GRACE = timedelta(minutes=20)
#: A chunk is half PostgreSQL's time and half ours, so that two of them at once use both.
POSTING_LANES = 2


def post_finished_days(*, now: datetime) -> int:
    """Post, in every property, what was used before its last local midnight but a grace ago, and
    what fell due by days up to it.

    Returns how many accounts were posted; a second run finds nothing. Supply looks at them in the
    same transaction: a day that begins lowers the balance, and posting moves the average per day,
    and with it the levels that count in days. A property whose posting fails gets an alert, and
    stops no other.
    """
    actor = system_actor("posting")
    with scope(actor), connection.cursor() as cursor:
        cursor.execute("SELECT id, time_zone FROM property ORDER BY id")
        places = cursor.fetchall()
    posted, tries = 0, Tries(actor, POSTING_FAILED, now)
    for property_id, time_zone in places:
        with tries.at(property_id):
            posted += _post_days(actor, property_id, time_zone, now)
    tries.end()
    return posted


def _post_days(actor: Actor, property_id: int, time_zone: str, now: datetime) -> int:
    """What is due in one property; returns how many accounts were posted."""
    local = (now - GRACE).astimezone(ZoneInfo(time_zone))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    accounts = _due(property_id, midnight)
    if not accounts:
        return 0
    return post_usage(
        actor=actor, now=now, until=midnight, cause="posting.daily", account_ids=accounts,
        supply_looks=True, lanes=POSTING_LANES,
    ).accounts  # fmt: skip


def rate_anew(*, now: datetime) -> int:
    """Rate anew the accounts that wait for it; returns how many of them had been charged otherwise."""
    return len(rerate_requested(actor=system_actor("rerating"), now=now))


def settle_peaks(*, now: datetime) -> int:
    """Pay or correct rebates of announced peaks that are due; returns how many."""
    return settle_events(actor=system_actor("rebates"), now=now)


def rate_held_readings(*, now: datetime) -> int:
    """Rate readings that were held because their account had no tariff, where it has one now.

    Each property by itself: one whose readings fail gets an alert, and stops no other.
    """
    actor = system_actor("readings")
    with scope(actor):
        places = properties_with_held()
    rated, tries = 0, Tries(actor, HELD_FAILED, now)
    for property_id in places:
        with tries.at(property_id), scope(actor):
            rated += apply_held(property_id=property_id, now=now)
    tries.end()
    return rated


def _due(property_id: int, until: datetime) -> list[int]:
    """Accounts of a property with usage or days to post."""
    by_days = due_accounts(actor=system_actor("posting"), until=until, property_id=property_id)
    return sorted({*by_days, *_unposted(property_id, until)})


def _unposted(property_id: int, until: datetime) -> list[int]:
    """Accounts with an interval before ``until`` that no posting covers."""
    with scope(system_actor("posting")), connection.cursor() as cursor:
        cursor.execute(
            """SELECT s.account_id FROM account a JOIN account_state s ON s.account_id = a.id
               WHERE a.property_id = %s AND s.interval_no > s.posted_interval_no
                 AND EXISTS (SELECT FROM interval i WHERE i.account_id = s.account_id
                             AND i.interval_no = s.posted_interval_no + 1 AND i.to_at <= %s)
               ORDER BY s.account_id""",
            [property_id, until],
        )
        return [int(row[0]) for row in cursor.fetchall()]
