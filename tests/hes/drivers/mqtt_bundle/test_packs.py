"""A concentrator's SenML becomes the columns that its bundle would have become, or is refused."""

from __future__ import annotations

import json
import zlib
from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hes.drivers.mqtt_bundle.test_codec import T, decode, meters, readings, reason

from cases import cases
from prewatt.hes.drivers.mqtt_bundle import codec, packs
from prewatt.hes.frames import Refusal

#: As RFC 8428, 5.1 has it: base name and time once, and what is not known here beside it.
SAID: list[dict[str, Any]] = [
    {"n": "DTU-1/sequence", "v": 7},
    {"n": "DTU-1/clock", "u": "s", "v": 1_764_000_000},
    {"n": "DTU-1/uptime", "u": "s", "v": 5},
    {"bn": "M-1/", "bt": 1_764_000_000, "bu": "Wh", "n": "1.8.0", "v": 100},
    {"n": "1.8.0", "t": 900, "v": 0.5, "u": "kWh"},
    {"n": "relay", "vb": False},
    {"bn": "M-2/", "n": "1.8.0", "t": -900, "v": 200},
    {"n": "voltage", "u": "V", "v": 231.5},
    {"n": "1.8.0", "v": 1e15},
    {"n": "1.8.0", "bt": 5, "v": 1},
]


def text(records: list[dict[str, Any]]) -> bytes:
    return json.dumps(records).encode()


def test_a_gateways_pack_is_read_record_by_record() -> None:
    bundle = decode(text(SAID))
    assert (bundle.concentrator, bundle.sequence, bundle.sent_at_us) == ("DTU-1", 7, T)
    assert bundle.checksum == zlib.crc32(text(SAID)) == codec.checksum_of(text(SAID))
    assert bundle.serials == [b"M-1", b"M-2"]
    assert bundle.relay.tolist() == [2, 0]
    assert bundle.place.tolist() == [0, 0, 1, 1, 1]
    assert bundle.value.tolist() == [100, 500, 200, 0, 1]
    assert bundle.read_at_us.tolist() == [T, T + 900_000_000, T - 900_000_000, T, 0]
    assert bundle.refusal.tolist() == [0, 0, 0, Refusal.RANGE, Refusal.TIME]


def test_a_pack_in_cbor_is_the_same() -> None:
    labels = {"bn": -2, "bt": -3, "bu": -4, "n": 0, "u": 1, "v": 2, "vb": 4, "t": 6}
    said = cbor2.dumps([{labels[key]: each[key] for key in each} for each in SAID])
    one, other = decode(text(SAID)), decode(said)
    assert (one.serials, one.sequence, one.sent_at_us) == (other.serials, 7, other.sent_at_us)
    for column in ("place", "register_code", "read_at_us", "value", "refusal", "relay"):
        assert np.array_equal(getattr(one, column), getattr(other, column)), column


@settings(max_examples=cases(30), deadline=None)
@given(
    said=st.lists(meters, min_size=3, max_size=5, unique_by=lambda each: each[0]),
    rows=st.lists(readings, min_size=1, max_size=9),
)
def test_a_pack_and_a_bundle_of_the_same_are_the_same(
    said: list[tuple[str, int, int]], rows: list[tuple[int, int, int, int]]
) -> None:
    table = np.array([(*each, b"") for each in said], dtype=codec.METER)
    columns = np.array(
        [(meter, code, 0, at, value) for meter, code, at, value in rows], codec.READING
    )
    pack = decode(packs.encode("DTU-1", sequence=7, sent_at_us=T, meters=table, readings=columns))
    bundle = decode(codec.encode(sequence=7, sent_at_us=T, meters=table, readings=columns))

    def of(read: Any) -> list[tuple[Any, ...]]:
        serials = [read.serials[at] for at in read.place.tolist()]
        heard = [(read.heard_at_us[at], read.relay[at]) for at in read.place.tolist()]
        return list(
            zip(
                serials, heard, read.register_code.tolist(), read.read_at_us.tolist(),
                read.value.tolist(), read.refusal.tolist(), strict=True,
            )
        )  # fmt: skip

    assert of(pack) == of(bundle)


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (SAID[1:], "value"),
        (SAID[:1] + SAID[2:], "value"),
        ([{"n": "DTU-1/sequence", "v": 2**53}, *SAID[1:]], "value"),
        ([{"n": "DTU-1/clock", "v": 5}, *SAID], "time"),
        (SAID[:3], "empty"),
        ([*SAID, {"bn": "", "n": "M 3/1.8.0", "v": 1}], "name"),
        ([*SAID, {"bn": "", "n": f"{'M' * 41}/1.8.0", "v": 1}], "serial"),
        ([*SAID, {"n": "1.8.0", "u": "V", "v": 1}], "unit"),
        ([*SAID, {"n": "relay", "v": 1}], "type"),
        ([*SAID, {"n": "1.8.0", "v": 1, "x_": 1}], "must_understand"),
        ([*SAID, *({"bn": f"N-{at}/", "n": "relay", "vb": True} for at in range(999))], "count"),
        ([*SAID, *({"n": "1.8.0", "v": 1} for _ in range(2_048))], "too_many"),
    ],
)
def test_a_pack_that_cannot_be_read_is_refused_with_its_reason(
    records: list[dict[str, Any]], why: str
) -> None:
    assert reason(text(records)) == why


@settings(max_examples=cases(60), deadline=None)
@given(data=st.data())
def test_any_bytes_of_a_pack_are_refused_or_are_columns_within_bounds(data: Any) -> None:
    whole = bytearray(text(SAID))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    if not packs.is_pack(bytes(whole)):
        return
    try:
        bundle = decode(bytes(whole))
    except codec.MalformedFrame:
        return
    assert bundle.place.min() >= 0 and bundle.place.max() < len(bundle.serials) <= 1_000
