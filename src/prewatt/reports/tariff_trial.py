"""What the trial of a draft shows: progress, who pays more, who would have been cut, which rules hold.

The figures are those of ``TariffTrial.result``; names are joined for the page that shows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from prewatt.core.price_rules import Outcome, Severity
from prewatt.core.tariff import Tariff
from prewatt.core.trial import Bin, Totals
from prewatt.reports.tariff_changes import Change
from prewatt.reports.tariff_pages import DraftLine
from prewatt.reports.today import Place


class Show(StrEnum):
    """Which accounts of a trial are listed."""

    ALL = "all"
    MORE = "more"
    LESS = "less"
    SAME = "same"
    CUT = "cut"


class Group(StrEnum):
    """The accounts that are on this tariff now, or every account of the property."""

    OWN = "own"
    ALL = "all"


class Sort(StrEnum):
    """By the change in money, by its share of what was paid, by what was paid, by unit."""

    CHANGE = "change"
    SHARE = "share"
    BEFORE = "before"
    UNIT = "unit"


@dataclass(frozen=True, slots=True)
class TrialAccount:
    """One account: what it was charged and what the draft would have charged, in micro-units.

    ``first_cut_day`` is the first day whose end the draft would have left without credit;
    ``was_cut`` says that this happened under the present plan too.
    """

    account_id: int
    number: str
    unit: str
    customer: str
    energy_wh: int
    before_micro: int
    after_micro: int
    first_cut_day: date | None
    was_cut: bool

    @property
    def change_micro(self) -> int:
        """What it would have paid more; below zero: less."""
        return self.after_micro - self.before_micro

    @property
    def change_ppm(self) -> int | None:
        """The change as a share of what was paid; None where nothing was."""
        if self.before_micro <= 0:
            return None
        return self.change_micro * 1_000_000 // self.before_micro

    @property
    def would_be_cut(self) -> bool:
        """Whether the draft alone would have used up its credit."""
        return self.first_cut_day is not None and not self.was_cut


@dataclass(frozen=True, slots=True)
class RuleLine:
    """A price rule of the place and how the draft stands to it; ``outcome`` None: it holds.

    Not ``is_looked_at``: the trial knew no such rule and says nothing of it.

    ``measured_ppm`` is the worst ratio, ``units`` are some of those above a cap, ``why`` says why it
    could not be checked.
    """

    code: str
    text: str
    severity: Severity
    outcome: Outcome | None
    at_most_ppm: int
    measured_ppm: int | None = None
    accounts: int = 0
    units: tuple[str, ...] = ()
    why: str = ""
    is_looked_at: bool = True


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What a finished trial found for a group of accounts. ``until`` is the first day after it.

    A trial rates every account of the property; ``own`` of them are on this tariff now. ``rows`` are
    those of the selection, ``found`` how many it has in all.
    """

    begins: date
    until: date
    group: Group
    own: int
    everybody: int
    totals: Totals
    bins: tuple[Bin, ...]
    rows: tuple[TrialAccount, ...]
    found: int
    largest: TrialAccount | None
    more_micro: int
    rules: tuple[RuleLine, ...]
    left_out: tuple[str, ...]

    @property
    def days(self) -> int:
        """How many local days were rated."""
        return (self.until - self.begins).days

    @property
    def change_micro(self) -> int:
        """What the whole property would have paid more."""
        return self.totals.drafted_micro - self.totals.charged_micro

    @property
    def change_ppm(self) -> int | None:
        """The same as a share of what it paid."""
        if self.totals.charged_micro <= 0:
            return None
        return self.change_micro * 1_000_000 // self.totals.charged_micro

    @property
    def more_each_micro(self) -> int:
        """What those who pay more pay more on average."""
        return self.more_micro // self.totals.pay_more if self.totals.pay_more else 0


@dataclass(frozen=True, slots=True)
class TrialLine:
    """One trial of a draft: which edition, over how many days, how far it has come."""

    trial_id: int
    edition: int
    days: int
    state: str
    done: int
    total: int
    failure: str
    asked_by: str
    asked_at: datetime
    finished_at: datetime | None

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("queued", "running")


@dataclass(frozen=True, slots=True)
class Tried:
    """What a trial came to, for those who are on the plan; for everybody where nobody is."""

    days: int
    totals: Totals

    @property
    def change_micro(self) -> int:
        """By how much their charges together would have changed."""
        return self.totals.drafted_micro - self.totals.charged_micro


@dataclass(frozen=True, slots=True)
class TrialPage:
    """A draft's trial: the latest, or the one that was asked for; ``trials`` are all, latest first.

    ``tariff`` is the plan as it was tried, which may be an earlier edition than the draft's.
    """

    place: Place
    now: datetime
    draft: DraftLine
    next_number: int
    in_force_number: int | None
    in_force: Tariff | None
    trials: tuple[TrialLine, ...]
    trial: TrialLine | None
    tariff: Tariff
    changes: tuple[Change, ...]
    rules_name: str
    rules_source: str
    result: TrialResult | None
    #: The proposal of this tariff that waits for a second person.
    waits: int | None = None
