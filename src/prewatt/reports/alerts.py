"""Alerts as pages show them: what is open or was closed, about which unit, with the figures of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from prewatt.access.scope import Actor, scope
from prewatt.moves.alerts import cause_lasts
from prewatt.notify.alerts import CODES, PERSONS
from prewatt.reports.lists import Listing
from prewatt.reports.lists_query import PAGE, actor_names
from prewatt.reports.place import NoSuchThing, json_of, place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import unit_name

ALERT_SHOWS: Final = ("open", "closed", "all")
#: What a list can be sorted by, and how.
_ORDERS: Final = {
    "opened": "a.opened_at DESC, a.id DESC",
    "oldest": "a.opened_at, a.id",
    "unit": "b.code NULLS LAST, u.code, a.opened_at DESC, a.id DESC",
    "kind": "array_position(%(codes)s::text[], a.code::text), a.opened_at DESC, a.id DESC",
}
ALERT_SORTS: Final = tuple(_ORDERS)
#: A unit's page shows so many of its open alerts.
_OF_UNIT_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One alert. ``detail`` are its figures as they were stored; ``serial`` is empty without a device.

    ``closed_by`` is the name of who closed it by hand, empty where the system did.
    """

    alert_id: int
    code: str
    detail: Mapping[str, Any]
    opened_at: datetime
    closed_at: datetime | None
    closed_by: str
    close_note: str
    meter_id: int | None
    serial: str
    account_id: int | None
    number: str
    customer: str
    unit_id: int | None
    unit: str

    @property
    def by_hand(self) -> bool:
        """Whether a person closed it."""
        return bool(self.close_note)


# Without slots: as `Listing`.
@dataclass(frozen=True)
class AlertList(Listing[AlertRow]):
    """Alerts of a selection; ``last_at`` is when the latest of all was opened, None if there was none."""

    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AlertPage:
    """One alert. ``lasts`` says that the system keeps it open because its cause still is.

    ``ends_itself`` says that the system ends it once its cause is put right.
    """

    place: Place
    now: datetime
    alert: AlertRow
    lasts: bool
    ends_itself: bool


#: The subject of an alert is a meter, a concentrator, an account or the whole property. A meter's unit is the one it hangs
#: in or hung in last, its account who pays by it now; an account's unit is the one it has or had last.
_ALERTS: Final = """
SELECT a.id, a.code, a.detail, a.opened_at, a.closed_at, a.closed_by, a.close_note,
       m.id, coalesce(m.serial, k.serial, ''), c.id, coalesce(c.number, ''), coalesce(p.name, ''),
       u.id, coalesce(b.code, ''), coalesce(u.code, ''), count(*) OVER ()
FROM alert a
LEFT JOIN meter m ON m.id = CASE WHEN a.subject LIKE 'meter:%%' THEN substr(a.subject, 7)::bigint END
LEFT JOIN concentrator k
    ON k.id = CASE WHEN a.subject LIKE 'concentrator:%%' THEN substr(a.subject, 14)::bigint END
LEFT JOIN meter_assignment g ON g.meter_id = m.id AND upper_inf(g.period)
LEFT JOIN account c ON c.id = coalesce(g.account_id,
    CASE WHEN a.subject LIKE 'account:%%' THEN substr(a.subject, 9)::bigint END)
LEFT JOIN customer p ON p.id = c.customer_id
LEFT JOIN LATERAL (SELECT e.unit_id FROM installation i
    JOIN metering_point e ON e.id = i.metering_point_id
    WHERE i.meter_id = m.id ORDER BY lower(i.period) DESC LIMIT 1) h ON true
LEFT JOIN LATERAL (SELECT t.unit_id FROM tenancy t WHERE t.account_id = c.id AND m.id IS NULL
    ORDER BY lower(t.period) DESC LIMIT 1) t ON true
LEFT JOIN unit u ON u.id = CASE WHEN m.id IS NULL THEN coalesce(t.unit_id, c.unit_id) ELSE h.unit_id END
LEFT JOIN building b ON b.id = u.building_id
WHERE a.property_id = %(property)s
"""


def alert_list(
    *,
    actor: Actor,
    now: datetime,
    show: str = ALERT_SHOWS[0],
    kind: str = "",
    query: str = "",
    sort: str = "opened",
    limit: int = PAGE,
) -> AlertList:
    """Alerts that are open, or were closed; ``kind`` is a code, empty for all."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            _ALERTS
            + """ AND (%(show)s = 'all' OR (a.closed_at IS NULL) = (%(show)s = 'open'))
                  AND (%(kind)s = '' OR a.code = %(kind)s)
                  AND concat_ws(' ', m.serial, k.serial, b.code || '-' || u.code, u.code, p.name, c.number)
                      ILIKE ALL (%(words)s)
                  ORDER BY """
            + _ORDERS[sort]
            + " LIMIT %(limit)s",
            {
                "property": place.property_id,
                "show": show,
                "kind": kind,
                "codes": list(CODES),
                "words": [f"%{_escaped(word)}%" for word in query.split()] or ["%"],
                "limit": limit,
            },
        )
        last_at = rows(
            "SELECT max(opened_at) FROM alert WHERE property_id = %s", [place.property_id]
        )[0][0]
        names = actor_names(row[5] for row in found)
    total = int(found[0][15]) if found else 0
    return AlertList(place, now, tuple(_row(row, names) for row in found), total, last_at=last_at)


def open_alerts_of_unit(*, property_id: int, unit_id: int) -> tuple[AlertRow, ...]:
    """The open alerts about a unit, the latest first; inside the caller's scope."""
    found = rows(
        _ALERTS
        + """ AND a.closed_at IS NULL AND u.id = %(unit)s
              ORDER BY a.opened_at DESC, a.id DESC LIMIT %(limit)s""",
        {"property": property_id, "unit": unit_id, "limit": _OF_UNIT_MAX},
    )
    return tuple(_row(row, {}) for row in found)


def alert_page(*, actor: Actor, alert_id: int, now: datetime) -> AlertPage:
    """One alert. Raises NoSuchThing."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            _ALERTS + " AND a.id = %(alert)s", {"property": place.property_id, "alert": alert_id}
        )
        if not found:
            raise NoSuchThing(f"no alert {alert_id} in scope")
        alert = _row(found[0], actor_names([found[0][5]]))
        subject = rows("SELECT subject FROM alert WHERE id = %s", [alert_id])[0][0]
        lasts = alert.closed_at is None and cause_lasts(
            code=alert.code, property_id=place.property_id, subject=subject, now=now
        )
    return AlertPage(place, now, alert, lasts, ends_itself=alert.code not in PERSONS)


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _row(row: tuple[Any, ...], names: Mapping[str, str]) -> AlertRow:
    return AlertRow(
        row[0], row[1], json_of(row[2]), row[3], row[4], names.get(row[5], row[5]), row[6],
        row[7], row[8], row[9], row[10], row[11], row[12],
        unit_name(row[13], row[14]) if row[14] else "",
    )  # fmt: skip
