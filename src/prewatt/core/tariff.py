"""The Prewatt tariff format: a price plan that a person can read, checked before any number is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class TariffRefused(ValueError):
    """`place` (such as `energy.schedule[0].periods[2]`) and `reason`, a full sentence."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Tariff:
    """Frozen and hashable."""

    def canonical_json(self) -> bytes:
        raise NotImplementedError

    def digest(self) -> bytes:
        raise NotImplementedError


def parse_tariff(document: Mapping[str, object]) -> Tariff:
    raise NotImplementedError
