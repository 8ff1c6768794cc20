"""The fleet: how devices are heard, by driver, gateway, firmware or model, day by day and device by device.

A device's success is the readings that came since yesterday's midnight against as many as its reporting period promises,
whatever its driver, as the worker has counted them last (`prewatt.fleet.looking`): a look of this page counts no reading.
What was lost on the air is known of devices behind a network server alone, by the gaps in their
counters; it is counted since they were first heard.
"""

from __future__ import annotations

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
    """One device. ``success`` is in percent; signal and losses are None where no radio tells of them."""

    meter_id: int
    serial: str
    unit: str
    driver: str
    model: str
    firmware: str
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
    """The groups by one word, the largest first, and devices of the one that is looked at (or of all), as they were
    sorted. ``count`` is how many devices there are of those, whether they are here or not.
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


#: What devices are grouped by, and the order of devices, as columns of `_DEVICES`.
BY: Final = {"driver": "driver", "gateway": "gateway", "firmware": "firmware", "model": "model"}
SORTS: Final = {
    "success": "100 * stored / nullif(promised, 0) NULLS FIRST, serial",
    "seen": "seen_at NULLS FIRST, serial",
    "signal": "rssi_dbm, serial",
    "meter": "serial",
}

_DEVICES: Final = f"""
WITH device AS (
    SELECT m.id, m.serial, i.metering_point_id, m.driver, m.model, coalesce(l.firmware, '') AS firmware,
           coalesce(nullif(r.gateway, ''), k.serial, '') AS gateway, {HEARD_AT} AS seen_at,
           coalesce(%(now)s - {HEARD_AT}
                    > m.expected_period_s * %(silent)s * interval '1 second', true) AS is_silent,
           coalesce(f.stored, 0) AS stored, coalesce(f.promised, 0) AS promised, f.looked_to,
           r.rssi_dbm, r.snr_db_tenths, r.heard, r.lost
    FROM meter m
    JOIN installation i ON i.meter_id = m.id AND i.period @> %(now)s
    LEFT JOIN fleet_look f ON f.meter_id = m.id
    LEFT JOIN meter_link l ON l.meter_id = m.id
    LEFT JOIN radio_link r ON r.meter_id = m.id
    LEFT JOIN concentrator k ON k.id = l.concentrator_id
    {READ_OF_ALL}
    WHERE m.property_id = %(property)s
)
"""  # noqa: S608 - our own expressions
#: The largest groups by themselves, all others as one; each sum says whether it is of one word or of many.
_GROUPS: Final = """
, found AS (
    SELECT {word} AS name, count(*) AS devices, count(*) FILTER (WHERE is_silent) AS silent,
           sum(stored) AS stored, sum(promised) AS promised, min(rssi_dbm) AS weakest,
           sum(lost) AS lost, sum(heard) AS heard, min(looked_to) AS looked_to
    FROM device GROUP BY 1
), placed AS (
    SELECT *, row_number() OVER (ORDER BY devices DESC, name) AS place FROM found
)
SELECT min(name), count(*), sum(devices), sum(silent), 100 * sum(stored) / nullif(sum(promised), 0),
       min(weakest), 100 * sum(lost) / nullif(sum(heard + lost), 0), min(looked_to),
       min(place) > %(groups)s
FROM placed GROUP BY least(place, %(groups)s + 1) ORDER BY min(place)
"""
_SHOWN: Final = f"""
, chosen AS (
    SELECT *, count(*) OVER () AS count FROM device
    WHERE %(only)s::text IS NULL OR {{word}} = %(only)s ORDER BY {{order}} LIMIT %(most)s
)
SELECT c.id, c.serial, {UNIT_NAME}, c.driver, c.model, c.firmware, c.gateway, c.seen_at,
       c.is_silent, c.stored, c.promised, c.rssi_dbm, c.snr_db_tenths, c.heard, c.lost, c.count
FROM chosen c JOIN metering_point p ON p.id = c.metering_point_id LEFT JOIN unit u ON u.id = p.unit_id
LEFT JOIN building b ON b.id = u.building_id
ORDER BY {{order}}
"""  # noqa: S608 - our own expressions
_DAYS: Final = """
SELECT day, devices, complete, silent, stored, promised FROM fleet_total
WHERE property_id = %s AND day > %s AND promised > 0 ORDER BY day
"""


def fleet(
    *,
    actor: Actor,
    now: datetime,
    by: str = "driver",
    only: str | None = None,
    sort: str = "success",
    most: int | None = SHOWN_MAX,
) -> Fleet:
    """Groups by a word of `BY`, and ``most`` devices (None: all) of the group ``only``, sorted by a word of `SORTS`."""
    word, order = BY[by], SORTS[sort]
    with scope(actor):
        place = place_of(actor)
        given = {
            "property": place.property_id, "now": now, "silent": SILENT_AFTER_PERIODS, "only": only,
            "most": most, "groups": GROUPS_MAX,
        }  # fmt: skip
        groups = rows(_DEVICES + _GROUPS.format(word=word), given)
        found = rows(_DEVICES + _SHOWN.format(word=word, order=order), given)
        since = now - timedelta(days=DAYS_SHOWN)
        days = rows(_DAYS, [place.property_id, since.date()])
        gaps = dict(
            rows(
                """SELECT state, count(*) FROM meter_gap WHERE property_id = %s AND to_at > %s
                   GROUP BY 1""",
                [place.property_id, since],
            )
        )
    return Fleet(
        place,
        now,
        tuple(
            FleetGroup(
                None if is_other else name, names, int(devices), int(silent),
                None if success is None else int(success), weakest,
                None if lost is None else int(lost),
            )
            for name, names, devices, silent, success, weakest, lost, _, is_other in groups
        ),
        tuple(FleetDevice(*row[:-1]) for row in found),
        found[0][-1] if found else 0,
        tuple(FleetDay(*row) for row in days),
        (
            gaps.get(int(GapState.OPEN), 0), gaps.get(int(GapState.FILLED), 0),
            gaps.get(int(GapState.GIVEN_UP), 0),
        ),
        min((row[-2] for row in groups if row[-2] is not None), default=None),
    )  # fmt: skip
