"""How many agree, by amount and by day; what one does alone in an emergency; relays by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from tests.approvals.test_two_people import NOW, Office, said, state
from tests.conftest import role_dsn
from tests.invariants.places import one

from prewatt.access.models import Duty, User
from prewatt.access.scope import system_actor
from prewatt.approvals.ladders import LadderRefused, Rung, ladders, wanted_ladder
from prewatt.approvals.operations import (
    Wanted,
    approval_digest,
    break_glass,
    emergency_digest,
    needed_for,
    review,
    wanted_change,
)
from prewatt.core.vocabulary import Outcome, Protection, RelayState
from prewatt.supply.by_agreement import (
    note_emergency,
    remind_of_emergencies,
    wanted_brake,
    wanted_by_hand,
    wanted_protection,
)
from prewatt.supply.operations import SupplyRefused, reconsider_due

pytestmark = pytest.mark.usefixtures("database")
KIND = "vending.refund"
UNIT = 1_000_000


@pytest.fixture
def office(database: str) -> Office:
    """With a third administrator, and an auditor."""
    office = Office()
    office.users["kara"] = office._hire("kara", Duty.ADMINISTRATOR)
    office.users["abel"] = office._hire("abel", Duty.AUDITOR)
    return office


def ladder(office: Office, *rungs: tuple[int, int], kind: str = KIND) -> Wanted:
    return wanted_ladder(
        actor=office.actor("ines"), property_id=office.property_id, kind=kind,
        rungs=[Rung(*each) for each in rungs],
    )  # fmt: skip


def account(office: Office) -> int:
    return int(
        one(
            """SELECT s.account_id FROM supply_state s JOIN account_state a USING (account_id)
               JOIN account c ON c.id = s.account_id AND c.customer_id IS NOT NULL
               JOIN meter_assignment m USING (account_id)
               WHERE s.property_id = %s ORDER BY c.number LIMIT 1""",
            office.property_id,
        )
    )


def test_a_ladder_changes_by_two_people_and_asks_for_more_the_more_it_is(office: Office) -> None:
    def needs(amount: int, kind: str = KIND) -> int:
        wanted = wanted_change(
            kind=kind, property_id=office.property_id, subject="x", effect={"amount": amount}
        )
        return needed_for(actor=office.actor("ines"), wanted=wanted)

    assert [needs(each * UNIT) for each in (0, 200, 201, 10_000, 10_001)] == [0, 0, 1, 1, 2]
    assert needs(0, "supply.rules") == needs(0, "no.such") == 1, "what has no ladder takes another"
    proposal_id = office.ask("ines", ladder(office, (0, 0), (5 * UNIT, 2)))
    assert needs(6 * UNIT) == 0, "not before another agrees"
    with said("own"):
        office.approve(proposal_id, "ines")
    assert office.approve(proposal_id) == 0
    assert needs(6 * UNIT) == 2
    assert ladders(actor=office.actor("ines"), property_id=office.property_id)[KIND] == (
        (0, 0), (5 * UNIT, 2)
    )  # fmt: skip
    for rungs, reason in (
        ([(0, 0), (5 * UNIT, 2)], "same"), ([(1, 0)], "first"), ([(0, 1), (5, 1)], "rising"),
        ([(0, 1), (0, 2)], "rising"), ([(0, 9)], "many"),
    ):  # fmt: skip
        with pytest.raises(LadderRefused, match=reason):
            ladder(office, *rungs)
    with pytest.raises(LadderRefused, match="alone"):
        ladder(office, (0, 0), kind="ledger.credit")


def test_two_who_are_needed_are_two_and_still_administrators_at_the_last_yes(
    office: Office, database: str
) -> None:
    office.approve(office.ask("ines", ladder(office, (0, 2), kind="ledger.credit")))
    # The ladder says two from now on; rules of supply follow none and take one.
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(
            "INSERT INTO amount_limit (property_id, kind, above, approvers) "
            "VALUES (%s, 'supply.brake', 0, 2)",
            [office.property_id],
        )
    proposal_id = office.ask(
        "ines",
        wanted_brake(actor=office.actor("ines"), property_id=office.property_id, release=False),
    )
    assert office.approve(proposal_id, "jonas") == 1
    with said("already"):
        office.approve(proposal_id, "jonas")
    User.objects.filter(pk=office.users["jonas"].pk).update(is_active=False)
    assert office.approve(proposal_id, "kara") == 1, "who has left does not count any more"
    assert state(proposal_id) == "open"
    User.objects.filter(pk=office.users["jonas"].pk).update(is_active=True)
    late = office.users["liv"] = office._hire("liv", Duty.ADMINISTRATOR)
    assert late and office.approve(proposal_id, "liv") == 0
    assert state(proposal_id) == "approved"
    assert one(
        "SELECT brake_since IS NOT NULL FROM supply_policy WHERE property_id = %s",
        office.property_id,
    )


def test_in_an_emergency_one_acts_and_another_says_whether_it_was_right(office: Office) -> None:
    ines, place = office.actor("ines"), office.property_id
    guard = wanted_protection(
        actor=ines, property_id=place, account_id=account(office), protection=Protection.FIRE
    )
    with said("step_up"):
        glass(office, "ines", guard, office.prove("ines", guard.digest))
    proposal_id = glass(office, "ines", guard)
    assert (
        one("SELECT protection FROM supply_state WHERE account_id = %s", account(office)) == "fire"
    )
    assert open_alerts() == 1 and state(proposal_id) == "emergency"
    cut = wanted_by_hand(
        actor=ines, property_id=place, account_id=account(office), relay=RelayState.OPEN,
        until=NOW + timedelta(days=2), now=office.now,
    )  # fmt: skip
    lift = wanted_protection(
        actor=ines, property_id=place, account_id=account(office), protection=Protection.NONE
    )
    for harm in (cut, lift):
        with said("kind"):
            glass(office, "ines", harm)
    with said("own"):
        judge(office, "ines", proposal_id)
    one("UPDATE alert SET closed_at = now() RETURNING 1")
    assert remind_of_emergencies(actor=system_actor("worker", (place,)), now=office.now) == 1
    assert open_alerts() == 1, "closing the alert is not looking at it"
    judge(office, "abel", proposal_id, Duty.AUDITOR)
    assert remind_of_emergencies(actor=system_actor("worker", (place,)), now=office.now) == 0
    assert open_alerts() == 0
    with said("ended"):
        judge(office, "jonas", proposal_id)


def test_a_relay_by_hand_stands_above_the_balance_until_its_instant(office: Office) -> None:
    place, key = office.property_id, account(office)
    one("UPDATE supply_policy SET brake_since = %s RETURNING 1", NOW)

    def wanted(relay: RelayState | None, until: Any) -> Wanted:
        return wanted_by_hand(
            actor=office.actor("ines"), property_id=place, account_id=key, relay=relay, until=until,
            now=office.now,
        )  # fmt: skip

    for until, reason in ((NOW, "late"), (None, "late"), (NOW + timedelta(days=40), "long")):
        with pytest.raises(SupplyRefused, match=reason):
            wanted(RelayState.OPEN, until)
    with pytest.raises(SupplyRefused, match="not_by_hand"):
        wanted(None, None)
    until = NOW + timedelta(hours=2)
    assert office.approve(office.ask("ines", wanted(RelayState.OPEN, until))) == 0
    worker = system_actor("worker", (place,))
    assert reconsider_due(actor=worker, now=office.now) >= 1
    assert decided(key) == (Outcome.CUT, "manual"), "though it has credit, and the brake is on"
    assert reconsider_due(actor=worker, now=until) >= 1
    assert decided(key)[0] in (Outcome.CONNECT, Outcome.KEEP)
    assert one("SELECT desired FROM supply_state WHERE account_id = %s", key) == RelayState.CLOSED


def test_straight_sql_reaches_no_effect_without_its_agreement(
    office: Office, database: str
) -> None:
    key, place = account(office), office.property_id
    before = one("SELECT protection FROM supply_state WHERE account_id = %s", key)
    with psycopg.connect(role_dsn(database, "web"), autocommit=True) as web:
        for role in ("app_operator", "app_admin", "app_auditor"):
            web.execute(f"SET ROLE {role}")
            web.execute("SELECT set_config('prewatt.properties', %s, false)", [f"{{{place}}}"])
            for statement in (
                f"SELECT protect_supply({place}, {key}, 'fire', now())",
                f"SELECT order_by_hand({place}, {key}, now())",
                f"SELECT change_ladder({place}, '{KIND}')",
                f"SELECT take_agreed('{KIND}', {place}, 'x')",
                f"INSERT INTO amount_limit (property_id, kind, above, approvers) VALUES ({place}, 'x', 0, 0)",
                "DELETE FROM proposal_approval",
                # A rehearsal makes the effect, and cannot be committed.
                f"""SELECT rehearse('supply.protection', {place}, 'account:{key}',
                        '{{"before": "{before}", "protection": "fire"}}');
                    SELECT protect_supply({place}, {key}, 'fire', now())""",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    web.execute(statement)
    assert one("SELECT protection FROM supply_state WHERE account_id = %s", key) == before


def test_two_agreements_of_one_transaction_take_two_effects(office: Office, database: str) -> None:
    """An approval and an emergency for one subject: neither is recorded as done by the other's effect."""
    key, place = account(office), office.property_id
    guard = wanted_protection(
        actor=office.actor("ines"), property_id=place, account_id=key, protection=Protection.FIRE
    )
    proposal_id = office.ask("ines", guard)
    digest = approval_digest(actor=office.actor("jonas"), proposal_id=proposal_id)
    yes = office.prove("jonas", digest)
    rescue = office.prove("kara", emergency_digest(wanted=guard))
    with psycopg.connect(role_dsn(database, "web")) as web:
        web.execute("SET ROLE app_admin")
        web.execute("SELECT set_config('prewatt.properties', %s, false)", [f"{{{place}}}"])
        agreed = web.execute(
            "SELECT missing, refusal FROM approve_proposal(%s, %s, %s, %s, %s)",
            [proposal_id, guard.kind, office.users["jonas"].pk, yes, office.now],
        ).fetchone()
        broken = web.execute(
            "SELECT refusal FROM break_glass(%s, %s, %s, %s, 'Smoke', %s, %s, %s)",
            [guard.kind, place, guard.subject, Jsonb(dict(guard.effect)), office.users["kara"].pk,
             rescue, office.now],
        ).fetchone()  # fmt: skip
        assert (agreed, broken) == ((0, None), (None,)), "either is lawful by itself"
        web.execute("SELECT protect_supply(%s, %s, 'fire', %s)", [place, key, office.now])
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is done in the same"):
            web.commit()
    assert state(proposal_id) == "open"
    assert one("SELECT protection FROM supply_state WHERE account_id = %s", key) != "fire"


def glass(office: Office, name: str, wanted: Wanted, step: int | None = None) -> int:
    proof = office.prove(name, emergency_digest(wanted=wanted)) if step is None else step
    proposal_id = break_glass(
        actor=office.actor(name), wanted=wanted, reason="Smoke", step_up_id=proof, now=office.now
    )
    note_emergency(actor=office.actor(name), proposal_id=proposal_id, now=office.now)
    return proposal_id


def judge(office: Office, name: str, proposal_id: int, duty: Duty = Duty.ADMINISTRATOR) -> None:
    actor = office.actor(name, duty)
    review(actor=actor, proposal_id=proposal_id, verdict="agreed", reason="So", now=office.now)


def open_alerts() -> int:
    return int(
        one("SELECT count(*) FROM alert WHERE code = 'approvals.emergency' AND closed_at IS NULL")
    )


def decided(account_id: int) -> tuple[Any, ...]:
    found = one(
        "SELECT ARRAY[outcome::text, reason] FROM supply_decision WHERE account_id = %s ORDER BY id DESC LIMIT 1",
        account_id,
    )
    return Outcome(int(found[0])), found[1]
