"""How many readings make a batch: as many as are committed in about a ninth of a second.

A large batch costs less for each reading, a small one is done sooner: meters are told sooner, and
accounts are locked no longer than whoever pays in wants to wait. What a reading takes depends on the
machine and on what else it does, so it is measured as batches go by. Of a bundle, account and watermark
move once for all instants of a meter, so its readings cost less and more of them make a batch.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

#: One batch in a hundred takes twice as long, where a checkpoint passes; that one too shall be done in a quarter.
COMMIT_TARGET_S: Final = 0.11
READINGS_MAX: Final = 16_000
#: Below it the cost of a batch itself shows; a slow disk would then make slow writers slower still.
READINGS_MIN: Final = 2_000
_BATCHES: Final = 8


class Pace:
    """The size of one loop's next batch; not shared between threads."""

    def __init__(self) -> None:
        self.readings = READINGS_MIN
        self._costs: deque[float] = deque(maxlen=_BATCHES)

    def took(self, readings: int, seconds: float) -> None:
        """So many readings were committed in so long. One slow batch of several counts for nothing: a
        checkpoint or a neighbour passes.
        """
        if readings < READINGS_MIN:
            return
        self._costs.append(seconds / readings)
        wanted = COMMIT_TARGET_S / max(median(self._costs), COMMIT_TARGET_S / READINGS_MAX)
        self.readings = max(READINGS_MIN, int(wanted))
