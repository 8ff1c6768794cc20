"""The Prewatt tariff format: a price plan that a person can read, checked before any number is
computed.

`docs/tariffs.md` explains every part by example, `data/tariffs` has worked examples and the JSON
Schema. A plan by time of use looks like this; only `format`, `name`, `currency` and `energy` are
needed::

    {
      "format": "prewatt-tariff/1",
      "name": "Shops, summer peak",
      "currency": "EUR",
      "energy": {
        "unit": "kWh",
        "bands": {"peak": {"price": "0.3120"}, "night": {"price": "0.1680", "label": "Night"}},
        "seasons": {"summer": [{"from": "06-01", "until": "09-01"}],
                    "rest": [{"from": "09-01", "until": "06-01"}]},
        "day_classes": {"workday": ["mon", "tue", "wed", "thu", "fri"],
                        "restday": ["sat", "sun", "holiday"]},
        "schedule": [
          {"season": "summer", "days": "workday", "periods": [
            {"from": "00:00", "until": "07:00", "band": "night"},
            {"from": "07:00", "until": "24:00", "band": "peak"}]},
          ...
        ]
      },
      "standing": {"per_day": "0.3500"}
    }

Every period is half-open: `until` is the first minute or day that no longer belongs. Season and
day class together say which schedule entry holds, and each pair has exactly one; an entry that
leaves out `season` or `days` holds for all of them. Without `seasons` the year is one season,
without `day_classes` all days are alike. A holiday without a class of its own is priced as its
weekday. A flat tariff has one band and no schedule. Steps, fees, bounds, demand, taxes, allowances,
announced prices, debt recovery and plans that end by themselves are entries beside these. Anything
unknown, missing, doubled or overlapping is refused with its place.

`model` is the vocabulary. `parse` makes it from a document, part by part (`parse_energy` with
`parse_calendar`, `parse_charges`, `parse_plan`), out of shapes (`reading`) and quantities (`words`);
`document` and `document_charges` write the one canonical form back; `tables` lays a schedule out
for rating.
"""

from __future__ import annotations

from prewatt.core.tariff.document import canonical_json, digest, to_document
from prewatt.core.tariff.model import Tariff
from prewatt.core.tariff.parse import load_tariff, parse_tariff
from prewatt.core.tariff.tables import BandTable, band_table
from prewatt.core.tariff.words import MAX_PRICE_NANO, MONTH_STARTS, TariffRefused, decimal_text

__all__ = [
    "MAX_PRICE_NANO",
    "MONTH_STARTS",
    "BandTable",
    "Tariff",
    "TariffRefused",
    "band_table",
    "canonical_json",
    "decimal_text",
    "digest",
    "load_tariff",
    "parse_tariff",
    "to_document",
]
