"""Which transfers a posted range of intervals becomes.

Energy has a leg for each local day, band and step; fees, taxes and subsidies one for each day and
code. An interval row keeps a component as one sum, so a day's sum is divided over the codes by what
each of them is exactly, and what the cut-off fractions leave goes to the largest: the legs of an
event always sum to what its intervals charged.

What corrects usage that is in the ledger already has legs of its own, which name the transfer that
they correct: that of the same day, band, step and code, or else one of the same day and component.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from fractions import Fraction
from functools import lru_cache, partial
from itertools import groupby
from typing import Any, Final

from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.rating import Component
from prewatt.core.tariff import Tariff
from prewatt.core.tariff.model import Tax, Taxable
from prewatt.core.taxes import TaxPart, effective_tax
from prewatt.ledger.operations import Leg

_WH_NANO_PER_MICRO: Final = 1_000_000
_PPM: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class UsageSum:
    """What one account's intervals of a local day, version, band and step sum to, in micro-units.

    ``corrects`` says that they belong to intervals of which a part was posted before. ``booked_from``
    is the first instant that open books take, at or after ``from_at``.
    """

    account_id: int
    corrects: bool
    day: date
    version_id: int
    band: int
    step: int
    energy_wh: int
    energy: int
    fee: int
    tax: int
    subsidy: int
    from_at: datetime
    to_at: datetime
    booked_from: datetime


@dataclass(frozen=True, slots=True)
class PostedLine:
    """A usage transfer in the ledger, which a correction can name."""

    account_id: int
    day: date
    event_id: int
    seq: int
    component: int
    band: int
    step: int
    code: str


@dataclass(frozen=True, slots=True)
class Share:
    """One code's part of a component: exactly so many micro-units, before anything is cut off."""

    code: str
    exact: Fraction
    tax_rate_ppm: int = 0


#: (account, instant) → codes of taxes that it does not pay on the local day of the instant.
Exempt = Callable[[int, datetime], frozenset[str]]


def usage_legs(
    sums: Sequence[UsageSum],
    *,
    plans: Mapping[int, Tariff],
    exempt: Exempt,
    posted: Sequence[PostedLine],
    cause: str,
) -> dict[int, list[Leg]]:
    """The legs of each account, in order of its days; an account that nothing costs has none.

    ``sums`` are sorted by (account, corrects, day, version, band, step). ``plans`` has every version
    with a fee, tax or subsidy in them, ``posted`` what corrections among them can name.
    """
    legs: defaultdict[int, list[Leg]] = defaultdict(list)
    for (account_id, corrects, day, version_id), group in groupby(sums, key=_by_day):
        own = list(group)
        made = _energy_legs(own, cause)
        plan = plans.get(version_id)
        if plan is not None:
            made += _added_legs(own, plan, exempt(account_id, own[0].from_at), cause)
        if corrects:
            alike = [each for each in posted if (each.account_id, each.day) == (account_id, day)]
            made = [_named(leg, alike) for leg in made]
        if made:
            legs[account_id] += made
    return dict(legs)


def _named(leg: Leg, alike: Sequence[PostedLine]) -> Leg:
    """The leg as a correction of the latest posted line that is most like it."""
    best = max(alike, key=lambda each: (_likeness(leg, each), each.seq), default=None)
    return replace(
        leg,
        kind=TransferKind.CORRECTION,
        corrects_event_id=best.event_id if best else None,
        corrects_seq=best.seq if best else None,
    )


def _likeness(leg: Leg, posted: PostedLine) -> tuple[bool, bool, bool, bool]:
    return (
        leg.component == posted.component,
        leg.code == posted.code,
        leg.band == posted.band,
        leg.step == posted.step,
    )


def _by_day(each: UsageSum) -> tuple[int, bool, date, int]:
    return each.account_id, each.corrects, each.day, each.version_id


def _total(own: Sequence[UsageSum], name: str) -> int:
    return sum(int(getattr(each, name)) for each in own)


def _leg(
    own: Sequence[UsageSum], component: Component, amount: int, cause: str, **given: Any
) -> Leg:
    """A leg over the whole time of the sums; a closed day is booked on the first open instant."""
    booked_from = min([each.booked_from for each in own])
    return Leg(
        account_id=own[0].account_id,
        kind=TransferKind.USAGE,
        component=int(component),
        counter_account=_COUNTER[component],
        amount=-amount,
        service_from=booked_from,
        service_to=max(booked_from, *[each.to_at for each in own]),
        reason=cause,
        **given,
    )


_COUNTER: Final = {
    Component.ENERGY: CounterAccount.ENERGY_REVENUE,
    Component.FEE: CounterAccount.FEE_REVENUE,
    Component.TAX: CounterAccount.TAX_PAYABLE,
    Component.SUBSIDY: CounterAccount.SUBSIDY_FUNDING,
}


def _energy_legs(own: Sequence[UsageSum], cause: str) -> list[Leg]:
    return [
        _leg(
            [each], Component.ENERGY, each.energy, cause,
            band=each.band, step=each.step, energy_wh=each.energy_wh,
        )
        for each in own
        if each.energy
    ]  # fmt: skip


def _added_legs(
    own: Sequence[UsageSum], plan: Tariff, exempt: frozenset[str], cause: str
) -> list[Leg]:
    """Fees, taxes and subsidies of a day, by code."""
    return [
        _leg(own, component, amount, cause, code=share.code, tax_rate_ppm=share.tax_rate_ppm)
        for component, shares_of in (
            (Component.FEE, _fees),
            (Component.TAX, partial(_taxes, exempt=exempt)),
            (Component.SUBSIDY, _subsidies),
        )
        if (total := _total(own, component.name.lower()))
        for share, amount in _divided(total, shares_of(own, plan))
        if amount
    ]


def _divided(total: int, shares: Sequence[Share]) -> list[tuple[Share, int]]:
    return list(zip(shares, divide(total, [each.exact for each in shares]), strict=True))


def divide(total: int, exact: Sequence[Fraction]) -> list[int]:
    """Whole amounts next to the exact ones that sum to the total; the largest takes the rest."""
    parts = [round(each) for each in exact]
    largest = max(range(len(exact)), key=lambda at: abs(exact[at]))
    parts[largest] += total - sum(parts)
    return parts


def _fees(own: Sequence[UsageSum], plan: Tariff) -> list[Share]:
    energy_wh, energy = _total(own, "energy_wh"), _total(own, "energy")
    return [
        Share(
            fee.code,
            Fraction(energy_wh * fee.nano_per_kwh, _WH_NANO_PER_MICRO)
            + Fraction(energy * fee.share_ppm, _PPM),
        )
        for fee in plan.usage_fees
    ]


def _taxes(own: Sequence[UsageSum], plan: Tariff, exempt: frozenset[str]) -> list[Share]:
    if not {tax.code for tax in plan.taxes} - exempt:
        # Exempt since, of what was charged before: it will be rated anew, and until then belongs
        # to the taxes that it was charged as.
        exempt = frozenset()
    bases = {Taxable.ENERGY: _total(own, "energy"), Taxable.FEE: _total(own, "fee")}
    exact: defaultdict[tuple[str, int], Fraction] = defaultdict(Fraction)
    for on, base in bases.items():
        for part in _tax_parts(plan.taxes, on, own[0].day, exempt):
            exact[part.code, part.rate_ppm] += part.share * base
    return [Share(code, amount, rate) for (code, rate), amount in exact.items()]


@lru_cache(maxsize=1_024)
def _tax_parts(
    taxes: tuple[Tax, ...], on: Taxable, day: date, exempt: frozenset[str]
) -> tuple[TaxPart, ...]:
    """The same for every account of a plan and day."""
    return effective_tax(taxes, on, day, exempt).parts


def _subsidies(own: Sequence[UsageSum], plan: Tariff) -> list[Share]:
    """Rebates are so much per kWh; free energy has what remains of the sum."""
    total, energy_wh = _total(own, "subsidy"), _total(own, "energy_wh")
    rebates = {
        each.code: Fraction(-energy_wh * each.rebate_nano_per_kwh, _WH_NANO_PER_MICRO)
        for each in plan.allowances
    }
    free = total - sum(rebates.values(), Fraction(0))
    return [
        Share(each.code, rebates[each.code] + (free if each.free_wh else 0))
        for each in plan.allowances
    ]
