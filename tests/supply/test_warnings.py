"""Warnings that wait while the balance moves: only what is true goes out, and it does go out."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from tests.supply.world import CLERK, EUR, NOW, World, run_sql

from prewatt.core.civil_time import instant_us
from prewatt.core.vocabulary import DeliveryState, OrderKind, RelayState
from prewatt.ledger.operations import lock_accounts
from prewatt.reports.rules import cut_rules
from prewatt.runtime.prepared import fetch
from prewatt.supply import operations

pytestmark = pytest.mark.usefixtures("database")
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
#: 23:00 in Berlin, when what is not urgent waits for 08:00.
NIGHT = NOW + 13 * HOUR
MORNING = NOW + 22 * HOUR
EMERGENCY = 3 * EUR
LEVELS = [
    {"level_no": 0, "kind": "money", "threshold_micro": 5 * EUR},
    {"level_no": 1, "kind": "emergency"},
    {"level_no": 2, "kind": "exhausted"},
]
AMOUNT = {"money": 5 * EUR, "emergency": 0, "exhausted": -EMERGENCY}


def place(accounts: int = 1) -> World:
    world = World(accounts, emergency_micro=EMERGENCY, levels=LEVELS)
    world.read(20 * EUR)
    return world


def waiting(world: World, account: int | None = None) -> list[dict[str, Any]]:
    return [
        each | {"detail": json.loads(each["detail"])}
        for each in world.messages()
        if each["finished_at"] is None and account in (None, each["account_id"])
    ]


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    return [each["detail"]["level_kind"] for each in messages]


@pytest.mark.parametrize(
    ("falls_to", "pays", "goes_out"),
    [
        pytest.param(4 * EUR, 10 * EUR, [], id="enough"),
        pytest.param(4 * EUR, 1 * EUR + 1, [], id="just enough"),
        pytest.param(4 * EUR, 1 * EUR, ["money"], id="exactly at the level is still low"),
        pytest.param(2 * EUR, 1 * EUR, ["money"], id="not enough"),
        pytest.param(-EUR, 3 * EUR, ["money"], id="out of emergency credit, still low"),
        pytest.param(-EUR, EUR // 2, ["emergency"], id="still in emergency credit"),
        pytest.param(-4 * EUR, 2 * EUR, ["emergency"], id="part of emergency credit again"),
        pytest.param(-4 * EUR, 6 * EUR, ["money"], id="all of emergency credit, still low"),
        pytest.param(-4 * EUR, EUR, ["exhausted"], id="too little to end the exhaustion"),
        pytest.param(-4 * EUR, 20 * EUR, [], id="from the bottom to plenty"),
    ],
)
def test_money_in_the_night_leaves_the_one_warning_that_is_true(
    falls_to: int, pays: int, goes_out: list[str]
) -> None:
    world = place()
    world.read(falls_to, now=NIGHT)
    assert len(waiting(world)) == 1
    world.pay(pays, now=NIGHT + HOUR)
    after = waiting(world)
    assert kinds(after) == goes_out
    assert [each["detail"]["available_micro"] for each in after] == [falls_to + pays] * len(after)
    assert [each["due_at"] for each in after if not each["urgent"]] == [MORNING] * kinds(
        after
    ).count("money")
    # One from before the payment could not count as a warning for a cut after it.
    made_at = NIGHT if goes_out == ["exhausted"] else NIGHT + HOUR
    assert all(each["created_at"] == made_at for each in after)
    # And when it falls again, a warning goes out again.
    world.deliver(now=MORNING)
    world.read(-5 * EUR, now=MORNING + HOUR)
    again = waiting(world)
    assert kinds(again) == ([] if goes_out == ["exhausted"] else ["exhausted"])


@pytest.mark.parametrize(
    ("falls_to", "per_day", "protection", "expected"),
    [
        # What is left of emergency credit lasts 32 hours, to Wednesday 18:00, after the window.
        pytest.param(-EUR, EUR * 3 // 2, "none", datetime(2026, 11, 26, 8, tzinfo=UTC), id="later"),
        pytest.param(-EUR, 2 * EUR, "none", NOW + timedelta(days=1), id="in the window"),
        pytest.param(-EUR, 0, "none", None, id="no pace is known"),
        pytest.param(-EUR, EUR, "medical", None, id="protected"),
        pytest.param(-EMERGENCY, EUR, "none", NOW, id="used up, and the window is open"),
    ],
)
def test_no_cut_is_told_of_while_emergency_credit_lasts_and_the_page_says_the_same(
    falls_to: int, per_day: int, protection: str, expected: datetime | None
) -> None:
    world = place()
    run_sql("UPDATE account_state SET spend_per_day = %s", per_day)
    run_sql("UPDATE supply_state SET protection = %s", protection)
    world.read(falls_to)
    (found,) = (each for each in waiting(world) if each["detail"]["level_kind"] != "money")
    us = found["detail"]["earliest_cut_us"]
    assert us == (None if expected is None else instant_us(expected))
    if protection == "none":
        page = cut_rules(world.property_id, NOW).earliest_cut(NOW, falls_to + EMERGENCY, per_day)
        assert page == expected


def test_a_payment_that_ends_nothing_keeps_the_tries_that_were_made() -> None:
    world = place()
    world.read(-4 * EUR, now=NIGHT)
    run_sql("UPDATE message SET state = %s, all_tried_at = %s", DeliveryState.RETRYING, NIGHT)
    before = waiting(world)[0]
    world.pay(EUR // 2, now=NIGHT + HOUR)
    (after,) = waiting(world)
    assert after["detail"].pop("available_micro") == -4 * EUR + EUR // 2
    assert before["detail"].pop("available_micro") == -4 * EUR
    assert after == before, "only its figures are new"


def test_a_deeper_level_takes_the_place_of_the_warning_that_waits() -> None:
    world = place()
    world.read(4 * EUR, now=NIGHT)
    world.read(-EUR, now=NIGHT + HOUR)
    assert kinds(waiting(world)) == ["emergency"], "nobody reads of €4.00 in the morning"
    assert world.messages()[0]["state"] == DeliveryState.CANCELLED


def test_what_has_been_delivered_is_neither_withdrawn_nor_said_again() -> None:
    world = place()
    world.read(4 * EUR)
    world.deliver()
    world.pay(EUR // 2, now=NOW + HOUR)
    assert [each["state"] for each in world.messages()] == [DeliveryState.DELIVERED]


def test_a_payment_touches_the_warnings_of_its_own_account_alone() -> None:
    world = place(2)
    world.read(4 * EUR, now=NIGHT)
    world.pay(10 * EUR, now=NIGHT + HOUR)
    assert [each["account_id"] for each in waiting(world)] == [world.account_ids[1]]


def test_a_set_of_payments_asks_once_and_only_where_a_level_had_fired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = place(8)
    asked: list[str] = []

    def counted(statement: str, parameters: Any) -> Any:
        asked.append(statement)
        return fetch(statement, parameters)

    monkeypatch.setattr("prewatt.notify.queries.fetch", counted)

    def statements(ids: list[int]) -> int:
        asked.clear()
        with CaptureQueriesContext(connection) as context, transaction.atomic():
            lock_accounts(ids)
            operations.decide_after_credit(account_ids=ids, now=NOW)
        said = [*asked, *(each["sql"] for each in context.captured_queries)]
        return sum("message" in each for each in said)

    assert statements(world.account_ids) == 0, "nobody is low"
    world.read(4 * EUR)
    world.deliver()
    assert statements(world.account_ids[:1]) == statements(world.account_ids) == 1


def test_a_correction_that_lifts_the_balance_withdraws_as_a_payment_does() -> None:
    world = place()
    world.read(4 * EUR, now=NIGHT)
    run_sql("UPDATE account_state SET posted = %s", 20 * EUR)
    operations.look_again(actor=CLERK, account_ids=world.account_ids, now=NIGHT + HOUR)
    assert waiting(world) == []


def test_a_new_pace_that_fires_a_level_in_days_leaves_one_warning_of_the_deepest_level() -> None:
    days = {"level_no": 3, "kind": "days", "threshold_h": 72}
    world = World(1, emergency_micro=EMERGENCY, levels=[*LEVELS, days])
    world.read(4 * EUR, now=NIGHT)
    run_sql("UPDATE account_state SET spend_per_day = %s", 3 * EUR)
    operations.look_again(actor=CLERK, account_ids=world.account_ids, now=NIGHT + HOUR)
    (after,) = waiting(world)
    assert (after["detail"]["level_kind"], after["detail"]["days_left_h"]) == ("money", 32)


class Model:
    """One account by a plain rule: a level warns once on the way down, and again after a payment."""

    def __init__(self) -> None:
        self.money = 20 * EUR
        self.armed = set(AMOUNT)
        self.owed: str | None = None

    def falls(self, by: int) -> None:
        self.money -= by
        reached = {kind for kind in self.armed if self.money <= AMOUNT[kind]}
        self.armed -= reached
        if reached:
            self.owed = min(reached, key=AMOUNT.__getitem__)

    def gets(self, amount: int) -> None:
        self.money += amount
        self.armed |= {kind for kind in AMOUNT if self.money > AMOUNT[kind]}
        low = set(AMOUNT) - self.armed
        if self.owed is not None:
            self.owed = min(low, key=AMOUNT.__getitem__, default=None)

    def hears(self) -> None:
        self.owed = None


@pytest.mark.parametrize("seed", range(6))
def test_over_any_history_what_waits_is_what_is_owed(seed: int) -> None:
    rng, world, now = random.Random(seed), place(4), NIGHT
    models = {account: Model() for account in world.account_ids}
    withdrawn = 0
    for _ in range(120):
        now += rng.choice([MINUTE, HOUR, 5 * HOUR])
        account = rng.choice(world.account_ids)
        model = models[account]
        step = rng.choices(["falls", "gets", "hears"], [5, 4, 1])[0]
        if step == "falls":
            depth = rng.choice([8, 5, 3, 0, -1, -3, -5]) * EUR
            model.falls(max(model.money - depth, rng.randint(1, EUR)))
            world.read(model.money, now=now, accounts=[account])
        elif step == "gets":
            plenty = max(12 * EUR - model.money, EUR)
            amount = rng.choice([EUR // 10, 2 * EUR, 5 * EUR, plenty, plenty])
            model.gets(amount)
            world.pay(amount, now=now, account=account)
            assert all(
                each["detail"]["available_micro"] == model.money for each in waiting(world, account)
            ), "after a payment nobody is told an older figure"
        else:
            for each in models.values():
                each.hears()
            world.deliver(now=now)
        found = {key: kinds(waiting(world, key)) for key in models}
        assert found == {
            key: [] if each.owed is None else [each.owed] for key, each in models.items()
        }
        withdrawn = sum(each["state"] == DeliveryState.CANCELLED for each in world.messages())
    assert withdrawn > 5, "the walk went everywhere"


def take_back(world: World, to: int, *, now: datetime) -> None:
    """Lower the wallet as vending does when a recharge is taken back."""
    with transaction.atomic():
        lock_accounts(world.account_ids)
        run_sql(
            "UPDATE account_state SET posted = %s WHERE account_id = ANY(%s)", to, world.account_ids
        )
        operations.decide_after_taking_back(account_ids=world.account_ids, now=now)


def cuts(world: World) -> int:
    return len([each for each in world.orders() if each["kind"] == OrderKind.DISCONNECT.value])


def test_nobody_is_cut_for_a_recharge_taken_back_before_a_warning_of_it_arrived() -> None:
    """Every other gate is open, and an older warning was delivered: that one does not count."""
    world = World(emergency_micro=EMERGENCY, levels=LEVELS, notice_s=7_200)
    world.read(4 * EUR, now=NOW - 3 * HOUR)
    world.deliver(now=NOW - 3 * HOUR)
    world.read(3 * EUR, now=NOW)
    take_back(world, -EMERGENCY, now=NOW)
    (fresh,) = waiting(world)
    assert (kinds([fresh]), fresh["urgent"], cuts(world)) == (["exhausted"], True, 0)
    assert fresh["detail"]["available_micro"] == -EMERGENCY
    world.read(-EMERGENCY - 1, now=NOW + MINUTE)
    world.reconsider(now=NOW + MINUTE)
    assert cuts(world) == 0, "nothing has arrived"
    world.deliver(now=NOW + 2 * MINUTE)
    world.read(-EMERGENCY - 2, now=NOW + HOUR)
    world.reconsider(now=NOW + HOUR)
    assert cuts(world) == 0, "the property's notice runs from the new warning"
    world.read(-EMERGENCY - 3, now=NOW + 2 * HOUR + 3 * MINUTE)
    world.reconsider(now=NOW + 2 * HOUR + 3 * MINUTE)
    assert cuts(world) == 1


def test_a_warning_that_waits_gives_way_to_one_that_knows_of_what_was_taken_back() -> None:
    world = place()
    world.read(-EMERGENCY, now=NIGHT)
    (before,) = waiting(world)
    world.pay(EUR, now=NIGHT + HOUR)
    take_back(world, -EMERGENCY, now=NIGHT + 2 * HOUR)
    (after,) = waiting(world)
    assert after["id"] != before["id"] and kinds([after]) == ["exhausted"]
    world.deliver(now=NIGHT + 3 * HOUR)
    world.read(-EMERGENCY - 1, now=MORNING + 2 * HOUR)
    world.reconsider(now=MORNING + 2 * HOUR)
    assert cuts(world) == 1, "and it counts"


def test_who_is_cut_already_is_not_warned_of_a_cut() -> None:
    world = place()
    world.read(-EMERGENCY)
    world.deliver()
    world.reconsider()
    world.relay(RelayState.OPEN)
    run_sql("UPDATE account_state SET posted = posted + 1")
    take_back(world, -EMERGENCY, now=NOW + 2 * MINUTE)
    assert waiting(world) == [] and cuts(world) == 1


def test_readings_that_are_old_keep_nobody_from_hearing_of_what_was_taken_back() -> None:
    world = place()
    world.read(4 * EUR, now=NOW, read_at=NOW)
    later = NOW + 3 * HOUR
    take_back(world, -EMERGENCY, now=later)
    (fresh,) = waiting(world)
    assert kinds([fresh]) == ["exhausted"] and fresh["created_at"] == later
    world.deliver(now=later)
    world.reconsider(now=later + MINUTE)
    assert cuts(world) == 0, "no cut on old readings"
    world.read(-EMERGENCY - 1, now=later + 2 * MINUTE)
    assert cuts(world) == 1, "the first live reading is looked at"
