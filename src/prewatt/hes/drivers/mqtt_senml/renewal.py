"""A device asks for its next certificate: two lengths-and-bytes, so small that nothing of it needs a parser.

`up/renew` is the length of the request (two bytes, big-endian), the request (PKCS #10, DER), and the signature over it by
the key that the device has. `down/certificate` is the device's certificate and its issuer's, PEM.
"""

from typing import Final

from prewatt.hes.frames import AckToken, MalformedFrame, RenewalFrame

_REQUEST_BYTES_MAX: Final = 4_096
_SIGNATURE_BYTES_MAX: Final = 128


def encode_renewal(request: bytes, signature: bytes) -> bytes:
    """The payload of `up/renew`."""
    return len(request).to_bytes(2, "big") + request + signature


def decode_renewal(
    serial: str, payload: bytes, *, received_at_us: int, token: AckToken
) -> RenewalFrame:
    """The two parts, which nobody has looked into. Raises MalformedFrame."""
    size = int.from_bytes(payload[:2], "big")
    request, signature = payload[2 : 2 + size], payload[2 + size :]
    if not 0 < size <= _REQUEST_BYTES_MAX or len(request) < size:
        raise MalformedFrame("size", f"a request of {size} bytes in {len(payload)}")
    if not 0 < len(signature) <= _SIGNATURE_BYTES_MAX:
        raise MalformedFrame("size", f"a signature of {len(signature)} bytes")
    return RenewalFrame(serial, received_at_us, token, request, signature)
