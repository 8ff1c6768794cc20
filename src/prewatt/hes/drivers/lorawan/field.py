"""The devices behind a network server: their counters, what their uplinks mean, and their downlinks; no I/O.

Events go in and frames of the head-end come out; commands go in and downlinks come out. Three things a network
server's queue asks for are kept here.

- **A frame is heard once.** A counter that is not above the last is a duplicate if that very payload was heard with it,
  else a replay: dropped, counted, and told as `frame_replayed`. What the broker itself delivers again is let through,
  since it may not be committed. Joining anew begins the counters anew.
- **An order is answered by an uplink alone.** A gateway's or a device's acknowledgement of a downlink says nothing
  of the relay. An uplink that was made after the downlink was sent, and tells the relay, does: if it is as wanted it
  is the yes, and the answer to the `read` that follows.
- **The air is not for retries.** An order is one downlink until that is known to be lost, refused or in vain; a command
  that comes again meanwhile only renames what the answer will be to. A device gets so many downlinks an hour and no more.

Instructions of the short form have a port of their own, both ways. Nothing here reads them: the same bytes are one
downlink until that is known to be lost, and whatever a device says there goes to whoever has its keys.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from prewatt.core.drivers import Driver
from prewatt.core.short_instructions import BYTES_MAX
from prewatt.hes.drivers.lorawan.events import (
    Downlink,
    Event,
    Failed,
    Joined,
    Remark,
    Sent,
    Settled,
    Signal,
    Uplink,
)
from prewatt.hes.drivers.lorawan.report import MAX_REGISTER, Condition, Model, Report, alarms
from prewatt.hes.frames import (
    ACTIVE_IMPORT,
    FRAME_REPLAYED,
    AckToken,
    AnswerFrame,
    AnswerResult,
    Command,
    EventFrame,
    Frame,
    HelloFrame,
    MalformedFrame,
    ReadingsFrame,
    RelayState,
    SealedFrame,
)

RECENT_KEPT: Final = 16
DOWNLINKS_PER_HOUR: Final = 12
"""Of 20 bytes at SF12, so many take a gateway 17 s of its 36 s an hour in a sub-band of 1 %."""

INSTRUCTION_PORT: Final = 210
"""Of instructions and their answers: no model here uses it, nor do LoRaWAN's own packages (200 to 203, 224)."""
ALARM_PORT: Final = 211
"""Of alarms in one byte (`report.alarms`), from devices that have sensors and whose maker's own format has none."""

#: From the gateway's word to the relay: a report in between says what was before.
_SETTLES_US: Final = 10 * 1_000_000
_HOUR_US: Final = 3_600 * 1_000_000
#: A device of class C has answered after so long, or its downlink or its answer was lost: at SF12 the duty
#: cycle may silence it for 250 s.
_ANSWERS_WITHIN_US: Final = 300 * 1_000_000
#: One of class A hears after an uplink and answers with the next: two periods, and one to spare.
_PERIODS_TO_ANSWER: Final = 3
#: What a device of class C is told waits so long for a gateway that may speak.
_QUEUED_FOR_US: Final = 900 * 1_000_000
#: What waits in the server's queue is asked for no longer than this after its own end.
_GRACE_US: Final = 60 * 1_000_000
_NAMESPACE: Final = uuid.UUID("6f6f2f5e-5b0c-4c7e-9d5b-1e2f70776174")
#: Nothing waits for the commit of an answer: its uplink has a token of its own, and an order is tried again.
NO_MESSAGE: Final = AckToken(0, 0, Driver.LORAWAN)


@dataclass(frozen=True, slots=True)
class Known:
    """What the register of meters says of a device, and what of it was committed last."""

    model: Model
    period_us: int
    f_cnt: int | None = None
    event_id: str = ""
    firmware: str = ""
    address: str = ""
    serial: str = ""
    """As it stands in the register, where that is written otherwise than the DevEUI here."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What an event came to. Nothing waits for the commit of one without frames: it may be let go at once.

    ``is_new`` says that it was an uplink whose counter is the device's last: it may be remembered once committed.
    """

    frames: tuple[Frame, ...] = ()
    refusal: MalformedFrame | None = None
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Ordered:
    """What a command came to: a downlink to be queued, or answers from what is known already, or neither."""

    downlink: Downlink | None = None
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True, slots=True)
class Instructed:
    """Whether an instruction is on its way, and the downlink to be queued where it was not before."""

    is_taken: bool
    downlink: Downlink | None = None


@dataclass(slots=True)
class Radio:
    """How a device is heard: counted since the start of the process."""

    signal: Signal | None = None
    at_us: int = 0
    heard: int = 0
    lost: int = 0
    duplicates: int = 0
    replays: int = 0
    downlinks: int = 0
    downlinks_lost: int = 0


@dataclass(slots=True, kw_only=True)
class _Way:
    """Where a downlink has come to. ``sent_at_us`` is when a gateway took it, None before."""

    downlink_id: str
    expires_at_us: int
    sent_at_us: int | None = None
    is_lost: bool = False


@dataclass(slots=True, kw_only=True)
class _Order(_Way):
    """A relay order under way."""

    command: Command
    is_answered: bool = False


@dataclass(slots=True, kw_only=True)
class _Instruction(_Way):
    """Bytes that nobody reads here, under way."""

    payload: bytes


@dataclass(slots=True)
class _Device:
    known: Known
    serial: str
    address: str = ""
    device_class: str = ""
    f_cnt: int | None = None
    event_ids: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT_KEPT))
    recent: deque[tuple[int, int, bytes]] = field(default_factory=lambda: deque(maxlen=RECENT_KEPT))
    firmware: str = ""
    relay: tuple[RelayState, int] | None = None
    register_wh: int = 0
    order: _Order | None = None
    instruction: _Instruction | None = None
    read: Command | None = None
    #: What lasts at it, as it said last: told anew after a start.
    conditions: dict[Condition, bool] = field(default_factory=dict)
    downlinks_at: deque[int] = field(default_factory=lambda: deque(maxlen=DOWNLINKS_PER_HOUR))
    radio: Radio = field(default_factory=Radio)


class Field:
    """All devices of a network server. Not thread-safe.

    ``known(eui)`` looks a device up in the register; None for one that is no meter of this driver.
    """

    def __init__(self, known: Callable[[str], Known | None]) -> None:
        self._look_up = known
        self._devices: dict[str, _Device] = {}

    def reaches(self, serial: str) -> bool:
        """Whether the meter is a device of this driver."""
        return self._device(serial.lower()) is not None

    def radio(self, eui: str) -> Radio | None:
        """How a device is heard; None for one that was not."""
        device = self._devices.get(eui)
        return None if device is None else device.radio

    def serial(self, eui: str) -> str:
        """The serial number of a device that was heard, as it stands in the register."""
        device = self._devices.get(eui)
        return eui if device is None else device.serial

    # --- what comes ---

    def heard(
        self, event: Event, *, received_at_us: int, token: AckToken, is_again: bool = False
    ) -> Heard:
        """Take an event; ``is_again`` says that the broker delivered it before."""
        if isinstance(event, Remark):
            return Heard()
        device = self._device(event.eui)
        if device is None:
            return Heard(refusal=MalformedFrame("unknown_meter", "no meter of this driver"))
        device.address = event.address
        if isinstance(event, Uplink):
            return self._uplink(device, event, received_at_us, token, is_again=is_again)
        if isinstance(event, Joined):
            self._joined(device)
        else:
            _follow(device, event)
        return Heard()

    def _uplink(
        self, device: _Device, up: Uplink, received_at_us: int, token: AckToken, *, is_again: bool
    ) -> Heard:
        device.device_class = up.device_class or device.device_class
        told_again = bool(up.event_id) and up.event_id in device.event_ids
        if not told_again and device.f_cnt is not None and up.f_cnt <= device.f_cnt:
            return _old(device, up, received_at_us, token, is_again=is_again)
        if up.f_port == INSTRUCTION_PORT:
            _count(device, up, told_again=told_again)
            return _sealed(device, up, received_at_us, token)
        try:
            is_alarm = up.f_port == ALARM_PORT
            report = alarms(up.data) if is_alarm else device.known.model.decode(up.f_port, up.data)
            frames = _frames(device, up, report, received_at_us, token)
        except MalformedFrame as error:
            # Its counter is used up all the same: it was this device's frame.
            _count(device, up, told_again=told_again)
            return Heard(refusal=error, is_new=True)
        _count(device, up, told_again=told_again)
        answers = _answers(device, up, report, received_at_us)
        return Heard((*frames, *answers), is_new=True)

    def _joined(self, device: _Device) -> None:
        device.f_cnt = None
        device.recent.clear()
        if device.order is not None and not device.order.is_answered:
            # The server empties its queue for a device with new keys, or what is in it cannot be read.
            device.order.is_lost = True
        if device.instruction is not None:
            device.instruction.is_lost = True

    # --- what goes ---

    def order(self, serial: str, command: Command, *, now_us: int) -> Ordered:
        """Take a command for a device that is `reached`."""
        eui = serial.lower()
        device = self._device(eui)
        assert device is not None, "asked for by `reaches` before"
        act = _switch if command.op == "relay" else _read
        return act(eui, device, command, now_us)

    def instruct(self, serial: str, payload: bytes, *, now_us: int) -> Instructed:
        """Take an instruction for a device that is `reached`, which it is to have unread."""
        assert len(payload) <= BYTES_MAX, "the slowest downlink carries no more"
        eui = serial.lower()
        device = self._device(eui)
        assert device is not None, "asked for by `reaches` before"
        before = device.instruction
        if before is not None and before.payload == payload and _waits(device, before, now_us):
            return Instructed(is_taken=True)
        if not device.address or not _may_send(device, now_us):
            # Nobody has heard of it since the start, or the air is used up.
            return Instructed(is_taken=False)
        downlink = _instruction_of(eui, device, payload, now_us)
        device.instruction = _Instruction(
            payload=payload,
            downlink_id=downlink.downlink_id,
            expires_at_us=downlink.expires_at_us,
        )
        device.downlinks_at.append(now_us)
        return Instructed(is_taken=True, downlink=downlink)

    def _device(self, eui: str) -> _Device | None:
        known = self._look_up(eui)
        if known is None:
            return None
        device = self._devices.get(eui)
        if device is None:
            device = self._devices[eui] = _Device(
                known,
                known.serial or eui,
                address=known.address,
                f_cnt=known.f_cnt,
                firmware=known.firmware,
            )
            if known.event_id:
                device.event_ids.append(known.event_id)
        # Its model may have been put right meanwhile; what was heard since is newer than the register.
        device.known = known
        return device


# --- uplinks ---------------------------------------------------------------------------------------------


def _old(
    device: _Device, up: Uplink, received_at_us: int, token: AckToken, *, is_again: bool
) -> Heard:
    """A counter that was there before: once more the same, or somebody's recording."""
    if is_again or (up.f_cnt, up.f_port, up.data) in device.recent:
        device.radio.duplicates += 1
        return Heard()
    device.radio.replays += 1
    detail = f"counter {up.f_cnt} after {device.f_cnt}"
    event = EventFrame(device.serial, received_at_us, token, FRAME_REPLAYED, up.at_us, detail)
    return Heard((event,), MalformedFrame("replay", detail))


def _count(device: _Device, up: Uplink, *, told_again: bool) -> None:
    if told_again:
        return
    radio = device.radio
    radio.heard += 1
    if device.f_cnt is not None:
        radio.lost += up.f_cnt - device.f_cnt - 1
    if up.at_us >= radio.at_us:
        radio.signal, radio.at_us = up.signal, up.at_us
    device.f_cnt = up.f_cnt
    device.recent.append((up.f_cnt, up.f_port, up.data))
    if up.event_id:
        device.event_ids.append(up.event_id)


def _sealed(device: _Device, up: Uplink, received_at_us: int, token: AckToken) -> Heard:
    """An answer, unopened. It is of when the server heard it, however long a broker kept it."""
    if not 0 < len(up.data) <= BYTES_MAX:
        refusal = MalformedFrame("port", f"{len(up.data)} bytes answer no instruction")
        return Heard(refusal=refusal, is_new=True)
    at_us = min(up.at_us, received_at_us)
    return Heard((SealedFrame(device.serial, at_us, token, up.data),), is_new=True)


def _frames(
    device: _Device, up: Uplink, report: Report, received_at_us: int, token: AckToken
) -> list[Frame]:
    """What a report says, as frames; the first has the message's token, and the others none."""
    frames: list[Frame] = []
    device.firmware = report.firmware or device.firmware
    at_us = up.at_us if report.measured_at_us is None else report.measured_at_us
    if report.registers:
        frames.append(_readings(device.serial, report, at_us, received_at_us, token))
        device.register_wh = dict(report.registers).get(ACTIVE_IMPORT, device.register_wh)
    elif report.relay is not None or report.firmware is not None:
        # A device that tells its firmware and not its relay is told of by what it said last.
        relay = report.relay or (device.relay[0] if device.relay else None)
        if relay is not None:
            frames.append(
                HelloFrame(
                    device.serial,
                    received_at_us,
                    token,
                    report.clock_us or up.at_us,
                    relay,
                    device.firmware,
                )
            )
    for code in (*report.events, *_news(device, report)):
        own = NO_MESSAGE if frames else token
        frames.append(EventFrame(device.serial, received_at_us, own, code, up.at_us, ""))
    if report.relay is not None and (device.relay is None or up.at_us >= device.relay[1]):
        device.relay = (report.relay, up.at_us)
    return frames


def _news(device: _Device, report: Report) -> list[str]:
    """The events of what has begun or is over since its last word on it."""
    codes: list[str] = []
    for condition, lasts in report.conditions:
        if device.conditions.get(condition, False) is not lasts:
            codes.append(condition.begins if lasts else condition.ends)
        device.conditions[condition] = lasts
    return codes


def _readings(
    serial: str, report: Report, at_us: int, received_at_us: int, token: AckToken
) -> ReadingsFrame:
    if any(not 0 <= value < MAX_REGISTER for _, value in report.registers):
        raise MalformedFrame("range", "a register that cannot be")
    number = len(report.registers)
    return ReadingsFrame(
        serial=serial,
        received_at_us=received_at_us,
        token=token,
        read_at_us=np.full(number, at_us, dtype=np.int64),
        register_code=np.array([code for code, _ in report.registers], dtype=np.int16),
        value=np.array([value for _, value in report.registers], dtype=np.int64),
        meter_clock_us=report.clock_us,
        relay=report.relay,
    )


def _answers(device: _Device, up: Uplink, report: Report, received_at_us: int) -> list[AnswerFrame]:
    """What an uplink answers: the order whose downlink it came after, and a `read` that waits."""
    answers: list[AnswerFrame] = []
    order = device.order
    if order is not None and not order.is_answered and _is_after(up.at_us, order):
        if report.relay is not None and report.relay == order.command.state:
            order.is_answered = True
            answers.append(_answer(device, order.command, "ok", received_at_us))
        elif report.accepted is False and device.relay is not None:
            order.is_lost = True
            answers.append(_answer(device, order.command, "failed", received_at_us))
        elif report.relay is not None and _is_after(up.at_us - _SETTLES_US, order):
            # It was heard, and its relay is as before: the downlink was lost, or did nothing.
            order.is_lost = True
    if device.read is not None and report.relay is not None:
        answers.append(_answer(device, device.read, "ok", received_at_us))
        device.read = None
    return answers


def _is_after(at_us: int, order: _Order) -> bool:
    return order.sent_at_us is not None and at_us > order.sent_at_us


def _answer(
    device: _Device, command: Command, result: AnswerResult, received_at_us: int
) -> AnswerFrame:
    assert device.relay is not None, "nobody answers without a relay that is known"
    relay, at_us = device.relay
    return AnswerFrame(
        device.serial,
        received_at_us,
        NO_MESSAGE,
        command.command_id,
        result,
        relay,
        device.register_wh,
        at_us,
    )


# --- downlinks -------------------------------------------------------------------------------------------


def _follow(device: _Device, event: Sent | Settled | Failed) -> None:
    """Where the downlink of an order or an instruction has come to."""
    ways = (device.order, device.instruction)
    way = next((each for each in ways if each and each.downlink_id == event.downlink_id), None)
    if way is None or not event.downlink_id:
        return
    if isinstance(event, Sent):
        way.sent_at_us = event.at_us
        device.radio.downlinks += 1
    elif isinstance(event, Failed) or not event.is_received:
        way.is_lost = True
        device.radio.downlinks_lost += 1


def _switch(eui: str, device: _Device, command: Command, now_us: int) -> Ordered:
    assert command.state is not None, "a relay command has a state"
    relay = device.known.model.relay
    if relay is None:
        return _unsupported(device, command, now_us)
    order = device.order
    if order is not None and _is_same(order, command):
        if _is_under_way(device, order, now_us):
            order.command = command
            return Ordered()
        if order.is_answered and device.relay is not None and device.relay[0] == command.state:
            # It was done while this command was on its way: the same answer again, by its name.
            order.command = command
            return Ordered(frames=(_answer(device, command, "ok", now_us),))
    if not device.address or not _may_send(device, now_us):
        # Nobody has heard of it since the start, or the air is used up: the order is tried again later.
        return Ordered()
    port, data = relay(command.state)
    downlink = _downlink(eui, device, command, port, data)
    device.order = _Order(
        command=command,
        downlink_id=downlink.downlink_id,
        expires_at_us=downlink.expires_at_us,
    )
    device.read = None
    device.downlinks_at.append(now_us)
    return Ordered(downlink)


def _read(eui: str, device: _Device, command: Command, now_us: int) -> Ordered:
    order = device.order
    if (
        order is not None
        and order.is_answered
        and _order_of(order.command) == _order_of(command)
        and device.relay is not None
    ):
        # The uplink that was the yes has told the relay: nothing newer is to be had by asking.
        return Ordered(frames=(_answer(device, command, "ok", now_us),))
    was_waiting, device.read = device.read is not None, command
    read = device.known.model.read
    if read is None or was_waiting or not device.address or not _may_send(device, now_us):
        return Ordered()
    device.downlinks_at.append(now_us)
    return Ordered(_downlink(eui, device, command, *read))


def _unsupported(device: _Device, command: Command, now_us: int) -> Ordered:
    if device.relay is None:
        return Ordered()
    return Ordered(frames=(_answer(device, command, "unsupported", now_us),))


def _is_same(order: _Order, command: Command) -> bool:
    return order.command.state == command.state and _order_of(order.command) == _order_of(command)


def _order_of(command: Command) -> str:
    """The part of a command's id that all attempts of an order share."""
    return command.command_id.split(".", 1)[0]


def _is_under_way(device: _Device, order: _Order, now_us: int) -> bool:
    """Whether the downlink may still do what it should, so that another would only cost air."""
    return not order.is_answered and _waits(device, order, now_us)


def _waits(device: _Device, way: _Way, now_us: int) -> bool:
    """Whether a downlink is in the queue yet, or may still be answered."""
    if way.is_lost:
        return False
    if way.sent_at_us is None:
        return now_us <= way.expires_at_us + _GRACE_US
    patience_us = (
        _ANSWERS_WITHIN_US if _hears_always(device) else _PERIODS_TO_ANSWER * device.known.period_us
    )
    return now_us <= way.sent_at_us + patience_us


def _hears_always(device: _Device) -> bool:
    """Whether it listens all the time: what the server says goes before what its model is made for."""
    if device.device_class:
        return device.device_class == "C"
    return device.known.model.listens == "always"


def _may_send(device: _Device, now_us: int) -> bool:
    sent = device.downlinks_at
    return len(sent) < DOWNLINKS_PER_HOUR or now_us - sent[0] >= _HOUR_US


def _downlink(eui: str, device: _Device, command: Command, port: int, data: bytes) -> Downlink:
    name = str(uuid.uuid5(_NAMESPACE, f"{eui}/{command.command_id}"))
    # A device that listens after its uplinks must have had one before the downlink is too old.
    expires_at_us = command.expires_at_us
    if not _hears_always(device):
        expires_at_us = max(
            expires_at_us, command.issued_at_us + _PERIODS_TO_ANSWER * device.known.period_us
        )
    return Downlink(eui, device.address, name, port, data, expires_at_us)


def _instruction_of(eui: str, device: _Device, payload: bytes, now_us: int) -> Downlink:
    """The downlink of an instruction. The same bytes that go again later are another one in the server's queue."""
    name = str(uuid.uuid5(_NAMESPACE, f"{eui}/{now_us}/{payload.hex()}"))
    waits_us = (
        _QUEUED_FOR_US if _hears_always(device) else _PERIODS_TO_ANSWER * device.known.period_us
    )
    return Downlink(eui, device.address, name, INSTRUCTION_PORT, payload, now_us + waits_us)
