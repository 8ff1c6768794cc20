"""From sheets of days to lines: exact parts become micro-units, and accounts carry what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from prewatt.billing.day_legs import Line
from prewatt.billing.days import DatedRows, DayAccount
from prewatt.core.dated import DayParts, accrue_parts
from prewatt.core.rating import Component
from prewatt.runtime.prepared import execute, integers

SOURCE: Final = {Component.STANDING: "daily.standing", Component.FEE: "daily.fee"}
#: Charges that a recharge collects for its whole month, and what is given back of them.
COLLECTED: Final = "daily.collected"


def dated_charges(
    rows: DatedRows,
    wanted: Sequence[tuple[DayAccount, int, int]],
    source: Mapping[Component, str],
    *,
    sign: int = 1,
) -> list[Line]:
    """The lines of (account, first, end) ranges of days, ranges of one account in order.

    Moves the accounts' carries. ``sign`` -1 gives the days back.
    """
    row, which = rows.of_days(
        np.array([first for _, first, _ in wanted], dtype=np.int64),
        np.array([end for _, _, end in wanted], dtype=np.int64),
    )
    if row.size == 0:
        return []
    owners = list({account.account_id: account for account, _, _ in wanted}.values())
    position = {account.account_id: at for at, account in enumerate(owners)}
    owner = np.array([position[account.account_id] for account, _, _ in wanted])[which]
    entry = rows.entry[row]
    component = np.array([int(each.component) for each in rows.entries])[entry]
    micro = np.zeros(row.size, dtype=np.int64)
    for each in (Component.STANDING, Component.FEE):
        chosen = np.flatnonzero(component == each)
        parts = rows.parts.take(row[chosen])
        carry = np.array([_carry(account, each) for account in owners], dtype=np.int64)
        micro[chosen], carry = accrue_parts(
            account_index=owner[chosen],
            parts=DayParts(sign * parts.micro, sign * parts.rest),
            carry=carry,
        )
        for account, rest in zip(owners, carry.tolist(), strict=True):
            _set_carry(account, each, rest)
    return [
        Line(
            owners[who].account_id, day, day + 1, rows.entries[at].component,
            rows.entries[at].code, amount, rows.entries[at].tax,
            source[rows.entries[at].component],
        )
        for who, day, at, amount in zip(
            owner.tolist(), rows.day[row].tolist(), entry.tolist(), micro.tolist(), strict=True
        )
        if amount
    ]  # fmt: skip


def _carry(account: DayAccount, component: Component) -> int:
    return account.carry_standing if component is Component.STANDING else account.carry_fee


def _set_carry(account: DayAccount, component: Component, rest: int) -> None:
    if component is Component.STANDING:
        account.carry_standing = rest
    else:
        account.carry_fee = rest


def store_carries(accounts: Sequence[DayAccount], through: Sequence[int]) -> None:
    """Write what days have moved of accounts; the caller holds their locks."""
    moved = execute(
        _MOVED,
        [
            integers(column)
            for column in (
                [each.account_id for each in accounts],
                through,
                [each.collected_through for each in accounts],
                [each.carry_standing for each in accounts],
                [each.carry_fee for each in accounts],
                [each.carry_tax for each in accounts],
            )
        ],
    ).rowcount
    if moved != len(accounts):
        raise AssertionError(f"{len(accounts)} accounts meant, {moved} moved")


_MOVED: Final = """
UPDATE account_state s
SET daily_through = n.through, collected_through = n.collected,
    carry_standing = n.standing, daily_carry_fee = n.fee, daily_carry_tax = n.tax
FROM unnest(%s::bigint[], %s::integer[], %s::integer[], %s::bigint[], %s::bigint[], %s::bigint[])
    AS n(account_id, through, collected, standing, fee, tax)
WHERE s.account_id = n.account_id
"""
