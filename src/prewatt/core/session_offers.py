"""What brings the platform's half of a short session to a meter: a COSE_Sign1 of the instruction key (`core.cose`).

Whoever commissions the meter carries it; nothing in it is secret. A meter takes it if a key it trusts signed it to this
meter, and if its number is above that of the last session it took: a session that ended is not begun again by its old
message. It may be carried a second time, and then changes nothing.

Pure: keys are handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cbor2

from prewatt.core.cose import Malformed, Sealer, opened, sealed
from prewatt.core.instructions import Doubt, NotBelieved, Verify

POINT_BYTES: Final = 65
NUMBER_MAX: Final = 2**32 - 1
_VERSION: Final = 1
_METER_CHARS_MAX: Final = 40


@dataclass(frozen=True, slots=True)
class SessionOffer:
    """The platform's public half (an uncompressed point) for the session of this number with this meter."""

    meter: str
    number: int
    platform_point: bytes


def sealed_offer(offer: SessionOffer, *, by: Sealer) -> bytes:
    """The message to the meter. Raises ValueError for what no meter could take."""
    if not _is_possible(offer):
        raise ValueError("not an offer of a session")
    payload = cbor2.dumps([_VERSION, offer.meter, offer.number, offer.platform_point])
    return sealed(payload, external_aad=_address(offer.meter), by=by)[0]


def believed_offer(message: bytes, *, meter: str, verify: Verify, after: int) -> SessionOffer:
    """What a meter takes; ``after`` is the number of its last session. Raises NotBelieved, ValueError for an old one."""
    try:
        envelope = opened(message)
        offer = _read(envelope.payload)
    except Malformed:
        raise NotBelieved(Doubt.MALFORMED) from None
    if not verify(envelope.key_id, envelope.signed(_address(meter)), envelope.signature):
        raise NotBelieved(Doubt.FORGED)
    if offer.meter != meter:
        raise NotBelieved(Doubt.OTHER_METER)
    if offer.number <= after:
        raise ValueError(f"the offer of session {offer.number} comes after that of {after}")
    return offer


def _read(payload: bytes) -> SessionOffer:
    try:
        content = cbor2.loads(payload)
    except Exception as error:  # the decoder's own and others
        raise Malformed(f"not CBOR: {type(error).__name__}") from None
    kinds = [int, str, int, bytes]
    if type(content) is not list or [type(each) for each in content] != kinds:
        raise Malformed("not these fields")
    version, *fields = content
    offer = SessionOffer(*fields)
    if version != _VERSION or not _is_possible(offer) or cbor2.dumps(content) != payload:
        raise Malformed("another version, a figure that cannot be, or another encoding")
    return offer


def _is_possible(offer: SessionOffer) -> bool:
    return (
        0 < len(offer.meter) <= _METER_CHARS_MAX
        and 0 < offer.number <= NUMBER_MAX
        and len(offer.platform_point) == POINT_BYTES
    )


def _address(meter: str) -> bytes:
    return f"prewatt-session-v1/{meter}".encode()
