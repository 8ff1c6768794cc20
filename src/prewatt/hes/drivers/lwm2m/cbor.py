"""As much of CBOR (RFC 8949) as SenML needs, read with a bound on everything: an array of flat maps.

Numbers come out exactly: integers, decimal fractions (tag 4), and binary fractions as the decimals that they
stand for. Other tags are refused, and so is whatever is nested deeper.

Why not cbor2, which `core` reads signed instructions with? Not for its memory: 5.9 takes no array, map or text of 2^32 for
its word, and nothing deeper than 400. But it makes lists that hold themselves of tags 28 and 29, compiles the regular
expression of a stranger (tag 35), takes a float for a float and of a label that comes twice the last. What is signed is
held to the one encoding of what was understood; a reading has many, and each figure in it is money.
"""

from decimal import Decimal
from typing import Final

from prewatt.hes.drivers.lwm2m.values import decimal_of
from prewatt.hes.frames import MalformedFrame

CborValue = int | Decimal | bool | str | bytes | None
CborMap = dict[int | str, CborValue]

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_ENDLESS: Final = 31
_BREAK: Final = 0xFF
_DECIMAL_FRACTION: Final = 4
_KEYS_MAX: Final = 64
_EXPONENT_MAX: Final = 40
_SIMPLE_VALUES: Final[dict[int, bool | None]] = {20: False, 21: True, 22: None, 23: None}


def decode_pack(payload: bytes, *, records_max: int) -> list[CborMap]:
    """The maps of an array. Raises MalformedFrame and nothing else; a key that comes twice is one reason."""
    reader = _Reader(payload)
    records = reader.array_of_maps(records_max)
    if not reader.is_at_end:
        raise MalformedFrame("cbor", "something follows")
    return records


class _Reader:
    """One pass over the bytes; every length is held against what there is before anything is made of it."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._payload)

    def array_of_maps(self, limit: int) -> list[CborMap]:
        count = self._count(_ARRAY, limit)
        records: list[CborMap] = []
        while not self._is_over(count, len(records)):
            if len(records) >= limit:
                raise MalformedFrame("too_many", f"more than {limit} records")
            records.append(self._map())
        return records

    def _map(self) -> CborMap:
        count = self._count(_MAP, _KEYS_MAX)
        found: CborMap = {}
        seen = 0
        while not self._is_over(count, seen):
            seen += 1
            if seen > _KEYS_MAX:
                raise MalformedFrame("too_many", f"more than {_KEYS_MAX} fields")
            key = self._value()
            if not isinstance(key, int | str) or isinstance(key, bool):
                raise MalformedFrame("type", "a label that is neither number nor text")
            if key in found:
                raise MalformedFrame("repeated_key", "a label appears twice")
            found[key] = self._value()
        return found

    def _count(self, major: int, limit: int) -> int | None:
        """How many entries follow; None where the end is told by a break."""
        head = self._byte()
        if head >> 5 != major:
            raise MalformedFrame("type", "not an array of maps")
        if head & 31 == _ENDLESS:
            return None
        count = self._argument(head & 31)
        if count > limit:
            raise MalformedFrame("too_many", f"{count} entries")
        return count

    def _is_over(self, count: int | None, seen: int) -> bool:
        if count is not None:
            return seen == count
        if self._at < len(self._payload) and self._payload[self._at] == _BREAK:
            self._at += 1
            return True
        return False

    def _value(self) -> CborValue:
        head = self._byte()
        major, info = head >> 5, head & 31
        if major == _SIMPLE:
            return self._simple(info)
        if info == _ENDLESS:
            raise MalformedFrame("cbor", "a text in pieces")
        if major == _TAG:
            return self._decimal_fraction(self._argument(info))
        number = self._argument(info)
        if major == _UNSIGNED:
            return number
        if major == _NEGATIVE:
            return -1 - number
        if major == _BYTES:
            return self._take(number)
        if major == _TEXT:
            try:
                return self._take(number).decode()
            except UnicodeDecodeError:
                raise MalformedFrame("cbor", "a text that is not UTF-8") from None
        raise MalformedFrame("type", "nested too deeply")

    def _simple(self, info: int) -> CborValue:
        if info in (25, 26, 27):
            return decimal_of(self._take(1 << info - 24))
        if info not in _SIMPLE_VALUES:
            raise MalformedFrame("cbor", f"simple value {info}")
        return _SIMPLE_VALUES[info]

    def _decimal_fraction(self, tag: int) -> Decimal:
        if tag != _DECIMAL_FRACTION or self._byte() != _ARRAY << 5 | 2:
            raise MalformedFrame("cbor", f"tag {tag}")
        # Integers and nothing else: whatever may hold another of its kind may do so without end.
        exponent, mantissa = self._integer(), self._integer()
        if abs(exponent) > _EXPONENT_MAX:
            raise MalformedFrame("range", "a number is out of range")
        return Decimal(mantissa).scaleb(exponent)

    def _integer(self) -> int:
        head = self._byte()
        if head >> 5 > _NEGATIVE:
            raise MalformedFrame("type", "a decimal fraction is of two integers")
        number = self._argument(head & 31)
        return number if head >> 5 == _UNSIGNED else -1 - number

    def _argument(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            raise MalformedFrame("cbor", f"additional information {info}")
        return int.from_bytes(self._take(1 << info - 24), "big")

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, size: int) -> bytes:
        if self._at + size > len(self._payload):
            raise MalformedFrame("cbor", "cut off")
        self._at += size
        return self._payload[self._at - size : self._at]


def encode_pack(records: list[CborMap]) -> bytes:
    """Maps of integers, decimals, booleans and texts as CBOR."""
    return _head(_ARRAY, len(records)) + b"".join(map(_encode_map, records))


def _encode_map(record: CborMap) -> bytes:
    parts = [_head(_MAP, len(record))]
    for key, value in record.items():
        parts += [_encode(key), _encode(value)]
    return b"".join(parts)


def _encode(value: CborValue) -> bytes:
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
    if isinstance(value, Decimal):
        sign, digits, exponent = value.as_tuple()
        assert isinstance(exponent, int), "finite"
        mantissa = int("".join(map(str, digits))) * (-1 if sign else 1)
        return b"\xc4\x82" + _encode(exponent) + _encode(mantissa)
    if isinstance(value, str):
        content = value.encode()
        return _head(_TEXT, len(content)) + content
    assert isinstance(value, bytes), "what else is there"
    return _head(_BYTES, len(value)) + value


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    size = next(each for each in range(4) if number < 1 << (8 << each))
    return bytes([major << 5 | 24 + size]) + number.to_bytes(1 << size, "big")
