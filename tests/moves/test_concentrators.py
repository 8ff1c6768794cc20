"""Who may speak for a meter: registered, put behind, taken away; held by operations and by the database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from tests.conftest import role_dsn
from tests.invariants.places import NOW, World, at, one, place, rows

import prewatt.moves.concentrators as operations
from prewatt import concentrator_command
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, system_actor
from prewatt.cli import main
from prewatt.estate.queries import concentrators
from prewatt.moves.concentrators import (
    ConcentratorRefused,
    put_behind,
    register_concentrator,
    take_away,
)

pytestmark = pytest.mark.usefixtures("database")

SYSTEM = system_actor("test")


def serial(here: World, name: str) -> str:
    found: str = one("SELECT serial FROM meter WHERE id = %s", here.meters[name])
    return found


def register(here: World, name: str = "DTU-1", actor: Actor = SYSTEM) -> None:
    register_concentrator(actor=actor, property_id=here.property_id, serial=name, now=NOW)


def put(here: World, meter: str, when: datetime, name: str = "DTU-1", **more: Any) -> int:
    return put_behind(
        actor=more.get("actor", SYSTEM), property_id=here.property_id, serial=name,
        meters=[serial(here, meter)], at=when, now=NOW,
    ).meters  # fmt: skip


def rights() -> list[tuple[Any, ...]]:
    return rows(
        """SELECT c.serial, lower(k.period), upper(k.period)
           FROM concentrator_meter k JOIN concentrator c ON c.id = k.concentrator_id ORDER BY 2"""
    )


def test_a_meter_has_one_concentrator_at_a_time_and_a_change_ends_the_former() -> None:
    here = place()
    register(here)
    register(here, "DTU-2")
    assert put(here, "M-101", at(1)) == 1
    assert put(here, "M-101", at(2)) == 0, "it speaks for it already"
    assert put(here, "M-101", at(3), "DTU-2") == 1
    assert rights() == [("DTU-1", at(1), at(3)), ("DTU-2", at(3), None)]
    assert rows("SELECT serial, edition FROM concentrator ORDER BY 1") == [
        ("DTU-1", 3),
        ("DTU-2", 1),
    ]
    with pytest.raises(ConcentratorRefused, match="another concentrator then or later"):
        put(here, "M-101", at(2))
    assert rights() == [("DTU-1", at(1), at(3)), ("DTU-2", at(3), None)]
    given = {"property_id": here.property_id, "meters": [serial(here, "M-101")], "now": NOW}
    assert take_away(actor=SYSTEM, serial="DTU-1", at=at(5), **given) == 0
    assert take_away(actor=SYSTEM, serial="DTU-2", at=at(5), **given) == 1
    assert rights()[1] == ("DTU-2", at(3), at(5))
    codes = rows("SELECT code, count(*) FROM audit_event WHERE code LIKE %s GROUP BY 1", "%concen%")
    assert dict(codes) == {"estate.concentrator.registered": 2, "estate.concentrator.meters": 4}


def test_of_two_who_put_a_meter_behind_at_once_the_second_is_refused(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place()
    register(here)
    register(here, "DTU-2")
    begin = operations._begin

    def after_somebody_else(*given: Any) -> None:
        with psycopg.connect(database, autocommit=True) as rival:
            rival.execute(
                """INSERT INTO concentrator_meter (property_id, concentrator_id, meter_id, period)
                   SELECT property_id, id, %s, tstzrange(%s, NULL) FROM concentrator
                   WHERE serial = 'DTU-2'""",
                [here.meters["M-101"], at(1)],
            )
        begin(*given)

    monkeypatch.setattr(operations, "_begin", after_somebody_else)
    with pytest.raises(ConcentratorRefused, match="just got another"):
        put(here, "M-101", at(1))
    assert rights() == [("DTU-2", at(1), None)]


@pytest.mark.parametrize("name", ["", "sim", "-x", "a/b", "a+b", "a#", "ü", "a" * 33, "a b"])
def test_a_serial_number_that_no_topic_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConcentratorRefused):
        register(place(), name)


def test_serial_numbers_and_meters_of_others_are_refused() -> None:
    here, there = place(), place()
    register(here)
    for taken in ("DTU-1", serial(here, "M-101")):
        with pytest.raises(ConcentratorRefused):
            register(there, taken)
    with pytest.raises(ConcentratorRefused, match="no concentrator"):
        put(there, "M-101", at(1))
    with pytest.raises(ConcentratorRefused, match="no meter"):
        put_behind(
            actor=SYSTEM, property_id=here.property_id, serial="DTU-1",
            meters=[serial(there, "M-101")], at=at(1), now=NOW,
        )  # fmt: skip
    assert rights() == []


def test_only_an_administrator_of_the_property_may_and_sees_no_others() -> None:
    here, there = place(), place()
    admin = Actor("user:1", Duty.ADMINISTRATOR, (here.property_id,))
    register(here, actor=admin)
    assert put(here, "M-101", at(1), actor=admin) == 1
    assert [each.serial for each in concentrators(actor=admin, property_id=here.property_id)] == [
        "DTU-1"
    ]
    for actor in (
        Actor("user:2", Duty.OPERATOR, (here.property_id,)),
        Actor("user:3", Duty.AUDITOR, (here.property_id,)),
        Actor("user:4", Duty.ADMINISTRATOR, (there.property_id,)),
    ):
        with pytest.raises(PermissionRefused):
            register(here, "DTU-9", actor=actor)
    stranger = Actor("user:4", Duty.ADMINISTRATOR, (there.property_id,))
    with pytest.raises(PermissionRefused):
        concentrators(actor=stranger, property_id=here.property_id)


def test_the_database_holds_a_right_to_one_property_and_to_whom_may_give_it(
    database: str,
) -> None:
    here, there = place(), place()
    register(here)
    insert = """INSERT INTO concentrator_meter (property_id, concentrator_id, meter_id, period)
                VALUES (%s, (SELECT id FROM concentrator), %s, '[2026-01-01,)')"""
    own = (here.property_id, there.meters["M-101"])
    foreign = (there.property_id, there.meters["M-101"])
    with psycopg.connect(database, autocommit=True) as owner:
        for values in (own, foreign):
            with pytest.raises(psycopg.errors.ForeignKeyViolation):
                owner.execute(insert, values)
    for role in ("head_end", "keeper", "witness"):
        with (
            psycopg.connect(role_dsn(database, role), autocommit=True) as session,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            session.execute(insert, (here.property_id, here.meters["M-101"]))


def test_the_command_registers_puts_lists_and_takes(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = place()
    code = one("SELECT code FROM property WHERE id = %s", here.property_id)
    meters = [serial(here, "M-101"), serial(here, "M-102")]
    monkeypatch.setattr(concentrator_command.wiring, "start_django", lambda: None)
    monkeypatch.setattr(concentrator_command.wiring, "now", lambda: NOW)

    def command(*words: str) -> int:
        return main(["concentrator", words[0], "--property", code, *words[1:]])

    assert command("add", "DTU-1", "--name", "Cellar") == 0
    assert command("put", "DTU-1", *meters, "--at", (NOW - timedelta(days=1)).isoformat()) == 0
    assert command("list") == 0
    out = capsys.readouterr().out
    assert "DTU-1  2 meters, never heard" in out and " ".join(sorted(meters)) in out
    assert command("take", "DTU-1", meters[0]) == 0
    assert rights()[0][2] == NOW or rights()[1][2] == NOW
    assert command("put", "DTU-1", "NOBODYS") == concentrator_command.REFUSED
    assert main(["concentrator", "list", "--property", "nowhere"]) == 2
    assert "no meter NOBODYS" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command("put", "DTU-1", meters[0], "--at", "2026-11-01T00:00")


def test_a_serial_number_of_another_property_is_taken_and_nobody_learns_whose(
    database: str,
) -> None:
    here, there = place(), place()
    register(there, "DTU-9")
    admin = Actor("user:1", Duty.ADMINISTRATOR, (here.property_id,))
    said = []
    for taken in (serial(there, "M-101"), serial(here, "M-101"), "DTU-9"):
        with pytest.raises(ConcentratorRefused) as refusal:
            register(here, taken, admin)
        said.append(str(refusal.value).replace(taken, "X"))
    assert said == ["the serial number X is taken"] * 3
    register(here, "DTU-10", admin)
    for login in ("web", "head_end", "keeper", "witness"):
        with psycopg.connect(role_dsn(database, login), autocommit=True) as session:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute("SELECT serial_is_taken('DTU-9')")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute("SELECT place_of_serial('DTU-9')")


def test_only_what_ended_is_written_down_as_taken_away() -> None:
    here = place()
    register(here)
    put(here, "M-101", at(1))
    put(here, "M-102", at(4))
    ended = take_away(
        actor=SYSTEM, property_id=here.property_id, serial="DTU-1", at=at(4), now=NOW,
        meters=[serial(here, each) for each in ("M-101", "M-102", "M-LIFT")],
    )  # fmt: skip
    assert ended == 1
    taken = "SELECT detail->'taken'->>0, jsonb_array_length(detail->'taken') FROM audit_event WHERE detail ? 'taken'"
    assert rows(taken) == [(serial(here, "M-101"), 1)]
