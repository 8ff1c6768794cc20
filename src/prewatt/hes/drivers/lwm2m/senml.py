"""SenML JSON and SenML CBOR (RFC 8428) as LwM2M 1.1 uses them (Core 1.1.1, sections 7.4.5 and 7.4.6), to items.

A name is a path, `bn` and `n` put together; a time is absolute or, below 2^28, relative to now, which nothing is
billed by: such a value is as good as one without a time. The JSON is read by the reader of the MQTT driver,
which refuses what two readers could disagree on.
"""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Final, cast

from prewatt.hes.drivers.lwm2m import cbor
from prewatt.hes.drivers.lwm2m.objects import Path
from prewatt.hes.drivers.lwm2m.values import MAX_ITEMS, MAX_PAYLOAD_BYTES, Item, Value
from prewatt.hes.drivers.mqtt_senml.codec import parse_pack, scaled, seconds
from prewatt.hes.drivers.senml_cbor import LABELS, records_of
from prewatt.hes.frames import MalformedFrame

JSON: Final = 110
CBOR: Final = 112

_NUMBERS: Final = {name: label for label, name in LABELS.items()}
_NAME: Final = re.compile(r"/?(\d{1,5}(?:/\d{1,5}){0,3})/?", re.ASCII)
_BASE64: Final = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_VERSION: Final = 10
_FIRST_ABSOLUTE_US: Final = 2**28 * 1_000_000
_LAST_US: Final = 253_402_300_800_000_000
_MAX_NAME: Final = 48
_DIGITS_MAX: Final = 40
#: Wide enough for the sum of any two numbers that are taken.
_EXACT: Final = Context(prec=4 * _DIGITS_MAX)

Record = dict[str, object]


def decode(content_format: int, payload: bytes, *, base: Path = ()) -> list[Item]:
    """The values of a pack. Raises MalformedFrame and nothing else.

    Where a path was asked for (`base`), what stands beside it is refused.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MalformedFrame("oversize", f"{len(payload)} bytes")
    records = (
        parse_pack(payload)
        if content_format == JSON
        else records_of(payload, records_max=MAX_ITEMS)
    )
    name, time_us, value = "", 0, cast("int | Decimal", 0)
    items: list[Item] = []
    for record in records:
        _refuse_unknown(record)
        name = _text(record, "bn", name)
        time_us = _us(record, "bt", time_us)
        value = _number(record, "bv", value)
        if not ({"n", "v", "vb", "vs", "vd", "vlo"} & record.keys()):
            continue
        path = _path(name + _text(record, "n", ""))
        if path[: len(base)] != base:
            raise MalformedFrame("name", f"{path} was not asked for")
        own_us = time_us + _us(record, "t", 0)
        is_told = _FIRST_ABSOLUTE_US <= own_us < _LAST_US
        if own_us >= _LAST_US:
            raise MalformedFrame("time", f"not a time: {own_us} us")
        items.append(Item(path, _value(record, value), own_us if is_told else None))
    if len(items) > MAX_ITEMS:
        raise MalformedFrame("too_many", f"{len(items)} values")
    return items


def encode(content_format: int, items: Sequence[Item]) -> bytes:
    """A pack of values, each with its whole path; numbers exactly."""
    records: list[Record] = []
    for item in items:
        record: Record = {"n": "/" + "/".join(map(str, item.path))}
        if isinstance(item.value, bool):
            record["vb"] = item.value
        elif isinstance(item.value, int | Decimal):
            record["v"] = item.value
        elif isinstance(item.value, str):
            record["vs"] = item.value
        else:
            record["vd"] = item.value if content_format == CBOR else _to_base64(item.value)
        if item.at_us is not None:
            record["t"] = Decimal(seconds(item.at_us))
        records.append(record)
    if content_format == JSON:
        return b"[" + b",".join(map(_to_json, records)) + b"]"
    return cbor.encode_pack(
        [
            cast(cbor.CborMap, {_NUMBERS[key]: value for key, value in record.items()})
            for record in records
        ]
    )


def _to_json(record: Record) -> bytes:
    fields = [
        f'"{key}":{value if isinstance(value, Decimal) else json.dumps(value)}'
        for key, value in record.items()
    ]
    return ("{" + ",".join(fields) + "}").encode()


def _refuse_unknown(record: Record) -> None:
    for key in record:
        if key.endswith("_"):
            raise MalformedFrame("must_understand", f"unknown mandatory field {key[:60]!r}")
    if _number(record, "bver", 0) > _VERSION:
        raise MalformedFrame("version", "a newer SenML version than RFC 8428")


def _path(name: str) -> Path:
    found = _NAME.fullmatch(name)
    if found is None:
        raise MalformedFrame("name", f"not a path: {name[:60]!r}")
    path = tuple(map(int, found[1].split("/")))
    if max(path) > 65_535:
        raise MalformedFrame("name", f"not a path: {name[:60]!r}")
    return path


def _value(record: Record, base: int | Decimal) -> Value:
    given = [key for key in ("v", "vb", "vs", "vd", "vlo") if key in record]
    if len(given) != 1:
        raise MalformedFrame("type", "not one value")
    (key,) = given
    if key == "v":
        own = _number(record, "v", 0)
        return own if not base else _EXACT.add(Decimal(own), Decimal(base))
    value = record[key]
    if key == "vb":
        if not isinstance(value, bool):
            raise MalformedFrame("type", "vb is not a boolean")
        return value
    if key == "vd":
        return value if isinstance(value, bytes) else _from_base64(value)
    return _text(record, key, "")


def _to_base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _from_base64(value: object) -> bytes:
    """What JSON carries of bytes (RFC 8428, section 4.3): without padding, and in one way alone."""
    try:
        if isinstance(value, str) and _BASE64.fullmatch(value):
            content = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
            if _to_base64(content) == value:
                return content
    except binascii.Error:
        pass
    raise MalformedFrame("value", "vd is not Base64")


def _number(record: Record, key: str, otherwise: int | Decimal) -> int | Decimal:
    value = record.get(key, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise MalformedFrame("type", f"{key} is not a number")
    _, digits, exponent = Decimal(value).as_tuple()
    if not isinstance(exponent, int) or len(digits) > _DIGITS_MAX or abs(exponent) > _DIGITS_MAX:
        raise MalformedFrame("range", f"{key} is out of range")
    return value


def _us(record: Record, key: str, otherwise: int) -> int:
    return scaled(_number(record, key, 0), 6, key) if key in record else otherwise


def _text(record: Record, key: str, otherwise: str) -> str:
    value = record.get(key, otherwise)
    if not isinstance(value, str):
        raise MalformedFrame("type", f"{key} is not a text")
    limit = _MAX_NAME if key in ("n", "bn") else 255
    if len(value) > limit or "\x00" in value:
        raise MalformedFrame("value", f"{key} is no text of ours")
    return value
