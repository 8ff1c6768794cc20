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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from typing import Any, Final

import numpy as np
from django.db import connection

from prewatt.access.scope import Actor, require, scope, system_actor
from prewatt.billing.losses import Supplied, supplied
from prewatt.billing.models import TariffTrial
from prewatt.billing.plan_costs import Load, Place, by_day, costs_of, counts_from_us, place_of_days
from prewatt.billing.posting import REBATE
from prewatt.billing.queries import terms_of
from prewatt.billing.resale import Resale, resale_at
from prewatt.billing.trial_months import (
    left_out,
)
from prewatt.billing.usage import Usage, read_usage
from prewatt.core.accounts import TransferKind
from prewatt.core.bounds import Int64, checked_multiply
from prewatt.core.civil_time import day_date, utc_datetime
from prewatt.core.price_rules import Facts, Finding, Reference, Rule, judge, rule_document
from prewatt.core.tariff import Tariff, parse_tariff
from prewatt.core.trial import NEVER, Days, Trial, compare, histogram, totals

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


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A chunk's matrices, and per account what price rules compare: net of taxes, with subsidies."""

    days: Days
    energy_wh: Int64
    drafted_net: Int64
    direct_net: Int64


def _place(actor: Actor, property_id: int, days: int, now: datetime) -> tuple[Place, Resale | None]:
    with scope(actor):
        place = place_of_days(property_id=property_id, days=days, now=now)
        return place, resale_at(property_id=property_id, at=now)


def _read_ahead(
    actor: Actor, place: Place, draft: Tariff, resale: Resale | None
) -> Iterator[tuple[Sequence[int], Usage]]:
    """The usage of each chunk of accounts, the next one read while this one is rated.

    The reader has a connection of its own: PostgreSQL gathers on one core while numpy rates on
    the other.
    """
    plans = [draft] if resale is None or resale.direct is None else [draft, resale.direct]
    from_at = utc_datetime(min(counts_from_us(place, each) for each in plans))
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
    place: Place,
    draft: Tariff,
    resale: Resale | None,
    account_ids: Sequence[int],
    usage: Usage,
) -> _Part:
    """The matrices of some accounts, rated in one transaction."""
    direct = None if resale is None else resale.direct
    load = Load(
        account_ids,
        terms_of(account_ids),
        usage,
        place.calendar.local_day(usage.start_at_us) - place.first_day,
    )
    drafted = costs_of(place, draft, load)
    direct_net = drafted.net if direct is None else costs_of(place, direct, load).net
    movements = _movements(place, account_ids)
    charged = by_day(place, load, usage.charged_micro) + movements.charged
    # What happened after the last day is taken off what is available now.
    available = movements.available - movements.credited_after + movements.charged_after
    available += _charged_after(place, account_ids)
    return _Part(
        Days(
            charged,
            drafted.total,
            movements.credited,
            available,
            movements.emergency,
            movements.first_day,
        ),
        by_day(place, load, usage.energy_wh).sum(axis=1),
        drafted.net,
        direct_net,
    )


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


def _movements(place: Place, account_ids: Sequence[int]) -> _Movements:
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


def _charged_after(place: Place, account_ids: Sequence[int]) -> Int64:
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
