"""A login's password, set or set anew by whoever keeps the installation.

The web's login may not write a digest, so no form can: who takes the web over cannot take a person's
sign-in over for good. Sessions carry a mark of the password they began with (Django's session hash),
so a new one ends every session of that login at its next request.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.db import transaction

from prewatt.access.duties import properties_of
from prewatt.access.models import User
from prewatt.access.scope import Actor
from prewatt.audit.operations import record

PASSWORD_MIN: Final = 12
#: Nobody has a longer password, and to digest one costs by its length.
PASSWORD_MAX: Final = 1024


class PasswordRefused(Exception):
    """The password stays what it was. ``reason`` is `unknown`, `inactive`, `short`, `long`, `signs` or
    `same`; the text says what to do.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def set_password(*, actor: Actor, email: str, password: str, now: datetime) -> User:
    """Give a login this password, end its sessions, and say so at each property it has a duty at.

    Works under the database's owner only: no other login may write a digest. Raises PasswordRefused.
    """
    refuse_weak(password)
    with transaction.atomic():
        found = User.objects.select_for_update().filter(email=email.strip().lower()).first()
        if found is None:
            raise PasswordRefused("unknown", f"there is no login {email.strip()!r}")
        if not found.is_active:
            raise PasswordRefused("inactive", f"the login {found.email} is closed")
        if found.check_password(password):
            raise PasswordRefused("same", "that is the password it has; choose another")
        had_one = found.has_usable_password()
        found.set_password(password)
        found.save(update_fields=["password"])
        # Of a login without a duty there is no property to tell; its password is nobody's secret yet.
        for place in properties_of(found.pk):
            record(
                actor=actor.code,
                code="access.password.reset" if had_one else "access.password.set",
                property_id=place,
                subject=f"user:{found.pk}",
                now=now,
            )
    return found


def refuse_weak(password: str) -> None:
    """Raise PasswordRefused for what is too short, too long or not to be typed."""
    if len(password) < PASSWORD_MIN:
        raise PasswordRefused("short", f"a password has at least {PASSWORD_MIN} characters")
    if len(password) > PASSWORD_MAX:
        raise PasswordRefused("long", f"a password has at most {PASSWORD_MAX} characters")
    if not password.isprintable():
        raise PasswordRefused("signs", "a password is one line of signs that can be typed")
