"""Pages of a list by key: the rows after one of them, or before it.

A page begins at a row and not at a number of rows, so nothing is shown twice or left out when rows
come in meanwhile, and the hundredth page costs what the first one does. A mark names a row by the
value it was sorted by and by its id: ``-3410000_17``. What is no mark of ours is the first page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from prewatt.core.civil_time import instant_us, utc_datetime

#: A list shows so many rows at a time.
PAGE: Final = 100
_MARK: Final = re.compile(r"(-?[0-9]{1,18})_([0-9]{1,18})")
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Mark:
    """A row's value in the order of the list (0 where the id says it) and its id."""

    value: int
    row_id: int

    def __str__(self) -> str:
        return f"{self.value}_{self.row_id}"

    @classmethod
    def of_time(cls, at: datetime, row_id: int) -> Mark:
        """The mark of a row in a list that is sorted by time."""
        return cls(instant_us(at), row_id)

    @property
    def at(self) -> datetime:
        """The value as an instant (µs); of a value that is none, the beginning of the calendar."""
        try:
            return utc_datetime(self.value)
        except (OverflowError, ValueError):
            return datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Page:
    """Which rows are asked for: those after a mark, those before one, or the first."""

    after: Mark | None = None
    before: Mark | None = None
    limit: int = PAGE

    @classmethod
    def of(cls, after: str, before: str, limit: int = PAGE) -> Page:
        """The page that an address names; of two marks the first counts."""
        start = _mark(after)
        return cls(start, None if start else _mark(before), limit)

    @property
    def mark(self) -> Mark | None:
        """The row at the page's edge."""
        return self.after or self.before

    def given(self) -> dict[str, object]:
        """The parameters of an edge: the mark's value, also as an instant, and its id."""
        mark = self.mark or Mark(0, 0)
        return {"mark_value": mark.value, "mark_at": mark.at, "mark_id": mark.row_id}

    def where(self, keys: Sequence[str], edge: str, *, falls: bool = False) -> str:
        """The condition and order by which a statement finds these rows, and one more.

        ``edge`` is the key of the mark's row; the order of the keys ``falls`` where the latest comes
        first. Before a mark the rows come in the other direction: `cut` turns them.
        """
        backwards = self.before is not None
        down = falls is not backwards
        row = ", ".join(keys)
        beyond = f"({row}) {'<' if down else '>'} {edge}" if self.mark else "true"
        order = ", ".join(f"{key} {'DESC' if down else 'ASC'}" for key in keys)
        return f"{beyond} ORDER BY {order} LIMIT {self.limit + 1}"

    def cut(self, found: Sequence[Row]) -> tuple[tuple[Row, ...], bool, bool]:
        """The rows to show in the list's order; whether there are some before and after them."""
        shown, is_more = tuple(found[: self.limit]), len(found) > self.limit
        if self.before is not None:
            return shown[::-1], is_more, True
        return shown, self.after is not None, is_more


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The marks by which the pages before and after this one are asked for; empty without one."""

    previous: str = ""
    next: str = ""

    @classmethod
    def of(cls, marks: Sequence[Mark], *, is_before: bool, is_after: bool) -> Neighbours:
        """Around the rows with these marks."""
        if not marks:
            return cls()
        return cls(str(marks[0]) if is_before else "", str(marks[-1]) if is_after else "")


#: A list that ends on its only page.
NOWHERE: Final = Neighbours()


def _mark(text: str) -> Mark | None:
    match = _MARK.fullmatch(text)
    return None if match is None else Mark(int(match[1]), int(match[2]))


def words(query: str) -> list[str]:
    """The patterns that a lower-case text is LIKE ALL of when it holds every word of the query."""
    return [f"%{_escaped(word)}%" for word in query.lower().split()] or ["%"]


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
