"""Several sessions as one: what a driver's connection is to the head-end, and who of them carries what.

A `Session` hands frames in, takes their tokens back after the commit, and sends commands. The head-end has one
for each driver that it speaks. `Sessions` stands in front of them all: a token goes back to the session that
made it; a command or a watermark goes to the one that reaches its meter. With MQTT alone each call costs one
comparison more than without.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from prewatt.core.drivers import Driver
from prewatt.hes.frames import (
    BundleMark,
    Command,
    Frame,
    MalformedSample,
    ReadingsBlock,
    Token,
    Watermark,
)

OnFrame = Callable[[Frame], None]
OnBlock = Callable[[ReadingsBlock], None]
OnMalformed = Callable[[MalformedSample], None]
"""Called for each message that cannot be decoded, after it was counted; from any thread."""


class Session(Protocol):
    """One driver's connection to all of its meters. Thread-safe.

    Its frames are of meters that are reached by its driver (`meter.driver`). A session that any device
    can talk to looks that up itself, so that nobody speaks for another driver's meter.
    """

    @property
    def driver(self) -> Driver:
        """Whose tokens it takes back, and whose meters it reaches."""

    @property
    def failure(self) -> Exception | None:
        """What ended it by itself: the process should end, too."""

    @property
    def is_connected(self) -> bool:
        """Whether sending makes sense: to meters that sleep it does, where commands are kept for them."""

    def start(self, on_frame: OnFrame, on_block: OnBlock | None = None) -> None:
        """Connect or listen in the background and deliver; `on_frame` may block (back-pressure)."""

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until `is_connected`; returns whether it is."""

    def reaches(self, serial: str) -> bool:
        """Whether this meter is one of its own, as far as it knows them."""

    def ack(self, tokens: Iterable[Token]) -> None:
        """Let go what is committed (invariant 9); a token that means nothing any more is ignored."""

    def publish_watermarks(self, marks: Sequence[Watermark]) -> None:
        """Tell meters what is committed, where `ack` has not said it to them already."""

    def send_command(self, serial: str, command: Command) -> bool:
        """Send, or keep for a meter that sleeps; False when it was neither."""

    def stop_delivery(self) -> None:
        """Deliver nothing more; acknowledgements still go out, so that the consumer can drain first."""

    def stop(self) -> None:
        """Send what is due, and end."""


Opener = Callable[[OnMalformed], Session]
"""Makes a session that tells of malformed messages; it is started later."""


@runtime_checkable
class SpeaksToConcentrators(Protocol):
    """A session among whose senders are concentrators."""

    def publish_bundle_marks(self, marks: Sequence[BundleMark]) -> None:
        """Tell concentrators what is committed."""


@runtime_checkable
class CarriesInstructions(Protocol):
    """A session whose meters can be instructed by signature."""

    def send_instruction(self, serial: str, payload: bytes) -> bool:
        """Send a signed instruction; False when it was not taken."""


@runtime_checkable
class CarriesShortInstructions(CarriesInstructions, Protocol):
    """A session whose link is too narrow for signatures: its meters are instructed by the short form, or not at all."""

    @property
    def instruction_bytes_max(self) -> int:
        """No instruction to any of its meters may be longer."""


@runtime_checkable
class CarriesCertificates(Protocol):
    """A session whose devices are let in by certificates of ours."""

    def send_certificate(self, serial: str, chain: bytes) -> bool:
        """Send a device its next certificate; False when it was not taken."""


class Sessions:
    """The sessions of a head-end as one transport. Raises `ValueError` for two of one driver, or none.

    The first is that of every meter which no other knows for its own.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._by_driver = {each.driver: each for each in sessions}
        if not sessions or len(self._by_driver) < len(sessions):
            raise ValueError("one session for each driver, and one at least")
        self._first = sessions[0]
        self._others = tuple(sessions[1:])

    # --- life ---

    @property
    def all(self) -> tuple[Session, ...]:
        """Each of them, the first one first."""
        return (self._first, *self._others)

    @property
    def failure(self) -> Exception | None:
        """What ended one of them."""
        return next((each.failure for each in self.all if each.failure is not None), None)

    @property
    def connected(self) -> frozenset[Driver]:
        """The drivers by which commands can be sent at the moment."""
        return frozenset(each.driver for each in self.all if each.is_connected)

    @property
    def is_connected(self) -> bool:
        """Whether all are: no message of any meter is then lost."""
        return all(each.is_connected for each in self.all)

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until all are connected; returns whether they are."""
        until = time.monotonic() + timeout_s
        return all(each.wait_connected(max(0.0, until - time.monotonic())) for each in self.all)

    def start(self, on_frame: OnFrame, on_block: OnBlock | None = None) -> None:
        """Begin with each; frames come from the threads of all."""
        for each in self.all:
            each.start(on_frame, on_block)

    def stop_delivery(self) -> None:
        """Deliver nothing more from any."""
        for each in self.all:
            each.stop_delivery()

    def stop(self) -> None:
        """Send what is due, and end each."""
        for each in self.all:
            each.stop()

    # --- what the consumers call ---

    def ack(self, tokens: Iterable[Token]) -> None:
        """Give each token back to the session that made it."""
        if not self._others:
            self._first.ack(tokens)
            return
        own: dict[Driver, list[Token]] = {}
        for token in tokens:
            own.setdefault(token.driver, []).append(token)
        for driver, each in own.items():
            self._by_driver[driver].ack(each)

    def publish_watermarks(self, marks: Sequence[Watermark]) -> None:
        """Tell each meter by the session that reaches it."""
        for session in self._others:
            is_its = [session.reaches(mark.serial) for mark in marks]
            if any(is_its):
                session.publish_watermarks([m for m, its in zip(marks, is_its, strict=True) if its])
                marks = [m for m, its in zip(marks, is_its, strict=True) if not its]
        if marks:
            self._first.publish_watermarks(marks)

    def publish_bundle_marks(self, marks: Sequence[BundleMark]) -> None:
        """Tell concentrators, which the first session speaks to where any does."""
        assert isinstance(self._first, SpeaksToConcentrators), "who else has handed in a bundle?"
        self._first.publish_bundle_marks(marks)

    def send_command(self, serial: str, command: Command) -> bool:
        """Send by the session that reaches the meter; False when there is no way to it now."""
        return self._session_of(serial).send_command(serial, command)

    def carries_instructions(self, serial: str) -> bool:
        """Whether the session that reaches the meter carries signed instructions."""
        session = self._session_of(serial)
        return isinstance(session, CarriesInstructions) and not self.carries_short(serial)

    def carries_short(self, serial: str) -> bool:
        """Whether the session that reaches the meter carries the short form of them alone."""
        return isinstance(self._session_of(serial), CarriesShortInstructions)

    def send_instruction(self, serial: str, payload: bytes) -> bool:
        """Send an instruction of either form by the session that reaches the meter; False when it was not taken."""
        session = self._session_of(serial)
        return isinstance(session, CarriesInstructions) and session.send_instruction(
            serial, payload
        )

    def send_certificate(self, serial: str, chain: bytes) -> bool:
        """Send a device its next certificate, where it has one; False when it was not taken."""
        first = self._first
        return isinstance(first, CarriesCertificates) and first.send_certificate(serial, chain)

    def _session_of(self, serial: str) -> Session:
        return next((each for each in self._others if each.reaches(serial)), self._first)
