"""What the Today page shows: can anyone be cut, where to look, who to call, and whether money fits.

The classes here are the page's whole contract. They hold figures and codes, never sentences, so the
same view model is rendered in every language and can be built by hand in a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from prewatt.core.vocabulary import BoardState
from prewatt.vending.sums import Proof


@dataclass(frozen=True, slots=True)
class Place:
    """The property a page is about: its name, its currency (ISO 4217) and its civil time (IANA)."""

    property_id: int
    name: str
    currency: str
    time_zone: str


@dataclass(frozen=True, slots=True)
class BoardUnit:
    """One window of the façade. ``hours_left`` is None when usage is too small to say, or vacant."""

    unit_id: int
    account_id: int | None
    code: str
    state: BoardState
    hours_left: int | None

    @property
    def level_tenths(self) -> int:
        """Length of the line under the number, in tenths of a day, full at 14 days."""
        if self.hours_left is None:
            return 140
        return max(0, min(140, self.hours_left * 10 // 24))


@dataclass(frozen=True, slots=True)
class Floor:
    """One storey, its windows from left to right."""

    floor: int
    units: tuple[BoardUnit, ...]


@dataclass(frozen=True, slots=True)
class House:
    """One building, top floor first; ``kinds`` counts its units by kind, most frequent first."""

    building_id: int
    name: str
    kinds: tuple[tuple[str, int], ...]
    floors: tuple[Floor, ...]

    @property
    def wide(self) -> bool:
        """Whether the building is a row of units rather than a tower, and takes the full width."""
        return max((len(floor.units) for floor in self.floors), default=0) > 9


@dataclass(frozen=True, slots=True)
class Figures:
    """The five figures of the strip, with the line under each."""

    units: int
    supplied: int
    vacant: int
    cut: int
    soon: int
    soon_warned: int
    money_in_micro: int
    recharges: int
    energy_out_micro: int
    energy_out_wh: int

    @property
    def soon_not_warned(self) -> int:
        """Those who run out soon and whom no warning has reached."""
        return self.soon - self.soon_warned


class NeedKind(StrEnum):
    """What may need a person, in the order of harm in which the page sorts it."""

    PAID_NOT_CONFIRMED = "paid_not_confirmed"
    SILENT = "silent"
    TAMPER = "tamper"
    USED_WHILE_OPEN = "used_while_open"
    RELAY_OPEN = "relay_open"
    RELAY_CLOSED = "relay_closed"
    FOREIGN_ANSWER = "foreign_answer"
    HELD_READING = "held_reading"
    WARNING_NOT_DELIVERED = "warning_not_delivered"
    BRAKE = "brake"


@dataclass(frozen=True, slots=True)
class Need:
    """One line of *Needs you*; which of the figures are set depends on ``kind``.

    ``key`` names the line for the page, so that a live update can tell old lines from new ones.
    ``count`` is the number of silent meters, of tries, or of held readings; ``wh`` what was used.
    """

    key: str
    kind: NeedKind
    at: datetime
    unit: str = ""
    account_id: int | None = None
    place: str = ""
    floor: int | None = None
    amount_micro: int | None = None
    count: int = 0
    wh: int = 0


class Warned(StrEnum):
    """How far the warning of an account came."""

    NONE = "none"
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Ending:
    """One account of *Runs out next*."""

    account_id: int
    unit: str
    state: BoardState
    runs_out_at: datetime
    balance_micro: int
    warned: Warned
    warned_at: datetime | None


@dataclass(frozen=True, slots=True)
class HourFlow:
    """Money received and usage charged in the local clock hour that begins at ``hour`` (0 to 24)."""

    hour: int
    in_micro: int
    out_micro: int


@dataclass(frozen=True, slots=True)
class Today:
    """Everything on the page at the instant ``now``.

    ``cuts_until`` is the end of the permitted window when it is open now; ``cuts_from`` its next
    opening when it is not. Both are None where the property never cuts. ``flow_hours`` is 23, 24
    or 25. ``methods`` breaks the money in down by method; ``held_micro`` is the
    unused credit of all customers together; nobody's emergency credit is set against it. ``proof``
    is the latest that was kept, as of ``proved_at``.
    """

    place: Place
    now: datetime
    meters: int
    meters_fresh: int
    fresh_minutes: int
    cuts_from: datetime | None
    cuts_until: datetime | None
    figures: Figures
    houses: tuple[House, ...]
    needs: tuple[Need, ...]
    endings: tuple[Ending, ...]
    flow: tuple[HourFlow, ...]
    flow_hours: int
    now_hour_tenths: int
    methods: tuple[tuple[str, int], ...]
    held_micro: int
    proof: Proof | None = None
    proved_at: datetime | None = None

    def state_counts(self) -> tuple[tuple[BoardState, int], ...]:
        """Units per state in the order of the key: on, low, emergency … protected."""
        counts = dict.fromkeys(KEY_ORDER, 0)
        for house in self.houses:
            for floor in house.floors:
                for unit in floor.units:
                    counts[unit.state] += 1
        return tuple(counts.items())


#: The board's key reads from quiet to loud, column by column.
KEY_ORDER = (
    BoardState.ON,
    BoardState.LOW,
    BoardState.EMERGENCY,
    BoardState.CUT,
    BoardState.OFFLINE,
    BoardState.VACANT,
    BoardState.TAMPER,
    BoardState.PROTECTED,
)
