"""Reads the console's lists: accounts, orders, meters, recharges, messages; each in two or three statements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from prewatt.access.scope import Actor, scope
from prewatt.core.accounts import TransferKind
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
from prewatt.reports.paging import PAGE, Mark, Neighbours, Page
from prewatt.reports.place import local_day, place_of, rows
from prewatt.reports.selection import Wanted, every_unit, select_units
from prewatt.reports.takings import takings
from prewatt.reports.units import UnitNow, unit_name

__all__ = ["PAGE", "PAGE_MAX"]

#: Lists that are not paged by key never show more than this.
PAGE_MAX = 2_000
FIRST = Page()


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
    page: Page = FIRST,
) -> AccountList:
    """All accounts with a unit, filtered by text and state; sorted by unit, time left or balance."""
    with scope(actor):
        place = place_of(actor)
        found = select_units(place, now, _accounts(query, state, sort), page)
    listed = tuple(_account_row(unit, now) for unit in found.units)
    return AccountList(place, now, listed, found.total, found.sum_micro, found.beside)


def every_account(
    *,
    actor: Actor,
    now: datetime,
    query: str = "",
    state: BoardState | None = None,
    sort: str = "unit",
) -> Iterator[AccountRow]:
    """The same selection to its end, for a file: rows come as they are asked for."""
    with scope(actor):
        place = place_of(actor)
        for unit in every_unit(place, now, _accounts(query, state, sort)):
            yield _account_row(unit, now)


def _accounts(query: str, state: BoardState | None, sort: str) -> Wanted:
    return Wanted(("account",), text=query, state=state, sort=sort)


def _account_row(unit: UnitNow, now: datetime) -> AccountRow:
    assert unit.account_id is not None
    return AccountRow(
        account_id=unit.account_id,
        number=unit.number,
        unit=unit.name,
        building=unit.building,
        customer=unit.customer,
        meter=unit.serial,
        state=unit.state,
        balance_micro=unit.available_micro,
        runs_out_at=None if unit.relay is RelayState.OPEN else unit.runs_out_at(now),
        day_micro=unit.spend_per_day_micro,
    )


_ORDERS = """
SELECT o.id, o.account_id, b.code, u.code, coalesce(c.name, ''), m.serial, o.kind, o.state, o.reason,
       o.decided_at, o.sent_at, o.acknowledged_at,
       CASE WHEN o.state = 4 THEN o.finished_at END, o.attempts, o.failure
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
WHERE """
_LIVE = (OrderState.DECIDED, OrderState.SENT, OrderState.ACKNOWLEDGED)
_REAL = tuple(state for state in OrderState if state is not OrderState.WOULD_HAVE)


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
    found = rows(
        _ORDERS
        + "o.account_id = %(account)s ORDER BY o.decided_at DESC, o.id DESC LIMIT %(limit)s",
        {"account": account_id, "limit": limit},
    )
    return tuple(_order(row) for row in found)


def orders(*, actor: Actor, now: datetime, show: str = "", page: Page = FIRST) -> OrderList:
    """The property's orders, newest first; ``show`` is open, connect, disconnect, would_have or all."""
    kind = {"connect": OrderKind.CONNECT, "disconnect": OrderKind.DISCONNECT}.get(show)
    states = {"open": _LIVE, "would_have": (OrderState.WOULD_HAVE,)}.get(show, _REAL)
    with scope(actor):
        place = place_of(actor)
        given = {
            "property": place.property_id,
            "kind": None if kind is None else int(kind),
            "states": [int(state) for state in states],
            **page.given(),
        }
        total = rows(f"SELECT count(*) FROM supply_order o WHERE {_ASKED}", given)[0][0]  # noqa: S608 - our own condition
        beyond = page.where(("o.decided_at", "o.id"), _EDGE, falls=True)
        found = rows(f"{_ORDERS} {_ASKED} AND {beyond}", given)
    shown, *more = page.cut(tuple(_order(row) for row in found))
    marks = [Mark.of_time(order.decided_at, order.order_id) for order in shown]
    return OrderList(place, now, shown, total, beside=_beside(marks, *more))


_ASKED = """o.property_id = %(property)s AND o.state = ANY(%(states)s)
    AND (%(kind)s::int IS NULL OR o.kind = %(kind)s)"""
#: The key of the row at the edge of a page, in lists that are sorted by time.
_EDGE = "(%(mark_at)s, %(mark_id)s)"


def _beside(marks: Sequence[Mark], is_before: bool, is_after: bool) -> Neighbours:
    return Neighbours.of(marks, is_before=is_before, is_after=is_after)


def meters(
    *, actor: Actor, now: datetime, show: str = "", query: str = "", page: Page = FIRST
) -> MeterList:
    """The property's meters in the order of the façade; ``show`` is silent, open, held or all."""
    asked = ("meter", show) if show in ("silent", "open", "held") else ("meter",)
    with scope(actor):
        place = place_of(actor)
        found = select_units(place, now, Wanted(asked, text=query), page)
        held = dict(
            rows(
                """SELECT meter_id, count(*) FROM vee_case
                   WHERE property_id = %s AND state = 'held' AND meter_id = ANY(%s)
                   GROUP BY meter_id""",
                [place.property_id, [unit.meter_id for unit in found.units]],
            )
        )
    listed = tuple(
        MeterRow(
            unit.meter_id, unit.serial, unit.name, unit.account_id, unit.heard_at, unit.reading_at,
            unit.register_wh, unit.relay, not unit.silent, held.get(unit.meter_id, 0),
        )
        for unit in found.units
        if unit.meter_id is not None
    )  # fmt: skip
    return MeterList(place, now, listed, found.total, beside=found.beside)


def money(*, actor: Actor, now: datetime, days: int = 1, page: Page = FIRST) -> MoneyList:
    """The recharges of the last local days, today included, newest first, with their whole sum
    and with what went back and was paid out in these days.
    """
    with scope(actor):
        place = place_of(actor)
        since = local_day(now, place.time_zone, back=max(0, days - 1)).begins_at
        given = {"property": place.property_id, "since": since, **page.given()}
        total, together = rows(
            """SELECT count(*), coalesce(sum(amount_micro), 0)::bigint FROM payment
               WHERE property_id = %(property)s AND accepted_at >= %(since)s""",
            given,
        )[0]
        found = rows(
            f"""SELECT p.event_id, p.account_id, coalesce(b.code, ''), coalesce(u.code, a.number),
                      coalesce(c.name, ''), p.accepted_at, p.amount_micro, p.way, p.reference,
                      coalesce(d.series || '-' || d.number, ''), p.taken_by, p.id,
                      (SELECT c.kind FROM transfer r
                       JOIN transfer c ON c.account_id = r.account_id
                           AND c.corrects_event_id = r.event_id AND c.corrects_seq = r.seq
                       WHERE r.account_id = p.account_id AND r.event_id = p.event_id
                         AND r.kind = {TransferKind.RECHARGE:d} LIMIT 1)
               FROM payment p
               JOIN account a ON a.id = p.account_id
               LEFT JOIN customer c ON c.id = a.customer_id
               LEFT JOIN document d ON d.event_id = p.event_id AND d.kind = 'receipt'
               LEFT JOIN LATERAL (SELECT unit_id FROM tenancy t WHERE t.account_id = a.id
                   ORDER BY lower(t.period) DESC LIMIT 1) h ON true
               LEFT JOIN unit u ON u.id = coalesce(h.unit_id, a.unit_id,
                   (SELECT l.unit_id FROM temporary_let l WHERE l.account_id = a.id))
               LEFT JOIN building b ON b.id = u.building_id
               WHERE p.property_id = %(property)s AND p.accepted_at >= %(since)s
                 AND {page.where(("p.accepted_at", "p.id"), _EDGE, falls=True)}""",  # noqa: S608 - our own condition
            given,
        )
        shown, *more = page.cut(found)
        names = actor_names(row[10] for row in shown)
        took = takings(
            property_id=place.property_id, since=since, until=None, received_micro=together
        )
    listed = tuple(
        MoneyRow(
            row[0], row[1], unit_name(row[2], row[3]), row[4], row[5], row[6], row[7], row[8],
            row[9], names.get(row[10], ""), None if row[12] is None else TransferKind(row[12]),
        )
        for row in shown
    )  # fmt: skip
    marks = [Mark.of_time(row[5], row[11]) for row in shown]
    return MoneyList(place, now, listed, total, together, _beside(marks, *more), took)


def messages(*, actor: Actor, now: datetime, page: Page = FIRST) -> MessageList:
    """What people were told, newest first, with the latest try; nothing from old readings."""
    with scope(actor):
        place = place_of(actor)
        given = {
            "property": place.property_id,
            "would_have": int(DeliveryState.WOULD_HAVE),
            **page.given(),
        }
        total = rows(
            """SELECT count(*) FROM message
               WHERE property_id = %(property)s AND state <> %(would_have)s""",
            given,
        )[0][0]
        found = rows(
            f"""SELECT m.id, m.account_id, coalesce(b.code, ''), coalesce(u.code, ''),
                      coalesce(nullif(t.address, ''), c.name, ''), coalesce(t.channel, ''),
                      m.created_at, m.code, m.urgent, m.state, coalesce(t.subject, ''),
                      coalesce(t.body, '')
               FROM message m
               LEFT JOIN account a ON a.id = m.account_id
               LEFT JOIN customer c ON c.id = m.customer_id
               LEFT JOIN LATERAL (SELECT unit_id FROM tenancy y WHERE y.account_id = m.account_id
                   ORDER BY lower(y.period) DESC LIMIT 1) h ON true
               LEFT JOIN unit u ON u.id = coalesce(h.unit_id, a.unit_id,
                   (SELECT l.unit_id FROM temporary_let l WHERE l.account_id = a.id))
               LEFT JOIN building b ON b.id = u.building_id
               LEFT JOIN LATERAL (SELECT * FROM message_attempt x WHERE x.message_id = m.id
                   ORDER BY x.tried_at DESC LIMIT 1) t ON true
               WHERE m.property_id = %(property)s AND m.state <> %(would_have)s
                 AND {page.where(("m.created_at", "m.id"), _EDGE, falls=True)}""",  # noqa: S608 - our own condition
            given,
        )
    shown, *more = page.cut(found)
    listed = tuple(
        MessageRow(
            row[0], row[1], unit_name(row[2], row[3]) if row[3] else "", row[4], row[5], row[6],
            row[7], row[8], DeliveryState(row[9]), row[10], row[11],
        )
        for row in shown
    )  # fmt: skip
    marks = [Mark.of_time(row[6], row[0]) for row in shown]
    return MessageList(place, now, listed, total, beside=_beside(marks, *more))
