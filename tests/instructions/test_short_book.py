"""The book of the short form beside real devices: an adversary between them, lost answers, sessions that end."""

from __future__ import annotations

import argparse
import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet
from django.db import connection

from cases import cases
from conftest import role_dsn
from prewatt import instruct_command
from prewatt.access.scope import system_actor
from prewatt.core.civil_time import instant_us
from prewatt.core.drivers import Driver
from prewatt.core.instructions import Doubt, NotBelieved, Operation, Result, Worth
from prewatt.core.short_instructions import BYTES_MAX, FORGERIES_MAX
from prewatt.core.vocabulary import InstructionState
from prewatt.core.vocabulary import RelayState as Relay
from prewatt.hes.frames import AckToken, SealedFrame
from prewatt.hes.instructions import SESSION, Forgery, InstructionDesk, Sealed
from prewatt.hes.links import Device as Link
from prewatt.instructions.operations import (
    InstructionBook,
    Outcome,
    Outgoing,
    SignerSeal,
    Told,
    Wanted,
    enrol_key,
)
from prewatt.instructions.queries import told_and_answered
from prewatt.instructions.rotation import offered_sessions
from prewatt.instructions.sessions import SessionRefused, begin_session, end_session, seal_again
from prewatt.instructions.short_book import ShortBook
from prewatt.instructions.wallets import WalletRefused, hold_credit
from prewatt.signing.es256 import BadKey, ES256PrivateKey
from prewatt.signing.keyring import SEALS_VARIABLE, STORE_VARIABLE, NoSigningKey
from prewatt.signing.keys import KeyRole, PublicKey, SoftwareSigner
from prewatt.signing.sessions import SessionSeals
from prewatt.signing.store import KeyStore
from prewatt.sim.short_device import ShortDevice

NOW = datetime(2026, 11, 28, 5, 0, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
KEY = ES256PrivateKey.from_scalar(bytes([1] * 32))
OURS = SignerSeal(SoftwareSigner(PublicKey(KeyRole.INSTRUCTION, KEY.point, NOW - MINUTE), KEY))
SEAL = Fernet.generate_key().decode()
SERIALS = ("24E124148B234501", "24e124148b234502")


@dataclass
class Device:
    """A device with its contacts, and the numbers of what it carried out."""

    short: ShortDevice
    relay: Relay = Relay.CLOSED
    moved: list[Relay] = field(default_factory=list)

    def hear(self, message: bytes, at: datetime) -> bytes:
        return self.short.receive(message, now_us=instant_us(at), switch=self._switch)

    def _switch(self, state: Relay | None) -> Relay:
        if state is not None:
            self.relay = state
            self.moved.append(state)
        return self.relay


class Village:
    """Two devices behind a network server, each with a session, and the books."""

    def __init__(self) -> None:
        from prewatt.estate import models

        organisation = models.Organisation.objects.create(name="O")
        entity = models.LegalEntity.objects.create(organisation=organisation, name="E")
        self.place = models.Property.objects.create(
            organisation=organisation, legal_entity=entity, code="P", name="P", currency="EUR",
            time_zone="Europe/Berlin",
        ).pk  # fmt: skip
        self.actor = system_actor("test", (self.place,))
        self.book = InstructionBook(system_actor("head_end"), seal=lambda _: OURS)
        self.short = ShortBook(system_actor("head_end"), seals=lambda: SessionSeals([SEAL]))
        self.keys = [ES256PrivateKey.from_scalar(bytes([20 + each] * 32)) for each in (0, 1)]
        self.ids = [
            models.Meter.objects.create(property_id=self.place, serial=each, driver="lorawan").pk
            for each in SERIALS
        ]
        self.devices = [
            Device(ShortDevice(serial.lower(), key, [KEY.point]))
            for serial, key in zip(SERIALS, self.keys, strict=True)
        ]
        for which in (0, 1):
            self.devices[which].short.take_offer(self.begin(which, self.keys[which].point))

    def begin(self, which: int, point: bytes | None = None, at: datetime = NOW) -> bytes:
        return begin_session(
            actor=self.actor, property_id=self.place, meter_id=self.ids[which], meter_point=point,
            by=OURS, seals=SessionSeals([SEAL]), now=at,
        )  # fmt: skip

    def issue(
        self, what: Relay | int | None, order: int | None = None, at: datetime = NOW, which: int = 0
    ) -> list[Outgoing]:
        operation = (
            Operation.READ if what is None
            else Operation.RELAY if isinstance(what, Relay) else Operation.CREDIT
        )  # fmt: skip
        wanted = Wanted(
            self.ids[which], self.place, SERIALS[which], operation, int(what or 0), order
        )
        return self.short.issue([wanted], now=at)

    def take(self, payload: bytes, at: datetime = NOW, which: int = 0) -> Outcome:
        told = Told(self.ids[which], self.place, SERIALS[which], payload, at)
        (outcome,) = self.short.take([told], now=at)
        return outcome

    def confirm(self, which: int, at: datetime = NOW) -> None:
        """A new session is read before it is told anything."""
        (read,) = self.issue(Relay.OPEN, order=99, at=at, which=which)
        outcome = self.take(self.devices[which].hear(read.payload, at), at, which)
        assert outcome.operation is Operation.READ and outcome.worth is Worth.COUNTS


class Line:
    """The sessions of a head-end as its desk sees them, with one to LoRaWAN alone."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    def carries_instructions(self, _serial: str) -> bool:
        return False

    def carries_short(self, _serial: str) -> bool:
        return True

    def send_instruction(self, serial: str, payload: bytes) -> bool:
        self.sent.append((serial, payload))
        return True


def rows(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()


def states(meter_id: int) -> list[InstructionState]:
    found = rows("SELECT state FROM instruction WHERE meter_id = %s ORDER BY sequence", meter_id)
    return [InstructionState(row[0]) for row in found]


@pytest.fixture
def village(database: str) -> Village:
    return Village()


def test_a_lost_answer_costs_a_read_and_a_repeat_the_same_bytes(
    village: Village, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = village.devices[0]
    line, alerts = Line(), list[Forgery]()
    desk = InstructionDesk(
        book=village.book, carrier=line, short=village.short,
        raise_alert=lambda _device, forgery, _now: alerts.append(forgery),
    )  # fmt: skip
    assert desk.signing(dict(zip(village.ids, SERIALS, strict=True))) == set(village.ids)
    for at in (NOW, NOW + SECOND):
        desk.turn(at)
    assert [serial for serial, _ in line.sent] == list(SERIALS), "what is new is read, once"
    known = {
        serial: Link(meter, village.place)
        for serial, meter in zip(SERIALS, village.ids, strict=True)
    }

    def store(payload: bytes, which: int = 0) -> Sealed:
        token = AckToken(0, 0, Driver.LORAWAN)
        return desk.store(
            [SealedFrame(SERIALS[which], instant_us(NOW), token, payload)], known, NOW
        )

    answers = [village.devices[which].hear(line.sent[which][1], NOW) for which in (0, 1)]
    assert store(answers[1], 0).samples[0].reason == "forged_forged"
    assert [each.what for each in alerts] == ["answer"]
    assert store(answers[0]).woken == {village.ids[0]} and not store(answers[1], 1).samples
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE instruction_session SET forged = %s WHERE meter_id = %s",
            [FORGERIES_MAX - 1, village.ids[1]],
        )
    store(b"x", 1)
    assert [each.what for each in alerts] == ["answer", "answer", SESSION]
    (sent,) = village.issue(Relay.OPEN, order=1)
    answer = device.hear(sent.payload, NOW)
    assert len(sent.payload) <= BYTES_MAX and len(answer) <= BYTES_MAX
    (again,) = village.issue(Relay.OPEN, order=1, at=NOW + SECOND)
    assert again == sent and device.hear(again.payload, NOW + SECOND) == answer
    assert device.moved == [Relay.OPEN]
    # The answers are lost, and the meter has heard nothing of the next command, either.
    later = NOW + 61 * MINUTE
    assert village.book.expire(now=later) == [village.ids[0]]
    (read,) = village.issue(Relay.OPEN, order=1, at=later)
    outcome = village.take(device.hear(read.payload, later), later)
    assert (outcome.operation, outcome.order_id) == (Operation.READ, 1)
    assert outcome.answer is not None and outcome.answer.relay is Relay.OPEN
    done = InstructionState.ANSWERED
    assert states(village.ids[0]) == [done] * 3, "its standing proves what was done"
    assert village.take(answer, later).worth is Worth.REPEATED
    monkeypatch.setenv(SEALS_VARIABLE, SEAL)
    said = [each.answer for each in told_and_answered(village.ids[0], SERIALS[0], last=9)]
    assert said == [
        "by the keys of session 1",
        "proved by a later answer, by the keys of session 1",
        "by the keys of session 1",
    ]
    monkeypatch.delenv(SEALS_VARIABLE)
    assert "not here" in told_and_answered(village.ids[0], SERIALS[0], last=1)[0].answer
    # Expired by the meter's clock: it changes nothing there, and the order goes on.
    (late,) = village.issue(Relay.CLOSED, order=2, at=later)
    refused = village.take(device.hear(late.payload, later + 2 * 61 * MINUTE), later)
    assert refused.answer is not None and refused.answer.result is Result.EXPIRED
    assert device.relay is Relay.OPEN
    assert states(village.ids[0])[-1] is InstructionState.REFUSED


def test_a_new_session_takes_the_place_of_the_old_and_too_many_forgeries_end_it(
    village: Village, database: str
) -> None:
    device, meter = village.devices[0], village.ids[0]
    unread = village.short.unread(now=NOW)
    assert [each.meter_id for each in unread] == village.ids, "new sessions are read at once"
    village.confirm(0)
    assert [each.meter_id for each in village.short.unread(now=NOW)] == village.ids[1:]
    (sent,) = village.issue(Relay.OPEN, order=1)
    answer = device.hear(sent.payload, NOW)
    offer = village.begin(0, at=NOW + MINUTE)
    assert states(meter)[-1] is InstructionState.SUPERSEDED
    assert village.take(answer).doubt is Doubt.FORGED, "by keys that are not believed any more"
    assert village.issue(Relay.CLOSED, order=2, at=NOW + MINUTE) != []
    device.short.take_offer(offer)
    with pytest.raises(ValueError, match="comes after"):
        device.short.take_offer(offer)
    with pytest.raises(NotBelieved):
        village.devices[1].short.take_offer(offer)
    assert device.hear(sent.payload, NOW) == b"", "what the old keys sealed is nobody's"
    village.confirm(0, NOW + MINUTE)
    assert rows("SELECT number, ended_why, forged FROM instruction_session WHERE meter_id = %s ORDER BY 1", meter) == [
        (1, "replaced", 0), (2, "", 1),
    ]  # fmt: skip
    (sent,) = village.issue(Relay.CLOSED, order=2, at=NOW + MINUTE)
    # One more than it may refuse: it ends, is written down, and nothing is told or believed from there on.
    rows_before = rows("SELECT count(*) FROM audit_event WHERE code = 'instructions.session.ended'")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE instruction_session SET forged = %s", [FORGERIES_MAX - 1])
    outcome = village.take(answer, NOW + MINUTE)
    assert (outcome.doubt, outcome.has_ended) == (Doubt.FORGED, True)
    assert (
        rows("SELECT count(*) FROM audit_event WHERE code = 'instructions.session.ended'")
        != rows_before
    )
    good = device.hear(sent.payload, NOW + MINUTE)
    assert village.take(good, NOW + MINUTE).doubt is Doubt.UNKNOWN_KEY
    assert village.issue(Relay.CLOSED, order=3, at=NOW + MINUTE) == []
    assert village.short.signing([*village.ids, 99]) == set(village.ids), "nor anything unsealed"
    refusals: list[tuple[str, Callable[[], object]]] = [
        ("none", lambda: end_session(actor=village.actor, property_id=village.place, meter_id=meter, now=NOW)),
        ("signs", lambda: village.begin(1, signing.point)),
    ]  # fmt: skip
    signing = ES256PrivateKey.from_scalar(bytes([91] * 32))
    enrolled = {"actor": village.actor, "property_id": village.place, "meter_id": meter, "now": NOW}
    with pytest.raises(BadKey, match="agrees on sessions"):
        enrol_key(**enrolled, public_key=village.keys[0].spki)
    enrol_key(**enrolled, public_key=signing.spki)
    for reason, refusal in refusals:
        with pytest.raises(SessionRefused) as refused:
            refusal()
        assert refused.value.reason == reason
    with pytest.raises(WalletRefused) as no_wallet:
        hold_credit(
            actor=village.actor, property_id=village.place, meter_id=meter, account_id=1, now=NOW
        )
    assert no_wallet.value.reason == "short_form"
    new = Fernet.generate_key().decode()
    assert seal_again(SessionSeals([new, SEAL])) == 3
    for seals, is_open in (([SEAL], False), ([new], True)):
        again = ShortBook(system_actor("head_end"), seals=lambda seals=seals: SessionSeals(seals))
        with contextlib.nullcontext() if is_open else pytest.raises(NoSigningKey):
            again.issue(
                [Wanted(village.ids[1], village.place, SERIALS[1], Operation.READ)], now=NOW
            )
    no_keys = ShortBook(
        system_actor("head_end"), seals=lambda: SessionSeals([Fernet.generate_key().decode()])
    )
    with pytest.raises(NoSigningKey):
        no_keys.take([Told(village.ids[1], village.place, SERIALS[1], b"x", NOW)], now=NOW)
    with psycopg.connect(role_dsn(database, "head_end"), autocommit=True) as login:
        for statement in (
            "UPDATE instruction_session SET ended_at = NULL, ended_why = '' WHERE ended_at IS NOT NULL",
            "UPDATE instruction_session SET forged = 0",
            "UPDATE instruction_session SET sealed_keys = '\\x00'",
            "DELETE FROM instruction_session",
            """INSERT INTO instruction_session (property_id, meter_id, number, meter_point, platform_point,
                   sealed_keys, offer, after_sequence, begun_at, begun_by)
               SELECT property_id, meter_id, 9, meter_point, '\\x01', sealed_keys, offer, 0, begun_at, 'me'
               FROM instruction_session LIMIT 1""",
        ):  # fmt: skip
            with pytest.raises(psycopg.Error) as error:
                login.execute(statement)
            assert isinstance(
                error.value, psycopg.errors.InsufficientPrivilege | psycopg.errors.CheckViolation
            ), statement
    for role in ("app_admin", "app_auditor", "clerk"):
        assert rows(
            """SELECT has_column_privilege(%s, 'instruction_session', 'sealed_keys', 'SELECT'),
                      has_column_privilege(%s, 'instruction_session', 'number', 'SELECT')""", role, role,
        ) == [(False, True)]  # fmt: skip


class Adversary:
    """Whoever sits between: has all that was ever said, and says what it likes of it to whomever it likes."""

    def __init__(self, village: Village, random: Random) -> None:
        self._village, self._random = village, random
        self.now = NOW
        self._down: list[tuple[int, bytes]] = []
        self._up: list[tuple[int, bytes]] = []
        self._genuine: set[tuple[int, bytes]] = set()
        self.ordered: list[list[Relay]] = [[], []]
        self.credited = [0, 0]
        self.refused = [0, 0]

    def step(self) -> None:
        random, which = self._random, self._random.randrange(2)
        match random.randrange(7):
            case 0:
                self._issue(which)
            case 1 | 2 if self._down:
                whose, message = random.choice(self._down)
                self._to_device(random.choice((whose, which)), self._bent(message))
            case 3 | 4 if self._up:
                whose, message = random.choice(self._up)
                self._to_book(random.choice((whose, which)), self._bent(message))
            case 5:
                self._to_book(which, random.randbytes(random.randrange(BYTES_MAX + 1)))
            case _:
                self.now += timedelta(seconds=random.choice((1, 30, 600, 7_200)))
                self._village.book.expire(now=self.now)

    def _issue(self, which: int) -> None:
        what = self._random.choice((Relay.OPEN, Relay.CLOSED, None, 0))
        if what == 0 and what is not None:
            self.credited[which] += 1_000_000
            what = self.credited[which]
        for each in self._village.issue(what, order=None, at=self.now, which=which):
            self._down.append((which, each.payload))

    def _bent(self, message: bytes) -> bytes:
        if self._random.randrange(3):
            return message
        bent = bytearray(message)
        bent[self._random.randrange(len(bent))] ^= 1 << self._random.randrange(8)
        return bytes(bent)

    def _to_device(self, which: int, message: bytes) -> None:
        device = self._village.devices[which]
        before = (device.relay, device.short.state.credit_micro, len(device.moved))
        forged = device.short.state.forged
        answer = device.hear(message, self.now)
        is_own = (which, message) in self._down
        assert bool(answer) == is_own, "it answers what it was told, and nothing else"
        if not is_own:
            after = (device.relay, device.short.state.credit_micro, len(device.moved))
            assert (after, device.short.state.forged) == (before, forged + 1)
            return
        self._up.append((which, answer))
        self._genuine.add((which, answer))

    def _to_book(self, which: int, message: bytes) -> None:
        before = self._written()
        outcome = self._village.take(message, self.now, which)
        if (which, message) in self._genuine:
            assert outcome.doubt is None and outcome.worth in (Worth.COUNTS, Worth.REPEATED)
        else:
            self.refused[which] += 1
            assert outcome.doubt in (Doubt.FORGED, Doubt.MALFORMED)
        if outcome.worth is not Worth.COUNTS:
            assert self._written() == before, "nothing else changes anything"

    @staticmethod
    def _written() -> list[tuple[Any, ...]]:
        return rows("SELECT meter_id, sequence, state, answer FROM instruction ORDER BY 1, 2")


def test_an_adversary_between_them_moves_nothing_and_is_counted(village: Village) -> None:
    seed = secrets.token_hex(4)
    print(f"seed {seed}")
    adversary = Adversary(village, Random(seed))
    for _ in range(cases(250)):
        adversary.step()
    for which, device in enumerate(village.devices):
        state = device.short.state
        done = rows(
            """SELECT operation, argument FROM instruction
               WHERE meter_id = %s AND state = 3 AND operation <> 0 ORDER BY sequence""",
            village.ids[which],
        )  # fmt: skip
        relays = [Relay(argument) for operation, argument in done if operation == Operation.RELAY]
        # What the book believes to be done was done, in this order; a device may have done more than it has heard of.
        remaining = iter(device.moved)
        assert all(each in remaining for each in relays)
        credit = [argument for operation, argument in done if operation == Operation.CREDIT]
        assert credit == sorted(credit) and max(credit, default=0) <= state.credit_micro
        assert state.credit_micro <= adversary.credited[which]
        ((forged,),) = rows(
            "SELECT forged FROM instruction_session WHERE meter_id = %s", village.ids[which]
        )
        assert forged == adversary.refused[which]


def test_a_session_is_begun_carried_again_and_ended_by_command(
    village: Village,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(instruct_command.wiring, "start_django", lambda: None)
    monkeypatch.setattr(instruct_command.wiring, "now", lambda: NOW)
    store = KeyStore(tmp_path / "keys.json", [SEAL])
    ours = store.make(KeyRole.INSTRUCTION, signs_from=NOW)
    monkeypatch.setenv(STORE_VARIABLE, str(store.path))
    monkeypatch.setenv(SEALS_VARIABLE, SEAL)
    key, offer = tmp_path / "device.pub", tmp_path / "device.session"
    theirs = ES256PrivateKey.from_scalar(bytes([77] * 32))
    key.write_bytes(theirs.spki)

    def command(*words: str) -> int:
        parser = argparse.ArgumentParser()
        instruct_command.add_arguments(parser)
        given = ["session", "--property", "P", SERIALS[0], *words]
        return instruct_command.run(parser.parse_args(given))

    assert command("--key", str(key), "--out", str(offer)) == 0
    device = Device(ShortDevice(SERIALS[0].lower(), theirs, [ours.value]))
    assert command("--again", str(tmp_path / "again")) == 0
    assert (tmp_path / "again").read_bytes() == offer.read_bytes()
    device.short.take_offer(offer.read_bytes())
    village.devices[0] = device
    village.confirm(0)
    assert command("--out", str(offer)) == 0, "with the key that is known by now"
    device.short.take_offer(offer.read_bytes())
    village.confirm(0)
    shown = argparse.ArgumentParser()
    instruct_command.add_arguments(shown)
    assert instruct_command.run(shown.parse_args(["show", "--property", "P", SERIALS[0]])) == 0
    assert "read" in (said := capsys.readouterr().out) and "by the keys of session 2" in said
    # Another key signs by now: the device was never told of it, and takes its next session by the one that it knows.
    store.rotate(KeyRole.INSTRUCTION, signs_from=NOW, now=NOW)
    assert command("--out", str(offer)) == 0
    device.short.take_offer(offer.read_bytes())
    village.confirm(0)
    former = bytes.fromhex(ours.key_id)
    assert offered_sessions(actor=village.actor, key_id=former) == [("P", SERIALS[0])]
    # Once that has ended nothing is begun that it could not take, unless it was made ready anew.
    store.revoke(ours.key_id, now=NOW)
    kept = rows("SELECT max(number) FROM instruction_session WHERE ended_at IS NULL")
    assert command("--out", str(offer)) == instruct_command.REFUSED
    assert rows("SELECT max(number) FROM instruction_session WHERE ended_at IS NULL") == kept
    assert command("--key", str(key), "--out", str(offer)) == 0
    assert command("--end") == 0 and village.issue(None) == []
    key.write_bytes(b"none")
    count = "SELECT count(*) FROM instruction_session"
    before = rows(count)
    for words in (
        ("--end",),
        ("--again", str(offer)),
        ("--key", str(key), "--out", str(offer)),
        ("--key", str(tmp_path / "gone"), "--out", str(offer)),
        ("--out", str(tmp_path / "no" / "folder")),
    ):
        assert command(*words) == instruct_command.REFUSED, words
    monkeypatch.delenv(STORE_VARIABLE)
    assert command("--out", str(offer)) == instruct_command.REFUSED
    assert rows(count) == before
    assert "prewatt: " in capsys.readouterr().err
