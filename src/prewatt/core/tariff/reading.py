"""The shapes that a tariff document is made of, each read with its place or refused.

`place` is where a value stands in the document; a refusal carries it with one sentence of reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, TypeVar

from prewatt.core.tariff.words import MAX_LABEL, TariffRefused

_WORD: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_SHOWN: Final = 60
_Choice = TypeVar("_Choice", bound=StrEnum)
_Part = TypeVar("_Part")


def shown(value: object) -> str:
    """A value inside a reason, cut short: whoever sent a megabyte does not get it back."""
    written = repr(value)
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}…"


def mapping(value: object, place: str) -> Mapping[str, object]:
    """A JSON object."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TariffRefused(place, "must be an object")
    return value


def sequence(value: object, place: str, *, most: int | None = None) -> Sequence[object]:
    """A JSON array that is not empty."""
    if not isinstance(value, list | tuple) or not value:
        raise TariffRefused(place, "must be a list with at least one entry")
    if most is not None and len(value) > most:
        raise TariffRefused(place, f"must have at most {most} entries")
    return value


def entry_of(
    value: object, place: str, *, needed: Iterable[str] = (), optional: Iterable[str] = ()
) -> Mapping[str, object]:
    """An object with every needed key and none that is unknown."""
    entry = mapping(value, place)
    needed, optional = set(needed), set(optional)
    for key in sorted(needed - entry.keys()):
        raise TariffRefused(place, f"lacks {key!r}")
    for key in sorted(entry.keys() - needed - optional):
        raise TariffRefused(place, f"has the unknown entry {shown(key)}")
    return entry


def entries_of(
    document: Mapping[str, object], key: str, most: int, read: Callable[[object, str], _Part]
) -> tuple[_Part, ...]:
    """The parts of an optional list of the document, in its order."""
    if key not in document:
        return ()
    items = sequence(document[key], key, most=most)
    return tuple(read(item, f"{key}[{index}]") for index, item in enumerate(items))


def only_one_of(entry: Mapping[str, object], place: str, keys: Sequence[str]) -> str:
    """The one of several keys that excludes the others."""
    found = [key for key in keys if key in entry]
    if len(found) != 1:
        raise TariffRefused(place, f"must have exactly one of {', '.join(keys)}")
    return found[0]


def word(value: object, place: str) -> str:
    """A short name for machines: of a band, a season, a code."""
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise TariffRefused(place, f"{shown(value)} must be a short word of a-z, 0-9, '_' and '-'")
    return value


def text(value: object, place: str, limit: int) -> str:
    """A text for people, on one line."""
    if (
        not isinstance(value, str)
        or not value.strip()
        or len(value) > limit
        or not value.isprintable()
    ):
        raise TariffRefused(place, f"must be a text of 1 to {limit} printable characters")
    return value


def label(entry: Mapping[str, object], place: str, default: str) -> str:
    """What people read for a code; the code itself where nothing is said."""
    return text(entry["label"], f"{place}.label", MAX_LABEL) if "label" in entry else default


def whole(value: object, place: str, least: int, most: int) -> int:
    """A whole JSON number in [least, most]."""
    # JSON's true is a number in Python.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise TariffRefused(place, f"must be a whole number from {least} to {most}")
    return value


def flag(entry: Mapping[str, object], place: str, key: str) -> bool:
    """A JSON true or false, false where nothing is said."""
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise TariffRefused(f"{place}.{key}", "must be true or false")
    return value


def choice(value: object, place: str, choices: type[_Choice]) -> _Choice:
    """One of the words of an enumeration."""
    if not isinstance(value, str) or value not in list(choices):
        raise TariffRefused(place, f"{shown(value)} is not one of {', '.join(choices)}")
    return choices(value)
