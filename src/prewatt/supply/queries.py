"""Reads of supply: rules, standings, what meters are at, orders that are due.

All run inside the caller's scope. Instants come out of SQL as µs, because PostgreSQL's
``-infinity`` (no reading yet) has no datetime.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from django.db import connection

from prewatt.core.drivers import Driver
from prewatt.core.readings import ACTIVE_IMPORT, Quality
from prewatt.core.vocabulary import LevelKind, OrderKind, Protection, RelayState
from prewatt.notify.alerts import (
    BRAKE,
    COMMAND_REFUSED,
    DEPARTED,
    RELAY_STUCK,
    USED_WHILE_OPEN,
)
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
    by_hand: RelayState | None = None
    by_hand_until: datetime | None = None
    withheld_since: datetime | None = None

    def by_hand_at(self, now: datetime) -> RelayState | None:
        """What people agreed to keep the relay at, if they did so for this instant."""
        is_in_force = self.by_hand_until is not None and now < self.by_hand_until
        return self.by_hand if is_in_force else None

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
            replace(
                Standing(
                    row[0],
                    row[1],
                    RelayState(row[2]),
                    Protection[row[3].upper()] if row[3] else Protection.NONE,
                    *row[4:18],
                ),
                by_hand=None if row[18] is None else RelayState(row[18]),
                by_hand_until=row[19],
                withheld_since=row[20],
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
            THEN (extract(epoch FROM a.last_interval_at) * 1000000)::bigint END,
       s.by_hand, s.by_hand_until, s.withheld_since
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


class StoredRules(NamedTuple):
    """The rules of a property as they are stored: ``version`` 0 and nothing said where none are."""

    version: int
    body: dict[str, Any]
    changed_at: datetime | None


def stored_rules(property_id: int) -> StoredRules:
    """What a property's rules say, without what they leave to the defaults."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT version, body::text, changed_at FROM supply_policy WHERE property_id = %s",
            [property_id],
        )
        found = cursor.fetchone()
    return (
        StoredRules(0, {}, None)
        if found is None
        else StoredRules(found[0], json.loads(found[1]), found[2])
    )


def rules_of(property_id: int, body: Mapping[str, Any], now: datetime) -> Rules:
    """Compile other rules for a property, as if they were stored; raises `PolicyRefused`."""
    ((_, _, *place),) = fetch(_RULES, [integers([property_id])])
    return _compiled(json.dumps(dict(body)), *place, now.year)


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


class Rearming(NamedTuple):
    """When credit does no more to an account than to let its warning levels fire again.

    That is above every one of its levels: ``money_micro`` and ``hours`` of its use are the highest of
    their kinds, if there are any; zero is one for who has emergency credit, and the end of that is one
    for everybody.
    ``bits`` are the levels there are, ``emergency_bits`` those of emergency credit alone. Of one
    ``version`` of a property's rules, 0 where none were stored.
    """

    version: int
    money_micro: int | None
    hours: int | None
    bits: int
    emergency_bits: int


def rearming(property_ids: Sequence[int], now: datetime) -> dict[int, Rearming]:
    """The same of each property, for whoever sells (`vending.sets.sell`)."""
    return {
        row[0]: _rearming(row[1], _compiled(*row[2:], now.year))
        for row in fetch(_RULES_OF_VERSION, [integers(property_ids)])
    }


_RULES_OF_VERSION = _RULES.replace("SELECT p.id,", "SELECT p.id, coalesce(s.version, 0),")


def _rearming(version: int, rules: Rules) -> Rearming:
    levels = rules.levels.levels
    in_emergency = [each for each in levels if each.kind is LevelKind.EMERGENCY]
    return Rearming(
        version,
        max(
            [each.threshold_micro for each in levels if each.kind is LevelKind.MONEY], default=None
        ),
        max([each.threshold_h for each in levels if each.kind is LevelKind.DAYS], default=None),
        sum(1 << each.level_no for each in levels if each not in in_emergency),
        sum(1 << each.level_no for each in in_emergency),
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
            _DEPARTED,
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


#: Open relays, and accounts that are to be cut, have an index of their own each: what has departed is in
#: one of them, so nothing is read of the many whose relay is closed as it should be.
_DEPARTED = """
SELECT gone.account_id, gone.property_id, gone.meter_id, gone.desired, gone.relay_read_at,
       recent.finished_at, recent.times, recent.tried_at, gone.held AND gone.relay = 1
FROM (SELECT s.account_id, s.property_id, s.desired, s.held, s.protection,
             l.meter_id, l.relay, l.relay_read_at, l.relay_since
      FROM meter_link l
      JOIN meter_assignment ma
        ON ma.meter_id = l.meter_id AND ma.period @> %(now)s::timestamptz
      JOIN supply_state s ON s.account_id = ma.account_id AND s.desired = 1
      WHERE l.relay = 2
        AND (%(places)s::bigint[] IS NULL OR l.property_id = ANY(%(places)s))
        AND (%(accounts)s::bigint[] IS NULL OR s.account_id = ANY(%(accounts)s))
      UNION ALL
      SELECT s.account_id, s.property_id, s.desired, s.held, s.protection,
             l.meter_id, l.relay, l.relay_read_at, l.relay_since
      FROM supply_state s
      JOIN meter_assignment ma
        ON ma.account_id = s.account_id AND ma.period @> %(now)s::timestamptz
      JOIN meter_link l ON l.meter_id = ma.meter_id AND l.relay = 1
      WHERE s.desired = 2
        AND (%(places)s::bigint[] IS NULL OR s.property_id = ANY(%(places)s))
        AND (%(accounts)s::bigint[] IS NULL OR s.account_id = ANY(%(accounts)s))) gone
JOIN meter m ON m.id = gone.meter_id AND m.has_relay
CROSS JOIN LATERAL (
    SELECT max(o.finished_at) AS finished_at,
           count(*) FILTER (WHERE d.trigger = 'relay') AS times,
           max(o.decided_at) FILTER (WHERE d.trigger = 'relay') AS tried_at
    FROM supply_order o JOIN supply_decision d ON d.id = o.decision_id
    WHERE o.account_id = gone.account_id AND o.meter_id = gone.meter_id
      AND NOT d.would_have AND o.decided_at > %(now)s - interval '1 day') recent
WHERE NOT EXISTS (SELECT FROM supply_order o
                  WHERE o.meter_id = gone.meter_id AND o.state IN (1, 2, 3))
  -- What opened above its power limit closes by itself in its time; who is protected does not wait for that.
  AND (gone.relay = 1 OR gone.protection <> '' OR NOT EXISTS (
      SELECT FROM instruction_state t WHERE t.meter_id = gone.meter_id AND t.limit_w > 0
        AND gone.relay_since > %(now)s::timestamptz - make_interval(secs => t.limit_s + 120)))
ORDER BY gone.account_id, gone.meter_id LIMIT %(limit)s
"""


#: Whether the relay of a meter, ``alert.subject``, reads otherwise than its payer's supply is wanted.
_STILL_DEPARTED = """
EXISTS (SELECT FROM meter_link l
        JOIN meter_assignment ma ON ma.meter_id = l.meter_id AND upper_inf(ma.period)
        JOIN supply_state s ON s.account_id = ma.account_id
        WHERE l.meter_id = substr(a.subject, 7)::bigint
          AND l.relay IN (1, 2) AND l.relay <> s.desired)
"""
#: Whether it still reads open, and somebody still pays by it.
_STILL_OPEN = """
EXISTS (SELECT FROM meter_link l
        JOIN meter_assignment ma ON ma.meter_id = l.meter_id AND upper_inf(ma.period)
        WHERE l.meter_id = substr(a.subject, 7)::bigint AND l.relay = 2)
"""
_ORDER_UNDER_WAY = """
EXISTS (SELECT FROM supply_order o
        WHERE o.meter_id = substr(a.subject, 7)::bigint AND o.state IN (1, 2, 3))
"""
#: The condition of each of supply's own alerts as long as its cause lasts; ``a`` is the alert.
CAUSES: Final[Mapping[str, str]] = {
    DEPARTED: _STILL_DEPARTED,
    USED_WHILE_OPEN: _STILL_OPEN,
    RELAY_STUCK: f"({_ORDER_UNDER_WAY} OR {_STILL_DEPARTED})",
    COMMAND_REFUSED: f"({_ORDER_UNDER_WAY} OR {_STILL_DEPARTED})",
    BRAKE: """EXISTS (SELECT FROM supply_policy p
        WHERE p.property_id = a.property_id AND p.brake_since IS NOT NULL)""",
}


def has_lasting_cause(*, code: str, property_id: int, subject: str) -> bool:
    """Whether what an alert of supply was opened for is still so; other packages' alerts are not known."""
    with connection.cursor() as cursor:
        cursor.execute(
            # One of our own conditions, never a caller's text.
            f"""SELECT {CAUSES[code]}
               FROM (SELECT %s::bigint AS property_id, %s::text AS subject) a""",  # noqa: S608 - our own
            [property_id, subject],
        )
        return bool(cursor.fetchone()[0])


def alerts_outlived(*, property_ids: Sequence[int] | None) -> list[tuple[int, str, str]]:
    """Return property, code and subject of open alerts about relays that are as they should be again."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT a.property_id, a.code, a.subject FROM alert a
               WHERE a.closed_at IS NULL
                 AND (%(places)s::bigint[] IS NULL OR a.property_id = ANY(%(places)s))
                 AND (a.code = %(departed)s AND NOT {_STILL_DEPARTED}
                      OR a.code = %(used)s AND NOT {_STILL_OPEN})
               ORDER BY a.property_id, a.code, a.subject""",  # noqa: S608 - our own conditions
            {
                "places": None if property_ids is None else list(property_ids),
                "departed": DEPARTED,
                "used": USED_WHILE_OPEN,
            },
        )
        return [(row[0], row[1], row[2]) for row in cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class UsedWhileOpen:
    """A meter whose register rose although its relay has been read open ``since`` then.

    The rise is counted from the first reading after the relay was read back, so that nothing is in it
    which was used before: from ``from_wh`` at ``from_at`` to ``register_wh`` at ``read_at``.
    """

    property_id: int
    meter_id: int
    account_id: int
    since: datetime
    from_at: datetime
    from_wh: int
    read_at: datetime
    register_wh: int
    used_wh: int


def used_while_open(*, limit: int) -> list[UsedWhileOpen]:
    """Return meters with an open relay whose register rose at all; only open relays are looked at.

    A meter that was sent a command to close is left out: its relay may have closed already, and has
    only not been read back. A meter's clock may be ahead, so that it dates a reading of before the
    opening after it: by as much the first reading is looked for later.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _USED_WHILE_OPEN,
            {
                "register": ACTIVE_IMPORT,
                "withdrawn": int(Quality.WITHDRAWN),
                "limit": limit,
            },
        )
        return [UsedWhileOpen(*row) for row in cursor.fetchall()]


#: The first reading from an instant on that nobody has withdrawn, as it was put right last.
_FIRST_READING = """
SELECT r.read_at, r.value_wh FROM register_reading r
WHERE r.meter_id = l.meter_id AND r.register_code = %(register)s
  AND r.read_at >= opened.at {until} AND r.quality <> %(withdrawn)s
  -- A scalar, so that it is asked of the first row or two and not joined with a meter's whole past.
  AND r.revision = (SELECT max(x.revision) FROM register_reading x
      WHERE x.meter_id = r.meter_id AND x.register_code = r.register_code AND x.read_at = r.read_at)
ORDER BY r.read_at LIMIT 1
"""
#: It is looked for in two hours, which are a few rows however long the relay has been open, and only of a
#: meter that was silent for so long in all that came since.
_USED_WHILE_OPEN = f"""
SELECT l.property_id, l.meter_id, m.account_id, l.relay_since, began.read_at, began.value_wh,
       m.last_at, m.last_value_wh, rise.wh
FROM meter_link l
CROSS JOIN LATERAL (
    SELECT l.relay_since + greatest(l.clock_drift_s, 0) * interval '1 second' AS at) opened
JOIN meter_state m ON m.meter_id = l.meter_id AND m.register_code = %(register)s
    AND m.closed_at = 'infinity' AND m.last_at > opened.at
LEFT JOIN LATERAL ({_FIRST_READING.format(until="AND r.read_at < opened.at + interval '2 hours'")}) soon
    ON true
LEFT JOIN LATERAL ({_FIRST_READING.format(until="AND soon.read_at IS NULL")}) late ON true
CROSS JOIN LATERAL (
    SELECT coalesce(soon.read_at, late.read_at) AS read_at,
           coalesce(soon.value_wh, late.value_wh) AS value_wh) began
CROSS JOIN LATERAL (
    SELECT (m.last_value_wh - began.value_wh
            + CASE WHEN m.last_value_wh < began.value_wh THEN m.modulus_wh ELSE 0 END)
           * m.multiplier AS wh) rise
WHERE l.relay = 2 AND l.relay_since IS NOT NULL AND m.last_at > began.read_at
  -- More than half the register is no turn past zero but a reading that somebody put right downwards.
  AND rise.wh > 0 AND rise.wh < m.modulus_wh * m.multiplier / 2
  AND NOT EXISTS (SELECT FROM supply_order o WHERE o.meter_id = l.meter_id
                  AND o.state IN (1, 2, 3) AND o.kind = 1 AND o.sent_at IS NOT NULL)
ORDER BY l.meter_id LIMIT %(limit)s
"""  # noqa: S608 - our own texts


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


def due_orders(*, now: datetime, limit: int, drivers: Collection[Driver]) -> list[DueOrder]:
    """Return at most ``limit`` orders whose command should go out now; connects come first.

    Only of meters that are reached by one of the drivers: the others' orders wait for their session.

    Whoever has paid waits for nothing that is less urgent.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT o.id, o.property_id, o.account_id, o.meter_id, m.serial, o.kind, o.attempts,
                      o.decided_at, o.expires_at
               FROM supply_order o JOIN meter m ON m.id = o.meter_id
               WHERE o.state IN (1, 2, 3) AND o.next_try_at <= %s
                 AND (o.expires_at IS NULL OR o.expires_at > %s) AND m.driver = ANY(%s)
               ORDER BY o.kind, o.next_try_at, o.id LIMIT %s""",
            [now, now, [str(each) for each in drivers], limit],
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
