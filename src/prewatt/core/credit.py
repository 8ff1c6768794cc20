"""Whether supply is cut, held or connected: the one place where that is decided.

A disconnection passes seven gates, and every one is looked at every time, open or closed, with its
figures, so that a screen can show why there is, or is not, a cut. A connection passes none of
them: when the balance allows, it happens at once, at any hour.

Pure: state + policy + now → decision + reason. Money is int64 micro-units, instants int64 µs UTC.
``available_micro`` is what the ledger has posted minus what meters have used since; it goes below
zero while emergency credit is in use, and is exhausted at minus the emergency credit.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from prewatt.core.cut_window import CutWindow, is_open, next_open_at_us
from prewatt.core.vocabulary import (
    Gate,
    GateResult,
    OrderKind,
    Outcome,
    Protection,
    Reason,
    RelayState,
)

SECOND_US: Final = 1_000_000
BP: Final = 10_000
#: The least time between a delivered warning and a cut, where a property says nothing else: time to
#: see the message, to find the money and to pay (decision 21). A warning sent in the last four hours of
#: the permitted hours therefore cuts nobody that day.
NOTICE_S: Final = 4 * 3_600

Figure = int | str | bool | None


@dataclass(frozen=True, slots=True)
class Warnings:
    """What is known of the warnings since the balance last became low.

    ``delivered_at_us`` is the first delivery on any channel; ``tried_since_us`` the first try on
    any; ``channels`` and ``channels_tried`` count the contact's channels, and those tried at least
    once since. A warning about an earlier low balance does not count and must not be passed in.
    """

    delivered_at_us: int | None = None
    tried_since_us: int | None = None
    channels: int = 0
    channels_tried: int = 0


@dataclass(frozen=True, slots=True)
class Brake:
    """The mass-cut brake: ``on`` until two people release it; ``room`` cuts before it goes on."""

    on: bool = False
    room: int = 1


@dataclass(frozen=True, slots=True)
class SupplyState:
    """Everything about one account's supply that a decision looks at.

    ``reading_at_us`` is the instant of the newest accepted reading, None before the first.
    ``reading_is_live`` is False when the caller knows that it acts on old readings, such as a backlog.
    ``payment_hold_until_us`` is set while a payment has been started and not yet confirmed or
    refused. ``standing_order`` is the kind of the unfinished supply order, if there is one.
    """

    available_micro: int
    emergency_credit_micro: int
    reading_at_us: int | None
    relay: RelayState = RelayState.CLOSED
    standing_order: OrderKind | None = None
    protection: Protection = Protection.NONE
    warnings: Warnings = field(default_factory=Warnings)
    payment_hold_until_us: int | None = None
    brake: Brake = field(default_factory=Brake)
    reading_is_live: bool = True
    #: A case of tampering withholds supply, by a policy that two people agreed to, whatever the balance.
    is_withheld: bool = False

    @property
    def is_exhausted(self) -> bool:
        """Whether all credit is used up, emergency credit included."""
        return self.available_micro <= -self.emergency_credit_micro

    def __post_init__(self) -> None:
        if self.emergency_credit_micro < 0:
            raise ValueError("emergency credit is never negative")


@dataclass(frozen=True, slots=True)
class SupplyPolicy:
    """A property's rules for cutting and connecting.

    ``freshness_s``: how old the newest reading may be. ``notice_s``: the least time between a
    delivered warning and a cut. ``trying_s``: how long every channel must have been tried when
    none delivered. ``reconnect_min_micro``: how far above the line the balance must rise;
    the line is zero when emergency credit must be repaid first, else the end of emergency credit.
    """

    window: CutWindow
    freshness_s: int = 3_600
    clock_skew_s: int = 300
    notice_s: int = NOTICE_S
    trying_s: int = 24 * 3_600
    reconnect_min_micro: int = 0
    emergency_must_be_repaid: bool = False


@dataclass(frozen=True, slots=True)
class GateReading:
    """One gate as it stood: result, the figures behind it, and when time alone would open it.

    ``opens_at_us`` is None for an open gate and for one that only an event can open.
    """

    gate: Gate
    result: GateResult
    figures: Mapping[str, Figure]
    opens_at_us: int | None = None

    @property
    def is_open(self) -> bool:
        """Say whether this gate lets a cut pass."""
        return self.result is GateResult.OPEN


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, why, and every gate's reading.

    ``reconsider_at_us`` is the earliest instant at which time alone could open a closed gate of a
    HOLD; None means that an event will. ``would_have`` marks a decision from a reading too old to
    act on: its orders and messages are stored, never sent. ``shortfall_micro`` is what must be paid
    for supply to be connected (0 when the balance allows).
    """

    outcome: Outcome
    reason: Reason
    gates: tuple[GateReading, ...]
    would_have: bool = False
    reconsider_at_us: int | None = None
    shortfall_micro: int = 0

    @property
    def closed_gates(self) -> tuple[Gate, ...]:
        """Return the gates that were closed, in their order."""
        return tuple(reading.gate for reading in self.gates if not reading.is_open)

    @property
    def would_have_cut(self) -> bool:
        """Say whether the age of the reading was all that stood between this account and a cut."""
        return self.would_have and self.closed_gates == (Gate.READING_FRESH,)

    def gates_as_json(self) -> list[dict[str, Figure | dict[str, Figure]]]:
        """Return the gates as plain data, for the stored decision and for screens."""
        return [
            {
                "gate": reading.gate.word,
                "open": reading.is_open,
                "opens_at_us": reading.opens_at_us,
                "figures": dict(reading.figures),
            }
            for reading in self.gates
        ]


def decide_supply(state: SupplyState, policy: SupplyPolicy, now_us: int) -> Decision:
    """Decide about an account whose balance has just changed, whichever way.

    Exhausted credit goes to `decide_disconnection`, and so does supply that a case of tampering withholds;
    anything else to `decide_connection`.
    """
    if state.is_exhausted or state.is_withheld:
        return decide_disconnection(state, policy, now_us)
    return decide_connection(state, policy)


def decide_disconnection(state: SupplyState, policy: SupplyPolicy, now_us: int) -> Decision:
    """Decide whether supply is cut now: CUT only when every gate is open, else HOLD or KEEP.

    When the newest reading is stale the decision is flagged ``would_have``, and the gates of time
    are read as of that reading: the question then is what would have been decided at the time.
    """
    would_have = state.reading_at_us is not None and _is_stale(state, policy, now_us)
    as_of_us = state.reading_at_us if would_have and state.reading_at_us is not None else now_us
    gates = tuple(
        _fresh(state, policy, now_us)
        if gate is Gate.READING_FRESH
        else look(state, policy, as_of_us)
        for gate, look in _GATES.items()
    )
    closed = [reading for reading in gates if not reading.is_open]
    outcome, reason, reconsider_at_us = Outcome.CUT, Reason.ALL_GATES_OPEN, None
    if state.is_withheld and not state.is_exhausted:
        reason = Reason.TAMPERING
    if not gates[0].is_open:
        outcome, reason = Outcome.KEEP, Reason.BALANCE_LEFT
    elif state.standing_order is OrderKind.DISCONNECT:
        outcome, reason = Outcome.KEEP, Reason.ORDER_STANDS
    elif state.relay is RelayState.OPEN and state.standing_order is None:
        outcome, reason = Outcome.KEEP, Reason.ALREADY_CUT
    elif closed:
        outcome, reason = Outcome.HOLD, Reason(10 + closed[0].gate)
        times = [reading.opens_at_us for reading in closed if reading.opens_at_us is not None]
        # Only a new reading can bring life into a would-have decision, no clock.
        reconsider_at_us = None if would_have else min(times, default=None)
    assert outcome is not Outcome.CUT or not closed, "supply is cut only through open gates"
    shortfall = connect_shortfall_micro(state, policy)
    return Decision(outcome, reason, gates, would_have, reconsider_at_us, shortfall)


def decide_connection(state: SupplyState, policy: SupplyPolicy) -> Decision:
    """Decide whether supply is connected now: at once when the balance allows, at any hour.

    No gate is asked, not even the age of the reading: whoever has paid is connected, and an order
    to an offline meter stands until it is back. An unknown relay is connected as well: the order
    then ends at its read-back.
    """
    shortfall = connect_shortfall_micro(state, policy)
    outcome, reason = Outcome.CONNECT, Reason.BALANCE_ALLOWS
    if state.standing_order is OrderKind.CONNECT and shortfall == 0:
        outcome, reason = Outcome.KEEP, Reason.ORDER_STANDS
    elif state.relay is RelayState.CLOSED and state.standing_order is not OrderKind.DISCONNECT:
        outcome, reason = Outcome.KEEP, Reason.ALREADY_CONNECTED
    elif shortfall > 0:
        outcome, reason = Outcome.STAY_CUT, Reason.BALANCE_BELOW_RECONNECT
    return Decision(outcome, reason, (), False, None, shortfall)


def decide_departed(
    state: SupplyState, wanted: RelayState, policy: SupplyPolicy, now_us: int
) -> Decision:
    """Decide about a relay that stands otherwise than was decided, whoever or whatever moved it.

    One that is closed and should be open is decided like any supply: it is cut again only through
    all gates. One that is open and should be closed is closed at once, whatever the balance, unless a
    cut is due by all gates anyway: nobody decided that these people should be in the dark.
    """
    if wanted is RelayState.OPEN:
        return decide_supply(state, policy, now_us)
    supplied = replace(state, relay=RelayState.CLOSED, standing_order=None)
    due = decide_supply(supplied, policy, now_us)
    if due.outcome is Outcome.CUT:
        return due
    return replace(due, outcome=Outcome.CONNECT, reason=Reason.RELAY_DEPARTED, would_have=False)


def decide_by_hand(state: SupplyState, wanted: RelayState, until_us: int) -> Decision:
    """Decide about a relay that people agreed to keep as it is wanted until an instant, against the rules.

    No gate is asked: people answer for it. At that instant it is decided by the rules again.
    """
    is_open = wanted is RelayState.OPEN
    kind = OrderKind.DISCONNECT if is_open else OrderKind.CONNECT
    outcome, reason = Outcome.CUT if is_open else Outcome.CONNECT, Reason.MANUAL
    if state.standing_order is kind:
        outcome, reason = Outcome.KEEP, Reason.ORDER_STANDS
    elif state.relay is wanted and state.standing_order is None:
        outcome = Outcome.KEEP
        reason = Reason.ALREADY_CUT if is_open else Reason.ALREADY_CONNECTED
    return Decision(outcome, reason, (), False, until_us)


def notice_ends_us(low_since_us: int, policy: SupplyPolicy) -> int:
    """Return before when no warning about a balance that is low since an instant lets a cut pass."""
    return low_since_us + min(policy.notice_s, policy.trying_s) * SECOND_US


def connect_shortfall_micro(state: SupplyState, policy: SupplyPolicy) -> int:
    """Return the least credit that would let supply be connected; 0 when it may be now."""
    least = connects_from_micro(state.emergency_credit_micro, policy)
    return max(least - state.available_micro, 0)


def connects_from_micro(emergency_credit_micro: int, policy: SupplyPolicy) -> int:
    """Return the least balance with which supply that was cut is connected."""
    line = 0 if policy.emergency_must_be_repaid else -emergency_credit_micro
    # At the line itself credit is exhausted, so at least one micro-unit above it is needed, or a
    # connected account would be cut again by the same balance.
    return line + max(policy.reconnect_min_micro, 1)


@dataclass(frozen=True, slots=True)
class BrakePolicy:
    """More than ``cuts_max`` cuts, or ``share_bp`` of the connected, within ``window_s``: stop."""

    window_s: int = 900
    cuts_max: int = 10
    share_bp: int = 1_000


@dataclass(frozen=True, slots=True)
class BrakeReading:
    """How many cuts the window holds, how many it may hold, and how many are left.

    The caller cuts at most ``room`` accounts now. When it has more than that, the brake goes on and
    stays on until two people release it.
    """

    cuts_in_window: int
    limit: int
    room: int


def decide_brake(
    recent_cuts_us: Sequence[int], connected_count: int, policy: BrakePolicy, now_us: int
) -> BrakeReading:
    """Return the room for cuts, from the ascending instants of the recent ones.

    ``connected_count`` counts the supplies of the property that were connected at the start of the
    window. The smaller of the two limits holds, and at least one cut is always allowed: in a house
    of five, a tenth is less than one and would otherwise stop every cut for ever.
    """
    limit = min(policy.cuts_max, max(connected_count * policy.share_bp // BP, 1))
    since_us = now_us - policy.window_s * SECOND_US
    cuts = len(recent_cuts_us) - bisect_right(recent_cuts_us, since_us)
    return BrakeReading(cuts, limit, max(limit - cuts, 0))


def _gate(
    gate: Gate, holds: bool, figures: Mapping[str, Figure], opens_at_us: int | None = None
) -> GateReading:
    if holds:
        return GateReading(gate, GateResult.OPEN, figures)
    return GateReading(gate, GateResult.CLOSED, figures, opens_at_us)


def _exhausted(state: SupplyState, policy: SupplyPolicy, now_us: int) -> GateReading:
    figures: dict[str, Figure] = {
        "available_micro": state.available_micro,
        "emergency_credit_micro": state.emergency_credit_micro,
    }
    if state.is_withheld:
        figures["is_withheld"] = True
    return _gate(Gate.BALANCE_EXHAUSTED, state.is_exhausted or state.is_withheld, figures)


def _is_stale(state: SupplyState, policy: SupplyPolicy, now_us: int) -> bool:
    at_us = state.reading_at_us
    too_old = at_us is None or now_us - at_us > policy.freshness_s * SECOND_US
    return too_old or not state.reading_is_live


def _fresh(state: SupplyState, policy: SupplyPolicy, now_us: int) -> GateReading:
    at_us = state.reading_at_us
    figures: dict[str, Figure] = {
        "reading_at_us": at_us,
        "age_s": None if at_us is None else (now_us - at_us) // SECOND_US,
        "freshness_s": policy.freshness_s,
        "is_live": state.reading_is_live,
    }
    if at_us is None or _is_stale(state, policy, now_us):
        return _gate(Gate.READING_FRESH, False, figures)
    # A reading from the future proves a wrong clock, not a fresh reading, until its time has come.
    opens_at_us = at_us - policy.clock_skew_s * SECOND_US
    return _gate(Gate.READING_FRESH, now_us >= opens_at_us, figures, opens_at_us)


def _warned(state: SupplyState, policy: SupplyPolicy, now_us: int) -> GateReading:
    known = state.warnings
    figures: dict[str, Figure] = {
        "delivered_at_us": known.delivered_at_us,
        "notice_s": policy.notice_s,
        "tried_since_us": known.tried_since_us,
        "trying_s": policy.trying_s,
        "channels": known.channels,
        "channels_tried": known.channels_tried,
    }
    opens: list[int] = []
    if known.delivered_at_us is not None:
        opens.append(known.delivered_at_us + policy.notice_s * SECOND_US)
    # Nobody to write to is not the same as having tried everything: with no channel at all the
    # gate stays closed until someone enters one.
    if known.tried_since_us is not None and 0 < known.channels <= known.channels_tried:
        opens.append(known.tried_since_us + policy.trying_s * SECOND_US)
    opens_at_us = min(opens, default=None)
    holds = opens_at_us is not None and now_us >= opens_at_us
    return _gate(Gate.WARNING_DELIVERED, holds, figures, opens_at_us)


def _in_window(state: SupplyState, policy: SupplyPolicy, now_us: int) -> GateReading:
    window = policy.window
    figures: dict[str, Figure] = {
        "opens_min": window.opens_min,
        "closes_min": window.closes_min,
        "rest_lead_min": window.rest_lead_min,
        "time_zone": window.calendar.time_zone,
    }
    holds = is_open(window, now_us)
    return _gate(Gate.WINDOW_OPEN, holds, figures, next_open_at_us(window, now_us))


def _not_protected(state: SupplyState, policy: SupplyPolicy, now_us: int) -> GateReading:
    figures: dict[str, Figure] = {"protection": state.protection.word}
    return _gate(Gate.NOT_PROTECTED, state.protection is Protection.NONE, figures)


def _no_payment(state: SupplyState, policy: SupplyPolicy, now_us: int) -> GateReading:
    until_us = state.payment_hold_until_us
    figures: dict[str, Figure] = {"payment_hold_until_us": until_us}
    return _gate(
        Gate.NO_PAYMENT_IN_FLIGHT, until_us is None or now_us >= until_us, figures, until_us
    )


def _brake_off(state: SupplyState, policy: SupplyPolicy, now_us: int) -> GateReading:
    figures: dict[str, Figure] = {"on": state.brake.on, "room": state.brake.room}
    return _gate(Gate.BRAKE_OFF, not state.brake.on and state.brake.room > 0, figures)


_GATES: Final[dict[Gate, Callable[[SupplyState, SupplyPolicy, int], GateReading]]] = {
    Gate.BALANCE_EXHAUSTED: _exhausted,
    Gate.READING_FRESH: _fresh,
    Gate.WARNING_DELIVERED: _warned,
    Gate.WINDOW_OPEN: _in_window,
    Gate.NOT_PROTECTED: _not_protected,
    Gate.NO_PAYMENT_IN_FLIGHT: _no_payment,
    Gate.BRAKE_OFF: _brake_off,
}
