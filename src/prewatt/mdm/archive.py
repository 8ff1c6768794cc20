"""Months of readings and intervals out of the database into files, so that a crash costs nothing.

A month goes in three steps, each of which may be repeated: its two files are written and forced to the
disk; they are read back and held against what the database says in the same snapshot; one transaction
enters them in the catalogue, with what leaves of each account, and drops the partitions. Whatever
happens between, the rows are in the database or in files that were read back, and never in neither.
``archive_month`` in ``sql/0005_archive.sql`` digests the rows once more, under its lock, and drops
nothing that the files do not hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import psycopg

from prewatt.mdm.archive_files import (
    INTERVAL,
    LAYOUTS,
    ArchiveUnreadable,
    Content,
    Layout,
    flush,
    read_content,
    write_file,
)

Session = psycopg.Connection[Any]

#: One archiving at a time: held by the session, whatever its transactions do.
_LOCK: Final = 20569
_TRIES: Final = 5
_WAIT_S: Final = 1.0


class ArchiveRefused(Exception):
    """The month stays in the database; the text says why."""


@dataclass(frozen=True, slots=True)
class Archived:
    """What became of a month; ``is_new``: it was in the database until now."""

    month: date
    intervals: int
    readings: int
    is_new: bool


def months_due(session: Session, *, keep_months: int, now: datetime) -> list[date]:
    """Months with a partition that ended at least ``keep_months`` whole months before this one."""
    if keep_months < 1:
        raise ArchiveRefused("at least one month is kept")
    ordinal = now.astimezone(UTC).year * 12 + now.astimezone(UTC).month - 1 - keep_months
    found = session.execute(
        r"""SELECT to_date(right(c.relname, 6), 'YYYYMM') AS month
            FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
            WHERE h.inhparent = 'interval'::regclass AND c.relname ~ '^interval_\d{6}$'
              AND to_date(right(c.relname, 6), 'YYYYMM') < make_date(%s, %s, 1)
            ORDER BY month""",
        [ordinal // 12, ordinal % 12 + 1],
    ).fetchall()
    session.rollback()
    return [row[0] for row in found]


def archive_month(
    session: Session,
    *,
    month: date,
    folder: Path,
    now: datetime,
    after: Callable[[str], None] = lambda _step: None,
) -> Archived:
    """Archive a month that is due, or find that it is archived already.

    ``session`` is the keeper's or the owner's, outside a transaction. ``after`` is told each step
    that is done: ``interval``, ``register_reading``, ``verified``, ``dropped``. Raises
    ArchiveRefused, and OSError when the folder cannot be written.
    """
    with _alone(session):
        done = _catalogued(session, month)
        if done is not None:
            return done
        _refuse(session, month, now)
        folder.mkdir(parents=True, exist_ok=True)
        flush(folder.parent)
        contents = _write(session, month, folder, after)
        after("verified")
        _drop(session, month, folder, contents, now)
        after("dropped")
    return Archived(month, contents["interval"].rows, contents["register_reading"].rows, True)


class _alone:  # noqa: N801 - it reads as a word of the statement
    """Hold the archive's lock for the session; a transaction must not be open."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> None:
        row = self._session.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK]).fetchone()
        self._session.commit()
        if row != (True,):
            raise ArchiveRefused("another archiving is under way")

    def __exit__(self, *_: object) -> None:
        if self._session.closed:
            return
        self._session.rollback()
        self._session.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
        self._session.commit()


def _catalogued(session: Session, month: date) -> Archived | None:
    found: dict[str, int] = dict(
        session.execute(
            "SELECT base, rows FROM archived_partition WHERE month = %s", [month]
        ).fetchall()
    )
    session.rollback()
    if not found:
        return None
    return Archived(month, found["interval"], found["register_reading"], False)


def _refuse(session: Session, month: date, now: datetime) -> None:
    reasons = session.execute("SELECT archive_refusals(%s, %s)", [month, now]).fetchall()
    session.rollback()
    if reasons:
        raise ArchiveRefused("; ".join(row[0] for row in reasons))


def _write(
    session: Session, month: date, folder: Path, after: Callable[[str], None]
) -> dict[str, Content]:
    """Write both files and hold them against the database, all in one snapshot of it."""
    contents = {}
    session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    try:
        with session.transaction():
            for base, layout in LAYOUTS.items():
                said = _said(session, layout, month)
                path = folder / layout.file_name(f"{month:%Y%m}")
                if not path.exists():
                    with session.cursor().copy(_copy(layout, month)) as blocks:
                        write_file(path, layout, blocks)
                try:
                    found = read_content(path, layout)
                except ArchiveUnreadable as error:
                    raise ArchiveRefused(f"{error}; move it away") from None
                if found != said:
                    raise ArchiveRefused(
                        f"{path.name} is not what the database has: rows came in since it was "
                        "written, or it is of another database; move it away"
                    )
                contents[base] = found
                after(base)
    finally:
        session.isolation_level = None
    return contents


def _said(session: Session, layout: Layout, month: date) -> Content:
    """What the database says of the month's rows."""
    row = session.execute(
        f"SELECT row_count, sums, digest FROM {layout.base}_digest(%s, %s)",  # noqa: S608 - our own names
        _span(month),
    ).fetchone()
    assert row is not None
    return Content(row[0], {name: int(value) for name, value in row[1].items()}, bytes(row[2]))


def _copy(layout: Layout, month: date) -> str:
    since, until = (f"{each:%Y-%m-%d} 00:00:00+00" for each in _span(month))
    # Names and instants of our own.
    return (
        f"COPY (SELECT {', '.join(layout.columns)} FROM {layout.base} "  # noqa: S608 - our own names
        f"WHERE {layout.time} >= '{since}' AND {layout.time} < '{until}' "
        f"ORDER BY {', '.join(layout.key)}) TO STDOUT (FORMAT BINARY)"
    )


def _span(month: date) -> tuple[datetime, datetime]:
    following = date(month.year + month.month // 12, month.month % 12 + 1, 1)
    begin, end = (datetime(each.year, each.month, 1, tzinfo=UTC) for each in (month, following))
    return begin, end


def _drop(
    session: Session, month: date, folder: Path, contents: dict[str, Content], now: datetime
) -> None:
    """Enter the files and drop the partitions, in one transaction.

    It waits half a second for each lock and no longer, because every reading would queue behind it,
    and tries again.
    """
    names = {base: each.file_name(f"{month:%Y%m}") for base, each in LAYOUTS.items()}
    for tries_left in reversed(range(_TRIES)):
        try:
            with session.transaction():
                session.execute(
                    "SELECT archive_month(%s, %s, %s, %s, %s, %s, %s)",
                    [
                        month,
                        contents["interval"].digest,
                        contents["register_reading"].digest,
                        names[INTERVAL.base],
                        names["register_reading"],
                        str(folder.absolute()),
                        now,
                    ],
                )
            return
        except psycopg.errors.ObjectNotInPrerequisiteState as error:
            raise ArchiveRefused(error.diag.message_primary) from None
        except psycopg.errors.LockNotAvailable:
            if not tries_left:
                raise ArchiveRefused(
                    "the tables were in use each time; its files are written, so say it again"
                ) from None
            time.sleep(_WAIT_S)
