"""What a device said in one uplink, and what a plug-in for its model has to offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from prewatt.hes.frames import MalformedFrame, RelayState

MAX_REGISTER: Final = 10**15


@dataclass(frozen=True, slots=True)
class Report:
    """One payload, decoded. ``registers`` are ``(register code, value)`` of one instant, in the code's unit.

    ``measured_at_us`` and ``clock_us`` are by the device's own clock, None where it has none: the reading is
    then dated by the network server. ``accepted`` is its word on the last command.
    """

    registers: tuple[tuple[int, int], ...] = ()
    measured_at_us: int | None = None
    clock_us: int | None = None
    relay: RelayState | None = None
    firmware: str | None = None
    accepted: bool | None = None
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """A plug-in. ``relay`` and ``read`` give port and bytes of downlinks; None: the device cannot.

    ``listens`` says when a downlink reaches the device: always (class C) or after its own uplinks (class A).
    """

    name: str
    listens: Literal["always", "after_uplinks"]
    decode: Callable[[int, bytes], Report]
    relay: Callable[[RelayState], tuple[int, bytes]] | None
    read: tuple[int, bytes] | None


class Cursor:
    """Takes a payload apart from its beginning; an end that comes too early refuses the whole."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._data)

    def take(self, length: int) -> bytes:
        """The next bytes, or raise `MalformedFrame`."""
        if length > len(self._data) - self._at:
            raise MalformedFrame("truncated", f"ends {length} bytes before its length")
        taken = self._data[self._at : self._at + length]
        self._at += length
        return taken

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data) - self._at)
