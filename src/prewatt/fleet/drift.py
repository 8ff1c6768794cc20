"""How far off a meter's clock is known to be: one truth for whoever moves it.

A frame that was long on its way looks like a clock that is behind, so that what a frame said of a clock is no drift
yet. It is one once a reading came ten minutes later and did not say otherwise (`hes.links` writes down what differs);
or where it is beyond what a clock may be off, and an answer said so, which goes to and fro at once.
"""

from __future__ import annotations

from typing import Final

from prewatt.core.vocabulary import RequestKind, RequestState
from prewatt.mdm.operations import LIMITS

#: A clock is moved by what was measured; more than a day is not a drift, and is a matter for a visit.
CLOCK_MOVES_MAX_S: Final = 86_400
#: A request moves a clock by what was known when it was made: sent while that is so within so much.
SAME_S: Final = 30

#: Whether the clock of meter ``l.meter_id`` is moved by request ``q``, or may have been since it was heard.
MOVED_BY: Final = f"""(q.meter_id = l.meter_id AND q.kind = {RequestKind.CLOCK:d}
    AND (q.state = {RequestState.SENT:d} OR q.state = {RequestState.ANSWERED:d} AND q.ended_at >= l.last_seen_at))"""
#: Seconds that the clock of meter ``l.meter_id`` is ahead of ours, NULL where that is not known at %(now)s. Only of a
#: clock that was heard within hours it is; and not while it may have been moved since it was heard.
KNOWN_DRIFT_S: Final = f"""
CASE WHEN l.last_seen_at > %(now)s::timestamptz - interval '6 hours'
      AND abs(l.clock_drift_s::bigint) <= {CLOCK_MOVES_MAX_S}
      AND (EXISTS (SELECT FROM meter_state s WHERE s.meter_id = l.meter_id AND s.closed_at = 'infinity'
                   AND s.received_at > l.last_seen_at + interval '10 minutes')
           OR abs(l.clock_drift_s::bigint) > {LIMITS.clock_tolerance_us // 1_000_000}
              AND l.relay_read_at >= l.last_seen_at - interval '30 seconds')
      AND NOT EXISTS (SELECT FROM meter_request q WHERE {MOVED_BY})
     THEN l.clock_drift_s END"""  # noqa: S608 - our own expressions
