"""Recharges: money in, once per idempotency key, with receipt, audit and supply in one commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record_many
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.money import MICRO
from prewatt.core.rating import Component
from prewatt.ledger.operations import (
    Event,
    Leg,
    PeriodClosed,
    append_events,
    lock_accounts,
    new_event_ids,
    next_document_number,
)
from prewatt.notify.operations import enqueue
from prewatt.supply.operations import decide_after_credit
from prewatt.telemetry.metrics import RECHARGES
from prewatt.vending.deductions import plan_deductions
from prewatt.vending.messages import receipts

#: No single recharge is larger than this: a slip of the finger, not a sale.
LIMIT_MICRO = 100_000 * MICRO

#: A payment may be dated this far ahead of our clock and no farther.
CLOCK_TOLERANCE = timedelta(minutes=2)

#: As long as ``payment.reference``.
REFERENCE_MAX = 80

RECEIPT_SERIES = "R"
_COUNTER = {"cash": CounterAccount.CASH}


@dataclass(frozen=True, slots=True)
class Recharge:
    """One recharge asked for. ``key`` is the caller's idempotency key, ``amount`` in micro-units."""

    key: str
    account_id: int
    amount: int
    way: str
    reference: str
    paid_at: datetime


@dataclass(frozen=True, slots=True)
class Recharged:
    """A recharge that stands: stored with its key, and given again to whoever repeats it.

    Of ``amount``, ``collected`` went to charges that the tariff collects with a recharge and
    ``debt`` to agreed debts; ``queries.deducted_of`` has them line by line.
    """

    key: str
    account_id: int
    event_id: int
    amount: int
    receipt_number: int
    available_after: int
    accepted_at: str
    repeated: bool = False
    collected: int = 0
    debt: int = 0


@dataclass(frozen=True, slots=True)
class RechargeRefused:
    """A recharge that did not happen: a stable ``code`` and a sentence saying what to do."""

    key: str
    code: str
    message: str


Answer = Recharged | RechargeRefused


def recharge(
    *, actor: Actor, recharges: Sequence[Recharge], now: datetime, announce: bool = True
) -> list[Answer]:
    """Recharge any number of accounts in one transaction; answers are in the order asked.

    Each refusal is decided inside the set and touches nobody else. The same key with the same body
    gets the stored answer (``repeated``), with another body it is refused (invariant 4), also where
    the caller used it at a property that is out of scope now. Nothing is answered before the
    commit (invariant 9). Each customer is owed a message of it in the same commit, unless
    ``announce`` says that this is a past being replayed. Raises PermissionRefused.
    """
    require(actor, "vending.recharge")
    taken: frozenset[str] = frozenset()
    closed_meanwhile = False
    while True:
        try:
            with scope(actor):
                answers = _recharge(actor, recharges, taken, now, announce)
            _count(answers)
            return answers
        except _KeysTaken as known:
            # Undone and once more without them: a key is never free again, so this ends.
            taken |= known.keys
        except PeriodClosed:
            # Closed after we looked: once more, and those accounts are refused in the set.
            if closed_meanwhile:
                raise
            closed_meanwhile = True


def _count(answers: Sequence[Answer]) -> None:
    for answer in answers:
        match answer:
            case Recharged(repeated=True):
                RECHARGES.labels("repeated").inc()
            case Recharged():
                RECHARGES.labels("posted").inc()
            case RechargeRefused():
                RECHARGES.labels("refused").inc()


class _KeysTaken(Exception):
    """Keys that the caller used at a property whose rows we cannot see; nothing stands."""

    def __init__(self, keys: frozenset[str]) -> None:
        super().__init__(f"{len(keys)} keys are taken")
        self.keys = keys


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an account is; ``open_from`` is set when the books are closed to an entry of now."""

    property_id: int
    legal_entity_id: int
    open_from: date | None


def _recharge(
    actor: Actor,
    recharges: Sequence[Recharge],
    taken: frozenset[str],
    now: datetime,
    announce: bool,
) -> list[Answer]:
    """Decide each wish, then book those that stand; ``taken`` keys stand for something unseen."""
    answers: dict[int, Answer] = {
        at: refused
        for at, wish in enumerate(recharges)
        if (refused := _malformed(wish, now)) is not None
    }
    sound = [wish for at, wish in enumerate(recharges) if at not in answers]
    _lock_keys(actor, sound)
    places = _places(lock_accounts([wish.account_id for wish in sound]), now)
    fresh: list[int] = []
    stored = _stored_answers(actor, sound)
    seen: dict[str, int] = {}
    for at, wish in enumerate(recharges):
        if at in answers:
            continue
        before = stored.get(wish.key)
        if before is not None:
            answers[at] = _repeat(wish, *before)
        elif wish.key in seen:
            if body_hash(wish) != body_hash(recharges[seen[wish.key]]):
                answers[at] = _key_reused(wish)
        elif (refused := _refused_there(wish, places.get(wish.account_id), taken)) is not None:
            answers[at] = refused
        else:
            seen[wish.key] = at
            fresh.append(at)
    done = _book(actor, [recharges[at] for at in fresh], places, now, announce)
    answers.update(zip(fresh, done, strict=True))
    for at, wish in enumerate(recharges):
        if at not in answers:
            first = answers[seen[wish.key]]
            answers[at] = replace(first, repeated=True) if isinstance(first, Recharged) else first
    return [answers[at] for at in range(len(recharges))]


def _refused_there(
    wish: Recharge, place: _Place | None, taken: frozenset[str]
) -> RechargeRefused | None:
    """What can be refused by looking at the account and at the keys out of sight."""
    if place is None:
        return RechargeRefused(
            wish.key,
            "vending.recharge.unknown_account",
            f"There is no account {wish.account_id} you may recharge. Nothing was taken.",
        )
    if place.open_from is not None:
        return RechargeRefused(
            wish.key,
            "vending.recharge.period_closed",
            f"The books are open from {place.open_from:%Y-%m-%d} on and this recharge would lie "
            "before. Sell it from that day on. Nothing was taken.",
        )
    return _key_reused(wish) if wish.key in taken else None


def _malformed(wish: Recharge, now: datetime) -> RechargeRefused | None:
    """What can be refused by looking at the wish alone."""
    problem: tuple[str, str] | None = None
    if wish.amount <= 0:
        problem = ("amount_not_positive", "The amount must be more than zero.")
    elif wish.amount > LIMIT_MICRO:
        problem = ("amount_over_limit", f"One recharge takes at most {LIMIT_MICRO // MICRO}.")
    elif not (1 <= len(wish.key) <= 128 and wish.key.isprintable()):
        problem = ("key_malformed", "The idempotency key must have 1 to 128 printable characters.")
    elif not (len(wish.reference) <= REFERENCE_MAX and wish.reference.isprintable()):
        problem = (
            "reference_malformed",
            f"The reference must have at most {REFERENCE_MAX} printable characters.",
        )
    elif not 0 < wish.account_id < 2**63:
        problem = ("unknown_account", f"There is no account {wish.account_id} you may recharge.")
    elif wish.way not in {"cash", "online", "transfer"}:
        problem = ("way_unknown", f"There is no way of paying called {wish.way!r}.")
    elif wish.paid_at > now + CLOCK_TOLERANCE:
        problem = ("paid_in_the_future", "The time of payment lies in the future.")
    if problem is None:
        return None
    return RechargeRefused(
        wish.key, f"vending.recharge.{problem[0]}", f"{problem[1]} Nothing was taken."
    )


def _lock_keys(actor: Actor, wishes: Sequence[Recharge]) -> None:
    """Let the same key be worked on by one transaction at a time, whatever account it names."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT pg_advisory_xact_lock(k) FROM
               (SELECT DISTINCT hashtextextended(%s || chr(10) || key, 0) AS k
                FROM unnest(%s::text[]) AS key ORDER BY 1) AS keys""",
            [actor.code, [wish.key for wish in wishes]],
        )


def body_hash(wish: Recharge) -> bytes:
    """SHA-256 of what the caller asked for, without the key."""
    body = {
        "account": wish.account_id,
        "amount": wish.amount,
        "way": wish.way,
        "ref": wish.reference,
    }
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()


def _stored_answers(
    actor: Actor, wishes: Sequence[Recharge]
) -> dict[str, tuple[bytes, dict[str, object]]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT key, body_hash, answer FROM idempotency WHERE caller = %s AND key = ANY(%s)",
            [actor.code, [wish.key for wish in wishes]],
        )
        return {
            row[0]: (bytes(row[1]), row[2] if isinstance(row[2], dict) else json.loads(row[2]))
            for row in cursor.fetchall()
        }


def _repeat(wish: Recharge, stored_hash: bytes, answer: dict[str, object]) -> Answer:
    if stored_hash != body_hash(wish):
        return _key_reused(wish)
    return Recharged(**(answer | {"repeated": True}))  # type: ignore[arg-type]  # our own JSON


def _key_reused(wish: Recharge) -> RechargeRefused:
    return RechargeRefused(
        wish.key,
        "vending.recharge.key_reused",
        "This key already stands for another recharge. Use a new key. Nothing was taken.",
    )


def _places(account_ids: Sequence[int], now: datetime) -> dict[int, _Place]:
    """Where open accounts are that are in scope, and whether their books take an entry of now."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT s.account_id, s.property_id, s.legal_entity_id,
                      CASE WHEN %s < l.open_from::timestamp AT TIME ZONE p.time_zone
                           THEN l.open_from END
               FROM account_state s JOIN account a ON a.id = s.account_id
               JOIN property p ON p.id = s.property_id
               LEFT JOIN ledger_period l ON l.property_id = s.property_id
               WHERE s.account_id = ANY(%s) AND a.closed_at IS NULL""",
            [now, list(account_ids)],
        )
        return {int(row[0]): _Place(*row[1:]) for row in cursor.fetchall()}


def _book(
    actor: Actor,
    wishes: Sequence[Recharge],
    places: dict[int, _Place],
    now: datetime,
    announce: bool,
) -> list[Recharged]:
    if not wishes:
        return []
    events = new_event_ids(len(wishes))
    taken = plan_deductions(recharges=[(wish.account_id, wish.amount) for wish in wishes], now=now)
    append_events(
        actor_code=actor.code,
        events=[
            Event(event, (_leg(wish, now), *less.legs))
            for event, wish, less in zip(events, wishes, taken.each, strict=True)
        ],
        now=now,
    )
    taken.keep(now)
    numbers = _receipt_numbers(wishes, places)
    available = _available_after(wishes, events)
    done = [
        Recharged(
            wish.key, wish.account_id, event, wish.amount, number, left, now.isoformat(),
            collected=less.collected_micro, debt=less.debt_micro,
        )
        for wish, event, number, left, less in zip(
            wishes, events, numbers, available, taken.each, strict=True
        )
    ]  # fmt: skip
    _write_payments(actor, wishes, done, places, now)
    _write_keys(actor, wishes, done, places, now)
    record_many(
        actor=actor.code,
        code="vending.recharge.posted",
        now=now,
        rows=[
            (
                places[each.account_id].property_id,
                f"account:{each.account_id}",
                {"amount": each.amount, "event": each.event_id, "receipt": each.receipt_number},
            )
            for each in done
        ],
    )
    left_h = decide_after_credit(account_ids=sorted({wish.account_id for wish in wishes}), now=now)
    if announce:
        property_of = {key: place.property_id for key, place in places.items()}
        enqueue(messages=receipts(done, property_of, left_h), now=now)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_notify('changed', p::text) FROM unnest(%s::bigint[]) AS p",
            [sorted({places[wish.account_id].property_id for wish in wishes})],
        )
    return done


def _leg(wish: Recharge, now: datetime) -> Leg:
    """Money counts from when we took it: a payment dated earlier is served from now on."""
    return Leg(
        account_id=wish.account_id,
        kind=TransferKind.RECHARGE,
        component=int(Component.ENERGY),
        counter_account=_COUNTER.get(wish.way, CounterAccount.BANK),
        amount=wish.amount,
        service_from=now,
        service_to=now,
        reason=f"recharge.{wish.way}",
    )


def _receipt_numbers(wishes: Sequence[Recharge], places: dict[int, _Place]) -> list[int]:
    """Consecutive numbers per legal entity, series rows locked in order of the entity."""
    entities = [places[wish.account_id].legal_entity_id for wish in wishes]
    following = {
        entity: next_document_number(
            legal_entity_id=entity, series=RECEIPT_SERIES, count=entities.count(entity)
        )
        for entity in sorted(set(entities))
    }
    numbers = []
    for entity in entities:
        numbers.append(following[entity])
        following[entity] += 1
    return numbers


def _available_after(wishes: Sequence[Recharge], events: Sequence[int]) -> list[int]:
    """Available money right after each recharge, even of several for one account."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT DISTINCT ON (e.event_id) e.event_id,
                      t.posted_after - (s.posted - s.available)
               FROM unnest(%s::bigint[], %s::bigint[]) AS e(account_id, event_id)
               JOIN transfer t USING (account_id, event_id)
               JOIN account_state s USING (account_id)
               ORDER BY e.event_id, t.seq DESC""",
            [[wish.account_id for wish in wishes], list(events)],
        )
        left = {int(row[0]): int(row[1]) for row in cursor.fetchall()}
    return [left[event] for event in events]


def _write_payments(
    actor: Actor,
    wishes: Sequence[Recharge],
    done: Sequence[Recharged],
    places: dict[int, _Place],
    now: datetime,
) -> None:
    accounts = [each.account_id for each in done]
    properties = [places[each].property_id for each in accounts]
    events = [each.event_id for each in done]
    amounts = [each.amount for each in done]
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO payment (property_id, account_id, event_id, amount_micro, way, reference,
                   paid_at, accepted_at, taken_by)
               SELECT p, a, e, m, w, r, d, %s, %s FROM unnest(%s::bigint[], %s::bigint[],
                   %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::timestamptz[])
                   AS t(p, a, e, m, w, r, d)""",
            [
                now,
                actor.code,
                properties,
                accounts,
                events,
                amounts,
                [wish.way for wish in wishes],
                [wish.reference for wish in wishes],
                [wish.paid_at for wish in wishes],
            ],
        )
        cursor.execute(
            """INSERT INTO document (property_id, legal_entity_id, series, number, kind, account_id,
                   event_id, issued_at, amount_micro)
               SELECT p, l, %s, n, 'receipt', a, e, %s, m FROM unnest(%s::bigint[], %s::bigint[],
                   %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) AS t(p, l, n, a, e, m)""",
            [
                RECEIPT_SERIES,
                now,
                properties,
                [places[each].legal_entity_id for each in accounts],
                [each.receipt_number for each in done],
                accounts,
                events,
                amounts,
            ],
        )


def _write_keys(
    actor: Actor,
    wishes: Sequence[Recharge],
    done: Sequence[Recharged],
    places: dict[int, _Place],
    now: datetime,
) -> None:
    """Keep each answer under its key; raises _KeysTaken for keys that the database knows already."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO idempotency (caller, key, body_hash, account_id, property_id, answer,
                   created_at)
               SELECT %s, k, h, a, p, j, %s FROM unnest(%s::text[], %s::bytea[], %s::bigint[],
                   %s::bigint[], %s::jsonb[]) AS t(k, h, a, p, j)
               ON CONFLICT (caller, key) DO NOTHING
               RETURNING key""",
            [
                actor.code,
                now,
                [wish.key for wish in wishes],
                [body_hash(wish) for wish in wishes],
                [wish.account_id for wish in wishes],
                [places[wish.account_id].property_id for wish in wishes],
                [json.dumps(asdict(each)) for each in done],
            ],
        )
        kept = {row[0] for row in cursor.fetchall()}
    if len(kept) < len(wishes):
        raise _KeysTaken(frozenset(wish.key for wish in wishes) - kept)
