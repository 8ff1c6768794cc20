"""How units stand now: one definition in SQL that the board, every list and a unit's page share.

``UNIT_NOW`` is a relation with one row for each unit of a property. It is counted, searched, sorted
and paged in the database; PostgreSQL leaves out the joins that a question does not need. Objects
(`UnitNow`) are made of the few units alone that a page shows, found by their keys.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from prewatt.core.vocabulary import BoardState, RelayState
from prewatt.notify.alerts import TAMPER
from prewatt.reports.place import rows

#: A meter is silent when it was not heard for this many of its own reporting periods.
SILENT_AFTER_PERIODS: Final = 2
#: Farther than this nobody looks ahead.
_DAYS_MAX: Final = 1_000_000


#: What `unit_name` says of unit `u` of building `b`, for a query.
UNIT_NAME: Final = """CASE WHEN coalesce(b.code, '') = '' OR u.code ~ '^[[:alpha:]]' THEN coalesce(u.code, '')
            ELSE b.code || '-' || u.code END"""
#: When meter `l` was heard, by its link, which is written again only with news of it, and by its readings `w`. A
#: watermark that a person's reading moved is no sign of the meter's life.
HEARD_AT: Final = "greatest(l.last_seen_at, CASE WHEN l.read_by_hand_at >= w.last_at THEN NULL ELSE w.last_at END)"
_FACTS = f"""
SELECT u.id AS unit_id, u.code, u.floor, u.position, u.kind, b.id AS building_id,
       b.position AS building_position, b.code AS building_code, b.name AS building,
       {UNIT_NAME} AS name,
       a.id AS account_id, coalesce(a.number, '') AS number,
       coalesce(a.kind = 'vacancy', false) AS vacant, coalesce(a.kind <> 'vacancy', false) AS paying,
       coalesce(c.name, '') AS customer, m.id AS meter_id, coalesce(m.serial, '') AS serial,
       m.expected_period_s, coalesce(s.available, 0) AS available,
       coalesce(s.spend_per_day, 0) AS spend_per_day, coalesce(s.posted, 0) AS posted,
       coalesce(p.emergency_micro, 0) AS emergency, coalesce(p.fired_mask, 0) AS fired_mask,
       p.level_fired_at, coalesce(p.protection, '') AS protection, l.last_seen_at AS seen_at,
       coalesce(l.relay, 0) AS relay,
       CASE WHEN x.looked_at >= l.tamper_since THEN NULL ELSE l.tamper_since END AS tamper_since,
       w.last_at AS reading_at,
       w.last_value_wh AS register_wh, {HEARD_AT} AS heard_at
FROM unit u
JOIN building b ON b.id = u.building_id
LEFT JOIN tenancy t ON t.unit_id = u.id AND {{tenancy}} AND t.property_id = u.property_id
LEFT JOIN account v ON v.unit_id = u.id AND v.kind = 'vacancy' AND v.property_id = u.property_id
LEFT JOIN account a ON a.id = coalesce(t.account_id, v.id) AND a.property_id = u.property_id
LEFT JOIN customer c ON c.id = a.customer_id AND c.property_id = u.property_id
LEFT JOIN account_state s ON s.account_id = a.id AND s.property_id = u.property_id
LEFT JOIN supply_state p ON p.account_id = a.id AND p.property_id = u.property_id
{{meters}}
WHERE u.property_id = %(property)s
"""  # noqa: S608 - our own expressions
#: When a person closed the last alert of tampering; NULL while one is open, whatever was closed before.
_LOOKED_AT = "CASE WHEN bool_and(y.closed_at IS NOT NULL) THEN max(y.closed_at) END"
#: The latest of the register of each meter `m`, read all at once, and looked up meter by meter.
READ_OF_ALL: Final = """LEFT JOIN (
    SELECT k.meter_id, max(k.last_at) AS last_at, max(k.last_value_wh) AS last_value_wh
    FROM meter_state k
    WHERE k.property_id = %(property)s AND k.closed_at = 'infinity' AND k.register_code = 1
    GROUP BY k.meter_id
) w ON w.meter_id = m.id
"""
READ_OF_SOME: Final = """LEFT JOIN LATERAL (
    SELECT max(k.last_at) AS last_at, max(k.last_value_wh) AS last_value_wh FROM meter_state k
    WHERE k.meter_id = m.id AND k.closed_at = 'infinity' AND k.register_code = 1
) w ON true
"""
#: The meter at a unit's first metering point that has one, and the latest of its registers.
_METERS_OF_ALL = f"""
LEFT JOIN (
    SELECT DISTINCT ON (e.unit_id) e.unit_id, i.meter_id FROM metering_point e
    JOIN installation i ON i.metering_point_id = e.id AND i.period @> %(now)s
        AND i.property_id = e.property_id
    WHERE e.property_id = %(property)s AND e.unit_id IS NOT NULL ORDER BY e.unit_id, e.id
) h ON h.unit_id = u.id
LEFT JOIN meter m ON m.id = h.meter_id AND m.property_id = u.property_id
LEFT JOIN meter_link l ON l.meter_id = m.id AND l.property_id = u.property_id
{READ_OF_ALL}LEFT JOIN (
    SELECT substr(y.subject, 7)::bigint AS meter_id, {_LOOKED_AT} AS looked_at FROM alert y
    WHERE y.property_id = %(property)s AND y.code = '{TAMPER}' GROUP BY y.subject
) x ON x.meter_id = m.id
"""  # noqa: S608 - our own expressions
#: The same looked up unit by unit, for a few of them.
_METERS_OF_SOME = f"""
LEFT JOIN LATERAL (
    SELECT i.meter_id FROM metering_point e
    JOIN installation i ON i.metering_point_id = e.id AND i.period @> %(now)s
    WHERE e.unit_id = u.id ORDER BY e.id LIMIT 1
) h ON true
LEFT JOIN meter m ON m.id = h.meter_id
LEFT JOIN meter_link l ON l.meter_id = m.id
{READ_OF_SOME}LEFT JOIN LATERAL (
    SELECT {_LOOKED_AT} AS looked_at FROM alert y
    WHERE y.property_id = u.property_id AND y.code = '{TAMPER}' AND y.subject = 'meter:' || m.id
        AND l.tamper_since IS NOT NULL
) x ON true
"""  # noqa: S608 - our own expressions
_NO_METERS = _METERS_OF_SOME.replace("WHERE e.unit_id = u.id", "WHERE false")

#: The one state that a unit's window shows, where several hold at once: the guide's precedence.
STATE = f"""CASE
    WHEN tamper_since IS NOT NULL THEN {BoardState.TAMPER:d}
    WHEN relay = {RelayState.OPEN:d} THEN {BoardState.CUT:d}
    WHEN silent THEN {BoardState.OFFLINE:d}
    WHEN paying AND available <= 0 THEN {BoardState.EMERGENCY:d}
    WHEN paying AND fired_mask <> 0 THEN {BoardState.LOW:d}
    WHEN protection NOT IN ('', 'none') THEN {BoardState.PROTECTED:d}
    WHEN NOT paying THEN {BoardState.VACANT:d}
    ELSE {BoardState.ON:d} END"""
_SILENT = f"""meter_id IS NOT NULL AND coalesce(
    %(now)s - heard_at > expected_period_s * interval '{SILENT_AFTER_PERIODS} seconds', true)"""
#: What may still be used: the balance, or below zero what is left of emergency credit.
_MONEY_LEFT = "CASE WHEN available > 0 THEN available ELSE greatest(0, available + emergency) END"
#: Seconds until that is used up at the usual pace; whole days first, so that no product overflows.
_SECONDS_LEFT = f"""CASE WHEN NOT vacant AND spend_per_day > 0 THEN
    least(money_left / spend_per_day, {_DAYS_MAX}) * 86400
    + money_left %% spend_per_day * 86400 / spend_per_day END"""


#: That all rows are of the unit's property leads to them where every unit is looked at. For a few units
#: it would lead the planner to read all of the property, too: their keys say enough.
_SAME_PROPERTY = re.compile(r" AND \w\.property_id = u\.property_id")


def _relation(
    *, meters: str, tenancy: str = "t.period @> %(now)s", where: str = "", of_all: bool = False
) -> str:
    facts = _FACTS.format(meters=meters, tenancy=tenancy) + where
    if not of_all:
        facts = _SAME_PROPERTY.sub("", facts)
    return f"""(
SELECT money.*, {_SECONDS_LEFT} AS seconds_left, {STATE} AS state
FROM (SELECT facts.*, {_SILENT} AS silent, {_MONEY_LEFT} AS money_left FROM ({facts}) AS facts) AS money
)"""  # noqa: S608 - our own expressions


#: Every unit of the property ``%(property)s`` at the instant ``%(now)s``.
UNIT_NOW: Final = _relation(meters=_METERS_OF_ALL, of_all=True)
#: The order of the façade: by building, top floor first, from left to right.
FACADE: Final = ("building_position", "building_id", "-floor", "position", "code")

_SOME = "AND u.id = ANY(%(units)s)"
_OF_ACCOUNT = _SOME + " AND a.id = %(account)s"
#: The columns of a `UnitNow`, in its order.
COLUMNS: Final = """unit_id, code, floor, kind, building_id, building_code, building, account_id, number,
    vacant, customer, meter_id, serial, available, spend_per_day, posted, emergency, fired_mask,
    level_fired_at, protection, seen_at, relay, tamper_since, reading_at, register_wh, heard_at,
    silent, seconds_left, state"""
_SELECT = f"SELECT {COLUMNS} FROM {{}} AS unit_now ORDER BY {', '.join(FACADE)}"  # noqa: S608 - our own columns
_BY_UNIT = _SELECT.format(_relation(meters=_METERS_OF_SOME, where=_SOME))
_BY_ACCOUNT = _SELECT.format(_relation(meters=_METERS_OF_SOME, where=_OF_ACCOUNT))
#: An account that pays for no unit now: the one it had, without the meter, which is another's.
_FORMER = _SELECT.format(
    _relation(meters=_NO_METERS, tenancy="t.account_id = %(account)s", where=_OF_ACCOUNT)
)


@contextmanager
def looking_at_all() -> Iterator[None]:
    """Let PostgreSQL join every unit of a property by hashing, for the statements of this block.

    Behind row-level security it may not use what it knows of a table's contents, takes the tenancies
    of ten thousand units for one, and would compare each row with each. Compiling the statement would
    take longer than it does.
    """
    rows("SELECT set_config('enable_nestloop', 'off', true), set_config('jit', 'off', true)", [])
    yield
    rows("SELECT set_config('enable_nestloop', 'on', true)", [])


#: The same of an account whose let is announced, or was cancelled before it began.
_ANNOUNCED = _FORMER.replace("JOIN tenancy t ", "JOIN temporary_let t ")
assert _ANNOUNCED != _FORMER


@dataclass(frozen=True, slots=True)
class UnitNow:
    """A unit, who pays for it, its meter and its money, as they are now.

    ``tamper_since`` is None once a person has closed the alert of it, until there is a new one.
    ``heard_at`` is the last sign of life: a frame of any kind, or an accepted reading of its own.
    ``seconds_left`` is None where nobody pays or usage is too small to say.
    """

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
    heard_at: datetime | None
    silent: bool
    seconds_left: int | None
    state: BoardState

    @property
    def name(self) -> str:
        """The unit as people call it: building code and unit code, `N-305`."""
        return unit_name(self.building_code, self.code)

    @property
    def hours_left(self) -> int | None:
        """Hours until the balance (then the emergency credit) is used up, at the usual pace."""
        return None if self.seconds_left is None else self.seconds_left // 3_600

    def runs_out_at(self, now: datetime) -> datetime | None:
        """When that is; None when usage is too small to say or farther than a year."""
        return after_seconds(now, self.seconds_left)


def unit_name(building: str, unit: str) -> str:
    """`N-305`; a code that begins with a letter, such as `A6`, says enough by itself."""
    return unit if not building or unit[:1].isalpha() else f"{building}-{unit}"


def ends_at(now: datetime, money_micro: int, per_day_micro: int) -> datetime | None:
    """When an amount is used up at a daily pace; None beyond a year or without a pace."""
    if per_day_micro <= 0:
        return None
    return after_seconds(now, money_micro * 86_400 // per_day_micro)


def after_seconds(now: datetime, seconds: int | None) -> datetime | None:
    """The instant so many seconds ahead; None beyond a year."""
    if seconds is None or seconds // 86_400 > 366:
        return None
    return now + timedelta(seconds=seconds)


def units_by_id(
    *, property_id: int, now: datetime, unit_ids: Collection[int]
) -> tuple[UnitNow, ...]:
    """Some units of a property in the order of the façade; those that are not its own are missing."""
    given = {"now": now, "property": property_id, "units": list(unit_ids)}
    return tuple(unit_of(row) for row in rows(_BY_UNIT, given)) if unit_ids else ()


def units_of_account(
    *, property_id: int, now: datetime, account_id: int, former: bool = False
) -> tuple[UnitNow, ...]:
    """The units for which an account pays, in the order of the façade.

    With ``former``, an account that pays for no unit now has its last one, or the one that a let of it is
    announced for, without the meter.
    """
    # Asked for together with the rest, they would be looked for among all units of the property.
    ever = rows(
        """SELECT unit_id FROM tenancy WHERE account_id = %(account)s
           UNION SELECT unit_id FROM account WHERE id = %(account)s AND unit_id IS NOT NULL
           UNION SELECT unit_id FROM temporary_let WHERE account_id = %(account)s""",
        {"account": account_id},
    )
    given = {
        "now": now,
        "property": property_id,
        "account": account_id,
        "units": [unit_id for (unit_id,) in ever],
    }
    found = rows(_BY_ACCOUNT, given)
    if former and not found:
        found = rows(_FORMER, given)[:1] or rows(_ANNOUNCED, given)[:1]
    return tuple(unit_of(row) for row in found)


def unit_of(row: tuple[Any, ...]) -> UnitNow:
    """A unit of the columns ``COLUMNS``."""
    unit = UnitNow(*row)
    return replace(unit, relay=RelayState(unit.relay), state=BoardState(unit.state))
