"""The instruction book: what the head-end asks of this package while it instructs meters by signature.

Each method is one transaction and takes sets. The rows of `instruction_state` are locked first, in meter order, and
hold everything that belongs to their meters. What a meter is told and what of its answers is believed is
`core.instructions`' business; here it is written down before it is sent, and before it is acknowledged.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
from django.db import IntegrityError, connection, transaction

from prewatt.access.scope import Actor, require, scope
from prewatt.audit import operations as audit
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.cose import Sealer
from prewatt.core.instructions import (
    FIRST_FORM,
    IN_FULL,
    NONCE_BYTES,
    NOTHING,
    Answer,
    Claim,
    Command,
    Doubt,
    Issued,
    Known,
    NotBelieved,
    Operation,
    Result,
    Worth,
    after_answer,
    believed,
    claimed_answer,
    claimed_command,
    sealed_command,
    worth_of,
)
from prewatt.core.vocabulary import InstructionState
from prewatt.instructions.models import MeterKey
from prewatt.instructions.queries import MeterKeys, ever_had_key
from prewatt.instructions.seals import Seals
from prewatt.runtime.bells import ring
from prewatt.runtime.prepared import booleans, execute, fetch, integers, moments, pipelined
from prewatt.signing.es256 import BadKey, ES256PublicKey, device_key_id
from prewatt.signing.keyring import Keyring, NoSigningKey
from prewatt.signing.keys import KeyRole, Signer
from prewatt.signing.token import TokenRefused

LIFE: Final = timedelta(minutes=15)
"""How long a command is good, by the meter's own clock, which may be some minutes off."""
_LIVE: Final = (InstructionState.ISSUED, InstructionState.SENT)
_LAST_US: Final = 253_370_764_800_000_000  # the year 9999 begins: in any time zone it has not ended
_FIRST_FORM_BITS: Final = sum(1 << each for each in FIRST_FORM)
_FIRST_RETRY: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a meter is to be told, of which order, until when it would make sense. One of each meter at a time."""

    meter_id: int
    property_id: int
    serial: str
    operation: Operation
    argument: int = 0
    order_id: int | None = None
    expires_at: datetime | None = None
    #: What some operations of the second form say besides.
    more: bytes = b""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Bytes to be handed to a meter once they are committed."""

    meter_id: int
    serial: str
    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """What came from a meter that says it answers an instruction."""

    meter_id: int
    property_id: int
    serial: str
    payload: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it: a doubt, or what it was worth and to which order.

    ``forged`` is how many messages more the meter says to have refused since it was last heard; ``has_ended`` that
    the session by which it was spoken to has ended, since too much was refused; ``is_led_astray`` that it says to
    trust an instruction key that none of ours ever was.
    """

    told: Told
    doubt: Doubt | None
    worth: Worth | None = None
    answer: Answer | None = None
    operation: Operation | None = None
    order_id: int | None = None
    forged: int = 0
    has_ended: bool = False
    is_led_astray: bool = False


class SignerSeal:
    """A signer of Prewatt as `core.cose` wants it. Raises ValueError for a key of another role."""

    def __init__(self, signer: Signer) -> None:
        if signer.public.role.algorithm != "ES256":
            raise ValueError(f"a key of the role {signer.public.role} instructs no meter")
        self._signer = signer
        self.key_id = bytes.fromhex(signer.public.key_id)

    def sign(self, message: bytes) -> bytes:
        """See `core.cose.Sealer`. Raises NoSigningKey where the key's token does not sign."""
        try:
            return self._signer.sign(message)
        except TokenRefused as refused:
            raise NoSigningKey(str(refused)) from refused


def seals_of_keys(keyring: Keyring, *, now: datetime) -> Seals:
    """The instruction keys of a process. Raises NoSigningKey where none of them signs now.

    One that was followed signs on, whatever its time, for meters that trust no other: until it is revoked.
    """
    usual = SignerSeal(keyring.signer(KeyRole.INSTRUCTION, now=now))
    living = keyring.living(KeyRole.INSTRUCTION)
    ids = {bytes.fromhex(each.public.key_id): each.public.value for each in living}
    return Seals(
        [SignerSeal(each) for each in living if each.public.signs_from <= now],
        usual=usual,
        points=ids,
        ended=[
            key_id
            for each in keyring.public_keys()
            if each.role is KeyRole.INSTRUCTION
            and (key_id := bytes.fromhex(each.key_id)) not in ids
        ],
    )


def enrol_key(
    *, actor: Actor, property_id: int, meter_id: int, public_key: bytes, now: datetime,
    valid_until: datetime | None = None,
) -> bytes:  # fmt: skip
    """Believe a meter's answers by this key from now on (SubjectPublicKeyInfo, P-256); returns its id.

    Keys that the meter has stay valid: whoever enrols the next one ends the former. Raises BadKey, PermissionRefused.
    """
    require(actor, "estate.meters", property_id=property_id)
    point = ES256PublicKey.from_spki(public_key).point
    key_id = device_key_id(public_key)
    with scope(actor, deed="estate.meters"):
        # What agrees on a session signs nothing, whichever of both came first (decision 35).
        if fetch("SELECT 1 FROM instruction_session WHERE meter_point = %b", [point]):
            raise BadKey("a key by which a meter agrees on sessions")
        try:
            with transaction.atomic():
                MeterKey.objects.create(
                    property_id=property_id, meter_id=meter_id, public_key=public_key, key_id=key_id,
                    valid_from=now, valid_until=valid_until, made_by=actor.code,
                )  # fmt: skip
        except IntegrityError as error:
            # Also where we see no such meter: of another property, say.
            raise BadKey("a key that a meter has or had already") from error
        audit.record(
            actor=actor.code, code="instructions.key.enrolled", property_id=property_id,
            subject=f"meter:{meter_id}", now=now, key_id=key_id.hex(),
        )  # fmt: skip
        ring("changed", [property_id])
    return key_id


def revoke_key(
    *, actor: Actor, property_id: int, key_id: bytes, reason: str, now: datetime
) -> bool:
    """Believe nothing any more that this key signed; returns whether there was one to revoke."""
    require(actor, "estate.meters", property_id=property_id)
    with scope(actor, deed="estate.meters"):
        found = MeterKey.objects.filter(
            property_id=property_id, key_id=key_id, revoked_at__isnull=True
        )
        meter_id = found.values_list("meter_id", flat=True).first()
        if meter_id is None:
            return False
        audit.record(
            actor=actor.code, code="instructions.key.revoked", property_id=property_id,
            subject=f"meter:{meter_id}", now=now, key_id=key_id.hex(), reason=reason,
        )  # fmt: skip
        ring("changed", [property_id])
        return found.update(revoked_at=now) == 1


class InstructionBook:
    """The instructions of all properties, for the head-end. ``seal`` gives the key that signs now, or all keys."""

    def __init__(self, actor: Actor, *, seal: Callable[[datetime], Sealer | Seals]) -> None:
        require(actor, "supply.decide")
        self._actor = actor
        self._seal = seal
        self._keys = MeterKeys()

    def signing(self, meter_ids: Sequence[int]) -> frozenset[int]:
        """Those of the meters that are instructed by signature: a key of theirs is enrolled, or was."""
        if not meter_ids:
            return frozenset()
        with scope(self._actor):
            return ever_had_key(meter_ids)

    def issue(self, wanted: Sequence[Wanted], *, now: datetime) -> list[Outgoing]:
        """Sign what meters are to be told and write it down; the bytes may leave once this has returned.

        What is told already and is still good goes out in the same bytes again. A meter of which a command
        expired unanswered is asked how it stands instead, and so is one that was never asked what it understands and is
        to be told something of the second form; of that, nothing goes to one that does not. A relay goes before whatever else is under way, which is
        given up for it; other instructions wait for that (nothing goes out for them). Raises NoSigningKey.
        """
        if not wanted:
            return []
        ordered = sorted(wanted, key=lambda each: each.meter_id)
        assert len({each.meter_id for each in ordered}) == len(ordered), "one for each meter"
        seals = self.seal(now)
        with scope(self._actor):
            ordered = _understood(ordered)
            make = _maker([each.meter_id for each in ordered], seals, now)
            return issue_each(ordered, make, now=now)

    def seal(self, now: datetime) -> Seals:
        """Who signs at this instant, to which meter. Raises NoSigningKey."""
        return Seals.of(self._seal(now))

    @staticmethod
    def issue_to_free(
        wanted: Sequence[tuple[Wanted, Standing]], *, now: datetime, by: Seals
    ) -> list[Outgoing]:
        """`issue` inside the caller's scope, to meters that are told nothing else and whose standings are locked."""
        plan = _Plan()
        for each, standing in wanted:
            plan.add(each, standing, ())
        standings = {each.meter_id: standing for each, standing in wanted}
        make = _maker([each.meter_id for each in plan.new], by, now)
        made = [make(each, standings[each.meter_id]) for each in plan.new]
        _write(made, now)
        return _outgoing(made)

    def not_taken(self, outgoing: Sequence[Outgoing]) -> None:
        """No broker took these: they are issued and not sent, and go out by the next try."""
        self._mark(outgoing, InstructionState.ISSUED)

    def due(self, *, now: datetime, limit: int) -> list[Outgoing]:
        """What no order drives and has waited for its answer long enough, to be sent in the same bytes again."""
        with scope(self._actor):
            rows = fetch(
                """UPDATE instruction i
                   SET state = 2, tries = i.tries + 1,
                       next_try_at = %s + make_interval(secs => 5 * 2 ^ least(i.tries, 6))
                   FROM (SELECT x.id, m.serial FROM instruction x JOIN meter m ON m.id = x.meter_id
                         WHERE x.state IN (1, 2) AND x.next_try_at <= %s AND x.expires_at > %s
                         ORDER BY x.next_try_at LIMIT %s) AS d
                   WHERE i.id = d.id RETURNING i.meter_id, d.serial, i.sequence, i.command""",
                [now, now, now, limit],
            )
        return [Outgoing(meter, serial, at, bytes(command)) for meter, serial, at, command in rows]

    def expire(self, *, now: datetime) -> list[int]:
        """End what is past its time without an answer; returns the meters that must be read before all else."""
        with scope(self._actor):
            found = fetch(
                """SELECT DISTINCT meter_id FROM instruction
                   WHERE state IN (1, 2) AND expires_at <= %s LIMIT 1000""",
                [now],
            )
            if not found:
                return []
            ids = integers(sorted(row[0] for row in found))
            execute(LOCK, [ids], prepare=True)
            ended = fetch(
                """UPDATE instruction SET state = 5, next_try_at = NULL
                   WHERE meter_id = ANY(%s::bigint[]) AND state IN (1, 2) AND expires_at <= %s
                   RETURNING meter_id, operation""",
                [ids, now],
            )
            doubtful = sorted({meter for meter, what in ended if what != Operation.READ})
            execute(
                "UPDATE instruction_state SET must_read = true WHERE meter_id = ANY(%s::bigint[])",
                [integers(doubtful)],
            )
        return doubtful

    def take(self, told: Sequence[Told], *, now: datetime) -> list[Outcome]:
        """Write down what of these answers is believed and counts; returns what became of each, in order.

        What is not believed, foreign or contradicts changes nothing. Committed when it returns.
        """
        if not told:
            return []
        with pipelined(), scope(self._actor):
            outcomes = self.weigh(told, now)
            ring("changed", places_of(outcomes))
        return outcomes

    def weigh(self, told: Sequence[Told], now: datetime) -> list[Outcome]:
        """`take` inside the caller's scope and pipeline; nothing is written yet when it returns."""
        if not told:
            return []
        claims = [_claimed(each) for each in told]
        named = sorted(
            {
                (each.meter_id, number)
                for each, claim in zip(told, claims, strict=True)
                if isinstance(claim, Claim)
                for number in (claim.said.sequence, claim.said.last_sequence)
            }
        )
        # In this order: the standing's lock comes before its rows are read.
        keys = self._keys.ask(sorted({each.meter_id for each in told}), now=now)
        locked = execute(LOCK, [integers(sorted({meter for meter, _ in named}))], prepare=True)
        rows = ask_rows(named)
        with connection.wrap_database_errors:
            self._keys.hear(keys.fetchall())
            taking = Taking(standings_of(locked.fetchall()), issued_rows(rows.fetchall()))
        outcomes = []
        for each, claim in zip(told, claims, strict=True):
            answer = claim if isinstance(claim, Doubt) else self._believed(each, claim)
            outcomes.append(
                Outcome(each, answer) if isinstance(answer, Doubt) else taking.take(each, answer)
            )
        taking.write(now, by=self._actor.code)
        return [self._looked_at(each, now) for each in outcomes]

    def _looked_at(self, outcome: Outcome, now: datetime) -> Outcome:
        """Somebody else may have named a key to a meter that speaks in full."""
        if outcome.worth is not Worth.COUNTS or outcome.answer is None or not outcome.answer.trusts:
            return outcome
        try:
            ours = self.seal(now).ours
        except NoSigningKey:
            return outcome
        return replace(outcome, is_led_astray=not ours.issuperset(outcome.answer.trusted_ids))

    def _believed(self, told: Told, claim: Claim[Answer]) -> Answer | Doubt:
        try:
            answer, _ = believed(
                claim, meter=told.serial, verify=self._keys.verifier(told.meter_id)
            )
        except NotBelieved as refused:
            return refused.doubt
        return answer

    def _mark(self, outgoing: Sequence[Outgoing], state: InstructionState) -> None:
        if not outgoing:
            return
        with scope(self._actor):
            execute(
                """UPDATE instruction i SET state = %s
                   FROM unnest(%s::bigint[], %s::bigint[]) AS o(m, s)
                   WHERE i.meter_id = o.m AND i.sequence = o.s AND i.state IN (1, 2)""",
                [
                    int(state),
                    integers(each.meter_id for each in outgoing),
                    integers(each.sequence for each in outgoing),
                ],
            )


# --- what goes out -----------------------------------------------------------------------------------


def issue_each(
    wanted: Sequence[Wanted], make: Callable[[Wanted, Standing], Made], *, now: datetime
) -> list[Outgoing]:
    """`InstructionBook.issue` inside the caller's scope, in meter order; ``make`` makes a new command of a wish."""
    standings = _lock_standings(wanted)
    live = _live([each.meter_id for each in wanted], now)
    plan = _Plan()
    for each in wanted:
        plan.add(each, standings[each.meter_id], live.get(each.meter_id, []))
    made = [make(each, standings[each.meter_id]) for each in plan.new]
    with pipelined():
        _give_up(plan.given_up)
        _say_again(plan.again, now)
        _write(made, now)
    return [
        *(Outgoing(each.meter_id, each.serial, row.sequence, row.command) for each, row in plan.repeats),
        *_outgoing(made),
    ]  # fmt: skip


@dataclass(slots=True)
class Standing:
    """A row of `instruction_state`, under its lock."""

    property_id: int
    last_sequence: int
    known: Known
    balance_micro: int | None
    refused: int
    must_read: bool


@dataclass(frozen=True, slots=True)
class _Live:
    """A command that is under way and still good."""

    row_id: int
    sequence: int
    operation: Operation
    argument: int
    order_id: int | None
    command: bytes


@dataclass(frozen=True, slots=True)
class Made:
    """A command that was signed just now."""

    wanted: Wanted
    sequence: int
    payload: bytes
    name: bytes
    expires_at: datetime


class _Plan:
    """What becomes of a set of wishes: said again, made new, or waiting; and what is given up for them."""

    def __init__(self) -> None:
        self.new: list[Wanted] = []
        self.repeats: list[tuple[Wanted, _Live]] = []
        self.given_up: list[int] = []

    @property
    def again(self) -> list[int]:
        """The rows that are said again."""
        return [row.row_id for _, row in self.repeats]

    def add(self, wanted: Wanted, standing: Standing, live: Sequence[_Live]) -> None:
        """Decide about one meter."""
        if standing.must_read and wanted.operation is not Operation.READ:
            # Its order is sent again as soon as it has said how it stands.
            wanted = replace(wanted, operation=Operation.READ, argument=0, order_id=None, more=b"")
        same = next((row for row in live if _is_same(row, wanted)), None)
        if same is not None:
            self.repeats.append((wanted, same))
            return
        # What asks what it understands goes beside whatever is under way: it takes nothing's place.
        is_beside = (wanted.operation, wanted.argument) == (Operation.READ, IN_FULL)
        others = [row for row in live if row.operation is not Operation.READ and not is_beside]
        if not all(_goes_before(wanted.operation, row.operation) for row in others):
            return
        self.given_up += [row.row_id for row in others]
        self.new.append(wanted)


def _goes_before(wanted: Operation, other: Operation) -> bool:
    """Whether what is under way is given up for what is wanted: anything for a relay, credit for its end."""
    return wanted is Operation.RELAY or (wanted, other) == (Operation.RELEASE, Operation.CREDIT)


def _is_same(row: _Live, wanted: Wanted) -> bool:
    return (row.operation, row.argument, row.order_id) == (
        wanted.operation,
        wanted.argument,
        wanted.order_id,
    ) and (wanted.operation in FIRST_FORM or _more_of(row.command) == wanted.more)


def _more_of(command: bytes) -> bytes:
    """What a command of ours says besides; nothing is verified, for we have signed it."""
    try:
        return claimed_command(command).said.more
    except NotBelieved:
        return b""


LOCK: Final = "SELECT * FROM lock_standings(%s::bigint[])"


def _locked(meter_ids: Sequence[int]) -> dict[int, Standing]:
    return standings_of(fetch(LOCK, [integers(meter_ids)], prepare=True))


def standings_of(rows: Iterable[tuple[Any, ...]]) -> dict[int, Standing]:
    return {row[0]: standing(*row[1:]) for row in rows}


def standing(
    property_id: int, last_sequence: int, known_sequence: int, known_hash: bytes, credit_micro: int,
    balance_micro: int | None, refused: int, must_read: bool,
) -> Standing:  # fmt: skip
    """A row of `lock_standings` but for its meter."""
    known = Known(known_sequence, known_hash, credit_micro)
    return Standing(property_id, last_sequence, known, balance_micro, refused, must_read)


def _lock_standings(wanted: Sequence[Wanted]) -> dict[int, Standing]:
    """Lock the standing of each meter, and begin that of one which was never instructed."""
    ids = [each.meter_id for each in wanted]
    found = _locked(ids)
    missing = [each for each in wanted if each.meter_id not in found]
    if missing:
        execute(
            """INSERT INTO instruction_state (meter_id, property_id, known_hash)
               SELECT m, p, %b FROM unnest(%s::bigint[], %s::bigint[]) AS n(m, p)
               ON CONFLICT (meter_id) DO NOTHING""",
            [
                NOTHING,
                integers(each.meter_id for each in missing),
                integers(each.property_id for each in missing),
            ],
        )
        found = _locked(ids)
    return found


def _live(meter_ids: Sequence[int], now: datetime) -> dict[int, list[_Live]]:
    found: dict[int, list[_Live]] = {}
    for meter, row_id, sequence, operation, argument, order_id, command in fetch(
        """SELECT meter_id, id, sequence, operation, argument, order_id, command FROM instruction
           WHERE meter_id = ANY(%s::bigint[]) AND state IN (1, 2) AND expires_at > %s
           ORDER BY meter_id, sequence""",
        [integers(meter_ids), now],
    ):
        found.setdefault(meter, []).append(
            _Live(row_id, sequence, Operation(operation), argument, order_id, bytes(command))
        )
    return found


def _understood(wanted: Sequence[Wanted]) -> list[Wanted]:
    """What each meter can be told of it: one that knows the first form alone would take the second for a forgery."""
    asked = [each.meter_id for each in wanted if each.operation not in FIRST_FORM]
    if not asked:
        return [*wanted]
    found = dict(
        fetch(
            "SELECT meter_id, understands FROM instruction_state WHERE meter_id = ANY(%s::bigint[])",
            [integers(asked)],
        )
    )
    told = []
    for each in wanted:
        understands = found.get(each.meter_id, 0)
        if each.operation in FIRST_FORM or understands & 1 << each.operation:
            told.append(each)
        elif not understands:
            told.append(replace(each, operation=Operation.READ, argument=IN_FULL, more=b""))
    return told


def _maker(
    meter_ids: Sequence[int], seals: Seals, now: datetime
) -> Callable[[Wanted, Standing], Made]:
    """What makes commands to these meters, each signed by a key that its meter trusts."""
    signers = seals.signers_of(meter_ids)

    def make(wanted: Wanted, standing: Standing) -> Made:
        by = signers(wanted.meter_id, standing.last_sequence)
        return _made(wanted, standing, now=now, by=by)

    return make


def _made(wanted: Wanted, standing: Standing, *, now: datetime, by: Sealer) -> Made:
    expires_at = min(now + LIFE, wanted.expires_at or now + LIFE)
    command = Command(
        meter=wanted.serial,
        operation=wanted.operation,
        argument=wanted.argument,
        sequence=standing.last_sequence + 1,
        issued_at_us=instant_us(now),
        expires_at_us=instant_us(expires_at),
        nonce=secrets.token_bytes(NONCE_BYTES),
        previous=standing.known.answered,
        more=wanted.more,
    )
    payload, name = sealed_command(command, by=by)
    return Made(wanted, command.sequence, payload, name, expires_at)


def _outgoing(made: Sequence[Made]) -> list[Outgoing]:
    return [
        Outgoing(each.wanted.meter_id, each.wanted.serial, each.sequence, each.payload)
        for each in made
    ]


def _give_up(row_ids: Sequence[int]) -> None:
    if row_ids:
        execute(
            "UPDATE instruction SET state = 6, next_try_at = NULL WHERE id = ANY(%s::bigint[])",
            [integers(row_ids)],
        )


def _say_again(row_ids: Sequence[int], now: datetime) -> None:
    if row_ids:
        execute(
            """UPDATE instruction SET state = 2, tries = tries + 1,
                   next_try_at = CASE WHEN next_try_at IS NOT NULL THEN %s + interval '10 s' END
               WHERE id = ANY(%s::bigint[])""",
            [now, integers(row_ids)],
        )


def _write(made: Sequence[Made], now: datetime) -> None:
    if not made:
        return
    rows = [
        (
            each.wanted.property_id, each.wanted.meter_id, each.sequence, int(each.wanted.operation),
            each.wanted.argument, each.wanted.order_id, each.expires_at, each.payload, each.name,
            # An order has its own retries.
            None if each.wanted.order_id is not None else now + _FIRST_RETRY,
        )
        for each in made
    ]  # fmt: skip
    columns = [list(column) for column in zip(*rows, strict=True)]
    execute(
        """SELECT write_instructions(%s, %s::bigint[], %s::bigint[], %s::bigint[], %s::smallint[],
               %s::bigint[], %s::bigint[], %s::timestamptz[], %b::bytea[], %b::bytea[],
               %s::timestamptz[])""",
        [
            now, *(integers(each) for each in columns[:6]), moments(columns[6]), *columns[7:9],
            moments(columns[9]),
        ],
        prepare=True,
    )  # fmt: skip


# --- what comes back ---------------------------------------------------------------------------------


def _claimed(told: Told) -> Claim[Answer] | Doubt:
    try:
        return claimed_answer(told.payload)
    except NotBelieved as refused:
        return refused.doubt


def places_of(outcomes: Iterable[Outcome]) -> set[int]:
    """The properties where anything was written down of these."""
    return {each.told.property_id for each in outcomes if each.worth is Worth.COUNTS}


@dataclass(slots=True)
class IssuedRow:
    """A row of `instruction` that an answer may end."""

    row_id: int
    issued: Issued
    order_id: int | None


class Taking:
    """Answers being weighed, one after the other, under the locks of their meters."""

    def __init__(
        self, standings: dict[int, Standing], rows: dict[tuple[int, int], IssuedRow]
    ) -> None:
        self._standings, self._rows = standings, rows
        self._ended: list[tuple[int, InstructionState, Result, Answer, Told]] = []
        # Meters that hold no credit any more: by which number, with what balance and register.
        self._released: list[tuple[int, int, int | None, int]] = []
        self._said: dict[int, tuple[Answer, Told, bool]] = {}
        # Meters that have said in full how they stand, or could not.
        self._full: dict[int, Answer] = {}

    def take(self, told: Told, answer: Answer) -> Outcome:
        """Weigh one answer."""
        standing = self._standings.get(told.meter_id)
        row = self._rows.get((told.meter_id, answer.sequence))
        if standing is None or row is None:
            return Outcome(told, None, Worth.FOREIGN, answer)
        worth = worth_of(answer, row.issued, standing.known)
        operation, order_id = row.issued.operation, row.order_id
        if worth is not Worth.COUNTS:
            return Outcome(told, None, worth, answer, operation, order_id)
        is_ok = answer.result is Result.OK
        self._end(
            told.meter_id,
            row,
            InstructionState.ANSWERED if is_ok else InstructionState.REFUSED,
            answer.result,
            answer,
            told,
        )
        proved = self._prove_last(told, answer)
        forged = max(0, answer.refused - standing.refused)
        is_late = answer.last_sequence < standing.known.sequence
        if not is_late:
            standing.known = after_answer(standing.known, answer)
            standing.last_sequence = max(standing.last_sequence, answer.last_sequence)
            standing.refused = max(standing.refused, answer.refused)
            # To its release it says what it ended with; it has none from then on.
            has_ended = is_ok and operation is Operation.RELEASE
            stands = replace(answer, balance_micro=None) if has_ended else answer
            if answer.understands or is_asked_in_full(row.issued, answer):
                self._full[told.meter_id] = answer
            was_read = operation is Operation.READ or not is_ok
            former = self._said.get(told.meter_id)
            self._said[told.meter_id] = (
                stands,
                told,
                was_read or (former is not None and former[2]),
            )
        return Outcome(
            told, None, worth, answer, operation, order_id if proved is None else proved, forged
        )

    def _prove_last(self, told: Told, answer: Answer) -> int | None:
        """What a meter says to have carried out last is answered by that, if its own answer never came."""
        row = self._rows.get((told.meter_id, answer.last_sequence))
        if row is None or row.issued.is_final or row.issued.command_hash != answer.last_hash:
            return None
        self._end(told.meter_id, row, InstructionState.ANSWERED, Result.OK, answer, told)
        return row.order_id

    def _end(
        self, meter_id: int, row: IssuedRow, state: InstructionState, result: Result, answer: Answer, told: Told
    ) -> None:  # fmt: skip
        row.issued = replace(row.issued, is_final=True)
        self._ended.append((row.row_id, state, result, answer, told))
        if row.issued.operation is Operation.RELEASE and result is Result.OK:
            self._released.append(
                (meter_id, row.issued.sequence, answer.balance_micro, answer.register_wh)
            )

    def write(self, now: datetime, *, by: str) -> None:
        """Write what counted, as ``by``: each command's end, and how each meter stands now."""
        if not self._ended:
            return
        said = sorted(self._said.items())
        standings = [self._standings[meter] for meter, _ in said]
        execute(
            """SELECT end_instructions(%s, %s::bigint[], %s::smallint[], %s::smallint[], %b::bytea[],
                   %s::bigint[], %s::bigint[], %s::bigint[], %b::bytea[], %s::bigint[], %s::bigint[],
                   %s::bigint[], %s::timestamptz[], %s::boolean[])""",
            [
                now,
                integers(each[0] for each in self._ended),
                integers(int(each[1]) for each in self._ended),
                integers(int(each[2]) for each in self._ended),
                [each[4].payload for each in self._ended],
                integers(meter for meter, _ in said),
                integers(each.last_sequence for each in standings),
                integers(each.known.sequence for each in standings),
                [each.known.answered for each in standings],
                integers(each.known.credit_micro for each in standings),
                integers(answer.balance_micro for _, (answer, _, _) in said),
                integers(each.refused for each in standings),
                # A meter's clock may stand in a year that no date has.
                moments(utc_datetime(min(answer.at_us, _LAST_US)) for _, (answer, _, _) in said),
                booleans(was_read for _, (_, _, was_read) in said),
            ],
            prepare=True,
        )
        if self._released:
            meters, numbers, balances, registers = zip(*self._released, strict=True)
            execute(
                "SELECT end_wallets(%s, %s, %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])",
                [now, by, *(integers(each) for each in (meters, numbers, balances, registers))],
            )
        if self._full:
            _write_in_full(self._full)


def is_asked_in_full(issued: Issued, answer: Answer) -> bool:
    """Whether a meter of the first form has shown by this answer that it is one."""
    is_ok = issued.operation is Operation.READ and answer.result is Result.OK
    return is_ok and issued.argument == IN_FULL and not answer.understands


def _write_in_full(full: Mapping[int, Answer]) -> None:
    """How these meters stand in full: what was wished of them and is so is no wish any more."""
    said = sorted(full.items())
    columns = list(
        zip(
            *[
                (
                    meter,
                    answer.understands or _FIRST_FORM_BITS,
                    answer.trusts.hex() if answer.understands else None,
                    answer.limit_w if answer.understands else None,
                    answer.limit_s if answer.understands else None,
                )
                for meter, answer in said
            ],
            strict=True,
        )
    )
    execute(
        """UPDATE instruction_state s
           SET understands = n.u, trusts = coalesce(decode(n.x, 'hex'), s.trusts),
               limit_w = coalesce(n.w, s.limit_w), limit_s = coalesce(n.d, s.limit_s),
               next_key = CASE WHEN s.next_key IS DISTINCT FROM decode(n.x, 'hex') THEN s.next_key END,
               next_limit_w = CASE WHEN (s.next_limit_w, s.next_limit_s) IS DISTINCT FROM (n.w, n.d)
                                   THEN s.next_limit_w END
           FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[]) AS n(m, u, x, w, d)
           WHERE s.meter_id = n.m""",
        [integers(columns[0]), integers(columns[1]), list(columns[2]), *map(integers, columns[3:])],
    )


def ask_rows(numbers: Sequence[tuple[int, int]]) -> psycopg.Cursor[Any]:
    return execute(
        "SELECT * FROM instructions_named(%s::bigint[], %s::bigint[])",
        [integers(meter for meter, _ in numbers), integers(number for _, number in numbers)],
        prepare=True,
    )


def issued_rows(found: Iterable[tuple[Any, ...]]) -> dict[tuple[int, int], IssuedRow]:
    final = (InstructionState.ANSWERED, InstructionState.REFUSED)
    return {
        (meter, sequence): IssuedRow(
            row_id,
            Issued(bytes(name), Operation(operation), argument, sequence, state in final),
            order_id,
        )
        for meter, sequence, row_id, name, operation, argument, state, order_id in found
    }
