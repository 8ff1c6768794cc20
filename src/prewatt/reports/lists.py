"""The rows of the console's lists: accounts, supply orders, meters, money and the demo's outbox."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from prewatt.core.accounts import TransferKind
from prewatt.core.vocabulary import BoardState, DeliveryState, RelayState
from prewatt.reports.account import OrderLine
from prewatt.reports.paging import NOWHERE, Neighbours
from prewatt.reports.today import Place, Takings

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One account. ``runs_out_at`` is None when usage is too small to say."""

    account_id: int
    number: str
    unit: str
    building: str
    customer: str
    meter: str
    state: BoardState
    balance_micro: int
    runs_out_at: datetime | None
    day_micro: int


@dataclass(frozen=True, slots=True)
class MeterRow:
    """One meter: when it was last heard, what its relay and register read."""

    meter_id: int
    serial: str
    unit: str
    account_id: int | None
    seen_at: datetime | None
    reading_at: datetime | None
    register_wh: int | None
    relay: RelayState
    fresh: bool
    held: int


@dataclass(frozen=True, slots=True)
class MoneyRow:
    """One recharge as accepted, with its receipt number.

    ``went`` is the TransferKind by which it was taken back: REVERSAL where the payment went back, MOVE
    where the credit went to the right account; None where it stands.
    """

    event_id: int
    account_id: int
    unit: str
    customer: str
    at: datetime
    amount_micro: int
    method: str
    reference: str
    receipt: str
    by: str
    went: TransferKind | None = None


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One message that was, or in a demo would have been, delivered."""

    message_id: int
    account_id: int | None
    unit: str
    to: str
    channel: str
    at: datetime
    code: str
    urgent: bool
    state: DeliveryState
    subject: str
    body: str


# Without slots: Python 3.11 cannot make a frozen, generic class with them.
@dataclass(frozen=True)
class Listing(Generic[Row]):
    """A page of rows with the sums of the whole selection, so that a list never lies by paging."""

    place: Place
    now: datetime
    rows: tuple[Row, ...]
    total: int
    sum_micro: int = 0
    beside: Neighbours = NOWHERE


AccountList = Listing[AccountRow]
OrderList = Listing[OrderLine]
MeterList = Listing[MeterRow]
MessageList = Listing[MessageRow]


@dataclass(frozen=True, slots=True)
class MoneyList(Listing[MoneyRow]):
    """Recharges, and beside their sum what went back and what was paid out in the same days."""

    takings: Takings = field(default_factory=Takings)
