"""Random tariff documents and places for property tests, daylight saving well represented.

`tariff_documents` are flat or by time of use; `full_tariff_documents` have every other part of the
format besides, each with its own chance: steps, dated charges and fees, bounds, demand, taxes,
allowances, announced prices, debt recovery, temporary plans.
"""

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


@st.composite
def full_tariff_documents(draw: st.DrawFn) -> dict[str, Any]:
    """A valid document with any of the parts of the format."""
    document = draw(tariff_documents())
    document["billing_day"] = draw(st.integers(1, 28))
    document["year_from"] = draw(st.sampled_from(_DAYS))
    if draw(st.booleans()):
        _add_steps(draw, document)
    parts: dict[str, st.SearchStrategy[Any]] = {
        "standing": _standing(),
        "fees": _listed(_fees(), "fee"),
        "minimum": _bounds(st.integers(1, 9)),
        "maximum": _bounds(st.integers(9 * 12, 999)),
        "demand": _listed(_demands(list(document["energy"]["bands"])), "demand"),
        "taxes": _taxes(),
        "allowances": _allowances("seasons" in document["energy"]),
        "overlays": _overlays(),
        "debt_recovery": st.fixed_dictionaries(
            {"share": PERCENTAGES}, optional={"weekly_cap": AMOUNTS}
        ),
        "temporary": _temporary(),
        "note": st.just("Simplified: 简化"),
        "source": st.just("The price sheet of a place"),
    }
    for key, strategy in parts.items():
        if draw(st.booleans()):
            document[key] = draw(strategy)
    return document


AMOUNTS = st.one_of(
    st.integers(1, 10**7).map(str),
    st.decimals(min_value="0.000000001", max_value=100, places=9).map(lambda value: f"{value:f}"),
)
PERCENTAGES = st.decimals(min_value="0.0001", max_value=100, places=4).map(
    lambda value: f"{value:f}"
)
_KWH = st.one_of(
    st.integers(1, 2_000).map(str),
    st.decimals(min_value="0.001", max_value=50, places=3).map(lambda value: f"{value:f}"),
)


@st.composite
def _limits(draw: st.DrawFn, count: int) -> list[str]:
    """Increasing limits; small ones, so that real loads cross them."""
    limits = draw(st.lists(_KWH, min_size=count, max_size=count, unique_by=float))
    return sorted(limits, key=float)


def _add_steps(draw: st.DrawFn, document: dict[str, Any]) -> None:
    """Steps over all bands, over each with the same limits, or over each with limits of its own."""
    energy = document["energy"]
    kind = draw(st.sampled_from(("graduated", "whole_usage")))
    scope = draw(st.sampled_from(("all", "each")))
    windows = ["day", "month", "billing_month", "quarter", "year", "purchase"]
    windows += ["season"] if "seasons" in energy else []
    window = draw(st.sampled_from(windows))
    scales = ["none", "members", "contracted_kw"] + (["days"] if window != "purchase" else [])
    scale = draw(st.sampled_from(scales))
    count = draw(st.integers(1, 3))
    carry = draw(st.sampled_from(("reset", "carry")))
    steps = {"kind": kind, "scope": scope, "window": window, "scale": scale}
    energy["steps"] = steps | {"on_tenant_change": carry}
    if scope == "each" and draw(st.booleans()):
        for band in energy["bands"].values():
            band["limits"] = draw(_limits(count))
    elif (
        (kind == "graduated" or window in {"day", "season"})
        and "seasons" in energy
        and draw(st.booleans())
    ):
        by_season = {name: draw(_limits(count)) for name in energy["seasons"]}
        energy["steps"]["limits"] = by_season
    else:
        energy["steps"]["limits"] = draw(_limits(count))
    if scale == "members" and draw(st.booleans()):
        energy["steps"]["members"] = {
            "included": draw(st.integers(0, 6)),
            "add": draw(_limits(count)),
        }
    stepped = draw(st.sets(st.sampled_from(sorted(energy["bands"])), min_size=1))
    for name in stepped:
        del energy["bands"][name]["price"]
        energy["bands"][name]["prices"] = [draw(PRICES) for _ in range(count + 1)]


@st.composite
def _per(draw: st.DrawFn) -> dict[str, str]:
    """An amount per day, month or year, and how it is collected."""
    entry = {f"per_{draw(st.sampled_from(('day', 'month', 'year')))}": draw(AMOUNTS)}
    if draw(st.booleans()):
        entry["collect"] = draw(st.sampled_from(("daily", "first_recharge")))
    return entry


def _fees() -> st.SearchStrategy[dict[str, str]]:
    return st.one_of(
        _per(),
        st.fixed_dictionaries({"per_kwh": PRICES.filter(float)}),
        st.fixed_dictionaries({"share": PERCENTAGES}),
    )


@st.composite
def _listed(
    draw: st.DrawFn, entries: st.SearchStrategy[dict[str, Any]], code: str
) -> list[dict[str, Any]]:
    """One to three entries with codes of their own, in any order."""
    codes = draw(st.permutations([f"{code}-{number}" for number in range(1, 4)]))
    chosen = codes[: draw(st.integers(1, 3))]
    return [{"code": each, **draw(_labelled()), **draw(entries)} for each in chosen]


def _labelled() -> st.SearchStrategy[dict[str, str]]:
    return st.sampled_from(({}, {"label": "Something, 费用"}))


def _standing() -> st.SearchStrategy[Any]:
    plain = st.fixed_dictionaries({"per_day": PRICES})
    return st.one_of(plain, _per(), _listed(_per(), "base"))


def _bounds(major: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, str]]:
    return st.one_of(
        st.fixed_dictionaries({"per_month": major.map(str)}),
        st.fixed_dictionaries({"per_year": major.map(str)}),
    )


@st.composite
def _demands(draw: st.DrawFn, bands: list[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "per_kw": draw(AMOUNTS.filter(lambda amount: float(amount) <= 10**6)),
        "interval_minutes": draw(st.sampled_from((5, 10, 15, 30, 60))),
    }
    if draw(st.booleans()):
        entry["bands"] = draw(st.lists(st.sampled_from(bands), min_size=1, unique=True))
    if draw(st.booleans()):
        entry["ratchet"] = {"share": draw(PERCENTAGES), "months": draw(st.integers(1, 24))}
    if draw(st.booleans()):
        entry["power_factor"] = draw(st.sampled_from(("0.9", "0.95", "1", "0.850001")))
    return entry


_RATES = st.decimals(min_value="0.0001", max_value=20, places=4).map(lambda value: f"{value:f}")
_PARTS = ("energy", "standing", "fee", "demand", "minimum")


@st.composite
def _taxes(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Either one tax whose rate changes, or up to three that are parallel or compound."""
    inclusive = draw(st.booleans())
    first: dict[str, Any] = {"code": "vat", "rate": draw(_RATES), "inclusive": inclusive}
    if draw(st.booleans()):
        on = draw(st.lists(st.sampled_from(_PARTS), min_size=1, unique=True))
        change = draw(st.dates(date(2024, 1, 1), date(2026, 12, 31))).isoformat()
        later = {"code": "vat", "rate": draw(_RATES), "from": change, "on": on}
        return [first | {"on": on, "until": change}, later]
    taxes = [first]
    for number in range(draw(st.integers(0, 2))):
        compound = draw(st.booleans())
        taxes.append(
            {
                "code": f"levy-{number}",
                "rate": draw(_RATES),
                "compound": compound,
                # A compound tax that a price contains is on taxes that the price contains, too.
                "inclusive": inclusive if compound else draw(st.booleans()),
                **draw(_labelled()),
            }
        )
        inclusive = inclusive and taxes[-1]["inclusive"]
    return taxes


@st.composite
def _allowances(draw: st.DrawFn, has_seasons: bool) -> list[dict[str, Any]]:
    windows = ["day", "month", "billing_month", "quarter", "year"]
    windows += ["season"] if has_seasons else []
    free = {"code": "free", "free_kwh": draw(_KWH), "window": draw(st.sampled_from(windows))}
    rebate = {"code": "rebate", "per_kwh": draw(PRICES.filter(float))}
    return draw(st.sampled_from(([free], [rebate], [free, rebate], [rebate, free])))


@st.composite
def _overlays(draw: st.DrawFn) -> list[dict[str, Any]]:
    peak: dict[str, Any] = {"kind": "critical_peak", "group": "events"}
    form = draw(st.sampled_from(("price", "adder", "rebate")))
    peak[form] = draw(PRICES.filter(float))
    if form == "rebate":
        peak["baseline_days"] = draw(st.integers(1, 60))
        if draw(st.booleans()):
            peak["baseline_highest"] = draw(st.integers(1, peak["baseline_days"]))
        if draw(st.booleans()):
            peak["wait_hours"] = draw(st.integers(1, 720))
    series: dict[str, Any] = {"kind": "real_time", "group": "day-ahead"}
    if draw(st.booleans()):
        series |= {"share": draw(PERCENTAGES), "adder": draw(PRICES)}
    return draw(st.sampled_from(([peak], [series], [series, peak])))


@st.composite
def _temporary(draw: st.DrawFn) -> dict[str, Any]:
    entry: dict[str, Any] = {"unit": draw(st.sampled_from(("hour", "day")))}
    if draw(st.booleans()):
        entry |= {"fee": draw(AMOUNTS), "deposit": draw(AMOUNTS)}
    if draw(st.booleans()):
        first, second = draw(st.permutations(_DAYS))[:2]
        entry["season"] = {"from": first, "until": second}
    return entry
