"""Invariant 7 on a real database: any history of readings, payments, holds and relays.

No supply is cut unless every gate holds, every decision is stored with its reason, a held cut is
decided again when its gate opens, and whoever has paid is, or will be, connected.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from tests.supply.world import CLERK, EUR, NOW, World

from prewatt.core.vocabulary import Gate, OrderKind, OrderState, Outcome, Protection, RelayState
from prewatt.supply import operations
from prewatt.supply.orders import OrderBook
from prewatt.supply.tasks import SupplyTask

LIVE = (OrderState.DECIDED, OrderState.SENT, OrderState.ACKNOWLEDGED)
EMERGENCY = 5 * EUR


@dataclass(frozen=True)
class Seen:
    order_id: int
    attempt: int
    meter_id: int
    relay: RelayState
    seen_at: datetime


class Walk:
    """A random history of three accounts, one step at a time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World(
            3,
            emergency_micro=EMERGENCY,
            brake={"cuts_max": 2, "share_bp": 10_000},
            window={"opens_min": 360, "closes_min": 1320, "weekdays": [0, 1, 2, 3, 4, 5]},
        )
        self.now = NOW
        self.book, self.task = OrderBook(CLERK), SupplyTask(CLERK)
        self.money = dict.fromkeys(self.world.account_ids, 20 * EUR)

    def step(self) -> None:
        self.now += timedelta(minutes=self.random.choice([1, 1, 2, 5, 5, 15, 15, 30, 400]))
        account = self.random.choice(self.world.account_ids)
        steps = {
            self.use: 8,
            self.backlog: 1,
            self.pay: 2,
            self.deliver: 4,
            self.tick: 5,
            self.carry: 4,
            self.hold: 1,
            self.release: 1,
            self.protect: 1,
        }
        self.random.choices(list(steps), weights=list(steps.values()))[0](account)

    def use(self, account: int) -> None:
        self.money[account] -= self.random.randint(0, 9 * EUR)
        self.world.read(self.money[account], now=self.now, accounts=[account])

    def backlog(self, account: int) -> None:
        self.money[account] -= self.random.randint(0, 2 * EUR)
        then = self.now - timedelta(days=1)
        self.world.read(
            self.money[account], now=self.now, read_at=then, fresh=False, accounts=[account]
        )

    def pay(self, account: int) -> None:
        # Sometimes too little, sometimes just enough, sometimes plenty.
        target = self.random.choice([-EMERGENCY - EUR, -EMERGENCY + 1, EUR, 20 * EUR])
        amount = max(target - self.money[account], EUR // 10)
        self.money[account] += amount
        self.world.pay(amount, now=self.now, account=account)
        if self.money[account] > -EMERGENCY:
            self.is_or_will_be_on(account)

    def deliver(self, _account: int) -> None:
        self.world.deliver(now=self.now)

    def tick(self, _account: int) -> None:
        self.task.tick(now=self.now, woken=[self.world.property_id])

    def carry(self, _account: int) -> None:
        due = self.book.due(now=self.now, limit=10)
        self.book.mark_sent(order_ids=[each.order_id for each in due], now=self.now)
        seen = []
        for each in due:
            obeys = self.random.random() < 0.7
            if obeys:
                wanted = {OrderKind.CONNECT: RelayState.CLOSED}.get(each.kind, RelayState.OPEN)
                self.world.relay(wanted, meter=self.world.meter_ids.index(each.meter_id))
                seen.append(Seen(each.order_id, each.attempts + 1, each.meter_id, wanted, self.now))
        self.book.mark_read_back(read_backs=seen, now=self.now)

    def hold(self, account: int) -> None:
        operations.place_payment_hold(
            actor=CLERK,
            property_id=self.world.property_id,
            account_ids=[account],
            until=self.now + timedelta(hours=self.random.randint(1, 30)),
            now=self.now,
        )

    def protect(self, account: int) -> None:
        operations.set_protection(
            actor=CLERK,
            property_id=self.world.property_id,
            account_id=account,
            protection=self.random.choice(
                [Protection.NONE, Protection.NONE, Protection.NONE, Protection.FIRE]
            ),
            now=self.now,
        )

    def release(self, account: int) -> None:
        operations.release_payment_hold(
            actor=CLERK, property_id=self.world.property_id, account_ids=[account], now=self.now
        )

    def is_or_will_be_on(self, account: int) -> None:
        live = [
            each
            for each in self.world.orders()
            if each["account_id"] == account and each["state"] in LIVE
        ]
        assert all(each["kind"] == OrderKind.CONNECT for each in live)
        state = self.world.state(account)
        assert state["desired"] == RelayState.CLOSED and not state["held"]

    def check(self) -> None:
        decisions = {each["id"]: each for each in self.world.decisions()}
        for each in decisions.values():
            gates = json.loads(each["gates"]) if isinstance(each["gates"], str) else each["gates"]
            assert each["reason"], "every decision has its reason"
            if each["outcome"] == Outcome.CUT:
                assert len(gates) == len(Gate) and all(gate["open"] for gate in gates)
                assert each["available_micro"] <= -EMERGENCY and not each["would_have"]
            if each["outcome"] == Outcome.HOLD:
                assert any(not gate["open"] for gate in gates)
        for order in self.world.orders():
            cause = decisions[order["decision_id"]]
            if order["state"] == OrderState.WOULD_HAVE:
                assert cause["would_have"] and order["attempts"] == 0
            elif order["kind"] == OrderKind.DISCONNECT:
                assert cause["outcome"] == Outcome.CUT
            else:
                assert cause["outcome"] == Outcome.CONNECT
                assert order["state"] not in (OrderState.EXPIRED, OrderState.FAILED)
        for account in self.world.account_ids:
            state = self.world.state(account)
            assert not state["held"] or self.money[account] <= -EMERGENCY


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("seed", [1, 2, 42])
def test_invariant_7_over_random_histories(seed: int) -> None:
    walk = Walk(seed)
    for number in range(200):
        walk.step()
        if number % 10 == 9:
            walk.check()
    outcomes = {each["outcome"] for each in walk.world.decisions()}
    assert outcomes >= {Outcome.CUT, Outcome.HOLD, Outcome.CONNECT}, "the walk went everywhere"
