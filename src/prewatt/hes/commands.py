"""Supply orders to the meters, and their answers back into the orders.

An order leaves as a `relay` command. The meter's `ok` acknowledges it and no more: a `read` command follows at once,
and only the relay state that it brings back can verify the order (or, against the order long enough, fail
it). How an order moves, when it is tried again and when it grows old is `core.orders`' business behind the
`Orders` port; this module moves messages.

One thread owns everything. It sleeps until PostgreSQL rings (`supply_order`), a meter speaks, or a second has
passed, since retries are due by the clock. Each turn is: store what the meters said, commit, acknowledge to the
broker, mark what is due as sent, commit, send. A crash between the last two costs one retry, never an order.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol

import psycopg
from django.db import InterfaceError, OperationalError, connection

from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.orders import Refusal
from prewatt.core.vocabulary import OrderKind, RelayState
from prewatt.hes.drivers.mqtt_senml.codec import Command
from prewatt.hes.frames import (
    EVENT_LOG,
    AckToken,
    AnswerFrame,
    EventFrame,
    HelloFrame,
    MalformedSample,
    Watermark,
)
from prewatt.hes.links import (
    UNKNOWN_METER,
    Device,
    Directory,
    Sighting,
    record_event,
    record_sightings,
    reject,
    relay_code,
)
from prewatt.supply.queries import DueOrder

log = logging.getLogger(__name__)

CHANNEL: Final = "supply_order"

_POLL_S: Final = 1.0
_FRAMES_PER_TURN: Final = 1_000
_INBOX_MAX: Final = 20_000
_ORDERS_PER_TURN: Final = 500
_FIRMWARE_CHARS_MAX: Final = 60
#: By the meter's own clock, which may be some minutes off; a later attempt is a new command.
_COMMAND_LIFE: Final = timedelta(minutes=15)
#: What a command asks of the relay. A kind that is not named here must never be sent as another.
_WANTED: Final[dict[OrderKind, Literal["closed", "open"]]] = {
    OrderKind.CONNECT: "closed",
    OrderKind.DISCONNECT: "open",
}
#: What a fresh command takes to its meter and the answer back, at most.
_ON_THE_WAY: Final = timedelta(minutes=1)
#: A reading wakes an order that was sent and not answered for so long: the meter has been away.
_ANSWER_WAIT: Final = timedelta(seconds=2)

#: Nothing is wrong with what was to be stored: it is tried again.
DATABASE_AWAY: Final = (OperationalError, InterfaceError, psycopg.OperationalError)

SupplyFrame = HelloFrame | AnswerFrame | EventFrame


@dataclass(frozen=True, slots=True)
class ReadBack:
    """The relay state a meter gave in answer to a `read`; order and instant of receipt."""

    order_id: int
    meter_id: int
    relay: RelayState
    seen_at: datetime


class Orders(Protocol):
    """What is needed of supply. Each call is one transaction; what does not apply any more is ignored."""

    def due(self, *, now: datetime, limit: int) -> Sequence[DueOrder]:
        """Orders to be sent now, first or again."""

    def mark_sent(self, *, order_ids: Sequence[int], now: datetime) -> None:
        """A command is about to go out."""

    def mark_acknowledged(self, *, order_ids: Sequence[int], now: datetime) -> None:
        """The meter said yes."""

    def mark_refused(self, *, refusals: Mapping[int, Refusal], now: datetime) -> None:
        """The meter said no, by order, and why."""

    def mark_read_back(self, *, read_backs: Sequence[ReadBack], now: datetime) -> None:
        """The meter said what its relay is."""

    def wake(self, *, meter_ids: Sequence[int], now: datetime) -> None:
        """These meters have come back: their unfinished orders are due."""

    def expire(self, *, now: datetime) -> None:
        """End what has grown old."""


class Transport(Protocol):
    """What is needed of the session."""

    def ack(self, tokens: Iterable[AckToken]) -> None:
        """Acknowledge to the broker."""

    def send_command(self, serial: str, command: Command) -> bool:
        """Send; False when there is no connection."""

    def publish_watermarks(self, marks: Sequence[Watermark]) -> None:
        """Tell meters what is committed."""

    @property
    def is_connected(self) -> bool:
        """Whether sending makes sense."""


def command_id(order_id: int, attempt: int, op: str) -> str:
    """The id of one attempt's command; a redelivered one is answered from the meter's store."""
    return f"{order_id}.{attempt}.{op}"


def parse_command_id(text: str) -> tuple[int, int, str] | None:
    """Order, attempt and operation of an id of ours; None for anybody else's."""
    parts = text.split(".")
    if len(parts) != 3 or parts[2] not in ("relay", "read"):
        return None
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts[:2]):
        return None
    return int(parts[0]), int(parts[1]), parts[2]


class CommandDesk:
    """The work of one turn, without thread or socket of its own. Not thread-safe but for `submit`, `saw`.

    `raise_alert(device, event, now)` is called for an event that is tampering.
    """

    def __init__(
        self,
        *,
        orders: Orders,
        transport: Transport,
        directory: Directory,
        raise_alert: Callable[[Device, EventFrame, datetime], None],
    ) -> None:
        self._orders = orders
        self._transport = transport
        self._directory = directory
        self._raise_alert = raise_alert
        self._inbox: deque[SupplyFrame] = deque()
        self._rejected: deque[MalformedSample] = deque(maxlen=_FRAMES_PER_TURN)
        self._returned: set[str] = set()
        # Serial to instant of the last unanswered relay command; read by the delivery thread.
        self._waiting: dict[str, datetime] = {}

    # --- called from the delivery thread ---

    def submit(self, frame: SupplyFrame) -> bool:
        """Take a frame; False when the inbox is full and the caller must wait."""
        if len(self._inbox) >= _INBOX_MAX:
            return False
        self._inbox.append(frame)
        return True

    def submit_malformed(self, sample: MalformedSample) -> None:
        """Take a sample for the table of rejected frames; under a flood the oldest are dropped."""
        self._rejected.append(sample)

    def saw(self, serial: str, received_at_us: int) -> bool:
        """A reading came: returns whether an order has been waiting for this meter to come back."""
        sent_at = self._waiting.get(serial)
        if sent_at is None or utc_datetime(received_at_us) - sent_at < _ANSWER_WAIT:
            return False
        self._returned.add(serial)
        return True

    # --- called from the command thread ---

    def turn(self, now: datetime) -> None:
        """Do all that is due. Raises what the database raises; nothing taken is lost by that."""
        frames = [self._inbox[index] for index in range(min(len(self._inbox), _FRAMES_PER_TURN))]
        if frames:
            self._store_until_done(frames, now)
            for _ in frames:
                self._inbox.popleft()
        self._store_rejected()
        self._wake_returned(now)
        self._orders.expire(now=now)
        self._send_due(now)

    def _store_until_done(self, frames: Sequence[SupplyFrame], now: datetime) -> None:
        """Store frames; what cannot be stored is found by taking the set apart, and kept as a sample."""
        try:
            self._store(frames, now)
        except DATABASE_AWAY:
            raise
        except Exception as error:
            if len(frames) > 1:
                log.warning("a set of %d frames was refused: %s", len(frames), error)
                for frame in frames:
                    self._store_until_done([frame], now)
                return
            log.exception("a frame of meter %s cannot be stored", frames[0].serial)
            reject([_refused(frames[0], f"{type(error).__name__}: {error}")])
            self._transport.ack([frames[0].token])

    def _store(self, frames: Sequence[SupplyFrame], now: datetime) -> None:
        devices = self._directory.resolve({frame.serial for frame in frames})
        known = [frame for frame in frames if frame.serial in devices]
        record_sightings(
            [
                _sighting(frame, devices[frame.serial])
                for frame in known
                if not isinstance(frame, EventFrame)
            ]
        )
        events = [frame for frame in known if isinstance(frame, EventFrame)]
        for event in events:
            if record_event(devices[event.serial], event):
                self._raise_alert(devices[event.serial], event, now)
        reject([_refused(frame, UNKNOWN_METER) for frame in frames if frame.serial not in devices])
        hellos = [frame for frame in known if isinstance(frame, HelloFrame)]
        if hellos:
            meter_ids = sorted({devices[frame.serial].meter_id for frame in hellos})
            self._orders.wake(meter_ids=meter_ids, now=now)
        answers = [frame for frame in known if isinstance(frame, AnswerFrame)]
        accepted = self._store_answers(answers, devices, now)
        # Committed: only now may broker and meters forget (invariant 9).
        self._transport.ack([frame.token for frame in frames])
        self._transport.publish_watermarks(_event_watermarks(events))
        for frame, order_id, attempt in accepted:
            self._send_read(frame.serial, order_id, attempt, now)

    def _store_answers(
        self, answers: Sequence[AnswerFrame], devices: dict[str, Device], now: datetime
    ) -> list[tuple[AnswerFrame, int, int]]:
        """Move the orders; returns the accepted relay commands, whose relay is to be read back."""
        accepted: list[tuple[AnswerFrame, int, int]] = []
        refused: dict[int, Refusal] = {}
        read_backs: list[ReadBack] = []
        for frame in answers:
            ours = parse_command_id(frame.command_id)
            if ours is None:
                continue
            order_id, attempt, op = ours
            self._waiting.pop(frame.serial, None)
            if frame.result != "ok":
                refused[order_id] = _refusal(frame)
            elif op == "relay":
                accepted.append((frame, order_id, attempt))
            else:
                read_backs.append(
                    ReadBack(
                        order_id,
                        devices[frame.serial].meter_id,
                        relay_code(frame.relay),
                        utc_datetime(frame.received_at_us),
                    )
                )
        if accepted:
            order_ids = sorted({order_id for _, order_id, _ in accepted})
            self._orders.mark_acknowledged(order_ids=order_ids, now=now)
        if refused:
            self._orders.mark_refused(refusals=refused, now=now)
        if read_backs:
            self._orders.mark_read_back(read_backs=read_backs, now=now)
        return accepted

    def _store_rejected(self) -> None:
        samples = []
        while self._rejected:
            samples.append(self._rejected.popleft())
        if samples:
            reject(samples)

    def _wake_returned(self, now: datetime) -> None:
        returned: set[str] = set()
        while self._returned:
            returned.add(self._returned.pop())
        for serial in returned:
            self._waiting.pop(serial, None)
        devices = self._directory.resolve(returned)
        if devices:
            meter_ids = sorted(device.meter_id for device in devices.values())
            self._orders.wake(meter_ids=meter_ids, now=now)

    def _send_due(self, now: datetime) -> None:
        # Without a broker the orders stay due; marking them sent would only put them off.
        if not self._transport.is_connected:
            return
        due = self._orders.due(now=now, limit=_ORDERS_PER_TURN)
        if not due:
            return
        self._orders.mark_sent(order_ids=[order.order_id for order in due], now=now)
        for order in due:
            self._waiting[order.serial] = now
            expires_at = min(now + _COMMAND_LIFE, order.expires_at or now + _COMMAND_LIFE)
            self._transport.send_command(
                order.serial,
                Command(
                    command_id=command_id(order.order_id, order.attempts + 1, "relay"),
                    op="relay",
                    state=_WANTED[order.kind],
                    issued_at_us=instant_us(now),
                    expires_at_us=instant_us(expires_at),
                ),
            )

    def _send_read(self, serial: str, order_id: int, attempt: int, now: datetime) -> None:
        self._transport.send_command(
            serial,
            Command(
                command_id=command_id(order_id, attempt, "read"),
                op="read",
                state=None,
                issued_at_us=instant_us(now),
                expires_at_us=instant_us(now + _COMMAND_LIFE),
            ),
        )


class CommandLoop:
    """The thread around a `CommandDesk`: LISTEN, inbox, clock. `dsn` is for the listening connection."""

    def __init__(self, desk: CommandDesk, *, dsn: str, clock: Callable[[], datetime]) -> None:
        self._desk = desk
        self._dsn = dsn
        self._clock = clock
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        self._thread = threading.Thread(target=self._run, name="hes-commands", daemon=True)
        self.failure: Exception | None = None
        """Why the thread ended, if it did so by itself: the process should end too."""

    def start(self) -> None:
        """Begin to listen and work."""
        self._thread.start()

    def stop(self) -> None:
        """Take a last turn over what has come in, and end."""
        self._stopping.set()
        self.ring()
        self._thread.join()

    def ring(self) -> None:
        """Let the next turn begin at once."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_writer, b"!")

    def submit(self, frame: SupplyFrame) -> None:
        """Take a frame, waiting while the inbox is full (back-pressure to the session)."""
        while not self._desk.submit(frame):
            if self._stopping.wait(0.05):
                return
        self.ring()

    def saw(self, serial: str, received_at_us: int) -> None:
        """A reading came from this meter."""
        if self._desk.saw(serial, received_at_us):
            self.ring()

    def _run(self) -> None:
        listener: psycopg.Connection | None = None
        try:
            while True:
                is_last = self._stopping.is_set()
                try:
                    listener = listener or self._listen()
                    self._desk.turn(self._clock())
                    if is_last:
                        return
                    self._wait(listener)
                except DATABASE_AWAY as error:
                    log.warning("the database is away: %s", error)
                    connection.close()
                    if listener is not None:
                        listener.close()
                        listener = None
                    if self._stopping.wait(_POLL_S):
                        return
        except Exception as error:
            # Whatever it is, the thread must not end unseen.
            log.exception("the command loop failed")
            self.failure = error
        finally:
            connection.close()
            if listener is not None:
                listener.close()

    def _listen(self) -> psycopg.Connection:
        listener = psycopg.connect(self._dsn, autocommit=True, application_name="prewatt listen")
        listener.execute(f"LISTEN {CHANNEL}")
        return listener

    def _wait(self, listener: psycopg.Connection) -> None:
        """Sleep until something happens; bells that ring meanwhile are one bell."""
        ready, _, _ = select.select([listener.fileno(), self._wake_reader], [], [], _POLL_S)
        if self._wake_reader in ready:
            os.read(self._wake_reader, 4096)
        if ready:
            for _ in listener.notifies(timeout=0):
                pass


def _sighting(frame: HelloFrame | AnswerFrame, device: Device) -> Sighting:
    if isinstance(frame, HelloFrame):
        clock_us, firmware = frame.meter_clock_us, frame.firmware[:_FIRMWARE_CHARS_MAX]
    else:
        clock_us, firmware = frame.at_us, None
    return Sighting(
        device=device,
        seen_at=utc_datetime(frame.received_at_us),
        relay=relay_code(frame.relay),
        clock_drift_s=_drift_s(clock_us, frame.received_at_us),
        firmware=firmware,
    )


def _refusal(frame: AnswerFrame) -> Refusal:
    """Why the meter did not do it; only its own clock can make a fresh command look expired."""
    if frame.result == "unsupported":
        return Refusal.UNSUPPORTED
    if frame.result != "expired":
        return Refusal.FAILED
    ahead = timedelta(seconds=_drift_s(frame.at_us, frame.received_at_us))
    return Refusal.CLOCK_AHEAD if ahead >= _COMMAND_LIFE - _ON_THE_WAY else Refusal.LATE


def _drift_s(clock_us: int, received_at_us: int) -> int:
    drift_s = round((clock_us - received_at_us) / 1_000_000)
    # A clock that stands in another century is as wrong as the column can say.
    return max(-(2**31), min(2**31 - 1, drift_s))


def _refused(frame: SupplyFrame, reason: str) -> MalformedSample:
    return MalformedSample(
        f"pw/{frame.serial}/up", frame.received_at_us, reason, reason, repr(frame).encode()[:512]
    )


def _event_watermarks(events: Sequence[EventFrame]) -> list[Watermark]:
    """Each event for itself: an earlier one may have been lost on the way, and its meter keeps it."""
    return [Watermark(each.serial, EVENT_LOG, each.at_us, each.at_us) for each in events]
