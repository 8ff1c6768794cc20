"""The simulated meter as a pure machine: energy, relay, backlog, commands, and each fault."""

import json
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prewatt.core.civil_time import utc_datetime
from prewatt.core.instructions import (
    Command,
    KeyStep,
    Operation,
    Result,
    believed_answer,
    sealed_command,
)
from prewatt.core.vocabulary import RelayState as Relay
from prewatt.hes.drivers.mqtt_senml import codec
from prewatt.hes.drivers.mqtt_senml.topics import Uplink, uplink_topic
from prewatt.hes.frames import (
    EVENT_LOG,
    AckToken,
    AnswerFrame,
    EventFrame,
    Frame,
    HelloFrame,
    ReadingsFrame,
    RelayState,
    Watermark,
)
from prewatt.instructions.operations import SignerSeal
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.signing.keys import KeyRole, PublicKey, SoftwareSigner
from prewatt.sim.loads import cumulative_wh, load_profile
from prewatt.sim.meter import FAULTS, SAID, MeterConfig, Outgoing, SimulatedMeter, UnknownFault

T = 1_764_000_000_000_000
SECOND = 1_000_000
PERIOD = 10 * SECOND
PROFILE = load_profile("G2-A")


def new_meter(**changes: object) -> SimulatedMeter:
    values: dict[str, object] = {
        "serial": "PW-1",
        "profile": PROFILE,
        "scale_ppm": 1_000_000,
        "start_register_wh": 5_000,
        "start_at_us": T,
        "report_period_us": PERIOD,
    }
    return SimulatedMeter(MeterConfig(**(values | changes)))  # type: ignore[arg-type]  # a table of overrides


def load_wh(start_us: int, end_us: int) -> int:
    before, after = cumulative_wh(PROFILE, 1_000_000, np.array([start_us, end_us]))
    return int(after - before)


def frames(messages: Iterable[Outgoing]) -> list[Frame]:
    return [
        codec.decode(uplink_topic("PW-1", channel), payload, received_at_us=0, token=AckToken(0, 0))
        for channel, payload in messages
    ]


def readings(messages: Iterable[Outgoing]) -> list[tuple[int, int]]:
    rows: list[tuple[int, int]] = []
    for frame in frames(messages):
        if isinstance(frame, ReadingsFrame):
            rows += zip(frame.read_at_us.tolist(), frame.value.tolist(), strict=True)
    return rows


def order(state: RelayState, at_us: int, command_id: str = "1.relay") -> bytes:
    return codec.encode_command(
        codec.Command(command_id, "relay", state, at_us, at_us + 60 * SECOND)
    )


def say_committed(meter: SimulatedMeter, mark: Watermark, now_us: int) -> None:
    meter.receive_watermarks(codec.encode_watermarks([mark]), now_us)


def commit(meter: SimulatedMeter, messages: Iterable[Outgoing], now_us: int) -> None:
    """What the head-end says of these messages, each a span."""
    for frame in frames(messages):
        if isinstance(frame, ReadingsFrame):
            at_us, value = frame.read_at_us.tolist(), frame.value.tolist()
            say_committed(meter, Watermark("PW-1", 1, at_us[-1], at_us[0], value[-1]), now_us)


def test_the_register_follows_the_load_and_stands_still_while_open() -> None:
    meter = new_meter()
    hour = 3_600 * SECOND
    assert meter.register_wh(T + hour) == 5_000 + load_wh(T, T + hour)
    meter.receive_command(order("open", T + hour), T + hour)
    frozen = 5_000 + load_wh(T, T + hour)
    assert meter.register_wh(T + 9 * hour) == frozen
    meter.receive_command(order("closed", T + 9 * hour, "2.relay"), T + 9 * hour)
    assert meter.register_wh(T + 10 * hour) == frozen + load_wh(T + 9 * hour, T + 10 * hour)


@given(st.lists(st.integers(1, 10_000_000), min_size=1, max_size=30), st.integers(0, 9_000))
def test_extra_load_loses_nothing_however_often_it_is_settled(steps: list[int], w: int) -> None:
    meter = new_meter(scale_ppm=0)
    now = T
    meter.set_fault("heater", w, now)
    for step in steps:
        now += step
        meter.set_fault("heater", w, now)
    assert meter.register_wh(now) == 5_000 + w * (now - T) // 3_600_000_000


def test_readings_stay_until_the_watermark_has_passed_them() -> None:
    meter = new_meter()
    hello, first = frames(meter.connected(T))
    assert isinstance(hello, HelloFrame) and isinstance(first, ReadingsFrame)
    assert (hello.meter_clock_us, hello.relay) == (T, "closed")
    assert (first.meter_clock_us, first.relay) == (T, "closed")
    for step in range(1, 4):
        meter.tick(T + step * PERIOD)
    now, taken = T + 3 * PERIOD, meter.unacknowledged()
    assert len(taken) == 4
    second = Watermark("PW-1", 1, T + PERIOD, T, taken[1][1])
    say_committed(meter, second, now)
    assert meter.unacknowledged() == taken[2:]
    say_committed(meter, second, now)  # an old watermark takes nothing back
    meter.receive_watermarks(b"noise", T)
    say_committed(meter, Watermark("PW-1", 1, now, T, taken[3][1] + 1), now)
    assert meter.unacknowledged() == taken[2:], "a register that it never showed is not its own"
    say_committed(meter, Watermark("PW-1", 1, now, now, taken[3][1]), now)
    assert meter.unacknowledged() == taken[2:3], "nothing was said of the one before"


def test_without_a_watermark_everything_is_sent_again() -> None:
    meter = new_meter()
    meter.connected(T)
    seen = [readings(meter.tick(T + s * SECOND)) for s in range(1, 31)]
    assert [rows[0][0] for rows in seen if rows][:2] == [T + 10 * SECOND, T + 20 * SECOND]
    assert [row[0] for row in seen[29]] == [T, T + PERIOD, T + 2 * PERIOD, T + 3 * PERIOD]


def test_an_outage_delivers_its_backlog_in_order_afterwards() -> None:
    meter = new_meter()
    for step in range(1_500):
        assert meter.tick(T + step * PERIOD) == []
    now = T + 1_500 * PERIOD
    rows = readings(meter.connected(now))
    while more := readings(meter.tick(now)):
        rows += more
    assert [at for at, _ in rows] == [T + step * PERIOD for step in range(1_501)]
    assert rows == sorted(rows)


def test_a_full_memory_thins_out_but_keeps_the_energy() -> None:
    meter = new_meter()
    for step in range(20_000):
        meter.tick(T + step * PERIOD)
    assert meter.backlog <= 4_096
    now = T + 20_000 * PERIOD
    rows = readings(meter.connected(now))
    while more := readings(meter.tick(now)):
        rows += more
    assert rows[0] == (T, 5_000)
    assert rows[-1] == (now, 5_000 + load_wh(T, now))


def test_a_command_is_answered_with_the_real_state_and_reported_at_once() -> None:
    meter = new_meter()
    meter.connected(T)
    answer, reading = frames(meter.receive_command(order("open", T + 5), T + 5))
    assert isinstance(answer, AnswerFrame) and isinstance(reading, ReadingsFrame)
    assert (answer.command_id, answer.result, answer.relay) == ("1.relay", "ok", "open")
    assert (answer.at_us, answer.register_wh) == (T + 5, 5_000)
    assert reading.relay == "open"
    read = codec.encode_command(codec.Command("2.read", "read", None, T, T + SECOND))
    (state,) = frames(meter.receive_command(read, T + 6))
    assert isinstance(state, AnswerFrame) and state.relay == "open"


def ask(meter: SimulatedMeter, now_us: int, name: str, op: str, **more: int) -> list[Frame]:
    """What it says to a command that is good for an hour."""
    command = codec.Command(name, op, None, T, T + 3_600 * SECOND, **more)  # type: ignore[arg-type]  # a word
    return frames(meter.receive_command(codec.encode_command(command), now_us))


def test_a_history_is_sent_though_nobody_waits_for_it_and_a_clock_is_moved_once() -> None:
    meter = new_meter()
    commit(meter, meter.connected(T), T)
    meter.set_fault("withheld", 1, T)
    for turn in range(1, 5):
        assert meter.tick(T + turn * PERIOD) == []
    now = T + 4 * PERIOD
    kept, answer = ask(meter, now, "f1", "history", from_us=T + PERIOD, until_us=T + 3 * PERIOD)
    assert isinstance(kept, ReadingsFrame) and isinstance(answer, AnswerFrame)
    assert kept.read_at_us.tolist() == [T + each * PERIOD for each in (1, 2, 3)]
    assert kept.value.tolist() == [5_000 + load_wh(T, T + each * PERIOD) for each in (1, 2, 3)]
    restarted = new_meter()
    restarted.restore(meter.to_state())
    restarted.is_online = True
    assert len(ask(restarted, now, "f2", "history", from_us=T, until_us=now)) == 2
    hello, _ = ask(meter, now, "f3", "hello")
    assert isinstance(hello, HelloFrame)
    # By how much, not to when; the same order again does nothing, nor one that would lead beside its time.
    meter.set_fault("clock_drift", -60, T)
    for _ in range(2):
        assert [each.result for each in ask(meter, now, "f4", "clock", move_us=60 * SECOND)] == [
            "ok"
        ]  # type: ignore[union-attr]  # answers
        assert meter.clock_us(now) == now
    assert [each.result for each in ask(meter, now, "f5", "clock", move_us=-60 * SECOND)] == [
        "failed"
    ]  # type: ignore[union-attr]  # answers
    assert meter.clock_us(now) == now
    meter.set_fault("forgetful", 1, now)
    (no,) = ask(meter, now, "f6", "history", from_us=T, until_us=now)
    assert isinstance(no, AnswerFrame) and no.result == "unsupported"


def test_a_repeated_command_gets_the_stored_answer_and_does_nothing() -> None:
    meter = new_meter()
    meter.connected(T)
    first = meter.receive_command(order("open", T), T)[0]
    meter.receive_command(order("closed", T, "2.relay"), T + SECOND)
    again = meter.receive_command(order("open", T), T + 2 * SECOND)
    assert again == [first]
    assert meter.relay == "closed"


def test_an_expired_command_changes_nothing_by_the_meters_own_clock() -> None:
    meter = new_meter()
    meter.set_fault("clock_drift", 3_600, T)
    (answer,) = frames(meter.receive_command(order("open", T), T))
    assert isinstance(answer, AnswerFrame)
    assert (answer.result, answer.relay, answer.at_us) == ("expired", "closed", T + 3_600 * SECOND)
    assert meter.receive_command(b"{}", T) == []


def test_a_stuck_relay_says_ok_and_shows_itself_in_the_read_back() -> None:
    meter = new_meter()
    meter.set_fault("stuck_relay", 1, T)
    (answer,) = frames(meter.receive_command(order("open", T), T))
    assert isinstance(answer, AnswerFrame) and (answer.result, answer.relay) == ("ok", "closed")
    assert meter.register_wh(T + 10**10) > 5_000


def test_clock_drift_is_visible_in_hello_and_readings() -> None:
    meter = new_meter()
    meter.set_fault("clock_drift", -90, T)
    hello, reading = frames(meter.connected(T))
    assert isinstance(hello, HelloFrame) and hello.meter_clock_us == T - 90 * SECOND
    assert isinstance(reading, ReadingsFrame) and reading.meter_clock_us == T - 90 * SECOND
    assert reading.read_at_us.tolist() == [T - 90 * SECOND]


def test_the_register_rolls_over_at_its_modulus() -> None:
    meter = new_meter(register_modulus_wh=10_000, start_register_wh=9_999)
    for hours in range(1, 30):
        now = T + hours * 3_600 * SECOND
        assert meter.register_wh(now) == (9_999 + load_wh(T, now)) % 10_000
    now = T + 30 * 3_600 * SECOND
    shown = meter.register_wh(now)
    meter.set_fault("rollover", 50, now)
    assert meter.register_wh(now) == shown
    later = now + 3_600 * SECOND
    assert meter.register_wh(later) == (shown + load_wh(now, later)) % (shown + 50)


def test_faults_of_the_line_drop_repeat_and_reorder() -> None:
    def times(name: str, value: int) -> list[int]:
        meter = new_meter()
        meter.set_fault(name, value, T)
        sent = meter.connected(T)
        for step in range(1, 20):
            now = T + step * PERIOD
            batch = meter.tick(now)
            sent += batch
            for at, value in meter.unacknowledged():
                say_committed(meter, Watermark("PW-1", 1, at, at, value), now)
        return [at for at, _ in readings(sent)]

    assert times("drop", 100) == []
    assert 5 <= len(times("drop", 50)) <= 12
    twice = times("duplicate", 1)
    assert twice == [at for at in sorted(set(twice)) for _ in range(2)]
    swapped = times("reorder", 1)
    assert sorted(set(swapped)) == sorted(swapped)


def test_reordered_messages_of_one_round_really_change_places() -> None:
    meter = new_meter()
    meter.set_fault("reorder", 1, T)
    first, second = meter.connected(T), meter.tick(T + PERIOD)
    assert [channel for channel, _ in first] == [Uplink.HELLO]
    assert [at for at, _ in readings(second)] == [T]
    released = meter.set_fault("reorder", 0, T + PERIOD)
    assert [at for at, _ in readings(released)] == [T + PERIOD]


def test_the_cover_is_logged_and_repeated_until_committed() -> None:
    meter = new_meter()
    meter.connected(T)
    (event,) = (
        frame
        for frame in frames(meter.set_fault("cover_open", 1, T + 1))
        if isinstance(frame, EventFrame)
    )
    assert (event.code, event.at_us) == ("cover_open", T + 1)
    assert meter.set_fault("cover_open", 1, T + 2) == []
    again = frames(meter.connected(T + SECOND))
    assert event.code in [frame.code for frame in again if isinstance(frame, EventFrame)]
    say_committed(meter, Watermark("PW-1", EVENT_LOG, T + 1, T + 1, None), T + SECOND)
    later = frames(meter.connected(T + 2 * SECOND))
    assert not [frame for frame in later if isinstance(frame, EventFrame)]


@pytest.mark.parametrize(("name", "value"), [("explode", 1), ("drop", 101), ("heater", -1)])
def test_unknown_faults_are_refused(name: str, value: int) -> None:
    with pytest.raises(UnknownFault):
        new_meter().set_fault(name, value, T)


def test_a_restart_keeps_what_a_real_meter_keeps() -> None:
    meter = new_meter()
    meter.set_fault("heater", 777, T)
    for step in range(5):
        meter.tick(T + step * PERIOD)
    meter.receive_command(order("open", T + 5 * PERIOD), T + 5 * PERIOD)
    meter.receive_command(order("closed", T + 6 * PERIOD, "2.relay"), T + 6 * PERIOD)
    restarted = new_meter(start_register_wh=0)
    restarted.restore(meter.to_state())
    now = T + 1_000 * PERIOD
    assert restarted.register_wh(now) == meter.register_wh(now)
    assert restarted.backlog == meter.backlog
    assert restarted.to_state() == meter.to_state()
    assert set(restarted.faults) == set(FAULTS)


def test_whoever_watches_a_meter_hears_each_reading_once_and_sees_what_it_keeps() -> None:
    taken: list[tuple[int, int]] = []
    meter = SimulatedMeter(
        new_meter(retry_us=3 * PERIOD).config, on_reading=lambda *row: taken.append(row)
    )
    meter.connected(T)
    for turn in range(1, 3):
        meter.tick(T + turn * PERIOD)
    assert len(taken) == len(set(taken)) == 3
    assert meter.unacknowledged() == taken
    say_committed(meter, Watermark("PW-1", 1, taken[1][0], taken[0][0], taken[1][1]), T)
    assert meter.unacknowledged() == taken[2:]


def test_a_watermark_of_one_clock_keeps_what_another_read_within_its_span() -> None:
    meter = new_meter(retry_us=10 * PERIOD)
    meter.set_fault("heater", 100_000, T)
    sent = [meter.connected(T), meter.tick(T + PERIOD)]
    # Set back by a whole period, as by a change of clocks: the same instant with another register.
    meter.set_fault("clock_drift", -10, T + 2 * PERIOD)
    sent.append(meter.tick(T + 2 * PERIOD))
    meter.set_fault("clock_drift", -15, T + 3 * PERIOD)
    sent.append(meter.tick(T + 3 * PERIOD))
    rows = meter.unacknowledged()
    assert [at for at, _ in rows] == [T, T + PERIOD, T + PERIOD, T + PERIOD + 5 * SECOND]
    again = meter.connected(T + 3 * PERIOD)
    assert [len(readings([each])) for each in again if each[0] is Uplink.READINGS] == [2, 2]
    commit(meter, again[:2], T + 4 * PERIOD)
    assert meter.unacknowledged() == rows[2:]
    commit(meter, sent[3], T + 4 * PERIOD)
    assert meter.unacknowledged() == rows[2:3]
    restarted = new_meter()
    restarted.restore(meter.to_state())
    commit(restarted, sent[1], T + 4 * PERIOD)
    assert restarted.unacknowledged() == rows[2:3]


@given(
    st.lists(
        st.tuples(
            st.sampled_from((0, 0, 0, -10, -20, -30, -35, 10, 45)), st.booleans(), st.integers(0, 9)
        ),
        max_size=40,
    )
)
def test_invariant_9_what_a_meter_drops_was_stored_whatever_its_clock_did(
    turns: list[tuple[int, bool, int]],
) -> None:
    """Messages are lost, sent again and stored; what is said of them comes late, twice or never."""
    taken: list[tuple[int, int]] = []
    meter = SimulatedMeter(
        new_meter(retry_us=3 * PERIOD).config, on_reading=lambda *row: taken.append(row)
    )
    meter.set_fault("heater", 100_000, T)
    stored: set[tuple[int, int]] = set()
    said: list[Outgoing] = []
    meter.connected(T)
    for number, (drift_s, arrives, late) in enumerate(turns, 1):
        now = T + number * PERIOD
        meter.set_fault("clock_drift", drift_s, now)
        for message in meter.tick(now):
            if arrives:
                stored.update(readings([message]))
                said.append(message)
        commit(meter, said[-1 - late :][: 1 + late // 3], now)
        assert set(taken) - set(meter.unacknowledged()) <= stored
    commit(meter, said, T)
    now = T + 99 * PERIOD
    while rest := meter.tick(now):
        commit(meter, rest, now)
        now += PERIOD // 2
    assert meter.backlog == 0, "whatever came before, all can be let go"


def test_what_is_done_to_a_meter_is_said_by_it_or_seen_in_its_register() -> None:
    hour = 3_600 * SECOND
    meter = new_meter()
    meter.connected(T)
    for fault, (begun, over) in SAID.items():
        sent = [*meter.set_fault(fault, 1, T), *meter.set_fault(fault, 0, T)]
        said = [each.code for each in frames(sent) if isinstance(each, EventFrame)]
        assert said[-2:] == [each for each in (begun, over) if each]
        meter = new_meter()
        meter.connected(T)
    honest, bypassed = new_meter(), new_meter()
    for each in (honest, bypassed):
        each.set_fault("heater", 2_000, T)
    bypassed.set_fault("bypass", 90, T)
    rise, left = (each.register_wh(T + hour) - 5_000 for each in (honest, bypassed))
    assert rise // 10 - 1 <= left <= rise // 10 + 1
    honest._turn("open", T + hour)
    stands = honest.register_wh(T + hour)
    assert honest.register_wh(T + 2 * hour) == stands
    honest.set_fault("welded_relay", 1, T + 2 * hour)
    assert honest.relay == "open" and honest.register_wh(T + 3 * hour) > stands


def test_what_it_was_told_by_its_newest_key_outlasts_a_restart_and_a_limit_opens_and_closes() -> (
    None
):
    keys = [ES256PrivateKey.from_scalar(bytes([n] * 32)) for n in (1, 4)]
    ours = [
        SignerSeal(SoftwareSigner(PublicKey(KeyRole.INSTRUCTION, each.point, utc_datetime(T)), each))
        for each in keys
    ]  # fmt: skip
    own = ES256PrivateKey.from_scalar(bytes([9] * 32))
    config: dict[str, object] = {"private_key": own, "trusts": {ours[0].key_id: keys[0].point}}
    meter = new_meter(**config)
    meter.set_fault("clock_drift", 7_200, T)

    def tell(operation: Operation, argument: int, more: bytes, at_us: int, by: int) -> Relay:
        said = Command(
            "PW-1", operation, argument, meter.instructed.sequence + 1, at_us, at_us + 60 * SECOND,
            bytes(8), meter.instructed.answered, more,
        )  # fmt: skip
        outgoing = meter.receive_instruction(sealed_command(said, by=ours[by])[0], at_us)
        answer, _ = believed_answer(outgoing[0][1], meter="PW-1", verify=lambda *_: True)
        assert answer.result is Result.OK
        return answer.relay

    tell(Operation.CLOCK, -7_200, b"", T, 0)
    assert meter.clock_us(T) == T
    tell(Operation.TRUST, KeyStep.ADD, keys[1].point, T, 0)
    tell(Operation.TRUST, KeyStep.DROP_FORMER, b"", T, 1)
    tell(Operation.LIMIT, 5_000, (90).to_bytes(4, "big"), T, 1)
    again = new_meter(**config)
    again.restore(json.loads(json.dumps(meter.to_state())))
    assert again.instructed == meter.instructed
    meter = again
    meter.set_fault("heater", 9_000, T)
    relays: list[str] = []
    for second in range(0, 350, 5):
        meter.tick(T + second * SECOND)
        relays += [meter.relay] if not relays or relays[-1] != meter.relay else []
    assert relays == ["closed", "open", "closed", "open", "closed"], "a minute on, 90 s off"
    assert tell(Operation.LIMIT, 0, bytes(4), T + 350 * SECOND, 1) is Relay.CLOSED
    meter.tick(T + 700 * SECOND)
    assert meter.relay == "closed"
