"""The head-end's MQTT connection: frames in, acknowledged only after commit; commands and watermarks out.

Three rules shape it. A message is acknowledged (PUBACK) when its consumer hands the frame's token back, which it
does after commit, and in the order of arrival as MQTT 4.6 asks. What is in flight is bounded: with MQTT 5 by
the receive-maximum, and always by a queue whose fullness stops the reading of the socket. And the session is
persistent, so that a broker which can keep messages keeps them while the head-end is away.

Two threads: the network thread decodes into the queue, the delivery thread calls `on_frame`, which may
block for as long as its consumer is busy.
"""

import logging
import queue
import socket
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from prewatt.hes.drivers.mqtt_senml import codec
from prewatt.hes.drivers.mqtt_senml.topics import UPLINK_FILTER, Downlink, downlink_topic
from prewatt.hes.frames import AckToken, Frame, MalformedFrame, MalformedSample, Watermark
from prewatt.runtime.broker import MqttProtocol

log = logging.getLogger(__name__)

_SAMPLES_KEPT: Final = 50
_SAMPLE_BYTES: Final = 512
_PACKET_BYTES_MAX: Final = 2 * codec.MAX_PAYLOAD_BYTES
_COMMANDS_IN_FLIGHT_MAX: Final = 1_000
_POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """Where the broker is and how much may be in flight.

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
        self._config = config
        self._clock_us = clock_us
        self._on_malformed = on_malformed
        self._frames: queue.Queue[Frame] = queue.Queue(config.queue_frames_max)
        self._delivery: threading.Thread | None = None
        self._stopping = threading.Event()
        self._connected = threading.Event()
        # Guards what follows; held for moments only, never while a frame is delivered.
        self._lock = threading.Lock()
        self._connection = 0
        self._unacked: OrderedDict[int, bool] = OrderedDict()
        self._received = 0
        self._malformed: Counter[str] = Counter()
        self._samples: deque[MalformedSample] = deque(maxlen=_SAMPLES_KEPT)
        self._client = self._new_client()
        self.failure: Exception | None = None
        """What `on_frame` raised, if it did: delivery has ended and the process should too."""

    # --- life ---

    def start(self, on_frame: Callable[[Frame], None]) -> None:
        """Connect in the background, again and again, and deliver each frame to `on_frame`."""
        self._delivery = threading.Thread(
            target=self._deliver, args=(on_frame,), name="hes-delivery", daemon=True
        )
        self._delivery.start()
        arguments: dict[str, Any] = {}
        if self._config.protocol == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's gap
            properties.SessionExpiryInterval = self._config.session_expiry_s
            properties.ReceiveMaximum = self._config.receive_maximum
            properties.MaximumPacketSize = _PACKET_BYTES_MAX
            arguments = {"clean_start": False, "properties": properties}
        self._client.connect_async(
            self._config.host, self._config.port, self._config.keepalive_s, **arguments
        )
        self._client.loop_start()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for a connection; returns whether there is one."""
        return self._connected.wait(timeout_s)

    def stop_delivery(self) -> None:
        """Deliver nothing more. Acknowledgements still go out, so that the consumer can drain first.

        What was received and not delivered stays unacknowledged and comes again.
        """
        self._stopping.set()
        if self._delivery is not None:
            self._delivery.join()
            self._delivery = None

    def stop(self) -> None:
        """End delivery, send the acknowledgements that are due, and disconnect; the session stays."""
        self.stop_delivery()
        self._client.disconnect()
        self._client.loop_stop()

    # --- what the consumer calls ---

    def ack(self, tokens: Iterable[AckToken]) -> None:
        """Acknowledge messages whose content is committed; tokens of a lost connection are ignored."""
        with self._lock:
            for token in tokens:
                if token.connection == self._connection and token.message_id in self._unacked:
                    self._unacked[token.message_id] = True
            while self._unacked:
                message_id = next(iter(self._unacked))
                if not self._unacked[message_id]:
                    break
                del self._unacked[message_id]
                self._client.ack(message_id, 1)

    def publish_watermarks(self, marks: Sequence[Watermark]) -> None:
        """Tell the meters how far they are committed. A lost one is repeated after the meter's next try."""
        by_serial = sorted(marks, key=lambda mark: mark.serial)
        for serial, own in groupby(by_serial, key=lambda mark: mark.serial):
            topic = downlink_topic(serial, Downlink.ACK)
            for payload in codec.watermark_payloads(own):
                self._client.publish(topic, payload, qos=0)

    def send_command(self, serial: str, command: codec.Command) -> bool:
        """Hand a command to the broker; False when there is no connection, and nothing was sent."""
        if not self._connected.is_set():
            return False
        topic = downlink_topic(serial, Downlink.COMMAND)
        sent = self._client.publish(topic, codec.encode_command(command), qos=1)
        return sent.rc == MQTTErrorCode.MQTT_ERR_SUCCESS

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
                queued=self._frames.qsize(),
                malformed=dict(self._malformed),
            )

    def malformed_samples(self) -> list[MalformedSample]:
        """The last malformed messages, oldest first."""
        with self._lock:
            return list(self._samples)

    # --- the delivery thread ---

    def _deliver(self, on_frame: Callable[[Frame], None]) -> None:
        while not self._stopping.is_set():
            try:
                frame = self._frames.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            try:
                on_frame(frame)
            except Exception as error:
                log.exception("the consumer of frames failed; delivery ends")
                self.failure = error
                self._stopping.set()

    # --- the network thread ---

    def _new_client(self) -> Client:
        is_v5 = self._config.protocol == "5"
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._config.client_id,
            clean_session=None if is_v5 else False,
            protocol=MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        if self._config.username is not None:
            client.username_pw_set(self._config.username, self._config.password)
        client.reconnect_delay_set(1, self._config.reconnect_delay_s_max)
        client.max_inflight_messages_set(_COMMANDS_IN_FLIGHT_MAX)
        client.on_connect = self._handle_connect
        client.on_disconnect = self._handle_disconnect
        client.on_message = self._handle_message
        client.on_socket_open = _without_delay
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
            log.error("the broker refuses the head-end: %s", reason)
            return
        with self._lock:
            # A packet identifier belongs to one connection; whatever was unacknowledged comes again.
            self._connection += 1
            self._unacked.clear()
        client.subscribe(UPLINK_FILTER, qos=1)
        self._connected.set()

    def _handle_disconnect(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._connected.clear()
        if not self._stopping.is_set():
            log.warning("connection to the broker lost: %s", reason)

    def _handle_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        received_at_us = self._clock_us()
        token = AckToken(self._connection, message.mid)
        with self._lock:
            self._received += 1
            if message.qos:
                self._unacked[message.mid] = False
        try:
            frame = codec.decode(
                message.topic, bytes(message.payload), received_at_us=received_at_us, token=token
            )
        except MalformedFrame as refusal:
            self._keep_sample(message, received_at_us, refusal)
            self.ack([token])
        except Exception as error:
            # Out of this callback an exception would end the network thread for good. The fault is ours;
            # the meter keeps its reading, since no watermark will pass it.
            log.exception("decoding failed on %s", message.topic)
            self._keep_sample(message, received_at_us, MalformedFrame("internal", repr(error)))
            self.ack([token])
        else:
            self._enqueue(frame)

    def _enqueue(self, frame: Frame) -> None:
        """Wait for room: as long as this takes, the socket is not read (back-pressure)."""
        while not self._stopping.is_set():
            try:
                self._frames.put(frame, timeout=_POLL_S)
            except queue.Full:
                continue
            return

    def _keep_sample(
        self, message: MQTTMessage, received_at_us: int, refusal: MalformedFrame
    ) -> None:
        sample = MalformedSample(
            topic=message.topic[:_SAMPLE_BYTES],
            received_at_us=received_at_us,
            reason=refusal.reason,
            explanation=str(refusal),
            payload_head=bytes(message.payload[:_SAMPLE_BYTES]),
        )
        with self._lock:
            self._malformed[refusal.reason] += 1
            self._samples.append(sample)
        if self._on_malformed is not None:
            self._on_malformed(sample)


def _without_delay(_client: Client, _userdata: object, opened: Any) -> None:
    """Send small packets at once: an order must not wait for the acknowledgement of the last one."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
