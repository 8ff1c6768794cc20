"""Reads customers to choose one from: found by name, contact or place, a page of them by name at a time.

Nobody scrolls through ten thousand names. A few are read at a time, by key, and who is chosen already
is named whatever is being looked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from prewatt.access.scope import Actor, require, scope
from prewatt.reports.paging import Mark, Neighbours, Page, words
from prewatt.reports.place import place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import unit_name

#: So many are offered at a time.
OFFERED: Final = 8


@dataclass(frozen=True, slots=True)
class CustomerLine:
    """A customer, where they live or lived last, and from when until when; ``until`` None: still."""

    customer_id: int
    name: str
    contact: str
    unit: str
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Find:
    """What a form looks for among the customers, and whom it has chosen, None for nobody."""

    query: str = ""
    page: Page = field(default_factory=lambda: Page(limit=OFFERED))
    chosen: int | None = None


@dataclass(frozen=True, slots=True)
class Picker:
    """Customers to choose from, by name. ``chosen`` is None where no customer here was chosen."""

    query: str
    rows: tuple[CustomerLine, ...]
    chosen: CustomerLine | None
    beside: Neighbours

    @property
    def lines(self) -> tuple[CustomerLine, ...]:
        """Who is chosen stands first, whatever was looked for."""
        others = tuple(each for each in self.rows if each != self.chosen)
        return others if self.chosen is None else (self.chosen, *others)

    def name_of(self, customer_id: int) -> str:
        """The name of who is chosen; empty for anybody else."""
        known = self.chosen is not None and self.chosen.customer_id == customer_id
        return self.chosen.name if self.chosen is not None and known else ""


_CUSTOMERS: Final = """
SELECT c.id, c.name, concat_ws(', ', nullif(c.email, ''), nullif(c.phone, '')),
       coalesce(b.code, ''), coalesce(u.code, ''), lower(t.period), upper(t.period)
FROM customer c
LEFT JOIN LATERAL (SELECT n.unit_id, n.period FROM account a JOIN tenancy n ON n.account_id = a.id
    WHERE a.customer_id = c.id ORDER BY lower(n.period) DESC LIMIT 1) t ON true
LEFT JOIN unit u ON u.id = t.unit_id
LEFT JOIN building b ON b.id = u.building_id
"""
_TEXT: Final = "lower(concat_ws(' ', c.name, c.email, c.phone)) LIKE ALL (%(words)s)"
_IN_UNIT: Final = """c.id IN (SELECT a.customer_id FROM account a JOIN tenancy n ON n.account_id = a.id
    JOIN unit u ON u.id = n.unit_id JOIN building b ON b.id = u.building_id
    WHERE a.property_id = %(property)s AND lower(b.code || '-' || u.code) = lower(%(query)s))"""
_EDGE: Final = "(SELECT lower(m.name), m.id FROM customer m WHERE m.id = %(mark_id)s)"


def customers_to_choose(place: Place, find: Find) -> Picker:
    """A page of the property's customers that a text finds, inside the caller's scope."""
    given = {
        "property": place.property_id, "words": words(find.query), "query": find.query,
        "chosen": find.chosen,
    }  # fmt: skip
    where = find.page.where(("lower(c.name)", "c.id"), _EDGE)
    # First the few ids by name, then what else is shown of those alone.
    found = rows(
        f"""SELECT c.id FROM customer c WHERE c.property_id = %(property)s
            AND ({_TEXT} OR {_IN_UNIT}) AND {where}""",  # noqa: S608 - our own expressions
        given | find.page.given(),
    )
    shown, is_before, is_after = find.page.cut([int(row[0]) for row in found])
    known = {
        int(row[0]): _line(row)
        for row in rows(
            f"{_CUSTOMERS} WHERE c.property_id = %s AND c.id = ANY(%s)",
            [place.property_id, [*shown, *([] if find.chosen is None else [find.chosen])]],
        )
    }
    beside = Neighbours.of(
        [Mark(0, each) for each in shown], is_before=is_before, is_after=is_after
    )
    chosen = None if find.chosen is None else known.get(find.chosen)
    return Picker(find.query, tuple(known[each] for each in shown), chosen, beside)


def picker(*, actor: Actor, find: Find) -> Picker:
    """``customers_to_choose`` for who has no scope open. Raises PermissionRefused."""
    require(actor, "moves.tenant")
    with scope(actor):
        return customers_to_choose(place_of(actor), find)


def _line(row: tuple[object, ...]) -> CustomerLine:
    customer_id, name, contact, building, unit, since, until = row
    assert since is None or isinstance(since, datetime)
    assert until is None or isinstance(until, datetime)
    place = unit_name(str(building), str(unit)) if unit else ""
    return CustomerLine(int(str(customer_id)), str(name), str(contact), place, since, until)
