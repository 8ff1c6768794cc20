"""The short form of instructions, for downlinks that carry tens of bytes: COSE_Mac0 with HMAC 256/64 (RFC 9052, 9053).

A session key that meter and platform agreed on (`signing.sessions`) stands in place of signatures, one for each
direction. A command has 26 to 38 bytes and its answer 28 to 50, where LoRaWAN carries 51 at its slowest. The rules are those of
`core.instructions`, but what they promise is less:

- Both sides have the key, so an answer proves to the platform, and to nobody else, that the meter gave it.
- A tag has 64 bits. Whoever guesses hits one in 1.8e19; a meter that has refused `FORGERIES_MAX` ends the session.
- There is no nonce and no chain; the number alone (32 bits) orders commands, and what a lost answer said is
  asked for by a READ: an answer names its command, and the last one carried out, by number and mark (32 bits of the
  tag). A stored answer is kept of the last one alone.
- Times are whole minutes, and no register, balance or clock is told.

Pure: nothing here knows keys but as bytes that are handed in.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from typing import Final

import cbor2

from prewatt.core.cose import Malformed
from prewatt.core.instructions import Doubt, NotBelieved, Operation, Result
from prewatt.core.vocabulary import RelayState

BYTES_MAX: Final = 51
"""The payload of LoRaWAN at its slowest data rate in Europe (DR0)."""
TAG_BYTES: Final = 8
KEY_BYTES: Final = 32
MARK_BYTES: Final = 4
FORGERIES_MAX: Final = 2**16
SEQUENCE_MAX: Final = 2**32 - 1
LIFE_MIN_MAX: Final = 7 * 24 * 60
"""A sleeping meter is reached when it wakes: a command may wait a week, and is refused if it could wait longer."""

# Tag 17, an array of four, {1: 4} as a byte string, an empty map.
_HEAD: Final = b"\xd1\x84\x43\xa1\x01\x04\xa0"
_PROTECTED: Final = b"\x43\xa1\x01\x04"
_CONTEXT: Final = b"\x84\x64MAC0"
_INT_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ShortCommand:
    """What is told: an operation with its argument as in `core.instructions`, and until when it is good."""

    operation: Operation
    argument: int
    sequence: int
    expires_at_min: int


@dataclass(frozen=True, slots=True)
class ShortAnswer:
    """To which command, what came of it, the relay, lifetime credit, and the last command carried out.

    Commands are named by number and `mark_of`; both are 0 of a meter that has carried out none in this session.
    """

    sequence: int
    mark: int
    result: Result
    relay: RelayState
    credit_micro: int
    last_sequence: int
    last_mark: int


@dataclass(frozen=True, slots=True)
class ShortState:
    """What a meter keeps of a session. It has ended once it refused too much that was forged.

    ``tag`` is that of the last command carried out, by which it is known again. Lifetime credit outlives the session.
    """

    sequence: int = 0
    credit_micro: int = 0
    tag: bytes = b""
    answer: bytes = b""
    forged: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing of this session is believed any more."""
        return self.forged >= FORGERIES_MAX


def mark_of(message: bytes) -> int:
    """32 bits that name a command beside its number: two commands of one number are told apart by them."""
    return int.from_bytes(message[-TAG_BYTES:][:MARK_BYTES], "big")


def is_short(message: bytes) -> bool:
    """Whether a message is of this form, by its first bytes."""
    return message.startswith(_HEAD)


def sealed_short_command(command: ShortCommand, *, meter: str, key: bytes) -> bytes:
    """The bytes for the meter, by the key of that direction."""
    fields = (
        int(command.operation),
        command.argument,
        command.sequence,
        command.expires_at_min,
    )
    return _sealed(fields, _address(b"down", meter), key)


def sealed_short_answer(answer: ShortAnswer, *, meter: str, key: bytes) -> bytes:
    """The bytes of the meter, by the key of that direction."""
    fields = (
        answer.sequence,
        answer.mark,
        int(answer.result),
        int(answer.relay),
        answer.credit_micro,
        answer.last_sequence,
        answer.last_mark,
    )
    return _sealed(fields, _address(b"up", meter), key)


def short_answer(message: bytes, *, meter: str, key: bytes) -> ShortAnswer:
    """What a meter answered. Raises NotBelieved."""
    fields = _opened(message, _address(b"up", meter), key, 7)
    sequence, mark, result, relay, *stands = fields
    try:
        return ShortAnswer(sequence, mark, Result(result), RelayState(relay), *stands)
    except ValueError:
        raise NotBelieved(Doubt.MALFORMED) from None


def judged_short(
    state: ShortState, message: bytes, *, meter: str, key: bytes, now_min: int
) -> tuple[ShortCommand, Result, bytes]:
    """What a meter has to do, by its own clock: the command, whether it may, and the stored answer, if it has one.

    Raises NotBelieved; then the state is `forged_short`.
    """
    if state.has_ended:
        raise NotBelieved(Doubt.UNKNOWN_KEY)
    operation, argument, sequence, expires = _opened(message, _address(b"down", meter), key, 4)
    try:
        command = ShortCommand(Operation(operation), argument, sequence, expires)
    except ValueError:
        raise NotBelieved(Doubt.MALFORMED) from None
    if state.answer and hmac.compare_digest(message[-TAG_BYTES:], state.tag):
        return command, Result.OK, state.answer
    return command, _result(state, command, now_min), b""


def concluded_short(
    state: ShortState,
    command: ShortCommand,
    result: Result,
    *,
    message: bytes,
    relay: RelayState,
    meter: str,
    key: bytes,
) -> tuple[ShortState, bytes]:
    """The state after the command of a message was carried out or refused, and the answer."""
    is_done = result is Result.OK and command.operation is not Operation.READ
    if is_done:
        is_credit = command.operation is Operation.CREDIT
        credit_micro = command.argument if is_credit else state.credit_micro
        tag = message[-TAG_BYTES:]
        state = replace(state, sequence=command.sequence, credit_micro=credit_micro, tag=tag)
    stands = (state.credit_micro, state.sequence, mark_of(state.tag))
    answer = sealed_short_answer(
        ShortAnswer(command.sequence, mark_of(message), result, relay, *stands),
        meter=meter,
        key=key,
    )
    return (replace(state, answer=answer) if is_done else state), answer


def forged_short(state: ShortState) -> ShortState:
    """The state after a message that was not believed."""
    return replace(state, forged=state.forged + 1)


def _result(state: ShortState, command: ShortCommand, now_min: int) -> Result:
    if not now_min <= command.expires_at_min <= now_min + LIFE_MIN_MAX:
        return Result.EXPIRED
    if command.operation is Operation.READ:
        return Result.OK
    if command.sequence <= state.sequence:
        return Result.STALE
    if command.operation is Operation.CREDIT:
        return Result.LOWER_CREDIT if command.argument < state.credit_micro else Result.OK
    is_known = command.argument in (RelayState.CLOSED, RelayState.OPEN)
    is_relay = command.operation is Operation.RELAY
    return Result.OK if is_relay and is_known else Result.UNSUPPORTED


def _address(direction: bytes, meter: str) -> bytes:
    return b"prewatt-short-v1/" + direction + b"/" + meter.encode()


def _sealed(fields: tuple[int, ...], address: bytes, key: bytes) -> bytes:
    if not all(0 <= each <= _INT_MAX for each in fields):
        raise ValueError("a figure is out of range")
    message = _message(cbor2.dumps(list(fields)), address, key)
    if len(message) > BYTES_MAX:
        raise ValueError(f"{len(message)} bytes are no short form")
    return message


def _message(payload: bytes, address: bytes, key: bytes) -> bytes:
    return _HEAD + _bytes(payload) + _bytes(_tag(payload, address, key))


def _opened(message: bytes, address: bytes, key: bytes, count: int) -> list[int]:
    """The figures of a message. Raises NotBelieved."""
    begin = len(_HEAD) + (2 if message[len(_HEAD) : len(_HEAD) + 1] == b"\x58" else 1)
    payload = message[begin : -TAG_BYTES - 1]
    form = _HEAD + _bytes(payload) + bytes((0x40 | TAG_BYTES,))
    if len(message) > BYTES_MAX or not payload or message[:-TAG_BYTES] != form:
        raise NotBelieved(Doubt.MALFORMED)
    if not hmac.compare_digest(message[-TAG_BYTES:], _tag(payload, address, key)):
        raise NotBelieved(Doubt.FORGED)
    try:
        return _figures(payload, count)
    except Malformed:
        raise NotBelieved(Doubt.MALFORMED) from None


def _figures(payload: bytes, count: int) -> list[int]:
    try:
        fields = cbor2.loads(payload)
    except Exception as error:  # the decoder's own and others
        raise Malformed(f"not CBOR: {type(error).__name__}") from None
    is_list = type(fields) is list and len(fields) == count
    if not is_list or not all(type(each) is int and 0 <= each <= _INT_MAX for each in fields):
        raise Malformed("not these figures")
    is_answer = count == 7
    numbers = (*fields[:2], *fields[5:]) if is_answer else (fields[2],)
    # What a meter says of itself leaves room for the numbers and the credit that follow.
    is_beyond = is_answer and (fields[5] > SEQUENCE_MAX // 2 or fields[4] > 2**62)
    if cbor2.dumps(fields) != payload or is_beyond or max(numbers) > SEQUENCE_MAX:
        raise Malformed("another encoding, or a number beyond the session's")
    return [int(each) for each in fields]


def _tag(payload: bytes, address: bytes, key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise ValueError("a session key has 32 bytes")
    structure = _CONTEXT + _PROTECTED + _bytes(address) + _bytes(payload)
    return hmac.new(key, structure, hashlib.sha256).digest()[:TAG_BYTES]


def _bytes(value: bytes) -> bytes:
    size = len(value)
    return (bytes((0x40 | size,)) if size < 24 else bytes((0x58, size))) + value
