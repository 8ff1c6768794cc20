"""Answers in any order: lost, late, told again, told by another meter, before and after restarts.

Whatever comes, an order is verified only by a state that its own meter had after the order's latest
command had gone out.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.supply.world import CLERK, EUR, NOW, World

from prewatt.core.vocabulary import OrderKind, OrderState, RelayState
from prewatt.supply.orders import OrderBook

SEEDS = int(os.environ.get("PREWATT_ANSWER_SEEDS", "2"))
WANTED = {OrderKind.CONNECT: RelayState.CLOSED, OrderKind.DISCONNECT: RelayState.OPEN}


@dataclass(frozen=True)
class Told:
    """An answer as somebody tells it, and by whom and when it was made."""

    order_id: int
    attempt: int
    meter_id: int
    relay: RelayState
    seen_at: datetime
    made_by: int
    made_at: datetime


class Street:
    """Two supplies whose relays are also turned by hand, and a pool of all that was ever told."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World(2, brake={"share_bp": 10_000, "cuts_max": 10_000})
        self.book = OrderBook(CLERK)
        self.now = NOW
        self.relays = dict.fromkeys(self.world.meter_ids, RelayState.CLOSED)
        self.pool: list[Told] = []
        self.verified = 0

    def step(self) -> None:
        self.now += timedelta(seconds=self.random.choice([1, 1, 3, 10]))
        steps = [self.decide, self.send, self.send, self.tell, self.tell, self.tell, self.turn]
        self.random.choice([*steps, self.restart])()

    def decide(self) -> None:
        account = self.random.choice(self.world.account_ids)
        if self.world.state(account)["desired"] == RelayState.OPEN:
            return self.world.pay(EUR, now=self.now, account=account)
        self.world.read(0, now=self.now, accounts=[account])
        self.world.deliver(now=self.now)
        self.world.reconsider(now=self.now)
        return None

    def send(self) -> None:
        due = self.book.due(now=self.now, limit=10)
        self.book.mark_sent(order_ids=[each.order_id for each in due], now=self.now)
        for each in due:
            if self.random.random() < 0.7:
                self.relays[each.meter_id] = WANTED[each.kind]
            made = self.now + timedelta(milliseconds=50)
            relay = self.relays[each.meter_id]
            whose = (each.order_id, each.attempts + 1, each.meter_id)
            self.pool.append(Told(*whose, relay, made, each.meter_id, made))

    def turn(self) -> None:
        meter = self.random.choice(self.world.meter_ids)
        self.relays[meter] = self.random.choice([RelayState.CLOSED, RelayState.OPEN])

    def restart(self) -> None:
        self.book = OrderBook(CLERK)

    def tell(self) -> None:
        """One of all that was ever told, also again, by its own meter or by the other, dated anyhow."""
        if not self.pool:
            return
        told = self.random.choice(self.pool[-6:])
        if self.random.random() < 0.3:
            told = replace(told, meter_id=self.random.choice(self.world.meter_ids))
        if self.random.random() < 0.3:
            told = replace(told, seen_at=self.now)
        before = {each["id"]: each for each in self.world.orders()}
        self.book.mark_acknowledged(answers=[told], now=self.now)
        self.book.mark_read_back(read_backs=[told], now=self.now)
        for order in self.world.orders():
            if order["state"] == before[order["id"]]["state"]:
                continue
            assert told.order_id == order["id"] and told.meter_id == order["meter_id"]
            if order["state"] == OrderState.VERIFIED:
                self.is_true(order, told)

    def is_true(self, order: dict[str, Any], told: Told) -> None:
        self.verified += 1
        assert told.made_by == order["meter_id"], "by a state of its own meter"
        assert told.made_at >= order["sent_at"], "after its latest command"
        assert told.relay == WANTED[OrderKind(order["kind"])]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_interleaving_verifies_an_order_by_a_state_that_was_not_its_meters(seed: int) -> None:
    street = Street(seed)
    for _ in range(150):
        street.step()
    assert street.verified > 3, "the walk came to something"
