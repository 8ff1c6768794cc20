"""The MQTT codec: frames on file byte for byte, exactness against fractions, and hostile bytes."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prewatt.hes.drivers.mqtt_senml import codec
from prewatt.hes.drivers.mqtt_senml.topics import is_serial, parse_uplink
from prewatt.hes.frames import (
    ACTIVE_IMPORT,
    EVENT_LOG,
    AckToken,
    AnswerFrame,
    EventFrame,
    HelloFrame,
    MalformedFrame,
    ReadingsFrame,
    Watermark,
)

VECTORS = Path(__file__).parent / "vectors"
TOKEN = AckToken(1, 2)
T = 1_764_000_000_000_000


def decode(payload: bytes, channel: str = "readings", serial: str = "PW-1") -> object:
    return codec.decode(f"pw/{serial}/up/{channel}", payload, received_at_us=9, token=TOKEN)


def rows(frame: object) -> list[list[int]]:
    assert isinstance(frame, ReadingsFrame)
    return [
        [int(t), int(c), int(v)]
        for t, c, v in zip(frame.read_at_us, frame.register_code, frame.value, strict=True)
    ]


def cases(name: str) -> list[dict[str, object]]:
    loaded: list[dict[str, object]] = json.loads((VECTORS / name).read_text())
    return loaded


@pytest.mark.parametrize("case", cases("readings.json"), ids=lambda case: case["name"])
def test_frames_on_file_decode_to_the_written_columns(case: dict[str, object]) -> None:
    frame = decode(str(case["payload"]).encode())
    assert isinstance(frame, ReadingsFrame)
    assert rows(frame) == case["rows"]
    assert (frame.meter_clock_us, frame.relay) == (case["clock"], case["relay"])
    assert (frame.serial, frame.received_at_us, frame.token) == ("PW-1", 9, TOKEN)
    assert frame.read_at_us.dtype == frame.value.dtype == "int64"


@pytest.mark.parametrize("case", cases("malformed.json"), ids=lambda case: case["payload"][:90])
def test_malformed_frames_on_file_are_refused_for_the_written_reason(case: dict[str, str]) -> None:
    with pytest.raises(MalformedFrame) as refusal:
        decode(case["payload"].encode())
    assert refusal.value.reason == case["reason"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"[" * 50_000, "json"),
        (b'[{"a":' * 10_000, "json"),
        (b'{"a":' * 10_000, "json"),
        (b'[{"n":"' + b"a" * 140_000 + b'"}]', "oversize"),
        (b"[" + b"{}," * 3_000 + b"{}]", "too_many"),
        (b'[{"n":"PW-1/1.8.0","u":"Wh","t":1764000000,"v":' + b"9" * 9_000 + b"}]", "json"),
        (b'[{"n":"PW-1/1.8.0","u":"Wh","t":1764000000,"v":1.' + b"0" * 9_000 + b"}]", "range"),
        (b'[{"n":"PW-1/1.8.0","u":"Wh","t":1764000000,"v":1e' + b"9" * 30 + b"}]", "json"),
        (b"\xff\xfe[]", "json"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value[:30]!r}",
)
def test_bombs_are_refused(payload: bytes, reason: str) -> None:
    for channel in ("readings", "hello", "answer", "event"):
        with pytest.raises(MalformedFrame) as refusal:
            decode(payload, channel)
        if channel == "readings":
            # Which check meets the bomb first is the library's affair where both are right.
            assert refusal.value.reason in {reason, "type", "range"}


@pytest.mark.parametrize(
    "topic",
    ["pw/PW-1/up/other", "pw/PW-1/down/readings", "pw/sim/up/hello", "pw//up/hello", "a/b", ""],
)
def test_other_topics_are_refused(topic: str) -> None:
    with pytest.raises(MalformedFrame) as refusal:
        parse_uplink(topic)
    assert refusal.value.reason == "topic"


def test_serials_cannot_reach_into_other_topics() -> None:
    assert is_serial("PW-000.1_x")
    assert not any(map(is_serial, ["", "a/b", "+", "#", "-a", "a" * 41, "a\n", "sim", "$SYS"]))


readings_lists = st.lists(
    st.tuples(
        st.integers(T - 10**15, T + 10**15), st.sampled_from([1, 2, 3, 4]), st.integers(0, 10**14)
    ),
    min_size=1,
    max_size=40,
)


@given(readings_lists, st.none() | st.integers(T, 2 * T), st.sampled_from([None, "open", "closed"]))
def test_what_a_meter_encodes_comes_back_unchanged(readings, clock_us, relay) -> None:  # type: ignore[no-untyped-def]  # hypothesis fills these
    payload = codec.encode_readings("PW-1", readings, meter_clock_us=clock_us, relay=relay)
    frame = decode(payload)
    assert rows(frame) == [list(row) for row in readings]
    assert isinstance(frame, ReadingsFrame)
    assert (frame.meter_clock_us, frame.relay) == (clock_us, relay)


@given(st.integers(0, 10**12), st.integers(0, 9), st.integers(0, 10**9))
def test_decimals_are_exact_or_refused(whole: int, places: int, part: int) -> None:
    number = f"{whole}.{part % 10**places:0{places}d}" if places else str(whole)
    payload = f'[{{"n":"PW-1/1.8.0","u":"kWh","v":{number},"t":1764000000}}]'.encode()
    exact_wh = Fraction(number) * 1000
    if exact_wh.denominator == 1 and exact_wh < 10**15:
        assert rows(decode(payload)) == [[T, ACTIVE_IMPORT, int(exact_wh)]]
    else:
        with pytest.raises(MalformedFrame):
            decode(payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)
senml_values = (
    json_values | st.sampled_from(["PW-1/", "1.8.0", "Wh", "PW-1/1.8.0"]) | st.just(1_764_000_000)
)
senml_keys = st.sampled_from(["bn", "bt", "bu", "bv", "bver", "n", "u", "v", "vb", "t", "x_", "s"])
packs = st.lists(st.dictionaries(senml_keys, senml_values, max_size=6), max_size=5)
channels = st.sampled_from(["readings", "hello", "answer", "event"])
objects = st.dictionaries(
    st.sampled_from(["id", "result", "relay", "register", "at", "clock", "firmware", "code"]),
    json_values | st.sampled_from(["ok", "open", "cover_open"]) | st.just(1_764_000_000),
)


@given(
    channels,
    st.binary(max_size=200) | (packs | objects | json_values).map(lambda v: json.dumps(v).encode()),
)
def test_hostile_bytes_are_decoded_or_refused_and_nothing_else(
    channel: str, payload: bytes
) -> None:
    try:
        frame = decode(payload, channel)
    except MalformedFrame as refusal:
        assert refusal.reason  # noqa: PT017 - both ways out are right
        return
    if isinstance(frame, ReadingsFrame):
        assert len(frame) == len(frame.value) == len(frame.register_code) > 0
        assert bool((frame.value >= 0).all())


@given(st.data())
def test_a_damaged_frame_never_breaks_the_decoder(data: st.DataObject) -> None:
    good = bytearray(codec.encode_readings("PW-1", [(T, 1, 5), (T + 1, 2, 6)], meter_clock_us=T))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        frame = decode(bytes(good))
    except MalformedFrame:
        return
    assert isinstance(frame, ReadingsFrame)


def test_hello_event_and_answer_come_back_as_typed_frames() -> None:
    hello = decode(codec.encode_hello(clock_us=T + 1, relay="open", firmware='1.0 "x"'), "hello")
    assert hello == HelloFrame("PW-1", 9, TOKEN, T + 1, "open", '1.0 "x"')
    event = decode(codec.encode_event(code="cover_open", at_us=T, detail="é"), "event")
    assert event == EventFrame("PW-1", 9, TOKEN, "cover_open", T, "é")
    answer = decode(
        codec.encode_answer(
            command_id="7.relay", result="ok", relay="closed", register_wh=5, at_us=T
        ),
        "answer",
    )
    assert answer == AnswerFrame("PW-1", 9, TOKEN, "7.relay", "ok", "closed", 5, T)


@pytest.mark.parametrize(
    ("channel", "payload"),
    [
        ("hello", b'{"clock":1764000000,"relay":"ajar","firmware":"1"}'),
        ("hello", b'{"clock":1764000000,"relay":"open","relay":"closed","firmware":"1"}'),
        ("hello", b'{"clock":5,"relay":"open","firmware":"1"}'),
        ("event", b'{"code":"DROP TABLE","at":1764000000}'),
        ("event", b'{"code":"x","at":1764000000,"detail":"\\u0000"}'),
        ("answer", b'{"id":"1","result":"maybe","relay":"open","register":1,"at":1764000000}'),
        ("answer", b'{"id":"1 2","result":"ok","relay":"open","register":1,"at":1764000000}'),
        ("answer", b'{"id":"1","result":"ok","relay":"open","register":0.5,"at":1764000000}'),
        ("answer", b'{"id":"1","result":"ok","relay":"open","register":1,"at":{"a":{"b":1}}}'),
    ],
)
def test_malformed_objects_are_refused(channel: str, payload: bytes) -> None:
    with pytest.raises(MalformedFrame):
        decode(payload, channel)


def test_commands_and_watermarks_reach_the_meter_unchanged() -> None:
    cut = codec.Command("12.relay", "relay", "open", T, T + 60_000_000)
    read = codec.Command("12.read", "read", None, T + 500_000, T + 60_000_000)
    assert codec.encode_command(cut) == (
        b'{"id":"12.relay","op":"relay","state":"open","issued_at":1764000000,'
        b'"expires_at":1764000060}'
    )
    others = [
        codec.Command("f7", "history", None, T, T + 1, from_us=T - 900_500_000, until_us=T),
        codec.Command("f8", "clock", None, T, T + 1, move_us=-37_000_000),
        codec.Command("f9", "hello", None, T, T + 1),
    ]
    for command in (cut, read, *others):
        assert codec.decode_command(codec.encode_command(command)) == command
    for wrong in (replace(others[0], until_us=T - 900_600_000), replace(others[1], op="relay")):
        with pytest.raises(MalformedFrame):
            codec.decode_command(codec.encode_command(wrong))
    marks = [
        Watermark("PW-1", 1, T, T - 1_000_000, 5_000),
        Watermark("PW-1", EVENT_LOG, T + 1, T + 1, None),
    ]
    payload = codec.encode_watermarks(marks)
    assert payload == (
        b'{"committed":{"1.8.0":1764000000,"events":1764000000.000001},'
        b'"from":{"1.8.0":1763999999,"events":1764000000.000001},"value":{"1.8.0":5000}}'
    )
    assert codec.decode_watermarks("PW-1", payload) == marks
    for wrong in (
        payload.replace(b"1.8.0", b"9.9.9"),
        payload.replace(b'"from":{"1.8.0"', b'"from":{"2.8.0"'),
        payload.replace(b'"from":{"1.8.0":1763999999', b'"from":{"1.8.0":"then"'),
        payload.replace(b'"value":{"1.8.0":5000}', b'"value":{}'),
        payload.replace(b'"value":{"1.8.0":5000}', b'"value":{"1.8.0":0.5}'),
        payload.replace(b',"value":{"1.8.0":5000}', b""),
        b'{"committed":{"1.8.0":1764000000},"from":3,"value":{"1.8.0":5000}}',
    ):
        with pytest.raises(MalformedFrame):
            codec.decode_watermarks("PW-1", wrong)


def test_a_watermark_says_from_when_on_and_one_payload_has_a_register_once() -> None:
    first = Watermark("PW-1", 1, T, T - 60_000_000, 5_000)
    second = Watermark("PW-1", 1, T + 5_000_000, T + 5_000_000, 5_001)
    event = Watermark("PW-1", EVENT_LOG, T, T, None)
    payloads = codec.watermark_payloads([first, second, event])
    assert payloads[0] == (
        b'{"committed":{"1.8.0":1764000000,"events":1764000000},'
        b'"from":{"1.8.0":1763999940,"events":1764000000},"value":{"1.8.0":5000}}'
    )
    assert [codec.decode_watermarks("PW-1", each) for each in payloads] == [
        [first, event],
        [second],
    ]
    assert codec.watermark_payloads([]) == []


def test_an_event_without_detail_is_an_event() -> None:
    for payload in (
        codec.encode_event(code="cover_open", at_us=T),
        b'{"code":"cover_open","at":1764000000}',
    ):
        event = decode(payload, "event")
        assert isinstance(event, EventFrame)
        assert (event.at_us, event.detail) == (T, "")
