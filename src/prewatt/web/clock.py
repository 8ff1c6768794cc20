"""The web's edge to time: views ask here, and whoever starts the process says which clock it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime


class _Clock:
    """Holds the clock of this process."""

    def __init__(self) -> None:
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)


_CLOCK = _Clock()


def use(clock: Callable[[], datetime]) -> None:
    """Set the clock of this process: real time, or the demonstration's."""
    _CLOCK.now = clock


def now() -> datetime:
    """The present instant, UTC."""
    return _CLOCK.now()
