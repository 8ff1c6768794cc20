"""Live pages: one LISTEN connection for the process, one small stream of bells for each open page.

A bell says only that something changed at a property; the page then asks for its part, through the
same view, permissions and scope as the first time. A stream holds no transaction and no database
connection, rings at most once in ``PAUSE_S`` and says that it is alive every ``BEAT_S``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from functools import cache

import psycopg
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, StreamingHttpResponse

from prewatt.runtime.bells import place_rung
from prewatt.web.session import actor_of

CHANNELS = ("changed", "supply_order", "message")
PAUSE_S = 0.7
BEAT_S = 15.0
#: A process serves at most so many open pages; the next one is asked to come back later.
STREAMS_MAX = 500

_log = logging.getLogger("prewatt.web.live")


class Bell:
    """Counts changes by property and wakes whoever waits; lives on one event loop."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._counts: defaultdict[int, int] = defaultdict(int)
        self._rung = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.streams = 0

    def start(self) -> None:
        """Begin to listen, once."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._listen())

    def count(self, property_ids: tuple[int, ...]) -> int:
        """How many changes these properties had since the process began to listen."""
        return sum(self._counts[each] for each in property_ids)

    async def wait(self, property_ids: tuple[int, ...], *, since: int, timeout_s: float) -> int:
        """The count once it differs from ``since``, or as it is when the time is over."""
        async with self._rung:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._rung.wait_for(lambda: self.count(property_ids) != since)
            except TimeoutError:
                pass
        return self.count(property_ids)

    async def ring(self, property_id: int) -> None:
        """Count one change and wake everyone who waits."""
        async with self._rung:
            self._counts[property_id] += 1
            self._rung.notify_all()

    async def _listen(self) -> None:
        """Listen for ever; after a lost connection every page is rung, as nobody knows what it missed."""
        pause_s = 0.5
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._dsn, autocommit=True
                ) as line:
                    for channel in CHANNELS:
                        await line.execute(f"LISTEN {channel}")
                    pause_s = 0.5
                    for property_id in tuple(self._counts):
                        await self.ring(property_id)
                    async for note in line.notifies():
                        place = place_rung(note.payload)
                        if place is not None:
                            await self.ring(place)
            except psycopg.Error as error:
                _log.warning("the live connection was lost (%s); again in %s s", error, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 30.0)


@cache
def _the_bell() -> Bell:
    """The process's bell; made on the first stream, when there is an event loop."""
    return Bell(settings.DSN)


def _let_go() -> None:
    """Close the database connection that the sign-in check used, in the thread that holds it."""
    connection.close()


async def live_view(request: HttpRequest) -> StreamingHttpResponse:
    """The stream of bells for the properties of the signed-in person."""
    property_ids = actor_of(request).property_ids
    await sync_to_async(_let_go)()
    ringing = _the_bell()
    ringing.start()
    if ringing.streams >= STREAMS_MAX:
        return StreamingHttpResponse((), status=503, headers={"Retry-After": "30"})
    response = StreamingHttpResponse(
        _bells(ringing, property_ids), content_type="text/event-stream"
    )
    response["X-Accel-Buffering"] = "no"
    return response


async def _bells(ringing: Bell, property_ids: tuple[int, ...]) -> AsyncIterator[bytes]:
    ringing.streams += 1
    seen = ringing.count(property_ids)
    try:
        yield b"retry: 2000\n: open\n\n"
        while True:
            count = await ringing.wait(property_ids, since=seen, timeout_s=BEAT_S)
            if count == seen:
                yield b": alive\n\n"
                continue
            seen = count
            yield f"event: changed\ndata: {count}\n\n".encode()
            await asyncio.sleep(PAUSE_S)
    finally:
        ringing.streams -= 1
