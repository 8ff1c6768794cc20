"""A property that runs, and short words for what tests do to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from django.db import connection
from tests.estate.tables import NOW, Tables, tables

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, system_actor
from prewatt.billing.ingestion import apply_readings
from prewatt.core.civil_time import instant_us
from prewatt.core.readings import ReadingBatch
from prewatt.core.vee import Verdict
from prewatt.estate.operations import NewCustomer, RegisterValue
from prewatt.estate.sheets import PropertySheets
from prewatt.moves.onboarding import import_property
from prewatt.moves.words import NewTenant

OPENED = datetime(2026, 10, 31, 23, 0, tzinfo=UTC)
"""Midnight of 1 November in Berlin: when the meters' opening registers were read."""

PRICE_MICRO_PER_WH = 250
"""25 cents a kilowatt-hour."""


def rows(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """What the owner sees, outside every scope."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall()) if cursor.description else []


def hours(count: float) -> datetime:
    """So many hours after the opening."""
    return OPENED + timedelta(hours=count)


@dataclass(frozen=True)
class World:
    """Ids by the names of ``tests.estate.tables``."""

    property_id: int
    meters: Mapping[str, int]
    units: Mapping[str, int]
    accounts: Mapping[str, int]

    @property
    def administrator(self) -> Actor:
        return Actor("user:5", Duty.ADMINISTRATOR, (self.property_id,), "Anna")

    @property
    def operator(self) -> Actor:
        return Actor("user:6", Duty.OPERATOR, (self.property_id,), "Otto")

    def read(self, serial: str, at: datetime, value_wh: int, now: datetime = NOW) -> Verdict:
        """A reading as the head-end applies it."""
        batch = ReadingBatch.of(
            meter_id=np.array([self.meters[serial]], dtype=np.int64),
            read_at_us=np.array([instant_us(at)], dtype=np.int64),
            value_wh=np.array([value_wh], dtype=np.int64),
            received_at_us=instant_us(now),
        )
        return Verdict(int(apply_readings(batch=batch, now=now).verdict[0]))

    def register(self, serial: str, value_wh: int) -> list[RegisterValue]:
        return [RegisterValue(self.meters[serial], value_wh)]


def world(suffix: str = "") -> World:
    """A fresh import; ``suffix`` lets several stand in one database."""
    return imported(tables(), suffix)


def imported(
    made: Tables, suffix: str = "", *, own_firm: bool = False, now: datetime = NOW
) -> World:  # fmt: skip
    """An import of ``made``, named as if nothing had the ``suffix`` that tells it from its like.

    ``own_firm`` gives it an organisation and a legal entity that no other property has.
    """
    for name in ("code", "organisation", "legal_entity") if own_firm else ("code",):
        made["property"][0][name] += suffix
    for meter in made["meters"]:
        meter["serial"] += suffix
    report = import_property(actor=system_actor("import"), sheets=PropertySheets.of(made), now=now)
    here = report.property_id
    return World(
        here,
        {
            serial.removesuffix(suffix): key
            for serial, key in rows("SELECT serial, id FROM meter WHERE property_id = %s", here)
        },
        dict(rows("SELECT code, id FROM unit WHERE property_id = %s", here)),
        dict(rows("SELECT number, id FROM account WHERE property_id = %s", here)),
    )


def tenant(name: str = "Ben Okafor", number: str = "") -> NewTenant:
    """Somebody new, on the flat price."""
    return NewTenant(NewCustomer(name), "flat", number)


def charged_wh(account_id: int) -> int:
    """All energy an account was charged, revisions included."""
    return int(
        rows("SELECT coalesce(sum(energy_wh), 0) FROM interval WHERE account_id = %s", account_id)[
            0
        ][0]
    )


def available(account_id: int) -> int:
    """Posted less accrued, in micro-units."""
    return int(rows("SELECT available FROM account_state WHERE account_id = %s", account_id)[0][0])


def snapshot() -> dict[str, list[tuple[Any, ...]]]:
    """Everything a refused move must leave as it was."""
    return {table: rows(f"SELECT t::text FROM {table} t ORDER BY 1") for table in _TABLES}


_TABLES = (
    "account",
    "tenancy",
    "meter_assignment",
    "installation",
    "meter",
    "customer",
    "account_state",
    "meter_state",
    "supply_state",
    "supply_order",
    "interval",
    "register_reading",
    "transfer",
    "posting",
    "payment",
    "vee_case",
    "tariff_assignment",
    "idempotency",
    "audit_event",
)
