"""Milesight WS52x (WS523, WS525): a socket that measures and switches, class C.

A payload is a row of `channel, type, value`, the value little-endian; channels, types and units follow the maker's
published decoder in TheThingsNetwork/lorawan-devices (`vendor/milesight-iot/ws52x.js`, Apache-2.0) and the maker's
table of them. The register is in whole Wh. The socket has no clock, so its readings are dated by the network server.
A newer firmware may add channels at the end: what stands before one that is not known is kept. What a downlink has set is
repeated in an uplink, on channel FE or FF. It has no sensor of its cover or of magnets.
"""

from __future__ import annotations

from typing import Final

from prewatt.hes.drivers.lorawan.report import Cursor, Model, Report
from prewatt.hes.frames import ACTIVE_IMPORT, MalformedFrame, RelayState

_PORT: Final = 85
_LENGTHS: Final = {
    (0x03, 0x74): 2,  # voltage, 0.1 V
    (0x04, 0x80): 4,  # active power, W
    (0x05, 0x81): 1,  # power factor, %
    (0x06, 0x83): 4,  # energy, Wh
    (0x07, 0xC9): 2,  # current, mA
    (0x08, 0x70): 1,  # socket: 0 off, 1 on
    (0xFF, 0x01): 1,  # version of the format
    (0xFF, 0x09): 2,  # hardware
    (0xFF, 0x0A): 2,  # firmware
    (0xFF, 0x0B): 1,  # power came
    (0xFF, 0x0F): 1,  # class
    (0xFF, 0x16): 8,  # serial number
    (0xFF, 0xFE): 1,  # was reset
    (0xFF, 0xFF): 2,  # version of the description
}
#: What a downlink has set or asked for, by its type: period, restart, report, timers, alarm of current, buttons,
#: metering, register begun anew, attributes, lamp, protection.
_SET: Final = {
    0x03: 2, 0x10: 1, 0x28: 1, 0x22: 4, 0x23: 2, 0x24: 2, 0x25: 2, 0x26: 1, 0x27: 1, 0x2C: 1, 0x2F: 1, 0x30: 2,
}  # fmt: skip
_SET_CHANNELS: Final = (0xFE, 0xFF)
_ENERGY, _SOCKET, _FIRMWARE, _POWER = (0x06, 0x83), (0x08, 0x70), (0xFF, 0x0A), (0xFF, 0x0B)


def decode(port: int, data: bytes) -> Report:
    """One uplink, or raise `MalformedFrame`."""
    if port != _PORT:
        raise MalformedFrame("port", f"nothing is sent on port {port}")
    cursor, found = Cursor(data), dict[tuple[int, int], bytes]()
    while not cursor.is_done:
        channel, kind = cursor.take(2)
        length = _LENGTHS.get((channel, kind))
        if length is None and channel in _SET_CHANNELS:
            length = _SET.get(kind)
        if length is None:
            if not found:
                raise MalformedFrame("unknown", f"no channel {channel:#04x} has type {kind:#04x}")
            break
        if (channel, kind) in found:
            raise MalformedFrame("repeated_key", f"channel {channel:#04x} comes twice")
        found[channel, kind] = cursor.take(length)
    energy = found.get(_ENERGY)
    return Report(
        registers=() if energy is None else ((ACTIVE_IMPORT, int.from_bytes(energy, "little")),),
        relay=_relay(found[_SOCKET][0]) if _SOCKET in found else None,
        firmware=_version(found[_FIRMWARE]) if _FIRMWARE in found else None,
        events=("power_up",) if _POWER in found else (),
    )


def relay_command(state: RelayState) -> tuple[int, bytes]:
    """Switch the socket."""
    return _PORT, bytes([0x08, 0x01 if state == "closed" else 0x00, 0xFF])


WS52X: Final = Model("ws52x", "always", decode, relay_command, (_PORT, b"\xff\x28\xff"))


def _relay(value: int) -> RelayState:
    if value not in (0, 1):
        raise MalformedFrame("value", f"a socket is not {value}")
    return "closed" if value else "open"


def _version(value: bytes) -> str:
    return f"v{value[0]:x}.{value[1]:02x}"
