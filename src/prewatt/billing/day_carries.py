"""What the days of an account leave of exact amounts, worked out anew where days were put right.

A day's charge is cut off to a micro-unit, and what is left goes on to the next day. When days in between
are taken back at what was booked and charged anew, what they had left is gone, and each such correction could
cost a micro-unit. So the remainder is not carried through a correction: it is what the days that stay
have left, their exact sum less what the ledger has of them. A micro-unit that this makes whole goes to
days that are charged anew, one to each, or on what is taken back. Then the charges of an account by
days are the exact sum of all its days cut off once, in whatever order and however often they are corrected.

Tax by the day follows the same way where nothing but days bears it; beside demand, bounds or charges
that recharges collect its remainder is carried on, and a correction may cost a micro-unit of tax.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from django.db import connection

from prewatt.billing.day_charges import COLLECTED, SOURCE
from prewatt.billing.day_legs import Line
from prewatt.billing.days import DatedRows, DayAccount, dated_rows
from prewatt.core.dated import DATED_DENOMINATOR
from prewatt.core.rating import Component
from prewatt.core.tariff.model import Collect
from prewatt.core.taxes import PPB
from prewatt.ledger.operations import Leg

#: The tax on a line is cut off twice: over the lines of an account, and over its codes.
_TAX_CUT: Final = 2
#: A charge is cut off, and may have got a micro-unit that a correction made whole.
_CUT: Final = 2

#: Whole micro-units that the charges of a component have to take; below zero they give them.
Whole = dict[Component, int]


@dataclass(frozen=True, slots=True)
class Days:
    """Local days of an account: the sheet of what they owe, which of them are owed, and the legs that
    would take back what is posted of each, whose amounts therefore are charges.
    """

    rows: DatedRows
    owed: set[int]
    posted: Mapping[int, Sequence[Leg]]

    def wrong(self, days: Iterable[int]) -> list[int]:
        """Those whose transfers are not what they owe."""
        return [
            day
            for day in days
            if not is_right(self.rows, day, self.posted.get(day, ()), owed=day in self.owed)
        ]


def is_right(rows: DatedRows, day: int, posted: Sequence[Leg], *, owed: bool) -> bool:
    """Whether a day's transfers are what it owes, but for the fractions that are cut off.

    ``posted`` are the legs that would take the transfers back, so their amounts are charges.
    """
    found: defaultdict[tuple[int, str], int] = defaultdict(int)
    for leg in posted:
        found[leg.component, leg.code] += leg.amount
    exact: defaultdict[tuple[int, str], Fraction] = defaultdict(Fraction)
    if owed:
        begin, end = rows.offset[day - rows.first], rows.offset[day - rows.first + 1]
        for row in range(int(begin), int(end)):
            entry = rows.entries[rows.entry[row]]
            micro, rest = int(rows.parts.micro[row]), int(rows.parts.rest[row])
            amount = micro + Fraction(rest, DATED_DENOMINATOR)
            exact[int(entry.component), entry.code] += amount
            for part in entry.tax.parts:
                exact[int(Component.TAX), part.code] += part.share * amount
    lines = sum(1 for component, _ in exact if component != Component.TAX)
    return all(
        abs(found[key] - exact[key]) <= (_TAX_CUT * lines if key[0] == Component.TAX else _CUT)
        for key in found.keys() | exact.keys()
    )


def renew(account: DayAccount, days: Days, again: set[int]) -> Whole:
    """Set the account's carries to what days have left that are not put right now.

    ``days`` are all of the account; those in ``again`` are about to be taken back and charged anew.
    Returns whole micro-units that this leaves.
    """
    booked = _booked(account.account_id)
    standing = set(days.wrong(day for day in _all(days) if day not in again))
    whole: Whole = {}
    for component in (Component.STANDING, Component.FEE):
        left = _exact(days, component, again | standing)
        left += DATED_DENOMINATOR * _posted(days, component, standing)
        left -= DATED_DENOMINATOR * (booked[component] - _posted(days, component, again))
        over, rest = divmod(left + _collected(account, component), DATED_DENOMINATOR)
        whole[component] = over
        if component is Component.STANDING:
            account.carry_standing = rest
        else:
            account.carry_fee = rest
    if _days_alone_are_taxed(account):
        left = _exact_tax(days, again | standing) + PPB * _posted(days, Component.TAX, standing)
        left -= PPB * (booked[Component.TAX] - _posted(days, Component.TAX, again))
        whole[Component.TAX], account.carry_tax = divmod(left, PPB)
    return whole


def give_whole(lines: Sequence[Line], whole: Whole) -> list[Line]:
    """The lines with whole micro-units of their components, one each; ``whole`` keeps the rest."""
    given = []
    for line in lines:
        step = _step(whole.get(line.component, 0))
        if step and line.micro + step:
            whole[line.component] -= step
            given.append(replace(line, micro=line.micro + step))
        else:
            given.append(line)
    return given


def give_whole_tax(taxed: Sequence[tuple[Line, int]], whole: Whole) -> list[tuple[Line, int]]:
    """As ``give_whole``, of the tax on lines that bear any."""
    given = []
    for line, tax in taxed:
        step = _step(whole.get(Component.TAX, 0)) if line.tax.parts else 0
        if step:
            whole[Component.TAX] -= step
        given.append((line, tax + step))
    return given


def take_whole(legs: Sequence[Leg], whole: Whole) -> list[Leg]:
    """Legs that take back, less or more by what no line took, one micro-unit each."""
    taken = []
    for leg in legs:
        component = Component(leg.component)
        step = _step(whole.get(component, 0))
        if step and leg.amount - step:
            whole[component] -= step
            taken.append(replace(leg, amount=leg.amount - step))
        else:
            taken.append(leg)
    return taken


def _step(whole: int) -> int:
    return (whole > 0) - (whole < 0)


def _all(days: Days) -> range:
    return range(days.rows.first, days.rows.first + days.rows.offset.size - 1)


def _booked(account_id: int) -> defaultdict[Component, int]:
    """What the ledger has of charges by the day, and of the tax on them."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT component, -sum(amount)::bigint FROM transfer
               WHERE account_id = %s AND split_part(reason, '@', 1) = ANY(%s) GROUP BY component""",
            [account_id, list(SOURCE.values())],
        )
        return defaultdict(int, {Component(row[0]): int(row[1]) for row in cursor.fetchall()})


def _posted(days: Days, component: Component, which: Iterable[int]) -> int:
    """What is posted of some days."""
    legs = (leg for day in which for leg in days.posted.get(day, ()))
    return sum(leg.amount for leg in legs if leg.component == component)


def _exact(days: Days, component: Component, without: set[int]) -> int:
    """The exact sum of the days that are owed, in units of the dated denominator."""
    rows, total = days.rows, 0
    for at in range(rows.day.size):
        day = int(rows.day[at])
        of_component = rows.entries[rows.entry[at]].component == component
        if of_component and day in days.owed and day not in without:
            total += int(rows.parts.micro[at]) * DATED_DENOMINATOR + int(rows.parts.rest[at])
    return total


def _exact_tax(days: Days, without: set[int]) -> int:
    """The exact tax on what is posted of days, in billionths of a micro-unit."""
    rows, total = days.rows, 0
    for at in range(rows.day.size):
        day, entry = int(rows.day[at]), rows.entries[rows.entry[at]]
        if day not in without:
            charged = sum(
                leg.amount
                for leg in days.posted.get(day, ())
                if (leg.component, leg.code) == (entry.component, entry.code)
            )
            total += charged * entry.tax.share_ppb
    return total


def _collected(account: DayAccount, component: Component) -> int:
    """What charges that recharges collect have left: their exact sum less what is booked of them.

    Nothing where they are not what they should be: such are given back by themselves.
    """
    if not account.plan.collects_at_recharge or account.collected_through < account.opening_day:
        return 0
    first, end = account.opening_day, account.collected_through + 1
    rows = dated_rows(account.plan, first, end, Collect.FIRST_RECHARGE)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT coalesce(-sum(amount), 0)::bigint, count(*) FROM transfer
               WHERE account_id = %s AND component = %s AND reason = %s""",
            [account.account_id, int(component), COLLECTED],
        )
        booked, count = cursor.fetchone()
    owed = {day for a, b in account.owed_ranges(first, end) for day in range(a, b)}
    for these in (owed, set(range(first, end))):
        left = _exact(Days(rows, these, {}), component, set()) - DATED_DENOMINATOR * int(booked)
        if abs(left) <= DATED_DENOMINATOR * (int(count) + 1):
            return left
    return 0


def _days_alone_are_taxed(account: DayAccount) -> bool:
    """Whether no other charge shares the remainder of tax with the days."""
    plans = [account.plan.contents[version] for _, version in account.plan.versions]
    return not account.plan.collects_at_recharge and not any(
        each.demand or each.minimum or each.maximum for each in plans
    )
