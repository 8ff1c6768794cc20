"""A simulated LoRaWAN field against the driver: what was lost, doubled and out, every frame and order accounted for."""

from dataclasses import replace
from typing import Literal

import msgspec
import pytest

from prewatt.core.civil_time import utc_datetime
from prewatt.core.drivers import Driver
from prewatt.core.instructions import Operation, Result
from prewatt.core.session_offers import SessionOffer, sealed_offer
from prewatt.core.short_instructions import ShortCommand, sealed_short_command, short_answer
from prewatt.core.vocabulary import RelayState as Relay
from prewatt.hes.drivers.lorawan.chirpstack import ChirpStack
from prewatt.hes.drivers.lorawan.field import Field, Known
from prewatt.hes.drivers.lorawan.models import MODELS
from prewatt.hes.frames import (
    ACTIVE_IMPORT,
    AckToken,
    AnswerFrame,
    Command,
    EventFrame,
    Frame,
    ReadingsFrame,
    SealedFrame,
)
from prewatt.instructions.operations import SignerSeal
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.signing.keys import KeyRole, PublicKey, SoftwareSigner
from prewatt.signing.sessions import session_keys
from prewatt.sim.lorawan import Air, Kept, LoraField, LoraMeter, Outage
from prewatt.sim.turns import Turn

S = 1_000_000
T = 1_764_000_000 * S
HOUR = 3_600 * S


def estate(number: int, device_class: Literal["A", "C"]) -> list[LoraMeter]:
    return [
        LoraMeter(f"24e124{at:010x}", "em2101" if at % 4 == 0 else "ws52x", "H0-A", 5_000 * at,
                  device_class=device_class, spreading_factor=7 + at % 6)
        for at in range(number)
    ]  # fmt: skip


class HeadEnd:
    """The driver without sockets: events in, frames out, and orders tried again as supply tries them."""

    def __init__(self, sim: LoraField, meters: list[LoraMeter]) -> None:
        known = {m.eui: Known(MODELS[m.model], m.period_s * S) for m in meters}
        self.sim, self.server, self.field = sim, ChirpStack(), Field(known.get)
        self.frames: list[Frame] = []
        self.downlinks = 0

    def run(self, from_us: int, until_us: int, orders: dict[str, Command] | None = None) -> None:
        for now_us in range(from_us, until_us, 10 * S):
            for told in self.sim.advance(now_us):
                event = self.server.decode(told.topic, told.payload, received_at_us=told.at_us)
                token = AckToken(1, 1, Driver.LORAWAN)
                heard = self.field.heard(event, received_at_us=told.at_us, token=token)
                self.frames += heard.frames
            for eui, command in (orders or {}).items():
                if not self.answers(command.command_id):
                    self.ask(eui, command, now_us)

    def ask(self, eui: str, command: Command, now_us: int) -> None:
        again = Command(command.command_id, "relay", command.state, now_us, now_us + 900 * S)
        ordered = self.field.order(eui, again, now_us=now_us)
        if ordered.downlink is not None:
            self.downlinks += 1
            self.sim.command(*self.server.encode(ordered.downlink), now_us)

    def answers(self, command_id: str) -> list[AnswerFrame]:
        return [
            each
            for each in self.frames
            if isinstance(each, AnswerFrame) and each.command_id == command_id
        ]


@pytest.mark.parametrize("device_class", ["C", "A"])
def test_a_bad_radio_loses_frames_and_no_energy_and_no_order(
    device_class: Literal["A", "C"],
) -> None:
    meters = estate(16, device_class)
    # As protocol buffers class A is not said; as JSON it is.
    encoding: Literal["json", "protobuf"] = "json" if device_class == "A" else "protobuf"
    out = (Outage("0016c001f1530001", T + HOUR, T + 2 * HOUR), Outage("0016c001f1530002", T + HOUR, T + 2 * HOUR))  # fmt: skip
    air = Air(uplink_loss_ppm=300_000, downlink_loss_ppm=200_000, doubled_ppm=200_000, outages=out)
    sim = LoraField(meters, air=air, seed=7, start_us=T, encoding=encoding)
    head_end = HeadEnd(sim, meters)
    head_end.run(T, T + 2 * HOUR)
    readings = [each for each in head_end.frames if isinstance(each, ReadingsFrame)]
    radios = [head_end.field.radio(meter.eui) for meter in meters]
    assert all(each is not None for each in radios)
    heard = sum(each.heard for each in radios if each)
    # Every frame is heard once or missed, and what comes by two servers is no replay.
    assert len(readings) == heard
    assert sum(each.duplicates for each in radios if each) > 10
    assert sum(each.replays for each in radios if each) == 0
    assert not any(isinstance(each, EventFrame) for each in head_end.frames)
    missing = sim.sent - heard - sum(each.lost for each in radios if each)
    assert 0 <= missing <= 16 * 6, "what was lost after the last frame that was heard"
    assert sim.lost > 16 * 2, "the outage alone took two reports of each"
    # Every device is cut, however often the air takes the downlink or the word of it.
    orders = {m.eui: Command(f"{at}.1.relay", "relay", "open", T, T) for at, m in enumerate(meters)}
    head_end.run(T + 2 * HOUR, T + 7 * HOUR, orders)
    assert not any(sim.is_closed(meter.eui) for meter in meters)
    tried = {at: len(head_end.answers(f"{at}.1.relay")) for at in range(16)}
    assert set(tried.values()) == {1}, tried
    # 1,800 tries of each by the clock; what the air was asked for is what it lost, and little more.
    assert 16 <= head_end.downlinks <= 16 * 6
    # The register is what its device counted: nothing was lost with the frames.
    head_end.run(T + 7 * HOUR, T + 9 * HOUR)
    last = {
        each.serial: int(each.value[each.register_code == ACTIVE_IMPORT][0])
        for each in head_end.frames
        if isinstance(each, ReadingsFrame)
    }
    assert last == {m.eui: sim.register_wh(m.eui, T + 9 * HOUR) for m in meters}


def test_the_same_seed_is_the_same_field() -> None:
    meters, air = estate(5, "C"), Air(uplink_loss_ppm=100_000)
    first, second = (LoraField(meters, air=air, seed=3, start_us=T) for _ in range(2))
    told = first.advance(T + HOUR)
    assert told == second.advance(T + HOUR)
    assert len(told) > 15
    assert [each.at_us for each in told] == sorted(each.at_us for each in told)


@pytest.mark.parametrize("device_class", ["C", "A"])
def test_a_device_with_a_session_obeys_that_alone_on_a_bad_radio_and_without_power(
    device_class: Literal["A", "C"],
) -> None:
    ours, theirs = (ES256PrivateKey.from_scalar(bytes([n] * 32)) for n in (1, 2))
    by = SignerSeal(
        SoftwareSigner(PublicKey(KeyRole.INSTRUCTION, ours.point, utc_datetime(T)), ours)
    )
    meter = estate(2, device_class)[1]
    offer = sealed_offer(SessionOffer(meter.eui, 1, ours.point), by=by)
    meter = replace(meter, agreement=theirs.scalar, trusts=(ours.point,), offer=offer)
    keys = session_keys(ours, theirs.point, meter=meter.eui, platform_point=ours.point)
    told = ShortCommand(Operation.RELAY, int(Relay.OPEN), 1, T // (60 * S) + 600)
    message = sealed_short_command(told, meter=meter.eui, key=keys.down)
    air = Air(uplink_loss_ppm=300_000, downlink_loss_ppm=300_000, doubled_ppm=200_000)
    sim = LoraField([meter], air=air, seed=8, start_us=T)
    head_end = HeadEnd(sim, [meter])
    # What its codec says it does not do any more.
    head_end.run(T, T + HOUR, {meter.eui: Command("1.1.relay", "relay", "open", T, T)})
    assert sim.is_closed(meter.eui) and not head_end.answers("1.1.relay")

    def answers(from_us: int, number: int) -> list[bytes]:
        """Say the same again each ten seconds, as if no answer came, until so many have."""
        for now_us in range(from_us, from_us + 20 * HOUR, 10 * S):
            sealed = {each.payload for each in head_end.frames if isinstance(each, SealedFrame)}
            if len([each for each in head_end.frames if isinstance(each, SealedFrame)]) >= number:
                return sorted(sealed)
            instructed = head_end.field.instruct(meter.eui, message, now_us=now_us)
            if instructed.downlink is not None:
                head_end.downlinks += 1
                head_end.sim.command(*head_end.server.encode(instructed.downlink), now_us)
            head_end.run(now_us, now_us + 10 * S)
        return []

    downlinks = head_end.downlinks
    (answer,) = answers(T + HOUR, 1)
    said = short_answer(answer, meter=meter.eui, key=keys.up)
    assert (said.result, said.relay, said.last_sequence) == (Result.OK, Relay.OPEN, 1)
    assert not sim.is_closed(meter.eui)
    assert head_end.downlinks - downlinks <= 8, "the air is not for retries"
    # Its power is cut and it is told the same again: it has kept number and answer with the effect.
    kept = msgspec.json.decode(msgspec.json.encode(sim.kept()), type=dict[str, Kept])
    head_end.sim = LoraField([meter], air=air, seed=9, start_us=T + 30 * HOUR)
    head_end.sim.restore(kept)
    assert answers(T + 30 * HOUR, 3) == [answer]
    device = head_end.sim.short_device(meter.eui)
    assert device is not None and device.state.forged == 0


def test_what_a_sensor_sees_comes_through_a_bad_radio_once_and_its_end_too() -> None:
    meter = estate(2, "C")[1]
    air = Air(uplink_loss_ppm=500_000, doubled_ppm=200_000)
    schedule = [
        Turn(T + 2 * HOUR, meter.eui, "cover_open", 0),
        Turn(T + HOUR, meter.eui, "cover_open", 1),
        Turn(T + HOUR, meter.eui, "magnetic_field", 1),
    ]
    sim = LoraField([meter], air=air, seed=11, start_us=T, schedule=schedule)
    head_end = HeadEnd(sim, [meter])
    head_end.run(T, T + 6 * HOUR)
    events = [each.code for each in head_end.frames if isinstance(each, EventFrame)]
    assert sorted(events) == ["cover_closed", "cover_open", "magnetic_field"]
    with pytest.raises(ValueError, match="no sensor"):
        sim.fault(meter.eui, "clock_back", 1, T)
