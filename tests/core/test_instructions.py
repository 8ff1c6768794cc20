"""What meter and platform believe of one another: the rules of `core.instructions`, one after the other and at random."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from random import Random

import cbor2
import pytest
from cwt import COSE, COSEKey

from cases import cases
from prewatt.core import cose, instructions
from prewatt.core.instructions import (
    NOTHING,
    Answer,
    Command,
    Condition,
    Doubt,
    Issued,
    Known,
    MeterState,
    NotBelieved,
    Operation,
    Result,
    Worth,
)
from prewatt.core.vocabulary import RelayState
from prewatt.signing.es256 import ES256PrivateKey, ES256PublicKey, device_key_id, raw_signature
from prewatt.sim.meter import MeterSeal, trusting

NOW_US = 1_795_827_723_456_789
MINUTE_US = 60_000_000
KEY, METER_KEY, OTHER_KEY = (ES256PrivateKey.from_scalar(bytes([n] * 32)) for n in (1, 2, 3))
OURS, METERS, OTHERS = MeterSeal(KEY), MeterSeal(METER_KEY), MeterSeal(OTHER_KEY)
TRUSTS = trusting({OURS.key_id: KEY.point})
BELIEVES = trusting({METERS.key_id: METER_KEY.point})
MICRO = 1_000_000


def command(sequence: int = 1, previous: bytes = NOTHING, **changes: object) -> Command:
    usual: dict[str, object] = {
        "meter": "PW-1",
        "operation": Operation.CREDIT,
        "argument": 5 * MICRO,
        "sequence": sequence,
        "issued_at_us": NOW_US,
        "expires_at_us": NOW_US + 15 * MINUTE_US,
        "nonce": bytes(8),
        "previous": previous,
    }
    return Command(**(usual | changes))  # type: ignore[arg-type]


def tell(
    state: MeterState, message: bytes, now_us: int = NOW_US + 1, meter: str = "PW-1"
) -> tuple[MeterState, Answer, bytes]:
    """The meter as a whole: judge, do, conclude; returns its state, its answer read, and the answer's bytes."""
    verdict = instructions.judged(state, message, meter=meter, verify=TRUSTS, now_us=now_us)
    condition = Condition(RelayState.CLOSED, state.credit_micro + verdict.added_micro, 17, now_us)
    state, answer = instructions.concluded(state, verdict, condition, by=METERS)
    said, _ = instructions.believed_answer(answer, meter=meter, verify=BELIEVES)
    return state, said, answer


def doubt(message: bytes, **changes: object) -> Doubt:
    usual = {"meter": "PW-1", "verify": TRUSTS, "now_us": NOW_US}
    with pytest.raises(NotBelieved) as refused:
        instructions.judged(MeterState(), message, **(usual | changes))  # type: ignore[arg-type]
    return refused.value.doubt


def sealed(said: Command, by: MeterSeal = OURS) -> bytes:
    return instructions.sealed_command(said, by=by)[0]


def test_a_command_and_its_answer_are_stated_to_the_byte() -> None:
    """Meters are built to these bytes, and they must never change."""
    message, name = instructions.sealed_command(command(), by=OURS)
    payload = cbor2.loads(message).value[2]
    assert payload.hex() == (
        "a90001016450572d310202031a004c4b400401051b0006614bb988d115061b0006614bef2dba150748"
        + "00" * 8
        + "085820"
        + "00" * 32
    )
    tag = cbor2.loads(message)
    assert (tag.tag, tag.value[1], len(tag.value[3])) == (18, {}, 64)
    assert cbor2.loads(tag.value[0]) == {1: -7, 4: OURS.key_id}
    structure = ["Signature1", tag.value[0], b"prewatt-command-v1/PW-1", payload]
    assert name == hashlib.sha256(cbor2.dumps(structure)).digest()
    _, _, answer = tell(MeterState(), message)
    assert cbor2.loads(cbor2.loads(answer).value[2])[2] == name
    assert len(message) < 256 and len(answer) < 280


def test_cwt_and_pycose_verify_what_we_sign_and_we_what_they_sign() -> None:
    from pycose.algorithms import Es256
    from pycose.headers import KID, Algorithm
    from pycose.keys import EC2Key
    from pycose.keys.curves import P256
    from pycose.messages import Sign1Message

    aad = instructions.command_address("PW-1")
    payload = cbor2.loads(sealed(command())).value[2]
    x, y, d = KEY.point[1:33], KEY.point[33:], KEY.scalar
    theirs = COSEKey.new({1: 2, -1: 1, -2: x, -3: y, -4: d, 3: -7, 2: OURS.key_id})
    assert COSE.new().decode(sealed(command()), theirs, external_aad=aad) == payload
    by_cwt = COSE.new().encode(payload, theirs, protected={1: -7, 4: OURS.key_id}, external_aad=aad)
    message = Sign1Message.decode(sealed(command()))
    message.key = EC2Key(crv=P256, x=x, y=y, d=d)
    message.external_aad = aad
    assert message.verify_signature() and message.payload == payload
    made = Sign1Message(
        phdr={Algorithm: Es256, KID: OURS.key_id}, payload=payload, external_aad=aad
    )
    made.key = message.key
    by_pycose = made.encode()
    for foreign in (by_cwt, by_pycose):
        state, answer, _ = tell(MeterState(), foreign)
        assert (state.credit_micro, answer.result) == (5 * MICRO, Result.OK)
        other = Sign1Message.decode(foreign)
        other.key, other.external_aad = message.key, aad
        assert other.verify_signature()
        assert COSE.new().decode(foreign, theirs, external_aad=aad) == payload
        with pytest.raises(Exception, match=r"verify|signature"):
            COSE.new().decode(foreign, theirs, external_aad=b"prewatt-command-v1/PW-2")


def test_credit_is_cumulative_and_no_repeat_adds_twice() -> None:
    first, name = instructions.sealed_command(command(), by=OURS)
    state, answer, stored = tell(MeterState(), first)
    assert (answer.result, answer.balance_micro, answer.credit_micro) == (0, 5 * MICRO, 5 * MICRO)
    for later_us in (1, 40 * MINUTE_US):
        again, _, same = tell(state, first, NOW_US + later_us)
        assert same == stored and again == replace(state, repeated=1)
    second = sealed(command(2, name, argument=7 * MICRO))
    state, answer, _ = tell(state, second)
    assert (state.credit_micro, answer.balance_micro, state.sequence) == (7 * MICRO, 7 * MICRO, 2)


@pytest.mark.parametrize(
    ("changes", "after_us", "result"),
    [
        ({"expires_at_us": NOW_US + 5}, 6, Result.EXPIRED),
        ({"expires_at_us": NOW_US + 25 * 60 * MINUTE_US}, 1, Result.EXPIRED),
        ({"issued_at_us": NOW_US + 16 * MINUTE_US}, 1, Result.EXPIRED),
        ({"sequence": 3}, 1, Result.STALE),
        ({"sequence": 2}, 1, Result.STALE),
        ({"previous": bytes([1] * 32)}, 1, Result.BROKEN_CHAIN),
        ({"argument": 1}, 1, Result.LOWER_CREDIT),
        ({"operation": Operation.RELAY, "argument": 0}, 1, Result.UNSUPPORTED),
        ({"operation": Operation.RELAY, "argument": 3}, 1, Result.UNSUPPORTED),
    ],
)
def test_what_is_signed_and_does_not_fit_changes_nothing_and_is_answered_by_a_signed_no(
    changes: dict[str, object], after_us: int, result: Result
) -> None:
    state = MeterState(3, bytes([7] * 32), 4 * MICRO)
    said = replace(command(4, state.answered), **changes)  # type: ignore[arg-type]
    after, answer, _ = tell(state, sealed(said), NOW_US + after_us)
    assert after == state
    assert (answer.result, answer.last_sequence, answer.last_hash) == (result, 3, state.answered)


def test_a_lost_answer_jams_nothing_the_refusal_says_where_the_meter_stands() -> None:
    first = instructions.sealed_command(command(), by=OURS)
    state, _, _ = tell(MeterState(), first[0])  # and its answer is lost
    state, no, _ = tell(state, sealed(command(2, argument=9 * MICRO)))
    assert (no.result, no.last_hash) == (Result.BROKEN_CHAIN, first[1])
    state, yes, _ = tell(state, sealed(command(3, no.last_hash, argument=9 * MICRO)))
    assert yes.result is Result.OK and state.credit_micro == 9 * MICRO


def test_a_read_tells_how_the_meter_stands_and_takes_no_number() -> None:
    state = MeterState(3, bytes([7] * 32), 4 * MICRO, refused=2)
    read = sealed(command(9, operation=Operation.READ, argument=0))
    after, answer, _ = tell(state, read)
    assert after == state
    assert (answer.last_sequence, answer.credit_micro, answer.refused) == (3, 4 * MICRO, 2)


def test_nobody_else_can_say_it() -> None:
    message = sealed(command())
    assert doubt(sealed(command(), OTHERS)) is Doubt.UNKNOWN_KEY
    assert doubt(message, meter="PW-2") is Doubt.FORGED
    other = cose.sealed(
        cbor2.loads(message).value[2], external_aad=instructions.command_address("PW-2"), by=OURS
    )
    assert doubt(other[0], meter="PW-2") is Doubt.OTHER_METER
    answer = tell(MeterState(), message)[2]
    assert doubt(answer, verify=BELIEVES) is Doubt.MALFORMED
    as_answer = cose.sealed(
        cbor2.loads(message).value[2], external_aad=instructions.answer_address("PW-1"), by=OURS
    )
    assert doubt(as_answer[0]) is Doubt.FORGED


def test_no_other_form_of_the_same_is_taken() -> None:
    message = sealed(command())
    tag = cbor2.loads(message)
    protected, _, payload, signature = tag.value
    fields = cbor2.loads(payload)

    def signed(other: bytes) -> bytes:
        return cose.sealed(other, external_aad=instructions.command_address("PW-1"), by=OURS)[0]

    forms = [
        message[1:],
        message + b"\x00",
        cbor2.dumps(cbor2.CBORTag(18, [protected, {4: b"x"}, payload, signature])),
        cbor2.dumps(cbor2.CBORTag(98, [protected, {}, payload, signature])),
        b"\xd2\x84\x58\x15" + message[3:],
        b"",
        signed(payload + b"\x00"),
        signed(cbor2.dumps(dict(reversed(fields.items())))),
        signed(cbor2.dumps(fields | {9: 1})),
        signed(cbor2.dumps(fields | {0: 2})),
        signed(cbor2.dumps(fields | {3: 5.0})),
        signed(cbor2.dumps(fields | {3: True})),
        signed(cbor2.dumps(fields | {3: 2**64})),
        signed(cbor2.dumps(fields | {2: 9})),
        signed(cbor2.dumps(fields | {7: b"short"})),
        signed(payload.replace(b"\x04\x01\x05", b"\x04\x18\x01\x05")),
        signed(b"\x9f" * 300),
    ]
    assert {doubt(form) for form in forms} == {Doubt.MALFORMED}


def test_the_turned_signature_is_the_same_command_and_is_done_once() -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    message = sealed(command())
    turned = order - int.from_bytes(message[-32:], "big")
    twin = message[:-32] + turned.to_bytes(32, "big")
    state, _, stored = tell(MeterState(), message)
    again, _, same = tell(state, twin)
    assert same == stored and again.credit_micro == 5 * MICRO


ISSUED = Issued(bytes([5] * 32), Operation.CREDIT, 9, 5, is_final=False)
SAID = Answer(
    "PW-1", ISSUED.command_hash, 5, Result.OK, RelayState.CLOSED, 9, 9, 1, NOW_US, 5,
    ISSUED.command_hash, 0,
)  # fmt: skip
KNOWN = Known(4, bytes([4] * 32), 8)


@pytest.mark.parametrize(
    ("answer", "issued", "known", "worth"),
    [
        (SAID, ISSUED, KNOWN, Worth.COUNTS),
        (SAID, None, KNOWN, Worth.FOREIGN),
        (replace(SAID, command_hash=bytes(32)), ISSUED, KNOWN, Worth.FOREIGN),
        (SAID, replace(ISSUED, is_final=True), KNOWN, Worth.REPEATED),
        # Says yes, and stands elsewhere than by that command; or had other credit.
        (replace(SAID, last_sequence=4), ISSUED, KNOWN, Worth.CONTRADICTS),
        (replace(SAID, last_hash=bytes(32)), ISSUED, KNOWN, Worth.CONTRADICTS),
        (replace(SAID, credit_micro=8), ISSUED, KNOWN, Worth.CONTRADICTS),
        # A no of a meter that has forgotten, or has less credit than it signed for.
        (replace(SAID, result=Result.BROKEN_CHAIN, last_sequence=3), ISSUED, KNOWN, Worth.CONTRADICTS),
        (replace(SAID, result=Result.EXPIRED, last_sequence=4, last_hash=bytes(32)), ISSUED, KNOWN,
         Worth.CONTRADICTS),
        (replace(SAID, result=Result.EXPIRED, last_sequence=4, last_hash=KNOWN.answered, credit_micro=7),
         ISSUED, KNOWN, Worth.CONTRADICTS),
        # Late on its way: what came after it is known already.
        (SAID, ISSUED, Known(7, bytes([7] * 32), 12), Worth.COUNTS),
        (replace(SAID, credit_micro=9), ISSUED, Known(7, bytes([7] * 32), 8), Worth.CONTRADICTS),
    ],
)  # fmt: skip
def test_what_an_answer_is_worth(
    answer: Answer, issued: Issued | None, known: Known, worth: Worth
) -> None:
    assert instructions.worth_of(answer, issued, known) is worth
    if worth is Worth.COUNTS:
        after = instructions.after_answer(known, answer)
        assert after.sequence == max(known.sequence, answer.last_sequence)


def test_a_flipped_bit_anywhere_is_seen_and_changes_nothing() -> None:
    random = Random(7)
    message = sealed(command())
    for _ in range(cases(150)):
        at = random.randrange(len(message) * 8)
        flipped = bytearray(message)
        flipped[at // 8] ^= 1 << at % 8
        assert doubt(bytes(flipped)) in Doubt


def test_keys_of_other_curves_and_forms_are_no_keys() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from prewatt.signing.es256 import BadKey

    spki = METER_KEY.spki
    assert ES256PublicKey.from_spki(spki).point == METER_KEY.point
    assert device_key_id(spki) == METERS.key_id
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    compressed = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), METER_KEY.point)
    for bad in (
        b"", spki[:-1], spki + b"\x00",
        other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        compressed.public_bytes(Encoding.X962, PublicFormat.CompressedPoint),
    ):  # fmt: skip
        with pytest.raises(BadKey):
            ES256PublicKey.from_spki(bad)
    with pytest.raises(ValueError, match=r"DER|parsing|signature"):
        raw_signature(b"no DER")
