"""Writes messages, delivers them, and opens and closes alerts.

Delivery has three steps, and no transaction or lock is held while a channel is spoken to: *claim*
(one transaction takes due messages with SKIP LOCKED, plans the tries and writes an attempt row for
each), *send* (no database), *record* (one short transaction per message). A worker that dies in
between leaves its attempts behind as "outcome unknown"; its claim runs out and another takes over.
A message can therefore reach somebody twice, never be lost, and its reference tells a repeat.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.quiet_hours import QuietHours, send_at_us
from prewatt.core.vocabulary import DeliveryState, Severity
from prewatt.notify.alerts import UNREACHABLE, AlertCode
from prewatt.notify.policy import QuietHoursRefused, quiet_hours
from prewatt.notify.ports import (
    Channel,
    Contact,
    Permanent,
    Rendered,
    SendOutcome,
    Sent,
    Temporary,
)
from prewatt.notify.queries import WaitingMessage
from prewatt.notify.sentences import (
    ANSWERS,
    TAMPER_NOTICE,
    WARNINGS,
    Setting,
    refuse_unsayable,
    render,
)
from prewatt.runtime.bells import ring
from prewatt.runtime.prepared import booleans, fetch, integers, moments, texts

log = logging.getLogger(__name__)

#: Wait after the n-th failed try of a channel; after the last one the channel is given up. Together
#: a little over a day, so that "every channel was tried for a day" can come true.
BACK_OFF: Final = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=2),
    timedelta(hours=4),
    timedelta(hours=8),
    timedelta(hours=12),
)
ATTEMPTS_MAX: Final = len(BACK_OFF) + 1
#: Messages claimed at once; with every try bounded in time, a claim outlives its slowest send.
CLAIM_SIZE: Final = 20
CLAIM_LASTS: Final = timedelta(minutes=30)
#: How often we look whether somebody without any address has got one, and for how long.
NO_ADDRESS_LOOK: Final = timedelta(hours=1)
NO_ADDRESS_UNTIL: Final = timedelta(days=30)
ERROR_MAX: Final = 300
ADDRESS_MAX: Final = 254


class UnknownAccount(ValueError):
    """A message names an account that does not exist at its property, or lies outside the scope."""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """One message to enqueue; ``code`` and ``detail`` as in ``notify.sentences``.

    ``dedupe_key`` (at most 120 characters) makes the same message one, however often it is
    enqueued. ``urgent`` passes quiet hours. ``would_have`` was composed from old readings: stored
    at its own time, never sent.
    """

    property_id: int
    account_id: int
    code: str
    detail: Mapping[str, object]
    dedupe_key: str
    urgent: bool = False
    would_have: bool = False


def set_quiet_hours(
    *, actor: Actor, property_id: int, starts_min: int, ends_min: int, now: datetime
) -> None:
    """Set when a property's people are not to be woken, by local civil time.

    Both are minutes after midnight; quiet hours go on across it when they end earlier than they
    start, and equal ends mean none. What waits is looked at again at once.
    Raises `QuietHoursRefused` for hours outside a day or an unknown property.
    """
    require(actor, "notify.policy", property_id=property_id)
    quiet_hours("UTC", starts_min, ends_min)
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """SELECT quiet_starts_min, quiet_ends_min FROM notify_policy
               WHERE property_id = %s FOR NO KEY UPDATE""",
            [property_id],
        )
        former = cursor.fetchone()
        cursor.execute(
            """INSERT INTO notify_policy AS q
                      (property_id, version, quiet_starts_min, quiet_ends_min, changed_at)
               SELECT id, 1, %s, %s, %s FROM property WHERE id = %s
               ON CONFLICT (property_id) DO UPDATE
               SET version = q.version + 1, quiet_starts_min = excluded.quiet_starts_min,
                   quiet_ends_min = excluded.quiet_ends_min, changed_at = excluded.changed_at""",
            [starts_min, ends_min, now, property_id],
        )
        if cursor.rowcount != 1:
            raise QuietHoursRefused(f"there is no property {property_id}")
        # A message that is being sent has the end of its claim there, which must run out by itself.
        cursor.execute(
            """UPDATE message m SET due_at = %s
               WHERE property_id = %s AND finished_at IS NULL AND due_at > %s
                 AND NOT EXISTS (SELECT FROM message_attempt a
                                 WHERE a.message_id = m.id AND a.state = %s)""",
            [now, property_id, now, DeliveryState.PENDING],
        )
        record(
            actor=actor.code,
            code="notify.quiet_hours.set",
            property_id=property_id,
            subject=f"property:{property_id}",
            now=now,
            before=former and {"starts_min": former[0], "ends_min": former[1]},
            after={"starts_min": starts_min, "ends_min": ends_min},
        )
        ring("message", [property_id])


def enqueue(*, messages: Sequence[NewMessage], now: datetime, would_have: bool = False) -> int:
    """Store messages inside the caller's transaction, and ring once it commits; returns how many.

    Set-based: one statement for any number, and one before it where quiet hours may hold some of
    them. Customer and language are looked up, duplicates by (account, dedupe_key) are ignored.
    ``would_have`` marks the whole set. Raises `UnsayableMessage` or `UnknownAccount`; nothing is
    stored then.
    """
    if not messages:
        return 0
    for each in messages:
        refuse_unsayable(each.code, each.detail)
    held = sorted({each.property_id for each in messages if _is_held(each.code, each.urgent)})
    ready = _ends_of_quiet(held, now)
    due = [
        ready.get(each.property_id, now) if _is_held(each.code, each.urgent) else now
        for each in messages
    ]
    return _insert(messages, due, now, would_have)


def _is_held(code: str, urgent: bool) -> bool:
    """Whether quiet hours hold the message on every channel."""
    return not urgent and code not in ANSWERS


def _ends_of_quiet(property_ids: Sequence[int], now: datetime) -> dict[int, datetime]:
    """When quiet hours end at each property; now where they do not hold at present."""
    if not property_ids:
        return {}
    found = fetch(
        """SELECT p.id, p.time_zone, q.quiet_starts_min, q.quiet_ends_min
           FROM property p LEFT JOIN notify_policy q ON q.property_id = p.id
           WHERE p.id = ANY (%s::bigint[])""",
        [integers(property_ids)],
    )
    return {row[0]: _end_of_quiet(quiet_hours(*row[1:]), now) for row in found}


def _end_of_quiet(quiet: QuietHours, now: datetime) -> datetime:
    return utc_datetime(send_at_us(quiet, Severity.WARNING, instant_us(now)))


def _insert(
    messages: Sequence[NewMessage], due: Sequence[datetime], now: datetime, would_have: bool
) -> int:
    """Store all or none, and ring for each property that has something to send."""
    ((stored, to_ring, unknown),) = fetch(
        _INSERT,
        [
            integers([each.property_id for each in messages]),
            integers([each.account_id for each in messages]),
            texts([each.code for each in messages]),
            texts([json.dumps(dict(each.detail)) for each in messages]),
            booleans([each.urgent for each in messages]),
            booleans([each.would_have or would_have for each in messages]),
            texts([each.dedupe_key for each in messages]),
            moments(due),
            now,
            int(DeliveryState.WOULD_HAVE),
            int(DeliveryState.PENDING),
            now,
        ],
    )
    if unknown:
        raise UnknownAccount(f"no such account at its property: {unknown}")
    ring("message", to_ring)
    return int(stored)


_INSERT: Final = """
WITH t AS MATERIALIZED (
    SELECT t.*, p.id IS NOT NULL AS known, a.customer_id,
           coalesce(nullif(c.language, ''), p.language) AS language
    FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::jsonb[], %s::bool[],
             %s::bool[], %s::text[], %s::timestamptz[])
         WITH ORDINALITY
         AS t(property_id, account_id, code, detail, urgent, would_have, dedupe_key,
              due_at, place)
    LEFT JOIN account a ON a.id = t.account_id AND a.property_id = t.property_id
    LEFT JOIN property p ON p.id = a.property_id
    LEFT JOIN customer c ON c.id = a.customer_id),
stored AS (
    INSERT INTO message (property_id, account_id, customer_id, code, detail,
        language, urgent, would_have, dedupe_key, created_at, due_at, claim_no,
        state, finished_at)
    SELECT property_id, account_id, customer_id, code, detail, language, urgent,
        would_have, dedupe_key, %s::timestamptz, due_at, 0,
        CASE WHEN would_have THEN %s::smallint ELSE %s::smallint END,
        CASE WHEN would_have THEN %s::timestamptz END
    FROM t WHERE NOT EXISTS (SELECT FROM t AS u WHERE NOT u.known) ORDER BY place
    ON CONFLICT (account_id, dedupe_key, would_have) DO NOTHING
    RETURNING property_id, would_have)
SELECT (SELECT count(*) FROM stored),
       ARRAY(SELECT DISTINCT property_id FROM stored WHERE NOT would_have),
       ARRAY(SELECT DISTINCT account_id FROM t WHERE NOT known ORDER BY 1 LIMIT 5)
"""


def withdraw(
    *, account_ids: Sequence[int], codes: Sequence[str], now: datetime, keep: Sequence[int] = ()
) -> int:
    """Cancel messages that are not true any more, such as a warning after a recharge.

    Runs inside the caller's transaction; returns how many. Messages whose id is in ``keep`` stay.
    None ends before it began, also where a past is replayed whose clock is behind.
    A message that a worker is sending at this moment may still arrive, and then stays delivered.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """WITH stale AS (
                   SELECT id FROM message
                   WHERE account_id = ANY (%s) AND code = ANY (%s) AND finished_at IS NULL
                     AND id <> ALL (%s::bigint[])
                   ORDER BY id FOR UPDATE)
               UPDATE message m SET state = %s, finished_at = greatest(%s, m.created_at)
               FROM stale WHERE m.id = stale.id""",
            [list(account_ids), list(codes), list(keep), DeliveryState.CANCELLED, now],
        )
        return int(cursor.rowcount)


def restate(*, messages: Sequence[WaitingMessage]) -> int:
    """Give unfinished messages the figures of their ``detail``; age, tries and due times stay.

    For a message that is as true as before and whose tries so far must count. Runs inside the
    caller's transaction; returns how many. One that was finished meanwhile keeps what it said.
    Raises `UnsayableMessage`; nothing is changed then.
    """
    if not messages:
        return 0
    for each in messages:
        refuse_unsayable(each.code, each.detail)
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE message m SET detail = t.detail
               FROM unnest(%s::bigint[], %s::jsonb[]) AS t(id, detail)
               WHERE m.id = t.id AND m.finished_at IS NULL""",
            [
                [each.message_id for each in messages],
                [json.dumps(dict(each.detail)) for each in messages],
            ],
        )
        return int(cursor.rowcount)


def raise_alert(
    *,
    property_id: int,
    code: AlertCode,
    subject: str,
    detail: Mapping[str, object],
    now: datetime,
    refresh: bool = True,
) -> bool:
    """Open an alert, or refresh the detail of the open one (if ``refresh``); True when it is new.

    Runs inside the caller's transaction. The same code and subject (``meter:4410``) are one alert.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO alert (property_id, code, subject, detail, opened_at)
               VALUES (%s, %s, %s, %s::jsonb, %s)
               ON CONFLICT (property_id, code, subject) WHERE closed_at IS NULL
               DO UPDATE SET detail = EXCLUDED.detail
               WHERE alert.detail <> EXCLUDED.detail AND %s
               RETURNING xmax = 0""",
            [property_id, code, subject, json.dumps(dict(detail), default=str), now, refresh],
        )
        row = cursor.fetchone()
    if row is not None:
        ring("changed", [property_id])
    return row is not None and bool(row[0])


def close_alert(*, property_id: int, code: str, subject: str, now: datetime) -> bool:
    """Close the open alert inside the caller's transaction; False when none is open."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE alert SET closed_at = greatest(%s, opened_at)
               WHERE property_id = %s AND code = %s AND subject = %s AND closed_at IS NULL""",
            [now, property_id, code, subject],
        )
        closed = bool(cursor.rowcount)
    if closed:
        ring("changed", [property_id])
    return closed


def close_alerts(
    *, code: AlertCode, now: datetime, but_at: Collection[int], at: Collection[int] | None = None
) -> int:
    """Close the open alerts of a code at all properties in scope but some, or at others of ``at``.

    Inside the caller's transaction; returns how many.
    """
    wanted = None if at is None else list(at)
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE alert SET closed_at = greatest(%s, opened_at)
               WHERE code = %s AND closed_at IS NULL AND property_id <> ALL (%s::bigint[])
                 AND (%s::bigint[] IS NULL OR property_id = ANY (%s::bigint[]))
               RETURNING property_id""",
            [now, code, list(but_at), wanted, wanted],
        )
        closed = [int(row[0]) for row in cursor.fetchall()]
    if closed:
        ring("changed", sorted(set(closed)))
    return len(closed)


def close_by_hand(*, actor: Actor, alert_id: int, note: str, now: datetime) -> None:
    """Close an open alert in a person's name, inside the caller's transaction, which holds its lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE alert SET closed_at = greatest(%s, opened_at), closed_by = %s, close_note = %s
               WHERE id = %s AND closed_at IS NULL RETURNING property_id, code, subject""",
            [now, actor.code, note, alert_id],
        )
        ((property_id, code, subject),) = cursor.fetchall()
    record(
        actor=actor.code,
        code="notify.alert.closed",
        property_id=property_id,
        subject=subject,
        now=now,
        alert=alert_id,
        about=code,
        note=note,
    )
    ring("changed", [property_id])


def deliver_due(
    *,
    actor: Actor,
    channels: Sequence[Channel],
    now: datetime,
    limit: int = 200,
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Take due messages and try every channel on which their customer has an address.

    Returns how many messages were taken, so that the worker goes on while the answer is ``limit``.
    Once ``stopping()`` says so, no further message is begun, and those taken are given back. Must
    not be called inside a transaction.
    """
    require(actor, "notify.send")
    if connection.in_atomic_block:
        raise RuntimeError("deliver_due speaks to the network and must not run in a transaction")
    by_name = {channel.name: channel for channel in channels}
    down: dict[str, Temporary] = {}
    taken = 0
    while taken < limit and not stopping():
        size = min(CLAIM_SIZE, limit - taken)
        with scope(actor):
            claims = _claim(by_name, now, size)
        for place, claim in enumerate(claims):
            if stopping():
                with scope(actor):
                    _give_back(claims[place:], now)
                return taken + place
            outcomes = [_try(by_name[planned.channel], planned, down) for planned in claim.tries]
            with scope(actor):
                _record(claim, outcomes, now)
        taken += len(claims)
        if len(claims) < size:
            break
    return taken


@dataclass(frozen=True, slots=True)
class _Try:
    """One attempt row that was written, and what it is going to say."""

    attempt_id: int
    channel: str
    number: int
    rendered: Rendered


@dataclass(frozen=True, slots=True)
class _Due:
    """A claimed message with everything needed to say it and to settle it."""

    message_id: int
    claim_no: int
    property_id: int
    account_id: int
    code: str
    detail: Mapping[str, object]
    urgent: bool
    created_at: datetime
    has_customer: bool
    contact: Contact
    setting: Setting
    quiet: QuietHours


@dataclass(frozen=True, slots=True)
class _Claim:
    """A claimed message, its tries of this pass, and how its other channels stand.

    ``waiting`` are the next instants of channels in their back-off, or the end of quiet hours;
    ``reachable`` says whether the customer has an address on any channel; ``tried_before`` whether
    an earlier pass tried one; ``held_back`` whether quiet hours keep a channel from being tried.
    """

    due: _Due
    tries: tuple[_Try, ...]
    waiting: tuple[datetime, ...]
    reachable: bool
    tried_before: bool
    held_back: bool = False


def _claim(channels: Mapping[str, Channel], now: datetime, size: int) -> list[_Claim]:
    """Take due messages and write an attempt for each channel to be tried; one transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            """WITH due AS (
                   SELECT id FROM message WHERE finished_at IS NULL AND due_at <= %s
                   ORDER BY urgent DESC, due_at, id LIMIT %s FOR UPDATE SKIP LOCKED)
               UPDATE message m SET due_at = %s, claim_no = m.claim_no + 1
               FROM due WHERE m.id = due.id RETURNING m.id""",
            [now, size, now + CLAIM_LASTS],
        )
        ids = sorted(row[0] for row in cursor.fetchall())
        if not ids:
            return []
        cursor.execute(
            """UPDATE message_attempt SET state = %s, error = 'interrupted, outcome unknown',
                   next_try_at = %s WHERE message_id = ANY (%s) AND state = %s""",
            [DeliveryState.RETRYING, now, ids, DeliveryState.PENDING],
        )
    past = _past_attempts(ids)
    return _write_attempts([_plan(due, channels, past, now) for due in _load(ids)])


def _load(ids: Sequence[int]) -> list[_Due]:
    """The claimed messages with contact, place and currency; urgent and oldest first.

    Who has left hears of the unit in which they lived last.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT m.id, m.claim_no, m.property_id, m.account_id, m.code, m.detail::text,
                   m.urgent, m.created_at, m.language, c.id IS NOT NULL,
                   coalesce(c.name, ''), coalesce(c.email, ''), coalesce(c.phone, ''),
                   p.time_zone, p.currency, p.name, a.number,
                   coalesce(home.code, lived.code, ''), q.quiet_starts_min, q.quiet_ends_min
               FROM message m
               JOIN property p ON p.id = m.property_id
               LEFT JOIN notify_policy q ON q.property_id = m.property_id
               JOIN account a ON a.id = m.account_id
               LEFT JOIN customer c ON c.id = m.customer_id
               LEFT JOIN unit home ON home.id = a.unit_id
               LEFT JOIN LATERAL (
                   SELECT u.code FROM tenancy t JOIN unit u ON u.id = t.unit_id
                   WHERE t.account_id = a.id AND lower(t.period) <= m.created_at
                   ORDER BY t.period @> m.created_at DESC, lower(t.period) DESC, t.id
                   LIMIT 1) lived ON true
               WHERE m.id = ANY (%s) ORDER BY m.urgent DESC, m.created_at, m.id""",
            [list(ids)],
        )
        rows = cursor.fetchall()
    return [
        _Due(
            message_id=row[0],
            claim_no=row[1],
            property_id=row[2],
            account_id=row[3],
            code=row[4],
            detail=json.loads(row[5]),
            urgent=row[6],
            created_at=row[7],
            has_customer=row[9],
            contact=Contact(name=row[10], email=row[11], phone=row[12]),
            setting=Setting(
                language=row[8],
                time_zone=row[13],
                currency=row[14],
                property_name=row[15],
                customer_name=row[10],
                account_number=row[16],
                unit=row[17],
            ),
            quiet=quiet_hours(row[13], row[18], row[19]),
        )
        for row in rows
    ]


_Past = tuple[int, DeliveryState, datetime | None]


def _past_attempts(ids: Sequence[int]) -> dict[tuple[int, str], _Past]:
    """(message, channel) → number, state and next instant of the latest try."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT DISTINCT ON (message_id, channel)
                   message_id, channel, number, state, next_try_at
               FROM message_attempt WHERE message_id = ANY (%s)
               ORDER BY message_id, channel, number DESC""",
            [list(ids)],
        )
        return {(r[0], r[1]): (r[2], DeliveryState(r[3]), r[4]) for r in cursor.fetchall()}


def _plan(
    due: _Due, channels: Mapping[str, Channel], past: Mapping[tuple[int, str], _Past], now: datetime
) -> _Claim:
    """Which channels to try now; tries still lack their row (attempt_id 0)."""
    addresses = {name: channel.address_of(due.contact) for name, channel in channels.items()}
    addresses = {name: address for name, address in addresses.items() if address}
    tried_before = any(message_id == due.message_id for message_id, _ in past)
    # A back-off may end at night: what is not urgent waits for the morning again.
    quiet_until = now if due.urgent else _end_of_quiet(due.quiet, now)
    tries: list[_Try] = []
    waiting: list[datetime] = []
    held_back = False
    for name, address in addresses.items():
        number, state, next_at = past.get((due.message_id, name), (0, DeliveryState.PENDING, None))
        if state is DeliveryState.EXHAUSTED or number >= ATTEMPTS_MAX:
            continue
        if quiet_until > now and (due.code not in ANSWERS or channels[name].wakes):
            waiting.append(quiet_until)
            held_back = True
        elif next_at is not None and next_at > now:
            waiting.append(next_at)
        else:
            tries.append(_Try(0, name, number + 1, _render(due, address, now)))
    return _Claim(due, tuple(tries), tuple(waiting), bool(addresses), tried_before, held_back)


def _render(due: _Due, address: str, now: datetime) -> Rendered:
    subject, body = render(
        code=due.code, detail=due.detail, setting=due.setting, created_at=due.created_at, now=now
    )
    return Rendered(
        reference=f"message-{due.message_id}",
        address=address[:ADDRESS_MAX],
        contact_name=due.contact.name,
        language=due.setting.language,
        subject=subject,
        body=body,
        at=now,
    )


def _write_attempts(claims: Sequence[_Claim]) -> list[_Claim]:
    """Write every planned try before anything is said, so that a crash cannot hide one."""
    planned = [(claim.due, each) for claim in claims for each in claim.tries]
    if not planned:
        return list(claims)
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO message_attempt (property_id, message_id, channel, address, number,
                   tried_at, state, error, subject, body)
               SELECT property_id, message_id, channel, address, number, tried_at, %s, '', subject,
                   body
               FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::int[],
                        %s::timestamptz[], %s::text[], %s::text[])
                    AS t(property_id, message_id, channel, address, number, tried_at, subject, body)
               RETURNING message_id, channel, id""",
            [
                DeliveryState.PENDING,
                [due.property_id for due, _ in planned],
                [due.message_id for due, _ in planned],
                [each.channel for _, each in planned],
                [each.rendered.address for _, each in planned],
                [each.number for _, each in planned],
                [each.rendered.at for _, each in planned],
                [each.rendered.subject for _, each in planned],
                [each.rendered.body for _, each in planned],
            ],
        )
        ids = {(row[0], row[1]): row[2] for row in cursor.fetchall()}
    return [
        replace(
            claim,
            tries=tuple(
                replace(each, attempt_id=ids[claim.due.message_id, each.channel])
                for each in claim.tries
            ),
        )
        for claim in claims
    ]


def _try(channel: Channel, planned: _Try, down: dict[str, Temporary]) -> SendOutcome:
    """Speak to the channel, unless it was found down earlier in this pass."""
    if channel.name in down:
        return down[channel.name]
    try:
        outcome = channel.send(planned.rendered)
    except Exception as error:  # a fault of one channel must not keep the others from warning
        log.exception("channel %s failed unexpectedly", channel.name)
        outcome = Temporary(f"unexpected {type(error).__name__}", channel_down=True)
    if isinstance(outcome, Temporary) and outcome.channel_down:
        down[channel.name] = outcome
    return outcome


def _give_back(claims: Sequence[_Claim], now: datetime) -> None:
    """End claims whose tries were never begun: their messages are due again at once."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE message_attempt SET state = %s, next_try_at = %s,
                   error = 'not begun: the worker was stopping'
               WHERE id = ANY (%s) AND state = %s""",
            [
                DeliveryState.RETRYING,
                now,
                [each.attempt_id for claim in claims for each in claim.tries],
                DeliveryState.PENDING,
            ],
        )
        cursor.execute(
            """UPDATE message m SET due_at = %s
               FROM unnest(%s::bigint[], %s::int[]) AS t(id, claim_no)
               WHERE m.id = t.id AND m.claim_no = t.claim_no AND m.finished_at IS NULL""",
            [
                now,
                [claim.due.message_id for claim in claims],
                [claim.due.claim_no for claim in claims],
            ],
        )


def _record(claim: _Claim, outcomes: Sequence[SendOutcome], now: datetime) -> None:
    """Write how each try ended, settle the message, and ring whoever waits for it."""
    due = claim.due
    waiting = list(claim.waiting)
    for planned, outcome in zip(claim.tries, outcomes, strict=True):
        next_at = _close_attempt(planned, outcome, now)
        if next_at is not None:
            waiting.append(next_at)
    delivered = any(isinstance(outcome, Sent) for outcome in outcomes)
    state, due_at = _settled(claim, delivered, waiting, now)
    # After such a pass every channel with an address has been tried at least once, now or before.
    all_tried = claim.reachable and not delivered and bool(claim.tries) and not claim.held_back
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE message SET state = %(state)s, due_at = %(due_at)s,
                   all_tried_at = CASE WHEN %(all_tried)s THEN coalesce(all_tried_at, %(now)s)
                                       ELSE all_tried_at END,
                   finished_at = CASE WHEN %(final)s THEN %(now)s::timestamptz END
               WHERE id = %(id)s
                 AND (finished_at IS NULL AND claim_no = %(claim_no)s
                      OR %(delivered)s AND state <> %(state)s)""",
            {
                "state": state,
                "due_at": due_at,
                "all_tried": all_tried,
                "now": now,
                "final": state in (DeliveryState.DELIVERED, DeliveryState.EXHAUSTED),
                "id": due.message_id,
                "claim_no": due.claim_no,
                "delivered": delivered,
            },
        )
        settled = bool(cursor.rowcount)
    _tell(claim, state)
    if settled:
        _keep_alert(claim, state, now)


def _close_attempt(planned: _Try, outcome: SendOutcome, now: datetime) -> datetime | None:
    """Write one try's end; returns when its channel is tried next, None when never."""
    next_at, error = None, ""
    match outcome:
        case Sent():
            state = DeliveryState.DELIVERED
        case Permanent(reason):
            state, error = DeliveryState.EXHAUSTED, reason
        case Temporary(reason) if planned.number >= ATTEMPTS_MAX:
            state, error = DeliveryState.EXHAUSTED, reason
        case Temporary(reason):
            state, error = DeliveryState.RETRYING, reason
            next_at = now + BACK_OFF[planned.number - 1]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE message_attempt SET state = %s, error = %s, next_try_at = %s WHERE id = %s",
            [state, error[:ERROR_MAX], next_at, planned.attempt_id],
        )
    return next_at


def _settled(
    claim: _Claim, delivered: bool, waiting: Sequence[datetime], now: datetime
) -> tuple[DeliveryState, datetime]:
    """The message's state after a pass, and when to look at it next."""
    due = claim.due
    if delivered:
        return DeliveryState.DELIVERED, now
    if waiting:
        tried = bool(claim.tries) or claim.tried_before
        return (DeliveryState.RETRYING if tried else DeliveryState.PENDING), min(waiting)
    hopeful = due.has_customer and now < due.created_at + NO_ADDRESS_UNTIL
    if not claim.reachable and hopeful and due.code not in ANSWERS:
        # Somebody may enter an address; until then the warning counts as not delivered.
        return DeliveryState.PENDING, now + NO_ADDRESS_LOOK
    return DeliveryState.EXHAUSTED, now


def _tell(claim: _Claim, state: DeliveryState) -> None:
    """Ring: pages always; supply when a warning was delivered, or tried on every channel."""
    properties = [claim.due.property_id]
    if claim.tries or state is DeliveryState.EXHAUSTED:
        ring("changed", properties)
        if claim.due.code in (*WARNINGS, TAMPER_NOTICE):
            ring("supply_due", properties)


def _keep_alert(claim: _Claim, state: DeliveryState, now: datetime) -> None:
    """A warning that cannot reach its customer needs a person; one that arrives ends that."""
    due = claim.due
    subject = f"account:{due.account_id}"
    if state is DeliveryState.DELIVERED:
        close_alert(property_id=due.property_id, code=UNREACHABLE, subject=subject, now=now)
    elif due.code in ANSWERS and not claim.reachable:
        return
    elif due.has_customer and (state is DeliveryState.EXHAUSTED or not claim.reachable):
        why = "no_address" if not claim.reachable else "all_channels_failed"
        raise_alert(
            property_id=due.property_id,
            code=UNREACHABLE,
            subject=subject,
            detail={"message": due.code, "why": why},
            now=now,
        )
