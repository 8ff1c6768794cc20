"""What a driver hands to the head-end: typed, columnar frames with an opaque acknowledgement token.

A frame is one message of one meter, decoded. Nothing in it is judged yet: whether the meter exists, whether
the register may be believed and whose account the energy belongs to is decided by the ingest loop and
by validation, inside the transaction that stores it. Every frame carries a token which its consumer
hands back to the session **after commit** (invariant 9); a frame whose token never comes back is
delivered again, by the broker or by the meter itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import repeat
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prewatt.core.drivers import Driver

ACTIVE_IMPORT: Final = 1
"""OBIS 1.8.0, cumulative active energy drawn, Wh."""
ACTIVE_EXPORT: Final = 2
"""OBIS 2.8.0, cumulative active energy fed back, Wh."""
REACTIVE_IMPORT: Final = 3
"""OBIS 3.8.0, cumulative reactive energy drawn, varh."""
MAXIMUM_DEMAND: Final = 4
"""OBIS 1.6.0, maximum demand of the running billing period, W."""
EVENT_LOG: Final = 0
"""No register: in a `Watermark` it stands for the meter's event log."""

FRAME_REPLAYED: Final = "frame_replayed"
"""The code of an `EventFrame` that a session tells of itself: somebody sent an old frame of this meter again."""

RelayState = Literal["open", "closed"]
Operation = Literal["relay", "read", "history", "clock", "hello"]
AnswerResult = Literal["ok", "expired", "unsupported", "failed"]


@dataclass(frozen=True, slots=True)
class AckToken:
    """Names one unacknowledged message of one connection; opaque to everyone but the session.

    `driver` says whose session that is.
    """

    connection: int
    message_id: int
    driver: Driver = Driver.MQTT_SENML


@dataclass(frozen=True, slots=True, eq=False)
class BlockToken:
    """Names many unacknowledged messages of one connection, `message_ids` in order of arrival."""

    connection: int
    message_ids: NDArray[np.uint16]
    driver: Driver = Driver.MQTT_SENML


Token = AckToken | BlockToken


@dataclass(frozen=True, slots=True, eq=False)
class ReadingsBlock:
    """Messages of one reading each, in order of arrival, as columns of length n >= 1.

    It says what so many `ReadingsFrame`s of one row would say, and is made without them.
    """

    serials: list[str]
    received_at_us: int
    token: BlockToken
    read_at_us: NDArray[np.int64]
    register_code: NDArray[np.int16]
    value: NDArray[np.int64]
    meter_clock_us: list[int | None]
    relay: list[RelayState | None]

    def __len__(self) -> int:
        return len(self.serials)

    @property
    def weight(self) -> int:
        """How much there is to do for it, and to keep until then, in readings."""
        return len(self.serials)

    def part(self, at: NDArray[np.intp]) -> "ReadingsBlock":
        """The messages at these places."""
        places = at.tolist()
        return ReadingsBlock(
            serials=[self.serials[each] for each in places],
            received_at_us=self.received_at_us,
            token=replace(self.token, message_ids=self.token.message_ids[at]),
            read_at_us=self.read_at_us[at],
            register_code=self.register_code[at],
            value=self.value[at],
            meter_clock_us=[self.meter_clock_us[each] for each in places],
            relay=[self.relay[each] for each in places],
        )

    def heard(self) -> "Iterator[tuple[str, RelayState | None, int, int | None]]":
        """What each message says of its meter itself: serial, relay, time of receipt and clock (µs)."""
        return zip(
            self.serials, self.relay, repeat(self.received_at_us), self.meter_clock_us, strict=False
        )

    def frames(self) -> "list[ReadingsFrame]":
        """The same as a frame for each message."""
        return [
            ReadingsFrame(
                serial=serial,
                received_at_us=self.received_at_us,
                token=AckToken(self.token.connection, message_id),
                read_at_us=self.read_at_us[at : at + 1],
                register_code=self.register_code[at : at + 1],
                value=self.value[at : at + 1],
                meter_clock_us=self.meter_clock_us[at],
                relay=self.relay[at],
            )
            for at, (serial, message_id) in enumerate(
                zip(self.serials, self.token.message_ids.tolist(), strict=True)
            )
        ]


@dataclass(frozen=True, slots=True, eq=False)
class ReadingsFrame:
    """Register readings of one meter, one row per reading, in the order the meter sent them.

    Columns have the same length n >= 1. `value` is in Wh for the energy registers, varh for reactive
    energy and W for maximum demand. `read_at_us` is the meter's own time in microseconds since 1970
    UTC. `meter_clock_us` is the meter's clock when it sent, where it says so: the difference to
    `received_at_us` is its drift plus the way, and a backlog does not blur it. `relay` is the relay
    state when it sent, where it says so.
    """

    serial: str
    received_at_us: int
    token: AckToken
    read_at_us: NDArray[np.int64]
    register_code: NDArray[np.int16]
    value: NDArray[np.int64]
    meter_clock_us: int | None
    relay: RelayState | None

    def __len__(self) -> int:
        return len(self.read_at_us)

    @property
    def weight(self) -> int:
        """How much there is to do for it, and to keep until then, in readings."""
        return len(self.read_at_us)


class Refusal(IntEnum):
    """Why one reading of a bundle is not taken, while the others are."""

    NONE = 0
    #: Of no meter of the message's own list.
    PLACE = 1
    REGISTER = 2
    #: No absolute time.
    TIME = 3
    #: No value that a register can have.
    RANGE = 4
    #: The concentrator may not speak for the meter, or not of that instant.
    NOT_ITS_METER = 5
    #: Nobody is assigned to the meter.
    NO_ACCOUNT = 6
    #: The database refused it.
    FAILED = 7


@dataclass(frozen=True, slots=True, eq=False)
class ReadingsBundle:
    """One message of a concentrator: readings of many meters as columns, not yet judged.

    ``sequence`` and ``checksum`` name the message to its sender. Of each meter, in columns of length
    m >= 1: its serial number as it was sent, when the concentrator heard it last (µs UTC by the
    concentrator's clock, 0 where it does not say), and its relay then (`core.vocabulary.RelayState`).
    Of each reading, in columns of length n >= 1: ``place`` is the row of its meter, ``refusal`` a
    `Refusal` where the reading can be no reading; the other columns are those of `ReadingsFrame`.
    """

    concentrator: str
    sequence: int
    checksum: int
    sent_at_us: int
    received_at_us: int
    token: AckToken
    serials: list[bytes]
    heard_at_us: NDArray[np.int64]
    relay: NDArray[np.int64]
    place: NDArray[np.int64]
    read_at_us: NDArray[np.int64]
    register_code: NDArray[np.int64]
    value: NDArray[np.int64]
    refusal: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.place)

    @property
    def weight(self) -> int:
        """How much there is to do for it, and to keep until then, in readings: a meter that it only names
        costs as much as one.
        """
        return max(len(self.place), len(self.serials))


@dataclass(frozen=True, slots=True)
class EventFrame:
    """Something the meter noticed: `code` is a short word such as `cover_open` or `power_up`."""

    serial: str
    received_at_us: int
    token: AckToken
    code: str
    at_us: int
    detail: str


@dataclass(frozen=True, slots=True)
class HelloFrame:
    """A meter has started or come back: its clock, its relay and its firmware.

    `relay` is None of a device that has none; with `is_back` False it has been there all the time, and only says how
    it stands.
    """

    serial: str
    received_at_us: int
    token: AckToken
    meter_clock_us: int
    relay: RelayState | None
    firmware: str
    #: The version of its configuration; empty where it tells none.
    configuration: str = ""
    is_back: bool = True


@dataclass(frozen=True, slots=True)
class AnswerFrame:
    """A meter's answer to one command; `relay` is the state its contacts have, not the one asked for.

    It is None only of a refusal, or of what asks for no relay: such a meter may have none at all.
    `register_wh` is the active import register at `at_us` (the meter's own time).
    """

    serial: str
    received_at_us: int
    token: AckToken
    command_id: str
    result: AnswerResult
    relay: RelayState | None
    register_wh: int
    at_us: int


@dataclass(frozen=True, slots=True)
class Command:
    """An order to a meter. `state` belongs to `relay` alone; a `read` changes nothing.

    The meter judges `expires_at_us` by its own clock and answers `expired` afterwards. `history` asks for the
    readings that it kept from `from_us` to `until_us`, both included, `hello` for its hello. `clock` moves its clock by
    `move_us`: not to an instant, which would be another one when a command that waited for its meter arrives.
    """

    command_id: str
    op: Operation
    state: RelayState | None
    issued_at_us: int
    expires_at_us: int
    from_us: int | None = None
    until_us: int | None = None
    move_us: int | None = None


@dataclass(frozen=True, slots=True)
class SealedFrame:
    """What a meter signed in answer to an instruction, unopened: who verifies it has its keys."""

    serial: str
    received_at_us: int
    token: AckToken
    payload: bytes


@dataclass(frozen=True, slots=True)
class RenewalFrame:
    """A device asks for its next certificate: a request (PKCS #10, DER), signed by the key that it has."""

    serial: str
    received_at_us: int
    token: AckToken
    request: bytes
    signature: bytes


Frame = (
    ReadingsFrame
    | ReadingsBundle
    | EventFrame
    | HelloFrame
    | AnswerFrame
    | SealedFrame
    | RenewalFrame
)


class MalformedFrame(ValueError):
    """A message that cannot be decoded. `reason` is a short stable word to count by; str() explains."""

    def __init__(self, reason: str, explanation: str) -> None:
        super().__init__(f"{reason}: {explanation}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class MalformedSample:
    """What is kept of a malformed message: it is acknowledged all the same, or it would come for ever."""

    topic: str
    received_at_us: int
    reason: str
    explanation: str
    payload_head: bytes


class Watermark(NamedTuple):
    """Of one message every reading of this register from `from_us` to `read_at_us`, both included, is committed.

    `value` is that of the reading at `read_at_us`, in the register's unit: a meter whose clock was
    set back may have two readings of one instant, and knows by it of which of them this is said.
    Nothing is said of readings before `from_us`: they may never have come. With `register_code`
    `EVENT_LOG` it says the same of the meter's events, which have no value.
    """

    serial: str
    register_code: int
    read_at_us: int
    from_us: int
    value: int | None


@dataclass(frozen=True, slots=True)
class BundleMark:
    """What a concentrator's message brought is committed, but for the meters in ``refused``.

    These are rows of the message's own list of meters: of each, one reading at least was refused for
    want of a right or a place, which may be mended, so its sender must keep what it has of them.
    """

    concentrator: str
    sequence: int
    checksum: int
    refused: tuple[int, ...] = ()
