"""Devices of the field that are silent: those fitted and never heard, and concentrators, each told of by one alert.

A concentrator that is silent is one alert, and no device behind it another: what they lack is its word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connection

from prewatt.access.scope import scope, system_actor
from prewatt.core.civil_time import instant_us
from prewatt.core.field_rules import FieldRules
from prewatt.notify.alerts import CONCENTRATOR_SILENT, NEVER_HEARD, AlertCode
from prewatt.notify.operations import close_alert, raise_alert
from prewatt.notify.queries import open_of


@dataclass(frozen=True, slots=True)
class Silent:
    """A device that a person is called to: since when it has been silent, and how many stand behind it."""

    property_id: int
    subject: str
    serial: str
    since: datetime
    meters: int = 0


def watch_field(*, now: datetime) -> int:
    """Write down who was heard, raise an alert for each that is silent too long, and close those that ended.

    Returns how many are silent.
    """
    with scope(system_actor("field")):
        _note_heard()
        silent = silent_concentrators(now=now)
        unheard = never_heard(now=now)
        _tell(CONCENTRATOR_SILENT, silent, now)
        _tell(NEVER_HEARD, unheard, now)
    return len(silent) + len(unheard)


def silent_concentrators(*, now: datetime) -> list[Silent]:
    """Concentrators that speak for meters and were not heard for as long as their property allows."""
    return _found(_SILENT, "concentrator", now)


def never_heard(*, now: datetime) -> list[Silent]:
    """Devices that were fitted, should have been heard by now, and stand behind no silent concentrator."""
    return _found(_NEVER_HEARD, "meter", now)


def _note_heard() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE commissioning c SET heard_at = l.last_seen_at FROM meter_link l
               WHERE l.meter_id = c.meter_id AND c.heard_at IS NULL AND l.last_seen_at > c.fitted_at"""
        )


def _found(statement: str, kind: str, now: datetime) -> list[Silent]:
    rules = FieldRules()
    with connection.cursor() as cursor:
        cursor.execute(statement, {"now": now, "silent_s": rules.concentrator_silent_s})
        return [
            Silent(place, f"{kind}:{key}", serial, since, meters)
            for place, key, serial, since, meters in cursor.fetchall()
        ]


def _tell(code: AlertCode, silent: list[Silent], now: datetime) -> None:
    found: Mapping[tuple[int, str], Silent] = {
        (each.property_id, each.subject): each for each in silent
    }
    for (property_id, subject), each in found.items():
        detail = {"serial": each.serial, "since_us": instant_us(each.since), "meters": each.meters}
        raise_alert(property_id=property_id, code=code, subject=subject, detail=detail, now=now)
    for property_id, subject in open_of(code):
        if (property_id, subject) not in found:
            close_alert(property_id=property_id, code=code, subject=subject, now=now)


#: A concentrator that never spoke is waited for from the first time on from which it may speak for a meter.
_SILENT: Final = """
SELECT c.property_id, c.id, c.serial, coalesce(c.last_seen_at, k.since), k.meters
FROM concentrator c
JOIN LATERAL (SELECT min(lower(period)) AS since, count(*)::integer AS meters FROM concentrator_meter
              WHERE concentrator_id = c.id AND period @> %(now)s::timestamptz) k ON k.meters > 0
LEFT JOIN field_rules r ON r.property_id = c.property_id
WHERE coalesce(c.last_seen_at, k.since)
      < %(now)s - make_interval(secs => coalesce(r.concentrator_silent_s, %(silent_s)s))
ORDER BY c.id
"""
_NEVER_HEARD: Final = f"""
WITH silent AS ({_SILENT})
SELECT c.property_id, c.meter_id, m.serial, c.fitted_at, 0
FROM commissioning c JOIN meter m ON m.id = c.meter_id
WHERE c.heard_at IS NULL AND c.checked_at IS NULL AND c.hear_by <= %(now)s
  AND NOT EXISTS (SELECT FROM concentrator_meter b WHERE b.meter_id = c.meter_id
                  AND b.period @> %(now)s::timestamptz AND b.concentrator_id IN (SELECT id FROM silent))
ORDER BY c.meter_id
"""  # noqa: S608 - a piece of ours
