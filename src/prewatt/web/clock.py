"""The web's edge to time: views ask here, and whoever starts the process says which clock it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

#: Clocks that differ by less are the same: two readings of one are never at one instant.
_SAME: Final = timedelta(seconds=5)


class _Clock:
    """Holds the clock of this process."""

    def __init__(self) -> None:
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)


_CLOCK = _Clock()


def use(clock: Callable[[], datetime]) -> None:
    """Set the clock of this process: real time, or the demonstration's."""
    _CLOCK.now = clock


def of_database(at: datetime) -> datetime:
    """An instant that the database's own clock gave, by the clock of this process.

    They are the same but in a demonstration, whose processes live at another time than its database.
    """
    ahead = now() - datetime.now(UTC)
    return at + ahead if abs(ahead) > _SAME else at


def now() -> datetime:
    """The present instant, UTC."""
    return _CLOCK.now()
