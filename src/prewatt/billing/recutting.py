"""A charged reading that was put right: the intervals that touch it are superseded and rated anew.

Two intervals share a reading. When its value changes, energy moves from the one to the other; when
it is withdrawn, they become one; when it comes back, one becomes two. Whichever it is, their segments
are taken back at what they came to, new ones follow as of their own time, and nothing is updated.
Only at the watermark, where no interval follows yet, does the energy in sum change with the value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, Final

import numpy as np
from django.db import connection

from prewatt.billing.backfill import (
    OLD_COLUMNS,
    SEGMENT_COLUMNS,
    NewIntervals,
    Replacement,
    old_columns,
)
from prewatt.billing.charging import Lines, charge_lines
from prewatt.billing.reversals import CHARGES
from prewatt.billing.states import States
from prewatt.billing.tariffs import TariffBook
from prewatt.billing.usage import STANDS
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.readings import ACTIVE_IMPORT, Quality, ReadingSource


@dataclass(frozen=True, slots=True)
class Stretch:
    """A charged interval that stands, with the registers at both ends, and its segments."""

    start_at_us: int
    end_at_us: int
    start_value: int
    end_value: int
    multiplier: int
    energy_wh: int
    charged_micro: int
    segments: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """An interval as it should be: between two readings, with what the register counted in Wh."""

    start_at_us: int
    end_at_us: int
    start_value: int
    end_value: int
    energy_wh: int
    quality: Quality


def stretches_at(
    *, account_id: int, meter_id: int, at: datetime
) -> tuple[Stretch | None, Stretch | None]:
    """The last interval that begins before an instant, and the one that begins with it.

    The account is locked.
    """
    return (
        _stretch(account_id, meter_id, "c.start_at < %s", at),
        _stretch(account_id, meter_id, "c.start_at = %s", at),
    )


def stretches_after(*, account_id: int, meter_id: int, at: datetime) -> list[Stretch]:
    """The intervals that end after an instant, in the order of time. The account is locked."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT c.multiplier, {SEGMENT_COLUMNS}
                FROM interval c CROSS JOIN LATERAL (SELECT c.*) i
                WHERE c.account_id = %s AND c.meter_id = %s AND c.register_code = %s
                  AND c.start_at >= coalesce((
                      SELECT c.start_at FROM interval c
                      WHERE c.account_id = %s AND c.meter_id = %s AND c.register_code = %s
                        AND c.start_at <= %s AND {STANDS}
                      ORDER BY c.start_at DESC LIMIT 1), %s)
                  AND {STANDS}
                ORDER BY c.start_at, c.segment""",  # noqa: S608 - our own names
            [account_id, meter_id, ACTIVE_IMPORT] * 2 + [at, at],
        )
        found = cursor.fetchall()
    # The second column is the start of the interval: a stretch is what has one start.
    whole = (_of_segments(list(rows)) for _, rows in groupby(found, key=itemgetter(1)))
    return [each for each in whole if each.end_at_us > instant_us(at)]


def replace_stretches(
    *,
    states: States,
    row: int,
    old: Sequence[Stretch],
    new: Sequence[Piece],
    now: datetime,
) -> tuple[int, ...]:
    """Supersede intervals of the ``states`` row by others that fill the same time, and charge them.

    Returns the accounts that fell below the level that supply watches, which has decided. Raises
    AssertionError where time or, between two readings that stay, energy would be lost.
    """
    ends = (old[0].start_at_us, old[-1].end_at_us), (new[0].start_at_us, new[-1].end_at_us)
    if ends[0] != ends[1] or any(a.end_at_us != b.start_at_us for a, b in pairwise(new)):
        raise AssertionError("the new intervals do not fill the time of the old ones")
    moved = sum(each.energy_wh for each in new) - sum(each.energy_wh for each in old)
    if moved and new[-1].end_value == old[-1].end_value:
        raise AssertionError(f"{moved} Wh would come from nowhere")
    marks = states.watermarks
    by_meter = marks.wh_per_count.copy()
    by_meter[row] = old[0].multiplier
    return charge_lines(
        _lines(states, row, old, new, now),
        replace(states, watermarks=replace(marks, wh_per_count=by_meter)),
        now=now,
        book=TariffBook(),
    )


def move_watermark(*, states: States, row: int, at: datetime, value_wh: int) -> None:
    """Let a watermark at an instant have another value."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE meter_state SET last_value_wh = %s
               WHERE account_id = %s AND meter_id = %s AND register_code = %s AND last_at = %s
                 AND last_value_wh = %s""",
            [
                value_wh,
                int(states.account_id[row]),
                int(states.meter_id[row]),
                ACTIVE_IMPORT,
                at,
                int(states.watermarks.last_value[row]),
            ],
        )
        if cursor.rowcount != 1:
            raise AssertionError("the watermark is not at the last reading")


def segment_value(stretch: Stretch, name: str) -> int:
    """What the first segment of a stretch says in a column of ``interval``."""
    return stretch.segments[0][_AT[name]]


_CHARGED: Final = tuple(OLD_COLUMNS.index(name) - 1 for name in CHARGES)
_AT: Final = {name: number - 1 for number, name in enumerate(OLD_COLUMNS)}


def _stretch(account_id: int, meter_id: int, where: str, at: datetime) -> Stretch | None:
    with connection.cursor() as cursor:
        cursor.execute(
            # The condition is one of the two above.
            f"""SELECT i.multiplier, {SEGMENT_COLUMNS}
                FROM (SELECT c.start_at, c.revision FROM interval c
                      WHERE c.account_id = %s AND c.meter_id = %s AND c.register_code = %s
                        AND {where} AND {STANDS}
                      ORDER BY c.start_at DESC, c.revision DESC LIMIT 1) live
                JOIN interval i ON i.account_id = %s AND i.meter_id = %s AND i.register_code = %s
                    AND i.start_at = live.start_at AND i.revision = live.revision
                    AND i.segment < 10000
                ORDER BY i.segment""",  # noqa: S608 - our own names
            [account_id, meter_id, ACTIVE_IMPORT, at, account_id, meter_id, ACTIVE_IMPORT],
        )
        found = cursor.fetchall()
    return _of_segments(found) if found else None


def _of_segments(found: Sequence[tuple[Any, ...]]) -> Stretch:
    """A stretch of its rows: the multiplier, then ``SEGMENT_COLUMNS``."""
    segments = tuple(tuple(int(each) for each in row[1:]) for row in found)
    first, last = segments[0], segments[-1]
    return Stretch(
        start_at_us=first[_AT["start_at"]],
        end_at_us=last[_AT["to_at"]],
        start_value=first[_AT["start_value_wh"]],
        end_value=first[_AT["end_value_wh"]],
        multiplier=int(found[0][0]),
        energy_wh=sum(each[_AT["energy_wh"]] for each in segments),
        charged_micro=sum(each[at] for each in segments for at in _CHARGED),
        segments=segments,
    )


def _lines(
    states: States, row: int, old: Sequence[Stretch], new: Sequence[Piece], now: datetime
) -> Lines:
    size = len(new)

    def column(values: Sequence[int]) -> Int64:
        return np.array(values, dtype=np.int64)

    intervals = NewIntervals(
        row=np.full(size, row, dtype=np.int64),
        start_at_us=column([each.start_at_us for each in new]),
        end_at_us=column([each.end_at_us for each in new]),
        start_value=column([each.start_value for each in new]),
        end_value=column([each.end_value for each in new]),
        energy_wh=column([each.energy_wh for each in new]),
        revision=column(next_revisions(states, row, [each.start_at_us for each in new])),
        source=np.full(size, int(ReadingSource.MANUAL), dtype=np.int64),
        received_at_us=np.full(size, instant_us(now), dtype=np.int64),
    )
    taken = [(row, *segment) for each in old for segment in each.segments]
    return Lines(
        row=intervals.row,
        start_at_us=intervals.start_at_us,
        end_at_us=intervals.end_at_us,
        start_value=intervals.start_value,
        end_value=intervals.end_value,
        energy_wh=intervals.energy_wh,
        revision=intervals.revision,
        quality=column([int(each.quality) for each in new]),
        source=intervals.source,
        received_at_us=intervals.received_at_us,
        is_again=np.ones(size, dtype=np.bool_),
        replacement=Replacement(old=old_columns(taken), new=intervals),
    )


def next_revisions(states: States, row: int, starts_us: Sequence[int]) -> list[int]:
    """The next revision of the intervals that begin at instants: 0 where none ever did."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT coalesce(max(i.revision) + 1, 0)
               FROM unnest(%s::integer[], %s::timestamptz[]) AS s(n, at)
               LEFT JOIN interval i ON i.account_id = %s AND i.meter_id = %s
                   AND i.register_code = %s AND i.start_at = s.at AND i.segment < 10000
               GROUP BY s.n ORDER BY s.n""",
            [
                list(range(len(starts_us))),
                [utc_datetime(each) for each in starts_us],
                int(states.account_id[row]),
                int(states.meter_id[row]),
                ACTIVE_IMPORT,
            ],
        )
        return [int(each) for (each,) in cursor.fetchall()]
