"""Full tariffs in the books, checked on the code as it is."""

from __future__ import annotations

from tests.invariants import full_checks


def test_steps_taxes_fees_and_subsidies_agree_with_the_exact_model_and_the_ledger(
    books: str,
) -> None:
    full_checks.full_usage(books)


def test_what_comes_late_is_counted_as_of_its_instant_and_flagged_where_it_moves_steps(
    books: str,
) -> None:
    full_checks.full_late(books)


def test_a_purchase_window_begins_with_the_first_interval_after_the_recharge(books: str) -> None:
    full_checks.full_purchases(books)


def test_parts_that_begin_after_a_recharge_are_of_the_new_purchase(books: str) -> None:
    full_checks.full_purchase_in_parts(books)
