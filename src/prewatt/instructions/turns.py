"""A turn of the head-end with the meters that sign: their answers, and what their wallets are due, in one transaction.

It is what stands between a recharge and the light, so it is lean: three round trips to PostgreSQL and one commit,
however many meters there are in it. Everything in it can be done in smaller steps by `InstructionBook` and `Wallets`, and
is, where a turn fails as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.core.instructions import Operation
from prewatt.instructions.operations import (
    InstructionBook,
    Outcome,
    Outgoing,
    Standing,
    Told,
    Wanted,
    places_of,
    standing,
)
from prewatt.instructions.wallets import COUNTED_BY_METER
from prewatt.runtime.prepared import execute, integers, pipelined

#: So many payments before the last one that was seen are looked at again: who took a number first may commit last. Whose
#: commit took longer yet is found when all wallets of a property are looked at.
_LOOK_BACK: Final = 64
_PER_TURN: Final = 500


@dataclass(frozen=True, slots=True)
class Turn:
    """What became of the answers, in order; what may leave now; where anything was written down.

    ``has_more``: as much was issued as goes into one turn.
    """

    outcomes: list[Outcome]
    outgoing: list[Outgoing]
    places: frozenset[int]
    has_more: bool


class InstructionTurns:
    """Turns of the head-end. Not thread-safe: it remembers how far it has seen payments."""

    def __init__(self, actor: Actor, book: InstructionBook) -> None:
        require(actor, "supply.decide")
        self._actor = actor
        self._book = book
        self._seen_payment: int | None = None

    def turn(self, told: Sequence[Told], *, now: datetime, is_paid: bool) -> Turn:
        """Weigh answers; and if anything may have been paid, sign what meters are due of it. Committed when it returns.

        Only payments since the last turn are looked at; what else moves an account is `Wallets.due`'s. Raises NoSigningKey,
        and then nothing is done.
        """
        seal = self._book.seal(now) if is_paid else None
        with pipelined(), scope(self._actor):
            outcomes = self._book.weigh(told, now)
            if seal is None:
                outgoing, seen = [], self._seen_payment
            else:
                last, due = self._ask_due(now)
                with connection.wrap_database_errors:
                    ((seen,),), rows = last.fetchall(), due.fetchall()
                outgoing = self._book.issue_to_free([_due(row) for row in rows], now=now, by=seal)
        self._seen_payment = seen
        has_more = len(outgoing) == _PER_TURN
        return Turn(outcomes, outgoing, frozenset(places_of(outcomes)), has_more)

    def _ask_due(self, now: datetime) -> tuple[psycopg.Cursor[Any], psycopg.Cursor[Any]]:
        """The last payment, and what is due by those since the one that was seen before it."""
        last = execute("SELECT last_payment()", [], prepare=True)
        if self._seen_payment is None:
            with connection.wrap_database_errors:
                ((self._seen_payment,),) = last.fetchall()
            last = execute("SELECT last_payment()", [], prepare=True)
        due = execute(
            "SELECT * FROM credit_due(%s::bigint, %s::smallint[], %s, %s)",
            [self._seen_payment - _LOOK_BACK, integers(COUNTED_BY_METER), now, _PER_TURN],
            prepare=True,
        )
        return last, due


def _due(row: tuple[Any, ...]) -> tuple[Wanted, Standing]:
    meter_id, property_id, serial, due_micro, *stands = row
    wanted = Wanted(meter_id, property_id, serial, Operation.CREDIT, due_micro)
    return wanted, standing(property_id, *stands)
