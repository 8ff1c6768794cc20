"""What meter and platform believe of one another: the rules of `core.instructions`, one after the other and at random."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import cbor2
import pytest
from cwt import COSE, COSEKey

from cases import cases
from prewatt.core import cose, instructions
from prewatt.core.instructions import (
    EVERY,
    IN_FULL,
    NOTHING,
    Answer,
    Command,
    Condition,
    Doubt,
    Issued,
    KeyStep,
    Known,
    MeterState,
    NotBelieved,
    Operation,
    Result,
    Worth,
    key_id_of,
)
from prewatt.core.vocabulary import RelayState
from prewatt.instructions.operations import SignerSeal
from prewatt.signing.es256 import ES256PrivateKey, ES256PublicKey, device_key_id, raw_signature
from prewatt.signing.keys import KeyRole, PublicKey, SoftwareSigner
from prewatt.sim.meter import MeterSeal, trusting

NOW_US = 1_795_827_723_456_789
NOW = datetime(2026, 11, 28, tzinfo=UTC)
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


def sealed(said: Command, by: cose.Sealer = OURS) -> bytes:
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


def test_nobody_is_believed_to_stand_where_nothing_more_could_be_reckoned() -> None:
    full = replace(SAID, understands=255)
    for name, most in (
        ("last_sequence", 2**62), ("credit_micro", 2**62), ("balance_micro", 2**62), ("refused", 2**62),
        ("limit_w", instructions.LIMIT_W_MAX), ("limit_s", instructions.STEP_S_MAX),
    ):  # fmt: skip
        for value, is_believed in ((most, True), (most + 1, False), (2**63 - 1, False)):
            message, _ = instructions.sealed_answer(replace(full, **{name: value}), by=METERS)  # type: ignore[arg-type]
            refusal = contextlib.nullcontext() if is_believed else pytest.raises(NotBelieved)
            with refusal:
                instructions.believed_answer(message, meter="PW-1", verify=BELIEVES)


# --- the second form ----------------------------------------------------------------------------------

STAFF = [ES256PrivateKey.from_scalar(bytes([n] * 32)) for n in (1, 4, 5, 6)]
SEALS = [
    SignerSeal(SoftwareSigner(PublicKey(KeyRole.INSTRUCTION, key.point, NOW), key)) for key in STAFF
]
RING = {seal.key_id: key.point for seal, key in zip(SEALS, STAFF, strict=True)}


class Meter:
    """A meter that trusts by what it was told, with a clock that is off by so many seconds."""

    def __init__(self, first: int = 0, *, understands: frozenset[Operation] = EVERY) -> None:
        self.state = MeterState(keys=((SEALS[first].key_id, STAFF[first].point),))
        self.understands, self.off_s, self.refused = understands, 0, 0
        self.said: list[bytes] = []

    def tell(self, operation: Operation, argument: int = 0, more: bytes = b"", *, by: int = 0, at_us: int = NOW_US,
             **changes: object) -> Answer | None:  # fmt: skip
        """Signed as its next command; None where it is not believed."""
        usual = {"operation": operation, "argument": argument, "more": more, "issued_at_us": at_us,
                 "expires_at_us": at_us + 15 * MINUTE_US}  # fmt: skip
        said = command(self.state.sequence + 1, self.state.answered, **(usual | changes))
        self.said.append(sealed(said, SEALS[by]))
        return self.hear(self.said[-1], at_us)

    def hear(self, message: bytes, at_us: int = NOW_US) -> Answer | None:
        now_us = at_us + self.off_s * MICRO
        try:
            verdict = instructions.judged(
                self.state, message, meter="PW-1", verify=trusting(dict(self.state.keys)), now_us=now_us,
                understands=self.understands,
            )  # fmt: skip
        except NotBelieved:
            self.refused += 1
            return None
        self.off_s += verdict.step_s
        condition = Condition(RelayState.CLOSED, None, 0, at_us + self.off_s * MICRO)
        self.state, answer = instructions.concluded(self.state, verdict, condition, by=METERS)
        return instructions.believed_answer(answer, meter="PW-1", verify=BELIEVES)[0]

    def add(self, which: int, *, by: int) -> Result | None:
        said = self.tell(Operation.TRUST, KeyStep.ADD, STAFF[which].point, by=by)
        return None if said is None else said.result

    def drop(self, *, by: int) -> Result | None:
        said = self.tell(Operation.TRUST, KeyStep.DROP_FORMER, by=by)
        return None if said is None else said.result

    @property
    def trusts(self) -> list[int]:
        """The numbers of the keys that it trusts, the newest last."""
        return [list(RING).index(key_id) for key_id, _ in self.state.keys]


def test_the_second_form_is_stated_to_the_byte_and_neither_form_is_read_as_the_other() -> None:
    """Meters are built to these bytes, and they must never change."""
    said = command(operation=Operation.LIMIT, argument=4_600, more=bytes.fromhex("0000003c"))
    payload = cbor2.loads(sealed(said)).value[2]
    assert payload.hex() == (
        "aa0002016450572d310205031911f80401051b0006614bb988d115061b0006614bef2dba150748"
        + "00" * 8 + "085820" + "00" * 32 + "09440000003c"
    )  # fmt: skip
    meter = Meter()
    answer = meter.tell(Operation.LIMIT, 4_600, bytes.fromhex("0000003c"))
    assert answer is not None and (answer.limit_w, answer.trusted_ids) == (
        4_600,
        (SEALS[0].key_id,),
    )
    assert answer.understands == sum(1 << each for each in EVERY)
    assert SEALS[0].key_id == key_id_of(STAFF[0].point), "the store and the meter name a key alike"
    fields = cbor2.loads(payload)
    first = {key: value for key, value in fields.items() if key < 9}
    for other in (
        fields | {0: 1}, first | {0: 1}, first, fields | {2: 1}, fields | {0: 3}, fields | {9: "4"},
        fields | {9: bytes(161)}, fields | {10: 0}, cbor2.loads(cbor2.loads(sealed(command())).value[2]) | {3: -1},
    ):  # fmt: skip
        message = cose.sealed(
            cbor2.dumps(other), external_aad=instructions.command_address("PW-1"), by=OURS
        )
        assert doubt(message[0]) is Doubt.MALFORMED
    with pytest.raises(ValueError, match="not known"):
        sealed(command(operation=Operation.UNKNOWN))
    assert len(sealed(command(operation=Operation.TRUST, more=STAFF[1].point))) < 300


def test_what_a_meter_does_not_understand_it_says_and_one_of_the_first_form_is_found_out() -> None:
    meter = Meter()
    later = cbor2.loads(cbor2.loads(sealed(command(operation=Operation.CLOCK))).value[2])
    message, _ = cose.sealed(
        cbor2.dumps(later | {2: 77}), external_aad=instructions.command_address("PW-1"), by=SEALS[0]
    )
    said = meter.hear(message)
    assert said is not None and said.result is Result.UNSUPPORTED
    partly = Meter(understands=EVERY - {Operation.LIMIT})
    said = partly.tell(Operation.LIMIT, 9, bytes([0, 0, 0, 9]))
    assert said is not None and said.result is Result.UNSUPPORTED
    assert said.understands & 1 << Operation.LIMIT == 0 and partly.state.limit_w == 0
    # One of before answers what finds it out as any other READ, and what it cannot know it takes for a forgery.
    old = Meter(understands=instructions.FIRST_FORM)
    said = old.tell(Operation.READ, IN_FULL)
    assert said is not None and (said.result, said.understands, old.refused) == (Result.OK, 0, 0)
    assert old.tell(Operation.CLOCK, 60) is None and old.refused == 1
    said = meter.tell(Operation.READ, IN_FULL)
    assert said is not None and said.trusted_ids == (SEALS[0].key_id,)
    said = meter.tell(Operation.READ)
    assert said is not None and (said.understands, said.trusts) == (0, b"")
    # An answer of the first form to what is of the second is none.
    issued = Issued(bytes([5] * 32), Operation.LIMIT, 9, 5, is_final=False)
    for operation in (Operation.LIMIT, Operation.TRUST):
        told = replace(issued, operation=operation)
        assert instructions.worth_of(SAID, told, KNOWN) is Worth.CONTRADICTS
    full = replace(SAID, understands=7, limit_w=8)
    assert instructions.worth_of(full, issued, KNOWN) is Worth.CONTRADICTS
    assert instructions.worth_of(replace(full, limit_w=9), issued, KNOWN) is Worth.COUNTS


def test_only_the_newest_key_names_the_next_and_only_the_newest_drops_the_former() -> None:
    meter = Meter()
    assert meter.add(1, by=0) is Result.OK and meter.trusts == [0, 1]
    # Whoever has stolen the old one now: may name no other, nor shut the next one out, nor do harm by saying it again.
    assert (meter.add(2, by=0), meter.drop(by=0)) == (Result.OLD_KEY, Result.OLD_KEY)
    assert meter.add(1, by=0) is Result.OK and meter.trusts == [0, 1]
    assert meter.add(2, by=3) is None, "nobody's key"
    adding = meter.said[0]
    assert meter.drop(by=1) is Result.OK and meter.trusts == [1]
    assert meter.hear(adding) is None, "what named it is signed by a key that is forgotten"
    assert meter.tell(Operation.RELAY, RelayState.OPEN, by=0) is None, "as is whatever it says now"
    assert meter.drop(by=1) is Result.OK and meter.trusts == [1], "one key is always left"
    # No key that verifies nothing, and none too many.
    for none in (
        b"",
        STAFF[2].point[:-1],
        STAFF[2].point[:-1] + b"\x00",
        bytes([2]) + STAFF[2].point[1:],
    ):
        said = meter.tell(Operation.TRUST, KeyStep.ADD, none, by=1)
        assert said is not None and said.result is Result.UNSUPPORTED
    said = meter.tell(Operation.TRUST, 3, by=1)
    assert said is not None and said.result is Result.UNSUPPORTED
    assert [meter.add(2, by=1), meter.add(3, by=2), meter.add(0, by=3)] == [
        Result.OK, Result.OK, Result.FAILED
    ]  # fmt: skip
    assert meter.trusts == [1, 2, 3]


def test_whatever_is_said_by_whom_a_meter_is_led_by_its_newest_key_alone() -> None:
    """At random: commands of all keys, and all that was ever said over again, in any order."""
    random = Random(38)
    for _ in range(cases(25)):
        meter = Meter(random.randrange(4))
        for _ in range(12):
            before, newest = meter.state, meter.trusts[-1]
            by, which = random.randrange(4), random.randrange(4)
            match random.randrange(3):
                case 0:
                    meter.add(which, by=by)
                case 1:
                    meter.drop(by=by)
                case _ if meter.said:
                    meter.hear(random.choice(meter.said))
                    by = -1
                case _:
                    continue
            if meter.state.keys != before.keys:
                assert by == newest, "only the newest changes what is trusted, and no repeat does"
                assert meter.state.sequence == before.sequence + 1
                is_added = meter.state.keys[:-1] == before.keys
                assert is_added or meter.state.keys == before.keys[-1:]
        assert 1 <= len(meter.state.keys) <= 3
        said = meter.tell(Operation.READ, IN_FULL, by=meter.trusts[-1])
        assert said is not None and [*said.trusted_ids] == [key for key, _ in meter.state.keys]


def test_a_clock_is_put_right_however_far_off_and_nothing_expired_comes_true_by_it() -> None:
    for off_s in (-7_200, 7_200, 80_000):
        meter = Meter()
        meter.off_s = off_s
        # Held back by somebody, while it was good.
        held = command(1, operation=Operation.RELAY, argument=RelayState.OPEN)
        old = sealed(held, SEALS[0])
        later_us = NOW_US + 60 * MINUTE_US
        read = meter.tell(Operation.READ, at_us=later_us)
        assert read is not None, (
            "it tells its clock, signed, though by that clock it may be too late"
        )
        assert read.result is (Result.EXPIRED if off_s > 900 else Result.OK)
        step_s = (later_us - read.at_us) // MICRO
        said = meter.tell(Operation.CLOCK, step_s, at_us=later_us)
        assert said is not None and (said.result, said.at_us) == (Result.OK, later_us)
        assert meter.off_s == 0
        # The number of what was held back is gone, whatever the clock says now.
        said = meter.hear(old, NOW_US)
        assert said is not None and said.result in (Result.STALE, Result.EXPIRED)
        meter.hear(meter.said[-1], later_us)
        assert meter.off_s == 0, "twice is once"


@pytest.mark.parametrize(
    ("off_s", "step_s", "late_us", "more", "result"),
    [
        (7_200, -7_200, 16 * MINUTE_US, b"", Result.EXPIRED),  # held back until it was wrong
        (0, 7_200, 0, b"", Result.EXPIRED),  # right meanwhile
        (0, -7_200, 0, b"", Result.FAILED),  # it would be before its own issue
        (0, 30, 0, b"", Result.OK),
        (0, -59, 0, b"", Result.OK),
        (86_401, -86_401, 0, b"", Result.UNSUPPORTED),  # a matter for a visit
        (0, 0, 0, b"", Result.UNSUPPORTED),
        (-30, 30, 0, b"\x00", Result.UNSUPPORTED),
    ],
)
def test_a_step_of_the_clock_leads_to_now_or_is_refused(
    off_s: int, step_s: int, late_us: int, more: bytes, result: Result
) -> None:
    meter = Meter()
    meter.off_s = off_s
    said_to = command(operation=Operation.CLOCK, argument=step_s, more=more)
    message = sealed(said_to, SEALS[0])
    said = meter.hear(message, NOW_US + late_us)
    assert said is not None and said.result is result
    assert meter.off_s == off_s + (step_s if result is Result.OK else 0)


@pytest.mark.parametrize(
    ("watts", "more", "is_taken"),
    [(4_600, "0000003c", True), (0, "00000000", True), (0, "0000003c", False), (9, "00000000", False),
     (9, "00015181", False), (9, "3c", False), (-1, "0000003c", False), (10**9, "0000003c", False)],
)  # fmt: skip
def test_a_limit_says_its_power_and_its_time_or_is_refused(
    watts: int, more: str, is_taken: bool
) -> None:
    meter = Meter()
    said = meter.tell(Operation.LIMIT, watts, bytes.fromhex(more))
    assert said is not None and said.result is (Result.OK if is_taken else Result.UNSUPPORTED)
    assert meter.state.limit_w == (watts if is_taken else 0)


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
