"""What happens to simulated meters at set instants, and how late their messages are: drawn from a seed, so repeatable."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from random import Random
from typing import Final

import msgspec

_PPM: Final = 1_000_000
#: A standard normal is below this in 99 of 100 draws.
_SLOW_SIGMA: Final = 2.326


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """At an instant (µs) a fault of a meter, or of its concentrator, is switched: `[at_us, serial, name, value]`."""

    at_us: int
    serial: str
    name: str
    value: int


class Way(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A radio between a meter and its server: half of what it carries takes ``median_ms``, one in a hundred ``slow_ms``.

    In between it is log-normal, as measured latencies of cellular networks nearly are. ``loss_ppm`` of it is lost.
    """

    median_ms: int = 0
    slow_ms: int = 0
    loss_ppm: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether it does nothing."""
        return self == Way()


class Weather:
    """The draws of one meter's radio, from the seed and its serial: however others talk, its own are the same."""

    def __init__(self, way: Way, seed: str, serial: str) -> None:
        self.lost = 0
        self._way = way
        self._random = Random(f"{seed} way {serial}")  # noqa: S311 - a simulation is repeated by its seed
        self._sigma = (
            math.log(way.slow_ms / way.median_ms) / _SLOW_SIGMA
            if 0 < way.median_ms < way.slow_ms
            else 0.0
        )

    def delay_us(self) -> int | None:
        """How long the next message takes; None for one that is lost."""
        if self._random.randrange(_PPM) < self._way.loss_ppm:
            self.lost += 1
            return None
        if self._sigma == 0.0:
            return self._way.median_ms * 1_000
        factor = math.exp(self._sigma * self._random.gauss(0.0, 1.0))
        # Nothing takes ten times as long as the slow ones: a network gives up before.
        return min(int(self._way.median_ms * 1_000 * factor), 10_000 * self._way.slow_ms)


class Later:
    """Calls that wait for their instants; those of one instant in the order in which they were put in."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0

    def at(self, at_us: int, call: Callable[[], None]) -> None:
        """Have a call wait."""
        self._number += 1
        heapq.heappush(self._heap, (at_us, self._number, call))

    def take(self, now_us: int) -> Iterable[Callable[[], None]]:
        """The calls whose time has come; what these put in comes, too, if it is time."""
        while self._heap and self._heap[0][0] <= now_us:
            yield heapq.heappop(self._heap)[2]
