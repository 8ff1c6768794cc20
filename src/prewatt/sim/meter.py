"""A simulated prepayment meter: register, relay, clock, event log, backlog. Pure: time goes in, messages come out.

It behaves as an honest meter would. The register counts only while the relay is closed. A reading stays in the
backlog until the head-end's watermark has passed it, whatever the broker said, and is sent again when no
watermark comes. A command with a known id gets the stored answer. What is dishonest about it is a fault
and is switched on by name:

| fault | value | effect |
|---|---|---|
| `drop` | percent | so many of its messages never leave |
| `duplicate` | 0 or 1 | every message leaves twice |
| `reorder` | 0 or 1 | every message leaves after its successor |
| `clock_drift` | seconds | its clock is ahead by so much (negative: behind) |
| `rollover` | Wh | the register returns to zero after so much more |
| `stuck_relay` | 0 or 1 | commands are answered `ok`, the contacts stay as they are |
| `outage` | 0 or 1 | no connection; readings pile up and come afterwards |
| `withheld` | 0 or 1 | readings are kept in its history and never sent by themselves |
| `forgetful` | 0 or 1 | it keeps no history: whoever asks for it hears `unsupported` |
| `cover_open`, `terminal_cover_open`, `magnetic_field`, `phase_loss` | 0 or 1 | the sensor reports, and again when it is over |
| `reverse_flow` | 0 or 1 | energy flows backwards: the meter says so, and its register stands |
| `clock_back` | seconds | its clock was set back by so much, and the meter says so |
| `bypass` | percent | so much of the load passes the meter by, and it says nothing |
| `welded_relay` | 0 or 1 | the relay opens by its own word, and the load goes on |
| `heater` | W | so much load on top of the shape (no fault, but as useful) |
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, NamedTuple

import numpy as np

from prewatt.core import instructions
from prewatt.core.instructions import Condition, MeterState, NotBelieved, Operation, Result, Verify
from prewatt.core.vocabulary import RelayState as RelayCode
from prewatt.hes.drivers.mqtt_senml import codec
from prewatt.hes.drivers.mqtt_senml.topics import Uplink
from prewatt.hes.frames import (
    ACTIVE_IMPORT,
    EVENT_LOG,
    AnswerResult,
    Command,
    MalformedFrame,
    RelayState,
    Watermark,
)
from prewatt.signing.es256 import ES256PrivateKey, ES256PublicKey, device_key_id
from prewatt.sim.loads import Profile, cumulative_wh

FAULTS: Final = (
    "drop",
    "duplicate",
    "reorder",
    "clock_drift",
    "rollover",
    "stuck_relay",
    "outage",
    "cover_open",
    "withheld",
    "forgetful",
    "terminal_cover_open",
    "magnetic_field",
    "phase_loss",
    "reverse_flow",
    "clock_back",
    "bypass",
    "welded_relay",
    "heater",
)
#: What the meter itself says of a fault that begins, and of one that ends.
SAID: Final[Mapping[str, tuple[str, str]]] = {
    "cover_open": ("cover_open", "cover_closed"),
    "terminal_cover_open": ("terminal_cover_open", "terminal_cover_closed"),
    "magnetic_field": ("magnetic_field", "magnetic_field_gone"),
    "phase_loss": ("phase_loss", "phase_restored"),
    "reverse_flow": ("reverse_flow", "reverse_flow_gone"),
    "clock_back": ("clock_set_back", ""),
}
FIRMWARE: Final = "prewatt-sim 1.0"
FORGED_COMMAND: Final = "forged_command"
"""The event of a meter that was sent what nobody it trusts had signed: one until it is committed."""

_BACKLOG_MAX: Final = 4_096
_EVENTS_MAX: Final = 200
_ANSWERS_KEPT: Final = 32
#: Readings of its history that it keeps whatever became of them, and those that it sends in answer to one command.
_HISTORY_KEPT: Final = 1_000
_ROWS_PER_MESSAGE: Final = 200
_MESSAGES_PER_TICK: Final = 5
_RETRY_US: Final = 30_000_000
_EVENT_RETRY_US_MAX: Final = 3_600_000_000
_US_PER_WH: Final = 3_600_000_000  # watt-microseconds

#: So long a load is looked at before it is held against a limit: what starts a motor passes.
_LIMIT_LOOK_US: Final = 60_000_000

#: The numbers that a meter keeps of instructions.
_COUNTS: Final = ("sequence", "credit_micro", "refused", "repeated")
_LATER_COUNTS: Final = ("limit_w", "limit_s")

Outgoing = tuple[Uplink, bytes]


class _Row(NamedTuple):
    """A reading in the backlog: the meter's own time, the register, and how often the clock had been set back.

    Readings with the same `clock` follow one another in the backlog, and their instants rise. So those of a
    message, which are of one clock, are all that the backlog had between its first and its last.
    """

    at_us: int
    value_wh: int
    clock: int = 0


class UnknownFault(ValueError):
    """No such fault, or not such a value."""


class MeterSeal:
    """A meter's own key, made in it: signs its answers under the id of its SubjectPublicKeyInfo."""

    def __init__(self, private: ES256PrivateKey) -> None:
        self._private = private
        self.key_id = device_key_id(private.spki)

    def sign(self, message: bytes) -> bytes:
        """See `core.cose.Sealer`."""
        return self._private.sign(message)


def trusting(keys: Mapping[bytes, bytes]) -> Verify:
    """What verifies by these public keys (points by their ids), and by no other."""
    parsed = {key_id: ES256PublicKey.from_point(point) for key_id, point in keys.items()}

    def verify(key_id: bytes, message: bytes, signature: bytes) -> bool:
        if key_id not in parsed:
            raise NotBelieved(instructions.Doubt.UNKNOWN_KEY)
        return parsed[key_id].is_signed(message, signature)

    return verify


@dataclass(frozen=True, slots=True)
class MeterConfig:
    """What a meter is made of.

    Its register stood at `start_register_wh` at `start_at_us` (simulated time) and has followed the load
    shape since. The first report is due at a multiple of the period plus `phase_us`, so that meters
    do not all speak at once. What no watermark came for is sent again after `retry_us`. With a `private_key`
    it does nothing of weight that is not signed by one of the keys it `trusts` (points by their ids). With
    `holds_credit` it has a balance of its own from the first credit that it is told until it is released, counts it
    down by `price_nano` for each kWh, and opens its relay when there is none left. With `first_form` it knows READ, RELAY and CREDIT alone, as meters of before.
    """

    serial: str
    profile: Profile
    scale_ppm: int
    start_register_wh: int
    start_at_us: int
    report_period_us: int
    phase_us: int = 0
    register_modulus_wh: int = 1_000_000_000
    relay: RelayState = "closed"
    retry_us: int = 30_000_000
    private_key: ES256PrivateKey | None = None
    trusts: Mapping[bytes, bytes] = field(default_factory=dict)
    holds_credit: bool = False
    price_nano: int = 0
    first_form: bool = False


class SimulatedMeter:
    """One meter. Every method takes the true simulated time; the meter's own clock may differ from it.

    `on_reading` is told each reading as it is taken, by the meter's own clock; `on_command` each command that is new,
    with the meter's time and what came of it.
    """

    def __init__(
        self,
        config: MeterConfig,
        *,
        on_reading: Callable[[int, int], None] | None = None,
        on_command: Callable[[int, Command, AnswerResult], None] | None = None,
    ) -> None:
        self.config = config
        self._on_reading = on_reading
        self._on_command = on_command
        #: Whether it takes readings by the clock; a relay that turns is a reading in any case.
        self.is_reading = True
        self.relay: RelayState = config.relay
        self.is_online = False
        self.faults: dict[str, int] = dict.fromkeys(FAULTS, 0)
        # Energy up to `_mark_us` is in `_counted_wh` (with a rest below one Wh of extra load); after it
        # the register follows the load as long as the relay is closed.
        self._counted_wh = config.start_register_wh
        self._mark_us = config.start_at_us
        self._extra_rest = 0
        self._wraps_at_wh = config.register_modulus_wh
        self._zero_at_wh = 0
        self._next_report_us = 0
        # The first `_sent` of them have been sent and wait for a watermark.
        self._backlog: list[_Row] = []
        self._sent = 0
        self._progress_at_us = 0
        self._events: list[tuple[int, str]] = []
        self._events_sent = 0
        self._events_sent_at_us = 0
        self._event_retry_us = _RETRY_US
        self._answers: OrderedDict[str, bytes] = OrderedDict()
        self._history: deque[tuple[int, int]] = deque(maxlen=_HISTORY_KEPT)
        # What a line loses is no n-th message: one in step with retries would lose the same answer for ever.
        self._losing = Random(config.serial)  # noqa: S311 - a simulation is repeated by its seed
        self._held_back: list[Outgoing] = []
        self.instructed = MeterState(keys=tuple(config.trusts.items()))
        """What it keeps of signed instructions: its sequence, the last one, stored answers, the keys it trusts."""
        # While it holds credit: its lifetime credit and its counted energy when it began to.
        self._held_from: tuple[int, int] | None = None
        self._seal = None if config.private_key is None else MeterSeal(config.private_key)
        self._trusts = self.instructed.keys
        self._verify = trusting(config.trusts)
        self._understands = instructions.FIRST_FORM if config.first_form else instructions.EVERY
        # Until when its relay is open for the load that was above its limit, and what it had counted a while ago.
        self._spared_until_us = 0
        self._looked = (config.start_at_us, config.start_register_wh)

    # --- what can be seen ---

    def clock_us(self, now_us: int) -> int:
        """The time on the meter's own clock."""
        return now_us + (self.faults["clock_drift"] - self.faults["clock_back"]) * 1_000_000

    def register_wh(self, now_us: int) -> int:
        """What the display shows: the counted energy, reduced by every return to zero."""
        shown = self._energy_wh(now_us)[0] - self._zero_at_wh
        return shown % self._wraps_at_wh

    @property
    def backlog(self) -> int:
        """How many readings are not yet known to be committed."""
        return len(self._backlog)

    def unacknowledged(self) -> list[tuple[int, int]]:
        """The readings that are not yet known to be committed: meter time and register."""
        return [(row.at_us, row.value_wh) for row in self._backlog]

    def next_due_us(self) -> int:
        """When `tick` has something to do at the latest."""
        dues = [self._next_report_us]
        if self._spared_until_us:
            dues.append(self._spared_until_us)
        elif self.instructed.limit_w:
            dues.append(self._looked[0] + _LIMIT_LOOK_US)
        return min(dues)

    # --- what happens to it ---

    def connected(self, now_us: int) -> list[Outgoing]:
        """The transport is up: say hello, then send everything again that is not known to be committed."""
        self.is_online = True
        self._sent = self._events_sent = 0
        hello = self._hello(now_us)
        if self.is_reading:
            self._report(now_us)
        return self._faulty([hello, *self._unsent(now_us)])

    def disconnected(self) -> None:
        """The transport is down: nothing leaves, everything is kept."""
        self.is_online = False

    def tick(self, now_us: int) -> list[Outgoing]:
        """Take the reading that is due, and send what is unsent or has waited too long for a watermark."""
        if self.is_reading and now_us >= self._next_report_us:
            self._report(now_us)
        if self.instructed.limit_w or self._spared_until_us:
            self._keep_limit(now_us)
        if not self.is_online:
            return []
        if self._sent and now_us - self._progress_at_us >= self.config.retry_us:
            self._sent = 0
        if self._events_sent and now_us - self._events_sent_at_us >= self._event_retry_us:
            self._events_sent = 0
            self._event_retry_us = min(2 * self._event_retry_us, _EVENT_RETRY_US_MAX)
        return self._faulty(self._unsent(now_us))

    def receive_watermarks(self, payload: bytes, now_us: int) -> None:
        """Drop what is committed; a malformed payload is ignored, as noise on the line would be."""
        try:
            marks = codec.decode_watermarks(self.config.serial, payload)
        except MalformedFrame:
            return
        for mark in marks:
            if mark.register_code == ACTIVE_IMPORT:
                self._drop_readings(mark, now_us)
            elif mark.register_code == EVENT_LOG:
                self._drop_events(mark)

    def receive_command(self, payload: bytes, now_us: int) -> list[Outgoing]:
        """Do as told and answer; a known id gets the stored answer and nothing is done twice."""
        try:
            command = codec.decode_command(payload)
        except MalformedFrame:
            return []
        stored = self._answers.get(command.command_id)
        if stored is not None:
            return self._faulty([(Uplink.ANSWER, stored)])
        before = self.relay
        more: list[Outgoing] = []
        result: AnswerResult = "expired"
        if self.clock_us(now_us) <= command.expires_at_us:
            result, more = self._obey(command, now_us)
        if self._on_command is not None:
            self._on_command(self.clock_us(now_us), command, result)
        answer = codec.encode_answer(
            command_id=command.command_id,
            result=result,
            relay=self.relay,
            register_wh=self.register_wh(now_us),
            at_us=self.clock_us(now_us),
        )
        self._answers[command.command_id] = answer
        while len(self._answers) > _ANSWERS_KEPT:
            self._answers.popitem(last=False)
        outgoing: list[Outgoing] = [*more, (Uplink.ANSWER, answer)]
        if self.relay != before:
            self._record(now_us)
            outgoing += self._unsent(now_us)
        return self._faulty(outgoing)

    def _obey(self, command: Command, now_us: int) -> tuple[AnswerResult, list[Outgoing]]:
        """Do as told; returns how it went, and what it has to say besides its answer."""
        if self._seal is not None and command.op in ("relay", "clock"):
            # Whoever has not the key asks for nothing that matters.
            return "unsupported", []
        if command.state is not None:
            self._turn(command.state, now_us)
        elif command.op == "hello":
            return "ok", [self._hello(now_us)]
        elif command.move_us is not None:
            # An order that waited for long would put right what is right meanwhile.
            moved_us = self.clock_us(now_us) + command.move_us
            if not command.issued_at_us <= moved_us <= command.expires_at_us:
                return "failed", []
            self.faults["clock_drift"] += command.move_us // 1_000_000
        elif command.from_us is not None and command.until_us is not None:
            if self.faults["forgetful"]:
                return "unsupported", []
            return "ok", self._kept(command.from_us, command.until_us, now_us)
        return "ok", []

    def _kept(self, from_us: int, until_us: int, now_us: int) -> list[Outgoing]:
        """What it has kept of a span, in messages; none of it waits for a watermark: it can be asked for again."""
        rows = [row for row in self._history if from_us <= row[0] <= until_us]
        return [
            (
                Uplink.READINGS,
                codec.encode_readings(
                    self.config.serial,
                    [(at_us, ACTIVE_IMPORT, wh) for at_us, wh in rows[at : at + _ROWS_PER_MESSAGE]],
                    meter_clock_us=self.clock_us(now_us),
                    relay=self.relay,
                ),
            )
            for at in range(0, len(rows), _ROWS_PER_MESSAGE)
        ]

    def _hello(self, now_us: int) -> Outgoing:
        hello = codec.encode_hello(
            clock_us=self.clock_us(now_us), relay=self.relay, firmware=FIRMWARE
        )
        return Uplink.HELLO, hello

    def receive_instruction(self, payload: bytes, now_us: int) -> list[Outgoing]:
        """Verify, do as told, answer. What is not believed changes nothing, is counted, and is an event."""
        if self._seal is None:
            return []
        clock_us = self.clock_us(now_us)
        try:
            verdict = instructions.judged(
                self.instructed,
                payload,
                meter=self.config.serial,
                verify=self._verify,
                now_us=clock_us,
                understands=self._understands,
            )
        except NotBelieved:
            self.instructed = instructions.refused(self.instructed)
            if not any(code == FORGED_COMMAND for _, code in self._events):
                self._log(FORGED_COMMAND, now_us)
            return self._faulty(self._unsent(now_us))
        before = self.relay
        is_new = verdict.stored is None and verdict.result is Result.OK
        if is_new and verdict.command.operation is Operation.RELAY:
            self._spared_until_us = 0
            self._turn("closed" if verdict.command.argument == RelayCode.CLOSED else "open", now_us)
        self.faults["clock_drift"] += verdict.step_s
        if verdict.added_micro and self._held_from is None:
            self._held_from = (self.instructed.credit_micro, self._energy_wh(now_us)[0])
        credit_micro = self.instructed.credit_micro + verdict.added_micro
        condition = Condition(
            relay=RelayCode.CLOSED if self.relay == "closed" else RelayCode.OPEN,
            balance_micro=self._balance_micro(credit_micro, now_us),
            register_wh=self.register_wh(now_us),
            at_us=self.clock_us(now_us),
        )
        self.instructed, answer = instructions.concluded(
            self.instructed, verdict, condition, by=self._seal
        )
        if is_new and verdict.command.operation is Operation.RELEASE:
            self._held_from = None
        outgoing: list[Outgoing] = [(Uplink.SEALED, answer)]
        self._take_up(is_new and verdict.command.operation is Operation.LIMIT, now_us)
        if verdict.added_micro and (condition.balance_micro or 0) > 0 and not self._spared_until_us:
            self._turn("closed", now_us)
        if self.relay != before:
            self._record(now_us)
            outgoing += self._unsent(now_us)
        return self._faulty(outgoing)

    def _take_up(self, is_limit: bool, now_us: int) -> None:
        """Verify by the keys that it trusts now, and look at the load from now on where it has a new limit."""
        if self.instructed.keys != self._trusts:
            self._trusts = self.instructed.keys
            self._verify = trusting(dict(self._trusts))
        if is_limit:
            self._looked = (now_us, self._energy_wh(now_us)[0])
            if not self.instructed.limit_w:
                self._reclose(now_us)

    def _keep_limit(self, now_us: int) -> None:
        """Open the relay where the load since the last look was above the limit, and close it again in its time."""
        if self._spared_until_us:
            if now_us >= self._spared_until_us:
                self._reclose(now_us)
            return
        since_us, counted_wh = self._looked
        if now_us - since_us < _LIMIT_LOOK_US:
            return
        self._looked = (now_us, self._energy_wh(now_us)[0])
        drawn_wh = self._looked[1] - counted_wh
        is_above = drawn_wh * _US_PER_WH > self.instructed.limit_w * (now_us - since_us)
        if is_above and self.relay == "closed":
            self._turn("open", now_us)
            self._record(now_us)
            self._spared_until_us = now_us + self.instructed.limit_s * 1_000_000

    def _reclose(self, now_us: int) -> None:
        """Close what was opened for the load, unless its credit is used up."""
        was_spared, self._spared_until_us = self._spared_until_us, 0
        self._looked = (now_us, self._energy_wh(now_us)[0])
        balance_micro = self.balance_micro(now_us)
        if was_spared and (balance_micro is None or balance_micro > 0):
            self._turn("closed", now_us)
            self._record(now_us)

    def balance_micro(self, now_us: int) -> int | None:
        """What is left of the credit that it was given; None for a meter that holds none."""
        return self._balance_micro(self.instructed.credit_micro, now_us)

    def _balance_micro(self, credit_micro: int, now_us: int) -> int | None:
        if not self.config.holds_credit or self._held_from is None:
            return None
        from_micro, from_wh = self._held_from
        used_wh = self._energy_wh(now_us)[0] - from_wh
        return credit_micro - from_micro - used_wh * self.config.price_nano // 1_000_000

    def _cut_itself(self, now_us: int) -> None:
        """A meter that holds its credit opens its relay when there is none left; before its first it leaves it alone."""
        if not self.instructed.credit_micro:
            return
        balance_micro = self.balance_micro(now_us)
        if balance_micro is not None and balance_micro <= 0 and self.relay == "closed":
            self._turn("open", now_us)
            self._record(now_us)

    def _turn(self, relay: RelayState, now_us: int) -> None:
        if not self.faults["stuck_relay"]:
            self._fold(now_us)
            self.relay = relay

    def set_fault(self, name: str, value: int, now_us: int) -> list[Outgoing]:
        """Switch a fault (0 is off); raises `UnknownFault`. `outage` is for the transport to act upon."""
        if name not in FAULTS:
            raise UnknownFault(f"no fault {name!r}; there are {', '.join(FAULTS)}")
        if name in ("drop", "bypass") and not 0 <= value <= 100:
            raise UnknownFault(f"{name} is a percentage")
        if value < 0 and name != "clock_drift":
            raise UnknownFault(f"{name} cannot be negative")
        self._fold(now_us)
        was = self.faults[name]
        self.faults[name] = value
        if name == "rollover" and value:
            shown = self.register_wh(now_us)
            self._zero_at_wh = self._counted_wh - shown
            self._wraps_at_wh = shown + value
        if name in SAID and bool(value) != bool(was):
            begun, over = SAID[name]
            if said := begun if value else over:
                self._log(said, now_us)
        return self._faulty(self._unsent(now_us)) if self.is_online else []

    # --- memory that survives a restart ---

    def to_state(self) -> dict[str, Any]:
        """Everything that a real meter keeps without power, as plain JSON values."""
        return {
            "relay": self.relay,
            "faults": self.faults,
            "counted_wh": self._counted_wh,
            "mark_us": self._mark_us,
            "extra_rest": self._extra_rest,
            "wraps_at_wh": self._wraps_at_wh,
            "zero_at_wh": self._zero_at_wh,
            "backlog": self._backlog,
            "history": list(self._history),
            "events": self._events,
            "spared_until_us": self._spared_until_us,
            "held_from": self._held_from,
            "answers": [[key, value.decode()] for key, value in self._answers.items()],
            "instructed": {
                **{name: getattr(self.instructed, name) for name in (*_COUNTS, *_LATER_COUNTS)},
                "keys": [[key.hex(), point.hex()] for key, point in self.instructed.keys],
                "answered": self.instructed.answered.hex(),
                "answers": [[key.hex(), value.hex()] for key, value in self.instructed.answers],
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up where `to_state` left; the load has gone on meanwhile, as it does behind a real meter."""
        self.relay = state["relay"]
        self.faults = dict.fromkeys(FAULTS, 0) | state["faults"]
        self._counted_wh = state["counted_wh"]
        self._mark_us = state["mark_us"]
        self._extra_rest = state["extra_rest"]
        self._wraps_at_wh = state["wraps_at_wh"]
        self._zero_at_wh = state["zero_at_wh"]
        self._backlog = [_Row(*row) for row in state["backlog"]]
        self._history.extend((at, value) for at, value in state.get("history", ()))
        self._events = [(at, code) for at, code in state["events"]]
        self._answers = OrderedDict((key, value.encode()) for key, value in state["answers"])
        self._spared_until_us = state.get("spared_until_us", 0)
        self._looked = (self._mark_us, self._counted_wh)
        held_from = state.get("held_from")
        self._held_from = None if held_from is None else (held_from[0], held_from[1])
        kept = state.get("instructed")
        if kept is not None:
            keys = [(bytes.fromhex(a), bytes.fromhex(b)) for a, b in kept.get("keys", ())]
            self.instructed = MeterState(
                **{name: kept[name] for name in _COUNTS},
                **{name: kept.get(name, 0) for name in _LATER_COUNTS},
                keys=tuple(keys) or self.instructed.keys,
                answered=bytes.fromhex(kept["answered"]),
                answers=tuple((bytes.fromhex(a), bytes.fromhex(b)) for a, b in kept["answers"]),
            )
            self._take_up(is_limit=False, now_us=self._mark_us)

    # --- inside ---

    def _energy_wh(self, now_us: int) -> tuple[int, int]:
        """Counted energy and the rest below one Wh of the extra load, in watt-microseconds."""
        flows = self.relay == "closed" or bool(self.faults["welded_relay"])
        if not flows or self.faults["reverse_flow"] or now_us <= self._mark_us:
            return self._counted_wh, self._extra_rest
        instants = np.array([self._mark_us, now_us], dtype=np.int64)
        before, after = cumulative_wh(self.config.profile, self.config.scale_ppm, instants)
        drawn = int(after - before) * _US_PER_WH + self.faults["heater"] * (now_us - self._mark_us)
        whole, rest = divmod(
            drawn * (100 - self.faults["bypass"]) // 100 + self._extra_rest, _US_PER_WH
        )
        return self._counted_wh + whole, rest

    def _fold(self, now_us: int) -> None:
        """Settle the energy so far, before relay or load change."""
        self._counted_wh, self._extra_rest = self._energy_wh(now_us)
        self._mark_us = max(now_us, self._mark_us)

    def _report(self, now_us: int) -> None:
        period, phase = self.config.report_period_us, self.config.phase_us
        self._record(now_us)
        self._cut_itself(now_us)
        self._next_report_us = ((now_us - phase) // period + 1) * period + phase

    def _record(self, now_us: int) -> None:
        at_us, value_wh = self.clock_us(now_us), self.register_wh(now_us)
        last = self._backlog[-1] if self._backlog else _Row(0, 0)
        if (at_us, value_wh) == last[:2]:
            return
        if self._on_reading is not None:
            self._on_reading(at_us, value_wh)
        self._history.append((at_us, value_wh))
        if self.faults["withheld"]:
            return
        self._backlog.append(_Row(at_us, value_wh, last.clock + (at_us <= last.at_us)))
        if len(self._backlog) > _BACKLOG_MAX:
            # Memory is full: halve the resolution of the oldest half. A register is cumulative, so no energy
            # is lost, only when it was drawn.
            half = _BACKLOG_MAX // 2
            self._backlog = self._backlog[:half:2] + self._backlog[half:]
            self._sent = 0

    def _drop_readings(self, mark: Watermark, now_us: int) -> None:
        # The mark is of one message and names its last reading, which tells of which clock it is: a
        # reading of another clock may lie within the span and be on its way still.
        named = (mark.read_at_us, mark.value)
        clocks = {row.clock for row in self._backlog if row[:2] == named}
        # The same instant and register by two clocks is one reading, and of which message nobody can say.
        from_us = mark.from_us if len(clocks) == 1 else mark.read_at_us
        is_kept = [
            row.clock not in clocks or not from_us <= row.at_us <= mark.read_at_us
            for row in self._backlog
        ]
        if not all(is_kept):
            self._progress_at_us = now_us
        self._sent = sum(is_kept[: self._sent])
        self._backlog = [row for row, keeps in zip(self._backlog, is_kept, strict=True) if keeps]

    def _drop_events(self, mark: Watermark) -> None:
        kept = [
            (at_us, code)
            for at_us, code in self._events[: self._events_sent]
            if not mark.from_us <= at_us <= mark.read_at_us
        ]
        self._events = kept + self._events[self._events_sent :]
        self._events_sent = len(kept)
        self._event_retry_us = _RETRY_US

    def _log(self, code: str, now_us: int) -> None:
        self._events = [*self._events, (self.clock_us(now_us), code)][-_EVENTS_MAX:]

    def _unsent(self, now_us: int) -> list[Outgoing]:
        """Messages for everything unsent, as far as one tick may carry."""
        if not self.is_online:
            return []
        messages: list[Outgoing] = []
        if self._sent == 0:
            self._progress_at_us = now_us
        while self._sent < len(self._backlog) and len(messages) < _MESSAGES_PER_TICK:
            rows = self._next_message()
            payload = codec.encode_readings(
                self.config.serial,
                [(row.at_us, ACTIVE_IMPORT, row.value_wh) for row in rows],
                meter_clock_us=self.clock_us(now_us),
                relay=self.relay,
            )
            messages.append((Uplink.READINGS, payload))
            self._sent += len(rows)
        for at_us, code in self._events[self._events_sent :]:
            messages.append((Uplink.EVENT, codec.encode_event(code=code, at_us=at_us)))
            self._events_sent_at_us = now_us
        self._events_sent = len(self._events)
        return messages

    def _next_message(self) -> list[_Row]:
        """The next rows to be sent, of one clock: what is said of a message is then said of no other."""
        rows = self._backlog[self._sent : self._sent + _ROWS_PER_MESSAGE]
        return [row for row in rows if row.clock == rows[0].clock]

    def _faulty(self, messages: list[Outgoing]) -> list[Outgoing]:
        """What of `messages` leaves, how often and in what order, by the faults of the line."""
        leaving: list[Outgoing] = []
        for message in messages:
            if self._losing.randrange(100) < self.faults["drop"]:
                continue
            leaving += [message] * (2 if self.faults["duplicate"] else 1)
        if self.faults["reorder"]:
            if not leaving:
                return []
            # The last of this round waits for the next one, and the one that waited goes last.
            leaving, self._held_back = leaving[:-1] + self._held_back, leaving[-1:]
            return leaving
        leaving, self._held_back = self._held_back + leaving, []
        return leaving
