"""Which devices are registered, until when, whether they are awake, and what waits for them: no sockets, no clock.

A device has one registration: a new one takes the place of the last. Its location is the only thing by which
it can be changed, so that it is random and long. A sleeping device (queue mode) is spoken to while it is awake,
which is some time after it was heard last; what is meant for it until then is held, a few commands at most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from prewatt.hes.drivers.lwm2m.links import Links
from prewatt.hes.drivers.lwm2m.values import Item
from prewatt.hes.frames import Command

HELD_MAX: Final = 8
"""Commands that wait for one device; the oldest gives way, since its order is tried again."""
_US_PER_S: Final = 1_000_000


class UnknownRegistration(LookupError):
    """No such location, or not this sender's: the device has to register again."""


@dataclass(slots=True, eq=False)
class Registration:
    """A device as it registered. `address` is opaque here; `sender` names it for as long as that does not change.

    `units` is what it says of the units of its energy sensors, None before it was asked.

    Of signed instructions: `instruction` waits to be written, the newest alone; `instructed` was written last, and
    `answered` is what was signed last and handed on. `tells_answers` is whether it tells of each answer, `has_to_be_observed`
    that it could not be asked to while it had signed nothing.
    """

    serial: str
    location: str
    sender: Hashable
    address: object
    links: Links
    version: str
    sleeps: bool
    lifetime_s: int
    expires_at_us: int
    heard_at_us: int
    units: Sequence[Item] | None = None
    firmware: str = "unknown"
    instruction: bytes | None = None
    instructed: bytes | None = None
    answered: bytes | None = None
    tells_answers: bool = False
    has_to_be_observed: bool = False
    takes_tlv_alone: bool = False
    held: deque[Command] = field(default_factory=lambda: deque(maxlen=HELD_MAX))


class Registrations:
    """All of them. `make_location` gives what nobody guesses; `awake_s` is how long a sleeper stays awake."""

    def __init__(self, *, make_location: Callable[[], str], awake_s: int) -> None:
        self._make_location = make_location
        self._awake_us = awake_s * _US_PER_S
        self._by_serial: dict[str, Registration] = {}
        self._by_location: dict[str, Registration] = {}
        self._by_sender: dict[Hashable, Registration] = {}

    def __len__(self) -> int:
        return len(self._by_serial)

    def __iter__(self) -> Iterator[Registration]:
        return iter(self._by_serial.values())

    def register(
        self,
        *,
        serial: str,
        sender: Hashable,
        address: object,
        links: Links,
        version: str,
        sleeps: bool,
        lifetime_s: int,
        now_us: int,
    ) -> Registration:
        """A device has registered; what it had before is gone, but for what waits for it."""
        former = self._by_serial.get(serial)
        made = Registration(
            serial=serial,
            location=self._make_location(),
            sender=sender,
            address=address,
            links=links,
            version=version,
            sleeps=sleeps,
            lifetime_s=lifetime_s,
            expires_at_us=now_us + lifetime_s * _US_PER_S,
            heard_at_us=now_us,
        )
        if former is not None:
            made.held = former.held
            made.firmware = former.firmware
            made.instruction, made.instructed = former.instruction, former.instructed
            made.answered = former.answered
            self.remove(former)
        self._by_serial[serial] = made
        self._by_location[made.location] = made
        # Two devices with one address are one at a time: the second is behind the address now.
        self._by_sender[sender] = made
        return made

    def at(self, location: str) -> Registration:
        """The registration at a location. Raises UnknownRegistration."""
        found = self._by_location.get(location)
        if found is None:
            raise UnknownRegistration(location)
        return found

    def of(self, serial: str) -> Registration | None:
        """The registration of a device; None where it has none."""
        return self._by_serial.get(serial)

    def of_sender(self, sender: Hashable) -> Registration | None:
        """The registration of whoever speaks from there."""
        return self._by_sender.get(sender)

    def update(
        self,
        registration: Registration,
        *,
        sender: Hashable,
        address: object,
        links: Links | None,
        lifetime_s: int | None,
        sleeps: bool | None,
        now_us: int,
    ) -> bool:
        """A device says that it is there; returns whether it is to be met anew, as its address or objects are."""
        is_new = (
            registration.sender != sender or (links or registration.links) != registration.links
        )
        if self._by_sender.get(registration.sender) is registration:
            del self._by_sender[registration.sender]
        registration.sender, registration.address = sender, address
        self._by_sender[sender] = registration
        registration.links = links or registration.links
        registration.lifetime_s = lifetime_s or registration.lifetime_s
        registration.sleeps = registration.sleeps if sleeps is None else sleeps
        registration.expires_at_us = now_us + registration.lifetime_s * _US_PER_S
        registration.heard_at_us = now_us
        return is_new

    def remove(self, registration: Registration) -> None:
        """A device has gone, or is taken for gone."""
        self._by_location.pop(registration.location, None)
        if self._by_serial.get(registration.serial) is registration:
            del self._by_serial[registration.serial]
        if self._by_sender.get(registration.sender) is registration:
            del self._by_sender[registration.sender]

    def expire(self, now_us: int) -> list[Registration]:
        """Take those off that have said nothing for their lifetime, and return them."""
        gone = [each for each in self if each.expires_at_us <= now_us]
        for each in gone:
            self.remove(each)
        return gone

    def is_awake(self, registration: Registration, now_us: int) -> bool:
        """Whether speaking to it makes sense now."""
        return not registration.sleeps or now_us - registration.heard_at_us < self._awake_us

    def take_instruction(self, registration: Registration) -> bytes | None:
        """Take off the instruction that waits for it, and remember it as what it was told last."""
        waiting, registration.instruction = registration.instruction, None
        if waiting is not None:
            if waiting == registration.instructed:
                # Whoever says it again has not got the answer, though it may have been handed on before.
                registration.answered = None
            registration.instructed = waiting
        return waiting

    def take_held(self, registration: Registration, now_us: int) -> list[Command]:
        """Take off what waited for it, in order; what has expired meanwhile is dropped.

        So is every relay command but the last: while its meter slept somebody may have paid, and a cut that was
        overtaken must not open the relay for the moment until the next command closes it.
        """
        held = [each for each in registration.held if each.expires_at_us > now_us]
        registration.held.clear()
        last = next((each for each in reversed(held) if each.op == "relay"), None)
        return [each for each in held if each.op != "relay" or each is last]
