"""Lines of simulated meters in one selector: a broker that lets one of them wait holds up no other."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

from prewatt.devices import authority
from prewatt.devices.broker_files import Shown, write_client
from prewatt.hes.wire import TlsFiles
from prewatt.sim.line import Line


def line(
    name: str, at: socket.socket, selector: selectors.BaseSelector, tls: TlsFiles | None = None
) -> Line:
    return Line(
        name, at.getsockname(), selector, subscriptions=[], tls=tls,
        on_up=lambda: None, on_down=lambda: None, on_message=lambda *_: None,
    )  # fmt: skip


def files(folder: Path, name: str) -> TlsFiles:
    now = datetime.now(UTC)
    root, key = authority.make_root("Line", now=now), authority.new_key()
    request = authority.make_request(name, key)
    made = authority.issue(root, request, serial=name, now=now)
    shown = Shown(made, root.certificate, key)
    write_client(folder, root=root.certificate, name=name, client=shown)
    return TlsFiles(folder, name)


def _serve(selector: selectors.BaseSelector) -> None:
    for key, events in selector.select(0.1):
        key.data.service(events)


def _heard(opened: socket.socket, selector: selectors.BaseSelector) -> bytes:
    for _ in range(50):
        _serve(selector)
        with contextlib.suppress(BlockingIOError):
            return opened.recv(64)
    return b""


def test_a_broker_that_never_answers_a_handshake_holds_up_nobody(tmp_path: Path) -> None:
    with (
        selectors.DefaultSelector() as selector,
        socket.create_server(("127.0.0.1", 0)) as silent,
        socket.create_server(("127.0.0.1", 0)) as broker,
    ):
        waiting = line("A", silent, selector, files(tmp_path, "A"))
        other = line("B", broker, selector)
        began_s = time.monotonic()
        waiting.connect(began_s)
        other.connect(began_s)
        broker.settimeout(5)
        opened, _ = broker.accept()
        with opened:
            opened.setblocking(False)
            assert _heard(opened, selector)[:1] == b"\x10", "a CONNECT, while the first still waits"
        assert waiting.is_opening and not waiting.is_due(began_s + 20)
        assert time.monotonic() - began_s < 5
        # Nobody waits for ever: it is given up, and tried again after its time.
        waiting.misc(began_s + 31)
        assert not waiting.is_opening and waiting.is_due(began_s + 60)
        waiting.connect(began_s)
        waiting.disconnect()
        assert not waiting.is_opening
        # A port where nobody listens is an attempt that failed, not one that lasts.
        silent.close()
        broker.close()
        gone = Line("C", ("127.0.0.1", 1), selector, subscriptions=[], on_up=lambda: None,
                    on_down=lambda: None, on_message=lambda *_: None)  # fmt: skip
        gone.connect(began_s)
        for _ in range(10):
            if gone.is_opening:
                _serve(selector)
        assert not gone.is_opening
        assert gone.is_due(began_s + 60)
        other.close()
