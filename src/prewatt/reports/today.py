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
    """One building, top floor first; ``kinds`` counts its units by kind, most frequent first.

    ``states`` counts all of its units; its floors are here where it ``is_open``, and ``is_cut_off``
    where they are too many for once. ``widest`` is the number of windows on its widest floor.
    """

    building_id: int
    name: str
    kinds: tuple[tuple[str, int], ...]
    states: tuple[tuple[BoardState, int], ...]
    floors: tuple[Floor, ...]
    widest: int
    is_open: bool = True
    is_cut_off: bool = False

    @property
    def wide(self) -> bool:
        """Whether the building is a row of units rather than a tower, and takes the full width."""
        return self.widest > 9

    @property
    def units(self) -> int:
        """How many units it has."""
        return sum(count for _, count in self.states)

    @property
    def loud(self) -> tuple[tuple[BoardState, int], ...]:
        """Its units that are not simply on, by state, the loudest first."""
        return tuple(sorted((each for each in self.states if each[0] in _LOUD), reverse=True))

    @property
    def last_shown(self) -> int | None:
        """The last unit whose window is here, when there are more of them after it."""
        return self.floors[-1].units[-1].unit_id if self.is_cut_off and self.floors else None


@dataclass(frozen=True, slots=True)
class Takings:
    """Sums in micro-units of currency, each of them zero or more; ``net_micro`` may be below zero."""

    received_micro: int = 0
    taken_back_micro: int = 0
    paid_out_micro: int = 0

    @property
    def net_micro(self) -> int:
        """What stayed."""
        return self.received_micro - self.taken_back_micro - self.paid_out_micro

    @property
    def is_plain(self) -> bool:
        """Whether nothing went the other way, so that what was received is all there is to say."""
        return not self.taken_back_micro and not self.paid_out_micro


@dataclass(frozen=True, slots=True)
class Figures:
    """The five figures of the strip, with the line under each."""

    units: int
    supplied: int
    vacant: int
    cut: int
    soon: int
    soon_warned: int
    takings: Takings
    recharges: int
    energy_out_micro: int
    energy_out_wh: int

    @property
    def money_in_micro(self) -> int:
        """What was received today, whatever went back since."""
        return self.takings.received_micro

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
    ``unit_id`` is the unit that gives the line its name.
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
    unit_id: int | None = None


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
    unused credit of all customers together; nobody's emergency credit is set against it. ``whole``
    says that every unit has its window on the board, ``flow_known`` that the day's usage is added up.
    ``proof`` is the latest that was kept, as of ``proved_at``.
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
    whole: bool
    needs: tuple[Need, ...]
    endings: tuple[Ending, ...]
    flow: tuple[HourFlow, ...]
    flow_hours: int
    flow_known: bool
    now_hour_tenths: int
    methods: tuple[tuple[str, int], ...]
    held_micro: int
    proof: Proof | None = None
    proved_at: datetime | None = None

    def state_counts(self) -> tuple[tuple[BoardState, int], ...]:
        """Units per state in the order of the key: on, low, emergency … protected."""
        counts = dict.fromkeys(KEY_ORDER, 0)
        for house in self.houses:
            for state, count in house.states:
                counts[state] += count
        return tuple(counts.items())

    @property
    def here(self) -> House | None:
        """The one building whose windows are shown, of a property with too many for one board."""
        return None if self.whole else next((each for each in self.houses if each.is_open), None)


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
_LOUD = frozenset(BoardState) - {BoardState.ON, BoardState.VACANT, BoardState.PROTECTED}
