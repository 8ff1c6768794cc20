"""The short form: its size, its rules, and that others verify its tags."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import cbor2
import pytest
from cryptography.fernet import Fernet

from cases import cases
from prewatt.core import short_instructions as short
from prewatt.core.instructions import Doubt, NotBelieved, Operation, Result
from prewatt.core.session_offers import SessionOffer, believed_offer, sealed_offer
from prewatt.core.short_instructions import ShortCommand, ShortState
from prewatt.core.vocabulary import RelayState
from prewatt.instructions.operations import SignerSeal
from prewatt.signing.es256 import ES256PrivateKey, ES256PublicKey
from prewatt.signing.keys import KeyRole, PublicKey, SoftwareSigner
from prewatt.signing.sessions import SessionKeys, SessionSeals, session_keys
from prewatt.signing.store import KeyStoreRefused

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
            state, said, result, message=message, relay=RelayState.CLOSED, meter="PW-1", key=KEYS.up
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
    said = short.ShortAnswer(
        2**32 - 1, 2**32 - 1, Result.FAILED, RelayState.OPEN, 2**62, 2**31 - 1, 2**32 - 1
    )
    longest = short.sealed_short_answer(said, meter="PW-1", key=KEYS.up)
    assert len(longest) == 50 < short.BYTES_MAX
    assert short.short_answer(longest, meter="PW-1", key=KEYS.up) == said
    # Nobody is believed to stand where no number, or no credit, could follow.
    for beyond in (replace(said, last_sequence=2**31), replace(said, credit_micro=2**62 + 1)):
        message = short.sealed_short_answer(beyond, meter="PW-1", key=KEYS.up)
        with pytest.raises(NotBelieved):
            short.short_answer(message, meter="PW-1", key=KEYS.up)
    payload = cbor2.loads(largest).value[2]
    key = COSEKey.new({1: 4, -1: KEYS.down, 3: 4})
    assert COSE.new().decode(largest, key, external_aad=aad) == payload
    other = Mac0Message.decode(largest)
    other.key, other.external_aad = SymmetricKey(k=KEYS.down), aad
    assert other.verify_tag()
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
    for argument, sequence in ((1, 1), (1, 2)):
        # Also another command of the very number, as from a database that was set back: no stored answer fits it.
        after, said, _ = tell(state, command(Operation.RELAY, argument, sequence=sequence))
        assert after == state and said.result is Result.STALE
        assert said.mark != said.last_mark
    for beyond in set(Operation) - {Operation.READ, Operation.RELAY, Operation.CREDIT}:
        assert tell(state, command(beyond, 1, sequence=3))[1].result is Result.UNSUPPORTED


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


def test_an_offer_is_taken_from_whom_the_meter_trusts_once_and_no_old_one_after() -> None:
    signer = PublicKey(KeyRole.INSTRUCTION, OURS.point, datetime(2026, 1, 1, tzinfo=UTC))
    by = SignerSeal(SoftwareSigner(signer, OURS))
    offer = SessionOffer("pw-1", 2, METERS.point)
    message = sealed_offer(offer, by=by)

    def take(message: bytes, meter: str = "pw-1", after: int = 1, trusts: bool = True) -> object:
        def verify(_key: bytes, signed: bytes, signature: bytes) -> bool:
            return trusts and ES256PublicKey.from_point(OURS.point).is_signed(signed, signature)

        try:
            return believed_offer(message, meter=meter, verify=verify, after=after)
        except NotBelieved as refused:
            return refused.doubt
        except ValueError:
            return "old"

    assert take(message) == offer
    assert take(message, after=2) == "old"
    assert take(message, meter="pw-2") == take(message, trusts=False) == Doubt.FORGED
    # A command is no offer, nor is an offer to one meter one to another however it is addressed.
    other = sealed_offer(replace(offer, meter="pw-2"), by=by)
    assert take(other) == Doubt.FORGED
    random = Random(6)
    for _ in range(cases(60)):
        bad = bytearray(message)
        bad[random.randrange(len(bad))] ^= 1 << random.randrange(8)
        assert take(bytes(bad)) in (Doubt.FORGED, Doubt.MALFORMED)
    for wrong in (replace(offer, number=0), replace(offer, platform_point=b"x")):
        with pytest.raises(ValueError, match="not an offer"):
            sealed_offer(wrong, by=by)


def test_at_rest_keys_are_of_use_to_nobody_without_the_seal_nor_in_another_row() -> None:
    first, second = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    box = SessionSeals([first])
    sealed = box.seal(KEYS, meter="pw-1", platform_point=OURS.point)
    assert KEYS.down not in sealed and KEYS.up not in sealed
    assert box.open(sealed, meter="pw-1", platform_point=OURS.point) == KEYS
    again = SessionSeals([second, first]).seal_again(sealed)
    assert SessionSeals([second]).open(again, meter="pw-1", platform_point=OURS.point) == KEYS
    for opening in (
        lambda: box.open(sealed, meter="pw-2", platform_point=OURS.point),
        lambda: box.open(sealed, meter="pw-1", platform_point=METERS.point),
        lambda: SessionSeals([second]).open(sealed, meter="pw-1", platform_point=OURS.point),
        lambda: SessionSeals([second]).seal_again(sealed),
        lambda: SessionSeals([]),
    ):
        with pytest.raises(KeyStoreRefused):
            opening()
