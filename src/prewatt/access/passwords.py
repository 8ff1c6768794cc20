"""A login's password, set or set anew by whoever keeps the installation.

The web's login may not write a digest, so no form can: who takes the web over cannot take a person's
sign-in over for good. Sessions carry a mark of the password they began with (Django's session hash),
so a new one ends every session of that login at its next request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Final
from unicodedata import normalize

from django.contrib.auth.password_validation import CommonPasswordValidator
from django.db import connection, transaction

from prewatt.access.duties import properties_of
from prewatt.access.models import Duty, User
from prewatt.access.scope import Actor, scope
from prewatt.audit.operations import record

PASSWORD_MIN: Final = 12
#: Nobody has a longer password, and to digest one costs by its length.
PASSWORD_MAX: Final = 1024
#: A shorter word stands in too many good passwords; so much else a password has beside one.
_WORD_MIN: Final = 4
_BESIDE_MIN: Final = 6


class PasswordRefused(Exception):
    """The password stays what it was. ``reason`` is `unknown`, `inactive`, `short`, `long`, `signs`,
    `common`, `named` or `same`; the text says what to do.
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
        refuse_weak(password, _called(found))
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


def words_about(user: User, property_ids: Sequence[int]) -> tuple[str, ...]:
    """What whoever guesses at somebody's password tries first: their address, their name, their properties.

    Whoever chooses a password may know what the properties are called that they come to.
    """
    actor = Actor(f"user:{user.pk}", Duty.TENANT, tuple(property_ids))
    with scope(actor), connection.cursor() as cursor:
        cursor.execute("SELECT name FROM property WHERE id = ANY(%s)", [list(property_ids)])
        return (*_called(user), *(row[0] for row in cursor.fetchall()))


def _called(user: User) -> tuple[str, ...]:
    mailbox, _, host = user.email.partition("@")
    return (user.name, *user.name.split(), mailbox, host.partition(".")[0])


def refuse_weak(password: str, about: Iterable[str] = ()) -> None:
    """Raise PasswordRefused for what is too short, too long, not to be typed, or guessed early.

    That is what many people use, and what is little more than a word about this person (``about``).
    """
    if len(password) < PASSWORD_MIN:
        raise PasswordRefused("short", f"a password has at least {PASSWORD_MIN} characters")
    if len(password) > PASSWORD_MAX:
        raise PasswordRefused("long", f"a password has at most {PASSWORD_MAX} characters")
    if not password.isprintable():
        raise PasswordRefused("signs", "a password is one line of signs that can be typed")
    plain = _plain(password)
    if password.lower().strip() in _common() or plain in _common():
        raise PasswordRefused("common", "many people use that password; choose another")
    for word in about:
        if len(_plain(word)) >= _WORD_MIN and len(plain.replace(_plain(word), "")) < _BESIDE_MIN:
            raise PasswordRefused("named", "that is little more than a name; choose another")


def _plain(text: str) -> str:
    """Letters and digits alone, small, without accents: ``O'Brien-2026!`` is ``obrien2026``."""
    return "".join(each for each in normalize("NFKD", text).lower() if each.isalnum())


@cache
def _common() -> frozenset[str]:
    """Django's list of the 20,000 passwords that people use most (its validator's, BSD licence), each also twice and
    three times over: ``password`` has eight letters, and ``passwordpassword`` is no better.
    """
    listed = CommonPasswordValidator().passwords
    again = {each * times for each in listed for times in (2, 3)}
    return frozenset(listed | {each for each in again if len(each) >= PASSWORD_MIN})
