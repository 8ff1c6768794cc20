"""Gaps followed up: filled by what came, asked for where the meter keeps its history, given up with a reason.

What a tenant pays does not hang on it. A jump over a gap is charged once, by a stated estimate, when the reading
after it comes; what fills the gap later splits that anew and never changes its energy (`billing.backfill`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.core.fleet import GAP_ASKS_MAX, gap_wait_us
from prewatt.core.vocabulary import GapState, RequestKind, RequestState
from prewatt.telemetry.metrics import GAPS

#: So many gaps are looked at in a turn, and so many backfills are under way at once, over all properties.
SLICE: Final = 2_000
UNDER_WAY_MAX: Final = 500
#: Without an answer to so many, or after so many answers that brought nothing, it is given up.
_ANSWERS_MAX: Final = 2
#: A gap that was given up is looked at once a day for so long: readings may come by themselves.
_HOPE: Final = timedelta(days=35)
_LOOK_AGAIN: Final = timedelta(days=1)
#: How long a meter has to send what it was asked for.
_LASTS: Final = timedelta(hours=6)
ACTOR: Final = "system:fleet"


def follow_up(*, actor: Actor, now: datetime) -> tuple[int, int]:
    """Close what has filled, ask for what is due, give up what nobody will fill; (closed, asked)."""
    require(actor, "fleet.look")
    with scope(actor):
        filled = _fill(now)
        given_up = _give_up(now)
        asked = _ask(now)
    for word, count in (("filled", filled), ("given_up", given_up), ("asked", asked)):
        GAPS.labels(word).inc(count)
    return filled + given_up, asked


def _fill(now: datetime) -> int:
    """Count due gaps anew and close those without a hole; days that gained readings are counted anew, too."""
    with connection.cursor() as cursor:
        cursor.execute(
            _FILL,
            {
                "now": now, "slice": SLICE, "open": int(GapState.OPEN), "filled": int(GapState.FILLED),
                "hope": now - _HOPE, "again": now + _LOOK_AGAIN,
            },
        )  # fmt: skip
        return int(cursor.fetchone()[0])


#: Whoever is given up and does not fill has its next look tomorrow, or none; of the others `_ask` and `_give_up`
#: say when.
_FILL: Final = """
WITH due AS MATERIALIZED (
    SELECT g.id, g.property_id, g.meter_id, g.from_at, g.to_at, g.missing, m.expected_period_s AS period,
           p.time_zone
    FROM (SELECT * FROM meter_gap WHERE next_at <= %(now)s ORDER BY next_at LIMIT %(slice)s
          FOR UPDATE SKIP LOCKED) g
    JOIN meter m ON m.id = g.meter_id JOIN property p ON p.id = g.property_id
), now_missing AS MATERIALIZED (
    SELECT d.id, sum(greatest(0, round(extract(epoch FROM s.step) / d.period)::integer - 1)) FILTER (
               WHERE s.step > 1.5 * d.period * interval '1 second') AS missing
    FROM due d CROSS JOIN LATERAL (
        SELECT r.read_at - lag(r.read_at, 1, d.from_at) OVER (ORDER BY r.read_at) AS step
        FROM register_reading r
        WHERE r.meter_id = d.meter_id AND r.register_code = 1 AND r.revision = 0
          AND r.read_at > d.from_at AND r.read_at <= d.to_at
    ) s GROUP BY d.id
), moved AS MATERIALIZED (
    SELECT d.*, coalesce(n.missing, 0) AS remaining FROM due d JOIN now_missing n USING (id)
    WHERE coalesce(n.missing, 0) <> d.missing
), days AS (
    SELECT DISTINCT m.property_id, m.meter_id, m.time_zone, e.day
    FROM moved m CROSS JOIN LATERAL generate_series(
        date_trunc('day', m.from_at AT TIME ZONE m.time_zone), m.to_at AT TIME ZONE m.time_zone,
        interval '1 day') AS e(day)
), counted AS (
    UPDATE fleet_day f SET stored = (
        SELECT count(*) FROM register_reading r
        WHERE r.meter_id = d.meter_id AND r.register_code = 1 AND r.revision = 0
          AND r.read_at >= d.day AT TIME ZONE d.time_zone
          AND r.read_at < (d.day + interval '1 day') AT TIME ZONE d.time_zone
          AND r.read_at <= (SELECT coalesce(l.last_at, '-infinity') FROM fleet_look l
                            WHERE l.meter_id = d.meter_id))
    FROM days d WHERE f.property_id = d.property_id AND f.day = d.day::date AND f.meter_id = d.meter_id
    RETURNING f.property_id, f.day
), sums AS (
    UPDATE fleet_total t SET is_stale = true
    FROM (SELECT DISTINCT property_id, day FROM counted) c
    WHERE t.property_id = c.property_id AND t.day = c.day AND NOT t.is_stale
), written AS (
    UPDATE meter_gap g SET missing = coalesce(m.remaining, g.missing),
        state = CASE WHEN m.remaining = 0 THEN %(filled)s ELSE g.state END,
        closed_at = CASE WHEN m.remaining = 0 THEN %(now)s ELSE g.closed_at END,
        reason = CASE WHEN m.remaining = 0 THEN '' ELSE g.reason END,
        next_at = CASE WHEN m.remaining = 0 THEN NULL WHEN g.state = %(open)s THEN g.next_at
                       WHEN g.found_at > %(hope)s THEN %(again)s END
    FROM due d LEFT JOIN moved m USING (id) WHERE g.id = d.id
    RETURNING g.state, m.remaining
)
SELECT count(*) FILTER (WHERE state = %(filled)s AND written.remaining = 0) FROM written
"""


def _give_up(now: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE meter_gap g SET state = %(given_up)s, closed_at = %(now)s, next_at = %(again)s,
                   reason = CASE WHEN answered >= %(answers)s THEN 'not_kept' ELSE 'no_answer' END
               WHERE state = %(open)s AND next_at <= %(now)s
                 AND (asked >= %(asks)s OR answered >= %(answers)s)
                 AND NOT EXISTS (SELECT FROM meter_request r WHERE r.gap_id = g.id AND r.state IN (1, 2))""",
            {
                "now": now, "again": now + _LOOK_AGAIN, "open": int(GapState.OPEN),
                "given_up": int(GapState.GIVEN_UP), "answers": _ANSWERS_MAX, "asks": GAP_ASKS_MAX,
            },
        )  # fmt: skip
        return int(cursor.rowcount)


def _ask(now: datetime) -> int:
    """Ask for due gaps, one of a meter at a time, the youngest first: a meter forgets the oldest first anyway,
    and what tenants look at is the last days.
    """
    waits = [timedelta(microseconds=gap_wait_us(each)) for each in range(1, GAP_ASKS_MAX + 1)]
    with connection.cursor() as cursor:
        cursor.execute(
            _ASK,
            {
                "now": now, "open": int(GapState.OPEN), "history": int(RequestKind.HISTORY),
                "waiting": int(RequestState.WAITING), "most": UNDER_WAY_MAX, "asks": GAP_ASKS_MAX,
                "waits": waits, "actor": ACTOR, "ends": now + _LASTS,
            },
        )  # fmt: skip
        return int(cursor.rowcount)


_ASK: Final = """
WITH room AS (
    SELECT greatest(0, %(most)s - count(*)) AS free FROM meter_request
    WHERE state IN (1, 2) AND bulk_id IS NULL AND gap_id IS NOT NULL
), due AS (
    SELECT DISTINCT ON (g.meter_id) g.id, g.meter_id, g.to_at FROM meter_gap g
    WHERE g.state = %(open)s AND g.next_at <= %(now)s AND g.asked < %(asks)s
      AND NOT EXISTS (SELECT FROM meter_request r
                      WHERE r.meter_id = g.meter_id AND r.gap_id IS NOT NULL AND r.state IN (1, 2))
    ORDER BY g.meter_id, g.to_at DESC
), chosen AS (
    SELECT id FROM due ORDER BY to_at DESC LIMIT (SELECT free FROM room)
), marked AS (
    UPDATE meter_gap g SET asked = g.asked + 1, asked_at = %(now)s,
        next_at = %(now)s + (%(waits)s::interval[])[g.asked + 1]
    FROM chosen c WHERE g.id = c.id RETURNING g.*
)
INSERT INTO meter_request (property_id, meter_id, kind, state, gap_id, gateway, from_at, to_at, made_at,
                           made_by, reason, expires_at, tries, next_try_at)
SELECT g.property_id, g.meter_id, %(history)s, %(waiting)s, g.id,
       coalesce(nullif(r.gateway, ''), k.serial, ''), g.from_at, g.to_at, %(now)s, %(actor)s, 'gap',
       %(ends)s, 0, %(now)s
FROM marked g LEFT JOIN meter_link l ON l.meter_id = g.meter_id
LEFT JOIN radio_link r ON r.meter_id = g.meter_id
LEFT JOIN concentrator k ON k.id = l.concentrator_id
ON CONFLICT DO NOTHING
"""
