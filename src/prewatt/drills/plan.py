"""The price plan of a drill's property: three bands by the hour and the weekday, and a tax.

The only thing that the program and the independent model share: both are given the plan, and each
computes by itself.
"""

from __future__ import annotations

from typing import Any, Final

TIME_ZONE: Final = "Europe/Berlin"
CURRENCY: Final = "EUR"
#: Price per kWh; uneven, so that no product is a whole micro-unit by chance.
PRICES: Final = {"night": "0.1687654", "day": "0.2512345", "peak": "0.3124567"}
#: (weekdays, [(from hour, band), …]): each band holds until the next one begins.
SCHEDULE: Final[tuple[tuple[tuple[str, ...], tuple[tuple[int, str], ...]], ...]] = (
    (
        ("mon", "tue", "wed", "thu", "fri"),
        ((0, "night"), (6, "day"), (17, "peak"), (21, "night")),
    ),
    (("sat", "sun"), ((0, "night"), (8, "day"), (22, "night"))),
)
TAX_PERCENT: Final = "19"


def tariff_document() -> dict[str, Any]:
    """The plan as a tariff document."""
    return {
        "format": "prewatt-tariff/1",
        "name": "Three bands",
        "currency": CURRENCY,
        "energy": {
            "unit": "kWh",
            "bands": {band: {"price": price} for band, price in PRICES.items()},
            "day_classes": {
                f"class{number}": list(days) for number, (days, _) in enumerate(SCHEDULE)
            },
            "schedule": [
                {"days": f"class{number}", "periods": _periods(hours)}
                for number, (_, hours) in enumerate(SCHEDULE)
            ],
        },
        "taxes": [{"code": "vat", "label": "VAT", "rate": TAX_PERCENT, "on": ["energy"]}],
    }


def _periods(hours: tuple[tuple[int, str], ...]) -> list[dict[str, str]]:
    ends = [hour for hour, _ in hours[1:]] + [24]
    return [
        {"from": f"{begin:02}:00", "until": f"{end:02}:00", "band": band}
        for (begin, band), end in zip(hours, ends, strict=True)
    ]
