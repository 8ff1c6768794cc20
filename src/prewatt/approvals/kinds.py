"""The kinds of change that others agree to, each known by its code to who approves.

A package that owns a change registers its kind when it is loaded. ``carry_out`` makes the effect in the
transaction of the last approval, by a function of the database that asks for that very approval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import DatabaseError

from prewatt.access.scope import Actor

#: The SQLSTATE by which a function of the database says that the world has changed; its message is the code.
CHANGED_STATE: Final = "PW001"


class Changed(Exception):
    """The world is not any more as it was proposed on; ``what`` is a stable word. Nothing was done."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass(frozen=True, slots=True)
class Agreed:
    """What was agreed to: the proposal, whose it was, and the change word for word."""

    proposal_id: int
    property_id: int
    subject: str
    effect: Mapping[str, Any]
    reason: str
    made_by: str

    @property
    def audited(self) -> dict[str, object]:
        """What the audit of the effect says of it: its number, and who asked for it."""
        return {"proposal": self.proposal_id, "made_by": self.made_by}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. ``carry_out`` raises `Changed`; ``in_emergency`` says of an effect whether one
    administrator may do it at once, because it restores supply or stops harm.
    """

    code: str
    carry_out: Callable[[Actor, Agreed, datetime], None]
    in_emergency: Callable[[Mapping[str, Any]], bool] = lambda _effect: False


_KINDS: Final[dict[str, Kind]] = {}


def register(kind: Kind) -> None:
    """Make a kind known; the same again changes nothing."""
    _KINDS[kind.code] = kind


def kind_of(code: str) -> Kind:
    """The kind of a code. Raises KeyError."""
    return _KINDS[code]


def codes() -> frozenset[str]:
    """The codes of all kinds that there are."""
    return frozenset(_KINDS)


@contextmanager
def saying_what_changed() -> Iterator[None]:
    """Turn the database's word for a changed world into `Changed`."""
    try:
        yield
    except DatabaseError as error:
        cause = error.__cause__
        if getattr(cause, "sqlstate", None) != CHANGED_STATE:
            raise
        diag = getattr(cause, "diag", None)
        raise Changed(str(diag.message_primary if diag else cause)) from error
