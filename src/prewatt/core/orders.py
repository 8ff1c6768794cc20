"""The life of a supply order: from the decision to the relay state that was read back.

An order is done only when the meter's relay has been read back in the wanted state, never on an
acknowledgement alone. The two kinds differ on purpose. A *disconnect* grows old: it expires, and
the account is decided afresh. A *connect* is a standing order: it is tried until the relay is read
back closed, however long the meter is offline, and ends otherwise only by a later order.

All functions are pure: an order and an instant in, a new order out; instants are int64 µs UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Final

from prewatt.core.vocabulary import OrderKind, OrderState, RelayState

SECOND_US: Final = 1_000_000

FINAL: Final = frozenset(
    {
        OrderState.VERIFIED,
        OrderState.FAILED,
        OrderState.EXPIRED,
        OrderState.SUPERSEDED,
        OrderState.WOULD_HAVE,
    }
)

# From DECIDED straight to VERIFIED: the relay was read back as wanted before a command went out,
# because the meter had been switched by other means. From ACKNOWLEDGED back to SENT: the meter said
# yes, the read-back said no, and the command is tried again.
ALLOWED: Final[dict[OrderState, frozenset[OrderState]]] = {
    OrderState.DECIDED: frozenset(
        {
            OrderState.SENT,
            OrderState.VERIFIED,
            OrderState.EXPIRED,
            OrderState.SUPERSEDED,
        }
    ),
    OrderState.SENT: frozenset(
        {
            OrderState.SENT,
            OrderState.ACKNOWLEDGED,
            OrderState.VERIFIED,
            OrderState.FAILED,
            OrderState.EXPIRED,
            OrderState.SUPERSEDED,
        }
    ),
    OrderState.ACKNOWLEDGED: frozenset(
        {
            OrderState.SENT,
            OrderState.VERIFIED,
            OrderState.FAILED,
            OrderState.EXPIRED,
            OrderState.SUPERSEDED,
        }
    ),
    **{state: frozenset() for state in FINAL},
}

_WANTED: Final = {OrderKind.CONNECT: RelayState.CLOSED, OrderKind.DISCONNECT: RelayState.OPEN}


class Refusal(StrEnum):
    """Why a meter did not carry out a command that reached it; stored with the order."""

    #: Its clock is so far ahead that every command looks expired to it.
    CLOCK_AHEAD = "meter_clock_ahead"
    #: The command came too late, as to a meter that was away; the next one will not.
    LATE = "command_late"
    UNSUPPORTED = "meter_unsupported"
    FAILED = "meter_failed"


#: Trying again changes nothing about these; somebody has to see to the meter.
_LASTING: Final = frozenset({Refusal.CLOCK_AHEAD, Refusal.UNSUPPORTED})


class Fit(Enum):
    """How an answer stands to the order that its command names."""

    #: It may move the order.
    COUNTS = 1
    #: Of this meter's own order, and too late: the order has ended or has gone on to another attempt.
    LATE = 2
    #: To a command that this meter was never sent.
    FOREIGN = 3


class NoReadBack(Exception):
    """No order of this kind is created: nothing could be read back, so it could never be done.

    A limit is such a kind until a driver reads back the limit that its meter keeps.
    """

    def __init__(self, kind: OrderKind) -> None:
        super().__init__(f"a {kind.word} order cannot be read back, and is not created")
        self.kind = kind


class IllegalTransition(Exception):
    """An order was asked for a step that its state or kind does not allow; nothing changed."""

    def __init__(self, kind: OrderKind, before: OrderState, after: OrderState) -> None:
        super().__init__(f"a {kind.word} order cannot go from {before.word} to {after.word}")
        self.kind = kind
        self.before = before
        self.after = after


@dataclass(frozen=True, slots=True)
class OrderPolicy:
    """How an order is retried and when it grows old.

    The n-th retry waits ``first_retry_s`` × 2ⁿ⁻¹, at most ``longest_retry_s``. A read-back counts
    as contradicting a command only ``settle_s`` after it was sent, since an earlier report may have
    crossed it on the way. A disconnect that was contradicted or refused ``attempts_max`` times has
    failed; one that was not verified ``disconnect_expiry_s`` after its decision has expired.
    """

    first_retry_s: int = 5
    longest_retry_s: int = 900
    settle_s: int = 5
    attempts_max: int = 8
    disconnect_expiry_s: int = 4 * 3600

    def __post_init__(self) -> None:
        if not 0 < self.first_retry_s <= self.longest_retry_s:
            raise ValueError("retries must wait, and the longest wait is the longest")
        if self.attempts_max < 1 or self.settle_s < 0 or self.disconnect_expiry_s <= 0:
            raise ValueError("an order needs at least one attempt and some time")


@dataclass(frozen=True, slots=True)
class Order:
    """One supply order. ``next_try_at_us`` and ``expires_at_us`` are None where none applies."""

    kind: OrderKind
    state: OrderState
    decided_at_us: int
    attempts: int = 0
    sent_at_us: int | None = None
    next_try_at_us: int | None = None
    expires_at_us: int | None = None
    #: How many attempts the meter was there for: it said yes or no, or its relay was read back otherwise after
    #: it; and which attempt was the last of these. What went to a meter that was away says nothing of its relay.
    heard: int = 0
    heard_attempt: int = 0

    @property
    def is_final(self) -> bool:
        """Say whether nothing more will happen to this order."""
        return self.state in FINAL


def new_order(
    kind: OrderKind, now_us: int, policy: OrderPolicy, *, would_have: bool = False
) -> Order:
    """Return a fresh order, due at once; a would-have order is final from the start.

    Raises `NoReadBack` for a kind that could never be verified.
    """
    if kind not in _WANTED:
        raise NoReadBack(kind)
    if would_have:
        return Order(kind, OrderState.WOULD_HAVE, now_us)
    expires_at_us = None
    if kind is not OrderKind.CONNECT:
        expires_at_us = now_us + policy.disconnect_expiry_s * SECOND_US
    return Order(kind, OrderState.DECIDED, now_us, 0, None, now_us, expires_at_us)


def retry_delay_s(attempts: int, policy: OrderPolicy) -> int:
    """Return how long to wait after the given number of attempts (1 or more)."""
    # The shift is capped before it is made: an order that stands for a year must not build a huge
    # number only to throw it away.
    doublings = min(max(attempts, 1) - 1, 32)
    return min(policy.first_retry_s << doublings, policy.longest_retry_s)


#: A cut that does not last is not worth a storm: it is made again at most so often.
_LONGEST_CUT_WAIT_S: Final = 3_600


def departure_wait_s(kind: OrderKind, times: int, policy: OrderPolicy) -> int:
    """Return how long after the last order a relay that departed again is left alone.

    ``times`` counts the orders that put it right within a day. The first is made at once.
    """
    if times == 0:
        return 0
    wait_s = policy.first_retry_s << min(2 * (times - 1), 32)
    is_cut = kind is OrderKind.DISCONNECT
    return min(wait_s, _LONGEST_CUT_WAIT_S if is_cut else policy.longest_retry_s)


def is_due(order: Order, now_us: int) -> bool:
    """Say whether a command for this order should go out now."""
    if order.is_final or order.next_try_at_us is None or has_expired(order, now_us):
        return False
    return now_us >= order.next_try_at_us


def has_expired(order: Order, now_us: int) -> bool:
    """Say whether an order is past its expiry and still unfinished."""
    return not order.is_final and order.expires_at_us is not None and now_us >= order.expires_at_us


def fit_of(
    *, is_own: bool, is_live: bool, attempts: int, attempt: int, is_accepted: bool = False
) -> Fit:
    """Say whether an answer to command number ``attempt`` counts for an order.

    ``is_own`` says that the order is of the meter that answers, ``attempts`` how many commands it was
    sent. A yes (``is_accepted``) to an earlier one is a yes to the same; a no or a relay state counts
    only of the latest, since what came before says nothing about what it did.
    """
    if not is_own or not 1 <= attempt <= attempts:
        return Fit.FOREIGN
    return Fit.COUNTS if is_live and (is_accepted or attempt == attempts) else Fit.LATE


def mark_sent(order: Order, now_us: int, policy: OrderPolicy) -> Order:
    """Record that a command went out, and when to try again if nothing is read back."""
    if has_expired(order, now_us):
        raise IllegalTransition(order.kind, order.state, OrderState.SENT)
    attempts = order.attempts + 1
    return replace(
        _moved(order, OrderState.SENT),
        attempts=attempts,
        sent_at_us=now_us,
        next_try_at_us=now_us + retry_delay_s(attempts, policy) * SECOND_US,
    )


def acknowledge(order: Order) -> Order:
    """Record that the meter accepted the command; the retry stands until the read-back."""
    if order.state is OrderState.ACKNOWLEDGED:
        return order
    return _moved(_heard(order), OrderState.ACKNOWLEDGED)


def read_back(order: Order, relay: RelayState, seen_at_us: int, policy: OrderPolicy) -> Order:
    """Take a relay state that the meter reported at ``seen_at_us``.

    The wanted state verifies the order. Another state changes nothing, since the retry is already
    set, until a disconnect has used up its attempts: then it has failed and a person must look.
    """
    if order.is_final:
        raise IllegalTransition(order.kind, order.state, OrderState.VERIFIED)
    if seen_at_us < order.decided_at_us:
        return order
    if relay is _WANTED[order.kind]:
        return replace(_moved(order, OrderState.VERIFIED), next_try_at_us=None)
    if order.sent_at_us is None or relay is RelayState.UNKNOWN:
        return order
    settled = seen_at_us >= order.sent_at_us + policy.settle_s * SECOND_US
    return _failed_if_spent(_heard(order), policy) if settled else order


def refuse(order: Order, refusal: Refusal, policy: OrderPolicy) -> Order:
    """Record that the meter refused the command; a disconnect fails after its last attempt.

    A command that came too late says nothing about the meter, and fails nothing.
    """
    if order.state not in (OrderState.SENT, OrderState.ACKNOWLEDGED):
        raise IllegalTransition(order.kind, order.state, OrderState.FAILED)
    return order if refusal is Refusal.LATE else _failed_if_spent(_heard(order), policy)


def wake(order: Order, now_us: int) -> Order:
    """Make an unfinished order due at once: the meter has just come back online."""
    if order.is_final or order.next_try_at_us is None or order.next_try_at_us <= now_us:
        return order
    return replace(order, next_try_at_us=now_us)


def expire(order: Order, now_us: int) -> Order:
    """End a disconnect that is past its expiry. The account must then be decided again.

    A connect order never expires: raises `IllegalTransition`, as it does before the expiry.
    """
    if not has_expired(order, now_us):
        raise IllegalTransition(order.kind, order.state, OrderState.EXPIRED)
    return replace(_moved(order, OrderState.EXPIRED), next_try_at_us=None)


def supersede(order: Order) -> Order:
    """End an unfinished order because a later one for the same meter takes its place."""
    return replace(_moved(order, OrderState.SUPERSEDED), next_try_at_us=None)


def needs_person(order: Order, policy: OrderPolicy) -> bool:
    """Say whether staff should look: it failed, or the meter says yes again and again in vain.

    Many attempts without an answer are only a meter that is offline; its order stands.
    """
    if order.state is OrderState.FAILED:
        return True
    return order.state is OrderState.ACKNOWLEDGED and order.heard >= policy.attempts_max


def refusal_needs_person(order: Order, refusal: Refusal, policy: OrderPolicy) -> bool:
    """Say whether staff should look at a meter that refused: trying again will not help, or has not."""
    if refusal is Refusal.LATE:
        return False
    return refusal in _LASTING or order.heard >= policy.attempts_max


def _heard(order: Order) -> Order:
    """Count the present attempt as one that the meter was there for, once."""
    if order.heard_attempt == order.attempts:
        return order
    return replace(order, heard=order.heard + 1, heard_attempt=order.attempts)


def _failed_if_spent(order: Order, policy: OrderPolicy) -> Order:
    # A connect is never given up: a customer who has paid waits for the meter, not for us.
    if order.kind is OrderKind.CONNECT or order.heard < policy.attempts_max:
        return order
    return replace(_moved(order, OrderState.FAILED), next_try_at_us=None)


def _moved(order: Order, after: OrderState) -> Order:
    if after not in ALLOWED[order.state]:
        raise IllegalTransition(order.kind, order.state, after)
    return replace(order, state=after)
