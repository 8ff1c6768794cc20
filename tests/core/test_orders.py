"""The life of supply orders: every transition, and what may never happen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from prewatt.core import orders
from prewatt.core.orders import (
    ALLOWED,
    FINAL,
    IllegalTransition,
    NoReadBack,
    OrderPolicy,
    Refusal,
    acknowledge,
    expire,
    has_expired,
    is_due,
    mark_sent,
    needs_person,
    new_order,
    read_back,
    refusal_needs_person,
    refuse,
    retry_delay_s,
    supersede,
    wake,
)
from prewatt.core.vocabulary import OrderKind, OrderState, RelayState

POLICY = OrderPolicy(attempts_max=3, settle_s=5, disconnect_expiry_s=600)
S = 1_000_000
NOW = 1_800_000_000 * S
WANTED = {OrderKind.CONNECT: RelayState.CLOSED, OrderKind.DISCONNECT: RelayState.OPEN}
KINDS = [OrderKind.CONNECT, OrderKind.DISCONNECT]


def test_a_kind_that_cannot_be_read_back_is_refused() -> None:
    for would_have in (False, True):
        with pytest.raises(NoReadBack, match="a limit order cannot be read back") as refused:
            new_order(OrderKind.LIMIT, NOW, POLICY, would_have=would_have)
        assert refused.value.kind is OrderKind.LIMIT
    assert {kind for kind in OrderKind if kind is not OrderKind.LIMIT} == set(WANTED)


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_of_an_order_that_works(kind: OrderKind) -> None:
    order = new_order(kind, NOW, POLICY)
    assert is_due(order, NOW)
    order = mark_sent(order, NOW, POLICY)
    assert not is_due(order, NOW)
    order = acknowledge(order)
    assert not order.is_final, "an acknowledgement alone is never done"
    order = read_back(order, WANTED[kind], NOW + S, POLICY)
    assert order.state is OrderState.VERIFIED
    assert order.is_final and not is_due(order, NOW + 10**15)


def test_a_connect_order_never_expires_nor_fails() -> None:
    order = new_order(OrderKind.CONNECT, NOW, POLICY)
    at_us = NOW
    for _ in range(50):
        order = acknowledge(mark_sent(order, at_us, POLICY))
        order = read_back(order, RelayState.OPEN, at_us + 10 * S, POLICY)
        order = refuse(order, Refusal.FAILED, POLICY)
        assert order.next_try_at_us is not None
        at_us = order.next_try_at_us
        assert is_due(order, at_us)
        with pytest.raises(IllegalTransition):
            expire(order, at_us)
    assert needs_person(order, POLICY)
    assert at_us - NOW > 8 * 3600 * S, "the back-off grew"


def test_a_disconnect_that_the_relay_ignores_fails_after_its_last_attempt() -> None:
    order = new_order(OrderKind.DISCONNECT, NOW, POLICY)
    for attempt in range(1, 4):
        at_us = NOW + attempt * 100 * S
        order = acknowledge(mark_sent(order, at_us, POLICY))
        order = read_back(order, RelayState.CLOSED, at_us + 5 * S, POLICY)
        assert (order.state is OrderState.FAILED) == (attempt == 3)
    assert needs_person(order, POLICY)


def test_a_report_that_crossed_the_command_contradicts_nothing() -> None:
    order = new_order(OrderKind.DISCONNECT, NOW, POLICY)
    for _ in range(3):
        order = mark_sent(order, NOW, POLICY)
    assert read_back(order, RelayState.CLOSED, NOW + 4 * S, POLICY) == order
    assert read_back(order, RelayState.UNKNOWN, NOW + 60 * S, POLICY) == order
    assert read_back(order, RelayState.OPEN, NOW - 1, POLICY) == order, "older than the decision"


def test_a_relay_already_in_place_verifies_without_a_command() -> None:
    order = new_order(OrderKind.CONNECT, NOW, POLICY)
    done = read_back(order, RelayState.CLOSED, NOW + S, POLICY)
    assert done.state is OrderState.VERIFIED and done.attempts == 0


def test_a_disconnect_expires_and_is_not_sent_after() -> None:
    order = new_order(OrderKind.DISCONNECT, NOW, POLICY)
    late = NOW + 600 * S
    with pytest.raises(IllegalTransition):
        expire(order, late - 1)
    assert has_expired(order, late) and not is_due(order, late)
    with pytest.raises(IllegalTransition):
        mark_sent(order, late, POLICY)
    assert expire(order, late).state is OrderState.EXPIRED


def test_silence_is_only_an_offline_meter_and_waking_makes_its_order_due() -> None:
    order = new_order(OrderKind.CONNECT, NOW, POLICY)
    for _ in range(20):
        order = mark_sent(order, NOW, POLICY)
    assert not needs_person(order, POLICY)
    assert not is_due(order, NOW + S)
    assert is_due(wake(order, NOW + S), NOW + S)


def test_would_have_orders_are_final_and_never_due() -> None:
    order = new_order(OrderKind.DISCONNECT, NOW, POLICY, would_have=True)
    assert order.is_final and not is_due(order, NOW + 10**15)


@given(attempts=st.integers(0, 10_000))
def test_the_back_off_doubles_up_to_its_longest(attempts: int) -> None:
    delay = retry_delay_s(attempts, POLICY)
    assert delay == min(5 * 2 ** min(max(attempts, 1) - 1, 40), 900)


def test_every_state_has_its_row_and_final_ones_lead_nowhere() -> None:
    assert set(ALLOWED) == set(OrderState)
    assert {state for state, after in ALLOWED.items() if not after} == FINAL


def test_a_command_that_came_too_late_fails_nothing_and_a_wrong_clock_calls_a_person_at_once() -> (
    None
):
    spent = new_order(OrderKind.DISCONNECT, NOW, POLICY)
    for left in reversed(range(POLICY.attempts_max)):
        spent = mark_sent(spent, NOW, POLICY)
        spent = refuse(spent, Refusal.FAILED, POLICY) if left else spent
    first = mark_sent(new_order(OrderKind.CONNECT, NOW, POLICY), NOW, POLICY)
    calls = {
        refusal: (
            refuse(spent, refusal, POLICY).state,
            refusal_needs_person(first, refusal, POLICY),
            refusal_needs_person(refuse(spent, refusal, POLICY), refusal, POLICY),
        )
        for refusal in Refusal
    }
    assert calls == {
        Refusal.CLOCK_AHEAD: (OrderState.FAILED, True, True),
        Refusal.UNSUPPORTED: (OrderState.FAILED, True, True),
        Refusal.FAILED: (OrderState.FAILED, False, True),
        Refusal.LATE: (OrderState.SENT, False, False),
    }


def test_what_went_to_a_meter_that_was_away_says_nothing_of_its_relay() -> None:
    for kind, other in (
        (OrderKind.CONNECT, RelayState.OPEN),
        (OrderKind.DISCONNECT, RelayState.CLOSED),
    ):
        order = new_order(kind, NOW, POLICY)
        for _ in range(10 * POLICY.attempts_max):
            order = mark_sent(order, NOW, POLICY)
        # Back after a long time, it says yes to the last one: that is one yes, and one relay to wait for.
        for heard in range(1, POLICY.attempts_max):
            for _ in range(3):
                order = read_back(acknowledge(order), other, NOW + 60_000_000, POLICY)
            assert order.heard == heard and not needs_person(order, POLICY), (
                "told thrice is told once"
            )
            order = mark_sent(order, NOW, POLICY)
        order = read_back(acknowledge(order), other, NOW + 60_000_000, POLICY)
        assert needs_person(order, POLICY)
        assert (order.state is OrderState.FAILED) is (kind is OrderKind.DISCONNECT)


class OrderLife(RuleBasedStateMachine):
    """Any sequence of events: only allowed transitions happen, or IllegalTransition is raised."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.order = new_order(OrderKind.CONNECT, NOW, POLICY)
        self.seen = [self.order.state]

    @rule(kind=st.sampled_from(KINDS))
    @precondition(lambda self: self.order.is_final)
    def begin_another(self, kind: OrderKind) -> None:
        self.order = new_order(kind, self.now, POLICY)
        self.seen = [self.order.state]

    @rule(seconds=st.integers(0, 400))
    def wait(self, seconds: int) -> None:
        self.now += seconds * S

    @rule(
        event=st.integers(0, 6),
        relay=st.sampled_from(RelayState),
        refusal=st.sampled_from(Refusal),
    )
    def anything(self, event: int, relay: RelayState, refusal: Refusal) -> None:
        before = self.order
        try:
            self.order = [
                lambda: mark_sent(before, self.now, POLICY),
                lambda: acknowledge(before),
                lambda: read_back(before, relay, self.now, POLICY),
                lambda: refuse(before, refusal, POLICY),
                lambda: expire(before, self.now),
                lambda: supersede(before),
                lambda: wake(before, self.now),
            ][event]()
        except IllegalTransition:
            assert self.order == before
            return
        if self.order.state is not before.state:
            assert self.order.state in ALLOWED[before.state]
            if self.order.state is OrderState.VERIFIED:
                assert relay is WANTED[self.order.kind]

    @invariant()
    def a_connect_ends_only_verified_or_superseded(self) -> None:
        if self.order.kind is OrderKind.CONNECT:
            assert self.order.state not in (OrderState.EXPIRED, OrderState.FAILED)

    @invariant()
    def an_unfinished_order_is_always_due_or_will_be(self) -> None:
        if not self.order.is_final:
            assert self.order.next_try_at_us is not None
            due = is_due(self.order, max(self.now, self.order.next_try_at_us))
            assert due or orders.has_expired(self.order, max(self.now, self.order.next_try_at_us))


TestOrderLife = OrderLife.TestCase
