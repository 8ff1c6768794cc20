"""Cutting fairly: the seven gates one by one, and any sequence of events against the rule."""

from dataclasses import replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import cases
from prewatt.core.civil_time import LocalCalendar, instant_us
from prewatt.core.credit import (
    Brake,
    BrakePolicy,
    SupplyPolicy,
    SupplyState,
    Warnings,
    connect_shortfall_micro,
    decide_brake,
    decide_connection,
    decide_disconnection,
    decide_supply,
)
from prewatt.core.cut_window import CutWindow, is_open
from prewatt.core.vocabulary import Gate, OrderKind, Outcome, Protection, Reason, RelayState

S, EUR = 1_000_000, 1_000_000
ZONE = ZoneInfo("Europe/Berlin")
WINDOW = CutWindow(LocalCalendar("Europe/Berlin", frozenset({date(2026, 12, 25)})))
POLICY = SupplyPolicy(WINDOW, notice_s=600, trying_s=7200)


def at(*parts: int) -> int:
    year, month, day, hour, minute = parts
    return instant_us(datetime(year, month, day, hour, minute, tzinfo=ZONE))


NOW = at(2026, 11, 24, 10, 0)  # a Tuesday, the window is open
READY = SupplyState(
    available_micro=-10 * EUR,
    emergency_credit_micro=10 * EUR,
    reading_at_us=NOW - 900 * S,
    warnings=Warnings(delivered_at_us=NOW - 3600 * S, channels=1, channels_tried=1),
)


def test_all_gates_open_cuts() -> None:
    decision = decide_disconnection(READY, POLICY, NOW)
    assert (decision.outcome, decision.reason) == (Outcome.CUT, Reason.ALL_GATES_OPEN)
    assert [reading.gate for reading in decision.gates] == list(Gate)
    assert all(reading.figures for reading in decision.gates), "every gate shows its figures"


CLOSERS: dict[Gate | None, dict[str, object]] = {
    Gate.BALANCE_EXHAUSTED: {"available_micro": -10 * EUR + 1},
    Gate.READING_FRESH: {"reading_is_live": False},
    Gate.WARNING_DELIVERED: {"warnings": Warnings(channels=1, channels_tried=1)},
    Gate.NOT_PROTECTED: {"protection": Protection.COLD_STORE},
    Gate.NO_PAYMENT_IN_FLIGHT: {"payment_hold_until_us": NOW + 60 * S},
    Gate.BRAKE_OFF: {"brake": Brake(on=True)},
}


@pytest.mark.parametrize("gate", [each for each in CLOSERS if each != Gate.BALANCE_EXHAUSTED])
def test_one_closed_gate_holds_and_is_named(gate: Gate) -> None:
    decision = decide_disconnection(replace(READY, **CLOSERS[gate]), POLICY, NOW)  # type: ignore[arg-type]  # one field of several types
    assert decision.outcome is Outcome.HOLD
    assert decision.closed_gates == (gate,)
    assert decision.reason == 10 + gate


def test_outside_the_window_holds_until_it_opens() -> None:
    friday = at(2026, 11, 27, 16, 0)
    state = replace(READY, reading_at_us=friday - S)
    decision = decide_disconnection(state, POLICY, friday)
    assert decision.reason is Reason.HELD_WINDOW_CLOSED
    assert decision.reconsider_at_us == at(2026, 11, 30, 9, 0)


def test_credit_left_keeps_supply_and_still_shows_every_gate() -> None:
    state = replace(READY, available_micro=-10 * EUR + 1, protection=Protection.MEDICAL)
    decision = decide_disconnection(state, POLICY, NOW)
    assert (decision.outcome, decision.reason) == (Outcome.KEEP, Reason.BALANCE_LEFT)
    assert Gate.NOT_PROTECTED in decision.closed_gates and len(decision.gates) == 7


def test_notice_runs_from_the_delivery() -> None:
    state = replace(READY, warnings=Warnings(delivered_at_us=NOW - 599 * S))
    assert decide_disconnection(state, POLICY, NOW).reconsider_at_us == NOW + S
    assert decide_disconnection(state, POLICY, NOW + S).outcome is Outcome.CUT


def test_by_default_a_warning_comes_hours_before_a_cut() -> None:
    usual = SupplyPolicy(WINDOW)
    for ago_s in (0, 1, 60, 4 * 3600 - 1):
        state = replace(READY, warnings=Warnings(delivered_at_us=NOW - ago_s * S))
        held = decide_disconnection(state, usual, NOW)
        assert (held.outcome, held.closed_gates) == (Outcome.HOLD, (Gate.WARNING_DELIVERED,))
    state = replace(READY, warnings=Warnings(delivered_at_us=NOW - 4 * 3600 * S))
    assert decide_disconnection(state, usual, NOW).outcome is Outcome.CUT


def test_every_channel_tried_for_long_enough_opens_the_gate_but_no_channel_never_does() -> None:
    tried = Warnings(tried_since_us=NOW - 7200 * S, channels=2, channels_tried=2)
    assert decide_disconnection(replace(READY, warnings=tried), POLICY, NOW).outcome is Outcome.CUT
    half = replace(tried, channels_tried=1)
    assert decide_disconnection(replace(READY, warnings=half), POLICY, NOW).outcome is Outcome.HOLD
    none = replace(tried, channels=0, channels_tried=0)
    held = decide_disconnection(replace(READY, warnings=none), POLICY, NOW)
    assert held.outcome is Outcome.HOLD and held.reconsider_at_us is None


def test_a_payment_hold_ends_by_itself() -> None:
    state = replace(READY, payment_hold_until_us=NOW + 60 * S)
    assert decide_disconnection(state, POLICY, NOW).reconsider_at_us == NOW + 60 * S
    assert decide_disconnection(state, POLICY, NOW + 60 * S).outcome is Outcome.CUT


def test_a_reading_from_the_future_is_a_wrong_clock() -> None:
    state = replace(READY, reading_at_us=NOW + 301 * S)
    assert decide_disconnection(state, POLICY, NOW).closed_gates == (Gate.READING_FRESH,)


def test_an_old_reading_says_what_would_have_been_and_waits_for_a_new_one() -> None:
    month_ago = at(2026, 10, 20, 10, 0)
    state = replace(
        READY,
        reading_at_us=month_ago,
        warnings=Warnings(delivered_at_us=month_ago - 3600 * S),
    )
    decision = decide_disconnection(state, POLICY, at(2026, 11, 29, 3, 0))
    assert decision.outcome is Outcome.HOLD and decision.would_have
    assert decision.would_have_cut, "the other gates are read at the time of the reading"
    assert decision.reconsider_at_us is None
    backlog = replace(READY, reading_is_live=False)
    assert decide_disconnection(backlog, POLICY, NOW).would_have_cut


def test_what_stands_is_not_ordered_twice() -> None:
    standing = replace(READY, standing_order=OrderKind.DISCONNECT)
    assert decide_disconnection(standing, POLICY, NOW).reason is Reason.ORDER_STANDS
    open_relay = replace(READY, relay=RelayState.OPEN)
    assert decide_disconnection(open_relay, POLICY, NOW).reason is Reason.ALREADY_CUT
    overtaken = replace(READY, relay=RelayState.OPEN, standing_order=OrderKind.CONNECT)
    assert decide_disconnection(overtaken, POLICY, NOW).outcome is Outcome.CUT


def test_connection_asks_no_gate() -> None:
    sunday_night = at(2026, 11, 29, 3, 0)
    state = replace(
        READY,
        available_micro=EUR,
        relay=RelayState.OPEN,
        reading_at_us=sunday_night - 10**12,
        brake=Brake(on=True),
        protection=Protection.FIRE,
    )
    decision = decide_supply(state, POLICY, sunday_night)
    assert (decision.outcome, decision.reason) == (Outcome.CONNECT, Reason.BALANCE_ALLOWS)
    assert not decision.would_have


def test_credit_takes_back_a_disconnect_on_its_way() -> None:
    state = replace(READY, available_micro=EUR, standing_order=OrderKind.DISCONNECT)
    assert decide_connection(state, POLICY).outcome is Outcome.CONNECT


@pytest.mark.parametrize(
    ("repaid", "minimum", "available", "shortfall"),
    [
        (False, 0, -10 * EUR, 1),
        (False, 0, -10 * EUR + 1, 0),
        (False, 2 * EUR, -10 * EUR, 2 * EUR),
        (True, 0, -4 * EUR, 4 * EUR + 1),
        (True, 3 * EUR, 3 * EUR, 0),
    ],
)
def test_shortfall(repaid: bool, minimum: int, available: int, shortfall: int) -> None:
    policy = replace(POLICY, emergency_must_be_repaid=repaid, reconnect_min_micro=minimum)
    state = replace(READY, available_micro=available, relay=RelayState.OPEN)
    assert connect_shortfall_micro(state, policy) == shortfall
    outcome = Outcome.STAY_CUT if shortfall else Outcome.CONNECT
    assert decide_connection(state, policy).outcome is outcome


def test_the_brake_counts_a_window_and_keeps_room_for_one() -> None:
    policy = BrakePolicy(window_s=900, cuts_max=10, share_bp=1_000)
    cuts = [NOW - 1000 * S, NOW - 900 * S, NOW - 899 * S, NOW]
    assert decide_brake(cuts, 240, policy, NOW).room == 8
    assert decide_brake(cuts, 30, policy, NOW).room == 1
    assert decide_brake([], 5, policy, NOW).room == 1
    assert decide_brake([NOW] * 12, 240, policy, NOW).room == 0


MINUTES = st.integers(0, 14 * 1440)
STATES = st.builds(
    SupplyState,
    available_micro=st.integers(-12 * EUR, 2 * EUR),
    emergency_credit_micro=st.sampled_from([0, 10 * EUR]),
    reading_at_us=st.none() | MINUTES.map(lambda m: NOW + m * 60 * S),
    relay=st.sampled_from(RelayState),
    standing_order=st.none() | st.sampled_from([OrderKind.CONNECT, OrderKind.DISCONNECT]),
    protection=st.sampled_from([Protection.NONE, Protection.NONE, Protection.MEDICAL]),
    warnings=st.builds(
        Warnings,
        delivered_at_us=st.none() | MINUTES.map(lambda m: NOW + m * 60 * S),
        tried_since_us=st.none() | MINUTES.map(lambda m: NOW + m * 60 * S),
        channels=st.integers(0, 2),
        channels_tried=st.integers(0, 2),
    ),
    payment_hold_until_us=st.none() | MINUTES.map(lambda m: NOW + m * 60 * S),
    brake=st.builds(Brake, on=st.booleans(), room=st.integers(0, 2)),
    reading_is_live=st.booleans(),
)


@st.composite
def nearly_cut(draw: st.DrawFn) -> tuple[SupplyState, int]:
    """An account ready to be cut but for at most one gate, so that every gate decides alone."""
    now = NOW + draw(st.sampled_from([0, 0, 7 * 60, 4 * 1440, 31 * 1440])) * 60 * S
    state = replace(READY, reading_at_us=now - 900 * S)
    gate = draw(st.none() | st.sampled_from(list(CLOSERS)))
    if gate is Gate.NO_PAYMENT_IN_FLIGHT:
        return replace(state, payment_hold_until_us=now + S), now
    return replace(state, **CLOSERS.get(gate, {})), now  # type: ignore[arg-type]  # see CLOSERS


@st.composite
def anything(draw: st.DrawFn) -> tuple[SupplyState, int]:
    return draw(STATES), NOW + draw(MINUTES) * 60 * S


@settings(max_examples=cases(400), deadline=None)
@given(case=anything() | nearly_cut())
def test_invariant_7_never_cut_unless_every_gate_holds(case: tuple[SupplyState, int]) -> None:
    """The gates written a second time, as one sentence each."""
    state, now = case
    decision = decide_disconnection(state, POLICY, now)
    assert decision.reason in Reason and len(decision.gates) == len(Gate)
    if decision.outcome is not Outcome.CUT:
        return
    assert state.available_micro <= -state.emergency_credit_micro
    assert state.reading_at_us is not None and state.reading_is_live
    assert -300 * S <= now - state.reading_at_us <= 3600 * S
    known = state.warnings
    warned = known.delivered_at_us is not None and now >= known.delivered_at_us + 600 * S
    tried = (
        known.tried_since_us is not None
        and 0 < known.channels <= known.channels_tried
        and now >= known.tried_since_us + 7200 * S
    )
    assert warned or tried
    assert is_open(WINDOW, now)
    assert state.protection is Protection.NONE
    assert state.payment_hold_until_us is None or now >= state.payment_hold_until_us
    assert not state.brake.on and state.brake.room > 0
    assert not decision.would_have


@settings(max_examples=cases(200), deadline=None)
@given(state=STATES, minute=MINUTES)
def test_nothing_is_decided_before_the_instant_it_names(state: SupplyState, minute: int) -> None:
    now = NOW + minute * 60 * S
    decision = decide_disconnection(state, POLICY, now)
    again_us = decision.reconsider_at_us
    if again_us is None:
        return
    assert decision.outcome is Outcome.HOLD and again_us > now
    before = decide_disconnection(state, POLICY, again_us - 1)
    opened = set(decision.closed_gates) - set(before.closed_gates)
    assert not opened, "no gate opens by time alone before the instant named"


@settings(max_examples=cases(200), deadline=None)
@given(state=STATES, minute=MINUTES)
def test_whoever_pays_the_shortfall_is_connected(state: SupplyState, minute: int) -> None:
    now = NOW + minute * 60 * S
    paid = replace(
        state, available_micro=state.available_micro + connect_shortfall_micro(state, POLICY)
    )
    decision = decide_supply(paid, POLICY, now)
    is_on = paid.relay is RelayState.CLOSED and paid.standing_order is not OrderKind.DISCONNECT
    on_its_way = paid.standing_order is OrderKind.CONNECT
    assert decision.outcome is Outcome.CONNECT or is_on or on_its_way
    assert decide_disconnection(paid, POLICY, now).outcome is Outcome.KEEP
