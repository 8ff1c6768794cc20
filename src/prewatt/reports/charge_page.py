"""A charge opened into what it is made of: readings, band, step, price, fee, tax, subsidy.

A charge is what one event booked under one service day: usage, amounts by the day, or a correction.
Its lines are the transfers themselves; the readings are the intervals that the posting closed, so that
the one can be checked against the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from prewatt.core.baseline import Outcome
from prewatt.core.rating import Component
from prewatt.core.tariff import Tariff
from prewatt.reports.account import EntryKind
from prewatt.reports.today import Place


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring segments of one meter at one price: [from_at, until_at).

    ``begin_wh`` and ``end_wh`` are the register readings around it. Charges are micro-units as they
    were counted; ``taken_back`` are segments that a correction reverses, with negative figures.
    ``free`` is energy that an allowance pays for, tax and all.
    """

    from_at: datetime
    until_at: datetime
    begin_wh: int
    end_wh: int
    segments: int
    version_id: int
    band: int
    step: int
    price_nano_per_kwh: int
    energy_wh: int
    energy_micro: int
    added_micro: int
    subsidy_micro: int
    is_estimated: bool
    taken_back: bool
    free: bool

    @property
    def total_micro(self) -> int:
        """All components together, as the customer pays them."""
        return self.energy_micro + self.added_micro + self.subsidy_micro


@dataclass(frozen=True, slots=True)
class Rebated:
    """An announced peak [from_at, until_at) that a rebate is for: what was used in it, and the mean
    of the ``counted`` days of ``days`` that it was compared with, cut off to whole Wh.
    """

    outcome: Outcome
    from_at: datetime
    until_at: datetime
    used_wh: int
    usual_wh: int
    counted: int
    days: int
    rebate_nano: int


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One transfer, or those of a component, band, step and code together; ``amount_micro`` is what
    it adds to the wallet. ``tariff`` is the plan that the code or band belongs to, if it is known.

    ``price_nano_per_kwh`` is None where several prices are in it. ``peak_w`` is the highest power of
    the month so far, for a demand charge; ``rebated`` what a rebate compares.
    """

    component: Component
    amount_micro: int
    tariff: Tariff | None
    band: int = 0
    step: int = 0
    code: str = ""
    energy_wh: int = 0
    price_nano_per_kwh: int | None = None
    tax_rate_ppm: int = 0
    peak_w: int | None = None
    rebated: Rebated | None = None


@dataclass(frozen=True, slots=True)
class Corrected:
    """A transfer that is corrected: what it came to before and after this correction."""

    seq: int
    day: date
    component: Component
    band: int
    step: int
    code: str
    tariff: Tariff | None
    before_micro: int
    difference_micro: int

    @property
    def after_micro(self) -> int:
        """What it comes to now."""
        return self.before_micro + self.difference_micro


@dataclass(frozen=True, slots=True)
class ChargePage:
    """Everything about one charge. ``adds_up`` is None where no readings stand behind it, or where some
    are archived: ``archive`` then names their files.
    """

    place: Place
    now: datetime
    account_id: int
    unit: str
    customer: str
    event_id: int
    kind: EntryKind
    day: date
    booked_at: datetime
    first_line: int
    last_line: int
    lines: tuple[ChargeLine, ...]
    runs: tuple[Run, ...]
    tariffs: dict[int, Tariff]
    corrected: tuple[Corrected, ...]
    adds_up: bool | None
    archive: str = ""

    @property
    def total_micro(self) -> int:
        """What the charge adds to the wallet."""
        return sum(line.amount_micro for line in self.lines)

    @property
    def energy_wh(self) -> int:
        """All energy in it."""
        return sum(line.energy_wh for line in self.lines)
