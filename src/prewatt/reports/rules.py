"""When supply may be cut at a place, and how an account's gates stand now, as figures for a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.credit import (
    Brake,
    Figure,
    SupplyState,
    Warnings,
    decide_disconnection,
    notice_ends_us,
)
from prewatt.core.cut_window import earliest_cut_us, is_open, next_open_at_us
from prewatt.core.vocabulary import Gate, Protection, RelayState
from prewatt.notify.queries import warning_delivery
from prewatt.notify.sentences import TAMPER_NOTICE, WARNINGS
from prewatt.reports.account import CutHours, GateLine
from prewatt.reports.place import rows
from prewatt.supply.policy import Rules
from prewatt.supply.queries import brake_since, rules


@dataclass(frozen=True, slots=True)
class CutRules:
    """A property's rules for cutting, with the two questions a page asks of them."""

    rules: Rules

    def open_until(self, now: datetime) -> datetime | None:
        """The end of the permitted window when it is open at ``now``, else None."""
        window = self.rules.supply.window
        if not is_open(window, instant_us(now)):
            return None
        here = now.astimezone(ZoneInfo(window.calendar.time_zone))
        midnight = here.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight + timedelta(minutes=window.closes_min)

    def hours(self) -> CutHours:
        """The permitted window as a person would say it."""
        window = self.rules.supply.window
        return CutHours(window.opens_min, window.closes_min, window.weekdays)

    def opens_next(self, now: datetime) -> datetime | None:
        """The first instant, now or later, at which the window is open; None if never."""
        at_us = next_open_at_us(self.rules.supply.window, instant_us(now))
        return None if at_us is None else utc_datetime(at_us)

    def earliest_cut(
        self,
        now: datetime,
        left_micro: int,
        per_day_micro: int,
        low_since: datetime | None = None,
    ) -> datetime | None:
        """The first instant at which credit and notice are over and the window is open, as warnings say it.

        Who is not low yet (``low_since`` None) was not warned yet.
        """
        supply, now_us = self.rules.supply, instant_us(now)
        noticed_us = notice_ends_us(now_us if low_since is None else instant_us(low_since), supply)
        at_us = earliest_cut_us(supply.window, now_us, left_micro, per_day_micro, noticed_us)
        return None if at_us is None else utc_datetime(at_us)


def cut_rules(property_id: int, now: datetime) -> CutRules:
    """The compiled rules of a property, inside the caller's scope."""
    return CutRules(rules([property_id], now)[property_id])


@dataclass(frozen=True, slots=True)
class Standing:
    """What the gates look at in one account; ``reading_at`` is None before the first reading."""

    account_id: int
    property_id: int
    protection: Protection
    emergency_micro: int
    low_since: datetime | None
    payment_hold_until: datetime | None
    available_micro: int
    reading_at: datetime | None
    withheld_since: datetime | None = None


def standing_of(account_id: int) -> Standing | None:
    """How an account stands with its supply; None for one that has none, such as a closed one."""
    found = rows(
        """SELECT s.account_id, s.property_id, s.protection, s.emergency_micro, s.level_fired_at,
                  s.payment_hold_until, a.available,
                  CASE WHEN isfinite(a.last_interval_at) THEN a.last_interval_at END, s.withheld_since
           FROM supply_state s JOIN account_state a USING (account_id) WHERE s.account_id = %s""",
        [account_id],
    )
    if not found:
        return None
    account, place, protection, *rest = found[0]
    word = Protection[protection.upper()] if protection else Protection.NONE
    return Standing(account, place, word, *rest)


def gates_now(
    standing: Standing, cut: CutRules, *, relay: RelayState, now: datetime
) -> tuple[GateLine, ...]:
    """All seven gates as they stand now, each with the figure a person asks for.

    The same pure function that decides reads them, so page and decision cannot disagree.
    """
    brake_on = brake_since([standing.property_id]).get(standing.property_id) is not None
    state = SupplyState(
        available_micro=standing.available_micro,
        emergency_credit_micro=standing.emergency_micro,
        reading_at_us=_us(standing.reading_at),
        relay=relay,
        protection=standing.protection,
        warnings=_warnings(standing),
        payment_hold_until_us=_us(standing.payment_hold_until),
        brake=Brake(on=brake_on),
        is_withheld=standing.withheld_since is not None,
    )
    # A decision on an old reading asks what would have been right then; a page asks about now. So
    # only the reading's own gate sees its age, and all others are looked at as of this instant.
    rules_now, now_us = cut.rules.supply, instant_us(now)
    aged = decide_disconnection(state, rules_now, now_us)
    present = decide_disconnection(replace(state, reading_at_us=now_us), rules_now, now_us)
    gates = [
        old if old.gate is Gate.READING_FRESH else new
        for old, new in zip(aged.gates, present.gates, strict=True)
    ]
    return tuple(
        _line(
            reading.gate,
            reading.is_open,
            reading.figures,
            reading.opens_at_us,
            cut,
            now,
        )
        for reading in gates
    )


def _warnings(standing: Standing) -> Warnings:
    """What was said to the customer since the balance became low, as the decision itself sees it."""
    since = standing.withheld_since or standing.low_since
    if since is None:
        return Warnings()
    codes = WARNINGS if standing.withheld_since is None else (TAMPER_NOTICE,)
    said = warning_delivery([standing.account_id], since, codes).get(standing.account_id)
    if said is None:
        return Warnings()
    delivered, tried = said.delivered_at, said.all_channels_tried_since
    known = 0 if tried is None else 1
    return Warnings(
        _us(delivered),
        _us(tried),
        known,
        known,
    )


def _us(at: datetime | None) -> int | None:
    return None if at is None else instant_us(at)


def _line(
    gate: Gate,
    is_open_now: bool,
    figures: Mapping[str, Figure],
    opens_at_us: int | None,
    cut: CutRules,
    now: datetime,
) -> GateLine:
    at: datetime | None = None
    amount: int | None = None
    if gate is Gate.BALANCE_EXHAUSTED:
        available = _number(figures, "available_micro") or 0
        left = available + (_number(figures, "emergency_credit_micro") or 0)
        amount = left if available <= 0 < left else available
    elif gate is Gate.READING_FRESH:
        at = _instant(figures, "reading_at_us")
    elif gate is Gate.WARNING_DELIVERED:
        at = _instant(figures, "delivered_at_us")
    elif gate is Gate.WINDOW_OPEN:
        at = cut.open_until(now) if is_open_now else cut.opens_next(now)
    elif opens_at_us is not None:
        at = utc_datetime(opens_at_us)
    is_withheld = gate is Gate.BALANCE_EXHAUSTED and bool(figures.get("is_withheld"))
    return GateLine(gate, is_open_now, at, amount, is_withheld=is_withheld)


def _number(figures: Mapping[str, Figure], name: str) -> int | None:
    value = figures.get(name)
    return value if isinstance(value, int) else None


def _instant(figures: Mapping[str, Figure], name: str) -> datetime | None:
    at_us = _number(figures, name)
    return None if at_us is None else utc_datetime(at_us)
