"""The quick path says what the full codec says, or nothing: any difference would be somebody's money."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cases import cases
from prewatt.hes import mqtt
from prewatt.hes.drivers.mqtt_senml import codec, quick
from prewatt.hes.frames import AckToken, MalformedFrame, ReadingsBlock, ReadingsFrame

SERIALS = ["PW-1", "C123", "a", "x" * 40, "x" * 41, "sim", "A.b_c-d"]
numbers = st.one_of(
    st.integers(-5, 2 * 10**15).map(str),
    st.sampled_from(
        ["0", "00", "01", "-0", "1e3", "1.0", "1.5", "999999999999999", "1000000000000000"]
    ),
)
seconds = st.one_of(
    st.integers(2**28 - 2, 253_402_300_801).map(str),
    st.sampled_from(["1764000000.", "1764000000.5", "1764000000.123456", "1764000000.1234567",
                     "1764000000.000000", "1e9", "999999999", "99999999999", "253402300800"]),
)  # fmt: skip
spaces = st.sampled_from(["", "", "", "", " "])


@st.composite
def payloads(draw: st.DrawFn) -> tuple[str, bytes]:
    """A topic and a payload near the usual shape, and often in it."""
    serial = draw(st.sampled_from(SERIALS))
    told = draw(st.sampled_from([serial] * 6 + SERIALS))
    name, unit = draw(
        st.sampled_from(
            [("1.8.0", "Wh")] * 4
            + [
                ("2.8.0", "Wh"),
                ("3.8.0", "varh"),
                ("1.6.0", "W"),
                ("1.8.0", "kWh"),
                ("3.8.0", "Wh"),
                ("9", "Wh"),
            ]
        )
    )
    space = draw(spaces)
    records = [
        f'{{"bn":"{told}/","bt":{draw(seconds)},"n":"{name}","u":"{unit}",{space}"v":{draw(numbers)}}}'
    ]
    if draw(st.booleans()):
        records.append(f'{{"n":"clock","u":"s","v":{draw(seconds)}}}')
    if draw(st.booleans()):
        records.append(
            f'{{"n":"relay","vb":{draw(st.sampled_from(["true", "false", "1", "True"]))}}}'
        )
    if draw(st.integers(0, 9)) == 0:
        records = draw(st.permutations(records))
    text = f"[{','.join(records)}]"
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(["x", '"', "\n", "0", "١", "}"])) + text[at:]
    channel = draw(st.sampled_from(["readings"] * 8 + ["hello", "event"]))
    return f"pw/{serial}/up/{channel}", text.encode()


def same(one: ReadingsFrame, other: ReadingsFrame) -> bool:
    return (
        (one.serial, one.received_at_us, one.token, one.meter_clock_us, one.relay)
        == (other.serial, other.received_at_us, other.token, other.meter_clock_us, other.relay)
        and all(
            (a.dtype, a.tolist()) == (b.dtype, b.tolist())
            for a, b in (
                (one.read_at_us, other.read_at_us),
                (one.register_code, other.register_code),
                (one.value, other.value),
            )
        )
    )  # fmt: skip


def decoded(sent: list[tuple[str, bytes]]) -> list[ReadingsBlock | int]:
    decoder = mqtt.Decoder(5, packet_bytes_max=300_000)
    decoder.feed(
        b"".join(
            mqtt.publish(5, topic, payload, message_id=number + 1)
            for number, (topic, payload) in enumerate(sent)
        )
    )
    (messages,) = decoder.take(len(sent))
    assert isinstance(messages, mqtt.Publishes)
    return list(quick.blocks(messages, connection=3, received_at_us=77))


@settings(max_examples=cases(200), deadline=None)
@given(st.lists(payloads(), min_size=1, max_size=8))
def test_the_quick_path_is_the_full_codec_or_leaves_it_alone(sent: list[tuple[str, bytes]]) -> None:
    seen: list[int] = []
    for each in decoded(sent):
        if isinstance(each, int):
            seen.append(each)
            continue
        for frame in each.frames():
            assert isinstance(frame.token, AckToken)
            number = frame.token.message_id - 1
            seen.append(number)
            full = codec.decode(*sent[number], received_at_us=77, token=frame.token)
            assert isinstance(full, ReadingsFrame)
            assert same(frame, full)
    assert seen == list(range(len(sent)))


def test_what_our_meters_send_takes_the_quick_path() -> None:
    at_us = 1_764_000_000_250_000
    sent = [
        (
            f"pw/PW-{code}/up/readings",
            codec.encode_readings(
                f"PW-{code}", [(at_us, code, 12_345)], meter_clock_us=clock, relay=relay
            ),
        )
        for code in (1, 2, 3, 4)
        for clock in (None, at_us + 1)
        for relay in (None, "open", "closed")
    ]
    (block,) = decoded(sent)  # type: ignore[arg-type]
    assert isinstance(block, ReadingsBlock)
    assert len(block) == 24


def test_what_is_refused_is_never_quick() -> None:
    at = 1_764_000_000
    for payload in (
        f'[{{"bn":"PW-1/","bt":{at},"n":"1.8.0","u":"Wh","v":1,"v":2}}]',
        f'[{{"bn":"PW-2/","bt":{at},"n":"1.8.0","u":"Wh","v":1}}]',
        f'[{{"bn":"PW-1/","bt":{at},"n":"1.8.0","u":"varh","v":1}}]',
        f'[{{"bn":"PW-1/","bt":{at},"n":"1.8.0","u":"Wh","v":1}}]\n\x00',
    ):
        topic = "pw/PW-1/up/readings"
        assert decoded([(topic, payload.encode())]) == [0]
        try:
            codec.decode(topic, payload.encode(), received_at_us=1, token=AckToken(1, 1))
        except MalformedFrame:
            continue
        raise AssertionError(payload)
