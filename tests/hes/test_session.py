"""The MQTT session against real brokers: nothing is acknowledged before the consumer says so."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from tests.hes.drivers.mqtt_bundle.test_codec import message

from prewatt.hes.drivers.mqtt_bundle import codec as bundles
from prewatt.hes.drivers.mqtt_bundle import limits
from prewatt.hes.drivers.mqtt_senml import codec
from prewatt.hes.frames import (
    AnswerFrame,
    BundleMark,
    Frame,
    HelloFrame,
    MalformedSample,
    ReadingsBundle,
    ReadingsFrame,
    Watermark,
)
from prewatt.hes.session import MqttConfig, MqttSession
from prewatt.runtime.broker import Broker

T = 1_764_000_000_000_000


def config(broker: Broker, **changes: Any) -> MqttConfig:
    command = broker.command
    fixed = MqttConfig(host=command.host, port=command.port, protocol=command.protocol)
    return replace(fixed, **changes)


@contextmanager
def running(session: MqttSession, on_frame: Callable[[Frame], None]) -> Iterator[MqttSession]:
    session.start(on_frame)
    assert session.wait_connected(10)
    time.sleep(0.3)  # the subscription is acknowledged a moment after the connection
    try:
        yield session
    finally:
        session.stop()


@contextmanager
def meter(broker: Broker, serial: str) -> Iterator[tuple[Client, "queue.Queue[MQTTMessage]"]]:
    """A bare MQTT client in place of a meter, subscribed to what a meter hears."""
    heard: queue.Queue[MQTTMessage] = queue.Queue()
    client = Client(CallbackAPIVersion.VERSION2, client_id=serial)
    subscribed = threading.Event()
    client.on_message = lambda _client, _userdata, message: heard.put(message)
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect(broker.command.host, broker.command.port)
    client.loop_start()
    client.subscribe(f"pw/{serial}/down/+", qos=1)
    assert subscribed.wait(10)
    try:
        yield client, heard
    finally:
        client.disconnect()
        client.loop_stop()


def send_reading(client: Client, serial: str, value: int, at_us: int = T) -> None:
    payload = codec.encode_readings(serial, [(at_us, 1, value)])
    client.publish(f"pw/{serial}/up/readings", payload, qos=1).wait_for_publish(10)


def take_readings(frames: "queue.Queue[Frame]", count: int) -> list[ReadingsFrame]:
    taken: list[ReadingsFrame] = []
    while len(taken) < count:
        frame = frames.get(timeout=10)
        assert isinstance(frame, ReadingsFrame)
        taken.append(frame)
    return taken


def values(frames: list[ReadingsFrame]) -> list[int]:
    return [int(frame.value[0]) for frame in frames]


def test_frames_arrive_typed_and_in_order_with_the_time_of_receipt(broker: Broker) -> None:
    frames: queue.Queue[Frame] = queue.Queue()
    session = MqttSession(config(broker), clock_us=lambda: 77)
    with running(session, frames.put), meter(broker, "PW-1") as (client, _):
        hello = codec.encode_hello(clock_us=T, relay="closed", firmware="1")
        client.publish("pw/PW-1/up/hello", hello, qos=1).wait_for_publish(10)
        for value in range(20):
            send_reading(client, "PW-1", value)
        first = frames.get(timeout=10)
        assert isinstance(first, HelloFrame)
        taken = take_readings(frames, 20)
        assert values(taken) == list(range(20))
        assert {frame.received_at_us for frame in taken} == {77}
        assert session.stats().unacknowledged == 21
        session.ack([first.token, *(frame.token for frame in taken)])
        assert session.stats().unacknowledged == 0


def test_invariant_9_what_was_not_acknowledged_is_delivered_again(mosquitto: Broker) -> None:
    """The consumer dies before its commit: the broker must not have been told that all is well."""
    frames: queue.Queue[Frame] = queue.Queue()
    with meter(mosquitto, "PW-1") as (client, _):
        session = MqttSession(config(mosquitto), clock_us=lambda: 1)
        with running(session, frames.put):
            for value in (10, 11, 12):
                send_reading(client, "PW-1", value)
            lost = take_readings(frames, 3)
            session.ack([lost[0].token])  # only the first was committed
            time.sleep(0.2)
        assert frames.empty()
        send_reading(client, "PW-1", 13)  # while the head-end is away
        again = MqttSession(config(mosquitto), clock_us=lambda: 2)
        with running(again, frames.put):
            redelivered = take_readings(frames, 3)
            assert sorted(values(redelivered)) == [11, 12, 13]
            again.ack([frame.token for frame in redelivered])
            time.sleep(0.2)
        last = MqttSession(config(mosquitto), clock_us=lambda: 3)
        with running(last, frames.put):
            time.sleep(0.5)
        assert frames.empty()


def test_a_token_of_a_lost_connection_acknowledges_nothing(mosquitto: Broker) -> None:
    frames: queue.Queue[Frame] = queue.Queue()
    session = MqttSession(config(mosquitto), clock_us=lambda: 1)
    with running(session, frames.put), meter(mosquitto, "PW-1") as (client, _):
        send_reading(client, "PW-1", 1)
        (stale,) = take_readings(frames, 1)
        mosquitto.stop()
        mosquitto.start()
        (fresh,) = take_readings(frames, 1)
        assert session.stats().connections == 2
        session.ack([stale.token])
        assert session.stats().unacknowledged == 1
        session.ack([fresh.token])
        assert session.stats().unacknowledged == 0


def test_acknowledgements_leave_in_the_order_of_arrival(mosquitto: Broker) -> None:
    """MQTT 5, 4.6: a later message must not be acknowledged before an earlier one."""
    frames: queue.Queue[Frame] = queue.Queue()
    session = MqttSession(config(mosquitto), clock_us=lambda: 1)
    with running(session, frames.put), meter(mosquitto, "PW-1") as (client, _):
        for value in range(3):
            send_reading(client, "PW-1", value)
        one, two, three = take_readings(frames, 3)
        session.ack([three.token, two.token])
        assert session.stats().unacknowledged == 3
        session.ack([one.token])
        assert session.stats().unacknowledged == 0


def test_the_broker_holds_back_beyond_receive_maximum(mosquitto: Broker) -> None:
    frames: queue.Queue[Frame] = queue.Queue()
    session = MqttSession(config(mosquitto, receive_maximum=5), clock_us=lambda: 1)
    with running(session, frames.put), meter(mosquitto, "PW-1") as (client, _):
        for value in range(12):
            send_reading(client, "PW-1", value)
        time.sleep(0.3)
        assert session.stats().received == 5
        seen: list[int] = []
        while len(seen) < 12:
            (frame,) = take_readings(frames, 1)
            seen += values([frame])
            session.ack([frame.token])
        assert seen == list(range(12))


def test_a_full_queue_stops_the_reading_and_loses_nothing(broker: Broker) -> None:
    release = threading.Event()
    seen: queue.Queue[Frame] = queue.Queue()

    def slow(frame: Frame) -> None:
        release.wait(10)
        seen.put(frame)

    session = MqttSession(config(broker, queue_frames_max=4), clock_us=lambda: 1)
    with running(session, slow), meter(broker, "PW-1") as (client, _):
        for value in range(30):
            send_reading(client, "PW-1", value)
        time.sleep(0.3)
        # One with the consumer, four queued, one at the door: the rest is in the socket or the broker.
        assert session.stats().received <= 6
        release.set()
        assert values(take_readings(seen, 30)) == list(range(30))


def test_malformed_messages_are_counted_sampled_and_gone(broker: Broker) -> None:
    samples: list[MalformedSample] = []
    frames: queue.Queue[Frame] = queue.Queue()
    session = MqttSession(config(broker), clock_us=lambda: 5, on_malformed=samples.append)
    with running(session, frames.put), meter(broker, "PW-1") as (client, _):
        client.publish("pw/PW-1/up/readings", b"\x00garbage" * 200, qos=1).wait_for_publish(10)
        client.publish("pw/PW-1/up/nonsense", b"{}", qos=1).wait_for_publish(10)
        send_reading(client, "PW-1", 1)
        (good,) = take_readings(frames, 1)
        assert session.stats().malformed == {"json": 1, "topic": 1}
        assert session.stats().unacknowledged == 1
        session.ack([good.token])
    assert session.malformed_samples() == samples
    assert [(s.reason, s.received_at_us) for s in samples] == [("json", 5), ("topic", 5)]
    assert samples[0].payload_head == (b"\x00garbage" * 200)[:512]


def test_commands_and_watermarks_reach_the_meter(broker: Broker) -> None:
    session = MqttSession(config(broker), clock_us=lambda: 1)
    frames: queue.Queue[Frame] = queue.Queue()
    with running(session, frames.put), meter(broker, "PW-1") as (client, heard):
        command = codec.Command("5.relay", "relay", "closed", T, T + 60_000_000)
        assert session.send_command("PW-1", command)
        message = heard.get(timeout=10)
        assert message.topic == "pw/PW-1/down/command"
        assert codec.decode_command(bytes(message.payload)) == command
        answer = codec.encode_answer(
            command_id="5.relay", result="ok", relay="closed", register_wh=1, at_us=T
        )
        client.publish("pw/PW-1/up/answer", answer, qos=1).wait_for_publish(10)
        assert isinstance(frames.get(timeout=10), AnswerFrame)
        named = (("PW-1", 1), ("PW-2", 1), ("PW-1", 2))
        marks = [Watermark(serial, code, T, T, 7) for serial, code in named]
        session.publish_watermarks(marks)
        message = heard.get(timeout=10)
        assert message.topic == "pw/PW-1/down/ack"
        assert codec.decode_watermarks("PW-1", bytes(message.payload)) == [marks[0], marks[2]]


def test_a_command_is_not_taken_while_there_is_no_broker(broker: Broker) -> None:
    session = MqttSession(config(broker), clock_us=lambda: 1)
    command = codec.Command("5.read", "read", None, T, T + 1)
    assert not session.send_command("PW-1", command)
    with running(session, lambda _: None):
        broker.stop(kill=True)
        deadline = time.monotonic() + 10
        while session.stats().connected and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not session.send_command("PW-1", command)
        broker.start()
        assert session.wait_connected(10)
        assert session.send_command("PW-1", command)


def test_a_failing_consumer_ends_delivery_and_is_reported(broker: Broker) -> None:
    def fail(_: Frame) -> None:
        raise RuntimeError("no database")

    session = MqttSession(config(broker), clock_us=lambda: 1)
    with running(session, fail), meter(broker, "PW-1") as (client, _):
        send_reading(client, "PW-1", 1)
        deadline = time.monotonic() + 10
        while session.failure is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert isinstance(session.failure, RuntimeError)
        assert session.stats().unacknowledged == 1


@pytest.mark.parametrize("limit", [1, 3])
def test_stopping_sends_the_acknowledgements_that_are_due(mosquitto: Broker, limit: int) -> None:
    frames: queue.Queue[Frame] = queue.Queue()
    session = MqttSession(config(mosquitto), clock_us=lambda: 1)
    with meter(mosquitto, "PW-1") as (client, _):
        with running(session, frames.put):
            for value in range(4):
                send_reading(client, "PW-1", value)
            taken = take_readings(frames, 4)
            session.stop_delivery()
            session.ack([frame.token for frame in taken[:limit]])
        again = MqttSession(config(mosquitto), clock_us=lambda: 1)
        with running(again, frames.put):
            assert values(take_readings(frames, 4 - limit)) == list(range(limit, 4))


def bundle_of(readings: int, sequence: int) -> bytes:
    rows = [(0, 1, T + at, at) for at in range(readings)]
    return message([("M-1", T, 1)], rows, sequence)


def test_a_bundle_arrives_as_columns_and_a_broken_one_is_counted_and_holds_nobody_up(
    broker: Broker,
) -> None:
    frames: queue.Queue[Frame] = queue.Queue()
    samples: list[MalformedSample] = []
    session = MqttSession(config(broker), clock_us=lambda: 9, on_malformed=samples.append)
    with running(session, frames.put), meter(broker, "DTU-1") as (client, heard):
        good = bundle_of(3, 5)
        for payload in (good[:-1], b"PWC\x02" + good[4:], b"", good):
            client.publish("pw/DTU-1/up/bundle", payload, qos=1).wait_for_publish(10)
        frame = frames.get(timeout=10)
        assert isinstance(frame, ReadingsBundle)
        assert (frame.concentrator, frame.sequence, frame.received_at_us) == ("DTU-1", 5, 9)
        assert session.stats().malformed == {"length": 1, "version": 1, "truncated": 1}
        assert {each.topic for each in samples} == {"pw/DTU-1/up/bundle"}
        assert session.stats().unacknowledged == 1, "the broken ones are acknowledged, this is not"
        session.ack([frame.token])
        mark = BundleMark("DTU-1", 5, frame.checksum, (0,))
        session.publish_bundle_marks([mark])
        said = heard.get(timeout=10)
        assert said.topic == "pw/DTU-1/down/ack"
        assert bundles.decode_marks("DTU-1", said.payload) == [mark]


def test_bundles_that_nobody_takes_stop_the_socket_before_they_fill_the_memory(
    mosquitto: Broker,
) -> None:
    """The queue counts readings: a message of a concentrator has as many as thousands of meters'."""
    frames: queue.Queue[Frame] = queue.Queue()
    hold = threading.Event()

    def slowly(frame: Frame) -> None:
        hold.wait(60)
        frames.put(frame)

    session = MqttSession(config(mosquitto, queue_frames_max=10_000), clock_us=lambda: 1)
    with running(session, slowly), meter(mosquitto, "DTU-1") as (client, _):
        for number in range(30):
            payload = bundle_of(limits.MAX_READINGS, number)
            client.publish("pw/DTU-1/up/bundle", payload, qos=1).wait_for_publish(10)
        deadline = time.monotonic() + 10
        while session.stats().queued < 10_000 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        read_at_once = 2 * 256 * 1024 // 20
        assert 10_000 <= session.stats().queued <= 10_000 + read_at_once < 30 * limits.MAX_READINGS
        hold.set()
        taken = [frames.get(timeout=20) for _ in range(30)]
        assert [each.sequence for each in taken if isinstance(each, ReadingsBundle)] == [*range(30)]
        session.ack([each.token for each in taken])
        assert session.stats().unacknowledged == 0
