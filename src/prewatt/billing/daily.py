"""What falls due by days: standing charges and fees of days that begin, demand and bounds of days
that end, with their taxes.

``daily_legs`` is called by every posting with the accounts that it has locked, in its transaction:
what it returns goes into the same event as the usage. It does what is due up to an instant and
remembers in ``account_state.daily_through`` how far that was, so a run that was cut off goes on and
a second one finds nothing. An account owes a day that begins in its life, at that day's first
instant, whether its supply is on or not.

A closed account is finished: its demand and bounds end with it, what was collected ahead of days it
does not live is given back, and what a recharge has not collected yet is charged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.billing.bounds import bound_lines, has_bound
from prewatt.billing.day_charges import COLLECTED, SOURCE, dated_charges, store_carries
from prewatt.billing.day_corrections import put_right
from prewatt.billing.day_legs import Line, legs_of, with_tax
from prewatt.billing.days import (
    NEVER_US,
    DayAccount,
    DayPlan,
    by_plan,
    charges_by_days,
    dated_rows,
    load_accounts,
    tariffs_where,
)
from prewatt.billing.peaks import Span, demand_lines, has_demand
from prewatt.core.accounts import TransferKind
from prewatt.core.civil_time import instant_us
from prewatt.core.rating import Component
from prewatt.core.tariff.model import Collect
from prewatt.core.taxes import EffectiveTax
from prewatt.ledger.operations import Leg


@dataclass(frozen=True, slots=True)
class _Reach:
    """How far a run takes an account: days before ``begun_end`` have begun, before
    ``finished_end`` ended; ``through`` is remembered.
    """

    begun_from: int
    begun_end: int
    finished_from: int
    finished_end: int
    through: int


def due_accounts(
    *,
    actor: Actor,
    until: datetime,
    account_ids: Sequence[int] | None = None,
    property_id: int | None = None,
) -> list[int]:
    """Accounts of which a day has begun by ``until`` that is not posted, or that have closed since.

    All in scope, unless accounts or a property are named.
    """
    require(actor, "billing.post")
    with scope(actor):
        tariff_ids = tariffs_where(charges_by_days)
        if not tariff_ids:
            return []
        with connection.cursor() as cursor:
            cursor.execute(
                _DUE,
                {
                    "until": until,
                    "tariffs": tariff_ids,
                    "accounts": None if account_ids is None else list(account_ids),
                    "property": property_id,
                },
            )
            return [int(row[0]) for row in cursor.fetchall()]


_DUE = """
SELECT s.account_id
FROM account_state s
JOIN account a ON a.id = s.account_id
JOIN property p ON p.id = a.property_id
WHERE (%(accounts)s::bigint[] IS NULL OR s.account_id = ANY(%(accounts)s))
  AND (%(property)s::bigint IS NULL OR a.property_id = %(property)s)
  AND a.opened_at <= %(until)s
  AND s.daily_through < least(
      (%(until)s AT TIME ZONE p.time_zone)::date - DATE '1970-01-01',
      CASE WHEN a.closed_at <= %(until)s
           THEN (a.closed_at AT TIME ZONE p.time_zone)::date - DATE '1970-01-01' + 1 END)
  AND EXISTS (SELECT FROM tariff_assignment t
              WHERE t.account_id = s.account_id AND t.tariff_id = ANY(%(tariffs)s))
ORDER BY s.account_id
"""


def daily_legs(
    *,
    account_ids: Sequence[int],
    energy: Mapping[tuple[int, int], int],
    until: datetime,
    lives_changed: bool = False,
) -> dict[int, list[Leg]]:
    """The transfers of what the accounts owe by days up to ``until``, by account.

    The caller holds the accounts' locks and books the legs in this transaction. ``energy`` are the
    energy charges that it posts along with them, by (account, local day), zero ones included: these
    days' demand and bounds are looked at again.
    ``lives_changed`` says that somebody came or left at ``until``, perhaps days ago: days posted
    since then go to whom they belong.
    """
    tariff_ids = tariffs_where(charges_by_days)
    accounts = load_accounts(account_ids, tariff_ids)
    if not accounts:
        return {}
    until_us = instant_us(until)
    accounts = [each for each in accounts if each.opened_us <= until_us]
    for account in accounts:
        if account.closed_us > until_us:
            account.closed_us = NEVER_US
    reach = {each.account_id: _reach(each, until_us) for each in accounts}
    asked = {each.account_id for each in accounts if has_demand(each) or has_bound(each)}
    energy = {key: micro for key, micro in energy.items() if key[0] in asked}
    spans = _spans(reach, energy)
    by_id = {each.account_id: each for each in accounts}
    # Before the new days: their remainders follow those of the days that were put right.
    right = put_right(accounts, dict.fromkeys(by_id, until_us)) if lives_changed else {}
    lines = [
        *_dated_lines(accounts, reach),
        *_settled_collections(accounts, reach),
        *demand_lines(accounts, spans),
        *bound_lines(accounts, spans, energy),
    ]
    legs = legs_of(with_tax(lines, by_id), by_id)
    for account_id, own in right.items():
        legs[account_id] = [*own, *legs.get(account_id, ())]
    store_carries(accounts, [reach[each.account_id].through for each in accounts])
    return legs


def _reach(account: DayAccount, until_us: int) -> _Reach:
    today = account.plan.day_at(until_us)
    through, finished_end = today, today
    if account.closed_us <= until_us:
        finished_end = account.plan.day_at(account.closed_us) + 1
        # One beyond its last day: nothing more falls due.
        through = finished_end
    before = account.daily_through
    return _Reach(
        begun_from=before + 1 if before else account.opening_day,
        begun_end=through + 1,
        finished_from=before or account.opening_day,
        finished_end=finished_end,
        through=max(through, before),
    )


def _spans(reach: Mapping[int, _Reach], energy: Mapping[tuple[int, int], int]) -> dict[int, Span]:
    touched: defaultdict[int, set[int]] = defaultdict(set)
    for account_id, day in energy:
        touched[account_id].add(day)
    return {
        account_id: Span(each.finished_from, each.finished_end, frozenset(touched[account_id]))
        for account_id, each in reach.items()
    }


# --- dated charges ---


def _dated_lines(accounts: Sequence[DayAccount], reach: Mapping[int, _Reach]) -> list[Line]:
    """Standing charges and fees of the days that have begun; the accounts' carries go on."""
    lines: list[Line] = []
    for plan, group in by_plan(accounts):
        wanted = [
            (account, *days)
            for account in group
            for days in _begun(account, reach[account.account_id])
        ]
        if wanted:
            first, end = min(each[1] for each in wanted), max(each[2] for each in wanted)
            rows = dated_rows(plan, first, end, Collect.DAILY)
            lines += dated_charges(rows, wanted, SOURCE)
    return lines


def _begun(account: DayAccount, reach: _Reach) -> list[tuple[int, int]]:
    return account.owed_ranges(reach.begun_from, reach.begun_end)


# --- charges that recharges collect ---


def _settled_collections(accounts: Sequence[DayAccount], reach: Mapping[int, _Reach]) -> list[Line]:
    """What closing, or a unit that was let, makes of charges that are collected by the month."""
    lines: list[Line] = []
    for plan, group in by_plan(accounts):
        if not plan.collects_at_recharge:
            continue
        for account in group:
            lines += _give_back(plan, account, reach[account.account_id])
            if account.is_closed:
                lines += _catch_up(plan, account)
    return lines


def _give_back(plan: DayPlan, account: DayAccount, reach: _Reach) -> list[Line]:
    """Days that were collected and turn out not to be the account's: all of a closed account's,
    otherwise those that have begun.
    """
    first = max(account.opening_day, reach.begun_from)
    if account.is_closed:
        first = max(account.opening_day, min(first, plan.day_at(account.closed_us)))
    end = account.collected_through + 1
    if not account.is_closed:
        end = min(end, reach.begun_end)
    if first >= end:
        return []
    free = _gaps(account.owed_ranges(first, end), first, end)
    if not free:
        return []
    rows = dated_rows(plan, first, end, Collect.FIRST_RECHARGE)
    wanted = [(account, *days) for days in free]
    lines = dated_charges(rows, wanted, dict.fromkeys(SOURCE, COLLECTED), sign=-1)
    if account.is_closed:
        account.collected_through = min(account.collected_through, free[-1][0] - 1)
    return _naming_collected(account, lines)


def _gaps(owed: Sequence[tuple[int, int]], first: int, end: int) -> list[tuple[int, int]]:
    """What is left of [first, end) beside ranges in order."""
    edges = [first, *(edge for each in owed for edge in each), end]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


def _catch_up(plan: DayPlan, account: DayAccount) -> list[Line]:
    """Days that a closed account lived and no recharge has collected."""
    first = max(account.opening_day, account.collected_through + 1)
    end = plan.day_at(account.closed_us) + 1
    owed = account.owed_ranges(first, end)
    if not owed:
        return []
    rows = dated_rows(plan, first, end, Collect.FIRST_RECHARGE)
    lines = dated_charges(
        rows, [(account, *days) for days in owed], dict.fromkeys(SOURCE, COLLECTED)
    )
    account.collected_through = owed[-1][1] - 1
    return lines


def _naming_collected(account: DayAccount, lines: Sequence[Line]) -> list[Line]:
    """The lines as corrections of the latest transfer that collected the same charge."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT DISTINCT ON (code) code, event_id, seq FROM transfer
               WHERE account_id = %s AND kind = %s AND reason = %s AND component <> %s
               ORDER BY code, seq DESC""",
            [account.account_id, int(TransferKind.DAILY), COLLECTED, int(Component.TAX)],
        )
        collected = {code: (event, seq) for code, event, seq in cursor.fetchall()}
    summed: dict[tuple[str, EffectiveTax], Line] = {}
    for line in lines:
        key = line.code, line.tax
        before = summed.get(key, line)
        micro = line.micro if before is line else before.micro + line.micro
        summed[key] = replace(line, day=before.day, micro=micro, corrects=collected.get(line.code))
    return list(summed.values())
