"""`prewatt web`: serves the pages on loopback with Granian, one process, many open pages.

A reverse proxy that speaks TLS stands before it in production; Prewatt itself never listens on
another address than this machine's own.
"""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Callable
from typing import Any

from prewatt.runtime.state import CannotRunError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The address and port."""
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, default=8000)


def application() -> Callable[..., Any]:
    """Make the application inside a worker: Django set up, on this process's clock."""
    from prewatt import wiring

    wiring.start_django()
    from django.core.asgi import get_asgi_application
    from django.db import connections

    from prewatt.web import clock

    # Requests run in threads of their own, which end with them: a kept connection would be lost.
    connections.settings["default"]["CONN_MAX_AGE"] = 0
    clock.use(wiring.now)
    return get_asgi_application()


def run(arguments: argparse.Namespace) -> int:
    """Serve until asked to stop. Raises CannotRunError for an address that is not loopback."""
    if not ipaddress.ip_address(arguments.host).is_loopback:
        raise CannotRunError(f"{arguments.host} is not a loopback address; put a proxy before it")
    from granian import Granian
    from granian.constants import Interfaces

    from prewatt import wiring
    from prewatt.web.ui import messages

    wiring.start_django()
    messages.compile_all()
    Granian(
        "prewatt.serve:application",
        factory=True,
        address=arguments.host,
        port=arguments.port,
        interface=Interfaces.ASGINL,
        workers=1,
        websockets=False,
        log_access=False,
        process_name=None,
    ).serve()
    return 0
