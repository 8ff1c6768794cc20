"""The one canonical document of a tariff: what is stored, shown, edited and digested."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache

from prewatt.core.tariff.model import DAY_KINDS, DatedKind, DaySchedule, Per, Tariff
from prewatt.core.tariff.words import FORMAT, decimal_text, minute_text, month_day_text


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
        "energy": {
            "unit": "kWh",
            "bands": {
                band.name: {"label": band.label, "price": decimal_text(band.price_nano_per_kwh)}
                for band in tariff.bands
            },
            "seasons": {
                season.name: [
                    {"from": month_day_text(begin), "until": month_day_text(end)}
                    for begin, end in season.ranges
                ]
                for season in tariff.seasons
            },
            "day_classes": {
                day_class.name: [DAY_KINDS[kind] for kind in day_class.kinds]
                for day_class in tariff.day_classes
            },
            "schedule": [_schedule_document(tariff, schedule) for schedule in tariff.schedules],
        },
    }
    for charge in tariff.dated:
        if charge.kind is DatedKind.STANDING and charge.per is Per.DAY:
            document["standing"] = {"per_day": decimal_text(charge.amount_nano)}
    return document


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
