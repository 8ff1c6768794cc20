"""Signed instructions on the wire: orders to meters that verify, and their signed answers back into the orders.

A part of the command desk's turn (`commands.py`), for the meters that have a key. What a meter is told is signed and
committed before it leaves, and an answer counts only if this meter signed it to a command that it was sent. One that is
not believed changes nothing, not even what is known of the relay: it is counted with a sample, and raises
`meter.forged` once.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import compress
from operator import not_
from typing import Final, Protocol

from prewatt.core.civil_time import utc_datetime
from prewatt.core.instructions import Answer, Operation, Result, Worth
from prewatt.core.short_instructions import FORGERIES_MAX
from prewatt.core.vocabulary import OrderKind, RelayState
from prewatt.hes.failures import AWAY
from prewatt.hes.frames import MalformedSample, SealedFrame
from prewatt.hes.links import Device, Sighting, drift_s, record_sightings, relay_instant_us
from prewatt.instructions.operations import Outcome, Outgoing, Told, Wanted
from prewatt.instructions.turns import Turn
from prewatt.runtime.bells import ring
from prewatt.signing.keyring import NoSigningKey
from prewatt.supply.queries import DueOrder

log = logging.getLogger(__name__)

REPEATED_ANSWER: Final = "repeated_answer"
"""`rejected_frame.reason` of a signed answer whose command has its answer already."""
UNSIGNED_ANSWER: Final = "unsigned_answer"
"""`rejected_frame.reason` of an answer without a signature, of a meter that signs."""
SESSION: Final = "session"
"""`Forgery.what` of a session of the short form that ended, since too much was refused in it."""
_FORGED: Final = "forged_{}"
_WANTED: Final = {
    OrderKind.CONNECT: RelayState.CLOSED,
    OrderKind.DISCONNECT: RelayState.OPEN,
}
_AGAIN_PER_TURN: Final = 500
#: Bells may be missed; all wallets are looked at so often.
_LOOK_AT_WALLETS: Final = timedelta(minutes=1)
#: What has grown old or waited too long is looked for so often.
_LOOK_AT_AGE: Final = timedelta(seconds=1)
#: Open pages are told of what answers changed so often at most.
RING_EVERY: Final = timedelta(milliseconds=250)
_SEEN_AGAIN: Final = timedelta(minutes=1)
_SEEN_MAX: Final = 100_000
#: Answers by which the meter only says that it stands elsewhere than was thought: what it was told goes out anew.
_ELSEWHERE: Final = frozenset({Result.STALE, Result.BROKEN_CHAIN})


class Instructions(Protocol):
    """What is needed of the instruction book. Each call is one transaction."""

    def signing(self, meter_ids: Sequence[int]) -> frozenset[int]:
        """Those of the meters that are instructed by signature."""

    def issue(self, wanted: Sequence[Wanted], *, now: datetime) -> list[Outgoing]:
        """Sign and write down; returns what may leave. Raises NoSigningKey."""

    def not_taken(self, outgoing: Sequence[Outgoing]) -> None:
        """No broker took these."""

    def due(self, *, now: datetime, limit: int) -> list[Outgoing]:
        """What no order drives, to be sent in the same bytes again."""

    def expire(self, *, now: datetime) -> list[int]:
        """End what is past its time."""

    def take(self, told: Sequence[Told], *, now: datetime) -> list[Outcome]:
        """Write down what of these answers counts."""


class ShortInstructions(Protocol):
    """What is needed of the book of the short form; the rest of its instructions is in that of all."""

    def signing(self, meter_ids: Sequence[int]) -> frozenset[int]:
        """Those of the meters that are instructed by the short form alone."""

    def issue(self, wanted: Sequence[Wanted], *, now: datetime) -> list[Outgoing]:
        """Seal and write down; returns what may leave. Raises NoSigningKey."""

    def unread(self, *, now: datetime) -> list[Wanted]:
        """Meters to be asked how they stand: a session is new, or an answer is missing."""

    def take(self, told: Sequence[Told], *, now: datetime) -> list[Outcome]:
        """Write down what of these answers counts. Raises NoSigningKey."""


class Turns(Protocol):
    """What is needed of both at once, in one transaction."""

    def turn(self, told: Sequence[Told], *, now: datetime, is_paid: bool) -> Turn:
        """Take answers, and if anything may have been paid, issue what is due of it. Raises NoSigningKey."""


class Wallets(Protocol):
    """What is needed of the meters that hold credit themselves. Each call is one transaction."""

    def places(self) -> frozenset[int]:
        """The properties where any does."""

    def due(self, *, property_ids: Sequence[int] | None, now: datetime) -> list[Wanted]:
        """What meters of these properties (None: of all) are to be told of the money that moved."""

    def silent(self, *, now: datetime) -> list[Wanted]:
        """Meters to be asked how they stand."""


class Wishes(Protocol):
    """What is needed of what meters are to become."""

    def due(self, *, now: datetime) -> list[Wanted]:
        """What they are to be told of keys and limits. Raises NoSigningKey."""


class Clocks(Protocol):
    """What is needed of the requests to move clocks."""

    def moved(self, meter_id: int, result: Result, *, now: datetime) -> None:
        """A meter has answered by its signature whether it moved its clock."""


class Carrier(Protocol):
    """What is needed of the sessions."""

    def carries_instructions(self, serial: str) -> bool:
        """Whether the meter is reached by a driver that carries signed instructions."""

    def carries_short(self, serial: str) -> bool:
        """Whether it is reached by one that carries the short form of them alone."""

    def send_instruction(self, serial: str, payload: bytes) -> bool:
        """Send; False when it was not taken."""


@dataclass(frozen=True, slots=True)
class Forgery:
    """Something that nobody who is trusted can have said: an answer, or what a meter was sent; or that a session ended by it."""

    what: str
    why: str
    count: int
    received_at_us: int


@dataclass(frozen=True, slots=True)
class Counted:
    """A signed answer that counts for an order, and when the relay was as it says."""

    order_id: int
    device: Device
    answer: Answer
    seen_at: datetime
    drift_s: int


@dataclass(slots=True)
class Sealed:
    """What became of a set of signed answers."""

    counted: list[Counted] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    samples: list[MalformedSample] = field(default_factory=list)
    #: Meters that have said how they stand: what they are to be told goes out anew, at once.
    woken: set[int] = field(default_factory=set)


class InstructionDesk:
    """The turn's work for meters that sign. Not thread-safe: the command thread owns it."""

    def __init__(
        self,
        *,
        book: Instructions,
        carrier: Carrier,
        raise_alert: Callable[[Device, Forgery, datetime], None],
        wallets: Wallets | None = None,
        turns: Turns | None = None,
        short: ShortInstructions | None = None,
        wishes: Wishes | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self._book = book
        self._short = short
        self._clocks = clocks
        self._wishes = wishes
        self._wished_at: datetime | None = None
        self._wallets = wallets
        self._turns = turns
        self._places: frozenset[int] = frozenset()
        self._is_paid = False
        # Where money may have moved, of which payments do not tell all: looked at once a second.
        self._moved: set[int] = set()
        self._looked_at: datetime | None = None
        self._aged_at: datetime | None = None
        self._read_at: datetime | None = None
        self._sightings: list[Sighting] = []
        self._rung_at: datetime | None = None
        self._to_ring: set[int] = set()
        # What was written of each meter's relay last, and when: an answer that says the same is no news.
        self._seen: OrderedDict[int, tuple[RelayState, datetime]] = OrderedDict()
        self._carrier = carrier
        self._raise_alert = raise_alert

    def signing(self, meters: Mapping[int, str]) -> frozenset[int]:
        """Those of the meters (by their serials) that are told nothing of weight without a signature."""
        carries = self._carrier.carries_instructions
        found = self._book.signing([meter for meter, serial in meters.items() if carries(serial)])
        if self._short is not None:
            carries = self._carrier.carries_short
            found |= self._short.signing([each for each in meters if carries(meters[each])])
        return found

    def turn(self, now: datetime) -> None:
        """End what has grown old, say again what has waited for its answer, and tell meters of what was paid."""
        is_time = self._aged_at is None or abs(now - self._aged_at) >= _LOOK_AT_AGE
        if is_time:
            self._aged_at = now
            self._book.expire(now=now)
            self._send(self._book.due(now=now, limit=_AGAIN_PER_TURN))
            sightings, self._sightings = self._sightings, []
            record_sightings(sightings)
            self._look_at_wishes(now)
        self._read_unread(now)
        if self._wallets is not None:
            self._look_at_wallets(self._wallets, now, is_time=is_time)
        if self._is_paid:
            self._exchange([], now)
        self._ring(now)

    def _look_at_wishes(self, now: datetime) -> None:
        """Tell meters of keys and limits: once a second while there is anything to tell, else once a minute."""
        if self._wishes is None:
            return
        if self._wished_at is not None and abs(now - self._wished_at) < _LOOK_AT_WALLETS:
            return
        try:
            wanted = self._wishes.due(now=now)
        except NoSigningKey:
            wanted = []  # said where anything is wanted that is not done without
        self._wished_at = None if wanted else now
        self.tell(wanted, now)

    def _read_unread(self, now: datetime) -> None:
        """Ask meters with a session that owe their word, so that whoever fits one sees at once that it has it."""
        is_time = self._read_at is None or abs(now - self._read_at) >= _LOOK_AT_WALLETS
        if self._short is not None and is_time:
            self._read_at = now
            unread = [each for each in self._short.unread(now=now) if self._is_short(each.serial)]
            self._tell(unread, self._short, now)

    def _look_at_wallets(self, wallets: Wallets, now: datetime, *, is_time: bool) -> None:
        if self._looked_at is None or abs(now - self._looked_at) >= _LOOK_AT_WALLETS:
            self._looked_at = now
            self._places = wallets.places()
            self._moved = set()
            if self._places:
                self.tell(wallets.silent(now=now), now)
                self.tell(wallets.due(property_ids=None, now=now), now)
        elif self._moved and (is_time or self._turns is None):
            moved, self._moved = sorted(self._moved), set()
            self.tell(wallets.due(property_ids=moved, now=now), now)

    @property
    def has_bells(self) -> bool:
        """Whether there are bells that wait to be rung."""
        return bool(self._to_ring)

    def _ring(self, now: datetime) -> None:
        """Tell the pages, at most so often: a bell is a transaction, and whoever hears it looks at all of a property."""
        if self._to_ring and (self._rung_at is None or abs(now - self._rung_at) >= RING_EVERY):
            places, self._to_ring, self._rung_at = self._to_ring, set(), now
            ring("changed", places)

    def _exchange(self, told: Sequence[Told], now: datetime) -> list[Outcome]:
        """Take these answers, and where anything was paid instruct the meters of it in the same transaction.

        Where that fails, the answers are taken alone, and the wallets wait for the next look at all of them.
        """
        # Of a meter that has answered there may be more to tell.
        is_paid, self._is_paid = bool(self._is_paid or (told and self._places)), False
        if self._turns is not None:
            try:
                turn = self._turns.turn(told, now=now, is_paid=is_paid)
            except AWAY:
                self._is_paid = is_paid
                raise
            except NoSigningKey as error:
                log.error("meters that verify cannot be told of their credit: %s", error)
            except Exception:
                log.exception("a turn of %d answers failed as a whole", len(told))
            else:
                self._to_ring |= turn.places
                self._is_paid = turn.has_more
                self._send(turn.outgoing)
                return turn.outcomes
        return self._book.take(told, now=now)

    def money_moved(self, property_id: int) -> bool:
        """Something changed at a property, money perhaps; returns whether that is of interest here."""
        if property_id in self._places:
            self._moved.add(property_id)
            self._is_paid = self._turns is not None
        return property_id in self._places

    def send(self, orders: Sequence[DueOrder], now: datetime) -> frozenset[int]:
        """Instruct the meters that sign; returns the orders that are taken care of."""
        signing = self.signing({each.meter_id: each.serial for each in orders})
        own = [each for each in orders if each.meter_id in signing]
        if own:
            self.tell([_wanted(each) for each in own], now)
        return frozenset(each.order_id for each in own)

    def tell(self, wanted: Sequence[Wanted], now: datetime) -> None:
        """Sign, commit, send. Without a key nothing is sent: such a meter would not do it unsigned."""
        by_short = [self._is_short(each.serial) for each in wanted]
        self._tell([*compress(wanted, by_short)], self._short, now)
        self._tell([*compress(wanted, map(not_, by_short))], self._book, now)

    def _tell(
        self, wanted: Sequence[Wanted], book: Instructions | ShortInstructions | None, now: datetime
    ) -> None:
        if not wanted or book is None:
            return
        try:
            outgoing = book.issue(wanted, now=now)
        except NoSigningKey as error:
            log.error("%d meters that verify cannot be instructed: %s", len(wanted), error)
            return
        self._send(outgoing)

    def _is_short(self, serial: str) -> bool:
        return self._short is not None and self._carrier.carries_short(serial)

    def store(
        self, frames: Sequence[SealedFrame], devices: Mapping[str, Device], now: datetime
    ) -> Sealed:
        """Write down what of these answers counts, and call somebody about what cannot be true."""
        found = Sealed()
        if not frames:
            return found
        told = [
            Told(
                *devices[each.serial], each.serial, each.payload, utc_datetime(each.received_at_us)
            )
            for each in frames
        ]
        forged: dict[Device, Forgery] = {}
        ended: dict[Device, Forgery] = {}
        for frame, outcome in zip(frames, self._outcomes(told, now), strict=True):
            device = devices[frame.serial]
            self._sort(frame, device, outcome, found, forged)
            if outcome.has_ended:
                ended[device] = Forgery(SESSION, "ended", FORGERIES_MAX, frame.received_at_us)
        for device, forgery in (*forged.items(), *ended.items()):
            self._raise_alert(device, forgery, now)
        return found

    def _outcomes(self, told: Sequence[Told], now: datetime) -> list[Outcome]:
        """What became of each, in order; those of either form in a transaction of their own."""
        by_short = [self._is_short(each.serial) for each in told]
        if self._short is None or not any(by_short):
            return self._exchange(told, now)
        short = iter(self._short.take([*compress(told, by_short)], now=now))
        rest = [*compress(told, map(not_, by_short))]
        others = iter(self._exchange(rest, now) if rest else ())
        return [next(short if is_short else others) for is_short in by_short]

    def _sort(
        self,
        frame: SealedFrame,
        device: Device,
        outcome: Outcome,
        found: Sealed,
        forged: dict[Device, Forgery],
    ) -> None:
        answer = outcome.answer
        if outcome.worth is not Worth.COUNTS or answer is None:
            reason = REPEATED_ANSWER
            if outcome.worth is not Worth.REPEATED:
                why = _why(outcome)
                reason = _FORGED.format(why)
                forged.setdefault(device, Forgery("answer", why, 1, frame.received_at_us))
            found.samples.append(_sample(frame, reason))
            return
        if outcome.forged:
            forged[device] = Forgery(
                "command", "refused_by_meter", outcome.forged, frame.received_at_us
            )
        if outcome.operation is Operation.CLOCK and self._clocks is not None:
            received_at = utc_datetime(frame.received_at_us)
            self._clocks.moved(device.meter_id, answer.result, now=received_at)
        if outcome.is_led_astray:
            forged[device] = Forgery("keys", "foreign_key", 1, frame.received_at_us)
        counted = _counted(frame, device, outcome.order_id, answer)
        news = self._news(device, answer, counted.seen_at)
        if outcome.order_id is not None or news is not None:
            # That a meter lives can wait a second, what its relay is cannot.
            is_urgent = outcome.order_id is not None or news
            (found.sightings if is_urgent else self._sightings).append(
                Sighting(
                    device,
                    utc_datetime(frame.received_at_us),
                    answer.relay,
                    counted.drift_s,
                    relay_at=counted.seen_at,
                )
            )
        if outcome.operation is Operation.CREDIT and self._turns is None:
            # More may have been paid meanwhile.
            self.money_moved(device.property_id)
        if outcome.operation is Operation.READ or answer.result in _ELSEWHERE:
            found.woken.add(device.meter_id)
            if device.property_id in self._places:
                # Of its credit, too, and of the end of that.
                self._moved.add(device.property_id)
        if outcome.order_id is not None and answer.result not in _ELSEWHERE:
            found.counted.append(counted)

    def _news(self, device: Device, answer: Answer, seen_at: datetime) -> bool | None:
        """Whether the relay is another than was written last; None where that is a moment ago and the same."""
        before = self._seen.get(device.meter_id)
        is_same = before is not None and before[0] is answer.relay
        if before is not None and is_same and seen_at - before[1] < _SEEN_AGAIN:
            return None
        self._seen[device.meter_id] = (answer.relay, seen_at)
        self._seen.move_to_end(device.meter_id)
        if len(self._seen) > _SEEN_MAX:
            self._seen.popitem(last=False)
        return not is_same

    def _send(self, outgoing: Sequence[Outgoing]) -> None:
        refused = [
            each
            for each in outgoing
            if not self._carrier.send_instruction(each.serial, each.payload)
        ]
        if refused:
            self._book.not_taken(refused)


def _wanted(order: DueOrder) -> Wanted:
    return Wanted(
        meter_id=order.meter_id,
        property_id=order.property_id,
        serial=order.serial,
        operation=Operation.RELAY,
        argument=int(_WANTED[order.kind]),
        order_id=order.order_id,
        expires_at=order.expires_at,
    )


def _why(outcome: Outcome) -> str:
    if outcome.doubt is not None:
        return str(outcome.doubt)
    return "foreign" if outcome.worth is Worth.FOREIGN else "contradicts"


def _counted(frame: SealedFrame, device: Device, order_id: int | None, answer: Answer) -> Counted:
    """By the meter's clock, where that can be believed; else by the receipt."""
    told_us = relay_instant_us(answer.at_us, frame.received_at_us)
    seen_at = utc_datetime(frame.received_at_us if told_us is None else told_us)
    return Counted(
        order_id or 0, device, answer, seen_at, drift_s(answer.at_us, frame.received_at_us)
    )


def _sample(frame: SealedFrame, reason: str) -> MalformedSample:
    return MalformedSample(
        f"pw/{frame.serial}/up", frame.received_at_us, reason, reason, frame.payload[:512]
    )
