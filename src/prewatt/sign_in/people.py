"""People come by invitation and go by suspension or the end of their duties at a property.

Each deed is one function of the database (``sql/0003_people.sql``), which looks up the administrator and their
second factor itself. None of them gives a duty: an invitation is a sign-in without any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, connection

from prewatt.access.models import User
from prewatt.access.passwords import refuse_weak, words_about
from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.sign_in.factors import own_deed

NAME_MAX: Final = 120
MAIL_MAX: Final = 254
REASON_MAX: Final = 400


class PersonRefused(Exception):
    """Nothing was done. ``reason`` is a word of the functions in ``sql/0003_people.sql``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of a property's staff. ``state`` is `here`, `invited` (no password yet), `waiting` (signs in,
    and has no duty yet) or `suspended`; ``duty`` is empty without one, ``is_wider`` of an organisation.
    """

    user_id: int
    name: str
    email: str
    duty: str
    is_wider: bool
    since: datetime
    state: str
    suspended_by: str
    reason: str


def invite_digest(*, property_id: int, email: str) -> bytes:
    """What the administrator's second factor is proved for."""
    return own_deed("person.invite", f"{property_id} {email}")


def person_digest(*, deed: str, property_id: int, user_id: int) -> bytes:
    """The same for `suspend`, `resume` and `leave`."""
    return own_deed(f"person.{deed}", f"{property_id} {user_id}")


def people_of(*, actor: Actor, property_id: int) -> Sequence[Person]:
    """Everybody who works at a property or is asked to, by name. Tenants and owners are customers' business."""
    require(actor, "people.manage", property_id=property_id)
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """SELECT u.id, u.name, u.email, coalesce(g.duty, ''), coalesce(g.is_wider, false),
                   coalesce(g.since, i.made_at),
                   CASE WHEN s.id IS NOT NULL THEN 'suspended' WHEN g.duty IS NOT NULL THEN 'here'
                        WHEN i.accepted_at IS NULL THEN 'invited' ELSE 'waiting' END,
                   coalesce(s.made_by, ''), coalesce(s.reason, '')
               FROM app_user u
               LEFT JOIN LATERAL (
                   SELECT min(d.duty) AS duty, bool_and(d.property_id IS NULL AND d.property_group_id IS NULL) AS is_wider,
                       min(d.granted_at) AS since
                   FROM duty_grant d JOIN property p ON p.id = %(place)s
                   WHERE d.user_id = u.id AND d.ended_at IS NULL AND d.duty NOT IN ('tenant', 'owner')
                     AND (d.property_id = p.id OR d.property_id IS NULL AND (
                          d.property_group_id IS NULL AND d.organisation_id = p.organisation_id
                          OR EXISTS (SELECT FROM property_group_member m
                                     WHERE m.property_group_id = d.property_group_id
                                       AND m.property_id = p.id)))) g ON true
               LEFT JOIN LATERAL (
                   SELECT made_at, accepted_at, expires_at FROM invitation v
                   WHERE v.user_id = u.id AND v.property_id = %(place)s
                   ORDER BY v.id DESC LIMIT 1) i ON true
               LEFT JOIN suspension s
                   ON s.user_id = u.id AND s.property_id = %(place)s AND s.ended_at IS NULL
               WHERE g.duty IS NOT NULL OR i.made_at IS NOT NULL AND NOT EXISTS (
                   SELECT FROM duty_grant t WHERE t.user_id = u.id AND t.duty IN ('tenant', 'owner'))
               ORDER BY u.name, u.id""",
            {"place": property_id},
        )
        return [Person(*row) for row in cursor.fetchall()]


def invite(
    *, actor: Actor, property_id: int, email: str, name: str, language: str, step_up_id: int,
    now: datetime,
) -> int:  # fmt: skip
    """Ask somebody to come, by a letter to their address; returns the invitation. Raises PersonRefused."""
    require(actor, "people.manage", property_id=property_id)
    with scope(actor):
        try:
            invitation_id, refusal = _row(
                "SELECT invitation_id, refusal FROM invite_person(%s, %s, %s, %s, %s, %s, %s)",
                property_id, email, name, language, actor.user_id, step_up_id, now,
            )  # fmt: skip
        except IntegrityError as clash:
            # A colleague invited them at the same moment, and was committed first.
            if "app_user_email" not in str(clash):
                raise
            raise PersonRefused("known") from clash
        if refusal is not None:
            raise PersonRefused(refusal)
        record(
            actor=actor.code, code="access.invited", property_id=property_id,
            subject=f"invitation:{invitation_id}", now=now, email=email,
        )  # fmt: skip
    return int(invitation_id)


def is_good(*, property_id: int, token: str) -> bool:
    """Whether the link of a letter still opens."""
    return _row("SELECT accept_invitation(%s, %s, NULL)", property_id, token)[0] is not None


def accept(*, property_id: int, token: str, password: str) -> User:
    """Choose one's first password by the link of the letter, once. Raises PasswordRefused, PersonRefused."""
    (guest,) = _row("SELECT accept_invitation(%s, %s, NULL)", property_id, token)
    if guest is None:
        raise PersonRefused("link")
    refuse_weak(password, words_about(User.objects.get(pk=guest), [property_id]))
    (who,) = _row(
        "SELECT accept_invitation(%s, %s, %s)", property_id, token, make_password(password)
    )
    if who is None:
        raise PersonRefused("link")
    return User.objects.get(pk=who)


def suspend(
    *, actor: Actor, property_id: int, user_id: int, reason: str, step_up_id: int, now: datetime
) -> None:
    """Keep somebody out from this moment on: every session ends. Raises PersonRefused."""
    _do(
        actor, property_id, user_id, "access.suspended", now, reason,
        "SELECT suspend_person(%s, %s, %s, %s, %s, %s)",
        property_id, user_id, actor.user_id, reason, step_up_id, now,
    )  # fmt: skip


def resume(*, actor: Actor, property_id: int, user_id: int, step_up_id: int, now: datetime) -> None:
    """Let somebody in again whom another administrator has suspended. Raises PersonRefused."""
    _do(
        actor, property_id, user_id, "access.resumed", now, "",
        "SELECT resume_person(%s, %s, %s, %s, %s)",
        property_id, user_id, actor.user_id, step_up_id, now,
    )  # fmt: skip


def leave(
    *, actor: Actor, property_id: int, user_id: int, reason: str, step_up_id: int, now: datetime
) -> None:
    """End somebody's duties at this property; what they did stays to be read. Raises PersonRefused."""
    _do(
        actor, property_id, user_id, "access.left", now, reason,
        "SELECT end_duties(%s, %s, %s, %s, %s, %s)",
        property_id, user_id, actor.user_id, reason, step_up_id, now,
    )  # fmt: skip


def _do(
    actor: Actor, property_id: int, user_id: int, code: str, now: datetime, reason: str,
    statement: str, *parameters: Any,
) -> None:  # fmt: skip
    require(actor, "people.manage", property_id=property_id)
    with scope(actor):
        (refusal,) = _row(statement, *parameters)
        if refusal is not None:
            raise PersonRefused(refusal)
        record(
            actor=actor.code, code=code, property_id=property_id, subject=f"user:{user_id}",
            now=now, reason=reason,
        )  # fmt: skip


def _row(statement: str, *parameters: Any) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return tuple(cursor.fetchone())
