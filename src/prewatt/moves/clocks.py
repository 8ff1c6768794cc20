"""Clocks that drift are put right by asking their meters, a few times a day at most, and what came of it is kept.

A clock is moved by the seconds that were measured (`fleet.requests`). What it dated before stays as it was dated and
charged: a correction changes no reading and no interval, only what the next readings say.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record_many
from prewatt.core.fleet import drivers_that_can
from prewatt.core.vocabulary import RequestKind, RequestState
from prewatt.fleet.requests import CLOCK_MOVES_MAX_S
from prewatt.mdm.operations import LIMITS

#: Well within what validation allows a clock (`mdm.operations.LIMITS`), and well beyond what the way takes.
DRIFT_S: Final = 120
PER_DAY: Final = 3
#: Not asked again before this, however far off: the last asking has to have come to something.
AGAIN_AFTER: Final = timedelta(hours=4)
#: Only of a clock that was heard so lately is it known how far off it is.
HEARD_WITHIN: Final = timedelta(hours=6)
_AT_ONCE: Final = 200
_LIFE: Final = timedelta(hours=1)


def correct_clocks(*, actor: Actor, now: datetime) -> int:
    """Ask meters whose clocks are off to move them, and write down what former askings came to; how many asked.

    Meters that take signed instructions alone are left out: no clock goes by instruction yet.
    """
    require(actor, "tamper.detect")
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(_SETTLE, {"answered": int(RequestState.ANSWERED)})
        cursor.execute(
            _ASK,
            {
                "now": now, "kind": int(RequestKind.CLOCK), "by": actor.code, "least": DRIFT_S,
                "most": CLOCK_MOVES_MAX_S, "drivers": [str(each) for each in drivers_that_can(RequestKind.CLOCK)],
                "heard": now - HEARD_WITHIN, "again": now - AGAIN_AFTER, "day": now - timedelta(days=1),
                "per_day": PER_DAY, "allowed": LIMITS.clock_tolerance_us // 1_000_000, "expires": now + _LIFE, "limit": _AT_ONCE,
            },
        )  # fmt: skip
        asked = cursor.fetchall()
        record_many(
            actor=actor.code, code="fleet.clock_asked", now=now,
            rows=[
                (place, f"meter:{meter}", {"request": request, "drift_s": drift_s})
                for place, meter, request, drift_s in asked
            ],
        )  # fmt: skip
    return len(asked)


#: What a clock was off by when its meter was next heard after it had answered.
_SETTLE: Final = """
UPDATE clock_correction c SET after_s = l.clock_drift_s, seen_at = l.last_seen_at
FROM meter_request r, meter_link l
WHERE c.after_s IS NULL AND r.id = c.request_id AND r.state = %(answered)s
  AND l.meter_id = c.meter_id AND l.last_seen_at > r.ended_at
"""
_ASK: Final = """
WITH off AS (
    SELECT l.property_id, l.meter_id, l.clock_drift_s
    FROM meter_link l JOIN meter m ON m.id = l.meter_id AND m.driver = ANY(%(drivers)s)
    WHERE abs(l.clock_drift_s::bigint) BETWEEN %(least)s AND %(most)s AND l.last_seen_at > %(heard)s
      -- What it was off by then still holds: a reading came later, and would have said otherwise (`hes.links`). A
      -- message that was long on its way says of a clock what is not so.
      -- Beyond what a clock may be off it is what an answer said, the only word by which its relay is dated then.
      AND (EXISTS (SELECT FROM meter_state s WHERE s.meter_id = l.meter_id
                   AND s.closed_at = 'infinity' AND s.received_at > l.last_seen_at + interval '10 minutes')
           OR abs(l.clock_drift_s::bigint) > %(allowed)s
              AND l.relay_read_at >= l.last_seen_at - interval '30 seconds')
      AND NOT EXISTS (SELECT FROM meter_key k WHERE k.meter_id = l.meter_id AND k.revoked_at IS NULL)
      AND NOT EXISTS (SELECT FROM clock_correction c WHERE c.meter_id = l.meter_id
                      AND c.asked_at > %(again)s)
      AND (SELECT count(*) FROM clock_correction c WHERE c.meter_id = l.meter_id
           AND c.asked_at > %(day)s) < %(per_day)s
      AND NOT EXISTS (SELECT FROM meter_request r WHERE r.meter_id = l.meter_id
                      AND r.kind = %(kind)s AND r.made_at > %(again)s)
    ORDER BY l.meter_id LIMIT %(limit)s),
asked AS (
    INSERT INTO meter_request (property_id, meter_id, kind, state, gateway, move_s, made_at, made_by, reason,
                               expires_at, next_try_at)
    SELECT property_id, meter_id, %(kind)s, 1, '', -clock_drift_s, %(now)s, %(by)s, 'drift', %(expires)s, %(now)s
    FROM off RETURNING id, property_id, meter_id, move_s),
kept AS (
    INSERT INTO clock_correction (request_id, property_id, meter_id, before_s, asked_at)
    SELECT id, property_id, meter_id, -move_s, %(now)s FROM asked)
SELECT property_id, meter_id, id, -move_s FROM asked ORDER BY meter_id
"""
