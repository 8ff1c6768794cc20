"""The shape of what a message says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """Subjects and body lines in order; the first subject whose figures are all known is used."""

    subjects: tuple[str, ...]
    lines: tuple[str, ...]
