"""Reads the keys of programs: which hold, what each may do, by whom it was made and when it was last used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, require, scope
from prewatt.reports.lists import Listing
from prewatt.reports.lists_query import PAGE, actor_names
from prewatt.reports.place import NoSuchThing, place_of, rows

KEY_SHOWS: Final = ("holding", "past", "all")
KEY_SORTS: Final = ("made", "ends", "used")
_ORDERS: Final = {
    "made": "made_at DESC",
    "ends": "coalesce(ended_at, expires_at)",
    "used": "last_used_at DESC NULLS LAST",
}


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key. ``until`` is its last instant: when it was ended, else when it expires."""

    key_id: int
    public_id: str
    name: str
    duty: Duty
    permissions: tuple[str, ...]
    made_at: datetime
    made_by: str
    approved_by: str
    until: datetime
    ended_by: str
    last_used_at: datetime | None
    proposal_id: int
    holds: bool


KeyList = Listing[KeyRow]


def keys(
    *,
    actor: Actor,
    now: datetime,
    show: str = KEY_SHOWS[0],
    query: str = "",
    sort: str = KEY_SORTS[0],
    limit: int = PAGE,
    key_id: int | None = None,
) -> KeyList:
    """The keys of the property that hold, held, or all; ``key_id`` asks for that one alone."""
    require(actor, "accounts.read")
    with scope(actor):
        place = place_of(actor)
        found = rows(
            f"""SELECT id, public_id, name, duty, permissions, made_at, made_by, approved_by,
                       coalesce(ended_at, expires_at), ended_by, last_used_at, proposal_id,
                       ended_at IS NULL AND expires_at > %(now)s AS holds, count(*) OVER ()
                FROM api_key
                WHERE property_id = %(property)s AND id = coalesce(%(key)s, id) AND strpos(lower(name || ' ' || public_id), %(text)s) > 0
                  AND (%(show)s = 'all'
                       OR (ended_at IS NULL AND expires_at > %(now)s) = (%(show)s = 'holding'))
                ORDER BY {_ORDERS[sort]}, id LIMIT %(limit)s""",  # noqa: S608 - our own orders
            {
                "now": now, "property": place.property_id, "text": query.lower(), "show": show,
                "limit": limit, "key": key_id,
            },
        )  # fmt: skip
        names = actor_names(code for row in found for code in (row[6], row[7], row[9]))
    listed = tuple(
        KeyRow(
            row[0], row[1], row[2], Duty(row[3]), tuple(row[4]), row[5], names.get(row[6], ""),
            names.get(row[7], ""), row[8], names.get(row[9], ""), row[10], row[11], row[12],
        )
        for row in found
    )  # fmt: skip
    return KeyList(place, now, listed, int(found[0][13]) if found else 0)


def key_by_id(*, actor: Actor, key_id: int, now: datetime) -> tuple[KeyList, KeyRow]:
    """One key of the property. Raises NoSuchThing."""
    found = keys(actor=actor, now=now, show="all", key_id=key_id)
    if not found.rows:
        raise NoSuchThing(f"no key {key_id} in scope")
    return found, found.rows[0]
