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
from math import lcm
from typing import Any, Final

from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.rating import Component
from prewatt.core.tariff import Tariff
from prewatt.core.tariff.model import Tax, Taxable
from prewatt.core.taxes import effective_tax
from prewatt.ledger.operations import Leg

_MILLION: Final = 1_000_000


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
    """One code's part of a component: exactly ``numerator`` over a denominator that all parts have."""

    code: str
    numerator: int
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
        service_to=max([booked_from, *[each.to_at for each in own]]),
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


@dataclass(frozen=True, slots=True)
class _Day:
    """What a day of an account comes to, in micro-units."""

    day: date
    energy_wh: int
    energy: int
    fee: int
    subsidy: int


def _added_legs(
    own: Sequence[UsageSum], plan: Tariff, exempt: frozenset[str], cause: str
) -> list[Leg]:
    """Fees, taxes and subsidies of a day, by code."""
    fee, tax, subsidy = (
        sum([each.fee for each in own]),
        sum([each.tax for each in own]),
        sum([each.subsidy for each in own]),
    )
    energy = sum([each.energy for each in own])
    of_day = _Day(own[0].day, sum([each.energy_wh for each in own]), energy, fee, subsidy)
    return [
        _leg(own, component, amount, cause, code=share.code, tax_rate_ppm=share.tax_rate_ppm)
        for component, total, shares_of in (
            (Component.FEE, fee, _fees),
            (Component.TAX, tax, partial(_taxes, exempt=exempt)),
            (Component.SUBSIDY, subsidy, _subsidies),
        )
        if total
        for share, amount in _divided(total, *shares_of(of_day, plan))
        if amount
    ]


def _divided(total: int, shares: Sequence[Share], denominator: int) -> list[tuple[Share, int]]:
    amounts = divide(total, [each.numerator for each in shares], denominator)
    return list(zip(shares, amounts, strict=True))


def divide(total: int, numerators: Sequence[int], denominator: int) -> list[int]:
    """Whole amounts next to the exact ones that sum to the total; the largest takes the rest."""
    parts = [_half_even(each, denominator) for each in numerators]
    largest = max(range(len(parts)), key=lambda at: abs(numerators[at]))
    parts[largest] += total - sum(parts)
    return parts


def _half_even(numerator: int, denominator: int) -> int:
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))


def _fees(of_day: _Day, plan: Tariff) -> tuple[list[Share], int]:
    """A share of the energy charge is in millionths, and so is an amount for each kWh in nano-units."""
    return [
        Share(fee.code, of_day.energy_wh * fee.nano_per_kwh + of_day.energy * fee.share_ppm)
        for fee in plan.usage_fees
    ], _MILLION


def _taxes(of_day: _Day, plan: Tariff, exempt: frozenset[str]) -> tuple[list[Share], int]:
    if not {tax.code for tax in plan.taxes} - exempt:
        # Exempt since, of what was charged before: it will be rated anew, and until then belongs
        # to the taxes that it was charged as.
        exempt = frozenset()
    rates = _tax_rates(plan.taxes, of_day.day, exempt)
    return [
        Share(code, on_energy * of_day.energy + on_fee * of_day.fee, rate_ppm)
        for code, rate_ppm, on_energy, on_fee in rates.of
    ], rates.denominator


@dataclass(frozen=True, slots=True)
class _TaxRates:
    """(code, rate as named, share of the energy charge, share of fees) of each tax, over a denominator."""

    of: tuple[tuple[str, int, int, int], ...]
    denominator: int


@lru_cache(maxsize=1_024)
def _tax_rates(taxes: tuple[Tax, ...], day: date, exempt: frozenset[str]) -> _TaxRates:
    """The same for every account of a plan and day."""
    shares: defaultdict[tuple[str, int], list[Fraction]] = defaultdict(lambda: [Fraction(0)] * 2)
    for at, on in enumerate((Taxable.ENERGY, Taxable.FEE)):
        for part in effective_tax(taxes, on, day, exempt).parts:
            shares[part.code, part.rate_ppm][at] += part.share
    denominator = lcm(*[each.denominator for both in shares.values() for each in both])
    return _TaxRates(
        tuple(
            (code, rate_ppm, int(on_energy * denominator), int(on_fee * denominator))
            for (code, rate_ppm), (on_energy, on_fee) in shares.items()
        ),
        denominator,
    )


def _subsidies(of_day: _Day, plan: Tariff) -> tuple[list[Share], int]:
    """Rebates are so much per kWh; free energy has what remains of the sum."""
    rebates = {each.code: -of_day.energy_wh * each.rebate_nano_per_kwh for each in plan.allowances}
    free = of_day.subsidy * _MILLION - sum(rebates.values())
    return [
        Share(each.code, rebates[each.code] + (free if each.free_wh else 0))
        for each in plan.allowances
    ], _MILLION
