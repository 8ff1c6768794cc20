"""ChirpStack v4 by its MQTT integration: events as JSON or as protocol buffers, and its command topic.

Follows `integration.proto` and `gw.proto` of chirpstack-api 4.20 and the JSON mapping of protocol buffers, in which a
field that is zero is left out: a ratio that is missing is 0 dB, a level that is missing was not measured. Which of the two comes is seen by the first byte: an event as JSON begins with a brace,
which as protocol buffers would be a field with the number 15.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import msgspec

from prewatt.core.civil_time import utc_datetime
from prewatt.hes.drivers.lorawan import wire
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

EVENT_FILTER: Final = "application/+/device/+/event/+"

#: Of `LogCode`: the server drops the downlink that the entry is about.
_GIVEN_UP: Final = {1: "DOWNLINK_PAYLOAD_SIZE", 10: "F_CNT_DOWN", 11: "EXPIRED"}
_CLASSES: Final = {"CLASS_A": "A", "CLASS_B": "B", "CLASS_C": "C"}
_LEVELS: Final = ("INFO", "WARNING", "ERROR")


class _Info(msgspec.Struct, rename="camel"):
    dev_eui: str = ""
    application_id: str = ""
    device_class_enabled: str = ""


class _Rx(msgspec.Struct, rename="camel"):
    gateway_id: str = ""
    rssi: int | None = None
    snr: float | None = None


class _Lora(msgspec.Struct, rename="camel"):
    spreading_factor: int | None = None


class _Modulation(msgspec.Struct):
    lora: _Lora = msgspec.field(default_factory=_Lora)


class _Tx(msgspec.Struct):
    modulation: _Modulation = msgspec.field(default_factory=_Modulation)


class _Told(msgspec.Struct, rename="camel"):
    """The fields of all events; what an event does not have keeps its default."""

    device_info: _Info = msgspec.field(default_factory=_Info)
    deduplication_id: str = ""
    time: datetime | None = None
    f_cnt: int = 0
    f_port: int = 0
    data: bytes = b""
    rx_info: list[_Rx] = []
    tx_info: _Tx = msgspec.field(default_factory=_Tx)
    queue_item_id: str = ""
    acknowledged: bool = False
    level: str = "INFO"
    code: str = "UNKNOWN"
    description: str = ""
    context: dict[str, str] = {}
    battery_level: float = 0.0


@dataclass(frozen=True, slots=True)
class _Fields:
    """An event of either encoding."""

    eui: str
    at_us: int
    event_id: str
    f_cnt: int
    f_port: int
    data: bytes
    heard: list[tuple[str, int | None, float | None]]
    spreading_factor: int | None
    queue_item_id: str
    acknowledged: bool
    code: str
    level: str
    battery_percent: int
    device_class: str


@dataclass(frozen=True, slots=True)
class ChirpStack:
    """The codec; downlinks are written as the integration is configured to read them."""

    encoding: Literal["json", "protobuf"] = "json"
    name: str = "chirpstack"
    subscription: str = EVENT_FILTER
    qos: int = 1

    def decode(self, topic: str, payload: bytes, *, received_at_us: int) -> Event:
        """Decode an event of either encoding, or raise `MalformedFrame`."""
        application, eui, kind = _parse_topic(topic)
        if len(payload) > MAX_EVENT_BYTES:
            raise MalformedFrame("oversize", f"{len(payload)} bytes")
        fields = _from_json(payload) if payload[:1] == b"{" else _from_protobuf(kind, payload)
        if eui_of(fields.eui) != eui:
            raise MalformedFrame("eui", f"{fields.eui[:40]!r} is not of this topic's device")
        return _event(kind, application, eui, fields, checked_us(fields.at_us, received_at_us))

    def encode(self, downlink: Downlink) -> tuple[str, bytes]:
        """A `DownlinkCommand`, confirmed, with its name in the queue and its end."""
        topic = f"application/{downlink.address}/device/{downlink.eui}/command/down"
        if self.encoding == "protobuf":
            return topic, (
                wire.data(1, downlink.downlink_id.encode())
                + wire.data(2, downlink.eui.encode())
                + wire.integer(3, 1)
                + wire.integer(4, downlink.f_port)
                + wire.data(5, downlink.data)
                + wire.timestamp(7, downlink.expires_at_us)
            )
        return topic, json.dumps(
            {
                "id": downlink.downlink_id,
                "devEui": downlink.eui,
                "confirmed": True,
                "fPort": downlink.f_port,
                "data": base64.b64encode(downlink.data).decode(),
                "expiresAt": utc_datetime(downlink.expires_at_us)
                .isoformat()
                .replace("+00:00", "Z"),
            },
            separators=(",", ":"),
        ).encode()


def _parse_topic(topic: str) -> tuple[str, str, str]:
    parts = topic.split("/")
    if len(parts) != 6 or (parts[0], parts[2], parts[4]) != ("application", "device", "event"):
        raise MalformedFrame("topic", f"not a topic of an event: {topic[:120]!r}")
    return name_of(parts[1], "an application"), eui_of(parts[3]), parts[5]


_Whose = tuple[str, str, int]


def _event(kind: str, application: str, eui: str, told: _Fields, at_us: int) -> Event:
    make = _MAKERS.get(kind)
    if make is None:
        raise MalformedFrame("topic", f"no such event: {kind[:40]!r}")
    return make((eui, application, at_us), told)


def _item(told: _Fields) -> str:
    return text_of(told.queue_item_id, "the name of a downlink")


def _uplink(whose: _Whose, told: _Fields) -> Uplink:
    signal = signal_of(told.heard, told.spreading_factor)
    name = text_of(told.event_id, "the name of an event")
    return checked_uplink(
        Uplink(*whose, name, told.f_cnt, told.f_port, told.data, signal, told.device_class)
    )


def _log_entry(whose: _Whose, told: _Fields) -> Failed | Remark:
    if told.code in _GIVEN_UP.values():
        return Failed(*whose, _item(told), told.code)
    return Remark(*whose, text_of(f"{told.level} {told.code}", "a log entry"))


_MAKERS: Final[dict[str, Callable[[_Whose, _Fields], Event]]] = {
    "up": _uplink,
    "join": lambda whose, _told: Joined(*whose),
    "txack": lambda whose, told: Sent(*whose, _item(told)),
    "ack": lambda whose, told: Settled(*whose, _item(told), told.acknowledged),
    "log": _log_entry,
    "status": lambda whose, told: Remark(*whose, f"battery {told.battery_percent} %"),
    "location": lambda whose, _told: Remark(*whose, "location"),
    "integration": lambda whose, _told: Remark(*whose, "integration"),
}


_json_decoder = msgspec.json.Decoder(_Told)


def _from_json(payload: bytes) -> _Fields:
    try:
        told = _json_decoder.decode(payload)
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise MalformedFrame("json", str(error)[:200]) from None
    return _Fields(
        eui=told.device_info.dev_eui,
        at_us=time_us(told.time),
        event_id=told.deduplication_id,
        f_cnt=told.f_cnt,
        f_port=told.f_port,
        data=told.data,
        heard=[(each.gateway_id, each.rssi or None, each.snr or 0.0) for each in told.rx_info],
        spreading_factor=told.tx_info.modulation.lora.spreading_factor,
        queue_item_id=told.queue_item_id or told.context.get("queue_item_id", ""),
        acknowledged=told.acknowledged,
        code=told.code,
        level=told.level,
        battery_percent=_percent(told.battery_level),
        device_class=_CLASSES.get(told.device_info.device_class_enabled, ""),
    )


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Where an event keeps the fields that all have; 0 where it has none."""

    event_id: int = 1
    time: int = 2
    device_info: int = 3
    queue_item_id: int = 0


_NUMBERS: Final = {
    "up": _Numbers(),
    "join": _Numbers(),
    "ack": _Numbers(queue_item_id=4),
    "txack": _Numbers(event_id=0, queue_item_id=4),
    "log": _Numbers(event_id=0, time=1, device_info=2),
    "status": _Numbers(),
    "location": _Numbers(),
    "integration": _Numbers(),
}


def _from_protobuf(kind: str, payload: bytes) -> _Fields:
    numbers = _NUMBERS.get(kind)
    if numbers is None:
        raise MalformedFrame("topic", f"no such event: {kind[:40]!r}")
    event = wire.Message(payload)
    info = event.message(numbers.device_info)
    told_at = event.message(numbers.time)
    is_up, is_log = kind == "up", kind == "log"
    context = [(each.text(1), each.text(2)) for each in event.messages(6)] if is_log else []
    code = event.integer(4) if is_log else 0
    return _Fields(
        eui=info.text(8),
        at_us=told_at.integer(1) * 1_000_000 + told_at.integer(2) // 1_000,
        event_id=event.text(numbers.event_id) if numbers.event_id else "",
        f_cnt=event.integer(7) if is_up else 0,
        f_port=event.integer(8) if is_up else 0,
        data=event.data(10) if is_up else b"",
        heard=[(rx.text(1), rx.signed(6) or None, rx.single(7)) for rx in event.messages(12)]
        if is_up
        else [],
        spreading_factor=event.message(13).message(2).message(3).integer(2) or None
        if is_up
        else None,
        queue_item_id=event.text(numbers.queue_item_id)
        if numbers.queue_item_id
        else dict(context).get("queue_item_id", ""),
        acknowledged=kind == "ack" and event.integer(5) == 1,
        code=_GIVEN_UP.get(code, str(code)),
        level=_LEVELS[min(event.integer(3), 2)] if is_log else "",
        battery_percent=_percent(event.single(8)) if kind == "status" else 0,
        # Class A is 0, which is not written: it may as well be a server that does not say.
        device_class={1: "B", 2: "C"}.get(info.integer(10), ""),
    )


def _percent(level: float) -> int:
    return round(level) if 0 <= level <= 100 else 0
