"""What the present day's usage came to, by hour: added up once, and then only what is new.

Today is asked for at every bell, and a day of meters that report every quarter of a minute holds
over a million intervals: adding all of them up anew each time costs more from hour to hour. It need
not be done. Intervals are never changed, they are numbered without gaps per account under its lock
(invariant 3), and a correction is itself a row that takes back. So what was added up to a number
stays right for ever, and only rows with a higher one are missing.

What was added is kept in this process, a few numbers per account; another process adds up for itself.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
from django.db import connection

from prewatt.core.bounds import Int64
from prewatt.reports.place import LocalDay, rows
from prewatt.runtime.copying import read_columns

#: Properties whose day is kept in this process; the one that was asked for longest ago goes first.
_KEPT_MAX: Final = 64

_SUMS = """
    date_bin('1 hour', i.from_at, %(begin)s) AS hour,
    sum(i.charge_energy + i.charge_standing + i.charge_tax + i.charge_fee
        + i.charge_demand + i.charge_subsidy)::bigint,
    sum(i.energy_wh)::bigint
"""


def _none() -> Int64:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class DayUsage:
    """Charges in micro-units by elapsed hour of the day, and the energy in Wh.

    ``numbers`` says up to which interval of each of the ``accounts``, in order, they go, and
    ``begins_at`` of which day.
    """

    begins_at: datetime
    charges: Mapping[int, int] = field(default_factory=dict)
    energy_wh: int = 0
    accounts: Int64 = field(default_factory=_none, compare=False)
    numbers: Int64 = field(default_factory=_none, compare=False)


_kept: OrderedDict[tuple[Any, ...], DayUsage] = OrderedDict()


def day_usage(property_id: int, day: LocalDay, *, most: int | None = None) -> DayUsage | None:
    """The usage of one property's local day so far; inside the scope of who may see that property.

    None when the day of more than ``most`` accounts would have to be added up from its beginning,
    which takes a second for ten thousand of them.
    """
    here = connection.settings_dict
    key = (here["HOST"], here["PORT"], here["NAME"], property_id)
    accounts, numbers = _numbers(property_id, day)
    before = _kept.get(key)
    if before is None or not _goes_on(before, accounts, numbers, day):
        before = DayUsage(day.begins_at)
    if most is not None and accounts.size - before.accounts.size > most:
        return None
    usage = _brought_forward(before, accounts, numbers, day)
    # Two requests at once may both have added the same rows to the same sums: either result is right.
    _kept[key] = usage
    _kept.move_to_end(key)
    while len(_kept) > _KEPT_MAX:
        _kept.popitem(last=False)
    return usage


def _goes_on(before: DayUsage, accounts: Int64, numbers: Int64, day: LocalDay) -> bool:
    """Whether sums of the same day can be added to.

    Numbers only grow and nobody leaves a day: otherwise a closing was entered late, or an older
    database was put in the place of this one.
    """
    if before.begins_at != day.begins_at or not np.isin(before.accounts, accounts).all():
        return False
    return bool((numbers[np.searchsorted(accounts, before.accounts)] >= before.numbers).all())


def _numbers(property_id: int, day: LocalDay) -> tuple[Int64, Int64]:
    """The accounts that are metered on that day, in order, and the number of the last interval of each."""
    connection.ensure_connection()
    found = read_columns(
        connection.connection,
        """SELECT account_id, interval_no FROM account_state
           WHERE property_id = %s AND account_id IN (
               SELECT account_id FROM meter_state WHERE property_id = %s AND closed_at > %s)
           ORDER BY account_id""",
        [property_id, property_id, day.begins_at],
        {"account_id": "int8", "interval_no": "int8"},
    )
    return found["account_id"], found["interval_no"]


def _brought_forward(before: DayUsage, accounts: Int64, numbers: Int64, day: LocalDay) -> DayUsage:
    known = np.searchsorted(accounts, before.accounts)
    unseen = np.ones(accounts.size, dtype=bool)
    unseen[known] = False
    grown = numbers[known] > before.numbers
    found = [
        *_whole_day(accounts[unseen], numbers[unseen], day),
        *_after(before.accounts[grown], before.numbers[grown], numbers[known][grown], day),
    ]
    charges, energy_wh = Counter(before.charges), before.energy_wh
    for hour, charge, wh in found:
        charges[day.hour_of(hour)] += int(charge)
        energy_wh += int(wh)
    return DayUsage(day.begins_at, charges, energy_wh, accounts, numbers)


def _whole_day(accounts: Int64, numbers: Int64, day: LocalDay) -> list[tuple[Any, ...]]:
    """The day's intervals of these accounts up to their numbers, through each one's own key."""
    if not accounts.size:
        return []
    return rows(
        f"""SELECT {_SUMS}
            FROM unnest(%(accounts)s::bigint[], %(numbers)s::bigint[]) AS k(account_id, number)
            JOIN meter_state m ON m.account_id = k.account_id
            JOIN interval i ON i.account_id = m.account_id AND i.meter_id = m.meter_id
                AND i.register_code = m.register_code AND i.interval_no <= k.number
            WHERE i.start_at >= %(begin)s AND i.start_at < %(end)s GROUP BY hour""",  # noqa: S608 - our own sums
        {
            "begin": day.begins_at,
            "end": day.ends_at,
            "accounts": accounts.tolist(),
            "numbers": numbers.tolist(),
        },
    )


def _after(accounts: Int64, before: Int64, numbers: Int64, day: LocalDay) -> list[tuple[Any, ...]]:
    """The day's intervals of accounts, each after a number, through the index of numbers.

    What was committed since the numbers were read has a higher one, and comes the next time.
    """
    if not accounts.size:
        return []
    return rows(
        f"""SELECT {_SUMS}
            FROM unnest(%(accounts)s::bigint[], %(before)s::bigint[], %(numbers)s::bigint[])
                AS k(account_id, before, number)
            JOIN interval i ON i.account_id = k.account_id AND i.interval_no > k.before
                AND i.interval_no <= k.number
            WHERE i.start_at >= %(begin)s AND i.start_at < %(end)s GROUP BY hour""",  # noqa: S608 - our own sums
        {
            "begin": day.begins_at,
            "end": day.ends_at,
            "accounts": accounts.tolist(),
            "before": before.tolist(),
            "numbers": numbers.tolist(),
        },
    )
