"""Reads of supply: rules, standings, what meters are at, orders that are due.

All run inside the caller's scope. Instants come out of SQL as µs, because PostgreSQL's
``-infinity`` (no reading yet) has no datetime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from django.db import connection

from prewatt.core.vocabulary import OrderKind, Protection, RelayState
from prewatt.runtime.prepared import execute, fetch, integers, pipelined
from prewatt.supply.policy import Rules, compile_rules


@dataclass(frozen=True, slots=True)
class Standing:
    """An account's row of ``supply_state`` with the figures of ``account_state`` beside it."""

    account_id: int
    property_id: int
    desired: RelayState
    protection: Protection
    emergency_micro: int
    fired_mask: int
    would_mask: int
    level_fired_at: datetime | None
    outcome: int
    reason: int
    closed_gates: int
    held: bool
    reconsider_at: datetime | None
    payment_hold_until_us: int | None
    available_micro: int
    spend_per_day_micro: int
    watch_below_micro: int
    reading_at_us: int | None

    @property
    def left_h(self) -> int | None:
        """Whole hours that the money lasts at the usual use; None while no use is known."""
        if self.spend_per_day_micro <= 0:
            return None
        return max(self.available_micro, 0) * 24 // self.spend_per_day_micro


@dataclass(frozen=True, slots=True)
class Wiring:
    """The relays an account's supply runs through now."""

    meter_ids: tuple[int, ...]
    relay: RelayState
    standing_order: OrderKind | None


@dataclass(frozen=True, slots=True)
class DueOrder:
    """An order whose command should go out now; ``attempts`` counts those before."""

    order_id: int
    property_id: int
    account_id: int
    meter_id: int
    serial: str
    kind: OrderKind
    attempts: int
    decided_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class KnownOrder:
    """What an answer must fit: whose order it is, how many commands went out, the last of them when."""

    meter_id: int
    attempts: int
    sent_at: datetime | None
    is_live: bool


def known_orders(order_ids: Sequence[int]) -> dict[int, KnownOrder]:
    """Return those of the orders that there are, live or ended."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT id, meter_id, attempts, sent_at, state IN (1, 2, 3)
               FROM supply_order WHERE id = ANY(%s)""",
            [list(order_ids)],
        )
        return {row[0]: KnownOrder(*row[1:]) for row in cursor.fetchall()}


def lock_standings(
    account_ids: Sequence[int], now: datetime
) -> tuple[list[Standing], dict[int, Rules]]:
    """Lock the supply standing of each account that has one, in account order.

    Returns them with the compiled rules of their properties; defaults where none were stored.
    """
    ids = [integers(account_ids)]
    with pipelined():
        standings, stored = execute(_STANDINGS, ids), execute(_RULES_OF_ACCOUNTS, ids)
        with connection.wrap_database_errors:
            found, bodies = standings.fetchall(), stored.fetchall()
    return (
        [
            Standing(
                row[0],
                row[1],
                RelayState(row[2]),
                Protection[row[3].upper()] if row[3] else Protection.NONE,
                *row[4:],
            )
            for row in found
        ],
        {row[0]: _compiled(*row[1:], now.year) for row in bodies},
    )


_STANDINGS = """
SELECT s.account_id, s.property_id, s.desired, s.protection, s.emergency_micro,
       s.fired_mask, s.would_mask, s.level_fired_at, s.outcome, s.reason,
       s.closed_gates, s.held, s.reconsider_at,
       (extract(epoch FROM s.payment_hold_until) * 1000000)::bigint,
       a.available, a.spend_per_day, a.watch_below,
       CASE WHEN isfinite(a.last_interval_at)
            THEN (extract(epoch FROM a.last_interval_at) * 1000000)::bigint END
FROM supply_state s JOIN account_state a USING (account_id)
WHERE s.account_id = ANY(%s::bigint[]) ORDER BY s.account_id FOR UPDATE OF s
"""


def rules(property_ids: Sequence[int], now: datetime) -> dict[int, Rules]:
    """Return the compiled rules of each property; defaults where none were stored."""
    return {
        row[0]: _compiled(*row[1:], now.year) for row in fetch(_RULES, [integers(property_ids)])
    }


_RULES = """
SELECT p.id, coalesce(s.body, '{}'::jsonb)::text, p.time_zone, p.holiday_calendar,
       own_calendar(p.id), p.currency
FROM property p LEFT JOIN supply_policy s ON s.property_id = p.id
WHERE p.id = ANY(%s::bigint[])
"""
_RULES_OF_ACCOUNTS = _RULES.replace(
    "p.id = ANY(%s::bigint[])",
    "p.id IN (SELECT property_id FROM supply_state WHERE account_id = ANY(%s::bigint[]))",
)


@lru_cache(maxsize=256)
def _compiled(
    body: str, time_zone: str, calendar: str, own_calendar: str, currency: str, year: int
) -> Rules:
    return compile_rules(
        json.loads(body),
        time_zone=time_zone,
        holiday_calendar=calendar,
        own_calendar=own_calendar,
        currency=currency,
        year=year,
    )


@dataclass(frozen=True, slots=True)
class Departed:
    """A relay that reads otherwise than is wanted while no order of its meter is under way.

    ``finished_at`` is when the last order of a day ended, ``times`` how many of those were made to put
    the relay right, ``tried_at`` when the last of them was decided. ``is_held`` says that it is closed
    and its cut is held: that is decided again by itself.
    """

    account_id: int
    property_id: int
    meter_id: int
    wanted: RelayState
    read_at: datetime
    finished_at: datetime | None
    times: int
    tried_at: datetime | None
    is_held: bool


def departed(
    *,
    now: datetime,
    property_ids: Sequence[int] | None = None,
    account_ids: Sequence[int] | None = None,
    limit: int,
) -> list[Departed]:
    """Return relays that departed, in account order; None asks for every property, every account."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT s.account_id, s.property_id, l.meter_id, s.desired, l.relay_read_at,
                      recent.finished_at, recent.times, recent.tried_at, s.held AND l.relay = 1
               FROM meter_link l
               JOIN meter m ON m.id = l.meter_id AND m.has_relay
               JOIN meter_assignment ma
                 ON ma.meter_id = l.meter_id AND ma.period @> %(now)s::timestamptz
               JOIN supply_state s ON s.account_id = ma.account_id
               CROSS JOIN LATERAL (
                   SELECT max(o.finished_at) AS finished_at,
                          count(*) FILTER (WHERE d.trigger = 'relay') AS times,
                          max(o.decided_at) FILTER (WHERE d.trigger = 'relay') AS tried_at
                   FROM supply_order o JOIN supply_decision d ON d.id = o.decision_id
                   WHERE o.account_id = s.account_id AND o.meter_id = l.meter_id
                     AND NOT d.would_have AND o.decided_at > %(now)s - interval '1 day') recent
               WHERE l.relay IN (1, 2) AND l.relay <> s.desired
                 AND (%(places)s::bigint[] IS NULL OR l.property_id = ANY(%(places)s))
                 AND (%(accounts)s::bigint[] IS NULL OR s.account_id = ANY(%(accounts)s))
                 AND NOT EXISTS (SELECT FROM supply_order o
                                 WHERE o.meter_id = l.meter_id AND o.state IN (1, 2, 3))
               ORDER BY s.account_id, l.meter_id LIMIT %(limit)s""",
            {
                "now": now,
                "places": None if property_ids is None else list(property_ids),
                "accounts": None if account_ids is None else list(account_ids),
                "limit": limit,
            },
        )
        return [
            Departed(row[0], row[1], row[2], RelayState(row[3]), *row[4:])
            for row in cursor.fetchall()
        ]


def departures_ended(*, property_ids: Sequence[int] | None) -> list[tuple[int, str]]:
    """Return property and subject of open alerts about relays that read as wanted again."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT a.property_id, a.subject FROM alert a
               WHERE a.code = 'supply.relay_departed' AND a.closed_at IS NULL
                 AND (%(places)s::bigint[] IS NULL OR a.property_id = ANY(%(places)s))
                 AND NOT EXISTS (
                     SELECT FROM meter_link l
                     JOIN meter_assignment ma ON ma.meter_id = l.meter_id AND upper_inf(ma.period)
                     JOIN supply_state s ON s.account_id = ma.account_id
                     WHERE a.subject = 'meter:' || l.meter_id
                       AND l.relay IN (1, 2) AND l.relay <> s.desired)
               ORDER BY a.property_id, a.subject""",
            {"places": None if property_ids is None else list(property_ids)},
        )
        return [(row[0], row[1]) for row in cursor.fetchall()]


def wirings(
    account_ids: Sequence[int], now: datetime, meter_ids: Sequence[int] | None = None
) -> dict[int, Wiring]:
    """Return relays and live orders of accounts; an account without a relay is left out.

    With ``meter_ids`` only these meters are looked at.

    Several meters count as open only when all are, so that a cut that is half done is still due;
    and a live disconnect among them wins, so that a recharge always takes it back.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT ma.account_id, array_agg(ma.meter_id ORDER BY ma.meter_id),
                      CASE WHEN bool_and(coalesce(ml.relay, 0) = 2) THEN 2
                           WHEN bool_or(coalesce(ml.relay, 0) = 0) THEN 0 ELSE 1 END,
                      max(o.kind)
               FROM meter_assignment ma
               JOIN meter m ON m.id = ma.meter_id AND m.has_relay
               LEFT JOIN meter_link ml ON ml.meter_id = ma.meter_id
               LEFT JOIN supply_order o ON o.meter_id = ma.meter_id
                    AND o.state IN (1, 2, 3) AND o.kind IN (1, 2)
               WHERE ma.account_id = ANY(%s) AND ma.period @> %s::timestamptz
                 AND (%s::bigint[] IS NULL OR ma.meter_id = ANY(%s))
               GROUP BY ma.account_id""",
            [list(account_ids), now, *[None if meter_ids is None else list(meter_ids)] * 2],
        )
        return {
            row[0]: Wiring(
                tuple(row[1]), RelayState(row[2]), None if row[3] is None else OrderKind(row[3])
            )
            for row in cursor.fetchall()
        }


def brake_since(property_ids: Sequence[int]) -> Mapping[int, datetime | None]:
    """Return since when the mass-cut brake of each property is on; None where it is off."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT property_id, brake_since FROM supply_policy WHERE property_id = ANY(%s)",
            [list(property_ids)],
        )
        return dict(cursor.fetchall())


def due_orders(*, now: datetime, limit: int) -> list[DueOrder]:
    """Return at most ``limit`` orders whose command should go out now; connects come first.

    Whoever has paid waits for nothing that is less urgent.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT o.id, o.property_id, o.account_id, o.meter_id, m.serial, o.kind, o.attempts,
                      o.decided_at, o.expires_at
               FROM supply_order o JOIN meter m ON m.id = o.meter_id
               WHERE o.state IN (1, 2, 3) AND o.next_try_at <= %s
                 AND (o.expires_at IS NULL OR o.expires_at > %s)
               ORDER BY o.kind, o.next_try_at, o.id LIMIT %s""",
            [now, now, limit],
        )
        return [
            DueOrder(order, place, account, meter, serial, OrderKind(kind), tries, at, end)
            for order, place, account, meter, serial, kind, tries, at, end in cursor.fetchall()
        ]


def to_reconsider(*, now: datetime, woken: Sequence[int], everything: bool) -> list[int]:
    """Return accounts to decide again: their instant has come, or their property rang."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT account_id FROM supply_state
               WHERE reconsider_at <= %s OR (held AND (%s OR property_id = ANY(%s)))
               ORDER BY account_id""",
            [now, everything, list(woken)],
        )
        return [row[0] for row in cursor.fetchall()]
