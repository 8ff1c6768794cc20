"""The web's edge to time: views ask here, and whoever starts the process says which clock it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

_clock: Callable[[], datetime] | None = None


def use(clock: Callable[[], datetime]) -> None:
    """Set the clock of this process: real time, or the demonstration's."""
    global _clock
    _clock = clock


def now() -> datetime:
    """The present instant, UTC."""
    return _clock() if _clock is not None else datetime.now(UTC)
