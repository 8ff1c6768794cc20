"""Amounts of money as integers, and their two doors: text typed by people, text shown to people.

An amount is an int of micro-units (10⁻⁶ of the currency's major unit). It is rounded to minor
units (cents) only where a document is made, half to even, and the residual is handed back so that
the document can show it or carry it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from prewatt.core.written import WrittenRefused, narrowed, read_decimal

MICRO: Final = 1_000_000
MICRO_DIGITS: Final = 6
NANO_PER_MICRO: Final = 1_000
MINUS: Final = "\N{MINUS SIGN}"

# Signs that stand before the digits. A currency that is not listed shows its ISO 4217 code and a
# no-break space: guessing a sign (whose dollar?) is worse than three letters.
CURRENCY_SIGNS: Final = {"EUR": "€", "GBP": "£", "CNY": "¥", "USD": "$", "ZAR": "R", "INR": "₹"}

#: What people write behind an amount instead of a sign before it.
_CURRENCY_WORDS: Final = {"CNY": ("\N{CJK UNIFIED IDEOGRAPH-5143}",)}


class AmountRefused(ValueError):
    """A text is not an acceptable amount. `reason` is a stable word, `text` what was given.

    Reasons: `malformed`, `ambiguous`, `too_many_decimals`, `zero`, `negative`, `over_limit`.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"amount {text!r} refused: {reason}")
        self.reason = reason
        self.text = text


def parse_amount(
    text: str,
    *,
    minor_digits: int = 2,
    limit_micro: int,
    allow_zero: bool = False,
    allow_negative: bool = False,
    currency: str = "",
) -> int:
    """Micro-units of an amount as people write it: `25`, `25.50`, `25,50`, `1.234,50`, `1,234.50`,
    `\uff12\uff15`; raises `AmountRefused`.

    What can be read as two amounts (`1,234`) is refused as `ambiguous`. Strict otherwise: no
    exponent, no NaN, at most `minor_digits` decimals, and a magnitude of at most `limit_micro`. The
    sign or code of ``currency`` may stand before or behind it, that of another is refused. Whatever
    `format_amount` shows in whole minor units reads back as the same amount.
    """
    try:
        written = read_decimal(_without_currency(text, currency), decimals=minor_digits)
    except WrittenRefused as refused:
        raise AmountRefused(refused.reason, text) from refused
    micro = written.scaled(MICRO_DIGITS)
    if micro == 0 and not allow_zero:
        raise AmountRefused("zero", text)
    if written.negative:
        if not allow_negative:
            raise AmountRefused("negative", text)
        micro = -micro
    if abs(micro) > limit_micro:
        raise AmountRefused("over_limit", text)
    return micro


def _without_currency(text: str, currency: str) -> str:
    """The amount without the currency's sign or code, which stands once, before or behind it."""
    plain = narrowed(text)
    if not currency:
        return plain
    minus, digits = ("-", plain[1:]) if plain.startswith("-") else ("", plain)
    words = (CURRENCY_SIGNS.get(currency, currency), currency, *_CURRENCY_WORDS.get(currency, ()))
    for word in words:
        if digits.startswith(word):
            return minus + digits.removeprefix(word).lstrip()
        if digits.endswith(word):
            return minus + digits.removesuffix(word).rstrip()
    return plain


def round_to_minor(micro: int, minor_digits: int = 2) -> tuple[int, int]:
    """Round half to even: (minor units, residual in micro-units), with
    `micro == minor * 10**(6 - minor_digits) + residual` exactly.
    """
    unit = _micro_per_minor(minor_digits)
    minor, rest = divmod(micro, unit)
    if rest * 2 > unit or (rest * 2 == unit and minor % 2 == 1):
        minor += 1
    return minor, micro - minor * unit


def rounding_of(total: int, parts: Iterable[int], minor_digits: int = 2) -> int:
    """What is missing from rounded parts to their rounded total, in micro-units; 0 where they add up.

    A page or document that shows parts and a sum shows this as a line of its own, as an invoice does
    (EN 16931, BT-114): no part is bent to make the others fit.
    """
    unit = _micro_per_minor(minor_digits)
    shown = sum(round_to_minor(each, minor_digits)[0] for each in parts)
    return (round_to_minor(total, minor_digits)[0] - shown) * unit


def moved(after: int, amount: int, minor_digits: int = 2) -> int:
    """The whole minor units, in micro-units, by which a shown balance moves to ``after`` by ``amount``.

    In a list of movements with their balances each line then leads from the one balance to the next.
    An amount of whole minor units is shown as it is.
    """
    unit = _micro_per_minor(minor_digits)
    if amount % unit == 0:
        return amount
    now, before = (round_to_minor(each, minor_digits)[0] for each in (after, after - amount))
    return (now - before) * unit


def shared_out(total: int, parts: Sequence[int], minor_digits: int = 2) -> list[int]:
    """Parts in whole minor units that come to a total of whole minor units, in micro-units.

    Those are rounded up that lost most (largest remainder). For parts that
    are named within one line, where no line of rounding has its place.
    """
    unit = _micro_per_minor(minor_digits)
    floors = [each // unit for each in parts]
    missing = round_to_minor(total, minor_digits)[0] - sum(floors)
    order = sorted(range(len(parts)), key=lambda at: (-(parts[at] % unit), at))
    # A total may be a minor unit away from the parts' own sum: then one more or less is shared out.
    for step in range(abs(missing) if parts else 0):
        if missing > 0:
            floors[order[step % len(order)]] += 1
        else:
            floors[order[-1 - step % len(order)]] -= 1
    return [each * unit for each in floors]


@dataclass(frozen=True, slots=True)
class AmountText:
    """An amount in pieces, so that a page can set the currency sign smaller than the digits.

    `sign` is empty or U+2212, `currency` the attached sign (or code and no-break space), `digits`
    the magnitude with a point and commas at the thousands, `residual_micro` what rounding left
    out.
    """

    sign: str
    currency: str
    digits: str
    residual_micro: int

    def __str__(self) -> str:
        return f"{self.sign}{self.currency}{self.digits}"


def amount_text(micro: int, *, currency: str, digits: int = 2) -> AmountText:
    """The pieces of an amount rounded half to even to `digits` decimals (0 to 6)."""
    minor, residual = round_to_minor(micro, digits)
    whole, part = divmod(abs(minor), 10**digits)
    shown = f"{whole:,}" + (f".{part:0{digits}d}" if digits else "")
    sign = MINUS if minor < 0 else ""
    return AmountText(
        sign, CURRENCY_SIGNS.get(currency, f"{currency}\N{NO-BREAK SPACE}"), shown, residual
    )


def format_amount(micro: int, *, currency: str, digits: int = 2) -> str:
    """`−€2.65`: true minus, currency sign attached, rounded half to even."""
    return str(amount_text(micro, currency=currency, digits=digits))


def format_price(price_nano_per_kwh: int, *, currency: str, digits: int = 4) -> str:
    """A price per kWh as `€0.2480`, with more decimals when the price has them (up to nine)."""
    if price_nano_per_kwh < 0:
        return MINUS + format_price(-price_nano_per_kwh, currency=currency, digits=digits)
    whole, nano = divmod(price_nano_per_kwh, MICRO * NANO_PER_MICRO)
    part = f"{nano:09d}".rstrip("0").ljust(digits, "0")
    return f"{CURRENCY_SIGNS.get(currency, currency + chr(0xA0))}{whole:,}" + (
        f".{part}" if part else ""
    )


def _micro_per_minor(minor_digits: int) -> int:
    if not 0 <= minor_digits <= MICRO_DIGITS:
        raise ValueError(f"minor_digits must be between 0 and {MICRO_DIGITS}, not {minor_digits}")
    return int(10 ** (MICRO_DIGITS - minor_digits))
