"""Late readings inside an interval already charged: re-split it, never change its energy total.

The interval between two readings keeps its registers at both ends. A reading that arrives late and
lies between them in time and value cuts it in two; the superseded segments are taken back at the
price they were charged at, the parts are rated anew, and the difference in money falls out of the
sum. Nothing is updated: a revision is new rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from django.db import connection

from prewatt.billing.usage import STANDS
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import utc_datetime
from prewatt.core.readings import ReadingBatch
from prewatt.core.vee import Verdict
from prewatt.mdm.archived import archived_purchasers, correctable_from_us

REVISION_MAX: Final = 32_000
"""The latest revision that a late reading may make of an interval. Each of them makes one, so a meter could
use up what a smallint holds; the rest is kept for corrections, which nobody but us asks for.
"""

OLD_COLUMNS = (
    "row",
    "start_at",
    "revision",
    "segment",
    "from_at",
    "to_at",
    "start_value_wh",
    "end_value_wh",
    "energy_wh",
    "quality",
    "source",
    "received_at",
    "tariff_version_id",
    "band",
    "price_nano",
    "step",
    "charge_energy",
    "charge_fee",
    "charge_tax",
    "charge_subsidy",
    "rest_energy",
    "rest_fee",
    "rest_tax",
    "rest_subsidy",
)


@dataclass(frozen=True, slots=True, eq=False)
class NewIntervals:
    """Intervals to rate, as columns; ``row`` is the caller's ``meter_state`` row."""

    row: Int64
    start_at_us: Int64
    end_at_us: Int64
    start_value: Int64
    end_value: Int64
    energy_wh: Int64
    revision: Int64
    source: Int64
    received_at_us: Int64


@dataclass(frozen=True, slots=True, eq=False)
class Replacement:
    """Superseded segments (columns named as in ``interval``, plus ``row``) and what replaces them."""

    old: dict[str, Int64]
    new: NewIntervals


def replace_intervals(
    *,
    batch: ReadingBatch,
    row: Int64,
    account_id: Int64,
    multiplier: Int64,
    verdict: npt.NDArray[np.int8],
    least_gap_us: int,
) -> Replacement:
    """Work out what the BACKFILL rows of a judged batch supersede.

    ``verdict`` is corrected in place: a late reading that repeats a known one is a DUPLICATE, one
    that contradicts it a CONFLICT, one nearer than ``least_gap_us`` to another TOO_CLOSE, one outside
    the registers of its interval BACKWARDS, one whose interval is archived, or is counted with such,
    ARCHIVED, one whose interval has had `REVISION_MAX` revisions WORN.
    """
    late = np.flatnonzero(np.isin(verdict, [Verdict.BACKFILL, Verdict.CONFLICT]))
    old: list[tuple[int, ...]] = []
    new: list[tuple[int, ...]] = []
    late = _without_repeats(batch, late, verdict)
    late = _without_archived(batch, account_id[row], late, verdict)
    if late.size:
        covering = _covering(batch, row, account_id, late)
        by_interval = sorted(late.tolist(), key=lambda at: (row[at], batch.read_at_us[at]))
        for _, group in groupby(by_interval, key=lambda at: _interval_key(covering, at)):
            of_interval = list(group)
            _split(batch, row, multiplier, verdict, covering, of_interval, least_gap_us, old, new)
    return Replacement(old=old_columns(old), new=_new_columns(new))


def no_replacement() -> Replacement:
    """What supersedes nothing."""
    return Replacement(old=old_columns([]), new=_new_columns([]))


def _without_repeats(batch: ReadingBatch, late: Int64, verdict: npt.NDArray[np.int8]) -> Int64:
    """Settle late readings of an instant that is known already; returns those that are new.

    Most late readings are plain repeats (a meter's backlog sent again), so they are told apart by
    the key of ``register_reading`` before anything dearer is asked. LIMIT keeps the planner on that
    key even when statistics are old. What was edited since is a repeat too: the meter says again
    what it said, and a person has said better.
    """
    if late.size == 0:
        return late
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT b.at, r.value_wh
               FROM unnest(%s::bigint[], %s::bigint[], %s::smallint[], %s::timestamptz[])
                   AS b(at, meter_id, register_code, read_at)
               CROSS JOIN LATERAL (
                   SELECT value_wh FROM register_reading r
                   WHERE r.meter_id = b.meter_id AND r.register_code = b.register_code
                     AND r.read_at = b.read_at ORDER BY revision DESC LIMIT 1000
               ) r""",
            [
                late.tolist(),
                batch.meter_id[late].tolist(),
                batch.register_code[late].tolist(),
                [utc_datetime(each) for each in batch.read_at_us[late].tolist()],
            ],
        )
        known = cursor.fetchall()
    said: dict[int, set[int]] = {}
    for at, value in known:
        said.setdefault(at, set()).add(value)
    for at, values in said.items():
        same = int(batch.value_wh[at]) in values
        verdict[at] = Verdict.DUPLICATE if same else Verdict.CONFLICT
    return np.flatnonzero(verdict == Verdict.BACKFILL)


def _without_archived(
    batch: ReadingBatch, account_id: Int64, late: Int64, verdict: npt.NDArray[np.int8]
) -> Int64:
    """Hold late readings of a time that cannot be rated anew any more; returns the others."""
    if late.size == 0:
        return late
    gone = batch.read_at_us[late] < correctable_from_us()
    if gone_since := archived_purchasers(np.unique(account_id[late]).tolist()):
        gone |= np.isin(account_id[late], list(gone_since))
    verdict[late[gone]] = Verdict.ARCHIVED
    return late[~gone]


def _interval_key(covering: dict[int, list[tuple[Any, ...]]], at: int) -> tuple[int, ...]:
    segments = covering.get(at)
    return (-1, at) if not segments else (segments[0][1], segments[0][2], segments[0][3])


def _split(
    batch: ReadingBatch,
    row: Int64,
    multiplier: Int64,
    verdict: npt.NDArray[np.int8],
    covering: dict[int, list[tuple[Any, ...]]],
    group: list[int],
    least_gap_us: int,
    old: list[tuple[int, ...]],
    new: list[tuple[int, ...]],
) -> None:
    """Cut one charged interval at the late readings that belong inside it."""
    segments = covering.get(group[0])
    # An interval that ends before the instant is not its own: that one has been archived.
    if not segments or int(batch.read_at_us[group[-1]]) >= max(each[6] for each in segments):
        for at in group:
            verdict[at] = Verdict.BEFORE_OPENING
        return
    start, end = segments[0][2], max(each[6] for each in segments)
    first_value, last_value = segments[0][7], segments[0][8]
    cuts: list[tuple[int, int, int]] = []
    known = {start: first_value}
    lowest, latest = first_value, start
    for at in group:
        instant, value = int(batch.read_at_us[at]), int(batch.value_wh[at])
        if instant in known:
            verdict[at] = Verdict.DUPLICATE if known[instant] == value else Verdict.CONFLICT
        elif min(instant - latest, end - instant) < least_gap_us:
            verdict[at] = Verdict.TOO_CLOSE
        elif not _between(lowest, value, last_value):
            verdict[at] = Verdict.BACKWARDS
        else:
            cuts.append((instant, value, at))
            known[instant], lowest, latest = value, value, instant
    if not cuts:
        return
    if segments[0][3] >= REVISION_MAX:
        for _, _, at in cuts:
            verdict[at] = Verdict.WORN
        return
    old.extend((int(row[group[0]]), *each[2:]) for each in segments)
    revision = segments[0][3] + 1
    points = [(start, first_value, cuts[0][2]), *cuts, (end, last_value, cuts[-1][2])]
    for number, (before, after) in enumerate(pairwise(points)):
        at = after[2]
        new.append(
            (
                int(row[at]),
                before[0],
                after[0],
                before[1],
                after[1],
                (after[1] - before[1]) * int(multiplier[row[at]]),
                revision if number == 0 else 0,
                int(batch.source[at]),
                int(batch.received_at_us[at]),
            )
        )


def _between(low: int, value: int, high: int) -> bool:
    """Whether a register value lies between two others; an interval that rolled over takes no cut."""
    return low <= value <= high


def _covering(
    batch: ReadingBatch, row: Int64, account_id: Int64, late: Int64
) -> dict[int, list[tuple[Any, ...]]]:
    """For each late row, the live segments of the charged interval that contains its instant.

    Live is the latest interval that starts at or before the instant and stands.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _COVERING,
            [
                late.tolist(),
                account_id[row[late]].tolist(),
                batch.meter_id[late].tolist(),
                batch.register_code[late].tolist(),
                [utc_datetime(each) for each in batch.read_at_us[late].tolist()],
            ],
        )
        rows = sorted(cursor.fetchall(), key=itemgetter(0, 4))
    return {at: list(group) for at, group in groupby(rows, key=itemgetter(0))}


#: What ``Replacement.old`` has of a segment ``i``, without ``row``.
SEGMENT_COLUMNS: Final = """
       (date_part('epoch', i.start_at) * 1000000)::bigint, i.revision, i.segment,
       (date_part('epoch', i.from_at) * 1000000)::bigint,
       (date_part('epoch', i.to_at) * 1000000)::bigint,
       i.start_value_wh, i.end_value_wh, i.energy_wh, i.quality, i.source,
       (date_part('epoch', i.received_at) * 1000000)::bigint, i.tariff_version_id, i.band, i.price_nano,
       i.step, i.charge_energy, i.charge_fee, i.charge_tax, i.charge_subsidy,
       i.rest_energy, i.rest_fee, i.rest_tax, i.rest_subsidy"""
_COVERING = f"""
SELECT b.at, i.meter_id, {SEGMENT_COLUMNS}
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::smallint[], %s::timestamptz[])
    AS b(at, account_id, meter_id, register_code, read_at)
CROSS JOIN LATERAL (
    SELECT start_at, revision FROM interval c
    WHERE c.account_id = b.account_id AND c.meter_id = b.meter_id
      AND c.register_code = b.register_code AND c.start_at <= b.read_at AND {STANDS}
    ORDER BY start_at DESC, revision DESC LIMIT 1
) live
CROSS JOIN LATERAL (
    SELECT * FROM interval c
    WHERE c.account_id = b.account_id AND c.meter_id = b.meter_id
      AND c.register_code = b.register_code AND c.start_at = live.start_at
      AND c.revision = live.revision AND c.segment < 10000
    ORDER BY c.segment LIMIT 10000
) i
"""  # noqa: S608 - only our own constants are put in


def old_columns(rows: list[tuple[int, ...]]) -> dict[str, Int64]:
    """Superseded segments as the columns of ``Replacement.old``."""
    table = np.array(rows, dtype=np.int64).reshape(len(rows), len(OLD_COLUMNS))
    return {name: table[:, number] for number, name in enumerate(OLD_COLUMNS)}


def _new_columns(rows: list[tuple[int, ...]]) -> NewIntervals:
    table = np.array(rows, dtype=np.int64).reshape(len(rows), 9)
    return NewIntervals(*(table[:, number] for number in range(9)))
