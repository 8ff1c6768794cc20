"""A person's second factor: a code of six digits that changes every 30 s (TOTP, RFC 6238).

A person takes it up by themselves, with the app of their choice (`sign_in.factors` keeps it). From then on
`prove` turns one code into a step-up: the proof that this person was there for one deed, which a digest
names. A password alone never brings a second factor about where there was one.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final

import pyotp
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import connection, transaction

from prewatt.access import throttle
from prewatt.access.models import SecondFactor, User
from prewatt.audit.refusals import Noticed
from prewatt.core.throttle import FACTOR

STEP_S: Final = 30
#: A code of the step before or after counts, too: clocks differ, and people need time to type.
_STEPS_APART: Final = 1
#: How long the secret on the screen waits for the first code from the app.
OFFER_LASTS: Final = timedelta(minutes=15)
ISSUER: Final = "Prewatt"


class FactorRefused(Noticed):
    """No second factor was proved or taken up.

    ``reason`` is `none` (this person has none yet), `code` (wrong, or used before), `wait` (too many wrong
    ones, ``wait_s`` says how long), `enrolled` (has one already), `stale` (offered too long ago), or a word of
    `sign_in`: `passkey`, `copied`, `challenge`, `step_up`, `last`, `gone`, `many`, `name`, `known`, `recovery`,
    `waiting`, `early`, `unknown`.
    """

    what = "factor"
    noticed = frozenset({"code", "wait", "passkey", "copied", "recovery"})

    def __init__(self, reason: str, *, wait_s: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


class NoFactorKey(RuntimeError):
    """``PREWATT_FACTOR_KEYS`` is not set, so no second factor can be kept."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A secret that its app has shown, sealed, and the time step of the code that showed it."""

    sealed_secret: bytes
    step: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A secret that nobody has confirmed yet. ``sealed`` travels with the form; it is of no use to a
    reader. ``uri`` is what an app reads from a QR code, ``secret`` what one types instead.
    """

    sealed: str
    secret: str
    uri: str


def has_factor(user: User) -> bool:
    """Whether this person has taken a second factor up."""
    return SecondFactor.objects.filter(user=user).exists()


def offer(*, user: User, now: datetime) -> Offer:
    """A new secret for an app; nothing is kept until `enrol`. Raises FactorRefused `enrolled`."""
    if has_factor(user):
        raise FactorRefused("enrolled")
    return _offer(user, pyotp.random_base32(), now)


def offered_again(*, user: User, sealed: str, now: datetime) -> Offer:
    """The offer of a form that is shown once more. Raises FactorRefused `stale`."""
    return _offer(user, _secret_of(user, sealed, now), now)


def confirmed(*, user: User, sealed: str, code: str, now: datetime) -> Confirmed:
    """The offered secret as it is kept, if ``code`` shows that the app has it. Raises FactorRefused.

    `sign_in.factors` takes it up.
    """
    secret = _secret_of(user, sealed, now)
    with counted_try(user, now):
        step = _step_of(secret, code, after=-1, now=now)
        if step is None:
            raise FactorRefused("code")
    return Confirmed(_box().encrypt(secret.encode()), step)


def prove(*, user: User, code: str, digest: bytes, now: datetime) -> int:
    """The id of a step-up of this person for the deed that ``digest`` (32 bytes) names.

    The code is used up, whatever becomes of the deed. Raises FactorRefused.
    """
    with counted_try(user, now), transaction.atomic():
        _use_up(user, code, now)
        # Only the columns that the web's login may fill: when it was issued, the database says.
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO step_up (user_id, digest) VALUES (%s, %s) RETURNING id",
                [user.pk, digest],
            )
            return int(cursor.fetchone()[0])


def accept(*, user: User, code: str, now: datetime) -> None:
    """Use a code up at the sign-in: it proves who is there, and no deed. Raises FactorRefused."""
    with counted_try(user, now), transaction.atomic():
        _use_up(user, code, now)


@contextmanager
def counted_try(user: User, now: datetime) -> Iterator[None]:
    """A try at any second factor of this person, counted before it is looked at; what is raised failed.

    Codes, passkeys and recovery codes share the count. Raises FactorRefused `wait`.
    """
    tried = throttle.begin_with({throttle.name("factor", str(user.pk)): FACTOR}, now=now)
    if isinstance(tried, throttle.Wait):
        raise FactorRefused("wait", wait_s=tried.seconds)
    yield
    throttle.succeeded(tried)


def _use_up(user: User, code: str, now: datetime) -> None:
    factor = SecondFactor.objects.select_for_update().filter(user=user).first()
    if factor is None:
        raise FactorRefused("none")
    secret = _box().decrypt(bytes(factor.sealed_secret)).decode()
    step = _step_of(secret, code, after=factor.last_step, now=now)
    if step is None:
        raise FactorRefused("code")
    factor.last_step = step
    factor.save(update_fields=["last_step"])


def code_at(user: User, now: datetime) -> tuple[str, int]:
    """The next code of this person's app that was not used, and in how many seconds it counts.

    For a demonstration, where everything is invented.
    """
    factor = SecondFactor.objects.get(user=user)
    secret = _box().decrypt(bytes(factor.sealed_secret)).decode()
    step = max(_step(now), factor.last_step + 1)
    counts_from_s = (step - _STEPS_APART) * STEP_S
    return pyotp.TOTP(secret).generate_otp(step), max(0, ceil(counts_from_s - now.timestamp()))


def code_of_offer(offered: Offer, now: datetime) -> str:
    """The code that confirms an offer; for a demonstration, whose clock no phone follows."""
    return pyotp.TOTP(offered.secret).generate_otp(_step(now))


def _offer(user: User, secret: str, now: datetime) -> Offer:
    sealed = _box().encrypt_at_time(f"{user.pk}\n{secret}".encode(), int(now.timestamp()))
    uri = pyotp.TOTP(secret).provisioning_uri(name=user.email, issuer_name=ISSUER)
    return Offer(sealed.decode(), secret, uri)


def _secret_of(user: User, sealed: str, now: datetime) -> str:
    try:
        opened = _box().decrypt_at_time(
            sealed.encode(), int(OFFER_LASTS.total_seconds()), int(now.timestamp())
        )
    except InvalidToken:
        raise FactorRefused("stale") from None
    whose, secret = opened.decode().split("\n")
    if whose != str(user.pk):
        raise FactorRefused("stale")
    return secret


def _box() -> MultiFernet:
    if not settings.PREWATT_FACTOR_KEYS:
        raise NoFactorKey("PREWATT_FACTOR_KEYS is not set: second factors are sealed under it")
    return MultiFernet([Fernet(key) for key in settings.PREWATT_FACTOR_KEYS])


def _step(now: datetime) -> int:
    return int(now.timestamp()) // STEP_S


def _step_of(secret: str, code: str, *, after: int, now: datetime) -> int | None:
    """The time step whose code this is, later than the last one that was taken; None for no such."""
    typed = "".join(code.split())
    if not (typed.isascii() and typed.isdigit()):
        return None
    totp, here = pyotp.TOTP(secret), _step(now)
    for step in range(max(here - _STEPS_APART, after + 1), here + _STEPS_APART + 1):
        if hmac.compare_digest(totp.generate_otp(step), typed):
            return step
    return None
