"""Compares what the field and the tellers know with what the database holds, and says every difference.

Two looks. While the load runs: nothing that was acknowledged may be missing, and the books must hold in
themselves. After it has drained: everything must be there once, and every balance must be the one
that the independent model computes.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

import psycopg

from prewatt.drills.model import Row, charges_of
from prewatt.drills.report import Report
from prewatt.drills.stored import HELD, READINGS
from prewatt.drills.teller import Journal
from prewatt.drills.world import World
from prewatt.reports.books import check_books

_ENERGY_REVENUE: Final = 3
_TAX_PAYABLE: Final = 5
_OPENING_BALANCES: Final = 8
_DISCONNECT: Final = 2
#: The state of an order that is only what would have been ordered, and is never sent.
_WOULD_HAVE: Final = 8
#: Where the money of each way of paying is booked: the cash box and the bank.
_PAID: Final = {1: ("cash",), 2: ("online", "transfer")}

_ACCOUNTS: Final = """
SELECT a.number, s.account_id, s.available, s.accrued_energy, s.accrued_tax,
       s.accrued_standing + s.accrued_fee + s.accrued_demand + s.accrued_subsidy,
       (SELECT coalesce(sum(energy_wh), 0) FROM interval i
        WHERE i.account_id = s.account_id AND i.register_code = 1)::bigint
FROM account_state s JOIN account a ON a.id = s.account_id
JOIN meter_assignment m ON m.account_id = s.account_id
"""
_TRANSFERS: Final = """
SELECT account_id, counter_account, sum(amount)::bigint FROM transfer GROUP BY 1, 2
"""
_PAYMENTS: Final = """
SELECT p.reference, p.account_id, p.amount_micro, p.way, p.event_id,
       (SELECT count(*) FROM transfer t WHERE t.event_id = p.event_id AND t.account_id = p.account_id
          AND t.kind = 2 AND t.amount = p.amount_micro),
       (SELECT number FROM document d WHERE d.event_id = p.event_id AND d.kind = 'receipt')
FROM payment p
"""
#: What must never be there twice, beside what constraints forbid: an order of one decision, a
#: receipt's message, two attempts that both delivered.
_TWICE: Final = {
    "orders of one decision": """
        SELECT meter_id || ', decision ' || decision_id, count(*) FROM supply_order
        GROUP BY meter_id, decision_id HAVING count(*) > 1""",
    "live orders of one meter": """
        SELECT meter_id::text, count(*) FROM supply_order WHERE state IN (1, 2, 3)
        GROUP BY meter_id HAVING count(*) > 1""",
    "messages of one recharge": """
        SELECT account_id || ', ' || (detail ->> 'receipt'), count(*) FROM message
        WHERE detail ? 'receipt' GROUP BY account_id, detail ->> 'receipt' HAVING count(*) > 1""",
    "messages of one key": """
        SELECT account_id || ', ' || dedupe_key, count(*) FROM message WHERE NOT would_have
        GROUP BY account_id, dedupe_key HAVING count(*) > 1""",
    "receipts of one event": """
        SELECT event_id::text, count(*) FROM document WHERE kind = 'receipt'
        GROUP BY event_id HAVING count(*) > 1""",
}


def check_under_load(made: World, report: Report, *, held_is_right: bool = False) -> None:
    """Nothing acknowledged so far is missing, and the books hold; what is new goes into the report."""
    acknowledged = made.field.acknowledged()
    journals = made.journals()
    with made.owner() as connection, _one_instant(connection):
        _compare_readings(
            connection, acknowledged, report, final=False, held_is_right=held_is_right
        )
        _compare_recharges(connection, journals, report, final=False)
        _add(report, _books(connection))
    report.comparisons += 1


def check_at_the_end(made: World, report: Report, *, held_is_right: bool = False) -> None:
    """Everything, once the load has drained and the tills are closed.

    `held_is_right`: readings may be held with a reason, as they must be where clocks lie; elsewhere
    a held reading is one that was lost to its customer's bill.
    """
    taken = made.field.taken()
    acknowledged = made.field.acknowledged()
    report.readings_taken = sum(map(len, taken.values()))
    report.readings_acknowledged = sum(map(len, acknowledged.values()))
    with made.owner() as connection:
        _settle(connection)
    with made.owner() as connection, _one_instant(connection):
        rated = _compare_readings(
            connection, acknowledged, report, final=True, held_is_right=held_is_right
        )
        _add(report, _uncharged(made, taken, rated))
        _add(report, _cut_by_the_past(connection, made))
        if not held_is_right and report.readings_held:
            _add(
                report,
                [f"{report.readings_held} readings are held, and nothing was wrong with them"],
            )
        journals = made.journals()
        _compare_recharges(connection, journals, report, final=True)
        _compare_money(connection, made, rated, journals, report)
        _add(report, _books(connection))
        _add(report, _twice(connection))
        _add(report, _strangers(connection))
        report.orders = _count(connection, f"supply_order WHERE state <> {_WOULD_HAVE}")
        report.messages = _count(connection, "message")
    report.comparisons += 1


def check_repeats(made: World, report: Report) -> None:
    """Ask every key once more: each must be answered as it was, and none may have an effect."""
    with made.owner() as connection:
        before = _traces(connection)
        made.ask("repeat")
        after = _traces(connection)
    if before != after:
        _add(report, [f"repeated keys had an effect: {before} became {after}"])
    for journal in made.journals():
        _add(report, journal.contradictions)


def _add(report: Report, found: Iterable[str]) -> None:
    """Take up what is new, and say it at once: whoever watches may look at the world while it stands."""
    known = set(report.broken)
    for each in found:
        if each not in known:
            known.add(each)
            report.broken.append(each)
            print(f"BROKEN: {each}", file=sys.stderr, flush=True)


def _compare_readings(
    connection: psycopg.Connection[Any],
    acknowledged: Mapping[str, set[Row]],
    report: Report,
    *,
    final: bool,
    held_is_right: bool,
) -> dict[str, set[Row]]:
    """Invariant 9: what a meter forgot is in the database. Returns what is rated, by meter."""
    rated: dict[str, set[Row]] = {serial: set() for serial in acknowledged}
    held: dict[str, set[Row]] = {serial: set() for serial in acknowledged}
    revised: list[str] = []
    for serial, at_us, value, revision in connection.execute(READINGS):
        rated[serial].add((at_us, value))
        if revision:
            revised.append(f"meter {serial}: the reading of {at_us} has revision {revision}")
    for serial, at_us, value, reason in connection.execute(HELD):
        held[serial].add((at_us, value))
        assert reason
    for serial, rows in acknowledged.items():
        lost = rows - rated[serial] - held[serial]
        _add(
            report,
            (
                f"meter {serial}: the reading of {at_us} ({value} Wh) was acknowledged and is nowhere"
                for at_us, value in sorted(lost)
            ),
        )
        if not held_is_right:
            _add(report, (f"meter {serial}: the reading of {row} is held" for row in held[serial]))
        shown = [value for _, value in sorted(rated[serial])]
        if shown != sorted(shown):
            _add(report, [f"meter {serial}: what is rated does not rise with time"])
    _add(report, revised)
    if final:
        report.readings_held = sum(len(rows - rated[s]) for s, rows in held.items())
        report.readings_survived = sum(
            len(rows & (rated[serial] | held[serial])) for serial, rows in acknowledged.items()
        )
    return rated


def _compare_recharges(
    connection: psycopg.Connection[Any], journals: list[Journal], report: Report, *, final: bool
) -> None:
    """Invariants 4 and 9: an answered key stands once, with the answer; no other key stands twice."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for reference, *facts in connection.execute(_PAYMENTS):
        found.setdefault(reference, []).append(tuple(facts))
    broken: list[str] = []
    acknowledged = survived = amount = 0
    for journal in journals:
        broken += journal.contradictions
        for key, answer in journal.answered.items():
            if "event_id" not in answer:
                broken.append(f"key {key} was refused: {answer}")
                continue
            acknowledged += 1
            amount += answer["amount"]
            wish, rows = journal.asked[key], found.get(key, [])
            meant = (
                wish["account_id"], wish["amount"], wish["way"], answer["event_id"], 1,
                answer["receipt_number"],
            )  # fmt: skip
            if rows == [meant]:
                survived += 1
            else:
                broken.append(f"key {key} was answered {meant} and stands as {rows}")
        if final:
            broken += [f"key {key} was never answered" for key in journal.open_keys()]
    broken += [f"key {key} has {len(r)} effects" for key, r in found.items() if len(r) > 1]
    # Whoever has asked meanwhile is in the journals by now: a wish is written down first.
    asked = {key for journal in journals for key in Journal.read(journal.path).asked}
    broken += [f"payment {key} was never asked for" for key in found if key not in asked]
    _add(report, broken)
    report.recharges_acknowledged, report.recharges_survived = acknowledged, survived
    report.acknowledged_micro = amount


def _compare_money(
    connection: psycopg.Connection[Any],
    made: World,
    rated: Mapping[str, set[Row]],
    journals: list[Journal],
    report: Report,
) -> None:
    """Invariants 2 and 5: energy once, and balances and counter-accounts those of the model."""
    paid = _paid(journals)
    booked: dict[int, dict[int, int]] = {}
    for account_id, counter, amount in connection.execute(_TRANSFERS):
        booked.setdefault(account_id, {})[counter] = amount
    totals: Counter[str] = Counter()
    for number, account_id, available, accrued, accrued_tax, other, wh in connection.execute(
        _ACCOUNTS
    ):
        legs = booked.get(account_id, {})
        model = charges_of(rated[number])
        energy = accrued - legs.pop(_ENERGY_REVENUE, 0)
        tax = accrued_tax - legs.pop(_TAX_PAYABLE, 0)
        opening = legs.pop(_OPENING_BALANCES, 0)
        money = {counter: paid.get((account_id, counter), 0) for counter in _PAID}
        stands = {counter: legs.pop(counter, 0) for counter in _PAID}
        found = [
            (wh != model.energy_wh, f"charged {wh} Wh for {model.energy_wh} Wh counted"),
            (abs(energy - model.energy) >= 1, f"energy is {energy} and not {float(model.energy)}"),
            (abs(tax - model.tax) >= 1, f"tax is {tax} and not {float(model.tax)}"),
            (stands != money, f"payments are {stands} and acknowledged were {money}"),
            (bool(legs) or other != 0, f"was booked what nobody asked for: {legs}, {other}"),
            (
                available != opening + sum(money.values()) - energy - tax,
                f"available is {available}, not opening and payments less charges",
            ),
        ]
        _add(report, (f"account {number}: {what}" for is_broken, what in found if is_broken))
        totals.update(wh=wh, energy=energy, tax=tax)
        totals.update(accounts=1)
        report.charged_wh += wh
        report.charged_micro += energy + tax
    if totals["accounts"] != len(made.estate.places):
        _add(report, [f"{totals['accounts']} accounts of {len(made.estate.places)} were compared"])
    everything = sum((charges_of(rows).energy for rows in rated.values()), Fraction(0))
    if abs(totals["energy"] - everything) >= len(made.estate.places):
        _add(report, [f"energy revenue is {totals['energy']}, by the model {float(everything)}"])


def _paid(journals: list[Journal]) -> Counter[tuple[int, int]]:
    """Acknowledged money by account and counter-account."""
    paid: Counter[tuple[int, int]] = Counter()
    counters = {way: counter for counter, ways in _PAID.items() for way in ways}
    for journal in journals:
        for key, answer in journal.answered.items():
            if "event_id" in answer:
                wish = journal.asked[key]
                paid[wish["account_id"], counters[wish["way"]]] += wish["amount"]
    return paid


@contextlib.contextmanager
def _one_instant(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Look at one state of the database: relays may still turn, and each turn is a reading."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield


def _books(connection: psycopg.Connection[Any]) -> list[str]:
    with connection.cursor() as cursor:
        return [f"books: {each}" for each in check_books(cursor)]


def _uncharged(
    made: World, taken: Mapping[str, set[Row]], rated: Mapping[str, set[Row]]
) -> list[str]:
    """Invariant 5: meters whose highest register is not rated, though their time has come.

    Those of now are left out: what their clocks claimed may lie hours ahead.
    """
    return [
        f"meter {place.serial}: counted up to {counted} Wh, charged up to {charged} Wh"
        for place in made.estate.places
        if not place.is_live
        and (counted := max(value for _, value in taken[place.serial]))
        != (charged := max(value for _, value in rated[place.serial]))
    ]


def _cut_by_the_past(connection: psycopg.Connection[Any], made: World) -> list[str]:
    """Invariant 7: accounts of which only old readings ever came, and that were to be cut."""
    behind = [place.account_id for place in made.estate.places if not place.is_live]
    rows = connection.execute(
        """SELECT account_id, reason FROM supply_order
           WHERE kind = %s AND state <> %s AND account_id = ANY(%s)""",
        [_DISCONNECT, _WOULD_HAVE, behind],
    ).fetchall()
    return [f"account {account}: cut by an old reading ({reason})" for account, reason in rows]


def _twice(connection: psycopg.Connection[Any]) -> list[str]:
    return [
        f"{count} {what}: {which}"
        for what, query in _TWICE.items()
        for which, count in connection.execute(query).fetchall()
    ]


def _strangers(connection: psycopg.Connection[Any]) -> list[str]:
    """Frames that were refused or malformed: our own meters send none."""
    rows = connection.execute("SELECT serial, reason, count FROM rejected_frame").fetchall()
    return [
        f"{count} frames of {serial} were rejected: {reason}"
        for serial, reason, count in rows
        if reason != "late_answer"
    ]


def _settle(connection: psycopg.Connection[Any]) -> None:
    """Wait for transactions that are still at work: what was acknowledged is committed anyway."""
    connection.execute(
        """DO $$ BEGIN FOR n IN 1..100 LOOP
               EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity
                   WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid()
                     AND usename IN ('head_end', 'clerk', 'web'));
               PERFORM pg_sleep(0.05), pg_stat_clear_snapshot();
           END LOOP; END $$"""
    )


def _traces(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """What an effect of a recharge would leave more of."""
    names = (
        "payment", "idempotency", "document", "transfer WHERE kind = 2",
        "message WHERE detail ? 'receipt'", "audit_event WHERE code LIKE 'vending.%'",
    )  # fmt: skip
    return {name: _count(connection, name) for name in names}


def _count(connection: psycopg.Connection[Any], rows: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {rows}").fetchone()  # noqa: S608 - our own words
    assert row is not None
    return int(row[0])
