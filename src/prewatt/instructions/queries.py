"""Reads of instructions: which meters verify, and by which keys their answers are verified."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from prewatt.core.instructions import Doubt, NotBelieved, Verify
from prewatt.runtime.prepared import fetch, integers
from prewatt.signing.es256 import ES256PublicKey

_VALID: Final = """
SELECT meter_id, key_id, public_key FROM meter_key
WHERE meter_id = ANY(%s::bigint[]) AND valid_from <= %s
  AND (valid_until IS NULL OR valid_until > %s) AND revoked_at IS NULL
"""
_PARSED_MAX: Final = 50_000


def has_key(meter_ids: Sequence[int], *, now: datetime) -> frozenset[int]:
    """Those of the meters that have a key which is valid now. Inside the caller's scope."""
    return frozenset(row[0] for row in fetch(_VALID, [integers(meter_ids), now, now]))


class MeterKeys:
    """Keys of meters as they are at each look. What is parsed is kept, what is valid is asked every time."""

    def __init__(self) -> None:
        self._parsed: OrderedDict[bytes, ES256PublicKey] = OrderedDict()
        self._valid: dict[int, dict[bytes, ES256PublicKey]] = {}

    def look(self, meter_ids: Sequence[int], *, now: datetime) -> None:
        """Read the keys of these meters that are valid now, and forget all others. Inside the caller's scope."""
        self._valid = {}
        valid = fetch(_VALID, [integers(meter_ids), now, now])
        for meter_id, key_id, public_key in valid:
            key = self._parse(bytes(public_key))
            self._valid.setdefault(meter_id, {})[bytes(key_id)] = key

    def verifier(self, meter_id: int) -> Verify:
        """What verifies by the keys of this meter, and of no other."""
        own = self._valid.get(meter_id, {})

        def verify(key_id: bytes, message: bytes, signature: bytes) -> bool:
            key = own.get(key_id)
            if key is None:
                raise NotBelieved(Doubt.UNKNOWN_KEY)
            return key.is_signed(message, signature)

        return verify

    def _parse(self, public_key: bytes) -> ES256PublicKey:
        found = self._parsed.get(public_key)
        if found is None:
            found = self._parsed[public_key] = ES256PublicKey.from_spki(public_key)
            if len(self._parsed) > _PARSED_MAX:
                self._parsed.popitem(last=False)
        return found
