"""When supply may be cut at a place, and how an account's gates stand now, as figures for a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.credit import (
    Brake,
    Figure,
    SupplyState,
    Warnings,
    decide_disconnection,
)
from prewatt.core.cut_window import is_open, next_open_at_us
from prewatt.core.vocabulary import DeliveryState, Gate, RelayState
from prewatt.reports.account import GateLine
from prewatt.reports.place import rows
from prewatt.supply.policy import Rules
from prewatt.supply.queries import Standing, brake_since, rules, standings


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

    def opens_next(self, now: datetime) -> datetime | None:
        """The first instant, now or later, at which the window is open; None if never."""
        at_us = next_open_at_us(self.rules.supply.window, instant_us(now))
        return None if at_us is None else utc_datetime(at_us)


def cut_rules(property_id: int, now: datetime) -> CutRules:
    """The compiled rules of a property, inside the caller's scope."""
    return CutRules(rules([property_id], now)[property_id])


def standing_of(account_id: int) -> Standing | None:
    """How an account stands with its supply; None for one that has none, such as a closed one."""
    found = standings([account_id], lock=False)
    return found[0] if found else None


def gates_now(
    standing: Standing, cut: CutRules, *, relay: RelayState, now: datetime
) -> tuple[GateLine, ...]:
    """All seven gates as they stand now, each with the figure a person asks for.

    The same pure function that decides reads them, so the page cannot disagree with the decision.
    """
    brake_on = brake_since([standing.property_id]).get(standing.property_id) is not None
    state = SupplyState(
        available_micro=standing.available_micro,
        emergency_credit_micro=standing.emergency_micro,
        reading_at_us=standing.reading_at_us,
        relay=relay,
        protection=standing.protection,
        warnings=_warnings(standing),
        payment_hold_until_us=standing.payment_hold_until_us,
        brake=Brake(on=brake_on),
    )
    decision = decide_disconnection(state, cut.rules.supply, instant_us(now))
    return tuple(
        _line(
            reading.gate,
            reading.is_open,
            reading.figures,
            reading.opens_at_us,
            cut,
            now,
        )
        for reading in decision.gates
    )


def _warnings(standing: Standing) -> Warnings:
    """What was said to the customer since the balance became low."""
    if standing.level_fired_at is None:
        return Warnings()
    delivered, tried, channels, tried_channels = rows(
        """SELECT (SELECT min(finished_at) FROM message WHERE account_id = %(account)s
                     AND code LIKE 'supply.%%' AND state = %(delivered)s AND created_at >= %(since)s),
                  min(a.tried_at), count(DISTINCT a.channel), count(DISTINCT a.channel)
           FROM message m LEFT JOIN message_attempt a ON a.message_id = m.id
           WHERE m.account_id = %(account)s AND m.created_at >= %(since)s""",
        {
            "account": standing.account_id,
            "since": standing.level_fired_at,
            "delivered": int(DeliveryState.DELIVERED),
        },
    )[0]
    return Warnings(
        None if delivered is None else instant_us(delivered),
        None if tried is None else instant_us(tried),
        channels,
        tried_channels,
    )


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
        amount = _number(figures, "available_micro")
    elif gate is Gate.READING_FRESH:
        at = _instant(figures, "reading_at_us")
    elif gate is Gate.WARNING_DELIVERED:
        at = _instant(figures, "delivered_at_us")
    elif gate is Gate.WINDOW_OPEN:
        at = cut.open_until(now) if is_open_now else cut.opens_next(now)
    elif opens_at_us is not None:
        at = utc_datetime(opens_at_us)
    return GateLine(gate, is_open_now, at, amount)


def _number(figures: Mapping[str, Figure], name: str) -> int | None:
    value = figures.get(name)
    return value if isinstance(value, int) else None


def _instant(figures: Mapping[str, Figure], name: str) -> datetime | None:
    at_us = _number(figures, name)
    return None if at_us is None else utc_datetime(at_us)
