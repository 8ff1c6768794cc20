"""The invariants of the design, each by its number, on a real PostgreSQL."""

from __future__ import annotations

import pytest
from tests.invariants import checks

from prewatt.core.vocabulary import Gate


def test_invariant_1_transfers_never_change_and_corrections_name_what_they_correct(
    books: str,
) -> None:
    checks.invariant_1(books)


def test_invariant_2_sums_are_balances_and_agree_with_an_independent_model(books: str) -> None:
    checks.invariant_2(books)


def test_invariant_3_numbers_are_gapless_under_concurrent_writers(books: str) -> None:
    checks.invariant_3(books)


def test_invariant_4_one_key_has_one_effect(books: str) -> None:
    checks.invariant_4(books)


def test_invariant_5_no_energy_is_charged_twice(books: str) -> None:
    checks.invariant_5(books)


def test_invariant_6_a_new_tenant_inherits_nothing(books: str) -> None:
    checks.invariant_6(books)


@pytest.mark.parametrize("gate", Gate)
def test_invariant_7_no_cut_unless_every_gate_holds(books: str, gate: Gate) -> None:
    checks.invariant_7(books, gate)


def test_invariant_9_nothing_is_acknowledged_before_it_is_committed(books: str) -> None:
    checks.invariant_9(books)


def test_invariant_10_closed_periods_and_document_numbers(books: str) -> None:
    checks.invariant_10(books)
