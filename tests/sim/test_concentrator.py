"""A simulated concentrator: it forgets a bundle when the head-end names it, and the meters their readings then."""

from __future__ import annotations

from prewatt.hes.drivers.mqtt_bundle import codec
from prewatt.hes.drivers.mqtt_senml.codec import encode_readings
from prewatt.hes.frames import AckToken, BundleMark, ReadingsBundle, Watermark
from prewatt.sim.concentrator import SimulatedConcentrator

T = 1_764_000_000_000_000
S = 1_000_000


def decoded(payload: bytes) -> ReadingsBundle:
    topic = codec.bundle_topic("DTU-1")
    return codec.decode(topic, payload, received_at_us=T, token=AckToken(0, 0))


def marks(bundle: ReadingsBundle, *refused: int, checksum: int | None = None) -> bytes:
    checksum = bundle.checksum if checksum is None else checksum
    return codec.encode_marks([BundleMark("DTU-1", bundle.sequence, checksum, refused)])


def gathered() -> tuple[SimulatedConcentrator, ReadingsBundle]:
    concentrator = SimulatedConcentrator("DTU-1", gather_us=5 * S)
    concentrator.take("M-2", encode_readings("M-2", [(T, 1, 20)], relay="open"), T)
    concentrator.take("M-1", encode_readings("M-1", [(T, 1, 10), (T + S, 1, 11)]), T)
    (payload,) = concentrator.tick(T + S)
    return concentrator, decoded(payload)


def test_it_sends_what_its_meters_said_and_when_it_heard_them() -> None:
    _, bundle = gathered()
    assert bundle.serials == [b"M-1", b"M-2"]
    assert bundle.heard_at_us.tolist() == [T, T] and bundle.relay.tolist() == [0, 2]
    assert bundle.place.tolist() == [0, 0, 1] and bundle.value.tolist() == [10, 11, 20]


def test_only_the_name_of_a_bundle_lets_its_readings_go() -> None:
    concentrator, bundle = gathered()
    assert concentrator.receive_marks(marks(bundle, checksum=bundle.checksum ^ 1)) == []
    assert concentrator.receive_marks(b"noise") == [] and concentrator.unnamed == 1
    assert concentrator.receive_marks(marks(bundle)) == [
        Watermark("M-1", 1, T, T, 10),
        Watermark("M-1", 1, T + S, T + S, 11),
        Watermark("M-2", 1, T, T, 20),
    ]
    assert concentrator.unnamed == 0 and concentrator.receive_marks(marks(bundle)) == []


def test_two_registers_of_one_instant_go_and_are_named_each() -> None:
    """A meter whose clock was set back has read the same instant twice."""
    concentrator = SimulatedConcentrator("DTU-1", gather_us=5 * S)
    concentrator.take("M-1", encode_readings("M-1", [(T, 1, 10)]), T)
    (first,) = concentrator.tick(T + S)
    concentrator.take("M-1", encode_readings("M-1", [(T, 1, 12)]), T + S)
    concentrator.take("M-1", encode_readings("M-1", [(T, 1, 14)]), T + S)
    (second,) = concentrator.tick(T + 7 * S)
    assert decoded(second).value.tolist() == [12, 14]
    assert concentrator.receive_marks(marks(decoded(first))) == [Watermark("M-1", 1, T, T, 10)]


def test_what_was_refused_stays_with_its_meter_and_is_taken_when_it_comes_again() -> None:
    concentrator, bundle = gathered()
    let_go = concentrator.receive_marks(marks(bundle, 0))
    assert [each.serial for each in let_go] == ["M-2"]
    concentrator.take("M-1", encode_readings("M-1", [(T, 1, 10)]), T + 40 * S)
    (payload,) = concentrator.tick(T + 40 * S)
    assert decoded(payload).value.tolist() == [10]


def test_what_is_not_named_is_sent_again_as_it_was_and_not_gathered_twice() -> None:
    concentrator, bundle = gathered()
    concentrator.take("M-1", encode_readings("M-1", [(T, 1, 10), (T + 2 * S, 1, 12)]), T + 2 * S)
    assert concentrator.tick(T + 2 * S) == [], "not yet due"
    (fresh,) = concentrator.tick(T + 6 * S)
    assert decoded(fresh).value.tolist() == [12]
    (again,) = concentrator.tick(T + 31 * S)
    assert decoded(again).checksum == bundle.checksum
    concentrator.connected()
    assert len(concentrator.tick(T + 32 * S)) == 2
    assert decoded(fresh).sequence > bundle.sequence
