"""Checks the translations: every one is there, and keeps the placeholders of its text."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import polib

_PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\w*\}")


def problems_of(path: Path) -> list[str]:
    """Return a line for everything that is wrong with the catalogue `path`; none if it is good.

    Also makes sure that it compiles, as it does when the program starts.
    """
    try:
        catalogue = polib.pofile(str(path))
        catalogue.to_binary()
    except (OSError, ValueError) as error:
        return [f"{path}: {error}"]
    problems = []
    for entry in catalogue:
        if entry.obsolete:
            continue
        where = f"{path}:{entry.linenum}: {entry.msgid!r}"
        translations = list(entry.msgstr_plural.values()) or [entry.msgstr]
        allowed = set(_PLACEHOLDER.findall(entry.msgid + entry.msgid_plural))
        if entry.fuzzy or not all(translations):
            problems.append(f"{where} is not translated")
        elif any(set(_PLACEHOLDER.findall(text)) - allowed for text in translations):
            problems.append(f"{where} has a placeholder that its text does not have")
    return problems


def main() -> int:
    """Check every catalogue of the package; the exit status is 1 if something is wrong."""
    catalogues = sorted((Path(__file__).parent / "locale").glob("*/LC_MESSAGES/*.po"))
    problems = [problem for path in catalogues for problem in problems_of(path)]
    for problem in problems:
        print(problem)
    return 1 if problems or not catalogues else 0


if __name__ == "__main__":
    sys.exit(main())
