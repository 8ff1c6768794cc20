"""Concentrators of a property: when each was heard, what stands behind it, and whether its certificate holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from prewatt.access.scope import Actor, scope
from prewatt.moves.field_rules import field_rules
from prewatt.reports.place import NoSuchThing, place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import HEARD_AT, READ_OF_SOME, SILENT_AFTER_PERIODS, unit_name

LISTED_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class ConcentratorRow:
    """One concentrator. ``certificate`` is `holds`, `revoked`, `expired` or empty; ``silent_meters`` are of ``meters``.

    ``silent``: not heard for as long as the property allows.
    """

    concentrator_id: int
    serial: str
    name: str
    seen_at: datetime | None
    clock_drift_s: int | None
    meters: int
    silent_meters: int
    certificate: str
    silent: bool = False


@dataclass(frozen=True, slots=True)
class ConcentratorList:
    """The first of them, by serial number."""

    place: Place
    now: datetime
    rows: tuple[ConcentratorRow, ...]


@dataclass(frozen=True, slots=True)
class MeterBehind:
    """A meter, where it hangs, when it was heard, and which concentrator speaks for it (empty: none)."""

    meter_id: int
    serial: str
    unit: str
    since: datetime | None
    seen_at: datetime | None
    silent: bool
    concentrator: str


@dataclass(frozen=True, slots=True)
class ConcentratorPage:
    """One concentrator and all that it speaks for."""

    place: Place
    now: datetime
    concentrator: ConcentratorRow
    meters: tuple[MeterBehind, ...]

    @property
    def serials(self) -> frozenset[str]:
        """The serial numbers of what it speaks for."""
        return frozenset(each.serial for each in self.meters)


def concentrator_list(*, actor: Actor, now: datetime) -> ConcentratorList:
    """All of a property. Raises NoSuchThing, PermissionRefused."""
    with scope(actor):
        place = place_of(actor, "meters.read")
        return ConcentratorList(place, now, _rows(place, now, None))


def concentrator_page(*, actor: Actor, concentrator_id: int, now: datetime) -> ConcentratorPage:
    """One of them. Raises NoSuchThing, PermissionRefused."""
    with scope(actor):
        place = place_of(actor, "meters.read")
        found = _rows(place, now, concentrator_id)
        if not found:
            raise NoSuchThing(f"no concentrator {concentrator_id} in scope")
        behind = _meters(place, now, "k.concentrator_id = %(concentrator)s", concentrator_id)
    return ConcentratorPage(place, now, found[0], behind)


def named_meters(*, actor: Actor, serials: Sequence[str], now: datetime) -> dict[str, MeterBehind]:
    """The meters of a property among these serial numbers, with who speaks for them now."""
    with scope(actor):
        place = place_of(actor, "meters.read")
        found = _meters(place, now, "m.serial = ANY(%(serials)s)", serials=list(serials))
    return {each.serial: each for each in found}


def _rows(place: Place, now: datetime, concentrator_id: int | None) -> tuple[ConcentratorRow, ...]:
    patience = timedelta(seconds=field_rules(place.property_id).concentrator_silent_s)
    found = rows(
        _CONCENTRATORS,
        {
            "property": place.property_id, "now": now, "wanted": concentrator_id,
            "periods": SILENT_AFTER_PERIODS, "most": LISTED_MAX,
        },
    )  # fmt: skip
    listed = []
    for *row, since in found:
        each = ConcentratorRow(*row)
        heard = each.seen_at or since
        silent = heard is not None and each.meters > 0 and now - heard > patience
        listed.append(replace(each, silent=silent))
    return tuple(listed)


_CONCENTRATORS: Final = f"""
SELECT c.id, c.serial, c.name, c.last_seen_at, c.clock_drift_s, k.meters, k.silent,
       coalesce((SELECT CASE WHEN revoked_at IS NOT NULL THEN 'revoked'
                             WHEN not_after <= %(now)s THEN 'expired' ELSE 'holds' END
                 FROM device_certificate d WHERE d.serial = c.serial AND d.replaced_at IS NULL), ''),
       k.since
FROM concentrator c
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS meters, min(lower(b.period)) AS since,
           count(*) FILTER (WHERE coalesce(%(now)s - {HEARD_AT}
               > m.expected_period_s * %(periods)s * interval '1 second', true))::integer AS silent
    FROM concentrator_meter b JOIN meter m ON m.id = b.meter_id
    LEFT JOIN meter_link l ON l.meter_id = m.id
    {READ_OF_SOME}
    WHERE b.concentrator_id = c.id AND b.period @> %(now)s::timestamptz) k
WHERE c.property_id = %(property)s AND (%(wanted)s::bigint IS NULL OR c.id = %(wanted)s)
ORDER BY c.serial LIMIT %(most)s
"""  # noqa: S608 - our own expressions


def _meters(
    place: Place,
    now: datetime,
    condition: str,
    concentrator_id: int | None = None,
    serials: Sequence[str] = (),
) -> tuple[MeterBehind, ...]:
    found = rows(
        _BEHIND.format(condition=condition),
        {
            "property": place.property_id, "now": now, "concentrator": concentrator_id,
            "serials": serials, "periods": SILENT_AFTER_PERIODS,
        },
    )  # fmt: skip
    return tuple(
        MeterBehind(row[0], row[1], unit_name(row[2], row[3]) if row[3] else "", *row[4:])
        for row in found
    )


_BEHIND: Final = f"""
SELECT m.id, m.serial, coalesce(b.code, ''), coalesce(u.code, p.code, ''), lower(k.period),
       {HEARD_AT},
       coalesce(%(now)s - {HEARD_AT}
                > m.expected_period_s * %(periods)s * interval '1 second', true),
       coalesce(c.serial, '')
FROM meter m
LEFT JOIN concentrator_meter k ON k.meter_id = m.id AND k.period @> %(now)s::timestamptz
LEFT JOIN concentrator c ON c.id = k.concentrator_id
LEFT JOIN installation i ON i.meter_id = m.id AND i.period @> %(now)s::timestamptz
LEFT JOIN metering_point p ON p.id = i.metering_point_id
LEFT JOIN unit u ON u.id = p.unit_id LEFT JOIN building b ON b.id = u.building_id
LEFT JOIN meter_link l ON l.meter_id = m.id
{READ_OF_SOME}
WHERE m.property_id = %(property)s AND {{condition}}
ORDER BY b.position NULLS FIRST, u.floor, u.position, m.serial LIMIT 2000
"""  # noqa: S608 - our own expressions
