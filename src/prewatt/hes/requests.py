"""Requests to meters, and their answers: reads, histories, clocks, versions; singly, for gaps and in bulks.

Beside the command loop, on a thread of its own: whatever is asked here in bulk, an order that connects somebody waits
for none of it. What is asked, how fast and when again is `fleet`'s business behind the `Requests` port; this module
moves messages. Each turn is: store what meters answered, commit, acknowledge to the broker, mark what is due as sent,
commit, send. A request keeps its number each time it is sent, so that its meter does nothing twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from django.db import connection

from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.drivers import Driver
from prewatt.core.vocabulary import RequestKind
from prewatt.hes.commands import FOREIGN_ANSWER
from prewatt.hes.failures import AWAY
from prewatt.hes.frames import AnswerFrame, Command, MalformedSample, Operation, Token
from prewatt.hes.links import (
    Device,
    Directory,
    Sighting,
    record_sightings,
    relay_code,
    relay_instant_us,
)
from prewatt.hes.rejected import reject
from prewatt.instructions.operations import Outgoing
from prewatt.signing.keyring import NoSigningKey
from prewatt.telemetry.pulse import PULSE

log = logging.getLogger(__name__)

_BUSY_S: Final = 0.2
_IDLE_S: Final = 1.0
_SETTLE_EVERY_S: Final = 1.0
_INBOX_MAX: Final = 20_000
_FRAMES_PER_TURN: Final = 1_000
_PREFIX: Final = "f"
_OPS: Final[dict[RequestKind, Operation]] = {
    RequestKind.READ: "read",
    RequestKind.HISTORY: "history",
    RequestKind.CLOCK: "clock",
    RequestKind.VERSION: "hello",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a meter answered to a request, by its number; ``result`` is the wire's word."""

    request_id: int
    meter_id: int
    result: str
    register_wh: int


class Due(Protocol):
    """What is to leave now; ``move_s`` is of clocks, the span of histories."""

    @property
    def request_id(self) -> int:
        """Its number."""

    @property
    def meter_id(self) -> int:
        """Whom it is for."""

    @property
    def serial(self) -> str:
        """The same by its serial."""

    @property
    def kind(self) -> RequestKind:
        """What is asked."""

    @property
    def made_at(self) -> datetime:
        """Since when."""

    @property
    def expires_at(self) -> datetime:
        """Until when it means anything."""

    @property
    def from_at(self) -> datetime | None:
        """The begin of the span, included."""

    @property
    def to_at(self) -> datetime | None:
        """Its end, included."""

    @property
    def move_s(self) -> int | None:
        """By how much its clock is to be moved."""

    @property
    def by_instruction(self) -> bool:
        """Whether the meter takes it by signature alone."""


class Requests(Protocol):
    """What is needed of the fleet. Each call is one transaction."""

    def claim(self, *, now: datetime, drivers: Collection[Driver]) -> Sequence[Due]:
        """What is to leave now by one of the drivers, marked as sent."""

    def answered(self, *, answers: Sequence[Reply], now: datetime) -> frozenset[int]:
        """Take answers; returns the requests that their meter was never sent."""

    def settle(self, *, now: datetime) -> int:
        """End what nobody answered, and brake what fails too often."""


class Clocks(Protocol):
    """What is needed for the clocks of meters that take no unsigned word about them."""

    def tell(self, due: Sequence[Due], *, now: datetime) -> list[Outgoing]:
        """Sign and write down; returns what may leave. Raises NoSigningKey."""

    def not_taken(self, outgoing: Sequence[Outgoing]) -> None:
        """No broker took these."""


class Transport(Protocol):
    """What is needed of the sessions."""

    def ack(self, tokens: Iterable[Token]) -> None:
        """Let go what is committed."""

    def send_command(self, serial: str, command: Command) -> bool:
        """Send by the session that reaches the meter; False when there is no way to it."""

    def send_instruction(self, serial: str, payload: bytes) -> bool:
        """Send a signed instruction; False when it was not taken."""

    @property
    def connected(self) -> Collection[Driver]:
        """The drivers by which sending makes sense."""


def request_name(request_id: int) -> str:
    """The id of a request's command, each time it is sent."""
    return f"{_PREFIX}{request_id}"


def parse_request_name(text: str) -> int | None:
    """The request of a command's id; None for whatever is none of ours."""
    digits = text.removeprefix(_PREFIX)
    if digits == text or not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        return None
    return int(digits)


class RequestDesk:
    """The work of one turn, without thread of its own. Not thread-safe but for `submit`."""

    def __init__(
        self,
        *,
        requests: Requests,
        transport: Transport,
        directory: Directory,
        raise_alert: Callable[[Device, AnswerFrame, datetime], None],
        clocks: Clocks | None = None,
    ) -> None:
        self._clocks = clocks
        self._requests = requests
        self._transport = transport
        self._directory = directory
        self._raise_alert = raise_alert
        self._inbox: deque[AnswerFrame] = deque()
        self._settled_at = 0.0

    def submit(self, frame: AnswerFrame) -> bool:
        """Take an answer; False when the inbox is full and the caller must wait."""
        if len(self._inbox) >= _INBOX_MAX:
            return False
        self._inbox.append(frame)
        return True

    def turn(self, now: datetime) -> bool:
        """Do all that is due; returns whether there was anything. Raises what the database raises."""
        frames = [self._inbox[index] for index in range(min(len(self._inbox), _FRAMES_PER_TURN))]
        if frames:
            self._store(frames, now)
            for _ in frames:
                self._inbox.popleft()
        if time.monotonic() - self._settled_at >= _SETTLE_EVERY_S:
            self._requests.settle(now=now)
            self._settled_at = time.monotonic()
        return bool(self._send(now) or frames)

    def _store(self, frames: Sequence[AnswerFrame], now: datetime) -> None:
        self._directory.look(now)
        devices = self._directory.resolve({frame.serial for frame in frames})
        known = [frame for frame in frames if frame.serial in devices]
        replies = {
            _request_of(frame): Reply(
                _request_of(frame), devices[frame.serial].meter_id, frame.result,
                frame.register_wh,
            )
            for frame in known
        }  # fmt: skip
        foreign = (
            self._requests.answered(answers=list(replies.values()), now=now)
            if replies
            else frozenset()
        )
        own = [frame for frame in known if _request_of(frame) not in foreign]
        record_sightings([_sighting(frame, devices[frame.serial]) for frame in own])
        strange = [frame for frame in known if _request_of(frame) in foreign]
        reject(
            [
                *(_sample(frame, FOREIGN_ANSWER) for frame in strange),
                *(
                    _sample(frame, self._directory.why_unknown(frame.serial))
                    for frame in frames
                    if frame.serial not in devices
                ),
            ]
        )
        for serial, frame in {each.serial: each for each in strange}.items():
            self._raise_alert(devices[serial], frame, now)
        # Committed: only now may the broker forget (invariant 9).
        self._transport.ack([frame.token for frame in frames])

    def _send(self, now: datetime) -> int:
        drivers = self._transport.connected
        if not drivers:
            return 0
        due = self._requests.claim(now=now, drivers=drivers)
        signed = [each for each in due if each.by_instruction]
        for each in due:
            if not each.by_instruction:
                self._transport.send_command(each.serial, _command(each))
        if signed and self._clocks is not None:
            self._instruct(self._clocks, signed, now)
        return len(due)

    def _instruct(self, clocks: Clocks, due: Sequence[Due], now: datetime) -> None:
        """By signature: answers come to the command loop, as all that is signed."""
        try:
            outgoing = clocks.tell(due, now=now)
        except NoSigningKey as error:
            log.error("clocks of %d meters that verify are not moved: %s", len(due), error)
            return
        refused = [
            each
            for each in outgoing
            if not self._transport.send_instruction(each.serial, each.payload)
        ]
        clocks.not_taken(refused)


def _command(due: Due) -> Command:
    is_history = due.kind is RequestKind.HISTORY
    return Command(
        command_id=request_name(due.request_id),
        op=_OPS[due.kind],
        state=None,
        issued_at_us=instant_us(due.made_at),
        expires_at_us=instant_us(due.expires_at),
        from_us=instant_us(due.from_at) if is_history and due.from_at is not None else None,
        until_us=instant_us(due.to_at) if is_history and due.to_at is not None else None,
        move_us=(due.move_s or 0) * 1_000_000 if due.kind is RequestKind.CLOCK else None,
    )


def _request_of(frame: AnswerFrame) -> int:
    request_id = parse_request_name(frame.command_id)
    assert request_id is not None, "who hands in what is no answer to a request?"
    return request_id


def _sighting(frame: AnswerFrame, device: Device) -> Sighting:
    """The meter is there. Its clock says nothing of now: a meter that was asked twice gives the answer it stored."""
    relay_us = relay_instant_us(frame.at_us, frame.received_at_us)
    is_dated = frame.relay is not None and relay_us is not None
    return Sighting(
        device=device,
        seen_at=utc_datetime(frame.received_at_us),
        relay=relay_code(frame.relay) if frame.relay is not None and is_dated else None,
        relay_at=utc_datetime(relay_us) if relay_us is not None and is_dated else None,
    )


def _sample(frame: AnswerFrame, reason: str) -> MalformedSample:
    return MalformedSample(
        f"pw/{frame.serial}/up", frame.received_at_us, reason, reason, repr(frame).encode()[:512]
    )


class RequestLoop:
    """The thread around a `RequestDesk`."""

    def __init__(self, desk: RequestDesk, *, clock: Callable[[], datetime]) -> None:
        self._desk = desk
        self._clock = clock
        self._stopping = threading.Event()
        self._called = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hes-requests", daemon=True)
        self.failure: Exception | None = None
        """Why the thread ended, if it did so by itself: the process should end too."""

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Store what has come in, and end."""
        self._stopping.set()
        self._called.set()
        self._thread.join()

    def submit(self, frame: AnswerFrame) -> None:
        """Take an answer, waiting while the inbox is full (back-pressure to the session)."""
        while not self._desk.submit(frame):
            if self._stopping.wait(0.05):
                return

    def _run(self) -> None:
        try:
            while True:
                PULSE.beat("requests")
                is_last = self._stopping.is_set()
                was_busy = False
                try:
                    was_busy = self._desk.turn(self._clock())
                    if is_last:
                        return
                except AWAY as error:
                    log.warning("the database is away: %s", error)
                    connection.close()
                    if is_last:
                        return
                self._called.wait(_BUSY_S if was_busy else _IDLE_S)
        except Exception as error:
            log.exception("the request loop failed")
            self.failure = error
        finally:
            connection.close()
