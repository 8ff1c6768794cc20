"""Where accounts stand in ``account_state``, read and moved as columns under their locks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from django.db import connection

from prewatt.billing.queries import Terms
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import utc_datetime
from prewatt.core.usage import AccountTerms, DatedTerms, UsageState
from prewatt.runtime.copying import read_columns


@dataclass(frozen=True, slots=True, eq=False)
class AccountStates:
    """One row per account, in order of ``account_id``."""

    account_id: Int64
    usage: UsageState
    purchase_no: Int64
    interval_no: Int64
    last_interval_at_us: Int64


_KINDS: Final = {
    "carry_energy": "int8",
    "carry_fee": "int8",
    "carry_tax": "int8",
    "carry_subsidy": "int8",
    "step_window": "int8",
    "allowance_window": "int8",
    "allowance_wh": "int8",
    "purchase_no": "int8",
    "interval_no": "int8",
    "last_interval_at": "timestamptz",
}


def load_accounts(account_id: Int64, counts: int) -> AccountStates:
    """The accounts (sorted ids, all of them existing), with so many step counts each."""
    kinds = _KINDS | {f"step_{at}": "int8" for at in range(counts)}
    columns = ", ".join(
        [*_KINDS, *(f"coalesce(step_wh[{at + 1}], 0) AS step_{at}" for at in range(counts))]
    )
    found = read_columns(
        connection.connection,
        # Our own column names and small numbers.
        f"SELECT {columns} FROM account_state WHERE account_id = ANY(%s) ORDER BY account_id",  # noqa: S608
        [account_id.tolist()],
        kinds,
    )
    step_wh = np.zeros((account_id.size, counts), dtype=np.int64)
    for at in range(counts):
        step_wh[:, at] = found[f"step_{at}"]
    return AccountStates(
        account_id=account_id,
        usage=UsageState(
            carry_energy=found["carry_energy"],
            carry_fee=found["carry_fee"],
            carry_tax=found["carry_tax"],
            carry_subsidy=found["carry_subsidy"],
            step_window=found["step_window"],
            step_wh=step_wh,
            allowance_window=found["allowance_window"],
            allowance_wh=found["allowance_wh"],
        ),
        purchase_no=found["purchase_no"],
        interval_no=found["interval_no"],
        last_interval_at_us=found["last_interval_at"],
    )


def contract_terms(accounts: AccountStates, dated: Mapping[int, tuple[Terms, ...]]) -> AccountTerms:
    """What limits of steps depend on; most accounts have no terms of their own."""
    size = accounts.account_id.size
    members, contracted_w = np.ones(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    later: list[tuple[int, int, int, int]] = []
    ids = sorted(dated)
    places = np.searchsorted(accounts.account_id, np.array(ids, dtype=np.int64)).tolist()
    for account_id, at in zip(ids, places, strict=True):
        first, *rest = dated[account_id]
        members[at], contracted_w[at] = first.members, first.contracted_w
        later += [(at, each.from_us, each.members, each.contracted_w) for each in rest]
    columns = np.array(later, dtype=np.int64).reshape(len(later), 4).T
    return AccountTerms(
        members,
        contracted_w,
        accounts.purchase_no,
        DatedTerms(columns[0], columns[1], columns[2], columns[3]) if later else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Movement:
    """What a batch moves of its accounts: charges per component, how many intervals, up to when."""

    energy: Int64
    fee: Int64
    tax: Int64
    subsidy: Int64
    intervals: Int64
    latest_us: Int64
    after: UsageState


def move_accounts(before: AccountStates, moved: Movement, now: datetime) -> tuple[int, ...]:
    """Move the accounts in one UPDATE; returns who fell below the level that supply watches.

    One row per account, or UPDATE FROM would drop all but one. What does not change in any of them
    is left out of the statement, so that an energy price alone costs no more than it needs.
    """
    added, stored = _changes(before.usage, moved)
    columns = {
        "charge_energy": ("bigint", moved.energy.tolist()),
        "intervals": ("bigint", moved.intervals.tolist()),
        "latest": ("timestamptz", [utc_datetime(each) for each in moved.latest_us.tolist()]),
        **{f"more_{name}": ("bigint", values.tolist()) for name, values in added.items()},
        **stored,
    }
    assignments = [
        *(f"accrued_{name} = s.accrued_{name} + v.more_{name}" for name in added),
        *(f"{name} = v.{name}{'::bigint[]' if name == 'step_wh' else ''}" for name in stored),
    ]
    arrays = ", ".join(f"%s::{kind}[]" for kind, _ in columns.values())
    with connection.cursor() as cursor:
        cursor.execute(
            # Names of our own columns, never of a caller's.
            f"""UPDATE account_state s
                SET accrued_energy = s.accrued_energy + v.charge_energy,
                    interval_no = s.interval_no + v.intervals,
                    last_interval_at = greatest(s.last_interval_at, v.latest), updated_at = %s,
                    {", ".join(assignments)}
                FROM unnest(%s::bigint[], {arrays}) AS v(account_id, {", ".join(columns)})
                WHERE s.account_id = v.account_id
                RETURNING s.account_id, s.available < s.watch_below""",  # noqa: S608
            [now, before.account_id.tolist(), *(values for _, values in columns.values())],
        )
        rows = cursor.fetchall()
    if len(rows) != before.account_id.size:
        raise AssertionError(f"{before.account_id.size} accounts meant, {len(rows)} moved")
    return tuple(sorted(int(each[0]) for each in rows if each[1]))


def _changes(
    before: UsageState, moved: Movement
) -> tuple[dict[str, Int64], dict[str, tuple[str, list[int] | list[str]]]]:
    """(what is added to accruals, what is written) of the columns that something changes in."""
    after = moved.after
    added = {
        name: values
        for name, values in (("fee", moved.fee), ("tax", moved.tax), ("subsidy", moved.subsidy))
        if values.any()
    }
    stored: dict[str, tuple[str, list[int] | list[str]]] = {
        "carry_energy": ("bigint", after.carry_energy.tolist())
    }
    for name in (
        "carry_fee",
        "carry_tax",
        "carry_subsidy",
        "step_window",
        "allowance_window",
        "allowance_wh",
    ):
        values: Int64 = getattr(after, name)
        if (values != getattr(before, name)).any():
            stored[name] = ("bigint", values.tolist())
    if (after.step_wh != before.step_wh).any():
        stored["step_wh"] = ("text", _array_texts(after))
    return added, stored


def _array_texts(usage: UsageState) -> list[str]:
    """Each account's counts as the text of an array; empty where nothing is counted."""
    return [
        f"{{{','.join(map(str, each))}}}" if any(each) else "{}" for each in usage.step_wh.tolist()
    ]
