"""Usage that turns out to be the next payer's: taken back from one account, charged to another.

Somebody left while the meter went on reporting, and their account was charged for what came after.
The interval that holds the boundary is divided at it; what lies before stays where it was, and every
interval after it is taken back at exactly what it came to and charged to the next account, between
the same readings, under that account's own tariff. No watt-hour is lost, made or charged twice.

A register that nobody read at the boundary is interpolated pro rata by time in whole counts, cut off:
the very rule by which an interval is divided at a change of price. Both halves are then estimates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from django.db import connection

from prewatt.billing.backfill import NewIntervals, Replacement, no_replacement
from prewatt.billing.backfill import old_columns as columns_of
from prewatt.billing.charging import Lines, charge_lines
from prewatt.billing.recutting import (
    Stretch,
    next_revisions,
    segment_value,
    stretches_after,
)
from prewatt.billing.states import States, lock_states
from prewatt.billing.tariffs import TariffBook
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.edits import Point, Register, judge_points
from prewatt.core.readings import ACTIVE_IMPORT, Quality, ReadingSource
from prewatt.core.vee import Verdict
from prewatt.mdm.archived import correctable_from_us
from prewatt.runtime.copying import INFINITY_US


class BoundaryRefused(Exception):
    """No payer can change at that instant with that register; nothing was changed."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.name)
        self.verdict = verdict


@dataclass(frozen=True, slots=True)
class Half:
    """An interval as the next account is charged for it, with where it came from."""

    start_at_us: int
    end_at_us: int
    start_value: int
    end_value: int
    energy_wh: int
    quality: int
    source: int
    received_at_us: int


@dataclass(frozen=True, slots=True)
class PassedOn:
    """What a meter counted after a boundary, out of one account's charges, for the next account.

    ``charged_before_micro`` is what the intervals that end after the boundary had been charged.
    """

    meter_id: int
    at_us: int
    register_wh: int
    multiplier: int
    halves: tuple[Half, ...]
    charged_before_micro: int

    @property
    def energy_wh(self) -> int:
        """What changes its payer."""
        return sum(each.energy_wh for each in self.halves)


def register_at(*, account_id: int, meter_id: int, at: datetime) -> int | None:
    """The register at an instant that is charged already: read then, or interpolated.

    None where nothing after the instant is charged. The account is locked.
    """
    stretches = stretches_after(account_id=account_id, meter_id=meter_id, at=at)
    if not stretches or stretches[0].start_at_us > instant_us(at):
        return None
    states = lock_states(np.array([meter_id], dtype=np.int64))
    modulus = int(states.watermarks.register_modulus[_row(states, account_id)])
    return _interpolated(stretches[0], instant_us(at), modulus)


def take_back(
    *, account_id: int, meter_id: int, at: datetime, value_wh: int, is_read: bool, now: datetime
) -> PassedOn:
    """Take back what an account was charged for a meter after ``at``, where its register was so.

    The account's watermark goes back to the boundary. ``is_read`` says that somebody read the
    register; otherwise it is ``register_at``'s. The caller holds the account's lock and charges the
    next account in this transaction. Raises BoundaryRefused.
    """
    states = lock_states(np.array([meter_id], dtype=np.int64))
    row, at_us = _row(states, account_id), instant_us(at)
    stretches = stretches_after(account_id=account_id, meter_id=meter_id, at=at)
    if not stretches or min(at_us, stretches[0].start_at_us) < correctable_from_us(account_id):
        raise BoundaryRefused(Verdict.ARCHIVED)
    first, *later = stretches
    stays, goes = _divided(first, at_us, value_wh, _register(states, row), is_read=is_read, now=now)
    charge_lines(
        _superseding(states, row, stretches, stays),
        _with_multiplier(states, row, first.multiplier),
        now=now,
        book=TariffBook(),
    )
    _move_watermark(states, row, at, value_wh)
    if stays:
        _store_reading(states, row, at, value_wh, is_read=is_read, now=now)
    return PassedOn(
        meter_id=meter_id,
        at_us=at_us,
        register_wh=value_wh,
        multiplier=first.multiplier,
        halves=(*goes, *(_as_it_was(each) for each in later)),
        charged_before_micro=sum(each.charged_micro for each in stretches),
    )


def charge_on(*, account_id: int, passed: PassedOn, now: datetime) -> None:
    """Charge an account for what was taken back from the one before it.

    Its watermark stands at the boundary, and moves on to where the former one's stood.
    """
    states = lock_states(np.array([passed.meter_id], dtype=np.int64))
    row = _row(states, account_id)
    if int(states.watermarks.last_at_us[row]) != passed.at_us:
        raise AssertionError("the next account does not begin at the boundary")
    revisions = next_revisions(states, row, [each.start_at_us for each in passed.halves])
    charge_lines(
        _lines(row, passed.halves, revisions, no_replacement()),
        _with_multiplier(states, row, passed.multiplier),
        now=now,
        book=TariffBook(),
    )
    last = passed.halves[-1]
    _move_watermark(states, row, utc_datetime(last.end_at_us), last.end_value)


def _row(states: States, account_id: int) -> int:
    """The open watermark of an account that pays by the meter."""
    marks = states.watermarks
    found = np.flatnonzero(
        (states.account_id == account_id)
        & (states.register_code == ACTIVE_IMPORT)
        & (marks.closed_at_us >= INFINITY_US)
    )
    if found.size != 1:
        raise AssertionError(f"account {account_id} has {found.size} open watermarks of a meter")
    return int(found[0])


def _register(states: States, row: int) -> Register:
    marks = states.watermarks
    return Register(
        modulus=int(marks.register_modulus[row]),
        wh_per_count=int(marks.wh_per_count[row]),
        max_power_w=int(marks.max_power_w[row]),
        period_us=int(marks.period_us[row]),
    )


def _with_multiplier(states: States, row: int, multiplier: int) -> States:
    """The multiplier that the intervals were counted with."""
    by_meter = states.watermarks.wh_per_count.copy()
    by_meter[row] = multiplier
    return replace(states, watermarks=replace(states.watermarks, wh_per_count=by_meter))


def _interpolated(stretch: Stretch, at_us: int, modulus: int) -> int:
    """Counts pro rata by time, cut off."""
    counts = stretch.energy_wh // stretch.multiplier
    gone, whole = at_us - stretch.start_at_us, stretch.end_at_us - stretch.start_at_us
    return (stretch.start_value + counts * gone // whole) % modulus


def _divided(
    stretch: Stretch, at_us: int, value: int, register: Register, *, is_read: bool, now: datetime
) -> tuple[list[Half], list[Half]]:
    """What of an interval stays with the former payer, and what goes to the next.

    All of it goes when it begins with the boundary. Raises BoundaryRefused.
    """
    if stretch.start_at_us == at_us:
        if value != stretch.start_value:
            raise BoundaryRefused(Verdict.CONFLICT)
        return [], [_as_it_was(stretch)]
    if is_read:
        energy, qualities = _judged(stretch, at_us, value, register, now)
    else:
        counts = (value - stretch.start_value) % register.modulus
        energy = counts * stretch.multiplier
        qualities = int(Quality.ESTIMATED), int(Quality.ESTIMATED)
    stays = Half(
        stretch.start_at_us, at_us, stretch.start_value, value, energy, qualities[0],
        int(ReadingSource.MANUAL), instant_us(now),
    )  # fmt: skip
    goes = Half(
        at_us, stretch.end_at_us, value, stretch.end_value, stretch.energy_wh - energy,
        qualities[1], segment_value(stretch, "source"), segment_value(stretch, "received_at"),
    )  # fmt: skip
    return [stays], [goes]


def _judged(
    stretch: Stretch, at_us: int, value: int, register: Register, now: datetime
) -> tuple[int, tuple[int, int]]:
    """Energy up to a register that somebody read, and the quality of both halves."""
    points = [
        Point(stretch.start_at_us, stretch.start_value),
        Point(at_us, value),
        Point(stretch.end_at_us, stretch.end_value),
    ]
    ways = judge_points(points, register, now_us=instant_us(now))
    for way in ways:
        if way.verdict is not Verdict.ACCEPTED:
            raise BoundaryRefused(way.verdict)
    if sum(each.energy_wh for each in ways) != stretch.energy_wh:
        # The register would go round once more.
        raise BoundaryRefused(Verdict.IMPLAUSIBLE)
    first, second = (
        int(Quality.ESTIMATED if each.quality is Quality.ESTIMATED else Quality.MEASURED)
        for each in ways
    )
    return ways[0].energy_wh, (first, second)


def _as_it_was(stretch: Stretch) -> Half:
    return Half(
        stretch.start_at_us, stretch.end_at_us, stretch.start_value, stretch.end_value,
        stretch.energy_wh, segment_value(stretch, "quality"), segment_value(stretch, "source"),
        segment_value(stretch, "received_at"),
    )  # fmt: skip


def _superseding(states: States, row: int, stretches: list[Stretch], stays: list[Half]) -> Lines:
    """What takes intervals back, with what stays of the first."""
    taken = [(row, *segment) for each in stretches for segment in each.segments]
    revisions = next_revisions(states, row, [each.start_at_us for each in stays])
    empty = np.zeros((9, 0), dtype=np.int64)
    return _lines(row, stays, revisions, Replacement(columns_of(taken), NewIntervals(*empty)))


def _lines(
    row: int, halves: list[Half] | tuple[Half, ...], revisions: list[int], taken: Replacement
) -> Lines:
    size = len(halves)

    def column(name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([getattr(each, name) for each in halves], dtype=np.int64)

    return Lines(
        row=np.full(size, row, dtype=np.int64),
        start_at_us=column("start_at_us"),
        end_at_us=column("end_at_us"),
        start_value=column("start_value"),
        end_value=column("end_value"),
        energy_wh=column("energy_wh"),
        revision=np.array(revisions, dtype=np.int64),
        quality=column("quality"),
        source=column("source"),
        received_at_us=column("received_at_us"),
        is_again=np.full(size, taken.old["row"].size > 0),
        replacement=taken,
    )


def _move_watermark(states: States, row: int, at: datetime, value_wh: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE meter_state SET last_at = %s, last_value_wh = %s
               WHERE account_id = %s AND meter_id = %s AND register_code = %s
                 AND closed_at = 'infinity' AND last_at = %s""",
            [
                at,
                value_wh,
                int(states.account_id[row]),
                int(states.meter_id[row]),
                ACTIVE_IMPORT,
                utc_datetime(int(states.watermarks.last_at_us[row])),
            ],
        )
        if cursor.rowcount != 1:
            raise AssertionError("the watermark is not where it was read")


def _store_reading(
    states: States, row: int, at: datetime, value_wh: int, *, is_read: bool, now: datetime
) -> None:
    """The reading at the boundary, which closes the former payer's register."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO register_reading (meter_id, register_code, read_at, revision, property_id,
                   account_id, value_wh, quality, source, received_at)
               SELECT %(meter)s, %(register)s, %(at)s,
                      coalesce((SELECT max(revision) + 1 FROM register_reading
                                WHERE meter_id = %(meter)s AND register_code = %(register)s
                                  AND read_at = %(at)s), 0),
                      %(property)s, %(account)s, %(value)s, %(quality)s, %(source)s, %(now)s""",
            {
                "meter": int(states.meter_id[row]),
                "register": int(ACTIVE_IMPORT),
                "at": at,
                "property": int(states.property_id[row]),
                "account": int(states.account_id[row]),
                "value": value_wh,
                "quality": int(Quality.MEASURED if is_read else Quality.ESTIMATED),
                "source": int(ReadingSource.MANUAL),
                "now": now,
            },
        )
