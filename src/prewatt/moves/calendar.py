"""A property's calendar changes: the days, the prices that are compiled from them, and the trace.

For days to come only; from the next batch on, prices and the hours for cuts follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.billing.operations import advance_epoch
from prewatt.estate import calendar_changes
from prewatt.estate.calendar_changes import OwnDay


def set_calendar_days(
    *, actor: Actor, property_id: int, days: Sequence[OwnDay], now: datetime
) -> None:
    """Add holidays, take some away, let days count as weekdays, or take that back (`LISTED`).

    Raises PermissionRefused, `calendar_changes.CalendarRefused`.
    """
    require(actor, "estate.write", property_id=property_id)
    with scope(actor):
        former = calendar_changes.own_days(property_id, [each.day for each in days])
        calendar_changes.set_days(property_id=property_id, days=days, now=now)
        advance_epoch(property_id)
        record(
            actor=actor.code,
            code="estate.calendar.days",
            property_id=property_id,
            subject=f"property:{property_id}",
            now=now,
            before=former,
            after={str(each.day): [each.kind.value, each.counts_as, each.note] for each in days},
        )


def follow_holiday_list(
    *,
    actor: Actor,
    property_id: int,
    code: str,
    observed: bool,
    valid_from: date,
    now: datetime,
) -> None:
    """Follow the public holidays of ``code`` from a day on, with or without observed shifts.

    Raises PermissionRefused, `calendar_changes.CalendarRefused`, `UnknownCalendar`.
    """
    require(actor, "estate.write", property_id=property_id)
    with scope(actor):
        former = calendar_changes.list_on(property_id, valid_from)
        calendar_changes.follow_list(
            property_id=property_id, code=code, observed=observed, valid_from=valid_from, now=now
        )
        advance_epoch(property_id)
        record(
            actor=actor.code,
            code="estate.calendar.list",
            property_id=property_id,
            subject=f"property:{property_id}",
            now=now,
            valid_from=str(valid_from),
            before=former,
            after={"list": code, "observed": observed},
        )
