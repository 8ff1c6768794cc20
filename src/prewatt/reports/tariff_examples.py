"""The worked examples that come with Prewatt, to start a plan from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from prewatt.core.tariff import Tariff, load_tariff
from prewatt.core.tariff.words import FORMAT

_FOLDER: Final = "data/tariffs"


@dataclass(frozen=True, slots=True)
class Example:
    """A worked example under the name of its file, without its ending."""

    key: str
    tariff: Tariff


@cache
def examples() -> tuple[Example, ...]:
    """All of them, by name; what in the folder is no tariff, as the schema, is passed over."""
    found = []
    for file in (resources.files("prewatt") / _FOLDER).iterdir():
        if file.name.endswith(".json"):
            written = file.read_text(encoding="utf-8")
            if json.loads(written).get("format") == FORMAT:
                found.append(Example(file.name.removesuffix(".json"), load_tariff(written)))
    return tuple(sorted(found, key=lambda example: example.key))
