"""Clocks that drift are put right by asking their meters, a few times a day at most, and what came of it is kept.

A clock is moved by the seconds that it is known to be off (`fleet.drift`), whoever asks. What it dated before stays as
it was dated and charged: a correction changes no reading and no interval, only what the next readings say. One that a
day's corrections do not put right calls a person. Of a meter that does only what is signed a signed exchange measures it anew,
whatever its readings say (`fleet.clocks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record_many
from prewatt.core.civil_time import instant_us
from prewatt.core.fleet import drivers_that_can
from prewatt.core.vocabulary import RequestKind, RequestState
from prewatt.fleet.drift import KNOWN_DRIFT_S
from prewatt.notify.alerts import CLOCK_UNMENDED
from prewatt.notify.operations import close_alert, raise_alert

#: Well within what validation allows a clock (`mdm.operations.LIMITS`), and well beyond what the way takes.
DRIFT_S: Final = 120
PER_DAY: Final = 3
#: Not asked again before this, however far off: the last asking has to have come to something.
AGAIN_AFTER: Final = timedelta(hours=4)
_AT_ONCE: Final = 200
_LIFE: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


class _Off(NamedTuple):
    """A clock that is off."""

    property_id: int
    meter_id: int
    drift_s: int


def correct_clocks(*, actor: Actor, now: datetime) -> int:
    """Ask meters whose clocks are off to move them, and write down what former askings came to; how many asked."""
    require(actor, "tamper.detect")
    with scope(actor):
        _settle(now)
        asked = _ask(_off(now), actor.code, now)
        record_many(
            actor=actor.code, code="fleet.clock_asked", now=now,
            rows=[
                (each.property_id, f"meter:{each.meter_id}", {"request": request, "drift_s": each.drift_s})
                for request, each in asked
            ],
        )  # fmt: skip
        _call_a_person(now)
    return len(asked)


def is_off(meter_id: int) -> bool:
    """Whether a clock was off when it was last heard, by so much that it is put right; in the caller's scope."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT abs(clock_drift_s::bigint) >= %s FROM meter_link WHERE meter_id = %s",
            [DRIFT_S, meter_id],
        )
        return bool((cursor.fetchone() or [False])[0])


def _settle(now: datetime) -> None:
    """What a clock was off by when its meter was next heard after it had answered, whoever asked it."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO clock_correction (request_id, property_id, meter_id, before_s, asked_at)
               SELECT r.id, r.property_id, r.meter_id, -r.move_s, r.made_at FROM meter_request r
               WHERE r.kind = %s AND r.state = %s AND r.ended_at > %s
               ON CONFLICT (request_id) DO NOTHING""",
            [int(RequestKind.CLOCK), int(RequestState.ANSWERED), now - _DAY],
        )
        cursor.execute(
            """UPDATE clock_correction c SET after_s = l.clock_drift_s, seen_at = l.last_seen_at
               FROM meter_request r, meter_link l
               WHERE c.after_s IS NULL AND r.id = c.request_id AND r.state = %s
                 AND l.meter_id = c.meter_id AND l.last_seen_at > r.ended_at""",
            [int(RequestState.ANSWERED)],
        )


def _off(now: datetime) -> list[_Off]:
    with connection.cursor() as cursor:
        cursor.execute(
            _OFF,
            {
                "now": now, "kind": int(RequestKind.CLOCK), "least": DRIFT_S,
                "drivers": [str(each) for each in drivers_that_can(RequestKind.CLOCK)],
                "again": now - AGAIN_AFTER, "day": now - _DAY, "per_day": PER_DAY, "limit": _AT_ONCE,
            },
        )  # fmt: skip
        return [_Off(*row) for row in cursor.fetchall()]


_OFF: Final = f"""
SELECT o.property_id, o.meter_id, o.drift_s FROM (
    SELECT l.property_id, l.meter_id, {KNOWN_DRIFT_S} AS drift_s
    FROM meter_link l JOIN meter m ON m.id = l.meter_id AND m.driver = ANY(%(drivers)s)
    WHERE abs(l.clock_drift_s::bigint) >= %(least)s) o
WHERE abs(o.drift_s) >= %(least)s
  AND (SELECT count(*) FROM clock_correction c WHERE c.meter_id = o.meter_id
       AND c.asked_at > %(day)s) < %(per_day)s
  AND NOT EXISTS (SELECT FROM meter_request r WHERE r.meter_id = o.meter_id
                  AND r.kind = %(kind)s AND (r.made_at > %(again)s OR r.state IN (1, 2)))
ORDER BY o.meter_id LIMIT %(limit)s
"""  # noqa: S608 - our own expression


def _ask(off: Sequence[_Off], by: str, now: datetime) -> list[tuple[int, _Off]]:
    """Make a request to each; (request, meter)."""
    if not off:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            """WITH asked AS (
                   INSERT INTO meter_request (property_id, meter_id, kind, state, gateway, move_s, made_at, made_by,
                                              reason, expires_at, next_try_at)
                   SELECT o.property_id, o.meter_id, %s, 1, '', -o.drift_s, %s, %s, 'drift', %s, %s
                   FROM unnest(%s::bigint[], %s::bigint[], %s::integer[]) AS o(property_id, meter_id, drift_s)
                   RETURNING id, property_id, meter_id, move_s, made_at),
               kept AS (
                   INSERT INTO clock_correction (request_id, property_id, meter_id, before_s, asked_at)
                   SELECT id, property_id, meter_id, -move_s, made_at FROM asked)
               SELECT id, meter_id FROM asked ORDER BY meter_id""",
            [
                int(RequestKind.CLOCK), now, by, now + _LIFE, now,
                [each.property_id for each in off], [each.meter_id for each in off],
                [each.drift_s for each in off],
            ],
        )  # fmt: skip
        by_meter = {each.meter_id: each for each in off}
        return [(request, by_meter[meter]) for request, meter in cursor.fetchall()]


def _call_a_person(now: datetime) -> None:
    """An alert of each clock that a day's corrections have not put right; it ends once the clock is."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT l.property_id, l.meter_id, {KNOWN_DRIFT_S}, c.count
                FROM (SELECT meter_id, count(*) AS count, max(asked_at) AS last_at FROM clock_correction
                      WHERE asked_at > %(day)s GROUP BY 1 HAVING count(*) >= %(per_day)s) c
                JOIN meter_link l ON l.meter_id = c.meter_id AND l.last_seen_at > c.last_at
                WHERE abs({KNOWN_DRIFT_S}) >= %(least)s""",  # noqa: S608 - our own expression
            {"now": now, "day": now - _DAY, "per_day": PER_DAY, "least": DRIFT_S},
        )
        for place, meter, drift_s, count in cursor.fetchall():
            raise_alert(
                property_id=place, code=CLOCK_UNMENDED, subject=f"meter:{meter}", now=now,
                detail={"drift_s": drift_s, "asked": count, "since_us": instant_us(now)}, refresh=False,
            )  # fmt: skip
        cursor.execute(
            """SELECT a.property_id, a.subject FROM alert a
               JOIN meter_link l ON l.meter_id = substr(a.subject, 7)::bigint
               WHERE a.code = %s AND a.closed_at IS NULL AND abs(l.clock_drift_s::bigint) < %s""",
            [CLOCK_UNMENDED, DRIFT_S],
        )
        for place, subject in cursor.fetchall():
            close_alert(property_id=place, code=CLOCK_UNMENDED, subject=subject, now=now)
