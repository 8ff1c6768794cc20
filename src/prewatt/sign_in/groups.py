"""Groups of properties: a name and which properties, changed by people who administer every one of them.

What somebody may do by a group reaches as far as its properties do. So a group is made and changed like a duty:
one administrator proposes, another agrees, each with a second factor, and the database asks of both that they
administer the properties that were in it and those that will be (``sql/0006_groups_and_tenants.sql``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from django.db import connection

from prewatt.access.duties import duties_of
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, Kind, saying_what_changed
from prewatt.approvals.operations import Wanted, wanted_change
from prewatt.audit.operations import record_many

KIND: Final = "access.group"
NAME_MAX: Final = 120


class GroupRefused(Exception):
    """Nothing was proposed. ``reason`` is `unknown`, `name` (taken), `empty`, `elsewhere`, or `same`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody with a duty by a group."""

    user_id: int
    name: str
    duty: str


@dataclass(frozen=True, slots=True)
class Group:
    """A group with those of its properties that the administrator sees; ``is_whole``: that is all of them."""

    group_id: int
    name: str
    places: tuple[tuple[int, str], ...]
    is_whole: bool
    holders: tuple[Holder, ...]


def groups_of(*, actor: Actor, property_id: int) -> Sequence[Group]:
    """The groups that hold a property or any other that the actor administers, by name."""
    require(actor, "people.manage", property_id=property_id)
    with scope(_everywhere(actor)), connection.cursor() as cursor:
        cursor.execute(
            """SELECT g.id, g.name, array_agg(p.id ORDER BY p.name, p.id),
                   array_agg(p.name ORDER BY p.name, p.id),
                   count(*) = cardinality(places_of_group(g.id)),
                   (SELECT coalesce(jsonb_agg(jsonb_build_array(u.id, u.name, d.duty)
                                              ORDER BY u.name, u.id), '[]')
                    FROM duty_grant d JOIN app_user u ON u.id = d.user_id
                    WHERE d.property_group_id = g.id AND d.ended_at IS NULL)
               FROM property_group g JOIN property_group_member m ON m.property_group_id = g.id
               JOIN property p ON p.id = m.property_id GROUP BY g.id ORDER BY g.name, g.id"""
        )
        return [
            Group(row[0], row[1], tuple(zip(row[2], row[3], strict=True)), row[4],
                  tuple(Holder(*each) for each in json.loads(row[5])))
            for row in cursor.fetchall()
        ]  # fmt: skip


def own_places(*, actor: Actor) -> Sequence[tuple[int, str]]:
    """(id, name) of every property that the actor administers, by name."""
    require(actor, "people.manage")
    with scope(_everywhere(actor)), connection.cursor() as cursor:
        cursor.execute("SELECT id, name FROM property ORDER BY name, id")
        return [(row[0], row[1]) for row in cursor.fetchall()]


def wanted_group(
    *, actor: Actor, property_id: int, group_id: int | None, name: str, places: Sequence[int]
) -> Wanted:
    """What proposing a group with this name and these properties would ask for. Raises GroupRefused."""
    require(actor, "approvals.propose", property_id=property_id)
    require(actor, "people.manage", property_id=property_id)
    known = groups_of(actor=actor, property_id=property_id)
    former = next((each for each in known if each.group_id == group_id), None)
    names = dict(own_places(actor=actor))
    after = sorted(set(places))
    if group_id is not None and former is None:
        raise GroupRefused("unknown")
    if not after:
        raise GroupRefused("empty")
    if not set(after) <= set(names) or (former is not None and not former.is_whole):
        raise GroupRefused("elsewhere")
    if any(each.name == name and each.group_id != group_id for each in known):
        raise GroupRefused("name")
    before = sorted(place for place, _ in former.places) if former else []
    if former is not None and before == after and former.name == name:
        raise GroupRefused("same")
    holders = sorted((each.user_id, each.duty) for each in former.holders) if former else []
    effect = {
        "group": group_id, "name": name, "former_name": former.name if former else "",
        "places": after, "before": before, "holders": holders,
        "names": {str(each): names[each] for each in {*before, *after}},
        "people": sorted(f"{each.name} ({each.duty})" for each in former.holders) if former else [],
    }  # fmt: skip
    with scope(actor):
        return wanted_change(
            kind=KIND, property_id=property_id, subject=f"group:{group_id or 'new'}", effect=effect
        )


def _everywhere(actor: Actor) -> Actor:
    """The same administrator at every property of theirs."""
    assert actor.user_id is not None, "people.manage is for people only"
    held = {
        each.property_id for each in duties_of(actor.user_id) if each.duty is Duty.ADMINISTRATOR
    }
    return replace(actor, property_ids=tuple(sorted(held)))


def _make(actor: Actor, agreed: Agreed, now: datetime) -> None:
    """The group, by the function of the database that alone writes one. Raises Changed with its word."""
    effect = agreed.effect
    concerned = tuple(sorted({*effect["places"], *effect["before"]}))
    # Its events stand at every property concerned, so the rest of the transaction reaches that far; that the
    # actor administers them all is what the function asks first.
    with scope(replace(actor, property_ids=concerned)):
        with saying_what_changed(), connection.cursor() as cursor:
            cursor.execute("SELECT make_group(%s)", [agreed.proposal_id])
            group_id = cursor.fetchone()[0]
        told = {
            "name": effect["name"], "made_by": agreed.made_by, "proposal": agreed.proposal_id,
            "properties": sorted(effect["names"][str(each)] for each in effect["places"]),
        }  # fmt: skip
        record_many(
            actor=actor.code, code="access.group.changed", now=now,
            rows=[(place, f"group:{group_id}", told) for place in concerned],
        )  # fmt: skip


GROUPS: Final = Kind(KIND, _make)
