"""The comparison finds each kind of loss: a drill that could not fail would prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from math import floor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from prewatt.drills import comparison, stored
from prewatt.drills.model import QUARTER_US, Row, charges_of
from prewatt.drills.report import Report
from prewatt.drills.teller import Journal
from prewatt.drills.world import World

SERIAL = "DRILL0000"
BEGIN_US = 1_790_000 * QUARTER_US // 1_000 * 1_000
ROWS = {(BEGIN_US + at * QUARTER_US, 1_000 + 77 * at) for at in range(4)}


class Database:
    """Rows by statement, as a sound world has them; a test spoils one of them."""

    def __init__(self, answers: list[dict[str, Any]]) -> None:
        charged = charges_of(ROWS)
        energy, tax = floor(charged.energy), floor(charged.tax)
        paid = sum(each["amount"] for each in answers)
        self.rows: dict[str, list[tuple[Any, ...]]] = {
            stored.READINGS: [(SERIAL, at_us, value, 0) for at_us, value in sorted(ROWS)],
            stored.HELD: [],
            comparison._PAYMENTS: [
                (
                    each["key"],
                    1,
                    each["amount"],
                    "cash",
                    each["event_id"],
                    1,
                    each["receipt_number"],
                )
                for each in answers
            ],
            comparison._TRANSFERS: [(1, 8, 20_000_000), (1, 1, paid), (1, 3, -1_000)],
            comparison._ACCOUNTS: [
                (SERIAL, 1, 20_000_000 + paid - energy - tax, energy - 1_000, tax, 0, 231)
            ],
        }

    def execute(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a statement of the comparison."""
        return self.rows[query]


def wish(number: int) -> dict[str, Any]:
    return {"key": f"t-{number}", "account_id": 1, "amount": 50_000 + number, "way": "cash"}


def answer(number: int) -> dict[str, Any]:
    return {
        "key": f"t-{number}",
        "account_id": 1,
        "event_id": 10 + number,
        "amount": 50_000 + number,
        "receipt_number": number + 1,
        "repeated": False,
    }


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Three wishes and their answers, on the disk."""
    journal = Journal(tmp_path / "t.jsonl")
    for number in range(3):
        journal.ask(wish(number))
        journal.answer(answer(number))
    return journal


def found(
    journal: Journal, spoil: Callable[[Database], object], acknowledged: set[Row] = ROWS
) -> list[str]:
    """What the comparison says of a world of which one thing was spoilt."""
    database = Database([answer(number) for number in range(3)])
    spoil(database)
    connection = cast("psycopg.Connection[Any]", database)
    made = cast(
        World,
        SimpleNamespace(estate=SimpleNamespace(places=[SimpleNamespace(serial=SERIAL)])),
    )
    report = Report("test", "1")
    rated = comparison._compare_readings(
        connection, {SERIAL: acknowledged}, report, final=True, held_is_right=False
    )
    comparison._compare_recharges(connection, [journal], report, final=True)
    comparison._compare_money(connection, made, rated, [journal], report)
    return report.broken


def test_a_sound_world_is_sound(journal: Journal) -> None:
    assert found(journal, lambda _: None) == []
    assert found(journal, lambda _: None, set(sorted(ROWS)[:2])) == []


@pytest.mark.parametrize(
    ("what", "statement", "spoil"),
    [
        ("acknowledged and is nowhere", "READINGS", lambda rows: rows[:-1]),
        ("acknowledged and is nowhere", "READINGS", lambda rows: [*rows[:-1], (*rows[-1][:2], 1, 0)]),
        ("has revision 1", "READINGS", lambda rows: [*rows[:-1], (*rows[-1][:3], 1)]),
        ("is held", "HELD", lambda _: [(SERIAL, BEGIN_US + 1, 5, "mdm.vee.backwards")]),
        ("t-2 was answered", "_PAYMENTS", lambda rows: rows[:-1]),
        ("t-2 has 2 effects", "_PAYMENTS", lambda rows: [*rows, (*rows[-1][:4], 99, 1, 9)]),
        ("t-9 was never asked for", "_PAYMENTS", lambda rows: [*rows, ("t-9", *rows[-1][1:])]),
        ("t-2 was answered", "_PAYMENTS", lambda rows: [*rows[:-1], (*rows[-1][:-1], 8)]),
        ("payments are", "_TRANSFERS", lambda rows: [rows[0], (1, 1, 150_002), rows[2]]),
        ("energy is", "_TRANSFERS", lambda rows: [*rows[:2], (1, 3, -1_002)]),
        ("nobody asked for", "_TRANSFERS", lambda rows: [*rows, (1, 10, 1)]),
        ("charged 232 Wh for 231", "_ACCOUNTS", lambda rows: [(*rows[0][:-1], 232)]),
        ("tax is", "_ACCOUNTS", lambda rows: [(*rows[0][:4], rows[0][4] + 2, *rows[0][5:])]),
        ("available is", "_ACCOUNTS", lambda rows: [(*rows[0][:2], rows[0][2] + 1, *rows[0][3:])]),
        ("0 accounts of 1", "_ACCOUNTS", lambda _: []),
    ],
)  # fmt: skip
def test_what_is_spoilt_is_found(
    journal: Journal,
    what: str,
    statement: str,
    spoil: Callable[[list[tuple[Any, ...]]], list[tuple[Any, ...]]],
) -> None:
    def apply(database: Database) -> None:
        query = getattr(stored, statement, "") or getattr(comparison, statement)
        database.rows[query] = spoil(database.rows[query])

    assert any(what in each for each in found(journal, apply)), found(journal, apply)


def test_a_key_without_an_answer_and_a_key_with_two_are_found(journal: Journal) -> None:
    journal.ask(wish(7))
    journal.answer(answer(1) | {"repeated": True})
    assert journal.contradictions == []
    journal.answer(answer(1) | {"receipt_number": 99})
    broken = found(journal, lambda _: None)
    assert any("t-7 was never answered" in each for each in broken)
    assert any("t-1: first" in each for each in broken)


def test_a_journal_outlives_its_teller_and_a_line_that_was_cut_off(journal: Journal) -> None:
    journal.ask(wish(3))
    with journal.path.open("a") as torn:
        torn.write('{"answer": {"key": "t-3", "eve')
    again = Journal.read(journal.path)
    assert (again.asked, again.answered) == (journal.asked, journal.answered)
    assert again.open_keys() == ["t-3"]
    again.answer(answer(3))
    assert Journal.read(journal.path).open_keys() == []
