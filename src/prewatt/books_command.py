"""`prewatt books`: recomputes the books from their own rows and says every place that does not hold.

Works with any login that may read all rows: the owner's, or the witness's. It reads one state of the
database, however long it takes, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import psycopg

from prewatt.core.money import format_amount
from prewatt.reports.books import check_books, rests_on_archive
from prewatt.runtime.embedded_postgres import running_postgres
from prewatt.runtime.state import own_directory, state_directory
from prewatt.vending.sums import sums_of

BROKEN = 1
"""Exit status when something does not hold."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the place of the embedded database, and the form of the answer."""
    parser.add_argument(
        "--state-dir",
        type=Path,
        help="whose embedded database (default: the checkout's); PREWATT_DSN goes before it",
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument(
        "--hashes",
        type=_percent,
        default=100,
        metavar="PERCENT",
        help="of how many postings the hash is made again from their intervals; less on a large"
        " database, drawn anew each time (default: 100)",
    )


def _percent(text: str) -> int:
    if not text.isdecimal() or int(text) > 100:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 0 to 100")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Look; returns 1 when something does not hold, each named on its own line."""
    given = arguments.state_dir
    state_dir = state_directory() if given is None else own_directory(given.absolute())
    with running_postgres(state_dir) as dsn, psycopg.connect(dsn) as session:
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.read_only = True
        breaches = check_books(session.cursor(), hashed_percent=arguments.hashes)
        rests = rests_on_archive(session.cursor())
        places = [int(row[0]) for row in session.execute("SELECT id FROM property ORDER BY id")]
        proofs = sums_of(session.cursor(), places)
    breaches += [
        f"property {each.property_id}: cash {each.cash_micro}, ledger {each.ledger_micro} and meter"
        f" credit {each.meters_micro} micro-units are not the same"
        for each in proofs
        if not each.holds
    ]
    if arguments.format == "json":
        archived = {"rests_on_archive": rests} if rests else {}
        print(json.dumps({"ok": not breaches, "breaches": breaches} | archived))
    else:
        for breach in breaches:
            print(breach, file=sys.stderr)
        print(f"{len(breaches)} places do not hold." if breaches else "The books hold.")
        for proof in proofs:
            if proof.holds:
                credit = format_amount(proof.meters_micro, currency="", digits=6).strip()
                print(f"Property {proof.property_id}: cash = ledger = meter credit = {credit}.")
        for each in rests:
            print(each)
    return BROKEN if breaches else 0
