"""The key store: one file of JSON with the public half of every key, and its private half sealed.

It is replaced whole and under a lock, so two who rotate at once lose nothing and a reader sees one state. A key is
never taken out: what it signed has to be verified for ever.
"""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from prewatt.signing.es256 import ES256PrivateKey
from prewatt.signing.keys import ES256, KeyRole, PublicKey, Signer, SoftwareSigner
from prewatt.signing.token import TokenSigner, make_in_token

VERSION: Final = 1
#: How long a former key still signs, for processes that have not looked again.
OVERLAP: Final = timedelta(hours=24)
_KEYS_MAX: Final = 1_000


class KeyStoreRefused(RuntimeError):
    """The store cannot be opened, or not be changed so; the message names no secret."""


class _StoredKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    role: KeyRole
    key_id: str
    public: bytes
    signs_from: datetime
    signs_until: datetime | None
    revoked_at: datetime | None
    sealed: str
    #: Where the private half is in a token: its label there, and nothing sealed.
    in_token: str = ""

    def public_key(self) -> PublicKey:
        return PublicKey(self.role, self.public, self.signs_from, self.signs_until, self.revoked_at)


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    keys: tuple[_StoredKey, ...]


class KeyStore:
    """The file at ``path``, sealed under ``seals`` (Fernet keys, newest first). Raises KeyStoreRefused."""

    def __init__(self, path: Path, seals: Sequence[str]) -> None:
        self.path = path
        self._box = box_of(seals)

    def public_keys(self) -> list[PublicKey]:
        """Every key there ever was, in the order in which they were made; none where there is no store yet."""
        return [each.public_key() for each in self._read().keys]

    def signers(self) -> list[Signer]:
        """The same with whoever signs by them."""
        return [_signer(each, self._box) for each in self._read().keys]

    def make(self, role: KeyRole, *, signs_from: datetime, in_token: bool = False) -> PublicKey:
        """The first key of a role. Raises KeyStoreRefused where it has one that is not revoked.

        ``in_token`` makes it in the token that the environment names, and raises TokenRefused.
        """

        def first(keys: tuple[_StoredKey, ...]) -> tuple[_StoredKey, ...]:
            if _current(keys, role) is not None:
                raise KeyStoreRefused(f"{role} has a key; rotate it")
            return (*keys, self._new(role, signs_from, in_token=in_token))

        return self._change(first)[-1].public_key()

    def rotate(
        self,
        role: KeyRole,
        *,
        signs_from: datetime,
        now: datetime,
        overlap: timedelta = OVERLAP,
        in_token: bool = False,
    ) -> PublicKey:
        """The next key of a role, which signs from then on; the former one signs ``overlap`` longer at most.

        Raises KeyStoreRefused where there is none to follow, or one is waiting to follow it already.
        """
        if overlap < timedelta(0) or signs_from < now:
            raise KeyStoreRefused("a key signs from now on at the earliest, and overlaps forwards")

        def next_one(keys: tuple[_StoredKey, ...]) -> tuple[_StoredKey, ...]:
            former = _current(keys, role)
            if former is None:
                raise KeyStoreRefused(f"{role} has no key to follow; make one")
            if former.signs_from > now:
                raise KeyStoreRefused(f"the next key of {role} waits already: {former.key_id}")
            # Never later than was said before: a key that has ended is not brought back.
            until = min(filter(None, (former.signs_until, signs_from + overlap)))
            ends = msgspec.structs.replace(former, signs_until=until)
            kept = tuple(ends if each is former else each for each in keys)
            return (*kept, self._new(role, signs_from, in_token=in_token))

        return self._change(next_one)[-1].public_key()

    def revoke(self, key_id: str, *, now: datetime) -> PublicKey:
        """From now on nothing that this key signed is believed. Raises KeyStoreRefused for no such key."""

        def without(keys: tuple[_StoredKey, ...]) -> tuple[_StoredKey, ...]:
            if not any(each.key_id == key_id and each.revoked_at is None for each in keys):
                raise KeyStoreRefused(f"there is no key {key_id} that is not revoked")
            return tuple(
                msgspec.structs.replace(each, revoked_at=now) if each.key_id == key_id else each
                for each in keys
            )

        changed = self._change(without)
        return next(each for each in changed if each.key_id == key_id).public_key()

    def seal_again(self) -> int:
        """Seal every private half under the newest seal, so that older ones can go; returns how many."""

        def sealed_again(keys: tuple[_StoredKey, ...]) -> tuple[_StoredKey, ...]:
            for each in keys:
                _signer(each, self._box)
            return tuple(
                each
                if each.in_token
                else msgspec.structs.replace(
                    each, sealed=self._box.rotate(each.sealed.encode()).decode("ascii")
                )
                for each in keys
            )

        return len(self._change(sealed_again))

    # --- inside ---

    def _new(self, role: KeyRole, signs_from: datetime, *, in_token: bool) -> _StoredKey:
        if in_token:
            label = f"prewatt-{role}-{secrets.token_hex(4)}"
            key = PublicKey(role, make_in_token(label, role), signs_from)
            return _StoredKey(role, key.key_id, key.value, signs_from, None, None, "", label)
        secret = _new_secret(role)
        _, value = _private(role, secret)
        key = PublicKey(role, value, signs_from)
        seed = base64.b64encode(secret).decode("ascii")
        sealed = self._box.encrypt(f"{role}\n{key.key_id}\n{seed}".encode()).decode("ascii")
        return _StoredKey(role, key.key_id, key.value, signs_from, None, None, sealed)

    def _read(self) -> _Stored:
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    raise KeyStoreRefused(f"others may write the key store {self.path}")
                return _decoded(file.read())
        except FileNotFoundError:
            return _Stored(VERSION, ())
        except OSError as error:
            raise KeyStoreRefused(f"cannot read {self.path}: {error.strerror}") from None

    def _change(
        self, change: Callable[[tuple[_StoredKey, ...]], tuple[_StoredKey, ...]]
    ) -> tuple[_StoredKey, ...]:
        try:
            with self._locked():
                keys = change(self._read().keys)
                if len(keys) > _KEYS_MAX:
                    raise KeyStoreRefused(f"more than {_KEYS_MAX} keys")
                self._write(msgspec.json.format(msgspec.json.encode(_Stored(VERSION, keys))))
        except OSError as error:
            raise KeyStoreRefused(f"cannot write {self.path}: {error.strerror}") from None
        return keys

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(
            self.path.with_name(f".{self.path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, content: bytes) -> None:
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)


def signers_of(text: bytes, seals: Sequence[str]) -> list[Signer]:
    """The signers of a store that is not in a file. Raises KeyStoreRefused."""
    box = box_of(seals)
    return [_signer(each, box) for each in _decoded(text).keys]


def _decoded(text: bytes) -> _Stored:
    try:
        stored = msgspec.json.decode(text, type=_Stored)
    except msgspec.MsgspecError as error:
        raise KeyStoreRefused(f"the key store is not one: {error}") from None
    if stored.version != VERSION:
        raise KeyStoreRefused(f"version {stored.version} of the key store is not known here")
    for each in stored.keys:
        instants = (each.signs_from, each.signs_until, each.revoked_at)
        if any(at is not None and at.tzinfo is None for at in instants):
            raise KeyStoreRefused("an instant of the key store has no offset from UTC")
        if each.key_id != each.public_key().key_id:
            raise KeyStoreRefused(f"{each.key_id} is not the id of its key")
    return stored


def _signer(key: _StoredKey, box: MultiFernet) -> Signer:
    """The key with its private half, of which it is made sure that it is this key's; or its place in a token."""
    if key.in_token:
        return TokenSigner(key.public_key(), key.in_token)
    try:
        role, key_id, seed = box.decrypt(key.sealed.encode()).decode().split("\n")
    except InvalidToken:
        raise KeyStoreRefused(f"{key.key_id} is sealed under another key") from None
    private, public = _private(key.role, base64.b64decode(seed))
    if (role, key_id, public) != (key.role, key.key_id, key.public):
        raise KeyStoreRefused(f"{key.key_id} has the private half of another key")
    return SoftwareSigner(key.public_key(), private)


def _new_secret(role: KeyRole) -> bytes:
    if role.algorithm == ES256:
        return ES256PrivateKey.generate().scalar
    return Ed25519PrivateKey.generate().private_bytes_raw()


def _private(role: KeyRole, secret: bytes) -> tuple[Ed25519PrivateKey | ES256PrivateKey, bytes]:
    """The key of a secret of 32 bytes, and its public half."""
    if role.algorithm == ES256:
        agreed = ES256PrivateKey.from_scalar(secret)
        return agreed, agreed.point
    private = Ed25519PrivateKey.from_private_bytes(secret)
    return private, private.public_key().public_bytes_raw()


def _current(keys: Sequence[_StoredKey], role: KeyRole) -> _StoredKey | None:
    """The role's newest key that is not revoked."""
    own = [each for each in keys if each.role is role and each.revoked_at is None]
    return max(own, key=lambda each: each.signs_from, default=None)


def box_of(seals: Sequence[str]) -> MultiFernet:
    """What seals and opens under these Fernet keys, newest first. Raises KeyStoreRefused."""
    try:
        return MultiFernet([Fernet(each) for each in seals])
    except ValueError:
        raise KeyStoreRefused("a seal of the key store is not a Fernet key") from None
