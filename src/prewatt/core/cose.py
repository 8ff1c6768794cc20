"""COSE_Sign1 with ES256 (RFC 9052, section 4.2) in the one form that is taken here, without keys or sockets.

The form is deterministic but for the signature: tag 18, the algorithm and the key id in the protected header in this
order, an empty unprotected header, the payload within, 64 bytes of signature. Whoever signs or verifies is
handed in. What is signed is named by the SHA-256 of the Sig_structure: an ECDSA signature can be turned by anybody
into a second valid one of the same content, so nothing is ever known by its signature.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Protocol

KEY_ID_BYTES: Final = 16
SIGNATURE_BYTES: Final = 64
BYTES_MAX: Final = 512
"""No message of ours comes near; whatever is longer is not looked at."""

# Tag 18, an array of four, a byte string of 21: {1: -7, 4: h'16 bytes'}.
_HEAD: Final = b"\xd2\x84\x55\xa2\x01\x26\x04\x50"
_PROTECTED_AT: Final = 3
_PROTECTED_BYTES: Final = 21
_UNPROTECTED: Final = b"\xa0"
_SIGNATURE_HEAD: Final = b"\x58\x40"
_CONTEXT: Final = b"\x84\x6aSignature1"


class Malformed(ValueError):
    """Not an envelope of this form."""


class Sealer(Protocol):
    """Who signs."""

    @property
    def key_id(self) -> bytes:
        """16 bytes that name the key to whoever verifies."""

    def sign(self, message: bytes) -> bytes:
        """64 bytes of ES256 over the message."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message taken apart, of which nothing is verified yet."""

    key_id: bytes
    payload: bytes
    signature: bytes
    protected: bytes

    def signed(self, external_aad: bytes) -> bytes:
        """The Sig_structure: what the signature is over, if it is one for this context."""
        return _CONTEXT + _bytes(self.protected) + _bytes(external_aad) + _bytes(self.payload)


def opened(message: bytes) -> Envelope:
    """Take a message apart. Raises Malformed for any other form of the same as well."""
    begin = len(_HEAD) + KEY_ID_BYTES
    if not len(_HEAD) + KEY_ID_BYTES + 4 + SIGNATURE_BYTES <= len(message) <= BYTES_MAX:
        raise Malformed(f"{len(message)} bytes")
    if not message.startswith(_HEAD) or message[begin : begin + 1] != _UNPROTECTED:
        raise Malformed("not tag 18 with ES256, a key id and nothing unprotected")
    payload, at = _read_bytes(message, begin + 1)
    if message[at : at + 2] != _SIGNATURE_HEAD or len(message) != at + 2 + SIGNATURE_BYTES:
        raise Malformed("not a signature of 64 bytes at the end")
    return Envelope(
        key_id=message[len(_HEAD) : begin],
        payload=payload,
        signature=message[at + 2 :],
        protected=message[_PROTECTED_AT : _PROTECTED_AT + _PROTECTED_BYTES],
    )


def sealed(payload: bytes, *, external_aad: bytes, by: Sealer) -> tuple[bytes, bytes]:
    """The message over a payload, and the SHA-256 that names what was signed."""
    protected = _HEAD[_PROTECTED_AT:] + by.key_id
    if len(protected) != _PROTECTED_BYTES:
        raise ValueError("a key id has 16 bytes")
    signed = _CONTEXT + _bytes(protected) + _bytes(external_aad) + _bytes(payload)
    head = _HEAD + by.key_id + _UNPROTECTED + _bytes(payload) + _SIGNATURE_HEAD
    message = head + by.sign(signed)
    if len(message) > BYTES_MAX:
        raise ValueError(f"a message of {len(message)} bytes")
    return message, hashlib.sha256(signed).digest()


def name_of(signed: bytes) -> bytes:
    """The SHA-256 by which what was signed is named."""
    return hashlib.sha256(signed).digest()


def _bytes(value: bytes) -> bytes:
    """A byte string of at most 65,535 bytes in CBOR."""
    size = len(value)
    if size < 24:
        return bytes((0x40 | size,)) + value
    if size < 256:
        return bytes((0x58, size)) + value
    return b"\x59" + size.to_bytes(2, "big") + value


def _read_bytes(message: bytes, at: int) -> tuple[bytes, int]:
    """A byte string in its shortest form, and where it ends."""
    first = message[at]
    if 0x40 <= first < 0x58:
        begin, size = at + 1, first & 0x1F
    elif first == 0x58:
        begin, size = at + 2, message[at + 1]
    elif first == 0x59:
        begin, size = at + 3, int.from_bytes(message[at + 1 : at + 3], "big")
    else:
        raise Malformed("the payload is no byte string")
    end = begin + size
    if message[at:begin] != _bytes(bytes(size))[: begin - at] or end > len(message):
        raise Malformed("a payload that is longer than said, or said otherwise")
    return message[begin:end], end
