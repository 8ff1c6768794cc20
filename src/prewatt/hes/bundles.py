"""Bundles of concentrators from columns to the commit: who may speak, what is stored, what is acknowledged.

All bundles of a batch become one: a list of meters as their senders named them (an entry for each meter of each message)
and a list of readings that point into it. A reading that is refused holds nobody up, and is recorded under its sender's
serial number; everything else goes the way that readings of single meters go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import Int64
from prewatt.core.civil_time import utc_datetime
from prewatt.core.readings import ReadingBatch, ReadingSource
from prewatt.core.vocabulary import RelayState as RelayCode
from prewatt.hes.drivers.mqtt_bundle.codec import bundle_topic
from prewatt.hes.failures import AWAY, REFUSED
from prewatt.hes.frames import (
    ACTIVE_IMPORT,
    BundleMark,
    MalformedSample,
    ReadingsBundle,
    Refusal,
    RelayState,
    Token,
)
from prewatt.hes.links import (
    ISOLATED,
    Device,
    Directory,
    Heard,
    Sighting,
    SightingBook,
    beside_readings,
    record_beside_readings,
    relay_instant_us,
)
from prewatt.hes.rejected import reject
from prewatt.hes.rosters import Roster, RosterBook, are_within, padded
from prewatt.telemetry.metrics import REFUSED_READINGS

Bool = npt.NDArray[np.bool_]
Store = Callable[[ReadingBatch, Bool], Bool]
"""Stores readings in one transaction, those marked as rated ones; returns which were accepted."""

UNKNOWN_CONCENTRATOR: Final = "unknown_concentrator"
"""The `rejected_frame.reason` of a message whose sender nobody has registered."""
#: These may be mended, so the sender is told to keep what it has.
_MENDABLE: Final = (Refusal.NOT_ITS_METER, Refusal.NO_ACCOUNT, Refusal.FAILED)
_RELAY_WORDS: Final[dict[int, RelayState | None]] = {
    int(RelayCode.UNKNOWN): None,
    int(RelayCode.CLOSED): "closed",
    int(RelayCode.OPEN): "open",
}


class Transport(Protocol):
    """What is needed of the session."""

    def ack(self, tokens: Sequence[Token]) -> None:
        """Acknowledge to the broker."""

    def publish_bundle_marks(self, marks: Sequence[BundleMark]) -> None:
        """Tell concentrators what is committed."""


@dataclass(frozen=True, eq=False)
class _Gathered:
    """The bundles of one batch by registered concentrators, joined.

    ``entry`` is each reading's row in the list of meters, ``sender`` each entry's bundle. Of an entry
    whose serial number its sender's roster does not have, ``device`` is None, ``serial`` empty, and so is
    every period.
    """

    bundles: Sequence[ReadingsBundle]
    rosters: Sequence[Roster]
    device: list[Device | None]
    serial: list[str]
    starts: Int64
    ends: Int64

    @classmethod
    def of(cls, bundles: Sequence[ReadingsBundle], rosters: Sequence[Roster]) -> _Gathered:
        rows = [
            np.array([roster.row_of.get(each, -1) for each in bundle.serials], dtype=np.int64)
            for bundle, roster in zip(bundles, rosters, strict=True)
        ]
        device: list[Device | None] = []
        serial: list[str] = []
        starts, ends = [], []
        most = max(len(roster.starts) for roster in rosters)
        for row, roster in zip(rows, rosters, strict=True):
            device += [roster.devices[at] if at >= 0 else None for at in row.tolist()]
            serial += [roster.serials[at] if at >= 0 else "" for at in row.tolist()]
            starts.append(_chosen(padded(roster.starts, most), row))
            ends.append(_chosen(padded(roster.ends, most), row))
        return cls(
            bundles,
            rosters,
            device,
            serial,
            np.concatenate(starts, axis=1),
            np.concatenate(ends, axis=1),
        )

    @cached_property
    def entries(self) -> list[int]:
        """How many meters each bundle names."""
        return [len(each.serials) for each in self.bundles]

    @cached_property
    def sender(self) -> Int64:
        return np.repeat(np.arange(len(self.bundles)), self.entries)

    @cached_property
    def first_entry(self) -> list[int]:
        """Where each bundle's meters begin."""
        return [0, *accumulate(self.entries[:-1])]

    @cached_property
    def entry(self) -> Int64:
        return np.concatenate(
            [
                bundle.place + first
                for bundle, first in zip(self.bundles, self.first_entry, strict=True)
            ]
        )

    def column(self, name: str) -> Int64:
        """A column of the bundles, of readings or of meters."""
        joined: Int64 = np.concatenate([getattr(each, name) for each in self.bundles])
        return joined

    def received_at_us(self, sender: Int64) -> Int64:
        """When the bundles of these numbers came."""
        return np.array([each.received_at_us for each in self.bundles], dtype=np.int64)[sender]


def _chosen(periods: Int64, rows: Int64) -> Int64:
    """The periods of these rows of a roster; none of those that it does not have (-1)."""
    if periods.shape[1] == 0:
        return np.zeros((len(periods), rows.size), dtype=np.int64)
    return np.where(rows >= 0, periods[:, rows], 0)


class BundleDesk:
    """Takes bundles for one ingest loop, in its thread; ``store`` is the loop's own way to the rows."""

    def __init__(
        self,
        transport: Transport,
        *,
        directory: Directory,
        sightings: SightingBook,
        store: Store,
    ) -> None:
        self._transport = transport
        self._directory = directory
        self._sightings = sightings
        self._store = store
        self._rosters = RosterBook()
        self._via: dict[int, int] = {}

    def apply(self, bundles: Sequence[ReadingsBundle]) -> None:
        """Store what may be stored, record what is refused, and only then acknowledge any of it."""
        senders = {each.concentrator for each in bundles}
        rosters = self._rosters.rosters(
            {each for each in senders if not self._directory.is_isolated(each)}
        )
        strangers = [each for each in bundles if each.concentrator not in rosters]
        known = [each for each in bundles if each.concentrator in rosters]
        marks: list[BundleMark] = []
        if known:
            marks = self._take(known, [rosters[each.concentrator] for each in known])
        if strangers:
            reject(
                [refused_sample(each, self._why_unknown(each.concentrator)) for each in strangers]
            )
        self._transport.ack([each.token for each in bundles])
        self._transport.publish_bundle_marks(marks)

    def _why_unknown(self, serial: str) -> str:
        return ISOLATED if self._directory.is_isolated(serial) else UNKNOWN_CONCENTRATOR

    def _take(
        self, bundles: Sequence[ReadingsBundle], rosters: Sequence[Roster]
    ) -> list[BundleMark]:
        gathered = _Gathered.of(bundles, rosters)
        refusal, is_paid = self._judged(gathered)
        taken = np.flatnonzero(refusal == Refusal.NONE)
        accepted, reasons = self._stored(gathered, taken, is_paid)
        refusal[taken[list(reasons)]] = Refusal.FAILED
        self._see(gathered, taken[accepted])
        with beside_readings():
            self._rosters.heard(
                [
                    (roster, each.received_at_us, each.sent_at_us)
                    for each, roster in zip(bundles, rosters, strict=True)
                ]
            )
        _record(gathered, refusal, set(reasons.values()))
        return _marks(gathered, refusal)

    def _judged(self, gathered: _Gathered) -> tuple[npt.NDArray[np.int8], Bool]:
        """A `Refusal` for each reading, and of each entry whether somebody pays by its meter."""
        refusal = np.concatenate([each.refusal for each in gathered.bundles])
        entry, at_us = gathered.entry, gathered.column("read_at_us")
        is_open = refusal == Refusal.NONE
        is_its = are_within(at_us, entry, gathered.starts, gathered.ends)
        refusal[is_open & ~is_its] = Refusal.NOT_ITS_METER
        is_paid = np.array(self._directory.are_placed(gathered.device), dtype=np.bool_)
        homeless = {
            each.meter_id
            for each, paid in zip(gathered.device, is_paid.tolist(), strict=True)
            if each is not None and not paid
        }
        if homeless:
            homeless -= self._directory.unpaid(sorted(homeless))
            is_lost = np.array(
                [each is not None and each.meter_id in homeless for each in gathered.device]
            )
            refusal[is_open & is_its & is_lost[entry]] = Refusal.NO_ACCOUNT
        return refusal, is_paid

    def _stored(
        self, gathered: _Gathered, taken: Int64, is_paid: Bool
    ) -> tuple[Bool, dict[int, str]]:
        """Which readings were accepted, and why those failed that the database does not take."""
        if taken.size == 0:
            return np.zeros(0, dtype=np.bool_), {}
        entry = gathered.entry[taken]
        meter_id = np.array([0 if each is None else each.meter_id for each in gathered.device])
        batch = ReadingBatch(
            meter_id=meter_id[entry],
            register_code=gathered.column("register_code")[taken],
            read_at_us=gathered.column("read_at_us")[taken],
            value_wh=gathered.column("value")[taken],
            source=np.full(taken.size, int(ReadingSource.METER), dtype=np.int64),
            received_at_us=gathered.received_at_us(gathered.sender[entry]),
        )
        failed: dict[int, str] = {}
        is_rated = (batch.register_code == ACTIVE_IMPORT) & is_paid[entry]
        accepted = self._store_or_divide(batch, is_rated, np.arange(taken.size), failed)
        return accepted, failed

    def _store_or_divide(
        self, batch: ReadingBatch, is_rated: Bool, rows: Int64, failed: dict[int, str]
    ) -> Bool:
        """Store the readings, and where the database refuses them, each half of the meters apart.

        So one poisonous reading costs the others of its meter and nobody else's. A database that
        is away is raised: then all is tried again, and what was stored is a repeat.
        """
        try:
            return self._store(batch.take(rows), is_rated[rows])
        except AWAY:
            raise
        except REFUSED as error:
            meters = np.unique(batch.meter_id[rows])
            if meters.size == 1:
                reason = f"{type(error).__name__}: {error}"[:200]
                failed.update(dict.fromkeys(rows.tolist(), reason))
                return np.zeros(rows.size, dtype=np.bool_)
        accepted = np.zeros(rows.size, dtype=np.bool_)
        is_first = batch.meter_id[rows] < meters[meters.size // 2]
        for half in (is_first, ~is_first):
            accepted[half] = self._store_or_divide(batch, is_rated, rows[half], failed)
        return accepted

    def _see(self, gathered: _Gathered, accepted: Int64) -> None:
        """Write down what bundles say of the meters themselves that they may speak for now, if it is news."""
        received_us = gathered.received_at_us(gathered.sender)
        said_us = gathered.column("heard_at_us")
        heard_us = np.where(said_us == 0, received_us, np.minimum(said_us, received_us))
        everyone = np.arange(len(gathered.device))
        own = np.flatnonzero(are_within(heard_us, everyone, gathered.starts, gathered.ends))
        told = np.bincount(gathered.entry[accepted], minlength=len(gathered.device)) > 0
        relay = gathered.column("relay")
        heard: list[Heard] = []
        is_known = []
        # Numbers of Python's own from here on: this is done for each meter of each message.
        via = [roster.concentrator_id for roster in gathered.rosters]
        for at, sender, at_us, state, is_told in zip(
            *(each[own].tolist() for each in (everyone, gathered.sender, heard_us, relay, told)),
            strict=True,
        ):
            device = gathered.device[at]
            assert device is not None, "a period is of a device"
            is_known.append(is_told and self._via.get(device.meter_id) == via[sender])
            self._via[device.meter_id] = via[sender]
            heard.append((gathered.serial[at], _RELAY_WORDS[state], at_us, None))
        news = own[self._sightings.news_of(heard, is_known)]
        record_beside_readings(
            [
                _sighting(gathered, at, int(heard_us[at]), int(received_us[at]), int(relay[at]))
                for at in news.tolist()
            ]
        )


def _sighting(
    gathered: _Gathered, at: int, heard_us: int, received_us: int, relay: int
) -> Sighting:
    device = gathered.device[at]
    assert device is not None, "a period is of a device"
    relay_us = relay_instant_us(heard_us, received_us) if relay else None
    return Sighting(
        device=device,
        seen_at=utc_datetime(heard_us),
        relay=None if relay_us is None else RelayCode(relay),
        relay_at=None if relay_us is None else utc_datetime(relay_us),
        concentrator_id=gathered.rosters[gathered.sender[at]].concentrator_id,
    )


def _record(gathered: _Gathered, refusal: npt.NDArray[np.int8], failures: set[str]) -> None:
    """Count refused readings and keep a sample of each reason and sender."""
    refused = np.flatnonzero(refusal)
    if refused.size == 0:
        return
    samples = []
    entry = gathered.entry[refused]
    pairs = np.stack([gathered.sender[entry], refusal[refused]], axis=1)
    for sender, why in np.unique(pairs, axis=0).tolist():
        own = np.flatnonzero((pairs == (sender, why)).all(axis=1))
        reason = Refusal(why).name.lower()
        first = int(refused[own[0]])
        bundle = gathered.bundles[sender]
        serial = bundle.serials[int(entry[own[0]]) - gathered.first_entry[sender]]
        text = (
            f"{own.size} readings of {np.unique(entry[own]).size} meters, first of "
            f"{serial.decode('ascii', 'replace')} at {gathered.column('read_at_us')[first]} us"
        )
        if why == Refusal.FAILED:
            text += f"; {'; '.join(sorted(failures))[:400]}"
        REFUSED_READINGS.labels(reason).inc(own.size)
        samples.append(_sample(bundle, reason, text))
    reject(samples)


def refused_sample(bundle: ReadingsBundle, reason: str) -> MalformedSample:
    """What is kept of a bundle that is refused whole."""
    REFUSED_READINGS.labels(
        UNKNOWN_CONCENTRATOR if reason == UNKNOWN_CONCENTRATOR else "failed"
    ).inc(len(bundle))
    return _sample(
        bundle, reason, f"{len(bundle)} readings of {len(bundle.serials)} meters: {reason}"
    )


def _sample(bundle: ReadingsBundle, reason: str, text: str) -> MalformedSample:
    return MalformedSample(
        topic=bundle_topic(bundle.concentrator),
        received_at_us=bundle.received_at_us,
        reason=reason,
        explanation=text,
        payload_head=text.encode(),
    )


def _marks(gathered: _Gathered, refusal: npt.NDArray[np.int8]) -> list[BundleMark]:
    """A mark for each bundle, with the meters of which something was refused that may be mended."""
    kept = np.unique(gathered.entry[np.isin(refusal, _MENDABLE)])
    ends = np.searchsorted(kept, np.cumsum(gathered.entries))
    marks, begin = [], 0
    for bundle, first, end in zip(
        gathered.bundles, gathered.first_entry, ends.tolist(), strict=True
    ):
        refused = tuple((kept[begin:end] - first).tolist())
        marks.append(BundleMark(bundle.concentrator, bundle.sequence, bundle.checksum, refused))
        begin = end
    return marks
