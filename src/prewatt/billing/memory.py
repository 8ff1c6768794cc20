"""What an ingesting process remembers of meters and accounts, so that it need not read them again.

Nothing here is believed: a batch that is rated from memory says in its UPDATEs what it took every row
for, and where PostgreSQL, under the row's lock, finds it otherwise, nothing of the batch is written and
the batch is rated again from the rows themselves (`ingestion`). So a memory may be old, shared with a
transaction that was rolled back, or thrown away at any time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from prewatt.billing.accounts import AccountStates
from prewatt.billing.states import States
from prewatt.core.bounds import Int64
from prewatt.core.readings import ACTIVE_IMPORT
from prewatt.core.usage import UsageState
from prewatt.core.vee import MeterWatermarks, Validated

#: About 250 bytes for a meter and its account: half a gigabyte at most.
METERS_MAX: Final = 2_000_000
_GROWTH: Final = 1.5
_METER: Final = ("account_id", "property_id")
_WATERMARK: Final = (
    "last_at_us",
    "last_value",
    "opened_at_us",
    "opened_value",
    "closed_at_us",
    "register_modulus",
    "wh_per_count",
    "max_power_w",
    "period_us",
    "ahead_uj",
)
_USAGE: Final = (
    "carry_energy",
    "carry_fee",
    "carry_tax",
    "carry_subsidy",
    "step_window",
    "allowance_window",
    "allowance_wh",
)
_ACCOUNT: Final = ("purchase_no", "interval_no", "last_interval_at_us")


class _Rows:
    """Rows of ``width`` numbers by id: sorted ids point into a table that only grows."""

    def __init__(self, width: int) -> None:
        self._ids = np.zeros(0, dtype=np.int64)
        self._place = np.zeros(0, dtype=np.int64)
        self._table = np.zeros((0, width), dtype=np.int64)
        self._used = 0

    def __len__(self) -> int:
        return int(self._ids.size)

    def find(self, ids: Int64) -> Int64 | None:
        """The rows of sorted ids, or None if any is unknown."""
        if len(self) == 0:
            return None
        at = np.minimum(np.searchsorted(self._ids, ids), len(self) - 1)
        if not (self._ids[at] == ids).all():
            return None
        rows: Int64 = self._table[self._place[at]]
        return rows

    def put(self, ids: Int64, rows: Int64) -> None:
        """Remember the rows of sorted ids in the place of what was known of them."""
        at = np.searchsorted(self._ids, ids)
        known = np.zeros(ids.size, dtype=np.bool_)
        inside = at < len(self)
        known[inside] = self._ids[at[inside]] == ids[inside]
        self._table[self._place[at[known]]] = rows[known]
        if known.all():
            return
        fresh = ~known
        begin, self._used = self._used, self._used + int(fresh.sum())
        if self._used > len(self._table):
            grown = np.zeros((int(self._used * _GROWTH), self._table.shape[1]), dtype=np.int64)
            grown[:begin] = self._table[:begin]
            self._table = grown
        self._table[begin : self._used] = rows[fresh]
        self._ids = np.insert(self._ids, at[fresh], ids[fresh])
        self._place = np.insert(self._place, at[fresh], np.arange(begin, self._used))

    def forget(self, ids: Int64) -> None:
        """Know nothing of these any more; their places stay empty."""
        others = ~np.isin(self._ids, ids)
        if not others.all():
            self._ids, self._place = self._ids[others], self._place[others]


@dataclass(slots=True)
class Memory:
    """Meters with one payer and the accounts they are charged to; not shared between threads."""

    _meters: _Rows = field(default_factory=lambda: _Rows(len(_METER) + len(_WATERMARK)))
    _accounts: _Rows = field(default_factory=lambda: _Rows(len(_ACCOUNT) + len(_USAGE)))
    _counts: int = 0

    def recall(self, meter_id: Int64) -> States | None:
        """The state of every meter (sorted ids) in the order of `States`, or None if one is unknown."""
        rows = self._meters.find(meter_id)
        if rows is None:
            return None
        order = np.lexsort((meter_id, rows[:, 0]))
        rows = rows[order].T
        marks = dict(zip(_WATERMARK, np.ascontiguousarray(rows[len(_METER) :]), strict=True))
        return States(
            account_id=np.ascontiguousarray(rows[0]),
            meter_id=meter_id[order],
            register_code=np.full(meter_id.size, ACTIVE_IMPORT, dtype=np.int64),
            property_id=np.ascontiguousarray(rows[1]),
            watermarks=MeterWatermarks(**marks),
        )

    def recall_accounts(self, account_id: Int64, counts: int) -> AccountStates | None:
        """The accounts (sorted ids) with so many step counts each, or None if one is unknown."""
        rows = self._accounts.find(account_id) if counts == self._counts else None
        if rows is None:
            return None
        columns = np.ascontiguousarray(rows.T)
        named = dict(zip((*_ACCOUNT, *_USAGE), columns, strict=False))
        usage = {name: named[name] for name in _USAGE}
        step_wh = np.ascontiguousarray(rows[:, len(named) :])
        return AccountStates(
            account_id=account_id,
            usage=UsageState(**usage, step_wh=step_wh),
            **{name: named[name] for name in _ACCOUNT},
        )

    def remember(self, states: States, validated: Validated) -> None:
        """Remember meters as they stand after a batch, and forget those of several payers."""
        meters, first, count = np.unique(states.meter_id, return_index=True, return_counts=True)
        chosen = (count == 1) & (states.register_code[first] == ACTIVE_IMPORT)
        if not chosen.all():
            self._meters.forget(meters[~chosen])
        at = first[chosen]
        columns = [getattr(states, name) for name in _METER]
        marks = {name: getattr(states.watermarks, name) for name in _WATERMARK}
        marks |= {
            name: getattr(validated, name) for name in ("last_at_us", "last_value", "ahead_uj")
        }
        if len(self._meters) + at.size > METERS_MAX:
            self._meters = _Rows(len(_METER) + len(_WATERMARK))
        self._meters.put(
            meters[chosen], np.stack([each[at] for each in (*columns, *marks.values())], axis=1)
        )

    def remember_accounts(self, accounts: AccountStates) -> None:
        """Remember accounts as they stand after a batch."""
        usage = accounts.usage
        counts = usage.step_wh.shape[1]
        if counts != self._counts or len(self._accounts) + accounts.account_id.size > METERS_MAX:
            self._counts = counts
            self._accounts = _Rows(len(_ACCOUNT) + len(_USAGE) + counts)
        columns = [getattr(accounts, name) for name in _ACCOUNT]
        columns += [getattr(usage, name) for name in _USAGE]
        self._accounts.put(
            accounts.account_id, np.column_stack([*columns, usage.step_wh]).astype(np.int64)
        )
