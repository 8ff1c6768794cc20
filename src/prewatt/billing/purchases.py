"""Which purchase an interval belongs to: it is counted in the window of the last recharge at or
before its start.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from django.db import connection

from prewatt.billing.accounts import AccountStates
from prewatt.core.accounts import TransferKind
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import utc_datetime

#: Keys of windows are instants in µs or numbers of purchases; every instant after 1970 is larger.
_FIRST_INSTANT_US = 10**12


def current_purchase(key: Int64) -> Int64:
    """The purchase that a stored window key names; -1 for a window of the calendar."""
    return np.where(key < _FIRST_INSTANT_US, key, -1)


def number_purchases(
    accounts: AccountStates, account: Int64, start_at_us: Int64, *, asked: Int64
) -> Int64:
    """The number of each interval's purchase; only ``asked`` rows are worked out, the others get
    the present one.

    The transfers are asked only for rows that may be of an earlier purchase: the first ones after a
    recharge, and those from before what is charged already.
    """
    number = accounts.purchase_no[account]
    known = accounts.usage.step_window == accounts.purchase_no
    own = account[asked]
    doubtful = asked[
        (accounts.purchase_no[own] > 0)
        & (~known[own] | (start_at_us[asked] < accounts.last_interval_at_us[own]))
    ]
    if doubtful.size:
        later = _recharges_after(
            accounts.account_id[account[doubtful]].tolist(), start_at_us[doubtful].tolist()
        )
        number[doubtful] -= np.array(later, dtype=np.int64)
    return number


def _recharges_after(account_id: Sequence[int], at_us: Sequence[int]) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT count(t.seq) FROM unnest(%s::bigint[], %s::timestamptz[]) WITH ORDINALITY
                   AS v(account_id, at, n)
               LEFT JOIN transfer t ON t.account_id = v.account_id AND t.kind = %s
                   AND t.service_from > v.at
               GROUP BY v.n ORDER BY v.n""",
            [list(account_id), [utc_datetime(each) for each in at_us], int(TransferKind.RECHARGE)],
        )
        return [int(row[0]) for row in cursor.fetchall()]


def recharge_instants(account_ids: Sequence[int]) -> dict[int, list[int]]:
    """When accounts were recharged, in µs, in order: purchase n begins at the n-th of them."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT account_id, (extract(epoch FROM service_from) * 1000000)::bigint
               FROM transfer WHERE account_id = ANY(%s) AND kind = %s ORDER BY account_id, seq""",
            [list(account_ids), int(TransferKind.RECHARGE)],
        )
        found: dict[int, list[int]] = {}
        for account_id, at_us in cursor.fetchall():
            found.setdefault(account_id, []).append(at_us)
    return found
