"""What is fuzzed: each reader of foreign bytes as one function that takes any bytes and may only return.

What a reader is allowed to raise is caught here; everything else that comes out is a finding, and so is an assertion
about what must hold of what was read. Where a reader takes more than a payload, the first bytes choose it, so that one
string of bytes says all. Checksums and tags are put right for half of the inputs: nobody finds them by chance, and an
attacker makes them.
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import aiocoap
from aiocoap import error, oscore

from prewatt.adapters.loads.interval_csv import LoadFileRefused, read_load
from prewatt.core import short_instructions as short
from prewatt.core.instructions import (
    KEYS_MAX,
    Condition,
    MeterState,
    NotBelieved,
    believed_answer,
    concluded,
    is_point,
    judged,
)
from prewatt.core.vocabulary import RelayState
from prewatt.estate.imports import plan_property
from prewatt.estate.sheets import SHEETS, ImportRefused, read_uploads
from prewatt.hes import mqtt
from prewatt.hes.drivers.lorawan.chirpstack import ChirpStack
from prewatt.hes.drivers.lorawan.models import MODELS
from prewatt.hes.drivers.lorawan.things_stack import ThingsStack
from prewatt.hes.drivers.lwm2m import codec as lwm2m
from prewatt.hes.drivers.lwm2m import links, objects, senml, tlv
from prewatt.hes.drivers.lwm2m.keys import DeviceContext, DeviceKey
from prewatt.hes.drivers.mqtt_bundle import codec as bundles
from prewatt.hes.drivers.mqtt_senml import codec, quick
from prewatt.hes.drivers.mqtt_senml.topics import Uplink, uplink_topic
from prewatt.hes.frames import AckToken, MalformedFrame, ReadingsBlock, ReadingsFrame

SERIAL: Final = "PW-1"
KEY: Final = bytes(range(32))
"""The session key of the short form, of a meter that nobody has."""
EUI: Final = "24e124136b502217"
_NOW_US: Final = 1_800_000_000_000_000
_NOW: Final = datetime(2027, 1, 15, 8, tzinfo=UTC)
_TOKEN: Final = AckToken(1, 1)
_CHANNELS: Final = tuple(Uplink)
_PATHS: Final = ((), objects.RELAY_ORDER, objects.CLOCK, (objects.ENERGY,), (3, 0), (10_242, 0))
_FORMATS: Final = (senml.CBOR, senml.JSON, tlv.CONTENT_FORMAT, lwm2m.TEXT, lwm2m.OPAQUE, None)
_KINDS: Final = ("up", "join", "ack", "txack", "log", "status", "location")
_THINGS: Final = ("up", "join", "down/sent", "down/ack", "down/nack", "down/failed", "down/queued")


@dataclass(frozen=True, slots=True)
class Target:
    """A reader under test: what it takes, at most how long, and what it is in words."""

    try_on: Callable[[bytes], None]
    bytes_max: int
    what: str


def _senml(data: bytes) -> None:
    channel = _CHANNELS[data[0] % len(_CHANNELS)]
    with contextlib.suppress(MalformedFrame):
        codec.decode(uplink_topic(SERIAL, channel), data[1:], received_at_us=_NOW_US, token=_TOKEN)


def _columns(data: bytes) -> None:
    """What the quick way takes, the thorough one takes as the same."""
    topic = uplink_topic(SERIAL, Uplink.READINGS)
    decoder = mqtt.Decoder(5, packet_bytes_max=1 << 20)
    decoder.feed(mqtt.publish(5, topic, data, message_id=1))
    (messages,) = decoder.take(10)
    assert isinstance(messages, mqtt.Publishes)
    for each in quick.blocks(messages, connection=1, received_at_us=_NOW_US):
        if isinstance(each, ReadingsBlock):
            (frame,) = each.frames()
            whole = codec.decode(topic, data, received_at_us=_NOW_US, token=_TOKEN)
            assert isinstance(whole, ReadingsFrame)
            assert _figures(frame) == _figures(whole)


def _figures(frame: ReadingsFrame) -> tuple[object, ...]:
    columns = (frame.read_at_us, frame.register_code, frame.value)
    return (frame.serial, frame.meter_clock_us, frame.relay, *(each.tolist() for each in columns))


def _mqtt(data: bytes) -> None:
    """Packets come in whatever pieces: the events are the same."""
    version: mqtt.MqttVersion = 5 if data[0] & 1 else 4
    cut = data[0] >> 1
    stream = data[1:]
    assert _events(version, [stream]) == _events(version, [stream[:cut], stream[cut:]])


def _events(version: mqtt.MqttVersion, pieces: list[bytes]) -> list[object]:
    decoder = mqtt.Decoder(version, packet_bytes_max=4_096)
    found: list[object] = []
    try:
        for piece in pieces:
            decoder.feed(piece)
            for each in decoder.take(1_000):
                if isinstance(each, mqtt.Publishes):
                    found += [
                        (each.data[topic:end], identifier)
                        for topic, end, identifier in zip(
                            each.topic, each.end, each.message_id, strict=True
                        )
                    ]
                else:
                    found.append(each)
    except mqtt.ProtocolError:
        # What came before the fault in the same piece is lost with the connection.
        return []
    return found


def _bundle(data: bytes) -> None:
    payload = data[1:]
    if data[0] & 1:
        payload += zlib.crc32(payload).to_bytes(4, "little")
    with contextlib.suppress(MalformedFrame):
        if data[0] & 2:
            bundles.decode_marks("CC-1", payload)
        else:
            bundles.decode(
                bundles.bundle_topic("CC-1"), payload, received_at_us=_NOW_US, token=_TOKEN
            )


def _lwm2m(data: bytes) -> None:
    path = _PATHS[data[0] % len(_PATHS)]
    content_format = _FORMATS[(data[0] >> 4) % len(_FORMATS)]
    with contextlib.suppress(MalformedFrame):
        items = lwm2m.decode(path, content_format, data[1:])
        for look in (
            lwm2m.relay_of,
            lwm2m.clock_of,
            lwm2m.register_of,
            lwm2m.names_units,
            lwm2m.signed_answers,
        ):
            with contextlib.suppress(MalformedFrame):
                look(items)
        lwm2m.readings(SERIAL, items, received_at_us=_NOW_US, token=_TOKEN)


def _links(data: bytes) -> None:
    with contextlib.suppress(MalformedFrame):
        links.parse_links(data)
    query = data.decode(errors="replace").split("&")
    with contextlib.suppress(MalformedFrame):
        links.parse_query(query)
    with contextlib.suppress(MalformedFrame):
        links.parse_update(query)


def _oscore(data: bytes) -> None:
    """A datagram as the library takes it, up to what a device's key makes of it."""
    key = DeviceKey(SERIAL, b"\x01\x02", b"\x00", bytes(16), bytes(8))
    context = DeviceContext(key, None)
    try:
        message = aiocoap.Message.decode(data)
    except (error.UnparsableMessage, UnicodeDecodeError):
        # The second is the library's own slip (a text that is not UTF-8), which `Lwm2mSession` takes off the loop.
        return
    if not message.code.is_request():
        return
    try:
        unprotected = oscore.verify_start(message)
    except (oscore.NotAProtectedMessage, oscore.ProtectionInvalid, IndexError):
        # The last is its own as well, and refused in front of it (`lwm2m.session._Site`).
        return
    if oscore.COSE_KID in unprotected:
        with contextlib.suppress(oscore.NotAProtectedMessage, oscore.ProtectionInvalid):
            context.unprotect(message)


def _chirpstack(data: bytes) -> None:
    topic = f"application/a1/device/{EUI}/event/{_KINDS[data[0] % len(_KINDS)]}"
    with contextlib.suppress(MalformedFrame):
        ChirpStack().decode(topic, data[1:], received_at_us=_NOW_US)


def _things(data: bytes) -> None:
    topic = f"v3/a1@tenant/devices/d1/{_THINGS[data[0] % len(_THINGS)]}"
    with contextlib.suppress(MalformedFrame):
        ThingsStack().decode(topic, data[1:], received_at_us=_NOW_US)


def _models(data: bytes) -> None:
    models = list(MODELS.values())
    with contextlib.suppress(MalformedFrame):
        models[data[0] % len(models)].decode(data[1] if len(data) > 1 else 0, data[2:])


class _Anybody:
    """A key that signs anything, so that what stands behind the signature is reached."""

    key_id = bytes(16)

    def sign(self, message: bytes) -> bytes:
        return bytes(64)


def _command(data: bytes) -> None:
    """What a meter makes of a message, and that the platform reads what it answers."""
    # Whoever has signed it is the newest key, so that what stands behind that is reached.
    state = MeterState(keys=((data[8:24], bytes(65)),))
    with contextlib.suppress(NotBelieved):
        verdict = judged(state, data, meter=SERIAL, verify=lambda *_: True, now_us=_NOW_US)
        condition = Condition(RelayState.CLOSED, 0, 0, _NOW_US)
        after, said = concluded(state, verdict, condition, by=_Anybody())
        answer, _ = believed_answer(said, meter=SERIAL, verify=lambda *_: True)
        assert answer.last_sequence == after.sequence >= state.sequence
        assert after.credit_micro >= state.credit_micro
        assert 1 <= len(after.keys) <= KEYS_MAX and all(
            is_point(each) for _, each in after.keys[1:]
        )


def _answer(data: bytes) -> None:
    with contextlib.suppress(NotBelieved):
        believed_answer(data, meter=SERIAL, verify=lambda *_: True)


def _short(data: bytes) -> None:
    """Both ways; with the tag put right where the first byte is odd."""
    way, payload = b"up" if data[0] & 2 else b"down", data[1:]
    if data[0] & 1:
        payload = short._message(payload, short._address(way, SERIAL), KEY)
    with contextlib.suppress(NotBelieved):
        if way == b"up":
            short.short_answer(payload, meter=SERIAL, key=KEY)
            return
        before = short.ShortState()
        command, result, stored = short.judged_short(
            before, payload, meter=SERIAL, key=KEY, now_min=_NOW_US // 60_000_000
        )
        assert not stored
        after, said = short.concluded_short(
            before, command, result, message=payload, relay=RelayState.OPEN, meter=SERIAL, key=KEY
        )
        answer = short.short_answer(said, meter=SERIAL, key=KEY)
        assert answer.last_sequence == after.sequence >= before.sequence


def _tables(data: bytes) -> None:
    """The tables of an import: as CSV files (parted by zeros), or a workbook, or a zip."""
    content = data[1:]
    with contextlib.suppress(ImportRefused):
        match data[0] % 3:
            case 0:
                parts = zip(SHEETS, content.split(b"\0"), strict=False)
                sheets = read_uploads([(f"{name}.csv", part) for name, part in parts if part])
            case 1:
                sheets = read_uploads([("property.xlsx", content)])
            case _:
                sheets = read_uploads([("property.zip", content)])
        plan_property(
            sheets, known_property_codes=(), known_serials=(), importer="user:1", now=_NOW
        )


def _load(data: bytes) -> None:
    zone = ("Europe/Berlin", None)[data[0] % 2]
    with contextlib.suppress(LoadFileRefused):
        read_load(io.BytesIO(data[1:]), zone)


def _web(name: str) -> Callable[[bytes], None]:
    """A reader of the web's, which is loaded when it is tried: the others do without the whole web."""

    def try_on(data: bytes) -> None:
        from prewatt.fuzz import web_targets

        reader: Callable[[bytes], None] = getattr(web_targets, name)
        reader(data)

    return try_on


TARGETS: Final[Mapping[str, Target]] = {
    "senml": Target(_senml, 2_048, "MQTT messages of meters: SenML, hello, events, answers"),
    "columns": Target(_columns, 512, "readings in columns, which must be what the thorough codec reads"),
    "mqtt": Target(_mqtt, 1_024, "MQTT packets of a broker, cut anywhere"),
    "bundle": Target(_bundle, 1_024, "messages of concentrators and the marks that answer them"),
    "lwm2m": Target(_lwm2m, 1_024, "LwM2M contents: TLV, SenML JSON and CBOR, text"),
    "links": Target(_links, 512, "LwM2M registrations"),
    "oscore": Target(_oscore, 512, "CoAP datagrams and OSCORE, as the library and a device's key read them"),
    "chirpstack": Target(_chirpstack, 2_048, "events of ChirpStack, JSON and protobuf"),
    "things": Target(_things, 2_048, "events of The Things Stack"),
    "models": Target(_models, 256, "payloads of LoRaWAN devices"),
    "command": Target(_command, 600, "signed instructions, at the meter"),
    "answer": Target(_answer, 600, "signed answers, at the head-end"),
    "short": Target(_short, 64, "the short form of both"),
    "tables": Target(_tables, 4_096, "tables of a property that somebody sends in"),
    "load": Target(_load, 2_048, "load curves as CSV"),
    "recharge": Target(_web("recharge"), 1_024, "recharges that a program posts to the API"),
    "form": Target(_web("form"), 512, "fields of the web's forms"),
    "plan": Target(_web("plan"), 4_096, "price plans, as a form and as JSON"),
    "upload": Target(_web("upload"), 4_096, "files of a request: tables of meters to be fitted"),
}  # fmt: skip


def attempt(name: str, data: bytes) -> None:
    """Try a target with bytes; raises what is a finding."""
    if data:
        TARGETS[name].try_on(data)
