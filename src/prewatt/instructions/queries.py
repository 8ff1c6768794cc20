"""Reads of instructions: which meters verify, and by which keys their answers are verified."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg

from prewatt.core.instructions import (
    Doubt,
    NotBelieved,
    Operation,
    Result,
    Verify,
    believed_answer,
)
from prewatt.core.short_instructions import is_short
from prewatt.core.vocabulary import InstructionState
from prewatt.instructions.sessions import answers_of_sessions
from prewatt.runtime.prepared import execute, fetch, integers
from prewatt.signing.es256 import ES256PublicKey
from prewatt.signing.keyring import seals_of
from prewatt.signing.sessions import SessionSeals

_VALID: Final = """
SELECT meter_id, key_id, public_key FROM meter_key
WHERE meter_id = ANY(%s::bigint[]) AND valid_from <= %s
  AND (valid_until IS NULL OR valid_until > %s) AND revoked_at IS NULL
"""
_PARSED_MAX: Final = 50_000


def has_key(meter_ids: Sequence[int], *, now: datetime) -> frozenset[int]:
    """Those of the meters that have a key which is valid now. Inside the caller's scope."""
    return frozenset(row[0] for row in fetch(_VALID, [integers(meter_ids), now, now]))


def ever_had_key(meter_ids: Sequence[int]) -> frozenset[int]:
    """Those of the meters that have a key or had one. Inside the caller's scope.

    One whose key has ended is not spoken to without a signature again: whoever took its place would like that.
    """
    rows = fetch(
        "SELECT DISTINCT meter_id FROM meter_key WHERE meter_id = ANY(%s::bigint[])",
        [integers(meter_ids)],
    )
    return frozenset(row[0] for row in rows)


@dataclass(frozen=True, slots=True)
class ToldLine:
    """One instruction in words; ``answer`` says whether what is stored of it verifies, and by which key."""

    sequence: int
    issued_at: datetime
    operation: str
    argument: int
    state: str
    result: str
    answer: str


def told_and_answered(meter_id: int, serial: str, *, last: int) -> list[ToldLine]:
    """The last instructions of a meter, the newest first, each stored answer verified again by its keys, ended ones too."""
    keys = {
        bytes(key_id): ES256PublicKey.from_spki(bytes(public_key))
        for key_id, public_key in fetch(
            "SELECT key_id, public_key FROM meter_key WHERE meter_id = %s", [meter_id]
        )
    }
    short = answers_of_sessions(meter_id, serial, lambda: SessionSeals(seals_of(os.environ)))
    rows = fetch(
        """SELECT sequence, issued_at, operation, argument, state, result, answer, command_hash
           FROM instruction WHERE meter_id = %s ORDER BY sequence DESC LIMIT %s""",
        [meter_id, last],
    )
    return [
        ToldLine(
            sequence,
            issued_at,
            Operation(operation).name.lower(),
            argument,
            InstructionState(state).word,
            "" if result is None else Result(result).name.lower(),
            ""
            if answer is None
            else short(bytes(answer), bytes(name), sequence)
            if is_short(bytes(answer))
            else _verified(bytes(answer), bytes(name), sequence, serial, keys),
        )
        for sequence, issued_at, operation, argument, state, result, answer, name in rows
    ]


def _verified(
    message: bytes, name: bytes, sequence: int, serial: str, keys: Mapping[bytes, ES256PublicKey]
) -> str:
    """By which key an answer verifies, and whether it names the command or only proves it by what came later."""
    signer = ""

    def verify(key_id: bytes, signed: bytes, signature: bytes) -> bool:
        nonlocal signer
        signer = key_id.hex()
        return key_id in keys and keys[key_id].is_signed(signed, signature)

    try:
        said, _ = believed_answer(message, meter=serial, verify=verify)
    except NotBelieved:
        return "does not verify"
    if (said.command_hash, said.sequence) == (name, sequence):
        return f"signed by {signer}"
    if (said.last_hash, said.last_sequence) == (name, sequence):
        return f"proved by a later answer, signed by {signer}"
    return "does not verify"


class MeterKeys:
    """Keys of meters as they are at each look. What is parsed is kept, what is valid is asked every time."""

    def __init__(self) -> None:
        self._parsed: OrderedDict[bytes, ES256PublicKey] = OrderedDict()
        self._valid: dict[int, dict[bytes, ES256PublicKey]] = {}

    def ask(self, meter_ids: Sequence[int], *, now: datetime) -> psycopg.Cursor[Any]:
        """Ask for the keys of these meters that are valid now, for `hear`. Inside the caller's scope."""
        return execute(
            "SELECT * FROM meter_keys_at(%s::bigint[], %s)",
            [integers(meter_ids), now],
            prepare=True,
        )

    def hear(self, valid: Iterable[tuple[int, bytes, bytes]]) -> None:
        """These are the keys that are valid now; all others are forgotten."""
        self._valid = {}
        for meter_id, key_id, public_key in valid:
            self._valid.setdefault(meter_id, {})[key_id] = self._parse(public_key)

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
