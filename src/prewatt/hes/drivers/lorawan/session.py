"""The head-end's connection to a network server's broker: events in, downlinks out.

It is a `Session` like the one of meters with a broker connection of their own, over paho and at the pace of radio: a
network server has some hundreds of events a second at most. An event is acknowledged (PUBACK) when its frames are
committed; where the broker has QoS 0 alone, as The Things Stack's, an event is lost with the process that had it, and
the next reading covers its energy.

Two threads: paho's reads and decodes, and waits while the queue is full, which holds the broker back; the delivery
thread calls `on_frame`. The devices themselves are in `field.py`, under one lock.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from prewatt.core.drivers import Driver
from prewatt.core.short_instructions import BYTES_MAX
from prewatt.hes.drivers.lorawan.events import Downlink, Event, NetworkServer, Uplink
from prewatt.hes.drivers.lorawan.field import Field, Heard, Known, Radio
from prewatt.hes.frames import (
    AckToken,
    Command,
    Frame,
    MalformedFrame,
    MalformedSample,
    Token,
    Watermark,
)
from prewatt.hes.sessions import OnBlock, OnFrame, OnMalformed

log = logging.getLogger(__name__)

_QUEUE_MAX: Final = 2_000
_SAMPLE_BYTES: Final = 512
_WAIT_S: Final = 0.2
_SESSION_EXPIRY_S: Final = 7 * 86_400
_RECEIVE_MAXIMUM: Final = 2_000


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where the network server's broker is. ``tls`` is None on loopback alone.

    ``protocol`` is 3.1.1 for The Things Stack.
    """

    host: str
    port: int
    protocol: Literal["5", "3.1.1"] = "5"
    client_id: str = "prewatt-lorawan"
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None
    keepalive_s: int = 30


@dataclass(frozen=True, slots=True)
class Committed:
    """An uplink whose frames are committed: what may be remembered of its device."""

    eui: str
    serial: str
    f_cnt: int
    event_id: str
    address: str
    radio: Radio


class Register(Protocol):
    """What a session asks and tells of devices, without waiting for anything."""

    def known(self, eui: str) -> Known | None:
        """What is known of a device; None for one that is no meter of this driver."""

    def add(self, committed: Committed) -> None:
        """An uplink's frames are committed."""

    def start(self) -> None:
        """Begin; returns when it knows its devices."""

    def stop(self) -> None:
        """Keep what was told, and end."""


class LorawanSession:
    """One connection to a network server over all of its devices. Thread-safe.

    ``register`` is started and stopped with it.
    """

    driver: Final = Driver.LORAWAN
    instruction_bytes_max: Final = BYTES_MAX

    def __init__(
        self,
        config: ServerConfig,
        server: NetworkServer,
        *,
        clock_us: Callable[[], int],
        register: Register,
        on_malformed: OnMalformed,
    ) -> None:
        self._config = config
        self._server = server
        self._clock_us = clock_us
        self._on_malformed = on_malformed
        self._register = register
        self._field = Field(register.known)
        self._lock = threading.Lock()
        self._queue: queue.Queue[Frame] = queue.Queue(_QUEUE_MAX)
        self._unacked: dict[AckToken, tuple[Uplink | None, int, int]] = {}
        self._connection = 0
        self._last = 0
        self._connected = threading.Event()
        self._stopping = threading.Event()
        self._on_frame: OnFrame | None = None
        self._delivery = threading.Thread(target=self._deliver, name="hes-lorawan", daemon=True)
        self.failure: Exception | None = None
        self._client = self._make_client()

    # --- life ---

    @property
    def is_connected(self) -> bool:
        """Whether the network server's broker is there."""
        return self._connected.is_set()

    def start(self, on_frame: OnFrame, on_block: OnBlock | None = None) -> None:
        """Connect in the background, again and again, and deliver frame by frame."""
        self._on_frame = on_frame
        self._register.start()
        self._delivery.start()
        config = self._config
        options: dict[str, Any] = {"keepalive": config.keepalive_s}
        if config.protocol == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no types there
            properties.SessionExpiryInterval = _SESSION_EXPIRY_S
            properties.ReceiveMaximum = _RECEIVE_MAXIMUM
            options |= {"clean_start": False, "properties": properties}
        self._client.connect_async(config.host, config.port, **options)
        self._client.loop_start()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until the broker has let us in; returns whether it has."""
        return self._connected.wait(timeout_s)

    def stop_delivery(self) -> None:
        """Deliver nothing more; what is in the queue is not acknowledged and comes again."""
        self._stopping.set()
        if self._delivery.is_alive():
            self._delivery.join()

    def stop(self) -> None:
        """Say goodbye and end."""
        self._stopping.set()
        self._client.disconnect()
        self._client.loop_stop()
        self._register.stop()

    # --- what the consumers call ---

    def reaches(self, serial: str) -> bool:
        """Whether the meter is a device of this driver."""
        with self._lock:
            return self._field.reaches(serial)

    def ack(self, tokens: Iterable[Token]) -> None:
        """Let go what is committed; the counter of its device may be remembered from now on."""
        for token in tokens:
            if not isinstance(token, AckToken):
                continue
            with self._lock:
                found = self._unacked.pop(token, None)
                radio, serial = None, ""
                if found is not None and found[0] is not None:
                    radio = self._field.radio(found[0].eui)
                    serial = self._field.serial(found[0].eui)
            if found is None:
                continue
            uplink, message_id, qos = found
            if uplink is not None and radio is not None:
                self._register.add(
                    Committed(
                        uplink.eui, serial, uplink.f_cnt, uplink.event_id, uplink.address, radio
                    )
                )
            self._puback(token.connection, message_id, qos)

    def publish_watermarks(self, marks: Sequence[Watermark]) -> None:
        """Nothing: a device keeps no backlog for our word, and the air is not for it."""

    def send_command(self, serial: str, command: Command) -> bool:
        """Put a downlink into the server's queue, or answer from what is known; False when there is no way."""
        if not self.is_connected:
            return False
        with self._lock:
            ordered = self._field.order(serial, command, now_us=self._clock_us())
        for frame in ordered.frames:
            # Never waited for: the thread that asks is the one that empties what stands behind the queue.
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(frame)
        return ordered.downlink is None or self._queue_up(ordered.downlink)

    def send_instruction(self, serial: str, payload: bytes) -> bool:
        """Put an instruction of the short form into the server's queue, unless it is there; False when there is no way."""
        if len(payload) > BYTES_MAX:
            log.error("an instruction of %d bytes to %s fits no downlink", len(payload), serial)
            return False
        if not self.is_connected:
            return False
        with self._lock:
            instructed = self._field.instruct(serial, payload, now_us=self._clock_us())
        if instructed.downlink is None:
            return instructed.is_taken
        return self._queue_up(instructed.downlink)

    def _queue_up(self, downlink: Downlink) -> bool:
        topic, payload = self._server.encode(downlink)
        sent = self._client.publish(topic, payload, qos=self._server.qos)
        return sent.rc == 0

    # --- paho's thread ---

    def _make_client(self) -> Client:
        config = self._config
        is_new = config.protocol == "5"
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=config.client_id,
            protocol=5 if is_new else 4,  # type: ignore[arg-type]  # paho takes the number for its enum
            clean_session=None if is_new else False,
            manual_ack=True,
            reconnect_on_failure=True,
        )
        if config.username is not None:
            client.username_pw_set(config.username, config.password)
        if config.tls is not None:
            client.tls_set_context(config.tls)
        client.reconnect_delay_set(1, 30)
        client.on_connect = self._welcome
        client.on_disconnect = self._gone
        client.on_message = self._message
        return client

    def _welcome(
        self, client: Client, _data: object, _flags: object, reason: Any, *_: object
    ) -> None:
        if reason.is_failure:
            log.warning("the network server's broker refuses the head-end: %s", reason)
            return
        with self._lock:
            self._connection += 1
            self._unacked.clear()
        client.subscribe(self._server.subscription, qos=self._server.qos)
        self._connected.set()

    def _gone(
        self, _client: Client, _data: object, _flags: object, reason: Any, *_: object
    ) -> None:
        self._connected.clear()
        if not self._stopping.is_set():
            log.warning("connection to the network server's broker lost: %s", reason)

    def _message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        try:
            self._take(message)
        except Exception as error:
            # Were it raised, paho's thread would end for good, and nobody would know.
            log.exception("an event on %s could not be taken", message.topic)
            self._reject(message, MalformedFrame("internal", repr(error)))
            self._puback(self._connection, message.mid, message.qos)

    def _take(self, message: MQTTMessage) -> None:
        if self._stopping.is_set():
            return
        received_at_us = self._clock_us()
        event: Event | None = None
        try:
            event = self._server.decode(
                message.topic, bytes(message.payload), received_at_us=received_at_us
            )
        except MalformedFrame as error:
            heard = Heard(refusal=error)
        with self._lock:
            self._last += 1
            token = AckToken(self._connection, self._last, Driver.LORAWAN)
            if event is not None:
                heard = self._field.heard(
                    event, received_at_us=received_at_us, token=token, is_again=message.dup
                )
            self._unacked[token] = (
                event if isinstance(event, Uplink) and heard.is_new else None,
                message.mid,
                message.qos,
            )
        if heard.refusal is not None:
            self._reject(message, heard.refusal, event)
        for frame in heard.frames:
            self._put(frame)
        if not any(getattr(frame, "token", None) == token for frame in heard.frames):
            self.ack([token])

    def _put(self, frame: Frame) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(frame, timeout=_WAIT_S)
                return

    def _puback(self, connection: int, message_id: int, qos: int) -> None:
        # A packet identifier belongs to one connection; what was not acknowledged there comes again.
        if qos and connection == self._connection:
            self._client.ack(message_id, qos)

    def _reject(
        self, message: MQTTMessage, refusal: MalformedFrame, event: Event | None = None
    ) -> None:
        # The book of rejected messages takes the second part for the serial number.
        topic = message.topic if event is None else f"lorawan/{self._field.serial(event.eui)}/event"
        self._on_malformed(
            MalformedSample(
                topic=topic[:_SAMPLE_BYTES],
                received_at_us=self._clock_us(),
                reason=refusal.reason,
                explanation=str(refusal),
                payload_head=bytes(message.payload[:_SAMPLE_BYTES]),
            )
        )

    # --- the delivery thread ---

    def _deliver(self) -> None:
        assert self._on_frame is not None, "started with it"
        while not self._stopping.is_set():
            try:
                frame = self._queue.get(timeout=_WAIT_S)
            except queue.Empty:
                continue
            try:
                self._on_frame(frame)
            except Exception as error:
                log.exception("the consumer of frames failed; delivery ends")
                self.failure = error
                self._stopping.set()
