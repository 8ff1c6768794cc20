"""Reads of messages, deliveries and alerts. All run inside the caller's scope."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from prewatt.core.vocabulary import DeliveryState
from prewatt.notify.alerts import AlertCode
from prewatt.notify.sentences import ANSWERS, WARNINGS
from prewatt.runtime.prepared import fetch, integers, texts

LIST_MAX = 500


@dataclass(frozen=True, slots=True)
class WarningDelivery:
    """How far an account's warnings came.

    ``delivered_at`` is the first delivery on any channel; ``all_channels_tried_since`` the instant
    since which every channel of the customer has been tried at least once without success. Both
    None: still on its way, or nobody has entered an address.
    """

    delivered_at: datetime | None
    all_channels_tried_since: datetime | None


@dataclass(frozen=True, slots=True)
class WaitingMessage:
    """A message that has not reached anybody yet and is still going to be tried."""

    message_id: int
    account_id: int
    code: str
    detail: Mapping[str, object]


def has_undelivered(account_id: int) -> bool:
    """Whether something that is not just an answer to the customer's own deed still waits to be told."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT EXISTS (SELECT FROM message WHERE account_id = %s AND finished_at IS NULL
                   AND NOT would_have AND code <> ALL(%s))""",
            [account_id, sorted(ANSWERS)],
        )
        return bool(cursor.fetchone()[0])


@dataclass(frozen=True, slots=True)
class MessageLine:
    """One message with its latest try; channel, address and texts are empty before the first."""

    message_id: int
    account_id: int
    account_number: str
    unit: str
    customer: str
    code: str
    detail: Mapping[str, object]
    urgent: bool
    would_have: bool
    state: DeliveryState
    created_at: datetime
    due_at: datetime
    finished_at: datetime | None
    channel: str
    address: str
    attempts: int
    tried_at: datetime | None
    error: str
    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """Something that needs a person; ``subject`` names the object as ``meter:4410``."""

    alert_id: int
    code: str
    subject: str
    detail: Mapping[str, object]
    opened_at: datetime


def warning_delivery(
    account_ids: Sequence[int],
    since: datetime | Mapping[int, datetime],
    codes: Sequence[str] = WARNINGS,
) -> dict[int, WarningDelivery]:
    """How far the real warnings of these codes created since (one instant, or one per account) came.

    An account without such a warning is absent from the answer.
    """
    if not account_ids:
        return {}
    starts = [since[key] if isinstance(since, Mapping) else since for key in account_ids]
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT m.account_id,
                   min(m.finished_at) FILTER (WHERE m.state = %s), min(m.all_tried_at)
               FROM unnest(%s::bigint[], %s::timestamptz[]) AS t(account_id, since)
               JOIN message m ON m.account_id = t.account_id AND m.created_at >= t.since
               WHERE m.code = ANY (%s) AND NOT m.would_have AND m.state <> %s
               GROUP BY m.account_id""",
            [
                DeliveryState.DELIVERED,
                list(account_ids),
                starts,
                list(codes),
                DeliveryState.CANCELLED,
            ],
        )
        return {row[0]: WarningDelivery(row[1], row[2]) for row in cursor.fetchall()}


def waiting(account_ids: Sequence[int], codes: Sequence[str]) -> list[WaitingMessage]:
    """The accounts' unfinished messages of these codes, oldest first."""
    if not account_ids:
        return []
    return [
        WaitingMessage(row[0], row[1], row[2], json.loads(row[3]))
        for row in fetch(
            """SELECT id, account_id, code, detail::text FROM message
               WHERE account_id = ANY (%s::bigint[]) AND code = ANY (%s::text[])
                 AND finished_at IS NULL
               ORDER BY id""",
            [integers(account_ids), texts(codes)],
        )
    ]


_LINES = """SELECT m.id, m.account_id, a.number, coalesce(home.code, lived.code, ''),
       coalesce(c.name, ''), m.code, m.detail::text, m.urgent, m.would_have, m.state,
       m.created_at, m.due_at, m.finished_at, coalesce(t.channel, ''), coalesce(t.address, ''),
       coalesce(t.number, 0), t.tried_at, coalesce(t.error, ''), coalesce(t.subject, ''),
       coalesce(t.body, '')
   FROM message m
   JOIN account a ON a.id = m.account_id
   LEFT JOIN customer c ON c.id = m.customer_id
   LEFT JOIN unit home ON home.id = a.unit_id
   LEFT JOIN LATERAL (
       SELECT u.code FROM tenancy y JOIN unit u ON u.id = y.unit_id
       WHERE y.account_id = a.id AND lower(y.period) <= m.created_at
       ORDER BY y.period @> m.created_at DESC, lower(y.period) DESC, y.id LIMIT 1) lived ON true
   LEFT JOIN LATERAL (
       SELECT * FROM message_attempt x WHERE x.message_id = m.id{channel}
       ORDER BY (x.state = 2) DESC, x.tried_at DESC, x.id DESC LIMIT 1) t ON true
"""


def messages_of_account(*, account_id: int, limit: int = 100) -> list[MessageLine]:
    """An account's messages, newest first, each with its delivery or else its latest try."""
    return _lines(
        _LINES.format(channel="")
        + "WHERE m.account_id = %s ORDER BY m.created_at DESC, m.id DESC LIMIT %s",
        [account_id, min(limit, LIST_MAX)],
    )


def outbox(*, property_id: int, limit: int = 100) -> list[MessageLine]:
    """What the demo's outbox shows: messages that were delivered there, newest first."""
    return _lines(
        _LINES.format(channel=" AND x.channel = 'outbox'")
        + "WHERE m.property_id = %s AND t.id IS NOT NULL "
        "ORDER BY m.created_at DESC, m.id DESC LIMIT %s",
        [property_id, min(limit, LIST_MAX)],
    )


def messages_of_property(*, property_id: int, limit: int = 100) -> list[MessageLine]:
    """A property's real messages, newest first, whatever became of them."""
    return _lines(
        _LINES.format(channel="") + "WHERE m.property_id = %s AND NOT m.would_have "
        "ORDER BY m.created_at DESC, m.id DESC LIMIT %s",
        [property_id, min(limit, LIST_MAX)],
    )


def open_alerts(*, property_id: int, limit: int = 100) -> list[OpenAlert]:
    """Open alerts, oldest first: the one that has waited longest is the one to see."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT id, code, subject, detail::text, opened_at FROM alert
               WHERE property_id = %s AND closed_at IS NULL ORDER BY opened_at, id LIMIT %s""",
            [property_id, min(limit, LIST_MAX)],
        )
        rows = cursor.fetchall()
    return [OpenAlert(row[0], row[1], row[2], json.loads(row[3]), row[4]) for row in rows]


def open_of(code: AlertCode) -> list[tuple[int, str]]:
    """Property and subject of each open alert of a code, within the caller's scope."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT property_id, subject FROM alert
               WHERE code = %s AND closed_at IS NULL ORDER BY property_id, subject""",
            [code],
        )
        return [(int(place), str(subject)) for place, subject in cursor.fetchall()]


def next_due_at() -> datetime | None:
    """When the worker has to look next if no bell rings; None while nothing waits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT min(due_at) FROM message WHERE finished_at IS NULL")
        row = cursor.fetchone()
    return None if row is None else row[0]


def _lines(statement: str, values: Sequence[Any]) -> list[MessageLine]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows = cursor.fetchall()
    return [_line(row) for row in rows]


def _line(row: Sequence[Any]) -> MessageLine:
    values: list[Any] = list(row)
    values[6], values[9] = json.loads(row[6]), DeliveryState(row[9])
    return MessageLine(*values)
