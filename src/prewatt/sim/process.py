"""One process of simulated meters: each with an MQTT connection of its own, all in one thread and one selector.

Or behind concentrators, each of which has the only connection of its meters: it sends their readings in bundles, and
whatever else they say or hear in their names. A meter costs a socket and a paho client without its thread. The process knows nothing of the platform but
the broker's address, and everything that a meter has to remember goes into a state file: killed and
started again, its registers have gone on and its backlog is still there.

As a part of a simulated field (`prewatt sim run`) it has a schedule of what happens when, radios that are late by a seed,
and leaves records of what each meter took, what was acknowledged, and what it was told (`records.py`).

Faults and extra load are switched while it runs, over the broker's topic `pw/sim/{serial}/fault` with
`{"name": …, "value": …}`, heard on a connection of the process's own: a meter in an outage hears nothing. Not so under
TLS, where a connection is a meter's.
"""

import json
import logging
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from prewatt.core.civil_time import utc_datetime
from prewatt.hes.drivers.mqtt_bundle.codec import bundle_topic, marks_topic
from prewatt.hes.drivers.mqtt_senml import codec
from prewatt.hes.drivers.mqtt_senml.topics import Downlink, Uplink, downlink_topic, uplink_topic
from prewatt.hes.frames import RelayState, Watermark
from prewatt.hes.wire import TlsFiles
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.sim.concentrator import SimulatedConcentrator
from prewatt.sim.identity import Identity
from prewatt.sim.line import Line
from prewatt.sim.loads import load_profile
from prewatt.sim.meter import MeterConfig, Outgoing, SimulatedMeter, UnknownFault
from prewatt.sim.records import Counts, Notes, PartRecords, Recorder, as_instructed
from prewatt.sim.turns import Later, Turn, Way, Weather

log = logging.getLogger(__name__)

_TICK_S: Final = 0.25
_SAVE_S: Final = 5.0
_RENEWAL_S: Final = 1.0
#: So many connections are being made at once: a broker keeps about a hundred waiting, and lets others knock in vain.
_OPENING_MAX: Final = 64


class SimMeter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One meter in the configuration: its register stood at `start_register_wh` at `start_at_us`."""

    serial: str
    profile: str
    scale_ppm: int
    start_register_wh: int
    start_at_us: int
    register_modulus_wh: int = 1_000_000_000
    relay: RelayState = "closed"
    #: The secret of its key, 32 bytes in hexadecimal digits, for a meter that verifies; and whether it has a
    #: balance of its own, and its price.
    secret: str = ""
    holds_credit: bool = False
    price_nano: int = 0
    #: The concentrator it stands behind, by serial number; else it has a connection of its own.
    concentrator: str = ""
    #: In place of the configuration's, for one that reports at a pace of its own.
    report_period_s: int = 0
    way: Way = Way()


class SimFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A fault that a meter starts with, as the array `[serial, name, value]`."""

    serial: str
    name: str
    value: int


class SimConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration file of one process, JSON.

    Simulated time is real time plus `clock_offset_us`. `name` tells the processes of one simulation
    apart in client identifiers. `faults` are switched at every start, whatever the meter remembers.
    With a `concentrator` (its serial number) all meters are behind it, and it sends every `gather_s`, in bundles
    or, if it `speaks_senml`, in packs.
    `trusts` are the keys by which meters with a secret verify: points by key ids, both in hexadecimal digits.
    `tls` names the folder with the root and the certificates of all who have a connection; none is in the clear.
    A part of a field has a `schedule`, a `seed` for its radios, and the folder where its counts and records go.
    """

    name: str
    host: str
    port: int
    state_file: str
    meters: tuple[SimMeter, ...]
    clock_offset_us: int = 0
    utc_offset_s: int = 0
    report_period_s: int = 10
    faults: tuple[SimFault, ...] = ()
    concentrator: str = ""
    speaks_senml: bool = False
    gather_s: int = 5
    trusts: dict[str, str] = {}
    #: For fields of thousands: what meters keep is not written with each instruction and each turn of a relay.
    saves_late: bool = False
    tls: str = ""
    schedule: tuple[Turn, ...] = ()
    seed: str = ""
    records: str = ""


def load_config(path: Path) -> SimConfig:
    """Read and check a configuration file; raises `msgspec.ValidationError` saying where it is wrong."""
    return msgspec.json.decode(path.read_bytes(), type=SimConfig)


def fault_topic(serial: str) -> str:
    """Where the faults of a simulated meter are switched."""
    return f"pw/sim/{serial}/fault"


class SimProcess:
    """The meters of one configuration and their lines. `now_us` gives simulated time.

    Raises `UnknownFault` for a fault of the configuration that no meter of it can have.
    """

    def __init__(self, config: SimConfig, *, now_us: Callable[[], int]) -> None:
        self._config = config
        self._saves_late = config.saves_late
        self._now_us = now_us
        self._selector = selectors.DefaultSelector()
        self._state_file = Path(config.state_file)
        self._trusts = {
            bytes.fromhex(key_id): bytes.fromhex(point) for key_id, point in config.trusts.items()
        }
        self._recorders = {each.serial: Recorder(each.serial) for each in config.meters}
        self._meters = {meter.serial: self._new_meter(meter) for meter in config.meters}
        self._weather = {
            each.serial: Weather(each.way, config.seed, each.serial)
            for each in config.meters
            if not each.way.is_plain
        }
        self._later = Later()
        self._latest_us: dict[tuple[str, bool], int] = {}
        self._restore()
        for fault in config.faults:
            if fault.serial not in self._meters:
                raise UnknownFault(f"no meter {fault.serial!r} to have a fault")
            self._recorders[fault.serial].fault(fault.name, fault.value)
            self._meters[fault.serial].set_fault(fault.name, fault.value, now_us())
        address = (config.host, config.port)
        self._behind = {
            each.serial: behind
            for each in config.meters
            if (behind := each.concentrator or config.concentrator)
        }
        self._concentrators = {
            serial: SimulatedConcentrator(
                serial, gather_us=config.gather_s * 1_000_000, speaks_senml=config.speaks_senml
            )
            for serial in dict.fromkeys(self._behind.values())
        }
        self._shared = {
            serial: self._new_shared_line(each, address)
            for serial, each in self._concentrators.items()
        }
        self._lines = {
            serial: self._new_line(serial, meter, address)
            for serial, meter in self._meters.items()
            if serial not in self._behind
        }
        # A meter behind a concentrator has no connection, hence no certificate of its own.
        self._identities = {
            serial: Identity(Path(config.tls), serial) for serial in self._lines if config.tls
        }
        # A broker that asks for certificates gives nobody rights to faults: there they come by the schedule alone.
        self._control = [] if config.tls else [self._new_control(address)]
        self._due: deque[Line] = deque()
        self._opening: list[Line] = []
        self._stopping = False
        self._dirty = True
        self._relays = {serial: meter.relay for serial, meter in self._meters.items()}
        for turn in config.schedule:
            self._later.at(turn.at_us, partial(self._turn, turn.serial, turn.name, turn.value))

    def meter(self, serial: str) -> SimulatedMeter:
        """One of the meters, to look at."""
        return self._meters[serial]

    def stop(self) -> None:
        """Let `run` end at its next turn; may be called from a signal handler."""
        self._stopping = True

    def stop_reading(self) -> None:
        """Take no more readings by the clock; what was taken is sent until it is acknowledged."""
        for meter in self._meters.values():
            meter.is_reading = False

    def run(self) -> None:
        """Run until `stop`, then save and say goodbye to the broker."""
        next_tick_s = next_misc_s = next_save_s = next_renewal_s = 0.0
        notes = Notes(self._config.records)
        try:
            while not self._stopping:
                now_s = time.monotonic()
                if now_s >= next_tick_s:
                    next_tick_s = now_s + _TICK_S
                    self._tick(now_s)
                if now_s >= next_misc_s:
                    next_misc_s = now_s + 1.0
                    for line in self._all_lines():
                        line.misc(now_s)
                if now_s >= next_renewal_s:
                    next_renewal_s = now_s + _RENEWAL_S
                    self._renew()
                notes.count(now_s, self.counts)
                if now_s >= next_save_s and self._dirty:
                    next_save_s = now_s + _SAVE_S
                    self._save()
                wait_s = max(0.0, next_tick_s - time.monotonic())
                for key, events in self._selector.select(wait_s):
                    key.data.service(events)
                self._open_lines()
        finally:
            self._save()
            notes.leave(self.recorded)
            for line in self._all_lines():
                line.close()
            self._selector.close()

    def counts(self) -> Counts:
        """How its meters are doing."""
        return Counts(
            meters=len(self._meters),
            connected=sum(each.is_online for each in self._meters.values()),
            taken=sum(len(each.record.taken) for each in self._recorders.values()),
            waiting=sum(each.backlog for each in self._meters.values()),
            told=sum(len(each.record.told) for each in self._recorders.values()),
            is_draining=not all(each.is_reading for each in self._meters.values()),
        )

    def recorded(self) -> PartRecords:
        """What its meters took, keep and were told, as it stands."""
        for serial, meter in self._meters.items():
            record = self._recorders[serial].record
            record.kept, record.relay = meter.unacknowledged(), meter.relay
            record.is_out = not meter.is_online
            record.instructed = as_instructed(meter)
        lost = sum(each.lost for each in self._weather.values())
        return PartRecords([each.record for each in self._recorders.values()], {"lost": lost})

    # --- inside ---

    def _all_lines(self) -> list[Line]:
        return [*self._control, *self._shared.values(), *self._lines.values()]

    def _tick(self, now_s: float) -> None:
        self._due = deque(line for line in self._all_lines() if line.is_due(now_s))
        self._open_lines()
        now_us = self._now_us()
        for call in self._later.take(now_us):
            call()
        for serial, meter in self._meters.items():
            if messages := meter.tick(now_us):
                self._send(serial, messages)
        for serial, concentrator in self._concentrators.items():
            if self._shared[serial].is_up:
                for payload in concentrator.tick(now_us):
                    self._shared[serial].publish(bundle_topic(serial), payload)

    def _open_lines(self) -> None:
        """Begin the connections that are due, a few at once; each that is made or given up lets the next begin."""
        self._opening = [line for line in self._opening if line.is_opening]
        while self._due and len(self._opening) < _OPENING_MAX:
            line, now_s = self._due.popleft(), time.monotonic()
            if line.is_due(now_s):
                line.connect(now_s)
                self._opening.append(line)

    def _renew(self) -> None:
        """Let the devices that are connected ask for their next certificates where it is time."""
        now = utc_datetime(self._now_us())
        for serial, identity in self._identities.items():
            if self._lines[serial].is_up and (asked := identity.asks(now)) is not None:
                self._lines[serial].publish(uplink_topic(serial, Uplink.RENEW), asked)

    def _shown(self, name: str) -> TlsFiles | None:
        return TlsFiles(Path(self._config.tls), name) if self._config.tls else None

    def _send(self, serial: str, messages: list[Outgoing]) -> None:
        for channel, payload in messages:
            self._over_the_air(serial, partial(self._publish, serial, channel, payload), is_up=True)
        if messages:
            self._dirty = True

    def _publish(self, serial: str, channel: Uplink, payload: bytes) -> None:
        behind = self._behind.get(serial)
        if behind is None:
            self._lines[serial].publish(uplink_topic(serial, channel), payload)
        elif channel is Uplink.READINGS:
            self._concentrators[behind].take(serial, payload, self._now_us())
        else:
            self._shared[behind].publish(uplink_topic(serial, channel), payload)

    def _over_the_air(self, serial: str, call: Callable[[], None], *, is_up: bool) -> None:
        """Do it when the radio has carried it, if it does. What goes one way keeps its order, as on a connection."""
        weather = self._weather.get(serial)
        if weather is None:
            call()
            return
        delay_us = weather.delay_us()
        if delay_us is None:
            return
        at_us = max(self._now_us() + delay_us, self._latest_us.get((serial, is_up), 0))
        self._latest_us[serial, is_up] = at_us

        def arrive() -> None:
            # What was under way when the connection went is gone with it.
            if self._meters[serial].is_online:
                call()

        self._later.at(at_us, arrive)

    def _new_meter(self, meter: SimMeter) -> SimulatedMeter:
        period_us = (meter.report_period_s or self._config.report_period_s) * 1_000_000
        # Spread by the serial, so that the same meter always has the same turn.
        phase_us = sum(meter.serial.encode()) * 7_919 * 1_000 % period_us
        profile = load_profile(meter.profile, utc_offset_s=self._config.utc_offset_s)
        # What nobody will read is not remembered: a demo runs for days.
        recorder = self._recorders[meter.serial] if self._config.records else None
        return SimulatedMeter(
            MeterConfig(
                serial=meter.serial,
                profile=profile,
                scale_ppm=meter.scale_ppm,
                start_register_wh=meter.start_register_wh,
                start_at_us=meter.start_at_us,
                report_period_us=period_us,
                phase_us=phase_us,
                register_modulus_wh=meter.register_modulus_wh,
                relay=meter.relay,
                private_key=ES256PrivateKey.from_scalar(bytes.fromhex(meter.secret))
                if meter.secret
                else None,
                trusts=self._trusts,
                holds_credit=meter.holds_credit,
                price_nano=meter.price_nano,
            ),
            on_reading=recorder.reading if recorder is not None else None,
            on_command=recorder.command if recorder is not None else None,
        )

    def _new_control(self, address: tuple[str, int]) -> Line:
        return Line(
            f"prewatt-sim-{self._config.name}",
            address,
            self._selector,
            subscriptions=[(fault_topic("+"), 1)],
            on_up=lambda: None,
            on_down=lambda: None,
            on_message=self._switch,
        )

    def _new_line(self, serial: str, meter: SimulatedMeter, address: tuple[str, int]) -> Line:
        line = Line(
            serial,
            address,
            self._selector,
            subscriptions=_heard_by(serial),
            on_up=lambda: self._send(serial, meter.connected(self._now_us())),
            on_down=meter.disconnected,
            on_message=self._receive,
            tls=self._shown(serial),
        )
        line.wanted = not meter.faults["outage"]
        return line

    def _new_shared_line(
        self, concentrator: SimulatedConcentrator, address: tuple[str, int]
    ) -> Line:
        behind = [each for each, of in self._behind.items() if of == concentrator.serial]

        def connected() -> None:
            concentrator.connected()
            for serial in behind:
                if not self._meters[serial].faults["outage"]:
                    self._send(serial, self._meters[serial].connected(self._now_us()))

        def disconnected() -> None:
            for serial in behind:
                self._meters[serial].disconnected()

        def receive(topic: str, payload: bytes) -> None:
            if topic == marks_topic(concentrator.serial):
                self._let_go(concentrator.receive_marks(payload))
            elif self._meters[topic.split("/")[1]].is_online:
                self._receive(topic, payload)

        return Line(
            concentrator.serial,
            address,
            self._selector,
            subscriptions=[
                (marks_topic(concentrator.serial), 0),
                *(each for serial in behind for each in _heard_by(serial)),
            ],
            on_up=connected,
            on_down=disconnected,
            on_message=receive,
            tls=self._shown(concentrator.serial),
        )

    def _let_go(self, marks: Sequence[Watermark]) -> None:
        """Hand watermarks on to the meters behind the concentrator."""
        own: dict[str, list[Watermark]] = {}
        for mark in marks:
            own.setdefault(mark.serial, []).append(mark)
        for serial, each in own.items():
            for payload in codec.watermark_payloads(each):
                self._meters[serial].receive_watermarks(payload, self._now_us())
                self._dirty = True

    def _receive(self, topic: str, payload: bytes) -> None:
        """A meter hears an order or what is committed of its own messages."""
        _, serial, _, channel = topic.split("/")
        self._over_the_air(serial, partial(self._hear, serial, channel, payload), is_up=False)

    def _hear(self, serial: str, channel: str, payload: bytes) -> None:
        meter = self._meters[serial]
        if channel == Downlink.CERTIFICATE:
            if self._identities[serial].take(payload):
                # It is shown at the next connection, which comes at once.
                self._lines[serial].disconnect()
            return
        if channel == Downlink.ACK:
            meter.receive_watermarks(payload, self._now_us())
            self._dirty = True
            return
        if channel == Downlink.INSTRUCTION:
            before = meter.instructed
            answers = meter.receive_instruction(payload, self._now_us())
            if meter.instructed is not before and not self._saves_late:
                # Its sequence and its stored answer survive a power cut, too, or a repeat would be done twice.
                self._save()
            self._send(serial, answers)
            return
        self._send(serial, meter.receive_command(payload, self._now_us()))
        if meter.relay != self._relays[serial]:
            # A relay's position survives a power cut, so it is saved before anything else.
            self._relays[serial] = meter.relay
            if not self._saves_late:
                self._save()

    def _switch(self, topic: str, payload: bytes) -> None:
        serial = topic.split("/")[2]
        if serial not in self._meters:
            return
        try:
            order = json.loads(payload)
            self._turn(serial, str(order["name"]), int(order["value"]))
        except (ValueError, KeyError, TypeError, UnknownFault) as error:
            log.warning("fault for %s refused: %s", serial, error)

    def _turn(self, serial: str, name: str, value: int) -> None:
        """Switch a fault of a meter, or take a concentrator's line away. Raises UnknownFault."""
        if serial in self._concentrators:
            line = self._shared[serial]
            line.wanted = not value
            if value:
                line.disconnect()
            return
        self._recorders[serial].fault(name, value)
        self._send(serial, self._meters[serial].set_fault(name, value, self._now_us()))
        self._dirty = True
        if name == "outage":
            self._switch_line(serial, is_wanted=not value)

    def _switch_line(self, serial: str, *, is_wanted: bool) -> None:
        """A meter's own line to the broker, or the one to its concentrator, goes up or down."""
        behind = self._behind.get(serial)
        if behind is None:
            line = self._lines[serial]
            line.wanted = is_wanted
            if not is_wanted:
                line.disconnect()
        elif not is_wanted:
            self._meters[serial].disconnected()
        elif self._shared[behind].is_up:
            self._send(serial, self._meters[serial].connected(self._now_us()))

    def _save(self) -> None:
        states = {serial: meter.to_state() for serial, meter in self._meters.items()}
        draft = self._state_file.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(states))
        draft.replace(self._state_file)
        self._dirty = False

    def _restore(self) -> None:
        try:
            states = msgspec.json.decode(self._state_file.read_bytes())
        except FileNotFoundError:
            return
        for serial, state in states.items():
            if serial in self._meters:
                self._meters[serial].restore(state)


def _heard_by(serial: str) -> list[tuple[str, int]]:
    """What a meter subscribes to, and with which quality of service."""
    return [
        (downlink_topic(serial, Downlink.COMMAND), 1),
        (downlink_topic(serial, Downlink.INSTRUCTION), 1),
        (downlink_topic(serial, Downlink.CERTIFICATE), 1),
        (downlink_topic(serial, Downlink.ACK), 0),
    ]


def run_process(config: SimConfig) -> None:
    """Run the meters of `config` on real time until SIGTERM or SIGINT."""
    process = SimProcess(config, now_us=lambda: time.time_ns() // 1_000 + config.clock_offset_us)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.stop())
    signal.signal(signal.SIGUSR1, lambda *_: process.stop_reading())
    process.run()
