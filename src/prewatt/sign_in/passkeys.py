"""Passkeys (WebAuthn Level 3): what a browser is asked, and what its answer proves.

The signature is checked here with ``fido2``; that a challenge is fresh, one person's, for one deed and good
once, and that a count grows, is held by the functions in ``sql/0001_factors.sql``. User verification (the
device's own code, finger or face) is always asked for. Attestation is not: who made a device proves
nothing about who holds it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

from django.db import connection
from fido2 import cbor
from fido2.cose import CoseKey
from fido2.server import Fido2Server
from fido2.utils import websafe_encode
from fido2.webauthn import (
    Aaguid,
    AttestedCredentialData,
    AuthenticationResponse,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialType,
    PublicKeyCredentialUserEntity,
    RegistrationResponse,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from prewatt.access.models import User
from prewatt.access.second_factor import ISSUER, FactorRefused
from prewatt.sign_in.models import Passkey

#: Nobody's answer is longer: a key, a signature, and what the browser says it signed.
ANSWER_MAX: Final = 8_192
NAME_MAX: Final = 60
_REQUIRED: Final = UserVerificationRequirement.REQUIRED
#: What nobody's device says is passed on to no browser.
_WAYS: Final = frozenset(way.value for way in AuthenticatorTransport)


@dataclass(frozen=True, slots=True)
class Made:
    """A new key pair's public half, as its device answered; checked, and not kept yet."""

    credential_id: bytes
    public_key: bytes
    sign_count: int
    is_synced: bool
    ways: str


@dataclass(frozen=True, slots=True)
class Proved:
    """What the database made of a signature. ``step_up_id`` is None at a sign-in."""

    passkey: Passkey
    step_up_id: int | None


def usable(*, user: User, site: str) -> Sequence[Passkey]:
    """This person's passkeys for a host of ours."""
    return list(Passkey.objects.filter(user=user, site=site, removed_at=None).order_by("id"))


def challenge(*, user: User, purpose: str, digest: bytes = b"") -> bytes:
    """A new challenge for `add`, `sign_in`, or the `deed` that a digest names. Raises FactorRefused `wait`."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT ask_passkey(%s, %s, %s)", [user.pk, purpose, digest])
        (made,) = cursor.fetchone()
    if made is None:
        raise FactorRefused("wait", wait_s=300)
    return bytes(made)


def options_to_add(*, user: User, site: str, asked: bytes) -> dict[str, Any]:
    """What ``navigator.credentials.create`` is asked; bytes as base64url.

    The user's handle is our id of them: it tells a device that two passkeys are one person's, and nobody who.
    """
    wanted, _ = _server(site).register_begin(
        PublicKeyCredentialUserEntity(
            id=user.pk.to_bytes(8, "big"), name=user.email, display_name=user.name
        ),
        [_descriptor(each) for each in usable(user=user, site=site)],
        resident_key_requirement=ResidentKeyRequirement.DISCOURAGED,
        user_verification=_REQUIRED,
        challenge=asked,
    )
    return dict(wanted.public_key)


def options_to_prove(*, user: User, site: str, asked: bytes) -> dict[str, Any]:
    """What ``navigator.credentials.get`` is asked; bytes as base64url."""
    wanted, _ = _server(site).authenticate_begin(
        [_descriptor(each) for each in usable(user=user, site=site)],
        user_verification=_REQUIRED,
        challenge=asked,
    )
    return dict(wanted.public_key)


def made(*, answer: str, site: str) -> tuple[bytes, Made]:
    """(the challenge that was answered, the new passkey). Raises FactorRefused `passkey`.

    Whether we asked that challenge is for `add_passkey` to say.
    """
    response = _read(answer)
    try:
        registration = RegistrationResponse.from_dict(response)
        assert registration is not None
        client = registration.response.client_data
        found = _server(site).register_complete(_state(client.challenge), registration)
        kept = found.credential_data
        if kept is None or client.cross_origin or kept.credential_id != registration.raw_id:
            raise FactorRefused("passkey")
        ways = response.get("response", {}).get("transports", ())
        return client.challenge, Made(
            credential_id=kept.credential_id,
            public_key=cbor.encode(kept.public_key),
            sign_count=found.counter,
            is_synced=found.is_backed_up(),
            ways=",".join(sorted(_WAYS.intersection(filter(_is_text, ways)))),
        )
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        # What a stranger sends as CBOR and JSON can be wrong in any of these ways.
        raise FactorRefused("passkey") from error


def prove(*, user: User, answer: str, site: str, purpose: str, digest: bytes = b"") -> Proved:
    """What this person's passkey proves. Raises FactorRefused: `passkey` (no signature of theirs for
    this), `copied` (its count went back, and it is taken away).
    """
    response = _read(answer)
    mine = {bytes(each.credential_id): each for each in usable(user=user, site=site)}
    try:
        signed = AuthenticationResponse.from_dict(response)
        assert signed is not None
        client, counted = signed.response.client_data, signed.response.authenticator_data
        found = _server(site).authenticate_complete(
            _state(client.challenge), [_credential(each) for each in mine.values()], signed
        )
        if client.cross_origin:
            raise FactorRefused("passkey")
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise FactorRefused("passkey") from error
    passkey = mine[found.credential_id]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT step, refusal FROM use_passkey(%s, %s, %s, %s, %s, %s, %s)",
            [
                user.pk, passkey.pk, client.challenge, purpose, digest, counted.counter,
                counted.is_backed_up(),
            ],
        )  # fmt: skip
        step_up_id, refusal = cursor.fetchone()
    if refusal is not None:
        raise FactorRefused("copied" if refusal == "copied" else "passkey")
    return Proved(passkey, step_up_id)


def _server(site: str) -> Fido2Server:
    def is_ours(origin: str) -> bool:
        parts = urlsplit(origin)
        return parts.hostname == site and (parts.scheme == "https" or site == "localhost")

    return Fido2Server(PublicKeyCredentialRpEntity(id=site, name=ISSUER), verify_origin=is_ours)


def _state(answered: bytes) -> dict[str, Any]:
    return {"challenge": websafe_encode(answered), "user_verification": _REQUIRED}


def _read(answer: str) -> Mapping[str, Any]:
    try:
        found = json.loads(answer[: ANSWER_MAX + 1]) if len(answer) <= ANSWER_MAX else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FactorRefused("passkey")
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _credential(passkey: Passkey) -> AttestedCredentialData:
    key = CoseKey.parse(cast(Mapping[int, Any], cbor.decode(bytes(passkey.public_key))))
    return AttestedCredentialData.create(bytes(Aaguid.NONE), bytes(passkey.credential_id), key)


def _descriptor(passkey: Passkey) -> PublicKeyCredentialDescriptor:
    return PublicKeyCredentialDescriptor(
        type=PublicKeyCredentialType.PUBLIC_KEY,
        id=bytes(passkey.credential_id),
        transports=[AuthenticatorTransport(way) for way in passkey.ways.split(",") if way] or None,
    )
