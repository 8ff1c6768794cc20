"""The keys that a process has, and which of them signs now.

Where they come from the environment says: ``PREWATT_KEY_STORE`` names the store's file, or
``PREWATT_KEY_STORE_TEXT`` holds the store itself, for who keeps secrets in their environment alone. Either is
sealed under ``PREWATT_KEY_STORE_KEYS`` (Fernet keys, newest first, separated by commas).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from prewatt.signing.keys import KeyRole, PublicKey, Signature, Signer, signed_by
from prewatt.signing.store import KeyStore, KeyStoreRefused, signers_of

STORE_VARIABLE: Final = "PREWATT_KEY_STORE"
TEXT_VARIABLE: Final = "PREWATT_KEY_STORE_TEXT"
SEALS_VARIABLE: Final = "PREWATT_KEY_STORE_KEYS"


class NoSigningKey(RuntimeError):
    """There is no key of that role that signs now; `prewatt keys make` makes one."""


class Keyring:
    """Signers of any kind, each with its own key."""

    def __init__(self, signers: Iterable[Signer]) -> None:
        self._signers = list(signers)

    def public_keys(self) -> list[PublicKey]:
        """What verifies: every key there ever was, the former ones too."""
        return [each.public for each in self._signers]

    def signer(self, role: KeyRole, *, now: datetime) -> Signer:
        """The newest key of that role that signs now, once the former one has been followed. Raises NoSigningKey."""
        able = [
            each for each in self._signers if each.public.role is role and each.public.signs_at(now)
        ]
        if not able:
            raise NoSigningKey(f"no {role} key signs now; prewatt keys make {role} makes one")
        return max(able, key=lambda each: each.public.signs_from)

    def living(self, role: KeyRole) -> list[Signer]:
        """Every key of that role that is not revoked, the oldest first; also those that have ended or wait."""
        own = [
            each
            for each in self._signers
            if each.public.role is role and each.public.revoked_at is None
        ]
        return sorted(own, key=lambda each: each.public.signs_from)

    def sign(self, role: KeyRole, payload: bytes, *, now: datetime) -> Signature:
        """Sign the payload as ``role`` with the key that signs now. Raises NoSigningKey."""
        return signed_by(self.signer(role, now=now), payload, now=now)


def open_keyring(environ: Mapping[str, str] = os.environ) -> Keyring:
    """The keys of this process as they are now; a rotation is seen by who opens it again.

    Raises NoSigningKey where the environment names no store, and KeyStoreRefused.
    """
    seals = seals_of(environ)
    if text := environ.get(TEXT_VARIABLE):
        return Keyring(signers_of(text.encode(), seals))
    if path := environ.get(STORE_VARIABLE):
        return Keyring(KeyStore(Path(path), seals).signers())
    raise NoSigningKey(f"{STORE_VARIABLE} is not set: it names the file with the signing keys")


def seals_of(environ: Mapping[str, str]) -> Sequence[str]:
    """The keys under which the store is sealed, newest first. Raises KeyStoreRefused for none."""
    seals = [each for each in environ.get(SEALS_VARIABLE, "").split(",") if each]
    if not seals:
        raise KeyStoreRefused(f"{SEALS_VARIABLE} is not set: the key store is sealed under it")
    return seals
