"""The head-end's MQTT connection: frames in, acknowledged only after commit; commands and watermarks out.

Three rules shape it. A message is acknowledged (PUBACK) when its consumer hands the token back, which it
does after commit, and in the order of arrival as MQTT 4.6 asks. What is in flight is bounded: with MQTT 5 by
the receive-maximum, and always by a queue whose fullness stops the reading of the socket. And the session is
persistent, so that a broker which can keep messages keeps them while the head-end is away.

Two threads: the network thread reads in large pieces, decodes many messages at once (`mqtt`, and `quick` for
readings of the usual shape) and writes what others left for it; it never waits for anything but the socket. The
delivery thread calls `on_frame` and `on_block`, which may block for as long as their consumer is busy.
"""

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from prewatt.core.drivers import Driver
from prewatt.hes import mqtt, wire
from prewatt.hes.drivers.mqtt_bundle import codec as bundles
from prewatt.hes.drivers.mqtt_senml import codec, quick
from prewatt.hes.drivers.mqtt_senml.topics import UPLINK_FILTER, Downlink, downlink_topic
from prewatt.hes.frames import (
    AckToken,
    BlockToken,
    BundleMark,
    Command,
    Frame,
    MalformedFrame,
    MalformedSample,
    ReadingsBlock,
    ReadingsBundle,
    Token,
    Watermark,
)
from prewatt.runtime.broker import MqttProtocol

log = logging.getLogger(__name__)

_SAMPLES_KEPT: Final = 50
_SAMPLE_BYTES: Final = 512
_PACKET_BYTES_MAX: Final = 2 * codec.MAX_PAYLOAD_BYTES
_COMMANDS_IN_FLIGHT_MAX: Final = 1_000
_COMMANDS_WAITING_MAX: Final = 20_000
#: Watermarks that the broker does not take are dropped beyond this: a lost one is asked for again.
_OUT_BYTES_MAX: Final = 16 * 1024 * 1024
_READ_BYTES: Final = 256 * 1024
_MESSAGES_AT_ONCE: Final = 4_096
_POLL_S: Final = 0.2
_CONNECT_TIMEOUT_S: Final = 5.0
_FLUSH_TIMEOUT_S: Final = 5.0
_SUBSCRIPTION_ID: Final = 65_535


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """Where the broker is and how much may be in flight.

    `queue_frames_max` counts the readings of a concentrator's message, and each other message as one.
    `receive_maximum` (at most 65,535) must be at least as many frames as one batch of the ingest loop
    gathers, or a batch would wait for messages that the broker holds back.
    """

    host: str
    port: int
    protocol: MqttProtocol = "5"
    client_id: str = "prewatt-head-end"
    username: str | None = None
    password: str | None = None
    keepalive_s: int = 30
    receive_maximum: int = 20_000
    queue_frames_max: int = 20_000
    session_expiry_s: int = 7 * 86_400
    reconnect_delay_s_max: int = 30
    tls: wire.TlsFiles | None = None


def probe_protocol(host: str, port: int, *, timeout_s: float = 5.0) -> MqttProtocol:
    """Ask a broker whether it speaks MQTT 5. Raises `OSError` if nobody listens there.

    Sends the smallest MQTT 5 CONNECT; only a CONNACK of MQTT 5 has a property length, so anything
    shorter, or a closed connection, is a broker of 3.1.1.
    """
    connect = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x00"
    with socket.create_connection((host, port), timeout=timeout_s) as probe:
        probe.sendall(connect)
        try:
            answer = probe.recv(64)
        except (ConnectionError, TimeoutError):
            return "3.1.1"
    return "5" if len(answer) >= 5 and answer[0] == 0x20 and answer[1] >= 3 else "3.1.1"


@dataclass(frozen=True, slots=True)
class SessionStats:
    """Counts since the start; `malformed` by reason."""

    connected: bool
    connections: int
    received: int
    unacknowledged: int
    queued: int
    malformed: dict[str, int]


class _Unacked:
    """The messages of one connection that are not acknowledged, in order of arrival. Not thread-safe."""

    def __init__(self) -> None:
        # By packet identifier: 0 unknown, 1 delivered, 2 to be acknowledged.
        self._state = np.zeros(65_536, dtype=np.uint8)
        self._order: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._order)

    def clear(self) -> None:
        """A packet identifier belongs to one connection; whatever was unacknowledged comes again."""
        self._state[:] = 0
        self._order.clear()

    def add(self, message_ids: Sequence[int]) -> None:
        """These have come; one that is there already keeps its place and waits for its new token."""
        for each in message_ids:
            if not self._state[each]:
                self._order.append(each)
            self._state[each] = 1

    def settle(self, message_ids: mqtt.Uint16) -> None:
        """These are committed; those that are not known are left alone."""
        self._state[message_ids] = np.where(self._state[message_ids] == 0, 0, 2)

    def due(self) -> mqtt.Uint16:
        """Take off what may be acknowledged now: the oldest up to the first that is not committed."""
        due: list[int] = []
        while self._order and self._state[self._order[0]] == 2:
            due.append(self._order.popleft())
        found = np.array(due, dtype=np.uint16)
        self._state[found] = 0
        return found


class _Commands:
    """Messages of QoS 1 on their way to the broker; they survive the connection. Not thread-safe."""

    def __init__(self, version: mqtt.MqttVersion) -> None:
        self._version = version
        self._flying: OrderedDict[int, tuple[str, bytes]] = OrderedDict()
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._last_id = 0
        self.room = _COMMANDS_IN_FLIGHT_MAX

    @property
    def is_full(self) -> bool:
        """Whether no more are taken."""
        return len(self._waiting) >= _COMMANDS_WAITING_MAX

    def add(self, topic: str, payload: bytes) -> bytes:
        """The packets to be sent now."""
        self._waiting.append((topic, payload))
        return self._next()

    def taken(self, message_id: int) -> bytes:
        """The broker has one; the packets to be sent now."""
        self._flying.pop(message_id, None)
        return self._next()

    def again(self, *, session_present: bool) -> bytes:
        """On a new connection (MQTT 4.4): what was not acknowledged, in order, then what waits."""
        packets = [
            mqtt.publish(self._version, *each, message_id=key, is_repeated=session_present)
            for key, each in self._flying.items()
        ]
        return b"".join([*packets, self._next()])

    def _next(self) -> bytes:
        packets = []
        while self._waiting and len(self._flying) < self.room:
            self._last_id = self._last_id % (_SUBSCRIPTION_ID - 1) + 1
            while self._last_id in self._flying:
                self._last_id = self._last_id % (_SUBSCRIPTION_ID - 1) + 1
            self._flying[self._last_id] = self._waiting.popleft()
            packets.append(
                mqtt.publish(self._version, *self._flying[self._last_id], message_id=self._last_id)
            )
        return b"".join(packets)


class MqttSession:
    """One persistent MQTT session over all meters. Thread-safe.

    `clock_us` gives the time of receipt in microseconds since 1970 UTC. `on_malformed` is called from the
    network thread for each message that cannot be decoded, after it was counted.
    """

    def __init__(
        self,
        config: MqttConfig,
        *,
        clock_us: Callable[[], int],
        on_malformed: Callable[[MalformedSample], None] | None = None,
    ) -> None:
        self.driver: Final = Driver.MQTT_SENML
        self._config = config
        self._version: mqtt.MqttVersion = 5 if config.protocol == "5" else 4
        self._clock_us = clock_us
        self._on_malformed = on_malformed
        self._takes_blocks = False
        self._delivery: threading.Thread | None = None
        self._network: threading.Thread | None = None
        self._stopping = threading.Event()
        self._closing = threading.Event()
        self._connected = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()
        for each in (self._wake_reader, self._wake_writer):
            os.set_blocking(each, False)
        # Guards what follows; held for moments only, never while a frame is delivered.
        self._lock = threading.Condition()
        self._frames: deque[Frame | ReadingsBlock] = deque()
        self._queued = 0
        self._connection = 0
        self._unacked = _Unacked()
        self._commands = _Commands(self._version)
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._received = 0
        self._malformed: Counter[str] = Counter()
        self._samples: deque[MalformedSample] = deque(maxlen=_SAMPLES_KEPT)
        self.failure: Exception | None = None
        """What `on_frame` raised, if it did: delivery has ended and the process should too."""

    # --- life ---

    def start(
        self,
        on_frame: Callable[[Frame], None],
        on_block: Callable[[ReadingsBlock], None] | None = None,
    ) -> None:
        """Connect in the background, again and again, and deliver.

        Readings come in blocks to `on_block`, where there is one, and everything else to `on_frame`.
        """
        self._takes_blocks = on_block is not None
        self._delivery = threading.Thread(
            target=self._deliver, args=(on_frame, on_block), name="hes-delivery", daemon=True
        )
        self._delivery.start()
        self._network = threading.Thread(target=self._run, name="hes-network", daemon=True)
        self._network.start()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for a connection; returns whether there is one."""
        return self._connected.wait(timeout_s)

    def reaches(self, serial: str) -> bool:
        """A broker takes a message to any serial; whether there is such a meter is not known here."""
        return True

    def stop_delivery(self) -> None:
        """Deliver nothing more. Acknowledgements still go out, so that the consumer can drain first.

        What was received and not delivered stays unacknowledged and comes again.
        """
        self._stopping.set()
        with self._lock:
            self._lock.notify_all()
        if self._delivery is not None:
            self._delivery.join()
            self._delivery = None

    def stop(self) -> None:
        """End delivery, send the acknowledgements that are due, and disconnect; the session stays."""
        self.stop_delivery()
        self._closing.set()
        self._ring()
        if self._network is not None:
            self._network.join()
            self._network = None

    # --- what the consumer calls ---

    def ack(self, tokens: Iterable[Token]) -> None:
        """Acknowledge messages whose content is committed; tokens of a lost connection are ignored."""
        with self._lock:
            if not self._connected.is_set():
                # On the next connection the same number may name another message.
                return
            for token in tokens:
                if token.connection == self._connection:
                    self._unacked.settle(
                        token.message_ids
                        if isinstance(token, BlockToken)
                        else np.array([token.message_id], dtype=np.uint16)
                    )
            self._send(mqtt.pubacks(self._unacked.due()))

    def publish_watermarks(self, marks: Sequence[Watermark]) -> None:
        """Tell the meters how far they are committed. A lost one is repeated after the meter's next try."""
        own: dict[str, list[Watermark]] = {}
        for mark in marks:
            own.setdefault(mark.serial, []).append(mark)
        packets = [
            mqtt.publish(self._version, downlink_topic(serial, Downlink.ACK), payload)
            for serial, each in own.items()
            for payload in codec.watermark_payloads(each)
        ]
        self._send_or_drop(packets)

    def publish_bundle_marks(self, marks: Sequence[BundleMark]) -> None:
        """Tell the concentrators what is committed. A lost mark is repeated after their next try."""
        own: dict[str, list[BundleMark]] = {}
        for mark in marks:
            own.setdefault(mark.concentrator, []).append(mark)
        self._send_or_drop(
            [
                mqtt.publish(
                    self._version, bundles.marks_topic(concentrator), bundles.encode_marks(each)
                )
                for concentrator, each in own.items()
            ]
        )

    def send_command(self, serial: str, command: Command) -> bool:
        """Hand a command to the broker; False when there is no connection, and nothing was sent."""
        return self._send_surely(serial, Downlink.COMMAND, codec.encode_command(command))

    def send_instruction(self, serial: str, payload: bytes) -> bool:
        """Hand a signed instruction to the broker; False when there is no connection, and nothing was sent."""
        return self._send_surely(serial, Downlink.INSTRUCTION, payload)

    def send_certificate(self, serial: str, chain: bytes) -> bool:
        """Hand a device's next certificate to the broker; False when there is no connection."""
        return self._send_surely(serial, Downlink.CERTIFICATE, chain)

    def _send_surely(self, serial: str, channel: Downlink, payload: bytes) -> bool:
        with self._lock:
            if not self._connected.is_set() or self._commands.is_full:
                return False
            self._send(self._commands.add(downlink_topic(serial, channel), payload))
        return True

    @property
    def is_connected(self) -> bool:
        """Whether the broker is there at the moment."""
        return self._connected.is_set()

    def stats(self) -> SessionStats:
        """A consistent picture of the counters."""
        with self._lock:
            return SessionStats(
                connected=self._connected.is_set(),
                connections=self._connection,
                received=self._received,
                unacknowledged=len(self._unacked),
                queued=self._queued,
                malformed=dict(self._malformed),
            )

    def malformed_samples(self) -> list[MalformedSample]:
        """The last malformed messages, oldest first."""
        with self._lock:
            return list(self._samples)

    # --- the delivery thread ---

    def _deliver(
        self,
        on_frame: Callable[[Frame], None],
        on_block: Callable[[ReadingsBlock], None] | None,
    ) -> None:
        while (taken := self._next()) is not None:
            try:
                if isinstance(taken, ReadingsBlock):
                    assert on_block is not None, "without it nothing is queued in blocks"
                    on_block(taken)
                else:
                    on_frame(taken)
            except Exception as error:
                log.exception("the consumer of frames failed; delivery ends")
                self.failure = error
                self._stopping.set()

    def _next(self) -> Frame | ReadingsBlock | None:
        """The next in order of arrival; None once delivery has to end."""
        with self._lock:
            while not self._frames and not self._stopping.is_set():
                self._lock.wait(_POLL_S)
            if self._stopping.is_set():
                return None
            was_full = self._queued >= self._config.queue_frames_max
            taken = self._frames.popleft()
            self._queued -= _weight(taken)
        if was_full:
            self._ring()
        return taken

    # --- the network thread ---

    def _run(self) -> None:
        delay_s = 1
        while not self._closing.is_set():
            try:
                with wire.connect(
                    self._config.host,
                    self._config.port,
                    self._config.tls,
                    timeout_s=_CONNECT_TIMEOUT_S,
                ) as opened:
                    if self._serve(opened):
                        delay_s = 1
            except (OSError, mqtt.ProtocolError) as error:
                if not self._closing.is_set():
                    log.warning("connection to the broker lost: %s", error)
            finally:
                self._disconnected()
            if self._closing.wait(delay_s):
                return
            delay_s = min(2 * delay_s, self._config.reconnect_delay_s_max)

    def _serve(self, opened: socket.socket) -> bool:
        """Speak until the connection ends or is to end; returns whether the broker had let us in."""
        config = self._config
        opened.sendall(
            mqtt.Connect(
                config.client_id,
                config.keepalive_s,
                config.username,
                config.password,
                config.session_expiry_s,
                config.receive_maximum,
                _PACKET_BYTES_MAX,
            ).encode(self._version)
        )
        opened.setblocking(False)
        return _Line(self, opened).serve()

    def _welcome(self, answer: mqtt.Connack) -> None:
        """The broker has let us in: what was unfinished goes first."""
        with self._lock:
            self._connection += 1
            self._unacked.clear()
            self._commands.room = min(_COMMANDS_IN_FLIGHT_MAX, answer.receive_maximum)
            self._send(mqtt.subscribe(self._version, _SUBSCRIPTION_ID, UPLINK_FILTER, qos=1))
            self._send(self._commands.again(session_present=answer.session_present))
            self._connected.set()

    def _settled(self, answer: mqtt.Puback) -> None:
        """The broker answered to a command; one that it refuses is sent again when its order is due."""
        if answer.reason >= 0x80:
            log.warning("the broker refuses a command: reason %d", answer.reason)
        with self._lock:
            self._send(self._commands.taken(answer.message_id))

    def _disconnected(self) -> None:
        with self._lock:
            self._connected.clear()
            # Acknowledgements of a connection that is gone say nothing to the next; commands are kept.
            self._unacked.clear()
            self._out.clear()
            self._out_bytes = 0

    def _room(self) -> int:
        """How many messages may be taken now: none once delivery has ended, for nobody would."""
        with self._lock:
            if self._stopping.is_set():
                return 0
            # One bundle may overfill the queue by itself.
            return max(0, min(_MESSAGES_AT_ONCE, self._config.queue_frames_max - self._queued))

    def _take(self, messages: mqtt.Publishes) -> None:
        """Decode messages and queue them for delivery."""
        received_at_us = self._clock_us()
        with self._lock:
            connection = self._connection
            self._received += len(messages)
            self._unacked.add([each for each in messages.message_id if each])
        frames: list[Frame | ReadingsBlock] = []
        for each in quick.blocks(messages, connection=connection, received_at_us=received_at_us):
            if isinstance(each, ReadingsBlock):
                frames += [each] if self._takes_blocks else each.frames()
            elif (frame := self._decode(messages, each, received_at_us)) is not None:
                frames.append(frame)
        with self._lock:
            self._frames.extend(frames)
            self._queued += sum(map(_weight, frames))
            self._lock.notify_all()

    def _decode(self, messages: mqtt.Publishes, at: int, received_at_us: int) -> Frame | None:
        """One message of any shape; None, counted and acknowledged, if it cannot be read."""
        data = messages.data
        topic = data[messages.topic[at] : messages.topic_end[at]].decode(errors="replace")
        payload = data[messages.payload[at] : messages.end[at]]
        token = AckToken(self._connection, messages.message_id[at])
        decode = bundles.decode if topic.endswith(bundles.TOPIC_END) else codec.decode
        try:
            return decode(topic, payload, received_at_us=received_at_us, token=token)
        except MalformedFrame as error:
            refusal = error
        except Exception as error:
            # An exception here would end the network thread for good. The fault is ours; the meter
            # keeps its reading, since no watermark will pass it.
            log.exception("decoding failed on %s", topic)
            refusal = MalformedFrame("internal", repr(error))
        self._keep_sample(topic, payload, received_at_us, refusal)
        self.ack([token])
        return None

    def _keep_sample(
        self, topic: str, payload: bytes, received_at_us: int, refusal: MalformedFrame
    ) -> None:
        sample = MalformedSample(
            topic=topic[:_SAMPLE_BYTES],
            received_at_us=received_at_us,
            reason=refusal.reason,
            explanation=str(refusal),
            payload_head=payload[:_SAMPLE_BYTES],
        )
        with self._lock:
            self._malformed[refusal.reason] += 1
            self._samples.append(sample)
        if self._on_malformed is not None:
            self._on_malformed(sample)

    # --- what goes out ---

    def _send_or_drop(self, packets: Iterable[bytes]) -> None:
        """Leave what may be lost, unless there is no connection or much waits already."""
        with self._lock:
            if self._connected.is_set() and self._out_bytes < _OUT_BYTES_MAX:
                self._send(b"".join(packets))

    def _send(self, packets: bytes) -> None:
        """Leave packets for the network thread, which is woken; the caller holds the lock."""
        if packets:
            self._out.append(packets)
            self._out_bytes += len(packets)
            self._ring()

    def _outgoing(self) -> bytes:
        """What is to be written, taken off."""
        with self._lock:
            packets = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
        return packets

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_writer, b"!")


class _Line:
    """One connection's life in the network thread: selecting, reading, writing, keeping alive."""

    def __init__(self, session: MqttSession, opened: socket.socket) -> None:
        self._session = session
        self._socket = opened
        self._decoder = mqtt.Decoder(session._version, packet_bytes_max=_PACKET_BYTES_MAX)
        self._out = memoryview(b"")
        self._is_welcome = False
        self._has_more = False
        self._keepalive_s = session._config.keepalive_s
        self._heard_at = self._said_at = self._began = time.monotonic()
        self._is_asked = False
        self._ends_at: float | None = None

    def serve(self) -> bool:
        """Until the connection ends; returns whether the broker had let us in."""
        try:
            while not self._is_over():
                self._turn()
        except (OSError, mqtt.ProtocolError):
            if not self._is_welcome:
                raise
            if not self._session._closing.is_set():
                log.warning("connection to the broker lost", exc_info=True)
        return self._is_welcome

    def _is_over(self) -> bool:
        """Whether all is said; before, what is due gets so much time to be written."""
        if not self._session._closing.is_set():
            return False
        now = time.monotonic()
        if self._ends_at is None:
            self._ends_at = now + _FLUSH_TIMEOUT_S
            self._out = memoryview(bytes(self._out) + self._session._outgoing() + mqtt.DISCONNECT)
        return not self._out or now > self._ends_at

    def _turn(self) -> None:
        if not self._out and self._is_welcome and self._ends_at is None:
            self._out = memoryview(self._session._outgoing())
        room = self._session._room() if self._is_welcome else 1
        # Whatever arrived is decoded before more is read, so that memory is bounded by one read.
        reading: list[socket.socket | int] = [self._session._wake_reader]
        if room and not self._has_more:
            reading.append(self._socket)
        ready, writable, _ = select.select(
            reading,
            [self._socket] if self._out else [],
            [],
            0.0 if room and (self._has_more or wire.has_more(self._socket)) else _POLL_S,
        )
        now = time.monotonic()
        if self._session._wake_reader in ready:
            os.read(self._session._wake_reader, 4096)
        if writable:
            self._out = self._out[wire.send(self._socket, self._out) :]
            self._said_at = now
        if self._socket in ready or (self._socket in reading and wire.has_more(self._socket)):
            chunk = wire.receive(self._socket, _READ_BYTES)
            if chunk == b"":
                raise ConnectionError("the broker closed it")
            if chunk:
                self._heard_at, self._is_asked = now, False
                self._decoder.feed(chunk)
        if room and self._decoder.waiting_bytes:
            self._handle(self._decoder.take(room))
            self._has_more = self._decoder.has_more
        self._keep_alive(now, is_reading=bool(room))

    def _handle(self, events: Iterable[mqtt.Event]) -> None:
        for event in events:
            if isinstance(event, mqtt.Connack):
                if self._is_welcome or event.reason:
                    raise mqtt.ProtocolError(f"the broker refuses the head-end: {event.reason}")
                self._is_welcome = True
                self._keepalive_s = (
                    self._keepalive_s if event.keepalive_s is None else event.keepalive_s
                )
                self._session._welcome(event)
            elif not self._is_welcome:
                raise mqtt.ProtocolError("a packet before CONNACK")
            elif isinstance(event, mqtt.Publishes):
                self._session._take(event)
            elif isinstance(event, mqtt.Puback):
                self._session._settled(event)
            elif isinstance(event, mqtt.Suback):
                if max(event.reasons) >= 0x80:
                    raise mqtt.ProtocolError("the broker refuses the subscription")
            elif isinstance(event, mqtt.Disconnected):
                raise ConnectionError(f"the broker ends it: reason {event.reason}")

    def _keep_alive(self, now: float, *, is_reading: bool) -> None:
        """Ask whether the broker is there when nothing was said; not while we do not listen."""
        if not self._is_welcome:
            if now - self._began > _CONNECT_TIMEOUT_S:
                raise ConnectionError("no CONNACK")
            return
        if not self._keepalive_s:
            return
        if not is_reading:
            self._heard_at = now
        if self._is_asked and now - self._heard_at > 1.5 * self._keepalive_s:
            raise ConnectionError("the broker does not answer")
        if now - self._said_at > self._keepalive_s / 2 and not self._out:
            self._out, self._is_asked = memoryview(mqtt.PINGREQ), True


def _weight(taken: Frame | ReadingsBlock) -> int:
    """How much of the queue it takes: a bundle as much as its columns, which its memory is made of."""
    return taken.weight if isinstance(taken, ReadingsBlock | ReadingsBundle) else 1
