"""A concentrator's bytes become columns, or are refused: nothing else, whatever the bytes."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import cases
from prewatt.hes.drivers.mqtt_bundle import codec, limits
from prewatt.hes.frames import AckToken, BundleMark, MalformedFrame, ReadingsBundle, Refusal

T = 1_764_000_000_000_000
TOKEN = AckToken(1, 1)

meters = st.tuples(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", fullmatch=True),
    st.sampled_from([0, T, T - 3_600_000_000]),
    st.integers(0, 2),
)
readings = st.tuples(
    st.integers(0, 2),
    st.integers(1, 4),
    st.integers(T - 10**12, T),
    st.integers(0, 10**15 - 1),
)


def message(
    said: list[tuple[str, int, int]],
    rows: list[tuple[int, int, int, int]],
    sequence: int = 7,
) -> bytes:
    table = np.zeros(len(said), dtype=codec.METER)
    for at, (serial, heard, relay) in enumerate(said):
        table[at]["serial"], table[at]["heard_at_us"], table[at]["relay"] = serial, heard, relay
    columns = np.zeros(len(rows), dtype=codec.READING)
    for at, (meter, code, at_us, value) in enumerate(rows):
        columns[at] = (meter, code, 0, at_us, value)
    return codec.encode(sequence=sequence, sent_at_us=T, meters=table, readings=columns)


def decode(payload: bytes, topic: str = "pw/DTU-1/up/bundle") -> ReadingsBundle:
    return codec.decode(topic, payload, received_at_us=5, token=TOKEN)


def reason(payload: bytes, topic: str = "pw/DTU-1/up/bundle") -> str:
    with pytest.raises(MalformedFrame) as refused:
        decode(payload, topic)
    return refused.value.reason


def resealed(payload: bytes | bytearray) -> bytes:
    """The same with the CRC-32 that belongs to it: what a faulty sender would send, not a faulty line."""
    body = bytes(payload[:-4])
    return body + zlib.crc32(body).to_bytes(4, "little")


PLAIN = message(
    [("M-1", T, 1), ("M-2", 0, 0)], [(0, 1, T, 100), (1, 1, T, 200), (0, 1, T + 1, 101)]
)


@settings(max_examples=cases(60), deadline=None)
@given(
    said=st.lists(meters, min_size=3, max_size=5),
    rows=st.lists(readings, min_size=1, max_size=9),
    sequence=st.integers(0, limits.MAX_SEQUENCE),
)
def test_what_is_written_is_read(
    said: list[tuple[str, int, int]], rows: list[tuple[int, int, int, int]], sequence: int
) -> None:
    bundle = decode(message(said, rows, sequence))
    assert (bundle.concentrator, bundle.sequence, bundle.sent_at_us) == ("DTU-1", sequence, T)
    assert (bundle.received_at_us, bundle.token) == (5, TOKEN)
    assert [each.decode() for each in bundle.serials] == [each[0] for each in said]
    assert bundle.heard_at_us.tolist() == [each[1] for each in said]
    assert bundle.relay.tolist() == [each[2] for each in said]
    read = zip(
        bundle.place.tolist(),
        bundle.register_code.tolist(),
        bundle.read_at_us.tolist(),
        bundle.value.tolist(),
        strict=True,
    )
    assert list(read) == rows
    assert not bundle.refusal.any()


def test_the_bytes_are_those_of_the_table() -> None:
    """Written by hand from the README, so that a change of the format cannot go unseen."""
    body = (
        b"PWC\x01"
        + (1).to_bytes(2, "little")
        + (2).to_bytes(2, "little")
        + bytes(4)
        + (258).to_bytes(8, "little")
        + T.to_bytes(8, "little")
        + b"M-1".ljust(32, b"\0")
        + (T - 1).to_bytes(8, "little")
        + b"\x02"
        + bytes(7)
        + (0).to_bytes(2, "little") + b"\x01\0" + T.to_bytes(8, "little") + (77).to_bytes(8, "little")
        + (0).to_bytes(2, "little") + b"\x04\0" + T.to_bytes(8, "little") + (9).to_bytes(8, "little")
    )  # fmt: skip
    assert len(body) == 28 + 48 + 2 * 20
    payload = body + zlib.crc32(body).to_bytes(4, "little")
    assert message([("M-1", T - 1, 2)], [(0, 1, T, 77), (0, 4, T, 9)], 258) == payload
    bundle = decode(payload)
    assert bundle.register_code.tolist() == [1, 4]
    assert bundle.checksum == zlib.crc32(body) == codec.checksum_of(payload)


def test_a_message_cut_anywhere_or_too_long_is_refused() -> None:
    for size in range(len(PLAIN)):
        assert reason(PLAIN[:size]) in {"truncated", "length"}
    assert reason(PLAIN + b"\0") == "length"
    assert reason(bytes(codec.MAX_PAYLOAD_BYTES + 1)) == "oversize"


def test_a_message_with_any_bit_turned_is_refused() -> None:
    for at in range(8 * len(PLAIN)):
        turned = bytearray(PLAIN)
        turned[at // 8] ^= 1 << at % 8
        reason(bytes(turned))


def test_the_largest_message_is_taken() -> None:
    said = [(f"M-{each}", 0, 0) for each in range(limits.MAX_METERS)]
    rows = [(each % 1_000, 1, T, each) for each in range(limits.MAX_READINGS)]
    payload = message(said, rows)
    assert len(payload) == codec.MAX_PAYLOAD_BYTES
    assert len(decode(payload)) == limits.MAX_READINGS
    with pytest.raises(ValueError, match="1001 meters"):
        message([*said, ("M", 0, 0)], rows)


def changed(at: int, *values: int) -> bytes:
    other = bytearray(PLAIN)
    other[at : at + len(values)] = bytes(values)
    return resealed(other)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (changed(0, 0x7B), "format"),
        (changed(3, 2), "version"),
        (changed(3, 0), "version"),
        (changed(4, 0, 0), "count"),
        (changed(4, 0xE9, 3), "count"),
        (changed(6, 0, 0), "count"),
        (changed(6, 0xA1, 0x0F), "count"),
        (changed(6, 4, 0), "length"),
        (changed(4, 3, 0), "length"),
        (changed(8, 1), "value"),
        (changed(19, 0x80), "value"),
        (changed(20, *[0] * 8), "time"),
        (changed(27, 0xFF), "time"),
        (PLAIN[:-1] + bytes([PLAIN[-1] ^ 1]), "checksum"),
        (b"", "truncated"),
        (b"[]" * 40, "json"),
    ],
)
def test_a_message_of_another_shape_is_refused_with_its_reason(payload: bytes, why: str) -> None:
    assert reason(payload) == why


@pytest.mark.parametrize(
    "topic",
    [
        "pw/sim/up/bundle",
        "pw//up/bundle",
        "pw/a/b/up/bundle",
        "x/DTU-1/up/bundle",
        "pw/ü/up/bundle",
    ],
)
def test_a_topic_that_is_no_concentrators_is_refused(topic: str) -> None:
    assert reason(PLAIN, topic) == "topic"


def test_a_bad_reading_is_noted_and_the_others_stay() -> None:
    bundle = decode(
        message(
            [("M-1", T, 9), ("M-2", 5, 1)],
            [
                (0, 1, T, 100),
                (2, 1, T, 100),
                (65_535, 1, T, 100),
                (1, 0, T, 1),
                (1, 5, T, 1),
                (1, 1, 0, 1),
                (1, 1, -(2**63), 1),
                (1, 1, 2**63 - 1, 1),
                (1, 1, T, 10**15),
                (1, 1, T, -(2**63)),
                (1, 1, T, -5),
                (1, 4, T, 7),
            ],
        )
    )
    assert [Refusal(each) for each in bundle.refusal.tolist()] == [
        Refusal.NONE,
        Refusal.PLACE,
        Refusal.PLACE,
        Refusal.REGISTER,
        Refusal.REGISTER,
        Refusal.TIME,
        Refusal.TIME,
        Refusal.TIME,
        Refusal.RANGE,
        Refusal.RANGE,
        Refusal.NONE,
        Refusal.NONE,
    ]
    assert bundle.relay.tolist() == [0, 1], "a relay that is no state is not known"
    assert bundle.heard_at_us.tolist() == [T, 0], "an instant that is none is not said"
    assert bundle.place.max() < len(bundle.serials)


@settings(max_examples=cases(300), deadline=None)
@given(data=st.data())
def test_any_bytes_are_refused_or_are_columns_within_bounds(data: Any) -> None:
    """A sender that seals whatever it has: nothing but `MalformedFrame`, and no index out of its list."""
    mutated = bytearray(PLAIN)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at] = data.draw(st.integers(0, 255))
    other = data.draw(st.sampled_from([bytes(mutated), resealed(mutated), data.draw(st.binary())]))
    try:
        bundle = decode(other)
    except MalformedFrame:
        return
    size = len(bundle)
    assert size > 0 and bundle.place.min() >= 0 and bundle.place.max() < len(bundle.serials)
    assert (
        len({size, *(len(each) for each in (bundle.read_at_us, bundle.value, bundle.refusal))}) == 1
    )
    good = bundle.refusal == Refusal.NONE
    assert (abs(bundle.value[good]) < 10**15).all() and (bundle.read_at_us[good] > 0).all()


def test_marks_are_read_as_they_were_written() -> None:
    marks = [BundleMark("DTU-1", 2**53 - 1, 2**32 - 1, (0, 999)), BundleMark("DTU-1", 0, 0)]
    assert codec.decode_marks("DTU-1", codec.encode_marks(marks)) == marks
    for payload in (
        b"",
        b"{}",
        b"[]",
        b'{"bundles": [[1]]}',
        b'{"bundles": [["a", 1, []]]}',
        b"\xff",
    ):
        with pytest.raises(MalformedFrame):
            codec.decode_marks("DTU-1", payload)
