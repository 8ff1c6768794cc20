"""A recharge tells its customer, once, in the same commit and in one statement for a whole set."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from tests.conftest import role_dsn
from tests.invariants.places import NOW, World, place, rows, signed_in, wish

from prewatt.access.scope import system_actor
from prewatt.adapters.channels.outbox import OutboxChannel
from prewatt.core.vocabulary import DeliveryState
from prewatt.notify.operations import deliver_due
from prewatt.runtime.prepared import execute
from prewatt.sim.history import Ahead, HistoryUnit
from prewatt.sim.history import _recharge as replay_recharges
from prewatt.sim.property import demo_units
from prewatt.vending.operations import Recharge, Recharged, recharge

pytestmark = pytest.mark.usefixtures("database")
#: 23:40 in Berlin.
NIGHT = datetime(2026, 11, 24, 22, 40, tzinfo=UTC)


def told() -> list[tuple[int, dict[str, Any]]]:
    found = rows(
        "SELECT account_id, detail::text FROM message WHERE code = 'vending.recharged' ORDER BY id"
    )
    return [(account, json.loads(detail)) for account, detail in found]


def spends(here: World, per_day: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE account_state SET spend_per_day = %s WHERE account_id = %s",
            [per_day, here.accounts["1001"]],
        )


def sell(here: World, *wishes: Recharge, **more: Any) -> list[Any]:
    return recharge(actor=here.operator, recharges=wishes, now=more.pop("now", NOW), **more)


def test_each_recharge_of_a_set_tells_its_amount_and_the_balance_right_after_it(
    database: str,
) -> None:
    here = place()
    spends(here, 5_000_000)
    account = here.accounts["1001"]
    with signed_in(role_dsn(database, "web"), database):
        first, second, _ = sell(
            here, wish(here, "a", 10_000_000), wish(here, "b", 4_500_000), wish(here, "c", -1)
        )
    assert isinstance(first, Recharged) and isinstance(second, Recharged)
    assert told() == [
        (account, {
            "amount_micro": 10_000_000, "available_micro": 35_500_000, "days_left_h": None,
            "receipt": 1, "event": first.event_id,
        }),
        (account, {
            "amount_micro": 4_500_000, "available_micro": 40_000_000, "days_left_h": 8 * 24,
            "receipt": 2, "event": second.event_id,
        }),
    ]  # fmt: skip


def test_a_repeated_key_tells_nobody_again() -> None:
    here = place()
    sell(here, wish(here, "a"), wish(here, "a"))
    sell(here, wish(here, "a"))
    assert len(told()) == 1


@pytest.mark.parametrize(
    ("per_day", "left_h"),
    [(0, None), (1_000_000, 30 * 24 + 12), (300_000, None), (10**12, None)],
)
def test_how_long_it_lasts_is_said_only_where_a_forecast_reaches(
    per_day: int, left_h: int | None
) -> None:
    here = place()
    spends(here, per_day)
    sell(here, wish(here, "a"))
    assert told()[0][1]["days_left_h"] == left_h


def test_a_set_costs_three_statements_however_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scope, the look and the booking; nothing more where supply is calm and nothing is owed."""
    here = place()
    asked: list[str] = []

    def counted(statement: str, parameters: Any, **how: Any) -> Any:
        asked.append(statement)
        return execute(statement, parameters, **how)

    def statements(*wishes: Recharge, announce: bool) -> int:
        asked.clear()
        with CaptureQueriesContext(connection) as context:
            sell(here, *wishes, announce=announce)
        return len(asked) + sum("'role'" in each["sql"] for each in context.captured_queries)

    monkeypatch.setattr("prewatt.runtime.prepared.execute", counted)
    monkeypatch.setattr("prewatt.vending.sets.execute", counted)
    sell(here, wish(here, "the first sets its watch and learns the tariffs"))
    assert statements(wish(here, "s"), announce=False) == 3
    assert statements(wish(here, "one"), announce=True) == 3
    many = [wish(here, f"k{number}") for number in range(50)]
    assert statements(*many, announce=True) == 3


def test_a_receipt_of_the_night_goes_out_at_once_in_the_customers_language() -> None:
    here = place()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE customer SET language = 'zh-hans', email = 'x@example.org'")
    sell(here, replace(wish(here, "a"), paid_at=NIGHT), now=NIGHT)
    later = NIGHT + timedelta(seconds=1)
    deliver_due(actor=system_actor("notify"), channels=[OutboxChannel()], now=later)
    ((state, subject, body),) = rows(
        """SELECT m.state, t.subject, t.body FROM message m JOIN message_attempt t
           ON t.message_id = m.id WHERE m.code = 'vending.recharged'"""
    )
    assert state == DeliveryState.DELIVERED and subject == "充值 €5.00 已到账"
    assert "当前电费余额 €30.50。" in body


def test_a_past_that_is_replayed_tells_nobody() -> None:
    here = place()
    unit = HistoryUnit(demo_units(240)[0], 0, here.accounts["1001"], 0, target_micro=29_990_000)
    # Two hours before the end a cent of usage is to come.
    ahead = {unit.account_id: Ahead(0, next_micro=10_000, rest_micro=10_000)}
    replay_recharges([unit], NOW - timedelta(days=30), ahead, is_last=True)
    assert rows("SELECT amount_micro FROM payment") == [(4_500_000,)]
    assert rows("SELECT count(*) FROM message") == [(0,)]
