"""The ingest loop: frames in, batches out, acknowledged after commit and never before.

One thread gathers frames until a batch is full or its time is up, applies it in one transaction (the
active import register is rated, every other register is kept as it came), then acknowledges to the
broker and publishes the committed watermarks to the meters. The queue in front of it is bounded:
when the database is slow the transport waits, and the broker keeps what comes.
A batch that the database cannot take is tried frame by frame, so that one poisonous message never
stops the others; it is kept as a sample and raises an alarm.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Final, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt
from django.db import connection, transaction

from prewatt.billing.ingestion import apply_readings
from prewatt.billing.memory import Memory
from prewatt.billing.tariffs import TariffBook
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import utc_datetime
from prewatt.core.readings import ReadingBatch, ReadingSource
from prewatt.core.vee import VERDICT_NAMES, Verdict
from prewatt.hes.bundles import BundleDesk, refused_sample
from prewatt.hes.failures import AWAY, REFUSED
from prewatt.hes.frames import (
    ACTIVE_IMPORT,
    BundleMark,
    MalformedSample,
    ReadingsBlock,
    ReadingsBundle,
    ReadingsFrame,
    Token,
    Watermark,
)
from prewatt.hes.inbox import Inbox
from prewatt.hes.links import (
    Device,
    Directory,
    Sighting,
    SightingBook,
    drift_s,
    record_beside_readings,
    relay_code,
    relay_seen_us,
)
from prewatt.hes.pace import READINGS_MAX, Pace
from prewatt.hes.rejected import reject
from prewatt.mdm.cases import OPEN_CASES_MAX
from prewatt.mdm.operations import LIMITS, keep_readings
from prewatt.telemetry.metrics import BATCH_SECONDS, READINGS, WAITING_FRAMES
from prewatt.telemetry.pulse import PULSE

log = logging.getLogger(__name__)

BATCH_WAIT_S: Final = 0.05
QUEUE_READINGS_MAX: Final = READINGS_MAX
SHARDS_MAX: Final = 16
_RETRY_S: Final = 0.5
_US_PER_S: Final = 1_000_000
#: Two readings of a frame farther apart are not next to each other: a daily report on a long day is.
_SPAN_GAP_US: Final = 25 * 3_600 * _US_PER_S
Readings = ReadingsFrame | ReadingsBlock | ReadingsBundle
Given = TypeVar("Given", ReadingsFrame, ReadingsBlock, ReadingsBundle)
UNPLACED = "no_account"
"""``rejected_frame.reason`` of readings whose meter nobody is assigned to."""
TOO_MANY_HELD = "too_many_held"
"""``rejected_frame.reason`` of readings to hold of a meter of which too many are held."""


class Transport(Protocol):
    """What is needed of the session."""

    def ack(self, tokens: Sequence[Token]) -> None:
        """Acknowledge to the broker."""

    def publish_watermarks(self, marks: Sequence[Watermark]) -> None:
        """Tell meters what is committed."""

    def publish_bundle_marks(self, marks: Sequence[BundleMark]) -> None:
        """Tell concentrators what is committed."""


class IngestLoop:
    """Gathers, applies, acknowledges; one thread. Use ``start``, ``submit`` from elsewhere, ``stop``."""

    def __init__(
        self, transport: Transport, *, clock: Callable[[], datetime], name: str = "ingest"
    ) -> None:
        self.failure: Exception | None = None
        self._name = name
        self._transport = transport
        self._clock = clock
        self._inbox: Inbox[Readings] = Inbox(QUEUE_READINGS_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)
        self._directory = Directory()
        self._sightings = SightingBook()
        self._book = TariffBook()
        self._memory = Memory()
        self._bundles = BundleDesk(
            transport,
            directory=self._directory,
            sightings=self._sightings,
            store=self._store,
        )
        self._pace = Pace()

    @property
    def batch_readings(self) -> int:
        """How many readings the next batch takes."""
        return self._pace.readings

    def start(self) -> None:
        """Begin to gather batches."""
        self._thread.start()

    def submit(self, frame: Readings) -> None:
        """Take a frame, waiting while the queue is full; after ``stop`` it is left to the broker."""
        while not self._stopping.is_set():
            if self._inbox.put(frame, frame.weight, timeout_s=0.5):
                return

    def watch(self, serial: str, at_us: int) -> None:
        """A device said something else than readings: look at what its next frames say of it."""
        self._sightings.watch(serial, at_us)

    def take(self, given: Sequence[ReadingsFrame | ReadingsBlock]) -> None:
        """Apply and acknowledge a batch that the caller gathered; what fails is raised."""
        blocks = [each for each in given if isinstance(each, ReadingsBlock)]
        if len(blocks) == len(given):
            self._timed(blocks, self._apply_blocks)
        else:
            self._timed(_frames(given), self._apply)

    def stop(self) -> None:
        """Commit and acknowledge what was taken, then end."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not (self._stopping.is_set() and len(self._inbox) == 0):
                PULSE.beat(self._name)
                self._apply_until_done(self._gather())
        except Exception as error:
            log.exception("the ingest loop ends")
            self.failure = error
        finally:
            connection.close()

    def _gather(self) -> list[Readings]:
        """The next batch: at most so many readings and what came with the last, at most so long."""
        taken = self._inbox.get(timeout_s=0.25)
        if taken is None:
            return []
        gathered, weight = [taken], taken.weight
        WAITING_FRAMES.set(len(self._inbox))
        until = time.monotonic() + BATCH_WAIT_S
        while weight < self._pace.readings:
            taken = self._inbox.get(timeout_s=max(0.0, until - time.monotonic()))
            if taken is None:
                break
            gathered.append(taken)
            weight += taken.weight
        return gathered

    def _apply_until_done(self, gathered: Sequence[Readings]) -> None:
        """Apply what was gathered: bundles by themselves, and the rest in columns if it is all in
        blocks, and else in the order of arrival.
        """
        bundles = [each for each in gathered if isinstance(each, ReadingsBundle)]
        rest = [each for each in gathered if not isinstance(each, ReadingsBundle)]
        blocks = [each for each in rest if isinstance(each, ReadingsBlock)]
        if len(blocks) < len(rest):
            self._until_done(_frames(rest), self._apply)
        elif blocks:
            self._until_done(blocks, self._apply_blocks)
        if bundles:
            self._until_done(bundles, self._bundles.apply)

    def _until_done(self, given: Sequence[Given], apply: Callable[[Sequence[Given]], None]) -> None:
        """Apply a batch; wait out a lost database, take a refused batch apart."""
        while True:
            PULSE.beat(self._name)
            try:
                with BATCH_SECONDS.time():
                    self._timed(given, apply)
            except AWAY:
                log.warning("the database is away; nothing is acknowledged", exc_info=True)
                connection.close()
                if self._stopping.is_set():
                    return  # Unacknowledged, so it comes again.
                time.sleep(_RETRY_S)
                continue
            except REFUSED as error:
                parts = _parts(given)
                if len(parts) > 1:
                    log.warning("a batch of %d frames was refused: %s", len(parts), error)
                    for part in parts:
                        self._apply_until_done([part])
                    return
                log.exception("a message cannot be applied")
                self._refuse(parts[0], f"{type(error).__name__}: {error}"[:200])
            return

    def _timed(self, given: Sequence[Given], apply: Callable[[Sequence[Given]], None]) -> None:
        """Apply a batch, and let the next one be as large as this one says."""
        began = time.monotonic()
        self._directory.look(self._clock())
        apply(given)
        self._pace.took(sum(each.weight for each in given), time.monotonic() - began)

    def _apply_blocks(self, blocks: Sequence[ReadingsBlock]) -> None:
        """Store and acknowledge blocks in columns; where a meter's place is not plain, as frames."""
        serials = [serial for block in blocks for serial in block.serials]
        found = self._directory.devices_of(serials)
        if not self._directory.all_placed(found):
            self._apply(_frames(blocks))
            return
        devices = cast("list[Device]", found)
        batch = _batch_of_blocks(blocks, devices)
        told = self._store(batch, batch.register_code == ACTIVE_IMPORT)
        heard = chain.from_iterable(block.heard() for block in blocks)
        news = self._sightings.news_of(heard, told.tolist())
        if news:
            frames = _frames(blocks)
            record_beside_readings([_sighting(frames[at], devices[at]) for at in news])
        self._transport.ack([block.token for block in blocks])
        code, at_us, value = (
            each.tolist() for each in (batch.register_code, batch.read_at_us, batch.value_wh)
        )
        self._transport.publish_watermarks(list(map(Watermark, serials, code, at_us, at_us, value)))

    def _store(self, batch: ReadingBatch, is_rated: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """One transaction; returns which readings were accepted."""
        now = self._clock()
        rated = batch if is_rated.all() else batch.take(is_rated)
        kept = batch.take(~is_rated)
        # What is rated alone has its own transaction, which then needs no savepoint in another.
        with transaction.atomic() if len(kept) else nullcontext():
            # First what needs no account, so that accounts are locked no longer for it.
            kept_beyond = keep_readings(batch=kept, now=now, open_cases_max=OPEN_CASES_MAX)
            applied = apply_readings(
                batch=rated,
                now=now,
                book=self._book,
                memory=self._memory,
                open_cases_max=OPEN_CASES_MAX,
                on_beyond=partial(_count_beyond, rated),
            )
            _count_beyond(kept, kept_beyond)
        count_verdicts(applied.verdict)
        accepted = np.zeros(len(batch), dtype=np.bool_)
        accepted[is_rated] = applied.verdict == Verdict.ACCEPTED
        return accepted

    def _apply(self, frames: Sequence[ReadingsFrame]) -> None:
        """Store what has its place, keep samples of the rest, and only then acknowledge any of it.

        Were a part acknowledged before the whole is done, a database lost in between would have it
        acknowledged once more, when the broker may have given its number to another message.
        """
        stored = self._store_frames(frames)
        self._transport.ack([frame.token for frame in frames])
        self._transport.publish_watermarks(_watermarks(stored))

    def _store_frames(self, frames: Sequence[ReadingsFrame]) -> Sequence[ReadingsFrame]:
        """Returns the frames whose readings are stored: the others' meters are unknown or unpaid."""
        serials = [frame.serial for frame in frames]
        devices = self._directory.devices_of(serials)
        placed = self._directory.are_placed(devices)
        if all(placed):
            self._store_placed(frames, cast("list[Device]", devices))
            return frames
        known = [at for at, is_placed in enumerate(placed) if is_placed]
        if known:
            self._store_placed([frames[at] for at in known], [_sure(devices[at]) for at in known])
        lost = [each for each, is_placed in zip(devices, placed, strict=True) if not is_placed]
        feeders = self._directory.unpaid([each.meter_id for each in lost if each is not None])
        kept = [at for at, each in enumerate(devices) if each and each.meter_id in feeders]
        kept = [at for at in kept if not placed[at]]
        if kept:
            self._store_placed(
                [frames[at] for at in kept], [_sure(devices[at]) for at in kept], are_paid=False
            )
            placed = [is_placed or at in set(kept) for at, is_placed in enumerate(placed)]
        self._keep_samples(frames, devices, placed)
        return [frame for frame, is_placed in zip(frames, placed, strict=True) if is_placed]

    def _keep_samples(
        self,
        frames: Sequence[ReadingsFrame],
        devices: Sequence[Device | None],
        placed: Sequence[bool],
    ) -> None:
        strangers = [frame for frame, each in zip(frames, devices, strict=True) if each is None]
        if strangers:
            reject(
                [_sample(frame, self._directory.why_unknown(frame.serial)) for frame in strangers]
            )
        homeless = [at for at, each in enumerate(devices) if each is not None and not placed[at]]
        if homeless:
            record_beside_readings([_sighting(frames[at], _sure(devices[at])) for at in homeless])
            reject([_sample(frames[at], UNPLACED) for at in homeless])

    def _store_placed(
        self, frames: Sequence[ReadingsFrame], devices: Sequence[Device], *, are_paid: bool = True
    ) -> None:
        """Store frames of meters that somebody pays by, or that only measure."""
        size = [frame.read_at_us.size for frame in frames]
        batch = _batch(frames, devices)
        accepted = self._store(batch, (batch.register_code == ACTIVE_IMPORT) & are_paid)
        told = np.add.reduceat(accepted, np.cumsum([0, *size[:-1]])) > 0
        record_beside_readings(
            [
                _sighting(frames[at], devices[at])
                for at in self._sightings.news(frames, told.tolist())
            ]
        )

    def _refuse(self, given: ReadingsFrame | ReadingsBundle, reason: str) -> None:
        """Keep a sample and acknowledge it to the broker, or it would come for ever."""
        if isinstance(given, ReadingsBundle):
            reject([refused_sample(given, reason)])
        else:
            reject([_sample(given, reason)])
        self._transport.ack([given.token])


class ShardedIngest:
    """Several ingest loops side by side, each with a connection and a memory of its own.

    A meter always goes to the same loop, so that its readings stay in order. Loops are threads:
    four fifths of a batch's time is PostgreSQL's, and numpy and the socket let the others run.
    """

    def __init__(
        self, transport: Transport, *, clock: Callable[[], datetime], shards: int = 1
    ) -> None:
        if not 1 <= shards <= SHARDS_MAX:
            raise ValueError(f"between 1 and {SHARDS_MAX} shards")
        names = ["ingest"] if shards == 1 else [f"ingest-{number}" for number in range(shards)]
        self._loops = [IngestLoop(transport, clock=clock, name=name) for name in names]

    @property
    def failure(self) -> Exception | None:
        """What ended one of the loops."""
        return next((loop.failure for loop in self._loops if loop.failure is not None), None)

    def start(self) -> None:
        """Begin to gather batches."""
        for loop in self._loops:
            loop.start()

    def submit(self, frame: Readings) -> None:
        """Take a frame, or each loop's part of a block, waiting while the loop's queue is full.

        A bundle stays whole, so that it can be acknowledged: its sender has a loop, whatever its meters'.
        """
        if len(self._loops) == 1:
            self._loops[0].submit(frame)
        elif isinstance(frame, ReadingsBundle):
            self._loop_of(frame.concentrator).submit(frame)
        elif isinstance(frame, ReadingsFrame):
            self._loop_of(frame.serial).submit(frame)
        else:
            owner = np.array([self._number_of(each) for each in frame.serials])
            for number, loop in enumerate(self._loops):
                own = np.flatnonzero(owner == number)
                if own.size:
                    loop.submit(frame.part(own))

    def watch(self, serial: str, at_us: int) -> None:
        """A device said something else than readings: look at what its next frames say of it.

        Its readings may come through a concentrator, hence in any loop.
        """
        for loop in self._loops:
            loop.watch(serial, at_us)

    def stop(self) -> None:
        """Commit and acknowledge what was taken, then end."""
        for loop in self._loops:
            loop.stop()

    def _loop_of(self, serial: str) -> IngestLoop:
        return self._loops[self._number_of(serial)]

    def _number_of(self, serial: str) -> int:
        return zlib.crc32(serial.encode()) % len(self._loops)


def _count_beyond(batch: ReadingBatch, places: Int64) -> None:
    """Count readings that were not kept as held, because their meters have too many such already.

    In the transaction of the others, so that none is acknowledged without being counted.
    """
    if len(places) == 0:
        return
    lost = batch.take(places)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, serial FROM meter WHERE id = ANY(%s)", [np.unique(lost.meter_id).tolist()]
        )
        serial_of = dict(cursor.fetchall())
    columns = (
        lost.meter_id,
        lost.register_code,
        lost.read_at_us,
        lost.value_wh,
        lost.received_at_us,
    )
    reject(
        [
            MalformedSample(
                topic=f"pw/{serial_of[meter_id]}/up/readings",
                received_at_us=received_us,
                reason=TOO_MANY_HELD,
                explanation=TOO_MANY_HELD,
                payload_head=f"register {code} reads {value} at {at_us} us".encode(),
            )
            for meter_id, code, at_us, value, received_us in zip(
                *(each.tolist() for each in columns), strict=True
            )
        ]
    )


def count_verdicts(verdict: npt.NDArray[np.int8]) -> None:
    """Count what became of the readings of a committed batch."""
    for code, count in zip(*np.unique(verdict, return_counts=True), strict=True):
        READINGS.labels(VERDICT_NAMES[Verdict(int(code))]).inc(int(count))


def _frames(given: Sequence[ReadingsFrame | ReadingsBlock]) -> list[ReadingsFrame]:
    """A frame for each message."""
    return [
        frame
        for each in given
        for frame in (each.frames() if isinstance(each, ReadingsBlock) else [each])
    ]


def _parts(given: Sequence[Readings]) -> Sequence[ReadingsFrame | ReadingsBundle]:
    """What can be applied by itself: each message."""
    return [
        part
        for each in given
        for part in ([each] if isinstance(each, ReadingsBundle) else _frames([each]))
    ]


def _batch_of_blocks(blocks: Sequence[ReadingsBlock], devices: Sequence[Device]) -> ReadingBatch:
    """The messages of all blocks as one batch, in order of arrival; each one's device beside it."""
    size = len(devices)
    return ReadingBatch(
        meter_id=np.fromiter((meter_id for meter_id, _ in devices), np.int64, size),
        register_code=np.concatenate([each.register_code for each in blocks]).astype(np.int64),
        read_at_us=np.concatenate([each.read_at_us for each in blocks]),
        value_wh=np.concatenate([each.value for each in blocks]),
        source=np.full(size, int(ReadingSource.METER), dtype=np.int64),
        received_at_us=np.repeat(
            np.array([each.received_at_us for each in blocks], dtype=np.int64),
            [len(each) for each in blocks],
        ),
    )


def _sure(device: Device | None) -> Device:
    assert device is not None
    return device


def _batch(frames: Sequence[ReadingsFrame], devices: Sequence[Device]) -> ReadingBatch:
    """The rows of all frames as one batch, in order of arrival; each frame's device beside it."""
    size = [frame.read_at_us.size for frame in frames]
    meter_id = np.array([device.meter_id for device in devices], dtype=np.int64)
    received_at_us = np.array([frame.received_at_us for frame in frames], dtype=np.int64)
    return ReadingBatch(
        meter_id=np.repeat(meter_id, size),
        register_code=np.concatenate([frame.register_code for frame in frames]).astype(np.int64),
        read_at_us=np.concatenate([frame.read_at_us for frame in frames]),
        value_wh=np.concatenate([frame.value for frame in frames]),
        source=np.full(sum(size), int(ReadingSource.METER), dtype=np.int64),
        received_at_us=np.repeat(received_at_us, size),
    )


def _watermarks(frames: Sequence[ReadingsFrame]) -> list[Watermark]:
    """What these frames commit, rated, kept or held: of each frame and register its own spans.

    Never more: what lies before a frame may have been lost on the way, and its meter must keep it.
    """
    return [mark for frame in frames for mark in _watermarks_of(frame)]


def _watermarks_of(frame: ReadingsFrame) -> list[Watermark]:
    if frame.read_at_us.size == 1:
        # Most frames are one reading, whose span needs no search.
        at_us, value = int(frame.read_at_us[0]), int(frame.value[0])
        return [Watermark(frame.serial, int(frame.register_code[0]), at_us, at_us, value)]
    ahead_us = frame.received_at_us + LIMITS.clock_tolerance_us
    marks = []
    for code in np.unique(frame.register_code).tolist():
        is_of_it = frame.register_code == code
        for from_us, until_us, value in _spans(
            frame.read_at_us[is_of_it], frame.value[is_of_it], ahead_us
        ):
            marks.append(Watermark(frame.serial, code, until_us, from_us, value))
    return marks


def _spans(read_at_us: Int64, value: Int64, ahead_us: int) -> list[tuple[int, int, int]]:
    """The instants as spans without a leap of the meter's clock inside, in which others might lie.

    Each is its first and its last instant, and the value of the last. An instant after `ahead_us` is
    of a clock that stands ahead, and vouches for nothing but itself.
    """
    at_us, row = np.unique(read_at_us, return_index=True)
    leaps = (np.diff(at_us) > _SPAN_GAP_US) | (at_us[1:] > ahead_us)
    first = np.concatenate([[0], np.flatnonzero(leaps) + 1])
    last = np.concatenate([first[1:], [at_us.size]]) - 1
    return list(
        zip(at_us[first].tolist(), at_us[last].tolist(), value[row[last]].tolist(), strict=True)
    )


def _sighting(frame: ReadingsFrame, device: Device) -> Sighting:
    clock_us = frame.meter_clock_us
    relay_us = None if frame.relay is None else relay_seen_us(frame)
    return Sighting(
        device=device,
        seen_at=utc_datetime(frame.received_at_us),
        relay=None if frame.relay is None or relay_us is None else relay_code(frame.relay),
        relay_at=None if relay_us is None else utc_datetime(relay_us),
        clock_drift_s=None if clock_us is None else drift_s(clock_us, frame.received_at_us),
    )


def _sample(frame: ReadingsFrame, reason: str) -> MalformedSample:
    return MalformedSample(
        topic=f"pw/{frame.serial}/up/readings",
        received_at_us=frame.received_at_us,
        reason=reason,
        explanation=reason,
        payload_head=f"{len(frame)} readings from {frame.read_at_us[0]}".encode(),
    )
