"""`prewatt bill`: what a load costs by month under a price plan, without a database.

The plan is a Prewatt tariff or an OpenEI URDB item, the load a table of intervals. A refusal is
status 2 and one line on standard error that says what and where.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from prewatt.adapters.loads.interval_csv import LoadFile, LoadFileRefused, read_load
from prewatt.adapters.tariffs.openei_urdb import UrdbRefused, is_item, load_item
from prewatt.core.allocation import Allocation, Terms
from prewatt.core.bounds import OverflowRefused
from prewatt.core.civil_time import CivilTimeRefused, LocalCalendar
from prewatt.core.money import MICRO_DIGITS
from prewatt.core.statement import Statement, StatementRefused, bill
from prewatt.core.statement_lines import Month, Part
from prewatt.core.tariff import Tariff, TariffRefused, decimal_text, load_tariff
from prewatt.core.tariff.model import Scale

REFUSED: Final = 2
"""Exit status when the plan, the load or a combination of both is refused."""
_WH_DIGITS: Final = 3
_W_PER_KW: Final = 1000
_KWH: Final = "kwh"
_TOTAL: Final = "total"
_MOST_MEMBERS: Final = 1_000
#: The largest plan is some tens of kilobytes.
_PLAN_BYTES_MAX: Final = 1024 * 1024
_MOST_KW: Final = 1_000_000


class BillRefused(ValueError):
    """There is no bill; the message is one line that says what is refused and where."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A tariff out of a file, and what is to be said of how it was read."""

    tariff: Tariff
    notes: tuple[str, ...] = ()
    is_urdb: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the files, and how the load is to be understood."""
    parser.add_argument(
        "--tariff",
        metavar="FILE",
        type=Path,
        required=True,
        help="a Prewatt tariff or an OpenEI URDB item (JSON)",
    )
    parser.add_argument(
        "--load",
        metavar="FILE.csv",
        type=Path,
        required=True,
        help="a table with the columns interval_start and wh",
    )
    parser.add_argument(
        "--allocation",
        choices=[str(each) for each in Allocation],
        default=str(Allocation.CHRONOLOGICAL),
        help="steps in the order of time, as prepaid usage is charged (the default), or spread over "
        "all that was used in their window",
    )
    parser.add_argument(
        "--time-zone",
        metavar="ZONE",
        help="the place's, such as Europe/Berlin; without it the load's own clock holds, which "
        "knows no daylight saving",
    )
    parser.add_argument(
        "--holidays", metavar="CODE", help="the place's public holidays: DE, DE-HE, CN …"
    )
    parser.add_argument(
        "--members", metavar="N", type=int, help="persons of the household, where limits need them"
    )
    parser.add_argument(
        "--contracted-kw", metavar="KW", type=int, help="contracted power, where limits need it"
    )
    parser.add_argument(
        "--exempt",
        metavar="CODE",
        action="append",
        default=[],
        help="a tax of the tariff that is not charged; may be given again",
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    """Print the bill and return 0, or 2 where something is refused."""
    try:
        plan = _read_plan(arguments.tariff)
        load = _read_load(arguments.load, arguments.time_zone)
        statement = _bill(plan, load, arguments)
    except BillRefused as refused:
        print(f"prewatt: {_on_one_line(str(refused))}", file=sys.stderr)
        return REFUSED
    if arguments.format == "json":
        print(json.dumps(as_json(statement)))
    else:
        print("\n".join(as_text(plan, statement, Allocation(arguments.allocation))))
    return 0


def as_json(statement: Statement) -> dict[str, object]:
    """`{currency, months: [{month, kwh, energy, fixed, demand, minimum, tax, total}], annual}`;
    `annual` has the same amounts as a month. All are decimal strings.

    Each part is rounded to a millionth of the currency, half to even; totals and the year are the
    sums of what is printed.
    """
    months = [_Rounded.of(month) for month in statement.months]
    return {
        "currency": statement.currency,
        "months": [
            {"month": f"{month.first_day:%Y-%m}"} | rounded.texts()
            for month, rounded in zip(statement.months, months, strict=True)
        ],
        "annual": _Rounded.sum_of(months).texts(),
    }


def as_text(plan: Plan, statement: Statement, allocation: Allocation) -> list[str]:
    """The same as a table, without parts that are nothing throughout, and the energy of the whole
    load by band, step and price.
    """
    months = [_Rounded.of(month) for month in statement.months]
    names = [*(f"{month.first_day:%Y-%m}" for month in statement.months), "all"]
    texts = [
        {"month": name} | rounded.texts()
        for name, rounded in zip(names, [*months, _Rounded.sum_of(months)], strict=True)
    ]
    shown = ["month", _KWH, *(part for part in Part if any(each.has(part) for each in months))]
    table = [
        [*map(str, shown), _TOTAL],
        *([each[key] for key in (*shown, _TOTAL)] for each in texts),
    ]
    steps = "in the order of time" if allocation is Allocation.CHRONOLOGICAL else "pro rata"
    lines = [f"{plan.tariff.name} ({statement.currency}), steps {steps}", "", *_table(table), ""]
    lines += _table([["energy of", "step", _KWH, "price", "amount"], *_energy_rows(statement)])
    if plan.notes:
        lines += ["", *(f"Note: {each}." for each in plan.notes)]
    return [_on_one_line(line) for line in lines]


def _read_plan(path: Path) -> Plan:
    try:
        with path.open("rb") as stream:
            text = stream.read(_PLAN_BYTES_MAX + 1)
    except OSError as error:
        raise BillRefused(f"{path}: {error.strerror}") from error
    if len(text) > _PLAN_BYTES_MAX:
        raise BillRefused(f"{path}: there are more than {_PLAN_BYTES_MAX} bytes")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    try:
        if is_item(document):
            item = load_item(text)
            return Plan(item.tariff, item.notes, is_urdb=True)
        if document is not None and not (isinstance(document, dict) and "format" in document):
            raise BillRefused(f"{path}: is neither a Prewatt tariff nor an OpenEI URDB item")
        return Plan(load_tariff(text))
    except (TariffRefused, UrdbRefused) as refused:
        raise BillRefused(f"{path}: {refused}") from refused


def _read_load(path: Path, time_zone: str | None) -> LoadFile:
    try:
        with path.open("rb") as stream:
            return read_load(stream, time_zone)
    except OSError as error:
        raise BillRefused(f"{path}: {error.strerror}") from error
    except LoadFileRefused as refused:
        raise BillRefused(f"{path}: {refused}") from refused
    except CivilTimeRefused as refused:
        raise BillRefused(f"--time-zone: {refused}") from refused


def _bill(plan: Plan, load: LoadFile, arguments: argparse.Namespace) -> Statement:
    try:
        return bill(
            plan.tariff,
            _calendar(plan, load, arguments.holidays),
            load.axis,
            load.energy_wh,
            allocation=Allocation(arguments.allocation),
            terms=_terms(plan.tariff, arguments),
            exempt=_exempt(plan.tariff, arguments.exempt),
        )
    except StatementRefused as refused:
        raise BillRefused(f"{arguments.tariff}: {refused}") from refused
    except (CivilTimeRefused, OverflowRefused) as refused:
        raise BillRefused(f"{arguments.load}: {refused}") from refused


def _calendar(plan: Plan, load: LoadFile, code: str | None) -> LocalCalendar:
    if not code:
        return LocalCalendar(load.time_zone)
    if plan.is_urdb:
        raise BillRefused("--holidays: a URDB item has no prices for holidays")
    from prewatt.estate.calendars import UnknownCalendar, local_calendar

    place = LocalCalendar(load.time_zone)
    first, last = (place.local_date(at).year for at in (load.axis.from_us, load.axis.until_us))
    try:
        return local_calendar(load.time_zone, code, first, last)
    except UnknownCalendar as error:
        raise BillRefused(f"--holidays: {error}") from error


def _terms(tariff: Tariff, arguments: argparse.Namespace) -> Terms | None:
    """What was said of the contract; None where the limits need what was not."""
    for name, value, most in (
        ("--members", arguments.members, _MOST_MEMBERS),
        ("--contracted-kw", arguments.contracted_kw, _MOST_KW),
    ):
        if value is not None and not 0 < value <= most:
            raise BillRefused(f"{name}: must be from 1 to {most}")
    needed = {Scale.MEMBERS: arguments.members, Scale.CONTRACTED_KW: arguments.contracted_kw}
    if tariff.steps and needed.get(tariff.steps.scale, 1) is None:
        return None
    return Terms(arguments.members or 1, (arguments.contracted_kw or 0) * _W_PER_KW)


def _exempt(tariff: Tariff, codes: Sequence[str]) -> frozenset[str]:
    known = {tax.code for tax in tariff.taxes}
    for code in codes:
        if code not in known:
            raise BillRefused(f"--exempt: the tariff has no tax {code!r}")
    return frozenset(codes)


@dataclass(frozen=True, slots=True)
class _Rounded:
    """A month, or a sum of months: Wh, and each part in whole micro-units."""

    energy_wh: int
    parts: tuple[int, ...]

    @classmethod
    def of(cls, month: Month[Fraction]) -> _Rounded:
        """Python rounds fractions half to even."""
        return cls(int(month.energy_wh), tuple(round(each) for each in month.amounts().values()))

    @classmethod
    def sum_of(cls, months: Sequence[_Rounded]) -> _Rounded:
        """What is printed of several months, added up."""
        parts = zip(*(each.parts for each in months), strict=True)
        return cls(sum(each.energy_wh for each in months), tuple(map(sum, parts)))

    def texts(self) -> dict[str, str]:
        """The values of JSON by their keys."""
        amounts = dict(zip(map(str, Part), self.parts, strict=True)) | {_TOTAL: sum(self.parts)}
        return {_KWH: _decimal(self.energy_wh, _WH_DIGITS)} | {
            key: _decimal(micro, MICRO_DIGITS) for key, micro in amounts.items()
        }

    def has(self, part: Part) -> bool:
        """Whether a part is not 0."""
        return self.parts[list(Part).index(part)] != 0


def _energy_rows(statement: Statement) -> list[list[str]]:
    """Energy of the whole load by band, step and price."""
    found: dict[tuple[str, int, int], tuple[Fraction, Fraction]] = {}
    for month in statement.months:
        for line in month.energy:
            key = line.label, line.step, line.price_nano_per_kwh
            energy, amount = found.get(key, (Fraction(0), Fraction(0)))
            found[key] = energy + line.energy_wh, amount + line.amount
    return [
        [
            label,
            str(step + 1),
            _decimal(round(energy), _WH_DIGITS),
            decimal_text(price),
            _decimal(round(amount), MICRO_DIGITS),
        ]
        for (label, step, price), (energy, amount) in sorted(found.items())
    ]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _decimal(value: int, digits: int) -> str:
    """A whole number of the last decimal as a plain decimal with all its digits."""
    whole, part = divmod(abs(value), 10**digits)
    return f"{'-' if value < 0 else ''}{whole}.{part:0{digits}d}"


def _on_one_line(text: str) -> str:
    """Text from files, without the signs that would steer a terminal."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
