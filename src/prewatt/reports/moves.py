"""What the pages of moves show: the form with what is there now, and the hand-over when it is done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prewatt.reports.customers import Picker
from prewatt.reports.estate import UnitPage
from prewatt.reports.today import Place


@dataclass(frozen=True, slots=True)
class Choice:
    """Something to choose by its code."""

    code: str
    name: str


@dataclass(frozen=True, slots=True)
class MoveForm:
    """The unit before a move. ``charged_meters`` are those whose registers a move needs.

    ``silent`` says that a register must be read by a person.
    """

    unit: UnitPage
    charged_meters: tuple[FormMeter, ...]
    tariffs: tuple[Choice, ...]
    picker: Picker
    tariff: str
    available_micro: int
    number: str
    minor_digits: int

    @property
    def silent(self) -> bool:
        """Whether any meter's own register cannot be taken."""
        return any(each.silent for each in self.charged_meters)


@dataclass(frozen=True, slots=True)
class FormMeter:
    """A meter that is paid by, as it stands."""

    meter_id: int
    serial: str
    last_at: datetime | None
    last_wh: int | None
    silent: bool

    @property
    def field(self) -> str:
        """The name of its register's field in a form."""
        return f"register_{self.meter_id}"


@dataclass(frozen=True, slots=True)
class HandedRegister:
    """A meter with the register that one payer ended and the next began with."""

    serial: str
    value_wh: int


@dataclass(frozen=True, slots=True)
class HandedParty:
    """Who left or came, with the account as it stands now. An empty customer is the owner."""

    account_id: int
    number: str
    customer: str
    since: datetime | None
    until: datetime | None
    available_micro: int
    refund_due_micro: int
    refund_number: int | None
    debt_micro: int
    closed: bool


@dataclass(frozen=True, slots=True)
class HandOver:
    """A boundary between two payers of a unit, as it stands in the books for ever."""

    place: Place
    now: datetime
    unit_id: int
    unit: str
    building: str
    at: datetime
    registers: tuple[HandedRegister, ...]
    former: HandedParty | None
    next: HandedParty | None
    done_by: str
    done_at: datetime | None
