"""An independent model of a monthly statement, steps shared out pro rata: plain fractions.

It reads the document as it was written and shares no code with `prewatt`. Usage is gathered by
local day and band; every Wh of a window has the same share of each of its steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Any
from zoneinfo import ZoneInfo

from core.exact_model import (
    EPOCH,
    MINUTE,
    ExactCalendar,
    ExactCustomer,
    ExactPrices,
    ExactUsage,
    half_even,
    nano_of,
    shares,
    wall,
    wh_of,
)

PARTS = ("energy", "fixed", "demand", "minimum", "tax")


@dataclass(frozen=True)
class Used:
    """Wh of one stretch [start, end) of one local day and band."""

    start_us: int
    end_us: int
    day: date
    band: str
    energy_wh: int


@dataclass
class ExactStatement:
    """Months (`2025-03`) with the parts of their totals in micro-units."""

    document: Mapping[str, Any]
    time_zone: str
    holidays: frozenset[date] = frozenset()
    exempt: frozenset[str] = frozenset()
    members: int = 1
    contracted_w: int = 0
    months: dict[str, dict[str, Fraction]] = field(
        default_factory=lambda: defaultdict(lambda: dict.fromkeys(PARTS, Fraction(0)))
    )
    bounded: dict[date, Fraction] = field(default_factory=lambda: defaultdict(Fraction))

    def add_load(self, intervals: Sequence[tuple[int, int, int]]) -> None:
        """(start, end, Wh) in order: everything that the load costs."""
        used = self._used(intervals)
        self._add_usage(used)
        owed = self._owed_days(intervals[0][0], intervals[-1][1])
        for day in owed:
            self._add_dated(day)
        self._add_demand(used, owed)
        for key in ("minimum", "maximum"):
            self._add_bound(key, owed)

    def _used(self, intervals: Sequence[tuple[int, int, int]]) -> list[Used]:
        finder = ExactUsage(
            ExactPrices(self.time_zone, [(0, self.document)], self.holidays), ExactCustomer()
        )
        found = []
        for start, end, energy in intervals:
            before = 0
            for begin, until in finder._stretches(start, end):
                upto = floor(Fraction(energy * (until - start), end - start))
                _, day, band, _ = finder._what(begin)
                found.append(Used(begin, until, day, band, upto - before))
                before = upto
        return found

    def _add_usage(self, used: Sequence[Used]) -> None:
        calendar = ExactCalendar(self.document)
        steps = self.document["energy"].get("steps")
        free = [a for a in self.document.get("allowances", ()) if "free_kwh" in a]

        def count(each: Used) -> tuple[date, str]:
            first, _ = calendar.window(steps["window"], each.day)
            return first, each.band if steps.get("scope") == "each" else ""

        def free_window(each: Used) -> date:
            return calendar.window(free[0].get("window", "month"), each.day)[0]

        counts: dict[tuple[date, str], int] = defaultdict(int)
        free_counts: dict[date, int] = defaultdict(int)
        for each in used:
            if steps:
                counts[count(each)] += each.energy_wh
            if free:
                free_counts[free_window(each)] += each.energy_wh
        for each in used:
            written, paid = shares(self.document, "energy", each.day, self.exempt)
            prices = self._prices(each.band, written)
            if steps:
                total = counts[count(each)]
                taken = self._taken(total, self._limits(calendar, each))
                taken = self._whole(taken) if steps.get("kind") == "whole_usage" else taken
            else:
                total, taken = 1, [1]
            charge = self._charge(each, total, taken, prices)
            free_charge = Fraction(0)
            if free:
                free_wh = min(wh_of(free[0]["free_kwh"]), free_counts[free_window(each)])
                window = free[0].get("window", "month")
                lowest = (
                    steps
                    and steps["window"] == window
                    and steps.get("kind", "graduated") == "graduated"
                    and steps.get("scope", "all") == "all"
                )
                if lowest:
                    first = self._first(taken, free_wh)
                    free_charge = self._charge(each, total, first, prices)
                elif free_counts[free_window(each)]:
                    free_charge = charge * Fraction(free_wh, free_counts[free_window(each)])
            self._book_usage(each, charge, free_charge, paid)

    def _charge(
        self, each: Used, total: int, taken: Sequence[int], prices: Sequence[int]
    ) -> Fraction:
        """The price of a stretch's share of the steps, in micro-units."""
        if not total:
            return Fraction(0)
        cost = sum(wh * price for wh, price in zip(taken, prices, strict=False))
        return Fraction(each.energy_wh * cost, total * 10**6)

    def _book_usage(
        self, each: Used, charge: Fraction, free_charge: Fraction, paid: Fraction
    ) -> None:
        month = self.months[f"{each.day:%Y-%m}"]
        written, fee_paid = shares(self.document, "fee", each.day, self.exempt)
        fee = Fraction(0)
        for entry in self.document.get("fees", ()):
            if "per_kwh" in entry:
                net = half_even(nano_of(entry["per_kwh"]) / written)
                fee += Fraction(each.energy_wh * net, 10**6)
            if "share" in entry:
                net = half_even(Fraction(entry["share"]) * 10**7 / written)
                fee += charge * Fraction(net, 10**9)
        subsidy = -free_charge * (1 + _ppb(paid))
        for entry in self.document.get("allowances", ()):
            if "per_kwh" in entry:
                subsidy -= Fraction(each.energy_wh * nano_of(entry["per_kwh"]), 10**6)
        month["energy"] += charge + fee + subsidy
        month["tax"] += charge * _ppb(paid) + fee * _ppb(fee_paid)
        self.bounded[each.day] += charge

    def _prices(self, band: str, written: Fraction) -> list[int]:
        entry = self.document["energy"]["bands"][band]
        prices = entry.get("prices") or [entry["price"]] * 99
        return [half_even(nano_of(price) / written) for price in prices]

    def _limits(self, calendar: ExactCalendar, each: Used) -> list[int]:
        steps = self.document["energy"]["steps"]
        written = steps.get("limits") or self.document["energy"]["bands"][each.band]["limits"]
        if isinstance(written, Mapping):
            written = written[calendar.season(each.day)]
        scale = steps.get("scale", "none")
        if "members" in steps:
            more = max(0, self.members - steps["members"]["included"])
            added = steps["members"]["add"]
            return [wh_of(one) + more * wh_of(add) for one, add in zip(written, added, strict=True)]
        factor = {
            "none": Fraction(1),
            "members": Fraction(self.members),
            "contracted_kw": Fraction(self.contracted_w, 1000),
            "days": Fraction(calendar.window(steps["window"], each.day)[1]),
        }[scale]
        return [floor(wh_of(one) * factor) for one in written]

    def _taken(self, total: int, limits: Sequence[int]) -> list[int]:
        """How much of a count lies in each step, Wh by limit."""
        taken, before = [], 0
        for limit in limits:
            taken.append(max(0, min(total, limit) - before))
            before = limit
        return [*taken, max(0, total - before)]

    def _whole(self, taken: Sequence[int]) -> list[int]:
        """The same with everything at the highest step that was reached."""
        reached = max([step for step, wh in enumerate(taken) if wh] or [0])
        return [sum(taken) if step == reached else 0 for step in range(len(taken))]

    def _first(self, taken: Sequence[int], free_wh: int) -> list[int]:
        """The first Wh of a count by steps."""
        first = []
        for wh in taken:
            first.append(min(wh, free_wh))
            free_wh -= first[-1]
        return first

    def _owed_days(self, from_us: int, until_us: int) -> list[date]:
        day = wall(self.time_zone, from_us).date() - timedelta(days=1)
        last = wall(self.time_zone, until_us).date() + timedelta(days=1)
        days = []
        while day <= last:
            if from_us <= self._midnight(day) < until_us:
                days.append(day)
            day += timedelta(days=1)
        return days

    def _midnight(self, day: date) -> int:
        local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.time_zone))
        return (local.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)

    def _add_dated(self, day: date) -> None:
        month = self.months[f"{day:%Y-%m}"]
        standing = self.document.get("standing", [])
        standing = standing if isinstance(standing, list) else [standing]
        fees = [e for e in self.document.get("fees", ()) if not {"per_kwh", "share"} & e.keys()]
        for part, entries in (("standing", standing), ("fee", fees)):
            for entry in entries:
                (per,) = {"per_day", "per_month", "per_year"} & entry.keys()
                written, paid = shares(self.document, part, day, self.exempt)
                net = half_even(nano_of(entry[per]) / written)
                amount = Fraction(net, 1000 * _days(per, day))
                month["fixed"] += amount
                month["tax"] += amount * _ppb(paid)
                if part == "standing":
                    self.bounded[day] += amount

    def _add_demand(self, used: Sequence[Used], owed: Sequence[date]) -> None:
        for entry in self.document.get("demand", ()):
            minutes = entry["interval_minutes"]
            windows: dict[tuple[date, int], int] = defaultdict(int)
            for each in used:
                if each.band in entry.get("bands", [each.band]):
                    self._fill_windows(windows, each, minutes)
            peaks: dict[int, int] = defaultdict(int)
            for (day, _), energy in windows.items():
                peaks[_month(day)] = max(peaks[_month(day)], energy * 60 // minutes)
            ratchet = entry.get("ratchet", {"share": "0", "months": 0})
            for day in owed:
                before = [peaks[_month(day) - back] for back in range(1, ratchet["months"] + 1)]
                least = floor(max(before, default=0) * Fraction(ratchet["share"]) / 100)
                billed = max(peaks[_month(day)], least)
                written, paid = shares(self.document, "demand", day, self.exempt)
                net = half_even(nano_of(entry["per_kw"]) / written)
                amount = Fraction(billed * net, 10**6 * _days("per_month", day))
                self.months[f"{day:%Y-%m}"]["demand"] += amount
                self.months[f"{day:%Y-%m}"]["tax"] += amount * _ppb(paid)
                self.bounded[day] += amount

    def _fill_windows(self, windows: dict[tuple[date, int], int], each: Used, minutes: int) -> None:
        width, before = minutes * MINUTE, 0
        begin, midnight = each.start_us, self._midnight(each.day)
        while begin < each.end_us:
            window = (begin - midnight) // width
            begin = min(each.end_us, midnight + (window + 1) * width)
            length = each.end_us - each.start_us
            upto = each.energy_wh * (begin - each.start_us) // length
            windows[each.day, window] += upto - before
            before = upto

    def _add_bound(self, key: str, owed: Sequence[date]) -> None:
        entry = self.document.get(key)
        if entry is None:
            return
        (per,) = entry
        periods: dict[str, list[date]] = defaultdict(list)
        for day in owed:
            periods[f"{day:%Y-%m}" if per == "per_month" else f"{day:%Y}"].append(day)
        for days in periods.values():
            first, last = days[0], days[-1]
            bound = sum(Fraction(nano_of(entry[per]), 1000 * _days(per, day)) for day in days)
            # Usage counts from the month or year that it is in, owed days or not.
            charged = sum(
                amount
                for day, amount in self.bounded.items()
                if (per == "per_year" or day.month == first.month)
                and day.year == first.year
                and (per == "per_month" or _month(day) in {_month(each) for each in days})
            )
            due = max(bound - charged, 0) if key == "minimum" else min(bound - charged, 0)
            _, paid = shares(self.document, "minimum", last, self.exempt)
            self.months[f"{last:%Y-%m}"]["minimum"] += due
            self.months[f"{last:%Y-%m}"]["tax"] += due * _ppb(paid)


def _ppb(share: Fraction) -> Fraction:
    return Fraction(half_even(share * 10**9), 10**9)


def _month(day: date) -> int:
    return day.year * 12 + day.month


def _days(per: str, day: date) -> int:
    """The days of the day's month or year."""
    if per == "per_day":
        return 1
    if per == "per_year":
        return (date(day.year + 1, 1, 1) - date(day.year, 1, 1)).days
    return (date(day.year + day.month // 12, day.month % 12 + 1, 1) - day.replace(day=1)).days
