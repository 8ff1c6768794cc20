"""A simulated LoRaWAN field on a broker: what its network server would publish and take, by the clock it is given.

As a part of a simulated field it is a process of its own and leaves records. Its devices send to the end, as real ones do: nothing else
tells how a relay stands. A device keeps nothing for anybody's word, so
its reading counts as acknowledged once the broker has the server's event of it (PUBACK): from there on it must not be lost.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from prewatt.hes.frames import RelayState
from prewatt.sim.lorawan import Air, Kept, LoraField, LoraMeter, Told, Witness
from prewatt.sim.records import Counts, MeterRecord, Notes, PartRecords
from prewatt.sim.records import (
    Told as ToldToDo,
)
from prewatt.sim.turns import Turn

_LOOK_EVERY_S: Final = 0.02
COMMANDS: Final = "application/+/device/+/command/down"


class LoraProcess:
    """Publishes a field's events and puts downlinks into its queue, until it is stopped."""

    def __init__(
        self,
        field: LoraField,
        *,
        host: str,
        port: int,
        now_us: Callable[[], int],
        on_taken: Callable[[Told], None] = lambda _told: None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_taken` is called with each event that the broker has acknowledged, in paho's thread; `before` ahead of
        what is published together, while nothing else happens in the field.
        """
        self._field = field
        self._now_us = now_us
        self._on_taken = on_taken
        self._before = before
        self._lock = threading.Lock()
        self._under_way: dict[int, Told] = {}
        self._early: set[int] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sim-lorawan", daemon=True)
        # A network server's session outlives its connection: downlinks wait for it.
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id="prewatt-sim-lorawan", clean_session=False
        )
        self._client.on_connect = lambda client, *_: client.subscribe(COMMANDS, qos=1)
        self._client.on_message = self._take
        self._client.on_publish = lambda _client, _data, mid, *_: self._taken(mid)
        self._client.reconnect_delay_set(1, 5)
        self._client.connect_async(host, port)

    def start(self) -> None:
        """Connect, and let the field live."""
        self._client.loop_start()
        self._thread.start()

    def stop(self) -> None:
        """End; what is under way on the air is lost."""
        self._stopping.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def is_connected(self) -> bool:
        """Whether the broker is there."""
        return self._client.is_connected()

    @property
    def under_way(self) -> int:
        """How many events were published and not yet acknowledged by the broker."""
        return len(self._under_way)

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish something that the field did not say, as an attacker at the broker would."""
        self._client.publish(topic, payload, qos=1)

    def _take(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        with self._lock:
            self._field.command(message.topic, bytes(message.payload), self._now_us())

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            with self._lock:
                told = self._field.advance(self._now_us())
                if told:
                    self._before()
            for each in told:
                self._say(each)

    def _say(self, told: Told) -> None:
        mid = self._client.publish(told.topic, told.payload, qos=1).mid
        with self._lock:
            # The broker may have been faster than we.
            is_taken = mid in self._early
            self._early.discard(mid)
            if not is_taken:
                self._under_way[mid] = told
        if is_taken:
            self._on_taken(told)

    def _taken(self, mid: int) -> None:
        with self._lock:
            told = self._under_way.pop(mid, None)
            if told is None:
                self._early.add(mid)
        if told is not None:
            self._on_taken(told)


class LoraConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration of one field in a process of its own, JSON.

    `records` is the folder of a part of a field. What devices remember goes into `state_file`, before anything is
    published that they counted: killed and started again, none says a number twice. Time is as in `SimConfig`; with a
    `start_us` of 0 the field begins as the process does.
    """

    host: str
    port: int
    meters: tuple[LoraMeter, ...]
    air: Air
    seed: int
    start_us: int = 0
    records: str = ""
    state_file: str = ""
    clock_offset_us: int = 0
    utc_offset_s: int = 0
    #: All speak for the first time within so many seconds, as after an outage; 0: within their periods.
    begins_within_s: int = 0
    #: What sensors see from when on, and until when.
    schedule: tuple[Turn, ...] = ()


class _Book(Witness):
    """Takes down what becomes of each device's readings."""

    def __init__(self, meters: tuple[LoraMeter, ...]) -> None:
        self.records = {each.eui: MeterRecord(each.eui) for each in meters}
        for each in meters:
            if each.is_welded:
                self.records[each.eui].faults.append("stuck_relay")
        self._lock = threading.Lock()
        self._said: dict[int, tuple[str, int, int]] = {}
        self._awaited: set[int] = set()
        self.lost_readings = 0
        self.told = 0
        self.is_draining = False
        """What is heard from now on is taken down, and nobody waits for it: there is no end to it."""

    def heard(self, eui: str, at_us: int, value_wh: int, told: Told) -> None:
        """See `Witness`. Until the broker has it, the server keeps it."""
        with self._lock:
            self.records[eui].taken.append((at_us, value_wh))
            self._said[id(told)] = (eui, at_us, value_wh)
            if not self.is_draining:
                self._awaited.add(id(told))

    def lost(self, eui: str, at_us: int, value_wh: int) -> None:
        """See `Witness`."""
        self.lost_readings += 1
        self.records[eui].lost.append((at_us, value_wh))

    def obeyed(self, eui: str, at_us: int, downlink: str, *, is_closed: bool) -> None:
        """See `Witness`."""
        self.told += 1
        state: RelayState = "closed" if is_closed else "open"
        self.records[eui].told.append(ToldToDo(at_us, downlink, "downlink", state, "ok"))
        self.records[eui].relay = state

    def taken(self, told: Told) -> None:
        """The broker has an event."""
        with self._lock:
            self._said.pop(id(told), None)
            self._awaited.discard(id(told))

    def waiting(self) -> int:
        """How many readings were heard before the field was to drain, and the broker has not acknowledged them."""
        with self._lock:
            return len(self._awaited)

    def close(self) -> None:
        """What the broker never acknowledged was never promised."""
        with self._lock:
            for eui, at_us, value_wh in self._said.values():
                self.records[eui].kept.append((at_us, value_wh))


def run_lora(config: LoraConfig) -> None:
    """Run one field until SIGTERM or SIGINT; from SIGUSR1 on nobody waits for its readings. Leaves its records."""
    # What nobody will read is not remembered: a demo runs for days.
    book = _Book(config.meters) if config.records else None

    def now_us() -> int:
        return time.time_ns() // 1_000 + config.clock_offset_us

    field = LoraField(
        list(config.meters),
        air=config.air,
        seed=config.seed,
        start_us=config.start_us or now_us(),
        witness=book,
        utc_offset_s=config.utc_offset_s,
        begins_within_s=config.begins_within_s,
        schedule=config.schedule,
    )
    memory = Path(config.state_file) if config.state_file else None
    if memory is not None and memory.exists():
        field.restore(msgspec.json.decode(memory.read_bytes(), type=dict[str, Kept]))
    process = LoraProcess(
        field,
        host=config.host,
        port=config.port,
        now_us=now_us,
        on_taken=book.taken if book is not None else lambda _told: None,
        before=(lambda: _remember(memory, field)) if memory is not None else lambda: None,
    )
    stopping = threading.Event()

    def drain(*_: Any) -> None:
        if book is not None:
            book.is_draining = True

    signal.signal(signal.SIGUSR1, drain)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    notes = Notes(config.records)
    process.start()
    while not stopping.wait(_LOOK_EVERY_S):
        if book is not None:
            notes.count(time.monotonic(), partial(_counts, book, process))
    with contextlib.suppress(RuntimeError):
        process.stop()
    if memory is not None:
        _remember(memory, field)
    if book is not None:
        book.close()
        notes.leave(partial(_records, book, field))


def _remember(path: Path, field: LoraField) -> None:
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(field.kept()))
    draft.replace(path)


def _records(book: _Book, field: LoraField) -> PartRecords:
    lost = {"uplinks": field.sent, "lost": field.lost}
    return PartRecords(list(book.records.values()), lost)


def _counts(book: _Book, process: LoraProcess) -> Counts:
    return Counts(
        meters=len(book.records),
        connected=len(book.records) if process.is_connected else 0,
        taken=sum(len(each.taken) for each in list(book.records.values())),
        waiting=book.waiting(),
        told=book.told,
        is_draining=book.is_draining,
    )
