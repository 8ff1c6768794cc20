"""Minimum and maximum bills: what a month or year came to, and the difference that is still due.

A day belongs to the bound of the version that holds at its first instant. The bound of a period is
the sum of the parts of its owed days, so an account that came or left in the middle, and a version
that began in the middle, have theirs; what is held against it is the energy, standing charges and
demand of the same days, before tax. The difference is posted under the period's last owed day.

Energy is added up in ``bound_period`` as it is posted. Usage that is posted after its period was
settled settles it once more, and only the difference between the two is posted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from django.db import connection

from prewatt.billing.day_legs import Line
from prewatt.billing.days import DayAccount, DayPlan, dated_rows
from prewatt.billing.peaks import Span
from prewatt.core.dated import (
    DayParts,
    maximum_due,
    minimum_due,
    parts_of_days,
    periods_of,
    sum_parts,
)
from prewatt.core.rating import Component
from prewatt.core.tariff import Tariff
from prewatt.core.tariff.model import Bound, Taxable

SOURCE: Final = {Component.MINIMUM: "daily.minimum", Component.MAXIMUM: "daily.maximum"}
CODE: Final = {Component.MINIMUM: "minimum", Component.MAXIMUM: "maximum"}


@dataclass(frozen=True, slots=True)
class Period:
    """One account's month or year [first, until) under one of its bounds."""

    account_id: int
    component: Component
    first: int
    until: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """A row of ``bound_period``."""

    energy: int = 0
    posted: int = 0
    is_settled: bool = False


def has_bound(account: DayAccount) -> bool:
    """Whether any version of the account's plan has a minimum or a maximum."""
    plan = account.plan
    return any(
        plan.contents[version].minimum or plan.contents[version].maximum
        for _, version in plan.versions
    )


def bound_lines(
    accounts: Sequence[DayAccount],
    spans: Mapping[int, Span],
    energy: Mapping[tuple[int, int], int],
) -> list[Line]:
    """What is due to the bounds of periods that ended, or changed after they were settled.

    ``energy`` is what is being posted now of energy charges by (account, local day). Demand of the
    same run is stored already. The caller holds the accounts' locks.
    """
    asked = {account.account_id: account for account in accounts if has_bound(account)}
    if not asked:
        return []
    added = _added(asked, energy)
    _add_energy(asked, added)
    ended = {period for account in asked.values() for period in _ended(account, spans)}
    wanted = sorted(
        ended | added.keys(), key=lambda each: (each.account_id, each.first, each.component)
    )
    kept = _kept(wanted)
    due = [each for each in wanted if each in ended or kept[each].is_settled]
    return _settle(asked, due, kept)


def rebuilt_bound_lines(accounts: Sequence[DayAccount], spans: Mapping[int, Span]) -> list[Line]:
    """What is due to bounds once everything they count is counted anew, since the touched days.

    For plans that have changed behind what was posted: energy is added up again from the posted
    intervals, and a period that the plan no longer knows gives back what it was settled with.
    """
    asked = {
        account.account_id: account for account in accounts if spans[account.account_id].touched
    }
    if not asked:
        return []
    first_day = {key: min(spans[key].touched) for key in asked}
    known = _known_periods(first_day)
    wanted = known | {
        period
        for key, account in asked.items()
        for day in sorted(spans[key].touched)
        for period in _periods_on(account.plan, key, day)
    }
    _count_anew(asked, wanted)
    kept = _kept(sorted(wanted, key=_order))
    due = [
        period
        for period in sorted(wanted, key=_order)
        if kept[period].is_settled
        or period.until <= spans[period.account_id].finished_end
        or asked[period.account_id].is_closed
    ]
    return _settle(asked, due, kept)


def _order(period: Period) -> tuple[int, int, Component]:
    return period.account_id, period.first, period.component


def _known_periods(first_day: Mapping[int, int]) -> set[Period]:
    """The periods that the accounts have rows of and that reach beyond a day."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT b.account_id, b.component, b.first_day, b.until_day
               FROM unnest(%s::bigint[], %s::integer[]) AS n(account_id, first_day)
               JOIN bound_period b ON b.account_id = n.account_id AND b.until_day > n.first_day""",
            [list(first_day), list(first_day.values())],
        )
        return {
            Period(account_id, Component(component), first, until)
            for account_id, component, first, until in cursor.fetchall()
        }


def _count_anew(accounts: Mapping[int, DayAccount], periods: set[Period]) -> None:
    """Add the energy of periods up again, from what was posted of it."""
    if not periods:
        return
    energy: defaultdict[Period, int] = defaultdict(int, dict.fromkeys(periods, 0))
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT i.account_id,
                      ((i.from_at AT TIME ZONE p.time_zone)::date - DATE '1970-01-01') AS day,
                      sum(i.charge_energy)::bigint
               FROM account_state s JOIN property p ON p.id = s.property_id
               JOIN interval i ON i.account_id = s.account_id
                   AND i.interval_no <= s.posted_interval_no
               WHERE s.account_id = ANY(%s) GROUP BY 1, 2""",
            [sorted({period.account_id for period in periods})],
        )
        first = min(period.first for period in periods)
        for account_id, day, micro in cursor.fetchall():
            if day >= first:
                for period in _periods_on(accounts[account_id].plan, account_id, day):
                    if period in energy:
                        energy[period] += micro
        cursor.execute(
            """INSERT INTO bound_period AS b (account_id, component, first_day, until_day,
                   property_id, energy)
               SELECT * FROM unnest(%s::bigint[], %s::smallint[], %s::integer[], %s::integer[],
                   %s::bigint[], %s::bigint[])
               ON CONFLICT (account_id, component, first_day, until_day)
               DO UPDATE SET energy = excluded.energy""",
            [
                *_keys(list(energy)),
                [accounts[each.account_id].property_id for each in energy],
                list(energy.values()),
            ],
        )


def _bounds(tariff: Tariff) -> list[tuple[Component, Bound]]:
    found = ((Component.MINIMUM, tariff.minimum), (Component.MAXIMUM, tariff.maximum))
    return [(component, bound) for component, bound in found if bound is not None]


def _periods_on(plan: DayPlan, account_id: int, day: int) -> list[Period]:
    """The periods that a day belongs to."""
    periods = []
    for component, bound in _bounds(plan.stretch_at(day).tariff):
        period = periods_of(bound.per, np.array([day], dtype=np.int64))
        first = int(period.first_day[0])
        periods.append(Period(account_id, component, first, first + int(period.days[0])))
    return periods


def _added(
    accounts: Mapping[int, DayAccount], energy: Mapping[tuple[int, int], int]
) -> dict[Period, int]:
    added: defaultdict[Period, int] = defaultdict(int)
    for (account_id, day), micro in energy.items():
        if account_id in accounts:
            for period in _periods_on(accounts[account_id].plan, account_id, day):
                added[period] += micro
    return added


def _ended(account: DayAccount, spans: Mapping[int, Span]) -> set[Period]:
    """Periods whose last day is newly finished, or that the account does not live to the end of."""
    span = spans[account.account_id]
    days = set(range(span.finished_from, span.finished_end))
    if account.is_closed:
        # A closing that is recorded late ends periods that were settled beyond it.
        closing = account.plan.day_at(account.closed_us)
        days |= set(range(closing, max(closing + 1, account.daily_through)))
    return {
        period
        for day in days
        for period in _periods_on(account.plan, account.account_id, day)
        if period.until <= span.finished_end or account.is_closed
    }


def _add_energy(accounts: Mapping[int, DayAccount], added: Mapping[Period, int]) -> None:
    if not added:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO bound_period AS b (account_id, component, first_day, until_day,
                   property_id, energy)
               SELECT * FROM unnest(%s::bigint[], %s::smallint[], %s::integer[], %s::integer[],
                   %s::bigint[], %s::bigint[])
               ON CONFLICT (account_id, component, first_day, until_day)
               DO UPDATE SET energy = b.energy + excluded.energy""",
            [
                *_keys(list(added)),
                [accounts[each.account_id].property_id for each in added],
                list(added.values()),
            ],
        )


def _kept(periods: Sequence[Period]) -> dict[Period, _Kept]:
    found = dict.fromkeys(periods, _Kept())
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT account_id, component, first_day, until_day, energy, posted, is_settled
               FROM bound_period JOIN unnest(%s::bigint[], %s::smallint[], %s::integer[],
                   %s::integer[]) AS n(account_id, component, first_day, until_day)
                   USING (account_id, component, first_day, until_day)""",
            _keys(periods),
        )
        for account_id, component, first, until, *kept in cursor.fetchall():
            found[Period(account_id, Component(component), first, until)] = _Kept(*kept)
    return found


def _keys(periods: Sequence[Period]) -> list[list[int]]:
    return [
        [each.account_id for each in periods],
        [int(each.component) for each in periods],
        [each.first for each in periods],
        [each.until for each in periods],
    ]


@dataclass(frozen=True, slots=True)
class _Target:
    """What a period must come to: its owed days with the bound, and what is known without usage."""

    days: tuple[int, ...]
    bound_micro: int
    standing_micro: int


def _settle(
    accounts: Mapping[int, DayAccount], due: Sequence[Period], kept: Mapping[Period, _Kept]
) -> list[Line]:
    targets: dict[tuple[object, ...], _Target] = {}
    ends: list[tuple[Period, _Target]] = []
    for period in due:
        account = accounts[period.account_id]
        owed = tuple(account.owed_ranges(period.first, period.until))
        key = (id(account.plan), period.component, period.first, period.until, owed)
        if key not in targets:
            targets[key] = _target(account.plan, period, owed)
        ends.append((period, targets[key]))
    demand = _demand(ends)
    lines, posted = [], []
    for (period, target), asked in zip(ends, demand, strict=True):
        before = kept[period]
        amount = _due(period.component, target, before.energy + target.standing_micro + asked)
        posted.append((period, amount))
        if amount != before.posted:
            day = target.days[-1] if target.days else period.until - 1
            plan = accounts[period.account_id].plan
            lines.append(
                Line(
                    period.account_id, day, day + 1, period.component, CODE[period.component],
                    amount - before.posted, plan.stretch_at(day).tax(Taxable.MINIMUM),
                    SOURCE[period.component],
                )
            )  # fmt: skip
    _store_settled(accounts, posted)
    return lines


def _due(component: Component, target: _Target, charged: int) -> int:
    if not target.days:
        # Nothing of the period is under the bound, or nothing any more.
        return 0
    due = minimum_due if component is Component.MINIMUM else maximum_due
    return int(
        due(
            bound_micro=np.array([target.bound_micro], dtype=np.int64),
            charged_micro=np.array([charged], dtype=np.int64),
        )[0]
    )


def _target(plan: DayPlan, period: Period, owed: Sequence[tuple[int, int]]) -> _Target:
    days: list[int] = []
    parts: list[DayParts] = []
    for begin, end in owed:
        for stretch in plan.stretches(begin, end):
            bound = dict(_bounds(stretch.tariff)).get(period.component)
            day = np.arange(stretch.first, stretch.end, dtype=np.int64)
            if bound is not None and _is_of(period, bound, stretch.first):
                days += day.tolist()
                parts.append(parts_of_days(per=bound.per, amount_nano=bound.amount_nano, day=day))
    return _Target(tuple(days), _sum(parts), _standing(plan, days))


def _is_of(period: Period, bound: Bound, day: int) -> bool:
    """Whether a bound is per this very period, and not per the month of a year or the other way."""
    own = periods_of(bound.per, np.array([day], dtype=np.int64))
    return int(own.days[0]) == period.until - period.first


def _standing(plan: DayPlan, days: Sequence[int]) -> int:
    """What the days owe of standing charges, however they are collected."""
    if not days:
        return 0
    rows = dated_rows(plan, days[0], days[-1] + 1, None)
    standing = [each.component is Component.STANDING for each in rows.entries]
    counted = np.isin(rows.day, days) & np.array(
        [standing[at] for at in rows.entry], dtype=np.bool_
    )
    return _sum([rows.parts.take(np.flatnonzero(counted))])


def _sum(parts: Sequence[DayParts]) -> int:
    """The floor of the exact sum of parts."""
    if not parts:
        return 0
    joined = DayParts(
        np.concatenate([each.micro for each in parts]),
        np.concatenate([each.rest for each in parts]),
    )
    group = np.zeros(joined.micro.size, dtype=np.int64)
    return int(sum_parts(group_index=group, parts=joined, groups=1)[0])


def _demand(ends: Sequence[tuple[Period, _Target]]) -> list[int]:
    """What was posted of demand under the days of each target."""
    which = [at for at, (_, target) in enumerate(ends) for _ in target.days]
    found = [0] * len(ends)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT n.at, sum(d.posted)::bigint
               FROM unnest(%s::integer[], %s::bigint[], %s::integer[]) AS n(at, account_id, day)
               JOIN demand_day d ON d.account_id = n.account_id AND d.local_day = n.day
               GROUP BY n.at""",
            [
                which,
                [ends[at][0].account_id for at in which],
                [day for _, target in ends for day in target.days],
            ],
        )
        for at, micro in cursor.fetchall():
            found[at] = micro
    return found


def _store_settled(
    accounts: Mapping[int, DayAccount], posted: Sequence[tuple[Period, int]]
) -> None:
    if not posted:
        return
    periods = [period for period, _ in posted]
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO bound_period AS b (account_id, component, first_day, until_day,
                   property_id, posted, is_settled)
               SELECT a, c, f, u, p, m, true FROM unnest(%s::bigint[], %s::smallint[],
                   %s::integer[], %s::integer[], %s::bigint[], %s::bigint[]) AS n(a, c, f, u, p, m)
               ON CONFLICT (account_id, component, first_day, until_day)
               DO UPDATE SET posted = excluded.posted, is_settled = true""",
            [
                *_keys(periods),
                [accounts[each.account_id].property_id for each in periods],
                [amount for _, amount in posted],
            ],
        )
