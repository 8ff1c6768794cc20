"""A past for the city, as large as one likes: every quarter-hour of every meter, made by PostgreSQL itself.

Each interval follows from its account's number and its quarter-hour alone (`City.registers` in SQL),
so nothing has to be sorted or added up: the rows are written in the order of time, as ingest would
have left them, and the sums of accounts and meters are set in the end. The quarter-hours are dealt
out to as many partitions as writers. A partition is made, filled and indexed in one transaction, so
a server that writes no log for new tables (`wal_level = minimal`) writes each of its rows once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import psycopg

from prewatt.benchmarks.city import (
    ACCOUNTS_OF_PROPERTY,
    ENERGY_PRICE_MICRO,
    FIRST_METER,
    OPENED,
    City,
)

#: The city opens in this month, and all of its past lies in it.
_MONTH: Final = "interval_202611"
_MONTH_BEGINS: Final = OPENED.replace(day=1)
_MONTH_ENDS: Final = datetime(2026, 12, 1, tzinfo=UTC)
_QUARTER: Final = timedelta(minutes=15)


def lay_down(
    dsn: str, city: City, *, quarters: int, writers: int = 2, tell: Callable[[str], None]
) -> None:
    """Let quarter-hours pass in a city that has seen none: intervals, watermarks, accruals.

    Raw readings are left out, and nothing of supply is decided. ``dsn`` is the owner's, with a
    superuser's rights.
    """
    assert quarters > 0 and OPENED + quarters * _QUARTER < _MONTH_ENDS
    began = time.monotonic()
    parts = _parts(quarters, min(writers, quarters))
    with psycopg.connect(dsn, autocommit=True) as connection:
        _make_room(connection)
        _at_once([partial(_write, dsn, city, part) for part in parts])
        tell(f"wrote {quarters * city.accounts:,} intervals in {time.monotonic() - began:.0f} s")
        for part in parts:
            connection.execute(_ATTACH.format(**vars(part)))
        for statement in (_SUM_METERS, _SUM_ACCOUNTS):
            connection.execute(statement, _given(city, 0, quarters))
        connection.execute("VACUUM ANALYZE")
    tell(f"let {quarters} quarter-hours pass in {time.monotonic() - began:.0f} s")


@dataclass(frozen=True)
class _Part:
    """A partition and its quarter-hours: those after ``first`` up to ``last``."""

    name: str
    first: int
    last: int
    begins: str
    ends: str


def _parts(quarters: int, writers: int) -> list[_Part]:
    """The quarter-hours dealt out; the first and the last partition reach to the month's ends."""
    parts = []
    for number in range(writers):
        first, last = quarters * number // writers, quarters * (number + 1) // writers
        begins = _MONTH_BEGINS if number == 0 else OPENED + first * _QUARTER
        ends = _MONTH_ENDS if number == writers - 1 else OPENED + last * _QUARTER
        # Whoever looks whether the month has its partition finds one of its name.
        name = f"{_MONTH}_{number}" if number else _MONTH
        parts.append(_Part(name, first, last, begins.isoformat(), ends.isoformat()))
    return parts


def _make_room(connection: psycopg.Connection[Any]) -> None:
    """Take the month's empty partition away, in whose place several come."""
    found = connection.execute(f"SELECT EXISTS (SELECT FROM {_MONTH})").fetchone()  # noqa: S608 - a constant
    assert found == (False,), "the city has seen quarter-hours before"
    connection.execute(f"DROP TABLE {_MONTH}")


def _write(dsn: str, city: City, part: _Part) -> None:
    """Make, fill and index a partition, in one transaction, and look through it for the planner."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SET maintenance_work_mem = '1GB'")
        connection.execute(_MAKE.format(**vars(part)))
        insert = _INSERT.format(name=part.name)
        for quarter in range(part.first, part.last):
            connection.execute(insert, _given(city, quarter, quarter + 1))
        for index in _INDEXES:
            connection.execute(index.format(name=part.name))
    with psycopg.connect(dsn, autocommit=True) as connection:
        # Of all partitions at once, one after another they would be looked through by one process alone.
        connection.execute(f"VACUUM ANALYZE {part.name}")


def _given(city: City, before: int, quarter: int) -> dict[str, object]:
    """What an insert or a sum needs: two instants, and what each load shape had drawn by then."""
    return {
        "accounts": city.accounts,
        "of_property": ACCOUNTS_OF_PROPERTY,
        "meter": FIRST_METER - 1,
        "price": ENERGY_PRICE_MICRO // 1_000,
        "quarter": quarter,
        "begun": OPENED + before * _QUARTER,
        "ended": OPENED + quarter * _QUARTER,
        **city.shapes(zero=0, was=before, now=quarter),
    }


def _at_once(jobs: Sequence[Callable[[], None]]) -> None:
    """Do every job in a thread of its own; the first failure is raised."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        for each in [pool.submit(job) for job in jobs]:
            each.result()


_MAKE: Final = """
CREATE TABLE {name} (LIKE interval INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
    CHECK (start_at >= '{begins}' AND start_at < '{ends}'))
"""
#: The check makes looking through the rows needless.
_ATTACH: Final = (
    "ALTER TABLE interval ATTACH PARTITION {name} FOR VALUES FROM ('{begins}') TO ('{ends}')"
)
_INDEXES: Final = (
    """ALTER TABLE {name}
           ADD PRIMARY KEY (account_id, meter_id, register_code, start_at, revision, segment)""",
    "CREATE INDEX ON {name} (account_id, interval_no)",
)
#: How many Wh the meter of account n has counted since the opening; `City.registers` in SQL. Each OFFSET
#: keeps what stands before it from being worked out anew wherever it is named: a third of a row's time.
_COUNTED: Final = """
LATERAL (SELECT n %% 8 + 1 AS which) AS s,
LATERAL (SELECT (1200 + n * 7919 %% 4800) * 364000000000 / (365 * (%(cycle)s::bigint[])[which]) AS scale OFFSET 0) AS c,
LATERAL (SELECT (%(zero)s::bigint[])[which] * scale / 1000000 AS zero) AS z,
LATERAL (SELECT (%(was)s::bigint[])[which] * scale / 1000000 - zero AS was,
                (%(now)s::bigint[])[which] * scale / 1000000 - zero AS now OFFSET 0) AS r
"""
_INSERT: Final = f"""
INSERT INTO {{name}} (account_id, meter_id, register_code, start_at, revision, segment, property_id,
    interval_no, from_at, to_at, start_value_wh, end_value_wh, multiplier, energy_wh, quality, source,
    received_at, tariff_version_id, band, price_nano, charge_energy, charge_standing, charge_tax,
    charge_fee, charge_demand)
SELECT n, %(meter)s + n, 1, %(begun)s, 0, 0, place, %(quarter)s, %(begun)s, %(ended)s,
       opening + was, opening + now, 1, now - was, 1, 1,
       %(ended)s::timestamptz + interval '20 seconds', place, %(quarter)s %% 96 / 32,
       %(price)s * 1000000::bigint, (now - was) * %(price)s, 0, (now - was) * %(price)s / 5, 0, 0
FROM generate_series(1::bigint, %(accounts)s) AS n,
LATERAL (SELECT (n - 1) / %(of_property)s + 1 AS place, 1000000 + n * 7919 %% 40000000 AS opening) AS o,
{_COUNTED}
"""  # noqa: S608 - our own expressions
#: The price is a multiple of five, so the tax of a sum is the sum of the taxes.
_SUM_METERS: Final = f"""
UPDATE meter_state m SET last_at = %(ended)s, last_value_wh = m.opened_value_wh + now
FROM (SELECT account_id AS n FROM account_state) AS a, {_COUNTED} WHERE m.account_id = n
"""  # noqa: S608 - our own expressions
_SUM_ACCOUNTS: Final = f"""
UPDATE account_state a SET accrued_energy = now * %(price)s, accrued_tax = now * %(price)s / 5,
    interval_no = %(quarter)s, last_interval_at = %(ended)s
FROM (SELECT account_id AS n FROM account_state) AS b, {_COUNTED} WHERE a.account_id = n
"""  # noqa: S608 - our own expressions
