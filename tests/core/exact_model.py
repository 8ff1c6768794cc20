"""An independent model of what usage costs: plain fractions, datetimes and zoneinfo.

It shares no code with `prewatt` and is written to be obviously right rather than fast: it walks
every minute, asks `zoneinfo` for the wall clock, looks the price up in the tariff document as it
was written, and adds fractions. Rating must agree with it exactly.

Instants are integers of microseconds since 1970 UTC, energy whole Wh, amounts fractions of a
micro-unit (10⁻⁶ of the currency).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import floor
from typing import Any
from zoneinfo import ZoneInfo

MINUTE = 60_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@lru_cache(maxsize=1_000_000)
def wall(time_zone: str, at_us: int) -> datetime:
    """The wall clock of a place at an instant."""
    return (EPOCH + timedelta(microseconds=at_us)).astimezone(ZoneInfo(time_zone))


def _clock(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _season_holds(ranges: Sequence[Mapping[str, str]], day: date) -> bool:
    now = f"{day.month:02d}-{day.day:02d}"
    for each in ranges:
        begin, end = each["from"], each["until"]
        if begin < end and begin <= now < end:
            return True
        if begin >= end and (now >= begin or now < end):
            return True
    return False


def _chosen(entry: Mapping[str, Any], key: str, name: str) -> bool:
    value = entry.get(key, name)
    return value == name if isinstance(value, str) else name in value


def bands_of_day(
    document: Mapping[str, Any], day: date, holidays: frozenset[date]
) -> Sequence[tuple[int, int, str]]:
    """The (from minute, until minute, band name) of a day of the wall clock, as written."""
    energy = document["energy"]
    if "schedule" not in energy:
        (only,) = energy["bands"]
        return [(0, 24 * 60, str(only))]
    kind = WEEKDAYS[day.weekday()]
    classes = energy.get("day_classes", {"every_day": [*WEEKDAYS, "holiday"]})
    if day in holidays and any("holiday" in kinds for kinds in classes.values()):
        kind = "holiday"
    (day_class,) = [name for name, kinds in classes.items() if kind in kinds]
    seasons = energy.get("seasons", {"all_year": [{"from": "01-01", "until": "01-01"}]})
    (season,) = [name for name, ranges in seasons.items() if _season_holds(ranges, day)]
    return [
        (_clock(period["from"]), _clock(period["until"]), str(period["band"]))
        for entry in energy["schedule"]
        if _chosen(entry, "season", season) and _chosen(entry, "days", day_class)
        for period in entry["periods"]
    ]


def band_at(document: Mapping[str, Any], wall_clock: datetime, holidays: frozenset[date]) -> str:
    """The name of the band that a document gives a wall-clock time."""
    minute = wall_clock.hour * 60 + wall_clock.minute
    periods = bands_of_day(document, wall_clock.date(), holidays)
    (band,) = [band for begin, end, band in periods if begin <= minute < end]
    return band


@dataclass
class ExactPrices:
    """Prices of one place over time: dated tariff documents, oldest first.

    The first version also holds before its own date, as an account is priced from its opening.
    """

    time_zone: str
    versions: Sequence[tuple[int, Mapping[str, Any]]]
    holidays: frozenset[date] = frozenset()
    _known: dict[int, tuple[int, str, Fraction]] = field(default_factory=dict)
    known_days: dict[tuple[int, date], list[str]] = field(default_factory=dict)

    def at(self, at_us: int) -> tuple[int, str, Fraction]:
        """(position of the version, band, price per kWh in the currency) at an instant."""
        version = max([i for i, (begin, _) in enumerate(self.versions) if begin <= at_us] or [0])
        document = self.versions[version][1]
        # No version begins inside a minute of the cache unless it was asked for by itself.
        key = at_us // MINUTE * 1000 + version
        if key not in self._known:
            band = band_at(document, wall(self.time_zone, at_us // MINUTE * MINUTE), self.holidays)
            price = Fraction(document["energy"]["bands"][band]["price"])
            self._known[key] = version, band, price
        return self._known[key]

    def parts(self, start_us: int, end_us: int) -> list[tuple[int, int, tuple[int, str, Fraction]]]:
        """Longest stretches of one version and band that make up [start, end)."""
        cuts = {start_us, *range((start_us // MINUTE + 1) * MINUTE, end_us, MINUTE)}
        cuts |= {begin for begin, _ in self.versions if start_us < begin < end_us}
        stretches: list[tuple[int, int, tuple[int, str, Fraction]]] = []
        for begin, end in zip(sorted(cuts), [*sorted(cuts)[1:], end_us], strict=True):
            price = self.at(begin)
            if stretches and stretches[-1][2] == price:
                stretches[-1] = (stretches[-1][0], end, price)
            else:
                stretches.append((begin, end, price))
        return stretches

    def charge_micro(self, start_us: int, end_us: int, energy_wh: int) -> Fraction:
        """What an interval costs. Its energy falls to its parts by the stated rule: whole Wh, pro
        rata by time, cut off cumulatively.
        """
        total = Fraction(0)
        duration, used = end_us - start_us, 0
        for _, end, (_, _, price) in self.parts(start_us, end_us):
            upto = floor(Fraction(energy_wh * (end - start_us), duration))
            total += Fraction(upto - used, 1000) * price * 1_000_000
            used = upto
        assert used == energy_wh
        return total

    def days_begun(self, after_us: int, through_us: int) -> int:
        """How many local days begin in (after, through], minute by minute."""
        days, latest = 0, wall(self.time_zone, after_us).date()
        for at_us in [*range((after_us // MINUTE + 1) * MINUTE, through_us, MINUTE), through_us]:
            today = wall(self.time_zone, at_us).date()
            if today > latest:
                days, latest = days + (today - latest).days, today
        return days


def exact_charges(readings: Iterable[tuple[int, int]], prices: ExactPrices) -> Fraction:
    """What a meter's history costs: `readings` are (instant, register in Wh) in any order,
    repeats allowed, all of them good; the earliest opens the account and costs nothing.
    """
    history = sorted(set(readings))
    return sum(
        (
            prices.charge_micro(start, end, high - low)
            for (start, low), (end, high) in pairwise(history)
        ),
        Fraction(0),
    )


def exact_balance(
    readings: Iterable[tuple[int, int]], prices: ExactPrices, recharges_micro: Iterable[int]
) -> Fraction:
    """Recharges less charges. An account that cuts each charge off to whole micro-units and
    carries the remainder shows `ceil` of this.
    """
    return sum(recharges_micro) - exact_charges(readings, prices)


# --- Full tariffs: steps, free energy, fees, taxes, announced prices -----------------------------


@dataclass(frozen=True)
class Announced:
    """An announced price: a critical peak (`price` 0) or one price of a series, in nano-units."""

    kind: str
    group: str
    from_us: int
    until_us: int
    price_nano: int = 0


@dataclass(frozen=True)
class ExactCustomer:
    """What prices depend on besides usage. `terms` are (instant, members, contracted W), the first
    holding from the opening; `recharges` are instants. `exemptions` are (local midnight, tax codes),
    each from then on instead of `exempt`.
    """

    terms: Sequence[tuple[int, int, int]] = ((0, 1, 0),)
    recharges: Sequence[int] = ()
    exempt: frozenset[str] = frozenset()
    announced: Sequence[Announced] = ()
    exemptions: Sequence[tuple[int, frozenset[str]]] = ()

    def exempt_at(self, at_us: int) -> frozenset[str]:
        """The taxes that are not paid on what is used at an instant."""
        dated = [codes for begin, codes in self.exemptions if begin <= at_us]
        return dated[-1] if dated else self.exempt

    def terms_at(self, at_us: int) -> tuple[int, int]:
        _, members, contracted_w = [e for e in self.terms if e is self.terms[0] or e[0] <= at_us][
            -1
        ]
        return members, contracted_w

    def purchase_no(self, at_us: int) -> int:
        return sum(each <= at_us for each in self.recharges)


def half_even(value: Fraction) -> int:
    """To the nearest whole number, halves to the even one."""
    whole, rest = divmod(value, 1)
    if rest == Fraction(1, 2):
        return int(whole) + int(whole) % 2
    return int(whole) + (rest > Fraction(1, 2))


def nano_of(text: str) -> int:
    return int(Fraction(text) * 10**9)


def wh_of(text: str) -> int:
    return int(Fraction(text) * 1000)


def shares(
    document: Mapping[str, Any], part: str, day: date, exempt: frozenset[str]
) -> tuple[Fraction, Fraction]:
    """(what a net price of 1 is as written, what is paid in taxes on it)."""
    written, paid = Fraction(1), Fraction(0)
    everybodys, own = Fraction(0), Fraction(0)
    for tax in document.get("taxes", ()):
        if part not in tax.get("on", (part,)):
            continue
        if not tax.get("from", "0000") <= day.isoformat() < tax.get("until", "9999"):
            continue
        rate = Fraction(tax["rate"]) / 100
        share = rate * (1 + everybodys) if tax.get("compound") else rate
        everybodys += share
        if tax.get("inclusive"):
            written += share
        if tax["code"] not in exempt:
            share = rate * (1 + own) if tax.get("compound") else rate
            own += share
            paid += share
    return written, paid


@dataclass
class ExactCalendar:
    """The windows of one document, found by walking from day to day."""

    document: Mapping[str, Any]
    _known: dict[tuple[str, date], tuple[date, int]] = field(default_factory=dict)

    def season(self, day: date) -> str:
        seasons = self.document["energy"].get("seasons")
        if seasons is None:
            return "all_year"
        (season,) = [name for name, ranges in seasons.items() if _season_holds(ranges, day)]
        return str(season)

    def begins(self, window: str, day: date) -> bool:
        """Whether a window begins on a day."""
        if window == "day":
            return True
        if window == "month":
            return day.day == 1
        if window == "billing_month":
            return bool(day.day == self.document.get("billing_day", 1))
        if window == "quarter":
            return day.day == 1 and day.month in (1, 4, 7, 10)
        if window == "season":
            return self.season(day) != self.season(day - timedelta(days=1))
        assert window == "year"
        begin = self.document.get("year_from", "01-01")
        yesterday = day - timedelta(days=1)
        # A year that has no 29 February begins on the day after the 28th.
        no_leap_day = begin == "02-29" and f"{yesterday:%m-%d}" == "02-28"
        return f"{day:%m-%d}" == begin or no_leap_day

    def window(self, window: str, day: date) -> tuple[date, int]:
        """(first day, number of days) of the window around a day."""
        if (window, day) not in self._known:
            first, after = day, day + timedelta(days=1)
            while not self.begins(window, first):
                first -= timedelta(days=1)
            while not self.begins(window, after):
                after += timedelta(days=1)
            self._known[window, day] = first, (after - first).days
        return self._known[window, day]


@dataclass(frozen=True)
class ExactPart:
    """Energy at one price: `charge` in micro-units before anything is cut off."""

    start_us: int
    energy_wh: int
    band: str
    step: int
    free: bool
    charge: Fraction


@dataclass
class ExactUsage:
    """The usage charges of one account in order of time, each Wh counted as it is used.

    Sums in micro-units: `energy` is the exact total. Fees, taxes and subsidies are shares of the exact
    amounts of each part, rounded to a billionth of a micro-unit.
    """

    prices: ExactPrices
    customer: ExactCustomer = field(default_factory=ExactCustomer)
    energy: Fraction = Fraction(0)
    fee: Fraction = Fraction(0)
    tax: Fraction = Fraction(0)
    subsidy: Fraction = Fraction(0)
    parts: list[ExactPart] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    window: int = 0
    allowance_window: int = 0
    allowance_wh: int = 0
    _calendars: dict[int, ExactCalendar] = field(default_factory=dict)

    def use(self, start_us: int, end_us: int, energy_wh: int) -> None:
        """One interval; its energy falls to minutes pro rata, whole Wh, cut off cumulatively."""
        purchase_no = self.customer.purchase_no(start_us)
        used = 0
        for begin, end in self._stretches(start_us, end_us):
            upto = floor(Fraction(energy_wh * (end - start_us), end_us - start_us))
            self._use_stretch(begin, upto - used, purchase_no)
            used = upto
        assert used == energy_wh

    def _what(self, at_us: int) -> tuple[int, date, str, tuple[int, ...]]:
        """What a price depends on at an instant: version, day, band, announcements."""
        version = max(
            [i for i, (begin, _) in enumerate(self.prices.versions) if begin <= at_us] or [0]
        )
        now = wall(self.prices.time_zone, at_us // MINUTE * MINUTE)
        day = now.date()
        if (version, day) not in self.prices.known_days:
            document = self.prices.versions[version][1]
            periods = bands_of_day(document, day, self.prices.holidays)
            self.prices.known_days[version, day] = [
                band for begin, end, band in sorted(periods) for _ in range(begin, end)
            ]
        band = self.prices.known_days[version, day][now.hour * 60 + now.minute]
        held = tuple(
            i for i, e in enumerate(self.customer.announced) if e.from_us <= at_us < e.until_us
        )
        return version, day, band, held

    def _stretches(self, start_us: int, end_us: int) -> Iterable[tuple[int, int]]:
        """The longest stretches in which a price depends on the same, found minute by minute."""
        cuts = {start_us, end_us, *range((start_us // MINUTE + 1) * MINUTE, end_us, MINUTE)}
        inside = [begin for begin, _ in self.prices.versions]
        inside += [at for each in self.customer.announced for at in (each.from_us, each.until_us)]
        cuts |= {at for at in inside if start_us < at < end_us}
        ordered = sorted(cuts)
        begin, what = start_us, self._what(start_us)
        for at in ordered[1:-1]:
            if (now := self._what(at)) != what:
                yield begin, at
                begin, what = at, now
        yield begin, end_us

    def _use_stretch(self, at_us: int, energy_wh: int, purchase_no: int) -> None:
        """Energy at one band, day and announcement, taken up to each limit that it reaches."""
        version, day, band, held = self._what(at_us)
        document = self.prices.versions[version][1]
        steps = document["energy"].get("steps")
        limits = self._enter_windows(version, day, purchase_no)
        written, paid = shares(document, "energy", day, self.customer.exempt_at(at_us))
        plain = [_net(nano, written) for nano in _step_prices(document, band)]
        gross, own = announced_prices(
            document, band, [self.customer.announced[each] for each in held]
        )
        prices = [_net(nano, written) for nano in gross]
        key = _count_key(document, band, own)
        free_wh = max((wh_of(a["free_kwh"]) for a in _allowances(document, "free_kwh")), default=0)
        while energy_wh:
            count = self._count(document, key)
            reached = [limit for limit in limits(key) if limit <= count]
            step = len(reached)
            take = min([energy_wh, *(each - count for each in limits(key) if each > count)])
            free = self.allowance_wh < free_wh
            if free:
                take = min(take, free_wh - self.allowance_wh)
            charge = _times(take, _at_step(prices, step))
            if steps is not None:
                before = self._cost(document, limits, written)
                self.counts[key] = self.counts.get(key, 0) + take
                if steps.get("kind") == "whole_usage":
                    # The whole window at the prices of the step that is reached, less the same
                    # before; what is announced comes on top, or instead.
                    charge += self._cost(document, limits, written) - before
                    charge -= 0 if own else _times(take, _at_step(plain, step))
            self.allowance_wh += take if free_wh else 0
            self._charge(document, at_us, day, take, charge, paid, free)
            self.parts.append(ExactPart(at_us, take, band, step, free, charge))
            energy_wh -= take

    def _enter_windows(
        self, version: int, day: date, purchase_no: int
    ) -> Callable[[str], Sequence[int]]:
        """Begin new counts where windows begin; returns the limits of each count."""
        begin, document = self.prices.versions[version]
        calendar = self._calendars.setdefault(version, ExactCalendar(document))
        for allowance in _allowances(document, "free_kwh"):
            first, _ = calendar.window(allowance.get("window", "month"), day)
            window = self._midnight(first)
            if window > self.allowance_window:
                self.allowance_window, self.allowance_wh = window, 0
        steps = document["energy"].get("steps")
        if steps is None:
            return lambda key: ()
        days, window = 1, purchase_no
        if steps["window"] != "purchase":
            first, days = calendar.window(steps["window"], day)
            window = self._midnight(first)
            former = self.prices.versions[version - 1][1] if version else document
            if what_is_counted(former) != what_is_counted(document):
                window = max(window, begin)
        if window > self.window or (steps["window"] == "purchase" and window != self.window):
            self.window, self.counts = window, {}
        members, contracted_w = self.customer.terms_at(self.window)
        factors = {"none": 1, "days": days, "members": members, "contracted_kw": contracted_w}
        factor = Fraction(factors[steps.get("scale", "none")])
        if steps.get("scale") == "contracted_kw":
            factor /= 1000
        per_member = [wh_of(each) for each in steps.get("members", {}).get("add", ())]
        more = max(0, members - steps.get("members", {}).get("included", 0))

        def limits(key: str) -> Sequence[int]:
            if key == ANNOUNCED and steps.get("scope") == "each":
                return ()
            written = steps.get("limits") or document["energy"]["bands"][key]["limits"]
            if isinstance(written, Mapping):
                written = written[calendar.season(day)]
            if per_member:
                added = zip(written, per_member, strict=False)
                return [wh_of(each) + more * add for each, add in added]
            return [floor(wh_of(each) * factor) for each in written]

        return limits

    def _midnight(self, day: date) -> int:
        local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.prices.time_zone))
        return (local - EPOCH) // timedelta(microseconds=1)

    def _count(self, document: Mapping[str, Any], key: str) -> int:
        if document["energy"].get("steps", {}).get("scope") == "each":
            return self.counts.get(key, 0)
        return sum(self.counts.values())

    def _cost(
        self, document: Mapping[str, Any], limits: Callable[[str], Sequence[int]], written: Fraction
    ) -> Fraction:
        """What the counted usage costs if every band is at the price of the step reached."""
        total = Fraction(0)
        for key, count in self.counts.items():
            if key not in document["energy"]["bands"]:
                continue
            step = sum(limit < self._count(document, key) for limit in limits(key))
            price = _at_step(_step_prices(document, key), step)
            total += _times(count, _net(price, written))
        return total

    def _charge(
        self,
        document: Mapping[str, Any],
        at_us: int,
        day: date,
        energy_wh: int,
        charge: Fraction,
        energy_tax: Fraction,
        free: bool,
    ) -> None:
        self.energy += charge
        written, fee_tax = shares(document, "fee", day, self.customer.exempt_at(at_us))
        fees = Fraction(0)
        ppb = 0
        for fee in document.get("fees", ()):
            if "per_kwh" in fee:
                fees += _times(energy_wh, _net(nano_of(fee["per_kwh"]), written))
            if "share" in fee:
                ppb += half_even(Fraction(fee["share"]) * 10**7 / written)
        fees += _share(charge, Fraction(ppb, 10**9))
        self.fee += fees
        energy_share, fee_share = (
            Fraction(half_even(each * 10**9), 10**9) for each in (energy_tax, fee_tax)
        )
        tax_on_energy = _share(charge, energy_share)
        self.tax += tax_on_energy + _share(fees, fee_share)
        for allowance in _allowances(document, "per_kwh"):
            self.subsidy -= _times(energy_wh, nano_of(allowance["per_kwh"]))
        if free:
            self.subsidy -= charge + tax_on_energy


def _share(amount: Fraction, share: Fraction) -> Fraction:
    """A share, to a billionth of a micro-unit, halves up."""
    return Fraction(floor(amount * share * 10**9 + Fraction(1, 2)), 10**9)


ANNOUNCED = "(announced)"


def _step_prices(document: Mapping[str, Any], band: str) -> list[int]:
    entry = document["energy"]["bands"][band]
    return [nano_of(each) for each in entry.get("prices", [entry.get("price")])]


def _at_step(prices: Sequence[int], step: int) -> int:
    return prices[min(step, len(prices) - 1)]


def _net(nano: int, written: Fraction) -> int:
    return half_even(nano / written)


def _times(energy_wh: int, nano: int) -> Fraction:
    """Micro-units of energy at a price per kWh."""
    return Fraction(energy_wh * nano, 10**6)


def _allowances(document: Mapping[str, Any], form: str) -> list[Mapping[str, Any]]:
    return [each for each in document.get("allowances", ()) if form in each]


def announced_prices(
    document: Mapping[str, Any], band: str, holding: Sequence[Announced]
) -> tuple[list[int], bool]:
    """(the price of each step as written while announcements hold, whether it is their own)."""
    prices, own = _step_prices(document, band), False
    # The real-time price first, the critical peak on top of it.
    overlays = sorted(document.get("overlays", ()), key=lambda each: each["kind"] != "real_time")
    for overlay in overlays:
        events = [
            each
            for each in holding
            if (each.kind, each.group) == (overlay["kind"], overlay["group"])
        ]
        if not events:
            continue
        adder = nano_of(overlay.get("adder", "0"))
        if overlay["kind"] == "real_time":
            share = Fraction(overlay.get("share", "100")) / 100
            prices, own = [half_even(events[-1].price_nano * share) + adder], True
        elif "price" in overlay:
            prices, own = [nano_of(overlay["price"])], True
        else:
            prices = [each + adder for each in prices]
    return prices, own


def _count_key(document: Mapping[str, Any], band: str, own: bool) -> str:
    steps = document["energy"].get("steps", {})
    if steps.get("kind") != "whole_usage" and steps.get("scope") != "each":
        return "(all)"
    return ANNOUNCED if own else band


def what_is_counted(document: Mapping[str, Any]) -> object:
    """Equal for versions whose counts go on from one to the other."""
    energy = document["energy"]
    steps = energy.get("steps")
    if steps is None:
        return object()
    kind, scope = steps.get("kind", "graduated"), steps.get("scope", "all")
    begins = {
        "billing_month": document.get("billing_day", 1),
        "year": document.get("year_from", "01-01"),
        "season": repr(energy.get("seasons")),
    }
    same = [kind, scope, steps["window"], begins.get(steps["window"])]
    if (kind, scope) != ("graduated", "all"):
        overlays = document.get("overlays", ())
        own = any(each["kind"] == "real_time" or "price" in each for each in overlays)
        same += [sorted(energy["bands"]), own]
    return same
