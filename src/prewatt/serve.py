"""`prewatt web`: serves the pages on loopback with Granian, one process, many open pages.

A reverse proxy that speaks TLS stands before it in production; Prewatt itself never listens on
another address than this machine's own.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import ipaddress
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from prewatt.runtime.readiness import say_ready
from prewatt.runtime.state import CannotRunError

_PORT_POLL_S = 0.02


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The address and port."""
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--wait-for-port",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="prepare while another program still has the port, and wait so long for it (default: 0)",
    )


def application() -> Callable[..., Any]:
    """Make the application inside a worker: Django set up, on this process's clock, with a desk.

    The desk opens before the first request and is drained after the last one.
    """
    from prewatt import wiring
    from prewatt.vital_signs import start_probes

    wiring.start_django("web")
    start_probes()
    from django.core.asgi import get_asgi_application
    from django.db import connections

    from prewatt.vending.desk import Desk
    from prewatt.web import clock, till
    from prewatt.web.body_limit import limited

    # Requests run in threads of their own, which end with them: each leaves its connection to the next.
    connections.settings["default"].update(CONN_MAX_AGE=0, ENGINE="prewatt.web.kept_connections")
    clock.use(wiring.now)
    pages, desk = get_asgi_application(), Desk()

    async def serve_one(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await pages(scope, receive, send)
            return
        await receive()
        desk.start()
        till.use(desk)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(desk.stop)
        await send({"type": "lifespan.shutdown.complete"})

    return limited(serve_one)


def refuse_open_hosts() -> None:
    """Raise CannotRunError where browsers of other machines would come, and nobody said whether by TLS."""
    from django.conf import settings

    beyond = sorted(set(settings.ALLOWED_HOSTS) - {"127.0.0.1", "localhost", "[::1]"})
    if beyond and os.environ.get("PREWATT_TLS") not in ("0", "1"):
        raise CannotRunError(
            f"PREWATT_HOSTS names {', '.join(beyond)}: put a proxy that speaks TLS before and set "
            "PREWATT_TLS=1, or PREWATT_TLS=0 if passwords may be read on the way"
        )


def load_pages() -> None:
    """Load what every page needs once, so that the first visitor does not wait for it.

    That is the views, the templates, and the holidays: the first country asked for loads them all.
    """
    from django.template.loader import get_template
    from django.urls import get_resolver

    from prewatt.estate.calendars import holiday_dates
    from prewatt.web.settings import TEMPLATE_FOLDER

    assert get_resolver().url_patterns, "there are pages"
    holiday_dates("DE", 2026, 2026)
    for path in sorted(TEMPLATE_FOLDER.rglob("*.html")):
        get_template(str(path.relative_to(TEMPLATE_FOLDER)))


def await_port(host: str, port: int, *, timeout_s: float) -> None:
    """Return once the port is free; raises CannotRunError if it is still taken after `timeout_s`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + timeout_s
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise CannotRunError(
                        f"port {port} of {host} cannot be had: {error.strerror}"
                    ) from error
            else:
                return
        time.sleep(_PORT_POLL_S)


def run(arguments: argparse.Namespace) -> int:
    """Serve until asked to stop, ready as soon as only the port is missing.

    Raises CannotRunError for an address that is not loopback, and for a port that stays taken.
    """
    if not ipaddress.ip_address(arguments.host).is_loopback:
        raise CannotRunError(f"{arguments.host} is not a loopback address; put a proxy before it")
    from granian import Granian
    from granian.constants import Interfaces

    from prewatt import wiring
    from prewatt.web.ui import messages

    wiring.start_django("web")
    refuse_open_hosts()
    messages.compile_all()
    load_pages()
    say_ready()
    await_port(arguments.host, arguments.port, timeout_s=arguments.wait_for_port)
    Granian(
        "prewatt.serve:application",
        factory=True,
        address=arguments.host,
        port=arguments.port,
        interface=Interfaces.ASGI,
        workers=1,
        websockets=False,
        log_access=False,
        process_name=None,
    ).serve()
    return 0
