"""Amounts: strict to read, exact to round, and shown the way the guide says."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prewatt.core.money import (
    MICRO,
    AmountRefused,
    amount_text,
    format_amount,
    format_price,
    moved,
    parse_amount,
    round_to_minor,
    rounding_of,
    shared_out,
)

LIMIT = 10_000 * MICRO


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        *(("25", 25_000_000), (" 25.5 ", 25_500_000), ("0.01", 10_000), ("+7", 7_000_000)),
        *(("5,50", 5_500_000), ("1.234,50", 1_234_500_000), ("1,234.50", 1_234_500_000)),
        *(("1'234.5", 1_234_500_000), ("1\u2019234,5", 1_234_500_000), ("1 234", 1_234_000_000)),
        *(("1\u202f234,50", 1_234_500_000), ("\uff15\uff0e\uff15\uff10", 5_500_000)),
        *(("\uff15\u3002\uff15", 5_500_000), ("\u3000\uff12\uff15", 25_000_000)),
        *(("1234.5", 1_234_500_000), ("007", 7_000_000)),
    ],
)
def test_an_amount_is_read_as_people_write_it(text: str, micro: int) -> None:
    assert parse_amount(text, limit_micro=LIMIT) == micro


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "malformed"),
        ("nan", "malformed"),
        ("Infinity", "malformed"),
        ("1e3", "malformed"),
        ("1,000", "ambiguous"),
        ("1.000", "ambiguous"),
        ("999,999", "ambiguous"),
        ("1,234,567", "over_limit"),
        ("1,234,56", "malformed"),
        ("1.234.5", "malformed"),
        ("1,23.50", "malformed"),
        ("1234,567.00", "malformed"),
        ("0,123.00", "malformed"),
        ("1.234,567", "too_many_decimals"),
        ("0,123", "too_many_decimals"),
        ("1234,567", "too_many_decimals"),
        ("5 50", "malformed"),
        ("5, 50", "malformed"),
        ("5,", "malformed"),
        ("$5", "malformed"),
        (".5", "malformed"),
        ("5.", "malformed"),
        ("0x10", "malformed"),
        ("٢٥", "malformed"),
        ("1_000", "malformed"),
        ("--1", "malformed"),
        ("9" * 400, "malformed"),
        ("1.0051", "too_many_decimals"),
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
    assert parse_amount("1,234", minor_digits=0, limit_micro=LIMIT) == 1_234_000_000
    assert parse_amount("1.234", minor_digits=3, limit_micro=LIMIT) == 1_234_000
    with pytest.raises(AmountRefused, match="ambiguous"):
        parse_amount("1,234", minor_digits=3, limit_micro=LIMIT)


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        *(("\u20ac5.50", "EUR"), ("5,50 \u20ac", "EUR"), ("EUR 5,50", "EUR"), ("\uffe55.5", "CNY")),
        *(("\uff15\uff0e\uff15\u5143", "CNY"), ("5.50AUD", "AUD"), ("R 5,50", "ZAR")),
    ],
)
def test_the_sign_of_the_own_currency_may_stand_beside_it(text: str, currency: str) -> None:
    assert parse_amount(text, limit_micro=LIMIT, currency=currency) == 5_500_000
    with pytest.raises(AmountRefused, match="malformed"):
        parse_amount(text, limit_micro=LIMIT, currency="GBP")


@given(st.integers(-(10**15), 10**15), st.sampled_from(["EUR", "CNY", "ZAR", "AUD", "JPY"]))
def test_what_is_printed_reads_back_equal(cents: int, currency: str) -> None:
    micro = cents * 10_000
    shown = format_amount(micro, currency=currency)
    comma = shown.translate(str.maketrans(",.", ".,"))
    wide = shown.translate(
        str.maketrans(
            "0123456789,.",
            "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19\uff0c\uff0e",
        )
    )
    for each in (shown, comma, wide, shown.replace(",", "\u202f"), shown.replace(",", "")):
        read = parse_amount(
            each, limit_micro=abs(micro), allow_zero=True, allow_negative=True, currency=currency
        )
        assert read == micro, each


def readings_of(text: str) -> dict[Fraction, int]:
    """Every amount that a text can mean somewhere, by each country's pair of marks, and its decimals."""
    found: dict[Fraction, int] = {}
    for decimal, group in ((".", ","), (",", "."), (".", "'"), (",", "'"), (".", " "), (",", " ")):
        whole, mark, part = text.partition(decimal)
        first, *rest = whole.split(group)
        digits = all(each.isascii() and each.isdigit() for each in (first, *rest))
        grouped = 1 <= len(first) <= 3 and first[0] != "0" and all(len(each) == 3 for each in rest)
        if not digits or (rest and not grouped) or bool(mark) != bool(part):
            continue
        if not part or (part.isascii() and part.isdigit()):
            found[Fraction(f"{first}{''.join(rest)}.{part or 0}")] = len(part)
    return found


@given(st.text("0123456789.,' ", min_size=1, max_size=12).filter(lambda each: each == each.strip()))
def test_no_text_is_taken_that_somebody_would_read_as_another_amount(text: str) -> None:
    meant = readings_of(text)
    if len(meant) != 1 or next(iter(meant.values())) > 2:
        with pytest.raises(AmountRefused) as refusal:
            parse_amount(text, limit_micro=10**18, allow_zero=True)
        assert (refusal.value.reason == "ambiguous") == (len(meant) == 2)
        assert (refusal.value.reason == "malformed") == (not meant)
    else:
        micro = parse_amount(text, limit_micro=10**18, allow_zero=True)
        assert set(meant) == {Fraction(micro, MICRO)}


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


def test_shown_cents_lead_from_balance_to_balance_and_parts_to_their_sum() -> None:
    random = Random(41)
    for digits in (0, 2, 3):
        unit = 10 ** (6 - digits)
        balance = first = random.randrange(-(10**9), 10**9)
        shown = 0
        for _ in range(200):
            amount = random.choice([1, -1]) * random.randrange(1, 10**7)
            balance += amount
            step = moved(balance, amount, digits)
            assert step % unit == 0
            assert abs(step - amount) <= unit
            shown += step
        ends = [round_to_minor(each, digits)[0] * unit for each in (first, balance)]
        assert shown == ends[1] - ends[0]
        # Whole minor units are never shown as anything else.
        assert moved(balance, 7 * unit, digits) == 7 * unit
        parts = [random.randrange(-(10**7), 10**7) for _ in range(random.randrange(1, 9))]
        total = round_to_minor(sum(parts), digits)[0] * unit
        spread = shared_out(total, parts, digits)
        assert sum(spread) == total
        assert all(abs(each - part) < unit for each, part in zip(spread, parts, strict=True))
        lines = sum(round_to_minor(each, digits)[0] for each in parts) * unit
        assert lines + rounding_of(sum(parts), parts, digits) == total
