"""How long a draft takes to be tried on many accounts, and how long PostgreSQL takes for the rows.

A throw-away server of the settings that production has, filled set-based with accounts and their
quarter-hours under a property's present price, quarter by quarter as batches of readings lay them
down; then `billing.trials` as the worker runs it, and as a ceiling the bare gathering of the very
same columns in PostgreSQL.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from prewatt.runtime.embedded_postgres import throwaway_postgres

_NOW = datetime(2026, 11, 17, 11, 0, tzinfo=UTC)
_PER_DAY = 96
_FILL_ACCOUNTS = 500

#: Three bands and three steps, a standing charge and two taxes: nothing of it is the easy case.
DRAFT: dict[str, Any] = {
    "format": "prewatt-tariff/1",
    "name": "Three bands, three steps",
    "currency": "EUR",
    "energy": {
        "unit": "kWh",
        "bands": {
            "peak": {"prices": ["0.3124567", "0.3624567", "0.4124567"]},
            "day": {"prices": ["0.2512345", "0.3012345", "0.3512345"]},
            "night": {"prices": ["0.1687654", "0.2187654", "0.2687654"]},
        },
        "schedule": [
            {
                "periods": [
                    {"from": "00:00", "until": "06:00", "band": "night"},
                    {"from": "06:00", "until": "17:00", "band": "day"},
                    {"from": "17:00", "until": "21:00", "band": "peak"},
                    {"from": "21:00", "until": "24:00", "band": "night"},
                ]
            }
        ],
        "steps": {
            "kind": "graduated",
            "window": "month",
            "scope": "all",
            "limits": ["150", "300"],
        },
    },
    "standing": {"per_month": "9.90"},
    "taxes": [
        {"code": "vat", "label": "VAT", "rate": "19", "on": ["energy", "standing"]},
        {"code": "city", "label": "City levy", "rate": "1.5", "on": ["energy"]},
    ],
}


@dataclass(frozen=True, slots=True)
class TrialFigures:
    """Seconds of the trial and of the bare reading, and what they come to in intervals a second."""

    accounts: int
    days: int
    intervals: int
    filled_s: float
    trial_s: float
    read_s: float
    intervals_per_second: int
    ceiling_per_second: int
    ratio: float
    load_average: tuple[float, ...]


def measure(*, accounts: int, days: int, tell: Callable[[str], None]) -> TrialFigures:
    """Fill a server of its own, try the draft, and read the same rows without it."""
    with throwaway_postgres() as dsn:
        os.environ["PREWATT_DSN"] = dsn
        os.environ.setdefault("PREWATT_SECRET_KEY", "a benchmark signs nothing")
        from prewatt import walls, wiring

        wiring.start_django()
        from prewatt.migrate import migrate

        migrate(passwords=dict.fromkeys(walls.LOGINS, "throwaway"), today=_NOW.date())
        began = time.monotonic()
        property_id = _fill(accounts, days, tell)
        filled_s = time.monotonic() - began
        return _measured(property_id, accounts, days, filled_s, tell)


def _measured(
    property_id: int, accounts: int, days: int, filled_s: float, tell: Callable[[str], None]
) -> TrialFigures:
    from prewatt.access.scope import system_actor
    from prewatt.billing.trials import try_tariff
    from prewatt.core.tariff import parse_tariff

    told = 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if done * 10 // total > told:
            told = done * 10 // total
            tell(f"tried {done:,} of {total:,} accounts")

    report = try_tariff(
        actor=system_actor("bench"),
        property_id=property_id,
        draft=parse_tariff(DRAFT),
        days=days,
        now=_NOW,
        progress=progress,
    )
    load = os.getloadavg()
    read_s, rows = _read_alone(accounts, days)
    return TrialFigures(
        accounts=accounts,
        days=days,
        intervals=rows,
        filled_s=round(filled_s, 1),
        trial_s=round(report.seconds, 2),
        read_s=round(read_s, 2),
        intervals_per_second=int(rows / report.seconds),
        ceiling_per_second=int(rows / read_s),
        ratio=round(read_s / report.seconds, 3),
        load_average=tuple(round(each, 2) for each in load),
    )


def _read_alone(accounts: int, days: int) -> tuple[float, int]:
    """PostgreSQL's own time to gather and send what a trial reads, which nobody unpacks here."""
    import psycopg
    from django.db import connection, transaction

    from prewatt.billing.trials import CHUNK
    from prewatt.billing.usage import PLANNING, SEGMENTS

    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM account ORDER BY id")
        ids = [row[0] for row in cursor.fetchall()]
    began, since = time.monotonic(), _NOW - timedelta(days=days + 1)
    for at in range(0, len(ids), CHUNK):
        with transaction.atomic(), psycopg.Cursor(connection.connection) as cursor:
            cursor.execute(PLANNING)
            cursor.execute(SEGMENTS, [ids[at : at + CHUNK], since, _NOW], binary=True)
    return time.monotonic() - began, accounts * (days + 1) * _PER_DAY


def _fill(accounts: int, days: int, tell: Callable[[str], None]) -> int:
    """A property with accounts, wallets, and every quarter-hour of the days; returns its id."""
    from django.db import connection

    begin = _NOW - timedelta(days=days + 1)
    with connection.cursor() as cursor:
        cursor.execute("SET work_mem = '1GB'")
        cursor.execute(_PLACE)
        cursor.execute("SELECT id, legal_entity_id FROM property WHERE code = 'bench'")
        property_id, entity_id = cursor.fetchone()
        cursor.execute(_ACCOUNTS, [property_id, begin, accounts])
        cursor.execute(_STATES, [property_id, entity_id, begin, property_id])
        cursor.execute("SELECT min(id) FROM account WHERE property_id = %s", [property_id])
        first = int(cursor.fetchone()[0])
        for at in range(0, accounts, _FILL_ACCOUNTS):
            last = min(at + _FILL_ACCOUNTS, accounts) - 1
            cursor.execute(
                _INTERVALS,
                {
                    "from": begin,
                    "quarters": days * _PER_DAY + _PER_DAY,
                    "first": first + at,
                    "last": first + last,
                    "property": property_id,
                },
            )
            tell(f"filled {last + 1:,} of {accounts:,} accounts")
        cursor.execute("RESET work_mem; ANALYZE interval")
    return int(property_id)


_PLACE = """
WITH o AS (INSERT INTO organisation (name) VALUES ('Bench') RETURNING id),
e AS (INSERT INTO legal_entity (organisation_id, name, tax_number)
      SELECT id, 'Bench', '' FROM o RETURNING id, organisation_id)
INSERT INTO property (organisation_id, legal_entity_id, code, name, currency, minor_digits, time_zone,
    holiday_calendar, language)
SELECT organisation_id, id, 'bench', 'Bench', 'EUR', 2, 'Europe/Berlin', 'DE', 'en' FROM e
"""
_ACCOUNTS = """
INSERT INTO customer (property_id, name, email, phone, language)
VALUES (%s, 'Bench', '', '', 'en');
INSERT INTO account (property_id, number, kind, customer_id, opened_at)
SELECT c.property_id, 'B' || n, 'customer', c.id, %s
FROM customer c, generate_series(1, %s) AS n
"""
_STATES = """
INSERT INTO account_state (account_id, property_id, legal_entity_id, updated_at)
SELECT id, %s, %s, %s FROM account WHERE property_id = %s
"""
#: A day of a household: little at night, most in the evening, no two accounts or quarters alike.
_INTERVALS = """
INSERT INTO interval (account_id, meter_id, register_code, start_at, revision, segment, property_id,
    interval_no, from_at, to_at, start_value_wh, end_value_wh, multiplier, energy_wh, quality,
    source, received_at, tariff_version_id, band, price_nano, charge_energy, charge_standing,
    charge_tax, charge_fee, charge_demand)
SELECT a, a, 1, t, 0, 0, %(property)s, q + 1, t, t + interval '15 minutes', q * 100, q * 100 + wh, 1,
       wh, 1, 1, t + interval '15 minutes', 1, 0, 250000000, wh * 250, 0, 0, 0, 0
FROM generate_series(%(first)s, %(last)s) AS a,
     generate_series(0, %(quarters)s - 1) AS q,
     LATERAL (SELECT %(from)s::timestamptz + q * interval '15 minutes' AS t,
                     20 + (a * 7919 + q * 104729) %% 90
                     + CASE WHEN q %% 96 BETWEEN 68 AND 84 THEN 120 ELSE 0 END AS wh) AS x
ORDER BY q, a
"""
