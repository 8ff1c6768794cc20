"""A proxy between two parties that makes the line as bad as it can be: slow, silent, cut, cut in mid-packet.

Works on bytes, for TCP and for Unix sockets alike. Towards a broker it can also repeat: that needs to know where a
packet ends, so that what the broker gets is the same message twice and not noise.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Coroutine
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any, Final

Address = tuple[str, int] | Path
"""Host and port, or the path of a Unix socket."""

_CHUNK: Final = 16_384
_PUBLISH: Final = 3
_DELAY_S_MAX: Final = 0.4
_WAIT_S: Final = 10.0


class Weather(Enum):
    """What the line does at the moment."""

    CALM = "calm"
    #: Everything arrives, late.
    SLOW = "delayed"
    #: Connections stand, and nothing passes until the weather changes.
    SILENT = "silent"
    #: All connections are aborted, and new ones too.
    CUT = "cut"
    #: The next chunk passes in part, then its connection is aborted.
    TRUNCATED = "truncated"
    #: Messages towards the broker pass twice.
    REPEATED = "repeated"


class Proxy:
    """One line, in a thread of its own. `packets` says that the near side speaks MQTT to a broker."""

    def __init__(self, near: Address, far: Address, *, seed: str, packets: bool = False) -> None:
        self._near, self._far, self._packets = near, far, packets
        self._random = Random(seed)  # noqa: S311 - a drill is repeatable
        self._weather = Weather.CALM
        self._loop = asyncio.new_event_loop()
        self._changed: asyncio.Event | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._listening = threading.Event()
        self._stopped: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        """Listen; returns once that is so."""
        self._thread.start()
        if not self._listening.wait(_WAIT_S):
            raise OSError(f"the proxy does not listen on {self._near}")

    def stop(self) -> None:
        """End every connection and the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end)
            self._thread.join(_WAIT_S)

    def turn(self, weather: Weather) -> None:
        """Change the weather, from any other thread; returns once it has changed."""
        turned = threading.Event()

        def turn() -> None:
            self._turn(weather)
            turned.set()

        self._loop.call_soon_threadsafe(turn)
        turned.wait(_WAIT_S)

    # --- in the thread ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    def _end(self) -> None:
        assert self._stopped is not None
        self._stopped.set()

    def _turn(self, weather: Weather) -> None:
        self._weather = weather
        if self._changed is not None:
            self._changed.set()
            self._changed = asyncio.Event()
        if weather is Weather.CUT:
            self._abort_all()

    async def _serve(self) -> None:
        self._changed, self._stopped = asyncio.Event(), asyncio.Event()
        if isinstance(self._near, Path):
            server = await asyncio.start_unix_server(self._accept, self._near)
        else:
            server = await asyncio.start_server(self._accept, *self._near)
        self._listening.set()
        await self._stopped.wait()
        server.close()
        self._abort_all()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._weather is Weather.CUT:
            writer.transport.abort()
            return
        try:
            if isinstance(self._far, Path):
                far_reader, far_writer = await asyncio.open_unix_connection(self._far)
            else:
                far_reader, far_writer = await asyncio.open_connection(*self._far)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        there = self._pump(reader, far_writer, packets=self._packets)
        back = self._pump(far_reader, writer, packets=False)
        await _first_ends(there, back)
        for each in (writer, far_writer):
            self._writers.discard(each)
            each.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, packets: bool
    ) -> None:
        """Carry bytes one way until one side ends or the weather ends the connection."""
        rest = b""
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                while self._weather is Weather.SILENT:
                    assert self._changed is not None
                    self.counts["chunks held back"] += 1
                    await self._changed.wait()
                if self._weather is Weather.CUT:
                    # It was just being made when all others were cut.
                    return
                if self._weather is Weather.SLOW:
                    self.counts["chunks delayed"] += 1
                    await asyncio.sleep(self._random.uniform(0.0, _DELAY_S_MAX))
                if self._weather is Weather.TRUNCATED:
                    self.counts["connections truncated"] += 1
                    writer.write(data[: self._random.randrange(len(data))])
                    await writer.drain()
                    return
                if packets:
                    whole, rest = mqtt_packets(rest + data)
                    for packet in whole:
                        writer.write(packet)
                        if self._weather is Weather.REPEATED and packet[0] >> 4 == _PUBLISH:
                            self.counts["messages repeated"] += 1
                            writer.write(packet)
                else:
                    writer.write(data)
                await writer.drain()

    def _abort_all(self) -> None:
        self.counts["connections cut"] += len(self._writers) // 2
        for writer in self._writers:
            writer.transport.abort()


async def _first_ends(*pumps: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(each) for each in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # What is written already still leaves; a party that has ended will not read on.
        await asyncio.sleep(0)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def mqtt_packets(data: bytes) -> tuple[list[bytes], bytes]:
    """Cut a stream into whole MQTT packets; returns them and the rest that is not whole yet.

    MQTT 5, section 2.1.4: a byte of type, then the length in up to four bytes of seven bits each.
    """
    packets: list[bytes] = []
    at = 0
    while True:
        length = shift = 0
        head = at + 1
        while head < len(data):
            byte = data[head]
            length |= (byte & 0x7F) << shift
            shift += 7
            head += 1
            if byte < 0x80:
                break
        else:
            return packets, data[at:]
        if head + length > len(data):
            return packets, data[at:]
        packets.append(data[at : head + length])
        at = head + length
