"""Effective taxes against a model that charges one tax after the other."""

from __future__ import annotations

from datetime import date
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import cases
from core.exact_model import half_even, shares
from core.tariff_strategies import full_tariff_documents
from prewatt.core.civil_time import day_number
from prewatt.core.tariff import parse_tariff
from prewatt.core.tariff.model import Tax, Taxable
from prewatt.core.taxes import PPB, apportion, effective_tax, tax_change_days

DAY = date(2025, 6, 1)


def tax(code: str, percent: int, **more: Any) -> Tax:
    return Tax(code, code, percent * 10_000, tuple(Taxable), **more)


def test_an_exclusive_tax_is_added_and_an_inclusive_one_taken_out_of_the_price() -> None:
    added = effective_tax([tax("vat", 19)], Taxable.ENERGY, DAY)
    assert (added.net_nano(300_000_000), added.share_ppb) == (300_000_000, 190_000_000)
    contained = effective_tax([tax("vat", 19, inclusive=True)], Taxable.ENERGY, DAY)
    # 0.30 ÷ 1.19, and 19 % of it again.
    assert (contained.net_nano(300_000_000), contained.share_ppb) == (252_100_840, 190_000_000)


def test_a_compound_tax_is_also_on_the_taxes_before_it() -> None:
    levy, vat = tax("levy", 10), tax("vat", 20, compound=True)
    both = effective_tax([levy, vat], Taxable.ENERGY, DAY)
    assert both.share_ppb == 320_000_000
    assert [(part.code, part.share) for part in both.parts] == [
        ("levy", Fraction(1, 10)),
        ("vat", Fraction(11, 50)),
    ]
    assert effective_tax([vat, levy], Taxable.ENERGY, DAY).share_ppb == 300_000_000


def test_who_is_exempt_pays_neither_the_tax_nor_the_tax_on_it_nor_a_contained_one() -> None:
    taxes = [tax("levy", 10, inclusive=True), tax("vat", 20, compound=True)]
    exempt = effective_tax(taxes, Taxable.ENERGY, DAY, frozenset({"levy"}))
    assert (exempt.net_nano(110), exempt.share_ppb) == (100, 200_000_000)
    assert [part.code for part in exempt.parts] == ["vat"]


def test_a_tax_holds_from_its_first_day_until_its_last() -> None:
    dated = [
        tax("vat", 19, valid_until=date(2025, 7, 1)),
        tax("vat", 16, valid_from=date(2025, 7, 1)),
    ]
    shares_of = {
        day: effective_tax(dated, Taxable.FEE, day).share_ppb
        for day in (date(2025, 6, 30), date(2025, 7, 1))
    }
    assert list(shares_of.values()) == [190_000_000, 160_000_000]
    assert tax_change_days(dated) == (day_number(date(2025, 7, 1)),)


@settings(max_examples=cases(200), deadline=None)
@given(
    full_tariff_documents(),
    st.sampled_from(list(Taxable)),
    st.dates(date(2024, 1, 1), date(2026, 12, 31)),
    st.sets(st.sampled_from(("vat", "levy-0", "levy-1"))),
    st.integers(0, 10**12),
)
def test_any_taxes_are_those_of_the_exact_model(
    document: dict[str, Any], part: Taxable, day: date, exempt: set[str], price: int
) -> None:
    found = effective_tax(parse_tariff(document).taxes, part, day, frozenset(exempt))
    written, paid = shares(document, part.value, day, frozenset(exempt))
    assert found.net_nano(price) == half_even(price / written)
    assert found.share_ppb == half_even(paid * PPB)
    assert sum((each.share for each in found.parts), Fraction(0)) == paid


@given(
    st.integers(-(10**15), 10**15),
    st.lists(st.fractions(min_value=0, max_value=2), max_size=6),
)
def test_an_apportioned_total_is_whole_and_near_its_shares(
    total: int, weights: list[Fraction]
) -> None:
    parts = apportion(total, weights)
    assert len(parts) == len(weights)
    if weights:
        assert sum(parts) == total
    whole = sum(weights, Fraction(0))
    if whole:
        for part, weight in zip(parts, weights, strict=True):
            assert abs(part - total * weight / whole) < 1


@pytest.mark.parametrize(("total", "parts"), [(100, (33, 33, 34)), (-1, (-1, 0, 0))])
def test_the_rest_of_a_division_falls_where_the_running_sum_reaches_it(
    total: int, parts: tuple[int, ...]
) -> None:
    assert apportion(total, [Fraction(1)] * 3) == parts
