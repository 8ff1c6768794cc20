"""What accounts used, read back as columns: the intervals that stand, whole again.

Segments of one interval are joined and superseded ones left out, so that the energy can be rated
anew under any plan exactly as if it had just arrived. One statement for a chunk of accounts, no
Python object per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from django.db import connection

from prewatt.core.bounds import Int64
from prewatt.core.readings import ACTIVE_IMPORT, REVERSED_SEGMENT
from prewatt.runtime.copying import read_groups


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """Intervals in order of (account, start, meter); columns of one length.

    `account_index` is a position in the sequence of accounts asked for. `charged_micro` is what
    all components of the interval cost, taxes and subsidies included.
    """

    account_index: Int64
    meter_id: Int64
    start_at_us: Int64
    end_at_us: Int64
    energy_wh: Int64
    charged_micro: Int64

    def __len__(self) -> int:
        return int(self.account_index.size)


def read_usage(*, account_ids: Sequence[int], from_at: datetime, until_at: datetime) -> Usage:
    """The intervals of accounts (sorted ids) that begin in [from, until), in the caller's scope."""
    accounts = np.array(account_ids, dtype=np.int64)
    if accounts.size == 0:
        return _joined({name: np.zeros(0, dtype=np.int64) for name in _COLUMNS}, accounts)
    if (np.diff(accounts) <= 0).any():
        raise ValueError("account ids must be sorted and distinct")
    with connection.cursor() as cursor:
        cursor.execute(PLANNING)
    columns = read_groups(
        connection.connection,
        SEGMENTS,
        [accounts.tolist(), from_at, until_at],
        ("account_id", "meter_id"),
        _GATHERED,
    )
    place = columns.pop("place")
    columns |= {"revision": place >> _SEGMENT_BITS, "segment": place & (2**_SEGMENT_BITS - 1)}
    order = np.lexsort((place, columns["meter_id"], columns["start_at"], columns["account_id"]))
    return _joined(standing({name: values[order] for name, values in columns.items()}), accounts)


_SEGMENT_BITS: Final = 16
_GATHERED: Final = {
    "start_at": "timestamptz",
    "to_at": "timestamptz",
    "energy_wh": "int8",
    "charged": "int8",
    "place": "int4",
}
_COLUMNS: Final = ("account_id", "meter_id", "revision", "segment", *_GATHERED)
#: For the transaction. Rows of an account lie wherever a batch of readings was written, one in a
#: page, so a chunk is read page by page; and there is memory for the arrays of all its groups, so
#: that nothing is sorted. Parallel workers would only copy the arrays once more.
PLANNING: Final = """
SET LOCAL enable_indexscan = off; SET LOCAL enable_sort = off; SET LOCAL work_mem = '256MB';
SET LOCAL max_parallel_workers_per_gather = 0
"""
#: What a row ``c`` of ``interval`` has to be to stand: no reversal, and not taken back by one. A
#: sub-select by the key is looked up row by row, whatever the planner believes about the table.
STANDS: Final = f"""
c.segment < {REVERSED_SEGMENT} AND (
    SELECT back.revision FROM interval back
    WHERE back.account_id = c.account_id AND back.meter_id = c.meter_id
      AND back.register_code = c.register_code AND back.start_at = c.start_at
      AND back.revision = c.revision + 1 AND back.segment = c.segment + {REVERSED_SEGMENT}
) IS NULL"""  # noqa: S608 - our own numbers
#: The segments of accounts that begin in [from, until), a row for each account and meter; ``place``
#: is the revision and the segment in one number.
SEGMENTS: Final = f"""
SELECT account_id, meter_id, array_agg(start_at), array_agg(to_at), array_agg(energy_wh),
       array_agg(charge_energy + charge_standing + charge_tax + charge_fee + charge_demand
                 + charge_subsidy),
       array_agg((revision::integer << {_SEGMENT_BITS}) + segment)
FROM interval
WHERE account_id = ANY(%s) AND register_code = {ACTIVE_IMPORT} AND start_at >= %s AND start_at < %s
GROUP BY account_id, meter_id
"""  # noqa: S608 - our own numbers


def standing(columns: dict[str, Int64]) -> dict[str, Int64]:
    """Segments as columns, without those that a reversal took back, and without the reversals.

    A reversal carries the revision after that of the segment it takes back.
    """
    reversal = columns["segment"] >= REVERSED_SEGMENT
    if not reversal.any():
        return columns
    taken = np.rec.fromarrays(
        [
            columns["account_id"][reversal],
            columns["meter_id"][reversal],
            columns["start_at"][reversal],
            columns["revision"][reversal] - 1,
            columns["segment"][reversal] - REVERSED_SEGMENT,
        ]
    )
    keys = np.rec.fromarrays(
        [columns[each] for each in ("account_id", "meter_id", "start_at", "revision", "segment")]
    )
    stands = ~reversal & ~np.isin(keys, taken)
    return {name: values[stands] for name, values in columns.items()}


def _joined(columns: dict[str, Int64], accounts: Int64) -> Usage:
    """The segments of each interval as one row. They are neighbours in the order of the columns."""
    account, meter, start = columns["account_id"], columns["meter_id"], columns["start_at"]
    new = np.ones(account.size, dtype=np.bool_)
    new[1:] = (account[1:] != account[:-1]) | (meter[1:] != meter[:-1]) | (start[1:] != start[:-1])
    first = np.flatnonzero(new)
    last = np.append(first[1:], account.size)[: first.size] - 1
    return Usage(
        account_index=np.searchsorted(accounts, account[first]),
        meter_id=meter[first],
        start_at_us=start[first],
        end_at_us=columns["to_at"][last],
        energy_wh=_sums(columns["energy_wh"], first),
        charged_micro=_sums(columns["charged"], first),
    )


def _sums(values: Int64, first: Int64) -> Int64:
    return np.add.reduceat(values, first) if first.size else values
