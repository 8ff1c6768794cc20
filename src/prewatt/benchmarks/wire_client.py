"""The processes of `prewatt bench wire` that stand for meters or concentrators: they publish, and hear what is committed.

Raw MQTT 3.1.1 on a blocking-free socket, packets written in one piece and in-flight bounded, so that the
client costs little beside what it measures. Nothing of Prewatt's own decoder is used here: what the
head-end reads was made by other code. Only bundles are written by the codec that reads them, which its own
tests hold to bytes written by hand.
"""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import Final

import numpy as np
import numpy.typing as npt

from prewatt.benchmarks.city import City
from prewatt.core.bounds import Int64
from prewatt.hes.drivers.mqtt_bundle import codec as bundles

#: Published and not yet taken by the broker, at most.
_UNCONFIRMED_MAX: Final = 16_000
_CHUNK: Final = 500
_READ_BYTES: Final = 1 << 20
_POLL_S: Final = 0.05
_MARK: Final = re.compile(rb'pw/C(\d+)/down/ack\{"committed":\{[^}]*\},"from":\{[^}]*\},[^}]*\}\}')
_BUNDLE_MARK: Final = re.compile(rb"\[(\d+),\d+,\[([\d,]*)\]\]")
_BUNDLES_REMEMBERED: Final = 65_536
_DRAIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Gathering:
    """What a message of a concentrator brings: of each of so many meters so many quarter-hours."""

    concentrators: int
    meters_each: int
    instants_each: int

    @property
    def readings_each(self) -> int:
        """How many readings a message has."""
        return self.meters_each * self.instants_each

    def serial(self, number: int) -> str:
        """The serial number of a concentrator, numbered from 0."""
        return f"DTU-{number}"


@dataclass(frozen=True, slots=True)
class Load:
    """What is published: of the city's meters, with so many messages on their way at most.

    Single readings, or with a ``gathering`` bundles of concentrators. ``rate`` is in messages a second.
    """

    city: City
    port: int
    window: int
    rate: int | None
    clock_offset_us: int
    gathering: Gathering | None = None

    @property
    def messages_a_round(self) -> int:
        """How many messages it takes until every meter was heard."""
        return self.city.accounts if self.gathering is None else self.gathering.concentrators


@dataclass(frozen=True, slots=True)
class Published:
    """What came of a run: messages committed in so many seconds, and each one's way in ms (sorted)."""

    sent: int
    heard: int
    counted: int
    seconds: float
    p50: float
    p99: float


def publish(
    pipe: Connection, load: Load, seconds: float, taken: Synchronized[int] | None = None
) -> None:
    """Publish for so long after a round of all meters; says "warm" between, then answers `Published`.

    ``taken`` counts what a subscriber of nothing but PUBACKs took; without it the watermarks count.
    """
    try:
        publisher = (_Publisher if load.gathering is None else _BundlePublisher)(load, taken)
        publisher.run_until_sent(load.messages_a_round)
        pipe.send("warm")
        pipe.recv()
        pipe.send(publisher.measure(seconds))
    except Exception as error:
        pipe.send(RuntimeError(f"publisher: {type(error).__name__}: {error}"))


def take(port: int, ready: Connection, taken: Synchronized[int]) -> None:
    """Subscribe to all readings and acknowledge each at once: what the broker can do at most."""
    session = _connect(port, "bench-take", subscribe="pw/+/up/+")
    ready.send("ready")
    session.setblocking(True)
    waiting = b""
    while chunk := session.recv(_READ_BYTES):
        waiting += chunk
        answers, at = _acknowledged(waiting)
        session.sendall(b"".join(answers))
        waiting = waiting[at:]
        with taken.get_lock():
            taken.value += len(answers)


def _acknowledged(data: bytes) -> tuple[list[bytes], int]:
    """The PUBACKs of all whole packets, and where the first that is not whole begins."""
    answers, at, size = [], 0, len(data)
    while at + 5 <= size:
        length, begin, shift = 0, at + 1, 0
        while True:
            byte = data[begin]
            begin += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80 or begin >= size:
                break
        if begin + length > size:
            break
        if data[at] >> 4 == 3:
            topic_end = begin + 2 + (data[begin] << 8 | data[begin + 1])
            answers.append(b"\x40\x02" + data[topic_end : topic_end + 2])
        at = begin + length
    return answers, at


class _Publisher:
    """One connection that publishes, one that hears watermarks; one thread."""

    def __init__(self, load: Load, taken: Synchronized[int] | None) -> None:
        self._load = load
        self._taken = taken
        self._messages = self._endless()
        self._selector = selectors.DefaultSelector()
        self._out = memoryview(b"")
        self._sent = self._confirmed = self._heard = 0
        self._confirmed_bytes = 0
        self._tail = b""
        self._sent_at = np.zeros(max(load.city.accounts + 1, _BUNDLES_REMEMBERED))
        self._waits: list[npt.NDArray[np.float64]] = []
        self._publishing = _connect(load.port, "bench-publish")
        self._selector.register(self._publishing, selectors.EVENT_READ)
        self._hearing: socket.socket | None = None
        if taken is None:
            self._hearing = _connect(load.port, "bench-hear", subscribe="pw/+/down/ack")
            self._selector.register(self._hearing, selectors.EVENT_READ)

    def run_until_sent(self, messages: int) -> None:
        """Publish so many and wait until each is committed: caches are warm then."""
        self._run(lambda: self._sent < messages)
        self._drain()

    def measure(self, seconds: float) -> Published:
        """Publish for so long; what is committed counts until the last publishing."""
        self._waits.clear()
        before, began = self._arrived(), time.monotonic()
        until, first = began + seconds, self._sent
        rate = self._load.rate

        def wanted() -> bool:
            return time.monotonic() < until

        def allowed() -> int:
            if rate is None:
                return _CHUNK
            return first + int((time.monotonic() - began) * rate) - self._sent

        self._run(wanted, allowed)
        took, counted = time.monotonic() - began, self._arrived() - before
        self._drain()
        waits = np.sort(np.concatenate(self._waits)) if self._waits else np.zeros(1)
        return Published(
            sent=self._sent,
            heard=self._arrived(),
            counted=counted,
            seconds=took,
            p50=round(float(waits[(waits.size - 1) // 2]) * 1_000, 1),
            p99=round(float(waits[(waits.size - 1) * 99 // 100]) * 1_000, 1),
        )

    def _run(self, wanted: Callable[[], bool], allowed: Callable[[], int] = lambda: _CHUNK) -> None:
        while wanted():
            if not self._out:
                self._fill(min(allowed(), _CHUNK))
            self._turn()

    def _fill(self, count: int) -> None:
        count = min(
            count,
            self._load.window - (self._sent - self._arrived()),
            _UNCONFIRMED_MAX - (self._sent - self._confirmed),
        )
        if count <= 0:
            return
        clock_us = time.time_ns() // 1_000 + self._load.clock_offset_us
        self._out = memoryview(b"".join(self._packets(count, clock_us, time.monotonic())))

    def _packets(self, count: int, clock_us: int, now: float) -> Iterator[bytes]:
        """The next messages, noted as sent."""
        clock = f"{clock_us // 1_000_000}.{clock_us % 1_000_000:06d}"
        for _ in range(count):
            account, at_s, value = next(self._messages)
            self._sent += 1
            self._sent_at[account] = now
            yield _packet(account, at_s, value, clock, self._sent % 65_535 + 1)

    def _turn(self) -> None:
        """Write and read what there is; waits a moment where there is nothing to do."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        self._selector.modify(self._publishing, events)
        for key, ready in self._selector.select(0.001 if self._taken else _POLL_S):
            if ready & selectors.EVENT_WRITE:
                self._out = self._out[self._publishing.send(self._out) :]
            if ready & selectors.EVENT_READ:
                is_publishing = key.fileobj is self._publishing
                source = self._publishing if is_publishing else self._hearing
                assert source is not None
                chunk = source.recv(_READ_BYTES)
                if not chunk:
                    raise ConnectionError("the broker ended the connection")
                if is_publishing:
                    # Nothing but PUBACKs comes here, of four bytes each.
                    self._confirmed_bytes += len(chunk)
                    self._confirmed = self._confirmed_bytes // 4
                else:
                    self._hear(chunk)

    def _hear(self, chunk: bytes) -> None:
        data = self._tail + chunk
        numbers, end = self._marks(data)
        self._tail = data[end:]
        self._heard += len(numbers)
        self._waits.append(time.monotonic() - self._sent_at[numbers])

    def _marks(self, data: bytes) -> tuple[list[int], int]:
        """What watermarks name, as rows of when it was sent, and where the last whole one ends."""
        accounts, end = [], 0
        for match in _MARK.finditer(data):
            accounts.append(int(match[1]))
            end = match.end()
        return accounts, end

    def _arrived(self) -> int:
        return self._heard if self._taken is None else self._taken.value

    def _drain(self) -> None:
        until = time.monotonic() + _DRAIN_S
        while (self._out or self._arrived() < self._sent) and time.monotonic() < until:
            self._turn()

    def _endless(self) -> Iterator[tuple[int, int, int]]:
        """Every meter at the end of every quarter-hour after the opening: account, instant, register."""
        city, quarter = self._load.city, 0
        accounts = city.shard(0, 1)
        numbers = accounts.tolist()
        while True:
            quarter += 1
            at_s = city.at_us(quarter) // 1_000_000
            for account, value in zip(
                numbers, city.registers(accounts, quarter).tolist(), strict=True
            ):
                yield account, at_s, value


class _BundlePublisher(_Publisher):
    """The same of concentrators: each sends some quarter-hours of all its meters at once."""

    def _packets(self, count: int, clock_us: int, now: float) -> Iterator[bytes]:
        gathering = self._load.gathering
        assert gathering is not None, "or single readings are published"
        meters = np.zeros(gathering.meters_each, dtype=bundles.METER)
        meters["heard_at_us"], meters["relay"] = clock_us, 1
        for _ in range(count):
            number, serials, readings = next(self._gathered)
            meters["serial"] = serials
            self._sent += 1
            self._sent_at[self._sent % _BUNDLES_REMEMBERED] = now
            payload = bundles.encode(
                sequence=self._sent, sent_at_us=clock_us, meters=meters, readings=readings
            )
            topic = bundles.bundle_topic(gathering.serial(number)).encode()
            yield _publish_packet(topic, self._sent % 65_535 + 1, payload)

    def _marks(self, data: bytes) -> tuple[list[int], int]:
        sequences, end = [], 0
        for match in _BUNDLE_MARK.finditer(data):
            if match[2]:
                raise AssertionError(f"meters of message {match[1].decode()} were refused")
            sequences.append(int(match[1]) % _BUNDLES_REMEMBERED)
            end = match.end()
        return sequences, end

    @cached_property
    def _gathered(self) -> Iterator[tuple[int, npt.NDArray[np.bytes_], npt.NDArray[np.void]]]:
        """Concentrator, serial numbers and readings of one message after the other."""
        gathering = self._load.gathering
        assert gathering is not None, "or single readings are published"
        return self._rounds(gathering)

    def _rounds(
        self, gathering: Gathering
    ) -> Iterator[tuple[int, npt.NDArray[np.bytes_], npt.NDArray[np.void]]]:
        city, each, instants = self._load.city, gathering.meters_each, gathering.instants_each
        accounts = city.shard(0, 1)
        serials = np.array(city.serials(accounts), dtype="S32").reshape(-1, each)
        readings = np.zeros((gathering.concentrators, each, instants), dtype=bundles.READING)
        readings["meter"] = np.arange(each)[:, None]
        readings["register_code"] = 1
        quarter = 0
        while True:
            for at in range(instants):
                quarter += 1
                readings["read_at_us"][:, :, at] = city.at_us(quarter)
                readings["value"][:, :, at] = _by_sender(city, accounts, quarter, each)
            for number in range(gathering.concentrators):
                yield number, serials[number], readings[number].ravel()


def _by_sender(city: City, accounts: Int64, quarter: int, meters_each: int) -> Int64:
    """Registers at the end of a quarter-hour, a row for each concentrator."""
    return city.registers(accounts, quarter).reshape(-1, meters_each)


def _packet(account: int, at_s: int, value: int, clock: str, message_id: int) -> bytes:
    """A PUBLISH with QoS 1 of a meter's reading, with its clock and relay as our meters send them."""
    topic = f"pw/C{account}/up/readings"
    payload = (
        f'[{{"bn":"C{account}/","bt":{at_s},"n":"1.8.0","u":"Wh","v":{value}}},'
        f'{{"n":"clock","u":"s","v":{clock}}},{{"n":"relay","vb":true}}]'
    )
    return _publish_packet(topic.encode(), message_id, payload.encode())


def _publish_packet(topic: bytes, message_id: int, payload: bytes) -> bytes:
    size, length = len(topic) + len(payload) + 4, b""
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return b"".join(
        (
            b"\x32",
            length,
            bytes((size,)),
            len(topic).to_bytes(2, "big"),
            topic,
            message_id.to_bytes(2, "big"),
            payload,
        )
    )


def _connect(port: int, name: str, *, subscribe: str | None = None) -> socket.socket:
    session = socket.create_connection(("127.0.0.1", port), timeout=10)
    session.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(name).to_bytes(2, "big") + name.encode()
    session.sendall(bytes((0x10, len(body))) + body)
    if session.recv(4, socket.MSG_WAITALL) != b"\x20\x02\x00\x00":
        raise ConnectionError("the broker refuses the benchmark")
    if subscribe is not None:
        topic = subscribe.encode()
        qos = b"\x01" if topic.endswith(b"up/+") else b"\x00"
        body = b"\x00\x01" + len(topic).to_bytes(2, "big") + topic + qos
        session.sendall(bytes((0x82, len(body))) + body)
        session.recv(5, socket.MSG_WAITALL)
    session.setblocking(False)
    return session
