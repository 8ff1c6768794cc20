"""What every report starts with: the place, its local day, and rows as the cursor gives them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.reports.today import Place


class NoSuchThing(LookupError):
    """What was asked for does not exist, or stands at a property the actor does not see."""


@dataclass(frozen=True, slots=True)
class LocalDay:
    """The local civil day that an instant lies in, half-open, and its length in whole hours."""

    begins_at: datetime
    ends_at: datetime
    hours: int

    def hour_of(self, at: datetime) -> int:
        """Which hour of the day an instant lies in, counted as elapsed time from midnight."""
        return int((at - self.begins_at).total_seconds() // 3600)


def local_day(now: datetime, time_zone: str, *, back: int = 0) -> LocalDay:
    """The local day of ``now``, or the one that was ``back`` days before it."""
    zone = ZoneInfo(time_zone)
    day = now.astimezone(zone).date() - timedelta(days=back)
    begin = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(ZoneInfo("UTC"))
    after = day + timedelta(days=1)
    end = datetime(after.year, after.month, after.day, tzinfo=zone).astimezone(ZoneInfo("UTC"))
    return LocalDay(begin, end, round((end - begin).total_seconds() / 3600))


def rows(statement: str, params: Sequence[Any] | dict[str, Any]) -> list[tuple[Any, ...]]:
    """Run one read statement inside the caller's scope and return all its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return list(cursor.fetchall())


def json_of(value: Any) -> Any:
    """A JSON column as a raw cursor gives it: text, or already read."""
    return json.loads(value) if isinstance(value, str) else value


def place_of(actor: Actor, permission: str = "accounts.read") -> Place:
    """The property the actor works at; call it inside the scope. Raises NoSuchThing, PermissionRefused.

    Every report begins with it, and says what one needs to read it: where nothing is said, people and
    their accounts.
    """
    require(actor, permission)
    found = rows(
        "SELECT id, name, currency, time_zone FROM property WHERE id = ANY(%s) ORDER BY id LIMIT 1",
        [list(actor.property_ids)],
    )
    if not found:
        raise NoSuchThing("no property in scope")
    return Place(*found[0])


def place_for(actor: Actor, permission: str = "accounts.read") -> Place:
    """``place_of`` for who has no scope open. Raises NoSuchThing, PermissionRefused."""
    with scope(actor):
        return place_of(actor, permission)
