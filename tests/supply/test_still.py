"""Accounts that stand still are left out of a look, and the look makes of everybody what it would have made."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from tests.supply.world import CLERK, EUR, NOW, World, run_sql

from prewatt.core.vocabulary import RelayState
from prewatt.supply import operations
from prewatt.supply.still import Still, find_still

pytestmark = pytest.mark.usefixtures("database")
LATER = NOW + timedelta(hours=1)
EMERGENCY = 3 * EUR


def lived(accounts: int, seed: int) -> World:
    """Accounts at all levels, cut and held ones among them, after a day has gone over them."""
    draw = random.Random(seed)
    world = World(accounts, emergency_micro=EMERGENCY)
    for account_id in world.account_ids:
        world.read(draw.randint(-4, 20) * EUR, accounts=[account_id])
    world.deliver()
    world.reconsider()
    for number, account_id in enumerate(world.account_ids):
        run_sql(
            """UPDATE account_state SET posted = posted - %s, spend_per_day = %s, last_interval_at = %s
               WHERE account_id = %s""",
            draw.choice([0, 0, 0, EUR // 2, 4 * EUR]),
            draw.choice([0, EUR // 4, EUR, 3 * EUR]),
            draw.choice([NOW, NOW, NOW - timedelta(days=9)]),
            account_id,
        )
        if draw.random() < 0.2:
            world.relay(draw.choice([RelayState.OPEN, RelayState.UNKNOWN]), meter=number)
        if draw.random() < 0.1:
            run_sql("DELETE FROM supply_state WHERE account_id = %s", account_id)
        if draw.random() < 0.1:
            run_sql("UPDATE account_state SET watch_below = 2^62 WHERE account_id = %s", account_id)
    return world


def looked_at(world: World) -> list[list[tuple[Any, ...]]]:
    """What a look leaves behind; the look itself is taken back."""
    with transaction.atomic():
        operations.look_again(actor=CLERK, account_ids=world.account_ids, now=LATER)
        left = []
        for statement in (
            # What was decided last of somebody of whom nothing is decided is asked of nobody.
            """SELECT account_id, desired, fired_mask, would_mask, level, level_fired_at, held,
                      reconsider_at, CASE WHEN outcome IN (2, 5) THEN (outcome, reason, closed_gates) END
               FROM supply_state ORDER BY 1""",
            "SELECT account_id, available, watch_below FROM account_state ORDER BY 1",
            """SELECT account_id, outcome, reason, gates, would_have, trigger FROM supply_decision
               ORDER BY account_id, id""",
            "SELECT account_id, meter_id, kind, state, reason FROM supply_order ORDER BY 1, 2, id",
            "SELECT account_id, code, detail, state FROM message ORDER BY account_id, id",
        ):
            with connection.cursor() as cursor:
                cursor.execute(statement)
                left.append(cursor.fetchall())
        transaction.set_rollback(True)
    return left


def test_leaving_out_whoever_stands_still_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = lived(40, seed=7)
    with transaction.atomic():
        still = find_still(world.account_ids, LATER)
    assert 8 < len(still) < 32, "some stand still and some do not"
    quickly = looked_at(world)

    def nobody(*_: object) -> list[Still]:
        return []

    monkeypatch.setattr(operations, "find_still", nobody)
    assert looked_at(world) == quickly


def test_nobody_stands_still_before_a_first_look_by_new_rules() -> None:
    world = World(2)
    world.read(20 * EUR)
    with transaction.atomic():
        assert len(find_still(world.account_ids, LATER)) == 2
    operations.set_policy(
        actor=CLERK, property_id=world.property_id, body={"notice_s": 60}, now=NOW
    )
    with transaction.atomic():
        assert find_still(world.account_ids, LATER) == []
    operations.look_again(actor=CLERK, account_ids=world.account_ids, now=LATER)
    with transaction.atomic():
        assert len(find_still(world.account_ids, LATER)) == 2
