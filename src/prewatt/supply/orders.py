"""The order book: what the head-end asks of supply while it carries orders to meters.

Each method is one transaction and takes sets; the state machine is ``core.orders``. An answer moves
an order only if the order is live, of the meter that answers and, but for a yes, at the attempt that
was answered; all of it is looked at under the order's lock. Any other answer changes nothing.
Only the order rows are locked, in id order; no account is, so an answering meter never waits for a
balance. Ending an expired order does lock accounts, and does so first, as every writer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.core import orders as core
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.drivers import Driver
from prewatt.core.orders import Fit, IllegalTransition, Order, Refusal
from prewatt.core.vocabulary import OrderKind, OrderState, Reason, RelayState
from prewatt.ledger.operations import lock_accounts
from prewatt.notify.alerts import COMMAND_REFUSED, RELAY_STUCK, AlertCode
from prewatt.notify.operations import NewMessage, close_alert, enqueue, raise_alert
from prewatt.runtime.bells import ring
from prewatt.supply import operations, queries
from prewatt.supply.policy import Rules
from prewatt.supply.queries import DueOrder, KnownOrder


class Answer(Protocol):
    """What a meter answered to: which order, which of its commands; and which meter did."""

    @property
    def order_id(self) -> int:
        """The order that the command was for."""

    @property
    def attempt(self) -> int:
        """The number of the command, from 1."""

    @property
    def meter_id(self) -> int:
        """The meter that answered."""


class Refused(Answer, Protocol):
    """A meter's no."""

    @property
    def why(self) -> Refusal:
        """What it gave as the reason."""


class ReadBack(Answer, Protocol):
    """A relay state that a meter gave when it was asked for it."""

    @property
    def relay(self) -> RelayState:
        """What its relay is."""

    @property
    def seen_at(self) -> datetime:
        """When it was so: not before the command went out, not after the answer came in."""


AnyAnswer = TypeVar("AnyAnswer", bound=Answer)


@dataclass(frozen=True, slots=True)
class _Row:
    """A live order with what its messages and alerts need."""

    order_id: int
    property_id: int
    account_id: int
    meter_id: int
    failure: str
    order: Order


@dataclass(frozen=True, slots=True)
class _Move:
    """An order that takes a step, and why it has not done what it should (empty: nothing is wrong).

    ``refusal`` is what its meter answered just now, if that was a no.
    """

    row: _Row
    after: Order
    failure: str
    refusal: Refusal | None


class OrderBook:
    """The orders of all properties, for the head-end and the worker. Holds no state of its own."""

    def __init__(self, actor: Actor) -> None:
        require(actor, "supply.decide")
        self._actor = actor

    def due(
        self, *, now: datetime, limit: int, drivers: Collection[Driver] = tuple(Driver)
    ) -> Sequence[DueOrder]:
        """Orders to be sent now, first or again; connects before disconnects.

        Those of meters that are reached by one of the drivers; the others wait.
        """
        with scope(self._actor):
            return queries.due_orders(now=now, limit=limit, drivers=drivers)

    def mark_sent(self, *, order_ids: Sequence[int], now: datetime) -> frozenset[int]:
        """A command goes out: one more attempt, and the next is set. Returns the orders of which one may.

        Whichever has ended since it was seen to be due is left out: a recharge may have taken a cut's place.
        """
        moved = self._move(
            order_ids=order_ids,
            now=now,
            step=lambda row, policy: core.mark_sent(row.order, instant_us(now), policy),
        )
        return frozenset(each.row.order_id for each in moved)

    def known(self, *, order_ids: Sequence[int]) -> Mapping[int, KnownOrder]:
        """What answers to these orders must fit; an order that never was is left out."""
        with scope(self._actor):
            return queries.known_orders(order_ids)

    def mark_acknowledged(self, *, answers: Sequence[Answer], now: datetime) -> None:
        """The meter said yes; the order is not done before its relay is read back."""
        by_order = _by_order(answers)

        def step(row: _Row, _policy: core.OrderPolicy) -> Order:
            own = _last_that_counts(row, by_order[row.order_id], is_accepted=True)
            return row.order if own is None else core.acknowledge(row.order)

        self._move(order_ids=list(by_order), now=now, step=step)

    def mark_refused(self, *, refusals: Sequence[Refused], now: datetime) -> None:
        """The meter said no; a disconnect fails after its last attempt, a connect stands.

        Why is kept with the order, until its meter says yes.
        """
        by_order = _by_order(refusals)

        def why(row: _Row) -> Refusal | None:
            own = _last_that_counts(row, by_order[row.order_id])
            return None if own is None else own.why

        def step(row: _Row, policy: core.OrderPolicy) -> Order:
            refusal = why(row)
            return row.order if refusal is None else core.refuse(row.order, refusal, policy)

        self._move(order_ids=list(by_order), now=now, step=step, refusal_of=why)

    def mark_read_back(self, *, read_backs: Sequence[ReadBack], now: datetime) -> None:
        """Take the relay states that orders asked for; of two of one order the later counts."""
        by_order = _by_order(sorted(read_backs, key=lambda each: each.seen_at))

        def step(row: _Row, policy: core.OrderPolicy) -> Order:
            seen = _last_that_counts(row, by_order[row.order_id])
            if seen is None:
                return row.order
            return core.read_back(row.order, seen.relay, instant_us(seen.seen_at), policy)

        self._move(order_ids=list(by_order), now=now, step=step)

    def wake(self, *, meter_ids: Sequence[int], now: datetime) -> None:
        """These meters have come back: their unfinished orders are due at once."""
        self._move(
            meter_ids=meter_ids,
            now=now,
            step=lambda row, _policy: core.wake(row.order, instant_us(now)),
        )

    def expire(self, *, now: datetime) -> None:
        """End disconnects that have grown old, and decide their accounts again."""
        with scope(self._actor):
            found = _overdue(now)
            if not found:
                return
            accounts = sorted({account_id for _, account_id in found})
            lock_accounts(accounts)
            ids = [order_id for order_id, _ in found]
            self._move(
                order_ids=ids,
                now=now,
                step=lambda row, _policy: core.expire(row.order, instant_us(now)),
            )
            operations.decide_after_expiry(account_ids=accounts, now=now)

    def _move(
        self,
        *,
        now: datetime,
        step: Callable[[_Row, core.OrderPolicy], Order],
        order_ids: Sequence[int] = (),
        meter_ids: Sequence[int] = (),
        refusal_of: Callable[[_Row], Refusal | None] = lambda _row: None,
    ) -> list[_Move]:
        """Lock live orders, take one step with each, write what changed, tell whom it concerns; returns that."""
        with scope(self._actor):
            rows = _locked(order_ids, meter_ids)
            rules = queries.rules(sorted({row.property_id for row in rows}), now)
            moved: list[_Move] = []
            for row in rows:
                # A late answer that no longer fits its order changes nothing.
                with suppress(IllegalTransition):
                    after = step(row, rules[row.property_id].order)
                    refusal = refusal_of(row)
                    failure = _failure(row, after, refusal)
                    if (after, failure) != (row.order, row.failure) or refusal:
                        moved.append(_Move(row, after, failure, refusal))
            _write(moved, now)
            _tell(moved, rules, now)
        return moved


def _by_order(answers: Iterable[AnyAnswer]) -> dict[int, list[AnyAnswer]]:
    by_order: dict[int, list[AnyAnswer]] = {}
    for each in answers:
        by_order.setdefault(each.order_id, []).append(each)
    return by_order


def _last_that_counts(
    row: _Row, answers: Sequence[AnyAnswer], *, is_accepted: bool = False
) -> AnyAnswer | None:
    """The last answer that fits the order as it stands under its lock; None if none does."""
    for each in reversed(answers):
        fit = core.fit_of(
            is_own=each.meter_id == row.meter_id,
            is_live=not row.order.is_final,
            attempts=row.order.attempts,
            attempt=each.attempt,
            is_accepted=is_accepted,
        )
        if fit is Fit.COUNTS:
            return each
    return None


def _locked(order_ids: Sequence[int], meter_ids: Sequence[int]) -> list[_Row]:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT id, property_id, account_id, meter_id, failure, kind, state, decided_at,
                      attempts, sent_at, next_try_at, expires_at, heard, heard_attempt
               FROM supply_order
               WHERE (id = ANY(%s) OR meter_id = ANY(%s)) AND state IN (1, 2, 3)
               ORDER BY id FOR UPDATE""",
            [list(order_ids), list(meter_ids)],
        )
        return [
            _Row(row[0], row[1], row[2], row[3], row[4], _order_of(row[5:]))
            for row in cursor.fetchall()
        ]


def _order_of(row: Sequence[Any]) -> Order:
    kind, state, decided_at, attempts, sent_at, next_try_at, expires_at, heard, last = row
    return Order(
        kind=OrderKind(kind),
        state=OrderState(state),
        decided_at_us=instant_us(decided_at),
        attempts=attempts,
        sent_at_us=_us(sent_at),
        next_try_at_us=_us(next_try_at),
        expires_at_us=_us(expires_at),
        heard=heard,
        heard_attempt=last,
    )


#: Why an order grew old, by how far it had come, where its meter never said why.
OVERDUE: Final = {
    OrderState.DECIDED: "not_sent",
    OrderState.SENT: "no_answer",
    OrderState.ACKNOWLEDGED: "not_read_back",
}
#: The meter said yes again and again, and its relay did not follow.
NOT_AS_WANTED: Final = "relay_not_as_wanted"


def _failure(row: _Row, after: Order, refusal: Refusal | None) -> str:
    """Why the order has not done what it should by now; a later yes of the meter ends that."""
    if refusal is not None:
        return refusal.value
    match after.state:
        case OrderState.FAILED:
            return NOT_AS_WANTED
        case OrderState.EXPIRED:
            return row.failure or OVERDUE[row.order.state]
        case OrderState.ACKNOWLEDGED | OrderState.VERIFIED:
            return ""
        case _:
            return row.failure


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else instant_us(moment)


def _overdue(now: datetime) -> list[tuple[int, int]]:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT id, account_id FROM supply_order
               WHERE state IN (1, 2, 3) AND expires_at <= %s ORDER BY id LIMIT %s""",
            [now, operations.CHUNK],
        )
        return [(row[0], row[1]) for row in cursor.fetchall()]


def _write(moved: Iterable[_Move], now: datetime) -> None:
    rows = [
        (
            move.row.order_id,
            move.after.state.value,
            move.after.attempts,
            _moment(move.after.sent_at_us),
            _moment(move.after.next_try_at_us),
            now if move.after.state is OrderState.ACKNOWLEDGED else None,
            now if move.after.is_final else None,
            move.failure,
            move.after.heard,
            move.after.heard_attempt,
        )
        for move in moved
    ]
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE supply_order AS o
               SET state = n.s, attempts = n.c, sent_at = n.t, next_try_at = n.x,
                   acknowledged_at = coalesce(o.acknowledged_at, n.k), finished_at = n.f,
                   failure = n.e, heard = n.h, heard_attempt = n.l
               FROM unnest(%s::bigint[], %s::smallint[], %s::integer[], %s::timestamptz[],
                           %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::text[],
                           %s::integer[], %s::integer[])
                    AS n(i, s, c, t, x, k, f, e, h, l)
               WHERE o.id = n.i""",
            [list(column) for column in zip(*rows, strict=True)],
        )
        assert cursor.rowcount == len(rows), "every moved order is written once"


def _tell(moved: Sequence[_Move], rules: Mapping[int, Rules], now: datetime) -> None:
    """Send the customer what was read back, and staff what needs a person."""
    done = [move for move in moved if move.after.state is OrderState.VERIFIED]
    _tell_customers(done, rules, now)
    for move in moved:
        policy = rules[move.row.property_id].order
        code = _trouble(move, policy)
        if code is not None:
            raise_alert(
                property_id=move.row.property_id,
                code=code,
                subject=f"meter:{move.row.meter_id}",
                detail={
                    "order": move.row.order_id,
                    "kind": move.after.kind.word,
                    "attempts": move.after.heard,
                    "why": move.failure,
                },
                now=now,
            )
    _close_alerts(done, now)
    ring("changed", {move.row.property_id for move in moved})


def _trouble(move: _Move, policy: core.OrderPolicy) -> AlertCode | None:
    """The alert that this step is a reason for; None when nobody has to look."""
    before, after = move.row.order, move.after
    if move.refusal is not None:
        needed = core.refusal_needs_person(after, move.refusal, policy)
        return COMMAND_REFUSED if needed else None
    needed = core.needs_person(after, policy) and not core.needs_person(before, policy)
    return RELAY_STUCK if needed else None


def _tell_customers(done: Sequence[_Move], rules: Mapping[int, Rules], now: datetime) -> None:
    available = _available([move.row.account_id for move in done])
    tampering = _for_tampering([move.row.order_id for move in done])
    enqueue(
        messages=[
            NewMessage(
                property_id=move.row.property_id,
                account_id=move.row.account_id,
                code="supply.connected"
                if move.after.kind is not OrderKind.DISCONNECT
                else "tamper.cut"
                if move.row.order_id in tampering
                else "supply.cut",
                detail={
                    "available_micro": available[move.row.account_id],
                    "currency": rules[move.row.property_id].currency,
                    "order_id": move.row.order_id,
                    "at_us": instant_us(now),
                },
                dedupe_key=f"order:{move.row.order_id}",
                urgent=move.after.kind is OrderKind.DISCONNECT,
            )
            for move in done
        ],
        now=now,
    )


def _close_alerts(done: Sequence[_Move], now: datetime) -> None:
    """A relay that does as it is told ends every alert about its not doing so."""
    if not done:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT property_id, code, subject FROM alert
               WHERE property_id = ANY(%s) AND code = ANY(%s) AND subject = ANY(%s)
                 AND closed_at IS NULL""",
            [
                sorted({move.row.property_id for move in done}),
                [COMMAND_REFUSED, RELAY_STUCK],
                [f"meter:{move.row.meter_id}" for move in done],
            ],
        )
        found = cursor.fetchall()
    for property_id, code, subject in found:
        close_alert(property_id=property_id, code=code, subject=subject, now=now)


def _for_tampering(order_ids: Sequence[int]) -> frozenset[int]:
    """Those of the orders that a case of tampering, and not the balance, is the reason of."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM supply_order WHERE id = ANY(%s) AND reason = %s",
            [list(order_ids), Reason.TAMPERING.word],
        )
        return frozenset(row[0] for row in cursor.fetchall())


def _available(account_ids: Sequence[int]) -> dict[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT account_id, available FROM account_state WHERE account_id = ANY(%s)",
            [list(account_ids)],
        )
        return dict(cursor.fetchall())


def _moment(at_us: int | None) -> datetime | None:
    return None if at_us is None else utc_datetime(at_us)
