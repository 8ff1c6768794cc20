"""Events of ChirpStack v4 and The Things Stack v3: published shapes, the makers' own types, and hostile bytes."""

import base64
import json
from random import Random
from typing import Any

import pytest
from chirpstack_api import integration
from google.protobuf import json_format

from cases import cases
from prewatt.hes.drivers.lorawan import wire
from prewatt.hes.drivers.lorawan.chirpstack import ChirpStack
from prewatt.hes.drivers.lorawan.events import (
    Downlink,
    Event,
    Failed,
    Joined,
    NetworkServer,
    Remark,
    Sent,
    Settled,
    Signal,
    Uplink,
)
from prewatt.hes.drivers.lorawan.things_stack import ThingsStack
from prewatt.hes.frames import MalformedFrame

EUI = "24e124148b234567"
APPLICATION = "17c82e96-be03-4f38-aef3-f83d48582d97"
T = 1_764_000_000_123_456
ITEM = "9f3e7b36-4b1c-4a0f-8d0b-0123456789ab"
DEVICE = integration.DeviceInfo(
    application_id=APPLICATION, dev_eui=EUI, tags={"building": "A"}, device_class_enabled="CLASS_C"
)


def chirpstack_events() -> dict[str, tuple[Any, Event]]:
    """One event of each kind as the server's own type, and what it is to us."""
    up = integration.UplinkEvent(
        deduplication_id="3ac7e3c4-4401-4b8d-9386-a5c902f9202d", device_info=DEVICE,
        dev_addr="00189440", dr=1, f_cnt=70_000, f_port=85, confirmed=True, data=b"\x08\x70\x01",
    )  # fmt: skip
    up.rx_info.add(gateway_id="0016c001f153a14c", rssi=-110, snr=-3.5)
    up.rx_info.add(gateway_id="0016c001f153a14d", rssi=-48, snr=9.25)
    up.tx_info.modulation.lora.spreading_factor = 11
    heard = Signal("0016c001f153a14d", -48, 92, 2, 11)
    whose = (EUI, APPLICATION, T)
    events = {
        "up": (up, Uplink(*whose, up.deduplication_id, 70_000, 85, b"\x08\x70\x01", heard, "C")),
        "join": (integration.JoinEvent(device_info=DEVICE, dev_addr="00189440"), Joined(*whose)),
        "txack": (
            integration.TxAckEvent(
                downlink_id=7, device_info=DEVICE, queue_item_id=ITEM, f_cnt_down=3
            ),
            Sent(*whose, ITEM),
        ),
        "ack": (
            integration.AckEvent(device_info=DEVICE, queue_item_id=ITEM, acknowledged=True),
            Settled(*whose, ITEM, is_received=True),
        ),
        "log": (
            integration.LogEvent(
                device_info=DEVICE, level="ERROR", code="EXPIRED", context={"queue_item_id": ITEM}
            ),
            Failed(*whose, ITEM, "EXPIRED"),
        ),
        "status": (
            integration.StatusEvent(device_info=DEVICE, margin=-3, battery_level=75.5),
            Remark(*whose, "battery 76 %"),
        ),
    }
    for told, _ in events.values():
        told.time.FromMicroseconds(T)
    return events


def decode(server: NetworkServer, topic: str, payload: bytes) -> Event:
    return server.decode(topic, payload, received_at_us=T)


@pytest.mark.parametrize("kind", ["up", "join", "txack", "ack", "log", "status"])
def test_chirpstacks_own_types_mean_the_same_as_protobuf_and_as_json(kind: str) -> None:
    told, wanted = chirpstack_events()[kind]
    topic = f"application/{APPLICATION}/device/{EUI}/event/{kind}"
    assert decode(ChirpStack(), topic, told.SerializeToString()) == wanted
    assert decode(ChirpStack(), topic, json_format.MessageToJson(told).encode()) == wanted


def test_chirpstack_reads_our_downlinks_by_its_own_type() -> None:
    downlink = Downlink(EUI, APPLICATION, ITEM, 85, b"\x08\x01\xff", T)
    for encoding in ("json", "protobuf"):
        topic, payload = ChirpStack(encoding).encode(downlink)  # type: ignore[arg-type]
        assert topic == f"application/{APPLICATION}/device/{EUI}/command/down"
        read = integration.DownlinkCommand()
        if encoding == "json":
            json_format.Parse(payload, read)
        else:
            read.ParseFromString(payload)
        assert (read.id, read.dev_eui, read.confirmed, read.f_port, read.data) == (
            ITEM, EUI, True, 85, b"\x08\x01\xff",
        )  # fmt: skip
        assert read.expires_at.ToMicroseconds() == T


def test_an_event_is_of_its_topics_device_or_refused() -> None:
    told, _ = chirpstack_events()["up"]
    topic = f"application/{APPLICATION}/device/{EUI[:-1]}8/event/up"
    for payload in (told.SerializeToString(), json_format.MessageToJson(told).encode()):
        with pytest.raises(MalformedFrame, match="eui"):
            decode(ChirpStack(), topic, payload)


def things_stack(kind: str, **message: object) -> tuple[str, bytes]:
    """A message in the published data format of The Things Stack."""
    ids = {
        "device_id": "meter-7",
        "application_ids": {"application_id": "estate"},
        "dev_eui": EUI.upper(),
        "join_eui": "800000000000000C",
        "dev_addr": "00BCB929",
    }
    body = {"end_device_ids": ids, "received_at": "2025-11-24T16:00:00.123456789Z", **message}
    return f"v3/estate@owner/devices/meter-7/{kind}", json.dumps(body).encode()


def test_the_things_stacks_published_messages_mean_what_they_say() -> None:
    server, address = ThingsStack(), "estate@owner/meter-7"
    whose = (EUI, address, T)
    up = {
        "session_key_id": "AXA50...", "f_cnt": 5, "f_port": 85,
        "frm_payload": base64.b64encode(b"\x08\x70\x01").decode(),
        "rx_metadata": [{"gateway_ids": {"gateway_id": "gtw1", "eui": "9C5C8E00001A05C4"},
                         "timestamp": 2463457000, "rssi": -35, "channel_rssi": -35, "snr": 5.2}],
        "settings": {"data_rate": {"lora": {"bandwidth": 125000, "spreading_factor": 7}}},
        "received_at": "2025-11-24T16:00:00.123456Z", "consumed_airtime": "0.056576s",
    }  # fmt: skip
    topic, payload = things_stack("up", correlation_ids=["as:up:01F"], uplink_message=up)
    signal = Signal("gtw1", -35, 52, 1, 7)
    assert decode(server, topic, payload) == Uplink(
        *whose, "as:up:01F", 5, 85, b"\x08\x70\x01", signal
    )
    ours = {"correlation_ids": [f"prewatt:{ITEM}", "as:downlink:01F"]}
    told: list[tuple[str, dict[str, object], Event]] = [
        ("join", {"join_accept": {"session_key_id": "AXB"}}, Joined(*whose)),
        ("down/sent", {"downlink_sent": ours}, Sent(*whose, ITEM)),
        ("down/ack", {"downlink_ack": ours}, Settled(*whose, ITEM, is_received=True)),
        ("down/nack", {"downlink_nack": ours}, Settled(*whose, ITEM, is_received=False)),
        ("down/failed", {"downlink_failed": {"downlink": ours}}, Failed(*whose, ITEM, "failed")),
        ("down/queued", {"downlink_queued": ours}, Remark(*whose, "down/queued")),
    ]
    for kind, message, wanted in told:
        event = decode(server, *things_stack(kind, **message))
        assert type(event) is type(wanted)
        assert (event.eui, event.address, getattr(event, "downlink_id", "")) == (
            EUI, address, getattr(wanted, "downlink_id", ""),
        )  # fmt: skip
    topic, payload = server.encode(Downlink(EUI, address, ITEM, 85, b"\x08\x01\xff", T))
    assert topic == "v3/estate@owner/devices/meter-7/down/replace"
    assert json.loads(payload)["downlinks"][0]["correlation_ids"] == [f"prewatt:{ITEM}"]


def test_hostile_events_are_refused_or_read_and_never_anything_else() -> None:
    random = Random()
    own = chirpstack_events()
    good: list[tuple[NetworkServer, str, bytes]] = []
    for kind, (told, _) in own.items():
        topic = f"application/{APPLICATION}/device/{EUI}/event/{kind}"
        good.append((ChirpStack(), topic, told.SerializeToString()))
        good.append((ChirpStack(), topic, json_format.MessageToJson(told).encode()))
    good.append((ThingsStack(), *things_stack("up", uplink_message={"f_cnt": 1})))
    good.append((ThingsStack(), *things_stack("down/ack", downlink_ack={"correlation_ids": []})))
    for _ in range(cases(6_000)):
        server, topic, payload = random.choice(good)
        data = bytearray(payload)
        for _ in range(random.randrange(6)):
            data[random.randrange(len(data))] = random.randrange(256)
        if random.random() < 0.2:
            del data[random.randrange(len(data)) :]
        try:
            event = server.decode(topic, bytes(data), received_at_us=T)
        except MalformedFrame:
            continue
        if isinstance(event, Uplink):
            assert 0 <= event.f_cnt < 2**32
            assert len(event.data) <= 242


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x00\x01",
        b"\xff" * 20,
        b"\x0b\x01",
        b"{" * 9_999,
    ],
)
def test_what_is_no_message_is_refused(payload: bytes) -> None:
    topic = f"application/{APPLICATION}/device/{EUI}/event/up"
    with pytest.raises(MalformedFrame):
        decode(ChirpStack(), topic, payload)
    with pytest.raises(MalformedFrame):
        decode(ChirpStack(), topic, b" " * 70_000)


def test_numbers_are_written_as_protocol_buffers_write_them() -> None:
    # protobuf.dev, "Encoding": field 1 with 150 is 08 96 01, field 2 with "testing" is 12 07 ...
    assert wire.integer(1, 150) == bytes.fromhex("089601")
    assert wire.data(2, b"testing") == bytes.fromhex("120774657374696e67")
    assert wire.Message(bytes.fromhex("089601")).integer(1) == 150
