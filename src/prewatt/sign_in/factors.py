"""What proves a person besides their password: an app's codes and passkeys, taken up, used and given up.

Each change is one function of the database (``sql/0001_factors.sql``), which asks whoever has a factor for
a step-up for just that change; this module checks codes and signatures, says what happened at each
property of the person, and sends them a notice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.contrib.auth.hashers import make_password
from django.db import connection, transaction

from prewatt.access import second_factor
from prewatt.access.duties import properties_of
from prewatt.access.models import SecondFactor, User
from prewatt.access.passwords import refuse_weak, words_about
from prewatt.access.scope import Actor, actor_for, scope
from prewatt.access.second_factor import FactorRefused, counted_try
from prewatt.audit.operations import record
from prewatt.sign_in import notices, passkeys, recovery
from prewatt.sign_in.models import NewFactor, Passkey

#: Deeds on oneself, as the database names them.
ADD_PASSKEY: Final = "passkey.add"
REMOVE_PASSKEY: Final = "passkey.remove"
TAKE_UP_APP: Final = "app.take_up"
DROP_APP: Final = "app.drop"
MAKE_CODES: Final = "recovery.make"
NEW_PASSWORD: Final = "password.change"  # noqa: S105  the name of a deed


@dataclass(frozen=True, slots=True)
class Proof:
    """What a form brings: an app's code, a passkey's answer (JSON) or a recovery code, and at which host."""

    code: str = ""
    passkey: str = ""
    recovery: str = ""
    site: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a person has. ``passkeys`` are those of one host, ``elsewhere`` counts those of others."""

    app: SecondFactor | None
    passkeys: Sequence[Passkey]
    elsewhere: int
    codes_left: int
    needs_one: bool
    waits: NewFactor | None

    @property
    def has_one(self) -> bool:
        """Whether anything proves this person besides the password."""
        return self.app is not None or bool(self.passkeys) or self.elsewhere > 0


def standing(*, user: User, site: str) -> Standing:
    """All that a person's own page shows of their factors."""
    keys = list(Passkey.objects.filter(user=user, removed_at=None).order_by("id"))
    here = [each for each in keys if each.site == site]
    return Standing(
        app=SecondFactor.objects.filter(user=user).first(),
        passkeys=here,
        elsewhere=len(keys) - len(here),
        codes_left=recovery.left(user),
        needs_one=needs_one(user),
        waits=NewFactor.objects.filter(user=user, ended_at=None).first(),
    )


def has_one(user: User) -> bool:
    """Whether this person has an app or a passkey."""
    return bool(_ask("SELECT has_factor(%s)", user.pk))


def needs_one(user: User) -> bool:
    """Whether a duty of this person asks for a second factor at the sign-in."""
    return bool(_ask("SELECT needs_factor(%s)", user.pk))


def own_deed(deed: str, about: str = "") -> bytes:
    """The digest of a deed on oneself: SHA-256 as the database's ``own_deed`` makes it."""
    inner = hashlib.sha256(about.encode()).digest()
    return hashlib.sha256(deed.encode() + b"\n" + inner).digest()


def prove(*, user: User, proof: Proof, digest: bytes, now: datetime) -> int:
    """The id of a step-up of this person for the deed that ``digest`` names. Raises FactorRefused.

    A recovery code is none: it says that the factor is lost.
    """
    if not proof.passkey:
        return second_factor.prove(user=user, code=proof.code, digest=digest, now=now)
    with counted_try(user, now):
        found = _by_passkey(user, proof, "deed", digest, now)
    assert found is not None
    return found


def prove_sign_in(*, user: User, proof: Proof, now: datetime) -> str:
    """What stood beside the password: `code`, `passkey` or `recovery`. Raises FactorRefused."""
    if proof.passkey:
        with counted_try(user, now):
            _by_passkey(user, proof, "sign_in", b"", now)
        return "passkey"
    if proof.recovery:
        with counted_try(user, now):
            if not recovery.use(user=user, code=proof.recovery):
                raise FactorRefused("recovery")
        _happened(user, "access.recovery.used", now, left=recovery.left(user))
        return "recovery"
    second_factor.accept(user=user, code=proof.code, now=now)
    return "code"


def take_up_app(
    *, user: User, sealed: str, code: str, step_up_id: int | None, now: datetime
) -> Sequence[str]:
    """Take an app's secret up; returns the recovery codes that come with a first factor, else none.

    ``step_up_id`` is None for a first factor. Raises FactorRefused.
    """
    found = second_factor.confirmed(user=user, sealed=sealed, code=code, now=now)
    codes = () if has_one(user) else recovery.new_codes()
    with transaction.atomic():
        _do(
            "SELECT take_up_app(%s, %s, %s, %s, %s, %s)",
            [
                user.pk, found.sealed_secret, now, found.step, recovery.digests(user, codes),
                step_up_id,
            ],
        )  # fmt: skip
        _happened(user, "access.factor.enrolled", now)
    return codes


def add_passkey(
    *, user: User, answer: str, name: str, site: str, proof: Proof, now: datetime
) -> Sequence[str]:
    """Add a new passkey, proved by what the person has already; returns the recovery codes that come
    with a first factor, else none. Raises FactorRefused.
    """
    asked, new = passkeys.made(answer=answer, site=site)
    had_one = has_one(user)
    step_up_id = (
        prove(user=user, proof=proof, digest=own_deed(ADD_PASSKEY, asked.hex()), now=now)
        if had_one
        else None
    )
    codes = () if had_one else recovery.new_codes()
    with transaction.atomic():
        _do(
            "SELECT add_passkey(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                user.pk, name[: passkeys.NAME_MAX], site, new.credential_id, new.public_key,
                new.sign_count, new.is_synced, new.ways, asked, recovery.digests(user, codes),
                step_up_id,
            ],
        )  # fmt: skip
        _happened(user, "access.passkey.added", now, name=name)
    return codes


def remove_passkey(*, user: User, passkey_id: int, step_up_id: int, now: datetime) -> None:
    """Give a passkey up. Raises FactorRefused `last` where a duty needs one, `gone`, `step_up`."""
    name = Passkey.objects.filter(user=user, pk=passkey_id).values_list("name", flat=True).first()
    with transaction.atomic():
        _do("SELECT remove_passkey(%s, %s, %s)", [user.pk, passkey_id, step_up_id])
        _happened(user, "access.passkey.removed", now, name=name)


def drop_app(*, user: User, step_up_id: int, now: datetime) -> None:
    """Give the app up. Raises FactorRefused `last`, `none`, `step_up`."""
    with transaction.atomic():
        _do("SELECT drop_app(%s, %s)", [user.pk, step_up_id])
        _happened(user, "access.factor.dropped", now)


def make_codes(*, user: User, step_up_id: int, now: datetime) -> Sequence[str]:
    """Ten new recovery codes in the place of all older ones. Raises FactorRefused."""
    codes = recovery.new_codes()
    with transaction.atomic():
        _do(
            "SELECT make_recovery_codes(%s, %s, %s)",
            [user.pk, recovery.digests(user, codes), step_up_id],
        )
        _happened(user, "access.recovery.made", now)
    return codes


def ask_new_factor(*, user: User, code: str, now: datetime) -> datetime:
    """A lost factor: with one more recovery code, another may be taken up a day later; returns when.

    Raises FactorRefused `recovery`, `waiting`.
    """
    with counted_try(user, now), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT good_from, refusal FROM ask_new_factor(%s, %s)",
                [user.pk, recovery.possible(user, code)],
            )
            good_from, refusal = cursor.fetchone()
        if refusal is not None:
            raise FactorRefused("recovery" if refusal == "code" else refusal)
        _happened(user, "access.factor.asked", now, good_from=good_from)
    assert isinstance(good_from, datetime)
    return good_from


def keep_factor(*, user: User, now: datetime) -> bool:
    """Take the asking back: what the person has stays. False where nothing was asked."""
    with transaction.atomic():
        had = bool(_ask("SELECT keep_factor(%s)", user.pk))
        if had:
            _happened(user, "access.factor.kept", now)
    return had


def begin_anew(*, user: User, now: datetime) -> None:
    """Take every factor and code away, after the wait. Raises FactorRefused `early`, `none`."""
    with transaction.atomic():
        _do("SELECT begin_anew(%s)", [user.pk])
        _happened(user, "access.factor.forgotten", now)


def change_password(*, user: User, password: str, step_up_id: int, now: datetime) -> None:
    """Give oneself another password. Raises PasswordRefused and FactorRefused `step_up`.

    Ending the other sessions is for `sessions.end_others`; Django's mark of the password ends them too.
    """
    refuse_weak(password, words_about(user, properties_of(user.pk)))
    with transaction.atomic():
        _do("SELECT change_password(%s, %s, %s)", [user.pk, make_password(password), step_up_id])
        _happened(user, "access.password.changed", now)


def forget(*, actor: Actor, user: User, now: datetime) -> bool:
    """Take every factor of a person away, so that they take up another; False where they had none.

    Works under the database's owner only.
    """
    with transaction.atomic():
        apps, _ = SecondFactor.objects.filter(user=user).delete()
        keys = Passkey.objects.filter(user=user, removed_at=None).update(
            removed_at=now, removed_why="keeper"
        )
        with connection.cursor() as cursor:
            cursor.execute(
                """UPDATE recovery_code SET replaced_at = %s
                   WHERE user_id = %s AND used_at IS NULL AND replaced_at IS NULL""",
                [now, user.pk],
            )
        if apps or keys:
            for place in properties_of(user.pk):
                record(
                    actor=actor.code, code="access.factor.forgotten", property_id=place,
                    subject=f"user:{user.pk}", now=now,
                )  # fmt: skip
            notices.enqueue(user=user, code="access.factor.forgotten", detail={}, now=now)
    return bool(apps or keys)


def actors_of(user: User) -> list[Actor]:
    """This person at each property they have a duty at."""
    return [actor_for(user, property_id=each) for each in properties_of(user.pk)]


def _by_passkey(user: User, proof: Proof, purpose: str, digest: bytes, now: datetime) -> int | None:
    try:
        return passkeys.prove(
            user=user, answer=proof.passkey, site=proof.site, purpose=purpose, digest=digest
        ).step_up_id
    except FactorRefused as refusal:
        if refusal.reason == "copied":
            _happened(user, "access.passkey.copied", now)
        raise


def _happened(user: User, code: str, now: datetime, **detail: object) -> None:
    """Say it at each property of this person, and write to them; last in a transaction, for a role of
    a duty that is taken in one stays to its end.
    """
    with transaction.atomic():
        notices.enqueue(user=user, code=code, detail=detail, now=now)
        for actor in actors_of(user):
            with scope(actor):
                record(
                    actor=actor.code, code=code, property_id=actor.property_ids[0],
                    subject=f"user:{user.pk}", now=now, **detail,
                )  # fmt: skip


def _do(statement: str, parameters: Sequence[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        (refusal,) = cursor.fetchone()
    if refusal is not None:
        raise FactorRefused(refusal)


def _ask(statement: str, *parameters: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchone()[0]
