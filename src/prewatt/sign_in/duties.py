"""A duty at a property or by a group of them, given by two people: one proposes it, another agrees, each with a second factor.

Some end so as well: an auditor's, one's own, and an administrator's who would leave a single one behind.

Of one person's duties no two lie in different lines (staff, audit) or organisations: the database refuses it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django.db import connection

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, Kind, saying_what_changed
from prewatt.approvals.operations import Wanted, wanted_change
from prewatt.audit.operations import record
from prewatt.sign_in.groups import Group
from prewatt.sign_in.people import Person, PersonRefused

KIND: Final = "access.duty"
END: Final = "access.duty_end"
#: What is given here. Tenants and owners belong to customers; a process has no duty that is given.
GIVEN: Final = (Duty.OPERATOR, Duty.ADMINISTRATOR, Duty.INSTALLER, Duty.AUDITOR)


def wanted_duty(
    *, actor: Actor, property_id: int, person: Person, duty: Duty, group: Group | None = None
) -> Wanted:
    """What proposing a duty for somebody would ask for: at this property, or at every one of a group.

    Raises PersonRefused ``duty`` (none that is given here), ``held`` (they have it), ``suspended``,
    ``group`` (the actor does not administer all of it).
    """
    require(actor, "approvals.propose", property_id=property_id)
    require(actor, "people.manage", property_id=property_id)
    if duty not in GIVEN:
        raise PersonRefused("duty")
    if person.state == "suspended":
        raise PersonRefused("suspended")
    if person.duty:
        raise PersonRefused("held")
    effect: dict[str, Any] = {
        "person": person.user_id, "name": person.name, "email": person.email, "duty": duty.value,
    }  # fmt: skip
    if group is not None:
        if not group.is_whole:
            raise PersonRefused("group")
        effect |= {
            "group": group.group_id, "group_name": group.name,
            "places": sorted(place for place, _ in group.places),
            "names": [name for _, name in group.places],
        }  # fmt: skip
    with scope(actor):
        return wanted_change(
            kind=KIND, property_id=property_id, subject=f"user:{person.user_id}", effect=effect
        )


def wanted_end(*, actor: Actor, property_id: int, person: Person) -> Wanted:
    """What proposing the end of somebody's duty here would ask for; also of one's own, or an auditor's.

    Raises PersonRefused ``nobody`` (they have none), ``wider`` (it ends where it was given).
    """
    require(actor, "approvals.propose", property_id=property_id)
    require(actor, "people.manage", property_id=property_id)
    with scope(actor):
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT id, duty FROM duty_grant
                   WHERE user_id = %s AND property_id = %s AND ended_at IS NULL ORDER BY id""",
                [person.user_id, property_id],
            )
            held = cursor.fetchall()
        if not held:
            raise PersonRefused("wider" if person.is_wider else "nobody")
        effect = {
            "person": person.user_id, "name": person.name, "email": person.email,
            "duty": held[0][1], "grants": [row[0] for row in held],
        }  # fmt: skip
        return wanted_change(
            kind=END, property_id=property_id, subject=f"user:{person.user_id}", effect=effect
        )


def _give(actor: Actor, agreed: Agreed, now: datetime) -> None:
    """The duty, by the function of the database that alone gives one. Raises Changed with its word."""
    with saying_what_changed(), connection.cursor() as cursor:
        cursor.execute("SELECT make_duty(%s, %s)", [agreed.proposal_id, now])
    record(
        actor=actor.code, code="access.duty.given", property_id=agreed.property_id,
        subject=agreed.subject, now=now, duty=agreed.effect["duty"], made_by=agreed.made_by,
    )  # fmt: skip


def _end(actor: Actor, agreed: Agreed, now: datetime) -> None:
    """The end, by the function of the database that asks for the agreement. Raises Changed with its word."""
    with saying_what_changed(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT end_agreed_duties(%s, %s, %s)",
            [agreed.property_id, agreed.effect["person"], now],
        )
    record(
        actor=agreed.made_by, code="access.left", property_id=agreed.property_id,
        subject=agreed.subject, now=now, duty=agreed.effect["duty"], reason=agreed.reason,
        approved_by=actor.code, proposal=agreed.proposal_id,
    )  # fmt: skip


KINDS: Final = (Kind(KIND, _give), Kind(END, _end))
