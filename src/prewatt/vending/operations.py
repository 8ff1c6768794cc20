"""Recharges: money in, once per idempotency key, with receipt, audit and supply in one commit.

A set goes to the database twice: once for everything that has to be known, under every lock, and
once with everything that is written, together with the commit. Between the two each wish is decided.
Those of a set about which there is nothing to decide can be sold before, in one statement.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, MutableMapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from json.encoder import encode_basestring_ascii

from django.db import DatabaseError, connection

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, require, scope, together
from prewatt.audit.context import SEVERAL, Origin, coming_from
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.money import MICRO
from prewatt.core.rating import Component
from prewatt.ledger.operations import Event, Leg, append_events
from prewatt.runtime.prepared import pipelined
from prewatt.supply.operations import decide_after_credit
from prewatt.supply.queries import rearming
from prewatt.telemetry.metrics import RECHARGES
from prewatt.vending import sets
from prewatt.vending.deductions import Deductions, plan_deductions
from prewatt.vending.sets import Booked, Columns, Plain, Seen
from prewatt.vending.words import Answer, Ask, Recharge, Recharged, RechargeRefused

__all__ = [
    "Answer",
    "Ask",
    "Recharge",
    "RechargeRefused",
    "Recharged",
    "recharge",
    "recharge_at_once",
    "recharge_together",
]

#: No single recharge is larger than this: a slip of the finger, not a sale.
LIMIT_MICRO = 100_000 * MICRO

#: A payment may be dated this far ahead of our clock and no farther.
CLOCK_TOLERANCE = timedelta(minutes=2)

#: As long as ``payment.reference``.
REFERENCE_MAX = 80

_WAYS = frozenset({"cash", "online", "transfer"})
_COUNTER = {"cash": CounterAccount.CASH}


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
    asks = [Ask(actor, wish) for wish in recharges]
    return [
        answer
        for answer in recharge_together(asks=asks, now=now, announce=announce)
        if answer is not None
    ]


#: What makes recharges plain at properties, as it was seen by `recharge_together`.
Known = MutableMapping[int, Plain]


def recharge_at_once(*, asks: Sequence[Ask], now: datetime, known: Known) -> list[Answer | None]:
    """Recharge whoever there is nothing to decide about, in one statement that commits itself.

    What it does is what `recharge_together` does of the same wish. None answers all others: nothing
    was done about them, and `recharge_together` answers. ``known`` is of this one database; what is
    at no property in it needs deciding. Raises PermissionRefused, also for actors of different duties.
    """
    _require(asks)
    answers: list[Answer | None] = [_malformed(ask.wish, now) for ask in asks]
    plain = _each_alone([at for at, answer in enumerate(answers) if answer is None], asks)
    if plain and known:
        own = [asks[at] for at in plain]
        hashes = [body_hash(ask.wish) for ask in own]
        accepted_at = now.isoformat()
        for sold in sets.sell(own, hashes, now=now, known=known):
            wish = own[sold.place].wish
            answers[plain[sold.place]] = Recharged(
                wish.key, wish.account_id, sold.event_id, wish.amount, sold.receipt_number,
                sold.available_after, accepted_at,
            )  # fmt: skip
    _count(answers)
    return answers


def _each_alone(places: Sequence[int], asks: Sequence[Ask]) -> list[int]:
    """The places of wishes that share neither account nor key with one before them."""
    accounts: set[int] = set()
    names: set[_Name] = set()
    alone = []
    for at in places:
        account_id, name = asks[at].wish.account_id, _name(asks[at])
        if account_id not in accounts and name not in names:
            alone.append(at)
        accounts.add(account_id)
        names.add(name)
    return alone


def _require(asks: Sequence[Ask]) -> None:
    for actor in {ask.actor for ask in asks}:
        require(actor, "vending.recharge")


def _count(answers: Sequence[Answer | None]) -> None:
    for result, number in Counter(map(_result, answers)).items():
        if result is not None:
            RECHARGES.labels(result).inc(number)


def recharge_together(
    *,
    asks: Sequence[Ask],
    now: datetime,
    announce: bool = True,
    waits: bool = True,
    known: Known | None = None,
) -> list[Answer | None]:
    """Recharge for several actors of one duty in one transaction; as `recharge` for each of them.

    What each may see and recharge is their own properties, whoever else is in the set. None answers
    a wish whose account or key somebody else holds at this moment, if we do not wait: nothing was
    done about it. What makes recharges plain at their properties is set down in ``known``.
    Raises PermissionRefused, also for actors of different duties.
    """
    _require(asks)
    sound = [ask for ask in asks if _malformed(ask.wish, now) is None]
    taken: frozenset[_Name] = frozenset()
    while True:
        one = _Set(sound, now, announce, taken, known)
        try:
            if sound:
                _sell(one, waits=waits)
        except _KeysTaken as found:
            # Undone and once more without them: a key is never free again, so this ends.
            taken |= found.names
        else:
            break
    rest = iter(one.in_order())
    answers = [_malformed(ask.wish, now) or next(rest) for ask in asks]
    _count(answers)
    return answers


def _result(answer: Answer | None) -> str | None:
    """What is counted of an answer; what was left for later is none."""
    if isinstance(answer, Recharged):
        return "repeated" if answer.repeated else "posted"
    return None if answer is None else "refused"


#: Caller and key: one such pair has one effect, for ever.
_Name = tuple[str, str]


class _KeysTaken(Exception):
    """Keys that their callers used at a property whose rows they cannot see; nothing stands."""

    def __init__(self, names: Iterable[_Name]) -> None:
        self.names = frozenset(names)
        super().__init__(f"{len(self.names)} keys are taken")


@dataclass(slots=True)
class _Set:
    """A set on its way: what was asked, what is answered by now, and which are repeats in the set."""

    asks: Sequence[Ask]
    now: datetime
    announce: bool
    taken: frozenset[_Name]
    known: Known | None
    answers: dict[int, Answer | None] = field(default_factory=dict)
    same_as: dict[int, int] = field(default_factory=dict)

    def in_order(self) -> list[Answer | None]:
        """The answers in the order asked; a repeat within the set gets what the first one got."""
        for at, first in self.same_as.items():
            answer = self.answers[first]
            if isinstance(answer, Recharged):
                answer = replace(answer, repeated=True)
            self.answers[at] = answer
        return [self.answers[at] for at in range(len(self.asks))]


def _sell(one: _Set, *, waits: bool) -> None:
    """One transaction: look, decide, book. What is written last goes out together with the commit."""
    rows = Columns()
    booked: Booked | None = None
    plain: dict[int, Plain] = {}
    is_outermost = not connection.in_atomic_block
    try:
        with ExitStack() as line:
            line.enter_context(pipelined())
            line.enter_context(coming_from(_origin_of(one.asks)))
            with scope(together(ask.actor for ask in one.asks)):
                seen = sets.look(one.asks, now=one.now, waits=waits)
                line.close()
                _decide(one, seen, rows)
                if rows.at:
                    plan = _plan_deductions(
                        rows, one.now, is_first_deed=is_outermost, announce=one.announce
                    )
                    if one.known is not None and plan.dues.is_silent:
                        plain = _plain(rows, one.now)
                    _reconsider_supply(rows, one.now)
                    if is_outermost:
                        line.enter_context(pipelined())
                    booked = sets.book(
                        rows, now=one.now, is_appended=plan.takes_something, announce=one.announce
                    )
    except DatabaseError as error:
        places = sets.taken_keys(error)
        if places is None:
            raise
        raise _KeysTaken(_name(rows.asks[place]) for place in places) from error
    if one.known is not None:
        one.known.update(plain)
    if booked is not None:
        one.answers.update(zip(rows.at, _answers(rows, booked, one.now), strict=True))


def _origin_of(asks: Sequence[Ask]) -> Origin:
    """Where the transaction of a set comes from: of several requests, each recharge says its own."""
    first, *others = {ask.origin for ask in asks}
    return SEVERAL if others else first


def _plain(rows: Columns, now: datetime) -> dict[int, Plain]:
    epochs = rows.tariff_epochs()
    return {
        place: Plain(epochs[place], levels)
        for place, levels in rearming(sorted(epochs), now).items()
    }


def _name(ask: Ask) -> _Name:
    return ask.actor.code, ask.wish.key


def _decide(one: _Set, seen: Sequence[Seen], rows: Columns) -> None:
    """Answer what can be answered from what is known, and gather the rest to be booked."""
    first_at: dict[_Name, int] = {}
    for at, (ask, known) in enumerate(zip(one.asks, seen, strict=True)):
        name = _name(ask)
        if known.busy:
            one.answers[at] = None
        elif known.body_hash is not None:
            one.answers[at] = _repeat(ask.wish, known)
        elif name in first_at:
            first = first_at[name]
            if known.property_id is None or body_hash(ask.wish) != body_hash(one.asks[first].wish):
                one.answers[at] = _key_reused(ask.wish)
            else:
                one.same_as[at] = first
        elif (refused := _refused_there(ask, known, one.taken)) is not None:
            one.answers[at] = refused
        else:
            first_at[name] = at
            rows.add(at, ask, known, body_hash(ask.wish))


def _refused_there(ask: Ask, known: Seen, taken: frozenset[_Name]) -> RechargeRefused | None:
    """What can be refused by looking at the account and at the keys out of sight."""
    wish = ask.wish
    if known.property_id is None:
        return RechargeRefused(
            wish.key,
            "vending.recharge.unknown_account",
            f"There is no account {wish.account_id} you may recharge. Nothing was taken.",
        )
    # The database has looked already; money is worth looking twice.
    mine = ask.actor.duty is Duty.SYSTEM or known.property_id in ask.actor.property_ids
    assert mine, "an account out of scope was seen"
    if known.closed_until is not None:
        return RechargeRefused(
            wish.key,
            "vending.recharge.period_closed",
            f"The books are open from {known.closed_until:%Y-%m-%d} on and this recharge would lie "
            "before. Sell it from that day on. Nothing was taken.",
        )
    return _key_reused(wish) if _name(ask) in taken else None


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
    elif wish.way not in _WAYS:
        problem = ("way_unknown", f"There is no way of paying called {wish.way!r}.")
    elif wish.paid_at > now + CLOCK_TOLERANCE:
        problem = ("paid_in_the_future", "The time of payment lies in the future.")
    if problem is None:
        return None
    return RechargeRefused(
        wish.key, f"vending.recharge.{problem[0]}", f"{problem[1]} Nothing was taken."
    )


def body_hash(wish: Recharge) -> bytes:
    """SHA-256 of what the caller asked for, without the key, as JSON with sorted names."""
    reference, way = encode_basestring_ascii(wish.reference), encode_basestring_ascii(wish.way)
    body = (
        f'{{"account": {wish.account_id}, "amount": {wish.amount}, '
        f'"ref": {reference}, "way": {way}}}'
    )
    return hashlib.sha256(body.encode()).digest()


def _repeat(wish: Recharge, known: Seen) -> Answer:
    if known.body_hash != body_hash(wish) or known.answer is None:
        return _key_reused(wish)
    return Recharged(**(json.loads(known.answer) | {"repeated": True}))


def _key_reused(wish: Recharge) -> RechargeRefused:
    return RechargeRefused(
        wish.key,
        "vending.recharge.key_reused",
        "This key already stands for another recharge. Use a new key. Nothing was taken.",
    )


def _plan_deductions(
    rows: Columns, now: datetime, *, is_first_deed: bool, announce: bool
) -> Deductions:
    """What charges and debts take of each recharge; where they take anything, it is booked here.

    An epoch that the transaction itself may have begun can still vanish: nobody may remember it.
    """
    plan = plan_deductions(
        recharges=[(ask.wish.account_id, ask.wish.amount) for ask in rows.asks],
        now=now,
        owing=[
            ask.wish.account_id
            for ask, known in zip(rows.asks, rows.seen, strict=True)
            if known.owes
        ],
        epochs=rows.tariff_epochs() if is_first_deed else None,
    )
    rows.take(plan)
    if plan.takes_something:
        sets.pay(rows, now=now)
        events = zip(rows.asks, rows.seen, plan.each, strict=True)
        for code, own in groupby(events, key=lambda each: each[0].actor.code):
            append_events(
                actor_code=code,
                events=[
                    Event(known.event_id, (_leg(ask.wish, now), *less.legs))
                    for ask, known, less in own
                ],
                now=now,
            )
        plan.keep(now, announce=announce)
    return plan


def _leg(wish: Recharge, now: datetime) -> Leg:
    """Money counts from when we took it: a payment dated earlier is served from now on.

    ``book_recharges`` writes the same where nothing is taken of any recharge of the set.
    """
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


def _reconsider_supply(rows: Columns, now: datetime) -> None:
    """Decide the supply of accounts for which credit changes something of it."""
    after = {
        ask.wish.account_id: left
        for ask, known, left in zip(rows.asks, rows.seen, rows.available_after, strict=True)
        if not known.calm
    }
    if after:
        decide_after_credit(available_micro=after, now=now)


def _answers(rows: Columns, booked: Booked, now: datetime) -> list[Answer]:
    accepted_at = now.isoformat()
    return [
        Recharged(
            ask.wish.key, ask.wish.account_id, known.event_id, ask.wish.amount, number, left,
            accepted_at, collected=collected, debt=debt,
        )
        for ask, known, number, left, collected, debt in zip(
            rows.asks, rows.seen, booked.receipt_numbers(), rows.available_after, rows.collected,
            rows.debts, strict=True,
        )
    ]  # fmt: skip
