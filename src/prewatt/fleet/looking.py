"""How completely meters report, and what is missing: looked at in slices, each reading once.

A look goes through the meters whose turn it is, the longest unlooked first, and for each through what came since its
last reading that was looked at. So a round over all meters costs what came in between, in however many looks it is
done, and no look takes longer than its budget. Whoever has not been looked at for long (a new installation, a
worker that stood still) is caught up with day by day.

A meter is looked at up to some time ago: what comes by the usual way a little late is no gap. A gap lies between two
readings; a meter that is silent has none until it is back, and brings by itself what it kept. What comes later
than that, inside a gap, is found by the gap (`gaps`), which counts its days anew.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.core.fleet import GAP_FIRST_ASK_US, drivers_that_can
from prewatt.core.vocabulary import GapState, RequestKind
from prewatt.telemetry.metrics import GAPS

#: Meters of one transaction, and how often each has its turn.
SLICE: Final = 2_000
EVERY: Final = timedelta(minutes=30)
#: How far back a meter is looked at that nobody has looked at before.
FIRST_LOOK: Final = timedelta(days=35)
#: The sums of a property are counted again at most so often, where it has this many meters.
_COUNT_EVERY: Final = timedelta(minutes=10)
_MANY: Final = 5_000
#: Days of single meters are kept for so long.
DAYS_KEPT: Final = 92
_FORGET_SLICE: Final = 20_000


def look(*, actor: Actor, now: datetime, budget_s: float = 5.0) -> int:
    """Look at meters until each had its turn or the budget is used up; returns how many were looked at.

    Each slice is a transaction of its own; who is behind by days has a turn for each of them.
    Raises PermissionRefused.
    """
    require(actor, "fleet.look")
    began = time.monotonic()
    looked = 0
    with scope(actor):
        _meet_new(now)
    while time.monotonic() - began < budget_s:
        with scope(actor):
            found, gaps = _look_at_slice(now)
        GAPS.labels("found").inc(gaps)
        looked += found
        if found == 0:
            break
    with scope(actor):
        add_up(now)
    return looked


def forget(*, actor: Actor, now: datetime) -> int:
    """Let go of the days of single meters that are too old, a slice of them; returns how many."""
    require(actor, "fleet.look")
    with scope(actor), connection.cursor() as cursor:
        before = (now - timedelta(days=DAYS_KEPT)).date()
        cursor.execute("SELECT forget_fleet_days(%s, %s)", [before, _FORGET_SLICE])
        return int(cursor.fetchone()[0])


def _meet_new(now: datetime) -> None:
    """Take up meters that came since; ids rise, but for those of transactions that were a little slower."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO fleet_look (meter_id, property_id, looked_to, next_at)
               SELECT m.id, m.property_id, greatest(%(first)s, lower(i.period)), %(now)s
               FROM meter m JOIN installation i ON i.meter_id = m.id AND i.period @> %(now)s
               WHERE m.id > (SELECT coalesce(max(meter_id), 0) - 10000 FROM fleet_look)
                 AND NOT EXISTS (SELECT FROM fleet_look l WHERE l.meter_id = m.id)
               ORDER BY m.id LIMIT 20000
               ON CONFLICT DO NOTHING""",
            {"now": now, "first": now - FIRST_LOOK},
        )


def _look_at_slice(now: datetime) -> tuple[int, int]:
    """(meters, gaps found)."""
    given: dict[str, Any] = {
        "now": now, "slice": SLICE, "every": EVERY,
        "first_ask": timedelta(microseconds=GAP_FIRST_ASK_US),
        "can": [str(each) for each in drivers_that_can(RequestKind.HISTORY)],
        "open": int(GapState.OPEN), "given_up": int(GapState.GIVEN_UP),
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_LOOK, given)
        looked, gaps = cursor.fetchone()
    return int(looked), int(gaps)


#: Readings are promised at multiples of the period after the last one that came; cut at a day's end, the parts
#: of a promise add up to the whole.
_LOOK: Final = """
WITH turn AS MATERIALIZED (
    SELECT l.meter_id, l.property_id, l.looked_to, l.last_at FROM fleet_look l
    WHERE l.next_at <= %(now)s ORDER BY l.next_at LIMIT %(slice)s FOR UPDATE SKIP LOCKED
), due AS MATERIALIZED (
    SELECT t.*, d.until, (d.until AT TIME ZONE t.time_zone)::date - 1 AS late_from FROM (
        SELECT t.meter_id, t.property_id, p.time_zone, m.driver, m.expected_period_s AS period,
               1.5 * m.expected_period_s * interval '1 second' AS gap_beyond,
               i.meter_id IS NOT NULL AS hangs, greatest(t.looked_to, lower(i.period)) AS since, t.looked_to,
               CASE WHEN t.last_at >= lower(i.period) THEN t.last_at END AS last_at,
               coalesce(extract(epoch FROM t.last_at), 0) AS phase,
               %(now)s - greatest(2 * m.expected_period_s, 600) * interval '1 second' AS settled
        FROM turn t JOIN meter m ON m.id = t.meter_id JOIN property p ON p.id = t.property_id
        LEFT JOIN installation i ON i.meter_id = t.meter_id AND i.period @> %(now)s
    ) t CROSS JOIN LATERAL (
        SELECT greatest(t.looked_to, least(t.looked_to + interval '1 day', t.settled)) AS until
    ) d
), seen AS MATERIALIZED (
    -- A row for each meter and day, and not for each reading: how many came, the last, and the gaps that end there.
    SELECT d.meter_id, d.property_id, d.driver, d.period, d.late_from, r.* FROM due d CROSS JOIN LATERAL (
        SELECT (g.read_at AT TIME ZONE d.time_zone)::date AS day, count(*) AS stored, max(g.read_at) AS last_at,
               array_agg(g.before) FILTER (WHERE g.read_at - g.before > d.gap_beyond) AS gaps_from,
               array_agg(g.read_at) FILTER (WHERE g.read_at - g.before > d.gap_beyond) AS gaps_to
        FROM (SELECT read_at, lag(read_at, 1, d.last_at) OVER (ORDER BY read_at) AS before
              FROM register_reading
              WHERE meter_id = d.meter_id AND register_code = 1 AND revision = 0
                AND read_at > coalesce(d.last_at, d.since) AND read_at <= d.until) g
        GROUP BY 1
    ) r WHERE d.hangs
), promises AS MATERIALIZED (
    SELECT d.meter_id, d.property_id, d.late_from, b.day,
           (floor((extract(epoch FROM least(d.until, b.ends)) - d.phase) / d.period)
            - floor((extract(epoch FROM greatest(d.since, b.begins)) - d.phase) / d.period))::integer AS promised
    FROM due d CROSS JOIN LATERAL (
        SELECT e.day::date, e.day AT TIME ZONE d.time_zone AS begins,
               (e.day + interval '1 day') AT TIME ZONE d.time_zone AS ends
        FROM generate_series(date_trunc('day', d.since AT TIME ZONE d.time_zone),
                             d.until AT TIME ZONE d.time_zone, interval '1 day') AS e(day)
    ) b WHERE d.hangs AND d.since < d.until
), by_day AS MATERIALIZED (
    SELECT property_id, day, meter_id, sum(stored) AS stored, sum(promised) AS promised
    FROM (SELECT property_id, day, meter_id, stored, 0 AS promised FROM seen
          UNION ALL SELECT property_id, day, meter_id, 0, promised FROM promises) e
    GROUP BY 1, 2, 3 HAVING sum(stored) <> 0 OR sum(promised) <> 0
), days AS (
    INSERT INTO fleet_day AS f (property_id, day, meter_id, stored, promised)
    SELECT property_id, day, meter_id, stored, promised FROM by_day ORDER BY property_id, day, meter_id
    ON CONFLICT (property_id, day, meter_id) DO UPDATE
        SET stored = f.stored + excluded.stored, promised = f.promised + excluded.promised
), sums AS (
    INSERT INTO fleet_total (property_id, day) SELECT DISTINCT property_id, day FROM by_day ORDER BY 1, 2
    ON CONFLICT (property_id, day) DO UPDATE SET is_stale = true WHERE NOT fleet_total.is_stale
), gaps AS (
    INSERT INTO meter_gap (property_id, meter_id, from_at, to_at, found_missing, missing, found_at, next_at,
                           state, closed_at, reason)
    SELECT s.property_id, s.meter_id, g.from_at, g.to_at, n.missing, n.missing, %(now)s,
           CASE WHEN s.driver = ANY (%(can)s) THEN %(now)s + %(first_ask)s ELSE %(now)s + interval '1 day' END,
           CASE WHEN s.driver = ANY (%(can)s) THEN %(open)s ELSE %(given_up)s END,
           CASE WHEN s.driver = ANY (%(can)s) THEN NULL ELSE %(now)s END,
           CASE WHEN s.driver = ANY (%(can)s) THEN '' ELSE 'no_history' END
    FROM seen s CROSS JOIN LATERAL unnest(s.gaps_from, s.gaps_to) AS g(from_at, to_at) CROSS JOIN LATERAL (
        SELECT greatest(1, round(extract(epoch FROM g.to_at - g.from_at) / s.period)::integer - 1) AS missing
    ) n
    ORDER BY s.meter_id, g.from_at
    ON CONFLICT (meter_id, from_at, to_at) DO NOTHING
    RETURNING 1
), of_late AS (
    -- Of each meter, and of its yesterday and today what they were and what came to them now. Put together by
    -- grouping and not by joins: of a table that has just been filled PostgreSQL knows nothing, and would go through
    -- all meters for each.
    SELECT meter_id, day, bool_or(hangs) AS hangs, max(until) AS until, max(settled) AS settled,
           max(last_at) AS last_at, sum(stored) AS stored, sum(promised) AS promised
    FROM (SELECT meter_id, NULL::date AS day, hangs, until, settled, last_at, 0 AS stored, 0 AS promised FROM due
          UNION ALL
          SELECT d.meter_id, f.day, NULL, NULL, NULL, NULL, f.stored, f.promised FROM due d
          CROSS JOIN LATERAL (SELECT w.day, w.stored, w.promised FROM fleet_day w
                              WHERE w.property_id = d.property_id AND w.meter_id = d.meter_id
                                AND w.day IN (d.late_from, d.late_from + 1)) f
          UNION ALL
          SELECT meter_id, day, NULL, NULL, NULL, last_at, CASE WHEN day >= late_from THEN stored ELSE 0 END, 0
          FROM seen
          UNION ALL
          SELECT meter_id, day, NULL, NULL, NULL, NULL, 0, promised FROM promises WHERE day >= late_from) e
    GROUP BY 1, 2
), turned AS (
    SELECT meter_id, bool_or(hangs) AS hangs, max(until) AS until, max(settled) AS settled, max(last_at) AS last_at,
           sum(least(stored, promised)) AS stored, sum(promised) AS promised FROM of_late GROUP BY 1
), looked AS (
    UPDATE fleet_look l SET looked_to = t.until, last_at = t.last_at,
        next_at = CASE WHEN NOT t.hangs THEN %(now)s + interval '1 day'
                       WHEN t.until < t.settled THEN %(now)s ELSE %(now)s + %(every)s END,
        stored = t.stored, promised = t.promised
    FROM turned t WHERE l.meter_id = t.meter_id
    RETURNING 1
)
SELECT (SELECT count(*) FROM looked), (SELECT count(*) FROM gaps)
"""


def add_up(now: datetime) -> int:
    """Add up the days whose meters' days have changed; returns how many. In the caller's scope.

    Of a property of many meters not at each look: its sums may be some minutes old.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """WITH stale AS (
                   SELECT t.property_id, t.day FROM fleet_total t
                   WHERE t.is_stale AND (t.counted_at IS NULL OR t.devices < %(many)s
                                         OR t.counted_at <= %(before)s)
                   ORDER BY t.counted_at NULLS FIRST, t.property_id, t.day LIMIT 500
                   FOR UPDATE SKIP LOCKED
               )
               UPDATE fleet_total t SET (devices, complete, silent, stored, promised) = (
                       SELECT count(*) FILTER (WHERE promised > 0),
                              count(*) FILTER (WHERE promised > 0 AND stored >= promised),
                              count(*) FILTER (WHERE promised > 0 AND stored = 0),
                              coalesce(sum(least(stored, promised)), 0), coalesce(sum(promised), 0)
                       FROM fleet_day f WHERE f.property_id = t.property_id AND f.day = t.day),
                   is_stale = false, counted_at = %(now)s
               FROM stale s WHERE t.property_id = s.property_id AND t.day = s.day""",
            {"now": now, "before": now - _COUNT_EVERY, "many": _MANY},
        )
        return int(cursor.rowcount)
