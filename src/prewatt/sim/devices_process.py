"""One process of many simulated LwM2M meters: one event loop, a socket for each, a radio of its own below each.

The radio loses and delays datagrams both ways, below CoAP, so that its retransmissions are what mends them. As a part of
a simulated field it has a schedule and leaves records, like the process of MQTT meters (`process.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec

from prewatt.hes.drivers.lwm2m.keys import DeviceKey
from prewatt.hes.frames import RelayState
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.sim.loads import load_profile
from prewatt.sim.lwm2m import DeviceConfig, LwM2mDevice
from prewatt.sim.meter import MeterConfig, SimulatedMeter, UnknownFault
from prewatt.sim.process import SimFault, SimMeter
from prewatt.sim.records import Counts, Every, Notes, PartRecords, Recorder, as_instructed
from prewatt.sim.turns import Later, Turn, Weather

_LOOK_S: Final = 0.1
_SAVE_S: Final = 5.0
_TICK_S: Final = 0.5
#: A sleeper listens so long after what it heard last: a slow answer of NB-IoT takes some seconds.
_AWAKE_S: Final = 10.0
_END_S_MAX: Final = 20.0
_TAPED_MAX: Final = 2_000


class SimDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One device; without a `key` it speaks in the clear. A sleeper is awake every `sleeps_s`."""

    meter: SimMeter
    key: DeviceKey | None = None
    sleeps_s: float = 0.0
    version: str = "1.1"
    lifetime_s: int = 600


class DevicesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration of one process, JSON. `server` is the head-end's `HOST:PORT`.

    `records` is the folder of a part of a field. `keeps` is one for what devices have to remember: killed and started
    again, their registers have gone on, and no number was used twice with a key. Time is as in `SimConfig`.
    """

    server: str
    devices: tuple[SimDevice, ...]
    records: str = ""
    seed: str = ""
    faults: tuple[SimFault, ...] = ()
    schedule: tuple[Turn, ...] = ()
    #: Where somebody on the line writes down what devices send, in hexadecimal digits; nobody does if it is empty.
    tape: str = ""
    keeps: str = ""
    #: How many open their sockets in a tenth of a second: each is met by the head-end, which asks it who it is.
    wakes_per_look: int = 2
    clock_offset_us: int = 0
    utc_offset_s: int = 0
    #: The keys by which devices with a secret verify: points by key ids, both in hexadecimal digits.
    trusts: dict[str, str] = {}


class DevicesProcess:
    """The devices of one configuration. `now_us` gives the time. Raises UnknownFault for a fault that is none."""

    def __init__(self, config: DevicesConfig, *, now_us: Callable[[], int]) -> None:
        self._config = config
        self._now_us = now_us
        self._later = Later()
        self._recorders: dict[str, Recorder] = {}
        self._devices: dict[str, LwM2mDevice] = {}
        self._weather: list[Weather] = []
        for device in config.devices:
            self._add(device)
        self._restore()
        self._kept = self._to_keep()
        for fault in config.faults:
            self._turn(fault.serial, fault.name, fault.value)
        for turn in config.schedule:
            self._later.at(turn.at_us, partial(self._turn, turn.serial, turn.name, turn.value))
        self._stopping = asyncio.Event()
        self._taped = 0

    def stop(self) -> None:
        """Let `run` end soon."""
        self._stopping.set()

    def stop_reading(self) -> None:
        """Take no more readings by the clock; what was taken is sent until it is acknowledged."""
        for device in self._devices.values():
            device.meter.is_reading = False

    async def run(self) -> None:
        """Live until `stop`, then leave the records."""
        notes, saving = Notes(self._config.records), Every(_SAVE_S)
        running: list[asyncio.Task[None]] = []
        waiting = list(self._devices.values())
        wakes = self._config.wakes_per_look
        while not self._stopping.is_set():
            waking, waiting = waiting[:wakes], waiting[wakes:]
            running += [asyncio.create_task(each.run()) for each in waking]
            for call in self._later.take(self._now_us()):
                call()
            notes.count(time.monotonic(), self.counts)
            if self._kept != (kept := self._to_keep()) or saving.is_due(time.monotonic()):
                # A relay and the number of an instruction survive a power cut, or a repeat would be done twice.
                self._kept = kept
                self._save()
            for each in running:
                if each.done() and (fault := each.exception()) is not None:
                    # A device that has ended is a hole in the field: nobody shall take it for silence.
                    raise fault
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _LOOK_S)
        # Their records first: what is said from now on is of the end alone.
        notes.leave(self.recorded)
        for device in self._devices.values():
            device.stop()
        if running:
            await asyncio.wait(running, timeout=_END_S_MAX)
        self._save()

    def counts(self) -> Counts:
        """How its meters are doing."""
        devices = self._devices.values()
        return Counts(
            meters=len(devices),
            connected=sum(each.location is not None for each in devices),
            taken=sum(len(each.record.taken) for each in self._recorders.values()),
            waiting=sum(each.meter.backlog for each in devices),
            told=sum(len(each.record.told) for each in self._recorders.values()),
            is_draining=not all(each.meter.is_reading for each in devices),
        )

    def recorded(self) -> PartRecords:
        """What its meters took, keep and were told."""
        for serial, device in self._devices.items():
            record = self._recorders[serial].record
            record.kept, record.relay = device.meter.unacknowledged(), device.meter.relay
            record.is_out = bool(device.meter.faults["outage"])
            record.shown = device.shown
            record.instructed = as_instructed(device.meter)
        lost = sum(each.lost for each in self._weather)
        refused = sum(len(each.refusals) for each in self._devices.values())
        return PartRecords(
            [each.record for each in self._recorders.values()], {"lost": lost, "refused": refused}
        )

    # --- inside ---

    def _add(self, device: SimDevice) -> None:
        made = device.meter
        recorder = self._recorders[made.serial] = Recorder(made.serial)
        period_us = made.report_period_s * 1_000_000
        meter = SimulatedMeter(
            MeterConfig(
                serial=made.serial,
                profile=load_profile(made.profile, utc_offset_s=self._config.utc_offset_s),
                scale_ppm=made.scale_ppm,
                start_register_wh=made.start_register_wh,
                start_at_us=made.start_at_us,
                report_period_us=period_us,
                phase_us=Random(made.serial).randrange(period_us),  # noqa: S311 - spread, not secret
                register_modulus_wh=made.register_modulus_wh,
                private_key=(
                    ES256PrivateKey.from_scalar(bytes.fromhex(made.secret)) if made.secret else None
                ),
                trusts={
                    bytes.fromhex(key_id): bytes.fromhex(point)
                    for key_id, point in self._config.trusts.items()
                },
                holds_credit=made.holds_credit,
                price_nano=made.price_nano,
            ),
            # What nobody will read is not remembered: a demo runs for days.
            on_reading=recorder.reading if self._config.records else None,
            on_command=recorder.command if self._config.records else None,
        )
        weather = None
        if not made.way.is_plain:
            weather = Weather(made.way, self._config.seed, made.serial)
            self._weather.append(weather)
        self._devices[made.serial] = made_device = LwM2mDevice(
            meter,
            DeviceConfig(
                self._config.server,
                lifetime_s=device.lifetime_s,
                version=device.version,
                sleeps_s=device.sleeps_s or None,
                awake_s=_AWAKE_S,
                key=device.key,
                numbers=self._numbers_of(device.key),
                tick_s=_TICK_S,
            ),
            now_us=self._now_us,
            over=partial(self._opened, weather=weather),
        )
        made_device.keeps_shown = bool(self._config.records)

    def _opened(self, context: Any, *, weather: Weather | None) -> None:
        """A device has opened its socket: what is tapped is tapped above the radio, which may lose it."""
        if weather is not None:
            lay_under(context, weather=weather)
        if self._config.tape:
            for wire in _wires(context):
                wire.send = partial(self._tapped, wire.send)

    def _tapped(self, send: Callable[[Any], None], message: Any) -> None:
        send(message)
        if self._taped < _TAPED_MAX:
            self._taped += 1
            with Path(self._config.tape).open("a") as tape:
                tape.write(f"{message.encode().hex()}\n")

    def _turn(self, serial: str, name: str, value: int) -> None:
        if serial not in self._devices:
            raise UnknownFault(f"no device {serial!r} to have a fault")
        if self._config.records:
            self._recorders[serial].fault(name, value)
        # A sleeper tells what it has when it is awake again; nothing is sent out of turn.
        self._devices[serial].meter.set_fault(name, value, self._now_us())

    # --- memory that survives a restart ---

    def _numbers_of(self, key: DeviceKey | None) -> Path | None:
        """By the key's id, which is new with each key."""
        if key is None or not self._config.keeps:
            return None
        return Path(self._config.keeps) / f"{key.serial}.{key.device_id.hex()}.numbers"

    def _to_keep(self) -> list[tuple[RelayState, int]]:
        """What of each device is saved as soon as it changes."""
        return [
            (each.meter.relay, each.meter.instructed.sequence) for each in self._devices.values()
        ]

    def _save(self) -> None:
        if not self._config.keeps:
            return
        states = {serial: each.meter.to_state() for serial, each in self._devices.items()}
        draft = self._state_file.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(states))
        draft.replace(self._state_file)

    def _restore(self) -> None:
        if not self._config.keeps:
            return
        try:
            states = msgspec.json.decode(self._state_file.read_bytes())
        except FileNotFoundError:
            return
        for serial, state in states.items():
            if serial in self._devices:
                self._devices[serial].meter.restore(state)

    @property
    def _state_file(self) -> Path:
        return Path(self._config.keeps) / "state.json"


def lay_under(context: Any, *, weather: Weather) -> None:
    """Lay a radio under a CoAP context: its datagrams are lost and late, whichever way they go."""
    loop = asyncio.get_running_loop()
    for wire in _wires(context):
        send, receive = wire.send, wire.datagram_msg_received

        def late(call: Callable[..., None], wire: Any, *arguments: Any) -> None:
            delay_us = weather.delay_us()
            if delay_us is not None:
                loop.call_later(delay_us / 1_000_000, _if_open, wire, call, *arguments)

        wire.send = partial(late, send, wire)
        wire.datagram_msg_received = partial(late, receive, wire)


def _wires(context: Any) -> list[Any]:
    """The sockets of a context; OSCORE has none of its own."""
    found = (
        getattr(getattr(each, "token_interface", None), "message_interface", None)
        for each in context.request_interfaces
    )
    return [each for each in found if each is not None]


def _if_open(wire: Any, call: Callable[..., None], *arguments: Any) -> None:
    """What arrives at a device that has gone to sleep arrives nowhere."""
    if wire._shutting_down is None:
        with contextlib.suppress(OSError):
            call(*arguments)


def run_devices(config: DevicesConfig) -> None:
    """Run the devices of a configuration on real time until SIGTERM or SIGINT; SIGUSR1 ends the readings."""
    # The library writes a line for each answer that comes when nobody waits any more.
    for name in ("coap", "coap-server"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    async def live() -> None:
        process = DevicesProcess(
            config, now_us=lambda: time.time_ns() // 1_000 + config.clock_offset_us
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, process.stop)
        loop.add_signal_handler(signal.SIGUSR1, process.stop_reading)
        await process.run()

    asyncio.run(live())
