"""A check that cannot fail proves nothing: each invariant's check notices a mutation of the code."""

from __future__ import annotations

import psycopg
import pytest
from django.db import DatabaseError
from tests.invariants.mutations import MUTATIONS, Mutation, raise_walls

NOTICED = (AssertionError, DatabaseError, psycopg.Error, pytest.fail.Exception)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: f"{each.invariant}-{each.name}")
def test_the_check_of_an_invariant_notices_its_mutation(
    books: str, mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation.break_it(monkeypatch)
    try:
        # Some mutations do not even get past the constraints of the database.
        with pytest.raises(NOTICED):
            mutation.check(books)
    finally:
        monkeypatch.undo()
        raise_walls()


def test_every_invariant_that_is_checked_has_a_mutation() -> None:
    assert {each.invariant for each in MUTATIONS} == {1, 2, 3, 4, 5, 6, 7, 9, 10}
