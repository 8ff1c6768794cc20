"""Session keys of the short form: ECDH on P-256 and HKDF-SHA-256 (RFC 5869), one key for each direction.

The platform makes a key for the one session, the meter has its own. Whoever commissions the meter brings the platform's public
half to it over a line that carries more than tens of bytes, in a message that the platform's instruction key signed; the meter's
public half is enrolled. Neither side's secret travels, and the platform can forget its own once it has the session keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from prewatt.signing.es256 import ES256PrivateKey


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
    info = b"prewatt-short-v1/" + meter.encode() + b"/" + platform_point
    derived = HKDF(hashes.SHA256(), 64, salt=None, info=info).derive(own.agree(other))
    return SessionKeys(derived[:32], derived[32:])
