"""Where energy rightly flows backwards, by an administrator's word: a roof that feeds in is nobody's tampering.

Said of a metering point from now on, so that it outlives an exchange of meters and explains away nothing that has
happened already. Reverse flow there opens no case and joins none; a register that falls is held all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from django.db import IntegrityError, connection, transaction

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.runtime.bells import ring

REASON_MAX: Final = 200


class FeedInRefused(Exception):
    """Nothing was changed. ``reason`` is `unknown` (no meter hangs so here), `is_so` (said already), `ended`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Flow(NamedTuple):
    """Energy that flowed backwards at a meter between two instants."""

    meter_id: int
    since: datetime
    until: datetime


def begin_feed_in(
    *, actor: Actor, property_id: int, serial: str, reason: str, now: datetime
) -> int:
    """Say that the point at which a meter hangs feeds in from now on; the id of that.

    Raises FeedInRefused, PermissionRefused.
    """
    require(actor, "tamper.feed_in", property_id=property_id)
    assert 0 < len(reason) <= REASON_MAX, "who asks has looked"
    with scope(actor), connection.cursor() as cursor:
        try:
            with transaction.atomic():
                cursor.execute(
                    """INSERT INTO feed_in (property_id, metering_point_id, period, reason, said_by)
                       SELECT i.property_id, i.metering_point_id, tstzrange(%s, NULL), %s, %s
                       FROM installation i JOIN meter m ON m.id = i.meter_id
                       WHERE m.serial = %s AND m.property_id = %s AND i.period @> %s::timestamptz
                       RETURNING id, metering_point_id, (SELECT id FROM meter WHERE serial = %s)""",
                    [now, reason, actor.code, serial, property_id, now, serial],
                )
                found = cursor.fetchone()
        except IntegrityError as refused:
            raise FeedInRefused("is_so") from refused
        if found is None:
            raise FeedInRefused("unknown")
        record(
            actor=actor.code, code="estate.feed_in.begun", property_id=property_id,
            subject=f"meter:{found[2]}", now=now, point=found[1], reason=reason,
        )  # fmt: skip
        ring("changed", [property_id])
    return int(found[0])


def end_feed_in(*, actor: Actor, property_id: int, feed_in_id: int, now: datetime) -> None:
    """Say that a point feeds in no longer. Raises FeedInRefused `ended` (or not there), PermissionRefused."""
    require(actor, "tamper.feed_in", property_id=property_id)
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """UPDATE feed_in f SET ended_by = %s,
                   -- One that was said by mistake a moment ago held for that moment.
                   period = tstzrange(lower(period), greatest(%s, lower(period) + interval '1 microsecond'))
               WHERE id = %s AND property_id = %s AND upper_inf(period)
               RETURNING metering_point_id, (SELECT i.meter_id FROM installation i
                   WHERE i.metering_point_id = f.metering_point_id ORDER BY lower(i.period) DESC LIMIT 1)""",
            [actor.code, now, feed_in_id, property_id],
        )
        found = cursor.fetchone()
        if found is None:
            raise FeedInRefused("ended")
        record(
            actor=actor.code, code="estate.feed_in.ended", property_id=property_id,
            subject=f"meter:{found[1]}", now=now, point=found[0],
        )  # fmt: skip
        ring("changed", [property_id])


def rightful(flows: Sequence[Flow]) -> set[int]:
    """Which of these, by their place among them, were at a point that rightly fed in then; in the caller's scope."""
    if not flows:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT DISTINCT g.place::integer - 1
               FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[]) WITH ORDINALITY
                    AS g(meter_id, since, until, place)
               JOIN installation i ON i.meter_id = g.meter_id AND i.period && tstzrange(g.since, g.until, '[]')
               JOIN feed_in f ON f.metering_point_id = i.metering_point_id
                    AND f.period && tstzrange(g.since, g.until, '[]')""",
            [list(each) for each in zip(*flows, strict=True)],
        )
        return {row[0] for row in cursor.fetchall()}
