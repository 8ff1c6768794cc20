"""What notify needs from outside: a channel that can carry a rendered message to a contact."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Contact:
    """How a customer can be reached. A way that is not known is an empty string."""

    name: str
    email: str
    phone: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """One message as it goes to one address.

    ``reference`` is the same for every try of the message, so that a receiver who got it twice can
    tell. ``subject`` is one line. ``at`` is the instant of this try.
    """

    reference: str
    address: str
    contact_name: str
    language: str
    subject: str
    body: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Sent:
    """The channel took the message; its README says what that proves."""


@dataclass(frozen=True, slots=True)
class Temporary:
    """Not now: worth another try. ``channel_down`` spares the other messages of the pass the wait.

    A trouble of our own (wrong password, server out of reach) is always temporary and channel_down:
    it says nothing about the customer's address, and must never use up their warning.
    """

    reason: str
    channel_down: bool = False


@dataclass(frozen=True, slots=True)
class Permanent:
    """This address will never take it: no further try on this channel."""

    reason: str


SendOutcome = Sent | Temporary | Permanent


class Channel(Protocol):
    """A way to reach people. An implementation lives in ``adapters/channels/<name>``."""

    @property
    def name(self) -> str:
        """A stable word of at most 16 characters, stored with each attempt."""

    @property
    def wakes(self) -> bool:
        """Whether a message on it may wake somebody, as a text message or a call does."""

    def address_of(self, contact: Contact) -> str:
        """The contact's address on this channel, or an empty string when there is none."""

    def send(self, rendered: Rendered) -> SendOutcome:
        """Hand over one message, within a bounded time; expected failures are returned."""
