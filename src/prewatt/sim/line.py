"""An MQTT connection of a simulated meter within a selector: many of them live in one thread, and none waits for another.

TCP and the handshake of TLS are made step by step, as the selector says that the other side has answered: a meter that is
kept waiting by its broker holds up nobody. What is made is handed to a paho client, which speaks MQTT over it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from prewatt.hes.wire import TlsFiles

log = logging.getLogger(__name__)

_KEEPALIVE_S: Final = 60
_BACKOFF_S: Final = 0.5
_BACKOFF_S_MAX: Final = 10.0
#: A broker that thousands ask at once answers the last of them late; one that has not answered by then is asked again.
_OPENING_S_MAX: Final = 30.0
_LAST_WRITES_MAX: Final = 10


class Line:
    """One connection: connects, backs off, reconnects, hands messages up."""

    def __init__(
        self,
        client_id: str,
        address: tuple[str, int],
        selector: selectors.BaseSelector,
        *,
        subscriptions: Sequence[tuple[str, int]],
        on_up: Callable[[], None],
        on_down: Callable[[], None],
        on_message: Callable[[str, bytes], None],
        tls: TlsFiles | None = None,
    ) -> None:
        self.is_up = False
        self.wanted = True
        self._address = address
        self._selector = selector
        self._subscriptions = list(subscriptions)
        self._on_up, self._on_down, self._on_message = on_up, on_down, on_message
        self._retry_at_s = 0.0
        self._tries = 0
        self._backoff_s = _BACKOFF_S
        # Each waits a time of its own, from half to one and a half: meters that lost one broker do not come as one.
        self._spread = 0.5 + zlib.crc32(client_id.encode()) / 2**32
        self._client = _OpenedClient(
            CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False
        )
        self._tls = tls
        self._secret: ssl.SSLContext | None = None
        self._opening: _Opening | None = None
        self._client.on_connect = self._handle_connect
        self._client.on_disconnect = self._handle_disconnect
        self._client.on_message = self._handle_message
        self._client.on_socket_open = self._handle_open
        self._client.on_socket_close = self._handle_close
        self._client.on_socket_register_write = self._want_write
        self._client.on_socket_unregister_write = self._want_no_write

    @property
    def is_opening(self) -> bool:
        """Whether TCP or TLS has not been agreed on yet."""
        return self._opening is not None

    def is_due(self, now_s: float) -> bool:
        """Whether a connection is wanted, missing and may be tried again."""
        is_missing = self._opening is None and self._client.socket() is None
        return self.wanted and is_missing and now_s >= self._retry_at_s

    def connect(self, now_s: float) -> None:
        """Begin to; `service` goes on with it."""
        self._wait()
        self._backoff_s = min(2 * self._backoff_s, _BACKOFF_S_MAX)
        self._tries += 1
        try:
            secret = None if self._tls is None else self._with_certificate(self._tls)
            self._opening = _Opening(
                self._address, secret, turn=self._tries, until_s=now_s + _OPENING_S_MAX
            )
        except OSError as error:
            log.debug("no connection: %s", error)
            return
        self._selector.register(self._opening.socket, selectors.EVENT_WRITE, self)

    def disconnect(self) -> None:
        """Go, whether or not the connection was made."""
        self._give_up()
        self._client.disconnect()

    def close(self) -> None:
        """Disconnect and see it through: what is queued leaves, the socket is closed."""
        self.wanted = False
        self.disconnect()
        for _ in range(_LAST_WRITES_MAX):
            if self._client.loop_write() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return

    def publish(self, topic: str, payload: bytes) -> None:
        """Have a message delivered once at least; what was not confirmed goes out again after a reconnection."""
        self._client.publish(topic, payload, qos=1)

    def service(self, events: int) -> None:
        """Do what the selector says is possible."""
        if self._opening is not None:
            self._go_on(self._opening)
            return
        if events & selectors.EVENT_READ:
            self._client.loop_read()
            # Of a TLS record more may have been read than was taken, of which no selector tells.
            while isinstance(opened := self._client.socket(), ssl.SSLSocket) and opened.pending():
                self._client.loop_read()
        if events & selectors.EVENT_WRITE and self._client.socket() is not None:
            self._client.loop_write()

    def misc(self, now_s: float) -> None:
        """Keep-alive; to be called every second or so."""
        if self._opening is None:
            self._client.loop_misc()
        elif now_s >= self._opening.until_s:
            self._give_up()

    # --- inside ---

    def _with_certificate(self, tls: TlsFiles) -> ssl.SSLContext:
        """Show what lies in the folder now: a certificate may have been renewed since the last connection."""
        if self._secret is None:
            self._secret = tls.context()
        else:
            tls.show(self._secret)
        return self._secret

    def _wait(self) -> None:
        self._retry_at_s = time.monotonic() + self._backoff_s * self._spread

    def _go_on(self, opening: _Opening) -> None:
        # A step may put another object around the same socket, of which the selector must not know the old one.
        self._selector.unregister(opening.socket)
        try:
            waits_for = opening.step()
        except OSError as error:
            log.debug("no connection: %s", error)
            opening.socket.close()
            self._opening = None
            self._wait()
            return
        if waits_for:
            self._selector.register(opening.socket, waits_for, self)
            return
        self._opening, self._client.opened = None, opening.socket
        self._client.connect(*self._address, keepalive=_KEEPALIVE_S)

    def _give_up(self) -> None:
        if self._opening is not None:
            self._selector.unregister(self._opening.socket)
            self._opening.socket.close()
            self._opening = None
            self._wait()

    def _handle_connect(
        self,
        client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            log.error("the broker refuses a meter: %s", reason)
            return
        self.is_up = True
        self._backoff_s = _BACKOFF_S
        client.subscribe(self._subscriptions)
        self._on_up()

    def _handle_disconnect(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.is_up = False
        self._wait()
        self._on_down()

    def _handle_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self._on_message(message.topic, bytes(message.payload))

    def _handle_open(self, _client: Client, _userdata: object, opened: Any) -> None:
        self._selector.register(opened, selectors.EVENT_READ, self)

    def _handle_close(self, _client: Client, _userdata: object, closed: Any) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(closed)

    def _want_write(self, _client: Client, _userdata: object, sock: Any) -> None:
        self._watch(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _want_no_write(self, _client: Client, _userdata: object, sock: Any) -> None:
        self._watch(sock, selectors.EVENT_READ)

    def _watch(self, sock: Any, events: int) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.modify(sock, events, self)


class _OpenedClient(Client):
    """A client whose connection was made by somebody else: its own way would wait for the handshake."""

    opened: socket.socket

    def _create_socket(self) -> socket.socket:
        return self.opened


class _Opening:
    """TCP and TLS to an address, step by step. Raises OSError, of which every failure of TLS is one."""

    def __init__(
        self,
        address: tuple[str, int],
        secret: ssl.SSLContext | None,
        *,
        turn: int,
        until_s: float,
    ) -> None:
        self.until_s = until_s
        self._host = address[0]
        self._secret = secret
        self._line: ssl.SSLSocket | None = None
        # A name may have several addresses, of which the broker listens at one: each has its turn.
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        family, kind, _, _, reached = found[turn % len(found)]
        self.socket: socket.socket = socket.socket(family, kind)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        error = self.socket.connect_ex(reached)
        if error not in (0, errno.EINPROGRESS):
            self.socket.close()
            raise OSError(error, "no connection")

    def step(self) -> int:
        """Go on as far as it goes; returns which of the selector's events it waits for, 0 once it is made."""
        if self._line is None:
            if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, "no connection")
            if self._secret is None:
                return 0
            self.socket = self._line = self._wrapped(self._secret)
        try:
            self._line.do_handshake()
        except ssl.SSLWantReadError:
            return selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            return selectors.EVENT_WRITE
        return 0

    def _wrapped(self, secret: ssl.SSLContext) -> ssl.SSLSocket:
        return secret.wrap_socket(
            self.socket, server_hostname=self._host, do_handshake_on_connect=False
        )
