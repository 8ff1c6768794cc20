"""Alerts are closed by a named person with a note, once, and never over the head of their cause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.utils import ProgrammingError
from tests.supply.world import CLERK, NOW, World, run_sql

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, scope
from prewatt.core.vocabulary import RelayState
from prewatt.moves.alerts import NOTE_MAX, AlertRefused, close_alert
from prewatt.notify.alerts import CODES, SUBJECTS, AlertCode
from prewatt.notify.operations import raise_alert
from prewatt.supply.operations import put_right_departed

pytestmark = pytest.mark.usefixtures("database")
LATER = NOW + timedelta(hours=1)


def someone(world: World, duty: Duty = Duty.ADMINISTRATOR, number: int = 7) -> Actor:
    return Actor(f"user:{number}", duty, (world.property_id,), "Ines", number)


def opened(world: World, code: AlertCode) -> int:
    about = {
        "meter": world.meter_ids[0],
        "concentrator": 3,
        "account": world.account_ids[0],
        "property": world.property_id,
        "bulk": 9,
    }
    subject = f"{SUBJECTS[code]}:{about[SUBJECTS[code]]}"
    with transaction.atomic():
        raise_alert(property_id=world.property_id, code=code, subject=subject, detail={}, now=NOW)
    return int(found("SELECT max(id) FROM alert")[0][0])


def found(statement: str, *params: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return list(cursor.fetchall())


def tariff(world: World) -> None:
    run_sql(
        "INSERT INTO tariff (id, property_id, code, name) VALUES (1, %s, 'T', 'T')",
        world.property_id,
    )
    run_sql(
        """INSERT INTO tariff_version (property_id, tariff_id, number, valid_from, content, digest,
               made_by, approved_by, approved_at)
           VALUES (%s, 1, 1, %s, '{}', %s, 'user:1', 'user:2', %s)""",
        world.property_id, NOW, b"\0" * 32, NOW,
    )  # fmt: skip
    run_sql(
        """INSERT INTO tariff_assignment (property_id, account_id, tariff_id, valid_from)
           VALUES (%s, %s, 1, %s)""",
        world.property_id, world.account_ids[0], NOW,
    )  # fmt: skip


def waits(world: World) -> None:
    run_sql(
        """INSERT INTO message (property_id, account_id, code, detail, language, urgent, would_have,
               dedupe_key, created_at, due_at, claim_no, state)
           VALUES (%s, %s, 'supply.warning', '{}', 'en', false, false, 'k', %s, %s, 0, 1)""",
        world.property_id, world.account_ids[0], NOW, NOW,
    )  # fmt: skip


def under_way(world: World) -> None:
    world.relay(RelayState.OPEN)
    world.read(20_000_000)
    put_right_departed(actor=CLERK, now=NOW, everything=True)
    run_sql("DELETE FROM alert")
    world.relay(RelayState.CLOSED)


def emergency(world: World) -> None:
    run_sql(
        """INSERT INTO proposal (property_id, kind, subject, effect, digest, reason, made_by, made_at,
               expires_at, state, amount, needed, ended_by, ended_at, answer)
           VALUES (%s, 'supply.brake', 'brake:on', '{}', %s, 'Smoke', 'user:1', %s, %s, 'emergency', 0, 1,
               'user:1', %s, '')""",
        world.property_id, b"\0" * 32, NOW, LATER, NOW,
    )  # fmt: skip


def brake(world: World) -> None:
    run_sql("UPDATE supply_policy SET brake_since = %s", NOW)


#: By code, what makes its cause last, and what ends it.
#: What the next try of a chore ends or raises anew (tests/billing/test_tries.py, test_let_troubles.py,
#: tests/instructions/test_wallets.py).
OF_CHORES: frozenset[AlertCode] = frozenset(
    {
        "billing.posting_failed",
        "billing.rerating_failed",
        "billing.rebates_failed",
        "billing.held_failed",
        "moves.let_not_closed",
        "moves.let_not_begun",
        "meter.balance_differs",
    }
)


def fitted(world: World) -> None:
    run_sql(
        """INSERT INTO commissioning (property_id, meter_id, fitted_at, fitted_by, hear_by, checked_by, note)
           VALUES (%s, %s, %s, 'user:1', %s, '', '')""",
        world.property_id, world.meter_ids[0], NOW - timedelta(days=2), NOW,
    )  # fmt: skip


def behind_concentrator(world: World) -> None:
    run_sql(
        """INSERT INTO concentrator (id, property_id, serial, name, edition, last_seen_at)
           VALUES (3, %s, 'C-3', '', 0, %s)""",
        world.property_id, NOW - timedelta(days=1),
    )  # fmt: skip
    run_sql(
        """INSERT INTO concentrator_meter (property_id, concentrator_id, meter_id, period)
           VALUES (%s, 3, %s, tstzrange(%s, NULL))""",
        world.property_id, world.meter_ids[0], NOW - timedelta(days=2),
    )  # fmt: skip


def releasing(world: World) -> None:
    run_sql(
        """INSERT INTO meter_wallet (property_id, meter_id, account_id, since, seen_seq, total_micro,
               credit_micro, state, because, release_at)
           VALUES (%s, %s, %s, %s, 0, 0, 0, 2, 1, %s)""",
        world.property_id, world.meter_ids[0], world.account_ids[0], NOW, NOW,
    )  # fmt: skip


def expired(world: World, kind: str = "meter") -> None:
    run_sql(
        """INSERT INTO device_issuer (id, property_id, certificate, key_sha256, not_after, made_at)
           VALUES (1, %s, '', '', %s, %s)""",
        world.property_id, NOW, NOW,
    )  # fmt: skip
    run_sql(
        """INSERT INTO device_certificate (property_id, serial, issuer_id, number, certificate,
               key_sha256, not_after, made_at, revoked_by, revoked_why)
           SELECT property_id, serial, 1, '1', '', '', %s, %s, '', '' FROM """ + kind + " ORDER BY id LIMIT 1",
        NOW, NOW - timedelta(days=365),
    )  # fmt: skip


def braked(world: World) -> None:
    run_sql(
        """INSERT INTO fleet_bulk (id, property_id, kind, chosen, meters, proposal_id, made_by, reason, begun_at,
               per_s, per_gateway_min, bound_percent, state, state_at, used_to)
           VALUES (9, %s, 1, '{}', 1, 1, 'x', 'x', %s, 1, 1, 1, 3, %s, %s)""",
        world.property_id, NOW, NOW, NOW,
    )  # fmt: skip


LASTING: dict[AlertCode, tuple[Callable[[World], object], Callable[[World], object]]] = {
    "approvals.emergency": (
        emergency,
        lambda _world: run_sql("UPDATE proposal SET reviewed_at = %s, reviewed_by = 'user:2'", NOW),
    ),
    "meter.isolated": (
        expired,
        lambda _world: run_sql("DELETE FROM device_certificate"),
    ),
    "meter.never_heard": (
        fitted,
        lambda _world: run_sql("UPDATE commissioning SET heard_at = hear_by"),
    ),
    "concentrator.silent": (
        behind_concentrator,
        lambda _world: run_sql("UPDATE concentrator SET last_seen_at = %s", LATER),
    ),
    "concentrator.isolated": (
        lambda world: (behind_concentrator(world), expired(world, "concentrator")),
        lambda _world: run_sql("DELETE FROM device_certificate"),
    ),
    "meter.not_released": (
        releasing,
        lambda _world: run_sql(
            "UPDATE meter_wallet SET state = 3, ended_at = %s, ended_by = 'user:1', end_note = 'x'",
            NOW,
        ),
    ),
    "supply.usage_while_open": (
        lambda world: world.relay(RelayState.OPEN),
        lambda world: world.relay(RelayState.CLOSED),
    ),
    "supply.relay_departed": (
        lambda world: world.relay(RelayState.OPEN),
        lambda world: world.relay(RelayState.CLOSED),
    ),
    "supply.relay_stuck": (
        under_way,
        lambda _world: run_sql("UPDATE supply_order SET state = 7, finished_at = %s", NOW),
    ),
    "supply.command_refused": (
        lambda world: world.relay(RelayState.OPEN),
        lambda world: world.relay(RelayState.CLOSED),
    ),
    "meter.clock_unmended": (
        lambda world: (
            world.relay(RelayState.CLOSED),
            run_sql("UPDATE meter_link SET clock_drift_s = 400"),
        ),
        lambda _world: run_sql("UPDATE meter_link SET clock_drift_s = 3"),
    ),
    "fleet.bulk_braked": (
        braked,
        lambda _world: run_sql("UPDATE fleet_bulk SET state = 1"),
    ),
    "supply.brake": (brake, lambda _world: run_sql("UPDATE supply_policy SET brake_since = NULL")),
    "notify.unreachable": (
        waits,
        lambda _world: run_sql("UPDATE message SET state = 4, finished_at = %s", NOW),
    ),
    "billing.no_tariff": (lambda _world: None, tariff),
}


@pytest.mark.parametrize("code", list(LASTING))
def test_while_its_cause_lasts_an_alert_is_not_closed_and_then_it_is(code: AlertCode) -> None:
    world = World()
    begin, end = LASTING[code]
    begin(world)
    alert = opened(world, code)
    with pytest.raises(AlertRefused) as refused:
        close_alert(actor=someone(world), alert_id=alert, note="Looked at it", now=LATER)
    assert refused.value.reason == "cause_lasts" and code in world.alerts()
    end(world)
    close_alert(actor=someone(world), alert_id=alert, note="Looked at it", now=LATER)
    assert code not in world.alerts()


def test_who_when_and_why_are_kept_with_the_alert_and_in_the_audit() -> None:
    world = World()
    alert = opened(world, "meter.tamper")
    close_alert(actor=someone(world), alert_id=alert, note=" Seal 4711 is whole ", now=LATER)
    assert found("SELECT closed_at, closed_by, close_note FROM alert") == [
        (LATER, "user:7", "Seal 4711 is whole")
    ]
    assert found(
        """SELECT actor, subject, happened_at, detail ->> 'about', detail ->> 'note'
           FROM audit_event WHERE code = 'notify.alert.closed'"""
    ) == [("user:7", f"meter:{world.meter_ids[0]}", LATER, "meter.tamper", "Seal 4711 is whole")]


def test_what_is_closed_stays_so_whoever_closed_it_and_the_same_trouble_is_a_new_alert() -> None:
    world = World()
    first = opened(world, "meter.foreign_answer")
    close_alert(actor=someone(world), alert_id=first, note="Renewed", now=LATER)
    for who in (7, 8):
        with pytest.raises(AlertRefused) as refused:
            close_alert(actor=someone(world, number=who), alert_id=first, note="Mine", now=LATER)
        assert refused.value.reason == "closed"
    assert found("SELECT closed_by FROM alert") == [("user:7",)]
    assert opened(world, "meter.foreign_answer") != first


@pytest.mark.parametrize("note", ["", "  ", "x" * (NOTE_MAX + 1), "a\x07b"])
def test_without_a_note_that_can_be_read_nothing_is_closed(note: str) -> None:
    world = World()
    alert = opened(world, "meter.tamper")
    with pytest.raises(AlertRefused) as refused:
        close_alert(actor=someone(world), alert_id=alert, note=note, now=LATER)
    assert refused.value.reason == "no_note" and world.alerts() == ["meter.tamper"]


def test_only_an_administrator_of_the_property_closes() -> None:
    world = World()
    alert = opened(world, "meter.tamper")
    for duty in (Duty.OPERATOR, Duty.AUDITOR):
        with pytest.raises(PermissionRefused):
            close_alert(actor=someone(world, duty), alert_id=alert, note="I say so", now=LATER)
    elsewhere = Actor("user:9", Duty.ADMINISTRATOR, (world.property_id + 1,), "", 9)
    with pytest.raises(AlertRefused) as refused:
        close_alert(actor=elsewhere, alert_id=alert, note="I say so", now=LATER)
    assert refused.value.reason == "unknown" and world.alerts() == ["meter.tamper"]


def test_the_database_lets_no_operator_close_in_a_persons_name_and_wants_who_with_why() -> None:
    world = World()
    alert = opened(world, "meter.tamper")
    with pytest.raises(ProgrammingError), scope(someone(world, Duty.OPERATOR)):
        run_sql("UPDATE alert SET closed_at = now(), closed_by = 'user:1', close_note = 'n'")
    with pytest.raises(ProgrammingError), scope(someone(world, Duty.OPERATOR)):
        run_sql(
            """INSERT INTO alert (property_id, code, subject, detail, opened_at, closed_at, closed_by,
                   close_note) VALUES (%s, 'c', 's', '{}', now(), now(), 'user:1', 'n')""",
            world.property_id,
        )
    for half in ("closed_by = 'user:1'", "close_note = 'n'"):
        with pytest.raises(IntegrityError), transaction.atomic():
            run_sql(f"UPDATE alert SET closed_at = now(), {half} WHERE id = {alert}")


def test_every_alert_says_whether_it_ends_by_itself() -> None:
    from prewatt.notify.alerts import PERSONS

    assert set(SUBJECTS) == set(CODES)
    assert {*LASTING, *PERSONS, *OF_CHORES} == set(CODES)
    assert len(LASTING) + len(PERSONS) + len(OF_CHORES) == len(CODES)
