"""Payload plug-ins: the makers' published vectors, every switch both ways, and hostile bytes."""

import json
from pathlib import Path
from random import Random

import pytest

from cases import cases
from prewatt.hes.drivers.lorawan.models import MODELS, model_of
from prewatt.hes.drivers.lorawan.report import Report
from prewatt.hes.frames import ACTIVE_EXPORT, ACTIVE_IMPORT, MalformedFrame

VECTORS = json.loads((Path(__file__).parent / "vectors" / "payloads.json").read_text())


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: f"{case['model']}: {case['name']}")
def test_published_payloads_decode_to_what_their_makers_say(case: dict[str, object]) -> None:
    model = model_of(str(case["model"]))
    assert model is not None
    report = model.decode(int(str(case["port"])), bytes.fromhex(str(case["payload"])))
    told = {
        "registers": [list(each) for each in report.registers],
        "measured_at": report.measured_at_us and report.measured_at_us // 1_000_000,
        "clock": report.clock_us and report.clock_us // 1_000_000,
        "relay": report.relay,
        "firmware": report.firmware,
        "accepted": report.accepted,
        "events": list(report.events),
        "conditions": [[each.begins, lasts] for each, lasts in report.conditions],
    }
    wanted = case["report"]
    assert isinstance(wanted, dict)
    assert {key: told[key] for key in wanted} == wanted
    assert {key for key, value in told.items() if value not in (None, [])} <= wanted.keys()


def test_relay_commands_are_those_of_the_makers() -> None:
    em2101, ws52x = MODELS["em2101"], MODELS["ws52x"]
    assert em2101.relay is not None
    assert ws52x.relay is not None
    # CONFIG_RELAY of em2101.js: channel 07, control mode 47, relay command 48, on port 50.
    assert em2101.relay("closed") == (50, bytes.fromhex("074701074801"))
    assert em2101.relay("open") == (50, bytes.fromhex("074701074800"))
    assert ws52x.relay("closed") == (85, bytes.fromhex("0801ff"))
    assert ws52x.relay("open") == (85, bytes.fromhex("0800ff"))
    assert MODELS["em4301"].relay is None


def test_what_is_charged_is_the_sum_of_both_tariffs_or_nothing() -> None:
    decode = MODELS["em2101"].decode
    both = "0404000f42400505000000070606000000010707ffffffff"
    assert decode(1, bytes.fromhex(both)).registers == (
        (ACTIVE_IMPORT, 1_000_007),
        (ACTIVE_EXPORT, 2**32),
    )
    assert decode(1, bytes.fromhex("0404000f4240")).registers == ()


@pytest.mark.parametrize(
    ("model", "port", "payload", "reason"),
    [
        ("em2101", 1, "0404000f42", "truncated"),
        ("em2101", 1, "0404000f42400404000f4240", "repeated_key"),
        ("em2101", 1, "0404000f42400b0a02", "meter_error"),
        ("em2101", 1, "04ee", "unknown"),
        ("em2101", 11, "010102", "value"),
        ("em2101", 50, "02", "value"),
        ("em2101", 77, "0404", "port"),
        ("ws52x", 85, "0683560400", "truncated"),
        ("ws52x", 85, "087002", "value"),
        ("ws52x", 85, "0991", "unknown"),
        ("ws52x", 1, "087001", "port"),
    ],
)
def test_what_is_wrong_is_refused_whole(model: str, port: int, payload: str, reason: str) -> None:
    with pytest.raises(MalformedFrame) as refused:
        MODELS[model].decode(port, bytes.fromhex(payload))
    assert refused.value.reason == reason


def test_what_a_newer_firmware_adds_at_the_end_takes_no_reading_away() -> None:
    report = MODELS["ws52x"].decode(85, bytes.fromhex("068356040000" + "0a9901020304"))
    assert report.registers == ((ACTIVE_IMPORT, 1_110),)


def test_hostile_payloads_are_refused_or_read_and_never_anything_else() -> None:
    random = Random()
    good = [bytes.fromhex(each["payload"]) for each in VECTORS]
    for _ in range(cases(3_000)):
        data = bytearray(random.choice([*good, random.randbytes(random.randrange(60))]))
        for _ in range(random.randrange(4)):
            if data:
                data[random.randrange(len(data))] = random.randrange(256)
        del data[random.randrange(len(data) + 1) :]
        for model in MODELS.values():
            try:
                report = model.decode(random.choice([1, 10, 11, 50, 60, 85, 255]), bytes(data))
            except MalformedFrame:
                continue
            assert isinstance(report, Report)
            assert all(0 <= value < 2**33 for _, value in report.registers)
            assert report.relay in (None, "open", "closed")
