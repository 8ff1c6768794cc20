"""Hostile messages to meters and in the name of meters: none is accepted, and each is seen.

Two meters that verify and the real instruction book on a real database exchange instructions first, all of which an
attacker has heard, held back some of, and now uses: bits flipped, cut short, lengthened, spliced, replayed, sent to the
other meter or the other way, out of order, too late, signed by another key, or by the right one for other bytes. Halfway
the instruction key is rotated, to its end for one meter and up to its last step for the other, and the attacker has stolen the
former key: the one believes nothing that it signs, the other nothing of keys.
After each the meter and the database are what they were, and somebody has counted it. What is signed is not
broken by the broker or the line, so there is none here; `prewatt drill duplicate` has one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Final

from django.db import connection

from prewatt.access.scope import system_actor
from prewatt.core import cose, instructions
from prewatt.core.civil_time import instant_us
from prewatt.core.instructions import IN_FULL, KeyStep, Operation, Worth
from prewatt.core.vocabulary import RelayState
from prewatt.hes.drivers.mqtt_senml.topics import Uplink
from prewatt.instructions.operations import (
    InstructionBook,
    Outgoing,
    SignerSeal,
    Told,
    Wanted,
    enrol_key,
)
from prewatt.instructions.seals import Seals
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.signing.keys import KeyRole, PublicKey, SoftwareSigner
from prewatt.sim.loads import load_profile
from prewatt.sim.meter import MeterConfig, MeterSeal, SimulatedMeter

_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SERIALS: Final = ("PW-1", "PW-2")
_EXCHANGES: Final = 12
_AT_ONCE: Final = 200
_THIEF: Final = ES256PrivateKey.from_scalar(bytes([9] * 32))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One hostile message: what was done to what, to which meter or in whose name, and when."""

    kind: str
    to_meter: bool
    serial: str
    payload: bytes
    at: datetime


@dataclass(slots=True)
class Swept:
    """How many were tried, by kind; and each that changed something or that nobody saw."""

    tried: Counter[str]
    accepted: list[Attempt]
    unseen: list[Attempt]


class Field:
    """The two meters, the book, and all that an attacker has heard. Wants an empty database."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        key = ES256PrivateKey.from_scalar(bytes([1] * 32))
        public = PublicKey(KeyRole.INSTRUCTION, key.point, now - timedelta(days=1))
        following = ES256PrivateKey.from_scalar(bytes([2] * 32))
        next_public = PublicKey(KeyRole.INSTRUCTION, following.point, now)
        self.stolen = SignerSeal(SoftwareSigner(public, key))
        self.ours = SignerSeal(SoftwareSigner(next_public, following))
        self._seals = Seals([self.stolen])
        self._rotated = Seals([self.stolen, self.ours], points={self.ours.key_id: following.point})
        self.thief = MeterSeal(_THIEF)
        self.place, self.ids = _estate()
        self.meters: dict[str, SimulatedMeter] = {}
        self.book = InstructionBook(system_actor("head_end"), seal=lambda _: self._seals)
        for number, serial in enumerate(_SERIALS, start=20):
            own = ES256PrivateKey.from_scalar(bytes([number] * 32))
            enrol_key(
                actor=system_actor("drill", (self.place,)), property_id=self.place,
                meter_id=self.ids[serial], public_key=own.spki, now=now - timedelta(days=1),
            )  # fmt: skip
            self.meters[serial] = SimulatedMeter(
                MeterConfig(
                    serial=serial,
                    profile=load_profile("H0-A", utc_offset_s=0),
                    scale_ppm=1,
                    start_register_wh=0,
                    start_at_us=instant_us(now),
                    report_period_us=3_600_000_000,
                    private_key=own,
                    trusts={self.stolen.key_id: key.point},
                    holds_credit=True,
                )
            )
        #: What went both ways and was carried out; and what was held back until it had expired.
        self.commands: dict[str, list[bytes]] = {serial: [] for serial in _SERIALS}
        self.answers: dict[str, list[bytes]] = {serial: [] for serial in _SERIALS}
        self.held: dict[str, list[bytes]] = {serial: [] for serial in _SERIALS}
        #: A command that is good and on its way, and what its meter would answer: nothing like them may pass.
        self.live: dict[str, tuple[bytes, bytes]] = {}

    def exchange(self) -> None:
        """Instruct both meters, honestly, a dozen times, and lead them to the next key; then keep back one command of each."""
        for turn in range(_EXCHANGES):
            for serial in _SERIALS:
                self._both_ways(serial, *_usual(turn))
            if turn == _EXCHANGES // 2:
                self._rotate()
        for serial, held in zip(_SERIALS, (_usual(_EXCHANGES), (Operation.CLOCK, 40)), strict=True):
            self.held[serial].append(self._issue(serial, *held).payload)
        self.now += timedelta(minutes=20)
        self.book.expire(now=self.now)
        for serial in _SERIALS:
            read = self._issue(serial, *_usual(_EXCHANGES))
            self._take(serial, self._hear(serial, read.payload))
            sent = self._issue(serial, *_usual(_EXCHANGES + 1))
            twin = deepcopy(self.meters[serial])
            said = twin.receive_instruction(sent.payload, instant_us(self.now))
            answer = next(each for channel, each in said if channel is Uplink.SEALED)
            self.live[serial] = (sent.payload, answer)

    def _rotate(self) -> None:
        """Both come to trust the next key; one drops the former, which the attacker has."""
        self._seals = self._rotated
        (point,) = self._rotated.points.values()
        for serial in _SERIALS:
            self._both_ways(serial, Operation.READ, IN_FULL)
            self._both_ways(serial, Operation.TRUST, KeyStep.ADD, point)
        self._both_ways(_SERIALS[0], Operation.TRUST, KeyStep.DROP_FORMER)

    def _both_ways(self, serial: str, what: Operation, argument: int, more: bytes = b"") -> None:
        sent = self._issue(serial, what, argument, more)
        answer = self._hear(serial, sent.payload)
        self._take(serial, answer)
        self.commands[serial].append(sent.payload)
        self.answers[serial].append(answer)

    def _issue(self, serial: str, what: Operation, argument: int, more: bytes = b"") -> Outgoing:
        self.now += timedelta(seconds=1)
        wanted = Wanted(self.ids[serial], self.place, serial, what, int(argument), more=more)
        (sent,) = self.book.issue([wanted], now=self.now)
        return sent

    def _hear(self, serial: str, payload: bytes) -> bytes:
        said = self.meters[serial].receive_instruction(payload, instant_us(self.now))
        return next(each for channel, each in said if channel is Uplink.SEALED)

    def _take(self, serial: str, answer: bytes) -> None:
        told = Told(self.ids[serial], self.place, serial, answer, self.now)
        (outcome,) = self.book.take([told], now=self.now)
        assert outcome.worth is Worth.COUNTS, "an honest answer counts"

    # --- what an attacker tries ---

    def attempts(self, random: Random, count: int) -> list[Attempt]:
        """So many of every kind, to meters and in their names."""
        return [self._attempt(random) for _ in range(count)]

    def _attempt(self, random: Random) -> Attempt:
        to_meter, serial = random.random() < 0.5, random.choice(_SERIALS)
        other = _SERIALS[1 - _SERIALS.index(serial)]
        own = self.commands if to_meter else self.answers
        reverse = self.answers if to_meter else self.commands
        genuine = random.choice(own[serial])
        good = random.choice([genuine, self.live[serial][0 if to_meter else 1]])
        aad = instructions.command_address if to_meter else instructions.answer_address
        makers: dict[str, Callable[[], bytes]] = {
            "bit flip": lambda: _flipped(random, good),
            "cut short": lambda: good[: random.randrange(len(good))],
            "lengthened": lambda: good + random.randbytes(random.randrange(1, 40)),
            "noise": lambda: random.randbytes(random.randrange(0, 600)),
            "spliced": lambda: _spliced(good, random.choice(own[serial] + own[other])),
            "replay": lambda: genuine,
            "turned signature": lambda: _turned(genuine),
            "other meter's": lambda: random.choice(
                [*own[other], self.live[other][0 if to_meter else 1]]
            ),
            "reflected": lambda: random.choice(reverse[serial]),
            "wrong key": lambda: _resigned(good, aad(serial), self.thief),
            "wrong key, right name": lambda: _renamed(
                _resigned(good, aad(serial), self.thief), good
            ),
            "wrong address": lambda: _resigned(good, aad(other), self.thief),
            "changed figures": lambda: _changed(random, good, aad(serial), self.thief),
        }
        if to_meter:
            makers["stolen former key"] = lambda: self._by_the_stolen(random, serial)
            makers["expired"] = lambda: random.choice(self.held[serial])
            makers["out of order"] = lambda: random.choice(own[serial][: _EXCHANGES // 2])
        kind = random.choice(sorted(makers))
        payload = makers[kind]()
        return Attempt(kind, to_meter, serial, payload, self.now)

    def _by_the_stolen(self, random: Random, serial: str) -> bytes:
        """The meter's next command by the former key: of keys, and where that was dropped of anything."""
        live = instructions.claimed_command(self.live[serial][0]).said
        forms = [
            replace(live, operation=Operation.TRUST, argument=KeyStep.ADD, more=_THIEF.point),
            replace(live, operation=Operation.TRUST, argument=KeyStep.DROP_FORMER, more=b""),
        ]
        if serial == _SERIALS[0]:
            forms += [
                live,
                replace(live, operation=Operation.CLOCK, argument=random.randrange(1, 9), more=b""),
                replace(live, operation=Operation.LIMIT, argument=9, more=bytes([0, 0, 0, 9])),
            ]
        return instructions.sealed_command(random.choice(forms), by=self.stolen)[0]

    # --- what became of it ---

    def sweep(self, attempts: Sequence[Attempt]) -> Swept:
        """Try each; meters one by one, the database in batches, by what is stored before and after."""
        swept = Swept(Counter(each.kind for each in attempts), [], [])
        for each in attempts:
            if each.to_meter:
                self._at_meter(each, swept)
        answers = [each for each in attempts if not each.to_meter]
        for at in range(0, len(answers), _AT_ONCE):
            self._at_platform(answers[at : at + _AT_ONCE], swept)
        return swept

    def _at_meter(self, attempt: Attempt, swept: Swept) -> None:
        meter = self.meters[attempt.serial]
        before, relay = meter.instructed, meter.relay
        balance = meter.balance_micro(instant_us(attempt.at))
        clock_us = meter.clock_us(instant_us(attempt.at))
        said = meter.receive_instruction(attempt.payload, instant_us(attempt.at))
        after = meter.instructed
        counted = replace(after, refused=before.refused, repeated=before.repeated)
        stands = (
            counted,
            meter.relay,
            meter.balance_micro(instant_us(attempt.at)),
            meter.clock_us(instant_us(attempt.at)),
        )
        is_same = stands == (before, relay, balance, clock_us)
        if not is_same:
            swept.accepted.append(attempt)
        # Counted by the meter, or answered by a signed no.
        is_seen = after != before or any(channel is Uplink.SEALED for channel, _ in said)
        if not is_seen:
            swept.unseen.append(attempt)

    def _at_platform(self, attempts: Sequence[Attempt], swept: Swept) -> None:
        before = _stored()
        outcomes = self.book.take(
            [
                Told(self.ids[each.serial], self.place, each.serial, each.payload, each.at)
                for each in attempts
            ],
            now=self.now,
        )
        if _stored() != before:
            swept.accepted += [
                attempt
                for attempt, outcome in zip(attempts, outcomes, strict=True)
                if outcome.worth is Worth.COUNTS
            ] or list(attempts)
        swept.unseen += [
            attempt
            for attempt, outcome in zip(attempts, outcomes, strict=True)
            if outcome.doubt is None and outcome.worth is Worth.COUNTS
        ]


def _usual(turn: int) -> tuple[Operation, int]:
    """Credit and relay by turns."""
    if turn % 2:
        return Operation.CREDIT, (turn + 1) * 1_000_000
    return Operation.RELAY, int(RelayState.OPEN if turn % 4 else RelayState.CLOSED)


def _estate() -> tuple[int, dict[str, int]]:
    from prewatt.estate import models

    organisation = models.Organisation.objects.create(name="Drill")
    entity = models.LegalEntity.objects.create(organisation=organisation, name="Drill")
    place = models.Property.objects.create(
        organisation=organisation, legal_entity=entity, code="D", name="Drill", currency="EUR",
        time_zone="Europe/Berlin",
    )  # fmt: skip
    return place.pk, {
        serial: models.Meter.objects.create(property=place, serial=serial).pk for serial in _SERIALS
    }


def _stored() -> str:
    """Everything that the database keeps of instructions, as one digest."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT coalesce(string_agg(t::text, ';' ORDER BY t::text), '') FROM (
                   SELECT i::text FROM instruction i
                   UNION ALL SELECT s::text FROM instruction_state s
                   UNION ALL SELECT k::text FROM meter_key k) AS all_rows(t)"""
        )
        row = cursor.fetchone()
    assert row is not None
    return hashlib.sha256(str(row[0]).encode()).hexdigest()


def _flipped(random: Random, message: bytes) -> bytes:
    flipped = bytearray(message)
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        at = random.randrange(len(flipped) * 8)
        flipped[at // 8] ^= 1 << at % 8
    # Two flips of one bit are none.
    return bytes(flipped) if bytes(flipped) != message else _flipped(random, message)


def _spliced(one: bytes, other: bytes) -> bytes:
    """The content of one under the signature of another; of the same, under a signature of zeros."""
    return one[:-64] + (other[-64:] if other != one else bytes(64))


def _turned(message: bytes) -> bytes:
    """The second valid signature that anybody can make of one."""
    s = int.from_bytes(message[-32:], "big")
    return message[:-32] + (_ORDER - s).to_bytes(32, "big")


def _resigned(message: bytes, address: bytes, by: cose.Sealer) -> bytes:
    return cose.sealed(cose.opened(message).payload, external_aad=address, by=by)[0]


def _renamed(message: bytes, genuine: bytes) -> bytes:
    """A message under the key id of another."""
    begin = 8
    return message[:begin] + genuine[begin : begin + 16] + message[begin + 16 :]


def _changed(random: Random, message: bytes, address: bytes, by: cose.Sealer) -> bytes:
    """Other content, signed by the thief and said to be ours."""
    payload = bytearray(cose.opened(message).payload)
    payload[random.randrange(len(payload))] ^= 1 << random.randrange(8)
    return _renamed(cose.sealed(bytes(payload), external_aad=address, by=by)[0], message)
