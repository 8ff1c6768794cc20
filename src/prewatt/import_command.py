"""`prewatt import`: makes a property from its tables, or says all that is wrong with them.

Works as the owner of PREWATT_DSN's database, like `prewatt migrate`: no other login may add a
property.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from prewatt import wiring
from prewatt.runtime.state import CannotRunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prewatt.estate.sheets import ImportRefused, PropertySheets
    from prewatt.moves.onboarding import ImportReport

REFUSED = 2
"""Exit status when the files are refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the files, and whether to look only."""
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        type=Path,
        help="an XLSX workbook, a zip or folder of CSV files, or CSV files named after their tables",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="say what is wrong or what would be made; write nothing",
    )


def run(arguments: argparse.Namespace) -> int:
    """Import all or nothing; returns 2 when a row is refused, each named on standard error."""
    wiring.start_django()
    from prewatt.estate.sheets import ImportRefused, read_files

    try:
        sheets = read_files(arguments.files)
        report = _import(sheets, only_check=arguments.check)
    except ImportRefused as refused:
        _print_errors(refused)
        return REFUSED
    except OSError as error:
        named = error.filename or arguments.files[0]
        print(f"prewatt: cannot read {_shown(str(named))}: {error.strerror}", file=sys.stderr)
        return REFUSED
    _print_report(report, only_check=arguments.check)
    return 0


def _import(sheets: PropertySheets, *, only_check: bool) -> ImportReport:
    from django.db import DatabaseError, connection

    from prewatt.access.scope import system_actor
    from prewatt.moves.onboarding import check_property, import_property

    act = check_property if only_check else import_property
    try:
        return act(actor=system_actor("import"), sheets=sheets, now=wiring.now())
    except DatabaseError as error:
        first = str(error).strip().partition("\n")[0]
        raise CannotRunError(f"the database refused, nothing was imported: {first}") from error
    finally:
        connection.close()


def _print_errors(refused: ImportRefused) -> None:
    """One line for each bad place: where, what is wrong, what to do."""
    for error in refused.errors:
        print(_shown(str(error)), file=sys.stderr)
    unlisted = refused.total - len(refused.errors)
    more = f", {unlisted} of them not listed" if unlisted else ""
    errors = "1 error" if refused.total == 1 else f"{refused.total} errors"
    print(f"prewatt: nothing was imported, {errors}{more}", file=sys.stderr)


def _print_report(report: ImportReport, *, only_check: bool) -> None:
    print("Nothing is wrong; this would be made:" if only_check else "Imported:")
    for name, count in report.counts.items():
        print(f"  {count:>6}  {name.replace('_', ' ')}")
    print(f"Of the accounts, {report.vacancy_accounts} are the owner's.")
    if report.unpaid_serials:
        _print_serials(report.unpaid_serials)


def _print_serials(serials: Sequence[str]) -> None:
    print(f"Nobody pays by these meters (feeder, sub): {_shown(', '.join(serials))}")


def _shown(text: str) -> str:
    """Text from a file, without the signs that would steer a terminal."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
