"""Instructions to meters that can verify, and their answers: what both are, and by which rules each side believes.

Both are COSE_Sign1 (`core.cose`) over a map in deterministic CBOR. `external_aad` is which way the message goes and
the meter's address, so that a command is never an answer, nor one of another meter. A command carries the next
number of its meter's own sequence and the name of the last command that the meter is known to have *answered*;
a chain over unanswered ones would jam at the first that is lost. Credit is told as the meter's cumulative
lifetime credit, so that no repeat can add twice.

There are two forms. The first is what every meter knows: READ, RELAY and CREDIT, whose bytes never change. The second
has one field more in commands (`more`, whose meaning is its operation's) and four in answers, of which the first
says what the meter understands. A meter of the first form would count the second as a forgery, so it is never
sent one: a READ with `IN_FULL` as its argument, which such a meter answers as any other, finds out. A meter of the
second form answers UNSUPPORTED to an operation that it does not know. Which form a message has follows from its operation, so no
message can be read as of the other.

Which keys a meter trusts is a list in the order in which it was told of them. Only the newest of them names the
next one, and only the newest drops those before it. Whoever steals a key after its successor was named can neither
name another nor shut the successor out.

Pure: state, bytes and an instant in; a new state, an answer and the reason out. The meter around it stores
the new state in the same instant as the effect. Instants are int64 µs UTC, money is in micro-units.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from enum import Enum, IntEnum, StrEnum
from typing import Final, Generic, TypeVar

import cbor2

from prewatt.core.cose import (
    KEY_ID_BYTES,
    Envelope,
    Malformed,
    Sealer,
    name_of,
    opened,
    sealed,
)
from prewatt.core.vocabulary import RelayState

VERSION: Final = 1
SECOND_FORM: Final = 2
HASH_BYTES: Final = 32
NONCE_BYTES: Final = 8
NOTHING: Final = bytes(HASH_BYTES)
"""What stands for the last answered command of a meter that has answered none."""
LIFE_US_MAX: Final = 24 * 3_600 * 1_000_000
"""A command that is good for longer is refused: what is lost on the way must not come true another day."""
ANSWERS_KEPT: Final = 8
IN_FULL: Final = 1
"""The argument of a READ that asks for an answer of the second form. A meter of the first answers it as any other."""
MORE_BYTES_MAX: Final = 160
KEYS_MAX: Final = 3
"""So many keys a meter trusts at most: one that is dropped, one that signs, one that follows."""
POINT_BYTES: Final = 65
STEP_S_MAX: Final = 86_400
"""A clock that is further off is a matter for a visit."""
STEP_SLACK_US: Final = 60 * 1_000_000
"""So far before its own issue a step of the clock may lead: it was measured over a line that takes time."""
LIMIT_W_MAX: Final = 100_000_000
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
    # --- the second form ---
    #: Move the clock by so many seconds, forwards or (negative) back.
    CLOCK = 3
    #: A `KeyStep`: trust the key in `more` (its point), or drop all but the newest.
    TRUST = 4
    #: The power in W above which the relay opens, 0 for none; `more` is for how many seconds, in four bytes.
    LIMIT = 5
    #: Hold no credit any more: what is left of it is void, nothing is counted or cut by it, until more is told.
    RELEASE = 7
    #: What a later meter understands and this one does not: it is read, and never said.
    UNKNOWN = 255


FIRST_FORM: Final = frozenset({Operation.READ, Operation.RELAY, Operation.CREDIT})
EVERY: Final = frozenset(Operation) - {Operation.UNKNOWN}


class KeyStep(IntEnum):
    """What a meter is told of keys."""

    ADD = 1
    DROP_FORMER = 2


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
    #: A clock would stand before the issue of what moved it; there is room for no further key.
    FAILED = 6
    #: By a key that it trusts, and not by the newest, which alone says which keys it trusts.
    OLD_KEY = 7


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
    more: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a meter signs: to which command, what came of it, and how the meter stands after it.

    ``balance_micro`` is None for a meter that holds none; to a RELEASE it says with what the meter ended.
    ``last_sequence`` and ``last_hash`` are of the last command that it carried out; ``refused`` counts messages,
    ever, that nobody it trusts had signed to it.

    The rest is of the second form, and of the first where ``understands`` is 0: a bit for each operation; the ids of
    the keys that it trusts, the newest last; its power limit (0: none), and for how long it opens above it.
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
    understands: int = 0
    trusts: bytes = b""
    limit_w: int = 0
    limit_s: int = 0

    @property
    def trusted_ids(self) -> tuple[bytes, ...]:
        """The keys that it says to trust, the newest last."""
        return ids_of(self.trusts)


def ids_of(trusts: bytes) -> tuple[bytes, ...]:
    """Ids of keys that were written one after the other."""
    return tuple(trusts[at : at + KEY_ID_BYTES] for at in range(0, len(trusts), KEY_ID_BYTES))


# --- bytes -------------------------------------------------------------------------------------------


def command_address(meter: str) -> bytes:
    """`external_aad` of what goes to a meter."""
    return f"prewatt-command-v1/{meter}".encode()


def answer_address(meter: str) -> bytes:
    """`external_aad` of what a meter says."""
    return f"prewatt-answer-v1/{meter}".encode()


def sealed_command(command: Command, *, by: Sealer) -> tuple[bytes, bytes]:
    """The message to the meter, and the hash by which its answer will name it. Raises ValueError for UNKNOWN."""
    if command.operation is Operation.UNKNOWN:
        raise ValueError("what is not known is not said")
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
#: Byte strings of any length up to this.
_BYTES_MAX: Final = {"more": MORE_BYTES_MAX, "trusts": KEYS_MAX * KEY_ID_BYTES}
#: A meter that says more than this of itself is not believed: what is reckoned with it has to stay within 64 bits, of other
#: meters in the same statement, too.
_HALF: Final = 2**62
_MOST: Final = {
    "limit_w": LIMIT_W_MAX,
    "limit_s": STEP_S_MAX,
    **dict.fromkeys(
        ("sequence", "last_sequence", "credit_micro", "balance_micro", "refused", "register_wh"),
        _HALF,
    ),
}
_NO_NUMBERS: Final = frozenset({"meter", *_BYTES, *_BYTES_MAX})
_MAY_BE_NEGATIVE: Final = frozenset({"balance_micro", "argument"})
_COMMAND: Final = tuple(each.name for each in fields(Command))
_ANSWER: Final = tuple(each.name for each in fields(Answer))
#: The fields of each form, under their numbers from 1.
_FIELDS: Final[dict[tuple[type[Command | Answer], int], tuple[str, ...]]] = {
    (Command, VERSION): _COMMAND[:8],
    (Command, SECOND_FORM): _COMMAND,
    (Answer, VERSION): _ANSWER[:12],
    (Answer, SECOND_FORM): _ANSWER,
}


def _form(said: Command | Answer) -> int:
    """The one form in which this is said."""
    if isinstance(said, Answer):
        return SECOND_FORM if said.understands else VERSION
    return VERSION if said.operation in FIRST_FORM else SECOND_FORM


def _payload(said: Command | Answer) -> bytes:
    """The fields under their numbers from 1, after the version: in this order the encoding is deterministic."""
    form = _form(said)
    content: dict[int, object] = {0: form}
    for number, name in enumerate(_FIELDS[type(said), form], start=1):
        value = getattr(said, name)
        content[number] = int(value) if isinstance(value, IntEnum) else value
    return cbor2.dumps(content)


def _read(kind: type[Said], payload: bytes) -> Said:
    """The payload as what it should be. Raises Malformed for any other encoding of the same as well."""
    try:
        content = cbor2.loads(payload)
    except Exception as error:  # the decoder's own, but also RecursionError, OverflowError and such
        raise Malformed(f"not CBOR: {type(error).__name__}") from None
    # By their types first: CBOR has other things that are equal to a number, and break where one is looked up.
    if type(content) is not dict or not all(type(each) is int for each in content):
        raise Malformed("not fields under numbers")
    form = content.get(0)
    names = _FIELDS.get((kind, form)) if type(form) is int else None
    if names is None or list(content) != list(range(len(names) + 1)):
        raise Malformed("not the fields of a form that is known here, in their order")
    values = {name: _checked(name, content[at]) for at, name in enumerate(names, start=1)}
    if cbor2.dumps(content) != payload:
        raise Malformed("another encoding")
    said: Said = kind(**values)  # type: ignore[arg-type]  # each was checked by its name
    if _form(said) != form or (form == VERSION and values.get("argument", 0) < 0):  # type: ignore[operator]  # a number by `_checked`
        raise Malformed("in a form that this is not said in")
    return said


def _checked(name: str, value: object) -> object:
    # Most are numbers. By its exact type, for a truth is a number too.
    if type(value) is int and name not in _NO_NUMBERS:
        most = _MOST.get(name, _INT_MAX)
        if not (-most if name in _MAY_BE_NEGATIVE else 0) <= value <= most:
            raise Malformed(f"{name} is out of range")
        return _member(name, value) if name in _ENUMS else value
    if name == "meter":
        if type(value) is not str or not 0 < len(value) <= _METER_CHARS_MAX:
            raise Malformed("no serial number")
    elif name in _BYTES:
        if type(value) is not bytes or len(value) != _BYTES[name]:
            raise Malformed(f"{name} has another length")
    elif name in _BYTES_MAX:
        if type(value) is not bytes or len(value) > _BYTES_MAX[name]:
            raise Malformed(f"{name} is too long")
        if name == "trusts" and len(value) % KEY_ID_BYTES:
            raise Malformed("no ids of keys")
    elif name != "balance_micro" or value is not None:
        raise Malformed(f"{name} is no whole number")
    return value


def _member(name: str, value: int) -> IntEnum:
    try:
        return _ENUMS[name](value)
    except ValueError:
        if name == "operation":
            return Operation.UNKNOWN  # of the second form, or malformed in the first
        raise Malformed(f"{name} has no meaning here") from None


# --- keys --------------------------------------------------------------------------------------------

_P: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def is_point(value: bytes) -> bool:
    """Whether these are an uncompressed point on P-256 (SEC 1): a meter that trusted another could verify nothing."""
    if len(value) != POINT_BYTES or value[0] != 4:
        return False
    x, y = int.from_bytes(value[1:33], "big"), int.from_bytes(value[33:], "big")
    return x < _P and y < _P and (y * y - x * x * x + 3 * x - _B) % _P == 0


def key_id_of(point: bytes) -> bytes:
    """The id of an instruction key, which nobody can choose: a meter computes it from the key that it is told."""
    return hashlib.sha256(b"instruction\n" + point).digest()[:KEY_ID_BYTES]


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
    ``refused`` counts what was not believed, ``repeated`` what came again. ``keys`` are those that it trusts, points
    by their ids, the newest last. Above ``limit_w`` (0: no limit) it opens its relay for ``limit_s``.
    """

    sequence: int = 0
    answered: bytes = NOTHING
    credit_micro: int = 0
    answers: tuple[tuple[bytes, bytes], ...] = ()
    refused: int = 0
    repeated: int = 0
    keys: tuple[tuple[bytes, bytes], ...] = ()
    limit_w: int = 0
    limit_s: int = 0

    @property
    def newest_key(self) -> bytes | None:
        """The id of the key that alone says which keys are trusted."""
        return self.keys[-1][0] if self.keys else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a meter makes of a message that it believes.

    With ``stored`` it sends those bytes and does nothing. Else it does what ``command`` says if ``result``
    is OK, adding ``added_micro`` to its balance and ``step_s`` to its clock, and answers by `concluded`. ``understands`` is 0 for
    an answer of the first form.
    """

    command: Command
    command_hash: bytes
    result: Result
    added_micro: int = 0
    stored: bytes | None = None
    step_s: int = 0
    understands: int = 0


@dataclass(frozen=True, slots=True)
class Condition:
    """How a meter stands after what it did: relay as its contacts have it, balance, register, own clock."""

    relay: RelayState
    balance_micro: int | None
    register_wh: int
    at_us: int


def judged(
    state: MeterState,
    message: bytes,
    *,
    meter: str,
    verify: Verify,
    now_us: int,
    understands: Collection[Operation] = EVERY,
) -> Verdict:
    """What a meter has to do about a message, by its own clock. Raises NotBelieved.

    Nothing is changed by a number that is not above the last one carried out, by a command past its expiry
    or good for too long, by one that does not name the last answered command, or by less credit than there was.
    One that ``understands`` the first form alone does not believe what is in the second.
    """
    claim = _claim(Command, message)
    is_first = FIRST_FORM.issuperset(understands)
    if is_first and claim.said.operation not in FIRST_FORM:
        raise NotBelieved(Doubt.MALFORMED)
    command, name = _believed(claim, address=command_address(meter), meter=meter, verify=verify)
    for answered, stored in state.answers:
        if answered == name:
            return Verdict(command, name, Result.OK, stored=stored)
    result = _result(state, command, claim.envelope.key_id, now_us)
    if result is Result.OK and command.operation not in understands:
        result = Result.UNSUPPORTED
    is_full = command.operation not in FIRST_FORM or (
        command.operation is Operation.READ and command.argument == IN_FULL
    )
    is_done = result is Result.OK
    return Verdict(
        command,
        name,
        result,
        added_micro=command.argument - state.credit_micro
        if is_done and command.operation is Operation.CREDIT
        else 0,
        step_s=command.argument if is_done and command.operation is Operation.CLOCK else 0,
        understands=sum(1 << each for each in understands) if is_full and not is_first else 0,
    )


def _result(state: MeterState, command: Command, signer: bytes, now_us: int) -> Result:
    life_us = command.expires_at_us - command.issued_at_us
    if command.operation is Operation.CLOCK:
        # By the clock that it leads to: the one there is may be why it is sent. It takes a number, so whatever was said
        # before it is stale, and a clock that goes back brings nothing back that had expired.
        now_us += command.argument * 1_000_000
    if now_us > command.expires_at_us or not 0 < life_us <= LIFE_US_MAX:
        return Result.EXPIRED
    if command.operation is Operation.READ:
        return Result.OK
    if command.sequence <= state.sequence:
        return Result.STALE
    if command.previous != state.answered:
        return Result.BROKEN_CHAIN
    return _of_operation(state, command, signer, now_us)


def _of_operation(state: MeterState, command: Command, signer: bytes, now_us: int) -> Result:
    """Whether the meter can do what is told it in its turn; ``now_us`` is by the clock that a CLOCK leads to."""
    argument, result = command.argument, Result.UNSUPPORTED
    match command.operation:
        case Operation.CREDIT:
            result = Result.LOWER_CREDIT if argument < state.credit_micro else Result.OK
        case Operation.RELAY if argument in (RelayState.CLOSED, RelayState.OPEN):
            result = Result.OK
        case Operation.RELEASE if argument == 0 and not command.more:
            result = Result.OK
        case Operation.CLOCK:
            result = _of_clock(command, now_us)
        case Operation.TRUST:
            result = _of_trust(state, command, signer)
        case Operation.LIMIT if limit_of(command) is not None:
            result = Result.OK
        case _:
            pass
    return result


def _of_clock(command: Command, stepped_us: int) -> Result:
    if command.more or not 0 < abs(command.argument) <= STEP_S_MAX:
        return Result.UNSUPPORTED
    # Now is not before it was issued: a clock that it would lead to is wrong.
    return Result.OK if stepped_us >= command.issued_at_us - STEP_SLACK_US else Result.FAILED


def _of_trust(state: MeterState, command: Command, signer: bytes) -> Result:
    is_newest = signer == state.newest_key
    if command.argument == KeyStep.DROP_FORMER and not command.more:
        return Result.OK if is_newest else Result.OLD_KEY
    if command.argument != KeyStep.ADD or not is_point(command.more):
        return Result.UNSUPPORTED
    if key_id_of(command.more) in dict(state.keys):
        return Result.OK
    if not is_newest:
        return Result.OLD_KEY
    return Result.OK if len(state.keys) < KEYS_MAX else Result.FAILED


def limit_of(command: Command) -> tuple[int, int] | None:
    """The W and the seconds of a LIMIT, 0 and 0 for none; None where it says neither."""
    open_s = int.from_bytes(command.more, "big")
    is_none = command.argument == 0 and open_s == 0
    is_some = 0 < command.argument <= LIMIT_W_MAX and 0 < open_s <= STEP_S_MAX
    return (command.argument, open_s) if len(command.more) == 4 and (is_none or is_some) else None


def _after(state: MeterState, verdict: Verdict) -> MeterState:
    """What it keeps of a command that it carried out."""
    command = verdict.command
    state = replace(
        state,
        sequence=command.sequence,
        answered=verdict.command_hash,
        credit_micro=state.credit_micro + verdict.added_micro,
    )
    if command.operation is Operation.TRUST:
        added = (
            () if command.argument != KeyStep.ADD else ((key_id_of(command.more), command.more),)
        )
        if added and added[0] in state.keys:
            return state
        return replace(state, keys=(*state.keys, *added) if added else state.keys[-1:])
    if command.operation is Operation.LIMIT and (limit := limit_of(command)) is not None:
        return replace(state, limit_w=limit[0], limit_s=limit[1])
    return state


def concluded(
    state: MeterState, verdict: Verdict, condition: Condition, *, by: Sealer
) -> tuple[MeterState, bytes]:
    """The state after a verdict was carried out, and the answer: a meter stores the first, then sends the second."""
    command = verdict.command
    if verdict.stored is not None:
        return replace(state, repeated=state.repeated + 1), verdict.stored
    is_done = verdict.result is Result.OK and command.operation is not Operation.READ
    if is_done:
        state = _after(state, verdict)
    is_full = verdict.understands != 0
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
            understands=verdict.understands,
            trusts=b"".join(key_id for key_id, _ in state.keys) if is_full else b"",
            limit_w=state.limit_w if is_full else 0,
            limit_s=state.limit_s if is_full else 0,
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


def claimed_command(message: bytes) -> Claim[Command]:
    """What a command says, unverified: for who has signed it. Raises NotBelieved."""
    return _claim(Command, message)


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
    if issued.operation not in FIRST_FORM and not answer.understands:
        return False
    is_done = answer.result is Result.OK and issued.operation is not Operation.READ
    if is_done and (answer.last_sequence, answer.last_hash) != (
        issued.sequence,
        issued.command_hash,
    ):
        return False
    if is_done and issued.operation is Operation.LIMIT and answer.limit_w != issued.argument:
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
