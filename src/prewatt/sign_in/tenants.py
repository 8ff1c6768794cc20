"""A tenant's sign-in: which person is which customer, linked and unlinked by whoever sells or decides.

A link shows somebody their own accounts and nothing else. It ends by hand, or by itself with the customer's last
account (a trigger of ``sql/0006_groups_and_tenants.sql``), so that whoever comes next starts at zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, connection

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.sign_in.people import PersonRefused


@dataclass(frozen=True, slots=True)
class Linked:
    """Somebody who is a customer; ``is_waiting`` until they have chosen a password."""

    user_id: int
    name: str
    email: str
    since: datetime
    is_waiting: bool


@dataclass(frozen=True, slots=True)
class Client:
    """The customer behind an account and who signs in as them; ``customer_id`` is None for an owner's own."""

    property_id: int
    customer_id: int | None
    name: str
    email: str
    language: str
    is_open: bool
    linked: Sequence[Linked]


def client_of(*, actor: Actor, account_id: int) -> Client | None:
    """Whose account it is; None for one that is not in scope."""
    require(actor, "tenants.link")
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """SELECT a.property_id, c.id, coalesce(c.name, ''), coalesce(c.email, ''),
                   coalesce(c.language, 'en'), a.closed_at IS NULL
               FROM account a LEFT JOIN customer c ON c.id = a.customer_id WHERE a.id = %s""",
            [account_id],
        )
        found = cursor.fetchone()
        if found is None:
            return None
        cursor.execute(
            """SELECT u.id, u.name, u.email, g.granted_at, i.id IS NOT NULL AND i.accepted_at IS NULL
               FROM duty_grant g JOIN app_user u ON u.id = g.user_id
               LEFT JOIN LATERAL (SELECT v.id, v.accepted_at FROM invitation v
                   WHERE v.user_id = u.id ORDER BY v.id DESC LIMIT 1) i ON true
               WHERE g.customer_id = %s AND g.duty = 'tenant' AND g.ended_at IS NULL
               ORDER BY g.granted_at, u.id""",
            [found[1]],
        )
        linked = [Linked(*row) for row in cursor.fetchall()]
    place, customer_id, name, email, language, is_open = found
    return Client(place, customer_id, name, email, language, is_open, linked)


def link(
    *, actor: Actor, property_id: int, customer_id: int, email: str, name: str, language: str,
    now: datetime,
) -> bool:  # fmt: skip
    """Let somebody see this customer's accounts; whoever is new gets a letter. Returns whether they are.

    Raises PersonRefused with a word of ``link_tenant``.
    """
    require(actor, "tenants.link", property_id=property_id)
    with scope(actor):
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT person, is_new, refusal FROM link_tenant(%s, %s, %s, %s, %s, %s, %s)",
                    [property_id, customer_id, email, name, language, actor.user_id, now],
                )
                user_id, is_new, refusal = cursor.fetchone()
        except IntegrityError as clash:
            # A colleague invited them at the same moment, and was committed first.
            if "app_user_email" not in str(clash):
                raise
            raise PersonRefused("known") from clash
        if refusal is not None:
            raise PersonRefused(refusal)
        record(
            actor=actor.code, code="access.tenant.linked", property_id=property_id,
            subject=f"customer:{customer_id}", now=now, email=email, person=f"user:{user_id}",
        )  # fmt: skip
    return bool(is_new)


def unlink(
    *, actor: Actor, property_id: int, customer_id: int, user_id: int, now: datetime
) -> None:
    """End it at once; what they did stays to be read. Raises PersonRefused `nobody`."""
    require(actor, "tenants.link", property_id=property_id)
    with scope(actor):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT unlink_tenant(%s, %s, %s, %s, %s)",
                [property_id, customer_id, user_id, actor.user_id, now],
            )
            (refusal,) = cursor.fetchone()
        if refusal is not None:
            raise PersonRefused(refusal)
        record(
            actor=actor.code, code="access.tenant.unlinked", property_id=property_id,
            subject=f"customer:{customer_id}", now=now, person=f"user:{user_id}",
        )  # fmt: skip
