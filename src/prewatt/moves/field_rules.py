"""How long devices of a property may be silent before a person is called: read, and set by an administrator."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.core.field_rules import FieldRules, refuse_out_of_bounds
from prewatt.estate import models


def field_rules(property_id: int) -> FieldRules:
    """The rules of a property as they stand. Inside the caller's scope."""
    found = models.FieldRules.objects.filter(property_id=property_id).first()
    if found is None:
        return FieldRules()
    return FieldRules(found.hear_within_s, found.concentrator_silent_s)


def set_field_rules(*, actor: Actor, property_id: int, rules: FieldRules, now: datetime) -> None:
    """Let these rules hold from now on. Devices that are fitted already keep the time they were given.

    Raises FieldRulesRefused, PermissionRefused.
    """
    require(actor, "estate.write", property_id=property_id)
    refuse_out_of_bounds(rules)
    with scope(actor):
        before = field_rules(property_id)
        models.FieldRules.objects.update_or_create(
            property_id=property_id, defaults={**asdict(rules), "changed_at": now}
        )
        record(
            actor=actor.code, code="estate.field_rules.set", property_id=property_id,
            subject=f"property:{property_id}", now=now, before=asdict(before), after=asdict(rules),
        )  # fmt: skip
