"""What a let's plan takes besides rent and deposit: charges by the day, and the least that it bills.

Both are known before the let begins, and whoever takes the money has to see them: they leave the wallet
day by day until the end, whatever is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prewatt.billing.days import DayPlan, dated_rows
from prewatt.billing.trial_months import Lives, bounds_by_day
from prewatt.core.civil_time import DAY_US, LocalCalendar
from prewatt.core.dated import accrue_parts, accrue_tax, periods_of
from prewatt.core.tariff import Tariff
from prewatt.core.tariff.model import Collect


@dataclass(frozen=True, slots=True)
class LetCharges:
    """Micro-units with their taxes over a whole let of ``days`` days that begin within it.

    ``by_days_micro`` are standing charges and fees; ``least_micro`` is what a minimum bill adds to
    them where nothing is used.
    """

    days: int
    by_days_micro: int
    least_micro: int


def charges_of(tariff: Tariff, zone: str, *, from_us: int, until_us: int) -> LetCharges:
    """What a tariff takes by days and at least of a let [from, until), as postings will."""
    calendar = LocalCalendar(zone)
    touched = calendar.local_day(np.array([from_us, until_us - 1], dtype=np.int64))
    first, end = int(touched[0]), int(touched[1]) + 1
    if calendar.first_instant_at_wall(np.array([first * DAY_US], dtype=np.int64))[0] < from_us:
        # The owner owes the day that had begun.
        first += 1
    if first >= end:
        return LetCharges(0, 0, 0)
    return LetCharges(
        end - first, _by_days(tariff, zone, first, end), _at_least(tariff, zone, first, end)
    )


def _by_days(tariff: Tariff, zone: str, first: int, end: int) -> int:
    # What a recharge collects is taken with the payment itself.
    rows = dated_rows(_alone(tariff, zone), first, end, Collect.DAILY)
    one, nothing = np.zeros(rows.day.size, dtype=np.int64), np.zeros(1, dtype=np.int64)
    charge, _ = accrue_parts(account_index=one, parts=rows.parts, carry=nothing)
    share = np.array([rows.entries[at].tax.share_ppb for at in rows.entry], dtype=np.int64)
    tax, _ = accrue_tax(account_index=one, charge_micro=charge, share_ppb=share, carry=nothing)
    return int(charge.sum() + tax.sum())


def _at_least(tariff: Tariff, zone: str, first: int, end: int) -> int:
    """What minimum bills of the let's days add where nothing is used; a maximum takes off nothing then."""
    if tariff.minimum is None:
        return 0
    begin = int(periods_of(tariff.minimum.per, np.array([first], dtype=np.int64)).first_day[0])
    day = np.arange(begin, end, dtype=np.int64)
    lives = Lives(
        begin,
        LocalCalendar(zone).first_instant_at_wall(day * DAY_US),
        (day >= first).reshape(1, -1),
        np.ones(1, dtype=np.bool_),
        [frozenset()],
    )
    nothing = np.zeros((1, day.size), dtype=np.int64)
    return int(bounds_by_day(tariff, lives, nothing, zone)[0].sum())


def _alone(tariff: Tariff, zone: str) -> DayPlan:
    return DayPlan(zone, ((0, 0),), ((0, frozenset()),), {0: tariff})
