"""What a tariff version says, after it was checked: plain immutable values, positions, integers.

Prices are int64 nano-units of the currency (per kWh, per kW, per day …), energy is whole Wh,
shares are parts per million. Nothing here computes; `parse` makes these values from a document
and refuses what is not a tariff, `document` writes the one canonical form back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

MAX_BANDS: Final = 64
MAX_STEPS: Final = 16
DAY_KINDS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday")
"""In the order of `LocalCalendar.day_kind`."""


class StepKind(StrEnum):
    """Graduated: each step's price holds for what lies in that step. Whole usage: the price of
    the step that was reached holds for everything used in the window, from its first Wh.
    """

    GRADUATED = "graduated"
    WHOLE_USAGE = "whole_usage"


class Window(StrEnum):
    """The stretch of local days after which a count begins again.

    A billing month begins on the tariff's `billing_day`; a season window begins where a season
    begins; a purchase window begins at the first interval that starts at or after a recharge.
    """

    DAY = "day"
    MONTH = "month"
    BILLING_MONTH = "billing_month"
    QUARTER = "quarter"
    SEASON = "season"
    YEAR = "year"
    PURCHASE = "purchase"


class StepScope(StrEnum):
    """Whether all bands count together towards one set of limits, or each band by itself."""

    ALL = "all"
    EACH = "each"


class Scale(StrEnum):
    """What a limit is multiplied with: nothing, the days of the window, the persons of the
    household, or the contracted kW (in W ÷ 1000, cut off to whole Wh).
    """

    NONE = "none"
    DAYS = "days"
    MEMBERS = "members"
    CONTRACTED_KW = "contracted_kw"


class Per(StrEnum):
    """What a dated amount is per. Month and year amounts fall to their days in equal exact parts
    (amount ÷ days of that month, or of that year).
    """

    DAY = "day"
    MONTH = "month"
    YEAR = "year"


class Collect(StrEnum):
    """Daily at each local midnight, or the whole month at its first recharge."""

    DAILY = "daily"
    FIRST_RECHARGE = "first_recharge"


class OnTenantChange(StrEnum):
    """Whether a new tenant starts with an empty step count, or goes on with the unit's."""

    RESET = "reset"
    CARRY = "carry"


@dataclass(frozen=True, slots=True)
class Band:
    """A price band. `prices_nano_per_kwh` has one price per step of every season in which the band
    is used, or one that holds at every step. `limits_wh` are its own limits where each band counts
    by itself; either every band has them or none.
    """

    name: str
    label: str
    prices_nano_per_kwh: tuple[int, ...]
    limits_wh: tuple[int, ...] = ()

    @property
    def price_nano_per_kwh(self) -> int:
        """The price of the first step."""
        return self.prices_nano_per_kwh[0]


@dataclass(frozen=True, slots=True)
class Season:
    """`ranges` are half-open (from, until) positions on the 366-day grid, `until` ≤ 366, sorted."""

    name: str
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class DayClass:
    """`kinds` are positions in `DAY_KINDS`."""

    name: str
    kinds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Period:
    """[from_minute, until_minute) of a wall-clock day at the band with this position in
    `Tariff.bands`.
    """

    from_minute: int
    until_minute: int
    band: int


@dataclass(frozen=True, slots=True)
class DaySchedule:
    """The periods of one day for one (season, day class), by position; they cover 0 to 1440."""

    season: int
    day_class: int
    periods: tuple[Period, ...]


@dataclass(frozen=True, slots=True)
class Steps:
    """Where prices change with use.

    `limits_wh[season]` are the increasing upper limits in Wh of all steps but the last, before
    scaling; seasons may differ in number and size, and a season without limits has one step. All
    of it is empty where each band has limits of its own. Where graduated limits differ by season,
    those of the season in force hold, also in a window that spans two; whole-usage limits differ
    only where no window does.
    With `scale` MEMBERS and a non-empty `add_wh`, limit i is
    limits[i] + add[i] × max(0, members − members_included), and `add_wh` never decreases, so that
    limits stay in order; otherwise limits × the scale's factor.
    """

    kind: StepKind
    window: Window
    scope: StepScope
    limits_wh: tuple[tuple[int, ...], ...]
    scale: Scale = Scale.NONE
    members_included: int = 0
    add_wh: tuple[int, ...] = ()
    on_tenant_change: OnTenantChange = OnTenantChange.RESET


class DatedKind(StrEnum):
    """What an amount per time is: a standing charge, or the property's own service fee."""

    STANDING = "standing"
    FEE = "fee"


@dataclass(frozen=True, slots=True)
class DatedCharge:
    """An amount that falls due by days whether or not energy is used, disconnected or not. `code`
    is unlike that of every other charge and allowance of the tariff.
    """

    kind: DatedKind
    code: str
    label: str
    per: Per
    amount_nano: int
    collect: Collect = Collect.DAILY


@dataclass(frozen=True, slots=True)
class UsageFee:
    """A property service fee per kWh (`nano_per_kwh`), or as a share of the energy charge
    (`share_ppm`); one of the two is 0.
    """

    code: str
    label: str
    nano_per_kwh: int
    share_ppm: int


@dataclass(frozen=True, slots=True)
class Bound:
    """A minimum or maximum of energy + standing charges (+ demand) per month or year, before tax;
    settled as a difference after the period's last day, prorated by days for a part of it.
    """

    per: Per
    amount_nano: int


@dataclass(frozen=True, slots=True)
class Demand:
    """A charge per kW and month on the highest mean power of any `interval_minutes` of the month.

    Counts only in `bands` (positions; empty: always). With a ratchet, billed demand is at least
    `ratchet_ppm` of the highest of the `ratchet_months` months before. With `power_factor_ppm`,
    billed demand is multiplied by least ÷ measured where the measured power factor is lower.
    Falls due by days with a true-up whenever the month's highest rises.
    """

    code: str
    label: str
    price_nano_per_kw: int
    interval_minutes: int
    bands: tuple[int, ...] = ()
    ratchet_ppm: int = 0
    ratchet_months: int = 0
    power_factor_ppm: int = 0


class Taxable(StrEnum):
    """The parts of a bill that a tax can be on; MINIMUM is what a minimum adds or a maximum takes
    off.
    """

    ENERGY = "energy"
    STANDING = "standing"
    FEE = "fee"
    DEMAND = "demand"
    MINIMUM = "minimum"


@dataclass(frozen=True, slots=True)
class Tax:
    """One tax, dated by local days (`valid_until` is the first day without it; None: open).

    `inclusive`: the prices it is on contain it. `compound`: it is also on the taxes listed before
    it. An account can be exempt from a tax by its code; one code occurs again only for other dates.
    """

    code: str
    label: str
    rate_ppm: int
    on: tuple[Taxable, ...]
    inclusive: bool = False
    compound: bool = False
    valid_from: date | None = None
    valid_until: date | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """Energy or money that somebody else pays for, out of the funding account `code`.

    `kwh` form: the first `free_wh` Wh of each window cost the customer nothing; what is left at
    the window's end expires. Rebate form: `rebate_nano_per_kwh` off every kWh. One of both is 0
    (a rebate's `window` says nothing), and a tariff has at most one of each.
    """

    code: str
    label: str
    free_wh: int
    window: Window
    rebate_nano_per_kwh: int


WAIT_HOURS: Final = 24
"""How long after an event its rebate waits for readings, where a tariff does not say."""


class OverlayKind(StrEnum):
    """Critical peak: announced events at an own price or on top. Real time: a price series."""

    CRITICAL_PEAK = "critical_peak"
    REAL_TIME = "real_time"


@dataclass(frozen=True, slots=True)
class Overlay:
    """Prices that are announced by day for a group of accounts.

    Critical peak: during an event of `group` the price is `price_nano_per_kwh`, or the band's own
    price + `adder_nano_per_kwh`; `rebate_nano_per_kwh` is paid for each kWh below the customer's
    baseline: the mean of the same hours of the last `baseline_days` eligible days, or of the
    `baseline_highest` among them (0: of all). It is settled `wait_hours` after the event's end.
    Real time: the price is the group's series × `share_ppm` + `adder_nano_per_kwh`, and the band's
    own price where the series has a gap.
    """

    kind: OverlayKind
    group: str
    price_nano_per_kwh: int | None = None
    adder_nano_per_kwh: int = 0
    share_ppm: int = 1_000_000
    rebate_nano_per_kwh: int = 0
    baseline_days: int = 0
    baseline_highest: int = 0
    wait_hours: int = WAIT_HOURS


@dataclass(frozen=True, slots=True)
class DebtRecovery:
    """At most `share_ppm` of each recharge goes to an agreed debt, and never more than
    `weekly_cap_nano` in seven days (0: no cap).
    """

    share_ppm: int
    weekly_cap_nano: int


class BoothUnit(StrEnum):
    """What a temporary place is let by."""

    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Temporary:
    """A plan that closes and refunds itself: a booth by hour or day with a deposit, or a merchant
    season. `fee_nano` per started unit; `deposit_nano` is returned at the end. `season` is a
    (from, until) pair of grid positions outside of which the plan does not hold, or None; it
    passes the new year where `until` < `from`.
    """

    unit: BoothUnit
    fee_nano: int
    deposit_nano: int
    season: tuple[int, int] | None = None


@dataclass(frozen=True)
class Tariff:
    """The checked content of one tariff version: immutable, hashable, with one canonical form
    (`document.canonical_json`, `document.digest`).

    `schedules` has one entry per (season, day class) in that order. `year_from` is the grid
    position on which year windows begin, `billing_day` (1–28) the day of billing months.
    `note` is for people, `source` names the law or price sheet; neither changes a price.
    """

    name: str
    currency: str
    bands: tuple[Band, ...]
    seasons: tuple[Season, ...]
    day_classes: tuple[DayClass, ...]
    schedules: tuple[DaySchedule, ...]
    steps: Steps | None = None
    dated: tuple[DatedCharge, ...] = ()
    usage_fees: tuple[UsageFee, ...] = ()
    minimum: Bound | None = None
    maximum: Bound | None = None
    demand: tuple[Demand, ...] = ()
    taxes: tuple[Tax, ...] = ()
    allowances: tuple[Allowance, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    debt: DebtRecovery | None = None
    temporary: Temporary | None = None
    billing_day: int = 1
    year_from: int = 0
    note: str = ""
    source: str = ""

    @property
    def is_flat(self) -> bool:
        """Whether one price holds at all times and for every Wh."""
        used = {self.bands[p.band].prices_nano_per_kwh for s in self.schedules for p in s.periods}
        return len(used) == 1 and len(set(next(iter(used)))) == 1 and not self.overlays
