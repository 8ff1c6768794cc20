"""Demand of accounts: peaks read from intervals, kept by day, and what each finished day adds.

``demand_day`` has the highest mean power of each local day and charge, and what was posted under
that day. A day is measured when it is finished, and again whenever usage of it is posted later; the
month's charge through the last finished day less what was posted before falls to the new days, and
a change of a month that is over falls to its last day.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from django.db import connection

from prewatt.billing.day_legs import Line
from prewatt.billing.days import DayAccount, DayPlan, Stretch, by_plan
from prewatt.billing.usage import STANDS
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import utc_datetime
from prewatt.core.dated import Periods, periods_of
from prewatt.core.demand import (
    UNKNOWN_PPM,
    accrued_demand_micro,
    billed_power_w,
    peak_power_w,
    power_factor_ppm,
)
from prewatt.core.rating import Component
from prewatt.core.readings import ACTIVE_IMPORT, Quality
from prewatt.core.tariff.model import Demand, Per, Taxable
from prewatt.runtime.copying import read_columns

SOURCE: Final = "daily.demand"
#: Register code of OBIS 3.8.0, cumulative reactive energy drawn, in varh.
REACTIVE_IMPORT: Final = 3


@dataclass(frozen=True, slots=True)
class Span:
    """What a run does to an account: days [finished_from, finished_end) are newly finished.

    ``touched`` are days of which usage is being posted, finished before or not.
    """

    finished_from: int
    finished_end: int
    touched: frozenset[int]


@dataclass(slots=True)
class _Cell:
    """One account's month of one demand charge, while it is worked out."""

    account: DayAccount
    code: str
    month: tuple[int, int]
    #: Days of the month on which the charge holds, with the version's terms of each.
    terms: dict[int, Demand] = field(default_factory=dict)
    #: New days get lines of their own; without any the last day takes the true-up.
    lines_on: list[int] = field(default_factory=list)
    peaks: dict[int, int] = field(default_factory=dict)
    posted: int = 0
    ratchet_peak: int = 0
    power_factor: int = UNKNOWN_PPM


def has_demand(account: DayAccount) -> bool:
    """Whether any version of the account's plan charges demand."""
    plan = account.plan
    return any(plan.contents[version].demand for _, version in plan.versions)


def demand_lines(accounts: Sequence[DayAccount], spans: Mapping[int, Span]) -> list[Line]:
    """What the newly finished days owe of demand, true-ups included; peaks and posted are stored.

    The caller holds the accounts' locks. Lines are in order of account, charge and day.
    """
    asked = [account for account in accounts if has_demand(account)]
    if not asked:
        return []
    _measure(asked, spans)
    cells = [cell for plan, group in by_plan(asked) for cell in _cells(plan, group, spans)]
    cells.sort(key=lambda cell: (cell.account.account_id, cell.month, cell.code))
    if not cells:
        return []
    _load_days(cells)
    _load_ratchets(cells)
    _load_power_factors(cells)
    return _accrue(cells)


def orphaned_demand_lines(accounts: Sequence[DayAccount], spans: Mapping[int, Span]) -> list[Line]:
    """What gives back charges of touched days that no version of the plan has on them any more."""
    lines = []
    for account in accounts:
        touched = spans[account.account_id].touched
        if not touched:
            continue
        first, end = min(touched), max(touched) + 1
        terms = _demands_by_day(account.plan.stretches(first, end))
        for (month, code), days in _posted_by_month(account, first, end).items():
            kept = {day for day in days if any(each.code == code for each in terms[day])}
            gone = sum(posted for day, posted in days.items() if day not in kept)
            if gone and not kept:
                day = min(month[1], end) - 1
                tax = account.plan.stretch_at(day).tax(Taxable.DEMAND)
                lines.append(
                    Line(
                        account.account_id, day, day + 1, Component.DEMAND, code, -gone, tax, SOURCE
                    )
                )  # fmt: skip
    _store_posted(lines, {account.account_id: account for account in accounts})
    return lines


def _posted_by_month(
    account: DayAccount, first: int, end: int
) -> dict[tuple[tuple[int, int], str], dict[int, int]]:
    """What was posted under the days [first, end), by (month, code) and day."""
    found: defaultdict[tuple[tuple[int, int], str], dict[int, int]] = defaultdict(dict)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT local_day, code, posted FROM demand_day
               WHERE account_id = %s AND local_day >= %s AND local_day < %s""",
            [account.account_id, first, end],
        )
        for day, code, posted in cursor.fetchall():
            found[month_of(day), code][day] = posted
    return dict(found)


# --- measuring ---


@dataclass(frozen=True, slots=True)
class _Day:
    """An account's local day to be measured."""

    account: DayAccount
    day: int
    begin_us: int
    end_us: int
    demands: tuple[Demand, ...]


def _measure(accounts: Sequence[DayAccount], spans: Mapping[int, Span]) -> None:
    """Store the peaks of finished days and of days whose usage has changed."""
    days = [day for plan, group in by_plan(accounts) for day in _days(plan, group, spans)]
    if not days:
        return
    parts = _parts(days)
    specs = {(each.interval_minutes, each.bands) for day in days for each in day.demands}
    rows: list[tuple[int, int, str, int, int]] = []
    for minutes, bands in sorted(specs):
        peaks = _peaks(parts, days, minutes, bands)
        rows += [
            (day.account.account_id, day.day, each.code, day.account.property_id, peak)
            for day, peak in zip(days, peaks.tolist(), strict=True)
            for each in day.demands
            if (each.interval_minutes, each.bands) == (minutes, bands)
        ]
    _store_peaks(rows)


def _days(plan: DayPlan, group: Sequence[DayAccount], spans: Mapping[int, Span]) -> list[_Day]:
    wanted = {account.account_id: _days_to_measure(spans[account.account_id]) for account in group}
    every = {day for days in wanted.values() for day in days}
    if not every:
        return []
    first, end = min(every), max(every) + 1
    terms = _demands_by_day(plan.stretches(first, end))
    starts = plan.starts_us(first, end + 1).tolist()
    return [
        _Day(account, day, starts[day - first], starts[day - first + 1], terms[day])
        for account in group
        for day in sorted(wanted[account.account_id])
        if terms[day]
    ]


def _days_to_measure(span: Span) -> set[int]:
    late = {day for day in span.touched if day < span.finished_end}
    return late | set(range(span.finished_from, span.finished_end))


def _demands_by_day(stretches: Sequence[Stretch]) -> dict[int, tuple[Demand, ...]]:
    return {
        day: stretch.tariff.demand
        for stretch in stretches
        for day in range(stretch.first, stretch.end)
    }


def _parts(days: Sequence[_Day]) -> dict[str, Int64]:
    """The parts of intervals that lie in the days, as columns; ``at`` is the position of the day.

    Of each meter only intervals from the one that contains the day's begin on are looked at, so
    that a day costs the same after ten years. What was superseded before is not in them, and what
    was taken back later takes itself out.
    """
    connection.ensure_connection()
    return read_columns(
        connection.connection,
        _PARTS,
        [
            list(range(len(days))),
            [day.account.account_id for day in days],
            [utc_datetime(day.begin_us) for day in days],
            [utc_datetime(day.end_us) for day in days],
            ACTIVE_IMPORT,
        ],
        {
            "at": "int8",
            "from_at": "timestamptz",
            "to_at": "timestamptz",
            "energy_wh": "int8",
            "band": "int2",
        },
    )


_PARTS = f"""
SELECT d.at, i.from_at, i.to_at, i.energy_wh, i.band
FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[], %s::timestamptz[])
    AS d(at, account_id, begin_at, end_at)
JOIN meter_state m ON m.account_id = d.account_id AND m.register_code = %s
LEFT JOIN LATERAL (
    SELECT c.start_at FROM interval c
    WHERE c.account_id = d.account_id AND c.meter_id = m.meter_id
      AND c.register_code = m.register_code AND c.start_at <= d.begin_at AND {STANDS}
    ORDER BY c.start_at DESC LIMIT 1
) around ON true
JOIN interval i ON i.account_id = d.account_id AND i.meter_id = m.meter_id
    AND i.register_code = m.register_code
    AND i.start_at >= coalesce(around.start_at, d.begin_at) AND i.start_at < d.end_at
    AND i.to_at > d.begin_at AND i.from_at < d.end_at
"""  # noqa: S608 - only our own constants are put in


def _peaks(
    parts: dict[str, Int64], days: Sequence[_Day], minutes: int, bands: tuple[int, ...]
) -> Int64:
    counts = np.isin(parts["band"], bands) if bands else np.ones(parts["at"].size, dtype=np.bool_)
    return peak_power_w(
        from_us=parts["from_at"][counts],
        to_us=parts["to_at"][counts],
        energy_wh=parts["energy_wh"][counts],
        group_index=parts["at"][counts],
        group_start_us=np.array([day.begin_us for day in days], dtype=np.int64),
        interval_minutes=minutes,
    )


def _store_peaks(rows: Sequence[tuple[int, int, str, int, int]]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO demand_day (account_id, local_day, code, property_id, peak_w, posted)
               SELECT a, d, c, p, w, 0 FROM unnest(%s::bigint[], %s::integer[], %s::text[],
                   %s::bigint[], %s::bigint[]) AS n(a, d, c, p, w)
               ON CONFLICT (account_id, local_day, code) DO UPDATE SET peak_w = excluded.peak_w
               WHERE demand_day.peak_w <> excluded.peak_w""",
            [list(column) for column in zip(*rows, strict=True)],
        )


# --- months ---


def _cells(plan: DayPlan, group: Sequence[DayAccount], spans: Mapping[int, Span]) -> list[_Cell]:
    """The months to work out: those with new days, and those over whose usage has changed."""
    cells = []
    terms_of_month: dict[tuple[int, int], dict[int, tuple[Demand, ...]]] = {}
    for account in group:
        span = spans[account.account_id]
        until = max(span.finished_end, account.daily_through if account.is_closed else 0)
        for month in _months(account, span, until):
            if month not in terms_of_month:
                terms_of_month[month] = _demands_by_day(plan.stretches(*month))
            cells += _cells_of(account, span, month, until, terms_of_month[month])
    return cells


def _months(account: DayAccount, span: Span, until: int) -> list[tuple[int, int]]:
    days = _days_to_measure(span)
    if account.is_closed:
        # A closing that is recorded late ends months that were accrued beyond it.
        days |= set(range(min(account.plan.day_at(account.closed_us), until - 1), until))
    return sorted({month_of(day) for day in days})


def month_of(day: int) -> tuple[int, int]:
    """The local month [first, end) of a day."""
    period: Periods = periods_of(Per.MONTH, np.array([day], dtype=np.int64))
    first = int(period.first_day[0])
    return first, first + int(period.days[0])


def _cells_of(
    account: DayAccount,
    span: Span,
    month: tuple[int, int],
    until: int,
    terms: Mapping[int, tuple[Demand, ...]],
) -> list[_Cell]:
    found: dict[str, _Cell] = {}
    for day in range(max(month[0], account.opening_day), min(month[1], until)):
        for demand in terms[day]:
            cell = found.setdefault(demand.code, _Cell(account, demand.code, month))
            cell.terms[day] = demand
    for cell in found.values():
        new = range(span.finished_from, span.finished_end)
        cell.lines_on = [day for day in cell.terms if day in new]
        is_over = month[1] <= until or account.is_closed or until - 1 not in cell.terms
        if not cell.lines_on and is_over:
            cell.lines_on = [max(cell.terms)]
    return [cell for cell in found.values() if cell.lines_on]


def _load_days(cells: Sequence[_Cell]) -> None:
    """Peaks and posted amounts of the cells' months."""
    by_key = {(cell.account.account_id, cell.code, cell.month[0]): cell for cell in cells}
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT m.account_id, m.code, m.first_day, d.local_day, d.peak_w, d.posted
               FROM unnest(%s::bigint[], %s::text[], %s::integer[], %s::integer[])
                   AS m(account_id, code, first_day, end_day)
               JOIN demand_day d ON d.account_id = m.account_id AND d.code = m.code
                   AND d.local_day >= m.first_day AND d.local_day < m.end_day""",
            [
                [cell.account.account_id for cell in cells],
                [cell.code for cell in cells],
                [cell.month[0] for cell in cells],
                [cell.month[1] for cell in cells],
            ],
        )
        for account_id, code, first, day, peak, posted in cursor.fetchall():
            cell = by_key[account_id, code, first]
            cell.peaks[day] = peak
            cell.posted += posted


def _load_ratchets(cells: Sequence[_Cell]) -> None:
    """The highest peak of the months that each cell's ratchet looks back on."""
    back = {}
    for at, cell in enumerate(cells):
        months = cell.terms[max(cell.terms)].ratchet_months
        if months:
            back[at] = _months_before(cell.month[0], months)
    if not back:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT m.at, max(d.peak_w)
               FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::integer[], %s::integer[])
                   AS m(at, account_id, code, first_day, end_day)
               JOIN demand_day d ON d.account_id = m.account_id AND d.code = m.code
                   AND d.local_day >= m.first_day AND d.local_day < m.end_day
               GROUP BY m.at""",
            [
                list(back),
                [cells[at].account.account_id for at in back],
                [cells[at].code for at in back],
                list(back.values()),
                [cells[at].month[0] for at in back],
            ],
        )
        for at, peak in cursor.fetchall():
            cells[at].ratchet_peak = peak


def _months_before(first_day: int, months: int) -> int:
    for _ in range(months):
        first_day = month_of(first_day - 1)[0]
    return first_day


def _load_power_factors(cells: Sequence[_Cell]) -> None:
    """The measured power factor of each month that is billed by one."""
    asked = [cell for cell in cells if cell.terms[max(cell.terms)].power_factor_ppm]
    if not asked:
        return
    spans = [cell.account.plan.starts_us(cell.month[0], max(cell.terms) + 2) for cell in asked]
    with connection.cursor() as cursor:
        cursor.execute(
            _ENERGIES,
            [
                list(range(len(asked))),
                [cell.account.account_id for cell in asked],
                [utc_datetime(int(each[0])) for each in spans],
                [utc_datetime(int(each[-1])) for each in spans],
                ACTIVE_IMPORT,
                ACTIVE_IMPORT,
                REACTIVE_IMPORT,
            ],
        )
        for at, meters, known, active, reactive in cursor.fetchall():
            if meters == known:
                asked[at].power_factor = power_factor_ppm(int(active), int(reactive))


#: Active and reactive energy of each stretch between the first and the last instant at which a meter
#: gave both registers, as they were put right since. A reading is whose the assignment says: it may have
#: changed its payer since it came. A meter that gave none leaves the power factor of its account unknown.
_ENERGIES = f"""
SELECT q.at, count(*), count(e.pairs) FILTER (WHERE e.pairs > 1),
       coalesce(sum(e.active * m.multiplier), 0), coalesce(sum(e.reactive * m.multiplier), 0)
FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[], %s::timestamptz[])
    AS q(at, account_id, begin_at, end_at)
JOIN meter_assignment s ON s.account_id = q.account_id
    AND s.period && tstzrange(q.begin_at, q.end_at)
JOIN meter_state m ON m.account_id = s.account_id AND m.meter_id = s.meter_id
    AND m.register_code = %s
CROSS JOIN LATERAL (
    SELECT count(*) AS pairs,
           ((array_agg(a.value_wh ORDER BY a.read_at DESC))[1]
            - (array_agg(a.value_wh ORDER BY a.read_at))[1] + m.modulus_wh) %% m.modulus_wh AS active,
           ((array_agg(r.value_wh ORDER BY a.read_at DESC))[1]
            - (array_agg(r.value_wh ORDER BY a.read_at))[1] + m.modulus_wh) %% m.modulus_wh
               AS reactive
    FROM (
        SELECT DISTINCT ON (e.read_at) e.read_at, e.value_wh, e.quality FROM register_reading e
        WHERE e.meter_id = m.meter_id AND e.register_code = %s
          AND e.read_at >= greatest(q.begin_at, lower(s.period))
          AND e.read_at <= least(q.end_at, upper(s.period))
        ORDER BY e.read_at, e.revision DESC
    ) a
    JOIN register_reading r ON r.meter_id = m.meter_id AND r.register_code = %s
        AND r.read_at = a.read_at AND r.revision = 0
    WHERE a.quality <> {int(Quality.WITHDRAWN)}
) e
GROUP BY q.at
"""  # noqa: S608 - only our own numbers are put in


# --- accrual ---


def _accrue(cells: Sequence[_Cell]) -> list[Line]:
    """The charge of each month through each of its days with a line, and the differences."""
    which: list[int] = []
    days: list[int] = []
    numbers: list[tuple[int, ...]] = []
    for at, cell in enumerate(cells):
        for day, row in _through(cell):
            which.append(at)
            days.append(day)
            numbers.append(row)
    peak, ratchet_peak, ratchet, factor, least, price_sum, length = np.array(
        numbers, dtype=object
    ).T
    through = accrued_demand_micro(
        billed_w=billed_power_w(
            peak_w=peak.astype(np.int64),
            ratchet_peak_w=ratchet_peak.astype(np.int64),
            ratchet_ppm=ratchet.astype(np.int64),
            power_factor_ppm=factor.astype(np.int64),
            least_power_factor_ppm=least.astype(np.int64),
        ),
        price_sum_nano=price_sum.astype(np.int64),
        days=length.astype(np.int64),
    )
    lines = []
    for at, day, charge in zip(which, days, through.tolist(), strict=True):
        cell = cells[at]
        amount, cell.posted = charge - cell.posted, charge
        if amount:
            tax = cell.account.plan.stretch_at(day).tax(Taxable.DEMAND)
            lines.append(
                Line(
                    cell.account.account_id, day, day + 1, Component.DEMAND, cell.code, amount,
                    tax, SOURCE,
                )
            )  # fmt: skip
    _store_posted(lines, {cell.account.account_id: cell.account for cell in cells})
    return lines


def _through(cell: _Cell) -> list[tuple[int, tuple[int, ...]]]:
    """For each day with a line what the month's charge through it is made of."""
    account = cell.account
    found: list[tuple[int, tuple[int, ...]]] = []
    owed = {
        day
        for begin, end in account.owed_ranges(min(cell.terms), max(cell.terms) + 1)
        for day in range(begin, end)
    }
    wanted = set(cell.lines_on)
    highest = price_sum = 0
    for day, demand in sorted(cell.terms.items()):
        highest = max(highest, cell.peaks.get(day, 0))
        if day in owed:
            # A price as written contains inclusive taxes; what is charged is net, as of the day.
            price_sum += account.plan.net_nano(Taxable.DEMAND, day, demand.price_nano_per_kw)
        if day in wanted:
            found.append(
                (
                    day,
                    (
                        highest,
                        cell.ratchet_peak,
                        demand.ratchet_ppm,
                        cell.power_factor,
                        demand.power_factor_ppm,
                        price_sum,
                        cell.month[1] - cell.month[0],
                    ),
                )
            )
    return found


def _store_posted(lines: Sequence[Line], accounts: Mapping[int, DayAccount]) -> None:
    """Remember what is posted under each day; a day that had no usage gets its row here."""
    posted: defaultdict[tuple[int, int, str], int] = defaultdict(int)
    for line in lines:
        posted[line.account_id, line.day, line.code] += line.micro
    if not posted:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO demand_day AS d (account_id, local_day, code, property_id, peak_w, posted)
               SELECT a, n, c, p, 0, m FROM unnest(%s::bigint[], %s::integer[], %s::text[],
                   %s::bigint[], %s::bigint[]) AS t(a, n, c, p, m)
               ON CONFLICT (account_id, local_day, code)
               DO UPDATE SET posted = d.posted + excluded.posted""",
            [
                [account for account, _, _ in posted],
                [day for _, day, _ in posted],
                [code for _, _, code in posted],
                [accounts[account].property_id for account, _, _ in posted],
                list(posted.values()),
            ],
        )
