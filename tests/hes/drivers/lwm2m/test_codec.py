"""The codecs of LwM2M against the standard's own bytes, against cbor2, and against bytes that nobody should send."""

import math
import struct
from contextlib import suppress
from decimal import Decimal
from random import Random

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cases import cases

from prewatt.hes.drivers.lwm2m import codec, links, senml, tlv
from prewatt.hes.drivers.lwm2m.blocks import TRANSFERS_MAX, OutOfOrder, TooLarge, Uploads
from prewatt.hes.drivers.lwm2m.objects import (
    CLOCK,
    ENERGY_DRAWN,
    ENERGY_FED_BACK,
    FIRMWARE_VERSION,
    MANUFACTURER,
    POWER_DRAWN_TOTAL,
    RELAY_CONTACT,
    RELAY_ORDER,
)
from prewatt.hes.drivers.lwm2m.values import MAX_PAYLOAD_BYTES, Item, decimal_of
from prewatt.hes.frames import ACTIVE_EXPORT, ACTIVE_IMPORT, AckToken, MalformedFrame

TOKEN = AckToken(1, 1)
NOW_US = 1_780_000_000_000_000

#: The single-object-instance example of Core 1.1.1, section 7.4.4.1: all of the device object.
DEVICE_TLV = bytes.fromhex(
    "C800144F70656E204D6F62696C6520416C6C69616E6365C801164C69676874776569676874204D324D20436C69656E74"
    "C80209333435303030313233C303312E30860641000141010588070842000ED842011388870841007D42010384C10964"
    "C10A0F830B410000C40D5182428FC60E2B30323A3030C11055"
)


def test_the_standards_own_device_object_is_read() -> None:
    items = {each.path: each.value for each in tlv.decode((3, 0), DEVICE_TLV)}
    assert items[MANUFACTURER] == "Open Mobile Alliance"
    assert items[FIRMWARE_VERSION] == "1.0"
    assert items[3, 0, 9] == 100
    assert items[CLOCK] == 0x5182428F
    assert items[3, 0, 11, 0] == 0, "a multiple resource has instances"
    assert items[3, 0, 16] == "U"
    # Asked for the object, a device names its instances.
    whole = tlv.encode((3,), [(CLOCK, b"\x51\x82\x42\x8f")])
    assert tlv.decode((3,), whole) == [Item(CLOCK, 0x5182428F)]
    one = tlv.encode((3, 0), [(CLOCK, b"\x51\x82\x42\x8f"), (FIRMWARE_VERSION, b"1.0")])
    assert tlv.decode(CLOCK, one) == [Item(CLOCK, 0x5182428F)], "and nothing that was not asked for"


@pytest.mark.parametrize("content_format", [senml.JSON, senml.CBOR])
def test_readings_kept_for_later_come_with_their_own_time(content_format: int) -> None:
    items = [
        Item(ENERGY_DRAWN, 123_456_789_012, NOW_US - 900_000_000),
        Item(ENERGY_DRAWN, Decimal("123456789512"), NOW_US - 500_000),
        Item(ENERGY_FED_BACK, 7, NOW_US),
        Item(POWER_DRAWN_TOTAL, 5, NOW_US),
        Item(RELAY_ORDER, value=True),
        Item(RELAY_CONTACT, value=False),
        Item(CLOCK, NOW_US // 1_000_000),
    ]
    decoded = codec.decode((), content_format, senml.encode(content_format, items))
    assert decoded == items
    frame = codec.readings("NB-1", decoded, received_at_us=NOW_US, token=TOKEN)
    assert frame is not None
    assert frame.read_at_us.tolist() == [NOW_US - 900_000_000, NOW_US - 500_000, NOW_US]
    assert frame.register_code.tolist() == [ACTIVE_IMPORT, ACTIVE_IMPORT, ACTIVE_EXPORT]
    assert frame.value.tolist() == [123_456_789_012, 123_456_789_512, 7]
    assert frame.relay == "open", "the contacts say more than the order does"
    assert frame.meter_clock_us == NOW_US


def test_base_fields_of_both_forms_mean_the_same() -> None:
    json_pack = (
        b'[{"bn":"/3331/0/","bt":1780000000,"bv":1000,"n":"5700","v":1.5e2,"t":-900},'
        b'{"n":"5700","v":200},{"n":"5701","vs":"Wh"}]'
    )
    cbor_pack = cbor2.dumps(
        [
            {-2: "/3331/0/", -3: 1780000000, -5: 1000, 0: "5700", 2: 150.0, 6: -900},
            {0: "5700", 2: Decimal(200)},
            {0: "5701", 3: "Wh"},
        ]
    )
    one = codec.decode((), senml.JSON, json_pack)
    assert one == codec.decode((), senml.CBOR, cbor_pack)
    assert [each.value for each in one] == [1150, 1200, "Wh"]
    assert one[0].at_us == NOW_US - 900_000_000
    # Below 2^28 a time is relative to now: as good as none.
    assert codec.decode((), senml.JSON, b'[{"n":"/3331/0/5700","v":1,"t":-5}]')[0].at_us is None


def test_a_value_without_a_time_is_of_its_receipt_and_a_unit_counts() -> None:
    items = [Item(ENERGY_DRAWN, Decimal("12.345")), Item((3331, 0, 5701), "kWh")]
    frame = codec.readings("NB-1", items, received_at_us=NOW_US, token=TOKEN)
    assert frame is not None and frame.value.tolist() == [12_345]
    assert frame.read_at_us.tolist() == [NOW_US]
    assert codec.register_of([Item(POWER_DRAWN_TOTAL, 9)]) == 9, "without an energy object"
    assert (
        codec.readings("NB-1", [Item(RELAY_ORDER, value=True)], received_at_us=1, token=TOKEN)
        is None
    )
    for value, unit, reason in [
        (1, "J", "unit"), (-1, "Wh", "range"), (10**15, "Wh", "range"), (Decimal("0.5"), "Wh", "precision"),
        (Decimal("1e400"), "Wh", "range"), ("twelve", "Wh", "type"),
    ]:  # fmt: skip
        with pytest.raises(MalformedFrame) as refused:
            codec.readings(
                "NB-1",
                [Item(ENERGY_DRAWN, value), Item((3331, 0, 5701), unit)],
                received_at_us=NOW_US,
                token=TOKEN,
            )
        assert refused.value.reason == reason
    assert codec.clock_of([Item(CLOCK, 12)]) is None, "a clock that was never set"


def test_a_float_is_the_decimal_that_it_stands_for_or_refused() -> None:
    assert decimal_of(struct.pack(">d", 123_456_789_012.0)) == 123_456_789_012
    assert decimal_of(struct.pack(">d", 1234.567)) == Decimal("1234.567")
    assert decimal_of(struct.pack(">f", 16_777_215.0)) == 16_777_215
    assert decimal_of(struct.pack(">f", 21.5)) == Decimal("21.5")
    assert decimal_of(struct.pack(">e", 21.5)) == Decimal("21.5")
    # Beyond 2^24 a single counts by twos: a register that says 16,777,218 may be one Wh off.
    for width, value in [
        (">f", 16_777_218.0),
        (">f", 1234.5678),
        (">d", 2.0**53 + 2),
        (">d", 1 / 3),
    ]:
        with pytest.raises(MalformedFrame, match="precision"):
            decimal_of(struct.pack(width, value))
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(MalformedFrame):
            decimal_of(struct.pack(">d", value))


def test_a_registration_says_who_for_how_long_and_with_what() -> None:
    asked = links.parse_query(["ep=NB-1", "lt=600", "lwm2m=1.1", "b=U", "Q"])
    assert asked == links.Request("NB-1", 600, "1.1", sleeps=True)
    assert links.parse_query(["ep=NB-1", "b=UQ"]) == links.Request(
        "NB-1", 86_400, "1.0", sleeps=True
    )
    assert not links.parse_query(["ep=NB-1", "b=UQ", "lwm2m=1.1"]).sleeps, "a letter of 1.0"
    assert links.parse_query(["ep=NB-1", "lt=9999999999"]).lifetime_s == links.LIFETIME_S_MAX
    assert links.parse_update(["lt=60"]) == (60, None) and links.parse_update(["Q"]) == (None, True)

    own = links.parse_links(
        b'</lwm2m>;rt="oma.lwm2m";ct="110 112 11542",</lwm2m/1/0>,</lwm2m/3/0>,</lwm2m/5>;ver=1.1,'
        b"</lwm2m/3331/0>,</lwm2m/3331/1>"
    )
    assert own.objects == {(1, 0), (3, 0), (3331, 0), (3331, 1)} and own.root == "/lwm2m"
    assert own.formats == {110, 112, 11_542} and own.has(3331, 1) and not own.has(5)
    made = links.format_links([(1, 0), (3312, 0)], [112, 110])
    assert links.parse_links(made) == links.Links(
        frozenset({(1, 0), (3312, 0)}), "", frozenset({110, 112})
    )
    for query in (
        ["ep="],
        ["ep=a/b"],
        ["ep=sim"],
        ["ep=x", "ep=y"],
        ["ep=x", "lt=-1"],
        ["ep=x", "lwm2m=9"],
    ):
        with pytest.raises(MalformedFrame):
            links.parse_query(query)
    for payload in (b"x" * 9_000, b"\xff", b"<", b"<a>" * 3, b"</1/0>," * 300):
        with pytest.raises(MalformedFrame):
            links.parse_links(payload)


@pytest.mark.parametrize(
    ("content_format", "path", "payload", "reason"),
    [
        (99, ENERGY_DRAWN, b"1", "format"),
        (0, (3331, 0), b"1", "name"),
        (0, ENERGY_DRAWN, b"one", "type"),
        (0, ENERGY_DRAWN, b"Infinity", "value"),
        (0, RELAY_ORDER, b"2", "type"),
        (0, FIRMWARE_VERSION, b"x" * 300, "range"),
        (0, FIRMWARE_VERSION, b"a\x00", "value"),
        (0, ENERGY_DRAWN, b"1" * (MAX_PAYLOAD_BYTES + 1), "oversize"),
        (11_542, ENERGY_DRAWN, b"\xc4\x16", "type"),
        (11_542, (3331, 0), b"\xe4\x16\x44\x7f\xc0\x00\x00", "value"),
        (11_542, (3331, 0), b"\xe3\x16\x44abc", "type"),
        (11_542, (3331,), b"\xe1\x16\x44\x00", "type"),
        (110, (), b'[{"n":"/3331/0/5700","v":1,"v":2}]', "repeated_key"),
        (110, (), b'[{"n":"/3331/0/5700","v":1,"x_":2}]', "must_understand"),
        (110, (), b'[{"n":"energy","v":1}]', "name"),
        (110, (), b'[{"n":"/70000/0/1","v":1}]', "name"),
        (110, (), b'[{"n":"/3331/0/5700","v":1,"vb":true}]', "type"),
        (110, (), b'[{"n":"/3331/0/5700","v":1e9999}]', "range"),
        (110, ENERGY_DRAWN, b'[{"n":"/3312/0/5850","vb":true}]', "name"),
        (112, (), b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "too_many"),
        (112, (), b"\x81\xbb\xff\xff\xff\xff\xff\xff\xff\xff", "too_many"),
        (112, (), b"\x81\xa1\x00\x7b\x7f\xff\xff\xff\xff\xff\xff\xff", "cbor"),
        (112, (), b"\x81\xa1\x02" + b"\xc4\x82" * 30_000, "type"),
        (112, (), b"\x81\xa1\x02" + b"\x81" * 30_000, "type"),
        (112, (), b"\x81\xa2\x00\x61a\x00\x61b", "repeated_key"),
        (112, (), b"\x81\xa1\x02\xc2\x41\x01", "cbor"),
        (112, (), b"\x80\x00", "cbor"),
        (112, (), b"\x9f", "cbor"),
    ],
)  # fmt: skip
def test_what_is_refused_has_a_reason(
    content_format: int, path: tuple[int, ...], payload: bytes, reason: str
) -> None:
    with pytest.raises(MalformedFrame) as refused:
        codec.decode(path, content_format, payload)
    assert refused.value.reason == reason


VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.decimals(
        allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9
    ),
    st.booleans(),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40),
)
PATHS = st.tuples(st.integers(0, 65_535), st.integers(0, 65_535), st.integers(0, 65_535))
ITEMS = st.builds(
    Item, PATHS, VALUES, st.none() | st.integers(2**28 * 1_000_000, 2**53).map(lambda each: each)
)


@settings(max_examples=cases(150), deadline=None)
@given(st.lists(ITEMS, max_size=12))
def test_what_is_written_is_read_back_and_cbor2_reads_it_too(items: list[Item]) -> None:
    for content_format in (senml.JSON, senml.CBOR):
        assert codec.decode((), content_format, senml.encode(content_format, items)) == items
    oracle = cbor2.loads(senml.encode(senml.CBOR, items))
    assert [each.get(2, each.get(3, each.get(4))) for each in oracle] == [
        each.value for each in items
    ]


def test_bytes_that_nobody_should_send_are_refused_and_nothing_else_happens() -> None:
    """Noise, and good messages with a bit of them turned or an end cut off."""
    random = Random(5)
    good = [
        ((3, 0), 11_542, DEVICE_TLV),
        ((), 112, senml.encode(112, [Item(ENERGY_DRAWN, 10**9, NOW_US), Item(RELAY_ORDER, value=True)])),
        ((), 110, senml.encode(110, [Item(ENERGY_DRAWN, 10**9, NOW_US), Item(RELAY_ORDER, value=True)])),
        (ENERGY_DRAWN, 0, b"12345.678"),
    ]  # fmt: skip
    for _ in range(cases(3_000)):
        path, content_format, payload = random.choice(good)
        hostile = bytearray(
            random.randbytes(random.randrange(60)) if random.random() < 0.2 else payload
        )
        if hostile and random.random() < 0.8:
            hostile[random.randrange(len(hostile))] ^= 1 << random.randrange(8)
        hostile = (
            hostile[: random.randrange(len(hostile) + 1)] if random.random() < 0.3 else hostile
        )
        with suppress(MalformedFrame):
            items = codec.decode(path, content_format, bytes(hostile))
            codec.readings("NB-1", items, received_at_us=NOW_US, token=TOKEN)
        with suppress(MalformedFrame):
            links.parse_links(bytes(hostile))


def test_uploads_are_put_together_within_bounds() -> None:
    uploads = Uploads()
    assert uploads.feed("a", start=0, content=b"x" * 64, has_more=True, now_us=0) is None
    assert uploads.feed("b", start=0, content=b"1", has_more=False, now_us=0) == b"1"
    assert uploads.feed("a", start=64, content=b"y", has_more=False, now_us=0) == b"x" * 64 + b"y"
    with pytest.raises(OutOfOrder):
        uploads.feed("a", start=64, content=b"y", has_more=False, now_us=0)

    piece = b"z" * 1_024
    for at in range(MAX_PAYLOAD_BYTES // 1_024):
        uploads.feed("a", start=at * 1_024, content=piece, has_more=True, now_us=0)
    with pytest.raises(TooLarge):
        uploads.feed("a", start=MAX_PAYLOAD_BYTES, content=b"!", has_more=True, now_us=0)
    assert len(uploads) == 0

    for each in range(TRANSFERS_MAX + 50):
        uploads.feed(each, start=0, content=piece, has_more=True, now_us=each)
    assert len(uploads) == TRANSFERS_MAX
    with pytest.raises(OutOfOrder):
        uploads.feed(300, start=1_024, content=piece, has_more=True, now_us=94_000_000)
    assert len(uploads) == 0, "after its time a transfer is forgotten"
