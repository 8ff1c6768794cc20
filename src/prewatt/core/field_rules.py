"""How long a device in the field may be silent before a person is called, and within what bounds that is set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class FieldRules:
    """Of a property. ``hear_within_s``: from a device's fitting to its first word, in seconds;
    ``concentrator_silent_s``: from a concentrator's last word on.
    """

    hear_within_s: int = 24 * 3_600
    concentrator_silent_s: int = 2 * 3_600


#: What a rule may be, by its name: least and most, in seconds.
BOUNDS: Final = {"hear_within_s": (3_600, 30 * 86_400), "concentrator_silent_s": (300, 7 * 86_400)}


class FieldRulesRefused(ValueError):
    """One rule that nobody may set; ``name`` says which."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is out of bounds")
        self.name = name


def refuse_out_of_bounds(rules: FieldRules) -> None:
    """Raises `FieldRulesRefused`."""
    for name, (least, most) in BOUNDS.items():
        if not least <= getattr(rules, name) <= most:
            raise FieldRulesRefused(name)
