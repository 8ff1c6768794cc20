"""The order book on a real database: what the head-end and the worker do with orders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError
from tests.supply.world import CLERK, EUR, NOW, World, run_sql

from prewatt.core.drivers import Driver
from prewatt.core.orders import Refusal
from prewatt.core.vocabulary import OrderKind, OrderState, Outcome, RelayState
from prewatt.notify.models import Alert
from prewatt.supply.orders import OrderBook
from prewatt.supply.queries import KnownOrder
from prewatt.supply.tasks import SupplyTask

pytestmark = pytest.mark.usefixtures("database")
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True)
class Said:
    """An answer as the head-end hands it over: a yes, a no or a relay state."""

    order_id: int
    attempt: int
    meter_id: int
    why: Refusal = Refusal.FAILED
    relay: RelayState = RelayState.UNKNOWN
    seen_at: datetime = NOW


@pytest.fixture
def book() -> OrderBook:
    return OrderBook(CLERK)


def see(world: World, book: OrderBook, relay: RelayState, now: datetime) -> None:
    """The meter answers the latest command of its order, which goes out first if none has."""
    if not world.orders()[-1]["attempts"]:
        book.mark_sent(order_ids=[world.orders()[-1]["id"]], now=now)
    world.relay(relay)
    book.mark_read_back(read_backs=[said(world, relay=relay, seen_at=now)], now=now)


def said(world: World, **what: Any) -> Said:
    """An answer to the last order's latest command."""
    order = world.orders()[-1]
    return replace(Said(order["id"], order["attempts"], order["meter_id"]), **what)


def test_from_decided_to_verified_and_only_then_is_the_customer_told(book: OrderBook) -> None:
    world = World()
    world.cut()
    (due,) = book.due(now=NOW, limit=10)
    assert (due.serial, due.kind, due.attempts) == ("M000", OrderKind.DISCONNECT, 0)
    assert book.due(now=NOW, limit=10, drivers=[Driver.LWM2M]) == [], "its meter is MQTT's"
    assert book.mark_sent(order_ids=[due.order_id], now=NOW) == {due.order_id}
    assert book.due(now=NOW + SECOND, limit=10) == []
    book.mark_acknowledged(answers=[said(world)], now=NOW + SECOND)
    assert world.orders()[0]["state"] == OrderState.ACKNOWLEDGED
    assert [each["code"] for each in world.messages()] == ["supply.warning"]
    see(world, book, RelayState.OPEN, NOW + 2 * SECOND)
    order = world.orders()[0]
    assert order["state"] == OrderState.VERIFIED and order["finished_at"] == NOW + 2 * SECOND
    assert order["acknowledged_at"] == NOW + SECOND
    # Who saw it due before it ended learns that no command may go out any more.
    assert book.mark_sent(order_ids=[due.order_id], now=NOW + 2 * SECOND) == frozenset()
    assert [each["code"] for each in world.messages()] == ["supply.warning", "supply.cut"]


def test_an_order_waits_for_an_offline_meter_and_is_due_when_it_is_back(book: OrderBook) -> None:
    world = World()
    world.cut()
    see(world, book, RelayState.OPEN, NOW)
    world.pay(EUR)
    (due,) = book.due(now=NOW, limit=10)
    now = NOW
    for _ in range(30):
        book.mark_sent(order_ids=[due.order_id], now=now)
        now += HOUR
    order = world.orders()[-1]
    assert order["state"] == OrderState.SENT and world.alerts() == []
    book.mark_sent(order_ids=[due.order_id], now=now)
    assert book.due(now=now + SECOND, limit=10) == []
    book.wake(meter_ids=world.meter_ids, now=now + SECOND)
    assert [each.order_id for each in book.due(now=now + SECOND, limit=10)] == [due.order_id]
    see(world, book, RelayState.CLOSED, now + 2 * SECOND)
    assert world.orders()[-1]["state"] == OrderState.VERIFIED
    assert world.messages()[-1]["code"] == "supply.connected"


def test_a_stuck_relay_fails_its_disconnect_and_calls_a_person(book: OrderBook) -> None:
    world = World(order={"attempts_max": 2, "settle_s": 1})
    world.cut()
    (due,) = book.due(now=NOW, limit=10)
    for attempt in range(1, 3):
        now = NOW + attempt * MINUTE
        book.mark_sent(order_ids=[due.order_id], now=now)
        book.mark_acknowledged(answers=[said(world)], now=now)
        see(world, book, RelayState.CLOSED, now + 2 * SECOND)
    order = world.orders()[0]
    assert order["state"] == OrderState.FAILED and order["failure"] == "relay_not_as_wanted"
    assert world.alerts() == ["supply.relay_stuck"]


def refused(world: World, book: OrderBook, refusal: Refusal, *, now: datetime) -> dict[str, object]:
    """One attempt that the meter says no to; returns the order."""
    order = world.orders()[-1]
    book.mark_sent(order_ids=[order["id"]], now=now)
    book.mark_refused(refusals=[said(world, why=refusal)], now=now + SECOND)
    return world.orders()[-1]


def alerts() -> list[tuple[str, dict[str, object]]]:
    return [
        (each.code, each.detail) for each in Alert.objects.filter(closed_at=None).order_by("code")
    ]


def test_a_wrong_clock_is_named_at_once_and_forgotten_when_the_relay_does_as_told(
    book: OrderBook,
) -> None:
    world = World()
    world.relay(RelayState.OPEN)
    run_sql("UPDATE supply_state SET desired = 2")
    world.pay(EUR)
    order = refused(world, book, Refusal.CLOCK_AHEAD, now=NOW)
    assert (order["kind"], order["state"]) == (OrderKind.CONNECT, OrderState.SENT)
    assert order["failure"] == "meter_clock_ahead"
    assert alerts() == [
        (
            "supply.command_refused",
            {"order": order["id"], "kind": "connect", "attempts": 1, "why": "meter_clock_ahead"},
        )
    ]
    order = refused(world, book, Refusal.CLOCK_AHEAD, now=NOW + MINUTE)
    assert order["state"] == OrderState.SENT and len(alerts()) == 1, "whoever paid is not given up"
    book.mark_sent(order_ids=[order["id"]], now=NOW + HOUR)
    assert world.orders()[-1]["failure"] == "meter_clock_ahead", "until the meter says yes"
    book.mark_acknowledged(answers=[said(world)], now=NOW + HOUR)
    assert world.orders()[-1]["failure"] == ""
    see(world, book, RelayState.CLOSED, NOW + HOUR + SECOND)
    assert world.orders()[-1]["state"] == OrderState.VERIFIED and alerts() == []


@pytest.mark.parametrize("refusal", [Refusal.CLOCK_AHEAD, Refusal.UNSUPPORTED, Refusal.FAILED])
def test_a_disconnect_that_is_refused_to_the_last_fails_with_the_meters_reason(
    book: OrderBook, refusal: Refusal
) -> None:
    world = World(order={"attempts_max": 2})
    world.cut()
    first = refused(world, book, refusal, now=NOW)
    assert (first["state"], first["failure"]) == (OrderState.SENT, refusal.value)
    assert len(alerts()) == (refusal is not Refusal.FAILED)
    last = refused(world, book, refusal, now=NOW + MINUTE)
    assert (last["state"], last["failure"]) == (OrderState.FAILED, refusal.value)
    ((code, detail),) = alerts()
    assert (code, detail["why"], detail["attempts"]) == ("supply.command_refused", refusal, 2)


def test_commands_that_came_too_late_fail_nothing_and_call_nobody(book: OrderBook) -> None:
    world = World(order={"attempts_max": 1})
    world.cut()
    order = refused(world, book, Refusal.LATE, now=NOW)
    assert (order["state"], order["failure"]) == (OrderState.SENT, "command_late")
    assert alerts() == []


@pytest.mark.parametrize("reached", ["not_sent", "no_answer", "not_read_back", "meter_failed"])
def test_an_order_that_grows_old_says_how_far_it_came(book: OrderBook, reached: str) -> None:
    world = World()
    world.cut()
    ids = [world.orders()[0]["id"]]
    if reached != "not_sent":
        book.mark_sent(order_ids=ids, now=NOW)
    if reached == "not_read_back":
        book.mark_acknowledged(answers=[said(world)], now=NOW)
    if reached == "meter_failed":
        book.mark_refused(refusals=[said(world)], now=NOW)
    book.expire(now=NOW + 4 * HOUR)
    order = world.orders()[0]
    assert (order["state"], order["failure"]) == (OrderState.EXPIRED, reached)


def test_a_relay_that_follows_a_later_order_closes_what_was_open_about_it(book: OrderBook) -> None:
    world = World(order={"attempts_max": 1, "settle_s": 1})
    world.cut()
    refused(world, book, Refusal.UNSUPPORTED, now=NOW)
    world.relay(RelayState.OPEN)
    world.pay(EUR)
    (due,) = book.due(now=NOW, limit=10)
    book.mark_sent(order_ids=[due.order_id], now=NOW + MINUTE)
    assert len(alerts()) == 1
    see(world, book, RelayState.CLOSED, NOW + MINUTE + SECOND)
    assert alerts() == []


def test_a_late_answer_to_a_superseded_order_is_ignored(book: OrderBook) -> None:
    world = World()
    world.cut()
    (cut,) = book.due(now=NOW, limit=10)
    book.mark_sent(order_ids=[cut.order_id], now=NOW)
    late = said(world, relay=RelayState.OPEN, seen_at=NOW + SECOND)
    world.pay(EUR)
    book.mark_acknowledged(answers=[late], now=NOW + SECOND)
    book.mark_refused(refusals=[late], now=NOW + SECOND)
    book.mark_read_back(read_backs=[late], now=NOW + SECOND)
    assert [each["state"] for each in world.orders()] == [
        OrderState.SUPERSEDED,
        OrderState.DECIDED,
    ]


def test_an_answer_moves_an_order_only_if_it_fits_it_under_its_lock(book: OrderBook) -> None:
    world = World(2, brake={"share_bp": 10_000})
    world.cut()
    first, second = book.due(now=NOW, limit=10)
    for attempt in (1, 2):
        book.mark_sent(order_ids=[first.order_id, second.order_id], now=NOW + attempt * SECOND)
    known = book.known(order_ids=[first.order_id, 999])
    assert known == {first.order_id: KnownOrder(first.meter_id, 2, NOW + 2 * SECOND, True)}
    before = world.orders()
    for wrong in (
        Said(first.order_id, 2, second.meter_id),
        Said(first.order_id, 1, first.meter_id),
        Said(first.order_id, 3, first.meter_id),
        Said(first.order_id, 0, first.meter_id),
    ):
        seen = replace(wrong, relay=RelayState.OPEN, seen_at=NOW + MINUTE)
        book.mark_read_back(read_backs=[seen], now=NOW + MINUTE)
        book.mark_refused(refusals=[wrong], now=NOW + MINUTE)
        if wrong.attempt != 1:
            book.mark_acknowledged(answers=[wrong], now=NOW + MINUTE)
    assert world.orders() == before
    # Of several answers to one order those that fit count, wherever they stand.
    own = Said(first.order_id, 2, first.meter_id, relay=RelayState.OPEN, seen_at=NOW + 3 * SECOND)
    other = replace(own, meter_id=second.meter_id, seen_at=NOW + MINUTE)
    book.mark_read_back(read_backs=[other, own], now=NOW + MINUTE)
    assert [each["state"] for each in world.orders()] == [OrderState.VERIFIED, OrderState.SENT]


def test_an_expired_disconnect_is_decided_again_through_all_gates(book: OrderBook) -> None:
    world = World()
    world.cut()
    task = SupplyTask(CLERK)
    late = NOW + 4 * HOUR
    assert book.due(now=late, limit=10) == [], "an expired order is never sent"
    world.read(-EUR, now=late)
    task.tick(now=late)
    assert [each["state"] for each in world.orders()] == [OrderState.EXPIRED, OrderState.DECIDED]
    assert world.decisions()[-1]["trigger"] == "expiry"
    after_hours = late + 4 * HOUR
    world.read(-2 * EUR, now=after_hours)
    task.tick(now=after_hours)
    assert world.decisions()[-1]["outcome"] == Outcome.HOLD
    assert world.orders()[-1]["state"] == OrderState.EXPIRED


def test_the_database_takes_no_order_that_could_never_be_done() -> None:
    world = World()
    world.cut()
    with pytest.raises(IntegrityError, match="order_can_be_read_back"):
        run_sql("UPDATE supply_order SET kind = %s", OrderKind.LIMIT.value)


def test_connects_go_out_before_disconnects(book: OrderBook) -> None:
    world = World(3, brake={"share_bp": 10_000})
    world.cut()
    world.relay(RelayState.OPEN, meter=2)
    world.pay(EUR, account=world.account_ids[2])
    kinds = [each.kind for each in book.due(now=NOW, limit=10)]
    assert kinds[0] is OrderKind.CONNECT and len(kinds) == 3
    assert book.due(now=NOW, limit=1)[0].kind is OrderKind.CONNECT


def test_the_worker_finds_a_missed_bell_within_its_sweep() -> None:
    world = World()
    task = SupplyTask(CLERK)
    task.tick(now=NOW)
    world.read(0)
    world.deliver()
    assert task.tick(now=NOW + SECOND) == 0, "nobody rang"
    assert task.tick(now=NOW + MINUTE) == 1
    assert world.decisions()[-1]["outcome"] == Outcome.CUT


def test_the_bells_ring_when_there_is_something_to_send_or_to_show(database: str) -> None:
    import psycopg

    world = World()
    with psycopg.connect(database, autocommit=True) as listener:
        listener.execute("LISTEN supply_order")
        listener.execute("LISTEN changed")
        world.cut()
        heard = {note.channel for note in listener.notifies(timeout=2, stop_after=2)}
    assert heard >= {"changed"}
    with psycopg.connect(database, autocommit=True) as listener:
        listener.execute("LISTEN supply_order")
        world.pay(EUR)
        (note,) = listener.notifies(timeout=2, stop_after=1)
    assert note.payload == str(world.property_id)
