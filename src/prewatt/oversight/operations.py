"""Saves watches, looks by them, and says what came of a finding.

The worker looks each minute. How far a watch has looked is a transaction's number, not an event's: an
event that commits late has an early number of its own, but no look has passed its transaction, since
a look ends before the oldest that is still under way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

import numpy as np
from django.db import connection

from prewatt.access.scope import Actor, require, scope, system_actor
from prewatt.core.civil_time import day_date, day_number
from prewatt.estate.calendar_changes import property_calendar
from prewatt.notify.alerts import PAST_PROGRAM
from prewatt.notify.operations import raise_alert
from prewatt.oversight.kinds import BY_CODE, CLOSED, KINDS, checked, defaults

NAME_MAX: Final = 80
NOTE_MAX: Final = 400
_CALENDAR_DAYS: Final = 731
_WORKER: Final = system_actor("oversight")


class WatchRefused(Exception):
    """Nothing was saved. ``reason`` is a word of ``sql/0001_oversight.sql``: `not_auditor`, `unknown`
    or `note`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def save_watch(
    *,
    actor: Actor,
    watch_id: int | None,
    kind: str,
    name: str,
    figures: dict[str, int],
    is_on: bool,
    now: datetime,
) -> int:
    """Make a watch or change it; returns its id. Raises WatchRefused, `kinds.ParameterRefused`."""
    require(actor, "audit.watch")
    known = BY_CODE.get(kind)
    if known is None:
        raise WatchRefused("unknown")
    set_to = checked(known, figures)
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            "SELECT * FROM save_watch(%s, %s, %s, %s, %s::jsonb, %s, %s, %s)",
            [watch_id, actor.property_ids[0], kind, name[:NAME_MAX], json.dumps(set_to), is_on,
             actor.user_id, now],
        )  # fmt: skip
        saved, refusal = cursor.fetchone()
        if refusal is not None:
            raise WatchRefused(refusal)
    return int(saved)


def answer_finding(*, actor: Actor, finding_id: int, note: str, now: datetime) -> None:
    """Say that a finding was looked into, and what came of it. Raises WatchRefused."""
    require(actor, "audit.watch")
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            "SELECT answer_finding(%s, %s, %s, %s)",
            [finding_id, actor.user_id, note[:NOTE_MAX], now],
        )
        (refusal,) = cursor.fetchone()
        if refusal is not None:
            raise WatchRefused(refusal)


def look(*, now: datetime) -> int:
    """Look by every watch of every property; how much was found that is new.

    A property without watches gets one of each kind, with its first figures.
    """
    found = 0
    with scope(_WORKER):
        _begin_watches(now)
        watches = _due()
    for watch in watches:
        with scope(_WORKER):
            found += _look_by(watch, now)
    return found


def _begin_watches(now: datetime) -> None:
    with connection.cursor() as cursor:
        for kind in KINDS:
            cursor.execute(
                """INSERT INTO audit_watch (property_id, kind, name, parameters, is_on, made_by,
                                            changed_at, seen_transaction)
                   SELECT p.id, %s, '', %s::jsonb, true, %s, %s, 0 FROM property p
                   WHERE NOT EXISTS (SELECT FROM audit_watch w
                                     WHERE w.property_id = p.id AND w.kind = %s)""",
                [kind.code, json.dumps(defaults(kind)), _WORKER.code, now, kind.code],
            )


def _due() -> list[tuple[Any, ...]]:
    """(id, property, zone, kind, figures, seen) of the watches behind which something has ended."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT w.id, w.property_id, p.time_zone, w.kind, w.parameters::text, w.seen_transaction
               FROM audit_watch w JOIN property p ON p.id = w.property_id
               WHERE w.is_on ORDER BY w.id"""
        )
        return list(cursor.fetchall())


def _look_by(watch: tuple[Any, ...], now: datetime) -> int:
    watch_id, place, zone, kind_code, written, seen = watch
    kind = BY_CODE.get(kind_code)
    if kind is None:
        return 0
    figures = {**defaults(kind), **json.loads(written)}
    with connection.cursor() as cursor:
        # Whoever else looks by this watch waits, and then finds nothing new.
        cursor.execute(
            """SELECT seen_transaction, pg_snapshot_xmin(pg_current_snapshot())::text::bigint
               FROM audit_watch WHERE id = %s AND seen_transaction = %s FOR UPDATE""",
            [watch_id, seen],
        )
        row = cursor.fetchone()
        if row is None or row[1] == seen:
            return 0
        # Numbers that begin anew are those of another server, which a copy was restored to.
        seen = seen if row[1] > seen else 0
        cursor.execute(
            f"""INSERT INTO watch_finding (property_id, watch_id, key, actor, subject, event_id,
                                           happened_at, found_at, detail)
                SELECT %(place)s, %(watch)s, left(t.key, 120), left(t.actor, 80), left(t.subject, 80),
                       t.event_id, t.at, %(now)s, coalesce(t.detail, '{{}}')
                FROM ({kind.statement}) AS t (key, actor, subject, event_id, at, detail)
                ON CONFLICT DO NOTHING""",  # noqa: S608 - statements of our own
            {
                **figures, "place": place, "zone": zone, "watch": watch_id, "now": now,
                "fresh_from": seen, "fresh_to": row[1], "within_s": _within_s(figures),
                "closed_days": _closed_days(place, figures, now),
            },
        )  # fmt: skip
        found = int(cursor.rowcount)
        cursor.execute(
            "UPDATE audit_watch SET seen_transaction = %s WHERE id = %s", [row[1], watch_id]
        )
    if found and kind_code == "past_program":
        raise_alert(
            property_id=place, code=PAST_PROGRAM, subject=f"property:{place}",
            detail={"changes": found}, now=now,
        )  # fmt: skip
    return found


def _closed_days(place: int, figures: Mapping[str, Any], now: datetime) -> list[date]:
    """The days of the last two years on which nobody works, by the property's own calendar.

    A public holiday is one, and a Saturday, unless it is worked to make up for another day. Events
    that are older than that come with a copy that was restored, and are held to the hours alone.
    """
    closed = [kind for name, kind in CLOSED.items() if figures.get(name)]
    if not closed:
        return []
    last = now.date() + timedelta(days=1)
    days = np.arange(day_number(last) - _CALENDAR_DAYS, day_number(last) + 1, dtype=np.int64)
    calendar = property_calendar(place, day_date(int(days[0])).year, last.year)
    free = days[np.isin(calendar.day_kind_of(days), closed)]
    return [day_date(int(each)) for each in free]


def _within_s(figures: dict[str, Any]) -> int:
    return int(figures.get("hours", 0)) * 3600 + int(figures.get("days", 0)) * 86400
