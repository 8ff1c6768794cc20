"""The key store: sealed, replaced whole, rotated with overlap, and telling nobody what it keeps."""

from __future__ import annotations

import base64
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from prewatt import cli
from prewatt.signing.keyring import open_keyring
from prewatt.signing.keys import BadSignature, KeyRole, signed_by, verify
from prewatt.signing.store import KeyStore, KeyStoreRefused

NOW = datetime(2026, 11, 28, tzinfo=UTC)
HOUR = timedelta(hours=1)
RECEIPT = KeyRole.RECEIPT


@pytest.fixture
def seal() -> str:
    return Fernet.generate_key().decode()


@pytest.fixture
def store(tmp_path: Path, seal: str) -> KeyStore:
    return KeyStore(tmp_path / "keys.json", [seal])


def test_a_rotation_overlaps_and_what_the_former_key_signed_verifies_for_ever(
    store: KeyStore,
) -> None:
    assert store.public_keys() == [] and not store.path.exists()
    first = store.make(RECEIPT, signs_from=NOW)
    (old,) = store.signers()
    with pytest.raises(KeyStoreRefused, match="rotate it"):
        store.make(RECEIPT, signs_from=NOW)
    second = store.rotate(RECEIPT, signs_from=NOW + 5 * HOUR, now=NOW + HOUR, overlap=2 * HOUR)
    with pytest.raises(KeyStoreRefused, match="waits already"):
        store.rotate(RECEIPT, signs_from=NOW + 9 * HOUR, now=NOW + 2 * HOUR)
    keys = store.public_keys()
    assert [each.key_id for each in keys] == [first.key_id, second.key_id]
    # A process that has not looked again signs with the former one; only within the overlap is it believed.
    assert verify(b"x", signed_by(old, b"x", now=NOW + 6 * HOUR), keys).key_id == first.key_id
    with pytest.raises(BadSignature, match="outside"):
        verify(b"x", signed_by(old, b"x", now=NOW + 7 * HOUR), keys)
    for _ in range(3):
        now = store.public_keys()[-1].signs_from + HOUR
        store.rotate(RECEIPT, signs_from=now, now=now)
    assert verify(b"x", signed_by(old, b"x", now=NOW), store.public_keys())
    former, current = store.public_keys()[-2:]
    store.revoke(current.key_id, now=now)
    store.rotate(RECEIPT, signs_from=now + 99 * HOUR, now=now + 99 * HOUR)
    assert store.public_keys()[-3] == former, "an end is never put off"
    store.revoke(first.key_id, now=NOW + 9 * HOUR)
    with pytest.raises(BadSignature, match="revoked"):
        verify(b"x", signed_by(old, b"x", now=NOW), store.public_keys())
    with pytest.raises(KeyStoreRefused):
        store.revoke(first.key_id, now=NOW)


def test_the_file_shows_no_private_half_and_belongs_to_one_user(store: KeyStore, seal: str) -> None:
    store.make(RECEIPT, signs_from=NOW)
    (signer,) = store.signers()
    seed = signer.private.private_bytes_raw()
    shown = store.path.read_text() + repr(signer) + str(signer)
    for secret in (base64.b64encode(seed).decode(), seed.hex(), repr(seed), seal):
        assert secret not in shown
    assert store.path.stat().st_mode & 0o777 == 0o600
    store.path.chmod(0o620)
    with pytest.raises(KeyStoreRefused, match="others may write"):
        store.signers()


def test_a_store_that_was_tampered_with_is_refused_whole(store: KeyStore, seal: str) -> None:
    store.make(RECEIPT, signs_from=NOW)
    store.make(KeyRole.CHECKPOINT, signs_from=NOW)
    good = store.path.read_text()
    document = json.loads(good)
    receipt, checkpoint = document["keys"]
    swapped = [{**receipt, "sealed": checkpoint["sealed"]}, checkpoint]
    other = KeyStore(store.path.with_name("other.json"), [seal])
    other.make(RECEIPT, signs_from=NOW)
    (foreign,) = json.loads(other.path.read_text())["keys"]
    halves = [{**receipt, "key_id": foreign["key_id"], "public": foreign["public"]}, checkpoint]
    for keys, said in (
        (swapped, "private half of another"),
        (halves, "private half of another"),
        ([{**receipt, "key_id": "0" * 32}], "not the id"),
        ([{**receipt, "role": "checkpoint"}], "not the id"),
        ([{**receipt, "signs_from": "2026-11-28T00:00:00"}], "offset"),
        ([{**receipt, "more": 1}], "not one"),
    ):
        store.path.write_text(json.dumps({"version": 1, "keys": keys}))
        with pytest.raises(KeyStoreRefused, match=said) as refused:
            store.signers()
        assert seal not in str(refused.value)
    store.path.write_text(good)
    stranger = KeyStore(store.path, [Fernet.generate_key().decode()])
    with pytest.raises(KeyStoreRefused, match="sealed under another key"):
        stranger.signers()
    with pytest.raises(KeyStoreRefused, match="not a Fernet key") as refused:
        KeyStore(store.path, ["not-a-seal-but-secret"])
    assert "secret" not in str(refused.value)


def test_a_seal_is_replaced_with_overlap(store: KeyStore, seal: str) -> None:
    store.make(RECEIPT, signs_from=NOW)
    fresh = Fernet.generate_key().decode()
    assert KeyStore(store.path, [fresh, seal]).seal_again() == 1
    assert len(KeyStore(store.path, [fresh]).signers()) == 1
    with pytest.raises(KeyStoreRefused):
        store.signers()


def test_two_who_make_keys_at_once_lose_none(store: KeyStore, seal: str) -> None:
    refused: list[KeyStoreRefused] = []

    def make(role: KeyRole) -> None:
        try:
            KeyStore(store.path, [seal]).make(role, signs_from=NOW)
        except KeyStoreRefused as error:
            refused.append(error)

    threads = [threading.Thread(target=make, args=(role,)) for role in [*KeyRole, *KeyRole]]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {each.role for each in store.public_keys()} == set(KeyRole)
    assert len(store.public_keys()) == len(refused) == len(KeyRole)


def test_the_command_makes_rotates_and_lists_without_a_secret(
    tmp_path: Path, seal: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "secrets" / "keys.json"
    monkeypatch.delenv("PREWATT_DSN", raising=False)
    monkeypatch.setenv("PREWATT_KEY_STORE", str(path))
    monkeypatch.setenv("PREWATT_KEY_STORE_KEYS", seal)
    assert cli.main(["keys", "list"]) == 0
    assert cli.main(["keys", "make", "audit-export"]) == 0
    assert cli.main(["keys", "make", "audit-export"]) == 2
    assert cli.main(["keys", "rotate", "audit-export"]) == 2, "nobody can have agreed"
    alone = ["--alone", "drill"]
    rotate = ["keys", "rotate", "audit-export", "--overlap-hours", "1", *alone]
    assert cli.main(rotate) == 0
    assert cli.main(["keys", "reseal"]) == 0
    first = KeyStore(path, [seal]).public_keys()[0]
    assert cli.main(["keys", "revoke", first.key_id, *alone]) == 0
    shown = capsys.readouterr()
    assert "rotate it" in shown.err
    assert cli.main(["keys", "list", "--format", "json"]) == 0
    listed = capsys.readouterr().out
    assert [each["state"] for each in json.loads(listed)] == ["revoked", "signs"]
    for signer in KeyStore(path, [seal]).signers():
        seed = base64.b64encode(signer.private.private_bytes_raw()).decode()
        assert seed not in listed + shown.out + shown.err
    now = datetime.now(UTC)
    for environ in (
        {"PREWATT_KEY_STORE": str(path), "PREWATT_KEY_STORE_KEYS": seal},
        {"PREWATT_KEY_STORE_TEXT": path.read_text(), "PREWATT_KEY_STORE_KEYS": f"{seal},{seal}"},
    ):
        ring = open_keyring(environ)
        signature = ring.sign(KeyRole.AUDIT_EXPORT, b"log", now=now)
        assert verify(b"log", signature, ring.public_keys()).key_id != first.key_id
