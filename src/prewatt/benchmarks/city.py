"""A city of prepaid accounts for benchmarks: any number of them, filled set-based, with real load shapes.

One property for each ten thousand accounts, one meter for each account. Everything follows from the
account's number, so that any process can say what a meter shows at any quarter-hour without asking
the database. Balances are spread over the seventeen days that a recharge lasts, so that in any
quarter-hour about as many accounts reach a warning level or zero as they would in life.

Filling wants the database's owner with a superuser's rights: while rows come in, foreign keys are not
looked up, and secondary indexes and exclusion constraints are built afterwards, which checks them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg
from psycopg.conninfo import make_conninfo

from prewatt.core.bounds import Int64
from prewatt.core.civil_time import instant_us
from prewatt.runtime.embedded_postgres import (
    EmbeddedPostgres,
    check_durable,
    filling_postgres,
    throwaway_postgres,
)
from prewatt.sim.loads import load_profile

#: A Tuesday in a month without a change of the clocks; every account and meter begins here.
OPENED: Final = datetime(2026, 11, 17, tzinfo=UTC)
QUARTER_US: Final = 900_000_000
ACCOUNTS_OF_PROPERTY: Final = 10_000
#: Meters are numbered apart from accounts, so that mistaking one for the other cannot go unseen.
FIRST_METER: Final = 500_000_001
PASSWORD: Final = "throwaway"  # noqa: S105 - of a server of loopback without anybody's data
ENERGY_PRICE_MICRO: Final = 300_000
RECHARGE_LASTS_DAYS: Final = 17

_UTC_OFFSET_S: Final = 3_600
_PROFILES: Final = ("H0-A", "H0-B", "H0-C", "H0-G", "H0-H", "H0-L", "G1-A", "G4-A")
_PPM: Final = 1_000_000
_CYCLE_DAYS: Final = 364
_QUARTERS: Final = _CYCLE_DAYS * 96
_PROFILES_FROM_US: Final = instant_us(datetime(2021, 1, 1, tzinfo=UTC))


@dataclass(frozen=True)
class City:
    """What every meter of ``accounts`` accounts shows; accounts are numbered from 1 on."""

    accounts: int
    properties: int = field(init=False)

    def __post_init__(self) -> None:
        properties = -(-self.accounts // ACCOUNTS_OF_PROPERTY)
        object.__setattr__(self, "properties", properties)

    def shard(self, number: int, of: int) -> Int64:
        """The accounts of one of several writers: a contiguous share, in order."""
        first = self.accounts * number // of
        return np.arange(first + 1, self.accounts * (number + 1) // of + 1, dtype=np.int64)

    @staticmethod
    def meters(account_id: Int64) -> Int64:
        """The meter of each account."""
        return account_id + (FIRST_METER - 1)

    @staticmethod
    def serials(account_id: Int64) -> list[str]:
        """The serial number of each account's meter."""
        return [f"C{each}" for each in account_id.tolist()]

    @staticmethod
    def at_us(quarter: int) -> int:
        """The instant at which the given quarter-hour after the opening ends."""
        return instant_us(OPENED) + quarter * QUARTER_US

    def registers(self, account_id: Int64, quarter: int) -> Int64:
        """Each meter's register in Wh at the end of a quarter-hour; 0 is the opening."""
        which = account_id % len(_PROFILES)
        scale = (
            _annual_kwh(account_id) * 1_000 * _CYCLE_DAYS * _PPM // (365 * self._cycle_wh[which])
        )
        now, opening = (self._drawn(each)[which] * scale // _PPM for each in (quarter, 0))
        registers: Int64 = _opening_wh(account_id) + now - opening
        return registers

    def shapes(self, **quarters: int) -> dict[str, list[int]]:
        """What each load shape has drawn by the named quarter-hours and in a ``cycle``: for SQL, in Wh."""
        drawn = {name: self._drawn(quarter).tolist() for name, quarter in quarters.items()}
        return drawn | {"cycle": self._cycle_wh.tolist()}

    def _drawn(self, quarter: int) -> Int64:
        """Wh that each load shape has drawn since 2021."""
        local = (self.at_us(quarter) - _PROFILES_FROM_US) // QUARTER_US + _UTC_OFFSET_S // 900
        cycle, index = divmod(local, _QUARTERS)
        return cycle * self._cycle_wh + self._before_wh[:, index]

    @cached_property
    def _before_wh(self) -> Int64:
        return np.stack([load_profile(name).before_wh for name in _PROFILES])

    @cached_property
    def _cycle_wh(self) -> Int64:
        return np.array([load_profile(name).cycle_wh for name in _PROFILES], dtype=np.int64)


def _annual_kwh(account_id: Int64) -> Int64:
    return 1_200 + account_id * 7_919 % 4_800


def _opening_wh(account_id: Int64) -> Int64:
    return 1_000_000 + account_id * 7_919 % 40_000_000


@contextlib.contextmanager
def empty_database(dsn: str | None = None) -> Iterator[str]:
    """The owner's DSN of a durable database at the present schema, Django set up on it.

    A server of our own that is thrown away at the end of the block, or the empty database that
    ``dsn`` names. Raises `NotDurableError` if that one could lose what it has committed.
    """
    with contextlib.ExitStack() as stack:
        if dsn is None:
            dsn = stack.enter_context(throwaway_postgres())
        check_durable(dsn)
        use(dsn)
        _migrate()
        yield dsn


@contextlib.contextmanager
def kept_database(folder: Path, fill_up: Callable[[str], None]) -> Iterator[str]:
    """The owner's DSN of a durable server whose data stay in the folder; the first time it is filled.

    ``fill_up`` is given the owner's DSN of an empty database. What it does is many times as fast as
    on a durable server (`filling_postgres`), so an unfinished attempt has to be deleted by hand.
    """
    done = folder / "filled"
    if not done.exists():
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(f"{folder} holds something else, or half a city: delete it first")
        with filling_postgres(folder) as dsn:
            use(dsn)
            _migrate()
            fill_up(dsn)
        done.touch()
    server = EmbeddedPostgres(folder)
    try:
        dsn = server.start()
        use(dsn)
        _migrate()
        yield dsn
    finally:
        server.stop(timeout_s=300)


def use(dsn: str) -> None:
    """Set Django up on this database."""
    os.environ["PREWATT_DSN"] = dsn
    os.environ.setdefault("PREWATT_SECRET_KEY", "a benchmark signs nothing")
    from prewatt import wiring

    wiring.start_django()
    from django.db import connection

    # Whatever it was connected to before may be gone.
    connection.close()


def _migrate() -> None:
    from prewatt import walls
    from prewatt.migrate import migrate

    migrate(passwords=dict.fromkeys(walls.LOGINS, PASSWORD), today=OPENED.date())


def login(dsn: str, role: str) -> str:
    """The DSN by which a process signs in as the role that it has in production."""
    return make_conninfo(dsn, user=role, password=PASSWORD)


def cashier(city: City, number: int) -> tuple[int, range]:
    """The property at which one of many cashiers sells, and its accounts."""
    place = number % city.properties
    first = place * ACCOUNTS_OF_PROPERTY + 1
    return place + 1, range(first, min(first + ACCOUNTS_OF_PROPERTY, city.accounts + 1))


def fill(dsn: str, city: City, *, tell: Callable[[str], None]) -> None:
    """Fill the empty database with the city: estate, tariffs, wallets, supply, meters.

    Each property has a tariff of three bands and three steps with a standing charge and two taxes
    (`trial.DRAFT`), each account one recharge on its wallet.
    """
    began = time.monotonic()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_PLACES, {"properties": city.properties})
        _add_tariffs(city)
        later = _put_off_indexes(connection)
        _together(dsn, [_filled(each, city) for each in _TABLES])
        _together(dsn, [[each] for each in later])
        for statement in _AFTERWARDS:
            connection.execute(statement)
    tell(f"filled {city.accounts:,} accounts in {time.monotonic() - began:.0f} s")


def live(dsn: str, city: City, *, quarters: int, tell: Callable[[str], None]) -> None:
    """Let quarter-hours pass: intervals, watermarks and accruals as ingest would have left them.

    Set-based and about ten times as fast; raw readings are left out. Energy follows the hour, and
    each account has a level of its own. The database has seen no quarter-hour before.
    """
    began = time.monotonic()
    facts = {
        "opened": OPENED,
        "quarters": quarters,
        "meter": FIRST_METER - 1,
        "price": ENERGY_PRICE_MICRO // 1_000,
    }
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET work_mem = '256MB'")
        for at in range(0, city.accounts, _LIVE_ACCOUNTS):
            last = min(at + _LIVE_ACCOUNTS, city.accounts)
            connection.execute(_LIVE, facts | {"first": at + 1, "last": last})
        connection.execute("VACUUM ANALYZE account_state, meter_state, interval")
    tell(f"let {quarters} quarter-hours pass in {time.monotonic() - began:.0f} s")


_LIVE_ACCOUNTS: Final = 20_000
_LIVE: Final = """
WITH used AS (
    SELECT a, q, 15 + (a * 7919 + q * 104729) %% 60 + (q %% 96 BETWEEN 68 AND 84)::int * 90 AS wh
    FROM generate_series(%(first)s::bigint, %(last)s) AS a, generate_series(1, %(quarters)s) AS q
), counted AS (
    SELECT a, q, wh, sum(wh) OVER (PARTITION BY a ORDER BY q)::bigint AS total FROM used
), stored AS (
    INSERT INTO interval (account_id, meter_id, register_code, start_at, revision, segment,
        property_id, interval_no, from_at, to_at, start_value_wh, end_value_wh, multiplier, energy_wh,
        quality, source, received_at, tariff_version_id, band, price_nano, charge_energy,
        charge_standing, charge_tax, charge_fee, charge_demand)
    SELECT a, %(meter)s + a, 1, t - interval '15 minutes', 0, 0, s.property_id, q,
           t - interval '15 minutes', t, m.opened_value_wh + total - wh, m.opened_value_wh + total, 1,
           wh, 1, 1, t + interval '20 seconds', v.id, q %% 96 / 32, %(price)s * 1000000::bigint,
           wh * %(price)s, 0, wh * %(price)s / 5, 0, 0
    FROM counted JOIN account_state s ON s.account_id = a
    JOIN meter_state m ON m.account_id = a AND m.meter_id = %(meter)s + a AND m.register_code = 1
    JOIN tariff_version v ON v.property_id = s.property_id,
    LATERAL (SELECT %(opened)s::timestamptz + q * interval '15 minutes' AS t) AS x
    ORDER BY q, a
    RETURNING account_id, energy_wh, charge_energy, charge_tax
), sums AS (
    SELECT account_id, sum(energy_wh)::bigint AS wh, sum(charge_energy)::bigint AS energy,
           sum(charge_tax)::bigint AS tax
    FROM stored GROUP BY account_id
), meters AS (
    UPDATE meter_state m SET last_at = m.opened_at + %(quarters)s * interval '15 minutes',
           last_value_wh = m.opened_value_wh + wh
    FROM sums WHERE m.account_id = sums.account_id
)
UPDATE account_state s SET accrued_energy = accrued_energy + energy, accrued_tax = accrued_tax + tax,
       interval_no = %(quarters)s,
       last_interval_at = %(opened)s::timestamptz + %(quarters)s * interval '15 minutes'
FROM sums WHERE s.account_id = sums.account_id
"""


def _filled(statements: Sequence[str], city: City) -> list[str]:
    """The statements with the city's size and its constants in their places."""
    return [
        statement.format(
            accounts=city.accounts,
            n=f"FROM generate_series(1::bigint, {city.accounts}) AS n",
            property=f"((n - 1) / {ACCOUNTS_OF_PROPERTY} + 1)",
            of_property=ACCOUNTS_OF_PROPERTY,
            meter=FIRST_METER - 1,
            opened=f"'{OPENED.isoformat()}'::timestamptz",
            paid=f"'{(OPENED - timedelta(hours=3)).isoformat()}'::timestamptz",
            # What a day costs on average, and what is left of the recharge.
            spend=f"((1200 + n * 7919 % 4800) * {ENERGY_PRICE_MICRO}::bigint / 365)",
            spread=f"(n * 104729 % 10007 + 1) * {RECHARGE_LASTS_DAYS} / 10007",
        )
        for statement in statements
    ]


def _add_tariffs(city: City) -> None:
    from prewatt.access.scope import system_actor
    from prewatt.benchmarks.trial import DRAFT
    from prewatt.billing.operations import create_tariff_version

    for property_id in range(1, city.properties + 1):
        create_tariff_version(
            actor=system_actor("bench"),
            property_id=property_id,
            code="city",
            name="Three bands, three steps",
            document=DRAFT,
            valid_from=OPENED - timedelta(days=30),
            approved_by="somebody else",
            now=OPENED,
        )


def _put_off_indexes(connection: psycopg.Connection[Any]) -> list[str]:
    """Drop what is slow to keep up row by row; returns the statements that make it again."""
    later: list[str] = []
    for drop, make in connection.execute(_SLOW, {"tables": list(_SLOW_TABLES)}).fetchall():
        connection.execute(drop)
        later.append(make)
    return later


def _together(dsn: str, jobs: list[list[str]]) -> None:
    """Run each job's statements in order, two jobs at a time; the first failure is raised."""
    failures: list[Exception] = []
    waiting = list(reversed(jobs))

    def work() -> None:
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("SET session_replication_role = replica")
                connection.execute("SET maintenance_work_mem = '512MB'")
                while waiting and not failures:
                    for statement in waiting.pop():
                        connection.execute(statement)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


_SLOW_TABLES: Final = (
    "unit", "metering_point", "meter", "installation", "customer", "account", "tenancy",
    "meter_assignment", "tariff_assignment", "supply_state", "meter_state", "transfer",
)  # fmt: skip
#: Exclusion constraints and indexes that hold nothing unique, with what drops and what makes them.
_SLOW: Final = """
SELECT format('ALTER TABLE %%I DROP CONSTRAINT %%I', c.relname, k.conname),
       format('ALTER TABLE %%I ADD CONSTRAINT %%I %%s', c.relname, k.conname,
              pg_get_constraintdef(k.oid))
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.contype = 'x' AND c.relname = ANY(%(tables)s)
UNION ALL
SELECT format('DROP INDEX %%I', i.indexrelid::regclass::text), pg_get_indexdef(i.indexrelid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE NOT i.indisunique AND NOT i.indisexclusion AND c.relname = ANY(%(tables)s)
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
"""
_PLACES: Final = """
WITH o AS (INSERT INTO organisation (name) VALUES ('City') RETURNING id),
e AS (INSERT INTO legal_entity (organisation_id, name, tax_number)
      SELECT id, 'City', '' FROM o RETURNING id, organisation_id)
INSERT INTO property (id, organisation_id, legal_entity_id, code, name, currency, minor_digits,
    time_zone, holiday_calendar, language)
SELECT n, organisation_id, id, 'city-' || n, 'Quarter ' || n, 'EUR', 2, 'Europe/Berlin', 'DE', 'en'
FROM e, generate_series(1, %(properties)s) AS n
"""
#: Jobs of about equal length; the order within a job matters, the order of jobs does not.
_TABLES: Final[tuple[tuple[str, ...], ...]] = (
    (
        """INSERT INTO account_state (account_id, property_id, legal_entity_id, posted,
                transfer_seq, purchase_no, spend_per_day, watch_below, updated_at)
            SELECT n, {property}, 1, {spend} * {spread}, 1, 1, {spend}, 0, {opened} {n}""",
        # The same as core.levels makes of the usual levels: three days, five units of money, zero.
        """INSERT INTO supply_state (account_id, property_id, desired, protection, emergency_micro,
                fired_mask, would_mask, level, level_fired_at, outcome, reason, closed_gates, held)
            SELECT n, {property}, 1, '', 0, days + money, 0,
                   CASE WHEN days = 0 THEN money WHEN money = 0 OR 3 * {spend} < 5000000 THEN 1 ELSE 2 END,
                   CASE WHEN money + days > 0 THEN {paid} END, 0, 0, 0, false
            {n}, LATERAL (SELECT {spend} * {spread} AS posted) AS w,
            LATERAL (SELECT (posted <= 3 * {spend})::int AS days,
                            (posted <= 5000000)::int * 2 AS money) AS fired""",
        """UPDATE account_state s
           SET watch_below = 1 + greatest(CASE WHEN fired_mask & 1 = 0 THEN 3 * spend_per_day END,
                                          CASE WHEN fired_mask & 2 = 0 THEN 5000000 END, 0)
           FROM supply_state p WHERE p.account_id = s.account_id""",
        # The update has left a dead row beside each: as in a table that lives, there is room again.
        "VACUUM account_state",
        """INSERT INTO transfer (account_id, seq, property_id, legal_entity_id, event_id, kind,
                component, counter_account, amount, posted_after, currency, service_from, service_to,
                booked_at, actor, reason)
            SELECT n, 1, {property}, 1, n, 2, 1, 2, {spend} * {spread}, {spend} * {spread},
                   'EUR', {paid}, {paid}, {paid}, 'system:bench', 'bench.opening' {n}""",
    ),
    (
        """INSERT INTO meter_state (account_id, meter_id, register_code, property_id, multiplier,
                modulus_wh, max_power_w, expected_period_s, opened_at, opened_value_wh, last_at,
                last_value_wh, received_at)
            SELECT n, {meter} + n, 1, {property}, 1, 1000000000, 25000, 900, {opened},
                   1000000 + n * 7919 % 40000000, {opened},
                   1000000 + n * 7919 % 40000000, {opened} {n}""",
        """INSERT INTO meter (id, property_id, serial, model, driver, multiplier, modulus_wh,
                max_power_w, has_relay, expected_period_s)
            SELECT {meter} + n, {property}, 'C' || n, 'city', 'mqtt_senml', 1, 1000000000, 25000,
                   true, 900 {n}""",
        """INSERT INTO meter_assignment (property_id, meter_id, account_id, period, start_value_wh)
            SELECT {property}, {meter} + n, n, tstzrange({opened}, NULL),
                   1000000 + n * 7919 % 40000000 {n}""",
        """INSERT INTO tariff_assignment (property_id, account_id, tariff_id, valid_from)
            SELECT t.property_id, n, t.id, {opened} - interval '30 days'
            {n} JOIN tariff t ON t.property_id = {property}""",
        """INSERT INTO meter_link (meter_id, property_id, last_seen_at, relay, relay_read_at)
            SELECT {meter} + n, {property}, {opened}, 1, {opened} {n}""",
    ),
    (
        """INSERT INTO customer (id, property_id, name, email, phone, language)
            SELECT n, {property}, 'Customer ' || n, '', '', 'en' {n}""",
        """INSERT INTO account (id, property_id, number, kind, customer_id, opened_at)
            SELECT n, {property}, 'A' || n, 'customer', n, {opened} {n}""",
        """INSERT INTO building (id, property_id, code, name, position)
            SELECT n, (n - 1) / ({of_property} / 100) + 1, 'B' || n, 'House ' || n, n % 100
            FROM generate_series(1::bigint, ({accounts} + 99) / 100) AS n""",
        """INSERT INTO unit (id, property_id, building_id, code, floor, position, kind)
            SELECT n, {property}, (n - 1) / 100 + 1, n::text, n % 100 / 10, n % 10, 'flat' {n}""",
    ),
    (
        """INSERT INTO metering_point (id, property_id, unit_id, code, role, source)
            SELECT n, {property}, n, 'P' || n, 'sub', 'grid' {n}""",
        """INSERT INTO installation (property_id, meter_id, metering_point_id, period, start_value_wh)
            SELECT {property}, {meter} + n, n, tstzrange({opened}, NULL),
                   1000000 + n * 7919 % 40000000 {n}""",
        """INSERT INTO tenancy (property_id, unit_id, customer_id, account_id, period)
            SELECT {property}, n, n, n, tstzrange({opened}, NULL) {n}""",
        """INSERT INTO supply_policy (property_id, version, body, changed_at, brake_release_asked_by)
           SELECT id, 1, '{{}}', {opened}, '' FROM property""",
    ),
)
_AFTERWARDS: Final = (
    "SELECT setval('event_id_seq', (SELECT max(event_id) FROM transfer))",
    """SELECT setval(pg_get_serial_sequence(t, 'id'), n) FROM (VALUES
           ('property', (SELECT max(id) FROM property)), ('customer', (SELECT max(id) FROM customer)),
           ('account', (SELECT max(id) FROM account)), ('building', (SELECT max(id) FROM building)),
           ('unit', (SELECT max(id) FROM unit)), ('meter', (SELECT max(id) FROM meter)),
           ('metering_point', (SELECT max(id) FROM metering_point))) AS s(t, n)""",
    "VACUUM ANALYZE",
    "CHECKPOINT",
)
