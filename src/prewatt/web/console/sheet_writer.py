"""Writes every file that a spreadsheet may open, so that no cell is one that it would run as a formula."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

#: A spreadsheet of the Far East takes the wide forms of these signs as it takes the narrow ones.
_WIDE = "\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\N{MINUS SIGN}", *_WIDE)
_FIGURE: Final = re.compile(r"-[0-9]+(\.[0-9]+)?")


def guarded(text: str) -> str:
    """The text, with an apostrophe before it when a spreadsheet could take it for a formula."""
    return f"'{text}" if text.startswith(_DANGEROUS) else text


class SheetWriter:
    """A CSV writer (RFC 4180) whose every cell is guarded; a negative figure is a figure."""

    def __init__(self, file: Any) -> None:
        self._writer = csv.writer(file)

    def writerow(self, row: Sequence[str], /) -> None:
        """Write one row."""
        self._writer.writerow([_cell(each) for each in row])

    def writerows(self, rows: Iterable[Sequence[str]], /) -> None:
        """Write many."""
        for row in rows:
            self.writerow(row)


def _cell(text: str) -> str:
    return text if _FIGURE.fullmatch(text) else guarded(text)
