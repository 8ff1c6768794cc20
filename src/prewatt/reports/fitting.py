"""What whoever fits meters needs to see: the device to be exchanged, units to fit one in, and what was heard since.

Neither money nor a name: it is read under the role of an installer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from prewatt.access.scope import Actor, scope
from prewatt.core.field_rules import FieldRules
from prewatt.moves.boundary import SILENT_AFTER_PERIODS
from prewatt.moves.field_rules import field_rules
from prewatt.moves.first_contact import Contact, contacts
from prewatt.reports.place import NoSuchThing, place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import unit_name

UNITS_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class HungMeter:
    """A device where it hangs, as a form of its exchange begins; ``number`` is of the account that pays by it.

    ``holds_credit``: it keeps its account's credit itself. ``removed_at`` is None while it hangs.
    """

    place: Place
    now: datetime
    unit: str
    meter_id: int
    serial: str
    model: str
    driver: str
    multiplier: int
    max_power_w: int
    has_relay: bool
    expected_period_s: int
    number: str
    last_at: datetime | None
    last_wh: int | None
    removed_at: datetime | None
    holds_credit: bool
    certificate: bool

    @property
    def silent(self) -> bool:
        """Whether its own register is too old to be the boundary."""
        longest = timedelta(seconds=self.expected_period_s * SILENT_AFTER_PERIODS)
        return self.last_at is None or self.now - self.last_at > longest


def hung_meter(*, actor: Actor, meter_id: int, now: datetime) -> HungMeter:
    """One device. Raises NoSuchThing, PermissionRefused."""
    with scope(actor):
        place = place_of(actor, "meters.read")
        found = rows(_HUNG, {"meter": meter_id, "property": place.property_id, "now": now})
    if not found:
        raise NoSuchThing(f"no meter {meter_id} in scope")
    building, unit, *rest = found[0]
    return HungMeter(place, now, unit_name(building, unit) if unit else "", *rest)


_HUNG: Final = """
SELECT coalesce(b.code, ''), coalesce(u.code, p.code, ''), m.id, m.serial, m.model, m.driver,
       m.multiplier, m.max_power_w, m.has_relay, m.expected_period_s, coalesce(a.number, ''), k.last_at, k.last_value_wh, upper(i.period),
       EXISTS (SELECT FROM meter_wallet w WHERE w.meter_id = m.id AND w.state < 3),
       EXISTS (SELECT FROM device_certificate d WHERE d.serial = m.serial AND d.replaced_at IS NULL
               AND d.revoked_at IS NULL AND d.not_after > %(now)s)
FROM meter m
JOIN LATERAL (SELECT * FROM installation WHERE meter_id = m.id ORDER BY lower(period) DESC LIMIT 1) i
    ON true
JOIN metering_point p ON p.id = i.metering_point_id
LEFT JOIN unit u ON u.id = p.unit_id LEFT JOIN building b ON b.id = u.building_id
LEFT JOIN meter_assignment g ON g.meter_id = m.id AND upper_inf(g.period)
LEFT JOIN account a ON a.id = g.account_id
LEFT JOIN LATERAL (SELECT last_at, last_value_wh FROM meter_state WHERE meter_id = m.id
    AND account_id = g.account_id AND register_code = 1) k ON true
WHERE m.id = %(meter)s AND m.property_id = %(property)s
"""


@dataclass(frozen=True, slots=True)
class UnitToFit:
    """A unit by its name and by its building and code; ``serials`` are of the meters that count for it already."""

    unit_id: int
    key: tuple[str, str]
    name: str
    number: str
    serials: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fittable:
    """Units of a property, those without a meter first, and the concentrators that a meter can be put behind."""

    place: Place
    now: datetime
    units: tuple[UnitToFit, ...]
    concentrators: tuple[str, ...]

    def named(self, name: str) -> UnitToFit | None:
        """The unit that somebody wrote, in any case and with any spaces."""
        wanted = "".join(name.split()).casefold()
        found = [each for each in self.units if "".join(each.name.split()).casefold() == wanted]
        return found[0] if len(found) == 1 else None


def fittable(*, actor: Actor, now: datetime) -> Fittable:
    """Where a meter can be fitted. Raises NoSuchThing, PermissionRefused."""
    with scope(actor):
        place = place_of(actor, "meters.read")
        units = rows(_UNITS, {"property": place.property_id, "now": now, "most": UNITS_MAX})
        gathering = rows(
            "SELECT serial FROM concentrator WHERE property_id = %s ORDER BY serial",
            [place.property_id],
        )
    return Fittable(
        place, now,
        tuple(UnitToFit(row[0], (row[1], row[2]), unit_name(row[1], row[2]), row[3], tuple(row[4])) for row in units),
        tuple(row[0] for row in gathering),
    )  # fmt: skip


#: An installer reads no tenancy: of an account no more than its number is theirs.
_UNITS: Final = """
SELECT u.id, b.code, u.code, coalesce(min(a.number), ''),
       coalesce(array_agg(m.serial ORDER BY m.serial) FILTER (WHERE m.id IS NOT NULL), '{}')
FROM unit u JOIN building b ON b.id = u.building_id
LEFT JOIN metering_point p ON p.unit_id = u.id AND p.role IN ('supply', 'common')
LEFT JOIN installation i ON i.metering_point_id = p.id AND i.period @> %(now)s::timestamptz
LEFT JOIN meter m ON m.id = i.meter_id
LEFT JOIN meter_assignment g ON g.meter_id = m.id AND upper_inf(g.period)
LEFT JOIN account a ON a.id = g.account_id
WHERE u.property_id = %(property)s
GROUP BY u.id, b.code, b.position, u.code, u.floor, u.position
ORDER BY count(m.id) > 0, b.position, b.code, u.floor, u.position, u.code LIMIT %(most)s
"""


@dataclass(frozen=True, slots=True)
class FittedMeter:
    """A fitted device with the name of the place where it hangs; ``overdue``: it should have been heard by now."""

    contact: Contact
    unit: str
    overdue: bool


@dataclass(frozen=True, slots=True)
class FittedPage:
    """Fitted devices: those that nobody has ended looking at, or one. ``lately`` were ended last."""

    place: Place
    now: datetime
    rules: FieldRules
    meters: tuple[FittedMeter, ...]
    lately: tuple[FittedMeter, ...] = ()

    @property
    def unheard(self) -> int:
        """How many have not said a word."""
        return sum(each.contact.heard_at is None for each in self.meters)


def fitted_meters(*, actor: Actor, now: datetime) -> FittedPage:
    """All that are waited for or still to be looked at. Raises NoSuchThing, PermissionRefused."""
    with scope(actor):
        place = place_of(actor, "meters.read")
        ended = rows(
            """SELECT meter_id FROM commissioning WHERE property_id = %s AND checked_at IS NOT NULL
               ORDER BY checked_at DESC LIMIT 20""",
            [place.property_id],
        )
        waiting = contacts(property_id=place.property_id, now=now)
        past = contacts(
            property_id=place.property_id, now=now, meter_ids=[each[0] for each in ended]
        )
        past.sort(key=lambda each: each.checked_at or now, reverse=True)
        return FittedPage(
            place, now, field_rules(place.property_id), _placed(waiting, now), _placed(past, now)
        )


def fitted_meter(*, actor: Actor, meter_id: int, now: datetime) -> FittedPage:
    """One of them, ended or not. Raises NoSuchThing for a device that was never fitted here, PermissionRefused."""
    with scope(actor):
        place = place_of(actor, "meters.read")
        found = contacts(property_id=place.property_id, now=now, meter_ids=[meter_id])
        if not found:
            raise NoSuchThing(f"meter {meter_id} was not fitted here")
        return FittedPage(place, now, field_rules(place.property_id), _placed(found, now))


def _placed(found: list[Contact], now: datetime) -> tuple[FittedMeter, ...]:
    where = {
        row[0]: unit_name(row[1], row[2])
        for row in rows(
            """SELECT DISTINCT ON (i.meter_id) i.meter_id, coalesce(b.code, ''), coalesce(u.code, p.code)
               FROM installation i JOIN metering_point p ON p.id = i.metering_point_id
               LEFT JOIN unit u ON u.id = p.unit_id LEFT JOIN building b ON b.id = u.building_id
               WHERE i.meter_id = ANY(%s) ORDER BY i.meter_id, lower(i.period) DESC""",
            [[each.meter_id for each in found]],
        )
    }
    return tuple(
        FittedMeter(
            each, where.get(each.meter_id, ""), each.heard_at is None and each.hear_by <= now
        )
        for each in found
    )
