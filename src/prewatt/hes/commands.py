"""Supply orders to the meters, and their answers back into the orders.

An order leaves as a `relay` command. The meter's `ok` acknowledges it and no more: a `read` command follows at once,
and only the relay state that it brings back can verify the order (or, against the order long enough, fail
it). An answer counts only for the order that its command was for, from the meter that the command was sent to; one that is late changes
nothing, and one to a command that its meter was never sent is a reason to look. How an order moves, when it is tried again and when it grows old is `core.orders`' business behind the
`Orders` port; this module moves messages.

One thread owns everything. It sleeps until PostgreSQL rings (`supply_order`), a meter speaks, or a second has
passed, since retries are due by the clock. Each turn is: store what the meters said, commit, acknowledge to the
broker, mark what is due as sent, commit, send. A crash between the last two costs one retry, never an order. Orders are
looked at when something may have moved one, and else once a second.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol

import psycopg
from django.db import connection

from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.drivers import Driver
from prewatt.core.instructions import Result
from prewatt.core.orders import Fit, Refusal, fit_of
from prewatt.core.vocabulary import OrderKind, RelayState
from prewatt.hes.comebacks import Comebacks
from prewatt.hes.failures import AWAY
from prewatt.hes.frames import (
    EVENT_LOG,
    AckToken,
    AnswerFrame,
    Command,
    EventFrame,
    HelloFrame,
    MalformedSample,
    SealedFrame,
    Token,
    Watermark,
)
from prewatt.hes.instructions import (
    RING_EVERY,
    UNSIGNED_ANSWER,
    Counted,
    InstructionDesk,
    Sealed,
)
from prewatt.hes.links import (
    UNKNOWN_EVENT,
    Device,
    Directory,
    Sighting,
    drift_s,
    is_forgery,
    is_known_event,
    record_events,
    record_sightings,
    relay_code,
    relay_instant_us,
)
from prewatt.hes.rejected import RejectedBook, reject
from prewatt.runtime.bells import place_rung
from prewatt.supply.queries import DueOrder, KnownOrder
from prewatt.telemetry.pulse import PULSE

log = logging.getLogger(__name__)

CHANNEL: Final = "supply_order"
#: Rung when money moved, among much else; of interest where meters hold credit themselves.
MONEY_CHANNEL: Final = "changed"

_POLL_S: Final = 1.0
#: From the begin of one turn to the begin of the next, where they follow one another closely.
_GATHERING_S: Final = 0.015
_FRAMES_PER_TURN: Final = 1_000
_INBOX_MAX: Final = 20_000
_ORDERS_PER_TURN: Final = 500
#: A meter whose relay states cannot be dated is asked for its relay at most so often.
_ASK_AGAIN: Final = timedelta(minutes=1)
_ASKED_MAX: Final = 100_000
#: In place of an order in the id of a `read` that no order asks for; the attempt is then its instant.
_NO_ORDER: Final = 0
#: Answers remembered, so that one which the broker delivers again is known for that.
_ANSWERS_KEPT: Final = 10_000
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

SupplyFrame = HelloFrame | AnswerFrame | EventFrame | SealedFrame


LATE_ANSWER: Final = "late_answer"
"""`rejected_frame.reason` of an answer to an order that has ended or has gone on to another attempt."""
FOREIGN_ANSWER: Final = "foreign_answer"
"""`rejected_frame.reason` of an answer to a command that its meter was never sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A meter's answer to command number `attempt` of an order."""

    order_id: int
    attempt: int
    meter_id: int


@dataclass(frozen=True, slots=True)
class Refused(Answer):
    """The meter said no, and why."""

    why: Refusal


@dataclass(frozen=True, slots=True)
class ReadBack(Answer):
    """The relay state a meter gave in answer to a `read`, and when its relay was so."""

    relay: RelayState
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class _Taken:
    """An answer that counts: of which device, and when what it tells of the relay was so."""

    frame: AnswerFrame
    device: Device
    order_id: int
    attempt: int
    op: str
    seen_at: datetime
    is_latest: bool

    @property
    def sighting(self) -> Sighting:
        return Sighting(
            device=self.device,
            seen_at=utc_datetime(self.frame.received_at_us),
            relay=None if self.frame.relay is None else relay_code(self.frame.relay),
            relay_at=None if self.frame.relay is None else self.seen_at,
            clock_drift_s=drift_s(self.frame.at_us, self.frame.received_at_us),
        )


@dataclass(slots=True)
class _Answers:
    """The answers of a set, by what they are worth."""

    taken: list[_Taken]
    late: list[AnswerFrame]
    foreign: list[AnswerFrame]
    #: Of meters that sign: whoever says it has not their key.
    unsigned: list[AnswerFrame]


class Orders(Protocol):
    """What is needed of supply. Each call is one transaction; what does not apply any more is ignored."""

    def due(self, *, now: datetime, limit: int, drivers: Collection[Driver]) -> Sequence[DueOrder]:
        """Orders to be sent now, first or again, to meters that are reached by one of the drivers."""

    def mark_sent(self, *, order_ids: Sequence[int], now: datetime) -> frozenset[int]:
        """A command is about to go out."""

    def known(self, *, order_ids: Sequence[int]) -> Mapping[int, KnownOrder]:
        """What answers to these orders must fit."""

    def mark_acknowledged(self, *, answers: Sequence[Answer], now: datetime) -> None:
        """The meter said yes."""

    def mark_refused(self, *, refusals: Sequence[Refused], now: datetime) -> None:
        """The meter said no, and why."""

    def mark_read_back(self, *, read_backs: Sequence[ReadBack], now: datetime) -> None:
        """The meter said what its relay is."""

    def wake(self, *, meter_ids: Sequence[int], now: datetime) -> None:
        """These meters have come back: their unfinished orders are due."""

    def expire(self, *, now: datetime) -> None:
        """End what has grown old."""


class Transport(Protocol):
    """What is needed of the sessions."""

    def ack(self, tokens: Iterable[Token]) -> None:
        """Let go what is committed."""

    def send_command(self, serial: str, command: Command) -> bool:
        """Send by the session that reaches the meter; False when there is no way to it."""

    def publish_watermarks(self, marks: Sequence[Watermark]) -> None:
        """Tell meters what is committed."""

    @property
    def connected(self) -> Collection[Driver]:
        """The drivers by which sending makes sense."""


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

    `raise_alert(device, frame, now)` is called for an event that tells of forgery, and for an answer to a
    command that its meter was never sent, at most once a turn for each meter. Tampering opens a case
    (`tamper`), which raises its own.
    """

    def __init__(
        self,
        *,
        orders: Orders,
        transport: Transport,
        directory: Directory,
        raise_alert: Callable[[Device, EventFrame | AnswerFrame, datetime], None],
        instructions: InstructionDesk | None = None,
    ) -> None:
        self._orders = orders
        self._instructions = instructions
        self._transport = transport
        self._directory = directory
        self._raise_alert = raise_alert
        self._inbox: deque[SupplyFrame] = deque()
        self._rejected = RejectedBook()
        self._returned: set[str] = set()
        self._comebacks = Comebacks()
        # Serial to instant of the last unanswered relay command; read by the delivery thread.
        self._waiting: dict[str, datetime] = {}
        self._doubted: set[str] = set()
        # Serial to instant (µs) of the last `read` that no order asked for, the oldest first.
        self._asked: OrderedDict[str, int] = OrderedDict()
        self._answered: OrderedDict[AnswerFrame, None] = OrderedDict()
        # When orders were looked at last, and whether this desk has moved any since.
        self._looked_at: datetime | None = None
        self._has_moved = False

    # --- called from the delivery thread ---

    def submit(self, frame: SupplyFrame) -> bool:
        """Take a frame; False when the inbox is full and the caller must wait."""
        if len(self._inbox) >= _INBOX_MAX:
            return False
        self._inbox.append(frame)
        return True

    def submit_malformed(self, sample: MalformedSample) -> None:
        """Count a message for the table of rejected frames, and keep a sample of its kind."""
        self._rejected.add([sample])

    def saw(self, serial: str, received_at_us: int) -> bool:
        """A reading came: returns whether an order has been waiting for this meter to come back."""
        sent_at = self._waiting.get(serial)
        if sent_at is None or utc_datetime(received_at_us) - sent_at < _ANSWER_WAIT:
            return False
        self._returned.add(serial)
        return True

    def money_moved(self, bell: str) -> bool:
        """A bell rang that names a property; returns whether that is of interest. By the command thread."""
        place = place_rung(bell)
        return (
            self._instructions is not None
            and place is not None
            and self._instructions.money_moved(place)
        )

    def doubt(self, serial: str) -> None:
        """A meter told a relay state that cannot be dated: it is to be asked."""
        self._doubted.add(serial)

    # --- called from the command thread ---

    def turn(self, now: datetime, *, looks: bool = True) -> None:
        """Do all that is due. Raises what the database raises; nothing taken is lost by that.

        Without `looks` nothing has been heard of orders: they are looked at if something that came in may have moved one,
        or when a second has passed.
        """
        frames = [self._inbox[index] for index in range(min(len(self._inbox), _FRAMES_PER_TURN))]
        if frames:
            self._store_until_done(frames, now)
            for _ in frames:
                self._inbox.popleft()
        self._rejected.store()
        self._wake_returned(now)
        if self._instructions is not None:
            self._instructions.turn(now)
        if looks or self._has_moved or self._is_time_for_orders(now):
            self._looked_at, self._has_moved = now, False
            self._orders.expire(now=now)
            self._send_due(now)
        self._ask_doubted(now)

    @property
    def patience_s(self) -> float:
        """How long the next turn can wait if nothing happens."""
        is_rung = self._instructions is not None and self._instructions.has_bells
        return RING_EVERY.total_seconds() if is_rung else _POLL_S

    def _is_time_for_orders(self, now: datetime) -> bool:
        return self._looked_at is None or abs(now - self._looked_at).total_seconds() >= _POLL_S

    def _store_until_done(self, frames: Sequence[SupplyFrame], now: datetime) -> None:
        """Store frames; what cannot be stored is found by taking the set apart, and kept as a sample."""
        try:
            self._store(frames, now)
        except AWAY:
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
        self._directory.look(now)
        devices = self._directory.resolve({frame.serial for frame in frames})
        known = [frame for frame in frames if frame.serial in devices]
        answers = self._judged([each for each in known if isinstance(each, AnswerFrame)], devices)
        sealed = self._sealed(
            [each for each in known if isinstance(each, SealedFrame)], devices, now
        )
        hellos = [frame for frame in known if isinstance(frame, HelloFrame)]
        record_sightings(
            [
                *(_sighting(frame, devices[frame.serial]) for frame in hellos),
                *(each.sighting for each in answers.taken),
                *sealed.sightings,
            ]
        )
        events = [frame for frame in known if isinstance(frame, EventFrame)]
        record_events([(devices[event.serial], event) for event in events], now)
        for forged in {each.serial: each for each in events if is_forgery(each)}.values():
            self._raise_alert(devices[forged.serial], forged, now)
        reject(
            [
                *(
                    _refused(each, self._directory.why_unknown(each.serial))
                    for each in frames
                    if each.serial not in devices
                ),
                *(_refused(each, LATE_ANSWER) for each in answers.late),
                *(_refused(each, FOREIGN_ANSWER) for each in answers.foreign),
                *(_refused(each, UNSIGNED_ANSWER) for each in answers.unsigned),
                *sealed.samples,
                # Acknowledged, its meter forgets it: this sample and its count are all that stays.
                *(_refused(each, UNKNOWN_EVENT) for each in events if not is_known_event(each)),
            ]
        )
        for serial, frame in {
            each.serial: each for each in (*answers.foreign, *answers.unsigned)
        }.items():
            self._raise_alert(devices[serial], frame, now)
        self._comebacks.note(
            [devices[frame.serial].meter_id for frame in hellos if frame.is_back], now
        )
        self._wake_due(now)
        self._move_orders(answers.taken, now)
        self._move_signed(sealed.counted, now)
        if sealed.woken:
            self._wake(sorted(sealed.woken), now)
        # Committed: only now may broker and meters forget (invariant 9).
        self._transport.ack([frame.token for frame in frames])
        self._transport.publish_watermarks(_event_watermarks(events))
        self._remember(answers)
        self._doubted.update(
            each.serial
            for each in hellos
            if each.relay is not None and _hello_relay_us(each) is None
        )
        for serial, order_id, attempt in _to_read_back(answers.taken):
            self._send_read(serial, order_id, attempt, now)

    def _sealed(
        self, frames: Sequence[SealedFrame], devices: Mapping[str, Device], now: datetime
    ) -> Sealed:
        return (
            Sealed()
            if self._instructions is None
            else self._instructions.store(frames, devices, now)
        )

    def _signing(self, devices: Mapping[int, str]) -> frozenset[int]:
        """Those of the meters that sign."""
        if self._instructions is None or not devices:
            return frozenset()
        return self._instructions.signing(devices)

    def _judged(self, frames: Sequence[AnswerFrame], devices: Mapping[str, Device]) -> _Answers:
        """Say of each answer whether it counts, but for those that have come before."""
        fresh = [each for each in frames if _as_told(each) not in self._answered]
        named = [(each, parse_command_id(each.command_id)) for each in fresh]
        ids = sorted({ours[0] for _, ours in named if ours is not None and ours[0] != _NO_ORDER})
        known = self._orders.known(order_ids=ids) if ids else {}
        signing = self._signing({devices[each.serial].meter_id: each.serial for each in fresh})
        answers = _Answers([], [], [], [])
        for frame, ours in named:
            if ours is None:
                # Somebody else commands this meter.
                answers.foreign.append(frame)
                continue
            order_id, attempt, op = ours
            device = devices[frame.serial]
            if order_id != _NO_ORDER and device.meter_id in signing:
                answers.unsigned.append(frame)
                continue
            if order_id == _NO_ORDER:
                fit, sent_us = self._fit_of_asked(frame, attempt, op), attempt
            else:
                fit, sent_us = _fit(known.get(order_id), device.meter_id, attempt, op, frame.result)
            if fit is Fit.COUNTS:
                seen_at = utc_datetime(_seen_us(frame, sent_us))
                is_latest = order_id != _NO_ORDER and known[order_id].attempts == attempt
                answers.taken.append(
                    _Taken(frame, device, order_id, attempt, op, seen_at, is_latest)
                )
            else:
                (answers.late if fit is Fit.LATE else answers.foreign).append(frame)
        return answers

    def _fit_of_asked(self, frame: AnswerFrame, asked_us: int, op: str) -> Fit:
        """An answer to a `read` that no order asked for counts if it was the last of its meter."""
        is_last = self._asked.get(frame.serial) == asked_us
        # What was asked before a restart is not remembered: late, not foreign.
        return Fit.COUNTS if is_last and op == "read" and frame.result == "ok" else Fit.LATE

    def _move_orders(self, taken: Sequence[_Taken], now: datetime) -> None:
        accepted: list[Answer] = []
        refused: list[Refused] = []
        read_backs: list[ReadBack] = []
        for each in taken:
            self._waiting.pop(each.frame.serial, None)
            whose = (each.order_id, each.attempt, each.device.meter_id)
            if each.order_id == _NO_ORDER:
                continue
            if each.frame.result != "ok":
                refused.append(Refused(*whose, _refusal(each.frame)))
            elif each.op == "relay":
                accepted.append(Answer(*whose))
            else:
                assert each.frame.relay is not None, "what else was read?"
                read_backs.append(ReadBack(*whose, relay_code(each.frame.relay), each.seen_at))
        self._has_moved |= bool(taken)
        if accepted:
            self._orders.mark_acknowledged(answers=accepted, now=now)
        if refused:
            self._orders.mark_refused(refusals=refused, now=now)
        if read_backs:
            self._orders.mark_read_back(read_backs=read_backs, now=now)

    def _move_signed(self, counted: Sequence[Counted], now: datetime) -> None:
        """A signed answer says at once that it was done and what the relay is: it is its own read-back."""
        if not counted:
            return
        self._has_moved = True
        known = self._orders.known(order_ids=sorted({each.order_id for each in counted}))
        answers: list[Answer] = []
        refused: list[Refused] = []
        read_backs: list[ReadBack] = []
        for each in counted:
            order = known.get(each.order_id)
            if order is None:
                continue
            whose = (each.order_id, order.attempts, each.device.meter_id)
            if each.answer.result is Result.OK:
                answers.append(Answer(*whose))
                seen_at = max(each.seen_at, order.sent_at or each.seen_at)
                read_backs.append(ReadBack(*whose, each.answer.relay, seen_at))
            else:
                refused.append(Refused(*whose, _signed_refusal(each)))
        if answers:
            self._orders.mark_acknowledged(answers=answers, now=now)
        if refused:
            self._orders.mark_refused(refusals=refused, now=now)
        if read_backs:
            self._orders.mark_read_back(read_backs=read_backs, now=now)

    def _remember(self, answers: _Answers) -> None:
        """What comes once more, as after a lost PUBACK, is then neither late nor foreign."""
        for each in (*(taken.frame for taken in answers.taken), *answers.late):
            self._answered[_as_told(each)] = None
        while len(self._answered) > _ANSWERS_KEPT:
            self._answered.popitem(last=False)

    def _wake_returned(self, now: datetime) -> None:
        returned: set[str] = set()
        while self._returned:
            returned.add(self._returned.pop())
        for serial in returned:
            self._waiting.pop(serial, None)
        devices = self._directory.resolve(returned)
        self._comebacks.note([device.meter_id for device in devices.values()], now)
        self._wake_due(now)

    def _wake_due(self, now: datetime) -> None:
        meter_ids = self._comebacks.due(now)
        if meter_ids:
            self._wake(meter_ids, now)
            self._comebacks.woken(meter_ids, now)

    def _wake(self, meter_ids: Sequence[int], now: datetime) -> None:
        self._orders.wake(meter_ids=meter_ids, now=now)
        self._has_moved = True

    def _send_due(self, now: datetime) -> None:
        # Without a way to their meters orders stay due; marking them sent would only put them off.
        drivers = self._transport.connected
        if not drivers:
            return
        due = self._orders.due(now=now, limit=_ORDERS_PER_TURN, drivers=drivers)
        if not due:
            return
        live = self._orders.mark_sent(order_ids=[order.order_id for order in due], now=now)
        # A cut that a recharge has taken the place of since must not open a relay any more.
        due = [order for order in due if order.order_id in live]
        signed = frozenset() if self._instructions is None else self._instructions.send(due, now)
        for order in due:
            self._waiting[order.serial] = now
            if order.order_id in signed:
                continue
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

    def _ask_doubted(self, now: datetime) -> None:
        """Ask meters for their relay whose word on it cannot be dated: an answer to this is of now."""
        if not self._transport.connected:
            return
        now_us = instant_us(now)
        again_us = now_us - _ASK_AGAIN // timedelta(microseconds=1)
        for _ in range(min(len(self._doubted), _ORDERS_PER_TURN)):
            serial = self._doubted.pop()
            if self._asked.get(serial, 0) > again_us:
                continue
            self._asked[serial] = now_us
            self._asked.move_to_end(serial)
            self._send_read(serial, _NO_ORDER, now_us, now)
        while len(self._asked) > _ASKED_MAX:
            self._asked.popitem(last=False)

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
        self._began = 0.0
        self._is_called_for_orders = True
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

    def doubt(self, serial: str) -> None:
        """A relay state of this meter cannot be dated."""
        self._desk.doubt(serial)

    def _run(self) -> None:
        listener: psycopg.Connection | None = None
        try:
            while True:
                PULSE.beat("commands")
                is_last = self._stopping.is_set()
                try:
                    listener = listener or self._listen()
                    self._began = time.monotonic()
                    self._desk.turn(self._clock(), looks=self._is_called_for_orders or is_last)
                    if is_last:
                        return
                    self._is_called_for_orders = False
                    self._wait(listener)
                except AWAY as error:
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

    @staticmethod
    def _own_pid() -> int:
        """The backend of this thread's transactions; 0 while there is none."""
        own = connection.connection
        return 0 if own is None else int(own.info.backend_pid)

    def _listen(self) -> psycopg.Connection:
        listener = psycopg.connect(self._dsn, autocommit=True, application_name="prewatt listen")
        listener.execute(f"LISTEN {CHANNEL}")
        listener.execute(f"LISTEN {MONEY_CHANNEL}")
        return listener

    def _wait(self, listener: psycopg.Connection) -> None:
        """Sleep until something happens that is of interest; bells that ring meanwhile are one bell.

        What follows closely on the last turn is gathered for a moment: a turn costs much the same whatever it carries.
        """
        until = time.monotonic() + self._desk.patience_s
        is_called = False
        while not is_called and (left := until - time.monotonic()) > 0:
            is_called = self._hear(listener, left)
        if is_called:
            gathering_s = self._began + _GATHERING_S - time.monotonic()
            if gathering_s > 0 and not self._stopping.wait(gathering_s):
                self._hear(listener, 0.0)

    def _hear(self, listener: psycopg.Connection, wait_s: float) -> bool:
        """Wait for so long at most; returns whether there was anything of interest."""
        ready, _, _ = select.select([listener.fileno(), self._wake_reader], [], [], wait_s)
        is_called = self._wake_reader in ready
        if is_called:
            os.read(self._wake_reader, 4096)
        if ready:
            for bell in listener.notifies(timeout=0):
                if bell.channel == CHANNEL:
                    is_called = self._is_called_for_orders = True
                # Bells of this thread's own work tell it nothing.
                elif bell.pid != self._own_pid() and self._desk.money_moved(bell.payload):
                    is_called = True
        return is_called


def _sighting(frame: HelloFrame, device: Device) -> Sighting:
    relay_us = _hello_relay_us(frame)
    is_dated = frame.relay is not None and relay_us is not None
    return Sighting(
        device=device,
        seen_at=utc_datetime(frame.received_at_us),
        relay=relay_code(frame.relay) if frame.relay is not None and is_dated else None,
        relay_at=utc_datetime(relay_us) if relay_us is not None and is_dated else None,
        clock_drift_s=drift_s(frame.meter_clock_us, frame.received_at_us),
        firmware=frame.firmware[:_FIRMWARE_CHARS_MAX],
        configuration=frame.configuration[:_FIRMWARE_CHARS_MAX] or None,
    )


def _hello_relay_us(frame: HelloFrame) -> int | None:
    return relay_instant_us(frame.meter_clock_us, frame.received_at_us)


def _as_told(frame: AnswerFrame) -> AnswerFrame:
    """The answer without how it came, which differs from one delivery to the next."""
    return replace(frame, received_at_us=0, token=AckToken(0, 0))


def _fit(
    order: KnownOrder | None, meter_id: int, attempt: int, op: str, result: str
) -> tuple[Fit, int]:
    """What an answer is worth to its order, and when (µs) the order's last command was sent."""
    if order is None:
        return Fit.FOREIGN, 0
    fit = fit_of(
        is_own=order.meter_id == meter_id,
        is_live=order.is_live,
        attempts=order.attempts,
        attempt=attempt,
        is_accepted=op == "relay" and result == "ok",
    )
    return fit, 0 if order.sent_at is None else instant_us(order.sent_at)


def _seen_us(frame: AnswerFrame, sent_us: int) -> int:
    """When a relay that was asked for was so: by the meter's clock, where that can be believed.

    Whatever the clock says, an answer is not older than its command and not newer than its receipt.
    """
    told_us = relay_instant_us(frame.at_us, frame.received_at_us)
    if told_us is None:
        return frame.received_at_us
    return min(max(told_us, sent_us), frame.received_at_us)


def _to_read_back(taken: Sequence[_Taken]) -> list[tuple[str, int, int]]:
    """Whose relay is to be read, once: who said yes to an earlier command has another under way."""
    accepted = {
        (each.frame.serial, each.order_id, each.attempt): None
        for each in taken
        if each.is_latest and each.op == "relay" and each.frame.result == "ok"
    }
    return list(accepted)


def _refusal(frame: AnswerFrame) -> Refusal:
    """Why the meter did not do it; only its own clock can make a fresh command look expired."""
    if frame.result == "unsupported":
        return Refusal.UNSUPPORTED
    if frame.result != "expired":
        return Refusal.FAILED
    ahead = timedelta(seconds=drift_s(frame.at_us, frame.received_at_us))
    return Refusal.CLOCK_AHEAD if ahead >= _COMMAND_LIFE - _ON_THE_WAY else Refusal.LATE


def _signed_refusal(counted: Counted) -> Refusal:
    match counted.answer.result:
        case Result.UNSUPPORTED:
            return Refusal.UNSUPPORTED
        case Result.EXPIRED:
            is_ahead = timedelta(seconds=counted.drift_s) >= _COMMAND_LIFE - _ON_THE_WAY
            return Refusal.CLOCK_AHEAD if is_ahead else Refusal.LATE
        case _:
            return Refusal.FAILED


def _refused(frame: SupplyFrame, reason: str) -> MalformedSample:
    return MalformedSample(
        f"pw/{frame.serial}/up", frame.received_at_us, reason, reason, repr(frame).encode()[:512]
    )


def _event_watermarks(events: Sequence[EventFrame]) -> list[Watermark]:
    """Each event for itself: an earlier one may have been lost on the way, and its meter keeps it."""
    return [Watermark(each.serial, EVENT_LOG, each.at_us, each.at_us, None) for each in events]
