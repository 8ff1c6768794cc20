"""Yobiiq EM2101 (one phase, with a relay) and EM4301 (three phases): DIN-rail energy meters, class C.

A payload is a row of `channel, type, value`, the value big-endian with the length of its type; types and lengths follow
the decoders that the maker published in TheThingsNetwork/lorawan-devices (`vendor/yobiiq`, Apache-2.0). Energies are
whole Wh by tariff of the meter (T1, T2); what is charged is their sum, so a report that has only one of them has no
register. The time of a value is that of the meter's data logger where it is sent.

Neither has a sensor of its cover or of magnets. What they measure tells two things: active power of the whole meter that is
negative is energy that flows back, and a phase without voltage beside one with is a phase that was lost. The one input of
an EM2101 is whatever is wired to it: as the model `em2101-cover` it is a contact that is closed while the cover is shut.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from prewatt.hes.drivers.lorawan.report import (
    COVER,
    PHASE_LOSS,
    REVERSE_FLOW,
    Condition,
    Cursor,
    Model,
    Report,
)
from prewatt.hes.frames import (
    ACTIVE_EXPORT,
    ACTIVE_IMPORT,
    REACTIVE_IMPORT,
    MalformedFrame,
    RelayState,
)

_CONTROL_PORT: Final = 50
_STATE_PORT: Final = 11
_LOG_PORT: Final = 60

#: Length of each type of measurement: the same in both, but that three phases have more of them.
_MEASUREMENTS: Final = {
    **dict.fromkeys((0x00, 0x01, *range(0x03, 0x1D)), 4),
    **dict.fromkeys(range(0x1D, 0x20), 1),
    **dict.fromkeys(range(0x20, 0x24), 2),
    **dict.fromkeys(range(0x24, 0x2C), 4),
    0xF0: 2,
    0xF1: 2,
    0xF2: 2,
}
_CLOCK, _LOGGED_AT, _FIRMWARE = 0x01, 0x03, 0xF1
_MODBUS_CHANNEL, _MODBUS_ERROR = 0x0B, 0x0A
_ENERGIES: Final = {
    ACTIVE_IMPORT: (0x04, 0x05),
    ACTIVE_EXPORT: (0x06, 0x07),
    REACTIVE_IMPORT: (0x08, 0x09),
}
_POWER_OF_ONE, _POWER_OF_THREE = 0x14, 0x13
#: Whole W by which energy has to flow back: less is what a meter at no load may show.
_BACK_W: Final = 50
_VOLTAGES: Final = (0x0C, 0x0D, 0x0E)
_STATE_RELAY, _STATE_INPUT = 0x01, 0x02

#: Length of each type of the meter's own information; the name of the model is the rest of the payload.
_INFO: Final = {
    0x00: 1,
    0x09: 2,
    0x0A: 2,
    0x0B: 1,
    0x0F: 1,
    0x16: 4,
    0x1E: 2,
    0x1F: 1,
    0x20: 4,
    0x21: 2,
    **dict.fromkeys(range(0x3C, 0x44), 2),
    0x44: 1,
    **dict.fromkeys(range(0x50, 0x58), 2),
    0x58: 1,
}
_INFO_RELAY, _INFO_FIRMWARE, _INFO_POWER, _INFO_MODEL = 0x00, 0x0A, 0x0B, 0x28

_RELAYS: Final[dict[int, RelayState]] = {0: "open", 1: "closed"}


def decode(port: int, data: bytes, *, power: int, has_contact: bool = False) -> Report:
    """One uplink, or raise `MalformedFrame`.

    ``power`` is the type of the whole meter's active power; ``has_contact`` says that a cover's contact is wired to the input.
    """
    if len(data) == 1:
        return _answer(data[0])
    if 1 <= port <= 10:
        return _measurements(data, power)
    if port == _STATE_PORT:
        return _state(data, has_contact=has_contact)
    if port == _CONTROL_PORT:
        return _information(data)
    if port == _LOG_PORT:
        # Why its relay moved; that it moved comes by the port of states.
        return Report()
    raise MalformedFrame("port", f"nothing is sent on port {port}")


def relay_command(state: RelayState) -> tuple[int, bytes]:
    """Take the relay from the display's hands (type 47), then switch it (type 48)."""
    return _CONTROL_PORT, bytes([0x07, 0x47, 0x01, 0x07, 0x48, 0x01 if state == "closed" else 0x00])


_ONE_PHASE: Final = partial(decode, power=_POWER_OF_ONE)
EM2101: Final = Model("em2101", "always", _ONE_PHASE, relay_command, None)
EM2101_COVER: Final = Model(
    "em2101-cover", "always", partial(_ONE_PHASE, has_contact=True), relay_command, None
)
EM4301: Final = Model("em4301", "always", partial(decode, power=_POWER_OF_THREE), None, None)


def _answer(code: int) -> Report:
    if code not in (0, 1):
        raise MalformedFrame("value", f"no answer has the number {code}")
    return Report(accepted=code == 0)


def _measurements(data: bytes, power: int) -> Report:
    cursor, found = Cursor(data), dict[int, int]()
    while not cursor.is_done:
        channel, kind = cursor.take(2)
        if (channel, kind) == (_MODBUS_CHANNEL, _MODBUS_ERROR):
            # The radio could not read its meter: what else stands here is not of now.
            if (error := cursor.take(1)[0]) != 0:
                raise MalformedFrame("meter_error", f"the meter's own bus says error {error}")
            continue
        length = _MEASUREMENTS.get(kind)
        if length is None:
            raise MalformedFrame("unknown", f"no measurement has the type {kind:#04x}")
        if kind in found:
            raise MalformedFrame("repeated_key", f"type {kind:#04x} comes twice")
        found[kind] = int.from_bytes(cursor.take(length), "big")
    logged_at, clock = found.get(_LOGGED_AT), found.get(_CLOCK)
    return Report(
        registers=_registers(found),
        measured_at_us=_us(clock if logged_at is None else logged_at),
        clock_us=_us(clock),
        firmware=None if _FIRMWARE not in found else _version(found[_FIRMWARE]),
        conditions=_conditions(found, power),
    )


def _conditions(found: Mapping[int, int], power: int) -> tuple[tuple[Condition, bool], ...]:
    conditions: list[tuple[Condition, bool]] = []
    if power in found:
        drawn_w = _signed(found[power])
        if drawn_w >= 0 or drawn_w <= -_BACK_W:
            conditions.append((REVERSE_FLOW, drawn_w < 0))
    voltages = [abs(_signed(found[each])) for each in _VOLTAGES if each in found]
    if len(voltages) == len(_VOLTAGES) and max(voltages) > 0:
        # Loads between phases feed a lost one with some voltage, hardly ever with half of it.
        conditions.append((PHASE_LOSS, 2 * min(voltages) < max(voltages)))
    return tuple(conditions)


def _signed(value: int) -> int:
    return value - 2**32 if value >= 2**31 else value


def _registers(found: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple(
        (code, found[first] + found[second])
        for code, (first, second) in _ENERGIES.items()
        if first in found and second in found
    )


def _state(data: bytes, *, has_contact: bool) -> Report:
    cursor, relay = Cursor(data), None
    conditions: list[tuple[Condition, bool]] = []
    while not cursor.is_done:
        _, kind = cursor.take(2)
        if kind not in (_STATE_RELAY, _STATE_INPUT):
            raise MalformedFrame("unknown", f"no state has the type {kind:#04x}")
        value = cursor.take(1)[0]
        if kind == _STATE_RELAY:
            relay = _relay(value)
        elif has_contact:
            conditions.append((COVER, _relay(value) == "open"))
    return Report(relay=relay, conditions=tuple(conditions))


def _information(data: bytes) -> Report:
    cursor = Cursor(data)
    relay: RelayState | None = None
    firmware: str | None = None
    events: list[str] = []
    while not cursor.is_done:
        _, kind = cursor.take(2)
        if kind == _INFO_MODEL:
            cursor.rest()
            break
        length = _INFO.get(kind)
        if length is None:
            raise MalformedFrame("unknown", f"no information has the type {kind:#04x}")
        value = cursor.take(length)
        if kind == _INFO_RELAY:
            relay = _relay(value[0])
        elif kind == _INFO_FIRMWARE:
            firmware = _version(int.from_bytes(value, "big"))
        elif kind == _INFO_POWER:
            events.append("power_up" if value[0] else "power_down")
    return Report(relay=relay, firmware=firmware, events=tuple(events))


def _relay(value: int) -> RelayState:
    if value not in _RELAYS:
        raise MalformedFrame("value", f"a relay is not {value}")
    return _RELAYS[value]


def _version(value: int) -> str:
    return f"V{value >> 8:x}.{value & 0xFF:x}"


def _us(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1_000_000
