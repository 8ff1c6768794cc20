"""Where a deed comes from: which request or process, from what address, with what browser.

The edge says it once (the web for each request, a command or a worker for its whole process), and
the scope that every operation opens hands it to the database as the setting ``prewatt.request`` of
its transaction. There it is the default of the audit's own columns, so that neither an operation nor
a function of the database has to know of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """One request, or one process. ``browser`` is a digest of what the browser calls itself."""

    request: str
    address: str = ""
    browser: str = ""

    def words(self, duty: str) -> str:
        """The four words of ``prewatt.request``: request, duty, address, browser."""
        return " ".join(_word(each) for each in (self.request, duty, self.address, self.browser))


#: Several requests that share one transaction: each of their events is told its own, the others none.
SEVERAL = Origin("several")

_process = Origin("prewatt")
_request: ContextVar[Origin | None] = ContextVar("request", default=None)


def name_process(name: str, *, address: str = "") -> None:
    """Say once what this process is: ``worker``, ``cli:import``."""
    global _process  # noqa: PLW0603 - a process has one name
    _process = Origin(name, address)


def origin() -> Origin:
    """Where what is done here and now comes from."""
    return _request.get() or _process


@contextmanager
def coming_from(where: Origin) -> Iterator[None]:
    """Let everything inside come from there."""
    before = _request.set(where)
    try:
        yield
    finally:
        _request.reset(before)


def browser_digest(calls_itself: str) -> str:
    """Twelve digits that tell browsers apart without keeping what they say of themselves."""
    return hashlib.sha256(calls_itself.encode()).hexdigest()[:12] if calls_itself else ""


def _word(text: str) -> str:
    """The text as one word of at most 64 signs; nothing in it can end the word or the line."""
    return "".join(each for each in text[:64] if each.isprintable() and not each.isspace())
