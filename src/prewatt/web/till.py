"""Where the pages sell: at the desk of this process, or at once where nobody has opened one."""

from __future__ import annotations

from datetime import datetime

from prewatt.access.scope import Actor
from prewatt.vending.desk import Desk, DeskClosed, busy
from prewatt.vending.operations import recharge as recharge_accounts
from prewatt.vending.words import Answer, Recharge


class _Till:
    """Holds the desk of this process."""

    def __init__(self) -> None:
        self.desk: Desk | None = None


_TILL = _Till()


def use(desk: Desk | None) -> None:
    """Sell at this desk from now on; whoever opened it stops it."""
    _TILL.desk = desk


def recharge(*, actor: Actor, wish: Recharge, now: datetime) -> Answer:
    """One recharge, committed when this returns; a desk that is closing takes nobody more."""
    desk = _TILL.desk
    if desk is None:
        return recharge_accounts(actor=actor, recharges=[wish], now=now)[0]
    try:
        return desk.recharge(actor=actor, wish=wish, now=now)
    except DeskClosed:
        return busy(wish)
