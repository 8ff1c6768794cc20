"""Where energy rightly flows backwards: which points of a property, by whose word, since when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prewatt.access.scope import Actor, scope
from prewatt.reports.lists import Listing
from prewatt.reports.lists_query import actor_names
from prewatt.reports.place import place_of, rows
from prewatt.reports.units import UNIT_NAME

LISTED_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class FeedInRow:
    """One point for one period; ``until`` is None while it holds. Names are empty where an import said so."""

    feed_in_id: int
    meter_id: int | None
    serial: str
    unit_id: int | None
    unit: str
    since: datetime
    until: datetime | None
    reason: str
    said_by: str
    ended_by: str


def feed_in_list(*, actor: Actor, now: datetime) -> Listing[FeedInRow]:
    """Those that hold first, by their unit; then those that ended, the latest first."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            f"""SELECT f.id, m.id, coalesce(m.serial, ''), u.id, coalesce({UNIT_NAME}, p.code), lower(f.period),
                       upper(f.period), f.reason, f.said_by, f.ended_by
                FROM feed_in f JOIN metering_point p ON p.id = f.metering_point_id
                LEFT JOIN unit u ON u.id = p.unit_id LEFT JOIN building b ON b.id = u.building_id
                LEFT JOIN installation i ON i.metering_point_id = p.id AND i.period @> %s::timestamptz
                LEFT JOIN meter m ON m.id = i.meter_id
                WHERE f.property_id = %s
                ORDER BY NOT upper_inf(f.period), upper(f.period) DESC, b.code, u.code, p.code LIMIT %s""",  # noqa: S608 - our own expressions
            [now, place.property_id, LISTED_MAX],
        )
        names = actor_names(code for row in found for code in row[8:])
    shown = tuple(
        FeedInRow(*(*row[:8], *(names.get(code, "") for code in row[8:]))) for row in found
    )
    return Listing(place, now, shown, len(shown))
