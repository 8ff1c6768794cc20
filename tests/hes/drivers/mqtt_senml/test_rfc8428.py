"""The examples of RFC 8428 in both forms, and CBOR held to an encoder that nobody here wrote."""

from __future__ import annotations

import json
from decimal import Decimal

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hes.drivers.mqtt_senml.test_codec import T, decode, rows

from cases import cases
from prewatt.hes.drivers import senml_cbor
from prewatt.hes.drivers.mqtt_senml import codec
from prewatt.hes.drivers.mqtt_senml.codec import parse_pack
from prewatt.hes.frames import MalformedFrame, ReadingsFrame

#: Section 5.1.3, and the same in section 6, byte for byte.
JSON = b"""[
 {"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,
  "bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},
 {"n":"current","t":-5,"v":1.2},
 {"n":"current","t":-4,"v":1.3},
 {"n":"current","t":-3,"v":1.4},
 {"n":"current","t":-2,"v":1.5},
 {"n":"current","t":-1,"v":1.6},
 {"n":"current","v":1.7}
]"""
CBOR = bytes.fromhex(
    "87a721781b75726e3a6465763a6f773a3130653230373361303130383030363a"
    "22fb41d303a15b001062236141200500"
    "67766f6c7461676501615602fb405e066666666666"
    "a3006763757272656e74062402fb3ff3333333333333"
    "a3006763757272656e74062302fb3ff4cccccccccccd"
    "a3006763757272656e74062202fb3ff6666666666666"
    "a3006763757272656e74062102f93e00"
    "a3006763757272656e74062002fb3ff999999999999a"
    "a3006763757272656e74060002fb3ffb333333333333"
)


def test_the_two_forms_of_the_rfcs_example_say_the_same() -> None:
    from_json = parse_pack(JSON)
    from_cbor = senml_cbor.records_of(CBOR, records_max=10)
    # Only the last record differs: the binary form says its time of zero.
    assert from_cbor[-1].pop("t") == 0
    assert [{**each, "bt": None} for each in from_cbor] == [
        {**each, "bt": None} for each in from_json
    ]
    first = from_cbor[0]["bt"], from_json[0]["bt"]
    assert [round(Decimal(str(each)), 3) for each in first] == [Decimal("1276020076.001")] * 2


def test_the_example_resolves_as_section_5_1_4_has_it() -> None:
    """With names and units that a meter has, since nothing here is billed by volts."""
    pack = (
        JSON.replace(b"urn:dev:ow:10e2073a0108006:", b"PW-1/")
        .replace(b'"n":"voltage","u":"V","v":120.1', b'"n":"1.8.0","u":"kWh","v":120.1')
        .replace(b'"current"', b'"1.6.0"')
        .replace(b'"bu":"A"', b'"bu":"kW"')
    )
    base_us = 1_276_020_076_001_000
    expected = [[base_us, 1, 120_100]] + [
        [base_us - seconds * 1_000_000, 4, value]
        for seconds, value in zip((5, 4, 3, 2, 1, 0), range(1_200, 1_800, 100), strict=True)
    ]
    assert rows(decode(pack)) == expected
    records = json.loads(pack, parse_float=Decimal)
    assert rows(decode(as_cbor(records))) == expected


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"n": "1.8.0", "u": "Wh", "v": 1, "t": 60}, "time"),  # relative to now (4.5.3)
        ({"n": "1.8.0", "u": "Wh", "v": 1, "t": T // 1_000_000, "x_": 1}, "must_understand"),
        ({"n": "1.8.0", "u": "Wh", "v": 1, "t": T // 1_000_000, "bver": 11}, "version"),
        ({"n": "1.8.0", "u": "Wh", "vs": "1", "t": T // 1_000_000}, "type"),
        ({"n": "1.8.0", "u": "Wh", "v": 1.5, "t": T // 1_000_000}, "precision"),
        ({"n": "1.8.0", "u": "Wh", "v": float("inf"), "t": T // 1_000_000}, None),
        ({"n": "/1.8.0", "u": "Wh", "v": 1, "t": T // 1_000_000}, None),
    ],
)
def test_what_is_refused_in_one_form_is_refused_in_the_other(
    record: dict[str, object], reason: str | None
) -> None:
    for payload in (
        as_cbor([{"bn": "PW-1/", **record}]),
        json.dumps([{"bn": "PW-1/", **record}]).encode(),
    ):
        if reason is None and record["n"] == "/1.8.0":
            # A name that is no register is left alone, and then nothing is left.
            reason = "empty"
        with pytest.raises(MalformedFrame) as refused:
            decode(payload)
        assert reason is None or refused.value.reason == reason
    # What is not known and need not be understood is ignored.
    good = {"bn": "PW-1/", "n": "1.8.0", "u": "Wh", "v": 1, "t": T // 1_000_000, "x": 1, "ut": 9}
    assert rows(decode(as_cbor([good]))) == [[T, 1, 1]]


@settings(max_examples=cases(60), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(T, T + 10**13), st.sampled_from((1, 2, 3, 4)), st.integers(0, 10**12)
        ),
        min_size=1,
        max_size=8,
    )
)
def test_a_pack_in_cbor_is_the_pack_in_json(readings: list[tuple[int, int, int]]) -> None:
    payload = codec.encode_readings("PW-1", readings, meter_clock_us=T, relay="open")
    other = decode(as_cbor(json.loads(payload, parse_float=Decimal)))
    assert rows(other) == rows(decode(payload)) == [list(each) for each in readings]
    assert isinstance(other, ReadingsFrame)
    assert (other.meter_clock_us, other.relay) == (T, "open")


@settings(max_examples=cases(300), deadline=None)
@given(st.binary(max_size=120), st.integers(0, len(CBOR)), st.integers(0, 40))
def test_no_bytes_do_anything_but_decode_or_be_refused(noise: bytes, at: int, gone: int) -> None:
    for payload in (b"\x81" + noise, CBOR[:at] + noise + CBOR[at + gone :]):
        with pytest.raises(MalformedFrame):
            decode(payload)


def as_cbor(records: list[dict[str, object]]) -> bytes:
    numbers = {name: label for label, name in senml_cbor.LABELS.items()}
    return cbor2.dumps(
        [{numbers.get(key, key): each for key, each in one.items()} for one in records]
    )
