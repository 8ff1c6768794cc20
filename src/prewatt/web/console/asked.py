"""What a form asked for, read field by field: each value, or its refusal kept for beside its field.

A view reads every field first and then looks at ``faults``, so a person sees all that is wrong at
once. Nothing here decides anything: bounds that matter are the operation's.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext as _

from prewatt.core.money import MICRO, AmountRefused, parse_amount
from prewatt.core.written import WrittenRefused, read_decimal
from prewatt.web.ui import sentences

_TEXT_MAX: Final = 4_000
_PRICE_DECIMALS: Final = 9
#: A form takes days of these years: a year less on either side than calendars know (`core.civil_time`).
_YEARS: Final = range(1972, 2199)
#: No price of a kWh is a million, and no figure of kWh or kW has more digits than nine.
_PRICE_MAX: Final = 10 ** (6 + _PRICE_DECIMALS)
_KWH_MAX: Final = 10 ** (9 + 3)


class Asked:
    """The fields of a form as text, and what is wrong with them, by their names."""

    def __init__(self, data: QueryDict) -> None:
        self.data = data
        self.faults: dict[str, str] = {}

    @property
    def values(self) -> dict[str, str]:
        """Every field's text, for the form to be shown again."""
        return {name: self.text(name) for name in self.data}

    def text(self, name: str, most: int = _TEXT_MAX) -> str:
        """A field's text without spaces around it."""
        return self.data.get(name, "").replace("\x00", "").strip()[:most]

    def line(self, name: str, *, most: int, needed: bool = False) -> str:
        """A text of one line."""
        found = " ".join(self.text(name).split())
        if needed and not found:
            self.faults[name] = _("Still to be filled in.")
        elif len(found) > most or not found.isprintable():
            self.faults[name] = _("Write a text on one line, at most %(n)s characters long.") % {
                "n": most
            }
        return found

    def several(self, name: str) -> list[str]:
        """The boxes that are ticked under one name."""
        return [each[:80] for each in self.data.getlist(name)][:100]

    def amount(
        self, name: str, *, limit_micro: int, currency: str, allow_zero: bool = False
    ) -> int:
        """An amount of money in micro-units; the sign of its currency may stand beside it."""
        written = self.text(name)
        try:
            return parse_amount(
                written, limit_micro=limit_micro, allow_zero=allow_zero, currency=currency
            )
        except AmountRefused as refused:
            self.faults[name] = sentences.refused_amount(refused)
            return 0

    def percent(self, name: str) -> int:
        """Per cent of at most 100 as parts per million."""
        try:
            written = read_decimal(self.text(name).removesuffix("%"), decimals=4)
            ppm = -1 if written.negative else written.scaled(4)
        except WrittenRefused:
            ppm = -1
        if not 0 <= ppm <= MICRO:
            self.faults[name] = _("Write per cent from 0 to 100, such as 25.")
            return 0
        return ppm

    def price(self, name: str) -> int | None:
        """A price of a kWh in nano-units; None where nothing is written."""
        written = self.text(name)
        if not written:
            return None
        found = price_nano(written)
        if found is None:
            self.faults[name] = _("Write a number such as 0.2480, without marks at the thousands.")
        return found

    def whole(self, name: str, *, least: int, most: int) -> int:
        """A whole number within bounds."""
        written = self.text(name)
        found = int(written) if re.fullmatch(r"[0-9]{1,15}", written) else least - 1
        if not least <= found <= most:
            self.faults[name] = _("Write a whole number from %(least)s to %(most)s.") % {
                "least": least,
                "most": most,
            }
            return least
        return found

    def thousandths(self, name: str) -> int | None:
        """A figure of at most three decimals in thousandths (kWh → Wh, kW → W); None where empty."""
        written = self.text(name)
        if not written:
            return None
        try:
            found = read_decimal(written, decimals=3)
        except WrittenRefused:
            found = None
        if found is None or found.negative or found.scaled(3) >= _KWH_MAX:
            self.faults[name] = _("Write a number such as 12.5, with at most three decimals.")
            return None
        return found.scaled(3)

    def choice(self, name: str, of: Collection[str]) -> str:
        """One of the values that were offered."""
        found = self.text(name)
        if found not in of:
            self.faults[name] = _("Choose one of these.")
            return ""
        return found

    def day(self, name: str, zone: str) -> datetime | None:
        """The first instant of a local day, UTC."""
        try:
            return day_begins(date.fromisoformat(self.text(name)), zone)
        except ValueError:
            self.faults[name] = _("Write a date such as 2027-01-01.")
            return None

    def instant(self, name: str, zone: str) -> datetime | None:
        """A local date and time as an instant, UTC; None where nothing is written."""
        written = self.text(name)
        if not written:
            return None
        found = local_instant(written, zone)
        if found is None:
            self.faults[name] = _("Write date and time such as 2027-01-01 08:00.")
        return found


def price_nano(text: str) -> int | None:
    """A price of a kWh as nano-units, None where it is none."""
    try:
        written = read_decimal(text, decimals=_PRICE_DECIMALS)
    except WrittenRefused:
        return None
    nano = written.scaled(_PRICE_DECIMALS)
    if nano >= _PRICE_MAX:
        return None
    return -nano if written.negative else nano


def day_begins(day: date, zone: str) -> datetime:
    """The first instant of a local day, UTC; midnight does not exist on every day everywhere.

    Raises ValueError for a day that no calendar reaches.
    """
    if day.year not in _YEARS:
        raise ValueError(f"{day} lies beyond the years that a form takes")
    local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    return local.astimezone(UTC)


def local_instant(written: str, zone: str) -> datetime | None:
    """A local civil time as an instant, UTC; None for what is none, does not exist there, or lies
    beyond what calendars reach.

    Of an hour that comes twice, the first is meant.
    """
    try:
        local = datetime.fromisoformat(written.replace(" ", "T"))
        if local.year not in _YEARS:
            return None
        if local.tzinfo is not None:
            return local.astimezone(UTC)
        at = local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    except ValueError:
        return None
    return at if at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == local else None


def written_local(at: datetime, zone: str) -> str:
    """An instant as a form's field of date and time shows it."""
    return f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%dT%H:%M}"


def written_after(last_at: datetime | None, now: datetime, zone: str) -> str:
    """The present instant as a form's field shows it, to the second; later than the last reading.

    Whole minutes would lie before a reading of this minute, and be held to it as a late one.
    """
    at = now if last_at is None else max(now, last_at + timedelta(seconds=1))
    return f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%dT%H:%M:%S}"


def written_day(at: datetime, zone: str, *, ahead: int = 0) -> str:
    """The local day of an instant, or one after it, as a form's field of a date shows it."""
    return (at.astimezone(ZoneInfo(zone)).date() + timedelta(days=ahead)).isoformat()


def key_of(request: HttpRequest) -> str:
    """The idempotency key that a form carries, or a fresh one for a form that is shown first."""
    return request.POST.get("key", "").strip()[:100] or secrets.token_urlsafe(24)


def wants(request: HttpRequest) -> bool:
    """Whether a form was confirmed; before, it is only looked at."""
    return request.POST.get("do") == "confirm"
