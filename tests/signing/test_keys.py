"""What a signature vouches for, what it does not, and which key may give it."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from prewatt.signing.keyring import Keyring, NoSigningKey, open_keyring
from prewatt.signing.keys import (
    BadSignature,
    KeyRole,
    PublicKey,
    Signature,
    SoftwareSigner,
    signed_by,
    verify,
)
from prewatt.signing.store import KeyStoreRefused

NOW = datetime(2026, 11, 28, 1, 2, 3, 456789, tzinfo=UTC)
DAY = timedelta(days=1)


def signer(role: KeyRole = KeyRole.RECEIPT, seed: int = 1, **changes: datetime) -> SoftwareSigner:
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed] * 32))
    values = {"signs_from": NOW - DAY} | changes
    return SoftwareSigner(
        PublicKey(role, private.public_key().public_bytes_raw(), **values), private
    )


def reason(payload: bytes, signature: Signature, *keys: PublicKey) -> str:
    with pytest.raises(BadSignature) as refused:
        verify(payload, signature, keys)
    return refused.value.reason


def test_what_is_signed_is_stated_to_the_byte() -> None:
    """Whoever verifies without us needs no more than this line, and it must never change."""
    one = signer()
    signature = signed_by(one, b"paid", now=NOW)
    key_id = hashlib.sha256(b"receipt\n" + one.public.value).hexdigest()[:32]
    message = f"prewatt-signature-v1\nreceipt\n{key_id}\n1795827723456789\npaid"
    one.private.public_key().verify(signature.value, message.encode())
    assert verify(b"paid", signature, [one.public]) is one.public
    assert Signature.from_json(signature.as_json()) == signature


def test_no_part_of_a_signature_can_be_said_to_be_another() -> None:
    one, other = signer(), signer(seed=2)
    signature = signed_by(one, b"paid", now=NOW)
    keys = (one.public, other.public)
    assert reason(b"paid 2", signature, *keys) == "forged"
    later = dataclasses.replace(signature, signed_at=NOW + timedelta(microseconds=1))
    assert reason(b"paid", later, *keys) == "forged"
    assert reason(b"paid", dataclasses.replace(signature, value=b"\0" * 64), *keys) == "forged"
    assert reason(b"paid", dataclasses.replace(signature, value=b""), *keys) == "forged"
    named = dataclasses.replace(signature, key_id=other.public.key_id)
    assert reason(b"paid", named, *keys) == "forged"
    assert reason(b"paid", signature, other.public) == "unknown_key"
    role = dataclasses.replace(signature, role=KeyRole.CHECKPOINT)
    assert reason(b"paid", role, *keys) == "unknown_key"


def test_the_same_key_in_two_roles_is_two_keys() -> None:
    """Even where somebody gave one pair of halves two roles, a receipt is no checkpoint."""
    receipt, checkpoint = signer(), signer(KeyRole.CHECKPOINT)
    assert receipt.public.value == checkpoint.public.value
    assert receipt.public.key_id != checkpoint.public.key_id
    given = signed_by(receipt, b"root", now=NOW)
    moved = dataclasses.replace(given, role=KeyRole.CHECKPOINT, key_id=checkpoint.public.key_id)
    assert reason(b"root", moved, receipt.public, checkpoint.public) == "forged"


def test_a_key_is_believed_for_its_time_and_not_at_all_once_revoked() -> None:
    one = signer()
    signature = signed_by(one, b"paid", now=NOW)
    assert verify(b"paid", signature, [dataclasses.replace(one.public, signs_until=NOW + DAY)])
    ended = dataclasses.replace(one.public, signs_until=NOW)
    assert reason(b"paid", signature, ended) == "outside"
    young = dataclasses.replace(one.public, signs_from=NOW + DAY)
    assert reason(b"paid", signature, young) == "outside"
    stolen = dataclasses.replace(one.public, revoked_at=NOW + DAY)
    assert reason(b"paid", signature, stolen) == "revoked"


@pytest.mark.parametrize(
    "change",
    [
        {"role": "owner"}, {"algorithm": "none"}, {"signed_at": "2026-11-28T00:00:00"},
        {"signed_at": "yesterday"}, {"value": "§"}, {"value": 3}, {"key_id": None},
    ],
)  # fmt: skip
def test_a_malformed_signature_is_called_that(change: dict[str, object]) -> None:
    document: dict[str, object] = {**signed_by(signer(), b"paid", now=NOW).as_json(), **change}
    with pytest.raises(BadSignature, match="malformed"):
        Signature.from_json(document)
    document.pop(next(iter(change)))
    with pytest.raises(BadSignature, match="malformed"):
        Signature.from_json(document)


def test_the_newest_key_of_a_role_signs_and_no_key_signs_for_another_role() -> None:
    former = signer(signs_until=NOW + 2 * DAY)
    following = signer(seed=2, signs_from=NOW)
    ring = Keyring([former, following, signer(KeyRole.AUDIT_EXPORT, seed=3)])
    before = ring.sign(KeyRole.RECEIPT, b"a", now=NOW - timedelta(microseconds=1))
    after = ring.sign(KeyRole.RECEIPT, b"b", now=NOW)
    assert (before.key_id, after.key_id) == (former.public.key_id, following.public.key_id)
    for payload, each in ((b"a", before), (b"b", after)):
        assert verify(payload, each, ring.public_keys())
    with pytest.raises(NoSigningKey, match="prewatt keys make checkpoint"):
        ring.sign(KeyRole.CHECKPOINT, b"root", now=NOW)
    with pytest.raises(NoSigningKey):
        Keyring([signer(signs_until=NOW)]).sign(KeyRole.RECEIPT, b"late", now=NOW)


def test_without_a_store_nothing_is_signed() -> None:
    with pytest.raises(KeyStoreRefused, match="PREWATT_KEY_STORE_KEYS"):
        open_keyring({})
    with pytest.raises(NoSigningKey, match="PREWATT_KEY_STORE"):
        open_keyring({"PREWATT_KEY_STORE_KEYS": "x"})
