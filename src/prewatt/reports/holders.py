"""Whose account it is, for pages about money of people who may have left: unit, name, number, meter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from prewatt.access.scope import Actor, scope
from prewatt.reports.place import NoSuchThing, place_of, rows
from prewatt.reports.units import unit_name

#: Joins from ``account a`` to the customer and to the unit in which they live or lived last, or that
#: was let to them and never begun.
HOLDER_JOINS = """
LEFT JOIN customer c ON c.id = a.customer_id
LEFT JOIN LATERAL (SELECT unit_id FROM tenancy t WHERE t.account_id = a.id
    ORDER BY lower(t.period) DESC LIMIT 1) h ON true
LEFT JOIN unit u ON u.id = coalesce(h.unit_id, a.unit_id,
    (SELECT l.unit_id FROM temporary_let l WHERE l.account_id = a.id))
LEFT JOIN building b ON b.id = u.building_id
"""
#: The columns of a :class:`Who`, in its order.
HOLDER_COLUMNS = """a.id, a.number, coalesce(b.code, ''), coalesce(u.code, ''), coalesce(c.name, ''),
    a.closed_at"""
HOLDER_WIDTH = 6


@dataclass(frozen=True, slots=True)
class Who:
    """The holder of an account; ``closed_at`` is set once they have left."""

    account_id: int
    number: str
    unit: str
    customer: str
    closed_at: datetime | None

    def matches(self, query: str) -> bool:
        """Whether every word of the query is in unit, name or number."""
        text = f"{self.unit} {self.customer} {self.number}".casefold()
        return all(word in text for word in query.casefold().split())


def who(columns: Sequence[object]) -> Who:
    """A holder of the columns ``HOLDER_COLUMNS``."""
    account_id, number, building, unit, customer, closed_at = columns
    name = unit_name(str(building), str(unit)) if unit else ""
    assert closed_at is None or isinstance(closed_at, datetime)
    return Who(int(str(account_id)), str(number), name, str(customer), closed_at)


@dataclass(frozen=True, slots=True)
class Holding:
    """A holder with the money and the meters, as a page about to change them shows it."""

    who: Who
    available_micro: int
    meters: tuple[str, ...]


def holding_of(actor: Actor, account_id: int) -> Holding:
    """Whose account it is and what they have, inside the caller's scope. Raises NoSuchThing."""
    place = place_of(actor)
    found = rows(
        f"""SELECT {HOLDER_COLUMNS}, coalesce(s.available, 0),
                   ARRAY(SELECT DISTINCT m.serial FROM meter_assignment g
                         JOIN meter m ON m.id = g.meter_id
                         WHERE g.account_id = a.id AND (upper_inf(g.period) OR a.closed_at IS NOT NULL)
                         ORDER BY 1)
            FROM account a {HOLDER_JOINS} LEFT JOIN account_state s ON s.account_id = a.id
            WHERE a.id = %s AND a.property_id = %s""",  # noqa: S608 - our own constants
        [account_id, place.property_id],
    )
    if not found:
        raise NoSuchThing(f"no account {account_id} in scope")
    row = found[0]
    return Holding(who(row[:HOLDER_WIDTH]), int(row[HOLDER_WIDTH]), tuple(row[HOLDER_WIDTH + 1]))


def holding_by_id(*, actor: Actor, account_id: int) -> Holding:
    """``holding_of`` for who has no scope open. Raises NoSuchThing."""
    with scope(actor):
        return holding_of(actor, account_id)
