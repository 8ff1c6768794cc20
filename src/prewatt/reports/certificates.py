"""Devices of a property by their certificates: who is enrolled, whose ends soon, who is shut out, who has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from prewatt.access.scope import Actor, scope
from prewatt.core.drivers import Driver
from prewatt.reports.lists import Listing
from prewatt.reports.lists_query import PAGE
from prewatt.reports.paging import words
from prewatt.reports.place import NoSuchThing, place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import unit_name

#: A certificate that ends within this time is told of: a device asks for its next one 91 days before.
SOON: Final = timedelta(days=60)
CERTIFICATE_SHOWS: Final = ("all", "holds", "expiring", "expired", "revoked", "code", "none")
_ORDERS: Final = {
    "ends": "not_after NULLS LAST, serial",
    "serial": "serial",
    "unit": "b_position NULLS LAST, building, unit, serial",
}
CERTIFICATE_SORTS: Final = tuple(_ORDERS)


@dataclass(frozen=True, slots=True)
class CertifiedDevice:
    """One device. ``kind`` is `meter` or `concentrator`; ``state`` a word of `CERTIFICATE_SHOWS`, `none` without any.

    ``hangs``: it is installed still; of a concentrator always.
    """

    kind: str
    serial: str
    unit: str
    hangs: bool
    number: str
    made_at: datetime | None
    not_after: datetime | None
    revoked_at: datetime | None
    state: str
    code_until: datetime | None

    @property
    def is_believed(self) -> bool:
        """Whether there is anything to revoke."""
        return self.state in ("holds", "expiring")


def certificates(
    *,
    actor: Actor,
    now: datetime,
    show: str = CERTIFICATE_SHOWS[0],
    query: str = "",
    sort: str = "ends",
    limit: int = PAGE,
) -> Listing[CertifiedDevice]:
    """The devices of a property. Raises NoSuchThing, PermissionRefused."""
    with scope(actor):
        place = place_of(actor, "meters.read")
        found = rows(
            f"""{_DEVICES} WHERE (%(show)s = 'all' OR state = %(show)s)
                  AND lower(concat_ws(' ', serial, building || '-' || unit)) LIKE ALL (%(words)s)
                ORDER BY {_ORDERS[sort]} LIMIT %(limit)s""",
            _given(place, now) | {"show": show, "words": words(query), "limit": limit},
        )
    total = int(found[0][-1]) if found else 0
    return Listing(place, now, tuple(_device(row) for row in found), total)


def certified_device(*, actor: Actor, serial: str, now: datetime) -> tuple[Place, CertifiedDevice]:
    """One device of the property. Raises NoSuchThing, PermissionRefused."""
    with scope(actor):
        place = place_of(actor, "meters.read")
        found = rows(
            f"{_DEVICES} WHERE serial = %(serial)s", _given(place, now) | {"serial": serial}
        )
    if not found:
        raise NoSuchThing(f"no device {serial} in scope")
    return place, _device(found[0])


def _given(place: Place, now: datetime) -> dict[str, Any]:
    return {"property": place.property_id, "now": now, "soon": now + SOON, "keyed": _KEYED}


def _device(row: Sequence[Any]) -> CertifiedDevice:
    kind, serial, building, unit, _position, *rest = row[:-1]
    return CertifiedDevice(kind, serial, unit_name(building, unit) if unit else "", *rest)


_KEYED: Final = [str(Driver.LWM2M), str(Driver.LORAWAN)]
#: A meter that was taken away is among them as long as it has had a certificate: it may be believed still.
_DEVICES: Final = """
WITH device AS (
    SELECT 'meter' AS kind, m.serial, coalesce(b.code, '') AS building,
           coalesce(u.code, p.code, '') AS unit, b.position AS b_position, upper_inf(i.period) AS hangs
    FROM meter m
    JOIN LATERAL (SELECT * FROM installation WHERE meter_id = m.id ORDER BY lower(period) DESC LIMIT 1)
        i ON true
    JOIN metering_point p ON p.id = i.metering_point_id
    LEFT JOIN unit u ON u.id = p.unit_id LEFT JOIN building b ON b.id = u.building_id
    -- Who comes by another radio shows keys of that, and never a certificate.
    WHERE m.property_id = %(property)s AND (upper_inf(i.period) AND m.driver <> ALL (%(keyed)s)
        OR EXISTS (SELECT FROM device_certificate d WHERE d.serial = m.serial))
    UNION ALL
    SELECT 'concentrator', serial, '', '', NULL, true FROM concentrator WHERE property_id = %(property)s
), listed AS (
    SELECT v.kind, v.serial, v.building, v.unit, v.b_position, v.hangs, coalesce(d.number, ''), d.made_at,
           d.not_after, d.revoked_at,
           CASE WHEN d.revoked_at IS NOT NULL THEN 'revoked' WHEN d.not_after <= %(now)s THEN 'expired'
                WHEN d.not_after <= %(soon)s THEN 'expiring' WHEN d.not_after IS NOT NULL THEN 'holds'
                WHEN c.until IS NOT NULL THEN 'code' ELSE 'none' END AS state,
           c.until
    FROM device v
    LEFT JOIN device_certificate d ON d.serial = v.serial AND d.replaced_at IS NULL
        AND d.property_id = %(property)s
    LEFT JOIN LATERAL (SELECT max(expires_at) AS until FROM device_code
        WHERE serial = v.serial AND property_id = %(property)s AND used_at IS NULL
          AND expires_at > %(now)s) c ON true
)
SELECT *, count(*) OVER () FROM listed
"""
