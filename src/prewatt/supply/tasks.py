"""What the worker does for supply: held cuts whose gate opened, orders that grew old, relays that departed.

The worker calls `tick` whenever ``supply_due`` rings (with the properties that rang), and at least
once a second, since a gate of time opens without a bell. `SWEEP` apart, it also looks at everything
that is held, at every relay that departed and at every open one, so that a bell missed while it was down costs a minute and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from prewatt.access.scope import Actor
from prewatt.supply.by_agreement import remind_of_emergencies
from prewatt.supply.operations import put_right_departed, reconsider_due, watch_open_relays
from prewatt.supply.orders import OrderBook

#: The database channels after which `tick` should run at once.
CHANNELS: Final = ("supply_due",)
#: How often everything that is held is looked at.
SWEEP: Final = timedelta(minutes=1)


class SupplyTask:
    """The worker's hands for supply. Keeps nothing but when it last looked at everything."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._orders = OrderBook(actor)
        self._swept_at: datetime | None = None
        #: By property, when a relay that departed and was left alone for now is to be looked at.
        self._look_at: dict[int, datetime] = {}

    def tick(self, *, now: datetime, woken: Sequence[int] = ()) -> int:
        """Expire orders, decide held accounts again; returns how many accounts were looked at."""
        self._orders.expire(now=now)
        sweep = self._swept_at is None or now - self._swept_at >= SWEEP
        if sweep:
            self._swept_at = now
            remind_of_emergencies(actor=self._actor, now=now)
        looked = reconsider_due(actor=self._actor, now=now, woken=woken, everything=sweep)
        self._put_right(now, woken, everything=sweep)
        return looked

    def _put_right(self, now: datetime, woken: Sequence[int], *, everything: bool) -> None:
        waited = {place for place, at in self._look_at.items() if at <= now}
        if not (everything or woken or waited):
            return
        places = sorted({*woken, *waited})
        watch_open_relays(actor=self._actor, now=now, woken=places, everything=everything)
        later = put_right_departed(actor=self._actor, now=now, woken=places, everything=everything)
        looked = set(self._look_at) if everything else {*woken, *waited}
        self._look_at = {k: at for k, at in self._look_at.items() if k not in looked} | later
