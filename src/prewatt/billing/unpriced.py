"""Accounts without a tariff: left out of what needs a price, with a reason, and never in the way.

An account gets its tariff with its opening; one without is a mistake that somebody has to put right.
Until then the readings of its meters are held in VEE under a verdict of their own, its watermark
stays, and an alert says whose price is missing. With a tariff the held readings are rated as if they
came then: the energy was never lost, and none of it is charged twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
from django.db import connection

from prewatt.access.scope import system_actor
from prewatt.audit.operations import record
from prewatt.billing.queries import version_chains
from prewatt.core.bounds import Int64
from prewatt.core.readings import ACTIVE_IMPORT, ReadingBatch
from prewatt.core.vee import Verdict
from prewatt.notify.alerts import NO_TARIFF
from prewatt.notify.operations import close_alert, raise_alert


def leave_out(account_ids: Iterable[int], *, now: datetime) -> frozenset[int]:
    """Those of the accounts that have no tariff at all, each with an alert; in the caller's
    transaction.
    """
    asked = sorted(set(account_ids))
    unpriced = frozenset(asked) - version_chains(asked).keys()
    _raise(unpriced, now)
    return unpriced


def hold_unpriced(
    verdict: npt.NDArray[np.int8],
    *,
    batch: ReadingBatch,
    account_id: Int64,
    unpriced: frozenset[int],
    now: datetime,
) -> None:
    """Turn the verdicts of readings that would be rated, and cannot be, into held ones.

    ``account_id`` is the account of each reading. Alerts are raised in the caller's transaction.
    """
    would_be_rated = np.isin(verdict, [Verdict.ACCEPTED, Verdict.BACKFILL])
    would_be_rated &= batch.register_code == ACTIVE_IMPORT
    held = would_be_rated & np.isin(account_id, sorted(unpriced))
    if held.any():
        verdict[held] = Verdict.UNPRICED
        _raise(np.unique(account_id[held]).tolist(), now)


def properties_with_held() -> list[int]:
    """The properties in scope that have readings held for want of a tariff."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT DISTINCT property_id FROM vee_case WHERE state = 'held' AND verdict = %s
               ORDER BY 1""",
            [int(Verdict.UNPRICED)],
        )
        return [int(row[0]) for row in cursor.fetchall()]


def held_readings(property_id: int) -> tuple[list[int], ReadingBatch]:
    """(cases, their readings in order of time) of a property's accounts that have a tariff by now."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT DISTINCT account_id FROM vee_case
               WHERE state = 'held' AND verdict = %s AND property_id = %s""",
            [int(Verdict.UNPRICED), property_id],
        )
        waiting = [int(row[0]) for row in cursor.fetchall()]
        priced = sorted(version_chains(waiting)) if waiting else []
        cursor.execute(
            """SELECT case_id, meter_id, register_code,
                      (extract(epoch FROM read_at) * 1000000)::bigint, value_wh, source,
                      (extract(epoch FROM received_at) * 1000000)::bigint
               FROM vee_case WHERE state = 'held' AND verdict = %s AND account_id = ANY(%s)
               ORDER BY read_at, case_id LIMIT %s""",
            [int(Verdict.UNPRICED), priced, _AT_ONCE],
        )
        found = np.array(cursor.fetchall(), dtype=np.int64).reshape(-1, 7).T
    case, meter, register, read_at, value, source, received = found
    batch = ReadingBatch(
        meter_id=meter, register_code=register, read_at_us=read_at, value_wh=value, source=source,
        received_at_us=received,
    )  # fmt: skip
    return case.tolist(), batch


#: Held readings rated in one transaction; the rest waits for the next.
_AT_ONCE: Final = 10_000


def close_cases(case_ids: list[int], *, now: datetime) -> None:
    """Mark cases released whose readings the caller has applied, and end their accounts' alerts."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE vee_case SET state = 'released', closed_at = %s, closed_by = %s,
                   close_reason = %s
               WHERE case_id = ANY(%s) RETURNING property_id, account_id""",
            [now, _RELEASER, NO_TARIFF, case_ids],
        )
        accounts = sorted(set(cursor.fetchall()))
    for property_id, account_id in accounts:
        close_alert(
            property_id=property_id, code=NO_TARIFF, subject=f"account:{account_id}", now=now
        )
        record(
            actor=_RELEASER,
            code="mdm.vee.released",
            property_id=property_id,
            subject=f"account:{account_id}",
            now=now,
            reason=NO_TARIFF,
        )


_RELEASER: Final = system_actor("readings").code


def _raise(account_ids: Iterable[int], now: datetime) -> None:
    accounts = sorted(account_ids)
    if not accounts:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT account_id, property_id FROM account_state WHERE account_id = ANY(%s)",
            [accounts],
        )
        places = cursor.fetchall()
    for account_id, property_id in places:
        raise_alert(
            property_id=property_id, code=NO_TARIFF, subject=f"account:{account_id}", detail={},
            now=now,
        )  # fmt: skip
