"""How long a month takes to leave the database, what it weighs before and after, and how fast it is read.

A city's past is laid down in one month's partition (`past.lay_down`), with the raw reading at the end of each
interval. Then `archive_month` does what `prewatt archive month` does, in a process whose memory is looked
at, and one account's lines are read back out of the file.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psycopg

from prewatt.benchmarks.city import City, fill, kept_database
from prewatt.benchmarks.past import lay_down

_MONTH: Final = date(2026, 11, 1)
_PARTS: Final = ("interval_202611", "register_reading_202611")
#: When no correction can reach the month any more.
_LATER: Final = datetime(2028, 6, 1, tzinfo=UTC)
_QUARTERS_MAX: Final = 1_343
"""From the city's opening to the end of its month."""


@dataclass(frozen=True, slots=True)
class ArchiveFigures:
    """Seconds of each step, bytes of both partitions with their indexes and of both files, and the
    most memory of the process. ``drop_s`` is the transaction that digests once more and drops; ``show_s``
    reads one account's ``shown`` lines out of the month.
    """

    accounts: int
    intervals: int
    readings: int
    interval_s: float
    reading_s: float
    drop_s: float
    verify_s: float
    show_s: float
    shown: int
    bytes_before: int
    bytes_after: int
    resident_mib: int
    load_average: tuple[float, ...]


def measure(*, accounts: int, quarters: int, tell: Callable[[str], None]) -> ArchiveFigures:
    """Fill a city's month, archive it, and read it. Raises ValueError for more than a month."""
    if not 0 < quarters <= _QUARTERS_MAX:
        raise ValueError(f"a month has at most {_QUARTERS_MAX} quarter-hours here")
    city = City(accounts)

    def fill_up(dsn: str) -> None:
        fill(dsn, city, tell=tell)
        lay_down(dsn, city, quarters=quarters, writers=1, tell=tell)
        with psycopg.connect(dsn, autocommit=True) as connection:
            for statement in _THE_REST:
                connection.execute(statement)

    with TemporaryDirectory(prefix="prewatt-") as above:
        Path(above).chmod(0o755 if os.geteuid() == 0 else 0o700)
        with kept_database(Path(above) / "city", fill_up) as dsn, psycopg.connect(dsn) as session:
            return _measured(session, Path(above) / "archive", accounts, tell)


def _measured(
    session: psycopg.Connection[Any], folder: Path, accounts: int, tell: Callable[[str], None]
) -> ArchiveFigures:
    from prewatt.mdm.archive import archive_month
    from prewatt.reports.archive import archived_lines, verify_archive

    with session.transaction():
        session.execute(_NO_MONTH_BEFORE)
    before = _bytes(session)
    at = {"begun": time.monotonic()}

    def after(step: str) -> None:
        at[step] = time.monotonic()
        tell(f"{step}: {at[step] - at['begun']:.1f} s")

    done = archive_month(session, month=_MONTH, folder=folder, now=_LATER, after=after)
    resident_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    begun = time.monotonic()
    lines = archived_lines(folder, account_id=accounts // 2, from_at=None, until_at=None)
    shown = sum(1 for _ in lines)
    show_s = time.monotonic() - begun
    begun = time.monotonic()
    breaches = verify_archive(session, folder)
    assert not breaches, breaches[:3]
    return ArchiveFigures(
        accounts=accounts,
        intervals=done.intervals,
        readings=done.readings,
        interval_s=round(at["interval"] - at["begun"], 1),
        reading_s=round(at["register_reading"] - at["interval"], 1),
        drop_s=round(at["dropped"] - at["verified"], 1),
        verify_s=round(time.monotonic() - begun, 1),
        show_s=round(show_s, 2),
        shown=shown,
        bytes_before=before,
        bytes_after=sum(each.stat().st_size for each in folder.iterdir()),
        resident_mib=resident_mib,
        load_average=tuple(round(each, 2) for each in os.getloadavg()),
    )


def _bytes(session: psycopg.Connection[Any]) -> int:
    row = session.execute(
        "SELECT sum(pg_total_relation_size(p::regclass)) FROM unnest(%s::text[]) AS p",
        [list(_PARTS)],
    ).fetchone()
    session.rollback()
    assert row is not None
    return int(row[0])


def as_text(figures: ArchiveFigures) -> str:
    """A few lines."""
    rows = figures.intervals + figures.readings
    return (
        f"{figures.intervals:,} intervals and {figures.readings:,} readings of {figures.accounts:,} accounts\n"
        f"intervals: digested, written, read back in {figures.interval_s} s; readings in {figures.reading_s} s; "
        f"digested once more and dropped in {figures.drop_s} s\n"
        f"on disk: {figures.bytes_before / 1e6:,.0f} MB before, {figures.bytes_after / 1e6:,.0f} MB after "
        f"({figures.bytes_before / rows:.0f} and {figures.bytes_after / rows:.0f} bytes a row)\n"
        f"one account's {figures.shown:,} lines out of the file: {figures.show_s} s; the whole archive "
        f"verified: {figures.verify_s} s\n"
        f"most memory of the process {figures.resident_mib:,} MiB; load average "
        + ", ".join(map(str, figures.load_average))
    )


#: The raw readings of the intervals, and that all is posted: no month leaves before.
_THE_REST: Final = (
    """INSERT INTO register_reading (meter_id, register_code, read_at, revision, property_id, account_id,
           value_wh, quality, source, received_at)
       SELECT meter_id, register_code, to_at, 0, property_id, account_id, end_value_wh, quality, source,
           received_at FROM interval_202611""",
    "UPDATE account_state SET posted_interval_no = interval_no",
    "VACUUM ANALYZE register_reading, account_state",
)
#: Months leave oldest first, and those before the city's are empty; each start makes them anew.
_NO_MONTH_BEFORE: Final = """
DO $$ DECLARE part regclass; BEGIN
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits
        WHERE inhparent IN ('interval'::regclass, 'register_reading'::regclass)
          AND inhrelid::regclass::text ~ '_2026(0[0-9]|10)$' LOOP
        EXECUTE 'DROP TABLE ' || part;
    END LOOP;
END $$
"""
