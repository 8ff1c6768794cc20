"""From what days owe to transfers: taxes added, service days filled in, codes named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import numpy as np

from prewatt.billing.days import DayAccount, DayPlan
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.civil_time import day_date, day_number, utc_datetime
from prewatt.core.dated import accrue_tax
from prewatt.core.rating import Component
from prewatt.core.taxes import EffectiveTax, TaxPart, apportion
from prewatt.ledger.operations import Leg

#: Sources of lines that are for one day; where that day's books are closed, the reason says it.
SAYS_ITS_DAY: Final = frozenset({"daily.standing", "daily.fee"})

_COUNTER: Final = {
    Component.STANDING: CounterAccount.STANDING_REVENUE,
    Component.FEE: CounterAccount.FEE_REVENUE,
    Component.DEMAND: CounterAccount.DEMAND_REVENUE,
    # A bound is on the bill as a whole; energy revenue stays what energy cost.
    Component.MINIMUM: CounterAccount.STANDING_REVENUE,
    Component.MAXIMUM: CounterAccount.STANDING_REVENUE,
}


@dataclass(frozen=True, slots=True)
class Line:
    """What an account is charged for local days [day, end_day), before tax, in micro-units.

    Below zero it is given back. ``corrects`` names the transfer, as (event, seq), that this takes
    back a part of. ``source`` says in a word what made the line.
    """

    account_id: int
    day: int
    end_day: int
    component: Component
    code: str
    micro: int
    tax: EffectiveTax
    source: str
    corrects: tuple[int, int] | None = None


def with_tax(lines: Sequence[Line], accounts: Mapping[int, DayAccount]) -> list[tuple[Line, int]]:
    """Each line with its tax, in order of account; the accounts' carries of tax go on.

    Lines of one account keep the order they came in, in which their remainders follow.
    """
    if not lines:
        return []
    ids, index = np.unique([line.account_id for line in lines], return_inverse=True)
    carry = np.array([accounts[each].carry_tax for each in ids.tolist()], dtype=np.int64)
    order = np.argsort(index, kind="stable")
    tax, carry = accrue_tax(
        account_index=index[order],
        charge_micro=np.array([lines[at].micro for at in order], dtype=np.int64),
        share_ppb=np.array([lines[at].tax.share_ppb for at in order], dtype=np.int64),
        carry=carry,
    )
    for account_id, rest in zip(ids.tolist(), carry.tolist(), strict=True):
        accounts[account_id].carry_tax = rest
    return [(lines[at], each) for at, each in zip(order, tax.tolist(), strict=True)]


def legs_of(
    taxed: Sequence[tuple[Line, int]], accounts: Mapping[int, DayAccount]
) -> dict[int, list[Leg]]:
    """The transfers of each account: a line's own, then one for each tax on it."""
    legs: dict[int, list[Leg]] = {}
    spans: dict[tuple[int, int, int], tuple[int, int]] = {}
    divided: dict[tuple[int, int], list[tuple[TaxPart, int]]] = {}
    for line, tax in taxed:
        account = accounts[line.account_id]
        key = id(account.plan), line.day, line.end_day
        if key not in spans:
            spans[key] = _span(account.plan, line.day, line.end_day)
        source = line.source
        if line.source in SAYS_ITS_DAY and spans[key][1] <= account.books_us:
            # Its service days are those of open books; the day that it is for stands here.
            source = f"{line.source}@{day_date(line.day).isoformat()}"
        begin, end = (utc_datetime(max(at, account.books_us)) for at in spans[key])
        own = legs.setdefault(line.account_id, [])
        if line.micro:
            own.append(_leg(line, -line.micro, begin, end, source))
        # Most accounts of a plan owe the same for a day.
        if (id(line.tax), tax) not in divided:
            divided[id(line.tax), tax] = _divided(line.tax, tax)
        own += [
            _leg(line, -amount, begin, end, source, tax_code=part.code, rate_ppm=part.rate_ppm)
            for part, amount in divided[id(line.tax), tax]
        ]
    return {account_id: own for account_id, own in legs.items() if own}


def _divided(tax: EffectiveTax, amount: int) -> list[tuple[TaxPart, int]]:
    """What of a line's tax belongs to whom, where that is anything."""
    if not tax.parts:
        return []
    shares = apportion(amount, [part.share for part in tax.parts])
    return [(part, each) for part, each in zip(tax.parts, shares, strict=True) if each]


def _span(plan: DayPlan, day: int, end_day: int) -> tuple[int, int]:
    """When the first of the days begins and the last one ends."""
    starts = plan.starts_us(day, end_day + 1)
    return int(starts[0]), int(starts[-1])


def closed_day(reason: str) -> int | None:
    """The local day that a transfer of closed books is for, which its reason says."""
    _, _, day = reason.partition("@")
    return day_number(date.fromisoformat(day)) if day else None


def _leg(
    line: Line,
    amount: int,
    begin: datetime,
    end: datetime,
    source: str,
    *,
    tax_code: str = "",
    rate_ppm: int = 0,
) -> Leg:
    component = Component.TAX if tax_code else line.component
    counter = CounterAccount.TAX_PAYABLE if tax_code else _COUNTER[line.component]
    event, seq = line.corrects or (None, None)
    return Leg(
        account_id=line.account_id,
        kind=TransferKind.DAILY if event is None else TransferKind.CORRECTION,
        component=int(component),
        counter_account=counter,
        amount=amount,
        service_from=begin,
        service_to=end,
        reason=source,
        code=tax_code or line.code,
        tax_rate_ppm=rate_ppm,
        corrects_event_id=event,
        corrects_seq=seq,
    )
