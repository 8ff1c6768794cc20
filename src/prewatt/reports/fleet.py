"""The fleet: how the devices of a property are heard, by driver, gateway, firmware or model, and device by device.

A device's success is the readings that are stored of its last day against as many as its reporting period promises,
whatever its driver. What was lost on the air is known of devices behind a network server alone, by the gaps in their
counters; it is counted since they were first heard.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from prewatt.access.scope import Actor, scope
from prewatt.reports.place import place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import SILENT_AFTER_PERIODS

#: So many devices stand on the page; a file has all of them.
SHOWN_MAX: Final = 200
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
    """The groups by one word, and the devices of the one that is looked at (or all), as they were sorted."""

    place: Place
    now: datetime
    groups: tuple[FleetGroup, ...]
    devices: tuple[FleetDevice, ...]

    @property
    def shown(self) -> tuple[FleetDevice, ...]:
        """Those that stand on the page."""
        return self.devices[:SHOWN_MAX]


BY: Final[dict[str, Callable[[FleetDevice], str]]] = {
    "driver": lambda each: each.driver,
    "gateway": lambda each: each.gateway,
    "firmware": lambda each: each.firmware,
    "model": lambda each: each.model,
}
SORTS: Final[dict[str, Callable[[FleetDevice], tuple[float, str]]]] = {
    "success": lambda each: (each.success, each.serial),
    "seen": lambda each: (0.0 if each.seen_at is None else each.seen_at.timestamp(), each.serial),
    "signal": lambda each: (999 if each.rssi_dbm is None else each.rssi_dbm, each.serial),
    "meter": lambda each: (0, each.serial),
}

_DEVICES: Final = """
SELECT m.id, m.serial, coalesce(u.code, ''), m.driver, m.model, coalesce(l.firmware, ''),
       coalesce(r.gateway, ''), l.last_seen_at,
       coalesce(%(now)s - l.last_seen_at > m.expected_period_s * %(silent)s * interval '1 second', true),
       day.stored, greatest(1, 86400 / m.expected_period_s), r.rssi_dbm, r.snr_db_tenths, r.heard, r.lost
FROM meter m
JOIN installation i ON i.meter_id = m.id AND i.period @> %(now)s
JOIN metering_point p ON p.id = i.metering_point_id
LEFT JOIN unit u ON u.id = p.unit_id
LEFT JOIN meter_link l ON l.meter_id = m.id
LEFT JOIN radio_link r ON r.meter_id = m.id
CROSS JOIN LATERAL (
    SELECT count(*) AS stored FROM register_reading d
    WHERE d.meter_id = m.id AND d.register_code = 1 AND d.read_at > %(since)s AND d.read_at <= %(now)s
      AND d.revision = 0
) day
WHERE m.property_id = %(property)s
"""


def fleet(
    *,
    actor: Actor,
    now: datetime,
    by: str = "driver",
    only: str | None = None,
    sort: str = "success",
) -> Fleet:
    """All groups by a word of `BY`, and the devices of the group ``only``, sorted by a word of `SORTS`."""
    with scope(actor):
        place = place_of(actor)
        given = {
            "property": place.property_id,
            "now": now,
            "since": now - _DAY,
            "silent": SILENT_AFTER_PERIODS,
        }
        devices = [FleetDevice(*row) for row in rows(_DEVICES, given)]
    word = BY[by]
    members: dict[str, list[FleetDevice]] = defaultdict(list)
    for each in devices:
        members[word(each)].append(each)
    shown = devices if only is None else members.get(only, [])
    return Fleet(
        place,
        now,
        tuple(_group(name, members[name]) for name in sorted(members)),
        tuple(sorted(shown, key=SORTS[sort])),
    )


def _group(name: str, devices: list[FleetDevice]) -> FleetGroup:
    stored = sum(min(each.stored, each.promised) for each in devices)
    heard = sum(each.heard or 0 for each in devices)
    lost = sum(each.lost or 0 for each in devices)
    return FleetGroup(
        name,
        len(devices),
        sum(each.silent for each in devices),
        100 * stored // sum(each.promised for each in devices),
        min((each.rssi_dbm for each in devices if each.rssi_dbm is not None), default=None),
        100 * lost // (heard + lost) if heard + lost else None,
    )
