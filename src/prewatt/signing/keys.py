"""What a signature is: Ed25519 (RFC 8032) over role, key id, instant and payload.

The first lines of what is signed say what for, by whom and when, so that a signature of one kind is never one
of another, and none can be said to be of another key or another instant. Instructions to meters are signed with
ES256 (ECDSA on P-256 with SHA-256, RFC 9053), which secure elements of meters have, in an envelope of their own
(`core.cose`), whose first words keep them apart from these.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from prewatt.signing.es256 import ES256PrivateKey

ALGORITHM: Final = "Ed25519"
ES256: Final = "ES256"
_CONTEXT: Final = b"prewatt-signature-v1"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class KeyRole(StrEnum):
    """What a key signs. No key has two roles: whoever holds one can forge one kind of thing."""

    #: What an auditor takes with them.
    AUDIT_EXPORT = "audit-export"
    #: What a payer holds in hands.
    RECEIPT = "receipt"
    #: The head of a transparency log.
    CHECKPOINT = "checkpoint"
    #: What a meter is told to do.
    INSTRUCTION = "instruction"
    #: All that is known of somebody, as they are given it.
    PERSONAL_FILE = "personal-file"

    @property
    def algorithm(self) -> str:
        """What the role's keys sign with; its signatures have 64 bytes either way."""
        return ES256 if self is KeyRole.INSTRUCTION else ALGORITHM


class BadSignature(ValueError):
    """Not a signature of this payload by any key that is believed.

    ``reason`` is `malformed`, `unknown_key`, `revoked`, `outside` (its key did not sign at that
    instant) or `forged` (of other bytes, or by nobody).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"no valid signature: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The half that everybody may know.

    ``value`` has the 32 bytes of Ed25519, or the 65 of an uncompressed point for ES256. It signs from
    ``signs_from`` until ``signs_until`` (None: no end is set). What it signed then is verified for
    ever, unless ``revoked_at`` is set.
    """

    role: KeyRole
    value: bytes
    signs_from: datetime
    signs_until: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def key_id(self) -> str:
        """32 hexadecimal digits that no other key has."""
        return hashlib.sha256(f"{self.role}\n".encode() + self.value).hexdigest()[:32]

    def signs_at(self, now: datetime) -> bool:
        """Whether a signature of that instant is believed."""
        ended = self.signs_until is not None and now >= self.signs_until
        return self.revoked_at is None and now >= self.signs_from and not ended


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signed, as what, when, and the 64 bytes that show it."""

    role: KeyRole
    key_id: str
    signed_at: datetime
    value: bytes

    def as_json(self) -> dict[str, str]:
        """As plain texts, for a document."""
        return {
            "role": str(self.role),
            "key_id": self.key_id,
            "algorithm": ALGORITHM,
            "signed_at": self.signed_at.astimezone(UTC).isoformat(),
            "value": base64.b64encode(self.value).decode("ascii"),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> Signature:
        """The signature of a document; raises BadSignature `malformed`."""
        try:
            texts = {name: _text(document[name]) for name in _FIELDS}
            if texts["algorithm"] != ALGORITHM:
                raise BadSignature("malformed")
            return cls(
                KeyRole(texts["role"]),
                texts["key_id"],
                _aware(datetime.fromisoformat(texts["signed_at"])),
                base64.b64decode(texts["value"], validate=True),
            )
        except (KeyError, ValueError, binascii.Error):
            raise BadSignature("malformed") from None


_FIELDS: Final = ("role", "key_id", "algorithm", "signed_at", "value")


class Signer(Protocol):
    """Whatever signs with one key: software here, a token behind PKCS#11 where one is built in."""

    @property
    def public(self) -> PublicKey:
        """The key's other half."""
        ...

    def sign(self, message: bytes) -> bytes:
        """64 bytes over the message as it is, by the algorithm of the key's role.

        `signed_by` says what is signed and for what.
        """
        ...


@dataclass(frozen=True, slots=True)
class SoftwareSigner:
    """A key in this process's memory."""

    public: PublicKey
    private: Ed25519PrivateKey | ES256PrivateKey = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """See `Signer`."""
        return self.private.sign(message)


def signed_by(signer: Signer, payload: bytes, *, now: datetime) -> Signature:
    """Sign the payload as what the signer's key is for. Raises ValueError for a key of instructions."""
    key, at = signer.public, _aware(now)
    if key.role.algorithm != ALGORITHM:
        raise ValueError(f"a key of the role {key.role} signs envelopes of its own")
    value = signer.sign(_signed_bytes(key.role, key.key_id, at, payload))
    return Signature(key.role, key.key_id, at, value)


def verify(payload: bytes, signature: Signature, keys: Iterable[PublicKey]) -> PublicKey:
    """The key, among those that are believed, that signed this payload. Raises BadSignature."""
    named = (signature.role, signature.key_id)
    key = next((each for each in keys if (each.role, each.key_id) == named), None)
    if key is None:
        raise BadSignature("unknown_key")
    if key.role.algorithm != ALGORITHM:
        raise BadSignature("unknown_key")
    if key.revoked_at is not None:
        raise BadSignature("revoked")
    if not key.signs_at(signature.signed_at):
        raise BadSignature("outside")
    message = _signed_bytes(key.role, key.key_id, signature.signed_at, payload)
    try:
        Ed25519PublicKey.from_public_bytes(key.value).verify(signature.value, message)
    except InvalidSignature:
        raise BadSignature("forged") from None
    return key


def _signed_bytes(role: KeyRole, key_id: str, at: datetime, payload: bytes) -> bytes:
    """The lines before the payload have no free text, so where they end is beyond doubt."""
    instant_us = (at - _EPOCH) // timedelta(microseconds=1)
    head = [_CONTEXT, role.encode(), key_id.encode(), str(instant_us).encode()]
    return b"\n".join([*head, payload])


def _aware(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError("an instant needs its offset from UTC")
    return at


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BadSignature("malformed")
    return value
