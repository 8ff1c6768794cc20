"""The fleet: how devices are heard, by driver, gateway, firmware or model, day by day and device by device.

A device's success is the readings that came since yesterday's midnight against as many as its reporting period promises,
whatever its driver, as the worker has counted them last (`prewatt.fleet.looking`): a look of this page counts no reading.
What was lost on the air is known of devices behind a network server alone, by the gaps in their
counters; it is counted since they were first heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from prewatt.access.scope import Actor, scope
from prewatt.core.vocabulary import GapState
from prewatt.reports.place import place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import HEARD_AT, READ_OF_ALL, SILENT_AFTER_PERIODS, UNIT_NAME

#: So many devices stand on the page, and so many groups; the others are summed up, and a file has all devices.
SHOWN_MAX: Final = 100
GROUPS_MAX: Final = 50
#: So many days are drawn.
DAYS_SHOWN: Final = 30


@dataclass(frozen=True, slots=True)
class FleetDevice:
    """One device. ``success`` is in percent; signal and losses are None where no radio tells of them.

    ``seen_at`` is None for one that was never heard where it hangs: what was written when it was fitted is no word of
    the meter's. ``configuration`` is what it told last, empty where it tells none.
    """

    meter_id: int
    serial: str
    unit: str
    driver: str
    model: str
    firmware: str
    configuration: str
    gateway: str
    seen_at: datetime | None
    silent: bool
    stored: int
    promised: int
    rssi_dbm: int | None
    snr_db_tenths: int | None
    heard: int | None
    lost: int | None

    @property
    def success(self) -> int | None:
        """What came since yesterday in percent of what its period promises; None before it was looked at."""
        return 100 * self.stored // self.promised if self.promised else None

    @property
    def snr_db(self) -> str:
        """The ratio in dB; empty where it is not known."""
        if self.snr_db_tenths is None:
            return ""
        sign = "−" if self.snr_db_tenths < 0 else ""
        return f"{sign}{abs(self.snr_db_tenths) // 10}.{abs(self.snr_db_tenths) % 10}"


@dataclass(frozen=True, slots=True)
class FleetGroup:
    """All devices that have a word in common. ``lost_percent`` is of all frames; None without a radio.

    ``names`` is 1, or how many words the group of all others sums up; its name is then None.
    """

    name: str | None
    names: int
    devices: int
    silent: int
    success: int | None
    weakest_dbm: int | None
    lost_percent: int | None


@dataclass(frozen=True, slots=True)
class FleetDay:
    """A local day of the property: its devices, those that missed nothing, those that said nothing, and readings."""

    day: date
    devices: int
    complete: int
    silent: int
    stored: int
    promised: int

    @property
    def success_tenths(self) -> int:
        """What came in thousandths of what was promised."""
        return 1000 * self.stored // self.promised if self.promised else 0


@dataclass(frozen=True, slots=True)
class Fleet:
    """The groups of the chosen devices by one word, the largest first, and those devices as they were sorted.
    ``count`` is how many devices there are of those, whether they are here or not.
    """

    place: Place
    now: datetime
    groups: tuple[FleetGroup, ...]
    devices: tuple[FleetDevice, ...]
    count: int
    days: tuple[FleetDay, ...]
    #: Gaps that end within the days shown: open, filled, given up.
    gaps: tuple[int, int, int]
    #: Up to when readings were counted, for the device that was looked at longest ago; None before the first look.
    counted_to: datetime | None


#: What devices are chosen and grouped by, and the order of devices, as columns of `_FLEET`.
WORDS: Final = ("driver", "gateway", "firmware", "configuration", "model")
SORTS: Final = {
    "success": "100 * stored / nullif(promised, 0) NULLS FIRST, serial",
    "seen": "seen_at NULLS FIRST, serial",
    "signal": "rssi_dbm, serial",
    "meter": "serial",
}
#: The configuration that a meter told last: of all at once where they are chosen or grouped by it, else of those shown.
_TOLD: Final = """LEFT JOIN (
    SELECT DISTINCT ON (v.meter_id) v.meter_id, v.version FROM meter_version v
    WHERE v.property_id = %(property)s AND v.part = 'configuration' ORDER BY v.meter_id, v.since DESC, v.id DESC
) v ON v.meter_id = m.id"""
_TOLD_BY_ONE: Final = """LEFT JOIN LATERAL (
    SELECT version FROM meter_version WHERE meter_id = c.id AND part = 'configuration'
    ORDER BY since DESC, id DESC LIMIT 1
) v ON true"""
#: All devices that were chosen, once; and side by side, one of each in a row, the largest groups by themselves with
#: all others as one, and the devices that are shown.
_FLEET: Final = f"""
WITH device AS MATERIALIZED (
    SELECT d.* FROM (
        SELECT m.id, m.serial, i.metering_point_id, m.driver, m.model, coalesce(l.firmware, '') AS firmware,
               {{configuration}} AS configuration, coalesce(nullif(r.gateway, ''), k.serial, '') AS gateway,
               h.seen_at, coalesce(%(now)s - h.seen_at
                        > m.expected_period_s * %(silent)s * interval '1 second', true) AS is_silent,
               coalesce(f.stored, 0) AS stored, coalesce(f.promised, 0) AS promised, f.looked_to,
               r.rssi_dbm, r.snr_db_tenths, r.heard, r.lost
        FROM meter m
        JOIN installation i ON i.meter_id = m.id AND i.period @> %(now)s
        LEFT JOIN fleet_look f ON f.meter_id = m.id
        LEFT JOIN meter_link l ON l.meter_id = m.id
        LEFT JOIN radio_link r ON r.meter_id = m.id
        LEFT JOIN concentrator k ON k.id = l.concentrator_id
        {READ_OF_ALL} {{told}}
        CROSS JOIN LATERAL (SELECT CASE WHEN {HEARD_AT} > lower(i.period) THEN {HEARD_AT} END AS seen_at) h
        WHERE m.property_id = %(property)s
    ) d {{where}}
), found AS (
    SELECT {{word}} AS name, count(*) AS devices, count(*) FILTER (WHERE is_silent) AS silent,
           sum(stored) AS stored, sum(promised) AS promised, min(rssi_dbm) AS weakest,
           sum(lost) AS lost, sum(heard) AS heard, min(looked_to) AS looked_to
    FROM device GROUP BY 1
), placed AS (
    SELECT *, least(row_number() OVER (ORDER BY devices DESC, name), %(groups)s + 1) AS place FROM found
), groups AS (
    SELECT place, min(name) AS name, count(*) AS names, sum(devices) AS devices, sum(silent) AS silent,
           100 * sum(stored) / nullif(sum(promised), 0) AS success, min(weakest) AS weakest,
           100 * sum(lost) / nullif(sum(heard + lost), 0) AS lost, min(looked_to) AS looked_to
    FROM placed GROUP BY 1
), chosen AS (
    SELECT *, row_number() OVER (ORDER BY {{order}}) AS place
    FROM (SELECT * FROM device ORDER BY {{order}} LIMIT %(most)s) first
), shown AS (
    SELECT c.place, c.id, c.serial, {UNIT_NAME} AS unit, c.driver, c.model, c.firmware,
           coalesce(v.version, '') AS configuration, c.gateway, c.seen_at, c.is_silent, c.stored, c.promised,
           c.rssi_dbm, c.snr_db_tenths, c.heard, c.lost
    FROM chosen c JOIN metering_point p ON p.id = c.metering_point_id LEFT JOIN unit u ON u.id = p.unit_id
    LEFT JOIN building b ON b.id = u.building_id {_TOLD_BY_ONE}
)
SELECT g.*, s.* FROM groups g FULL JOIN shown s ON s.place = g.place ORDER BY coalesce(g.place, s.place)
"""  # noqa: S608 - our own expressions
#: So many columns of a group stand behind its place; then come the place and the columns of a device.
_OF_GROUP: Final = 8
_DAYS: Final = """
SELECT day, devices, complete, silent, stored, promised FROM fleet_total
WHERE property_id = %s AND day > %s AND promised > 0 ORDER BY day
"""


def fleet(
    *,
    actor: Actor,
    now: datetime,
    by: str = WORDS[0],
    only: Mapping[str, str] | None = None,
    sort: str = "success",
    most: int | None = SHOWN_MAX,
) -> Fleet:
    """The devices that have the words ``only`` (by `WORDS`), grouped by another; ``most`` of them (None: all) as sorted by
    a word of `SORTS`.
    """
    chosen = only or {}
    assert {by, *chosen} <= set(WORDS), "whoever asks has looked"
    by_configuration = "configuration" in {by, *chosen}
    statement = _FLEET.format(
        word=by, order=SORTS[sort], told=_TOLD if by_configuration else "",
        configuration="coalesce(v.version, '')" if by_configuration else "''",
        where=" AND ".join(("WHERE true", *(f"d.{word} = %({word})s" for word in chosen))),
    )  # fmt: skip
    with scope(actor):
        place = place_of(actor)
        given = {
            "property": place.property_id, "now": now, "silent": SILENT_AFTER_PERIODS, "most": most,
            "groups": GROUPS_MAX, **chosen,
        }  # fmt: skip
        found = rows(statement, given)
        since = now - timedelta(days=DAYS_SHOWN)
        days = rows(_DAYS, [place.property_id, since.date()])
        gaps = dict(
            rows(
                """SELECT state, count(*) FROM meter_gap WHERE property_id = %s AND to_at > %s
                   GROUP BY 1""",
                [place.property_id, since],
            )
        )
    groups = [(row[0], row[1 : _OF_GROUP + 1]) for row in found if row[2] is not None]
    devices = [row[_OF_GROUP + 2 :] for row in found if row[_OF_GROUP + 1] is not None]
    return Fleet(
        place,
        now,
        tuple(_group(number > GROUPS_MAX, *row[:-1]) for number, row in groups),
        tuple(FleetDevice(*row) for row in devices),
        sum(int(row[2]) for _, row in groups),
        tuple(FleetDay(*row) for row in days),
        (
            gaps.get(int(GapState.OPEN), 0), gaps.get(int(GapState.FILLED), 0),
            gaps.get(int(GapState.GIVEN_UP), 0),
        ),
        min((row[-1] for _, row in groups if row[-1] is not None), default=None),
    )  # fmt: skip


def _group(
    is_other: bool,
    name: str,
    names: int,
    devices: int,
    silent: int,
    success: int | None,
    weakest: int | None,
    lost: int | None,
) -> FleetGroup:
    return FleetGroup(
        None if is_other else name, names, int(devices), int(silent),
        None if success is None else int(success), weakest, None if lost is None else int(lost),
    )  # fmt: skip
