"""The short form: its size, its rules, and that others verify its tags."""

from __future__ import annotations

from random import Random

import cbor2
import pytest

from cases import cases
from prewatt.core import short_instructions as short
from prewatt.core.instructions import Doubt, NotBelieved, Operation, Result
from prewatt.core.short_instructions import ShortCommand, ShortState
from prewatt.core.vocabulary import RelayState
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.signing.sessions import SessionKeys, session_keys

OURS, METERS = (ES256PrivateKey.from_scalar(bytes([n] * 32)) for n in (1, 2))
KEYS = session_keys(OURS, METERS.point, meter="PW-1", platform_point=OURS.point)
NOW_MIN = 29_930_462


def command(
    operation: Operation = Operation.CREDIT, argument: int = 5_000_000, sequence: int = 1,
    expires_at_min: int = NOW_MIN + 60, keys: SessionKeys = KEYS, meter: str = "PW-1",
) -> bytes:  # fmt: skip
    said = ShortCommand(operation, argument, sequence, expires_at_min)
    return short.sealed_short_command(said, meter=meter, key=keys.down)


def tell(state: ShortState, message: bytes) -> tuple[ShortState, short.ShortAnswer, bytes]:
    said, result, stored = short.judged_short(
        state, message, meter="PW-1", key=KEYS.down, now_min=NOW_MIN
    )
    answer = stored
    if not stored:
        state, answer = short.concluded_short(
            state, said, result, relay=RelayState.CLOSED, meter="PW-1", key=KEYS.up
        )
    return state, short.short_answer(answer, meter="PW-1", key=KEYS.up), answer


def doubt(message: bytes, meter: str = "PW-1", key: bytes = KEYS.down) -> Doubt:
    with pytest.raises(NotBelieved) as refused:
        short.judged_short(ShortState(), message, meter=meter, key=key, now_min=NOW_MIN)
    return refused.value.doubt


def test_both_sides_come_to_the_same_keys_and_nobody_to_another_meters() -> None:
    theirs = session_keys(METERS, OURS.point, meter="PW-1", platform_point=OURS.point)
    assert (theirs.down, theirs.up) == (KEYS.down, KEYS.up) and theirs.down != theirs.up
    other = session_keys(METERS, OURS.point, meter="PW-2", platform_point=OURS.point)
    assert other.down != KEYS.down and KEYS.down.hex() not in repr(KEYS)


def test_the_largest_figures_fit_the_smallest_downlink_and_others_verify_the_tag() -> None:
    from cwt import COSE, COSEKey
    from pycose.keys import SymmetricKey
    from pycose.messages import Mac0Message

    largest = command(argument=2**62, sequence=2**32 - 1)
    assert len(command(Operation.RELAY, 1)) == 26 and len(largest) == 38
    aad = b"prewatt-short-v1/down/PW-1"
    payload = cbor2.loads(largest).value[2]
    key = COSEKey.new({1: 4, -1: KEYS.down, 3: 4})
    assert COSE.new().decode(largest, key, external_aad=aad) == payload
    message = Mac0Message.decode(largest)
    message.key, message.external_aad = SymmetricKey(k=KEYS.down), aad
    assert message.verify_tag()
    assert COSE.new().encode(payload, key, protected={1: 4}, external_aad=aad) == largest


def test_the_number_and_the_lifetime_credit_allow_no_repeat() -> None:
    state, said, stored = tell(ShortState(), command())
    assert (said.result, said.credit_micro, said.last_sequence) == (Result.OK, 5_000_000, 1)
    assert tell(state, command())[::2] == (state, stored), "a repeat gets the stored answer"
    for message, result in (
        (command(sequence=2, argument=4_999_999), Result.LOWER_CREDIT),
        (command(sequence=2, expires_at_min=NOW_MIN - 1), Result.EXPIRED),
        (command(sequence=2, expires_at_min=NOW_MIN + 8 * 24 * 60), Result.EXPIRED),
        (command(Operation.RELAY, 3, sequence=2), Result.UNSUPPORTED),
        (command(Operation.READ, 0, sequence=9), Result.OK),
    ):
        after, said, _ = tell(state, message)
        assert after == state and said.result is result
    state, _, _ = tell(state, command(Operation.RELAY, 2, sequence=2))
    after, said, _ = tell(state, command(Operation.RELAY, 1, sequence=1))
    assert after == state and said.result is Result.STALE


def test_nothing_else_is_believed_and_too_many_tries_end_the_session() -> None:
    random = Random(5)
    good = command()
    for _ in range(cases(300)):
        bad = bytearray(good)
        bad[random.randrange(len(bad))] ^= 1 << random.randrange(8)
        assert doubt(bytes(bad)) in (Doubt.FORGED, Doubt.MALFORMED)
        doubt(random.randbytes(random.randrange(60)))
    assert doubt(good[:-1]) is doubt(good + b"\x00") is Doubt.MALFORMED
    assert doubt(good, meter="PW-2") is doubt(good, key=KEYS.up) is Doubt.FORGED
    answer = tell(ShortState(), good)[2]
    assert doubt(answer) is Doubt.FORGED
    with pytest.raises(NotBelieved):
        short.short_answer(good, meter="PW-1", key=KEYS.up)
    ended = ShortState(forged=short.FORGERIES_MAX - 1)
    ended = short.forged_short(ended)
    with pytest.raises(NotBelieved):
        short.judged_short(ended, good, meter="PW-1", key=KEYS.down, now_min=NOW_MIN)
