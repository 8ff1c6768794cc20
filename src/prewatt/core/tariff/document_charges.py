"""The charges of a tariff as entries of its canonical document (see `parse_charges`)."""

from __future__ import annotations

from prewatt.core.tariff.model import (
    Allowance,
    Bound,
    Collect,
    DatedCharge,
    DatedKind,
    Demand,
    Per,
    Tariff,
    Tax,
    UsageFee,
)
from prewatt.core.tariff.parse_charges import STANDING
from prewatt.core.tariff.words import decimal_text, factor_text, kwh_text, percent_text


def charges_document(tariff: Tariff) -> dict[str, object]:
    """The entries from `standing` to `allowances` that this tariff has."""
    standing = [each for each in tariff.dated if each.kind is DatedKind.STANDING]
    fees: list[DatedCharge | UsageFee] = [
        *(each for each in tariff.dated if each.kind is DatedKind.FEE),
        *tariff.usage_fees,
    ]
    entries: dict[str, object] = {
        "fees": [_fee_document(fee) for fee in fees],
        "demand": [_demand_document(tariff, demand) for demand in tariff.demand],
        "taxes": [_tax_document(tax) for tax in tariff.taxes],
        "allowances": [_allowance_document(allowance) for allowance in tariff.allowances],
    }
    found = {key: entry for key, entry in entries.items() if entry}
    if standing:
        found["standing"] = _standing_document(standing)
    for key, bound in (("minimum", tariff.minimum), ("maximum", tariff.maximum)):
        if bound:
            found[key] = _bound_document(bound)
    return found


def _standing_document(charges: list[DatedCharge]) -> object:
    """A single plain charge per day stays as short as it was first written."""
    if len(charges) > 1:
        return [_dated_document(charge) for charge in charges]
    charge = charges[0]
    plain = DatedCharge(
        DatedKind.STANDING, STANDING, STANDING, Per.DAY, charge.amount_nano, Collect.DAILY
    )
    if charge == plain:
        return {"per_day": decimal_text(charge.amount_nano)}
    return _dated_document(charge)


def _dated_document(charge: DatedCharge) -> dict[str, object]:
    entry: dict[str, object] = {
        "code": charge.code,
        "label": charge.label,
        f"per_{charge.per}": decimal_text(charge.amount_nano),
    }
    if charge.collect is not Collect.DAILY:
        entry["collect"] = charge.collect.value
    return entry


def _fee_document(fee: DatedCharge | UsageFee) -> dict[str, object]:
    if isinstance(fee, DatedCharge):
        return _dated_document(fee)
    amount = (
        {"share": percent_text(fee.share_ppm)}
        if fee.share_ppm
        else {"per_kwh": decimal_text(fee.nano_per_kwh)}
    )
    return {"code": fee.code, "label": fee.label, **amount}


def _bound_document(bound: Bound) -> dict[str, object]:
    return {f"per_{bound.per}": decimal_text(bound.amount_nano)}


def _demand_document(tariff: Tariff, demand: Demand) -> dict[str, object]:
    entry: dict[str, object] = {
        "code": demand.code,
        "label": demand.label,
        "per_kw": decimal_text(demand.price_nano_per_kw),
        "interval_minutes": demand.interval_minutes,
    }
    if demand.bands:
        entry["bands"] = [tariff.bands[position].name for position in demand.bands]
    if demand.ratchet_months:
        share = percent_text(demand.ratchet_ppm)
        entry["ratchet"] = {"share": share, "months": demand.ratchet_months}
    if demand.power_factor_ppm:
        entry["power_factor"] = factor_text(demand.power_factor_ppm)
    return entry


def _tax_document(tax: Tax) -> dict[str, object]:
    entry: dict[str, object] = {
        "code": tax.code,
        "label": tax.label,
        "rate": percent_text(tax.rate_ppm),
        "on": [part.value for part in tax.on],
    }
    if tax.inclusive:
        entry["inclusive"] = True
    if tax.compound:
        entry["compound"] = True
    for key, day in (("from", tax.valid_from), ("until", tax.valid_until)):
        if day is not None:
            entry[key] = day.isoformat()
    return entry


def _allowance_document(allowance: Allowance) -> dict[str, object]:
    entry: dict[str, object] = {"code": allowance.code, "label": allowance.label}
    if allowance.free_wh:
        entry.update(free_kwh=kwh_text(allowance.free_wh), window=allowance.window.value)
    else:
        entry["per_kwh"] = decimal_text(allowance.rebate_nano_per_kwh)
    return entry
