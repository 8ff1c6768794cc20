"""A tariff in plain words, for whoever checks a document at a terminal before handing it in.

One line of text per fact, in English; the console has its own, translated pages.
"""

from __future__ import annotations

from collections.abc import Iterator

from prewatt.core.tariff.model import (
    DAY_KINDS,
    Allowance,
    Collect,
    DatedCharge,
    Demand,
    Overlay,
    OverlayKind,
    Scale,
    StepKind,
    Steps,
    StepScope,
    Tariff,
    Tax,
    Taxable,
    Temporary,
    UsageFee,
)
from prewatt.core.tariff.words import (
    PPM,
    decimal_text,
    factor_text,
    kwh_text,
    minute_text,
    month_day_text,
    percent_text,
)

_SCALED = {
    Scale.NONE: "",
    Scale.DAYS: " for each day of it",
    Scale.MEMBERS: " for each member",
    Scale.CONTRACTED_KW: " for each contracted kW",
}


def summary_lines(tariff: Tariff) -> list[str]:
    """What the plan says, part by part; parts that it does not have are left out."""
    return [
        f"{tariff.name} ({tariff.currency})",
        *_energy_lines(tariff),
        *_week_lines(tariff),
        *(_step_lines(tariff, tariff.steps) if tariff.steps else ()),
        *(_dated_line(charge) for charge in tariff.dated),
        *(_usage_fee_line(fee) for fee in tariff.usage_fees),
        *_bound_lines(tariff),
        *(_demand_line(tariff, demand) for demand in tariff.demand),
        *(_tax_line(tax) for tax in tariff.taxes),
        *(_allowance_line(allowance) for allowance in tariff.allowances),
        *(_overlay_line(overlay) for overlay in tariff.overlays),
        *_debt_lines(tariff),
        *(_temporary_lines(tariff.temporary) if tariff.temporary else ()),
        *_remark_lines(tariff),
    ]


def _energy_lines(tariff: Tariff) -> Iterator[str]:
    for band in tariff.bands:
        prices = ", then ".join(decimal_text(price) for price in band.prices_nano_per_kwh)
        limits = f", limits {_kwh_text(band.limits_wh)}" if band.limits_wh else ""
        yield f"energy {band.name} ({band.label}): {prices} per kWh{limits}"


def _week_lines(tariff: Tariff) -> Iterator[str]:
    if len(tariff.bands) == 1:
        return
    for schedule in tariff.schedules:
        season = tariff.seasons[schedule.season]
        kinds = tariff.day_classes[schedule.day_class].kinds
        every = len(kinds) == len(DAY_KINDS)
        days = "every day" if every else " ".join(DAY_KINDS[kind] for kind in kinds)
        ranges = ", ".join(_days_text(begin, end) for begin, end in season.ranges)
        when = days if len(tariff.seasons) == 1 else f"{season.name} ({ranges}), {days}"
        periods = ", ".join(
            f"{minute_text(p.from_minute)}–{minute_text(p.until_minute)} {tariff.bands[p.band].name}"
            for p in schedule.periods
        )
        yield f"{when}: {periods}"


def _step_lines(tariff: Tariff, steps: Steps) -> Iterator[str]:
    kind = "each step's price for its part"
    if steps.kind is StepKind.WHOLE_USAGE:
        kind = "the reached step's price for all of it"
    scope = "all bands together" if steps.scope is StepScope.ALL else "each band by itself"
    window = steps.window.replace("_", " ")
    tenant = f"on a tenant change {steps.on_tenant_change}"
    yield f"steps per {window}, {scope}: {kind}; {tenant}"
    scaled = "" if steps.add_wh else _SCALED[steps.scale]
    seasons = [season.name for season in tariff.seasons]
    if len(set(steps.limits_wh)) == 1:
        yield f"limits {_kwh_text(steps.limits_wh[0])}{scaled}"
    elif steps.limits_wh:
        for name, limits in zip(seasons, steps.limits_wh, strict=True):
            yield f"limits in {name}: {_kwh_text(limits) if limits else 'none'}{scaled}"
    if steps.add_wh:
        included = steps.members_included
        yield f"each member above {included} adds {_kwh_text(steps.add_wh)} to them"


def _dated_line(charge: DatedCharge) -> str:
    when = " with the first recharge of a month" if charge.collect is Collect.FIRST_RECHARGE else ""
    amount = decimal_text(charge.amount_nano)
    return f"{charge.kind} {charge.code} ({charge.label}): {amount} per {charge.per}{when}"


def _usage_fee_line(fee: UsageFee) -> str:
    amount = f"{decimal_text(fee.nano_per_kwh)} per kWh"
    if fee.share_ppm:
        amount = f"{percent_text(fee.share_ppm)} % of the energy charge"
    return f"fee {fee.code} ({fee.label}): {amount}"


def _bound_lines(tariff: Tariff) -> Iterator[str]:
    for name, bound in (("at least", tariff.minimum), ("at most", tariff.maximum)):
        if bound:
            amount = decimal_text(bound.amount_nano)
            yield f"{name} {amount} per {bound.per} for energy, standing and demand, before tax"


def _demand_line(tariff: Tariff, demand: Demand) -> str:
    price, minutes = decimal_text(demand.price_nano_per_kw), demand.interval_minutes
    parts = [f"{price} per kW of the month's highest {minutes} minutes"]
    if demand.bands:
        parts.append(f"in {', '.join(tariff.bands[band].name for band in demand.bands)}")
    if demand.ratchet_months:
        share = percent_text(demand.ratchet_ppm)
        parts.append(f"at least {share} % of the {demand.ratchet_months} months before")
    if demand.power_factor_ppm:
        parts.append(f"more below a power factor of {factor_text(demand.power_factor_ppm)}")
    return f"demand {demand.code} ({demand.label}): {', '.join(parts)}"


def _tax_line(tax: Tax) -> str:
    parts = [f"{percent_text(tax.rate_ppm)} %", "included" if tax.inclusive else "on top"]
    parts += ["compound"] if tax.compound else []
    parts += [f"from {tax.valid_from}"] if tax.valid_from else []
    parts += [f"until {tax.valid_until}"] if tax.valid_until else []
    parts += [f"on {' '.join(tax.on)}"] if len(tax.on) < len(Taxable) else []
    return f"tax {tax.code} ({tax.label}): {', '.join(parts)}"


def _allowance_line(allowance: Allowance) -> str:
    says = f"{decimal_text(allowance.rebate_nano_per_kwh)} off every kWh"
    if allowance.free_wh:
        window = allowance.window.replace("_", " ")
        says = f"the first {kwh_text(allowance.free_wh)} kWh of a {window} are free"
    return f"allowance {allowance.code} ({allowance.label}): {says}"


def _overlay_line(overlay: Overlay) -> str:
    parts = []
    if overlay.kind is OverlayKind.REAL_TIME:
        share = "" if overlay.share_ppm == PPM else f"{percent_text(overlay.share_ppm)} % of "
        parts.append(f"{share}its price series")
    if overlay.price_nano_per_kwh is not None:
        parts.append(f"{decimal_text(overlay.price_nano_per_kwh)} per kWh in an event")
    if overlay.adder_nano_per_kwh:
        parts.append(f"{decimal_text(overlay.adder_nano_per_kwh)} per kWh on top")
    if overlay.rebate_nano_per_kwh:
        rebate = decimal_text(overlay.rebate_nano_per_kwh)
        most = f"the highest {overlay.baseline_highest} of " if overlay.baseline_highest else ""
        parts.append(
            f"{rebate} back per kWh below the mean of {most}{overlay.baseline_days} days, "
            f"{overlay.wait_hours} hours after the event"
        )
    return f"{overlay.kind.replace('_', ' ')} for group {overlay.group}: {', '.join(parts)}"


def _debt_lines(tariff: Tariff) -> Iterator[str]:
    if tariff.debt:
        cap = tariff.debt.weekly_cap_nano
        most = f", at most {decimal_text(cap)} a week" if cap else ""
        yield f"debt: {percent_text(tariff.debt.share_ppm)} % of a recharge{most}"


def _temporary_lines(temporary: Temporary) -> Iterator[str]:
    fee = f", {decimal_text(temporary.fee_nano)} for each started one" if temporary.fee_nano else ""
    deposit = f", deposit {decimal_text(temporary.deposit_nano)}" if temporary.deposit_nano else ""
    yield f"temporary, by the {temporary.unit}{fee}{deposit}"
    if temporary.season:
        yield f"only {_days_text(*temporary.season)}"


def _remark_lines(tariff: Tariff) -> Iterator[str]:
    if tariff.billing_day != 1:
        yield f"billing months begin on day {tariff.billing_day}"
    if tariff.year_from:
        yield f"year windows begin on {month_day_text(tariff.year_from)}"
    if tariff.note:
        yield f"note: {tariff.note}"
    if tariff.source:
        yield f"source: {tariff.source}"


def _days_text(begin: int, end: int) -> str:
    return f"{month_day_text(begin)} until {month_day_text(end)}"


def _kwh_text(energies_wh: tuple[int, ...]) -> str:
    return f"{', '.join(kwh_text(energy_wh) for energy_wh in energies_wh)} kWh"
