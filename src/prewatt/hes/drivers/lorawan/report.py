"""What a device said in one uplink, and what a plug-in for its model has to offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from prewatt.hes.frames import MalformedFrame, RelayState

MAX_REGISTER: Final = 10**15


class Condition(NamedTuple):
    """Something that lasts at a device: the words of the events that it began and that it is over."""

    begins: str
    ends: str


COVER: Final = Condition("cover_open", "cover_closed")
TERMINAL_COVER: Final = Condition("terminal_cover_open", "terminal_cover_closed")
MAGNETIC_FIELD: Final = Condition("magnetic_field", "magnetic_field_gone")
REVERSE_FLOW: Final = Condition("reverse_flow", "reverse_flow_gone")
PHASE_LOSS: Final = Condition("phase_loss", "phase_restored")
CONDITIONS: Final = (COVER, TERMINAL_COVER, MAGNETIC_FIELD, REVERSE_FLOW, PHASE_LOSS)
"""In the order of the bits of `alarms`, the lowest first."""


@dataclass(frozen=True, slots=True)
class Report:
    """One payload, decoded. ``registers`` are ``(register code, value)`` of one instant, in the code's unit.

    ``measured_at_us`` and ``clock_us`` are by the device's own clock, None where it has none: the reading is
    then dated by the network server. ``accepted`` is its word on the last command. ``conditions`` says of some whether
    they last: a device may say so in each uplink, and only what has changed is news.
    """

    registers: tuple[tuple[int, int], ...] = ()
    measured_at_us: int | None = None
    clock_us: int | None = None
    relay: RelayState | None = None
    firmware: str | None = None
    accepted: bool | None = None
    events: tuple[str, ...] = ()
    conditions: tuple[tuple[Condition, bool], ...] = ()


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


def alarms(data: bytes) -> Report:
    """One byte with a bit for each of `CONDITIONS`, as a device of any model may send it on the port of alarms.

    Raises `MalformedFrame`.
    """
    if len(data) != 1 or data[0] >> len(CONDITIONS):
        raise MalformedFrame("value", f"no alarms: {data[:8].hex()}")
    return Report(
        conditions=tuple((each, bool(data[0] >> bit & 1)) for bit, each in enumerate(CONDITIONS))
    )


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
