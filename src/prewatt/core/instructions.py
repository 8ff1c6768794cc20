"""Instructions to meters that can verify, and their answers: what both are, and by which rules each side believes.

Both are COSE_Sign1 (`core.cose`) over a map in deterministic CBOR. `external_aad` is which way the message goes and
the meter's address, so that a command is never an answer, nor one of another meter. A command carries the next
number of its meter's own sequence and the name of the last command that the meter is known to have *answered*;
a chain over unanswered ones would jam at the first that is lost. Credit is told as the meter's cumulative
lifetime credit, so that no repeat can add twice.

Pure: state, bytes and an instant in; a new state, an answer and the reason out. The meter around it stores
the new state in the same instant as the effect. Instants are int64 µs UTC, money is in micro-units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import Enum, IntEnum, StrEnum
from typing import Final, Generic, TypeVar

import cbor2

from prewatt.core.cose import Envelope, Malformed, Sealer, name_of, opened, sealed
from prewatt.core.vocabulary import RelayState

VERSION: Final = 1
HASH_BYTES: Final = 32
NONCE_BYTES: Final = 8
NOTHING: Final = bytes(HASH_BYTES)
"""What stands for the last answered command of a meter that has answered none."""
LIFE_US_MAX: Final = 24 * 3_600 * 1_000_000
"""A command that is good for longer is refused: what is lost on the way must not come true another day."""
ANSWERS_KEPT: Final = 8
_INT_MAX: Final = 2**63 - 1
_METER_CHARS_MAX: Final = 40

Verify = Callable[[bytes, bytes, bytes], bool]
"""Key id, message and signature: whether it is this key's. Raises NotBelieved for a key that is not believed."""


class Operation(IntEnum):
    """What a meter is told. The argument of each stands beside it; 0 where there is none."""

    #: Say how you stand, signed. Changes nothing, takes no number of the sequence and asks for no chain.
    READ = 0
    #: `RelayState.CLOSED` or `RelayState.OPEN`.
    RELAY = 1
    #: Cumulative lifetime credit, micro-units.
    CREDIT = 2


class Result(IntEnum):
    """What a meter answers. Everything but OK changed nothing in it."""

    OK = 0
    #: By the meter's own clock.
    EXPIRED = 1
    #: Its number is not above the last one carried out.
    STALE = 2
    #: It does not name the last command that this meter answered.
    BROKEN_CHAIN = 3
    #: Less lifetime credit than the meter has had.
    LOWER_CREDIT = 4
    UNSUPPORTED = 5
    FAILED = 6


@dataclass(frozen=True, slots=True)
class Command:
    """What is signed to a meter."""

    meter: str
    operation: Operation
    argument: int
    sequence: int
    issued_at_us: int
    expires_at_us: int
    nonce: bytes
    previous: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What a meter signs: to which command, what came of it, and how the meter stands after it.

    ``balance_micro`` is None for a meter that holds none. ``last_sequence`` and ``last_hash`` are of the last
    command that it carried out; ``refused`` counts messages, ever, that nobody it trusts had signed to it.
    """

    meter: str
    command_hash: bytes
    sequence: int
    result: Result
    relay: RelayState
    balance_micro: int | None
    credit_micro: int
    register_wh: int
    at_us: int
    last_sequence: int
    last_hash: bytes
    refused: int


# --- bytes -------------------------------------------------------------------------------------------


def command_address(meter: str) -> bytes:
    """`external_aad` of what goes to a meter."""
    return f"prewatt-command-v1/{meter}".encode()


def answer_address(meter: str) -> bytes:
    """`external_aad` of what a meter says."""
    return f"prewatt-answer-v1/{meter}".encode()


def sealed_command(command: Command, *, by: Sealer) -> tuple[bytes, bytes]:
    """The message to the meter, and the hash by which its answer will name it."""
    return sealed(_payload(command), external_aad=command_address(command.meter), by=by)


def sealed_answer(answer: Answer, *, by: Sealer) -> tuple[bytes, bytes]:
    """The meter's message, and the hash of what it signed."""
    return sealed(_payload(answer), external_aad=answer_address(answer.meter), by=by)


Said = TypeVar("Said", Command, Answer)
# A class holds its enumerations by the names of its fields: CBOR knows numbers alone.
_ENUMS: Final[dict[str, type[IntEnum]]] = {
    "operation": Operation,
    "result": Result,
    "relay": RelayState,
}
_BYTES: Final = {
    "nonce": NONCE_BYTES,
    "previous": HASH_BYTES,
    "command_hash": HASH_BYTES,
    "last_hash": HASH_BYTES,
}
_MAY_BE_NEGATIVE: Final = frozenset({"balance_micro"})
_FIELDS: Final = {kind: tuple(each.name for each in fields(kind)) for kind in (Command, Answer)}


def _payload(said: Command | Answer) -> bytes:
    """The fields under their numbers from 1, after the version: in this order the encoding is deterministic."""
    content: dict[int, object] = {0: VERSION}
    for number, name in enumerate(_FIELDS[type(said)], start=1):
        value = getattr(said, name)
        content[number] = int(value) if isinstance(value, IntEnum) else value
    return cbor2.dumps(content)


def _read(kind: type[Said], payload: bytes) -> Said:
    """The payload as what it should be. Raises Malformed for any other encoding of the same as well."""
    try:
        content = cbor2.loads(payload)
    except Exception as error:  # the decoder's own, but also RecursionError, OverflowError and such
        raise Malformed(f"not CBOR: {type(error).__name__}") from None
    names = _FIELDS[kind]
    # By their types first: CBOR has other things that are equal to a number, and break where one is looked up.
    if type(content) is not dict or not all(type(each) is int for each in content):
        raise Malformed("not fields under numbers")
    if list(content) != list(range(len(names) + 1)):
        raise Malformed("not the fields of this version in their order")
    values = {name: _checked(name, content[at]) for at, name in enumerate(names, start=1)}
    if type(content[0]) is not int or content[0] != VERSION or cbor2.dumps(content) != payload:
        raise Malformed("another version or another encoding")
    return kind(**values)  # type: ignore[arg-type]  # each was checked by its name


def _checked(name: str, value: object) -> object:
    if name == "meter":
        if type(value) is not str or not 0 < len(value) <= _METER_CHARS_MAX:
            raise Malformed("no serial number")
    elif name in _BYTES:
        if type(value) is not bytes or len(value) != _BYTES[name]:
            raise Malformed(f"{name} has another length")
    elif name == "balance_micro" and value is None:
        return None
    elif type(value) is not int:
        raise Malformed(f"{name} is no whole number")
    elif not (-_INT_MAX if name in _MAY_BE_NEGATIVE else 0) <= value <= _INT_MAX:
        raise Malformed(f"{name} is out of range")
    elif name in _ENUMS:
        try:
            return _ENUMS[name](value)
        except ValueError:
            raise Malformed(f"{name} has no meaning here") from None
    return value


# --- who is believed ---------------------------------------------------------------------------------


class Doubt(StrEnum):
    """Why a message is not believed: nobody who is trusted said it, or not to this meter."""

    MALFORMED = "malformed"
    #: Of no key that is known here, or of one that is revoked or not valid now.
    UNKNOWN_KEY = "unknown_key"
    #: The signature is not over these bytes at this address.
    FORGED = "forged"
    #: Signed rightly, with another meter's name within.
    OTHER_METER = "other_meter"


class NotBelieved(Exception):
    """A message changes nothing, and somebody should know that it came."""

    def __init__(self, doubt: Doubt) -> None:
        super().__init__(f"not believed: {doubt}")
        self.doubt = doubt


@dataclass(frozen=True, slots=True)
class Claim(Generic[Said]):
    """A message taken apart, of which nothing is verified yet: what it would say if it is believed."""

    envelope: Envelope
    said: Said


def _claim(kind: type[Said], message: bytes) -> Claim[Said]:
    try:
        envelope = opened(message)
        return Claim(envelope, _read(kind, envelope.payload))
    except Malformed:
        raise NotBelieved(Doubt.MALFORMED) from None


def _believed(
    claim: Claim[Said], *, address: bytes, meter: str, verify: Verify
) -> tuple[Said, bytes]:
    """What a message says, and its hash. Raises NotBelieved."""
    signed = claim.envelope.signed(address)
    if not verify(claim.envelope.key_id, signed, claim.envelope.signature):
        raise NotBelieved(Doubt.FORGED)
    if claim.said.meter != meter:
        raise NotBelieved(Doubt.OTHER_METER)
    return claim.said, name_of(signed)


# --- the meter's rules -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MeterState:
    """What a meter keeps for ever, of both its memories the slower one.

    ``answers`` are the last few, by the hash of their command: a command that comes again gets the stored bytes.
    ``refused`` counts what was not believed, ``repeated`` what came again.
    """

    sequence: int = 0
    answered: bytes = NOTHING
    credit_micro: int = 0
    answers: tuple[tuple[bytes, bytes], ...] = ()
    refused: int = 0
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a meter makes of a message that it believes.

    With ``stored`` it sends those bytes and does nothing. Else it does what ``command`` says if ``result``
    is OK, adding ``added_micro`` to its balance, and answers by `concluded`.
    """

    command: Command
    command_hash: bytes
    result: Result
    added_micro: int = 0
    stored: bytes | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """How a meter stands after what it did: relay as its contacts have it, balance, register, own clock."""

    relay: RelayState
    balance_micro: int | None
    register_wh: int
    at_us: int


def judged(
    state: MeterState, message: bytes, *, meter: str, verify: Verify, now_us: int
) -> Verdict:
    """What a meter has to do about a message, by its own clock. Raises NotBelieved.

    Nothing is changed by a number that is not above the last one carried out, by a command past its expiry
    or good for too long, by one that does not name the last answered command, or by less credit than there was.
    """
    command, name = _believed(
        _claim(Command, message), address=command_address(meter), meter=meter, verify=verify
    )
    for answered, stored in state.answers:
        if answered == name:
            return Verdict(command, name, Result.OK, stored=stored)
    result = _result(state, command, now_us)
    added_micro = 0
    if result is Result.OK and command.operation is Operation.CREDIT:
        added_micro = command.argument - state.credit_micro
    return Verdict(command, name, result, added_micro)


def _result(state: MeterState, command: Command, now_us: int) -> Result:
    life_us = command.expires_at_us - command.issued_at_us
    if now_us > command.expires_at_us or not 0 < life_us <= LIFE_US_MAX:
        return Result.EXPIRED
    if command.operation is Operation.READ:
        return Result.OK
    if command.sequence <= state.sequence:
        return Result.STALE
    if command.previous != state.answered:
        return Result.BROKEN_CHAIN
    if command.operation is Operation.CREDIT:
        return Result.LOWER_CREDIT if command.argument < state.credit_micro else Result.OK
    is_known = command.argument in (RelayState.CLOSED, RelayState.OPEN)
    return Result.OK if is_known else Result.UNSUPPORTED


def concluded(
    state: MeterState, verdict: Verdict, condition: Condition, *, by: Sealer
) -> tuple[MeterState, bytes]:
    """The state after a verdict was carried out, and the answer: a meter stores the first, then sends the second."""
    command = verdict.command
    if verdict.stored is not None:
        return replace(state, repeated=state.repeated + 1), verdict.stored
    is_done = verdict.result is Result.OK and command.operation is not Operation.READ
    if is_done:
        credit_micro = state.credit_micro + verdict.added_micro
        state = replace(
            state,
            sequence=command.sequence,
            answered=verdict.command_hash,
            credit_micro=credit_micro,
        )
    message, _ = sealed_answer(
        Answer(
            meter=command.meter,
            command_hash=verdict.command_hash,
            sequence=command.sequence,
            result=verdict.result,
            relay=condition.relay,
            balance_micro=condition.balance_micro,
            credit_micro=state.credit_micro,
            register_wh=condition.register_wh,
            at_us=condition.at_us,
            last_sequence=state.sequence,
            last_hash=state.answered,
            refused=state.refused,
        ),
        by=by,
    )
    if is_done:
        kept = ((verdict.command_hash, message), *state.answers)[:ANSWERS_KEPT]
        state = replace(state, answers=kept)
    return state, message


def refused(state: MeterState) -> MeterState:
    """The state after a message that was not believed: it counts it, and nothing else."""
    return replace(state, refused=state.refused + 1)


# --- the platform's rules ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Issued:
    """A command that went out, as the platform keeps it."""

    command_hash: bytes
    operation: Operation
    argument: int
    sequence: int
    #: That it has its answer or its refusal already.
    is_final: bool


@dataclass(frozen=True, slots=True)
class Known:
    """How a meter stands by the last answer that was believed."""

    sequence: int = 0
    answered: bytes = NOTHING
    credit_micro: int = 0


class Worth(Enum):
    """What an answer that is believed is worth."""

    #: It ends its command.
    COUNTS = 1
    #: Its command has ended already.
    REPEATED = 2
    #: To a command that this meter was never sent.
    FOREIGN = 3
    #: It cannot be true beside what the meter has signed before: a copy of it answers, or its memory is lost.
    CONTRADICTS = 4


def claimed_answer(message: bytes) -> Claim[Answer]:
    """What a meter's answer would say, so that what it names can be looked up. Raises NotBelieved."""
    return _claim(Answer, message)


def believed(claim: Claim[Answer], *, meter: str, verify: Verify) -> tuple[Answer, bytes]:
    """The answer and the hash of what was signed. Raises NotBelieved.

    ``verify`` has to know the keys of this meter and of no other.
    """
    return _believed(claim, address=answer_address(meter), meter=meter, verify=verify)


def believed_answer(message: bytes, *, meter: str, verify: Verify) -> tuple[Answer, bytes]:
    """`believed` of a message at once. Raises NotBelieved."""
    return believed(claimed_answer(message), meter=meter, verify=verify)


def worth_of(answer: Answer, issued: Issued | None, known: Known) -> Worth:
    """What a believed answer is worth to the command that it names."""
    if issued is None or issued.command_hash != answer.command_hash:
        return Worth.FOREIGN
    if issued.is_final:
        return Worth.REPEATED
    if not _is_consistent(answer, issued) or not _is_later_or_equal(answer, known):
        return Worth.CONTRADICTS
    return Worth.COUNTS


def _is_consistent(answer: Answer, issued: Issued) -> bool:
    if answer.sequence != issued.sequence:
        return False
    is_done = answer.result is Result.OK and issued.operation is not Operation.READ
    if is_done and (answer.last_sequence, answer.last_hash) != (
        issued.sequence,
        issued.command_hash,
    ):
        return False
    is_credit = is_done and issued.operation is Operation.CREDIT
    return not is_credit or answer.credit_micro == issued.argument


def _is_later_or_equal(answer: Answer, known: Known) -> bool:
    """Whether the meter stands where it stood or further; to a command before that, its answer may come late."""
    if answer.sequence < known.sequence and answer.last_sequence < known.sequence:
        return answer.credit_micro <= known.credit_micro
    if answer.last_sequence == known.sequence and answer.last_hash != known.answered:
        return False
    return answer.last_sequence >= known.sequence and answer.credit_micro >= known.credit_micro


def after_answer(known: Known, answer: Answer) -> Known:
    """What is known of a meter after an answer that counts; one that came late takes nothing back."""
    if answer.last_sequence < known.sequence:
        return known
    return Known(answer.last_sequence, answer.last_hash, answer.credit_micro)
