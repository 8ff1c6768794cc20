"""Rules changed by people: two of them, of the version they saw, and every cut that waits decided anew."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from tests.supply.world import CLERK, EUR, NOW, World, run_sql

from agreements import agreed
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused
from prewatt.core.civil_time import instant_us
from prewatt.core.cut_window import usual_week
from prewatt.core.vocabulary import OrderKind, OrderState, RelayState
from prewatt.supply import operations, queries
from prewatt.supply.operations import SupplyRefused
from prewatt.supply.orders import OrderBook
from prewatt.supply.policy import RuleRefused
from prewatt.supply.rules import RulesChanged, change_rules, drafted, wanted_rules

pytestmark = pytest.mark.usefixtures("database")

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
#: Just after midnight, when nobody of these tests is.
AT_NIGHT = {"window": {"opens_min": 0, "closes_min": 60}}


def one(statement: str, *params: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchone()[0]


def admin(world: World, number: int = 1) -> Actor:
    return Actor(f"user:{number}", Duty.ADMINISTRATOR, (world.property_id,))


def version(world: World) -> int:
    return int(one("SELECT version FROM supply_policy WHERE property_id = %s", world.property_id))


def change(world: World, now: datetime = NOW, **body: Any) -> RulesChanged:
    return changed(world, version(world), body, now)


def changed(world: World, number: int, body: dict[str, Any], now: datetime = NOW) -> RulesChanged:
    """A change that was agreed to."""
    with agreed("supply.rules", world.property_id, "rules", {"version": number, "rules": body}):
        return change_rules(
            actor=admin(world), property_id=world.property_id, version=number, body=body,
            reason="because", made_by="user:2", now=now,
        )  # fmt: skip


def orders(kind: OrderKind = OrderKind.DISCONNECT) -> list[OrderState]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT state FROM supply_order WHERE kind = %s ORDER BY id", [int(kind)])
        return [OrderState(row[0]) for row in cursor.fetchall()]


def closed_gate() -> str:
    return str(one("SELECT reason FROM supply_decision ORDER BY id DESC LIMIT 1"))


def exhausted(**policy: Any) -> World:
    """An account at zero that was warned at `NOW`."""
    world = World(1, **policy)
    world.read(0)
    world.deliver()
    return world


def look(world: World, now: datetime) -> None:
    world.read(0, now=now)
    world.reconsider(now=now)


def test_by_default_a_warning_of_a_second_ago_cuts_nobody() -> None:
    world = World(1)
    operations.set_policy(actor=CLERK, property_id=world.property_id, body={}, now=NOW)
    world.read(0)
    told = one("SELECT (detail->>'earliest_cut_us')::bigint FROM message")
    assert told == instant_us(NOW + 4 * HOUR), "the message names no sooner instant"
    world.deliver()
    for later in (timedelta(0), SECOND, HOUR, 4 * HOUR - SECOND):
        look(world, NOW + later)
        assert orders() == [] and closed_gate() == "held_warning_not_delivered", later
    look(world, NOW + 4 * HOUR)
    assert orders() == [OrderState.DECIDED]


def test_a_property_without_stored_rules_gives_the_same_notice() -> None:
    world = World(1)
    run_sql("UPDATE supply_policy SET body = '{}'")
    kept = queries.rules([world.property_id], NOW)[world.property_id]
    run_sql("DELETE FROM supply_policy")
    usual = queries.rules([world.property_id], NOW)[world.property_id]
    assert kept.supply.notice_s == usual.supply.notice_s == 4 * 3600


def test_a_changed_window_holds_a_cut_that_was_due() -> None:
    world = exhausted(notice_s=3600)
    world.reconsider()
    assert one("SELECT reconsider_at FROM supply_state") == NOW + HOUR
    assert change(world, notice_s=3600, **AT_NIGHT) == RulesChanged(3, 1, 0)
    assert one("SELECT held AND reconsider_at = %s FROM supply_state", NOW)
    look(world, NOW + HOUR)
    assert orders() == [] and closed_gate() == "held_window_closed"


def test_a_shorter_notice_lets_a_cut_pass_that_waited_for_it() -> None:
    world = exhausted(notice_s=4 * 3600)
    world.reconsider()
    assert orders() == []
    change(world, notice_s=0)
    world.reconsider(now=NOW + SECOND)
    assert orders() == [OrderState.DECIDED]


def test_a_cut_that_was_not_sent_yet_is_called_back_and_one_that_was_is_not() -> None:
    world = exhausted()
    world.reconsider()
    assert orders() == [OrderState.DECIDED]
    assert change(world, notice_s=0, **AT_NIGHT).called_back == 1
    assert one("SELECT desired = %s AND held FROM supply_state", int(RelayState.CLOSED))
    look(world, NOW + SECOND)
    assert orders() == [OrderState.SUPERSEDED] and closed_gate() == "held_window_closed"
    change(world, notice_s=0)
    look(world, NOW + 2 * SECOND)
    due = OrderBook(CLERK).due(now=NOW + 2 * SECOND, limit=9)
    OrderBook(CLERK).mark_sent(order_ids=[due[0].order_id], now=NOW + 2 * SECOND)
    assert change(world, notice_s=0, **AT_NIGHT).called_back == 0
    assert orders() == [OrderState.SUPERSEDED, OrderState.SENT]


def test_a_cut_that_was_not_carried_out_is_not_sent_after_the_permitted_hours() -> None:
    world = exhausted()
    late, closing = NOW + timedelta(hours=4, minutes=30), NOW + timedelta(hours=5)
    look(world, late)
    assert one("SELECT expires_at FROM supply_order") == closing
    assert len(OrderBook(CLERK).due(now=closing - SECOND, limit=9)) == 1
    assert OrderBook(CLERK).due(now=closing, limit=9) == []
    world.read(0, now=closing)
    OrderBook(CLERK).expire(now=closing)
    assert orders() == [OrderState.EXPIRED] and closed_gate() == "held_window_closed"
    assert one("SELECT reconsider_at FROM supply_state") == NOW + timedelta(hours=23)


def test_who_is_cut_is_connected_when_the_line_falls() -> None:
    world = World(1, emergency_micro=10 * EUR, emergency_must_be_repaid=True)
    world.read(-10 * EUR)
    world.deliver()
    world.reconsider()
    due = OrderBook(CLERK).due(now=NOW, limit=9)
    OrderBook(CLERK).mark_sent(order_ids=[due[0].order_id], now=NOW)
    run_sql("UPDATE supply_order SET state = %s, finished_at = %s", int(OrderState.VERIFIED), NOW)
    world.relay(RelayState.OPEN)
    world.pay(4 * EUR)
    assert orders(OrderKind.CONNECT) == []
    change(world, notice_s=0)
    world.reconsider(now=NOW + SECOND)
    assert orders(OrderKind.CONNECT) == [OrderState.DECIDED]


def test_every_account_is_looked_at_by_the_new_levels() -> None:
    world = World(1)
    world.read(50 * EUR)
    assert world.read(20 * EUR) == []
    levels = [{"level_no": 1, "kind": "money", "threshold_micro": 30 * EUR}, {"level_no": 3, "kind": "exhausted"}]  # fmt: skip
    change(world, notice_s=0, levels=levels)
    assert world.read(20 * EUR) == world.account_ids
    assert one("SELECT detail->>'level_no' FROM message") == "1"


def test_what_was_before_and_after_and_who_agreed_is_kept() -> None:
    world = World(1)
    change(world, notice_s=7200)
    actor, detail = one(
        "SELECT ARRAY[actor, detail::text] FROM audit_event WHERE code = 'supply.rules.changed'"
    )
    assert actor == "user:2"
    for part in ('"approved_by": "user:1"', '"reason": "because"', '"before": {"notice_s": 0}', '"after": {"notice_s": 7200}'):  # fmt: skip
        assert part in detail


@pytest.mark.parametrize(
    ("reason", "given"),
    [
        ("stale", {"version": 7}),
        ("stale", {"version": 0}),
        ("same_rules", {"body": {"notice_s": 0}}),
    ],
)
def test_what_is_refused_changes_nothing(reason: str, given: dict[str, Any]) -> None:
    world = World(1)
    asked = {"version": 2, "body": {"notice_s": 60}}
    with pytest.raises(SupplyRefused) as refused:
        wanted_rules(
            actor=admin(world), property_id=world.property_id, now=NOW, **(asked | given)
        )  # fmt: skip
    assert refused.value.reason == reason
    assert queries.stored_rules(world.property_id)[:2] == (2, {"notice_s": 0})
    assert one("SELECT count(*) FROM audit_event WHERE code = 'supply.rules.changed'") == 0


def test_of_two_changes_of_one_version_the_second_is_refused() -> None:
    world = World(1)
    change(world, notice_s=60)
    with pytest.raises(SupplyRefused, match="stale"):
        changed(world, 2, {"notice_s": 120})
    assert queries.stored_rules(world.property_id).body == {"notice_s": 60}


def test_operators_auditors_and_people_of_elsewhere_are_refused() -> None:
    world = World(1)
    here, elsewhere = (world.property_id,), (world.property_id + 1,)
    for actor in (
        Actor("user:1", Duty.OPERATOR, here),
        Actor("user:1", Duty.AUDITOR, here),
        Actor("user:1", Duty.ADMINISTRATOR, elsewhere),
    ):
        with pytest.raises(PermissionRefused):
            change_rules(
                actor=actor, property_id=world.property_id, version=2, body={"notice_s": 60},
                reason="because", made_by="user:2", now=NOW,
            )  # fmt: skip
    assert version(world) == 2


def test_the_database_asks_for_what_was_agreed_to_and_for_the_right_role() -> None:
    world = World(1)
    call = "SELECT change_supply_rules(%s, 2, '{}', now())"
    tries = [
        *((role, call, [world.property_id]) for role in ("app_admin", "app_operator", "head_end")),
        ("app_admin", "UPDATE supply_policy SET body = %s WHERE property_id = %s", ["{}", world.property_id]),
    ]  # fmt: skip
    for role, statement, params in tries:
        with pytest.raises(DatabaseError):
            _as_role(role, world.property_id, statement, params)
    assert version(world) == 2


def _as_role(role: str, place: int, statement: str, params: list[Any]) -> Any:
    """What a statement answers a duty that is at one property."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('prewatt.properties', %s, true)", [f"{{{place}}}"])
        cursor.execute(f"SET LOCAL ROLE {role}")
        cursor.execute(statement, params)
        return cursor.fetchone()[0]


LEVELS = [{"level_no": 0, "kind": "days", "threshold_h": 24}, {"level_no": 1, "kind": "days", "threshold_h": 48}, {"level_no": 2, "kind": "exhausted"}]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "body"),
    [
        ("notice_s", {"notice_s": -1}),
        ("notice_s", {"notice_s": 7 * 86_400 + 1}),
        ("notice_s", {"notice_s": True}),
        ("notice_s", {"notice_s": 0.5}),
        ("trying_s", {"notice_s": 90_000}),
        ("window", {"window": {"weekdays": []}}),
        ("window", {"window": {"rest_lead_min": 7 * 1440}}),
        ("freshness_s", {"freshness_s": 0}),
        ("reconnect_min_micro", {"reconnect_min_micro": -1}),
        ("brake", {"brake": [1]}),
        ("brake.cuts_max", {"brake": {"cuts_max": 0}}),
        ("brake.share_bp", {"brake": {"share_bp": 10_001}}),
        ("brake.window_s", {"brake": {"window_s": 0}}),
        ("levels.days", {"levels": LEVELS}),
    ],
)
def test_rules_that_nobody_may_set_are_refused_with_their_place(
    place: str, body: dict[str, Any]
) -> None:
    world = World(1)
    with pytest.raises(RuleRefused) as refused:
        drafted(actor=admin(world), property_id=world.property_id, body=body, now=NOW)
    assert refused.value.place == place


def test_the_usual_week_is_what_the_rule_says() -> None:
    world = World(1)
    rules = drafted(
        actor=admin(world), property_id=world.property_id, now=NOW,
        body={"window": {"weekdays": [0, 1, 3, 4], "rest_lead_min": 10 * 60}},
    )  # fmt: skip
    whole, short = ((540, 900),), ((540, 840),)
    # Ten hours before midnight, so from 14:00 on, where a day without cuts follows.
    assert usual_week(rules.supply.window) == (whole, short, (), whole, short, (), ())
