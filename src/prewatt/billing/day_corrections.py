"""Days that were posted and turn out otherwise: the wrong payer, the wrong tariff, an exemption.

A day whose transfers are not what it owes now is taken back, each transfer named by the one that
takes it back, and charged anew, so that all days together are their exact sum cut off once (``day_carries``).
A day of closed books is never touched: what it differs by is booked on
the first open instant, one transfer for each charge, which names the transfer of that day and says the
day in its reason (``docs/decisions/0012-closed-days-are-corrected-in-open-books.md``). Demand is measured
and billed again for every month since, bounds are settled again, and the difference names the last
transfer of the same charge and month.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import connection

from prewatt.billing import day_carries
from prewatt.billing.bounds import rebuilt_bound_lines
from prewatt.billing.day_carries import Days
from prewatt.billing.day_charges import SOURCE, dated_charges, store_carries
from prewatt.billing.day_legs import Line, closed_day, legs_of, with_tax
from prewatt.billing.days import (
    DayAccount,
    charges_by_days,
    dated_rows,
    load_accounts,
    tariffs_where,
)
from prewatt.billing.peaks import Span, demand_lines, month_of, orphaned_demand_lines
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.rating import Component
from prewatt.core.tariff.model import Collect
from prewatt.ledger.operations import Event, Leg, append_events, new_event_ids


def correct_days(
    *, actor_code: str, from_at: Mapping[int, datetime], now: datetime
) -> tuple[int, ...]:
    """Post what the accounts' days since an instant cost otherwise now; returns whose changed.

    One event for each account, in the caller's transaction and under the locks that it holds.
    """
    accounts = load_accounts(sorted(from_at), tariffs_where(charges_by_days))
    since = {each.account_id: instant_us(from_at[each.account_id]) for each in accounts}
    by_id = {each.account_id: each for each in accounts}
    legs = put_right(accounts, since)
    spans = {account_id: _span(by_id[account_id], at) for account_id, at in since.items()}
    lines = [
        *demand_lines(accounts, spans),
        *orphaned_demand_lines(accounts, spans),
        *rebuilt_bound_lines(accounts, spans),
    ]
    for account_id, own in legs_of(with_tax(_named(lines, by_id), by_id), by_id).items():
        legs[account_id] = [*legs.get(account_id, ()), *own]
    store_carries(accounts, [each.daily_through for each in accounts])
    if legs:
        append_events(
            actor_code=actor_code,
            events=[
                Event(event, tuple(own))
                for event, own in zip(new_event_ids(len(legs)), legs.values(), strict=True)
            ],
            now=now,
        )
    return tuple(sorted(legs))


def _span(account: DayAccount, since_us: int) -> Span:
    """All finished days since an instant, none of them new."""
    end = account.daily_through
    first = max(account.plan.day_at(since_us), account.opening_day)
    return Span(end, end, frozenset(range(first, end)))


def put_right(accounts: Sequence[DayAccount], since_us: Mapping[int, int]) -> dict[int, list[Leg]]:
    """Transfers that make posted days what they owe: standing charges, fees and their taxes.

    Moves the accounts' carries; the caller stores them and books the transfers.
    """
    legs: dict[int, list[Leg]] = {}
    for account in accounts:
        first = max(account.plan.day_at(since_us[account.account_id]), account.opening_day)
        end = account.daily_through + 1
        if first < end:
            own = _put_right(account, first, end)
            if own:
                legs[account.account_id] = own
    return legs


def _put_right(account: DayAccount, first: int, end: int) -> list[Leg]:
    days = _days(account, first, end)
    wrong = days.wrong(range(first, end))
    if not wrong:
        return []
    whole = day_carries.renew(account, _days(account, account.opening_day, end), set(wrong))
    rows, owed, posted = days.rows, days.owed, days.posted
    again = [(account, day, day + 1) for day in wrong if day in owed]
    lines = day_carries.give_whole(dated_charges(rows, again, SOURCE) if again else [], whole)
    by_id = {account.account_id: account}
    taxed = day_carries.give_whole_tax(with_tax(lines, by_id), whole)
    shut = {day for day in wrong if int(account.plan.starts_us(day, day + 1)[0]) < account.books_us}
    open_lines = [each for each in taxed if each[0].day not in shut]
    back = [leg for day in wrong if day not in shut for leg in posted.get(day, ())]
    legs = day_carries.take_whole(back, whole)
    legs += legs_of(open_lines, by_id).get(account.account_id, [])
    for day in sorted(shut):
        own = legs_of([each for each in taxed if each[0].day == day], by_id)
        legs += _difference(posted.get(day, ()), own.get(account.account_id, ()))
    return legs


def _difference(posted: Sequence[Leg], charged: Sequence[Leg]) -> list[Leg]:
    """What a closed day differs by, one leg for each charge, as a correction of the transfer of that
    day that is most like it.

    ``posted`` would take back what stands, ``charged`` would charge anew; neither is booked.
    """
    legs = []
    for key in dict.fromkeys(_charge_of(leg) for leg in (*posted, *charged)):
        alike = [leg for leg in (*charged, *posted) if _charge_of(leg) == key]
        amount = sum(leg.amount for leg in alike)
        if not amount:
            continue
        named = next((leg for leg in posted if _charge_of(leg) == key), None)
        named = named or next(iter(posted), None)
        corrects = (named.corrects_event_id, named.corrects_seq) if named else (None, None)
        legs.append(
            replace(
                alike[0],
                kind=TransferKind.CORRECTION if named else TransferKind.DAILY,
                amount=amount,
                corrects_event_id=corrects[0],
                corrects_seq=corrects[1],
            )
        )
    return legs


def _charge_of(leg: Leg) -> tuple[int, str, int]:
    return leg.component, leg.code, leg.tax_rate_ppm


def _days(account: DayAccount, first: int, end: int) -> Days:
    """The local days [first, end) of an account: what they owe, and what is posted of them."""
    return Days(
        rows=dated_rows(account.plan, first, end, Collect.DAILY),
        owed={day for a, b in account.owed_ranges(first, end) for day in range(a, b)},
        posted=_posted_days(account, first, end),
    )


def _posted_days(account: DayAccount, first: int, end: int) -> dict[int, list[Leg]]:
    """What takes back each posted day of [first, end) that was not taken back before, by day."""
    starts = account.plan.starts_us(first, end + 1)
    with connection.cursor() as cursor:
        cursor.execute(
            _POSTED_DAYS,
            [
                account.account_id,
                [int(TransferKind.DAILY), int(TransferKind.CORRECTION)],
                list(SOURCE.values()),
                utc_datetime(int(starts[0])),
            ],
        )
        rows = cursor.fetchall()
    found: defaultdict[int, list[Leg]] = defaultdict(list)
    for row in rows:
        day = closed_day(row[9])
        if day is None:
            day = account.plan.day_at(instant_us(row[6]) - 1)
        if first <= day < end:
            found[day].append(_taking_back(account.account_id, row))
    return dict(found)


def _taking_back(account_id: int, row: tuple[Any, ...]) -> Leg:
    event, seq, component, counter, amount, begin, finish, code, rate, reason = row
    return Leg(
        account_id=account_id,
        kind=TransferKind.CORRECTION,
        component=component,
        counter_account=CounterAccount(counter),
        amount=-amount,
        service_from=begin,
        service_to=finish,
        reason=reason,
        tax_rate_ppm=rate,
        code=code,
        corrects_event_id=event,
        corrects_seq=seq,
    )


#: A day's transfers end with it, which tells the day; those of a day whose books were closed say it in
#: their reason, and what corrects such a day leaves what it names standing.
_POSTED_DAYS = """
SELECT t.event_id, t.seq, t.component, t.counter_account, t.amount, t.service_from, t.service_to,
       t.code, t.tax_rate_ppm, t.reason
FROM transfer t
WHERE t.account_id = %s AND t.kind = ANY(%s) AND split_part(t.reason, '@', 1) = ANY(%s)
  AND t.service_to > %s AND (t.corrects_seq IS NULL OR t.reason LIKE '%%@%%')
  AND NOT EXISTS (SELECT FROM transfer c WHERE c.account_id = t.account_id
                  AND c.corrects_event_id = t.event_id AND c.corrects_seq = t.seq
                  AND c.reason NOT LIKE '%%@%%')
ORDER BY t.seq
"""


def _named(lines: Sequence[Line], accounts: Mapping[int, DayAccount]) -> list[Line]:
    """The lines as corrections of the last transfer of the same charge in the same month."""
    if not lines:
        return []
    starts = []
    for line in lines:
        begin, end = month_of(line.day)
        plan = accounts[line.account_id].plan
        starts.append(
            (int(plan.starts_us(begin, begin + 1)[0]), int(plan.starts_us(end, end + 1)[0]))
        )
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT DISTINCT ON (n.at) n.at, t.event_id, t.seq
               FROM unnest(%s::integer[], %s::bigint[], %s::text[], %s::timestamptz[],
                   %s::timestamptz[]) AS n(at, account_id, code, begin_at, end_at)
               JOIN transfer t ON t.account_id = n.account_id AND t.code = n.code
                   AND t.component <> %s AND t.service_from >= n.begin_at
                   AND t.service_from < n.end_at
               ORDER BY n.at, t.seq DESC""",
            [
                list(range(len(lines))),
                [line.account_id for line in lines],
                [line.code for line in lines],
                [utc_datetime(begin) for begin, _ in starts],
                [utc_datetime(end) for _, end in starts],
                int(Component.TAX),
            ],
        )
        named = {at: (event, seq) for at, event, seq in cursor.fetchall()}
    return [replace(line, corrects=named.get(at)) for at, line in enumerate(lines)]
