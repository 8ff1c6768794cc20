"""Reads held readings with their evidence, and one meter before somebody reads it or takes it away."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from prewatt.access.scope import Actor, scope
from prewatt.core.readings import Quality
from prewatt.core.vocabulary import RelayState
from prewatt.moves.boundary import SILENT_AFTER_PERIODS
from prewatt.moves.held import TOGETHER_MAX
from prewatt.reports.held import ChargedReading, HeldPage, HeldRow, MeterPage, ReadingPoint
from prewatt.reports.lists import Listing
from prewatt.reports.lists_query import actor_names
from prewatt.reports.paging import Mark, Neighbours, Page, words
from prewatt.reports.place import NoSuchThing, place_of, rows
from prewatt.reports.units import unit_name

READINGS_MAX = 40
"""So many readings of a meter are offered to be put right at a time."""

SHOWS = ("held", "closed")
#: What a list can be sorted by: its keys, and whether the last comes first.
SORTS = {
    "received": (("v.received_at", "v.case_id"), True),
    "read": (("v.read_at", "v.case_id"), True),
    "meter": (("m.serial", "v.read_at", "v.case_id"), False),
    "reason": (("v.reason", "v.read_at", "v.case_id"), True),
}
_FILE_ROWS = 500
#: The chart shows so much before and after, with at most so many readings.
AROUND, POINTS_MAX = timedelta(days=3), 400

_FROM = """
FROM vee_case v
JOIN meter m ON m.id = v.meter_id
JOIN account a ON a.id = v.account_id
LEFT JOIN customer c ON c.id = a.customer_id
LEFT JOIN LATERAL (SELECT e.unit_id FROM installation i
    JOIN metering_point e ON e.id = i.metering_point_id
    WHERE i.meter_id = m.id ORDER BY lower(i.period) DESC LIMIT 1) h ON true
LEFT JOIN unit u ON u.id = h.unit_id
LEFT JOIN building b ON b.id = u.building_id
WHERE v.property_id = %(property)s
"""
_HELD = f"""
SELECT v.case_id, v.meter_id, m.serial, u.id, coalesce(b.code, ''), coalesce(u.code, ''),
       coalesce(c.name, ''), v.account_id, v.read_at, v.value_wh, v.register_code, v.received_at,
       v.reason, v.watermark_at, v.watermark_wh, v.state, v.closed_at, coalesce(v.closed_by, ''),
       coalesce(v.close_reason, ''), m.max_power_w, m.multiplier
{_FROM}
"""
_WANTED = """(v.state = 'held') = %(held)s
    AND lower(concat_ws(' ', m.serial, b.code || '-' || u.code, c.name)) LIKE ALL (%(words)s)
"""
#: The keys of a case where a page begins or ends, whatever has become of it.
_EDGE = """(SELECT {keys} FROM vee_case v JOIN meter m ON m.id = v.meter_id
    WHERE v.case_id = %(mark_id)s AND v.property_id = %(property)s)"""


def held_list(
    *,
    actor: Actor,
    now: datetime,
    show: str = SHOWS[0],
    query: str = "",
    sort: str = "received",
    page: Page = Page(),  # noqa: B008 - it cannot change
) -> Listing[HeldRow]:
    """Readings that wait for a decision, or those that were decided."""
    keys, falls = SORTS[sort]
    with scope(actor):
        place = place_of(actor)
        given = {
            "property": place.property_id,
            "held": show == SHOWS[0],
            "words": words(query),
            **page.given(),
        }
        total = int(rows(f"SELECT count(*) {_FROM} AND {_WANTED}", given)[0][0])
        beyond = page.where(keys, _EDGE.format(keys=", ".join(keys)), falls=falls)
        found = rows(f"{_HELD} AND {_WANTED} AND {beyond}", given)
        names = actor_names(row[17] for row in found)
    shown, is_before, is_after = page.cut(tuple(_row(row, names) for row in found))
    marks = [Mark(0, row.case_id) for row in shown]
    beside = Neighbours.of(marks, is_before=is_before, is_after=is_after)
    return Listing(place, now, shown, total, beside=beside)


def every_held(
    *, actor: Actor, now: datetime, show: str, query: str, sort: str
) -> Iterator[HeldRow]:
    """The same selection to its end, for a file: some rows at a time."""
    page = Page(limit=_FILE_ROWS)
    while True:
        found = held_list(actor=actor, now=now, show=show, query=query, sort=sort, page=page)
        yield from found.rows
        if not found.beside.next:
            return
        page = Page.of(found.beside.next, "", _FILE_ROWS)


def _row(row: tuple[Any, ...], names: dict[str, str]) -> HeldRow:
    unit = unit_name(row[4], row[5]) if row[5] else ""
    by = names.get(row[17], row[17])
    return HeldRow(
        row[0], row[1], row[2], row[3], unit, row[6], row[7], row[8], row[9], row[10], row[11],
        row[12], row[13], row[14], row[15], row[16], by, row[18],
    )  # fmt: skip


def held_page(*, actor: Actor, case_id: int, now: datetime) -> HeldPage:
    """One held reading. Raises NoSuchThing."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            _HELD + " AND v.case_id = %(case)s", {"property": place.property_id, "case": case_id}
        )
        if not found:
            raise NoSuchThing(f"no held reading {case_id} in scope")
        case = _row(found[0], actor_names([found[0][17]]))
        begins = min(case.watermark_at, case.read_at) - AROUND
        ends = max(case.watermark_at, case.read_at) + AROUND
        points = rows(
            """SELECT * FROM (
                   SELECT read_at, value_wh, false FROM (
                       SELECT DISTINCT ON (read_at) read_at, value_wh, quality FROM register_reading
                       WHERE meter_id = %(meter)s AND register_code = %(register)s
                         AND read_at BETWEEN %(begins)s AND %(ends)s
                       ORDER BY read_at, revision DESC) latest
                   WHERE quality <> %(withdrawn)s
                   ORDER BY abs(extract(epoch FROM read_at - %(at)s)) LIMIT %(most)s) near
               UNION ALL
               SELECT read_at, value_wh, true FROM vee_case
               WHERE meter_id = %(meter)s AND register_code = %(register)s AND state = 'held'
                 AND case_id = %(case)s
               ORDER BY 1""",
            {
                "meter": case.meter_id,
                "register": case.register_code,
                "begins": begins,
                "ends": ends,
                "at": case.read_at,
                "case": case_id,
                "most": POINTS_MAX,
                "withdrawn": int(Quality.WITHDRAWN),
            },
        )
        others = rows(
            """SELECT count(*) FROM vee_case WHERE meter_id = %s AND state = 'held'
                   AND case_id <> %s""",
            [case.meter_id, case_id],
        )[0][0]
    return HeldPage(
        place,
        now,
        case,
        max_power_w=found[0][19],
        multiplier=found[0][20],
        points=tuple(ReadingPoint(*row) for row in points),
        others=others,
    )


def held_of_meter(*, actor: Actor, meter_id: int, now: datetime) -> Listing[HeldRow]:
    """What is held of one meter, in the order in which it was read."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            _HELD
            + """ AND v.meter_id = %(meter)s AND v.state = 'held'
                  ORDER BY v.register_code, v.read_at, v.case_id LIMIT %(most)s""",
            {"property": place.property_id, "meter": meter_id, "most": TOGETHER_MAX},
        )
        total = rows(
            """SELECT count(*) FROM vee_case
               WHERE property_id = %s AND meter_id = %s AND state = 'held'""",
            [place.property_id, meter_id],
        )[0][0]
    return Listing(place, now, tuple(_row(row, {}) for row in found), int(total))


def meter_page(*, actor: Actor, meter_id: int, now: datetime) -> MeterPage:
    """A meter where it is, or was last. Raises NoSuchThing for one that is not of the property."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            """SELECT m.id, m.serial, m.model, m.driver, m.multiplier, m.modulus_wh, m.max_power_w,
                      m.has_relay, m.expected_period_s, e.code, u.id, coalesce(b.code, ''),
                      coalesce(u.code, ''), a.id, coalesce(a.number, ''), coalesce(c.name, ''),
                      coalesce(s.available, 0), w.last_at, w.last_value_wh, coalesce(l.relay, 0),
                      upper(i.period)
               FROM meter m
               JOIN LATERAL (SELECT * FROM installation x WHERE x.meter_id = m.id
                   ORDER BY lower(x.period) DESC LIMIT 1) i ON true
               JOIN metering_point e ON e.id = i.metering_point_id
               LEFT JOIN unit u ON u.id = e.unit_id
               LEFT JOIN building b ON b.id = u.building_id
               LEFT JOIN meter_assignment g ON g.meter_id = m.id AND upper_inf(g.period)
               LEFT JOIN account a ON a.id = g.account_id
               LEFT JOIN customer c ON c.id = a.customer_id
               LEFT JOIN account_state s ON s.account_id = a.id
               LEFT JOIN meter_state w ON w.meter_id = m.id AND w.account_id = a.id
                   AND w.register_code = 1
               LEFT JOIN meter_link l ON l.meter_id = m.id
               WHERE m.id = %s AND m.property_id = %s""",
            [meter_id, place.property_id],
        )
        if not found:
            raise NoSuchThing(f"no meter {meter_id} in scope")
    (meter, serial, model, driver, multiplier, modulus, power, has_relay, period_s, point, unit_id,
     building, unit, account_id, number, customer, available, last_at, last_wh, relay, removed_at) = found[0]  # fmt: skip
    longest = timedelta(seconds=period_s * SILENT_AFTER_PERIODS)
    return MeterPage(
        place, now, meter, serial, model, driver, multiplier, modulus, power, has_relay, period_s,
        point, unit_id, unit_name(building, unit) if unit else "", account_id, number, customer,
        available, last_at, last_wh, RelayState(relay),
        silent=last_at is None or now - last_at > longest, removed_at=removed_at,
    )  # fmt: skip


def charged_readings(*, actor: Actor, meter_id: int, until: datetime) -> tuple[ChargedReading, ...]:
    """The latest readings of a meter up to an instant, each as it was put right last, newest first.

    Readings at which a payer or device begins or ends are nobody's to correct, and left out.
    """
    with scope(actor):
        place = place_of(actor)
        found = rows(
            """SELECT read_at, (extract(epoch FROM read_at) * 1000000)::bigint, value_wh, quality,
                      source
               FROM (SELECT DISTINCT ON (r.read_at) r.* FROM register_reading r
                     WHERE r.meter_id = %s AND r.register_code = 1 AND r.property_id = %s
                       AND r.read_at <= %s AND r.account_id <> 0 AND NOT EXISTS (
                           SELECT FROM meter_assignment a WHERE a.meter_id = r.meter_id
                             AND r.read_at IN (lower(a.period), upper(a.period)))
                     ORDER BY r.read_at DESC, r.revision DESC LIMIT %s) latest""",
            [meter_id, place.property_id, until, READINGS_MAX],
        )
    return tuple(ChargedReading(*row) for row in found)
