"""Reads one meter where it stands and says what it found: the installer's tool. Changes nothing at the meter.

By CoAP the meter is asked, object by object. By MQTT, and behind a LoRaWAN network server, it is listened to, and not
asked: it would answer to the head-end, which takes an answer to what it never sent for an attack.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import aiocoap
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from prewatt.core.civil_time import utc_datetime
from prewatt.hes.drivers.lorawan.address import SERVERS, parse_address
from prewatt.hes.drivers.lorawan.events import Uplink, eui_of
from prewatt.hes.drivers.lorawan.models import MODELS, model_of
from prewatt.hes.drivers.lorawan.report import Model
from prewatt.hes.drivers.lwm2m import codec, objects
from prewatt.hes.drivers.lwm2m.asking import Asker, DeviceRefuses, Unreachable
from prewatt.hes.drivers.lwm2m.links import Links
from prewatt.hes.drivers.lwm2m.registrations import Registration
from prewatt.hes.drivers.lwm2m.values import Item, Value
from prewatt.hes.drivers.mqtt_senml import codec as mqtt
from prewatt.hes.drivers.mqtt_senml.topics import is_serial
from prewatt.hes.frames import AckToken, HelloFrame, MalformedFrame, ReadingsFrame

COAP_PORT: Final = 5_683
MQTT_PORT: Final = 1_883

ADDRESSES: Final = (
    "coap://HOST[:PORT], mqtt://HOST[:PORT]/SERIAL, or behind LoRaWAN "
    "chirpstack[+tls]://[NAME@]HOST:PORT/DEVEUI/MODEL"
)
_NAMES: Final = {1: "1.8.0", 2: "2.8.0", 3: "3.8.0", 4: "1.6.0"}
_SIGNED: Final = {True: "instructions, by object 19", False: "no: it has no object 19"}
_UNITS: Final = {1: "Wh", 2: "Wh", 3: "varh", 4: "W"}


class NothingFound(RuntimeError):
    """Nobody answered, or nobody who is a meter; the message says which."""


@dataclass(slots=True)
class Probed:
    """What was found. `resources` are path (or name), what it is, value and unit, in the order of the paths."""

    address: str
    driver: str
    serial: str | None = None
    firmware: str | None = None
    relay: str | None = None
    clock_us: int | None = None
    clock_drift_s: int | None = None
    #: Whether it has somewhere to put what is signed to it; None where nobody could see that.
    takes_signed: bool | None = None
    #: Whether its kind has a relay, where it has not said how that stands.
    has_relay: bool = False
    #: What its payloads are read by, where its driver has several.
    model: str = ""
    registers: dict[str, tuple[int, str]] = field(default_factory=dict)
    resources: list[tuple[str, str, Value, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The same in plain values; registers are whole numbers in their unit."""
        return {
            "address": self.address,
            "driver": self.driver,
            "serial": self.serial,
            "firmware": self.firmware,
            "relay": self.relay,
            "clock": None if self.clock_us is None else utc_datetime(self.clock_us).isoformat(),
            "clock_drift_s": self.clock_drift_s,
            "takes_signed": self.takes_signed,
            "registers": [
                {"register": name, "value": value, "unit": unit}
                for name, (value, unit) in self.registers.items()
            ],
            "resources": [
                {"path": path, "name": name, "value": _plain(value), "unit": unit}
                for path, name, value, unit in self.resources
            ],
            "problems": self.problems,
        }

    def as_row(self) -> str:
        """The head and the row of the table by which meters are fitted; building and unit are the installer's to fill in."""
        energy = self.registers.get(_NAMES[1])
        row = {
            "building": "",
            "unit": "",
            "serial": self.serial or "",
            "opening_wh": "" if energy is None else str(energy[0]),
            "driver": self.driver,
            **({"model": self.model} if self.model else {}),
            "has_relay": "yes" if self.has_relay or self.relay is not None else "no",
        }
        written = io.StringIO()
        writer = csv.DictWriter(written, row, lineterminator="\n")
        writer.writeheader()
        writer.writerow(row)
        return written.getvalue().rstrip("\n")

    def as_text(self) -> str:
        """The same for people, one thing a line."""
        drift = "" if self.clock_drift_s is None else f" ({self.clock_drift_s:+d} s)"
        clock = (
            None if self.clock_us is None else f"{utc_datetime(self.clock_us).isoformat()}{drift}"
        )
        known = [
            ("serial", self.serial),
            ("firmware", self.firmware),
            ("clock", clock),
            ("relay", self.relay),
            *(() if self.takes_signed is None else (("signed", _SIGNED[self.takes_signed]),)),
            *((name, f"{value} {unit}") for name, (value, unit) in self.registers.items()),
        ]
        lines = [f"{self.address}: a meter by {self.driver}"]
        lines += [f"  {name:<12}{'-' if value is None else value}" for name, value in known]
        lines += [
            f"  {path:<14} {name}: {_plain(value)} {unit}".rstrip()
            for path, name, value, unit in self.resources
        ]
        return "\n".join([*lines, *(f"  ! {each}" for each in self.problems)])


def probe(
    address: str, *, timeout_s: float, password: str | None = None, authority: str | None = None
) -> Probed:
    """Probe a meter at its address, one of `ADDRESSES`. Raises NothingFound, ValueError.

    ``password`` and ``authority`` are those of the network server's broker (`lorawan.address.parse_address`).
    """
    scheme, _, rest = address.partition("://")
    if scheme.partition("+")[0] in SERVERS:
        return _probe_lorawan(address, timeout_s, password, authority)
    place, _, serial = rest.partition("/")
    host, port = _host_port(place, COAP_PORT if scheme == "coap" else MQTT_PORT)
    if scheme == "coap":
        return asyncio.run(_probe_coap(address, host, port, timeout_s))
    if scheme == "mqtt" and is_serial(serial):
        return _probe_mqtt(address, host, port, serial, timeout_s)
    raise ValueError(f"not {ADDRESSES}: {address!r}")


async def _probe_coap(address: str, host: str, port: int, timeout_s: float) -> Probed:
    found = Probed(address, "lwm2m")
    asker = Asker(
        lambda topic, fault, sample, at_us: found.problems.append(str(fault)),
        clock_us=_now_us,
        exchange_s_max=timeout_s,
    )
    context = await aiocoap.Context.create_client_context(transports=["udp6"])
    try:
        asker.context = context
        whole = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        message = aiocoap.Message(code=aiocoap.GET, uri=f"coap://{whole}/")
        try:
            await context.find_remote_and_interface(message)
        except (OSError, aiocoap.error.Error) as fault:
            raise NothingFound(f"no such host: {host}") from fault
        items = await _everything(asker, _as_registered(message.remote), found)
    finally:
        await context.shutdown()
    if not items:
        raise NothingFound(f"{address} has none of the objects of a meter")
    _note(found, items)
    return found


async def _everything(asker: Asker, device: Registration, found: Probed) -> list[Item]:
    """Each object's instance whole, or resource by resource where a device gives only these."""
    items: list[Item] = []
    for object_id, instance in [
        *((each, 0) for each in objects.OBJECTS),
        (objects.ENERGY, 1),
        objects.SIGNED_INSTRUCTION[:2],
    ]:
        try:
            items += await asker.read(device, (object_id, instance))
        except Unreachable:
            raise NothingFound(f"{found.address} does not answer") from None
        except DeviceRefuses as refused:
            if refused.result == "unsupported":
                continue
            items += await asker.read_all(device, _resources(object_id, instance))
        except MalformedFrame:
            items += await asker.read_all(device, _resources(object_id, instance))
    return items


def _resources(object_id: int, instance: int) -> list[objects.Path]:
    return [
        (object_id, instance, resource)
        for (own, resource), what in objects.RESOURCES.items()
        if own == object_id and "R" in what.operations
    ]


def _note(found: Probed, items: Sequence[Item]) -> None:
    now_us = _now_us()
    serial = codec.value_at(items, objects.DEVICE_SERIAL)
    firmware = codec.value_at(items, objects.FIRMWARE_VERSION)
    found.serial = None if serial is None else str(serial)
    found.firmware = None if firmware is None else str(firmware)
    found.takes_signed = any(each.path[:2] == objects.SIGNED_INSTRUCTION[:2] for each in items)
    for path, value, _ in sorted(items, key=lambda each: each.path):
        what = objects.RESOURCES[path[0], path[2]]
        found.resources.append((objects.path_text(path), what.name, value, what.unit))
    try:
        found.relay = codec.relay_of(items)
        _note_clock(found, codec.clock_of(items), now_us)
        _note_readings(
            found, codec.readings("probe", items, received_at_us=now_us, token=AckToken(0, 0))
        )
    except MalformedFrame as fault:
        found.problems.append(str(fault))
    if found.relay is None:
        found.problems.append("no relay: it cannot be ordered")
    if not found.registers:
        found.problems.append("no register: it cannot be charged by")


def _note_clock(found: Probed, clock_us: int | None, now_us: int) -> None:
    found.clock_us = clock_us
    if clock_us is not None:
        found.clock_drift_s = round((clock_us - now_us) / 1_000_000)


def _note_readings(found: Probed, frame: ReadingsFrame | None) -> None:
    """Of each register the newest reading."""
    if frame is None:
        return
    rows = sorted(
        zip(
            frame.read_at_us.tolist(),
            frame.register_code.tolist(),
            frame.value.tolist(),
            strict=True,
        )
    )
    for _, code, value in rows:
        found.registers[_NAMES[code]] = (value, _UNITS[code])


def _as_registered(remote: object) -> Registration:
    """A device that never registered, as if it had: what is asked of it is asked in the same way."""
    return Registration(
        serial="probe",
        location="",
        sender=("probe",),
        address=remote,
        links=Links(frozenset()),
        version="1.0",
        sleeps=False,
        lifetime_s=0,
        expires_at_us=0,
        heard_at_us=0,
    )


def _probe_mqtt(address: str, host: str, port: int, serial: str, timeout_s: float) -> Probed:
    found = Probed(address, "mqtt_senml", serial)
    client = Client(CallbackAPIVersion.VERSION2)
    _listen(
        client, host, port, f"pw/{serial}/up/+", lambda said: _note_message(found, said),
        lambda: bool(found.registers), timeout_s,
    )  # fmt: skip
    if found.relay is None and not found.registers:
        raise NothingFound(f"{serial} has said nothing for {timeout_s:g} s")
    return found


def _listen(
    client: Client, host: str, port: int, topics: str, note: Callable[[MQTTMessage], None],
    is_enough: Callable[[], bool], timeout_s: float,
) -> None:  # fmt: skip
    """Listen until enough was said, or the time is up. Raises NothingFound where no broker lets us in."""
    heard: list[MQTTMessage] = []
    answers: list[str] = []
    client.on_message = lambda _client, _data, message: heard.append(message)
    client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.append(
        str(reason) if reason.is_failure else ""
    )
    try:
        client.connect(host, port)
        # Sent after the CONNECT that is on its way.
        client.subscribe(topics)
    except OSError as fault:
        raise NothingFound(f"no broker at {host}:{port}: {fault}") from fault
    until, is_up = time.monotonic() + timeout_s, True
    try:
        while is_up and not is_enough() and not any(answers) and time.monotonic() < until:
            is_up = client.loop(timeout=0.1) is MQTTErrorCode.MQTT_ERR_SUCCESS
            while heard:
                note(heard.pop(0))
    finally:
        with contextlib.suppress(OSError):
            client.disconnect()
    if any(answers):
        raise NothingFound(f"the broker at {host}:{port} lets nobody in so: {max(answers)}")
    if not answers:
        raise NothingFound(f"the broker at {host}:{port} does not answer; does it take TLS alone?")


def _probe_lorawan(
    address: str, timeout_s: float, password: str | None, authority: str | None
) -> Probed:
    """Listen beside the head-end to what the network server tells of the device, its radio too."""
    whole, _, word = address.rpartition("/")
    server_at, _, device = whole.rpartition("/")
    model = model_of(word)
    if model is None:
        raise ValueError(f"no model {word!r}; known are {', '.join(MODELS)}")
    config, server = parse_address(server_at, password=password, authority=authority)
    eui = eui_of(device)
    found = Probed(address, "lorawan", eui, has_relay=model.relay is not None, model=model.name)
    # A name of its own: by the head-end's it would be put out of its session.
    client = Client(CallbackAPIVersion.VERSION2)
    if config.username is not None:
        client.username_pw_set(config.username, config.password)
    if config.tls is not None:
        client.tls_set_context(config.tls)

    def note(said: MQTTMessage) -> None:
        with contextlib.suppress(MalformedFrame):
            event = server.decode(said.topic, bytes(said.payload), received_at_us=_now_us())
            if isinstance(event, Uplink) and event.eui == eui:
                _note_uplink(found, model, event)

    _listen(
        client, config.host, config.port, server.subscription, note,
        lambda: bool(found.registers) and (found.relay is not None or model.relay is None), timeout_s,
    )  # fmt: skip
    if not found.resources:
        raise NothingFound(f"{eui} has said nothing for {timeout_s:g} s")
    return found


def _note_uplink(found: Probed, model: Model, up: Uplink) -> None:
    """What one uplink says, and how it was heard; the radio of the last one stands."""
    signal = up.signal
    heard: list[tuple[str, Value | None, str]] = [
        ("Gateway", signal.gateway, ""),
        ("Signal", signal.rssi_dbm, "dBm"),
        ("Gateways that heard it", signal.gateways, ""),
        ("Spreading factor", signal.spreading_factor, ""),
        ("Frame counter", up.f_cnt, ""),
    ]
    found.resources = [
        ("uplink", name, value, unit) for name, value, unit in heard if value is not None
    ]
    try:
        report = model.decode(up.f_port, up.data)
    except MalformedFrame as fault:
        found.problems.append(f"port {up.f_port}: {fault}")
        return
    found.relay = report.relay or found.relay
    found.firmware = report.firmware or found.firmware
    _note_clock(found, report.clock_us or found.clock_us, _now_us())
    for code, value in report.registers:
        found.registers[_NAMES[code]] = (value, _UNITS[code])


def _note_message(found: Probed, message: MQTTMessage) -> None:
    now_us = _now_us()
    try:
        frame = mqtt.decode(
            message.topic, bytes(message.payload), received_at_us=now_us, token=AckToken(0, 0)
        )
    except MalformedFrame as fault:
        found.problems.append(str(fault))
        return
    if isinstance(frame, HelloFrame):
        found.firmware, found.relay = frame.firmware, frame.relay
        _note_clock(found, frame.meter_clock_us, now_us)
    elif isinstance(frame, ReadingsFrame):
        found.relay = frame.relay or found.relay
        _note_clock(found, frame.meter_clock_us or found.clock_us, now_us)
        _note_readings(found, frame)


def _host_port(place: str, otherwise: int) -> tuple[str, int]:
    host, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):
        return place.strip("[]"), otherwise
    if not (host and port.isascii() and port.isdigit() and int(port) < 65_536):
        raise ValueError(f"not HOST:PORT: {place!r}")
    return host.strip("[]"), int(port)


def _now_us() -> int:
    return time.time_ns() // 1_000


def _plain(value: Value) -> int | str | bool:
    """A value as JSON has it, numbers exactly: what is no whole number is a text."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else str(value)
    return value.hex() if isinstance(value, bytes) else value
