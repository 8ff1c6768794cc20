"""The field of a drill: all its meters over one MQTT connection, in a thread of the drill itself.

Some of the meters stand behind a concentrator, which sends their readings in bundles over the same line.

The field is never killed. What its meters counted is the truth, and what they forgot, at a watermark
and at nothing else, is what the head-end has acknowledged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from prewatt.core.civil_time import instant_us
from prewatt.drills.estate import CONCENTRATOR, Place
from prewatt.drills.lines import Line, Sent
from prewatt.drills.model import QUARTER_US, Row
from prewatt.hes.drivers.mqtt_bundle.codec import bundle_topic
from prewatt.hes.drivers.mqtt_senml.codec import watermark_payloads
from prewatt.hes.drivers.mqtt_senml.topics import Uplink, uplink_topic
from prewatt.hes.frames import Watermark
from prewatt.sim.concentrator import SimulatedConcentrator
from prewatt.sim.loads import load_profile, scale_ppm_for
from prewatt.sim.meter import MeterConfig, Outgoing, SimulatedMeter
from prewatt.wiring import now as wiring_now

TURN_S: Final = 0.25
_PROFILES: Final = ("H0-A", "H0-B", "H0-C", "G1-A", "G4-A")
_ANNUAL_KWH: Final = 20_000
#: So much an account of now draws, so that its few cents last for seconds.
_LIVE_LOAD_W: Final = 60_000
_LIVE_PERIOD_US: Final = 2_000_000
#: A meter that is behind lives a quarter-hour in each turn; it asks again after two seconds of ours.
_BEHIND_RETRY_US: Final = 8 * QUARTER_US
_LIVE_RETRY_US: Final = 3_000_000
_AGAIN_S: Final = 2.0
#: Two turns of the field, and as long as a meter waits before it sends again.
_GATHER_US: Final = 500_000
_GATHER_RETRY_US: Final = 2_000_000


@dataclass(slots=True, eq=False)
class FieldMeter:
    """A meter, where it is in its time, and every reading it ever took."""

    place: Place
    meter: SimulatedMeter
    time_us: int
    taken: set[Row] = field(default_factory=set)

    def acknowledged(self) -> set[Row]:
        """What it was told is committed: all that it took and does not keep any more."""
        return self.taken - set(self.meter.unacknowledged())


class Field:
    """Meters that are behind from `opened_us` on, and meters of now. Thread-safe where it is public."""

    def __init__(
        self, places: Sequence[Place], *, opened_us: int, address: tuple[str, int], line: Line
    ) -> None:
        # Again by the same thread: a publish may find the connection lost, and say so at once.
        self._lock = threading.RLock()
        self._line = line
        self._address = address
        self._meters = {each.serial: self._new_meter(each, opened_us) for each in places}
        self._concentrator = SimulatedConcentrator(
            CONCENTRATOR, gather_us=_GATHER_US, retry_us=_GATHER_RETRY_US
        )
        self._is_up = False
        self._is_reading = True
        self._stopping = threading.Event()
        self._said: list[Sent] = []
        self._retry_at_s = 0.0
        self._client = self._new_client()
        self._thread = threading.Thread(target=self._run, name="field", daemon=True)
        self.failure: BaseException | None = None
        #: Called before each turn of a meter, which then says what is returned: for clocks that leap.
        self.before_turn: Callable[[FieldMeter], list[Outgoing]] = lambda _meter: []

    @property
    def meters(self) -> list[FieldMeter]:
        """All of them, in the order of their serials."""
        return list(self._meters.values())

    def start(self) -> None:
        """Connect, and begin to take readings."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what the meters took is kept to be looked at."""
        self._stopping.set()
        self._thread.join()

    def stop_reading(self) -> None:
        """Take no more readings by the clock; go on sending what is not known to be committed."""
        with self._lock:
            self._is_reading = False

    def go_on_reading(self) -> None:
        """Take readings again."""
        with self._lock:
            self._is_reading = True

    def waiting(self) -> int:
        """How many readings are not known to be committed."""
        with self._lock:
            return sum(each.meter.backlog for each in self._meters.values())

    def acknowledged(self) -> dict[str, set[Row]]:
        """What each meter was told is committed, at one instant."""
        with self._lock:
            return {serial: each.acknowledged() for serial, each in self._meters.items()}

    def taken(self) -> dict[str, set[Row]]:
        """Every reading that each meter ever took."""
        with self._lock:
            return {serial: set(each.taken) for serial, each in self._meters.items()}

    # --- the thread ---

    def _run(self) -> None:
        try:
            self._turn_until_stopped()
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self._client.disconnect()

    def _turn_until_stopped(self) -> None:
        next_turn_s = again_s = time.monotonic()
        while not self._stopping.is_set():
            now_s = time.monotonic()
            if not self._is_up and now_s >= self._retry_at_s:
                self._connect(now_s)
            if now_s >= next_turn_s:
                next_turn_s = now_s + TURN_S
                with self._lock:
                    again = not self._is_reading and now_s >= again_s
                    if again:
                        again_s = now_s + _AGAIN_S
                    self._turn(again=again)
            if self._client.socket() is None:
                time.sleep(0.02)
            else:
                self._client.loop(min(0.05, max(0.0, next_turn_s - time.monotonic())))

    def _connect(self, now_s: float) -> None:
        self._retry_at_s = now_s + 1.0
        try:
            self._client.connect(*self._address, keepalive=15)
        except OSError:
            return

    def _turn(self, *, again: bool) -> None:
        """A quarter-hour for those that are behind, a moment for those of now."""
        present_us = instant_us(wiring_now())
        for each in self._meters.values():
            if self._is_reading:
                if each.place.is_live:
                    each.time_us = present_us
                elif each.time_us + QUARTER_US < present_us:
                    each.time_us += QUARTER_US
                self._say(each, self.before_turn(each))
                self._say(each, each.meter.tick(each.time_us))
            elif again and each.meter.backlog and self._is_up:
                self._say(each, each.meter.connected(each.time_us))
        if self._is_up:
            topic = bundle_topic(CONCENTRATOR)
            self._said += [(topic, payload) for payload in self._concentrator.tick(present_us)]
        said, self._said = self._said, []
        leaving = self._line.leaving(said)
        if again:
            leaving += self._line.flush()
        for topic, payload in leaving:
            self._client.publish(topic, payload, qos=1)

    def _say(self, each: FieldMeter, messages: list[Outgoing]) -> None:
        for channel, payload in messages:
            if each.place.is_gathered and channel is Uplink.READINGS:
                self._concentrator.take(each.place.serial, payload, instant_us(wiring_now()))
            else:
                self._said.append((uplink_topic(each.place.serial, channel), payload))

    # --- connection ---

    def _new_client(self) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, client_id="drill-field", clean_session=False)
        client.max_inflight_messages_set(1_000)
        client.on_connect = self._handle_connect
        client.on_disconnect = self._handle_disconnect
        client.on_message = self._handle_message
        return client

    def _handle_connect(
        self,
        client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            return
        self._is_up = True
        client.subscribe([("pw/+/down/command", 1), ("pw/+/down/ack", 0)])
        with self._lock:
            self._concentrator.connected()
            for each in self._meters.values():
                self._say(each, each.meter.connected(each.time_us))

    def _handle_disconnect(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._is_up = False
        with self._lock:
            for each in self._meters.values():
                each.meter.disconnected()

    def _handle_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        _, serial, _, channel = message.topic.split("/")
        with self._lock:
            if serial == CONCENTRATOR:
                self._let_go(bytes(message.payload))
                return
            each = self._meters.get(serial)
            if each is None:
                return
            if channel == "ack":
                each.meter.receive_watermarks(bytes(message.payload), each.time_us)
                return
            if each.place.is_live:
                each.time_us = instant_us(wiring_now())
            self._say(each, each.meter.receive_command(bytes(message.payload), each.time_us))

    def _let_go(self, payload: bytes) -> None:
        """The concentrator hands on what is committed of its bundles."""
        own: dict[str, list[Watermark]] = {}
        for mark in self._concentrator.receive_marks(payload):
            own.setdefault(mark.serial, []).append(mark)
        for serial, marks in own.items():
            each = self._meters[serial]
            for said in watermark_payloads(marks):
                each.meter.receive_watermarks(said, each.time_us)

    @staticmethod
    def _new_meter(place: Place, opened_us: int) -> FieldMeter:
        number = int(place.serial.removeprefix("DRILL"))
        profile = load_profile(_PROFILES[number % len(_PROFILES)])
        start_us = instant_us(wiring_now()) if place.is_live else opened_us
        taken: set[Row] = set()
        meter = SimulatedMeter(
            MeterConfig(
                serial=place.serial,
                profile=profile,
                scale_ppm=scale_ppm_for(profile, _ANNUAL_KWH + number * 777),
                start_register_wh=place.opening_wh,
                start_at_us=start_us,
                report_period_us=_LIVE_PERIOD_US if place.is_live else QUARTER_US,
                retry_us=_LIVE_RETRY_US if place.is_live else _BEHIND_RETRY_US,
            ),
            on_reading=lambda at_us, wh: taken.add((at_us, wh)),
        )
        if place.is_live:
            meter.set_fault("heater", _LIVE_LOAD_W, start_us)
        return FieldMeter(place, meter, start_us, taken)
