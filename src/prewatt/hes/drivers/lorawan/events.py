"""What a network server says of a device, whichever server it is: the one shape that both codecs make.

A device is named by its DevEUI as 16 lower-case hexadecimal digits, which is also the serial number of its meter.
Instants are the network server's, in microseconds since 1970 UTC. Levels are whole dBm, ratios tenths of a dB.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from prewatt.core.civil_time import instant_us
from prewatt.hes.frames import MalformedFrame

MAX_EVENT_BYTES: Final = 65_536
"""No event is longer: one with 100 gateways has some 40 kB as JSON."""
MAX_PAYLOAD_BYTES: Final = 242
"""The longest FRMPayload of LoRaWAN (data rate 5 and better in EU868)."""
MAX_GATEWAYS: Final = 256
MAX_TEXT: Final = 128
MAX_COUNTER: Final = 2**32 - 1

_FIRST_US: Final = 2**28 * 1_000_000
_LAST_US: Final = 253_402_300_800_000_000  # the year 10000
_EUI = re.compile(r"[0-9A-Fa-f]{16}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Signal:
    """How the best of the gateways heard an uplink; None where the server does not say."""

    gateway: str
    rssi_dbm: int | None
    snr_db_tenths: int | None
    gateways: int
    spreading_factor: int | None


@dataclass(frozen=True, slots=True)
class Uplink:
    """A payload of a device. ``event_id`` is the server's own name for it, the same however often it is told.

    ``device_class`` is A, B or C; empty where the server does not say.
    """

    eui: str
    address: str
    at_us: int
    event_id: str
    f_cnt: int
    f_port: int
    data: bytes
    signal: Signal
    device_class: str = ""


@dataclass(frozen=True, slots=True)
class Joined:
    """A device has new keys, so its frame counters begin again."""

    eui: str
    address: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A downlink was handed to a gateway; whether the device heard it is not known yet."""

    eui: str
    address: str
    at_us: int
    downlink_id: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A confirmed downlink was received by its device, or was not."""

    eui: str
    address: str
    at_us: int
    downlink_id: str
    is_received: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """The server gave a downlink up before it was sent; ``downlink_id`` is empty where it does not say which."""

    eui: str
    address: str
    at_us: int
    downlink_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Remark:
    """Anything else of a device that needs no answer: a log entry, its battery, a place in the queue."""

    eui: str
    address: str
    at_us: int
    what: str


Event = Uplink | Joined | Sent | Settled | Failed | Remark


@dataclass(frozen=True, slots=True)
class Downlink:
    """A payload for a device. ``downlink_id`` is a UUID; after ``expires_at_us`` it shall not be sent any more."""

    eui: str
    address: str
    downlink_id: str
    f_port: int
    data: bytes
    expires_at_us: int


class NetworkServer(Protocol):
    """A network server's codec: topics and bytes, no sockets, no clock, no state."""

    @property
    def name(self) -> str:
        """What it is called where one is chosen."""

    @property
    def subscription(self) -> str:
        """The topics of all events of all devices."""

    @property
    def qos(self) -> int:
        """The highest quality of service that the server's broker has."""

    def decode(self, topic: str, payload: bytes, *, received_at_us: int) -> Event:
        """Decode one event, or raise `MalformedFrame` and nothing else."""

    def encode(self, downlink: Downlink) -> tuple[str, bytes]:
        """The topic and payload that put a downlink into the server's queue."""


def eui_of(text: str) -> str:
    """A DevEUI as it is written here, or raise `MalformedFrame`."""
    if not _EUI.fullmatch(text):
        raise MalformedFrame("eui", f"not a DevEUI: {text[:40]!r}")
    return text.lower()


def name_of(text: str, what: str) -> str:
    """A name that may stand in a topic, or raise `MalformedFrame`."""
    if not _NAME.fullmatch(text):
        raise MalformedFrame("topic", f"not the name of {what}: {text[:40]!r}")
    return text


def text_of(text: str, what: str) -> str:
    """A text that can be stored, or raise `MalformedFrame`."""
    if len(text) > MAX_TEXT or "\x00" in text:
        raise MalformedFrame("value", f"{what} cannot be kept")
    return text


def checked_us(at_us: int, received_at_us: int) -> int:
    """An absolute instant, the time of receipt where the server says none (0); else `MalformedFrame`."""
    if at_us == 0:
        return received_at_us
    if not _FIRST_US <= at_us < _LAST_US:
        raise MalformedFrame("time", f"not an absolute time: {at_us} us")
    return at_us


def time_us(at: datetime | None) -> int:
    """Microseconds of an instant that has a zone; 0 for none."""
    if at is None:
        return 0
    if at.tzinfo is None:
        raise MalformedFrame("time", "a time without a zone")
    return instant_us(at)


def checked_uplink(uplink: Uplink) -> Uplink:
    """The uplink, if its numbers can be those of LoRaWAN; else `MalformedFrame`."""
    if not 0 <= uplink.f_cnt <= MAX_COUNTER:
        raise MalformedFrame("range", f"a frame counter of {uplink.f_cnt}")
    if not 0 <= uplink.f_port <= 255:
        raise MalformedFrame("range", f"a port of {uplink.f_port}")
    if len(uplink.data) > MAX_PAYLOAD_BYTES:
        raise MalformedFrame("oversize", f"a payload of {len(uplink.data)} bytes")
    return uplink


def signal_of(
    heard: list[tuple[str, int | None, float | None]], spreading_factor: int | None
) -> Signal:
    """How the best gateway heard it, of ``(gateway, rssi, snr)``: by the ratio first, then by the level."""
    if len(heard) > MAX_GATEWAYS:
        raise MalformedFrame("too_many", f"{len(heard)} gateways")
    told = [
        (text_of(gateway, "a gateway"), _bounded(rssi), _tenths(snr))
        for gateway, rssi, snr in heard
    ]
    gateway, rssi, snr = max(told, key=_by_quality, default=("", None, None))
    if spreading_factor is not None and not 5 <= spreading_factor <= 12:
        spreading_factor = None
    return Signal(gateway, rssi, snr, len(heard), spreading_factor)


def _by_quality(heard: tuple[str, int | None, int | None]) -> tuple[int, int]:
    _, rssi, snr = heard
    return (-10_000 if snr is None else snr, -10_000 if rssi is None else rssi)


def _bounded(rssi: int | None) -> int | None:
    return rssi if rssi is not None and -200 <= rssi <= 50 else None


def _tenths(snr: float | None) -> int | None:
    # A comparison with NaN is false, so it becomes None like everything that is no ratio.
    return round(snr * 10) if snr is not None and -100 <= snr <= 100 else None
