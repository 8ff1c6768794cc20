"""The Things Stack v3 by the MQTT server of its application server: JSON alone, MQTT 3.1.1, QoS 0.

Follows the topics of `pkg/applicationserver/io/mqtt/topics` of lorawan-stack and its published data formats, in which
a field that is zero is left out. A downlink of ours is known again by its correlation id.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from prewatt.hes.drivers.lorawan.events import (
    MAX_EVENT_BYTES,
    Downlink,
    Event,
    Failed,
    Joined,
    Remark,
    Sent,
    Settled,
    Uplink,
    checked_uplink,
    checked_us,
    eui_of,
    name_of,
    signal_of,
    text_of,
    time_us,
)
from prewatt.hes.frames import MalformedFrame

EVENT_FILTER: Final = "v3/+/devices/+/#"
_OURS: Final = "prewatt:"
_KINDS: Final = frozenset(
    {
        "up",
        "join",
        "down/ack",
        "down/nack",
        "down/sent",
        "down/failed",
        "down/queued",
        "down/invalidated",
        "location/solved",
        "service/data",
    }
)
#: What is published to devices comes back to whoever listens to all of them.
_OWN_VOICE: Final = frozenset({"down/push", "down/replace"})


class _Ids(msgspec.Struct):
    dev_eui: str = ""


class _Gateway(msgspec.Struct):
    gateway_id: str = ""


class _Rx(msgspec.Struct):
    gateway_ids: _Gateway = msgspec.field(default_factory=_Gateway)
    rssi: float | None = None
    snr: float | None = None


class _Lora(msgspec.Struct):
    spreading_factor: int | None = None


class _DataRate(msgspec.Struct):
    lora: _Lora = msgspec.field(default_factory=_Lora)


class _Settings(msgspec.Struct):
    data_rate: _DataRate = msgspec.field(default_factory=_DataRate)


class _Up(msgspec.Struct):
    f_port: int = 0
    f_cnt: int = 0
    frm_payload: bytes = b""
    rx_metadata: list[_Rx] = []
    settings: _Settings = msgspec.field(default_factory=_Settings)
    received_at: datetime | None = None


class _Down(msgspec.Struct):
    correlation_ids: list[str] = []


class _Failure(msgspec.Struct):
    downlink: _Down = msgspec.field(default_factory=_Down)


class _Told(msgspec.Struct):
    end_device_ids: _Ids = msgspec.field(default_factory=_Ids)
    correlation_ids: list[str] = []
    received_at: datetime | None = None
    uplink_message: _Up = msgspec.field(default_factory=_Up)
    downlink_ack: _Down = msgspec.field(default_factory=_Down)
    downlink_nack: _Down = msgspec.field(default_factory=_Down)
    downlink_sent: _Down = msgspec.field(default_factory=_Down)
    downlink_failed: _Failure = msgspec.field(default_factory=_Failure)


@dataclass(frozen=True, slots=True)
class ThingsStack:
    """The codec. A device's address is its application (with the tenant, if any) and its name there."""

    name: str = "the-things-stack"
    subscription: str = EVENT_FILTER
    qos: int = 0

    def decode(self, topic: str, payload: bytes, *, received_at_us: int) -> Event:
        """Decode an event, or raise `MalformedFrame`."""
        address, kind = _parse_topic(topic)
        if len(payload) > MAX_EVENT_BYTES:
            raise MalformedFrame("oversize", f"{len(payload)} bytes")
        try:
            told = _decoder.decode(payload)
        except (ValueError, RecursionError, ArithmeticError) as error:
            raise MalformedFrame("json", str(error)[:200]) from None
        eui = "" if kind in _OWN_VOICE else eui_of(told.end_device_ids.dev_eui)
        at = told.uplink_message.received_at or told.received_at
        whose = (eui, address, checked_us(time_us(at), received_at_us))
        return _event(kind, whose, told)

    def encode(self, downlink: Downlink) -> tuple[str, bytes]:
        """A `down/replace`: the newest order takes the place of whatever waits for the device."""
        message = {
            "f_port": downlink.f_port,
            "frm_payload": base64.b64encode(downlink.data).decode(),
            "confirmed": True,
            "priority": "HIGH",
            "correlation_ids": [_OURS + downlink.downlink_id],
        }
        body = json.dumps({"downlinks": [message]}, separators=(",", ":"))
        application, device = downlink.address.split("/")
        return f"v3/{application}/devices/{device}/down/replace", body.encode()


_decoder = msgspec.json.Decoder(_Told)


def _parse_topic(topic: str) -> tuple[str, str]:
    parts = topic.split("/", 4)
    if len(parts) != 5 or (parts[0], parts[2]) != ("v3", "devices"):
        raise MalformedFrame("topic", f"not a topic of a device: {topic[:120]!r}")
    if parts[4] not in _KINDS | _OWN_VOICE:
        raise MalformedFrame("topic", f"no such event: {parts[4][:40]!r}")
    return f"{name_of(parts[1], 'an application')}/{name_of(parts[3], 'a device')}", parts[4]


_Whose = tuple[str, str, int]


def _event(kind: str, whose: _Whose, told: _Told) -> Event:
    make = _MAKERS.get(kind)
    return Remark(*whose, kind) if make is None else make(whose, told)


def _uplink(whose: _Whose, told: _Told) -> Uplink:
    up = told.uplink_message
    heard = [
        (each.gateway_ids.gateway_id, None if each.rssi is None else _level(each.rssi), each.snr)
        for each in up.rx_metadata
    ]
    signal = signal_of(heard, up.settings.data_rate.lora.spreading_factor)
    name = next((each for each in told.correlation_ids if each.startswith("as:up:")), "")
    name = text_of(name, "the name of an event")
    return checked_uplink(Uplink(*whose, name, up.f_cnt, up.f_port, up.frm_payload, signal))


_MAKERS: Final[dict[str, Callable[[_Whose, _Told], Event]]] = {
    "up": _uplink,
    "join": lambda whose, _told: Joined(*whose),
    "down/sent": lambda whose, told: Sent(*whose, _own_name(told.downlink_sent, told)),
    "down/ack": lambda whose, told: Settled(
        *whose, _own_name(told.downlink_ack, told), is_received=True
    ),
    "down/nack": lambda whose, told: Settled(
        *whose, _own_name(told.downlink_nack, told), is_received=False
    ),
    "down/failed": lambda whose, told: Failed(
        *whose, _own_name(told.downlink_failed.downlink, told), "failed"
    ),
}


def _level(rssi: float) -> int | None:
    return round(rssi) if -200 <= rssi <= 50 else None


def _own_name(down: _Down, told: _Told) -> str:
    """Which downlink of ours it is about; empty where it is of somebody else."""
    names = [*down.correlation_ids, *told.correlation_ids]
    found = next((each for each in names if each.startswith(_OURS)), "")
    return text_of(found.removeprefix(_OURS), "the name of a downlink")
