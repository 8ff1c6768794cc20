"""What the pages of readings show: those that are held, one of them with its evidence, one meter."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prewatt.core.vocabulary import RelayState
from prewatt.reports.today import Place


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A reading that is or was held: ``verdict`` is the stable name of the reason."""

    case_id: int
    meter_id: int
    serial: str
    unit_id: int | None
    unit: str
    customer: str
    account_id: int
    read_at: datetime
    value_wh: int
    register_code: int
    received_at: datetime
    verdict: str
    watermark_at: datetime
    watermark_wh: int
    state: str
    closed_at: datetime | None
    closed_by: str
    close_reason: str

    @property
    def delta_wh(self) -> int:
        """How much more than the watermark it says; below zero for less."""
        return self.value_wh - self.watermark_wh


@dataclass(frozen=True, slots=True)
class ReadingPoint:
    """A register at an instant, accepted or ``held``."""

    at: datetime
    value_wh: int
    held: bool = False


@dataclass(frozen=True, slots=True)
class HeldPage:
    """One held reading with what it is judged by: accepted readings around it, the meter's bound."""

    place: Place
    now: datetime
    case: HeldRow
    max_power_w: int
    multiplier: int
    points: tuple[ReadingPoint, ...]
    others: int

    @property
    def needed_w(self) -> int | None:
        """The average power that the reading would need since the watermark; None backwards."""
        seconds = int((self.case.read_at - self.case.watermark_at).total_seconds())
        if seconds <= 0 or self.case.delta_wh < 0:
            return None
        return self.case.delta_wh * self.multiplier * 3600 // seconds


@dataclass(frozen=True, slots=True)
class ChargedReading:
    """A reading as it stands in the books; ``quality`` and ``source`` are `core.readings` numbers."""

    read_at: datetime
    at_us: int
    value_wh: int
    quality: int
    source: int


@dataclass(frozen=True, slots=True)
class MeterPage:
    """A meter, before somebody reads it or takes it away; ``removed_at`` says that somebody has."""

    place: Place
    now: datetime
    meter_id: int
    serial: str
    model: str
    driver: str
    multiplier: int
    modulus_wh: int
    max_power_w: int
    has_relay: bool
    expected_period_s: int
    point: str
    unit_id: int | None
    unit: str
    account_id: int | None
    number: str
    customer: str
    available_micro: int
    last_at: datetime | None
    last_wh: int | None
    relay: RelayState
    silent: bool
    removed_at: datetime | None = None
