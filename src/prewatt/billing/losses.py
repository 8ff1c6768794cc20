"""What flowed into a property, by the meters of its feeders: what losses are a share of.

The meter of a feeder has no account; its readings are kept raw (``mdm.keep_readings``) and nobody is
charged by them. A feeder below another one counts nothing of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connection

from prewatt.core.readings import ACTIVE_IMPORT

#: Why it is not known what flowed in; stored in results of trials, never renamed.
NO_METER: Final = "no_supply_meter"
NOT_READ: Final = "supply_meter_not_read"


@dataclass(frozen=True, slots=True)
class Supplied:
    """Wh that flowed into a property, or None and why it is not known."""

    energy_wh: int | None
    why: str = ""


def supplied(*, property_id: int, from_at: datetime, until_at: datetime) -> Supplied:
    """What the feeders' meters counted in [from, until), in the caller's scope.

    Between two readings a register goes up evenly, in whole counts, cut off. Every feeder has to
    have a meter and readings around both ends; where one has none, nothing is said of the whole.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _FEEDERS,
            {
                "property": property_id,
                "from": from_at,
                "until": until_at,
                "register": ACTIVE_IMPORT,
            },
        )
        rows = cursor.fetchall()
    if not rows or not all(is_metered for is_metered, _ in rows):
        return Supplied(None, NO_METER)
    if any(wh is None for _, wh in rows):
        return Supplied(None, NOT_READ)
    return Supplied(sum(int(wh) for _, wh in rows))


#: For each feeder that is below no other: whether a meter was installed all the time, and what it
#: counted; NULL where the register is not known at an end. An installation begins and ends with a
#: reading of its own.
_FEEDERS: Final = """
WITH feeder AS (
    SELECT p.id FROM metering_point p LEFT JOIN metering_point above ON above.id = p.parent_id
    WHERE p.property_id = %(property)s AND p.role = 'feeder' AND above.role IS DISTINCT FROM 'feeder'
), stay AS (
    SELECT f.id AS point_id, i.meter_id, i.period * tstzrange(%(from)s, %(until)s) AS part,
           i.period, i.start_value_wh, i.end_value_wh, m.multiplier, m.modulus_wh
    FROM feeder f
    JOIN installation i ON i.metering_point_id = f.id AND i.period && tstzrange(%(from)s, %(until)s)
    JOIN meter m ON m.id = i.meter_id
), known AS (
    SELECT s.point_id, s.meter_id, e.is_end, r.before_at, r.before_wh, r.after_at, r.after_wh,
           e.at, s.multiplier, s.modulus_wh
    FROM stay s
    CROSS JOIN LATERAL (VALUES (false, lower(s.part)), (true, upper(s.part))) AS e(is_end, at)
    CROSS JOIN LATERAL (
        SELECT (array_agg(k.at ORDER BY k.at DESC) FILTER (WHERE k.at <= e.at))[1] AS before_at,
               (array_agg(k.wh ORDER BY k.at DESC) FILTER (WHERE k.at <= e.at))[1] AS before_wh,
               (array_agg(k.at ORDER BY k.at) FILTER (WHERE k.at >= e.at))[1] AS after_at,
               (array_agg(k.wh ORDER BY k.at) FILTER (WHERE k.at >= e.at))[1] AS after_wh
        FROM (
            (SELECT read_at AS at, value_wh AS wh FROM register_reading
             WHERE meter_id = s.meter_id AND register_code = %(register)s
               AND read_at <= e.at AND read_at >= lower(s.period)
             ORDER BY read_at DESC LIMIT 1)
            UNION ALL
            (SELECT read_at, value_wh FROM register_reading
             WHERE meter_id = s.meter_id AND register_code = %(register)s
               AND read_at >= e.at AND read_at <= coalesce(upper(s.period), 'infinity')
             ORDER BY read_at LIMIT 1)
            UNION ALL SELECT lower(s.period), s.start_value_wh
            UNION ALL SELECT upper(s.period), s.end_value_wh WHERE s.end_value_wh IS NOT NULL
        ) AS k
    ) AS r
), valued AS (
    SELECT point_id, meter_id, is_end, multiplier, modulus_wh,
           CASE WHEN after_at = before_at THEN before_wh
                ELSE before_wh + floor(((after_wh - before_wh + modulus_wh) %% modulus_wh)
                     * extract(epoch FROM at - before_at)
                     / extract(epoch FROM after_at - before_at))::bigint END AS wh
    FROM known
), counted AS (
    SELECT point_id, meter_id, bool_and(wh IS NOT NULL) AS is_known,
           (max(wh) FILTER (WHERE is_end) - max(wh) FILTER (WHERE NOT is_end) + max(modulus_wh))
               %% max(modulus_wh) * max(multiplier) AS wh
    FROM valued GROUP BY 1, 2
)
SELECT coalesce((SELECT range_agg(s.part) FROM stay s WHERE s.point_id = f.id)
                @> tstzrange(%(from)s, %(until)s), false),
       (SELECT CASE WHEN bool_and(c.is_known) THEN sum(c.wh) END FROM counted c
        WHERE c.point_id = f.id)
FROM feeder f
"""
