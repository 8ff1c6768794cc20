"""A property to stand on, and short words for what happens to it. Every place has its own firm."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final

import numpy as np
from tests.core.exact_model import ExactPrices
from tests.estate.tables import NOW, tables
from tests.moves.world import OPENED, World, imported, rows

from django_sessions import use_database
from prewatt.access.scope import system_actor
from prewatt.billing.ingestion import apply_readings
from prewatt.billing.memory import Memory
from prewatt.billing.operations import post_usage
from prewatt.billing.tariffs import TariffBook
from prewatt.core.civil_time import instant_us
from prewatt.core.readings import ReadingBatch
from prewatt.core.vee import Verdict
from prewatt.vending.operations import Answer, Recharge, recharge

__all__ = ["NOW", "OPENED", "PRICES", "World", "at", "pay", "place", "post", "rows", "send"]

MINUTE: Final = timedelta(minutes=1)
CLERK: Final = system_actor("posting")
OPENING_MICRO: Final = 25_500_000

#: Awkward prices, so that every charge leaves a remainder; bands that change at odd minutes.
TARIFF: Final[dict[str, Any]] = {
    "format": "prewatt-tariff/1",
    "name": "Day and night",
    "currency": "EUR",
    "energy": {
        "unit": "kWh",
        "bands": {"day": {"price": "0.2876543"}, "night": {"price": "0.1734567"}},
        "schedule": [
            {
                "periods": [
                    {"from": "00:00", "until": "06:10", "band": "night"},
                    {"from": "06:10", "until": "21:45", "band": "day"},
                    {"from": "21:45", "until": "24:00", "band": "night"},
                ]
            }
        ],
    },
}
PRICES: Final = ExactPrices("Europe/Berlin", [(0, TARIFF)])

_places = count(1)


def told(account: int) -> list[tuple[str, dict[str, Any]]]:
    """What the account's customer was told but of supply and recharges: (code, figures), in order."""
    found = rows(
        """SELECT code, detail::text FROM message WHERE account_id = %s AND NOT would_have
           AND code NOT LIKE 'supply.%%' AND code <> 'vending.recharged' ORDER BY id""",
        account,
    )
    return [(code, json.loads(detail)) for code, detail in found]


def place(opened: str = "2026-11-01T00:00", document: Mapping[str, Any] = TARIFF) -> World:
    """A fresh import under a firm of its own; ``opened`` is local civil time of Berlin.

    All its accounts are on the one tariff ``document``.
    """
    made = tables()
    made["tariffs"][0]["document"] = json.dumps(document)
    made["tenancies"][0]["begins_at"] = "2025-12-01"
    for meter in made["meters"]:
        meter["installed_at"] = opened
    return imported(made, f"-{next(_places)}", own_firm=True)


def at(hours: float) -> datetime:
    """So many hours after the meters of a plain `place` were opened."""
    return OPENED + timedelta(hours=hours)


def send(
    here: World,
    readings: Sequence[tuple[str, datetime, int]],
    *,
    now: datetime = NOW,
    book: TariffBook | None = None,
    memory: Memory | None = None,
) -> list[Verdict]:
    """One batch of (serial, instant, register in Wh), as the head-end applies it."""
    batch = ReadingBatch.of(
        meter_id=np.array([here.meters[serial] for serial, _, _ in readings], dtype=np.int64),
        read_at_us=np.array([instant_us(when) for _, when, _ in readings], dtype=np.int64),
        value_wh=np.array([value for _, _, value in readings], dtype=np.int64),
        received_at_us=instant_us(now),
    )
    applied = apply_readings(batch=batch, now=now, book=book, memory=memory)
    return [Verdict(int(each)) for each in applied.verdict]


def wish(here: World, key: str, amount: int = 5_000_000, account: int | None = None) -> Recharge:
    """A recharge in cash, of the tenant's account unless told otherwise."""
    return Recharge(key, account or here.accounts["1001"], amount, "cash", "", NOW)


def pay(here: World, key: str, amount: int = 5_000_000, account: int | None = None) -> Answer:
    """Sell credit at the window."""
    wishes = [wish(here, f"{here.property_id}:{key}", amount, account)]
    return recharge(actor=here.operator, recharges=wishes, now=NOW)[0]


def post(here: World, until: datetime = NOW) -> None:
    """Post what the accounts of the place used up to an instant."""
    post_usage(
        actor=CLERK,
        now=NOW,
        until=until,
        cause="posting.daily",
        account_ids=list(here.accounts.values()),
    )


def one(statement: str, *values: object) -> Any:
    """The first column of the first row."""
    return rows(statement, *values)[0][0]


@contextmanager
def signed_in(dsn: str, owner_dsn: str) -> Iterator[None]:
    """Let Django work under another login for a while."""
    use_database(dsn)
    try:
        yield
    finally:
        use_database(owner_dsn)
