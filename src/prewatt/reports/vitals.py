"""The vital signs of an installation: what waits, stands, is held or has fallen behind.

Counts only, over all properties, for those who watch over the machines; nothing of people.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.core.vocabulary import OrderState


@dataclass(frozen=True, slots=True)
class Vitals:
    """How it stands now; ages in seconds, 0 where nothing waits."""

    held_readings: int
    rejected_frames: int
    open_alerts: dict[str, int]
    live_orders: dict[str, int]
    oldest_order_s: float
    waiting_messages: int
    oldest_message_s: float
    silent_meters: int
    accounts: int
    partitions_until_s: float


#: A meter that was not heard for so long is silent.
SILENT_FOR_S = 2 * 3600


def vitals(*, actor: Actor, now: datetime) -> Vitals:
    """Ask the database; a handful of small counts. Raises PermissionRefused."""
    require(actor, "vitals.read")
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(_COUNTS, {"now": now, "silent_for_s": SILENT_FOR_S})
        row = cursor.fetchone()
        cursor.execute("SELECT code, count(*) FROM alert WHERE closed_at IS NULL GROUP BY code")
        alerts = {str(code): int(count) for code, count in cursor.fetchall()}
        cursor.execute(
            "SELECT state, count(*) FROM supply_order WHERE state IN (1, 2, 3) GROUP BY state"
        )
        orders = {OrderState(state).word: int(count) for state, count in cursor.fetchall()}
        cursor.execute(_LAST_PARTITION)
        (until,) = cursor.fetchone()
    held, rejected, order_s, waiting, message_s, silent, accounts = row
    return Vitals(
        held_readings=int(held),
        rejected_frames=int(rejected),
        open_alerts=alerts,
        live_orders=orders,
        oldest_order_s=float(order_s),
        waiting_messages=int(waiting),
        oldest_message_s=float(message_s),
        silent_meters=int(silent),
        accounts=int(accounts),
        partitions_until_s=0.0 if until is None else (until - now).total_seconds(),
    )


#: A link is written again only when something new is known of it: who reports is not silent.
_COUNTS = """
WITH silent AS (SELECT %(now)s - make_interval(secs => %(silent_for_s)s) AS since)
SELECT (SELECT count(*) FROM vee_case WHERE state = 'held'),
       (SELECT coalesce(sum(count), 0) FROM rejected_frame),
       (SELECT coalesce(max(extract(epoch FROM %(now)s - decided_at)), 0) FROM supply_order
        WHERE state IN (1, 2, 3)),
       (SELECT count(*) FROM message WHERE finished_at IS NULL),
       (SELECT coalesce(max(greatest(extract(epoch FROM %(now)s - due_at), 0)), 0) FROM message
        WHERE finished_at IS NULL),
       (SELECT count(*) FROM meter_link AS link CROSS JOIN silent
        WHERE link.last_seen_at < silent.since AND NOT EXISTS (
            SELECT FROM meter_state AS register
            WHERE register.meter_id = link.meter_id AND register.closed_at = 'infinity'
              AND register.last_at >= silent.since
              AND register.last_at > coalesce(link.read_by_hand_at, '-infinity'))),
       (SELECT count(*) FROM account WHERE closed_at IS NULL)
"""

#: Until when the months of readings and intervals have partitions of their own.
_LAST_PARTITION = r"""
SELECT min(until) FROM (
    SELECT max((to_date(right(child.relname, 6), 'YYYYMM') + interval '1 month')
               AT TIME ZONE 'UTC') AS until
    FROM pg_inherits
    JOIN pg_class child ON child.oid = inhrelid
    JOIN pg_class parent ON parent.oid = inhparent
    WHERE parent.relname IN ('register_reading', 'interval') AND child.relname ~ '_\d{6}$'
    GROUP BY parent.relname) AS each_table
"""
