"""Usage behind a relay that was read back open calls a person, and the sweep reads open relays alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from tests.supply.world import CLERK, EUR, NOW, World, run_sql

from prewatt.core.civil_time import instant_us
from prewatt.core.readings import Quality
from prewatt.core.vocabulary import OrderKind, RelayState
from prewatt.supply import operations
from prewatt.supply.orders import OrderBook
from prewatt.supply.policy import PolicyRefused
from prewatt.supply.tasks import SupplyTask

pytestmark = pytest.mark.usefixtures("database")
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
OPEN, CLOSED = RelayState.OPEN, RelayState.CLOSED
USED = "supply.usage_while_open"


def cut(world: World) -> None:
    """Cut the first account, its relay read back open at NOW."""
    world.read(0, accounts=world.account_ids[:1])
    world.deliver()
    world.reconsider()
    book = OrderBook(CLERK)
    (due,) = book.due(now=NOW, limit=9)
    book.mark_sent(order_ids=[due.order_id], now=NOW)
    world.see(OPEN, at=NOW)
    run_sql("UPDATE supply_order SET state = 4, finished_at = %s, next_try_at = NULL", NOW)


def detail() -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT detail::text FROM alert WHERE code = %s ORDER BY id DESC", [USED])
        found: dict[str, Any] = json.loads(cursor.fetchone()[0])
    return found


def test_usage_behind_an_open_relay_is_told_with_its_figures_and_ends_when_it_reads_closed() -> (
    None
):
    world, task = World(2), SupplyTask(CLERK)
    world.count(70_000, at=NOW - 10 * MINUTE)
    cut(world)
    # What was used before the opening comes with the first reading after it, and is nobody's fault.
    world.count(71_000, at=NOW + 5 * MINUTE)
    task.tick(now=NOW + 6 * MINUTE)
    assert USED not in world.alerts()
    world.count(71_100, at=NOW + 20 * MINUTE)
    task.tick(now=NOW + 21 * MINUTE)
    assert USED not in world.alerts(), "within the tolerance"
    world.count(71_101, at=NOW + 35 * MINUTE)
    task.tick(now=NOW + 36 * MINUTE)
    assert world.alerts() == [USED]
    assert detail() == {
        "account": world.account_ids[0],
        "since_us": instant_us(NOW),
        "from_us": instant_us(NOW + 5 * MINUTE),
        "from_wh": 71_000,
        "read_us": instant_us(NOW + 35 * MINUTE),
        "register_wh": 71_101,
        "used_wh": 101,
        "tolerance_wh": 100,
    }
    world.count(73_000, at=NOW + HOUR)
    task.tick(now=NOW + HOUR + MINUTE)
    assert world.alerts() == [USED] and detail()["used_wh"] == 2_000, "one alert, with new figures"
    world.see(OPEN, at=NOW + HOUR + MINUTE)
    task.tick(now=NOW + HOUR + 2 * MINUTE)
    assert world.alerts() == [USED]
    world.see(CLOSED, at=NOW + HOUR + 3 * MINUTE)
    task.tick(now=NOW + HOUR + 3 * MINUTE, woken=[world.property_id])
    assert USED not in world.alerts()


def test_what_is_used_between_the_order_to_close_and_its_read_back_calls_nobody() -> None:
    world, task = World(), SupplyTask(CLERK)
    cut(world)
    world.count(71_000, at=NOW + MINUTE)
    world.pay(20 * EUR, now=NOW + 2 * MINUTE)
    book = OrderBook(CLERK)
    (due,) = book.due(now=NOW + 2 * MINUTE, limit=9)
    assert due.kind is OrderKind.CONNECT
    book.mark_sent(order_ids=[due.order_id], now=NOW + 2 * MINUTE)
    world.count(75_000, at=NOW + 20 * MINUTE)
    task.tick(now=NOW + 21 * MINUTE)
    assert USED not in world.alerts()


def test_an_alert_stays_while_an_order_to_close_is_on_its_way_and_ends_with_its_read_back() -> None:
    world, task = World(), SupplyTask(CLERK)
    cut(world)
    world.count(71_000, at=NOW + MINUTE)
    world.count(72_000, at=NOW + 16 * MINUTE)
    task.tick(now=NOW + 17 * MINUTE)
    assert world.alerts() == [USED]
    world.pay(20 * EUR, now=NOW + 18 * MINUTE)
    task.tick(now=NOW + 19 * MINUTE)
    assert world.alerts() == [USED], "it is not closed before it is read back closed"
    world.see(CLOSED, at=NOW + 20 * MINUTE)
    task.tick(now=NOW + 21 * MINUTE)
    assert world.alerts() == []


def test_a_relay_that_opens_a_second_time_begins_anew() -> None:
    world, task = World(), SupplyTask(CLERK)
    cut(world)
    world.count(71_000, at=NOW + MINUTE)
    world.see(CLOSED, at=NOW + 2 * MINUTE)
    world.count(79_000, at=NOW + HOUR)
    world.see(OPEN, at=NOW + HOUR + MINUTE)
    world.count(80_000, at=NOW + HOUR + 2 * MINUTE)
    world.count(80_050, at=NOW + HOUR + 17 * MINUTE)
    task.tick(now=NOW + 2 * HOUR)
    assert USED not in world.alerts()


def test_a_clock_that_is_ahead_does_not_date_earlier_usage_behind_the_opening() -> None:
    world, task = World(), SupplyTask(CLERK)
    cut(world)
    world.see(OPEN, at=NOW + SECOND, drift_s=100)
    # Dated a minute after the opening, and made 40 seconds before it.
    world.count(70_000, at=NOW + MINUTE)
    world.count(71_000, at=NOW + 15 * MINUTE)
    task.tick(now=NOW + 16 * MINUTE)
    assert USED not in world.alerts()
    world.count(72_000, at=NOW + 30 * MINUTE)
    task.tick(now=NOW + 31 * MINUTE)
    assert detail()["used_wh"] == 1_000


def test_a_meter_that_was_silent_after_the_opening_begins_with_its_first_word() -> None:
    world, task = World(), SupplyTask(CLERK)
    cut(world)
    world.count(70_000, at=NOW + 30 * HOUR)
    task.tick(now=NOW + 31 * HOUR)
    assert USED not in world.alerts()
    world.count(70_500, at=NOW + 32 * HOUR)
    task.tick(now=NOW + 33 * HOUR)
    assert (detail()["from_wh"], detail()["used_wh"]) == (70_000, 500)


def test_readings_that_were_put_right_or_withdrawn_count_as_they_were_put_right() -> None:
    world, task = World(), SupplyTask(CLERK)
    cut(world)
    for minute, register in ((1, 60_000), (16, 70_000), (31, 71_000)):
        world.count(register, at=NOW + minute * MINUTE)
    # The first was never made, the second was misread by a kilowatt-hour.
    for minute, quality, register in ((1, Quality.WITHDRAWN, 60_000), (16, Quality.EDITED, 71_000)):
        run_sql(
            """INSERT INTO register_reading SELECT meter_id, register_code, read_at, 1, property_id,
                   account_id, %s, %s, source, received_at
               FROM register_reading WHERE read_at = %s""",
            register,
            int(quality),
            NOW + minute * MINUTE,
        )
    task.tick(now=NOW + 32 * MINUTE)
    assert USED not in world.alerts()
    world.count(71_300, at=NOW + 46 * MINUTE)
    task.tick(now=NOW + 47 * MINUTE)
    assert (detail()["from_wh"], detail()["used_wh"]) == (71_000, 300)


def test_a_register_that_turns_past_zero_rises_and_one_put_right_downwards_does_not() -> None:
    world, task = World(), SupplyTask(CLERK)
    cut(world)
    world.count(999_999_900, at=NOW + MINUTE)
    world.count(300, at=NOW + 16 * MINUTE)
    task.tick(now=NOW + 17 * MINUTE)
    assert detail()["used_wh"] == 400
    run_sql("DELETE FROM alert")
    world.count(999_000_000, at=NOW + 31 * MINUTE)
    task.tick(now=NOW + 32 * MINUTE)
    assert USED not in world.alerts()


def test_a_meter_that_nobody_pays_by_any_more_is_no_case() -> None:
    world, task = World(), SupplyTask(CLERK)
    cut(world)
    world.count(71_000, at=NOW + MINUTE)
    world.count(72_000, at=NOW + 16 * MINUTE)
    task.tick(now=NOW + 17 * MINUTE)
    assert world.alerts() == [USED]
    run_sql("UPDATE meter_state SET closed_at = last_at")
    run_sql(
        """UPDATE meter_assignment SET period = tstzrange(lower(period), %s), end_value_wh = 72000""",
        NOW + 17 * MINUTE,
    )
    task.tick(now=NOW + 18 * MINUTE)
    assert world.alerts() == []


def test_the_tolerance_is_the_propertys_own() -> None:
    world, task = World(usage_while_open_wh=5_000), SupplyTask(CLERK)
    cut(world)
    world.count(71_000, at=NOW + MINUTE)
    world.count(76_000, at=NOW + HOUR)
    task.tick(now=NOW + HOUR)
    assert USED not in world.alerts()
    world.count(76_001, at=NOW + 2 * HOUR)
    task.tick(now=NOW + 2 * HOUR)
    assert detail()["tolerance_wh"] == 5_000
    for wrong in (-1, True, 0.5, "100", 10**9):
        with pytest.raises(PolicyRefused):
            operations.set_policy(
                actor=CLERK, property_id=world.property_id,
                body={"usage_while_open_wh": wrong}, now=NOW,
            )  # fmt: skip


@contextmanager
def rows_read(table: str) -> Iterator[list[int]]:
    """What the statements inside read of a table, row by row and by its indexes, appended at the end."""
    with transaction.atomic(), connection.cursor() as cursor:
        query = """SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))
                   FROM pg_stat_xact_user_tables WHERE relname LIKE %s"""
        cursor.execute(query, [table])
        before, found = int(cursor.fetchone()[0]), list[int]()
        yield found
        cursor.execute(query, [table])
        found.append(int(cursor.fetchone()[0]) - before)


@pytest.mark.parametrize("table", ["meter_link", "supply_state", "register_reading%"])
def test_the_sweep_reads_what_can_have_departed_and_not_every_meter(table: str) -> None:
    world = World(2)
    many, first = 20_000, 1_000_000
    run_sql(
        """INSERT INTO meter_link (meter_id, property_id, last_seen_at, relay, relay_read_at, relay_since)
           SELECT %s + n, %s, %s, 1, %s, %s FROM generate_series(1, %s) n""",
        first, world.property_id, NOW, NOW, NOW, many,
    )  # fmt: skip
    run_sql(
        """INSERT INTO supply_state (account_id, property_id, desired, protection, emergency_micro,
               fired_mask, would_mask, level, outcome, reason, closed_gates, held)
           SELECT %s + n, %s, 1, '', 0, 0, 0, 0, 0, 0, 0, false FROM generate_series(1, %s) n""",
        first, world.property_id, many,
    )  # fmt: skip
    cut(world)
    world.see(OPEN, at=NOW, meter=1)
    world.count(1_000, at=NOW + MINUTE)
    world.count(9_000, at=NOW + 16 * MINUTE)
    run_sql(
        """INSERT INTO register_reading (account_id, meter_id, property_id, register_code, read_at,
               revision, value_wh, quality, source, received_at)
           SELECT %s, %s, %s, 1, %s::timestamptz + n * interval '1 minute', 0, 9000, 1, 1, %s
           FROM generate_series(1, 5000) n""",
        world.account_ids[0], world.meter_ids[0], world.property_id, NOW + HOUR, NOW,
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE register_reading")
        cursor.execute("ANALYZE meter_link, supply_state, meter_assignment, meter_state, meter")
    at = NOW + 17 * MINUTE
    with rows_read(table) as read:
        operations.watch_open_relays(actor=CLERK, now=at, everything=True)
        operations.put_right_departed(actor=CLERK, now=at, everything=True)
        operations.watch_open_relays(actor=CLERK, now=at, woken=[world.property_id])
        operations.put_right_departed(actor=CLERK, now=at, woken=[world.property_id])
    assert world.alerts() == ["supply.relay_departed", USED]
    assert read[0] < 200
