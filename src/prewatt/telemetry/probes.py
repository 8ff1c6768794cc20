"""Whether a process lives and is ready, and its metrics, over HTTP on loopback.

`/livez` fails when a loop stands still: kill the process and start it afresh. `/readyz` fails when
something that the work needs is away: send it nothing and wait. `/metrics` is Prometheus' text
format. 200 is yes and 503 is no; the body says why, in JSON.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import REGISTRY, make_wsgi_app

from prewatt.telemetry.pulse import PULSE, Pulse

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

ADDRESS_VARIABLE: Final = "PREWATT_OPS"

Check = Callable[[], str]
"""Says what is wrong in a few words, or nothing."""


class BadAddress(ValueError):
    """The address is not `HOST:PORT` on loopback."""


class Probes:
    """The answers of one process; `checks` are asked for each `/readyz`."""

    def __init__(self, checks: Mapping[str, Check], *, pulse: Pulse = PULSE) -> None:
        self._checks = dict(checks)
        self._pulse = pulse
        self._metrics = make_wsgi_app(REGISTRY)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        match environ.get("PATH_INFO"):
            case "/metrics":
                shown: Iterable[bytes] = self._metrics(environ, start_response)
                return shown
            case "/livez":
                return _answer(self._standing_still(), start_response)
            case "/readyz":
                return _answer(self._standing_still() | self._failing(), start_response)
            case _:
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"/livez, /readyz or /metrics\n"]

    def _standing_still(self) -> dict[str, str]:
        still = self._pulse.standing_still()
        return {name: f"stands still for {seconds:.0f} s" for name, seconds in still.items()}

    def _failing(self) -> dict[str, str]:
        found = {}
        for name, check in self._checks.items():
            try:
                trouble = check()
            except Exception as error:
                trouble = type(error).__name__
            if trouble:
                found[name] = trouble
        return found


def _answer(troubles: Mapping[str, str], start_response: StartResponse) -> Iterable[bytes]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if troubles else HTTPStatus.OK
    body = json.dumps({"ok": not troubles, "troubles": dict(troubles)}).encode() + b"\n"
    start_response(
        f"{status.value} {status.phrase}",
        [("Content-Type", "application/json"), ("Content-Length", str(len(body)))],
    )
    return [body]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """A probe each second is no news."""


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`. Raises BadAddress, also for what is not loopback."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not (is_loopback and port.isdecimal() and int(port) < 65_536):
        raise BadAddress(f"{ADDRESS_VARIABLE} is HOST:PORT on loopback, not {address!r}")
    return host, int(port)


def serve(address: str, probes: Probes) -> WSGIServer:
    """Answer on `address` in a thread of its own until `shutdown()`.

    Raises BadAddress, or OSError where the port is taken.
    """
    host, port = parse_address(address)
    server = make_server(host, port, probes, server_class=_Server, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    log.info("probes and metrics on %s:%d", host, server.server_port)
    return server
