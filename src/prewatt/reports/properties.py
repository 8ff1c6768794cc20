"""The properties at which a person has a duty, for the switch between them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from prewatt.access.duties import duties_of
from prewatt.access.models import Duty
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
    granted = {held.property_id: held.duty for held in duties_of(actor.user_id)}
    if not granted:
        return ()
    with scope(replace(actor, property_ids=tuple(granted))):
        found = rows(
            "SELECT id, name FROM property WHERE id = ANY(%s) ORDER BY name, id", [list(granted)]
        )
    return tuple(OwnProperty(each, name, granted[each]) for each, name in found)
