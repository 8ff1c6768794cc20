"""Reads the estate's pages: the property, the tree of its units, and one unit with its past."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby

from prewatt.access.scope import Actor, scope
from prewatt.core.accounts import CounterAccount
from prewatt.core.vocabulary import RelayState
from prewatt.reports.alerts import open_alerts_of_unit
from prewatt.reports.estate import (
    BuildingCounts,
    BuildingUnits,
    MeterPeriod,
    PointPeriods,
    PropertyPage,
    SharedPoint,
    TenantPeriod,
    UnitList,
    UnitPage,
    UnitRow,
)
from prewatt.reports.paging import Page
from prewatt.reports.place import NoSuchThing, place_of, rows
from prewatt.reports.selection import Wanted, every_unit, select_units
from prewatt.reports.tamper import clocks_of_unit, versions_of_unit
from prewatt.reports.units import UNIT_NOW, UnitNow, looking_at_all, units_by_id

KINDS = ("flat", "office", "shop", "booth", "plant")
#: A unit's past is shown as far back as this many tenants, and meters of a point.
PAST_MAX = 50
FIRST = Page()


def unit_list(
    *,
    actor: Actor,
    now: datetime,
    query: str = "",
    kind: str = "",
    vacant: bool = False,
    page: Page = FIRST,
) -> UnitList:
    """The buildings with their units, searched by text, kind and whether the owner pays."""
    with scope(actor):
        place = place_of(actor)
        found = select_units(place, now, _units(query, kind, vacant=vacant), page)
        sizes = dict(
            rows(
                "SELECT building_id, count(*) FROM unit WHERE building_id = ANY(%s) GROUP BY building_id",
                [list({unit.building_id for unit in found.units})],
            )
        )
    buildings = []
    for building_id, group in groupby(found.units, key=lambda unit: unit.building_id):
        inside = list(group)
        buildings.append(
            BuildingUnits(
                building_id,
                inside[0].building_code,
                inside[0].building,
                sizes[building_id],
                found.found_in[building_id],
                tuple(_row(unit) for unit in inside),
            )
        )
    return UnitList(place, now, tuple(buildings), found.total, found.beside)


def every_unit_row(
    *, actor: Actor, now: datetime, query: str = "", kind: str = "", vacant: bool = False
) -> Iterator[UnitRow]:
    """The same selection to its end, for a file: rows come as they are asked for."""
    with scope(actor):
        place = place_of(actor)
        for unit in every_unit(place, now, _units(query, kind, vacant=vacant)):
            yield _row(unit)


def _units(query: str, kind: str, *, vacant: bool) -> Wanted:
    return Wanted(("vacant",) if vacant else (), text=query, kind=kind)


def _row(unit: UnitNow) -> UnitRow:
    return UnitRow(
        unit_id=unit.unit_id,
        name=unit.name,
        building=unit.building,
        kind=unit.kind,
        floor=unit.floor,
        customer=unit.customer,
        account_id=unit.account_id,
        state=unit.state,
        meter_id=unit.meter_id,
        serial=unit.serial,
    )


def unit_page(*, actor: Actor, unit_id: int, now: datetime) -> UnitPage:
    """One unit with its metering points, meters and tenants, each with its periods.

    Raises NoSuchThing for a unit that does not exist or stands at another property.
    """
    with scope(actor):
        place = place_of(actor)
        found = units_by_id(property_id=place.property_id, now=now, unit_ids=[unit_id])
        if not found:
            raise NoSuchThing(f"no unit {unit_id} in scope")
        unit = found[0]
        points = _points(unit_id)
        tenants = _tenants(unit_id)
        alerts = open_alerts_of_unit(property_id=place.property_id, unit_id=unit_id)
        versions, clocks = versions_of_unit(unit_id), clocks_of_unit(unit_id)
        vacancy = rows("SELECT id FROM account WHERE unit_id = %s AND kind = 'vacancy'", [unit_id])
    return UnitPage(
        place=place,
        now=now,
        unit_id=unit_id,
        name=unit.name,
        code=unit.code,
        kind=unit.kind,
        floor=unit.floor,
        building=unit.building,
        state=unit.state,
        customer=unit.customer,
        account_id=unit.account_id,
        vacancy_account_id=vacancy[0][0] if vacancy else None,
        points=points,
        tenants=tenants,
        alerts=alerts,
        versions=versions,
        clocks=clocks,
    )


def _points(unit_id: int) -> tuple[PointPeriods, ...]:
    found = rows(
        """SELECT e.id, e.code, e.role, e.source, coalesce(f.code, ''),
                  m.id, m.serial, m.model, lower(i.period), upper(i.period),
                  i.start_value_wh, i.end_value_wh, coalesce(l.relay, 0), w.last_at, w.last_value_wh,
                  (SELECT count(*) FROM vee_case v WHERE v.meter_id = m.id AND v.state = 'held')
           FROM metering_point e
           LEFT JOIN metering_point f ON f.id = e.parent_id
           LEFT JOIN LATERAL (SELECT * FROM installation x WHERE x.metering_point_id = e.id
               ORDER BY lower(x.period) DESC LIMIT %s) i ON true
           LEFT JOIN meter m ON m.id = i.meter_id
           LEFT JOIN meter_link l ON l.meter_id = m.id AND upper_inf(i.period)
           LEFT JOIN LATERAL (SELECT max(k.last_at) AS last_at, max(k.last_value_wh) AS last_value_wh
               FROM meter_state k WHERE k.meter_id = m.id AND k.closed_at = 'infinity'
                 AND k.register_code = 1) w ON upper_inf(i.period)
           WHERE e.unit_id = %s ORDER BY e.id, lower(i.period) DESC""",
        [PAST_MAX, unit_id],
    )
    grouped: defaultdict[tuple[int, str, str, str, str], list[MeterPeriod]] = defaultdict(list)
    for row in found:
        meters = grouped[row[:5]]
        if row[5] is not None:
            (meter_id, serial, model, since, until, start, end, relay, last_at, last, held) = row[
                5:
            ]
            was = MeterPeriod(
                meter_id, serial, model, since, until, start, end, RelayState(relay), last_at, last,
                held,
            )  # fmt: skip
            meters.append(was)
    return tuple(PointPeriods(*point, tuple(meters)) for point, meters in grouped.items())


def _tenants(unit_id: int) -> tuple[TenantPeriod, ...]:
    found = rows(
        """SELECT c.id, c.name, a.id, a.number, lower(t.period), upper(t.period),
                  coalesce(s.available, 0), a.closed_at IS NOT NULL,
                  coalesce((SELECT sum(r.amount_micro) FROM refund r
                            WHERE r.account_id = a.id AND r.state = 'due'), 0)::bigint,
                  coalesce((SELECT sum(x.amount) FROM transfer x WHERE x.account_id = a.id
                            AND x.counter_account = %s), 0)::bigint
           FROM tenancy t
           JOIN customer c ON c.id = t.customer_id
           JOIN account a ON a.id = t.account_id
           LEFT JOIN account_state s ON s.account_id = a.id
           WHERE t.unit_id = %s ORDER BY lower(t.period) DESC LIMIT %s""",
        [int(CounterAccount.DEBTS), unit_id, PAST_MAX],
    )
    return tuple(TenantPeriod(*row) for row in found)


def property_page(*, actor: Actor, now: datetime) -> PropertyPage:
    """The property the actor works at."""
    with scope(actor):
        place = place_of(actor)
        facts = rows(
            """SELECT p.code, o.name, e.name, e.tax_number,
                      coalesce((SELECT code FROM holiday_list h WHERE h.property_id = p.id
                                AND h.valid_from <= (%s AT TIME ZONE p.time_zone)::date
                                ORDER BY h.valid_from DESC LIMIT 1), p.holiday_calendar),
                      p.language,
                      (SELECT count(*) FROM customer c WHERE c.property_id = p.id),
                      (SELECT count(*) FROM account a WHERE a.property_id = p.id
                                AND a.closed_at IS NULL)
               FROM property p JOIN organisation o ON o.id = p.organisation_id
               JOIN legal_entity e ON e.id = p.legal_entity_id WHERE p.id = %s""",
            [now, place.property_id],
        )[0]
        with looking_at_all():
            buildings = rows(
                f"""SELECT building_code, building, count(*),
                           count(*) FILTER (WHERE vacant AND kind <> 'plant'), count(meter_id)
                    FROM {UNIT_NOW} AS unit_now GROUP BY building_position, building_id, building_code, building
                    ORDER BY building_position, building_id""",  # noqa: S608 - our own relation
                {"property": place.property_id, "now": now},
            )
        shared = _shared(place.property_id)
    code, organisation, entity, tax_number, calendar, language, customers, accounts = facts
    return PropertyPage(
        place, now, code, organisation, entity, tax_number, calendar, language, customers, accounts,
        tuple(BuildingCounts(*row) for row in buildings), shared,
    )  # fmt: skip


def _shared(property_id: int) -> tuple[SharedPoint, ...]:
    """The points of no unit as a tree, each followed by those below it."""
    found = rows(
        """WITH RECURSIVE tree AS (
               SELECT id, code, role, source, unit_id, 0 AS depth, ARRAY[code::text] AS path
               FROM metering_point WHERE property_id = %s AND parent_id IS NULL
               UNION ALL
               SELECT e.id, e.code, e.role, e.source, e.unit_id, t.depth + 1, t.path || e.code::text
               FROM metering_point e JOIN tree t ON e.parent_id = t.id WHERE t.depth < 12)
           SELECT t.code, t.role, t.source, t.depth,
                  (SELECT count(*) FROM tree b WHERE b.path[1:t.depth + 1] = t.path) - 1,
                  coalesce(m.serial, '')
           FROM tree t
           LEFT JOIN installation i ON i.metering_point_id = t.id AND upper_inf(i.period)
           LEFT JOIN meter m ON m.id = i.meter_id
           WHERE t.unit_id IS NULL ORDER BY t.path LIMIT 500""",
        [property_id],
    )
    return tuple(SharedPoint(*row) for row in found)
