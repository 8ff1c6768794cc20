"""Somebody who opens one account's page after the other, in a process of their own."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from multiprocessing.connection import Connection

from prewatt.benchmarks.city import ACCOUNTS_OF_PROPERTY, OPENED, City

#: Between two pages; ten looks a second are a busy back office.
_PAUSE_S = 0.1
_NOW = OPENED + timedelta(hours=12)
_STEP = 7_919


def view(pipe: Connection, dsn: str, city: City) -> None:
    """Open pages from each "begin" to the next "end", and answer with the seconds that each took."""
    os.environ["PREWATT_DSN"] = dsn
    os.environ.setdefault("PREWATT_SECRET_KEY", "a benchmark signs nothing")
    from prewatt import wiring

    wiring.start_django()
    from prewatt.access.scope import system_actor
    from prewatt.reports.account_query import account_page

    account_id = 1
    try:
        while pipe.recv() == "begin":
            waits: list[float] = []
            while not waits or not pipe.poll(_PAUSE_S):
                account_id = (account_id + _STEP) % city.accounts + 1
                property_id = (account_id - 1) // ACCOUNTS_OF_PROPERTY + 1
                began = time.perf_counter()
                actor = system_actor("bench", (property_id,))
                account_page(actor=actor, account_id=account_id, now=_NOW)
                waits.append(time.perf_counter() - began)
            pipe.recv()
            pipe.send(waits)
    except (EOFError, BrokenPipeError):
        return
