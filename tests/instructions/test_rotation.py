"""A rotation of the instruction key from its begin to its end, with meters that sleep, are old, silent, or led astray."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.db import connection

from prewatt import instruct_command, keys_command, rotate_command
from prewatt.access.scope import system_actor
from prewatt.core.civil_time import instant_us
from prewatt.core.instructions import IN_FULL, KeyStep, Operation, Result, Worth
from prewatt.core.vocabulary import RelayState as Relay
from prewatt.estate import models as estate
from prewatt.hes.drivers.mqtt_senml.topics import Uplink
from prewatt.instructions.operations import (
    InstructionBook,
    Outcome,
    Outgoing,
    Told,
    Wanted,
    enrol_key,
    revoke_key,
    seals_of_keys,
)
from prewatt.instructions.wishes import AGAIN_AFTER, Wishes
from prewatt.signing.es256 import ES256PrivateKey, device_key_id
from prewatt.signing.keyring import open_keyring
from prewatt.signing.keys import KeyRole
from prewatt.signing.store import KeyStore
from prewatt.sim.loads import load_profile
from prewatt.sim.meter import MeterConfig, SimulatedMeter

NOW = datetime(2026, 11, 28, 5, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
AWAKE, ASLEEP, OLD, SILENT = "PW-1", "PW-2", "PW-3", "PW-4"


class Fleet:
    """Four meters with keys, a file of instruction keys, and the book."""

    def __init__(self, path: Path) -> None:
        seal = Fernet.generate_key().decode()
        self.store = KeyStore(path, [seal])
        self.environ = {"PREWATT_KEY_STORE": str(path), "PREWATT_KEY_STORE_KEYS": seal}
        first = self.store.make(KeyRole.INSTRUCTION, signs_from=NOW - MINUTE)
        self.keys = [bytes.fromhex(first.key_id)]
        organisation = estate.Organisation.objects.create(name="O")
        entity = estate.LegalEntity.objects.create(organisation=organisation, name="E")
        self.place = estate.Property.objects.create(
            organisation=organisation, legal_entity=entity, code="P", name="P", currency="EUR",
            time_zone="Europe/Berlin",
        ).pk  # fmt: skip
        self.ids: dict[str, int] = {}
        self.meters: dict[str, SimulatedMeter] = {}
        self.device_keys: dict[str, bytes] = {}
        for number, serial in enumerate((AWAKE, ASLEEP, OLD, SILENT)):
            own = ES256PrivateKey.from_scalar(bytes([10 + number] * 32))
            self.ids[serial] = estate.Meter.objects.create(property_id=self.place, serial=serial).pk
            self.device_keys[serial] = enrol_key(
                actor=system_actor("test", (self.place,)), property_id=self.place,
                meter_id=self.ids[serial], public_key=own.spki, now=NOW - MINUTE,
            )  # fmt: skip
            self.meters[serial] = SimulatedMeter(
                MeterConfig(
                    serial, load_profile("H0-A", utc_offset_s=0), 1_000_000, 0, instant_us(NOW), 900_000_000,
                    private_key=own, trusts={self.keys[0]: first.value}, first_form=serial == OLD,
                )
            )  # fmt: skip
        actor = system_actor("head_end")
        self.book = InstructionBook(actor, seal=self._seals)
        self.wishes = Wishes(actor, seal=self._seals)
        self.now = NOW

    def _seals(self, now: datetime) -> Any:
        return seals_of_keys(open_keyring(self.environ), now=now)

    def rotate_key(self) -> None:
        key = self.store.rotate(KeyRole.INSTRUCTION, signs_from=self.now, now=self.now)
        self.keys.append(bytes.fromhex(key.key_id))

    def hear(self, sent: Outgoing) -> Outcome | None:
        """The meter's answer to it, taken; None where it does not believe it."""
        said = self.meters[sent.serial].receive_instruction(sent.payload, instant_us(self.now))
        answers = [payload for channel, payload in said if channel is Uplink.SEALED]
        if not answers:
            return None
        told = Told(self.ids[sent.serial], self.place, sent.serial, answers[0], self.now)
        (outcome,) = self.book.take([told], now=self.now)
        assert outcome.worth is Worth.COUNTS
        return outcome

    def turn(self, relay: Relay, serial: str) -> Outcome | None:
        (sent,) = self.book.issue(
            [Wanted(self.ids[serial], self.place, serial, Operation.RELAY, int(relay))], now=self.now
        )  # fmt: skip
        return self.hear(sent)

    def look(self, *awake: str) -> dict[str, tuple[Operation, int]]:
        """What is due goes out, and is heard by who is awake; returns what each was told."""
        self.now += timedelta(seconds=1)
        wanted = self.wishes.due(now=self.now)
        for sent in self.book.issue(wanted, now=self.now):
            if sent.serial in awake:
                outcome = self.hear(sent)
                assert outcome is not None and outcome.answer is not None
                assert outcome.answer.result is Result.OK and not outcome.is_led_astray
        return {each.serial: (each.operation, each.argument) for each in wanted}

    def pass_time(self, span: timedelta) -> None:
        self.now += span
        self.book.expire(now=self.now)

    def trusts(self, serial: str) -> list[int]:
        return [self.keys.index(key_id) for key_id, _ in self.meters[serial].instructed.keys]


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    instruct_command.add_arguments(parser)
    return instruct_command.run(parser.parse_args(words))


def run(statement: str, *given: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, given)


@pytest.mark.usefixtures("database")
def test_meters_come_to_the_next_key_one_by_one_and_none_is_lost_unnamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = Fleet(tmp_path / "keys.json")
    for module in (instruct_command, rotate_command, keys_command):
        monkeypatch.setattr(module.wiring, "start_django", lambda *_: None)
        monkeypatch.setattr(module.wiring, "now", lambda: fleet.now)
    for name, value in {**fleet.environ, "PREWATT_DSN": "here"}.items():
        monkeypatch.setenv(name, value)

    def rotate(*words: str) -> int:
        return command("rotate", *words)

    def ways() -> dict[str, str]:
        capsys.readouterr()
        assert rotate("--format", "json") == 0
        return {
            each["serial"]: each["way"] for each in json.loads(capsys.readouterr().out)["meters"]
        }

    for serial in (AWAKE, ASLEEP, OLD):
        assert fleet.turn(Relay.OPEN, serial) is not None
    fleet.rotate_key()
    assert fleet.look() == {}, "nobody is led before somebody says so"
    assert fleet.turn(Relay.CLOSED, AWAKE) is not None, "each is told by the key that it trusts"
    # One first, then all. Who was never asked is asked what it understands; who cannot is told nothing more.
    assert rotate("--begin", "--serial", AWAKE) == 0
    read, add, drop = (
        (Operation.READ, IN_FULL),
        (Operation.TRUST, KeyStep.ADD),
        (Operation.TRUST, KeyStep.DROP_FORMER),
    )
    assert fleet.look() == {AWAKE: read}
    assert rotate("--begin") == 0
    assert fleet.look(OLD) == {ASLEEP: read, OLD: read, SILENT: read}
    fleet.pass_time(16 * MINUTE)
    assert fleet.look(AWAKE) == {}, "who did not answer has a rest"
    fleet.pass_time(AGAIN_AFTER)
    assert fleet.look(AWAKE) == {AWAKE: read, ASLEEP: read, SILENT: read}
    assert fleet.look(AWAKE) == {AWAKE: add}
    assert fleet.look(AWAKE) == {} and fleet.trusts(AWAKE) == [0, 1]
    assert ways() == {AWAKE: "trusts", ASLEEP: "waits", OLD: "cannot", SILENT: "silent"}
    assert fleet.turn(Relay.OPEN, AWAKE) is not None and fleet.turn(Relay.OPEN, OLD) is not None
    refused = fleet.meters[OLD].instructed.refused
    assert refused == 0, "nothing was a forgery to the one that knows less"
    # The former key ends when somebody says so, and says how many are lost with it.
    former = fleet.keys[0].hex()
    capsys.readouterr()
    assert rotate("--end", former, "--alone", "stolen") == rotate_command.REFUSED
    said = capsys.readouterr().err
    assert "3 meters" in said and all(each in said for each in (ASLEEP, OLD, SILENT))
    for key in (fleet.keys[1].hex(), "00", "none"):
        assert rotate("--end", key, "--alone", "x") == rotate_command.REFUSED
    # One wakes up, one has other firmware, one is taken away.
    fleet.pass_time(2 * AGAIN_AFTER)
    meter = fleet.meters[OLD]
    fleet.meters[OLD] = SimulatedMeter(replace(meter.config, first_form=False))
    fleet.meters[OLD].instructed = meter.instructed
    run("UPDATE instruction_state SET next_key = NULL WHERE meter_id = %s", fleet.ids[OLD])
    assert rotate("--begin") == 0
    assert revoke_key(
        actor=system_actor("test", (fleet.place,)), property_id=fleet.place,
        key_id=fleet.device_keys[SILENT], reason="gone", now=fleet.now,
    )  # fmt: skip
    run("DELETE FROM instruction_state WHERE meter_id = %s", fleet.ids[SILENT])
    assert fleet.look(ASLEEP, OLD) == {ASLEEP: read, OLD: read}
    assert fleet.look(ASLEEP) == {ASLEEP: add, OLD: add}
    # A database that is set back tells one again what it knows: it says so, and nothing else comes of it.
    run(
        "UPDATE instruction_state SET trusts = %s WHERE meter_id = %s",
        fleet.keys[0],
        fleet.ids[AWAKE],
    )
    fleet.pass_time(16 * MINUTE + AGAIN_AFTER)
    assert fleet.look(AWAKE, OLD) == {AWAKE: add, OLD: add}, (
        "one had missed it, one says that it is so"
    )
    assert fleet.look(OLD) == {OLD: add}, "after it was read, for what it was told had expired"
    assert [fleet.trusts(each) for each in (AWAKE, ASLEEP, OLD)] == [[0, 1]] * 3
    capsys.readouterr()
    assert rotate("--end", former, "--alone", "stolen") == 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM alert WHERE code = 'signing.key_alone'")
        assert cursor.fetchone() == (1,), "whoever ends it alone is heard"
    assert fleet.look(AWAKE, ASLEEP, OLD) == dict.fromkeys((AWAKE, ASLEEP, OLD), drop)
    assert [fleet.trusts(each) for each in (AWAKE, ASLEEP, OLD)] == [[1]] * 3
    assert set(ways().values()) == {"done"} and fleet.look() == {}
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(next_key) FROM instruction_state")
        assert cursor.fetchone() == (0,)
    # Set back to before all of it: the key that it says to trust is revoked, so another is tried, and that is it.
    run("UPDATE instruction_state SET trusts = %s", fleet.keys[0])
    assert fleet.turn(Relay.CLOSED, AWAKE) is not None
    assert rotate("--begin", "--serial", AWAKE) == 0
    assert fleet.look(AWAKE) == {AWAKE: read} and ways()[AWAKE] == "done" and fleet.look() == {}
    # Who has the key that was dropped says nothing to anybody, and who had the newest is seen in what a meter says.
    stranger = ES256PrivateKey.from_scalar(bytes([66] * 32))
    held = fleet.meters[AWAKE].instructed
    fleet.meters[AWAKE].instructed = replace(
        held, keys=(*held.keys, (device_key_id(stranger.spki), stranger.point))
    )
    (sent,) = fleet.book.issue([Wanted(fleet.ids[AWAKE], fleet.place, AWAKE, *read)], now=fleet.now)
    outcome = fleet.hear(sent)
    assert outcome is not None and outcome.is_led_astray
    assert ways()[AWAKE] == "foreign"
    # A limit is told in the same way, until the meter says that it has it and for how long.
    assert command("limit", "--property", "P", ASLEEP, "4600", "--seconds", "60") == 0
    for refused in (("9", "--seconds", "0"), ("-1",)):
        assert command("limit", "--property", "P", ASLEEP, *refused) == instruct_command.REFUSED
    assert fleet.look() == {ASLEEP: (Operation.LIMIT, 4_600)}
    assert command("limit", "--property", "P", ASLEEP, "4600", "--seconds", "90") == 0
    fleet.pass_time(16 * MINUTE + AGAIN_AFTER)
    assert fleet.look(ASLEEP) == fleet.look(ASLEEP) == {ASLEEP: (Operation.LIMIT, 4_600)}
    assert fleet.look() == {}
    state = fleet.meters[ASLEEP].instructed
    assert (state.limit_w, state.limit_s) == (4_600, 90)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT limit_w, limit_s, next_limit_w FROM instruction_state WHERE limit_w > 0"
        )
        assert cursor.fetchall() == [(4_600, 90, None)]
