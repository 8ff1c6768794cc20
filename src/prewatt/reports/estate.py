"""What the estate's pages show: the property, its buildings and units, one unit with its past.

Codes and figures only, as on every page; ``until`` is None for what still goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prewatt.core.vocabulary import BoardState, RelayState
from prewatt.reports.alerts import AlertRow
from prewatt.reports.paging import NOWHERE, Neighbours
from prewatt.reports.tamper import ClockLine, VersionLine
from prewatt.reports.today import Place


@dataclass(frozen=True, slots=True)
class UnitRow:
    """One unit of the list."""

    unit_id: int
    name: str
    building: str
    kind: str
    floor: int
    customer: str
    account_id: int | None
    state: BoardState
    meter_id: int | None
    serial: str


@dataclass(frozen=True, slots=True)
class BuildingUnits:
    """A building with units of it; ``units`` counts all that it has, ``found`` those that match."""

    building_id: int
    code: str
    name: str
    units: int
    found: int
    rows: tuple[UnitRow, ...]


@dataclass(frozen=True, slots=True)
class UnitList:
    """A page of the tree of buildings and units, searched; ``total`` counts all that match."""

    place: Place
    now: datetime
    buildings: tuple[BuildingUnits, ...]
    total: int
    beside: Neighbours = NOWHERE

    @property
    def rows(self) -> tuple[UnitRow, ...]:
        """The units of the page."""
        return tuple(row for each in self.buildings for row in each.rows)


@dataclass(frozen=True, slots=True)
class MeterPeriod:
    """A meter's time at a metering point, with its registers in Wh at both ends.

    The rest is of now, and None or zero for a meter that was taken away.
    """

    meter_id: int
    serial: str
    model: str
    since: datetime
    until: datetime | None
    start_wh: int
    end_wh: int | None
    relay: RelayState = RelayState.UNKNOWN
    last_at: datetime | None = None
    last_wh: int | None = None
    held: int = 0


@dataclass(frozen=True, slots=True)
class PointPeriods:
    """A metering point, what feeds it, and the meters it has had, newest first."""

    point_id: int
    code: str
    role: str
    source: str
    fed_by: str
    meters: tuple[MeterPeriod, ...]


@dataclass(frozen=True, slots=True)
class TenantPeriod:
    """Who lived in a unit, when, and how the account stands now. ``left_micro`` is the balance."""

    customer_id: int
    customer: str
    account_id: int
    number: str
    since: datetime
    until: datetime | None
    left_micro: int
    closed: bool
    refund_due_micro: int
    debt_micro: int


@dataclass(frozen=True, slots=True)
class UnitPage:
    """One unit. ``payer`` is who pays now: the tenant, the owner (empty customer) or nobody."""

    place: Place
    now: datetime
    unit_id: int
    name: str
    code: str
    kind: str
    floor: int
    building: str
    state: BoardState
    customer: str
    account_id: int | None
    vacancy_account_id: int | None
    points: tuple[PointPeriods, ...]
    tenants: tuple[TenantPeriod, ...]
    alerts: tuple[AlertRow, ...] = ()
    versions: tuple[VersionLine, ...] = ()
    clocks: tuple[ClockLine, ...] = ()

    @property
    def vacant(self) -> bool:
        """Whether the owner pays."""
        return not self.tenants or self.tenants[0].until is not None

    @property
    def lettable(self) -> bool:
        """Whether tenants can move in: a plant room is the owner's."""
        return self.kind != "plant"

    @property
    def meters(self) -> tuple[MeterPeriod, ...]:
        """The meters that are installed now."""
        return tuple(
            meter for point in self.points for meter in point.meters if meter.until is None
        )


@dataclass(frozen=True, slots=True)
class BuildingCounts:
    """One building in numbers."""

    code: str
    name: str
    units: int
    vacant: int
    meters: int


@dataclass(frozen=True, slots=True)
class SharedPoint:
    """A metering point that belongs to no unit: what comes in, with how many points below it."""

    code: str
    role: str
    source: str
    depth: int
    below: int
    serial: str


@dataclass(frozen=True, slots=True)
class PropertyPage:
    """The property: whose it is, by which money, time and days it lives, and what it holds."""

    place: Place
    now: datetime
    code: str
    organisation: str
    legal_entity: str
    tax_number: str
    calendar: str
    language: str
    customers: int
    accounts: int
    buildings: tuple[BuildingCounts, ...]
    shared: tuple[SharedPoint, ...]
