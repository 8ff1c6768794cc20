"""A draft tried on the real days of every real account, before anybody may approve it.

Each chunk of accounts is one reading of ``interval``, one pass of the rating engine, and a few
sums; nothing is written but the trial's own row. What is compared are the same intervals: those
that begin on the days of the trial, each under the day it begins on.

Steps count from the beginning of their window, so the reading starts there. Amounts by the day
(standing charges, fixed fees, demand) are in both sides, and so are the minimum and maximum bills of
periods that end within the trial, and what announced peaks gave back. The report says what of the
draft is in no figure.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from django.db import connection

from prewatt.access.scope import Actor, require, scope, system_actor
from prewatt.billing.days import LIVES, DayPlan, dated_rows
from prewatt.billing.losses import Supplied, supplied
from prewatt.billing.models import TariffTrial
from prewatt.billing.posting import REBATE
from prewatt.billing.queries import Terms, announced, terms_at, terms_of
from prewatt.billing.rebates import measured, peaks_between, rebate_in, windows_for
from prewatt.billing.resale import Resale, resale_at
from prewatt.billing.trial_months import (
    Lives,
    Spec,
    bounds_by_day,
    demand_by_day,
    left_out,
    reads_from,
)
from prewatt.billing.usage import Usage, read_usage
from prewatt.core.accounts import TransferKind
from prewatt.core.bounds import Int64, checked_multiply
from prewatt.core.civil_time import DAY_US, LocalCalendar, day_date, utc_datetime, utc_year
from prewatt.core.dated import accrue_parts, accrue_tax
from prewatt.core.demand import peak_power_w
from prewatt.core.price_rules import Facts, Finding, Reference, Rule, judge, rule_document
from prewatt.core.rating import Segments, rate_usage, split_intervals
from prewatt.core.tariff import Tariff, parse_tariff
from prewatt.core.tariff.model import Window
from prewatt.core.timelines import PriceTimeline, TimelineSet, compile_timeline
from prewatt.core.trial import NEVER, Days, Trial, compare, histogram, totals
from prewatt.core.usage import AccountTerms, UsageState
from prewatt.core.windows import windows_of
from prewatt.estate.calendar_changes import property_calendar

log = logging.getLogger(__name__)

#: Accounts read and rated at a time: at 90 days of quarter-hours some two million intervals.
CHUNK: Final = 250

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class TrialReport:
    """A trial's result: accounts in the order of ``account_ids``, days in the order of ``days``."""

    currency: str
    days: tuple[date, ...]
    account_ids: tuple[int, ...]
    energy_wh: Int64
    trial: Trial
    rules: tuple[Rule, ...]
    findings: tuple[Finding, ...]
    seconds: float
    left_out: tuple[str, ...]


def try_tariff(
    *,
    actor: Actor,
    property_id: int,
    draft: Tariff,
    days: int,
    now: datetime,
    progress: Progress | None = None,
) -> TrialReport:
    """Rate the last ``days`` whole local days of every account of a property under a draft.

    ``progress`` is told (accounts done, all accounts). Raises PermissionRefused.
    """
    require(actor, "billing.draft", property_id=property_id)
    began = time.monotonic()
    place, resale = _place(actor, property_id, days, now)
    with scope(actor):
        inflow = supplied(
            property_id=property_id,
            from_at=utc_datetime(place.from_us),
            until_at=utc_datetime(place.until_us),
        )
    parts, done = [], 0
    for chunk, usage in _read_ahead(actor, place, draft, resale):
        with scope(actor):
            parts.append(_try_chunk(place, draft, resale, chunk, usage))
        done += len(chunk)
        if progress is not None:
            progress(done, len(place.account_ids))
    joined = Days(
        *(
            np.concatenate([getattr(part.days, name) for part in parts])
            for name in (each.name for each in fields(Days))
        )
    ) if parts else _nothing(days)  # fmt: skip
    energy_wh, charged_net, direct_net = (
        np.concatenate([getattr(part, name) for part in parts] or [np.zeros(0, dtype=np.int64)])
        for name in ("energy_wh", "drafted_net", "direct_net")
    )
    return TrialReport(
        currency=place.currency,
        days=tuple(day_date(place.first_day + each) for each in range(days)),
        account_ids=place.account_ids,
        energy_wh=energy_wh,
        trial=compare(joined),
        rules=() if resale is None else resale.pack.rules,
        findings=_judged(resale, draft, energy_wh, charged_net, direct_net, inflow),
        seconds=time.monotonic() - began,
        left_out=left_out(draft, place.first_day, days),
    )


def as_document(report: TrialReport) -> dict[str, Any]:
    """The report as it is stored in ``tariff_trial.result``; no names, pages join them."""
    figures, trial = totals(report.trial), report.trial
    columns = zip(
        report.account_ids,
        trial.charged.tolist(),
        trial.drafted.tolist(),
        report.energy_wh.tolist(),
        trial.first_cut_day.tolist(),
        trial.was_cut.tolist(),
        strict=True,
    )
    days = [each.isoformat() for each in report.days]
    return {
        "currency": report.currency,
        "from": days[0],
        "until": (report.days[-1] + timedelta(days=1)).isoformat(),
        "days": days,
        "totals": {name: getattr(figures, name) for name in figures.__slots__},
        "bins": [
            {"from_ppm": each.from_ppm, "until_ppm": each.until_ppm, "accounts": each.accounts}
            for each in histogram(trial)
        ],
        "accounts": [
            {
                "account_id": account_id,
                "charged": charged,
                "drafted": drafted,
                "energy_wh": energy_wh,
                "first_cut_day": None if cut == NEVER else days[cut],
                "was_cut": was_cut,
            }
            for account_id, charged, drafted, energy_wh, cut, was_cut in columns
        ],
        # A rule that holds leaves no finding: what was looked at is told by itself.
        "rules": [rule_document(each) for each in report.rules],
        "findings": [_finding_document(each, report.account_ids) for each in report.findings],
        "left_out": list(report.left_out),
        "seconds": round(report.seconds, 1),
    }


def run_next_trial(*, now: datetime) -> bool:
    """Run the trial that waits longest, to its result or its failure; False when none waits.

    A trial left running by a process that died is taken up again after ``_GIVEN_UP``.
    """
    actor = system_actor("trials")
    with scope(actor):
        trial = _take_next(now)
    if trial is None:
        return False
    seen = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal seen
        if done == total or time.monotonic() - seen >= 1:
            seen = time.monotonic()
            _update(actor, trial.pk, accounts_done=done, accounts_total=total)

    try:
        report = try_tariff(
            actor=actor,
            property_id=trial.property_id,
            draft=parse_tariff(trial.content),
            days=trial.days,
            now=trial.asked_at,
            progress=tell,
        )
        document = as_document(report)
    except Exception as error:
        log.exception("trial %s failed", trial.pk)
        _update(
            actor, trial.pk, state=TariffTrial.State.FAILED, failure=str(error)[:400],
            finished_at=now,
        )  # fmt: skip
        return True
    _update(
        actor, trial.pk, state=TariffTrial.State.DONE, result=document, finished_at=now,
        accounts_done=len(report.account_ids), accounts_total=len(report.account_ids),
    )  # fmt: skip
    return True


#: A trial that has run this long has lost its process.
_GIVEN_UP: Final = timedelta(minutes=15)


def _take_next(now: datetime) -> TariffTrial | None:
    state = TariffTrial.State
    waiting = TariffTrial.objects.select_for_update(skip_locked=True)
    trial = waiting.filter(state=state.QUEUED).order_by("asked_at", "pk").first()
    if trial is None:
        trial = waiting.filter(state=state.RUNNING, asked_at__lt=now - _GIVEN_UP).first()
    if trial is not None:
        trial.state = state.RUNNING
        trial.save(update_fields=["state"])
    return trial


def _update(actor: Actor, trial_id: int, **values: Any) -> None:
    with scope(actor):
        trial = TariffTrial.objects.filter(pk=trial_id)
        trial.update(**values)
        property_id = trial.values_list("property_id", flat=True).get()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify('changed', %s)", [str(property_id)])


@dataclass(frozen=True, slots=True)
class _Place:
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


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A chunk's matrices, and per account what price rules compare: net of taxes, with subsidies."""

    days: Days
    energy_wh: Int64
    drafted_net: Int64
    direct_net: Int64


def _place(
    actor: Actor, property_id: int, days: int, now: datetime
) -> tuple[_Place, Resale | None]:
    with scope(actor), connection.cursor() as cursor:
        cursor.execute("SELECT currency, time_zone FROM property WHERE id = %s", [property_id])
        currency, zone = cursor.fetchone()
        plain = LocalCalendar(str(zone))
        now_us = int(now.timestamp()) * 1_000_000
        today = int(plain.local_day(np.array([now_us], dtype=np.int64))[0])
        first_day = today - days
        starts = plain.first_instant_at_wall(np.array([first_day, today], dtype=np.int64) * DAY_US)
        from_us, until_us = (int(each) for each in starts)
        cursor.execute(
            """SELECT s.account_id FROM account_state s JOIN account a ON a.id = s.account_id
               WHERE s.property_id = %s AND a.opened_at < %s
                 AND (a.closed_at IS NULL OR a.closed_at > %s)
               ORDER BY s.account_id""",
            [property_id, utc_datetime(until_us), utc_datetime(from_us)],
        )
        account_ids = tuple(int(row[0]) for row in cursor.fetchall())
        resale = resale_at(property_id=property_id, at=now)
        # A year window of the draft may begin up to a year before the trial.
        calendar = property_calendar(property_id, utc_year(from_us) - 2, utc_year(until_us) + 1)
    place = _Place(
        property_id, str(currency), str(zone), calendar, first_day, days, from_us, until_us,
        account_ids,
    )  # fmt: skip
    return place, resale


def _read_ahead(
    actor: Actor, place: _Place, draft: Tariff, resale: Resale | None
) -> Iterator[tuple[Sequence[int], Usage]]:
    """The usage of each chunk of accounts, the next one read while this one is rated.

    The reader has a connection of its own: PostgreSQL gathers on one core while numpy rates on
    the other.
    """
    plans = [draft] if resale is None or resale.direct is None else [draft, resale.direct]
    from_at = utc_datetime(min(_counts_from_us(place, each) for each in plans))
    until_at = utc_datetime(place.until_us)

    def read(account_ids: Sequence[int]) -> Usage:
        with scope(actor):
            return read_usage(account_ids=account_ids, from_at=from_at, until_at=until_at)

    chunks = [place.account_ids[at : at + CHUNK] for at in range(0, len(place.account_ids), CHUNK)]
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="trial-reader") as reader:
        try:
            ahead = [reader.submit(read, each) for each in chunks[:1]]
            for number, chunk in enumerate(chunks):
                usage = ahead.pop().result()
                ahead += [reader.submit(read, each) for each in chunks[number + 1 : number + 2]]
                yield chunk, usage
        finally:
            reader.submit(_hang_up).result()


def _hang_up() -> None:
    """Close the calling thread's own connection; Django keeps one for each."""
    connection.close()


def _try_chunk(
    place: _Place,
    draft: Tariff,
    resale: Resale | None,
    account_ids: Sequence[int],
    usage: Usage,
) -> _Part:
    """The matrices of some accounts, rated in one transaction."""
    direct = None if resale is None else resale.direct
    load = _Load(
        account_ids,
        terms_of(account_ids),
        usage,
        place.calendar.local_day(usage.start_at_us) - place.first_day,
    )
    drafted, drafted_net = _cost(place, draft, load)
    direct_net = drafted_net if direct is None else _cost(place, direct, load)[1]
    movements = _movements(place, account_ids)
    charged = _by_day(place, load, usage.charged_micro) + movements.charged
    # What happened after the last day is taken off what is available now.
    available = movements.available - movements.credited_after + movements.charged_after
    available += _charged_after(place, account_ids)
    return _Part(
        Days(
            charged,
            drafted,
            movements.credited,
            available,
            movements.emergency,
            movements.first_day,
        ),
        _by_day(place, load, usage.energy_wh).sum(axis=1),
        drafted_net,
        direct_net,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Load:
    """What some accounts used; ``day`` counts from the trial's first, negative ones only warm up
    the step counts.
    """

    account_ids: Sequence[int]
    terms: Mapping[int, Sequence[Terms]]
    usage: Usage
    day: Int64


def _cost(place: _Place, plan: Tariff, load: _Load) -> tuple[Int64, Int64]:
    """(matrix of all that a plan charges by account and day, each account's sum before tax)."""
    found = _ByMonths(_lives(place, plan, load))
    total, net = _usage_charges(place, plan, load, found)
    months = _settled_by_months(place, plan, load, found)
    given_back = _given_back(place, plan, load)
    owed = found.lives.owed[:, place.first_day - found.lives.first_day :]
    return (
        _by_day(place, load, total) + _amounts_by_day(place, plan, load, owed) + months[0] - given_back,
        (
            _by_day(place, load, net) + _amounts_by_day(place, plan, load, owed, taxed=False)
            + months[1] - given_back
        ).sum(axis=1),
    )  # fmt: skip


def _counts_from_us(place: _Place, draft: Tariff) -> int:
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


def _usage_charges(
    place: _Place, plan: Tariff, load: _Load, found: _ByMonths
) -> tuple[Int64, Int64]:
    """(all components, energy and fees alone) of what each interval costs under a plan."""
    usage = load.usage
    total, net = np.zeros(len(usage), dtype=np.int64), np.zeros(len(usage), dtype=np.int64)
    if len(usage) == 0:
        return total, net
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
        before_tax = rated.charge_energy + rated.charge_fee
        np.add.at(net, interval, before_tax)
        np.add.at(total, interval, before_tax + rated.charge_tax + rated.charge_subsidy)
    return total, net


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


def _lives(place: _Place, plan: Tariff, load: _Load) -> Lives:
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
    place: _Place, plan: Tariff, load: _Load, found: _ByMonths
) -> tuple[Int64, Int64]:
    """(with tax, before tax) of demand, minimum and maximum on the days of the trial."""
    lives = found.lives
    nothing = np.zeros(lives.owed.shape, dtype=np.int64)
    for each in plan.demand:
        # Nobody used anything: the lowest power there is.
        found.peaks.setdefault((each.interval_minutes, each.bands), nothing)
    demand = demand_by_day(plan, lives, found.peaks)
    energy = found.energy if found.energy.size else nothing
    bounds = bounds_by_day(plan, lives, energy + demand[1], place.time_zone)
    in_trial = slice(place.first_day - lives.first_day, None)
    return (demand[0] + bounds[0])[:, in_trial], (demand[1] + bounds[1])[:, in_trial]


def _given_back(place: _Place, plan: Tariff, load: _Load) -> Int64:
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


def _timelines(place: _Place, plan: Tariff, load: _Load) -> tuple[TimelineSet, Int64]:
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


def _purchase_of(place: _Place, plan: Tariff, load: _Load) -> Int64:
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


def _by_day(place: _Place, load: _Load, values: Int64) -> Int64:
    """A value per interval as a matrix [accounts, days], without those that only warm up."""
    matrix = np.zeros((len(load.account_ids), place.days), dtype=np.int64)
    rows = load.day >= 0
    np.add.at(matrix, (load.usage.account_index[rows], load.day[rows]), values[rows])
    return matrix


def _amounts_by_day(
    place: _Place, plan: Tariff, load: _Load, owed: npt.NDArray[np.bool_], *, taxed: bool = True
) -> Int64:
    """What a plan asks for by the day, on the days of each account's life, taxed or before tax."""
    matrix = np.zeros((len(load.account_ids), place.days), dtype=np.int64)
    if not plan.dated:
        return matrix
    sheets: dict[frozenset[str], Int64] = {}
    for row, account_id in enumerate(load.account_ids):
        exempt = terms_at(load.terms.get(account_id, ()), place.from_us).exempt
        if exempt not in sheets:
            sheets[exempt] = _sheet(place, plan, exempt, taxed)
        matrix[row] = np.where(owed[row], sheets[exempt], 0)
    return matrix


def _sheet(place: _Place, plan: Tariff, exempt: frozenset[str], taxed: bool) -> Int64:
    """Micro-units of each day of the trial for accounts with the same exemptions."""
    days = DayPlan(place.time_zone, ((0, 0),), ((0, exempt),), {0: plan})
    rows = dated_rows(days, place.first_day, place.first_day + place.days, None)
    one, nothing = np.zeros(rows.day.size, dtype=np.int64), np.zeros(1, dtype=np.int64)
    charge, _ = accrue_parts(account_index=one, parts=rows.parts, carry=nothing)
    if taxed:
        share = np.array([rows.entries[at].tax.share_ppb for at in rows.entry], dtype=np.int64)
        charge = (
            charge
            + accrue_tax(account_index=one, charge_micro=charge, share_ppb=share, carry=nothing)[0]
        )
    per_day = np.zeros(place.days, dtype=np.int64)
    np.add.at(per_day, rows.day - place.first_day, charge)
    return per_day


def _judged(
    resale: Resale | None,
    draft: Tariff,
    energy_wh: Int64,
    charged: Int64,
    direct: Int64,
    inflow: Supplied,
) -> tuple[Finding, ...]:
    """What the price rules of the place say to the trial; nothing where it has none."""
    if resale is None:
        return ()
    known: dict[Reference, Int64] = {}
    if resale.purchase_nano_per_kwh is not None:
        price = np.full_like(energy_wh, resale.purchase_nano_per_kwh)
        cost = checked_multiply(energy_wh, price, place="a purchase price")
        known[Reference.PURCHASE] = cost // _NANO_WH_PER_MICRO
    if resale.direct is not None:
        known[Reference.DIRECT] = direct
    return judge(resale.pack, draft, Facts(
        energy_wh, charged, known, supplied_wh=inflow.energy_wh, supply_unknown=inflow.why,
    ))  # fmt: skip


#: Wh × nano-units per kWh in a micro-unit.
_NANO_WH_PER_MICRO: Final = 1_000_000


def _finding_document(finding: Finding, account_ids: Sequence[int]) -> dict[str, Any]:
    return {
        "code": finding.rule.code,
        "text": finding.rule.text,
        "severity": finding.rule.severity.value,
        "outcome": finding.outcome.value,
        "measured_ppm": finding.measured_ppm,
        "why": finding.why,
        "account_ids": [account_ids[each] for each in finding.accounts],
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Movements:
    """Transfers of accounts by local day: amounts by the day, and all that is no charge."""

    charged: Int64
    credited: Int64
    charged_after: Int64
    credited_after: Int64
    available: Int64
    emergency: Int64
    first_day: Int64


#: Usage is compared from the intervals themselves, its corrections too.
_OF_USAGE: Final = (int(TransferKind.USAGE), int(TransferKind.CORRECTION))


def _movements(place: _Place, account_ids: Sequence[int]) -> _Movements:
    shape = (len(account_ids), place.days)
    charged, credited = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    after = np.zeros((2, shape[0]), dtype=np.int64)
    position = {each: number for number, each in enumerate(account_ids)}
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT t.account_id, t.is_daily,
                      least((CASE WHEN t.is_daily THEN t.service_from ELSE t.booked_at END
                             AT TIME ZONE %(zone)s)::date - %(first)s::date, %(days)s),
                      sum(t.amount)::bigint
               FROM (SELECT *, kind = %(daily)s OR kind = %(correction)s
                               AND (reason LIKE 'daily.%%' OR reason = %(rebate)s) AS is_daily
                     FROM transfer) AS t
               WHERE t.account_id = ANY(%(accounts)s) AND (t.is_daily OR t.kind <> ALL(%(usage)s))
                 AND t.booked_at >= %(from)s
               GROUP BY 1, 2, 3""",
            {
                "daily": int(TransferKind.DAILY),
                "correction": int(TransferKind.CORRECTION),
                "rebate": REBATE,
                "zone": place.time_zone,
                "first": day_date(place.first_day),
                "days": place.days,
                "accounts": list(account_ids),
                "usage": list(_OF_USAGE),
                "from": utc_datetime(place.from_us),
            },
        )
        for account_id, is_daily, day, amount in cursor.fetchall():
            row = position[account_id]
            if day >= place.days:
                after[0 if is_daily else 1, row] += -amount if is_daily else amount
            elif day >= 0 and is_daily:
                charged[row, day] -= amount
            elif day >= 0:
                credited[row, day] += amount
        cursor.execute(
            """SELECT s.available, coalesce(p.emergency_micro, 0),
                      coalesce((t.booked_at AT TIME ZONE %s)::date - %s::date, %s)
               FROM account_state s
               LEFT JOIN supply_state p USING (account_id)
               LEFT JOIN transfer t ON t.account_id = s.account_id AND t.seq = 1
               WHERE s.account_id = ANY(%s) ORDER BY s.account_id""",
            [place.time_zone, day_date(place.first_day), place.days, list(account_ids)],
        )
        standing = np.array(cursor.fetchall(), dtype=np.int64).reshape(-1, 3).T
    return _Movements(charged, credited, after[0], after[1], *standing)


def _charged_after(place: _Place, account_ids: Sequence[int]) -> Int64:
    """What intervals cost that begin after the last day of the trial."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT a.id, coalesce(sum(i.charge_energy + i.charge_standing + i.charge_tax
                       + i.charge_fee + i.charge_demand + i.charge_subsidy), 0)::bigint
               FROM unnest(%s::bigint[]) AS a(id)
               LEFT JOIN interval i ON i.account_id = a.id AND i.start_at >= %s
               GROUP BY a.id ORDER BY a.id""",
            [list(account_ids), utc_datetime(place.until_us)],
        )
        return np.array([row[1] for row in cursor.fetchall()], dtype=np.int64)


def _nothing(days: int) -> Days:
    empty, none = np.zeros((0, days), dtype=np.int64), np.zeros(0, dtype=np.int64)
    return Days(empty, empty, empty, none, none, none)
