"""The one canonical document of a tariff: what is stored, shown, edited and digested.

What a plan does not say is left out, so a plan has the same bytes before and after the format
learnt a new part.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache

from prewatt.core.tariff.document_charges import charges_document
from prewatt.core.tariff.model import (
    DAY_KINDS,
    WAIT_HOURS,
    Band,
    DaySchedule,
    DebtRecovery,
    Overlay,
    OverlayKind,
    Scale,
    Steps,
    Tariff,
    Temporary,
)
from prewatt.core.tariff.words import (
    FORMAT,
    PPM,
    decimal_text,
    kwh_text,
    minute_text,
    month_day_text,
    percent_text,
)


@lru_cache(maxsize=256)
def canonical_json(tariff: Tariff) -> bytes:
    """The same bytes for the same plan, whatever order, spacing or zeros the document had."""
    return json.dumps(
        to_document(tariff), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()


def digest(tariff: Tariff) -> bytes:
    """SHA-256 of `canonical_json`, what an approval commits to."""
    return hashlib.sha256(canonical_json(tariff)).digest()


def to_document(tariff: Tariff) -> dict[str, object]:
    """A document that parses to an equal tariff: what is stored, shown, edited and digested."""
    document: dict[str, object] = {
        "format": FORMAT,
        "name": tariff.name,
        "currency": tariff.currency,
        "energy": _energy_document(tariff),
        **charges_document(tariff),
    }
    if tariff.overlays:
        document["overlays"] = [_overlay_document(overlay) for overlay in tariff.overlays]
    if tariff.debt:
        document["debt_recovery"] = _debt_document(tariff.debt)
    if tariff.temporary:
        document["temporary"] = _temporary_document(tariff.temporary)
    if tariff.billing_day != 1:
        document["billing_day"] = tariff.billing_day
    if tariff.year_from:
        document["year_from"] = month_day_text(tariff.year_from)
    remarks = {"note": tariff.note, "source": tariff.source}
    return document | {key: remark for key, remark in remarks.items() if remark}


def _energy_document(tariff: Tariff) -> dict[str, object]:
    energy: dict[str, object] = {
        "unit": "kWh",
        "bands": {band.name: _band_document(band) for band in tariff.bands},
        "seasons": {
            season.name: [_days_document(begin, end) for begin, end in season.ranges]
            for season in tariff.seasons
        },
        "day_classes": {
            day_class.name: [DAY_KINDS[kind] for kind in day_class.kinds]
            for day_class in tariff.day_classes
        },
        "schedule": [_schedule_document(tariff, schedule) for schedule in tariff.schedules],
    }
    if tariff.steps:
        energy["steps"] = _steps_document(tariff, tariff.steps)
    return energy


def _band_document(band: Band) -> dict[str, object]:
    prices = [decimal_text(price) for price in band.prices_nano_per_kwh]
    entry: dict[str, object] = {"label": band.label}
    entry.update({"price": prices[0]} if len(prices) == 1 else {"prices": prices})
    if band.limits_wh:
        entry["limits"] = _kwh_list(band.limits_wh)
    return entry


def _steps_document(tariff: Tariff, steps: Steps) -> dict[str, object]:
    entry: dict[str, object] = {
        "kind": steps.kind.value,
        "window": steps.window.value,
        "scope": steps.scope.value,
        "on_tenant_change": steps.on_tenant_change.value,
    }
    if len(set(steps.limits_wh)) == 1:
        entry["limits"] = _kwh_list(steps.limits_wh[0])
    elif steps.limits_wh:
        entry["limits"] = {
            season.name: _kwh_list(limits)
            for season, limits in zip(tariff.seasons, steps.limits_wh, strict=True)
        }
    if steps.scale is not Scale.NONE:
        entry["scale"] = steps.scale.value
    if steps.add_wh:
        entry["members"] = {"included": steps.members_included, "add": _kwh_list(steps.add_wh)}
    return entry


def _kwh_list(energies_wh: tuple[int, ...]) -> list[str]:
    return [kwh_text(energy_wh) for energy_wh in energies_wh]


def _days_document(begin: int, end: int) -> dict[str, object]:
    return {"from": month_day_text(begin), "until": month_day_text(end)}


def _schedule_document(tariff: Tariff, schedule: DaySchedule) -> dict[str, object]:
    return {
        "season": tariff.seasons[schedule.season].name,
        "days": tariff.day_classes[schedule.day_class].name,
        "periods": [
            {
                "from": minute_text(period.from_minute),
                "until": minute_text(period.until_minute),
                "band": tariff.bands[period.band].name,
            }
            for period in schedule.periods
        ],
    }


def _overlay_document(overlay: Overlay) -> dict[str, object]:
    entry: dict[str, object] = {"kind": overlay.kind.value, "group": overlay.group}
    if overlay.kind is OverlayKind.REAL_TIME and overlay.share_ppm != PPM:
        entry["share"] = percent_text(overlay.share_ppm)
    if overlay.price_nano_per_kwh is not None:
        entry["price"] = decimal_text(overlay.price_nano_per_kwh)
    if overlay.adder_nano_per_kwh:
        entry["adder"] = decimal_text(overlay.adder_nano_per_kwh)
    if overlay.rebate_nano_per_kwh:
        entry["rebate"] = decimal_text(overlay.rebate_nano_per_kwh)
        entry["baseline_days"] = overlay.baseline_days
        if overlay.baseline_highest:
            entry["baseline_highest"] = overlay.baseline_highest
        if overlay.wait_hours != WAIT_HOURS:
            entry["wait_hours"] = overlay.wait_hours
    return entry


def _debt_document(debt: DebtRecovery) -> dict[str, object]:
    entry: dict[str, object] = {"share": percent_text(debt.share_ppm)}
    if debt.weekly_cap_nano:
        entry["weekly_cap"] = decimal_text(debt.weekly_cap_nano)
    return entry


def _temporary_document(temporary: Temporary) -> dict[str, object]:
    entry: dict[str, object] = {
        "unit": temporary.unit.value,
        "fee": decimal_text(temporary.fee_nano),
        "deposit": decimal_text(temporary.deposit_nano),
    }
    if temporary.season:
        entry["season"] = _days_document(*temporary.season)
    return entry
