"""Numbers as people write them: with a comma or a point, with marks at the thousands, in wide digits.

A German writes 5,50 and 1.234,56, a Briton 5.50 and 1,234.56, a Swiss 1'234.50, a Chinese input
method ５．５０. Whoever reads them need not know who wrote: a text is taken where it can mean one
number only, whatever the country, and refused where it can mean two (1,234). Nothing is guessed and
nothing is a float.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: Longer than any number that fits into 64 bits, its marks and its currency included.
LENGTH_MAX: Final = 60

_WIDE: Final = str.maketrans(
    {chr(0xFF10 + digit): str(digit) for digit in range(10)}
    | {
        "\N{FULLWIDTH FULL STOP}": ".",
        # What an input method for Chinese writes when the point is pressed.
        "\N{IDEOGRAPHIC FULL STOP}": ".",
        "\N{FULLWIDTH COMMA}": ",",
        "\N{FULLWIDTH PLUS SIGN}": "+",
        "\N{FULLWIDTH HYPHEN-MINUS}": "-",
        "\N{FULLWIDTH YEN SIGN}": "\N{YEN SIGN}",
        "\N{IDEOGRAPHIC SPACE}": " ",
        "\N{NO-BREAK SPACE}": " ",
        "\N{NARROW NO-BREAK SPACE}": " ",
        "\N{THIN SPACE}": " ",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{MINUS SIGN}": "-",
    }
)
_PLAIN: Final = re.compile(
    r"(?P<sign>[-+]?)(?P<whole>[0-9]{1,18})(?:(?P<mark>[.,])(?P<part>[0-9]+))?"
)
_GROUPED: Final = re.compile(
    r"(?P<sign>[-+]?)(?P<whole>[1-9][0-9]{0,2}(?P<group>[.,' ])[0-9]{3}(?:(?P=group)[0-9]{3}){0,4})"
    r"(?:(?!(?P=group))(?P<mark>[.,])(?P<part>[0-9]+))?"
)


class WrittenRefused(ValueError):
    """A text is no number, or more than one. ``reason`` is `malformed`, `ambiguous` or
    `too_many_decimals`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Written:
    """A decimal: whether it has a minus, the digits before its mark and those behind it."""

    negative: bool
    whole: str
    part: str

    def scaled(self, digits: int) -> int:
        """The magnitude in units of 10⁻ᵈⁱᵍⁱᵗˢ; ``part`` must have no more digits than that."""
        return int(self.whole + self.part.ljust(digits, "0"))

    def __str__(self) -> str:
        """The plain decimal, with a point: `1234.56`."""
        return f"{'-' if self.negative else ''}{self.whole}{'.' if self.part else ''}{self.part}"


def narrowed(text: str) -> str:
    """The text with its wide digits and signs as narrow ones, without spaces around it."""
    return text.translate(_WIDE).strip()


def read_decimal(text: str, *, decimals: int, point: str = ".") -> Written:
    """Read a number of at most ``decimals`` decimals. Raises `WrittenRefused`.

    Comma and point are both decimal marks; comma, point, apostrophe or space, all the same and every
    three digits, are marks of thousands. A single comma or point before three last digits may be either:
    where three decimals are usual (12.345 kWh) a sign of ``point`` is a decimal point, where there are
    no decimals it is a mark of thousands, and elsewhere it is refused.
    """
    plain = narrowed(text)
    if len(plain) > LENGTH_MAX:
        raise WrittenRefused("malformed")
    grouped, single = _GROUPED.fullmatch(plain), _PLAIN.fullmatch(plain)
    if grouped is not None and single is not None and decimals:
        if decimals < 3 or single["mark"] not in point:
            raise WrittenRefused("ambiguous")
        grouped = None
    match = grouped or single
    if match is None:
        raise WrittenRefused("malformed")
    part = match["part"] or ""
    if len(part) > decimals:
        raise WrittenRefused("too_many_decimals")
    whole = re.sub("[^0-9]", "", match["whole"])
    return Written(match["sign"] == "-", whole, part)
