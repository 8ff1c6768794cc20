"""How prices, times and days of the year are written in a tariff document."""

from __future__ import annotations

import re
from typing import Final

from prewatt.core.civil_time import MINUTES_PER_DAY

FORMAT: Final = "prewatt-tariff/1"
NANO_DIGITS: Final = 9
NANO: Final = 10**NANO_DIGITS
MAX_PRICE_NANO: Final = 10**15
"""A million major units per kWh: beyond any currency, and far from where 64 bits end."""
MAX_NAME: Final = 80
MAX_LABEL: Final = 80

_MONTH_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
MONTH_STARTS: Final = tuple(sum(_MONTH_DAYS[:month]) for month in range(12))
"""Where each month begins in a year that has a 29 February, the grid on which seasons are laid."""
DAYS_OF_GRID: Final = 366

_DECIMAL: Final = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?")
_TIME: Final = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])")
_MONTH_DAY: Final = re.compile(r"([0-9]{2})-([0-9]{2})")


class TariffRefused(ValueError):
    """A document is not a tariff. `place` is a path such as
    `energy.schedule[0].periods[2].until`, `reason` one sentence without a full stop.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


def decimal_text(nano: int) -> str:
    """Nano-units as a plain decimal without needless zeros: 248000000 → `0.248`."""
    whole, part = divmod(nano, NANO)
    return f"{whole}.{part:09d}".rstrip("0").rstrip(".") if part else str(whole)


def nano(value: object, place: str) -> int:
    """A price as written, in nano-units. A JSON number is refused: 0.1 has no exact binary form."""
    if not isinstance(value, str):
        raise TariffRefused(place, 'must be a decimal in quotes, such as "0.2480"')
    match = _DECIMAL.fullmatch(value)
    if match is None:
        negative = value.startswith(("-", "\N{MINUS SIGN}"))
        reason = (
            "must not be negative" if negative else "must be a plain decimal of at most 9 decimals"
        )
        raise TariffRefused(place, reason)
    nano = int(match[1]) * NANO + int((match[2] or "").ljust(NANO_DIGITS, "0"))
    if nano > MAX_PRICE_NANO:
        raise TariffRefused(place, f"must be at most {decimal_text(MAX_PRICE_NANO)}")
    return nano


def minute_of(value: object, place: str) -> int:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    minute = int(match[1]) * 60 + int(match[2]) if match else MINUTES_PER_DAY + 1
    if minute > MINUTES_PER_DAY:
        raise TariffRefused(place, 'must be a time of day between "00:00" and "24:00"')
    return minute


def minute_text(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def month_day(value: object, place: str) -> int:
    match = _MONTH_DAY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise TariffRefused(place, 'must be a month and day such as "06-01"')
    month, day = int(match[1]), int(match[2])
    if not 1 <= month <= 12 or not 1 <= day <= _MONTH_DAYS[month - 1]:
        raise TariffRefused(place, f"{value!r} is not a day of the year")
    return MONTH_STARTS[month - 1] + day - 1


def month_day_text(position: int) -> str:
    """The day at a grid position; the end of the grid is the first of January."""
    position %= DAYS_OF_GRID
    month = max(each for each in range(12) if MONTH_STARTS[each] <= position)
    return f"{month + 1:02d}-{position - MONTH_STARTS[month] + 1:02d}"
