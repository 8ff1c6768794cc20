"""Validation of register readings against each meter's watermark: the V of VEE.

A reading is judged by the last accepted one of its meter, the watermark, and an accepted reading
becomes the next watermark. A held reading never does, so a bad value cannot make the good ones
after it look wrong. Because verdicts depend on the watermark alone, they are the same wherever
batches are cut, as long as a meter's readings come in the order of time.

What a meter can have used is bounded over any span of time and not only between two readings: a bucket
(`MeterWatermarks.ahead_uj`) holds how much more was counted than full power makes, empties at full power, and
takes a second of it and one count. So cutting time into many readings gives nobody more than that once.

A batch is judged in one vectorised pass. Only meters with a reading that this pass finds
irregular are judged again, reading by reading, because there each verdict depends on the one
before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from prewatt.core.bounds import INT64_MAX, Int64, checked_multiply, magnitude
from prewatt.core.civil_time import SECOND_US
from prewatt.core.registers import register_delta

Bool = npt.NDArray[np.bool_]
Int8 = npt.NDArray[np.int8]
Index = npt.NDArray[np.integer]
Scalar = TypeVar("Scalar", bound=np.generic)

OPEN_ENDED_US: Final = 2**63 - 1
"""`closed_at_us` of an assignment that has no end yet."""

MAX_POWER_W: Final = 10**10
MAX_WH_PER_COUNT: Final = 10**9
MAX_MODULUS: Final = 10**18

UJ_PER_WH: Final = 3_600 * SECOND_US
"""A watt for a microsecond is a microjoule."""

# Plausible usage stops growing after ten years of silence, which keeps its product in 64 bits.
_MAX_SILENCE_US: Final = 10 * 366 * 86_400 * SECOND_US
_SECONDS_PER_HOUR: Final = 3_600


class Verdict(IntEnum):
    """Stored as smallint, never renumbered. In the order in which the rules are tried:

    NEGATIVE: the value is below zero. FUTURE: later than now and the clock tolerance.
    BEFORE_OPENING, AFTER_CLOSING: outside the meter's assignment, whose closing instant belongs
    to it. IMPLAUSIBLE: not below the register's modulus, or more than the meter can have counted
    since the watermark, or over any longer span. DUPLICATE: the watermark or the opening reading once more. CONFLICT: the
    same instant as one of these with another value. BACKFILL: earlier than the watermark, inside
    what has been charged; the caller looks the instant up, where the same value is a repeat,
    another value a conflict, and a new instant re-splits without changing the total. BACKWARDS:
    lower than the watermark and not a rollover. TOO_CLOSE: later than the watermark by less than
    the least distance of two readings. ACCEPTED: everything else. UNPRICED is not found here: the
    caller holds a good reading so whose account has no tariff. Nor is ARCHIVED: it would re-split
    what has left the database, or has to be counted with what has. Nor is WORN: what it would re-split
    has been re-split and rated anew so often that its revisions are used up.
    """

    ACCEPTED = 0
    DUPLICATE = 1
    BACKFILL = 2
    CONFLICT = 3
    BACKWARDS = 4
    IMPLAUSIBLE = 5
    FUTURE = 6
    BEFORE_OPENING = 7
    AFTER_CLOSING = 8
    NEGATIVE = 9
    UNPRICED = 10
    ARCHIVED = 11
    TOO_CLOSE = 12
    WORN = 13


VERDICT_NAMES: Final = {verdict: f"mdm.vee.{verdict.name.lower()}" for verdict in Verdict}
"""The stable names under which verdicts are audited and explained, such as `mdm.vee.backwards`."""

HELD_VERDICTS: Final = frozenset(Verdict) - {
    Verdict.ACCEPTED,
    Verdict.DUPLICATE,
    Verdict.BACKFILL,
}
"""The verdicts that open a VEE case: the reading is kept with its reason and charges nothing."""


@dataclass(frozen=True, slots=True)
class MeterWatermarks:
    """What is known of each meter of the batch before it; columns of one length, one per meter.

    `last_*` is the last accepted reading (at first the opening one), `opened_*` the assignment's
    opening reading, `closed_at_us` its end (`OPEN_ENDED_US` while open). `register_modulus` is
    the count at which the register returns to zero, 0 for never. `wh_per_count` ≥ 1 turns
    register counts into Wh, transformer ratios included. `max_power_w` bounds plausible usage.
    `period_us` is the expected distance of two readings, 0 when unknown. `ahead_uj` is how many
    microjoules more than full power the meter has counted up to `last_at_us`, 0 if fewer.
    """

    last_at_us: Int64
    last_value: Int64
    opened_at_us: Int64
    opened_value: Int64
    closed_at_us: Int64
    register_modulus: Int64
    wh_per_count: Int64
    max_power_w: Int64
    period_us: Int64
    ahead_uj: Int64

    def __post_init__(self) -> None:
        ranges = (
            ("last_value", self.last_value, 0, 2**63 - 1),
            ("register_modulus", self.register_modulus, 0, MAX_MODULUS),
            ("wh_per_count", self.wh_per_count, 1, MAX_WH_PER_COUNT),
            ("max_power_w", self.max_power_w, 0, MAX_POWER_W),
            ("period_us", self.period_us, 0, 2**53),
            ("ahead_uj", self.ahead_uj, 0, INT64_MAX),
        )
        for name, column, low, high in ranges:
            if column.size and not low <= int(column.min()) <= int(column.max()) <= high:
                raise ValueError(f"{name} must lie between {low} and {high}")


@dataclass(frozen=True, slots=True)
class VeeLimits:
    """`clock_tolerance_us`: how far ahead of now a reading may be. `gap_periods`: an interval
    longer than so many expected periods jumps over a gap, and the allocation of its energy is an
    estimate. `least_gap_us`: how far apart two readings must be, at least 1. Each reading may be
    off by a count, so the nearer they are, the more of what they add up to is counts that nobody
    can have used. A meter may well speak twice within a second: it tells its register again when its
    relay has moved or its line came back, so the least gap is far less than that. `jitter_us`: by how
    much the distance of two instants may be off, since meters tell whole seconds; so much longer may
    full power have lasted, once and not for each reading.
    """

    clock_tolerance_us: int = 120 * SECOND_US
    gap_periods: int = 2
    least_gap_us: int = 100
    jitter_us: int = SECOND_US


@dataclass(frozen=True, slots=True)
class Validated:
    """One row per reading: `verdict` (int8 of `Verdict`), and where it is ACCEPTED the interval
    that the reading closes, zeros elsewhere: `start_at_us`, `start_value`, `energy_wh`, `rolled`
    (the register passed zero), `jumps_gap`. One row per meter: the watermark after the batch, and
    how far ahead of full power its register is then (`MeterWatermarks.ahead_uj`).
    """

    verdict: Int8
    start_at_us: Int64
    start_value: Int64
    energy_wh: Int64
    rolled: Bool
    jumps_gap: Bool
    last_at_us: Int64
    last_value: Int64
    ahead_uj: Int64

    @property
    def accepted(self) -> Bool:
        """Which rows are accepted."""
        return np.asarray(self.verdict == Verdict.ACCEPTED)


@dataclass(frozen=True, slots=True)
class _Batch:
    meter: Index
    at_us: Int64
    value: Int64
    marks: MeterWatermarks
    latest_us: int
    least_gap_us: int
    jitter_us: int


def validate_readings(
    *,
    meter_index: Index,
    read_at_us: Int64,
    value: Int64,
    watermarks: MeterWatermarks,
    now_us: int,
    limits: VeeLimits,
) -> Validated:
    """Judge a batch of readings, sorted by meter, instant and arrival (`ValueError` otherwise).

    `meter_index` points into `watermarks`; `value` is in register counts. The intervals of one
    meter touch: each accepted reading starts where the accepted one before it ended.
    """
    _refuse_disorder(meter_index, read_at_us)
    latest_us = now_us + limits.clock_tolerance_us
    batch = _Batch(
        meter_index,
        read_at_us,
        value,
        watermarks,
        latest_us,
        limits.least_gap_us,
        limits.jitter_us,
    )
    verdict = _judge_alone(batch)
    _judge_old(batch, verdict)
    undecided = np.flatnonzero(verdict == Verdict.ACCEPTED)
    fresh, repeats_of = _without_repeats(batch, undecided)
    irregular = _judge_chain(batch, fresh, verdict)
    if irregular.size:
        rows = fresh[np.isin(meter_index[fresh], irregular)]
        _judge_in_order(batch, rows.tolist(), verdict)
    first = verdict[repeats_of]
    repeated = np.where(first == Verdict.ACCEPTED, np.int8(Verdict.DUPLICATE), first)
    verdict[np.setdiff1d(undecided, fresh, assume_unique=True)] = repeated
    return _validated(batch, verdict, limits)


def _refuse_disorder(meter_index: Index, read_at_us: Int64) -> None:
    same = meter_index[1:] == meter_index[:-1]
    falls = meter_index[1:] < meter_index[:-1]
    if bool((falls | (same & (read_at_us[1:] < read_at_us[:-1]))).any()):
        raise ValueError("readings are not sorted by meter and instant")


def _judge_alone(batch: _Batch) -> Int8:
    """The verdicts that need neither the watermark nor other readings; ACCEPTED means open."""
    meter, marks = batch.meter, batch.marks
    modulus = marks.register_modulus[meter]
    verdict = np.zeros(batch.at_us.size, dtype=np.int8)
    # Weakest first, because each rule overwrites those before it.
    verdict[(modulus > 0) & (batch.value >= modulus)] = Verdict.IMPLAUSIBLE
    verdict[batch.at_us > marks.closed_at_us[meter]] = Verdict.AFTER_CLOSING
    verdict[batch.at_us < marks.opened_at_us[meter]] = Verdict.BEFORE_OPENING
    verdict[batch.at_us > batch.latest_us] = Verdict.FUTURE
    verdict[batch.value < 0] = Verdict.NEGATIVE
    return verdict


def _judge_old(batch: _Batch, verdict: Int8) -> None:
    """Decide, in place, the readings that are not later than the watermark before the batch.

    None of them can move the watermark, and it never goes back, so this holds for the whole
    batch.
    """
    meter, marks = batch.meter, batch.marks
    old = (verdict == Verdict.ACCEPTED) & (batch.at_us <= marks.last_at_us[meter])
    rows = np.flatnonzero(old)
    if rows.size == 0:
        return
    meter, at_us, value = meter[rows], batch.at_us[rows], batch.value[rows]
    at_last, at_opening = at_us == marks.last_at_us[meter], at_us == marks.opened_at_us[meter]
    known = np.where(at_last, marks.last_value[meter], marks.opened_value[meter])
    same = np.where(value == known, np.int8(Verdict.DUPLICATE), np.int8(Verdict.CONFLICT))
    verdict[rows] = np.where(at_last | at_opening, same, np.int8(Verdict.BACKFILL))


def _without_repeats(batch: _Batch, rows: Int64) -> tuple[Int64, Int64]:
    """Rows without the exact repeats of the row before, and for each repeat the row it repeats."""
    if rows.size == 0:
        return rows, rows
    meter, at_us, value = batch.meter[rows], batch.at_us[rows], batch.value[rows]
    new = np.ones(rows.size, dtype=np.bool_)
    new[1:] = (meter[1:] != meter[:-1]) | (at_us[1:] != at_us[:-1]) | (value[1:] != value[:-1])
    fresh = rows[new]
    return fresh, fresh[np.cumsum(new) - 1][~new]


def _judge_chain(batch: _Batch, rows: Int64, verdict: Int8) -> Index:
    """Judge `rows` as if every one were accepted; returns the meters for which that is not so.

    A meter whose rows all pass against their neighbours has no held row, hence the assumption was
    true. The verdicts of the others are left open.
    """
    counted = _counted(batch, rows)
    regular = counted.plausible & (counted.elapsed_us >= batch.least_gap_us)
    assert bool((verdict[rows] == Verdict.ACCEPTED).all()), "only open rows are judged in a chain"
    irregular: Index = np.unique(batch.meter[rows[~regular]])
    return irregular


@dataclass(frozen=True, slots=True)
class _Counted:
    """What each of some rows says if all of them are accepted: the interval that it closes, in register
    counts, whether its meter can have counted so much, and how far ahead of full power it is then.
    """

    start_at_us: Int64
    start_value: Int64
    elapsed_us: Int64
    delta: Int64
    rolled: Bool
    plausible: Bool
    ahead_uj: Int64


def _counted(batch: _Batch, rows: Int64) -> _Counted:
    meter = batch.meter[rows]
    start_at_us, start_value = _predecessors(batch, rows)
    elapsed_us = batch.at_us[rows] - start_at_us
    counted_us = np.minimum(elapsed_us, _MAX_SILENCE_US)
    delta = register_delta(
        start_value,
        batch.value[rows],
        batch.marks.register_modulus[meter],
        _max_delta(batch.marks, meter, counted_us + batch.jitter_us),
    )
    # Of a meter that says what none can have counted nothing is added up: it is judged in order.
    counts = np.where(delta.plausible, delta.delta, 0)
    ahead_uj, burst_uj = _ahead(batch, meter, counted_us, counts)
    return _Counted(
        start_at_us,
        start_value,
        elapsed_us,
        delta.delta,
        delta.rolled,
        delta.plausible & (ahead_uj <= burst_uj),
        ahead_uj,
    )


def _ahead(batch: _Batch, meter: Index, elapsed_us: Int64, delta: Int64) -> tuple[Int64, Int64]:
    """How far ahead of full power each row's meter is after it, and how far it may be, in µJ.

    The rows of a meter follow one another; each adds what was counted, and takes away what full power
    makes of its time. Hardly any meter counts as much as that, and then there is nothing to add up.
    """
    marks = batch.marks
    burst_uj = _burst_uj(marks, batch.jitter_us)
    before_uj = np.minimum(marks.ahead_uj, burst_uj)
    power_w, wh_per_count = marks.max_power_w[meter], marks.wh_per_count[meter]
    most_uj = burst_uj[meter]
    if (
        magnitude(delta) * magnitude(wh_per_count) * UJ_PER_WH <= INT64_MAX // 2
        and magnitude(power_w) * magnitude(elapsed_us) <= INT64_MAX // 2
    ):
        added_uj = delta * (wh_per_count * UJ_PER_WH) - power_w * elapsed_us
        added_uj = np.clip(added_uj, -most_uj, most_uj + 1)
    else:
        exact = (
            delta.astype(object) * wh_per_count * UJ_PER_WH - power_w.astype(object) * elapsed_us
        )
        # Beyond these a bucket is empty, or spilt, whatever it held.
        added_uj = np.clip(exact, -most_uj, most_uj + 1).astype(np.int64)
    is_near = before_uj > 0
    is_near[meter[added_uj > 0]] = True
    near = np.flatnonzero(is_near[meter])
    ahead_uj = np.zeros_like(added_uj)
    if near.size:
        ahead_uj[near] = _filled(meter[near], added_uj[near], before_uj, burst_uj)
    return ahead_uj, most_uj


def _burst_uj(marks: MeterWatermarks, jitter_us: int) -> Int64:
    """What a meter may be ahead of full power: what its instants may be off, and the one count by which
    two registers that are cut off to whole ones may tell more than was used.
    """
    return np.asarray(marks.max_power_w * jitter_us + marks.wh_per_count * UJ_PER_WH)


def _filled(meter: Index, added: Int64, before: Int64, burst: Int64) -> Int64:
    """Buckets after each addition, never below zero; the rows of a meter follow one another.

    A bucket is the sum so far, less the lowest that the sum has been where that is below zero.
    """
    if magnitude(burst[meter]) * (meter.size + 2) > INT64_MAX:
        return _filled_in_order(meter, added, before, burst)
    first = np.ones(meter.size, dtype=np.bool_)
    first[1:] = meter[1:] != meter[:-1]
    section = np.cumsum(first) - 1
    total = np.cumsum(added)
    total += (before[meter] + added - total)[first][section]
    # The lowest so far within each section: of ranks, each section's below those of the one before.
    order = np.argsort(total, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    shift = (section[-1] - section) * order.size
    lowest = total[order[np.minimum.accumulate(rank + shift) - shift]]
    return np.asarray(total - np.minimum(lowest, 0))


def _filled_in_order(meter: Index, added: Int64, before: Int64, burst: Int64) -> Int64:
    """The same where sums may not fit into 64 bits: registers of many megawatt-hours to a count."""
    filled, current, held = np.empty_like(added), -1, 0
    for row, (each, more) in enumerate(zip(meter.tolist(), added.tolist(), strict=True)):
        held = int(before[each]) if each != current else held
        current, held = each, min(max(0, held + more), int(burst[each]) + 1)
        filled[row] = held
    return filled


def _predecessors(batch: _Batch, rows: Int64) -> tuple[Int64, Int64]:
    """Instant and value from which each row counts: the row before of the same meter, or the
    watermark before the batch.
    """
    meter, at_us, value = batch.meter[rows], batch.at_us[rows], batch.value[rows]
    first = np.ones(rows.size, dtype=np.bool_)
    first[1:] = meter[1:] != meter[:-1]
    start_at_us, start_value = np.empty_like(at_us), np.empty_like(value)
    start_at_us[1:], start_value[1:] = at_us[:-1], value[:-1]
    start_at_us[first] = batch.marks.last_at_us[meter[first]]
    start_value[first] = batch.marks.last_value[meter[first]]
    return start_at_us, start_value


def _max_delta(marks: MeterWatermarks, meter: Index, time_us: Int64) -> Int64:
    """The most counts that a meter can have made: full power over the time, to the microsecond,
    and one count because both registers are cut off to whole ones.
    """
    power_w, wh_per_count = marks.max_power_w[meter], marks.wh_per_count[meter]
    if magnitude(power_w) * magnitude(time_us) <= INT64_MAX:
        return np.asarray(power_w * time_us // (wh_per_count * UJ_PER_WH) + 1, dtype=np.int64)
    time_s, rest_us = np.divmod(time_us, SECOND_US)
    most_wh = (power_w * time_s + power_w * rest_us // SECOND_US) // _SECONDS_PER_HOUR
    return np.asarray(most_wh // wh_per_count + 1, dtype=np.int64)


def _judge_in_order(batch: _Batch, rows: list[int], verdict: Int8) -> None:
    """Judge `rows` one after the other, each against the last accepted one of its meter.

    All rows of the meters concerned that are later than their watermark, without exact repeats.
    """
    marks, current = batch.marks, -1
    for row in rows:
        meter = int(batch.meter[row])
        if meter != current:
            current = meter
            last_at_us, last_value = int(marks.last_at_us[meter]), int(marks.last_value[meter])
            modulus = int(marks.register_modulus[meter])
            count_uj = int(marks.wh_per_count[meter]) * UJ_PER_WH
            power_w = int(marks.max_power_w[meter])
            burst_uj = power_w * batch.jitter_us + count_uj
            ahead_uj = min(int(marks.ahead_uj[meter]), burst_uj)
        at_us, value = int(batch.at_us[row]), int(batch.value[row])
        if at_us == last_at_us:
            repeat = value == last_value
            verdict[row] = Verdict.DUPLICATE if repeat else Verdict.CONFLICT
            continue
        elapsed_us = at_us - last_at_us
        if elapsed_us < batch.least_gap_us:
            verdict[row] = Verdict.TOO_CLOSE
            continue
        full_uj = power_w * min(elapsed_us, _MAX_SILENCE_US)
        most = (full_uj + burst_uj - ahead_uj) // count_uj
        counts = value - last_value
        rolls = counts < 0 and modulus > 0 and 0 <= counts + modulus <= most
        if counts < 0 and not rolls:
            verdict[row] = Verdict.BACKWARDS
        elif counts > most:
            verdict[row] = Verdict.IMPLAUSIBLE
        else:
            counts += modulus if rolls else 0
            ahead_uj = max(0, ahead_uj + counts * count_uj - full_uj)
            last_at_us, last_value = at_us, value


def _validated(batch: _Batch, verdict: Int8, limits: VeeLimits) -> Validated:
    """The intervals of the accepted rows, and the watermarks after them."""
    marks = batch.marks
    rows = np.flatnonzero(verdict == Verdict.ACCEPTED)
    meter = batch.meter[rows]
    counted = _counted(batch, rows)
    assert bool(counted.plausible.all()), "an accepted reading has a plausible difference"
    energy_wh = checked_multiply(counted.delta, marks.wh_per_count[meter], place="metered energy")
    period_us = marks.period_us[meter]
    last_at_us, last_value = marks.last_at_us.copy(), marks.last_value.copy()
    # Of several rows of a meter the last assignment stays, which is the latest reading.
    last_at_us[meter], last_value[meter] = batch.at_us[rows], batch.value[rows]
    ahead_uj = marks.ahead_uj.copy()
    ahead_uj[meter] = counted.ahead_uj
    size = verdict.size
    return Validated(
        verdict=verdict,
        start_at_us=_scatter(size, rows, counted.start_at_us),
        start_value=_scatter(size, rows, counted.start_value),
        energy_wh=_scatter(size, rows, energy_wh),
        rolled=_scatter(size, rows, counted.rolled),
        jumps_gap=_scatter(
            size, rows, (period_us > 0) & (counted.elapsed_us > limits.gap_periods * period_us)
        ),
        last_at_us=last_at_us,
        last_value=last_value,
        ahead_uj=ahead_uj,
    )


def _scatter(size: int, rows: Int64, values: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    column: npt.NDArray[Scalar] = np.zeros(size, dtype=values.dtype)
    column[rows] = values
    return column
