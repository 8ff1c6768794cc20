"""What a tried plan settles by months: demand, minimum and maximum, for many accounts at once.

The same arithmetic that postings use (``core.demand``, ``core.dated``), on matrices of accounts and
local days. Days before the trial are there where a month that the trial touches began earlier, or a
ratchet looks back; what falls on them is theirs and not the trial's. A bound is settled on its
period's last owed day, if the period ends within the trial or the account does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prewatt.billing.days import DayPlan, dated_rows
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import day_date
from prewatt.core.dated import (
    DATED_DENOMINATOR,
    DayParts,
    accrue_tax,
    maximum_due,
    minimum_due,
    parts_of_days,
    periods_of,
)
from prewatt.core.demand import UNKNOWN_PPM, accrued_demand_micro, billed_power_w
from prewatt.core.rating import Component
from prewatt.core.tariff import Tariff
from prewatt.core.tariff.model import Bound, Demand, Per, Taxable
from prewatt.core.taxes import effective_tax

Bool = npt.NDArray[np.bool_]
Spec = tuple[int, tuple[int, ...]]
"""What a demand is measured over: minutes and bands."""


@dataclass(frozen=True, slots=True, eq=False)
class Lives:
    """Accounts [row] on local days [column]: `owed` says whose day it is, `ends` which of them
    close within the days. `first_day` is the day of the first column,
    `starts_us` the first instant of each.
    """

    first_day: int
    starts_us: Int64
    owed: Bool
    ends: Bool
    exempt: Sequence[frozenset[str]]

    @property
    def days(self) -> Int64:
        """The day number of each column."""
        return self.first_day + np.arange(self.owed.shape[1], dtype=np.int64)


def reads_from(plan: Tariff, first_day: int, days: int) -> int:
    """The first day whose usage matters for what the days [first_day, first_day + days) settle."""
    first = first_day
    for demand in plan.demand:
        begin = _period(Per.MONTH, first_day)[0]
        for _ in range(demand.ratchet_months):
            begin = _period(Per.MONTH, begin - 1)[0]
        first = min(first, begin)
    for bound in (plan.minimum, plan.maximum):
        if bound is not None:
            begin, end = _period(bound.per, first_day)
            # A year that goes on after the trial is settled for nobody but who leaves.
            if end <= first_day + days:
                first = min(first, begin)
    if plan.minimum or plan.maximum:
        # What demand there is counts towards a bound from its month on.
        first = min(first, _period(Per.MONTH, first)[0]) if plan.demand else first
    return first


def left_out(plan: Tariff, first_day: int, days: int) -> tuple[str, ...]:
    """What the plan has and the trial does not look at, by stable words."""
    end = first_day + days
    found = [
        name
        for name, bound in (("minimum", plan.minimum), ("maximum", plan.maximum))
        if bound is not None
        and not any(_period(bound.per, day)[1] <= end for day in (first_day, end - 1))
    ]
    if any(each.power_factor_ppm for each in plan.demand):
        found.append("power_factor")
    return tuple(found)


def demand_by_day(plan: Tariff, lives: Lives, peaks: dict[Spec, Int64]) -> tuple[Int64, Int64]:
    """(with tax, before tax) of what each finished day adds of demand, true-ups included."""
    net = np.zeros(lives.owed.shape, dtype=np.int64)
    for demand in plan.demand:
        net += _of_demand(plan, demand, lives, peaks[demand.interval_minutes, demand.bands])
    return net + _tax(plan, lives, net, Taxable.DEMAND), net


def _of_demand(plan: Tariff, demand: Demand, lives: Lives, peaks: Int64) -> Int64:
    net, day = np.zeros_like(peaks), lives.days
    price = np.array(
        [
            effective_tax(plan.taxes, Taxable.DEMAND, day_date(each)).net_nano(
                demand.price_nano_per_kw
            )
            for each in day.tolist()
        ],
        dtype=np.int64,
    )
    month = periods_of(Per.MONTH, day)
    firsts = np.unique(month.first_day)
    highest = [peaks[:, month.first_day == first].max(axis=1) for first in firsts]
    for at, first in enumerate(firsts.tolist()):
        chosen = np.flatnonzero(month.first_day == first)
        shape = (peaks.shape[0], chosen.size)
        before = highest[max(0, at - demand.ratchet_months) : at] if demand.ratchet_months else []
        ratchet = np.max(before, axis=0) if before else np.zeros(shape[0], dtype=np.int64)

        def whole(number: int, shape: tuple[int, int] = shape) -> Int64:
            return np.full(shape, number, dtype=np.int64)

        billed = billed_power_w(
            peak_w=np.maximum.accumulate(peaks[:, chosen], axis=1),
            ratchet_peak_w=np.broadcast_to(ratchet[:, None], shape),
            ratchet_ppm=whole(demand.ratchet_ppm),
            power_factor_ppm=whole(UNKNOWN_PPM),
            least_power_factor_ppm=whole(demand.power_factor_ppm),
        )
        prices = np.cumsum(np.where(lives.owed[:, chosen], price[chosen], 0), axis=1)
        length = int(month.days[chosen[0]])
        through = accrued_demand_micro(
            billed_w=billed.reshape(-1), price_sum_nano=prices.reshape(-1),
            days=whole(length).reshape(-1),
        ).reshape(shape)  # fmt: skip
        net[:, chosen] = np.diff(through, axis=1, prepend=0)
    return net


def bounds_by_day(plan: Tariff, lives: Lives, counted: Int64, zone: str) -> tuple[Int64, Int64]:
    """(with tax, before tax) of what minimum and maximum add or take off, by the day they do it.

    `counted` is what the days cost of energy and demand before tax.
    """
    net = np.zeros(lives.owed.shape, dtype=np.int64)
    for bound, is_maximum in ((plan.minimum, False), (plan.maximum, True)):
        if bound is not None:
            net += _of_bound(plan, bound, lives, counted, zone, is_maximum=is_maximum)
    return net + _tax(plan, lives, net, Taxable.MINIMUM), net


def _of_bound(
    plan: Tariff, bound: Bound, lives: Lives, counted: Int64, zone: str, *, is_maximum: bool
) -> Int64:
    net, day = np.zeros(lives.owed.shape, dtype=np.int64), lives.days
    standing = _standing(plan, lives, zone)
    period = periods_of(bound.per, day)
    for first in np.unique(period.first_day).tolist():
        chosen = np.flatnonzero(period.first_day == first)
        if int(day[chosen[0]]) != first:
            continue
        owed = lives.owed[:, chosen]
        target = _sums(owed, parts_of_days(
            per=bound.per, amount_nano=bound.amount_nano, day=day[chosen]
        ))  # fmt: skip
        charged = counted[:, chosen].sum(axis=1) + _sums(
            owed, DayParts(standing.micro[chosen], standing.rest[chosen])
        )
        due = maximum_due if is_maximum else minimum_due
        amount = due(bound_micro=target, charged_micro=charged)
        has_ended = first + int(period.days[chosen[0]]) <= int(day[-1]) + 1
        settled = owed.any(axis=1) & (has_ended | lives.ends)
        last = chosen[owed.shape[1] - 1 - np.argmax(owed[:, ::-1], axis=1)]
        rows = np.flatnonzero(settled)
        net[rows, last[rows]] += amount[rows]
    return net


def _standing(plan: Tariff, lives: Lives, zone: str) -> DayParts:
    """What each day owes of standing charges, net of inclusive taxes."""
    day = lives.days
    sheet = dated_rows(
        DayPlan(zone, ((0, 0),), ((0, frozenset()),), {0: plan}),
        int(day[0]),
        int(day[-1]) + 1,
        None,
    )
    micro, rest = np.zeros(day.size, dtype=np.int64), np.zeros(day.size, dtype=np.int64)
    standing = np.array(
        [each.component is Component.STANDING for each in sheet.entries], dtype=np.bool_
    )
    rows = np.flatnonzero(standing[sheet.entry]) if standing.size else np.zeros(0, dtype=np.int64)
    np.add.at(micro, sheet.day[rows] - lives.first_day, sheet.parts.micro[rows])
    np.add.at(rest, sheet.day[rows] - lives.first_day, sheet.parts.rest[rows])
    return DayParts(micro, rest)


def _sums(owed: Bool, parts: DayParts) -> Int64:
    """The floor of the exact sum of each account's owed days."""
    micro = np.where(owed, parts.micro, 0).sum(axis=1)
    rest = np.where(owed, parts.rest, 0).sum(axis=1)
    return np.asarray(micro + rest // DATED_DENOMINATOR, dtype=np.int64)


def _tax(plan: Tariff, lives: Lives, net: Int64, on: Taxable) -> Int64:
    """The tax on amounts by day, cut off along each account's days."""
    tax = np.zeros_like(net)
    account, column = np.nonzero(net)
    if account.size == 0:
        return tax
    shares: dict[tuple[frozenset[str], int], int] = {}
    for row, at in zip(account.tolist(), column.tolist(), strict=True):
        key = lives.exempt[row], at
        if key not in shares:
            day = day_date(lives.first_day + at)
            shares[key] = effective_tax(plan.taxes, on, day, key[0]).share_ppb
    tax[account, column], _ = accrue_tax(
        account_index=account,
        charge_micro=net[account, column],
        share_ppb=np.array(
            [
                shares[lives.exempt[row], at]
                for row, at in zip(account.tolist(), column.tolist(), strict=True)
            ],
            dtype=np.int64,
        ),
        carry=np.zeros(net.shape[0], dtype=np.int64),
    )
    return tax


def _period(per: Per, day: int) -> tuple[int, int]:
    found = periods_of(per, np.array([day], dtype=np.int64))
    first = int(found.first_day[0])
    return first, first + int(found.days[0])
