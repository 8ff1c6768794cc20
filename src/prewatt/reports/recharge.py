"""What the recharge pages show: who, what the money will do, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prewatt.core.rating import Component
from prewatt.core.vocabulary import BoardState, OrderState, RelayState
from prewatt.debts.words import DebtView
from prewatt.reports.today import Place
from prewatt.vending.queries import Deducted


@dataclass(frozen=True, slots=True)
class RechargeForm:
    """The account before the money: enough to read unit and name aloud, and to look ahead.

    ``micro_per_day`` is the average charge of a day over the last two weeks, 0 when nothing was
    used. ``connects_from_micro`` is the least balance with which supply that was cut comes back.
    ``last_recharge_at`` is None for an account that never had one. ``debts`` are open ones;
    ``is_whole`` says that nothing would be taken of any recharge now, be it for debts or charges.
    ``withheld_since``: a case of tampering withholds supply, which no money brings back. ``in_meter``: the meter
    holds the account's credit itself and is told of the money.
    """

    place: Place
    now: datetime
    account_id: int
    unit: str
    customer: str
    meter: str
    state: BoardState
    relay: RelayState
    balance_micro: int
    emergency_limit_micro: int
    connects_from_micro: int
    micro_per_day: int
    limit_micro: int
    last_recharge_at: datetime | None
    last_recharge_micro: int
    debts: tuple[DebtView, ...]
    is_whole: bool
    withheld_since: datetime | None
    in_meter: bool

    @property
    def debt_micro(self) -> int:
        """What is left of all debts."""
        return sum(each.left_micro for each in self.debts)


@dataclass(frozen=True, slots=True)
class RechargeEffect:
    """What an amount will do, line by line. ``deducted`` is what does not reach the balance.

    ``emergency_left_micro`` is what may still be used with a balance that is not above zero; it and
    ``lasts_until`` are looked ahead to, and no part of a receipt.
    """

    amount_micro: int
    deducted: tuple[Deducted, ...]
    emergency_micro: int
    credit_micro: int
    balance_after_micro: int
    lasts_until: datetime | None
    reconnects: bool
    emergency_left_micro: int = 0

    @property
    def charges(self) -> tuple[Deducted, ...]:
        """What is collected with the recharge."""
        return tuple(each for each in self.deducted if each.component is not Component.DEBT)

    @property
    def debts(self) -> tuple[Deducted, ...]:
        """What debts have of it."""
        return tuple(each for each in self.deducted if each.component is Component.DEBT)


@dataclass(frozen=True, slots=True)
class RechargeResult:
    """A recharge after it was committed, and the supply order it caused, if one was needed.

    The figures of ``effect`` and ``balance_before_micro`` are those of the instant of the payment, for
    ever. Of a recharge that told nobody its balance they are the posted ones, as ``is_posted`` says:
    usage that no posting had taken then is left out. ``balance_micro``, ``emergency_left_micro`` and
    ``lasts_until`` are of now.

    ``order`` is None while nothing has been decided; ``needs_order`` is False when supply was on and
    the credit alone was the point.
    """

    place: Place
    now: datetime
    event_id: int
    account_id: int
    unit: str
    customer: str
    meter: str
    by: str
    method: str
    receipt: str
    paid_at: datetime
    line: int
    effect: RechargeEffect
    is_posted: bool
    balance_before_micro: int
    balance_micro: int
    emergency_left_micro: int
    lasts_until: datetime | None
    relay: RelayState
    relay_read_at: datetime | None
    needs_order: bool
    order: OrderState | None
    sent_at: datetime | None
    verified_at: datetime | None
    meter_fresh: bool
    taken_back_at: datetime | None = None

    @property
    def done(self) -> bool:
        """Only a relay that was read back is done; without an order there is nothing to wait for."""
        return not self.needs_order or self.order is OrderState.VERIFIED
