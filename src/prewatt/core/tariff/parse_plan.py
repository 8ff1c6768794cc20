"""What a tariff says about the plan as a whole: announced prices, debt recovery, and plans that end
by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prewatt.core.tariff.model import (
    WAIT_HOURS,
    BoothUnit,
    DebtRecovery,
    Overlay,
    OverlayKind,
    Temporary,
)
from prewatt.core.tariff.reading import choice, entries_of, entry_of, mapping, whole, word
from prewatt.core.tariff.words import (
    DAYS_OF_GRID,
    MAX_AMOUNT_NANO,
    PPM,
    TariffRefused,
    month_day,
    nano,
    positive_nano,
    ppm,
)

MAX_OVERLAYS: Final = 16
MAX_BASELINE_DAYS: Final = 60
MAX_WAIT_HOURS: Final = 720


def overlays_of(document: Mapping[str, object]) -> tuple[Overlay, ...]:
    """Announced prices, ordered by kind and group, of which each pair occurs once."""
    overlays = entries_of(document, "overlays", MAX_OVERLAYS, _overlay)
    seen: set[tuple[OverlayKind, str]] = set()
    for index, overlay in enumerate(overlays):
        key = (overlay.kind, overlay.group)
        if key in seen:
            raise TariffRefused(
                f"overlays[{index}].group", f"{overlay.group!r} has a {overlay.kind} price already"
            )
        seen.add(key)
    return tuple(sorted(overlays, key=lambda each: (each.kind, each.group)))


def debt_of(document: Mapping[str, object]) -> DebtRecovery | None:
    """The share of a recharge that goes to an agreed debt."""
    place = "debt_recovery"
    if place not in document:
        return None
    entry = entry_of(document[place], place, needed={"share"}, optional={"weekly_cap"})
    cap = 0
    if "weekly_cap" in entry:
        cap = positive_nano(entry["weekly_cap"], f"{place}.weekly_cap", most=MAX_AMOUNT_NANO)
    return DebtRecovery(ppm(entry["share"], f"{place}.share"), cap)


def temporary_of(document: Mapping[str, object]) -> Temporary | None:
    """A plan that closes and refunds itself."""
    place = "temporary"
    if place not in document:
        return None
    entry = entry_of(document[place], place, needed={"unit"}, optional={"fee", "deposit", "season"})
    fee, deposit = (
        nano(entry.get(key, "0"), f"{place}.{key}", most=MAX_AMOUNT_NANO)
        for key in ("fee", "deposit")
    )
    season = _season(entry["season"], f"{place}.season") if "season" in entry else None
    return Temporary(choice(entry["unit"], f"{place}.unit", BoothUnit), fee, deposit, season)


def _overlay(value: object, place: str) -> Overlay:
    kind = choice(mapping(value, place).get("kind", "nothing"), f"{place}.kind", OverlayKind)
    if kind is OverlayKind.CRITICAL_PEAK:
        return _critical_peak(value, place)
    entry = entry_of(value, place, needed={"kind", "group"}, optional={"share", "adder"})
    return Overlay(
        kind=kind,
        group=word(entry["group"], f"{place}.group"),
        share_ppm=ppm(entry["share"], f"{place}.share") if "share" in entry else PPM,
        adder_nano_per_kwh=nano(entry.get("adder", "0"), f"{place}.adder"),
    )


def _critical_peak(value: object, place: str) -> Overlay:
    entry = entry_of(
        value,
        place,
        needed={"kind", "group"},
        optional={"price", "adder", "rebate", "baseline_days", "baseline_highest", "wait_hours"},
    )
    if "price" in entry and "adder" in entry:
        raise TariffRefused(place, "must have either 'price' or 'adder', not both")
    if not entry.keys() & {"price", "adder", "rebate"}:
        raise TariffRefused(place, "must have a 'price', an 'adder' or a 'rebate'")
    if ("rebate" in entry) != ("baseline_days" in entry):
        raise TariffRefused(place, "must have 'rebate' and 'baseline_days' together or neither")
    for key in ("baseline_highest", "wait_hours"):
        if key in entry and "rebate" not in entry:
            raise TariffRefused(f"{place}.{key}", "is for a rebate, and there is none")
    days, rebate, highest, wait = 0, 0, 0, WAIT_HOURS
    if "rebate" in entry:
        rebate = positive_nano(entry["rebate"], f"{place}.rebate")
        days = whole(entry["baseline_days"], f"{place}.baseline_days", 1, MAX_BASELINE_DAYS)
        highest = whole(entry.get("baseline_highest", days), f"{place}.baseline_highest", 1, days)
        wait = whole(entry.get("wait_hours", wait), f"{place}.wait_hours", 1, MAX_WAIT_HOURS)
    return Overlay(
        kind=OverlayKind.CRITICAL_PEAK,
        group=word(entry["group"], f"{place}.group"),
        price_nano_per_kwh=nano(entry["price"], f"{place}.price") if "price" in entry else None,
        adder_nano_per_kwh=(
            positive_nano(entry["adder"], f"{place}.adder") if "adder" in entry else 0
        ),
        rebate_nano_per_kwh=rebate,
        baseline_days=days,
        # All of them is what a plan says that does not say it.
        baseline_highest=highest if highest < days else 0,
        wait_hours=wait,
    )


def _season(value: object, place: str) -> tuple[int, int]:
    """Grid positions; a season whose second is not above its first passes the end of the year."""
    entry = entry_of(value, place, needed={"from", "until"})
    begin = month_day(entry["from"], f"{place}.from")
    # The end of the year is written as the first of January.
    end = month_day(entry["until"], f"{place}.until") or DAYS_OF_GRID
    if begin == end or (begin, end) == (0, DAYS_OF_GRID):
        raise TariffRefused(place, "must leave out a part of the year, or it would never end")
    return begin, end
