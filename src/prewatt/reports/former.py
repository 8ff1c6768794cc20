"""Reads those who have left: found by name, number, contact or place, the latest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prewatt.access.scope import Actor, scope
from prewatt.reports.lists import Listing
from prewatt.reports.paging import Mark, Neighbours, Page, words
from prewatt.reports.place import place_of, rows
from prewatt.reports.units import unit_name

#: So many of those who have left are shown under the accounts that a search finds.
SHORT: Final = 10


@dataclass(frozen=True, slots=True)
class FormerRow:
    """A closed account of a customer. ``since`` is None where a let was cancelled before it began."""

    account_id: int
    number: str
    customer: str
    unit: str
    building: str
    since: datetime | None
    until: datetime
    left_micro: int
    refund_micro: int


FormerList = Listing[FormerRow]

_FORMER: Final = """
SELECT a.id, a.number, c.name, coalesce(b.code, ''), coalesce(u.code, ''), coalesce(b.name, ''),
       lower(t.period), a.closed_at, coalesce(s.available, 0),
       coalesce((SELECT sum(r.amount_micro) FROM refund r WHERE r.account_id = a.id), 0)::bigint
FROM account a
JOIN customer c ON c.id = a.customer_id
LEFT JOIN account_state s ON s.account_id = a.id
LEFT JOIN LATERAL (SELECT unit_id, period FROM tenancy n WHERE n.account_id = a.id
    ORDER BY lower(n.period) DESC LIMIT 1) t ON true
LEFT JOIN temporary_let l ON l.account_id = a.id
LEFT JOIN unit u ON u.id = coalesce(t.unit_id, l.unit_id)
LEFT JOIN building b ON b.id = u.building_id
WHERE a.property_id = %(property)s AND a.closed_at IS NOT NULL
  AND lower(concat_ws(' ', c.name, b.name, b.code || '-' || u.code, a.number, c.email, c.phone))
      LIKE ALL (%(words)s)
"""


def former_customers(
    *, actor: Actor, now: datetime, query: str, page: Page | None = None
) -> FormerList:
    """Closed accounts that hold every word of a text, the latest to leave first."""
    page = page or Page(limit=SHORT)
    with scope(actor):
        place = place_of(actor)
        given = {"property": place.property_id, "words": words(query)} | page.given()
        counted = f"SELECT count(*) FROM ({_FORMER}) f"  # noqa: S608 - our own statement
        ((total,),) = rows(counted, given)
        where = page.where(("a.closed_at", "a.id"), "(%(mark_at)s, %(mark_id)s)", falls=True)
        found = rows(f"{_FORMER} AND {where}", given) if total else []
    shown, is_before, is_after = page.cut(found)
    marks = [Mark.of_time(row[7], row[0]) for row in shown]
    return Listing(
        place, now, tuple(_former(row) for row in shown), int(total),
        beside=Neighbours.of(marks, is_before=is_before, is_after=is_after),
    )  # fmt: skip


def _former(row: tuple[object, ...]) -> FormerRow:
    account_id, number, customer, building, unit, name, since, until, left, refund = row
    place = unit_name(str(building), str(unit)) if unit else ""
    assert since is None or isinstance(since, datetime)
    assert isinstance(until, datetime)
    return FormerRow(
        int(str(account_id)), str(number), str(customer), place, str(name), since, until,
        int(str(left)), int(str(refund)),
    )  # fmt: skip
