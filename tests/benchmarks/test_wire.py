"""The client of the wire bench: what it sends is what meters send, and what it counts was taken."""

from __future__ import annotations

from prewatt.benchmarks import wire, wire_client
from prewatt.benchmarks.city import City
from prewatt.hes import mqtt
from prewatt.hes.drivers.mqtt_senml import quick
from prewatt.hes.frames import ReadingsBlock
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
