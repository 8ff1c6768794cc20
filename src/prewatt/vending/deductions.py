"""What is taken of recharges before they become credit: each with a transfer of its own.

First the charges that the tariff collects with a recharge, then the agreed shares of open debts.
All together never take more than the recharge. The same plan is shown before anybody pays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from prewatt.debts.recovery import Credit, Recovery, close_paid, plan_recovery, recovery_legs
from prewatt.ledger.operations import Leg
from prewatt.vending.ports import Dues, TariffDue, dues_at_recharge


@dataclass(frozen=True, slots=True)
class Deduction:
    """What is taken of one recharge, in micro-units, and its transfers."""

    legs: tuple[Leg, ...]
    recovered: tuple[Recovery, ...]
    collected_micro: int

    @property
    def debt_micro(self) -> int:
        """What goes to debts."""
        return sum(each.amount_micro for each in self.recovered)


@dataclass(frozen=True, slots=True)
class Deductions:
    """The plan of a set of recharges, in the order asked; nothing is written before ``keep``."""

    each: tuple[Deduction, ...]
    dues: Dues

    @property
    def takes_something(self) -> bool:
        """Whether anything is taken of any of them."""
        return any(one.legs for one in self.each)

    def keep(self, now: datetime, *, announce: bool = True) -> None:
        """Remember what was booked: how far charges are collected, and which debts are paid."""
        self.dues.keep()
        close_paid(
            recovered=[part for one in self.each for part in one.recovered], now=now,
            announce=announce,
        )  # fmt: skip


def plan_deductions(
    *,
    recharges: Sequence[tuple[int, int]],
    now: datetime,
    owing: Collection[int] | None = None,
    epochs: Mapping[int, int] | None = None,
) -> Deductions:
    """What is taken of each (account, amount in micro-units), in the caller's transaction.

    Recharges of one account follow one another: the second finds what the first has left. Who has
    seen in this transaction which accounts have open debts says so in ``owing``, and the tariff
    epoch of each property concerned in ``epochs``; otherwise both are looked up.
    """
    dues = dues_at_recharge()(recharges=recharges, now=now, epochs=epochs)
    if owing is not None and not owing:
        return Deductions(tuple(_deduction(0, due, (), now) for due in dues.each), dues)
    recovered = plan_recovery(
        incoming=[
            Credit(account_id, amount, amount - due.collected_micro, due.debt_share_ppm,
                   due.weekly_cap_micro)
            for (account_id, amount), due in zip(recharges, dues.each, strict=True)
        ],
        now=now,
    )  # fmt: skip
    return Deductions(
        tuple(
            _deduction(account_id, due, parts, now)
            for (account_id, _), due, parts in zip(recharges, dues.each, recovered, strict=True)
        ),
        dues,
    )


def _deduction(
    account_id: int, due: TariffDue, recovered: tuple[Recovery, ...], now: datetime
) -> Deduction:
    legs = (*due.legs, *recovery_legs(account_id, recovered, now))
    return Deduction(legs, recovered, due.collected_micro)
