"""Supply on a real database: from a crossing to an order, through every gate, and back."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import psycopg
import pytest
from django.db import DatabaseError, connection
from tests.supply.world import CLERK, EUR, NOW, World, run_sql

from agreements import agreed
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, scope
from prewatt.core.vocabulary import (
    DeliveryState,
    Gate,
    OrderKind,
    OrderState,
    Outcome,
    Protection,
    RelayState,
)
from prewatt.ledger.operations import lock_accounts
from prewatt.supply import operations, queries
from prewatt.supply.operations import SupplyRefused
from prewatt.supply.policy import PolicyRefused

pytestmark = pytest.mark.usefixtures("database")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def gates_of(decision: dict[str, object]) -> set[str]:
    stored = decision["gates"]
    parsed = json.loads(stored) if isinstance(stored, str) else stored
    assert isinstance(parsed, list) and len(parsed) in (0, len(Gate))
    return {each["gate"] for each in parsed if not each["open"]}


def test_levels_warn_once_on_the_way_down_and_ingest_is_told_where_to_look_next() -> None:
    world = World(emergency_micro=10 * EUR)
    assert world.read(20 * EUR) == world.account_ids, "the first reading is always looked at"
    assert world.read(6 * EUR) == []
    assert world.read(5 * EUR) == world.account_ids
    assert world.read(3 * EUR) == [], "one warning for one level"
    assert world.read(-EUR) == world.account_ids
    kinds = [each["code"] for each in world.messages()]
    assert kinds == ["supply.warning", "supply.warning"]
    assert [each["urgent"] for each in world.messages()] == [False, True]
    assert world.decisions() == [], "a level is no decision about supply"
    assert world.state()["level"] == 3


def test_no_cut_before_the_warning_is_delivered_then_at_once() -> None:
    world = World()
    world.read(0)
    held = world.decisions()[-1]
    assert held["outcome"] == Outcome.HOLD and gates_of(held) == {"warning_delivered"}
    assert world.orders() == []
    world.reconsider()
    assert len(world.decisions()) == 1, "the same hold is the same decision"
    world.deliver()
    assert world.reconsider() == 1
    decision, order = world.decisions()[-1], world.orders()[-1]
    assert decision["outcome"] == Outcome.CUT and decision["reason"] == "all_gates_open"
    assert (order["kind"], order["state"]) == (OrderKind.DISCONNECT, OrderState.DECIDED)
    assert order["decision_id"] == decision["id"]
    assert world.state()["desired"] == RelayState.OPEN and not world.state()["held"]
    assert world.read(-EUR) == [], "what is ordered is not looked at again"


def test_outside_the_window_a_cut_waits_for_its_instant_and_not_for_a_bell() -> None:
    world = World()
    friday = NOW + 3 * DAY + 8 * HOUR
    world.read(EUR, now=friday - HOUR)
    world.deliver(now=friday - HOUR)
    world.read(0, now=friday)
    world.deliver(now=friday)
    assert world.reconsider(now=friday) == 1
    monday = NOW + 6 * DAY - HOUR
    assert world.state()["reconsider_at"] == monday
    assert world.reconsider(now=monday - MINUTE, woken=False) == 0
    world.read(-EUR, now=monday - MINUTE)
    assert world.reconsider(now=monday, woken=False) == 1
    assert world.decisions()[-1]["outcome"] == Outcome.CUT


def test_a_payment_takes_a_cut_back_at_any_hour() -> None:
    world = World()
    world.cut()
    night = NOW + 14 * HOUR
    world.pay(EUR, now=night)
    first, second = world.orders()
    assert first["state"] == OrderState.SUPERSEDED
    assert (second["kind"], second["state"]) == (OrderKind.CONNECT, OrderState.DECIDED)
    assert second["expires_at"] is None and second["decided_at"] == night
    assert world.state()["desired"] == RelayState.CLOSED


def test_too_little_money_is_told_with_its_shortfall_and_stays_cut() -> None:
    world = World(reconnect_min_micro=2 * EUR)
    world.cut()
    world.relay(RelayState.OPEN)
    finish_orders(world)
    world.pay(EUR)
    assert world.decisions()[-1]["outcome"] == Outcome.STAY_CUT
    assert len(world.orders()) == 1
    world.pay(EUR)
    assert world.decisions()[-1]["outcome"] == Outcome.CONNECT


def finish_orders(world: World) -> None:
    run_sql("UPDATE supply_order SET state = %s, finished_at = %s", OrderState.VERIFIED.value, NOW)


def test_a_warning_from_before_a_payment_does_not_count_after_it() -> None:
    world = World()
    world.read(0)
    world.deliver()
    world.pay(EUR // 10, now=NOW + MINUTE)
    lifted = world.decisions()[-1]
    assert lifted["outcome"] == Outcome.KEEP, "a lifted hold is a decision"
    world.read(-1, now=NOW + 2 * MINUTE)
    assert gates_of(world.decisions()[-1]) == {"warning_delivered"}
    assert world.messages()[-1]["state"] == DeliveryState.PENDING, "and a new warning is on its way"


@pytest.mark.parametrize("gate", [Gate.NOT_PROTECTED, Gate.NO_PAYMENT_IN_FLIGHT])
def test_an_event_opens_its_gate(gate: Gate) -> None:
    world = World()
    key, place = world.account_ids[0], world.property_id
    if gate is Gate.NOT_PROTECTED:
        operations.set_protection(
            actor=CLERK, property_id=place, account_id=key, protection=Protection.LIFT, now=NOW
        )
    else:
        operations.place_payment_hold(
            actor=CLERK, property_id=place, account_ids=[key], until=NOW + HOUR, now=NOW
        )
    world.cut()
    assert gates_of(world.decisions()[-1]) == {gate.word} and world.orders() == []
    if gate is Gate.NOT_PROTECTED:
        operations.set_protection(
            actor=CLERK, property_id=place, account_id=key, protection=Protection.NONE, now=NOW
        )
    else:
        operations.release_payment_hold(actor=CLERK, property_id=place, account_ids=[key], now=NOW)
    assert world.reconsider(woken=False) == 1
    assert world.decisions()[-1]["outcome"] == Outcome.CUT


def test_a_payment_hold_ends_by_time_alone() -> None:
    world = World()
    operations.place_payment_hold(
        actor=CLERK,
        property_id=world.property_id,
        account_ids=world.account_ids,
        until=NOW + HOUR,
        now=NOW,
    )
    world.cut()
    assert world.reconsider(now=NOW + HOUR, woken=False) == 1
    assert world.orders()[0]["kind"] == OrderKind.DISCONNECT
    with pytest.raises(SupplyRefused, match="hold_in_the_past"):
        operations.place_payment_hold(
            actor=CLERK,
            property_id=world.property_id,
            account_ids=world.account_ids,
            until=NOW,
            now=NOW,
        )


def _release(actor: Actor, now: datetime) -> bool:
    place = actor.property_ids[0]
    since = queries.brake_since([place])[place]
    try:
        with agreed("supply.brake", place, "brake:release", {"since": since.isoformat()}):
            operations.release_brake(actor=actor, property_id=place, now=now)
        return True
    finally:
        connection.close()


def test_the_brake_stops_a_mass_cut_and_two_people_release_it(database: str) -> None:
    world = World(12, brake={"window_s": 900, "cuts_max": 3, "share_bp": 10_000})
    world.cut()
    assert len(world.orders()) == 3
    held = [each for each in world.decisions() if each["reason"] == "held_brake_on"]
    assert len(held) == 9 and all(gates_of(each) == {"brake_off"} for each in held)
    assert world.alerts() == ["supply.brake"]
    world.reconsider(now=NOW + 2 * HOUR)
    assert len(world.orders()) == 3, "time alone never releases the brake"
    bela = Actor("user:2", Duty.ADMINISTRATOR, (world.property_id,))
    with pytest.raises(DatabaseError, match="agreement of others"):
        operations.release_brake(actor=bela, property_id=world.property_id, now=NOW)
    world.reconsider()
    assert len(world.orders()) == 3
    with psycopg.connect(database) as decider, ThreadPoolExecutor() as threads:
        # A decision under way has its supplies and comes to the brake next: nobody waits in a circle.
        decider.execute("SELECT FROM supply_state WHERE held FOR NO KEY UPDATE")
        released = threads.submit(_release, bela, NOW + MINUTE)
        while not decider.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall():
            assert not released.done()
        decider.execute("SELECT lock_brake(%s)", [world.property_id])
        decider.commit()
        assert released.result()
    world.reconsider(now=NOW + MINUTE, woken=False)
    assert len(world.orders()) == 6, "released, it counts from zero and stops again"
    with pytest.raises(PermissionRefused):
        operations.release_brake(
            actor=Actor("user:3", Duty.OPERATOR, (world.property_id,)),
            property_id=world.property_id,
            now=NOW,
        )


def test_old_readings_leave_would_have_rows_of_their_own_time_and_send_nothing() -> None:
    world = World()
    then = NOW - 35 * DAY
    world.read(0, read_at=then, fresh=False)
    message, decision, order = world.messages()[0], world.decisions()[0], world.orders()[0]
    assert message["state"] == DeliveryState.WOULD_HAVE and message["created_at"] == then
    assert decision["would_have"] and decision["decided_at"] == then
    assert decision["outcome"] == Outcome.HOLD and gates_of(decision) == {"reading_fresh"}
    assert order["state"] == OrderState.WOULD_HAVE and order["decided_at"] == then
    assert world.state()["desired"] == RelayState.CLOSED
    for day in range(1, 5):
        world.read(-day * EUR, read_at=then + day * DAY, fresh=False)
    assert len(world.messages()) == 1 and len(world.orders()) == 1, "said once"


def test_the_first_live_reading_after_a_backlog_warns_for_real_and_then_cuts() -> None:
    world = World()
    world.read(0, read_at=NOW - 35 * DAY, fresh=False)
    assert world.read(-EUR) == world.account_ids, "still watched"
    assert world.messages()[-1]["state"] == DeliveryState.PENDING
    assert gates_of(world.decisions()[-1]) == {"warning_delivered"}
    world.deliver()
    world.reconsider()
    assert world.decisions()[-1]["outcome"] == Outcome.CUT


def test_a_stale_hold_is_decided_by_the_next_live_reading_itself() -> None:
    world = World()
    world.read(EUR)
    world.read(0)
    world.deliver()
    later = NOW + 3 * HOUR
    world.reconsider(now=later)
    assert "reading_fresh" in gates_of(world.decisions()[-1])
    assert world.orders()[-1]["state"] == OrderState.WOULD_HAVE
    world.read(-EUR, now=later)
    assert world.decisions()[-1]["outcome"] == Outcome.CUT


def test_an_account_without_supply_is_never_decided() -> None:
    world = World(2)
    run_sql("DELETE FROM supply_state WHERE account_id = %s", world.account_ids[1])
    world.read(-EUR)
    world.deliver()
    world.reconsider()
    assert {each["account_id"] for each in world.decisions()} == {world.account_ids[0]}
    assert world.read(-2 * EUR, accounts=[world.account_ids[1]]) == []


def test_rules_that_cannot_be_used_are_refused() -> None:
    world = World()
    for body in (
        {"freshnes_s": 1},
        {"levels": [{"level_no": 0, "kind": "emergency"}]},
        {"window": {"opens_min": 900, "closes_min": 600}},
        {"order": {"attempts_max": 0}},
    ):
        with pytest.raises(PolicyRefused):
            operations.set_policy(actor=CLERK, property_id=world.property_id, body=body, now=NOW)


def test_an_operators_recharge_connects_under_the_operators_own_role() -> None:
    world = World()
    world.cut()
    key = world.account_ids[0]
    # Money comes in by the ledger's pen; here its owner has it in the account at once.
    run_sql("UPDATE account_state SET posted = %s WHERE account_id = %s", EUR, key)
    with scope(Actor("user:9", Duty.OPERATOR, (world.property_id,))):
        lock_accounts([key])
        operations.decide_after_credit(account_ids=[key], now=NOW)
    assert world.decisions()[-1]["outcome"] == Outcome.CONNECT
    assert world.orders()[-1]["kind"] == OrderKind.CONNECT


def test_decisions_cannot_be_changed_by_anybody_but_their_owner(database: str) -> None:
    import psycopg
    from tests.conftest import role_dsn

    World().cut()
    for role in ("clerk", "head_end"):
        refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
        with psycopg.connect(role_dsn(database, role)) as connection, refused:
            connection.execute("UPDATE supply_decision SET reason = 'other'")
