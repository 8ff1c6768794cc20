"""A key proposed, approved and ended by people; and the actor that a program with a key is.

A key reads ``pwk_<public id>_<secret>``: the first part says what it is to whoever finds it in a file, the
second which key, the third is 256 random bits of which the database knows the SHA-256 alone.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from django.db import connection

from prewatt.access.models import Duty
from prewatt.access.scope import PERMISSIONS, Actor, require, scope
from prewatt.api_keys.models import DUTIES, ApiKey
from prewatt.approvals.kinds import Agreed, Kind, saying_what_changed
from prewatt.approvals.operations import Wanted, wanted_change
from prewatt.audit.operations import record

KIND: Final = "api_keys.key"
#: No key lives longer: whoever needs one goes on with a new one, and the forgotten ones end.
LASTS_MAX: Final = timedelta(days=366)
NAME_MAX: Final = 80

_KEY: Final = re.compile(r"pwk_([a-z2-7]{12})_([A-Za-z0-9_-]{43})")
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"


class KeyRefused(Exception):
    """No key was proposed or ended. ``reason`` is `name`, `duty`, `permissions` (one that the duty has
    not, or none), `expires` (in the past, or beyond LASTS_MAX), or `unknown`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def new_key() -> str:
    """A key that nobody has seen; to be shown once, to who proposes it."""
    public_id = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    return f"pwk_{public_id}_{secrets.token_urlsafe(32)}"


def permissions_of(duty: Duty) -> frozenset[str]:
    """What a key of this duty can be given."""
    return frozenset(name for name, duties in PERMISSIONS.items() if duty in duties)


def wanted_key(
    *,
    actor: Actor,
    property_id: int,
    key: str,
    name: str,
    duty: str,
    permissions: Collection[str],
    expires_at: datetime,
    now: datetime,
) -> Wanted:
    """What proposing this key would ask for. Raises KeyRefused."""
    require(actor, "approvals.propose", property_id=property_id)
    matched = _KEY.fullmatch(key)
    if matched is None:
        raise KeyRefused("unknown")
    if not name.strip() or len(name) > NAME_MAX:
        raise KeyRefused("name")
    if duty not in DUTIES:
        raise KeyRefused("duty")
    if not permissions or not set(permissions) <= permissions_of(Duty(duty)):
        raise KeyRefused("permissions")
    if not now < expires_at <= now + LASTS_MAX:
        raise KeyRefused("expires")
    public_id, secret = matched.groups()
    effect = {
        "public_id": public_id, "secret_sha256": _sha256(secret).hex(), "name": name.strip(), "duty": duty,
        "permissions": sorted(permissions), "expires_at": expires_at.isoformat(),
    }  # fmt: skip
    with scope(actor):
        return wanted_change(
            kind=KIND, property_id=property_id, subject=f"api_key:{public_id}", effect=effect
        )


def _make(_actor: Actor, agreed: Agreed, now: datetime) -> None:
    """The key, by the function of the database that alone makes one. Raises Changed `expired`."""
    with saying_what_changed(), connection.cursor() as cursor:
        cursor.execute("SELECT make_api_key(%s, %s)", [agreed.proposal_id, now])


KEYS: Final = Kind(KIND, _make)


def end_key(*, actor: Actor, key_id: int, reason: str, now: datetime) -> None:
    """End a key at once. One administrator does it alone: it only stops. Raises KeyRefused `unknown`."""
    require(actor, "approvals.propose")
    with scope(actor):
        with connection.cursor() as cursor:
            cursor.execute("SELECT end_api_key(%s, %s, %s)", [key_id, actor.user_id, now])
            (ended,) = cursor.fetchone()
        if not ended:
            raise KeyRefused("unknown")
        key = ApiKey.objects.get(pk=key_id)
        record(
            actor=actor.code, code="api_keys.ended", property_id=key.property_id,
            subject=f"api_key:{key.public_id}", now=now, name=key.name, reason=reason,
        )  # fmt: skip


def actor_of_key(text: str, *, now: datetime) -> Actor | None:
    """Who a program with this key is; None for a key that is none, has ended or expired.

    Outside every scope, as signing in is.
    """
    matched = _KEY.fullmatch(text)
    if matched is None:
        return None
    public_id, secret = matched.groups()
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM use_api_key(%s, %s, %s)", [public_id, _sha256(secret), now])
        found = cursor.fetchone()
    if found is None:
        return None
    key_id, property_id, name, duty, permissions = found
    return Actor(
        code=f"key:{key_id}", duty=Duty(duty), property_ids=(property_id,), name=name,
        allowed=frozenset(permissions),
    )  # fmt: skip


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("ascii")).digest()
