"""Archived months looked at: an account's lines out of their files, and whether the files are whole.

The files of a folder are enough to show lines. To verify, the catalogue says what each file must be, and
each posting says by its hash what its intervals were: archived and live ones together must make it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import psycopg

from prewatt.billing.images import COMMITTED, INTERVAL_IMAGE
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.mdm.archive_files import (
    INTERVAL,
    LAYOUTS,
    ArchiveUnreadable,
    read_batches,
    read_content,
)
from prewatt.runtime.copying import POSTGRES_EPOCH_US, read_records, record_images

Columns = Mapping[str, npt.NDArray[np.int64]]

#: Accounts whose postings are proved at a time: bounds memory.
CHUNK: Final = 200


def archived_lines(
    folder: Path, *, account_id: int, from_at: datetime | None, until_at: datetime | None
) -> Iterator[dict[str, int | str]]:
    """The interval rows of an account that lie in [from, until), in order of month, meter and time.

    Instants are ISO 8601 in UTC, amounts micro-units, energy Wh. Raises ArchiveUnreadable.
    """
    since = -(2**63) if from_at is None else instant_us(from_at)
    until = 2**63 - 1 if until_at is None else instant_us(until_at)
    files = sorted(folder.glob(f"{INTERVAL.base}-*.parquet"))
    if not files:
        raise ArchiveUnreadable(f"{folder} has no file of intervals")
    for path in files:
        for columns in read_batches(path, INTERVAL, (account_id, account_id)):
            wanted = columns["account_id"] == account_id
            wanted &= (columns["to_at"] > since) & (columns["from_at"] < until)
            for at in np.flatnonzero(wanted).tolist():
                yield {
                    name: utc_datetime(int(columns[name][at])).isoformat()
                    if kind == "timestamptz"
                    else int(columns[name][at])
                    for name, kind in INTERVAL.columns.items()
                }


def verify_archive(session: psycopg.Connection[Any], folder: Path) -> list[str]:
    """Every place where files, catalogue, what left of accounts and postings differ, in words."""
    breaches = []
    for base, month, rows, sums, digest, version, name in session.execute(
        """SELECT base, to_char(month, 'YYYY-MM'), rows, sums, digest, digest_version, file_name
           FROM archived_partition ORDER BY month, base"""
    ).fetchall():
        path = folder / name
        if not path.is_file():
            breaches.append(f"{name}: is not there")
            continue
        try:
            found = read_content(path, LAYOUTS[base], version=version)
        except ArchiveUnreadable as error:
            breaches.append(str(error))
            continue
        if (found.rows, found.sums) != (rows, {key: int(value) for key, value in sums.items()}):
            breaches.append(f"{name}: its rows or sums are not those that left in {month}")
        if found.digest != bytes(digest):
            breaches.append(f"{name}: its digest is not that of the rows that left in {month}")
    return breaches or list(_unproved(session, folder))


def _unproved(session: psycopg.Connection[Any], folder: Path) -> Iterator[str]:
    """Postings whose hash archived and live intervals do not make, in words."""
    names = [
        row[0]
        for row in session.execute(
            "SELECT file_name FROM archived_partition WHERE base = 'interval' ORDER BY month"
        ).fetchall()
    ]
    accounts = [
        row[0]
        for row in session.execute(
            "SELECT DISTINCT account_id FROM archived_account ORDER BY account_id"
        ).fetchall()
    ]
    for at in range(0, len(accounts), CHUNK):
        chunk = accounts[at : at + CHUNK]
        intervals = _live_intervals(session, chunk)
        for name in names:
            _add_archived(folder / name, chunk, intervals)
        yield from _differing(session, chunk, intervals)


#: By account and interval_no, the columns that postings commit to; instants in µs since the Unix epoch.
_Intervals = dict[int, dict[int, list[int]]]


def _live_intervals(session: psycopg.Connection[Any], accounts: Sequence[int]) -> _Intervals:
    """What is left of the postings that lack archived intervals."""
    intervals: _Intervals = {account: {} for account in accounts}
    for account, image in session.execute(
        f"""SELECT i.account_id, string_agg({INTERVAL_IMAGE}, ''::bytea ORDER BY i.interval_no)
            FROM interval i WHERE i.account_id = ANY(%s) AND i.interval_no <= (
                SELECT max(p.interval_no_to) FROM posting p JOIN archived_account x USING (account_id)
                WHERE p.account_id = i.account_id AND p.interval_no_from < x.last_interval_no)
            GROUP BY i.account_id""",  # noqa: S608 - our own names
        [list(accounts)],
        binary=True,
    ):
        rows = read_records(image, COMMITTED)
        table = np.column_stack([_from_epoch(name, rows[name]) for name in COMMITTED]).tolist()
        intervals[account] = dict(zip(rows["interval_no"].tolist(), table, strict=True))
    return intervals


def _from_epoch(name: str, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    shift = POSTGRES_EPOCH_US if COMMITTED[name] == "timestamptz" else 0
    return values.astype(np.int64) + shift


def _add_archived(path: Path, accounts: Sequence[int], intervals: _Intervals) -> None:
    for columns in read_batches(path, INTERVAL, (accounts[0], accounts[-1])):
        chosen = np.flatnonzero(np.isin(columns["account_id"], list(accounts)))
        table = np.column_stack([columns[name][chosen] for name in COMMITTED]).tolist()
        numbers = columns["interval_no"][chosen].tolist()
        for account, number, row in zip(
            columns["account_id"][chosen].tolist(), numbers, table, strict=True
        ):
            intervals[account][number] = row


def _differing(
    session: psycopg.Connection[Any], accounts: Sequence[int], intervals: _Intervals
) -> Iterator[str]:
    for account, posting, after, to, version, sealed in session.execute(
        """SELECT p.account_id, p.posting_no, p.interval_no_from, p.interval_no_to, p.hash_version,
                  p.interval_hash
           FROM posting p WHERE p.account_id = ANY(%s) AND EXISTS (
               SELECT FROM archived_account x WHERE x.account_id = p.account_id
                 AND x.first_interval_no <= p.interval_no_to
                 AND x.last_interval_no > p.interval_no_from)
           ORDER BY p.account_id, p.posting_no""",
        [list(accounts)],
    ):
        own = intervals[account]
        missing = [number for number in range(after + 1, to + 1) if number not in own]
        if missing:
            yield f"account {account} posting {posting}: interval {missing[0]} is nowhere"
            continue
        image = _IMAGES[version]([own[number] for number in range(after + 1, to + 1)])
        if hashlib.sha256(image).digest() != bytes(sealed):
            yield f"account {account} posting {posting}: its intervals do not make its hash"


def _as_text(rows: Sequence[Sequence[int]]) -> bytes:
    """Version 2: a line for each interval, ``v2`` and its columns parted by ``|``."""
    return "\n".join("|".join(("v2", *map(str, row))) for row in rows).encode()


def _as_records(rows: Sequence[Sequence[int]]) -> bytes:
    """Version 3: what ``record_send`` makes of each."""
    columns = np.array(rows, dtype=np.int64).T
    return record_images(
        {name: (kind, columns[at]) for at, (name, kind) in enumerate(COMMITTED.items())}
    ).tobytes()


#: What is hashed of a posting's intervals, by ``posting.hash_version``.
_IMAGES: Final = {2: _as_text, 3: _as_records}
