"""The pulse of a process: its loops say that they turn, and one that stands still is found out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Beat:
    at_s: float
    longest_s: float


class Pulse:
    """When each loop last turned, and how long one turn may take. Thread-safe.

    `clock_s` counts seconds that nobody can set back.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._beats: dict[str, _Beat] = {}

    def beat(self, loop: str, *, longest_s: float = 60.0) -> None:
        """The loop turns now, and will again within `longest_s`."""
        with self._lock:
            self._beats[loop] = _Beat(self._clock_s(), longest_s)

    def forget(self, loop: str) -> None:
        """The loop has ended, as it should."""
        with self._lock:
            self._beats.pop(loop, None)

    def standing_still(self) -> Mapping[str, float]:
        """Loops that are overdue, and for how many seconds they have not turned."""
        now_s = self._clock_s()
        with self._lock:
            return {
                name: now_s - each.at_s
                for name, each in self._beats.items()
                if now_s - each.at_s > each.longest_s
            }


PULSE = Pulse()
"""The pulse of this process."""
