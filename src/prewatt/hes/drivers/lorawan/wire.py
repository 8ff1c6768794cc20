"""The protocol buffers' wire format, as far as a network server's events need it; bounded, without a library.

A message comes out as its fields in order: number, and an integer or bytes. What a field means is known to whoever
asks for it, and unknown ones are left alone, as the format wants. Follows protobuf.dev, "Encoding".
"""

from __future__ import annotations

import struct
from typing import Final

from prewatt.hes.frames import MalformedFrame

FIELDS_MAX: Final = 4_096
_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5

Value = int | bytes


class Message:
    """The fields of one message. Of a field that comes more than once the last holds, or all are asked for."""

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[Value]] = {}
        at, count = 0, 0
        while at < len(data):
            count += 1
            if count > FIELDS_MAX:
                raise MalformedFrame("too_many", f"more than {FIELDS_MAX} fields")
            at, number, value = _field(data, at)
            self._fields.setdefault(number, []).append(value)

    def integer(self, number: int) -> int:
        """An unsigned integer, boolean or word of an enumeration; 0 where there is none."""
        value = self._last(number, 0)
        if not isinstance(value, int):
            raise MalformedFrame("protobuf", f"field {number} is no number")
        return value

    def signed(self, number: int) -> int:
        """An `int32` or `int64`: negative ones are written as 64 bits."""
        value = self.integer(number)
        return value - 2**64 if value >= 2**63 else value

    def single(self, number: int) -> float:
        """A `float`; 0 where there is none."""
        (found,) = struct.unpack("<f", self.integer(number).to_bytes(8, "little")[:4])
        return float(found)

    def data(self, number: int) -> bytes:
        """Bytes; empty where there are none."""
        value = self._last(number, b"")
        if not isinstance(value, bytes):
            raise MalformedFrame("protobuf", f"field {number} is no bytes")
        return value

    def text(self, number: int) -> str:
        """A text; empty where there is none."""
        try:
            return self.data(number).decode()
        except UnicodeDecodeError:
            raise MalformedFrame("protobuf", f"field {number} is no text") from None

    def message(self, number: int) -> Message:
        """A message inside; one without fields where there is none."""
        return Message(self.data(number))

    def messages(self, number: int) -> list[Message]:
        """All messages inside with this number."""
        found = self._fields.get(number, [])
        if not all(isinstance(each, bytes) for each in found):
            raise MalformedFrame("protobuf", f"field {number} is no message")
        return [Message(each) for each in found if isinstance(each, bytes)]

    def _last(self, number: int, default: Value) -> Value:
        return self._fields.get(number, [default])[-1]


def integer(number: int, value: int) -> bytes:
    """An unsigned integer or boolean; nothing for 0, which is what its absence means."""
    return _varint(number << 3 | _VARINT) + _varint(value) if value else b""


def data(number: int, value: bytes) -> bytes:
    """Bytes, a text or a message; nothing for none."""
    return _varint(number << 3 | _LEN) + _varint(len(value)) + value if value else b""


def single(number: int, value: float) -> bytes:
    """A `float`; nothing for 0."""
    return _varint(number << 3 | _I32) + struct.pack("<f", value) if value else b""


def timestamp(number: int, at_us: int) -> bytes:
    """A `google.protobuf.Timestamp`."""
    seconds, us = divmod(at_us, 1_000_000)
    return data(number, integer(1, seconds) + integer(2, us * 1_000))


def _field(buffer: bytes, at: int) -> tuple[int, int, Value]:
    """The end, number and value of the field that begins at ``at``."""
    at, key = _read_varint(buffer, at)
    number, kind = key >> 3, key & 7
    if not 0 < number < 2**29:
        raise MalformedFrame("protobuf", f"no field has the number {number}")
    if kind == _VARINT:
        at, value = _read_varint(buffer, at)
        return at, number, value
    if kind == _LEN:
        at, length = _read_varint(buffer, at)
        return at + length, number, _slice(buffer, at, length)
    if kind in (_I64, _I32):
        length = 8 if kind == _I64 else 4
        return at + length, number, int.from_bytes(_slice(buffer, at, length), "little")
    raise MalformedFrame("protobuf", f"no type has the number {kind}")


def _slice(buffer: bytes, at: int, length: int) -> bytes:
    if length > len(buffer) - at:
        raise MalformedFrame("protobuf", "ends before its length")
    return buffer[at : at + length]


def _read_varint(buffer: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(buffer):
            raise MalformedFrame("protobuf", "ends within a number")
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return at, value & (2**64 - 1)
    raise MalformedFrame("protobuf", "a number of more than ten bytes")


def _varint(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
