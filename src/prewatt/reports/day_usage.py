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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import connection

from prewatt.reports.place import LocalDay, rows

#: Properties whose day is kept in this process; the one that was asked for longest ago goes first.
_KEPT_MAX: Final = 64

_SUMS = """
    max(i.interval_no), date_bin('1 hour', i.from_at, %(begin)s) AS hour,
    sum(i.charge_energy + i.charge_standing + i.charge_tax + i.charge_fee
        + i.charge_demand + i.charge_subsidy)::bigint,
    sum(i.energy_wh)::bigint
"""


@dataclass(frozen=True, slots=True)
class DayUsage:
    """Charges in micro-units by elapsed hour of the day, and the energy in Wh.

    ``added`` says up to which interval of each account they go, ``begins_at`` of which day.
    """

    begins_at: datetime
    charges: Mapping[int, int] = field(default_factory=dict)
    energy_wh: int = 0
    added: Mapping[int, int] = field(default_factory=dict)


_kept: OrderedDict[tuple[Any, ...], DayUsage] = OrderedDict()


def day_usage(property_id: int, day: LocalDay) -> DayUsage:
    """The usage of one property's local day so far; inside the scope of who may see that property."""
    here = connection.settings_dict
    key = (here["HOST"], here["PORT"], here["NAME"], property_id)
    numbers = _numbers(property_id, day)
    before = _kept.get(key)
    if before is None or not _goes_on(before, numbers, day):
        before = DayUsage(day.begins_at)
    usage = _brought_forward(before, numbers, day)
    # Two requests at once may both have added the same rows to the same sums: either result is right.
    _kept[key] = usage
    _kept.move_to_end(key)
    while len(_kept) > _KEPT_MAX:
        _kept.popitem(last=False)
    return usage


def _goes_on(before: DayUsage, numbers: Mapping[int, int], day: LocalDay) -> bool:
    """Whether sums of the same day can be added to.

    Numbers only grow and nobody leaves a day: otherwise a closing was entered late, or an older
    database was put in the place of this one.
    """
    return before.begins_at == day.begins_at and all(
        numbers.get(account, -1) >= number for account, number in before.added.items()
    )


def _numbers(property_id: int, day: LocalDay) -> dict[int, int]:
    """The number of the last interval of every account that is metered on that day."""
    found = rows(
        """SELECT account_id, interval_no FROM account_state
           WHERE account_id IN (SELECT account_id FROM meter_state
                                WHERE property_id = %s AND closed_at > %s)""",
        [property_id, day.begins_at],
    )
    return {int(account): int(number) for account, number in found}


def _brought_forward(before: DayUsage, numbers: Mapping[int, int], day: LocalDay) -> DayUsage:
    unseen = [account for account in numbers if account not in before.added]
    grown = [account for account, number in before.added.items() if numbers[account] > number]
    found = [
        *_whole_day(unseen, day),
        *_after([(account, before.added[account]) for account in grown], day),
    ]
    charges, energy_wh = Counter(before.charges), before.energy_wh
    added = {**before.added, **numbers}
    for account, last_number, hour, charge, wh in found:
        charges[day.hour_of(hour)] += int(charge)
        energy_wh += int(wh)
        # Rows may have been committed since the numbers were read.
        added[account] = max(added[account], int(last_number))
    return DayUsage(day.begins_at, charges, energy_wh, added)


def _whole_day(accounts: Sequence[int], day: LocalDay) -> list[tuple[Any, ...]]:
    """The day's intervals of these accounts, through each one's own key."""
    if not accounts:
        return []
    return rows(
        f"""SELECT i.account_id, {_SUMS}
            FROM meter_state m
            JOIN interval i ON i.account_id = m.account_id AND i.meter_id = m.meter_id
                AND i.register_code = m.register_code
            WHERE m.account_id = ANY(%(accounts)s)
              AND i.start_at >= %(begin)s AND i.start_at < %(end)s
            GROUP BY i.account_id, hour""",  # noqa: S608 - our own sums
        {"begin": day.begins_at, "end": day.ends_at, "accounts": list(accounts)},
    )


def _after(marks: Sequence[tuple[int, int]], day: LocalDay) -> list[tuple[Any, ...]]:
    """The day's intervals of accounts, each after a number, through the index of numbers."""
    if not marks:
        return []
    accounts, numbers = zip(*marks, strict=True)
    return rows(
        f"""SELECT i.account_id, {_SUMS}
            FROM unnest(%(accounts)s::bigint[], %(numbers)s::bigint[]) AS k(account_id, number)
            JOIN interval i ON i.account_id = k.account_id AND i.interval_no > k.number
            WHERE i.start_at >= %(begin)s AND i.start_at < %(end)s
            GROUP BY i.account_id, hour""",  # noqa: S608 - our own sums
        {
            "begin": day.begins_at,
            "end": day.ends_at,
            "accounts": list(accounts),
            "numbers": list(numbers),
        },
    )
