"""The fleet: how the devices of a property are heard, by driver, gateway, firmware or model, and device by device.

A device's success is the readings that are stored of its last day against as many as its reporting period promises,
whatever its driver. What was lost on the air is known of devices behind a network server alone, by the gaps in their
counters; it is counted since they were first heard.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from prewatt.access.scope import Actor, scope
from prewatt.reports.place import place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import SILENT_AFTER_PERIODS

#: So many devices stand on the page, and so many groups; a file has all devices.
SHOWN_MAX: Final = 100
GROUPS_MAX: Final = 50
_DAY: Final = timedelta(days=1)


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
    def success(self) -> int:
        """Readings of the last day in percent of what its period promises."""
        return 100 * min(self.stored, self.promised) // self.promised

    @property
    def snr_db(self) -> str:
        """The ratio in dB; empty where it is not known."""
        if self.snr_db_tenths is None:
            return ""
        sign = "−" if self.snr_db_tenths < 0 else ""
        return f"{sign}{abs(self.snr_db_tenths) // 10}.{abs(self.snr_db_tenths) % 10}"


@dataclass(frozen=True, slots=True)
class FleetGroup:
    """All devices that have a word in common. ``lost_percent`` is of all frames; None without a radio."""

    name: str
    devices: int
    silent: int
    success: int
    weakest_dbm: int | None
    lost_percent: int | None


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


#: What devices are grouped by, and the order of devices, as columns of `_DEVICES`.
BY: Final = {"driver": "driver", "gateway": "gateway", "firmware": "firmware", "model": "model"}
SORTS: Final = {
    "success": "100 * least(stored, promised) / promised, serial",
    "seen": "last_seen_at NULLS FIRST, serial",
    "signal": "rssi_dbm, serial",
    "meter": "serial",
}

_DEVICES: Final = """
WITH device AS (
    SELECT m.id, m.serial, coalesce(u.code, '') AS unit, m.driver, m.model,
           coalesce(l.firmware, '') AS firmware, coalesce(r.gateway, '') AS gateway, l.last_seen_at,
           coalesce(%(now)s - l.last_seen_at
                    > m.expected_period_s * %(silent)s * interval '1 second', true) AS is_silent,
           day.stored, greatest(1, 86400 / m.expected_period_s) AS promised,
           r.rssi_dbm, r.snr_db_tenths, r.heard, r.lost
    FROM meter m
    JOIN installation i ON i.meter_id = m.id AND i.period @> %(now)s
    JOIN metering_point p ON p.id = i.metering_point_id
    LEFT JOIN unit u ON u.id = p.unit_id
    LEFT JOIN meter_link l ON l.meter_id = m.id
    LEFT JOIN radio_link r ON r.meter_id = m.id
    CROSS JOIN LATERAL (
        SELECT count(*) AS stored FROM register_reading d
        WHERE d.meter_id = m.id AND d.register_code = 1 AND d.read_at > %(since)s
          AND d.read_at <= %(now)s AND d.revision = 0
    ) day
    WHERE m.property_id = %(property)s
)
"""
_GROUPS: Final = """
SELECT {word}, count(*), count(*) FILTER (WHERE is_silent),
       100 * sum(least(stored, promised)) / sum(promised), min(rssi_dbm),
       100 * sum(lost) / nullif(sum(heard + lost), 0)
FROM device GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {most}
"""
_SHOWN: Final = """
SELECT *, count(*) OVER () FROM device
WHERE %(only)s::text IS NULL OR {word} = %(only)s ORDER BY {order} LIMIT %(most)s
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
            "property": place.property_id, "now": now, "since": now - _DAY,
            "silent": SILENT_AFTER_PERIODS, "only": only, "most": most,
        }  # fmt: skip
        groups = rows(_DEVICES + _GROUPS.format(word=word, most=GROUPS_MAX), given)
        found = rows(_DEVICES + _SHOWN.format(word=word, order=order), given)
    return Fleet(
        place,
        now,
        tuple(
            FleetGroup(
                name, devices, silent, int(success), weakest, None if lost is None else int(lost)
            )
            for name, devices, silent, success, weakest, lost in groups
        ),
        tuple(FleetDevice(*row[:-1]) for row in found),
        found[0][-1] if found else 0,
    )
