"""The properties at which a person has a duty, for the switch between them."""

from __future__ import annotations

from dataclasses import dataclass

from prewatt.access.models import Duty, DutyGrant
from prewatt.access.scope import Actor, scope
from prewatt.reports.place import rows


@dataclass(frozen=True, slots=True)
class OwnProperty:
    """A property and the duty that the person has there."""

    property_id: int
    name: str
    duty: Duty


def own_properties(actor: Actor) -> tuple[OwnProperty, ...]:
    """Every property of the person behind the actor, by name; nobody else's is looked at."""
    if actor.user_id is None:
        return ()
    granted = dict(
        DutyGrant.objects.filter(user_id=actor.user_id).values_list("property_id", "duty")
    )
    if not granted:
        return ()
    with scope(Actor(actor.code, actor.duty, tuple(granted), actor.name, actor.user_id)):
        found = rows(
            "SELECT id, name FROM property WHERE id = ANY(%s) ORDER BY name, id", [list(granted)]
        )
    return tuple(OwnProperty(each, name, Duty(granted[each])) for each, name in found)
