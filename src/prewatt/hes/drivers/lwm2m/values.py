"""Values of LwM2M as Python has them, exactly: a binary fraction of the wire becomes the decimal that it stands for.

A register must come out as a whole number of Wh, and half of what LwM2M calls a Float cannot hold one: a single
(32 bits) counts Wh one by one up to 16,777,216, which a flat passes in a few years. What is beyond
that, or has more digits than its width carries, is refused and never rounded.
"""

import math
import struct
from decimal import Decimal
from typing import Final, NamedTuple

import numpy as np

from prewatt.hes.drivers.lwm2m.objects import Kind, Path
from prewatt.hes.frames import MalformedFrame

Value = int | Decimal | bool | str | bytes

MAX_TEXT_BYTES: Final = 255
MAX_ITEMS: Final = 2_048
MAX_PAYLOAD_BYTES: Final = 65_536
"""More than a meter says in one message, whatever the blocks that it comes in."""

#: By the width in bytes: up to where each whole number is itself, and how many decimal digits are.
_EXACT: Final = {2: (2**11, 3), 4: (2**24, 6), 8: (2**53, 15)}


class Item(NamedTuple):
    """One value of a message: where it is in the tree, and the instant (µs UTC) it is of, where that is told."""

    path: Path
    value: Value
    at_us: int | None = None


def decimal_of(number: bytes) -> Decimal:
    """The decimal that a big-endian binary fraction of 2, 4 or 8 bytes stands for. Raises MalformedFrame."""
    (value,) = struct.unpack({2: ">e", 4: ">f", 8: ">d"}[len(number)], number)
    if not math.isfinite(value):
        raise MalformedFrame("value", "a number that is none")
    whole, digits = _EXACT[len(number)]
    if value == int(value) and abs(value) <= whole:
        return Decimal(int(value))
    narrow = {2: np.float16, 4: np.float32, 8: np.float64}[len(number)](value)
    shortest = Decimal(str(narrow))
    if len(shortest.as_tuple().digits) > digits:
        raise MalformedFrame(
            "precision", f"{shortest} has more digits than {len(number)} bytes hold"
        )
    return shortest


def read_bytes(kind: Kind, content: bytes) -> Value:
    """A value as TLV carries it (big-endian, by its kind). Raises MalformedFrame."""
    if kind in (Kind.INTEGER, Kind.TIME):
        if len(content) not in (1, 2, 4, 8):
            raise MalformedFrame("type", f"an integer of {len(content)} bytes")
        return int.from_bytes(content, "big", signed=True)
    if kind is Kind.FLOAT:
        if len(content) not in (4, 8):
            raise MalformedFrame("type", f"a float of {len(content)} bytes")
        return decimal_of(content)
    if kind is Kind.BOOLEAN:
        if content not in (b"\x00", b"\x01"):
            raise MalformedFrame("type", f"a boolean {content[:8].hex()}")
        return content == b"\x01"
    if kind is Kind.STRING:
        return text_of(content)
    return content


def read_text(kind: Kind, content: bytes) -> Value:
    """A value as `text/plain` carries it (Core 1.1.1, 7.4.2). Raises MalformedFrame."""
    text = text_of(content)
    if kind is Kind.BOOLEAN:
        if text not in ("0", "1"):
            raise MalformedFrame("type", f"a boolean {text[:20]!r}")
        return text == "1"
    if kind in (Kind.INTEGER, Kind.TIME, Kind.FLOAT):
        try:
            # Bounded by the length of the text, and an exponent is bounded where it is scaled.
            number = Decimal(text)
        except ArithmeticError:
            raise MalformedFrame("type", f"not a number: {text[:40]!r}") from None
        if not number.is_finite() or len(text) > 40:
            raise MalformedFrame("value", f"a number that is none: {text[:40]!r}")
        return number
    return text


def text_of(content: bytes) -> str:
    """A text of the wire. Raises MalformedFrame for what is too long, no UTF-8, or cannot be stored."""
    if len(content) > MAX_TEXT_BYTES:
        raise MalformedFrame("range", f"a text of {len(content)} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise MalformedFrame("type", "a text that is not UTF-8") from None
    if "\x00" in text:
        raise MalformedFrame("value", "a text contains a NUL")
    return text
