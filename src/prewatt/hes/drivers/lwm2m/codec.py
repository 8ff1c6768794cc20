"""What LwM2M devices say, as the head-end's frames, and what the head-end asks of them: no sockets, no clock.

One entrance for every content format (`decode`), and one from values to readings (`readings`). The object map
and what is refused are in README.md.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

import numpy as np

from prewatt.hes.drivers.lwm2m import senml, tlv
from prewatt.hes.drivers.lwm2m.objects import (
    CLOCK,
    ENERGY,
    ENERGY_DRAWN,
    POWER_DRAWN_TOTAL,
    REGISTERS,
    RELAY_CONTACT,
    RELAY_ORDER,
    SIGNED_ANSWER,
    Kind,
    Path,
    kind_of,
    path_text,
)
from prewatt.hes.drivers.lwm2m.values import (
    MAX_PAYLOAD_BYTES,
    Item,
    Value,
    read_text,
)
from prewatt.hes.drivers.mqtt_senml.codec import MAX_SEALED_BYTES, scaled
from prewatt.hes.frames import AckToken, MalformedFrame, ReadingsFrame, RelayState

TEXT: Final = 0
OPAQUE: Final = 42
#: What is understood, the best first.
CONTENT_FORMATS: Final = (senml.CBOR, senml.JSON, tlv.CONTENT_FORMAT, TEXT)

_MAX_REGISTER: Final = 10**15
_US_PER_S: Final = 1_000_000
_FIRST_US: Final = 2**28 * _US_PER_S
_LAST_US: Final = 253_402_300_800_000_000
_UNITS: Final = 5701
_ANSWERS_MAX: Final = 8
#: Decimal places that turn a unit into Wh; a sensor that names none counts Wh, as the registry's example does.
_PLACES: Final = {"Wh": 0, "W*h": 0, "W.h": 0, "kWh": 3, "kW*h": 3}


def decode(path: Path, content_format: int | None, payload: bytes) -> list[Item]:
    """The values of an answer to a request for `path`, or of a Send, whose path is ().

    Raises MalformedFrame and nothing else. Without a format it is text, as RFC 7252 has it.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MalformedFrame("oversize", f"{len(payload)} bytes")
    if content_format in (senml.JSON, senml.CBOR):
        return senml.decode(content_format, payload, base=path)
    if content_format == tlv.CONTENT_FORMAT:
        return tlv.decode(path, payload)
    if content_format in (TEXT, OPAQUE, None):
        kind = kind_of(path)
        if kind is None:
            raise MalformedFrame("name", f"{path_text(path)} is not one value")
        if kind is Kind.OPAQUE:
            return [Item(path, _opaque(content_format, payload))]
        return [Item(path, read_text(kind, payload))]
    raise MalformedFrame("format", f"content format {content_format}")


def value_at(items: Sequence[Item], path: Path) -> Value | None:
    """The last value at a path; None where there is none."""
    return next((each.value for each in reversed(items) if each.path == path), None)


def relay_of(items: Sequence[Item]) -> RelayState | None:
    """The relay as the device tells it: by its contacts where it has an input for them, else as it is set."""
    for path in (RELAY_CONTACT, RELAY_ORDER):
        value = value_at(items, path)
        if value is not None:
            return "closed" if _boolean(value, path) else "open"
    return None


def clock_of(items: Sequence[Item]) -> int | None:
    """The device's clock in µs UTC, which it tells in seconds; None where it does not, or has never been set."""
    value = value_at(items, CLOCK)
    if value is None:
        return None
    at_us = scaled(_number(value, CLOCK), 6, "clock")
    return at_us if _FIRST_US <= at_us < _LAST_US else None


def register_of(items: Sequence[Item]) -> int | None:
    """The active import register in Wh; None where it is not told."""
    values = _register_values(items)
    return values[-1][2] if values else None


def signed_answers(items: Sequence[Item]) -> list[bytes]:
    """What a meter has signed, among the values, unopened. Raises MalformedFrame."""
    found = [each.value for each in items if each.path[:3] == SIGNED_ANSWER]
    if len(found) > _ANSWERS_MAX:
        raise MalformedFrame("too_many", f"{len(found)} signed answers at once")
    answers: list[bytes] = []
    for each in found:
        if not isinstance(each, bytes):
            raise MalformedFrame("type", "a signed answer that is not opaque")
        if len(each) > MAX_SEALED_BYTES:
            raise MalformedFrame("size", f"{len(each)} bytes of a signed answer")
        # Nothing there is a meter that has answered nothing yet.
        answers += [each] if each else []
    return answers


def names_units(items: Sequence[Item]) -> bool:
    """Whether a message says itself in what each energy sensor that it tells of counts."""
    told = {each.path for each in items}
    return all((*path[:2], _UNITS) in told for path in told if path[0] == ENERGY)


def readings(
    serial: str, items: Sequence[Item], *, received_at_us: int, token: AckToken
) -> ReadingsFrame | None:
    """The readings among the values; None where there are none. Raises MalformedFrame.

    A value without a time is of the moment at which it was received: whoever measures it is asked, or tells
    of a change, right then. What is kept for later carries its time (Send), and is dated by that.
    """
    rows = [
        (received_at_us if at_us is None else at_us, code, value)
        for code, at_us, value in _all_registers(items)
    ]
    if not rows:
        return None
    at_us, codes, values = zip(*rows, strict=True)
    return ReadingsFrame(
        serial=serial,
        received_at_us=received_at_us,
        token=token,
        read_at_us=np.array(at_us, dtype=np.int64),
        register_code=np.array(codes, dtype=np.int16),
        value=np.array(values, dtype=np.int64),
        meter_clock_us=clock_of(items),
        relay=relay_of(items),
    )


_Row = tuple[int, int | None, int]


def _register_values(items: Sequence[Item]) -> list[_Row]:
    path = ENERGY_DRAWN if _has(items, ENERGY_DRAWN) else POWER_DRAWN_TOTAL
    return [_row(each, items) for each in items if each.path == path]


def _all_registers(items: Sequence[Item]) -> Iterable[_Row]:
    """Each register's values; where two objects tell the same register, the energy object's alone."""
    has_energy = _has(items, ENERGY_DRAWN)
    for each in items:
        if each.path in REGISTERS and not (has_energy and each.path == POWER_DRAWN_TOTAL):
            yield _row(each, items)


def _has(items: Sequence[Item], path: Path) -> bool:
    return any(each.path == path for each in items)


def _row(item: Item, items: Sequence[Item]) -> _Row:
    value = scaled(_number(item.value, item.path), _places(item.path, items), path_text(item.path))
    if not 0 <= value < _MAX_REGISTER:
        raise MalformedFrame("range", f"a register of {value}")
    return REGISTERS[item.path], item.at_us, value


def _places(path: Path, items: Sequence[Item]) -> int:
    """How many decimal places the unit beside a sensor's value is away from Wh."""
    if path[0] != ENERGY:
        return 0
    unit = value_at(items, (*path[:2], _UNITS))
    places = 0 if unit is None else _PLACES.get(str(unit))
    if places is None:
        raise MalformedFrame("unit", f"{str(unit)[:20]!r} is no unit of energy")
    return places


def _number(value: Value, path: Path) -> int | Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise MalformedFrame("type", f"{path_text(path)} is not a number")
    return value


def _opaque(content_format: int | None, payload: bytes) -> bytes:
    if content_format == TEXT:
        # It would be Base64 then, which nobody is asked for.
        raise MalformedFrame("format", "bytes as a text")
    return payload


def _boolean(value: Value, path: Path) -> bool:
    if not isinstance(value, bool):
        raise MalformedFrame("type", f"{path_text(path)} is not a boolean")
    return value
