"""Session keys of the short form: ECDH on P-256 and HKDF-SHA-256 (RFC 5869), one key for each direction.

The platform makes a key for the one session, the meter has its own. Whoever commissions the meter brings the platform's public
half to it over a line that carries more than tens of bytes, in a message that the platform's instruction key signed; the meter's
public half is enrolled. Neither side's secret travels, and the platform forgets its own once it has the session keys.
At rest these are sealed under the seals of the key store (Fernet, newest first), together with whose they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.fernet import InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from prewatt.signing.es256 import ES256PrivateKey
from prewatt.signing.store import KeyStoreRefused, box_of

_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """32 bytes for commands to the meter, and 32 for its answers."""

    down: bytes = field(repr=False)
    up: bytes = field(repr=False)


def session_keys(
    own: ES256PrivateKey, other: bytes, *, meter: str, platform_point: bytes
) -> SessionKeys:
    """What both sides come to, each by its own key and the other's point. Raises BadKey.

    Meter and the platform's point are part of it: keys of one meter or session are never those of another.
    """
    info = _whose(meter, platform_point)
    derived = HKDF(hashes.SHA256(), 2 * _KEY_BYTES, salt=None, info=info).derive(own.agree(other))
    return SessionKeys(derived[:_KEY_BYTES], derived[_KEY_BYTES:])


class SessionSeals:
    """What seals session keys at rest, under ``seals`` (Fernet keys, newest first). Raises KeyStoreRefused."""

    def __init__(self, seals: Sequence[str]) -> None:
        self._box = box_of(seals)

    def seal(self, keys: SessionKeys, *, meter: str, platform_point: bytes) -> bytes:
        """The keys as they may lie in a database: of no use in the row of another meter or session."""
        return self._box.encrypt(keys.down + keys.up + _whose(meter, platform_point))

    def open(self, sealed: bytes, *, meter: str, platform_point: bytes) -> SessionKeys:
        """What was sealed for this meter and session. Raises KeyStoreRefused."""
        try:
            content = self._box.decrypt(sealed)
        except InvalidToken:
            raise KeyStoreRefused(f"the session of {meter} is sealed under another key") from None
        if content[2 * _KEY_BYTES :] != _whose(meter, platform_point):
            raise KeyStoreRefused(f"what is sealed for {meter} is another's")
        return SessionKeys(content[:_KEY_BYTES], content[_KEY_BYTES : 2 * _KEY_BYTES])

    def seal_again(self, sealed: bytes) -> bytes:
        """The same under the newest seal. Raises KeyStoreRefused."""
        try:
            return self._box.rotate(sealed)
        except InvalidToken:
            raise KeyStoreRefused("a session is sealed under another key") from None


def _whose(meter: str, platform_point: bytes) -> bytes:
    return b"prewatt-short-v1/" + meter.encode() + b"/" + platform_point
