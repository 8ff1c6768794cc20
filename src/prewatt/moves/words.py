"""What is asked of a move, what it answers, and every way in which it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from prewatt.core.money import MICRO
from prewatt.core.vocabulary import Protection
from prewatt.estate.imports import EMERGENCY_LIMIT_MICRO
from prewatt.estate.operations import NewCustomer
from prewatt.vending.operations import RechargeRefused


class MoveRefused(Exception):
    """The move cannot be made as asked; nothing was changed."""


class UnknownPlace(MoveRefused):
    """There is no such unit, meter, customer or tariff in the actor's scope."""


class UnitOccupied(MoveRefused):
    """Somebody lives there: move them out first, or change tenants in one step."""


class UnitVacant(MoveRefused):
    """Nobody lives there, so nobody can move out."""


class LetRunning(MoveRefused):
    """The tenancy is a let: who ends it returns the deposit and the units that had not started, so the
    let itself is ended (``lets.close_let``). ``let_id``, ``ends_at``.
    """

    def __init__(self, let_id: int, ends_at: datetime) -> None:
        super().__init__(f"the place is let until {ends_at.isoformat()}; end let {let_id} instead")
        self.let_id = let_id
        self.ends_at = ends_at


class InFuture(MoveRefused):
    """The instant has not come yet; a move is recorded when it has happened."""


class TooEarly(MoveRefused):
    """Somebody else paid then, or another device counted; of an exchange, also: energy after that
    instant is charged already. ``earliest`` is the first possible instant.
    """

    def __init__(self, earliest: datetime) -> None:
        super().__init__(f"the earliest possible instant is {earliest.isoformat()}")
        self.earliest = earliest


class RegisterMissing(MoveRefused):
    """The registers given are not exactly those of the unit's meters. ``serials`` has them all."""

    def __init__(self, serials: Sequence[str]) -> None:
        super().__init__(f"give one register value for each of: {', '.join(serials) or 'no meter'}")
        self.serials = tuple(serials)


class MeterSilent(MoveRefused):
    """The register shall be the meter's own, and the meter has not reported lately. ``last_at``."""

    def __init__(self, serial: str, last_at: datetime | None) -> None:
        heard = "never" if last_at is None else f"last at {last_at:%Y-%m-%d %H:%M:%S} UTC"
        super().__init__(
            f"meter {serial} has reported {heard}; read its register and write it down"
        )
        self.serial = serial
        self.last_at = last_at


class RegisterRefused(MoveRefused):
    """Validation would hold the closing register. ``verdict`` is its stable name."""

    def __init__(self, serial: str, verdict: str) -> None:
        super().__init__(f"meter {serial}: the closing register is not credible ({verdict})")
        self.serial = serial
        self.verdict = verdict


class ReadingBeyond(MoveRefused):
    """A register read by hand would charge more than is plausible of this meter in that time.

    ``energy_wh`` is what it says was used since the meter itself spoke, ``plausible_wh`` the most
    that an operator may enter alone (``core.hand_readings``); an administrator may enter it.
    """

    def __init__(self, energy_wh: int, plausible_wh: int) -> None:
        super().__init__(
            f"{energy_wh} Wh are more than the {plausible_wh} Wh that are plausible; "
            "an administrator may enter it"
        )
        self.energy_wh = energy_wh
        self.plausible_wh = plausible_wh


class NameTaken(MoveRefused):
    """The account number or meter serial is in use already."""


class EmergencyRefused(MoveRefused):
    """Emergency credit is not below zero, where it would cut a supply that is paid for, nor endless."""

    def __init__(self) -> None:
        super().__init__(
            f"emergency credit must lie between 0 and {EMERGENCY_LIMIT_MICRO // MICRO}"
        )


class RechargeFailed(MoveRefused):
    """The first recharge was refused, and with it the moving in. ``code`` says why."""

    def __init__(self, refused: RechargeRefused) -> None:
        super().__init__(refused.message)
        self.code = refused.code


@dataclass(frozen=True, slots=True)
class NewTenant:
    """Who moves in: a known customer's id or a new customer. The account number may be left to us.

    ``emergency_micro`` is how far below zero the account may go, in micro-units.
    """

    customer: int | NewCustomer
    tariff_code: str
    account_number: str = ""
    protection: Protection = Protection.NONE
    emergency_micro: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """Somebody whose account was opened before they come, for the instant at which they do."""

    customer_id: int
    account_id: int
    account_number: str


@dataclass(frozen=True, slots=True)
class FirstRecharge:
    """Money taken at the handing over of the keys, in micro-units."""

    amount: int
    way: str = "cash"
    reference: str = ""


@dataclass(frozen=True, slots=True)
class MovedOut:
    """``balance_left_micro`` stays on the closed account for its former tenant, unless it is booked
    as a refund due: then ``refund_micro`` is what is owed, and nothing stays.

    Of a move that was written down late, ``passed_wh`` had been charged to the former payer already:
    ``passed_back_micro`` came back to them for it, ``passed_on_micro`` is what the next one owes for it.
    """

    unit_id: int
    account_id: int
    vacancy_account_id: int
    balance_left_micro: int
    effective_at: str
    refund_micro: int = 0
    repeated: bool = False
    passed_wh: int = 0
    passed_back_micro: int = 0
    passed_on_micro: int = 0


@dataclass(frozen=True, slots=True)
class MovedIn:
    """The new tenant's account; ``former_account_id`` is the vacancy account or former tenant's.

    ``passed_*`` as in ``MovedOut``.
    """

    unit_id: int
    customer_id: int
    account_id: int
    account_number: str
    former_account_id: int | None
    available_micro: int
    effective_at: str
    repeated: bool = False
    passed_wh: int = 0
    passed_back_micro: int = 0
    passed_on_micro: int = 0


@dataclass(frozen=True, slots=True)
class TenantChanged:
    """Out and in at one instant; ``passed_*`` as in ``MovedOut``."""

    unit_id: int
    former_account_id: int
    balance_left_micro: int
    customer_id: int
    account_id: int
    account_number: str
    available_micro: int
    effective_at: str
    refund_micro: int = 0
    repeated: bool = False
    passed_wh: int = 0
    passed_back_micro: int = 0
    passed_on_micro: int = 0


@dataclass(frozen=True, slots=True)
class MeterExchanged:
    """The account goes on with another device."""

    old_meter_id: int
    new_meter_id: int
    account_id: int | None
    effective_at: str
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class ReadingEntered:
    """What became of a reading typed in; ``held`` readings wait in validation with the reason."""

    meter_id: int
    verdict: str
    held: bool
    energy_wh: int = 0
    plausible_wh: int = 0
    charged_micro: int = 0

    @property
    def is_beyond(self) -> bool:
        """Whether it says more than one person may enter alone."""
        return self.energy_wh > self.plausible_wh
