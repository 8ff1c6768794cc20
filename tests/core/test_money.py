"""Amounts: strict to read, exact to round, and shown the way the guide says."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prewatt.core.money import (
    MICRO,
    AmountRefused,
    amount_text,
    format_amount,
    format_price,
    parse_amount,
    round_to_minor,
)

LIMIT = 10_000 * MICRO


@pytest.mark.parametrize(
    ("text", "micro"),
    [("25", 25_000_000), (" 25.5 ", 25_500_000), ("0.01", 10_000), ("+7", 7_000_000)],
)
def test_a_plain_decimal_is_an_amount(text: str, micro: int) -> None:
    assert parse_amount(text, limit_micro=LIMIT) == micro


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "malformed"),
        ("nan", "malformed"),
        ("Infinity", "malformed"),
        ("1e3", "malformed"),
        ("1,50", "malformed"),
        ("1,000.00", "malformed"),
        (".5", "malformed"),
        ("5.", "malformed"),
        ("0x10", "malformed"),
        ("٢٥", "malformed"),
        ("1_000", "malformed"),
        ("--1", "malformed"),
        ("9" * 400, "malformed"),
        ("1.005", "too_many_decimals"),
        ("0", "zero"),
        ("-0.00", "zero"),
        ("-1", "negative"),
        ("\N{MINUS SIGN}1", "negative"),
        ("10000.01", "over_limit"),
    ],
)
def test_anything_else_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(AmountRefused) as refusal:
        parse_amount(text, limit_micro=LIMIT)
    assert (refusal.value.reason, refusal.value.text) == (reason, text)


def test_zero_and_negative_amounts_are_taken_where_they_are_allowed() -> None:
    assert parse_amount("0", limit_micro=LIMIT, allow_zero=True) == 0
    assert parse_amount("\N{MINUS SIGN}2.50", limit_micro=LIMIT, allow_negative=True) == -2_500_000
    with pytest.raises(AmountRefused, match="over_limit"):
        parse_amount("-10000.01", limit_micro=LIMIT, allow_negative=True)
    with pytest.raises(AmountRefused, match="too_many_decimals"):
        parse_amount("100.5", minor_digits=0, limit_micro=LIMIT)


@given(st.integers(-(10**18), 10**18), st.integers(0, 6))
def test_rounding_is_half_to_even_and_hands_the_residual_back(micro: int, digits: int) -> None:
    minor, residual = round_to_minor(micro, digits)
    unit = 10 ** (6 - digits)
    assert minor * unit + residual == micro
    assert minor == round(Fraction(micro, unit))


@pytest.mark.parametrize(
    ("micro", "digits", "shown"),
    [
        (-2_650_000, 2, "−€2.65"),
        (1_234_567_894_999, 2, "€1,234,567.89"),
        (5_000, 2, "€0.00"),
        (-5_000, 2, "€0.00"),
        (15_000, 2, "€0.02"),
        (-15_000, 2, "−€0.02"),
        (1_500_000, 0, "€2"),
        (1, 6, "€0.000001"),
    ],
)
def test_an_amount_carries_its_sign_and_currency(micro: int, digits: int, shown: str) -> None:
    assert format_amount(micro, currency="EUR", digits=digits) == shown


def test_the_pieces_of_an_amount_make_the_whole() -> None:
    text = amount_text(-2_654_999, currency="CNY")
    assert (text.sign, text.currency, text.digits, text.residual_micro) == (
        "−",
        "¥",
        "2.65",
        -4_999,
    )
    assert str(text) == "−¥2.65"
    # A currency without a sign of its own is named: nobody should guess whose dollar it is.
    assert format_amount(1_000_000, currency="AUD") == "AUD\N{NO-BREAK SPACE}1.00"


@pytest.mark.parametrize(
    ("nano", "shown"),
    [
        (248_000_000, "€0.2480"),
        (1_234_567_891, "€1.234567891"),
        (0, "€0.0000"),
        (-50_000_000, "−€0.0500"),
        (2_000 * 10**9, "€2,000.0000"),
    ],
)
def test_a_price_shows_four_decimals_or_as_many_as_it_has(nano: int, shown: str) -> None:
    assert format_price(nano, currency="EUR") == shown


def test_more_digits_than_a_micro_unit_has_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 6"):
        round_to_minor(1, 7)
