"""`prewatt bench`: measure, and print the figures."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import DataclassInstance

    from prewatt.benchmarks.pysam import PysamFigures
    from prewatt.benchmarks.supply import SupplyFigures

_ITEMS = Path(__file__).parents[3] / "tests" / "data" / "urdb"
_CALLERS = 16
_HEAD = ("", "count", "first", "p50", "p95", "p99", "max")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a sub-command for each thing to measure."""
    commands = parser.add_subparsers(dest="bench_command", required=True)
    supply = commands.add_parser(
        "supply", help="cuts and recharges in a running demo, up to the relay's read-back"
    )
    supply.add_argument("--state-dir", type=Path, help="the demo's (default: the checkout's)")
    supply.add_argument("--cuts", type=int, default=20, help="and as many recharges (default: 20)")
    supply.add_argument("--accounts", type=int, default=10, help="taken in turn (default: 10)")
    supply.add_argument("--format", choices=("text", "json"), default="text")
    trial = commands.add_parser("trial", help="a draft tariff tried on many accounts' real days")
    trial.add_argument("--accounts", type=int, default=10_000, help="(default: 10000)")
    trial.add_argument("--days", type=int, default=30, help="(default: 30)")
    trial.add_argument("--format", choices=("text", "json"), default="text")
    rate = commands.add_parser("rate", help="intervals rated under three bands of three steps")
    rate.add_argument("--accounts", type=int, default=1_000, help="(default: 1000)")
    rate.add_argument("--days", type=int, default=31, help="a batch each (default: 31)")
    rate.add_argument("--rounds", type=int, default=9, help="(default: 9)")
    rate.add_argument(
        "--items",
        type=Path,
        default=_ITEMS,
        help="URDB items and a load to bill beside PySAM, where that is installed (default: the "
        "checkout's)",
    )
    rate.add_argument("--format", choices=("text", "json"), default="text")
    ingest = commands.add_parser("ingest", help="readings a second, from decoded columns to commit")
    ingest.add_argument("--accounts", type=int, default=100_000, help="(default: 100000)")
    ingest.add_argument("--batch", type=int, default=10_000, help="at most (default: 10000)")
    ingest.add_argument(
        "--irregular", type=float, default=0.0, help="share that comes late or twice (default: 0)"
    )
    ingest.add_argument("--writers", type=int, default=2, help="processes (default: 2)")
    ingest.add_argument("--seconds", type=float, default=60, help="to measure (default: 60)")
    _add_database_and_format(ingest)
    posting = commands.add_parser("posting", help="a day of many accounts posted to the ledger")
    posting.add_argument("--accounts", type=int, default=100_000, help="(default: 100000)")
    posting.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    posting.add_argument(
        "--recharges-beside", action="store_true", help="while 16 callers recharge at a desk"
    )
    posting.add_argument(
        "--recharges-a-second",
        type=int,
        default=0,
        help="at most so many beside it (default: as they are answered)",
    )
    _add_database_and_format(posting)
    sold = commands.add_parser("recharge", help="recharges a second at the desk, to the commit")
    sold.add_argument("--accounts", type=int, default=100_000, help="(default: 100000)")
    sold.add_argument("--callers", type=int, default=16, help="at once (default: 16)")
    sold.add_argument("--lanes", type=int, default=1, help="of the desk (default: 1)")
    sold.add_argument("--seconds", type=float, default=30, help="to measure (default: 30)")
    sold.add_argument("--beside-ingest", action="store_true", help="also while readings come in")
    sold.add_argument("--http", action="store_true", help="also by browsers at `prewatt web`")
    _add_database_and_format(sold)
    archive = commands.add_parser("archive", help="a month out of the database into files")
    archive.add_argument("--accounts", type=int, default=7_500, help="(default: 7500)")
    archive.add_argument(
        "--quarters", type=int, default=1_340, help="quarter-hours of the month (default: 1340)"
    )
    archive.add_argument("--format", choices=("text", "json"), default="text")
    back = commands.add_parser("reconnect", help="meters with certificates back at their broker")
    back.add_argument("--meters", type=int, default=2_000, help="(default: 2000)")
    back.add_argument("--format", choices=("text", "json"), default="text")
    _add_walls(commands)
    _add_query(commands)
    _add_instructions(commands)
    _add_wire(commands.add_parser("wire", help="messages a second, from publishing to the balance"))


def _add_database_and_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dsn", help="the owner's, of an empty database (default: a throw-away one)"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")


def _add_wire(wire: argparse.ArgumentParser) -> None:
    wire.add_argument("--accounts", type=int, default=50_000, help="(default: 50000)")
    wire.add_argument("--seconds", type=float, default=30, help="to measure (default: 30)")
    wire.add_argument("--window", type=int, help="readings on the way (default: 16000, or 80000)")
    wire.add_argument(
        "--concentrators",
        type=int,
        help="publish bundles of so many; --accounts then does not count",
    )
    wire.add_argument("--meters-each", type=int, default=200, help="of a bundle (default: 200)")
    wire.add_argument("--intervals-each", type=int, default=4, help="of a meter (default: 4)")
    wire.add_argument("--shards", type=int, default=2, help="of the head-end (default: 2)")
    wire.add_argument("--rate", type=int, help="readings a second (default: as many as go)")
    wire.add_argument("--format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    measured = {
        "supply": _supply,
        "trial": _trial,
        "rate": _rate,
        "ingest": _ingest,
        "posting": _posting,
        "recharge": _recharge,
        "archive": _archive,
        "query": _query,
        "walls": _walls,
        "wire": _wire,
        "instructions": _instructions,
        "reconnect": _reconnect,
    }
    return measured[arguments.bench_command](arguments)


def _reconnect(arguments: argparse.Namespace) -> int:
    from prewatt.benchmarks.reconnect import as_text, measure

    figures = measure(meters=arguments.meters, tell=_tell)
    as_json = arguments.format == "json"
    print(json.dumps(dataclasses.asdict(figures)) if as_json else as_text(figures))
    return 0


def _instructions(arguments: argparse.Namespace) -> int:
    from prewatt.benchmarks.instructions import as_text, measure

    figures = measure(
        meters=arguments.meters, rate=arguments.rate, seconds=arguments.seconds, tell=_tell
    )
    return _show(figures, as_text, arguments)


def _trial(arguments: argparse.Namespace) -> int:
    from prewatt.benchmarks.trial import measure

    figures = measure(accounts=arguments.accounts, days=arguments.days, tell=_tell)
    if arguments.format == "json":
        print(json.dumps(dataclasses.asdict(figures)))
        return 0
    print(
        f"tried {figures.accounts:,} accounts × {figures.days} days ({figures.intervals:,} intervals) "
        f"in {figures.trial_s:.1f} s: {figures.intervals_per_second:,} intervals/s\n"
        f"PostgreSQL gathering the same columns alone: {figures.read_s:.1f} s, "
        f"{figures.ceiling_per_second:,}/s; ratio {figures.ratio:.2f}; load average "
        f"{', '.join(map(str, figures.load_average))}"
    )
    return 0


def _archive(arguments: argparse.Namespace) -> int:
    from prewatt.benchmarks.archive import as_text, measure

    figures = measure(accounts=arguments.accounts, quarters=arguments.quarters, tell=_tell)
    return _show(figures, as_text, arguments)


def _rate(arguments: argparse.Namespace) -> int:
    from prewatt.benchmarks.rate import measure

    figures = measure(accounts=arguments.accounts, days=arguments.days, rounds=arguments.rounds)
    beside = _beside_pysam(arguments.items)
    if arguments.format == "json":
        load = {"load_average": [round(each, 2) for each in os.getloadavg()]}
        pysam = {"pysam": dataclasses.asdict(beside) if beside else None}
        print(json.dumps(dataclasses.asdict(figures) | pysam | load))
        return 0
    print(
        f"rated {figures.intervals_per_second:,} intervals/s on one core (median of "
        f"{figures.rounds} rounds; {figures.batch_intervals:,} intervals of {figures.accounts:,} "
        f"accounts to a batch, p50 {figures.p50} ms, p99 {figures.p99} ms)\n"
        f"with a fee, a tax and free energy as well: {figures.with_extras_per_second:,}/s\n"
        f"numpy multiplying, adding up and dividing the same rows: {figures.ceiling_per_second:,}/s; "
        f"ratio {figures.ratio:.3f}"
    )
    print(
        pysam_text(beside)
        if beside
        else "statements beside PySAM: none, it is not installed or --items is no folder"
    )
    return 0


def _ingest(arguments: argparse.Namespace) -> int:
    from prewatt.benchmarks.ingest import as_text, measure

    figures = measure(
        accounts=arguments.accounts,
        batch=arguments.batch,
        writers=arguments.writers,
        seconds=arguments.seconds,
        irregular=arguments.irregular,
        dsn=arguments.dsn,
        tell=_tell,
    )
    return _show(figures, as_text, arguments)


def _posting(arguments: argparse.Namespace) -> int:
    from prewatt.benchmarks.posting import as_text, measure

    figures = measure(
        accounts=arguments.accounts,
        workers=arguments.workers,
        callers=_CALLERS if arguments.recharges_beside or arguments.recharges_a_second else 0,
        recharges_per_second=arguments.recharges_a_second,
        dsn=arguments.dsn,
        tell=_tell,
    )
    return _show(figures, as_text, arguments)


def _wire(arguments: argparse.Namespace) -> int:
    from prewatt.benchmarks.wire import as_text, measure
    from prewatt.benchmarks.wire_client import Gathering

    gathering = None
    if arguments.concentrators:
        gathering = Gathering(
            arguments.concentrators, arguments.meters_each, arguments.intervals_each
        )
    figures = measure(
        accounts=arguments.accounts,
        seconds=arguments.seconds,
        window=arguments.window or (16_000 if gathering is None else 80_000),
        shards=arguments.shards,
        rate=arguments.rate,
        tell=_tell,
        gathering=gathering,
    )
    return _show(figures, as_text, arguments)


def _beside_pysam(items: Path) -> PysamFigures | None:
    """Statements beside PySAM's, or None where there is no PySAM or nothing to bill."""
    from prewatt.benchmarks import pysam

    return pysam.measure(items) if pysam.is_installed() and items.is_dir() else None


def pysam_text(figures: PysamFigures) -> str:
    """The figures in a line."""
    return (
        f"statements of {figures.loads:,} meters at once under {figures.tariffs} plans: "
        f"{figures.prewatt_us:.0f} µs for a meter's year, PySAM {figures.pysam_us:.0f} µs; "
        f"{figures.ratio:.1f} times as fast (at least {figures.least_ratio:.1f}), largest "
        f"difference {figures.worst_difference:.1e}"
    )


def _recharge(arguments: argparse.Namespace) -> int:
    from prewatt.benchmarks.recharge import as_text, measure

    figures = measure(
        accounts=arguments.accounts,
        callers=arguments.callers,
        lanes=arguments.lanes,
        seconds=arguments.seconds,
        beside_ingest=arguments.beside_ingest,
        http=arguments.http,
        dsn=arguments.dsn,
        tell=_tell,
    )
    return _show(figures, as_text, arguments)


def _add_query(commands: Any) -> None:
    query = commands.add_parser("query", help="pages and lists in a city with history")
    query.add_argument("--accounts", type=int, default=100_000, help="(default: 100000)")
    query.add_argument("--intervals", type=int, default=10_000_000, help="(default: 10000000)")
    query.add_argument("--beside-ingest", action="store_true", help="also while readings come in")
    query.add_argument(
        "--keep", type=Path, help="a folder for the city, which is asked as it stands the next time"
    )
    _add_database_and_format(query)


def _add_instructions(commands: Any) -> None:
    signed = commands.add_parser(
        "instructions", help="recharges to the meter and back: signed, verified, committed"
    )
    signed.add_argument("--meters", type=int, default=2_000, help="(default: 2000)")
    signed.add_argument("--rate", type=int, default=400, help="recharges a second (default: 400)")
    signed.add_argument("--seconds", type=float, default=20, help="to measure (default: 20)")
    signed.add_argument("--format", choices=("text", "json"), default="text")


def _add_walls(commands: Any) -> None:
    walls = commands.add_parser("walls", help="what row-level security costs the hot reads")
    walls.add_argument("--accounts", type=int, default=10_000, help="(default: 10000)")
    walls.add_argument("--intervals", type=int, default=1_000_000, help="(default: 1000000)")
    walls.add_argument("--rounds", type=int, default=60, help="of each, in turn (default: 60)")
    walls.add_argument("--folder", type=Path, help="where the city is kept for the next time")
    _add_database_and_format(walls)


def _walls(arguments: argparse.Namespace) -> int:
    from prewatt.benchmarks.walls import MOST, as_text, measure

    figures = measure(
        accounts=arguments.accounts, intervals=arguments.intervals, rounds=arguments.rounds,
        dsn=arguments.dsn, folder=arguments.folder, tell=_tell,
    )  # fmt: skip
    if arguments.format == "json":
        pages = [dataclasses.asdict(each) for each in figures]
        print(json.dumps({"pages": pages, "load_average": os.getloadavg()}))
    else:
        print(as_text(figures))
    return 0 if all(each.added < MOST for each in figures) else 1


def _query(arguments: argparse.Namespace) -> int:
    from prewatt.benchmarks.query import as_text, measure

    figures = measure(
        accounts=arguments.accounts,
        intervals=arguments.intervals,
        beside_ingest=arguments.beside_ingest,
        dsn=arguments.dsn,
        folder=arguments.keep,
        tell=_tell,
    )
    return _show(figures, as_text, arguments)


def _supply(arguments: argparse.Namespace) -> int:
    from prewatt.benchmarks.running_demo import join

    demo = join(arguments.state_dir)
    from prewatt.benchmarks.supply import measure

    figures = measure(demo, cuts=arguments.cuts, accounts=arguments.accounts, tell=_tell)
    if arguments.format == "json":
        load = {"load_average": [round(each, 2) for each in os.getloadavg()]}
        print(json.dumps(dataclasses.asdict(figures) | load))
    else:
        print(as_text(figures))
    return 0


def as_text(figures: SupplyFigures) -> str:
    """The figures as a table, in milliseconds."""
    rows = [
        ("recharge accepted → relay read back closed", figures.recharge_to_closed),
        ("last gate open → relay read back open", figures.gate_to_open),
        ("cut decided → relay read back open", figures.decided_to_open),
    ]
    lines = [f"{_HEAD[0]:<44}" + "".join(f"{head:>8}" for head in _HEAD[1:])]
    lines += [
        f"{name:<44}{each.count:>8}"
        + "".join(f"{ms:>8.0f}" for ms in (each.first, each.p50, each.p95, each.p99, each.max))
        for name, each in rows
    ]
    gates = ", ".join(f"{name} {count}" for name, count in sorted(figures.last_gates.items()))
    return "\n".join([*lines, f"milliseconds; last gate: {gates}; load {os.getloadavg()[0]:.1f}"])


def _show(
    figures: DataclassInstance,
    as_text: Callable[[Any], str],
    arguments: argparse.Namespace,
) -> int:
    """Print the figures as the caller wants them; the exit status of a measurement that was made."""
    as_json = arguments.format == "json"
    print(json.dumps(dataclasses.asdict(figures)) if as_json else as_text(figures))
    return 0


def _tell(line: str) -> None:
    """Say what is going on, apart from the figures."""
    print(line, file=sys.stderr, flush=True)
