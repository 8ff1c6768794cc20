"""What the worker finds by itself: relays that are welded, energy that flows backwards, meters that are passed by.

Each look is a statement or two for all properties, however many meters there are; what it finds is evidence like any
other, named by its day, so that what lasts is evidence once a day and one case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.core.civil_time import instant_us
from prewatt.core.readings import ACTIVE_IMPORT, Quality
from prewatt.core.tampering import DayAtMeter, bypass_suspicions
from prewatt.core.vee import Verdict
from prewatt.core.vocabulary import TamperKind
from prewatt.supply import queries as supply
from prewatt.tamper.operations import Evidence, note_evidence

#: So many of a kind at one look: what is beyond comes with the next.
_AT_ONCE: Final = 2_000
#: What flows back in a day before it is an incident, and what a register falls by before it is no noise.
REVERSE_WH: Final = 100
_ACTIVE_EXPORT: Final = 2
#: A usual day is the mean of so many before.
_USUAL_DAYS: Final = 7
#: A day is looked at so long after its end, for what comes late.
GRACE: Final = timedelta(hours=2)
_DAY: Final = timedelta(days=1)


def look_for_tampering(*, actor: Actor, now: datetime, by_day: bool) -> int:
    """Look at relays and registers, and, ``by_day``, at feeders and registers of a day; returns the new cases."""
    require(actor, "tamper.detect")
    with scope(actor):
        found = [*_welded(now), *_fallen(now)]
        if by_day:
            found += [*_fed_back(now), *_passed_by(now)]
        return len(note_evidence(found=found, by=actor.code, now=now))


def _welded(now: datetime) -> list[Evidence]:
    """Relays that were read back open, and whose meters count on beyond the property's tolerance."""
    used = supply.used_while_open(limit=_AT_ONCE)
    rules = supply.rules(sorted({each.property_id for each in used}), now)
    return [
        Evidence(
            each.property_id, each.meter_id, TamperKind.RELAY_WELDED, "relay", "used_while_open",
            instant_us(now), instant_us(each.read_at),
            told=f"{instant_us(each.since)} {each.read_at.date()}",
            detail={
                "since_us": instant_us(each.since), "from_wh": each.from_wh,
                "register_wh": each.register_wh, "used_wh": each.used_wh,
            },
        )
        for each in used
        if each.used_wh > rules[each.property_id].usage_while_open_wh
    ]  # fmt: skip


def _fallen(now: datetime) -> list[Evidence]:
    """Readings that are held because the register went backwards, by more than noise."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT v.property_id, v.meter_id, v.case_id, v.read_at, v.value_wh, v.watermark_wh
               FROM vee_case v JOIN meter m ON m.id = v.meter_id
               WHERE v.state = 'held' AND v.verdict = %s AND v.register_code = %s
                 AND v.received_at > %s AND v.watermark_wh - v.value_wh >= %s
                 -- One that has begun anew from nothing is another device, or has turned past its end.
                 AND v.value_wh * 2 > v.watermark_wh
               ORDER BY v.case_id LIMIT %s""",
            [int(Verdict.BACKWARDS), ACTIVE_IMPORT, now - _DAY, REVERSE_WH, _AT_ONCE],
        )
        return [
            Evidence(
                place, meter, TamperKind.REVERSE_FLOW, "readings", "register_fell",
                instant_us(now), instant_us(read_at), told=f"held {case}",
                detail={"held": case, "fell_wh": mark - value, "register_wh": value},
            )
            for place, meter, case, read_at, value, mark in cursor.fetchall()
        ]  # fmt: skip


#: What a register rose by between two instants: by the last reading at or before each, of two days at most.
_RISE: Final = """
(SELECT r.value_wh FROM register_reading r
 WHERE r.meter_id = m.id AND r.register_code = %(register)s AND r.read_at <= {at}
   AND r.read_at > {at} - interval '2 days' AND r.quality <> %(withdrawn)s
 ORDER BY r.read_at DESC, r.revision DESC LIMIT 1)
"""


def _fed_back(now: datetime) -> list[Evidence]:
    """Meters whose export register rose since yesterday."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT * FROM (
                    SELECT m.property_id, m.id, ({_RISE.format(at="%(now)s::timestamptz")}
                        - {_RISE.format(at="(%(now)s::timestamptz - interval '1 day')")}) * m.multiplier AS wh
                    FROM meter m
                    WHERE EXISTS (SELECT FROM register_reading r WHERE r.meter_id = m.id
                        AND r.register_code = %(register)s AND r.read_at > %(now)s::timestamptz - interval '2 days')
                ) fed WHERE wh >= %(least)s ORDER BY 2 LIMIT %(most)s""",  # noqa: S608 - our own text
            {
                "register": _ACTIVE_EXPORT, "now": now, "withdrawn": int(Quality.WITHDRAWN),
                "least": REVERSE_WH, "most": _AT_ONCE,
            },
        )  # fmt: skip
        return [
            Evidence(
                place, meter, TamperKind.REVERSE_FLOW, "readings", "fed_back", instant_us(now),
                told=f"fed {now.date()}", over_us=int(_DAY / timedelta(microseconds=1)),
                detail={"fed_wh": wh},
            )
            for place, meter, wh in cursor.fetchall()
        ]  # fmt: skip


def _passed_by(now: datetime) -> list[Evidence]:
    """Meters that are silent where their feeder misses what they usually count (`bypass_suspicions`)."""
    found: list[Evidence] = []
    for (place, feeder, ends), (own, behind) in _feeder_days(now).items():
        if own is None or not behind:
            continue
        usual_loss = own.usual_wh - sum(each.usual_wh for each in behind)
        found += [
            Evidence(
                place, each.meter_id, TamperKind.BYPASS, "feeder", "feeder_misses", instant_us(now),
                instant_us(ends), told=f"day {ends.date()}",
                detail={
                    "feeder": feeder, "feeder_wh": own.day_wh, "missing_wh": each.missing_wh,
                    "own_wh": each.day_wh, "usual_wh": each.usual_wh,
                },
            )
            for each in bypass_suspicions(own.day_wh, usual_loss, behind)
        ]  # fmt: skip
    return found


def _feeder_days(
    now: datetime,
) -> dict[tuple[int, int, datetime], tuple[DayAtMeter | None, Sequence[DayAtMeter]]]:
    """By (property, feeder's point, end of its last local day): what the feeder counted, and each meter behind it.

    Only where every meter has readings of that whole day and of the week before: of others nothing follows.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _FEEDER_DAYS,
            {
                "now": now - GRACE, "register": ACTIVE_IMPORT, "withdrawn": int(Quality.WITHDRAWN),
                "days": _USUAL_DAYS,
            },
        )  # fmt: skip
        rows = cursor.fetchall()
    days: dict[tuple[int, int, datetime], list[DayAtMeter]] = defaultdict(list)
    own: dict[tuple[int, int, datetime], DayAtMeter] = {}
    unknown: set[tuple[int, int, datetime]] = set()
    for place, feeder, ends, meter, is_feeder, day_wh, week_wh in rows:
        key = (place, feeder, ends)
        if day_wh is None or week_wh is None or day_wh < 0 or week_wh < 0:
            unknown.add(key)
        elif is_feeder:
            own[key] = DayAtMeter(meter, day_wh, week_wh // _USUAL_DAYS)
        else:
            days[key].append(DayAtMeter(meter, day_wh, week_wh // _USUAL_DAYS))
    return {key: (own.get(key), days[key]) for key in own if key not in unknown}


_FEEDER_DAYS: Final = f"""
WITH feeder AS (
    SELECT p.property_id, p.id,
           date_trunc('day', %(now)s::timestamptz AT TIME ZONE e.time_zone) AT TIME ZONE e.time_zone AS ends,
           (date_trunc('day', %(now)s::timestamptz AT TIME ZONE e.time_zone) - interval '1 day')
               AT TIME ZONE e.time_zone AS begins
    FROM metering_point p JOIN property e ON e.id = p.property_id WHERE p.role = 'feeder'),
hung AS (
    SELECT f.property_id, f.id AS feeder, f.begins, f.ends, i.meter_id, p.id = f.id AS is_feeder
    FROM feeder f JOIN metering_point p ON p.id = f.id OR p.parent_id = f.id
    JOIN installation i ON i.metering_point_id = p.id AND i.period @> f.begins AND i.period @> f.ends)
SELECT h.property_id, h.feeder, h.ends, m.id, h.is_feeder,
       ({_RISE.format(at="h.ends")} - {_RISE.format(at="h.begins")}) * m.multiplier,
       ({_RISE.format(at="h.begins")}
        - {_RISE.format(at="(h.begins - %(days)s * interval '1 day')")}) * m.multiplier
FROM hung h JOIN meter m ON m.id = h.meter_id
ORDER BY h.feeder, m.id
"""  # noqa: S608 - our own text
