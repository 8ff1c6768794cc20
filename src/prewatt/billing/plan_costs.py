"""What accounts would pay on some days under a plan, part by part: the figures of trials and of looks.

Nothing is written. The intervals that stand are rated as if they had just arrived; steps count from the
beginning of their window, so the reading starts there. Days, demand, minimum and maximum and what announced
peaks give back are of the days that are looked at alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt
from django.db import connection

from prewatt.billing.days import LIVES, DayPlan, dated_rows
from prewatt.billing.queries import Terms, announced, terms_at
from prewatt.billing.rebates import measured, peaks_between, rebate_in, windows_for
from prewatt.billing.trial_months import Lives, Spec, bounds_by_day, demand_by_day, reads_from
from prewatt.billing.usage import Usage
from prewatt.core.accounts import TransferKind
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import DAY_US, LocalCalendar, utc_datetime, utc_year
from prewatt.core.dated import accrue_parts, accrue_tax
from prewatt.core.demand import peak_power_w
from prewatt.core.rating import Component, Segments, rate_usage, split_intervals
from prewatt.core.tariff import Tariff
from prewatt.core.tariff.model import Window
from prewatt.core.timelines import PriceTimeline, TimelineSet, compile_timeline
from prewatt.core.usage import AccountTerms, UsageState
from prewatt.core.windows import windows_of
from prewatt.estate.calendar_changes import property_calendar


@dataclass(frozen=True, slots=True)
class Place:
    """Where and when a trial is made: local days from ``first_day`` on, half-open instants."""

    property_id: int
    currency: str
    time_zone: str
    calendar: LocalCalendar
    first_day: int
    days: int
    from_us: int
    until_us: int
    account_ids: tuple[int, ...]


def place_of_days(
    *, property_id: int, days: int, now: datetime, account_ids: Sequence[int] | None = None
) -> Place:
    """The last whole local days of a property, in the caller's scope; None: with all accounts of that time."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT currency, time_zone FROM property WHERE id = %s", [property_id])
        currency, zone = cursor.fetchone()
        plain = LocalCalendar(str(zone))
        now_us = int(now.timestamp()) * 1_000_000
        today = int(plain.local_day(np.array([now_us], dtype=np.int64))[0])
        first_day = today - days
        starts = plain.first_instant_at_wall(np.array([first_day, today], dtype=np.int64) * DAY_US)
        from_us, until_us = (int(each) for each in starts)
        if account_ids is None:
            cursor.execute(
                """SELECT s.account_id FROM account_state s JOIN account a ON a.id = s.account_id
                   WHERE s.property_id = %s AND a.opened_at < %s
                     AND (a.closed_at IS NULL OR a.closed_at > %s)
                   ORDER BY s.account_id""",
                [property_id, utc_datetime(until_us), utc_datetime(from_us)],
            )
            account_ids = [int(row[0]) for row in cursor.fetchall()]
    # A year window of a plan may begin up to a year before the days.
    calendar = property_calendar(property_id, utc_year(from_us) - 2, utc_year(until_us) + 1)
    return Place(
        property_id, str(currency), str(zone), calendar, first_day, days, from_us, until_us,
        tuple(account_ids),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """What some accounts used; ``day`` counts from the trial's first, negative ones only warm up
    the step counts.
    """

    account_ids: Sequence[int]
    terms: Mapping[int, Sequence[Terms]]
    usage: Usage
    day: Int64


class Part(StrEnum):
    """What a bill is made of. All but tax and subsidy are before tax; a subsidy and a rebate are below zero."""

    ENERGY = "energy"
    USAGE_FEE = "usage_fee"
    STANDING = "standing"
    DAY_FEE = "day_fee"
    DEMAND = "demand"
    BOUND = "bound"
    TAX = "tax"
    SUBSIDY = "subsidy"
    REBATE = "rebate"


#: Parts that price rules do not compare: what the state takes, and what somebody else pays.
_NOT_NET: Final = (Part.TAX, Part.SUBSIDY)


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """What a plan charges: a matrix [account, day] of micro-units for each part."""

    parts: Mapping[Part, Int64]

    @property
    def total(self) -> Int64:
        """All parts together, by account and day."""
        return sum_of(self.parts.values())

    @property
    def net(self) -> Int64:
        """Each account's sum of all days before tax, with what somebody else pays of it."""
        before_tax = [amounts for part, amounts in self.parts.items() if part not in _NOT_NET]
        net: Int64 = sum_of(before_tax).sum(axis=1)
        return net


def sum_of(matrices: Iterable[Int64]) -> Int64:
    """Matrices of one shape, added up."""
    total: Int64 = np.sum(list(matrices), axis=0, dtype=np.int64)
    return total


def costs_of(place: Place, plan: Tariff, load: Load) -> Costs:
    """What a plan charges for a load on the days of a place, in the caller's scope."""
    found = _ByMonths(_lives(place, plan, load))
    parts = _usage_charges(place, plan, load, found)
    owed = found.lives.owed[:, place.first_day - found.lives.first_day :]
    for part, amounts in _amounts_by_day(place, plan, load, owed).items():
        parts[part] = parts[part] + amounts
    demand, bounds = _settled_by_months(place, plan, load, found)
    parts[Part.DEMAND], parts[Part.BOUND] = demand[1], bounds[1]
    parts[Part.TAX] = parts[Part.TAX] + (demand[0] - demand[1]) + (bounds[0] - bounds[1])
    parts[Part.REBATE] = -_given_back(place, plan, load)
    return Costs(parts)


def counts_from_us(place: Place, draft: Tariff) -> int:
    """Where the reading starts: at the beginning of the windows that the first day lies in."""
    windows = [] if draft.steps is None else [draft.steps.window]
    windows += [each.window for each in draft.allowances if each.free_wh]
    first_day = np.array([place.first_day], dtype=np.int64)
    begins = [
        int(windows_of(window, first_day, draft).first_day[0])
        for window in windows
        if window is not Window.PURCHASE
    ]
    first = reads_from(draft, place.first_day, place.days)
    if draft.demand or draft.minimum or draft.maximum:
        # An interval may reach into the first day from the day before.
        begins.append(first - 1)
    start = np.array([min([place.first_day, *begins])], dtype=np.int64) * DAY_US
    return int(place.calendar.first_instant_at_wall(start)[0])


def _usage_charges(place: Place, plan: Tariff, load: Load, found: _ByMonths) -> dict[Part, Int64]:
    """What usage costs under a plan, by account and day, each interval on the day it begins on."""
    usage, shape = load.usage, (len(load.account_ids), place.days)
    parts: dict[Part, Int64] = {part: np.zeros(shape, dtype=np.int64) for part in Part}
    if len(usage) == 0:
        return parts
    timelines, timeline_of_account = _timelines(place, plan, load)
    segments = split_intervals(
        start_at_us=usage.start_at_us,
        end_at_us=usage.end_at_us,
        energy_wh=usage.energy_wh,
        timeline_index=timeline_of_account[usage.account_index],
        timelines=timelines,
    )
    account = usage.account_index[segments.source_row]
    found.measure(plan, segments, account)
    own = [terms_at(load.terms.get(each, ()), place.from_us) for each in load.account_ids]
    purchase = _purchase_of(place, plan, load)[segments.source_row]
    state = UsageState.empty(len(own))
    # A window that begins with a purchase is one round; every other plan has a single round.
    for number in np.unique(purchase).tolist():
        rows = np.flatnonzero(purchase == number)
        rated = rate_usage(
            segments=segments.take(rows),
            account_index=account[rows],
            timelines=timelines,
            terms=AccountTerms(
                members=np.array([each.members for each in own], dtype=np.int64),
                contracted_w=np.array([each.contracted_w for each in own], dtype=np.int64),
                purchase_no=np.full(len(own), number, dtype=np.int64),
            ),
            state=state,
        )
        state = rated.state
        interval = segments.source_row[rows[rated.source_row]]
        if plan.minimum or plan.maximum:
            at = rows[rated.source_row]
            found.count(segments.take(at), account[at], rated.charge_energy)
        counts = np.flatnonzero(load.day[interval] >= 0)
        cell = usage.account_index[interval[counts]], load.day[interval[counts]]
        for part, charged in (
            (Part.ENERGY, rated.charge_energy),
            (Part.USAGE_FEE, rated.charge_fee),
            (Part.TAX, rated.charge_tax),
            (Part.SUBSIDY, rated.charge_subsidy),
        ):
            np.add.at(parts[part], cell, charged[counts])
    return parts


@dataclass(slots=True, eq=False)
class _ByMonths:
    """What is known of a load by (account, local day), for what a plan settles by months."""

    lives: Lives
    peaks: dict[Spec, Int64] = field(default_factory=dict)
    energy: Int64 = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))

    def measure(self, plan: Tariff, segments: Segments, account: Int64) -> None:
        """The highest power of each day under each of the plan's demands."""
        shape = self.lives.owed.shape
        column = self._column(segments)
        for minutes, bands in {(each.interval_minutes, each.bands) for each in plan.demand}:
            band = segments.timelines.band[segments.segment]
            counts = (column >= 0) & (column < shape[1])
            counts &= np.isin(band, bands) if bands else True
            self.peaks[minutes, bands] = peak_power_w(
                from_us=segments.start_at_us[counts],
                to_us=segments.end_at_us[counts],
                energy_wh=segments.energy_wh[counts],
                group_index=account[counts] * shape[1] + column[counts],
                group_start_us=np.tile(self.lives.starts_us, shape[0]),
                interval_minutes=minutes,
            ).reshape(shape)

    def count(self, segments: Segments, account: Int64, charge_energy: Int64) -> None:
        """Add up what energy cost before tax."""
        if not self.energy.size:
            self.energy = np.zeros(self.lives.owed.shape, dtype=np.int64)
        column = self._column(segments)
        counts = (column >= 0) & (column < self.energy.shape[1])
        np.add.at(self.energy, (account[counts], column[counts]), charge_energy[counts])

    def _column(self, segments: Segments) -> Int64:
        day = segments.timelines.local_day[segments.segment].astype(np.int64)
        return day - self.lives.first_day


def _lives(place: Place, plan: Tariff, load: Load) -> Lives:
    """Whose days are whose, from where the plan's months begin until the trial's end."""
    first = reads_from(plan, place.first_day, place.days)
    width = place.first_day + place.days - first
    starts = place.calendar.first_instant_at_wall(
        (first + np.arange(width, dtype=np.int64)) * DAY_US
    )
    owed = np.zeros((len(load.account_ids), width), dtype=np.bool_)
    ends = np.zeros(len(load.account_ids), dtype=np.bool_)
    position = {each: number for number, each in enumerate(load.account_ids)}
    with connection.cursor() as cursor:
        cursor.execute(LIVES, [list(load.account_ids)])
        for account_id, from_us, until_us in cursor.fetchall():
            owed[position[account_id]] |= (starts >= from_us) & (starts < until_us)
        cursor.execute(
            "SELECT id FROM account WHERE id = ANY(%s) AND closed_at <= %s",
            [list(load.account_ids), utc_datetime(place.until_us)],
        )
        ends[[position[row[0]] for row in cursor.fetchall()]] = True
    exempt = [terms_at(load.terms.get(each, ()), place.from_us).exempt for each in load.account_ids]
    return Lives(first, starts, owed, ends, exempt)


def _settled_by_months(
    place: Place, plan: Tariff, load: Load, found: _ByMonths
) -> tuple[tuple[Int64, Int64], tuple[Int64, Int64]]:
    """(with tax, before tax) of demand, and of minimum and maximum, on the days that are looked at."""
    lives = found.lives
    nothing = np.zeros(lives.owed.shape, dtype=np.int64)
    for each in plan.demand:
        # Nobody used anything: the lowest power there is.
        found.peaks.setdefault((each.interval_minutes, each.bands), nothing)
    demand = demand_by_day(plan, lives, found.peaks)
    energy = found.energy if found.energy.size else nothing
    bounds = bounds_by_day(plan, lives, energy + demand[1], place.time_zone)
    in_trial = slice(place.first_day - lives.first_day, None)
    return (
        (demand[0][:, in_trial], demand[1][:, in_trial]),
        (bounds[0][:, in_trial], bounds[1][:, in_trial]),
    )


def _given_back(place: Place, plan: Tariff, load: Load) -> Int64:
    """What announced peaks of the trial's days would have given back, by day."""
    matrix = np.zeros((len(load.account_ids), place.days), dtype=np.int64)
    if not any(each.rebate_nano_per_kwh for each in plan.overlays):
        return matrix
    position = {each: number for number, each in enumerate(load.account_ids)}
    bounds = utc_datetime(place.from_us), utc_datetime(place.until_us)
    for peak in peaks_between(place.property_id, *bounds):
        overlay = rebate_in(plan, peak.group)
        members: defaultdict[frozenset[str], list[int]] = defaultdict(list)
        for account_id in load.account_ids:
            groups = terms_at(load.terms.get(account_id, ()), peak.from_us).groups
            if overlay is not None and peak.group in groups:
                members[groups].append(account_id)
        day = int(place.calendar.local_day(np.array([peak.from_us], dtype=np.int64))[0])
        for groups, accounts in members.items():
            assert overlay is not None
            windows = windows_for(peak, place.calendar, overlay, groups)
            for account_id, rebate in measured(accounts, windows, overlay).items():
                if day >= place.first_day:
                    matrix[position[account_id], day - place.first_day] += rebate.micro
    return matrix


def _timelines(place: Place, plan: Tariff, load: Load) -> tuple[TimelineSet, Int64]:
    """One timeline for each set of exemptions and groups, and the position of each account's."""
    begin, end = int(load.usage.start_at_us.min()), int(load.usage.end_at_us.max()) + 1
    position: dict[tuple[frozenset[str], frozenset[str]], int] = {}
    of_account: list[int] = []
    timelines: list[PriceTimeline] = []
    for account_id in load.account_ids:
        own = terms_at(load.terms.get(account_id, ()), place.from_us)
        key = (own.exempt, own.groups)
        if key not in position:
            position[key] = len(timelines)
            timelines.append(
                compile_timeline(
                    plan,
                    place.calendar,
                    begin,
                    end,
                    exempt=own.exempt,
                    events=announced(place.property_id, own.groups) if own.groups else (),
                )
            )
        of_account.append(position[key])
    return TimelineSet.of(timelines), np.array(of_account, dtype=np.int64)


def _purchase_of(place: Place, plan: Tariff, load: Load) -> Int64:
    """How many recharges came before each interval began, where the plan's steps ask for it."""
    usage, account_ids = load.usage, load.account_ids
    number_of = np.zeros(len(usage), dtype=np.int64)
    if plan.steps is None or plan.steps.window is not Window.PURCHASE:
        return number_of
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT account_id, (extract(epoch FROM booked_at) * 1000000)::bigint FROM transfer
               WHERE account_id = ANY(%s) AND kind = %s AND booked_at < %s ORDER BY 1, 2""",
            [list(account_ids), int(TransferKind.RECHARGE), utc_datetime(place.until_us)],
        )
        found = np.array(cursor.fetchall(), dtype=np.int64).reshape(-1, 2)
    position = {each: number for number, each in enumerate(account_ids)}
    bought_by = np.array([position[int(each)] for each in found[:, 0]], dtype=np.int64)
    for number in np.unique(bought_by).tolist():
        rows = usage.account_index == number
        instants = found[bought_by == number, 1]
        number_of[rows] = np.searchsorted(instants, usage.start_at_us[rows], side="right")
    return number_of


def by_day(place: Place, load: Load, values: Int64) -> Int64:
    """A value per interval as a matrix [accounts, days], without those that only warm up."""
    matrix = np.zeros((len(load.account_ids), place.days), dtype=np.int64)
    rows = load.day >= 0
    np.add.at(matrix, (load.usage.account_index[rows], load.day[rows]), values[rows])
    return matrix


def _amounts_by_day(
    place: Place, plan: Tariff, load: Load, owed: npt.NDArray[np.bool_]
) -> dict[Part, Int64]:
    """What a plan asks for by the day, on the days of each account's life."""
    if not plan.dated:
        return {}
    sheets: dict[frozenset[str], dict[Part, Int64]] = {}
    shape = (len(load.account_ids), place.days)
    parts = {part: np.zeros(shape, dtype=np.int64) for part in _BY_DAY}
    for row, account_id in enumerate(load.account_ids):
        exempt = terms_at(load.terms.get(account_id, ()), place.from_us).exempt
        if exempt not in sheets:
            sheets[exempt] = _sheet(place, plan, exempt)
        for part in _BY_DAY:
            parts[part][row] = np.where(owed[row], sheets[exempt][part], 0)
    return parts


_BY_DAY: Final = (Part.STANDING, Part.DAY_FEE, Part.TAX)


def _sheet(place: Place, plan: Tariff, exempt: frozenset[str]) -> dict[Part, Int64]:
    """Micro-units of each day for accounts with the same exemptions."""
    days = DayPlan(place.time_zone, ((0, 0),), ((0, exempt),), {0: plan})
    rows = dated_rows(days, place.first_day, place.first_day + place.days, None)
    one, nothing = np.zeros(rows.day.size, dtype=np.int64), np.zeros(1, dtype=np.int64)
    charge, _ = accrue_parts(account_index=one, parts=rows.parts, carry=nothing)
    share = np.array([rows.entries[at].tax.share_ppb for at in rows.entry], dtype=np.int64)
    tax, _ = accrue_tax(account_index=one, charge_micro=charge, share_ppb=share, carry=nothing)
    standing = np.array(
        [rows.entries[at].component is Component.STANDING for at in rows.entry], dtype=np.bool_
    )
    per_day: dict[Part, Int64] = {}
    for part, amounts in (
        (Part.STANDING, np.where(standing, charge, 0)),
        (Part.DAY_FEE, np.where(standing, 0, charge)),
        (Part.TAX, tax),
    ):
        per_day[part] = np.zeros(place.days, dtype=np.int64)
        np.add.at(per_day[part], rows.day - place.first_day, amounts)
    return per_day
