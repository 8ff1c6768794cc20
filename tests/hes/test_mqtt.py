"""The MQTT codec against paho's own encoder, and against hostile and broken bytes."""

from __future__ import annotations

import socket
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from cases import cases
from prewatt.hes import mqtt
from prewatt.hes.mqtt import Decoder, MqttVersion, ProtocolError, Publishes

BYTES_MAX = 300_000
Message = tuple[str, bytes, int]
"""Topic, payload and packet identifier, 0 with QoS 0."""

topics = st.text(st.characters(codec="utf-8", exclude_characters="+#\x00"), min_size=1, max_size=60)
messages = st.lists(st.tuples(topics, st.binary(max_size=400), st.integers(0, 65_535)), max_size=12)
versions = st.sampled_from([4, 5])


def paho_packets(version: MqttVersion) -> tuple[Client, list[bytes]]:
    """A paho client that writes nowhere, and what it would have written."""
    client = Client(
        CallbackAPIVersion.VERSION2,
        protocol=MQTTProtocolVersion.MQTTv5 if version == 5 else MQTTProtocolVersion.MQTTv311,
    )
    packets: list[bytes] = []

    def keep(_command: int, packet: bytes, *_: Any) -> int:
        packets.append(bytes(packet))
        return 0

    client._packet_queue = keep  # type: ignore[method-assign]
    client._sock = socket.socket()
    return client, packets


def paho_publish(version: MqttVersion, message: Message, *, again: bool = False) -> bytes:
    client, packets = paho_packets(version)
    topic, payload, message_id = message
    properties = None
    if version == 5:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    client._send_publish(
        message_id, topic.encode(), payload, 1 if message_id else 0, False, again, None, properties
    )
    return packets[0]


def taken(events: list[mqtt.Event]) -> list[Message]:
    found: list[Message] = []
    for event in events:
        assert isinstance(event, Publishes)
        found += [
            (event.data[a:b].decode(), event.data[c:d], message_id)
            for message_id, a, b, c, d in zip(
                event.message_id,
                event.topic,
                event.topic_end,
                event.payload,
                event.end,
                strict=True,
            )
        ]
    return found


@settings(max_examples=cases(60), deadline=None)
@given(versions, messages, st.data())
def test_what_paho_encodes_is_decoded_however_it_is_cut(
    version: MqttVersion, sent: list[Message], data: st.DataObject
) -> None:
    stream = b"".join(paho_publish(version, each) for each in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    decoder = Decoder(version, packet_bytes_max=BYTES_MAX)
    found: list[Message] = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        decoder.feed(stream[begin:end])
        limit = data.draw(st.integers(1, 5))
        while True:
            found += taken(decoder.take(limit))
            if not decoder.has_more:
                break
    assert found == sent
    assert decoder.waiting_bytes == 0


@settings(max_examples=cases(60), deadline=None)
@given(versions, topics, st.binary(max_size=40_000), st.integers(0, 65_535), st.booleans())
def test_what_is_encoded_is_what_paho_encodes(
    version: MqttVersion, topic: str, payload: bytes, message_id: int, again: bool
) -> None:
    again = again and message_id > 0
    ours = mqtt.publish(version, topic, payload, message_id=message_id, is_repeated=again)
    assert ours == paho_publish(version, (topic, payload, message_id), again=again)


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("named", [False, True])
def test_connect_and_subscribe_are_what_paho_encodes(version: MqttVersion, named: bool) -> None:
    client, packets = paho_packets(version)
    client._client_id = b"head-end"
    client._keepalive = 30
    if named:
        client.username_pw_set("name", "word")
    if version == 5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 600
        properties.ReceiveMaximum = 20_000
        properties.MaximumPacketSize = 262_144
        client._connect_properties = properties
    client._clean_start = False
    client._clean_session = False
    client._send_connect(30)
    name, word = ("name", "word") if named else (None, None)
    ours = mqtt.Connect("head-end", 30, name, word, 600, 20_000, 262_144).encode(version)
    assert ours == packets[0]
    client._last_mid = 4
    if version == 5:
        from paho.mqtt.subscribeoptions import SubscribeOptions

        client._send_subscribe(False, [(b"pw/+/up/+", SubscribeOptions(qos=1))])  # type: ignore[arg-type]
    else:
        client._send_subscribe(False, [(b"pw/+/up/+", 1)])
    assert mqtt.subscribe(version, 5, "pw/+/up/+", qos=1) == packets[1]


@given(st.lists(st.integers(1, 65_535), max_size=50))
def test_pubacks_are_four_bytes_each(ids: list[int]) -> None:
    expected = b"".join(struct.pack("!BBH", 0x40, 2, each) for each in ids)
    assert mqtt.pubacks(np.array(ids, dtype=np.uint16)) == expected


def test_the_answers_of_a_broker_are_read() -> None:
    decoder = Decoder(5, packet_bytes_max=BYTES_MAX)
    decoder.feed(
        b"\x20\x0b\x01\x00\x08\x21\x00\x14\x27\x00\x04\x00\x00"  # CONNACK with two limits
        b"\x90\x04\x00\x05\x00\x01"
        b"\x40\x02\x00\x07\x40\x03\x00\x08\x10\x40\x04\x00\x09\x80\x00"
        b"\xd0\x00\xe0\x01\x8e"
    )
    assert decoder.take(1) == [
        mqtt.Connack(True, 0, 20, 0x40000, None),
        mqtt.Suback(5, (1,)),
        mqtt.Puback(7),
        mqtt.Puback(8, 0x10),
        mqtt.Puback(9, 0x80),
        mqtt.Pingresp(),
        mqtt.Disconnected(0x8E),
    ]


@pytest.mark.parametrize(
    "packet",
    [
        b"\x36\x05\x00\x01t\x00\x01",  # both bits of QoS
        b"\x34\x05\x00\x01t\x00\x01",  # QoS 2
        b"\x38\x03\x00\x01t",  # repeated, QoS 0
        b"\x32\x05\x00\x01t\x00\x00",  # packet identifier 0
        b"\x32\x04\x00\x01t\x01",  # half a packet identifier
        b"\x30\x03\x00\x09t",  # topic after the end
        b"\x30\x02\x00\x00",  # no topic
        b"\x30\x01\x00",
        b"\x41\x02\x00\x01",  # flags
        b"\x40\x01\x01",
        b"\x40\x02\x00\x00",
        b"\x20\x02\x02\x00",
        b"\x10\x02\x00\x00",  # what only a client sends
        b"\xd0\x01\x00",
        b"\x00\x02\x00\x00",
        b"\xf0\x02\x00\x00",
        b"\x30\x80\x80\x80\x80\x01",  # five bytes of length
        b"\x30\x83\x00",  # more bytes of length than needed
        b"\x30\xff\xff\xff\x7f",  # 256 MiB announced
    ],
)
@pytest.mark.parametrize("version", [4, 5])
def test_what_a_broker_must_not_send_is_refused(version: MqttVersion, packet: bytes) -> None:
    decoder = Decoder(version, packet_bytes_max=BYTES_MAX)
    decoder.feed(packet)
    with pytest.raises(ProtocolError):
        decoder.take(10)


@pytest.mark.parametrize(
    "properties",
    [
        b"\x03\x23\x00\x01",
        b"\x01\x7f",
        b"\x04\x01\x00\x01\x01",
        b"\x09\x01\x00",
        b"",
    ],
)
def test_properties_that_are_wrong_or_not_allowed_are_refused(properties: bytes) -> None:
    body = b"\x00\x01t" + properties
    decoder = Decoder(5, packet_bytes_max=BYTES_MAX)
    decoder.feed(bytes((0x30, len(body))) + body)
    with pytest.raises(ProtocolError):
        decoder.take(10)


def test_a_publishers_properties_are_stepped_over() -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.UserProperty = [("a", "b"), ("c", "d")]
    properties.ContentType = "application/senml+json"
    properties.MessageExpiryInterval = 60
    client, packets = paho_packets(5)
    client._send_publish(7, b"t", b"[]", 1, False, False, None, properties)
    decoder = Decoder(5, packet_bytes_max=BYTES_MAX)
    decoder.feed(packets[0])
    assert taken(decoder.take(10)) == [("t", b"[]", 7)]


@settings(max_examples=cases(300), deadline=None)
@given(versions, st.binary(max_size=200), st.integers(0, 200))
def test_no_bytes_do_anything_but_decode_or_be_refused(
    version: MqttVersion, noise: bytes, at: int
) -> None:
    good = paho_publish(version, ("pw/A/up/readings", b"[]" * 20, 3))
    broken = good[:at] + noise + good[at:]
    for stream in (noise, broken):
        decoder = Decoder(version, packet_bytes_max=1_000)
        try:
            decoder.feed(stream)
            taken_bytes = decoder.take(100)
        except ProtocolError:
            continue
        assert decoder.waiting_bytes <= len(stream)
        for event in taken_bytes:
            if isinstance(event, Publishes):
                assert all(
                    a <= b <= c <= d <= len(stream)
                    for a, b, c, d in zip(
                        event.topic, event.topic_end, event.payload, event.end, strict=True
                    )
                )
