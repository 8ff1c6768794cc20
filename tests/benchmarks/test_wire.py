"""The client of the wire bench: what it sends is what meters send, and what it counts was taken."""

from __future__ import annotations

import numpy as np
import pytest

from prewatt.benchmarks import wire, wire_client
from prewatt.benchmarks.city import City
from prewatt.hes import mqtt
from prewatt.hes.drivers.mqtt_bundle import codec
from prewatt.hes.drivers.mqtt_senml import quick
from prewatt.hes.frames import AckToken, BundleMark, ReadingsBlock
from prewatt.runtime.broker import Broker


def test_the_client_sends_readings_as_meters_do() -> None:
    decoder = mqtt.Decoder(4, packet_bytes_max=10_000)
    decoder.feed(
        b"".join(wire_client._packet(n, 1_800_000_000, 7 * n, "1800000001.5", n) for n in (5, 600))
    )
    (messages,) = decoder.take(10)
    assert isinstance(messages, mqtt.Publishes)
    (block,) = quick.blocks(messages, connection=1, received_at_us=1)
    assert isinstance(block, ReadingsBlock)
    assert (block.serials, block.value.tolist()) == (["C5", "C600"], [35, 4_200])
    assert block.token.message_ids.tolist() == [5, 600]
    assert block.relay == ["closed"] * 2 and block.meter_clock_us == [1_800_000_001_500_000] * 2


def test_mosquitto_alone_carries_every_message_to_the_one_who_acknowledges(
    mosquitto: Broker,
) -> None:
    load = wire_client.Load(
        City(60), mosquitto.command.port, window=50, rate=400, clock_offset_us=0
    )
    per_second = wire._ceiling(load, 0.5)
    assert 100 < per_second < 500


def test_half_a_packet_waits_for_its_rest() -> None:
    packet = wire_client._packet(5, 1_800_000_000, 7, "1800000001.5", 300)
    assert wire_client._acknowledged(packet + packet[:20]) == ([b"\x40\x02\x01\x2c"], len(packet))


def test_a_concentrator_of_the_bench_sends_what_the_city_shows() -> None:
    gathering = wire_client.Gathering(concentrators=3, meters_each=2, instants_each=4)
    publisher = wire_client._BundlePublisher.__new__(wire_client._BundlePublisher)
    publisher._load = wire_client.Load(City(6), 1, 9, None, 0, gathering)
    publisher._sent, publisher._sent_at = 0, np.zeros(wire_client._BUNDLES_REMEMBERED)
    packets = b"".join(publisher._packets(4, 1_800_000_000_000_000, 1.0))
    decoder = mqtt.Decoder(4, packet_bytes_max=300_000)
    decoder.feed(packets)
    (messages,) = decoder.take(10)
    assert isinstance(messages, mqtt.Publishes)
    read = [
        codec.decode(
            packets[topic:topic_end].decode(),
            packets[payload:end],
            received_at_us=1,
            token=AckToken(1, 1),
        )
        for topic, topic_end, payload, end in zip(
            messages.topic, messages.topic_end, messages.payload, messages.end, strict=True
        )
    ]
    assert [each.concentrator for each in read] == ["DTU-0", "DTU-1", "DTU-2", "DTU-0"]
    assert [each.sequence for each in read] == [1, 2, 3, 4]
    assert read[1].serials == [b"C3", b"C4"] and not read[1].refusal.any()
    quarters = [City.at_us(each) for each in (1, 2, 3, 4)]
    assert read[1].read_at_us.tolist() == quarters * 2
    assert read[3].read_at_us.tolist() == [City.at_us(each) for each in (5, 6, 7, 8)] * 2
    values = [City(6).registers(np.array([4]), quarter)[0] for quarter in (1, 2, 3, 4)]
    assert read[1].value[read[1].place == 1].tolist() == values


def test_marks_of_the_bench_are_counted_and_a_refused_meter_ends_it() -> None:
    publisher = wire_client._BundlePublisher.__new__(wire_client._BundlePublisher)
    said = codec.encode_marks([BundleMark("DTU-0", 7, 99), BundleMark("DTU-0", 8, 0)])
    assert publisher._marks(said + said[:14]) == ([7, 8], len(said) - 2)
    with pytest.raises(AssertionError, match="message 7"):
        publisher._marks(codec.encode_marks([BundleMark("DTU-0", 7, 99, (3,))]))
