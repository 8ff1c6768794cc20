"""A form's state as the names and values that a browser sends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: Lists that a browser sends as one name with several values.
TICKED = ("on", "bands")


def named(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every field by its name."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from named(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and path.count(".") == 2 and path.rpartition(".")[2] in TICKED:
        yield from ((f"{path}[]", each) for each in value)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from named(inner, f"{path}.{number}")
    else:
        yield path, value
