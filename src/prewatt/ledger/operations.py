"""The ledger's only pen: accounts are opened, events appended, documents numbered, periods closed.

Every function runs inside its caller's transaction and expects, or takes, the ``account_state``
row locks in ``account_id`` order: that lock is the first of every writer in Prewatt. Everything is
set-based; callers bring columns, not rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from operator import attrgetter
from typing import Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.runtime.prepared import fetch, integers, moments, texts


class LedgerRefused(Exception):
    """The ledger refuses the entry; nothing was written."""


class UnknownAccount(LedgerRefused):
    """An account named in the call does not exist or lies outside the actor's scope."""


class PeriodClosed(LedgerRefused):
    """A service date lies before the property's open period (invariant 10)."""


class PeriodNotOver(LedgerRefused):
    """Books are closed before tomorrow at most: an open day has to be left for what comes in."""


class KeyReused(LedgerRefused):
    """An idempotency key came again with another body (invariant 4)."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One transfer of an event. ``amount`` in micro-units, positive into the wallet, never zero."""

    account_id: int
    kind: TransferKind
    component: int
    counter_account: CounterAccount
    amount: int
    service_from: datetime
    service_to: datetime
    reason: str
    band: int = 0
    energy_wh: int = 0
    tax_rate_ppm: int = 0
    corrects_event_id: int | None = None
    corrects_seq: int | None = None
    #: The step a usage was priced at, and the tariff's own code of a tax, fee or charge.
    step: int = 0
    code: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Legs that happen together or not at all, under one event id."""

    event_id: int
    legs: tuple[Leg, ...]


def new_event_ids(count: int) -> list[int]:
    """Draw ``count`` event ids; gaps after a rollback are harmless, ids only tie legs together."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('event_id_seq') FROM generate_series(1, %s)", [count])
        return [int(row[0]) for row in cursor.fetchall()]


def open_accounts(*, rows: Sequence[tuple[int, int, int]], now: datetime) -> None:
    """Create the hot row of new accounts at zero; rows are (account, property, legal entity) ids."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO account_state (account_id, property_id, legal_entity_id, updated_at)
               SELECT a, p, l, %s
               FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS t(a, p, l)""",
            [now, *(list(column) for column in zip(*rows, strict=True))]
            if rows
            else [now, [], [], []],
        )


def lock_accounts(account_ids: Sequence[int]) -> list[int]:
    """Lock the hot rows in ``account_id`` order and return those that exist (and are in scope)."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT account_id FROM account_state WHERE account_id = ANY(%s)
               ORDER BY account_id FOR NO KEY UPDATE""",
            [sorted(set(account_ids))],
        )
        return [int(row[0]) for row in cursor.fetchall()]


def lock_numbers(account_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Lock as `lock_accounts` does, and return each account's (posted_interval_no, interval_no)."""
    rows = fetch(_LOCK_NUMBERS, [integers(sorted(set(account_ids)))])
    return {account_id: (posted_no, last_no) for account_id, posted_no, last_no in rows}


_LOCK_NUMBERS = """
SELECT account_id, posted_interval_no, interval_no FROM account_state
WHERE account_id = ANY(%s::bigint[]) ORDER BY account_id FOR NO KEY UPDATE
"""


def append_events(*, actor_code: str, events: Sequence[Event], now: datetime) -> None:
    """Append the legs of all events and move the posted balances with them, in one statement.

    Sequence numbers come from each account's own counter under its lock, so they are gapless
    (invariant 3), and ``posted_after`` chains each row to the one before (invariant 2). The database
    does it in ``append_transfers`` and lets nobody do it otherwise.
    Raises UnknownAccount if any account has no hot row in scope, PeriodClosed for a back-dated leg.
    """
    legs = [(event.event_id, leg) for event in events for leg in event.legs]
    if not legs:
        return
    [(refusal, account_id, service_from, open_from, written)] = fetch(
        _APPEND, [*_columns(legs), now, texts([actor_code] * len(legs))]
    )
    if refusal == "unknown_account":
        raise UnknownAccount("an account of the event does not exist or is out of scope")
    if refusal == "period_closed":
        raise PeriodClosed(
            f"account {account_id}: service date {service_from:%Y-%m-%d} is closed; "
            f"the books are open from {open_from:%Y-%m-%d}"
        )
    if written != len(legs):
        raise AssertionError(f"{len(legs)} transfers meant, {written} written")


#: The ledger's pen (``sql/0014_agreed_money.sql``) takes the locks, looks at the period and writes.
_APPEND = """
SELECT refusal, refused_account, refused_from, books_open_from, written
FROM append_transfers(
    %s::bigint[], %s::bigint[], %s::smallint[], %s::smallint[], %s::smallint[], %s::smallint[],
    %s::bigint[], %s::bigint[], %s::integer[], %s::timestamptz[], %s::timestamptz[],
    %s::bigint[], %s::bigint[], %s::text[], %s::smallint[], %s::text[], %s::timestamptz, %s::text[])
"""


def _columns(legs: Sequence[tuple[int, Leg]]) -> list[str]:
    """The legs as columns for ``unnest``, in the order that ``append_transfers`` takes them."""
    events, accounts, kinds, components, bands, counters, amounts, *more = zip(
        *[(event_id, *_FIELDS(leg)) for event_id, leg in legs], strict=True
    )
    energies, rates, begins, ends, corrected_events, corrected_seqs, reasons, steps, codes = more
    return [
        *map(integers, (events, accounts, map(int, kinds), components, bands, map(int, counters))),
        *map(integers, (amounts, energies, rates)),
        *map(moments, (begins, ends)),
        *map(integers, (corrected_events, corrected_seqs)),
        texts(reasons),
        integers(steps),
        texts(codes),
    ]


_FIELDS: Final = attrgetter(
    "account_id", "kind", "component", "band", "counter_account", "amount", "energy_wh",
    "tax_rate_ppm", "service_from", "service_to", "corrects_event_id", "corrects_seq", "reason",
    "step", "code",
)  # fmt: skip


def next_document_number(*, legal_entity_id: int, series: str, count: int = 1) -> int:
    """Take ``count`` numbers of a series and return the first; gapless under the series' row lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO document_series (legal_entity_id, series, last_number)
               VALUES (%s, %s, %s)
               ON CONFLICT (legal_entity_id, series)
               DO UPDATE SET last_number = document_series.last_number + excluded.last_number
               RETURNING last_number""",
            [legal_entity_id, series, count],
        )
        row = cursor.fetchone()
    assert row is not None
    return int(row[0]) - count + 1


def close_period(*, actor: Actor, property_id: int, open_from: date, now: datetime) -> None:
    """Close the books before ``open_from``; closing never moves backwards.

    Raises PeriodClosed when the books are already closed beyond that day, PeriodNotOver for a day after
    tomorrow (the property's civil date), which the database refuses as well.
    """
    require(actor, "ledger.close_period", property_id=property_id)
    with scope(actor):
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT (%s::timestamptz AT TIME ZONE time_zone)::date + 1 < %s::date
                   FROM property WHERE id = %s""",
                [now, open_from, property_id],
            )
            if cursor.fetchone() == (True,):
                raise PeriodNotOver(f"{open_from} is after tomorrow")
            cursor.execute(
                "SELECT open_from FROM ledger_period WHERE property_id = %s", [property_id]
            )
            former = cursor.fetchone()
            # Alone with the property's books: every entry shares their lock until it commits.
            cursor.execute("SELECT close_books(%s, %s)", [property_id, open_from])
            if cursor.fetchone() != (True,):
                raise PeriodClosed("the books are already closed beyond that day")
        record(
            actor=actor.code,
            code="ledger.period.closed",
            property_id=property_id,
            subject=f"property:{property_id}",
            now=now,
            before=former and former[0],
            after=open_from,
        )
