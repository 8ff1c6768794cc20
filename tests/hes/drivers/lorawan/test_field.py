"""Devices behind a network server: counters, answers by uplinks alone, and downlinks that spare the air."""

from dataclasses import replace
from random import Random

from cases import cases
from prewatt.core.drivers import Driver
from prewatt.hes.drivers.lorawan.events import (
    Downlink,
    Event,
    Failed,
    Joined,
    Sent,
    Settled,
    Signal,
    Uplink,
)
from prewatt.hes.drivers.lorawan.field import (
    ALARM_PORT,
    DOWNLINKS_PER_HOUR,
    INSTRUCTION_PORT,
    Field,
    Heard,
    Known,
    Ordered,
)
from prewatt.hes.drivers.lorawan.models import MODELS
from prewatt.hes.frames import (
    FRAME_REPLAYED,
    AckToken,
    AnswerFrame,
    Command,
    EventFrame,
    HelloFrame,
    ReadingsFrame,
    RelayState,
    SealedFrame,
)

EUI, APP = "24e124148b234567", "app"
S = 1_000_000
T = 1_764_000_000 * S
TOKEN = AckToken(1, 1, Driver.LORAWAN)
SIGNAL = Signal("gw", -80, 55, 1, 9)


class Place:
    """One field with one socket, and what the network server tells of it."""

    def __init__(self, known: Known | None = None) -> None:
        self.known = known or Known(MODELS["ws52x"], 600 * S)
        self.field = Field(lambda eui: self.known if eui == EUI else None)
        self.f_cnt = 0

    def hear(self, event: Event, *, is_again: bool = False) -> Heard:
        return self.field.heard(event, received_at_us=T, token=TOKEN, is_again=is_again)

    def up(self, data: str, at_s: int, *, f_cnt: int | None = None, name: str = "") -> Heard:
        self.f_cnt = self.f_cnt + 1 if f_cnt is None else f_cnt
        payload = bytes.fromhex(data)
        name = name or f"e{self.f_cnt}-{data}"
        return self.hear(Uplink(EUI, APP, T + at_s * S, name, self.f_cnt, 85, payload, SIGNAL))

    def order(self, command: str, at_s: int, state: RelayState | None = "open") -> Ordered:
        op = "read" if command.endswith("read") else "relay"
        now_us = T + at_s * S
        asked = Command(command, op, state if op == "relay" else None, now_us, now_us + 900 * S)  # type: ignore[arg-type]
        return self.field.order(EUI, asked, now_us=now_us)

    def downlink(self, command: str, at_s: int, state: RelayState = "open") -> Downlink:
        found = self.order(command, at_s, state).downlink
        assert found is not None
        return found


ON, OFF, ENERGY = "087001", "087000", "068356040000"


def answers(heard: Heard | Ordered) -> list[tuple[str, str, str]]:
    return [
        (each.command_id, each.result, each.relay)
        for each in heard.frames
        if isinstance(each, AnswerFrame)
    ]


def test_an_uplink_becomes_readings_of_the_servers_time_with_the_relay() -> None:
    place = Place()
    (frame,) = place.up(ENERGY + ON, 5).frames
    assert isinstance(frame, ReadingsFrame)
    assert (frame.serial, frame.value.tolist(), frame.relay) == (EUI, [1_110], "closed")
    assert (frame.read_at_us.tolist(), frame.meter_clock_us) == ([T + 5 * S], None)
    (hello,) = place.up(OFF, 9).frames
    assert isinstance(hello, HelloFrame)
    assert (hello.relay, hello.meter_clock_us, hello.token) == ("open", T + 9 * S, TOKEN)
    assert place.up("0374ed08", 12).frames == ()


def test_a_counter_is_heard_once_and_a_recording_raises_its_event() -> None:
    place = Place()
    for count in (3, 4, 7):
        assert place.up(f"0683{count:02x}000000", count, f_cnt=count).frames
    # By another network server, or delivered again by the broker: no more than a duplicate.
    assert place.up("068304000000", 8, f_cnt=4, name="other") == Heard()
    old = Uplink(EUI, APP, T, "again", 5, 85, b"\x08\x70\x01", SIGNAL)
    assert place.hear(old, is_again=True) == Heard()
    for f_cnt, data in ((7, ENERGY), (5, ON), (4, ON), (0, ENERGY)):
        heard = place.up(data, 9, f_cnt=f_cnt)
        (event,) = heard.frames
        assert isinstance(event, EventFrame)
        assert event.code == FRAME_REPLAYED
        assert heard.refusal is not None
        assert heard.refusal.reason == "replay"
    radio = place.field.radio(EUI)
    assert radio is not None
    assert (radio.heard, radio.lost, radio.duplicates, radio.replays) == (3, 2, 2, 4)
    assert radio.signal == SIGNAL


def test_joining_anew_begins_the_counters_anew_and_a_restart_does_not() -> None:
    place = Place(Known(MODELS["ws52x"], 600 * S, f_cnt=40, event_id="last", address=APP))
    # Committed before the restart, and the broker was not told in time: once more the same.
    assert place.up(ENERGY, 1, f_cnt=40, name="last").frames
    assert place.up(ENERGY, 2, f_cnt=12).refusal is not None
    place.hear(Joined(EUI, APP, T + 3 * S))
    assert place.up(ENERGY, 4, f_cnt=0).refusal is None
    assert place.up(ENERGY, 5, f_cnt=0, name="x").frames == ()


def test_a_stranger_is_counted_and_changes_nothing() -> None:
    place = Place()
    event = Uplink("00" * 8, APP, T, "e", 1, 85, b"\x08\x70\x01", SIGNAL)
    refusal = place.hear(event).refusal
    assert refusal is not None
    assert refusal.reason == "unknown_meter"
    assert not place.field.reaches("00" * 8)
    assert place.field.reaches(EUI)


def test_only_an_uplink_after_the_downlink_answers_an_order() -> None:
    place = Place()
    place.up(OFF, 0)
    downlink = place.downlink("7.1.relay", 10)
    assert (downlink.f_port, downlink.data.hex(), downlink.address) == (85, "0800ff", APP)
    # As wanted, but before the command: its relay was open by other means, and may not be any more.
    assert answers(place.up(OFF, 11)) == []
    place.hear(Sent(EUI, APP, T + 20 * S, downlink.downlink_id))
    place.hear(Settled(EUI, APP, T + 22 * S, downlink.downlink_id, is_received=True))
    # On its way while the downlink was sent.
    assert answers(place.up(OFF, 19)) == []
    assert answers(place.up(ENERGY, 23)) == []
    assert answers(place.up(ENERGY + OFF, 24)) == [("7.1.relay", "ok", "open")]
    assert answers(place.order("7.1.read", 25)) == [("7.1.read", "ok", "open")]
    assert place.order("7.1.read", 25).downlink is None


def test_a_command_that_comes_again_costs_no_air_and_its_latest_name_is_answered() -> None:
    place = Place()
    place.up(ON, 0)
    downlink = place.downlink("7.1.relay", 10)
    for attempt, at_s in ((2, 15), (3, 40), (4, 300)):
        assert place.order(f"7.{attempt}.relay", at_s).downlink is None
    place.hear(Sent(EUI, APP, T + 310 * S, downlink.downlink_id))
    assert place.order("7.5.relay", 320).downlink is None
    assert answers(place.up(OFF, 330)) == [("7.5.relay", "ok", "open")]
    # Tried again while the answer was on its way: the same answer, by its new name, and no downlink.
    again = place.order("7.6.relay", 331)
    assert (answers(again), again.downlink) == ([("7.6.relay", "ok", "open")], None)
    assert answers(place.order("7.6.read", 332)) == [("7.6.read", "ok", "open")]
    place.up(ON, 400)
    assert place.order("7.7.relay", 401).downlink is not None


def test_a_downlink_that_was_lost_in_any_way_is_sent_again() -> None:
    lost: list[Event] = [
        Settled(EUI, APP, T + 30 * S, "", is_received=False),
        Failed(EUI, APP, T + 30 * S, "", "EXPIRED"),
        Joined(EUI, APP, T + 30 * S),
        # It was heard after the downlink, and its relay is as it was.
        Uplink(EUI, APP, T + 31 * S, "e", 99, 85, bytes.fromhex(ON), SIGNAL),
    ]
    for event in lost:
        place = Place()
        place.up(ON, 0)
        first = place.downlink("7.1.relay", 10)
        place.hear(Sent(EUI, APP, T + 20 * S, first.downlink_id))
        named = (
            replace(event, downlink_id=first.downlink_id)
            if hasattr(event, "downlink_id")
            else event
        )  # type: ignore[call-arg]
        assert answers(place.hear(named)) == []
        assert place.downlink("7.2.relay", 40).downlink_id != first.downlink_id
    # One that may have crossed the downlink says nothing of it, and one of somebody else's is not ours.
    place = Place()
    place.up(ON, 0)
    place.hear(Sent(EUI, APP, T + 20 * S, place.downlink("7.1.relay", 10).downlink_id))
    place.hear(Failed(EUI, APP, T, "theirs", "EXPIRED"))
    place.up(ON, 25)
    assert place.order("7.2.relay", 40).downlink is None


def test_a_device_that_hears_after_its_uplinks_is_waited_for() -> None:
    sleepy = replace(MODELS["ws52x"], listens="after_uplinks")
    place = Place(Known(sleepy, 600 * S))
    place.up(ON, 0)
    downlink = place.downlink("7.1.relay", 10)
    assert downlink.expires_at_us == T + (10 + 3 * 600) * S
    assert place.order("7.2.relay", 1_700).downlink is None
    place.hear(Sent(EUI, APP, T + 1_750 * S, downlink.downlink_id))
    assert place.order("7.3.relay", 3_400).downlink is None
    # Three periods without a word of it: lost on the way, or its device is.
    assert place.order("7.4.relay", 3_600).downlink is not None


def test_a_later_order_takes_the_place_of_an_earlier_one() -> None:
    place = Place()
    place.up(ON, 0)
    cut = place.downlink("7.1.relay", 10)
    connect = place.downlink("8.1.relay", 12, "closed")
    place.hear(Sent(EUI, APP, T + 20 * S, cut.downlink_id))
    # The server sends what it had first: its relay being closed says nothing of the later order yet.
    assert answers(place.up(ON, 21)) == []
    assert answers(place.up(OFF, 22)) == []
    place.hear(Sent(EUI, APP, T + 30 * S, connect.downlink_id))
    assert answers(place.up(ON, 31)) == [("8.1.relay", "ok", "closed")]


def test_a_meter_that_says_no_or_has_no_relay_is_told_of() -> None:
    place = Place(Known(MODELS["em2101"], 600 * S))
    state, yes, no = ((11, "010101"), (50, "00"), (50, "01"))

    def up(what: tuple[int, str], at_s: int) -> Heard:
        place.f_cnt += 1
        port, data = what
        event = Uplink(
            EUI, APP, T + at_s * S, f"{at_s}", place.f_cnt, port, bytes.fromhex(data), SIGNAL
        )
        return place.hear(event)

    up(state, 0)
    first = place.downlink("7.1.relay", 10)
    place.hear(Sent(EUI, APP, T + 20 * S, first.downlink_id))
    assert answers(up(yes, 21)) == []
    assert answers(up(no, 22)) == [("7.1.relay", "failed", "closed")]
    three = Place(Known(MODELS["em4301"], 600 * S))
    three.known = replace(three.known)
    assert three.order("7.1.relay", 10) == Ordered()


def test_a_read_is_answered_by_the_next_uplink_and_asked_for_once() -> None:
    place = Place()
    place.up(ON, 0)
    asked = place.order("0.5.read", 10).downlink
    assert asked is not None
    assert asked.data.hex() == "ff28ff"
    assert place.order("0.6.read", 80).downlink is None
    assert answers(place.up(ON, 90)) == [("0.6.read", "ok", "closed")]


def test_however_often_orders_change_the_air_is_bounded() -> None:
    random, place = Random(), Place()
    place.up(ON, 0)
    sent: list[int] = []
    now_s = 1
    for number in range(cases(600)):
        now_s += random.randrange(200)
        state: RelayState = random.choice(("open", "closed"))
        if place.order(f"{number}.1.relay", now_s, state).downlink is not None:
            sent.append(now_s)
        if random.random() < 0.2:
            place.order(f"{number}.1.read", now_s)
    assert sent
    for at_s in sent:
        assert sum(at_s <= each < at_s + 3_600 for each in sent) <= DOWNLINKS_PER_HOUR


def test_an_instruction_is_one_downlink_of_its_port_until_it_is_known_to_be_lost() -> None:
    place = Place()
    told = b"\xd1" * 38

    def instruct(payload: bytes, at_s: int) -> Downlink | bool:
        taken = place.field.instruct(EUI, payload, now_us=T + at_s * S)
        return taken.downlink if taken.downlink is not None else taken.is_taken

    assert instruct(told, 0) is False, "nobody has heard of it yet"
    place.up(ON, 1)
    first = instruct(told, 2)
    assert isinstance(first, Downlink)
    assert (first.f_port, first.data, first.address) == (INSTRUCTION_PORT, told, APP)
    assert instruct(told, 3) is True, "it waits in the queue"
    place.hear(Sent(EUI, APP, T + 4 * S, first.downlink_id))
    assert instruct(told, 200) is True, "its answer may be on its way"
    # What its relay says without a key neither answers it nor ends it.
    assert answers(place.up(OFF, 201)) == []
    again = instruct(told, 400)
    assert isinstance(again, Downlink) and again.downlink_id != first.downlink_id
    for lost in (
        Failed(EUI, APP, T, "", "EXPIRED"),
        Settled(EUI, APP, T, "", is_received=False),
        Joined(EUI, APP, T),
    ):
        place.hear(lost)
        place.hear(
            lost if isinstance(lost, Joined) else replace(lost, downlink_id=again.downlink_id)
        )
        again = instruct(told, 401)
        assert isinstance(again, Downlink)
        assert instruct(told, 401) is True
    other = instruct(b"other", 402)
    assert isinstance(other, Downlink) and other.data == b"other"
    for each in range(DOWNLINKS_PER_HOUR):
        instruct(bytes([each]), 403)
    assert instruct(b"more", 404) is False, "the air is used up"
    assert isinstance(instruct(b"more", 4_100), Downlink)
    # A device that sleeps is waited for.
    place = Place(Known(replace(MODELS["ws52x"], listens="after_uplinks"), 3_600 * S, address=APP))
    first = instruct(told, 0)
    assert isinstance(first, Downlink) and first.expires_at_us == T + 3 * 3_600 * S
    place.hear(Sent(EUI, APP, T, first.downlink_id))
    assert instruct(told, 10_000) is True


def test_what_comes_by_the_port_of_instructions_goes_unopened_to_who_has_the_keys() -> None:
    place = Place()
    up = Uplink(EUI, APP, T + S, "e", 1, INSTRUCTION_PORT, b"\xd1\x84", SIGNAL)
    (frame,) = place.field.heard(up, received_at_us=T + 900 * S, token=TOKEN).frames
    # Dated by the server that heard it, for a broker may have kept it; never by a time to come.
    assert frame == SealedFrame(EUI, T + S, TOKEN, b"\xd1\x84")
    late = replace(up, f_cnt=2, event_id="f", at_us=T + 9 * S)
    assert place.hear(late).frames == (SealedFrame(EUI, T, TOKEN, b"\xd1\x84"),)
    assert place.hear(replace(up, event_id="old", data=b"old")).refusal is not None, "a recording"
    for f_cnt, data in ((3, b""), (4, bytes(52))):
        refusal = place.hear(replace(up, f_cnt=f_cnt, event_id=str(f_cnt), data=data)).refusal
        assert refusal is not None and refusal.reason == "port"


def test_what_lasts_at_a_device_is_told_once_when_it_begins_and_once_when_it_is_over() -> None:
    place = Place()

    def alarm(bits: int, f_cnt: int) -> list[str]:
        up = Uplink(EUI, APP, T + f_cnt * S, f"a{f_cnt}", f_cnt, ALARM_PORT, bytes([bits]), SIGNAL)
        heard = place.hear(up)
        assert heard.refusal is None
        return [each.code for each in heard.frames if isinstance(each, EventFrame)]

    assert alarm(0, 1) == []
    assert alarm(0b00101, 2) == ["cover_open", "magnetic_field"]
    assert alarm(0b00101, 3) == [], "said again after each report, and no news"
    assert alarm(0b10100, 4) == ["cover_closed", "phase_loss"]
    assert alarm(0, 5) == ["magnetic_field_gone", "phase_restored"]
    assert place.up(ON, 6, f_cnt=6).frames, "its own model's words go on"
    for f_cnt, data in ((7, b""), (8, b"\x20"), (9, b"\x01\x00")):
        heard = place.hear(Uplink(EUI, APP, T, f"b{f_cnt}", f_cnt, ALARM_PORT, data, SIGNAL))
        assert heard.refusal is not None and heard.refusal.reason == "value"
