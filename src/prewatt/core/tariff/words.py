"""How prices, energy, shares, times and days are written in a tariff document.

Each quantity has a reader that refuses with its place, and a writer of its one canonical text:
`nano` and `decimal_text` for money, `watt_hours` and `kwh_text` for energy, `ppm` and
`percent_text` for shares, `minute_of`, `month_day` and `iso_date` for times. Decimals are always in
quotes: a JSON number such as 0.1 has no exact binary form.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from prewatt.core.civil_time import MINUTES_PER_DAY

FORMAT: Final = "prewatt-tariff/1"
NANO_DIGITS: Final = 9
NANO: Final = 10**NANO_DIGITS
MAX_PRICE_NANO: Final = 10**15
"""A million major units per kWh or kW: beyond any currency, and far from where 64 bits end."""
MAX_AMOUNT_NANO: Final = 10**16
"""Ten million major units per day, month, year or hour: 366 days of it still fit into 64 bits."""
MAX_ENERGY_WH: Final = 10**12
"""A million MWh, for limits and free energy."""
PPM: Final = 10**6
"""Parts of a whole: 100 %."""
MAX_NAME: Final = 80
MAX_LABEL: Final = 80
MAX_NOTE: Final = 1_000

_MONTH_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
MONTH_STARTS: Final = tuple(sum(_MONTH_DAYS[:month]) for month in range(12))
"""Where each month begins in a year that has a 29 February, the grid on which seasons are laid."""
DAYS_OF_GRID: Final = 366

_DECIMAL: Final = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?")
_KWH_DIGITS: Final = 3
_PERCENT_DIGITS: Final = 4
_FACTOR_DIGITS: Final = 6
_TIME: Final = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])")
_MONTH_DAY: Final = re.compile(r"([0-9]{2})-([0-9]{2})")
_ISO_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


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
    return _scaled_text(nano, NANO_DIGITS)


def kwh_text(energy_wh: int) -> str:
    """Wh as kWh: 8500 → `8.5`."""
    return _scaled_text(energy_wh, _KWH_DIGITS)


def percent_text(ppm: int) -> str:
    """Parts per million as per cent: 81000 → `8.1`."""
    return _scaled_text(ppm, _PERCENT_DIGITS)


def factor_text(ppm: int) -> str:
    """Parts per million as a factor: 900000 → `0.9`."""
    return _scaled_text(ppm, _FACTOR_DIGITS)


def nano(value: object, place: str, *, most: int = MAX_PRICE_NANO) -> int:
    """A price or amount in nano-units. A JSON number is refused."""
    return _scaled(value, place, NANO_DIGITS, most)


def positive_nano(value: object, place: str, *, most: int = MAX_PRICE_NANO) -> int:
    """A price or amount that says something: more than 0."""
    return _positive(nano(value, place, most=most), place)


def watt_hours(value: object, place: str) -> int:
    """An energy written in kWh, in whole Wh."""
    return _scaled(value, place, _KWH_DIGITS, MAX_ENERGY_WH)


def positive_wh(value: object, place: str) -> int:
    """An energy written in kWh, in whole Wh, more than 0."""
    return _positive(watt_hours(value, place), place)


def ppm(value: object, place: str) -> int:
    """A share written in per cent, in parts per million: more than 0 and at most 100 %."""
    return _positive(_scaled(value, place, _PERCENT_DIGITS, PPM), place)


def factor_ppm(value: object, place: str) -> int:
    """A factor such as `0.90`, in parts per million: more than 0 and at most 1."""
    return _positive(_scaled(value, place, _FACTOR_DIGITS, PPM), place)


def _scaled(value: object, place: str, digits: int, most: int) -> int:
    """A plain decimal in quotes as a whole number of its last decimal place."""
    if not isinstance(value, str):
        raise TariffRefused(place, 'must be a decimal in quotes, such as "0.2480"')
    match = _DECIMAL.fullmatch(value)
    if match is None or len(match[2] or "") > digits:
        negative = value.startswith(("-", "\N{MINUS SIGN}"))
        reason = (
            "must not be negative"
            if negative
            else f"must be a plain decimal of at most {digits} decimals"
        )
        raise TariffRefused(place, reason)
    scaled = int(match[1] + (match[2] or "").ljust(digits, "0"))
    if scaled > most:
        raise TariffRefused(place, f"must be at most {_scaled_text(most, digits)}")
    return scaled


def _scaled_text(scaled: int, digits: int) -> str:
    whole, part = divmod(scaled, 10**digits)
    return f"{whole}.{part:0{digits}d}".rstrip("0").rstrip(".") if part else str(whole)


def _positive(value: int, place: str) -> int:
    if value == 0:
        raise TariffRefused(place, "must be more than 0")
    return value


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


def iso_date(value: object, place: str) -> date:
    """A date such as `2027-01-01`."""
    try:
        if not isinstance(value, str) or not _ISO_DATE.fullmatch(value):
            raise ValueError(value)
        return date.fromisoformat(value)
    except ValueError as error:
        raise TariffRefused(place, 'must be a date such as "2027-01-01"') from error
