"""Where accounts stand in ``account_state``, read and moved as columns under their locks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import numpy as np
from django.db import connection

from prewatt.billing.queries import Terms
from prewatt.core.bounds import Int64
from prewatt.core.usage import AccountTerms, DatedTerms, UsageState
from prewatt.runtime.copying import ArrayOf, column_cursor, read_columns
from prewatt.runtime.prepared import execute, pipelined


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
        f"SELECT {columns} FROM account_state WHERE account_id = ANY(%s::bigint[]) ORDER BY account_id",  # noqa: S608 - our own names
        [ArrayOf("int8", account_id)],
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


class Outdated(Exception):
    """What was remembered of meters, accounts or prices is not what stands; nothing was written."""


class Proof(Protocol):
    """What else a batch from memory took for granted; asked in the round trip that moves its accounts."""

    def ask(self) -> None:
        """Send statements whose rows nobody waits for yet; the accounts are locked when they run."""

    def hold(self) -> None:
        """Raise Outdated where the answers are not what was remembered."""


def move_accounts(
    before: AccountStates, moved: Movement, now: datetime, *, proof: Proof | None = None
) -> tuple[int, ...]:
    """Move the accounts in one UPDATE; returns who fell below the level that supply watches.

    One row per account, or UPDATE FROM would drop all but one. What does not change in any of them
    is left out of the statement, so that an energy price alone costs no more than it needs.

    The caller holds the accounts' locks; or, where ``before`` is from memory and there is a ``proof``
    to bring, the UPDATE itself takes them, in order, and moves only rows that are as they were.
    Raises Outdated then. The proof's statements go with the UPDATE, so all of it is waited for once.
    """
    columns = {
        "account_id": ("int8", before.account_id),
        "charge_energy": ("int8", moved.energy),
        "intervals": ("int8", moved.intervals),
        "latest": ("timestamptz", moved.latest_us),
    }
    assignments = _changes(before.usage, moved, columns)
    conditions = ["s.account_id = v.account_id"]
    constants: list[int] = []
    if proof is not None:
        conditions.append(all_of(_as_before(before, columns, constants)))
    arrays = ", ".join(f"%s::{kind}[]" for kind, _ in columns.values())
    # Names of our own columns, never of a caller's.
    statement = f"""WITH moved AS (
            UPDATE account_state s
            SET accrued_energy = s.accrued_energy + v.charge_energy,
                interval_no = s.interval_no + v.intervals,
                last_interval_at = greatest(s.last_interval_at, v.latest), updated_at = %s,
                {", ".join(assignments)}
            FROM unnest({arrays}) AS v({", ".join(columns)})
            WHERE {" AND ".join(conditions)}
            RETURNING s.account_id, s.available < s.watch_below AS is_below)
        SELECT count(*), array_agg(account_id ORDER BY account_id) FILTER (WHERE is_below)
        FROM moved"""  # noqa: S608 - our own names
    given = [ArrayOf(kind, values) for kind, values in columns.values()]
    with column_cursor(connection.connection) as cursor:
        with nullcontext() if proof is None else pipelined():
            if proof is not None:
                execute(JOIN_IN_ORDER, [])
            cursor.execute(statement, [now, *given, *constants])
            if proof is not None:
                proof.ask()
                execute(JOIN_FREELY, [])
        row = cursor.fetchone()
    assert row is not None
    count, crossed = row
    if proof is not None:
        if count < before.account_id.size:
            raise Outdated("accounts")
        proof.hold()
    if count != before.account_id.size:
        raise AssertionError(f"{before.account_id.size} accounts meant, {count} moved")
    return tuple(crossed or ())


#: Rows are then looked up one by one, and locked in the order of the array, which is that of
#: ``account_id``; a table that is small beside a batch would be read whole otherwise.
JOIN_IN_ORDER: Final = """SELECT set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true), set_config('enable_seqscan', 'off', true)"""
JOIN_FREELY: Final = JOIN_IN_ORDER.replace("'off'", "'on'")


def all_of(conditions: Sequence[str]) -> str:
    """Conditions as one that the planner knows nothing of.

    Taken one by one they look as if hardly a row met them all, and PostgreSQL then goes through the
    whole table and through all of the array for each row. They are nearly always met.
    """
    return f"CASE WHEN {' AND '.join(conditions)} THEN true ELSE false END"


def equal_to(
    name: str,
    column: str,
    values: Int64,
    columns: dict[str, tuple[str, Int64]],
    constants: list[int],
) -> str:
    """The condition that ``column`` holds ``values``: a parameter where they are all the same, else
    one more of the ``columns`` of ``v``, called ``name``.
    """
    if (values == values[0]).all():
        constants.append(int(values[0]))
        return f"{column} = %s"
    columns[name] = ("int8", values)
    return f"{column} = v.{name}"


def _as_before(
    before: AccountStates, columns: dict[str, tuple[str, Int64]], constants: list[int]
) -> list[str]:
    """The conditions that everything rating began with is still so."""
    usage = before.usage
    known = {
        "interval_no": before.interval_no,
        "purchase_no": before.purchase_no,
        "carry_energy": usage.carry_energy,
        "carry_fee": usage.carry_fee,
        "carry_tax": usage.carry_tax,
        "carry_subsidy": usage.carry_subsidy,
        "step_window": usage.step_window,
        "allowance_window": usage.allowance_window,
        "allowance_wh": usage.allowance_wh,
    }
    conditions = [
        equal_to(f"old_{name}", f"s.{name}", values, columns, constants)
        for name, values in known.items()
    ]
    for at in range(usage.step_wh.shape[1]):
        counted = f"coalesce(s.step_wh[{at + 1}], 0)"
        conditions.append(
            equal_to(f"old_step_{at}", counted, usage.step_wh[:, at], columns, constants)
        )
    return conditions


def _changes(
    before: UsageState, moved: Movement, columns: dict[str, tuple[str, Int64]]
) -> list[str]:
    """Add to ``columns`` what is added to accruals and what is written, where anything changes;
    returns the assignments.
    """
    after, assignments = moved.after, []
    for name, added in (("fee", moved.fee), ("tax", moved.tax), ("subsidy", moved.subsidy)):
        if added.any():
            columns[f"charge_{name}"] = ("int8", added)
            assignments.append(f"accrued_{name} = s.accrued_{name} + v.charge_{name}")
    for name in (
        "carry_energy",
        "carry_fee",
        "carry_tax",
        "carry_subsidy",
        "step_window",
        "allowance_window",
        "allowance_wh",
    ):
        values: Int64 = getattr(after, name)
        if name == "carry_energy" or (values != getattr(before, name)).any():
            columns[name] = ("int8", values)
            assignments.append(f"{name} = v.{name}")
    if (after.step_wh != before.step_wh).any():
        counts = [f"step_{at}" for at in range(after.step_wh.shape[1])]
        columns |= {name: ("int8", after.step_wh[:, at]) for at, name in enumerate(counts)}
        array, all_zero = ", ".join(f"v.{name}" for name in counts), ", ".join("0" for _ in counts)
        assignments.append(
            # Empty where nothing is counted.
            f"step_wh = CASE WHEN ({array}) = ({all_zero}) THEN '{{}}' ELSE ARRAY[{array}] END"
        )
    return assignments
