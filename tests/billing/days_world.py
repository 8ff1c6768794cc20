"""A property whose tariffs charge by days, and short words for what happens to it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final
from zoneinfo import ZoneInfo

from tests.estate.tables import NOW, tables
from tests.moves.world import World, imported, rows

from prewatt.access.scope import system_actor
from prewatt.billing.operations import create_tariff_version
from prewatt.billing.tasks import GRACE, post_finished_days
from prewatt.core.accounts import TransferKind
from prewatt.core.rating import Component

BERLIN: Final = ZoneInfo("Europe/Berlin")
CLERK: Final = system_actor("posting")
_places = count(1)


def plan(**parts: Any) -> dict[str, Any]:
    """A flat tariff at an awkward price, with whatever else it charges."""
    return {
        "format": "prewatt-tariff/1",
        "name": "By days",
        "currency": "EUR",
        "energy": {"unit": "kWh", "bands": {"all": {"price": "0.2876543"}}},
        **parts,
    }


def local(text: str) -> datetime:
    """An instant by Berlin's wall clock."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


def place(
    document: Mapping[str, Any], opened: str = "2026-11-01T00:00", *, now: datetime = NOW
) -> World:
    """A fresh import under a firm of its own, with 1001 in flat 101, 102 empty, and a lift."""
    made = tables()
    made["tariffs"][0]["document"] = json.dumps(document)
    made["tenancies"][0]["begins_at"] = "2020-01-01"
    for meter in made["meters"]:
        meter["installed_at"] = opened
    return imported(made, f"-d{next(_places)}", own_firm=True, now=now)


def version(here: World, document: Mapping[str, Any], valid_from: datetime) -> None:
    """Another version of the property's tariff."""
    create_tariff_version(
        actor=CLERK, property_id=here.property_id, code="flat", name="Flat", document=document,
        valid_from=valid_from, approved_by="user:2", now=NOW,
    )  # fmt: skip


def night(date: str) -> int:
    """The worker's run a while after a local midnight; how many accounts it posted."""
    return post_finished_days(now=local(f"{date}T00:00") + GRACE + timedelta(minutes=1))


def charged(account: int, *components: Component) -> dict[tuple[str, str], int]:
    """What the account was charged by days, by (component, code); what was given back is taken off."""
    wanted = [int(each) for each in components or Component]
    found: defaultdict[tuple[str, str], int] = defaultdict(int)
    for component, code, micro in rows(
        """SELECT component, code, -amount FROM transfer
           WHERE account_id = %s AND reason LIKE 'daily.%%' AND component = ANY(%s)""",
        account, wanted,
    ):  # fmt: skip
        found[Component(component).name, code] += micro
    return dict(found)


def total(account: int, *components: Component) -> int:
    """The sum of ``charged``."""
    return sum(charged(account, *components).values())


def legs(account: int, reason: str = "daily.%") -> list[tuple[Any, ...]]:
    """(kind, component, code, charge, local day it begins on, hours of service, event)."""
    return [
        (TransferKind(kind), Component(part), code, micro, begin.astimezone(BERLIN).date(),
         (end - begin).total_seconds() / 3600, event)
        for kind, part, code, micro, begin, end, event in rows(
            """SELECT kind, component, code, -amount, service_from, service_to, event_id
               FROM transfer WHERE account_id = %s AND reason LIKE %s ORDER BY seq""",
            account, reason,
        )
    ]  # fmt: skip


def states(accounts: Sequence[int]) -> list[tuple[Any, ...]]:
    """Everything the accounts' rows remember."""
    return rows(
        "SELECT s::text FROM account_state s WHERE account_id = ANY(%s) ORDER BY account_id",
        list(accounts),
    )
