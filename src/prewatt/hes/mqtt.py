"""MQTT 5 and 3.1.1 as a client speaks it: bytes in, events out, and packets as bytes. No sockets, no clock.

Only what the head-end needs: it publishes with QoS 0 and 1 and takes QoS 0 and 1, without wills, topic aliases
and enhanced authentication. Messages that follow one another come as one event, as offsets into the bytes that
arrived, so that no object is made for each. Framing is strict: whatever a broker must not send is a
`ProtocolError`, after which the connection has to be closed. What a topic or a payload says is the
caller's matter.

References are to sections of MQTT 5 (OASIS, 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

MqttVersion = Literal[4, 5]
"""The protocol level in CONNECT: 4 is MQTT 3.1.1."""

_CONNACK: Final = 2
_PUBLISH: Final = 3
_PUBACK: Final = 4
_SUBACK: Final = 9
_PINGRESP: Final = 13
_DISCONNECT: Final = 14

PINGREQ: Final = b"\xc0\x00"
DISCONNECT: Final = b"\xe0\x00"

_LENGTH_BYTES_MAX: Final = 4
_TEXT_BYTES_MAX: Final = 65_535
_UNLIMITED: Final = 65_535

_RECEIVE_MAXIMUM: Final = 0x21
_MAXIMUM_PACKET_SIZE: Final = 0x27
_SESSION_EXPIRY: Final = 0x11
_SERVER_KEEP_ALIVE: Final = 0x13
_TOPIC_ALIAS: Final = 0x23
# Section 2.2.2.2: how long each property is; what is not named here has a length of its own.
_FIXED: Final = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), 1),
    **dict.fromkeys((_SERVER_KEEP_ALIVE, _RECEIVE_MAXIMUM, 0x22, _TOPIC_ALIAS), 2),
    **dict.fromkeys((0x02, _SESSION_EXPIRY, 0x18, _MAXIMUM_PACKET_SIZE), 4),
}
_TEXTS: Final = {
    0x03: 1,
    0x08: 1,
    0x09: 1,
    0x12: 1,
    0x15: 1,
    0x16: 1,
    0x1A: 1,
    0x1C: 1,
    0x1F: 1,
    0x26: 2,
}
_SUBSCRIPTION: Final = 0x0B
_REPEATED: Final = (0x26, _SUBSCRIPTION)

Uint16 = npt.NDArray[np.uint16]


class ProtocolError(ValueError):
    """The other side broke the protocol: close the connection."""


# --- events ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connack:
    """The broker's answer to CONNECT; `reason` 0 is a yes."""

    session_present: bool
    reason: int
    receive_maximum: int = _UNLIMITED
    packet_bytes_max: int | None = None
    keepalive_s: int | None = None


@dataclass(frozen=True, slots=True)
class Suback:
    """The answer to SUBSCRIBE: for each filter the QoS granted, or a failure from 128 on."""

    message_id: int
    reasons: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Puback:
    """The broker has taken a message of ours; `reason` from 128 on says that it has not."""

    message_id: int
    reason: int = 0


@dataclass(frozen=True, slots=True)
class Pingresp:
    """The broker is there."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The broker is about to close the connection (MQTT 5)."""

    reason: int


@dataclass(frozen=True, slots=True, eq=False)
class Publishes:
    """Messages in order of arrival: number n has topic `data[topic[n]:topic_end[n]]` and payload
    `data[payload[n]:end[n]]`; `message_id[n]` is 0 with QoS 0.
    """

    data: bytes
    message_id: list[int] = field(default_factory=list)
    topic: list[int] = field(default_factory=list)
    topic_end: list[int] = field(default_factory=list)
    payload: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.end)


Event = Connack | Suback | Puback | Pingresp | Disconnected | Publishes


# --- what comes --------------------------------------------------------------------------------------


class Decoder:
    """Cuts what arrives into packets. One for each connection; memory is what was fed and not yet taken.

    `packet_bytes_max` is the largest packet that is taken, which an MQTT 5 broker is told of.
    """

    def __init__(self, version: MqttVersion, *, packet_bytes_max: int) -> None:
        self._is_v5 = version == 5
        self._packet_bytes_max = packet_bytes_max
        self._data = b""
        self._at = 0
        self.has_more = False
        """Whether the last `take` left a message for its limit."""

    @property
    def waiting_bytes(self) -> int:
        """How much was fed and not yet taken."""
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """Add what was read from the socket."""
        self._data = self._data[self._at :] + data
        self._at = 0

    def take(self, messages_max: int) -> list[Event]:
        """The events of all whole packets, of at most so many messages; more may wait.

        Raises `ProtocolError`; whatever came before the fault is lost with the connection.
        """
        data, at, size = self._data, self._at, len(self._data)
        events: list[Event] = []
        run: Publishes | None = None
        left = messages_max
        self.has_more = False
        while at + 2 <= size:
            first, length = data[at], data[at + 1]
            begin = at + 2
            if length >= 0x80:
                found = self._long_length(at + 1, size)
                if found is None:
                    break
                length, begin = found
            end = begin + length
            if end - at > self._packet_bytes_max:
                raise ProtocolError(f"a packet of {end - at} bytes")
            if end > size:
                break
            if first >> 4 == _PUBLISH:
                if left == 0:
                    self.has_more = True
                    break
                left -= 1
                if run is None:
                    run = Publishes(data)
                    events.append(run)
                self._add_message(run, first, begin, end)
            else:
                run = None
                events.append(self._other(first, begin, end))
            at = end
        self._at = at
        return events

    def _long_length(self, at: int, size: int) -> tuple[int, int] | None:
        """A remaining length of several bytes and where it ends; None if not all of it is here."""
        length = 0
        for number in range(_LENGTH_BYTES_MAX):
            if at + number >= size:
                return None
            byte = self._data[at + number]
            length |= (byte & 0x7F) << 7 * number
            if byte < 0x80:
                if byte == 0:
                    raise ProtocolError("a length with more bytes than it needs")
                return length, at + number + 1
        raise ProtocolError("a length of more than four bytes")

    def _add_message(self, run: Publishes, first: int, begin: int, end: int) -> None:
        data, qos = self._data, first & 0x06
        topic = begin + 2
        if topic > end:
            raise ProtocolError("a PUBLISH without a topic")
        at = topic_end = topic + (data[begin] << 8 | data[begin + 1])
        message_id = 0
        if qos:
            at += 2
            if qos != 0x02 or at > end:
                raise ProtocolError("a QoS that was not asked for, or no packet identifier")
            message_id = data[at - 2] << 8 | data[at - 1]
            if message_id == 0:
                raise ProtocolError("packet identifier 0")
        elif first & 0x08:
            raise ProtocolError("a repeated message of QoS 0")
        if self._is_v5:
            if at < end and data[at] == 0:
                at += 1
            else:
                at, properties = self._properties(at, end)
                if _TOPIC_ALIAS in properties:
                    raise ProtocolError("a topic alias, which was not allowed")
        if at > end or topic_end == topic:
            raise ProtocolError("a PUBLISH that ends early, or with an empty topic")
        run.message_id.append(message_id)
        run.topic.append(topic)
        run.topic_end.append(topic_end)
        run.payload.append(at)
        run.end.append(end)

    def _other(self, first: int, begin: int, end: int) -> Event:
        kind, body = first >> 4, self._data[begin:end]
        if first & 0x0F:
            raise ProtocolError(f"flags {first & 0x0F} in packet type {kind}")
        if kind == _PUBACK:
            return Puback(*self._id_and_reason(begin, end))
        if kind == _PINGRESP and not body:
            return Pingresp()
        if kind == _CONNACK:
            return self._connack(begin, end)
        if kind == _SUBACK and len(body) >= 3:
            at = begin + 2
            if self._is_v5:
                at, _ = self._properties(at, end)
            if at >= end:
                raise ProtocolError("a SUBACK without reasons")
            return Suback(body[0] << 8 | body[1], tuple(self._data[at:end]))
        if kind == _DISCONNECT and self._is_v5:
            if len(body) > 1:
                self._all_properties(begin + 1, end)
            return Disconnected(body[0] if body else 0)
        raise ProtocolError(f"a packet of type {kind} with {len(body)} bytes")

    def _id_and_reason(self, begin: int, end: int) -> tuple[int, int]:
        size = end - begin
        if size < 2 or (size > 2 and not self._is_v5):
            raise ProtocolError(f"a PUBACK of {size} bytes")
        message_id = self._data[begin] << 8 | self._data[begin + 1]
        if message_id == 0:
            raise ProtocolError("packet identifier 0")
        if size > 3:
            self._all_properties(begin + 3, end)
        return message_id, self._data[begin + 2] if size > 2 else 0

    def _connack(self, begin: int, end: int) -> Connack:
        size = end - begin
        if size < 2 or (size > 2 and not self._is_v5) or self._data[begin] > 1:
            raise ProtocolError(f"a CONNACK of {size} bytes")
        # A broker of 3.1.1 that does not know MQTT 5 answers in its own format: without properties.
        found = self._all_properties(begin + 2, end) if size > 2 else {}
        receive_maximum = found.get(_RECEIVE_MAXIMUM, _UNLIMITED)
        if receive_maximum == 0 or found.get(_MAXIMUM_PACKET_SIZE) == 0:
            raise ProtocolError("a CONNACK that allows nothing")
        return Connack(
            session_present=self._data[begin] == 1,
            reason=self._data[begin + 1],
            receive_maximum=receive_maximum,
            packet_bytes_max=found.get(_MAXIMUM_PACKET_SIZE),
            keepalive_s=found.get(_SERVER_KEEP_ALIVE),
        )

    def _all_properties(self, at: int, end: int) -> dict[int, int]:
        at, found = self._properties(at, end)
        if at != end:
            raise ProtocolError("more bytes than the packet has a meaning for")
        return found

    def _properties(self, at: int, end: int) -> tuple[int, dict[int, int]]:
        """Where the properties end, and the numbers among them; texts are stepped over."""
        length, at = self._number(at, end)
        until = at + length
        if until > end:
            raise ProtocolError("properties that end after their packet")
        found: dict[int, int] = {}
        while at < until:
            name = self._data[at]
            at += 1
            if name in found and name not in _REPEATED:
                raise ProtocolError(f"property {name} twice")
            if name in _FIXED:
                size = _FIXED[name]
                found[name] = int.from_bytes(self._data[at : at + size], "big")
                at += size
            elif name in _TEXTS:
                found[name] = 0
                for _ in range(_TEXTS[name]):
                    at += 2 + int.from_bytes(self._data[at : at + 2], "big")
            elif name == _SUBSCRIPTION:
                found[name], at = self._number(at, until)
            else:
                raise ProtocolError(f"unknown property {name}")
        if at != until:
            raise ProtocolError("a property that ends after its list")
        return at, found

    def _number(self, at: int, end: int) -> tuple[int, int]:
        """A variable byte integer and where it ends."""
        if at >= end:
            raise ProtocolError("a packet that ends early")
        if self._data[at] < 0x80:
            return self._data[at], at + 1
        found = self._long_length(at, end)
        if found is None:
            raise ProtocolError("a packet that ends early")
        return found


# --- what goes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connect:
    """A CONNECT that takes up a persistent session. The last three are said in MQTT 5 alone."""

    client_id: str
    keepalive_s: int
    username: str | None = None
    password: str | None = None
    session_expiry_s: int = 0
    receive_maximum: int = _UNLIMITED
    packet_bytes_max: int = 2**28

    def encode(self, version: MqttVersion) -> bytes:
        """The packet. Raises ValueError for a text over 65,535 bytes."""
        flags = (0x80 if self.username is not None else 0) | (
            0x40 if self.password is not None else 0
        )
        body = _text("MQTT") + bytes((version, flags)) + self.keepalive_s.to_bytes(2, "big")
        if version == 5:
            properties = (
                bytes((_SESSION_EXPIRY,))
                + self.session_expiry_s.to_bytes(4, "big")
                + bytes((_RECEIVE_MAXIMUM,))
                + self.receive_maximum.to_bytes(2, "big")
                + bytes((_MAXIMUM_PACKET_SIZE,))
                + self.packet_bytes_max.to_bytes(4, "big")
            )
            body += _length(len(properties)) + properties
        body += _text(self.client_id)
        for each in (self.username, self.password):
            if each is not None:
                body += _text(each)
        return b"\x10" + _length(len(body)) + body


def subscribe(version: MqttVersion, message_id: int, topic_filter: str, *, qos: int) -> bytes:
    """A SUBSCRIBE to one filter."""
    body = message_id.to_bytes(2, "big") + (b"\x00" if version == 5 else b"")
    body += _text(topic_filter) + bytes((qos,))
    return b"\x82" + _length(len(body)) + body


def publish(
    version: MqttVersion,
    topic: str,
    payload: bytes,
    *,
    message_id: int = 0,
    is_repeated: bool = False,
) -> bytes:
    """A PUBLISH, with QoS 1 if it has a packet identifier and QoS 0 otherwise."""
    name = topic.encode()
    head = len(name).to_bytes(2, "big") + name
    if message_id:
        head += message_id.to_bytes(2, "big")
    if version == 5:
        head += b"\x00"
    first = 0x30 | (0x02 if message_id else 0) | (0x08 if is_repeated else 0)
    return bytes((first,)) + _length(len(head) + len(payload)) + head + payload


def pubacks(message_ids: Uint16) -> bytes:
    """A PUBACK for each packet identifier, in one piece; the same bytes in both versions."""
    packets = np.empty((message_ids.size, 4), dtype=np.uint8)
    packets[:, 0] = _PUBACK << 4
    packets[:, 1] = 2
    packets[:, 2] = message_ids >> 8
    packets[:, 3] = message_ids & 0xFF
    return packets.tobytes()


def _text(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > _TEXT_BYTES_MAX:
        raise ValueError(f"a text of {len(encoded)} bytes")
    return len(encoded).to_bytes(2, "big") + encoded


def _length(length: int) -> bytes:
    if length < 0x80:
        return bytes((length,))
    encoded = bytearray()
    while True:
        length, low = length >> 7, length & 0x7F
        encoded.append(low | (0x80 if length else 0))
        if not length:
            return bytes(encoded)
