"""A past that PostgreSQL makes itself is the one that the city's meters show."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from prewatt.benchmarks.city import City, fill
from prewatt.benchmarks.past import lay_down

CITY = City(150)


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize("writers", [1, 3])
def test_every_quarter_hour_is_there_and_sums_are_those_of_the_rows(
    database: str, writers: int
) -> None:
    fill(database, CITY, tell=lambda _: None)
    lay_down(database, CITY, quarters=10, writers=writers, tell=lambda _: None)
    stored = rows(
        database,
        """SELECT interval_no, array_agg(end_value_wh ORDER BY account_id) FROM interval
           GROUP BY interval_no ORDER BY interval_no""",
    )
    accounts = CITY.shard(0, 1)
    assert [quarter for quarter, _ in stored] == list(range(1, 11))
    for quarter, registers in stored:
        assert registers == CITY.registers(accounts, quarter).tolist()
    assert rows(
        database,
        """SELECT count(*), bool_and(n = s.interval_no AND energy = s.accrued_energy
               AND tax = s.accrued_tax AND last_value_wh - opened_value_wh = wh
               AND m.last_value_wh = last AND m.last_at = until AND s.last_interval_at = until)
           FROM account_state s JOIN meter_state m USING (account_id) JOIN (
               SELECT account_id, count(*) AS n, sum(charge_energy) AS energy, sum(charge_tax) AS tax,
                      sum(energy_wh) AS wh, max(end_value_wh) AS last, max(to_at) AS until
               FROM interval GROUP BY account_id) i USING (account_id)""",
    ) == [(150, True)]
    assert rows(database, "SELECT count(*) FROM interval_default") == [(0,)]
    indexes = """SELECT count(*), count(DISTINCT indrelid) FROM pg_index
        WHERE indrelid::regclass::text LIKE 'interval_202611%'"""
    assert rows(database, indexes) == [(2 * writers, writers)]
