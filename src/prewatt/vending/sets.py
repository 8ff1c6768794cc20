"""The two statements of a set of recharges (``sql/0003_sets.sql``): what is known, what is written.

Columns go in and out; what a row means is decided in ``operations``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final, NamedTuple

import psycopg
from django.db import DatabaseError

from prewatt.access.models import Duty
from prewatt.access.scope import ENTERED, Actor, entered_by, together
from prewatt.core.forecast import HORIZON_DAYS
from prewatt.runtime.prepared import execute, fetch, integers, moments, texts
from prewatt.supply.queries import Rearming
from prewatt.vending.deductions import Deductions
from prewatt.vending.words import Ask

_KEYS_TAKEN: Final = "PW004"


def taken_keys(error: DatabaseError) -> list[int] | None:
    """The places of keys that were taken, if that is why a set could not be booked.

    Their callers used them at a property that they cannot see now, so no look could find them.
    """
    cause = error.__cause__
    if not isinstance(cause, psycopg.Error) or cause.sqlstate != _KEYS_TAKEN:
        return None
    return [int(place) for place in (cause.diag.message_detail or "").split(",")]


class Seen(NamedTuple):
    """What is known of one wish, all of it under the locks of its key, account and period.

    ``busy`` says that somebody else has one of them, and then nothing else counts. Without a
    ``property_id`` there is no open account in the scope of who asked. ``calm``: credit changes
    nothing of its supply, which ``has_supply`` says is there at all. ``owes``: it has an open debt.
    Money in micro-units.
    """

    busy: bool
    property_id: int | None
    legal_entity_id: int | None
    closed_until: date | None
    body_hash: bytes | None
    answer: str | None
    available: int
    spend_per_day: int
    has_supply: bool
    calm: bool
    owes: bool
    event_id: int
    tariff_epoch: int


_LOOK: Final = """SELECT * FROM look_at_recharges(%s::text[], %s::text[], %s::bigint[], %s::text[],
    %s::timestamptz, %s::boolean)"""


def look(asks: Sequence[Ask], *, now: datetime, waits: bool) -> list[Seen]:
    """What is known of each; where we do not wait, what somebody else holds is busy."""
    return [
        Seen(*row)
        for row in fetch(
            _LOOK,
            [
                texts([ask.actor.code for ask in asks]),
                texts([ask.wish.key for ask in asks]),
                integers([ask.wish.account_id for ask in asks]),
                texts([_scope_of(ask.actor) for ask in asks]),
                now,
                waits,
            ],
            prepare=True,
        )
    ]


def _scope_of(actor: Actor) -> str | None:
    """The properties that a person may see; a process is limited by its login alone."""
    return None if actor.duty is Duty.SYSTEM else integers(actor.property_ids)


class Sold(NamedTuple):
    """A recharge that was sold at once; ``place`` is where it stood in the set, counted from zero."""

    place: int
    event_id: int
    receipt_number: int
    available_after: int


_SELL: Final = f"""SELECT sold.* FROM {ENTERED}, LATERAL sell_recharges(
    CASE WHEN entered.properties IS NOT NULL THEN %s::timestamptz END, %s::text, %s::text[], %s::text[],
    %s::bytea[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::timestamptz[], %s::text[],
    %s::bigint, %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
    %s::bigint[]) AS sold"""  # noqa: S608 - constants of our own


class Plain(NamedTuple):
    """Why there is little to decide at a property: no tariff has a say in recharges as long as this is
    its ``epoch``, and levels are as its rules have them.
    """

    epoch: int
    levels: Rearming


def sell(
    asks: Sequence[Ask], body_hashes: Sequence[bytes], *, now: datetime, known: Mapping[int, Plain]
) -> list[Sold]:
    """Sell what needs no deciding, committed when this returns; no account and no key comes twice.

    What is known of properties is looked at again: what is not so any more is not sold.
    """
    everyone = together(ask.actor for ask in asks)
    wishes = [ask.wish for ask in asks]
    places = [
        (place, *plain, *levels)
        for place, (*plain, levels) in list(known.items())
        if everyone.duty is Duty.SYSTEM or place in everyone.property_ids
    ]
    if not places:
        return []
    rows = fetch(
        _SELL,
        [
            *entered_by(everyone, requests_of(asks)),
            now,
            now.isoformat(),
            texts([ask.actor.code for ask in asks]),
            texts([wish.key for wish in wishes]),
            _hashes(body_hashes),
            integers([wish.account_id for wish in wishes]),
            integers([wish.amount for wish in wishes]),
            texts([wish.way for wish in wishes]),
            texts([wish.reference for wish in wishes]),
            moments([wish.paid_at for wish in wishes]),
            texts([_scope_of(ask.actor) for ask in asks]),
            HORIZON_DAYS * 24,
            *(integers(column) for column in zip(*places, strict=True)),
        ],
        prepare=True,
    )
    return [Sold(*row) for row in rows]


def requests_of(asks: Sequence[Ask]) -> str:
    """Where each of the wishes came from, a line each in the order given."""
    return "\n".join(ask.origin.words(ask.actor.duty) for ask in asks)


def _hashes(values: Sequence[bytes]) -> str:
    return texts(["\\x" + each.hex() for each in values])


@dataclass(slots=True)
class Columns:
    """The recharges of a set that stand, a column for each thing that is written of them.

    ``at`` is where each stood in the set as it was asked for.
    """

    at: list[int] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    body_hashes: list[bytes] = field(default_factory=list)
    collected: list[int] = field(default_factory=list)
    debts: list[int] = field(default_factory=list)
    available_after: list[int] = field(default_factory=list)

    def add(self, at: int, ask: Ask, seen: Seen, body_hash: bytes) -> None:
        """One more recharge that stands."""
        self.at.append(at)
        self.asks.append(ask)
        self.seen.append(seen)
        self.body_hashes.append(body_hash)

    def tariff_epochs(self) -> dict[int, int]:
        """The tariff epoch of each property concerned."""
        return {
            seen.property_id: seen.tariff_epoch
            for seen in self.seen
            if seen.property_id is not None
        }

    def take(self, plan: Deductions) -> None:
        """Set down what is taken of each, and what each account has after it."""
        self.collected = [less.collected_micro for less in plan.each]
        self.debts = [less.debt_micro for less in plan.each]
        balance: dict[int, int] = {}
        for ask, seen, less in zip(self.asks, self.seen, plan.each, strict=True):
            account_id = ask.wish.account_id
            before = balance.get(account_id, seen.available)
            balance[account_id] = before + ask.wish.amount + sum(leg.amount for leg in less.legs)
            self.available_after.append(balance[account_id])


class Booked:
    """A set on its way to the database: its receipt numbers are there once it is waited for."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def receipt_numbers(self) -> list[int]:
        """One for each recharge."""
        return list(self._cursor.fetchone()[0])


_PAY: Final = """
INSERT INTO payment (property_id, account_id, event_id, amount_micro, way, reference, paid_at, accepted_at,
                     taken_by)
SELECT w.p, w.a, w.e, w.m, w.way, w.ref, w.paid, %s::timestamptz, w.caller
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[],
            %s::timestamptz[], %s::text[]) AS w(p, a, e, m, way, ref, paid, caller)"""


def pay(rows: Columns, *, now: datetime) -> None:
    """Write the payments of what stands, before their transfers; ``book`` does so where it appends."""
    wishes = [ask.wish for ask in rows.asks]
    execute(
        _PAY,
        [
            now,
            integers([seen.property_id for seen in rows.seen]),
            integers([wish.account_id for wish in wishes]),
            integers([seen.event_id for seen in rows.seen]),
            integers([wish.amount for wish in wishes]),
            texts([wish.way for wish in wishes]),
            texts([wish.reference for wish in wishes]),
            texts([wish.paid_at.isoformat() for wish in wishes]),
            texts([ask.actor.code for ask in rows.asks]),
        ],
    )


_BOOK: Final = """SELECT book_recharges(
    CASE WHEN said.requests IS NOT NULL THEN %s::timestamptz END, %s::boolean, %s::boolean,
    %s::text[], %s::text[], %s::bytea[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
    %s::bigint[], %s::text[], %s::text[], %s::timestamptz[],
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text)
    FROM (SELECT set_config('prewatt.requests', %s, true) AS requests OFFSET 0) AS said"""


def book(rows: Columns, *, now: datetime, is_appended: bool, announce: bool) -> Booked:
    """Write what stands. ``is_appended`` says that the ledger has the transfers already, and that
    their payments are written (``pay``).
    """
    wishes = [ask.wish for ask in rows.asks]
    return Booked(
        execute(
            _BOOK,
            [
                now,
                is_appended,
                announce,
                texts([ask.actor.code for ask in rows.asks]),
                texts([wish.key for wish in wishes]),
                _hashes(rows.body_hashes),
                integers([seen.property_id for seen in rows.seen]),
                integers([seen.legal_entity_id for seen in rows.seen]),
                integers([wish.account_id for wish in wishes]),
                integers([seen.event_id for seen in rows.seen]),
                integers([wish.amount for wish in wishes]),
                texts([wish.way for wish in wishes]),
                texts([wish.reference for wish in wishes]),
                moments([wish.paid_at for wish in wishes]),
                integers(rows.collected),
                integers(rows.debts),
                integers(rows.available_after),
                integers(_left_hours(rows)),
                now.isoformat(),
                requests_of(rows.asks),
            ],
            prepare=True,
        )
    )


def _left_hours(rows: Columns) -> list[int | None]:
    """How long the money lasts, said with the last recharge of each account; None: say nothing.

    The hours are those of the balance after the whole set, so an earlier recharge has none to say.
    """
    last = {ask.wish.account_id: at for at, ask in enumerate(rows.asks)}
    return [
        sayable_hours(rows.available_after[at], seen.spend_per_day)
        if last[rows.asks[at].wish.account_id] == at and seen.has_supply
        else None
        for at, seen in enumerate(rows.seen)
    ]


def sayable_hours(available: int, spend_per_day: int) -> int | None:
    """Whole hours that the money lasts at the usual use, where a forecast reaches that far."""
    if spend_per_day <= 0:
        return None
    hours = max(available, 0) * 24 // spend_per_day
    return hours if 0 < hours <= HORIZON_DAYS * 24 else None
