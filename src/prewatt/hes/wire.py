"""A connection to the broker as bytes that come and go without waiting, in the clear or under TLS 1.3.

Under TLS the socket's being readable says little: what came may be no whole record, and a record that was read may be
more than was asked for. Both are this module's matter; whoever reads asks `has_more` before they wait.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_RECORD_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The folder with the root (`ca.pem`) and what is shown to the broker (`NAME.pem`, `NAME.key`)."""

    folder: Path
    name: str = "head-end"

    def context(self) -> ssl.SSLContext:
        """TLS 1.3 alone, the broker's certificate below our root and of the name that we reached it by.

        Raises OSError where a file is missing or is none.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self.folder / "ca.pem")
        self.show(context)
        return context

    def show(self, context: ssl.SSLContext) -> None:
        """Let the connections to come show the certificate that lies in the folder now. Raises OSError."""
        context.load_cert_chain(self.folder / f"{self.name}.pem", self.folder / f"{self.name}.key")


def connect(host: str, port: int, tls: TlsFiles | None, *, timeout_s: float) -> socket.socket:
    """A connection, its handshake done. Raises OSError, of which every failure of TLS is one.

    The files are read each time, so that a renewed certificate is shown at the next connection.
    """
    opened = socket.create_connection((host, port), timeout=timeout_s)
    # Small packets leave at once: an order must not wait for the acknowledgement of the last one.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return opened
    try:
        return tls.context().wrap_socket(opened, server_hostname=host)
    except BaseException:
        opened.close()
        raise


def receive(opened: socket.socket, bytes_max: int) -> bytes | None:
    """What is there, at most so much; None if nothing is yet, and empty when the other side has ended."""
    if not isinstance(opened, ssl.SSLSocket):
        return opened.recv(bytes_max)
    parts: list[bytes] = []
    left = bytes_max
    while left > 0:
        try:
            part = opened.recv(min(left, _RECORD_BYTES))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            break
        if not part:
            # What came before the end is given first; the end is met again.
            return b"".join(parts)
        parts.append(part)
        left -= len(part)
    return b"".join(parts) if parts else None


def has_more(opened: socket.socket) -> bool:
    """Whether something was read off the network that nobody has received: no readiness will tell."""
    return isinstance(opened, ssl.SSLSocket) and opened.pending() > 0


def send(opened: socket.socket, data: memoryview) -> int:
    """Send what the other side takes now; returns how much.

    Under TLS what was begun has to be offered again as it was: `data` may only have grown at its end.
    """
    if not isinstance(opened, ssl.SSLSocket):
        return opened.send(data)
    sent = 0
    while sent < len(data):
        try:
            sent += opened.send(data[sent : sent + _RECORD_BYTES])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            break
    return sent
