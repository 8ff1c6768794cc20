"""A LoRaWAN field behind a network server: devices, radio, gateways and the server's queue; without sockets or clock.

It says what ChirpStack v4 would publish, as JSON or as protocol buffers, and takes what would be published to its command
topic. Radio is as radio is: an uplink may be lost, it is heard by some gateways and late, a device keeps to its
duty cycle, a gateway to its own and may be out; a downlink reaches a device of class C soon and one of class A after its next
uplink, or is lost. Everything comes from one seed. `LoraProcess` puts it on a broker.

Energy is real: a device follows a load shape while its relay is closed, and its register stands still while it is open.
A device that has a session (`sim.short_device`) obeys instructions of the short form, and nothing else.
Faults that its sensors see (`CONDITIONS`) it tells at once and again after each report, since the air loses words.
"""

from __future__ import annotations

import base64
import heapq
import json
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, Final, Literal, Protocol

import numpy as np

from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.vocabulary import RelayState
from prewatt.hes.drivers.lorawan import wire
from prewatt.hes.drivers.lorawan.field import ALARM_PORT, INSTRUCTION_PORT
from prewatt.hes.drivers.lorawan.report import CONDITIONS
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.sim.loads import Profile, cumulative_wh, load_profile
from prewatt.sim.short_device import Memory, ShortDevice
from prewatt.sim.turns import Turn

_S: Final = 1_000_000
_US_PER_WH: Final = 3_600_000_000
_PPM: Final = 1_000_000
#: A class A device listens a second after its uplink, and a gateway hands a downlink over before.
_WINDOW_US: Final = _S
#: What a server waits for the word of a class C device on a confirmed downlink.
_CONFIRM_US: Final = 10 * _S


@dataclass(frozen=True, slots=True)
class Outage:
    """A gateway is out from ``from_us`` and is back at ``until_us``."""

    gateway: str
    from_us: int
    until_us: int


@dataclass(frozen=True, slots=True)
class Air:
    """How the radio is. Shares are in millionths; a duty cycle of 10,000 is the 1 % of EU868."""

    gateways: tuple[str, ...] = ("0016c001f1530001", "0016c001f1530002")
    uplink_loss_ppm: int = 0
    downlink_loss_ppm: int = 0
    #: Heard twice by servers that know nothing of each other: the same frame under another name.
    doubled_ppm: int = 0
    late_us_max: int = 400_000
    duty_ppm: int = 10_000
    gateway_duty_ppm: int = 100_000
    outages: tuple[Outage, ...] = ()


@dataclass(frozen=True, slots=True)
class LoraMeter:
    """One device of the field: a socket (`ws52x`) or a meter on a rail (`em2101`).

    Its register stood at ``start_register_wh`` at ``start_at_us``, or as the field began where that is 0.
    """

    eui: str
    model: Literal["ws52x", "em2101"]
    profile: str
    start_register_wh: int
    start_at_us: int = 0
    scale_ppm: int = _PPM
    period_s: int = 900
    device_class: Literal["A", "C"] = "C"
    spreading_factor: int = 9
    #: So much load on top of the shape.
    load_w: int = 0
    #: Its contacts stay as they are, whatever it is told.
    is_welded: bool = False
    #: The gateways within its reach; all of them where none is named.
    in_reach: tuple[str, ...] = ()
    #: Its secret key of agreement (32 bytes), the points of instruction keys that it trusts, and what a
    #: commissioning tool brought it: a session of the short form.
    agreement: bytes = b""
    trusts: tuple[bytes, ...] = ()
    offer: bytes = b""


@dataclass(frozen=True, slots=True)
class Told:
    """An event that the server publishes at ``at_us``."""

    at_us: int
    topic: str
    payload: bytes


class Witness(Protocol):
    """Is told what becomes of a field's readings and downlinks, by the device's EUI."""

    def heard(self, eui: str, at_us: int, value_wh: int, told: Told) -> None:
        """A gateway heard a reading, and the server will publish it."""

    def lost(self, eui: str, at_us: int, value_wh: int) -> None:
        """No gateway heard a reading."""

    def obeyed(self, eui: str, at_us: int, downlink: str, *, is_closed: bool) -> None:
        """A device has done what a downlink asks; its relay is now so."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a device remembers without power: its relay, its register at an instant, its counter of frames, its session."""

    is_closed: bool
    counted_wh: int
    counted_at_us: int
    rest: int
    f_cnt: int
    session: Memory = field(default_factory=Memory)


@dataclass(slots=True)
class _Item:
    name: str
    f_port: int
    data: bytes
    expires_at_us: int | None


@dataclass(slots=True)
class _Device:
    meter: LoraMeter
    profile: Profile
    counted_wh: int
    counted_at_us: int
    next_us: int
    is_closed: bool = True
    f_cnt: int = -1
    free_at_us: int = 0
    queue: deque[_Item] = field(default_factory=deque)
    rest: int = 0
    told_us: int = 0
    short: ShortDevice | None = None
    #: What its sensors see, by the word with which it begins; None before any of it was ever so.
    seen: set[str] | None = None

    def count(self, now_us: int) -> None:
        """Let the register follow the load up to now."""
        if self.is_closed:
            instants = np.array([self.counted_at_us, now_us], dtype=np.int64)
            then_wh, now_wh = cumulative_wh(self.profile, self.meter.scale_ppm, instants).tolist()
            extra_wh, self.rest = divmod(
                self.meter.load_w * (now_us - self.counted_at_us) + self.rest, _US_PER_WH
            )
            self.counted_wh += now_wh - then_wh + extra_wh
        self.counted_at_us = now_us

    def payload(self, now_us: int, *, is_change: bool) -> tuple[int, bytes]:
        """Port and bytes of what it sends."""
        self.count(now_us)
        state = 1 if self.is_closed else 0
        if self.meter.model == "ws52x":
            energy = self.counted_wh.to_bytes(4, "little")
            return 85, b"\x06\x83" + energy + b"\x08\x70" + bytes([state])
        if is_change:
            return 11, bytes([1, 1, state])
        clock = (now_us // _S).to_bytes(4, "big")
        energy = self.counted_wh.to_bytes(4, "big")
        return 1, b"\x01\x01" + clock + b"\x04\x04" + energy + b"\x05\x05" + bytes(4)

    def alarms(self) -> bytes:
        """One byte of what its sensors see."""
        seen = self.seen or set()
        bits = [1 << bit for bit, each in enumerate(CONDITIONS) if each.begins in seen]
        return bytes([sum(bits)])

    def answer(self, item: _Item, now_us: int) -> bytes:
        """What it answers to an instruction, having done what it says; nothing where it does not believe it."""
        self.count(now_us)
        if self.short is None:
            return b""
        return self.short.receive(item.data, now_us=now_us, switch=self._switch)

    def _switch(self, state: RelayState | None) -> RelayState:
        if state is not None and not self.meter.is_welded:
            self.is_closed = state is RelayState.CLOSED
        return RelayState.CLOSED if self.is_closed else RelayState.OPEN

    def obey(self, item: _Item, now_us: int) -> bool:
        """Do what a downlink asks; returns whether it is understood."""
        if self.short is not None and self.short.has_session:
            return False
        self.count(now_us)
        switched = {b"\x08\x01\xff": True, b"\x08\x00\xff": False,
                    b"\x07G\x01\x07H\x01": True, b"\x07G\x01\x07H\x00": False}  # fmt: skip
        if item.data in switched:
            if not self.meter.is_welded:
                self.is_closed = switched[item.data]
            return True
        return item.data == b"\xff\x28\xff"


class LoraField:
    """The field at work. ``advance`` moves it on; events come out in the order of their time."""

    def __init__(
        self,
        meters: list[LoraMeter],
        *,
        air: Air = Air(),
        seed: int,
        start_us: int,
        encoding: Literal["json", "protobuf"] = "json",
        application: str = "17c82e96-be03-4f38-aef3-f83d48582d97",
        witness: Witness | None = None,
        utc_offset_s: int = 0,
        schedule: Sequence[Turn] = (),
        begins_within_s: int = 0,
    ) -> None:
        """Devices speak for the first time within their period, or all within ``begins_within_s``, as after an outage."""
        self._witness = witness
        self._turns = sorted(schedule, key=lambda each: each.at_us, reverse=True)
        self._air = air
        self._random = Random(seed)  # noqa: S311 - a simulation is repeated by its seed
        self._encoding = encoding
        self._application = application
        self._told: list[tuple[int, int, Told]] = []
        self._number = 0
        self._gateway_free_us = dict.fromkeys(air.gateways, 0)
        self._devices: dict[str, _Device] = {}
        self._due: list[tuple[int, str]] = []
        self.sent, self.lost = 0, 0
        for meter in meters:
            # Spread over their period, or all would speak at once.
            within_s = begins_within_s or meter.period_s
            first_us = start_us + self._random.randrange(within_s * _S)
            profile = load_profile(meter.profile, utc_offset_s=utc_offset_s)
            self._devices[meter.eui] = device = _Device(
                meter, profile, meter.start_register_wh, meter.start_at_us or start_us, first_us
            )
            if meter.agreement:
                key = ES256PrivateKey.from_scalar(meter.agreement)
                device.short = ShortDevice(meter.eui, key, meter.trusts)
            if meter.offer:
                self.commission(meter.eui, meter.offer)
            heapq.heappush(self._due, (first_us, meter.eui))

    def register_wh(self, eui: str, now_us: int) -> int:
        """What a device has counted."""
        device = self._devices[eui]
        device.count(now_us)
        return device.counted_wh

    def is_closed(self, eui: str) -> bool:
        """Whether a device's relay is closed."""
        return self._devices[eui].is_closed

    def kept(self) -> dict[str, Kept]:
        """What each device remembers now."""
        return {
            eui: Kept(
                each.is_closed, each.counted_wh, each.counted_at_us, each.rest, each.f_cnt,
                Memory() if each.short is None else each.short.memory,
            )
            for eui, each in self._devices.items()
        }  # fmt: skip

    def restore(self, kept: Mapping[str, Kept]) -> None:
        """Let devices take up where they left: where a relay was closed, the load has gone on."""
        for eui, each in kept.items():
            if eui in self._devices:
                device = self._devices[eui]
                device.is_closed, device.f_cnt = each.is_closed, each.f_cnt
                device.counted_wh, device.counted_at_us = each.counted_wh, each.counted_at_us
                device.rest = each.rest
                if device.short is not None and each.session.number >= device.short.memory.number:
                    device.short.restore(each.session)

    def commission(self, eui: str, offer: bytes) -> None:
        """Bring a device with a key of agreement a session. Raises NotBelieved, ValueError."""
        short = self._devices[eui].short
        if short is None:
            raise ValueError(f"{eui} has no key of agreement")
        short.take_offer(offer)

    def short_device(self, eui: str) -> ShortDevice | None:
        """A device's side of its session."""
        return self._devices[eui].short

    def next_us(self) -> int:
        """When something happens next."""
        return min(
            self._due[0][0] if self._due else 2**62, self._told[0][0] if self._told else 2**62
        )

    def advance(self, now_us: int) -> list[Told]:
        """All that is published until now."""
        while self._due and self._due[0][0] <= now_us:
            at_us, eui = heapq.heappop(self._due)
            device = self._devices[eui]
            self._take_turns(at_us)
            if at_us == device.next_us:
                device.next_us = at_us + device.meter.period_s * _S
                heapq.heappush(self._due, (device.next_us, eui))
                self._uplink(device, at_us, is_change=False)
                if device.seen is not None:
                    self._transmit(device, at_us, ALARM_PORT, device.alarms())
            self._downlink(device, at_us)
        self._take_turns(now_us)
        found: list[Told] = []
        while self._told and self._told[0][0] <= now_us:
            found.append(heapq.heappop(self._told)[2])
        return found

    def fault(self, eui: str, name: str, value: int, at_us: int) -> None:
        """Let a sensor see something from now on, or no more (0). Raises ValueError for what no sensor sees."""
        if name not in {each.begins for each in CONDITIONS}:
            raise ValueError(f"no sensor of a LoRaWAN device sees {name}")
        device = self._devices[eui]
        device.seen = {*(device.seen or ()), name} if value else {*(device.seen or ())} - {name}
        self._transmit(device, at_us, ALARM_PORT, device.alarms())

    def _take_turns(self, until_us: int) -> None:
        while self._turns and self._turns[-1].at_us <= until_us:
            turn = self._turns.pop()
            self.fault(turn.serial, turn.name, turn.value, turn.at_us)

    def command(self, topic: str, payload: bytes, now_us: int) -> None:
        """Take what was published to a command topic; what is none of ours is left alone."""
        parts = topic.split("/")
        device = self._devices.get(parts[3]) if len(parts) == 6 else None
        if device is None:
            return
        device.queue.append(_item(payload))
        if device.meter.device_class == "C":
            heapq.heappush(self._due, (now_us, device.meter.eui))

    # --- radio ---

    def _uplink(self, device: _Device, at_us: int, *, is_change: bool) -> None:
        at_us = max(at_us, device.free_at_us)
        told = self._transmit(device, at_us, *device.payload(at_us, is_change=is_change))
        if self._witness is None:
            return
        if told is None:
            self._witness.lost(device.meter.eui, at_us, device.counted_wh)
        else:
            self._witness.heard(device.meter.eui, at_us, device.counted_wh, told)

    def _transmit(self, device: _Device, at_us: int, port: int, data: bytes) -> Told | None:
        """Put a payload on the air; what the server says of it, None where no gateway heard it."""
        at_us = max(at_us, device.free_at_us)
        air_us = _airtime_us(len(data) + 13, device.meter.spreading_factor)
        device.free_at_us = at_us + air_us * _PPM // self._air.duty_ppm
        device.f_cnt += 1
        self.sent += 1
        reach = device.meter.in_reach or self._air.gateways
        heard = [each for each in reach if self._hears(each, at_us)]
        if not heard:
            self.lost += 1
            return None
        told = self._say_up(device, at_us, port, data, heard)
        if self._random.randrange(_PPM) < self._air.doubled_ppm:
            self._say_up(device, at_us, port, data, heard[:1])
        return told

    def _hears(self, gateway: str, at_us: int) -> bool:
        if any(
            each.gateway == gateway and each.from_us <= at_us < each.until_us
            for each in self._air.outages
        ):
            return False
        return self._random.randrange(_PPM) >= self._air.uplink_loss_ppm

    def _downlink(self, device: _Device, at_us: int) -> None:
        """Send the oldest that waits, if a gateway may speak; else when it may."""
        while device.queue and _is_past(device.queue[0], at_us):
            item = device.queue.popleft()
            self._say(
                device, "log", at_us, {"level": "ERROR", "code": "EXPIRED", "item": item.name}
            )
        if not device.queue:
            return
        up = [
            each
            for each in device.meter.in_reach or self._air.gateways
            if not any(
                o.gateway == each and o.from_us <= at_us < o.until_us for o in self._air.outages
            )
        ]
        gateway = min(up, key=self._gateway_free_us.__getitem__, default=None)
        free_us = at_us + 60 * _S if gateway is None else self._gateway_free_us[gateway]
        if gateway is None or free_us > at_us:
            if device.meter.device_class == "C":
                heapq.heappush(self._due, (free_us, device.meter.eui))
            return
        item = device.queue.popleft()
        air_us = _airtime_us(len(item.data) + 13, device.meter.spreading_factor)
        self._gateway_free_us[gateway] = at_us + air_us * _PPM // self._air.gateway_duty_ppm
        self._say(device, "txack", at_us, {"item": item.name, "gateway": gateway})
        heard_at_us = at_us + _WINDOW_US + air_us
        if self._random.randrange(_PPM) < self._air.downlink_loss_ppm:
            self._say(device, "ack", heard_at_us + _CONFIRM_US, {"item": item.name, "yes": False})
            return
        self._heed(device, item, heard_at_us)
        self._say(device, "ack", heard_at_us + _S, {"item": item.name, "yes": True})

    def _heed(self, device: _Device, item: _Item, at_us: int) -> None:
        """Let a device do what it heard, and say so."""
        was_closed = device.is_closed
        if item.f_port == INSTRUCTION_PORT:
            if answer := device.answer(item, at_us):
                self._transmit(device, at_us + _S, INSTRUCTION_PORT, answer)
            is_told = device.is_closed != was_closed
        else:
            is_told = device.obey(item, at_us)
            if is_told:
                self._uplink(device, at_us + _S, is_change=True)
        if is_told and self._witness is not None:
            self._witness.obeyed(device.meter.eui, at_us, item.name, is_closed=device.is_closed)

    # --- the server's words ---

    def _say_up(
        self, device: _Device, at_us: int, port: int, data: bytes, heard: list[str]
    ) -> Told:
        return self._say(
            device,
            "up",
            at_us,
            {
                "port": port,
                "data": data,
                "heard": [
                    (each, -60 - self._random.randrange(60), self._random.randrange(-80, 100) / 4)
                    for each in heard
                ],
            },
        )

    def _say(self, device: _Device, kind: str, at_us: int, told: dict[str, Any]) -> Told:
        write = _as_json if self._encoding == "json" else _as_protobuf
        name = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        payload = write(kind, self._application, device, at_us, name, told)
        topic = f"application/{self._application}/device/{device.meter.eui}/event/{kind}"
        late_us = at_us + self._random.randrange(1 + self._air.late_us_max)
        if kind == "up":
            # What a server has heard of one device it says in the order in which it came.
            device.told_us = late_us = max(late_us, device.told_us)
        self._number += 1
        said = Told(late_us, topic, payload)
        heapq.heappush(self._told, (late_us, self._number, said))
        return said


def _item(payload: bytes) -> _Item:
    if payload[:1] == b"{":
        told = json.loads(payload)
        expires_at = told.get("expiresAt")
        return _Item(
            told["id"],
            told["fPort"],
            base64.b64decode(told["data"]),
            None if expires_at is None else _instant_us(expires_at),
        )
    command = wire.Message(payload)
    end = command.message(7)
    return _Item(command.text(1), command.integer(4), command.data(5), end.integer(1) * _S or None)


def _instant_us(text: str) -> int:
    return instant_us(datetime.fromisoformat(text))


def _is_past(item: _Item, at_us: int) -> bool:
    return item.expires_at_us is not None and at_us >= item.expires_at_us


def _airtime_us(length: int, spreading_factor: int) -> int:
    """Time on air of a frame at 125 kHz and coding rate 4/5 (Semtech AN1200.13)."""
    symbol_us = (1 << spreading_factor) * 8
    low_rate = 2 if spreading_factor >= 11 else 0
    bits = 8 * length - 4 * spreading_factor + 44
    symbols = 8 + max(0, -(-bits // (4 * (spreading_factor - low_rate)))) * 5
    return symbol_us * (symbols * 4 + 49) // 4


def _as_json(
    kind: str, application: str, device: _Device, at_us: int, name: str, told: dict[str, Any]
) -> bytes:
    at = utc_datetime(at_us).isoformat().replace("+00:00", "Z")
    event: dict[str, Any] = {
        "deduplicationId": name,
        "time": at,
        "deviceInfo": {
            "applicationId": application,
            "devEui": device.meter.eui,
            "deviceClassEnabled": f"CLASS_{device.meter.device_class}",
        },
    }
    if kind == "up":
        event |= {
            "fCnt": device.f_cnt,
            "fPort": told["port"],
            "data": base64.b64encode(told["data"]).decode(),
            "rxInfo": [
                {"gatewayId": g, "rssi": rssi, "snr": snr} for g, rssi, snr in told["heard"]
            ],
            "txInfo": {"modulation": {"lora": {"spreadingFactor": device.meter.spreading_factor}}},
        }
    elif kind == "log":
        event |= {"level": told["level"], "code": told["code"]}
        event["context"] = {"queue_item_id": told["item"]}
    else:
        event |= {"queueItemId": told["item"]} | (
            {"acknowledged": told["yes"]} if kind == "ack" else {"gatewayId": told["gateway"]}
        )
    return json.dumps(event, separators=(",", ":")).encode()


def _as_protobuf(
    kind: str, application: str, device: _Device, at_us: int, name: str, told: dict[str, Any]
) -> bytes:
    info = (
        wire.data(3, application.encode())
        + wire.data(8, device.meter.eui.encode())
        + wire.integer(10, {"A": 0, "C": 2}[device.meter.device_class])
    )
    if kind == "log":
        entry = wire.data(1, b"queue_item_id") + wire.data(2, told["item"].encode())
        return (
            wire.timestamp(1, at_us)
            + wire.data(2, info)
            + wire.integer(3, 2)
            + wire.integer(4, 11)
            + wire.data(6, entry)
        )
    head = wire.timestamp(2, at_us) + wire.data(3, info)
    if kind == "txack":
        return head + wire.data(4, told["item"].encode()) + wire.data(6, told["gateway"].encode())
    head = wire.data(1, name.encode()) + head
    if kind == "ack":
        return head + wire.data(4, told["item"].encode()) + wire.integer(5, int(told["yes"]))
    heard = b"".join(
        wire.data(
            12,
            wire.data(1, gateway.encode()) + wire.integer(6, rssi % 2**64) + wire.single(7, snr),
        )
        for gateway, rssi, snr in told["heard"]
    )
    lora = wire.data(3, wire.integer(2, device.meter.spreading_factor))
    return (
        head
        + wire.integer(7, device.f_cnt)
        + wire.integer(8, told["port"])
        + wire.data(10, told["data"])
        + heard
        + wire.data(13, wire.data(2, lora))
    )
