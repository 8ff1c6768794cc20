"""The one door to the database: who acts, under which database role, on which properties.

Every operation and every query runs inside :func:`scope`. It opens a transaction, switches to the
database role of the actor's duty and tells row-level security which properties, and of a tenant
which accounts, may be seen; all of it ends with the transaction (``SET LOCAL``), so nothing leaks to
the next user of a pooled connection.
Outside a scope the web's login sees no business row at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from django.db import connection, transaction

from prewatt.access.duties import duties_of
from prewatt.access.models import Duty, User
from prewatt.audit.context import origin
from prewatt.audit.refusals import Noticed

OPERATOR: Final = "app_operator"
#: The database role each duty works under. ``system`` keeps the login role of its own process.
DATABASE_ROLE = {
    Duty.OPERATOR: OPERATOR,
    Duty.ADMINISTRATOR: "app_admin",
    Duty.AUDITOR: "app_auditor",
    Duty.TENANT: "app_tenant",
    Duty.INSTALLER: "app_installer",
    Duty.OWNER: "app_owner",
}
#: Deeds that move what the duty itself may not see: a register that an installer enters charges an
#: account. Their transaction is another duty's in the database, and the installer's in the audit.
_DEED_ROLE = {
    (Duty.INSTALLER, "mdm.read_manually"): OPERATOR,
    (Duty.INSTALLER, "estate.meters"): "app_admin",
    (Duty.INSTALLER, "tamper.note"): "app_admin",
}

_ADMINISTRATORS = frozenset({Duty.ADMINISTRATOR, Duty.SYSTEM})
_DESK = _ADMINISTRATORS | {Duty.OPERATOR}
_FITTERS = _ADMINISTRATORS | {Duty.INSTALLER}
_SYSTEM = frozenset({Duty.SYSTEM})
_READERS = _DESK | {Duty.AUDITOR}

#: What each duty may do. Operations and queries ask by name; an unknown name is refused to everybody.
PERMISSIONS: dict[str, frozenset[Duty]] = {
    "vending.recharge": _DESK,
    "vending.refund": _ADMINISTRATORS,
    "vending.pay_refund": _DESK,
    "vending.take_back": _ADMINISTRATORS,
    "vending.credit": _ADMINISTRATORS,
    # The property itself: its name, currency and time zone.
    "estate.read": _READERS | {Duty.INSTALLER, Duty.OWNER, Duty.TENANT},
    # People, their accounts and all that was done: what nothing else is said of.
    "accounts.read": _READERS,
    # Sums of a property, and nobody's name.
    "figures.read": _READERS | {Duty.OWNER},
    # Devices and registers, and nobody's money.
    "meters.read": _READERS | {Duty.INSTALLER},
    "mine.read": frozenset({Duty.TENANT}),
    "estate.write": _ADMINISTRATORS,
    "estate.meters": _FITTERS,
    "estate.concentrators": _FITTERS,
    "devices.enrol": _FITTERS,
    "devices.revoke": _ADMINISTRATORS,
    "devices.issue": _SYSTEM,
    "estate.import": _SYSTEM,
    "estate.check_import": _ADMINISTRATORS,
    "moves.tenant": _ADMINISTRATORS,
    # What meters are asked: each alone, in bulks by proposal, and what stops them.
    "fleet.ask": _ADMINISTRATORS,
    "fleet.look": _SYSTEM,
    "mdm.read_manually": _DESK | {Duty.INSTALLER},
    "mdm.release": _ADMINISTRATORS,
    "mdm.edit": _ADMINISTRATORS,
    "mdm.ingest": _SYSTEM,
    "billing.tariff": _SYSTEM,
    "billing.resale": _ADMINISTRATORS,
    "billing.draft": _ADMINISTRATORS,
    "billing.post": _SYSTEM,
    "billing.correct": _ADMINISTRATORS,
    "billing.terms": _ADMINISTRATORS,
    "billing.announce": _ADMINISTRATORS,
    # People only: a process has no second factor.
    "approvals.propose": frozenset({Duty.ADMINISTRATOR}),
    "approvals.approve": frozenset({Duty.ADMINISTRATOR}),
    "approvals.answer": frozenset({Duty.OPERATOR, Duty.ADMINISTRATOR, Duty.AUDITOR}),
    "approvals.review": frozenset({Duty.ADMINISTRATOR, Duty.AUDITOR}),
    "approvals.withdraw": frozenset({Duty.OPERATOR, Duty.ADMINISTRATOR}),
    "debts.manage": _ADMINISTRATORS,
    "debts.policy": _ADMINISTRATORS,
    "ledger.close_period": _ADMINISTRATORS,
    "ledger.prove": _SYSTEM,
    "supply.policy": _SYSTEM,
    "supply.rules": _ADMINISTRATORS,
    "supply.decide": _SYSTEM,
    "supply.payment_hold": _DESK,
    "supply.protect": _ADMINISTRATORS,
    "supply.release_brake": _ADMINISTRATORS,
    "vitals.read": _SYSTEM,
    "notify.send": _SYSTEM,
    "notify.policy": _SYSTEM,
    # Nobody but the auditor: those who are watched neither read what is found nor say what is looked for.
    "audit.read": frozenset({Duty.AUDITOR}),
    "audit.watch": frozenset({Duty.AUDITOR}),
    # People only, as a person is proved by a second factor.
    "people.manage": frozenset({Duty.ADMINISTRATOR}),
    # Which person is which customer: whoever sells sees the accounts anyway.
    "tenants.link": frozenset({Duty.ADMINISTRATOR, Duty.OPERATOR}),
    "notify.close_alert": _ADMINISTRATORS,
    "tamper.close": _ADMINISTRATORS,
    "tamper.note": _FITTERS,
    "tamper.policy": _ADMINISTRATORS,
    # Where reverse flow is no case from now on.
    "tamper.feed_in": _ADMINISTRATORS,
    "tamper.respond": _SYSTEM,
    "tamper.detect": _SYSTEM,
}
#: What a service account never does, whatever it is named for: these take a person's second factor.
FOR_PEOPLE: Final = frozenset(
    {
        "approvals.propose",
        "approvals.approve",
        "approvals.review",
        "approvals.withdraw",
        "approvals.answer",
        "people.manage",
        "tenants.link",
    }
)


class PermissionRefused(Noticed):
    """The actor's duty or scope does not allow the operation; nothing was done."""

    what = "permission"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts. ``code`` goes into audit and idempotency rows: ``user:12``, ``system:ingest``."""

    code: str
    duty: Duty
    property_ids: tuple[int, ...]
    name: str = ""
    user_id: int | None = None
    #: A tenant's own.
    account_ids: tuple[int, ...] = ()
    #: Of the permissions of the duty only these; None for all of them. A key of a program names its own.
    allowed: frozenset[str] | None = None

    def has(self, permission: str) -> bool:
        """Whether the duty holds the permission, and this actor of it."""
        if self.duty not in PERMISSIONS.get(permission, frozenset()):
            return False
        return self.allowed is None or permission in self.allowed - FOR_PEOPLE


def system_actor(name: str, property_ids: tuple[int, ...] = ()) -> Actor:
    """A technical actor of a process whose database login already is its role."""
    return Actor(code=f"system:{name}", duty=Duty.SYSTEM, property_ids=property_ids, name=name)


def actor_for(user: User, *, property_id: int) -> Actor:
    """The actor a signed-in user is at one property; raises PermissionRefused without a grant."""
    found = duties_of(user.pk, property_id=property_id)
    if not found:
        raise PermissionRefused(f"{user.email} has no duty at property {property_id}")
    held = found[0]
    return Actor(f"user:{user.pk}", held.duty, (property_id,), user.name, user.pk, held.account_ids)


def may(actor: Actor | None, permission: str) -> bool:
    """Whether an actor holds a permission: for what is offered. The operation itself decides."""
    return actor is not None and actor.has(permission)


def require(actor: Actor, permission: str, *, property_id: int | None = None) -> None:
    """Refuse unless the actor holds the permission and the property is in their scope."""
    if not actor.has(permission):
        raise PermissionRefused(f"{actor.code} ({actor.duty}) may not {permission}")
    outside = property_id is not None and property_id not in actor.property_ids
    if outside and actor.duty is not Duty.SYSTEM:
        raise PermissionRefused(f"{actor.code} has no duty at property {property_id}")


@contextmanager
def scope(actor: Actor, *, deed: str = "") -> Iterator[None]:
    """Open a transaction under the actor's database role, limited to the actor's properties.

    ``deed`` is the permission of a write that some duties do under another's role (`_DEED_ROLE`).
    Nested scopes of the same actor join the outer transaction as a savepoint; an operation that
    composes others therefore stays all or nothing.
    """
    role = _DEED_ROLE.get((actor.duty, deed)) or DATABASE_ROLE.get(actor.duty)
    entered = [
        _as_array(actor.property_ids), _as_array(actor.account_ids), origin().words(actor.duty),
    ]  # fmt: skip
    with transaction.atomic():
        with connection.cursor() as cursor:
            if role is None:
                cursor.execute(f"SELECT {_ENTER}", entered)
            else:
                cursor.execute(_BECOME, [role, *entered])
        # As long as the transaction, the database keeps a role that was taken inside it.
        before = _acting.set(role or _acting.get())
        try:
            yield
        finally:
            _acting.reset(before)


_acting: ContextVar[str | None] = ContextVar("acting", default=None)


def acting_role() -> str | None:
    """The database role of the duty that acts in this thread; None for a process in its own right.

    What an operator may not write is written for them by functions of the database.
    """
    return _acting.get()


def _as_array(ids: tuple[int, ...]) -> str:
    return "{" + ",".join([str(int(each)) for each in ids]) + "}"


#: A scope for one statement that is a transaction by itself: it stands first in FROM, and what
#: follows is LATERAL and takes something of ``entered``, for only that makes it come after.
ENTERED = """(SELECT set_config('role', %s, true) AS role,
    set_config('prewatt.properties', %s, true) AS properties,
    set_config('prewatt.requests', %s, true) AS requests OFFSET 0) AS entered"""


def entered_by(actor: Actor, requests: str) -> list[str]:
    """The parameters of `ENTERED`: the same role and properties that `scope` sets.

    ``requests`` is a line for each deed of the statement, where it came from (``audit.context``).
    Raises RuntimeError inside a transaction, whose other statements would be in that scope too.
    """
    if connection.in_atomic_block:
        raise RuntimeError("a statement with a scope of its own is a transaction of its own")
    return [DATABASE_ROLE.get(actor.duty, "none"), _as_array(actor.property_ids), requests]


@contextmanager
def rehearsal() -> Iterator[None]:
    """Take back everything that is done inside, so that a look shows the very deed.

    What a person sees before they confirm is then what the operation itself makes of it, refusals
    and all. Numbers of documents, messages and bells go back with the transaction.
    """
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


#: SET LOCAL of the properties, the accounts and where the deed comes from, and SET LOCAL ROLE, in one.
_ENTER = """set_config('prewatt.properties', %s, true), set_config('prewatt.accounts', %s, true),
    set_config('prewatt.request', %s, true)"""
_BECOME = f"SELECT set_config('role', %s, true), {_ENTER}"


def together(actors: Iterable[Actor]) -> Actor:
    """The scope in which deeds of several actors of one duty can share a transaction.

    It reaches as far as all of theirs, so whoever opens it must hold each deed to the scope of the
    one who asked for it. Raises PermissionRefused for actors of different duties.
    """
    everyone = set(actors)
    first, *others = everyone
    if not others:
        return first
    if any(actor.duty is not first.duty for actor in others):
        raise PermissionRefused("actors of different duties share no transaction")
    properties = {place for actor in everyone for place in actor.property_ids}
    return Actor(code="several", duty=first.duty, property_ids=tuple(sorted(properties)))
