"""ES256: ECDSA on P-256 with SHA-256, signatures as the 64 bytes r || s (RFC 9053, section 2.1).

Keys of it are what secure elements of meters and tokens behind PKCS#11 have. A public key is told as an
uncompressed point of 65 bytes (SEC 1) or as SubjectPublicKeyInfo in DER (RFC 5280), which certificates carry.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

POINT_BYTES: Final = 65
SCALAR_BYTES: Final = 32
_ECDSA: Final = ec.ECDSA(hashes.SHA256())
_CURVE: Final = ec.SECP256R1()


class BadKey(ValueError):
    """Not a public key of P-256."""


def spki_in(content: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a public key as people hand it over: PEM, or DER as it is. Raises BadKey."""
    content = content.strip() if content.lstrip().startswith(b"-----") else content
    if not content.startswith(b"-----"):
        return content
    try:
        key = load_pem_public_key(content)
    except Exception as error:  # as below
        raise BadKey(f"not a public key: {type(error).__name__}") from None
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class ES256PrivateKey:
    """A private key in memory. Its secret is in no `repr`."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        if not isinstance(key.curve, ec.SECP256R1):
            raise BadKey(f"{key.curve.name} is not P-256")
        self._key = key

    @classmethod
    def generate(cls) -> ES256PrivateKey:
        """A new key."""
        return cls(ec.generate_private_key(_CURVE))

    @classmethod
    def from_scalar(cls, scalar: bytes) -> ES256PrivateKey:
        """The key of a secret of 32 bytes. Raises ValueError for one outside the curve's order."""
        return cls(ec.derive_private_key(int.from_bytes(scalar, "big"), _CURVE))

    @property
    def scalar(self) -> bytes:
        """The secret, 32 bytes."""
        return self._key.private_numbers().private_value.to_bytes(SCALAR_BYTES, "big")

    @property
    def point(self) -> bytes:
        """The public half as an uncompressed point."""
        return point_of(self._key.public_key())

    @property
    def spki(self) -> bytes:
        """The public half as SubjectPublicKeyInfo."""
        return spki_of(self.point)

    def sign(self, message: bytes) -> bytes:
        """64 bytes over the message."""
        return raw_signature(self._key.sign(message, _ECDSA))

    def agree(self, point: bytes) -> bytes:
        """The 32 bytes that this key and another have in common (ECDH, SEC 1). Raises BadKey."""
        return self._key.exchange(ec.ECDH(), _of_point(point))


class ES256PublicKey:
    """What verifies signatures of one key."""

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key = key

    @classmethod
    def from_point(cls, point: bytes) -> ES256PublicKey:
        """The key of an uncompressed point. Raises BadKey for none on the curve."""
        return cls(_of_point(point))

    @classmethod
    def from_spki(cls, spki: bytes) -> ES256PublicKey:
        """The key of a SubjectPublicKeyInfo. Raises BadKey for any but P-256 in the one encoding of it."""
        try:
            key = load_der_public_key(spki)
        except Exception as error:  # what a parser of foreign bytes raises is not one type
            raise BadKey(f"not a public key: {type(error).__name__}") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(
            key.curve, ec.SECP256R1
        ):
            raise BadKey("not a key of P-256")
        if spki_of(point_of(key)) != spki:
            raise BadKey("not the one encoding of this key")
        return cls(key)

    @property
    def point(self) -> bytes:
        """As an uncompressed point."""
        return point_of(self._key)

    def is_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the 64 bytes are a signature of this key over the message."""
        if len(signature) != 2 * SCALAR_BYTES:
            return False
        r, s = (int.from_bytes(signature[at : at + SCALAR_BYTES], "big") for at in (0, 32))
        try:
            self._key.verify(encode_dss_signature(r, s), message, _ECDSA)
        except InvalidSignature:
            return False
        return True


def raw_signature(der: bytes) -> bytes:
    """The 64 bytes r || s of a signature in DER."""
    r, s = decode_dss_signature(der)
    return r.to_bytes(SCALAR_BYTES, "big") + s.to_bytes(SCALAR_BYTES, "big")


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """The uncompressed point of a key."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def spki_of(point: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a point. Raises BadKey."""
    return _of_point(point).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def device_key_id(spki: bytes) -> bytes:
    """16 bytes by which a device's key is named: the first half of SHA-256 of its SubjectPublicKeyInfo."""
    return hashlib.sha256(spki).digest()[:16]


def _of_point(point: bytes) -> ec.EllipticCurvePublicKey:
    if len(point) != POINT_BYTES or point[0] != 4:
        raise BadKey("not an uncompressed point")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, point)
    except ValueError:
        raise BadKey("not a point of P-256") from None
