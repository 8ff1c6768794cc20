"""The values that URDB items are made of, each read with its place or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

_SHOWN: Final = 40
_MOST_DIGITS: Final = 40
_MOST_EXPONENT: Final = 15


class UrdbRefused(ValueError):
    """An item holds something that Prewatt cannot honour. `place` is a path such as
    `energyratestructure[0][1].unit`, `reason` one sentence without a full stop.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


def shown(value: object) -> str:
    """A value inside a reason, cut short."""
    written = str(value) if isinstance(value, Decimal) else repr(value)
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}…"


def holds_nothing(value: object) -> bool:
    """Whether a field is there without saying anything: null, an empty text, list or object."""
    return value is None or (isinstance(value, str | list | dict) and not value)


def entry(value: object, place: str, known: frozenset[str]) -> Mapping[str, object]:
    """An object without unknown keys."""
    if not isinstance(value, dict):
        raise UrdbRefused(place, "must be an object")
    for key in value:
        if key not in known and not holds_nothing(value[key]):
            raise UrdbRefused(place, f"holds {shown(key)}, which Prewatt does not know")
    return value


def sequence(value: object, place: str, size: int | None = None) -> Sequence[object]:
    """A list that is not empty, of `size` entries where that is given."""
    if not isinstance(value, list) or not value:
        raise UrdbRefused(place, "must be a list with at least one entry")
    if size is not None and len(value) != size:
        raise UrdbRefused(place, f"must have {size} entries, not {len(value)}")
    return value


def number(value: object, place: str) -> Fraction:
    """A JSON number exactly as it was written; a float stands for its shortest decimal."""
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise UrdbRefused(place, f"must be a number, not {shown(value)}")
    exact = Decimal(value)
    if not exact.is_finite():
        raise UrdbRefused(place, f"must be a finite number, not {shown(value)}")
    # Before anything is computed: 1E+999999999 is a short text and a very long integer.
    _, digits, exponent = exact.as_tuple()
    assert isinstance(exponent, int), "a finite number has a whole exponent"
    if (
        len(digits) > _MOST_DIGITS
        or abs(exponent) > _MOST_DIGITS
        or (exact and abs(exact.adjusted()) > _MOST_EXPONENT)
    ):
        raise UrdbRefused(place, f"{shown(exact)} is out of any sensible range")
    return Fraction(exact)


def position(value: object, place: str, size: int) -> int:
    """A position in a list of `size` entries."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < size:
        raise UrdbRefused(place, f"{shown(value)} is none of the {size} periods")
    return value


def one_line(value: object, limit: int) -> str:
    """A text for people on one line of at most `limit` characters; nothing is computed from it."""
    if not isinstance(value, str):
        return ""
    line = " ".join("".join(each if each.isprintable() else " " for each in value).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
