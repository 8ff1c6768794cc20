"""Relays that read otherwise than was decided: put right through the gates, at once where it is dark."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.supply.world import CLERK, EUR, NOW, World, run_sql

from prewatt.core.vocabulary import OrderKind, OrderState, Outcome, Protection, RelayState
from prewatt.supply import operations
from prewatt.supply.orders import OrderBook
from prewatt.supply.tasks import SupplyTask

pytestmark = pytest.mark.usefixtures("database")
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
OPEN, CLOSED = RelayState.OPEN, RelayState.CLOSED


@dataclass(frozen=True)
class Seen:
    order_id: int
    attempt: int
    meter_id: int
    relay: RelayState
    seen_at: datetime


class House:
    """A world with a worker, and a meter that does what it is told."""

    def __init__(self, accounts: int = 1, **policy: Any) -> None:
        self.world = World(accounts, brake={"share_bp": 10_000}, **policy)
        self.task, self.book = SupplyTask(CLERK), OrderBook(CLERK)
        self.task.tick(now=NOW)

    def carry(self, now: datetime) -> list[OrderKind]:
        """Carry every due order to its meter and back."""
        due = self.book.due(now=now, limit=100)
        self.book.mark_sent(order_ids=[each.order_id for each in due], now=now)
        for each in due:
            relay = CLOSED if each.kind is OrderKind.CONNECT else OPEN
            self.world.relay(relay, meter=self.world.meter_ids.index(each.meter_id))
            seen = Seen(each.order_id, each.attempts + 1, each.meter_id, relay, now)
            self.book.mark_read_back(read_backs=[seen], now=now)
        return [each.kind for each in due]

    def ring(self, now: datetime) -> None:
        """A relay turned, and the worker is told."""
        self.task.tick(now=now, woken=[self.world.property_id])

    def last_order(self) -> tuple[Any, Any]:
        order = self.world.orders()[-1]
        return order["kind"], order["state"]


def cut_house(**policy: Any) -> House:
    house = House(**policy)
    house.world.cut()
    assert house.carry(NOW) == [OrderKind.DISCONNECT]
    assert house.last_order() == (OrderKind.DISCONNECT, OrderState.VERIFIED)
    return house


def test_a_relay_that_was_closed_by_hand_after_a_cut_is_cut_again_through_all_gates() -> None:
    house = cut_house()
    at = NOW + 10 * MINUTE
    house.world.read(-EUR, now=at)
    house.world.relay(CLOSED)
    house.ring(at)
    assert house.world.alerts() == ["supply.relay_departed"]
    decision = house.world.decisions()[-1]
    assert (decision["outcome"], decision["trigger"]) == (Outcome.CUT, "relay")
    assert len(decision["gates"]) and house.last_order() == (
        OrderKind.DISCONNECT,
        OrderState.DECIDED,
    )
    house.ring(at + SECOND)
    assert len(house.world.orders()) == 2, "what is under way is left alone"
    assert house.carry(at + SECOND) == [OrderKind.DISCONNECT]
    house.ring(at + 2 * SECOND)
    assert house.world.alerts() == []


@pytest.mark.parametrize("gate", ["protected", "at night", "payment in flight", "readings are old"])
def test_a_relay_that_is_closed_is_not_cut_while_a_gate_holds(gate: str) -> None:
    house = cut_house()
    account, at = house.world.account_ids[0], NOW + 10 * MINUTE
    if gate == "at night":
        at = NOW + 12 * HOUR
    if gate == "protected":
        operations.set_protection(
            actor=CLERK, property_id=house.world.property_id, account_id=account,
            protection=Protection.MEDICAL, now=NOW,
        )  # fmt: skip
    if gate == "payment in flight":
        operations.place_payment_hold(
            actor=CLERK, property_id=house.world.property_id, account_ids=[account],
            until=at + HOUR, now=NOW,
        )  # fmt: skip
    if gate == "readings are old":
        at = NOW + 2 * HOUR
    else:
        house.world.read(-EUR, now=at)
    house.world.relay(CLOSED)
    for _ in range(3):
        house.ring(at)
        at += MINUTE
    sent = [each for each in house.world.orders() if each["state"] != OrderState.WOULD_HAVE]
    assert len(sent) == 1
    assert [d["outcome"] for d in house.world.decisions()][-1] == Outcome.HOLD
    assert house.world.alerts() == ["supply.relay_departed"]
    assert len([d for d in house.world.decisions() if d["outcome"] == Outcome.HOLD]) <= 2


@pytest.mark.parametrize("protection", ["", "medical"])
def test_an_open_relay_that_nobody_decided_is_closed_at_once_at_night_and_on_old_readings(
    protection: str,
) -> None:
    house = House()
    house.world.read(20 * EUR)
    at = NOW + 13 * HOUR
    house.world.relay(OPEN)
    # One that opened above its power limit closes by itself within its time: only then nobody decided it.
    run_sql(
        """INSERT INTO instruction_state (meter_id, property_id, known_hash, limit_w, limit_s)
           VALUES (%s, %s, '', 4600, 300)""",
        house.world.meter_ids[0], house.world.property_id,
    )  # fmt: skip
    run_sql("UPDATE meter_link SET relay_since = %s", at - 8 * MINUTE)
    run_sql("UPDATE supply_state SET protection = %s", protection)
    house.ring(at - 2 * MINUTE)
    if protection:
        assert house.last_order() == (OrderKind.CONNECT, OrderState.DECIDED), "it waits for no time"
        return
    assert not house.world.orders() and not house.world.alerts()
    house.ring(at)
    assert house.last_order() == (OrderKind.CONNECT, OrderState.DECIDED)
    assert house.world.decisions()[-1]["reason"] == "relay_departed"
    assert house.world.orders()[-1]["decided_at"] == at
    assert house.carry(at) == [OrderKind.CONNECT]
    house.ring(at + SECOND)
    assert house.world.alerts() == []


def test_whoever_has_no_credit_but_was_not_cut_by_anybody_gets_light_and_a_fair_cut_later() -> None:
    house = House()
    house.world.read(-EUR, now=NOW)
    house.world.relay(OPEN)
    house.ring(NOW + SECOND)
    assert house.last_order() == (OrderKind.CONNECT, OrderState.DECIDED), "no warning was delivered"
    house.carry(NOW + SECOND)
    state = house.world.state()
    assert (state["desired"], state["held"]) == (CLOSED, True)
    house.world.deliver(now=NOW + MINUTE)
    house.ring(NOW + MINUTE)
    assert house.last_order() == (OrderKind.DISCONNECT, OrderState.DECIDED)


def test_a_recharge_brings_a_cut_relay_that_somebody_closed_into_agreement() -> None:
    house = cut_house()
    house.world.relay(CLOSED)
    house.world.pay(5 * EUR, now=NOW + MINUTE)
    house.ring(NOW + 2 * MINUTE)
    assert house.world.state()["desired"] == CLOSED
    assert len(house.world.orders()) == 1 and house.world.alerts() == []


def test_a_moment_after_an_order_a_relay_is_left_alone_and_looked_at_without_a_bell() -> None:
    house = cut_house()
    house.world.relay(CLOSED)
    house.ring(NOW + SECOND)
    assert len(house.world.orders()) == 1 and house.world.alerts() == []
    house.task.tick(now=NOW + 4 * SECOND)
    assert len(house.world.orders()) == 1
    house.task.tick(now=NOW + 6 * SECOND)
    assert len(house.world.orders()) == 2, "nobody rang, and it was not forgotten"


def test_the_sweep_finds_what_no_bell_told_within_a_minute() -> None:
    house = House()
    house.world.read(20 * EUR)
    house.world.relay(OPEN)
    house.task.tick(now=NOW + 30 * SECOND)
    assert house.world.orders() == []
    house.task.tick(now=NOW + MINUTE)
    assert house.last_order() == (OrderKind.CONNECT, OrderState.DECIDED)


@pytest.mark.parametrize(("stays", "most"), [(OPEN, 26), (CLOSED, 9)])
def test_a_relay_that_departs_again_and_again_makes_no_storm(stays: RelayState, most: int) -> None:
    """Hours in which somebody turns the relay back each time, at once."""
    house = House(levels=[{"level_no": 0, "kind": "exhausted"}], window={"opens_min": 0, "closes_min": 1440})  # fmt: skip
    if stays is CLOSED:
        house.world.cut()
        house.carry(NOW)
    else:
        house.world.read(20 * EUR)
    at, alerts = NOW + MINUTE, 0
    while at < NOW + 3 * HOUR:
        if stays is CLOSED:
            run_sql("UPDATE account_state SET last_interval_at = %s", at)
        house.world.relay(stays)
        house.ring(at)
        alerts += len(house.world.alerts())
        house.carry(at)
        at += MINUTE
    orders = [each for each in house.world.orders() if each["decided_at"] > NOW]
    assert 3 < len(orders) < most
    assert {each["kind"] for each in orders} == {
        OrderKind.CONNECT if stays is OPEN else OrderKind.DISCONNECT
    }
    assert alerts > 0


def test_of_two_meters_only_the_one_that_departed_gets_an_order() -> None:
    house = House(2)
    first = house.world.account_ids[0]
    run_sql("UPDATE meter_assignment SET account_id = %s", first)
    house.world.read(20 * EUR, accounts=[first])
    house.world.relay(OPEN, meter=1)
    house.ring(NOW + MINUTE)
    assert [each["meter_id"] for each in house.world.orders()] == [house.world.meter_ids[1]]
    assert house.last_order()[0] == OrderKind.CONNECT


def test_a_relay_of_which_nothing_is_known_or_that_replayed_readings_ask_about_moves_nothing() -> (
    None
):
    house = House()
    run_sql("UPDATE meter_link SET relay = 0")
    then = NOW - timedelta(days=3)
    house.world.read(-EUR, now=NOW, read_at=then, fresh=False)
    house.ring(NOW + MINUTE)
    assert {each["state"] for each in house.world.orders()} <= {OrderState.WOULD_HAVE}
    assert house.world.alerts() == [] and house.book.due(now=NOW + HOUR, limit=9) == []
