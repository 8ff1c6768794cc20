"""Refusals that are events: somebody tried what they may not.

The transaction in which something is refused is taken back, and an event written in it would go with
it. So an exception that is `Noticed` only says that it was raised; the edge, which gathers what was
said while it served one request, has it written afterwards, in a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar, Final

#: Of one request so many are kept: what it was refused after that says nothing new.
HEEDED_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Heeded:
    """One refusal: what was asked of (``permission``, ``proposal``, ``factor``) and why it was refused."""

    what: str
    why: str


_heeded: ContextVar[list[Heeded] | None] = ContextVar("heeded", default=None)


def heed(what: str, why: str) -> None:
    """Say that something was refused; outside a request, where nobody gathers, it says it to nobody."""
    gathered = _heeded.get()
    if gathered is not None and len(gathered) < HEEDED_MAX and Heeded(what, why) not in gathered:
        gathered.append(Heeded(what, why))


@contextmanager
def gathering() -> Iterator[None]:
    """Gather what is refused inside, until `gathered` takes it."""
    before = _heeded.set([])
    try:
        yield
    finally:
        _heeded.reset(before)


def gathered() -> tuple[Heeded, ...]:
    """What was refused so far, given once."""
    found = _heeded.get()
    if not found:
        return ()
    taken = tuple(found)
    found.clear()
    return taken


class Noticed(Exception):
    """An exception that is raised for one who tries what they may not; its first argument says why.

    ``what`` names what was refused, ``noticed`` the reasons that count as an attempt; None means all.
    """

    what: ClassVar[str]
    noticed: ClassVar[frozenset[str] | None] = None

    def __init__(self, why: str) -> None:
        super().__init__(why)
        if self.noticed is None or why in self.noticed:
            heed(self.what, why)
