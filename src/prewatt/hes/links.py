"""What the head-end knows of the devices themselves: who they are, when they were heard, what they noticed.

`meter_link` has one row per device, whoever pays for it. It is written in transactions of its own, rows locked in
`meter_id` order and before any account, so that it never waits for a writer that waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final, NamedTuple

from django.db import connection, transaction

from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.tampering import EVENTS
from prewatt.core.vocabulary import RelayState as RelayCode
from prewatt.core.vocabulary import TamperKind
from prewatt.devices.queries import isolated
from prewatt.hes.failures import AWAY, REFUSED
from prewatt.hes.frames import FRAME_REPLAYED, EventFrame, ReadingsFrame, RelayState
from prewatt.mdm.operations import LIMITS
from prewatt.runtime.bells import ring
from prewatt.tamper.operations import Evidence, note_evidence, of_event
from prewatt.tamper.versions import keep_versions

log = logging.getLogger(__name__)

UNKNOWN_METER = "unknown_meter"
"""The `rejected_frame.reason` of a message from a serial number that no property has."""
ISOLATED = "isolated"
"""The `rejected_frame.reason` of a message from a device whose certificates are revoked or have expired."""
UNKNOWN_EVENT = "unknown_event"
"""The `rejected_frame.reason` of an event that means nothing to us; nothing else keeps it."""

FORGED_COMMAND: Final = "forged_command"
"""The event of a meter that was sent an instruction which nobody it trusts had signed."""

DRIFT_ALLOWED_US: Final = LIMITS.clock_tolerance_us
"""How far a meter's clock may be off for what it says of times to be believed."""

_US_PER_S: Final = 1_000_000
_FORGERIES = frozenset({FORGED_COMMAND, FRAME_REPLAYED})
#: Who is isolated is asked for so often, by each loop.
_LOOK_EVERY: Final = timedelta(seconds=2)
#: Of so many devices each may be looked for by itself.
_FEW: Final = 100


class Device(NamedTuple):
    """A meter as the database names it."""

    meter_id: int
    property_id: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """That a device was heard, and what it said; None where the message did not say."""

    device: Device
    seen_at: datetime
    relay: RelayCode | None = None
    clock_drift_s: int | None = None
    firmware: str | None = None
    #: The version of its configuration; None where the message did not say.
    configuration: str | None = None
    #: When the relay was so, by `relay_instant_us`; None is `seen_at`.
    relay_at: datetime | None = None
    #: Which concentrator brought it; None where the device spoke for itself.
    concentrator_id: int | None = None


def drift_s(clock_us: int, received_at_us: int) -> int:
    """How far a device's clock is ahead, in seconds, as far as an integer of the database says it.

    A clock that stands in another century is as wrong as the column can say.
    """
    return max(-(2**31), min(2**31 - 1, round((clock_us - received_at_us) / _US_PER_S)))


def relay_code(relay: RelayState) -> RelayCode:
    """The database's word for a relay state on the wire."""
    return RelayCode.CLOSED if relay == "closed" else RelayCode.OPEN


def relay_instant_us(made_us: int, received_at_us: int) -> int | None:
    """When a relay state was so that came unasked, by the clock of its meter when it sent.

    None if that clock and the receipt are farther apart than a clock may be: the message was made long
    ago, or by a clock that says nothing. Such a state is not taken; its meter has to be asked.
    """
    if abs(made_us - received_at_us) > DRIFT_ALLOWED_US:
        return None
    return min(made_us, received_at_us)


def relay_seen_us(frame: ReadingsFrame) -> int | None:
    """When the relay state of readings was so; where the meter does not tell its clock, by the newest."""
    made_us = frame.meter_clock_us
    if made_us is None:
        made_us = int(frame.read_at_us.max())
    return relay_instant_us(made_us, frame.received_at_us)


class Directory:
    """Serial number to device, remembered. A device never changes its serial; unknown ones are asked again.

    A device whose certificates no longer hold is none, for as long as that is so: what it says is refused,
    and no watermark passes what it still has.
    """

    def __init__(self) -> None:
        self._known: dict[str, Device] = {}
        self._placed: set[int] = set()
        self._isolated: frozenset[str] = frozenset()
        self._looked_at: datetime | None = None

    def look(self, now: datetime) -> None:
        """See who is isolated, if that was not seen a moment ago."""
        if self._looked_at is not None and abs(now - self._looked_at) < _LOOK_EVERY:
            return
        self._isolated = frozenset(each.serial for each in isolated(now=now))
        self._looked_at = now

    def why_unknown(self, serial: str) -> str:
        """The `rejected_frame.reason` of what a serial without a device says."""
        return ISOLATED if serial in self._isolated else UNKNOWN_METER

    def is_isolated(self, serial: str) -> bool:
        """Whether it was enrolled once, and none of its certificates holds."""
        return serial in self._isolated

    def devices_of(self, serials: Sequence[str]) -> list[Device | None]:
        """The device of each serial, None where none has it, or one that is isolated."""
        found = list(map(self._known.get, serials))
        if None in found:
            self.resolve(serials)
            found = list(map(self._known.get, serials))
        if self._isolated and not self._isolated.isdisjoint(serials):
            found = [
                None if serial in self._isolated else device
                for serial, device in zip(serials, found, strict=True)
            ]
        return found

    def are_placed(self, devices: Sequence[Device | None]) -> list[bool]:
        """Whether somebody pays, or has paid, by the active import register of each.

        Once there is a state of a register there always is, so it is asked for until there is.
        """
        meter_ids = [0 if device is None else device.meter_id for device in devices]
        asked = set(meter_ids) - self._placed - {0}
        if asked:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT DISTINCT meter_id FROM meter_state WHERE meter_id = ANY(%s)",
                    [sorted(asked)],
                )
                self._placed.update(int(row[0]) for row in cursor.fetchall())
        return [each in self._placed for each in meter_ids]

    def all_placed(self, devices: Sequence[Device | None]) -> bool:
        """Whether there are all of them, and all are placed."""
        if None in devices:
            return False
        return self._placed.issuperset(map(_METER_ID, devices)) or all(self.are_placed(devices))

    def unpaid(self, meter_ids: Sequence[int]) -> frozenset[int]:
        """Those of the meters that measure a feeder, or a part of what somebody pays for above.

        Nobody is charged by them. Asked anew each time: they are few, and one may be moved to a unit.
        """
        if not meter_ids:
            return frozenset()
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT DISTINCT i.meter_id FROM installation i
                   JOIN metering_point p ON p.id = i.metering_point_id
                   WHERE i.meter_id = ANY(%s) AND p.role IN ('feeder', 'sub')""",
                [list(meter_ids)],
            )
            return frozenset(int(row[0]) for row in cursor.fetchall())

    def resolve(self, serials: Iterable[str]) -> dict[str, Device]:
        """Return the devices of those `serials` that exist and are not isolated."""
        wanted = set(serials) - self._isolated
        missing = [serial for serial in wanted if serial not in self._known]
        if missing:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT serial, id, property_id FROM meter WHERE serial = ANY(%s)", [missing]
                )
                for serial, meter_id, property_id in cursor.fetchall():
                    self._known[serial] = Device(meter_id, property_id)
        return {serial: self._known[serial] for serial in wanted if serial in self._known}


_METER_ID: Final = attrgetter("meter_id")
#: A meter's clock drifts; this much more than was written is worth a row.
_DRIFT_TOLERANCE_US: Final = 5_000_000
_WATCH_US: Final = 120 * 1_000_000
#: What was written is written again after this time, whatever it says.
_SIGHT_EVERY_US: Final = 6 * 3_600 * 1_000_000


Heard = tuple[str, RelayState | None, int, int | None]
"""Serial number, relay, time of receipt and the meter's clock (µs)."""


class SightingBook:
    """Which devices' readings say something new about the device itself; not shared between threads.

    An accepted reading says by itself that its meter lives, so `meter_link` is written only when a
    relay, or a clock by more than a few seconds, is not what this process wrote last, or when that
    was long ago. A process that begins anew has written nothing, hence writes every device once.
    """

    def __init__(self) -> None:
        self._written: dict[str, tuple[RelayState | None, int | None, int]] = {}
        self._watched: dict[str, int] = {}

    def watch(self, serial: str, at_us: int) -> None:
        """A device said something else than readings, which others write down: for two minutes, and
        once after them, its frames are news. Called from another thread.
        """
        self._watched[serial] = at_us + _WATCH_US

    def news(self, frames: Sequence[ReadingsFrame], told: Sequence[bool]) -> list[int]:
        """Which frames have to be written down; ``told``: a reading of the frame was accepted."""
        return self.news_of(
            [
                (each.serial, each.relay, each.received_at_us, each.meter_clock_us)
                for each in frames
            ],
            told,
        )

    def news_of(self, heard: Iterable[Heard], told: Sequence[bool]) -> list[int]:
        """The same of what frames said, without the frames."""
        written, watched, found = self._written, self._watched, []
        for at, (serial, relay, received_us, clock_us) in enumerate(heard):
            drift_us = None if clock_us is None else clock_us - received_us
            if told[at] and (before := written.get(serial)) is not None and serial not in watched:
                was, drifted_us, at_us = before
                if (
                    (relay is None or relay == was)
                    and (drift_us is None or _is_near(drift_us, drifted_us))
                    and received_us - at_us < _SIGHT_EVERY_US
                ):
                    continue
            if received_us >= watched.get(serial, received_us + 1):
                watched.pop(serial, None)
            was, drifted_us, _ = written.get(serial, (None, None, 0))
            written[serial] = (
                was if relay is None else relay,
                drifted_us if drift_us is None else drift_us,
                received_us,
            )
            found.append(at)
        return found


def _is_near(drift_us: int, before_us: int | None) -> bool:
    return before_us is not None and abs(drift_us - before_us) <= _DRIFT_TOLERANCE_US


def record_sightings(sightings: Sequence[Sighting]) -> None:
    """Update `meter_link`, one transaction; each fact of a device by the newest that told it.

    A relay that changed rings for supply, which looks whether it is what it should be.
    """
    if not sightings:
        return
    merged: dict[int, Sighting] = {}
    for each in sightings:
        before = merged.get(each.device.meter_id)
        merged[each.device.meter_id] = each if before is None else _merged(before, each)
    rows = [merged[meter_id] for meter_id in sorted(merged)]
    with transaction.atomic(), connection.cursor() as cursor:
        was = _lock_links(cursor, [(row.device, row.seen_at) for row in rows])
        if len(rows) > _FEW:
            # A table that has just been filled looks empty to PostgreSQL, which would go through all of it
            # for each row.
            cursor.execute("SET LOCAL enable_nestloop = off")
        cursor.execute(
            """UPDATE meter_link AS link SET
                   last_seen_at = greatest(link.last_seen_at, seen.at),
                   relay = CASE WHEN seen.relay_at >= link.relay_read_at
                                THEN seen.relay ELSE link.relay END,
                   relay_since = CASE WHEN seen.relay_at >= link.relay_read_at
                                       AND (seen.relay <> link.relay OR link.relay_since IS NULL)
                                      THEN seen.relay_at ELSE link.relay_since END,
                   relay_read_at = greatest(link.relay_read_at, seen.relay_at),
                   clock_drift_s = coalesce(seen.drift_s, link.clock_drift_s),
                   firmware = coalesce(seen.firmware, link.firmware),
                   concentrator_id = CASE WHEN seen.at >= link.last_seen_at
                                          THEN coalesce(seen.concentrator_id, link.concentrator_id)
                                          ELSE link.concentrator_id END
               FROM unnest(%s::bigint[], %s::timestamptz[], %s::smallint[], %s::timestamptz[],
                           %s::integer[], %s::text[], %s::bigint[])
                    AS seen(meter_id, at, relay, relay_at, drift_s, firmware, concentrator_id)
               WHERE link.meter_id = seen.meter_id
               RETURNING link.meter_id, link.property_id, link.relay""",
            [
                [row.device.meter_id for row in rows],
                [row.seen_at for row in rows],
                [None if row.relay is None else int(row.relay) for row in rows],
                [_relay_at(row) for row in rows],
                [row.clock_drift_s for row in rows],
                [row.firmware for row in rows],
                [row.concentrator_id for row in rows],
            ],
        )
        turned = {
            place for meter_id, place, relay in cursor.fetchall() if relay != was[meter_id].relay
        }
        _keep_versions(rows)
        set_back = _set_back(rows, was)
        if set_back:
            note_evidence(
                found=set_back, by="system:head_end", now=max(each.seen_at for each in rows)
            )
        ring("changed", {row.device.property_id for row in rows})
        ring("supply_due", turned)


#: A clock that falls by so much, and is then behind by so much, was set back by somebody; drifts are slower.
SET_BACK_S: Final = 600


#: What is said twice so far apart, and so alike, was not a message that came late.
_SAID_AGAIN: Final = timedelta(seconds=30)
_ALIKE_S: Final = 60
_FALLS_MAX: Final = 100_000
#: By meter, a fall that was seen once: when, and what the clock was off by before and then.
_FALLS: dict[int, tuple[datetime, int, int]] = {}


def _set_back(rows: Sequence[Sighting], was: Mapping[int, _Known]) -> list[Evidence]:
    """Clocks that stood and are behind now: what is put right, or ran ahead before, is no such thing.

    A message that was long on its way looks like a clock that is behind, so that it takes a second one, later
    and alike. There soon is: a meter whose clock is so far off is asked for its relay (`main`), and answers.
    """
    found = []
    for row in rows:
        meter_id, drift = row.device.meter_id, row.clock_drift_s
        if drift is None:
            continue
        before, seen = was[meter_id], _FALLS.get(meter_id)
        if seen is not None and row.seen_at - seen[0] >= _SAID_AGAIN:
            _FALLS.pop(meter_id, None)
            if abs(drift - seen[2]) <= _ALIKE_S:
                received_us = instant_us(row.seen_at)
                found.append(
                    Evidence(
                        row.device.property_id, meter_id, TamperKind.CLOCK_SET_BACK, "clock",
                        "clock_went_back", received_us, told=f"back {received_us}",
                        detail={"before_s": seen[1], "after_s": drift},
                    )
                )  # fmt: skip
                continue
        has_fallen = drift <= -SET_BACK_S and before.clock_drift_s - drift >= SET_BACK_S
        if has_fallen and before.seen_at < row.seen_at and len(_FALLS) < _FALLS_MAX:
            _FALLS.setdefault(meter_id, (row.seen_at, before.clock_drift_s, drift))
    return found


def _keep_versions(rows: Sequence[Sighting]) -> None:
    """Write down versions that are not the last that the device told; only hellos tell any."""
    told = [
        (row, part, version)
        for row in rows
        for part, version in (("firmware", row.firmware), ("configuration", row.configuration))
        if version
    ]
    if told:
        keep_versions(
            [
                (row.device.property_id, row.device.meter_id, part, version, row.seen_at)
                for row, part, version in told
            ]
        )


@contextmanager
def beside_readings() -> Iterator[None]:
    """What is written of devices beside readings that are stored: refused, it is logged and refuses nothing.

    Were it raised, the whole batch would be taken apart and tried again for what one device says of
    itself. A database that is away is raised: then all comes again.
    """
    try:
        yield
    except AWAY:
        raise
    except REFUSED:
        log.exception("what devices say of themselves cannot be written down")


def record_beside_readings(sightings: Sequence[Sighting]) -> None:
    """`record_sightings` that refuses no readings; of a set that is refused, each device by itself."""
    try:
        record_sightings(sightings)
    except AWAY:
        raise
    except REFUSED:
        for each in sightings:
            with beside_readings():
                record_sightings([each])


def _relay_at(sighting: Sighting) -> datetime | None:
    return None if sighting.relay is None else sighting.relay_at or sighting.seen_at


def _merged(before: Sighting, after: Sighting) -> Sighting:
    """Two messages of one device as one; of two relay states the later, of two at once the second."""
    one, other = _relay_at(before), _relay_at(after)
    newest = after if one is None or (other is not None and other >= one) else before
    return Sighting(
        device=after.device,
        seen_at=max(before.seen_at, after.seen_at),
        relay=newest.relay,
        relay_at=_relay_at(newest),
        clock_drift_s=before.clock_drift_s if after.clock_drift_s is None else after.clock_drift_s,
        firmware=before.firmware if after.firmware is None else after.firmware,
        configuration=before.configuration if after.configuration is None else after.configuration,
        concentrator_id=_brought_by(before, after),
    )


def _brought_by(before: Sighting, after: Sighting) -> int | None:
    """Who brought the one that was heard later, of two at once the second; else who brought the other."""
    later, other = (after, before) if after.seen_at >= before.seen_at else (before, after)
    return other.concentrator_id if later.concentrator_id is None else later.concentrator_id


def is_known_event(event: EventFrame) -> bool:
    """Whether `record_events` has something to note of it."""
    return event.code in EVENTS or event.code in _FORGERIES


def is_forgery(event: EventFrame) -> bool:
    """Whether it says that somebody makes up what a meter is sent, or what is sent in its name."""
    return event.code in _FORGERIES


def record_events(told: Sequence[tuple[Device, EventFrame]], now: datetime) -> None:
    """Note what meters noticed, as a set in one transaction: signs of life, and evidence of tampering.

    What ends an incident ends the state of its meter, not the case: a person has to look. A recording is no
    sign of life, and what means nothing to us is not noted here (`is_known_event`).
    """
    known = [
        (device, event)
        for device, event in told
        if is_known_event(event) and event.code != FRAME_REPLAYED
    ]
    if not known:
        return
    seen: dict[int, tuple[Device, datetime]] = {}
    for device, event in known:
        at = utc_datetime(event.received_at_us)
        seen[device.meter_id] = (device, max(at, seen.get(device.meter_id, (device, at))[1]))
    ended = {
        device.meter_id
        for device, event in known
        if event.code in EVENTS and not EVENTS[event.code].begins
    }
    with transaction.atomic(), connection.cursor() as cursor:
        _lock_links(cursor, list(seen.values()))
        cursor.execute(
            """UPDATE meter_link AS l SET
                   last_seen_at = greatest(l.last_seen_at, t.at),
                   tamper_since = CASE WHEN t.meter_id = ANY(%s) THEN NULL ELSE l.tamper_since END
               FROM unnest(%s::bigint[], %s::timestamptz[]) AS t(meter_id, at)
               WHERE l.meter_id = t.meter_id""",
            [sorted(ended), list(seen), [at for _, at in seen.values()]],
        )
        note_evidence(found=_evidence(known), by="system:head_end", now=now)
        ring("changed", {device.property_id for device, _ in known})


def _evidence(told: Sequence[tuple[Device, EventFrame]]) -> list[Evidence]:
    found = (
        of_event(
            property_id=device.property_id,
            meter_id=device.meter_id,
            code=event.code,
            told_us=event.at_us,
            received_us=event.received_at_us,
            detail=event.detail,
        )
        for device, event in told
    )
    return [each for each in found if each is not None]


class _Known(NamedTuple):
    """What was known of a device."""

    relay: int
    clock_drift_s: int
    seen_at: datetime


def _lock_links(cursor: object, seen: Sequence[tuple[Device, datetime]]) -> dict[int, _Known]:
    """Make the rows that are missing, lock all of them in `meter_id` order; returns what they say.

    Each device, once, with when it was heard.
    """
    ordered = sorted((device.meter_id, device.property_id, at) for device, at in seen)
    meter_ids = [meter_id for meter_id, _, _ in ordered]
    execute = cursor.execute  # type: ignore[attr-defined]  # Django's cursor wrapper has no public type
    execute(
        """INSERT INTO meter_link (meter_id, property_id, last_seen_at)
           SELECT m, p, at FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[]) AS t(m, p, at)
           ORDER BY m ON CONFLICT (meter_id) DO NOTHING""",
        [meter_ids, [place for _, place, _ in ordered], [at for _, _, at in ordered]],
    )
    execute(
        """SELECT meter_id, relay, clock_drift_s,
                  greatest(last_seen_at, '1970-01-01 00:00:00+00') FROM meter_link WHERE meter_id = ANY(%s)
           ORDER BY meter_id FOR NO KEY UPDATE""",
        [meter_ids],
    )
    found = cursor.fetchall()  # type: ignore[attr-defined]  # see above
    return {meter_id: _Known(*known) for meter_id, *known in found}
