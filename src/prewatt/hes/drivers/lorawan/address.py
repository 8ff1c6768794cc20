"""Where a network server is, as one word of a configuration: `chirpstack+tls://name@HOST:PORT`.

The scheme names the server (`chirpstack`, `chirpstack-protobuf`, `the-things-stack`) and, with `+tls`, that its broker is
spoken to by TLS, which only a broker on this very machine does without.
"""

from __future__ import annotations

import ipaddress
import ssl
from typing import Final
from urllib.parse import unquote, urlsplit

from prewatt.hes.drivers.lorawan.chirpstack import ChirpStack
from prewatt.hes.drivers.lorawan.events import NetworkServer
from prewatt.hes.drivers.lorawan.session import ServerConfig
from prewatt.hes.drivers.lorawan.things_stack import ThingsStack

SERVERS: Final[dict[str, NetworkServer]] = {
    "chirpstack": ChirpStack("json"),
    "chirpstack-protobuf": ChirpStack("protobuf"),
    "the-things-stack": ThingsStack(),
}


def parse_address(
    text: str, *, password: str | None = None, authority: str | None = None
) -> tuple[ServerConfig, NetworkServer]:
    """The configuration of the session, and the codec. Raises `ValueError`.

    ``authority`` is a file with the certificates that the broker's is issued by; None: those of the system.
    """
    url = urlsplit(text)
    name, plus, secure = url.scheme.partition("+")
    server = SERVERS.get(name)
    if server is None or secure != ("tls" if plus else ""):
        raise ValueError(f"not a network server: {url.scheme!r}; known are {', '.join(SERVERS)}")
    if not url.hostname or not url.port or url.path or url.query or url.password:
        raise ValueError("not SERVER://[NAME@]HOST:PORT; a password has a variable of its own")
    if not secure and not _is_here(url.hostname):
        raise ValueError(f"{url.hostname} is another machine: its broker is spoken to by +tls")
    return (
        ServerConfig(
            host=url.hostname,
            port=url.port,
            protocol="3.1.1" if server.qos == 0 else "5",
            username=unquote(url.username) if url.username else None,
            password=password,
            tls=ssl.create_default_context(cafile=authority) if secure else None,
        ),
        server,
    )


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
