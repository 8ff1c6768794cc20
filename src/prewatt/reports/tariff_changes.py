"""What differs between two versions of a tariff: part, subject, before, after.

Both are taken apart into facts with a key each; what has the same key and another value has
changed. Facts hold figures and codes, `web` puts them into words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from prewatt.core.tariff import Tariff
from prewatt.core.tariff.model import (
    Allowance,
    Bound,
    DatedCharge,
    Demand,
    Overlay,
    OverlayKind,
    Per,
    Steps,
    Tax,
    UsageFee,
)
from prewatt.reports.tariff_picture import Hours, hours_of, limits_of, price_at


class Part(StrEnum):
    """What a fact is about."""

    NAME = "name"
    PRICE = "price"
    BAND_LABEL = "band_label"
    HOURS = "hours"
    SEASON = "season"
    STEP_KIND = "step_kind"
    STEP_WINDOW = "step_window"
    STEP_SCOPE = "step_scope"
    STEP_LIMITS = "step_limits"
    STEP_SCALE = "step_scale"
    STEP_MEMBERS = "step_members"
    STEP_TENANT = "step_tenant"
    STANDING = "standing"
    FEE = "fee"
    COLLECT = "collect"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    DEMAND = "demand"
    DEMAND_INTERVAL = "demand_interval"
    DEMAND_BANDS = "demand_bands"
    DEMAND_RATCHET = "demand_ratchet"
    POWER_FACTOR = "power_factor"
    TAX = "tax"
    TAX_ON = "tax_on"
    TAX_FORM = "tax_form"
    TAX_DAYS = "tax_days"
    ALLOWANCE = "allowance"
    ALLOWANCE_WINDOW = "allowance_window"
    REBATE = "rebate"
    EVENT_PRICE = "event_price"
    EVENT_ADDER = "event_adder"
    EVENT_REBATE = "event_rebate"
    BASELINE_DAYS = "baseline_days"
    BASELINE_HIGHEST = "baseline_highest"
    WAIT_HOURS = "wait_hours"
    SERIES_SHARE = "series_share"
    SERIES_ADDER = "series_adder"
    DEBT_SHARE = "debt_share"
    DEBT_CAP = "debt_cap"
    LET_FEE = "let_fee"
    LET_DEPOSIT = "let_deposit"
    LET_SEASON = "let_season"
    BILLING_DAY = "billing_day"
    YEAR_FROM = "year_from"
    NOTE = "note"
    SOURCE = "source"


class Shape(StrEnum):
    """How a value is to be read: what its Python type alone does not say."""

    PRICE = "price"
    PER_KW = "per_kw"
    AMOUNT = "amount"
    DAILY_AMOUNT = "day"
    MONTHLY_AMOUNT = "month"
    YEARLY_AMOUNT = "year"
    HOURLY_AMOUNT = "hour"
    ENERGY = "energy"
    ENERGIES = "energies"
    SHARE = "share"
    FACTOR = "factor"
    MINUTES = "minutes"
    NUMBER = "number"
    WORD = "word"
    WORDS = "words"
    TEXT = "text"
    HOURS = "hours"
    GRID_DAYS = "grid_days"
    GRID_DAY = "grid_day"
    DATES = "dates"
    MEMBERS = "members"
    RATCHET = "ratchet"


Value = (
    int
    | str
    | tuple[int, ...]
    | tuple[str, ...]
    | tuple[Hours, ...]
    | tuple[tuple[int, int], ...]
    | tuple[date | None, date | None]
    | tuple[int, tuple[int, ...]]
)


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing a tariff says. `subject` names the band, charge or group, `season` the season's
    code where it matters, `step` counts from 1.
    """

    part: Part
    shape: Shape
    value: Value
    subject: str = ""
    label: str = ""
    season: str = ""
    step: int = 0

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same fact in another version."""
        return (self.part, self.subject, self.season, str(self.step))


@dataclass(frozen=True, slots=True)
class Change:
    """A fact of two versions; None where a version does not say it."""

    before: Fact | None
    after: Fact | None

    @property
    def fact(self) -> Fact:
        """The fact itself, as the later version has it."""
        found = self.after or self.before
        assert found is not None
        return found

    @property
    def change_ppm(self) -> int | None:
        """By how much a figure grew, of what it was; None where that says nothing."""
        if self.before is None or self.after is None or self.before.shape != self.after.shape:
            return None
        before, after = self.before.value, self.after.value
        if not isinstance(before, int) or not isinstance(after, int) or before <= 0:
            return None
        return (after - before) * 1_000_000 // before

    @property
    def is_dearer(self) -> bool | None:
        """Whether customers pay more by it: True, False, or None where it cannot be said."""
        if self.fact.part not in _COSTS | _GIFTS or self.fact.shape not in _FIGURES:
            return None
        if self.before and self.after and self.before.shape != self.after.shape:
            return None
        before, after = (_figure(each) for each in (self.before, self.after))
        if before == after:
            return None
        return (after > before) != (self.fact.part in _GIFTS)


_COSTS = frozenset(
    {
        *(Part.PRICE, Part.STANDING, Part.FEE, Part.MINIMUM, Part.DEMAND, Part.TAX, Part.LET_FEE),
        *(Part.EVENT_PRICE, Part.EVENT_ADDER, Part.SERIES_SHARE, Part.SERIES_ADDER),
    }
)
_GIFTS = frozenset({Part.ALLOWANCE, Part.REBATE, Part.EVENT_REBATE})
_FIGURES = frozenset(
    {
        *(Shape.PRICE, Shape.PER_KW, Shape.AMOUNT, Shape.DAILY_AMOUNT, Shape.MONTHLY_AMOUNT),
        *(Shape.YEARLY_AMOUNT, Shape.HOURLY_AMOUNT, Shape.ENERGY, Shape.SHARE),
    }
)
_PER = {Per.DAY: Shape.DAILY_AMOUNT, Per.MONTH: Shape.MONTHLY_AMOUNT, Per.YEAR: Shape.YEARLY_AMOUNT}


def changes_between(before: Tariff | None, after: Tariff) -> tuple[Change, ...]:
    """Every difference, in the order of the parts; against None everything is new.

    Prices are compared step by step: a plan with fewer steps has its last price above them.
    """
    steps = max(_step_count(each) for each in (before, after) if each is not None)
    new = {fact.key: fact for fact in facts_of(after, steps)}
    old = {} if before is None else {fact.key: fact for fact in facts_of(before, steps)}
    found = [
        Change(old.get(key), fact) for key, fact in new.items() if _differs(old.get(key), fact)
    ]
    found += [
        Change(fact, None)
        for key, fact in old.items()
        if key not in new and fact.part not in _WITH_ANOTHER
    ]
    order = {part: at for at, part in enumerate(Part)}
    found.sort(key=lambda change: order[change.fact.part])
    return tuple(_without_repeats(found, steps))


def facts_of(tariff: Tariff, steps: int) -> Iterator[Fact]:
    """All that a tariff says, its prices spread over so many steps."""
    yield Fact(Part.NAME, Shape.TEXT, tariff.name)
    yield from _energy_facts(tariff, steps)
    if tariff.steps is not None:
        yield from _step_facts(tariff, tariff.steps)
    for charge in tariff.dated:
        yield from _dated_facts(charge)
    for fee in tariff.usage_fees:
        yield _usage_fee_fact(fee)
    for part, bound in ((Part.MINIMUM, tariff.minimum), (Part.MAXIMUM, tariff.maximum)):
        if bound is not None:
            yield _bound_fact(part, bound)
    for demand in tariff.demand:
        yield from _demand_facts(tariff, demand)
    for tax in tariff.taxes:
        yield from _tax_facts(tax)
    for allowance in tariff.allowances:
        yield from _allowance_facts(allowance)
    for overlay in tariff.overlays:
        yield from _overlay_facts(overlay)
    yield from _plan_facts(tariff)


def _figure(fact: Fact | None) -> int:
    """What a missing charge is: nothing."""
    return fact.value if fact is not None and isinstance(fact.value, int) else 0


#: Said by the price of a new band, or of a new charge, already.
_WITH_ANOTHER = frozenset({Part.BAND_LABEL, Part.COLLECT})


def _differs(before: Fact | None, after: Fact) -> bool:
    if before is None:
        return after.part not in _WITH_ANOTHER
    return (before.shape, before.value) != (after.shape, after.value)


def _without_repeats(changes: list[Change], steps: int) -> Iterator[Change]:
    """A price that changes alike at every step is one change and not as many as there are steps."""
    for change in changes:
        fact = change.fact
        if fact.part is Part.PRICE and fact.step:
            alike = [
                each
                for each in changes
                if each.fact.key[:3] == fact.key[:3] and _values(each) == _values(change)
            ]
            if len(alike) == steps:
                if alike[0] is change:
                    yield Change(_stepless(change.before), _stepless(change.after))
                continue
        yield change


def _values(change: Change) -> tuple[Value | None, Value | None]:
    before, after = change.before, change.after
    return None if before is None else before.value, None if after is None else after.value


def _stepless(fact: Fact | None) -> Fact | None:
    if fact is None:
        return None
    return Fact(fact.part, fact.shape, fact.value, fact.subject, fact.label, fact.season)


def _step_count(tariff: Tariff) -> int:
    return max(len(band.prices_nano_per_kwh) for band in tariff.bands)


def _energy_facts(tariff: Tariff, steps: int) -> Iterator[Fact]:
    for position, band in enumerate(tariff.bands):
        named = (band.name, band.label)
        yield Fact(Part.BAND_LABEL, Shape.TEXT, band.label, *named)
        for step in range(steps):
            price = price_at(tariff, position, step)
            yield Fact(Part.PRICE, Shape.PRICE, price, *named, step=step + 1 if steps > 1 else 0)
        for number, season in enumerate(tariff.seasons):
            hours = hours_of(tariff, number, position)
            # A band for all hours of all days says nothing by its hours.
            if hours and len(tariff.bands) > 1:
                name = season.name if len(tariff.seasons) > 1 else ""
                yield Fact(Part.HOURS, Shape.HOURS, hours, *named, season=name)
    if len(tariff.seasons) > 1:
        for season in tariff.seasons:
            yield Fact(Part.SEASON, Shape.GRID_DAYS, season.ranges, season=season.name)


def _step_facts(tariff: Tariff, steps: Steps) -> Iterator[Fact]:
    yield Fact(Part.STEP_KIND, Shape.WORD, steps.kind.value)
    yield Fact(Part.STEP_WINDOW, Shape.WORD, steps.window.value)
    yield Fact(Part.STEP_SCOPE, Shape.WORD, steps.scope.value)
    if not steps.limits_wh:
        for band in tariff.bands:
            yield Fact(Part.STEP_LIMITS, Shape.ENERGIES, band.limits_wh, band.name, band.label)
    elif len(set(steps.limits_wh)) == 1:
        yield Fact(Part.STEP_LIMITS, Shape.ENERGIES, limits_of(tariff, 0, 0))
    else:
        for season, limits in zip(tariff.seasons, steps.limits_wh, strict=True):
            yield Fact(Part.STEP_LIMITS, Shape.ENERGIES, limits, season=season.name)
    yield Fact(Part.STEP_SCALE, Shape.WORD, steps.scale.value)
    if steps.add_wh:
        members = (steps.members_included, steps.add_wh)
        yield Fact(Part.STEP_MEMBERS, Shape.MEMBERS, members)
    yield Fact(Part.STEP_TENANT, Shape.WORD, steps.on_tenant_change.value)


def _dated_facts(charge: DatedCharge) -> Iterator[Fact]:
    part = Part(charge.kind.value)
    yield Fact(part, _PER[charge.per], charge.amount_nano, charge.code, charge.label)
    yield Fact(Part.COLLECT, Shape.WORD, charge.collect.value, charge.code, charge.label)


def _usage_fee_fact(fee: UsageFee) -> Fact:
    if fee.share_ppm:
        return Fact(Part.FEE, Shape.SHARE, fee.share_ppm, fee.code, fee.label)
    return Fact(Part.FEE, Shape.PRICE, fee.nano_per_kwh, fee.code, fee.label)


def _bound_fact(part: Part, bound: Bound) -> Fact:
    return Fact(part, _PER[bound.per], bound.amount_nano)


def _demand_facts(tariff: Tariff, demand: Demand) -> Iterator[Fact]:
    named = (demand.code, demand.label)
    yield Fact(Part.DEMAND, Shape.PER_KW, demand.price_nano_per_kw, *named)
    yield Fact(Part.DEMAND_INTERVAL, Shape.MINUTES, demand.interval_minutes, *named)
    if demand.bands:
        labels = tuple(tariff.bands[each].label for each in demand.bands)
        yield Fact(Part.DEMAND_BANDS, Shape.TEXT, ", ".join(labels), *named)
    if demand.ratchet_months:
        ratchet = (demand.ratchet_ppm, demand.ratchet_months)
        yield Fact(Part.DEMAND_RATCHET, Shape.RATCHET, ratchet, *named)
    if demand.power_factor_ppm:
        yield Fact(Part.POWER_FACTOR, Shape.FACTOR, demand.power_factor_ppm, *named)


def _tax_facts(tax: Tax) -> Iterator[Fact]:
    # The same tax for other dates is another fact.
    subject = tax.code + (f" {tax.valid_from.isoformat()}" if tax.valid_from else "")
    named = (subject, tax.label)
    yield Fact(Part.TAX, Shape.SHARE, tax.rate_ppm, *named)
    yield Fact(Part.TAX_ON, Shape.WORDS, tuple(each.value for each in tax.on), *named)
    form = ("inclusive" if tax.inclusive else "exclusive") + ("_compound" if tax.compound else "")
    yield Fact(Part.TAX_FORM, Shape.WORD, form, *named)
    if tax.valid_from or tax.valid_until:
        yield Fact(Part.TAX_DAYS, Shape.DATES, (tax.valid_from, tax.valid_until), *named)


def _allowance_facts(allowance: Allowance) -> Iterator[Fact]:
    named = (allowance.code, allowance.label)
    if allowance.free_wh:
        yield Fact(Part.ALLOWANCE, Shape.ENERGY, allowance.free_wh, *named)
        yield Fact(Part.ALLOWANCE_WINDOW, Shape.WORD, allowance.window.value, *named)
    else:
        yield Fact(Part.REBATE, Shape.PRICE, allowance.rebate_nano_per_kwh, *named)


def _overlay_facts(overlay: Overlay) -> Iterator[Fact]:
    group = overlay.group
    if overlay.kind is OverlayKind.REAL_TIME:
        yield Fact(Part.SERIES_SHARE, Shape.SHARE, overlay.share_ppm, group)
        yield Fact(Part.SERIES_ADDER, Shape.PRICE, overlay.adder_nano_per_kwh, group)
        return
    if overlay.price_nano_per_kwh is not None:
        yield Fact(Part.EVENT_PRICE, Shape.PRICE, overlay.price_nano_per_kwh, group)
    if overlay.adder_nano_per_kwh:
        yield Fact(Part.EVENT_ADDER, Shape.PRICE, overlay.adder_nano_per_kwh, group)
    if overlay.rebate_nano_per_kwh:
        yield Fact(Part.EVENT_REBATE, Shape.PRICE, overlay.rebate_nano_per_kwh, group)
        yield Fact(Part.BASELINE_DAYS, Shape.NUMBER, overlay.baseline_days, group)
        yield Fact(Part.BASELINE_HIGHEST, Shape.NUMBER, overlay.baseline_highest, group)
        yield Fact(Part.WAIT_HOURS, Shape.NUMBER, overlay.wait_hours, group)


def _plan_facts(tariff: Tariff) -> Iterator[Fact]:
    if tariff.debt is not None:
        yield Fact(Part.DEBT_SHARE, Shape.SHARE, tariff.debt.share_ppm)
        if tariff.debt.weekly_cap_nano:
            yield Fact(Part.DEBT_CAP, Shape.AMOUNT, tariff.debt.weekly_cap_nano)
    if tariff.temporary is not None:
        shape = Shape(tariff.temporary.unit.value)
        yield Fact(Part.LET_FEE, shape, tariff.temporary.fee_nano)
        yield Fact(Part.LET_DEPOSIT, Shape.AMOUNT, tariff.temporary.deposit_nano)
        if tariff.temporary.season:
            yield Fact(Part.LET_SEASON, Shape.GRID_DAYS, (tariff.temporary.season,))
    if tariff.billing_day != 1:
        yield Fact(Part.BILLING_DAY, Shape.NUMBER, tariff.billing_day)
    if tariff.year_from:
        yield Fact(Part.YEAR_FROM, Shape.GRID_DAY, tariff.year_from)
    for part, text in ((Part.NOTE, tariff.note), (Part.SOURCE, tariff.source)):
        if text:
            yield Fact(part, Shape.TEXT, text)
