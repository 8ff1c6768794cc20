"""What the account page shows: balance and its proof, what happens if nothing is paid, and why.

As on Today, these classes hold figures and codes; sentences are made by the web, per language.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from prewatt.core.money import moved, shared_out
from prewatt.core.rating import Component
from prewatt.core.vocabulary import (
    BoardState,
    DeliveryState,
    Gate,
    OrderKind,
    OrderState,
    Outcome,
    RelayState,
)
from prewatt.reports.ending import Ending
from prewatt.reports.owed import DebtRow
from prewatt.reports.today import Place

if TYPE_CHECKING:
    from prewatt.reports.tamper import CaseRow


@dataclass(frozen=True, slots=True)
class Holder:
    """Who and what the account is: the head of the page."""

    account_id: int
    number: str
    unit: str
    unit_kind: str
    building: str
    floor: int
    customer: str
    since: datetime | None
    meters: tuple[str, ...]
    tariff: str
    tariff_version: int
    unit_id: int = 0
    #: When the account closed: it takes no more recharges, and nobody is supplied by it.
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """Posted minus used since posting is available; emergency credit is counted apart."""

    posted_micro: int
    used_micro: int
    used_wh: int
    used_since: datetime | None
    emergency_limit_micro: int
    emergency_used_micro: int
    as_of: datetime | None

    @property
    def available_micro(self) -> int:
        """What the customer has, without emergency credit; below zero when that is in use."""
        return self.posted_micro - self.used_micro

    @property
    def used_out(self) -> int:
        """What was used since the last posting, as money that left, as it is shown between balances."""
        return moved(self.available_micro, -self.used_micro)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What happens if nothing is paid. ``runs_out_at`` is None when usage is too small to say.

    ``runs_out_early_at`` and ``runs_out_late_at`` bound it by the quickest and slowest days of the
    last two weeks.
    """

    runs_out_at: datetime | None
    runs_out_early_at: datetime | None = None
    runs_out_late_at: datetime | None = None
    emergency_ends_at: datetime | None = None
    earliest_cut_at: datetime | None = None
    hours_left: int | None = None


@dataclass(frozen=True, slots=True)
class CutHours:
    """When supply may be cut at all: minutes of the local day, half-open, and weekdays from 0 Monday."""

    opens_min: int
    closes_min: int
    weekdays: frozenset[int]


@dataclass(frozen=True, slots=True)
class GateLine:
    """One gate before a cut: ``open`` lets the cut pass. ``at`` and ``amount_micro`` are its figure."""

    gate: Gate
    open: bool
    at: datetime | None = None
    amount_micro: int | None = None
    #: A case of tampering withholds supply, whatever the balance.
    is_withheld: bool = False


@dataclass(frozen=True, slots=True)
class PriceBand:
    """A band of the current tariff version; ``order`` 1 is the cheapest."""

    code: str
    label: str
    price_nano: int
    order: int


@dataclass(frozen=True, slots=True)
class UsageDay:
    """One local day: energy by band code, charges, and the available balance at its end."""

    day: date
    wh: dict[str, int]
    charge_micro: int
    recharged_micro: int
    balance_micro: int
    estimated: bool = False
    complete: bool = True

    @property
    def total_wh(self) -> int:
        """All bands together."""
        return sum(self.wh.values())

    @property
    def charge_out(self) -> int:
        """The day's charges as money that left, as it is shown between the balances of two days."""
        came, left = (
            self.recharged_micro,
            moved(self.balance_micro, self.recharged_micro - self.charge_micro),
        )
        return left - shared_out(came, [came])[0]


@dataclass(frozen=True, slots=True)
class BalancePoint:
    """The available balance from ``at`` on."""

    at: datetime
    micro: int


class EntryKind(StrEnum):
    """What a line of the timeline is about."""

    USAGE = "usage"
    RECHARGE = "recharge"
    REVERSAL = "reversal"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"
    WRITE_OFF = "write_off"
    OPENING = "opening"
    SUBSIDY = "subsidy"
    CORRECTION = "correction"
    DAILY = "daily"
    DEPOSIT = "deposit"
    DEBT = "debt"
    DEBT_RECOVERY = "debt_recovery"
    MOVE = "move"
    ORDER = "order"
    MESSAGE = "message"
    DECISION = "decision"
    HELD = "held"


#: Entries that open into readings, prices and taxes (``reports.charge_query``).
CHARGES = frozenset({EntryKind.USAGE, EntryKind.DAILY, EntryKind.CORRECTION})


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of *Every change*; which fields are set depends on ``kind``.

    ``key`` is unique on the page and grows with time within its kind. ``lines`` is the inclusive
    range of the account's transfer numbers, ``service`` the half-open range of service days.
    ``corrects_id`` is the recharge that a reversal or a move takes back. ``parts`` is what each component adds to or takes from the wallet, where there are several.
    """

    key: str
    kind: EntryKind
    at: datetime
    amount_micro: int | None = None
    balance_micro: int | None = None
    lines: tuple[int, int] | None = None
    service: tuple[date, date] | None = None
    wh: dict[str, int] = field(default_factory=dict)
    event_id: int | None = None
    parts: tuple[tuple[Component, int], ...] = ()
    method: str = ""
    reference: str = ""
    by: str = ""
    order: OrderState | None = None
    order_kind: OrderKind | None = None
    reason: str = ""
    outcome: Outcome | None = None
    message: str = ""
    level: str = ""
    delivery: DeliveryState | None = None
    channel: str = ""
    contact: str = ""
    took_ms: int | None = None
    confirmed_at: datetime | None = None
    note: str = ""
    would_have: bool = False
    corrects_id: int | None = None
    #: When a charge was booked; its service days say what it is for.
    booked_at: datetime | None = None

    @property
    def shown_micro(self) -> int | None:
        """The amount to the cent, so that it leads from the balance before it to the one after."""
        if self.amount_micro is None or self.balance_micro is None:
            return self.amount_micro
        return moved(self.balance_micro, self.amount_micro)

    @property
    def shown_parts(self) -> tuple[tuple[Component, int], ...]:
        """The parts to the cent; they come to the amount as it is shown."""
        amounts = shared_out(self.shown_micro or 0, [amount for _, amount in self.parts])
        return tuple((part, amount) for (part, _), amount in zip(self.parts, amounts, strict=True))

    @property
    def is_late(self) -> bool:
        """Whether a charge was booked on another day than it is for, as corrections are."""
        return self.kind is EntryKind.CORRECTION and self.booked_at is not None

    @property
    def total_wh(self) -> int:
        """All bands together."""
        return sum(self.wh.values())

    @property
    def opens(self) -> bool:
        """Whether the line opens into what it is made of."""
        return self.kind in CHARGES and self.event_id is not None

    @property
    def line_text(self) -> str:
        """`420`, or `413–417`."""
        if self.lines is None:
            return ""
        first, last = self.lines
        return str(first) if first == last else f"{first}–{last}"


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One supply order from decision to read-back; ``failure`` says why it is not done, if known."""

    order_id: int
    account_id: int
    unit: str
    customer: str
    meter: str
    kind: OrderKind
    state: OrderState
    reason: str
    decided_at: datetime
    sent_at: datetime | None
    acknowledged_at: datetime | None
    verified_at: datetime | None
    tries: int
    failure: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class LastReading:
    """The meter's latest accepted reading."""

    at: datetime
    register_wh: int
    power_w: int | None = None


@dataclass(frozen=True, slots=True)
class InMeter:
    """The credit that the meter itself holds, as it signed last. ``on_way_micro`` it has not signed for yet.

    Where it is to hold none any more, ``because`` is a word of `WalletEnd`; ``is_case`` where it does not sign that.
    """

    meter_id: int
    balance_micro: int | None
    on_way_micro: int
    said_at: datetime | None
    differs: bool
    because: str = ""
    release_at: datetime | None = None
    is_case: bool = False

    @property
    def is_releasing(self) -> bool:
        """Whether the meter is told that it holds none, and has not signed it."""
        return self.release_at is not None


@dataclass(frozen=True, slots=True)
class AccountPage:
    """Everything on the page at the instant ``now``."""

    place: Place
    now: datetime
    holder: Holder
    state: BoardState
    relay: RelayState
    balance: Balance
    outlook: Outlook
    gates: tuple[GateLine, ...]
    cut_hours: CutHours
    bands: tuple[PriceBand, ...]
    days: tuple[UsageDay, ...]
    points: tuple[BalancePoint, ...]
    entries: tuple[Entry, ...]
    orders: tuple[OrderLine, ...]
    reading: LastReading | None
    more_entries: bool
    last_line: int
    debts: tuple[DebtRow, ...] = ()
    #: Where the meter holds the credit.
    in_meter: InMeter | None = None
    #: What a closed account ended with.
    ending: Ending | None = None
    #: Cases of tampering that are open.
    cases: tuple[CaseRow, ...] = ()

    @property
    def is_withheld(self) -> bool:
        """Whether a case of tampering withholds supply, whatever the balance."""
        return any(line.is_withheld for line in self.gates)

    @property
    def closed_gates(self) -> tuple[GateLine, ...]:
        """The gates that hold a cut now."""
        return tuple(line for line in self.gates if not line.open)
