"""Some of a property's units: found by text or state, sorted, counted, summed up, and a page of them.

One statement looks at every unit and gives back counts and the ids of a page; a second one reads the
few units of that page by their keys. A file for a spreadsheet is read row by row with a cursor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection

from prewatt.core.vocabulary import BoardState, RelayState
from prewatt.reports.paging import Mark, Neighbours, Page, words
from prewatt.reports.place import rows
from prewatt.reports.today import Place
from prewatt.reports.units import (
    COLUMNS,
    FACADE,
    UNIT_NOW,
    UnitNow,
    looking_at_all,
    unit_of,
    units_by_id,
)

#: Later than every account that runs out, for sorting.
_NEVER: Final = 10**15
#: What a list of units can be sorted by: its keys, how a mark's key is found, a mark's value.
_OF_UNIT = """(SELECT b.position, b.id, -u.floor, u.position, u.code FROM unit u
    JOIN building b ON b.id = u.building_id WHERE u.id = %(mark_id)s)"""
_OF_VALUE = "(%(mark_value)s, %(mark_id)s)"
_ENDS = f"""CASE WHEN relay = {RelayState.OPEN:d} OR seconds_left / 86400 > 366 THEN {_NEVER}
    ELSE coalesce(seconds_left, {_NEVER}) END"""
SORTS: Final = {
    "unit": (FACADE, _OF_UNIT, "0"),
    "time": (("ends", "unit_id"), _OF_VALUE, "ends"),
    "balance": (("available", "unit_id"), _OF_VALUE, "available"),
}
_TEXT = "lower(concat_ws(' ', name, building, customer, number, serial)) LIKE ALL (%(words)s)"
_HELD = """EXISTS (SELECT FROM vee_case c
    WHERE c.meter_id = unit_now.meter_id AND c.property_id = %(property)s AND c.state = 'held')"""
#: What can be asked of a unit, each word a condition of ours.
CONDITIONS: Final = {
    "account": "account_id IS NOT NULL",
    "meter": "meter_id IS NOT NULL",
    "silent": "silent",
    "open": f"relay = {RelayState.OPEN:d}",
    "held": _HELD,
    "vacant": "vacant AND kind <> 'plant'",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which units: all ``conditions`` hold, and the text, state and kind if they are given."""

    conditions: tuple[str, ...]
    text: str = ""
    state: BoardState | None = None
    kind: str = ""
    sort: str = "unit"

    def _where(self) -> str:
        asked = [CONDITIONS[each] for each in self.conditions]
        asked += [_TEXT] if self.text.split() else []
        asked += ["state = %(state)s"] if self.state is not None else []
        asked += ["kind = %(kind)s"] if self.kind else []
        return " AND ".join(asked) or "true"

    def _given(self, place: Place, now: datetime) -> dict[str, Any]:
        state = None if self.state is None else int(self.state)
        return {"property": place.property_id, "now": now, "words": words(self.text),
                "state": state, "kind": self.kind}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Selection:
    """A page of units, with what the whole selection comes to; ``found_in`` counts it by building."""

    units: tuple[UnitNow, ...]
    total: int
    sum_micro: int
    found_in: dict[int, int]
    beside: Neighbours


def select_units(place: Place, now: datetime, wanted: Wanted, page: Page) -> Selection:
    """A page of the wanted units, inside the caller's scope."""
    keys, edge, value = SORTS[wanted.sort]
    columns = {"unit_id", "building_id", "available", *(key.lstrip("-") for key in keys)}
    with looking_at_all():
        found = rows(
            f"""WITH found AS MATERIALIZED (
                    SELECT {", ".join(sorted(columns))}
                    FROM (SELECT *, {_ENDS} AS ends FROM {UNIT_NOW} AS unit_now) AS unit_now
                    WHERE {wanted._where()}
                ), page AS (SELECT unit_id, {value} AS value FROM found WHERE {page.where(keys, edge)})
                SELECT (SELECT coalesce(sum(available), 0) FROM found),
                       ARRAY(SELECT unit_id FROM page), ARRAY(SELECT value::bigint FROM page),
                       ARRAY(SELECT building_id FROM found GROUP BY building_id ORDER BY building_id),
                       ARRAY(SELECT count(*) FROM found GROUP BY building_id ORDER BY building_id)""",  # noqa: S608 - our own expressions
            wanted._given(place, now) | page.given(),
        )
    together, ids, values, buildings, counts = found[0]
    marks = [Mark(value, unit_id) for unit_id, value in zip(ids, values, strict=True)]
    shown, is_before, is_after = page.cut(marks)
    by_id = {
        unit.unit_id: unit
        for unit in units_by_id(
            property_id=place.property_id, now=now, unit_ids=[mark.row_id for mark in shown]
        )
    }
    return Selection(
        tuple(by_id[mark.row_id] for mark in shown),
        sum(counts),
        int(together),
        dict(zip(buildings, counts, strict=True)),
        Neighbours.of(shown, is_before=is_before, is_after=is_after),
    )


def every_unit(place: Place, now: datetime, wanted: Wanted) -> Iterator[UnitNow]:
    """Every wanted unit in its order, read as it is needed, inside the caller's scope."""
    keys, _, _ = SORTS[wanted.sort]
    with looking_at_all(), connection.chunked_cursor() as cursor:
        cursor.execute(
            f"""SELECT {COLUMNS} FROM (SELECT *, {_ENDS} AS ends FROM {UNIT_NOW} AS unit_now) AS unit_now
                WHERE {wanted._where()} ORDER BY {", ".join(keys)}""",  # noqa: S608 - our own expressions
            wanted._given(place, now),
        )
        for row in cursor:
            yield unit_of(row)
