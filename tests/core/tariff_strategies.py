"""Random tariff documents and places for property tests, daylight saving well represented."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

ZONES = ("Europe/Berlin", "Asia/Shanghai", "America/New_York", "Australia/Lord_Howe")

#: Instants near which something unusual happens in one of the zones, and quiet ones.
MOMENTS = tuple(
    int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000
    for text in (
        "2025-03-30T00:00",  # Berlin skips 02:00
        "2025-10-26T00:00",  # Berlin repeats 02:00
        "2025-03-09T06:00",  # New York skips 02:00
        "2025-11-02T05:00",  # New York repeats 01:00
        "2025-04-05T14:00",  # Lord Howe repeats half an hour
        "2025-10-04T14:00",  # Lord Howe skips half an hour
        "2025-12-31T12:00",  # a new year everywhere
        "2024-02-28T22:00",  # a leap day
        "2025-06-17T09:00",  # nothing at all
    )
)
HOLIDAYS = frozenset({date(2025, 3, 30), date(2025, 12, 31), date(2026, 1, 1), date(2024, 2, 29)})

PRICES = st.one_of(
    st.just("0"),
    st.decimals(min_value=0, max_value=5, places=4).map(lambda value: f"{value:f}"),
    st.decimals(min_value=0, max_value=1, places=9).map(lambda value: f"{value:f}"),
)


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


@st.composite
def _periods(draw: st.DrawFn, bands: list[str]) -> list[dict[str, str]]:
    grid = draw(st.sampled_from((60, 30, 1)))
    inner = draw(st.sets(st.integers(1, 1440 // grid - 1), max_size=5))
    bounds = [0, *(each * grid for each in sorted(inner)), 1440]
    return [
        {"from": _clock(begin), "until": _clock(end), "band": draw(st.sampled_from(bands))}
        for begin, end in pairwise(bounds)
    ]


@st.composite
def tariff_documents(draw: st.DrawFn) -> dict[str, Any]:
    """A valid document: flat, or by time of use with up to two seasons and three day classes."""
    names = draw(st.sampled_from((["only"], ["day", "night"], ["peak", "flat", "valley"])))
    energy: dict[str, Any] = {"unit": "kWh"}
    document: dict[str, Any] = {
        "format": "prewatt-tariff/1",
        "name": "Random",
        "currency": "EUR",
        "energy": energy,
    }
    seasons = ["all_year"]
    if draw(st.booleans()):
        first, second = sorted(draw(st.sets(st.sampled_from(_DAYS), min_size=2, max_size=2)))
        energy["seasons"] = {
            "warm": [{"from": first, "until": second}],
            "cold": [{"from": second, "until": first}],
        }
        seasons = ["warm", "cold"]
    classes = ["every_day"]
    if draw(st.booleans()):
        energy["day_classes"] = draw(st.sampled_from(_CLASSES))
        classes = list(energy["day_classes"])
    schedule: list[dict[str, Any]] = [
        {"season": season, "days": day_class, "periods": draw(_periods(names))}
        for season in seasons
        for day_class in classes
    ]
    used = {period["band"] for entry in schedule for period in entry["periods"]}
    energy["bands"] = {name: {"price": draw(PRICES)} for name in names if name in used}
    energy["schedule"] = schedule
    return document


_DAYS = ("03-30", "04-01", "06-18", "10-26", "12-31", "02-29", "01-01", "11-02")
_WORKDAYS = ["mon", "tue", "wed", "thu", "fri"]
_CLASSES: tuple[dict[str, list[str]], ...] = (
    {"workday": _WORKDAYS, "restday": ["sat", "sun", "holiday"]},
    {"workday": _WORKDAYS, "saturday": ["sat"], "sunday": ["sun", "holiday"]},
    {"workday": _WORKDAYS, "weekend": ["sat", "sun"]},
)
