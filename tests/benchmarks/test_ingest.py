"""The city that benchmarks fill, and that both phases of the ingest bench store whole, true rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest

from prewatt.benchmarks.city import City, fill, live, login
from prewatt.benchmarks.ingest import Crew
from prewatt.benchmarks.ingest_writer import CEILING, OURS, Feed
from prewatt.benchmarks.posting import _check, _post
from prewatt.core.levels import evaluate_levels
from prewatt.supply.policy import compile_rules

CITY = City(150)


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


def constraints(dsn: str) -> list[tuple[Any, ...]]:
    return rows(
        dsn,
        """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
           UNION ALL SELECT indrelid::regclass::text, indexrelid::regclass::text,
               pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid >= 16384 ORDER BY 1, 2, 3""",
    )


@pytest.fixture
def city(database: str) -> str:
    fill(database, CITY, tell=lambda _: None)
    return database


def test_filling_leaves_every_constraint_and_index_in_place(database: str) -> None:
    before = constraints(database)
    fill(database, CITY, tell=lambda _: None)
    assert constraints(database) == before


def test_every_account_is_watched_as_supply_would_watch_it(city: str) -> None:
    levels = compile_rules(
        {}, time_zone="UTC", holiday_calendar="", currency="EUR", year=2026
    ).levels
    found = rows(
        city,
        """SELECT available, spend_per_day, watch_below, fired_mask, level
           FROM account_state JOIN supply_state USING (account_id)""",
    )
    assert len(found) == CITY.accounts
    assert {each[3] for each in found} >= {0, 1, 3}
    for available, spend, watch_below, mask, level in found:
        result = evaluate_levels(available, spend, 0, levels, 0)
        assert (mask, watch_below) == (result.fired_mask, result.watch_below_micro)
        assert level == (0 if result.due is None else result.due.level_no + 1)


def test_wallets_hold_what_was_paid_and_meters_what_the_city_says(city: str) -> None:
    wrong = "SELECT count(*) FROM account_state s JOIN transfer t USING (account_id) WHERE posted <> amount"
    assert rows(city, wrong) == [(0,)]
    accounts = CITY.shard(0, 1)
    stored = rows(city, "SELECT meter_id, last_value_wh FROM meter_state ORDER BY account_id")
    assert [each[0] for each in stored] == CITY.meters(accounts).tolist()
    assert [each[1] for each in stored] == CITY.registers(accounts, 0).tolist()
    day = np.stack([CITY.registers(accounts, quarter) for quarter in range(97)])
    assert (np.diff(day, axis=0) >= 0).all()
    assert (day[-1] > day[0]).all()


def test_both_phases_store_every_reading_and_leave_books_that_add_up(city: str) -> None:
    with Crew(city, CITY, batch=40, writers=2) as crew:
        phases = [crew.phase(name, batches=4) for name in (OURS, CEILING, OURS)]
    # Two writers of 75 accounts, 38 of them for our path and 37 for the ceiling.
    assert [each.readings for each in phases] == [304, 296, 304]
    assert rows(
        city, "SELECT count(*), count(DISTINCT (meter_id, read_at)) FROM register_reading"
    ) == [(904, 904)]
    assert rows(
        city,
        """SELECT count(*), bool_and(n = last AND n = s.interval_no AND charged = s.accrued_energy)
           FROM account_state s JOIN (
               SELECT account_id, count(*) AS n, max(interval_no) AS last,
                      sum(charge_energy) AS charged
               FROM interval GROUP BY account_id) i USING (account_id)""",
    ) == [(150, True)]
    assert rows(
        city,
        """SELECT count(*) FROM meter_state m WHERE last_value_wh - opened_value_wh <> (
               SELECT sum(energy_wh) FROM interval i WHERE i.account_id = m.account_id)""",
    ) == [(0,)]


def test_readings_that_come_late_or_twice_are_stored_once_and_add_up(city: str) -> None:
    feed = Feed(40, is_paced=True, irregular=0.2)
    accounts = CITY.shard(0, 1)
    assert feed.is_late(accounts, 3).any() and feed.is_twice(accounts, 3).any()
    with Crew(city, CITY, batch=feed, writers=1) as crew:
        phase = crew.phase(OURS, batches=8)
    assert rows(
        city, "SELECT count(*), count(DISTINCT (meter_id, read_at)) FROM register_reading"
    ) == [(phase.readings, phase.readings)]
    assert rows(city, "SELECT count(*) > 0 FROM interval WHERE revision > 0") == [(True,)]
    assert rows(
        city,
        """SELECT count(*) FROM meter_state m WHERE last_value_wh - opened_value_wh <> (
               SELECT coalesce(sum(energy_wh), 0) FROM interval i WHERE i.account_id = m.account_id)""",
    ) == [(0,)]


def test_a_day_that_passed_can_be_posted_and_adds_up(city: str) -> None:
    live(city, CITY, quarters=96, tell=lambda _: None)
    assert rows(
        city,
        """SELECT count(*), bool_and(n = s.interval_no AND energy = s.accrued_energy
               AND tax = s.accrued_tax AND last_value_wh - opened_value_wh = wh)
           FROM account_state s JOIN meter_state USING (account_id) JOIN (
               SELECT account_id, count(*) AS n, sum(charge_energy) AS energy, sum(charge_tax) AS tax,
                      sum(energy_wh) AS wh
               FROM interval GROUP BY account_id) i USING (account_id)""",
    ) == [(150, True)]
    done = _post((login(city, "clerk"), CITY, 0, 1))
    assert done.accounts == 150
    assert sum(done.cpu_s.values()) == pytest.approx(2 * done.cpu_s["total"])
    assert done.locked_s and max(done.locked_s) > 0
    intervals, transfers = _check(city, 150)
    assert intervals == 150 * 96
    assert transfers > 150 * 4
