"""The instruction book beside a real meter: lost answers, expiry, swaps, and who may write what."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from conftest import role_dsn
from prewatt import instruct_command
from prewatt.access.scope import system_actor
from prewatt.core.civil_time import instant_us
from prewatt.core.instructions import Doubt, Operation, Result, Worth
from prewatt.core.vocabulary import InstructionState
from prewatt.core.vocabulary import RelayState as Relay
from prewatt.hes.drivers.mqtt_senml.topics import Uplink
from prewatt.instructions.operations import (
    InstructionBook,
    Outcome,
    Outgoing,
    SignerSeal,
    Told,
    Wanted,
    enrol_key,
    revoke_key,
)
from prewatt.signing.es256 import ES256PrivateKey, device_key_id
from prewatt.signing.keys import KeyRole, PublicKey, SoftwareSigner
from prewatt.sim.loads import load_profile
from prewatt.sim.meter import MeterConfig, SimulatedMeter

NOW = datetime(2026, 11, 28, 5, 0, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
KEY = ES256PrivateKey.from_scalar(bytes([1] * 32))
OURS = SignerSeal(SoftwareSigner(PublicKey(KeyRole.INSTRUCTION, KEY.point, NOW - MINUTE), KEY))


class Street:
    """Two meters that verify, enrolled, and the book."""

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
        self.ids: dict[str, int] = {}
        self.meters: dict[str, SimulatedMeter] = {}
        for number in (1, 2):
            serial, key = f"PW-{number}", ES256PrivateKey.from_scalar(bytes([10 + number] * 32))
            self.ids[serial] = models.Meter.objects.create(property_id=self.place, serial=serial).pk
            enrol_key(
                actor=self.actor, property_id=self.place, meter_id=self.ids[serial],
                public_key=key.spki, now=NOW - MINUTE,
            )  # fmt: skip
            self.meters[serial] = SimulatedMeter(
                MeterConfig(
                    serial,
                    load_profile("H0-A", utc_offset_s=0),
                    1_000_000,
                    0,
                    instant_us(NOW),
                    900_000_000,
                    private_key=key,
                    trusts={OURS.key_id: KEY.point},
                    holds_credit=True,
                )
            )
            self.meters[serial].connected(instant_us(NOW))

    def issue(
        self, what: Relay | int, order: int | None = None, at: datetime = NOW, serial: str = "PW-1"
    ) -> list[Outgoing]:
        operation = Operation.RELAY if isinstance(what, Relay) else Operation.CREDIT
        return self.book.issue(
            [Wanted(self.ids[serial], self.place, serial, operation, int(what), order)], now=at
        )

    def hear(self, outgoing: Outgoing, at: datetime = NOW, serial: str = "PW-1") -> bytes:
        said = self.meters[serial].receive_instruction(outgoing.payload, instant_us(at))
        return next(payload for channel, payload in said if channel is Uplink.SEALED)

    def take(self, payload: bytes, at: datetime = NOW, serial: str = "PW-1") -> Outcome:
        told = Told(self.ids[serial], self.place, serial, payload, at)
        (outcome,) = self.book.take([told], now=at)
        return outcome

    def states(self) -> list[InstructionState]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT state FROM instruction ORDER BY meter_id, sequence")
            return [InstructionState(row[0]) for row in cursor.fetchall()]


@pytest.fixture
def street(database: str) -> Street:
    return Street()


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    instruct_command.add_arguments(parser)
    return instruct_command.run(parser.parse_args([words[0], "--property", "P", *words[1:]]))


def test_a_lost_answer_is_asked_for_before_anything_is_told_anew(
    street: Street,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (sent,) = street.issue(Relay.OPEN, order=1)
    answer = street.hear(sent)
    assert street.meters["PW-1"].relay == "open"
    (again,) = street.issue(Relay.OPEN, order=1, at=NOW + SECOND)
    assert again == sent, "a retry resends the same bytes"
    assert street.hear(again) == answer, "and gets the stored answer"
    # The answers are lost; the order for the same relay comes again after the command has expired.
    later = NOW + 16 * MINUTE
    assert street.book.due(now=later, limit=9) == []
    assert street.book.expire(now=later) == [street.ids["PW-1"]]
    (read,) = street.issue(Relay.OPEN, order=1, at=later)
    outcome = street.take(street.hear(read, at=later), at=later)
    assert outcome.operation is Operation.READ and outcome.order_id == 1
    assert outcome.answer is not None and outcome.answer.relay is Relay.OPEN
    done = [InstructionState.ANSWERED, InstructionState.ANSWERED]
    assert street.states() == done, "how the meter stands proves that it was done"
    (third,) = street.issue(Relay.CLOSED, order=2, at=later)
    assert street.take(street.hear(third, at=later), at=later).answer is not None
    assert street.meters["PW-1"].relay == "closed" and street.states() == [*done, done[0]]
    # Whoever looks verifies each stored answer again, also that which only a later one proved.
    monkeypatch.setattr(instruct_command.wiring, "start_django", lambda: None)
    assert command("show", "PW-1") == 0
    said = [line.split()[-6:] for line in capsys.readouterr().out.splitlines()]
    assert [each[-3] for each in said] == ["signed"] * 3 and "later" in said[2]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE instruction SET answer = %s WHERE sequence = 3", [answer])
    assert command("show", "PW-1") == instruct_command.UNVERIFIED
    # Another key is enrolled and revoked by command; one that is none, or of nobody, is refused.
    new = ES256PrivateKey.from_scalar(bytes([77] * 32))
    (tmp_path / "key").write_bytes(new.spki)
    assert command("enrol", "PW-1", str(tmp_path / "key")) == 0
    assert command("revoke", "PW-1", device_key_id(new.spki).hex(), "--reason", "x") == 0
    (tmp_path / "key").write_bytes(b"none")
    for refused in (
        ("enrol", "PW-1", str(tmp_path / "key")),
        ("revoke", "PW-1", device_key_id(new.spki).hex(), "--reason", "x"),
        ("hold-credit", "PW-1"),
        ("release-credit", "PW-1"),
        ("release-credit", "PW-1", "--without-answer", "gone"),
        ("show", "PW-9"),
    ):
        assert command(*refused) == instruct_command.REFUSED, refused


def test_a_later_order_goes_first_and_credit_waits_and_is_never_given_twice(street: Street) -> None:
    (first,) = street.issue(5_000_000)
    assert street.issue(7_000_000) == [], "of credit one command is under way"
    (repeat,) = street.book.due(now=NOW + 6 * SECOND, limit=9)
    assert repeat == first and street.book.due(now=NOW + 7 * SECOND, limit=9) == []
    (cut,) = street.issue(Relay.OPEN, order=1)
    assert street.states() == [InstructionState.SUPERSEDED, InstructionState.SENT]
    late = street.hear(first)
    refused = street.take(street.hear(cut))
    assert refused.answer is not None and refused.answer.result is Result.BROKEN_CHAIN
    assert street.states() == [InstructionState.ANSWERED, InstructionState.REFUSED]
    assert street.take(late).worth is Worth.REPEATED, "its standing has proved it"
    (cut,) = street.issue(Relay.OPEN, order=1)
    assert street.take(street.hear(cut)).worth is Worth.COUNTS
    (second,) = street.issue(7_000_000)
    street.hear(second)
    street.hear(second)
    outcome = street.take(street.hear(second))
    assert outcome.answer is not None and outcome.answer.balance_micro == 7_000_000
    with connection.cursor() as cursor:
        cursor.execute("SELECT credit_micro, balance_micro, known_sequence FROM instruction_state")
        assert cursor.fetchall() == [(7_000_000, 7_000_000, 4)]


def test_whoever_has_not_the_meters_key_moves_nothing_and_who_has_the_process_little(
    street: Street, database: str
) -> None:
    (sent,) = street.issue(Relay.OPEN, order=1)
    answer = street.hear(sent)
    (other,) = street.issue(Relay.OPEN, order=2, serial="PW-2")
    others = street.hear(other, serial="PW-2")
    assert street.take(others).doubt is Doubt.UNKNOWN_KEY
    assert street.take(answer, serial="PW-2").doubt is Doubt.UNKNOWN_KEY
    assert street.take(answer[:-1] + bytes([answer[-1] ^ 1])).doubt is Doubt.FORGED
    assert street.take(sent.payload).doubt is Doubt.MALFORMED
    assert street.states() == [InstructionState.SENT, InstructionState.SENT]
    key_id = device_key_id(ES256PrivateKey.from_scalar(bytes([12] * 32)).spki)
    assert revoke_key(
        actor=street.actor, property_id=street.place, key_id=key_id, reason="x", now=NOW
    )
    assert street.take(others, serial="PW-2").doubt is Doubt.UNKNOWN_KEY, (
        "it is not believed any more"
    )
    both = set(street.ids.values())
    assert street.book.signing([*both, 99]) == both, "nor is its meter told anything unsigned again"
    assert street.take(answer).worth is Worth.COUNTS
    assert street.take(answer).worth is Worth.REPEATED
    with psycopg.connect(role_dsn(database, "head_end"), autocommit=True) as login:
        for statement in (
            "UPDATE instruction SET state = 2, answer = NULL, result = NULL WHERE state = 3",
            "UPDATE instruction SET result = 4 WHERE state = 3",
            "UPDATE instruction SET state = 3 WHERE state = 2",
            "UPDATE instruction SET command = '\\x00'",
            "DELETE FROM instruction",
            "UPDATE instruction_state SET last_sequence = 0",
            "UPDATE instruction_state SET credit_micro = credit_micro - 1",
            """INSERT INTO instruction (property_id, meter_id, sequence, operation, argument,
                   issued_at, expires_at, command, command_hash, tries)
               SELECT property_id, meter_id, sequence + 7, 1, 1, issued_at, expires_at, command,
                   command_hash, 1 FROM instruction LIMIT 1""",
            """INSERT INTO meter_key (property_id, meter_id, public_key, key_id, valid_from, made_by)
               SELECT property_id, meter_id, '\\x01', '\\x02', valid_from, 'me' FROM meter_key LIMIT 1""",
            "UPDATE meter_key SET revoked_at = NULL",
        ):
            with pytest.raises(psycopg.Error) as refused:
                login.execute(statement)
            assert isinstance(
                refused.value, psycopg.errors.InsufficientPrivilege | psycopg.errors.CheckViolation
            ), statement
    with psycopg.connect(role_dsn(database, "clerk"), autocommit=True) as login:
        for statement in (
            "UPDATE meter_key SET revoked_at = NULL WHERE revoked_at IS NOT NULL",
            "UPDATE meter_key SET public_key = '\\x01'",
            "UPDATE instruction SET tries = 9",
        ):
            with pytest.raises(psycopg.Error):
                login.execute(statement)
