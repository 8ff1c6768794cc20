"""Reads the console's lists: accounts, orders, meters, recharges, messages; each one statement or two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from prewatt.access.scope import Actor, scope
from prewatt.core.vocabulary import (
    BoardState,
    DeliveryState,
    OrderKind,
    OrderState,
    RelayState,
)
from prewatt.reports.account import OrderLine
from prewatt.reports.lists import (
    AccountList,
    AccountRow,
    MessageList,
    MessageRow,
    MeterList,
    MeterRow,
    MoneyList,
    MoneyRow,
    OrderList,
)
from prewatt.reports.place import local_day, place_of, rows
from prewatt.reports.units import UnitNow, unit_name, units_now

#: A list shows so many rows at first, and never more than the limit of one answer.
PAGE = 100
PAGE_MAX = 2_000


def actor_names(codes: Iterable[str]) -> dict[str, str]:
    """The names of the people behind ``user:12``; technical actors stay nameless."""
    ids = sorted({int(code[5:]) for code in codes if code and code.startswith("user:")})
    found = rows("SELECT id, name FROM app_user WHERE id = ANY(%s)", [ids]) if ids else []
    return {f"user:{user}": str(name) for user, name in found}


def accounts(
    *,
    actor: Actor,
    now: datetime,
    query: str = "",
    state: BoardState | None = None,
    sort: str = "unit",
) -> AccountList:
    """All accounts with a unit, filtered by text and state; sorted by unit, time left or balance."""
    with scope(actor):
        place = place_of(actor)
        units = units_now(property_id=place.property_id, now=now)
    found = [
        _account_row(unit, now)
        for unit in units
        if unit.account_id is not None
        and _matches(unit, query)
        and (state is None or unit.state(now) is state)
    ]
    if sort == "time":
        found.sort(key=lambda row: (row.runs_out_at is None, row.runs_out_at or now))
    elif sort == "balance":
        found.sort(key=lambda row: row.balance_micro)
    together = sum(row.balance_micro for row in found)
    return AccountList(place, now, tuple(found), len(found), together)


def _matches(unit: UnitNow, query: str) -> bool:
    """Every word of the query occurs in the unit, building, customer, account or meter number."""
    text = f"{unit.name} {unit.building} {unit.customer} {unit.number} {unit.serial}".casefold()
    return all(word in text for word in query.casefold().split())


def _account_row(unit: UnitNow, now: datetime) -> AccountRow:
    assert unit.account_id is not None
    return AccountRow(
        account_id=unit.account_id,
        number=unit.number,
        unit=unit.name,
        building=unit.building,
        customer=unit.customer,
        meter=unit.serial,
        state=unit.state(now),
        balance_micro=unit.available_micro,
        runs_out_at=None if unit.relay is RelayState.OPEN else unit.runs_out_at(now),
        day_micro=unit.spend_per_day_micro,
    )


_ORDERS = """
SELECT o.id, o.account_id, b.code, u.code, coalesce(c.name, ''), m.serial, o.kind, o.state, o.reason,
       o.decided_at, o.sent_at, o.acknowledged_at,
       CASE WHEN o.state = 4 THEN o.finished_at END, o.attempts, o.failure, count(*) OVER ()
FROM supply_order o
JOIN meter m ON m.id = o.meter_id
JOIN account a ON a.id = o.account_id
LEFT JOIN customer c ON c.id = a.customer_id
LEFT JOIN LATERAL (
    SELECT e.unit_id FROM installation i JOIN metering_point e ON e.id = i.metering_point_id
    WHERE i.meter_id = o.meter_id AND i.period @> o.decided_at LIMIT 1
) h ON true
LEFT JOIN unit u ON u.id = h.unit_id
LEFT JOIN building b ON b.id = u.building_id
WHERE (%(account)s::bigint IS NULL OR o.account_id = %(account)s)
  AND (%(kind)s::int IS NULL OR o.kind = %(kind)s) AND o.state = ANY(%(states)s)
ORDER BY o.decided_at DESC, o.id DESC LIMIT %(limit)s
"""
_LIVE = (OrderState.DECIDED, OrderState.SENT, OrderState.ACKNOWLEDGED)
_REAL = tuple(state for state in OrderState if state is not OrderState.WOULD_HAVE)


def _orders(
    *,
    limit: int,
    account_id: int | None,
    kind: OrderKind | None,
    states: Sequence[OrderState],
) -> tuple[tuple[OrderLine, ...], int]:
    found = rows(
        _ORDERS,
        {
            "account": account_id,
            "kind": None if kind is None else int(kind),
            "states": [int(state) for state in states],
            "limit": limit,
        },
    )
    return tuple(_order(row) for row in found), int(found[0][15]) if found else 0


def _order(row: tuple[Any, ...]) -> OrderLine:
    unit = "" if row[3] is None else unit_name(row[2], row[3])
    return OrderLine(
        row[0], row[1], unit, row[4], row[5], OrderKind(row[6]), OrderState(row[7]),
        reason_word(row[8]), row[9], row[10], row[11], row[12], row[13], row[14],
    )  # fmt: skip


def reason_word(reason: object) -> str:
    """The stable word of a stored reason."""
    return str(reason)


def orders_of(*, account_id: int, limit: int) -> tuple[OrderLine, ...]:
    """The latest orders of one account, inside the caller's scope."""
    return _orders(limit=limit, account_id=account_id, kind=None, states=tuple(OrderState))[0]


def orders(*, actor: Actor, now: datetime, show: str = "", limit: int = PAGE) -> OrderList:
    """The property's orders, newest first; ``show`` is open, connect, disconnect, would_have or all."""
    kind = {"connect": OrderKind.CONNECT, "disconnect": OrderKind.DISCONNECT}.get(show)
    states = {"open": _LIVE, "would_have": (OrderState.WOULD_HAVE,)}.get(show, _REAL)
    with scope(actor):
        place = place_of(actor)
        found, total = _orders(limit=limit, account_id=None, kind=kind, states=states)
    return OrderList(place, now, found, total)


def meters(*, actor: Actor, now: datetime, show: str = "", limit: int = PAGE_MAX) -> MeterList:
    """The property's meters in the order of the façade; ``show`` is silent, open, held or all."""
    with scope(actor):
        place = place_of(actor)
        units = units_now(property_id=place.property_id, now=now)
        held = dict(
            rows(
                """SELECT meter_id, count(*) FROM vee_case
                   WHERE property_id = %s AND state = 'held' GROUP BY meter_id""",
                [place.property_id],
            )
        )
    found = [
        MeterRow(
            unit.meter_id, unit.serial, unit.name, unit.account_id, unit.heard_at(), unit.reading_at,
            unit.register_wh, unit.relay, not unit.is_silent(now), held.get(unit.meter_id, 0),
        )
        for unit in units
        if unit.meter_id is not None
    ]  # fmt: skip
    if show == "silent":
        found = [row for row in found if not row.fresh]
    elif show == "open":
        found = [row for row in found if row.relay is RelayState.OPEN]
    elif show == "held":
        found = [row for row in found if row.held]
    return MeterList(place, now, tuple(found[:limit]), len(found))


def money(*, actor: Actor, now: datetime, days: int = 1, limit: int = PAGE) -> MoneyList:
    """The recharges of the last local days, today included, newest first, with their whole sum."""
    with scope(actor):
        place = place_of(actor)
        since = local_day(now, place.time_zone, back=max(0, days - 1)).begins_at
        found = rows(
            """SELECT p.event_id, p.account_id, coalesce(b.code, ''), coalesce(u.code, a.number),
                      coalesce(c.name, ''), p.accepted_at, p.amount_micro, p.way, p.reference,
                      coalesce(d.series || '-' || d.number, ''), p.taken_by,
                      count(*) OVER (), sum(p.amount_micro) OVER ()::bigint
               FROM payment p
               JOIN account a ON a.id = p.account_id
               LEFT JOIN customer c ON c.id = a.customer_id
               LEFT JOIN document d ON d.event_id = p.event_id AND d.kind = 'receipt'
               LEFT JOIN LATERAL (SELECT unit_id FROM tenancy t WHERE t.account_id = a.id
                   ORDER BY lower(t.period) DESC LIMIT 1) h ON true
               LEFT JOIN unit u ON u.id = coalesce(h.unit_id, a.unit_id)
               LEFT JOIN building b ON b.id = u.building_id
               WHERE p.property_id = %s AND p.accepted_at >= %s
               ORDER BY p.accepted_at DESC, p.id DESC LIMIT %s""",
            [place.property_id, since, limit],
        )
        names = actor_names(row[10] for row in found)
    listed = tuple(
        MoneyRow(
            row[0], row[1], unit_name(row[2], row[3]), row[4], row[5], row[6], row[7], row[8],
            row[9], names.get(row[10], ""),
        )
        for row in found
    )  # fmt: skip
    total, together = (int(found[0][11]), int(found[0][12])) if found else (0, 0)
    return MoneyList(place, now, listed, total, together)


def messages(*, actor: Actor, now: datetime, limit: int = PAGE) -> MessageList:
    """What people were told, newest first, with the latest try; nothing from old readings."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            """SELECT m.id, m.account_id, coalesce(b.code, ''), coalesce(u.code, ''),
                      coalesce(nullif(t.address, ''), c.name, ''), coalesce(t.channel, ''),
                      m.created_at, m.code, m.urgent, m.state, coalesce(t.subject, ''),
                      coalesce(t.body, ''), count(*) OVER ()
               FROM message m
               LEFT JOIN account a ON a.id = m.account_id
               LEFT JOIN customer c ON c.id = m.customer_id
               LEFT JOIN LATERAL (SELECT unit_id FROM tenancy y WHERE y.account_id = m.account_id
                   ORDER BY lower(y.period) DESC LIMIT 1) h ON true
               LEFT JOIN unit u ON u.id = coalesce(h.unit_id, a.unit_id)
               LEFT JOIN building b ON b.id = u.building_id
               LEFT JOIN LATERAL (SELECT * FROM message_attempt x WHERE x.message_id = m.id
                   ORDER BY x.tried_at DESC LIMIT 1) t ON true
               WHERE m.property_id = %s AND m.state <> %s
               ORDER BY m.created_at DESC, m.id DESC LIMIT %s""",
            [place.property_id, int(DeliveryState.WOULD_HAVE), limit],
        )
    listed = tuple(
        MessageRow(
            row[0], row[1], unit_name(row[2], row[3]) if row[3] else "", row[4], row[5], row[6],
            row[7], row[8], DeliveryState(row[9]), row[10], row[11],
        )
        for row in found
    )  # fmt: skip
    return MessageList(place, now, listed, int(found[0][12]) if found else 0)
