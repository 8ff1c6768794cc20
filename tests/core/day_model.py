"""What days cost, from the calendar, fractions and a tariff document as it was written.

Shares no code with `prewatt`. Amounts are micro-units of the currency.
"""

from __future__ import annotations

from calendar import isleap, monthrange
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from math import floor
from typing import Any
from zoneinfo import ZoneInfo

PLACE = ZoneInfo("Europe/Berlin")


@dataclass(frozen=True)
class DayModel:
    """Dated documents of one account, oldest first; ``exempt_from`` is when VAT ends for it.

    The first version, and terms, also hold before their start.
    """

    versions: Sequence[tuple[datetime, Mapping[str, Any]]]
    exempt_from: date | None

    def charged(
        self, opened: datetime, until: datetime | None, at_most: date
    ) -> dict[tuple[str, str], int]:
        """(component, code) → what a life from ``opened`` through ``until`` owes for its days, of
        which those that begin through ``at_most`` are posted.
        """
        day, sums = opened.astimezone(PLACE).date(), defaultdict(Fraction)
        charged: defaultdict[tuple[str, str], int] = defaultdict(int)
        taxes = Fraction(0)
        while day <= at_most:
            begins = datetime.combine(day, time()).replace(tzinfo=PLACE)
            if begins >= opened and (until is None or begins <= until):
                for component, code, amount in self._dated(day):
                    before = floor(sums[component])
                    sums[component] += amount
                    micro = floor(sums[component]) - before
                    charged[component, code] += micro
                    shares = self._taxes(day, component.lower())
                    whole = Fraction(round(sum(shares.values()) * 10**9), 10**9)
                    tax = floor(taxes + micro * whole) - floor(taxes)
                    taxes += micro * whole
                    for tax_code, part in _divided(tax, shares).items():
                        charged["TAX", tax_code] += part
            day += timedelta(days=1)
        return {key: micro for key, micro in charged.items() if micro}

    def _document(self, day: date) -> Mapping[str, Any]:
        begins = datetime.combine(day, time()).replace(tzinfo=PLACE)
        return [doc for at, doc in self.versions if at <= begins or at == self.versions[0][0]][-1]

    def _dated(self, day: date) -> list[tuple[str, str, Fraction]]:
        document = self._document(day)
        found = []
        if "standing" in document:
            found.append(("STANDING", "standing", document["standing"]))
        fees = sorted(document.get("fees", ()), key=lambda each: each["code"])
        found += [("FEE", fee["code"], fee) for fee in fees]
        length = {
            "per_day": 1,
            "per_month": monthrange(day.year, day.month)[1],
            "per_year": 366 if isleap(day.year) else 365,
        }
        parts = []
        for component, code, entry in found:
            (per,) = set(entry) & set(length)
            nano = round(Fraction(entry[per]) * 10**9 / (1 + self._contained(day, component)))
            parts.append((component, code, Fraction(nano, 1000 * length[per])))
        return parts

    def _holding(self, day: date, on: str) -> list[Mapping[str, Any]]:
        taxes = self._document(day).get("taxes", ())
        return [
            tax
            for tax in taxes
            if on in tax.get("on", [on])
            and tax.get("from", "0001-01-01") <= str(day) < tax.get("until", "9999-12-31")
        ]

    def _contained(self, day: date, component: str) -> Fraction:
        return sum(
            (
                Fraction(tax["rate"]) / 100
                for tax in self._holding(day, component.lower())
                if tax.get("inclusive")
            ),
            Fraction(0),
        )

    def _taxes(self, day: date, on: str) -> dict[str, Fraction]:
        exempt = self.exempt_from is not None and day >= self.exempt_from
        return {
            tax["code"]: Fraction(tax["rate"]) / 100
            for tax in self._holding(day, on)
            if not (exempt and tax["code"] == "vat")
        }


def _divided(total: int, shares: Mapping[str, Fraction]) -> dict[str, int]:
    """By a cumulative floor; the last has the rest."""
    whole, running, reached, parts = sum(shares.values()), Fraction(0), 0, {}
    for number, (code, share) in enumerate(shares.items(), 1):
        running += share
        upto = total if number == len(shares) else floor(total * running / whole)
        parts[code], reached = upto - reached, upto
    return parts
