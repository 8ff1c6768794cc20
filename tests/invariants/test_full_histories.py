"""Random histories under random price plans against the exact model, which counts every Wh as it is used.

What is compared was never near the code under test: fractions, Wh by Wh, in
``tests/core/exact_model.py``. Readings come in batches of any size and late; recharges, postings and
restarts come in between; part of a history may be filled in after the fact.
``PREWATT_HISTORY_CASES`` sets how many are tried.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from tests.core.tariff_strategies import full_tariff_documents
from tests.invariants.stories import Story

pytestmark = pytest.mark.usefixtures("books")

#: Local midnights some days before a month, a year and two changes of the clock begin.
OPENINGS: Final = ("2025-12-29T00:00", "2026-03-27T00:00", "2026-10-23T00:00", "2026-09-28T00:00")
CASES: Final = int(os.environ.get("PREWATT_HISTORY_CASES", "10"))
MANY = settings(
    max_examples=CASES,
    deadline=None,
    derandomize="PREWATT_HISTORY_CASES" not in os.environ,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


def _in_order(document: Mapping[str, Any], seed: int, opening: str, length: int) -> None:
    story = Story.of(document, seed, opening, length)
    exact = story.exact()
    story.deliver(story.readings)
    story.books_hold()
    assert story.charged() == story.exactly()
    assert story.counted() == (sum(exact.counts.values()), exact.allowance_wh)
    assert not story.is_to_be_rated_anew()


@MANY
@given(
    document=full_tariff_documents(),
    seed=st.integers(0, 2**32),
    opening=st.sampled_from(OPENINGS),
    length=st.integers(3, 40),
)
def test_any_plan_charges_what_the_exact_model_says(
    books: str, document: dict[str, Any], seed: int, opening: str, length: int
) -> None:
    _in_order(document, seed, opening, length)


def _filled_in(document: Mapping[str, Any], seed: int, opening: str, length: int) -> Story:
    """A history of which some readings come when later ones are charged already."""
    story = Story.of(document, seed, opening, length)
    late = {each for each in story.readings[:-1] if story.random.random() < 0.3}
    order = [each for each in story.readings if each not in late]
    for each in sorted(late, key=lambda _: story.random.random()):
        after = order.index(next(other for other in order if other[0] > each[0]))
        order.insert(story.random.randrange(after + 1, len(order) + 1), each)
    story.deliver(order)
    story.books_hold()
    return story


@MANY
@given(
    document=full_tariff_documents(),
    seed=st.integers(0, 2**32),
    opening=st.sampled_from(OPENINGS),
    length=st.integers(3, 40),
)
def test_what_is_filled_in_costs_the_same_or_is_to_be_rated_anew(
    books: str, document: dict[str, Any], seed: int, opening: str, length: int
) -> None:
    story = _filled_in(document, seed, opening, length)
    exact = story.exact()
    event("to be rated anew" if story.is_to_be_rated_anew() else "exact at once")
    assert story.counted() == (sum(exact.counts.values()), exact.allowance_wh)
    if not story.is_to_be_rated_anew():
        assert story.charged() == story.exactly()
