"""Recovery codes: ten on paper, each good once. They sign in; they never prove a deed.

Twenty-four signs of 32 are 120 bits, which nobody tries through; kept is HMAC-SHA256 under the keys of second
factors, so that whoever reads the table alone has nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

from django.conf import settings
from django.db import connection

from prewatt.access.models import User
from prewatt.access.second_factor import NoFactorKey

CODES: Final = 10
#: Without 0, 1, l and o, which paper mixes up.
_SIGNS: Final = "23456789abcdefghijkmnpqrstuvwxyz"
_LENGTH: Final = 24
_GROUP: Final = 4


def new_codes() -> tuple[str, ...]:
    """Ten codes as they are shown, once."""
    return tuple(
        _grouped("".join(secrets.choice(_SIGNS) for _ in range(_LENGTH))) for _ in range(CODES)
    )


def digests(user: User, codes: Sequence[str]) -> list[bytes]:
    """What is kept of codes."""
    return [_digests(user, code)[0] for code in codes]


def use(*, user: User, code: str) -> bool:
    """Use a code up; False where it is none of this person's, or used."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT use_recovery_code(%s, %s)", [user.pk, possible(user, code)])
        return bool(cursor.fetchone()[0])


def possible(user: User, code: str) -> list[bytes]:
    """The digests that a typed code would have under each key there is; none for what is no code."""
    plain = "".join(code.lower().replace("-", "").split())
    if len(plain) != _LENGTH or not set(plain) <= set(_SIGNS):
        return []
    return _digests(user, plain)


def left(user: User) -> int:
    """How many codes are good."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT recovery_codes_left(%s)", [user.pk])
        return int(cursor.fetchone()[0])


def _grouped(plain: str) -> str:
    return "-".join(plain[at : at + _GROUP] for at in range(0, _LENGTH, _GROUP))


def _digests(user: User, code: str) -> list[bytes]:
    if not settings.PREWATT_FACTOR_KEYS:
        raise NoFactorKey("PREWATT_FACTOR_KEYS is not set: recovery codes are kept under it")
    text = f"recovery\n{user.pk}\n{code.replace('-', '')}".encode()
    return [
        hmac.digest(hashlib.sha256(key.encode()).digest(), text, "sha256")
        for key in settings.PREWATT_FACTOR_KEYS
    ]
