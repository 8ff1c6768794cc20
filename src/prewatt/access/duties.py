"""Where a person has which duty: what their open grants come to, property by property.

Grants reach a property, a group or an organisation, and end; the function ``duties_of`` of the database
puts them together in one query, before anybody has a scope (``sql/0004_duties.sql``).
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

from prewatt.access.models import Duty


@dataclass(frozen=True, slots=True)
class Held:
    """A duty at one property; of a tenant, with the accounts of every customer that they are there."""

    property_id: int
    duty: Duty
    organisation_id: int
    account_ids: tuple[int, ...] = ()


def duties_of(user_id: int, *, property_id: int | None = None) -> tuple[Held, ...]:
    """All duties of a person, by property; with ``property_id``, the one they have there or none."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT property_id, duty, organisation_id, account_ids FROM duties_of(%s, %s)",
            [user_id, property_id],
        )
        found = cursor.fetchall()
    return tuple(Held(row[0], Duty(row[1]), row[2], tuple(row[3])) for row in found)


def properties_of(user_id: int) -> tuple[int, ...]:
    """The properties at which a person has any duty."""
    return tuple(held.property_id for held in duties_of(user_id))
