"""Requests to meters: asked by a person, sent at their pace, answered, cancelled.

A request is sent with the same number each time, so that a meter which knows it answers once more and does nothing
twice. Marking it as sent is committed before it leaves: a crash in between costs a retry. The state machine is small
enough for SQL: waiting, sent, and then answered, refused, given up or cancelled.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.drivers import Driver
from prewatt.core.fleet import (
    RETRY_US,
    TRIES_MAX,
    allowance,
    brakes,
    drivers_that_can,
    gateway_window,
)
from prewatt.core.vocabulary import BulkState, GapState, RequestKind, RequestState
from prewatt.fleet.drift import KNOWN_DRIFT_S, MOVED_BY, SAME_S
from prewatt.notify.alerts import BULK_BRAKED
from prewatt.notify.operations import raise_alert
from prewatt.runtime.bells import ring
from prewatt.supply.orders import OrderBook
from prewatt.telemetry.metrics import REQUESTS

#: What came of a request, as it is stored: a word of the wire, or one of ours.
RESULTS: Final = (
    "ok", "expired", "unsupported", "failed", "no_answer", "woken", "nothing_stands", "stopped",
    "in_time",
)  # fmt: skip
_RETRY: Final = timedelta(microseconds=RETRY_US)
#: Requests of persons and for gaps, of all meters together, in a turn of the head-end.
_SINGLES_PER_TURN: Final = 20
_ENDS_PER_TURN: Final = 1_000
#: After a meter said that it has sent its history, so long until the gap is looked at: it has to be stored.
_AFTER_HISTORY: Final = timedelta(minutes=1)
HISTORY_MAX: Final = timedelta(days=62)


class RequestRefused(Exception):
    """Nothing was asked or ended. ``reason``: `unknown` (no such meter here), `driver` (its meters cannot be asked
    this), `span`, `clock` (nothing is known to move it by, or more than a day), `many` (three wait already), `ended`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class DueRequest:
    """What is to leave now. ``move_s`` is of clocks, the span of histories; ``by_instruction`` says that the meter takes it
    by signature alone.
    """

    request_id: int
    meter_id: int
    serial: str
    kind: RequestKind
    made_at: datetime
    expires_at: datetime
    from_at: datetime | None
    to_at: datetime | None
    move_s: int | None
    by_instruction: bool = False


class RequestAnswer(Protocol):
    """What a meter answered; ``result`` is the wire's word."""

    @property
    def request_id(self) -> int:
        """The number of the request."""

    @property
    def meter_id(self) -> int:
        """Who answered."""

    @property
    def result(self) -> str:
        """How it went: ok, expired, unsupported or failed."""

    @property
    def register_wh(self) -> int:
        """Its register then."""


def ask_meter(
    *,
    actor: Actor,
    property_id: int,
    meter_id: int,
    kind: RequestKind,
    reason: str,
    now: datetime,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
) -> int:
    """Ask one meter; returns the request's id. Raises RequestRefused."""
    require(actor, "fleet.ask", property_id=property_id)
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT m.driver, coalesce({KNOWN_DRIFT_S}, 0),
                      coalesce(nullif(r.gateway, ''), k.serial, '')
               FROM meter m LEFT JOIN meter_link l ON l.meter_id = m.id
               LEFT JOIN radio_link r ON r.meter_id = m.id
               LEFT JOIN concentrator k ON k.id = l.concentrator_id
               WHERE m.id = %(meter)s AND m.property_id = %(property)s""",  # noqa: S608 - our own expression
            {"meter": meter_id, "property": property_id, "now": now},
        )
        found = cursor.fetchone()
        if found is None:
            raise RequestRefused("unknown")
        driver, drift_s, gateway = found
        if Driver(driver) not in drivers_that_can(kind):
            raise RequestRefused("driver")
        if kind is RequestKind.HISTORY:
            _refuse_span(from_at, to_at, now)
        if kind is RequestKind.CLOCK and not drift_s:
            raise RequestRefused("clock")
        cursor.execute(
            "SELECT ask_meter(%s, %s, %s::smallint, %s, %s, %s, %s, %s, %s, %s)",
            [
                property_id, meter_id, int(kind), gateway, from_at, to_at,
                -drift_s if kind is RequestKind.CLOCK else None, actor.code, reason, now,
            ],
        )  # fmt: skip
        (request_id,) = cursor.fetchone()
        if request_id is None:
            raise RequestRefused("many")
        record(
            actor=actor.code, code="fleet.asked", property_id=property_id,
            subject=f"meter:{meter_id}", now=now, kind=kind.word, request=request_id, reason=reason,
        )  # fmt: skip
    return int(request_id)


def _refuse_span(from_at: datetime | None, to_at: datetime | None, now: datetime) -> None:
    if from_at is None or to_at is None or not from_at < to_at <= now:
        raise RequestRefused("span")
    if to_at - from_at > HISTORY_MAX:
        raise RequestRefused("span")


def cancel_request(*, actor: Actor, property_id: int, request_id: int, now: datetime) -> None:
    """Take back what has not gone out. Raises RequestRefused `ended` for what has, or has ended."""
    require(actor, "fleet.ask", property_id=property_id)
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """UPDATE meter_request SET state = %s, ended_at = %s, next_try_at = NULL
               WHERE id = %s AND property_id = %s AND state = %s AND tries = 0
               RETURNING meter_id, kind""",
            [
                int(RequestState.CANCELLED), now, request_id, property_id, int(RequestState.WAITING),
            ],
        )  # fmt: skip
        found = cursor.fetchone()
        if found is None:
            raise RequestRefused("ended")
        record(
            actor=actor.code, code="fleet.cancelled", property_id=property_id,
            subject=f"meter:{found[0]}", now=now, kind=RequestKind(found[1]).word, request=request_id,
        )  # fmt: skip


class RequestBook:
    """The requests of all properties, for the head-end. Holds no state of its own."""

    def __init__(self, actor: Actor) -> None:
        require(actor, "supply.decide")
        self._actor = actor
        self._orders = OrderBook(actor)

    def claim(self, *, now: datetime, drivers: Collection[Driver]) -> Sequence[DueRequest]:
        """What is to leave now, marked as sent: committed when this returns.

        Of bulks as many as their paces let go, over the whole and over each gateway. What is not the wire's is done
        here: connections that stand are sent again by who has them.
        """
        with scope(self._actor):
            able = [str(each) for each in drivers]
            due = _claimed_singles(now, able)
            for bulk_id, per_s, per_gateway_min, used_to in _running():
                due += _claimed_of_bulk(bulk_id, per_s, per_gateway_min, used_to, now, able)
            self._reconnect([each for each in due if each.kind is RequestKind.RECONNECT], now)
            in_time = _let_clocks_be(due, now)
        for each in due:
            REQUESTS.labels(each.kind.word, "sent").inc()
        return [
            each
            for each in due
            if each.kind is not RequestKind.RECONNECT and each.request_id not in in_time
        ]

    def answered(self, *, answers: Sequence[RequestAnswer], now: datetime) -> frozenset[int]:
        """Take answers; returns the ids of requests that their meter was never sent: no answers of ours.

        One that was given up is still answered; what has ended otherwise stays as it ended.
        """
        with scope(self._actor), connection.cursor() as cursor:
            columns = list(
                zip(*[(a.request_id, a.meter_id, a.result, a.register_wh) for a in answers], strict=True)
            )  # fmt: skip
            given = [list(each) for each in columns]
            cursor.execute(_ANSWERED, [*given, now, now + _AFTER_HISTORY])
            counted = cursor.fetchall()
            cursor.execute(
                """SELECT a.id FROM unnest(%s::bigint[], %s::bigint[]) AS a(id, meter_id)
                   WHERE NOT EXISTS (SELECT FROM meter_request r
                                     WHERE r.id = a.id AND r.meter_id = a.meter_id AND r.tries > 0)""",
                given[:2],
            )
            foreign = frozenset(int(row[0]) for row in cursor.fetchall())
            ring("changed", {row[0] for row in counted})
        for _, kind, result in counted:
            REQUESTS.labels(RequestKind(kind).word, result).inc()
        return foreign

    def settle(self, *, now: datetime) -> int:
        """End what nobody answered, brake bulks of which too much fails, end those that are through."""
        with scope(self._actor):
            ended = _end_unanswered(now)
            moved = _brake(now) + _finish(now)
            ring("changed", set(moved))
        return ended

    def _reconnect(self, due: Sequence[DueRequest], now: datetime) -> None:
        """Send connections again that stand; where none stands there is nothing to do. No cut is ever woken."""
        if not due:
            return
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT meter_id FROM supply_order
                   WHERE meter_id = ANY(%s) AND kind = 1 AND state IN (1, 2, 3)""",
                [[each.meter_id for each in due]],
            )
            standing = {row[0] for row in cursor.fetchall()}
            cursor.execute(
                """UPDATE meter_request SET state = %s, ended_at = %s, next_try_at = NULL,
                       result = CASE WHEN meter_id = ANY(%s) THEN 'woken' ELSE 'nothing_stands' END
                   WHERE id = ANY(%s)""",
                [
                    int(RequestState.ANSWERED), now, sorted(standing),
                    [each.request_id for each in due],
                ],
            )  # fmt: skip
        self._orders.wake(meter_ids=sorted(standing), now=now)
        ring("supply_order", _places(due))


def _let_clocks_be(due: Sequence[DueRequest], now: datetime) -> frozenset[int]:
    """End what would move a clock by what it is off no longer: somebody has moved it, or it was never so.

    Asked before it leaves for the first time: what is sent again is known to its meter.
    """
    clocks = [each.request_id for each in due if each.kind is RequestKind.CLOCK]
    if not clocks:
        return frozenset()
    with connection.cursor() as cursor:
        cursor.execute(
            f"""UPDATE meter_request r SET state = %s, ended_at = %s, next_try_at = NULL, result = 'in_time'
                WHERE r.id = ANY(%s) AND r.tries = 1 AND (r.move_s = 0 OR NOT EXISTS (
                    SELECT FROM meter_link l
                    WHERE l.meter_id = r.meter_id AND abs(l.clock_drift_s::bigint + r.move_s) <= %s
                      AND NOT EXISTS (SELECT FROM meter_request q WHERE {MOVED_BY}
                                      AND (q.sent_at, q.id) < (r.sent_at, r.id))))
                RETURNING r.id""",  # noqa: S608 - our own expression
            [int(RequestState.ANSWERED), now, clocks, SAME_S],
        )
        return frozenset(row[0] for row in cursor.fetchall())


def _places(due: Sequence[DueRequest]) -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT property_id FROM meter_request WHERE id = ANY(%s)",
            [[each.request_id for each in due]],
        )
        return {row[0] for row in cursor.fetchall()}


_SENT: Final = f"""
UPDATE meter_request r SET state = {RequestState.SENT:d}, tries = r.tries + 1, sent_at = %(now)s,
    next_try_at = %(now)s + %(retry)s
FROM chosen c JOIN meter m ON m.id = c.meter_id
-- Looked at again under its lock: it may have been answered, or stopped, meanwhile.
WHERE r.id = c.id AND r.state IN (1, 2)
RETURNING r.id, r.meter_id, m.serial, r.kind, r.made_at, r.expires_at, r.from_at, r.to_at, r.move_s,
    r.kind = {RequestKind.CLOCK:d} AND EXISTS (SELECT FROM meter_key k WHERE k.meter_id = r.meter_id)
"""  # noqa: S608 - our own numbers

_SINGLES: Final = f"""
WITH chosen AS MATERIALIZED (
    SELECT r.id, r.meter_id FROM meter_request r JOIN meter m ON m.id = r.meter_id
    WHERE r.bulk_id IS NULL AND r.state IN (1, 2) AND r.next_try_at <= %(now)s AND r.tries < {TRIES_MAX}
      AND r.expires_at > %(now)s AND m.driver = ANY (%(drivers)s)
    ORDER BY r.next_try_at LIMIT %(most)s FOR UPDATE OF r SKIP LOCKED
) {_SENT}"""  # noqa: S608 - our own numbers

#: So many of each gateway as its pace lets go beside what went by it in the window before.
_OF_BULK: Final = f"""
WITH went AS MATERIALIZED (
    SELECT gateway, count(*) AS count FROM meter_request
    WHERE bulk_id = %(bulk)s AND gateway <> '' AND sent_at > %(now)s - %(window)s GROUP BY 1
), due AS MATERIALIZED (
    SELECT r.id, r.meter_id, r.gateway, r.next_try_at,
           row_number() OVER (PARTITION BY r.gateway ORDER BY r.next_try_at, r.id) AS place
    FROM meter_request r JOIN meter m ON m.id = r.meter_id
    WHERE r.bulk_id = %(bulk)s AND r.state IN (1, 2) AND r.next_try_at <= %(now)s AND r.tries < {TRIES_MAX}
      AND r.expires_at > %(now)s AND m.driver = ANY (%(drivers)s)
), chosen AS MATERIALIZED (
    SELECT d.id, d.meter_id FROM due d LEFT JOIN went w USING (gateway)
    WHERE d.gateway = '' OR d.place + coalesce(w.count, 0) <= %(per_window)s
    ORDER BY d.next_try_at, d.id LIMIT %(most)s
) {_SENT}"""  # noqa: S608 - our own numbers


def _claimed_singles(now: datetime, drivers: Sequence[str]) -> list[DueRequest]:
    given: dict[str, Any] = {
        "now": now,
        "retry": _RETRY,
        "drivers": list(drivers),
        "most": _SINGLES_PER_TURN,
    }
    with connection.cursor() as cursor:
        cursor.execute(_SINGLES, given)
        return _due_of(cursor.fetchall())


def _running() -> list[tuple[int, int, int, datetime]]:
    """Bulks that run, locked until the end of the transaction: of two head-ends one sends of each."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT id, per_s, per_gateway_min, used_to FROM fleet_bulk
               WHERE state = %s ORDER BY id FOR UPDATE SKIP LOCKED""",
            [int(BulkState.RUNNING)],
        )
        return [tuple(row) for row in cursor.fetchall()]


def _claimed_of_bulk(
    bulk_id: int, per_s: int, per_gateway_min: int, used_to: datetime, now: datetime, drivers: Sequence[str]
) -> list[DueRequest]:  # fmt: skip
    allowed = allowance(used_to_us=instant_us(used_to), now_us=instant_us(now), per_s=per_s)
    if allowed.count == 0:
        return []
    window_s, per_window = gateway_window(per_gateway_min)
    given: dict[str, Any] = {
        "bulk": bulk_id, "now": now, "retry": _RETRY, "drivers": list(drivers),
        "window": timedelta(seconds=window_s), "per_window": per_window, "most": allowed.count,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_OF_BULK, given)
        due = _due_of(cursor.fetchall())
        if due:
            cursor.execute(
                "UPDATE fleet_bulk SET used_to = %s WHERE id = %s",
                [utc_datetime(allowed.used_to_us(len(due))), bulk_id],
            )
    return due


def _due_of(rows: Sequence[tuple[object, ...]]) -> list[DueRequest]:
    return [
        DueRequest(request, meter, serial, RequestKind(kind), *rest)  # type: ignore[arg-type]  # columns as they are
        for request, meter, serial, kind, *rest in rows
    ]


#: A history that was sent lets its gap be looked at soon; one that the meter has not gives the gap up.
_ANSWERED: Final = f"""
WITH said AS (
    SELECT DISTINCT ON (id) * FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[])
        AS a(id, meter_id, result, register_wh)
), counted AS (
    UPDATE meter_request r SET result = s.result, ended_at = t.now, next_try_at = NULL,
        state = CASE s.result WHEN 'ok' THEN {RequestState.ANSWERED:d} ELSE {RequestState.REFUSED:d} END,
        register_wh = s.register_wh
    FROM said s, (SELECT %s::timestamptz AS now) AS t
    WHERE r.id = s.id AND r.meter_id = s.meter_id AND r.tries > 0
      AND r.state IN ({RequestState.SENT:d}, {RequestState.GIVEN_UP:d})
    RETURNING r.property_id, r.kind, s.result, r.gap_id, t.now
), followed AS (
    UPDATE meter_gap g SET
        answered = g.answered + CASE c.result WHEN 'ok' THEN 1 ELSE 0 END,
        next_at = CASE c.result WHEN 'unsupported' THEN c.now + interval '1 day'
                                WHEN 'ok' THEN %s ELSE g.next_at END,
        state = CASE c.result WHEN 'unsupported' THEN {GapState.GIVEN_UP:d} ELSE g.state END,
        reason = CASE c.result WHEN 'unsupported' THEN 'unsupported' ELSE '' END,
        closed_at = CASE c.result WHEN 'unsupported' THEN c.now END
    FROM counted c WHERE g.id = c.gap_id AND g.state = {GapState.OPEN:d}
)
SELECT property_id, kind, result FROM counted
"""  # noqa: S608 - our own numbers


def _end_unanswered(now: datetime) -> int:
    """What was sent as often as it may be and was not answered, or has grown old, is given up."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE meter_request SET state = %(given_up)s, ended_at = %(now)s, next_try_at = NULL,
                   result = 'no_answer'
               WHERE id IN (
                   SELECT r.id FROM meter_request r LEFT JOIN fleet_bulk b ON b.id = r.bulk_id
                   WHERE r.state IN (1, 2) AND r.next_try_at <= %(now)s
                     AND (r.tries >= %(tries)s OR r.expires_at <= %(now)s OR b.state = %(stopped)s)
                   LIMIT %(most)s FOR UPDATE OF r SKIP LOCKED)
               RETURNING kind""",
            {
                "given_up": int(RequestState.GIVEN_UP), "now": now, "tries": TRIES_MAX,
                "most": _ENDS_PER_TURN, "stopped": int(BulkState.STOPPED),
            },
        )  # fmt: skip
        ended = cursor.fetchall()
    for (kind,) in ended:
        REQUESTS.labels(RequestKind(kind).word, "no_answer").inc()
    return len(ended)


#: What has been without an answer for as long as a retry takes fails so far; it may still answer. Whoever released
#: a brake has seen what failed before: it counts from there on.
_FAILING: Final = f"""
SELECT b.id, b.property_id, b.bound_percent, c.ended, c.failed
FROM fleet_bulk b CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE r.state <> {RequestState.SENT:d} OR r.tries > 1 OR r.sent_at <= %s) AS ended,
           count(*) FILTER (WHERE r.state IN ({RequestState.REFUSED:d}, {RequestState.GIVEN_UP:d})
               OR r.state = {RequestState.SENT:d} AND (r.tries > 1 OR r.sent_at <= %s)) AS failed
    FROM meter_request r WHERE r.bulk_id = b.id AND r.sent_at > b.state_at
) c
WHERE b.state = {BulkState.RUNNING:d} AND c.failed > 0 ORDER BY b.id
"""  # noqa: S608 - our own numbers


def _brake(now: datetime) -> list[int]:
    """Stop bulks of which more fails than their bound; returns their properties."""
    with connection.cursor() as cursor:
        cursor.execute(_FAILING, [now - _RETRY, now - _RETRY])
        braked = [
            (bulk_id, place, ended, failed)
            for bulk_id, place, bound, ended, failed in cursor.fetchall()
            if brakes(ended=ended, failed=failed, bound_percent=bound)
        ]
        for bulk_id, place, ended, failed in braked:
            cursor.execute(
                """UPDATE fleet_bulk SET state = %s, state_at = %s, state_by = ''
                   WHERE id = %s AND state = %s""",
                [int(BulkState.BRAKED), now, bulk_id, int(BulkState.RUNNING)],
            )
            record(
                actor="system:fleet", code="fleet.bulk.braked", property_id=place,
                subject=f"bulk:{bulk_id}", now=now, failed=failed, of=ended,
            )  # fmt: skip
            raise_alert(
                property_id=place, code=BULK_BRAKED, subject=f"bulk:{bulk_id}", now=now,
                detail={"bulk": bulk_id, "failed": failed, "of": ended},
            )  # fmt: skip
    return [row[1] for row in braked]


def _finish(now: datetime) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE fleet_bulk b SET state = %s, state_at = %s, state_by = ''
               WHERE b.state = %s AND NOT EXISTS (
                   SELECT FROM meter_request r WHERE r.bulk_id = b.id AND r.state IN (1, 2))
               RETURNING b.property_id""",
            [int(BulkState.DONE), now, int(BulkState.RUNNING)],
        )
        return [row[0] for row in cursor.fetchall()]
