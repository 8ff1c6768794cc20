"""The proxy of the partition drill does to a line what it says, and nothing else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from prewatt.drills.proxy import Proxy, Weather, mqtt_packets
from prewatt.runtime.broker import LOOPBACK, free_port

PUBLISH = b"\x32\x07\x00\x01a\x00\x01hi"
PING = b"\xc0\x00"
LONG = b"\x30\x80\x02" + b"x" * 256


@pytest.fixture
def lines() -> Iterator[tuple[Proxy, socket.socket]]:
    """A proxy that believes it stands before a broker, and the listener that is the broker."""
    with closing(socket.create_server((LOOPBACK, 0))) as far:
        near = (LOOPBACK, free_port())
        proxy = Proxy(near, far.getsockname()[:2], seed="1", packets=True)
        proxy.start()
        yield proxy, far
        proxy.stop()


def connected(proxy: Proxy, far: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection through the proxy."""
    client = socket.create_connection(proxy._near, timeout=5)  # type: ignore[arg-type]
    server, _ = far.accept()
    server.settimeout(5)
    return client, server


def received(server: socket.socket, size: int) -> bytes:
    """So many bytes, or those that came before the end."""
    data = b""
    try:
        while len(data) < size and (more := server.recv(size - len(data))):
            data += more
    except ConnectionError:
        pass
    return data


def test_packets_are_cut_where_they_end() -> None:
    stream = PING + LONG + PUBLISH
    for at in range(len(stream) + 1):
        whole, rest = mqtt_packets(stream[:at])
        assert b"".join(whole) + rest == stream[:at]
        assert whole == [each for each in (PING, LONG, PUBLISH) if each in whole]
    assert mqtt_packets(stream) == ([PING, LONG, PUBLISH], b"")


def test_a_calm_line_carries_both_ways(lines: tuple[Proxy, socket.socket]) -> None:
    client, server = connected(*lines)
    with client, server:
        client.sendall(PUBLISH[:4])
        client.sendall(PUBLISH[4:])
        assert received(server, len(PUBLISH)) == PUBLISH
        server.sendall(b"anything")
        assert received(client, 8) == b"anything"


def test_only_messages_are_repeated(lines: tuple[Proxy, socket.socket]) -> None:
    proxy, _ = lines
    client, server = connected(*lines)
    with client, server:
        proxy.turn(Weather.REPEATED)
        client.sendall(PING + PUBLISH)
        assert received(server, 2 + 2 * len(PUBLISH)) == PING + PUBLISH + PUBLISH


@pytest.mark.parametrize("weather", [Weather.CUT, Weather.TRUNCATED])
def test_a_cut_line_ends_in_the_middle(
    lines: tuple[Proxy, socket.socket], weather: Weather
) -> None:
    proxy, _ = lines
    client, server = connected(*lines)
    with client, server:
        proxy.turn(weather)
        try:
            client.sendall(PUBLISH)
        except ConnectionError:
            assert weather is Weather.CUT
        got = received(server, len(PUBLISH))
        assert len(got) < len(PUBLISH)
        assert PUBLISH.startswith(got)


def test_a_silent_line_holds_everything_back_and_loses_nothing(
    lines: tuple[Proxy, socket.socket],
) -> None:
    proxy, _ = lines
    client, server = connected(*lines)
    with client, server:
        proxy.turn(Weather.SILENT)
        client.sendall(PUBLISH)
        server.settimeout(0.3)
        with pytest.raises(TimeoutError):
            server.recv(1)
        proxy.turn(Weather.CALM)
        server.settimeout(5)
        assert received(server, len(PUBLISH)) == PUBLISH


def test_unix_sockets_are_lines_as_well(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as far:
        far.bind(str(tmp_path / "far"))
        far.listen()
        proxy = Proxy(tmp_path / "near", tmp_path / "far", seed="1")
        proxy.start()

        def say_hello() -> None:
            with far.accept()[0] as server:
                server.sendall(b"hello")

        greeter = threading.Thread(target=say_hello)
        greeter.start()
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.settimeout(5)
            client.connect(str(tmp_path / "near"))
            assert received(client, 5) == b"hello"
        greeter.join()
        proxy.stop()
