"""One statement that says how every unit stands now; the board and all lists are made from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from prewatt.core.vocabulary import BoardState, RelayState, board_state
from prewatt.reports.place import rows

#: A meter is silent when it was not heard for this many of its own reporting periods.
SILENT_AFTER_PERIODS = 2

_UNITS = """
SELECT u.id, u.code, u.floor, u.kind, b.id, b.code, b.name,
       a.id, a.number, a.kind = 'vacancy', coalesce(c.name, ''), m.id, coalesce(m.serial, ''),
       coalesce(m.expected_period_s, 900), s.available, s.spend_per_day, s.posted,
       coalesce(p.emergency_micro, 0), coalesce(p.fired_mask, 0), p.level_fired_at,
       coalesce(p.protection, ''), l.last_seen_at, coalesce(l.relay, 0), l.tamper_since,
       w.last_at, w.last_value_wh
FROM unit u
JOIN building b ON b.id = u.building_id
LEFT JOIN tenancy t ON t.unit_id = u.id AND t.period @> %(now)s
LEFT JOIN account v ON v.unit_id = u.id AND v.kind = 'vacancy'
LEFT JOIN account a ON a.id = coalesce(t.account_id, v.id)
LEFT JOIN customer c ON c.id = a.customer_id
LEFT JOIN account_state s ON s.account_id = a.id
LEFT JOIN supply_state p ON p.account_id = a.id
LEFT JOIN LATERAL (
    SELECT i.meter_id FROM metering_point e
    JOIN installation i ON i.metering_point_id = e.id AND i.period @> %(now)s
    WHERE e.unit_id = u.id ORDER BY e.id LIMIT 1
) h ON true
LEFT JOIN meter m ON m.id = h.meter_id
LEFT JOIN meter_link l ON l.meter_id = m.id
LEFT JOIN LATERAL (
    SELECT max(k.last_at) AS last_at, max(k.last_value_wh) AS last_value_wh FROM meter_state k
    WHERE k.meter_id = m.id AND k.closed_at = 'infinity' AND k.register_code = 1
) w ON true
WHERE u.property_id = %(property)s
ORDER BY b.position, b.id, u.floor DESC, u.position, u.code
"""

#: The same of one account, which looks at its own units alone, however many its property has.
_OF_ACCOUNT = _UNITS.replace(
    "WHERE u.property_id = %(property)s\n",
    """WHERE u.property_id = %(property)s AND a.id = %(account)s AND u.id IN (
    SELECT unit_id FROM tenancy WHERE account_id = %(account)s
    UNION SELECT unit_id FROM account WHERE id = %(account)s)
""",
)
assert _OF_ACCOUNT != _UNITS

#: The same of an account that pays for no unit now: without the meter, which is another's.
_FORMER = _OF_ACCOUNT.replace(
    "t.period @> %(now)s\nLEFT JOIN account v",
    "t.account_id = %(account)s\nLEFT JOIN account v",
).replace("WHERE e.unit_id = u.id ORDER BY", "WHERE false ORDER BY")
assert _FORMER.count("t.account_id = %(account)s") == _FORMER.count("WHERE false") == 1

#: The same of an account whose let is announced, or was cancelled before it began.
_ANNOUNCED = _FORMER.replace("JOIN tenancy t", "JOIN temporary_let t").replace(
    "SELECT unit_id FROM tenancy", "SELECT unit_id FROM temporary_let"
)
assert _ANNOUNCED.count("temporary_let") == 2


@dataclass(frozen=True, slots=True)
class UnitNow:
    """A unit, who pays for it, its meter and its money, as they are now."""

    unit_id: int
    code: str
    floor: int
    kind: str
    building_id: int
    building_code: str
    building: str
    account_id: int | None
    number: str
    vacant: bool
    customer: str
    meter_id: int | None
    serial: str
    expected_period_s: int
    available_micro: int
    spend_per_day_micro: int
    posted_micro: int
    emergency_micro: int
    fired_mask: int
    level_fired_at: datetime | None
    protection: str
    seen_at: datetime | None
    relay: RelayState
    tamper_since: datetime | None
    reading_at: datetime | None
    register_wh: int | None

    @property
    def name(self) -> str:
        """The unit as people call it: building code and unit code, `N-305`."""
        return unit_name(self.building_code, self.code)

    def is_silent(self, now: datetime) -> bool:
        """Whether the head-end has not heard the meter for too long."""
        if self.meter_id is None:
            return False
        limit = timedelta(seconds=self.expected_period_s * SILENT_AFTER_PERIODS)
        heard_at = self.heard_at()
        return heard_at is None or now - heard_at > limit

    def heard_at(self) -> datetime | None:
        """The last sign of life: a frame of any kind, or an accepted reading."""
        signs = [at for at in (self.seen_at, self.reading_at) if at is not None]
        return max(signs, default=None)

    def state(self, now: datetime) -> BoardState:
        """The one state that its window shows."""
        paying = not self.vacant and self.account_id is not None
        return board_state(
            tamper=self.tamper_since is not None,
            cut=self.relay is RelayState.OPEN,
            offline=self.is_silent(now),
            emergency=paying and self.available_micro <= 0,
            low=paying and self.fired_mask != 0,
            protected=self.protection not in ("", "none"),
            vacant=not paying,
        )

    def money_left_micro(self) -> int:
        """What may still be used: the balance, or below zero what is left of emergency credit."""
        if self.available_micro > 0:
            return self.available_micro
        return max(0, self.available_micro + self.emergency_micro)

    def hours_left(self) -> int | None:
        """Hours until the balance (then the emergency credit) is used up, at the usual pace."""
        if self.vacant or self.spend_per_day_micro <= 0:
            return None
        return self.money_left_micro() * 24 // self.spend_per_day_micro

    def runs_out_at(self, now: datetime) -> datetime | None:
        """When that is; None when usage is too small to say or farther than a year."""
        return ends_at(now, self.money_left_micro(), 0 if self.vacant else self.spend_per_day_micro)


def unit_name(building: str, unit: str) -> str:
    """`N-305`; a code that begins with a letter, such as `A6`, says enough by itself."""
    return unit if not building or unit[:1].isalpha() else f"{building}-{unit}"


def ends_at(now: datetime, money_micro: int, per_day_micro: int) -> datetime | None:
    """When an amount is used up at a daily pace; None beyond a year or without a pace."""
    if per_day_micro <= 0 or money_micro // per_day_micro > 366:
        return None
    return now + timedelta(seconds=money_micro * 86_400 // per_day_micro)


def units_now(
    *, property_id: int, now: datetime, account_id: int | None = None, former: bool = False
) -> tuple[UnitNow, ...]:
    """Every unit of a property, or of one account, in the order of the façade.

    With ``former``, an account that pays for no unit now has its last one, or the one that a let of it is
    announced for, without the meter.
    """
    given = {"now": now, "property": property_id, "account": account_id}
    found = rows(_UNITS if account_id is None else _OF_ACCOUNT, given)
    if former and account_id is not None and not found:
        found = rows(_FORMER, given)[:1] or rows(_ANNOUNCED, given)[:1]
    return tuple(_unit(row) for row in found)


def _unit(row: tuple[object, ...]) -> UnitNow:
    (unit_id, code, floor, kind, building_id, building_code, building, account_id, number, vacant,
     customer, meter_id, serial, period_s, available, spend, posted, emergency, fired_mask, fired_at,
     protection, seen_at, relay, tamper_since, reading_at, register_wh) = row  # fmt: skip
    return UnitNow(
        unit_id, code, floor, kind, building_id, building_code, building, account_id,  # type: ignore[arg-type]  # rows of a cursor are untyped
        number or "", bool(vacant), customer, meter_id, serial, period_s, available or 0,  # type: ignore[arg-type]  # as above
        spend or 0, posted or 0, emergency, fired_mask, fired_at, protection, seen_at,  # type: ignore[arg-type]  # as above
        RelayState(relay), tamper_since, reading_at, register_wh,  # type: ignore[arg-type]  # as above
    )  # fmt: skip
