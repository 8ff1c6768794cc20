"""What an operator's reading charges, written by the database's own function (``sql/0007_by_hand.sql``).

An operator may write no interval and move no charge. The function takes rated segments, holds them to
the register, the tariff and what they take back, and moves the account by exactly what they come to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from django.db import connection

from prewatt.access.scope import OPERATOR, acting_role
from prewatt.billing.accounts import AccountStates
from prewatt.billing.reversals import RESTS
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import utc_datetime
from prewatt.core.usage import UsageState
from prewatt.runtime.copying import Column


def is_by_hand() -> bool:
    """Whether an operator acts, whose charges go through the function."""
    return acting_role() == OPERATOR


def charge_by_hand(
    segments: Mapping[str, Column], before: AccountStates, after: UsageState, now: datetime
) -> tuple[int, ...]:
    """Store segments (columns of ``interval`` without its number) and move accounts and registers.

    ``after`` says how far the accounts' counts are then. Returns the accounts that fell below the
    level that supply watches.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT charge_by_hand(%s::jsonb, %s::jsonb, %s)",
            [json.dumps(_rows(segments)), json.dumps(_counts(before, after)), now],
        )
        ((crossed,),) = cursor.fetchall()
    return tuple(crossed)


def _rows(columns: Mapping[str, Column]) -> list[dict[str, object]]:
    values = [
        [utc_datetime(each).isoformat() for each in column.tolist()]
        if kind == "timestamptz"
        else column.tolist()
        for kind, column in columns.values()
    ]
    # Rests that are all zero are left out of the columns.
    none = dict.fromkeys(RESTS, 0)
    return [none | dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _counts(before: AccountStates, after: UsageState) -> list[dict[str, object]]:
    return [
        {
            "account_id": int(each),
            "step_window": int(after.step_window[at]),
            "step_wh": _steps(before.usage.step_wh[at], after.step_wh[at]),
            "allowance_window": int(after.allowance_window[at]),
            "allowance_wh": int(after.allowance_wh[at]),
        }
        for at, each in enumerate(before.account_id)
    ]


def _steps(before: Int64, after: Int64) -> list[int] | None:
    """The counts of an account as they are stored: none where nothing is counted; None stay."""
    if (before == after).all():
        return None
    counts: list[int] = after.tolist()
    return counts if any(counts) else []
